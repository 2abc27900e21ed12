"""Common subexpressions: the same primitive with the same operands and parameters runs once.

Exact: primitives are functions of their operands. The operands of add and multiply may be exchanged, which changes no
bit of a result (of a NaN, possibly its payload). Captured arrays of equal bytes are one. Primitives that users make are
left alone: what they call may have effects.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var
from nnmath_core.autodiff.control.subprogram import SubProgram
from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.program.ir import Equation
from nnmath_core.program.passes.rewrite import Rewriter, rewrite, value_of_constant

__all__ = ["with_common_subexpressions"]

_COMMUTATIVE = ("add", "multiply")


def with_common_subexpressions(program: Any) -> tuple[Any, int]:
    """The program with each value made once, and how many equations and constants that saved."""
    known: dict[Any, tuple[Var, ...]] = {}

    def rule(r: Rewriter, e: Equation) -> Any:
        if REGISTRY.get(e.primitive.name) is not e.primitive:
            return None
        made = known.setdefault(_key(e), e.outputs)
        return None if made is e.outputs else made

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
