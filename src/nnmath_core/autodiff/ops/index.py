"""Indexing: slices, integer and boolean arrays, `take_along_axis`, sorting."""

from __future__ import annotations

import math
import operator

import numpy as np

from nnmath_core._ext._autodiff import (
    Tracer,
    alias,
    mark_fresh,
)
from nnmath_core.autodiff.ops.conventions import (
    Aval,
    as_operand,
    beside,
    constant,
    dtype_of,
    expand_batch,
    implements,
    methods,
    ndim_of,
    normal_axis,
    refuse,
    require_value,
    shape_of,
)
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import broadcast_to, cast, flip_p, moveaxis, ravel, reshape_p
from nnmath_core.autodiff.primitive import Primitive, sample
from nnmath_core.checks import require_in, sentence
from nnmath_core.device import backend_of, entering
from nnmath_core.device.cpu import add_at
from nnmath_core.errors import DtypeError

__all__ = [
    "argsort",
    "compress",
    "extract",
    "getitem",
    "nonzero",
    "sort",
    "take",
    "take_along_axis",
]


def _mask_beside(indices, mask):
    """A mask that follows from an index alone is made on the host; the indices may be on a device."""
    return beside(indices, mask) if isinstance(mask, np.ndarray) else mask


# ---------------------------------------------------------------------------------------------- slices
def _batched_index(index):
    return (slice(None), *index)


def _add_sliced(out, g, xs, *, index):
    out[index] += g


slice_p = Primitive(
    "slice",
    forward=lambda be, x, *, index: x[index],
    linear=True,
    view=True,
    vjp=(lambda g, xs, y, *, index: unslice_p(g, index=index, shape=xs[0].shape),),
    keeps=("",),
    selects=lambda i, xs, y, *, index: unslice_p(
        np.ones(y.shape, bool), index=index, shape=xs[0].shape
    ),
    through=lambda m, i, xs, y, *, index: unslice_p(m, index=index, shape=xs[0].shape),
    accumulate=_add_sliced,
    shape=lambda x, *, index: Aval(_sliced_shape(x.shape, index), dtype_of(x)),
    batch=lambda on, v, size, *, index: slice_p(v[0], index=_batched_index(index)),
    samples=lambda d: [
        sample(d.normal(4, 5), index=(slice(1, 4, 2), slice(None))),
        sample(d.normal(4, 5), index=(2, slice(None, None, -1))),
        sample(d.normal(4, 5), index=(slice(None), None, -1)),
        sample(d.normal(4), index=(slice(3, 1),)),
    ],
)


def _sliced_shape(shape, index):
    return np.broadcast_to(np.False_, shape)[index].shape


unslice_p = Primitive(
    "unslice",
    forward=lambda be, g, *, index, shape: be.index_put(shape, g.dtype, index, g),
    linear=True,
    vjp=(lambda g, xs, y, *, index, shape: slice_p(g, index=index),),
    keeps=("",),
    through=lambda m, i, xs, y, *, index, shape: slice_p(m, index=index),
    shape=lambda g, *, index, shape: Aval(shape, dtype_of(g)),
    batch=lambda on, v, size, *, index, shape: unslice_p(
        v[0], index=_batched_index(index), shape=(size, *shape)
    ),
    samples=lambda d: [
        sample(d.normal(2, 5), index=(slice(1, 4, 2), slice(None)), shape=(4, 5)),
        sample(d.normal(5), index=(2, slice(None, None, -1)), shape=(4, 5)),
    ],
)


# ---------------------------------------------------------------------------------------------- integer arrays
def _batch_take(on, v, size, *, axis):
    x, i = v
    if not on[1]:
        return take_p(x, i, axis=axis + 1)
    if not on[0]:
        y = take_p(
            x, i, axis=axis
        )  # x without batch: the index axes, batch first among them, stand at `axis`
        return moveaxis(y, axis, 0)
    x, s = moveaxis(x, axis + 1, 1), shape_of(x)
    n = s[axis + 1]
    rest = shape_of(x)[2:]
    flat = reshape_p(x, shape=(size * n, *rest))
    offset = np.arange(size).reshape((size,) + (1,) * (ndim_of(i) - 1)) * n
    y = take_p(flat, _checked(i, n, axis, alone=False) + beside(i, offset), axis=0)
    k = ndim_of(i)
    return (
        moveaxis(y, tuple(range(1, k)), tuple(range(axis + 1, axis + k))) if k > 1 and axis else y
    )


def _add_taken(out, g, xs, *, axis):
    add_at(out, (slice(None),) * axis + (xs[1],), g)


take_p = Primitive(
    "take",
    forward=lambda be, x, i, *, axis: be.xp.take(x, i, axis=axis),
    multilinear=True,
    vjp=(lambda g, xs, y, *, axis: scatter_add_p(g, xs[1], axis=axis, shape=xs[0].shape), None),
    keeps=("1", ""),
    selects=lambda i, xs, y, *, axis: _reached(xs[1], axis, xs[0].shape, y.shape),
    through=lambda m, i, xs, y, *, axis: (
        scatter_add_p(_mask_beside(xs[1], m), xs[1], axis=axis, shape=xs[0].shape) > 0
    ),
    accumulate=_add_taken,
    shape=lambda x, i, *, axis: Aval(
        x.shape[:axis] + shape_of_operand(i) + x.shape[axis + 1 :], dtype_of(x)
    ),
    batch=_batch_take,
    samples=lambda d: [
        sample(d.normal(4, 3), d.index(4, 5), axis=0),
        sample(d.normal(2, 4, 3), d.index(4, 2, 3), axis=1),
        sample(d.normal(3, 4), np.array(2), axis=1),
        sample(d.normal(3), d.index(3, 0), axis=0),
    ],
)


def shape_of_operand(i):
    """Shape of an index operand in a shape rule."""
    return tuple(i.shape) if hasattr(i, "shape") else ()


def _reached(i, axis, shape, taken):
    """Entries of the operand that are taken at least once."""
    ones = constant(i, taken, 1, np.intp)
    return scatter_add_p(ones, i, axis=axis, shape=shape) > 0


def _batch_scatter(on, v, size, *, axis, shape):
    g, i = v
    if not on[1]:
        return scatter_add_p(g, i, axis=axis + 1, shape=(size, *shape))
    g = g if on[0] else expand_batch(g, size)
    n, k = shape[axis], ndim_of(i) - 1
    # index axes of g to the front, one flat axis of size * n
    if axis and k:
        g = moveaxis(g, tuple(range(axis + 1, axis + 1 + k)), tuple(range(1, 1 + k)))
    rest = shape[:axis] + shape[axis + 1 :]
    offset = np.arange(size).reshape((size,) + (1,) * k) * n
    y = scatter_add_p(
        g, _checked(i, n, axis, alone=False) + beside(i, offset), axis=0, shape=(size * n, *rest)
    )
    return moveaxis(reshape_p(y, shape=(size, n, *rest)), 1, axis + 1)


def _dtype_of_sums(g):
    """Booleans are counted; all other dtypes stay as they are."""
    return np.dtype(np.intp) if dtype_of(g) == np.bool_ else dtype_of(g)


def _scatter_forward(be, g, i, *, axis, shape):
    return be.index_add(shape, _dtype_of_sums(g), (slice(None),) * axis + (i,), g)


scatter_add_p = Primitive(
    "scatter_add",
    forward=_scatter_forward,
    multilinear=True,
    vjp=(lambda g, xs, y, *, axis, shape: take_p(g, xs[1], axis=axis), None),
    keeps=("1", ""),
    through=lambda m, i, xs, y, *, axis, shape: take_p(_mask_beside(xs[1], m), xs[1], axis=axis),
    shape=lambda g, i, *, axis, shape: Aval(shape, _dtype_of_sums(g)),
    batch=_batch_scatter,
    samples=lambda d: [
        sample(d.normal(5, 3), d.index(4, 5), axis=0, shape=(4, 3)),
        sample(d.normal(2, 2, 3, 3), d.index(4, 2, 3), axis=1, shape=(2, 4, 3)),
        sample(d.normal(0, 2), d.index(3, 0), axis=0, shape=(3, 2)),
    ],
)


def _mesh(i, axis):
    """The index tuple that addresses i along ``axis`` and every other axis in full."""
    s = shape_of(i)
    grid = [
        np.arange(n).reshape((1,) * k + (n,) + (1,) * (len(s) - k - 1)) for k, n in enumerate(s)
    ]
    return (*grid[:axis], i, *grid[axis + 1 :])


def _batch_along(p):
    def rule(on, v, size, *, axis, **params):
        x, i = (a if m else expand_batch(a, size) for m, a in zip(on, v, strict=True))
        if params:
            params = {"shape": (size, *params["shape"])}
        return p()(x, i, axis=axis + 1, **params)

    return rule


take_along_p = Primitive(
    "take_along_axis",
    forward=lambda be, x, i, *, axis: be.take_along_axis(x, i, axis=axis),
    multilinear=True,
    vjp=(lambda g, xs, y, *, axis: add_along_p(g, xs[1], axis=axis, shape=xs[0].shape), None),
    keeps=("1", ""),
    selects=lambda i, xs, y, *, axis: (
        add_along_p(constant(xs[1], y.shape, 1, np.intp), xs[1], axis=axis, shape=xs[0].shape) > 0
    ),
    through=lambda m, i, xs, y, *, axis: (
        add_along_p(_mask_beside(xs[1], m), xs[1], axis=axis, shape=xs[0].shape) > 0
    ),
    shape=lambda x, i, *, axis: Aval(i.shape, dtype_of(x)),
    batch=_batch_along(lambda: take_along_p),
    samples=lambda d: [
        sample(d.normal(3, 4), d.index(4, 3, 2), axis=1),
        sample(d.normal(3, 4), d.index(3, 5, 4), axis=0),
        sample(d.normal(5), d.index(5, 5), axis=0),
    ],
)


def _add_along_forward(be, g, i, *, axis, shape):
    dtype = np.intp if dtype_of(g) == np.bool_ else dtype_of(g)
    mesh = tuple(a if k == axis else be.xp.asarray(a) for k, a in enumerate(_mesh(i, axis)))
    return be.index_add(shape, dtype, mesh, g)


add_along_p = Primitive(
    "add_along_axis",
    forward=_add_along_forward,
    multilinear=True,
    vjp=(lambda g, xs, y, *, axis, shape: take_along_p(g, xs[1], axis=axis), None),
    keeps=("1", ""),
    through=lambda m, i, xs, y, *, axis, shape: take_along_p(
        _mask_beside(xs[1], m), xs[1], axis=axis
    ),
    shape=lambda g, i, *, axis, shape: Aval(shape, _dtype_of_sums(g)),
    batch=_batch_along(lambda: add_along_p),
    samples=lambda d: [
        sample(d.normal(3, 2), d.index(4, 3, 2), axis=1, shape=(3, 4)),
        sample(d.normal(5, 4), d.index(3, 5, 4), axis=0, shape=(3, 4)),
    ],
)
argsort_p = Primitive(
    "argsort",
    forward=lambda be, x, *, axis: be.xp.argsort(x, axis=axis, kind="stable"),
    differentiable=False,
    shape=lambda x, *, axis: Aval(x.shape, np.dtype(np.intp)),
    batch=lambda on, v, size, *, axis: argsort_p(v[0], axis=axis + 1),
    samples=lambda d: [sample(d.apart(3, 4), axis=1), sample(d.apart(5), axis=0)],
)


def _batch_last_writer(on, v, size, *, length):
    i = v[0]
    k = shape_of(i)[1]
    offset = beside(i, np.arange(size)[:, None] * length)
    first = beside(i, np.arange(size)[:, None] * k)
    y = reshape_p(
        last_writer_p(reshape_p(i + offset, shape=(size * k,)), length=size * length),
        shape=(size, length),
    )
    return where(y < 0, y, y - first)


last_writer_p = Primitive(
    "last_writer",
    forward=lambda be, i, *, length: (
        be.index_put((length,), np.intp, i, be.xp.arange(1, i.shape[0] + 1)) - 1
    ),
    differentiable=False,
    shape=lambda i, *, length: Aval((length,), np.dtype(np.intp)),
    batch=_batch_last_writer,
    samples=lambda d: [
        sample(np.array([1, 4, 1, 0]), length=5),
        sample(np.array([], int), length=2),
    ],
)


# ---------------------------------------------------------------------------------------------- x[index]
def _no_traced_mask(i):
    return require_value("x[mask]", i, "Write np.where(mask, x, neutral).")


_BASIC = frozenset({int, slice, type(None), type(...)})


def getitem(x, index):
    """``x[index]`` with NumPy's meaning: basic, integer and boolean indices in any combination."""
    index = index if isinstance(index, tuple) else (index,)
    for i in index:
        if type(i) not in _BASIC:
            index = tuple(map(_entry, index))
            if not all(type(i) in _BASIC for i in index):
                return _advanced(x, index)
            break
    shape = shape_of(x)
    entry = len(index) == len(shape)  # one number, which shares no memory with x
    if ... in index or len(index) > len(shape):
        index = _full(index, len(shape))
    axis = 0
    for i in index:
        if type(i) is int:
            if not -shape[axis] <= i < shape[axis]:
                raise _outside(i, shape[axis], axis)
        else:
            entry = False
        axis += i is not None
    if entry:
        return mark_fresh(slice_p(alias(x), index=index))
    return slice_p(x, index=index)


def _entry(i):
    """One entry of an index: an int, slice, None, ``...``, traced integers, or an integer or boolean array."""
    if type(i) in _BASIC:
        return i
    if isinstance(i, (bool, np.bool_)):
        return np.asarray(i)
    if isinstance(i, (list, tuple, range)):
        i = np.asarray(i)
        i = i if i.size else i.astype(np.intp)
    elif not hasattr(i, "dtype"):
        if hasattr(i, "__index__"):
            return operator.index(i)
    elif not isinstance(i, (np.ndarray, Tracer)) and not hasattr(i, "__cuda_array_interface__"):
        i = np.asarray(i)
    kind = dtype_of(i).kind if hasattr(i, "dtype") else ""
    if kind == "b":
        return _no_traced_mask(i)
    if kind in ("i", "u"):
        return i if isinstance(i, Tracer) or shape_of(i) else operator.index(i)
    raise IndexError(
        "x[i]: an index must be made of integers, slices, ..., None, integer or boolean arrays, got "
        + (f"an array of {dtype_of(i)}" if kind else type(i).__name__)
        + "."
    )


def _is_mask(i):
    return hasattr(i, "dtype") and dtype_of(i) == np.bool_


def _uses(i):
    """Axes of the array that one entry of an index uses up."""
    return 0 if i is None or i is ... else ndim_of(i) if _is_mask(i) else 1


def _full(index, ndim):
    """The index with the ellipsis written out; the entries use up all axes."""
    used = sum(map(_uses, index))
    if used > ndim:
        raise IndexError(
            f"too many indices for array: array is {ndim}-dimensional, but {used} were indexed"
        )
    rest = (slice(None),) * (ndim - used)
    dots = [k for k, i in enumerate(index) if i is ...]
    if len(dots) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    return (*index[: dots[0]], *rest, *index[dots[0] + 1 :]) if dots else (*index, *rest)


def _outside(i, n, axis):
    return IndexError(f"index {i} is out of bounds for axis {axis} with size {n}")


def _advanced(x, index):
    """``x[index]`` with at least one index array: what is basic first, then one `take` along one axis."""
    shape = shape_of(x)
    # `basic` leaves an axis for each array in `picks`
    basic, picks, axes, place = [], [], [], None
    axis = kept = 0  # in x; in what `basic` leaves
    alone = sum(not (i is None or type(i) in _BASIC) for i in index) == 1
    for i in _full(index, len(shape)):
        if i is None or type(i) is slice:
            basic.append(i)
            kept += 1
            axis += i is not None
            continue
        place = kept if place is None else place
        if type(i) is int:
            if not -shape[axis] <= i < shape[axis]:
                raise _outside(i, shape[axis], axis)
            basic.append(i)
            axis += 1
            continue
        if not _is_mask(i):
            found, new = [_checked(i, shape[axis], axis, alone)], slice(None)
            axis += 1
        elif i.ndim:
            if i.shape != shape[axis : axis + i.ndim]:
                raise IndexError(
                    f"boolean index of shape {i.shape} does not match the array's axes of shape "
                    f"{shape[axis : axis + i.ndim]}"
                )
            found, new = i.nonzero(), slice(None)
            axis += i.ndim
        else:  # x[True] is x[None], x[False] is empty along the new axis
            found, new = [np.zeros(int(bool(i)), np.intp)], None
        for pick in found:
            basic.append(new)
            picks.append(pick)
            axes.append(kept)
            kept += 1
    # the new axes stand in the place of the advanced entries (integers among them), or first when those are apart
    advanced = [k for k, i in enumerate(index) if not (i is None or i is ... or type(i) is slice)]
    place = place if advanced[-1] - advanced[0] + 1 == len(advanced) else 0
    if any(i != slice(None) for i in basic):
        x = slice_p(x, index=tuple(basic))
    s = shape_of(x)
    try:
        np.broadcast_shapes(*map(shape_of, picks))
    except ValueError:
        raise IndexError(
            "shape mismatch: indexing arrays could not be broadcast together with shapes "
            + " ".join(str(shape_of(p)) for p in picks)
        ) from None
    flat = picks[0]
    for pick, k in zip(picks[1:], axes[1:], strict=True):
        flat = flat * s[k] + pick
    if axes != list(range(place, place + len(axes))):
        x = moveaxis(x, tuple(axes), tuple(range(place, place + len(axes))))
        s = shape_of(x)
    if len(axes) > 1:
        merged = int(np.prod(s[place : place + len(axes)]))
        x = reshape_p(x, shape=(*s[:place], merged, *s[place + len(axes) :]))
    return take_p(x, flat, axis=place)


def _checked(i, n, axis, alone=True):
    """Index integers, known ones checked against the length; negative entries are resolved, or left to `take` alone."""
    if isinstance(i, (int, np.integer, np.ndarray)):
        i = np.asarray(i, np.intp)
        if i.size and not (-n <= (low := i.min()) and i.max() < n):
            raise _outside(i[(i < -n) | (i >= n)][0], n, axis)
        return np.where(i < 0, i + n, i) if i.size and low < 0 else i
    i = cast(i, np.intp)
    return i if alone else where(i < 0, i + n, i)


# ---------------------------------------------------------------------------------------------- NumPy's functions
@implements(np.take)
def take(a, indices, axis=None, out=None, mode="raise"):
    """NumPy's ``take``; with ``mode`` "wrap" or "clip" indices outside are brought inside."""
    refuse("take", out=(out, None))
    require_in("take", "mode", mode, ("raise", "wrap", "clip"))
    if axis is None:
        a, axis = ravel(alias(as_operand(a))), 0
    axis = normal_axis("take", axis, ndim_of(a))
    n = shape_of(a)[axis]
    listed = not hasattr(indices, "dtype")
    if isinstance(indices, (list, tuple, range)):
        indices = as_operand(list(indices))
        indices = indices if math.prod(shape_of(indices)) else cast(indices, np.intp)
    if dtype_of(indices).kind not in "biu":
        raise DtypeError(
            sentence(
                "take", "indices", "integers", str(dtype_of(indices)), "Round them: `.astype(int)`."
            )
        )
    if mode != "raise" and n:
        indices = np.mod(indices, n) if mode == "wrap" else np.clip(indices, 0, n - 1)
    i = _checked(indices, n, axis)
    return take_p(a, beside(a, i) if listed and isinstance(i, np.ndarray) else i, axis=axis)


@implements(np.take_along_axis)
def take_along_axis(arr, indices, axis=-1):
    """NumPy's ``take_along_axis``."""
    if axis is None:
        arr, axis = ravel(alias(arr)), 0
    axis = normal_axis("take_along_axis", axis, ndim_of(arr))
    s, si = shape_of(arr), shape_of(indices)
    if len(s) != len(si):
        raise ValueError("`indices` and `arr` must have the same number of dimensions")
    if dtype_of(indices).kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    if any(k != axis and 1 not in (s[k], si[k]) and s[k] != si[k] for k in range(len(s))):
        raise IndexError(
            f"take_along_axis: `indices` must broadcast with `arr` but for axis {axis}, got the shapes {si} and {s}."
        )
    target = tuple(s[k] if si[k] == 1 and k != axis else si[k] for k in range(len(s)))
    i = broadcast_to(indices, target) if target != si else indices
    arr = broadcast_to(arr, tuple(s[k] if k == axis else target[k] for k in range(len(s))))
    return take_along_p(arr, i, axis=axis)


@implements(np.argsort)
def argsort(a, axis=-1, kind=None, order=None, *, stable=None, descending=False):
    """NumPy's ``argsort``, always stable, also from the largest down; it carries no derivative."""
    refuse("argsort", order=(order, None))
    a = as_operand(a)
    if axis is None:
        a, axis = ravel(alias(a)), 0
    if ndim_of(a) == 0 and axis in (0, -1):  # as NumPy has it, unlike sort
        return constant(a, (1,), 0, np.intp)
    return _order(a, normal_axis("argsort", axis, ndim_of(a)), descending)


def _order(a, axis, descending):
    """The positions that sort a; equal entries keep their order both ways."""
    if not descending:
        return argsort_p(a, axis=axis)
    backwards = argsort_p(flip_p(alias(a), axis=(axis,)), axis=axis)
    return shape_of(a)[axis] - 1 - flip_p(backwards, axis=(axis,))


@implements(np.sort)
def sort(a, axis=-1, kind=None, order=None, *, stable=None, descending=False):
    """NumPy's ``sort``, also from the largest down; equal entries keep their order, and each its own derivative."""
    refuse("sort", order=(order, None))
    a = as_operand(a)
    if axis is None:
        a, axis = ravel(alias(a)), 0
    axis = normal_axis("sort", axis, ndim_of(a))
    return take_along_p(a, _order(a, axis, descending), axis=axis)


@implements(np.nonzero)
@entering
def nonzero(a):
    """NumPy's ``nonzero``: plain index arrays."""
    return _no_traced_mask(a).nonzero()


@implements(np.compress)
def compress(condition, a, axis=None, out=None):
    """NumPy's ``compress``."""
    refuse("compress", out=(out, None))
    a, condition = as_operand(a), as_operand(condition)
    if ndim_of(condition) != 1:
        raise ValueError("condition must be a 1-d array")
    return take(a, _places(condition, a), axis)


def _places(condition, a):
    """Where the flat condition holds, beside a: on a device their number is read, being the shape of the result."""
    if hasattr(condition, "__cuda_array_interface__"):
        return backend_of(condition).xp.flatnonzero(condition)
    return beside(a, np.flatnonzero(np.asarray(condition)))


@implements(np.extract)
def extract(condition, arr):
    """NumPy's ``extract``."""
    arr = as_operand(arr)
    return take(ravel(alias(arr)), _places(as_operand(condition), arr), 0)


methods.update(
    {
        "take": take,
        "argsort": argsort,
        "nonzero": nonzero,
        "compress": lambda self, condition, axis=None, out=None: compress(
            condition, self, axis, out
        ),
    }
)
