"""Instructions of AVX2 and FMA: 16 vectors of 32 bytes, some of them masks, with all bits of a lane set or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from nnmath_core.program.native.assembler import (
    ADD,
    AND,
    EQUAL,
    IF_LESS,
    IF_NOT_EQUAL,
    LESS,
    LESS_EQUAL,
    MULTIPLY,
    NOT_LESS,
    OR,
    RAX,
    RCX,
    RDX,
    RSI,
    RSP,
    SUBTRACT,
    XOR,
    Assembler,
    Literal,
    Memory,
    Operand,
)

__all__ = ["Avx2"]

AND_NOT = 0x55
_LOGICAL = {"and": AND, "and not": AND_NOT, "or": OR, "xor": XOR}
_SCRATCH = Memory(RSP, offset=-24)
"""Below the stack, where no signal writes; with room for a register that is put on it."""


class Avx2(Assembler):
    """Bytes of one function with vectors of 32 bytes."""

    width: ClassVar[int] = 32
    spills: ClassVar[bool] = True
    usual: ClassVar[bool] = True
    halvings: ClassVar[tuple[int, ...]] = (0,)

    def __init__(self, *, double: bool) -> None:
        super().__init__(double=double)
        self.vectors = self.masks = list(range(16))
        self.tail = -1
        self._places = 0
        self._ones = sum(
            1 << 8 * self.size * k for k in range(self.lanes)
        )  # the number 1 in each lane

    def packed(
        self, opcode: int, out: int, a: int, b: Operand, *, table: int = 1, prefix: int = 0, wide: bool = False,
        length: int = -1, immediate: int | None = None,
    ) -> None:  # fmt: skip
        if isinstance(b, Literal):
            b = self._all(b)
        length = 1 if length < 0 else length
        # the bit for 64 bits means something for numbers in general registers and fused operations alone
        self.vex(
            opcode, out, a, b, table=table, prefix=prefix, wide=wide, length=length, immediate=immediate
        )  # fmt: skip

    def _all(self, x: Literal) -> Literal:
        """One entry in all lanes: an operand in memory is a whole vector here."""
        if x.lanes:
            return x
        return Literal(x.bits * self._ones, lanes=True)

    def _literal(self, single: int, double: int) -> Literal:
        return self._all(Literal(double if self.double else single))

    def _integer(
        self, single: int, double: int, out: int, a: int, b: Operand, *, table: int = 1
    ) -> None:
        """An operation on integers of the lanes' size."""
        self.vex(double if self.double else single, out, a, b, prefix=1, length=1, table=table)

    def _shift(self, left: bool, out: int, a: int) -> None:
        """Integers shifted by the bits of the significand: into the place of the exponent, or out of it."""
        opcode, by = (0x73, 52) if self.double else (0x72, 23)
        self.vex(opcode, 6 if left else 2, out, a, prefix=1, length=1, immediate=by)

    # ------------------------------------------------------------------------------------------ vectors
    def move(self, out: int, a: int, *, mask: int | None = None) -> None:
        if mask is None:
            self.packed(0x28, out, 0, a, prefix=int(self.double))
        else:
            self.blend(out, mask, out, a)

    def keep(self, out: int, mask: int, a: int) -> None:
        self.real(AND, out, mask, a)

    def load(self, out: int, at: Memory, *, tail: bool = False) -> None:
        if tail:
            self.vex(0x2C + self.double, out, self.tail, at, table=2, prefix=1, length=1)
        else:
            self.packed(0x10, out, 0, at, prefix=int(self.double))

    def store(self, at: Memory, a: int, *, tail: bool = False) -> None:
        if tail:
            self.vex(0x2E + self.double, a, self.tail, at, table=2, prefix=1, length=1)
        else:
            self.packed(0x11, a, 0, at, prefix=int(self.double))

    def broadcast(self, out: int, at: Memory | Literal) -> None:
        if isinstance(at, Literal):
            self.packed(0x28, out, 0, at, prefix=int(self.double))
        else:
            self.vex(0x18 + self.double, out, 0, at, table=2, prefix=1, length=1)

    def constant(self, out: int, x: Literal) -> None:
        self.packed(0x28, out, 0, x, prefix=int(self.double))

    def register_of(self, x: Literal) -> int | None:
        return self.kept.get(self._all(x))

    def spread(self, out: int, general: int) -> None:
        self.vex(0x6E, out, 0, general, prefix=1, wide=self.double)  # vmovd, vmovq
        self._integer(0x58, 0x59, out, 0, out, table=2)

    def _power(self, out: int, n: int, by: Operand) -> None:
        """2^(n + k) where that is normal; the sum of ``by`` and n ends with the bits of n + k and the bias."""
        self.real(ADD, out, n, by)
        self._shift(True, out, out)

    def _biased(self, k: int) -> Literal:
        """2^23 1.5 (2^52) plus k and the bias: sums with integers have no other bits behind the binary point."""
        return self._literal(0x4B400000 + 127 + k, 0x4338000000000000 + 1023 + k)

    def whole_power(self, out: int, total: int) -> None:
        self._shift(True, out, total)

    def unless(self, check: str, values: Sequence[Operand], name: str) -> None:
        """Bits are compared as integers, NaN above all; the range of negative numbers is moved to the least integer."""
        sign = 1 << 8 * self.size - 1
        if check == "normal":
            most = self.number(1022.0 if self.double else 126.0).bits
        else:
            first = self.number(-(2.0**-53) if self.double else -(2.0**-24)).bits
            most = self.number(-708.0 if self.double else -87.0).bits - first ^ sign
        largest: int | None = None
        for x in values:
            t = self.vector()
            assert isinstance(x, int)
            if check == "normal":
                self.real(AND, t, x, Literal(sign - 1))
            else:
                self._integer(0xFA, 0xFB, t, x, self._all(Literal(first ^ sign)))
            if self.double:  # there is no maximum of integers of 64 bits
                self._integer(0x66, 0x37, t, t, self._all(Literal(most)), table=2)
            if largest is None:
                largest = t
                continue
            if self.double:
                self.real(OR, largest, largest, t)
            else:
                self.vex(0x3D, largest, largest, t, prefix=1, length=1, table=2)
            self.free(t)
        assert largest is not None
        if not self.double:
            self._integer(0x66, 0x37, largest, largest, self._all(Literal(most)))
        self.to_general(RCX, largest)
        self.free(largest)
        self.plain(0x85, RCX, RCX, wide=False)  # test
        self.jump(name, IF_NOT_EQUAL)

    def half_power(self, out: int, n: int) -> None:
        self._power(out, n, self._biased(-1))

    def scale(self, out: int, a: int, n: int, low: Operand) -> None:
        """By one power where all are normal, else by two, one of them 2^64 (2^600) or its inverse: the last rounds."""
        self._places += 1
        other, done = f"power {self._places}", f"scaled {self._places}"
        off, most = (600, 0x408FF0 << 40) if self.double else (64, 0x42FC0000)
        t, below = self.vector(), self.vector()
        self._power(out, n, self._biased(0))
        self.real(MULTIPLY, out, out, a)
        self.real(AND, t, n, self._literal((1 << 31) - 1, (1 << 63) - 1))
        self.compare(t, t, Literal(most), LESS_EQUAL)  # 126, 1022
        self.to_general(RCX, t)
        self.general_number("cmp", RCX, (1 << self.lanes) - 1, wide=False)
        self.jump(other, IF_NOT_EQUAL)
        self.label(done)

        def by_two() -> None:
            self.label(other)
            self.real(ADD, below, n, self._literal(0xBF800000, 0xBFF << 52))  # negative below 1
            self.broadcast(t, self._biased(-off))
            self.blend(t, below, t, self._biased(off))
            self._power(out, n, t)
            self.compare(
                t, n, low, NOT_LESS
            )  # a product that vanishes would take a hundred times as long
            self.real(AND, out, out, t)
            self.real(MULTIPLY, out, out, a)
            self.broadcast(t, self._literal(0x5F800000, 0x6570 << 48))
            self.blend(t, below, t, self._literal(0x1F800000, 0x1A70 << 48))
            self.real(MULTIPLY, out, out, t)
            self.compare(t, n, low, NOT_LESS)
            self.real(AND, out, out, t)  # 0, not -0
            self.jump(done)

        self.later.append(by_two)
        self.vectors += [t, below]

    def _normal(self, out: int, a: int, small: int) -> None:
        """A positive number, times 2^25 (2^54) where it is subnormal, which the mask ``small`` says."""
        self.compare(small, a, self._literal(0x00800000, 1 << 52), LESS)
        self.real(MULTIPLY, out, a, self._literal(0x4C000000, 0x4350000000000000))
        self.blend(out, small, a, out)

    def exponent(self, out: int, a: int) -> None:
        small = self.vector()
        self._normal(out, a, small)
        self._shift(False, out, out)
        if self.double:  # an integer below 2^52 is a float64 by the bits of 2^52
            self.real(OR, out, out, self._literal(0, 0x4330000000000000))
            self.real(SUBTRACT, out, out, self._literal(0, 0x43300000000003FF))  # 2^52 + 1023
        else:
            self.vex(0x5B, out, 0, out, length=1)
            self.real(SUBTRACT, out, out, self._literal(0x42FE0000, 0))  # 127
        self.real(AND, small, small, self._literal(0x41C80000, 0x404B000000000000))  # 25, 54
        self.real(SUBTRACT, out, out, small)
        self.free(small)

    def significand(self, out: int, a: int) -> None:
        small = self.vector()
        self._normal(out, a, small)
        self.real(AND, out, out, self._literal(0x007FFFFF, (1 << 52) - 1))
        self.real(OR, out, out, self._literal(0x3F800000, 0x3FF0000000000000))
        self.free(small)

    def log_ends(self, out: int, y: int, x: int) -> None:
        infinity = self._literal(0x7F800000, 0x7FF0000000000000)
        mask = self.vector()
        self.compare(mask, x, infinity, LESS)
        self.blend(out, mask, x, y)  # infinity and NaN are themselves
        zero = self._literal(0, 0)
        self.compare(mask, x, zero, EQUAL)
        self.blend(out, mask, out, self._literal(0xFF800000, 0xFFF0000000000000))
        self.compare(mask, x, zero, LESS)
        self.blend(out, mask, out, self._literal(0x7FC00000, 0x7FF8000000000000))
        self.free(mask)

    # ------------------------------------------------------------------------------------------ reductions
    def half(self, out: int, x: int, length: int) -> None:
        self.vex(0x19, x, 0, out, table=3, prefix=1, length=1, immediate=1)

    def accumulate(self, opcode: int, acc: int, x: int, mask: int) -> None:
        t = self.vector()
        if opcode == ADD:
            self.real(AND, t, x, mask)
        else:
            self.blend(t, mask, acc, x)
        self.real(opcode, acc, acc, t)
        self.free(t)

    def add_one(self, out: int, a: int, mask: int) -> None:
        self.packed(AND, a, a, mask, prefix=1, length=0)
        self.packed(ADD, out, out, a, prefix=3, length=0)

    # ------------------------------------------------------------------------------------------ masks
    def compare(
        self, out: int, a: int, b: Operand, predicate: int, *, mask: int | None = None
    ) -> None:
        t = out if mask is None else self.vector()
        self.packed(0xC2, t, a, b, prefix=int(self.double), immediate=predicate)
        if mask is not None:
            self.real(AND, out, t, mask)
            self.free(t)

    def same(self, out: int, a: int, b: Operand) -> None:
        self._integer(0x76, 0x29, out, a, b, table=2 if self.double else 1)

    def blend(self, out: int, mask: int, no: int, yes: Operand) -> None:
        self.packed(0x4A + self.double, out, no, yes, table=3, prefix=1, immediate=mask << 4)

    def logical(self, name: str, out: int, a: int, b: int) -> None:
        self.real(_LOGICAL[name], out, a, b)

    def logical_not(self, out: int, a: int) -> None:
        self.real(XOR, out, a, self._literal((1 << 32) - 1, (1 << 64) - 1))

    def from_general(self, out: int, general: int) -> None:
        self.vex(0x6E, out, 0, general, prefix=1)
        self.vex(0x58, out, 0, out, prefix=1, length=1, table=2)

    def to_general(self, general: int, a: int) -> None:
        self.packed(0x50, general, 0, a, prefix=int(self.double))

    def load_bools(self, out: int, at: Memory, *, tail: bool) -> None:
        if tail:
            self.general_number("mov", _SCRATCH, 0)
            self._few_bytes(at, load=True)
            at = _SCRATCH
        self.vex(0x32 if self.double else 0x31, out, 0, at, table=2, prefix=1, length=1)
        self._integer(0x66, 0x37, out, out, self._literal(0, 0), table=2 if self.double else 1)

    def store_bools(self, at: Memory, a: int, *, tail: bool) -> None:
        low, high = self.vector(), self.vector()
        self.half(high, a, 0)
        if self.double:  # of 64 bits the lower 32
            self.vex(0xC6, low, a, high, immediate=0x88)
            self.vex(0x6B, low, low, low, prefix=1)
        else:
            self.vex(0x6B, low, a, high, prefix=1)  # to 16 bits
        self.vex(0x63, low, low, low, prefix=1)  # to bytes
        ones = Literal(int.from_bytes(b"\1" * self.width, "little"), lanes=True)
        self.packed(AND, low, low, ones, length=0)
        if tail:
            self.vex(0xD6, low, 0, _SCRATCH, prefix=1)
            self._few_bytes(at, load=False)
        else:
            self.vex(0x7E if self.double else 0xD6, low, 0, at, prefix=1)  # vmovd, vmovq
        self.vectors += [low, high]

    def _few_bytes(self, at: Memory, *, load: bool) -> None:
        """Copy as many bytes as entries are left, a vector at most, to scratch memory or from it."""
        self._places += 1
        few, more = f"few bytes {self._places}", f"byte {self._places}"
        byte, scratch = (
            8,
            Memory(RSP, RCX, 1, _SCRATCH.offset + 8 - 1),
        )  # behind what is put on the stack
        self.plain(0x8D, RDX, at)  # lea
        self.push(byte)
        self.general("mov", RCX, RSI)
        self.general("sub", RCX, RAX)
        self.general_number("cmp", RCX, self.lanes)
        self.jump(few, IF_LESS)
        self.general_number("mov", RCX, self.lanes)
        self.label(few)
        self.label(more)
        memory = Memory(RDX, RCX, 1, -1)
        self.low_byte(byte, memory if load else scratch)
        self.plain(0x88, byte, scratch if load else memory, wide=False)
        self.general_number("sub", RCX, 1)
        self.jump(more, IF_NOT_EQUAL)
        self.pop(byte)

    def begin_tail(self) -> None:
        self.tail = self.mask()

    def end_tail(self) -> None:
        self.masks.append(self.tail)

    def set_tail(self) -> None:
        few = f"few {len(self.code)}"
        self.general_number("cmp", RDX, self.lanes)
        self.jump(few, IF_LESS)
        self.general_number("mov", RDX, self.lanes)
        self.label(few)
        self.spread(self.tail, RDX)
        self._integer(
            0x66, 0x37, self.tail, self.tail, self.columns(), table=2 if self.double else 1
        )
