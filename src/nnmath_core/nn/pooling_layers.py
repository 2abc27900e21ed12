"""Layers around the functions of pooling; they have no arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from nnmath_core.checks import sentence
from nnmath_core.device import entering
from nnmath_core.errors import ShapeError
from nnmath_core.nn.pooling import pool_adaptive, pool_avg, pool_global, pool_max
from nnmath_core.nn.spatial import Padding, PerAxis, per_axis
from nnmath_core.typing import Array

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "GlobalAvgPool",
    "MaxPool1d",
    "MaxPool2d",
]


class _Pool:
    """What the layers share: how many axes of positions they have."""

    axes: ClassVar[int]

    def _require_axes(self, x: Any) -> None:
        """Refuse an input with other axes than examples, positions and channels."""
        shape = tuple(getattr(x, "shape", ()))
        if hasattr(x, "shape") and len(shape) not in (self.axes + 1, self.axes + 2):
            places = "t" if self.axes == 1 else "h, w"
            wanted = f"of shape (n, {places}, c), or ({places}, c) for one example"
            raise ShapeError(sentence(type(self).__name__, "x", wanted, str(shape)))

    def _each(self, arg: str, value: PerAxis) -> tuple[int, ...]:
        return per_axis(type(self).__name__, arg, value, self.axes, 1)


@dataclass(frozen=True, eq=False)
class _MaxPool(_Pool):
    window: PerAxis
    stride: PerAxis | None = None
    padding: Padding = 0
    dilation: PerAxis = 1
    ceil_mode: bool = field(default=False, kw_only=True)

    @entering
    def __call__(self, x: Array) -> Array:
        """Return the largest entry of each window.

        Parameters
        ----------
        x : array, shape (n, size, c), float32 or float64
            Examples; one of shape (size, c) is fine.

        Returns
        -------
        array, shape (n, counts, c)

        Raises
        ------
        DtypeError, ShapeError, DomainError
            As `max_pool`.
        """
        self._require_axes(x)
        window, who = self._each("window", self.window), type(self).__name__
        return pool_max(who, x, window, self.stride, self.padding, self.dilation, self.ceil_mode)


@dataclass(frozen=True, eq=False)
class MaxPool1d(_MaxPool):
    r"""Largest entry of each window of a sequence.

    .. math:: y_{n, t, c} = \max_k x_{n,\; s t + d k - p,\; c}

    Parameters
    ----------
    window, stride, padding, dilation, ceil_mode
        As for `max_pool`.

    Notes
    -----
    It has no arrays. Equal entries share the derivative equally; PyTorch gives it to the first.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.MaxPool1d(2)(np.ones((5, 11, 3))).shape
    (5, 5, 3)
    """

    axes: ClassVar[int] = 1


@dataclass(frozen=True, eq=False)
class MaxPool2d(_MaxPool):
    r"""Largest entry of each window of an image.

    .. math:: y_{n, i, j, c} = \max_{k, l} x_{n,\; s i + d k - p,\; s j + d l - p,\; c}

    Parameters
    ----------
    window, stride, padding, dilation, ceil_mode
        As for `max_pool`.

    Notes
    -----
    It has no arrays. Equal entries share the derivative equally; PyTorch gives it to the first.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.MaxPool2d(2)(np.ones((5, 26, 26, 8))).shape
    (5, 13, 13, 8)
    """

    axes: ClassVar[int] = 2


@dataclass(frozen=True, eq=False)
class _AvgPool(_Pool):
    window: PerAxis
    stride: PerAxis | None = None
    padding: Padding = 0
    ceil_mode: bool = field(default=False, kw_only=True)
    count_include_pad: bool = field(default=True, kw_only=True)

    @entering
    def __call__(self, x: Array) -> Array:
        """Return the mean of each window.

        Parameters
        ----------
        x : array, shape (n, size, c), float32 or float64
            Examples; one of shape (size, c) is fine.

        Returns
        -------
        array, shape (n, counts, c)

        Raises
        ------
        DtypeError, ShapeError, DomainError
            As `avg_pool`.
        """
        self._require_axes(x)
        window, who = self._each("window", self.window), type(self).__name__
        options = self.stride, self.padding, self.ceil_mode, self.count_include_pad
        return pool_avg(who, x, window, *options)


@dataclass(frozen=True, eq=False)
class AvgPool1d(_AvgPool):
    r"""Mean of each window of a sequence.

    .. math:: y_{n, t, c} = \frac{1}{m_t} \sum_k x_{n,\; s t + k - p,\; c}

    Parameters
    ----------
    window, stride, padding, ceil_mode, count_include_pad
        As for `avg_pool`.

    Notes
    -----
    It has no arrays.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.AvgPool1d(3, stride=1, padding=1)(np.ones((5, 11, 3))).shape
    (5, 11, 3)
    """

    axes: ClassVar[int] = 1


@dataclass(frozen=True, eq=False)
class AvgPool2d(_AvgPool):
    r"""Mean of each window of an image.

    .. math:: y_{n, i, j, c} = \frac{1}{m_{ij}} \sum_{k, l} x_{n,\; s i + k - p,\; s j + l - p,\; c}

    Parameters
    ----------
    window, stride, padding, ceil_mode, count_include_pad
        As for `avg_pool`.

    Notes
    -----
    It has no arrays.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.AvgPool2d((2, 4))(np.ones((5, 8, 8, 3))).shape
    (5, 4, 2, 3)
    """

    axes: ClassVar[int] = 2


@dataclass(frozen=True, eq=False)
class _AdaptiveAvgPool(_Pool):
    size: PerAxis

    @entering
    def __call__(self, x: Array) -> Array:
        """Return the means of windows that cover ``x``.

        Parameters
        ----------
        x : array, shape (n, any size, c), float32 or float64
            Examples; one of shape (any size, c) is fine.

        Returns
        -------
        array, shape (n, size, c)

        Raises
        ------
        DtypeError, ShapeError, DomainError
            As `adaptive_avg_pool`.
        """
        self._require_axes(x)
        return pool_adaptive(type(self).__name__, x, self._each("size", self.size))


@dataclass(frozen=True, eq=False)
class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    r"""Means of as many windows as are wanted, of a sequence of any length.

    .. math:: y_i = \frac{1}{b_i - a_i} \sum_{m = a_i}^{b_i - 1} x_m, \qquad
        a_i = \lfloor i n / s \rfloor, \quad b_i = \lceil (i + 1) n / s \rceil

    Parameters
    ----------
    size : int
        Length of the result.

    Notes
    -----
    It has no arrays.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.AdaptiveAvgPool1d(4)(np.ones((5, 11, 3))).shape
    (5, 4, 3)
    """

    axes: ClassVar[int] = 1


@dataclass(frozen=True, eq=False)
class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    r"""Means of as many windows as are wanted, of an image of any size.

    .. math:: y_i = \frac{1}{b_i - a_i} \sum_{m = a_i}^{b_i - 1} x_m, \qquad
        a_i = \lfloor i n / s \rfloor, \quad b_i = \lceil (i + 1) n / s \rceil

    along both axes of positions.

    Parameters
    ----------
    size : int or pair of int
        Height and width of the result.

    Notes
    -----
    It has no arrays.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.AdaptiveAvgPool2d((2, 3))(np.ones((5, 7, 7, 4))).shape
    (5, 2, 3, 4)
    """

    axes: ClassVar[int] = 2


@dataclass(frozen=True, eq=False)
class GlobalAvgPool:
    r"""Mean of all positions of each channel.

    .. math:: y_{n, c} = \frac{1}{h w} \sum_{i, j} x_{n, i, j, c}

    Notes
    -----
    It has no arrays.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.GlobalAvgPool()(np.ones((5, 7, 7, 4))).shape
    (5, 4)
    """

    @entering
    def __call__(self, x: Array) -> Array:
        """Return the means.

        Parameters
        ----------
        x : array, shape (n, size, c), float32 or float64

        Returns
        -------
        array, shape (n, c)

        Raises
        ------
        DtypeError, ShapeError
            As `global_avg_pool`.
        """
        return pool_global("GlobalAvgPool", x)
