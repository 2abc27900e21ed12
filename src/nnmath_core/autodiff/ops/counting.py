"""Where values fall: `searchsorted`, `digitize`, `bincount`, histograms, `isin`.

Counts carry no derivative in the data. A weight is added to the count of its bin, so histograms are linear in weights.
"""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Tracer, value_of
from nnmath_core.autodiff.ops.compare import (
    equal,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
)
from nnmath_core.autodiff.ops.conventions import (
    Aval,
    all_batched,
    as_operand,
    constant,
    dtype_of,
    holds_tracer,
    is_traced,
    ndim_of,
    require_value,
    shape_of,
)
from nnmath_core.autodiff.ops.index import scatter_add_p, take
from nnmath_core.autodiff.ops.plain import numpys, optional
from nnmath_core.autodiff.ops.reduce import any as any_of, diff, max, min, sum
from nnmath_core.autodiff.ops.shape import cast, ravel, reshape_p, stop_gradient
from nnmath_core.autodiff.ops.spacing import linspace
from nnmath_core.autodiff.primitive import Primitive, sample
from nnmath_core.checks import require_in

__all__ = [
    "bincount",
    "digitize",
    "histogram",
    "histogram2d",
    "histogram_bin_edges",
    "histogramdd",
    "in1d",
    "isin",
    "searchsorted",
]


# ---------------------------------------------------------------------------------------------- sorted arrays
def _before(a: Any, v: Any, side: str) -> Any:
    """Where an entry of a stands before v in a sorted array; NaN is last."""
    before = less(a, v) if side == "left" else less_equal(a, v)
    last = isnan(v) if side == "right" else logical_and(isnan(v), logical_not(isnan(a)))
    return logical_or(before, last)


def _batch_searchsorted(on: Any, values: Any, size: int, *, side: str) -> Any:
    if not on[0]:
        return searchsorted_p(values[0], values[1], side=side)
    a, v = all_batched(on, values, size)  # sorted arrays of their own: count
    a = reshape_p(a, shape=(size, *(1 for _ in shape_of(v)[1:]), shape_of(a)[-1]))
    return sum(_before(a, v[..., None], side), -1)


searchsorted_p = Primitive(
    "searchsorted",
    forward=lambda be, a, v, *, side: be.xp.searchsorted(a, v, side=side),
    differentiable=False,
    shape=lambda a, v, *, side: Aval(shape_of(v), np.dtype(np.intp)),
    batch=_batch_searchsorted,
    samples=lambda d: [
        sample(np.sort(d.normal(5)), d.normal(3, 4), side="left"),
        sample(np.array([-1.0, 0.5, 0.5, 2.0]), np.array([0.5, -1.0, 3.0]), side="right"),
        sample(np.array([-1.0, 0.5, 0.5, 2.0]), np.array([0.5, -2.0, 2.0]), side="left"),
    ],
)


@numpys(np.searchsorted)
def searchsorted(a: Any, v: Any, side: Any = "left", sorter: Any = None) -> Any:
    """NumPy's ``searchsorted``; it carries no derivative."""
    require_in("searchsorted", "side", side, ("left", "right", "l", "r", "L", "R"))
    a, v = as_operand(a), as_operand(v)
    if ndim_of(a) != 1:
        raise ValueError(f"searchsorted: `a` must have one axis, got shape {shape_of(a)}.")
    a = a if sorter is None else take(a, sorter, 0)
    side = "left" if side in ("l", "L") else "right" if side in ("r", "R") else side
    return searchsorted_p(stop_gradient(a), stop_gradient(v), side=side)


@numpys(np.digitize)
def digitize(x: Any, bins: Any, right: bool = False) -> Any:
    """NumPy's ``digitize``; it carries no derivative. Under vmap and staging bins must be plain."""
    x, bins = as_operand(x), as_operand(bins)
    step = diff(require_value("np.digitize", bins, "Pass bins as a plain array."))
    side = "left" if right else "right"
    if (step >= 0).all():
        return searchsorted(bins, x, side)
    if (step <= 0).all():
        return shape_of(bins)[0] - searchsorted(bins[::-1], x, side)
    raise ValueError("bins must be monotonically increasing or decreasing")


# ---------------------------------------------------------------------------------------------- counts
@numpys(np.bincount)
def bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Any:
    """NumPy's ``bincount``: linear in ``weights``; x, which are integers, must be plain under vmap and staging."""
    x = require_value(
        "np.bincount", x, "Write nm.at(np.zeros(n))[x].add(weights), with the length n known."
    )
    if weights is None:
        return np.bincount(x, None, minlength)
    if shape_of(weights) != shape_of(x) or ndim_of(x) != 1:
        raise ValueError("bincount: `x` and `weights` must have one axis and the same length.")
    n = builtins.max(minlength, int(x.max()) + 1 if x.size else 0)
    if x.size and x.min() < 0:
        raise ValueError(f"bincount: `x` must be non-negative, got {int(x.min())}.")
    return scatter_add_p(_double(weights), x.astype(np.intp), axis=0, shape=(n,))


def _double(w: Any) -> Any:
    """Weights as NumPy sums them: float64, or complex128."""
    w = as_operand(w)
    return cast(w, np.result_type(dtype_of(w), np.float64))


@numpys(np.histogram_bin_edges)
def histogram_bin_edges(a: Any, bins: Any = 10, range: Any = None, weights: Any = None) -> Any:
    """NumPy's ``histogram_bin_edges``: they follow the smallest and the largest entry of the data."""
    a = as_operand(a)
    edges = np.histogram_bin_edges(
        require_value("np.histogram_bin_edges", a), _plain_bins(bins), range
    )
    return _followed(a, bins, range, edges)


def _followed(x: Any, bins: Any, range: Any, edges: Any) -> Any:
    """Edges with their derivative: given ones are traced themselves, others lie between the ends of the data."""
    if ndim_of(bins) and not isinstance(bins, str):
        return as_operand(bins) if holds_tracer(bins) else edges
    if range is not None or not is_traced(x) or 0 in shape_of(x):
        return edges
    low, high = min(x), max(x)
    if value_of(low) == value_of(high):
        low, high = low - 0.5, high + 0.5
    return linspace(low, high, len(edges), dtype=edges.dtype)


def _plain_bins(bins: Any) -> Any:
    if isinstance(bins, (list, tuple)):
        return [_plain_bins(b) for b in bins]
    return require_value("np.histogram", bins) if isinstance(bins, Tracer) else bins


@numpys(np.histogram)
def histogram(
    a: Any, bins: Any = 10, range: Any = None, density: bool | None = None, weights: Any = None
) -> Any:
    """NumPy's ``histogram``: linear in ``weights``; the edges follow the ends of the data."""
    (count,), edges = _histogram(
        "histogram", [a], [bins], None if range is None else [range], density, weights
    )
    return count, edges[0]


@numpys(np.histogram2d)
def histogram2d(
    x: Any,
    y: Any,
    bins: Any = 10,
    range: Any = None,
    density: bool | None = None,
    weights: Any = None,
) -> Any:
    """NumPy's ``histogram2d``: linear in ``weights``; the edges follow the ends of the data."""
    if hasattr(bins, "__len__") and len(bins) not in (1, 2):
        bins = [bins, bins]  # edges for both
    several = _for_each(bins, 2)
    (count,), edges = _histogram("histogram2d", [x, y], several, range, density, weights)
    return count, edges[0], edges[1]


@numpys(np.histogramdd)
def histogramdd(
    sample: Any, bins: Any = 10, range: Any = None, density: bool | None = None, weights: Any = None
) -> Any:
    """NumPy's ``histogramdd``: linear in ``weights``; the edges follow the ends of the data."""
    columns = (
        list(sample)
        if isinstance(sample, (list, tuple))
        else [sample[:, k] for k in _columns(sample)]
    )
    several = _for_each(bins, len(columns))
    (count,), edges = _histogram("histogramdd", columns, several, range, density, weights)
    return count, tuple(edges)


def _for_each(bins: Any, count: int) -> list[Any]:
    """The bins of each axis: a list of them, or one number for all."""
    each = list(bins) if hasattr(bins, "__len__") else [bins]
    return each * count if len(each) == 1 else each


def _columns(x: Any) -> Any:
    return np.arange(shape_of(x)[1]).tolist()


def _histogram(who: str, columns: Any, bins: Any, ranges: Any, density: Any, weights: Any) -> Any:
    """Weights summed in the cells of a grid: places and edges are NumPy's, of plain numbers."""
    data = [np.ravel(require_value(f"np.{who}", c)) for c in columns]
    sample = np.stack(data, 1)
    if len(data) == 1:
        edges = [
            np.histogram_bin_edges(data[0], _plain_bins(bins[0]), ranges[0] if ranges else None)
        ]
    else:
        edges = list(np.histogramdd(sample, _plain_bins(bins), ranges)[1])
    cell, shown = np.zeros(len(sample), np.intp), np.ones(len(sample), bool)
    shape = tuple(len(e) - 1 for e in edges)
    for x, e in zip(data, edges, strict=True):
        i = np.searchsorted(e, x, side="right") - 1
        i = np.where(x == e[-1], len(e) - 2, i)  # the last bin is closed
        shown &= (i >= 0) & (i < len(e) - 1)
        cell = cell * (len(e) - 1) + np.clip(i, 0, len(e) - 2)
    (at,) = shown.nonzero()
    if weights is None:
        count: Any = np.bincount(cell[at], minlength=math.prod(shape))
        count = count if len(data) == 1 else count.astype(float)
    else:
        w = as_operand(weights) if len(data) == 1 else _double(weights)
        w = take(ravel(w), at, 0)
        count = scatter_add_p(w, cell[at], axis=0, shape=(math.prod(shape),))
    count = reshape_p(count, shape=shape)
    each = bins if len(bins) == len(edges) else [bins] * len(edges)
    edges = [
        _followed(as_operand(c), b, ranges[k] if ranges else None, e)
        for k, (c, b, e) in enumerate(zip(columns, each, edges, strict=True))
    ]
    if density:
        volume: Any = np.ones(shape)
        for k, e in enumerate(edges):
            volume = volume * diff(e).reshape((-1,) + (1,) * (len(edges) - k - 1))
        count = count / volume / sum(count)
    return (count,), edges


# ---------------------------------------------------------------------------------------------- membership
@numpys(np.isin)
def isin(
    element: Any,
    test_elements: Any,
    assume_unique: bool = False,
    invert: bool = False,
    *,
    kind: Any = None,
) -> Any:
    """NumPy's ``isin``, by comparing all pairs; it carries no derivative."""
    element = stop_gradient(as_operand(element))
    tests = stop_gradient(ravel(as_operand(test_elements)))
    if not is_traced(element, tests):
        return np.isin(element, tests, assume_unique, invert, kind=kind)
    if shape_of(tests)[0] == 0:
        return constant(element, shape_of(element), invert, np.bool_)
    found = any_of(equal(element[..., None], tests), -1)
    return logical_not(found) if invert else found


@numpys(*optional("in1d"))
def in1d(
    ar1: Any, ar2: Any, assume_unique: bool = False, invert: bool = False, *, kind: Any = None
) -> Any:
    """NumPy's ``in1d``, which NumPy 2.4 has no more: `isin` of the flat array."""
    return isin(ravel(as_operand(ar1)), ar2, assume_unique, invert, kind=kind)
