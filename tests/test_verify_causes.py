"""Checking gradients: kinks, rounding, roughness and other causes are told from bugs."""

import re

import numpy as np
import pytest
from verify_findings import found, wrong_entries

import nnmath_core as nm
from nnmath_core.errors import (
    DomainError,
    GradientError,
)


@pytest.fixture
def rng():
    return np.random.default_rng(20261123)


# ------------------------------------------------------------------------------------------- kinks


def relu(x):
    return nm.nn.relu(x)


@pytest.mark.parametrize(
    ("f", "x", "given", "slopes"),
    [
        (lambda x: np.sum(relu(x)), np.array([0.0, 1.0]), 0.0, (0.0, 1.0)),
        (lambda x: np.sum(relu(-x)), np.array([0.0, 1.0]), 0.0, (-1.0, 0.0)),
        (lambda x: np.sum(np.maximum(x, 0.25 * x)), np.array([0.0, 1.0]), 0.625, (0.25, 1.0)),
        (lambda x: 1e3 + np.sum(relu(x)), np.array([0.0, 1.0]), 0.0, (0.0, 1.0)),
    ],
)
def test_a_kink_is_no_bug(f, x, given, slopes):
    report = nm.gradient_report(f, (x,))
    assert report.ok, str(report)
    if given == sum(slopes) / 2:  # the mean is what central differences give: nothing to say
        assert not report.disagreements
        return
    d = found(report, "kink")[0]
    assert (d.argument, d.index, d.point, d.given) == ("x", (0,), 0, given)
    np.testing.assert_allclose(d.slopes, slopes, rtol=0, atol=1e-6)
    assert str(report).count("a kink") == 1  # found in both modes, told once


def test_the_sentence_about_a_kink():
    report = nm.gradient_report(relu, (0.0,), points=1)
    assert str(report.disagreements[0]) == (
        "x: a kink. The derivative given, 0, lies between the one-sided slopes 0 and 1."
    )


@pytest.mark.parametrize("given", [-1.0, -0.5, 0.0, 0.999, 1.0])
def test_any_derivative_between_the_slopes_passes(given):
    report = nm.gradient_report(np.abs, (0.0,), grad=lambda x: given, points=1)
    assert report.ok, str(report)


@pytest.mark.parametrize("given", [-1.01, 1.5, 30.0])
def test_a_derivative_outside_of_the_slopes_is_a_bug(given):
    report = nm.gradient_report(np.abs, (0.0,), grad=lambda x: given, points=1)
    assert report.verdict == "bug"
    assert report.disagreements[0].slopes == pytest.approx((-1, 1), abs=1e-9)


def test_ties_of_max_and_sort_are_kinks():
    x = np.array([2.0, 1.0, 2.0])
    nm.check_grads(np.max, (x,))
    nm.check_grads(lambda x: np.sort(x)[1] * 3.0, (x,))
    report = nm.gradient_report(np.max, (x,), grad=lambda x: np.array([1.0, 0, 0]), points=1)
    assert report.ok
    assert len(found(report, "kink")) == 2


@pytest.mark.parametrize("distance", [1e-3, 1e-6, 1e-9, 1e-12])
def test_a_kink_beside_the_point_is_no_bug(distance):
    f = lambda x: 1.0 + np.sum(relu(x - 1.0))  # noqa: E731
    for x in (1 + distance, 1 - distance):
        report = nm.gradient_report(f, (np.array([x, 3.0]),), points=1)
        assert report.ok, str(report)


@pytest.mark.parametrize("distance", [1e-2, 1e-3, 1e-4])
def test_a_kink_at_a_distance_excuses_no_bug(distance):
    report = nm.gradient_report(
        lambda x: np.sum(relu(x - 1.0)),
        (np.array([1 + distance]),),
        grad=lambda x: np.array([0.5]),
        points=1,
    )
    assert report.verdict == "bug"


def test_a_kink_in_the_gradient_is_no_bug():
    nm.check_grads(lambda x: np.sum(x * np.abs(x)), (np.array([0.0, 1.0]),))
    nm.check_grads(lambda x: np.sum(relu(x) ** 2), (np.array([0.0, 1.0]),))


def test_a_network_with_rectifiers_at_zero_passes(rng):
    model = nm.nn.MLP.init((2, 4, 3), activation=nm.nn.relu, rng=0)  # biases are zero
    x, y = rng.standard_normal((4, 2)), rng.integers(0, 3, 4)
    x[0] = 0  # every rectifier of this row is at its kink

    def loss(model, x, y):
        return np.mean(nm.nn.softmax_cross_entropy(model(x), y))

    report = nm.gradient_report(loss, (model, x, y))
    assert report.ok, str(report)
    assert set(report.counts) == {"kink"}


# ------------------------------------------------------------------------------------- other causes


def test_a_jump_is_called_non_smooth():
    report = nm.gradient_report(np.sign, (np.array([0.0, 2.0]),), grad=lambda x: np.zeros((2, 2)))
    assert report.ok
    assert report.disagreements[0].cause == "non-smooth"
    assert "they do not converge" in str(report)


def test_what_rounding_hides_is_not_passed_over_in_silence():
    x = np.float32(1.0)

    def f(x):
        return np.float32(1e8) + np.float32(x)

    report = nm.gradient_report(f, (x,), grad=lambda x: np.float32(1.0))
    assert (report.ok, report.verdict) == (False, "undecided")
    assert report.disagreements[0].cause == "round-off"
    assert "rounding hides the answer" in str(report)
    with pytest.raises(GradientError, match="could not be decided"):
        nm.check_grads(f, (x,), grad=lambda x: np.float32(1.0))


def test_a_gradient_that_is_itself_inexact_is_round_off_and_no_bug():
    def f(x):
        return np.sum(x - np.sin(x))

    def unstable(x):  # 1 - cos x loses all digits near zero
        return 1.0 - np.cos(x)

    x = np.array([1e-7, 2e-7, 0.5])
    report = nm.gradient_report(f, (x,), grad=unstable, points=1)
    assert report.ok, str(report)
    assert not nm.gradient_report(f, (x,), grad=lambda x: np.sin(x), points=1).ok


def test_the_complex_step_decides_where_differences_cannot(rng):
    x = rng.standard_normal(3)

    def f(x):
        return 1e16 + 1e-3 * np.sum(np.sin(x))

    report = nm.gradient_report(f, (x,), order=1)
    assert report.ok, str(report)
    assert "the complex step agrees" in str(report)
    assert not nm.gradient_report(f, (x,), order=1, grad=lambda x: 2e-3 * np.cos(x)).ok


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_derivative_that_is_not_finite_is_named(value):
    def wrong(x):
        g = 2 * x
        g[1] = value
        return g

    report = nm.gradient_report(lambda x: np.sum(x * x), (np.ones(3),), grad=wrong)
    assert report.verdict == "not finite"
    assert {d.index for d in report.disagreements} == {(1,)}
    for projected in (False, True):
        with pytest.raises(GradientError, match="is not finite"):
            nm.check_grads(lambda x: np.sum(x * x), (np.ones(3),), grad=wrong, projected=projected)


def test_a_function_that_is_not_finite_is_refused():
    with pytest.raises(DomainError, match=r"^check_grads: `f` must be finite at `args`, .* nan"):
        nm.check_grads(lambda x: np.sum(np.log(x)), (np.array([-1.0, 1.0]),))
    with pytest.raises(DomainError, match=r"output\[1\] is inf"):
        nm.gradient_report(lambda x: 1 / x, (np.array([1.0, 0.0]),))


def test_one_side_is_enough_at_the_border_of_a_domain():
    x = np.array([0.0, 1.0])
    nm.check_grads(lambda x: np.sum(x**1.5), (x,), order=1, points=1)
    report = nm.gradient_report(
        lambda x: np.sum(x**1.5), (x,), grad=lambda x: 1.5 * x**0.5 + [0.1, 0], points=1
    )
    assert wrong_entries(report) == {"x[0]"}


def test_points_stay_where_the_function_has_values():
    def f(p):
        if float(p.sum()) != 1:
            raise DomainError("not a distribution")
        return np.sum(p * p)

    report = nm.gradient_report(f, (np.array([0.25, 0.75]),), grad=lambda p: 2 * p)
    assert report.verdict == "undecided"
    assert found(report, "outside")
    assert "raised DomainError at points nearby" in str(report)
    near = nm.gradient_report(lambda x: np.sum(np.log(x)), (np.array([1e-9, 5.0]),))
    assert near.ok
    assert len(near.points) == 3
    assert all((p[0] > 0).all() for p in near.points)


def test_a_function_that_draws_random_numbers_is_recognised(rng):
    def f(x):
        return np.sum(x * rng.uniform(size=x.shape))

    report = nm.gradient_report(f, (np.ones(3),))
    assert (report.ok, report.verdict) == (False, "nondeterminism")
    assert re.search(r"`f` returned [\d.]+ and then [\d.]+ for the same arguments", str(report))
    g = nm.gradient_report(np.sum, (np.ones(3),), grad=lambda x: rng.uniform(size=3))
    assert g.verdict == "nondeterminism"
    assert "`grad` returned" in str(g)


def test_a_function_that_changes_its_argument_is_recognised():
    def f(x, n, d):
        x *= 2.0
        return np.sum(x)

    def g(x, n, d):
        n[0] += 1
        return np.sum(x)

    def h(x, n, d):
        d["seen"] = 1.0
        return np.sum(x)

    for function, name in ((f, "x"), (g, "n"), (h, "an argument")):
        x, n, d = np.ones(2), np.arange(2), {}
        report = nm.gradient_report(function, (x, n, d))
        assert report.verdict == "mutation"
        assert f"`f` changes {name} in place" in str(report)
        assert (x == 1).all()
        assert (n == [0, 1]).all()
        assert d == {}
