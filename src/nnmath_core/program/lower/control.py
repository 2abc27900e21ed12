"""Branches and loops: instructions that run the bodies behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var
from nnmath_core.autodiff.control.subprogram import SubProgram
from nnmath_core.program import loops
from nnmath_core.program.builder import Builder, View, row_major
from nnmath_core.program.cost import program_cost
from nnmath_core.program.ir import Equation
from nnmath_core.program.lower.bodies import (
    begun,
    define_constants,
    finished,
    lower_equations,
    moved,
    moving,
    output_of,
    read_outside,
)
from nnmath_core.program.lower.elementwise import as_dtype
from nnmath_core.program.lower.rules import lowers
from nnmath_core.program.work import work

__all__ = ["ALONE"]

ALONE = 2e-5
"""Seconds of a body below which one thread runs it: to meet several times a turn would cost as much."""


@lowers("standin")
def _standin(b: Builder, e: Equation) -> Any:
    out = e.outputs[0]
    if not _fits(e.operands[1], out):
        return NotImplemented
    b.define(out, _operand(b, e.operands[1], out))
    return None


@lowers("cond")
def _cond(b: Builder, e: Equation) -> Any:
    index, operands = e.operands[0], e.operands[1:]
    branches: tuple[SubProgram, ...] = e.params["branches"]
    if not all(_fits(x, v) for s in branches for x, v in zip(operands, s.inputs, strict=True)):
        return NotImplemented
    if not isinstance(index, Var):
        _inlined(b, branches[int(index)], operands, e.outputs)
        return None
    if index.dtype.kind not in "biu":
        return NotImplemented
    alone = _alone(b, *branches)
    homes = [b.array(v.shape, v.dtype) for v in e.outputs]
    bodies = []
    for s in branches:
        child = begun(b, s, _operands(b, operands, s.inputs), alone)
        outs = [output_of(child, v, "moving") for v in _views(child, s.outputs, e.outputs)]
        bodies.append(finished(child, outs))
        moved(bodies[-1], {v.buffer: home for v, home in zip(outs, homes, strict=True)})
    for v, home in zip(e.outputs, homes, strict=True):
        b.define(v, home)
    where = b.view(index)
    code = where.dtype.itemsize * (-1 if where.dtype.kind == "u" else 1)
    reads = [where, *read_outside(bodies, homes)]
    _emit(b, "cond", reads, homes, [code], alone, bodies, 1, branches)
    return None


@lowers("while_loop")
def _while_loop(b: Builder, e: Equation) -> Any:
    cond, body, consts = e.params["cond"], e.params["body"], e.params["consts"]
    if not all(_fits(x, v) for x, v in zip(e.operands, body.inputs, strict=True)):
        return NotImplemented
    alone = _alone(b, cond, body)
    operands = _operands(b, e.operands, body.inputs)
    ring = _Ring(b, body, operands, consts, e.outputs)
    inputs = ring.inputs(operands)
    first = begun(b, cond, inputs, alone)
    holds = output_of(first, first.view(cond.outputs[0], np.bool_), "arena")
    holds_steps = finished(first, [holds])
    second = begun(b, body, inputs, alone)
    after = ring.outputs(second)
    bodies = [holds_steps, finished(second, after)]
    reads = [*ring.first, *read_outside(bodies, [*ring.now, *after, holds])]
    writes = [*ring.last, holds, *ring.now, *after]
    b.scratch(8)
    for v in ring.last:
        b.scratch(max(v.nbytes, 1))
    ints = [len(reads), len(ring.live), *(v.nbytes for v in ring.last)]
    _emit(b, "while_loop", reads, writes, ints, alone, bodies, 1, (body,))
    return None


@lowers("scan")
def _scan(b: Builder, e: Equation) -> Any:
    body, consts, carry = e.params["body"], e.params["consts"], e.params["carry"]
    length, reverse = e.params["length"], e.params["reverse"]
    k = consts + carry
    if not all(_fits(x, v) for x, v in zip(e.operands[:k], body.inputs, strict=False)):
        return NotImplemented
    if not all(isinstance(x, Var) for x in e.operands[k:]):
        return NotImplemented
    rows = [b.view(x) for x in e.operands[k:]]
    if any(x.dtype != v.dtype for x, v in zip(rows, body.inputs[k:], strict=True)):
        return NotImplemented
    if length == 0:
        for x, v in zip(e.operands[consts:k], e.outputs[:carry], strict=True):
            b.define(v, _operand(b, x, v))
        for v in e.outputs[carry:]:
            b.new(v)
        return None
    operands = _operands(b, e.operands[:k], body.inputs)
    if length == 1:
        _one_turn(
            b,
            body,
            [*operands, *(x.at(x.offset, x.shape[1:], x.strides[1:]) for x in rows)],
            e.outputs,
            carry,
        )
        return None
    alone = _alone(b, body)
    ring = _Ring(b, body, operands, consts, e.outputs)
    row = [moving(x.shape[1:], x.dtype, x.strides[1:]) for x in rows]
    fixed = [v for i, v in enumerate(body.inputs[:k]) if i - consts not in ring.live]
    child = begun(b, body, [*ring.inputs(operands), *row], alone, fixed)
    after = ring.outputs(child)
    tapes = _tapes(body, consts, carry, ring)
    held = {j: c for c, (j, _) in tapes.items()}
    ys, places, strides = [], [], []
    made = _views(child, body.outputs[carry:], e.outputs[carry:])
    for j, (x, v) in enumerate(zip(made, e.outputs[carry:], strict=True)):
        ys.append(b.new(v))
        strides.append(row_major(v.shape, v.dtype.itemsize)[0])
        places.append(moving(v.shape[1:], v.dtype) if j in held else output_of(child, x, "moving"))
    steps = finished(child, [*after, *places])
    last = list(ring.last)
    ints = [
        length,
        int(reverse),
        0,
        len(ring.live),
        len(rows),
        len(ys),
        *(x.strides[0] for x in rows),
        *strides,
    ]
    for n, c in enumerate(ring.live):
        j, before = tapes.get(c, (-1, 0))
        ints += [j, before, ring.last[n].nbytes]
        if j >= 0 and not before:  # the last carry is the last row
            y = ys[j]
            last[n] = y.at(0 if reverse else (length - 1) * strides[j], y.shape[1:], y.strides[1:])
            b.define(e.outputs[c], last[n])
    reads = [*ring.first, *rows, *read_outside([steps], [*ring.now, *row, *after, *places])]
    ints[2] = len(reads)
    b.scratch(8)
    for n, c in enumerate(ring.live):
        b.scratch(1 if c in tapes else max(ring.last[n].nbytes, 1))
    writes = [*last, *ys, *ring.now, *after, *row, *places]
    _emit(b, "scan", reads, writes, ints, alone, [steps], length, (body,))
    return None


class _Ring:
    """The carries of a loop that change: where they are before a turn, after it, and in the end."""

    def __init__(
        self,
        b: Builder,
        body: SubProgram,
        operands: Sequence[View],
        consts: int,
        outputs: Sequence[Var],
    ) -> None:
        n = len(operands) - consts
        self.body, self.consts = body, consts
        self.live = [c for c in range(n) if body.outputs[c] is not body.inputs[consts + c]]
        self.first, self.now, self.last = [], [], []
        for c in range(n):
            v = outputs[c]
            if c not in self.live:
                b.define(v, operands[consts + c])
                continue
            self.first.append(b.contiguous(operands[consts + c]))
            self.now.append(moving(v.shape, v.dtype))
            self.last.append(b.array(v.shape, v.dtype))
            b.define(v, self.last[-1])

    def inputs(self, operands: Sequence[View]) -> list[View]:
        """The operands as a body sees them, the carries where they are before the turn."""
        out = list(operands)
        for v, c in zip(self.now, self.live, strict=True):
            out[self.consts + c] = v
        return out

    def outputs(self, child: Builder) -> list[View]:
        """Where the body writes the carries."""
        outs = [self.body.outputs[c] for c in self.live]
        return [output_of(child, v, "moving") for v in _views(child, outs, self.last)]


def _tapes(body: SubProgram, consts: int, carry: int, ring: _Ring) -> dict[int, tuple[int, int]]:
    """Carries that are results too: the result, and whether it is the carry before the turn."""
    found: dict[int, tuple[int, int]] = {}
    for j, o in enumerate(body.outputs[carry:]):
        for c in ring.live:
            if c in found or not isinstance(o, Var):
                continue
            before = o is body.inputs[consts + c]
            if before or o is body.outputs[c]:
                found[c] = (j, int(before))
                break
    return found


def _emit(
    b: Builder,
    kind: str,
    reads: Sequence[View],
    writes: Sequence[View],
    ints: Sequence[int],
    alone: bool,
    bodies: Sequence[Any],
    turns: int,
    subs: Sequence[SubProgram],
) -> None:
    b.emit(kind, reads, writes, ints, alone=alone, note=", ".join(s.name for s in subs))
    step = b.steps[-1]
    step.subs, step.turns = tuple(tuple(x) for x in bodies), turns
    step.flops = work([step]).flops


def _alone(b: Builder, *subs: SubProgram) -> bool:
    """Whether one thread runs the bodies."""
    if b.threads == 1:
        return True
    return max(program_cost(Equation(*q) for q in s.equations).seconds for s in subs) < ALONE


def _fits(x: Any, v: Any) -> bool:
    """Whether an operand can be what a variable of a body is."""
    return not isinstance(x, Var) or x.dtype == v.dtype or loops.cast(x.dtype, v.dtype) is not None


def _operand(b: Builder, x: Any, v: Any) -> View:
    if not isinstance(x, Var):
        return b.view(x, v.dtype)
    view = as_dtype(b, b.view(x), v.dtype)
    assert view is not None
    weak = isinstance(v, Var) and v.weak
    return view if view.weak == weak else replace(view, weak=weak)


def _operands(b: Builder, xs: Sequence[Any], inputs: Sequence[Var]) -> list[View]:
    return [_operand(b, x, v) for x, v in zip(xs, inputs, strict=False)]


def _views(b: Builder, outputs: Sequence[Any], like: Sequence[Any]) -> list[View]:
    """Results of a body, numbers among them in the dtypes of what they become."""
    return [b.view(o, v.dtype) for o, v in zip(outputs, like, strict=True)]


def _inlined(b: Builder, sub: SubProgram, operands: Sequence[Any], outputs: Sequence[Var]) -> None:
    """The sub-program in place of the equation."""
    for v, x in zip(sub.inputs, _operands(b, operands, sub.inputs), strict=True):
        b.define(v, x)
    define_constants(b, sub.constants)
    lower_equations(b, (Equation(*q) for q in sub.equations))
    for v, x in zip(outputs, _views(b, sub.outputs, outputs), strict=True):
        b.define(v, x)


def _one_turn(
    b: Builder, body: SubProgram, operands: Sequence[View], outputs: Sequence[Var], carry: int
) -> None:
    """A scan of one step: the body, its results with an axis of length 1."""
    for v, x in zip(body.inputs, operands, strict=True):
        b.define(v, x)
    define_constants(b, body.constants)
    lower_equations(b, (Equation(*q) for q in body.equations))
    ends = _views(b, body.outputs, outputs)
    for k, (v, x) in enumerate(zip(outputs, ends, strict=True)):
        b.define(v, x if k < carry else x.at(x.offset, (1, *x.shape), (x.nbytes, *x.strides)))
