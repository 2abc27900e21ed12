"""Distributions on the line, on the whole of it or symmetric about 0: normal, Student, Cauchy, Laplace, ..."""

from __future__ import annotations

import math
from typing import Any

from nnmath_core.autodiff.ops.compare import (
    equal,
    greater,
    greater_equal,
    isinf,
    less,
    logical_and,
)
from nnmath_core.autodiff.ops.elementwise import (
    absolute,
    arctan2,
    exp,
    expm1,
    log,
    log1p,
    power,
    square,
    tan,
)
from nnmath_core.autodiff.ops.select import minimum, where
from nnmath_core.special import (
    betaln,
    cosm1,
    expit,
    gammaincc,
    gammainccinv,
    gammaln,
    i0e,
    log_expit,
    log_ndtr,
    logit,
    ndtr,
    ndtri,
    stdtr,
    stdtrit,
)
from nnmath_core.stats.distribution import Continuous, log1mexp

__all__ = [
    "cauchy",
    "gennorm",
    "gumbel_l",
    "gumbel_r",
    "laplace",
    "logistic",
    "norm",
    "t",
    "truncnorm",
    "vonmises",
    "wrapcauchy",
]

_LOG_ROOT_TWO_PI = 0.5 * math.log(2.0 * math.pi)
_LOG_2 = math.log(2.0)


class _norm(Continuous):
    """Normal distribution, density ``exp(-x**2/2) / sqrt(2 pi)``; ``loc`` is the mean, ``scale`` the deviation.

    The logarithms of both tails are those of `nnmath_core.special.log_ndtr`: exact far beyond where they vanish.

    Examples
    --------
    >>> round(float(norm.logcdf(-40.0)), 9)
    -804.608442014
    """

    def _logpdf(self, z: Any) -> Any:
        return -0.5 * square(z) - _LOG_ROOT_TWO_PI

    def _pdf(self, z: Any) -> Any:
        return exp(-0.5 * square(z)) / math.sqrt(2.0 * math.pi)

    def _cdf(self, z: Any) -> Any:
        return ndtr(z)

    def _sf(self, z: Any) -> Any:
        return ndtr(-z)

    def _logcdf(self, z: Any) -> Any:
        return log_ndtr(z)

    def _logsf(self, z: Any) -> Any:
        return log_ndtr(-z)

    def _ppf(self, q: Any) -> Any:
        return ndtri(q)

    def _isf(self, q: Any) -> Any:
        return -ndtri(q)

    def _entropy(self) -> Any:
        return 0.5 + _LOG_ROOT_TWO_PI


class _t(Continuous):
    """Student's t distribution with df > 0 degrees of freedom; df = inf is the normal distribution's density.

    Density ``(1 + x**2/df)**(-(df+1)/2) / (sqrt(df) B(df/2, 1/2))``.

    Examples
    --------
    >>> float(t.cdf(0.0, 3.5))
    0.5
    """

    shapes = ("df",)

    def _logpdf(self, z: Any, df: Any) -> Any:
        endless = isinf(df)
        n = where(endless, 1.0, df)
        y = self._front(n) - 0.5 * (n + 1.0) * log1p(square(z) / n)
        return where(endless, -0.5 * square(z) - _LOG_ROOT_TWO_PI, y)

    def _front(self, n: Any) -> Any:
        """-log(sqrt(n) B(n/2, 1/2)); the logarithms of gamma cancel for large n: there its expansion."""
        large = greater(n, 100.0)
        near = where(large, 1.0, n)
        r = 1.0 / where(large, n, 100.0)
        s = square(r)
        tail = r * (0.25 - s * (1 / 24 - s * (1 / 20 - s * (17 / 112))))
        return where(large, -_LOG_ROOT_TWO_PI - tail, -0.5 * log(near) - betaln(0.5 * near, 0.5))

    def _cdf(self, z: Any, df: Any) -> Any:
        return stdtr(df, z)

    def _sf(self, z: Any, df: Any) -> Any:
        return stdtr(df, -z)

    def _ppf(self, q: Any, df: Any) -> Any:
        return stdtrit(df, q)

    def _isf(self, q: Any, df: Any) -> Any:
        return -stdtrit(df, q)


class _cauchy(Continuous):
    """Cauchy's distribution, density ``1 / (pi (1 + x**2))``.

    Examples
    --------
    >>> float(cauchy.sf(1.0))
    0.25
    """

    def _logpdf(self, z: Any) -> Any:
        return -math.log(math.pi) - log1p(square(z))

    def _pdf(self, z: Any) -> Any:
        return 1.0 / (math.pi * (1.0 + square(z)))

    def _cdf(self, z: Any) -> Any:
        return arctan2(1.0 + 0.0 * z, -z) / math.pi

    def _sf(self, z: Any) -> Any:
        return arctan2(1.0 + 0.0 * z, z) / math.pi

    def _ppf(self, q: Any) -> Any:
        high, inner = greater(q, 0.5), less(absolute(q - 0.5), 0.25)
        end = where(inner, 0.25, where(high, 1.0 - q, q))
        tail = 1.0 / tan(math.pi * end)
        middle = tan(math.pi * (where(inner, q, 0.5) - 0.5))
        return where(inner, middle, where(high, tail, -tail))

    def _isf(self, q: Any) -> Any:
        return -self._ppf(q)

    def _entropy(self) -> Any:
        return math.log(4.0 * math.pi)


class _laplace(Continuous):
    """Laplace's distribution, density ``exp(-|x|) / 2``; at 0 the derivative of its logarithm is 0.

    Examples
    --------
    >>> float(laplace.cdf(0.0))
    0.5
    """

    def _logpdf(self, z: Any) -> Any:
        return -absolute(z) - _LOG_2

    def _pdf(self, z: Any) -> Any:
        return 0.5 * exp(-absolute(z))

    def _cdf(self, z: Any) -> Any:
        right = greater(z, 0)
        tail = 0.5 * exp(where(right, -z, z))
        return where(right, 1.0 - tail, tail)

    def _sf(self, z: Any) -> Any:
        return self._cdf(-z)

    def _logcdf(self, z: Any) -> Any:
        right = greater(z, 0)
        away = where(right, -z, z)
        return where(right, log1p(-0.5 * exp(away)), away - _LOG_2)

    def _logsf(self, z: Any) -> Any:
        return self._logcdf(-z)

    def _ppf(self, q: Any) -> Any:
        right = greater(q, 0.5)
        depth = log(2.0 * where(right, 1.0 - q, q))
        return where(right, -depth, depth)

    def _isf(self, q: Any) -> Any:
        return -self._ppf(q)

    def _entropy(self) -> Any:
        return 1.0 + _LOG_2


class _logistic(Continuous):
    """Logistic distribution, density ``s(x) s(-x)`` with ``s = 1 / (1 + exp(-x))``.

    Examples
    --------
    >>> float(logistic.pdf(0.0))
    0.25
    """

    def _logpdf(self, z: Any) -> Any:
        return log_expit(z) + log_expit(-z)

    def _pdf(self, z: Any) -> Any:
        return expit(z) * expit(-z)

    def _cdf(self, z: Any) -> Any:
        return expit(z)

    def _sf(self, z: Any) -> Any:
        return expit(-z)

    def _logcdf(self, z: Any) -> Any:
        return log_expit(z)

    def _logsf(self, z: Any) -> Any:
        return log_expit(-z)

    def _ppf(self, q: Any) -> Any:
        return logit(q)

    def _isf(self, q: Any) -> Any:
        return -logit(q)

    def _entropy(self) -> Any:
        return 2.0


def _bounded(t: Any) -> Any:
    """``t`` below 1e30: ``exp(-t)`` stays, and where ``t`` overflows its derivative is 0 and not 0 times infinity."""
    return minimum(t, 1e30)


class _gumbel_r(Continuous):
    """Gumbel's distribution of maxima, distribution function ``exp(-exp(-x))``.

    Examples
    --------
    >>> float(gumbel_r.logcdf(0.0))
    -1.0
    """

    def _logpdf(self, z: Any) -> Any:
        return -z - exp(-z)

    def _pdf(self, z: Any) -> Any:
        t = _bounded(exp(-z))
        return t * exp(-t)

    def _cdf(self, z: Any) -> Any:
        return exp(-_bounded(exp(-z)))

    def _logcdf(self, z: Any) -> Any:
        return -exp(-z)

    def _sf(self, z: Any) -> Any:
        return -expm1(-_bounded(exp(-z)))

    def _logsf(self, z: Any) -> Any:
        return log1mexp(_bounded(exp(-z)))

    def _ppf(self, q: Any) -> Any:
        return -log(-log(q))

    def _isf(self, q: Any) -> Any:
        return -log(-log1p(-q))


class _gumbel_l(Continuous):
    """Gumbel's distribution of minima, survival function ``exp(-exp(x))``.

    Examples
    --------
    >>> float(gumbel_l.logsf(0.0))
    -1.0
    """

    def _logpdf(self, z: Any) -> Any:
        return z - exp(z)

    def _pdf(self, z: Any) -> Any:
        t = _bounded(exp(z))
        return t * exp(-t)

    def _cdf(self, z: Any) -> Any:
        return -expm1(-_bounded(exp(z)))

    def _logcdf(self, z: Any) -> Any:
        return log1mexp(_bounded(exp(z)))

    def _sf(self, z: Any) -> Any:
        return exp(-_bounded(exp(z)))

    def _logsf(self, z: Any) -> Any:
        return -exp(z)

    def _ppf(self, q: Any) -> Any:
        return log(-log1p(-q))

    def _isf(self, q: Any) -> Any:
        return log(-log(q))


class _gennorm(Continuous):
    """Generalized normal distribution, density ``beta exp(-|x|**beta) / (2 gamma(1/beta))``.

    Examples
    --------
    >>> float(gennorm.cdf(0.0, 1.5))
    0.5
    """

    shapes = ("beta",)

    def _logpdf(self, z: Any, beta: Any) -> Any:
        return log(0.5 * beta) - gammaln(1.0 / beta) - power(absolute(z), beta)

    def _cdf(self, z: Any, beta: Any) -> Any:
        right = greater(z, 0)
        tail = 0.5 * gammaincc(1.0 / beta, power(absolute(z), beta))
        return where(right, 1.0 - tail, tail)

    def _sf(self, z: Any, beta: Any) -> Any:
        return self._cdf(-z, beta)

    def _ppf(self, q: Any, beta: Any) -> Any:
        right = greater(q, 0.5)
        r = power(gammainccinv(1.0 / beta, 2.0 * where(right, 1.0 - q, q)), 1.0 / beta)
        return where(right, r, -r)

    def _isf(self, q: Any, beta: Any) -> Any:
        return -self._ppf(q, beta)

    def _entropy(self, beta: Any) -> Any:
        return 1.0 / beta - log(0.5 * beta) + gammaln(1.0 / beta)


class _truncnorm(Continuous):
    """Normal distribution on [a, b], bounds in units of ``scale`` about ``loc``.

    The probability of [a, b] is formed in the logarithm on the side of 0 where it is small, so that far tails keep
    their digits.

    Examples
    --------
    >>> round(float(truncnorm.logpdf(30.5, 30.0, 31.0)), 6)
    -11.722695
    """

    shapes = ("a", "b")

    def _valid(self, a: Any, b: Any) -> Any:
        return less(a, b)

    def _support(self, a: Any, b: Any) -> Any:
        return a, b

    def _inner_point(self, a: Any, b: Any) -> Any:
        """A bound that is finite, 0 if none is."""
        return where(isinf(a), where(isinf(b), 0.0, b), a)

    def _log_mass(self, a: Any, b: Any) -> Any:
        """log(ndtr(b) - ndtr(a)); mirrored when the middle is right of 0."""
        turn = greater(a, 0)
        low, high = where(turn, -b, a), where(turn, -a, b)
        top = log_ndtr(high)
        return top + log1mexp(top - log_ndtr(low))

    def _logpdf(self, z: Any, a: Any, b: Any) -> Any:
        return -0.5 * square(z) - _LOG_ROOT_TWO_PI - self._log_mass(a, b)

    def _cdf(self, z: Any, a: Any, b: Any) -> Any:
        return exp(self._logcdf(z, a, b))

    def _sf(self, z: Any, a: Any, b: Any) -> Any:
        return exp(self._logsf(z, a, b))

    def _logcdf(self, z: Any, a: Any, b: Any) -> Any:
        return self._share(z, a, b, False)

    def _logsf(self, z: Any, a: Any, b: Any) -> Any:
        return self._share(z, a, b, True)

    def _share(self, z: Any, a: Any, b: Any, right: bool) -> Any:
        """The logarithm of a part of the mass, above one half by the other part; z is a bound outside of [a, b]."""
        left = self._log_mass(where(equal(z, a), z - 1.0, a), z)
        rest = self._log_mass(z, where(equal(z, b), z + 1.0, b))
        part, other = (rest, left) if right else (left, rest)
        whole = self._log_mass(a, b)
        part, other = part - whole, other - whole
        large = greater(part, -_LOG_2)
        return where(large, log1p(-exp(where(large, other, -1.0))), part)


class _vonmises(Continuous):
    """Von Mises' distribution on the circle, density ``exp(kappa cos x) / (2 pi I0(kappa))``, kappa >= 0.

    Only the density: the distribution function has no closed form.

    Examples
    --------
    >>> float(vonmises.logpdf(0.3, 1e6)) < -44000
    True
    """

    shapes = ("kappa",)

    def _valid(self, kappa: Any) -> Any:
        return greater_equal(kappa, 0)

    def _logpdf(self, z: Any, kappa: Any) -> Any:
        return kappa * cosm1(z) - math.log(2.0 * math.pi) - log(i0e(kappa))


class _wrapcauchy(Continuous):
    """Cauchy's distribution wrapped around the circle, 0 < c < 1, on [0, 2 pi].

    Density ``(1 - c**2) / (2 pi (1 + c**2 - 2 c cos x))``.

    Examples
    --------
    >>> round(float(wrapcauchy.pdf(0.0, 0.5)), 6)
    0.477465
    """

    shapes = ("c",)

    def _valid(self, c: Any) -> Any:
        return logical_and(greater(c, 0), less(c, 1))

    def _support(self, c: Any) -> Any:
        return 0.0, 2.0 * math.pi

    def _logpdf(self, z: Any, c: Any) -> Any:
        return (
            log1p(-square(c)) - math.log(2.0 * math.pi) - log(square(1.0 - c) - 2.0 * c * cosm1(z))
        )


norm, t, cauchy, laplace, logistic = _norm(), _t(), _cauchy(), _laplace(), _logistic()
gumbel_r, gumbel_l, gennorm = _gumbel_r(), _gumbel_l(), _gennorm()
truncnorm, vonmises, wrapcauchy = _truncnorm(), _vonmises(), _wrapcauchy()
