"""Steps of optimizers inside of the products that make their gradients.

A tile of a gradient is used while it is in the first-level cache, and the gradient is never written to memory: that
saves a write and a read of as many bytes as the weights have, a place in the arena, and a meeting of the threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from nnmath_core._ext._cpu import selected
from nnmath_core.program.builder import Buffer, Builder, Step, View
from nnmath_core.program.lower.layouts import (
    DEPTH,
    PACKED,
    packed_scratch,
    seconds_more_packed,
    tile_bytes,
)

__all__ = ["with_epilogues"]

HOW, ROOM, M, N, K, LDC, AXES = 1, 2, 3, 4, 5, 10, 11
"""Where numbers stand in the ints of a product; see gemm.c."""
SMALLEST = 1 << 12
"""Entries of a gradient that is worth an instruction of its own."""
LARGEST = 7 << 18
"""Bytes of weights and slots that stay in the second-level cache. Larger ones are faster in long rows of their own, for
which the processor fetches ahead, than a tile at a time."""
SAVED = 2.5e-11 if selected() == "v4" else 0.0
"""Seconds for each byte that is neither written nor read again: for their sake a product is packed that would be faster
otherwise. With AVX2 they are hidden behind the roots and quotients of the step (measured on Zen 3)."""


def with_epilogues(b: Builder, steps: Sequence[Step], kept: Iterable[Buffer]) -> list[Step]:
    """The steps with those of optimizers moved into products where that can be; ``kept`` are read after the end."""
    optimizers = [s for s in steps if s.kind == "optimizer"]
    if not optimizers:
        return list(steps)
    uses: dict[Buffer, list[Step]] = {}
    for s in steps:
        for v in (*s.reads, *s.writes):
            uses.setdefault(v.buffer, []).append(s)
    kept = set(kept)
    at = {s: k for k, s in enumerate(steps)}
    made: dict[Step, list[Step]] = {}  # what stands in the place of a step
    for o in optimizers:
        rule, wide, count = o.ints[:3]
        slots = len(o.writes) // count - 1
        width = 2 + slots
        left, taken = [], []
        for i in range(count):
            gradient = o.reads[2 + i * width + 1]
            product = next((s for s in uses[gradient.buffer] if s is not o), None)
            if (
                product is None or len(uses[gradient.buffer]) != 2 or gradient.buffer in kept
                or not _fits(product, gradient, 1 + slots) or at[product] > at[o] or product in made
            ):  # fmt: skip
                left.append(i)
                continue
            taken.append(product)
            made[product] = [_joined(b, product, o, i, slots, (rule, wide))]
        if taken:
            made[o] = [_without(o, left, slots)] if left else []
    return (_ordered(steps, made) if made else None) or list(steps)


def _fits(product: Step, gradient: View, arrays: int) -> bool:
    """Whether tiles of the gradient are whole when they are made, lie as its entries do, and it pays."""
    if product.kind != "gemm" or len(product.writes) != 1:
        return False
    c, p = product.writes[0], product.ints
    return (
        len(p) == AXES + 1
        and p[AXES] == 0
        and p[LDC] == p[N]
        and p[K] * c.dtype.itemsize <= 4 * DEPTH
        and p[M] * p[N] >= SMALLEST
        and arrays * c.nbytes <= LARGEST
        and c.buffer.kind == "arena"
        and c.whole
        and gradient.whole
        and gradient.dtype == c.dtype
        and seconds_more_packed(c.dtype, p) <= SAVED * 2 * c.nbytes
    )


def _joined(b: Builder, product: Step, o: Step, i: int, slots: int, rule: tuple[int, int]) -> Step:
    """The product with the step of tensor i behind it."""
    first, written = 2 + i * (2 + slots), i * (1 + slots)
    weights = [o.reads[first], *o.reads[first + 2 : first + 2 + slots]]
    item = product.writes[0].dtype.itemsize
    room = packed_scratch(item, *product.ints[M : K + 1]) + tile_bytes(item)
    nbytes = room * b.threads
    scratch = View(Buffer(nbytes), 0, (nbytes,), (1,), np.dtype(np.uint8))
    ints = [*product.ints[:HOW], PACKED, room, *product.ints[ROOM + 1 :], *rule, tile_bytes(item)]
    note = f"{product.note.rsplit(' by ', 1)[0]} by packed, then {o.note.split()[0]}"
    return Step(
        "gemm",
        (*product.reads, *o.reads[:2], *weights),
        o.writes[written : written + 1 + slots],
        tuple(ints),
        o.reals,
        scratch=(scratch,),
        inplace=tuple((j, 4 + j) for j in range(1 + slots)),
        flops=product.flops + o.flops * _part(o, i),
        note=note,
    )


def _part(o: Step, i: int) -> float:
    return o.ints[3 + i] / max(1, sum(o.ints[3 : 3 + o.ints[2]]))


def _without(o: Step, left: Sequence[int], slots: int) -> Step:
    """The step of the tensors that are left."""
    width = 2 + slots
    sizes, quanta = o.ints[3 : 3 + o.ints[2]], o.ints[3 + o.ints[2] :]
    reads = [*o.reads[:2], *(v for i in left for v in o.reads[2 + i * width : 2 + (i + 1) * width])]
    writes = [v for i in left for v in o.writes[i * (1 + slots) : (i + 1) * (1 + slots)]]
    name = o.note.split()[0]
    return Step(
        "optimizer", tuple(reads), tuple(writes),
        (*o.ints[:2], len(left), *(sizes[i] for i in left), *(quanta[i] for i in left)), o.reals,
        inplace=tuple(
            (k * (1 + slots) + j, 2 + k * width + (j + 1 if j else 0))
            for k in range(len(left)) for j in range(1 + slots)
        ),
        flops=o.flops * sum(_part(o, i) for i in left), note=f"{name} of {len(left)}",
    )  # fmt: skip


def _ordered(steps: Sequence[Step], made: dict[Step, list[Step]]) -> list[Step] | None:
    """The steps in their order with some replaced, each behind all that it needs and that reads what it overwrites.

    None: some would wait for each other.
    """
    units = [(k, new) for k, s in enumerate(steps) for new in made.get(s, [s])]
    writers: dict[Buffer, list[int]] = {}
    readers: dict[Buffer, list[int]] = {}
    for n, (k, s) in enumerate(units):
        for v in s.writes:
            writers.setdefault(v.buffer, []).append(n)
        moved = steps[k] in made and s.kind == "gemm"
        for v in s.reads[:2] if moved else s.reads:  # the others are written once, see below
            readers.setdefault(v.buffer, []).append(n)
    before: list[list[int]] = []
    for n, (k, s) in enumerate(units):
        need = {m for v in s.reads for m in writers.get(v.buffer, ()) if m < n}
        for v in s.writes:  # several write one buffer, in their order
            need.update(m for m in (*writers[v.buffer], *readers.get(v.buffer, ())) if m < n)
        if steps[k] in made and s.kind == "gemm":  # it stands earlier than the step did
            made_by = [writers.get(v.buffer, []) for v in s.reads]
            if any(len(w) > 1 for w in made_by):
                return None
            need.update(m for w in made_by for m in w)
            # what it overwrites
            need.update(
                m for _, r in s.inplace for m in readers.get(s.reads[r].buffer, ()) if m != n
            )
        before.append(sorted(need))
    out: list[Step] = []
    state = [0] * len(units)  # 1: waits for what it needs, 2: done
    for start in range(len(units)):
        stack = [start]
        while stack:
            n = stack[-1]
            if state[n] == 2:
                stack.pop()
                continue
            waits = [m for m in before[n] if state[m] != 2]
            if not waits:
                state[n] = 2
                out.append(units[n][1])
                stack.pop()
            elif any(state[m] == 1 for m in waits):
                return None
            else:
                state[n] = 1
                stack += reversed(waits)
    return out
