"""One CUDA kernel from a group of elementwise operations and reductions.

The group is that of the CPU's machine (`program.fuse`): nodes over one space, whose leading axes are rows and whose
trailing axes are columns. Three forms:

*Entries.* No reduction: a thread an entry. What is a value of a row is computed again by each of its threads.

*Rows.* Reductions along the columns: `lanes` threads share a row, a part of a warp where it is short, a block where it
is long. A phase walks over the columns, folds what it can and ends with a reduction among the lanes, which gives every
lane the same bits; values of the row follow; then the next phase. Block values that a later phase reads stay in
registers where the row is short, else they are made again from memory. One long row, or a few, are cut into parts.

*Sums over rows.* A block goes through a share of the rows, its lanes keep an accumulator for each of their columns, and
what the blocks have is added in the order of the blocks by the one that finishes last. So the bits depend on shapes
alone, and one launch is enough.

Sums of real numbers are accumulated in double precision. Shapes and strides are written into the text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnmath_core.program.builder import Buffer, View, merged_axes
from nnmath_core.program.cuda.expressions import (
    c_type,
    combined,
    computes,
    expression,
    folded,
    literal,
    start_of,
    sum_type,
)
from nnmath_core.program.fuse import Access, Group, Node

__all__ = ["Kernel", "generated"]

THREADS = 256
"""Of a block, unless a row is longer."""
MOST_ITEMS = 16
"""Columns of a thread that are written out, so that they stay in registers."""
KEPT_WORDS = 64
"""Registers of 32 bits that block values may take from one phase to the next."""
MOST_BLOCKS = 1 << 16
"""Of a grid; beyond, blocks take several turns."""
ENOUGH_BLOCKS = 256
"""Blocks among which the rows of a sum are divided: enough for the multiprocessors of any device."""
FEWEST_ROWS = 4
"""Rows that are worth a block, of those that its lanes take at once."""
LONG, FEW, PART = 1 << 14, 128, 1 << 13
"""Columns from which, and rows up to which, a row is cut into parts of so many columns."""
NARROW = 1 << 30
"""Offsets up to which indices have 32 bits."""


@dataclass(eq=False, slots=True)
class Kernel:
    """A kernel's text, its launch, and what its pointers and numbers are, in the order of its parameters."""

    name: str
    source: str
    grid: int
    block: int
    reads: list[View]
    writes: list[View]
    scratch: list[View]
    tickets: int
    """Counters of blocks that have finished, zero before and after."""
    numbers: list[View]
    """Python numbers among the arguments, which are passed by value."""
    inplace: list[tuple[int, int]] = field(default_factory=list)


def generated(g: Group, outside: set[Buffer]) -> Kernel:
    """The kernel of a group; buffers of ``outside`` are read elsewhere."""
    folds = any(m.folded is not None for m in g.members)
    writer = _Rows(g, outside) if folds else _Entries(g, outside)
    return writer.kernel()


class _Text:
    """Lines with indentation."""

    def __init__(self, depth: int = 1) -> None:
        self.lines: list[str] = []
        self.depth = depth

    def add(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    def open(self, line: str) -> None:
        self.add(line + " {")
        self.depth += 1

    def close(self) -> None:
        self.depth -= 1
        self.add("}")

    def __str__(self) -> str:
        return "\n".join(self.lines)


class _Writer:
    """What both forms share: parameters, accesses, values by name."""

    def __init__(self, g: Group, outside: set[Buffer]) -> None:
        self.g, self.rank = g, len(g.space)
        self.made = {m.write.view.buffer: m for m in g.members}
        self.written = [m for m in g.members if m.write.view.buffer in outside]
        self.names = {m: f"v{k}" for k, m in enumerate(g.members)}
        self.reads: list[View] = []
        self.writes: list[View] = []
        self.scratch: list[View] = []
        self.numbers: list[View] = []
        self.pointers: dict[Any, str] = {}
        self.ticket_count = 0
        self.text = _Text()
        self.shared = 0

    # ------------------------------------------------------------------------------------------ operands
    def padded(self, strides: tuple[int, ...]) -> tuple[int, ...]:
        return strides + (0,) * (self.rank - len(strides))

    def externals(self) -> list[Access]:
        """What comes from memory, constants of one entry and numbers left out."""
        return [
            a
            for m in self.g.members
            for a in m.reads
            if a.view.buffer not in self.made and self.number(a) is None
        ]

    def number(self, a: Access) -> str | None:
        """The text of an operand that is a number: a literal or a parameter."""
        b = a.view.buffer
        if not computes(a.view.dtype):
            return None
        if b.kind == "constant" and b.array.size == 1 and not b.array.flags.writeable:
            return literal(b.array.reshape(-1)[0])
        return self.parameter(a.view) if b.kind == "input" and a.view.weak else None

    def parameter(self, v: View) -> str:
        for k, known in enumerate(self.numbers):
            if known.buffer is v.buffer:
                return f"n{k}"
        self.numbers.append(v)
        return f"n{len(self.numbers) - 1}"

    def pointer(self, v: View, kind: str) -> str:
        """The parameter for memory: "r" read, "w" written, "s" scratch."""
        key = (id(v.buffer), v.offset, v.dtype, kind)
        if key not in self.pointers:
            place = {"r": self.reads, "w": self.writes, "s": self.scratch}[kind]
            self.pointers[key] = f"{kind}{len(place)}"
            place.append(v)
        return self.pointers[key]

    def strides_in_entries(self, v: View, strides: Sequence[int]) -> list[int]:
        size = v.dtype.itemsize
        assert not any(s % size for s in strides)
        return [s // size for s in strides]

    def index_type(self, *extents: int) -> str:
        spans = [
            sum(abs(s) * (n - 1) for s, n in zip(self.padded(a.strides), self.g.space, strict=True))
            for a in (*self.externals(), *(m.write for m in self.written))
        ]
        return "int" if max((*spans, *extents, self.g.size), default=0) < NARROW else "long long"

    # ------------------------------------------------------------------------------------------ the whole
    def name(self) -> str:
        words = "_".join(dict.fromkeys(m.step.note for m in self.g.members))
        return "fused_" + re.sub(r"\W+", "_", words)[:48].strip("_")

    def finish(self, grid: int, block: int, inplace: list[tuple[int, int]]) -> Kernel:
        name = self.name()
        params = [f"const {c_type(v.dtype)} *r{k}" for k, v in enumerate(self.reads)]
        params += [f"{c_type(v.dtype)} *w{k}" for k, v in enumerate(self.writes)]
        params += [f"{c_type(v.dtype)} *s{k}" for k, v in enumerate(self.scratch)]
        params += ["unsigned int *tickets"] if self.ticket_count else []
        params += [f"{c_type(v.dtype)} n{k}" for k, v in enumerate(self.numbers)]
        head = f'extern "C" __global__ void __launch_bounds__({block}) {name}('
        source = f"{head}{', '.join(params)})\n{{\n{self.text}\n}}\n"
        return Kernel(
            name, source, grid, block, self.reads, self.writes, self.scratch, self.ticket_count, self.numbers, inplace,
        )  # fmt: skip

    def is_row(self, m: Node) -> bool:
        """Whether the value of a node is one of a row, without an entry for each column."""
        raise NotImplementedError

    def expression_of(self, m: Node, args: Sequence[str]) -> str:
        found = expression(
            m.step.object.loop, [a.view.dtype for a in m.reads], m.write.view.dtype, args
        )
        assert found is not None
        return found


def _coordinates(
    t: _Text, index: str, prefix: str, axes: Sequence[tuple[int, Any]], kind: str
) -> list[str]:
    """Names of the coordinates of a linear index, written out."""
    if not axes:
        return []
    if len(axes) == 1:
        return [index]
    names = [f"{prefix}{k}" for k in range(len(axes))]
    left = index
    for k in range(len(axes) - 1, 0, -1):
        t.add(f"const {kind} {names[k]} = {left} % {axes[k][0]};")
        if k > 1:
            t.add(f"const {kind} {prefix}_{k} = {left} / {axes[k][0]};")
            left = f"{prefix}_{k}"
        else:
            t.add(f"const {kind} {names[0]} = {left} / {axes[k][0]};")
    return names


def _linear(names: Sequence[str], strides: Sequence[int]) -> str:
    """The text of an offset."""
    terms = [
        n if s == 1 else f"{n} * {s}" if s >= 0 else f"{n} * ({s})"
        for n, s in zip(names, strides, strict=True)
        if s
    ]
    return " + ".join(terms) or "0"


class _Entries(_Writer):
    """A thread an entry."""

    def kernel(self) -> Kernel:
        g, t = self.g, self.text
        reads, writes = self.externals(), [m.write for m in self.written]
        strides = [self.padded(a.strides) for a in (*reads, *writes)]
        axes = merged_axes(g.space, strides)
        kind = self.index_type()
        blocks = min(-(-g.size // THREADS), MOST_BLOCKS)
        t.open(
            f"for ({kind} i = blockIdx.x * ({kind}){THREADS} + threadIdx.x; i < {g.size}; "
            f"i += gridDim.x * ({kind}){THREADS})"
        )
        names = _coordinates(t, "i", "c", axes, kind)
        values: dict[Any, str] = {}
        for k, a in enumerate(reads):
            key = self.key(a)
            if key not in values:
                own = self.strides_in_entries(a.view, [axis[1][k] for axis in axes])
                values[key] = f"e{len(values)}"
                pointer = self.pointer(a.view, "r")
                t.add(
                    f"const {c_type(a.view.dtype)} {values[key]} = {pointer}[{_linear(names, own)}];"
                )
        for m in g.members:
            args = [self.value(a, values) for a in m.reads]
            t.add(
                f"const {c_type(m.write.view.dtype)} {self.names[m]} = {self.expression_of(m, args)};"
            )
        for k, m in enumerate(self.written, len(reads)):
            own = self.strides_in_entries(m.write.view, [axis[1][k] for axis in axes])
            once = math.prod(g.space[len(m.space) :])
            guard = f"if (i % {once} == 0) " if once > 1 else ""
            pointer = self.pointer(m.write.view, "w")
            t.add(f"{guard}{pointer}[{_linear(names, own)}] = {self.names[m]};")
        t.close()
        return self.finish(max(blocks, 1), THREADS, self.in_place())

    def key(self, a: Access) -> Any:
        return id(a.view.buffer), a.view.offset, a.view.dtype, self.padded(a.strides)

    def value(self, a: Access, values: dict[Any, str]) -> str:
        m = self.made.get(a.view.buffer)
        if m is not None:
            return self.names[m]
        return self.number(a) or values[self.key(a)]

    def in_place(self) -> list[tuple[int, int]]:
        """Writes that may take the memory of a read: entry by entry, and nobody reads it otherwise."""
        return _pairs(self, [m for m in self.written if m.space == self.g.space])


def _pairs(w: _Writer, written: Sequence[Node]) -> list[tuple[int, int]]:
    reads = w.externals()
    out = []
    for m in written:
        strides = w.padded(m.write.strides)
        for k, v in enumerate(w.reads):
            mine = [a for a in reads if a.view.buffer is v.buffer]
            same = all(
                w.padded(a.strides) == strides and a.view.offset == v.offset and a.view.dtype == v.dtype for a in mine
            )  # fmt: skip
            if mine and same and v.dtype.itemsize == m.write.view.dtype.itemsize:
                out.append((w.writes.index(m.write.view), k))
    return out


class _Rows(_Writer):
    """Reductions along columns and over rows."""

    def __init__(self, g: Group, outside: set[Buffer]) -> None:
        super().__init__(g, outside)
        self.over = g.over_rows or ()
        split = g.split
        if split is None:
            split = max(self.over) + 1
        self.split = split
        self.accesses = [*self.externals(), *(m.write for m in self.written)]
        self.place = {id(a): k for k, a in enumerate(self.accesses)}
        strides = [self.padded(a.strides) for a in self.accesses]

        def segment(axes: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
            return merged_axes([g.space[a] for a in axes], [[s[a] for a in axes] for s in strides])

        self.kept_axes = segment([a for a in range(split) if a not in self.over])
        self.fold_axes = segment([a for a in range(split) if a in self.over])
        self.col_axes = segment(range(split, self.rank))
        self.kept = math.prod(n for n, _ in self.kept_axes)
        self.folds = math.prod(n for n, _ in self.fold_axes)
        self.cols = math.prod(n for n, _ in self.col_axes)
        self.levels = self._levels()
        self.last = max(
            self.levels[m] for m in g.members if not self.is_row(m) or m.folded is not None
        )
        self.row_names: dict[Any, str] = {}
        self._geometry()

    # ------------------------------------------------------------------------------------------ what is what
    def is_row(self, m: Node) -> bool:
        if m.folded is not None:
            return m.trailing and m.folded != self.g.over_rows
        return len(m.space) < self.rank and len(m.space) <= self.split

    def over_rows(self, m: Node) -> bool:
        """Whether a node is a sum over rows."""
        return m.folded is not None and not self.is_row(m)

    def _levels(self) -> dict[Node, int]:
        """The phase in which the operands of a node exist; what is folded along columns exists one phase later."""
        levels: dict[Node, int] = {}
        for m in self.g.members:
            level = 0
            for a in m.reads:
                p = self.made.get(a.view.buffer)
                if p is not None:
                    along = p.folded is not None and self.is_row(p)
                    level = max(level, levels[p] + along)
            levels[m] = level
        return levels

    def _geometry(self) -> None:
        """Threads of a row, columns of a thread, and how rows and columns are shared among blocks."""
        along = [m for m in self.g.members if m.folded is not None and self.is_row(m)]
        rows_written = any(self.is_row(m) for m in self.written)
        self.tiles = self.parts = self.chunks = 1
        self.begin, self.end = "0", str(self.cols)
        rows = self.kept * self.folds
        short = 1 << max(0, (self.cols - 1).bit_length())
        if self.over and not along and not rows_written:
            self.lanes = min(short, 32)
            self.tiles = -(-self.cols // self.lanes)
        elif self.cols <= 256:
            self.lanes = min(short, 32)
        else:
            self.lanes = next(n for n in (128, 256, 512, 1024) if n == 1024 or self.cols <= 8 * n)
        if not self.over and self.last == 0 and self.cols > LONG and rows <= FEW:
            self.parts = -(-self.cols // PART)
            self.lanes = 256
        self.block = self.lanes if self.lanes > 32 else THREADS
        self.at_once = self.block // self.lanes
        width = -(-self.cols // self.parts) if self.parts > 1 else self.cols
        self.width = 1 if self.tiles > 1 else width
        self.items = 1 if self.tiles > 1 else -(-width // self.lanes)
        if self.over:
            each = self.at_once * FEWEST_ROWS
            blocks = max(1, ENOUGH_BLOCKS // (self.kept * self.tiles))
            chunks = max(1, min(blocks, -(-self.folds // each)))
            self.share = -(-self.folds // chunks)
            self.chunks = -(-self.folds // self.share)
            self.grid = self.kept * self.chunks * self.tiles
        else:
            self.grid = (
                rows * self.parts if self.parts > 1 else min(-(-rows // self.at_once), MOST_BLOCKS)
            )
        self.turns = self.parts == 1 and not self.over and self.grid * self.at_once < rows
        self.kind = self.index_type(rows * self.cols, self.grid)

    # ------------------------------------------------------------------------------------------ the text
    def kernel(self) -> Kernel:
        t, kind = self.text, self.kind
        self.kept_names = self._kept()
        t.add(
            f"const int lane = threadIdx.x % {self.lanes};"
            if self.at_once > 1
            else "const int lane = threadIdx.x;"
        )
        if self.at_once > 1:
            t.add(f"const int sub = threadIdx.x / {self.lanes};")
        if self.over:
            self._over_head()
        elif self.parts > 1:
            t.add(
                f"const {kind} row = blockIdx.x / {self.parts}, part = blockIdx.x % {self.parts};"
            )
            self.begin = f"part * ({kind}){PART}"
            t.add(
                f"const {kind} end = {self.cols} - {self.begin} < {PART} ? {self.cols} : {self.begin} + {PART};"
            )
            self.end = "end"
            self._row_coordinates("row")
            self._row()
        else:
            rows = self.kept
            step = f"gridDim.x * ({kind}){self.at_once}"
            t.open(
                f"for ({kind} first = blockIdx.x * ({kind}){self.at_once}; first < {rows}; first += {step})"
            )
            if self.at_once > 1:
                t.add(f"const bool live = first + sub < {rows};")
                t.add(f"const {kind} row = live ? first + sub : {rows - 1};")
            else:
                t.add(f"const {kind} row = first;")
            self._row_coordinates("row")
            self._row()
            if self.turns and self.lanes > 32:
                t.add("__syncthreads();")
            t.close()
        last = [
            m
            for m in self.written
            if not self.is_row(m) and m.folded is None and self.levels[m] == self.last
        ]
        inplace = [] if self.parts > 1 or self.tiles > 1 else _pairs(self, last)
        inplace = [p for p in inplace if self._by_entries(self.reads[p[1]])]
        return self.finish(self.grid, self.block, inplace)

    def _by_entries(self, v: View) -> bool:
        """Whether every access to memory has an entry for each row and column."""
        mine = [a for a in self.externals() if a.view.buffer is v.buffer]
        n = math.prod(
            m for m, s in zip(self.g.space, self.padded(mine[0].strides), strict=True) if s
        )
        return n == self.g.size

    @property
    def live(self) -> str:
        """The condition under which a lane's row is its own; empty: always."""
        return "live" if self.at_once > 1 else ""

    def _over_head(self) -> None:
        """A block's share of the rows, and what is done with what it has summed."""
        t, kind = self.text, self.kind
        sums = [m for m in self.g.members if self.over_rows(m)]
        left = "blockIdx.x"
        if self.tiles > 1:
            t.add(f"const {kind} tile = {left} % {self.tiles};")
            left = f"({left} / {self.tiles})"
        if self.chunks > 1:
            t.add(f"const {kind} chunk = {left} % {self.chunks};")
            left = f"({left} / {self.chunks})"
        t.add(f"const {kind} k = {left};")
        if self.tiles > 1:
            t.add(f"const {kind} column = tile * {self.lanes} + lane;")
            t.add(f"const bool inside = column < {self.cols};")
        for m in sums:
            acc = sum_type(m.step.object, [a.view.dtype for a in m.reads])
            t.add(f"{acc} a{self.names[m]}[{self.items}];")
            t.add(f"for (int j = 0; j < {self.items}; ++j) a{self.names[m]}[j] = {self._start(m)};")
        low, high = "0", str(self.folds)
        if self.chunks > 1:
            low = f"chunk * ({kind}){self.share}"
            t.add(
                f"const {kind} stop = {self.folds} - {low} < {self.share} ? {self.folds} : {low} + {self.share};"
            )
            high = "stop"
        t.open(f"for ({kind} first = {low}; first < {high}; first += {self.at_once})")
        if self.at_once > 1:
            t.add(f"const bool live = first + sub < {high};")
            t.add(f"const {kind} f = live ? first + sub : {high} - 1;")
        else:
            t.add(f"const {kind} f = first;")
        self._row_coordinates("k", "f")
        self._row()
        if self.lanes > 32 and self.last > 0:
            t.add("__syncthreads();")
        t.close()
        for m in sums:
            self._sum_of_subs(m)
        self._deliver(sums)

    def _start(self, m: Node) -> str:
        return start_of(m.step.object, [a.view.dtype for a in m.reads])

    def _sum_of_subs(self, m: Node) -> None:
        """Add what the rows that a block takes at once have, in their order; the first has the sum."""
        if self.at_once == 1:
            return
        t, what = self.text, m.step.object
        acc = sum_type(what, [a.view.dtype for a in m.reads])
        shared = f"sums{self.shared}"
        self.shared += 1
        t.add(f"__shared__ {acc} {shared}[{self.block}];")
        t.open(f"for (int j = 0; j < {self.items}; ++j)")
        if self.items > 1:
            t.add("__syncthreads();")
        t.add(f"{shared}[threadIdx.x] = a{self.names[m]}[j];")
        t.add("__syncthreads();")
        t.open("if (sub == 0)")
        value = f"a{self.names[m]}[j]"
        t.add(f"for (int r = 1; r < {self.at_once}; ++r)")
        t.add(f"    {value} = {combined(what, value, f'{shared}[r * {self.lanes} + lane]')};")
        t.close()
        t.close()

    def _columns(self, dynamic: bool = False) -> str:
        """Open a loop over the columns of a lane; the condition that one is inside, empty: it is."""
        t, kind = self.text, self.kind
        if self.tiles > 1:
            t.add(f"const {kind} c = inside ? column : {self.cols - 1};")
            t.open("")
            t.lines[-1] = t.lines[-1].replace(" {", "{")
            t.add("const int j = 0;")
            return "inside"
        if self.items <= MOST_ITEMS and self.parts == 1 and not dynamic:
            t.add("#pragma unroll")
            t.open(f"for (int j = 0; j < {self.items}; ++j)")
            t.add(f"const {kind} c = lane + j * {self.lanes};")
            if self.cols % self.lanes:
                t.open(f"if (c < {self.cols})")
                self._extra = True
            return ""
        t.add("int j = 0;") if self.over else None
        t.open(
            f"for ({kind} c = {self.begin} + lane; c < {self.end}; c += {self.lanes}{', ++j' if self.over else ''})"
        )
        return ""

    def _row_coordinates(self, kept: str, fold: str = "") -> None:
        """Offsets of the row in every access."""
        t, kind = self.text, self.kind
        names = _coordinates(t, kept, "k", self.kept_axes, kind)
        more = _coordinates(t, fold, "f", self.fold_axes, kind) if fold else []
        self.row_offsets = []
        for n, a in enumerate(self.accesses):
            own = [axis[1][n] for axis in (*self.kept_axes, *self.fold_axes)]
            self.row_offsets.append(_linear([*names, *more], self.strides_in_entries(a.view, own)))

    def _row(self) -> None:
        """Everything of one row: phases, values of the row, what is written."""
        t = self.text
        self.row_names = {}
        self._row_values(0)
        for phase in range(self.last + 1):
            self._phase(phase)
            along = [
                m
                for m in self.g.members
                if m.folded is not None and self.is_row(m) and self.levels[m] == phase
            ]
            for m in along:
                self._reduce(f"a{self.names[m]}", m)
            if self.parts > 1:
                self._join_parts(along)
            for m in along:
                kind = c_type(m.write.view.dtype)
                t.add(f"const {kind} {self.names[m]} = ({kind})a{self.names[m]};")
            self._row_values(phase + 1)
        mine = [m for m in self.written if self.is_row(m)]
        if mine:
            condition = " && ".join(x for x in ("lane == 0", self.live) if x)
            t.open(f"if ({condition})")
            for m in mine:
                offset = self.row_offsets[self.place[id(m.write)]]
                t.add(f"{self.pointer(m.write.view, 'w')}[{offset}] = {self.names[m]};")
            t.close()

    def _row_values(self, level: int) -> None:
        """Values of the row that can be computed now."""
        for m in self.g.members:
            if self.is_row(m) and m.folded is None and self.levels[m] == level:
                args = [self._row_operand(a) for a in m.reads]
                kind = c_type(m.write.view.dtype)
                self.text.add(f"const {kind} {self.names[m]} = {self.expression_of(m, args)};")

    def _row_operand(self, a: Access) -> str:
        m = self.made.get(a.view.buffer)
        if m is not None:
            return self.names[m]
        return self.number(a) or self._row_load(a)

    def _row_load(self, a: Access) -> str:
        """A value of the row from memory, fetched once."""
        key = id(a.view.buffer), a.view.offset, a.view.dtype, self.padded(a.strides)
        if key not in self.row_names:
            name = self.row_names[key] = f"x{len(self.row_names)}"
            offset = self.row_offsets[self.place[id(a)]]
            self.text.add(
                f"const {c_type(a.view.dtype)} {name} = {self.pointer(a.view, 'r')}[{offset}];"
            )
        return self.row_names[key]

    # ------------------------------------------------------------------------------------------ phases
    def _block_nodes(self, phase: int) -> list[Node]:
        """Operations on blocks that a phase needs, in order: for its folds, its results and what it keeps."""
        need: set[Node] = set()
        for m in reversed(self.g.members):
            if self.is_row(m) and m.folded is None:
                continue
            fold = m.folded is not None
            here = self.levels[m] == phase and (fold or m in self.written or m in self.kept_names)
            if not here and m not in need:
                continue
            if not fold:
                need.add(m)
            for a in m.reads:
                p = self.made.get(a.view.buffer)
                if p is None or self.is_row(p):
                    continue
                if not (self.levels[p] < phase and (p in self.kept_names or p in self.written)):
                    need.add(p)
        return [m for m in self.g.members if m in need]

    def _kept(self) -> dict[Node, str]:
        """Block values that later phases find in registers."""
        if self.last == 0 or self.items > MOST_ITEMS or self.tiles > 1:
            return {}
        kept: dict[Node, str] = {}
        for m in self.g.members:
            for a in m.reads:
                p = self.made.get(a.view.buffer)
                if p is None or self.is_row(p) or p in self.written:
                    continue
                first = self.levels[p]
                reader = self.levels[m]
                if reader > first:
                    kept[p] = f"q{self.names[p]}"
        words = sum(self.items * -(-m.write.view.dtype.itemsize // 4) for m in kept)
        return kept if words <= KEPT_WORDS else {}

    def _phase(self, phase: int) -> None:
        t = self.text
        nodes = self._block_nodes(phase)
        folds = [m for m in self.g.members if m.folded is not None and self.levels[m] == phase]
        along = [m for m in folds if self.is_row(m)]
        for m in along:
            acc = sum_type(m.step.object, [a.view.dtype for a in m.reads])
            t.add(f"{acc} a{self.names[m]} = {self._start(m)};")
        for m, name in self.kept_names.items():
            if self.levels[m] == phase:
                t.add(f"{c_type(m.write.view.dtype)} {name}[{self.items}];")
        stores = [
            m
            for m in self.written
            if not self.is_row(m) and m.folded is None and self.levels[m] == phase
        ]
        if not nodes and not folds:
            return
        for m in (*nodes, *folds):  # what is the same along the row is fetched before
            for a in m.reads:
                if a.view.buffer not in self.made and self.number(a) is None and self._of_row(a):
                    self._row_load(a)
        self._extra = False
        inside = self._columns()
        names = _coordinates(t, "c", "c", self.col_axes, self.kind)
        values: dict[Any, str] = {}
        for m in nodes:
            args = [self._operand(a, phase, values, names) for a in m.reads]
            t.add(
                f"const {c_type(m.write.view.dtype)} {self.names[m]} = {self.expression_of(m, args)};"
            )
        for m, name in self.kept_names.items():
            if self.levels[m] == phase:
                t.add(f"{name}[j] = {self.names[m]};")
        for m in folds:
            args = [self._operand(a, phase, values, names) for a in m.reads]
            if self.is_row(m):
                acc = f"a{self.names[m]}"
                t.add(f"{acc} = {folded(m.step.object, acc, args)};")
            else:
                acc = f"a{self.names[m]}[j]"
                condition = " && ".join(x for x in (self.live, inside) if x)
                guard = f"if ({condition}) " if condition else ""
                t.add(f"{guard}{acc} = {folded(m.step.object, acc, args)};")
        for m in stores:
            condition = " && ".join(x for x in (self.live, inside) if x)
            guard = f"if ({condition}) " if condition else ""
            t.add(
                f"{guard}{self.pointer(m.write.view, 'w')}[{self._offset(m.write, names)}] = {self.names[m]};"
            )
        t.close()
        if self._extra:
            t.close()

    def _of_row(self, a: Access) -> bool:
        """Whether memory has one entry for all columns."""
        return not any(self.padded(a.strides)[self.split :])

    def _offset(self, a: Access, names: Sequence[str]) -> str:
        n = self.place[id(a)]
        own = self.strides_in_entries(a.view, [axis[1][n] for axis in self.col_axes])
        row, col = self.row_offsets[n], _linear(names, own)
        return row if col == "0" else col if row == "0" else f"{row} + {col}"

    def _operand(self, a: Access, phase: int, values: dict[Any, str], names: Sequence[str]) -> str:
        m = self.made.get(a.view.buffer)
        if m is None:
            number = self.number(a)
            if number is not None:
                return number
            if self._of_row(a):
                return self._row_load(a)
            key = id(a.view.buffer), a.view.offset, a.view.dtype, self.padded(a.strides)
            if key not in values:
                values[key] = f"e{len(values)}"
                self.text.add(
                    f"const {c_type(a.view.dtype)} {values[key]} = "
                    f"{self.pointer(a.view, 'r')}[{self._offset(a, names)}];"
                )
            return values[key]
        if not self.is_row(m) and self.levels[m] < phase:
            if m in self.kept_names:
                return f"{self.kept_names[m]}[j]"
            if m in self.written:
                return f"{self.pointer(m.write.view, 'w')}[{self._offset(m.write, names)}]"
        return self.names[m]

    # ------------------------------------------------------------------------------------------ among threads
    def _reduce(self, acc: str, m: Node) -> None:
        """Give every lane of a row the fold of all of them, with the same bits."""
        t, what = self.text, m.step.object
        lanes = min(self.lanes, 32)
        by = lanes // 2
        while by:
            other = f"__shfl_xor_sync(0xffffffffu, {acc}, {by}, {lanes})"
            t.add(f"{{ const auto other = {other}; {acc} = {combined(what, acc, 'other')}; }}")
            by //= 2
        if self.lanes <= 32:
            return
        kind = sum_type(what, [a.view.dtype for a in m.reads])
        warps, shared = self.lanes // 32, f"warps{self.shared}"
        self.shared += 1
        t.add(f"__shared__ {kind} {shared}[{warps}];")
        t.add(f"if (threadIdx.x % 32 == 0) {shared}[threadIdx.x / 32] = {acc};")
        t.add("__syncthreads();")
        t.add(f"{acc} = {shared}[0];")
        t.add(f"for (int w = 1; w < {warps}; ++w) {acc} = {combined(what, acc, f'{shared}[w]')};")

    def _finishing(self, ticket: str, blocks: int) -> None:
        """Go on only in the block that finishes last of those that share a ticket."""
        t = self.text
        t.add("__shared__ bool last;")
        t.add("__threadfence();")
        t.add("__syncthreads();")
        t.open("if (threadIdx.x == 0)")
        t.add(f"last = atomicAdd(&tickets[{ticket}], 1u) == {blocks - 1}u;")
        t.add(f"if (last) tickets[{ticket}] = 0u;")
        t.close()
        t.add("__syncthreads();")
        t.add("if (!last) return;")
        t.add("__threadfence();")

    def _partial(self, m: Node, entries: int) -> str:
        """Memory for what blocks have summed."""
        kind = sum_type(m.step.object, [a.view.dtype for a in m.reads])
        dtype = np.dtype(np.float64) if kind == "double" else m.reads[0].view.dtype
        nbytes = entries * dtype.itemsize
        return self.pointer(View(Buffer(nbytes), 0, (entries,), (dtype.itemsize,), dtype), "s")

    def _join_parts(self, along: Sequence[Node]) -> None:
        """Add the parts of a row, in the block that finishes last."""
        t = self.text
        self.ticket_count = self.kept
        partials = []
        for m in along:
            partial = self._partial(m, self.kept * self.parts)
            partials.append(partial)
            t.add(f"if (lane == 0) {partial}[row * {self.parts} + part] = a{self.names[m]};")
        self._finishing("row", self.parts)
        for m, partial in zip(along, partials, strict=True):
            acc, what = f"a{self.names[m]}", m.step.object
            kind = sum_type(what, [a.view.dtype for a in m.reads])
            t.add(f"{acc} = {self._start(m)};")
            t.add(f"for (int p = lane; p < {self.parts}; p += {self.lanes})")
            t.add(
                f"    {acc} = {combined(what, acc, f'((const volatile {kind} *){partial})[row * {self.parts} + p]')};"
            )
        for m in along:
            self._reduce(f"a{self.names[m]}", m)

    def _deliver(self, sums: Sequence[Node]) -> None:
        """Write the sums over rows; of several blocks, the one that finishes last adds them in their order."""
        t, kind = self.text, self.kind
        mine = " && ".join(x for x in ("sub == 0" if self.at_once > 1 else "",) if x)
        partials: dict[Node, str] = {}
        if self.chunks > 1:
            self.ticket_count = self.kept * self.tiles
            for m in sums:
                partials[m] = self._partial(m, self.kept * self.chunks * self.cols)
            self._each_column(
                mine,
                [
                    f"{partials[m]}[(k * {self.chunks} + chunk) * ({kind}){self.cols} + c] = a{self.names[m]}[j];"
                    for m in sums
                ],
            )
            self._finishing(f"k * {self.tiles} + tile" if self.tiles > 1 else "k", self.chunks)
        lines: list[str] = []
        names = _coordinates(_Text(), "k", "k", self.kept_axes, kind)
        for m in sums:
            what = m.step.object
            acc = sum_type(what, [a.view.dtype for a in m.reads])
            value = f"a{self.names[m]}[j]"
            if self.chunks > 1:
                at = f"((const volatile {acc} *){partials[m]})[(k * {self.chunks} + b) * ({kind}){self.cols} + c]"
                lines.append(f"{acc} total{self.names[m]} = {self._start(m)};")
                value = f"total{self.names[m]}"
                lines.append(
                    f"for (int b = 0; b < {self.chunks}; ++b) {value} = {combined(what, value, at)};"
                )
            n = self.place[id(m.write)]
            own = [axis[1][n] for axis in self.kept_axes]
            row = _linear(names, self.strides_in_entries(m.write.view, own))
            lines.append((m, row, value))  # type: ignore[arg-type]
        if len(self.kept_axes) > 1:
            _coordinates(t, "k", "k", self.kept_axes, kind)
        self._each_column(mine, lines)

    def _each_column(self, mine: str, lines: Sequence[Any]) -> None:
        """Do something for each column of the block's first row."""
        t, kind = self.text, self.kind
        if self.tiles > 1:
            condition = " && ".join(x for x in (mine, "inside") if x)
            t.open(f"if ({condition})")
            t.add(f"const {kind} c = column;")
            t.add("const int j = 0;")
        else:
            if mine:
                t.open(f"if ({mine})")
            t.open(f"for (int j = 0; j < {self.items}; ++j)")
            t.add(f"const {kind} c = lane + j * {self.lanes};")
            t.add(f"if (c >= {self.cols}) break;")
        names = _coordinates(t, "c", "c", self.col_axes, kind)
        for line in lines:
            if isinstance(line, str):
                t.add(line)
                continue
            m, row, value = line
            n = self.place[id(m.write)]
            own = self.strides_in_entries(m.write.view, [axis[1][n] for axis in self.col_axes])
            col = _linear(names, own)
            at = row if col == "0" else col if row == "0" else f"{row} + {col}"
            t.add(
                f"{self.pointer(m.write.view, 'w')}[{at}] = ({c_type(m.write.view.dtype)}){value};"
            )
        t.close()
        if self.tiles == 1 and mine:
            t.close()
