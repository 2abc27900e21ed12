"""Normalisation of groups of channels of each example, and of each channel of each example."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core.autodiff.ops.standardize import standardize_p
from nnmath_core.checks import describe, require_positive_int, sentence
from nnmath_core.device import entering
from nnmath_core.errors import DomainError, ShapeError
from nnmath_core.nn.affine import affine, constants, require_channels, require_eps
from nnmath_core.nn.operands import require_operand
from nnmath_core.typing import Array, ArrayLike

__all__ = ["GroupNorm", "InstanceNorm", "group_norm", "instance_norm"]


@entering
def group_norm(
    x: Array,
    scale: ArrayLike | None = None,
    shift: ArrayLike | None = None,
    *,
    groups: int,
    eps: float = 1e-5,
) -> Array:
    r"""Standardise groups of neighbouring channels of each example, over all its positions.

    .. math:: y_{n p c} = \gamma_c \frac{x_{n p c} - \mu_{n g(c)}}{\sqrt{\sigma_{n g(c)}^2 + \epsilon}} + \beta_c

    Parameters
    ----------
    x : array, shape (n, ..., c), float32 or float64
        The first axis is that of the examples, the last that of the channels.
    scale, shift : array, shape (c,), dtype of ``x``, or None
        :math:`\gamma` and :math:`\beta`; None leaves one out.
    groups : int
        How many, a divisor of c; 1 is a layer normalisation of the whole example.
    eps : float, default 1e-5
        Finite and >= 0.

    Returns
    -------
    array, shape and dtype of ``x``

    Raises
    ------
    ShapeError
        ``x`` has fewer than two axes or no entries in an example, ``groups`` does not divide c, or an array has another
        length.
    DtypeError
        An argument is no array of floats, or the dtypes differ.
    DomainError
        ``groups`` or ``eps`` is not as above.

    Notes
    -----
    Statistics, error bound, gradient and special points are those of `layer_norm`: a group of one entry gives 0.

    References
    ----------
    Wu & He, "Group normalization", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.group_norm(np.array([[1.0, 3.0, 10.0, 50.0]]), groups=2, eps=0.0)
    array([[-1.,  1., -1.,  1.]])
    """
    who = "group_norm"
    x = require_operand(who, "x", x)
    channels = require_channels(who, x, None)
    y = _by_groups(who, x, channels, groups, require_eps(who, eps))
    return affine(who, y, scale, shift, (channels,), (len(x.shape) - 1,), x.dtype)


def _by_groups(who: str, x: Array, channels: int, groups: Any, eps: float) -> Array:
    require_divisor(who, groups, channels)
    shape = tuple(x.shape)
    if 0 in shape[1:]:
        raise ShapeError(sentence(who, "x", "an array of examples with entries", f"shape {shape}"))
    split = (shape[0], math.prod(shape[1:-1]), groups, channels // groups)
    y = standardize_p(np.reshape(x, split), axis=(1, 3), eps=eps)[0]
    return np.reshape(y, shape)


def require_divisor(who: str, groups: Any, channels: int) -> int:
    """Return a number of groups that divides the channels.

    Raises
    ------
    ShapeError, DomainError, DtypeError
        It does not, or is no positive integer.
    """
    count = require_positive_int(who, "groups", groups)
    if channels % count:
        advice = "All groups have the same number of channels."
        raise ShapeError(
            sentence(who, "groups", f"a divisor of the {channels} channels", str(count), advice)
        )
    return count


@entering
def instance_norm(
    x: Array,
    scale: ArrayLike | None = None,
    shift: ArrayLike | None = None,
    *,
    eps: float = 1e-5,
) -> Array:
    r"""Standardise each channel of each example over its positions.

    .. math:: y_{n p c} = \gamma_c \frac{x_{n p c} - \mu_{n c}}{\sqrt{\sigma_{n c}^2 + \epsilon}} + \beta_c

    Parameters
    ----------
    x : array, shape (n, ..., c), float32 or float64
        Three or more axes: examples, positions, channels.
    scale, shift : array, shape (c,), dtype of ``x``, or None
        :math:`\gamma` and :math:`\beta`; None leaves one out.
    eps : float, default 1e-5
        Finite and >= 0.

    Returns
    -------
    array, shape and dtype of ``x``

    Raises
    ------
    ShapeError
        ``x`` has fewer than three axes, or an array another length.
    DomainError
        Fewer than two positions, of which nothing would be left; or ``eps`` is not as above.
    DtypeError
        An argument is no array of floats, or the dtypes differ.

    Notes
    -----
    Statistics, error bound, gradient and special points are those of `layer_norm`.

    References
    ----------
    Ulyanov, Vedaldi & Lempitsky, "Instance normalization", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.instance_norm(np.array([[[1.0, 10.0], [3.0, 50.0]]]), eps=0.0)
    array([[[-1., -1.],
            [ 1.,  1.]]])
    """
    who = "instance_norm"
    x = require_operand(who, "x", x)
    channels = require_channels(who, x, None, ndim=3)
    positions = tuple(range(1, len(x.shape) - 1))
    count = math.prod(x.shape[k] for k in positions)
    if count < 2:
        raise DomainError(
            f"{who}: a channel needs 2 or more positions; `x` has shape {tuple(x.shape)}, which are {count}. "
            "Its own mean taken away, nothing would be left: use layer_norm or group_norm."
        )
    y = standardize_p(x, axis=positions, eps=require_eps(who, eps))[0]
    return affine(who, y, scale, shift, (channels,), (len(x.shape) - 1,), x.dtype)


@dataclass(frozen=True, eq=False, repr=False)
class GroupNorm:
    r"""The layer of `group_norm`.

    Parameters
    ----------
    scale, shift : array, shape (channels,), float32 or float64, or None
        :math:`\gamma` and :math:`\beta`; None leaves one out.
    groups : int
        A divisor of the channels.
    channels : int
        The length of the last axis.
    eps : float
        What is added to the variance.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.GroupNorm.init(2, 4)(np.ones((3, 5, 5, 4))).shape
    (3, 5, 5, 4)
    """

    scale: Array | None
    shift: Array | None
    groups: int
    channels: int
    eps: float

    @classmethod
    def init(
        cls,
        groups: int,
        channels: int,
        *,
        eps: float = 1e-5,
        scale: bool = True,
        shift: bool = True,
        dtype: DTypeLike = np.float64,
    ) -> GroupNorm:
        """Return a layer with a scale of ones and a shift of zeros.

        Parameters
        ----------
        groups : int
            A divisor of ``channels``.
        channels : int
            The length of the last axis, >= 1.
        eps : float, default 1e-5
            Finite and >= 0.
        scale, shift : bool, default True
            Whether the layer has one.
        dtype : dtype, default float64
            float32 or float64.

        Returns
        -------
        GroupNorm
            On the default device.

        Raises
        ------
        ShapeError, DomainError, DtypeError
            An argument is not as above.
        """
        who = "GroupNorm.init"
        channels = require_positive_int(who, "channels", channels)
        groups = require_divisor(who, groups, channels)
        arrays = constants(who, (channels,), dtype, scale=scale, shift=shift)
        return cls(*arrays, groups, channels, require_eps(who, eps))

    @entering
    def __call__(self, x: Array) -> Array:
        """Return the normalised examples.

        Parameters
        ----------
        x : array, shape (n, ..., channels), dtype of the layer

        Returns
        -------
        array, shape and dtype of ``x``

        Raises
        ------
        ShapeError, DtypeError
            ``x`` has another shape or dtype.
        """
        x = require_operand("GroupNorm", "x", x)
        require_channels("GroupNorm", x, self.channels)
        return group_norm(x, self.scale, self.shift, groups=self.groups, eps=self.eps)

    def __repr__(self) -> str:
        parts = f"scale: {describe(self.scale)}, shift: {describe(self.shift)}"
        return (
            f"GroupNorm({parts}, groups: {self.groups}, channels: {self.channels}, eps: {self.eps})"
        )


@dataclass(frozen=True, eq=False, repr=False)
class InstanceNorm:
    r"""The layer of `instance_norm`.

    Parameters
    ----------
    scale, shift : array, shape (channels,), float32 or float64, or None
        :math:`\gamma` and :math:`\beta`; None leaves one out.
    channels : int
        The length of the last axis.
    eps : float
        What is added to the variance.

    Notes
    -----
    It uses the statistics of ``x`` in training and evaluation alike, PyTorch's default.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.InstanceNorm.init(4)(np.ones((3, 5, 5, 4))).shape
    (3, 5, 5, 4)
    """

    scale: Array | None
    shift: Array | None
    channels: int
    eps: float

    @classmethod
    def init(
        cls,
        channels: int,
        *,
        eps: float = 1e-5,
        scale: bool = False,
        shift: bool = False,
        dtype: DTypeLike = np.float64,
    ) -> InstanceNorm:
        """Return a layer; with ``scale`` and ``shift`` these are ones and zeros.

        Parameters
        ----------
        channels : int
            The length of the last axis, >= 1.
        eps : float, default 1e-5
            Finite and >= 0.
        scale, shift : bool, default False
            Whether the layer has one; PyTorch's ``affine`` is both.
        dtype : dtype, default float64
            float32 or float64.

        Returns
        -------
        InstanceNorm
            On the default device.

        Raises
        ------
        DomainError, DtypeError
            An argument is not as above.
        """
        who = "InstanceNorm.init"
        channels = require_positive_int(who, "channels", channels)
        arrays = constants(who, (channels,), dtype, scale=scale, shift=shift)
        return cls(*arrays, channels, require_eps(who, eps))

    @entering
    def __call__(self, x: Array) -> Array:
        """Return the normalised examples.

        Parameters
        ----------
        x : array, shape (n, ..., channels), dtype of the layer
            Three or more axes.

        Returns
        -------
        array, shape and dtype of ``x``

        Raises
        ------
        ShapeError, DtypeError
            ``x`` has another shape or dtype.
        DomainError
            Fewer than two positions.
        """
        x = require_operand("InstanceNorm", "x", x)
        require_channels("InstanceNorm", x, self.channels, ndim=3)
        return instance_norm(x, self.scale, self.shift, eps=self.eps)

    def __repr__(self) -> str:
        parts = f"scale: {describe(self.scale)}, shift: {describe(self.shift)}"
        return f"InstanceNorm({parts}, channels: {self.channels}, eps: {self.eps})"
