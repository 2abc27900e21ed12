"""Incomplete gamma and beta functions and their inverses, differentiated in every operand.

In x by the density, in a and b by quadrature (`quadrature.py`), whose results are primitives of their own; so there
are derivatives of every order. Relative error of a first derivative in a parameter: 1e-14 for parameters up to 100, in
both tails; beyond, it grows like the root of the parameter (and, where one of a and b is above 100 and the other below
8, like the parameter) times the rounding unit. Higher derivatives change their sign, so that this is an absolute error.
"""

from __future__ import annotations

import math

import numpy as np

from nnmath_core.autodiff.ops.compare import equal, greater, logical_or
from nnmath_core.autodiff.ops.conventions import dtype_of
from nnmath_core.autodiff.ops.elementwise import exp, log, log1p
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.special.declare import fixed, like, primitive, require_real
from nnmath_core.autodiff.ops.special.entropy import xlog1py, xlogy
from nnmath_core.autodiff.ops.special.gamma import betaln, digamma, gammaln, polygamma_p
from nnmath_core.autodiff.ops.special.quadrature import (
    bell,
    bell2,
    beta_derivative,
    gamma_derivative,
)
from nnmath_core.autodiff.primitive import Special, sample

__all__ = [
    "betainc",
    "betaincc",
    "betainccinv",
    "betaincinv",
    "gammainc",
    "gammaincc",
    "gammainccinv",
    "gammaincinv",
]


# ---------------------------------------------------------------------------------------------- gamma
def gamma_density(a, x):
    """x**(a - 1) exp(-x) / gamma(a), the derivative of `gammainc` in x."""
    return exp(_log_gamma_density(a, x))


def _log_gamma_density(a, x):
    return xlogy(a - 1.0, x) - x - gammaln(a)


def _gamma_slopes(a, x, n):
    return [log(x) - digamma(a), *(-polygamma_p(k, a) for k in range(1, n))]


def _two(d):
    return [
        sample(d.within(0.4, 4.0, 3, 1), d.within(0.2, 5.0, 4)),
        sample(2.5, d.positive(2)),
    ]


def _gamma_da_forward(be, n, a, x):
    require_real("gammainc_da", a, x)
    return like(be, gamma_derivative(be, n, a, x), a, x)


gammainc_da = primitive(
    "gammainc_da",
    (
        fixed("gammainc_da", "the order"),
        lambda g, xs, y: g * gammainc_da(xs[0] + 1, xs[1], xs[2]),
        lambda g, xs, y: (
            g * (gamma_density(xs[1], xs[2]) * bell(_gamma_slopes(xs[1], xs[2], xs[0]), xs[0]))
        ),
    ),
    forward=_gamma_da_forward,
    keeps=("", "012", "012"),
    samples=lambda d: [
        sample(1, d.within(0.4, 4.0, 3, 1), d.within(0.2, 5.0, 4)),
        sample(2, d.within(0.6, 3.0, 3), 1.5),
    ],
    where="a, x > 0",
)
"""Derivative of an order, a Python integer >= 1, of `gammainc` in a."""


def _gamma_rules(sign):
    return (
        lambda g, xs, y: g * gammainc_da(1, *xs) * sign,
        lambda g, xs, y: g * (sign * gamma_density(*xs)),
    )


def _inner(log_density, y, *ends):
    """Where ``y`` is rounded to an end of its range, or its density nearly overflows; and ``y`` with 0.5 there.

    A parameter moves it there by less than its rounding, so that every derivative is 0; the rules' terms are infinite.
    """
    end = greater(log_density(y), math.log(float(np.finfo(dtype_of(y)).max)) - 12.0)
    for x in ends:
        end = logical_or(end, equal(y, x))
    return end, where(end, 0.5, y)


def _gamma_inverse_slope(g, xs, y):
    a = xs[0]
    end, y = _inner(lambda y: _log_gamma_density(a, y), y, 0.0)
    return -(g * where(end, 0.0, gammainc_da(1, a, y) * exp(-_log_gamma_density(a, y))))


def _gamma_inverse_rules(sign):
    """X(a, p) of p = P(a, x): dx/dp = 1 / density, dx/da = -P_a / density.

    The quotients are written as products: the square of a density, as of a draw close to 0, would overflow.
    """
    return (
        _gamma_inverse_slope,
        lambda g, xs, y: g * (sign * exp(-_log_gamma_density(xs[0], y))),
    )


_AT_ZERO = [
    Special("at x = 0 with a = 1: 1 in x, 0 in a", (1.0, 0.0), (0.0, 1.0)),
    Special("at x = 0 with a = 2: 0 in both", (2.0, 0.0), (0.0, 0.0)),
    Special("at x = 0 with a < 1: inf in x, the limit", (0.5, 0.0), (None, math.inf)),
]
gammainc = primitive(
    "gammainc",
    _gamma_rules(1.0),
    keeps=("01", "01"),
    samples=_two,
    where="a > 0, x >= 0",
    special=[Special(f"gammainc {s.what}", s.operands, s.gradient) for s in _AT_ZERO],
)
gammaincc = primitive(
    "gammaincc",
    _gamma_rules(-1.0),
    keeps=("01", "01"),
    samples=_two,
    where="a > 0, x >= 0",
)


def _probabilities(d):
    return [
        sample(d.within(0.6, 4.0, 3, 1), d.within(0.1, 0.9, 4)),
        sample(1.5, d.within(0.1, 0.9, 2)),
    ]


gammaincinv = primitive(
    "gammaincinv",
    _gamma_inverse_rules(1.0),
    keeps=("0y", "0y"),
    samples=_probabilities,
    where="a > 0, 0 < y < 1",
    special=[
        Special("gammaincinv where the number is too small and rounds to 0: 0", (1e-3, 0.1), (0, 0))
    ],
)
gammainccinv = primitive(
    "gammainccinv",
    _gamma_inverse_rules(-1.0),
    keeps=("0y", "0y"),
    samples=_probabilities,
    where="a > 0, 0 < y < 1",
)


# ---------------------------------------------------------------------------------------------- beta
def beta_density(a, b, x):
    """x**(a - 1) (1 - x)**(b - 1) / B(a, b), the derivative of `betainc` in x."""
    return exp(_log_beta_density(a, b, x))


def _log_beta_density(a, b, x):
    return xlogy(a - 1.0, x) + xlog1py(b - 1.0, -x) - betaln(a, b)


def _beta_slope(a, b, x):
    def slope(i, j):
        s = polygamma_p(i + j - 1, a + b)
        if j == 0:
            s = s - polygamma_p(i - 1, a)
        elif i == 0:
            s = s - polygamma_p(j - 1, b)
        return s + log(x) if (i, j) == (1, 0) else s + log1p(-x) if (i, j) == (0, 1) else s

    return slope


def _beta_dab_forward(be, m, n, a, b, x):
    require_real("betainc_dab", a, b, x)
    return like(be, beta_derivative(be, m, n, a, b, x), a, b, x)


betainc_dab = primitive(
    "betainc_dab",
    (
        fixed("betainc_dab", "the order"),
        fixed("betainc_dab", "the order"),
        lambda g, xs, y: g * betainc_dab(xs[0] + 1, *xs[1:]),
        lambda g, xs, y: g * betainc_dab(xs[0], xs[1] + 1, *xs[2:]),
        lambda g, xs, y: g * (beta_density(*xs[2:]) * bell2(_beta_slope(*xs[2:]), xs[0], xs[1])),
    ),
    forward=_beta_dab_forward,
    keeps=("", "", "01234", "01234", "01234"),
    samples=lambda d: [
        sample(1, 0, d.within(0.4, 4.0, 4), d.within(0.4, 4.0, 4), d.within(0.1, 0.9, 4)),
        sample(0, 1, d.within(0.4, 4.0, 2, 1), 1.5, d.within(0.1, 0.9, 3)),
        sample(1, 1, d.within(0.6, 3.0, 2), d.within(0.6, 3.0), d.within(0.1, 0.9, 2)),
    ],
    where="a, b > 0, 0 < x < 1",
)
"""Derivative of two orders, Python integers with a sum >= 1, of `betainc` in a and b."""


def _beta_rules(sign):
    return (
        lambda g, xs, y: g * betainc_dab(1, 0, *xs) * sign,
        lambda g, xs, y: g * betainc_dab(0, 1, *xs) * sign,
        lambda g, xs, y: g * (sign * beta_density(*xs)),
    )


def _beta_inverse_slope(m, n):
    def rule(g, xs, y):
        a, b = xs[:2]
        end, y = _inner(lambda y: _log_beta_density(a, b, y), y, 0.0, 1.0)
        return -(g * where(end, 0.0, betainc_dab(m, n, a, b, y) * exp(-_log_beta_density(a, b, y))))

    return rule


def _beta_inverse_rules(sign):
    return (
        _beta_inverse_slope(1, 0),
        _beta_inverse_slope(0, 1),
        lambda g, xs, y: g * (sign * exp(-_log_beta_density(*xs[:2], y))),
    )


def _three(low, high):
    return lambda d: [
        sample(d.within(low, 4.0, 3), d.within(low, 4.0, 3), d.within(1 - high, high, 3)),
        sample(d.within(low, 4.0, 2, 1), 1.5, d.within(1 - high, high, 3)),
    ]


def _in_double(name, elsewhere=None):
    """SciPy's float32 version is off by 50 units in the last place: computed in float64, rounded once.

    ``elsewhere(special, *xs)``: what CuPy, which lacks the function, has instead.
    """

    def forward(be, *xs):
        require_real(name, *xs)
        wide = [x.astype(np.float64) if hasattr(x, "dtype") else x for x in xs]
        if elsewhere is None or be.xp is np:
            return like(be, getattr(be.special, name)(*wide), *xs)
        return like(be, elsewhere(be.special, *wide), *xs)

    return forward


betainc = primitive(
    "betainc",
    _beta_rules(1.0),
    forward=_in_double("betainc"),
    keeps=("012", "012", "012"),
    samples=_three(0.4, 0.9),
    where="a, b > 0, 0 <= x <= 1",
    special=[
        Special(
            "betainc at x = 0 with a = 1: b in x, 0 in a and b", (1.0, 3.0, 0.0), (0.0, 0.0, 3.0)
        ),
        Special("betainc at x = 1 with b > 1: 0 in all", (2.0, 3.0, 1.0), (0.0, 0.0, 0.0)),
    ],
)
betaincc = primitive(
    "betaincc",
    _beta_rules(-1.0),
    forward=_in_double("betaincc", lambda f, a, b, x: f.betainc(b, a, 1.0 - x)),
    keeps=("012", "012", "012"),
    samples=_three(0.4, 0.9),
    where="a, b > 0, 0 <= x <= 1",
)
betaincinv = primitive(
    "betaincinv",
    _beta_inverse_rules(1.0),
    forward=_in_double("betaincinv"),
    keeps=("01y", "01y", "01y"),
    samples=_three(0.7, 0.9),
    where="a, b > 0, 0 < y < 1",
    special=[
        Special("betaincinv where the number rounds to 1: 0", (0.01, 0.01, 0.9), (0, 0, 0)),
    ],
)
betainccinv = primitive(
    "betainccinv",
    _beta_inverse_rules(-1.0),
    forward=_in_double("betainccinv", lambda f, a, b, p: 1.0 - f.betaincinv(b, a, p)),
    keeps=("01y", "01y", "01y"),
    samples=_three(0.7, 0.9),
    where="a, b > 0, 0 < y < 1",
)
