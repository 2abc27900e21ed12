"""Matrices that are made of vectors, under SciPy's names: gathers of their entries."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnmath_core.autodiff.ops.contract import contract
from nnmath_core.autodiff.ops.conventions import (
    as_operand,
    beside,
    dtype_of,
    ndim_of,
    result_dtype,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import conjugated
from nnmath_core.autodiff.ops.index import take
from nnmath_core.autodiff.ops.join import concatenate
from nnmath_core.autodiff.ops.plain import scipys
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import cast, reshape
from nnmath_core.errors import ShapeError

__all__ = [
    "block_diag",
    "circulant",
    "companion",
    "convolution_matrix",
    "fiedler",
    "hankel",
    "khatri_rao",
    "leslie",
    "toeplitz",
]


def _vector(who: str, name: str, x: Any) -> Any:
    x = as_operand(x)
    return reshape(x, (-1,)) if ndim_of(x) == 0 else _require(who, name, x)


def _require(who: str, name: str, x: Any) -> Any:
    if ndim_of(x) != 1:
        raise ShapeError(
            f"{who}: `{name}` must have one axis when it is traced, got {shape_of(x)}."
        )
    return x


@scipys("scipy.linalg")
def toeplitz(c: Any, r: Any = None) -> Any:
    """SciPy's ``linalg.toeplitz``: constant along diagonals, with first column c and first row r."""
    c = _vector("toeplitz", "c", c)
    r = conjugated(c) if r is None else _vector("toeplitz", "r", r)
    m, n = shape_of(c)[0], shape_of(r)[0]
    values = concatenate([c[::-1], r[1:]])
    i, j = np.arange(m)[:, None], np.arange(n)[None, :]
    return take(values, beside(values, m - 1 - i + j), 0)


@scipys("scipy.linalg")
def hankel(c: Any, r: Any = None) -> Any:
    """SciPy's ``linalg.hankel``: constant along anti-diagonals, with first column c and last row r."""
    c = _require("hankel", "c", as_operand(c))
    r = c * 0 if r is None else _require("hankel", "r", as_operand(r))
    m, n = shape_of(c)[0], shape_of(r)[0]
    values = concatenate([c, r[1:]])
    return take(values, beside(values, np.arange(m)[:, None] + np.arange(n)), 0)


@scipys("scipy.linalg")
def circulant(c: Any) -> Any:
    """SciPy's ``linalg.circulant``: each column is the one before, turned by one."""
    c = as_operand(c)
    c = reshape(c, (1,)) if ndim_of(c) == 0 else c
    n = shape_of(c)[-1]
    return take(c, beside(c, (np.arange(n)[:, None] - np.arange(n)) % n), -1)


@scipys("scipy.linalg")
def block_diag(*arrs: Any) -> Any:
    """SciPy's ``linalg.block_diag``."""
    blocks = [as_operand(a) for a in arrs]
    blocks = [reshape(a, (1, -1)) if ndim_of(a) < 2 else a for a in blocks]
    for a in blocks:
        if ndim_of(a) != 2:
            raise ShapeError(
                f"block_diag: each block must have at most two axes, got {shape_of(a)}."
            )
    dtype = result_dtype(*blocks)
    columns, before, rows = [shape_of(a)[1] for a in blocks], 0, []
    total = sum(columns)
    for a, n in zip(blocks, columns, strict=True):
        m = shape_of(a)[0]
        parts = [
            beside(a, np.zeros((m, before), dtype)),
            cast(a, dtype),
            beside(a, np.zeros((m, total - before - n), dtype)),
        ]
        rows.append(concatenate(parts, 1))
        before += n
    return concatenate(rows, 0)


@scipys("scipy.linalg")
def companion(a: Any) -> Any:
    """SciPy's ``linalg.companion`` of the coefficients of a polynomial, the highest first."""
    a = _vector("companion", "a", a)
    n = shape_of(a)[0]
    if n < 2:
        raise ValueError(f"companion: `a` must have at least two coefficients, got {n}.")
    first = -a[1:] / (1.0 * a[0])
    return concatenate([first[None, :], beside(a, np.eye(n - 2, n - 1, dtype=dtype_of(first)))], 0)


@scipys("scipy.linalg")
def leslie(f: Any, s: Any) -> Any:
    """SciPy's ``linalg.leslie`` of fecundities and survival rates."""
    f, s = _vector("leslie", "f", f), _vector("leslie", "s", s)
    n = shape_of(f)[0]
    if shape_of(s)[0] != n - 1:
        raise ValueError(
            f"leslie: `s` must have {n - 1} entries, one less than `f`, got {shape_of(s)[0]}."
        )
    below = s[:, None] * beside(s, np.eye(n - 1, n, dtype=dtype_of(s)))
    return concatenate([f[None, :], below], 0)


@scipys("scipy.linalg")
def fiedler(a: Any) -> Any:
    """SciPy's ``linalg.fiedler``: the distances abs(a_i - a_j)."""
    a = _vector("fiedler", "a", a)
    return abs(a[:, None] - a[None, :])


@scipys("scipy.linalg")
def convolution_matrix(a: Any, n: int, mode: str = "full") -> Any:
    """SciPy's ``linalg.convolution_matrix``: the matrix A with ``A @ v = convolve(a, v, mode)`` for v of length n."""
    a = _require("convolution_matrix", "a", as_operand(a))
    m = shape_of(a)[0]
    i, j = np.arange(m + n - 1)[:, None], np.arange(n)[None, :]
    inside = (i - j >= 0) & (i - j < m)
    full = where(beside(a, inside), take(a, beside(a, np.clip(i - j, 0, m - 1)), 0), 0)
    if mode == "full":
        return full
    if mode == "same":
        start = (min(m, n) - 1) // 2
        return full[start : start + max(m, n)]
    if mode == "valid":
        return full[min(m, n) - 1 : max(m, n)]
    raise ValueError(f"convolution_matrix: `mode` must be 'full', 'same' or 'valid', got {mode!r}.")


@scipys("scipy.linalg")
def khatri_rao(a: Any, b: Any) -> Any:
    """SciPy's ``linalg.khatri_rao``: the Kronecker products of columns."""
    a, b = as_operand(a), as_operand(b)
    if ndim_of(a) != 2 or ndim_of(b) != 2:
        raise ValueError("The both arrays should be 2-dimensional.")
    if shape_of(a)[1] != shape_of(b)[1]:
        raise ValueError("The number of columns for both arrays should be equal.")
    product = contract(a, b, spec=("ik", "jk", "ijk"))
    return reshape(product, (shape_of(a)[0] * shape_of(b)[0], shape_of(a)[1]))
