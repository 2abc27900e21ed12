"""Let PyTorch evaluate activations and losses with their gradients; or check the stored answers.

::

    python tests/reference/nn_torch.py           # write nn_torch.json
    python tests/reference/nn_torch.py --check   # recompute and compare

Everything is in float64. Arguments are multiples of 1/1024, results hexadecimal floats.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

STORED = Path(__file__).with_suffix(".json")
CHECK_TOLERANCE = 1e-14  # relative to the largest entry

POINTS = [-8.0, -3.0, -1.0, -0.25, 0.0, 0.125, 0.5, 1.0, 2.5, 6.0]
LOGITS = [0.0, 1.5, -1.5, 12.0, -12.0, 0.25]
TARGETS = [1.0, 0.0, 0.25, 0.75, 1.0, 0.0]
CLASSES = [0, 3, 1, 2, 3]


def coarse(x: np.ndarray) -> np.ndarray:
    return np.round(x * 1024) / 1024


def cases() -> dict[str, tuple[Callable[..., Any], list[np.ndarray]]]:
    """Name -> function of tensors with one number per example, and its floating arguments."""
    rng = np.random.default_rng(20261122)
    logits = coarse(4 * rng.standard_normal((5, 4)))
    rows = rng.integers(1, 9, (5, 4)).astype(float)
    rows[:, 0] = 16 - rows[:, 1:].sum(axis=1)
    rows = np.maximum(rows, 0)
    rows[rows.sum(axis=1) != 16] = [16, 0, 0, 0]
    prediction, target = coarse(rng.standard_normal((2, 3, 2, 2)))
    classes = torch.tensor(CLASSES)
    points = np.array(POINTS)
    return {
        "gelu": (functional.gelu, [points]),
        "gelu, approximate": (lambda x: functional.gelu(x, approximate="tanh"), [points]),
        "tanh": (torch.tanh, [points]),
        "relu": (torch.relu, [points]),
        "softmax_cross_entropy, classes": (
            lambda z: functional.cross_entropy(z, classes, reduction="none"),
            [logits],
        ),
        "softmax_cross_entropy, rows": (
            lambda z, p: functional.cross_entropy(z, p, reduction="none"),
            [logits, rows / 16],
        ),
        "binary_cross_entropy": (
            lambda z, t: functional.binary_cross_entropy_with_logits(z, t, reduction="none"),
            [np.array(LOGITS), np.array(TARGETS)],
        ),
        "mean_squared_error": (
            lambda a, b: functional.mse_loss(a, b, reduction="none").mean(dim=(1, 2)),
            [prediction, target],
        ),
    }


def answer(f: Callable[..., Any], arguments: list[np.ndarray]) -> dict[str, Any]:
    """Return value, and the gradient of sum(weights * value) in the first argument."""
    first, *others = (torch.tensor(x) for x in arguments)
    first.requires_grad_()
    value = f(first, *others)
    weights = torch.arange(1, value.numel() + 1, dtype=torch.float64).reshape(value.shape)
    (weights * value).sum().backward()
    return {"value": value.detach().numpy(), "gradient": first.grad.numpy()}


def as_hex(x: np.ndarray) -> list[str]:
    return [v.hex() for v in x.ravel().tolist()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    answers = {name: answer(f, arguments) for name, (f, arguments) in cases().items()}
    if check:
        stored = json.loads(STORED.read_text())["cases"]
        for name, found in answers.items():
            for what, x in found.items():
                want = np.array([float.fromhex(v) for v in stored[name][what]])
                error = np.max(np.abs(x.ravel() - want)) / np.max(np.abs(want))
                print(f"{name}, {what}: {error:.1e}")
                if error > CHECK_TOLERANCE:
                    raise SystemExit(f"{name}, {what} differs from {STORED.name}")
        return
    record = {
        name: {
            "arguments": [x.tolist() for x in arguments],
            "value": as_hex(answers[name]["value"]),
            "gradient": as_hex(answers[name]["gradient"]),
        }
        for name, (_, arguments) in cases().items()
    }
    stored = {"torch": torch.__version__, "classes": CLASSES, "cases": record}
    STORED.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
