"""Evenly spaced numbers between traced ends: straight, by powers, by ratios."""

from __future__ import annotations

import operator

import numpy as np

from nnmath_core._ext._autodiff import value_of
from nnmath_core.autodiff.ops.compare import equal
from nnmath_core.autodiff.ops.conventions import (
    as_operand,
    beside,
    constant,
    dtype_of,
    is_traced,
    ndim_of,
    operands,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import absolute, floor, log10, power, sign
from nnmath_core.autodiff.ops.plain import numpys
from nnmath_core.autodiff.ops.reduce import any as any_of
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import cast, expand_dims, moveaxis

__all__ = ["geomspace", "linspace", "logspace"]


def _probe(x):
    """What NumPy may be asked about in the place of x: a Python number, or an array, which is 1."""
    x = as_operand(x)
    return np.ones((), dtype_of(x)) if hasattr(x, "dtype") else type(x)(1)


@numpys(np.linspace)
def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0, *, device=None):
    """NumPy's ``linspace``; it is linear in ``start`` and ``stop``."""
    num = operator.index(num)
    if num < 0:
        raise ValueError(f"Number of samples, {num}, must be non-negative.")
    start, stop = operands(start, stop)
    natural = np.linspace(_probe(start), _probe(stop), 2).dtype
    to = natural if dtype is None else np.dtype(dtype)
    ends = np.broadcast_shapes(shape_of(start), shape_of(stop))
    like = next((x for x in (start, stop) if hasattr(x, "dtype")), start)
    steps = np.arange(num, dtype=natural).reshape((num,) + (1,) * len(ends))
    between = num - 1 if endpoint else num
    start, stop = cast(start, natural), cast(stop, natural)
    width = stop - start
    step = width / between if between > 0 else constant(like, ends, np.nan, natural)
    # times the step where there is one: the bits are NumPy's
    y = start + beside(like, steps) * (step if between > 0 else width)
    if endpoint and num > 1:
        y = where(beside(like, steps == num - 1), stop, y)
    if to.kind in "iu":
        y = floor(y)
    y = cast(moveaxis(y, 0, axis) if axis != 0 else y, to)
    return (y, step) if retstep else y


@numpys(np.logspace)
def logspace(start, stop, num=50, endpoint=True, base=10.0, dtype=None, axis=0):
    """NumPy's ``logspace``: powers of the base, whose exponents are evenly spaced."""
    start, stop, base = operands(start, stop, base)
    if ndim_of(base):
        whole = max(map(ndim_of, (start, stop, base)))
        start, stop, base = (
            expand_dims(x, tuple(range(whole - ndim_of(x)))) for x in (start, stop, base)
        )
        base = expand_dims(base, axis)
    y = power(base, linspace(start, stop, num, endpoint, axis=axis))
    return y if dtype is None else cast(y, dtype)


@numpys(np.geomspace)
def geomspace(start, stop, num=50, endpoint=True, dtype=None, axis=0):
    """NumPy's ``geomspace``: a constant ratio from one number to the next; neither end is 0."""
    start, stop = operands(start, stop, numbers=True)
    _require_no_zero(start, stop)
    natural = np.geomspace(_probe(start), _probe(stop), 2).dtype
    start, stop = cast(start, natural), cast(stop, natural)
    turn = start / absolute(start) if natural.kind == "c" else sign(start)
    first, last = start / turn, stop / turn
    y = logspace(log10(first), log10(last), num, endpoint)
    n = shape_of(y)[0]
    steps = np.arange(n).reshape((n,) + (1,) * (ndim_of(y) - 1))
    if n:
        y = where(beside(y, steps == 0), first, y)
    if n > 1 and endpoint:
        y = where(beside(y, steps == n - 1), last, y)
    y = y * turn
    y = moveaxis(y, 0, axis) if axis != 0 else y
    return cast(y, natural if dtype is None else dtype)


def _require_no_zero(*ends):
    """A zero among values that are known; NaN follows where they are not, while staging."""
    for x in ends:
        value = value_of(x)
        if not is_traced(value) and bool(any_of(equal(value, 0))):
            raise ValueError("Geometric sequence cannot include zero")
