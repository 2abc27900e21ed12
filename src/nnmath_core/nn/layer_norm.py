"""Normalisation of each example by its own statistics: layer normalisation, and that by the root mean square."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core.autodiff.ops.standardize import rms_p, standardize_p
from nnmath_core.checks import describe, sentence
from nnmath_core.device import entering
from nnmath_core.errors import ShapeError
from nnmath_core.nn.affine import affine, constants, require_eps, require_lengths
from nnmath_core.nn.operands import require_axes, require_operand
from nnmath_core.typing import Array, ArrayLike

__all__ = ["LayerNorm", "RMSNorm", "layer_norm", "rms_norm"]


@entering
def layer_norm(
    x: Array,
    scale: ArrayLike | None = None,
    shift: ArrayLike | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
) -> Array:
    r"""Bring the entries of each example to mean 0 and variance 1.

    .. math:: y = \gamma \hat x + \beta, \qquad \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}, \qquad
        \mu = \frac{1}{n} \sum_i x_i, \qquad \sigma^2 = \frac{1}{n} \sum_i (x_i - \mu)^2

    Parameters
    ----------
    x : array, float32 or float64
        Of any shape, with n >= 1 entries along ``axis``.
    scale, shift : array, shape of ``x`` along ``axis``, dtype of ``x``, or None
        :math:`\gamma` and :math:`\beta`; None leaves one out.
    axis : int or tuple of int, default -1
        The axes of an example, over which mean and variance are taken.
    eps : float, default 1e-5
        Finite and >= 0.

    Returns
    -------
    array, shape and dtype of ``x``

    Raises
    ------
    ShapeError
        ``x`` has no entries along ``axis``, or ``scale`` or ``shift`` another shape.
    DtypeError
        An argument is no array of floats, or the dtypes differ.
    DomainError
        ``eps`` is negative or not finite; an axis does not exist, or is named twice.

    Notes
    -----
    The variance is the biased one, with divisor n.

    *Error bound.* Statistics are made in two passes of differences to the first entry and summed in double precision:
    :math:`|\delta \hat x_i| \le 4 u (1 + |\hat x_i| + d)` with the unit roundoff u of the dtype and d the distance of
    the first entry from the mean in standard deviations, at most :math:`\sqrt n`; in float64 sums add n u. The mean
    itself does not appear: float32 entries around 2000 with variance 1 normalise as those around 0 do.

    *Gradient.* With :math:`g` the gradient in :math:`\hat x`,

    .. math:: \frac{\partial L}{\partial x} = \frac{1}{\sqrt{\sigma^2 + \epsilon}}
        \Bigl(g - \overline{g} - \hat x \, \overline{g \hat x}\Bigr)

    the bars being means over the example: the Jacobian is symmetric, and this is the rule of both modes.

    *Special points.* Equal entries give 0, exactly. With ``eps=0`` that is the value at a point where the function has
    no limit, and the derivative there is 0, as that of the norm at 0. Of one entry alone the result is 0 (the limit),
    so that the layer returns ``shift``. Cost: three passes.

    References
    ----------
    Ba, Kiros & Hinton, "Layer normalization", 2016. Chan, Golub & LeVeque, "Algorithms for computing the sample
    variance", 1983.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.layer_norm(np.array([1.0, 2.0, 3.0, 4.0]))
    array([-1.34163542, -0.44721181,  0.44721181,  1.34163542])
    """
    who = "layer_norm"
    x = require_operand(who, "x", x)
    axes = _axes(who, x, axis)
    y = standardize_p(x, axis=axes, eps=require_eps(who, eps))[0]
    return affine(who, y, scale, shift, tuple(x.shape[k] for k in axes), axes, x.dtype)


@entering
def rms_norm(
    x: Array,
    scale: ArrayLike | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-6,
) -> Array:
    r"""Divide each example by its root mean square.

    .. math:: y = \gamma \frac{x}{\sqrt{\frac{1}{n} \sum_i x_i^2 + \epsilon}}

    Parameters
    ----------
    x : array, float32 or float64
        Of any shape, with n >= 1 entries along ``axis``.
    scale : array, shape of ``x`` along ``axis``, dtype of ``x``, or None
        :math:`\gamma`; None leaves it out.
    axis : int or tuple of int, default -1
        The axes of an example.
    eps : float, default 1e-6
        Finite and >= 0. PyTorch's default is the eps of the dtype.

    Returns
    -------
    array, shape and dtype of ``x``

    Raises
    ------
    ShapeError
        ``x`` has no entries along ``axis``, or ``scale`` another shape.
    DtypeError
        An argument is no array of floats, or the dtypes differ.
    DomainError
        ``eps`` is negative or not finite; an axis does not exist, or is named twice.

    Notes
    -----
    Relative error of an entry: at most 4 units of roundoff in float32, where squares are summed in double precision,
    and n more in float64. Squares beyond the range of float64 are no harm. With :math:`r` the factor of x and
    :math:`\hat x = r x` the gradient is :math:`r (g - \hat x \, \overline{g \hat x})`. At x = 0 the result is 0; with
    ``eps=0`` the derivative there is 0, too, as that of the norm. Cost: two passes.

    References
    ----------
    Zhang & Sennrich, "Root mean square layer normalization", 2019.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.rms_norm(np.array([1.0, 2.0, 3.0, 4.0]))
    array([0.36514835, 0.73029669, 1.09544504, 1.46059339])
    """
    who = "rms_norm"
    x = require_operand(who, "x", x)
    axes = _axes(who, x, axis)
    y = rms_p(x, axis=axes, eps=require_eps(who, eps))[0]
    return affine(who, y, scale, None, tuple(x.shape[k] for k in axes), axes, x.dtype)


def _axes(who: str, x: Array, axis: int | tuple[int, ...]) -> tuple[int, ...]:
    axes = require_axes(who, "x", axis, len(x.shape))
    lengths = tuple(x.shape[k] for k in axes)
    if not axes or 0 in lengths:
        wanted = f"an array with entries along `axis` = {axis}"
        raise ShapeError(sentence(who, "x", wanted, f"shape {tuple(x.shape)}"))
    return axes


def _trailing(who: str, x: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The last axes of x, which have the lengths ``shape``."""
    have = tuple(x.shape)
    if len(have) < len(shape) or have[len(have) - len(shape) :] != shape:
        wanted = "of shape (..., " + ", ".join(map(str, shape)) + ")"
        raise ShapeError(sentence(who, "x", wanted, str(have)))
    return tuple(range(-len(shape), 0))


@dataclass(frozen=True, eq=False, repr=False)
class LayerNorm:
    r"""The layer of `layer_norm`, over the last axes.

    Parameters
    ----------
    scale, shift : array, shape ``shape``, float32 or float64, or None
        :math:`\gamma` and :math:`\beta`; None leaves one out.
    shape : tuple of int
        The lengths of the last axes, which are an example: ``(d,)`` for rows and sequences.
    eps : float
        What is added to the variance.

    Notes
    -----
    It has no statistics of its own, and is the same in training. PyTorch's ``normalized_shape`` is ``shape``, its
    ``weight`` and ``bias`` are ``scale`` and ``shift``.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> layer = nm.nn.LayerNorm.init(3)
    >>> layer(np.array([[2001.0, 2002.0, 2003.0]])).round(6)
    array([[-1.224736,  0.      ,  1.224736]])
    """

    scale: Array | None
    shift: Array | None
    shape: tuple[int, ...]
    eps: float

    @classmethod
    def init(
        cls,
        shape: int | Sequence[int],
        *,
        eps: float = 1e-5,
        scale: bool = True,
        shift: bool = True,
        dtype: DTypeLike = np.float64,
    ) -> LayerNorm:
        """Return a layer with a scale of ones and a shift of zeros.

        Parameters
        ----------
        shape : int or sequence of int
            The lengths of the last axes, each >= 1.
        eps : float, default 1e-5
            Finite and >= 0.
        scale, shift : bool, default True
            Whether the layer has one.
        dtype : dtype, default float64
            float32 or float64.

        Returns
        -------
        LayerNorm
            On the default device.

        Raises
        ------
        ShapeError, DomainError, DtypeError
            A length, ``eps`` or ``dtype`` is not as above.
        """
        who = "LayerNorm.init"
        lengths = require_lengths(who, "shape", shape)
        arrays = constants(who, lengths, dtype, scale=scale, shift=shift)
        return cls(*arrays, lengths, require_eps(who, eps))

    @entering
    def __call__(self, x: Array) -> Array:
        """Return the normalised examples.

        Parameters
        ----------
        x : array, its last axes those of the layer, dtype of the layer

        Returns
        -------
        array, shape and dtype of ``x``

        Raises
        ------
        ShapeError, DtypeError
            ``x`` has another shape or dtype.
        """
        x = require_operand("LayerNorm", "x", x)
        axes = _trailing("LayerNorm", x, self.shape)
        return layer_norm(x, self.scale, self.shift, axis=axes, eps=self.eps)

    def __repr__(self) -> str:
        parts = f"scale: {describe(self.scale)}, shift: {describe(self.shift)}"
        return f"LayerNorm({parts}, shape: {self.shape}, eps: {self.eps})"


@dataclass(frozen=True, eq=False, repr=False)
class RMSNorm:
    r"""The layer of `rms_norm`, over the last axes.

    Parameters
    ----------
    scale : array, shape ``shape``, float32 or float64, or None
        :math:`\gamma`; None leaves it out.
    shape : tuple of int
        The lengths of the last axes, which are an example.
    eps : float
        What is added to the mean square.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.RMSNorm.init(2, eps=0.0)(np.array([[3.0, 4.0]])).round(6)
    array([[0.848528, 1.131371]])
    """

    scale: Array | None
    shape: tuple[int, ...]
    eps: float

    @classmethod
    def init(
        cls,
        shape: int | Sequence[int],
        *,
        eps: float = 1e-6,
        scale: bool = True,
        dtype: DTypeLike = np.float64,
    ) -> RMSNorm:
        """Return a layer with a scale of ones.

        Parameters
        ----------
        shape : int or sequence of int
            The lengths of the last axes, each >= 1.
        eps : float, default 1e-6
            Finite and >= 0.
        scale : bool, default True
            Whether the layer has one.
        dtype : dtype, default float64
            float32 or float64.

        Returns
        -------
        RMSNorm
            On the default device.

        Raises
        ------
        ShapeError, DomainError, DtypeError
            A length, ``eps`` or ``dtype`` is not as above.
        """
        who = "RMSNorm.init"
        lengths = require_lengths(who, "shape", shape)
        arrays = constants(who, lengths, dtype, scale=scale, shift=False)
        return cls(arrays[0], lengths, require_eps(who, eps))

    @entering
    def __call__(self, x: Array) -> Array:
        """Return the normalised examples.

        Parameters
        ----------
        x : array, its last axes those of the layer, dtype of the layer

        Returns
        -------
        array, shape and dtype of ``x``

        Raises
        ------
        ShapeError, DtypeError
            ``x`` has another shape or dtype.
        """
        x = require_operand("RMSNorm", "x", x)
        return rms_norm(x, self.scale, axis=_trailing("RMSNorm", x, self.shape), eps=self.eps)

    def __repr__(self) -> str:
        return f"RMSNorm(scale: {describe(self.scale)}, shape: {self.shape}, eps: {self.eps})"
