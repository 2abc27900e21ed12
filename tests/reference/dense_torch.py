"""Let PyTorch evaluate dense layers with gradients and Hessian-vector products.

::

    python tests/reference/dense_torch.py    # write dense_torch.json

Everything is in float64; `cases` gives the arguments without PyTorch, for the test.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from reference.parity import torch_answer

__all__ = ["STORED", "cases"]

STORED = Path(__file__).with_suffix(".json")

SHAPES = {
    "a batch": ((5, 3), 4, True),
    "one row": ((1, 3), 2, True),
    "a vector": ((6,), 3, True),
    "sequences": ((2, 3, 4), 5, True),
    "one to one": ((4, 1), 1, True),
    "no bias": ((5, 3), 4, False),
    "images": ((2, 3, 3, 2), 3, False),
}


def cases() -> dict[str, list[np.ndarray]]:
    """Case -> input, weight (in, out) and, where there is one, bias."""
    rng = np.random.default_rng(20261126)
    made = {}
    for name, (shape, out, bias) in SHAPES.items():
        shapes = [shape, (shape[-1], out), *([(out,)] if bias else [])]
        made[name] = [rng.standard_normal(s) for s in shapes]
    return made


def main() -> None:
    """Write the answers: the value is the hyperbolic tangent of the layer, so that second derivatives are not 0."""
    import torch

    def dense(x, weight, bias=None):
        return torch.tanh(torch.nn.functional.linear(x, weight.T, bias))

    found = {name: torch_answer(name, dense, arrays) for name, arrays in cases().items()}
    text = json.dumps({"torch": torch.__version__, "cases": found}, indent=0)
    STORED.write_text(text + "\n")


if __name__ == "__main__":
    main()
