"""Logarithms in products, entropies, logit and its relatives, powers in the form of Box and Cox, robust losses."""

from __future__ import annotations

import math

import scipy.special

from nnmath_core.autodiff.ops.compare import equal, less_equal
from nnmath_core.autodiff.ops.conventions import ufuncs
from nnmath_core.autodiff.ops.elementwise import (
    absolute,
    exp,
    expit,
    hypot,
    log,
    log1p,
    sign,
    sin,
    square,
)
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.special.declare import (
    dispatches,
    floating,
    near_zero,
    primitive,
    unary,
)
from nnmath_core.autodiff.primitive import REGISTRY, Special, sample
from nnmath_core.device import entering

__all__ = [
    "boxcox",
    "boxcox1p",
    "cosdg",
    "cosm1",
    "cotdg",
    "entr",
    "exp10",
    "expit",
    "exprel",
    "huber",
    "inv_boxcox",
    "inv_boxcox1p",
    "kl_div",
    "log_expit",
    "logit",
    "powm1",
    "pseudo_huber",
    "radian",
    "rel_entr",
    "sindg",
    "tandg",
    "xlog1py",
    "xlogy",
]

_INF = math.inf
_DEGREE = math.pi / 180.0


def _two(low, high):
    return lambda d: [
        sample(d.within(low, high, 3, 1), d.within(low, high, 4)),
        sample(0.75, d.within(low, high, 2)),
    ]


# ---------------------------------------------------------------------------------------------- x log y
def _over(x, y):
    """X / y, and 0 where x = 0."""
    zero = equal(x, 0)
    return where(zero, 0.0, x / where(zero, 1.0, y))


xlogy = primitive(
    "xlogy",
    (lambda g, xs, y: g * log(xs[1]), lambda g, xs, y: g * _over(xs[0], xs[1])),
    keeps=("1", "01"),
    samples=_two(0.3, 2.3),
    where="y > 0",
    special=[
        Special("xlogy at (0, 0): 0 in y", (0.0, 0.0), (None, 0.0)),
        Special("xlogy with x = 0: 0 in y", (0.0, 2.0), (math.log(2.0), 0.0)),
    ],
)
xlog1py = primitive(
    "xlog1py",
    (lambda g, xs, y: g * log1p(xs[1]), lambda g, xs, y: g * _over(xs[0], 1.0 + xs[1])),
    keeps=("1", "01"),
    samples=_two(0.3, 2.3),
    where="y > -1",
    special=[
        Special("xlog1py at (0, -1): 0 in y", (0.0, -1.0), (None, 0.0)),
    ],
)
entr = unary(
    "entr",
    lambda g, xs, y: g * -(log(xs[0]) + 1.0),
    keeps="0",
    domain="positive",
    where="x > 0",
    special=[Special("entr at 0: inf, the limit", (0.0,), (_INF,))],
)


def _ratio_of(x, y):
    """log(x / y), also where the quotient would overflow or vanish."""
    return log(x) - log(y)


rel_entr = primitive(
    "rel_entr",
    (
        lambda g, xs, y: g * (_ratio_of(xs[0], xs[1]) + 1.0),
        lambda g, xs, y: g * -_over(xs[0], xs[1]),
    ),
    keeps=("01", "01"),
    samples=_two(0.3, 2.3),
    where="x, y > 0",
    special=[
        Special("rel_entr with x = 0: -inf in x, the limit", (0.0, 2.0), (-_INF, None)),
        Special("rel_entr with x = 0: 0 in y", (0.0, 2.0), (None, 0.0)),
    ],
)
kl_div = primitive(
    "kl_div",
    (
        lambda g, xs, y: g * _ratio_of(xs[0], xs[1]),
        lambda g, xs, y: g * (1.0 - _over(xs[0], xs[1])),
    ),
    keeps=("01", "01"),
    samples=_two(0.3, 2.3),
    where="x, y > 0",
    special=[
        Special("kl_div with x = 0: -inf in x, the limit", (0.0, 2.0), (-_INF, None)),
        Special("kl_div with x = 0: 1 in y", (0.0, 2.0), (None, 1.0)),
    ],
)

# ---------------------------------------------------------------------------------------------- logit
logit = unary(
    "logit",
    lambda g, xs, y: g / (xs[0] * (1.0 - xs[0])),
    keeps="0",
    domain=(0.1, 0.9),
    where="0 < x < 1",
    special=[Special("logit at 0: inf, the limit", (0.0,), (_INF,))],
)
log_expit = unary("log_expit", lambda g, xs, y: g * expit(-xs[0]), keeps="0")

# ---------------------------------------------------------------------------------------------- exp
exp10 = unary("exp10", lambda g, xs, y: g * (math.log(10.0) * y), keeps="y")
_EXPREL = [1.0 / ((k + 2) * math.factorial(k)) for k in range(22)]


def _exprel_slope(x):
    return near_zero(x, 1.0, _EXPREL, lambda x: (exp(x) - exprel(x)) / x)


exprel = unary(
    "exprel",
    lambda g, xs, y: g * _exprel_slope(xs[0]),
    keeps="0",
    special=[Special("exprel at 0: 1/2, the limit", (0.0,), (0.5,))],
)
powm1 = primitive(
    "powm1",
    (
        lambda g, xs, y: g * (xs[1] * xs[0] ** (xs[1] - 1.0)),
        lambda g, xs, y: g * ((1.0 + y) * log(xs[0])),
    ),
    keeps=("01", "0y"),
    samples=_two(0.3, 2.3),
    where="x > 0",
)

# ---------------------------------------------------------------------------------------------- angles
cosm1 = unary("cosm1", lambda g, xs, y: g * -sin(xs[0]), keeps="0")
sindg = unary("sindg", lambda g, xs, y: g * (_DEGREE * cosdg(xs[0])), keeps="0")
cosdg = unary("cosdg", lambda g, xs, y: g * (-_DEGREE * sindg(xs[0])), keeps="0")
tandg = unary(
    "tandg",
    lambda g, xs, y: g * (_DEGREE * (1.0 + square(y))),
    keeps="y",
    where="cosdg(x) != 0",
)
cotdg = unary(
    "cotdg",
    lambda g, xs, y: g * (-_DEGREE * (1.0 + square(y))),
    keeps="y",
    domain=(20.0, 70.0),
    where="sindg(x) != 0",
)


@dispatches("radian")
@entering
def radian(d, m, s):
    """SciPy's ``radian``: degrees, minutes and seconds to radians."""
    return (floating(d) + m / 60.0 + s / 3600.0) * _DEGREE


# ---------------------------------------------------------------------------------------------- Box and Cox
def _boxcox_power(lam, u):
    """d/dlam of (exp(lam u) - 1) / lam: u**2 exprel'(lam u)."""
    return square(u) * _exprel_slope(lam * u)


boxcox = primitive(
    "boxcox",
    (
        lambda g, xs, y: g * exp(xlogy(xs[1] - 1.0, xs[0])),
        lambda g, xs, y: g * _boxcox_power(xs[1], log(xs[0])),
    ),
    keeps=("01", "01"),
    samples=_two(0.3, 2.3),
    where="x > 0",
    special=[
        Special("boxcox with lmbda = 0, the logarithm", (2.0, 0.0), (0.5, 0.5 * math.log(2) ** 2))
    ],
)
boxcox1p = primitive(
    "boxcox1p",
    (
        lambda g, xs, y: g * exp(xlog1py(xs[1] - 1.0, xs[0])),
        lambda g, xs, y: g * _boxcox_power(xs[1], log1p(xs[0])),
    ),
    keeps=("01", "01"),
    samples=_two(0.3, 2.3),
    where="x > -1",
    special=[
        Special("boxcox1p with lmbda = 0: log1p", (1.0, 0.0), (0.5, 0.5 * math.log(2) ** 2)),
    ],
)


def _log1p_ratio_slope(u):
    """The derivative of log(1 + u) / u."""
    series = [(-1.0) ** (k + 1) * (k + 1) / (k + 2) for k in range(28)]
    return near_zero(u, 0.25, series, lambda u: (1.0 / (1.0 + u) - log1p(u) / u) / u)


def _inverse_power(y, lam):
    """d/dlam of log(1 + lam y) / lam = y R(lam y): y**2 R'(lam y)."""
    return square(y) * _log1p_ratio_slope(lam * y)


def _inverse_rules(base):
    """X = exp(y R(lam y)) - base."""
    return (
        lambda g, xs, y: g * ((base + y) / (1.0 + xs[1] * xs[0])),
        lambda g, xs, y: g * ((base + y) * _inverse_power(xs[0], xs[1])),
    )


inv_boxcox = primitive(
    "inv_boxcox",
    _inverse_rules(0.0),
    keeps=("01y", "01y"),
    samples=_two(0.3, 2.3),
    where="1 + lmbda * y > 0",
    special=[
        Special("inv_boxcox with lmbda = 0: exp", (1.0, 0.0), (math.e, -0.5 * math.e)),
    ],
)
inv_boxcox1p = primitive(
    "inv_boxcox1p",
    _inverse_rules(1.0),
    keeps=("01y", "01y"),
    samples=_two(0.3, 2.3),
    where="1 + lmbda * y > 0",
    special=[
        Special("inv_boxcox1p with lmbda = 0: expm1", (1.0, 0.0), (math.e, -0.5 * math.e)),
    ],
)


# ---------------------------------------------------------------------------------------------- losses
def _within(delta, r):
    return less_equal(absolute(r), delta)


huber = primitive(
    "huber",
    (
        lambda g, xs, y: g * where(_within(*xs), 0.0, absolute(xs[1]) - xs[0]),
        lambda g, xs, y: g * where(_within(*xs), xs[1], xs[0] * sign(xs[1])),
    ),
    keeps=("01", "01"),
    samples=lambda d: [
        sample(d.within(0.3, 0.9, 3, 1), d.apart(4)),
        sample(0.8, d.apart(5)),
    ],
    where="delta >= 0",
    special=[
        Special("huber at r = delta, where its halves meet", (1.0, 1.0), (0.0, 1.0)),
    ],
)


def _curved(delta, r):
    """Delta and r over their root mean square sqrt(delta**2 + r**2), both 0 at (0, 0)."""
    h = hypot(delta, r)
    zero = equal(h, 0)
    h = where(zero, 1.0, h)
    return where(zero, 0.0, delta / h), where(zero, 0.0, r / h)


def _pseudo_huber_delta(g, xs, y):
    """(h - delta)**2 / h of h = sqrt(delta**2 + r**2), without the difference: h - delta = r**2 / (h + delta)."""
    c, s = _curved(*xs)
    return g * (xs[1] * s * square(s / (1.0 + c)))


pseudo_huber = primitive(
    "pseudo_huber",
    (_pseudo_huber_delta, lambda g, xs, y: g * (xs[0] * _curved(*xs)[1])),
    keeps=("01", "01"),
    samples=_two(0.3, 2.3),
    where="delta >= 0",
    special=[Special("pseudo_huber at r = 0: 0 in both", (1.0, 0.0), (0.0, 0.0))],
)

ufuncs.update(
    {
        scipy.special.erf: REGISTRY["erf"],
        scipy.special.expit: expit,
    }
)
