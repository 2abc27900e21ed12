"""Attention and its pull as one instruction each: a block of queries at a time, whose scores stay in the caches."""

from __future__ import annotations

import math
from typing import Any

from nnmath_core._ext._autodiff import Var
from nnmath_core.program.builder import Builder, View, merged_axes, whole_lines
from nnmath_core.program.ir import Equation
from nnmath_core.program.lower.elementwise import filled, reduced
from nnmath_core.program.lower.rules import lowers

__all__: list[str] = []

PANEL = 48
"""As plan/attention.h says."""
ROOM = 1 << 19
"""Bytes of the scores of a block, which should stay in the second-level cache."""
FEWEST, MOST = 32, 64
"""Queries of a block."""
SHARES = 8
"""Chunks of a pull, of all heads together, that threads can share."""
EACH = 20.0
"""Operations of a weight, beside its products."""


@lowers("attention")
def _attention(b: Builder, e: Equation) -> Any:
    given = _operands(b, e, 3)
    if given is None:
        return NotImplemented
    out, (q, k, v) = e.outputs[0], given[:3]
    if 0 in out.shape or 0 in k.shape:
        filled(b, 0, b.new(out))
        return None
    t, d, values = q.shape[-2], q.shape[-1], v.shape[-1]
    rows, ld = _block(q, _seen(e, q, k), 1)
    item = q.dtype.itemsize
    panels = -(-_seen(e, q, k) // PANEL) * PANEL
    room = whole_lines(item * (panels * d + rows * (d + 1 + ld)))
    ints, reads = _described(b, e, given, rows, 1, room)
    b.scratch(room * b.threads)
    pairs = _pairs(e, q, k)
    b.emit(
        "attention", reads, [b.new(out)], ints, [e.params["scale"]],
        flops=pairs * (2.0 * (d + values) + EACH), note=f"{t}x{k.shape[-2]}",
    )  # fmt: skip
    return None


@lowers("attention_pull")
def _pull(b: Builder, e: Equation) -> Any:
    given = _operands(b, e, 4)
    if given is None:
        return NotImplemented
    q, k, v, _ = given[:4]
    if 0 in q.shape or 0 in v.shape:
        for out in e.outputs:
            filled(b, 0, b.new(out))
        return None
    t, d, values = q.shape[-2], q.shape[-1], v.shape[-1]
    rows, ld = _block(q, _seen(e, q, k), 2)
    heads = math.prod(q.shape[:-2])
    chunks = min(-(-SHARES // heads), -(-t // rows))
    item = q.dtype.itemsize
    panels = -(-_seen(e, q, k) // PANEL) * PANEL
    room = whole_lines(item * (panels * (d + values) + rows * (d + 1 + 2 * ld)))
    ints, reads = _described(b, e, given, rows, chunks, room)
    writes = [b.new(e.outputs[0])]
    if chunks == 1:
        writes += map(b.new, e.outputs[1:])
    else:
        writes += (b.array((chunks, *o.shape), o.dtype) for o in e.outputs[1:])
    b.scratch(room * b.threads)
    b.emit(
        "attention_pull", reads, writes, ints, [e.params["scale"]],
        flops=_pairs(e, q, k) * (6.0 * d + 4.0 * values + EACH), note=f"{t}x{k.shape[-2]}",
    )  # fmt: skip
    if chunks > 1:
        for out, parts in zip(e.outputs[1:], writes[1:], strict=True):
            total = reduced(b, "sum", parts, (0,), keepdims=False)
            assert total is not None
            b.define(out, total)
    return None


def _operands(b: Builder, e: Equation, floats: int) -> list[View] | None:
    """The views of q, k, v, the cotangent, bias and mask; None where the instruction does not do this."""
    if not all(isinstance(x, Var) for x in e.operands):
        return None
    views = [b.view(x) for x in e.operands]
    dtype = views[0].dtype
    if dtype.char not in "fd" or views[0].shape[-1] == 0:
        return None
    floats += e.params["biased"]
    if any(x.dtype != dtype for x in views[:floats]) or any(
        x.dtype != bool for x in views[floats:]
    ):
        return None
    return views


def _seen(e: Equation, q: View, k: View) -> int:
    """How many keys some query sees."""
    return min(q.shape[-2], k.shape[-2]) if e.params["causal"] else k.shape[-2]


def _pairs(e: Equation, q: View, k: View) -> float:
    """How many pairs of a query and a key are computed."""
    all_of_them = float(math.prod(q.shape[:-1])) * _seen(e, q, k)
    return all_of_them * (1.0 - _seen(e, q, k) / (2.0 * q.shape[-2]) if e.params["causal"] else 1.0)


def _block(q: View, seen: int, arrays: int) -> tuple[int, int]:
    """Queries of a block, and the entries from one row of its scores to the next: an odd number of lines."""
    item = q.dtype.itemsize
    ld = ((-(-seen // PANEL) * PANEL * item // 64) | 1) * 64 // item
    rows = ROOM // (arrays * ld * item) // 8 * 8
    return min(max(FEWEST, min(MOST, rows)), q.shape[-2]), ld


def _described(
    b: Builder, e: Equation, given: list[View], rows: int, chunks: int, room: int
) -> tuple[list[int], list[View]]:
    """The ints of the instruction, and its operands with rows of unit stride."""
    q, k, v = given[:3]
    floats = len(given) - e.params["biased"] - e.params["masked"]
    item, scores = q.dtype.itemsize, (*q.shape[:-1], k.shape[-2])
    reads = [_with_rows(b, x) for x in given[:floats]]
    reads += [_in_entries(b, x).broadcast(scores) for x in given[floats:]]
    of: list[View | None] = [*reads[:floats], *[None] * (4 - floats)]
    rest = reads[floats:]
    of.append(rest.pop(0) if e.params["biased"] else None)
    of.append(rest.pop(0) if e.params["masked"] else None)
    ints = [
        0 if item == 4 else 1, e.params["causal"], q.shape[-2], _seen(e, q, k), k.shape[-2], q.shape[-1], v.shape[-1],
        rows, chunks, room, *(0 if x is None else x.strides[-2] // item for x in of[:4]),
    ]  # fmt: skip
    for x in of[4:]:
        ints += (
            [0, 0, 0] if x is None else [1, *(step // x.dtype.itemsize for step in x.strides[-2:])]
        )
    lead = q.shape[:-2]
    axes = merged_axes(lead, [[0] * len(lead) if x is None else x.strides[:-2] for x in of])
    return [*ints, len(axes), *(number for n, own in axes for number in (n, *own))], reads


def _with_rows(b: Builder, x: View) -> View:
    """The view with rows of unit stride whose distances are whole entries."""
    item = x.dtype.itemsize
    along = x.shape[-1] == 1 or x.strides[-1] == item
    return x if along and x.strides[-2] % item == 0 else b.contiguous(x)


def _in_entries(b: Builder, x: View) -> View:
    """The view with strides in whole entries."""
    return x if all(s % x.dtype.itemsize == 0 for s in x.strides) else b.contiguous(x)
