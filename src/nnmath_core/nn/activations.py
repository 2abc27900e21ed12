"""Smooth activations, and the rectifier: functions of one array, entry by entry."""

from __future__ import annotations

import math

import numpy as np

from nnmath_core.autodiff.ops.select import relu as _relu, where
from nnmath_core.autodiff.ops.special.gelu import (
    CUBIC,
    SLOPE,
    gelu as _gelu,
    gelu_tanh as _gelu_tanh,
)
from nnmath_core.checks import require_in, require_real
from nnmath_core.device import entering
from nnmath_core.nn.operands import require_operand
from nnmath_core.special import expit
from nnmath_core.typing import Array, ArrayLike

__all__ = ["gelu", "log_sigmoid", "mish", "relu", "sigmoid", "silu", "softplus", "tanh"]


def relu(x: ArrayLike) -> Array:
    r"""Rectified linear unit.

    .. math:: \operatorname{relu}(x) = \max(x, 0)

    Parameters
    ----------
    x : array, float32 or float64
        Any shape.

    Returns
    -------
    array, shape and dtype of ``x``

    Raises
    ------
    DtypeError
        ``x`` is no array of floats.

    Notes
    -----
    The derivative is 1 for ``x > 0`` and 0 elsewhere, at 0 included. NaN stays NaN, with derivative 1.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    y: Array = _relu(require_operand("relu", "x", x))
    return y


@entering
def tanh(x: ArrayLike) -> Array:
    r"""Hyperbolic tangent, the `numpy.tanh` of layers.

    .. math:: \tanh(x) = \frac{e^x - e^{-x}}{e^x + e^{-x}}

    Parameters
    ----------
    x : array, float32 or float64
        Any shape.

    Returns
    -------
    array, shape and dtype of ``x``
        In ``[-1, 1]``.

    Raises
    ------
    DtypeError
        ``x`` is no array of floats.

    Notes
    -----
    The derivative is ``1 - tanh(x)**2``, with an absolute error of a few ``eps``.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.tanh(np.array([-1.0, 0.0, 1.0]))
    array([-0.76159416,  0.        ,  0.76159416])
    """
    return np.tanh(require_operand("tanh", "x", x))


_SATURATED = 40.0
"""From here on Phi and its derivative are 0 or 1 in float64: arguments beyond, whose squares overflow, are not seen."""


@entering
def gelu(x: ArrayLike, *, approximate: bool = False) -> Array:
    r"""Gaussian error linear unit: the argument times its standard normal probability.

    .. math::
        \operatorname{gelu}(x) = x \, \Phi(x)
            = \tfrac{1}{2} x \operatorname{erfc}(-x / \sqrt 2)

    Parameters
    ----------
    x : array, float32 or float64
        Any shape.
    approximate : bool, default False
        True takes the approximation
        :math:`\tfrac12 x (1 + \tanh(\sqrt{2/\pi} (x + 0.044715 x^3)))`, which differs by up to
        5e-4: for weights that were trained with it. (JAX takes it by default, PyTorch does not.)

    Returns
    -------
    array, shape and dtype of ``x``
        At least -0.17.

    Raises
    ------
    DtypeError
        ``x`` is no array of floats.
    DomainError
        ``approximate`` is neither True nor False: PyTorch's words are no flags.

    Notes
    -----
    The derivative of the exact form is :math:`\Phi(x) + x \varphi(x)`. Relative error of the value: a few
    ``eps * (1 + x**2)``, in the lower tail, too, where :math:`1 + \operatorname{erf}` would cancel; of the derivative
    the same, but for its root at -0.7518, where the error is absolute. No finite argument overflows; at minus infinity
    the value is NaN, as in PyTorch.

    References
    ----------
    Hendrycks & Gimpel, "Gaussian Error Linear Units (GELUs)", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.gelu(np.array([-1.0, 0.0, 1.0]))
    array([-0.15865525,  0.        ,  0.84134475])
    >>> nm.nn.gelu(np.array([-1.0, 0.0, 1.0]), approximate=True)
    array([-0.15880801,  0.        ,  0.84119199])
    """
    x = require_operand("gelu", "x", x)
    advice = "PyTorch's 'tanh' is True, its 'none' False."
    require_in("gelu", "approximate", approximate, (False, True), advice)
    if not approximate:
        y: Array = _gelu(x)
        return y
    if x.dtype.kind != "c":
        y = _gelu_tanh(x)
        return y
    near = np.clip(x, -_SATURATED, _SATURATED)
    # (1 + tanh(u)) / 2 = sigmoid(2 u), which does not cancel
    return x * _sigmoid(SLOPE * (near * (1.0 + CUBIC * np.square(near))))


def _sigmoid(x: Array) -> Array:
    if x.dtype.kind != "c":
        y: Array = expit(x)
        return y
    right = np.greater(np.real(x), 0.0)
    small = np.exp(np.where(right, -x, x))  # of modulus 1 at most
    return np.where(right, 1.0, small) / (1.0 + small)


def sigmoid(x: ArrayLike) -> Array:
    r"""Logistic function.

    .. math:: \sigma(x) = \frac{1}{1 + e^{-x}}

    Parameters
    ----------
    x : array, float32 or float64
        Any shape.

    Returns
    -------
    array, shape and dtype of ``x``
        In ``[0, 1]``.

    Raises
    ------
    DtypeError
        ``x`` is no array of floats.

    Notes
    -----
    Relative error of the value: a few ``eps``, in the lower tail, too. The derivative is
    :math:`\sigma (1 - \sigma)`, with a relative error of a few ``eps`` for ``x <= 0`` and an absolute one of ``eps``
    for ``x > 0``. Logarithms of it: `log_sigmoid`. Nothing overflows; the limits 0 and 1 are taken.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.sigmoid(np.array([-1e4, -1.0, 0.0, 1.0]))
    array([0.        , 0.26894142, 0.5       , 0.73105858])
    """
    return _sigmoid(require_operand("sigmoid", "x", x))


@entering
def silu(x: ArrayLike) -> Array:
    r"""Sigmoid linear unit, also called swish: the argument times its logistic function.

    .. math:: \operatorname{silu}(x) = x \, \sigma(x)

    Parameters
    ----------
    x : array, float32 or float64
        Any shape.

    Returns
    -------
    array, shape and dtype of ``x``
        At least -0.2785.

    Raises
    ------
    DtypeError
        ``x`` is no array of floats.

    Notes
    -----
    Relative error of the value: a few ``eps``. The derivative is :math:`\sigma(x) (1 + x (1 - \sigma(x)))`, with the
    same error but for its root at -1.2785, where it is absolute. No finite argument overflows; at minus infinity the
    value is NaN, at either infinity the derivative.

    References
    ----------
    Elfwing et al., "Sigmoid-weighted linear units for neural network function approximation", 2018.
    Ramachandran et al., "Searching for activation functions", 2017 (swish).

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.silu(np.array([-1.0, 0.0, 1.0]))
    array([-0.26894142,  0.        ,  0.73105858])
    """
    x = require_operand("silu", "x", x)
    return x * _sigmoid(x)


def _softplus(x: Array) -> Array:
    """max(x, 0) + log(1 + exp(-|x|)), with the derivatives of either branch."""
    right = np.greater(np.real(x) if x.dtype.kind == "c" else x, 0.0)
    # `where` puts zeros at a fraction of the cost of NumPy's, which branches on every entry
    positive = where(right, x, 0.0)
    y: Array = positive + np.log1p(np.exp(where(right, 0.0, x) - positive))  # there -|x|
    return y


@entering
def softplus(x: ArrayLike, *, beta: float = 1.0) -> Array:
    r"""Smooth rectifier.

    .. math:: \operatorname{softplus}(x) = \tfrac{1}{\beta} \log(1 + e^{\beta x})

    Parameters
    ----------
    x : array, float32 or float64
        Any shape.
    beta : float, default 1.0
        The sharpness, > 0; the limit is `relu`.

    Returns
    -------
    array, shape and dtype of ``x``
        At least 0.

    Raises
    ------
    DtypeError
        ``x`` is no array of floats.
    DomainError
        ``beta`` is not positive and finite.

    Notes
    -----
    Relative error of the value: a few ``eps``, in the lower tail, too, where it is :math:`e^{\beta x} / \beta`. The
    derivative is :math:`\sigma(\beta x)`. There is no threshold: PyTorch returns ``x`` above ``threshold=20``, which
    differs by 2e-9. With ``beta = 1`` no finite argument overflows.

    References
    ----------
    Dugas et al., "Incorporating second-order functional knowledge for better option pricing", 2000.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.softplus(np.array([-40.0, 0.0, 1e4]))
    array([4.24835426e-18, 6.93147181e-01, 1.00000000e+04])
    """
    x = require_operand("softplus", "x", x)
    sharpness = require_real(
        "softplus", "beta", beta, lambda b: 0.0 < b < math.inf, "positive and finite"
    )
    return _softplus(x) if sharpness == 1.0 else _softplus(sharpness * x) / sharpness


@entering
def log_sigmoid(x: ArrayLike) -> Array:
    r"""Logarithm of the logistic function.

    .. math:: \log \sigma(x) = -\log(1 + e^{-x}) = -\operatorname{softplus}(-x)

    Parameters
    ----------
    x : array, float32 or float64
        Any shape.

    Returns
    -------
    array, shape and dtype of ``x``
        At most 0.

    Raises
    ------
    DtypeError
        ``x`` is no array of floats.

    Notes
    -----
    Relative error of the value: a few ``eps``, however near to 0 it is. The derivative is :math:`\sigma(-x)`. No
    finite argument overflows.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.log_sigmoid(np.array([-1e4, 0.0, 40.0]))
    array([-1.00000000e+04, -6.93147181e-01, -4.24835426e-18])
    """
    return -_softplus(-require_operand("log_sigmoid", "x", x))


@entering
def mish(x: ArrayLike) -> Array:
    r"""The argument times the hyperbolic tangent of its softplus.

    .. math:: \operatorname{mish}(x) = x \tanh(\log(1 + e^x))

    Parameters
    ----------
    x : array, float32 or float64
        Any shape.

    Returns
    -------
    array, shape and dtype of ``x``
        At least -0.309.

    Raises
    ------
    DtypeError
        ``x`` is no array of floats.

    Notes
    -----
    Relative error of the value: a few ``eps``; of the derivative the same but for its root at -1.1924, where it is
    absolute. No finite argument overflows; at minus infinity the value is NaN, at either infinity the derivative.

    References
    ----------
    Misra, "Mish: a self regularized non-monotonic activation function", 2020.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.mish(np.array([-1.0, 0.0, 1.0]))
    array([-0.30340146,  0.        ,  0.86509839])
    """
    x = require_operand("mish", "x", x)
    return x * np.tanh(_softplus(x))
