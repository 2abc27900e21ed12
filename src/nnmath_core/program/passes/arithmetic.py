"""Arithmetic that changes nothing: neutral numbers, double negation, conditions that are known.

Exact in IEEE arithmetic, zeros with their signs, infinities and NaN included (of a NaN, possibly not the payload). ``x
+ 0.0`` is not x, since -0.0 + 0.0 is 0.0; and so NumPy's sum over an axis of one entry is ``x + 0.0``, not x. Both are
x where x is known to have no negative zero. Only ``power(x, 2)`` as a square, and ``power(x, -1)`` as a reciprocal,
differ by the rounding of the library's pow. (A value may come to lie in memory otherwise, and then NumPy's loops and
sums may choose another last bit.)

Arrays of one number become the number (a weak operand of the same dtype), where NumPy then chooses the same loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var, shape_of
from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.program.ir import Equation
from nnmath_core.program.passes.rewrite import Rewriter, one_number, rewrite

__all__ = ["with_arithmetic_simplified"]


def with_arithmetic_simplified(program: Any) -> tuple[Any, int]:
    """The program without arithmetic that changes nothing, and how often there was some."""
    return rewrite(program, _rule)


def _rule(r: Rewriter, e: Equation) -> Any:
    if REGISTRY.get(e.primitive.name) is not e.primitive or len(e.outputs) != 1:
        return None
    rule = _RULES.get(e.primitive.name)
    found = None if rule is None else rule(r, e, *e.operands)
    if found is None and e.primitive.name in _NUMERIC:
        found = _with_numbers(r, e)
    return found


def _result(r: Rewriter, e: Equation, x: Any) -> Any:
    """X as the result: repeated to its shape; None where it has another dtype."""
    out = e.outputs[0]
    if not isinstance(x, Var) or x.weak or x.dtype != out.dtype:
        return None
    if x.shape == out.shape:
        return x if r.results.isdisjoint(e.outputs) else None
    return r.broadcast(x, out.shape)


# ---------------------------------------------------------------------------------------------- numbers
def _number(r: Rewriter, x: Any) -> Any:
    """The Python number that an operand is in all its entries; None where it is not one number."""
    if isinstance(x, (bool, np.bool_)):
        return None
    if isinstance(x, (int, float, complex)) and not isinstance(x, np.generic):
        return x
    if isinstance(x, np.generic):
        return x.item() if x.dtype.kind in "iufc" else None
    array = r.constant_value(x)
    if array is None:
        m = r.made_by(x, "broadcast_to")
        if m is None or type(m.operands[0]) not in (int, float, complex):
            return None
        return m.operands[0]
    return one_number(array)


def _with_numbers(r: Rewriter, e: Equation) -> Any:
    """Arrays of one number as numbers, where another operand has their dtype and the shape of the result."""
    out = e.outputs[0]
    operands = list(e.operands)
    changed = False
    for i, x in enumerate(operands):
        if not isinstance(x, Var) or x.weak or (e.primitive.name == "where" and i == 0):
            continue
        number = _number(r, x)
        if number is None or (isinstance(number, float) and math.isnan(number)):
            continue
        others = [y for k, y in enumerate(operands) if k != i]
        if not any(isinstance(y, Var) and not y.weak and y.dtype == x.dtype for y in others):
            continue
        if np.broadcast_shapes((), *map(shape_of, others)) != out.shape:
            continue
        operands[i], changed = number, True
    if not changed:
        return None
    return r.emit(e.primitive.name, operands, out.shape, out.dtype)


_NUMERIC = {
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "power", "where",
    "less", "less_equal", "greater", "greater_equal", "equal", "not_equal",
}  # fmt: skip


def _is(number: Any, value: float) -> bool:
    return number is not None and number == value


def _is_negative_zero(number: Any) -> bool:
    return isinstance(number, float) and number == 0 and math.copysign(1.0, number) < 0


def _is_zero(number: Any) -> bool:
    """Whether it is a zero that is not negative; a complex number has two."""
    return isinstance(number, (int, float)) and number == 0 and not _is_negative_zero(number)


_NO_NEGATIVE_ZERO = ("sum", "square", "absolute", "exp", "softmax")
_VIEWS = ("reshape", "transpose", "broadcast_to", "flip", "slice")


def _no_negative_zero(r: Rewriter, x: Any) -> bool:
    """Whether no entry can be -0.0, by the operation that made it: a sum starts from 0.0."""
    if not isinstance(x, Var):
        return False
    if x.dtype.kind in "iub":
        return True
    if x.dtype.kind != "f":
        return False
    m = r.maker.get(x)
    while m is not None and m.primitive.name in _VIEWS and isinstance(m.operands[0], Var):
        m = r.maker.get(m.operands[0])
    if m is None or REGISTRY.get(m.primitive.name) is not m.primitive:
        return False
    if m.primitive.name in ("add", "subtract"):  # only -0.0 + -0.0 and -0.0 - 0.0 give -0.0
        a, b = m.operands
        return any(
            _no_negative_zero(r, y) for y in ((a,) if m.primitive.name == "subtract" else (a, b))
        )
    return m.primitive.name in _NO_NEGATIVE_ZERO


# ---------------------------------------------------------------------------------------------- operations
def _add(r: Rewriter, e: Equation, a: Any, b: Any) -> Any:
    for x, y in ((a, b), (b, a)):
        zero = _number(r, y)
        if _is_negative_zero(zero) or (_is_zero(zero) and _no_negative_zero(r, x)):
            found = _result(r, e, x)
            if found is not None:
                return found
    for x, y in ((a, b), (b, a)):  # x + (-z) is x - z
        z = _negated(r, e, y)
        if z is not None and _is_full(e, x):
            return _signed(r, e, "subtract", x, z)
    return None


def _subtract(r: Rewriter, e: Equation, a: Any, b: Any) -> Any:
    if _is_zero(_number(r, b)):
        found = _result(r, e, a)
        if found is not None:
            return found
    z = _negated(r, e, b)  # x - (-z) is x + z
    return _signed(r, e, "add", a, z) if z is not None and _is_full(e, a) else None


def _multiply(r: Rewriter, e: Equation, a: Any, b: Any) -> Any:
    for x, y in ((a, b), (b, a)):
        number = _number(r, y)
        if _is(number, 1) and not isinstance(number, complex):
            found = _result(r, e, x)
            if found is not None:
                return found
        if _is(number, -1) and isinstance(x, Var) and x.dtype.kind == "f":
            found = _result(r, e, x)
            if found is not None:
                return r.emit("negative", [found], found.shape, found.dtype)
    x, y = _negated(r, e, a), _negated(r, e, b)
    return _signed(r, e, "multiply", x, y) if x is not None and y is not None else None


def _divide(r: Rewriter, e: Equation, a: Any, b: Any) -> Any:
    out, number = e.outputs[0], _number(r, b)
    if _is(number, 1) and not isinstance(number, complex):
        return _result(r, e, a)
    if isinstance(a, Var) and not a.weak and a.dtype == out.dtype and out.dtype.kind == "f":
        if isinstance(number, (int, float)) and number and shape_of(b) == ():
            mantissa, power = math.frexp(number)
            if (
                abs(mantissa) == 0.5 and abs(power) < 100
            ):  # the inverse is a number too: both round the same quotient
                return r.emit("multiply", [a, 1.0 / number], out.shape, out.dtype)
        x, y = _negated(r, e, a), _negated(r, e, b)
        if x is not None and y is not None:
            return _signed(r, e, "divide", x, y)
    return None


def _negative(r: Rewriter, e: Equation, a: Any) -> Any:
    m = r.made_by(a, "negative")
    return None if m is None else _result(r, e, m.operands[0])


def _negated(r: Rewriter, e: Equation, x: Any) -> Any:
    """What an operand is the negative of, of the dtype of the result: else its own dtype may wrap."""
    m = r.made_by(x, "negative")
    if m is None or not isinstance(m.operands[0], Var) or m.operands[0].weak:
        return None
    return m.operands[0] if m.operands[0].dtype == e.outputs[0].dtype else None


def _is_full(e: Equation, x: Any) -> bool:
    """Whether an operand has the dtype of the result, or is a number, which takes it."""
    return not isinstance(x, Var) or x.dtype == e.outputs[0].dtype


def _signed(r: Rewriter, e: Equation, name: str, x: Any, y: Any) -> Any:
    out = e.outputs[0]
    return r.emit(name, [x, y], out.shape, out.dtype)


def _power(r: Rewriter, e: Equation, a: Any, b: Any) -> Any:
    out, number = e.outputs[0], _number(r, b)
    if not isinstance(a, Var) or a.weak or a.dtype != out.dtype or out.dtype.kind not in "fi":
        return None
    if _is(number, 1):
        return _result(r, e, a)
    if shape_of(b) and shape_of(b) != a.shape and a.shape != out.shape:
        return None
    if _is(number, 2) and a.shape == out.shape:
        return r.emit("square", [a], out.shape, out.dtype)
    if _is(number, -1) and a.shape == out.shape and out.dtype.kind == "f":
        return r.emit("reciprocal", [a], out.shape, out.dtype)
    return None


def _where(r: Rewriter, e: Equation, c: Any, a: Any, b: Any) -> Any:
    if a is b and isinstance(a, Var):
        return _result(r, e, a)
    value = c if isinstance(c, (bool, np.bool_)) else r.constant_value(c)
    if value is None or not np.size(value) or np.asarray(value).dtype != np.bool_:
        return None
    if np.all(value):
        return _result(r, e, a)
    return None if np.any(value) else _result(r, e, b)


# ---------------------------------------------------------------------------------------------- conditions
def _logical(name: str) -> Callable[..., Any]:
    """Rules of "logical_and" or "logical_or", on bools; ``other`` is the other of the two."""
    other = "logical_or" if name == "logical_and" else "logical_and"

    def rule(r: Rewriter, e: Equation, a: Any, b: Any) -> Any:
        if not (_is_condition(a) and _is_condition(b)):
            return None
        if a is b:
            return _result(r, e, a)
        x, y = r.made_by(a, other), r.made_by(b, other)
        for p, q in ((a, y), (b, x)):  # p and (p or z) is p
            if q is not None and any(p is z for z in q.operands):
                return _result(r, e, p)
        if x is None or y is None:
            return None
        for p, u in (x.operands, x.operands[::-1]):  # (p and u) or (p and not u) is p
            for q, v in (y.operands, y.operands[::-1]):
                if p is q and _is_condition(p) and _are_opposite(r, u, v):
                    return _result(r, e, p)
        return None

    return rule


def _is_condition(x: Any) -> bool:
    return isinstance(x, Var) and x.dtype == np.bool_


def _are_opposite(r: Rewriter, a: Any, b: Any) -> bool:
    """Whether a bool is the other one negated."""
    for x, y in ((a, b), (b, a)):
        m = r.made_by(x, "logical_not")
        if m is not None and m.operands[0] is y and _is_condition(y):
            return True
    return False


def _logical_not(r: Rewriter, e: Equation, a: Any) -> Any:
    m = r.made_by(a, "logical_not")
    return _result(r, e, m.operands[0]) if m is not None and _is_condition(m.operands[0]) else None


def _truth(r: Rewriter, e: Equation, x: Any) -> Any:
    """Any and all of an array that was repeated are those of the array."""
    m, out = r.made_by(x, "broadcast_to"), e.outputs[0]
    axis = e.params["axis"]
    whole = axis is None or len(axis) == len(shape_of(x))
    if m is None or out.shape or not whole or 0 in shape_of(x):
        return None
    y = m.operands[0]
    if not _is_condition(y):
        return None
    axes = tuple(range(len(y.shape)))
    return r.emit(e.primitive.name, [y], (), out.dtype, axis=axes, keepdims=False)


def _sum(r: Rewriter, e: Equation, x: Any) -> Any:
    """A sum of one entry: x + 0.0, by which -0.0 becomes 0.0."""
    out = e.outputs[0]
    if (
        not isinstance(x, Var)
        or x.weak
        or x.dtype != out.dtype
        or any(x.shape[a] != 1 for a in e.params["axis"])
    ):
        return None
    if not _no_negative_zero(r, x):
        if x.dtype.kind != "f":
            return None
        x = r.emit("add", [x, 0.0], x.shape, x.dtype)
    return _result(r, e, x) if x.shape == out.shape else r.reshape(x, out.shape)


_RULES: dict[str, Callable[..., Any]] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "divide": _divide,
    "negative": _negative,
    "power": _power,
    "where": _where,
    "sum": _sum,
    "logical_and": _logical("logical_and"),
    "logical_or": _logical("logical_or"),
    "logical_not": _logical_not,
    "any": _truth,
    "all": _truth,
}
