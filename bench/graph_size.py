"""What a node of a long graph costs: forward, backward and release, in nanoseconds.

A chain of multiplications by a constant on ten numbers, up to a million of them. The cost of a node
may not grow with the length of the graph, and nothing in it may recurse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import OURS, Calls, Group, Variant, given

TITLE = "gradient of a long chain, per node"

FACTOR = 1.000001  # its millionth power is e
EPS = np.finfo(np.float64).eps

# The longest chains on which peers are measured: longer ones take many seconds a call.
LONGEST_TORCH = 100_000
LONGEST_AUTOGRAD = 10_000


def groups(*, quick: bool) -> list[Group]:
    """Return one group a length."""
    lengths = (100, 1000) if quick else (10_000, 100_000, 1_000_000)
    return [one_length(n) for n in lengths]


def chain(length: int, total: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the chain as a function of ten numbers."""

    def function(x: Any) -> Any:
        for _ in range(length):
            x = x * FACTOR
        return total(x)

    return function


def by_hand(x: np.ndarray, length: int) -> np.ndarray:
    """Return the gradient of the chain: the forward multiplications and as many backward."""
    for _ in range(length):
        x = x * FACTOR
    g = np.ones_like(x)
    for _ in range(length):
        g = g * FACTOR
    return g


def one_length(length: int) -> Group:
    """Compare the gradients of one chain."""
    x = np.linspace(-1.0, 1.2, 10)

    def plain(nm: Any) -> Calls:
        g = nm.grad(chain(length, np.sum))
        return [lambda: g(x)]

    def torch_calls(torch: Any) -> Calls:
        torch.set_num_threads(1)
        f, leaf = chain(length, torch.sum), torch.from_numpy(x.copy()).requires_grad_()
        return [lambda: torch.autograd.grad(f(leaf), leaf)[0]]

    def autograd_calls(autograd: Any) -> Calls:
        g = autograd.grad(chain(length, autograd.numpy.sum))
        return [lambda: g(x)]

    variants = [
        Variant("NumPy by hand", lambda: by_hand(x, length)),
        *given(OURS, ["nm.grad, NumPy's arithmetic"], plain, kernels=False),
        *given(OURS, ["nm.grad, kernels"], plain, kernels=True),
    ]
    if length <= LONGEST_TORCH:
        variants += given("torch", ["torch eager"], torch_calls)
    if length <= LONGEST_AUTOGRAD:
        variants += given("autograd", ["autograd"], autograd_calls)
    return Group(
        f"{length:,} multiplications of 10 float64",
        variants,
        per=length,
        unit="ns",
        tolerance=length * EPS,  # each multiplication rounds once
    )
