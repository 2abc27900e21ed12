"""Gradients of layer and batch normalisation: NumPy by hand, NumPy's functions traced, our primitive, PyTorch.

By hand means the closed form of the backward pass, with statistics in the dtype of the data: for
a large mean its variance is not as exact as that of the others, which sum in double precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import OURS, Calls, Group, Variant, given

TITLE = "gradient of normalisations in float32"

EPS = 1e-5


def groups(*, quick: bool) -> list[Group]:
    """Return rows of a transformer, and feature maps of a convolutional network."""
    if quick:
        return [compared("layer", (8, 16), (1,)), compared("batch", (2, 4, 4, 3), (0, 1, 2))]
    return [
        compared("layer", (4096, 256), (1,)),
        compared("layer", (256, 4096), (1,)),
        compared("batch", (64, 14, 14, 32), (0, 1, 2)),
        compared("batch", (512, 128), (0,)),
    ]


def compared(kind: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> Group:
    """Compare gradients of a weighted sum of the result, in the array and its scale."""
    rng = np.random.default_rng(0)
    x, c = rng.standard_normal((2, *shape)).astype(np.float32)
    scale = rng.standard_normal(shape[-1]).astype(np.float32)
    others = tuple(range(len(shape) - 1))

    def combined(dx: np.ndarray, dscale: np.ndarray) -> np.ndarray:
        return dx + dscale

    def by_hand() -> np.ndarray:
        rest = x - x.mean(axis=axes, keepdims=True)
        r = 1 / np.sqrt(np.square(rest).mean(axis=axes, keepdims=True) + np.float32(EPS))
        y = rest * r
        np.vdot(y * scale, c)
        g = c * scale
        inner = g - g.mean(axis=axes, keepdims=True) - y * (g * y).mean(axis=axes, keepdims=True)
        return combined(inner * r, (c * y).sum(axis=others))

    def composed(x: Any, scale: Any) -> Any:
        mean = np.mean(x, axis=axes, keepdims=True)
        var = np.mean((x - mean) ** 2, axis=axes, keepdims=True)
        return np.vdot((x - mean) / np.sqrt(var + EPS) * scale, c)

    def ours(nm: Any) -> Callable[[Any, Any], Any]:
        f = nm.nn.layer_norm if kind == "layer" else nm.nn.batch_norm
        return lambda x, scale: np.vdot(f(x, scale, eps=EPS), c)

    def our_calls(nm: Any) -> Calls:
        both = (nm.grad(f, argnums=(0, 1)) for f in (composed, ours(nm)))
        return [lambda gradient=gradient: combined(*gradient(x, scale)) for gradient in both]

    def torch_calls(torch: Any) -> Calls:
        torch.set_num_threads(1)
        f = torch.nn.functional
        leaves = [torch.from_numpy(a.copy()).requires_grad_() for a in (x, scale)]
        weights = torch.from_numpy(c)

        def call() -> np.ndarray:
            a, s = leaves
            if kind == "layer":
                y = f.layer_norm(a, shape[-1:], s, None, EPS)
            else:
                y = f.batch_norm(a.movedim(-1, 1), None, None, s, None, True, 0.1, EPS)
                y = y.movedim(1, -1)
            found = torch.autograd.grad((y * weights).sum(), leaves)
            return combined(*(g.numpy() for g in found))

        return [call]

    size = " x ".join(map(str, shape))
    return Group(
        f"{kind} normalisation, {size}",
        [
            Variant("NumPy by hand", by_hand),
            *given(OURS, ["nm.grad of the composition", "nm.grad"], our_calls),
            *given("torch", ["torch eager"], torch_calls),
        ],
        # sums of all entries of a channel in another order
        tolerance=64 * float(np.finfo(np.float32).eps) * x.size**0.5,
    )
