"""Products, cumulative products, and the linear recurrence of which their derivatives are made."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import get_blas_funcs

from nnmath_core.autodiff.ops.axes import (
    batched,
    by_cumulative,
    by_reduction,
    cumulative,
    reduction,
    samples_along,
    spread,
    summed,
    through_reduction,
)
from nnmath_core.autodiff.ops.conventions import (
    NO_VALUE,
    Aval,
    all_batched,
    constant,
    dropped,
    dtype_of,
    implements,
    methods,
    ndim_of,
    shape_of,
    ufunc_methods,
)
from nnmath_core.autodiff.ops.index import slice_p
from nnmath_core.autodiff.ops.join import concatenate_p
from nnmath_core.autodiff.ops.reduce import any_p, cumsum_p, from_initial, sum_p
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import broadcast_to_p, flip_p, reshape_p, transpose_p
from nnmath_core.autodiff.primitive import Primitive, Special, sample

__all__ = ["cumprod", "cumulative_prod", "prod"]


def _before(y, first):
    """Along the last axis, what stands before each entry of y; ``first`` before the first."""
    n, lead = shape_of(y)[-1], (slice(None),) * (ndim_of(y) - 1)
    if n == 0:
        return y
    start = constant(y, (*shape_of(y)[:-1], 1), first, dtype_of(y))
    if n == 1:
        return start
    return concatenate_p(start, slice_p(y, index=(*lead, slice(0, n - 1, 1))), axis=ndim_of(y) - 1)


def _backwards(y):
    return flip_p(y, axis=(ndim_of(y) - 1,))


def _recurrence_forward(be, b, c, *, reverse):
    xp, dtype = be.xp, np.result_type(b.dtype, c.dtype)
    y = xp.empty(b.shape, dtype)
    n, rows = b.shape[-1], math.prod(b.shape[:-1])
    if y.size == 0:
        return y
    if xp is np and dtype in _TBSV and n > rows:
        _solve_rows(b.reshape(rows, n), c.reshape(rows, n), y.reshape(rows, n), reverse)
        return y
    y[...] = b
    if reverse:
        for k in range(n - 2, -1, -1):
            y[..., k] += c[..., k + 1] * y[..., k + 1]
    else:
        for k in range(1, n):
            y[..., k] += c[..., k] * y[..., k - 1]
    return y


_TBSV = {np.dtype(t): get_blas_funcs("tbsv", dtype=t) for t in "fdFD"}


def _solve_rows(b, c, y, reverse):
    """Solve (1 - C) y = b or its transpose a row, C with c below its diagonal: the recurrence as BLAS knows it."""
    solve, n = _TBSV[y.dtype], y.shape[-1]
    band = np.zeros((2, n), y.dtype, order="F")  # the diagonal, 1, is not read
    y[...] = b
    for row, steps in zip(y, c, strict=True):
        np.negative(steps[1:], out=band[1, :-1])
        solved = solve(1, band, row, lower=1, trans=1 if reverse else 0, diag=1, overwrite_x=1)
        if solved is not row:  # it may have made a copy
            row[...] = solved


def _live_steps(m, i, reverse):
    """The entries of operand i of a recurrence that reach one of the entries of m."""
    m = cumsum_p(m, axis=ndim_of(m) - 1, reverse=not reverse) > 0
    return _before(m, False) if reverse and i == 1 else m


def _hidden(m, x):
    return x if type(x) is Aval else where(m, x, 0.0)


def _recurrence_shield(live, xs, y, *, reverse):
    b, c = xs
    c = _hidden(_live_steps(live, 1, reverse), c)
    return (b, c), _hidden(_live_steps(live, 0, reverse), y)


recurrence_p = Primitive(
    "recurrence",
    forward=_recurrence_forward,
    vjp=(
        lambda g, xs, y, *, reverse: recurrence_p(g, xs[1], reverse=not reverse),
        lambda g, xs, y, *, reverse: (
            _before(recurrence_p(g, xs[1], reverse=False), 0) * y
            if reverse
            else recurrence_p(g, xs[1], reverse=True) * _before(y, 0)
        ),
    ),
    jvp=(
        lambda t, xs, y, *, reverse: recurrence_p(t, xs[1], reverse=reverse),
        lambda t, xs, y, *, reverse: recurrence_p(
            _backwards(_before(_backwards(t * y), 0)) if reverse else t * _before(y, 0),
            xs[1],
            reverse=reverse,
        ),
    ),
    keeps=("1", "1y"),
    through=lambda m, i, xs, y, *, reverse: _live_steps(m, i, reverse),
    shield=_recurrence_shield,
    shape=lambda b, c, *, reverse: Aval(b.shape, np.result_type(b.dtype, c.dtype)),
    batch=lambda on, v, size, *, reverse: recurrence_p(*all_batched(on, v, size), reverse=reverse),
    samples=lambda d: [
        sample(d.normal(3, 4), d.normal(3, 4), reverse=False),
        sample(d.normal(3, 4), d.normal(3, 4), reverse=True),
        sample(d.normal(9), d.normal(9), reverse=False),
        sample(d.normal(2, 9), d.normal(2, 9), reverse=True),
        sample(d.normal(1), d.normal(1), reverse=True),
        sample(d.normal(3, 0), d.normal(3, 0), reverse=False),
    ],
)
"""y[k] = b[k] + c[k] y[k-1] along the last axis, or y[k] = b[k] + c[k+1] y[k+1]: each is the other's transpose.

The derivatives of cumulative products, of any order, are made of it: no division, so zeros need no care.
"""


def _last(x, axis):
    """Return x with an axis moved to the end, as a view."""
    n = ndim_of(x)
    return x if axis == n - 1 else transpose_p(x, axes=(*(i for i in range(n) if i != axis), axis))


def _from_last(x, axis):
    n = ndim_of(x)
    return x if axis == n - 1 else transpose_p(x, axes=(*range(axis), n - 1, *range(axis, n - 1)))


def _cumprod_vjp(g, xs, y, *, axis):
    g, x, y = (_last(v, axis) for v in (g, xs[0], y))
    return _from_last(recurrence_p(g, x, reverse=True) * _before(y, 1), axis)


def _cumprod_jvp(t, xs, y, *, axis):
    t, x, y = (_last(v, axis) for v in (t, xs[0], y))
    return _from_last(recurrence_p(t * _before(y, 1), x, reverse=False), axis)


def _live_factors(m, axis):
    """The entries that enter one of the products of m."""
    return cumsum_p(m, axis=axis, reverse=True) > 0


def _cumprod_shield(live, xs, y, *, axis):
    m = _live_factors(live, axis)
    return (_hidden(m, xs[0]),), _hidden(m, y)


cumprod_p = Primitive(
    "cumprod",
    forward=lambda be, x, *, axis: be.xp.cumprod(x, axis=axis),
    vjp=(_cumprod_vjp,),
    jvp=(_cumprod_jvp,),
    keeps=("0y",),
    through=lambda m, i, xs, y, *, axis: _live_factors(m, axis),
    shield=_cumprod_shield,
    shape=lambda x, *, axis: Aval(x.shape, np.cumprod(np.zeros(0, dtype_of(x))).dtype),
    batch=lambda on, v, size, *, axis: cumprod_p(v[0], axis=axis + 1),
    samples=lambda d: [
        sample(d.normal(3, 4), axis=1),
        sample(d.normal(4, 3), axis=0),
        sample(d.normal(2, 5, 2), axis=1),
        sample(np.array([0.7, 0.0, -1.2, 1.9, 0.0, 0.4]), axis=0),
        sample(d.normal(1), axis=0),
        sample(d.normal(0, 3), axis=0),
    ],
)


def _flattened(x, axis):
    """Return x with the axes merged into one, the last; what stands for it in `_unflattened`."""
    s = shape_of(x)
    order = tuple(i for i in range(len(s)) if i not in axis) + axis
    n = math.prod(s[i] for i in axis)
    return reshape_p(transpose_p(x, axes=order), shape=(*dropped(s, axis), n))


def _unflattened(x, axis, s):
    order = tuple(i for i in range(len(s)) if i not in axis) + axis
    x = reshape_p(x, shape=tuple(s[i] for i in order))
    return transpose_p(x, axes=tuple(int(i) for i in np.argsort(order)))


def _product_before(x):
    """Along the last axis, the product of the entries before each one."""
    return _before(cumprod_p(x, axis=ndim_of(x) - 1), 1)


def _others_by_products(x):
    return _product_before(x) * _backwards(_product_before(_backwards(x)))


def _others_forward(be, x, *, axis):
    if be.xp is not np or x.dtype.kind != "f":
        return _unflattened(_others_by_products(_flattened(x, axis)), axis, x.shape)
    with np.errstate(all="ignore"):
        p = np.prod(x, axis=axis, keepdims=True)
        least = np.prod(np.minimum(np.abs(x), 1), axis=axis, keepdims=True)
        whole = np.isfinite(p)
        # No partial product, in whatever order, is smaller than `least`, and one that overflows makes p infinite: here
        # there is no zero and no digit is lost at an end of the range, so the quotient is as good as the product.
        if np.all((least >= np.finfo(x.dtype).tiny) & whole):
            return p / x
    r = _unflattened(_others_by_products(_flattened(x, axis)), axis, x.shape)
    lost = (
        ~np.isfinite(r) & whole & (p != 0)
    )  # a partial product overflowed where the whole does not
    return np.where(lost, p / np.where(x == 0, 1, x), r) if np.any(lost) else r


def _others_slope(t, xs, y, *, axis):
    """Rule in both modes: the matrix of second derivatives of a product is symmetric."""
    x, t = _flattened(xs[0], axis), _flattened(t, axis)
    ahead, behind = _product_before(x), _product_before(_backwards(x))
    d_ahead = _before(recurrence_p(t * ahead, x, reverse=False), 0)
    d_behind = _before(recurrence_p(_backwards(t) * behind, _backwards(x), reverse=False), 0)
    r = d_ahead * _backwards(behind) + ahead * _backwards(d_behind)
    return _unflattened(r, axis, shape_of(xs[0]))


others_p = Primitive(
    "others",
    forward=_others_forward,
    vjp=(_others_slope,),
    jvp=(_others_slope,),
    keeps=("0",),
    through=lambda m, i, xs, y, *, axis: broadcast_to_p(
        any_p(m, axis=axis, keepdims=True), shape=xs[0].shape
    ),
    shape=lambda x, *, axis: Aval(x.shape, np.cumprod(np.zeros(0, dtype_of(x))).dtype),
    batch=lambda on, v, size, *, axis: others_p(v[0], axis=tuple(a + 1 for a in axis)),
    samples=lambda d: [
        sample(d.normal(3, 4), axis=(1,)),
        sample(d.normal(2, 3, 2), axis=(0, 2)),
        sample(np.array([[0.0, 2.0, 3.0], [0.0, 0.7, 0.0], [1.3, -0.4, 0.8]]), axis=(1,)),
        sample(d.normal(3), axis=()),
        sample(d.normal(2, 0), axis=(1,)),
    ],
)
"""For each entry the product of the others of its slice: the derivative of a product, right where entries are zero."""

prod_p = Primitive(
    "prod",
    forward=lambda be, x, *, axis, keepdims: be.xp.prod(x, axis=axis, keepdims=keepdims),
    vjp=(
        lambda g, xs, y, *, axis, keepdims: spread(g, xs[0].shape, axis, keepdims)
        * others_p(xs[0], axis=axis),
    ),
    jvp=(
        lambda t, xs, y, *, axis, keepdims: sum_p(
            t * others_p(xs[0], axis=axis), axis=axis, keepdims=keepdims
        ),
    ),
    keeps=("0",),
    through=through_reduction,
    shape=summed,
    batch=batched(lambda: prod_p),
    samples=samples_along(),
    special=[Special("prod with one zero: the product of the others", ([0.0, 2.0, 3.0],), ([6.0, 0.0, 0.0],),
                     {"axis": (0,), "keepdims": False})],
)  # fmt: skip


# ---------------------------------------------------------------------------------------------- NumPy's functions
@implements(np.prod)
def prod(a, axis=None, dtype=None, out=None, keepdims=NO_VALUE, initial=NO_VALUE, where=True):
    """NumPy's ``prod``."""
    y = reduction("prod", prod_p, a, axis, dtype, out, keepdims, where, 1)
    return y if initial is NO_VALUE else y * initial


@implements(np.cumprod)
def cumprod(a, axis=None, dtype=None, out=None):
    """NumPy's ``cumprod``; its derivatives are exact where entries are zero."""
    return cumulative("cumprod", cumprod_p, a, axis, dtype, out)


@implements(*([np.cumulative_prod] if hasattr(np, "cumulative_prod") else []))
def cumulative_prod(x, /, *, axis=None, dtype=None, out=None, include_initial=False):
    """NumPy's ``cumulative_prod``."""
    return from_initial("cumulative_prod", cumprod, 1, x, axis, dtype, out, include_initial)


ufunc_methods.update(
    {
        (np.multiply, "reduce"): by_reduction(prod),
        (np.multiply, "accumulate"): by_cumulative(cumprod),
    }
)
methods.update({"prod": prod, "cumprod": cumprod})
