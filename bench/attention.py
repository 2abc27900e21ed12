"""Attention, and the gradient of queries, keys and values: in blocks, all weights at once, and PyTorch's kernels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from harness import OURS, Calls, Group, Variant, given

TITLE = "attention of 8 heads of 32 in float32, and its gradient"

EPS = float(np.finfo(np.float32).eps)
HEADS, SIZE = 8, 32


def groups(*, quick: bool) -> list[Group]:
    """Return short and long sequences, value and gradient; a quick run takes shorter ones."""
    lengths = (16, 64) if quick else (128, 1024, 4096)
    return [value(t, causal=False) for t in lengths] + [
        gradient(t, causal=causal) for t in lengths for causal in (False, True)
    ]


def sequences(t: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((1, HEADS, t, SIZE)).astype(np.float32) for _ in range(4)]


def whole(q: Any, k: Any, v: Any) -> Any:
    """All weights at once, by hand."""
    s = np.matmul(q / math.sqrt(SIZE), k.swapaxes(-1, -2))
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return np.matmul(e / e.sum(axis=-1, keepdims=True), v)


def value(t: int, *, causal: bool) -> Group:
    """Compare the forward pass."""
    q, k, v, _ = sequences(t)

    def torch_calls(torch: Any) -> Calls:
        torch.set_num_threads(1)
        xs = [torch.from_numpy(x) for x in (q, k, v)]
        sdpa = torch.nn.functional.scaled_dot_product_attention
        return [lambda: sdpa(*xs, is_causal=causal).numpy()]

    variants: list[Variant] = [
        *given(
            OURS, ["nm.nn.attention"], lambda nm: [lambda: nm.nn.attention(q, k, v, causal=causal)]
        ),
        Variant("NumPy by hand, all weights at once", lambda: whole(q, k, v)),
        *given("torch", ["torch eager"], torch_calls),
    ]
    return Group(f"{t} positions", variants, tolerance=64 * EPS)


def gradient(t: int, *, causal: bool) -> Group:
    """Compare the gradient in queries, keys and values of a weighted sum."""
    q, k, v, w = sequences(t)

    def our_calls(nm: Any) -> Calls:
        def loss(q: Any, k: Any, v: Any) -> Any:
            return np.sum(w * nm.nn.attention(q, k, v, causal=causal))

        every = nm.grad(loss, argnums=(0, 1, 2))
        return [lambda: np.stack(every(q, k, v))]

    def torch_calls(torch: Any) -> Calls:
        torch.set_num_threads(1)
        leaves = [torch.from_numpy(x.copy()).requires_grad_() for x in (q, k, v)]
        weight = torch.from_numpy(w)
        sdpa = torch.nn.functional.scaled_dot_product_attention

        def call() -> np.ndarray:
            total = (weight * sdpa(*leaves, is_causal=causal)).sum()
            return torch.stack(torch.autograd.grad(total, leaves)).numpy()

        return [call]

    variants: list[Variant] = [
        *given(OURS, ["nm.grad"], our_calls),
        *given("torch", ["torch eager"], torch_calls),
    ]
    # a weight is off by some roundings, a sum by those of its t terms
    name = f"gradient, {t} positions{', causal' if causal else ''}"
    return Group(name, variants, tolerance=64 * EPS * math.sqrt(t))
