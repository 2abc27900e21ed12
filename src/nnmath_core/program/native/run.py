"""A run of operations, as the generator takes it."""

from __future__ import annotations

from dataclasses import dataclass

from nnmath_core.program.native.compositions import COMPOSITIONS, Composer
from nnmath_core.program.native.recipes import MASKS, Operand

__all__ = ["Arg", "Instruction", "Run", "elsewhere", "expanded"]


@dataclass(frozen=True, slots=True)
class Arg:
    """An operand in memory: a "stream" of entries, one for all ("spread"), an "output", or an accumulator.

    A "label" and a "ramp" are integers, of which one instruction makes a
    mask. Accumulators ("sum", "wide", which is kept in double, "max", "min") are read and written. ``mask``: entries
    are bytes of bools.
    ``past``: the output goes past the caches, where its place allows it. ``far``: so many bytes ahead memory is asked
    for it, which lies beyond the second cache; 0: it is not.
    """

    kind: str
    mask: bool = False
    past: bool = False
    far: int = 0


@dataclass(frozen=True, slots=True)
class Instruction:
    """An operation by its name; ``into`` is the accumulator of a reduction, -1 where it makes a value."""

    name: str
    reads: tuple[Operand, ...]
    stores: tuple[int, ...] = ()
    """Args that its value is stored to."""
    into: int = -1


@dataclass(frozen=True, slots=True)
class Run:
    """Instructions in order, on float64 (``double``) or float32."""

    double: bool
    args: tuple[Arg, ...]
    instructions: tuple[Instruction, ...]


def expanded(run: Run) -> Run:
    """The run with functions in place of their names, and nothing computed twice."""
    out: list[Instruction] = []
    values: list[Operand] = []  # of the run's instructions, what they are now
    known: dict[object, int] = {}

    def emit(name: str, reads: tuple[Operand, ...]) -> Operand:
        key = name, tuple((what, str(k)) for what, k in reads)
        if key not in known:
            known[key] = len(out)
            out.append(Instruction(name, reads))
        return "value", known[key]

    composer = Composer(double=run.double, emit=emit)
    for step in run.instructions:
        reads = tuple(values[int(k)] if what == "value" else (what, k) for what, k in step.reads)
        if step.into >= 0:
            out.append(Instruction(step.name, reads, (), step.into))
            values.append(("value", -1))
            continue
        before = len(out)
        value = (
            COMPOSITIONS[step.name](composer, reads[0])
            if step.name in COMPOSITIONS
            else emit(step.name, reads)
        )
        values.append(value)
        if step.stores and len(out) == before:  # stored where it was stored, not earlier
            name, reads = ("logical_or", (value,) * 2) if step.name in MASKS else ("copy", (value,))
            out.append(Instruction(name, reads, step.stores))
        elif step.stores:
            out[-1] = Instruction(out[-1].name, out[-1].reads, step.stores)
    return Run(run.double, run.args, tuple(out))


def elsewhere(instructions: tuple[Instruction, ...]) -> tuple[Instruction, ...] | None:
    """The instructions as they are for columns that are not the label's; None where that makes none simpler.

    ``where`` of the label is its last operand there, and a sum gets nothing from zeros.
    """
    never: Operand = "never", 0
    out: list[Instruction] = []
    values: list[Operand] = []
    for step in instructions:
        reads = tuple(values[int(k)] if what == "value" else (what, k) for what, k in step.reads)
        if step.name == "hot" and not step.stores:
            values.append(never)
        elif step.name == "where" and reads[0] == never and never not in reads[1:]:
            values.append(reads[2])
            if step.stores:
                values[-1] = "value", len(out)
                out.append(Instruction("copy", (reads[2],), step.stores))
        elif step.name == "hot" or never in reads:
            return None
        else:
            values.append(("value", len(out)))
            if step.name != "sum" or reads[0] != ("number", 0.0):
                out.append(Instruction(step.name, reads, step.stores, step.into))
    return _read(out) if never in values else None


def _read(instructions: list[Instruction]) -> tuple[Instruction, ...]:
    """Without what nobody reads."""
    used: set[Operand] = set()
    for i in reversed(range(len(instructions))):
        step = instructions[i]
        if step.stores or step.into >= 0 or ("value", i) in used:
            used.update(step.reads)
            used.add(("value", i))
    kept = [i for i in range(len(instructions)) if ("value", i) in used]
    place = {i: k for k, i in enumerate(kept)}
    return tuple(
        Instruction(
            s.name,
            tuple(
                ("value", place[int(k)]) if what == "value" else (what, k) for what, k in s.reads
            ),
            s.stores,
            s.into,
        )
        for s in (instructions[i] for i in kept)
    )
