"""Sets: selections of entries by value. Gradients flow to the entries that were selected.

How many entries there are depends on values, so vmap and staging refuse these functions by name.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nnmath_core.autodiff.ops.conventions import (
    as_operand,
    beside,
    dtype_of,
    ndim_of,
    normal_axis,
    operands,
    require_value,
    shape_of,
)
from nnmath_core.autodiff.ops.index import take
from nnmath_core.autodiff.ops.join import concatenate
from nnmath_core.autodiff.ops.plain import numpys, optional
from nnmath_core.autodiff.ops.shape import ravel

__all__ = [
    "intersect1d",
    "setdiff1d",
    "setxor1d",
    "union1d",
    "unique",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
]


def _unique(who: str, a: Any, axis: Any, equal_nan: bool) -> Any:
    """The distinct entries of a, and NumPy's places, inverse and counts: plain integers."""
    a = as_operand(a)
    v = require_value(f"np.{who}", a)
    _, first, inverse, counts = np.unique(
        v,
        return_index=True,
        return_inverse=True,
        return_counts=True,
        axis=axis,
        equal_nan=equal_nan,
    )
    y = (
        take(ravel(a), first, 0)
        if axis is None
        else take(a, first, normal_axis(who, axis, ndim_of(a)))
    )
    return y, first, inverse, counts


@numpys(np.unique)
def unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: Any = None,
    *,
    equal_nan: bool = True,
    sorted: bool = True,
) -> Any:
    """NumPy's ``unique``: of equal entries the first one gets the derivative."""
    y, *rest = _unique("unique", ar, axis, equal_nan)
    chosen = [
        x for x, on in zip(rest, (return_index, return_inverse, return_counts), strict=True) if on
    ]
    return (y, *chosen) if chosen else y


class UniqueAll(NamedTuple):
    """Result of `unique_all`."""

    values: Any
    indices: Any
    inverse_indices: Any
    counts: Any


class UniqueCounts(NamedTuple):
    """Result of `unique_counts`."""

    values: Any
    counts: Any


class UniqueInverse(NamedTuple):
    """Result of `unique_inverse`."""

    values: Any
    inverse_indices: Any


@numpys(*optional("unique_all"))
def unique_all(x: Any) -> Any:
    """NumPy's ``unique_all``: every NaN counts as distinct."""
    y, first, inverse, counts = _unique("unique_all", x, None, False)
    return UniqueAll(y, first, inverse.reshape(shape_of(as_operand(x))), counts)


@numpys(*optional("unique_counts"))
def unique_counts(x: Any) -> Any:
    """NumPy's ``unique_counts``: every NaN counts as distinct."""
    y, _, _, counts = _unique("unique_counts", x, None, False)
    return UniqueCounts(y, counts)


@numpys(*optional("unique_inverse"))
def unique_inverse(x: Any) -> Any:
    """NumPy's ``unique_inverse``: every NaN counts as distinct."""
    y, _, inverse, _ = _unique("unique_inverse", x, None, False)
    return UniqueInverse(y, inverse.reshape(shape_of(as_operand(x))))


@numpys(*optional("unique_values"))
def unique_values(x: Any) -> Any:
    """NumPy's ``unique_values``, sorted: every NaN counts as distinct."""
    return _unique("unique_values", x, None, False)[0]


# ---------------------------------------------------------------------------------------------- two sets
def _both(who: str, ar1: Any, ar2: Any) -> Any:
    a, b = map(ravel, operands(ar1, ar2, numbers=True))
    u, v = (require_value(f"np.{who}", x) for x in (a, b))
    dtype = np.result_type(dtype_of(a), dtype_of(b))
    return concatenate([a, b], dtype=dtype), u, v


def _places(u, assume_unique):
    """The places of the distinct entries."""
    return beside(u, np.arange(u.size)) if assume_unique else np.unique(u, return_index=True)[1]


@numpys(np.intersect1d)
def intersect1d(
    ar1: Any, ar2: Any, assume_unique: bool = False, return_indices: bool = False
) -> Any:
    """NumPy's ``intersect1d``: the entries of ``ar1`` are selected and get the derivative."""
    a, b = map(ravel, operands(ar1, ar2, numbers=True))
    u, v = (require_value("np.intersect1d", x) for x in (a, b))
    _, i, j = np.intersect1d(u, v, assume_unique, return_indices=True)
    y = take(a, i, 0)
    return (y, i, j) if return_indices else y


@numpys(np.union1d)
def union1d(ar1: Any, ar2: Any) -> Any:
    """NumPy's ``union1d``: of equal entries the first one, that of ``ar1``, gets the derivative."""
    return unique(_both("union1d", ar1, ar2)[0])


@numpys(np.setdiff1d)
def setdiff1d(ar1: Any, ar2: Any, assume_unique: bool = False) -> Any:
    """NumPy's ``setdiff1d``: the entries of ``ar1`` that are not in ``ar2``."""
    a, b = map(ravel, operands(ar1, ar2, numbers=True))
    u, v = (require_value("np.setdiff1d", x) for x in (a, b))
    places = _places(u, assume_unique)
    return take(a, places[~np.isin(u[places], v)], 0)


@numpys(np.setxor1d)
def setxor1d(ar1: Any, ar2: Any, assume_unique: bool = False) -> Any:
    """NumPy's ``setxor1d``: the entries that are in one of the two only."""
    joined, u, v = _both("setxor1d", ar1, ar2)
    i, j = (_places(x, assume_unique) for x in (u, v))
    alone = np.concatenate([i[~np.isin(u[i], v)], u.size + j[~np.isin(v[j], u)]])
    w = np.concatenate([u, v])
    return take(joined, alone[np.argsort(w[alone], kind="stable")], 0)
