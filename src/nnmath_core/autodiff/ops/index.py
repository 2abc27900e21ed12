"""Indexing: slices, integer and boolean arrays, `take_along_axis`, sorting, and functional updates."""

from __future__ import annotations

import operator

import numpy as np

from nnmath_core._ext._autodiff import BatchTracer, StageTracer, Tracer, value_of
from nnmath_core.autodiff.ops.conventions import (
    Aval,
    as_operand,
    beside,
    constant,
    dtype_of,
    expand_batch,
    implements,
    is_traced,
    methods,
    ndim_of,
    normal_axis,
    refuse,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import where
from nnmath_core.autodiff.ops.shape import broadcast_to, cast, copied, moveaxis, ravel, reshape_p
from nnmath_core.autodiff.primitive import Primitive, sample
from nnmath_core.errors import ShapeError, TraceError

__all__ = [
    "argsort",
    "at",
    "compress",
    "extract",
    "getitem",
    "nonzero",
    "sort",
    "take",
    "take_along_axis",
]

_BASIC = (int, np.integer, slice, type(None), type(...))


# ---------------------------------------------------------------------------------------------- slices
def _batched_index(index):
    return (slice(None), *index)


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
    y = take_p(flat, where(i < 0, i + n, i) + beside(i, offset), axis=0)
    k = ndim_of(i)
    return (
        moveaxis(y, tuple(range(1, k)), tuple(range(axis + 1, axis + k))) if k > 1 and axis else y
    )


take_p = Primitive(
    "take",
    forward=lambda be, x, i, *, axis: be.xp.take(x, i, axis=axis),
    multilinear=True,
    vjp=(lambda g, xs, y, *, axis: scatter_add_p(g, xs[1], axis=axis, shape=xs[0].shape), None),
    keeps=("1", ""),
    selects=lambda i, xs, y, *, axis: _reached(xs[1], axis, xs[0].shape, y.shape),
    through=lambda m, i, xs, y, *, axis: scatter_add_p(m, xs[1], axis=axis, shape=xs[0].shape) > 0,
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
        g, where(i < 0, i + n, i) + beside(i, offset), axis=0, shape=(size * n, *rest)
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
    through=lambda m, i, xs, y, *, axis, shape: take_p(m, xs[1], axis=axis),
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
    through=lambda m, i, xs, y, *, axis: add_along_p(m, xs[1], axis=axis, shape=xs[0].shape) > 0,
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
    through=lambda m, i, xs, y, *, axis, shape: take_along_p(m, xs[1], axis=axis),
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
    v = i
    while isinstance(v, Tracer):
        if isinstance(v, (BatchTracer, StageTracer)):
            raise TraceError(
                "x[mask]: the number of selected entries depends on values, which are not known under vmap or while "
                "staging. Write np.where(mask, x, neutral)."
            )
        v = value_of(v)
    return v


def getitem(x, index):
    """``x[index]`` with NumPy's meaning: basic, integer and boolean indices in any combination."""
    index = index if isinstance(index, tuple) else (index,)
    index = tuple(np.asarray(i) if isinstance(i, list) else i for i in index)
    shape = shape_of(x)
    if all(isinstance(i, _BASIC) and not isinstance(i, (bool, np.bool_)) for i in index):
        _sliced_shape(shape, index)  # NumPy's own errors for too many indices and out of bounds
        return slice_p(x, index=_full(index, len(shape)))
    return _advanced(x, index)


def _uses(i):
    """Axes of the array that one entry of an index uses up."""
    if i is None or i is ...:
        return 0
    return ndim_of(i) if hasattr(i, "dtype") and dtype_of(i) == np.bool_ else 1


def _full(index, ndim):
    """The index with the ellipsis written out."""
    if any(i is ... for i in index):
        k = next(j for j, i in enumerate(index) if i is ...)
        rest = ndim - sum(map(_uses, index))
        index = index[:k] + (slice(None),) * rest + index[k + 1 :]
    return index + (slice(None),) * (ndim - sum(map(_uses, index)))


def _advanced(x, index):
    expanded = []
    for i in index:
        if isinstance(i, (bool, np.bool_)):
            i = np.asarray(i)
        if hasattr(i, "dtype") and dtype_of(i) == np.bool_:
            i = _no_traced_mask(i)
            if i.ndim == 0:
                expanded += [None, np.zeros(int(bool(i)), np.intp)]
            else:
                expanded.append(i)
        elif isinstance(i, _BASIC):
            expanded.append(i)
        elif hasattr(i, "dtype") and dtype_of(i).kind in "iu":
            expanded.append(i)
        else:
            raise IndexError(
                "x[i]: an index must be made of integers, slices, ..., None, integer or boolean arrays, got "
                + (f"an array of {dtype_of(i)}" if hasattr(i, "dtype") else type(i).__name__)
                + "."
            )
    shape = shape_of(x)
    index = _full(tuple(expanded), len(shape))
    if sum(map(_uses, index)) > len(shape):
        raise IndexError(f"too many indices for array: array is {len(shape)}-dimensional")
    # masks become integer arrays; a position in `parts` is an axis of the sliced array or a new one
    parts, axis = [], 0
    for i in index:
        if hasattr(i, "dtype") and dtype_of(i) == np.bool_:
            if i.shape != shape[axis : axis + i.ndim]:
                raise IndexError(
                    f"boolean index of shape {i.shape} does not match the array's axes of shape "
                    f"{shape[axis : axis + i.ndim]}"
                )
            parts += list(i.nonzero())
            axis += i.ndim
        else:
            parts.append(i)
            axis += i is not None
    arrays = [
        k
        for k, i in enumerate(parts)
        if (hasattr(i, "dtype") and shape_of(i) != ()) or isinstance(i, Tracer)
    ]
    if not arrays:  # 0-d integer arrays only: basic after all
        return slice_p(
            x, index=tuple(operator.index(i) if hasattr(i, "dtype") else i for i in parts)
        )
    # plain integers count as index arrays beside one
    arrays = [k for k, i in enumerate(parts) if not (i is None or isinstance(i, slice))]
    adjacent = arrays[-1] - arrays[0] + 1 == len(arrays)
    basic = tuple(slice(None) if k in arrays else i for k, i in enumerate(parts))
    if any(i != slice(None) for i in basic):
        x = slice_p(x, index=basic)
    lengths = [shape_of(x)[k] for k in arrays]
    picks = [_checked(parts[k], n, k) for k, n in zip(arrays, lengths, strict=True)]
    flat = picks[0]
    for p, n in zip(picks[1:], lengths[1:], strict=True):
        flat = flat * n + p
    place = arrays[0] if adjacent else 0
    if len(arrays) > 1 or place != arrays[0]:
        x = moveaxis(x, tuple(arrays), tuple(range(place, place + len(arrays))))
        s = shape_of(x)
        merged = int(np.prod(lengths))
        x = reshape_p(x, shape=(*s[:place], merged, *s[place + len(arrays) :]))
    return take_p(x, flat, axis=place)


def _checked(i, n, k):
    """An index array with negative entries resolved; known values are checked against the length."""
    if isinstance(i, (int, np.integer)):
        i = np.asarray(i)
    if isinstance(i, np.ndarray):
        bad = (i < -n) | (i >= n)
        if bad.any():
            raise IndexError(f"index {i[bad].flat[0]} is out of bounds for axis {k} with size {n}")
        return np.where(i < 0, i + n, i)
    return where(i < 0, i + n, i)


# ---------------------------------------------------------------------------------------------- NumPy's functions
@implements(np.take)
def take(a, indices, axis=None, out=None, mode="raise"):
    """NumPy's ``take``."""
    refuse("take", out=(out, None), mode=(mode, "raise"))
    if axis is None:
        a, axis = ravel(a), 0
    axis = normal_axis("take", axis, ndim_of(a))
    indices = as_operand(indices)
    return take_p(a, _checked(indices, shape_of(a)[axis], axis), axis=axis)


@implements(np.take_along_axis)
def take_along_axis(arr, indices, axis=-1):
    """NumPy's ``take_along_axis``."""
    if axis is None:
        arr, axis = ravel(arr), 0
    axis = normal_axis("take_along_axis", axis, ndim_of(arr))
    s, si = shape_of(arr), shape_of(indices)
    if len(s) != len(si):
        raise ValueError("`indices` and `arr` must have the same number of dimensions")
    if dtype_of(indices).kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    target = tuple(si[k] if k == axis else max(s[k], si[k]) for k in range(len(s)))
    i = broadcast_to(indices, target) if target != si else indices
    arr = broadcast_to(arr, tuple(s[k] if k == axis else target[k] for k in range(len(s))))
    return take_along_p(arr, i, axis=axis)


@implements(np.argsort)
def argsort(a, axis=-1, kind=None, order=None, *, stable=None):
    """NumPy's ``argsort``, always stable; it carries no derivative."""
    refuse("argsort", order=(order, None))
    if axis is None:
        a, axis = ravel(a), 0
    return argsort_p(a, axis=normal_axis("argsort", axis, ndim_of(a)))


@implements(np.sort)
def sort(a, axis=-1, kind=None, order=None, *, stable=None):
    """NumPy's ``sort``; entries that are equal keep their order, and each its own derivative."""
    refuse("sort", order=(order, None))
    if axis is None:
        a, axis = ravel(a), 0
    axis = normal_axis("sort", axis, ndim_of(a))
    return take_along_p(a, argsort_p(a, axis=axis), axis=axis)


@implements(np.nonzero)
def nonzero(a):
    """NumPy's ``nonzero``: plain index arrays."""
    return _no_traced_mask(a).nonzero()


@implements(np.compress)
def compress(condition, a, axis=None, out=None):
    """NumPy's ``compress``."""
    refuse("compress", out=(out, None))
    (i,) = np.asarray(condition).nonzero()
    return take(a, i, axis)


@implements(np.extract)
def extract(condition, arr):
    """NumPy's ``extract``."""
    (i,) = np.asarray(condition).ravel().nonzero()
    return take(ravel(arr), i, 0)


# ---------------------------------------------------------------------------------------------- updates
class at:
    """Functional updates: ``nm.at(x)[i].set(v)`` is a copy of x with ``x[i] = v``.

    Parameters
    ----------
    x : array
        Traced or plain; it is not changed.

    Notes
    -----
    ``.set(v)``, ``.add(v)`` and ``.multiply(v)`` take values that broadcast to ``x[i]``. Where an entry is addressed
    more than once, ``set`` keeps the last value (and gives only that one a derivative), ``add`` adds all of them (as
    ``np.add.at``), ``multiply`` multiplies by all of them.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.at(np.zeros(3))[1:].set(2.0)
    array([0., 2., 2.])
    >>> nm.grad(lambda x: np.sum(nm.at(x)[0].set(5.0) ** 2))(np.array([1.0, 2.0]))
    array([0., 4.])
    """

    def __init__(self, x):
        self._x = x

    def __getitem__(self, index):
        return _Place(self._x, index)


class _Place:
    """The entries ``x[index]`` of a functional update."""

    def __init__(self, x, index):
        self._x = x if isinstance(x, Tracer) or hasattr(x, "dtype") else np.asarray(x)
        self._shape = shape_of(self._x)
        size = int(np.prod(self._shape))
        self._ids = getitem(np.arange(size).reshape(self._shape), index)

    def _values(self, who, v):
        have, want = shape_of(v), shape_of(self._ids)
        try:
            fits = np.broadcast_shapes(have, want) == want
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(
                f"at(x)[i].{who}: the values of shape {have} do not broadcast to x[i] of shape {want}."
            )
        v = v if isinstance(v, Tracer) or hasattr(v, "dtype") else np.asarray(v, dtype_of(self._x))
        if np.can_cast(dtype_of(v), dtype_of(self._x), "same_kind"):
            v = cast(v, dtype_of(self._x))
        return reshape_p(broadcast_to(v, want), shape=(int(np.prod(want)),))

    def _flat_ids(self):
        ids = self._ids
        n = int(np.prod(shape_of(ids)))
        return reshape_p(ids, shape=(n,)) if hasattr(ids, "shape") else np.asarray([ids])

    def set(self, v):
        """A copy of x with ``x[i] = v``."""
        values, ids = self._values("set", v), self._flat_ids()
        size = int(np.prod(self._shape))
        if not shape_of(ids)[0]:
            return copied(self._x)
        writer = reshape_p(last_writer_p(ids, length=size), shape=self._shape)
        return where(writer >= 0, take_p(values, where(writer >= 0, writer, 0), axis=0), self._x)

    def add(self, v):
        """A copy of x with ``np.add.at(x, i, v)``."""
        values, ids = self._values("add", v), self._flat_ids()
        size = int(np.prod(self._shape))
        return self._x + reshape_p(
            scatter_add_p(values, ids, axis=0, shape=(size,)), shape=self._shape
        )

    def multiply(self, v):
        """A copy of x with ``np.multiply.at(x, i, v)``; the index must be known while tracing."""
        values, ids = self._values("multiply", v), self._flat_ids()
        if is_traced(ids):
            raise TraceError(
                "at(x)[i].multiply: the index must be known while tracing. Write x * np.where(mask, v, 1.0)."
            )
        size, x = int(np.prod(self._shape)), self._x
        # one round for each repetition of an entry, so that all factors count
        order = np.argsort(ids, kind="stable")
        sorted_ids = ids[order]
        start = np.r_[True, sorted_ids[1:] != sorted_ids[:-1]] if ids.size else np.zeros(0, bool)
        run = np.arange(ids.size) - np.maximum.accumulate(np.where(start, np.arange(ids.size), 0))
        for k in range(int(run.max()) + 1 if ids.size else 0):
            chosen = order[run == k]
            writer = np.full(size, -1)
            writer[ids[chosen]] = chosen
            writer = writer.reshape(self._shape)
            factor = where(writer >= 0, take_p(values, np.maximum(writer, 0), axis=0), 1.0)
            x = x * factor
        return x


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
