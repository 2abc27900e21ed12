"""Where each buffer of a Plan lies: lifetimes and offsets in the arena.

A buffer lives from the first instruction that uses it to the last, and until threads meet. Large ones are placed first,
each at the lowest offset at which nothing that lives at the same time overlaps. An instruction that works entry by
entry may write into the memory of an operand that dies with it.

Source: Pisarchyk & Lee, "Efficient memory management for deep neural net inference", 2020 (greedy by size).
"""

from __future__ import annotations

from collections.abc import Sequence

from nnmath_core.program.builder import Buffer, Step, View

__all__ = ["lay_out"]

ALIGNMENT = 64


def lay_out(steps: Sequence[Step], waits: Sequence[bool]) -> int:
    """Give each buffer of the arena its offset; bytes of the arena. ``waits``: where threads meet, if nothing moves."""
    lives = _Lives(steps)
    first, last = lives.first, lives.last
    taken = _in_place(lives.order, first, last)
    met = lives.met(waits)
    last = {b: met[k] for b, k in last.items()}
    groups: dict[Buffer, list[Buffer]] = {}
    for b in first:
        groups.setdefault(_root(taken, b), []).append(b)
    spans = {
        root: (min(first[b] for b in bs), max(last[b] for b in bs), max(b.nbytes for b in bs))
        for root, bs in groups.items()
    }
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last
    arena = 0
    for root in sorted(spans, key=lambda b: (-spans[b][2], spans[b][0])):
        start, stop, nbytes = spans[root]
        size = -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT
        offset = 0
        for low, high, _, _ in sorted(p for p in placed if p[2] <= stop and start <= p[3]):
            if low - offset >= size:
                break
            offset = max(offset, high)
        placed.append((offset, offset + size, start, stop))
        arena = max(arena, offset + size)
        for b in groups[root]:
            b.offset = offset
    return arena


class _Lives:
    """When buffers are used first and last, in the order of the executor.

    Control flow takes its time twice, before its bodies and after them: what a loop reads and writes, also for its
    bodies, lives through all of it.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.first: dict[Buffer, int] = {}
        self.last: dict[Buffer, int] = {}
        self.order: list[tuple[int, Step]] = []
        self.now = 0
        self._visit(steps)

    def _visit(self, steps: Sequence[Step]) -> None:
        for step in steps:
            start = self.now
            self.order.append((start, step))
            if not step.subs:
                self._touch((*step.reads, *step.writes, *step.scratch))
                self.now += 1
                continue
            loops = step.kind != "cond"
            self._touch((*step.reads, *step.writes, *step.scratch) if loops else step.reads)
            self.now += 1
            for sub in step.subs:
                self._visit(sub)
            self._touch((*step.reads, *step.writes, *step.scratch) if loops else step.writes)
            self.now += 1

    def met(self, waits: Sequence[bool]) -> list[int]:
        """For each time the last one before threads meet: until then some may still be there."""
        goes_on = [False] * (self.now + 1)
        for (k, step), wait in zip(self.order, waits, strict=True):
            goes_on[k] = not wait and not step.subs
        found = list(range(self.now + 1))
        for k in range(self.now - 1, -1, -1):
            if goes_on[k + 1]:
                found[k] = found[k + 1]
        return found

    def _touch(self, views: Sequence[View]) -> None:
        for v in views:
            if v.buffer.kind == "arena":
                self.first.setdefault(v.buffer, self.now)
                self.last[v.buffer] = self.now


def _root(taken: dict[Buffer, Buffer], b: Buffer) -> Buffer:
    while b in taken:
        b = taken[b]
    return b


def _in_place(
    steps: Sequence[tuple[int, Step]], first: dict[Buffer, int], last: dict[Buffer, int]
) -> dict[Buffer, Buffer]:
    """Which buffers take the memory of another: written where the other is read for the last time."""
    taken: dict[Buffer, Buffer] = {}
    used: set[Buffer] = set()
    for i, step in steps:
        for w, r in step.inplace:
            target, source = step.writes[w], step.reads[r]
            a, b = target.buffer, source.buffer
            readers = sum(v.buffer is b for v in step.reads)
            if (
                a.kind == b.kind == "arena"
                and a is not b
                and first[a] == i == last[b]
                and target.whole
                and source.whole
                and a.nbytes == b.nbytes
                and readers == 1
                and b not in used
                and a not in taken
            ):
                taken[a] = b
                used.add(b)
    return taken
