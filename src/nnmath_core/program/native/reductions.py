"""Accumulators of a generated loop: how entries go into them, and how they are brought to memory in the end.

Sums have a register for each vector of the body, and are made in double at the end. Maxima and minima are NaN where one
of the entries is: masks remember which lanes have seen none. How many entries are 1 is counted by a general register,
where those that are not 1 are summed, too.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from nnmath_core.program.native.assembler import (
    ADD,
    EQUAL,
    IF_EQUAL,
    MAX,
    MIN,
    MULTIPLY,
    NOT_EQUAL,
    ORDERED,
    RCX,
    RDI,
    RDX,
    RSI,
    SUBTRACT,
    UNORDERED,
    Memory,
)
from nnmath_core.program.native.recipes import Operand
from nnmath_core.program.native.run import Instruction, Run, without

__all__ = ["Accumulators"]


class Accumulators:
    """Those of a run, in ``unroll`` registers each. Methods get the function that is written, ``f``."""

    def __init__(self, run: Run, unroll: int) -> None:
        self.run = run
        self.unroll = unroll
        self.registers: dict[int, list[int]] = {}
        self.ordered: dict[int, int] = {}  # masks of extremes: lanes that have seen no NaN
        self.together: dict[int, tuple[int, ...]] = {}  # extremes that are one, by its accumulator
        self.counters: dict[int, int] = {}  # general registers: how many entries are not 1
        self._beside: dict[int, int] = {}  # by the sum of those

    def count(self, registers: list[int]) -> None:
        """Take general registers for numbers of ones."""
        others = {s.reads: s.into for s in self.run.instructions if s.name == "sum_others"}
        for step in self.run.instructions:
            if step.name == "sum_ones" and step.reads in others and registers:
                self._beside[others[step.reads]] = self.counters[step.into] = registers.pop()

    def shared(self, instructions: tuple[Instruction, ...]) -> tuple[Instruction, ...]:
        """With one accumulator for extremes of the same: the largest of all, and that of all but the label's."""
        groups: dict[tuple[str, Operand], list[int]] = {}
        for step in instructions:
            if step.into >= 0 and step.name in ("max", "min"):
                groups.setdefault((step.name, step.reads[0]), []).append(step.into)
        found = {}
        for ks in groups.values():
            if len(ks) > 1:
                found[ks[0]] = len(self.run.args) + len(self.together)
                self.together[found[ks[0]]] = tuple(ks)
        rest = {k for ks in self.together.values() for k in ks[1:]}
        made = [replace(step, into=found.get(step.into, step.into)) for step in instructions]
        return without(made, {i for i, step in enumerate(instructions) if step.into in rest})

    def start(self, f: Any) -> None:
        """Take registers and set them to what they begin with."""
        asm = f.asm
        for k, a in enumerate(self.run.args):
            if k in self.counters:
                asm.general("xor", self.counters[k], self.counters[k], wide=False)
                continue
            if a.kind not in ("sum", "wide", "max", "min"):
                continue
            self.registers[k] = [f.vector() for _ in range(self.unroll)]
            if a.kind in ("sum", "wide"):
                for r in self.registers[k]:
                    asm.real(0x57, r, r, r)  # xor
                continue
            self.ordered[k] = f.mask()
            asm.general("mov", RDX, Memory(RDI, offset=8 * k))
            first = self.registers[k][0]
            asm.broadcast(first, Memory(RDX))
            for r in self.registers[k][1:]:
                asm.move(r, first)
            asm.compare(self.ordered[k], first, first, ORDERED)
        for k, (one, *_) in self.together.items():
            self.registers[k] = [f.vector() for _ in range(self.unroll)]
            begin = f.number(-math.inf if self.run.args[one].kind == "max" else math.inf)
            for r in self.registers[k]:
                asm.broadcast(r, begin)

    # ------------------------------------------------------------------------------------------ in the body
    def add(self, f: Any, step: Instruction, copies: int) -> None:
        """Write what a reduction does with the vectors of the body."""
        if step.name in ("max", "min"):
            self._extremes(f, step, copies)
            return
        for u in range(copies):
            self._sum(f, step, u)

    def _extremes(self, f: Any, step: Instruction, copies: int) -> None:
        """One comparison looks for a NaN in two vectors."""
        asm, k = f.asm, step.into
        found = [f.operand(u, step.reads[0]) for u in range(copies)]
        opcode = MAX if step.name == "max" else MIN
        for acc, x in zip(self.registers[k], found, strict=False):
            if f.masked:
                asm.accumulate(opcode, acc, x, asm.tail)
            else:
                asm.real(opcode, acc, acc, x)
        good = f.mask()
        if f.masked:
            asm.compare(good, found[0], found[0], UNORDERED, mask=asm.tail)
            asm.logical("and not", self.ordered[k], good, self.ordered[k])
        else:
            for u in range(0, copies, 2):
                x, y = found[u], found[min(u + 1, copies - 1)]
                asm.compare(good, x, y, ORDERED, mask=good if u else None)
            for one in self.together.get(k, (k,)):
                asm.logical("and", self.ordered[one], self.ordered[one], good)
        f.masks.append(good)

    def _sum(self, f: Any, step: Instruction, u: int) -> None:
        asm = f.asm
        if step.into in self.counters:  # with those that are not 1
            return
        acc = self.registers[step.into][u]
        name = step.name
        x = f.operand(u, step.reads[0])
        if name in ("sum", "sum_no_ones"):
            self._add(f, acc, x)
            if step.into in self._beside:
                asm.general_number("add", self._beside[step.into], asm.lanes)
        elif name == "sum_wide_squares" and not self.run.double:
            t, low = f.vector(), f.vector()
            if f.masked:
                asm.keep(t, asm.tail, x)
            else:
                asm.move(t, x)
            asm.widen(low, t)
            asm.packed(0xB8, acc, low, low, table=2, prefix=1, wide=True)
            asm.half(t, t, asm.halvings[0])
            asm.widen(t, t)
            asm.packed(0xB8, acc, t, t, table=2, prefix=1, wide=True)
            f.vectors += [t, low]
        elif name in ("sum_squares", "sum_products", "sum_wide_squares"):
            y = x if name != "sum_products" else f.operand(u, step.reads[1])
            t = f.vector()
            asm.real(MULTIPLY, t, x, y)
            self._add(f, acc, t)
            f.free(t)
        else:
            chosen = f.mask()
            predicate = EQUAL if name == "sum_ones" else NOT_EQUAL
            tail = asm.tail if f.masked else None
            asm.compare(chosen, x, f.number(1.0), predicate, mask=tail)
            asm.accumulate(ADD, acc, x, chosen)
            if step.into in self._beside:
                asm.to_general(RCX, chosen)
                asm.plain(0xB8, RCX, RCX, wide=False, escape=b"\xf3\x0f")  # popcnt
                asm.plain(0x03, self._beside[step.into], RCX)  # add
            f.masks.append(chosen)

    def _add(self, f: Any, acc: int, x: int) -> None:
        if f.masked:
            f.asm.accumulate(ADD, acc, x, f.asm.tail)
        else:
            f.asm.real(ADD, acc, acc, x)

    # ------------------------------------------------------------------------------------------ the end
    def close(self, f: Any) -> None:
        """Bring lanes together, and what was accumulated to its place."""
        asm = f.asm
        for k, ones in self.together.items():
            opcode = MAX if self.run.args[ones[0]].kind == "max" else MIN
            for one in ones:
                for a, x in zip(self.registers[one], self.registers[k], strict=True):
                    asm.real(opcode, a, a, x)
            f.vectors += self.registers.pop(k)
        for k, counter in self.counters.items():
            x, t = f.vector(), f.vector()
            asm.general("mov", RCX, RSI)
            asm.general("sub", RCX, counter)
            asm.packed(0x2A, x, x, RCX, prefix=3, wide=True, length=0)  # a number of an integer
            asm.general("mov", RDX, Memory(RDI, offset=8 * k))
            self._to_memory(f, x, t)
            f.vectors += [x, t]
        for k, registers in self.registers.items():
            kind = self.run.args[k].kind
            opcode = {"sum": ADD, "wide": ADD, "max": MAX, "min": MIN}[kind]
            wide = kind == "wide" or f.run.double
            first, t = registers[0], f.vector()
            for width in (2, 1):
                if len(registers) > width:
                    for a, b in zip(registers[:width], registers[width : 2 * width], strict=True):
                        asm.packed(opcode, a, a, b, prefix=int(wide), wide=wide)
            asm.general("mov", RDX, Memory(RDI, offset=8 * k))
            if opcode == ADD:
                self._close_sum(f, first, t, wide)
            else:
                self._close_extreme(f, k, opcode, first, t)
            f.free(t)

    def _close_sum(self, f: Any, x: int, t: int, wide: bool) -> None:
        asm = f.asm

        def double(opcode: int, out: int, a: int, b: int, length: int) -> None:
            asm.packed(opcode, out, a, b, prefix=1, wide=True, length=length)

        if not wide:  # the lanes of float32 are twice as many of float64
            asm.half(t, x, asm.halvings[0])
            asm.widen(t, t)
            asm.widen(x, x)
            double(ADD, x, x, t, -1)
        for length in asm.halvings:
            asm.half(t, x, length)
            double(ADD, x, x, t, length)
        double(0x15, t, x, x, 0)  # unpack the upper number
        asm.packed(ADD, x, x, t, prefix=3, wide=True, length=0)
        self._to_memory(f, x, t)

    def _to_memory(self, f: Any, x: int, t: int) -> None:
        """{high, low} += x without loss: s = h + x, b = s - h, lost = (h - (s - b)) + (x - b)."""
        asm = f.asm

        def single(opcode: int, out: int, a: int, b: int) -> None:
            asm.packed(opcode, out, a, b, prefix=3, wide=True, length=0)

        h, s, b = f.vector(), f.vector(), f.vector()
        finite = f.mask()
        asm.packed(0x10, h, 0, Memory(RDX), prefix=3, wide=True, length=0)
        single(ADD, s, h, x)
        single(SUBTRACT, b, s, h)
        single(SUBTRACT, x, x, b)
        single(SUBTRACT, b, s, b)
        single(SUBTRACT, h, h, b)
        single(ADD, x, x, h)
        asm.packed(0x11, s, 0, Memory(RDX), prefix=3, wide=True, length=0)
        single(SUBTRACT, t, s, s)  # 0, or NaN where the sum is not finite
        asm.packed(0xC2, finite, t, t, prefix=3, wide=True, length=0, immediate=EQUAL)
        asm.packed(0x10, h, 0, Memory(RDX, offset=8), prefix=3, wide=True, length=0)
        asm.add_one(h, x, finite)
        asm.packed(0x11, h, 0, Memory(RDX, offset=8), prefix=3, wide=True, length=0)
        f.vectors += [h, s, b]
        f.masks.append(finite)

    def _close_extreme(self, f: Any, k: int, opcode: int, x: int, t: int) -> None:
        asm = f.asm
        for length in asm.halvings:
            asm.half(t, x, length)
            asm.real(opcode, x, x, t)
        asm.packed(0x15, t, x, x, prefix=1, wide=True, length=0)
        asm.real(opcode, x, x, t)
        if not f.run.double:
            asm.packed(0x16, t, 0, x, prefix=2, length=0)  # the odd lanes
            asm.real(opcode, x, x, t)
        asm.broadcast(t, f.number(float("nan")))
        asm.to_general(RCX, self.ordered[k])
        asm.general_number("cmp", RCX, (1 << asm.lanes) - 1, wide=False)
        asm.jump(f"number {k}", IF_EQUAL)
        asm.move(x, t)
        asm.label(f"number {k}")
        prefix = 3 if f.run.double else 2
        asm.packed(0x11, x, 0, Memory(RDX), prefix=prefix, wide=f.run.double, length=0)
