"""A kernel with reductions along the columns of rows, over rows, or both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nnmath_core.program.builder import Buffer, View, merged_axes
from nnmath_core.program.cuda import writer
from nnmath_core.program.cuda.expressions import c_type, combined, folded, sum_type
from nnmath_core.program.cuda.sums import Sums
from nnmath_core.program.cuda.writer import THREADS, Kernel, coordinates, in_place, linear
from nnmath_core.program.fuse import Access, Group, Node

__all__ = ["Rows"]

MOST_ITEMS = 16
"""Columns of a thread that are written out, so that they stay in registers."""
KEPT_WORDS = 64
"""Registers of 32 bits that block values may take from one phase to the next."""
ENOUGH_BLOCKS = 256
"""Blocks among which the rows of a sum are divided: enough for the multiprocessors of any device."""
FEWEST_ROWS = 4
"""Rows that are worth a block, of those that its lanes take at once."""
LONG, FEW, PART = 1 << 14, 128, 1 << 13
"""Columns from which, and rows up to which, a row is cut into parts of so many columns."""


class Rows(Sums):
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
        """Whether the value of a node is one of a row."""
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
                rows * self.parts
                if self.parts > 1
                else min(-(-rows // self.at_once), writer.MOST_BLOCKS)
            )
        self.turns = self.parts == 1 and not self.over and self.grid * self.at_once < rows
        self.kind = self.index_type(rows * self.cols, self.grid)

    # ------------------------------------------------------------------------------------------ the text
    def kernel(self) -> Kernel:
        """Write the kernel."""
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
        inplace = [] if self.parts > 1 or self.tiles > 1 else in_place(self, last)
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
        names = coordinates(t, kept, "k", self.kept_axes, kind)
        more = coordinates(t, fold, "f", self.fold_axes, kind) if fold else []
        self.row_offsets = []
        for n, a in enumerate(self.accesses):
            own = [axis[1][n] for axis in (*self.kept_axes, *self.fold_axes)]
            self.row_offsets.append(linear([*names, *more], self.strides_in_entries(a.view, own)))

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
        names = coordinates(t, "c", "c", self.col_axes, self.kind)
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
        row, col = self.row_offsets[n], linear(names, own)
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
