"""Common subexpressions: the same primitive with the same operands and parameters runs once.

Exact: primitives are functions of their operands. The operands of add and multiply may be exchanged, which changes no
bit of a result (of a NaN, possibly its payload). A sum of products that another one has with its axes in another order,
or its operands exchanged, is that one transposed: the same sums, in the order of one kernel. Captured arrays of equal
bytes are one. Primitives that users make are left alone: what they call may have effects.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var, shape_of
from nnmath_core.autodiff.control.subprogram import SubProgram
from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.program.ir import Equation
from nnmath_core.program.passes.rewrite import Rewriter, rewrite, value_of_constant

__all__ = ["with_common_subexpressions"]

_COMMUTATIVE = ("add", "multiply")
LONG = 8
"""Products in each entry of a contraction from which a transposition costs less than it."""


def with_common_subexpressions(program: Any) -> tuple[Any, int]:
    """The program with each value made once, and how many equations and constants that saved."""
    known: dict[Any, tuple[Var, ...]] = {}
    sums: dict[Any, tuple[Var, tuple[int, ...]]] = {}

    def rule(r: Rewriter, e: Equation) -> Any:
        if REGISTRY.get(e.primitive.name) is not e.primitive:
            return None
        made = known.setdefault(_key(e), e.outputs)
        if made is not e.outputs:
            return made
        if e.primitive.name != "contract":
            return None
        key, order = _sums(e)
        product, other = sums.setdefault(key, (e.outputs[0], order))
        if product is e.outputs[0]:
            return None
        return r.transpose(product, [other.index(c) for c in order])

    return rewrite(program, rule, _equal_constants(program))


def _equal_constants(program: Any) -> dict[Var, Var]:
    """Captured arrays that are the same as an earlier one."""
    first: dict[Any, Var] = {}
    same: dict[Var, Var] = {}
    for v in program.constants:
        array = value_of_constant(v, program.constants)
        if array is not None:
            one = first.setdefault((v.shape, v.dtype, array.tobytes()), v)
            if one is not v:
                same[v] = one
    return same


def _key(e: Equation) -> Any:
    operands = [_operand_key(x) for x in e.operands]
    if e.primitive.name in _COMMUTATIVE:
        operands.sort(key=repr)
    params = e.params
    if e.primitive.name == "contract":
        params = {"spec": _canonical(params["spec"])}
    weak = tuple(v.weak for v in e.outputs)
    return e.primitive.name, tuple(operands), _param_key(params), weak


def _sums(e: Equation) -> tuple[Any, tuple[int, ...]]:
    """A key of the sums of a contraction in whatever order, and the labels of its axes."""
    x, y = e.operands
    a, b, out = e.params["spec"]
    length = dict(zip(a, shape_of(x), strict=True)) | dict(zip(b, shape_of(y), strict=True))
    if len(set(out)) != len(out) or math.prod(length[c] for c in length.keys() - out) < LONG:
        return ("itself", id(e)), ()
    sides = sorted(((_operand_key(x), a), (_operand_key(y), b)), key=repr)
    if sides[0][0] == sides[1][0]:  # one array twice: either may be the first
        sides = min((sides, sides[::-1]), key=lambda s: sorted(_canonical((s[0][1], s[1][1], out))[2]))
    first, second, order = _canonical((sides[0][1], sides[1][1], out))
    weak = e.outputs[0].weak, e.outputs[0].dtype
    return (sides[0][0], sides[1][0], first, second, tuple(sorted(order)), weak), order


def _operand_key(x: Any) -> Any:
    """A variable is itself; numbers are equal when their bits and types are."""
    if isinstance(x, Var):
        return "variable", id(x)
    if isinstance(x, np.generic):
        return "scalar", x.dtype.str, x.tobytes()
    return type(x).__name__, repr(x)


def _canonical(spec: tuple[str, str, str]) -> tuple[Any, ...]:
    """Labels renamed in the order in which they occur."""
    names: dict[str, int] = {}
    return tuple(tuple(names.setdefault(c, len(names)) for c in part) for part in spec)


def _param_key(p: Any) -> Any:
    """A key that is equal for parameters that mean the same; what is not known is only equal to itself."""
    if isinstance(p, dict):
        return "dict", tuple((k, _param_key(v)) for k, v in sorted(p.items()))
    if isinstance(p, (tuple, list)):
        return type(p).__name__, tuple(map(_param_key, p))
    if isinstance(p, slice):
        return "slice", p.start, p.stop, p.step
    if isinstance(p, np.ndarray):
        if p.dtype.hasobject:
            return "object", id(p)
        return "array", p.shape, p.dtype.str, p.tobytes()
    if isinstance(p, (np.dtype, np.generic)):
        return type(p).__name__, str(p.dtype if isinstance(p, np.generic) else p), repr(p)
    if p is None or p is Ellipsis or isinstance(p, (bool, int, float, complex, str, bytes)):
        return type(p).__name__, repr(p)
    if isinstance(p, SubProgram):
        return "program", id(p)
    return "object", id(p)
