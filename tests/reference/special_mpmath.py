"""Write special_mpmath.json: special functions with two derivatives, to 17 digits.

    pip install mpmath==1.3.0
    python tests/reference/special_mpmath.py

A row is [name, arguments, position that is differentiated, value, first and second derivative]. The
points reach the ends of the domain, both signs and large arguments. mpmath works with 80 digits and
differentiates numerically with more.
"""

import json
from pathlib import Path

import mpmath as mp

mp.mp.dps = 80
TARGET = Path(__file__).with_name("special_mpmath.json")
HALF = mp.mpf(1) / 2


def erfcx(x):
    return mp.exp(x * x) * mp.erfc(x)


def ndtr(x):
    return mp.erfc(-x / mp.sqrt(2)) / 2


def inverse(f, low, high):
    return lambda *args: mp.findroot(
        lambda x: f(*args[:-1], x) - args[-1], (low, high), solver="anderson", tol=1e-150
    )


def gammainc(a, x):
    return mp.gammainc(a, 0, x, regularized=True)


def gammaincc(a, x):
    return mp.gammainc(a, x, regularized=True)


def betainc(a, b, x):
    return mp.betainc(a, b, 0, x, regularized=True)


def stdtr(df, t):
    tail = betainc(df / 2, HALF, df / (df + t * t)) / 2
    return tail if t < 0 else 1 - tail


WIDE = [-30.0, -6.5, -1.25, -0.01, 0.3, 2.5, 7.0]
POSITIVE = [1e-6, 0.05, 0.9, 1.0, 2.0, 4.5, 60.0, 1e4]
SHARE = [1e-8, 0.02, 0.3, 0.5, 0.875, 0.999]
# name -> (mpmath's function, lists of arguments, positions)
ROWS = {
    "gammaln": (lambda x: mp.re(mp.loggamma(x)), [[x] for x in [*POSITIVE, -0.3, -4.5]], [0]),
    "gamma": (mp.gamma, [[x] for x in [-3.4, -0.5, 1e-3, 0.7, 3.0, 20.5]], [0]),
    "rgamma": (mp.rgamma, [[x] for x in [-4.0, -3.4, -1.0, -0.5, 0.0, 1e-3, 0.7, 3.0, 20.5]], [0]),
    "digamma": (mp.digamma, [[x] for x in [*POSITIVE, -0.3]], [0]),
    "polygamma": (lambda n, x: mp.psi(int(n), x), [[n, x] for n in (1, 3) for x in [0.1, 1.0, 7.5, 300.0]], [1]),
    "beta": (mp.beta, [[0.2, 3.0], [1.0, 1.0], [4.0, 30.0]], [0, 1]),
    "betaln": (lambda a, b: mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b),
               [[0.2, 3.0], [1.5, 2.5], [40.0, 300.0]], [0, 1]),
    "binom": (mp.binomial, [[5.0, 2.0], [7.5, 0.3], [3.0, 0.0]], [0, 1]),
    "poch": (mp.rf, [[0.5, 2.0], [3.0, 0.75], [10.0, 4.0]], [0, 1]),
    "zeta": (mp.zeta, [[s, q] for s in (1.5, 4.0) for q in (0.2, 1.0, 25.0)], [1]),
    "gammainc": (gammainc, [[0.05, 0.01], [0.5, 2.0], [1.0, 0.5], [3.0, 3.0], [12.0, 1.5], [30.0, 45.0]], [0, 1]),
    "gammaincc": (gammaincc, [[0.05, 0.01], [0.5, 20.0], [3.0, 40.0], [30.0, 45.0]], [0, 1]),
    "gammaincinv": (inverse(gammainc, 0.2, 6.0), [[0.8, 0.4], [3.0, 0.5], [2.0, 0.9]], [0, 1]),
    "betainc": (betainc, [[0.5, 0.5, 0.3], [2.0, 3.0, 0.9], [0.05, 4.0, 0.01], [20.0, 30.0, 0.4], [5.0, 0.3, 0.99]],
                [0, 1, 2]),
    "betaincinv": (inverse(betainc, 0.2, 0.8), [[0.8, 1.5, 0.4], [3.0, 2.0, 0.5]], [0, 1, 2]),
    "stdtr": (stdtr, [[0.7, -3.0], [3.5, 0.2], [3.5, -0.01], [30.0, 4.0], [5.0, -40.0]], [0, 1]),
    "erfc": (mp.erfc, [[x] for x in [-3.0, -0.2, 0.4, 5.0, 20.0]], [0]),
    "erfcx": (erfcx, [[x] for x in [-3.0, -0.2, 0.4, 5.0, 11.9, 12.1, 40.0, 1e4]], [0]),
    "erfi": (mp.erfi, [[x] for x in [-3.0, 0.2, 2.0]], [0]),
    "dawsn": (lambda x: mp.sqrt(mp.pi) / 2 * mp.exp(-x * x) * mp.erfi(x), [[x] for x in [-3.0, 0.2, 2.0]], [0]),
    "erfinv": (mp.erfinv, [[x] for x in [-0.999, -0.3, 1e-7, 0.8]], [0]),
    "ndtr": (ndtr, [[x] for x in [-20.0, -3.0, 0.1, 4.0]], [0]),
    "ndtri": (inverse(ndtr, -1.0, 1.0), [[x] for x in [0.02, 0.4, 0.9]], [0]),
    "log_ndtr": (lambda x: mp.log(ndtr(x)), [[x] for x in [-1e3, -40.0, -5.0, -0.1, 0.1, 5.0, 12.0]], [0]),
    "owens_t": (lambda h, a: mp.quad(lambda x: mp.exp(-h * h * (1 + x * x) / 2) / (1 + x * x), [0, a]) / (2 * mp.pi),
                [[0.5, 0.7], [-1.0, 3.0]], [0, 1]),
    "xlogy": (lambda x, y: x * mp.log(y), [[0.5, 1e-9], [-2.0, 3.0]], [0, 1]),
    "xlog1py": (lambda x, y: x * mp.log1p(y), [[0.5, 1e-9], [-2.0, 3.0]], [0, 1]),
    "entr": (lambda x: -x * mp.log(x), [[x] for x in [1e-9, 0.4, 5.0]], [0]),
    "rel_entr": (lambda x, y: x * mp.log(x / y), [[1e-5, 0.3], [2.0, 2.0]], [0, 1]),
    "kl_div": (lambda x, y: x * mp.log(x / y) - x + y, [[1e-5, 0.3], [2.0, 2.0]], [0, 1]),
    "logit": (lambda x: mp.log(x / (1 - x)), [[x] for x in SHARE], [0]),
    "log_expit": (lambda x: -mp.log1p(mp.exp(-x)), [[x] for x in WIDE], [0]),
    "exprel": (lambda x: mp.expm1(x) / x, [[x] for x in [-30.0, -1.1, -0.9, -1e-5, 1e-5, 0.99, 1.01, 5.0]], [0]),
    "boxcox": (lambda x, k: (x**k - 1) / k, [[2.0, 1e-6], [0.3, 0.7], [5.0, -2.0]], [0, 1]),
    "boxcox1p": (lambda x, k: ((1 + x) ** k - 1) / k, [[1.0, 1e-6], [1e-5, 0.7], [4.0, -2.0]], [0, 1]),
    "inv_boxcox": (lambda y, k: (1 + k * y) ** (1 / k), [[2.0, 1e-6], [0.3, 0.7], [0.4, -2.0]], [0, 1]),
    "pseudo_huber": (lambda d, r: d * (mp.sqrt(d * d + r * r) - d), [[1.0, 1e-5], [0.5, -3.0], [40.0, 0.2]], [0, 1]),
    "j0": (lambda x: mp.besselj(0, x), [[x] for x in [*WIDE, 1e-6, 50.0]], [0]),
    "j1": (lambda x: mp.besselj(1, x), [[x] for x in [*WIDE, 1e-6, 1.99, 2.01, 50.0]], [0]),
    "i0": (lambda x: mp.besseli(0, x), [[x] for x in WIDE], [0]),
    "i1": (lambda x: mp.besseli(1, x), [[x] for x in [*WIDE, 1e-6, 1.99, 2.01]], [0]),
    "i0e": (lambda x: mp.exp(-abs(x)) * mp.besseli(0, x), [[x] for x in [-6.5, 0.3, 7.0]], [0]),
    "i1e": (lambda x: mp.exp(-abs(x)) * mp.besseli(1, x), [[x] for x in [-6.5, -1.25, 0.3, 7.0]], [0]),
    "y0": (lambda x: mp.bessely(0, x), [[x] for x in [1e-4, 0.5, 7.0]], [0]),
    "y1": (lambda x: mp.bessely(1, x), [[x] for x in [1e-4, 0.5, 7.0]], [0]),
    "k0": (lambda x: mp.besselk(0, x), [[x] for x in [1e-4, 0.5, 7.0]], [0]),
    "k1": (lambda x: mp.besselk(1, x), [[x] for x in [1e-4, 0.5, 7.0]], [0]),
    "k0e": (lambda x: mp.exp(x) * mp.besselk(0, x), [[x] for x in [1e-4, 0.5, 7.0]], [0]),
    "jv": (mp.besselj, [[v, x] for v in (0.5, 3.0) for x in (0.2, 4.0, 30.0)], [1]),
    "yv": (mp.bessely, [[v, x] for v in (0.5, 3.0) for x in (0.2, 4.0, 30.0)], [1]),
    "iv": (mp.besseli, [[v, x] for v in (0.5, 3.0) for x in (0.2, 4.0, 30.0)], [1]),
    "kv": (mp.besselk, [[v, x] for v in (0.5, 3.0) for x in (0.2, 4.0, 30.0)], [1]),
    "exp1": (mp.e1, [[x] for x in [1e-5, 0.5, 20.0]], [0]),
    "expi": (mp.ei, [[x] for x in [-3.0, 1e-5, 20.0]], [0]),
    "expn": (lambda n, x: mp.expint(n, x), [[n, x] for n in (1, 2, 5) for x in (0.05, 3.0)], [1]),
    "spence": (lambda z: mp.polylog(2, 1 - z), [[x] for x in [0.05, 0.74, 0.76, 0.999, 1.0, 1.2, 1.26]], [0]),
    "ellipk": (mp.ellipk, [[x] for x in [-8.0, -0.26, -0.1, 1e-7, 0.24, 0.26, 0.9, 0.9999]], [0]),
    "ellipe": (mp.ellipe, [[x] for x in [-8.0, -0.26, -0.1, 1e-7, 0.24, 0.26, 0.9, 0.9999]], [0]),
    "ellipkm1": (lambda p: mp.ellipk(1 - p), [[x] for x in [1e-12, 0.1, 0.9, 1.0, 3.0]], [0]),
    "wrightomega": (lambda z: mp.lambertw(mp.exp(z)).real, [[x] for x in [-20.0, 0.5, 30.0]], [0]),
    "eval_legendre": (lambda n, x: mp.legendre(int(n), x), [[n, x] for n in (0, 1, 7) for x in (-1.0, 0.3, 1.0)], [1]),
    "eval_chebyt": (lambda n, x: mp.chebyt(int(n), x), [[n, x] for n in (0, 1, 7) for x in (-1.0, 0.3, 1.0)], [1]),
    "eval_hermite": (lambda n, x: mp.hermite(int(n), x), [[n, x] for n in (0, 1, 6) for x in (-2.0, 0.3)], [1]),
    "eval_laguerre": (lambda n, x: mp.laguerre(int(n), 0, x), [[n, x] for n in (0, 1, 6) for x in (0.0, 3.5)], [1]),
    "hyp0f1": (mp.hyp0f1, [[1.25, x] for x in (-20.0, 0.0, 4.0)], [1]),
    "hyp1f1": (mp.hyp1f1, [[0.75, 1.5, x] for x in (-20.0, 0.0, 4.0)], [2]),
    "hyp2f1": (mp.hyp2f1, [[0.75, 1.5, 2.25, x] for x in (-3.0, 0.0, 0.9)], [3]),
}  # fmt: skip


def derivatives(f, args, k):
    """Return the value and two derivatives at the float64 arguments."""
    point = [mp.mpf(a) for a in args]

    def along(x):
        return f(*point[:k], x, *point[k + 1 :])

    h = mp.mpf(10) ** -25 * max(abs(point[k]), mp.mpf(10) ** -8)
    slopes = [mp.diff(along, point[k], n, h=h) for n in (1, 2)]
    return [float(mp.re(v)) for v in (along(point[k]), *slopes)]


def main():
    """Write the table."""
    rows = []
    for name, (f, points, positions) in ROWS.items():
        rows += [[name, args, k, *derivatives(f, args, k)] for args in points for k in positions]
        print(name, flush=True)
    head = {"what": "name, arguments, position, value, two derivatives", "mpmath": mp.__version__}
    lines = ",\n".join(json.dumps(row) for row in rows)
    TARGET.write_text(f'{{"about": {json.dumps(head)},\n"rows": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
