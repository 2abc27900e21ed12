"""Pieces of an array that are made where they lie in it, so that a concatenation of concatenations moves nothing twice.

`place` writes the pieces of an array, each by rows. A piece that covers whole rows of the first axis lies in one part
of the array: who moved data into the piece can move it there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from nnmath_core.program.builder import Buffer, Step, View

__all__ = ["made_in_place"]

MOVES = ("copy", "place")
"""What writes one array, wherever it lies, and reads it not."""


def made_in_place(steps: Sequence[Step]) -> list[Step]:
    """The steps without the pieces of a `place` that a step before it can write there."""
    if not any(s.kind == "place" for s in steps):
        return list(steps)
    touched = Counter(
        v.buffer
        for s in steps
        for v in (*s.reads, *s.writes, *s.scratch)
        if v.buffer.kind == "arena"
    )
    maker = {s.writes[0].buffer: k for k, s in enumerate(steps) if s.kind in MOVES}
    out: list[Step | None] = list(steps)
    for k in reversed(range(len(steps))):  # the outer ones first: a part of theirs may have parts
        step = out[k]
        if step is None or step.kind != "place" or step.ints[3]:
            continue
        left = []
        for i, piece in enumerate(step.reads):
            at = maker.get(piece.buffer, -1)
            offset = _rows(step, i)
            before = out[at] if 0 <= at < k else None
            if offset is None or before is None or not _ends_here(piece, before, touched):
                left.append(i)
                continue
            w, whole = before.writes[0], step.writes[0]
            there = View(whole.buffer, whole.offset + offset, w.shape, w.strides, w.dtype)
            out[at] = replace(before, writes=(there,))
        if len(left) < len(step.reads):
            out[k] = _with(step, left) if left else None
    return [s for s in out if s is not None]


def _ends_here(piece: View, made: Step, touched: Counter[Buffer]) -> bool:
    """Whether a piece is all that one step wrote, and nobody else has to do with that."""
    w = made.writes[0]
    return w.buffer is piece.buffer and piece.whole and w.whole and touched[piece.buffer] == 2


def _own(step: Step, i: int) -> tuple[int, ...]:
    """First place, step, count and stride of piece i for each axis."""
    axes = step.ints[1]
    return step.ints[4 + axes * (1 + 4 * i) : 4 + axes * (5 + 4 * i)]


def _rows(step: Step, i: int) -> int | None:
    """Where in the array piece i lies, in bytes, when it is one part of it."""
    item, axes = step.ints[:2]
    lengths, own = step.ints[4 : 4 + axes], _own(step, i)
    whole = all(own[4 * a : 4 * a + 3] == (0, 1, lengths[a]) for a in range(1, axes))
    return own[0] * math.prod(lengths[1:]) * item if whole and own[1] == 1 else None


def _with(step: Step, pieces: Sequence[int]) -> Step:
    """The step with some of its pieces."""
    axes = step.ints[1]
    head = (*step.ints[:2], len(pieces), *step.ints[3 : 4 + axes])
    ints = (*head, *(number for i in pieces for number in _own(step, i)))
    return replace(step, reads=tuple(step.reads[i] for i in pieces), ints=ints)
