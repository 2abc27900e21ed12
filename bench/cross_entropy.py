"""Value and gradient of the mean cross entropy of class numbers: NumPy by hand, ours traced, ours closed, PyTorch.

By hand means softmax less one-hot, whose error is absolute; ours is relative, by a sum without the labelled class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import OURS, Calls, Group, Variant, given

TITLE = "softmax cross entropy and its gradient in float32"


def groups(*, quick: bool) -> list[Group]:
    """Return the rows of a small and of a large classifier."""
    if quick:
        return [compared(8, 5)]
    return [compared(32, 10), compared(256, 1000), compared(4096, 10)]


def compared(n: int, k: int) -> Group:
    """Compare the gradients of n rows of k logits, the value in front."""
    rng = np.random.default_rng(0)
    z = (2 * rng.standard_normal((n, k))).astype(np.float32)
    y = rng.integers(0, k, n)

    def combined(value: Any, gradient: np.ndarray) -> np.ndarray:
        return gradient + np.float32(value)

    def by_hand() -> np.ndarray:
        shifted = z - z.max(axis=1, keepdims=True)
        e = np.exp(shifted)
        total = e.sum(axis=1, keepdims=True)
        rows = np.arange(n)
        value = (np.log(total[:, 0]) - shifted[rows, y]).mean()
        gradient = e / total
        gradient[rows, y] -= 1
        gradient /= n
        return combined(value, gradient)

    def our_calls(nm: Any) -> Calls:
        loss = nm.nn.softmax_cross_entropy.replace(reduction="mean")
        by_trace = nm.value_and_grad(lambda z: loss(z, y))
        calls: list[Callable[[], np.ndarray]] = [
            lambda: combined(*by_trace(z)),
            lambda: combined(loss(z, y), loss.gradient(z, y)),
        ]
        return calls

    def torch_calls(torch: Any) -> Calls:
        torch.set_num_threads(1)
        leaf, labels = torch.from_numpy(z.copy()).requires_grad_(), torch.from_numpy(y)

        def call() -> np.ndarray:
            value = torch.nn.functional.cross_entropy(leaf, labels)
            (gradient,) = torch.autograd.grad(value, leaf)
            return combined(value.item(), gradient.numpy())

        return [call]

    return Group(
        f"{n} rows of {k} logits",
        [
            Variant("NumPy by hand", by_hand),
            *given(OURS, ["nm.value_and_grad", "value and loss.gradient"], our_calls),
            *given("torch", ["torch eager"], torch_calls),
        ],
        # a sum over all rows in another order
        tolerance=64 * float(np.finfo(np.float32).eps) * n**0.5,
    )
