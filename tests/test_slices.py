"""Stacks of small products that run in turns with the loop behind them: the same bits as one after the other."""

import numpy as np
import pytest
from plans import lowered, run_all

import nnmath_core as nm
from nnmath_core._ext._tree import flatten
from nnmath_core.program import lower_cpu, meetings
from nnmath_core.program.lower import layouts


def layer(x, w, b):
    return np.tanh(x @ w + b)


def kept(x, w, b):
    z = x @ w + b
    return z, np.tanh(z), (z * z).sum(-1), z.max(axis=1)


def through(x, w, b):
    return nm.grad(lambda x, w: (layer(layer(x, w, b), w, b) ** 2).sum(), argnums=(0, 1))(x, w)


def over_all(x, w, b):
    """A sum over the stack: each group of rows is a unit."""
    return (x @ w + b).sum(axis=(0, 1)), x.sum()


@pytest.fixture
def counted(monkeypatch):
    """What the lowering found, newest last; products are by our kernels."""
    monkeypatch.setattr(layouts, "_blas_seconds", lambda *a: 1.0)
    found = []
    real = meetings.sliced

    def sliced(steps, waits, threads):
        found.append(real(steps, waits, threads))
        return found[-1]

    monkeypatch.setattr(lower_cpu, "sliced", sliced)
    return found


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("f", [layer, kept, through, over_all])
def test_slices_do_not_change_bits(f, dtype, counted, monkeypatch):
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in ((301, 9, 13), (301, 13, 13), 13))
    got = [nm.compile(f)(x, w, b)]
    assert f is over_all or max(counted.pop()) > 2
    before = nm.threads()
    try:
        for threads in (1, 2):
            nm.threads(threads)
            got += [nm.compile(f)(x, w, b) for _ in range(3)]
    finally:
        nm.threads(before)
    got += run_all(f, x, w, b)
    monkeypatch.setattr(meetings, "SLICES", 1)
    want = nm.compile(f)(x, w, b)
    assert max(counted[-1]) == 0
    for each in got:
        for y, z in zip(flatten(each)[0], flatten(want)[0], strict=True):
            assert np.array_equal(y, z)


def test_bodies_of_loops_have_slices_of_their_own(counted):
    rng = np.random.default_rng(1)
    x, w, b = (rng.standard_normal(s).astype("f4") for s in ((300, 16, 16), (300, 16, 16), 16))

    def f(x, w, b):
        return nm.scan(lambda x, _: (np.tanh(x @ w + b), x[0, 0, 0]), x, None, length=3)

    got, want = nm.compile(f)(x, w, b), f(x, w, b)
    assert len(counted[-1]) > 1
    assert max(counted[-1]) > 1
    for y, z in zip(flatten(got)[0], flatten(want)[0], strict=True):
        np.testing.assert_allclose(
            y, z, rtol=0, atol=1e-4
        )  # three times sums of 16 products, slopes up to 16


@pytest.mark.parametrize("threads", [1, 2])
def test_a_single_product_and_who_needs_others_rows_has_none(threads, counted, monkeypatch):
    monkeypatch.setattr(lower_cpu, "MOST_THREADS", threads)  # one never has to meet anybody
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((2, 400, 64, 16))[:, :, :16].astype("f4")
    lowered(lambda a, b: np.tanh(a @ b), x[0], w[0])
    assert max(counted[-1]) == 0
    lowered(
        lambda a, b: np.tanh((a @ b)[::-1]), x, w
    )  # in another order than the product makes them
    assert max(counted[-1]) == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_products_whose_units_differ_are_not_cut_as_the_loop_is(threads, monkeypatch):
    """404 products of which the loop takes pairs, and the other way round: the cuts of 25 slices differ."""
    monkeypatch.setattr(lower_cpu, "MOST_THREADS", threads)
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((2, 404, 16, 16)).astype("f4")
    y, v = rng.standard_normal((202, 32, 16)).astype("f4"), w[:202]

    def one(x, w, y, v):
        return np.tanh(x @ w) + (y @ v).reshape(404, 16, 16)

    def other(x, w, y, v):
        z = (y @ v).reshape(404, 16, 16)
        return z + np.tanh(x @ w)

    for f in (one, other):
        got, want = nm.compile(f)(x, w, y, v), f(x, w, y, v)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)  # sums of 16 products
