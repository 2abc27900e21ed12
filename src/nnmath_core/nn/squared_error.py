"""The mean squared error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core.errors import DomainError
from nnmath_core.nn.loss import Likelihood, same_operands
from nnmath_core.nn.reduction import Reduction
from nnmath_core.random import normal
from nnmath_core.typing import Array, ArrayLike

__all__ = ["MeanSquaredError", "mean_squared_error"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MeanSquaredError(Likelihood):
    r"""Mean of the squared differences of each example.

    .. math:: \ell_i = \frac{1}{d} \sum_{j=1}^{d} (\hat y_{ij} - y_{ij})^2

    Parameters
    ----------
    prediction : array, shape (n, ...), float32 or float64
        A row for each example; the mean of an example is over all its other axes together, so that
        the entries of shape (n,) are squared and not averaged.
    target : array, shape and dtype of ``prediction``
        Nothing is broadcast.
    reduction : {"none", "sum", "mean"}, default "none"
        One number per example, their sum, or their mean, which is the mean of all squares.
    full : bool, default False
        Whether ``d / 2 * log(pi * d)`` is added to each example: the value is then ``-log p`` of the normal
        distribution with variance ``d / 2``.

    Returns
    -------
    array, shape (n,) or (), dtype of ``prediction``
        Squares of the target's unit.

    Raises
    ------
    DtypeError
        An argument is no array of floats, or the two differ in dtype.
    ShapeError
        The two differ in shape.
    DomainError
        A mean over nothing, or an unknown ``reduction``.

    Notes
    -----
    The gradient in ``prediction`` is ``2 * (prediction - target) / d``, Hessian (a diagonal) and Fisher information
    are ``2 / d``. Inside `vmap` there is no batch axis: take ``reduction="mean"`` there. PyTorch's
    ``MSELoss(reduction="sum")`` adds all squares, d times the sum here; the means agree.

    For the Gaussian likelihood with variance :math:`\sigma^2` the negative logarithm is
    :math:`d \ell_i / (2 \sigma^2) + \tfrac{d}{2} \log(2 \pi \sigma^2)`: equal up to a factor and a
    constant, which matter as soon as a prior or another term is added. The factor is 1 for
    :math:`\sigma^2 = d / 2`; `gaussian_nll` takes any.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> y = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> nm.nn.mean_squared_error(y, np.array([[1.0, 0.0], [3.0, 3.0]]))
    array([2. , 0.5])
    >>> float(nm.nn.mean_squared_error(y, np.zeros((2, 2)), reduction="mean"))
    7.5
    """

    __name__ = "mean_squared_error"
    unit = "squares of the target's unit"

    @property
    def likelihood(self) -> str:
        """The normal distribution whose variance makes the factor 1."""
        return "normal(mean=prediction, scale=sqrt(d / 2)), d entries an example"

    @property
    def constant(self) -> str:
        """The logarithm of the normal density's factor."""
        return "d / 2 * log(pi * d), d entries an example"

    def __call__(
        self,
        prediction: ArrayLike,
        target: ArrayLike,
        *,
        reduction: Reduction | None = None,
        full: bool | None = None,
    ) -> Array:
        """Return the loss; see the class."""
        return self._with(reduction=reduction, full=full)._value(prediction, target)

    def _operands(self, prediction: Any, target: Any) -> tuple[Array, Array]:
        p, t = same_operands(self.__name__, prediction, target)
        return self._checked_prediction(p), t

    def _checked_prediction(self, prediction: Any) -> Array:
        p: Array = super()._checked_prediction(prediction)
        shape = tuple(p.shape)
        if 0 in shape[1:]:
            raise DomainError(
                f"{self.__name__}: the mean over no entries is undefined; the shape is {shape}."
            )
        return p

    def _examples(self, p: Any, t: Any) -> int:
        return p.shape[0] if p.shape else 1

    def _each(self, p: Any, t: Any) -> Any:
        squares = np.square(p - t)
        if len(p.shape) > 1:
            squares = squares.sum(axis=tuple(range(1, len(p.shape)))) / _entries(p)
        return squares

    def _constant(self, p: Any, t: Any) -> Any:
        return 0.5 * _entries(p) * math.log(math.pi * _entries(p))

    def _gradient(self, p: Any, t: Any) -> Any:
        return (2.0 / _entries(p)) * (p - t)

    def _hessian(self, p: Any, t: Any) -> Any:
        return np.full_like(p, 2.0 / _entries(p))

    def _fisher(self, p: Any) -> Any:
        return self._hessian(p, None)

    def _draw(self, key: Any, p: Any) -> Any:
        return normal(key, loc=p, scale=math.sqrt(_entries(p) / 2))


def _entries(p: Any) -> int:
    """How many entries an example has."""
    return math.prod(p.shape[1:])


mean_squared_error = MeanSquaredError()
