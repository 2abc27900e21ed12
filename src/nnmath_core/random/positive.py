"""Positive numbers in closed form: lognormal, Pareto, Rayleigh, Weibull."""

from __future__ import annotations

from typing import Any

from nnmath_core.autodiff.ops.elementwise import exp, log1p, power, sqrt
from nnmath_core.device import entering
from nnmath_core.random.domains import (
    NON_NEGATIVE,
    POSITIVE,
    Domain,
    nan_unless_positive,
    require_parameter,
)
from nnmath_core.random.draws import (
    as_parameter,
    dtype_of_draw,
    normals,
    require_key,
    shape_of_draw,
    uniforms,
)

__all__ = ["lognormal", "pareto", "rayleigh", "weibull_min"]


def _exponentials(
    who: str, key: Any, shape: Any, dtype: Any, **named: tuple[Any, Domain]
) -> tuple[Any, ...]:
    """Exponential numbers of mean 1, and the parameters in their dtype."""
    key = require_key(who, key)
    for arg, (x, domain) in named.items():
        require_parameter(who, arg, x, domain)
    parameters = tuple(x for x, _ in named.values())
    dtype = dtype_of_draw(who, dtype, *parameters)
    parameters = tuple(as_parameter(p, dtype) for p in parameters)
    return -log1p(-uniforms(key, shape_of_draw(who, shape, *parameters), dtype)), *parameters


@entering
def lognormal(key: Any, sigma: Any = 1.0, shape: Any = None, dtype: Any = None) -> Any:
    """Exponentials of normal numbers with mean 0 and standard deviation ``sigma``.

    Parameters
    ----------
    key : array, shape (2,), uint32
    sigma : float or array, default 1
        At least 0. Differentiable.
    shape : int or tuple of int, optional
        None is the shape of ``sigma``.
    dtype : {float32, float64}, optional
        None is that of ``sigma``, float64 for a number.

    Returns
    -------
    array, of that shape and dtype

    Examples
    --------
    >>> import nnmath_core as nm
    >>> bool(nm.random.lognormal(nm.random.key(0)) > 0)
    True
    """
    key = require_key("lognormal", key)
    require_parameter("lognormal", "sigma", sigma, NON_NEGATIVE)
    dtype = dtype_of_draw("lognormal", dtype, sigma)
    sigma = as_parameter(sigma, dtype)
    return exp(normals(key, shape_of_draw("lognormal", shape, sigma), dtype) * sigma)


@entering
def pareto(key: Any, b: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Pareto numbers of index ``b``, at least 1.

    Parameters
    ----------
    key : array, shape (2,), uint32
    b : float or array
        Positive; NaN where a traced one is not. Differentiable.
    shape : int or tuple of int, optional
        None is the shape of ``b``.
    dtype : {float32, float64}, optional
        None is that of ``b``, float64 for a number.

    Returns
    -------
    array, of that shape and dtype
        ``exp(e / b)`` of exponential numbers e.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> bool(nm.random.pareto(nm.random.key(0), 2.0) >= 1)
    True
    """
    e, index = _exponentials("pareto", key, shape, dtype, b=(b, POSITIVE))
    return nan_unless_positive(exp(e / index), index)


@entering
def rayleigh(key: Any, scale: Any = 1.0, shape: Any = None, dtype: Any = None) -> Any:
    """Rayleigh numbers: lengths of normal vectors in the plane.

    Parameters
    ----------
    key : array, shape (2,), uint32
    scale : float or array, default 1
        At least 0. Differentiable.
    shape : int or tuple of int, optional
        None is the shape of the scale.
    dtype : {float32, float64}, optional
        None is that of the scale, float64 for a number.

    Returns
    -------
    array, of that shape and dtype

    Examples
    --------
    >>> import nnmath_core as nm
    >>> bool(nm.random.rayleigh(nm.random.key(0)) >= 0)
    True
    """
    e, scale = _exponentials("rayleigh", key, shape, dtype, scale=(scale, NON_NEGATIVE))
    return sqrt(2.0 * e) * scale


@entering
def weibull_min(
    key: Any, scale: Any, concentration: Any, shape: Any = None, dtype: Any = None
) -> Any:
    """Weibull numbers: powers of exponential ones.

    Parameters
    ----------
    key : array, shape (2,), uint32
    scale : float or array
        At least 0. Differentiable.
    concentration : float or array
        Positive; NaN where a traced one is not. Differentiable.
    shape : int or tuple of int, optional
        None is the shape of the parameters.
    dtype : {float32, float64}, optional
        None is that of the parameters, float64 for numbers.

    Returns
    -------
    array, of that shape and dtype
        ``scale e**(1 / concentration)`` of exponential numbers e.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> bool(nm.random.weibull_min(nm.random.key(0), 1.0, 2.0) >= 0)
    True
    """
    e, scale, c = _exponentials(
        "weibull_min",
        key,
        shape,
        dtype,
        scale=(scale, NON_NEGATIVE),
        concentration=(concentration, POSITIVE),
    )
    return nan_unless_positive(power(e, 1.0 / c), c) * scale
