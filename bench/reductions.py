"""Gradients of products, running products, extrema and bounds: NumPy by hand, ours, PyTorch.

By hand means as one writes it for this problem alone: a product without zeros is divided by its
entries, ties are left out of account. Ours is right there, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import OURS, Calls, Group, Variant, given

TITLE = "gradient of reductions and selections of a long vector"

EPS = np.finfo(np.float64).eps
Function = Callable[[Any], Any]


def groups(*, quick: bool) -> list[Group]:
    """Return one group a function and size: within a megabyte, and beyond the last cache."""
    sizes = (1000,) if quick else (100_000, 1_000_000)
    return [
        make(n) for n in sizes for make in (product, running_product, largest, clipped, bounded)
    ]


def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers around 0, and weights of the entries of a result."""
    z, w = np.random.default_rng(0).standard_normal((2, n))
    return z, w


def compared(
    name: str,
    x: np.ndarray,
    hand: Function,
    ours: Function,
    peer: Callable[[Any], Function],
    *,
    terms: int = 1,
) -> Group:
    """Compare gradients; ``terms`` rounding errors stand between two right answers."""

    def our_calls(nm: Any) -> Calls:
        gradient = nm.grad(ours)
        return [lambda: gradient(x)]

    def torch_calls(torch: Any) -> Calls:
        torch.set_num_threads(1)
        f, leaf = peer(torch), torch.from_numpy(x.copy()).requires_grad_()
        return [lambda: torch.autograd.grad(f(leaf), leaf)[0]]

    return Group(
        f"{name}, {len(x):,} numbers",
        [
            Variant("NumPy by hand", lambda: hand(x)),
            *given(OURS, ["nm.grad"], our_calls),
            *given("torch", ["torch eager"], torch_calls),
        ],
        tolerance=8 * EPS * terms,
    )


def product(n: int) -> Group:
    """Compare gradients of the product of numbers beside 1."""
    z, _ = draw(n)
    return compared(
        "product",
        1.0 + 1e-4 * z,
        lambda x: np.prod(x) / x,
        np.prod,
        lambda torch: torch.prod,
        terms=n,
    )


def running_product(n: int) -> Group:
    """Compare gradients of a weighted sum of the running product."""
    z, w = draw(n)

    def by_hand(x: np.ndarray) -> np.ndarray:
        return np.cumsum((w * np.cumprod(x))[::-1])[::-1] / x

    def peer(torch: Any) -> Function:
        weights = torch.from_numpy(w)
        return lambda x: (weights * torch.cumprod(x, 0)).sum()

    x = 1.0 + 1e-4 * z
    return compared(
        "running product", x, by_hand, lambda x: (w * np.cumprod(x)).sum(), peer, terms=n
    )


def largest(n: int) -> Group:
    """Compare gradients of the largest entry."""

    def by_hand(x: np.ndarray) -> np.ndarray:
        top = x == np.max(x)
        return top / np.count_nonzero(top)

    return compared("largest entry", draw(n)[0], by_hand, np.max, lambda torch: torch.amax)


def clipped(n: int) -> Group:
    """Compare gradients of a weighted sum of numbers between two bounds."""
    z, w = draw(n)

    def by_hand(x: np.ndarray) -> np.ndarray:
        np.sum(w * np.clip(x, -1.0, 1.0))
        return w * ((x > -1.0) & (x < 1.0))

    def peer(torch: Any) -> Function:
        weights = torch.from_numpy(w)
        return lambda x: (weights * torch.clamp(x, -1.0, 1.0)).sum()

    return compared("clip", z, by_hand, lambda x: (w * np.clip(x, -1.0, 1.0)).sum(), peer)


def bounded(n: int) -> Group:
    """Compare gradients of a weighted sum of numbers above a bound."""
    z, w = draw(n)

    def by_hand(x: np.ndarray) -> np.ndarray:
        np.sum(w * np.maximum(x, 0.0))
        return w * (x > 0.0)

    def peer(torch: Any) -> Function:
        weights, zero = torch.from_numpy(w), torch.zeros((), dtype=torch.float64)
        return lambda x: (weights * torch.maximum(x, zero)).sum()

    return compared("maximum", z, by_hand, lambda x: (w * np.maximum(x, 0.0)).sum(), peer)
