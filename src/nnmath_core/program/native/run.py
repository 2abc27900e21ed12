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
        if name == "where":
            reads = _chosen(reads, out)
            if len(reads) == 1:
                return reads[0]
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
    return Run(run.double, run.args, _read(out))


def _chosen(reads: tuple[Operand, ...], made: list[Instruction]) -> tuple[Operand, ...]:
    """The operands of a ``where``, without those that its condition has kept out before; one, where it chooses nothing.

    What lies in memory is read no later than it was: an output may have its place.
    """
    c, *both = reads
    for k, x in enumerate(both, 1):
        inner = made[int(x[1])] if x[0] == "value" else None
        if inner is not None and inner.name == "where" and inner.reads[0] == c:
            both[k - 1] = inner.reads[k] if inner.reads[k][0] != "arg" else x
    a, b = both
    same = a[0] == b[0] != "arg" and str(a[1]) == str(b[1])  # 0 and -0 are not
    return (a,) if same else (c, a, b)


def elsewhere(instructions: tuple[Instruction, ...]) -> tuple[Instruction, ...] | None:
    """The instructions as they are for columns that are not the label's; None where that makes none simpler.

    ``where`` of the label is its last operand there, and a sum gets nothing from zeros.
    """
    never: Operand = "never", 0
    out: list[Instruction] = []
    values: list[Operand] = []
    late: dict[Operand, int] = {}  # what lies in memory and is read later than it was: since when
    for step in instructions:
        reads = tuple(values[int(k)] if what == "value" else (what, k) for what, k in step.reads)
        if step.name == "hot" and not step.stores:
            values.append(never)
            continue
        if step.name == "hot" or (never in reads and (step.name != "where" or never in reads[1:])):
            return None
        if step.name == "where":
            reads = reads[2:] if reads[0] == never else _chosen(reads, out)
        if len(reads) == 1 and step.name == "where":
            values.append(reads[0])
            if reads[0][0] == "arg":
                late.setdefault(reads[0], len(out))
            if step.stores:
                values[-1] = "value", len(out)
                out.append(Instruction("copy", reads, step.stores))
        else:
            values.append(("value", len(out)))
            if step.name != "sum" or reads[0] != ("number", 0.0):
                out.append(Instruction(step.name, reads, step.stores, step.into))
    for arg, since in late.items():
        stores = [i for i in range(since, len(out)) if out[i].stores]
        if stores and any(arg in step.reads for step in out[stores[0] + 1 :]):
            return None  # it may have been written over
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
