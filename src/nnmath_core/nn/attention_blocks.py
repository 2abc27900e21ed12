"""Attention in blocks of queries, composed of primitives, with memory linear in the lengths of the sequences.

A block of queries has its scores, weights and values as one function with closed-form rules in both modes. Each rule
keeps only its operands and computes the weights again, also when it is differentiated itself: no order of derivative
keeps the matrix of all weights.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core.autodiff.custom import checkpoint, custom_rule
from nnmath_core.autodiff.ops.contract import matmul
from nnmath_core.autodiff.ops.conventions import beside
from nnmath_core.autodiff.transforms import stop_gradient, vmap
from nnmath_core.random import bits, fold_in
from nnmath_core.special import softmax
from nnmath_core.typing import Array

__all__ = ["Block", "attend_in_blocks", "tangent_in_blocks"]

_BLOCK_BYTES = 2**23
"""Scores of a block: small beside the caches of a server, large beside the cost of a call."""

_WORDS = 2**32


def attend_in_blocks(
    q: Array,
    k: Array,
    v: Array,
    bias: Any,
    mask: Any,
    key: Any,
    causal: bool,
    scale: float,
    rate: float = 0.0,
    block_size: int | None = None,
) -> Array:
    """Return the values of all queries; heads of q, k and v are the same."""
    parts, read = [], {k.shape[-2]: (k, v)}
    for block, whole, end in _blocks(q, k, causal, scale, rate, block_size):
        if end not in read:
            read[end] = (k[..., :end, :], v[..., :end, :])
        operands = (
            block.part(q, whole),
            *read[end],
            block.spread(bias, q, end),
            block.columns(mask, end),
            key,
        )
        parts.append(custom_rule(block, jvp=block.jvp, vjp=block.vjp)(*operands))
    return _joined(parts)


def tangent_in_blocks(
    primals: tuple[Any, ...], tangents: tuple[Any, ...], causal: bool, scale: float
) -> Array:
    """Return the tangent at (q, k, v, bias, mask) along tangents of the first four, of which some may be None."""
    q, k, v, bias, mask = primals
    dq, dk, dv, db = tangents
    parts = []
    for block, whole, end in _blocks(q, k, causal, scale, 0.0, None):

        def upto(x: Any, end: int = end) -> Any:
            return x if x is None or x.shape[-2] == end else x[..., :end, :]

        parts.append(
            checkpoint(block.tangent)(
                block.part(q, whole),
                upto(k),
                upto(v),
                block.columns(bias, end),
                block.columns(mask, end),
                None,
                None if dq is None else block.part(dq, whole),
                upto(dk),
                upto(dv),
                block.columns(db, end),
            )
        )
    return _joined(parts)


def _blocks(
    q: Array, k: Array, causal: bool, scale: float, rate: float, block_size: int | None
) -> Iterator[tuple[Block, bool, int]]:
    """Yield each block of queries, whether it is all of them, and how many keys it reads."""
    rows, length, keys = block_size or _rows_of_block(q, k), q.shape[-2], k.shape[-2]
    for start in range(0, max(length, 1), rows):
        stop = min(start + rows, length)
        block = Block(start, stop, causal, scale, rate)
        yield (
            block,
            (start, stop) == (0, length),
            _end(stop, length, keys) if causal else keys,
        )


def _joined(parts: list[Array]) -> Array:
    y: Array = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-2)
    return y


def _t(x: Array) -> Array:
    return np.swapaxes(x, -1, -2)


@dataclass(frozen=True)
class Block:
    """Attention of the queries from ``start`` to ``stop``, of (q, k, v, bias, mask, key), and its rules."""

    start: int
    stop: int
    causal: bool
    scale: float
    rate: float

    def weights(self, q: Array, k: Array, bias: Any, mask: Any) -> Array:
        """Return the weights before any dropout; rows without a score are zeros."""
        s = matmul(q * self.scale, _t(k))
        if bias is not None:
            s = s + bias
        if self.causal:
            ends = np.arange(self.start, self.stop)[:, None]
            before = beside(s, np.arange(k.shape[-2]) <= ends)
            mask = before if mask is None else np.logical_and(mask, before)
        if mask is not None:
            s = np.where(mask, s, -math.inf)
        if (mask is None and bias is None) or not k.shape[-2]:
            a: Array = softmax(s, axis=-1) if k.shape[-2] else s
            return a
        # A row that is -inf everywhere has no softmax. Complex steps have complex scores, compared by their real part.
        largest = np.max(np.real(stop_gradient(s)), axis=-1, keepdims=True)
        dead = np.equal(largest, -math.inf)
        return np.where(dead, 0.0, softmax(np.where(dead, 0.0, s), axis=-1))

    def kept(self, key: Any, weights: Array) -> Any:
        """Return 1 / (1 - rate) where a weight is kept, 0 where it is dropped, in the layout of the weights."""
        *lead, _, length = weights.shape
        numbers = beside(weights, np.arange(self.start, self.stop))
        # one key a row, and the keys as the first axis: neither blocks nor how far a causal row reads change a number
        words = vmap(lambda row: bits(fold_in(key, row), (length, *lead)))(numbers)
        words = np.moveaxis(words, (0, 1), (-2, -1))
        keep = np.greater_equal(words, min(round(self.rate * _WORDS), _WORDS - 1))
        factors: Array = keep.astype(weights.dtype) * (1.0 / (1.0 - self.rate))
        return factors

    def __call__(self, q: Array, k: Array, v: Array, bias: Any, mask: Any, key: Any) -> Array:
        """Return the values."""
        a = self.weights(q, k, bias, mask)
        y: Array = matmul(a if key is None else a * self.kept(key, a), v)
        return y

    def jvp(self, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Array:
        """Return the tangent of the values."""
        q, k, v, bias, mask, key = primals
        dq, dk, dv, db, _, _ = tangents
        out: Array = checkpoint(self.tangent)(q, k, v, bias, mask, key, dq, dk, dv, db)
        return out

    def tangent(
        self, q: Array, k: Array, v: Array, bias: Any, mask: Any, key: Any, *tangents: Any
    ) -> Array:
        """Return the tangent along those of q, k, v and the bias; where one is None, that does not move."""
        dq, dk, dv, db = tangents
        a = self.weights(q, k, bias, mask)
        kept = None if key is None else self.kept(key, a)
        parts = []
        if dq is not None or dk is not None or db is not None:
            of_scores = [
                None if dq is None else matmul(dq * self.scale, _t(k)),
                None if dk is None else matmul(q * self.scale, _t(dk)),
                db,
            ]
            ds = functools.reduce(operator.add, [x for x in of_scores if x is not None])
            da = a * (ds - np.sum(a * ds, axis=-1, keepdims=True))
            parts.append(matmul(da if kept is None else da * kept, v))
        if dv is not None:
            parts.append(matmul(a if kept is None else a * kept, dv))
        dy: Array = functools.reduce(operator.add, parts)
        return dy

    def vjp(self, primals: tuple[Any, ...], y: Array, g: Array) -> tuple[Any, ...]:
        """Return the cotangents of q, k, v and the bias."""
        cotangents: tuple[Any, ...] = checkpoint(self._cotangents)(*primals, g)
        return (*cotangents, None, None)

    def _cotangents(
        self, q: Array, k: Array, v: Array, bias: Any, mask: Any, key: Any, g: Array
    ) -> tuple[Any, ...]:
        a = self.weights(q, k, bias, mask)
        ga = matmul(g, _t(v))
        used = a
        if key is not None:
            kept = self.kept(key, a)
            ga, used = ga * kept, a * kept
        # not sum(g * y): where one weight is nearly 1 the difference cancels to the last digit
        gs = a * (ga - np.sum(a * ga, axis=-1, keepdims=True))
        gq = matmul(gs, k) * self.scale
        gk = matmul(_t(gs), q * self.scale)
        return gq, gk, matmul(_t(used), g), None if bias is None else gs

    def part(self, x: Array, whole: bool) -> Array:
        """Return the rows of the block."""
        return x if whole else x[..., self.start : self.stop, :]

    def columns(self, x: Any, end: int) -> Any:
        """Return the rows and columns of a mask or bias that the block reads."""
        if x is None:
            return None
        if x.shape[-2] not in (1, self.stop - self.start):
            x = x[..., self.start : self.stop, :]
        return x[..., :end] if x.shape[-1] not in (1, end) else x

    def spread(self, bias: Any, q: Array, end: int) -> Any:
        """Return a bias of the shape of the scores: the sum of its derivative is the core's."""
        shape = (*q.shape[:-2], self.stop - self.start, end)
        return bias if bias is None else np.broadcast_to(self.columns(bias, end), shape)


def _end(stop: int, queries: int, keys: int) -> int:
    """Return how many keys causal queries before ``stop`` read: those of whole quarters of the sequence.

    Blocks share their keys, so that in reverse over reverse, where the derivatives in what a block reads wait for those
    of all blocks, there are four of them and not one for each block.
    """
    quarter = max(-(-queries // 4), 1)
    return min(-(-stop // quarter) * quarter, keys)


def _rows_of_block(q: Array, k: Array) -> int:
    """Return how many queries have as many scores as fit into the block, or as the keys have entries."""
    row = max(math.prod(q.shape[:-2]) * k.shape[-2], 1) * q.dtype.itemsize
    return int(max(_BLOCK_BYTES // row, q.shape[-1], 1))
