"""Batch normalisation: each channel by its statistics over a batch, or by those collected in training."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core.autodiff.ops.standardize import standardize_p
from nnmath_core.autodiff.tree import buffer
from nnmath_core.checks import (
    describe,
    require_positive_int,
    require_real,
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
from nnmath_core.nn.initializers import require_float_dtype
from nnmath_core.nn.operands import require_operand, require_operand_of
from nnmath_core.typing import Array, ArrayLike

__all__ = ["BatchNorm", "batch_norm", "require_momentum", "require_several"]


@entering
def batch_norm(
    x: Array,
    scale: ArrayLike | None = None,
    shift: ArrayLike | None = None,
    *,
    mean: ArrayLike | None = None,
    var: ArrayLike | None = None,
    eps: float = 1e-5,
) -> Array:
    r"""Standardise each channel over the batch, or by a given mean and variance.

    .. math:: y_{\cdot c} = \gamma_c \frac{x_{\cdot c} - \mu_c}{\sqrt{\sigma_c^2 + \epsilon}} + \beta_c

    Parameters
    ----------
    x : array, shape (n, ..., c), float32 or float64
        Rows, sequences or images with their channels last.
    scale, shift : array, shape (c,), dtype of ``x``, or None
        :math:`\gamma` and :math:`\beta`; None leaves one out.
    mean, var : array, shape (c,), dtype of ``x``, or None
        Both, to normalise by them (evaluation); or none, for the statistics of ``x`` over all axes but the last
        (training), the variance with divisor N, their number of entries.
    eps : float, default 1e-5
        Finite and >= 0.

    Returns
    -------
    array, shape and dtype of ``x``

    Raises
    ------
    ShapeError
        ``x`` has fewer than two axes, an argument another length than c, or one of mean and variance is missing.
    DomainError
        Fewer than two entries a channel, whose own statistics say nothing of it; or ``eps`` is not as above.
    DtypeError
        An argument is no array of floats, or the dtypes differ.

    Notes
    -----
    Statistics and gradient as in `layer_norm`, along the other axes. This is a standardisation of each channel alone:
    it makes the diagonal of the covariance 1 and leaves the correlations, as they were. `whiten` makes the covariance
    the identity. Cost: three passes.

    References
    ----------
    Ioffe & Szegedy, "Batch normalization", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.batch_norm(np.array([[1.0, 10.0], [3.0, 50.0]]), eps=0.0)
    array([[-1., -1.],
           [ 1.,  1.]])
    """
    who = "batch_norm"
    x = require_operand(who, "x", x)
    channels = require_channels(who, x, None)
    eps = require_eps(who, eps)
    if (mean is None) != (var is None):
        given, other = ("mean", "var") if var is None else ("var", "mean")
        advice = f"It belongs to `{given}`; leave out both for the statistics of `x`."
        raise ShapeError(sentence(who, other, "an array of the channels", "None", advice))
    if mean is None:
        require_several(who, x)
        y = standardize_p(x, axis=tuple(range(len(x.shape) - 1)), eps=eps)[0]
    else:
        y = _by_given(who, x, mean, var, channels, eps)
    return _affine(who, y, scale, shift, x)


def _by_given(who: str, x: Array, mean: Any, var: Any, channels: int, eps: float) -> Array:
    mean = require_operand_of(who, "mean", mean, x.dtype, "x")
    var = require_operand_of(who, "var", var, x.dtype, "x")
    require_shape(who, "mean", mean, (channels,))
    require_shape(who, "var", var, (channels,))
    y: Array = (x - mean) / np.sqrt(var + eps)
    return y


def _affine(who: str, y: Array, scale: Any, shift: Any, x: Array) -> Array:
    last = (len(x.shape) - 1,)
    return affine(who, y, scale, shift, (x.shape[-1],), last, x.dtype)


def require_several(who: str, x: Array) -> int:
    """Return how many entries each channel of ``x`` has, which are two or more.

    Raises
    ------
    DomainError
        There are fewer.
    """
    count = math.prod(x.shape[:-1])
    if count < 2:
        raise DomainError(
            f"{who}: a channel needs 2 or more entries for a mean and a variance; `x` has shape "
            f"{tuple(x.shape)}, which are {count}. In evaluation the collected statistics are used: layer(x)."
        )
    return count


def require_momentum(who: str, momentum: Any) -> float:
    """Return the weight of a new batch in running statistics as a Python float.

    Raises
    ------
    DomainError, DtypeError
        It is outside of [0, 1], or no number.
    """
    advice = "It is the weight of the new batch; Keras' momentum is one minus it."
    return require_real(who, "momentum", momentum, lambda m: 0 <= m <= 1, "in [0, 1]", advice)


@dataclass(frozen=True, eq=False, repr=False)
class BatchNorm:
    r"""The layer of `batch_norm`, with running statistics.

    Parameters
    ----------
    scale, shift : array, shape (c,), float32 or float64, or None
        :math:`\gamma` and :math:`\beta`; None leaves one out.
    eps : float
        What is added to the variance.
    momentum : float, in [0, 1]
        The weight of the *new* batch in the running statistics, as in PyTorch. Keras and Flax call the weight of the
        *old* ones so: their 0.99 is 0.01 here.
    mean, var : array, shape (c,)
        The running statistics, buffers: not differentiated and not seen by optimizers.

    Notes
    -----
    ``layer(x)`` normalises by the running statistics. ``y, layer = layer.train(x)`` normalises by those of the batch,
    with its *biased* variance (divisor N), and moves the running ones towards them, with its *unbiased* variance
    (divisor N - 1): PyTorch's conventions. No derivative passes into the new statistics. PyTorch's ``momentum=None``,
    the mean over all batches, is ``dataclasses.replace(layer, momentum=1 / k)`` before the k-th one.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> layer = nm.nn.BatchNorm.init(1, eps=0.0)
    >>> y, layer = layer.train(np.array([[1.0], [3.0]]))
    >>> y.ravel(), layer.mean, layer.var
    (array([-1.,  1.]), array([0.2]), array([1.1]))
    """

    scale: Array | None
    shift: Array | None
    eps: float
    momentum: float
    mean: Array = buffer()
    var: Array = buffer()

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
    ) -> BatchNorm:
        """Return a layer with a scale of ones, a shift of zeros and running statistics 0 and 1.

        Parameters
        ----------
        channels : int
            The length of the last axis, >= 1.
        eps : float, default 1e-5
            Finite and >= 0. Keras' and Flax's default is 1e-3 and 1e-5.
        momentum : float, default 0.1
            In [0, 1].
        scale, shift : bool, default True
            Whether the layer has one.
        dtype : dtype, default float64
            float32 or float64.

        Returns
        -------
        BatchNorm
            On the default device.

        Raises
        ------
        DomainError, DtypeError
            An argument is not as above.
        """
        who = "BatchNorm.init"
        shape = (require_positive_int(who, "channels", channels),)
        arrays = constants(who, shape, dtype, scale=scale, shift=shift)
        dtype = require_float_dtype(who, dtype)
        xp = backend_for(current_default_device()).xp
        statistics = xp.zeros(shape, dtype), xp.ones(shape, dtype)
        return cls(*arrays, require_eps(who, eps), require_momentum(who, momentum), *statistics)

    @entering
    def __call__(self, x: Array) -> Array:
        """Return ``x`` normalised by the running statistics.

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
        x = require_operand("BatchNorm", "x", x)
        channels = require_channels(
            "BatchNorm", x, require_running("BatchNorm", self.mean).shape[0]
        )
        y = _by_given("BatchNorm", x, self.mean, self.var, channels, self.eps)
        return _affine("BatchNorm", y, self.scale, self.shift, x)

    @entering
    def train(self, x: Array, *, key: Array | None = None) -> tuple[Array, BatchNorm]:
        """Return ``x`` normalised by its own statistics, and the layer with the new running ones.

        Parameters
        ----------
        x : array, shape (n, ..., c), dtype of the layer
            Two or more entries a channel.
        key : array, optional
            Not used: nothing is random.

        Returns
        -------
        y : array, shape and dtype of ``x``
        layer : BatchNorm
            With the running statistics after this batch.

        Raises
        ------
        ShapeError, DtypeError
            ``x`` has another number of channels or another dtype.
        DomainError
            Fewer than two entries a channel.
        """
        who = "BatchNorm.train"
        mean = require_running(who, self.mean)
        x = require_operand_of(who, "x", x, mean.dtype, "mean")
        channels = require_channels(who, x, mean.shape[0])
        require_shape(who, "var", require_operand(who, "var", self.var), (channels,))
        count = require_several(who, x)
        axes = tuple(range(len(x.shape) - 1))
        y, _, mean, var = standardize_p(x, axis=axes, eps=self.eps)
        new, m = self.mean.shape, self.momentum
        layer = dataclasses.replace(
            self,
            mean=(1 - m) * self.mean + m * np.reshape(mean, new),
            var=(1 - m) * self.var + (m * count / (count - 1)) * np.reshape(var, new),
        )
        return _affine(who, y, self.scale, self.shift, x), layer

    def __repr__(self) -> str:
        parts = f"scale: {describe(self.scale)}, shift: {describe(self.shift)}"
        return f"BatchNorm({parts}, eps: {self.eps}, momentum: {self.momentum})"
