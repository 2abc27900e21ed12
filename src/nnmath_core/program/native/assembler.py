"""Machine code of x86-64: what both kinds of generated loops share, AVX-512 (avx512.py) and AVX2 (avx2.py).

An instruction is encoded as the manual says (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2,
2.7 for EVEX, 2.3 for VEX). Registers are numbered in the hardware's order. Both kinds have the same methods for
vectors, each of which is one instruction or a few; what needs a register for a moment takes one that is free.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

__all__ = ["SAVED", "Assembler", "Literal", "Memory", "NoRegisterError", "Operand"]

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
SAVED = (RBX, RBP, 12, 13, 14, 15)
"""Registers that a function must give back as they were."""
IF_BELOW, IF_EQUAL, IF_NOT_EQUAL = 2, 4, 5
IF_LESS, IF_NOT_LESS, IF_NOT_GREATER, IF_GREATER = 0xC, 0xD, 0xE, 0xF
"""Conditions of jumps; below is without a sign."""
# Predicates of comparisons, operations of table 1
LESS, LESS_EQUAL, GREATER, GREATER_EQUAL, EQUAL, NOT_EQUAL = 0x11, 0x12, 0x1E, 0x1D, 0x00, 0x04
UNORDERED, ORDERED, NOT_LESS, NOT_LESS_EQUAL = 0x03, 0x07, 0x15, 0x16
ADD, MULTIPLY, SUBTRACT, MIN, DIVIDE, MAX, SQRT = 0x58, 0x59, 0x5C, 0x5D, 0x5E, 0x5F, 0x51
AND, OR, XOR = 0x54, 0x56, 0x57
_GENERAL = {"mov": 0x8B, "or": 0x0B, "sbb": 0x1B, "sub": 0x2B, "xor": 0x33, "cmp": 0x3B}
_WITH_NUMBER = {
    "add": (0x81, 0),
    "and": (0x81, 4),
    "sub": (0x81, 5),
    "cmp": (0x81, 7),
    "mov": (0xC7, 0),
    "test": (0xF7, 0),
}


@dataclass(frozen=True, slots=True)
class Memory:
    """An operand in memory: base + index * scale + offset."""

    base: int
    index: int | None = None
    scale: int = 1
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Literal:
    """An entry of the table behind the code, for all lanes; ``lanes``: one for each."""

    bits: int
    lanes: bool = False


Operand = int | Memory | Literal
"""A register, an operand in memory, or a literal."""


class NoRegisterError(Exception):
    """More values are needed at once than there are registers."""


class Assembler(ABC):
    """Bytes of one function, jumps and literals resolved at the end; ``double``: lanes are float64.

    Attributes
    ----------
    vectors, masks : list of int
        Registers that are free. One list where masks are vectors.
    tail : int
        The mask of the lanes that are left in the last vector of a row.
    spill : callable
        Empties a register, when none is free.
    later : list of callable
        Write what lies behind the function's end: what it seldom jumps to.
    """

    width: ClassVar[int]
    """Bytes of a vector."""
    spills: ClassVar[bool]
    """Whether values may wait on the stack: where registers are few."""
    vectors: list[int]
    masks: list[int]
    tail: int

    def __init__(self, *, double: bool) -> None:
        self.double = double
        self.code = bytearray()
        self._labels: dict[str, int] = {}
        self._jumps: list[tuple[int, str]] = []
        self._literals: dict[Literal, list[int]] = {}
        self.kept: dict[Literal, int] = {}  # registers that hold them
        self.fewest = 0
        self.spill = self._none
        self.later: list[Callable[[], None]] = []

    def _none(self) -> int:
        raise NoRegisterError

    # ------------------------------------------------------------------------------------------ encodings
    def _operand(self, reg: int, rm: Operand) -> bytes:
        """ModRM, SIB and offset; a literal's offset is filled in at the end."""
        low = (reg & 7) << 3
        if isinstance(rm, int):
            return bytes([0xC0 | low | (rm & 7)])
        if isinstance(rm, Literal):
            return bytes([low | 5, 0, 0, 0, 0])
        offset = struct.pack("<i", rm.offset)
        if rm.index is None and rm.base & 7 != RSP:
            return bytes([0x80 | low | (rm.base & 7)]) + offset
        index = RSP if rm.index is None else rm.index
        sib = rm.scale.bit_length() - 1 << 6 | (index & 7) << 3 | (rm.base & 7)
        return bytes([0x80 | low | 4, sib]) + offset

    def _extension(self, rm: Operand) -> tuple[int, int]:
        """The bits that extend index (or the vector operand) and base."""
        if isinstance(rm, int):
            return rm >> 4 & 1, rm >> 3 & 1
        if isinstance(rm, Literal):
            return 0, 0
        return (0 if rm.index is None else rm.index >> 3), rm.base >> 3

    def vex(
        self,
        opcode: int,
        reg: int,
        vector: int,
        rm: Operand,
        *,
        table: int = 1,
        prefix: int = 0,
        wide: bool = False,
        length: int = 0,
        immediate: int | None = None,
    ) -> None:
        """One instruction; ``table`` 1, 2, 3: 0F, 0F38, 0F3A; ``prefix`` 0 to 3: none, 66, F3, F2."""
        rm = self._where(rm)
        x, b = self._extension(rm) if not isinstance(rm, int) else (0, rm >> 3)
        p0 = (~reg >> 3 & 1) << 7 | (1 - x) << 6 | (1 - b) << 5 | table
        p1 = wide << 7 | (~vector & 15) << 3 | length << 2 | prefix
        self.code += bytes([0xC4, p0, p1, opcode])
        self._end(reg, rm, immediate)

    def uses(self) -> Counter[Literal]:
        """How many instructions read each literal."""
        return Counter({x: len(places) for x, places in self._literals.items()})

    def _where(self, rm: Operand) -> Operand:
        """The register of an operand that is kept in one."""
        return self.kept.get(rm, rm) if isinstance(rm, Literal) else rm

    def _end(self, reg: int, rm: Operand, immediate: int | None) -> None:
        """Operands and immediate byte of an instruction."""
        self.code += self._operand(reg, rm)
        if isinstance(rm, Literal):
            self._literals.setdefault(rm, []).append(len(self.code) - 4)
            # the offset counts from the end of the instruction
            behind = 0 if immediate is None else 1
            self.code[-4:] = struct.pack("<i", behind)
        if immediate is not None:
            self.code.append(immediate)

    def plain(
        self, opcode: int, reg: int, rm: int | Memory, *, wide: bool = True, escape: bytes = b""
    ) -> None:
        """One instruction on general registers, or on one number (``escape`` holds its prefix and 0F)."""
        x, b = self._extension(rm) if not isinstance(rm, int) else (0, rm >> 3 & 1)
        rex = 0x40 | wide << 3 | (reg >> 3 & 1) << 2 | x << 1 | b
        lead, rest = (
            (escape[:1], escape[1:]) if escape[:1] in (b"\xf2", b"\xf3", b"\x66") else (b"", escape)
        )
        self.code += lead + bytes([rex]) + rest + bytes([opcode]) + self._operand(reg, rm)

    # ------------------------------------------------------------------------------------------ general registers
    def general(self, name: str, out: int, rm: int | Memory, *, wide: bool = True) -> None:
        """An instruction on general registers: "mov", "or", "sbb", "sub", "xor", "cmp"; of 64 bits where ``wide``."""
        self.plain(_GENERAL[name], out, rm, wide=wide)

    def general_number(
        self, name: str, out: int | Memory, number: int, *, wide: bool = True
    ) -> None:
        """The same with a number of 32 bits: "add", "and", "sub", "cmp", "mov", "test"."""
        opcode, reg = _WITH_NUMBER[name]
        self.plain(opcode, reg, out, wide=wide)
        self.code += struct.pack("<i", number)

    def low_byte(self, out: int, rm: int | Memory) -> None:
        """A byte, and zeros above it."""
        self.plain(0xB6, out, rm, wide=False, escape=b"\x0f")

    def push(self, register: int) -> None:
        """Put a register on the stack."""
        self.code += bytes([0x41] if register > 7 else []) + bytes([0x50 | register & 7])

    def pop(self, register: int) -> None:
        """Take a register from the stack."""
        self.code += bytes([0x41] if register > 7 else []) + bytes([0x58 | register & 7])

    # ------------------------------------------------------------------------------------------ registers
    def vector(self) -> int:
        """Take a vector register; ``fewest`` is how many were left at least."""
        if not self.vectors:
            self.fewest = 0
            return self.spill()
        return self.take(self.vectors[-1])

    def take(self, register: int) -> int:
        """Take this register of those that are free."""
        self.vectors.remove(register)
        self.fewest = min(self.fewest, len(self.vectors))
        return register

    def mask(self) -> int:
        """Take a register for a mask."""
        if self.masks is self.vectors:
            return self.vector()
        if not self.masks:
            raise NoRegisterError
        return self.masks.pop()

    def free(self, register: int) -> None:
        """Give a vector register back."""
        self.vectors.append(register)

    @contextmanager
    def local(self) -> Iterator[None]:
        """Registers that are taken inside are free again behind it."""
        vectors, masks = list(self.vectors), list(self.masks)
        yield
        self.vectors[:] = vectors
        self.masks[:] = masks

    # ------------------------------------------------------------------------------------------ vectors
    @property
    def size(self) -> int:
        """Bytes of an entry."""
        return 8 if self.double else 4

    @property
    def lanes(self) -> int:
        """Entries of a vector."""
        return self.width // self.size

    def number(self, x: float) -> Literal:
        """A number in all lanes."""
        return Literal(int.from_bytes(struct.pack("<d" if self.double else "<f", x), "little"))

    def columns(self, u: int = 0) -> Literal:
        """The numbers of the lanes of a vector, which is vector ``u`` of several."""
        numbers = (u * self.lanes + k for k in range(self.lanes))
        return Literal(
            int.from_bytes(b"".join(n.to_bytes(self.size, "little") for n in numbers), "little"),
            lanes=True,
        )

    @abstractmethod
    def packed(
        self, opcode: int, out: int, a: int, b: Operand, *, table: int = 1, prefix: int = 0, wide: bool = False,
        length: int = -1, immediate: int | None = None,
    ) -> None:  # fmt: skip
        """One instruction that is the same in both kinds; ``length`` 0: one number, or 16 bytes; -1: a vector."""

    def real(self, opcode: int, out: int, a: int, b: Operand) -> None:
        """An operation of table 1 on two vectors of reals: 58 add, 59 multiply, 5C subtract, 5E divide, ..."""
        self.packed(opcode, out, a, b, prefix=int(self.double), wide=self.double)

    def fused(self, opcode: int, out: int, a: int, b: Operand) -> None:
        """A fused multiplication and addition."""
        self.packed(opcode, out, a, b, table=2, prefix=1, wide=self.double)

    def stream(self, at: Memory, a: int) -> None:
        """Store a vector past the caches, at a multiple of its bytes."""
        self.packed(0x2B, a, 0, at, prefix=int(self.double), wide=self.double)

    def round(self, out: int, a: int, mode: int) -> None:
        """Round to an integer: mode 0 to even, 1 down, 2 up, 3 towards zero; no exceptions are noted."""
        self.packed(
            0x09 if self.double else 0x08, out, 0, a, table=3, prefix=1, wide=self.double, immediate=8 | mode
        )  # fmt: skip

    @abstractmethod
    def move(self, out: int, a: int, *, mask: int | None = None) -> None:
        """Copy a register, or the lanes of a mask."""

    @abstractmethod
    def keep(self, out: int, mask: int, a: int) -> None:
        """The lanes of a mask, 0 elsewhere."""

    @abstractmethod
    def load(self, out: int, at: Memory, *, tail: bool = False) -> None:
        """Load a vector, or the lanes that are left and 0 in the others."""

    @abstractmethod
    def store(self, at: Memory, a: int, *, tail: bool = False) -> None:
        """Store a vector, or the lanes that are left."""

    @abstractmethod
    def broadcast(self, out: int, at: Memory | Literal) -> None:
        """Load one entry into all lanes."""

    @abstractmethod
    def constant(self, out: int, x: Literal) -> None:
        """Load a literal as instructions read it."""

    def register_of(self, x: Literal) -> int | None:
        """The register of a number that is kept in one."""
        return self.kept.get(x)

    @abstractmethod
    def spread(self, out: int, general: int) -> None:
        """An integer of a general register in all lanes."""

    usual: ClassVar[bool]
    """Whether loops have a body for what is usual, with ``whole_power`` and ``unless``."""

    def whole_power(self, out: int, total: int) -> None:
        """2^n, where that is a normal number, of a sum whose last bits are those of n and the bias of exponents."""
        raise NotImplementedError

    def unless(self, check: str, values: Sequence[Operand], name: str) -> None:
        """Jump to a label unless all lanes pass a check.

        "normal": |n| at most 126 (1022); "below": -87 (-708) <= x <= -2^-24 (-2^-53).
        """
        raise NotImplementedError

    @abstractmethod
    def half_power(self, out: int, n: int) -> None:
        """2^(n-1), where that is a normal number; n is an integer."""

    @abstractmethod
    def scale(self, out: int, a: int, n: int, low: Operand) -> None:
        """Write a 2^n, rounded once, and 0 where n is less than low: what vanishes would take a hundred times as long.

        n is an integer, at most 190 (1600) in size, the size of a at most 2^25, or infinite or NaN; for positive n at
        least 2^-25, or 0; low is less than -126 (-1022).
        """

    @abstractmethod
    def exponent(self, out: int, a: int) -> None:
        """The exponent of a positive number as a number, of subnormal numbers too."""

    @abstractmethod
    def significand(self, out: int, a: int) -> None:
        """The a 2^-exponent with 1 <= value < 2, of a positive number."""

    @abstractmethod
    def log_ends(self, out: int, y: int, x: int) -> None:
        """What a logarithm y of x is at 0, infinity, negative numbers and NaN."""

    # ------------------------------------------------------------------------------------------ reductions
    halvings: ClassVar[tuple[int, ...]]
    """What ``half`` is called with, one after the other, until 16 bytes are left."""

    @abstractmethod
    def half(self, out: int, x: int, length: int) -> None:
        """The upper half of a vector of 64 bytes (``length`` 1) or 32 (0)."""

    def widen(self, out: int, x: int) -> None:
        """The lower half of the lanes of float32 as float64."""
        self.packed(0x5A, out, 0, x)

    @abstractmethod
    def accumulate(self, opcode: int, acc: int, x: int, mask: int) -> None:
        """Add to the lanes of a mask, or find their extremes."""

    @abstractmethod
    def add_one(self, out: int, a: int, mask: int) -> None:
        """Add one number (float64) where the lowest lane of a mask is set; ``a`` is lost."""

    # ------------------------------------------------------------------------------------------ masks
    @abstractmethod
    def compare(
        self, out: int, a: int, b: Operand, predicate: int, *, mask: int | None = None
    ) -> None:
        """Compare lanes into a mask; those outside of another mask are not set."""

    @abstractmethod
    def same(self, out: int, a: int, b: Operand) -> None:
        """Compare integers for equality into a mask."""

    @abstractmethod
    def blend(self, out: int, mask: int, no: int, yes: Operand) -> None:
        """Lanes of ``yes`` where the mask is set, of ``no`` elsewhere."""

    @abstractmethod
    def logical(self, name: str, out: int, a: int, b: int) -> None:
        """An operation on masks: "and", "or", "xor", "and not" (b without a)."""

    @abstractmethod
    def logical_not(self, out: int, a: int) -> None:
        """The lanes that a mask has not."""

    @abstractmethod
    def from_general(self, out: int, general: int) -> None:
        """A mask from a general register that is 0 or -1."""

    @abstractmethod
    def to_general(self, general: int, a: int) -> None:
        """The lanes of a mask as bits."""

    @abstractmethod
    def load_bools(self, out: int, at: Memory, *, tail: bool) -> None:
        """A mask from bytes that are 0 or not."""

    @abstractmethod
    def store_bools(self, at: Memory, a: int, *, tail: bool) -> None:
        """A mask as bytes, 0 or 1."""

    @abstractmethod
    def begin_tail(self) -> None:
        """Take the register of ``tail``, if it has none of its own."""

    @abstractmethod
    def end_tail(self) -> None:
        """Give it back."""

    @abstractmethod
    def set_tail(self) -> None:
        """Set ``tail`` to so many lanes as RDX says, all where those are more; RCX and RDX are free then."""

    # ------------------------------------------------------------------------------------------ the end
    def label(self, name: str) -> None:
        """Name this place."""
        self._labels[name] = len(self.code)

    def jump(self, name: str, condition: int | None = None) -> None:
        """Jump to a label, always or on a condition (IF_...)."""
        self.code += b"\xe9" if condition is None else bytes([0x0F, 0x80 | condition])
        self._jumps.append((len(self.code), name))
        self.code += bytes(4)

    def finished(self) -> bytes:
        """All bytes: the code, and the literals behind it."""
        for write in self.later:
            write()
        for place, name in self._jumps:
            self.code[place : place + 4] = struct.pack("<i", self._labels[name] - place - 4)
        self.code += bytes(-len(self.code) % 64)
        for literal, places in sorted(self._literals.items(), key=lambda item: not item[0].lanes):
            for place in places:
                behind = struct.unpack_from("<i", self.code, place)[0]
                self.code[place : place + 4] = struct.pack(
                    "<i", len(self.code) - place - 4 - behind
                )
            self.code += literal.bits.to_bytes(self.width if literal.lanes else self.size, "little")
        return bytes(self.code)
