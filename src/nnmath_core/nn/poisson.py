"""The negative logarithm of the Poisson probability of a count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core.checks import require_same_dtype, require_shape
from nnmath_core.nn.labels import check_entries, require_labels
from nnmath_core.nn.loss import Likelihood
from nnmath_core.nn.reduction import Reduction
from nnmath_core.special import gammaln
from nnmath_core.typing import Array, ArrayLike

__all__ = ["PoissonNLL", "poisson_nll"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PoissonNLL(Likelihood):
    r"""Negative logarithm of the Poisson probability of each count, of the logarithm of the rate.

    .. math:: \ell = e^z - y z \; (+ \log y!)

    Parameters
    ----------
    prediction : array, float32 or float64
        Logarithms of the rates, of any shape.
    target : array, shape of ``prediction``
        Counts: integers, or floats of the dtype of ``prediction``, >= 0. They need not be whole.
    reduction : {"none", "sum", "mean"}, default "none"
        One number per entry, their sum or their mean.
    full : bool, default False
        Whether :math:`\log y!` is added to each entry.

    Returns
    -------
    array, shape of ``prediction`` or (), dtype of ``prediction``
        Nats; without the constant it may be negative.

    Raises
    ------
    DtypeError
        ``prediction`` is no array of floats, or ``target`` of another kind than above.
    ShapeError
        The two differ in shape; nothing is broadcast.
    DomainError
        A count is negative (the message names the first); the mean over no entries; an unknown option.

    Notes
    -----
    The derivative in the prediction is ``exp(z) - y``, the second one ``exp(z)``, which is the Fisher information, too.
    A prediction of -inf says that the rate is 0: the loss of the count 0 is 0 there. For rates r pass ``np.log(r)``.
    While a function is staged, a count that is negative gives NaN.

    The constant is exact, ``gammaln(y + 1)``; PyTorch's ``PoissonNLLLoss(full=True)`` has Stirling's approximation of
    it for counts above 1, and 0 for the others: they differ by 0.04 for the count 2.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> z, y = np.log(np.array([2.0, 3.0])), np.array([0, 4])
    >>> nm.nn.poisson_nll(z, y)
    array([ 2.        , -1.39444915])
    >>> nm.nn.poisson_nll(z, y, full=True)
    array([2.        , 1.78360468])
    """

    __name__ = "poisson_nll"
    link = "log"

    @property
    def likelihood(self) -> str:
        """The Poisson distribution."""
        return "poisson(rate=exp(prediction))"

    @property
    def constant(self) -> str:
        """The logarithm of the factorial."""
        return "log(target!) = gammaln(target + 1)"

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
        who = self.__name__
        p = self._checked_prediction(prediction)
        counts = require_labels(who, "target", target, "iu")
        if counts.dtype.kind == "f":
            require_same_dtype(who, prediction=p, target=counts)
        advice = "Nothing is broadcast: (n, 1) against (n,) would be n * n losses."
        require_shape(who, "target", counts, tuple(p.shape), advice)
        if counts.dtype != p.dtype:
            counts = counts.astype(p.dtype)
        return p, check_entries(who, "target", counts, lambda y: y >= 0, ">= 0", "It is a count.")

    def _each(self, p: Any, t: Any) -> Any:
        return np.exp(p) - t * np.where(t == 0.0, 0.0, p)

    def _constant(self, p: Any, t: Any) -> Any:
        return gammaln(t + 1.0)

    def _gradient(self, p: Any, t: Any) -> Any:
        return np.exp(p) - t

    def _hessian(self, p: Any, t: Any) -> Any:
        return np.exp(p)

    def _fisher(self, p: Any) -> Any:
        return np.exp(p)

    def _mean(self, p: Any) -> Any:
        return np.exp(p)


poisson_nll = PoissonNLL()
