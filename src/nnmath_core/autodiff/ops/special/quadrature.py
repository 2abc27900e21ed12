"""Derivatives of the incomplete gamma and beta functions in their parameters, by quadrature.

With p(t) the density, the derivative of order n in a parameter is the integral of p(t) B_n(t) below x, where B_n is
the polynomial of Bell in the derivatives of log p(t). For n = 1 the factor B_1 = log t - E log t has one zero, x0, and
the integral over all t is 0; so the side of x0 on which x lies is integrated, where nothing cancels: the relative
error stays near rounding in both tails. The variable of integration is the logarithm (gamma) or the logit (beta) of
t, in which the integrand is analytic around the axis; the range ends where the density has fallen by exp(-40).
Another route are the series and continued fractions of Moore, "Algorithm AS 187", Applied Statistics 31 (1982), and
Boik and Robison-Cox, "Derivatives of the incomplete beta function", Journal of Statistical Software 3 (1998), which
stop at the second order and lose digits for large parameters.

Everything is computed in float64 array code over ``be.xp``, on both devices.
"""

from __future__ import annotations

import math

import numpy as np

from nnmath_core.autodiff.ops.conventions import is_traced

_FALL = 40.0  # exp(-40) = 4e-18
_NODES, _WEIGHTS = (v.tolist() for v in np.polynomial.legendre.leggauss(32))
_TERMS = 24  # of the power series for x <= 1


def _polygamma(special, k, x):
    """Polygamma of an order k that is a Python number: CuPy's own takes arrays of orders only."""
    if k == 0:
        return special.digamma(x)
    return (-1.0) ** (k + 1) * math.factorial(k) * special.zeta(k + 1.0, x)


def bell(slopes, n):
    """F^(n) / F of F = exp(S) from the derivatives S', S'', ... by B_(m+1) = sum C(m, i) S^(i+1) B_(m-i)."""
    values = [1.0]
    for m in range(n):
        values.append(sum(math.comb(m, i) * slopes[i] * values[m - i] for i in range(m + 1)))
    return values[n]


def bell2(slope, m, n):
    """The same in two variables: d^m/da^m d^n/db^n F, over F; ``slope(i, j)`` differentiates log F."""
    values = {(0, 0): 1.0}

    def value(i, j):
        if (i, j) not in values:
            k, r = (i - 1, j) if i else (0, j - 1)
            one = (1, 0) if i else (0, 1)
            values[i, j] = sum(
                math.comb(k, p)
                * math.comb(r, q)
                * slope(p + one[0], q + one[1])
                * value(k - p, r - q)
                for p in range(k + 1)
                for q in range(r + 1)
            )
        return values[i, j]

    return value(m, n)


def integrate(xp, f, width, panels):
    """Integral of f over [0, width], an array, by composite rules of Gauss and Legendre."""
    total, h = 0.0, width / panels
    if is_traced(width):  # recorded for a program, which folds the nodes as it makes them
        nodes = [k + 0.5 + 0.5 * z for k in range(panels) for z in _NODES]
        lined = (len(nodes), *(1,) * len(width.shape))
        weights = np.asarray(_WEIGHTS * panels).reshape(lined)
        return 0.5 * h * xp.sum(weights * f(h * np.asarray(nodes).reshape(lined)), axis=0)
    for k in range(panels):
        for z, weight in zip(_NODES, _WEIGHTS, strict=True):
            total = total + weight * f(h * (k + 0.5 + 0.5 * z))
    return 0.5 * h * total


def _stirling(a):
    """Log gamma(a) - ((a - 1/2) log a - a + log(2 pi) / 2) for a >= 8, to 1e-16."""
    r = 1.0 / (a * a)
    tail = 1 / 1260 - r * (1 / 1680 - r * (1 / 1188 - r * (691 / 360360 - r / 156)))
    return (1 / 12 - r * (1 / 360 - r * tail)) / a


def _apart(xp, u):
    """U - log(1 + u)."""
    return u - xp.log1p(u)


# ---------------------------------------------------------------------------------------------- gamma
def _gamma_peak(be, a, x):
    """x^a exp(-x) / gamma(a), for large a by the distance from the mode: powers of a large number cancel."""
    xp = be.xp
    large = a >= 8.0
    b = xp.where(large, a, xp.full_like(a, 8.0))
    near = xp.sqrt(b / (2 * math.pi)) * xp.exp(-b * _apart(xp, (x - b) / b) - _stirling(b))
    return xp.where(large, near, xp.exp(a * xp.log(x) - x - be.special.gammaln(a)))


def gamma_derivative(be, n, a, x):
    """Derivative of order n >= 1 in a of the lower regularized incomplete gamma function P(a, x)."""
    xp = be.xp
    a, x = xp.broadcast_arrays(xp.asarray(a, dtype=np.float64), xp.asarray(x, dtype=np.float64))
    one = xp.ones_like(a)
    inside = (a > 0) & (x > 0) & (a < math.inf) & (x < math.inf)
    b, z = xp.where(inside, a, one), xp.where(inside, x, one)
    small = z <= 1.0
    y = xp.where(
        small,
        _gamma_series(be, n, b, xp.where(small, z, one)),
        _gamma_integral(be, n, xp.where(small, one, b), xp.where(small, 2.0 * one, z)),
    )
    edge = (a > 0) & (a < math.inf) & ((x == 0) | (x == math.inf))
    return xp.where(inside, y, xp.where(edge, 0.0 * one, math.nan * one))


def _gamma_series(be, n, a, x):
    """P = x^a / gamma(a + 1) * (1 + sum_k (-x)^k a / (k! (a + k))), x <= 1, differentiated term by term."""
    xp, special = be.xp, be.special
    sums, term = [1.0, *[0.0] * n], xp.ones_like(x)
    for k in range(1, _TERMS):
        term = term * (-x / k)
        part = 1.0 / (a + k)
        sums[0] = sums[0] + term * (a * part)
        scaled = term * (k * part)  # a / (a + k) = 1 - k / (a + k)
        for j in range(1, n + 1):
            scaled = scaled * part * (j if j == 1 else -j)
            sums[j] = sums[j] + scaled
    log_x = xp.log(x)
    slopes = [log_x - special.digamma(a + 1.0)]
    slopes += [-_polygamma(special, k, a + 1.0) for k in range(1, n)]
    front = xp.exp(a * log_x - special.gammaln(a + 1.0))
    return front * sum(math.comb(n, j) * bell(slopes, n - j) * sums[j] for j in range(n + 1))


def _gamma_integral(be, n, a, x):
    xp, special = be.xp, be.special
    mean = special.digamma(a)
    lower = xp.log(x) < mean
    sign = xp.where(lower, -xp.ones_like(x), xp.ones_like(x))
    tilt = sign * (
        x - a
    )  # log density falls by tilt w + x (exp(s w) - 1 - s w), w the distance in log t

    def fall(w):
        return x * xp.expm1(sign * w) - sign * a * w

    # where it has fallen enough: from an upper bound, Newton's steps on a convex function stay above
    spread = xp.where(lower, x / 3, x / 2)
    w = 2 * _FALL / (tilt + xp.sqrt(tilt * tilt + 4 * _FALL * spread))
    w = xp.where(lower & (w > 1.0), (_FALL + x) / a, w)
    for _ in range(8):
        w = w - (fall(w) - _FALL) / (sign * (x * xp.exp(sign * w) - a))
    slopes = [-_polygamma(special, k, a) for k in range(1, n)]
    start = xp.log(x) - mean

    def f(v):
        return xp.exp(-fall(v)) * bell([start + sign * v, *slopes], n)

    return -sign * _gamma_peak(be, a, x) * integrate(xp, f, w, 2)


# ---------------------------------------------------------------------------------------------- beta
def _beta_peak(be, a, b, x, y):
    """x^a y^b / B(a, b), y = 1 - x; for large a and b by the distances from the mean, as `_gamma_peak`."""
    xp = be.xp
    large = (a >= 8.0) & (b >= 8.0)
    eight = xp.full_like(a, 8.0)
    c, d = xp.where(large, a, eight), xp.where(large, b, eight)
    n = c + d
    half = xp.full_like(x, 0.5)
    away = (xp.where(large, x, half) * d - xp.where(large, y, half) * c) / n  # x - c / n
    phase = c * _apart(xp, away * n / c) + d * _apart(xp, -away * n / d)
    near = xp.sqrt(c * d / (2 * math.pi * n))
    near = near * xp.exp(_stirling(n) - _stirling(c) - _stirling(d) - phase)
    far = xp.exp(a * xp.log(x) + b * xp.log1p(-x) - be.special.betaln(a, b))
    return xp.where(large, near, far)


def beta_derivative(be, m, n, a, b, x):
    """Derivative of orders m in a and n in b, m + n >= 1, of the regularized incomplete beta function."""
    xp, special = be.xp, be.special
    a, b, x = xp.broadcast_arrays(*(xp.asarray(v, dtype=np.float64) for v in (a, b, x)))
    one = xp.ones_like(x)
    good = (a > 0) & (b > 0) & (a < math.inf) & (b < math.inf)
    inside = good & (x > 0) & (x < 1)
    p, q, z = xp.where(inside, a, one), xp.where(inside, b, one), xp.where(inside, x, 0.5 * one)
    total = special.digamma(p + q)
    if (m, n) == (1, 0):
        lower = xp.log(z) < special.digamma(p) - total
        # far down 1 - z would round to 1; there log z outweighs what is added to it, and nothing cancels
        lower = lower | ((p < 1.0) & (z * (p + q) < 1e-3))
    elif (m, n) == (0, 1):
        lower = xp.log1p(-z) > special.digamma(q) - total
    else:
        lower = z * (p + q) < p
    # the upper side is the lower one of the mirrored function, with the orders exchanged
    low = _beta_lower(
        be, m, n, *(xp.where(lower, v, o) for v, o in ((p, one), (q, one), (z, 0.5 * one)))
    )
    high = _beta_lower(
        be, n, m, *(xp.where(lower, o, v) for v, o in ((q, one), (p, one), (1.0 - z, 0.5 * one)))
    )
    edge = good & ((x == 0) | (x == 1))
    return xp.where(inside, xp.where(lower, low, -high), xp.where(edge, 0.0 * one, math.nan * one))


def _beta_lower(be, m, n, a, b, x):
    """The integral from 0 to x; for a < 1, where the range is long, by I(a, b) = I(a + 1, b) + x^a y^b / (a B)."""
    xp, special = be.xp, be.special
    y = 1.0 - x
    log_x, log_y = xp.log(x), xp.log1p(-x)
    short = a < 1.0
    total = a + b

    def slope(i, j):  # of log(x^a y^b / (a B(a, b)))
        s = _polygamma(special, i + j - 1, total)
        if j == 0:
            s = s - _polygamma(special, i - 1, a + 1.0)
        elif i == 0:
            s = s - _polygamma(special, j - 1, b)
        return s + log_x if (i, j) == (1, 0) else s + log_y if (i, j) == (0, 1) else s

    step = _beta_peak(be, a, b, x, y) / a * bell2(slope, m, n)
    a = xp.where(short, a + 1.0, a)
    return _beta_integral(be, m, n, a, b, x, y) + xp.where(short, step, 0.0 * step)


def _beta_integral(be, m, n, a, b, x, y):
    xp, special = be.xp, be.special
    total = a + b

    def climb(
        w,
    ):  # -log((1 - x) + x exp(-w)): what log(1 - t) gains at the distance w in the logit of t
        return -xp.log1p(x * xp.expm1(-w))

    def fall(w):
        return a * w - total * climb(w)

    tilt = a - total * x
    spread = total * x * y / (2 * math.e)
    w = 2 * _FALL / (tilt + xp.sqrt(tilt * tilt + 4 * _FALL * spread))
    w = xp.where(w <= 1.0, w, (_FALL - total * xp.log1p(-x)) / a)
    for _ in range(10):
        e = x * xp.exp(-w)
        w = w - (fall(w) - _FALL) / (a - total * e / (y + e))
    slopes = {}
    for k in range(1, m + n + 1):
        s = _polygamma(special, k - 1, total)
        for i in range(k + 1):
            j = k - i
            slopes[i, j] = s
            if j == 0:
                slopes[i, j] = s - _polygamma(special, k - 1, a)
            elif i == 0:
                slopes[i, j] = s - _polygamma(special, k - 1, b)
    log_x, log_y = xp.log(x), xp.log1p(-x)

    def f(w):
        gain = climb(w)
        at = {(1, 0): slopes[1, 0] + (log_x - w + gain), (0, 1): slopes[0, 1] + (log_y + gain)}
        return xp.exp(total * gain - a * w) * bell2(lambda i, j: at.get((i, j), slopes[i, j]), m, n)

    return _beta_peak(be, a, b, x, y) * integrate(xp, f, w, 4)
