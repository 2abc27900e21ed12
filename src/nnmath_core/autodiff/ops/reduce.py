"""Sums, extrema, cumulative sums and what is made of them.

A reduction is a primitive with the parameters ``axis`` (a sorted tuple) and ``keepdims``.
"""

from __future__ import annotations

import math

import numpy as np

from nnmath_core.autodiff.ops.axes import (
    batched,
    by_choice,
    by_cumulative,
    by_reduction,
    cumulative,
    is_line_of_one,
    reduced,
    reduction,
    require_where,
    samples_along,
    spread,
    summed,
    through_reduction,
)
from nnmath_core.autodiff.ops.compare import isnan
from nnmath_core.autodiff.ops.conventions import (
    NO_VALUE,
    Aval,
    as_operand,
    constant,
    dropped,
    dtype_of,
    implements,
    kept,
    methods,
    ndim_of,
    normal_axes,
    normal_axis,
    real_dtype,
    refuse,
    shape_of,
    ufunc_methods,
)
from nnmath_core.autodiff.ops.elementwise import sqrt, square
from nnmath_core.autodiff.ops.join import concatenate_p
from nnmath_core.autodiff.ops.select import maximum, minimum, same, where
from nnmath_core.autodiff.ops.shape import (
    atleast_1d,
    broadcast_to,
    cast,
    floating,
    imag_p,
    ravel,
    real_p,
    reshape_p,
)
from nnmath_core.autodiff.primitive import Primitive, Special, sample
from nnmath_core.device import entering

_where = where  # reductions have a keyword of that name

__all__ = [
    "all",
    "any",
    "argmax",
    "argmin",
    "count_nonzero",
    "cumsum",
    "cumulative_sum",
    "diff",
    "max",
    "mean",
    "min",
    "ptp",
    "std",
    "sum",
    "var",
]


def _with_empty(d):
    return [*samples_along()(d), sample(d.normal(0, 3), axis=(0,), keepdims=False)]


def _sum_forward(be, x, *, axis, keepdims):
    if be.xp is np:  # half the cost of np.sum on small arrays
        return np.add.reduce(x, axis=axis, keepdims=keepdims)
    return be.xp.sum(x, axis=axis, keepdims=keepdims)


sum_p = Primitive(
    "sum",
    forward=_sum_forward,
    linear=True,
    vjp=(lambda g, xs, y, *, axis, keepdims: spread(g, xs[0].shape, axis, keepdims),),
    keeps=("",),
    through=through_reduction,
    shape=summed,
    batch=batched(lambda: sum_p),
    samples=_with_empty,
)


# ---------------------------------------------------------------------------------------------- extrema
def _extremum(name):
    """Declare max or min over axes: ties share equally; NaN is the extremum, so it is what is selected."""

    def selects(i, xs, y, *, axis, keepdims):
        y = y if keepdims else reshape_p(y, shape=kept(xs[0].shape, axis))
        return same(xs[0], y)

    def weights(xs, y, axis, keepdims):
        m = selects(0, xs, y, axis=axis, keepdims=keepdims)
        return m, sum_p(m, axis=axis, keepdims=True)

    def vjp(g, xs, y, *, axis, keepdims):
        m, count = weights(xs, y, axis, keepdims)
        g = g if keepdims else reshape_p(g, shape=kept(xs[0].shape, axis))
        return where(m, divide_by_count(g, count), 0.0)

    def jvp(t, xs, y, *, axis, keepdims):
        m = selects(0, xs, y, axis=axis, keepdims=keepdims)
        total, count = (sum_p(v, axis=axis, keepdims=keepdims) for v in (where(m, t, 0.0), m))
        return divide_by_count(total, count)

    beyond = 0.0 if name == "max" else 2.0
    at = {"axis": (0,), "keepdims": False}
    return Primitive(
        name,
        forward=lambda be, x, *, axis, keepdims: getattr(be.xp, name)(x, axis=axis, keepdims=keepdims),
        vjp=(vjp,),
        jvp=(jvp,),
        keeps=("0y",),
        selects=selects,
        through=through_reduction,
        shape=reduced,
        batch=batched(lambda: max_p if name == "max" else min_p),
        samples=samples_along("apart"),
        domain="everywhere; shared equally at ties",
        special=[
            Special(f"{name} at a tie: shared equally", ([1.0, 1.0, beyond],), ([0.5, 0.5, 0.0],), at),
            Special(f"{name} with NaN, which is selected: 1 there", ([1.0, math.nan, beyond],), ([0.0, 1.0, 0.0],), at),
        ],
    )  # fmt: skip


def divide_by_count(g, count):
    """Divide g by a count, in the dtype of g."""
    return g / cast(count, dtype_of(g))


max_p = _extremum("max")
min_p = _extremum("min")


def _truth(name):
    return Primitive(
        name,
        forward=lambda be, x, *, axis, keepdims: getattr(be.xp, name)(
            x, axis=axis, keepdims=keepdims
        ),
        differentiable=False,
        shape=lambda x, *, axis, keepdims: reduced(
            x, axis=axis, keepdims=keepdims, dtype=np.dtype(bool)
        ),
        batch=batched(lambda: any_p if name == "any" else all_p),
        samples=samples_along("mask"),
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


# ---------------------------------------------------------------------------------------------- NumPy's functions
@implements(np.sum)
def sum(a, axis=None, dtype=None, out=None, keepdims=NO_VALUE, initial=NO_VALUE, where=True):
    """NumPy's ``sum``."""
    y = reduction("sum", sum_p, a, axis, dtype, out, keepdims, where)
    return y if initial is NO_VALUE else y + initial


def _extreme(who, p, beats, sign, a, axis, out, keepdims, initial, where_):
    """Max or min; ``sign`` is that of its neutral element, infinity."""
    if initial is NO_VALUE:
        if where_ is not True and where_ is not NO_VALUE:
            raise ValueError(
                f"{who}: with `where` give `initial`, too, the value when no entry is shown."
            )
        return reduction(who, p, a, axis, None, out, keepdims)
    a = as_operand(a)
    dtype = dtype_of(a)
    if dtype.kind in "fc":
        neutral = sign * math.inf
    elif dtype.kind == "b":
        neutral = sign > 0
    else:
        neutral = np.iinfo(dtype).max if sign > 0 else np.iinfo(dtype).min
    axis = None if is_line_of_one(a, axis) else axis
    axes = normal_axes(who, axis, ndim_of(a))
    if math.prod(shape_of(a)[i] for i in axes):
        y = reduction(who, p, a, axis, None, out, keepdims, where_, neutral)
    else:
        shape = kept(shape_of(a), axes) if keepdims is True else dropped(shape_of(a), axes)
        y = constant(a, shape, neutral, dtype)
    return beats(y, initial)


@implements(np.max, np.amax)
def max(a, axis=None, out=None, keepdims=NO_VALUE, initial=NO_VALUE, where=True):
    """NumPy's ``max``; its derivative is shared equally among ties."""
    return _extreme("max", max_p, maximum, -1, a, axis, out, keepdims, initial, where)


@implements(np.min, np.amin)
def min(a, axis=None, out=None, keepdims=NO_VALUE, initial=NO_VALUE, where=True):
    """NumPy's ``min``; its derivative is shared equally among ties."""
    return _extreme("min", min_p, minimum, 1, a, axis, out, keepdims, initial, where)


@implements(np.ptp)
@entering
def ptp(a, axis=None, out=None, keepdims=NO_VALUE):
    """NumPy's ``ptp``: maximum minus minimum; its derivative at NaN is NaN."""
    y = max(a, axis, out, keepdims) - min(a, axis, out, keepdims)
    if dtype_of(y).kind != "f":
        return y
    # both select the NaN: their shares would cancel
    return y * cast(_where(isnan(y), math.nan, 1.0), dtype_of(y))


@implements(np.any)
def any(a, axis=None, out=None, keepdims=NO_VALUE, *, where=True):
    """NumPy's ``any``."""
    return reduction("any", any_p, a, axis, None, out, keepdims, where, False)


@implements(np.all)
def all(a, axis=None, out=None, keepdims=NO_VALUE, *, where=True):
    """NumPy's ``all``."""
    return reduction("all", all_p, a, axis, None, out, keepdims, where, True)


@implements(np.count_nonzero)
@entering
def count_nonzero(a, axis=None, *, keepdims=False):
    """NumPy's ``count_nonzero``."""
    return sum(as_operand(a) != 0, axis, keepdims=keepdims)


def _argument(who, p, a, axis, out, keepdims):
    refuse(who, out=(out, None))
    if axis is None or is_line_of_one(a, axis):
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


def count_shown(who, x, axis, keepdims, mask):
    """How many entries of x are shown in each slice: an integer, or an array in the real dtype of x."""
    axes, shape = normal_axes(who, axis, ndim_of(x)), shape_of(x)
    if mask is True or mask is NO_VALUE:
        return math.prod(shape[i] for i in axes)
    mask = broadcast_to(require_where(who, mask, x), shape)
    return cast(sum_p(mask, axis=axes, keepdims=keepdims is True), real_dtype(x))


def _over(total, n):
    """Divide by a count, or by 0 when it is negative; NumPy does, and so too many degrees of freedom give inf."""
    if isinstance(n, (int, float)):
        return total / n if n > 0 else total * math.inf
    return total / _where(n > 0, n, 0.0)


@implements(np.mean)
@entering
def mean(a, axis=None, dtype=None, out=None, keepdims=NO_VALUE, *, where=True):
    """NumPy's ``mean``."""
    a = floating(a if dtype is None else cast(as_operand(a), dtype))
    n = count_shown("mean", a, axis, keepdims, where)
    return _over(sum(a, axis, None, out, keepdims, where=where), n)


@implements(np.var)
@entering
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
    """NumPy's ``var``, in two passes: the mean, then the mean square modulus of what is left."""
    ddof = ddof if correction is NO_VALUE else correction
    return _variance("var", a, axis, dtype, out, ddof, keepdims, where, mean)


def _variance(who, a, axis, dtype, out, ddof, keepdims, where_, centre):
    refuse(who, out=(out, None))
    a = floating(a if dtype is None else cast(as_operand(a), dtype))
    n = count_shown(who, a, axis, keepdims, where_) - ddof
    rest = a - (mean(a, axis, keepdims=True, where=where_) if centre is NO_VALUE else centre)
    if dtype_of(rest).kind == "c":
        squares = square(real_p(rest)) + square(imag_p(rest))
    else:
        squares = square(rest)
    return _over(sum(squares, axis, keepdims=keepdims, where=where_), n)


@implements(np.std)
@entering
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
    ddof = ddof if correction is NO_VALUE else correction
    return sqrt(_variance("std", a, axis, dtype, out, ddof, keepdims, where, mean))


@implements(np.cumsum)
def cumsum(a, axis=None, dtype=None, out=None):
    """NumPy's ``cumsum``."""
    return cumulative("cumsum", cumsum_p, a, axis, dtype, out, reverse=False)


def from_initial(who, running, initial, x, axis, dtype, out, include_initial):
    """A cumulative function of the array API standard: one axis, named when there are several."""
    x = atleast_1d(as_operand(x))
    if axis is None:
        if ndim_of(x) > 1:
            raise ValueError(f"{who}: name the `axis` of an array that has {ndim_of(x)}.")
        axis = 0
    y = running(x, axis, dtype, out)
    if not include_initial:
        return y
    shape, axis = shape_of(y), normal_axis(who, axis, ndim_of(y))
    start = constant(y, (*shape[:axis], 1, *shape[axis + 1 :]), initial, dtype_of(y))
    return concatenate_p(start, y, axis=axis)


@implements(*([np.cumulative_sum] if hasattr(np, "cumulative_sum") else []))
def cumulative_sum(x, /, *, axis=None, dtype=None, out=None, include_initial=False):
    """NumPy's ``cumulative_sum``."""
    return from_initial("cumulative_sum", cumsum, 0, x, axis, dtype, out, include_initial)


@implements(np.diff)
@entering
def diff(a, n=1, axis=-1, prepend=NO_VALUE, append=NO_VALUE):
    """NumPy's ``diff``; of order 0 it is the array, whatever is to be joined to it."""
    a = as_operand(a)
    if n == 0:
        return a
    if n < 0:
        raise ValueError(f"diff: `n` must be at least 0, got {n}.")
    axis = normal_axis("diff", axis, ndim_of(a))
    parts = [_beside_along(a, x, axis) for x in (prepend, a, append) if x is not NO_VALUE]
    if len(parts) > 1:
        a = concatenate_p(*parts, axis=axis)
    lead = (slice(None),) * axis
    for _ in range(n):
        a = _difference(a[(*lead, slice(1, None))], a[(*lead, slice(None, -1))])
    return a


def _beside_along(a, x, axis):
    """What is joined to a along an axis; a number is repeated along the others."""
    x = as_operand(x)
    if ndim_of(x):
        return x
    s = shape_of(a)
    return broadcast_to(x, (*s[:axis], 1, *s[axis + 1 :]))


def _difference(x, y):
    return x != y if dtype_of(x) == np.bool_ else x - y


ufunc_methods.update(
    {
        (np.add, "reduce"): by_reduction(sum),
        (np.maximum, "reduce"): by_choice(max),
        (np.minimum, "reduce"): by_choice(min),
        (np.add, "accumulate"): by_cumulative(cumsum),
    }
)
for _name in (
    "sum",
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
):
    methods[_name] = globals()[_name]
