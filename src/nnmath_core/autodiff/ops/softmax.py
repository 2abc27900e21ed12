"""Log-sum-exp and softmax, which is its gradient: the maximum is taken out before anything is exponentiated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnmath_core.autodiff.ops.axes import batched, reduced, samples_along, spread, through_reduction
from nnmath_core.autodiff.ops.compare import equal, isfinite, isinf, isnan, less, logical_and
from nnmath_core.autodiff.ops.conventions import (
    Aval,
    as_operand,
    constant,
    dropped,
    dtype_of,
    is_traced,
    kept,
    ndim_of,
    normal_axes,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import absolute, exp, log, sign
from nnmath_core.autodiff.ops.reduce import any_p, max_p, sum_p
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import (
    broadcast_arrays,
    broadcast_to_p,
    floating,
    reshape,
    stop_gradient,
)
from nnmath_core.autodiff.primitive import Primitive, Special, sample

__all__ = ["log_softmax", "logsumexp", "softmax"]


def _logsumexp_forward(be, x, *, axis, keepdims):
    xp = be.xp
    top = (
        xp.max(x, axis=axis, keepdims=True)
        if x.size
        else xp.full(kept(x.shape, axis), -math.inf, x.dtype)
    )
    top = xp.where(xp.isfinite(top), top, xp.zeros_like(top))
    s = xp.sum(xp.exp(x - top), axis=axis, keepdims=True)
    with np.errstate(divide="ignore"):  # log(0) = -inf is the value of an empty or all -inf slice
        y = xp.log(s) + top
    return y if keepdims else xp.reshape(y, dropped(x.shape, axis))[()]


def _softmax_of(xs, y, axis, keepdims):
    """The softmax of x; zeros where the whole slice is -inf, whose derivative is 0 by convention.

    Not exp(x - y): the rounding error of a large y would be a relative error of the derivative.
    """
    dead = equal(spread(y, xs[0].shape, axis, keepdims), -math.inf)
    return where(dead, 0.0, softmax_p(where(dead, 0.0, xs[0]), axis=axis))


logsumexp_p = Primitive(
    "logsumexp",
    forward=_logsumexp_forward,
    vjp=(
        lambda g, xs, y, *, axis, keepdims: spread(g, xs[0].shape, axis, keepdims)
        * _softmax_of(xs, y, axis, keepdims),
    ),
    jvp=(
        lambda t, xs, y, *, axis, keepdims: sum_p(
            t * _softmax_of(xs, y, axis, keepdims), axis=axis, keepdims=keepdims
        ),
    ),
    keeps=("0y",),
    through=through_reduction,
    shape=reduced,
    batch=batched(lambda: logsumexp_p),
    samples=samples_along(),
    special=[
        Special("logsumexp with -inf: 0 there", ([-math.inf, 0.0],), ([0.0, 1.0],), {"axis": (0,), "keepdims": False}),
        Special("logsumexp of -inf alone: 0", ([-math.inf, -math.inf],), ([0.0, 0.0],),
                {"axis": (0,), "keepdims": False}),
    ],
)  # fmt: skip


def _softmax_forward(be, x, *, axis):
    xp = be.xp
    if not x.size:
        return xp.zeros_like(x)
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


softmax_p = Primitive(
    "softmax",
    forward=_softmax_forward,
    vjp=(lambda g, xs, y, *, axis: y * (g - sum_p(g * y, axis=axis, keepdims=True)),),
    jvp=(lambda t, xs, y, *, axis: y * (t - sum_p(t * y, axis=axis, keepdims=True)),),
    keeps=("y",),
    # an entry is live when one of the results of its slice is
    through=lambda m, i, xs, y, *, axis: broadcast_to_p(
        any_p(m, axis=axis, keepdims=True), shape=xs[0].shape
    ),
    shape=lambda x, *, axis: Aval(x.shape, dtype_of(x)),
    batch=lambda on, v, size, *, axis: softmax_p(v[0], axis=tuple(a + 1 for a in axis)),
    samples=lambda d: [
        sample(d.normal(3, 4), axis=(1,)),
        sample(d.normal(2, 3), axis=(0, 1)),
        sample(d.normal(0, 3), axis=(1,)),
    ],
)


# ---------------------------------------------------------------------------------------------- SciPy's functions
def logsumexp(
    a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False
) -> Any:
    """Log of the sum of exponentials, with factors ``b`` and, apart, the sign of the sum; SciPy's name."""
    a = floating(as_operand(a))
    if b is not None:
        return _weighted(a, floating(as_operand(b)), axis, keepdims, return_sign)
    y = logsumexp_p(a, axis=normal_axes("logsumexp", axis, ndim_of(a)), keepdims=keepdims)
    if not return_sign:
        return y
    z = stop_gradient(y)  # the sign of the sum is 0 when all exponentials vanish
    return y, where(equal(z, -math.inf), 0.0, where(isnan(z), z, 1.0))


def _weighted(a: Any, b: Any, axis: Any, keepdims: bool, return_sign: bool) -> Any:
    """log|sum b exp(a)|, and its sign: the largest a leaves first, those of factors that are 0 and fixed not seen."""
    a, b = broadcast_arrays(a, b)
    axes = normal_axes("logsumexp", axis, ndim_of(a))
    hidden = equal(b, 0) if not is_traced(b) else logical_and(equal(b, 0), isinf(a))
    a = where(hidden, -math.inf, a)
    whole = kept(shape_of(a), axes)
    if math.prod(shape_of(a)):
        top = max_p(stop_gradient(a), axis=axes, keepdims=True)
        top = where(isfinite(top), top, 0.0)
    else:
        top = constant(a, whole, 0.0, dtype_of(a))
    s = sum_p(b * exp(a - top), axis=axes, keepdims=True)
    zero = equal(s, 0)
    y = where(zero, -math.inf, log(absolute(where(zero, 1.0, s))) + top)
    y = y if return_sign else where(less(s, 0), math.nan, y)
    if not keepdims:
        y, s = (reshape(v, dropped(shape_of(a), axes)) for v in (y, s))
    return (y, sign(s)) if return_sign else y


def softmax(x: Any, axis: Any = None) -> Any:
    """exp(x) normalised to sum 1, SciPy's name."""
    x = floating(x)
    return softmax_p(x, axis=normal_axes("softmax", axis, ndim_of(x)))


def log_softmax(x: Any, axis: Any = None) -> Any:
    """Logarithm of the softmax, x - logsumexp(x), SciPy's name."""
    return x - logsumexp(x, axis, keepdims=True)
