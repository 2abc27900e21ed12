"""Let PyTorch evaluate the activations with gradients and Hessian-vector products.

::

    python tests/reference/activations_torch.py    # write activations_torch.json

Everything is in float64; `cases` gives the arguments without PyTorch, for the test.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from reference.parity import torch_answer

__all__ = ["STORED", "cases"]

STORED = Path(__file__).with_suffix(".json")

POINTS = np.array([-6.0, -3.0, -1.0, -0.25, -0.0, 0.0, 0.125, 1.0, 2.5, 3.0, 6.0, 7.5])
"""With the kinks of all of them."""

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "leaky_relu": [{"negative_slope": a} for a in (0.01, 0.3, 0.0, -0.5, 1.5)],
    "elu": [{"alpha": a} for a in (1.0, 0.5, 2.0, 1.3, 0.1)],
    "softplus": [{"beta": b} for b in (1.0, 2.0, 0.5, 10.0, 1.0)],
    "hard_tanh": [
        {},
        *({"min_val": a, "max_val": b} for a, b in [(-2, 0.5), (0, 6), (-3, 3), (-0.1, 9)]),
    ],
    "gelu": [{"approximate": a} for a in (False, True, False, True, False)],
    "softmax": [
        {"axis": a, "temperature": t}
        for a, t in [(0, 1.0), (0, 2.0), (-1, 0.5), (1, 1.0), (2, 4.0)]
    ],
    "log_softmax": [
        {"axis": a, "temperature": t}
        for a, t in [(0, 1.0), (0, 2.0), (-1, 0.5), (1, 1.0), (2, 4.0)]
    ],
    "glu": [{"axis": a} for a in (0, -1, 1, 0, 2)],
}
NAMES = [
    *("relu", "leaky_relu", "elu", "selu", "relu6", "hard_tanh", "hard_sigmoid", "hard_swish"),
    *("gelu", "sigmoid", "log_sigmoid", "tanh", "silu", "softplus", "mish"),
    *("softmax", "log_softmax", "glu"),
]


def arguments() -> list[np.ndarray]:
    rng = np.random.default_rng(20261126)
    return [
        POINTS,
        rng.uniform(-30, 30, 24),
        1e-3 * rng.standard_normal((3, 4)),
        4 * rng.standard_normal((2, 4, 1)),
        rng.standard_normal((2, 3, 4)),
    ]


def cases() -> dict[str, tuple[str, np.ndarray, dict[str, Any]]]:
    """Case -> function of `nnmath_core.nn`, its argument, its options."""
    made = {}
    for name in NAMES:
        for i, (x, options) in enumerate(
            zip(arguments(), OPTIONS.get(name, [{}] * 5), strict=True)
        ):
            if name in ("elu", "selu") and x is POINTS:
                x = x[
                    x != 0.0
                ]  # there PyTorch's second derivative is 0 and ours is that of the left
            made[f"{name}, {i}"] = (name, x, options)
    # more configurations of those of which the options take turns
    for i, x in enumerate(arguments()):
        made[f"gelu exact, {i}"] = ("gelu", x, {})
        made[f"gelu tanh, {i}"] = ("gelu", x, {"approximate": True})
    return made


def theirs(name: str, options: dict[str, Any]) -> Any:
    import torch
    from torch.nn import functional

    if name in ("softmax", "log_softmax"):
        t = options["temperature"]
        return lambda x: getattr(torch, name)(x / t, dim=options["axis"])
    if name == "softplus":  # without its threshold, above which it is the identity
        return lambda x: functional.softplus(x, **options, threshold=1e6)
    if name == "gelu":
        approximate = "tanh" if options.get("approximate") else "none"
        return lambda x: functional.gelu(x, approximate=approximate)
    if name == "hard_sigmoid":  # whose gradient PyTorch cannot differentiate
        return lambda x: functional.relu6(x + 3.0) / 6.0
    if name == "glu":
        return lambda x: functional.glu(x, dim=options["axis"])
    spelled = {"hard_tanh": "hardtanh", "hard_swish": "hardswish", "log_sigmoid": "logsigmoid"}
    f = getattr(functional, spelled.get(name, name))
    return lambda x: f(x, **options)


def main() -> None:
    import torch

    answers = {
        case: torch_answer(case, theirs(name, options), [x])
        for case, (name, x, options) in cases().items()
    }
    STORED.write_text(
        json.dumps({"torch": torch.__version__, "cases": answers}, indent=None) + "\n"
    )


if __name__ == "__main__":
    main()
