"""Choosing among arrays: `select`, `choose`, `piecewise`."""

from __future__ import annotations

import numpy as np

from nnmath_core._ext._autodiff import Tracer
from nnmath_core.autodiff.ops.compare import logical_not, logical_or, not_equal
from nnmath_core.autodiff.ops.conventions import (
    as_operand,
    constant,
    dtype_of,
    is_traced,
    methods,
    ndim_of,
    operands,
    refuse,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import remainder
from nnmath_core.autodiff.ops.index import take_along_p
from nnmath_core.autodiff.ops.join import stack
from nnmath_core.autodiff.ops.plain import numpys
from nnmath_core.autodiff.ops.select import clip, where
from nnmath_core.autodiff.ops.shape import (
    broadcast_to,
    cast,
    reshape_p,
)
from nnmath_core.autodiff.ops.update import at
from nnmath_core.checks import require_in, sentence
from nnmath_core.errors import DtypeError, ShapeError, TraceError

__all__ = ["choose", "piecewise", "select"]


@numpys(np.select)
def select(condlist, choicelist, default=0):
    """NumPy's ``select``: the first choice whose condition holds; what is not chosen is a structural zero."""
    if len(condlist) != len(choicelist):
        raise ValueError("list of cases must be same length as list of conditions")
    if not len(condlist):
        raise ValueError("select with an empty condition list is not possible")
    n = len(condlist)
    *both, default = operands(*condlist, *choicelist, default)
    conditions, choices = both[:n], both[n:]
    for i, c in enumerate(conditions):
        if dtype_of(c) != np.bool_:
            raise TypeError(f"invalid entry {i} in condlist: should be boolean ndarray")
    dtype = np.result_type(
        *[x if isinstance(x, (int, float, complex)) else dtype_of(x) for x in (*choices, default)]
    )
    shape = np.broadcast_shapes(*map(shape_of, (*conditions, *choices, default)))
    default = cast(operands(*both, default, numbers=True)[-1], dtype)
    y = broadcast_to(default, shape)
    for c, x in zip(reversed(conditions), reversed(choices), strict=True):
        y = where(c, cast(x, dtype), y)
    return y


@numpys(np.choose)
def choose(a, choices, out=None, mode="raise"):
    """NumPy's ``choose``: for each integer of a the entry of that choice."""
    refuse("choose", out=(out, None))
    require_in("choose", "mode", mode, ("raise", "wrap", "clip"))
    a = as_operand(a)
    if dtype_of(a).kind not in "biu":
        raise DtypeError(
            f"choose: `a` must be integers, got {dtype_of(a)}. Round them: `.astype(int)`."
        )
    a = cast(a, np.intp)
    if isinstance(choices, (list, tuple)):
        choices = [as_operand(c) for c in choices]
    else:
        choices = [choices[k] for k in range(shape_of(choices)[0])]
    n = len(choices)
    if mode == "wrap":
        a = remainder(a, n)
    elif mode == "clip":
        a = clip(a, 0, n - 1)
    elif not isinstance(a, Tracer) and np.any((a < 0) | (a >= n)):
        raise ValueError("invalid entry in choice array")
    shape = np.broadcast_shapes(shape_of(a), *map(shape_of, choices))
    table = stack([broadcast_to(c, shape) for c in choices], 0)
    i = broadcast_to(a, shape)
    return take_along_p(table, reshape_p(i, shape=(1, *shape)), axis=0)[0]


@numpys(np.piecewise)
def piecewise(x, condlist, funclist, *args, **kw):
    """NumPy's ``piecewise``: a function sees the entries where its condition holds.

    Under vmap and staging, where the number of those is not known, it sees all of them, and the others are structural
    zeros.
    """
    x = as_operand(x)
    if isinstance(condlist, (list, tuple)):  # to NumPy a list of numbers is one condition
        first = condlist[0] if condlist else 0
        many = bool(condlist) and (is_traced(first) or ndim_of(first) > 0 or ndim_of(x) == 0)
    else:
        many = ndim_of(condlist) > ndim_of(x) or (ndim_of(condlist) == 1 == ndim_of(x) + 1)
    conditions = [as_operand(c) for c in condlist] if many else [as_operand(condlist)]
    for c in conditions:
        if shape_of(c) != shape_of(x)[: ndim_of(c)]:
            wanted = f"conditions of the shape {shape_of(x)} of `x`, or of its first axes"
            raise ShapeError(
                sentence("piecewise", "condlist", wanted, f"one of shape {shape_of(c)}")
            )
    conditions = [c if dtype_of(c) == np.bool_ else not_equal(c, 0) for c in conditions]
    if len(funclist) == len(conditions) + 1:
        covered = conditions[0]
        for c in conditions[1:]:
            covered = logical_or(covered, c)
        conditions.append(logical_not(covered))
    elif len(funclist) != len(conditions):
        n = len(conditions)
        raise ValueError(f"with {n} condition(s), either {n} or {n + 1} functions are expected")
    y = constant(x, shape_of(x), 0, dtype_of(x))
    for c, f in zip(conditions, funclist, strict=True):
        if not callable(f):
            y = _filled(y, c, cast(as_operand(f), dtype_of(x)))
        elif is_traced(c):
            y = where(_over(c, y), cast(f(x, *args, **kw), dtype_of(x)), y)
        elif np.any(c):
            chosen = f(x[c] if ndim_of(x) else x, *args, **kw)
            y = at(y)[c].set(chosen) if ndim_of(x) else cast(as_operand(chosen), dtype_of(x))
    return y


def _over(c, y):
    """A condition on the first axes of y, which is how an index is read, as one that broadcasts."""
    return reshape_p(c, shape=(*shape_of(c), *(1 for _ in range(ndim_of(y) - ndim_of(c)))))


def _filled(y, c, v):
    """NumPy's ``y[c] = v``: a number, or as many as the condition selects."""
    if shape_of(v) in ((), (1,)) or not ndim_of(y):
        return where(_over(c, y), v, y)
    if is_traced(c):
        raise TraceError(
            "piecewise: an entry of `funclist` that is an array holds one number for each selected entry of x, whose "
            "number is not known under vmap or while staging. Pass a function of x."
        )
    return at(y)[c].set(v)


methods.update({"choose": choose})
