"""Machine code of x86-64 with AVX-512: the few instructions that generated loops are made of.

An instruction is encoded as the manual says (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2,
2.7 for EVEX, 2.3 for VEX). Vector registers are 0 to 31, masks 1 to 7, general ones 0 to 15 in the hardware's order.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["SAVED", "Assembler", "Literal", "Memory"]

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
SAVED = (RBX, RBP, 12, 13, 14, 15)
"""Registers that a function must give back as they were."""
IF_BELOW, IF_EQUAL, IF_NOT_EQUAL, IF_LESS, IF_NOT_LESS, IF_NOT_GREATER = 2, 4, 5, 0xC, 0xD, 0xE
"""Conditions of jumps; below is without a sign."""
_GENERAL = {"mov": 0x8B, "or": 0x0B, "sbb": 0x1B, "sub": 0x2B, "xor": 0x33, "cmp": 0x3B}
_WITH_NUMBER = {
    "add": (0x81, 0),
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


class Assembler:
    """Bytes of one function, jumps and literals resolved at the end; ``double``: lanes are float64."""

    def __init__(self, *, double: bool) -> None:
        self.double = double
        self.code = bytearray()
        self._labels: dict[str, int] = {}
        self._jumps: list[tuple[int, str]] = []
        self._literals: dict[Literal, list[int]] = {}

    # ------------------------------------------------------------------------------------------ encodings
    def _operand(self, reg: int, rm: int | Memory | Literal) -> bytes:
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

    def _extension(self, rm: int | Memory | Literal) -> tuple[int, int]:
        """The bits that extend index (or the vector operand) and base."""
        if isinstance(rm, int):
            return rm >> 4 & 1, rm >> 3 & 1
        if isinstance(rm, Literal):
            return 0, 0
        return (0 if rm.index is None else rm.index >> 3), rm.base >> 3

    def evex(
        self,
        opcode: int,
        reg: int,
        vector: int,
        rm: int | Memory | Literal,
        *,
        table: int = 1,
        prefix: int = 0,
        wide: bool = False,
        mask: int = 0,
        zero: bool = False,
        length: int = 2,
        immediate: int | None = None,
        spread: bool | None = None,
    ) -> None:
        """One instruction of AVX-512; ``table`` 1, 2, 3: 0F, 0F38, 0F3A; ``prefix`` 0 to 3: none, 66, F3, F2.

        ``spread``: the operand in memory is one entry for all lanes, as literals are.
        """
        x, b = self._extension(rm)
        spread = (isinstance(rm, Literal) and not rm.lanes) if spread is None else spread
        p0 = (~reg >> 3 & 1) << 7 | (1 - x) << 6 | (1 - b) << 5 | (~reg >> 4 & 1) << 4 | table
        p1 = wide << 7 | (~vector & 15) << 3 | 4 | prefix
        p2 = zero << 7 | length << 5 | spread << 4 | (~vector >> 4 & 1) << 3 | mask
        self.code += bytes([0x62, p0, p1, p2, opcode])
        self.code += self._operand(reg, rm)
        if isinstance(rm, Literal):
            self._literals.setdefault(rm, []).append(len(self.code) - 4)
            # the offset counts from the end of the instruction
            behind = 0 if immediate is None else 1
            self.code[-4:] = struct.pack("<i", behind)
        if immediate is not None:
            self.code.append(immediate)

    def vex(
        self, opcode: int, reg: int, vector: int, rm: int, *, length: int = 0, prefix: int = 0, table: int = 1,
        wide: bool = False,
    ) -> None:  # fmt: skip
        """One instruction on masks, or on bits of general registers."""
        p0 = (~reg >> 3 & 1) << 7 | 1 << 6 | (~rm >> 3 & 1) << 5 | table
        p1 = wide << 7 | (~vector & 15) << 3 | length << 2 | prefix
        self.code += bytes([0xC4, p0, p1, opcode, 0xC0 | (reg & 7) << 3 | (rm & 7)])

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
        """The same with a number of 32 bits: "add", "sub", "cmp", "mov", "test"."""
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

    # ------------------------------------------------------------------------------------------ vectors
    @property
    def lanes(self) -> int:
        """Entries of a vector."""
        return 8 if self.double else 16

    @property
    def size(self) -> int:
        """Bytes of an entry."""
        return 8 if self.double else 4

    def real(
        self, opcode: int, out: int, a: int, b: int | Memory | Literal, *, mask: int = 0, zero: bool = False
    ) -> None:  # fmt: skip
        """An operation of table 1 on two vectors of reals: 58 add, 59 multiply, 5C subtract, 5E divide, ..."""
        self.evex(
            opcode, out, a, b, prefix=int(self.double), wide=self.double, mask=mask, zero=zero
        )

    def fused(self, opcode: int, out: int, a: int, b: int | Memory | Literal) -> None:
        """A fused multiplication and addition, or another operation of table 2."""
        self.evex(opcode, out, a, b, table=2, prefix=1, wide=self.double)

    def move(self, out: int, a: int, *, mask: int = 0) -> None:
        """Copy a register, or the lanes of a mask."""
        self.evex(0x28, out, 0, a, prefix=int(self.double), wide=self.double, mask=mask)

    def load(self, out: int, at: Memory, *, mask: int = 0) -> None:
        """Load a vector; lanes without their mask are 0."""
        self.evex(
            0x10, out, 0, at, prefix=int(self.double), wide=self.double, mask=mask, zero=mask > 0
        )

    def store(self, at: Memory, a: int, *, mask: int = 0) -> None:
        """Store a vector, or the lanes of a mask."""
        self.evex(0x11, a, 0, at, prefix=int(self.double), wide=self.double, mask=mask)

    def stream(self, at: Memory, a: int) -> None:
        """Store a vector past the caches, at a multiple of 64 bytes."""
        self.evex(0x2B, a, 0, at, prefix=int(self.double), wide=self.double)

    def broadcast(self, out: int, at: Memory | Literal) -> None:
        """Load one entry into all lanes."""
        self.evex(0x18 + self.double, out, 0, at, table=2, prefix=1, wide=self.double, spread=False)

    def compare(
        self, out: int, a: int, b: int | Memory | Literal, predicate: int, *, mask: int = 0
    ) -> None:
        """Compare lanes into a mask register."""
        self.evex(
            0xC2, out, a, b, prefix=int(self.double), wide=self.double, mask=mask, immediate=predicate
        )  # fmt: skip

    def blend(self, out: int, mask: int, no: int, yes: int | Memory | Literal) -> None:
        """Lanes of ``yes`` where the mask is set, of ``no`` elsewhere."""
        self.evex(0x65, out, no, yes, table=2, prefix=1, wide=self.double, mask=mask)

    def round(self, out: int, a: int, mode: int) -> None:
        """Round to an integer: mode 0 to even, 1 down, 2 up, 3 towards zero; no exceptions are noted."""
        self.evex(
            0x09 if self.double else 0x08, out, 0, a, table=3, prefix=1, wide=self.double, immediate=8 | mode
        )  # fmt: skip

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
        for place, name in self._jumps:
            self.code[place : place + 4] = struct.pack("<i", self._labels[name] - place - 4)
        self.code += bytes(-len(self.code) % 64)
        for literal, places in sorted(self._literals.items(), key=lambda item: not item[0].lanes):
            for place in places:
                behind = struct.unpack_from("<i", self.code, place)[0]
                self.code[place : place + 4] = struct.pack(
                    "<i", len(self.code) - place - 4 - behind
                )
            self.code += literal.bits.to_bytes(64 if literal.lanes else self.size, "little")
        return bytes(self.code)
