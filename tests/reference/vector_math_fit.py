"""Print the coefficients of the polynomials in src/_ext/common/nnm_*.h and src/_ext/vector/vector.cuh.

    pip install mpmath==1.3.0
    python tests/reference/vector_math_fit.py

A polynomial interpolates its function, in 60 digits, at the Chebyshev points of the interval: its error is within a
small factor of the least possible. A row says what is fitted, the dtype, the largest error over the interval, and the
coefficients from the constant on. Quotients of polynomials follow.
"""

import mpmath as mp
import numpy as np

mp.mp.dps = 60
HALF_LN2 = mp.log(2) / 2 * mp.mpf("1.0001")
Z_LOG = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2 * mp.mpf("1.001")
Z_TRIG = (mp.pi / 4) ** 2 * mp.mpf("1.001")
Z_ATAN = mp.tan(mp.pi / 8) ** 2 * mp.mpf("1.001")
PSI_ZERO = mp.findroot(mp.digamma, 1.4616321449683623)
ERFCX_CENTRE = {"f64": mp.mpf(4), "f32": mp.mpf(2)}


def atanh_tail(k0):
    """The series of 2 atanh(s) / s from z^k0 on, divided by z^k0, with z = s^2."""
    return lambda z: mp.fsum(mp.mpf(2) * z**k / (2 * (k + k0) + 1) for k in range(60))


def exp_tail(r):
    """(exp(r) - 1 - r) / r^2."""
    return mp.fsum(r**k / mp.factorial(k + 2) for k in range(40))


def sin_tail(z):
    """(sin(r) - r) / r^3, z = r^2."""
    return mp.fsum((-1) ** (k + 1) * z**k / mp.factorial(2 * k + 3) for k in range(30))


def cos_tail(z):
    """(cos(r) - 1 + z / 2) / z^2, z = r^2."""
    return mp.fsum((-1) ** k * z**k / mp.factorial(2 * k + 4) for k in range(30))


def atan_tail(z):
    """(atan(q) / q - 1) / z, z = q^2."""
    return mp.fsum((-1) ** (k + 1) * z**k / (2 * k + 3) for k in range(120))


def erf_tail(z):
    """erf(x) / x - 1, z = x^2."""
    return (
        2 / mp.sqrt(mp.pi) * mp.fsum((-z) ** k / (mp.factorial(k) * (2 * k + 1)) for k in range(60))
        - 1
    )


def tanh_tail(z):
    """(tanh(x) / x - 1) / z, z = x^2."""
    series = mp.taylor(mp.tanh, 0, 81)
    return mp.fsum(series[2 * k + 3] * z**k for k in range(39))


def normal_odd(z):
    """(P(Z <= x) - 1/2) / x of a standard normal Z, z = x^2."""
    return mp.fsum((-z / 2) ** k / (mp.factorial(k) * (2 * k + 1)) for k in range(40)) / mp.sqrt(
        2 * mp.pi
    )


def gelu_slope_odd(z):
    """(P(Z <= x) + x density(x) - 1/2) / x, z = x^2."""
    return normal_odd(z) + mp.exp(-z / 2) / mp.sqrt(2 * mp.pi)


def erfcx(x):
    """exp(x^2) erfc(x); past 25 by its continued fraction."""
    if x < 25:
        return mp.exp(x * x) * mp.erfc(x)
    tail = x
    for k in range(80, 0, -1):
        tail = x + mp.mpf(k) / 2 / tail
    return 1 / (mp.sqrt(mp.pi) * tail)


def erfcx_mapped(dtype):
    """(1 + 2 x) erfcx(x) in t = (x - c) / (x + c)."""
    c = ERFCX_CENTRE[dtype]

    def f(t):
        if t > mp.mpf(1) - mp.mpf(10) ** -30:
            return 2 / mp.sqrt(mp.pi)
        x = c * (1 + t) / (1 - t)
        return (1 + 2 * x) * erfcx(x)

    return f


def lgamma_middle(w):
    """lgamma(x) / ((x - 1) (x - 2)), x = 1.5 + w."""
    x = mp.mpf("1.5") + w
    if abs(abs(w) - mp.mpf(1) / 2) < mp.mpf(10) ** -40:
        return mp.euler if w < 0 else 1 - mp.euler
    return mp.loggamma(x) / ((x - 1) * (x - 2))


def stirling(y):
    """Rest of Stirling's formula, x (lgamma(x) - (x - 1/2) log x + x - log(2 pi) / 2), y = 1 / x^2."""
    if y < mp.mpf(10) ** -8:
        return mp.mpf(1) / 12 - y / 360
    x = 1 / mp.sqrt(y)
    return x * (mp.loggamma(x) - (x - mp.mpf(1) / 2) * mp.log(x) + x - mp.log(2 * mp.pi) / 2)


def digamma_middle(w):
    """digamma(x) / (x - its zero), x = 1.5 + w."""
    x = mp.mpf("1.5") + w
    return mp.digamma(x) / (x - PSI_ZERO)


def digamma_tail(y):
    """x^2 (log x - 1 / (2 x) - digamma(x)), y = 1 / x^2."""
    if y < mp.mpf(10) ** -8:
        return mp.mpf(1) / 12 - y / 120
    x = 1 / mp.sqrt(y)
    return x * x * (mp.log(x) - 1 / (2 * x) - mp.digamma(x))


# name, function, interval, coefficients in float64 and in float32 (0: the function has no float32 form)
FITS = [
    ("exp", exp_tail, (-HALF_LN2, HALF_LN2), 11, 6),
    ("log", atanh_tail(1), (0, Z_LOG), 7, 4),
    ("pow_log", atanh_tail(2), (0, Z_LOG), 7, 0),
    ("sin", sin_tail, (0, Z_TRIG), 6, 3),
    ("cos", cos_tail, (0, Z_TRIG), 6, 3),
    ("atan", atan_tail, (0, Z_ATAN), 11, 5),
    ("erf", erf_tail, (0, 1), 13, 7),
    ("erfcx", None, (-1, 1), 26, 13),
    ("tanh", tanh_tail, (0, mp.mpf("0.0901")), 8, 4),
    ("gelu", normal_odd, (0, mp.mpf(1) / 4), 8, 4),
    ("gelu_slope", gelu_slope_odd, (0, mp.mpf(1) / 4), 9, 5),
    ("lgamma", lgamma_middle, (-0.5, 0.5), 22, 0),
    ("stirling", stirling, (0, mp.mpf(1) / 64), 7, 0),
    ("digamma", digamma_middle, (-0.5, 0.5), 22, 0),
    ("digamma_tail", digamma_tail, (0, mp.mpf(1) / 64), 8, 0),
]


def quotient(f, tops, bottoms, most, rounds=20):
    """N(s) / D(s) that is f on [0, most], its relative error as even as weights make it (C. Lawson); D(0) = 1.

    Each round solves the linear problem N - f D = 0, weighted by the last D and by the errors so far.
    """
    count = tops + bottoms
    t = [mp.cos(mp.pi * (2 * k + 1) / (12 * count)) for k in range(6 * count)]
    end = (most - 2) / mp.mpf(most + 2)
    s = [2 * (1 + u) / (1 - u) for u in ((end - 1) / 2 + (end + 1) / 2 * v for v in t)]
    want = [f(x) for x in s]
    weights = [mp.mpf(1)] * len(s)
    below = [mp.mpf(1)] * len(s)
    best = None
    for turn in range(rounds):
        a, b = mp.matrix(len(s), count), mp.matrix(len(s), 1)
        for i, (x, y) in enumerate(zip(s, want, strict=True)):
            by = mp.sqrt(weights[i]) / (y * below[i])
            for k in range(tops):
                a[i, k] = by * x**k
            for k in range(bottoms):
                a[i, tops + k] = -by * y * x ** (k + 1)
            b[i] = by * y
        found = list(mp.lu_solve(a.T * a, a.T * b))
        top, bottom = found[:tops], [mp.mpf(1), *found[tops:]]
        below = [mp.polyval(bottom[::-1], x) for x in s]
        errors = [
            abs(mp.polyval(top[::-1], x) / d / y - 1)
            for x, d, y in zip(s, below, want, strict=True)
        ]
        if best is None or max(errors) < best[0]:
            best = max(errors), top, bottom
        if turn >= 3:
            weights = [w * e for w, e in zip(weights, errors, strict=True)]
            mean = mp.fsum(weights) / len(s)
            weights = [w / mean for w in weights]
    return best


def in_single(f, top, bottom, most, tries=60000):
    """The coefficients in float32, each moved by units until the error is least: rounding adds a third of a unit."""
    s = np.linspace(0, most, 3001)
    want = np.array([float(f(mp.mpf(x))) for x in s])
    rng = np.random.default_rng(0)

    def error(c):
        wide = c.astype(float)
        n, d = wide[: len(top)], wide[len(top) :]
        return np.max(np.abs(np.polyval(n[::-1], s) / np.polyval(d[::-1], s) / want - 1))

    best = np.array([float(c) for c in (*top, *bottom)], np.float32)
    least = error(best)
    free = [k for k in range(len(best)) if k not in (0, len(top))]  # the values at 0 are exact
    for _ in range(tries):
        c = best.copy()
        for k in rng.choice(free, rng.integers(1, 4)):
            c[k] = np.nextafter(c[k], np.float32(rng.choice([-9.0, 9.0])))
        if error(c) <= least:
            best, least = c, error(c)
    return least, best[: len(top)], best[len(top) :]


def half_erfcx(s):
    """erfcx(s / sqrt 2) / 2."""
    return erfcx(s / mp.sqrt(2)) / 2


def print_quotients():
    """erfcx(x) is twice half_erfcx(sqrt 2 x): in float64 one fit serves both, its coefficients scaled."""
    error, top, bottom = quotient(half_erfcx, 11, 11, 40, rounds=12)
    for name, by, scale in (("half erfcx", 1, mp.mpf(1)), ("erfcx", 2, mp.sqrt(2))):
        print(f"{name} f64, {mp.nstr(error, 3)}:")
        for c, factor in ((top, by), (bottom, 1)):
            print("   ", ", ".join(mp.nstr(a * factor * scale**k, 17) for k, a in enumerate(c)))
    error, top, bottom = quotient(half_erfcx, 5, 5, 15)
    for name, f, by, scale, most in (
        ("half erfcx", half_erfcx, 1, mp.mpf(1), 14.2),
        ("erfcx", erfcx, 2, mp.sqrt(2), 10.1),
    ):
        scaled = [[a * scale**k for k, a in enumerate(c)] for c in (top, bottom)]
        error, *rounded = in_single(f, [by * a for a in scaled[0]], scaled[1], most)
        print(f"{name} f32, {error:.3g}:")
        for c in rounded:
            print("   ", ", ".join(f"{a:.9g}" for a in c))


if __name__ == "__main__":
    for name, f, interval, n64, n32 in FITS:
        for dtype, n in (("f64", n64), ("f32", n32)):
            if n:
                g = erfcx_mapped(dtype) if f is None else f
                c, error = mp.chebyfit(g, [mp.mpf(e) for e in interval], n, error=True)
                print(f"{name} {dtype}, {mp.nstr(error, 3)}:")
                digits = 17 if dtype == "f64" else 9
                print(
                    "    "
                    + ", ".join(mp.nstr(a, digits, min_fixed=0, max_fixed=0) for a in reversed(c))
                )
    print_quotients()
    print("zero of digamma:", mp.nstr(PSI_ZERO, 40))
