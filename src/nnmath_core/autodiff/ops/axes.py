"""What operations along axes share: reductions, which lose the axes, and running ones, which keep them.

A reduction is a primitive with the parameters ``axis`` (a sorted tuple) and ``keepdims``.
"""

from __future__ import annotations

import numpy as np

from nnmath_core.autodiff.ops.conventions import (
    NO_VALUE,
    Aval,
    as_operand,
    dropped,
    dtype_of,
    kept,
    ndim_of,
    normal_axes,
    normal_axis,
    refuse,
    shape_of,
)
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import broadcast_to_p, cast, ravel, reshape_p
from nnmath_core.autodiff.primitive import sample
from nnmath_core.errors import DtypeError, ShapeError

__all__ = [
    "batched",
    "by_choice",
    "by_cumulative",
    "by_reduction",
    "cumulative",
    "reduced",
    "reduction",
    "require_where",
    "samples_along",
    "spread",
    "summed",
    "through_reduction",
]


# ---------------------------------------------------------------------------------------------- parts of a declaration
def spread(g, shape, axis, keepdims):
    """What was reduced, repeated along the axes that it lost."""
    if not keepdims:
        g = reshape_p(g, shape=kept(shape, axis))
    return broadcast_to_p(g, shape=shape)


def through_reduction(m, i, xs, y, *, axis, keepdims):
    """A mask goes back to all entries that the result was made of."""
    return spread(m, xs[0].shape, axis, keepdims)


def reduced(x, *, axis, keepdims, dtype=None):
    """Shape rule: the axes are gone, the dtype is kept."""
    s = x.shape
    return Aval(
        kept(s, axis) if keepdims else dropped(s, axis), dtype_of(x) if dtype is None else dtype
    )


def summed(x, *, axis, keepdims):
    """Shape rule: booleans and small integers sum to the default integer, as in NumPy."""
    return reduced(x, axis=axis, keepdims=keepdims, dtype=np.sum(np.zeros(0, dtype_of(x))).dtype)


def batched(p):
    """Batching rule of a reduction: the same axes, one further right. ``p`` returns the primitive."""
    return lambda on, v, size, *, axis, keepdims: p()(
        v[0], axis=tuple(a + 1 for a in axis), keepdims=keepdims
    )


def samples_along(draw="normal"):
    """Samples of a reduction, of numbers that a method of `Draw` makes."""

    def samples(d):
        f = getattr(d, draw)
        return [
            sample(f(3, 4), axis=(0, 1), keepdims=False),
            sample(f(3, 4), axis=(1,), keepdims=False),
            sample(f(2, 3, 4), axis=(0, 2), keepdims=True),
            sample(f(5), axis=(), keepdims=False),
            sample(f(2, 1), axis=(1,), keepdims=True),
        ]

    return samples


# ---------------------------------------------------------------------------------------------- NumPy's functions
def is_line_of_one(x, axis):
    """Whether x is a single number and ``axis`` 0 or -1, which NumPy's ufuncs let pass."""
    return ndim_of(x) == 0 and not isinstance(axis, tuple) and axis in (0, -1)


def reduction(who, p, x, axis, dtype, out, keepdims, where_=True, neutral=0):
    """A reduction of the entries that ``where_`` shows; ``neutral`` stands for the others."""
    refuse(who, out=(out, None))
    x = as_operand(x)
    if dtype is not None and dtype is not NO_VALUE:
        x = cast(x, dtype)
    axis = None if is_line_of_one(x, axis) else axis
    if where_ is not True and where_ is not NO_VALUE:
        x = where(require_where(who, where_, x), x, neutral)
    y = p(x, axis=normal_axes(who, axis, ndim_of(x)), keepdims=keepdims is True)
    return y if dtype is None or dtype is NO_VALUE else cast(y, dtype)  # small integers: they wrap


def require_where(who, mask, x):
    """The keyword ``where`` of a reduction, checked."""
    mask = as_operand(mask)
    if dtype_of(mask) != np.bool_:
        raise DtypeError(
            f"{who}: `where` must be boolean, got {dtype_of(mask)}. Write where=mask != 0."
        )
    have, want = shape_of(mask), shape_of(x)
    other = [n for n, m in zip(have[::-1], want[::-1], strict=False) if n not in (1, m)]
    if other or len(have) > len(want):
        raise ShapeError(
            f"{who}: `where` must broadcast to the shape {want} of the array, got {have}."
        )
    return mask


def cumulative(who, p, a, axis, dtype, out, **params):
    """A running operation along an axis; without one the array is flat."""
    refuse(who, out=(out, None))
    a = as_operand(a)
    if dtype is not None:
        a = cast(a, dtype)
    if axis is None or is_line_of_one(a, axis):
        a, axis = ravel(a), 0
    y = p(a, axis=normal_axis(who, axis, ndim_of(a)), **params)
    return y if dtype is None else cast(y, dtype)


# ---------------------------------------------------------------------------------------------- methods of ufuncs
def by_reduction(f):
    """``ufunc.reduce`` by a function that takes a dtype; a ufunc's axis is 0 when none is named."""
    return lambda a, axis=0, dtype=None, out=None, keepdims=False, initial=NO_VALUE, where=True: f(
        a, axis, dtype, out, keepdims, initial, where
    )


def by_choice(f):
    """``ufunc.reduce`` by a function whose result is one of the entries."""
    return lambda a, axis=0, dtype=None, out=None, keepdims=False, initial=NO_VALUE, where=True: f(
        a if dtype is None else cast(as_operand(a), dtype), axis, out, keepdims, initial, where
    )


def by_cumulative(f):
    """``ufunc.accumulate`` by a cumulative function."""
    return lambda a, axis=0, dtype=None, out=None: f(a, axis, dtype, out)
