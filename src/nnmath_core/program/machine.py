"""The micro-program of a group: phases, registers and the integers that `machine.c` reads.

A value of the group is one of three things. A *block* value has an entry for each row and column; it lives in an L1
block or, when it is read outside of the group, in its output. A *row* value has one entry for each row: what a
reduction along the columns gives, and what is computed from such. What is folded over rows is accumulated in an
output and is not available inside.

A block operation runs in the first phase in which all row values that it reads exist, and not before it is needed. When
a later phase reads it again, a cheap one is computed again, any other is kept: in the output of the last phase that
reads it, or in a buffer of the length of the row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnmath_core.program import loops, places
from nnmath_core.program.builder import (
    Buffer,
    Builder,
    Step,
    View,
    merged_axes,
    whole_lines,
)
from nnmath_core.program.fuse import Access, Group, Node, node_of
from nnmath_core.program.native import Operation, available, joined
from nnmath_core.program.nodes import Fold, Reduction
from nnmath_core.program.places import Fixed, Known, Moving, Phase, Place, allocate

__all__ = ["emit_group"]

L1 = 32768
"""Bytes that the blocks of one operation sequence may take."""
LONGEST_BLOCK = 1024
CHAIN = 2
"""Operations that run again in a generated loop, where they cost less than a row that is written and read."""
CHEAP = 1.0
"""Cost up to which an operation runs again instead of being kept."""
CHUNKS = 8
"""Parts of the rows that are accumulated apart, whatever the number of threads."""
SHARED = 1 << 15
"""Entries from which work is cut into parts."""
WIDE, TALL = 512, 1024
"""Columns from which, and rows up to which, sums over rows are shared by columns."""
HEAVY = 1 << 14
"""Plain operations from which rows are accumulated apart, too."""
SHORTEST_PART, LONGEST_PART = 1 << 11, 1 << 14
"""Entries of the parts in which a sum of all entries is made."""
SHORTEST_LINE = 64
"""Entries of a line that is summed by itself, rather than copied behind the others."""

PROLOGUE = 1  # phase 0 belongs to groups of rows


def emit_group(b: Builder, g: Group, outside: set[Buffer]) -> None:
    """Emit the instructions of a group; buffers of ``outside`` are read elsewhere."""
    if g.size == 0 and not any(m.folded is not None for m in g.members):
        return
    _Writer(b, g, outside).write()


class _Writer:
    def __init__(self, b: Builder, g: Group, outside: set[Buffer]) -> None:
        self.b, self.g = b, g
        self.made = {m.write.view.buffer: m for m in g.members}
        self.written = {m for m in g.members if m.write.view.buffer in outside}
        self.rank = len(g.space)
        self.reads: list[View] = []
        self.writes: list[View] = []
        self.views: dict[Any, Moving] = {}
        self.fixed: list[Fixed] = []
        self.after: list[tuple[View, View, Node, int]] = []
        self.parts = 0
        self.cols = 1
        self._settle_space()

    # ------------------------------------------------------------------------------------------ space
    def _padded(self, strides: tuple[int, ...]) -> tuple[int, ...]:
        return strides + (0,) * (self.rank - len(strides))

    def _external(self) -> list[tuple[Node, int]]:
        return [
            (m, i)
            for m in self.g.members
            for i, a in enumerate(m.reads)
            if a.view.buffer not in self.made
        ]

    def _settle_space(self) -> None:
        g = self.g
        space = g.space
        split = g.split
        over = g.over_rows or ()
        if split is None and over:
            split = max(over) + 1
        strides = [self._padded(m.reads[i].strides) for m, i in self._external()]
        strides += [self._padded(m.write.strides) for m in self.written if m.folded is None]
        if split is None:  # one run of columns, as long as all agree
            axes = merged_axes(space, strides)
            self._divide(strides, axes[:-1], axes[-1:])
            self.group_rows = 0
            self.kept = 1
            return
        if split == 0 and self._cut_lines(strides):
            return
        self._merge_columns(split)
        strides = [self._padded(m.reads[i].strides) for m, i in self._external()]
        strides += [self._padded(m.write.strides) for m in self.written if m.folded is None]
        strides += [
            self._padded(m.write.strides)
            for m in self.written
            if m.folded is not None and m.trailing and m.folded != over
        ]
        kept = [a for a in range(split) if a not in over]
        folded = [a for a in range(split) if a in over]
        outer = merged_axes([space[a] for a in kept], [[s[a] for a in kept] for s in strides])
        inner = merged_axes([space[a] for a in folded], [[s[a] for a in folded] for s in strides])
        cols = range(split, self.rank)
        line = merged_axes([space[a] for a in cols], [[s[a] for a in cols] for s in strides])
        assert len(line) <= 1
        self._divide(strides, [*outer, *inner], line)
        self.kept = math.prod(space[a] for a in kept)
        self.group_rows = math.prod(space[a] for a in folded) if over else 0
        if (
            split == 0
            and self.cols >= SHARED
            and all(m.folded is not None for m in self.g.members if self._is_row(m))
        ):
            self._cut_columns()

    def _divide(self, strides: Sequence[tuple[int, ...]], rows: Any, line: Any) -> None:
        """Settle the axes of the rows, the columns, and how far each access steps along them."""
        last: tuple[int, ...]
        self.cols, last = line[0] if line else (1, (0,) * len(strides))
        self.row_space = [n for n, _ in rows]
        self._row_strides = {s: tuple(a[1][k] for a in rows) for k, s in enumerate(strides)}
        self._col_stride = {s: last[k] for k, s in enumerate(strides)}

    def _cut_lines(self, strides: Sequence[tuple[int, ...]]) -> bool:
        """Fold all entries line by line, where operands do not lie as one: lines are rows, whose sums are added."""
        lines = merged_axes(self.g.space, strides)
        if len(lines) < 2 or lines[-1][0] < SHORTEST_LINE:
            return False
        if any(m.folded is None for m in self.g.members if self._is_row(m)):
            return False
        self._divide(strides, lines[:-1], lines[-1:])
        self.parts = math.prod(self.row_space)
        self.group_rows, self.kept = 0, 1
        return True

    def _cut_columns(self) -> None:
        """Fold all entries in parts, which threads share: rows that are pieces of the one row there is."""
        for parts in range(-(-self.cols // LONGEST_PART), self.cols // SHORTEST_PART + 1):
            if self.cols % parts == 0:
                break
        else:
            return
        self.parts = parts
        self.cols //= parts
        self.row_space = [parts]
        self._row_strides = {s: (self.cols * c,) for s, c in self._col_stride.items()}

    def _merge_columns(self, split: int) -> None:
        """Copy what is read in another order than the columns', so that a row is one run of entries."""
        cols = self.g.space[split:]
        if len(cols) <= 1:
            return
        for m, i in self._external():
            a = m.reads[i]
            s = self._padded(a.strides)
            if len(merged_axes(cols, (s[split:], _dense(cols)))) <= 1 or not any(s[split:]):
                continue
            lead = [n if t else 1 for n, t in zip(self.g.space[:split], s[:split], strict=True)]
            copy = self.b.array((*lead, *cols), a.view.dtype)
            source = a.view.at(a.view.offset, copy.shape, s)
            self.b.copy(source, copy)
            new = copy.broadcast(self.g.space).strides
            reads = list(m.reads)
            reads[i] = Access(copy, new[: len(a.strides)])
            m.reads = tuple(reads)

    # ------------------------------------------------------------------------------------------ phases
    def _is_row(self, m: Node) -> bool:
        """Whether the value of a node is a row value."""
        if m.folded is not None:
            return m.trailing and m.folded != self.g.over_rows
        return len(m.space) < self.rank

    def _over_rows(self, m: Node) -> bool:
        return m.folded is not None and not self._is_row(m)

    def _schedule(self) -> None:
        """The phase of each node, and which block values are kept for a later one."""
        early: dict[Node, int] = {}
        for m in self.g.members:
            phase = PROLOGUE if self._is_row(m) and m.folded is None else PROLOGUE + 1
            for a in m.reads:
                p = self.made.get(a.view.buffer)
                if p is None:
                    continue
                if self._is_row(p):
                    step = 0 if self._is_row(m) and m.folded is None else 1
                    phase = max(phase, early[p] + step if early[p] > PROLOGUE else phase)
                else:
                    phase = max(phase, early[p])
            early[m] = phase
        self.phase = dict(early)
        uses: dict[Node, set[int]] = {m: set() for m in self.g.members}
        for m in reversed(self.g.members):
            block = not self._is_row(m) and not self._over_rows(m)
            if block and uses[m]:
                self.phase[m] = max(early[m], min(uses[m]))
            for a in m.reads:
                p = self.made.get(a.view.buffer)
                if p is not None and not self._is_row(p):
                    uses[p].add(self.phase[m])
        self.stored: set[Node] = set()
        self.again: set[Node] = set()
        for m in self.g.members:
            if self._is_row(m) or self._over_rows(m):
                continue
            if max(uses[m], default=0) <= self.phase[m] or m in self.written:
                continue
            again = self._chain(m)
            if again is not None and len(again) <= (CHAIN if available() else 1):
                self.again |= again
            else:
                self.stored.add(m)

    def _chain(self, m: Node) -> set[Node] | None:
        """What must run again for a block value; None where that is no cheap operation or too many."""
        if m.step.object.loop.cost > CHEAP:
            return None
        again = {m}
        for a in m.reads:
            p = self.made.get(a.view.buffer)
            if p is None or self._is_row(p) or p in self.stored or p in self.written:
                continue
            more = self._chain(p)
            if more is None:
                return None
            again |= more
            if len(again) > CHAIN:
                return None
        return again

    # ------------------------------------------------------------------------------------------ registers
    def _view(self, view: View, strides: tuple[int, ...], writes: bool = False) -> Moving:
        """The register of memory outside, over the space."""
        key = (id(view.buffer), view.offset, strides, view.dtype)
        if key in self.views:
            return self.views[key]
        return self._new_view(
            key, view, self._row_strides[strides], self._col_stride[strides], 0, writes
        )

    def _new_view(
        self, key: Any, view: View, axes: Sequence[int], col: int, group: int, writes: bool
    ) -> Moving:
        place = Moving(stride=col, group=group, axes=tuple(axes))
        if writes:
            place.ref = len(self.writes)
            self.writes.append(view)
        else:
            place.ref = -1 - len(self.reads)
            self.reads.append(view)
        self.views[key] = place
        return place

    def _constant(self, raw: bytes) -> Moving:
        key = ("constant", raw)
        if key not in self.views:
            view = self.b.constant(np.frombuffer(raw, np.uint8))
            self._new_view(key, view, (0,) * len(self.row_space), 0, 0, False)
        return self.views[key]

    def _row_place(self, nbytes: int) -> Fixed:
        place = Fixed(nbytes=nbytes, stride=nbytes)
        self.fixed.append(place)
        return place

    # ------------------------------------------------------------------------------------------ operations
    def write(self) -> None:
        self._cut()
        self._schedule()
        last = max(self.phase.values())
        self.phases = [Phase() for _ in range(last + 1)]
        self.row_places: dict[Node, Place] = {}
        self.buffers: dict[Node, Moving] = {}
        self.hosts: set[Node] = set()
        for m in self.g.members:
            if self._is_row(m):
                self.row_places[m] = (
                    self._row_output(m)
                    if m in self.written
                    else self._row_place(m.write.view.dtype.itemsize)
                )
            elif m in self.stored:
                itemsize = m.write.view.dtype.itemsize
                host = self._host(m)
                if host is not None:
                    self.hosts.add(host)
                    self.buffers[m] = self._view(
                        host.write.view, self._padded(host.write.strides), True
                    )
                    continue
                self.buffers[m] = Moving(stride=itemsize, own=True, axes=(0,) * len(self.row_space))
                self.views["buffer", m] = self.buffers[m]
        self.blocks: list[Fixed] = []
        for number in range(PROLOGUE, last + 1):
            self._write_phase(number)
        for phase in self.phases:  # an operation on a row can come from the phase behind
            phase.row = joined(phase.row, self._known({}))
        self.batch = places.batch(
            self.phases, self.row_space, (self.reads, self.writes), self._row_bytes()
        )
        asked = places.ahead(self.views.values(), self.phases, self.cols, self.batch)
        for number, phase in enumerate(self.phases[PROLOGUE:], PROLOGUE):
            phase.order = phase.block
            phase.block = joined(phase.block, self._known(asked[number]))
            allocate(phase.block, self.blocks)
        self._emit()

    def _host(self, m: Node) -> Node | None:
        """The output in whose memory a kept value may wait, which is fetched while the value is computed."""
        readers = [
            n for n in self.g.members if any(a.view.buffer is m.write.view.buffer for a in n.reads)
        ]
        again = any(n in self.again for n in readers)
        last = max(self.phase[n] for n in readers)
        place = {n: k for k, n in enumerate(self.g.members)}
        end = max(place[n] for n in readers if self.phase[n] == last)
        for w in self.g.members:
            out = w.write.view
            if (
                w in self.written and w not in self.hosts and w.folded is None and not self._is_row(w)
                and self.phase[w] == last > self.phase[m] and place[w] >= end and not again
                and out.dtype == m.write.view.dtype
                and self._col_stride[self._padded(w.write.strides)] == out.dtype.itemsize
                and not any(a.view.buffer is out.buffer for n in self.g.members for a in n.reads)
            ):  # fmt: skip
                return w
        return None

    def _row_output(self, m: Node) -> Moving:
        if self.parts:
            what, out = m.step.object, m.write.view
            wide = (
                np.float64 if what.name.startswith("sum") and out.dtype.kind == "f" else out.dtype
            )
            partial = self.b.array((self.parts,), wide)
            self.after.append((partial, out, m, self.parts))
            along = [partial.dtype.itemsize * n for n in _dense(self.row_space)]
            return self._new_view(("part", m), partial, along, 0, 0, True)
        return self._view(m.write.view, self._padded(m.write.strides), True)

    def _write_phase(self, number: int) -> None:
        phase = self.phases[number]
        here: dict[Any, Place] = {}
        wanted = self._needed(number)
        for m in self.g.members:
            if self._is_row(m) and m.folded is None:
                continue
            if m in wanted and not self._over_rows(m) and m.folded is None:
                self._block(m, number, here)
            elif m.folded is not None and self.phase[m] == number:
                self._fold(m, number, here)
        for m in self.g.members:
            if self._is_row(m) and m.folded is None and self.phase[m] == number:
                args = [*(self._row_operand(a) for a in m.reads), self.row_places[m]]
                phase.row.append(
                    Operation(m.step.object.loop, args, [self._along_rows(p) for p in args])
                )

    def _known(self, ahead: dict[Place, int]) -> Known:
        read = (a.view.buffer for m in self.g.members for a in m.reads)
        hosts = (m.write.view.buffer for m in self.hosts)
        return Known(self.reads, self.writes, (*read, *hosts), ahead)

    def _needed(self, number: int) -> set[Node]:
        """Block values to compute in a phase: its own, and those that are computed again."""
        need: set[Node] = set()
        for m in reversed(self.g.members):
            block = not self._is_row(m) and m.folded is None
            if block and (self.phase[m] == number or m in need):
                need.add(m)
            elif not (m.folded is not None and self.phase[m] == number):
                continue
            for a in m.reads:
                p = self.made.get(a.view.buffer)
                if p in self.again:
                    need.add(p)
        return need

    def _along_rows(self, place: Place) -> int:
        """Bytes from one row to the next of a value of the rows."""
        if isinstance(place, Moving):
            return place.axes[-1] if place.axes else 0
        return place.stride

    def _row_operand(self, a: Access) -> Place:
        p = self.made.get(a.view.buffer)
        if p is not None:
            return self.row_places[p]
        return self._view(a.view, self._padded(a.strides))

    def _operand(self, a: Access, number: int, here: dict[Any, Place]) -> tuple[Place, int]:
        """The register of what a block operation reads, and its stride."""
        p = self.made.get(a.view.buffer)
        if p is not None:
            if self._is_row(p):
                return self.row_places[p], 0
            place = (
                here.get(p)
                or self.buffers.get(p)
                or self._view(p.write.view, self._padded(p.write.strides), True)
            )
            return place, place.stride or a.view.dtype.itemsize
        view = self._view(a.view, self._padded(a.strides))
        itemsize = a.view.dtype.itemsize
        if view.stride in (0, itemsize):
            return view, view.stride
        if view not in here:  # entries further apart are brought together
            place = self._block_place(itemsize)
            loop = loops.copy(a.view.dtype)
            assert loop is not None
            self.phases[number].block.append(
                Operation(loop, [view, place], [view.stride, itemsize])
            )
            here[view] = place
        return here[view], itemsize

    def _block_place(self, itemsize: int) -> Fixed:
        return Fixed(nbytes=itemsize, block=True, stride=itemsize)

    def _block(self, m: Node, number: int, here: dict[Any, Place]) -> None:
        operands = [self._operand(a, number, here) for a in m.reads]
        itemsize = m.write.view.dtype.itemsize
        place: Place
        if self.phase[m] == number and m in self.written:
            place = self._view(m.write.view, self._padded(m.write.strides), True)
        elif m in self.buffers and self.phase[m] == number:
            place = self.buffers[m]
        else:
            place = self._block_place(itemsize)
        here[m] = place
        self.phases[number].block.append(
            Operation(
                m.step.object.loop,
                [*(p for p, _ in operands), place],
                [*(s for _, s in operands), itemsize],
            )
        )

    def _fold(self, m: Node, number: int, here: dict[Any, Place]) -> None:
        what: Reduction = m.step.object
        operands = [self._operand(a, number, here) for a in m.reads]
        registers: list[Place] = [p for p, _ in operands]
        strides = [n for _, n in operands]
        phase = self.phases[number]
        itemsize = m.write.view.dtype.itemsize
        if self.parts:
            part = self.writes[self.row_places[m].ref]  # type: ignore[attr-defined]
            again = loops.reduction(what.name, (0,), m.reads[0].view.dtype, part.dtype)
            if again is not None and len(registers) == 2:
                again = loops.product_sum(again, m.reads[0].view.dtype)
            assert again is not None
            what, itemsize = again, part.dtype.itemsize
        if self._over_rows(m):
            target = self._accumulated(m, what.column)
            args: list[Place] = [*registers, target] if what.column.two else [target, *registers]
            sizes = [*strides, itemsize] if what.column.two else [itemsize, *strides]
            phase.block.append(Operation(what.column.step, [*args, target], [*sizes, itemsize]))
            return
        fold = what.row
        accumulator: Place = self._row_place(16) if fold.finish else self.row_places[m]
        clear = loops.copy_bytes(len(fold.start))
        self.phases[number - 1].row.append(
            Operation(
                clear,
                [self._constant(fold.start), accumulator],
                [0, self._along_rows(accumulator)],
            )
        )
        args = registers if fold.two else [accumulator, *registers]
        sizes = strides if fold.two else [0, *strides]
        phase.block.append(Operation(fold.step, [*args, accumulator], [*sizes, 0]))
        if fold.finish:
            place = self.row_places[m]
            phase.row.append(
                Operation(fold.finish, [accumulator, place], [16, self._along_rows(place)])
            )

    # ------------------------------------------------------------------------------------------ sums over rows
    def _cut(self) -> None:
        """How rows are cut into groups whose sums are made apart."""
        self.chunks = 1
        if not self.group_rows or self.kept > 1:
            return
        if self.cols >= WIDE and self.group_rows <= TALL and not self._along():
            return  # threads share the columns
        entries = self.group_rows * self.cols
        cost = sum(m.step.object.loop.cost for m in self.g.members if m.folded is None)
        large = entries >= SHARED and self.group_rows >= 8 * CHUNKS
        if large or (entries * cost >= HEAVY and self.group_rows >= 4 * CHUNKS):
            self.chunks = CHUNKS
            self.group_rows = -(-self.group_rows // CHUNKS)

    def _along(self) -> bool:
        """Whether a row belongs to one thread; values that are not made along it nor written all threads compute."""
        return any(
            self._is_row(m) and (m.folded is not None or m in self.written) for m in self.g.members
        )

    def _accumulated(self, m: Node, fold: Fold) -> Moving:
        """The register into which rows are folded; it is cleared at the beginning of each group."""
        out = m.write.view
        itemsize = out.dtype.itemsize
        groups = self.kept * self.chunks
        strides = self._padded(m.write.strides)
        kept = [s for a, s in enumerate(strides) if a not in (self.g.over_rows or ())]
        lengths = [n for a, n in enumerate(self.g.space) if a not in (self.g.over_rows or ())]
        dense = [itemsize * s for s in _dense(lengths)]
        direct = self.chunks == 1 and kept == dense
        target = out if direct else self.b.array((groups, self.cols), out.dtype)
        place = self._new_view(
            ("sum", m), target, (0,) * len(self.row_space), itemsize, self.cols * itemsize, True
        )
        if not direct:
            self.after.append((target, out, m, groups))
        clear = loops.copy(out.dtype)
        assert clear is not None
        self.phases[0].block.append(
            Operation(clear, [self._constant(fold.start), place], [0, itemsize])
        )
        return place

    def _finish(self) -> None:
        """Add up what was folded apart, or bring it into the order of its output."""
        for partial, out, m, groups in self.after:
            over = self.g.over_rows or ()
            order = [a for a in range(self.rank) if a not in over]
            strides = self._padded(m.write.strides)
            lengths = [self.g.space[a] for a in order]
            ordered = out.at(out.offset, lengths, [strides[a] for a in order])
            if self.parts:
                name = m.step.object.name
                name = "sum" if name.startswith("sum") else name  # sums of sums
                what = loops.reduction(name, (0,), partial.dtype, out.dtype)
                assert what is not None
                single = out.at(out.offset, (), ())
                step = Step("node", (partial,), (single,), (), (), False, what)
                n = node_of(step, 0)
                emit_group(self.b, Group(n.space, 0, [n]), {out.buffer})
                continue
            if self.chunks == 1:
                source = partial.reshaped(lengths)
                assert source is not None
                self.b.copy(source, ordered)
                continue
            total = partial.at(
                0,
                (groups, *lengths),
                (
                    self.cols * out.dtype.itemsize,
                    *[out.dtype.itemsize * s for s in _dense(lengths)],
                ),
            )
            what = loops.reduction(m.step.object.name, (0,), out.dtype)
            assert what is not None
            step = Step("node", (total,), (ordered,), (), (), False, what)
            n = node_of(step, 0)
            assert n.folded is not None
            group = Group(n.space, len(n.space) - len(n.folded) if n.trailing else None, [n])
            if not n.trailing:
                group.over_rows = n.folded
            emit_group(self.b, group, {out.buffer})

    # ------------------------------------------------------------------------------------------ layout
    def _row_bytes(self) -> int:
        """Bytes of a row in all that moves."""
        return int(self.cols) * sum(abs(v.stride) for v in self.views.values())

    def _emit(self) -> None:
        b = self.b
        per_entry = sum(p.nbytes for p in self.blocks) + sum(
            abs(v.stride) for v in self.views.values()
        )
        block = max(64, min(LONGEST_BLOCK, L1 // max(per_entry, 1) // 64 * 64))
        block = min(block, max(self.cols, 1))
        batch = self.batch
        offset = 0
        fixed: list[int] = []
        numbered: list[Fixed] = []
        for f in (*self.fixed, *self.blocks):
            fixed += [offset, 0 if f.block else f.nbytes]
            numbered.append(f)
            offset += whole_lines(f.nbytes * (block if f.block else batch))
        for v in self.buffers.values():
            if not v.own:
                continue
            v.offset = offset
            v.axes = (*v.axes[:-1], whole_lines(v.stride * self.cols)) if v.axes else ()
            offset += batch * whole_lines(v.stride * self.cols)
        thread_bytes = max(offset, 64)
        views = list(self.views.values())
        for k, v in enumerate(views):
            v.number = k
        for k, f in enumerate(numbered):
            f.number = len(views) + k
        rows = math.prod(self.row_space)
        split, quantum = 0, 1
        either = not self._along() and self.chunks == 1
        if either:
            if self.group_rows or rows < 4 * b.threads or self.cols * 4 > SHARED:
                split, quantum = 1, 64
            else:
                quantum = max(1, 4096 // max(self.cols, 1))
        elif not self.group_rows:
            quantum = max(1, 1024 // max(self.cols, 1))
        ints: list[int] = [
            len(self.row_space), self.cols, rows, block, batch, self.group_rows, split, quantum, thread_bytes,
            len(views), len(numbered), len(self.phases), *self.row_space,
        ]  # fmt: skip
        ints += places.encoded(views, fixed, self.phases, len(self.reads))
        b.scratch(thread_bytes * b.threads)
        alone = len(self.phases) <= PROLOGUE + 2 and not self.phases[0].block
        names = [m.step.note for m in self.g.members]
        flops = self.g.size * sum(
            1.0 if m.folded is not None else m.step.object.loop.cost for m in self.g.members
        )
        b.emit(
            "machine",
            self.reads,
            self.writes,
            ints,
            object=tuple(op.code for p in self.phases for op in (*p.block, *p.row) if op.code),
            inplace=places.in_place(views, self.phases[-1].order, self.reads, self.writes)
            if alone
            else [],
            flops=flops,
            note=" ".join(names),
            free=either,
        )
        self._finish()


def _dense(lengths: Sequence[int]) -> tuple[int, ...]:
    """Strides of a contiguous array, in entries."""
    out, step = [], 1
    for n in reversed(lengths):
        out.append(step)
        step *= max(n, 1)
    return tuple(reversed(out))
