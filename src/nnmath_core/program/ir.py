"""A Program: equations between variables, with inputs, captured constants and outputs.

It is what `stage` records: every operation that had a traced operand, in order. Everything else ran once while staging.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nnmath_core._ext._autodiff import Recording, Var, dtype_of, replay, shape_of
from nnmath_core._ext._tree import TreeDef, flatten, flatten_like, paths, unflatten
from nnmath_core.autodiff.control.subprogram import lines_of, with_spent
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
        # of the user's code, where somebody watched while staging
        self._lines = dict(recording.lines)
        self._recorded = with_spent(recording.equations, {*self.constants, *self.outputs})
        self._in_def = in_def
        self._out_def = out_def

    def __call__(self, *args: Any) -> Any:
        """Run the program: the result of the staged function for these arguments."""
        leaves = flatten_like(args, self._in_def)
        if leaves is None:
            raise TreeError(
                f"{self.name}: the program was staged for arguments {self._in_def}, got "
                f"{flatten(args)[1]}."
            )
        env: dict[Any, Any] = dict(self.constants)
        for i, (v, x) in enumerate(zip(self.inputs, leaves, strict=True)):
            if shape_of(x) != v.shape or dtype_of(x) != v.dtype:
                at = paths(self._in_def)[i].removeprefix("[").replace("]", "", 1)
                raise ShapeError(
                    f"{self.name}: argument {at} was staged as {v.dtype}{list(v.shape)}, got "
                    f"{dtype_of(x)}{list(shape_of(x))}. Stage again for other shapes or dtypes."
                )
            env[v] = x
        replay(self._recorded, env)
        return unflatten(self._out_def, [env[o] if isinstance(o, Var) else o for o in self.outputs])

    def equations_with_lines(self) -> list[tuple[tuple[Any, ...], int]]:
        """Each equation as a tuple, and the number of the user's line where somebody watched while staging, else 0."""
        return [
            ((e.primitive, e.operands, e.outputs, e.params), self._lines.get(k, 0))
            for k, e in enumerate(self.equations)
        ]

    def __str__(self) -> str:
        equations = ((e.primitive, e.operands, e.outputs, e.params) for e in self.equations)
        head = f"program {self.name}"
        return "\n".join(lines_of(head, self.inputs, self.constants, equations, self.outputs))

    def __repr__(self) -> str:
        return f"Program({self.name}: {len(self.inputs)} inputs, {len(self.equations)} equations)"
