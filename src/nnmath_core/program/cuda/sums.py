"""What several blocks sum together: shares of the rows, parts of a long row, and the block that finishes last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnmath_core.program.builder import Buffer, View
from nnmath_core.program.cuda.expressions import c_type, combined, start_of, sum_type
from nnmath_core.program.cuda.writer import Text, Writer, coordinates, linear
from nnmath_core.program.fuse import Node

__all__ = ["Sums"]


class Sums(Writer):
    """The part of `rows.Rows` that is about blocks: what it works with is settled there."""

    kind: str
    """The type of indices."""
    kept: int
    folds: int
    cols: int
    """Rows that are kept, rows that are summed, columns."""
    kept_axes: list[tuple[int, tuple[int, ...]]]
    col_axes: list[tuple[int, tuple[int, ...]]]
    place: dict[int, int]
    """Of an access, by its id: the number of its strides in the axes."""
    last: int
    """The last phase."""
    lanes: int
    block: int
    at_once: int
    items: int
    """Threads of a row and of a block, rows that a block takes at once, columns of a thread."""
    tiles: int
    parts: int
    chunks: int
    share: int
    """Blocks side by side, parts of a row, blocks one below the other, and the rows of each."""

    def over_rows(self, m: Node) -> bool:
        """Whether a node is a sum over rows."""
        raise NotImplementedError

    def _row(self) -> None:
        raise NotImplementedError

    def _row_coordinates(self, kept: str, fold: str = "") -> None:
        raise NotImplementedError

    def _reduce(self, acc: str, m: Node) -> None:
        raise NotImplementedError

    def _start(self, m: Node) -> str:
        return start_of(m.step.object, [a.view.dtype for a in m.reads])

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
        names = coordinates(Text(), "k", "k", self.kept_axes, kind)
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
            row = linear(names, self.strides_in_entries(m.write.view, own))
            lines.append((m, row, value))  # type: ignore[arg-type]
        if len(self.kept_axes) > 1:
            coordinates(t, "k", "k", self.kept_axes, kind)
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
        names = coordinates(t, "c", "c", self.col_axes, kind)
        for line in lines:
            if isinstance(line, str):
                t.add(line)
                continue
            m, row, value = line
            n = self.place[id(m.write)]
            own = self.strides_in_entries(m.write.view, [axis[1][n] for axis in self.col_axes])
            col = linear(names, own)
            at = row if col == "0" else col if row == "0" else f"{row} + {col}"
            t.add(
                f"{self.pointer(m.write.view, 'w')}[{at}] = ({c_type(m.write.view.dtype)}){value};"
            )
        t.close()
        if self.tiles == 1 and mine:
            t.close()
