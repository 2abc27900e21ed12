"""The negative logarithm of the Laplace density: the absolute error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core.checks import require_float
from nnmath_core.nn.loss import Likelihood, option_of_entries
from nnmath_core.nn.reduction import Reduction
from nnmath_core.random import laplace
from nnmath_core.typing import Array, ArrayLike

__all__ = ["LaplaceNLL", "laplace_nll"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LaplaceNLL(Likelihood):
    r"""Negative logarithm of the Laplace density of each entry: the absolute error, for scale 1.

    .. math:: \ell = \frac{|y - \mu|}{b} + \log b \; (+ \log 2)

    Parameters
    ----------
    prediction : array, float32 or float64
        The medians, of any shape.
    target : array, shape and dtype of ``prediction``
        Nothing is broadcast.
    reduction : {"none", "sum", "mean"}, default "none"
        One number per entry, their sum or their mean.
    full : bool, default False
        Whether the constant ``log(2)`` is added to each entry.
    scale : float or array, default 1
        The mean absolute deviation b > 0: known, or learnt (a leaf of the loss, or a traced value at the call). An
        array, of the dtype of ``prediction``, broadcasts against it.

    Returns
    -------
    array, shape of ``prediction`` or (), dtype of ``prediction``
        Nats.

    Raises
    ------
    DtypeError
        An argument is no array of floats, or two differ in dtype.
    ShapeError
        Two differ in shape.
    DomainError
        A scale that is not positive; the mean over no entries; an unknown option.

    Notes
    -----
    The derivative in the prediction is ``sign(prediction - target) / b``, 0 where they agree. The second one is 0 but
    for the kink; the Fisher information, the expected square of the first, is ``1 / b**2``.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.laplace_nll(np.zeros(3), np.array([-2.0, 0.0, 0.5]))
    array([2. , 0. , 0.5])
    >>> float(nm.nn.laplace_nll(np.zeros(3), np.array([-2.0, 0.0, 0.5]), full=True, reduction="mean").round(6))
    1.526481
    """

    scale: Any = 1.0

    __name__ = "laplace_nll"

    @property
    def likelihood(self) -> str:
        """The Laplace distribution."""
        return "laplace(median=prediction, scale=scale)"

    @property
    def constant(self) -> str:
        """The part of the logarithm that is free of the scale."""
        return "log(2)"

    def __call__(
        self,
        prediction: ArrayLike,
        target: ArrayLike,
        *,
        reduction: Reduction | None = None,
        full: bool | None = None,
        scale: ArrayLike | float | None = None,
    ) -> Array:
        """Return the loss; see the class."""
        return self._with(reduction=reduction, full=full, scale=scale)._value(prediction, target)

    def _check_options(self) -> None:
        super()._check_options()
        if hasattr(self.scale, "shape"):
            require_float(self.__name__, "scale", self.scale)
        else:
            option_of_entries(self.__name__, "scale", self.scale, None, lambda b: b > 0, "> 0")

    def _scale(self, p: Any) -> Any:
        return option_of_entries(self.__name__, "scale", self.scale, p, lambda b: b > 0, "> 0")

    def _each(self, p: Any, t: Any) -> Any:
        b = self._scale(p)
        log = np.log(b) if hasattr(b, "shape") else math.log(b)
        return np.abs(p - t) / b + log

    def _constant(self, p: Any, t: Any) -> Any:
        return math.log(2.0)

    def _gradient(self, p: Any, t: Any) -> Any:
        return np.sign(p - t) / self._scale(p)

    def _hessian(self, p: Any, t: Any) -> Any:
        return np.zeros_like(p)

    def _fisher(self, p: Any) -> Any:
        b = self._scale(p)
        return np.full_like(p, 1.0) / (b * b)

    def _draw(self, key: Any, p: Any) -> Any:
        return laplace(key, tuple(p.shape), loc=p, scale=self._scale(p))


laplace_nll = LaplaceNLL()
