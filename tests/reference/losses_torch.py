"""Let PyTorch evaluate the losses with gradients and Hessian-vector products.

::

    python tests/reference/losses_torch.py    # write losses_torch.json

Everything is in float64; `cases` gives losses, options and arguments without PyTorch, for the test.
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
REDUCTIONS = ("none", "sum", "mean", "mean", "none", "mean")


def _rows(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    e = np.exp(rng.standard_normal(shape))
    return e / e.sum(axis=-1, keepdims=True)


def cases() -> dict[str, tuple[str, dict[str, Any], list[np.ndarray], list[np.ndarray]]]:
    """Case -> loss, options of ours, arrays that are differentiated, arrays that are not (labels)."""
    rng = np.random.default_rng(20261126)
    normal, uniform = rng.standard_normal, rng.uniform
    made: dict[str, tuple[str, dict[str, Any], list[np.ndarray], list[np.ndarray]]] = {}

    def add(loss: str, options: dict[str, Any], arrays: list[Any], fixed: list[Any]) -> None:
        i = sum(case[0] == loss for case in made.values())
        reduction = REDUCTIONS[i % len(REDUCTIONS)]
        made[f"{loss} {i}"] = (loss, {"reduction": reduction, **options}, arrays, fixed)

    shapes = [(6,), (5, 3), (1, 4), (2, 3, 4), (1,), (7, 2)]
    for shape in shapes:
        add("mean_squared_error", {}, [normal(shape), normal(shape)], [])
        add("laplace_nll", {}, [3 * normal(shape), normal(shape)], [])
        add("gaussian_nll", {}, [normal(shape), uniform(0.01, 3, shape)], [normal(shape)])
        add("binary_cross_entropy", {}, [3 * normal(shape), uniform(0, 1, shape)], [])
        add("poisson_nll", {}, [2 * normal(shape)], [rng.poisson(3.0, shape)])
    for i, shape in enumerate(shapes):
        options = {"full": True} if i % 2 else {}
        add("gaussian_nll", options, [normal(shape), uniform(0.01, 3, shape)], [normal(shape)])
        pos = uniform(0.2, 4, shape[-1:])
        add(
            "binary_cross_entropy",
            {"pos_weight": pos},
            [3 * normal(shape)],
            [rng.integers(0, 2, shape)],
        )
        delta = (1.0, 0.3, 2.5, 10.0, 1e-3, 1.0)[i]
        add("huber", {"delta": delta}, [3 * normal(shape), normal(shape)], [])
        full = {"full": True}
        add("laplace_nll", {**full, "scale": 0.3 + i}, [3 * normal(shape), normal(shape)], [])
        add(
            "student_t_nll",
            {**full, "df": 0.7 + i, "scale": 0.5 + i / 3},
            [5 * normal(shape), normal(shape)],
            [],
        )
        add("poisson_nll", full, [2 * normal(shape)], [rng.poisson(3.0, shape)])
    for i, (n, k) in enumerate([(6, 4), (1, 3), (5, 1), (7, 10), (4, 2), (3, 5)]):
        labels = rng.integers(0, k, n)
        add("softmax_cross_entropy", {}, [2 * normal((n, k))], [labels])
        add(
            "softmax_cross_entropy",
            {"label_smoothing": 0.1 + i / 8},
            [2 * normal((n, k))],
            [labels],
        )
        add(
            "softmax_cross_entropy",
            {"class_weights": uniform(0, 3, k)},
            [2 * normal((n, k))],
            [labels],
        )
        ignored = labels.copy()
        ignored[1::2] = -100
        both = {"class_weights": uniform(0.1, 3, k), "label_smoothing": 0.2, "ignore_label": -100}
        add("softmax_cross_entropy", {"ignore_label": -100}, [2 * normal((n, k))], [ignored])
        add("softmax_cross_entropy", both, [2 * normal((n, k))], [ignored])
        add("softmax_cross_entropy", {}, [2 * normal((n, k)), _rows(rng, (n, k))], [])
        both = {"class_weights": uniform(0.1, 3, k), "label_smoothing": 0.3}
        add("softmax_cross_entropy", both, [2 * normal((n, k))], [_rows(rng, (n, k))])
        add("softmax_cross_entropy", {}, [3 * normal((n, k))], [labels])
        options = {"power": 1 + i % 2, "margin": (1.0, 1.0, 0.5, 2.0, 0.1, 3.0)[i]}
        add("hinge", options, [normal((n, k))], [labels])
    return made


def torch_function(loss: str, options: dict[str, Any], fixed: list[np.ndarray]) -> Any:
    """The loss of PyTorch, of the arrays that are differentiated."""
    import torch
    from torch.nn import functional as F

    r = options["reduction"]
    rest = [torch.tensor(x) for x in fixed]
    full = options.get("full", False)

    def reduced(x: Any) -> Any:
        return x if r == "none" else x.sum() if r == "sum" else x.mean()

    def by_examples(a: Any, b: Any) -> Any:
        each = F.mse_loss(a, b, reduction="none")
        return reduced(each.mean(dim=tuple(range(1, each.ndim))) if each.ndim > 1 else each)

    def poisson(z: Any) -> Any:
        if full:  # the distribution has the exact constant, the loss Stirling's
            return reduced(-torch.distributions.Poisson(z.exp()).log_prob(rest[0].double()))
        return F.poisson_nll_loss(z, rest[0], reduction=r)

    def laplace(a: Any, b: Any) -> Any:
        if full:
            return reduced(-torch.distributions.Laplace(a, options["scale"]).log_prob(b))
        return F.l1_loss(a, b, reduction=r)

    def student(a: Any, b: Any) -> Any:
        return reduced(
            -torch.distributions.StudentT(options["df"], a, options["scale"]).log_prob(b)
        )

    def binary(z: Any, *t: Any) -> Any:
        pos = torch.tensor(options["pos_weight"]) if "pos_weight" in options else None
        target = t[0] if t else rest[0].double()
        return F.binary_cross_entropy_with_logits(z, target, reduction=r, pos_weight=pos)

    def classes(z: Any, *p: Any) -> Any:
        weight = torch.tensor(options["class_weights"]) if "class_weights" in options else None
        smoothing = options.get("label_smoothing", 0.0)
        target = p[0] if p else rest[0]
        return F.cross_entropy(z, target, weight, reduction=r, label_smoothing=smoothing)

    def margins(s: Any) -> Any:
        """In operations that have second derivatives; PyTorch's loss has none."""
        k = s.shape[1]
        mine = s.gather(1, rest[0][:, None])
        rivals = 1.0 - F.one_hot(rest[0], k).double()
        each = ((options["margin"] - mine + s).relu() ** options["power"] * rivals).sum(dim=1) / k
        loss = F.multi_margin_loss(
            s, rest[0], p=options["power"], margin=options["margin"], reduction=r
        )
        assert torch.allclose(loss, reduced(each), rtol=1e-14, atol=0)
        return reduced(each)

    functions = {
        "mean_squared_error": by_examples,
        "laplace_nll": laplace,
        "student_t_nll": student,
        "poisson_nll": poisson,
        "binary_cross_entropy": binary,
        "softmax_cross_entropy": classes,
        "gaussian_nll": lambda m, v: F.gaussian_nll_loss(m, rest[0], v, full=full, reduction=r),
        "huber": lambda a, b: F.huber_loss(a, b, reduction=r, delta=options["delta"]),
        "hinge": margins,
    }
    return functions[loss]


def main() -> None:
    import torch

    answers = {
        name: torch_answer(name, torch_function(loss, options, fixed), arrays)
        for name, (loss, options, arrays, fixed) in cases().items()
    }
    stored = {"torch": torch.__version__, "cases": answers}
    STORED.write_text(json.dumps(stored) + "\n")


if __name__ == "__main__":
    main()
