"""What the comparisons with PyTorch share: weights, directions, and a digest of arrays that is small enough to store.

NumPy only: a script asks PyTorch for its answers with these, a test asks the package.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["compare", "digest", "direction", "hexadecimal", "torch_answer", "weights"]

HEAD, PROJECTIONS = 3, 3


def _draw(name: str, shape: Sequence[int]) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(shape))


def weights(name: str, shape: Sequence[int]) -> np.ndarray:
    """The weights whose sum with a value is differentiated."""
    return _draw(f"{name}, weights", shape)


def direction(name: str, i: int, shape: Sequence[int]) -> np.ndarray:
    """The direction of the Hessian-vector product in argument i."""
    return _draw(f"{name}, direction {i}", shape)


def digest(x: np.ndarray) -> np.ndarray:
    """All entries of a small array; of others the first few and projections on fixed random vectors."""
    flat = np.asarray(x, np.float64).ravel()
    if flat.size <= HEAD + PROJECTIONS:
        return flat
    rows = _draw(f"projections {flat.size}", (PROJECTIONS, flat.size)) / np.sqrt(flat.size)
    return np.concatenate([flat[:HEAD], rows @ flat])


def hexadecimal(x: np.ndarray) -> list[str]:
    """A digest for a file."""
    return [v.hex() for v in digest(x).tolist()]


def torch_answer(name: str, f: Callable[..., Any], arrays: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return PyTorch's value, gradient and Hessian-vector product of ``sum(weights * f(*arrays))``."""
    import torch

    xs = [torch.tensor(x, requires_grad=True) for x in arrays]
    y = f(*xs)
    w = torch.tensor(weights(name, y.shape))
    gradients = torch.autograd.grad((w * y).sum(), xs, create_graph=True, allow_unused=True)
    gradients = [
        torch.zeros_like(x) if g is None else g for g, x in zip(gradients, xs, strict=True)
    ]
    along = sum(
        (g * torch.tensor(direction(name, i, g.shape))).sum() for i, g in enumerate(gradients)
    )
    products: Any = [None] * len(xs)
    if along.requires_grad:
        products = torch.autograd.grad(along, xs, allow_unused=True)
    products = [torch.zeros_like(x) if h is None else h for h, x in zip(products, xs, strict=True)]
    return {
        "value": hexadecimal(y.detach().numpy()),
        "gradient": [hexadecimal(g.numpy(force=True)) for g in gradients],
        "product": [hexadecimal(h.numpy(force=True)) for h in products],
    }


def compare(what: str, got: Any, stored: list[str], rtol: float) -> None:
    """Refuse an array whose digest is further from the stored one than ``rtol`` times its largest number."""
    want = np.array([float.fromhex(v) for v in stored])
    found = digest(got)
    assert found.shape == want.shape, what
    scale = np.max(np.abs(want), initial=0.0)
    error = np.max(np.abs(found - want), initial=0.0)
    assert error <= rtol * scale, f"{what}: off by {error / scale if scale else error:.1e}"
