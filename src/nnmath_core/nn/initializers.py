"""Initialisers of weights: random numbers of the variance that keeps signals from growing or dying.

A weight has shape (in, out); in front of these two axes a kernel has axes over which its sums
run, as (kh, kw, in, out), and their lengths multiply both fans.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core.checks import describe, require_positive_int, require_rng, sentence
from nnmath_core.device import backend_for, current_default_device
from nnmath_core.errors import DtypeError, ShapeError
from nnmath_core.typing import Array, Rng

__all__ = ["glorot_normal", "glorot_uniform", "he_normal", "he_uniform"]

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def glorot_uniform(
    shape: Sequence[int], *, rng: Rng = None, dtype: DTypeLike = np.float64
) -> Array:
    r"""Uniform weights that keep the variance of both signals and gradients at a linear unit.

    .. math:: W \sim \mathcal U(-a, a), \qquad a = \sqrt{6 / (fan_{in} + fan_{out})}

    Parameters
    ----------
    shape : sequence of int, (..., in, out)
        Lengths >= 1.
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
        A length or ``rng`` is not as above, or ``dtype`` is neither of the two.

    References
    ----------
    Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    2010.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> w = nm.nn.glorot_uniform((256, 128), rng=0)
    >>> w.shape, bool(abs(w).max() <= 0.125)
    ((256, 128), True)
    """
    fan_in, fan_out = _fans("glorot_uniform", shape)
    return _uniform("glorot_uniform", shape, 2.0 / (fan_in + fan_out), rng, dtype)


def glorot_normal(shape: Sequence[int], *, rng: Rng = None, dtype: DTypeLike = np.float64) -> Array:
    r"""Normal weights that keep the variance of both signals and gradients at a linear unit.

    .. math:: W \sim \mathcal N(0, \sigma^2), \qquad \sigma^2 = 2 / (fan_{in} + fan_{out})

    Parameters
    ----------
    shape : sequence of int, (..., in, out)
        Lengths >= 1.
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
        A length or ``rng`` is not as above, or ``dtype`` is neither of the two.

    Notes
    -----
    The tails are not cut, as in PyTorch; JAX and Keras cut them at two standard deviations.

    References
    ----------
    Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    2010.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.nn.glorot_normal((2, 3), rng=0, dtype="float32").dtype
    dtype('float32')
    """
    fan_in, fan_out = _fans("glorot_normal", shape)
    return _normal("glorot_normal", shape, 2.0 / (fan_in + fan_out), rng, dtype)


def he_uniform(shape: Sequence[int], *, rng: Rng = None, dtype: DTypeLike = np.float64) -> Array:
    r"""Uniform weights that keep the mean square of signals in front of a rectifier.

    .. math:: W \sim \mathcal U(-a, a), \qquad a = \sqrt{6 / fan_{in}}

    Parameters
    ----------
    shape : sequence of int, (..., in, out)
        Lengths >= 1.
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
        A length or ``rng`` is not as above, or ``dtype`` is neither of the two.

    References
    ----------
    He et al., "Delving deep into rectifiers", 2015.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> w = nm.nn.he_uniform((6, 4), rng=0)
    >>> bool(abs(w).max() <= 1.0)
    True
    """
    fan_in, _ = _fans("he_uniform", shape)
    return _uniform("he_uniform", shape, 2.0 / fan_in, rng, dtype)


def he_normal(shape: Sequence[int], *, rng: Rng = None, dtype: DTypeLike = np.float64) -> Array:
    r"""Normal weights that keep the mean square of signals in front of a rectifier.

    .. math:: W \sim \mathcal N(0, \sigma^2), \qquad \sigma^2 = 2 / fan_{in}

    Parameters
    ----------
    shape : sequence of int, (..., in, out)
        Lengths >= 1.
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
        A length or ``rng`` is not as above, or ``dtype`` is neither of the two.

    Notes
    -----
    The tails are not cut, as in PyTorch; JAX and Keras cut them at two standard deviations.

    References
    ----------
    He et al., "Delving deep into rectifiers", 2015.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.nn.he_normal((256, 10), rng=0).std().round(2)
    np.float64(0.09)
    """
    fan_in, _ = _fans("he_normal", shape)
    return _normal("he_normal", shape, 2.0 / fan_in, rng, dtype)


def _fans(who: str, shape: Any) -> tuple[int, int]:
    """Return how many terms the sum of one output and of one input's gradient have."""
    if not isinstance(shape, tuple | list) or len(shape) < 2:
        got = str(shape) if isinstance(shape, tuple | list) else describe(shape)
        raise ShapeError(sentence(who, "shape", "a tuple (..., in, out)", got))
    lengths = [require_positive_int(who, f"shape[{i}]", n) for i, n in enumerate(shape)]
    *field, fan_in, fan_out = lengths
    return fan_in * math.prod(field), fan_out * math.prod(field)


def _uniform(who: str, shape: Sequence[int], variance: float, rng: Rng, dtype: Any) -> Array:
    bound = math.sqrt(3.0 * variance)
    return _placed(who, require_rng(who, rng).uniform(-bound, bound, tuple(shape)), dtype)


def _normal(who: str, shape: Sequence[int], variance: float, rng: Rng, dtype: Any) -> Array:
    deviates = require_rng(who, rng).standard_normal(tuple(shape))
    return _placed(who, math.sqrt(variance) * deviates, dtype)


def _placed(who: str, weight: Array, dtype: Any) -> Array:
    """Return the weights in ``dtype`` on the default device."""
    host = weight.astype(require_float_dtype(who, dtype), copy=False)
    return backend_for(current_default_device()).from_host(host)


def require_float_dtype(who: str, dtype: Any) -> np.dtype[Any]:
    """Return ``dtype`` as float32 or float64 in native byte order.

    Raises
    ------
    DtypeError
        It is neither.
    """
    try:
        found: np.dtype[Any] | None = None if dtype is None else np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found not in _FLOATS:
        got = describe(dtype) if found is None else str(found)
        raise DtypeError(sentence(who, "dtype", "float32 or float64", got))
    return found
