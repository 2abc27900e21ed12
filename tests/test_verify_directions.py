"""Differences along directions by Plans, beside their definition; and what one check leaves to the next."""

import gc
import re

import numpy as np
import pytest
from test_verify_staged import network, slow_extrapolate, vector_function

import nnmath_core as nm
from nnmath_core._ext._perturb import judge
from nnmath_core.errors import GradientError
from nnmath_core.verify.gradients import prepared
from nnmath_core.verify.nearby import Nearby
from nnmath_core.verify.staged import _forms, staged

DOUBLE = np.finfo(np.float64).eps


@pytest.fixture
def rng():
    return np.random.default_rng(20261127)


# ------------------------------------------------------------------------------------ the search for steps
def plain_units(x, slices, fraction):
    """The size of each entry, at least a fraction of the root mean square of its leaf; 1 where that is 0."""
    unit = np.abs(x)
    for part in slices:
        rms = np.sqrt(np.mean(unit[part] ** 2))
        unit[part] = np.maximum(unit[part], fraction * rms) if rms > 0 else 1.0
    return unit


def plain_noise(value, x, unit, middle, eps, shortest):
    """What third to fifth differences of seven values show, on longer lines where neighbours are equal."""
    size, found, spacing = (
        np.where(x == 0, unit, np.abs(x)),
        np.full(middle.shape, np.nan),
        shortest,
    )
    turns, growth = (5, 256.0) if shortest < 1e-10 else (3, 16.0)
    for _ in range(turns):
        rows = np.array([value(x + k * spacing * size) for k in range(-3, 4)])
        equal = np.sum(rows[1:] == rows[:-1], axis=0)
        sigma, gamma = np.zeros(middle.shape), 1.0
        for k in range(1, 6):
            rows = rows[1:] - rows[:-1]
            gamma *= k / (2 * (2 * k - 1))
            if k >= 3:
                sigma = np.maximum(sigma, np.sqrt(gamma * np.mean(rows**2, axis=0)))
        usable = np.isnan(found) & (equal < 3) & np.isfinite(sigma)
        found[usable] = sigma[usable]
        spacing *= growth
    return np.maximum(np.nan_to_num(found), eps * np.abs(middle))


def plain_search(value, x, unit, d, middle, noise, eps, first):
    """Steps a quarter each until no smaller one can do better; see `Table.until_settled`."""
    plus, minus, steps = [], [], []

    def take():
        t = first / 4.0 ** len(steps)
        plus.append(value(x + t * (unit * d)))
        minus.append(value(x - t * (unit * d)))
        steps.append(t)

    for _ in range(4):
        take()
    noise = np.fmax(noise, eps * np.abs(plus[0] - minus[0]) / (2 * first))
    while True:
        width = 2 * np.array(steps)[:, None] * np.ones(len(middle))
        slopes = (np.array(plus) - np.array(minus)) * (1 / width)
        best = slow_extrapolate(slopes, 2 * noise * (1 / width), width / 2, 2)
        _, error, _, step = best
        share = np.where(step > 2 * steps[-1], 1 / (1.2 * 4), 4.0)
        if len(steps) == 22 or np.all(2 * noise / (2 * steps[-1]) > share * error):
            return best, np.array(plus), np.array(minus), noise
        take()


def root(x):
    return np.sqrt(x - 0.96)  # some steps leave its domain


SEARCHED = {
    "a network": lambda r: (lambda f, p: (f, (p,)))(*network(r)),
    "several outputs": lambda r: (
        lambda a, b: (np.tanh(a) * b, np.sum(np.exp(a * b))),
        (r.standard_normal(5), r.standard_normal(5)),
    ),
    "zeros": lambda r: (lambda a, b: np.sum(np.sin(a) * b), (np.zeros(4), r.standard_normal(4))),
    "a kink": lambda r: (lambda a: np.sum(np.abs(a)), (np.array([1e-4, -1.0, 2.0]),)),
    "a domain": lambda r: (root, (np.array([1.0, 1.5]),)),
    "a constant": lambda r: (lambda a: np.sum(a) * 0.0 + 3.0, (r.standard_normal(3),)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SEARCHED)
def test_the_search_along_directions_is_its_definition(name, dtype, rng):
    """To the bit, values, noise and estimates, and in the same steps."""
    f, args = SEARCHED[name](rng)
    args = nm.tree_map(lambda a: a.astype(dtype), args)
    function = vector_function(nm.compile(f), args)
    fast, variables = staged(function, 10**6), function.variables
    x, double = variables.start, variables.eps < 1e-10
    near = Nearby(function, variables, x, function.eps, staged=fast)
    unit = plain_units(x, variables.slices(), 2.0**-10 if double else 2.0**-3)
    # a sum of n squares in another order
    np.testing.assert_allclose(near.unit, unit, rtol=len(x) * DOUBLE)
    near.measure_noise()
    with np.errstate(all="ignore"):
        noise = plain_noise(fast.at, x, near.unit, near.middle, function.eps, near.shortest)
        np.testing.assert_array_equal(near.noise, noise)
        for d in rng.standard_normal((3, len(x))):
            want, plus, minus, raised = plain_search(
                fast.at, x, near.unit, d, near.middle, noise, variables.eps, near.first
            )
            best, table = near.along_directions(d[None])
            np.testing.assert_array_equal(np.array(table.plus)[:, 0], plus)
            np.testing.assert_array_equal(np.array(table.minus)[:, 0], minus)
            np.testing.assert_array_equal(table.noise[0], raised)
            for a, b in zip((best.value, best.error, best.rounding, best.step), want, strict=True):
                np.testing.assert_array_equal(a[0], b)


def test_several_directions_are_each_alone(rng):
    f, params = network(rng)
    function = vector_function(nm.compile(f), (params,))
    near = Nearby(
        function,
        function.variables,
        function.variables.start,
        function.eps,
        staged=staged(function, 10**6),
    )
    near.measure_noise()
    d = rng.standard_normal((5, len(near.x))) * np.array([1.0, 0.1, 3.0, 1e-3, 0.0])[:, None]
    together, table = near.along_directions(d)
    levels = []
    for b in range(len(d)):
        alone, one = near.along_directions(d[b : b + 1])
        levels.append(len(one.plus))
        for name in ("value", "error", "rounding", "step"):
            assert getattr(together, name)[b] == getattr(alone, name)[0]
    assert len(table.plus) == max(levels) > min(levels)


# ------------------------------------------------------------------------------------ what is judged
def plain_judgement(given, expected, error, part, floor, share):
    """Tolerances and verdicts in array code; see `Compared`."""
    error = np.where(np.isnan(error), np.inf, error)
    size = np.fmax(np.abs(given), np.abs(expected))
    gap = np.abs(given - expected)
    tolerance = 10 * error + share * np.where(np.isfinite(size), size, 0) + floor + 2.0**-1020
    fits = (gap <= tolerance) & np.isfinite(given)
    coarse = fits & (tolerance > 0.5 * size)
    blind = coarse & (given != 0)
    rough = coarse & (np.abs(expected) > 10 * part) & (error > 0.25 * np.abs(expected))
    return (error, gap, tolerance), (fits & ~(blind | rough), ~fits, blind, rough)


def test_a_judgement_is_its_definition(rng):
    shape = (60, 7)
    given = rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 3, shape)
    expected = given + rng.choice([0.0, 1e-9, 1e-3, 1.0], shape) * rng.standard_normal(shape)
    error, part = (10.0 ** rng.integers(-12, 2, shape) for _ in range(2))
    for a in (given, expected, error):
        a[rng.random(shape) < 0.05] = np.nan
        a[rng.random(shape) < 0.05] = np.inf
        a[rng.random(shape) < 0.1] = 0.0
    floor, share = 1e-9 * rng.random(shape), 64 * DOUBLE
    with np.errstate(invalid="ignore"):
        wanted, marked = plain_judgement(given, expected, error, part, floor, share)
    for skip in (None, rng.random(shape) < 0.3):
        numbers, marks = np.empty((3, *shape)), np.empty((4, *shape), bool)
        worst, decided, zeros, others = judge(
            given,
            expected,
            error,
            part,
            floor,
            None if skip is None else skip.view(np.uint8),
            share,
            10.0,
            2.0**-1020,
            numbers,
            marks.view(np.uint8),
        )
        for a, b in zip(numbers, wanted, strict=True):
            np.testing.assert_array_equal(a, b)
        keep = np.ones(shape, bool) if skip is None else ~skip
        for a, b in zip(marks, marked, strict=True):
            np.testing.assert_array_equal(a, b & keep)
        good = marks[0]
        with np.errstate(invalid="ignore"):
            ratio = (numbers[1] / numbers[2])[good]
        assert good.any()
        assert marks[1].any()
        assert marks[2].any()
        assert marks[3].any()
        assert worst == np.nanmax(ratio)
        assert (decided, zeros) == (np.sum(given[good] != 0), np.sum(given[good] == 0))
        assert others == marks[1:].sum()


# ------------------------------------------------------------------------------------ the next check
def report_of(f, args, **kw):
    return nm.gradient_report(f, args, points=1, order=1, modes=("rev",), projected=True, **kw)


@pytest.mark.parametrize("options", [{}, {"directions": 3, "rng": 7}], ids=str)
def test_the_next_check_of_a_compiled_function_finds_the_same(options, rng):
    loss, params = network(rng, (12, 9, 4), 6)
    f = nm.compile(loss)
    assert prepared("test", f, (params,)) is None
    first = report_of(f, (params,), **options)
    assert prepared("test", f, (params,)) is not None
    again = report_of(f, (params,), **options)
    assert again.ok
    assert (again.worst, again.directions, again.total, again.notes, again.name) == (
        first.worst,
        first.directions,
        first.total,
        first.notes,
        first.name,
    )
    assert again.calls == first.calls - 1  # the call that tells what it returns
    moved = nm.tree_map(lambda a: a + 1.0, params)
    there, fresh = (
        report_of(f, (moved,), **options),
        report_of(nm.compile(loss), (moved,), **options),
    )
    assert there.worst == fresh.worst != again.worst
    assert all(map(np.array_equal, nm.tree_leaves(there.points), nm.tree_leaves(moved)))


def test_the_next_check_says_the_same_of_a_wrong_derivative(rng):
    wrong = nm.custom_rule(
        np.sin, vjp=lambda xs, y, g: (g * np.cos(xs[0]) * np.array([1, 1, 1.01]),)
    )
    f, x = nm.compile(lambda v: np.sum(wrong(v["x"]))), {"x": rng.uniform(0.1, 1, 3)}
    said = []
    for _ in range(3):
        with pytest.raises(GradientError, match=re.escape("v['x'][2]")) as caught:
            nm.check_grads(f, (x,), points=1, order=1, modes=("rev",), projected=True)
        said.append(re.sub(r"max difference.*", "", str(caught.value)))
    assert said[0] == said[1] == said[2]
    assert prepared("test", f, (x,)) is not None


def test_the_next_check_refuses_what_the_first_would_have_refused(rng):
    f = nm.compile(lambda x, n: np.sum(np.log(x) * n))
    x = rng.uniform(1, 2, 3)
    report_of(f, (x, 2))
    with pytest.raises(nm.DomainError, match="`f` must be finite at `args`"):
        report_of(f, (-x, 2))
    with pytest.raises(nm.DomainError, match="`rng` must be"):
        report_of(f, (x, 2), rng=-1)
    with pytest.raises(nm.DtypeError, match="complex"):
        report_of(f, (x + 0j, 2))
    with pytest.raises(nm.TreeError, match="`args` must be a tuple"):
        report_of(f, {"x": x})
    assert report_of(f, (x, 2)).ok


def test_other_types_shapes_and_dtypes_are_found_out_anew(rng):
    f, x = nm.compile(lambda x, y: np.sum(np.sin(x) * y)), rng.standard_normal(4)
    report_of(f, (x, 2.0))
    for args, total in (
        ((x, np.float64(2.0)), 5),
        ((x, 2), 4),
        ((x.astype(np.float32), 2.0), 5),
        ((x.astype(">f8"), 2.0), 5),
        ((x[:3], 2.0), 4),
        ((x.reshape(2, 2), 2.0), 5),
        ((x[::-1], 2.0), 5),
        ((np.asfortranarray(x.reshape(2, 2)), x.reshape(2, 2).T), 8),
    ):
        for _ in range(2):
            report = report_of(f, args)
            assert report.ok
            assert report.total == total


def test_what_is_known_of_a_function_goes_with_it(rng):
    gc.collect()
    f, before = nm.compile(lambda x: np.sum(np.sin(x))), len(_forms)
    report_of(f, (rng.standard_normal(3),))
    assert len(_forms) == before + 1
    del f
    gc.collect()
    assert len(_forms) == before
