"""The instructions of each operation, for one vector.

A recipe gets the function that is written, the copy of the body, the register of the result and the operands. Values
are those of the loops of the vector family (src/_ext/vector/vector.inc.c), bit for bit where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from nnmath_core.program.native.assembler import (
    ADD,
    AND,
    DIVIDE,
    EQUAL,
    GREATER,
    GREATER_EQUAL,
    LESS,
    LESS_EQUAL,
    MAX,
    MIN,
    MULTIPLY,
    NOT_EQUAL,
    NOT_LESS_EQUAL,
    OR,
    SQRT,
    SUBTRACT,
    UNORDERED,
    XOR,
    Assembler,
    Literal,
)

__all__ = ["DIRECT", "FUSED", "MASKED", "MASKS", "RECIPES", "REDUCTIONS", "Operand"]

Operand = tuple[str, int] | tuple[str, float]
"""("value", i), of an instruction; ("arg", k), from memory; ("number", x)."""

REDUCTIONS = (
    "sum", "sum_squares", "sum_products", "sum_ones", "sum_others", "sum_wide_squares", "max", "min",
)  # fmt: skip
Recipe = Callable[..., None]


class Writer(Protocol):
    """What a recipe needs of the function that is written."""

    asm: Assembler
    vectors: list[int]
    masks: list[int]
    reciprocal: dict[int, int]
    exact: bool

    def vector(self) -> int:
        """Take a vector register."""

    def mask(self) -> int:
        """Take a mask register."""

    def free(self, register: int) -> None:
        """Give a vector register back."""

    def operand(self, u: int, x: Operand, *, register: bool = True) -> Any:
        """The register of an operand; a number may stay where it is."""

    def hot(self, label: Operand, column: Operand) -> int:
        """The register that holds, in all lanes, which column of this step is the label's; no column, elsewhere."""

    def columns(self, u: int) -> Literal:
        """The numbers of the columns of a vector, from the first of the step on."""

    def number(self, x: float) -> Literal:
        """A number in all lanes."""

    def bits(self, bits: int) -> Literal:
        """Bits in all lanes."""

    @property
    def sign(self) -> int:
        """The bit of the sign."""


DIRECT = {"add": ADD, "subtract": SUBTRACT, "multiply": MULTIPLY, "quotient": DIVIDE}
"""One instruction, whose result may take the register of an operand."""
FUSED = {"fma": (0xB8, 0xA8), "fnma": (0xBC, 0xAC)}
"""a b + c and c - a b with one rounding: by the form that adds to its register, and the one that multiplies it."""


def _with_bits(opcode: int, flip: bool) -> Recipe:
    def emit(f: Writer, u: int, out: int, a: Operand) -> None:
        f.asm.real(opcode, out, f.operand(u, a), f.bits(f.sign if flip else ~f.sign))

    return emit


def _compare(predicate: int) -> Recipe:
    def emit(f: Writer, u: int, out: int, a: Operand, b: Operand) -> None:
        f.asm.compare(out, f.operand(u, a), f.operand(u, b, register=False), predicate)

    return emit


def _copy(f: Writer, u: int, out: int, a: Operand) -> None:
    f.asm.move(out, f.operand(u, a))


def _square(f: Writer, u: int, out: int, a: Operand) -> None:
    r = f.operand(u, a)
    f.asm.real(MULTIPLY, out, r, r)


def _sqrt(f: Writer, u: int, out: int, a: Operand) -> None:
    f.asm.real(SQRT, out, 0, f.operand(u, a))


def _reciprocal(f: Writer, u: int, out: int, a: Operand) -> None:
    f.asm.broadcast(out, f.number(1.0))
    f.asm.real(DIVIDE, out, out, f.operand(u, a))


def _rsqrt(f: Writer, u: int, out: int, a: Operand) -> None:
    t = f.vector()
    f.asm.real(SQRT, t, 0, f.operand(u, a))
    f.asm.broadcast(out, f.number(1.0))
    f.asm.real(DIVIDE, out, out, t)
    f.free(t)


def _divide(f: Writer, u: int, out: int, a: Operand, b: Operand) -> None:
    """The quotient; by one divisor for all, see `divide` in vector.inc.c."""
    asm = f.asm
    r = f.reciprocal.get(int(b[1])) if b[0] == "arg" else None
    x, y = f.operand(u, a), f.operand(u, b)
    if r is None or f.exact:
        asm.real(DIVIDE, out, x, y)
        return
    rest, better, chosen = f.vector(), f.vector(), f.mask()
    asm.real(MULTIPLY, out, x, r)
    asm.move(rest, x)
    asm.fused(0xBC, rest, out, y)
    asm.move(better, out)
    asm.fused(0xB8, better, rest, r)
    asm.real(AND, x := f.vector(), rest, f.bits(~f.sign))
    asm.compare(chosen, x, f.number(float("inf")), LESS)
    asm.compare(chosen, x, f.number(0.0), NOT_EQUAL, mask=chosen)
    asm.move(out, better, mask=chosen)
    f.vectors += [rest, better, x]
    f.masks.append(chosen)


def _extreme(opcode: int) -> Recipe:
    def emit(f: Writer, u: int, out: int, a: Operand, b: Operand) -> None:
        """The second of two that are equal, and of a NaN beside a number the NaN."""
        x = f.operand(u, a)
        nan = f.mask()
        assert isinstance(x, int)
        f.asm.real(opcode, out, x, f.operand(u, b, register=False))
        f.asm.compare(nan, x, x, UNORDERED)
        f.asm.move(out, x, mask=nan)
        f.masks.append(nan)

    return emit


def _relu(f: Writer, u: int, out: int, a: Operand) -> None:
    _relu_pull(f, u, out, a, a)


def _relu_pull(f: Writer, u: int, out: int, g: Operand, x: Operand) -> None:
    k = f.mask()
    f.asm.compare(k, f.operand(u, x), f.number(0.0), NOT_LESS_EQUAL)
    f.asm.keep(out, k, f.operand(u, g))
    f.masks.append(k)


def _tanh_pull(f: Writer, u: int, out: int, g: Operand, y: Operand) -> None:
    r, t = f.operand(u, y), f.vector()
    assert isinstance(r, int)
    f.asm.real(MULTIPLY, t, r, r)
    f.asm.broadcast(out, f.number(1.0))
    f.asm.real(SUBTRACT, out, out, t)
    f.asm.real(MULTIPLY, out, out, f.operand(u, g, register=False))
    f.free(t)


def _expit_pull(f: Writer, u: int, out: int, g: Operand, y: Operand) -> None:
    r = f.operand(u, y)
    assert isinstance(r, int)
    f.asm.broadcast(out, f.number(1.0))
    f.asm.real(SUBTRACT, out, out, r)
    f.asm.real(MULTIPLY, out, out, r)
    f.asm.real(MULTIPLY, out, out, f.operand(u, g, register=False))


def _muladd(f: Writer, u: int, out: int, a: Operand, b: Operand, c: Operand) -> None:
    f.asm.real(MULTIPLY, out, f.operand(u, a), f.operand(u, b, register=False))
    f.asm.real(ADD, out, out, f.operand(u, c, register=False))


def _mulsub(f: Writer, u: int, out: int, a: Operand, b: Operand, c: Operand) -> None:
    f.asm.real(MULTIPLY, out, f.operand(u, a), f.operand(u, b, register=False))
    f.asm.real(SUBTRACT, out, out, f.operand(u, c, register=False))


def _nmuladd(f: Writer, u: int, out: int, a: Operand, b: Operand, c: Operand) -> None:
    f.asm.real(MULTIPLY, out, f.operand(u, a), f.operand(u, b, register=False))
    f.asm.real(SUBTRACT, out, f.operand(u, c), out)


def _clip(f: Writer, u: int, out: int, x: Operand, low: Operand, high: Operand) -> None:
    """min(max(x, low), high), NaN where one of the three is."""
    lo, hi, k = f.operand(u, low), f.operand(u, high), f.mask()
    f.asm.real(MAX, out, lo, f.operand(u, x))  # the second of two that do not compare
    f.asm.real(MIN, out, hi, out)
    for bound in (hi, lo):
        f.asm.compare(k, bound, bound, UNORDERED)
        f.asm.move(out, bound, mask=k)
    f.masks.append(k)


def _where(f: Writer, u: int, out: int, c: Operand, a: Operand, b: Operand) -> None:
    f.asm.blend(out, f.operand(u, c), f.operand(u, b), f.operand(u, a, register=False))


def _round(mode: int) -> Recipe:
    def emit(f: Writer, u: int, out: int, a: Operand) -> None:
        f.asm.round(out, f.operand(u, a), mode)

    return emit


def _isnan(f: Writer, u: int, out: int, a: Operand) -> None:
    r = f.operand(u, a)
    f.asm.compare(out, r, r, UNORDERED)


def _against_infinity(predicate: int) -> Recipe:
    def emit(f: Writer, u: int, out: int, a: Operand) -> None:
        t = f.vector()
        f.asm.real(AND, t, f.operand(u, a), f.bits(~f.sign))
        f.asm.compare(out, t, f.number(float("inf")), predicate)
        f.free(t)

    return emit


def _logical(name: str) -> Recipe:
    def emit(f: Writer, u: int, out: int, a: Operand, b: Operand) -> None:
        f.asm.logical(name, out, f.operand(u, a), f.operand(u, b))

    return emit


def _logical_not(f: Writer, u: int, out: int, a: Operand) -> None:
    f.asm.logical_not(out, f.operand(u, a))


def _half_power(f: Writer, u: int, out: int, n: Operand) -> None:
    """2^(n-1), a normal number."""
    f.asm.half_power(out, f.operand(u, n))


def _whole_power(f: Writer, u: int, out: int, total: Operand) -> None:
    """2^n, a normal number, of a sum that ends with the bits of its exponent."""
    f.asm.whole_power(out, f.operand(u, total))


def _scalef_from(f: Writer, u: int, out: int, a: Operand, n: Operand, low: Operand) -> None:
    """Write a 2^n, and 0 where n is less than low."""
    f.asm.scale(out, f.operand(u, a), f.operand(u, n), f.operand(u, low, register=False))


def _copysign(f: Writer, u: int, out: int, a: Operand, b: Operand) -> None:
    """The size of a with the sign of b."""
    t = f.vector()
    f.asm.real(AND, t, f.operand(u, b), f.bits(f.sign))
    f.asm.real(AND, out, f.operand(u, a), f.bits(~f.sign))
    f.asm.real(OR, out, out, t)
    f.free(t)


def _exponent(f: Writer, u: int, out: int, a: Operand) -> None:
    """The exponent of a positive number as a number, of subnormal ones too."""
    f.asm.exponent(out, f.operand(u, a))


def _significand(f: Writer, u: int, out: int, a: Operand) -> None:
    """The a 2^-exponent with 1 <= value < 2, of a positive number."""
    f.asm.significand(out, f.operand(u, a))


def _head(f: Writer, u: int, out: int, a: Operand) -> None:
    """The upper half of the significand: products with such another are exact."""
    f.asm.real(AND, out, f.operand(u, a), f.bits(-1 << (32 if f.asm.double else 12)))


def _log_ends(f: Writer, u: int, out: int, y: Operand, x: Operand) -> None:
    """What a logarithm y of x is at 0, infinity, negative numbers and NaN."""
    f.asm.log_ends(out, f.operand(u, y), f.operand(u, x))


def _least(f: Writer, u: int, out: int, a: Operand, b: Operand) -> None:
    """The smaller; b where they do not compare."""
    f.asm.real(MIN, out, f.operand(u, a), f.operand(u, b, register=False))


def _most(f: Writer, u: int, out: int, a: Operand, b: Operand) -> None:
    """The larger; b where they do not compare."""
    f.asm.real(MAX, out, f.operand(u, a), f.operand(u, b, register=False))


def _hot(f: Writer, u: int, out: int, label: Operand, column: Operand) -> None:
    """Whether the column is the one of the label."""
    f.asm.same(out, f.hot(label, column), f.columns(u))


RECIPES: dict[str, Recipe] = {
    "copy": _copy,
    "half_power": _half_power,
    "whole_power": _whole_power,
    "scalef_from": _scalef_from,
    "exponent": _exponent,
    "significand": _significand,
    "head": _head,
    "log_ends": _log_ends,
    "copysign": _copysign,
    "least": _least,
    "most": _most,
    "hot": _hot,
    "negative": _with_bits(XOR, True),
    "absolute": _with_bits(AND, False),
    "square": _square,
    "sqrt": _sqrt,
    "reciprocal": _reciprocal,
    "rsqrt": _rsqrt,
    "relu": _relu,
    "floor": _round(1),
    "ceil": _round(2),
    "trunc": _round(3),
    "rint": _round(0),
    "divide": _divide,
    "maximum": _extreme(MAX),
    "minimum": _extreme(MIN),
    "tanh_pull": _tanh_pull,
    "expit_pull": _expit_pull,
    "relu_pull": _relu_pull,
    "muladd": _muladd,
    "mulsub": _mulsub,
    "nmuladd": _nmuladd,
    "clip": _clip,
    "where": _where,
    "equal": _compare(EQUAL),
    "not_equal": _compare(NOT_EQUAL),
    "less": _compare(LESS),
    "less_equal": _compare(LESS_EQUAL),
    "greater": _compare(GREATER),
    "greater_equal": _compare(GREATER_EQUAL),
    "isnan": _isnan,
    "isinf": _against_infinity(EQUAL),
    "isfinite": _against_infinity(LESS),
    "logical_and": _logical("and"),
    "logical_or": _logical("or"),
    "logical_xor": _logical("xor"),
    "logical_not": _logical_not,
}
MASKS = frozenset((
    "hot", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "isnan", "isinf", "isfinite",
    "logical_and", "logical_or", "logical_xor", "logical_not",
))  # fmt: skip
MASKED = {
    "where": (True, False, False),
    **dict.fromkeys(("logical_and", "logical_or", "logical_xor"), (True, True)),
    "logical_not": (True,),
}
"""Operands that are masks; of other operations none is."""
