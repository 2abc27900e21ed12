"""Weighted averages and covariances."""

from __future__ import annotations

import math

import numpy as np

from nnmath_core.autodiff.ops.compare import equal, greater, less
from nnmath_core.autodiff.ops.contract import diagonal, matmul
from nnmath_core.autodiff.ops.conventions import (
    NO_VALUE,
    as_operand,
    dtype_of,
    is_traced,
    ndim_of,
    normal_axes,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import conjugated, sqrt
from nnmath_core.autodiff.ops.join import concatenate
from nnmath_core.autodiff.ops.plain import numpys
from nnmath_core.autodiff.ops.reduce import mean, sum
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import (
    broadcast_to,
    cast,
    copied,
    imag,
    matrix_transpose,
    real,
    reshape_p,
    transpose_p,
)
from nnmath_core.errors import ShapeError

__all__ = ["average", "corrcoef", "cov"]


@numpys(np.average)
def average(a, axis=None, weights=None, returned=False, *, keepdims=NO_VALUE):
    """NumPy's ``average``, and with ``returned`` the sum of the weights, too."""
    a = as_operand(a)
    axes = normal_axes("average", axis, ndim_of(a))
    if weights is None:
        y = mean(a, axis, keepdims=keepdims)
        count = math.prod(shape_of(a)[k] for k in axes)
        return (y, np.full(shape_of(y), count, dtype_of(y))[()]) if returned else y
    w = _weights(
        a, axes if axis is None or not isinstance(axis, tuple) else axis, axis, as_operand(weights)
    )
    kinds = [np.float64] if dtype_of(a).kind in "biu" else []
    dtype = np.result_type(dtype_of(a), dtype_of(w), *kinds)
    total = sum(w, axis, dtype, keepdims=keepdims)
    zero = equal(total, 0)
    if not is_traced(zero) and np.any(zero):
        raise ZeroDivisionError("Weights sum to zero, can't be normalized")
    y = sum(cast(a, dtype) * cast(w, dtype), axis, keepdims=keepdims) / total
    return (y, copied(broadcast_to(total, shape_of(y)))) if returned else y


def _weights(a, axes, axis, w):
    """Weights of the shape of a, or of its axes, in the shape that broadcasts to a."""
    if shape_of(w) == shape_of(a):
        return w
    if axis is None:
        raise TypeError("Axis must be specified when shapes of a and weights differ.")
    axes = tuple(k % ndim_of(a) for k in axes)
    if shape_of(w) != tuple(shape_of(a)[k] for k in axes):
        raise ShapeError(
            f"average: `weights` must have the shape of `a`, {shape_of(a)}, or of its axes {axes}, got {shape_of(w)}."
        )
    order = tuple(sorted(range(len(axes)), key=axes.__getitem__))
    w = transpose_p(w, axes=order) if order != tuple(range(len(axes))) else w
    return broadcast_to(
        reshape_p(w, shape=tuple(n if k in axes else 1 for k, n in enumerate(shape_of(a)))),
        shape_of(a),
    )


def _observations(who, m, rowvar):
    m = as_operand(m)
    if ndim_of(m) > 2:
        raise ValueError(f"{who}: `m` has more than 2 dimensions")
    if ndim_of(m) < 2:
        m = reshape_p(m, shape=(1, math.prod(shape_of(m))))
        return m
    return m if rowvar else matrix_transpose(m)


@numpys(np.cov)
def cov(m, y=None, rowvar=True, bias=False, ddof=None, fweights=None, aweights=None, *, dtype=None):
    """NumPy's ``cov``; ``aweights`` may be traced, ``fweights`` are counts."""
    x = _observations("cov", m, rowvar)
    if y is not None:
        # NumPy's rule: one row stays a row
        row = ndim_of(as_operand(y)) == 2 and shape_of(as_operand(y))[0] == 1
        x = concatenate([x, _observations("cov", y, rowvar or row)])
    x = cast(x, np.result_type(dtype_of(x), np.float64) if dtype is None else dtype)
    if ddof is not None and ddof != int(ddof):
        raise ValueError("ddof must be integer")
    ddof = ddof if ddof is not None else 0 if bias else 1
    n = shape_of(x)[1]
    w = None
    for name, v in (("fweights", fweights), ("aweights", aweights)):
        if v is None:
            continue
        v = as_operand(v)
        if shape_of(v) != (n,):
            raise ShapeError(
                f"cov: `{name}` must have shape ({n},), one for each observation, got {shape_of(v)}."
            )
        negative = less(v, 0)
        if not is_traced(negative) and np.any(negative):
            raise ValueError(f"{name} cannot be negative")
        if (
            name == "fweights"
            and dtype_of(v).kind not in "iu"
            and np.any(np.asarray(v) != np.around(v))
        ):
            raise TypeError("fweights must be integer")
        v = v if dtype_of(v).kind == "f" else cast(v, np.float64)
        w = v if w is None else w * v
    if w is None:
        factor, centre = n - ddof, mean(x, 1, keepdims=True)
    else:
        total = sum(w)
        centre = sum(x * w, 1, keepdims=True) / total
        factor = total
        if ddof:
            factor = (
                total - ddof
                if aweights is None
                else total - ddof * sum(w * as_operand(aweights)) / total
            )
    x = x - centre
    c = matmul(x, conjugated(matrix_transpose(x if w is None else x * w)))
    c = c / factor if not isinstance(factor, int) else c / factor if factor > 0 else c * math.inf
    return reshape_p(
        c, shape=tuple(k for k in shape_of(c) if k != 1) if shape_of(c)[0] == 1 else shape_of(c)
    )


@numpys(np.corrcoef)
def corrcoef(x, y=None, rowvar=True, *, dtype=None):
    """NumPy's ``corrcoef``; an entry that rounding has brought beyond 1 has derivative 0."""
    c = cov(x, y, rowvar, dtype=dtype)
    if ndim_of(c) == 0:
        return c / c
    s = sqrt(real(diagonal(c)))
    c = c / s[:, None] / s[None, :]
    if dtype_of(c).kind == "c":
        return _within_one(real(c)) + 1j * _within_one(imag(c))
    return _within_one(c)


def _within_one(c):
    """Rounding errors beyond 1 cut off, without sharing a derivative at 1, where it is 0 by itself."""
    return where(greater(c, 1.0), 1.0, where(less(c, -1.0), -1.0, c))
