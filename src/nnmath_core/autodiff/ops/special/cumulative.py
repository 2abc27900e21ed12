"""Distribution functions under their names in SciPy: incomplete gamma and beta functions with other arguments.

Student's is a primitive: its argument of the incomplete beta function has a double root at t = 0, where the chain
rule would multiply 0 with infinity.
"""

from __future__ import annotations

import numpy as np
import scipy.special

from nnmath_core.autodiff.ops.compare import (
    equal,
    greater,
    greater_equal,
    isfinite,
    less,
    less_equal,
    logical_and,
)
from nnmath_core.autodiff.ops.elementwise import (
    absolute,
    exp,
    floor,
    log1p,
    sign,
    sqrt,
    square,
    trunc,
)
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.special.declare import (
    dispatches,
    floating,
    like,
    primitive,
    require_real,
    typed,
)
from nnmath_core.autodiff.ops.special.gamma import beta
from nnmath_core.autodiff.ops.special.incomplete import (
    betainc,
    betainc_dab,
    betaincc,
    betaincinv,
    gammainc,
    gammaincc,
    gammainccinv,
)
from nnmath_core.autodiff.primitive import Special, sample
from nnmath_core.device import entering

__all__ = [
    "bdtr",
    "bdtrc",
    "chdtr",
    "chdtrc",
    "chdtri",
    "fdtr",
    "fdtrc",
    "fdtri",
    "gdtr",
    "gdtrc",
    "nbdtr",
    "nbdtrc",
    "pdtr",
    "pdtrc",
    "stdtr",
    "stdtrit",
]


# ---------------------------------------------------------------------------------------------- gamma
@dispatches("gdtr")
@entering
def gdtr(a, b, x):
    """SciPy's ``gdtr``: distribution function of the gamma distribution of rate a and shape b."""
    return gammainc(floating(b), floating(a) * x)


@dispatches("gdtrc")
@entering
def gdtrc(a, b, x):
    """SciPy's ``gdtrc``: 1 - `gdtr`, without the difference."""
    return gammaincc(floating(b), floating(a) * x)


@dispatches("chdtr")
@entering
def chdtr(v, x):
    """SciPy's ``chdtr``: distribution function of chi square."""
    return gammainc(0.5 * floating(v), 0.5 * floating(x))


@dispatches("chdtrc")
@entering
def chdtrc(v, x):
    """SciPy's ``chdtrc``: 1 - `chdtr`, without the difference."""
    return gammaincc(0.5 * floating(v), 0.5 * floating(x))


@dispatches("chdtri")
@entering
def chdtri(v, p):
    """SciPy's ``chdtri``: the inverse of `chdtrc` in x."""
    return 2.0 * gammainccinv(0.5 * floating(v), floating(p))


@dispatches("pdtr")
@entering
def pdtr(k, m):
    """SciPy's ``pdtr``: distribution function of Poisson, differentiable in the mean m."""
    k = floating(k)
    good = greater_equal(k, 0)
    return where(good, gammaincc(floor(where(good, k, 0.0)) + 1.0, m), where(less(k, 0), 0.0, k))


@dispatches("pdtrc")
@entering
def pdtrc(k, m):
    """SciPy's ``pdtrc``: 1 - `pdtr`, without the difference."""
    k = floating(k)
    good = greater_equal(k, 0)
    return where(good, gammainc(floor(where(good, k, 0.0)) + 1.0, m), where(less(k, 0), 1.0, k))


# ---------------------------------------------------------------------------------------------- beta
def _binomial(f, at_end, below, k, n, p):
    k, n = floor(floating(k)), trunc(floating(n))  # SciPy counts
    inner = logical_and(greater_equal(k, 0), less(k, n))
    y = f(where(inner, k, 0.0) + 1.0, where(inner, n - k, 1.0), p)
    end = where(equal(k, n), at_end, np.nan)  # NaN beyond n, as SciPy
    outside = where(less(k, 0), below, end)
    possible = logical_and(greater_equal(p, 0), less_equal(p, 1))
    return where(inner, y, where(possible, outside, np.nan))


@dispatches("bdtr")
@entering
def bdtr(k, n, p):
    """SciPy's ``bdtr``: distribution function of the binomial distribution, differentiable in p."""
    return _binomial(betaincc, 1.0, np.nan, k, n, p)


@dispatches("bdtrc")
@entering
def bdtrc(k, n, p):
    """SciPy's ``bdtrc``: 1 - `bdtr`, without the difference."""
    return _binomial(betainc, 0.0, 1.0, k, n, p)


def _negative_binomial(f, k, n, p):
    k, n = trunc(floating(k)), trunc(floating(n))
    inner = logical_and(greater_equal(k, 0), greater_equal(n, 1))
    return where(inner, f(where(inner, n, 1.0), where(inner, k, 0.0) + 1.0, p), np.nan)


@dispatches("nbdtr")
@entering
def nbdtr(k, n, p):
    """SciPy's ``nbdtr``: distribution function of the negative binomial distribution, differentiable in p."""
    return _negative_binomial(betainc, k, n, p)


@dispatches("nbdtrc")
@entering
def nbdtrc(k, n, p):
    """SciPy's ``nbdtrc``: 1 - `nbdtr`, without the difference."""
    return _negative_binomial(betaincc, k, n, p)


def _fisher(upper, dfn, dfd, x):
    """F's distribution function or, by the other end, 1 minus it; all of the law lies below infinity."""
    dfn, dfd, x = (floating(v) for v in (dfn, dfd, x))
    inside = logical_and(logical_and(greater(dfn, 0), greater(dfd, 0)), greater_equal(x, 0))
    end = logical_and(inside, equal(x, np.inf))
    a, b, w = (where(end, 1.0, v) for v in (dfn, dfd, x))
    w = a * w
    y = betainc(0.5 * b, 0.5 * a, b / (b + w)) if upper else betainc(0.5 * a, 0.5 * b, w / (b + w))
    known = logical_and(inside, logical_and(isfinite(dfn), isfinite(dfd)))
    y = where(known, y, np.nan * (dfn + dfd + x))
    return where(end, 0.0 if upper else 1.0, y)


@dispatches("fdtr")
@entering
def fdtr(dfn, dfd, x):
    """SciPy's ``fdtr``: distribution function of Fisher's F."""
    return _fisher(False, dfn, dfd, x)


@dispatches("fdtrc")
@entering
def fdtrc(dfn, dfd, x):
    """SciPy's ``fdtrc``: 1 - `fdtr`, without the difference."""
    return _fisher(True, dfn, dfd, x)


@dispatches("fdtri")
@entering
def fdtri(dfn, dfd, p):
    """SciPy's ``fdtri``: the inverse of `fdtr` in x."""
    w = betaincinv(0.5 * floating(dfn), 0.5 * floating(dfd), floating(p))
    return dfd * w / (dfn * (1.0 - w))


# ---------------------------------------------------------------------------------------------- Student
_DF, _P = np.linspace(0.7, 6.0, 12), np.linspace(0.9, 0.1, 12)
SCIPY_IS_EXACT = (
    np.max(np.abs(scipy.special.stdtr(_DF, scipy.special.stdtrit(_DF, _P)) - _P)) < 1e-14
)
"""Whether SciPy's ``stdtrit`` has all digits; it solved to 1e-11 for long."""


def t_density(df, t):
    """Density of Student's t distribution."""
    return exp(-0.5 * (df + 1.0) * log1p(square(t) / df)) / (sqrt(df) * beta(0.5 * df, 0.5))


def _t_slope_df(df, t):
    """In df, from F(t) = I_x(df/2, 1/2)/2 for t <= 0, x = df/(df + t**2); I_a from the side that does not round."""
    a, s = 0.5 * df, square(t)
    n = df + s
    tail = less(df, s)
    far = betainc_dab(1, 0, a, 0.5, where(tail, df / n, 0.5))
    near = betainc_dab(0, 1, 0.5, a, where(tail, 0.5, s / n))
    inner = where(tail, far, -near)
    x_part = exp((a - 1.0) * -log1p(s / df)) * absolute(t) / (n * sqrt(n) * beta(a, 0.5))
    return -sign(t) * (0.25 * inner + 0.5 * x_part)


def _stdtr_forward(be, df, t):
    """SciPy's; elsewhere by the incomplete beta function, in float64: half of it in the tail, or beside one half."""
    if be.xp is np:
        return typed("stdtr", be, df, t)
    xp, special = be.xp, be.special
    require_real("stdtr", df, t)
    n, s = xp.broadcast_arrays(*(xp.asarray(v, dtype=np.float64) for v in (df, t)))
    square, half = s * s, xp.full_like(s, 0.5)
    tail = square > 4.0  # before, the difference from one half keeps its digits
    far = 0.5 * special.betainc(0.5 * n, half, n / (n + square))
    near = special.betainc(half, 0.5 * n, square / (n + square))
    right = xp.where(tail, 1.0 - far, 0.5 + 0.5 * near)
    return like(be, xp.where(s > 0, right, xp.where(tail, far, 0.5 - 0.5 * near)), df, t)


def _improved(df, p, t):
    """One step of Newton's method, where the density has not vanished."""
    with np.errstate(all="ignore"):
        density = (1.0 + t * t / df) ** (-0.5 * (df + 1.0)) / (
            np.sqrt(df) * scipy.special.beta(0.5 * df, 0.5)
        )
        step = (scipy.special.stdtr(df, t) - p) / density
        return np.where(np.isfinite(step) & (abs(step) < 1e-6 * abs(t)), t - step, t)[()]


def _stdtrit_forward(be, df, p):
    """SciPy's; elsewhere from the inverse of the incomplete beta function."""
    if be.xp is np:
        t = typed("stdtrit", be, df, p)
        return t if SCIPY_IS_EXACT or t.dtype != np.float64 else _improved(df, p, t)
    xp, special = be.xp, be.special
    require_real("stdtrit", df, p)
    n, q = xp.broadcast_arrays(*(xp.asarray(v, dtype=np.float64) for v in (df, p)))
    half, away = xp.full_like(q, 0.5), xp.abs(q - 0.5)
    tail = away > 0.25
    x = special.betaincinv(0.5 * n, half, xp.where(tail, 1.0 - 2.0 * away, half))
    w = special.betaincinv(half, 0.5 * n, xp.where(tail, half, 2.0 * away))
    size = xp.sqrt(n * xp.where(tail, (1.0 - x) / x, w / (1.0 - w)))
    return like(be, xp.where(q < 0.5, -size, size), df, p)


stdtr = primitive(
    "stdtr",
    (lambda g, xs, y: g * _t_slope_df(*xs), lambda g, xs, y: g * t_density(*xs)),
    forward=_stdtr_forward,
    keeps=("01", "01"),
    samples=lambda d: [
        sample(d.within(0.7, 4.0, 3, 1), d.apart(4)),
        sample(3.5, d.apart(3)),
    ],
    where="df > 0",
    special=[
        Special("stdtr at t = 0: the density, and 0 in df", (1.0, 0.0), (0.0, 0.3183098861837907))
    ],
)
stdtrit = primitive(
    "stdtrit",
    (
        lambda g, xs, y: -(g * (_t_slope_df(xs[0], y) / t_density(xs[0], y))),
        lambda g, xs, y: g / t_density(xs[0], y),
    ),
    forward=_stdtrit_forward,
    keeps=("0y", "0y"),
    samples=lambda d: [
        sample(d.within(1.2, 4.0, 3, 1), d.within(0.55, 0.9, 4)),
        sample(3.5, d.within(0.1, 0.4, 3)),
    ],
    where="df > 0, 0 < p < 1",
)
