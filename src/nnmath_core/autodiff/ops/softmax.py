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
    imag,
    real,
    reshape,
    stop_gradient,
)
from nnmath_core.autodiff.primitive import Primitive, Special, sample
from nnmath_core.checks import sentence
from nnmath_core.device import entering
from nnmath_core.errors import ShapeError

__all__ = ["log_softmax", "logsumexp", "softmax"]


def _logsumexp_forward(be, x, *, axis, keepdims):
    """The largest + log(m + rest): m entries are as large, with exponentials 1; log1p keeps what is beside them."""
    xp = be.xp
    found = be.by_rows("logsumexp_rows", x, axis)
    if found is not None:
        return found[0] if keepdims else xp.reshape(found[0], dropped(x.shape, axis))
    top = (
        xp.max(x, axis=axis, keepdims=True)
        if x.size
        else xp.full(kept(x.shape, axis), -math.inf, x.dtype)
    )
    top = xp.where(xp.isfinite(top), top, xp.zeros_like(top))
    e = xp.exp(x - top)
    ones = e == 1
    rest = xp.sum(e - ones, axis=axis, keepdims=True)
    m = xp.sum(ones, axis=axis, keepdims=True, dtype=e.dtype)
    with np.errstate(divide="ignore"):  # log(0) = -inf is the value of an empty or all -inf slice
        y = xp.log1p(rest + (m - 1)) + top
    return y if keepdims else xp.reshape(y, dropped(x.shape, axis))[()]


logsumexp_p = Primitive(
    "logsumexp",
    forward=_logsumexp_forward,
    vjp=(
        lambda g, xs, y, *, axis, keepdims: spread(g, xs[0].shape, axis, keepdims)
        * softmax_or_zero_p(xs[0], axis=axis),
    ),
    jvp=(
        lambda t, xs, y, *, axis, keepdims: sum_p(
            t * softmax_or_zero_p(xs[0], axis=axis), axis=axis, keepdims=keepdims
        ),
    ),
    keeps=("0",),
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
    found = be.by_rows("softmax_rows", x, axis, 0)
    if found is not None:
        return found[0]
    if not x.size:
        return xp.zeros_like(x)
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


def _softmax_or_zero_forward(be, x, *, axis):
    xp = be.xp
    found = be.by_rows("softmax_rows", x, axis, 1)
    if found is not None:
        return found[0]
    if not x.size:
        return xp.zeros_like(x)
    top = xp.max(x, axis=axis, keepdims=True)
    e = xp.exp(x - xp.where(top == -math.inf, xp.zeros_like(top), top))
    total = xp.sum(e, axis=axis, keepdims=True)
    return e / xp.where(total == 0, xp.ones_like(total), total)


def _softmax_primitive(name, forward, this):
    """Softmax, or softmax with another value where a slice is all -inf: the derivative is made of the result."""
    return Primitive(
        name,
        forward=forward,
        vjp=(lambda g, xs, y, *, axis: y * (g - sum_p(g * y, axis=axis, keepdims=True)),),
        jvp=(lambda t, xs, y, *, axis: y * (t - sum_p(t * y, axis=axis, keepdims=True)),),
        keeps=("y",),
        # an entry is live when one of the results of its slice is
        through=lambda m, i, xs, y, *, axis: broadcast_to_p(
            any_p(m, axis=axis, keepdims=True), shape=xs[0].shape
        ),
        shape=lambda x, *, axis: Aval(x.shape, dtype_of(x)),
        batch=lambda on, v, size, *, axis: this()(v[0], axis=tuple(a + 1 for a in axis)),
        samples=lambda d: [
            sample(d.normal(3, 4), axis=(1,)),
            sample(d.normal(2, 3), axis=(0, 1)),
            sample(d.normal(0, 3), axis=(1,)),
        ],
    )


softmax_p = _softmax_primitive("softmax", _softmax_forward, lambda: softmax_p)

softmax_or_zero_p = _softmax_primitive(
    "softmax_or_zero", _softmax_or_zero_forward, lambda: softmax_or_zero_p
)
"""The derivative of logsumexp: 0, by convention, where a slice is all -inf.

It is not exp(x - logsumexp(x)): the rounding error of a large logsumexp would be a relative error of the derivative.
"""


# ---------------------------------------------------------------------------------------------- SciPy's functions
@entering
def logsumexp(
    a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False
) -> Any:
    r"""Log of the sum of exponentials, with factors ``b`` and, apart, the sign of the sum; SciPy's function.

    .. math:: \log \sum_i b_i e^{a_i}

    Parameters
    ----------
    a : array
        Exponents; minus infinity stands for no term.
    axis : int, tuple of ints or None, default None
        What is summed over; None is all.
    b : array, optional
        Factors, which broadcast with ``a``; they may be negative, or 0, whose term is not looked at.
    keepdims : bool, default False
        Keep the axes, with length 1.
    return_sign : bool, default False
        Return the logarithm of the modulus and, apart, the sign: 1, -1 or 0. Without it the logarithm of a negative
        sum is NaN.

    Notes
    -----
    The largest exponent is taken out, and what is beside it is added by ``log1p``. Without ``b``, and with k entries
    that spread over a distance d, the error is at most ``eps * (|y| + (k + 4 + d) * (y - max(a)))``, where the last
    factor lies between 0 and ``log(k)``: relative to the value if the largest exponent is 0, however near to 0 the
    value is. With ``b`` the absolute error is at most ``eps * (|y| + (k + 4 + d) * c)``, where
    :math:`c = \sum |b_i| e^{a_i} / |\sum b_i e^{a_i}|` is 1 unless signs differ, and no computation without more digits
    has less. The derivative in ``a`` is the softmax, 0 in a slice of nothing but minus infinity.
    """
    a = floating(as_operand(a))
    if b is not None:
        return _weighted(a, floating(as_operand(b)), axis, keepdims, return_sign)
    y = logsumexp_p(a, axis=normal_axes("logsumexp", axis, ndim_of(a)), keepdims=keepdims)
    if not return_sign:
        return y
    if dtype_of(y).kind == "c":
        return real(y), where(equal(real(y), -math.inf), 0.0, exp(1j * imag(y)))
    z = stop_gradient(y)  # the sign of the sum is 0 when all exponentials vanish
    return y, where(equal(z, -math.inf), 0.0, where(isnan(z), z, 1.0))


def _weighted(a: Any, b: Any, axis: Any, keepdims: bool, return_sign: bool) -> Any:
    """log|sum b exp(a)|, and its sign: the largest a leaves first, those of factors that are 0 and fixed not seen."""
    a, b = broadcast_arrays(a, b)
    axes = normal_axes("logsumexp", axis, ndim_of(a))
    hidden = equal(b, 0) if not is_traced(b) else logical_and(equal(b, 0), isinf(a))
    a = where(hidden, -math.inf, a)
    exponent = real(a) if dtype_of(a).kind == "c" else a
    whole = kept(shape_of(a), axes)
    if math.prod(shape_of(a)):
        top = _largest(exponent, axes)
    else:
        top = constant(a, whole, 0.0, dtype_of(exponent))
    s = sum_p(b * exp(a - top), axis=axes, keepdims=True)
    zero = equal(s, 0)
    held = where(zero, 1.0, s)
    is_complex = dtype_of(s).kind == "c"
    size = held if is_complex and not return_sign else absolute(held)
    y = where(zero, -math.inf, log(size) + top)
    if not return_sign:
        y = y if is_complex else where(less(s, 0), math.nan, y)
        return y if keepdims else _scalar(reshape(y, dropped(shape_of(a), axes)))
    # the sign of a complex number has a derivative, its argument's
    s = where(zero, 0.0, held / absolute(held)) if is_complex else sign(s)
    if keepdims:
        return y, s
    return tuple(_scalar(reshape(v, dropped(shape_of(a), axes))) for v in (y, s))


def _scalar(x: Any) -> Any:
    """A plain array of no axes as the scalar that SciPy returns."""
    return x[()] if type(x) is np.ndarray and x.ndim == 0 else x


def softmax(x: Any, axis: Any = None) -> Any:
    """exp(x) normalised to sum 1, SciPy's name."""
    x = floating(x)
    axes = normal_axes("softmax", axis, ndim_of(x))
    _require_entries("softmax", x, axes)
    return softmax_p(x, axis=axes)


def _require_entries(who: str, x: Any, axes: tuple[int, ...]) -> None:
    """Refuse sums over nothing: nothing sums to 1. No sum at all, as of a batch of no rows, is fine."""
    s = shape_of(x)
    if 0 in s and 0 not in kept(s, axes):
        raise ShapeError(
            sentence(who, "x", "an array with entries along `axis`", f"shape {s} and axes {axes}")
        )


@entering
def log_softmax(x: Any, axis: Any = None) -> Any:
    r"""Logarithm of the softmax, SciPy's function.

    .. math:: x_i - \operatorname{logsumexp}(x)

    Notes
    -----
    The largest entry is subtracted first. Relative error: at most ``eps * (k + 4 + d)`` for k entries and an entry at
    the distance d below the largest, however near to 0 the result is and however large the scores are. The derivative
    of entry i is ``e_i - softmax(x)``.
    """
    x = floating(as_operand(x))
    axes = normal_axes("log_softmax", axis, ndim_of(x))
    _require_entries("log_softmax", x, axes)
    if not math.prod(shape_of(x)):
        return x
    z = x - _largest(x, axes)
    return z - logsumexp_p(z, axis=axes, keepdims=True)


def _largest(x: Any, axes: tuple[int, ...]) -> Any:
    """The largest entries along the axes, 0 where they are infinite, without derivative: they leave and return."""
    top = max_p(stop_gradient(x), axis=axes, keepdims=True)
    return where(isfinite(top), top, 0.0)
