"""Generated loops against the loops of the vector family and exact arithmetic, bit for bit; sums to rounding."""

import ctypes
import itertools
import math
import subprocess
import sys
import time
from fractions import Fraction

import numpy as np
import pytest

from nnmath_core._ext import _cpu, _vector
from nnmath_core._ext._native import Code
from nnmath_core.program.native import available
from nnmath_core.program.native.compositions import COMPOSITIONS
from nnmath_core.program.native.generate import ASSEMBLERS, generate
from nnmath_core.program.native.recipes import DIRECT, FUSED, MASKED, MASKS, RECIPES, REDUCTIONS
from nnmath_core.program.native.run import Arg, Instruction, Run

pytestmark = pytest.mark.skipif(not available(), reason="generated loops need AVX2")

DTYPES = [np.float32, np.float64]
BINARY = {
    "add", "subtract", "multiply", "divide", "quotient", "maximum", "minimum", "equal", "not_equal", "less",
    "less_equal", "greater", "greater_equal", "tanh_pull", "expit_pull", "relu_pull", "copysign", "least", "most",
    "log_ends", "logical_and", "logical_or", "logical_xor",
}  # fmt: skip
TERNARY = {"muladd", "mulsub", "nmuladd", "clip", "where", "fma", "fnma", "scalef_from"}
ALONE = {"whole_power", "hot"}  # with a test of its own
NAMES = sorted({*RECIPES, *DIRECT, *FUSED, *COMPOSITIONS} - ALONE)
GUARD = 0xA5
SPECIAL = [
    0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.3, -0.3, 1e-10, -1e-10, 13.0,
    -24.0, 88.7, -103.0, 709.7, -745.0, 1e10, 8388609.0,
]  # fmt: skip


def lanes(dtype):
    return ASSEMBLERS[_cpu.selected()].width // np.dtype(dtype).itemsize


def special(dtype):
    info = np.finfo(dtype)
    ends = [info.smallest_subnormal, info.smallest_subnormal * 5, info.tiny, info.max, 1 + info.eps]
    with np.errstate(over="ignore"):
        return np.array([*SPECIAL, *ends, *(-np.array(ends))], dtype)


def numbers(dtype, n, seed):
    """Special values among normal ones of many sizes."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n) * rng.choice([1e-3, 0.3, 1.0, 10.0, 300.0], n)
    x = x.astype(dtype)
    return np.where(rng.random(n) < 0.25, rng.choice(special(dtype), n), x)


def guarded(n, dtype, shift=3):
    """An array of n entries, not at a multiple of 64 bytes, and the bytes that it lies in, all GUARD."""
    size = np.dtype(dtype).itemsize
    raw = np.full(n * size + 64 + 128 + shift * size, GUARD, np.uint8)
    begin = -raw.ctypes.data % 64 + 64 + shift * size
    return raw, raw[begin : begin + n * size].view(dtype)


def code_of(run):
    made = generate(run)
    assert made is not None
    return Code(made)


def call(code, arrays, n):
    loop = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(code.address)
    loop(
        (ctypes.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays]), (ctypes.c_int64 * 2)(n, 1), None, None
    )  # fmt: skip


def same(got, want, what=""):
    """Bits, but for those of NaN."""
    assert got.dtype == want.dtype, what
    if want.dtype == bool:
        ok = got.view(np.uint8) == want
    else:
        bits = np.dtype(f"u{want.itemsize}")
        ok = (got.view(bits) == want.view(bits)) | (np.isnan(got) & np.isnan(want))
    assert ok.all(), f"{what}: at {np.flatnonzero(~ok)[:4]} {got[~ok][:4]}, not {want[~ok][:4]}"


# ------------------------------------------------------------------------------------------ what is right
def rounded(x, dtype):
    """A fraction as the nearest number, ties to even."""
    info = np.finfo(dtype)
    if x == 0:
        return dtype(0)
    size = abs(x)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= Fraction(2) ** exponent > size
    step = max(exponent, info.minexp) - info.nmant
    value = round(size / Fraction(2) ** step) * Fraction(2) ** step
    out = dtype(math.inf) if value > Fraction(float(info.max)) else dtype(float(value))
    return np.copysign(out, dtype(-1 if x < 0 else 1))


def exact_fma(a, b, c, sign):
    """Sign * a b + c with one rounding."""
    dtype = type(a)
    if not (np.isfinite(a) and np.isfinite(b) and np.isfinite(c)):
        if np.isfinite(a) and np.isfinite(b):  # the product overflows in no exact arithmetic
            return c
        return dtype(sign) * a * b + c
    value = sign * Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    if value == 0 and (a == 0 or b == 0):
        return dtype(sign) * a * b + c
    return rounded(value, dtype)


def _fused(sign):
    return lambda a, b, c: np.array(
        [exact_fma(*x, sign) for x in zip(*np.broadcast_arrays(a, b, c), strict=True)], c.dtype
    )


def _log_ends(y, x):
    with np.errstate(all="ignore"):
        return np.where((x > 0) & (x < math.inf), y, np.log(x))


def _head(a):
    bits = np.dtype(f"u{a.itemsize}")
    cut = 12 if a.itemsize == 4 else 32
    return np.array(np.array(a).view(bits) >> bits.type(cut) << bits.type(cut)).view(a.dtype)


OTHERS = {
    "exponent": lambda a: (np.frexp(a)[1] - 1).astype(a.dtype),
    "significand": lambda a: 2 * np.frexp(a)[0],
    "head": _head,
    "log_ends": _log_ends,
    "copy": lambda a: a.copy(),
    "copysign": np.copysign,
    "least": lambda a, b: np.where(a < b, a, b),
    "most": lambda a, b: np.where(a > b, a, b),
    "half_power": lambda n: np.ldexp(n.dtype.type(0.5), n.astype(int)),
    "scalef_from": lambda a, n, low: np.where(n < low, 0, np.ldexp(a, n.astype(int))).astype(
        a.dtype
    ),
    "fma": _fused(1),
    "fnma": _fused(-1),
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "logical_not": np.logical_not,
}


def reference(name, operands, n):
    """The values of an operation; operands of rank 0 are the same for all."""
    with np.errstate(all="ignore"):
        if name in OTHERS:
            out = OTHERS[name](*[np.broadcast_to(x, n) for x in operands])
        else:
            out = _vector.apply(name, *[np.ascontiguousarray(x) if x.ndim else x for x in operands])
    return np.array(np.broadcast_to(out, n))


# ------------------------------------------------------------------------------------------ operations
def operands_of(name):
    return 3 if name in TERNARY else 2 if name in BINARY else 1


def columns(name, dtype):
    """Operands of an operation that meet each other, special values first."""
    count = operands_of(name)
    masked = MASKED.get(name, (False,) * count)
    some = special(dtype)
    if count == 3:
        some = some[[0, 1, 2, 3, 4, 5, 6, 7, 24, 27, 32]]
    met = [np.array(x) for x in zip(*itertools.product(some, repeat=count), strict=True)]
    length = 2000 if name in FUSED else 4096
    out = []
    for k, first in enumerate(met):
        x = np.concatenate([first, numbers(dtype, max(length - len(first), 100), k)]).astype(dtype)
        out.append(x)
    if name in FUSED:  # sums that cancel, where the second rounding would show
        with np.errstate(all="ignore"):
            out[2][1500:1800] = (-(out[0] * out[1]))[1500:1800]
    rng, info = np.random.default_rng(9), np.finfo(dtype)
    if name in ("exponent", "significand"):
        out[0] = np.abs(out[0][np.isfinite(out[0]) & (out[0] != 0)])
    if name == "half_power":  # from the least normal number to half of the largest power
        out[0] = rng.integers(info.minexp + 1, info.maxexp, len(out[0]), endpoint=True).astype(
            dtype
        )
    if name == "scalef_from":
        most = 190 if dtype is np.float32 else 1600
        out[1] = rng.integers(-most, most, len(out[1])).astype(dtype)
        size = np.abs(out[0])
        far = ((size < 2.0**-25) & (out[1] > 0)) | ((size > 2.0**25) & (size < math.inf))
        out[0] = np.where(far, np.copysign(0, out[0]), out[0]).astype(dtype)
        out[2] = (
            info.minexp - 1 - np.abs(np.nan_to_num(out[2], posinf=30)) % 60
        )  # less than that of a normal number
    rng = np.random.default_rng(8)
    return [rng.random(len(x)) < 0.5 if m else x for x, m in zip(out, masked, strict=True)]


def one(name, forms, given, double):
    """The run of one operation whose operands are as ``forms`` says, and those that lie in memory."""
    args, reads, arrays = [], [], []
    for form, x in zip(forms, given, strict=True):
        if form == "number":
            reads.append(("number", float(x)))
            continue
        reads.append(("arg", len(args)))
        args.append(Arg(form, x.dtype == bool))
        arrays.append(x)
    args.append(Arg("output", name in MASKS))
    step = Instruction(name, tuple(reads), (len(args) - 1,))
    return Run(double, tuple(args), (step,)), arrays


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_an_operation_has_the_bits_of_its_loop(name, dtype):
    """Over special values, of every length up to some vectors, with each operand a stream, one entry or a number."""
    full = columns(name, dtype)
    few = [*range(2), *range(lanes(dtype) - 1, lanes(dtype) + 2), 5 * lanes(dtype) + 3]
    out_type = bool if name in MASKS else dtype
    rng = np.random.default_rng(3)
    for forms in itertools.product(("stream", "spread", "number"), repeat=len(full)):
        if any(f == "number" and x.dtype == bool for f, x in zip(forms, full, strict=True)):
            continue
        whole = all(f == "stream" for f in forms)
        places = [rng.integers(len(full[0])) for _ in range(2)] if not whole else [0]
        for at in places:
            given = [
                x if f == "stream" else np.array(x[at]) for f, x in zip(forms, full, strict=True)
            ]
            if name == "scalef_from" and forms[1] != "stream":
                given[1] = np.array(3, dtype)
            run, arrays = one(name, forms, given, dtype is np.float64)
            code = code_of(run)
            placed = []
            for x in arrays:
                _, to = guarded(x.size, x.dtype, shift=5)
                to[:] = x
                placed.append(to)
            lengths = (
                [0, 1, *range(lanes(dtype) - 1, 5 * lanes(dtype) + 4), len(full[0])]
                if whole
                else few
            )
            want = reference(name, [x[: lengths[-1]] if x.ndim else x for x in given], lengths[-1])
            for n in lengths:
                raw, out = guarded(n, out_type)
                call(code, [*placed, out], n)
                same(out, want[:n], f"{name} {forms} of {n}")
                assert (raw == GUARD).sum() >= raw.size - out.nbytes
                outside = raw.copy()
                begin = out.ctypes.data - raw.ctypes.data if n else 0
                outside[begin : begin + out.nbytes] = GUARD
                assert (outside == GUARD).all(), f"{name} of {n} wrote outside of its output"


BORDERS = [
    2**0.5, 0.5**0.5, 1.0, 2.0, 0.5, 0.3, 2**0.5 - 1, 2**0.5 + 1, 4.0, 6.0, 10.0, 13.0, 15.0, 20.0, 22.0, 24.0, 40.0,
    88.8, 103.97, 120.0, 159.0, 709.9, 745.2, 760.0, 1090.0, 1e-9, 1e-17, math.log(2) / 2, 1.5 * math.log(2),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_a_function_has_the_bits_of_its_loop_everywhere(name, dtype):
    """Numbers of all exponents and signs, and neighbours of where the function is computed another way."""
    rng = np.random.default_rng(11)
    bits = np.dtype(f"u{np.dtype(dtype).itemsize}")
    sizes = rng.integers(0, np.array(math.inf, dtype).view(bits), 30000, dtype=bits).view(dtype)
    near = np.array(BORDERS, dtype)[:, None].view(bits) + np.arange(-40, 41).astype(bits)
    x = np.concatenate(
        [sizes, near.view(dtype).ravel(), 8 * rng.random(10000).astype(dtype), special(dtype)]
    )
    x = np.concatenate([x, -x])
    run, _ = one(name, ["stream"], [x], dtype is np.float64)
    out = np.empty_like(x)
    call(code_of(run), [x, out], len(x))
    same(out, reference(name, [x], len(x)), name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_vanishes_takes_no_longer(dtype):
    """A power of two below all numbers would take the processor ten to fifty times as long; the best of ten."""
    size = 1000 * lanes(dtype)
    for name in ("exp", "exp2", "expm1", "expit", "erfc", "gelu", "gelu_slope", "gelu_tanh"):
        code, out = (
            code_of(one(name, ["stream"], [np.ones(1, dtype)], dtype is np.float64)[0]),
            np.empty(size, dtype),
        )
        best = []
        for value in (1.0, -1200.0, 1200.0):
            x, took = np.full(size, value, dtype), []
            for _ in range(10):
                start = time.perf_counter_ns()
                call(code, [x, out], size)
                took.append(time.perf_counter_ns() - start)
            best.append(min(took))
        assert max(best[1:]) < 4 * best[0], (name, best)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_a_function_of_any_nan_is_nan(name, dtype):
    bits = np.dtype(f"u{np.dtype(dtype).itemsize}")
    infinity = int(np.array(math.inf, dtype).view(bits))
    payloads = np.random.default_rng(1).integers(1, 1 << np.finfo(dtype).nmant, 100)
    x = (payloads + infinity).astype(bits)
    x[::2] |= bits.type(1 << (8 * bits.itemsize - 1))
    out = np.zeros(len(x), dtype)
    run, _ = one(name, ["stream"], [x.view(dtype)], dtype is np.float64)
    call(code_of(run), [x, out], len(x))
    assert np.isnan(out).all()


def test_every_operation_of_the_generator_is_compared():
    """With the loop of its name, or with what OTHERS says."""
    unknown = [n for n in NAMES if n not in OTHERS and n not in _vector.names()]
    assert unknown == []
    assert set(REDUCTIONS) <= set(_vector.names())


@pytest.mark.parametrize("dtype", DTYPES)
def test_in_place_of_an_operand(dtype):
    """An output may lie where an operand lies, whole vectors and rest."""
    for name in ("exp", "divide", "fma", "clip", "maximum", "where"):
        full = columns(name, dtype)
        want = reference(name, full, len(full[0]))
        run, arrays = one(name, ["stream"] * len(full), full, dtype is np.float64)
        code = code_of(run)
        for k, x in enumerate(full):
            if x.dtype == bool:
                continue
            for n in (1, lanes(dtype) + 1, len(x)):
                copies = [np.array(y) for y in arrays]
                call(code, [*copies, copies[k]], n)
                same(copies[k][:n], want[:n], name)
                same(copies[k][n:], x[n:], name)


DIVISORS = [
    3.0, -7.0, 0.1, 1.0, 0.0, -0.0, math.inf, -math.inf, math.nan, 1e17, 1.1e18, 9.9e-19, 1e-18, 1e18, 1e150, 0.99e150,
    1e-150, 1.01e-150, 1e-300, 1e300, 5e-324, 1e-45, 3e38, 1.1754943e-38,
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_division_by_one_divisor(dtype):
    """The short way and the slow one, of one divisor and of two, either of which may need it.

    Bits of the loop, which near underflow may be the number beside the rounded quotient; the slow way gives that one.
    """
    with np.errstate(all="ignore"):
        x = np.concatenate(
            [special(dtype), numbers(dtype, 300, 5), numbers(dtype, 300, 6) * np.finfo(dtype).tiny]
        )
        divisors = np.array(DIVISORS, dtype)
    x = x.astype(dtype)
    arg = [("arg", k) for k in range(3)]
    run = Run(
        dtype is np.float64,
        (
            Arg("stream"),
            Arg("spread"),
            Arg("spread"),
            Arg("output"),
            Arg("output"),
            Arg("sum"),
            Arg("output", True),
        ),
        (
            Instruction("divide", (arg[0], arg[1]), (3,)),
            Instruction("divide", (("value", 0), arg[2]), (4,)),
            Instruction("sum_ones", (("value", 0),), (), 5),
            Instruction("isnan", (("value", 1),), (6,)),
        ),
    )
    code = code_of(run)
    for a, b in itertools.product(divisors, divisors):
        for n in (x.size, lanes(dtype) * 4, 5):
            got = [np.zeros(n, dtype), np.zeros(n, dtype), np.zeros(2), np.zeros(n, bool)]
            call(code, [x, np.array(a), np.array(b), *got], n)
            for above, below, quotient in ((x[:n], a, got[0]), (got[0], b, got[1])):
                want = _vector.apply("divide", above, np.array(below))
                with np.errstate(all="ignore"):
                    exact = above / below
                same(quotient, np.where(quotient == exact, exact, want), f"/ {a} / {b}")
                far = 1e18 if dtype is np.float32 else 1e150
                if all(dtype(1 / far) < abs(d) < dtype(far) for d in (a, b)):
                    same(quotient, want, f"/ {a} / {b}, short")
            assert got[2].sum() == (got[0] == 1).sum()
            same(got[3], np.isnan(got[1]), "isnan")


@pytest.mark.parametrize("dtype", DTYPES)
def test_bytes_of_bools_are_0_and_1_and_any_other_byte_is_true(dtype):
    n = 5 * lanes(dtype) + 3
    x, y = numbers(dtype, n, 1), numbers(dtype, n, 2)
    m = np.random.default_rng(0).integers(0, 4, n).astype(np.uint8).view(bool)
    run = Run(
        dtype is np.float64,
        (
            Arg("stream", True),
            Arg("stream"),
            Arg("stream"),
            Arg("spread", True),
            Arg("output", True),
            Arg("output"),
        ),
        (
            Instruction("logical_not", (("arg", 0),), (4,)),
            Instruction("logical_xor", (("value", 0), ("arg", 3))),
            Instruction("where", (("value", 1), ("arg", 1), ("arg", 2)), (5,)),
        ),
    )
    code = code_of(run)
    for byte in (0, 1, 2, 128, 255):
        one_entry = np.array(byte, np.uint8)
        raw, out = guarded(n, bool)
        chosen = np.zeros(n, dtype)
        call(code, [m, x, y, one_entry, out, chosen], n)
        truth = m.view(np.uint8) != 0
        same(out, ~truth, "not")
        same(chosen, np.where(~truth ^ (byte != 0), x, y), "where")
        assert (raw == GUARD).sum() == raw.size - n


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_value_twice_is_made_once_and_stored_twice(dtype):
    """Masks and numbers; where it is stored second, it is stored when the second instruction runs."""
    n = 3 * lanes(dtype) + 1
    x, y = numbers(dtype, n, 1), numbers(dtype, n, 2)
    reads = ("arg", 0), ("arg", 1)
    run = Run(
        dtype is np.float64,
        (Arg("stream"), Arg("stream"), *[Arg("output", k % 2 == 1) for k in range(4)]),
        (
            Instruction("add", reads, (2,)),
            Instruction("less", reads, (3,)),
            Instruction("add", reads, (4,)),
            Instruction("less", reads, (5,)),
        ),
    )
    out = [np.zeros(n, bool if k % 2 else dtype) for k in range(4)]
    call(code_of(run), [x, y, *out], n)
    with np.errstate(all="ignore"):
        for k in range(4):
            same(out[k], x < y if k % 2 else x + y)


# ------------------------------------------------------------------------------------------ one-hot
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_hot(dtype):
    """The label inside, outside, below zero and huge; columns that begin anywhere; many blocks of the same row."""
    run = Run(
        dtype is np.float64,
        (Arg("stream"), Arg("label"), Arg("ramp"), Arg("output"), Arg("output", True)),
        (
            Instruction("hot", (("arg", 1), ("arg", 2)), (4,)),
            Instruction("where", (("value", 0), ("arg", 0), ("number", 0.0)), (3,)),
        ),
    )
    code = code_of(run)
    huge = 2**63
    for n in (1, lanes(dtype) - 1, lanes(dtype), 4 * lanes(dtype), 9 * lanes(dtype) + 5):
        x = numbers(dtype, n, n)
        for start in (0, 1000, -3, 2**32, -(2**32), 2**62, -(2**63)):
            ramp = np.arange(start, start + n, dtype=np.int64)
            inside = [start + k for k in {0, 1, n // 2, n - 1} if k < n]
            near = [
                start - 1,
                start + n,
                start + 2**32,
                start + 2**31,
                start - 2**32,
                start + n - 1 - 2**32,
            ]
            for label in [*inside, *near, 0, -1, huge - 1, -huge, -huge + 1]:
                if not -huge <= label < huge:
                    continue
                out, mask = np.full(n, 7, dtype), np.ones(n, bool)
                call(code, [x, np.array(label), ramp, out, mask], n)
                same(mask, ramp == label, f"{label} of {start} and {n}")
                same(out, np.where(ramp == label, x, dtype(0)), f"{label} of {start} and {n}")


# ------------------------------------------------------------------------------------------ memory
BEHIND = """
import ctypes, mmap, sys
import numpy as np
sys.path.insert(0, {tests!r})
from test_native import DTYPES, call, code_of, lanes
from nnmath_core.program.native.run import Arg, Instruction, Run
libc = ctypes.CDLL(None, use_errno=True)
page = mmap.PAGESIZE
def at_the_end(n, dtype):
    # entries up to the end of a page, behind which nothing may be touched
    memory = mmap.mmap(-1, 3 * page)
    raw = np.frombuffer(memory, np.uint8)
    place = raw.ctypes.data
    for guard in (place, place + 2 * page):
        assert libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0
    size = np.dtype(dtype).itemsize
    return raw[2 * page - n * size : 2 * page].view(dtype)
for dtype in DTYPES:
    run = Run(dtype is np.float64,
        (Arg("stream", far=2048), Arg("stream", True), Arg("spread"), Arg("output", far=2048), Arg("output", True),
         Arg("sum"), Arg("max")),
        (Instruction("exp", (("arg", 0),)), Instruction("where", (("arg", 1), ("value", 0), ("arg", 2)), (3,)),
         Instruction("less", (("value", 1), ("arg", 0)), (4,)), Instruction("sum", (("value", 1),), (), 5),
         Instruction("max", (("value", 1),), (), 6)))
    code = code_of(run)
    for n in (1, 3, lanes(dtype), lanes(dtype) + 1, 4 * lanes(dtype), 5 * lanes(dtype) + 3):
        operands = [at_the_end(n, dtype), at_the_end(n, bool), at_the_end(1, dtype)]
        operands += [at_the_end(n, dtype), at_the_end(n, bool), at_the_end(2, np.float64), at_the_end(1, dtype)]
        operands[1][:] = True
        call(code, operands, n)
        assert (operands[3] == 1).all() and operands[5].sum() == n and operands[6][0] == 1
print("whole")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="protects pages by mprotect")
def test_nothing_outside_of_the_operands_is_touched(request):
    """In a process of its own, which such an access ends."""
    runs_whole(BEHIND.format(tests=str(request.path.parent)))


def runs_whole(program):
    """Run a program that a signal may end in a process of its own; at its end it prints "whole"."""
    environment = {"PYTHONPATH": ":".join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "whole\n"


@pytest.mark.parametrize(
    ("past", "far"), [(True, 0), (False, 2048), (True, 2048), (False, 1 << 17)]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_how_memory_is_asked_for_changes_nothing(dtype, past, far):
    """Outputs at multiples of 64 bytes go past the caches, others as usual; entries may be fetched early."""
    n = 9 * lanes(dtype) + 5
    x = numbers(dtype, n, 4)
    run = Run(
        dtype is np.float64,
        (Arg("stream", far=far), Arg("output", past=past, far=far), Arg("output", past=past, far=far)),
        (Instruction("negative", (("arg", 0),), (1,)), Instruction("square", (("value", 0),), (2,))),
    )  # fmt: skip
    code = code_of(run)
    for shifts in itertools.product((0, 1), repeat=2):
        for m in (0, 1, 4 * lanes(dtype), n):
            raw, outs = zip(*[guarded(m, dtype, shift=s) for s in shifts], strict=True)
            call(code, [x, *outs], m)
            with np.errstate(all="ignore"):
                same(outs[0], -x[:m])
                same(outs[1], x[:m] * x[:m])
            for r, o in zip(raw, outs, strict=True):
                assert (r != GUARD).sum() <= o.nbytes


def test_code_is_made_of_bytes():
    for bad in (None, "\xc3", bytearray(b"\xc3"), 3):
        with pytest.raises(TypeError):
            Code(bad)
    code = Code(b"\xc3" * 5000)
    assert code.size == 5000
    assert ctypes.string_at(code.address, 5000) == b"\xc3" * 5000
