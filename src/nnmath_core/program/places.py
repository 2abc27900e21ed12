"""Registers of a micro-program while it is written: where its values are, and what is known of that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnmath_core.program.builder import View
from nnmath_core.program.native import Operation

__all__ = ["Fixed", "Known", "Moving", "Phase", "Place", "allocate"]


FAR = 1 << 21
"""Bytes of an array that does not stay in the second cache."""


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
    """What is known of places (`native.Facts`): of the group's operands, its outputs, and what it reads."""

    def __init__(self, reads: list[View], writes: list[View], read: Iterable[Any]) -> None:
        self._reads, self._writes = reads, writes
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

    def far(self, place: Place) -> bool:
        """Whether a place lies in memory that is more than the second cache holds."""
        if not isinstance(place, Moving) or place.own:
            return False
        view = self._writes[place.ref] if place.ref >= 0 else self._reads[-1 - place.ref]
        return view.nbytes >= FAR

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
