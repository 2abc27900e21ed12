"""Exponential, sine, cosine and Fresnel integrals, dilogarithm, elliptic integrals and functions, Lambert's W."""

from __future__ import annotations

import math

import numpy as np
import scipy.special

from nnmath_core.autodiff.ops.compare import equal, less
from nnmath_core.autodiff.ops.conventions import dtype_of
from nnmath_core.autodiff.ops.elementwise import (
    absolute,
    cos,
    cosh,
    exp,
    log1p,
    sin,
    sinh,
    sqrt,
    square,
)
from nnmath_core.autodiff.ops.plain import scipys
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import cast
from nnmath_core.autodiff.ops.special.declare import (
    dispatches,
    fixed,
    floating,
    horner,
    like,
    near_zero,
    primitive,
    require_integral,
    typed,
    unary,
)
from nnmath_core.autodiff.primitive import Special, sample

__all__ = [
    "ellipe",
    "ellipeinc",
    "ellipj",
    "ellipk",
    "ellipkinc",
    "ellipkm1",
    "exp1",
    "expi",
    "expn",
    "fresnel",
    "lambertw",
    "shichi",
    "sici",
    "spence",
    "wrightomega",
]

_INF = math.inf

exp1 = unary(
    "exp1",
    lambda g, xs, y: g * -(exp(-xs[0]) / xs[0]),
    keeps="0",
    domain="positive",
    where="x > 0",
    special=[Special("exp1 at 0: -inf, the limit", (0.0,), (-_INF,))],
)
expi = unary(
    "expi",
    lambda g, xs, y: g * (exp(xs[0]) / xs[0]),
    keeps="0",
    domain="apart",
    where="x is not 0",
)


def _expn_slope(n, x):
    """-E_(n-1), and the derivative of E_0 = exp(-x) / x for n = 0."""
    require_integral("expn", n, "n")
    first = -(exp(-x) / x) * (1.0 + 1.0 / x)
    if isinstance(n, (int, float)):
        return first if n == 0 else -expn_p(n - 1, x)
    zero = equal(n, 0)
    return where(zero, first, -expn_p(where(zero, 1, n) - 1, x))


expn_p = primitive(
    "expn",
    (fixed("expn", "its order"), lambda g, xs, y: g * _expn_slope(*xs)),
    forward=lambda be, n, x: like(be, be.special.expn(n, x), x),
    keeps=("", "01"),
    samples=lambda d: [
        sample(3, d.positive(3, 4)),
        sample(np.array([[0], [3]]), d.positive(4)),
        sample(2, d.positive()),
    ],
    where="x > 0",
)


@dispatches("expn")
def expn(n, x):
    """SciPy's ``expn``: the exponential integral of order n, differentiable in x."""
    return expn_p(n, x)


# ---------------------------------------------------------------------------------------------- several outputs
def _output(name, slopes, *, draw, where="everywhere", special=()):
    """Output k, a Python integer, of SciPy's ufunc of that name."""
    return primitive(
        name,
        (fixed(name, "the number of its output"), lambda g, xs, y: g * slopes[xs[0]](xs[1])),
        forward=lambda be, k, x: getattr(be.special, name)(x)[k],
        keeps=("", "01"),
        samples=lambda d: [
            sample(0, getattr(d, draw)(3, 4)),
            sample(1, getattr(d, draw)(4)),
            sample(1, getattr(d, draw)()),
            sample(0, getattr(d, draw)(0)),
        ],
        where=where,
        special=special,
        table=False,
    )


def _quotient(f, sign_of_terms):
    """f(x) / x of f = sin or sinh."""
    series = [0.0] * 33
    series[::2] = [sign_of_terms**k / math.factorial(2 * k + 1) for k in range(17)]
    return lambda x: near_zero(x, 2.0, series, lambda x: f(x) / x)


sici_p = _output(
    "sici",
    (_quotient(sin, -1.0), lambda x: cos(x) / x),
    draw="positive",
    where="x is not 0; everywhere for Si",
    special=[Special("sine integral at 0: 1, the limit", (0, 0.0), (None, 1.0))],
)
shichi_p = _output(
    "shichi",
    (_quotient(sinh, 1.0), lambda x: cosh(x) / x),
    draw="positive",
    where="x is not 0; everywhere for Shi",
    special=[Special("hyperbolic sine integral at 0: 1, the limit", (0, 0.0), (None, 1.0))],
)
fresnel_p = _output(
    "fresnel",
    (
        lambda x: sin(0.5 * math.pi * square(x)),
        lambda x: cos(0.5 * math.pi * square(x)),
    ),
    draw="normal",
)


@dispatches("sici")
def sici(x):
    """SciPy's ``sici``: sine and cosine integral, (Si, Ci)."""
    return sici_p(0, x), sici_p(1, x)


@dispatches("shichi")
def shichi(x):
    """SciPy's ``shichi``: hyperbolic sine and cosine integral, (Shi, Chi)."""
    return shichi_p(0, x), shichi_p(1, x)


@dispatches("fresnel")
def fresnel(z):
    """SciPy's ``fresnel``: the integrals of sin and cos of pi t**2 / 2, (S, C)."""
    return fresnel_p(0, z), fresnel_p(1, z)


# ---------------------------------------------------------------------------------------------- dilogarithm
spence = unary(
    "spence",
    lambda g, xs, y: (
        g
        * near_zero(
            xs[0] - 1.0,
            0.25,
            [-((-1.0) ** k) / (k + 1) for k in range(28)],
            lambda u: -log1p(u) / u,
        )
    ),
    keeps="0",
    domain="positive",
    where="z > 0",
    special=[
        Special("spence at 1, its root: -1, the limit", (1.0,), (-1.0,)),
        Special("spence at 0: -inf, the limit", (0.0,), (-_INF,)),
    ],
)


# ---------------------------------------------------------------------------------------------- elliptic
_SQUARES = [(math.comb(2 * k, k) / 4.0**k) ** 2 for k in range(28)]
_K_SLOPE = [0.5 * math.pi * (k + 1) * _SQUARES[k + 1] for k in range(27)]
_E_SLOPE = [-0.5 * math.pi * (k + 1) * _SQUARES[k + 1] / (2 * k + 1) for k in range(27)]


def _k_slope(m):
    def far(m):
        return (ellipe(m) / (1.0 - m) - ellipk(m)) / (2.0 * m)

    return near_zero(m, 0.25, _K_SLOPE, far)


ellipk = unary(
    "ellipk",
    lambda g, xs, y: g * _k_slope(xs[0]),
    keeps="0",
    domain=(-1.5, 0.9),
    where="m < 1",
    special=[Special("ellipk at 0: pi/8, the limit", (0.0,), (math.pi / 8,))],
)


def _ellipe_forward(be, m):
    """SciPy's; elsewhere by the means of Gauss, whose differences c_n give E = K (1 - sum of 2**(n-1) c_n**2)."""
    xp = be.xp
    if xp is np:
        return scipy.special.ellipe(m)
    one = xp.ones_like(m)
    inside = xp.asarray(m < 1)
    a, b = one, xp.sqrt(xp.where(inside, 1.0 - m, one))
    share, weight = 1.0 - 0.5 * m, 1.0
    for _ in range(9):
        c, a, b = 0.5 * (a - b), 0.5 * (a + b), xp.sqrt(a * b)
        share, weight = share - weight * c * c, 2.0 * weight
    return xp.where(
        inside, 0.5 * math.pi / a * share, xp.where(xp.asarray(m == 1), one, one * math.nan)
    )


ellipe = unary(
    "ellipe",
    lambda g, xs, y: (
        g * near_zero(xs[0], 0.25, _E_SLOPE, lambda m: (ellipe(m) - ellipk(m)) / (2.0 * m))
    ),
    forward=_ellipe_forward,
    keeps="0",
    domain=(-1.5, 0.9),
    where="m < 1",
    special=[Special("ellipe at 0: -pi/8, the limit", (0.0,), (-math.pi / 8,))],
)
ellipkm1 = unary(
    "ellipkm1",
    lambda g, xs, y: g * -_km1_slope(xs[0]),
    keeps="0",
    domain=(0.1, 2.5),
    where="p > 0",
    special=[Special("ellipkm1 at 1: -pi/8, the limit", (1.0,), (-math.pi / 8,))],
)


def _km1_slope(p):
    """K'(m) of m = 1 - p, which for small p is not formed from 1 - m."""
    m = 1.0 - p
    small = less(absolute(m), 0.25)
    q = where(small, 0.5, p)
    far = (ellipe(1.0 - q) / q - ellipkm1(q)) / (2.0 * (1.0 - q))
    return where(small, horner(where(small, m, 0.0), _K_SLOPE), far)


def _delta(phi, m):
    return sqrt(1.0 - m * square(sin(phi)))


def _incomplete(name, rule):
    return primitive(
        name,
        (rule, fixed(name, "its parameter m")),
        keeps=("01", ""),
        samples=lambda d: [
            sample(d.within(-1.2, 1.2, 3, 4), 0.4),
            sample(d.within(-1.2, 1.2, 2), -1.0),
            sample(d.within(-1.2, 1.2), 0),
        ],
        where="m < 1; m = 1 where |phi| < pi / 2",
    )


ellipkinc = _incomplete("ellipkinc", lambda g, xs, y: g / _delta(*xs))
ellipeinc = _incomplete("ellipeinc", lambda g, xs, y: g * _delta(*xs))
ellipj_p = primitive(
    "ellipj",
    (
        fixed("ellipj", "the number of its output"),
        lambda g, xs, y: g * _ellipj_slope(*xs),
        fixed("ellipj", "its parameter m"),
    ),
    forward=lambda be, k, u, m: typed("ellipj", be, u, m)[k],
    keeps=("", "012", ""),
    samples=lambda d: [
        sample(0, d.normal(3, 4), 0.4),
        sample(1, d.normal(4), 0.7),
        sample(2, d.normal(), 0.3),
        sample(3, d.normal(2), 0.5),
    ],
    where="0 <= m <= 1",
    table=False,
)
"""Output k of SciPy's ``ellipj``: sn, cn, dn and the amplitude."""


def _ellipj_slope(k, u, m):
    sn, cn, dn = (lambda j=j: ellipj_p(j, u, m) for j in range(3))
    return (
        cn() * dn()
        if k == 0
        else -(sn() * dn())
        if k == 1
        else -m * (sn() * cn())
        if k == 2
        else dn()
    )


@dispatches("ellipj")
def ellipj(u, m):
    """SciPy's ``ellipj``: Jacobi's elliptic functions (sn, cn, dn, ph), differentiable in u."""
    return tuple(ellipj_p(k, u, m) for k in range(4))


# ---------------------------------------------------------------------------------------------- Lambert's W
def _lambertw_forward(be, z, k):
    """Real for real z, where W is: NaN elsewhere. SciPy's result is complex in double precision."""
    w = like(be, be.special.lambertw(z, k), z)
    return (
        w
        if z.dtype.kind == "c"
        else be.xp.where(be.xp.asarray(w.imag == 0), w.real, w.real * math.nan)
    )


lambertw_p = primitive(
    "lambertw",
    (lambda g, xs, y: g * (exp(-y) / (1.0 + y)), fixed("lambertw", "the branch k")),
    forward=_lambertw_forward,
    keeps=("y", ""),
    samples=lambda d: [
        sample(d.positive(3, 4), 0),
        sample(d.positive(), 0),
    ],
    where="z > -1 / e; complex: z is not -1 / e",
    special=[Special("lambertw at 0: 1", (0.0, 0), (1.0, None))],
    table=False,
)


@scipys("scipy.special")
def lambertw(z, k=0, tol=1e-8):
    """SciPy's ``lambertw``: a complex array for real z too; take ``.real`` for real z >= -1/e and k = 0."""
    z = floating(z)
    return lambertw_p(cast(z, np.result_type(dtype_of(z), np.complex64)), k)


wrightomega = unary("wrightomega", lambda g, xs, y: g * (y / (1.0 + y)), keeps="y")
