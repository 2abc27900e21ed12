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
    logical_not,
)
from nnmath_core.autodiff.ops.conventions import (
    Aval,
    all_batched,
    as_operand,
    beside,
    constant,
    dtype_of,
    holds_tracer,
    is_traced,
    ndim_of,
    on_device,
    on_host,
    operands,
    require_value,
    shape_of,
)
from nnmath_core.autodiff.ops.index import scatter_add_p, take
from nnmath_core.autodiff.ops.plain import numpys, optional
from nnmath_core.autodiff.ops.reduce import any as any_of, diff, max, min, sum
from nnmath_core.autodiff.ops.shape import cast, ravel, reshape_p, stop_gradient
from nnmath_core.autodiff.ops.spacing import linspace
from nnmath_core.autodiff.primitive import Primitive, sample
from nnmath_core.checks import require_in, sentence
from nnmath_core.device import backend_of
from nnmath_core.errors import DtypeError, ShapeError

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
def _before(xp: Any, a: Any, v: Any, side: str) -> Any:
    """Where an entry of a stands before v in a sorted array; NaN is last."""
    if side == "left":
        return (a < v) | (xp.isnan(v) & ~xp.isnan(a))
    return (a <= v) | xp.isnan(v)


def _searchsorted_forward(be: Any, a: Any, v: Any, *, side: str) -> Any:
    if a.ndim == 1:
        return be.xp.searchsorted(a, v, side=side)
    return _bisected(be.xp, a, v.reshape(*a.shape[:-1], -1), side).reshape(v.shape)


def _bisected(xp: Any, a: Any, v: Any, side: str) -> Any:
    """The places of v in the rows of a, by halving all intervals at once."""
    n = a.shape[-1]
    low, high = xp.zeros(v.shape, np.intp), xp.full(v.shape, n, np.intp)
    for _ in builtins.range(n.bit_length()):
        middle = (low + high) // 2
        x = xp.take_along_axis(a, xp.minimum(middle, n - 1), axis=-1)
        behind = (low < high) & _before(xp, x, v, side)
        low, high = xp.where(behind, middle + 1, low), xp.where(behind, high, middle)
    return low


def _batch_searchsorted(on: Any, values: Any, size: int, *, side: str) -> Any:
    a, v = all_batched(on, values, size) if on[0] or ndim_of(values[0]) > 1 else values
    return searchsorted_p(a, v, side=side)


searchsorted_p = Primitive(
    "searchsorted",
    forward=_searchsorted_forward,
    differentiable=False,
    shape=lambda a, v, *, side: Aval(shape_of(v), np.dtype(np.intp)),
    batch=_batch_searchsorted,
    samples=lambda d: [
        sample(np.sort(d.normal(5)), d.normal(3, 4), side="left"),
        sample(np.array([-1.0, 0.5, 0.5, 2.0]), np.array([0.5, -1.0, 3.0]), side="right"),
        sample(np.array([-1.0, 0.5, 0.5, 2.0]), np.array([0.5, -2.0, 2.0]), side="left"),
        sample(np.sort(d.normal(2, 5)), d.normal(2, 3, 2), side="left"),
        sample(np.array([[0.5, 0.5, 2.0], [1.0, 2.0, 3.0]]), np.array([0.5, 4.0]), side="right"),
    ],
)
"""Places of v in a sorted array; or, where ``a`` has more axes, in its rows, whose leading axes are the first of v."""


@numpys(np.searchsorted)
def searchsorted(a: Any, v: Any, side: Any = "left", sorter: Any = None) -> Any:
    """NumPy's ``searchsorted``; it carries no derivative."""
    require_in("searchsorted", "side", side, ("left", "right", "l", "r", "L", "R"))
    a, v = operands(a, v)
    if ndim_of(a) != 1:
        raise ValueError(f"searchsorted: `a` must have one axis, got shape {shape_of(a)}.")
    a = a if sorter is None else take(a, sorter, 0)
    side = "left" if side in ("l", "L") else "right" if side in ("r", "R") else side
    a, v = stop_gradient(a), stop_gradient(v)
    if is_traced(a, v) and is_text(a, v):
        raise DtypeError(
            sentence("searchsorted", "a` and `v", "numbers, since they are traced", "text")
        )
    return searchsorted_p(a, v, side=side)


def is_text(*xs: Any) -> bool:
    """Whether any operand is text, or an array of it, which no number equals."""
    return builtins.any(dtype_of(x).kind in "SU" for x in xs)


@numpys(np.digitize)
def digitize(x: Any, bins: Any, right: bool = False) -> Any:
    """NumPy's ``digitize``; it carries no derivative. Under vmap and staging bins must be plain."""
    x, bins = operands(x, bins)
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
    v = require_value("np.histogram_bin_edges", a)
    edges = np.histogram_bin_edges(_ends(v, bins), _plain_bins(bins), range)
    return _followed(a, bins, range, beside(v, edges))


def _ends(v: Any, bins: Any) -> Any:
    """What NumPy's edges depend on, on the host: of a device the ends of the data, for a rule like "auto" all of it."""
    if not hasattr(v, "__cuda_array_interface__"):
        return v
    if isinstance(bins, str) or not v.size:
        return on_host(v)
    xp = backend_of(v).xp
    return on_host(xp.stack([xp.min(v), xp.max(v)]))


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
    return on_host(require_value("np.histogram", bins) if isinstance(bins, Tracer) else bins)


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
    x, y = as_operand(x), as_operand(y)
    if ndim_of(x) != 1 or shape_of(x) != shape_of(y):
        wanted, got = "of one axis and one length", f"shapes {shape_of(x)} and {shape_of(y)}"
        raise ShapeError(sentence("histogram2d", "x` and `y", wanted, got))
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
    columns = _columns(sample)
    several = _for_each(bins, len(columns))
    (count,), edges = _histogram("histogramdd", columns, several, range, density, weights)
    return count, tuple(edges)


def _for_each(bins: Any, count: int) -> list[Any]:
    """The bins of each axis: a list of them, or one number for all."""
    each = list(bins) if hasattr(bins, "__len__") else [bins]
    return each * count if len(each) == 1 else each


def _columns(sample: Any) -> list[Any]:
    """The coordinates of the points: the entries of a list, the columns of a matrix, or one vector."""
    if isinstance(sample, (list, tuple)) and any(map(ndim_of, map(as_operand, sample))):
        return list(sample)
    sample = as_operand(sample)
    if ndim_of(sample) < 2:
        return [ravel(sample)]
    if ndim_of(sample) > 2:
        wanted = "points as rows, or a list of coordinates"
        raise ShapeError(sentence("histogramdd", "sample", wanted, f"shape {shape_of(sample)}"))
    return [sample[:, k] for k in range(shape_of(sample)[1])]


def _histogram(who: str, columns: Any, bins: Any, ranges: Any, density: Any, weights: Any) -> Any:
    """Weights summed in the cells of a grid: places and edges are NumPy's, of plain numbers."""
    data = [ravel(require_value(f"np.{who}", c)) for c in columns]
    xp = backend_of(*data, who=who).xp
    one = who == "histogram"  # it counts in integers, and knows rules for the number of bins
    if one:
        v, within = _ends(data[0], bins[0]), ranges[0] if ranges else None
        edges = [np.histogram_bin_edges(v, _plain_bins(bins[0]), within)]
    else:
        sample = np.stack([_ends(v, 1) for v in data], 1)
        edges = list(np.histogramdd(sample, _plain_bins(bins), ranges)[1])
    edges = [beside(data[0], e) for e in edges]
    cell, shown = xp.zeros(len(data[0]), np.intp), xp.ones(len(data[0]), bool)
    shape = tuple(len(e) - 1 for e in edges)
    for x, e in zip(data, edges, strict=True):
        i = xp.searchsorted(e, x, side="right") - 1
        i = xp.where(x == e[-1], len(e) - 2, i)  # the last bin is closed
        shown &= (i >= 0) & (i < len(e) - 1)
        cell = cell * (len(e) - 1) + xp.clip(i, 0, len(e) - 2)
    (at,) = shown.nonzero()
    if weights is None:
        count: Any = xp.bincount(cell[at], minlength=math.prod(shape))
        count = count if one else count.astype(float)
    else:
        w = as_operand(weights) if one else _double(weights)
        w = take(ravel(w), at, 0)
        count = scatter_add_p(w, cell[at], axis=0, shape=(math.prod(shape),))
    count = reshape_p(count, shape=shape)
    each = bins if len(bins) == len(edges) else [bins] * len(edges)
    edges = [
        _followed(as_operand(c), b, ranges[k] if ranges else None, e)
        for k, (c, b, e) in enumerate(zip(columns, each, edges, strict=True))
    ]
    if density:
        volume: Any = constant(data[0], shape, 1, np.float64)
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
    """NumPy's ``isin``; of traced arrays by comparing all pairs. It carries no derivative."""
    element, tests = operands(element, test_elements, numbers=True)
    element, tests = stop_gradient(element), stop_gradient(ravel(tests))
    if not is_traced(element, tests):
        if not on_device(element) and not on_device(tests):
            return np.isin(element, tests, assume_unique, invert, kind=kind)
        require_in("isin", "kind", kind, (None, "sort", "table"))  # CuPy has one, which sorts
        xp = backend_of(element, tests, who="isin", names=("element", "test_elements")).xp
        return xp.isin(element, tests, assume_unique, invert)
    if shape_of(tests)[0] == 0 or is_text(element, tests):
        return constant(element, shape_of(element), invert, np.bool_)
    found = any_of(equal(element[..., None], tests), -1)
    return logical_not(found) if invert else found


@numpys(*optional("in1d"))
def in1d(
    ar1: Any, ar2: Any, assume_unique: bool = False, invert: bool = False, *, kind: Any = None
) -> Any:
    """NumPy's ``in1d``, which NumPy 2.4 has no more: `isin` of the flat array."""
    ar1, ar2 = operands(ar1, ar2, numbers=True)
    return isin(ravel(ar1), ar2, assume_unique, invert, kind=kind)
