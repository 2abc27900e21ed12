"""Putting entries in other places: turning, splitting, nesting, inserting, deleting, grids and windows."""

from __future__ import annotations

import operator

import numpy as np

from nnmath_core._ext._autodiff import StageTracer, alias, mark_fresh, value_of
from nnmath_core.autodiff.ops.compare import greater_equal, less, logical_and
from nnmath_core.autodiff.ops.contract import diag
from nnmath_core.autodiff.ops.conventions import (
    as_operand,
    beside,
    constant,
    dtype_of,
    is_traced,
    ndim_of,
    normal_axes,
    normal_axis,
    on_host,
    operands,
    require_value,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import floor_divide, remainder
from nnmath_core.autodiff.ops.index import slice_p, take_p
from nnmath_core.autodiff.ops.join import concatenate, split, stack
from nnmath_core.autodiff.ops.plain import numpys, optional
from nnmath_core.autodiff.ops.reduce import all as all_of
from nnmath_core.autodiff.ops.select import clip
from nnmath_core.autodiff.ops.shape import (
    broadcast_to,
    cast,
    copied,
    flip,
    moveaxis,
    ravel,
    reshape,
    reshape_p,
    transpose,
)
from nnmath_core.checks import require_in, sentence
from nnmath_core.errors import DtypeError, TraceError

__all__ = [
    "append",
    "apply_along_axis",
    "apply_over_axes",
    "block",
    "delete",
    "diag_indices_from",
    "diagflat",
    "dsplit",
    "hsplit",
    "insert",
    "ix_",
    "meshgrid",
    "ravel_multi_index",
    "resize",
    "rollaxis",
    "rot90",
    "sliding_window_view",
    "tril_indices_from",
    "trim_zeros",
    "triu_indices_from",
    "unravel_index",
    "unstack",
    "vsplit",
]


# ---------------------------------------------------------------------------------------------- turning, splitting
@numpys(np.rot90)
def rot90(m, k=1, axes=(0, 1)):
    """NumPy's ``rot90``: turned k times by a right angle, from the first of two axes towards the second."""
    m, axes = as_operand(m), tuple(map(operator.index, axes))
    n = ndim_of(m)
    if len(axes) != 2:
        raise ValueError("len(axes) must be 2.")
    if axes[0] == axes[1] or abs(axes[0] - axes[1]) == n:
        raise ValueError("Axes must be different.")
    if not all(-n <= a < n for a in axes):
        raise ValueError(f"Axes={axes} out of range for array of ndim={n}.")
    a, b = (a % n for a in axes)
    order = list(range(n))
    order[a], order[b] = b, a
    k = operator.index(k) % 4
    if k == 0:
        return m[:]
    if k == 2:
        return flip(m, (a, b))
    return transpose(flip(m, b), order) if k == 1 else flip(transpose(m, order), b)


@numpys(np.rollaxis)
def rollaxis(a, axis, start=0):
    """NumPy's ``rollaxis``: one axis moved to stand before another."""
    n = ndim_of(a)
    axis = normal_axis("rollaxis", axis, n)
    start = operator.index(start)
    if not -n <= start <= n:
        raise np.exceptions.AxisError(
            f"'start' arg requires {-n} <= start < {n + 1}, but {start} was passed in"
        )
    start = start + n if start < 0 else start
    return moveaxis(a, axis, start - (axis < start))


def _splitter(name, axis_of, least):
    def parts(ary, indices_or_sections):
        n = ndim_of(ary)
        if n < least:
            raise ValueError(f"{name} only works on arrays of {least} or more dimensions")
        return split(ary, indices_or_sections, axis_of(n))

    parts.__name__ = parts.__qualname__ = name
    parts.__doc__ = f"NumPy's ``{name}``."
    return numpys(getattr(np, name))(parts)


hsplit = _splitter("hsplit", lambda n: min(n - 1, 1), 1)
vsplit = _splitter("vsplit", lambda n: 0, 2)
dsplit = _splitter("dsplit", lambda n: 2, 3)


@numpys(*optional("unstack"))  # since NumPy 2.1
def unstack(x, /, *, axis=0):
    """The parts of an array along one axis, without that axis, as a tuple."""
    x = as_operand(x)
    if not shape_of(x):
        raise ValueError("Input array must be at least 1-d.")
    axis = normal_axis("unstack", axis, ndim_of(x))
    index = (slice(None),) * axis
    return tuple(slice_p(x, index=(*index, i)) for i in range(shape_of(x)[axis]))


# ---------------------------------------------------------------------------------------------- joining
@numpys(np.append)
def append(arr, values, axis=None):
    """NumPy's ``append``: one array after another; without an axis both are flattened."""
    return concatenate(operands(arr, values, numbers=True), axis)


@numpys(np.block)
def block(arrays):
    """NumPy's ``block``: nested lists of blocks as one array, the innermost lists along the last axis."""
    depth = _depth(arrays, ())
    ndim = max([depth, *map(ndim_of, _leaves(arrays))])

    def build(x, level):
        if isinstance(x, list):
            return concatenate([build(v, level + 1) for v in x], level - depth)
        s = shape_of(x)
        return reshape_p(alias(x), shape=(1,) * (ndim - len(s)) + s)

    return build(arrays, 0) if depth else copied(arrays)


def _depth(x, place):
    """How deep the lists are nested, which must be the same everywhere."""
    shown = "arrays" + "".join(f"[{i}]" for i in place)
    if isinstance(x, tuple):
        raise TypeError(
            f"{shown} is a tuple. Only lists can be used to arrange blocks, and np.block does not allow implicit "
            "conversion from tuple to ndarray."
        )
    if not isinstance(x, list):
        return 0
    if not x:
        raise ValueError(f"List at {shown} cannot be empty")
    depths = [_depth(v, (*place, i)) for i, v in enumerate(x)]
    for i, d in enumerate(depths):
        if d != depths[0]:
            raise ValueError(
                f"List depths are mismatched. {shown}[0] has depth {depths[0]}, but {shown}[{i}] has depth {d}"
            )
    return depths[0] + 1


def _leaves(x):
    return [leaf for v in x for leaf in _leaves(v)] if isinstance(x, list) else [x]


# ---------------------------------------------------------------------------------------------- by positions
def _gather(x, positions, axis=0):
    """Entries of x at known positions."""
    return take_p(x, beside(x, positions), axis=axis)


def _positions(who, obj):
    """Positions as NumPy takes them: what is traced gives its values when it is integer or boolean."""
    if not is_traced(obj):
        return on_host(obj)
    if dtype_of(obj).kind not in "biu":
        raise DtypeError(
            sentence(
                who,
                "obj",
                "integers",
                f"a traced array of {dtype_of(obj)}",
                "Round it: `.astype(int)`.",
            )
        )
    return on_host(require_value(f"np.{who}", obj))


@numpys(np.insert)
def insert(arr, obj, values, axis=None):
    """NumPy's ``insert``: values before the given positions, converted to the dtype of the array."""
    arr, values = operands(arr, values, numbers=True)
    if axis is None:
        arr, axis = ravel(alias(arr)), 0
    n = int(np.prod(shape_of(arr)))
    more = int(np.prod(shape_of(values)))
    if dtype_of(values).kind == "c" and dtype_of(arr).kind != "c":
        raise TypeError("insert: complex values do not fit a real array.")
    places = np.arange(n).reshape(shape_of(arr))
    fresh = np.arange(n, n + more).reshape(shape_of(values))
    places = np.insert(
        places, _positions("insert", obj), fresh, axis
    )  # NumPy's own checks, broadcasting and order
    parts = [ravel(alias(arr)), reshape(alias(cast(values, dtype_of(arr))), (-1,))]
    return _gather(concatenate(parts), places)


@numpys(np.delete)
def delete(arr, obj, axis=None):
    """NumPy's ``delete``: what is left without the given positions."""
    arr = as_operand(arr)
    if axis is None:
        arr, axis = ravel(alias(arr)), 0
    axis = normal_axis("delete", axis, ndim_of(arr))
    return _gather(arr, np.delete(np.arange(shape_of(arr)[axis]), _positions("delete", obj)), axis)


@numpys(np.resize)
def resize(a, new_shape):
    """NumPy's ``resize``: the entries in order, repeated as often as the new shape needs them."""
    a = as_operand(a)
    n = int(np.prod(shape_of(a)))
    places = np.resize(np.arange(n), new_shape)
    if n == 0:
        return constant(a, places.shape, 0, dtype_of(a))
    return _gather(ravel(alias(a)), places)


@numpys(np.trim_zeros)
def trim_zeros(filt, trim="fb", axis=None):
    """NumPy's ``trim_zeros``: without the zeros at the front, at the back, or both."""
    filt, trim = as_operand(filt), trim.lower()
    require_in("trim_zeros", "trim", trim, ("fb", "bf", "f", "b"))
    axes = normal_axes("trim_zeros", axis, ndim_of(filt))
    if not axes:
        return filt
    found = [
        (int(i.min()), int(i.max()) + 1) if i.size else (0, 0)
        for i in require_value("np.trim_zeros", filt).nonzero()
    ]
    index = [slice(None)] * ndim_of(filt)
    for k in axes:
        first, last = found[k]
        zeros = first == last
        index[k] = slice(
            first if "f" in trim or zeros else None, last if "b" in trim or zeros else None
        )
    return slice_p(filt, index=tuple(index))


@numpys(np.diagflat)
def diagflat(v, k=0):
    """NumPy's ``diagflat``: the matrix with the flattened entries on a diagonal."""
    return diag(reshape(alias(as_operand(v)), (-1,)), k)


@numpys(np.lib.stride_tricks.sliding_window_view)
def sliding_window_view(x, window_shape, axis=None, *, subok=False, writeable=False):
    """NumPy's ``sliding_window_view``: the windows along some axes, as new axes at the end; of a tracer a copy."""
    x = as_operand(x)
    lengths = tuple(window_shape) if np.iterable(window_shape) else (window_shape,)
    n = ndim_of(x)
    if axis is None:
        axes = tuple(range(n))
        if len(lengths) != n:
            raise ValueError(
                f"Since axis is None, must provide window_shape for all dimensions of `x`; got {len(lengths)} "
                f"window_shape elements and `x.ndim` is {n}."
            )
    else:
        axes = tuple(
            normal_axis("sliding_window_view", a, n)
            for a in (axis if np.iterable(axis) else (axis,))
        )
        if len(lengths) != len(axes):
            raise ValueError(
                f"Must provide matching length window_shape and axis; got {len(lengths)} window_shape elements and "
                f"{len(axes)} axes elements."
            )
    if any(operator.index(w) < 0 for w in lengths):
        raise ValueError("`window_shape` cannot contain negative values")
    for w, a in zip(lengths, axes, strict=True):
        count = shape_of(x)[a] - w + 1
        if count < 1:
            raise ValueError("window shape cannot be larger than input array shape")
        x = moveaxis(_gather(x, np.arange(count)[:, None] + np.arange(w), a), a + 1, -1)
    return copied(x) if is_traced(x) and not axes else x


# ---------------------------------------------------------------------------------------------- grids and index arrays
@numpys(np.meshgrid)
def meshgrid(*xi, copy=True, sparse=False, indexing="xy"):
    """NumPy's ``meshgrid``: coordinates as arrays of all points of a grid."""
    require_in("meshgrid", "indexing", indexing, ("xy", "ij"))
    n = len(xi)
    places = list(range(n))
    if indexing == "xy" and n > 1:
        places[:2] = 1, 0
    lines = [
        reshape(x, tuple(-1 if k == place else 1 for k in range(n)))
        for x, place in zip(map(as_operand, xi), places, strict=True)
    ]
    if not sparse:
        full = np.broadcast_shapes(*map(shape_of, lines))
        lines = [broadcast_to(line, full) for line in lines]
    return tuple(copied(alias(line)) if copy else line for line in lines)


@numpys(np.ix_)
def ix_(*args):
    """NumPy's ``ix_``: index vectors that meet in every combination; booleans become positions."""
    out, n = [], len(args)
    for k, x in enumerate(map(as_operand, args)):
        if ndim_of(x) != 1:
            raise ValueError("Cross index must be 1 dimensional")
        if dtype_of(x) == np.bool_:
            (x,) = require_value("np.ix_", x).nonzero()
        out.append(reshape_p(x, shape=(1,) * k + shape_of(x) + (1,) * (n - k - 1)))
    return tuple(out)


def _of_shape(name):
    """A question about the shape of an array, answered by NumPy for an array of that shape."""
    f = getattr(np, name)

    def answer(arr, *args, **kw):
        return f(np.broadcast_to(0, shape_of(arr)), *args, **kw)

    answer.__name__ = answer.__qualname__ = name
    answer.__doc__ = f"NumPy's ``{name}``: plain index arrays, which depend on the shape alone."
    return numpys(f)(answer)


diag_indices_from = _of_shape("diag_indices_from")
tril_indices_from = _of_shape("tril_indices_from")
triu_indices_from = _of_shape("triu_indices_from")


@numpys(np.unravel_index)
def unravel_index(indices, shape, order="C"):
    """NumPy's ``unravel_index``: positions in a flattened array as an index for each axis."""
    indices = as_operand(indices)
    shape = tuple(map(operator.index, shape)) if np.iterable(shape) else (operator.index(shape),)
    require_in("unravel_index", "order", order, ("C", "F"))
    _require_inside("unravel_index", [indices], [int(np.prod(shape))])
    out = []
    for n in shape[::-1] if order == "C" else shape:
        out.append(remainder(indices, n))
        indices = floor_divide(indices, n)
    return tuple(out[::-1] if order == "C" else out)


@numpys(np.ravel_multi_index)
def ravel_multi_index(multi_index, dims, mode="raise", order="C"):
    """NumPy's ``ravel_multi_index``: an index for each axis as the position in the flattened array."""
    parts = [as_operand(i) for i in multi_index]
    dims = tuple(map(operator.index, dims))
    modes = tuple(mode) if isinstance(mode, (tuple, list)) else (mode,) * len(dims)
    require_in("ravel_multi_index", "order", order, ("C", "F"))
    if len(parts) != len(dims):
        raise ValueError(
            f"parameter multi_index must be a sequence of length {len(dims)}, got {len(parts)}"
        )
    flat = 0
    rows = list(zip(parts, dims, modes, strict=True))
    for i, n, how in rows if order == "C" else rows[::-1]:
        require_in("ravel_multi_index", "mode", how, ("raise", "wrap", "clip"))
        if how == "raise":
            _require_inside("ravel_multi_index", [i], [n])
        elif how == "wrap":
            i = remainder(i, n)
        else:
            i = clip(i, 0, n - 1)
        flat = flat * n + i
    return flat


def _require_inside(who, indices, lengths):
    for i, n in zip(indices, lengths, strict=True):
        if dtype_of(i).kind not in "iu":
            raise TypeError(f"{who}: only int indices permitted")
        values = value_of(i)
        if isinstance(values, StageTracer):
            raise TraceError(
                f"{who}: whether an index is in range depends on values, which do not exist yet while staging. "
                'Use np.ravel_multi_index(..., mode="clip"), or // and % for the way back.'
            )
        if not bool(all_of(logical_and(greater_equal(values, 0), less(values, n)))):
            raise ValueError(f"{who}: an index is out of bounds for size {n}")


# ---------------------------------------------------------------------------------------------- along and over axes
@numpys(np.apply_along_axis)
def apply_along_axis(func1d, axis, arr, *args, **kwargs):
    """NumPy's ``apply_along_axis``: a function of vectors on every vector along an axis, one after the other."""
    arr = as_operand(arr)
    axis = normal_axis("apply_along_axis", axis, ndim_of(arr))
    rows = moveaxis(alias(arr), axis, -1)
    outer = shape_of(rows)[:-1]
    if 0 in outer:
        raise ValueError("Cannot apply_along_axis when any iteration dimensions are 0")
    results = [as_operand(func1d(rows[i], *args, **kwargs)) for i in np.ndindex(*outer)]
    inner = shape_of(results[0])
    y = reshape(alias(stack(results)), (*outer, *inner))
    k, n = len(inner), len(outer)
    return mark_fresh(moveaxis(y, tuple(range(n, n + k)), tuple(range(axis, axis + k))))


@numpys(np.apply_over_axes)
def apply_over_axes(func, a, axes):
    """NumPy's ``apply_over_axes``: a reduction over several axes, one after the other, which keeps them."""
    a = as_operand(a)
    n = ndim_of(a)
    for axis in axes if np.iterable(axes) else (axes,):
        axis = axis + n if axis < 0 else axis
        y = func(a, axis)
        if ndim_of(y) != n:
            y = reshape_p(y, shape=(*shape_of(y)[:axis], 1, *shape_of(y)[axis:]))
            if ndim_of(y) != n:
                raise ValueError("function is not returning an array of the correct shape")
        a = y
    return a
