"""Initialisers of weights: random numbers of the variance that keeps signals from growing or dying.

Each is called as ``init(shape, *, rng, dtype)``, which is what layers take as ``init=``; other options are set with
`functools.partial`. All are `variance_scaling` with some scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core.checks import require_in, require_positive_int, require_rng
from nnmath_core.nn.gain import Gain, number_of
from nnmath_core.nn.unscaled import any_shape
from nnmath_core.nn.variance_scaling import VarianceScaling, fans_of, placed, require_float_dtype
from nnmath_core.typing import Array, Rng

__all__ = [
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "require_float_dtype",
    "torch_default",
]

_ROOT_TWO = math.sqrt(2.0)


def glorot_uniform(
    shape: Sequence[int],
    *,
    gain: float | Gain = 1.0,
    rng: Rng = None,
    dtype: DTypeLike = np.float64,
) -> Array:
    r"""Uniform weights that keep the variance of both signals and gradients at a linear unit.

    .. math:: W \sim \mathcal U(-a, a), \qquad a = g \sqrt{6 / (fan_{in} + fan_{out})}

    Parameters
    ----------
    shape : sequence of int, (..., in, out)
        Lengths >= 1.
    gain : float or Gain, default 1
        A factor of the weights: `gain` of an activation.
    rng : None, int or numpy.random.Generator
        Where the numbers come from; drawn on the host, the same in both dtypes up to rounding.
    dtype : dtype, default float64
        float32 or float64.

    Returns
    -------
    array, shape ``shape``
        On the default device.

    Raises
    ------
    ShapeError
        There are fewer than two axes.
    DomainError, DtypeError
        A length, an option or ``rng`` is not as above, or ``dtype`` is neither of the two.

    References
    ----------
    Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> w = nm.nn.glorot_uniform((256, 128), rng=0)
    >>> w.shape, bool(abs(w).max() <= 0.125)
    ((256, 128), True)
    """
    who = "glorot_uniform"
    return _scaled(who, number_of(who, gain), "fan_avg", "uniform", shape, rng, dtype)


def glorot_normal(
    shape: Sequence[int],
    *,
    gain: float | Gain = 1.0,
    truncated: bool = False,
    rng: Rng = None,
    dtype: DTypeLike = np.float64,
) -> Array:
    r"""Normal weights that keep the variance of both signals and gradients at a linear unit.

    .. math:: W \sim \mathcal N(0, \sigma^2), \qquad \sigma^2 = 2 g^2 / (fan_{in} + fan_{out})

    Parameters
    ----------
    shape : sequence of int, (..., in, out)
        Lengths >= 1.
    gain : float or Gain, default 1
        A factor of the weights: `gain` of an activation.
    truncated : bool, default False
        Whether the tails beyond two standard deviations are cut off, with the variance kept.
    rng : None, int or numpy.random.Generator
        Where the numbers come from; drawn on the host, the same in both dtypes up to rounding.
    dtype : dtype, default float64
        float32 or float64.

    Returns
    -------
    array, shape ``shape``
        On the default device.

    Raises
    ------
    ShapeError
        There are fewer than two axes.
    DomainError, DtypeError
        A length, an option or ``rng`` is not as above, or ``dtype`` is neither of the two.

    Notes
    -----
    PyTorch's has its tails, as this one; the one of that name in JAX, Flax and Keras is ``truncated=True``: cut at two
    standard deviations of a distribution that is wider by 1 / 0.8796256610342398.

    References
    ----------
    Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.nn.glorot_normal((2, 3), rng=0, dtype="float32").dtype
    dtype('float32')
    """
    who = "glorot_normal"
    return _scaled(who, number_of(who, gain), "fan_avg", _cut(who, truncated), shape, rng, dtype)


def he_uniform(
    shape: Sequence[int],
    *,
    gain: float | Gain = _ROOT_TWO,
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    rng: Rng = None,
    dtype: DTypeLike = np.float64,
) -> Array:
    r"""Uniform weights that keep the mean square of signals in front of a rectifier.

    .. math:: W \sim \mathcal U(-a, a), \qquad a = g \sqrt{3 / fan_{in}} = \sqrt{6 / fan_{in}}

    Parameters
    ----------
    shape : sequence of int, (..., in, out)
        Lengths >= 1.
    gain : float or Gain, default sqrt(2)
        A factor of the weights: that of relu by default, `gain` of an activation for another one.
    mode : {"fan_in", "fan_out"}, default "fan_in"
        Whether the size of signals or that of gradients is kept.
    rng : None, int or numpy.random.Generator
        Where the numbers come from; drawn on the host, the same in both dtypes up to rounding.
    dtype : dtype, default float64
        float32 or float64.

    Returns
    -------
    array, shape ``shape``
        On the default device.

    Raises
    ------
    ShapeError
        There are fewer than two axes.
    DomainError, DtypeError
        A length, an option or ``rng`` is not as above, or ``dtype`` is neither of the two.

    References
    ----------
    He, Zhang, Ren & Sun, "Delving deep into rectifiers", 2015.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> w = nm.nn.he_uniform((6, 4), rng=0)
    >>> bool(abs(w).max() <= 1.0)
    True
    """
    who = "he_uniform"
    require_in(who, "mode", mode, ("fan_in", "fan_out"))
    return _scaled(who, number_of(who, gain), mode, "uniform", shape, rng, dtype)


def he_normal(
    shape: Sequence[int],
    *,
    gain: float | Gain = _ROOT_TWO,
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    truncated: bool = False,
    rng: Rng = None,
    dtype: DTypeLike = np.float64,
) -> Array:
    r"""Normal weights that keep the mean square of signals in front of a rectifier.

    .. math:: W \sim \mathcal N(0, \sigma^2), \qquad \sigma^2 = g^2 / fan_{in} = 2 / fan_{in}

    Parameters
    ----------
    shape : sequence of int, (..., in, out)
        Lengths >= 1.
    gain : float or Gain, default sqrt(2)
        A factor of the weights: that of relu by default, `gain` of an activation for another one.
    mode : {"fan_in", "fan_out"}, default "fan_in"
        Whether the size of signals or that of gradients is kept.
    truncated : bool, default False
        Whether the tails beyond two standard deviations are cut off, with the variance kept.
    rng : None, int or numpy.random.Generator
        Where the numbers come from; drawn on the host, the same in both dtypes up to rounding.
    dtype : dtype, default float64
        float32 or float64.

    Returns
    -------
    array, shape ``shape``
        On the default device.

    Raises
    ------
    ShapeError
        There are fewer than two axes.
    DomainError, DtypeError
        A length, an option or ``rng`` is not as above, or ``dtype`` is neither of the two.

    Notes
    -----
    PyTorch's has its tails, as this one; the one of that name in JAX, Flax and Keras is ``truncated=True``: cut at two
    standard deviations of a distribution that is wider by 1 / 0.8796256610342398.

    References
    ----------
    He, Zhang, Ren & Sun, "Delving deep into rectifiers", 2015.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.nn.he_normal((256, 10), rng=0).std().round(2)
    np.float64(0.09)
    """
    who = "he_normal"
    require_in(who, "mode", mode, ("fan_in", "fan_out"))
    return _scaled(who, number_of(who, gain), mode, _cut(who, truncated), shape, rng, dtype)


def lecun_uniform(
    shape: Sequence[int],
    *,
    gain: float | Gain = 1.0,
    rng: Rng = None,
    dtype: DTypeLike = np.float64,
) -> Array:
    r"""Uniform weights that keep the variance of signals at a linear unit, and under selu.

    .. math:: W \sim \mathcal U(-a, a), \qquad a = g \sqrt{3 / fan_{in}}

    Parameters
    ----------
    shape : sequence of int, (..., in, out)
        Lengths >= 1.
    gain : float or Gain, default 1
        A factor of the weights: `gain` of an activation.
    rng : None, int or numpy.random.Generator
        Where the numbers come from; drawn on the host, the same in both dtypes up to rounding.
    dtype : dtype, default float64
        float32 or float64.

    Returns
    -------
    array, shape ``shape``
        On the default device.

    Raises
    ------
    ShapeError
        There are fewer than two axes.
    DomainError, DtypeError
        A length, an option or ``rng`` is not as above, or ``dtype`` is neither of the two.

    References
    ----------
    LeCun, Bottou, Orr & Mueller, "Efficient backprop", 1998.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> bool(abs(nm.nn.lecun_uniform((12, 4), rng=0)).max() <= 0.5)
    True
    """
    who = "lecun_uniform"
    return _scaled(who, number_of(who, gain), "fan_in", "uniform", shape, rng, dtype)


def lecun_normal(
    shape: Sequence[int],
    *,
    gain: float | Gain = 1.0,
    truncated: bool = False,
    rng: Rng = None,
    dtype: DTypeLike = np.float64,
) -> Array:
    r"""Normal weights that keep the variance of signals at a linear unit, and under selu.

    .. math:: W \sim \mathcal N(0, \sigma^2), \qquad \sigma^2 = g^2 / fan_{in}

    Parameters
    ----------
    shape : sequence of int, (..., in, out)
        Lengths >= 1.
    gain : float or Gain, default 1
        A factor of the weights: `gain` of an activation.
    truncated : bool, default False
        Whether the tails beyond two standard deviations are cut off, with the variance kept.
    rng : None, int or numpy.random.Generator
        Where the numbers come from; drawn on the host, the same in both dtypes up to rounding.
    dtype : dtype, default float64
        float32 or float64.

    Returns
    -------
    array, shape ``shape``
        On the default device.

    Raises
    ------
    ShapeError
        There are fewer than two axes.
    DomainError, DtypeError
        A length, an option or ``rng`` is not as above, or ``dtype`` is neither of the two.

    Notes
    -----
    PyTorch has none of that name; the one in JAX, Flax and Keras is ``truncated=True``: cut at two standard deviations
    of a distribution that is wider by 1 / 0.8796256610342398.

    References
    ----------
    LeCun, Bottou, Orr & Mueller, "Efficient backprop", 1998.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.nn.lecun_normal((400, 100), rng=0).std().round(3)
    np.float64(0.05)
    """
    who = "lecun_normal"
    return _scaled(who, number_of(who, gain), "fan_in", _cut(who, truncated), shape, rng, dtype)


def torch_default(
    shape: Sequence[int],
    *,
    fan_in: int | None = None,
    rng: Rng = None,
    dtype: DTypeLike = np.float64,
) -> Array:
    r"""Uniform weights as PyTorch gives to linear layers and convolutions when nothing is said.

    .. math:: W \sim \mathcal U(-a, a), \qquad a = 1 / \sqrt{fan_{in}}

    Parameters
    ----------
    shape : sequence of int, (..., in, out)
        Lengths >= 1; any shape when ``fan_in`` is given.
    fan_in : int, optional
        Terms of an output, where the shape does not say it: for a bias that of its weight.
    rng : None, int or numpy.random.Generator
        Where the numbers come from; drawn on the host, the same in both dtypes up to rounding.
    dtype : dtype, default float64
        float32 or float64.

    Returns
    -------
    array, shape ``shape``
        On the default device.

    Raises
    ------
    ShapeError
        There are fewer than two axes.
    DomainError, DtypeError
        A length, an option or ``rng`` is not as above, or ``dtype`` is neither of the two.

    Notes
    -----
    PyTorch writes it as ``kaiming_uniform_(a=sqrt(5))``, whose :math:`\sqrt 5` says nothing but that the variance is
    :math:`1 / (3 \, fan_{in})`. Signals shrink by :math:`\sqrt 3` in a linear layer and by :math:`\sqrt 6` with relu:
    it belongs to no activation.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> w, b = nm.nn.torch_default((256, 10), rng=0), nm.nn.torch_default((10,), fan_in=256, rng=1)
    >>> bool(abs(w).max() <= 0.0625), b.shape
    (True, (10,))
    """
    who = "torch_default"
    if fan_in is None:
        fan_in, _ = fans_of(who, shape)
    bound = 1.0 / math.sqrt(require_positive_int(who, "fan_in", fan_in))
    size = any_shape(who, shape)
    return placed(who, require_rng(who, rng).uniform(-bound, bound, size), dtype)


def _scaled(
    who: str, gain: float, mode: Any, distribution: Any, shape: Any, rng: Rng, dtype: Any
) -> Array:
    """Draw with the variance gain^2 / fan; a gain of 0 is taken, too."""
    if gain == 0.0:
        fans_of(who, shape)
        require_rng(who, rng)
        return placed(who, np.zeros(tuple(shape)), dtype)
    scale = gain * gain
    if abs(scale - round(scale)) < 4 * np.finfo(float).eps * scale:
        scale = float(round(scale))  # the square of sqrt(2) is 2
    return VarianceScaling(scale, mode, distribution)._draw(who, shape, rng, dtype)


def _cut(who: str, truncated: Any) -> str:
    require_in(who, "truncated", truncated, (True, False))
    return "truncated_normal" if truncated else "normal"
