"""Norms of convolutions on tori by Fourier analysis, and upper bounds of norms that are proofs in floating point.

A convolution on a torus is a matrix for each frequency. On a *twisted* torus, whose functions change their sign, or
not, when they go around an axis, the frequencies lie half way between. A convolution with zeros around the image is a
part of any of them that is large enough, so that the norm of each is an upper bound, and the smallest is taken.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from nnmath_core.typing import Array

__all__ = ["TorusNorm", "certified_root", "torus_norm"]

UNIT = 2.0**-53
"""Half an ulp of 1 in float64."""

_NUMBERS = 1 << 20
"""Entries of symbols that are held at a time."""


@dataclass(frozen=True)
class TorusNorm:
    """The norm on a torus: an estimate, bounds, and the residual of the singular vector at the largest frequency."""

    value: float
    lower: float
    upper: float
    residual: float


def certified_root(gram: Array, gram_error: float, top: float) -> float:
    """Return t with A^H A <= t^2 for all matrices A whose computed Gram matrices are given, as a proof.

    The Cholesky factorisation of (t^2 - c) I - G runs to completion in floating point only where G <= t^2, with c
    from Rump, "Verification of positive definiteness", BIT 46, 2006, theorem 2.3 (twice his constant for real
    matrices, eight times for complex ones, whose products are sums of two). ``gram_error`` bounds the norm of the
    error of G.
    """
    n = gram.shape[-1]
    constant = (8 if gram.dtype.kind == "c" else 2) * (n + 2) * n * UNIT + 4 * UNIT
    slack = 4 * constant
    eye = np.eye(n)
    while True:
        t = max(top, 1e-280) * (1 + slack)
        try:
            np.linalg.cholesky(t * (1 - constant) * eye - gram)
        except np.linalg.LinAlgError:
            slack *= 4
            continue
        return math.sqrt((t + gram_error) * (1 + 8 * UNIT)) * (1 + 4 * UNIT)


def torus_norm(
    kernel: Array,
    sizes: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    twist: tuple[int, ...],
) -> TorusNorm:
    """Return the norm on a torus of these sizes, multiples of the stride; ``twist`` has 1 where signs change.

    With a stride, s frequencies of the input are one of the output, so that their matrices stand side by side, divided
    by the root of s. The kernel is real, so that half of the frequencies are the conjugates of the others.
    """
    *lengths, ins, outs = kernel.shape
    d, taps, aliases = len(lengths), math.prod(lengths), math.prod(stride)
    flat = kernel.reshape(taps, ins * outs).astype(complex)
    size = float(np.linalg.norm(np.abs(kernel).sum(axis=tuple(range(d)))))
    error = (2 * taps + 24 * d + 8) * UNIT * size  # of a symbol, in the Frobenius norm
    best, best_symbol, upper = -1.0, np.zeros((1, 1)), 0.0
    for chosen in _frequencies(sizes, stride, twist, max(1, _NUMBERS // (aliases * ins * outs))):
        symbol = _symbol(flat, chosen, lengths, sizes, stride, dilation, twist)
        symbol = symbol.reshape(len(chosen), aliases * ins, outs) / math.sqrt(aliases)
        adjoint = np.conj(np.swapaxes(symbol, -1, -2))
        wide = symbol.shape[-2] <= outs
        gram = symbol @ adjoint if wide else adjoint @ symbol
        values = np.linalg.eigvalsh(gram)[:, -1]
        at = int(np.argmax(values))
        top = max(float(values[at]), 0.0)
        inner = max(symbol.shape[-2:])
        weight = float(np.square(np.abs(symbol)).sum(axis=(-2, -1)).max())
        gram_error = (2 * inner + 8) * UNIT * weight
        upper = max(upper, certified_root(gram, gram_error, top) + error)
        if top > best:
            best, best_symbol = top, symbol[at]
    value, residual = _gain(best_symbol)
    terms = sum(best_symbol.shape) + 8
    rounding = terms * 2 * UNIT * float(np.linalg.norm(best_symbol))
    lower = max(0.0, value * (1 - terms * 2 * UNIT) - rounding - error)
    return TorusNorm(min(value, upper), lower, upper, residual)


def _gain(a: Array) -> tuple[float, float]:
    """The largest gain of a matrix, by its Gram matrix, and the residual."""
    q = np.linalg.eigh(np.conj(a.T) @ a)[1][:, -1]
    q = q / np.linalg.norm(q)
    image = a @ q
    value = float(np.linalg.norm(image))
    rest = np.conj(a.T) @ image - value**2 * q
    return value, float(np.linalg.norm(rest)) / value if value else 0.0


def _frequencies(
    sizes: tuple[int, ...], stride: tuple[int, ...], twist: tuple[int, ...], many: int
) -> itertools.chain[Array] | list[Array]:
    """Blocks of frequencies (f, d) of the output, one of each pair of conjugates along the first axis."""
    lengths = [n // s for n, s in zip(sizes, stride, strict=True)]
    first = (lengths[0] - 1) // 2 + 1 if twist[0] else lengths[0] // 2 + 1
    grid = np.indices([first, *lengths[1:]]).reshape(len(sizes), -1).T
    return [grid[i : i + many] for i in range(0, len(grid), many)]


def _symbol(
    flat: Array,
    chosen: Array,
    lengths: list[int],
    sizes: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    twist: tuple[int, ...],
) -> Array:
    """The matrices at frequencies, for each of their aliases: (f, aliases, in * out)."""
    spans = [n // s for n, s in zip(sizes, stride, strict=True)]
    moves = np.indices(stride).reshape(len(stride), -1).T * np.array(spans)
    at = chosen[:, None, :] + moves[None]
    phase = np.ones((*at.shape[:2], 1), complex)
    for j, k in enumerate(lengths):
        # angles are pi times a fraction whose numerator is reduced before it becomes a float
        steps = (2 * at[..., j, None] + twist[j]) * (dilation[j] * np.arange(k)) % (2 * sizes[j])
        turn = np.exp(1j * math.pi * (steps / sizes[j]))
        phase = (phase[..., :, None] * turn[..., None, :]).reshape(*at.shape[:2], -1)
    symbol: Array = phase @ flat
    return symbol
