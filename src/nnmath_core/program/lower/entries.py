"""What rules of movement share: types of entries by number, casts, pieces of an array."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var
from nnmath_core.program.builder import Builder, View
from nnmath_core.program.ir import Equation
from nnmath_core.program.lower.elementwise import as_dtype

__all__ = [
    "COPIED", "TYPES", "Piece", "alias", "code_of", "parts", "placed", "positions", "products", "put",
    "to_dtype", "zeros",
]  # fmt: skip

TYPES = {
    "f4": 0, "f8": 1, "c8": 2, "c16": 3, "i1": 4, "i2": 5, "i4": 6, "i8": 7, "u1": 8, "u2": 9, "u4": 10, "u8": 11,
    "b1": 12,
}  # fmt: skip
"""Codes of the types in plan/move.h."""

COPIED = (1, 2, 4, 8, 16)
"""Item sizes that the kernels copy."""

Piece = tuple[View, list[tuple[int, int, int, int]]]
"""A view, and for each axis of the array it is put into: first place, step, count, its own stride."""


def code_of(dtype: Any) -> int | None:
    """The code of a type; None: the kernels have none."""
    dtype = np.dtype(dtype)
    return TYPES.get(f"{dtype.kind}{dtype.itemsize}")


def alias(b: Builder, e: Equation, view: View) -> None:
    """Let the output be a view of what exists."""
    out = e.outputs[0]
    b.define(out, replace(view, weak=out.weak))


def zeros(b: Builder, out: Var) -> None:
    """Let a variable be zeros."""
    b.define(out, b.constant(np.zeros((), out.dtype)).broadcast(out.shape))


# ---------------------------------------------------------------------------------------------- casts
def to_dtype(b: Builder, v: View, dtype: Any) -> View:
    """The entries as another dtype, of which `loops.castable` is true."""
    done = as_dtype(b, v, dtype)
    assert done is not None
    return done


def _part(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of the real and imaginary parts."""
    return np.zeros(0, dtype).real.dtype


def parts(v: View) -> tuple[View, View]:
    """The real and the imaginary parts of complex entries."""
    dtype = _part(v.dtype)
    real = View(v.buffer, v.offset, v.shape, v.strides, dtype)
    return real, View(v.buffer, v.offset + dtype.itemsize, v.shape, v.strides, dtype)


# ---------------------------------------------------------------------------------------------- pieces
def positions(shape: Sequence[int], index: Sequence[Any]) -> list[tuple[int, int, int] | None]:
    """For each entry of a basic index, written out: first place, step and count; of an integer step 0; None of None."""
    entries = list(index)
    if ... in [i for i in entries if i is ...]:
        k = next(k for k, i in enumerate(entries) if i is ...)
        rest = len(shape) - sum(i is not None for i in entries) + 1
        entries[k : k + 1] = [slice(None)] * rest
    entries += [slice(None)] * (len(shape) - sum(i is not None for i in entries))
    out: list[tuple[int, int, int] | None] = []
    lengths = iter(shape)
    for i in entries:
        if i is None:
            out.append(None)
            continue
        n = next(lengths)
        if isinstance(i, slice):
            start, stop, step = i.indices(n)
            out.append((start, step, len(range(start, stop, step))))
        else:
            out.append((int(i) % n, 0, 1))
    return out


def placed(b: Builder, out: Var, pieces: Sequence[Piece], room: bool) -> None:
    """Let a variable be an array of pieces, with zeros elsewhere (of one piece) where there is ``room``."""
    pieces = [p for p in pieces if p[0].size]
    if not pieces:
        zeros(b, out)
    else:
        put(b, b.new(out), pieces, room)


def put(b: Builder, out: View, pieces: Sequence[Piece], room: bool) -> None:
    """Write pieces, none of them empty, into an array that is not."""
    lengths, own = _merged(out.shape, [p[1] for p in pieces])
    flat = [number for axes in own for axis in axes for number in axis]
    b.emit(
        "place", [p[0] for p in pieces], [out],
        [out.dtype.itemsize, len(lengths), len(pieces), room, *lengths, *flat], note="pieces",
    )  # fmt: skip


def _merged(
    shape: Sequence[int], pieces: list[list[tuple[int, int, int, int]]]
) -> tuple[list[int], list[list[tuple[int, int, int, int]]]]:
    """Axes that lie behind each other in the array and in all pieces as one; those of length 1 are dropped."""
    lengths: list[int] = []
    own: list[list[tuple[int, int, int, int]]] = [[] for _ in pieces]
    for a, n in enumerate(shape):
        if n == 1:
            continue
        joins = bool(lengths) and all(
            p[a][:3] == (0, 1, n)
            and (q[-1][1] == 1 or q[-1][2] == 1)
            and (q[-1][2] == 1 or q[-1][3] == p[a][3] * n)
            for p, q in zip(pieces, own, strict=True)
        )
        for p, q in zip(pieces, own, strict=True):
            if joins:
                start, _, count, _ = q[-1]
                q[-1] = (start * n, 1, count * n, p[a][3])
            else:
                start, step, count, stride = p[a]
                q.append((start, max(step, 1), count, stride))
        if joins:
            lengths[-1] *= n
        else:
            lengths.append(n)
    if not lengths:  # one entry
        return [1], [[(0, 1, 1, 0)] for _ in pieces]
    return lengths, own


def products(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    """Number of entries before an axis, along it, and behind it."""
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
