"""Error functions, their inverses, and the normal distribution function.

Where the value vanishes or overflows, its derivative is written with the scaled function `erfcx`, so that the quotient
of two such numbers is never formed.
"""

from __future__ import annotations

import math

from nnmath_core.autodiff.ops.compare import greater, isinf, isnan, less, logical_and, logical_not
from nnmath_core.autodiff.ops.conventions import dtype_of
from nnmath_core.autodiff.ops.elementwise import erf, exp, square
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import imag
from nnmath_core.autodiff.ops.special.declare import dispatches, floating, primitive, unary
from nnmath_core.autodiff.primitive import Special, sample

__all__ = [
    "dawsn",
    "erf",
    "erfc",
    "erfcinv",
    "erfcx",
    "erfi",
    "erfinv",
    "log_ndtr",
    "ndtr",
    "ndtri",
    "owens_t",
    "wofz",
]

_TWO_BY_ROOT_PI = 2.0 / math.sqrt(math.pi)
_HALF_ROOT_PI = 0.5 * math.sqrt(math.pi)
_ROOT_HALF = math.sqrt(0.5)
_ROOT_TWO_PI = math.sqrt(2.0 * math.pi)
_INF = math.inf

erfc = unary("erfc", lambda g, xs, y: g * (-_TWO_BY_ROOT_PI * exp(-square(xs[0]))), keeps="0")
erfcx = unary("erfcx", lambda g, xs, y: g * _erfcx_slope(xs[0], y), keeps="0y")


def _erfcx_slope(x, y):
    """2 x y - 2/sqrt(pi), which cancels for large x: there -1 / (sqrt(pi) x**2) (1 - 3/(2 x**2) + 15/(4 x**4) ...)."""
    plain = 2.0 * (x * y) - _TWO_BY_ROOT_PI
    if dtype_of(x).kind == "c":
        return plain
    far = less(12.0, x)
    r = 0.5 / square(where(far, x, 12.0))
    series, term = 1.0, 1.0
    for k in range(1, 9):
        term = term * (-(2 * k + 1) * r)
        series = series + term
    return where(far, -_TWO_BY_ROOT_PI * r * series, plain)


erfi = unary("erfi", lambda g, xs, y: g * (_TWO_BY_ROOT_PI * exp(square(xs[0]))), keeps="0")
dawsn = unary("dawsn", lambda g, xs, y: g * (1.0 - 2.0 * (xs[0] * y)), keeps="0y")
erfinv = unary(
    "erfinv",
    lambda g, xs, y: g * (_HALF_ROOT_PI * exp(square(y))),
    keeps="y",
    domain=(-0.9, 0.9),
    where="|y| < 1",
    special=[
        Special("erfinv at 1: inf, the limit", (1.0,), (_INF,)),
        Special("erfinv at 0, its root", (0.0,), (_HALF_ROOT_PI,)),
    ],
)
erfcinv = unary(
    "erfcinv",
    lambda g, xs, y: g * (-_HALF_ROOT_PI * exp(square(y))),
    keeps="y",
    domain=(0.2, 1.8),
    where="0 < y < 2",
    special=[Special("erfcinv at 0: -inf, the limit", (0.0,), (-_INF,))],
)
ndtr = unary("ndtr", lambda g, xs, y: g * (exp(-0.5 * square(xs[0])) / _ROOT_TWO_PI), keeps="0")
ndtri = unary(
    "ndtri",
    lambda g, xs, y: g * (_ROOT_TWO_PI * exp(0.5 * square(y))),
    keeps="y",
    domain=(0.1, 0.9),
    where="0 < y < 1",
    special=[Special("ndtri at 0: inf, the limit", (0.0,), (_INF,))],
)


def _log_ndtr_slope(x, y):
    """Density / ndtr; on the left both vanish, and the quotient is sqrt(2/pi) / erfcx(-x / sqrt(2))."""
    if dtype_of(x).kind == "c":
        return exp(-0.5 * square(x) - y) / _ROOT_TWO_PI
    left = less(x, 0.0)
    mills = (2.0 / _ROOT_TWO_PI) / erfcx(-_ROOT_HALF * where(left, x, 0.0))
    right = exp(-0.5 * square(where(left, 0.0, x)) - where(left, 0.0, y)) / _ROOT_TWO_PI
    return where(left, mills, right)


log_ndtr = unary(
    "log_ndtr",
    lambda g, xs, y: g * _log_ndtr_slope(xs[0], y),
    keeps="0y",
    special=[Special("log_ndtr far on the left: -x", (-1e9,), (1e9,))],
)


@dispatches("wofz")
def wofz(z):
    """SciPy's ``wofz``, the function of Faddeeva: ``erfcx(-i z)``, complex for real z too."""
    z = floating(z)
    below = imag(z) if dtype_of(z).kind == "c" else 0.0
    # the limit is 0, but the product of infinity and i has NaN in it
    end = logical_and(logical_and(isinf(z), logical_not(isnan(z))), greater(below, -_INF))
    return where(end, 0.0, erfcx(-1j * where(end, 0.0, z)))


owens_t = primitive(
    "owens_t",
    (
        lambda g, xs, y: (
            g
            * (
                -0.5
                / _ROOT_TWO_PI
                * (exp(-0.5 * square(xs[0])) * erf(_ROOT_HALF * (xs[0] * xs[1])))
            )
        ),
        lambda g, xs, y: (
            g
            * (
                exp(-0.5 * square(xs[0]) * (1.0 + square(xs[1])))
                / (2.0 * math.pi * (1.0 + square(xs[1])))
            )
        ),
    ),
    keeps=("01", "01"),
    samples=lambda d: [
        sample(d.normal(3, 1), d.normal(4)),
        sample(0.7, d.normal(2)),
    ],
)
