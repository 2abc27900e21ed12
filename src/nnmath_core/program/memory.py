"""Where each buffer of a Plan lies: lifetimes, offsets in the arena, and the points at which threads meet.

A buffer lives from the first instruction that uses it to the last. Large ones are placed first, each at the lowest
offset at which nothing that lives at the same time overlaps. An instruction that works entry by entry may write into
the memory of an operand that dies with it.

Source: Pisarchyk & Lee, "Efficient memory management for deep neural net inference", 2020 (greedy by size).
"""

from __future__ import annotations

from collections.abc import Sequence

from nnmath_core.program.builder import Buffer, Step, View
from nnmath_core.program.work import flattened

__all__ = ["lay_out", "meetings"]

ALIGNMENT = 64


def lay_out(steps: Sequence[Step], alive: Sequence[Buffer]) -> int:
    """Give each buffer of the arena its offset; bytes of the arena. Buffers of ``alive`` are read after the end."""
    lives = _Lives(steps)
    first, last = lives.first, lives.last
    for b in alive:
        if b in last:
            last[b] = lives.now
    taken = _in_place(lives.order, first, last)
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


def meetings(steps: Sequence[Step]) -> list[bool]:
    """Before which instructions all threads meet: where one touches what another thread may have written or read.

    In the order of the executor, bodies behind their control flow. A loop that several threads go round meets by itself
    before each turn and at its end.
    """
    waits: list[bool] = []
    _meet(steps, [], [], waits)
    return waits


Ranges = list[tuple[int, int, int, bool]]


def _meet(
    steps: Sequence[Step], reads: Ranges, writes: Ranges, waits: list[bool]
) -> tuple[Ranges, Ranges]:
    """Go on from what has been read and written since threads met; what has been in the end."""
    for step in steps:
        if step.subs and step.kind != "cond" and not step.alone:
            waits.append(False)
            for sub in step.subs:
                _meet(sub, [], [], waits)
            # the condition of a loop is read by all, the last carry may be put in its place by one
            reads = [_range(v, False) for v in step.writes]
            writes = [_range(v, True) for v in step.writes]
            continue
        parts = flattened([step]) if step.alone else [step]
        now_read = [_range(v, step.alone) for s in parts for v in s.reads]
        now_write = [_range(v, step.alone) for s in parts for v in (*s.writes, *s.scratch)]
        if step.subs and not step.alone:  # a choice: the branches write
            now_read, now_write = [_range(step.reads[0], False)], []
        wait = any(_clash(a, b) for a in now_read for b in writes) or any(
            _clash(a, b) for a in now_write for b in (*writes, *reads)
        )
        if wait:
            reads, writes = [], []
        reads, writes = [*reads, *now_read], [*writes, *now_write]
        waits.append(wait)
        if step.alone:
            waits += [False] * (len(parts) - 1)
        elif step.subs:
            ends = [_meet(sub, reads, writes, waits) for sub in step.subs]
            reads, writes = [r for e in ends for r in e[0]], [w for e in ends for w in e[1]]
    return reads, writes


def _range(v: View, alone: bool) -> tuple[int, int, int, bool]:
    """Slot, first and last byte that a view can touch, and whether it is thread 0 that does."""
    low = v.buffer.offset + v.offset
    reach = [(n - 1) * s for n, s in zip(v.shape, v.strides, strict=True)]
    return (
        v.buffer.slot,
        low + sum(r for r in reach if r < 0),
        low + sum(r for r in reach if r > 0) + v.dtype.itemsize,
        alone,
    )


def _clash(a: tuple[int, int, int, bool], b: tuple[int, int, int, bool]) -> bool:
    return a[0] == b[0] and a[1] < b[2] and b[1] < a[2] and not (a[3] and b[3])
