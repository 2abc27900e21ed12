"""Functions as sequences of the generator's instructions, with the bits of the loops of the vector family.

They follow src/_ext/common/nnm_exp.h, nnm_log.h and nnm_erf.h step by step. Where those build a power of two from bits,
an instruction scales by it here, rounding once, and others take a number apart into exponent and significand.
"""

from __future__ import annotations

from collections.abc import Callable

from nnmath_core.program.native.recipes import Operand

__all__ = ["COMPOSITIONS", "Composer"]

Value = Operand | float


class Composer:
    """Hands on instructions as they are called for; ``double``: of float64. Numbers are operands as they are.

    ``usual``: where powers of two are normal numbers, which ``normal`` has to be checked for; ``counted``: where it is
    known for other reasons.
    """

    def __init__(
        self,
        *,
        double: bool,
        emit: Callable[[str, tuple[Operand, ...]], Operand],
        usual: bool = False,
    ) -> None:
        self.double = double
        self.emit = emit
        self.usual = usual
        self.counted = False
        self.normal: list[Operand] = []  # their exponents
        self._sums: dict[Operand, Operand] = {}  # what those were rounded in

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

    def integer(self, plus: Callable[[float], Operand]) -> Operand:
        """The integer next to a number, by its sum with a number so large that it has no bits behind the point.

        Where powers are normal, that ends with the bias of exponents, too: nothing may lie half between two integers.
        """
        large = self.pick(12582912.0, 6755399441055744.0)
        if self.usual:
            large += self.pick(127.0, 1023.0)
        total = plus(large)
        n = self("subtract", total, large)
        self._sums[n] = total
        return n

    def with_bias(self, n: Operand) -> Operand:
        """A sum whose last bits are those of an integer and the bias of exponents."""
        large = self.pick(12582912.0 + 127.0, 6755399441055744.0 + 1023.0)
        return self._sums[n] if n in self._sums else self("add", n, large)

    def at_most(self, most: float, x: Operand) -> Operand:
        """The smaller, for an exponential whose power of two is not normal at ``most``."""
        return x if self.usual else self("least", most, x)

    def between(self, x: Operand, most: float) -> Operand:
        """x, but -most below it and most above, where powers are not normal; NaN stays."""
        return x if self.usual else self("least", most, self("most", -most, x))


# ---------------------------------------------------------------------------------------------- sums and products
def _two_product(c: Composer, a: Value, b: Value) -> tuple[Operand, Operand]:
    p = c("multiply", a, b)
    return p, c("fma", a, b, c("negative", p))


def _two_sum(c: Composer, a: Value, b: Value) -> tuple[Operand, Operand]:
    s = c("add", a, b)
    v = c("subtract", s, a)
    return s, c("add", c("subtract", a, c("subtract", s, v)), c("subtract", b, v))


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


def _power(c: Composer, x: Value, by: float = _LOG2_E) -> Operand:
    """The integer next to x / log 2, or to x times another number."""
    return c.integer(lambda large: c("fma", x, by, large))


def _scaled(c: Composer, p: Operand, n: Operand, bits: int = 1) -> Operand:
    """Write p 2^n, |p| < 2^bits: below these n it is 0, not -0, which the processor would take long to find."""
    if c.usual:
        if not c.counted:
            c.normal.append(n)
        return c("multiply", p, c("whole_power", c.with_bias(n)))
    return c("scalef_from", p, n, c.pick(-150.0 - bits, -1075.0 - bits))


def _exp(c: Composer, x: Operand) -> Operand:
    z = c.at_most(c.pick(120.0, 760.0), x)
    high, low = _ln2(c)
    n = _power(c, z)
    r = c("fma", n, -low, c("fma", n, -high, z))
    r2 = c("multiply", r, r)
    return _scaled(c, c("add", c("fma", r2, _tail(c, r, r2), r), 1.0), n)


def _parts(c: Composer, x: Operand, low: Value) -> tuple[Operand, Operand, Operand]:
    """exp(x - low) = (p + rest) 2^n: p, rest and n."""
    x = c.between(x, c.pick(120.0, 760.0))
    ln2, ln2_low = _ln2(c)
    n = _power(c, x)
    head = c("fma", n, -ln2, x)
    tail = c("fma", n, ln2_low, low)
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
    half = c("half_power", n)
    large, small = c("subtract", half, 0.5), c("multiply", half, r)
    total = c("add", large, small)
    return c("add", total, c("fma", half, e, c("subtract", small, c("subtract", total, large))))


def _expm1(c: Composer, x: Operand) -> Operand:
    half = _half_expm1(c, c("least", c.pick(88.8, 709.9), c("most", -40.0, x)))
    y = c("add", half, half)
    z = c("where", c("less", c("absolute", x), c.pick(1e-9, 1e-17)), x, y)
    return c("where", c("less", x, -40.0), -1.0, z)


def _exp_times(c: Composer, x: Operand, low: Value, factor: Value) -> Operand:
    """Factor times exp(x - low), the factor in [0, 64)."""
    p, rest, n = _parts(c, x, low)
    return _scaled(c, c("fma", factor, p, c("multiply", factor, rest)), n, 7)


def _exp2(c: Composer, x: Operand) -> Operand:
    z = c.at_most(c.pick(159.0, 1090.0), x)
    by = c.pick(12582912.0, 6755399441055744.0)
    n = c("subtract", c("add", z, by), by)
    u = c("subtract", z, n)
    r, lost = _two_product(c, u, 0.69314718055994531)
    low = c("add", lost, c("multiply", u, c.pick(-1.9046543e-09, 2.3190468138462996e-17)))
    r2 = c("multiply", r, r)
    rest = c("add", r, c("fma", r2, _tail(c, r, r2), low))
    return _scaled(c, c("add", rest, 1.0), n)


def _sinh(c: Composer, x: Operand) -> Operand:
    border = c.pick(10.0, 22.0)
    size = c("absolute", x)
    half = _half_expm1(c, c("least", border, size))
    t = c("add", half, half)
    low = c("multiply", c("add", t, c("quotient", t, c("add", t, 1.0))), 0.5)
    low = c("where", c("less", size, c.pick(1e-9, 1e-17)), size, low)
    high = _exp_times(c, size, -0.0, 0.5)
    return c("copysign", c("where", c("less", size, border), low, high), x)


def _cosh(c: Composer, x: Operand) -> Operand:
    h = _exp_times(c, c("absolute", x), -0.0, 0.5)
    return c("add", h, c("quotient", 0.25, h))


_TANH_F32 = -3.33333329e-1, 1.33331824e-1, -5.38839547e-2, 2.03491984e-2
_TANH_F64 = (
    -3.3333333333333331e-1, 1.3333333333329434e-1, -5.3968253959152077e-2, 2.186948772571052e-2, -8.8632000249942392e-3,
    3.5912807603255065e-3, -1.4445662421400336e-3, 5.1084434913505086e-4,
)  # fmt: skip


def _tanh(c: Composer, x: Operand) -> Operand:
    size, z = c("absolute", x), c("multiply", x, x)
    capped = c("least", c.pick(10.0, 20.0), size)
    u = c("add", capped, capped)
    n = _power(c, u)
    high, low = _ln2(c)
    r = c("fma", n, -low, c("fma", n, -high, u))
    r2 = c("multiply", r, r)
    half = c("half_power", n)
    h = c("fma", half, c("fma", r2, _tail(c, r, r2), r), c("subtract", half, 0.5))
    p = c.estrin(z, c("multiply", z, z), _TANH_F64) if c.double else c.horner(z, _TANH_F32)
    small = c("fma", c("multiply", size, z), p, size)
    large = c("quotient", h, c("add", h, 1.0))
    return c("copysign", c("where", c("less", size, 0.3), small, large), x)


def _expit(c: Composer, x: Operand) -> Operand:
    p, rest, n = _parts(c, c("negative", c("absolute", x)), -0.0)
    e = _scaled(c, c("add", p, rest), n)
    d = c("add", e, 1.0)
    lost = c("subtract", e, c("subtract", d, 1.0))
    above = _scaled(c, c("add", p, c("fnma", p, lost, rest)), n)
    return c("quotient", c("where", c("greater", x, 0.0), 1.0, above), d)


# ---------------------------------------------------------------------------------------------- logarithms
_LOG_F32 = 6.66666666e-1, 4.00001222e-1, 2.85507786e-1, 2.33316145e-1
_LOG_F64 = (
    6.6666666666666697e-1, 3.9999999999898891e-1, 2.8571428626253838e-1, 2.2222211089379496e-1, 1.8182892432536871e-1,
    1.5331611722055008e-1, 1.4617807153417325e-1,
)  # fmt: skip


def _log_split(c: Composer, x: Value) -> tuple[Operand, Operand]:
    """The f and k of x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2)."""
    m, k = c("significand", x), c("exponent", x)
    above = c("greater_equal", m, c.pick(1.41421353816986083984375, 1.4142135623730951))
    m = c("where", above, c("multiply", m, 0.5), m)
    return c("subtract", m, 1.0), c("where", above, c("add", k, 1.0), k)


def _log_parts(c: Composer, f: Operand) -> tuple[Operand, Operand, Operand]:
    """log(1 + f) = f - h + s rest: h, s and rest."""
    s = c("quotient", f, c("add", f, 2.0))
    h = c("multiply", c("multiply", f, 0.5), f)
    z = c("multiply", s, s)
    tail = c.estrin(z, c("multiply", z, z), _LOG_F64 if c.double else _LOG_F32)
    return h, s, c("add", h, c("multiply", z, tail))


def _log(c: Composer, x: Operand) -> Operand:
    f, k = _log_split(c, x)
    h, s, rest = _log_parts(c, f)
    ln2, ln2_low = _ln2(c)
    t = c("fma", s, rest, c("multiply", k, ln2_low))
    y = c("subtract", c("multiply", k, ln2), c("subtract", c("subtract", h, t), f))
    return c("log_ends", y, x)


def _log1p(c: Composer, x: Operand) -> Operand:
    u = c("add", x, 1.0)
    f, k = _log_split(c, u)
    large = c("subtract", 1.0, c("subtract", u, x))
    small = c("subtract", x, c("subtract", u, 1.0))
    lost = c("quotient", c("where", c("greater", x, 1.0), large, small), u)
    near = c("equal", k, 0.0)
    lost = c("where", near, 0.0, lost)
    f = c("where", near, x, f)
    h, s, rest = _log_parts(c, f)
    ln2, ln2_low = _ln2(c)
    t = c("fma", s, rest, c("fma", k, ln2_low, lost))
    y = c("subtract", c("multiply", k, ln2), c("subtract", c("subtract", h, t), f))
    return c("where", c("equal", x, 0.0), x, c("log_ends", y, u))


def _log_of_base(
    c: Composer, x: Operand, inverse: tuple[float, float], unit: tuple[float, float]
) -> Operand:
    """The sum of k unit and log(1 + f) inverse, both in two parts; a unit of 1 has one."""
    f, k = _log_split(c, x)
    h, s, rest = _log_parts(c, f)
    head = c("head", c("subtract", f, h))
    tail = c("add", c("subtract", c("subtract", f, head), h), c("multiply", s, rest))
    p = c("multiply", head, inverse[0])
    low = c("add", c("multiply", c("add", tail, head), inverse[1]), c("multiply", tail, inverse[0]))
    whole = k
    if unit != (1.0, 0.0):
        whole = c("multiply", k, unit[0])
        low = c("add", low, c("multiply", k, unit[1]))
    y, lost = _two_sum(c, whole, p)
    return c("log_ends", c("add", y, c("add", low, lost)), x)


def _log2(c: Composer, x: Operand) -> Operand:
    inverse = (
        (float.fromhex("0x1.71547652p+0"), 1.6751713164886512e-10)
        if c.double
        else (1.4423828125, 3.1222839e-4)
    )
    return _log_of_base(c, x, inverse, (1.0, 0.0))


def _log10(c: Composer, x: Operand) -> Operand:
    if c.double:
        inverse = float.fromhex("0x1.bcb7b152p-2"), 2.5082946711645275e-11
        return _log_of_base(
            c, x, inverse, (float.fromhex("0x1.34413509f78p-2"), 2.8363394551044964e-14)
        )
    return _log_of_base(c, x, (0.4342041015625, 9.0380341e-05), (0.301025390625, 4.6050391e-06))


# ---------------------------------------------------------------------------------------------- normal distribution
# numerator and denominator of erfcx(x), and of erfcx(s / sqrt 2) / 2
_ERFCX_F32 = (
    (1.0, 1.24241984, 7.3581022e-1, 2.31226116e-1, 3.32187153e-2),
    (1.0, 2.37079954, 2.41096115, 1.33322096, 4.09862101e-1, 5.88780083e-2),
)  # fmt: skip
_ERFCX_F64 = (
    (1.0, 2.3435662581952242, 2.7225011419997292, 2.0258851983538135, 1.0594471162877819, 4.0501564057456594e-1,
     1.1447625196557424e-1, 2.3652071722073629e-2, 3.4319074663182382e-3, 3.1804257130062337e-4,
     1.4473109684346979e-5),
    (1.0, 3.4719454252907371, 5.6401720291903498, 5.670445167700305, 3.9294678739446286, 1.976263635924438,
     7.3855077895958054e-1, 2.059324958796402e-1, 4.2204063498876375e-2, 6.0957240640579597e-3,
     5.6371578025455821e-4, 2.5652918994593459e-5),
)  # fmt: skip
_HALF_ERFCX_F32 = (
    (5.0e-1, 4.39261734e-1, 1.8395257e-1, 4.08753902e-2, 4.15233942e-3),
    (1.0, 1.67640841, 1.20548058, 4.71364796e-1, 1.0246554e-1, 1.0408259e-2),
)  # fmt: skip
_HALF_ERFCX_F64 = (
    (5.0e-1, 8.2857579666491316e-1, 6.806252854999323e-1, 3.5812929041535886e-1, 1.3243088953597274e-1,
     3.5798663242111122e-2, 7.1547657478483901e-3, 1.0452837689868029e-3, 1.0724710832244494e-4,
     7.027814339771151e-6, 2.2614233881792155e-7),
    (1.0, 2.4550361541326919, 2.8200860145951749, 2.0048051152136877, 9.8236696848615716e-1, 3.493573545936381e-1,
     9.2318847369947568e-2, 1.8202033037895543e-2, 2.6377539686797734e-3, 2.6939548887108774e-4,
     1.7616118132954944e-5, 5.6685478057206956e-7),
)  # fmt: skip
_ERF_F32 = (
    1.28379166e-1, -3.76126267e-1, 1.12835947e-1, -2.6854212e-2, 5.18908742e-3, -8.01686429e-4, 7.87587506e-5,
)  # fmt: skip
_ERF_F64 = (
    1.2837916709551257e-1, -3.7612638903183748e-1, 1.1283791670954879e-1, -2.6866170645076793e-2, 5.2239776248180145e-3,
    -8.5483269808337899e-4, 1.2055331111642711e-4, -1.4925595266831182e-5, 1.6461000484121368e-6,
    -1.6350312701054695e-7, 1.4659775274047436e-8, -1.1372848856791674e-9, 5.9571761477489114e-11,
)  # fmt: skip


def _erfcx(c: Composer, x: Operand, *, half: bool = False) -> Operand:
    """erfcx(x), or the half of erfcx(x / sqrt 2), by one quotient."""
    single, double = (_HALF_ERFCX_F32, _HALF_ERFCX_F64) if half else (_ERFCX_F32, _ERFCX_F64)
    top, bottom = double if c.double else single
    x2 = c("multiply", x, x)
    return c("quotient", c.estrin(x, x2, top), c.estrin(x, x2, bottom))


def _gauss_times(c: Composer, x: Operand, scale: float, factor: Value) -> Operand:
    """Factor times exp(-scale x^2), scale 1 or 1/2, the factor below 64: the square is rounded when it is reduced."""
    h = c("multiply", x, -scale) if scale != 1.0 else c("negative", x)
    n = _power(c, c("multiply", x, x), -scale * _LOG2_E)
    high, low = _ln2(c)
    r = c("fma", n, -low, c("fma", h, x, c("multiply", n, -high)))
    r2 = c("multiply", r, r)
    e = c("fma", r2, _tail(c, r, r2), r)
    return _scaled(c, c("fma", factor, e, factor), n, 7)


def _erf_part(c: Composer, z: Operand) -> Operand:
    """erf(x) / x - 1, z = x^2."""
    return c.estrin(z, c("multiply", z, z), _ERF_F64 if c.double else _ERF_F32)


def _erf(c: Composer, x: Operand) -> Operand:
    size = c("least", c.pick(4.0, 6.0), c("absolute", x))
    small = c("fma", size, _erf_part(c, c("multiply", size, size)), size)
    large = c("subtract", 1.0, _gauss_times(c, size, 1.0, _erfcx(c, size)))
    return c("copysign", c("where", c("less", size, 1.0), small, large), x)


def _erfc(c: Composer, x: Operand) -> Operand:
    size = c.at_most(c.pick(11.0, 28.0), c("absolute", x))
    tail = _gauss_times(c, size, 1.0, _erfcx(c, size))
    return c("where", c("less", x, 0.0), c("subtract", 2.0, tail), tail)


def _gelu(c: Composer, x: Operand) -> Operand:
    most = c.pick(15.0, 40.0)
    size = c.at_most(most, c("absolute", x))
    tail = _gauss_times(c, size, 0.5, c("multiply", size, _erfcx(c, size, half=True)))
    y = c("subtract", c("most", -0.0, x), tail)
    return c("fma", c.at_most(most, x), 0.0, y)


def _gelu_slope(c: Composer, x: Operand) -> Operand:
    size = c.at_most(c.pick(15.0, 40.0), c("absolute", x))
    factor = c("fma", size, -0.3989422804014327, _erfcx(c, size, half=True))
    left = _gauss_times(c, size, 0.5, factor)
    return c("where", c("greater", x, 0.0), c("subtract", 1.0, left), c("add", left, 0.0))


# ---------------------------------------------------------------------------------------------- sign, arc tangent
def _sign(c: Composer, x: Operand) -> Operand:
    rest = c("where", c("equal", x, 0.0), 0.0, x)  # NaN stays
    return c("where", c("greater", x, 0.0), 1.0, c("where", c("less", x, 0.0), -1.0, rest))


_ARCTAN_F32 = -3.33333318e-1, 1.99995388e-1, -1.42638971e-1, 1.07430997e-1, -6.44983522e-2
_ARCTAN_F64 = (
    -3.333333333333333e-1, 1.9999999999995479e-1, -1.4285714284657894e-1, 1.1111111014561014e-1, -9.090904549884611e-2,
    7.6921825351166482e-2, -6.6645022156714471e-2, 5.8580687568615105e-2, -5.0850304928109405e-2,
    3.9219552532551294e-2, -1.9162068915902574e-2,
)  # fmt: skip


def _arctan(c: Composer, x: Operand) -> Operand:
    size = c("absolute", x)
    small, middle = c("less", size, 0.41421356237309503), c("less", size, 2.4142135623730949)

    def choose(a: Value, b: Value, otherwise: Value) -> Operand:
        return c("where", small, a, c("where", middle, b, otherwise))

    above = choose(size, c("subtract", size, 1.0), -1.0)
    q = c("quotient", above, choose(1.0, c("add", size, 1.0), size))
    base = choose(0.0, 0.78539816339744828, 1.5707963267948966)
    bit = c.pick(-2.1855695e-08, 3.061616997868383e-17)
    low = choose(0.0, bit, 2 * bit)
    z = c("multiply", q, q)
    p = c.estrin(z, c("multiply", z, z), _ARCTAN_F64) if c.double else c.horner(z, _ARCTAN_F32)
    y = c("add", base, c("add", q, c("fma", c("multiply", q, z), p, low)))
    return c("copysign", y, x)


# ---------------------------------------------------------------------------------------------- GELU by tanh
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
    p, rest, n = _parts(c, c("negative", v), low)
    return c("add", p, rest), n


def _gelu_tanh(c: Composer, x: Operand) -> Operand:
    most = c.pick(13.0, 24.0)
    whole = c("absolute", x)
    size = c.at_most(most, whole)
    p, n = _gelu_parts(c, size)
    e, tail = _scaled(c, p, n), _scaled(c, c("multiply", size, p), n, 7)
    positive = c("greater_equal", x, 0.0)
    y = c("quotient", c("where", positive, x, c("negative", tail)), c("add", e, 1.0))
    if c.usual:
        return y
    return c(
        "where",
        c("less", whole, most),
        y,
        c("multiply", x, c("where", positive, 1.0, c("multiply", whole, 0.0))),
    )


def _gelu_tanh_slope(c: Composer, x: Operand) -> Operand:
    size = c.at_most(c.pick(13.0, 24.0), c("absolute", x))
    p, n = _gelu_parts(c, size)
    e = _scaled(c, p, n)
    rise = c(
        "multiply",
        size,
        c("fma", c("multiply", size, size), 0.21406444881780074, 1.5957691216057308),
    )
    square = c("fma", e, c("add", e, 2.0), 1.0)
    left = c("quotient", c("multiply", c("add", c("subtract", 1.0, rise), e), p), square)
    left = _scaled(c, left, n, 14)
    return c("where", c("greater", x, 0.0), c("subtract", 1.0, left), c("add", left, 0.0))


COMPOSITIONS: dict[str, Callable[[Composer, Operand], Operand]] = {
    "exp": _exp,
    "exp2": _exp2,
    "expm1": _expm1,
    "sinh": _sinh,
    "cosh": _cosh,
    "tanh": _tanh,
    "expit": _expit,
    "log": _log,
    "log2": _log2,
    "log10": _log10,
    "log1p": _log1p,
    "sign": _sign,
    "arctan": _arctan,
    "erf": _erf,
    "erfc": _erfc,
    "gelu": _gelu,
    "gelu_slope": _gelu_slope,
    "gelu_tanh": _gelu_tanh,
    "gelu_tanh_slope": _gelu_tanh_slope,
}
