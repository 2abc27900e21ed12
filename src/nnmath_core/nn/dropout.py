"""Dropout: entries, or whole channels, are put to zero at random, and the others made larger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core.checks import describe, require_real, sentence
from nnmath_core.device import entering
from nnmath_core.errors import DomainError, DtypeError
from nnmath_core.nn.operands import require_operand
from nnmath_core.random import bits
from nnmath_core.random.draws import require_key
from nnmath_core.typing import Array, ArrayLike

__all__ = ["Dropout", "dropout"]

_WORDS = 2**32


@entering
def dropout(
    x: ArrayLike, rate: float, key: Array | None, *, broadcast_dims: Sequence[int] = ()
) -> Array:
    r"""Put entries to zero at random, and divide the others by the probability of staying.

    .. math::
        y_i = \frac{m_i}{1 - p} \, x_i, \qquad m_i \sim \operatorname{Bernoulli}(1 - p),
        \qquad \mathrm{E}\, y = x

    Parameters
    ----------
    x : array, float32 or float64
        Any shape.
    rate : float, in [0, 1)
        The probability p of each entry to become 0.
    key : array, shape (2,), uint32
        Of `nm.random.key`, on the device of ``x``; use it once. None is enough when ``rate`` is 0.
    broadcast_dims : sequence of int, default ()
        Axes along which all entries share their fate: ``(1, 2)`` drops whole channels of images
        (n, h, w, c), ``(1,)`` those of sequences (n, t, c) (PyTorch's `Dropout2d`, `Dropout1d`).

    Returns
    -------
    array, shape and dtype of ``x``

    Raises
    ------
    DomainError
        ``rate`` is outside of [0, 1), or an axis outside of ``x``.
    DtypeError
        ``x`` is no array of floats, or ``key`` missing or none of `nm.random`.
    ShapeError
        ``key`` holds several keys.
    DeviceError
        ``key`` is on another device than ``x``: `to_device` moves it.

    Notes
    -----
    The mask depends on the key, the shape and the rate alone: it is the same in float32 and float64, in eager and
    staged functions, and on every device. An entry stays when its 32 random bits, read as an integer, are at least
    ``rate * 2**32``, so the probability is met within ``2**-33``. Variance of an entry: ``p / (1 - p) * x**2``.
    The derivative of what is dropped is exactly 0, also where ``x`` is NaN or infinite; of what stays it is
    ``1 / (1 - p)``. A rate of 0 is the identity. Under `vmap` with one key for all, all examples have one mask: split
    the key for masks of their own.

    References
    ----------
    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.
    Tompson et al., "Efficient object localization using convolutional networks", 2015 (whole channels).

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.dropout(np.ones(4), 0.5, nm.random.key(0))
    array([0., 2., 2., 2.])
    """
    return _dropout("dropout", x, rate, key, broadcast_dims)


def _dropout(who: str, value: Any, rate: Any, key: Any, broadcast_dims: Any) -> Array:
    x: Array = require_operand(who, "x", value)
    p = require_rate(who, rate)
    shared = _axes(who, broadcast_dims, len(x.shape))
    if key is None:
        if p == 0.0:
            return x
        advice = "Randomness needs a key: `nm.random.key(seed)`, a new one for every call."
        raise DtypeError(sentence(who, "key", "made by nm.random.key", "None", advice))
    key = require_key(who, key, beside=x)
    if p == 0.0:
        return x
    shape = tuple(1 if axis in shared else n for axis, n in enumerate(x.shape))
    keep = np.greater_equal(bits(key, shape), min(round(p * _WORDS), _WORDS - 1))
    y: Array = np.where(keep, x / (1.0 - p), 0.0)
    return y


def require_rate(who: str, rate: Any, arg: str = "rate") -> float:
    """Return a rate of dropout as a Python float.

    Raises
    ------
    DomainError, DtypeError
        It is outside of [0, 1), or no number.
    """
    advice = "It is the probability of an entry to become 0; at 1 nothing would be left."
    return require_real(who, arg, rate, lambda p: 0.0 <= p < 1.0, "in [0, 1)", advice)


def _integers(who: str, given: Any) -> tuple[int, ...]:
    axes = tuple(given) if isinstance(given, tuple | list) else (given,)
    for axis in axes:
        if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
            got = describe(axis if isinstance(given, tuple | list) else given)
            raise DtypeError(sentence(who, "broadcast_dims", "a tuple of integers", got))
    return tuple(map(int, axes))


def _axes(who: str, given: Any, ndim: int) -> tuple[int, ...]:
    axes = _integers(who, given)
    for axis in axes:
        if not -ndim <= axis < ndim:
            wanted = f"axes of an array with {ndim} axes"
            raise DomainError(sentence(who, "broadcast_dims", wanted, str(axis)))
    return tuple(axis % ndim for axis in axes)


@dataclass(frozen=True, eq=False, repr=False)
class Dropout:
    r"""The layer of `dropout`: at random in training, the identity in evaluation.

    Parameters
    ----------
    rate : float, in [0, 1)
        The probability of each entry to become 0.
    broadcast_dims : tuple of int, default ()
        Axes along which all entries share their fate; ``(1, 2)`` drops whole channels of images.

    Raises
    ------
    DomainError, DtypeError
        ``rate`` is outside of [0, 1), or no number.

    Notes
    -----
    It has no arrays. ``layer(x)`` returns ``x``; ``layer.train(x, key=key)`` drops.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> layer = nm.nn.Dropout(0.5)
    >>> layer(np.ones(3))
    array([1., 1., 1.])
    >>> y, layer = layer.train(np.ones(4), key=nm.random.key(0))
    >>> y
    array([0., 2., 2., 2.])
    """

    rate: float
    broadcast_dims: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", require_rate("Dropout", self.rate))
        object.__setattr__(self, "broadcast_dims", _integers("Dropout", self.broadcast_dims))

    @entering
    def __call__(self, x: ArrayLike) -> Array:
        """Return ``x``.

        Parameters
        ----------
        x : array, float32 or float64
            Any shape.

        Returns
        -------
        array
            ``x`` itself.

        Raises
        ------
        DtypeError
            ``x`` is no array of floats.
        """
        return require_operand("Dropout", "x", x)

    @entering
    def train(self, x: ArrayLike, *, key: Array | None = None) -> tuple[Array, Dropout]:
        """Return ``x`` with entries dropped, and the layer.

        Parameters
        ----------
        x : array, float32 or float64
            Any shape.
        key : array, shape (2,), uint32
            Of `nm.random.key`; a new one for every call.

        Returns
        -------
        y : array, shape and dtype of ``x``
        layer : Dropout
            Itself: nothing is learnt.

        Raises
        ------
        DtypeError, DomainError
            As `dropout`; ``key`` is missing.
        """
        return _dropout("Dropout", x, self.rate, key, self.broadcast_dims), self

    def __repr__(self) -> str:
        dims = f", broadcast_dims={self.broadcast_dims}" if self.broadcast_dims else ""
        return f"Dropout({self.rate:g}{dims})"
