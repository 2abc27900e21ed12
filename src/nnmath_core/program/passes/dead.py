"""Dead code: equations and constants that no result depends on are left out.

Exact: programs have no effects. An equation of several outputs stays while one of them is read.
"""

from __future__ import annotations

from typing import Any

from nnmath_core._ext._autodiff import Var
from nnmath_core.program.passes.rewrite import needed

__all__ = ["without_dead_code"]


def without_dead_code(program: Any) -> tuple[Any, int]:
    """The program without what nobody reads, and how many equations and constants that was."""
    equations = needed(program.equations, program.outputs)
    read = {x for e in equations for x in e.operands if isinstance(x, Var)}
    read.update(x for x in program.outputs if isinstance(x, Var))
    constants = {v: x for v, x in program.constants.items() if v in read}
    gone = len(program.equations) - len(equations) + len(program.constants) - len(constants)
    if not gone:
        return program, 0
    return program.replaced(equations=tuple(equations), constants=constants), gone
