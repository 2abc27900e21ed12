"""Sums and extremes of generated loops: against exact sums, over several calls, with NaN and infinity."""

import itertools
import math

import numpy as np
import pytest
from test_native import DTYPES, call, code_of, lanes

from nnmath_core._ext import _vector
from nnmath_core.program.native import available
from nnmath_core.program.native.run import Arg, Instruction, Run

pytestmark = pytest.mark.skipif(not available(), reason="generated loops need AVX2")

TERMS = {
    "sum": lambda x, y: x,
    "sum_squares": lambda x, y: x * x,
    "sum_products": lambda x, y: x * y,
    "sum_ones": lambda x, y: np.where(x == 1, x, 0),
    "sum_others": lambda x, y: np.where(x == 1, 0, x),
    "sum_wide_squares": lambda x, y: x.astype(float) * x.astype(float),
}


def reduction(name, dtype, form):
    double = dtype is np.float64
    kind = "sum" if name.startswith("sum") else name
    kind = "wide" if name == "sum_wide_squares" and not double else kind
    count = 2 if name == "sum_products" else 1
    reads = tuple(("arg", k) for k in range(count))
    args = tuple(Arg(form) for _ in range(count))
    return code_of(Run(double, (*args, Arg(kind)), (Instruction(name, reads, (), count),)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TERMS)
def test_sums(name, dtype):
    """Over several calls that carry {high, low} on. A lane adds n / lanes terms; lanes are added in double."""
    eps = np.finfo(np.float64 if name == "sum_wide_squares" else dtype).eps
    code, spread = reduction(name, dtype, "stream"), reduction(name, dtype, "spread")
    rng = np.random.default_rng(7)
    for n in [0, 1, *range(lanes(dtype) - 1, 5 * lanes(dtype) + 4), 1024]:
        acc, total, limit = np.zeros(2), [], 0.0
        for _ in range(3):
            x, y = (rng.standard_normal(n).astype(dtype) for _ in range(2))
            x[: n // 3] = 1
            terms = TERMS[name](x, y).astype(float)
            call(code, [x, y, acc] if name == "sum_products" else [x, acc], n)
            total += list(terms)
            # a product, each addition of a lane, the copies and lanes
            limit += (3 + n / lanes(dtype)) * eps * math.fsum(abs(terms))
        want = math.fsum(total)
        limit += 2 * np.finfo(float).eps * abs(want)
        assert abs(acc.sum() - want) <= limit, (n, acc, want, limit)
        x = np.array(1.0 if name == "sum_ones" else 0.75, dtype)
        acc = np.array([2.0, 0.0])
        call(spread, [x, x, acc] if name == "sum_products" else [x, acc], n)
        assert acc.sum() == 2 + n * float(TERMS[name](x, x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TERMS)
def test_sums_that_are_not_finite(name, dtype):
    code = reduction(name, dtype, "stream")
    for n in (1, lanes(dtype) + 1, 5 * lanes(dtype)):
        for bad, at in itertools.product((math.nan, math.inf, -math.inf), {0, n // 2, n - 1}):
            x = np.full(n, 0.5, dtype)
            x[at] = bad
            acc, ones = np.zeros(2), np.ones(n, dtype)
            for y in (x, ones):
                call(code, [y, ones, acc] if name == "sum_products" else [y, acc], n)
            wanted = sum(float(TERMS[name](y, ones).sum()) for y in (x, ones))
            assert np.array_equal(acc.sum(), wanted, equal_nan=True), (name, bad, acc, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_a_sum_keeps_is_exact(dtype):
    """Small sums behind a large one are not lost: {high, low} holds both."""
    code = reduction("sum", dtype, "stream")
    acc = np.zeros(2)
    for x in (1e16, 1.0, 1.0, -1e16):
        call(code, [np.array([x], dtype), acc], 1)
    assert acc.sum() == 2.0 + float(dtype(1e16)) - float(dtype(1e16))


@pytest.mark.parametrize("dtype", DTYPES)
def test_squares_in_double_do_not_overflow(dtype):
    code = reduction("sum_wide_squares", dtype, "stream")
    large = dtype(1e30)
    for n in (1, 2 * lanes(dtype) + 3, 5 * lanes(dtype)):
        acc = np.zeros(2)
        call(code, [np.full(n, large), acc], n)
        np.testing.assert_allclose(acc.sum(), n * float(large) ** 2, rtol=4 * n * 2.0**-53)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["max", "min"])
def test_extremes(name, dtype):
    """As the loop, from any accumulator on, NaN anywhere; the sign of a zero is that of one of them."""
    code, spread = reduction(name, dtype, "stream"), reduction(name, dtype, "spread")
    rng = np.random.default_rng(2)
    for n in [0, 1, *range(lanes(dtype) - 1, 5 * lanes(dtype) + 4), 1000]:
        for begin in (-math.inf, math.inf, 0.0, 0.7, math.nan):
            for bad in (None, 0, n // 2, n - 1):
                x = rng.standard_normal(n).astype(dtype)
                if bad is not None and n:
                    x[bad] = math.nan
                got, want = np.array([begin], dtype), np.array([begin], dtype)
                call(code, [x, got], n)
                if n:
                    _vector.apply(name, x, out=want)
                np.testing.assert_array_equal(got, want)
        for value in (0.25, math.nan, -math.inf):
            got = np.array([0.5], dtype)
            call(spread, [np.array(value, dtype), got], n)
            pick = np.maximum if name == "max" else np.minimum
            np.testing.assert_array_equal(got[0], pick(dtype(0.5), dtype(value)) if n else 0.5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_ones_are_counted_beside_the_sum_of_the_others(dtype):
    """Both of the same entries, for several rows, from any accumulator on; NaN is one of the others."""
    run = Run(
        dtype is np.float64,
        (Arg("stream"), Arg("sum"), Arg("sum")),
        (
            Instruction("sum_ones", (("arg", 0),), (), 1),
            Instruction("sum_others", (("arg", 0),), (), 2),
        ),
    )
    code = code_of(run)
    rng = np.random.default_rng(5)
    for n in [0, 1, *range(lanes(dtype) - 1, 5 * lanes(dtype) + 4), 1000]:
        x = np.where(rng.random(n) < 0.3, 1.0, rng.random(n)).astype(dtype)
        for bad in (False, True):
            if bad and n:
                x[n // 2] = np.nan
            ones, others = np.array([3.0, 0.0]), np.array([0.5, 0.25])
            call(code, [x, ones, others], n)
            assert ones.sum() == 3 + (x == 1).sum()
            want = 0.75 + x[x != 1].sum(dtype=np.float64)
            np.testing.assert_allclose(others.sum(), want, rtol=n * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["max", "min"])
def test_extremes_beside_a_label(name, dtype):
    """Of all and of all but the label's, which are one where it is not; each has its own beginning and its own NaN."""
    fill, pick = (-np.inf, np.max) if name == "max" else (np.inf, np.min)
    run = Run(
        dtype is np.float64,
        (Arg("stream"), Arg("label"), Arg("ramp"), Arg(name), Arg(name)),
        (
            Instruction(name, (("arg", 0),), (), 3),
            Instruction("hot", (("arg", 1), ("arg", 2))),
            Instruction("where", (("value", 1), ("number", fill), ("arg", 0))),
            Instruction(name, (("value", 2),), (), 4),
        ),
    )
    code = code_of(run)
    rng = np.random.default_rng(6)
    for n in (1, lanes(dtype), 4 * lanes(dtype), 9 * lanes(dtype) + 3, 200):
        x, ramp = rng.standard_normal(n).astype(dtype), np.arange(n)
        for label in sorted({-1, 0, n // 2, n - 1}):
            for bad in sorted({-1, 0, n // 3, n // 2, n - 1}):
                y = x.copy()
                if bad >= 0:
                    y[bad] = np.nan
                for begin in ((fill, fill), (0.0, 9 * fill), (np.nan, 0.5)):
                    got = [np.array([b], dtype) for b in begin]
                    call(code, [y, np.array(label), ramp, *got], n)
                    rest = np.where(ramp == label, dtype(fill), y)
                    want = [pick([b, pick(z)]) for b, z in zip(begin, (y, rest), strict=True)]
                    np.testing.assert_array_equal(np.concatenate(got), np.array(want, dtype))
