"""Let PyTorch evaluate ctc, distillation and InfoNCE with gradients and Hessian-vector products.

::

    python tests/reference/sequence_losses_torch.py    # write sequence_losses_torch.json

Everything is in float64; `cases` gives the arguments without PyTorch, for the test. PyTorch cannot differentiate the
gradient of its ctc: there are no products of it.
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from reference.parity import hexadecimal, torch_answer, weights

__all__ = ["STORED", "arguments", "cases", "labels"]

STORED = Path(__file__).with_suffix(".json")

CTC: dict[str, dict[str, Any]] = {
    "plain": {"sizes": (3, 6, 5, 2)},
    "padded": {"sizes": (4, 7, 4, 3), "steps": [7, 5, 6, 3], "lengths": [3, 1, 2, 1]},
    "repetitions": {"sizes": (2, 9, 3, 4), "labels": [[1, 1, 2, 2], [2, 2, 2, 1]]},
    "last class blank": {"sizes": (3, 5, 4, 2), "blank": 3},
    "empty labels": {"sizes": (2, 4, 3, 2), "lengths": [0, 2], "steps": [4, 3]},
    "sum": {"sizes": (3, 6, 4, 2), "lengths": [2, 1, 2], "reduction": "sum"},
    "mean": {"sizes": (3, 6, 4, 2), "lengths": [2, 1, 0], "reduction": "mean"},
    "impossible": {"sizes": (2, 3, 4, 3), "labels": [[1, 1, 2], [1, 2, 3]], "zero_infinity": True},
    "large logits": {"sizes": (2, 8, 5, 3), "scale": 30.0},
    "long": {"sizes": (2, 60, 6, 10)},
}
PAIRS: dict[str, dict[str, Any]] = {
    "plain": {"sizes": (5, 3), "temperature": 0.1},
    "warm": {"sizes": (4, 6), "temperature": 1.0},
    "symmetric": {"sizes": (6, 2), "temperature": 0.5, "symmetric": True},
    "products": {"sizes": (3, 4), "temperature": 2.0, "normalize": False},
    "one pair": {"sizes": (1, 3), "temperature": 0.2},
    "mean": {"sizes": (5, 3), "temperature": 0.07, "reduction": "mean"},
}
CLASSES: dict[str, dict[str, Any]] = {
    "plain": {"sizes": (4, 5)},
    "warm": {"sizes": (3, 6), "temperature": 4.0},
    "cold": {"sizes": (3, 2), "temperature": 0.3},
    "unscaled": {"sizes": (2, 2, 4), "temperature": 2.0, "scaled": False},
    "one row": {"sizes": (7,), "temperature": 3.0},
    "mean": {"sizes": (4, 5), "temperature": 2.0, "reduction": "mean"},
}


def cases() -> dict[str, tuple[str, dict[str, Any]]]:
    """Case -> loss and its options."""
    tables = {"ctc": CTC, "info_nce": PAIRS, "distillation": CLASSES}
    return {
        f"{loss}, {name}": (loss, o) for loss, table in tables.items() for name, o in table.items()
    }


def arguments(name: str, loss: str, o: dict[str, Any]) -> list[np.ndarray]:
    """The floating arguments."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if loss == "ctc":
        return [o.get("scale", 1.0) * rng.standard_normal(o["sizes"][:3])]
    return [rng.standard_normal(o["sizes"]) for _ in range(2)]


def labels(name: str, o: dict[str, Any]) -> np.ndarray:
    """Labels of ctc without its blank."""
    if "labels" in o:
        return np.array(o["labels"])
    n, _, k, most = o["sizes"]
    drawn = np.random.default_rng(zlib.crc32(f"{name}, labels".encode())).integers(1, k, (n, most))
    return (drawn + o.get("blank", 0)) % k


def theirs(name: str, loss: str, o: dict[str, Any]) -> Any:
    import torch
    from torch.nn import functional

    def reduced(x: Any) -> Any:
        return x.mean() if o.get("reduction") == "mean" else x

    if loss == "ctc":
        n, t, _, most = o["sizes"]
        rows = torch.tensor(labels(name, o))
        steps = torch.tensor(o.get("steps", [t] * n))
        lengths = torch.tensor(o.get("lengths", [most] * n))
        return lambda z: functional.ctc_loss(
            torch.log_softmax(z, -1).transpose(0, 1), rows, steps, lengths, blank=o.get("blank", 0),
            reduction=o.get("reduction", "none"), zero_infinity=o.get("zero_infinity", False),
        )  # fmt: skip
    if loss == "info_nce":

        def pairs(q: Any, k: Any) -> Any:
            if o.get("normalize", True):
                q, k = functional.normalize(q), functional.normalize(k)
            scores = q @ k.T / o["temperature"]
            places = torch.arange(len(q))
            losses = functional.cross_entropy(scores, places, reduction="none")
            if o.get("symmetric"):
                losses = (losses + functional.cross_entropy(scores.T, places, reduction="none")) / 2
            return reduced(losses)

        return pairs

    def distilled(student: Any, teacher: Any) -> Any:
        t = o.get("temperature", 1.0)
        p, q = torch.log_softmax(teacher / t, -1), torch.log_softmax(student / t, -1)
        losses = functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)
        return reduced(losses * (t**2 if o.get("scaled", True) else 1.0))

    return distilled


def without_product(name: str, f: Any, arrays: list[np.ndarray]) -> dict[str, Any]:
    import torch

    x = torch.tensor(arrays[0], requires_grad=True)
    y = f(x)
    (torch.tensor(weights(name, y.shape)) * y).sum().backward()
    assert x.grad is not None
    return {"value": hexadecimal(y.detach().numpy()), "gradient": [hexadecimal(x.grad.numpy())]}


def main() -> None:
    import torch

    answers = {}
    for name, (loss, o) in cases().items():
        answer = without_product if loss == "ctc" else torch_answer
        answers[name] = answer(name, theirs(name, loss, o), arguments(name, loss, o))
    STORED.write_text(json.dumps({"torch": torch.__version__, "cases": answers}) + "\n")


if __name__ == "__main__":
    main()
