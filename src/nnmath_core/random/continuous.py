"""Continuous distributions in closed form: of uniform and of normal numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnmath_core.autodiff.ops.compare import less
from nnmath_core.autodiff.ops.elementwise import log, log1p, tan
from nnmath_core.autodiff.ops.plain import is_plain
from nnmath_core.autodiff.ops.select import clip, maximum, where
from nnmath_core.autodiff.ops.shape import broadcast_to
from nnmath_core.device import entering
from nnmath_core.random.domains import NON_NEGATIVE, REAL, require_order, require_parameter
from nnmath_core.random.draws import (
    as_parameter,
    dtype_of_draw,
    normals,
    open_uniforms,
    require_key,
    shape_of_draw,
    uniforms,
)
from nnmath_core.special import ndtr, ndtri

__all__ = [
    "cauchy",
    "exponential",
    "gumbel",
    "laplace",
    "logistic",
    "normal",
    "truncated_normal",
    "uniform",
]


@entering
def uniform(
    key: Any, shape: Any = None, dtype: Any = None, minval: Any = 0.0, maxval: Any = 1.0
) -> Any:
    """Uniform numbers in [minval, maxval).

    Parameters
    ----------
    key : array, shape (2,), uint32
    shape : int or tuple of int, optional
        None is the shape of the bounds, () for numbers.
    dtype : {float32, float64}, optional
        None is that of the bounds, float64 for numbers.
    minval, maxval : float or array, default 0 and 1
        minval <= maxval. Differentiable: the derivatives are 1 - u and u.

    Returns
    -------
    array, of that shape and dtype

    Notes
    -----
    u is a multiple of 2**-53 (in float32 of 2**-24) in [0, 1), all of them equally likely. The result is
    minval + (maxval - minval) u, rounded; it may round to maxval. The bits of u are the same on every device.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> u = nm.random.uniform(nm.random.key(0), 3, minval=-1.0)
    >>> u.shape, bool((u >= -1).all() and (u < 1).all())
    ((3,), True)
    """
    key = require_key("uniform", key)
    require_order("uniform", ("minval", minval), ("maxval", maxval), strict=False)
    dtype = dtype_of_draw("uniform", dtype, minval, maxval)
    low, high = as_parameter(minval, dtype), as_parameter(maxval, dtype)
    shape = shape_of_draw("uniform", shape, low, high)
    u = uniforms(key, shape, dtype)
    if type(low) in (int, float) and type(high) in (int, float) and (low, high) == (0, 1):
        return u
    return low + (high - low) * u


@entering
def normal(
    key: Any, shape: Any = None, dtype: Any = None, *, loc: Any = 0.0, scale: Any = 1.0
) -> Any:
    """Normal numbers with mean ``loc`` and standard deviation ``scale``.

    Parameters
    ----------
    key : array, shape (2,), uint32
    shape : int or tuple of int, optional
        None is the shape of the parameters, () for numbers.
    dtype : {float32, float64}, optional
        None is that of the parameters, float64 for numbers.
    loc, scale : float or array, default 0 and 1
        scale >= 0. Differentiable: the derivatives are 1 and z.

    Returns
    -------
    array, of that shape and dtype

    Notes
    -----
    Box and Muller: entries 2 j and 2 j + 1 are sqrt(-2 log u) times cos and sin of 2 pi v, u and v of 53 bits each (32
    in float32), within 4 ULP of that, so abs(z) < 8.58 (6.77). The kernel rounds every operation by itself: the same
    bits on every instruction set, and by the same text on a GPU.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> key = nm.random.key(1)
    >>> z = nm.random.normal(key, (2, 3))
    >>> np.array_equal(z.ravel(), nm.random.normal(key, 6))
    True
    """
    key = require_key("normal", key)
    require_parameter("normal", "loc", loc, REAL)
    require_parameter("normal", "scale", scale, NON_NEGATIVE)
    dtype = dtype_of_draw("normal", dtype, loc, scale)
    loc, scale = as_parameter(loc, dtype), as_parameter(scale, dtype)
    shape = shape_of_draw("normal", shape, loc, scale)
    z = normals(key, shape, dtype)
    if not (type(scale) in (int, float) and scale == 1):
        z = z * scale
    return z if type(loc) in (int, float) and loc == 0 else z + loc


@entering
def truncated_normal(key: Any, lower: Any, upper: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Standard normal numbers, given that they lie between two bounds.

    Parameters
    ----------
    key : array, shape (2,), uint32
    lower, upper : float or array
        lower < upper; infinite bounds are none. Differentiable.
    shape : int or tuple of int, optional
        None is the shape of the bounds.
    dtype : {float32, float64}, optional
        None is that of the bounds, float64 for numbers.

    Returns
    -------
    array, of that shape and dtype
        In [lower, upper]. NaN, as its derivatives, where bounds that are traced are not lower < upper.

    Notes
    -----
    The inverse of the distribution function, on the side of 0 where it is accurate: bounds far out in one tail keep
    their relative precision down to probabilities of 1e-300 (1e-37 in float32).

    Examples
    --------
    >>> import nnmath_core as nm
    >>> z = nm.random.truncated_normal(nm.random.key(0), 8.0, 9.0, 4)
    >>> bool((z >= 8).all() and (z <= 9).all())
    True
    """
    key = require_key("truncated_normal", key)
    require_order("truncated_normal", ("lower", lower), ("upper", upper), strict=True)
    dtype = dtype_of_draw("truncated_normal", dtype, lower, upper)
    low, high = (
        np.asarray(x, dtype) if isinstance(x, (int, float)) else as_parameter(x, dtype)
        for x in (lower, upper)
    )
    shape = shape_of_draw("truncated_normal", shape, low, high)
    if not (is_plain(lower) and is_plain(upper)):
        low = where(less(low, high), low, math.nan * (low + high))
    low, high = broadcast_to(low, shape), broadcast_to(high, shape)
    u = open_uniforms(key, shape, dtype)
    right = low > 0  # mirrored, so that the probabilities are small and not close to 1
    a, b = where(right, -high, low), where(right, -low, high)
    pa = ndtr(a)
    z = ndtri(pa + (ndtr(b) - pa) * u)
    return clip(where(right, -z, z), low, high)


@entering
def exponential(key: Any, shape: Any = None, dtype: Any = None, *, scale: Any = 1.0) -> Any:
    """Exponential numbers with mean ``scale``.

    Parameters
    ----------
    key : array, shape (2,), uint32
    shape : int or tuple of int, optional
        None is the shape of the scale, () for a number.
    dtype : {float32, float64}, optional
        None is that of the scale, float64 for a number.
    scale : float or array, default 1
        At least 0. Differentiable.

    Returns
    -------
    array, of that shape and dtype
        ``-scale log(1 - u)``, at most 36.8 (16.7 in float32) scales.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> bool(nm.random.exponential(nm.random.key(0)) >= 0)
    True
    """
    key = require_key("exponential", key)
    require_parameter("exponential", "scale", scale, NON_NEGATIVE)
    dtype = dtype_of_draw("exponential", dtype, scale)
    scale = as_parameter(scale, dtype)
    shape = shape_of_draw("exponential", shape, scale)
    return -log1p(-uniforms(key, shape, dtype)) * scale


def _located(who: str, key: Any, shape: Any, dtype: Any, loc: Any, scale: Any) -> tuple[Any, ...]:
    """Uniform numbers in (0, 1) and the parameters of a family of location and scale."""
    key = require_key(who, key)
    require_parameter(who, "loc", loc, REAL)
    require_parameter(who, "scale", scale, NON_NEGATIVE)
    dtype = dtype_of_draw(who, dtype, loc, scale)
    loc, scale = as_parameter(loc, dtype), as_parameter(scale, dtype)
    return open_uniforms(key, shape_of_draw(who, shape, loc, scale), dtype), loc, scale


@entering
def gumbel(
    key: Any, shape: Any = None, dtype: Any = None, *, loc: Any = 0.0, scale: Any = 1.0
) -> Any:
    """Gumbel numbers, the limit law of the largest of many.

    Parameters
    ----------
    key : array, shape (2,), uint32
    shape : int or tuple of int, optional
        None is the shape of the parameters, () for numbers.
    dtype : {float32, float64}, optional
        None is that of the parameters, float64 for numbers.
    loc, scale : float or array, default 0 and 1
        scale >= 0. Differentiable.

    Returns
    -------
    array, of that shape and dtype
        ``loc - scale log(-log u)``.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.random.gumbel(nm.random.key(0), (2, 2)).shape
    (2, 2)
    """
    u, loc, scale = _located("gumbel", key, shape, dtype, loc, scale)
    return loc - log(-log(u)) * scale


@entering
def laplace(
    key: Any, shape: Any = None, dtype: Any = None, *, loc: Any = 0.0, scale: Any = 1.0
) -> Any:
    """Laplace numbers: exponential on both sides of ``loc``.

    Parameters
    ----------
    key : array, shape (2,), uint32
    shape : int or tuple of int, optional
        None is the shape of the parameters, () for numbers.
    dtype : {float32, float64}, optional
        None is that of the parameters, float64 for numbers.
    loc, scale : float or array, default 0 and 1
        scale >= 0. Differentiable.

    Returns
    -------
    array, of that shape and dtype

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.random.laplace(nm.random.key(0), 5).shape
    (5,)
    """
    u, loc, scale = _located("laplace", key, shape, dtype, loc, scale)
    v = maximum(2.0 * u - 1.0, float(np.finfo(u.dtype).epsneg) - 1.0)
    return loc - scale * where(less(v, 0), -log1p(v), log1p(-v))


@entering
def logistic(
    key: Any, shape: Any = None, dtype: Any = None, *, loc: Any = 0.0, scale: Any = 1.0
) -> Any:
    """Logistic numbers: the logit of uniform ones.

    Parameters
    ----------
    key : array, shape (2,), uint32
    shape : int or tuple of int, optional
        None is the shape of the parameters, () for numbers.
    dtype : {float32, float64}, optional
        None is that of the parameters, float64 for numbers.
    loc, scale : float or array, default 0 and 1
        scale >= 0. Differentiable.

    Returns
    -------
    array, of that shape and dtype

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.random.logistic(nm.random.key(0), 5).shape
    (5,)
    """
    u, loc, scale = _located("logistic", key, shape, dtype, loc, scale)
    return loc + scale * (log(u) - log1p(-u))


@entering
def cauchy(
    key: Any, shape: Any = None, dtype: Any = None, *, loc: Any = 0.0, scale: Any = 1.0
) -> Any:
    """Cauchy numbers: the tangent of a uniform angle.

    Parameters
    ----------
    key : array, shape (2,), uint32
    shape : int or tuple of int, optional
        None is the shape of the parameters, () for numbers.
    dtype : {float32, float64}, optional
        None is that of the parameters, float64 for numbers.
    loc, scale : float or array, default 0 and 1
        scale >= 0. Differentiable.

    Returns
    -------
    array, of that shape and dtype

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.random.cauchy(nm.random.key(0), 5).shape
    (5,)
    """
    u, loc, scale = _located("cauchy", key, shape, dtype, loc, scale)
    return loc + scale * tan((u - 0.5) * math.pi)
