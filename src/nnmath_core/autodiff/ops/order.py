"""Order: what NumPy knows beside `sort` and `argsort`. Sorting selects: each entry keeps its own derivative."""

from __future__ import annotations

import numpy as np

from nnmath_core.autodiff.ops.conventions import (
    Aval,
    as_operand,
    constant,
    dtype_of,
    methods,
    ndim_of,
    normal_axis,
    refuse,
    shape_of,
)
from nnmath_core.autodiff.ops.index import argsort_p, nonzero, sort, take_along_p
from nnmath_core.autodiff.ops.join import stack
from nnmath_core.autodiff.ops.plain import numpys
from nnmath_core.autodiff.ops.shape import broadcast_to, cast, ravel
from nnmath_core.autodiff.primitive import Primitive, sample
from nnmath_core.checks import describe, sentence
from nnmath_core.errors import ShapeError

__all__ = [
    "argpartition",
    "argwhere",
    "flatnonzero",
    "lexsort",
    "partition",
    "sort_complex",
]

argpartition_p = Primitive(
    "argpartition",
    forward=lambda be, x, *, kth, axis: be.xp.argpartition(x, kth, axis=axis),
    differentiable=False,
    shape=lambda x, *, kth, axis: Aval(x.shape, np.dtype(np.intp)),
    batch=lambda on, v, size, *, kth, axis: argpartition_p(v[0], kth=kth, axis=axis + 1),
    samples=lambda d: [
        sample(d.apart(3, 3), kth=1, axis=1),
        sample(d.apart(3), kth=(0, 1), axis=0),
    ],
)


def _partitioned(who, a, kth, axis):
    a = as_operand(a)
    if axis is None:
        a, axis = ravel(a), 0
    axis = normal_axis(who, axis, ndim_of(a))
    kth = tuple(np.ravel(kth).tolist())
    if 0 in shape_of(a):  # nothing to order: NumPy takes any kth
        return a, constant(a, shape_of(a), 0, np.intp), axis
    n = shape_of(a)[axis]
    for k in kth:
        if not -n <= k < n:
            raise ValueError(f"{who}: kth(={k}) out of bounds ({n})")
    return a, argpartition_p(a, kth=kth if len(kth) > 1 else kth[0], axis=axis), axis


@numpys(np.argpartition)
def argpartition(a, kth, axis=-1, kind="introselect", order=None):
    """NumPy's ``argpartition``; it carries no derivative."""
    refuse("argpartition", order=(order, None))
    return _partitioned("argpartition", a, kth, axis)[1]


@numpys(np.partition)
def partition(a, kth, axis=-1, kind="introselect", order=None):
    """NumPy's ``partition``; each entry keeps its own derivative."""
    refuse("partition", order=(order, None))
    a, i, axis = _partitioned("partition", a, kth, axis)
    return take_along_p(a, i, axis=axis)


@numpys(np.lexsort)
def lexsort(keys, axis=-1):
    """NumPy's ``lexsort``: a stable sort by each key, the last one first in rank; it carries no derivative."""
    listed = isinstance(keys, (list, tuple))
    if not (len(keys) if listed else ndim_of(keys) and shape_of(keys)[0]):
        wanted = "a sequence of at least one key"
        raise ShapeError(
            sentence("lexsort", "keys", wanted, describe(keys), "Pass a tuple of arrays.")
        )
    keys = list(keys) if listed else [keys[k] for k in range(shape_of(keys)[0])]
    keys = [as_operand(k) for k in keys]
    s = np.broadcast_shapes(*map(shape_of, keys))
    if not s:
        return np.intp(0)
    axis = normal_axis("lexsort", axis, len(s))
    order = None
    for key in keys:
        key = broadcast_to(key, s)
        i = argsort_p(key if order is None else take_along_p(key, order, axis=axis), axis=axis)
        order = i if order is None else take_along_p(order, i, axis=axis)
    return order


@numpys(np.sort_complex)
def sort_complex(a):
    """NumPy's ``sort_complex``: sorted along the last axis, as complex numbers."""
    y = sort(as_operand(a))
    return (
        y
        if dtype_of(y).kind == "c"
        else cast(y, np.complex64 if dtype_of(y).char in "bhBH" else np.complex128)
    )


@numpys(np.argwhere)
def argwhere(a):
    """NumPy's ``argwhere``: plain indices, so vmap and staging refuse it."""
    a = as_operand(a)
    found = nonzero(a) if ndim_of(a) else nonzero(a[None])
    return stack(found, 1) if ndim_of(a) else stack(found, 1)[:, :0]


@numpys(np.flatnonzero)
def flatnonzero(a):
    """NumPy's ``flatnonzero``: plain indices, so vmap and staging refuse it."""
    return nonzero(ravel(as_operand(a)))[0]


methods.update({"argpartition": argpartition})
