"""Huber's loss: squares near by, absolute values far away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core.checks import require_real
from nnmath_core.nn.loss import Loss
from nnmath_core.nn.reduction import Reduction
from nnmath_core.typing import Array, ArrayLike

__all__ = ["Huber", "huber"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Huber(Loss):
    r"""Huber's loss of each entry: half of the square up to delta, and linear beyond.

    .. math::
        \ell = \begin{cases} \tfrac12 r^2 & |r| \le \delta \\
            \delta \, (|r| - \tfrac12 \delta) & |r| > \delta \end{cases}, \qquad r = \hat y - y

    Parameters
    ----------
    prediction : array, float32 or float64
        Of any shape.
    target : array, shape and dtype of ``prediction``
        Nothing is broadcast.
    reduction : {"none", "sum", "mean"}, default "none"
        One number per entry, their sum or their mean.
    delta : float, default 1
        Where the square ends, > 0, in the target's unit.

    Returns
    -------
    array, shape of ``prediction`` or (), dtype of ``prediction``
        Squares of the target's unit.

    Raises
    ------
    DtypeError
        An argument is no array of floats, or the two differ in dtype.
    ShapeError
        The two differ in shape.
    DomainError
        ``delta`` is not positive; the mean over no entries; an unknown option.

    Notes
    -----
    The derivative is ``clip(r, -delta, delta)``, the second one 1 for ``|r| <= delta`` and 0 beyond. It is PyTorch's
    ``HuberLoss``; ``SmoothL1Loss(beta)`` is ``huber(delta=beta) / beta``. As the field does we take it for an
    M-estimator and no likelihood: targets with its density (normal between exponential tails) are a model of nothing.

    References
    ----------
    Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 1964.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.huber(np.array([0.5, -3.0]), np.zeros(2))
    array([0.125, 2.5  ])
    """

    delta: float = 1.0

    __name__ = "huber"
    unit = "squares of the target's unit"
    _why_none = "It is an M-estimator: a loss chosen for what outliers do to it."

    def __call__(
        self,
        prediction: ArrayLike,
        target: ArrayLike,
        *,
        reduction: Reduction | None = None,
        delta: float | None = None,
    ) -> Array:
        """Return the loss; see the class."""
        return self._with(reduction=reduction, delta=delta)._value(prediction, target)

    def _check_options(self) -> None:
        super()._check_options()
        require_real(self.__name__, "delta", self.delta, lambda d: d > 0, "a number > 0")

    def _each(self, p: Any, t: Any) -> Any:
        r = p - t
        near = np.abs(r) <= self.delta
        square = 0.5 * np.square(np.where(near, r, 0.0))
        return np.where(near, square, self.delta * (np.abs(r) - 0.5 * self.delta))

    def _gradient(self, p: Any, t: Any) -> Any:
        return np.clip(p - t, -self.delta, self.delta)

    def _hessian(self, p: Any, t: Any) -> Any:
        return np.where(np.abs(p - t) <= self.delta, np.full_like(p, 1.0), 0.0)


huber = Huber()
