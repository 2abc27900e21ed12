"""The negative logarithm of the normal density."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core.nn.loss import Likelihood
from nnmath_core.nn.reduction import Reduction
from nnmath_core.nn.spread import Spread, WithSpread
from nnmath_core.random import normal
from nnmath_core.typing import Array, ArrayLike

__all__ = ["GaussianNLL", "gaussian_nll"]

_CONSTANT = 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class GaussianNLL(WithSpread, Likelihood):
    r"""Negative logarithm of the normal density of each entry.

    .. math:: \ell = \frac{(y - \mu)^2}{2 \sigma^2} + \log \sigma \; (+ \tfrac12 \log 2 \pi)

    Parameters
    ----------
    prediction : array, float32 or float64; or a pair of them of one shape
        The means; or the means and, entry by entry, what ``spread`` says.
    target : array, shape and dtype of the means
        Nothing is broadcast.
    reduction : {"none", "sum", "mean"}, default "none"
        One number per entry, their sum or their mean.
    full : bool, default False
        Whether the constant :math:`\tfrac12 \log 2 \pi` is added to each entry.
    sigma : float or array, default 1
        The standard deviation where the prediction is no pair: known, or learnt (a leaf of the loss, or a traced value
        at the call, as ``sigma=np.exp(s)``). An array, of the dtype of the means, broadcasts against them.
    spread : {"log_scale", "scale", "variance"}, default "log_scale"
        What the second of a pair is: ``log(sigma)``, of any value, or ``sigma`` or its square, which must be positive.

    Returns
    -------
    array, shape of the means or (), dtype of the means
        Nats.

    Raises
    ------
    DtypeError
        An argument is no array of floats, or two differ in dtype.
    ShapeError
        Two differ in shape.
    DomainError
        A spread that is not positive (the message names the first); ``sigma`` beside a pair; the mean over no entries;
        an unknown option.

    Notes
    -----
    The gradient in the mean is ``-z / sigma`` with ``z = (y - mu) / sigma``, in ``s = log(sigma)`` it is ``1 - z**2``;
    the Fisher information is ``1 / sigma**2`` and 2, and there is none between the two. With a pair, `gradient` is a
    pair and `hessian` and `fisher` are pairs of pairs. While a function is staged, a spread that is not positive gives
    NaN. PyTorch's ``GaussianNLLLoss`` is ``spread="variance"``; it raises variances below ``eps`` to it, which is not
    done here.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> mean, y = np.array([0.0, 1.0]), np.array([0.5, 3.0])
    >>> nm.nn.gaussian_nll(mean, y, sigma=2.0, full=True)
    array([1.64333571, 2.11208571])
    >>> nm.nn.gaussian_nll((mean, np.log(np.array([2.0, 2.0]))), y, full=True)
    array([1.64333571, 2.11208571])
    >>> nm.nn.gaussian_nll.gradient((mean, np.zeros(2)), y)
    (array([-0.5, -2. ]), array([ 0.75, -3.  ]))
    """

    __name__ = "gaussian_nll"

    @property
    def likelihood(self) -> str:
        """The normal distribution."""
        return f"normal(mean=prediction, scale=sigma), or of a pair (mean, {self.spread})"

    @property
    def constant(self) -> str:
        """The part of the logarithm that is free of sigma."""
        return "log(2 * pi) / 2"

    def __call__(
        self,
        prediction: ArrayLike | tuple[ArrayLike, ArrayLike],
        target: ArrayLike,
        *,
        reduction: Reduction | None = None,
        full: bool | None = None,
        sigma: ArrayLike | float | None = None,
        spread: Spread | None = None,
    ) -> Array:
        """Return the loss; see the class."""
        loss = self._with(reduction=reduction, full=full, sigma=sigma, spread=spread)
        return loss._value(prediction, target)

    def _each(self, p: Any, t: Any) -> Any:
        mean, sigma, log = self._scale(p)
        return 0.5 * np.square((t - mean) / sigma) + log

    def _constant(self, p: Any, t: Any) -> Any:
        return _CONSTANT

    def _derivatives(self, z: Any, sigma: Any) -> tuple[Any, Any, Any, Any, Any]:
        square = np.square(z)
        return -z / sigma, 1.0 - square, 1.0 / (sigma * sigma), 2.0 * (z / sigma), 2.0 * square

    def _fisher(self, p: Any) -> Any:
        mean, sigma, _ = self._scale(p)
        zero = np.zeros_like(mean)
        return self._blocks(p, sigma, zero, 1.0 / (sigma * sigma), zero, np.full_like(mean, 2.0))

    def _mean(self, p: Any) -> Any:
        return self._scale(p)[:2] if isinstance(p, tuple) else p

    def _draw(self, key: Any, p: Any) -> Any:
        mean, sigma, _ = self._scale(p)
        return normal(key, tuple(mean.shape), loc=mean, scale=sigma)


gaussian_nll = GaussianNLL()
