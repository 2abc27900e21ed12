"""The gradient check by Plans: several steps of an entry at a time, gradients by a Plan, and when a line ends."""

import numpy as np
import pytest
from test_verify_staged import CASES, EPS, calls, network, vector_function

import nnmath_core as nm
from nnmath_core.verify.derivatives import Reverse
from nnmath_core.verify.differences import Samples
from nnmath_core.verify.staged import _known, staged


@pytest.fixture
def rng():
    return np.random.default_rng(20261127)


# ------------------------------------------------------------------------------------ several steps of an entry
@pytest.mark.parametrize("turns", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("name", ["a network", "attention", "used twice", "reductions", "shapes"])
def test_entries_repeat_when_there_are_more_values(name, turns, rng, monkeypatch):
    """In any number, also such as fill no batch; by increments and by whole evaluations."""
    f, args = CASES[name](rng)
    function = vector_function(nm.compile(f), args)
    x = function.variables.start
    which = rng.permutation(len(x))[: len(x) - 1]
    to = x[np.tile(which, turns)] + 0.1 * rng.standard_normal(turns * len(which))
    want = calls(function, x, np.tile(which, turns), to)
    monkeypatch.setattr("nnmath_core.verify.staged.RECORDING", 0.0)
    fast = staged(function, 10**6)
    bound = 512 * EPS * max(1.0, np.abs(want).max())
    for increments in (True, False):
        fast.by_entries = increments
        assert np.abs(fast.entries(x, which, to) - want).max() <= bound
    d = rng.standard_normal((2, len(x)))
    t = 0.1 * rng.standard_normal(2 * turns)
    got, _ = fast.directions(x, np.ones(len(x)), d).many(np.array([1, 0]), t)
    want = np.array([function(x + s * d[1 - k % 2]) for k, s in enumerate(t)])
    assert np.abs(got - want).max() <= 512 * EPS * max(1.0, np.abs(want).max())


def test_the_number_of_threads_changes_no_bit(rng):
    """Batches are cut by shape, and each is run by one thread."""
    loss, params = network(rng, (24, 20, 5), 8)
    f, before, found = nm.compile(loss), nm.threads(), []
    function = vector_function(f, (params,))
    x = function.variables.start
    which = np.arange(len(x))
    to = (x * (1 + 0.125 / 4.0 ** np.arange(8)[:, None])).ravel()
    d = rng.standard_normal((1, len(x)))
    try:
        for n in (1, 2, 3):
            nm.threads(n)
            fast = staged(function, 10**6)
            assert fast is not None
            # by calls, until increments pay
            entries = [fast.entries(x, which, to) for _ in range(20)]
            assert fast.entries_of
            assert all(e.batches.enough for e in fast.entries_of.values())
            lines = fast.directions(x, np.ones(len(x)), d)
            along, _ = lines.many(np.zeros(1, np.int64), np.linspace(0, 1, 40))
            found.append((entries[-1], along))
            fast.close()
    finally:
        nm.threads(before)
    for entries, along in found[1:]:
        assert np.array_equal(entries, found[0][0])
        assert np.array_equal(along, found[0][1])


# ------------------------------------------------------------------------------------ the gradient by a Plan
def swept(f, args, monkeypatch, **kw):
    """A report whose gradient a Plan has made; None where there is no such Plan."""
    monkeypatch.setattr("nnmath_core.verify.staged.RECORDING", 0.0)
    nm.gradient_report(f, args, points=1, order=1, modes=("rev",), **kw)
    report = nm.gradient_report(f, args, points=1, order=1, modes=("rev",), **kw)
    plans = [_known[p] for p in f._plans.values() if p in _known]
    return report if any(known.pullback is not None for known in plans) else None


SWEPT = {k: CASES[k] for k in ("a network", "attention", "used twice", "reductions", "numbers")}
SWEPT["a weak number"] = lambda r: (lambda x, n: np.sin(x) * n, (r.standard_normal(5), 3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SWEPT)
def test_gradients_by_a_plan_are_those_of_sweeps(name, dtype, rng, monkeypatch):
    f, args = SWEPT[name](rng)
    args = nm.tree_map(lambda a: a.astype(dtype) if isinstance(a, np.ndarray) else a, args)
    f = nm.compile(f)
    assert swept(f, args, monkeypatch).ok
    function = vector_function(f, args)
    function.staged = staged(function, 10**6)
    reverse = Reverse(function)
    weights = rng.standard_normal((3, function.size))
    x = function.variables.start
    reverse.rows(x, weights)  # by sweeps, the first time
    taken = []
    monkeypatch.setattr(reverse, "sweeps", lambda *a: taken.append(a))
    got = reverse.rows(x, weights)
    monkeypatch.undo()
    want = Reverse.sweeps(reverse, x, weights)
    assert not taken
    # sums of some ten terms of this size, in another order
    bound = 64 * np.finfo(dtype).eps * np.abs(weights).max() * max(1.0, np.abs(want).max())
    assert np.abs(got - want).max() <= bound


def test_wrong_rules_are_found_in_a_gradient_by_a_plan(rng, monkeypatch):
    square = nm.custom_rule(lambda x: x**2, vjp=lambda xs, y, g: (2.001 * xs[0] * g,))
    x = rng.uniform(1, 2, 6)
    f = nm.compile(lambda x: np.sum(np.sin(square(x))))
    report = swept(f, (x,), monkeypatch)
    assert report.verdict == "bug"
    assert {d.index for d in report.disagreements} <= {(i,) for i in range(6)}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_held_fixed_is_an_argument_of_the_plan(dtype, rng, monkeypatch):
    """The integers of the first check are not those of the next, and numbers of Python stay weak."""
    x = rng.uniform(1, 2, 6).astype(dtype)
    f = nm.compile(lambda x, n, i: np.sum(np.take(x, i) ** n))
    assert swept(f, (x, 3, np.array([0, 1])), monkeypatch).ok
    for n, i in ((2, [4, 5]), (5, [3, 3])):
        nm.check_grads(f, (x, n, np.array(i)), order=1, modes=("rev",))
    plans = [_known[p] for p in f._plans.values() if p in _known]
    made = [known.pullback for known in plans if known.pullback is not None]
    assert [[v.weak for v in plan.program.inputs] for plan in made] == [[False, True, False, False]]


def test_rules_that_cannot_be_recorded_are_swept(rng, monkeypatch):
    def pull(xs, y, g):
        if float(np.sum(nm.value_of(g))) > -1e300:  # has no value while it is recorded
            return (2 * xs[0] * g,)
        return (0 * xs[0],)

    square = nm.custom_rule(lambda x: x**2, vjp=pull)
    f = nm.compile(lambda x: np.sum(np.sin(square(x))))
    assert swept(f, (rng.uniform(1, 2, 6),), monkeypatch) is None
    nm.check_grads(f, (rng.uniform(1, 2, 6),), order=1, modes=("rev",))


# ------------------------------------------------------------------------------------ when a line ends
FUNCTIONS = {
    "exp": (np.exp, np.exp),
    "sin(9x)": (lambda x: np.sin(9 * x), lambda x: 9 * np.cos(9 * x)),
    "a cubic": (lambda x: x**3 - x, lambda x: 3 * x**2 - 1),
    "1/x": (lambda x: 1 / x, lambda x: -1 / x**2),
    "tanh(40(x-1))": (
        lambda x: np.tanh(40 * (x - 1)),
        lambda x: 40 / np.cosh(40 * (x - 1)) ** 2,
    ),
    "noise": (
        lambda x: np.exp(x) + 1e-9 * np.sin(1e12 * x),
        np.exp,
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_line_ends_when_no_smaller_step_can_do_better(name):
    f, slope = FUNCTIONS[name]
    points = np.array([0.9, 1.0, 1.3])
    noise = 1e-9 if name == "noise" else EPS * (1 + np.abs(f(points)))[:, None]
    lines = lambda b, t: (np.array([f(points[b] + t)]), (points[b] + t) - points[b])  # noqa: E731
    table = Samples(lines, 3, np.zeros(1), noise * np.ones((3, 1)), 0.125)
    found = table.settled(22)
    assert np.all(np.abs(found.value[:, 0] - slope(points)) <= 10 * found.error[:, 0])
    full = Samples(lines, 3, np.zeros(1), noise * np.ones((3, 1)), 0.125)
    full.advance(np.ones(3, bool), 22)
    least = full.central().error
    assert np.all(found.error <= 1.5 * least)  # later entries see the former ones from after, too
    assert len(table.plus) < 14


def test_the_best_entry_has_been_seen_from_a_smaller_step_unless_rounding_outweighs_it():
    """Values off by 1000 roundings at the fourth step, which the last column hides.

    They shift the extrapolate by 555000 roundings, and what the last column changes by 135.
    """
    bump = lambda t: 1e-10 * np.maximum(0.0, 1 - np.abs(np.abs(t) - 2.0**-9) * 2.0**12)  # noqa: E731
    line = lambda b, t: (np.array([np.sin(1 + t) + np.sign(t) * bump(t)]), t)  # noqa: E731
    table = Samples(line, 1, np.array([np.sin(1.0)]), np.full((1, 1), 1e-13), 0.125)
    found = table.settled(22)
    assert len(table.plus) > 4
    assert abs(found.value[0, 0] - np.cos(1.0)) <= 10 * found.error[0, 0]
