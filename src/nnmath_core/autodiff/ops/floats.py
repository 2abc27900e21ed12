"""Functions of floating numbers one entry at a time: the rest of NumPy's ufuncs, `sinc`, `nan_to_num`, `unwrap`.

Most are compositions; a primitive stands where a composition would lose digits.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from nnmath_core.autodiff.ops.compare import (
    equal,
    greater,
    isinf,
    isnan,
    less,
    logical_and,
    logical_not,
    signbit,
)
from nnmath_core.autodiff.ops.conventions import (
    as_operand,
    constant,
    dtype_of,
    ndim_of,
    normal_axis,
    operands,
    refuse,
    shape_of,
    ufuncs,
)
from nnmath_core.autodiff.ops.elementwise import (
    absolute,
    expit,
    floor_divide,
    power,
    remainder,
    trunc,
)
from nnmath_core.autodiff.ops.join import concatenate_p
from nnmath_core.autodiff.ops.plain import numpys
from nnmath_core.autodiff.ops.reduce import cumsum, diff
from nnmath_core.autodiff.ops.select import maximum, minimum, where
from nnmath_core.autodiff.ops.shape import (
    broadcast_to,
    cast,
    copied,
    floating,
    imag,
    real,
    stop_gradient,
)
from nnmath_core.autodiff.primitive import REGISTRY, Primitive, Special, sample
from nnmath_core.errors import DtypeError

__all__ = [
    "copysign",
    "deg2rad",
    "divmod",
    "fabs",
    "fix",
    "float_power",
    "fmax",
    "fmin",
    "fmod",
    "frexp",
    "heaviside",
    "i0",
    "iscomplex",
    "isneginf",
    "isposinf",
    "isreal",
    "ldexp",
    "logaddexp2",
    "modf",
    "nan_to_num",
    "nextafter",
    "rad2deg",
    "real_if_close",
    "sinc",
    "spacing",
    "unwrap",
]

_INF = math.inf
_LN2 = math.log(2.0)


def _require_real(who, *xs):
    for x in xs:
        if dtype_of(x).kind == "c":
            raise DtypeError(
                f"{who}: operands must be real, got {dtype_of(x)}. Take the parts: x.real, x.imag."
            )


def _result_type(*xs):
    return np.result_type(
        *[x if isinstance(x, (int, float)) else dtype_of(x) for x in xs], np.float16
    )


# ---------------------------------------------------------------------------------------------- division
fmod = Primitive(
    "fmod",
    elementwise=True,
    vjp=(lambda g, xs, y: g, lambda g, xs, y: -(g * trunc(xs[0] / xs[1]))),
    keeps=("", "01"),
    samples=lambda d: [
        sample(np.array([0.5, 1.7, -2.2]), np.array([0.7, 0.6, 0.9])),
        sample(np.array([[0.5], [-1.3]]), np.array([0.4, -0.8])),
        sample(np.array([2.3, -0.4]), 0.75),
    ],
    special=[Special("fmod at a multiple: 1, as beside it away from 0", (2.0, 1.0), (1.0, -2.0))],
    domain="x1 / x2 is no integer; 1 in x1 there, as beside it",
)


@numpys(np.divmod)
def divmod(x1, x2, /):
    """NumPy's ``divmod``: `floor_divide`, which carries no derivative, and `remainder`."""
    return floor_divide(x1, x2), remainder(x1, x2)


@numpys(np.modf)
def modf(x, /):
    """NumPy's ``modf``: the fractional part, whose derivative is 1, and the whole part, which carries none."""
    infinite = isinf(x)
    part = where(infinite, 0.0, fmod(where(infinite, 1.0, x), 1.0))
    return where(logical_and(infinite, signbit(x)), -0.0, part), trunc(x)


# ---------------------------------------------------------------------------------------------- bits of numbers
ldexp = Primitive(
    "ldexp",
    elementwise=True,
    multilinear=True,
    vjp=(lambda g, xs, y: ldexp(g, xs[1]), None),
    keeps=("1", ""),
    samples=lambda d: [
        sample(d.normal(3, 4), d.index(5, 3, 4)),
        sample(d.normal(3, 1), d.index(5, 4)),
        sample(d.normal(3), 2),
        sample(d.normal(0, 2), d.index(3, 2)),
    ],
)
exponent = Primitive(
    "exponent",
    forward=lambda be, x: be.xp.frexp(x)[1],
    elementwise=True,
    differentiable=False,
    samples=lambda d: [sample(d.apart(3, 4)), sample(np.array([0.0, 1.0, -0.75, 12.0]))],
)
"""The second result of `frexp`: the power of two of which the first one, in [0.5, 1), is the multiple."""


@numpys(np.frexp)
def frexp(x, /):
    """NumPy's ``frexp``: the mantissa, with derivative ``2**-exponent``, and the exponent, which carries none."""
    e = exponent(x)
    return ldexp(x, -e), e


nextafter = Primitive(
    "nextafter",
    elementwise=True,
    vjp=(lambda g, xs, y: g, lambda g, xs, y: 0.0 * g),  # the step is constant beside x
    keeps=("", ""),
    samples=lambda d: [
        sample(d.normal(3, 4), d.normal(3, 4)),
        sample(d.normal(3, 1), np.array([np.inf, -np.inf, 0.0])),
    ],
)


def _spacing_forward(be, x):
    if be.xp is np:
        return np.spacing(x)
    size = abs(x)  # CuPy has no function of this name
    return be.xp.copysign(be.xp.nextafter(size, be.xp.full_like(size, _INF)) - size, x)


spacing = Primitive(
    "spacing",
    forward=_spacing_forward,
    elementwise=True,
    differentiable=False,
    samples=lambda d: [sample(d.apart(3, 4)), sample(np.array([0.0, 1.0, -2.0, 3.0]))],
)


@numpys(np.copysign)
def copysign(x1, x2, /):
    """NumPy's ``copysign``: |x1| with the sign of x2, in which it has no derivative; 0 at x1 = 0, as |x1|."""
    _require_real("copysign", x1, x2)
    size = cast(absolute(x1), _result_type(x1, x2))
    return where(signbit(x2), -size, size)


@numpys(np.fabs)
def fabs(x, /):
    """NumPy's ``fabs``: the absolute value of real numbers; its derivative at 0 is 0."""
    _require_real("fabs", x)
    return absolute(x if dtype_of(x).kind == "f" else cast(x, np.result_type(dtype_of(x), 0.5)))


# ---------------------------------------------------------------------------------------------- selections
def _ignoring_nan(beats):
    def f(x1, x2, /):
        return where(isnan(x1), x2, where(isnan(x2), x1, beats(x1, x2)))

    return f


@numpys(np.fmax)
def fmax(x1, x2, /):
    """NumPy's ``fmax``: the larger operand, which is not NaN unless both are; ties share the derivative equally."""
    return _ignoring_nan(maximum)(x1, x2)


@numpys(np.fmin)
def fmin(x1, x2, /):
    """NumPy's ``fmin``: the smaller operand, which is not NaN unless both are; ties share the derivative equally."""
    return _ignoring_nan(minimum)(x1, x2)


@numpys(np.heaviside)
def heaviside(x1, x2, /):
    """NumPy's ``heaviside``: 0 or 1, and x2 where x1 is 0: there it has a derivative in x2; in x1 it is 0."""
    _require_real("heaviside", x1, x2)
    x1 = stop_gradient(x1)
    step = cast(greater(x1, 0), _result_type(x1, x2))
    return where(equal(x1, 0), x2, where(isnan(x1), x1, step))


@numpys(np.nan_to_num)
def nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None):
    """NumPy's ``nan_to_num``; what is replaced is a structural zero."""
    x = as_operand(x)
    kind = dtype_of(x).kind
    if kind == "c":
        options = (True, nan, posinf, neginf)
        return nan_to_num(real(x), *options) + 1j * nan_to_num(imag(x), *options)
    if kind != "f":
        return copied(x)
    limits = np.finfo(dtype_of(x))
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    infinite = isinf(x)
    x = where(logical_and(infinite, greater(x, 0)), cast_like(high, x), x)
    x = where(logical_and(infinite, less(x, 0)), cast_like(low, x), x)
    return where(isnan(x), cast_like(nan, x), x)


def cast_like(value, x):
    """A replacement in the dtype of x; Python numbers take it by themselves."""
    value = as_operand(value)
    return value if isinstance(value, (int, float, complex)) else cast(value, dtype_of(x))


# ---------------------------------------------------------------------------------------------- arithmetic
def _scaled(name, factor, text):
    def f(x, /):
        _require_real(name, x)
        return x * factor

    f.__name__ = f.__qualname__ = name
    f.__doc__ = f"NumPy's ``{name}``: {text}."
    return f


deg2rad = numpys(np.deg2rad, np.radians)(_scaled("deg2rad", math.pi / 180.0, "degrees in radians"))
rad2deg = numpys(np.rad2deg, np.degrees)(_scaled("rad2deg", 180.0 / math.pi, "radians in degrees"))


@numpys(np.float_power)
def float_power(x1, x2, /):
    """NumPy's ``float_power``: `power` in float64, or in complex128."""
    wide = [np.result_type(dtype_of(x), np.float64) for x in (x1, x2)]
    return power(*(cast(x, t) for x, t in zip((x1, x2), wide, strict=True)))


def _logaddexp2_factor(i):
    def rule(g, xs, y):
        a, b = xs[i], xs[1 - i]
        # equal infinities, whose difference is NaN, share equally
        same = logical_and(equal(a, b), isinf(a))
        d = a - where(same, 0.0, b) if hasattr(b, "shape") else where(same, 0.0, a) - b
        return where(same, g * 0.5, g * expit(_LN2 * d))

    return rule


logaddexp2 = Primitive(
    "logaddexp2",
    elementwise=True,
    vjp=(_logaddexp2_factor(0), _logaddexp2_factor(1)),
    keeps=("01", "01"),
    samples=lambda d: [
        sample(d.normal(3, 4), d.normal(3, 4)),
        sample(d.normal(3, 1), d.normal(4)),
        sample(d.normal(2, 3), 0.75),
    ],
    special=[
        Special("logaddexp2(-inf, x): 0 and 1", (-_INF, 1.0), (0.0, 1.0)),
        Special("logaddexp2 of equal infinities: shared equally", (-_INF, -_INF), (0.5, 0.5)),
    ],
)


# ---------------------------------------------------------------------------------------------- sinc
def _sinc_forward(be, x, order):
    """The derivative of ``sin(pi x) / (pi x)`` of an order, without cancellation near 0.

    With u = pi x, f = sin(u)/u and its derivatives satisfy u f_k + k f_{k-1} = sin(u + k pi/2), a recurrence that
    loses a factor k!/|u|^k; below |u| = 1 + k/2 the series with terms (-1)^j u^(2j-k) / ((2j+1) (2j-k)!) takes over.
    """
    xp = be.xp
    if order == 0:
        return xp.sinc(x)
    u = math.pi * x
    edge = 1.0 + order / 2
    small = abs(u) <= edge
    far = xp.where(small, xp.ones_like(u), u)
    sine, cosine = xp.sin(far), xp.cos(far)
    f = sine / far
    for k in range(1, order + 1):
        f = ((sine, cosine, -sine, -cosine)[k % 4] - k * f) / far
    t = xp.where(small, u, xp.zeros_like(u))
    j = (order + 1) // 2
    m = 2 * j - order
    term, size, total = (t if m else xp.ones_like(t)), edge**m, 0.0
    while size * (order + 1) > 1e-18:
        total = total + (-1) ** j / (2 * j + 1) * term
        j, m = j + 1, m + 2
        term = term * (t * t) / (m * (m - 1))
        size = size * edge**2 / (m * (m - 1))
    return math.pi**order * xp.where(small, total, f)


@functools.cache
def _sinc_of(order):
    """The derivative of sinc of an order as a primitive, whose rule is the next one."""
    return Primitive(
        f"sinc_{order}" if order else "sinc",
        forward=lambda be, x: _sinc_forward(be, x, order),
        elementwise=True,
        vjp=(lambda g, xs, y: g * _sinc_of(order + 1)(xs[0]),),
        keeps=("0",),
        samples=lambda d: [
            sample(d.normal(3, 4)),
            sample(d.normal(0, 4)),
            sample(d.normal()),
        ],
        special=[Special("sinc at 0: 0, the limit", (0.0,), (0.0,))],
        register=order == 0,
    )


sinc_p = _sinc_of(0)


@numpys(np.sinc)
def sinc(x):
    """NumPy's ``sinc``: sin(pi x) / (pi x); the derivatives of every order are exact at 0 and near it."""
    return sinc_p(floating(x))


@numpys(np.i0)
def i0(x):
    """NumPy's ``i0``: the modified Bessel function of order 0, whose derivative is that of order 1."""
    x = floating(x)
    if dtype_of(x).kind == "c":
        raise TypeError("i0 not supported for complex values")
    return REGISTRY["i0"](x)


# ---------------------------------------------------------------------------------------------- without derivative
@numpys(np.fix)
def fix(x, out=None):
    """NumPy's ``fix``: rounding towards 0; it carries no derivative."""
    refuse("fix", out=(out, None))
    return trunc(as_operand(x))


@numpys(np.isposinf)
def isposinf(x, out=None):
    """NumPy's ``isposinf``."""
    refuse("isposinf", out=(out, None))
    return logical_and(isinf(x), logical_not(signbit(x)))


@numpys(np.isneginf)
def isneginf(x, out=None):
    """NumPy's ``isneginf``."""
    refuse("isneginf", out=(out, None))
    return logical_and(isinf(x), signbit(x))


@numpys(np.isreal)
def isreal(x):
    """NumPy's ``isreal``: where the imaginary part is 0."""
    x = as_operand(x)
    if dtype_of(x).kind != "c":
        return constant(x, shape_of(x), True, np.bool_)
    return equal(imag(x), 0)


@numpys(np.iscomplex)
def iscomplex(x):
    """NumPy's ``iscomplex``: where the imaginary part is not 0."""
    return logical_not(isreal(x))


@numpys(np.real_if_close)
def real_if_close(a, tol=100):
    """NumPy's ``real_if_close``: the real part of a when all imaginary parts are small, so it needs values."""
    a = as_operand(a)
    if dtype_of(a).kind != "c":
        return a
    if tol > 1:
        tol = tol * float(np.finfo(dtype_of(a)).eps)
    far = logical_not(less(absolute(stop_gradient(imag(a))), tol))
    return a if far.any() else real(a)


@numpys(np.unwrap)
def unwrap(p, discont=None, axis=-1, *, period=2 * math.pi):
    """NumPy's ``unwrap``: p plus whole periods, so its derivative is that of p."""
    p, discont, period = operands(p, discont, period)
    axis = normal_axis("unwrap", axis, ndim_of(p))
    step = diff(stop_gradient(p), axis=axis)
    discont = period / 2 if discont is None else discont
    whole = dtype_of(p).kind in "iu" and dtype_of(period).kind in "iu"
    high = period // 2 if whole else period / 2
    rest = remainder(step + high, period) - high
    if not whole or period % 2 == 0:
        rest = where(logical_and(equal(rest, -high), greater(step, 0)), high, rest)
    jump = where(less(absolute(step), discont), 0, rest - step)
    s = shape_of(p)
    first = broadcast_to(
        constant(p, (), 0, dtype_of(jump)), (*s[:axis], min(1, s[axis]), *s[axis + 1 :])
    )
    return p + concatenate_p(first, cumsum(jump, axis), axis=axis)


ufuncs.update(
    {
        np.fmod: fmod,
        np.ldexp: ldexp,
        np.nextafter: nextafter,
        np.spacing: spacing,
        np.logaddexp2: logaddexp2,
    }
)
