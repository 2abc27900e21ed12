"""What instructions do, those of bodies as often as they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnmath_core.program.builder import Step
from nnmath_core.program.cost import GEMM_RATE, MEMORY_RATE, OVERHEAD

__all__ = ["Work", "flattened", "work"]


@dataclass(frozen=True, slots=True)
class Work:
    """Of some instructions: operations, bytes, how many there are, how many call Python, about how long they take."""

    flops: float = 0.0
    bytes: float = 0.0
    instructions: int = 0
    host: int = 0
    seconds: float = 0.0
    """On one thread."""
    shared: float = 0.0
    """The part of them that several threads can share."""

    def __add__(self, other: Work) -> Work:
        return Work(
            self.flops + other.flops,
            self.bytes + other.bytes,
            self.instructions + other.instructions,
            self.host + other.host,
            self.seconds + other.seconds,
            self.shared + other.shared,
        )


def work(steps: Sequence[Step]) -> Work:
    """What a run of these does; of branches it counts the dearest, of a loop of unknown length one turn."""
    total = Work()
    for step in steps:
        total += _of_bodies(step) if step.subs else _of(step)
    return total


def _of(step: Step) -> Work:
    nbytes = sum(v.nbytes for v in (*step.reads, *step.writes))
    seconds = OVERHEAD + step.flops / GEMM_RATE + nbytes / MEMORY_RATE
    return Work(step.flops, nbytes, 1, step.kind == "host", seconds, 0.0 if step.alone else seconds)


def _of_bodies(step: Step) -> Work:
    parts = [work(sub) for sub in step.subs]
    instructions, host = 1 + sum(p.instructions for p in parts), sum(p.host for p in parts)
    if step.kind == "cond":
        parts = [max(parts, key=lambda p: p.seconds)]
    n = step.turns
    seconds = OVERHEAD + n * sum(p.seconds for p in parts)
    return Work(
        n * sum(p.flops for p in parts),
        n * sum(p.bytes for p in parts),
        instructions,
        host,
        seconds,
        0.0 if step.alone else n * sum(p.shared for p in parts),
    )


def flattened(steps: Sequence[Step]) -> list[Step]:
    """The instructions in the order of the executor: bodies right behind the control flow that they belong to."""
    out: list[Step] = []
    for step in steps:
        out.append(step)
        for sub in step.subs:
            out += flattened(sub)
    return out
