"""Where the threads of a run meet: before an instruction that touches what another thread may have written or read.

A thread has the same part of an array in two instructions when both share it alike: the product shares the rows of its
result, and the loop behind it goes on with these rows. Then nobody waits between them. So an instruction is described
by what a thread touches of each view (`Share`), as far as that is simple, and instructions that may be shared in any
way are given the shares of the arrays that they read (`follow`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from nnmath_core.program.builder import Buffer, Step, View
from nnmath_core.program.lower.layouts import BLOCKS, PACKED
from nnmath_core.program.work import flattened

__all__ = ["Share", "early", "follow", "join_scratch", "meetings", "shares", "sliced"]

# Positions in the integers of instructions, as plan/machine.c, plan/gemm.c and plan/optimizer.c say.
COLS, ROWS, GROUP, SPLIT, QUANTUM, VIEWS, HEADER = 1, 2, 5, 6, 7, 9, 12
ROW_BLOCK, COLUMN_BLOCK, PACKED_BLOCK = 8, 16, 32
"""Quanta of a product's rows, of its columns, and of these where operands are packed."""
SMALL = 256
"""Bytes of what is done early."""


@dataclass(frozen=True, slots=True)
class Share:
    """Thread t of nt touches bytes x of a view for which x modulo ``period`` lies in its part of ``count`` bytes.

    Parts are multiples of ``unit`` bytes, as `nnm_share` cuts them. ``period`` 0: x itself.
    """

    count: int
    unit: int
    period: int = 0

    def cuts(self, nt: int) -> tuple[int, ...]:
        """Where the parts of nt threads end."""
        blocks = -(-self.count // self.unit)
        return tuple(min(blocks * t // nt * self.unit, self.count) for t in range(1, nt))

    def even(self, threads: int) -> bool:
        """Whether each of so many threads has about as much."""
        blocks = -(-self.count // self.unit)
        return blocks % threads == 0 or blocks >= 4 * threads

    def agrees(self, other: Share, threads: int) -> bool:
        """Whether every thread touches the same of both, however many there are."""
        if (self.count, self.period) != (other.count, other.period):
            return False
        return self.unit == other.unit or all(
            self.cuts(nt) == other.cuts(nt) for nt in range(2, threads + 1)
        )


def shares(step: Step, threads: int) -> list[Share | None]:
    """What a thread touches of each operand and result; None: perhaps anything."""
    known = _KINDS.get(step.kind)
    if known is None or step.alone or step.subs:
        return [None] * (len(step.reads) + len(step.writes))
    return known(step, threads)


# -------------------------------------------------------------------------------------------------- products
def _product(step: Step, threads: int) -> list[Share | None]:
    a, b, c = _factors(step, threads)
    if len(step.reads) <= 3:  # perhaps a row that is added, of which each thread reads what it may
        return [a, b, *[None] * (len(step.reads) - 2), c]
    made = len(step.writes)  # an optimizer's step on the pieces of the result
    return [a, b, None, None, *[c] * made, *[c] * made]


def _factors(step: Step, threads: int) -> list[Share | None]:
    """Of both factors and the product."""
    none: list[Share | None] = [None, None, None]
    how, panel, m, n, k, ra, ka, kb, nb, ldc, axes = step.ints[1:12]
    packed = how == PACKED
    item = step.writes[0].dtype.itemsize
    lengths = [step.ints[12 + 4 * i : 16 + 4 * i] for i in range(axes)]
    many = math.prod(axis[0] for axis in lengths)
    ways = set()
    for nt in range(2, threads + 1):
        if many % nt == 0 or many >= 4 * nt:
            ways.add("axes")
        elif panel and not packed:
            ways.add("panels")
        else:
            ways.add("rows" if m >= n or (not packed and m >= 2 * ROW_BLOCK * nt) else "columns")
    if len(ways) != 1:
        return none
    way = ways.pop()
    extents = (
        (m, ra), (k, ka),
        (k, kb), (n, nb),
        (m, ldc), (n, 1),
    )  # fmt: skip
    if way == "axes":
        found: list[Share | None] = []
        for j in range(3):
            span = sum((size - 1) * abs(s) for size, s in extents[2 * j : 2 * j + 2]) + 1
            step_of = _uniform([(axis[0], axis[1 + j]) for axis in lengths])
            found.append(Share(many * step_of, step_of) if step_of >= span * item else None)
        return found
    if axes:
        return none
    if way == "rows":
        a, c = ra * item, ldc * item
        reads = Share(m * a, ROW_BLOCK * a) if a >= ((k - 1) * ka + 1) * item else None
        return [reads, None, Share(m * c, ROW_BLOCK * c)]
    if way == "columns":
        block = (PACKED_BLOCK if packed else COLUMN_BLOCK) * item
        period = kb * item
        reads = Share(n * item, block, period) if nb == 1 and period >= n * item else None
        return [None, reads, Share(n * item, block, ldc * item if m > 1 else 0)]
    return none


def _uniform(axes: Sequence[tuple[int, int]]) -> int:
    """The step from one unit to the next through axes, outermost first; 0: there is no single one."""
    axes = [(n, s) for n, s in axes if n != 1]
    if not axes:
        return 0
    for (_, outer), (n, inner) in itertools.pairwise(axes):
        if outer != n * inner:
            return 0
    return axes[-1][1]


# -------------------------------------------------------------------------------------------------- the machine
@dataclass(frozen=True, slots=True)
class _Moved:
    """A view of a micro-program: which operand or result, and how it moves."""

    ref: int
    offset: int
    column: int
    group: int
    axes: tuple[tuple[int, int], ...]
    item: int

    def by_rows(self, rows: int, cols: int, quantum: int, group: int) -> Share | None:
        """``group``: so many rows are a unit; 0: each is one."""
        each, quantum = self.row(group), quantum * max(group, 1)
        if self.group:
            rows, quantum = -(-rows // group), quantum // group
        if self.column < 0 or each < (cols - 1) * self.column + self.item:
            return None
        return Share(rows * each, quantum * each)

    def row(self, group: int) -> int:
        """Bytes from one row to the next, or of what moves with groups from one of them; 0: no single number."""
        if not self.group:
            return _uniform(self.axes)
        return self.group if group and not any(s for n, s in self.axes if n != 1) else 0

    def by_columns(self, cols: int, quantum: int) -> Share | None:
        if self.column < self.item or any(s < 0 for _, s in self.axes) or self.group < 0:
            return None
        period = math.gcd(self.group, *(s for n, s in self.axes if n != 1))
        if period and period < cols * self.column:
            return None
        return Share(cols * self.column, quantum * self.column, period)


def _moved(step: Step) -> Iterator[_Moved]:
    ints = step.ints
    axes = ints[0]
    lengths = ints[HEADER : HEADER + axes]
    both = (*step.reads, *step.writes)
    groups = ints[GROUP] and ints[ROWS] > ints[GROUP]
    for k in range(ints[VIEWS]):
        at = HEADER + axes + k * (5 + axes)
        ref, offset, own, column, group, *strides = ints[at : at + 5 + axes]
        if not own:
            pairs = tuple(zip(lengths, strides, strict=True))
            yield _Moved(
                ref, offset, column, group if groups else 0, pairs, both[ref].dtype.itemsize
            )


def _machine(step: Step, threads: int) -> list[Share | None]:
    del threads
    ints = step.ints
    found: dict[int, Share | None] = {}
    for v in _moved(step):
        if ints[SPLIT]:
            share = v.by_columns(ints[COLS], ints[QUANTUM])
        else:
            share = v.by_rows(ints[ROWS], ints[COLS], ints[QUANTUM], ints[GROUP])
        if v.offset or (v.ref in found and found[v.ref] != share):
            share = None
        found[v.ref] = share
    return [found.get(k) for k in range(len(step.reads) + len(step.writes))]


def _optimizer(step: Step, threads: int) -> list[Share | None]:
    del threads
    tensors = step.ints[2]
    sizes, quanta = step.ints[3 : 3 + tensors], step.ints[3 + tensors : 3 + 2 * tensors]
    item = step.writes[0].dtype.itemsize
    each = [Share(n * item, q * item) for n, q in zip(sizes, quanta, strict=True)]
    slots = len(step.writes) // tensors - 1
    return [
        None,
        None,
        *(s for s in each for _ in range(2 + slots)),
        *(s for s in each for _ in range(1 + slots)),
    ]


_THREAD_BYTES = {"gemm": 2, "machine": 8}
"""Where the integers say how much scratch a thread has."""

_KINDS: dict[str, Callable[[Step, int], list[Share | None]]] = {
    "gemm": _product,
    "machine": _machine,
    "optimizer": _optimizer,
}


# -------------------------------------------------------------------------------------------------- slices
SLICE, SLICES = 1 << 14, 64
"""Bytes of a product that stay in the first-level cache beside what it is made of, and how many slices are the most."""


def sliced(steps: Sequence[Step], waits: Sequence[bool], threads: int) -> list[int]:
    """In how many slices instructions run in turns with the one behind them, in the executor's order; 0: in none.

    They are a stack of small products by our kernels and a loop over it, which then reads it from the first cache.
    Slices are shares of threads that are not there: where such threads would not have to meet, the order is free.
    """
    found: list[int] = []
    before: Step | None = None
    for step in steps:
        wait = waits[len(found)]
        many = 0 if before is None or wait or found[-1] else _slices(before, step, threads)
        if many:
            found[-1] = many
        found.append(many)
        for sub in step.subs:
            found += sliced(sub, waits[len(found) : len(found) + len(flattened(sub))], threads)
        before = None if step.subs else step
    return found


def _slices(product: Step, loop: Step, threads: int) -> int:
    if product.kind != "gemm" or loop.kind != "machine" or product.alone or loop.alone:
        return 0
    how, axes = product.ints[1], product.ints[11]
    if how not in (BLOCKS, PACKED) or not axes:
        return 0  # a single one took as long with slices as without
    units = math.prod(product.ints[12 + 4 * i] for i in range(axes))
    slices = min(product.writes[0].nbytes // (SLICE * threads), SLICES, units // (4 * threads))
    return slices if slices > 1 and not meetings([product, loop], slices * threads)[1] else 0


# -------------------------------------------------------------------------------------------------- scratch
def _scratch(step: Step) -> Share | None:
    """The scratch of threads, one behind the other, where instructions of this kind can say it."""
    at = _THREAD_BYTES.get(step.kind)
    if at is None or len(step.scratch) != 1 or step.alone or step.subs:
        return None
    return Share(step.scratch[0].nbytes, step.ints[at])


def join_scratch(steps: Sequence[Step], waits: Sequence[bool]) -> None:
    """Give instructions between which nobody waits the same scratch, so that it is there once."""
    rest = iter(waits)
    _join(steps, rest)


def _join(steps: Sequence[Step], waits: Iterator[bool]) -> None:
    together: list[Step] = []
    for step in steps:
        if next(waits) or step.subs:
            _one_scratch(together)
            together = []
        for sub in step.subs:
            _join(sub, waits)
        if _scratch(step) is not None:
            together.append(step)
    _one_scratch(together)


def _one_scratch(steps: Sequence[Step]) -> None:
    if len(steps) < 2:
        return
    each = [s for s in map(_scratch, steps) if s is not None]
    threads = max(s.count // s.unit for s in each)
    unit = max(s.unit for s in each)
    buffer = Buffer(threads * unit)
    for step in steps:
        at = _THREAD_BYTES[step.kind]
        step.ints = (*step.ints[:at], unit, *step.ints[at + 1 :])
        step.scratch = (View(buffer, 0, (buffer.nbytes,), (1,), step.scratch[0].dtype),)


# -------------------------------------------------------------------------------------------------- to follow
def early(steps: Sequence[Step]) -> list[Step]:
    """The steps with small ones that read only what is there before a run in front: a counter that goes on, say.

    Who reads their results has then met the others already for something else.
    """
    first: list[Step] = []
    rest: list[Step] = []
    for step in steps:
        given = all(v.buffer.kind in ("input", "constant") for v in step.reads)
        small = sum(v.nbytes for v in (*step.reads, *step.writes)) <= SMALL
        plain = step.kind == "machine" and not step.alone and not step.subs
        (first if given and small and plain else rest).append(step)
    return first + rest


def follow(steps: Sequence[Step], threads: int) -> None:
    """Let instructions that may be shared in any way take the shares of what they read."""
    made: Made = {}
    for step in steps:
        for sub in step.subs:
            follow(sub, threads)
        if step.kind == "machine":
            _machine_follows(step, made)
        elif step.kind == "optimizer":
            _optimizer_follows(step, made)
        reach = shares(step, threads)[len(step.reads) :]
        for v, share in zip(step.writes, reach, strict=True):
            key = v.buffer, v.offset
            if share is None or step.subs or not share.even(threads):
                made.pop(key, None)
            else:
                made[key] = share


Made = dict[tuple[Buffer, int], Share]
"""How the array at a place of a buffer was shared by what has made it."""


def _machine_follows(step: Step, made: Made) -> None:
    ints = step.ints
    ways = sorted(
        ((v, made[key]) for v in _moved(step) if v.ref < len(step.reads) and not v.offset
         and (key := (step.reads[v.ref].buffer, step.reads[v.ref].offset)) in made),
        key=lambda way: -way[1].count,
    )  # fmt: skip
    for v, share in ways:
        for split in (ints[SPLIT], 1 - ints[SPLIT]) if step.free else (ints[SPLIT],):
            unit = (
                v.column if split else v.row(ints[GROUP]) * (1 if v.group else max(ints[GROUP], 1))
            )
            if unit <= 0 or share.unit % unit:
                continue
            quantum = share.unit // unit
            if split:
                mine = v.by_columns(ints[COLS], quantum)
            else:
                mine = v.by_rows(ints[ROWS], ints[COLS], quantum, ints[GROUP])
            if mine == share:
                step.ints = (*ints[:SPLIT], split, quantum, *ints[QUANTUM + 1 :])
                return


def _optimizer_follows(step: Step, made: Made) -> None:
    tensors = step.ints[2]
    item = step.writes[0].dtype.itemsize
    width = (len(step.reads) - 2) // tensors
    quanta = list(step.ints[3 + tensors :])
    for i in range(tensors):
        gradient = step.reads[2 + i * width + 1]
        share = made.get((gradient.buffer, gradient.offset))
        if share is not None and not share.period and share.count == step.ints[3 + i] * item:
            quanta[i] = share.unit // item
    step.ints = (*step.ints[: 3 + tensors], *quanta)


# -------------------------------------------------------------------------------------------------- meetings
@dataclass(frozen=True, slots=True)
class _Reach:
    """First and last byte that a view can touch, from where it begins, and who touches what of it."""

    where: object
    low: int
    high: int
    begin: int
    alone: bool
    share: Share | None


def meetings(steps: Sequence[Step], threads: int, *, placed: bool = True) -> list[bool]:
    """Before which instructions all threads meet: where one touches what another thread may have written or read.

    In the order of the executor, bodies behind their control flow. A loop that several threads go round meets by itself
    before each turn and at its end. Before arrays are ``placed`` in the arena each has memory of its own.
    """
    waits: list[bool] = []
    _meet(steps, threads, placed, [], [], waits)
    return waits


def _meet(
    steps: Sequence[Step],
    threads: int,
    placed: bool,
    reads: list[_Reach],
    writes: list[_Reach],
    waits: list[bool],
) -> tuple[list[_Reach], list[_Reach]]:
    """Go on from what has been read and written since threads met; what has been in the end."""
    for step in steps:
        if step.subs and step.kind != "cond" and not step.alone:
            waits.append(False)
            for sub in step.subs:
                _meet(sub, threads, placed, [], [], waits)
            # the condition of a loop is read by all, the last carry may be put in its place by one
            reads = [_reach(v, placed, False) for v in step.writes]
            writes = [_reach(v, placed, True) for v in step.writes]
            continue
        parts = flattened([step]) if step.alone else [step]
        now_read: list[_Reach] = []
        now_write: list[_Reach] = []
        if step.subs and not step.alone:  # a choice: the branches write
            now_read.append(_reach(step.reads[0], placed, False))
        else:
            for s in parts:
                mine = shares(s, threads)
                reached = [
                    _reach(v, placed, step.alone, share)
                    for v, share in zip((*s.reads, *s.writes), mine, strict=True)
                ]
                now_read += reached[: len(s.reads)]
                now_write += reached[len(s.reads) :]
                now_write += [_reach(v, placed, step.alone, _scratch(s)) for v in s.scratch]
        wait = any(_clash(a, b, threads) for a in now_read for b in writes) or any(
            _clash(a, b, threads) for a in now_write for b in (*writes, *reads)
        )
        if wait:
            reads, writes = [], []
        reads, writes = [*reads, *now_read], [*writes, *now_write]
        waits.append(wait)
        if step.alone:
            waits += [False] * (len(parts) - 1)
        elif step.subs:
            ends = [_meet(sub, threads, placed, reads, writes, waits) for sub in step.subs]
            reads, writes = [r for e in ends for r in e[0]], [w for e in ends for w in e[1]]
    return reads, writes


def _reach(v: View, placed: bool, alone: bool, share: Share | None = None) -> _Reach:
    own = v.buffer.kind == "arena" and not placed
    begin = v.offset + (0 if own else v.buffer.offset)
    ends = [(n - 1) * s for n, s in zip(v.shape, v.strides, strict=True)]
    return _Reach(
        v.buffer if own else v.buffer.slot,
        begin + sum(r for r in ends if r < 0),
        begin + sum(r for r in ends if r > 0) + v.dtype.itemsize,
        begin,
        alone,
        share,
    )


def _clash(a: _Reach, b: _Reach, threads: int) -> bool:
    if a.where != b.where or a.low >= b.high or b.low >= a.high or (a.alone and b.alone):
        return False
    if a.share is None or b.share is None or a.begin != b.begin:
        return True
    return not a.share.agrees(b.share, threads)
