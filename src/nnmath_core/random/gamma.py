"""Gamma numbers, and beta, Dirichlet, chi-square and Student's t made of them or like them.

Inverses of distribution functions: exact in law up to the rounding of u, and differentiable in the shape parameters by
the implicit derivative, which is what reparameterised gradients are.
"""

from __future__ import annotations

from typing import Any

from nnmath_core._ext._autodiff import shape_of
from nnmath_core.autodiff.ops.elementwise import sqrt
from nnmath_core.autodiff.ops.reduce import sum
from nnmath_core.device import entering
from nnmath_core.errors import ShapeError
from nnmath_core.random.domains import NON_NEGATIVE, POSITIVE, require_parameter
from nnmath_core.random.draws import (
    as_parameter,
    dtype_of_draw,
    normals,
    open_uniforms,
    require_key,
    shape_of_draw,
)
from nnmath_core.random.keys import split
from nnmath_core.special import betaincinv, gammaincinv

__all__ = ["beta", "chisquare", "dirichlet", "gamma", "t"]


def _gammas(key: Any, a: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    return gammaincinv(a, open_uniforms(key, shape, dtype))


@entering
def gamma(key: Any, a: Any, shape: Any = None, dtype: Any = None, *, scale: Any = 1.0) -> Any:
    """Gamma numbers of shape parameter ``a``.

    Parameters
    ----------
    key : array, shape (2,), uint32
    a : float or array
        Positive; NaN where a traced one is not. Differentiable, by the implicit derivative of the inverse of the
        distribution function.
    shape : int or tuple of int, optional
        None is the shape of the parameters.
    dtype : {float32, float64}, optional
        None is that of the parameters, float64 for numbers.
    scale : float or array, default 1
        At least 0. Differentiable.

    Returns
    -------
    array, of that shape and dtype

    Notes
    -----
    The inverse of the regularised incomplete gamma function, `scipy.special.gammaincinv`: about a microsecond a number.
    For a below 0.01 most numbers are too small for float64 and are 0, as they are by any method.

    References
    ----------
    Figurnov, Mohamed and Mnih, "Implicit reparameterization gradients", 2018.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> key = nm.random.key(0)
    >>> bool(nm.grad(lambda a: nm.random.gamma(key, a))(2.0) > 0)
    True
    """
    key = require_key("gamma", key)
    require_parameter("gamma", "a", a, POSITIVE)
    require_parameter("gamma", "scale", scale, NON_NEGATIVE)
    dtype = dtype_of_draw("gamma", dtype, a, scale)
    a, scale = as_parameter(a, dtype), as_parameter(scale, dtype)
    return _gammas(key, a, shape_of_draw("gamma", shape, a, scale), dtype) * scale


@entering
def chisquare(key: Any, df: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Chi-square numbers of ``df`` degrees of freedom.

    Parameters
    ----------
    key : array, shape (2,), uint32
    df : float or array
        Positive; NaN where a traced one is not. Differentiable.
    shape : int or tuple of int, optional
        None is the shape of ``df``.
    dtype : {float32, float64}, optional
        None is that of ``df``, float64 for a number.

    Returns
    -------
    array, of that shape and dtype

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.random.chisquare(nm.random.key(0), 3.0, 4).shape
    (4,)
    """
    key = require_key("chisquare", key)
    require_parameter("chisquare", "df", df, POSITIVE)
    dtype = dtype_of_draw("chisquare", dtype, df)
    df = as_parameter(df, dtype)
    return 2.0 * _gammas(key, df * 0.5, shape_of_draw("chisquare", shape, df), dtype)


@entering
def t(key: Any, df: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Numbers of Student's t distribution of ``df`` degrees of freedom.

    Parameters
    ----------
    key : array, shape (2,), uint32
    df : float or array
        Positive; NaN where a traced one is not. Differentiable.
    shape : int or tuple of int, optional
        None is the shape of ``df``.
    dtype : {float32, float64}, optional
        None is that of ``df``, float64 for a number.

    Returns
    -------
    array, of that shape and dtype
        A normal number over the root of a chi-square one divided by ``df``.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.random.t(nm.random.key(0), 3.0, 4).shape
    (4,)
    """
    key = require_key("t", key)
    require_parameter("t", "df", df, POSITIVE)
    first, second = split(key)
    dtype = dtype_of_draw("t", dtype, df)
    df = as_parameter(df, dtype)
    shape = shape_of_draw("t", shape, df)
    half = df * 0.5
    return normals(first, shape, dtype) / sqrt(_gammas(second, half, shape, dtype) / half)


def beta(key: Any, a: Any, b: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Beta numbers.

    Parameters
    ----------
    key : array, shape (2,), uint32
    a, b : float or array
        Positive; NaN where a traced one is not. Differentiable, by the implicit derivative.
    shape : int or tuple of int, optional
        None is the shape of the parameters.
    dtype : {float32, float64}, optional
        None is that of the parameters, float64 for numbers.

    Returns
    -------
    array, of that shape and dtype
        In [0, 1]: the inverse of the regularised incomplete beta function.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> bool(0 < nm.random.beta(nm.random.key(0), 2.0, 3.0) < 1)
    True
    """
    key = require_key("beta", key)
    require_parameter("beta", "a", a, POSITIVE)
    require_parameter("beta", "b", b, POSITIVE)
    dtype = dtype_of_draw("beta", dtype, a, b)
    a, b = as_parameter(a, dtype), as_parameter(b, dtype)
    return betaincinv(a, b, open_uniforms(key, shape_of_draw("beta", shape, a, b), dtype))


@entering
def dirichlet(key: Any, alpha: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Points of the simplex, of the Dirichlet distribution.

    Parameters
    ----------
    key : array, shape (2,), uint32
    alpha : array, shape (..., k)
        Positive; NaN where a traced one is not. Differentiable. Below 0.01 gamma numbers vanish, and a point whose
        every one does is NaN.
    shape : int or tuple of int, optional
        Without the last axis; None is ``alpha.shape[:-1]``.
    dtype : {float32, float64}, optional
        None is that of ``alpha``.

    Returns
    -------
    array, shape ``(*shape, k)``
        Each row is >= 0 and sums to 1.

    Raises
    ------
    ShapeError
        ``alpha`` has no axis.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> p = nm.random.dirichlet(nm.random.key(0), np.array([1.0, 2.0, 3.0]), 4)
    >>> p.shape, bool(np.allclose(p.sum(-1), 1))
    ((4, 3), True)
    """
    key = require_key("dirichlet", key)
    require_parameter("dirichlet", "alpha", alpha, POSITIVE)
    dtype = dtype_of_draw("dirichlet", dtype, alpha)
    alpha = as_parameter(alpha, dtype)
    if shape_of(alpha) == ():
        raise ShapeError("dirichlet: `alpha` must have at least one axis, got a number.")
    k = shape_of(alpha)[-1]
    lead = shape_of(alpha)[:-1] if shape is None else shape_of_draw("dirichlet", shape)
    g = _gammas(key, alpha, shape_of_draw("dirichlet", (*lead, k), alpha), dtype)
    return g / sum(g, -1, keepdims=True)
