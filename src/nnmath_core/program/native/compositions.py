"""Functions as sequences of the generator's instructions, with the bits of the loops of the vector family.

They follow src/_ext/common/nnm_exp.h and nnm_erf.h step by step; where those build a power of two from bits, an
instruction scales by it here, rounding once.
"""

from __future__ import annotations

from collections.abc import Callable

from nnmath_core.program.native.recipes import Operand

__all__ = ["COMPOSITIONS", "Composer"]

Value = Operand | float


class Composer:
    """Hands on instructions as they are called for; ``double``: of float64. Numbers are operands as they are."""

    def __init__(
        self, *, double: bool, emit: Callable[[str, tuple[Operand, ...]], Operand]
    ) -> None:
        self.double = double
        self.emit = emit

    def __call__(self, name: str, *operands: Value) -> Operand:
        """Hand on an instruction; its value."""
        reads = tuple(x if isinstance(x, tuple) else ("number", x) for x in operands)
        return self.emit(name, reads)

    def pick(self, single: float, double: float) -> float:
        """The number of the type."""
        return double if self.double else single

    def horner(self, x: Value, a: tuple[float, ...]) -> Value:
        """a0 + x (a1 + x (...))."""
        y: Value = a[-1]
        for c in reversed(a[:-1]):
            y = self("fma", x, y, c)
        return y

    def estrin(self, x: Value, x2: Value, a: tuple[float, ...]) -> Operand:
        """The even coefficients apart from the odd ones: half as deep."""
        return self("fma", x, self.horner(x2, a[1::2]), self.horner(x2, a[::2]))

    def between(self, x: Value, most: float) -> Operand:
        """x, but -most below it and most above; NaN stays."""
        return self("least", most, self("most", -most, x))


# ---------------------------------------------------------------------------------------------- exponentials
_LOG2_E = 1.4426950408889634
_TAIL_F32 = 5.00000001e-1, 1.66666667e-1, 4.16664649e-2, 8.33331093e-3, 1.393365e-3, 1.98909908e-4
_TAIL_F64 = (
    5.0e-1, 1.6666666666666671e-1, 4.166666666666667e-2, 8.3333333333261351e-3, 1.3888888888883748e-3,
    1.9841269874820625e-4, 2.4801587325547741e-5, 2.7557255400206424e-6, 2.7557273643110295e-7, 2.5105217004720745e-8,
    2.0914686968086877e-9,
)  # fmt: skip


def _tail(c: Composer, r: Value, r2: Value) -> Operand:
    """(exp(r) - 1 - r) / r^2."""
    return c.estrin(r, r2, _TAIL_F64 if c.double else _TAIL_F32)


def _ln2(c: Composer) -> tuple[float, float]:
    return c.pick(0.693115234375, 0.6931471805598903), c.pick(3.19461833e-05, 5.497923018708371e-14)


def _power(c: Composer, x: Value) -> Operand:
    """The integer next to x / log 2."""
    by = c.pick(12582912.0, 6755399441055744.0)
    return c("subtract", c("fma", x, _LOG2_E, by), by)


def _exp(c: Composer, x: Operand) -> Operand:
    z = c.between(x, c.pick(120.0, 760.0))
    high, low = _ln2(c)
    n = _power(c, z)
    r = c("fma", n, -low, c("fma", n, -high, z))
    return c(
        "scalef",
        c("add", c("fma", c("multiply", r, r), _tail(c, r, c("multiply", r, r)), r), 1.0),
        n,
    )


def _parts(c: Composer, x: Value, low: Value) -> tuple[Operand, Operand, Operand]:
    """exp(x + low) = (p + rest) 2^n: p, rest and n."""
    x = c.between(x, c.pick(120.0, 760.0))
    ln2, ln2_low = _ln2(c)
    n = _power(c, x)
    head = c("fma", n, -ln2, x)
    minus = c("negative", low) if isinstance(low, tuple) else -low
    tail = c("fma", n, ln2_low, minus)
    r = c("subtract", head, tail)
    lost = c("subtract", c("subtract", head, r), tail)
    p = c("add", r, 1.0)
    r2 = c("multiply", r, r)
    rest = c("fma", r2, _tail(c, r, r2), c("add", c("subtract", r, c("subtract", p, 1.0)), lost))
    return p, rest, n


def _half_expm1(c: Composer, x: Value) -> Operand:
    """expm1(x) / 2 for moderate x."""
    ln2, ln2_low = _ln2(c)
    n = _power(c, x)
    head, tail = c("fma", n, -ln2, x), c("multiply", n, ln2_low)
    r = c("subtract", head, tail)
    lost = c("subtract", c("subtract", head, r), tail)
    r2 = c("multiply", r, r)
    e = c("fma", r2, _tail(c, r, r2), c("fma", lost, r, lost))
    half = c("scalef", 0.5, n)
    large, small = c("subtract", half, 0.5), c("multiply", half, r)
    total = c("add", large, small)
    return c("add", total, c("fma", half, e, c("subtract", small, c("subtract", total, large))))


def _expm1(c: Composer, x: Operand) -> Operand:
    half = _half_expm1(c, c.between(x, c.pick(88.8, 709.9)))
    y = c("add", half, half)
    z = c("where", c("less", c("absolute", x), c.pick(1e-9, 1e-17)), x, y)
    return c("where", c("less", x, -40.0), -1.0, z)


_TANH_F32 = -3.33333329e-1, 1.33331824e-1, -5.38839547e-2, 2.03491984e-2
_TANH_F64 = (
    -3.3333333333333331e-1, 1.3333333333329434e-1, -5.3968253959152077e-2, 2.186948772571052e-2, -8.8632000249942392e-3,
    3.5912807603255065e-3, -1.4445662421400336e-3, 5.1084434913505086e-4,
)  # fmt: skip


def _tanh(c: Composer, x: Operand) -> Operand:
    size, z = c("absolute", x), c("multiply", x, x)
    capped = c("least", c.pick(10.0, 20.0), size)
    h = _half_expm1(c, c("add", capped, capped))
    p = c.estrin(z, c("multiply", z, z), _TANH_F64) if c.double else c.horner(z, _TANH_F32)
    small = c("fma", c("multiply", size, z), p, size)
    large = c("quotient", h, c("add", h, 1.0))
    return c("copysign", c("where", c("less", size, 0.3), small, large), x)


def _expit(c: Composer, x: Operand) -> Operand:
    p, rest, n = _parts(c, c("negative", c("absolute", x)), 0.0)
    e = c("scalef", c("add", p, rest), n)
    d = c("add", e, 1.0)
    lost = c("subtract", e, c("subtract", d, 1.0))
    above = c("scalef", c("add", p, c("fnma", p, lost, rest)), n)
    return c("quotient", c("where", c("greater", x, 0.0), 1.0, above), d)


# ---------------------------------------------------------------------------------------------- GELU by tanh
def _two_product(c: Composer, a: Value, b: Value) -> tuple[Operand, Operand]:
    p = c("multiply", a, b)
    return p, c("fma", a, b, c("negative", p))


def _gelu_parts(c: Composer, size: Operand) -> tuple[Operand, Operand]:
    """exp(-v) = p 2^n with v = 2 sqrt(2/pi) (s + 0.044715 s^3)."""
    a, b = 1.5957691216057308, 0.071354816272600248
    al, bl = (
        c.pick(-4.534068e-08, -9.96930880911092e-17),
        c.pick(2.3988325e-09, -6.175149918155315e-19),
    )
    square, low = _two_product(c, size, size)
    cube, lost = _two_product(c, square, b)
    low = c("add", lost, c("add", c("multiply", low, b), c("multiply", square, bl)))
    q = c("add", cube, a)
    v = c("subtract", q, cube)
    rest = c("add", c("subtract", cube, c("subtract", q, v)), c("subtract", a, v))
    low = c("add", low, c("add", rest, al))
    v, lost = _two_product(c, q, size)
    low = c("add", lost, c("multiply", low, size))
    p, rest, n = _parts(c, c("negative", v), c("negative", low))
    return c("add", p, rest), n


def _gelu_tanh(c: Composer, x: Operand) -> Operand:
    most = c.pick(13.0, 24.0)
    whole = c("absolute", x)
    size = c("least", most, whole)
    p, n = _gelu_parts(c, size)
    e, tail = c("scalef", p, n), c("scalef", c("multiply", size, p), n)
    positive = c("greater", x, 0.0)
    y = c("quotient", c("where", positive, x, c("negative", tail)), c("add", e, 1.0))
    return c(
        "where",
        c("less", whole, most),
        y,
        c("multiply", x, c("where", positive, 1.0, c("multiply", whole, 0.0))),
    )


def _gelu_tanh_slope(c: Composer, x: Operand) -> Operand:
    size = c("least", c.pick(13.0, 24.0), c("absolute", x))
    p, n = _gelu_parts(c, size)
    e = c("scalef", p, n)
    rise = c(
        "multiply",
        size,
        c("fma", c("multiply", size, size), 0.21406444881780074, 1.5957691216057308),
    )
    square = c("fma", e, c("add", e, 2.0), 1.0)
    left = c("quotient", c("multiply", c("add", c("subtract", 1.0, rise), e), p), square)
    left = c("scalef", left, n)
    return c("where", c("greater", x, 0.0), c("subtract", 1.0, left), left)


COMPOSITIONS: dict[str, Callable[[Composer, Operand], Operand]] = {
    "exp": _exp,
    "expm1": _expm1,
    "tanh": _tanh,
    "expit": _expit,
    "gelu_tanh": _gelu_tanh,
    "gelu_tanh_slope": _gelu_tanh_slope,
}
