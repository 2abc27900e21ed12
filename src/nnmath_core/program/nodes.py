"""What the machine executes, before it is grouped: elementwise operations and reductions as steps of a Builder.

Lowering rules emit nodes; `program.fuse` gathers them into groups and `program.machine` writes the micro-program of
each.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Fold", "Loop", "Map", "Reduction"]


@dataclass(frozen=True, slots=True)
class Loop:
    """An inner loop: its name, its address and that of its data, and about how many plain operations an entry costs.

    ``dtype`` is the letter of the type that it computes in, where that says what it does.
    """

    name: str
    address: int
    data: int = 0
    cost: float = 1.0
    dtype: str = ""


@dataclass(frozen=True, slots=True)
class Map:
    """One loop over the entries: reads broadcast to the shape of the result."""

    loop: Loop


@dataclass(frozen=True, slots=True)
class Fold:
    """How a block of entries goes into an accumulator.

    ``step`` has the arguments (accumulator, entries, accumulator) of a ufunc that reduces or, ``two``, (entries,
    accumulator). The accumulator begins as ``start`` and, with ``finish``, is turned into an entry at the end.
    """

    step: Loop
    start: bytes
    two: bool = False
    finish: Loop | None = None


@dataclass(frozen=True, slots=True)
class Reduction:
    """A fold over some axes of the operand: along columns by ``row``, over rows entry by entry by ``column``.

    With two operands it is their product that is folded.
    """

    name: str
    axes: tuple[int, ...]
    row: Fold
    column: Fold
