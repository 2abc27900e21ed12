"""A kernel without reductions: a thread an entry."""

from __future__ import annotations

import math
from typing import Any

from nnmath_core.program.builder import merged_axes
from nnmath_core.program.cuda import writer
from nnmath_core.program.cuda.expressions import c_type
from nnmath_core.program.cuda.writer import THREADS, Kernel, Writer, coordinates, in_place, linear
from nnmath_core.program.fuse import Access

__all__ = ["Entries"]


class Entries(Writer):
    """A thread an entry."""

    def kernel(self) -> Kernel:
        """Write the kernel."""
        g, t = self.g, self.text
        reads, writes = self.externals(), [m.write for m in self.written]
        strides = [self.padded(a.strides) for a in (*reads, *writes)]
        axes = merged_axes(g.space, strides)
        kind = self.index_type()
        blocks = min(-(-g.size // THREADS), writer.MOST_BLOCKS)
        t.open(
            f"for ({kind} i = blockIdx.x * ({kind}){THREADS} + threadIdx.x; i < {g.size}; "
            f"i += gridDim.x * ({kind}){THREADS})"
        )
        names = coordinates(t, "i", "c", axes, kind)
        values: dict[Any, str] = {}
        for k, a in enumerate(reads):
            key = self.key(a)
            if key not in values:
                own = self.strides_in_entries(a.view, [axis[1][k] for axis in axes])
                values[key] = f"e{len(values)}"
                pointer = self.pointer(a.view, "r")
                t.add(
                    f"const {c_type(a.view.dtype)} {values[key]} = {pointer}[{linear(names, own)}];"
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
            t.add(f"{guard}{pointer}[{linear(names, own)}] = {self.names[m]};")
        t.close()
        return self.finish(max(blocks, 1), THREADS, self.entry_by_entry())

    def key(self, a: Access) -> Any:
        """What tells the memory of an access from that of others."""
        return id(a.view.buffer), a.view.offset, a.view.dtype, self.padded(a.strides)

    def value(self, a: Access, values: dict[Any, str]) -> str:
        """The name or the text of an operand."""
        m = self.made.get(a.view.buffer)
        if m is not None:
            return self.names[m]
        return self.number(a) or values[self.key(a)]

    def entry_by_entry(self) -> list[tuple[int, int]]:
        """Writes that may take the memory of a read: entry by entry, and nobody reads it otherwise."""
        return in_place(self, [m for m in self.written if m.space == self.g.space])
