"""Quotients by multiplications (common/nnm_quotient.h) have the bits of the division, seen through a step of Adam.

With b1 = b2 = 1, g = 0 and w = -0 a step gives -(rate m / (sqrt(v) + eps)), and the root of a rounded square is the
number again.
"""

import numpy as np
import pytest

from nnmath_core._ext import _optim

LANES = 16


@pytest.fixture
def rng():
    return np.random.default_rng(24)


def quotients(a, b, rate=1.0, eps=0.0):
    """The rate a / (b + eps) of a step, all float32 and not negative but rate and a."""
    m, b = (np.array(x, np.float32) for x in (a, b))
    w, g = np.full(m.shape, -0.0, np.float32), np.zeros(m.shape, np.float32)
    with np.errstate(all="ignore"):
        v = b * b
        _optim.adam_step(w, m, v, g, rate, 1.0, 1.0, eps, 1.0, 1.0)
    return -w


def assert_divides(a, b, rate=1.0, eps=0.0):
    """The same bits as NumPy's division, or NaN as there."""
    a, b = np.float32(a), np.float32(b)
    with np.errstate(all="ignore"):
        expected = np.float32(rate) * a / (b + np.float32(eps))
    got = quotients(a, b, rate, eps)
    wrong = (got.view(np.uint32) != expected.view(np.uint32)) & ~(
        np.isnan(got) & np.isnan(expected)
    )
    at = np.flatnonzero(wrong)[:3]
    assert not wrong.any(), f"{a[at]} / {b[at]}: got {got[at]}, want {expected[at]}"


def near_the_middle(b, most=8):
    """All pairs of significands (24 bits) whose quotient is j / (2^24 b) from the middle of two floats, |j| <= most."""
    for shift in (24, 25):  # a >= b, a < b
        for zeros in range(4):
            odd = b[(b >> zeros) << zeros == b] >> zeros
            odd = odd[odd % 2 == 1].astype(np.uint64)
            inverse = np.ones_like(odd)
            for _ in range(6):
                inverse *= 2 - odd * inverse
            size = np.uint64(1 << (shift - zeros))
            for j in range(-(most >> zeros) | 1, (most >> zeros) + 1, 2):
                # a 2^shift = b middle + j 2^zeros
                middle = (inverse * np.uint64(-j % (1 << 64))) % size
                for turn in range((1 << 24) // int(size), (1 << 25) // int(size) + 1):
                    c = middle + size * np.uint64(turn)
                    a = ((odd * c).astype(np.int64) + j) >> (shift - zeros)
                    ok = (c >= 1 << 24) & (c < 1 << 25) & (a >= 1 << 23) & (a < 1 << 24)
                    yield a[ok].astype(np.float32), (odd[ok] << np.uint64(zeros)).astype(np.float32)


def test_the_quotients_that_are_hardest_to_round_are_right(rng):
    """Of the largest significands, the only ones for which the argument leaves doubt, and of some others."""
    b = np.concatenate(
        [np.arange((1 << 24) - (1 << 15), 1 << 24), rng.integers(1 << 23, 1 << 24, 20000)]
    )
    pairs = 0
    for a, divisor in near_the_middle(b):
        assert_divides(a, divisor)
        pairs += a.size
    assert pairs > 4 * b.size  # of eight j about half give a numerator of 24 bits


@pytest.mark.long
def test_all_quotients_that_are_hard_to_round_are_right():
    for first in range(1 << 23, 1 << 24, 1 << 20):
        for a, b in near_the_middle(np.arange(first, first + (1 << 20))):
            assert_divides(a, b)


@pytest.mark.long
def test_quotients_of_many_random_pairs_are_right(rng):
    for _ in range(100):
        a, b = (_numbers(rng, 1 << 20, 60) for _ in range(2))
        assert_divides(a, np.abs(b))


def _numbers(rng, n, exponent):
    signs = rng.choice(np.float32([-1, 1]), n)
    return np.ldexp(signs * rng.uniform(1, 2, n).astype("f4"), rng.integers(-exponent, exponent, n))


@pytest.mark.parametrize("n", [0, 1, 7, LANES - 1, LANES, LANES + 1, 1000, 100003])
def test_quotients_are_right_for_any_number_of_entries(rng, n):
    assert_divides(_numbers(rng, n, 60), np.abs(_numbers(rng, n, 60)))


def test_largest_and_ordinary_significands_divide(rng):
    ends = np.float32([1, np.nextafter(np.float32(1), 2), 1.5, 1.99, 2 - 2**-22, 2 - 2**-23])
    a, b = (x.reshape(-1) for x in np.meshgrid(np.ldexp(ends, 3), np.ldexp(ends, -5)))
    assert_divides(a, b)


@pytest.mark.parametrize("rate", [1.0, -1.0])
def test_a_zero_keeps_its_sign_and_stays_beside_numbers(rng, rate):
    a, b = np.zeros(LANES, np.float32), np.abs(_numbers(rng, LANES, 20))
    assert_divides(a, b, rate)
    a[::3] = 1.0
    assert_divides(a, b, rate)


def test_infinities_nans_and_divisors_of_zero_are_as_the_division_has_them():
    ends = np.float32([0.0, 1e-38, 1.0, 3e38, np.nan])
    a, b = (x.reshape(-1) for x in np.meshgrid(np.append(ends, -ends[1:]), [0.0, 1.0, np.nan]))
    for rate, eps in ((1.0, 0.0), (2.0, 0.0), (1.0, np.inf), (2.0, np.inf)):  # 2 x 3e38 is infinite
        assert_divides(a, b, rate, eps)  # beside others in their vector
        for x, y in zip(a, b, strict=True):
            assert_divides(np.full(LANES, x), np.full(LANES, y), rate, eps)


def test_tiny_numerators_are_off_by_a_few_units_at_most(rng):
    a, b = _numbers(rng, 1 << 16, 126), np.abs(_numbers(rng, 1 << 16, 30))
    a = np.ldexp(a, rng.integers(-30, 1, a.size)).astype(np.float32)  # subnormal ones, too
    with np.errstate(all="ignore"):
        expected = a / b
        unit = np.spacing(np.abs(expected))
        got = quotients(a, b)
    exact = (np.abs(a) >= 2.0**-80) | (a == 0)
    assert np.array_equal(got[exact], expected[exact])
    finite = np.isfinite(expected)
    off = np.abs(got[finite].astype(float) - expected[finite])
    assert (off <= 4 * unit[finite]).all()
