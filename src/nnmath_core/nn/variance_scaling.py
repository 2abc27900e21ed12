"""The initialiser from which those with a name come: a variance that is a number over the terms of a sum.

A weight has shape (in, out); in front of these axes a kernel has axes over which its sums run, as (kh, kw, in, out),
and their lengths multiply both fans.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike
from scipy.special import ndtr, ndtri

from nnmath_core.checks import (
    describe,
    require_in,
    require_positive_int,
    require_real,
    require_rng,
    sentence,
)
from nnmath_core.device import backend_for, current_default_device
from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.typing import Array, Rng

__all__ = [
    "VarianceScaling",
    "fans_of",
    "is_positive",
    "matrix_shape",
    "placed",
    "require_float_dtype",
    "truncated_deviates",
    "variance_scaling",
]

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

_TRUNCATED_STD = 0.8796256610342398
"""Standard deviation of a standard normal number that is drawn again until it is within 2."""

Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
Distribution = Literal["normal", "uniform", "truncated_normal"]
Axes = int | Sequence[int]


def variance_scaling(
    scale: float = 1.0,
    *,
    mode: Mode = "fan_in",
    distribution: Distribution = "normal",
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
) -> VarianceScaling:
    r"""Initialiser whose variance is a number over the number of terms of a sum: the root of them all.

    .. math:: \operatorname{Var} W = \frac{scale}{fan}

    Parameters
    ----------
    scale : float, default 1
        Positive. 1 keeps the variance of a linear layer, 2 that in front of relu; `gain` squared for any activation.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}, default "fan_in"
        The fan: terms of an output (keeps signals), of the gradient of an input (keeps gradients), arithmetic or
        geometric mean of the two.
    distribution : {"normal", "uniform", "truncated_normal"}, default "normal"
        Normal; uniform with the bound :math:`\sqrt{3 \, scale / fan}`; normal with the tails beyond two standard
        deviations cut off, those of the uncut distribution, which is wider by 1 / 0.8796256610342398 so that the
        variance is the stated one.
    in_axis, out_axis : int or sequence of int, default -2 and -1
        The axes of inputs and outputs; all others, but for ``batch_axis``, multiply both fans.
    batch_axis : int or sequence of int, default none
        Axes of weights that stand side by side, as those of layers that are run by `scan` or `vmap`; they do not count.

    Returns
    -------
    VarianceScaling
        ``init(shape, *, rng, dtype)``.

    Raises
    ------
    DomainError, DtypeError
        An option is not as above.

    Notes
    -----
    =================  =======  ===============  ================  ==================
    initialiser        scale    mode             here, PyTorch     JAX, Keras
    =================  =======  ===============  ================  ==================
    `glorot_normal`    1        fan_avg          normal            truncated
    `he_normal`        2        fan_in           normal            truncated
    `lecun_normal`     1        fan_in           normal            truncated
    `torch_default`    1/3      fan_in           uniform           (none)
    =================  =======  ===============  ================  ==================

    For a kernel in groups, fan_out counts all outputs, as in PyTorch and JAX; an input meets those of its group alone:
    multiply ``scale`` by the number of groups where gradients are to be kept.

    References
    ----------
    The meaning of the arguments is that of ``jax.nn.initializers.variance_scaling``.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> init = nm.nn.variance_scaling(2.0, mode="fan_out", distribution="truncated_normal")
    >>> init((3, 3, 16, 32), rng=0).std().round(3), (2 / (9 * 32)) ** 0.5
    (np.float64(0.084), 0.08333333333333333)
    >>> layer = nm.nn.Conv2d.init((16, 32), 3, init=init, rng=0)
    """
    who = "variance_scaling"
    scale = require_real(who, "scale", scale, is_positive, "a positive finite number")
    require_in(who, "mode", mode, ("fan_in", "fan_out", "fan_avg", "fan_geo_avg"))
    require_in(who, "distribution", distribution, ("normal", "uniform", "truncated_normal"))
    axes = (
        _axes(who, name, axis)
        for name, axis in (("in_axis", in_axis), ("out_axis", out_axis), ("batch_axis", batch_axis))
    )
    return VarianceScaling(scale, mode, distribution, *axes)


@dataclass(frozen=True)
class VarianceScaling:
    """What `variance_scaling` returns: ``init(shape, *, rng, dtype)``.

    Attributes
    ----------
    scale : float
    mode, distribution : str
    in_axis, out_axis, batch_axis : tuple of int
        As given to `variance_scaling`.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.nn.variance_scaling(3.0).variance((12, 5))
    0.25
    """

    scale: float
    mode: Mode
    distribution: Distribution
    in_axis: tuple[int, ...] = (-2,)
    out_axis: tuple[int, ...] = (-1,)
    batch_axis: tuple[int, ...] = ()

    def variance(self, shape: Sequence[int]) -> float:
        """Return the variance of the weights of a shape.

        Parameters
        ----------
        shape : sequence of int, (..., in, out)

        Returns
        -------
        float
        """
        return self._variance("variance_scaling", shape)

    def __call__(
        self, shape: Sequence[int], *, rng: Rng = None, dtype: DTypeLike = np.float64
    ) -> Array:
        """Return weights.

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
        """
        return self._draw("variance_scaling", shape, rng, dtype)

    def _variance(self, who: str, shape: Any) -> float:
        fan_in, fan_out = fans_of(who, shape, self.in_axis, self.out_axis, self.batch_axis)
        if self.mode == "fan_avg":  # as 2 / (in + out), so that a scale of 1 rounds once
            return 2.0 * self.scale / (fan_in + fan_out)
        fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_geo_avg": math.sqrt(fan_in * fan_out)}
        return self.scale / fans[self.mode]

    def _draw(self, who: str, shape: Any, rng: Rng, dtype: Any) -> Array:
        std = math.sqrt(self._variance(who, shape))
        generator, size = require_rng(who, rng), tuple(shape)
        if self.distribution == "uniform":
            bound = math.sqrt(3.0 * self._variance(who, shape))
            return placed(who, generator.uniform(-bound, bound, size), dtype)
        if self.distribution == "normal":
            return placed(who, std * generator.standard_normal(size), dtype)
        return placed(who, std / _TRUNCATED_STD * truncated_deviates(generator, size, 2.0), dtype)


# ------------------------------------------------------------------------------------ what the others share
def truncated_deviates(
    generator: np.random.Generator, size: tuple[int, ...], bound: float
) -> Array:
    """Standard normal numbers within the bound, by the inverse of the distribution function."""
    low = float(ndtr(-bound))
    # from the nearer tail, where the function is resolved
    u = low + (0.5 - low) * generator.random(size)
    z: Array = ndtri(u)
    return np.where(generator.random(size) < 0.5, z, -z)


def is_positive(x: float) -> bool:
    """Whether a number is positive and finite."""
    return 0.0 < x < math.inf


def _axes(who: str, name: str, value: Any) -> tuple[int, ...]:
    """Return axes as a tuple of integers."""
    given = tuple(value) if isinstance(value, tuple | list) else (value,)
    for n in given:
        if isinstance(n, bool | np.bool_) or not isinstance(n, int | np.integer):
            raise DtypeError(sentence(who, name, "an integer or a tuple of integers", describe(n)))
    return tuple(int(n) for n in given)


def matrix_shape(who: str, shape: Any, wanted: str = "a tuple (..., in, out)") -> tuple[int, ...]:
    """Return a shape of two axes or more, none of them empty.

    Raises
    ------
    ShapeError, DomainError, DtypeError
        It is none.
    """
    if not isinstance(shape, tuple | list) or len(shape) < 2:
        got = str(shape) if isinstance(shape, tuple | list) else describe(shape)
        raise ShapeError(sentence(who, "shape", wanted, got))
    return tuple(require_positive_int(who, f"shape[{i}]", n) for i, n in enumerate(shape))


def fans_of(
    who: str,
    shape: Any,
    in_axis: tuple[int, ...] = (-2,),
    out_axis: tuple[int, ...] = (-1,),
    batch_axis: tuple[int, ...] = (),
) -> tuple[int, int]:
    """Return how many terms the sum of one output and of one input's gradient have."""
    lengths = matrix_shape(who, shape)
    axes = [*in_axis, *out_axis, *batch_axis]
    places = [a % len(lengths) for a in axes if -len(lengths) <= a < len(lengths)]
    if len(places) < len(axes) or len(set(places)) < len(places):
        raise DomainError(
            f"{who}: `in_axis`, `out_axis` and `batch_axis` must be distinct axes of the shape {lengths}, got "
            f"{in_axis}, {out_axis} and {batch_axis}."
        )
    field = math.prod(n for i, n in enumerate(lengths) if i not in places)
    fan_in = field * math.prod(lengths[a] for a in in_axis)
    return fan_in, field * math.prod(lengths[a] for a in out_axis)


def placed(who: str, weight: Array, dtype: Any) -> Array:
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
