"""Activations in pieces: a rule for negative arguments, and the identity or a bound for positive ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnmath_core.autodiff.ops.select import where
from nnmath_core.checks import require_real, sentence
from nnmath_core.device import entering
from nnmath_core.errors import DomainError, ShapeError
from nnmath_core.nn.activations import relu
from nnmath_core.nn.operands import require_operand, require_operand_of
from nnmath_core.typing import Array, ArrayLike

__all__ = [
    "elu",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "relu6",
    "selu",
]

# E selu(z) = 0 and E selu(z)^2 = 1 for a standard normal z, with q = exp(1/2) Phi(-1):
# alpha = 1 / (sqrt(2 pi) (1/2 - q)), scale^-2 = 1/2 + alpha^2 (e^2 Phi(-2) - 2 q + 1/2).
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


def _not_positive(x: Array) -> Array:
    """Where x is 0 or below; by the real part of complex numbers, for complex steps. NaN is not."""
    return _below(x, 0.0)


def _beyond(x: Array, bound: float) -> Array:
    r: Array = np.greater_equal(np.real(x) if x.dtype.kind == "c" else x, bound)
    return r


def _below(x: Array, bound: float) -> Array:
    r: Array = np.less_equal(np.real(x) if x.dtype.kind == "c" else x, bound)
    return r


@entering
def leaky_relu(x: ArrayLike, *, negative_slope: float | Array = 0.01) -> Array:
    r"""Rectified linear unit that lets a part of negative arguments through.

    .. math:: \operatorname{leaky}(x) = x \text{ for } x > 0, \quad a x \text{ elsewhere}

    Parameters
    ----------
    x : array, float32 or float64
        Any shape.
    negative_slope : float or array, default 0.01
        The slope a. An array of the dtype of ``x``, such as one slope for each channel, is differentiated, too
        (PReLU); it must broadcast to the shape of ``x``. (PyTorch and JAX have 0.01, Keras 0.3.)

    Returns
    -------
    array, shape and dtype of ``x``

    Raises
    ------
    DtypeError
        ``x`` is no array of floats, or ``negative_slope`` neither a number nor an array of its dtype.
    DomainError
        ``negative_slope`` is a number that is not finite.
    ShapeError
        It is an array that does not broadcast to ``x``.

    Notes
    -----
    The value is exact up to one rounding. The derivative is 1 for ``x > 0`` and a elsewhere, at 0 included; NaN stays
    NaN, with derivative 1.

    References
    ----------
    Maas et al., "Rectifier nonlinearities improve neural network acoustic models", 2013.
    He et al., "Delving deep into rectifiers", 2015 (a learnt slope).

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.leaky_relu(np.array([-2.0, 0.0, 3.0]), negative_slope=0.1)
    array([-0.2,  0. ,  3. ])
    """
    x = require_operand("leaky_relu", "x", x)
    slope: Any = negative_slope
    if hasattr(slope, "dtype") and not isinstance(slope, np.generic):
        slope = require_operand_of("leaky_relu", "negative_slope", slope, x.dtype, "x")
        if not _broadcasts(slope.shape, x.shape):
            wanted = f"of a shape that broadcasts to that of `x`, {tuple(x.shape)}"
            got = str(tuple(slope.shape))
            raise ShapeError(sentence("leaky_relu", "negative_slope", wanted, got))
    else:
        slope = require_real("leaky_relu", "negative_slope", slope, _finite, "a finite number")
    # a sum of two parts of which one is 0: to put zeros costs a fraction of a choice between arrays
    y: Array = where(_not_positive(x), slope * x, 0.0) + relu(x)
    return y


def _finite(x: float) -> bool:
    return abs(x) < float("inf")


def _broadcasts(small: Any, shape: Any) -> bool:
    try:
        return np.broadcast_shapes(tuple(small), tuple(shape)) == tuple(shape)
    except ValueError:
        return False


@entering
def elu(x: ArrayLike, *, alpha: float = 1.0) -> Array:
    r"""Exponential linear unit.

    .. math:: \operatorname{elu}(x) = x \text{ for } x > 0, \quad \alpha (e^x - 1) \text{ elsewhere}

    Parameters
    ----------
    x : array, float32 or float64
        Any shape.
    alpha : float, default 1.0
        Minus the limit at minus infinity; any finite number.

    Returns
    -------
    array, shape and dtype of ``x``
        Above ``-alpha``.

    Raises
    ------
    DtypeError
        ``x`` is no array of floats.
    DomainError
        ``alpha`` is not finite.

    Notes
    -----
    Relative error of value, derivative and second derivative: a few ``eps``, near 0 and far out alike. The derivative
    is 1 for ``x > 0`` and :math:`\alpha e^x` elsewhere: at 0 it is ``alpha``, the limit from the left, as is the second
    one. No finite argument overflows.

    References
    ----------
    Clevert et al., "Fast and accurate deep network learning by exponential linear units (ELUs)", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.elu(np.array([-1e3, -1.0, 0.0, 2.0]))
    array([-1.        , -0.63212056,  0.        ,  2.        ])
    """
    x = require_operand("elu", "x", x)
    return _elu(x, require_real("elu", "alpha", alpha, _finite, "a finite number"), 1.0)


def _elu(x: Array, alpha: float, scale: float) -> Array:
    # the exponential sees no positive argument, which could overflow, and adds 0 there
    left = np.expm1(where(_not_positive(x), x, 0.0))
    right = relu(x)
    y: Array = (scale * alpha) * left + (right if scale == 1.0 else scale * right)
    return y


@entering
def selu(x: ArrayLike) -> Array:
    r"""Scaled exponential linear unit, which keeps mean 0 and variance 1.

    .. math:: \operatorname{selu}(x) = \lambda x \text{ for } x > 0, \quad
        \lambda \alpha (e^x - 1) \text{ elsewhere}

    with :math:`\lambda = 1.0507009873554805` and :math:`\alpha = 1.6732632423543772`, for which a standard normal
    argument gives mean 0 and variance 1.

    Parameters
    ----------
    x : array, float32 or float64
        Any shape.

    Returns
    -------
    array, shape and dtype of ``x``
        Above :math:`-\lambda\alpha = -1.758`.

    Raises
    ------
    DtypeError
        ``x`` is no array of floats.

    Notes
    -----
    Relative error: as `elu`. The derivative at 0 is :math:`\lambda\alpha`, the limit from the left. Weights must have
    variance ``1 / fan_in`` for the fixed point to hold from layer to layer.

    References
    ----------
    Klambauer et al., "Self-normalizing neural networks", 2017, equation 14.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.selu(np.array([-1.0, 0.0, 1.0]))
    array([-1.11133074,  0.        ,  1.05070099])
    """
    return _elu(require_operand("selu", "x", x), SELU_ALPHA, SELU_SCALE)


@entering
def relu6(x: ArrayLike) -> Array:
    r"""Rectified linear unit that ends at 6.

    .. math:: \operatorname{relu6}(x) = \min(\max(x, 0), 6)

    Parameters
    ----------
    x : array, float32 or float64
        Any shape.

    Returns
    -------
    array, shape and dtype of ``x``
        In ``[0, 6]``; exact.

    Raises
    ------
    DtypeError
        ``x`` is no array of floats.

    Notes
    -----
    The derivative is 1 inside of (0, 6) and 0 elsewhere, at both ends included. NaN stays NaN, with derivative 1.

    References
    ----------
    Howard et al., "MobileNets", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.relu6(np.array([-1.0, 3.0, 9.0]))
    array([0., 3., 6.])
    """
    return _relu6(require_operand("relu6", "x", x))


def _relu6(x: Array) -> Array:
    y: Array = np.where(_beyond(x, 6.0), 6.0, relu(x))
    return y


@entering
def hard_tanh(x: ArrayLike, *, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    r"""The identity between two bounds.

    .. math:: \operatorname{hardtanh}(x) = \min(\max(x, a), b)

    Parameters
    ----------
    x : array, float32 or float64
        Any shape.
    min_val, max_val : float, default -1.0 and 1.0
        The bounds a < b.

    Returns
    -------
    array, shape and dtype of ``x``
        In ``[min_val, max_val]``; exact.

    Raises
    ------
    DtypeError
        ``x`` is no array of floats.
    DomainError
        ``min_val`` is not below ``max_val``.

    Notes
    -----
    The derivative is 1 strictly inside and 0 elsewhere, at both bounds included (`clip` shares it with the bound).
    NaN stays NaN, with derivative 1.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.hard_tanh(np.array([-3.0, 0.5, 2.0]))
    array([-1. ,  0.5,  1. ])
    """
    x = require_operand("hard_tanh", "x", x)
    low = require_real("hard_tanh", "min_val", min_val, lambda v: v == v, "a number")
    high = require_real("hard_tanh", "max_val", max_val, lambda v: v == v, "a number")
    if not low < high:
        wanted = f"below `max_val` = {high:g}"
        raise DomainError(sentence("hard_tanh", "min_val", wanted, f"{low:g}"))
    y: Array = np.where(_beyond(x, high), high, np.where(_below(x, low), low, x))
    return y


@entering
def hard_sigmoid(x: ArrayLike) -> Array:
    r"""A sigmoid of three straight pieces.

    .. math:: \operatorname{hardsigmoid}(x) = \operatorname{relu6}(x + 3) / 6

    Parameters
    ----------
    x : array, float32 or float64
        Any shape.

    Returns
    -------
    array, shape and dtype of ``x``
        In ``[0, 1]``, with an absolute error of one ``eps``.

    Raises
    ------
    DtypeError
        ``x`` is no array of floats.

    Notes
    -----
    The derivative is 1/6 inside of (-3, 3) and 0 elsewhere, at both ends included. This is PyTorch's and JAX's slope;
    Keras before version 3 had 0.2.

    References
    ----------
    Howard et al., "Searching for MobileNetV3", 2019.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.hard_sigmoid(np.array([-4.0, 0.0, 1.5, 4.0]))
    array([0.  , 0.5 , 0.75, 1.  ])
    """
    return _relu6(require_operand("hard_sigmoid", "x", x) + 3.0) / 6.0


@entering
def hard_swish(x: ArrayLike) -> Array:
    r"""The argument times its hard sigmoid, `silu` in three pieces.

    .. math:: \operatorname{hardswish}(x) = x \, \operatorname{relu6}(x + 3) / 6

    Parameters
    ----------
    x : array, float32 or float64
        Any shape.

    Returns
    -------
    array, shape and dtype of ``x``
        At least -3/8.

    Raises
    ------
    DtypeError
        ``x`` is no array of floats.

    Notes
    -----
    Relative error: 2 ``eps``, but for arguments next to -3, where the error is absolute. The derivative is 0 for
    ``x <= -3``, 1 for ``x >= 3`` and ``x / 3 + 1 / 2`` between. The limit at minus infinity is 0, which it takes.

    References
    ----------
    Howard et al., "Searching for MobileNetV3", 2019.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.hard_swish(np.array([-4.0, -1.5, 0.0, 1.5, 4.0]))
    array([ 0.   , -0.375,  0.   ,  1.125,  4.   ])
    """
    x = require_operand("hard_swish", "x", x)
    low, high = _below(x, -3.0), _beyond(x, 3.0)
    inside = np.where(np.logical_or(low, high), 0.0, x)  # no square of it overflows
    y: Array = np.where(low, 0.0, np.where(high, x, inside * (inside + 3.0) / 6.0))
    return y
