"""NumPy's functions that leave out NaN.

What is left out is replaced by a neutral number with `where`, so it is a structural zero: its derivative is exactly 0,
and so is that of whatever made the NaN.
"""

from __future__ import annotations

import math

import numpy as np

from nnmath_core.autodiff.ops.axes import is_line_of_one
from nnmath_core.autodiff.ops.compare import equal, isnan, logical_and, logical_not
from nnmath_core.autodiff.ops.conventions import NO_VALUE, as_operand, dtype_of, is_traced
from nnmath_core.autodiff.ops.elementwise import sqrt
from nnmath_core.autodiff.ops.plain import numpys
from nnmath_core.autodiff.ops.product import cumprod, prod
from nnmath_core.autodiff.ops.reduce import (
    all,
    argmax,
    argmin,
    count_shown,
    cumsum,
    max,
    mean,
    min,
    sum,
    var,
)
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import cast

_where = where  # reductions have a keyword of that name

__all__ = [
    "nanargmax",
    "nanargmin",
    "nancumprod",
    "nancumsum",
    "nanmax",
    "nanmean",
    "nanmin",
    "nanprod",
    "nanstd",
    "nansum",
    "nanvar",
]


def _without_nan(a, neutral, dtype=None):
    """Return a with ``neutral`` in place of NaN, and where it is not NaN (True: nowhere)."""
    a = as_operand(a)
    if dtype is not None and dtype is not NO_VALUE:
        a = cast(a, dtype)
    if dtype_of(a).kind not in "fc":
        return a, True
    missing = isnan(a)
    return where(missing, neutral, a), logical_not(missing)


def _shown(present, mask):
    """Both masks at once; the keyword ``where`` is True or NO_VALUE when it was not given."""
    if mask is True or mask is NO_VALUE:
        return present
    return mask if present is True else logical_and(present, mask)


@numpys(np.nansum)
def nansum(a, axis=None, dtype=None, out=None, keepdims=NO_VALUE, initial=NO_VALUE, where=NO_VALUE):
    """NumPy's ``nansum``; the derivative at NaN is 0."""
    return sum(_without_nan(a, 0, dtype)[0], axis, dtype, out, keepdims, initial, where)


@numpys(np.nanprod)
def nanprod(
    a, axis=None, dtype=None, out=None, keepdims=NO_VALUE, initial=NO_VALUE, where=NO_VALUE
):
    """NumPy's ``nanprod``; the derivative at NaN is 0."""
    return prod(_without_nan(a, 1, dtype)[0], axis, dtype, out, keepdims, initial, where)


@numpys(np.nancumsum)
def nancumsum(a, axis=None, dtype=None, out=None):
    """NumPy's ``nancumsum``; the derivative at NaN is 0."""
    return cumsum(_without_nan(a, 0, dtype)[0], axis, dtype, out)


@numpys(np.nancumprod)
def nancumprod(a, axis=None, dtype=None, out=None):
    """NumPy's ``nancumprod``; the derivative at NaN is 0."""
    return cumprod(_without_nan(a, 1, dtype)[0], axis, dtype, out)


@numpys(np.nanmean)
def nanmean(a, axis=None, dtype=None, out=None, keepdims=NO_VALUE, *, where=NO_VALUE):
    """NumPy's ``nanmean``; the derivative at NaN is 0, also where there is nothing else."""
    a, present = _without_nan(a, 0, dtype)
    axis = None if is_line_of_one(a, axis) else axis
    return mean(a, axis, None, out, keepdims, where=_shown(present, where))


@numpys(np.nanvar)
def nanvar(
    a,
    axis=None,
    dtype=None,
    out=None,
    ddof=0,
    keepdims=NO_VALUE,
    *,
    where=NO_VALUE,
    mean=NO_VALUE,
    correction=NO_VALUE,
):
    """NumPy's ``nanvar``: NaN where there are not more than ``ddof`` entries; the derivative at NaN is 0."""
    ddof = ddof if correction is NO_VALUE else correction
    a, present = _without_nan(a, 0, dtype)
    axis = None if is_line_of_one(a, axis) else axis
    shown = _shown(present, where)
    v = var(a, axis, None, out, ddof, keepdims, where=shown, mean=mean)
    if dtype_of(a).kind not in "fc":
        return v
    n = count_shown("nanvar", a, axis, keepdims, shown)
    return _where(n > ddof, v, math.nan)


@numpys(np.nanstd)
def nanstd(
    a,
    axis=None,
    dtype=None,
    out=None,
    ddof=0,
    keepdims=NO_VALUE,
    *,
    where=NO_VALUE,
    mean=NO_VALUE,
    correction=NO_VALUE,
):
    """NumPy's ``nanstd``: the root of `nanvar`."""
    return sqrt(
        nanvar(a, axis, dtype, out, ddof, keepdims, where=where, mean=mean, correction=correction)
    )


def _extreme(f, worst, a, axis, out, keepdims, initial, where):
    a = as_operand(a)
    if dtype_of(a).kind not in "fc":
        return f(a, axis, out, keepdims, initial, where)
    filled, present = _without_nan(a, worst)
    y = f(filled, axis, out, keepdims, initial, where)
    if initial is not NO_VALUE:
        return y
    # nothing but NaN and the worst number: what was filled in ties with it, so only true entries are averaged
    rows = equal(f(filled, axis, None, True), worst)
    ties = sum(_where(logical_and(rows, present), a, 0.0), axis, keepdims=keepdims)
    count = sum(present, axis, keepdims=keepdims)
    mine = ties / cast(_where(count > 0, count, 1), dtype_of(y))
    return _where(equal(y, worst), _where(count > 0, mine, math.nan), y)


@numpys(np.nanmax)
def nanmax(a, axis=None, out=None, keepdims=NO_VALUE, initial=NO_VALUE, where=NO_VALUE):
    """NumPy's ``nanmax``; ties share the derivative equally, and at NaN it is 0."""
    return _extreme(max, -math.inf, a, axis, out, keepdims, initial, where)


@numpys(np.nanmin)
def nanmin(a, axis=None, out=None, keepdims=NO_VALUE, initial=NO_VALUE, where=NO_VALUE):
    """NumPy's ``nanmin``; ties share the derivative equally, and at NaN it is 0."""
    return _extreme(min, math.inf, a, axis, out, keepdims, initial, where)


def _position(f, worst, a, axis, out, keepdims):
    filled, present = _without_nan(a, worst)
    if present is not True:
        empty = logical_not(present).all() if axis is None else all(logical_not(present), axis)
        if (
            not is_traced(empty) and empty.any()
        ):  # under vmap and staging there is no value to look at
            raise ValueError("All-NaN slice encountered")
    return f(filled, axis, out, keepdims=keepdims)


@numpys(np.nanargmax)
def nanargmax(a, axis=None, out=None, *, keepdims=NO_VALUE):
    """NumPy's ``nanargmax``; it carries no derivative."""
    return _position(argmax, -math.inf, a, axis, out, keepdims)


@numpys(np.nanargmin)
def nanargmin(a, axis=None, out=None, *, keepdims=NO_VALUE):
    """NumPy's ``nanargmin``; it carries no derivative."""
    return _position(argmin, math.inf, a, axis, out, keepdims)
