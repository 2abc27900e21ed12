"""Medians, quantiles and percentiles: entries of the sorted array, and what lies between two of them."""

from __future__ import annotations

import math

import numpy as np

from nnmath_core.autodiff.ops.compare import (
    equal,
    greater_equal,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
)
from nnmath_core.autodiff.ops.conventions import (
    as_operand,
    beside,
    dtype_of,
    is_traced,
    kept,
    ndim_of,
    normal_axes,
    operands,
    refuse,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import ceil, floor, remainder, rint
from nnmath_core.autodiff.ops.index import argsort_p, take_along_axis, take_along_p
from nnmath_core.autodiff.ops.plain import numpys
from nnmath_core.autodiff.ops.reduce import all, cumsum, sum
from nnmath_core.autodiff.ops.select import clip, where
from nnmath_core.autodiff.ops.shape import (
    broadcast_to,
    cast,
    floating,
    reshape_p,
    stop_gradient,
    transpose_p,
)
from nnmath_core.checks import require_in
from nnmath_core.errors import DtypeError

__all__ = ["median", "nanmedian", "nanpercentile", "nanquantile", "percentile", "quantile"]

_ALPHA_BETA = {
    "interpolated_inverted_cdf": (0.0, 1.0),
    "hazen": (0.5, 0.5),
    "weibull": (0.0, 0.0),
    "median_unbiased": (1 / 3.0, 1 / 3.0),
    "normal_unbiased": (3 / 8.0, 3 / 8.0),
}
"""Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996: methods 4 to 6, 8 and 9."""

_METHODS = (
    "inverted_cdf",
    "averaged_inverted_cdf",
    "closest_observation",
    "linear",
    "lower",
    "higher",
    "midpoint",
    "nearest",
    *_ALPHA_BETA,
)


def _rows(who, a, axis):
    """The reduced axes as one last axis; their places."""
    if dtype_of(a).kind == "c":
        raise DtypeError(
            f"{who}: `a` must be real, got {dtype_of(a)}. Take the parts: a.real, a.imag."
        )
    axes = normal_axes(who, axis, ndim_of(a))
    rest = tuple(k for k in range(ndim_of(a)) if k not in axes)
    s = shape_of(a)
    if rest + axes != tuple(range(len(s))):
        a = transpose_p(a, axes=rest + axes)
    if len(axes) != 1:
        a = reshape_p(a, shape=(*(s[k] for k in rest), math.prod(s[k] for k in axes)))
    return a, axes


def _restored(y, a, axes, keepdims, lead=()):
    """The result with axes of length 1 in place of the reduced ones; ``lead`` is the shape of q, which is first."""
    if keepdims is not True:
        return y
    return reshape_p(y, shape=(*lead, *kept(shape_of(a), axes)))


def _sorted(x):
    return take_along_p(x, argsort_p(x, axis=ndim_of(x) - 1), axis=ndim_of(x) - 1)


def _pick(s, i):
    """Entries of the last axis of s at integer places i, which has an axis for them."""
    return take_along_axis(s, i, axis=-1)


# ---------------------------------------------------------------------------------------------- median
@numpys(np.median)
def median(a, axis=None, out=None, overwrite_input=False, keepdims=False):
    """NumPy's ``median``: each of the two middle entries gets half of the derivative; a NaN gets all of it."""
    refuse("median", out=(out, None))
    a = floating(a)
    x, axes = _rows("median", a, axis)
    n = shape_of(x)[-1]
    if n == 0:
        return _restored(sum(x, -1) * math.nan, a, axes, keepdims)
    s = _sorted(x)
    y, last = _middle(s[..., (n - 1) // 2], s[..., n // 2], n % 2 == 1), s[..., -1]
    return _restored(where(isnan(last), last, y), a, axes, keepdims)


def _middle(low, high, one):
    """The mean of the two middle entries, which may be infinite, or be one entry."""
    return low if one else (low + high) / 2


@numpys(np.nanmedian)
def nanmedian(a, axis=None, out=None, overwrite_input=False, keepdims=False):
    """NumPy's ``nanmedian``; the derivative at NaN is 0."""
    refuse("nanmedian", out=(out, None))
    a = floating(a)
    x, axes = _rows("nanmedian", a, axis)
    if shape_of(x)[-1] == 0:
        return _restored(sum(x, -1) * math.nan, a, axes, keepdims)
    s = _sorted(x)
    n = sum(logical_not(isnan(x)), -1, keepdims=True)
    i = where(equal(n, 0), 0, (n - 1) // 2)
    low, high = _pick(s, i)[..., 0], _pick(s, where(equal(n, 0), 0, n // 2))[..., 0]
    one = equal(n % 2, 1)[..., 0]
    y = where(one, low, (where(one, 0.0, low) + where(one, 0.0, high)) / 2)
    y = where(equal(n[..., 0], 0), math.nan, y)
    return _restored(y, a, axes, keepdims)


# ---------------------------------------------------------------------------------------------- quantiles
def _places(method, n, q):
    """Virtual index of quantile q among n sorted entries: a floating array."""
    if method in _ALPHA_BETA:
        alpha, beta = _ALPHA_BETA[method]
        return n * q + (alpha + q * (1 - alpha - beta)) - 1
    if method in ("inverted_cdf", "averaged_inverted_cdf"):
        return n * q - 1
    if method == "closest_observation":
        return n * q - 1 - 0.5
    place = (n - 1) * q
    if method == "linear":
        return place
    if method == "midpoint":
        return 0.5 * (floor(place) + ceil(place))
    return {"lower": floor, "higher": ceil, "nearest": rint}[method](place)


def _between(s, n, q, method):
    """The quantile q, whose last axis is aligned with that of s, of n sorted entries."""
    place = _places(method, n, q)
    below = floor(place)
    part = place - below
    if method in ("lower", "higher", "nearest"):
        return _pick(s, _inside(place, n))
    if method == "inverted_cdf":
        return _pick(s, _inside(where(equal(part, 0), below, below + 1), n))
    if method == "closest_observation":
        even = logical_and(equal(part, 0), equal(remainder(below, 2), 1))
        return _pick(s, _inside(where(even, below, below + 1), n))
    if method == "averaged_inverted_cdf":
        part = cast(where(equal(part, 0), 0.5, 1.0), dtype_of(place))
    elif method == "midpoint":
        part = cast(where(equal(remainder(place, 1), 0), 0.0, 0.5), dtype_of(place))
    above = greater_equal(place, n - 1)
    low, high = where(above, n - 1, below), where(above, n - 1, below + 1)
    outside = less(place, 0)
    low, high = (_inside(where(outside, 0, i), n) for i in (low, high))
    a, b = _pick(s, low), _pick(s, high)
    return _lerp(a, b, part, equal(low, high))


def _lerp(a, b, t, alone):
    """Return a + (b - a) t from the nearer end, as NumPy; at a single entry (``alone``) the entry itself."""
    step = where(alone, 0.0, b - a)
    return where(greater_equal(t, 0.5), b - step * (1 - t), a + step * t)


def _inside(i, n):
    """Places as integers in [0, n); NaN is 0."""
    i = stop_gradient(i)
    i = where(isnan(i), 0.0, i)
    return cast(where(less(i, 0), 0, where(greater_equal(i, n), n - 1, i)), np.intp)


def _fractions(who, q, a, over):
    """Q as fractions in [0, 1], in the dtype of a when it is a Python number; its shape."""
    given = hasattr(q, "dtype")
    if isinstance(q, (int, float)):
        q = np.asarray(q, dtype_of(a))
    q = as_operand(q)
    if dtype_of(q).kind not in "f":
        q = cast(q, np.float64)
    if over != 1:
        q = q / over
    if ndim_of(q) > 2:
        raise ValueError(f"{who}: `q` must be a scalar or 1d")
    bad = logical_not(logical_and(greater_equal(q, 0), less_equal(q, 1)))
    if not is_traced(bad) and np.any(bad):
        raise ValueError(
            "Percentiles must be in the range [0, 100]"
            if over != 1
            else "Quantiles must be in the range [0, 1]"
        )
    return q if given or is_traced(q) else beside(a, q)


def _quantile(who, a, q, axis, out, method, keepdims, weights, nan, over=1):
    refuse(who, out=(out, None))
    require_in(who, "method", method, _METHODS)
    a = as_operand(a)
    a = (
        a
        if method in ("lower", "higher", "nearest", "inverted_cdf", "closest_observation")
        else floating(a)
    )
    q = _fractions(who, q, a, over)
    lead = shape_of(q)
    x, axes = _rows(who, a, axis)
    rows, n = shape_of(x)[:-1], shape_of(x)[-1]
    if nan and 0 in shape_of(a):  # NumPy's nanmean of nothing, whatever q is
        return _restored(sum(floating(x), -1) * math.nan, a, axes, keepdims)
    if n == 0:
        raise IndexError(
            f"{who}: a quantile of an empty slice does not exist; `a` has shape {shape_of(a)}."
        )
    flat = reshape_p(q, shape=(*(1 for _ in rows), math.prod(lead)))
    if weights is not None:
        if method != "inverted_cdf":
            raise ValueError(f"{who}: only method 'inverted_cdf' supports weights, got {method!r}.")
        y, spoiled = _weighted(who, a, x, weights, axis, axes, flat, nan)
    else:
        s = _sorted(x)
        last = s[..., -1:]
        count = n
        if nan and dtype_of(x).kind == "f":
            count = cast(sum(logical_not(isnan(x)), -1, keepdims=True), dtype_of(flat))
            spoiled = equal(count, 0)
            count = where(spoiled, 1, count)
        else:
            spoiled = isnan(last)
        y = _between(s, count, flat, method)
        y = where(spoiled, last, y)
    y = broadcast_to(y, (*rows, math.prod(lead)))
    k = len(rows)
    if k:
        y = transpose_p(y, axes=(k, *range(k)))
    return _restored(reshape_p(y, shape=(*lead, *rows)), a, axes, keepdims, lead)


def _weighted(who, a, x, weights, axis, axes, q, nan):
    """The inverse of the weighted distribution function: piecewise constant in the weights."""
    w = stop_gradient(operands(a, weights)[1])
    if shape_of(w) != shape_of(a):
        if len(axes) != 1 or shape_of(w) != (shape_of(a)[axes[0]],):
            raise ValueError(
                f"{who}: `weights` must have the shape {shape_of(a)} of `a`, or be 1d along one `axis`, "
                f"got {shape_of(w)}."
            )
    else:
        w, _ = _rows(who, w, axis)
    w = broadcast_to(cast(w, np.float64), shape_of(x))
    if not is_traced(w) and (w < 0).any():
        raise ValueError("Weights must be non-negative.")
    order = argsort_p(x, axis=ndim_of(x) - 1)
    s, w = (take_along_p(v, order, axis=ndim_of(x) - 1) for v in (x, w))
    missing = isnan(s)
    if nan:
        w = where(missing, 0.0, w)
    cdf = cumsum(w, -1)
    cdf = cast(cdf / cdf[..., -1:], dtype_of(q))
    cdf = where(equal(cdf, 0), -1.0, cdf)
    # the first place where the distribution function reaches q
    i = sum(less(cdf[..., None, :], q[..., None]), -1)
    top = sum(logical_not(missing), -1, keepdims=True) - 1 if nan else shape_of(x)[-1] - 1
    y = _pick(s, clip(i, 0, top))
    last = s[..., -1:]
    return where(all(missing, -1, keepdims=True) if nan else isnan(last), last, y), False


@numpys(np.quantile)
def quantile(
    a,
    q,
    axis=None,
    out=None,
    overwrite_input=False,
    method="linear",
    keepdims=False,
    *,
    weights=None,
    interpolation=None,
):
    """NumPy's ``quantile`` with all its methods; it has derivatives in ``a`` and, where it interpolates, in ``q``.

    The derivative goes to the entries between which it lies, by their place in the stable sorted order; to a NaN,
    which is the result, all of it.
    """
    refuse("quantile", interpolation=(interpolation, None))
    return _quantile("quantile", a, q, axis, out, method, keepdims, weights, False)


@numpys(np.percentile)
def percentile(
    a,
    q,
    axis=None,
    out=None,
    overwrite_input=False,
    method="linear",
    keepdims=False,
    *,
    weights=None,
    interpolation=None,
):
    """NumPy's ``percentile``: `quantile` at ``q / 100``."""
    refuse("percentile", interpolation=(interpolation, None))
    return _quantile("percentile", a, q, axis, out, method, keepdims, weights, False, 100)


@numpys(np.nanquantile)
def nanquantile(
    a,
    q,
    axis=None,
    out=None,
    overwrite_input=False,
    method="linear",
    keepdims=False,
    *,
    weights=None,
    interpolation=None,
):
    """NumPy's ``nanquantile``: `quantile` of the entries that are not NaN, at which the derivative is 0."""
    refuse("nanquantile", interpolation=(interpolation, None))
    return _quantile("nanquantile", a, q, axis, out, method, keepdims, weights, True)


@numpys(np.nanpercentile)
def nanpercentile(
    a,
    q,
    axis=None,
    out=None,
    overwrite_input=False,
    method="linear",
    keepdims=False,
    *,
    weights=None,
    interpolation=None,
):
    """NumPy's ``nanpercentile``: `nanquantile` at ``q / 100``."""
    refuse("nanpercentile", interpolation=(interpolation, None))
    return _quantile("nanpercentile", a, q, axis, out, method, keepdims, weights, True, 100)
