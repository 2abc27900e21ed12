"""Instructions of AVX-512: 32 vectors of 64 bytes, and masks in registers of their own (1 to 7; 7 is the tail's)."""

from __future__ import annotations

from typing import ClassVar

from nnmath_core.program.native.assembler import (
    ADD,
    IF_LESS,
    NOT_LESS,
    RCX,
    RDX,
    Assembler,
    Literal,
    Memory,
    Operand,
)

__all__ = ["Avx512"]

_LOGICAL = {"and": 0x41, "and not": 0x42, "or": 0x45, "xor": 0x47}


class Avx512(Assembler):
    """Bytes of one function with vectors of 64 bytes."""

    width: ClassVar[int] = 64
    spills: ClassVar[bool] = False
    usual: ClassVar[bool] = False  # one instruction scales, whatever the power
    halvings: ClassVar[tuple[int, ...]] = (1, 0)
    tail = 7

    def __init__(self, *, double: bool) -> None:
        super().__init__(double=double)
        self.vectors = list(range(32))
        self.masks = list(range(1, 7))

    def evex(
        self,
        opcode: int,
        reg: int,
        vector: int,
        rm: Operand,
        *,
        table: int = 1,
        prefix: int = 0,
        wide: bool = False,
        mask: int | None = None,
        zero: bool = False,
        length: int = 2,
        immediate: int | None = None,
        spread: bool | None = None,
    ) -> None:
        """One instruction; ``table`` 1, 2, 3: 0F, 0F38, 0F3A; ``prefix`` 0 to 3: none, 66, F3, F2.

        ``spread``: the operand in memory is one entry for all lanes, as literals are.
        """
        rm = self._where(rm)
        x, b = self._extension(rm)
        spread = (isinstance(rm, Literal) and not rm.lanes) if spread is None else spread
        p0 = (~reg >> 3 & 1) << 7 | (1 - x) << 6 | (1 - b) << 5 | (~reg >> 4 & 1) << 4 | table
        p1 = wide << 7 | (~vector & 15) << 3 | 4 | prefix
        p2 = zero << 7 | length << 5 | spread << 4 | (~vector >> 4 & 1) << 3 | (mask or 0)
        self.code += bytes([0x62, p0, p1, p2, opcode])
        self._end(reg, rm, immediate)

    def packed(
        self, opcode: int, out: int, a: int, b: Operand, *, table: int = 1, prefix: int = 0, wide: bool = False,
        length: int = -1, immediate: int | None = None,
    ) -> None:  # fmt: skip
        length = 2 if length < 0 else length
        self.evex(
            opcode, out, a, b, table=table, prefix=prefix, wide=wide, length=length, immediate=immediate
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------ vectors
    def move(self, out: int, a: int, *, mask: int | None = None) -> None:
        self.evex(0x28, out, 0, a, prefix=int(self.double), wide=self.double, mask=mask)

    def keep(self, out: int, mask: int, a: int) -> None:
        self.evex(0x28, out, 0, a, prefix=int(self.double), wide=self.double, mask=mask, zero=True)

    def load(self, out: int, at: Memory, *, tail: bool = False) -> None:
        mask = self.tail if tail else None
        self.evex(0x10, out, 0, at, prefix=int(self.double), wide=self.double, mask=mask, zero=tail)

    def store(self, at: Memory, a: int, *, tail: bool = False) -> None:
        mask = self.tail if tail else None
        self.evex(0x11, a, 0, at, prefix=int(self.double), wide=self.double, mask=mask)

    def constant(self, out: int, x: Literal) -> None:
        if x.lanes:
            self.evex(0x28, out, 0, x, prefix=int(self.double), wide=self.double)
        else:
            self.broadcast(out, x)

    def broadcast(self, out: int, at: Memory | Literal) -> None:
        if isinstance(at, Literal) and at in self.kept:
            self.move(out, self.kept[at])
            return
        self.evex(0x18 + self.double, out, 0, at, table=2, prefix=1, wide=self.double, spread=False)

    def spread(self, out: int, general: int) -> None:
        self.evex(0x7C, out, 0, general, table=2, prefix=1, wide=self.double)

    def half_power(self, out: int, n: int) -> None:
        half = self.vector()
        self.broadcast(half, Literal(0x3FE0000000000000 if self.double else 0x3F000000))
        self.evex(0x2C, out, half, n, table=2, prefix=1, wide=self.double)
        self.free(half)

    def scale(self, out: int, a: int, n: int, low: Operand) -> None:
        k = self.mask()
        self.compare(k, n, low, NOT_LESS)
        self.evex(0x2C, out, a, n, table=2, prefix=1, wide=self.double, mask=k, zero=True)
        self.masks.append(k)

    def exponent(self, out: int, a: int) -> None:
        self.evex(0x42, out, 0, a, table=2, prefix=1, wide=self.double)

    def significand(self, out: int, a: int) -> None:
        self.evex(0x26, out, 0, a, table=3, prefix=1, wide=self.double, immediate=0)

    def log_ends(self, out: int, y: int, x: int) -> None:
        # an answer for each class, four bits each
        classes = {
            "NaN": 2,
            "signalling NaN": 2,
            "0": 4,
            "1": 0,
            "-infinity": 3,
            "infinity": 5,
            "negative": 3,
            "positive": 0,
        }
        answers = sum(answer << 4 * k for k, answer in enumerate(classes.values()))
        self.move(out, y)
        self.evex(
            0x54, out, x, Literal(answers), table=3, prefix=1, wide=self.double, immediate=0
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------ reductions
    def half(self, out: int, x: int, length: int) -> None:
        opcode, length = (0x1B, 2) if length else (0x19, 1)
        self.evex(opcode, x, 0, out, table=3, prefix=1, wide=True, length=length, immediate=1)

    def accumulate(self, opcode: int, acc: int, x: int, mask: int) -> None:
        self.evex(opcode, acc, acc, x, prefix=int(self.double), wide=self.double, mask=mask)

    def add_one(self, out: int, a: int, mask: int) -> None:
        self.evex(ADD, out, out, a, prefix=3, wide=True, length=0, mask=mask)

    # ------------------------------------------------------------------------------------------ masks
    def compare(
        self, out: int, a: int, b: Operand, predicate: int, *, mask: int | None = None
    ) -> None:
        self.evex(
            0xC2, out, a, b, prefix=int(self.double), wide=self.double, mask=mask, immediate=predicate
        )  # fmt: skip

    def same(self, out: int, a: int, b: Operand) -> None:
        opcode, table = (0x29, 2) if self.double else (0x76, 1)
        self.evex(opcode, out, a, b, prefix=1, wide=self.double, table=table)

    def blend(self, out: int, mask: int, no: int, yes: Operand) -> None:
        self.evex(0x65, out, no, yes, table=2, prefix=1, wide=self.double, mask=mask)

    def logical(self, name: str, out: int, a: int, b: int) -> None:
        self.vex(_LOGICAL[name], out, a, b, length=1)

    def logical_not(self, out: int, a: int) -> None:
        self.vex(0x44, out, 0, a)

    def from_general(self, out: int, general: int) -> None:
        self.vex(0x92, out, 0, general)  # kmovw

    def to_general(self, general: int, a: int) -> None:
        self.vex(0x93, general, 0, a)

    def load_bools(self, out: int, at: Memory, *, tail: bool) -> None:
        r, opcode = self.vector(), 0x32 if self.double else 0x31
        # bytes to lanes, and which are not 0
        self.evex(
            opcode, r, 0, at, table=2, prefix=1, mask=self.tail if tail else None, zero=tail
        )  # fmt: skip
        self.evex(0x27, out, r, r, table=2, prefix=1, wide=self.double)
        self.free(r)

    def store_bools(self, at: Memory, a: int, *, tail: bool) -> None:
        ones = self.vector()
        self.broadcast(ones, Literal(0x0101010101010101 if self.double else 0x01010101))
        self.evex(0x6F, ones, 0, ones, prefix=3, mask=a, zero=True, length=0)
        if self.double and not tail:
            self.evex(0xD6, ones, 0, at, prefix=1, wide=True, length=0)  # vmovq: eight bytes
        else:
            mask = self.tail if tail else None
            self.evex(0x7F, ones, 0, at, prefix=3, mask=mask, length=0)
        self.free(ones)

    def begin_tail(self) -> None:
        pass

    def end_tail(self) -> None:
        pass

    def set_tail(self) -> None:
        few = f"few {len(self.code)}"
        # where more than a vector is left, all lanes: bzhi sees a byte of the number
        self.general_number("cmp", RDX, 32)
        self.jump(few, IF_LESS)
        self.general_number("mov", RDX, 32)
        self.label(few)
        self.general_number("mov", RCX, -1)
        self.vex(0xF5, RCX, RDX, RCX, table=2, wide=True)  # bzhi
        self.from_general(self.tail, RCX)
        if self.double:  # bytes of bools are as many as lanes
            self.low_byte(RCX, RCX)
            self.from_general(self.tail, RCX)
