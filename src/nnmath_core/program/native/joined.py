"""Runs of a micro-program's operations, each made one generated loop.

Operations that follow each other and that the generator knows become one, which loads each operand once and keeps in
registers what nothing else reads. What it does not know stays as it is, between them. On processors without AVX2,
and where the system gives no memory that executes, operations stay as they are.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nnmath_core._ext import _cpu
from nnmath_core._ext._native import Code
from nnmath_core.program.native.compositions import COMPOSITIONS
from nnmath_core.program.native.generate import ASSEMBLERS, generate
from nnmath_core.program.native.recipes import DIRECT, MASKED, MASKS, RECIPES, REDUCTIONS, Operand
from nnmath_core.program.native.run import Arg, Instruction, Run
from nnmath_core.program.nodes import Loop

__all__ = ["Operation", "available", "joined"]

MOST_ARGS = 64  # as in machine.c
ROWS = 1
"""In place of a loop's data: it does several rows at once."""
SIZES = {"f": 4, "d": 8}
KNOWN = {*RECIPES, *DIRECT, *COMPOSITIONS} - {"hot"}


@dataclass(eq=False, slots=True)
class Operation:
    """A loop on registers of the machine; the last ``outputs`` args are written, accumulators are read too."""

    loop: Loop
    args: list[Any]
    strides: list[int]
    outputs: int = 1
    code: object = None
    """What holds the loop's machine code."""


class Facts(Protocol):
    """What is known of places."""

    def number(self, place: Any) -> float | None:
        """The value of a place that is a constant number."""

    def internal(self, place: Any) -> bool:
        """Whether only operations of its phase read a place."""

    def far(self, place: Any) -> int:
        """How many bytes ahead memory is asked for what a place holds, 0 where that is in the second cache."""

    def past(self, place: Any) -> bool:
        """Whether what is written to a place had better go past the caches."""

    def ramp(self, place: Any) -> bool:
        """Whether a place holds consecutive integers (int64), one for each column."""


@functools.cache
def available() -> bool:
    """Whether loops can be generated here."""
    if (
        _cpu.selected() not in ASSEMBLERS or sys.platform == "win32"
    ):  # where functions are called otherwise
        return False
    try:
        Code(b"\xc3")
    except OSError:
        return False
    return True


def joined(
    operations: Sequence[Operation],
    facts: Facts,
) -> list[Operation]:
    """The operations with runs of them joined.

    Parameters
    ----------
    operations : sequence of Operation
        Of one phase. No place is written twice, apart from accumulators and outputs.
    facts : Facts
        About places.
    """
    if not available():
        return list(operations)
    out: list[Operation] = []
    run: list[Operation] = []
    dtype = ""
    for k, op in enumerate([*operations, None]):
        kind = None if op is None else _kind(op, facts)
        if run and (kind is None or (kind and dtype and kind != dtype)):
            later = {id(a) for o in operations[k:] for a in o.args}
            out += _made(run, dtype, later, facts)
            run, dtype = [], ""
        if kind is None:
            if op is not None:
                out.append(op)
            continue
        assert op is not None
        run.append(op)
        dtype = dtype or kind
    return out


def _kind(op: Operation, facts: Facts) -> str | None:
    """The letter of the type in which an operation computes, "" for masks alone, None if it cannot join."""
    name, dtype = op.loop.name, op.loop.dtype
    if _one_hot(op, facts):
        return ""
    logical = name.startswith("logical_")
    if logical != (dtype == "?"):  # of numbers it is another loop
        return None
    if logical:
        size, kind = 1, ""
    elif dtype in SIZES:
        size, kind = SIZES[dtype], dtype
    else:
        return None
    if _folds(op):
        return kind if op.strides[-2] in (0, size) else None
    if name in REDUCTIONS:
        return kind if all(s in (0, size) for s in op.strides[:-1]) else None
    if name not in KNOWN:
        return None
    masked = MASKED.get(name, (False,) * (len(op.args) - 1))
    for s, mask in zip(op.strides, masked, strict=False):
        if s not in (0, 1 if mask else size):
            return None
    return kind if op.strides[-1] == (1 if name in MASKS else size) else None


def _folds(op: Operation) -> bool:
    """Whether an operation is a ufunc's loop that folds entries into one."""
    return (
        op.loop.name in ("maximum", "minimum") and op.args[0] is op.args[-1] and op.strides[-1] == 0
    )


def _accumulator(name: str, dtype: str) -> str:
    if name == "sum_wide_squares" and dtype == "f":
        return "wide"
    return "sum" if name.startswith("sum") else name


def _one_hot(op: Operation, facts: Facts) -> tuple[int, int] | None:
    """Which operands are the label and the columns of a comparison of one integer with consecutive ones."""
    if op.loop.name != "equal" or op.loop.dtype not in ("l", "q"):
        return None
    for label, ramp in ((0, 1), (1, 0)):
        if op.strides[label] == 0 and op.strides[ramp] == 8 and facts.ramp(op.args[ramp]):
            return label, ramp
    return None


def _gains(op: Operation) -> bool:
    """Whether an operation by itself is faster as a generated loop: functions without calls, folds of a ufunc."""
    return op.loop.name in COMPOSITIONS or _folds(op)


def _made(
    run: list[Operation],
    dtype: str,
    later: set[int],
    facts: Facts,
) -> list[Operation]:
    """One operation for a run; two or more where it is too long for the registers."""
    if not dtype or (len(run) == 1 and not _gains(run[0])):
        return run
    made = _one(run, dtype, later, facts)
    if made is not None:
        return [made]
    half = len(run) // 2
    first, second = run[:half], run[half:]
    read = later | {id(a) for o in second for a in o.args}
    return [
        *_made(first, dtype, read, facts),
        *_made(second, dtype, later, facts),
    ]


def _one(
    run: list[Operation],
    dtype: str,
    later: set[int],
    facts: Facts,
) -> Operation | None:
    places: list[
        tuple[Any, int]
    ] = []  # with strides, of args that are read, then of those that are written
    writes: list[tuple[Any, int]] = []
    args: list[Arg] = []
    made: list[Arg] = []
    known: dict[int, Operand] = {}
    loaded: dict[tuple[int, bool], Operand] = {}
    steps: list[
        tuple[str, tuple[Operand, ...], int, int]
    ] = []  # the last two: what is written, into

    def read(op: Operation, k: int, mask: bool) -> Operand:
        place = op.args[k]
        if id(place) in known:
            return known[id(place)]
        x = None if mask or (op.loop.name == "divide" and k == 1) else facts.number(place)
        if x is not None:
            return "number", x
        if (id(place), mask) not in loaded:
            kind = "stream" if op.strides[k] else "spread"
            loaded[id(place), mask] = "arg", len(args)
            args.append(Arg(kind, mask, far=facts.far(place) if kind == "stream" else 0))
            places.append((place, op.strides[k]))
        return loaded[id(place), mask]

    def integer(op: Operation, k: int, kind: str) -> Operand:
        key = id(op.args[k]), False
        if key not in loaded:
            loaded[key] = "arg", len(args)
            args.append(Arg(kind))
            places.append((op.args[k], op.strides[k]))
        return loaded[key]

    for i, op in enumerate(run):
        name, target = op.loop.name, op.args[-1]
        if _folds(op) or name in REDUCTIONS:
            first = 1 if _folds(op) else 0
            name = {"maximum": "max", "minimum": "min"}.get(name, name)
            reads = tuple(read(op, k, False) for k in range(first, len(op.args) - 1))
            steps.append((name, reads, -1, len(made)))
            made.append(Arg(_accumulator(name, dtype)))
            writes.append((target, 0))
            continue
        hot = _one_hot(op, facts)
        if hot is not None:
            name, reads = "hot", (integer(op, hot[0], "label"), integer(op, hot[1], "ramp"))
        else:
            masked = MASKED.get(name, (False,) * (len(op.args) - 1))
            reads = tuple(read(op, k, masked[k]) for k in range(len(op.args) - 1))
        stored = -1
        if not facts.internal(target) or id(target) in later:
            stored = len(made)
            made.append(Arg("output", name in MASKS, facts.past(target), facts.far(target)))
            writes.append((target, op.strides[-1]))
        known[id(target)] = "value", i
        steps.append((name, reads, stored, -1))
    if len(args) + len(made) > MOST_ARGS or not made:
        return None
    shift = len(args)
    instructions = tuple(
        Instruction(
            name, reads, () if stored < 0 else (shift + stored,), -1 if into < 0 else shift + into
        )
        for name, reads, stored, into in steps
    )
    code = _code(Run(dtype == "d", (*args, *made), instructions))
    if code is None:
        return None
    cost = sum(op.loop.cost for op in run)
    pairs = [*places, *writes]
    return Operation(
        Loop("run", code.address, ROWS, cost, dtype),
        [p for p, _ in pairs],
        [s for _, s in pairs],
        len(made),
        code,
    )


_codes: weakref.WeakValueDictionary[str, Code] = weakref.WeakValueDictionary()
"""By what they do, written out: 0 and -0 are equal, and are not the same number."""


def _code(run: Run) -> Code | None:
    """The machine code of a run; the same run of another program has the same as long as one of them lives."""
    key = repr(run)
    found = _codes.get(key)
    if found is None:
        code = generate(run)
        if code is None:
            return None
        found = _codes[key] = Code(code)
    return found
