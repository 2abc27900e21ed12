"""Distributions on an interval or on the positive half of the line: gamma, chi square, beta, exponential, ..."""

from __future__ import annotations

import math
from typing import Any

from nnmath_core.autodiff.ops.compare import less
from nnmath_core.autodiff.ops.elementwise import exp, expm1, log, log1p, power, sqrt, square
from nnmath_core.autodiff.ops.select import where
from nnmath_core.special import (
    betainc,
    betaincc,
    betainccinv,
    betaincinv,
    betaln,
    digamma,
    erf,
    erfc,
    fdtr,
    fdtrc,
    gammainc,
    gammaincc,
    gammainccinv,
    gammaincinv,
    gammaln,
    log_ndtr,
    ndtr,
    ndtri,
    xlog1py,
    xlogy,
)
from nnmath_core.stats.distribution import Continuous, gamma_entropy, log1mexp

__all__ = [
    "beta",
    "chi2",
    "expon",
    "f",
    "gamma",
    "halfnorm",
    "invgamma",
    "lognorm",
    "pareto",
    "rayleigh",
    "uniform",
    "weibull_min",
]

_LOG_2 = math.log(2.0)


class _gamma(Continuous):
    """Gamma distribution of shape a > 0, density ``x**(a-1) exp(-x) / gamma(a)``; the rate is 1 / scale.

    At x = 0 the density is inf for a < 1, 1 for a = 1 and 0 for a > 1.

    Examples
    --------
    >>> float(gamma.logpdf(0.0, 1.0))
    0.0
    """

    shapes = ("a",)

    def _support(self, a: Any) -> Any:
        return 0.0, math.inf

    def _logpdf(self, z: Any, a: Any) -> Any:
        return xlogy(a - 1.0, z) - z - gammaln(a)

    def _cdf(self, z: Any, a: Any) -> Any:
        return gammainc(a, z)

    def _sf(self, z: Any, a: Any) -> Any:
        return gammaincc(a, z)

    def _ppf(self, q: Any, a: Any) -> Any:
        return gammaincinv(a, q)

    def _isf(self, q: Any, a: Any) -> Any:
        return gammainccinv(a, q)

    def _entropy(self, a: Any) -> Any:
        return gamma_entropy(a)


class _chi2(Continuous):
    """Chi square distribution with df > 0 degrees of freedom: the gamma distribution of shape df/2 and scale 2.

    Examples
    --------
    >>> round(float(chi2.sf(5.991464547107979, 2.0)), 12)
    0.05
    """

    shapes = ("df",)

    def _support(self, df: Any) -> Any:
        return 0.0, math.inf

    def _logpdf(self, z: Any, df: Any) -> Any:
        half = 0.5 * df
        return xlogy(half - 1.0, z) - 0.5 * z - gammaln(half) - _LOG_2 * half

    def _cdf(self, z: Any, df: Any) -> Any:
        return gammainc(0.5 * df, 0.5 * z)

    def _sf(self, z: Any, df: Any) -> Any:
        return gammaincc(0.5 * df, 0.5 * z)

    def _ppf(self, q: Any, df: Any) -> Any:
        return 2.0 * gammaincinv(0.5 * df, q)

    def _isf(self, q: Any, df: Any) -> Any:
        return 2.0 * gammainccinv(0.5 * df, q)

    def _entropy(self, df: Any) -> Any:
        return gamma_entropy(0.5 * df) + _LOG_2


class _beta(Continuous):
    """Beta distribution with a, b > 0 on [0, 1], density ``x**(a-1) (1-x)**(b-1) / B(a, b)``.

    Examples
    --------
    >>> float(beta.cdf(0.5, 2.0, 2.0))
    0.5
    """

    shapes = ("a", "b")

    def _support(self, a: Any, b: Any) -> Any:
        return 0.0, 1.0

    def _logpdf(self, z: Any, a: Any, b: Any) -> Any:
        return xlog1py(b - 1.0, -z) + xlogy(a - 1.0, z) - betaln(a, b)

    def _cdf(self, z: Any, a: Any, b: Any) -> Any:
        return betainc(a, b, z)

    def _sf(self, z: Any, a: Any, b: Any) -> Any:
        return betaincc(a, b, z)

    def _ppf(self, q: Any, a: Any, b: Any) -> Any:
        return betaincinv(a, b, q)

    def _isf(self, q: Any, a: Any, b: Any) -> Any:
        return betainccinv(a, b, q)

    def _entropy(self, a: Any, b: Any) -> Any:
        n = a + b
        return gamma_entropy(a) + gamma_entropy(b) - gamma_entropy(n) - digamma(n)


class _f(Continuous):
    """Fisher's F distribution with dfn, dfd > 0 degrees of freedom.

    Examples
    --------
    >>> round(float(f.cdf(1.0, 3.0, 3.0)), 12)
    0.5
    """

    shapes = ("dfn", "dfd")

    def _support(self, dfn: Any, dfd: Any) -> Any:
        return 0.0, math.inf

    def _logpdf(self, z: Any, dfn: Any, dfd: Any) -> Any:
        m, n = 0.5 * dfn, 0.5 * dfd
        ratio = dfn / dfd
        front = m * log(ratio) - betaln(m, n)
        return front + xlogy(m - 1.0, z) - (m + n) * log1p(ratio * z)

    def _cdf(self, z: Any, dfn: Any, dfd: Any) -> Any:
        return fdtr(dfn, dfd, z)

    def _sf(self, z: Any, dfn: Any, dfd: Any) -> Any:
        return fdtrc(dfn, dfd, z)

    def _ppf(self, q: Any, dfn: Any, dfd: Any) -> Any:
        m, n = 0.5 * dfn, 0.5 * dfd
        return dfd * betaincinv(m, n, q) / (dfn * betaincinv(n, m, 1.0 - q))

    def _isf(self, q: Any, dfn: Any, dfd: Any) -> Any:
        m, n = 0.5 * dfn, 0.5 * dfd
        return dfd * betainccinv(m, n, q) / (dfn * betaincinv(n, m, q))


class _expon(Continuous):
    """Exponential distribution on x >= 0, density ``exp(-x)``.

    Examples
    --------
    >>> float(expon.logsf(700.0))
    -700.0
    """

    def _support(self) -> Any:
        return 0.0, math.inf

    def _logpdf(self, z: Any) -> Any:
        return -z

    def _cdf(self, z: Any) -> Any:
        return -expm1(-z)

    def _sf(self, z: Any) -> Any:
        return exp(-z)

    def _logcdf(self, z: Any) -> Any:
        return log1mexp(z)

    def _logsf(self, z: Any) -> Any:
        return -z

    def _ppf(self, q: Any) -> Any:
        return -log1p(-q)

    def _isf(self, q: Any) -> Any:
        return -log(q)

    def _entropy(self) -> Any:
        return 1.0


class _uniform(Continuous):
    """Uniform distribution on [loc, loc + scale].

    Examples
    --------
    >>> float(uniform.cdf(3.0, loc=2.0, scale=4.0))
    0.25
    """

    def _support(self) -> Any:
        return 0.0, 1.0

    def _logpdf(self, z: Any) -> Any:
        return 0.0 * z

    def _pdf(self, z: Any) -> Any:
        return 1.0 + 0.0 * z

    def _cdf(self, z: Any) -> Any:
        return z

    def _sf(self, z: Any) -> Any:
        return 1.0 - z

    def _ppf(self, q: Any) -> Any:
        return q

    def _isf(self, q: Any) -> Any:
        return 1.0 - q

    def _entropy(self) -> Any:
        return 0.0


class _pareto(Continuous):
    """Pareto's distribution on x >= 1, density ``b / x**(b+1)``, b > 0.

    Examples
    --------
    >>> float(pareto.sf(4.0, 0.5))
    0.5
    """

    shapes = ("b",)
    _inner = 2.0

    def _support(self, b: Any) -> Any:
        return 1.0, math.inf

    def _logpdf(self, z: Any, b: Any) -> Any:
        return log(b) - (b + 1.0) * log(z)

    def _cdf(self, z: Any, b: Any) -> Any:
        return -expm1(-b * log(z))

    def _sf(self, z: Any, b: Any) -> Any:
        return power(z, -b)

    def _logcdf(self, z: Any, b: Any) -> Any:
        return log1mexp(b * log(z))

    def _logsf(self, z: Any, b: Any) -> Any:
        return -b * log(z)

    def _ppf(self, q: Any, b: Any) -> Any:
        return exp(-log1p(-q) / b)

    def _isf(self, q: Any, b: Any) -> Any:
        return power(q, -1.0 / b)

    def _entropy(self, b: Any) -> Any:
        return 1.0 + 1.0 / b - log(b)


class _lognorm(Continuous):
    """Distribution of the exponential of a normal number of deviation s > 0.

    Examples
    --------
    >>> float(lognorm.cdf(1.0, 0.7))
    0.5
    """

    _open = True
    shapes = ("s",)

    def _support(self, s: Any) -> Any:
        return 0.0, math.inf

    def _logpdf(self, z: Any, s: Any) -> Any:
        u = log(z)
        return -0.5 * square(u / s) - 0.5 * math.log(2.0 * math.pi) - log(s) - u

    def _cdf(self, z: Any, s: Any) -> Any:
        return ndtr(log(z) / s)

    def _sf(self, z: Any, s: Any) -> Any:
        return ndtr(-log(z) / s)

    def _logcdf(self, z: Any, s: Any) -> Any:
        return log_ndtr(log(z) / s)

    def _logsf(self, z: Any, s: Any) -> Any:
        return log_ndtr(-log(z) / s)

    def _ppf(self, q: Any, s: Any) -> Any:
        return exp(s * ndtri(q))

    def _isf(self, q: Any, s: Any) -> Any:
        return exp(-s * ndtri(q))

    def _entropy(self, s: Any) -> Any:
        return 0.5 * (1.0 + math.log(2.0 * math.pi)) + log(s)


class _invgamma(Continuous):
    """Distribution of 1 / x of a gamma number x of shape a > 0.

    Examples
    --------
    >>> round(float(invgamma.pdf(1.0, 1.0)), 6)
    0.367879
    """

    _open = True
    shapes = ("a",)

    def _support(self, a: Any) -> Any:
        return 0.0, math.inf

    def _logpdf(self, z: Any, a: Any) -> Any:
        return -(a + 1.0) * log(z) - gammaln(a) - 1.0 / z

    def _cdf(self, z: Any, a: Any) -> Any:
        return gammaincc(a, 1.0 / z)

    def _sf(self, z: Any, a: Any) -> Any:
        return gammainc(a, 1.0 / z)

    def _ppf(self, q: Any, a: Any) -> Any:
        return 1.0 / gammainccinv(a, q)

    def _isf(self, q: Any, a: Any) -> Any:
        return 1.0 / gammaincinv(a, q)

    def _entropy(self, a: Any) -> Any:
        return gamma_entropy(a) - 2.0 * digamma(a)


class _weibull_min(Continuous):
    """Weibull's distribution on x >= 0, survival function ``exp(-x**c)``, c > 0.

    Examples
    --------
    >>> float(weibull_min.logsf(3.0, 2.0))
    -9.0
    """

    shapes = ("c",)

    def _support(self, c: Any) -> Any:
        return 0.0, math.inf

    def _logpdf(self, z: Any, c: Any) -> Any:
        return log(c) + xlogy(c - 1.0, z) - power(z, c)

    def _cdf(self, z: Any, c: Any) -> Any:
        return -expm1(-power(z, c))

    def _sf(self, z: Any, c: Any) -> Any:
        return exp(-power(z, c))

    def _logcdf(self, z: Any, c: Any) -> Any:
        return log1mexp(power(z, c))

    def _logsf(self, z: Any, c: Any) -> Any:
        return -power(z, c)

    def _ppf(self, q: Any, c: Any) -> Any:
        return power(-log1p(-q), 1.0 / c)

    def _isf(self, q: Any, c: Any) -> Any:
        return power(-log(q), 1.0 / c)


class _rayleigh(Continuous):
    """Rayleigh's distribution on x >= 0, density ``x exp(-x**2/2)``.

    Examples
    --------
    >>> float(rayleigh.logsf(2.0))
    -2.0
    """

    def _support(self) -> Any:
        return 0.0, math.inf

    def _logpdf(self, z: Any) -> Any:
        return log(z) - 0.5 * square(z)

    def _pdf(self, z: Any) -> Any:
        return z * exp(-0.5 * square(z))

    def _cdf(self, z: Any) -> Any:
        return -expm1(-0.5 * square(z))

    def _sf(self, z: Any) -> Any:
        return exp(-0.5 * square(z))

    def _logcdf(self, z: Any) -> Any:
        return log1mexp(0.5 * square(z))

    def _logsf(self, z: Any) -> Any:
        return -0.5 * square(z)

    def _ppf(self, q: Any) -> Any:
        return sqrt(-2.0 * log1p(-q))

    def _isf(self, q: Any) -> Any:
        return sqrt(-2.0 * log(q))


class _halfnorm(Continuous):
    """Distribution of the absolute value of a normal number.

    Examples
    --------
    >>> round(float(halfnorm.pdf(0.0)), 6)
    0.797885
    """

    def _support(self) -> Any:
        return 0.0, math.inf

    def _logpdf(self, z: Any) -> Any:
        return 0.5 * math.log(2.0 / math.pi) - 0.5 * square(z)

    def _pdf(self, z: Any) -> Any:
        return math.sqrt(2.0 / math.pi) * exp(-0.5 * square(z))

    def _cdf(self, z: Any) -> Any:
        return erf(math.sqrt(0.5) * z)

    def _sf(self, z: Any) -> Any:
        return erfc(math.sqrt(0.5) * z)

    def _logsf(self, z: Any) -> Any:
        near = less(z, 1.0)
        tail = _LOG_2 + log_ndtr(-where(near, 1.0, z))
        return where(near, log1p(-self._cdf(where(near, z, 0.5))), tail)

    def _ppf(self, q: Any) -> Any:
        return ndtri(0.5 * (1.0 + q))

    def _isf(self, q: Any) -> Any:
        return -ndtri(0.5 * q)


gamma, chi2, beta, f = _gamma(), _chi2(), _beta(), _f()
expon, uniform, pareto, lognorm = _expon(), _uniform(), _pareto(), _lognorm()
invgamma, weibull_min, rayleigh, halfnorm = _invgamma(), _weibull_min(), _rayleigh(), _halfnorm()
