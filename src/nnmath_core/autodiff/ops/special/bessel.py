"""Bessel, Airy and spherical Bessel functions: differentiable in the argument, the order held fixed.

The functions of order 0 and 1 are closed under differentiation, up to the quotient of order 1 by its argument, which
near 0 is a power series; the others go by the recurrences that change the order by one and divide by nothing.
"""

from __future__ import annotations

import math

import numpy as np

from nnmath_core.autodiff.ops.compare import equal, isinf, isnan, less, logical_and
from nnmath_core.autodiff.ops.conventions import as_operand, dtype_of, is_traced
from nnmath_core.autodiff.ops.elementwise import absolute, exp, sign, trunc
from nnmath_core.autodiff.ops.plain import scipys
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.special.declare import (
    dispatches,
    fixed,
    floating,
    like,
    lowered,
    near_zero,
    primitive,
    require_integral,
    typed,
    unary,
    weak,
)
from nnmath_core.autodiff.primitive import Special, sample
from nnmath_core.errors import DtypeError

__all__ = [
    "airy",
    "i0",
    "i0e",
    "i1",
    "i1e",
    "iv",
    "ive",
    "j0",
    "j1",
    "jn",
    "jv",
    "k0",
    "k0e",
    "k1",
    "k1e",
    "kn",
    "kv",
    "kve",
    "spherical_in",
    "spherical_jn",
    "spherical_kn",
    "spherical_yn",
    "y0",
    "y1",
    "yn",
    "yv",
]

_INF = math.inf


def _over_x(f, sign_of_terms):
    """f(x) / x of f = j1 or i1: the sum of (-+x**2/4)**k / (2 k! (k + 1)!)."""
    series = [0.5 / (math.factorial(k) * math.factorial(k + 1)) for k in range(18)]

    def quotient(x):
        even = [c * (sign_of_terms * 0.25) ** k for k, c in enumerate(series)]
        spread = [v for c in even for v in (c, 0.0)][:-1]
        return near_zero(x, 2.0, spread, lambda x: f(x) / x)

    return quotient


j0 = unary("j0", lambda g, xs, y: g * -j1(xs[0]), keeps="0")
j1 = unary(
    "j1",
    lambda g, xs, y: g * (j0(xs[0]) - _j1_over_x(xs[0])),
    keeps="0",
    special=[Special("j1 at 0: 1/2, the limit of j1(x)/x", (0.0,), (0.5,))],
)
_j1_over_x = _over_x(j1, -1.0)
i0 = unary("i0", lambda g, xs, y: g * i1(xs[0]), keeps="0")
i1 = unary(
    "i1",
    lambda g, xs, y: g * (i0(xs[0]) - _i1_over_x(xs[0])),
    keeps="0",
    special=[Special("i1 at 0: 1/2, the limit of i1(x)/x", (0.0,), (0.5,))],
)
_i1_over_x = _over_x(i1, 1.0)
i0e = unary(
    "i0e",
    lambda g, xs, y: g * (i1e(xs[0]) - sign(xs[0]) * y),
    keeps="0y",
    domain="apart",
    where="x is not 0; 0 there",
    special=[Special("i0e at 0, the kink of exp(-|x|): 0", (0.0,), (0.0,))],
)


def _i1e_slope(x, y):
    """exp(-|x|) (i0 - i1/x) - sign(x) i1e; the scale of the quotient is that of i0e / i0."""
    small = less(absolute(x), 2.0)
    inner = where(small, x, 0.0)
    near = exp(-absolute(inner)) * _i1_over_x(inner)
    return i0e(x) - where(small, near, y / where(small, 2.0, x)) - sign(x) * y


i1e = unary(
    "i1e",
    lambda g, xs, y: g * _i1e_slope(xs[0], y),
    keeps="0y",
    domain="apart",
    special=[Special("i1e at 0: 1/2", (0.0,), (0.5,))],
)
y0 = unary(
    "y0",
    lambda g, xs, y: g * -y1(xs[0]),
    keeps="0",
    domain="positive",
    where="x > 0",
    special=[Special("y0 at 0: inf, the limit", (0.0,), (_INF,))],
)
y1 = unary(
    "y1", lambda g, xs, y: g * (y0(xs[0]) - y / xs[0]), keeps="0y", domain="positive", where="x > 0"
)
k0 = unary(
    "k0",
    lambda g, xs, y: g * -k1(xs[0]),
    keeps="0",
    domain="positive",
    where="x > 0",
    special=[Special("k0 at 0: -inf, the limit", (0.0,), (-_INF,))],
)
k1 = unary(
    "k1",
    lambda g, xs, y: g * -(k0(xs[0]) + y / xs[0]),
    keeps="0y",
    domain="positive",
    where="x > 0",
)
k0e = unary(
    "k0e", lambda g, xs, y: g * (y - k1e(xs[0])), keeps="0y", domain="positive", where="x > 0"
)
k1e = unary(
    "k1e",
    lambda g, xs, y: g * (y - k0e(xs[0]) - y / xs[0]),
    keeps="0y",
    domain="positive",
    where="x > 0",
)


# ---------------------------------------------------------------------------------------------- of any order
def _kinds(low=0.3, high=3.3):
    return lambda d: [
        sample(1.5, d.within(low, high, 5)),
        sample(np.array([[0], [3]]), d.within(low, high, 4)),
    ]


def _of_order(name, rule, where="z > 0 unless the order is an integer"):
    return primitive(
        name,
        (fixed(name, "its order"), rule),
        forward=lambda be, v, x: like(be, getattr(be.special, name)(v, x), x),
        keeps=("", "01y"),
        samples=_kinds(),
        where=where,
    )


jv = _of_order("jv", lambda g, xs, y: g * (0.5 * (jv(xs[0] - 1, xs[1]) - jv(xs[0] + 1, xs[1]))))
yv = _of_order(
    "yv", lambda g, xs, y: g * (0.5 * (yv(xs[0] - 1, xs[1]) - yv(xs[0] + 1, xs[1]))), "z > 0"
)
iv = _of_order("iv", lambda g, xs, y: g * (0.5 * (iv(xs[0] - 1, xs[1]) + iv(xs[0] + 1, xs[1]))))


def _scaled(x):
    """The derivative of log exp(-|x|); the factor exp(-|Re z|) of complex z has none as a function of z."""
    if dtype_of(x).kind == "c":
        raise DtypeError(
            "ive: it is not holomorphic, so there is no derivative in a complex operand. "
            "Write iv(v, z) * np.exp(-abs(z.real))."
        )
    return sign(x)


ive = _of_order(
    "ive",
    lambda g, xs, y: (
        g * (0.5 * (ive(xs[0] - 1, xs[1]) + ive(xs[0] + 1, xs[1])) - _scaled(xs[1]) * y)
    ),
    "z > 0 unless the order is an integer; 0 at z = 0",
)
kv = _of_order(
    "kv", lambda g, xs, y: g * (-0.5 * (kv(xs[0] - 1, xs[1]) + kv(xs[0] + 1, xs[1]))), "z > 0"
)
kve = _of_order(
    "kve",
    lambda g, xs, y: g * (y - 0.5 * (kve(xs[0] - 1, xs[1]) + kve(xs[0] + 1, xs[1]))),
    "z > 0",
)
jn = jv


def _order(n):
    return n if isinstance(n, (int, float)) or is_traced(n) else as_operand(n)


def _yn_forward(be, n, x):
    if isinstance(n, float) and n == int(n):
        n = int(n)
    if be.xp is np:
        return like(be, be.special.yn(n, x), x)
    # CUDA's yn is NaN at negative orders: Y_-n = (-1)^n Y_n
    y = be.special.yn(abs(n), x)
    turned = (n < 0) & (n % 2 == 1)
    if isinstance(turned, bool):
        return like(be, -y if turned else y, x)
    return like(be, be.xp.where(turned, -y, y), x)


def _yn_rule(g, xs, y):
    n, x = xs
    require_integral("yn", n, "n")
    return g * (0.5 * (yn(n - 1, x) - yn(n + 1, x)))


yn = primitive(
    "yn",
    (fixed("yn", "its order"), _yn_rule),
    forward=_yn_forward,
    keeps=("", "01"),
    samples=lambda d: [
        sample(2, d.positive(3, 4)),
        sample(0, d.positive()),
        sample(np.array([[1], [3]]), d.positive(4)),
    ],
    where="x > 0",
)


@dispatches("kn")
def kn(n, x):
    """SciPy's ``kn``: `kv` of integer order; the fraction of another one does not count."""
    if isinstance(n, int):
        return kv(n, x)
    n = trunc(floating(n))
    end = logical_and(isinf(n), equal(x, math.inf))  # all orders vanish at infinity
    return where(isnan(n), math.nan, kv(where(end, 0.0, n), x))


# ---------------------------------------------------------------------------------------------- spherical
def _spherical(name, rule, where="everywhere"):
    return primitive(
        name,
        (fixed(name, "its order"), rule),
        forward=lambda be, n, z: like(be, getattr(be.special, name)(n, z), z),
        keeps=("", "01"),
        samples=lambda d: [
            sample(2, d.positive(3, 4)),
            sample(0, d.positive()),
            sample(np.array([[0], [3]]), d.positive(4)),
        ],
        where=where,
        table=False,
    )


def _neighbours(name, f, below, above):
    """f_n' = (below n f_(n-1) + above (n + 1) f_(n+1)) / (2 n + 1), which divides by no z."""

    def rule(g, xs, y):
        n, z = xs
        require_integral(name, n, "n")
        m = weak(n, z)
        a, b = below * m / (2.0 * m + 1.0), above * (m + 1.0) / (2.0 * m + 1.0)
        return g * (a * f()(lowered(n), z) + b * f()(n + 1, z))

    return rule


spherical_jn_p = _spherical(
    "spherical_jn", _neighbours("spherical_jn", lambda: spherical_jn_p, 1.0, -1.0)
)
spherical_yn_p = _spherical(
    "spherical_yn", _neighbours("spherical_yn", lambda: spherical_yn_p, 1.0, -1.0), "z is not 0"
)
spherical_in_p = _spherical(
    "spherical_in", _neighbours("spherical_in", lambda: spherical_in_p, 1.0, 1.0)
)
spherical_kn_p = _spherical(
    "spherical_kn", _neighbours("spherical_kn", lambda: spherical_kn_p, -1.0, -1.0), "z is not 0"
)


def _public(name, made, what):
    def f(n, z, derivative=False):
        n, z = _order(n), floating(z)
        if not derivative:
            return made(n, z)
        return made.vjp[1](1.0, (n, z), None)

    f.__name__ = f.__qualname__ = name
    f.__doc__ = f"SciPy's ``{name}``: the {what} of integer order, differentiable in z."
    return scipys("scipy.special")(f)


spherical_jn = _public("spherical_jn", spherical_jn_p, "spherical Bessel function")
spherical_yn = _public(
    "spherical_yn", spherical_yn_p, "spherical Bessel function of the second kind"
)
spherical_in = _public("spherical_in", spherical_in_p, "modified spherical Bessel function")
spherical_kn = _public(
    "spherical_kn", spherical_kn_p, "modified spherical Bessel function of the second kind"
)

# ---------------------------------------------------------------------------------------------- Airy
airy_p = primitive(
    "airy",
    (
        fixed("airy", "the number of its output"),
        lambda g, xs, y: (
            g * (airy_p(xs[0] + 1, xs[1]) if xs[0] % 2 == 0 else xs[1] * airy_p(xs[0] - 1, xs[1]))
        ),
    ),
    forward=lambda be, k, z: typed("airy", be, z)[k],
    keeps=("", "01"),
    samples=lambda d: [
        sample(0, d.within(-0.9, 0.9, 3, 4)),
        sample(1, d.within(-0.9, 0.9)),
        sample(2, d.within(-0.9, 0.9, 4)),
        sample(3, d.normal(0)),
    ],
    table=False,
)
"""Ai, Ai', Bi, Bi': output k of SciPy's ``airy``."""


@dispatches("airy")
def airy(z):
    """SciPy's ``airy``: the functions of Airy and their derivatives, (Ai, Ai', Bi, Bi')."""
    return tuple(airy_p(k, z) for k in range(4))
