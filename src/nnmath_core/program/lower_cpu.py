"""From a Program to a Plan of the CPU's executor."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nnmath_core._ext._autodiff import Var
from nnmath_core._ext._plan import Executable
from nnmath_core._ext._threads import usable_cpus
from nnmath_core.program.builder import Buffer, Builder, View, row_major
from nnmath_core.program.ir import Program
from nnmath_core.program.lower.bodies import define_constants, lower_equations, output_of, scheduled
from nnmath_core.program.meetings import early, follow, join_scratch, meetings, sliced
from nnmath_core.program.memory import lay_out
from nnmath_core.program.pieces import made_in_place
from nnmath_core.program.work import flattened, work

__all__ = ["Lowered", "donors_of", "lower"]

WAIT, ALONE, FLOW, SLICES = 1, 2, 4, 8
MOST_THREADS = 16
"""Of a run: every thread has scratch of its own in the arena."""


def lower(
    program: Program,
    *,
    donated: Sequence[int] = (),
    deterministic: bool = False,
    nargs: int = -1,
    threads: int | None = None,
) -> Lowered:
    """Make the executable of a program.

    Parameters
    ----------
    program : Program
        After the passes.
    donated : sequence of int
        Inputs whose memory results may take.
    deterministic : bool
        Split products by shape alone.
    nargs : int
        Number of arguments where each is one leaf; -1: they are trees.
    threads : int, optional
        The most that a run may use; by default, one for each CPU that the process may use.

    Returns
    -------
    Lowered
    """
    most = min(MOST_THREADS, usable_cpus()) if threads is None else threads
    b = Builder(program.name, most, deterministic)
    inputs = []
    for v in program.inputs:
        buffer = Buffer(math.prod(v.shape) * v.dtype.itemsize, "input")
        b.define(v, View(buffer, 0, v.shape, row_major(v.shape, v.dtype.itemsize), v.dtype, v.weak))
        inputs.append(buffer)
    define_constants(b, program.constants)
    lower_equations(b, program.equations)
    outputs = [output_of(b, b.view(o), "output") for o in program.outputs]
    large = sum(out.buffer.nbytes for out in outputs) >= LARGE
    for out in outputs:  # memory of an input is in the caches when it is written
        out.buffer.past = large and out.buffer.nbytes >= LARGE // 8 and not donated
    b.steps = made_in_place(early(scheduled(b, {v.buffer for v in outputs})))
    return assemble(b, inputs, outputs, program, donated, nargs)


LARGE = 1 << 25
"""Bytes of results of which nothing would be left in the caches."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """An executable with what it was made from."""

    executable: Executable
    steps: tuple[Any, ...]
    meets: tuple[bool, ...]
    donors: dict[int, int]
    """Which results take the memory of which inputs."""


def assemble(
    b: Builder,
    inputs: list[Buffer],
    outputs: list[View],
    program: Program,
    donated: Sequence[int] = (),
    nargs: int = -1,
) -> Lowered:
    """Give everything its place and make the executable."""
    donors = donors_of(b, program, inputs, outputs, donated)
    slot = 1
    for buffer in (*inputs, *(v.buffer for v in outputs)):
        if not buffer.slot:
            buffer.slot = slot
            slot += 1
    for k, i in donors.items():
        outputs[k].buffer.slot = inputs[i].slot
    constants: dict[int, Any] = {}
    steps = flattened(b.steps)
    for step in steps:
        for v in (*step.reads, *step.writes):
            if v.buffer.kind in ("constant", "moving") and not v.buffer.slot:
                v.buffer.slot = slot
                if v.buffer.kind == "constant":
                    constants[slot] = v.buffer.array
                slot += 1
    follow(b.steps, b.threads)
    waits = meetings(b.steps, b.threads, placed=False)
    join_scratch(b.steps, waits)
    arena = lay_out(b.steps, waits)
    waits = meetings(b.steps, b.threads)
    instructions = []
    slices = sliced(b.steps, waits, b.threads)
    for step, wait, many in zip(steps, waits, slices, strict=True):
        lengths = [len(flattened(sub)) for sub in step.subs]
        ints = (len(lengths), *lengths, *step.ints) if step.subs else step.ints
        refs = [
            (v.buffer.slot, v.buffer.offset + v.offset)
            for v in (*step.reads, *step.writes, *step.scratch)
        ]
        flags = WAIT * wait + ALONE * step.alone + FLOW * bool(step.subs) + SLICES * many
        instructions.append((step.kind, flags, refs, ints, step.reals, step.object, sum(lengths)))
    executable = Executable(
        instructions,
        slot,
        arena,
        constants,
        tuple(
            (x.slot, v.shape, v.dtype.num, v.weak)
            for x, v in zip(inputs, program.inputs, strict=True)
        ),
        tuple(
            (v.buffer.slot, v.shape, v.dtype.num, donors.get(k, -2 if _is_number(o) else -1))
            for k, (v, o) in enumerate(zip(outputs, program.outputs, strict=True))
        ),
        b.threads,
        program.in_def,
        program.out_def,
        work(b.steps).shared,
        nargs,
    )
    return Lowered(executable, tuple(b.steps), tuple(waits), donors)


def _is_number(o: Any) -> bool:
    """Whether a result is a Python number."""
    return o.weak if isinstance(o, Var) else type(o) in (bool, int, float, complex)


def donors_of(
    b: Builder,
    program: Program,
    inputs: list[Buffer],
    outputs: list[View],
    donated: Sequence[int],
) -> dict[int, int]:
    """Which result takes the memory of which donated input: the first of its shape and dtype that is free.

    Where the result is written before the input has been read for the last time, it is made elsewhere and copied at the
    end.
    """
    donors: dict[int, int] = {}
    left = list(donated)
    for k, out in enumerate(outputs):
        for i in left:
            v = program.inputs[i]
            if v.shape and v.shape == out.shape and v.dtype == out.dtype:  # a number is no memory
                donors[k] = i
                left.remove(i)
                break
    # All inputs that are read after a result was written must still be there.
    written: dict[Buffer, int] = {}
    read: dict[Buffer, int] = {}
    pairs: dict[int, set[tuple[Buffer, Buffer]]] = {}
    for n, s in enumerate(b.steps):
        for w in s.writes:
            written.setdefault(w.buffer, n)
        read.update((r.buffer, n) for r in s.reads)
    for k, i in donors.items():
        out = outputs[k]
        first, last = written.get(out.buffer, -1), read.get(inputs[i], -1)
        late = last > first
        if last == first >= 0:
            step = b.steps[first]
            if first not in pairs:
                often = Counter(r.buffer for r in step.reads)
                both = [(step.writes[j].buffer, step.reads[m].buffer) for j, m in step.inplace]
                pairs[first] = {(y, x) for y, x in both if often[x] == 1}
            late = (out.buffer, inputs[i]) not in pairs[first]
        if late:
            copy = View(Buffer(out.nbytes, "output"), 0, out.shape, out.strides, out.dtype)
            out.buffer.kind = "arena"
            outputs[k] = copy
            b.copy(out, copy)
    return donors
