"""Registers of a micro-program while it is written: where its values are, and what is known of that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnmath_core.program.builder import View
from nnmath_core.program.native import Operation

__all__ = [
    "Fixed",
    "Known",
    "Moving",
    "Phase",
    "Place",
    "ahead",
    "allocate",
    "batch",
    "encoded",
    "in_place",
]


FAR = 1 << 21
"""Bytes of an array that does not stay in the second cache."""
BATCH_BYTES = 1 << 19
"""What the rows of a batch may take in the second-level cache."""
LARGEST_BATCH = 64
AHEAD = 2048
"""Bytes between what is worked on and what memory is asked for."""


@dataclass(eq=False, slots=True)
class Place:
    """A register: a view that moves, or a fixed place in the scratch of the thread."""

    number: int = -1
    stride: int = 0
    """Of a column, in bytes."""


@dataclass(eq=False)
class Moving(Place):
    """A view: of an output (``ref`` counts them), of an operand (-1 - its number), or ``own``, of the scratch."""

    ref: int = 0
    offset: int = 0
    own: bool = False
    group: int = 0
    axes: tuple[int, ...] = ()


@dataclass(eq=False)
class Fixed(Place):
    """A block of entries, or a value for each row of a batch."""

    nbytes: int = 16
    """Of one entry."""
    block: bool = False


@dataclass(eq=False, slots=True)
class Phase:
    """Operations on blocks, then on one entry of a row."""

    block: list[Operation] = field(default_factory=list)
    row: list[Operation] = field(default_factory=list)
    order: list[Operation] = field(default_factory=list)
    """Of block operations, before some were joined."""


class Known:
    """What is known of places (`native.Facts`): of the group's operands, its outputs, and what it reads.

    ``ahead``: bytes ahead that memory is asked for some of them, in place of a few lines.
    """

    def __init__(
        self, reads: list[View], writes: list[View], read: Iterable[Any], ahead: dict[Place, int]
    ) -> None:
        self._reads, self._writes, self._ahead = reads, writes, ahead
        self._read = set(read)

    def internal(self, place: Place) -> bool:
        """Whether a place is read in one phase alone."""
        return isinstance(place, Fixed) and place.block

    def number(self, place: Place) -> float | None:
        """The value of a place that is a constant number."""
        array = self._array(place)
        if array is None or array.size != 1 or array.dtype.kind != "f":
            return None
        return float(array.reshape(-1)[0])

    def ramp(self, place: Place) -> bool:
        """Whether a place holds consecutive integers, one for each column."""
        array = self._array(place)
        if array is None or array.dtype != np.int64 or array.ndim != 1 or place.stride != 8:
            return False
        return bool((np.diff(array) == 1).all())

    def past(self, place: Place) -> bool:
        """Whether a place is a large result that nobody reads here."""
        if not isinstance(place, Moving) or place.ref < 0 or place.own:
            return False
        buffer = self._writes[place.ref].buffer
        return buffer.past and buffer not in self._read

    def far(self, place: Place) -> int:
        """How many bytes ahead memory is asked for what a place holds, 0 where that is in the second cache."""
        if not isinstance(place, Moving) or place.own:
            return 0
        view = self._writes[place.ref] if place.ref >= 0 else self._reads[-1 - place.ref]
        return self._ahead.get(place, AHEAD) if view.nbytes >= FAR else 0

    def _array(self, place: Place) -> Any:
        """The array behind a place, where it is a constant that nobody changes and is read as it is."""
        if not isinstance(place, Moving) or place.ref >= 0 or place.own:
            return None
        view = self._reads[-1 - place.ref]
        array = view.buffer.array
        if view.buffer.kind != "constant" or array.flags.writeable or view.dtype != array.dtype:
            return None
        return array


def allocate(operations: list[Operation], blocks: list[Fixed]) -> None:
    """Give block values of a phase their places: what is read last makes room; new ones join ``blocks``."""
    last: dict[Place, int] = {}
    for i, op in enumerate(operations):
        for p in op.args:
            last[p] = i
    free: dict[int, list[Fixed]] = {}
    real: dict[Place, Fixed] = {}
    for i, op in enumerate(operations):
        read, made = op.args[: -op.outputs], op.args[-op.outputs :]
        done = [
            real[p]
            for p in dict.fromkeys(read)
            if isinstance(p, Fixed) and p.block and last[p] == i and p in real
        ]
        if op.outputs == 1:  # of several, one may be written before another operand is read
            for place in done:
                free.setdefault(place.nbytes, []).append(place)
            done = []
        for out in made:
            if isinstance(out, Fixed) and out.block and out not in real:
                pool = free.get(out.nbytes)
                if pool:
                    real[out] = pool.pop()
                else:
                    real[out] = Fixed(nbytes=out.nbytes, block=True, stride=out.nbytes)
                    blocks.append(real[out])
                if last[out] == i:
                    done.append(real[out])
        for place in done:
            free.setdefault(place.nbytes, []).append(place)
    for op in operations:
        op.args = [real.get(p, p) for p in op.args]


def ahead(
    views: Iterable[Moving], phases: Sequence[Phase], cols: int, batch: int
) -> list[dict[Place, int]]:
    """How far ahead each phase asks memory for what a phase before it has read or written: for nothing.

    But the one that computes most asks for the rows of the next batch, of operands.
    """
    out: list[dict[Place, int]] = [{} for _ in phases]
    work = [sum(op.loop.cost for op in p.block) for p in phases]
    for place in views:
        using = [k for k, p in enumerate(phases) if any(place in op.args for op in p.block)]
        row = cols * place.stride
        if place.own or len(using) < 2 or not place.axes or place.axes[-1] != row:
            continue
        most = max(using[1:], key=lambda k: work[k])
        for k in using[1:]:
            out[k][place] = batch * row if k == most and place.ref < 0 else 0
    return out


def in_place(
    views: Sequence[Moving],
    operations: Sequence[Operation],
    reads: Sequence[View],
    writes: Sequence[View],
) -> list[tuple[int, int]]:
    """Outputs that may take the memory of an operand: entry by entry, written after the last read."""
    place: dict[Place, int] = {p: k for k, p in enumerate(views)}
    read: dict[int, int] = {}
    write: dict[int, int] = {}
    for i, op in enumerate(operations):
        for p in op.args[:-1]:
            if p in place:
                read[place[p]] = i
        if op.args[-1] in place:
            write.setdefault(place[op.args[-1]], i)
    pairs = []
    for w, i in write.items():
        for r, j in read.items():
            a, c = views[w], views[r]
            if (
                a.ref >= 0 > c.ref and j <= i and a.axes == c.axes and a.stride == c.stride != 0
                and writes[a.ref].dtype.itemsize == reads[-1 - c.ref].dtype.itemsize
            ):  # fmt: skip
                pairs.append((a.ref, -1 - c.ref))
    return pairs


def encoded(
    views: Sequence[Moving], fixed: Sequence[int], phases: Sequence[Phase], reads: int
) -> list[int]:
    """Views, other places and phases, all numbered, as `machine.c` reads them behind its header."""
    ints: list[int] = []
    for v in views:
        ref = v.ref + reads if v.ref >= 0 else -1 - v.ref
        ints += [0 if v.own else ref, v.offset, int(v.own), v.stride, v.group, *v.axes]
    ints += fixed
    for p in phases:
        used = dict.fromkeys(a for op in p.block for a in op.args)
        moving = [a.number for a in used if isinstance(a, Moving)]
        of_rows = [a.number for a in used if isinstance(a, Fixed) and not a.block]
        ints += [len(p.block), len(p.row), len(moving), len(of_rows), *moving, *of_rows]
        for op in (*p.block, *p.row):
            ints += [op.loop.address, op.loop.data, len(op.args)]
            for a, s in zip(op.args, op.strides, strict=True):
                ints += [a.number, s]
    return ints


def batch(
    phases: Sequence[Phase],
    row_space: Sequence[int],
    views: tuple[Sequence[View], Sequence[View]],
    nbytes: int,
) -> int:
    """How many rows of so many bytes are worked on together: operations on their values are done for all at once.

    ``views``: what is read, and what is written.
    """
    reads, writes = views
    if not row_space:
        return 1
    for op in (op for p in phases for op in p.row):
        for k, a in enumerate(op.args):
            if not isinstance(a, Moving):
                continue
            itemsize = (writes[a.ref] if a.ref >= 0 else reads[-1 - a.ref]).dtype.itemsize
            written = k >= len(op.args) - op.outputs
            if a.axes[-1] != itemsize and (written or a.axes[-1]):
                return 1
    return max(1, min(LARGEST_BATCH, BATCH_BYTES // max(nbytes, 1), int(row_space[-1])))
