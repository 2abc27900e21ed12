"""Whitening batch normalisation: the channels of a batch made uncorrelated, not only of variance 1."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core.autodiff.ops.conventions import beside
from nnmath_core.autodiff.ops.inverse_root import inverse_root_p
from nnmath_core.autodiff.transforms import stop_gradient
from nnmath_core.autodiff.tree import buffer
from nnmath_core.checks import (
    describe,
    require_float,
    require_positive_int,
    require_shape,
    sentence,
)
from nnmath_core.device import backend_for, current_default_device, entering
from nnmath_core.errors import DomainError, ShapeError
from nnmath_core.nn.affine import (
    affine,
    constants,
    require_channels,
    require_eps,
    require_running,
)
from nnmath_core.nn.batch_norm import require_momentum, require_several
from nnmath_core.nn.initializers import require_float_dtype
from nnmath_core.nn.operands import require_operand_of
from nnmath_core.typing import Array

__all__ = ["WhiteningNorm", "whiten"]


@entering
def whiten(
    x: Array, *, mean: Array | None = None, covariance: Array | None = None, eps: float = 1e-5
) -> Array:
    r"""Make the covariance of the channels the identity, by the smallest change that does it (ZCA).

    .. math:: y = (x - \mu) \, (\Sigma + \epsilon I)^{-1/2}, \qquad
        \Sigma = \frac{1}{N} \sum_i (x_i - \mu)^T (x_i - \mu)

    Parameters
    ----------
    x : array, shape (n, ..., c), float32 or float64
        Rows of channels; N of them.
    mean, covariance : array, shape (c,) and (c, c), dtype of ``x``, or None
        Both, to whiten by them (evaluation; the symmetric part of the covariance is read); or none, for those of ``x``
        (training).
    eps : float, default 1e-5
        Finite and >= 0; positive where N <= c, since the covariance of so few rows is singular.

    Returns
    -------
    array, shape and dtype of ``x``

    Raises
    ------
    ShapeError
        ``x`` has fewer than two axes, an argument another shape, or one of mean and covariance is missing.
    DomainError
        Fewer than two rows; N <= c with ``eps = 0``; or ``eps`` is not as above.
    DtypeError
        An argument is no array of floats, or the dtypes differ.

    Notes
    -----
    The covariance of y is :math:`\Sigma (\Sigma + \epsilon I)^{-1}`. Any rotation R of the channels goes through:
    ``whiten(x @ R) = whiten(x) @ R``, and up to eps the result does not change under a symmetric positive definite map
    that commutes with the covariance, as a common scale. Of all whitenings this is the one closest to the centred data
    in the mean square. Batch normalisation, in contrast, sets only the diagonal of the covariance to 1.

    *Derivatives.* The inverse root Y is an analytic function of the covariance: its derivative solves
    :math:`Y \, dY + dY \, Y = - Y^2 d\Sigma \, Y^2`, whose denominators in the eigenbasis are sums of positive
    numbers. Repeated and nearly repeated eigenvalues need no care, where the derivative of the eigenvectors,
    :math:`1 / (\lambda_j - \lambda_i)`, loses all digits. Of a singular covariance with ``eps = 0`` there is none.

    *Cost*: :math:`O(N c^2 + c^3)`. *Error*: that of the root, a few units of roundoff times the condition number of
    :math:`\Sigma + \epsilon I`.

    References
    ----------
    Huang, Yang, Lang & Deng, "Decorrelated batch normalization", 2018. Kessy, Lewin & Strimmer, "Optimal whitening and
    decorrelation", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> x = np.array([[1.0, 1.0], [-1.0, -1.0], [1.0, 0.0], [-1.0, 0.0]])
    >>> y = nm.nn.whiten(x, eps=0.0)
    >>> np.allclose(y.T @ y / 4, np.eye(2), rtol=0, atol=1e-14)
    True
    """
    who = "whiten"
    x = require_float(who, "x", x)
    channels = require_channels(who, x, None)
    eps = require_eps(who, eps)
    if (mean is None) != (covariance is None):
        given, other = ("mean", "covariance") if covariance is None else ("covariance", "mean")
        advice = f"It belongs to `{given}`; leave out both for the statistics of `x`."
        raise ShapeError(sentence(who, other, "an array of the channels", "None", advice))
    if mean is None:
        _require_rows(who, x, eps)
        return _whitened(x, *_statistics(x)[1:], eps)
    return _by_given(who, x, mean, covariance, channels, eps)


def _require_rows(who: str, x: Array, eps: float) -> int:
    count = require_several(who, x)
    if eps == 0 and count <= x.shape[-1]:
        raise DomainError(
            f"{who}: `eps` must be positive for {count} rows of {x.shape[-1]} channels, got 0. "
            "The covariance of so few rows is singular."
        )
    return count


def _statistics(x: Array) -> tuple[Array, Array, Array]:
    """The mean, the centred rows and their covariance: differences to the first row, as in `standardize`."""
    rows = np.reshape(x, (-1, x.shape[-1]))
    first = stop_gradient(rows[:1])  # no derivative: what follows does not change with it
    rest = rows - first
    shift = np.mean(rest, axis=0, keepdims=True)
    centred = rest - shift
    return (first + shift)[0], centred, centred.T @ centred / centred.shape[0]


def _whitened(x: Array, centred: Array, covariance: Array, eps: float) -> Array:
    n = covariance.shape[-1]
    eye = np.eye(n, dtype=covariance.dtype) * eps
    root = inverse_root_p(covariance + beside(covariance, eye))
    y: Array = np.reshape(centred @ root, tuple(x.shape))
    return y


def _by_given(who: str, x: Array, mean: Any, covariance: Any, channels: int, eps: float) -> Array:
    mean = require_operand_of(who, "mean", mean, x.dtype, "x")
    covariance = require_operand_of(who, "covariance", covariance, x.dtype, "x")
    require_shape(who, "mean", mean, (channels,))
    require_shape(who, "covariance", covariance, (channels, channels))
    return _whitened(x, np.reshape(x - mean, (-1, channels)), covariance, eps)


@dataclass(frozen=True, eq=False, repr=False)
class WhiteningNorm:
    r"""The layer of `whiten`, with running statistics.

    Parameters
    ----------
    scale, shift : array, shape (c,), float32 or float64, or None
        Behind the whitening; None leaves one out.
    eps : float
        What is added to the diagonal of the covariance.
    momentum : float, in [0, 1]
        The weight of the new batch in the running statistics, as in `BatchNorm`.
    mean, covariance : array, shape (c,) and (c, c)
        The running statistics, buffers.

    Notes
    -----
    ``layer(x)`` whitens by the running statistics, ``y, layer = layer.train(x)`` by those of the batch, with divisor N,
    and moves the running covariance towards the unbiased one, with divisor N - 1. No derivative passes into the new
    statistics.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> layer = nm.nn.WhiteningNorm.init(3)
    >>> y, layer = layer.train(np.random.default_rng(0).standard_normal((100, 3)))
    >>> layer(y).shape, layer.covariance.shape
    ((100, 3), (3, 3))
    """

    scale: Array | None
    shift: Array | None
    eps: float
    momentum: float
    mean: Array = buffer()
    covariance: Array = buffer()

    @classmethod
    def init(
        cls,
        channels: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        scale: bool = True,
        shift: bool = True,
        dtype: DTypeLike = np.float64,
    ) -> WhiteningNorm:
        """Return a layer with a scale of ones, a shift of zeros, and the statistics of white noise.

        Parameters
        ----------
        channels : int
            The length of the last axis, >= 1.
        eps : float, default 1e-5
            Finite and >= 0.
        momentum : float, default 0.1
            In [0, 1].
        scale, shift : bool, default True
            Whether the layer has one.
        dtype : dtype, default float64
            float32 or float64.

        Returns
        -------
        WhiteningNorm
            On the default device.

        Raises
        ------
        DomainError, DtypeError
            An argument is not as above.
        """
        who = "WhiteningNorm.init"
        n = require_positive_int(who, "channels", channels)
        arrays = constants(who, (n,), dtype, scale=scale, shift=shift)
        dtype = require_float_dtype(who, dtype)
        xp = backend_for(current_default_device()).xp
        statistics = xp.zeros(n, dtype), xp.eye(n, dtype=dtype)
        return cls(*arrays, require_eps(who, eps), require_momentum(who, momentum), *statistics)

    @entering
    def __call__(self, x: Array) -> Array:
        """Return ``x`` whitened by the running statistics.

        Parameters
        ----------
        x : array, shape (n, ..., c), dtype of the layer

        Returns
        -------
        array, shape and dtype of ``x``

        Raises
        ------
        ShapeError, DtypeError
            ``x`` has another number of channels or another dtype.
        """
        who = "WhiteningNorm"
        x = require_float(who, "x", x)
        channels = require_channels(who, x, require_running(who, self.mean).shape[0])
        y = _by_given(who, x, self.mean, self.covariance, channels, self.eps)
        return self._affine(who, x, y)

    @entering
    def train(self, x: Array, *, key: Array | None = None) -> tuple[Array, WhiteningNorm]:
        """Return ``x`` whitened by its own statistics, and the layer with the new running ones.

        Parameters
        ----------
        x : array, shape (n, ..., c), dtype of the layer
            Two or more rows; with ``eps = 0`` more than c.
        key : array, optional
            Not used: nothing is random.

        Returns
        -------
        y : array, shape and dtype of ``x``
        layer : WhiteningNorm
            With the running statistics after this batch.

        Raises
        ------
        ShapeError, DtypeError
            ``x`` has another number of channels or another dtype.
        DomainError
            Too few rows.
        """
        who = "WhiteningNorm.train"
        x = require_float(who, "x", x)
        running = require_running(who, self.mean)
        require_operand_of(who, "x", x, running.dtype, "mean")
        channels = require_channels(who, x, running.shape[0])
        old = require_operand_of(who, "covariance", self.covariance, x.dtype, "x")
        require_shape(who, "covariance", old, (channels, channels))
        count = _require_rows(who, x, self.eps)
        mean, centred, covariance = _statistics(x)
        y = _whitened(x, centred, covariance, self.eps)
        mean, covariance = stop_gradient((mean, covariance))
        m = self.momentum
        layer = dataclasses.replace(
            self,
            mean=(1 - m) * self.mean + m * mean,
            covariance=(1 - m) * self.covariance + (m * count / (count - 1)) * covariance,
        )
        return self._affine(who, x, y), layer

    def _affine(self, who: str, x: Array, y: Array) -> Array:
        last = (len(x.shape) - 1,)
        return affine(who, y, self.scale, self.shift, (x.shape[-1],), last, x.dtype)

    def __repr__(self) -> str:
        parts = f"scale: {describe(self.scale)}, shift: {describe(self.shift)}"
        return f"WhiteningNorm({parts}, eps: {self.eps}, momentum: {self.momentum})"
