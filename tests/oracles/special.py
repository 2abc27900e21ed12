"""Oracles of special functions: power series, recurrences, and integrals summed by the rule of Takahasi and Mori."""

from __future__ import annotations

import itertools
import math

from oracles.register import ORACLES, entrywise

EULER = 0.57721566490153286061
BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)


# --------------------------------------------------------------------------------------------- tools
def _rule(h=1 / 32, top=3.2):
    n = int(top / h)
    points = []
    for k in range(-n, n + 1):
        s = 0.5 * math.pi * math.sinh(k * h)
        w = 0.5 * math.pi * math.cosh(k * h) / math.cosh(s) ** 2
        points.append((math.tanh(s), h * w))
    return points


RULE = _rule()


def integral(f, a, b):
    """Integrate a function that is analytic on [a, b]."""
    middle, half = 0.5 * (a + b), 0.5 * (b - a)
    return half * math.fsum(w * f(middle + half * z) for z, w in RULE)


def panels(f, *edges):
    return math.fsum(integral(f, a, b) for a, b in itertools.pairwise(edges))


def root(f, low, high):
    """Bisect an increasing function to the last bit."""
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if f(middle) < 0 else (low, middle)
    return 0.5 * (low + high)


def series(term, count=80):
    """Sum term(0), term(1), ..."""
    return math.fsum(term(k) for k in range(count))


# --------------------------------------------------------------------------------------------- gamma
def hurwitz(s, q, n=24):
    """Sum of (q + k)**-s by Euler and Maclaurin."""
    x, total, factor = q + n, [(q + k) ** -s for k in range(n)], s
    total += [x ** (1 - s) / (s - 1), 0.5 * x**-s]
    for j, b in enumerate(BERNOULLI, 1):
        total.append(b / math.factorial(2 * j) * factor * x ** (1 - s - 2 * j))
        factor *= (s + 2 * j - 1) * (s + 2 * j)
    return math.fsum(total)


def digamma(x, n=24):
    y = x + n
    tail = [math.log(y), -0.5 / y] + [
        -b / (2 * j * y ** (2 * j)) for j, b in enumerate(BERNOULLI, 1)
    ]
    return math.fsum([*tail, *(-1 / (x + k) for k in range(n))])


def polygamma(n, x):
    return digamma(x) if n == 0 else (-1) ** (n + 1) * math.factorial(n) * hurwitz(n + 1, x)


def beta(a, b):
    return math.gamma(a) * math.gamma(b) / math.gamma(a + b)


def gamma_terms(a, x, weight):
    """Sum of x**(a + k) exp(-x) / gamma(a + k + 1), each with a weight of a + k + 1."""
    term, terms = x**a * math.exp(-x) / math.gamma(a + 1), []
    for k in range(70):
        terms.append(term * weight(a + k + 1))
        term *= x / (a + k + 1)
    return math.fsum(terms)


def gammainc(a, x):
    return gamma_terms(a, x, lambda c: 1.0)


def gammainc_da(n, a, x):
    log = math.log(x)
    if n == 1:
        return gamma_terms(a, x, lambda c: log - digamma(c))
    return gamma_terms(a, x, lambda c: (log - digamma(c)) ** 2 - hurwitz(2, c))


def gammaincinv(a, p):
    return root(lambda x: gammainc(a, x) - p, 1e-12, 30.0)


def beta_terms(a, b, x, weight):
    """The expansion of the incomplete beta function at x = 0 in positive terms, with weights."""
    term, terms = x**a * (1 - x) ** b / (a * beta(a, b)), []
    for k in range(300):
        terms.append(term * weight(k))
        term *= x * (a + b + k) / (a + k + 1)
    return math.fsum(terms)


def betainc(a, b, x):
    if x > 0.5:
        return 1 - betainc(b, a, 1 - x)
    return beta_terms(a, b, x, lambda k: 1.0)


def betainc_dab(m, n, a, b, x):
    if x > 0.5:
        return -betainc_dab(n, m, b, a, 1 - x)
    in_a = lambda k: math.log(x) + digamma(a + b + k) - digamma(a + k + 1)  # noqa: E731
    in_b = lambda k: math.log(1 - x) + digamma(a + b + k) - digamma(b)  # noqa: E731
    both = lambda k: in_a(k) * in_b(k) + hurwitz(2, a + b + k)  # noqa: E731
    return beta_terms(a, b, x, {(1, 0): in_a, (0, 1): in_b, (1, 1): both}[m, n])


def betaincinv(a, b, p):
    return root(lambda x: betainc(a, b, x) - p, 1e-9, 1 - 1e-9)


def t_density(df, t):
    front = math.gamma((df + 1) / 2) / (math.sqrt(df * math.pi) * math.gamma(df / 2))
    return front * (1 + t * t / df) ** (-(df + 1) / 2)


def stdtr(df, t):
    return 0.5 + integral(lambda s: t_density(df, s), 0.0, t)


GAMMA = {
    "gammaln": math.lgamma,
    "loggamma": math.lgamma,
    "gamma": math.gamma,
    "rgamma": lambda x: 1 / math.gamma(x),
    "gammasgn": lambda x: 1 if x > 0 or math.floor(x) % 2 == 0 else -1,
    "digamma": digamma,
    "polygamma": polygamma,
    "beta": beta,
    "betaln": lambda a, b: math.log(beta(a, b)),
    "binom": lambda n, k: 1 / ((n + 1) * beta(n - k + 1, k + 1)),
    "poch": lambda z, m: math.gamma(z + m) / math.gamma(z),
    "zeta": hurwitz,
    "gammainc": gammainc,
    "gammaincc": lambda a, x: 1 - gammainc(a, x),
    "gammaincinv": gammaincinv,
    "gammainccinv": lambda a, p: gammaincinv(a, 1 - p),
    "gammainc_da": gammainc_da,
    "betainc": betainc,
    "betaincc": lambda a, b, x: 1 - betainc(a, b, x),
    "betaincinv": betaincinv,
    "betainccinv": lambda a, b, p: betaincinv(a, b, 1 - p),
    "betainc_dab": betainc_dab,
    "stdtr": stdtr,
    "stdtrit": lambda df, p: root(lambda t: stdtr(df, t) - p, -50.0, 50.0),
}


# ---------------------------------------------------------------------------------- error functions
def erfi(x):
    return (
        2
        / math.sqrt(math.pi)
        * series(lambda k: x ** (2 * k + 1) / (math.factorial(k) * (2 * k + 1)))
    )


def ndtr(x):
    return 0.5 * math.erfc(-x / math.sqrt(2))


def gate(x):
    return 1 / (1 + math.exp(-math.sqrt(8 / math.pi) * (x + 0.044715 * x**3)))


ERROR = {
    "erfc": math.erfc,
    "gelu": lambda x: x * ndtr(x),
    "gelu_tanh": lambda x: x * gate(x),
    "gelu_tanh_slope": lambda x: (
        gate(x) * (1 + x * gate(-x) * math.sqrt(8 / math.pi) * (1 + 3 * 0.044715 * x * x))
    ),
    "gelu_slope": lambda x: ndtr(x) + x * math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi),
    "erfcx": lambda x: math.exp(x * x) * math.erfc(x),
    "erfi": erfi,
    "dawsn": lambda x: 0.5 * math.sqrt(math.pi) * math.exp(-x * x) * erfi(x),
    "erfinv": lambda p: root(lambda x: math.erf(x) - p, -6.0, 6.0),
    "erfcinv": lambda p: root(lambda x: p - math.erfc(x), -6.0, 6.0),
    "ndtr": ndtr,
    "ndtri": lambda p: root(lambda x: ndtr(x) - p, -9.0, 9.0),
    "log_ndtr": lambda x: math.log(ndtr(x)),
    "owens_t": lambda h, a: integral(
        lambda x: math.exp(-0.5 * h * h * (1 + x * x)) / (2 * math.pi * (1 + x * x)), 0.0, a
    ),
}


# ---------------------------------------------------------------------------------- logarithms, losses
def boxcox(x, lam):
    return (x**lam - 1) / lam if lam else math.log(x)


def inv_boxcox(y, lam):
    return (1 + lam * y) ** (1 / lam) if lam else math.exp(y)


ENTROPY = {
    "xlogy": lambda x, y: x * math.log(y),
    "xlog1py": lambda x, y: x * math.log1p(y),
    "entr": lambda x: -x * math.log(x),
    "rel_entr": lambda x, y: x * math.log(x / y),
    "kl_div": lambda x, y: x * math.log(x / y) - x + y,
    "logit": lambda p: math.log(p) - math.log1p(-p),
    "log_expit": lambda x: -math.log1p(math.exp(-x)),
    "exp10": lambda x: math.pow(10.0, x),
    "exprel": lambda x: math.expm1(x) / x,
    "powm1": lambda x, y: math.expm1(y * math.log(x)),
    "cosm1": lambda x: -2 * math.sin(x / 2) ** 2,
    "sindg": lambda x: math.sin(math.radians(x)),
    "cosdg": lambda x: math.cos(math.radians(x)),
    "tandg": lambda x: math.tan(math.radians(x)),
    "cotdg": lambda x: 1 / math.tan(math.radians(x)),
    "boxcox": boxcox,
    "boxcox1p": lambda x, lam: boxcox(1 + x, lam),
    "inv_boxcox": inv_boxcox,
    "inv_boxcox1p": lambda y, lam: inv_boxcox(y, lam) - 1,
    "huber": lambda d, r: 0.5 * r * r if abs(r) <= d else d * (abs(r) - 0.5 * d),
    "pseudo_huber": lambda d, r: d * (math.sqrt(d * d + r * r) - d),
}
ORACLES.update({name: entrywise(f) for name, f in (GAMMA | ERROR | ENTROPY).items()})
