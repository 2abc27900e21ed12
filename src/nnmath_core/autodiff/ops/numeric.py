"""Numerical functions of sampled data (`interp`, `gradient`, `trapezoid`, `ediff1d`), and `cross` and `kron`."""

from __future__ import annotations

import numpy as np

from nnmath_core._ext._autodiff import Tracer, value_of
from nnmath_core.autodiff.ops.compare import (
    equal,
    greater,
    greater_equal,
    isnan,
    less,
    logical_and,
    logical_not,
)
from nnmath_core.autodiff.ops.conventions import (
    as_operand,
    dtype_of,
    is_known,
    ndim_of,
    normal_axes,
    normal_axis,
    operands,
    shape_of,
)
from nnmath_core.autodiff.ops.counting import searchsorted_p
from nnmath_core.autodiff.ops.elementwise import remainder
from nnmath_core.autodiff.ops.index import argsort, take
from nnmath_core.autodiff.ops.join import concatenate, stack
from nnmath_core.autodiff.ops.plain import numpys
from nnmath_core.autodiff.ops.reduce import diff, sum
from nnmath_core.autodiff.ops.select import clip, where
from nnmath_core.autodiff.ops.shape import (
    broadcast_to,
    cast,
    floating,
    moveaxis,
    ravel,
    reshape_p,
    stop_gradient,
)
from nnmath_core.errors import ShapeError

__all__ = ["cross", "ediff1d", "gradient", "interp", "kron", "trapezoid"]


# ---------------------------------------------------------------------------------------------- interpolation
@numpys(np.interp)
def interp(x, xp, fp, left=None, right=None, period=None):
    """NumPy's ``interp``: piecewise linear, with derivatives in x, xp, fp, left and right.

    At a knot the slope in x is that of the interval on its right, at the last knot that on its left; outside it is 0.
    Where the heights or knots are infinite the values are NumPy's; a knot beside an infinite slope has slope 0 in x.
    """
    x, xp, fp = operands(x, xp, fp)
    x, xp, fp = (cast(v, np.result_type(dtype_of(v), np.float64)) for v in (x, xp, fp))
    if ndim_of(xp) != 1 or shape_of(xp) != shape_of(fp):
        raise ValueError(
            f"interp: `xp` and `fp` must have one axis and the same length, got {shape_of(xp)} and {shape_of(fp)}."
        )
    if shape_of(xp)[0] == 0:
        raise ValueError("array of sample points is empty")
    if period is not None:
        if not isinstance(period, Tracer) and period == 0:
            raise ValueError("period must be a non-zero value")
        period, left, right = abs(period), None, None
        x, xp = remainder(x, period), remainder(xp, period)
        order = argsort(xp)
        xp, fp = take(xp, order, 0), take(fp, order, 0)
        xp = concatenate([xp[-1:] - period, xp, xp[:1] + period])
        fp = concatenate([fp[-1:], fp, fp[:1]])
    n = shape_of(xp)[0]
    low = fp[0] if left is None else left
    high = fp[-1] if right is None else right
    below, above = less(x, xp[0]), greater(x, xp[-1])
    if n == 1:
        inside = broadcast_to(fp[0], shape_of(x))
    else:
        place = searchsorted_p(stop_gradient(xp), stop_gradient(x), side="right")
        inside = _between(x, xp, fp, clip(place - 1, 0, n - 2), place, n)
    return where(below, low, where(above, high, inside))


def _between(x, xp, fp, i, place, n):
    """Value at the nearest knot plus slope times the distance from it; an interval without length has slope 0."""
    x0, f0, x1, f1 = take(xp, i, 0), take(fp, i, 0), take(xp, i + 1, 0), take(fp, i + 1, 0)
    width = x1 - x0
    none = equal(width, 0)
    slope = where(none, 0.0, (f1 - f0) / where(none, 1.0, width))
    last = greater_equal(place, n)  # at and beyond the last knot: its value is exact there
    start, knot = where(last, fp[-1], f0), where(last, xp[-1], x0)
    y = start + slope * (x - knot)
    v = value_of(y)
    if is_known(y) and isinstance(v, (np.ndarray, np.generic)) and not np.isnan(v).any():
        return y
    # infinite numbers: NumPy takes the value at a knot, then the line from the other end, then what both ends say
    level = logical_and(equal(f0, f1), logical_not(isnan(x)))
    other = f1 + slope * (x - x1)
    other = where(logical_and(isnan(other), level), f0, other)
    return where(isnan(y), where(equal(x, knot), start, other), y)


# ---------------------------------------------------------------------------------------------- differences
@numpys(np.gradient)
def gradient(f, *varargs, axis=None, edge_order=1):
    """NumPy's ``gradient``: central differences, one-sided ones of order ``edge_order`` at the ends.

    Linear in f; the spacing may be traced, too.
    """
    f = floating(f)
    single = axis is not None and not isinstance(axis, tuple)
    if axis is None:
        axes = tuple(range(ndim_of(f)))
    else:
        axes = tuple(
            normal_axis("gradient", a, ndim_of(f))
            for a in (axis if isinstance(axis, tuple) else (axis,))
        )
        normal_axes("gradient", axes, ndim_of(f))
    if edge_order > 2:
        raise ValueError("'edge_order' greater than 2 not supported")
    spacings = _spacings(f, axes, varargs)
    parts = tuple(_slope(f, h, a, edge_order) for a, h in zip(axes, spacings, strict=True))
    return parts[0] if single or len(parts) == 1 else parts


def _spacings(f, axes, varargs):
    """For each axis a number, or the distances of its coordinates."""
    if not varargs:
        return [1.0] * len(axes)
    if len(varargs) == 1 and ndim_of(as_operand(varargs[0])) == 0:
        return list(varargs) * len(axes)
    if len(varargs) != len(axes):
        raise TypeError("invalid number of arguments")
    found = []
    for a, h in zip(axes, varargs, strict=True):
        h = as_operand(h)
        if ndim_of(h) == 0:
            found.append(h)
            continue
        if ndim_of(h) != 1:
            raise ValueError("distances must be either scalars or 1d")
        if shape_of(h)[0] != shape_of(f)[a]:
            raise ValueError(
                "when 1d, distances must match the length of the corresponding dimension"
            )
        step = diff(floating(h))
        plain = not isinstance(step, Tracer) and len(step) and (step == step[0]).all()
        found.append(step[0] if plain else step)
    return found


def _slope(f, h, axis, edge_order):
    n = shape_of(f)[axis]
    if n < edge_order + 1:
        raise ValueError(
            "Shape of array too small to calculate a numerical gradient, "
            "at least (edge_order + 1) elements are required."
        )
    f = moveaxis(f, axis, -1)
    if ndim_of(h) == 0:
        inner = (f[..., 2:] - f[..., :-2]) / (2.0 * h)
        d1, d2 = h, h
        e1, e2 = h, h
    else:
        a, b = h[:-1], h[1:]
        weights = (-b / (a * (a + b)), (b - a) / (a * b), a / (b * (a + b)))
        inner = weights[0] * f[..., :-2] + weights[1] * f[..., 1:-1] + weights[2] * f[..., 2:]
        d1, e1 = h[0], h[-1]
        d2, e2 = (h[1], h[-2]) if edge_order == 2 else (None, None)
    if edge_order == 1:
        first = (f[..., 1:2] - f[..., :1]) / d1
        last = (f[..., -1:] - f[..., -2:-1]) / e1
    else:
        first = _edge(f[..., :1], f[..., 1:2], f[..., 2:3], d1, d2)
        last = -_edge(f[..., -1:], f[..., -2:-1], f[..., -3:-2], e1, e2)
    return moveaxis(concatenate([first, inner, last], axis=-1), -1, axis)


def _edge(f0, f1, f2, d1, d2):
    """Slope at the first of three points, at distances d1 and d2 of each other; exact for parabolas."""
    return (
        -(2.0 * d1 + d2) / (d1 * (d1 + d2)) * f0
        + (d1 + d2) / (d1 * d2) * f1
        - d1 / (d2 * (d1 + d2)) * f2
    )


@numpys(np.trapezoid)
def trapezoid(y, x=None, dx=1.0, axis=-1):
    """NumPy's ``trapezoid``: the integral of y by trapezoids; it has derivatives in y, x and dx."""
    y = as_operand(y)
    last, axis = axis, normal_axis("trapezoid", axis, ndim_of(y))
    if x is None:
        d = dx
    else:
        y, x = operands(y, x)
        # NumPy counts a negative axis from the end of x, too
        d = diff(x, axis=0 if ndim_of(x) == 1 else axis - ndim_of(y) if last < 0 else axis)
        if ndim_of(x) == 1:
            n = shape_of(d)[0]
            d = reshape_p(d, shape=tuple(n if k == axis else 1 for k in range(ndim_of(y))))
    lead = (slice(None),) * axis
    return sum(d * (y[(*lead, slice(1, None))] + y[(*lead, slice(None, -1))]) / 2.0, axis)


@numpys(np.ediff1d)
def ediff1d(ary, to_end=None, to_begin=None):
    """NumPy's ``ediff1d``: the differences of the flat array, between what is put before and behind."""
    given = [v for v in (to_begin, to_end) if v is not None]
    a, *rest = map(ravel, operands(ary, *given, numbers=True))
    parts = [None if v is None else rest.pop(0) for v in (to_begin, to_end)]
    dtype = dtype_of(a)
    for name, v in zip(("to_begin", "to_end"), parts, strict=True):
        if v is not None and not np.can_cast(dtype_of(v), dtype, "same_kind"):
            raise TypeError(
                f"dtype of `{name}` must be compatible with input `ary` under the `same_kind` rule."
            )
    d = diff(a) if shape_of(a)[0] else a
    found = [cast(v, dtype) for v in (parts[0], d, parts[1]) if v is not None]
    return concatenate(found) if len(found) > 1 else d


# ---------------------------------------------------------------------------------------------- products
@numpys(np.cross)
def cross(a, b, axisa=-1, axisb=-1, axisc=-1, axis=None):
    """NumPy's ``cross``: of vectors of length 3, or 2, whose third entry is 0."""
    if axis is not None:
        axisa, axisb, axisc = (axis,) * 3
    a, b = operands(a, b)
    for name, x in (("a", a), ("b", b)):
        if not ndim_of(x):
            raise ValueError("At least one array has zero dimension")
        ax = normal_axis("cross", axisa if name == "a" else axisb, ndim_of(x))
        if shape_of(x)[ax] not in (2, 3):
            raise ShapeError(
                f"cross: the vectors of `{name}` must have length 2 or 3, got {shape_of(x)[ax]}."
            )
    a, b = moveaxis(a, axisa, -1), moveaxis(b, axisb, -1)
    a0, a1, b0, b1 = a[..., 0], a[..., 1], b[..., 0], b[..., 1]
    third = a0 * b1 - a1 * b0
    flat = [shape_of(x)[-1] == 2 for x in (a, b)]
    if flat == [True, True]:
        return third
    if flat[0]:
        parts = [a1 * b[..., 2], -(a0 * b[..., 2]), third]
    elif flat[1]:
        parts = [-(a[..., 2] * b1), a[..., 2] * b0, third]
    else:
        parts = [a1 * b[..., 2] - a[..., 2] * b1, a[..., 2] * b0 - a0 * b[..., 2], third]
    return stack(parts, normal_axis("cross", axisc, ndim_of(third) + 1))


@numpys(np.kron)
def kron(a, b):
    """NumPy's ``kron``: the product of each entry of a with b."""
    a, b = operands(a, b, numbers=True)
    n = max(ndim_of(a), ndim_of(b))
    sa, sb = ((1,) * (n - ndim_of(x)) + tuple(shape_of(x)) for x in (a, b))
    left = reshape_p(a, shape=tuple(m for k in sa for m in (k, 1))) if n else a
    right = reshape_p(b, shape=tuple(m for k in sb for m in (1, k))) if n else b
    y = left * right
    return reshape_p(y, shape=tuple(p * q for p, q in zip(sa, sb, strict=True))) if n else y
