"""What a compiled function became, as records that print themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nnmath_core.program.builder import Step, View
from nnmath_core.program.ir import Program
from nnmath_core.program.plan import Cost
from nnmath_core.program.work import flattened, work

__all__ = ["Inspection", "Instruction", "Place", "inspected"]


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Plan.

    Attributes
    ----------
    kind : str
        ``"machine"``: elementwise operations and reductions in one pass; ``"gemm"``, ``"copy"``, ...; ``"host"``: a
        call into Python, for an operation that has no kernel in C.
    note : str
        What it computes.
    reads, writes : tuple of str
        Where: ``"@4096:f[32,128]"`` is an offset in the arena; others are ``"input1:f[...]"``, ``"output3:..."``,
        ``"constant5:..."``.
    flops : float
    bytes : int
        That it reads and writes.
    meets : bool
        Whether the threads of a run meet before it.
    body : tuple of Instruction
        Of the sub-programs of control flow.
    """

    kind: str
    note: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    flops: float
    bytes: int
    meets: bool
    body: tuple[Instruction, ...] = ()


@dataclass(frozen=True)
class Place:
    """A buffer in the arena: its bytes, and the first and last instruction that uses it."""

    offset: int
    nbytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Inspection:
    """What a function became; it prints itself.

    Attributes
    ----------
    name : str
    program : Program
        After the passes.
    passes : tuple
        What each pass changed, and what it saved.
    instructions : tuple of Instruction
    memory : tuple of Place
        The arena, by offset; buffers whose times do not overlap share memory.
    cost : Cost
    """

    name: str
    program: Program
    passes: tuple[Any, ...]
    instructions: tuple[Instruction, ...]
    memory: tuple[Place, ...]
    cost: Cost
    arena: int

    def __str__(self) -> str:
        c = self.cost
        lines = [str(self.program), "", "passes"]
        lines += [f"  {record}" for record in self.passes] or ["  nothing to change"]
        lines += [
            "",
            f"instructions of {self.name}"
            + (
                "; | means that threads meet before it"
                if any(i.meets for i in self.instructions)
                else ""
            ),
        ]
        lines += _listed(self.instructions)
        lines += ["", f"memory: an arena of {self.arena} bytes"]
        lines += [
            f"  @{p.offset}: {p.nbytes} bytes, instructions {p.first} to {p.last}"
            for p in self.memory
        ]
        host = f", {c.host} of them in Python" if c.host else ""
        lines += [
            "",
            f"cost: {c.instructions} instructions{host}; {c.flops:.4g} FLOPs; {c.bytes} bytes read and written; "
            f"{c.peak} bytes of memory at the peak",
        ]
        return "\n".join(lines)

    __repr__ = __str__


def _listed(instructions: Sequence[Instruction], indent: str = "  ") -> list[str]:
    lines = []
    for k, i in enumerate(instructions):
        mark = "|" if i.meets else " "
        note = f"   {i.note}" if i.note else ""
        lines.append(
            f"{indent}{k:3d}{mark} {i.kind:<8} {', '.join(i.writes)} <- {', '.join(i.reads)}{note}"
        )
        lines += _listed(i.body, indent + "      ")
    return lines


def inspected(plan: Any) -> Inspection:
    """The inspection of a plan."""
    return Inspection(
        plan.program.name,
        plan.program,
        plan.passes,
        _instructions(plan.steps, iter(plan.meets)),
        _memory(flattened(plan.steps)),
        plan.cost,
        plan.arena,
    )


def _instructions(steps: Sequence[Step], meets: Iterator[bool]) -> tuple[Instruction, ...]:
    out = []
    for step in steps:
        wait = next(meets)
        out.append(
            Instruction(
                step.kind,
                step.note,
                tuple(map(_where, step.reads)),
                tuple(map(_where, step.writes)),
                step.flops,
                int(work([step]).bytes),
                wait,
                _instructions([s for sub in step.subs for s in sub], meets),
            )
        )
    return tuple(out)


def _where(v: View) -> str:
    place = f"{v.buffer.kind}{v.buffer.slot}"
    if v.buffer.kind == "arena":
        place = f"@{v.buffer.offset + v.offset}"
    return f"{place}:{v.dtype.char}[{','.join(map(str, v.shape))}]"


def _memory(steps: Sequence[Step]) -> tuple[Place, ...]:
    spans: dict[int, tuple[int, int, int, int]] = {}
    for k, step in enumerate(steps):
        for v in (*step.reads, *step.writes, *step.scratch):
            if v.buffer.kind == "arena":
                key = id(v.buffer)
                first = spans[key][2] if key in spans else k
                spans[key] = (v.buffer.offset, v.buffer.nbytes, first, k)
    return tuple(Place(*p) for p in sorted(spans.values()))
