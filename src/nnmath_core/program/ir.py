"""A Program: equations between variables, with inputs, captured constants and outputs.

It is what `stage` records: every operation that had a traced operand, in order. Everything else ran once while staging.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Recording, Var, dtype_of, replay, shape_of
from nnmath_core._ext._tree import TreeDef, flatten, unflatten
from nnmath_core.autodiff.primitive import Primitive
from nnmath_core.errors import ShapeError, TreeError

__all__ = ["Equation", "Program"]


@dataclass(frozen=True, slots=True)
class Equation:
    """``outputs = primitive(*operands, **params)``; an operand is a variable or a number."""

    primitive: Primitive
    operands: tuple[Any, ...]
    outputs: tuple[Var, ...]
    params: dict[str, Any]


class Program:
    """A staged function.

    Attributes
    ----------
    equations : tuple of Equation
        In the order of execution.
    inputs : tuple of Var
        One for each leaf of the arguments.
    constants : dict of Var to array
        Arrays that the function captured: copies, read-only.
    outputs : tuple
        Variables or numbers, one for each leaf of the result.

    Notes
    -----
    Calling it runs the equations by definition, on arrays or tracers of any transformation. Arguments must have the
    structure and shapes it was staged for.
    """

    def __init__(
        self, recording: Recording, in_def: TreeDef, outputs: list[Any], out_def: TreeDef, name: str
    ) -> None:
        self.equations = tuple(Equation(*e) for e in recording.equations)
        self.inputs = tuple(recording.inputs)
        self.constants = dict(recording.constants)
        self.outputs = tuple(outputs)
        self.name = name
        self._recorded = _with_spent(recording.equations, {*self.constants, *self.outputs})
        self._in_def = in_def
        self._out_def = out_def

    def __call__(self, *args: Any) -> Any:
        """Run the program: the result of the staged function for these arguments."""
        leaves, d = flatten(args)
        if d != self._in_def:
            raise TreeError(
                f"{self.name}: the program was staged for arguments {self._in_def}, got {d}."
            )
        env: dict[Any, Any] = dict(self.constants)
        for i, (v, x) in enumerate(zip(self.inputs, leaves, strict=True)):
            if shape_of(x) != v.shape or dtype_of(x) != v.dtype:
                raise ShapeError(
                    f"{self.name}: input {i} was staged as {v.dtype}{list(v.shape)}, got "
                    f"{dtype_of(x)}{list(shape_of(x))}. Stage again for other shapes or dtypes."
                )
            env[v] = x
        replay(self._recorded, env)
        return unflatten(self._out_def, [env[o] if isinstance(o, Var) else o for o in self.outputs])

    def __str__(self) -> str:
        lines = [f"program {self.name}({', '.join(map(_declared, self.inputs))})"]
        lines += [f"  constant {_declared(v)}" for v in self.constants]
        for e in self.equations:
            params = "".join(f", {k}={_shown(p)}" for k, p in e.params.items())
            outs = ", ".join(map(_declared, e.outputs))
            lines.append(
                f"  {outs} = {e.primitive.name}({', '.join(map(_operand, e.operands))}{params})"
            )
        lines.append(f"  return {', '.join(map(_operand, self.outputs))}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Program({self.name}: {len(self.inputs)} inputs, {len(self.equations)} equations)"


def _with_spent(equations: list[Any], kept: set[Any]) -> list[Any]:
    """Add to each equation the variables that nobody reads after it, those of ``kept`` excepted."""
    seen, out = set(kept), []
    for primitive, operands, outputs, params in reversed(equations):
        used = {x for x in operands if isinstance(x, Var)} | set(outputs)
        out.append((primitive, operands, outputs, params, tuple(used - seen)))
        seen |= used
    return out[::-1]


def _declared(v: Var) -> str:
    kind = {"float64": "f64", "float32": "f32", "int64": "i64", "bool": "bool"}.get(
        str(v.dtype), str(v.dtype)
    )
    return f"v{v.number}:{kind}[{','.join(map(str, v.shape))}]"


def _operand(x: Any) -> str:
    return (
        f"v{x.number}" if isinstance(x, Var) else repr(x.item() if isinstance(x, np.generic) else x)
    )


def _shown(p: Any) -> str:
    return repr(p) if not isinstance(p, np.dtype) else str(p)
