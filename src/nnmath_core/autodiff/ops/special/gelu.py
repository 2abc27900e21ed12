"""GELU, x P(Z <= x) of a standard normal Z, its form by tanh, and their slopes: loops of the vector family.

A derivative keeps x alone: what a composition of functions would keep, a program writes and reads again.

Beyond 40 the tail is 0 in float64, too: there the argument of what would overflow is cut.
"""

from __future__ import annotations

import math

from nnmath_core.autodiff.ops.compare import less
from nnmath_core.autodiff.ops.elementwise import absolute, exp, expit, square
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.primitive import Primitive, sample

__all__ = ["CUBIC", "SLOPE", "gelu", "gelu_slope", "gelu_tanh", "gelu_tanh_slope"]

_FAR = 40.0
_ROOT_HALF = math.sqrt(0.5)
_DENSITY = 1.0 / math.sqrt(2.0 * math.pi)


def _forward(be, x):
    return 0.5 * x * be.special.erfc(-_ROOT_HALF * be.xp.clip(x, -_FAR, _FAR))


def _slope_forward(be, x):
    near = be.xp.clip(x, -_FAR, _FAR)
    density = _DENSITY * be.xp.exp(-0.5 * be.xp.square(near))
    return 0.5 * be.special.erfc(-_ROOT_HALF * near) + near * density


def _curvature(x):
    """The derivative of the slope, (2 - x^2) density(x)."""
    z = square(where(less(_FAR, absolute(x)), _FAR, x))  # NaN stays
    return (2.0 - z) * (_DENSITY * exp(-0.5 * z))


# The form by tanh is x sigmoid(v), v = a (x + c x^3): (1 + tanh(v / 2)) / 2 = sigmoid(v), which does not cancel.
SLOPE = math.sqrt(8.0 / math.pi)
CUBIC = 0.044715  # Hendrycks & Gimpel, "Gaussian Error Linear Units (GELUs)", 2016, section 2


def _gate(be, near):
    return be.special.expit(SLOPE * (near * (1.0 + CUBIC * be.xp.square(near))))


def _tanh_forward(be, x):
    return x * _gate(be, be.xp.clip(x, -_FAR, _FAR))


def _tanh_slope_forward(be, x):
    near = be.xp.clip(x, -_FAR, _FAR)
    s = _gate(be, near)
    return s + near * (s * (1.0 - s)) * (SLOPE * (1.0 + 3.0 * CUBIC * be.xp.square(near)))


def _tanh_curvature(x):
    """By s' (2 v' + x ((1 - 2 s) v'^2 + v'')) with s = sigmoid(v), s' = s (1 - s)."""
    near = where(less(_FAR, absolute(x)), _FAR, x)
    z = square(near)
    s = expit(SLOPE * (near * (1.0 + CUBIC * z)))
    first = SLOPE * (1.0 + 3.0 * CUBIC * z)
    bend = near * ((1.0 - 2.0 * s) * square(first) + 6.0 * SLOPE * CUBIC * near)
    return (s * (1.0 - s)) * (2.0 * first + bend)


gelu, gelu_slope, gelu_tanh, gelu_tanh_slope = (
    Primitive(
        name,
        forward=forward,
        elementwise=True,
        vjp=(rule,),
        keeps=("0",),
        samples=lambda d: [sample(d.normal(5)), sample(d.normal(0)), sample(d.normal())],
    )
    for name, forward, rule in (
        ("gelu", _forward, lambda g, xs, y: g * gelu_slope(xs[0])),
        ("gelu_slope", _slope_forward, lambda g, xs, y: g * _curvature(xs[0])),
        ("gelu_tanh", _tanh_forward, lambda g, xs, y: g * gelu_tanh_slope(xs[0])),
        ("gelu_tanh_slope", _tanh_slope_forward, lambda g, xs, y: g * _tanh_curvature(xs[0])),
    )
)
