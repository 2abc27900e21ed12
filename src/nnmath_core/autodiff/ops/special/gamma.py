"""Gamma function and its relatives: logarithm, reciprocal, digamma, polygamma, beta, binomials, Hurwitz zeta."""

from __future__ import annotations

import math

import numpy as np
import scipy.special

from nnmath_core.autodiff.ops.compare import greater, greater_equal, less, less_equal, logical_and
from nnmath_core.autodiff.ops.conventions import as_operand, is_traced, refuse, ufuncs
from nnmath_core.autodiff.ops.elementwise import cos, sin
from nnmath_core.autodiff.ops.plain import scipys
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.special.declare import (
    fixed,
    floating,
    like,
    primitive,
    require_real,
    unary,
)
from nnmath_core.autodiff.primitive import Primitive, Special, sample
from nnmath_core.errors import TraceError

__all__ = [
    "beta",
    "betaln",
    "binom",
    "comb",
    "digamma",
    "factorial",
    "gamma",
    "gammaln",
    "gammasgn",
    "loggamma",
    "multigammaln",
    "perm",
    "poch",
    "polygamma",
    "psi",
    "rgamma",
    "zeta",
]

_EULER = 0.57721566490153286061  # OEIS A001620
_POLES = "x is not 0, -1, -2, ..."

# ---------------------------------------------------------------------------------------------- one operand
gammaln = unary(
    "gammaln",
    lambda g, xs, y: g * digamma(xs[0]),
    keeps="0",
    domain="positive",
    where=_POLES,
    special=[
        Special("gammaln at 1: minus Euler's constant", (1.0,), (-_EULER,)),
        Special("gammaln at 2, its other zero", (2.0,), (1.0 - _EULER,)),
        Special("gammaln between poles: the logarithm of |gamma|", (-0.5,), (0.03648997397857652,)),
    ],
)
loggamma = unary(
    "loggamma",
    lambda g, xs, y: g * digamma(xs[0]),
    keeps="0",
    domain="positive",
    where="x > 0; complex: off the negative axis",
)
gamma = unary(
    "gamma", lambda g, xs, y: g * (y * digamma(xs[0])), keeps="0y", domain=(0.4, 2.9), where=_POLES
)


def _rgamma_factor(g, xs, y):
    """By reflection on the left: there the digamma function has poles where 1/gamma has roots."""
    x = xs[0]
    left = less(x.real if x.dtype.kind == "c" else x, 0.5) if hasattr(x, "dtype") else x < 0.5
    r = where(left, x, 0.25)
    w, turn = 1.0 - r, math.pi * r
    reflected = gamma(w) * (cos(turn) - sin(turn) * digamma(w) / math.pi)
    return g * where(left, reflected, -(y * digamma(where(left, 1.0, x))))


rgamma = unary(
    "rgamma",
    _rgamma_factor,
    keeps="0y",
    domain=(0.15, 1.7),
    special=[
        Special("1/gamma at its root 0: 1", (0.0,), (1.0,)),
        Special("1/gamma at its root -3: -3!", (-3.0,), (-6.0,)),
    ],
)
digamma = unary(
    "digamma",
    lambda g, xs, y: g * polygamma_p(1, xs[0]),
    keeps="0",
    domain=(0.4, 2.9),
    where=_POLES,
)
psi = digamma
gammasgn = Primitive(
    "gammasgn",
    forward="special.gammasgn",
    elementwise=True,
    differentiable=False,
    samples=lambda d: [sample(d.apart(3, 4)), sample(d.apart(1))],
)
ufuncs[scipy.special.gammasgn] = gammasgn


def _polygamma_forward(be, n, x):
    """(-1)**(n + 1) n! zeta(n + 1, x), digamma for n = 0."""
    xp, special = be.xp, be.special
    if isinstance(n, (int, float)):
        if n == 0:
            return special.digamma(x)
        require_real("polygamma", x)
        scale = (-1.0) ** (int(n) + 1) * (math.gamma(n + 1.0) if n < 171 else math.inf)
        return scale * special.zeta(n + 1.0, x)
    scale = (-1.0) ** (n + 1) * special.gamma(n + 1.0)
    return like(be, xp.where(n == 0, special.digamma(x), scale * special.zeta(n + 1.0, x)), x)


polygamma_p = primitive(
    "polygamma",
    (fixed("polygamma", "its order"), lambda g, xs, y: g * polygamma_p(xs[0] + 1, xs[1])),
    forward=_polygamma_forward,
    keeps=("", "01"),
    samples=lambda d: [
        sample(1, d.within(0.5, 3.0, 3, 4)),
        sample(2, d.within(0.5, 3.0)),
        sample(np.array([[0], [3]]), d.within(0.7, 3.0, 4)),
        sample(1, d.positive(0)),
    ],
    where=_POLES,
)


def polygamma(n, x):
    """SciPy's ``polygamma``: derivative n of `digamma`; differentiable in x."""
    return polygamma_p(_order(n), floating(x))


def _order(n):
    return n if isinstance(n, int) or is_traced(n) else as_operand(n)


# ---------------------------------------------------------------------------------------------- two operands
def _pairs(low, high):
    return lambda d: [
        sample(d.within(low, high, 3, 1), d.within(low, high, 4)),
        sample(1.5, d.within(low, high, 2)),
    ]


def _beta_factor(i, logarithm):
    def rule(g, xs, y):
        slope = digamma(xs[i]) - digamma(xs[0] + xs[1])
        return g * slope if logarithm else g * (y * slope)

    return rule


beta = primitive(
    "beta",
    (_beta_factor(0, False), _beta_factor(1, False)),
    keeps=("01y", "01y"),
    samples=_pairs(0.4, 2.9),
    where="a, b and a + b are no poles of gamma",
)
betaln = primitive(
    "betaln",
    (_beta_factor(0, True), _beta_factor(1, True)),
    keeps=("01", "01"),
    samples=_pairs(0.4, 2.9),
    where="a, b and a + b are no poles of gamma",
)
binom = primitive(
    "binom",
    (
        lambda g, xs, y: g * (y * (digamma(xs[0] + 1.0) - digamma(xs[0] - xs[1] + 1.0))),
        lambda g, xs, y: g * (y * (digamma(xs[0] - xs[1] + 1.0) - digamma(xs[1] + 1.0))),
    ),
    keeps=("01y", "01y"),
    samples=lambda d: [
        sample(d.within(3.2, 5.0, 3, 1), d.within(0.2, 2.8, 4)),
        sample(4.5, d.within(0.2, 2.8, 2)),
    ],
    where="x + 1, y + 1 and x - y + 1 are no poles of gamma",
)
poch = primitive(
    "poch",
    (
        lambda g, xs, y: g * (y * (digamma(xs[0] + xs[1]) - digamma(xs[0]))),
        lambda g, xs, y: g * (y * digamma(xs[0] + xs[1])),
    ),
    keeps=("01y", "01y"),
    samples=_pairs(0.6, 2.2),
    where="z and z + m are no poles of gamma",
)
zeta_p = primitive(
    "zeta",
    (fixed("zeta", "x, its exponent"), lambda g, xs, y: g * -(xs[0] * zeta_p(xs[0] + 1.0, xs[1]))),
    forward=lambda be, x, q: be.special.zeta(x, q),
    keeps=("", "01"),
    samples=lambda d: [
        sample(2.5, d.within(0.6, 3.0, 3, 4)),
        sample(3, d.within(0.6, 3.0)),
        sample(1.5, d.positive(0)),
    ],
    where="x > 1, q > 0",
)


# ---------------------------------------------------------------------------------------------- several primitives
@scipys("scipy.special")
def zeta(x, q=None, out=None):
    """SciPy's ``zeta``: Hurwitz's zeta function, differentiable in q."""
    refuse("zeta", out=(out, None))
    if q is None:
        if is_traced(x):
            raise TraceError(
                "zeta: no derivative is known in x, its exponent. Hold it fixed: a plain number, or nm.value_of."
            )
        q = 1.0
    return zeta_p(floating(x), floating(q))


@scipys("scipy.special")
def multigammaln(a, d):
    """SciPy's ``multigammaln``: the logarithm of the multivariate gamma function; NaN unless a > (d - 1) / 2."""
    if int(d) != d:
        raise ValueError("d should be a positive integer (dimension)")
    d, a = int(d), floating(a)
    good = greater(a, 0.5 * (d - 1))
    a = where(good, a, float(d))
    steps = [gammaln(a - 0.5 * j) for j in range(d)]
    return where(good, sum(steps[1:], steps[0]) + d * (d - 1) / 4 * math.log(math.pi), math.nan)


def _choices(N, k):
    return logical_and(logical_and(less_equal(k, N), greater_equal(N, 0)), greater_equal(k, 0))


@scipys("scipy.special")
def comb(N, k, *, exact=False, repetition=False):
    """SciPy's ``comb``: `binom`, and 0 where nothing can be chosen."""
    refuse("comb", exact=(exact, False))
    N, k = floating(N), floating(k)
    if repetition:
        return comb(N + k - 1.0, k)
    good = _choices(N, k)
    return where(good, binom(where(good, N, 1.0), where(good, k, 0.5)), 0.0)


@scipys("scipy.special")
def perm(N, k, exact=False):
    """SciPy's ``perm``: the number of ordered choices of k out of N."""
    refuse("perm", exact=(exact, False))
    N, k = floating(N), floating(k)
    good = _choices(N, k)
    n, m = where(good, N, 1.0), where(good, k, 0.5)
    return where(good, poch(n - m + 1.0, m), 0.0)


@scipys("scipy.special")
def factorial(n, exact=False, extend="zero"):
    """SciPy's ``factorial``: gamma(n + 1), and 0 for n < 0."""
    refuse("factorial", exact=(exact, False), extend=(extend, "zero"))
    n = floating(n)
    below = less(n, 0)
    return where(below, 0.0, gamma(where(below, 1.0, n) + 1.0))
