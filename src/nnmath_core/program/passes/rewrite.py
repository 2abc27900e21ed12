"""What all passes share: a program is read equation by equation, and a new one is written.

A pass works on anything with equations, inputs, constants and outputs: a `Program`, or the `Body` of a sub-program.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var, dtype_of, shape_of, variable
from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.program.ir import Equation

__all__ = [
    "Body",
    "Record",
    "Rewriter",
    "needed",
    "one_number",
    "rewrite",
    "size_of",
    "uses",
    "value_of_constant",
]


@dataclasses.dataclass(frozen=True)
class Record:
    """What a pass changed.

    Attributes
    ----------
    name : str
        The pass.
    changes : int
        How many equations it took away or made anew.
    flops : tuple of float
        Operations of the program before and after.
    bytes : tuple of float
        Bytes that its equations read and write, before and after.
    notes : tuple of str
        What it says of single changes.
    """

    name: str
    changes: int
    flops: tuple[float, float]
    bytes: tuple[float, float]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = (
            f"{self.name}: {self.changes} changes, {self.flops[0]:.4g} -> {self.flops[1]:.4g} FLOPs, "
            f"{self.bytes[0]:.4g} -> {self.bytes[1]:.4g} bytes"
        )
        return "\n  ".join([text, *self.notes])


@dataclasses.dataclass(frozen=True)
class Body:
    """Equations with inputs, constants and outputs, that are not a Program."""

    equations: tuple[Equation, ...]
    inputs: tuple[Var, ...]
    constants: dict[Var, Any]
    outputs: tuple[Any, ...]
    lines: dict[Var, int] = dataclasses.field(default_factory=dict)

    def replaced(self, **changes: Any) -> Body:
        """The body with other parts."""
        return dataclasses.replace(self, **changes)


def uses(equations: Iterable[Equation], outputs: Iterable[Any]) -> Counter[Var]:
    """How often each variable is read."""
    count: Counter[Var] = Counter(x for e in equations for x in e.operands if isinstance(x, Var))
    count.update(x for x in outputs if isinstance(x, Var))
    return count


def needed(equations: Sequence[Equation], outputs: Iterable[Any]) -> list[Equation]:
    """The equations that the outputs depend on."""
    wanted = {x for x in outputs if isinstance(x, Var)}
    kept = []
    for e in reversed(equations):
        if not wanted.isdisjoint(e.outputs):
            wanted.update(x for x in e.operands if isinstance(x, Var))
            kept.append(e)
    return kept[::-1]


def value_of_constant(x: Any, constants: Mapping[Var, Any]) -> np.ndarray[Any, Any] | None:
    """The array behind a captured constant that can never change; None for everything else."""
    array = constants.get(x) if isinstance(x, Var) else None
    if type(array) is np.ndarray and not array.flags.writeable:
        return array
    return None


def one_number(array: np.ndarray[Any, Any]) -> Any:
    """The Python number that all entries of an array are, to the bit; None where there is none."""
    if not array.size or array.dtype.kind not in "iufc" or array.dtype.itemsize > 16:
        return None
    flat = array.reshape(-1)
    if array.size > 1:
        bits = (
            flat.view(f"u{flat.itemsize}") if flat.itemsize <= 8 else flat.view("u8").reshape(-1, 2)
        )
        if not np.all(bits == bits[0]):
            return None
    return flat[0].item()


class Rewriter:
    """Writes the equations of a new program while those of the old one are read.

    Attributes
    ----------
    equations : list of Equation
        Written so far.
    maker : dict
        Variable -> the equation of the new program that makes it.
    constants : dict
        Those of the old program, and new ones.
    reads : Counter
        How often each variable of the old program is read.
    """

    def __init__(self, program: Any) -> None:
        self.program = program
        self.equations: list[Equation] = []
        self.maker: dict[Var, Equation] = {}
        self.constants = dict(program.constants)
        self.reads = uses(program.equations, program.outputs)
        self.results = {x for x in program.outputs if isinstance(x, Var)}
        self.lines: dict[Var, int] = dict(getattr(program, "lines", {}))
        self.line = 0
        self._instead: dict[Var, Any] = {}
        known = [v.number for e in program.equations for v in e.outputs]
        known += [v.number for v in (*program.inputs, *program.constants)]
        self._number = max(known, default=-1) + 1

    # ------------------------------------------------------------------------------------------ reading
    def now(self, x: Any) -> Any:
        """What stands for an operand of the old program."""
        while isinstance(x, Var) and x in self._instead:
            x = self._instead[x]
        return x

    def made_by(self, x: Any, name: str) -> Equation | None:
        """The equation that makes an operand, when its primitive has this name."""
        e = self.maker.get(x) if isinstance(x, Var) else None
        return e if e is not None and e.primitive is REGISTRY.get(name) else None

    def constant_value(self, x: Any) -> np.ndarray[Any, Any] | None:
        """The array behind a captured constant."""
        return value_of_constant(x, self.constants)

    # ------------------------------------------------------------------------------------------ writing
    def fresh(self, shape: Sequence[int], dtype: Any) -> Var:
        """A variable that no program has."""
        self._number += 1
        return variable(tuple(shape), np.dtype(dtype), self._number - 1)

    def constant(self, array: np.ndarray[Any, Any]) -> Var:
        """A new captured array."""
        v = self.fresh(array.shape, array.dtype)
        self.constants[v] = array
        return v

    def keep(self, e: Equation) -> None:
        """Write an equation as it is."""
        self.equations.append(e)
        for v in e.outputs:
            self.maker[v] = e

    def replace(self, v: Var, x: Any) -> None:
        """Let x stand for v from here on."""
        self._instead[v] = x

    def emit(
        self, name: str, operands: Sequence[Any], shape: Sequence[int], dtype: Any, /, **params: Any
    ) -> Var:
        """Write an equation of a registered primitive with one output; ``shape`` and ``dtype`` are its result's."""
        out = self.fresh(shape, dtype)
        if self.line:
            self.lines[out] = self.line
        self.keep(Equation(REGISTRY[name], tuple(operands), (out,), params))
        return out

    def reshape(self, x: Any, shape: Sequence[int]) -> Any:
        """X in another shape; nothing is written where it has it."""
        shape = tuple(shape)
        return (
            x
            if shape_of(x) == shape
            else self.emit("reshape", [x], shape, dtype_of(x), shape=shape)
        )

    def transpose(self, x: Any, axes: Sequence[int]) -> Any:
        """X with its axes in another order."""
        axes = tuple(axes)
        if axes == tuple(range(len(axes))):
            return x
        s = shape_of(x)
        return self.emit("transpose", [x], [s[a] for a in axes], dtype_of(x), axes=axes)

    def broadcast(self, x: Any, shape: Sequence[int]) -> Any:
        """X repeated to a shape."""
        shape = tuple(shape)
        return (
            x
            if shape_of(x) == shape
            else self.emit("broadcast_to", [x], shape, dtype_of(x), shape=shape)
        )

    def sum(self, x: Any, axes: Sequence[int]) -> Any:
        """The sum over axes, which are gone afterwards; of floating-point numbers."""
        axes = tuple(sorted(axes))
        if not axes:
            return x
        shape = [n for i, n in enumerate(shape_of(x)) if i not in axes]
        return self.emit("sum", [x], shape, dtype_of(x), axis=axes, keepdims=False)

    def finish(self) -> Any:
        """The new program. A result that would be an argument, a constant or another result is copied, as before."""
        taken = {*self.program.inputs, *self.program.constants, *self.constants}
        outputs: list[Any] = []
        seen: set[Any] = set()
        for old in self.program.outputs:
            x = self.now(old)
            if isinstance(x, Var) and x is not old and (x in taken or x in seen):
                x = self.emit("astype", [x], x.shape, x.dtype, dtype=x.dtype)
            if isinstance(x, Var):
                seen.add(x)
            outputs.append(x)
        equations = needed(self.equations, outputs)
        read = {x for e in equations for x in e.operands if isinstance(x, Var)}
        read.update(x for x in outputs if isinstance(x, Var))
        constants = {v: x for v, x in self.constants.items() if v in read}
        return self.program.replaced(
            equations=tuple(equations),
            constants=constants,
            outputs=tuple(outputs),
            lines=self.lines,
        )


Rule = Callable[[Rewriter, Equation], Any]


def rewrite(program: Any, rule: Rule, instead: Mapping[Var, Var] | None = None) -> tuple[Any, int]:
    """A program after a rule has seen each of its equations, and how often it had something to say.

    ``rule(r, e)`` gets the equation with its new operands and returns what stands for its output, which has the shape
    and dtype of the output (a tuple where there are several); or None, and the equation stays. ``instead``: what stands
    for variables from the beginning.
    """
    r = Rewriter(program)
    changes = 0
    for v, x in (instead or {}).items():
        r.replace(v, x)
        changes += 1
    for e in program.equations:
        operands = tuple(map(r.now, e.operands))
        for new, old in zip(operands, e.operands, strict=True):
            if new is not old:
                e = Equation(e.primitive, operands, e.outputs, e.params)
                break
        r.line = r.lines.get(e.outputs[0], 0)
        found = None if e.outputs[0].weak else rule(r, e)
        if found is None:
            r.keep(e)
            continue
        for v, x in zip(e.outputs, found if isinstance(found, tuple) else (found,), strict=True):
            if shape_of(x) != v.shape or dtype_of(x) != v.dtype:
                raise AssertionError(f"{e.primitive.name}: a pass gave {x!r} for {v}")
            r.replace(v, x)
        changes += 1
    return (r.finish(), changes) if changes else (program, 0)


def size_of(x: Any) -> int:
    """Number of entries."""
    return math.prod(shape_of(x))
