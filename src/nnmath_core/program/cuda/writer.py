"""What the kernels of all forms share: their text, parameters, accesses, and values by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nnmath_core.program.builder import Buffer, View
from nnmath_core.program.cuda.expressions import c_type, computes, expression, literal
from nnmath_core.program.fuse import Access, Group, Node

__all__ = [
    "MOST_BLOCKS",
    "NARROW",
    "THREADS",
    "Kernel",
    "Text",
    "Writer",
    "coordinates",
    "in_place",
    "linear",
]

THREADS = 256
"""Of a block, unless a row is longer."""
MOST_BLOCKS = 1 << 16
"""Of a grid; beyond, blocks take several turns."""
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


class Text:
    """Lines with indentation."""

    def __init__(self, depth: int = 1) -> None:
        self.lines: list[str] = []
        self.depth = depth

    def add(self, line: str) -> None:
        """Write a line."""
        self.lines.append("    " * self.depth + line)

    def open(self, line: str) -> None:
        """Write a line that opens a block."""
        self.add(line + " {")
        self.depth += 1

    def close(self) -> None:
        """Close the block."""
        self.depth -= 1
        self.add("}")

    def __str__(self) -> str:
        return "\n".join(self.lines)


class Writer:
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
        self.text = Text()
        self.shared = 0

    # ------------------------------------------------------------------------------------------ operands
    def padded(self, strides: tuple[int, ...]) -> tuple[int, ...]:
        """Strides over all axes: 0 along those that an access has not."""
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
        """The parameter for a Python number."""
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
        """Strides as indices of a typed pointer take them."""
        size = v.dtype.itemsize
        assert not any(s % size for s in strides)
        return [s // size for s in strides]

    def index_type(self, *extents: int) -> str:
        """The type of indices, wide enough for all offsets and for these lengths."""
        spans = [
            sum(abs(s) * (n - 1) for s, n in zip(self.padded(a.strides), self.g.space, strict=True))
            for a in (*self.externals(), *(m.write for m in self.written))
        ]
        return "int" if max((*spans, *extents, self.g.size), default=0) < NARROW else "long long"

    # ------------------------------------------------------------------------------------------ the whole
    def name(self) -> str:
        """A name that says what the kernel does, as profilers show it."""
        words = "_".join(dict.fromkeys(m.step.note for m in self.g.members))
        return "fused_" + re.sub(r"\W+", "_", words)[:48].strip("_")

    def finish(self, grid: int, block: int, inplace: list[tuple[int, int]]) -> Kernel:
        """The kernel with its parameters."""
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
        """The text of what a node computes."""
        found = expression(
            m.step.object.loop, [a.view.dtype for a in m.reads], m.write.view.dtype, args
        )
        assert found is not None
        return found


def coordinates(
    t: Text, index: str, prefix: str, axes: Sequence[tuple[int, Any]], kind: str
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


def linear(names: Sequence[str], strides: Sequence[int]) -> str:
    """The text of an offset."""
    terms = [
        n if s == 1 else f"{n} * {s}" if s >= 0 else f"{n} * ({s})"
        for n, s in zip(names, strides, strict=True)
        if s
    ]
    return " + ".join(terms) or "0"


def in_place(w: Writer, written: Sequence[Node]) -> list[tuple[int, int]]:
    """Pairs (write, read) of results that may take the memory of an operand, which nobody reads otherwise."""
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
