"""The scale and the shift behind a normalisation, and what all normalisations check."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core.checks import (
    require_in,
    require_positive_int,
    require_real,
    require_shape,
    sentence,
)
from nnmath_core.device import backend_for, current_default_device
from nnmath_core.errors import ShapeError
from nnmath_core.nn.initializers import require_float_dtype
from nnmath_core.nn.operands import require_operand, require_operand_of
from nnmath_core.typing import Array

__all__ = [
    "affine",
    "constants",
    "require_channels",
    "require_eps",
    "require_lengths",
    "require_running",
]


def require_eps(who: str, eps: Any) -> float:
    """Return what is added to a variance as a Python float.

    Raises
    ------
    DomainError, DtypeError
        It is negative, infinite or NaN, or no number.
    """
    advice = "It is added to the variance before the root is taken."
    return require_real(who, "eps", eps, lambda e: 0 <= e < math.inf, "finite and >= 0", advice)


def require_channels(who: str, x: Array, channels: int | None, ndim: int = 2) -> int:
    """Return the length of the last axis of ``x``, which has at least ``ndim`` axes.

    Raises
    ------
    ShapeError
        ``x`` has fewer axes or another length.
    """
    wanted = "(n, ..., c)" if ndim > 1 else "(..., c)"
    shape = tuple(x.shape)
    if len(shape) < ndim:
        advice = "The last axis holds the channels" + (", the first the examples." * (ndim > 1))
        raise ShapeError(sentence(who, "x", f"of shape {wanted}", str(shape), advice))
    if channels is not None and shape[-1] != channels:
        wanted = wanted.replace("c)", f"{channels})")
        advice = "Channels are the last axis: images are (n, h, w, c)."
        raise ShapeError(sentence(who, "x", f"of shape {wanted}", str(shape), advice))
    return int(shape[-1])


def require_running(who: str, mean: Any) -> Array:
    """Return a running mean, which has a number for each channel.

    Raises
    ------
    ShapeError, DtypeError
        It is no array of floats with one axis.
    """
    mean = require_operand(who, "mean", mean)
    require_shape(who, "mean", mean, (None,))
    array: Array = mean
    return array


def require_lengths(who: str, arg: str, lengths: Any) -> tuple[int, ...]:
    """Return a length, or a sequence of lengths, as a tuple of positive integers.

    Raises
    ------
    DtypeError, DomainError
        An entry is no integer, or below 1.
    ShapeError
        There is none.
    """
    if isinstance(lengths, tuple | list):
        if not lengths:
            raise ShapeError(sentence(who, arg, "a length, or a tuple of lengths", "none"))
        return tuple(require_positive_int(who, f"{arg}[{i}]", n) for i, n in enumerate(lengths))
    return (require_positive_int(who, arg, lengths),)


def affine(
    who: str,
    y: Array,
    scale: Any,
    shift: Any,
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    dtype: np.dtype[Any],
) -> Array:
    """Return ``y * scale + shift``, where both have the lengths ``shape`` of the axes ``axes`` of ``y``.

    Raises
    ------
    ShapeError, DtypeError
        One of them has another shape or dtype.
    """
    ndim = len(y.shape)
    spread = tuple(n if k in axes else 1 for k, n in enumerate(y.shape))
    trailing = axes == tuple(range(ndim - len(axes), ndim))
    for arg, value in (("scale", scale), ("shift", shift)):
        if value is None:
            continue
        value = require_operand_of(who, arg, value, dtype, "x")
        require_shape(who, arg, value, shape)
        value = value if trailing else np.reshape(value, spread)
        y = y * value if arg == "scale" else y + value
    return y


def constants(
    who: str, shape: tuple[int, ...], dtype: DTypeLike, *, scale: bool, shift: bool
) -> tuple[Array | None, Array | None]:
    """Return a scale of ones and a shift of zeros on the default device, None where there is none.

    Raises
    ------
    DtypeError
        ``dtype`` is neither float32 nor float64.
    """
    dtype = require_float_dtype(who, dtype)
    require_in(who, "scale", scale, (True, False))
    require_in(who, "shift", shift, (True, False))
    xp = backend_for(current_default_device()).xp
    return xp.ones(shape, dtype) if scale else None, xp.zeros(shape, dtype) if shift else None
