"""Results into given arrays: the short way that a repeated call takes, and what it must leave to the long one."""

from __future__ import annotations

import numpy as np
import pytest
from plans import assert_same, rounding

import nnmath_core as nm
from nnmath_core.errors import DtypeError, ShapeError, TreeError

N = 6000  # more than a block of a loop: what is overwritten too early is missed


def warm(f, *args):
    """A compiled function that tries its last plan first."""
    compiled = nm.compile(f)
    compiled(*args)
    return compiled


def test_a_repeated_call_fills_what_it_is_given():
    def f(p, x):
        return {"y": p["w"] @ x, "all": (np.sum(x), x[::-1])}

    p = {"w": np.cos(np.arange(12.0).reshape(3, 4))}
    compiled = warm(f, p, np.ones(4))
    out = {"y": np.empty(3), "all": (np.empty(()), np.empty(4))}
    for k in range(4):
        x = np.sin(np.arange(4.0) + k)
        got = compiled(p, x, out=out)
        assert got["y"] is out["y"]
        assert got["all"][0] is out["all"][0]
        assert_same(nm.tree_map(lambda y: y[()], got), f(p, x), rounding(8, 4))


def test_arrays_without_entries_and_numbers_take_part():
    compiled = warm(lambda x, t: (x * t, np.exp(x[:2])), np.ones(0), 2.0)
    out = np.empty(0), np.empty(0)
    for _ in range(3):
        assert compiled(np.ones(0), 3.0, out=out)[0] is out[0]
    compiled = warm(lambda t, x: x * t, 2.0, np.ones(3))
    y = np.empty(3)
    for t in (3.0, 4.0):
        assert compiled(t, np.ones(3), out=y) is y
        assert_same(y, np.full(3, t), rounding(0))


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (slice(0, N), slice(0, N)),
        (slice(0, N), slice(3, N + 3)),
        (slice(3, N + 3), slice(0, N)),
        (slice(0, 2 * N, 2), slice(N // 2, N // 2 + N)),
        (slice(2 * N - 1, None, -2), slice(N // 2, N // 2 + N)),
        (slice(2 * N - 1, N - 1, -1), slice(N, 2 * N)),
    ],
)
def test_an_argument_that_shares_memory_is_read_before_it_is_overwritten(x, y):
    def f(x):
        return x[::-1] + x[0]

    compiled = warm(f, np.ones(N))
    memory = np.arange(2.0 * N)
    apart = np.empty(N)
    for _ in range(3):  # each call after one whose memory was apart
        assert compiled(np.arange(float(N)), out=apart) is apart
        memory[:] = np.arange(2.0 * N)
        want = f(memory[x].copy())
        assert compiled(memory[x], out=memory[y]) is not None
        assert_same(memory[y], want, rounding(0))


def test_what_was_refused_is_not_remembered():
    memory = np.arange(3.0 * N)
    compiled = warm(lambda x: x[::-1] * 2, np.ones(N))
    y = memory[N // 2 : N // 2 + N]
    compiled(np.ones(N))
    with pytest.raises(ShapeError):
        compiled(memory[: N // 4], out=y)  # apart, and of another shape
    for _ in range(3):
        memory[:] = np.arange(3.0 * N)
        want = memory[:N][::-1] * 2
        compiled(memory[:N], out=y)
        assert_same(y, want, rounding(0))


def test_results_that_share_memory_are_refused_however_often():
    compiled = warm(lambda x: (x + 1, x + 2), np.ones(N))
    memory = np.zeros(2 * N)
    good = memory[:N], memory[N:]
    for _ in range(2):
        compiled(np.ones(N), out=good)
        for first, second in ((0, 0), (0, 5), (5, 0)):
            with pytest.raises(DtypeError, match="shares memory with another array of `out`"):
                compiled(np.ones(N), out=(memory[first : first + N], memory[second : second + N]))


def test_what_cannot_receive_is_named():
    compiled = warm(lambda x: (x + 1, x.astype(np.float32)), np.ones(N))
    x, good = np.ones(N), (np.empty(N), np.empty(N, np.float32))
    fixed = np.empty(N)
    fixed.flags.writeable = False
    for _ in range(2):
        assert compiled(x, out=good)[0] is good[0]
        for first, error, says in [
            (np.empty(N + 1), ShapeError, r"`out\[0\]` must have shape \(6000,\)"),
            (np.empty((N, 1)), ShapeError, r"`out\[0\]` must have shape \(6000,\)"),
            (np.empty(N, np.float32), DtypeError, r"`out\[0\]` must have dtype float64"),
            (np.empty(N, ">f8"), DtypeError, r"`out\[0\]`"),
            (np.empty(2 * N)[::2], DtypeError, "is not contiguous"),
            (np.empty(8 * N + 1, np.uint8)[1:].view(float), DtypeError, "is not aligned"),
            (fixed, DtypeError, "is read-only"),
            (list(x), TreeError, "must have the structure of the result"),
            (1.0, DtypeError, "must be a NumPy array"),
        ]:
            with pytest.raises(error, match=says):
                compiled(x, out=(first, good[1]))
        with pytest.raises(TreeError, match="must have the structure of the result"):
            compiled(x, out=good[0])


def test_donated_memory_and_a_number_before_it():
    compiled = nm.compile(lambda t, w, g: w[::-1] * t - g, donate_argnums=1)
    memory = np.arange(2.0 * N)
    compiled(2.0, np.ones(N), np.ones(N))
    for _ in range(3):
        with pytest.raises(DtypeError, match="shares memory"):
            compiled(2.0, memory[:N], memory[5 : N + 5])
        assert np.array_equal(memory, np.arange(2.0 * N))


def test_donation_does_not_remember_what_was_refused():
    compiled = nm.compile(lambda w, g: w[::-1] - g, donate_argnums=0)
    memory = np.arange(2.0 * N)
    compiled(np.ones(N), np.ones(N))
    plan = compiled.plan(np.ones(N), np.ones(N))
    few = memory[:4].copy()
    with pytest.raises((ShapeError, DtypeError)):
        plan(few, np.ones(N))
    compiled(few, np.ones(4))
    compiled(np.ones(N), np.ones(N))
    for _ in range(3):
        with pytest.raises(DtypeError, match="shares memory"):
            compiled(memory[:N], memory[N - 2 : 2 * N - 2])
    assert np.array_equal(memory, np.arange(2.0 * N))
