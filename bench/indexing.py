"""Gradients of Python loops over rows and entries, of pieces and of repeated numbers.

A read of one row or one number may cost what it reads, not what it was read from: the gradient of
a loop is one array, into which each read adds its part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import OURS, Calls, Group, Variant, given

TITLE = "gradient of loops over rows and entries"

EPS = np.finfo(np.float64).eps
Function = Callable[[Any], Any]


def groups(*, quick: bool) -> list[Group]:
    """Return one group a kind of read; a quick run has smaller arrays."""
    rng = np.random.default_rng(0)
    small = 10 if quick else 1
    matrix = rng.standard_normal((300 // small, 1000 // small))
    vector = rng.standard_normal(100_000 // small)
    return [
        rows(matrix),
        entries(vector, 1000 // small),
        pieces(vector, 10),
        repeated(vector, 3),
    ]


def compared(name: str, x: np.ndarray, hand: Function, ways: dict[str, Function]) -> Group:
    """Compare the gradients of functions that are the same in value, ours and PyTorch's."""

    def ours(nm: Any) -> Calls:
        gradients = [nm.grad(f) for f in ways.values()]
        return [lambda g=g: g(x) for g in gradients]

    def torch_calls(torch: Any) -> Calls:
        torch.set_num_threads(1)
        leaf = torch.from_numpy(x.copy()).requires_grad_()
        return [lambda f=f: torch.autograd.grad(f(leaf), leaf)[0] for f in ways.values()]

    return Group(
        name,
        [
            Variant("NumPy by hand", lambda: hand(x)),
            *given(OURS, [f"nm.grad, {way}" for way in ways], ours),
            *given("torch", [f"torch eager, {way}" for way in ways], torch_calls),
        ],
        tolerance=8 * EPS,  # a product and a sum of two or three
    )


def rows(x: np.ndarray) -> Group:
    """Compare a loop over the rows of a matrix."""

    def by_hand(x: np.ndarray) -> np.ndarray:
        g, total = np.empty_like(x), 0.0
        for k in range(len(x)):
            row = x[k]
            total += np.sum(row * row)
            g[k] = 2.0 * row
        return g

    def by_number(x: Any) -> Any:
        total = 0.0
        for k in range(len(x)):
            row = x[k]
            total = total + (row * row).sum()
        return total

    def by_iteration(x: Any) -> Any:
        total = 0.0
        for row in x:
            total = total + (row * row).sum()
        return total

    ways = {"x[k]": by_number, "for row in x": by_iteration}
    return compared(f"{x.shape[0]} rows of {x.shape[1]} float64", x, by_hand, ways)


def entries(x: np.ndarray, count: int) -> Group:
    """Compare reads of single numbers from a long vector."""

    def by_hand(x: np.ndarray) -> np.ndarray:
        g, total = np.zeros_like(x), 0.0
        for k in range(count):
            entry = x[k]
            total += entry * entry
            g[k] += 2.0 * entry
        return g

    def by_number(x: Any) -> Any:
        total = 0.0
        for k in range(count):
            entry = x[k]
            total = total + entry * entry
        return total

    return compared(f"{count} entries of {x.size:,}", x, by_hand, {"x[k]": by_number})


def pieces(x: np.ndarray, count: int) -> Group:
    """Compare a vector that is split and used piece by piece."""

    def by_hand(x: np.ndarray) -> np.ndarray:
        parts = np.split(x, count)
        total = 0.0
        for part in parts:
            total += np.sum(part * part)
        return np.concatenate([2.0 * part for part in parts])

    def split(module: Any) -> Function:
        def function(x: Any) -> Any:
            total = 0.0
            for part in module(x):
                total = total + (part * part).sum()
            return total

        return function

    def halves(x: Any) -> Any:
        return np.split(x, count) if not hasattr(x, "chunk") else x.chunk(count)

    return compared(f"{x.size:,} float64 in {count} pieces", x, by_hand, {"split": split(halves)})


def repeated(x: np.ndarray, count: int) -> Group:
    """Compare numbers that are repeated."""
    weights = np.linspace(0.0, 1.0, x.size * count)

    def by_hand(x: np.ndarray) -> np.ndarray:
        np.sum(np.repeat(x, count) * weights)
        return weights.reshape(-1, count).sum(1)

    def repeat(x: Any) -> Any:
        if hasattr(x, "repeat_interleave"):
            return (x.repeat_interleave(count) * x.new_tensor(weights)).sum()
        return np.sum(np.repeat(x, count) * weights)

    return compared(f"{x.size:,} float64, {count} times each", x, by_hand, {"repeat": repeat})
