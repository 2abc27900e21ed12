"""The methods of ufuncs: reduce, accumulate, reduceat, outer.

A ufunc that has a reduction of its own (`sum`, `prod`, `max`, `logsumexp`, ...) uses it. Every other one of two
operands is folded from left to right, entry by entry, as NumPy does it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core.autodiff.ops.axes import by_choice, by_reduction, require_where
from nnmath_core.autodiff.ops.compare import (
    equal,
    isnan,
    logical_and,
    logical_not,
    logical_or,
    not_equal,
)
from nnmath_core.autodiff.ops.conventions import (
    NO_VALUE,
    as_operand,
    beside,
    constant,
    dropped,
    dtype_of,
    kept,
    ndim_of,
    normal_axes,
    normal_axis,
    refuse,
    shape_of,
    ufunc_methods,
    ufuncs,
)
from nnmath_core.autodiff.ops.elementwise import logaddexp
from nnmath_core.autodiff.ops.floats import fmax, fmin, logaddexp2
from nnmath_core.autodiff.ops.index import take_along_p
from nnmath_core.autodiff.ops.join import concatenate_p, stack
from nnmath_core.autodiff.ops.nan import nanmax, nanmin
from nnmath_core.autodiff.ops.reduce import all, any, max, min
from nnmath_core.autodiff.ops.select import maximum, minimum, where
from nnmath_core.autodiff.ops.shape import broadcast_to, cast, moveaxis, reshape_p, stop_gradient
from nnmath_core.autodiff.ops.softmax import logsumexp_p
from nnmath_core.autodiff.primitive import REGISTRY

__all__ = ["fill_ufunc_methods"]

_where = where  # reductions have a keyword of that name
_LOGICAL = frozenset({np.logical_and, np.logical_or, np.logical_xor})


def _entries(a: Any, axis: int) -> list[Any]:
    x = moveaxis(a, axis, 0)
    return [x[k] for k in range(shape_of(x)[0])]


def _prepared(who: str, a: Any, axis: Any, dtype: Any, out: Any) -> tuple[Any, int]:
    refuse(who, out=(out, None))
    a = as_operand(a)
    a = a if dtype is None else cast(a, dtype)
    if axis is None and ndim_of(a) == 1:
        axis = 0
    if axis is None or isinstance(axis, tuple):
        raise ValueError(
            f"{who}: the order of the operations matters, so it takes one axis, got axis={axis}."
        )
    return a, normal_axis(who, axis, ndim_of(a))


# ---------------------------------------------------------------------------------------------- folds of any ufunc
def _fold(u: Any, f: Any) -> Callable[..., Any]:
    who = f"np.{u.__name__}.reduce"

    def reduce(
        a: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False,
        initial: Any = NO_VALUE, where: Any = True,
    ) -> Any:  # fmt: skip
        refuse(who, where=(where, True))
        if u.identity is not None and (
            axis is None or isinstance(axis, tuple)
        ):  # the order does not matter
            for k in reversed(normal_axes(who, axis, ndim_of(a))):
                a = reduce(a, k, dtype, out, keepdims)
            return a if initial is NO_VALUE else f(initial, a)
        a, axis = _prepared(who, a, axis, dtype, out)
        entries = _entries(a, axis)
        if initial is not NO_VALUE and initial is not None:
            y = broadcast_to(cast(initial, dtype_of(a)), dropped(shape_of(a), (axis,)))
        elif u.identity is not None and (not entries or u.identity is False):
            y = constant(a, dropped(shape_of(a), (axis,)), u.identity, dtype_of(a))
        elif entries:
            y = entries.pop(0)
        else:
            raise ValueError(
                f"zero-size array to reduction operation {u.__name__} which has no identity"
            )
        for x in entries:
            y = f(y, x)
        return reshape_p(y, shape=kept(shape_of(a), (axis,))) if keepdims else y

    return reduce


def _scan(u: Any, f: Any) -> Callable[..., Any]:
    who = f"np.{u.__name__}.accumulate"

    def accumulate(a: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
        a, axis = _prepared(who, a, axis, dtype, out)
        if u in _LOGICAL:  # the first result is an entry, as a truth value
            a = not_equal(a, 0)
        entries = _entries(a, axis)
        if len(entries) < 1:
            return a
        found = entries[:1]
        for x in entries[1:]:
            found.append(f(found[-1], x))
        return stack(found, axis)

    return accumulate


def _pieces(u: Any) -> Callable[..., Any]:
    who = f"np.{u.__name__}.reduceat"

    def reduceat(a: Any, indices: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
        a, axis = _prepared(who, a, axis, dtype, out)
        n, starts = shape_of(a)[axis], np.ravel(indices).tolist()
        for i in starts:
            if not 0 <= i < n:
                raise IndexError(f"index {i} out-of-bounds in {u.__name__}.reduceat [0, {n})")
        lead, parts = (slice(None),) * axis, []
        for i, stop in zip(starts, [*starts[1:], n], strict=True):
            if stop > i + 1 or u in _LOGICAL:
                part = a[(*lead, slice(i, stop if stop > i else i + 1))]
                parts.append(ufunc_methods[(u, "reduce")](part, axis))
            else:  # the entry itself, where a reduction of it, as `hypot`, is its size
                parts.append(a[(*lead, i)])
        return stack(parts, axis)

    return reduceat


def _outer(f: Any) -> Callable[..., Any]:
    def outer(a: Any, b: Any, /, dtype: Any = None) -> Any:
        a, b = as_operand(a), as_operand(b)
        if dtype is not None:
            a, b = cast(a, dtype), cast(b, dtype)
        return f(reshape_p(a, shape=(*shape_of(a), *(1 for _ in shape_of(b)))), b)

    return outer


# ---------------------------------------------------------------------------------------------- reductions of their own
def _logarithmic(base: float, pair: Any) -> Callable[..., Any]:
    """Sums of exponentials; ``base`` is the logarithm of the base."""

    def f(a: Any, axis: Any, dtype: Any, out: Any, keepdims: Any, initial: Any, mask: Any) -> Any:
        refuse("np.logaddexp.reduce", out=(out, None))
        a = as_operand(a)
        a = a if dtype is None else cast(a, dtype)
        a = (
            a
            if mask is True
            else _where(require_where("np.logaddexp.reduce", mask, a), a, -math.inf)
        )
        axes = normal_axes("np.logaddexp.reduce", axis, ndim_of(a))
        s = shape_of(a)
        if math.prod(s[k] for k in axes) == 0:
            y = constant(a, kept(s, axes) if keepdims else dropped(s, axes), -math.inf, dtype_of(a))
        else:
            y = logsumexp_p(a if base == 1 else a * base, axis=axes, keepdims=keepdims) / base
        return y if initial is NO_VALUE else pair(y, initial)

    return f


def _length(a: Any, axis: Any, dtype: Any, out: Any, keepdims: Any, initial: Any, mask: Any) -> Any:
    refuse("np.hypot.reduce", out=(out, None), where=(mask, True), initial=(initial, NO_VALUE))
    a = as_operand(a)
    a = a if dtype is None else cast(a, dtype)
    return REGISTRY["norm"](
        a, axis=normal_axes("np.hypot.reduce", axis, ndim_of(a)), keepdims=keepdims
    )


def _truth(f: Any) -> Callable[..., Any]:
    def reduce(a: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False,
               initial: Any = NO_VALUE, where: Any = True) -> Any:  # fmt: skip
        y = f(not_equal(as_operand(a), 0), axis, out, keepdims, where=where)
        return y if initial is NO_VALUE else (logical_and if f is all else logical_or)(y, initial)

    return reduce


# ---------------------------------------------------------------------------------------------- running extrema
def _doubling(beats: Any, x: Any, axis: int) -> Any:
    """The running result along an axis in log2(n) steps, for a function that may take an entry twice."""
    n, k, lead = shape_of(x)[axis], 1, (slice(None),) * axis
    while k < n:
        later = beats(x[(*lead, slice(k, None))], x[(*lead, slice(None, -k))])
        x = concatenate_p(x[(*lead, slice(None, k))], later, axis=axis)
        k *= 2
    return x


def _running_extreme(u: Any, beats: Any) -> Callable[..., Any]:
    who = f"np.{u.__name__}.accumulate"

    def accumulate(a: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
        """Selects the first of the entries that are extreme so far, which gets the derivative."""
        a, axis = _prepared(who, a, axis, dtype, out)
        n = shape_of(a)[axis]
        if n < 2:
            return a
        v = stop_gradient(a)
        m = _doubling(beats, v, axis)
        lead = (slice(None),) * axis
        now, before, entry = (
            m[(*lead, slice(1, None))],
            m[(*lead, slice(None, -1))],
            v[(*lead, slice(1, None))],
        )
        fresh = logical_and(equal(entry, now), not_equal(now, before))
        fresh = logical_or(fresh, logical_and(isnan(now), logical_not(isnan(before))))
        places = beside(a, np.arange(1, n).reshape((-1,) + (1,) * (ndim_of(a) - axis - 1)))
        first = constant(a, kept(shape_of(a), (axis,)), 0, np.intp)
        i = concatenate_p(first, where(fresh, places, 0), axis=axis)
        return take_along_p(a, _doubling(maximum, i, axis), axis=axis)

    return accumulate


def fill_ufunc_methods() -> None:
    """Add the methods of all ufuncs that are traced, where a table has none yet."""
    own: dict[Any, Any] = {
        np.maximum: by_choice(max),
        np.minimum: by_choice(min),
        np.fmax: by_choice(nanmax),
        np.fmin: by_choice(nanmin),
        np.logical_and: _truth(all),
        np.logical_or: _truth(any),
        np.logaddexp: by_reduction(_logarithmic(1.0, logaddexp)),
        np.logaddexp2: by_reduction(_logarithmic(math.log(2.0), logaddexp2)),
        np.hypot: by_reduction(_length),
    }
    running = {np.maximum: maximum, np.minimum: minimum, np.fmax: fmax, np.fmin: fmin}
    for u, f in ufuncs.items():
        if u.nin != 2 or u.nout != 1 or u.signature is not None:
            continue
        ufunc_methods.setdefault((u, "outer"), _outer(f))
        if u in own:
            ufunc_methods.setdefault((u, "reduce"), own[u])
        ufunc_methods.setdefault((u, "reduce"), _fold(u, f))
        ufunc_methods.setdefault(
            (u, "accumulate"), _running_extreme(u, running[u]) if u in running else _scan(u, f)
        )
        ufunc_methods.setdefault((u, "reduceat"), _pieces(u))
