"""Nodes joined into one loop where their kernel has one: fewer passes over L1.

    a b + c, a b - c, c - a b    muladd, ...     the same two roundings
    g (1 - y y)                  tanh_pull
    where(x <= 0, 0, g)          relu_pull
    sum(a b)                     a reduction of two operands: products are not written

A product that is read elsewhere too stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nnmath_core.program import loops
from nnmath_core.program.builder import Buffer, Step, View
from nnmath_core.program.nodes import Map, Reduction

__all__ = ["is_zero", "joined"]


def joined(steps: Sequence[Step], kept: Iterable[Buffer]) -> list[Step]:
    """The steps with nodes joined; ``kept`` buffers are read after the end."""
    made = {s.writes[0].buffer: s for s in steps if s.kind == "node"}
    readers: dict[Buffer, int] = dict.fromkeys(kept, 2)
    for s in steps:
        for v in s.reads:
            readers[v.buffer] = readers.get(v.buffer, 0) + 1
    gone: set[int] = set()

    def inner(v: View, names: Sequence[str], shape: Sequence[int]) -> Step | None:
        """The node of a name that makes an operand, entry by entry and for nobody else."""
        s = made.get(v.buffer)
        if s is None or not isinstance(s.object, Map) or s.object.loop.name not in names:
            return None
        alone = readers[v.buffer] == 1 and s.writes[0].shape == tuple(shape)
        w = s.writes[0]  # a real part has another dtype
        same = (v.shape, v.strides, v.offset, v.dtype) == (w.shape, w.strides, 0, w.dtype)
        return s if alone and same else None

    out: list[Step] = []
    for s in steps:
        new = _joined(s, inner) if s.kind == "node" else None
        if new is not None:
            step, absorbed = new
            for a in absorbed:
                gone.add(id(a))
                for v in a.reads:
                    readers[v.buffer] -= 1
            for v in s.reads:
                readers[v.buffer] -= 1
            for v in step.reads:
                readers[v.buffer] = readers.get(v.buffer, 0) + 1
            made[step.writes[0].buffer] = step
            s = step
        out.append(s)
    return [s for s in out if id(s) not in gone]


def _joined(s: Step, inner: Any) -> tuple[Step, list[Step]] | None:
    what = s.object
    if isinstance(what, Reduction):
        return _product_sum(s, what, inner)
    if not isinstance(what, Map):
        return None
    dtype, shape = s.writes[0].dtype, s.writes[0].shape
    if what.loop.name == "add":
        loop = loops.ours("muladd", dtype)
        for k in (0, 1):
            p = inner(s.reads[k], ("multiply", "square"), shape)
            if p is not None and loop is not None:
                return _as(s, loop, [*_factors(p), s.reads[1 - k]]), [p]
    elif what.loop.name == "subtract":
        for k, name in ((0, "mulsub"), (1, "nmuladd")):
            loop = loops.ours(name, dtype)
            p = inner(s.reads[k], ("multiply", "square"), shape)
            if p is not None and loop is not None:
                return _as(s, loop, [*_factors(p), s.reads[1 - k]]), [p]
    elif what.loop.name == "multiply":
        loop = loops.ours("tanh_pull", dtype)
        for k in (0, 1):
            p = inner(s.reads[k], ("nmuladd",), shape)
            if (
                p is not None
                and loop is not None
                and _twice(p.reads[:2])
                and _is_number(p.reads[2], 1.0)
            ):
                return _as(s, loop, [s.reads[1 - k], p.reads[0]]), [p]
    elif what.loop.name == "where":
        loop = loops.ours("relu_pull", dtype)
        c = inner(s.reads[0], ("less_equal",), shape)
        if (
            c is not None
            and loop is not None
            and _is_number(s.reads[1], 0.0)
            and _is_number(c.reads[1], 0.0)
        ):
            if c.reads[0].dtype == dtype:
                return _as(s, loop, [s.reads[2], c.reads[0]]), [c]
    return None


def _product_sum(s: Step, what: Reduction, inner: Any) -> tuple[Step, list[Step]] | None:
    if what.name != "sum" or len(s.reads) != 1:
        return None
    v = s.reads[0]
    p = inner(v, ("multiply", "square"), v.shape)
    pair = loops.product_sum(what, v.dtype)
    if p is None or pair is None:
        return None
    factors = [x.broadcast(v.shape) for x in _factors(p)]
    step = Step("node", tuple(factors), s.writes, (), (), False, pair, note="multiply sum")
    return step, [p]


def _factors(p: Step) -> list[View]:
    return [p.reads[0], p.reads[-1]]


def _twice(factors: Sequence[View]) -> bool:
    a, b = factors
    return a.buffer is b.buffer and (a.offset, a.shape, a.strides) == (b.offset, b.shape, b.strides)


def _as(s: Step, loop: Any, reads: Sequence[View]) -> Step:
    return Step("node", tuple(reads), s.writes, (), (), False, Map(loop), note=loop.name)


def _is_number(v: View, x: float) -> bool:
    array = v.buffer.array
    return (
        v.buffer.kind == "constant"
        and array.size == 1
        and not array.flags.writeable
        and bool(np.all(array == x))
    )


def is_zero(v: View) -> bool:
    """Whether a view is the number 0.0, of plus sign."""
    return _is_number(v, 0.0) and not np.signbit(v.buffer.array).any()
