"""Oracles of Bessel functions, exponential and elliptic integrals, orthogonal polynomials, hypergeometric series."""

from __future__ import annotations

import math

from oracles.register import ORACLES, entrywise
from oracles.special import EULER, integral, panels, root, series


# --------------------------------------------------------------------------------------------- Bessel
def ascending(sign):
    def f(v, x):
        return series(
            lambda k: (
                sign**k * (x / 2) ** (2 * k + v) / (math.factorial(k) * math.gamma(k + v + 1))
            ),
            40,
        )

    return f


bessel_j, bessel_i = ascending(-1), ascending(1)
EDGES = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)


def bessel_y(v, x):
    """Schlaefli's integrals."""
    waves = integral(lambda s: math.sin(x * math.sin(s) - v * s), 0.0, math.pi)
    c = math.cos(v * math.pi)

    def tail(t):
        return (math.exp(v * t) + math.exp(-v * t) * c) * math.exp(-x * math.sinh(t))

    return (waves - panels(tail, *EDGES, 6.5)) / math.pi


def bessel_k(v, x):
    return panels(lambda t: math.exp(-x * math.cosh(t)) * math.cosh(v * t), *EDGES, 6.5)


def half(f, n, z):
    return math.sqrt(math.pi / (2 * z)) * f(n + 0.5, z)


def yn_half(n, z):
    before, y = -math.cos(z) / z, -math.cos(z) / z**2 - math.sin(z) / z
    for k in range(n):
        before, y = y, (2 * k + 3) / z * y - before
    return before


def airy(k, x):
    """By the two series of Airy's equation, derivatives term by term."""
    f, g, df, dg = [1.0], [x], [0.0], [1.0]
    for m in range(1, 40):
        f.append(f[-1] * x**3 / ((3 * m - 1) * 3 * m))
        g.append(g[-1] * x**3 / (3 * m * (3 * m + 1)))
        df.append(f[-1] * 3 * m / x)
        dg.append(g[-1] * (3 * m + 1) / x)
    one = 1 / (3 ** (2 / 3) * math.gamma(2 / 3))
    two = 1 / (3 ** (1 / 3) * math.gamma(1 / 3))
    a, b = (f, g) if k % 2 == 0 else (df, dg)
    a, b = one * math.fsum(a), two * math.fsum(b)
    return a - b if k < 2 else math.sqrt(3) * (a + b)


BESSEL = {
    "j0": lambda x: bessel_j(0, x),
    "j1": lambda x: bessel_j(1, x),
    "y0": lambda x: bessel_y(0, x),
    "y1": lambda x: bessel_y(1, x),
    "i0": lambda x: bessel_i(0, x),
    "i1": lambda x: bessel_i(1, x),
    "i0e": lambda x: math.exp(-abs(x)) * bessel_i(0, x),
    "i1e": lambda x: math.exp(-abs(x)) * bessel_i(1, x),
    "k0": lambda x: bessel_k(0, x),
    "k1": lambda x: bessel_k(1, x),
    "k0e": lambda x: math.exp(x) * bessel_k(0, x),
    "k1e": lambda x: math.exp(x) * bessel_k(1, x),
    "jv": bessel_j,
    "yv": bessel_y,
    "yn": bessel_y,
    "iv": bessel_i,
    "ive": lambda v, x: math.exp(-abs(x)) * bessel_i(v, x),
    "kv": bessel_k,
    "kve": lambda v, x: math.exp(x) * bessel_k(v, x),
    "spherical_jn": lambda n, z: half(bessel_j, n, z),
    "spherical_yn": yn_half,
    "spherical_in": lambda n, z: half(bessel_i, n, z),
    "spherical_kn": lambda n, z: half(bessel_k, n, z),
    "airy": airy,
}


# ------------------------------------------------------------------------------------------ integrals
def exp_integral(x, sign):
    """Euler's constant + log|x| + the sum of (sign x)**k / (k k!)."""
    return (
        EULER
        + math.log(abs(x))
        + series(lambda k: (sign * x) ** (k + 1) / ((k + 1) * math.factorial(k + 1)), 60)
    )


def expn(n, x):
    if n == 0:
        return math.exp(-x) / x
    if n == 1:
        return -exp_integral(x, -1)
    return (math.exp(-x) - x * expn(n - 1, x)) / (n - 1)


def sine_integral(sign):
    def f(k, x):
        if k == 0:
            return series(
                lambda j: sign**j * x ** (2 * j + 1) / ((2 * j + 1) * math.factorial(2 * j + 1)), 40
            )
        return (
            EULER
            + math.log(x)
            + series(
                lambda j: (
                    sign ** (j + 1) * x ** (2 * j + 2) / ((2 * j + 2) * math.factorial(2 * j + 2))
                ),
                40,
            )
        )

    return f


def fresnel(k, x):
    return integral(lambda t: (math.sin, math.cos)[k](0.5 * math.pi * t * t), 0.0, x)


def elliptic(power):
    return lambda phi, m: integral(lambda s: (1 - m * math.sin(s) ** 2) ** power, 0.0, phi)


first, second = elliptic(-0.5), elliptic(0.5)


def ellipj(k, u, m):
    phi = root(lambda p: first(p, m) - u, -8.0, 8.0)
    return (math.sin(phi), math.cos(phi), math.sqrt(1 - m * math.sin(phi) ** 2), phi)[k]


INTEGRALS = {
    "exp1": lambda x: expn(1, x),
    "expi": lambda x: exp_integral(x, 1),
    "expn": expn,
    "sici": sine_integral(-1),
    "shichi": sine_integral(1),
    "fresnel": fresnel,
    "spence": lambda z: -integral(lambda s: math.log1p((z - 1) * s) / s, 0.0, 1.0),
    "ellipk": lambda m: first(math.pi / 2, m),
    "ellipe": lambda m: second(math.pi / 2, m),
    "ellipkm1": lambda p: first(math.pi / 2, 1 - p),
    "ellipkinc": first,
    "ellipeinc": second,
    "ellipj": ellipj,
    "lambertw": lambda z, k: (
        root(lambda w: w * math.exp(w) - z, -1.0, 9.0)
        if k == 0
        else root(lambda w: z - w * math.exp(w), -30.0, -1.0)
    ),
    "wrightomega": lambda z: root(lambda w: w + math.log(w) - z, 1e-9, 30.0),
}


# ---------------------------------------------------------------------------------------- polynomials
def recurrence(first, step):
    """P_0 = 1, P_1 = first, P_(k+1) = a P_k - b P_(k-1) with (a, b) = step(k, x, *parameters)."""

    def f(n, *rest):
        *parameters, x = rest
        before, p = 1.0, first(x, *parameters)
        if n == 0:
            return before
        for k in range(1, n):
            a, b = step(k, x, *parameters)
            before, p = p, a * p - b * before
        return p

    return f


def choose(x, k):
    return math.prod((x - j) / (j + 1) for j in range(k))


def jacobi(n, a, b, x):
    return math.fsum(
        choose(n + a, n - s) * choose(n + b, s) * ((x - 1) / 2) ** s * ((x + 1) / 2) ** (n - s)
        for s in range(n + 1)
    )


def hypergeometric(upper, lower, z, count=120):
    terms = [1.0]
    for k in range(count):
        ratio = math.prod(a + k for a in upper) / math.prod(b + k for b in lower)
        terms.append(terms[-1] * ratio * z / (k + 1))
    return math.fsum(terms)


POLYNOMIALS = {
    "eval_jacobi": jacobi,
    "eval_legendre": recurrence(lambda x: x, lambda k, x: ((2 * k + 1) * x / (k + 1), k / (k + 1))),
    "eval_chebyt": lambda n, x: math.cos(n * math.acos(x)),
    "eval_chebyu": recurrence(lambda x: 2 * x, lambda k, x: (2 * x, 1)),
    "eval_gegenbauer": recurrence(
        lambda x, a: 2 * a * x,
        lambda k, x, a: (2 * (k + a) * x / (k + 1), (k + 2 * a - 1) / (k + 1)),
    ),
    "eval_laguerre": recurrence(
        lambda x: 1 - x, lambda k, x: ((2 * k + 1 - x) / (k + 1), k / (k + 1))
    ),
    "eval_genlaguerre": recurrence(
        lambda x, a: 1 + a - x, lambda k, x, a: ((2 * k + 1 + a - x) / (k + 1), (k + a) / (k + 1))
    ),
    "eval_hermite": recurrence(lambda x: 2 * x, lambda k, x: (2 * x, 2 * k)),
    "eval_hermitenorm": recurrence(lambda x: x, lambda k, x: (x, k)),
    "hyp0f1": lambda v, z: hypergeometric((), (v,), z),
    "hyp1f1": lambda a, b, x: hypergeometric((a,), (b,), x),
    "hyp2f1": lambda a, b, c, z: hypergeometric((a, b), (c,), z),
    "hyperu": lambda a, b, x: (
        panels(  # t = s**4 in the integral of Kummer
            lambda s: 4 * s ** (4 * a - 1) * math.exp(-x * s**4) * (1 + s**4) ** (b - a - 1),
            0.0,
            1.0,
            2.0,
            3.5,
        )
        / math.gamma(a)
    ),
}
ORACLES.update({name: entrywise(f) for name, f in (BESSEL | INTEGRALS | POLYNOMIALS).items()})
