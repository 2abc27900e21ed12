"""Bodies of generated loops for what is usual: what leaves them, and that nothing is lost or done twice there."""

import ctypes
import itertools
import math

import numpy as np
import pytest
from test_native import call, code_of, guarded, lanes, reference, same

from nnmath_core._ext import _cpu
from nnmath_core.program.native import available
from nnmath_core.program.native.compositions import COMPOSITIONS
from nnmath_core.program.native.generate import ASSEMBLERS, generate
from nnmath_core.program.native.run import CHECKS, Arg, Instruction, Run, elsewhere, expanded

pytestmark = pytest.mark.skipif(not available(), reason="generated loops need AVX2")

DTYPES = [np.float32, np.float64]
WITH_POWERS = (
    "exp",
    "exp2",
    "expit",
    "sinh",
    "cosh",
    "erf",
    "erfc",
    "gelu",
    "gelu_slope",
    "gelu_tanh",
    "gelu_tanh_slope",
)


def run_of(name, dtype):
    step = Instruction(name, (("arg", 0),), (1,))
    return Run(dtype is np.float64, (Arg("stream"), Arg("output")), (step,))


def test_functions_of_powers_have_such_a_body():
    """Those that scale by a power of two, and no others."""
    for dtype, name in itertools.product(DTYPES, COMPOSITIONS):
        made = expanded(run_of(name, dtype), usual=True).instructions
        assert any(s.name in CHECKS for s in made) == (name in WITH_POWERS), name
        assert not any(s.name == "scalef_from" for s in made)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", WITH_POWERS)
def test_the_bits_are_those_of_the_loop_across_the_borders(name, dtype):
    """Slowly from where powers vanish to where they overflow, so that whole bodies are usual and then are not."""
    most = 160.0 if dtype is np.float32 else 1200.0
    some = [np.linspace(-most, most, 20000), np.linspace(-40, 40, 8000), np.linspace(-1, 1, 4000)]
    x = np.concatenate(some).astype(dtype)
    out = np.empty_like(x)
    call(code_of(run_of(name, dtype)), [x, out], len(x))
    same(out, reference(name, [x], len(x)), name)


OUTSIDE = [
    math.nan,
    math.inf,
    -math.inf,
    1e30,
    -1e30,
    200.0,
    -200.0,
    1100.0,
    -1100.0,
    88.5,
    -88.5,
    710.0,
    -710.0,
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", WITH_POWERS)
def test_one_lane_that_is_not_usual(name, dtype):
    """In each lane of the first two bodies, into another array and in place of the operand, which is read again."""
    code, n = code_of(run_of(name, dtype)), 9 * lanes(dtype) + 3
    usual = np.random.default_rng(3).uniform(-5, 5, n).astype(dtype)
    for at, value in itertools.product(range(8 * lanes(dtype)), OUTSIDE):
        x = usual.copy()
        x[at] = value
        want = reference(name, [x], n)
        for place in (np.empty_like(x), x):
            call(code, [x, place], n)
            same(place, want, f"{name}({value}) in lane {at}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_stored_before_the_check(dtype):
    """A difference that is stored and whose exponential is taken, in place of the operand: stored once, behind it."""
    run = Run(
        dtype is np.float64,
        (Arg("stream"), Arg("stream"), Arg("output"), Arg("output"), Arg("output", mask=True)),
        (
            Instruction("subtract", (("arg", 0), ("arg", 1)), (2,)),
            Instruction("exp", (("value", 0),), (3,)),
            Instruction("less", (("value", 0), ("number", 0.0)), (4,)),
            Instruction("exp2", (("arg", 1),), (3,)),
        ),
    )
    made = expanded(run, usual=True).instructions
    check = next(i for i, s in enumerate(made) if s.name in CHECKS)
    assert not any(s.stores for s in made[:check])
    code, n = code_of(run), 9 * lanes(dtype) + 3
    rng = np.random.default_rng(4)
    for at in (*range(0, 9 * lanes(dtype), 3), n - 1):
        x, y = rng.uniform(-5, 5, (2, n)).astype(dtype)
        x[at] = 1e4
        difference, power = x - y, reference("exp2", [y], n)
        exp, signs = np.empty_like(x), np.empty(n, bool)
        call(code, [x, y, x, exp, signs], n)
        same(x, difference)
        same(exp, power)
        same(signs, difference < 0)


def counted(dtype, *, label):
    """The terms of a logarithm of a sum of exponentials, ones and others; the label's is none of them."""
    sums = (
        Instruction("sum_others", (("value", 3 if label else 1),), (), 5 if label else 3),
        Instruction("sum_ones", (("value", 3 if label else 1),), (), 6 if label else 4),
    )
    if not label:
        args = Arg("stream"), Arg("spread"), Arg("output"), Arg("sum"), Arg("sum")
        steps = (
            Instruction("subtract", (("arg", 0), ("arg", 1))),
            Instruction("exp", (("value", 0),), (2,)),
        )
        return Run(dtype is np.float64, args, (*steps, *sums))
    args = (
        *(Arg("stream"), Arg("spread"), Arg("label"), Arg("ramp"), Arg("output")),
        *(Arg("sum"), Arg("sum")),
    )
    steps = (
        Instruction("hot", (("arg", 2), ("arg", 3))),
        Instruction("where", (("value", 0), ("number", -math.inf), ("arg", 0))),
        Instruction("subtract", (("value", 1), ("arg", 1))),
        Instruction("exp", (("value", 2),), (4,)),
    )
    return Run(dtype is np.float64, args, (*steps, *sums))


def near_one(dtype):
    """What has exponentials next to 1, and next to the least normal number."""
    least = 2.0**-24 if dtype is np.float32 else 2.0**-53
    low = 87.0 if dtype is np.float32 else 708.0
    ends = np.array([-least, -0.0, -least / 2, -least / 4, -low, -low - 1, -low - 30], dtype)
    toward = [np.nextafter(ends, dtype(s)) for s in (-np.inf, np.inf)]
    return np.concatenate([ends, *toward, np.array([-np.inf, np.nan, 0.5, 3.0], dtype)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("label", [False, True])
def test_ones_are_counted_wherever_they_are(label, dtype):
    """Entries at both ends of what is usual, in each lane of a body and behind it: each is a one or another, once."""
    code, n = code_of(counted(dtype, label=label)), 9 * lanes(dtype) + 3
    usual = np.random.default_rng(5).uniform(-9, -1, n).astype(dtype)
    ramp = np.arange(n, dtype=np.int64)
    for at, value in itertools.product(range(n), near_one(dtype)):
        x = usual.copy()
        x[at] = value
        hot = (at + 7) % n if at % 3 else at
        _, out = guarded(n, dtype)
        ones, others = np.zeros((2, 2))
        given = [x, np.zeros((), dtype)]
        if label:
            given += [np.array(hot), ramp]
            want = np.where(ramp == hot, dtype(0), reference("exp", [x], n))
        else:
            want = reference("exp", [x], n)
        call(code, [*given, out, *((others, ones))], n)
        same(out, want)
        assert ones.sum() == (want == 1).sum(), (value, at)
        total = want[want != 1].sum(dtype=np.float64)
        np.testing.assert_allclose(others.sum(), total, rtol=n * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_that_are_usual_and_rows_that_are_not(dtype):
    """What one body met decides whether the next looks: over long stretches, from a row to the next, with a label."""
    code, n = code_of(counted(dtype, label=True)), 60 * lanes(dtype) + 5
    rng, rows = np.random.default_rng(6), 40
    x = rng.uniform(-9, -1, (rows, n)).astype(dtype)
    for row in x:  # stretches of ones, of what vanishes, and of what is not a number
        for _ in range(rng.integers(0, 6)):
            begin, length = rng.integers(0, n), rng.integers(1, n)
            row[begin : begin + length] = rng.choice(
                [0.0, -1e3, -np.inf, np.nan], p=[0.4, 0.3, 0.28, 0.02]
            )
    largest = np.zeros((rows, 1), dtype)
    labels, ramp = rng.integers(0, n, rows), np.arange(n, dtype=np.int64)
    out, others, ones = np.empty_like(x), np.zeros((rows, 2)), np.zeros((rows, 2))
    arrays = [x, largest, labels, ramp, out, others, ones]
    steps = [0 if a is ramp else a.strides[0] for a in arrays]
    ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(code.address)(
        (ctypes.c_void_p * 7)(*[a.ctypes.data for a in arrays]),
        (ctypes.c_int64 * 2)(n, rows),
        None,
        (ctypes.c_int64 * 7)(*steps),
    )
    want = reference("exp", [x.ravel()], x.size).reshape(x.shape)
    want[np.arange(rows), labels] = 0
    same(out, want)
    np.testing.assert_array_equal(ones.sum(1), (want == 1).sum(1))
    total = np.where(want == 1, 0, want).sum(1, dtype=np.float64)
    np.testing.assert_allclose(others.sum(1), total, rtol=n * np.finfo(dtype).eps)


def test_the_body_of_ones_has_no_count():
    """Where none is 1, sums are of all entries and nothing is compared with 1; a label's column keeps that apart."""
    for dtype, label in itertools.product(DTYPES, (False, True)):
        run = counted(dtype, label=label)
        made = expanded(run, usual=True).instructions
        names = [s.name for s in (elsewhere(made) if label else made)]
        assert names.count("sum_no_ones") == 1
        assert names.count("below") == 1
        assert not {"sum_ones", "sum_others", "normal", "hot", "where"} & set(names)


@pytest.mark.skipif(not _cpu.runs_here("v3"), reason="the code is that of AVX2")
def test_numbers_are_held_in_registers():
    """The loop of an exponential loads six of its numbers once, in front of itself."""
    name = ASSEMBLERS["v3"]
    held = []

    class Watching(name):
        def constant(self, out, x):
            held.append(x)
            super().constant(out, x)

    ASSEMBLERS["v3"] = Watching
    try:
        generate(run_of("exp", np.float32), "v3")
    finally:
        ASSEMBLERS["v3"] = name
    assert len(set(held)) >= 6
