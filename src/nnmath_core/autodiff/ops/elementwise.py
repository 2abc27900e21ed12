"""Arithmetic, roots, exponentials, trigonometric and hyperbolic functions: one entry at a time.

A rule `vjp[i](g, xs, y)` multiplies g by the derivative in operand i. It serves forward mode too, so it must be linear
in g, and it may read only what `keeps` names. Constants are Python numbers: a NumPy scalar would promote float32.

A complex cotangent c of z stands for the differential Re(c dz), so a holomorphic function multiplies by its derivative,
without conjugation, in both modes. Where the result is real, the core takes the real part of a tangent.
"""

from __future__ import annotations

import math

import numpy as np

from nnmath_core._ext._autodiff import alias
from nnmath_core.autodiff.ops.compare import equal, isinf, logical_and
from nnmath_core.autodiff.ops.conventions import dtype_of, implements, is_traced, refuse, ufuncs
from nnmath_core.autodiff.ops.select import maximum, minimum, where
from nnmath_core.autodiff.ops.shape import imag, real
from nnmath_core.autodiff.primitive import Primitive, Special, sample

__all__ = [
    "absolute",
    "add",
    "angle",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "cbrt",
    "ceil",
    "conj",
    "cos",
    "cosh",
    "divide",
    "erf",
    "exp",
    "exp2",
    "expit",
    "expm1",
    "floor",
    "floor_divide",
    "hypot",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "multiply",
    "negative",
    "positive",
    "power",
    "reciprocal",
    "remainder",
    "rint",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "subtract",
    "tan",
    "tanh",
    "trunc",
]

_INF = math.inf


def _unary(
    name,
    factor,
    *,
    keeps,
    draw="normal",
    domain="everywhere",
    selects=None,
    special=(),
    forward=None,
):
    """An elementwise primitive of one operand; ``draw`` names that of its samples, or is their interval."""

    def samples(d):
        f = (lambda *s: d.within(*draw, *s)) if isinstance(draw, tuple) else getattr(d, draw)
        return [sample(f(3, 4)), sample(f(0, 4)), sample(f())]

    return Primitive(
        name,
        forward=forward,
        elementwise=True,
        vjp=(factor,),
        keeps=(keeps,),
        selects=selects,
        special=special,
        samples=samples,
        domain=domain,
    )


def _two(d):
    """Samples of a binary primitive: equal shapes, broadcasting both ways, a Python scalar, empty."""
    return [
        sample(d.normal(3, 4), d.normal(3, 4)),
        sample(d.normal(3, 1), d.normal(4)),
        sample(d.normal(2, 3), 0.75),
        sample(d.normal(), d.normal(5)),
        sample(d.normal(0, 3), d.normal(3)),
    ]


def _two_positive(d):
    """As `_two`, in [0.3, 2.3]."""
    return [
        sample(d.positive(3, 4), d.positive(3, 4)),
        sample(d.positive(3, 1), d.positive(4)),
        sample(d.positive(2, 3), 0.75),
        sample(d.positive(), d.positive(5)),
    ]


# ---------------------------------------------------------------------------------------------- arithmetic
add = Primitive(
    "add",
    elementwise=True,
    linear=True,
    vjp=(lambda g, xs, y: g, lambda g, xs, y: g),
    keeps=("", ""),
    samples=_two,
)
subtract = Primitive(
    "subtract",
    elementwise=True,
    linear=True,
    vjp=(lambda g, xs, y: g, lambda g, xs, y: negative(g)),
    keeps=("", ""),
    samples=_two,
)
multiply = Primitive(
    "multiply",
    elementwise=True,
    multilinear=True,
    vjp=(lambda g, xs, y: g * xs[1], lambda g, xs, y: g * xs[0]),
    keeps=("1", "0"),
    samples=_two,
)
divide = Primitive(
    "divide",
    elementwise=True,
    vjp=(lambda g, xs, y: g / xs[1], lambda g, xs, y: -(g * y) / xs[1]),
    keeps=("1", "1y"),
    samples=_two_positive,
    domain="x2 != 0",
)
negative = Primitive(
    "negative",
    elementwise=True,
    linear=True,
    vjp=(lambda g, xs, y: negative(g),),
    keeps=("",),
    samples=lambda d: [sample(d.normal(3, 4)), sample(d.normal(0, 4)), sample(d.normal())],
)
square = _unary("square", lambda g, xs, y: g * (2.0 * xs[0]), keeps="0")
reciprocal = _unary(
    "reciprocal", lambda g, xs, y: g * -(y * y), keeps="y", draw="positive", domain="x != 0"
)


conj = Primitive(
    "conj",
    elementwise=True,
    linear=True,
    vjp=(lambda g, xs, y: conj(g),),
    keeps=("",),
    samples=lambda d: [sample(d.normal(3, 4)), sample(d.normal(0, 4)), sample(d.normal())],
)


def conjugated(x):
    """The complex conjugate; a real x itself, not a copy."""
    return conj(x) if dtype_of(x).kind == "c" else x


def _direction(x):
    """The sign of a real x; z/|z| of a complex one, which is 0 at 0, and so are its derivatives."""
    if dtype_of(x).kind != "c":
        return sign_p(x)
    r = absolute(x)
    return x / where(equal(r, 0), _INF, r)


absolute = _unary(
    "absolute",
    lambda g, xs, y: g * conjugated(_direction(xs[0])),
    keeps="0",
    draw="apart",
    special=[Special("|x| at 0: 0, the subgradient of least norm", (0.0,), (0.0,))],
    domain="everywhere; 0 at 0 by convention",
)
sign_p = Primitive(
    "sign",
    elementwise=True,
    differentiable=False,
    samples=lambda d: [sample(d.apart(3, 4)), sample(d.apart(1))],
)


def sign(x, /, **kw):
    """NumPy's ``sign``: z/|z| of a complex array, which has a derivative; a real one's carries none."""
    if is_traced(x) and dtype_of(x).kind == "c":
        refuse("sign", **{name: (value, None) for name, value in kw.items()})
        return _direction(x)
    return sign_p(x, **kw)


floor = Primitive(
    "floor",
    elementwise=True,
    differentiable=False,
    samples=lambda d: [sample(d.normal(3, 4)), sample(d.normal())],
)
ceil = Primitive(
    "ceil",
    elementwise=True,
    differentiable=False,
    samples=lambda d: [sample(d.normal(3, 4)), sample(d.normal())],
)
trunc = Primitive(
    "trunc",
    elementwise=True,
    differentiable=False,
    samples=lambda d: [sample(d.normal(3, 4)), sample(d.normal())],
)
rint = Primitive(
    "rint",
    elementwise=True,
    differentiable=False,
    samples=lambda d: [sample(d.normal(3, 4)), sample(d.normal())],
)
floor_divide = Primitive(
    "floor_divide", elementwise=True, differentiable=False, samples=_two_positive
)
remainder = Primitive(
    "remainder",
    elementwise=True,
    vjp=(lambda g, xs, y: g, lambda g, xs, y: -(g * floor_divide(xs[0], xs[1]))),
    keeps=("", "01"),
    samples=lambda d: [
        sample(np.array([0.5, 1.7, -2.2]), np.array([0.7, 0.6, 0.9])),
        sample(np.array([[0.5], [-1.3]]), np.array([0.4, -0.8])),
        sample(np.array([2.3, -0.4]), 0.75),
    ],
    domain="x1 / x2 is no integer; 1 in x1 there, as beside it",
)


# ---------------------------------------------------------------------------------------------- powers, roots
def _power_base(g, xs, y):
    x, p = xs
    if isinstance(p, (int, float)):  # a plain exponent: no 0 * inf at x = 0
        if p == 0:
            return g * 0.0
        return g if p == 1 else g * (p * power(x, p - 1))
    # only at x = 0 too: elsewhere p = 0 is a regular point, whose second derivatives are not 0
    constant = logical_and(equal(p, 0), equal(x, 0))
    return where(constant, g * 0.0, g * (p * power(where(constant, 1.0, x), p - 1)))


def _power_exponent(g, xs, y):
    x = xs[0]
    if dtype_of(y).kind == "c" and dtype_of(x).kind != "c":
        x = x + 0j  # a negative base has a complex logarithm
    # log(1) where x = 0: there y = 0 for a positive exponent and the derivative is 0
    if isinstance(x, (int, float)):
        return g * (y * (math.log(x) if x > 0 else 0.0 if x == 0 else math.nan))
    return g * (y * log(where(equal(x, 0), 1.0, x)))


power = Primitive(
    "power",
    elementwise=True,
    vjp=(_power_base, _power_exponent),
    keeps=("01", "0y"),
    samples=lambda d: [
        sample(d.positive(3, 4), d.normal(3, 4)),
        sample(d.positive(3, 1), d.normal(4)),
        sample(d.positive(2, 3), 3),
        sample(d.positive(4), 0.5),
        sample(1.7, d.normal(5)),
        sample(d.positive(3), np.array([0.0, 1.0, 2.0])),
    ],
    special=[
        Special("x**0 at x = 0: 0 in x", (0.0, 0), (0.0, None)),
        Special("x**1 at x = 0: 1 in x", (0.0, 1), (1.0, None)),
        Special("x**2 at x = 0: 0 in x", (0.0, 2), (0.0, None)),
        Special("x**p at x = 0, p > 0: 0 in p", (0.0, 2.0), (0.0, 0.0)),
    ],
    domain="x1 > 0; in x1 alone wherever the power is smooth",
)
sqrt = _unary(
    "sqrt",
    lambda g, xs, y: g * (0.5 / y),
    keeps="y",
    draw="positive",
    special=[Special("sqrt at 0: inf, the limit", (0.0,), (_INF,))],
    domain="x > 0; inf at 0, the limit",
)
cbrt = _unary(
    "cbrt",
    lambda g, xs, y: g / (3.0 * square(y)),
    keeps="y",
    draw=(-2.3, -0.3),
    special=[Special("cbrt at 0: inf, the limit", (0.0,), (_INF,))],
    domain="x != 0; inf at 0, the limit",
)


def _hypot_factor(i):
    def rule(g, xs, y):
        zero = equal(y, 0)
        return where(zero, 0.0, g * divide(xs[i], where(zero, 1.0, y)))

    return rule


hypot = Primitive(
    "hypot",
    elementwise=True,
    vjp=(_hypot_factor(0), _hypot_factor(1)),
    keeps=("0y", "1y"),
    samples=_two_positive,
    special=[Special("hypot at (0, 0): 0, the subgradient of least norm", (0.0, 0.0), (0.0, 0.0))],
    domain="everywhere; 0 at (0, 0) by convention",
)

# ---------------------------------------------------------------------------------------------- exp and log
exp = _unary("exp", lambda g, xs, y: g * y, keeps="y")
exp2 = _unary("exp2", lambda g, xs, y: g * (math.log(2.0) * y), keeps="y")
expm1 = _unary("expm1", lambda g, xs, y: g * exp(xs[0]), keeps="0")  # y + 1 would cancel beside -1
log = _unary(
    "log",
    lambda g, xs, y: g / xs[0],
    keeps="0",
    draw="positive",
    special=[Special("log at 0: inf, the limit", (0.0,), (_INF,))],
    domain="x > 0; inf at 0, the limit",
)
log2 = _unary(
    "log2", lambda g, xs, y: g / (math.log(2.0) * xs[0]), keeps="0", draw="positive", domain="x > 0"
)
log10 = _unary(
    "log10",
    lambda g, xs, y: g / (math.log(10.0) * xs[0]),
    keeps="0",
    draw="positive",
    domain="x > 0",
)
log1p = _unary(
    "log1p",
    lambda g, xs, y: g / (xs[0] + 1.0),
    keeps="0",
    draw="positive",
    special=[Special("log1p at -1: inf, the limit", (-1.0,), (_INF,))],
    domain="x > -1; inf at -1, the limit",
)


def _logaddexp_factor(i):
    def rule(g, xs, y):
        a, b = xs[i], xs[1 - i]
        # equal infinities, whose difference is NaN, share equally
        same = logical_and(equal(a, b), isinf(a))
        d = a - where(same, 0.0, b) if hasattr(b, "shape") else where(same, 0.0, a) - b
        return where(same, g * 0.5, g * expit(d))

    return rule


logaddexp = Primitive(
    "logaddexp",
    forward="logaddexp",
    elementwise=True,
    vjp=(_logaddexp_factor(0), _logaddexp_factor(1)),
    keeps=("01", "01"),
    samples=_two,
    special=[
        Special("logaddexp(-inf, x): 0 and 1", (-_INF, 1.0), (0.0, 1.0)),
        Special("logaddexp of equal infinities: shared equally", (-_INF, -_INF), (0.5, 0.5)),
    ],
)

# ---------------------------------------------------------------------------------------------- trigonometric
sin = _unary("sin", lambda g, xs, y: g * cos(xs[0]), keeps="0")
cos = _unary("cos", lambda g, xs, y: g * -sin(xs[0]), keeps="0")
tan = _unary(
    "tan", lambda g, xs, y: g * (1.0 + square(y)), keeps="y", draw=(-1.2, 1.2), domain="cos(x) != 0"
)


def _one_minus_square(x):
    return (1.0 - x) * (1.0 + x)  # 1 - x**2 would cancel beside 1


arcsin = _unary(
    "arcsin",
    lambda g, xs, y: g / sqrt(_one_minus_square(xs[0])),
    keeps="0",
    draw=(-0.9, 0.9),
    domain="|x| < 1",
)
arccos = _unary(
    "arccos",
    lambda g, xs, y: -g / sqrt(_one_minus_square(xs[0])),
    keeps="0",
    draw=(-0.9, 0.9),
    domain="|x| < 1",
)
arctan = _unary("arctan", lambda g, xs, y: g / (1.0 + square(xs[0])), keeps="0")


def _arctan2_factor(i):
    def rule(g, xs, y):
        r = hypot(xs[0], xs[1])  # its square would overflow, or vanish beside (0, 0)
        zero = equal(r, 0)
        r = where(zero, 1.0, r)
        f = divide(divide(xs[1 - i], r), r)
        return where(zero, 0.0, g * f if i == 0 else g * -f)

    return rule


arctan2 = Primitive(
    "arctan2",
    elementwise=True,
    vjp=(_arctan2_factor(0), _arctan2_factor(1)),
    keeps=("01", "01"),
    samples=_two_positive,
    special=[Special("arctan2 at (0, 0): 0 in both", (0.0, 0.0), (0.0, 0.0))],
    domain="everywhere; 0 at (0, 0) by convention",
)
sinh = _unary("sinh", lambda g, xs, y: g * cosh(xs[0]), keeps="0")
cosh = _unary("cosh", lambda g, xs, y: g * sinh(xs[0]), keeps="0")
tanh = _unary("tanh", lambda g, xs, y: g * (1.0 - y * y), keeps="y")


def _root_of_one_plus_square(x):
    if dtype_of(x).kind == "c":
        return sqrt(1.0 - 1j * x) * sqrt(1.0 + 1j * x)
    return hypot(x, 1.0)  # the square would overflow


arcsinh = _unary("arcsinh", lambda g, xs, y: g / _root_of_one_plus_square(xs[0]), keeps="0")
arccosh = _unary(
    "arccosh",
    lambda g, xs, y: g / (sqrt(xs[0] - 1.0) * sqrt(xs[0] + 1.0)),
    keeps="0",
    draw=(1.2, 3.0),
    domain="x > 1",
)
arctanh = _unary(
    "arctanh",
    lambda g, xs, y: g / _one_minus_square(xs[0]),
    keeps="0",
    draw=(-0.9, 0.9),
    domain="|x| < 1",
)

# ---------------------------------------------------------------------------------------------- special functions
erf = _unary(
    "erf",
    lambda g, xs, y: g * ((2.0 / math.sqrt(math.pi)) * exp(-square(xs[0]))),
    keeps="0",
    forward="special.erf",
)
expit = _unary("expit", lambda g, xs, y: g * (y * (1.0 - y)), keeps="y", forward="special.expit")


def positive(x):
    """A copy of x, as NumPy's unary plus."""
    return multiply(x, 1)


@implements(np.angle)
def angle(z, deg=False):
    """NumPy's ``angle``: the argument of a complex number, in (-pi, pi]; its derivative at 0 is 0."""
    z = alias(z)  # the parts, which are views, stay here
    a = arctan2(imag(z), real(z))
    return a * (180.0 / math.pi) if deg else a


ufuncs.update(
    {
        np.add: add, np.subtract: subtract, np.multiply: multiply, np.divide: divide, np.negative: negative,
        np.positive: positive, np.square: square, np.reciprocal: reciprocal, np.absolute: absolute,
        np.fabs: absolute, np.conjugate: conj, np.sign: sign, np.floor: floor, np.ceil: ceil, np.trunc: trunc,
        np.rint: rint,
        np.floor_divide: floor_divide, np.remainder: remainder, np.power: power,
        np.sqrt: sqrt, np.cbrt: cbrt, np.hypot: hypot, np.exp: exp, np.exp2: exp2, np.expm1: expm1, np.log: log,
        np.log2: log2, np.log10: log10, np.log1p: log1p, np.logaddexp: logaddexp, np.sin: sin, np.cos: cos,
        np.tan: tan, np.arcsin: arcsin, np.arccos: arccos, np.arctan: arctan, np.arctan2: arctan2, np.sinh: sinh,
        np.cosh: cosh, np.tanh: tanh, np.arcsinh: arcsinh, np.arccosh: arccosh, np.arctanh: arctanh,
        np.maximum: maximum, np.minimum: minimum,
    }
)  # fmt: skip
