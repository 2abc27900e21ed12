"""Entries brought to mean 0 and variance 1, or to mean square 1: what every normalisation is made of.

Statistics are made in two passes, of differences to the first entry of a slice: exact for a constant slice, and
unharmed by a mean that is large beside the deviation. Sums are in double precision, whatever the dtype.
"""

from __future__ import annotations

import math

import numpy as np

from nnmath_core.autodiff.ops.compare import logical_or
from nnmath_core.autodiff.ops.conventions import Aval, dtype_of, kept, shape_of
from nnmath_core.autodiff.ops.reduce import any_p, sum_p
from nnmath_core.autodiff.ops.shape import broadcast_to_p
from nnmath_core.autodiff.primitive import Primitive, sample

__all__ = ["rms_p", "standardize_p"]


# ---------------------------------------------------------------------------------------------- forward
def _count(shape, axis):
    return max(1, math.prod(shape[k] for k in axis))


def _mean(xp, x, axis, dtype):
    n = _count(x.shape, axis)
    if xp is np:
        return np.add.reduce(x, axis=axis, keepdims=True, dtype=dtype) / n
    return xp.sum(x, axis=axis, keepdims=True, dtype=dtype) / n


def _mean_square(xp, x, axis, dtype):
    """The mean of squares that are made in the dtype of the sum."""
    if xp is np and x.dtype == dtype and axis == (x.ndim - 1,):  # no array of the squares
        return np.einsum("...i,...i->...", x, x)[..., None] / _count(x.shape, axis)
    return _mean(xp, xp.multiply(x, x, dtype=dtype), axis, dtype)


def _inverse_root(xp, x):
    """1 / sqrt(x), and 0 at 0: entries that are all alike have no direction, as the vector 0 has none."""
    nought = x == 0
    return xp.where(nought, xp.zeros_like(x), 1.0 / xp.sqrt(xp.where(nought, xp.ones_like(x), x)))


def _scaled(be, c, axis, eps, wide):
    """Mean square of the entries and the factor 1 / sqrt(mean square + eps), both in double precision."""
    xp = be.xp
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if (
            xp is np and c.dtype == np.float32
        ):  # the host's way: squares in single precision, a third of the time
            s = _mean(xp, c * c, axis, wide)
            if _in_range(s + eps, c.dtype):
                return s, _inverse_root(xp, s + eps)
        s = _mean_square(xp, c, axis, wide)
        narrow = (
            c.dtype != wide or c.dtype.kind == "c"
        )  # squares of single precision are in range in double
        if narrow or (xp is np and _in_range(s + eps, wide)):
            return s, _inverse_root(xp, s + eps)
        size = xp.abs(c)
        top = xp.max(size, axis=axis, keepdims=True) if c.size else xp.zeros_like(s)
        top = xp.where((top > 0) & xp.isfinite(top), top, xp.ones_like(top))
        root = xp.sqrt(_mean(xp, xp.square(c / top), axis, wide)) * top
        length = xp.hypot(root, xp.full_like(root, math.sqrt(eps)))
        nought = length == 0
        factor = 1.0 / xp.where(nought, xp.ones_like(length), length)
        return root * root, xp.where(nought, xp.zeros_like(length), factor)


def _in_range(s, dtype):
    """Whether no square of this dtype has overflowed, or vanished beside others."""
    info = np.finfo(dtype)
    return bool(np.all((s > info.tiny / info.eps) & (s < math.inf)))


def _product(xp, c, factor):
    """The entries times their factor, in place where c is an array of ours."""
    return xp.multiply(c, factor.astype(c.dtype), out=c)


def _standardize_forward(be, x, *, axis, eps):
    found = be.by_rows("standardize_rows", x, axis, eps)
    if found is not None:
        return found
    xp = be.xp
    wide = np.result_type(x.dtype, np.float64)
    first = x[tuple(slice(0, 1) if k in axis else slice(None) for k in range(x.ndim))]
    if not x.size:  # no slices, or slices of nothing
        return _nothing(xp, x, axis, 4)
    c = x - first
    shift = _mean(xp, c, axis, wide)
    c -= shift.astype(c.dtype)
    var, factor = _scaled(be, c, axis, eps, wide)
    y = _product(xp, c, factor)
    return y, factor.astype(x.dtype), (first + shift).astype(x.dtype), var.astype(x.dtype)


def _rms_forward(be, x, *, axis, eps):
    found = be.by_rows("rms_rows", x, axis, eps)
    if found is not None:
        return found
    if not x.size:
        return _nothing(be.xp, x, axis, 2)
    _, factor = _scaled(be, x, axis, eps, np.result_type(x.dtype, np.float64))
    factor = factor.astype(x.dtype)
    return x * factor, factor


def _nothing(xp, x, axis, outputs):
    small = [xp.zeros(kept(x.shape, axis), x.dtype) for _ in range(outputs - 1)]
    return (xp.zeros_like(x), *small)


# ---------------------------------------------------------------------------------------------- derivatives
def _averaged(x, axis):
    return sum_p(x, axis=axis, keepdims=True) / _count(shape_of(x), axis)


def _projected(t, y, axis, centred):
    """What is left of t without its mean, and without its part along y: the symmetric part of the Jacobian."""
    rest = t - y * _averaged(t * y, axis)
    return rest - _averaged(t, axis) if centred else rest


def _rules(centred):
    """The Jacobian is symmetric, so that one formula serves both modes; it holds for every eps.

    y = r c with r = (mean(c c) + eps)^(-1/2): dr = -r^2 mean(y dc), dy = r (dc - y mean(y dc)), dc = dx - mean(dx),
    and mean(y) = 0.
    """

    def back(gs, xs, ys, *, axis, eps):
        (gy, gr), (y, r) = gs[:2], ys[:2]
        along = None if gr is None else y * (r * r * gr / -_count(shape_of(y), axis))
        if gy is None:
            return along
        dx = r * _projected(gy, y, axis, centred)
        return dx if along is None else dx + along

    def forward(t, xs, ys, *, axis, eps):
        y, r = ys[:2]
        tangents = r * _projected(t, y, axis, centred), -(r * r) * _averaged(y * t, axis)
        return (*tangents, None, None) if centred else tangents

    return {"vjp": (back,), "jvp": (forward,), "keeps": ("y",), "through": _through}


def _through(masks, i, xs, ys, *, axis, eps):
    """An entry is live when some result of its slice is."""
    of_y, of_r = masks[:2]
    row = None if of_y is None else any_p(of_y, axis=axis, keepdims=True)
    if of_r is not None:
        row = of_r if row is None else logical_or(row, of_r)
    return broadcast_to_p(row, shape=xs[0].shape)


def _shapes(outputs):
    def shape(x, *, axis, eps):
        small = Aval(kept(x.shape, axis), dtype_of(x))
        return (Aval(x.shape, dtype_of(x)), *(small,) * (outputs - 1))

    return shape


def _batch(p):
    return lambda on, v, size, *, axis, eps: p()(v[0], axis=tuple(k + 1 for k in axis), eps=eps)


def _samples(d):
    return [
        sample(d.normal(3, 4), axis=(1,), eps=1e-5),
        sample(d.normal(3, 4), axis=(0,), eps=0.25),
        sample(d.normal(2, 3, 4), axis=(0, 2), eps=0.0),
        sample(d.normal(0, 4), axis=(1,), eps=1e-5),
    ]


standardize_p = Primitive(
    "standardize",
    forward=_standardize_forward,
    outputs=(True, True, False, False),
    **_rules(centred=True),
    shape=_shapes(4),
    batch=_batch(lambda: standardize_p),
    samples=_samples,
    domain="entries that are not all equal, or eps > 0",
)
"""((x - mean) r, r, mean, variance) over axes that stay, r = (variance + eps)^(-1/2), variance with divisor n.

Mean and variance carry no derivative: they are for running statistics.
"""

rms_p = Primitive(
    "rms",
    forward=_rms_forward,
    outputs="all",
    **_rules(centred=False),
    shape=_shapes(2),
    batch=_batch(lambda: rms_p),
    samples=_samples,
    domain="not 0, or eps > 0",
)
"""(x r, r) over axes that stay, r = (mean of squares + eps)^(-1/2)."""
