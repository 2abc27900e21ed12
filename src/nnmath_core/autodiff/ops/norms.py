"""Norms of vectors and matrices, condition numbers, and the rank.

The direction of a norm is divided where nothing on the way overflows or vanishes; at 0 it is 0, the subgradient of
least norm.
"""

from __future__ import annotations

import builtins
import math

import numpy as np

from nnmath_core.autodiff.ops.axes import through_reduction
from nnmath_core.autodiff.ops.compare import equal, greater, less_equal, logical_and, not_equal
from nnmath_core.autodiff.ops.conventions import (
    Aval,
    dropped,
    dtype_of,
    implements,
    kept,
    ndim_of,
    normal_axes,
    operands,
    real_dtype,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import absolute, conjugated, power
from nnmath_core.autodiff.ops.linalg import inv
from nnmath_core.autodiff.ops.plain import numpys
from nnmath_core.autodiff.ops.reduce import any, count_nonzero, max, min, sum, sum_p
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import cast, floating, moveaxis, reshape_p, stop_gradient
from nnmath_core.autodiff.ops.spectral import eigvalsh, svdvals
from nnmath_core.autodiff.ops.stacks import matrices_last, square_last
from nnmath_core.autodiff.primitive import Primitive, Special, sample

__all__ = ["cond", "matrix_norm", "matrix_rank", "norm", "vector_norm"]


def _divided_times_forward(be, x, y, g):
    r = be.xp.divide(x, y)
    if (
        type(r) is np.ndarray
        and np.broadcast_shapes(r.shape, np.shape(g)) == r.shape
        and np.result_type(r, g) == r.dtype
    ):
        return np.multiply(r, g, out=r)
    return r * g


divided_times = Primitive(
    "divided_times",
    forward=_divided_times_forward,
    elementwise=True,
    vjp=(
        lambda g, xs, y: divided_times(g, xs[1], xs[2]),
        lambda g, xs, y: -divided_times(g, xs[1], y),
        lambda g, xs, y: divided_times(g, xs[1], xs[0]),
    ),
    keeps=("12", "1y", "01"),
    samples=lambda d: [
        sample(d.normal(3, 4), d.positive(3, 4), d.normal(3, 4)),
        sample(d.normal(3, 4), d.positive(3, 1), d.normal(3, 1)),
        sample(d.normal(4), d.positive(3, 1), d.normal(2, 1, 1)),
        sample(d.normal(), d.positive(), d.normal()),
        sample(d.normal(0, 4), d.positive(4), 0.5),
    ],
)
"""x / y * g in one array instead of two; where y is a norm of x nothing on the way overflows, as g / y could."""


def _along(t, x, y, axis, keepdims):
    """Return t times the conjugate direction conj(x) / |x|, which is 0 where x is 0, in all orders."""
    y = y if keepdims else reshape_p(y, shape=kept(x.shape, axis))
    return divided_times(conjugated(x), where(equal(y, 0), math.inf, y), t)


def _norm_back(g, xs, y, *, axis, keepdims):
    g = g if keepdims else reshape_p(g, shape=kept(xs[0].shape, axis))
    return _along(g, xs[0], y, axis, keepdims)


def _norm_tangent(t, xs, y, *, axis, keepdims):
    return sum_p(_along(t, xs[0], y, axis, keepdims), axis=axis, keepdims=keepdims)


def _norm_forward(be, x, *, axis, keepdims):
    xp = be.xp
    x = x if x.dtype.kind in "fc" else xp.asarray(x, dtype=float)
    if not x.size:
        return xp.sum(xp.abs(x), axis=axis, keepdims=keepdims)
    if xp is np:  # one pass, unless squares have overflowed, or vanished beside others
        total = _sum_of_squares(x, axis, keepdims)
        info = np.finfo(total.dtype)
        if np.all((total > info.tiny / info.eps) & (total < math.inf)):
            return np.sqrt(total)
    a = xp.abs(x)
    top = xp.max(a, axis=axis, keepdims=True)
    scale = xp.where((top > 0) & xp.isfinite(top), top, xp.ones_like(top))
    y = xp.sqrt(xp.sum(xp.square(a / scale), axis=axis, keepdims=True)) * scale
    return y if keepdims else xp.reshape(y, dropped(x.shape, axis))[()]


_BLOCK = 1024


def _sum_of_squares(x, axis, keepdims):
    """Sum of |x|**2 of a host array; over all axes in blocks, without an array of the squares."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if x.size > _BLOCK and x.dtype.kind == "f" and len(axis) == x.ndim and x.flags.forc:
            flat = x.ravel(order="K")
            cut = x.size - x.size % _BLOCK
            blocks, rest = flat[:cut].reshape(-1, _BLOCK), flat[cut:]
            total = np.add.reduce(np.einsum("ij,ij->i", blocks, blocks)) + np.einsum(
                "i,i->", rest, rest
            )
            return np.full((1,) * x.ndim, total) if keepdims else total
        squares = np.square(x) if x.dtype.kind != "c" else np.square(x.real) + np.square(x.imag)
        return np.add.reduce(squares, axis=axis, keepdims=keepdims)


norm_p = Primitive(
    "norm",
    forward=_norm_forward,
    vjp=(_norm_back,),
    jvp=(_norm_tangent,),
    keeps=("0y",),
    through=through_reduction,
    shape=lambda x, *, axis, keepdims: Aval(
        kept(x.shape, axis) if keepdims else dropped(x.shape, axis), real_dtype(x)
    ),
    batch=lambda on, v, size, *, axis, keepdims: norm_p(v[0], axis=tuple(a + 1 for a in axis), keepdims=keepdims),
    samples=lambda d: [
        sample(d.normal(3, 4), axis=(1,), keepdims=False),
        sample(d.normal(2, 3), axis=(0, 1), keepdims=True),
        sample(d.normal(5), axis=(0,), keepdims=False),
    ],
    special=[
        Special("norm at 0: 0, the subgradient of least norm", ([0.0, 0.0],), ([0.0, 0.0],),
                {"axis": (0,), "keepdims": False})
    ],
)  # fmt: skip


@implements(np.linalg.norm)
def norm(x, ord=None, axis=None, keepdims=False):
    """NumPy's ``linalg.norm``: vector norms of any order, matrix norms 'fro', 'nuc', 1, 2, inf, -1, -2, -inf."""
    x = floating(x)
    n = ndim_of(x)
    if ord is None:
        return norm_p(x, axis=normal_axes("norm", axis, n), keepdims=bool(keepdims))
    axes = normal_axes("norm", axis, n)
    if len(axes) == 1:
        return _vector_norm(x, ord, axes, keepdims)
    if len(axes) != 2:
        raise ValueError("Improper number of dimensions to norm.")
    if ord in _SPECTRAL:
        return _spectral_norm(x, ord, axis, axes, bool(keepdims))
    if ord == "fro":
        return norm_p(x, axis=axes, keepdims=bool(keepdims))
    if ord in (1, math.inf, -1, -math.inf):
        rows, cols = (int(a) % n for a in axis) if isinstance(axis, tuple) else axes
        first, second = (rows, cols) if abs(ord) == 1 else (cols, rows)
        total = sum(absolute(x), first, keepdims=bool(keepdims))
        if not keepdims and first < second:
            second -= 1  # the axis that was summed is gone
        return (max if ord > 0 else min)(total, second, keepdims=bool(keepdims))
    raise ValueError("Invalid norm order for matrices.")


_SPECTRAL = (2, -2, "nuc")


def _spectral_norm(x, ord, axis, axes, keepdims):
    """Norms of the singular values: ties share equally, a value of 0 has the subgradient of least norm."""
    n = ndim_of(x)
    first, second = (int(a) % n for a in axis) if isinstance(axis, tuple) else axes
    s = svdvals(moveaxis(x, (first, second), (-2, -1)))
    if ord == "nuc":
        size = stop_gradient(s)
        nought = less_equal(size, _nuclear_tolerance(size))
        y = sum(where(nought, size, s), -1)
    else:
        y = max(s, -1) if ord == 2 else min(s, -1)
    return reshape_p(y, shape=kept(shape_of(x), axes)) if keepdims else y


def _nuclear_tolerance(s):
    n = shape_of(s)[-1]
    top = max(s, -1, keepdims=True) if n else 0.0
    return top * (4 * n * float(np.finfo(dtype_of(s)).eps))


def vector_norm(x, /, *, axis=None, keepdims=False, ord=2):
    """The array API's ``vector_norm``: over any axes, all of them by default."""
    x = floating(x)
    axes = normal_axes("vector_norm", axis, ndim_of(x))
    return _vector_norm(x, ord, axes, keepdims)


def matrix_norm(x, /, *, keepdims=False, ord="fro"):
    """The array API's ``matrix_norm`` of the last two axes."""
    return norm(x, ord, axis=(-2, -1), keepdims=keepdims)


def _vector_norm(x, ord, axes, keepdims):
    if ord == 2:
        return norm_p(x, axis=axes, keepdims=bool(keepdims))
    if ord == math.inf:
        return max(absolute(x), axes, keepdims=bool(keepdims))
    if ord == -math.inf:
        return min(absolute(x), axes, keepdims=bool(keepdims))
    if ord == 0:
        return sum(cast(not_equal(x, 0), real_dtype(x)), axes, keepdims=bool(keepdims))
    if ord == 1:
        return sum(absolute(x), axes, keepdims=bool(keepdims))
    if not isinstance(ord, (int, float)):
        raise ValueError(f"Invalid norm order {ord!r} for vectors")
    return power(sum(power(absolute(x), ord), axes, keepdims=bool(keepdims)), 1.0 / ord)


# ---------------------------------------------------------------------------------------------- made of norms
@numpys(np.linalg.cond)
def cond(x, p=None):
    """NumPy's ``linalg.cond``: the quotient of two singular values, or ``norm(x, p) * norm(inv(x), p)``."""
    x = floating(x)
    if 0 in shape_of(x):
        raise np.linalg.LinAlgError("cond is not defined on empty arrays")
    if p is None or p in (2, -2):
        matrices_last("cond", x, "x")
        s = svdvals(x)
        above, below = (s[..., -1], s[..., 0]) if p == -2 else (s[..., 0], s[..., -1])
        # of the zero matrix it is infinite, as of any singular one
        with np.errstate(divide="ignore", invalid="ignore"):
            quotient = above / below
        return where(logical_and(equal(above, 0), equal(below, 0)), np.inf, quotient)
    square_last("cond", x, "x")
    return norm(x, p, axis=(-2, -1)) * norm(inv(x), p, axis=(-2, -1))


@numpys(np.linalg.matrix_rank)
def matrix_rank(A, tol=None, hermitian=False, *, rtol=None):
    """NumPy's ``linalg.matrix_rank``: the number of singular values above a tolerance; it carries no derivative."""
    A = stop_gradient(floating(A))
    if ndim_of(A) < 2:
        return cast(any(not_equal(A, 0)), np.int64)
    s = absolute(eigvalsh(A)) if hermitian else svdvals(A)
    if not shape_of(s)[-1]:
        return count_nonzero(s, -1)
    if tol is None:
        factor = (
            builtins.max(shape_of(A)[-2:]) * float(np.finfo(dtype_of(s)).eps)
            if rtol is None
            else rtol
        )
        tol = max(s, -1, keepdims=True) * (
            operands(A, factor)[1][..., None] if np.ndim(factor) else factor
        )
    else:
        tol = operands(A, tol)[1][..., None] if np.ndim(tol) else tol
    return count_nonzero(greater(s, tol), -1)
