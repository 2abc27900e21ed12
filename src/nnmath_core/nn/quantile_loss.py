"""The quantile loss, which is the asymmetric Laplace likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnmath_core.checks import require_float
from nnmath_core.nn.loss import Likelihood, option_of_entries
from nnmath_core.nn.reduction import Reduction
from nnmath_core.random import exponential, split
from nnmath_core.typing import Array, ArrayLike

__all__ = ["Quantile", "quantile"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Quantile(Likelihood):
    r"""The quantile (pinball) loss of each entry, least in the mean at the quantile of the targets.

    .. math:: \ell = \max(\tau u, (\tau - 1) u) \; (- \log \tau (1 - \tau)), \qquad u = y - \hat y

    Parameters
    ----------
    prediction : array, float32 or float64
        The quantiles, of any shape.
    target : array, shape and dtype of ``prediction``
        Nothing is broadcast.
    reduction : {"none", "sum", "mean"}, default "none"
        One number per entry, their sum or their mean.
    full : bool, default False
        Whether ``-log(tau * (1 - tau))`` is added: the value is then ``-log p`` of the asymmetric Laplace distribution.
    level : float or array, default 0.5
        Tau, between 0 and 1. An array, of the dtype of ``prediction``, broadcasts against it: of shape (k,) for k
        quantiles of each example. It is not trained with a model that holds the loss.

    Returns
    -------
    array, shape of ``prediction`` or (), dtype of ``prediction``
        In the target's unit, which the distribution of scale 1 takes for nats.

    Raises
    ------
    DtypeError
        An argument is no array of floats, or two differ in dtype.
    ShapeError
        Two differ in shape.
    DomainError
        A level is not between 0 and 1; the mean over no entries; an unknown option.

    Notes
    -----
    The derivative is ``-tau`` below the target, ``1 - tau`` above it and ``1/2 - tau`` at it. The second one is 0 but
    for the kink; the Fisher information, the expected square of the first, is ``tau * (1 - tau)``. Half of the absolute
    error is the loss of the median.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.quantile(np.zeros(2), np.array([1.0, -1.0]), level=0.9)
    array([0.9, 0.1])
    >>> levels = np.array([0.1, 0.5, 0.9])
    >>> nm.nn.quantile(np.zeros((2, 3)), np.ones((2, 3)), level=levels, reduction="mean")
    np.float64(0.5)
    """

    level: Any = field(default=0.5, metadata={"buffer": True})

    __name__ = "quantile"
    unit = "the target's unit"

    @property
    def likelihood(self) -> str:
        """The asymmetric Laplace distribution."""
        return "asymmetric_laplace(quantile=prediction, level=level, scale=1)"

    @property
    def constant(self) -> str:
        """The logarithm of the density's factor."""
        return "-log(level * (1 - level))"

    def __call__(
        self,
        prediction: ArrayLike,
        target: ArrayLike,
        *,
        reduction: Reduction | None = None,
        full: bool | None = None,
        level: ArrayLike | float | None = None,
    ) -> Array:
        """Return the loss; see the class."""
        return self._with(reduction=reduction, full=full, level=level)._value(prediction, target)

    def _check_options(self) -> None:
        super()._check_options()
        if hasattr(self.level, "shape"):
            require_float(self.__name__, "level", self.level)
        else:
            option_of_entries(self.__name__, "level", self.level, None, _inside, "between 0 and 1")

    def _tau(self, p: Any) -> Any:
        wanted = "between 0 and 1"
        return option_of_entries(self.__name__, "level", self.level, p, _inside, wanted)

    def _each(self, p: Any, t: Any) -> Any:
        u, tau = t - p, self._tau(p)
        return np.maximum(tau * u, (tau - 1.0) * u)

    def _constant(self, p: Any, t: Any) -> Any:
        tau = self._tau(p)
        product = tau * (1.0 - tau)
        return -np.log(product) if hasattr(product, "shape") else -math.log(product)

    def _gradient(self, p: Any, t: Any) -> Any:
        return 0.5 + 0.5 * np.sign(p - t) - self._tau(p)

    def _hessian(self, p: Any, t: Any) -> Any:
        return np.zeros_like(p)

    def _fisher(self, p: Any) -> Any:
        tau = self._tau(p)
        return np.full_like(p, 1.0) * (tau * (1.0 - tau))

    def _draw(self, key: Any, p: Any) -> Any:
        tau = self._tau(p)
        up, down = split(key)
        shape = tuple(p.shape)
        above = exponential(up, shape, p.dtype) / tau
        return p + (above - exponential(down, shape, p.dtype) / (1.0 - tau))


def _inside(level: Any) -> Any:
    return (level > 0) & (level < 1)


quantile = Quantile()
