"""Distributions on the integers; the derivative is in the parameters, and in k where the formula extends."""

from __future__ import annotations

import math
from typing import Any

from nnmath_core.autodiff.ops.compare import (
    equal,
    greater,
    greater_equal,
    less_equal,
    logical_and,
)
from nnmath_core.autodiff.ops.elementwise import exp, expm1, floor, log, log1p
from nnmath_core.autodiff.ops.select import where
from nnmath_core.special import (
    betainc,
    betaincc,
    betaln,
    gammainc,
    gammaincc,
    gammaln,
    xlog1py,
    xlogy,
)
from nnmath_core.stats.distribution import Discrete, log1mexp

__all__ = ["bernoulli", "betabinom", "binom", "geom", "nbinom", "poisson"]


def _is_share(p: Any) -> Any:
    return logical_and(greater_equal(p, 0), less_equal(p, 1))


def _is_count(n: Any) -> Any:
    return logical_and(greater_equal(n, 0), equal(n, floor(n)))


def _log_choose(n: Any, k: Any) -> Any:
    return -log(n + 1.0) - betaln(n - k + 1.0, k + 1.0)


class _poisson(Discrete):
    """Poisson's distribution of mean mu >= 0, ``exp(-mu) mu**k / k!``.

    Examples
    --------
    >>> float(poisson.logpmf(0, 2.5))
    -2.5
    """

    shapes = ("mu",)

    def _valid(self, mu: Any) -> Any:
        return greater_equal(mu, 0)

    def _logpmf(self, k: Any, mu: Any) -> Any:
        return xlogy(k, mu) - gammaln(k + 1.0) - mu

    def _cdf(self, k: Any, mu: Any) -> Any:
        return gammaincc(k + 1.0, mu)

    def _sf(self, k: Any, mu: Any) -> Any:
        return gammainc(k + 1.0, mu)


class _binom(Discrete):
    """Binomial distribution of n trials, each with probability p.

    Examples
    --------
    >>> round(float(binom.pmf(1, 2, 0.5)), 12)
    0.5
    """

    shapes = ("n", "p")

    def _valid(self, n: Any, p: Any) -> Any:
        return logical_and(_is_count(n), _is_share(p))

    def _support(self, n: Any, p: Any) -> Any:
        return 0.0, n

    def _logpmf(self, k: Any, n: Any, p: Any) -> Any:
        return _log_choose(n, k) + xlogy(k, p) + xlog1py(n - k, -p)

    def _cdf(self, k: Any, n: Any, p: Any) -> Any:
        return betaincc(k + 1.0, _rest(n, k), p)

    def _sf(self, k: Any, n: Any, p: Any) -> Any:
        return betainc(k + 1.0, _rest(n, k), p)


def _rest(n: Any, k: Any) -> Any:
    """N - k, and 1 where it is 0: the value there is another branch's."""
    return where(greater(n, k), n - k, 1.0)


class _bernoulli(Discrete):
    """One trial with probability p.

    Examples
    --------
    >>> float(bernoulli.pmf(1, 0.25))
    0.25
    """

    shapes = ("p",)

    def _valid(self, p: Any) -> Any:
        return _is_share(p)

    def _support(self, p: Any) -> Any:
        return 0.0, 1.0

    def _logpmf(self, k: Any, p: Any) -> Any:
        return xlogy(k, p) + xlog1py(1.0 - k, -p)

    def _cdf(self, k: Any, p: Any) -> Any:
        return 1.0 - p + 0.0 * k

    def _sf(self, k: Any, p: Any) -> Any:
        return p + 0.0 * k


class _geom(Discrete):
    """Number of trials until the first success, k >= 1, 0 < p <= 1.

    Examples
    --------
    >>> float(geom.pmf(2, 0.5))
    0.25
    """

    shapes = ("p",)

    def _valid(self, p: Any) -> Any:
        return logical_and(greater(p, 0), less_equal(p, 1))

    def _support(self, p: Any) -> Any:
        return 1.0, math.inf

    def _logpmf(self, k: Any, p: Any) -> Any:
        return xlog1py(k - 1.0, -p) + log(p)

    def _cdf(self, k: Any, p: Any) -> Any:
        return -expm1(k * log1p(-p))

    def _sf(self, k: Any, p: Any) -> Any:
        return exp(k * log1p(-p))

    def _logcdf(self, k: Any, p: Any) -> Any:
        return log1mexp(-k * log1p(-p))

    def _logsf(self, k: Any, p: Any) -> Any:
        return k * log1p(-p)


class _nbinom(Discrete):
    """Failures before success n, each trial with probability p; n > 0 need not be an integer.

    Examples
    --------
    >>> round(float(nbinom.pmf(0, 2.0, 0.5)), 12)
    0.25
    """

    shapes = ("n", "p")

    def _valid(self, n: Any, p: Any) -> Any:
        return logical_and(greater(n, 0), logical_and(greater(p, 0), less_equal(p, 1)))

    def _logpmf(self, k: Any, n: Any, p: Any) -> Any:
        return -log(n + k) - betaln(n, k + 1.0) + n * log(p) + xlog1py(k, -p)

    def _cdf(self, k: Any, n: Any, p: Any) -> Any:
        return betainc(n, k + 1.0, p)

    def _sf(self, k: Any, n: Any, p: Any) -> Any:
        return betaincc(n, k + 1.0, p)


class _betabinom(Discrete):
    """Binomial distribution whose probability has a beta distribution of parameters a, b > 0.

    Examples
    --------
    >>> round(float(betabinom.pmf(1, 3, 1.0, 1.0)), 12)
    0.25
    """

    shapes = ("n", "a", "b")

    def _valid(self, n: Any, a: Any, b: Any) -> Any:
        return logical_and(_is_count(n), logical_and(greater(a, 0), greater(b, 0)))

    def _support(self, n: Any, a: Any, b: Any) -> Any:
        return 0.0, n

    def _logpmf(self, k: Any, n: Any, a: Any, b: Any) -> Any:
        return _log_choose(n, k) + betaln(k + a, n - k + b) - betaln(a, b)


poisson, binom, bernoulli = _poisson(), _binom(), _bernoulli()
geom, nbinom, betabinom = _geom(), _nbinom(), _betabinom()
