"""One inner loop for a run of operations: what they pass to each other stays in registers.

The function has the signature of every loop (nnm_loop): args are the operands in memory, in the order of ``Run.args``.
``dims`` has a second number, of rows, each of which is a run of its own: ``data`` says how far each arg moves from one
to the next, and ``args`` is changed.

The body is made for several vectors at a time, as many as the registers hold, then once more for one vector with a
mask, which does the rest. What the loop mostly meets has a shorter body of its own: columns that are not the label's,
exponentials whose powers of two are normal numbers; it is left, before it stores anything, for the one that does
everything. Registers that are free hold the numbers that the shorter one reads. Each operand is loaded
where it is first read and each result stored where it is made, so that an output may lie in the place of an operand
that is not read after it, as with the loops one after the other.

Operations are those of the vector family (src/_ext/vector), with the same roundings, except that sums run in lanes of
their own.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from nnmath_core._ext import _cpu
from nnmath_core.program.native.assembler import (
    AND,
    DIVIDE,
    GREATER,
    IF_BELOW,
    IF_EQUAL,
    IF_GREATER,
    IF_LESS,
    IF_NOT_EQUAL,
    IF_NOT_GREATER,
    IF_NOT_LESS,
    LESS,
    RAX,
    RCX,
    RDI,
    RDX,
    RSI,
    RSP,
    SAVED,
    Assembler,
    Literal,
    Memory,
    NoRegisterError,
)
from nnmath_core.program.native.avx2 import Avx2
from nnmath_core.program.native.avx512 import Avx512
from nnmath_core.program.native.recipes import DIRECT, FUSED, MASKS, RECIPES, Operand
from nnmath_core.program.native.reductions import Accumulators
from nnmath_core.program.native.run import CHECKS, Instruction, Run, elsewhere, expanded

__all__ = ["generate"]


ASSEMBLERS: dict[str, type[Assembler]] = {"v3": Avx2, "v4": Avx512}
"""By the instruction set of the kernels."""
PLAIN = (4, False), (2, False), (1, False)
SPILLING = (4, False), (2, False), (2, True), (1, True)
"""Vectors at a time, and whether values may wait on the stack: two are faster all the same, and stores past the caches
want whole lines."""


def generate(run: Run, isa: str = "") -> bytes | None:
    """The machine code of a run, None where it needs more registers than there are; ``isa``: default, the kernels'."""
    kind = ASSEMBLERS[isa or _cpu.selected()]
    whole, usual = expanded(run), None
    if kind.usual:
        usual = expanded(run, usual=True)
        if not any(step.name in CHECKS for step in usual.instructions):
            usual = None

    def function(way: tuple[int, bool], keep: Sequence[Literal] = ()) -> _Function:
        return _Function(whole, usual, way, kind(double=run.double), keep)

    for way in SPILLING if kind.spills else PLAIN:
        with suppress(NoRegisterError):
            for keep in function(way).to_keep():
                with suppress(NoRegisterError):
                    return function(way, keep).finished()
    return None


_POINTERS = (
    8,
    9,
    10,
    11,
    *SAVED,
)  # registers of places; RCX and RDX are for what is needed at once
UNCHECKED = 8
"""Bodies that are not tried after two that were not usual, until one is again."""
NEAR = 16384
"""Bytes ahead up to which the first cache is asked, too."""


_Key = tuple[int, str, int]
"""Of a value or an arg: copy of the body, what, number."""


class _Program:
    """Instructions, of which the body is made; where each value is read; whether it is a mask."""

    def __init__(self, instructions: tuple[Instruction, ...]) -> None:
        self.instructions = instructions
        self.is_mask = [step.name in MASKS for step in instructions]
        self.reads: dict[tuple[str, int], list[int]] = {}
        for i, step in enumerate(instructions):
            for what, k in step.reads:
                if what != "number":
                    self.reads.setdefault((what, int(k)), []).append(i)


class _Function:
    """A run, with what is usual of it, written in one way with these numbers in registers."""

    def __init__(
        self, run: Run, usual: Run | None, way: tuple[int, bool], asm: Assembler, keep: Sequence[Literal]
    ) -> None:  # fmt: skip
        self.run = run
        self.unroll, self.spills = way
        self.asm = asm
        self.keep = keep
        self._uses: Counter[Literal] = Counter()  # by the body
        self._spare = {False: len(asm.vectors), True: len(asm.vectors)}  # registers, by ``seldom``
        self.vectors, self.masks = asm.vectors, asm.masks
        self.vector, self.mask, self.free = asm.vector, asm.mask, asm.free
        self.places: dict[_Key, int] = {}  # registers
        self.slots: dict[_Key, int] = {}  # places on the stack
        self._empty: list[int] = []
        self._ended: list[int] = []  # of operands of this instruction, which may read them there
        self._frame = 0
        self._now = -1  # the instruction that is written, and what it reads
        self._needed: set[_Key] = set()
        asm.spill = self._spill
        self.here = self.whole = self.main = _Program(run.instructions)
        self.pointers: dict[int, int] = {}
        self.fixed: dict[int, int] = {}  # registers of spread args
        self.reciprocal: dict[int, int] = {}
        self.labels: dict[tuple[Operand, ...], int] = {}  # general registers: the column of a label
        self.shared: dict[tuple[Operand, ...], int] = {}
        self.accumulators = Accumulators(run, self.unroll)
        self._temporary: list[int] = []
        self.masked = False
        self.seldom = False
        self._failed_at = ""  # where a check leads that fails
        self.failures = -1  # a general register: how many have failed, one after the other
        self.exact = False
        self.past = False
        main = usual or run
        self.checks = usual is not None
        labels = {step.reads for step in run.instructions if step.name == "hot"}
        other = elsewhere(main.instructions) if len(labels) == 1 else None
        self.avoids_label = other is not None
        if usual is not None or other is not None:
            self.main = _Program(self.accumulators.shared(other or main.instructions))

    # ------------------------------------------------------------------------------------------ the whole
    def to_keep(self) -> list[list[Literal]]:
        """Numbers that the body leaves registers for, most read ones first; those that both bodies do; none."""
        self._start()
        self._many("main")
        counts = self._spare[False], min(self._spare.values()), 0
        return [[x for x, _ in self._uses.most_common(n)] for n in dict.fromkeys(counts)]

    def finished(self) -> bytes:
        """The machine code."""
        asm = self.asm
        saved = self._start()
        self._loops()
        self.accumulators.close(self)
        asm.general_number("sub", Memory(RSP, offset=8), 1)
        asm.jump("end of rows", IF_EQUAL)
        asm.general("mov", RDX, Memory(RSP))
        for k in range(len(self.run.args)):
            asm.general("mov", RCX, Memory(RDX, offset=8 * k))
            asm.plain(0x01, RCX, Memory(RDI, offset=8 * k))  # add to memory
        asm.jump("row")
        asm.label("end of rows")
        asm.general_number("add", RSP, 16)
        if asm.spills:
            asm.general("mov", RSP, Memory(RSP, offset=self._frame))
            frame, above = self._patches
            asm.code[frame - 4 : frame] = struct.pack("<i", self._frame + 8)
            asm.code[above - 4 : above] = struct.pack("<i", self._frame)
        asm.code += b"\xc5\xf8\x77"  # vzeroupper
        for r in reversed(saved):
            asm.pop(r)
        asm.code += b"\xc3"
        return asm.finished()

    def _start(self) -> list[int]:
        """All in front of the loops; the registers that are on the stack."""
        asm, run = self.asm, self.run
        streams = [k for k, a in enumerate(run.args) if a.kind in ("stream", "output")]
        pointers = list(_POINTERS)
        for step in run.instructions:
            if step.name == "hot" and step.reads not in self.labels:
                if not pointers:
                    raise NoRegisterError
                self.labels[step.reads] = pointers.pop()
        self.accumulators.count(pointers)
        if self.checks and len(pointers) > len(streams):
            self.failures = pointers.pop()
        self.pointers = dict(zip(streams, pointers, strict=False))
        taken = (
            *self.pointers.values(),
            *self.labels.values(),
            *self.accumulators.counters.values(),
            self.failures,
        )
        saved = [r for r in taken if r in SAVED]
        for r in saved:
            asm.push(r)
        if asm.spills:
            asm.general("mov", RAX, RSP)
            asm.general_number("sub", RSP, 0)
            frame = len(asm.code)
            # a vector's place lies in one line, and so in one page
            asm.general_number("and", RSP, -asm.width)
            asm.plain(0x89, RAX, Memory(RSP))  # mov to memory: above the places
            self._patches = frame, len(asm.code)  # behind numbers that are known at the end
        asm.general("mov", RAX, Memory(RSI, offset=8))
        asm.push(RAX)  # the rows that are left
        asm.push(RCX)  # the steps from one to the next
        asm.general("mov", RSI, Memory(RSI))
        if self.failures >= 0:
            asm.general("xor", self.failures, self.failures, wide=False)
        asm.label("row")
        for k, r in self.pointers.items():
            asm.general("mov", r, Memory(RDI, offset=8 * k))
        self._find_labels()
        self._spread()
        self.accumulators.start(self)
        self._division()
        return saved

    def _find_labels(self) -> None:
        """Which of these columns is the label's, counted from the first; -1: none."""
        asm = self.asm
        for n, ((_, label), (_, ramp)) in enumerate(self.labels):
            r = self.labels[("arg", label), ("arg", ramp)]
            asm.general("mov", RDX, Memory(RDI, offset=8 * int(label)))
            asm.general("mov", r, Memory(RDX))
            asm.general("mov", RDX, Memory(RDI, offset=8 * int(ramp)))
            asm.general("sub", r, Memory(RDX))
            asm.general("cmp", r, RSI)
            asm.jump(f"label {n}", IF_BELOW)
            asm.general_number("mov", r, -1)
            asm.label(f"label {n}")

    def _spread(self) -> None:
        """Load what is one entry for all."""
        asm = self.asm
        for k, a in enumerate(self.run.args):
            if a.kind != "spread":
                continue
            asm.general("mov", RDX, Memory(RDI, offset=8 * k))
            if a.mask:
                self.fixed[k] = self.mask()
                asm.low_byte(RDX, Memory(RDX))
                asm.plain(0xF7, 3, RDX, wide=False)  # neg: carry where it is not 0
                asm.general("sbb", RDX, RDX, wide=False)
                asm.from_general(self.fixed[k], RDX)
            else:
                self.fixed[k] = self.vector()
                asm.broadcast(self.fixed[k], Memory(RDX))

    def _division(self) -> None:
        """Reciprocals of what divides all entries; divisors without an exact enough one go by the slow way."""
        asm = self.asm
        far = 1e150 if self.run.double else 1e18
        for step in self.run.instructions:
            if step.name != "divide" or step.reads[1][0] != "arg" or step.reads[0][0] == "number":
                continue
            k = int(step.reads[1][1])
            if k not in self.fixed or k in self.reciprocal:
                continue
            r, size, k1 = self.vector(), self.vector(), self.mask()
            asm.broadcast(r, self.number(1.0))
            asm.real(DIVIDE, r, r, self.fixed[k])
            asm.real(AND, size, self.fixed[k], self.bits(~self.sign))
            asm.compare(k1, size, self.number(far), LESS)
            asm.compare(k1, size, self.number(1 / far), GREATER, mask=k1)
            asm.to_general(RDX, k1)
            asm.general_number("test", RDX, 1, wide=False)
            asm.jump("slow", IF_EQUAL)
            self.free(size)
            self.masks.append(k1)
            self.reciprocal[k] = r

    def _loops(self) -> None:
        asm, args = self.asm, self.run.args
        past = [k for k, a in enumerate(args) if a.kind == "output" and a.past]
        if past:
            asm.general("xor", RDX, RDX)
            for k in past:
                asm.general("or", RDX, self._pointer(k))
            asm.general_number("test", RDX, 63, wide=False)
            asm.jump("near", IF_NOT_EQUAL)
            self.past = True
            self._many("past")  # machine.c has the fence behind it
            asm.jump("rest")
            self.past = False
            asm.label("near")
        self._many("main")
        asm.label("rest")
        self._one("tail")
        if self.reciprocal:
            asm.jump("end")
            asm.label("slow")
            self.exact = True
            asm.general("xor", RAX, RAX, wide=False)
            self._one("slow tail")
            asm.label("end")

    def _many(self, name: str) -> None:
        """As many vectors as there are, ``unroll`` at a time."""
        asm, step = self.asm, self.unroll * self.asm.lanes
        asm.general("xor", RAX, RAX, wide=False)
        asm.general("mov", RDX, RSI)
        asm.general_number("sub", RDX, step)  # the last place to begin at
        asm.jump(f"{name} end", IF_LESS)
        with self._kept():
            asm.code += bytes([0x90] * (-len(asm.code) % 32))
            asm.label(name)
            self._failed_at = f"{name} failed"
            if self.avoids_label:
                (label,) = self.labels.values()
                asm.general("mov", RCX, label)
                asm.general("sub", RCX, RAX)
                asm.general_number("cmp", RCX, step)
                asm.jump(f"{name} all", IF_BELOW)
            self._body(self.main, masked=False)
            if self.failures >= 0:
                asm.general("xor", self.failures, self.failures, wide=False)
            asm.label(f"{name} next")
            asm.general_number("add", RAX, step)
            asm.general("cmp", RAX, RDX)
            asm.jump(name, IF_NOT_GREATER)
            if self.main is not self.whole:
                asm.jump(f"{name} end")
                self._all(name, step)
        asm.label(f"{name} end")

    def _all(self, name: str, step: int) -> None:
        """The body that does everything: for a label and where a check fails; after two, some without a check."""
        asm, failures = self.asm, self.failures
        asm.label(self._failed_at)
        if failures >= 0:
            asm.general_number("add", failures, 1)
        asm.label(f"{name} all")
        self.seldom = True
        self._body(self.whole, masked=False)
        self.seldom = False
        if failures >= 0:
            asm.general_number("cmp", failures, 2)
            asm.jump(f"{name} next", IF_LESS)
            asm.general_number("add", failures, 1)
            asm.general_number("add", RAX, step)
            asm.general("cmp", RAX, RDX)
            asm.jump(f"{name} end", IF_GREATER)
            asm.general_number("cmp", failures, 2 + UNCHECKED)
            asm.jump(f"{name} all", IF_LESS)
            asm.general_number("mov", failures, 1)  # one that fails is the second again
            asm.jump(name)
        else:
            asm.jump(f"{name} next")

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """With numbers in registers, where the instructions of a loop find them."""
        asm = self.asm
        with asm.local():
            for x in self.keep:
                r = self.vector()
                asm.constant(r, x)
                asm.kept[x] = r
            yield
            asm.kept.clear()

    def _one(self, name: str) -> None:
        """One vector at a time, the last with a mask."""
        asm = self.asm
        asm.general("cmp", RAX, RSI)
        asm.jump(f"{name} end", IF_NOT_LESS)
        asm.begin_tail()
        asm.label(name)
        asm.general("mov", RDX, RSI)
        asm.general("sub", RDX, RAX)
        asm.set_tail()
        self._body(self.whole, masked=True)
        asm.general_number("add", RAX, asm.lanes)
        asm.general("cmp", RAX, RSI)
        asm.jump(name, IF_LESS)
        asm.end_tail()
        asm.label(f"{name} end")

    def _body(self, program: _Program, *, masked: bool) -> None:
        """All instructions, for each of the vectors."""
        self.masked, self.here = masked, program
        self.places, self.slots, self._empty, self._ended = {}, {}, [], []
        asm, copies = self.asm, range(1 if masked else self.unroll)
        uses = asm.uses()
        asm.fewest = len(self.vectors)
        if not masked:
            self._ask_ahead()
        with asm.local():
            for i, step in enumerate(program.instructions):
                self._now = i
                self._empty += self._ended
                self._ended.clear()
                self._needed = {
                    (u, what, int(k)) for u in copies for what, k in step.reads if what != "number"
                }
                if step.into >= 0 or step.name in CHECKS:
                    self._together(i, step, copies)
                    continue
                for u in copies:
                    self._instruction(i, step, u)
                if self.shared:
                    self.vectors += self.shared.values()
                    self.shared.clear()
        self._now = -1
        if not masked:
            self._spare[self.seldom] = min(self._spare[self.seldom], asm.fewest)
        if not masked and not self.seldom:
            self._uses += asm.uses() - uses

    def _together(self, i: int, step: Instruction, copies: range) -> None:
        """What is one for all vectors of the body: reductions and checks."""
        self._temporary = []
        if step.into >= 0:
            self.accumulators.add(self, step, len(copies))
        else:
            found = [self.operand(u, x) for x in step.reads for u in copies]
            self.asm.unless(step.name, found, self._failed_at)
        for u in copies:
            self._release(i, step, u)
        self.vectors += self._temporary

    def _spill(self) -> int:
        """The register of what is read last of all that this instruction does not read; it waits on the stack."""
        allowed = self.spills or self.masked or self.seldom
        if self._now < 0 or not (allowed and self.asm.spills):
            raise NoRegisterError
        waiting = [key for key in self.places if key not in self._needed]
        if not waiting:
            raise NoRegisterError
        key = max(
            waiting, key=lambda key: next(i for i in self.here.reads[key[1:]] if i > self._now)
        )
        r = self.places.pop(key)
        if key not in self.slots:
            if not self._empty:
                self._empty.append(self._frame)
                self._frame += self.asm.width
            self.slots[key] = self._empty.pop()
            self.asm.store(self._on_stack(key), r)
        return r

    def _on_stack(self, key: _Key) -> Memory:
        return Memory(RSP, offset=16 + self.slots[key])

    def _ask_ahead(self) -> None:
        """Ask for what later vectors read and write: the hardware does so by itself within a page alone."""
        for k, a in enumerate(self.run.args):
            if not a.far or k not in self.pointers or (self.past and a.past):
                continue
            opcode = 0x0D if a.kind == "output" else 0x18  # to be written, to be read
            cache = 1 if a.far <= NEAR or a.kind == "output" else 2
            for u in range(self.unroll):
                at = self._at(k, u)
                at = Memory(at.base, at.index, at.scale, at.offset + a.far)
                self.asm.plain(opcode, cache, at, wide=False, escape=b"\x0f")

    # ------------------------------------------------------------------------------------------ operands
    @property
    def sign(self) -> int:
        """The bits of the sign, of one lane."""
        return 1 << (63 if self.run.double else 31)

    def bits(self, bits: int) -> Literal:
        return Literal(bits & (2 * self.sign - 1))

    def hot(self, label: Operand, column: Operand) -> int:
        """In all lanes, which column of this step is the label's."""
        key = label, column
        if key not in self.shared:
            self.shared[key] = self.vector()
            self.asm.general("mov", RCX, self.labels[key])
            self.asm.general("sub", RCX, RAX)
            self.asm.spread(self.shared[key], RCX)
        return self.shared[key]

    def columns(self, u: int) -> Literal:
        """The numbers of the columns of a vector."""
        return self.asm.columns(u)

    def number(self, x: float) -> Literal:
        return self.asm.number(x)

    def _pointer(self, k: int) -> int:
        if k in self.pointers:
            return self.pointers[k]
        self.asm.general("mov", RCX, Memory(RDI, offset=8 * k))
        return RCX

    def _at(self, k: int, u: int) -> Memory:
        size = 1 if self.run.args[k].mask else self.asm.size
        return Memory(self._pointer(k), RAX, size, u * self.asm.lanes * size)

    def operand(self, u: int, x: Operand, *, register: bool = True) -> int | Memory | Literal:
        """The register of an operand; a number, or what is on the stack, may stay where it is."""
        what, k = x
        if what == "number":
            if not register:
                return self.number(k)
            kept = self.asm.register_of(self.number(k))
            if kept is not None:
                return kept
            r = self.vector()
            self.asm.broadcast(r, self.number(k))
            self._temporary.append(r)
            return r
        key = (u, what, int(k))
        if key in self.places:
            return self.places[key]
        if key in self.slots:
            at = self._on_stack(key)
            if not register:
                return at
            r = self.places[key] = self.vector()
            self.asm.load(r, at)
            return r
        if int(k) in self.fixed and what == "arg":
            return self.fixed[int(k)]
        assert what == "arg"
        k = int(k)
        at = self._at(k, u)
        if self.run.args[k].mask:
            r = self.mask()
            self.asm.load_bools(r, at, tail=self.masked)
        else:
            r = self.vector()
            self.asm.load(r, at, tail=self.masked)
        self.places[key] = r
        return r

    def _release(self, i: int, step: Instruction, u: int) -> None:
        """Free what is not read after an instruction."""
        for what, k in dict.fromkeys(step.reads):
            if what == "number" or not self._ends(i, (what, k)):
                continue
            key = u, what, int(k)
            if key in self.slots:
                self._ended.append(self.slots.pop(key))
            r = self.places.pop(key, None)
            if r is not None:
                mask = self.run.args[int(k)].mask if what == "arg" else self.here.is_mask[int(k)]
                (self.masks if mask else self.vectors).append(r)

    def _instruction(self, i: int, step: Instruction, u: int) -> None:
        self._temporary = []
        if step.name in DIRECT:
            a = self.operand(u, step.reads[0])
            b = self.operand(u, step.reads[1], register=False)
            self._release(i, step, u)
            out = self.vector()
            self.asm.real(DIRECT[step.name], out, a, b)  # type: ignore[arg-type]
        elif step.name in FUSED:
            out = self._fused(i, step, u)
        else:
            out = self.mask() if self.here.is_mask[i] else self.vector()
            RECIPES[step.name](self, u, out, *step.reads)
            self._release(i, step, u)
        self.vectors += self._temporary
        for k in step.stores:
            self._store(k, u, out)
        if ("value", i) in self.here.reads:
            self.places[u, "value", i] = out
        else:
            (self.masks if self.here.is_mask[i] else self.vectors).append(out)

    def _ends(self, i: int, x: Operand) -> bool:
        """Whether an operand is not read after an instruction."""
        return x[0] == "number" or self.here.reads[x[0], int(x[1])][-1] == i

    def _fused(self, i: int, step: Instruction, u: int) -> int:
        """Write a b + c, in the register of the operand that ends here, or in a copy."""
        adds, multiplies = FUSED[step.name]
        a, b, c = step.reads
        last: int | Memory | Literal
        if c[0] == "number":
            if self._ends(i, b) and not self._ends(i, a):
                a, b = b, a
            kept, first, last, opcode = a, self.operand(u, b), self.number(c[1]), multiplies
        else:
            kept, first, last, opcode = (
                c,
                self.operand(u, a),
                self.operand(u, b, register=False),
                adds,
            )
        r = self.operand(u, kept)
        assert isinstance(r, int)
        assert isinstance(first, int)
        self._release(i, step, u)
        if r in self._temporary:
            self._temporary.remove(r)
            out = r
        elif r in self.vectors:
            self.asm.take(r)
            out = r
        else:
            # not one of those that are read below
            out = next((v for v in reversed(self.vectors) if v not in (first, last)), -1)
            if out < 0:
                out = self._spill()
            else:
                self.asm.take(out)
            self.asm.move(out, r)
        if opcode == multiplies and b == kept:
            first = out  # a square
        self.asm.fused(opcode, out, first, last)
        return out

    def _store(self, k: int, u: int, r: int) -> None:
        asm, at = self.asm, self._at(k, u)
        if self.run.args[k].mask:
            asm.store_bools(at, r, tail=self.masked)
        elif self.past and self.run.args[k].past:
            asm.stream(at, r)
        else:
            asm.store(at, r, tail=self.masked)
