"""Joining, splitting, padding, repeating: operations that put arrays together and take them apart."""

from __future__ import annotations

import itertools
import operator
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import alias, mark_fresh
from nnmath_core.autodiff.ops.conventions import (
    Aval,
    all_batched,
    as_operand,
    dtype_of,
    implements,
    is_traced,
    methods,
    ndim_of,
    normal_axis,
    operands,
    refuse,
    result_dtype,
    shape_of,
)
from nnmath_core.autodiff.ops.index import slice_p, take_p
from nnmath_core.autodiff.ops.shape import (
    atleast_1d,
    atleast_2d,
    atleast_3d,
    broadcast_to_p,
    cast,
    copied,
    ravel,
    reshape,
    reshape_p,
)
from nnmath_core.autodiff.primitive import REGISTRY, Primitive, sample

__all__ = [
    "array_split",
    "column_stack",
    "concatenate",
    "dstack",
    "hstack",
    "repeat",
    "roll",
    "split",
    "stack",
    "tile",
    "vstack",
]


# ---------------------------------------------------------------------------------------------- primitives
_last: tuple[Any, int, list[int]] = (None, 0, [])
"""Where the operands of the last concatenation begin: a sweep asks for each, and each is the sum of all before it."""


def _starts(xs, axis):
    global _last
    known = _last
    if known[0] is xs and known[1] == axis:
        return known[2]
    starts = [0, *itertools.accumulate(x.shape[axis] for x in xs)]
    if type(xs[0]) is Aval:  # shapes and dtypes, no arrays, are what is held
        _last = (xs, axis, starts)
    return starts


def _concatenate_part(g, xs, axis, i):
    starts = _starts(xs, axis)
    return slice_p(g, index=(slice(None),) * axis + (slice(starts[i], starts[i + 1]),))


def _concatenate_shape(*xs, axis):
    first = list(xs[0].shape)
    first[axis] = sum(x.shape[axis] for x in xs)
    return Aval(tuple(first), result_dtype(*xs))


concatenate_p = Primitive(
    "concatenate",
    forward=lambda be, *xs, axis: be.xp.concatenate(xs, axis),
    linear=True,
    variadic=True,
    vjp=(lambda g, xs, y, *, i, axis: _concatenate_part(g, xs, axis, i),),
    keeps=("",),
    through=lambda m, i, xs, y, *, axis: _concatenate_part(m, xs, axis, i),
    shape=_concatenate_shape,
    batch=lambda on, v, size, *, axis: concatenate_p(*all_batched(on, v, size), axis=axis + 1),
    samples=lambda d: [
        sample(d.normal(2, 3), d.normal(4, 3), axis=0),
        sample(d.normal(2, 1), d.normal(2, 0), d.normal(2, 2), axis=1),
        sample(d.normal(3), axis=0),
    ],
)


def _pad_back(g, xs, y, *, widths):
    index = tuple(slice(a, a + n) for (a, _), n in zip(widths, xs[0].shape, strict=True))
    return slice_p(g, index=index)


def _pad_forward(be, x, *, widths):
    return be.xp.pad(x, widths) if widths else be.xp.array(x)  # no widths are no integers to NumPy


pad_p = Primitive(
    "pad",
    forward=_pad_forward,
    linear=True,
    vjp=(_pad_back,),
    keeps=("",),
    through=lambda m, i, xs, y, *, widths: _pad_back(m, xs, y, widths=widths),
    shape=lambda x, *, widths: Aval(
        tuple(a + n + b for (a, b), n in zip(widths, x.shape, strict=True)), dtype_of(x)
    ),
    batch=lambda on, v, size, *, widths: pad_p(v[0], widths=((0, 0), *widths)),
    samples=lambda d: [
        sample(d.normal(2, 3), widths=((1, 0), (2, 1))),
        sample(d.normal(4), widths=((0, 2),)),
        sample(d.normal(0, 2), widths=((1, 1), (0, 0))),
        sample(d.normal(), widths=()),
    ],
)


def _repeat_back(g, xs, y, *, count, axis):
    """The sum of the copies, which stand side by side."""
    s = xs[0].shape
    copies = reshape_p(g, shape=(*s[: axis + 1], count, *s[axis + 1 :]))
    return REGISTRY["sum"](copies, axis=(axis + 1,), keepdims=False)


def _repeat_through(m, i, xs, y, *, count, axis):
    s = xs[0].shape
    copies = reshape_p(m, shape=(*s[: axis + 1], count, *s[axis + 1 :]))
    return REGISTRY["any"](copies, axis=(axis + 1,), keepdims=False)


repeat_p = Primitive(
    "repeat",
    forward=lambda be, x, *, count, axis: be.xp.repeat(x, count, axis),
    linear=True,
    vjp=(_repeat_back,),
    keeps=("",),
    through=_repeat_through,
    shape=lambda x, *, count, axis: Aval(
        (*x.shape[:axis], x.shape[axis] * count, *x.shape[axis + 1 :]), dtype_of(x)
    ),
    batch=lambda on, v, size, *, count, axis: repeat_p(v[0], count=count, axis=axis + 1),
    samples=lambda d: [
        sample(d.normal(2, 3), count=3, axis=1),
        sample(d.normal(2, 3, 2), count=2, axis=0),
        sample(d.normal(4), count=1, axis=0),
        sample(d.normal(0, 2), count=2, axis=0),
        sample(d.normal(2), count=0, axis=0),
    ],
)


# ---------------------------------------------------------------------------------------------- NumPy's functions
@implements(np.concatenate, *([np.concat] if hasattr(np, "concat") else []))
def concatenate(arrays, axis=0, out=None, *, dtype=None, casting="same_kind"):
    """NumPy's ``concatenate``; ``axis=None`` flattens first."""
    refuse("concatenate", out=(out, None), casting=(casting, "same_kind"))
    arrays = operands(*arrays)
    if not arrays:
        raise ValueError("need at least one array to concatenate")
    if axis is None:
        arrays, axis = [ravel(alias(a)) for a in arrays], 0
    shapes = [shape_of(a) for a in arrays]
    if not shapes[0]:
        raise ValueError("zero-dimensional arrays cannot be concatenated")
    axis = normal_axis("concatenate", axis, len(shapes[0]))
    for i, s in enumerate(shapes):
        if len(s) != len(shapes[0]) or any(
            a != b for j, (a, b) in enumerate(zip(s, shapes[0], strict=True)) if j != axis
        ):
            raise ValueError(
                f"concatenate: array 0 has shape {shapes[0]} and array {i} has shape {s}; they must agree except "
                f"along axis {axis}."
            )
    if dtype is not None:
        arrays = [cast(a, dtype) for a in arrays]
    return concatenate_p(*arrays, axis=axis)


@implements(np.stack)
def stack(arrays, axis=0, out=None, *, dtype=None, casting="same_kind"):
    """NumPy's ``stack``."""
    refuse("stack", out=(out, None), casting=(casting, "same_kind"))
    arrays = operands(*arrays)
    if not arrays:
        raise ValueError("need at least one array to stack")
    shapes = {shape_of(a) for a in arrays}
    if len(shapes) != 1:
        raise ValueError(f"stack: all arrays must have one shape, got {sorted(shapes)}")
    s = shapes.pop()
    axis = normal_axis("stack", axis, len(s) + 1)
    parts = [reshape_p(alias(a), shape=(*s[:axis], 1, *s[axis:])) for a in arrays]
    return concatenate(parts, axis, dtype=dtype)


@implements(np.vstack)
def vstack(tup, *, dtype=None, casting="same_kind"):
    """NumPy's ``vstack``."""
    return concatenate([atleast_2d(alias(a)) for a in tup], 0, dtype=dtype, casting=casting)


@implements(np.hstack)
def hstack(tup, *, dtype=None, casting="same_kind"):
    """NumPy's ``hstack``."""
    arrays = [atleast_1d(alias(a)) for a in tup]
    return concatenate(arrays, 0 if ndim_of(arrays[0]) == 1 else 1, dtype=dtype, casting=casting)


@implements(np.dstack)
def dstack(tup):
    """NumPy's ``dstack``."""
    return concatenate([atleast_3d(alias(a)) for a in tup], 2)


@implements(np.column_stack)
def column_stack(tup):
    """NumPy's ``column_stack``."""
    columns = [reshape(alias(a), (-1, 1)) if ndim_of(a) < 2 else as_operand(a) for a in tup]
    return concatenate(columns, 1)


@implements(np.split)
def split(ary, indices_or_sections, axis=0):
    """NumPy's ``split``: equal sections, or at the given positions."""
    n = shape_of(ary)[normal_axis("split", axis, ndim_of(ary))]
    if isinstance(indices_or_sections, (int, np.integer)) and n % max(int(indices_or_sections), 1):
        raise ValueError("array split does not result in an equal division")
    return array_split(ary, indices_or_sections, axis)


@implements(np.array_split)
def array_split(ary, indices_or_sections, axis=0):
    """NumPy's ``array_split``: sections as equal as they can be, or at the given positions."""
    axis = normal_axis("array_split", axis, ndim_of(ary))
    n = shape_of(ary)[axis]
    if isinstance(indices_or_sections, (int, np.integer)):
        k = int(indices_or_sections)
        if k < 1:
            raise ValueError("number sections must be larger than 0.")
        each, more = divmod(n, k)
        cuts = [i * each + min(i, more) for i in range(1, k)]
    else:
        cuts = [operator.index(i) for i in indices_or_sections]
    index = (slice(None),) * axis
    return [
        slice_p(ary, index=(*index, slice(*slice(a, b).indices(n))))
        for a, b in zip([0, *cuts], [*cuts, n], strict=True)
    ]


@implements(np.roll)
def roll(a, shift, axis=None):
    """NumPy's ``roll``; shifts of one axis add up."""
    a = as_operand(a)
    if axis is None:
        return mark_fresh(reshape(roll(ravel(alias(a)), shift, 0), shape_of(a)))
    pairs = np.broadcast(shift, axis)
    if pairs.ndim > 1:
        raise ValueError("'shift' and 'axis' should be scalars or 1D sequences")
    shifts = {}
    for k, ax in pairs:
        ax = normal_axis("roll", int(ax), ndim_of(a))
        shifts[ax] = shifts.get(ax, 0) + int(k)
    for ax, k in shifts.items():
        n = shape_of(a)[ax]
        if n and k % n:
            first, second = split(alias(a), [n - k % n], ax)
            a = concatenate([second, first], ax)
    return copied(a) if is_traced(a) else a


@implements(np.repeat)
def repeat(a, repeats, axis=None):
    """NumPy's ``repeat``; the counts are known numbers."""
    if axis is None:
        a, axis = ravel(alias(as_operand(a))), 0
    axis = normal_axis("repeat", axis, ndim_of(a))
    if np.size(repeats) == 1:
        count = operator.index(np.asarray(repeats).item())
        if count < 0:
            raise ValueError("repeats may not contain negative values.")
        return repeat_p(a, count=count, axis=axis)
    return take_p(a, np.repeat(np.arange(shape_of(a)[axis]), repeats), axis=axis)


@implements(np.tile)
def tile(A, reps):
    """NumPy's ``tile``."""
    reps = (reps,) if isinstance(reps, (int, np.integer)) else tuple(reps)
    s = shape_of(A)
    n = max(len(reps), len(s))
    s, reps = (1,) * (n - len(s)) + s, (1,) * (n - len(reps)) + reps
    pairs = tuple(k for r, m in zip(reps, s, strict=True) for k in (r, m))
    x = reshape(alias(A), tuple(k for m in s for k in (1, m)))
    lengths = tuple(r * m for r, m in zip(reps, s, strict=True))
    return mark_fresh(copied(reshape(broadcast_to_p(x, shape=pairs), lengths)))


methods["repeat"] = repeat
