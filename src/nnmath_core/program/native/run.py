"""A run of operations, as the generator takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nnmath_core.program.native.compositions import COMPOSITIONS, Composer
from nnmath_core.program.native.recipes import MASKS, Operand

__all__ = ["CHECKS", "Arg", "Instruction", "Run", "elsewhere", "expanded", "without"]

CHECKS = "normal", "below"
"""Instructions that leave the body for the one that does everything: where powers of two with these exponents are not
normal, and where exponentials of these are 1 or not normal."""


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


def expanded(run: Run, *, usual: bool = False) -> Run:
    """The run with functions in place of their names, and nothing computed twice.

    ``usual``: where powers of two are normal and no exponential that is counted is 1, which ``CHECKS`` see to before
    anything is stored; without them there are none.
    """
    counted = {step.reads[0] for step in run.instructions if step.name == "sum_ones"} & {
        step.reads[0] for step in run.instructions if step.name == "sum_others"
    }
    below: list[Operand] = []
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

    composer = Composer(double=run.double, emit=emit, usual=usual)
    exponentials = {("value", i) for i, s in enumerate(run.instructions) if s.name == "exp"}
    plain = (counted & exponentials) if usual else set()  # with no entry that is 1
    for i, step in enumerate(run.instructions):
        reads = tuple(values[int(k)] if what == "value" else (what, k) for what, k in step.reads)
        if step.into >= 0:
            name = step.name
            if step.reads[0] in plain and name in ("sum_ones", "sum_others"):
                name = "sum_no_ones"
            if (step.name, name) != ("sum_ones", "sum_no_ones"):
                out.append(Instruction(name, reads, (), step.into))
            values.append(("value", -1))
            continue
        composer.counted = ("value", i) in plain
        if composer.counted:
            below.append(reads[0])
        before = len(out)
        value = (
            COMPOSITIONS[step.name](composer, reads[0])
            if step.name in COMPOSITIONS
            else emit(step.name, reads)
        )
        values.append(value)
        if step.stores and len(out) == before:  # stored where it was stored, not earlier
            out.append(_stored(step.name, value, step.stores))
        elif step.stores:
            out[-1] = Instruction(out[-1].name, out[-1].reads, step.stores)
    checks = [
        Instruction(name, tuple(dict.fromkeys(some)))
        for name, some in (("normal", composer.normal), ("below", below))
        if some
    ]
    return Run(run.double, run.args, _read(_checked(out, checks)))


def _checked(made: list[Instruction], checks: list[Instruction]) -> list[Instruction]:
    """With checks behind what they read: at once, where nothing is stored or added up before, else that goes first."""
    first: set[int] = set()
    wanted = [int(k) for step in checks for what, k in step.reads if what == "value"]
    while wanted:
        i = wanted.pop()
        if i not in first:
            first.add(i)
            wanted += [int(k) for what, k in made[i].reads if what == "value"]
    last = max(first, default=-1)
    if not any(step.stores or step.into >= 0 for step in made[: last + 1]):
        first = set(range(last + 1))
    rest = [i for i in range(len(made)) if i not in first]
    place = {i: k for k, i in enumerate(sorted(first))}
    place |= {i: len(first) + len(checks) + k for k, i in enumerate(rest)}

    def moved(step: Instruction) -> Instruction:
        reads = tuple(
            ("value", place[int(k)]) if what == "value" else (what, k) for what, k in step.reads
        )
        return replace(step, reads=reads)

    early = [replace(moved(made[i]), stores=()) for i in sorted(first)]
    stored = [
        _stored(made[i].name, ("value", place[i]), made[i].stores)
        for i in sorted(first)
        if made[i].stores
    ]
    return [*early, *map(moved, checks), *(moved(made[i]) for i in rest), *stored]


def _stored(name: str, value: Operand, stores: tuple[int, ...]) -> Instruction:
    """Store a value that an instruction of this name has made before."""
    if name in MASKS:
        return Instruction("logical_or", (value,) * 2, stores)
    return Instruction("copy", (value,), stores)


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
        if step.stores or step.into >= 0 or step.name in CHECKS or ("value", i) in used:
            used.update(step.reads)
            used.add(("value", i))
    return without(instructions, {i for i in range(len(instructions)) if ("value", i) not in used})


def without(instructions: Sequence[Instruction], gone: set[int]) -> tuple[Instruction, ...]:
    """The instructions but for some, whose values nobody reads."""
    kept = [i for i in range(len(instructions)) if i not in gone]
    place = {i: k for k, i in enumerate(kept)}
    return tuple(
        replace(
            instructions[i],
            reads=tuple(
                ("value", place[int(k)]) if what == "value" else (what, k)
                for what, k in instructions[i].reads
            ),
        )
        for i in kept
    )
