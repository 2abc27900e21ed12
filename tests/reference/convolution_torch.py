"""Let PyTorch evaluate convolutions and pooling with gradients and Hessian-vector products.

::

    python tests/reference/convolution_torch.py           # write convolution_torch.npz
    python tests/reference/convolution_torch.py --check   # recompute and compare

Everything is in float64 and in the layout of nnmath_core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from convolution_cases import CASES, digest, inputs, weights
from torch.nn import functional

STORED = Path(__file__).with_suffix(".npz")
CHECK_TOLERANCE = 1e-13  # relative to the largest entry


def channels_first(x: torch.Tensor) -> torch.Tensor:
    return x.movedim(-1, 1)


def evaluate(function: str, options: dict, operands: list[torch.Tensor]) -> torch.Tensor:
    """A case in the layout of nnmath_core, by the function of PyTorch for that many axes."""
    x, *rest = operands
    axes = x.ndim - 2
    if function == "conv":
        w = rest[0].movedim((-1, -2), (0, 1))
        y = getattr(functional, f"conv{axes}d")(channels_first(x), w, *rest[1:], **options)
    elif function == "conv_transpose":
        groups = options["groups"]
        blocks = rest[0].chunk(groups, dim=-1)  # (*window, in / groups, out / groups) each
        w = torch.cat([b.movedim((-2, -1), (0, 1)) for b in blocks])
        call = getattr(functional, f"conv_transpose{axes}d")
        y = call(channels_first(x), w, *rest[1:], **options)
    else:
        y = getattr(functional, f"{function}{axes}d")(channels_first(x), **options)
    return y.movedim(1, -1)


def answers(name: str) -> np.ndarray:
    """The shape, and digests of the value, of each gradient and of each Hessian-vector product."""
    function, _, _, options = CASES[name]
    operands, direction = inputs(name)
    xs = [torch.tensor(x, requires_grad=True) for x in operands]
    vs = [torch.tensor(v) for v in direction]
    y = evaluate(function, options, xs)
    number = (torch.tensor(weights(tuple(y.shape))) * torch.tanh(y)).sum()
    gradient = torch.autograd.grad(number, xs, create_graph=True)
    along = sum((g * v).sum() for g, v in zip(gradient, vs, strict=True))
    product = torch.autograd.grad(along, xs)
    return np.concatenate(
        [np.array(y.shape, float), *(digest(v.detach().numpy()) for v in (y, *gradient, *product))]
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    torch.set_num_threads(1)
    found = [answers(name) for name in CASES]
    if not check:
        np.savez_compressed(
            STORED,
            torch=torch.__version__,
            names=list(CASES),
            lengths=[len(a) for a in found],
            answers=np.concatenate(found),
        )
        return
    stored = np.load(STORED)
    assert list(stored["names"]) == list(CASES)
    for name, a, b in zip(
        CASES, found, np.split(stored["answers"], np.cumsum(stored["lengths"])[:-1]), strict=True
    ):
        assert np.abs(a - b).max() <= CHECK_TOLERANCE * max(1, np.abs(b).max()), name


if __name__ == "__main__":
    main()
