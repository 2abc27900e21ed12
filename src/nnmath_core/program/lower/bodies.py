"""From equations to instructions in their order: of a program, and of the bodies of control flow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nnmath_core._ext._autodiff import Var
from nnmath_core.autodiff.control.subprogram import SubProgram
from nnmath_core.program import loops
from nnmath_core.program.builder import Buffer, Builder, Step, View
from nnmath_core.program.epilogue import with_epilogues
from nnmath_core.program.finish import with_finishes
from nnmath_core.program.fuse import Group, fused
from nnmath_core.program.ir import Equation
from nnmath_core.program.lower.elementwise import mapped
from nnmath_core.program.lower.rules import RULES, rule_of
from nnmath_core.program.machine import emit_group
from nnmath_core.program.peephole import joined
from nnmath_core.program.row_sums import with_row_sums

__all__ = [
    "begun",
    "define_constants",
    "finished",
    "lower_equations",
    "moved",
    "moving",
    "needed_steps",
    "output_of",
    "read_outside",
    "scheduled",
]


def lower_equations(b: Builder, equations: Iterable[Any]) -> None:
    """Emit the steps of equations, by their rules or by definition."""
    for e in equations:
        rule = rule_of(e.primitive)
        if rule is None or rule(b, e) is NotImplemented:
            b.host(e)


def define_constants(b: Builder, constants: Mapping[Var, Any]) -> None:
    """Give captured arrays their views."""
    for v, x in constants.items():
        view = b.constant(x)
        b.define(v, replace(view, weak=True) if v.weak else view)


def scheduled(b: Builder, kept: set[Buffer]) -> list[Step]:
    """The steps with their nodes gathered into instructions of the machine; what nobody reads is left out."""
    steps = with_row_sums(b, needed_steps(b.steps, kept))
    order = fused(with_finishes(b, joined(steps, kept), kept), kept)
    readers: dict[Buffer, list[Any]] = {}
    for unit in order:
        for step in [m.step for m in unit.members] if isinstance(unit, Group) else [unit]:
            for v in step.reads:
                readers.setdefault(v.buffer, []).append(unit)
    b.steps = []
    for unit in order:
        if not isinstance(unit, Group):
            b.steps.append(unit)
            continue
        made = [m.write.view.buffer for m in unit.members]
        outside = {x for x in made if x in kept or any(r is not unit for r in readers.get(x, ()))}
        emit_group(b, unit, outside)
    b.steps = with_epilogues(b, b.steps, kept)
    return b.steps


def needed_steps(steps: Sequence[Step], kept: set[Buffer]) -> list[Step]:
    """Steps whose results somebody reads."""
    wanted = set(kept)
    out = []
    for step in reversed(steps):
        if step.kind in ("host", "guard") or any(v.buffer in wanted for v in step.writes):
            wanted.update(v.buffer for v in step.reads)
            out.append(step)
    return out[::-1]


def output_of(b: Builder, view: View, kind: Any) -> View:
    """The view of a result: a whole buffer of its own, which becomes memory of the kind."""
    if not view.whole or view.buffer.kind != "arena" or (b.outer and not _makes(b, view.buffer)):
        loop = loops.copy(view.dtype)
        copy = None if loop is None else mapped(b, loop, [view], view.dtype)
        if copy is None or copy.buffer.kind != "arena":  # another result has that one
            copy = b.array(view.shape, view.dtype)
            b.copy(view, copy)
        view = copy
    view.buffer.kind = kind
    return view


def _makes(b: Builder, buffer: Buffer) -> bool:
    return any(v.buffer is buffer for step in b.steps for v in step.writes)


# ---------------------------------------------------------------------------------------------- bodies
def moving(shape: Sequence[int], dtype: Any, strides: Sequence[int] | None = None) -> View:
    """An array that lies elsewhere in each turn of a loop, so that it has a slot of its own."""
    view = Builder("").array(shape, dtype)
    view.buffer.kind = "moving"
    return view if strides is None else view.at(0, shape, strides)


def begun(
    b: Builder, sub: SubProgram, operands: Sequence[View], alone: bool, fixed: Iterable[Var] = ()
) -> Builder:
    """The steps of a sub-program on operands, not yet in their order.

    What depends on nothing but constants and the ``fixed`` inputs is computed before, in ``b``, where it needs no more
    memory than what it is made of.
    """
    child = b.child(1 if alone else b.threads)
    for v, x in zip(sub.inputs, operands, strict=True):
        child.define(v, x)
    define_constants(child, sub.constants)
    same = {*fixed, *sub.constants} if fixed else set()
    for e in (Equation(*q) for q in sub.equations):
        if same and _is_fixed(e, same):
            for x in e.operands:
                if isinstance(x, Var):
                    b.define(x, child.views[x])
            if RULES[e.primitive.name](b, e) is not NotImplemented:
                same.update(e.outputs)
                for v in e.outputs:
                    child.define(v, b.views[v])
                continue
        lower_equations(child, [e])
    return child


def _is_fixed(e: Equation, same: set[Var]) -> bool:
    variables = [x for x in e.operands if isinstance(x, Var)]
    if e.primitive.name not in RULES or not variables or not same.issuperset(variables):
        return False
    return sum(map(_nbytes, e.outputs)) <= sum(map(_nbytes, variables))


def _nbytes(v: Var) -> int:
    n = int(v.dtype.itemsize)
    for length in v.shape:
        n *= length
    return n


def finished(child: Builder, outputs: Sequence[View]) -> list[Step]:
    """The steps of a body in their order, after `output_of` for each of its results."""
    child.steps = scheduled(child, {v.buffer for v in outputs})
    return child.steps


def read_outside(bodies: Iterable[Sequence[Step]], own: Iterable[View]) -> list[View]:
    """What bodies read of what was computed before; ``own`` are the arrays that move with the loop."""
    bodies = list(bodies)
    inside = {v.buffer for body in bodies for s in body for v in (*s.writes, *s.scratch)}
    inside.update(v.buffer for v in own)
    seen: dict[Any, View] = {}
    for body in bodies:
        for step in body:
            for v in step.reads:
                if v.buffer not in inside and v.buffer.kind != "constant":
                    seen.setdefault((v.buffer, v.offset, v.shape, v.strides), v)
    return list(seen.values())


def moved(steps: Sequence[Step], homes: Mapping[Buffer, View]) -> None:
    """Let bodies write to other buffers than they were made with."""

    def at(views: Sequence[View]) -> tuple[View, ...]:
        return tuple(
            replace(v, buffer=homes[v.buffer].buffer) if v.buffer in homes else v for v in views
        )

    for step in steps:
        step.reads, step.writes = at(step.reads), at(step.writes)
        for sub in step.subs:
            moved(sub, homes)
