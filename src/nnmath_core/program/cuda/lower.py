"""From a Program to the steps of a device: kernels, matrix products, optimizers, and what runs by definition.

The rules are those of the CPU (`program.lower`). One whose steps a device can run is taken; what another one has
emitted is taken back, and its equation runs as it does outside of a plan, by CuPy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nnmath_core._ext._autodiff import Var
from nnmath_core.autodiff.control.subprogram import sub_programs
from nnmath_core.device.products import gemm_can
from nnmath_core.program import loops
from nnmath_core.program.builder import Buffer, Builder, Step, View
from nnmath_core.program.cuda.again import made_again, units
from nnmath_core.program.cuda.codegen import generated
from nnmath_core.program.cuda.expressions import c_type, expression, folds
from nnmath_core.program.fuse import Group, node_of
from nnmath_core.program.ir import Equation
from nnmath_core.program.lower.bodies import needed_steps
from nnmath_core.program.lower.layouts import TYPES
from nnmath_core.program.lower.rules import rule_of
from nnmath_core.program.nodes import Map, Reduction
from nnmath_core.program.peephole import joined

__all__ = ["Definition", "DeviceBuilder", "lower_equations", "scheduled"]

_PRODUCTS = tuple(TYPES[name] for name in ("f4", "f8", "c8", "c16"))


class Definition:
    """An equation that runs as it does outside of a plan: its operands by position, views or what was given."""

    __slots__ = ("equation", "operands")

    def __init__(self, equation: Equation, operands: tuple[Any, ...]) -> None:
        self.equation, self.operands = equation, operands


class DeviceBuilder(Builder):
    """What lowering rules work with; copies are nodes, so that they join what reads them."""

    def copy(self, source: View, target: View) -> None:
        """Copy a view into another one of its shape and dtype."""
        if not source.size:
            return
        if target.whole:
            loop = loops.copy_bytes(source.dtype.itemsize)
            self.emit("node", [source], [target], object=Map(loop), note="copy")
        else:
            self.emit("copy", [source], [target], note="copy")

    def definition(self, e: Equation) -> None:
        """Run an equation by definition."""
        operands = tuple(self.views[x] if isinstance(x, Var) else x for x in e.operands)
        reads = [v for v in operands if isinstance(v, View)]
        writes = [self.new(v) for v in e.outputs]
        self.emit(
            "definition", reads, writes, object=Definition(e, operands), note=e.primitive.name
        )


def lower_equations(b: DeviceBuilder, equations: Iterable[Equation]) -> None:
    """Emit the steps of equations, by the rules whose steps the device has, or by definition."""
    for e in equations:
        if any(map(sub_programs, e.params.values())):
            b.definition(e)
            continue
        steps, views, known = len(b.steps), len(b.views), len(b.known)
        rule = rule_of(e.primitive)
        done = rule is not None and rule(b, e) is not NotImplemented
        if done and all(map(_runs, b.steps[steps:])):
            continue
        del b.steps[steps:]
        b.forget(views, known)
        b.definition(e)


def _runs(step: Step) -> bool:
    """Whether the device has a step."""
    if step.kind == "node":
        reads, out = [v.dtype for v in step.reads], step.writes[0].dtype
        what = step.object
        if isinstance(what, Reduction):
            return folds(what, reads)
        return expression(what.loop, reads, out, ["x"] * len(reads)) is not None
    if step.kind == "gemm":
        return step.ints[0] in _PRODUCTS and gemm_can(*step.ints[3:11])
    if step.kind == "copy":
        return c_type(step.reads[0].dtype) is not None
    return step.kind == "optimizer"


def scheduled(b: DeviceBuilder, kept: set[Buffer]) -> list[Step]:
    """The steps with their nodes gathered into kernels; what nobody reads is left out."""
    order = units(made_again(joined(needed_steps(b.steps, kept), kept), kept), kept)
    readers: dict[Buffer, list[Any]] = {}
    for unit in order:
        for step in [m.step for m in unit.members] if isinstance(unit, Group) else [unit]:
            for v in step.reads:
                readers.setdefault(v.buffer, []).append(unit)
    out: list[Step] = []
    for unit in order:
        if isinstance(unit, Group):
            made = [m.write.view.buffer for m in unit.members]
            outside = {
                x for x in made if x in kept or any(r is not unit for r in readers.get(x, ()))
            }
            if unit.size:
                out.append(kernel_step(unit, outside))
        else:
            out.append(copied(unit) if unit.kind == "copy" else unit)
    return out


def kernel_step(g: Group, outside: set[Buffer]) -> Step:
    """The launch of a group's kernel."""
    k = generated(g, outside)
    cost = sum(1.0 if m.folded is not None else m.step.object.loop.cost for m in g.members)
    return Step(
        "kernel",
        (*k.reads, *k.numbers),
        tuple(k.writes),
        (),
        (),
        object=k,
        scratch=tuple(k.scratch),
        inplace=tuple(k.inplace),
        flops=g.size * cost,
        note=" ".join(m.step.note for m in g.members),
    )


def copied(step: Step) -> Step:
    """A copy of a view as a kernel of its own."""
    source, target = step.reads[0], step.writes[0]
    loop = loops.copy_bytes(source.dtype.itemsize)
    node = node_of(Step("node", (source,), (target,), (), (), object=Map(loop), note="copy"), 0)
    return kernel_step(Group(node.space, None, [node]), {target.buffer})
