"""Sums, products, extrema, cumulative sums, log-sum-exp and what is made of them.

A reduction is a primitive with the parameters ``axis`` (a sorted tuple) and ``keepdims``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnmath_core.autodiff.ops.compare import equal
from nnmath_core.autodiff.ops.conventions import (
    NO_VALUE,
    Aval,
    constant,
    dropped,
    dtype_of,
    implements,
    kept,
    methods,
    ndim_of,
    normal_axes,
    normal_axis,
    refuse,
    shape_of,
    ufunc_methods,
)
from nnmath_core.autodiff.ops.elementwise import (
    log,
    maximum,
    minimum,
    sqrt,
    square,
    where,
)
from nnmath_core.autodiff.ops.index import slice_p
from nnmath_core.autodiff.ops.join import concatenate_p
from nnmath_core.autodiff.ops.shape import (
    broadcast_to,
    broadcast_to_p,
    cast,
    copied,
    flip_p,
    ravel,
    reshape_p,
    transpose_p,
)
from nnmath_core.autodiff.primitive import Primitive, Special, sample

__all__ = [
    "all",
    "any",
    "argmax",
    "argmin",
    "average",
    "count_nonzero",
    "cumprod",
    "cumsum",
    "diff",
    "log_softmax",
    "logsumexp",
    "max",
    "mean",
    "min",
    "prod",
    "ptp",
    "softmax",
    "std",
    "sum",
    "var",
]


def _spread(g, shape, axis, keepdims):
    """What was reduced, repeated along the axes that it lost."""
    if not keepdims:
        g = reshape_p(g, shape=kept(shape, axis))
    return broadcast_to_p(g, shape=shape)


def _through_reduction(m, i, xs, y, *, axis, keepdims):
    """A mask goes back to all entries that the result was made of."""
    return _spread(m, xs[0].shape, axis, keepdims)


def _reduced(x, *, axis, keepdims, dtype=None):
    s = x.shape
    return Aval(
        kept(s, axis) if keepdims else dropped(s, axis), dtype_of(x) if dtype is None else dtype
    )


def _summed(x, *, axis, keepdims):
    """Booleans and small integers sum to the default integer, as in NumPy."""
    return _reduced(x, axis=axis, keepdims=keepdims, dtype=np.sum(np.zeros(0, dtype_of(x))).dtype)


def _batched(p):
    """Batching rule of a reduction: the same axes, one further right."""
    return lambda on, v, size, *, axis, keepdims: p()(
        v[0], axis=tuple(a + 1 for a in axis), keepdims=keepdims
    )


def _samples(draw="normal"):
    def samples(d):
        f = getattr(d, draw)
        return [
            sample(f(3, 4), axis=(0, 1), keepdims=False),
            sample(f(3, 4), axis=(1,), keepdims=False),
            sample(f(2, 3, 4), axis=(0, 2), keepdims=True),
            sample(f(5), axis=(), keepdims=False),
            sample(f(2, 1), axis=(1,), keepdims=True),
        ]

    return samples


def _with_empty(d):
    return [*_samples()(d), sample(d.normal(0, 3), axis=(0,), keepdims=False)]


def _sum_forward(be, x, *, axis, keepdims):
    if be.xp is np:  # half the cost of np.sum on small arrays
        return np.add.reduce(x, axis=axis, keepdims=keepdims)
    return be.xp.sum(x, axis=axis, keepdims=keepdims)


sum_p = Primitive(
    "sum",
    forward=_sum_forward,
    linear=True,
    vjp=(lambda g, xs, y, *, axis, keepdims: _spread(g, xs[0].shape, axis, keepdims),),
    keeps=("",),
    through=_through_reduction,
    shape=_summed,
    batch=_batched(lambda: sum_p),
    samples=_with_empty,
)


def _others(x, axis):
    """For each entry the product of the others in its slice: right where entries are zero, at any order."""
    s = shape_of(x)
    order = tuple(i for i in range(len(s)) if i not in axis) + axis
    inverse = tuple(int(i) for i in np.argsort(order))
    n = math.prod(s[i] for i in axis)
    flat = reshape_p(transpose_p(x, axes=order), shape=(*dropped(s, axis), n))
    ahead = _shifted_cumprod(flat, n)
    behind = flip_p(
        _shifted_cumprod(flip_p(flat, axis=(ndim_of(flat) - 1,)), n), axis=(ndim_of(flat) - 1,)
    )
    return transpose_p(reshape_p(ahead * behind, shape=tuple(s[i] for i in order)), axes=inverse)


def _running_product(x, axis):
    """Products of the first 1, 2, ... entries along an axis, in log2(n) passes; right where entries are zero."""
    n, lead, k = shape_of(x)[axis], (slice(None),) * axis, 1
    while k < n:
        head = slice_p(x, index=(*lead, slice(0, k, 1)))
        tail = slice_p(x, index=(*lead, slice(k, n, 1))) * slice_p(
            x, index=(*lead, slice(0, n - k, 1))
        )
        x, k = concatenate_p(head, tail, axis=axis), 2 * k
    return x


def _shifted_cumprod(x, n):
    """Products of the entries before each entry of the last axis."""
    last = ndim_of(x) - 1
    lead = (slice(None),) * last
    one = constant(x, (*shape_of(x)[:-1], 1 if n else 0), 1, dtype_of(x))
    if n < 2:
        return one
    return concatenate_p(
        one, slice_p(_running_product(x, last), index=(*lead, slice(0, n - 1, 1))), axis=last
    )


prod_p = Primitive(
    "prod",
    forward=lambda be, x, *, axis, keepdims: be.xp.prod(x, axis=axis, keepdims=keepdims),
    vjp=(lambda g, xs, y, *, axis, keepdims: _spread(g, xs[0].shape, axis, keepdims) * _others(xs[0], axis),),
    jvp=(
        lambda t, xs, y, *, axis, keepdims: sum_p(t * _others(xs[0], axis), axis=axis, keepdims=keepdims),
    ),
    keeps=("0",),
    through=_through_reduction,
    shape=_summed,
    batch=_batched(lambda: prod_p),
    samples=_samples(),
    special=[Special("prod with one zero: the product of the others", ([0.0, 2.0, 3.0],), ([6.0, 0.0, 0.0],),
                     {"axis": (0,), "keepdims": False})],
)  # fmt: skip


def _extremum(name, forward):
    """Declare max or min over axes: ties share equally."""

    def weights(xs, y, axis, keepdims):
        m = equal(xs[0], _spread(y, xs[0].shape, axis, keepdims))
        count = sum_p(m, axis=axis, keepdims=True)
        return m, count

    def vjp(g, xs, y, *, axis, keepdims):
        m, count = weights(xs, y, axis, keepdims)
        g = g if keepdims else reshape_p(g, shape=kept(xs[0].shape, axis))
        return where(m, broadcast_to_p(divide_by_count(g, count), shape=xs[0].shape), 0.0)

    def jvp(t, xs, y, *, axis, keepdims):
        m, count = weights(xs, y, axis, keepdims)
        total = sum_p(where(m, t, 0.0), axis=axis, keepdims=True)
        r = divide_by_count(total, count)
        return r if keepdims else reshape_p(r, shape=shape_of(y))

    def selects(i, xs, y, *, axis, keepdims):
        return equal(xs[0], _spread(y, xs[0].shape, axis, keepdims))

    return Primitive(
        name,
        forward=lambda be, x, *, axis, keepdims: getattr(be.xp, forward)(x, axis=axis, keepdims=keepdims),
        vjp=(vjp,),
        jvp=(jvp,),
        keeps=("0y",),
        selects=selects,
        through=_through_reduction,
        shape=_reduced,
        batch=_batched(lambda: max_p if name == "max" else min_p),
        samples=_samples("apart"),
        special=[Special(f"{name} at a tie: shared equally", ([1.0, 1.0, 0.0] if name == "max" else [1.0, 1.0, 2.0],),
                         ([0.5, 0.5, 0.0],), {"axis": (0,), "keepdims": False})],
    )  # fmt: skip


def divide_by_count(g, count):
    """Divide g by a count, in the dtype of g."""
    return g / cast(count, dtype_of(g))


max_p = _extremum("max", "max")
min_p = _extremum("min", "min")


def _truth(name):
    return Primitive(
        name,
        forward=lambda be, x, *, axis, keepdims: getattr(be.xp, name)(
            x, axis=axis, keepdims=keepdims
        ),
        differentiable=False,
        shape=lambda x, *, axis, keepdims: _reduced(
            x, axis=axis, keepdims=keepdims, dtype=np.dtype(bool)
        ),
        batch=_batched(lambda: any_p if name == "any" else all_p),
        samples=_samples("mask"),
    )


any_p = _truth("any")
all_p = _truth("all")


def _position(name):
    return Primitive(
        name,
        forward=lambda be, x, *, axis: getattr(be.xp, name)(x, axis=axis),
        differentiable=False,
        shape=lambda x, *, axis: Aval(dropped(x.shape, (axis,)), np.dtype(np.intp)),
        batch=lambda on, v, size, *, axis: (argmax_p if name == "argmax" else argmin_p)(
            v[0], axis=axis + 1
        ),
        samples=lambda d: [sample(d.apart(3, 4), axis=1), sample(d.apart(5), axis=0)],
    )


argmax_p = _position("argmax")
argmin_p = _position("argmin")


def _cumsum_forward(be, x, *, axis, reverse):
    xp = be.xp
    return (
        xp.flip(xp.cumsum(xp.flip(x, axis), axis=axis), axis)
        if reverse
        else xp.cumsum(x, axis=axis)
    )


cumsum_p = Primitive(
    "cumsum",
    forward=_cumsum_forward,
    linear=True,
    vjp=(lambda g, xs, y, *, axis, reverse: cumsum_p(g, axis=axis, reverse=not reverse),),
    keeps=("",),
    # an entry is live when one of the sums that it enters is
    through=lambda m, i, xs, y, *, axis, reverse: cumsum_p(m, axis=axis, reverse=not reverse) > 0,
    shape=lambda x, *, axis, reverse: Aval(x.shape, np.cumsum(np.zeros(0, dtype_of(x))).dtype),
    batch=lambda on, v, size, *, axis, reverse: cumsum_p(v[0], axis=axis + 1, reverse=reverse),
    samples=lambda d: [
        sample(d.normal(3, 4), axis=1, reverse=False),
        sample(d.normal(3, 4), axis=0, reverse=True),
        sample(d.normal(0), axis=0, reverse=False),
    ],
)


# ---------------------------------------------------------------------------------------------- log-sum-exp
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
    return y if keepdims else xp.reshape(y, dropped(x.shape, axis))


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


# ---------------------------------------------------------------------------------------------- NumPy's functions
def _reduction(who, p, x, axis, dtype, out, keepdims, where_=True):
    refuse(who, out=(out, None), where=(where_, True))
    x = ravel(x) if isinstance(x, (list, tuple)) else x
    if dtype is not None and dtype is not NO_VALUE:
        x = cast(x, dtype)
    return p(x, axis=normal_axes(who, axis, ndim_of(x)), keepdims=keepdims is True)


@implements(np.sum)
def sum(a, axis=None, dtype=None, out=None, keepdims=NO_VALUE, initial=NO_VALUE, where=True):
    """NumPy's ``sum``."""
    y = _reduction("sum", sum_p, a, axis, dtype, out, keepdims, where)
    return y if initial is NO_VALUE else y + initial


@implements(np.prod)
def prod(a, axis=None, dtype=None, out=None, keepdims=NO_VALUE, initial=NO_VALUE, where=True):
    """NumPy's ``prod``."""
    y = _reduction("prod", prod_p, a, axis, dtype, out, keepdims, where)
    return y if initial is NO_VALUE else y * initial


@implements(np.max, np.amax)
def max(a, axis=None, out=None, keepdims=NO_VALUE, initial=NO_VALUE, where=True):
    """NumPy's ``max``; its derivative is shared equally among ties."""
    y = _reduction("max", max_p, a, axis, None, out, keepdims, where)
    return y if initial is NO_VALUE else maximum(y, initial)


@implements(np.min, np.amin)
def min(a, axis=None, out=None, keepdims=NO_VALUE, initial=NO_VALUE, where=True):
    """NumPy's ``min``; its derivative is shared equally among ties."""
    y = _reduction("min", min_p, a, axis, None, out, keepdims, where)
    return y if initial is NO_VALUE else minimum(y, initial)


@implements(np.ptp)
def ptp(a, axis=None, out=None, keepdims=NO_VALUE):
    """NumPy's ``ptp``: maximum minus minimum."""
    return max(a, axis, out, keepdims) - min(a, axis, out, keepdims)


@implements(np.any)
def any(a, axis=None, out=None, keepdims=NO_VALUE, *, where=True):
    """NumPy's ``any``."""
    return _reduction("any", any_p, a, axis, None, out, keepdims, where)


@implements(np.all)
def all(a, axis=None, out=None, keepdims=NO_VALUE, *, where=True):
    """NumPy's ``all``."""
    return _reduction("all", all_p, a, axis, None, out, keepdims, where)


@implements(np.count_nonzero)
def count_nonzero(a, axis=None, *, keepdims=False):
    """NumPy's ``count_nonzero``."""
    return sum(a != 0, axis, keepdims=keepdims)


def _argument(who, p, a, axis, out, keepdims):
    refuse(who, out=(out, None))
    if axis is None:
        y = p(ravel(a), axis=0)
        return reshape_p(y, shape=(1,) * ndim_of(a)) if keepdims is True else y
    axis = normal_axis(who, axis, ndim_of(a))
    y = p(a, axis=axis)
    return reshape_p(y, shape=kept(shape_of(a), (axis,))) if keepdims is True else y


@implements(np.argmax)
def argmax(a, axis=None, out=None, *, keepdims=NO_VALUE):
    """NumPy's ``argmax``; it carries no derivative."""
    return _argument("argmax", argmax_p, a, axis, out, keepdims)


@implements(np.argmin)
def argmin(a, axis=None, out=None, *, keepdims=NO_VALUE):
    """NumPy's ``argmin``; it carries no derivative."""
    return _argument("argmin", argmin_p, a, axis, out, keepdims)


def _count(x, axis):
    return math.prod(shape_of(x)[i] for i in normal_axes("mean", axis, ndim_of(x)))


def _floating(x):
    """Integers and booleans as float64, as NumPy's means do."""
    return x if dtype_of(x).kind in "fc" else cast(x, np.float64)


@implements(np.mean)
def mean(a, axis=None, dtype=None, out=None, keepdims=NO_VALUE, *, where=True):
    """NumPy's ``mean``."""
    a = _floating(a)
    total = sum(a, axis, dtype, out, keepdims, where=where)
    n = _count(a, axis)
    return total / n if n else total * math.nan


@implements(np.var)
def var(
    a,
    axis=None,
    dtype=None,
    out=None,
    ddof=0,
    keepdims=NO_VALUE,
    *,
    where=True,
    mean=NO_VALUE,
    correction=NO_VALUE,
):
    """NumPy's ``var``, in two passes: the mean, then the mean square of what is left."""
    refuse("var", out=(out, None), where=(where, True))
    a = _floating(a if dtype is None else cast(a, dtype))
    ddof = ddof if correction is NO_VALUE else correction
    centre = _mean_kept(a, axis) if mean is NO_VALUE else mean
    n = _count(a, axis) - ddof
    total = sum(square(a - centre), axis, keepdims=keepdims)
    return total / n if n > 0 else total * math.nan


def _mean_kept(a, axis):
    return mean(a, axis, keepdims=True)


@implements(np.std)
def std(
    a,
    axis=None,
    dtype=None,
    out=None,
    ddof=0,
    keepdims=NO_VALUE,
    *,
    where=True,
    mean=NO_VALUE,
    correction=NO_VALUE,
):
    """NumPy's ``std``; the derivative at 0 is inf or NaN, as that of the square root."""
    return sqrt(
        var(a, axis, dtype, out, ddof, keepdims, where=where, mean=mean, correction=correction)
    )


@implements(np.average)
def average(a, axis=None, weights=None, returned=False, *, keepdims=NO_VALUE):
    """NumPy's ``average``."""
    refuse("average", returned=(returned, False))
    if weights is None:
        return mean(a, axis, keepdims=keepdims)
    if shape_of(weights) != shape_of(a):
        ax = normal_axis("average", axis, ndim_of(a))
        weights = reshape_p(
            weights, shape=tuple(n if i == ax else 1 for i, n in enumerate(shape_of(a)))
        )
        weights = broadcast_to(weights, shape_of(a))
    return sum(a * weights, axis, keepdims=keepdims) / sum(weights, axis, keepdims=keepdims)


@implements(np.cumsum, *([np.cumulative_sum] if hasattr(np, "cumulative_sum") else []))
def cumsum(a, axis=None, dtype=None, out=None):
    """NumPy's ``cumsum``."""
    refuse("cumsum", out=(out, None))
    if dtype is not None:
        a = cast(a, dtype)
    if axis is None:
        a, axis = ravel(a), 0
    return cumsum_p(a, axis=normal_axis("cumsum", axis, ndim_of(a)), reverse=False)


@implements(np.cumprod)
def cumprod(a, axis=None, dtype=None, out=None):
    """NumPy's ``cumprod``: running products, exact derivatives where entries are zero."""
    refuse("cumprod", out=(out, None))
    if dtype is not None:
        a = cast(a, dtype)
    if axis is None:
        a, axis = ravel(a), 0
    axis = normal_axis("cumprod", axis, ndim_of(a))
    return _running_product(a, axis) if shape_of(a)[axis] > 1 else copied(a)


@implements(np.diff)
def diff(a, n=1, axis=-1, prepend=NO_VALUE, append=NO_VALUE):
    """NumPy's ``diff``."""
    refuse("diff", prepend=(prepend, NO_VALUE), append=(append, NO_VALUE))
    axis = normal_axis("diff", axis, ndim_of(a))
    for _ in range(n):
        lead = (slice(None),) * axis
        a = a[(*lead, slice(1, None))] - a[(*lead, slice(None, -1))]
    return a


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


def _total(f):
    """``ufunc.reduce`` by a function that takes a dtype; a ufunc's axis is 0 when none is named."""
    return lambda a, axis=0, dtype=None, out=None, keepdims=False: f(a, axis, dtype, out, keepdims)


def _choice(f):
    """``ufunc.reduce`` by a function whose result is one of the entries, so that a dtype says nothing."""
    return lambda a, axis=0, dtype=None, out=None, keepdims=False: f(a, axis, out, keepdims)


def _running(f):
    """``ufunc.accumulate`` by a cumulative function."""
    return lambda a, axis=0, dtype=None, out=None: f(a, axis, dtype, out)


ufunc_methods.update(
    {
        (np.add, "reduce"): _total(sum),
        (np.multiply, "reduce"): _total(prod),
        (np.maximum, "reduce"): _choice(max),
        (np.minimum, "reduce"): _choice(min),
        (np.add, "accumulate"): _running(cumsum),
        (np.multiply, "accumulate"): _running(cumprod),
    }
)
for _name in (
    "sum",
    "prod",
    "max",
    "min",
    "any",
    "all",
    "argmax",
    "argmin",
    "mean",
    "var",
    "std",
    "cumsum",
    "cumprod",
):
    methods[_name] = globals()[_name]
