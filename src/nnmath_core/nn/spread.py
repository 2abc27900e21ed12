"""Losses of a mean and a standard deviation: known, or predicted beside the mean.

A loss states its derivatives in the mean and in s = log(sigma), as functions of z = (target - mean) / sigma; the chain
rule of whatever the second prediction is (s itself, sigma, its square) is here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from nnmath_core.checks import (
    describe,
    require_float,
    require_in,
    require_same_dtype,
    require_shape,
    sentence,
)
from nnmath_core.errors import DomainError, ShapeError
from nnmath_core.nn.labels import check_entries
from nnmath_core.nn.loss import Loss, option_of_entries, same_operands
from nnmath_core.typing import Array

__all__ = ["Spread", "WithSpread"]

Spread: TypeAlias = Literal["log_scale", "scale", "variance"]
"""What the second of a pair of predictions is."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class WithSpread(Loss):
    """A loss whose prediction is a mean, or a pair of a mean and what its spread says.

    Parameters
    ----------
    reduction : {"none", "sum", "mean"}, default "none"
        One number per entry, their sum, or their mean.
    sigma : float or array, default 1
        The standard deviation when the prediction is no pair.
    spread : {"log_scale", "scale", "variance"}, default "log_scale"
        What the second of a pair is.
    """

    sigma: Any = 1.0
    spread: Spread = "log_scale"

    def _check_options(self) -> None:
        super()._check_options()
        require_in(self.__name__, "spread", self.spread, ("log_scale", "scale", "variance"))
        if hasattr(self.sigma, "shape"):
            require_float(self.__name__, "sigma", self.sigma)
        else:
            option_of_entries(self.__name__, "sigma", self.sigma, None, _positive, "> 0")

    def _checked_prediction(self, prediction: Any) -> Any:
        who = self.__name__
        if not isinstance(prediction, tuple | list):
            return require_float(who, "prediction", prediction)
        if len(prediction) != 2:
            wanted = f"an array or a pair (mean, {self.spread})"
            raise ShapeError(sentence(who, "prediction", wanted, f"{len(prediction)} of them"))
        if hasattr(self.sigma, "shape") or self.sigma != 1.0:
            raise DomainError(
                f"{who}: `sigma` is {describe(self.sigma)}, and `prediction` is a pair with a "
                "spread of its own. Leave out one of the two."
            )
        mean = require_float(who, "prediction[0]", prediction[0])
        second = require_float(who, "prediction[1]", prediction[1])
        require_same_dtype(who, **{"prediction[0]": mean, "prediction[1]": second})
        advice = "Nothing is broadcast: `numpy.broadcast_to`."
        require_shape(who, "prediction[1]", second, tuple(mean.shape), advice)
        if self.spread != "log_scale":
            advice = 'A logarithm can have any value: `spread="log_scale"`.'
            second = check_entries(who, "prediction[1]", second, _positive, "> 0", advice)
        return mean, second

    def _operands(self, prediction: Any, target: Any) -> tuple[Any, Array]:
        p = self._checked_prediction(prediction)
        _, t = same_operands(self.__name__, p[0] if isinstance(p, tuple) else p, target)
        return p, t

    def _examples(self, p: Any, t: Any) -> int:
        return math.prod((p[0] if isinstance(p, tuple) else p).shape)

    def _scale(self, p: Any) -> tuple[Any, Any, Any]:
        """The mean, the standard deviation and its logarithm."""
        if not isinstance(p, tuple):
            sigma = option_of_entries(self.__name__, "sigma", self.sigma, p, _positive, "> 0")
            log = np.log(sigma) if hasattr(sigma, "shape") else math.log(sigma)
            return p, sigma, log
        mean, second = p
        if self.spread == "log_scale":
            return mean, np.exp(second), second
        if self.spread == "scale":
            return mean, second, np.log(second)
        return mean, np.sqrt(second), 0.5 * np.log(second)

    def _derivatives(self, z: Any, sigma: Any) -> tuple[Any, Any, Any, Any, Any]:
        """In m and s: d/dm, d/ds, d2/dm2, d2/dm ds, d2/ds2."""
        raise NotImplementedError(f"{type(self).__name__} has to state `_derivatives`")

    def _chain(self, p: Any, sigma: Any) -> tuple[Any, Any]:
        """First and second derivative of s in the second prediction."""
        if self.spread == "log_scale":
            return 1.0, 0.0
        first = 1.0 / p[1] if self.spread == "scale" else 0.5 / p[1]
        return first, -first / p[1]

    def _gradient(self, p: Any, t: Any) -> Any:
        mean, sigma, _ = self._scale(p)
        of_mean, of_log, *_ = self._derivatives((t - mean) / sigma, sigma)
        return (of_mean, of_log * self._chain(p, sigma)[0]) if isinstance(p, tuple) else of_mean

    def _hessian(self, p: Any, t: Any) -> Any:
        mean, sigma, _ = self._scale(p)
        _, of_log, mm, ms, ss = self._derivatives((t - mean) / sigma, sigma)
        return self._blocks(p, sigma, of_log, mm, ms, ss)

    def _blocks(self, p: Any, sigma: Any, of_log: Any, mm: Any, ms: Any, ss: Any) -> Any:
        if not isinstance(p, tuple):
            return np.full_like(p, 1.0) * mm  # of a sigma for all entries it is one number
        first, second = self._chain(p, sigma)
        mixed = ms * first
        return (mm, mixed), (mixed, ss * (first * first) + of_log * second)


def _positive(x: Any) -> Any:
    return x > 0
