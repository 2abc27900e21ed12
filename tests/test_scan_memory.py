"""scan in reverse: memory that grows with the square root of the steps, and the bits of the unrolled gradient."""

import math
import tracemalloc

import numpy as np
import pytest

import nnmath_core as nm

STEPS, SIZE = 1000, 4096
EPS = np.finfo(float).eps
W = 0.1 * np.random.default_rng(0).standard_normal(SIZE)
ROWS = np.random.default_rng(1).standard_normal(STEPS)


def step(h, x, w):
    return np.tanh(h * w + x) + 0.1 * h


def scanned(w, steps=STEPS, **kw):
    rows = ROWS[:steps]
    h, _ = nm.scan(lambda h, x: (step(h, x, w), None), np.zeros(SIZE), rows, **kw)
    return np.sum(h * h)


def unrolled(w):
    h = np.zeros(SIZE)
    for x in ROWS:
        h = step(h, x, w)
    return np.sum(h * h)


def peak(f, *args):
    """The result, and the arrays of SIZE numbers that were alive at the same time at most."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = f(*args)
        return result, (tracemalloc.get_traced_memory()[1] - before) / (8 * SIZE)
    finally:
        tracemalloc.stop()


def checkpointed(w, steps=STEPS):
    return scanned(w, steps, checkpoint=True)


WANTED = nm.grad(unrolled)(W)
ROOT = math.isqrt(STEPS - 1) + 1
# A step keeps two arrays of SIZE numbers, what the two rules of it read. sqrt(n) carries and a segment of sqrt(n)
# steps: three times the root; the rest is what the sweep holds, and some 0.5 KB of nodes and tracers a step.
LIMIT = 3 * ROOT + 0.02 * STEPS + 10


@pytest.mark.parametrize(
    ("name", "f", "bits"),
    [
        ("eager", nm.grad(checkpointed), True),
        ("gradient of a program", lambda w: nm.grad(nm.stage(checkpointed, w))(w), True),
        ("under vmap", lambda w: nm.vmap(nm.grad(checkpointed))(w[None])[0], True),
        (
            "through vmap",
            lambda w: nm.grad(lambda w: nm.vmap(checkpointed)(w[None]).sum())(w),
            True,
        ),
        ("program of a gradient", lambda w: nm.stage(nm.grad(checkpointed), w)(w), False),
    ],
)
def test_a_thousand_steps_in_the_memory_of_some_square_roots(name, f, bits):
    g, arrays = peak(f, W)
    assert arrays < LIMIT
    if bits:
        np.testing.assert_array_equal(g, WANTED)
    else:  # contributions to w are added segment by segment: a different order of a thousand terms
        np.testing.assert_allclose(g, WANTED, rtol=0, atol=STEPS * EPS * np.abs(WANTED).max())


def test_without_checkpoint_memory_grows_with_the_steps_and_the_bits_are_the_same():
    g, arrays = peak(nm.grad(scanned), W)
    np.testing.assert_array_equal(g, WANTED)
    assert arrays > 1.5 * STEPS


def test_memory_grows_with_the_square_root():
    def arrays(n):
        return peak(nm.grad(lambda w: checkpointed(w, n)), W)[1]

    few, many = arrays(50), arrays(800)  # sixteen times the steps
    assert many < 5 * few


def test_a_hessian_product_too():
    def hv(f):
        return lambda w: nm.hvp(f, (w,), (W,))

    got, arrays = peak(hv(checkpointed), W)
    assert arrays < 2 * LIMIT + 10  # every array beside its tangent
    np.testing.assert_array_equal(got, hv(scanned)(W))


def test_a_checkpointed_step_keeps_its_carry():
    def f(w):
        body = nm.checkpoint(lambda h, x: (step(h, x, w), None))
        return np.sum(nm.scan(body, np.zeros(SIZE), ROWS)[0] ** 2)

    g, arrays = peak(nm.grad(f), W)
    np.testing.assert_allclose(g, WANTED, rtol=0, atol=8 * EPS * np.abs(WANTED).max())
    assert STEPS < arrays < 1.1 * STEPS


@pytest.mark.parametrize("checkpoint", [1, 7, 31, 32, 500, 999, 1000, 5000])
def test_segments_of_any_length_give_the_same_bits(checkpoint):
    g, arrays = peak(nm.grad(lambda w: scanned(w, checkpoint=checkpoint)), W)
    np.testing.assert_array_equal(g, WANTED)
    if checkpoint < STEPS:
        assert arrays < 1.05 * (2 * checkpoint + STEPS / checkpoint) + 0.02 * STEPS + 10


def test_a_pullback_may_be_called_again():
    y, pull = nm.vjp(lambda w, a: a * checkpointed(w), W, 2.0)
    first, second = pull(1.0), pull(1.0)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_allclose(first[0], 2.0 * WANTED, rtol=4 * EPS)
    assert first[1] == second[1] == y / 2.0
    assert W.flags.writeable


def test_many_steps_do_not_recurse():
    def f(x, checkpoint):
        step = lambda c, _: (c * 0.999999 + x, None)  # noqa: E731
        return nm.scan(step, x, None, 20_000, checkpoint=checkpoint)[0]

    want = nm.grad(f)(1.0, False)
    assert nm.grad(f)(1.0, True) == want
    program = nm.stage(nm.grad(lambda x: f(x, True)), 1.0)
    assert program(np.float64(1.0)) == pytest.approx(want, rel=2e4 * EPS)
