"""Additions of a row and activations inside of the products before them: in registers, before entries are stored.

    x @ w + bias             the row is added to whole sums
    relu(...)                also written as maximum(..., 0.0)

The bits are those of the loops, which have as much less to do, or nothing. A value that is needed elsewhere, too, is
the last one that a product makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from nnmath_core.program.builder import Buffer, Builder, Step, View, merged_axes
from nnmath_core.program.cost import OVERHEAD
from nnmath_core.program.lower.layouts import BLAS, BLOCKS, PACKED, packed_scratch, seconds_more
from nnmath_core.program.nodes import Map
from nnmath_core.program.peephole import is_zero

__all__ = ["with_finishes"]

HOW, ROOM, M, N, K = 1, 2, 3, 4, 5
"""Where numbers stand in the ints of a product; see gemm.c."""
SAVED = 2.5e-11
"""Seconds for each byte that is neither written nor read again: for their sake a product is ours that BLAS would make
faster."""


def with_finishes(b: Builder, steps: Sequence[Step], kept: Iterable[Buffer]) -> list[Step]:
    """The steps with what products can do in registers moved into them; ``kept`` are read after the end."""
    kept = set(kept)
    readers: dict[Buffer, list[Step]] = {}
    for s in steps:
        for v in s.reads:
            readers.setdefault(v.buffer, []).append(s)

    made: dict[Step, Step] = {}
    gone: set[Step] = set()

    def behind(v: View) -> Step | None:
        """The node that alone reads a value, where no other product has it."""
        some = readers.get(v.buffer, [])
        alone = len(some) == 1 and v.buffer not in kept and v.buffer.kind == "arena"
        return some[0] if alone and some[0].kind == "node" and some[0] not in gone else None

    for product in steps:
        if product.kind != "gemm":
            continue
        out, row = product.writes[0], None
        chain = [product]
        step = behind(out)
        if step is not None and (row := _row(step, out, product.ints[N])) is not None:
            out = step.writes[0]
            chain.append(step)
            step = behind(out)
        if step is not None and _is_relu(step, out):
            out = step.writes[0]
            chain.append(step)
        loop = any(s.kind == "node" for s in readers.get(out.buffer, ()))
        new = _joined(b, chain, row, out, loop) if len(chain) > 1 else None
        if new is not None:
            gone.update(chain)
            made[chain[-1]] = new  # where all that it reads has been made
    return [made.get(s, s) for s in steps if s in made or s not in gone]


def _entries(step: Step, v: View, c: View) -> bool:
    """Whether an operand of a node is c, entry by entry, and the result lies as c does."""
    out = step.writes[0]
    return (
        c.whole
        and out.whole
        and v.contiguous
        and (v.buffer, v.offset, v.size) == (c.buffer, 0, c.size)
        and v.shape == out.shape
        and v.dtype == out.dtype == c.dtype
    )


def _row(step: Step, c: View, n: int) -> View | None:
    """The row that a node adds to each n entries of c."""
    if not isinstance(step.object, Map) or step.object.loop.name != "add":
        return None
    for v, row in (step.reads, step.reads[::-1]):
        if _entries(step, v, c) and row.dtype == c.dtype:
            axes = merged_axes(v.shape, (row.broadcast(v.shape).strides,))
            repeats = all(s == (0,) for _, s in axes[:-1])
            if repeats and axes and axes[-1] == (n, (c.dtype.itemsize,)):
                return row
    return None


def _is_relu(step: Step, c: View) -> bool:
    if not isinstance(step.object, Map) or not _entries(step, step.reads[0], c):
        return False
    name = step.object.loop.name
    return name == "relu" or (name == "maximum" and is_zero(step.reads[1]))


def _joined(
    b: Builder, chain: Sequence[Step], row: View | None, out: View, loop: bool
) -> Step | None:
    """A product with what is behind it; None where neither is it ours nor would that be faster.

    ``loop``: one has to read the result in any case.
    """
    product, *nodes = chain
    ints, note, scratch = product.ints, product.note, product.scratch
    if ints[HOW] == BLAS and not loop and not b.blas_only:
        more, how = seconds_more(out.dtype, ints)
        if more < OVERHEAD + SAVED * 2 * out.nbytes:
            room = packed_scratch(out.dtype.itemsize, *ints[M : K + 1]) if how == PACKED else 0
            ints = (ints[0], how, room, *ints[ROOM + 1 :])
            note = f"{note.rsplit(' by ', 1)[0]} by {'packed' if room else 'blocks'}"
            nbytes = room * b.threads
            scratch = (
                (View(Buffer(nbytes), 0, (nbytes,), (1,), np.dtype(np.uint8)),) if room else ()
            )
    if ints[HOW] not in (BLOCKS, PACKED):
        return None
    rectified = len(nodes) > (row is not None)
    return Step(
        "gemm",
        (*product.reads, *([] if row is None else [row])),
        (out,),
        (*ints, row is not None, rectified),
        product.reals,
        scratch=scratch,
        flops=product.flops + len(nodes) * out.size,
        note=f"{note} with {' '.join(['add'] * (row is not None) + ['relu'] * rectified)}",
    )
