"""Passes over rows that the machine saves: two maxima in one, values that wait in an output, columns beside a label."""

import itertools

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.program import machine
from nnmath_core.program.native import available

DTYPES = [np.float32, np.float64]
COLUMNS = [1, 2, 3, 7, 16, 31, 64, 65, 130, 1000]
EPS = {np.dtype(d): np.finfo(d).eps for d in DTYPES}


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def phases(f, *args):
    """How many passes over a row each group of a compiled function makes."""
    found = []
    emit = machine._Writer._emit

    def counting(self):
        found.append(sum(bool(p.block) for p in self.phases))
        emit(self)

    machine._Writer._emit = counting
    try:
        nm.compile(f).plan(*args)
    finally:
        machine._Writer._emit = emit
    return found


def close(got, want, scale=1.0):
    """Equal to rounding: a sum of exponentials in another order, in lanes, is off by few units."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype
    tol = 32 * EPS.get(got.dtype, 0.0) * scale
    np.testing.assert_allclose(got, want, rtol=tol, atol=tol)


def mean_loss(z, y):
    return nm.nn.softmax_cross_entropy(z, y).mean()


@pytest.mark.parametrize(("dtype", "columns"), list(itertools.product(DTYPES, COLUMNS)))
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_cross_entropy_and_its_gradient_equal_the_eager_ones(rng, dtype, columns, threads):
    z = (3 * rng.standard_normal((37, columns))).astype(dtype)
    y = rng.integers(0, columns, 37)
    y[:2] = 0, columns - 1
    with nm.threads(threads):
        value, gradient = nm.compile(nm.value_and_grad(mean_loss))(z, y)
    want, slope = nm.value_and_grad(mean_loss)(z, y)
    close(value, want)
    close(gradient, slope)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [1, 2, 5, 70])
def test_cross_entropy_of_rows_that_are_not_finite_is_the_eager_one(dtype, columns):
    ends = [-np.inf, np.inf, np.nan, 0.0, 300.0, -300.0]
    rows = [np.zeros(columns)]
    for mine, other, rest in itertools.product(ends, ends, ends):
        row = np.full(columns, rest)
        row[-1], row[0] = other, mine  # the label's is the first
        rows.append(row)
    z, y = np.array(rows, dtype), np.zeros(len(rows), int)

    def loss(z, y):
        return nm.nn.softmax_cross_entropy(z, y)

    with np.errstate(all="ignore"):
        want, pull = nm.vjp(lambda z: loss(z, y), z)
        (slope,) = pull(np.ones_like(want))
        got = nm.compile(loss)(z, y)
        both = nm.compile(lambda z, y: nm.grad(lambda z: loss(z, y).sum())(z))(z, y)
    close(got, want)
    close(both, slope)


def test_cross_entropy_reads_a_row_in_three_passes(rng):
    z, y = rng.standard_normal((64, 100)).astype("f4"), rng.integers(0, 100, 64)
    assert 3 in phases(nm.value_and_grad(mean_loss), z, y)
    assert max(phases(nm.value_and_grad(mean_loss), z, y)) == 3
    fixed = nm.value_and_grad(lambda z: mean_loss(z, y))  # the label is a constant mask
    assert max(phases(fixed, z)) == 3


def tempered(at, y):
    return mean_loss(at[0] * np.exp(-at[1]), y)


@pytest.mark.parametrize(("dtype", "columns"), list(itertools.product(DTYPES, [1, 65, 130, 1000])))
@pytest.mark.parametrize("threads", [1, 2])
def test_a_learnt_factor_of_the_logits_has_the_eager_gradient(rng, dtype, columns, threads):
    z = (3 * rng.standard_normal((37, columns))).astype(dtype)
    y = rng.integers(0, columns, 37)
    t = np.asarray(0.3, dtype)
    with nm.threads(threads):
        value, (gradient, slope) = nm.compile(nm.value_and_grad(tempered))((z, t), y)
    want, (rows, number) = nm.value_and_grad(tempered)((z, t), y)
    close(value, want, 4.0)
    close(gradient, rows)
    close(slope, number, 4.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("end", [-np.inf, np.inf, np.nan])
@pytest.mark.parametrize("where", ["label", "beside", "row", "wrong label"])
def test_a_learnt_factor_of_logits_that_are_not_finite(rng, dtype, end, where):
    z = rng.standard_normal((16, 80)).astype(dtype)
    y = rng.integers(1, 80, 16)
    if where == "wrong label":
        y[3] = 80
    else:
        z[3, {"label": y[3], "beside": y[3] - 1, "row": slice(None)}[where]] = end
    t = np.asarray(0.3, dtype)

    with np.errstate(all="ignore"):
        value, (gradient, slope) = nm.compile(nm.value_and_grad(tempered))((z, t), y)
        if where == "wrong label":  # an error where labels are known
            assert np.isnan(value)
            assert not gradient[3].any()
            z, y = np.delete(z, 3, 0), np.delete(y, 3)
            gradient = np.delete(gradient, 3, 0) * dtype(16 / 15)
            slope = slope * dtype(16 / 15)
        want, (rows, number) = nm.value_and_grad(tempered)((z, t), y)
    if where != "wrong label":
        close(value, want, 4.0)
    close(gradient, rows)
    close(slope, number, 4.0)


def test_a_learnt_factor_of_the_logits_is_found_in_the_same_pass(rng):
    z, y = rng.standard_normal((1024, 100)).astype("f4"), rng.integers(0, 100, 1024)
    plan = nm.compile(nm.value_and_grad(tempered)).plan((z, np.float32(0.1)), y)
    assert max(phases(nm.value_and_grad(tempered), (z, np.float32(0.1)), y)) == 3
    assert plan.cost.peak < 2 * z.nbytes  # the gradient, and nothing else of its size


@pytest.mark.parametrize("dtype", [*DTYPES, bool])
@pytest.mark.parametrize("shape", [(9, 64), (5, 3, 70), (8, 63), (7, 64), (1, 9, 1, 64)])
def test_a_sum_of_all_entries_of_rows_that_were_reduced(rng, dtype, shape):
    x = rng.standard_normal(shape).astype("f4" if dtype is bool else dtype)

    def f(x):
        p = x - x.max(axis=-1, keepdims=True)
        if dtype is bool:
            return (p > -1e-30).any(), (p < 0.5).all(), (p > 0).any()
        return np.exp(p).sum(), (x * p).sum(), np.exp(p).sum(axis=(0, -1))

    for got, want in zip(nm.compile(f)(x), f(x), strict=True):
        close(got, want, 16.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_of_what_is_less_the_largest_stays_what_it_is(rng, dtype):
    """Also where a condition leaves nothing of a row, and where rows are infinite."""
    z = rng.standard_normal((9, 40)).astype(dtype)
    z[1], z[2, 3], z[3, 4], z[4] = -np.inf, np.inf, np.nan, np.inf
    z[5, :20] = -np.inf
    some = np.arange(40) % 3 == 0
    every = np.ones((9, 40), bool)
    given = rng.random((9, 40)) < 0.5
    given[[1, 6, 7]] = True

    def shifted(z):
        return z - z.max(axis=-1, keepdims=True)

    cases = [
        lambda z, c: shifted(z).max(axis=-1, keepdims=True),
        lambda z, c: np.where(some, -np.inf, shifted(z)).max(axis=-1, keepdims=True),
        lambda z, c: np.where(every, -np.inf, shifted(z)).max(axis=-1, keepdims=True),
        lambda z, c: np.where(c, -np.inf, shifted(z)).max(axis=-1, keepdims=True),
        lambda z, c: np.where(np.arange(40) == 3, -np.inf, shifted(z)).max(axis=-1, keepdims=True),
        lambda z, c: np.where(some, 0.5, shifted(z)).max(axis=-1, keepdims=True),
        lambda z, c: np.where(c, shifted(z), -np.inf).max(axis=-1, keepdims=True),
    ]
    for f in cases:
        with np.errstate(all="ignore"):
            want = f(z, given)
            got = nm.compile(f)(z, given)
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", COLUMNS)
def test_a_value_waits_in_an_output_only_until_it_is_written(rng, dtype, columns):
    """Values of several phases, read in the order in which an output is made, before it and behind it."""
    x = rng.standard_normal((21, columns)).astype(dtype)

    def softmax(x):
        return nm.special.softmax(x, axis=-1)

    def read_behind(x):
        e = np.exp(x)
        total = e.sum(axis=-1, keepdims=True)
        first = e / total
        return first, first * e, e + total

    def two_kept(x):
        e, t = np.exp(x), np.tanh(x)
        s = (e * t).sum(axis=-1, keepdims=True)
        return t * s + e, e * s

    def two_kept_for_one(x):
        e, t = np.exp(x), np.tanh(x)
        return t * (e * t).sum(axis=-1, keepdims=True) + e

    def three_phases(x):
        e = np.exp(x)
        s = e.sum(axis=-1, keepdims=True)
        h = np.tanh(e / s)
        q = (h * h).sum(axis=-1, keepdims=True)
        return h / q, e * q

    for f in (softmax, read_behind, two_kept, two_kept_for_one, three_phases):
        want, got = f(x), nm.compile(f)(x)
        for a, b in zip(got if isinstance(got, tuple) else (got,), want if isinstance(want, tuple) else (want,),
                        strict=True):  # fmt: skip
            close(a, b, max(1.0, float(np.abs(b).max())))


@pytest.mark.skipif(not available(), reason="no loops are generated here")
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_label_is_found_in_every_column(dtype):
    """Also one that is no column, with all that is made of it: stored, summed, chosen from, and its mask."""
    for columns in (1, 5, 64, 129, 150):
        x = np.linspace(-1, 2, columns, dtype=dtype) * np.ones((columns + 3, 1), dtype)
        y = np.arange(-2, columns + 1)[:, None]

        def f(x, y):
            hit = y == np.arange(x.shape[-1])
            chosen = np.where(hit, 2 * x, 0.0).sum(axis=-1)
            return np.where(hit, -x, x * 3), chosen, np.where(hit, 5.0, x).max(axis=-1)

        def with_mask(x, y):
            hit = y == np.arange(x.shape[-1])
            return np.where(hit, x, 1.0), np.logical_not(hit)

        for g in (f, with_mask):
            for a, b in zip(nm.compile(g)(x, y), g(x, y), strict=True):
                np.testing.assert_array_equal(a, b)
