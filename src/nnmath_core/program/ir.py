"""A Program: equations between variables, with inputs, captured constants and outputs.

It is what `stage` records: every operation that had a traced operand, in order. Everything else ran once while staging.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nnmath_core._ext._autodiff import Recording, Var, dtype_of, replay, shape_of, value_of
from nnmath_core._ext._tree import TreeDef, flatten, flatten_like, paths, unflatten
from nnmath_core.autodiff.control.subprogram import lines_of, with_spent
from nnmath_core.autodiff.primitive import Primitive
from nnmath_core.device.resident import Resident
from nnmath_core.errors import ShapeError, TreeError

__all__ = ["Equation", "Program"]


@dataclass(frozen=True, slots=True)
class Equation:
    """``outputs = primitive(*operands, **params)``; an operand is a variable or a number."""

    primitive: Primitive
    operands: tuple[Any, ...]
    outputs: tuple[Var, ...]
    params: dict[str, Any]
    cost: Any = field(default=None, init=False, compare=False, repr=False)
    """What `program.cost` found, which passes ask for again and again."""


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
    in_def, out_def : TreeDef
        Structures of the arguments, as a tuple, and of the result.

    Notes
    -----
    Calling it runs the equations by definition, on arrays or tracers of any transformation. Arguments must have the
    structure and shapes it was staged for. On arrays of a device the constants of the host move there, once.
    """

    def __init__(
        self, recording: Recording, in_def: TreeDef, outputs: list[Any], out_def: TreeDef, name: str
    ) -> None:
        equations = [Equation(*e) for e in recording.equations]
        # of the user's code, where somebody watched while staging
        lines = {
            equations[k].outputs[0]: n for k, n in recording.lines.items() if k < len(equations)
        }
        self._settle(
            equations, recording.inputs, recording.constants, outputs, in_def, out_def, name, lines
        )

    def _settle(
        self,
        equations: Iterable[Equation],
        inputs: Iterable[Var],
        constants: Mapping[Var, Any],
        outputs: Iterable[Any],
        in_def: TreeDef,
        out_def: TreeDef,
        name: str,
        lines: Mapping[Var, int],
    ) -> None:
        self.equations = tuple(equations)
        self.inputs = tuple(inputs)
        self.constants = dict(constants)
        self._resident = Resident(self.constants)
        self.outputs = tuple(outputs)
        self.name = name
        self.in_def, self.out_def = in_def, out_def
        self._lines = dict(lines)
        recorded = [(e.primitive, e.operands, e.outputs, e.params) for e in self.equations]
        self._recorded = with_spent(recorded, {*self.constants, *self.outputs})

    def replaced(self, **changes: Any) -> Program:
        """The program with other ``equations``, ``inputs``, ``constants``, ``outputs``, ``in_def`` or ``out_def``."""
        new = object.__new__(Program)
        parts = {
            "equations": self.equations,
            "inputs": self.inputs,
            "constants": self.constants,
            "outputs": self.outputs,
            "in_def": self.in_def,
            "out_def": self.out_def,
            "name": self.name,
            "lines": self._lines,
        }
        new._settle(**{**parts, **changes})
        return new

    def __call__(self, *args: Any) -> Any:
        """Run the program: the result of the staged function for these arguments."""
        leaves = flatten_like(args, self.in_def)
        if leaves is None:
            raise TreeError(
                f"{self.name}: the program was staged for arguments {self.in_def}, got "
                f"{flatten(args)[1]}."
            )
        env: dict[Any, Any] = self._resident.beside(map(value_of, leaves))
        for i, (v, x) in enumerate(zip(self.inputs, leaves, strict=True)):
            if shape_of(x) != v.shape or dtype_of(x) != v.dtype:
                at = paths(self.in_def)[i].removeprefix("[").replace("]", "", 1)
                raise ShapeError(
                    f"{self.name}: argument {at} was staged as {v.dtype}{list(v.shape)}, got "
                    f"{dtype_of(x)}{list(shape_of(x))}. Stage again for other shapes or dtypes."
                )
            env[v] = x
        replay(self._recorded, env)
        return unflatten(self.out_def, [env[o] if isinstance(o, Var) else o for o in self.outputs])

    def line_of(self, k: int) -> int:
        """The number of the user's line that recorded equation k, where somebody watched, else 0."""
        return self._lines.get(self.equations[k].outputs[0], 0)

    @property
    def lines(self) -> dict[Var, int]:
        """First outputs of equations -> the user's line, where somebody watched while staging."""
        return self._lines

    def equations_with_lines(self) -> list[tuple[tuple[Any, ...], int]]:
        """Each equation as a tuple, and the number of the user's line where somebody watched while staging, else 0."""
        return [
            ((e.primitive, e.operands, e.outputs, e.params), self._lines.get(e.outputs[0], 0))
            for e in self.equations
        ]

    def __str__(self) -> str:
        equations = ((e.primitive, e.operands, e.outputs, e.params) for e in self.equations)
        head = f"program {self.name}"
        return "\n".join(lines_of(head, self.inputs, self.constants, equations, self.outputs))

    def __repr__(self) -> str:
        return f"Program({self.name}: {len(self.inputs)} inputs, {len(self.equations)} equations)"
