"""The gradient check by Plans: the values, steps and verdicts are those of calls; and when there is no Plan."""

import gc
import itertools
import math
import signal
import threading
import time

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import GradientError
from nnmath_core.verify.differences import Samples
from nnmath_core.verify.incremental import _same_axes
from nnmath_core.verify.staged import _Entries, _known, staged
from nnmath_core.verify.variables import Variables, VectorFunction

EPS = np.finfo(np.float64).eps


@pytest.fixture
def rng():
    return np.random.default_rng(20261127)


def network(rng, widths=(7, 5, 3), batch=4):
    params = [
        {"w": rng.standard_normal((a, b)) / np.sqrt(a), "b": 0.1 * rng.standard_normal(b)}
        for a, b in itertools.pairwise(widths)
    ]
    x, y = rng.standard_normal((batch, widths[0])), rng.standard_normal((batch, widths[-1]))

    def loss(params):
        h = x
        for k, p in enumerate(params):
            h = h @ p["w"] + p["b"]
            h = np.tanh(h) if k < len(params) - 1 else h
        return np.mean((h - y) ** 2)

    return loss, params


def vector_function(f, args):
    variables = Variables("test", args, [f"args[{i}]" for i in range(len(args))])
    function = VectorFunction(f, variables, packed=True)
    function(variables.start)
    return function


# ------------------------------------------------------------------------------------ values of many points
def attention(rng):
    q, k, v = (rng.standard_normal((2, 5, 3)) for _ in range(3))
    w = rng.standard_normal((3, 3))

    def f(q, w):
        logits = (q @ w) @ np.swapaxes(k, 1, 2) / np.sqrt(3.0)
        e = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
        return (e / np.sum(e, axis=-1, keepdims=True)) @ v

    return f, (q, w)


CASES = {
    "a network": lambda r: (lambda f, p: (f, (p,)))(*network(r)),
    "attention": attention,
    "a quadratic form": lambda r: (
        lambda x, a: x @ a @ x,
        (r.standard_normal(4), r.standard_normal((4, 4))),
    ),
    "used twice": lambda r: (
        lambda w: np.sum(np.sin(w @ w.T) * w[0]),
        (r.standard_normal((3, 3)),),
    ),
    "slices": lambda r: (lambda w: w[:6].reshape(2, 3) @ w[6:9] * w[9], (r.standard_normal(10),)),
    "reductions": lambda r: (
        lambda x: (
            np.max(x, axis=0),
            np.sum(x, axis=(0, 2)),
            np.mean(x),
            np.prod(x, axis=1),
            np.cumsum(x, axis=1),
        ),
        (r.standard_normal((3, 4, 2)),),
    ),
    "shapes": lambda r: (
        lambda x: (
            np.broadcast_to(np.transpose(x.reshape(4, 1, 3), (2, 1, 0)), (3, 2, 4)) ** 2
            + x.reshape(2, 6).sum()
        ),
        (r.standard_normal((4, 3)),),
    ),
    "broadcasting": lambda r: (
        lambda a, b, c: np.tanh(a + b) * np.exp(c) - (2.0 - a),
        (r.standard_normal((3, 1)), r.standard_normal(4), r.standard_normal((1, 1))),
    ),
    "where and clip": lambda r: (
        lambda x: np.where(x > 0, np.sqrt(np.abs(x)), np.clip(x, -0.5, 0.5)),
        (r.standard_normal((5, 2)),),
    ),
    "numbers": lambda r: (
        lambda a, b: a * np.exp(b) + np.array([1.0, 2.0]) * a,
        (0.3, np.float64(0.7)),
    ),
    "a constant output": lambda r: (
        lambda x: (np.sum(x), 1.0, np.ones(2)),
        (r.standard_normal(3),),
    ),
    "a solve": lambda r: (
        lambda a, b: nm.linalg.norm(a, axis=0) + np.outer(b, b)[0],
        (r.standard_normal((3, 3)), r.standard_normal(3)),
    ),
    "a loop": lambda r: (
        lambda x: nm.fori_loop(0, 3, lambda i, c: np.sin(c @ c.T) + c, x),
        (r.standard_normal((2, 2)),),
    ),
    "a branch": lambda r: (
        lambda x: nm.cond(x[0] > 0, np.sin, lambda v: v * 2, x) + x,
        (r.standard_normal(3),),
    ),
    "an empty argument": lambda r: (
        lambda x, e: np.sum(x) + np.sum(e) + e.size,
        (r.standard_normal(3), np.zeros(0)),
    ),
}


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "plain"])
@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_calls(name, compiled, rng):
    f, args = CASES[name](rng)
    function = vector_function(nm.compile(f) if compiled else f, args)
    fast = staged(function, 10**6)
    if fast is None:  # an operation that calls Python is not run in C
        assert name in ("a constant output", "a solve", "a loop", "a branch")
        return
    x = function.variables.start
    unit = function.variables.scale(x)
    size = max(1.0, np.abs(function(x)).max())
    d = rng.standard_normal((3, len(x)))
    rows, t = np.array([0, 2, 1, 1]), np.array([0.5, -1e-3, 2.0**-20, 0.0])
    want = np.array([function(x + s * unit * d[r]) for r, s in zip(rows, t, strict=True)])
    # the same operations in another order of sums: some hundred roundings of numbers of this size
    bound = 512 * EPS * max(size, np.abs(want).max())
    assert np.abs(fast.directions(x, unit, d).many(rows, t)[0] - want).max(initial=0.0) <= bound
    which = rng.integers(0, len(x), 300)
    to = x[which] + rng.choice([0.125, -0.03, 2.0**-30], 300) * unit[which]
    want = []
    for i, v in zip(which, to, strict=True):
        z = x.copy()
        z[i] = v
        want.append(function(z))
    want = np.array(want)
    bound = 512 * EPS * max(size, np.abs(want).max())
    assert np.abs(fast.entries(x, which, to) - want).max(initial=0.0) <= bound
    assert np.abs(fast.at(x) - function(x)).max(initial=0.0) <= bound


@pytest.mark.parametrize("name", CASES)
def test_every_entry_by_increments_is_the_function(name, rng):
    """Also where whole evaluations would be cheaper."""
    f, args = CASES[name](rng)
    function = vector_function(nm.compile(f), args)
    plan = function.f.plan(*args)
    x, parts = function.variables.start, function.variables.slices()
    point = list(nm.tree_leaves(args))
    for leaf, part in enumerate(parts):
        e = _Entries(plan, leaf, point)
        which = np.arange(part.start, part.stop)
        to = x[which] + 0.1 * rng.standard_normal(len(which))
        out = np.empty((len(which), function.size))
        if plan.program.outputs and function.which != list(range(len(plan.program.outputs))):
            continue
        assert e.batches.run(which, to, part.start, part.stop, out) == 0
        for i, v, y in zip(which, to, out, strict=True):
            z = x.copy()
            z[i] = v
            want = function(z)
            assert np.abs(y - want).max(initial=0.0) <= 512 * EPS * max(1.0, np.abs(want).max())


def test_what_does_not_move_is_frozen_and_of_the_rest_a_part_is_computed(rng):
    loss, params = network(rng, (64, 32, 10), 16)
    plan = nm.compile(loss).plan(params)
    point = list(nm.tree_leaves(params))
    whole = plan.cost.flops
    for leaf in range(4):
        e = _Entries(plan, leaf, point)
        each = e.frozen.plan.cost.flops / e.batches.size
        assert each < whole / 10
        assert not [q for q in e.frozen.plan.program.equations if q.primitive.name == "contract"]


def test_reshapes_carry_axes_that_they_neither_cut_nor_join():
    assert _same_axes((4, 3), (4, 1, 3)) == {0: 0, 1: 2}
    assert _same_axes((4, 3), (12,)) == {}
    assert _same_axes((2, 3, 4), (6, 4)) == {2: 1}
    assert _same_axes((2, 12), (2, 3, 4)) == {0: 0}
    assert _same_axes((1, 5), (5,)) == {1: 0}
    assert _same_axes((6, 4, 5), (2, 12, 5)) == {2: 2}
    assert _same_axes((0, 3), (3, 0)) == {}


# ------------------------------------------------------------------------------------ the check itself
def slow_report(monkeypatch, *args, **kw):
    """The report by calls of the function alone."""
    with monkeypatch.context() as m:
        m.setattr("nnmath_core.verify.gradients.staged", lambda *a: None)
        m.setattr("nnmath_core.verify.gradients.prepared", lambda *a: None)
        return nm.gradient_report(*args, **kw)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"projected": True},
        {"projected": True, "directions": 2},
        {"entries": 20},
        {"order": 1, "points": 1},
    ],
    ids=str,
)
def test_a_check_by_plans_is_the_check_by_calls(options, rng, monkeypatch):
    loss, params = network(rng, (12, 9, 4), 6)
    for f in (loss, nm.compile(loss)):
        fast, slow = (
            nm.gradient_report(f, (params,), **options),
            slow_report(monkeypatch, f, (params,), **options),
        )
        assert fast.ok
        assert slow.ok
        assert (fast.checked, fast.total, fast.directions) == (
            slow.checked,
            slow.total,
            slow.directions,
        )
        assert fast.notes == slow.notes
        # steps end by comparisons of estimates that differ by rounding: a few lines go one step further
        assert abs(fast.calls - slow.calls) <= 0.1 * slow.calls


@pytest.mark.parametrize("name", ["entries", "directions"])
@pytest.mark.parametrize("bad", [0, -1, 1.5, "all", True])
def test_counts_are_positive_integers(name, bad):
    with pytest.raises((nm.DomainError, nm.DtypeError), match=f"check_grads: `{name}` must be"):
        nm.check_grads(np.sum, (np.ones(3),), **{name: bad})


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("entries", [10_000, 10])
def test_a_wrong_entry_is_named_as_by_calls(compiled, entries, rng, monkeypatch):
    loss, params = network(rng, (12, 9, 4), 6)
    f = nm.compile(loss) if compiled else loss

    def wrong(params):
        g = nm.grad(loss)(params)
        g[0]["w"][3, 2] += 1e-3
        return g

    fast = nm.gradient_report(f, (params,), grad=wrong, points=1, entries=entries)
    slow = slow_report(monkeypatch, f, (params,), grad=wrong, points=1, entries=entries)
    assert [(d.cause, d.argument, d.index) for d in fast.disagreements] == [
        (d.cause, d.argument, d.index) for d in slow.disagreements
    ]
    assert ("params[0]['w']", (3, 2)) in {(d.argument, d.index) for d in fast.disagreements}
    for a, b in zip(fast.disagreements, slow.disagreements, strict=True):
        assert abs(a.expected - b.expected) <= 1e-8 * abs(b.expected)
        assert a.given == b.given
    with pytest.raises(GradientError, match=r"\[3, 2\]"):
        nm.check_grads(f, (params,), grad=wrong, points=1, entries=entries)


def test_kinks_are_seen_through_increments(rng):
    w = rng.standard_normal((40, 30))
    w[3, 4] = 0.0
    f = nm.compile(lambda w: np.sum(nm.nn.relu(w)))
    report = nm.gradient_report(f, (w,), points=1, order=1, modes=("rev",), entries=5000)
    assert report.ok
    assert [(d.cause, d.index) for d in report.disagreements] == [("kink", (3, 4))]


def calls(function, x, which, to):
    """The values with single entries changed, by calls."""
    values = []
    for i, v in zip(which, to, strict=True):
        z = x.copy()
        z[i] = v
        values.append(function(z))
    return np.array(values)


def test_what_is_frozen_and_infinite_is_not_subtracted(rng):
    """An infinity that stays one would move by NaN; the values themselves are finite."""
    x, v = rng.uniform(1, 2, (8, 40)), rng.uniform(1, 2, 30)

    def f(w):
        return np.sum(w**2) + 1.0 / (1.0 + np.sum(np.exp(900.0 + x @ w) @ v))

    w = rng.uniform(0.1, 0.2, (40, 30))
    function = vector_function(nm.compile(f), (w,))
    fast = staged(function, 10**6)
    which = np.arange(1200)
    start = function.variables.start
    to = start + 0.01
    with np.errstate(all="ignore"):
        want = calls(function, start, which, to)
        got = fast.entries(start, which, to)
    assert not fast.entries_of[0].sound
    np.testing.assert_allclose(got, want, rtol=512 * EPS)
    assert np.isfinite(want).all()


def test_entries_are_frozen_anew_at_each_point_and_in_each_check(rng):
    loss, params = network(rng, (64, 32, 10), 16)
    f = nm.compile(loss)
    for scale in (1.0, 0.5):
        function = vector_function(f, (nm.tree_map(lambda p, s=scale: s * p, params),))
        fast = staged(function, 10**6)
        which = rng.choice(function.variables.size, 600, replace=False)
        for move in (0.0, 0.1):
            x = function.variables.start + move
            to = x[which] + 0.05
            want = calls(function, x, which, to)
            np.testing.assert_allclose(fast.entries(x, which, to), want, rtol=512 * EPS)
        assert 1 in fast.entries_of  # the first weights
        fast.close()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float32_goes_as_it_went(dtype, rng, monkeypatch):
    x = rng.standard_normal((9, 6)).astype(dtype)
    w = rng.standard_normal((6, 5)).astype(np.float32)
    f = lambda w: np.mean(np.tanh(x @ w) ** 2)  # noqa: E731
    for g in (f, nm.compile(f)):
        fast, slow = nm.gradient_report(g, (w,)), slow_report(monkeypatch, g, (w,))
        assert (fast.verdict, fast.notes) == (slow.verdict, slow.notes)
        assert fast.ok


def test_numerical_gradients_by_plans(rng):
    loss, params = network(rng, (12, 9, 4), 6)
    want = nm.grad(loss)(params)
    for f in (loss, nm.compile(loss)):
        for step, tol in ((None, 1e-10), (1e-6, 1e-8)):
            got = nm.numerical_gradient(f, params, step=step)
            for a, b in zip(nm.tree_leaves(got), nm.tree_leaves(want), strict=True):
                np.testing.assert_allclose(a, b, atol=tol, rtol=tol)
    jacobian = nm.numerical_gradient(
        nm.compile(lambda x: np.outer(np.sin(x), x)), rng.standard_normal(5)
    )
    assert jacobian.shape == (5, 5, 5)


# ------------------------------------------------------------------------------------ when there is no Plan
def test_few_values_of_a_plain_function_do_not_compile_it(rng):
    calls = []

    def f(x):
        calls.append(type(x))
        return np.sum(x**2)

    nm.check_grads(f, (rng.standard_normal(5),), points=1, order=1, modes=("rev",))
    assert sum(t is np.ndarray for t in calls) > 5 * 8  # values are taken by calls
    calls.clear()
    nm.check_grads(f, (rng.standard_normal(500),), points=1, order=1, modes=("rev",))
    assert len(calls) < 20


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sum(x) if x[0] > 0 else np.sum(x) * 1.0,
        lambda x: np.sum(x) * float(np.asarray(nm.value_of(x))[0] > -1e9),
        lambda x: np.sum(np.sin(x), where=np.arange(len(x)) >= 0),
    ],
    ids=["control flow", "a value", "anything"],
)
def test_what_cannot_be_recorded_is_called_as_before(f, rng):
    nm.check_grads(f, (1.0 + rng.uniform(size=200),), order=1, points=2)


def test_a_function_that_hides_that_it_cannot_be_recorded_is_called(rng):
    x = rng.standard_normal(200)
    start = sum(math.sin(v) for v in x.tolist())

    def f(x):
        try:
            return sum(math.sin(v) for v in x.tolist())
        except nm.TraceError:
            return start  # the right value, once

    nm.check_grads(f, (x,), grad=np.cos, points=2)


def test_the_function_is_evaluated_once_more_only_to_record_it(rng):
    """A report counts the values that it took, by whatever way."""
    x = rng.standard_normal(300)
    report = nm.gradient_report(lambda x: np.sum(np.sin(x)), (x,), points=1, order=1)
    assert report.calls > 8 * 300


def test_points_without_a_value_spoil_no_others(rng, monkeypatch):
    """An index outside of its axis, in one entry of a batch."""
    monkeypatch.setattr("nnmath_core.verify.staged.RECORDING", 0.0)
    table = rng.standard_normal(50)
    noise = rng.standard_normal((40, 300))

    def f(x):
        picked = nm.numpy.take(table, np.floor(x * 49.9).astype(int))
        return np.sum(np.tanh(picked * x)) + np.sum(np.tanh(noise @ x))

    x = rng.uniform(0.05, 0.9, 300)
    x[7] = 1.0 - 2.0**-12  # its first steps are outside
    function = vector_function(nm.compile(f), (x,))
    fast = staged(function, 10**6)
    assert fast is not None
    which = np.arange(300)
    to = x * 1.05
    out = fast.entries(function.variables.start, which, to)
    assert 0 in fast.entries_of
    assert np.isnan(out[7])
    others = np.delete(which, 7)
    want = calls(function, function.variables.start, others, to[others])
    np.testing.assert_allclose(out[others], want, rtol=512 * EPS, atol=512 * EPS)
    assert isinstance(fast.failure, IndexError)
    report = nm.gradient_report(nm.compile(f), (x,), points=1, order=1)
    assert report.ok


# ------------------------------------------------------------------------------------ memory, threads, interrupts
def test_plans_are_kept_with_the_compiled_function_and_nothing_else(rng):
    loss, params = network(rng, (64, 32, 10), 16)
    f = nm.compile(loss)
    for _ in range(6):  # until it has paid to make one for each argument
        nm.check_grads(f, (params,), points=1, order=1, entries=10_000)
    plan = f.plan(params)
    kept = {leaf: [id(e) for e in free] for leaf, free in _known[plan].free.items()}
    assert kept
    nm.check_grads(f, (params,), points=1, order=1, entries=10_000)
    assert {leaf: [id(e) for e in free] for leaf, free in _known[plan].free.items()} == kept
    before = len(_known)
    del plan, f
    gc.collect()
    assert len(_known) < before


def test_several_checks_of_one_function_at_once(rng):
    loss, params = network(rng, (24, 20, 5), 8)
    f = nm.compile(loss)
    errors = []

    def check(scale):
        try:
            mine = nm.tree_map(lambda v: scale * v, params)
            for _ in range(3):
                nm.check_grads(f, (mine,), points=1, order=1, entries=10_000)
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=check, args=(0.5 + 0.25 * k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors


@pytest.mark.parametrize("n", [1, 2])
def test_threads_change_no_value(n, rng):
    loss, params = network(rng, (24, 20, 5), 8)
    function = vector_function(nm.compile(loss), (params,))
    x, before = function.variables.start, nm.threads()
    which = np.tile(np.arange(len(x)), 8)
    to = 1.01 * x[which]
    try:
        nm.threads(n)
        found = staged(function, 10**6).entries(x, which, to)
    finally:
        nm.threads(before)
    assert np.array_equal(
        found.reshape(8, -1), np.broadcast_to(found.reshape(8, -1)[0], (8, len(x)))
    )


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer")
def test_an_interrupt_stops_the_loop_and_leaves_everything_as_it_was(rng):
    loss, params = network(rng, (300, 200, 10), 64)
    f = nm.compile(loss)
    f(params)
    before = nm.tree_map(np.copy, params)

    def stop(*_):
        raise KeyboardInterrupt

    def check_for_ever():
        while True:
            nm.check_grads(f, (params,), points=1, order=1, entries=10**6)

    old = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        begin = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            check_for_ever()
        assert time.monotonic() - begin < 5.0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    for a, b in zip(nm.tree_leaves(params), nm.tree_leaves(before), strict=True):
        assert np.array_equal(a, b)
    nm.check_grads(f, (params,), points=1, order=1, modes=("rev",), projected=True)


# ------------------------------------------------------------------------------------ differences in C
def slow_extrapolate(slopes, rounding, steps, power):
    """Richardson's table in array code; see `Samples`."""
    columns, guesses, parts, levels = [], [], [], []
    column = slopes
    for j in range(min(4, len(slopes))):
        own = 1.2 * rounding[j:]
        if j:
            finer = column[1:]
            column = finer + (finer - column[:-1]) * (1.0 / (4.0 ** (power * j) - 1))
            guess = np.abs(column - finer)
        else:
            guess = np.zeros(column.shape)
            guess[0] = np.inf
        drift = np.abs(column[1:] - column[:-1])
        guess[1:] = np.maximum(guess[1:], drift)
        guess[:-1] = np.maximum(guess[:-1], drift - 4 * rounding[j + 1 :])
        columns.append(column)
        guesses.append(np.where(np.isnan(guess), np.inf, guess + own))
        parts.append(own)
        levels.append(steps[j:])
    error = np.concatenate(guesses)
    best = np.argmin(error, axis=0)[None]
    best = np.where(np.isinf(np.take_along_axis(error, best, 0)), len(slopes) - 1, best)
    return [
        np.take_along_axis(np.concatenate(v), best, 0)[0] for v in (columns, guesses, parts, levels)
    ]


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("shape", [(6, 1), (1, 3), (5, 4)])
def test_extrapolation_is_its_table(levels, shape, rng):
    lines, m = shape
    table = Samples(
        lambda b, t: None, lines, rng.standard_normal(m), 1e-12 * rng.uniform(size=m), 0.125
    )
    for k in range(levels):
        step = 0.125 / 4**k
        wave = np.sin(np.arange(lines * m).reshape(shape) + step) + 1e-13 * rng.standard_normal(
            shape
        )
        back = np.sin(np.arange(lines * m).reshape(shape) - step)
        if lines > 1 and k > 1:
            wave[1] = np.nan
        if lines > 2 and k == 2:
            wave[2, 0] = np.inf
        table.plus.append(wave)
        table.minus.append(back)
        table.right.append(np.full((lines, 1), step))
        table.left.append(np.full((lines, 1), step * (1 + 1e-3)))
    if lines == 5:
        table.noise = 1e-12 * rng.uniform(size=shape)
        table.left[-1][3] = -table.right[-1][3]  # a step that rounding took away
    right, left = np.array(table.right), np.array(table.left)
    plus, minus, width = np.array(table.plus), np.array(table.minus), right + left
    with np.errstate(all="ignore"):
        wide = np.broadcast_to(width, plus.shape)
        want = slow_extrapolate(
            (plus - minus) * (1 / width), 2 * table.noise * (1 / wide), wide / 2, 2
        )
        got = table.central()
        for a, b in zip((got.value, got.error, got.rounding, got.step), want, strict=True):
            np.testing.assert_array_equal(a, b)
        for side, there, t in ((1, plus, right), (-1, minus, left)):
            wide = np.broadcast_to(t, plus.shape)
            slopes = side * (there - table.middle) * (1 / t)
            want = slow_extrapolate(slopes, 2 * table.noise * (1 / wide), wide, 1)
            got = table.one_sided(side)
            for a, b in zip((got.value, got.error, got.rounding, got.step), want, strict=True):
                np.testing.assert_array_equal(a, b)
