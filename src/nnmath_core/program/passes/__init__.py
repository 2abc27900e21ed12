"""Passes over Programs, and their order.

Each is a function from a program to a program and the number of its changes; programs run by definition after each.
"""

from __future__ import annotations

from typing import Any

from nnmath_core.autodiff.control.subprogram import SubProgram, sub_programs
from nnmath_core.program.cost import program_cost
from nnmath_core.program.ir import Equation
from nnmath_core.program.passes.arithmetic import with_arithmetic_simplified
from nnmath_core.program.passes.bases import with_bases_apart
from nnmath_core.program.passes.blocks import with_blocks_apart
from nnmath_core.program.passes.common import with_common_subexpressions
from nnmath_core.program.passes.contraction import with_contractions_ordered
from nnmath_core.program.passes.dead import without_dead_code
from nnmath_core.program.passes.fold import with_constants_folded
from nnmath_core.program.passes.products import with_products_tidied
from nnmath_core.program.passes.rewrite import Body, Record
from nnmath_core.program.passes.views import with_views_joined

__all__ = ["PASSES", "Record", "optimize"]

PASSES = {
    "dead code": without_dead_code,
    "common subexpressions": with_common_subexpressions,
    "constant folding": with_constants_folded,
    "shape operations": with_views_joined,
    "arithmetic": with_arithmetic_simplified,
    "products": with_products_tidied,
}
"""What is repeated until nothing changes."""

MOST_ROUNDS = 12
MOST_ORDERED = 300
"""Equations: in longer programs the products of terms, which are in order, are not ordered again: it takes seconds."""


def optimize(program: Any) -> tuple[Any, list[Record]]:
    """A program that does the same with less, and records of what changed.

    Parameters
    ----------
    program : Program

    Returns
    -------
    program : Program
        Its values are those of the given one to rounding.
    records : list of Record
        One for each pass that changed something, in their order.
    """
    done: dict[int, tuple[SubProgram, SubProgram]] = {}
    program = _with_sub_programs(program, done)
    program, records = _tidied(program)
    before = program_cost(program.equations)
    best, notes, later = _ordered(program)
    apart, parts = with_blocks_apart(program)
    if parts:
        other = _ordered(_tidied(apart)[0])
        if program_cost(other[0].equations).seconds < program_cost(best.equations).seconds:
            best, notes, later = other
            notes = [
                *notes,
                f"{parts} operations on concatenations of outer products, part by part",
            ]
    apart, note = with_bases_apart(program)
    if note:
        apart, _ = _tidied(apart)
        chains = best is not program and len(apart.equations) <= MOST_ORDERED
        other = _ordered(apart) if chains else (apart, [], [])
        if program_cost(other[0].equations).seconds < program_cost(best.equations).seconds:
            best, notes, later = other
            notes = [*notes, note]
    if best is not program:
        after = program_cost(best.equations)
        flops, moved = (before.flops, after.flops), (before.bytes, after.bytes)
        records += [*later, Record("contraction order", len(notes), flops, moved, tuple(notes))]
    return best, records


def _ordered(program: Any) -> tuple[Any, list[str], list[Record]]:
    """The program with chains in their cheapest order, tidied again; what changed; and records of the tidying."""
    ordered, notes = with_contractions_ordered(program)
    if not notes:
        return program, [], []
    ordered, later = _tidied(ordered)
    return ordered, notes, later


def _tidied(program: Any) -> tuple[Any, list[Record]]:
    """The repeated passes, to the fixed point."""
    start = program_cost(program.equations)
    total = dict.fromkeys(PASSES, 0)
    spent = {name: [0.0, 0.0] for name in PASSES}
    for _ in range(MOST_ROUNDS):
        some = False
        for name, f in PASSES.items():
            program, changes = f(program)
            if changes:
                end = program_cost(program.equations)
                spent[name][0] += end.flops - start.flops
                spent[name][1] += end.bytes - start.bytes
                total[name] += changes
                start, some = end, True
        if not some:
            break
    records = []
    flops, moved = (
        start.flops - sum(s[0] for s in spent.values()),
        start.bytes - sum(s[1] for s in spent.values()),
    )
    for name, changes in total.items():
        if changes:
            after = flops + spent[name][0], moved + spent[name][1]
            records.append(Record(name, changes, (flops, after[0]), (moved, after[1])))
            flops, moved = after
    return program, records


# ---------------------------------------------------------------------------------------------- sub-programs
def _with_sub_programs(program: Any, done: dict[int, tuple[SubProgram, SubProgram]]) -> Any:
    """The program with simpler sub-programs; each is done once, however often it occurs."""
    if not any(sub_programs(p) for e in program.equations for p in e.params.values()):
        return program
    equations = []
    for e in program.equations:
        params = {k: _simpler(p, done) for k, p in e.params.items()}
        if any(params[k] is not p for k, p in e.params.items()):
            e = Equation(e.primitive, e.operands, e.outputs, params)
        equations.append(e)
    return program.replaced(equations=tuple(equations))


def _simpler(p: Any, done: dict[int, tuple[SubProgram, SubProgram]]) -> Any:
    subs = sub_programs(p)
    if not subs:
        return p
    new = tuple(_simpler_one(s, done) for s in subs)
    return new if isinstance(p, tuple) else new[0]


def _simpler_one(s: SubProgram, done: dict[int, tuple[SubProgram, SubProgram]]) -> SubProgram:
    if id(s) not in done:
        body = Body(
            tuple(Equation(*e) for e in s.equations),
            s.inputs,
            s.constants,
            s.outputs,
            dict(s.lines),
        )
        new, _ = _tidied(_with_sub_programs(body, done))
        recorded = [(e.primitive, e.operands, e.outputs, e.params) for e in new.equations]
        done[id(s)] = (
            s,
            s if new is body else s.replaced(recorded, new.constants, new.outputs, new.lines),
        )
    return done[id(s)][1]
