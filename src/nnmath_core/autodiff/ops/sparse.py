"""Sparse times dense, and the product of two dense matrices at the places of a pattern: each is the other's rule.

Both are linear in each operand. The cotangent of the entries of a sparse matrix is a dense product sampled on its
pattern, so that nothing of the size of the dense matrix is ever made.
"""

from __future__ import annotations

import math

import numpy as np

from nnmath_core.autodiff.ops.conventions import (
    Aval,
    all_batched,
    ndim_of,
    result_dtype,
    shape_of,
)
from nnmath_core.autodiff.ops.shape import moveaxis, reshape_p
from nnmath_core.autodiff.primitive import Primitive, sample
from nnmath_core.device.sparse import Pattern

__all__ = ["sddmm_p", "spmm_p"]


def _spmm_shape(data, x, *, pattern, transposed):
    return Aval((pattern.shape[1 if transposed else 0], *x.shape[1:]), result_dtype(data, x))


def _spmm_entries(g, xs, y, *, pattern, transposed):
    a, b = (xs[1], g) if transposed else (g, xs[1])
    return sddmm_p(a, b, pattern=pattern)


def _spmm_batch(on, v, size, *, pattern, transposed):
    if not on[0]:  # one product with all examples side by side
        s = shape_of(v[1])
        x = reshape_p(moveaxis(v[1], 0, 1), shape=(s[1], s[0] * (s[2] if len(s) == 3 else 1)))
        y = spmm_p(v[0], x, pattern=pattern, transposed=transposed)
        return moveaxis(reshape_p(y, shape=(shape_of(y)[0], s[0], *s[2:])), 1, 0)
    data, x = all_batched(on, v, size)  # a block diagonal matrix
    s = shape_of(x)
    y = spmm_p(
        reshape_p(data, shape=(size * pattern.nnz,)),
        reshape_p(x, shape=(size * s[1], *s[2:])),
        pattern=pattern.tiled(size),
        transposed=transposed,
    )
    return reshape_p(y, shape=(size, shape_of(y)[0] // size if size else 0, *s[2:]))


def _sddmm_batch(on, v, size, *, pattern):
    a, b = all_batched(on, v, size)
    a, b = (reshape_p(x, shape=(size * shape_of(x)[1], *shape_of(x)[2:])) for x in (a, b))
    return reshape_p(sddmm_p(a, b, pattern=pattern.tiled(size)), shape=(size, pattern.nnz))


def _pattern(d, m, n, nnz):
    """A random pattern, with an empty row, and one place twice where there is room."""
    rows = np.sort(d.rng.integers(0, max(1, m - 1), nnz))
    columns = d.rng.integers(0, n, nnz) if nnz else np.zeros(0, np.int64)
    if nnz > 3:
        rows[1], columns[1] = rows[0], columns[0]
    starts = np.searchsorted(rows, np.arange(m + 1))
    return Pattern(columns, starts, (m, n))


spmm_p = Primitive(
    "spmm",
    multilinear=True,
    vjp=(
        _spmm_entries,
        lambda g, xs, y, *, pattern, transposed: spmm_p(
            xs[0], g, pattern=pattern, transposed=not transposed
        ),
    ),
    keeps=("1", "0"),
    shape=_spmm_shape,
    batch=_spmm_batch,
    samples=lambda d: [
        sample(d.normal(7), d.normal(3, 2), pattern=_pattern(d, 4, 3, 7), transposed=False),
        sample(d.normal(6), d.normal(4), pattern=_pattern(d, 4, 3, 6), transposed=True),
        sample(d.normal(5), d.normal(4, 3), pattern=_pattern(d, 4, 2, 5), transposed=True),
        sample(d.normal(4), d.normal(3), pattern=_pattern(d, 2, 3, 4), transposed=False),
        sample(d.normal(0), d.normal(3, 2), pattern=_pattern(d, 2, 3, 0), transposed=False),
    ],
    library="cusparse",
)

sddmm_p = Primitive(
    "sddmm",
    multilinear=True,
    vjp=(
        lambda g, xs, y, *, pattern: spmm_p(g, xs[1], pattern=pattern, transposed=False),
        lambda g, xs, y, *, pattern: spmm_p(g, xs[0], pattern=pattern, transposed=True),
    ),
    keeps=("1", "0"),
    shape=lambda a, b, *, pattern: Aval((pattern.nnz,), result_dtype(a, b)),
    batch=_sddmm_batch,
    samples=lambda d: [
        sample(d.normal(4, 2), d.normal(3, 2), pattern=_pattern(d, 4, 3, 7)),
        sample(d.normal(4), d.normal(2), pattern=_pattern(d, 4, 2, 5)),
        sample(d.normal(3, 0), d.normal(2, 0), pattern=_pattern(d, 3, 2, 3)),
        sample(d.normal(2, 3), d.normal(3, 3), pattern=_pattern(d, 2, 3, 0)),
    ],
)


def multiply_sparse(data, x, *, pattern, transposed):
    """``A @ x`` or its transpose's product for x of any number of axes, the last but one of which is contracted."""
    if ndim_of(x) <= 2:
        return spmm_p(data, x, pattern=pattern, transposed=transposed)
    x = moveaxis(x, -2, 0)
    s = shape_of(x)
    x = reshape_p(x, shape=(s[0], math.prod(s[1:])))
    y = spmm_p(data, x, pattern=pattern, transposed=transposed)
    return moveaxis(reshape_p(y, shape=(shape_of(y)[0], *s[1:])), 0, -2)
