"""Activations: functions of one array, entry by entry."""

from __future__ import annotations

import math

import numpy as np

from nnmath_core.autodiff.ops.select import relu as _relu
from nnmath_core.nn.operands import require_operand
from nnmath_core.special import erf
from nnmath_core.typing import Array, ArrayLike

__all__ = ["gelu", "relu", "tanh"]


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


_ROOT_HALF = math.sqrt(0.5)
_ROOT_TWO_OVER_PI = math.sqrt(2.0 / math.pi)
_CUBIC = 0.044715  # Hendrycks & Gimpel, section 2


def gelu(x: ArrayLike, *, approximate: bool = False) -> Array:
    r"""Gaussian error linear unit: the argument times its standard normal probability.

    .. math::
        \operatorname{gelu}(x) = x \, \Phi(x)
            = \tfrac{1}{2} x \left(1 + \operatorname{erf}(x / \sqrt 2)\right)

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

    Raises
    ------
    DtypeError
        ``x`` is no array of floats.

    Notes
    -----
    The derivative of the exact form is :math:`\Phi(x) + x \varphi(x)`. Absolute error of the value:
    a few ``eps * |x|``; the relative error is unbounded for negative ``x``, where
    :math:`\Phi(x)` tends to 0.

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
    if approximate:
        inner = _ROOT_TWO_OVER_PI * (x * (1.0 + _CUBIC * np.square(x)))
        return 0.5 * x * (1.0 + np.tanh(inner))
    y: Array = 0.5 * x * (1.0 + erf(_ROOT_HALF * x))
    return y
