"""The negative logarithm of Student's density: regression with outliers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core.checks import require_float
from nnmath_core.device import entering
from nnmath_core.errors import DomainError
from nnmath_core.nn.loss import Likelihood, option_of_entries
from nnmath_core.nn.reduction import Reduction
from nnmath_core.random import t as draw_t
from nnmath_core.special import betaln
from nnmath_core.typing import Array, ArrayLike

__all__ = ["StudentTNLL", "student_t_nll"]

_DOMAIN: dict[str, tuple[Callable[[Any], Any], str]] = {
    "df": (lambda x: (x > 0) & (x < math.inf), "> 0 and finite"),
    "scale": (lambda x: x > 0, "> 0"),
}


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class StudentTNLL(Likelihood):
    r"""Negative logarithm of Student's density of each entry.

    .. math::
        \ell = \frac{\nu + 1}{2} \log \left(1 + \frac{(y - \mu)^2}{\nu \sigma^2} \right) + \log \sigma
            \; (+ \tfrac12 \log \nu + \log B(\tfrac12, \tfrac{\nu}{2}))

    Parameters
    ----------
    prediction : array, float32 or float64
        The centres, of any shape.
    target : array, shape and dtype of ``prediction``
        Nothing is broadcast.
    reduction : {"none", "sum", "mean"}, default "none"
        One number per entry, their sum or their mean.
    full : bool, default False
        Whether the constant, a function of ``df`` alone, is added to each entry.
    df : float or array, default 4
        Degrees of freedom > 0. One that is learnt (an array) needs ``full=True``: the constant depends on it.
    scale : float or array, default 1
        Sigma > 0: known or learnt. Arrays, of the dtype of ``prediction``, broadcast against it.

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
        ``df`` or ``scale`` is not positive; an array ``df`` without ``full=True``; the mean over no entries; an unknown
        option.

    Notes
    -----
    With ``u = (y - mu) / (sigma sqrt(nu))`` the derivative in the prediction is
    ``-(nu + 1) / (sigma sqrt(nu)) * u / (1 + u**2)``: it vanishes for outliers. The Hessian is negative for
    ``|u| > 1``, so that the loss is not convex; the Fisher information is ``(nu + 1) / ((nu + 3) sigma**2)``.
    Nothing overflows: residuals up to the largest number have finite losses.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.student_t_nll(np.zeros(3), np.array([0.0, 1.0, 1e200]), df=3.0)
    array([0.00000000e+00, 5.75364145e-01, 1.83987085e+03])
    """

    df: Any = 4.0
    scale: Any = 1.0

    __name__ = "student_t_nll"

    @property
    def likelihood(self) -> str:
        """Student's t."""
        return "t(df=df, loc=prediction, scale=scale)"

    @property
    def constant(self) -> str:
        """The part of the logarithm that depends on df alone."""
        return "log(df) / 2 + log(B(1/2, df/2))"

    def __call__(
        self,
        prediction: ArrayLike,
        target: ArrayLike,
        *,
        reduction: Reduction | None = None,
        full: bool | None = None,
        df: ArrayLike | float | None = None,
        scale: ArrayLike | float | None = None,
    ) -> Array:
        """Return the loss; see the class."""
        loss = self._with(reduction=reduction, full=full, df=df, scale=scale)
        return loss._value(prediction, target)

    def _check_options(self) -> None:
        super()._check_options()
        for name in ("df", "scale"):
            option = getattr(self, name)
            if hasattr(option, "shape"):
                require_float(self.__name__, name, option)
            else:
                option_of_entries(self.__name__, name, option, None, *_DOMAIN[name])

    def _parameters(self, p: Any) -> tuple[Any, Any]:
        """The degrees of freedom and sigma."""
        who = self.__name__
        df = option_of_entries(who, "df", self.df, p, *_DOMAIN["df"])
        return df, option_of_entries(who, "scale", self.scale, p, *_DOMAIN["scale"])

    @entering
    def _value(self, prediction: Any, target: Any) -> Array:
        if hasattr(self.df, "shape") and not self.full:
            raise DomainError(
                f"{self.__name__}: `df` is an array, and the constant depends on it: without it the "
                "loss has another minimum. Pass `full=True`, or a number."
            )
        return super()._value(prediction, target)

    def _each(self, p: Any, t: Any) -> Any:
        df, sigma = self._parameters(p)
        u = (p - t) / (sigma * _root(df))
        near = np.abs(u) <= 1.0
        log1p = np.log1p(np.square(np.where(near, u, 0.0)))
        far = 2.0 * np.log(np.hypot(1.0, np.where(near, 1.0, u)))
        log = np.log(sigma) if hasattr(sigma, "shape") else math.log(sigma)
        return 0.5 * (df + 1.0) * np.where(near, log1p, far) + log

    def _constant(self, p: Any, t: Any) -> Any:
        df, _ = self._parameters(p)
        if hasattr(df, "shape"):
            return 0.5 * np.log(df) + betaln(0.5, 0.5 * df)
        return 0.5 * math.log(df) + float(betaln(0.5, 0.5 * df))

    def _gradient(self, p: Any, t: Any) -> Any:
        df, sigma = self._parameters(p)
        u = (p - t) / (sigma * _root(df))
        h = np.hypot(1.0, u)
        return (df + 1.0) / (sigma * _root(df)) * ((u / h) / h)

    def _hessian(self, p: Any, t: Any) -> Any:
        df, sigma = self._parameters(p)
        h = np.hypot(1.0, (p - t) / (sigma * _root(df)))
        q = (1.0 / h) / h
        return (df + 1.0) / (df * sigma * sigma) * (q * (2.0 * q - 1.0))

    def _fisher(self, p: Any) -> Any:
        df, sigma = self._parameters(p)
        return np.full_like(p, 1.0) * ((df + 1.0) / ((df + 3.0) * sigma * sigma))

    def _draw(self, key: Any, p: Any) -> Any:
        df, sigma = self._parameters(p)
        return p + sigma * draw_t(key, df, tuple(p.shape), p.dtype)


def _root(df: Any) -> Any:
    return np.sqrt(df) if hasattr(df, "shape") else math.sqrt(df)


student_t_nll = StudentTNLL()
