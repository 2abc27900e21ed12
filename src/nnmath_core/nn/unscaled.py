"""Initialisers whose numbers do not depend on the shape: normal, uniform, constant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from scipy.special import ndtr

from nnmath_core.checks import (
    describe,
    require_in,
    require_int,
    require_real,
    require_rng,
    sentence,
)
from nnmath_core.errors import ShapeError
from nnmath_core.nn.variance_scaling import is_positive, placed, truncated_deviates
from nnmath_core.typing import Array, Rng

__all__ = ["any_shape", "constant", "normal", "truncated_normal", "uniform", "zeros"]


def normal(
    shape: Sequence[int],
    *,
    mean: float = 0.0,
    std: float = 1.0,
    rng: Rng = None,
    dtype: DTypeLike = np.float64,
) -> Array:
    r"""Normal numbers.

    Parameters
    ----------
    shape : sequence of int
        Of any number of axes; lengths >= 0.
    mean : float, default 0
    std : float, default 1
        Standard deviation, >= 0.
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
        ``shape`` is no sequence.
    DomainError, DtypeError
        A length, an option or ``rng`` is not as above, or ``dtype`` is neither of the two.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> import functools
    >>> init = functools.partial(nm.nn.normal, std=0.02)
    >>> nm.nn.Dense.init((64, 64), init=init, rng=0).weight.std().round(3)
    np.float64(0.02)
    """
    mean = require_real("normal", "mean", mean, math.isfinite, "a finite number")
    std = require_real("normal", "std", std, _size, "a finite number >= 0")
    size = any_shape("normal", shape)
    return placed("normal", mean + std * require_rng("normal", rng).standard_normal(size), dtype)


def truncated_normal(
    shape: Sequence[int],
    *,
    mean: float = 0.0,
    std: float = 1.0,
    bound: float = 2.0,
    corrected: bool = True,
    rng: Rng = None,
    dtype: DTypeLike = np.float64,
) -> Array:
    r"""Normal numbers without their tails.

    Parameters
    ----------
    shape : sequence of int
        Of any number of axes; lengths >= 0.
    mean : float, default 0
    std : float, default 1
        Standard deviation, >= 0.
    bound : float, default 2
        Where the tails are cut, in standard deviations of the uncut distribution on both sides.
    corrected : bool, default True
        Whether ``std`` is that of the numbers returned, as JAX's `variance_scaling` and Keras mean it, or that of the
        uncut distribution, as PyTorch's ``trunc_normal_``: with a bound of 2 the numbers have 0.8796256610342398 of it.
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
        ``shape`` is no sequence.
    DomainError, DtypeError
        A length, an option or ``rng`` is not as above, or ``dtype`` is neither of the two.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> w = nm.nn.truncated_normal((100, 100), corrected=False, rng=0)
    >>> w.std().round(2), bool(abs(w).max() <= 2)
    (np.float64(0.88), True)
    """
    who = "truncated_normal"
    mean = require_real(who, "mean", mean, math.isfinite, "a finite number")
    std = require_real(who, "std", std, _size, "a finite number >= 0")
    bound = require_real(who, "bound", bound, is_positive, "a positive finite number")
    require_in(who, "corrected", corrected, (True, False))
    size = any_shape(who, shape)
    if corrected:
        std /= _std_within(bound)
    return placed(who, mean + std * truncated_deviates(require_rng(who, rng), size, bound), dtype)


def uniform(
    shape: Sequence[int],
    *,
    low: float = 0.0,
    high: float = 1.0,
    rng: Rng = None,
    dtype: DTypeLike = np.float64,
) -> Array:
    r"""Uniform numbers.

    Parameters
    ----------
    shape : sequence of int
        Of any number of axes; lengths >= 0.
    low, high : float, default 0 and 1
        Ends of the interval.
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
        ``shape`` is no sequence.
    DomainError, DtypeError
        A length, an option or ``rng`` is not as above, or ``dtype`` is neither of the two.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> w = nm.nn.uniform((3, 2), low=-0.1, high=0.1, rng=0)
    >>> bool(abs(w).max() <= 0.1)
    True
    """
    low = require_real("uniform", "low", low, math.isfinite, "a finite number")
    high = require_real(
        "uniform", "high", high, lambda h: low <= h < math.inf, f"a finite number >= low = {low:g}"
    )
    size = any_shape("uniform", shape)
    return placed("uniform", require_rng("uniform", rng).uniform(low, high, size), dtype)


def constant(
    shape: Sequence[int],
    *,
    value: float = 0.0,
    rng: Rng = None,
    dtype: DTypeLike = np.float64,
) -> Array:
    r"""One number everywhere.

    Parameters
    ----------
    shape : sequence of int
        Of any number of axes; lengths >= 0.
    value : float, default 0
    rng : None, int or numpy.random.Generator
        Not used; layers hand it to every initialiser.
    dtype : dtype, default float64
        float32 or float64.

    Returns
    -------
    array, shape ``shape``
        On the default device.

    Raises
    ------
    ShapeError
        ``shape`` is no sequence.
    DomainError, DtypeError
        A length, an option or ``rng`` is not as above, or ``dtype`` is neither of the two.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.nn.constant((2,), value=0.1)
    array([0.1, 0.1])
    """
    value = require_real("constant", "value", value, math.isfinite, "a finite number")
    require_rng("constant", rng)
    return placed("constant", np.full(any_shape("constant", shape), value), dtype)


def zeros(
    shape: Sequence[int],
    *,
    rng: Rng = None,
    dtype: DTypeLike = np.float64,
) -> Array:
    r"""Zeros, as for the last layer of a residual branch.

    Parameters
    ----------
    shape : sequence of int
        Of any number of axes; lengths >= 0.
    rng : None, int or numpy.random.Generator
        Not used; layers hand it to every initialiser.
    dtype : dtype, default float64
        float32 or float64.

    Returns
    -------
    array, shape ``shape``
        On the default device.

    Raises
    ------
    ShapeError
        ``shape`` is no sequence.
    DomainError, DtypeError
        A length, an option or ``rng`` is not as above, or ``dtype`` is neither of the two.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.nn.zeros((2, 2))
    array([[0., 0.],
           [0., 0.]])
    """
    require_rng("zeros", rng)
    return placed("zeros", np.zeros(any_shape("zeros", shape)), dtype)


def _std_within(bound: float) -> float:
    """Standard deviation of a standard normal number within the bound."""
    if bound < 0.1:  # of a nearly uniform one, where the difference below loses digits
        return bound / math.sqrt(3.0) * (1.0 - bound * bound / 15.0)
    density = math.exp(-0.5 * bound * bound) / math.sqrt(2.0 * math.pi)
    return math.sqrt(1.0 - 2.0 * bound * density / (1.0 - 2.0 * float(ndtr(-bound))))


def _size(x: float) -> bool:
    return 0.0 <= x < math.inf


def any_shape(who: str, shape: Any) -> tuple[int, ...]:
    """Return any shape as a tuple."""
    if not isinstance(shape, tuple | list):
        raise ShapeError(sentence(who, "shape", "a tuple of lengths", describe(shape)))
    return tuple(require_int(who, f"shape[{i}]", n, minimum=0) for i, n in enumerate(shape))
