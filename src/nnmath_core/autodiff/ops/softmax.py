"""Log-sum-exp and softmax, which is its gradient: the maximum is taken out before anything is exponentiated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnmath_core.autodiff.ops.compare import equal
from nnmath_core.autodiff.ops.conventions import (
    Aval,
    dropped,
    dtype_of,
    kept,
    ndim_of,
    normal_axes,
    refuse,
)
from nnmath_core.autodiff.ops.elementwise import log
from nnmath_core.autodiff.ops.reduce import (
    _batched,
    _floating,
    _reduced,
    _samples,
    _spread,
    _through_reduction,
    any_p,
    sum_p,
)
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import broadcast_to_p
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
    dead = equal(_spread(y, xs[0].shape, axis, keepdims), -math.inf)
    return where(dead, 0.0, softmax_p(where(dead, 0.0, xs[0]), axis=axis))


logsumexp_p = Primitive(
    "logsumexp",
    forward=_logsumexp_forward,
    vjp=(
        lambda g, xs, y, *, axis, keepdims: _spread(g, xs[0].shape, axis, keepdims)
        * _softmax_of(xs, y, axis, keepdims),
    ),
    jvp=(
        lambda t, xs, y, *, axis, keepdims: sum_p(
            t * _softmax_of(xs, y, axis, keepdims), axis=axis, keepdims=keepdims
        ),
    ),
    keeps=("0y",),
    through=_through_reduction,
    shape=_reduced,
    batch=_batched(lambda: logsumexp_p),
    samples=_samples(),
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
    """Log of the sum of exponentials, SciPy's name; ``b`` are factors, which must not make the sum negative."""
    refuse("logsumexp", return_sign=(return_sign, False))
    if b is not None:
        a = a + log(b)
    a = _floating(a)
    return logsumexp_p(a, axis=normal_axes("logsumexp", axis, ndim_of(a)), keepdims=keepdims)


def softmax(x: Any, axis: Any = None) -> Any:
    """exp(x) normalised to sum 1, SciPy's name."""
    x = _floating(x)
    return softmax_p(x, axis=normal_axes("softmax", axis, ndim_of(x)))


def log_softmax(x: Any, axis: Any = None) -> Any:
    """Logarithm of the softmax, x - logsumexp(x), SciPy's name."""
    return x - logsumexp(x, axis, keepdims=True)
