"""Checking gradients: what is found, what it is called, and what must not be reported."""

import json
import math
import re
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import scipy.optimize
import scipy.special
from test_random_programs import OURS, PROGRAMS, load_reference

import nnmath_core as nm
from nnmath_core.errors import (
    DomainError,
    DtypeError,
    GradientError,
    NnmathError,
    ShapeError,
    TreeError,
)
from nnmath_core.verify import Disagreement, GradientReport
from nnmath_core.verify.derivatives import Given, UserGradient
from nnmath_core.verify.findings import Findings
from nnmath_core.verify.first_order import at_point, compare_directions
from nnmath_core.verify.names import Names
from nnmath_core.verify.nearby import Nearby
from nnmath_core.verify.variables import Variables, VectorFunction

EPS = np.finfo(np.float64).eps


@pytest.fixture
def rng():
    return np.random.default_rng(20261123)


def found(report, cause):
    """The disagreements of a report with a cause."""
    return [d for d in report.disagreements if d.cause == cause]


def wrong_entries(report):
    """Names of the entries that are called wrong."""
    return {d.argument + (str(list(d.index)) if d.index else "") for d in found(report, "bug")}


def rule(value, derivative, *, fwd=1.0, rev=1.0):
    """A function whose rules in the two modes are off by factors."""
    return nm.custom_rule(
        value,
        jvp=lambda p, t: derivative(p[0]) * t[0] * fwd,
        vjp=lambda p, y, g: (derivative(p[0]) * g * rev,),
    )


# ------------------------------------------------------------------------------- right derivatives


def test_right_derivatives_pass_and_nothing_is_returned(rng):
    x = rng.standard_normal((2, 3))
    assert nm.check_grads(lambda x: np.sum(np.sin(x) * x), (x,)) is None
    report = nm.gradient_report(lambda x: np.sum(np.sin(x) * x), (x,))
    assert (report.ok, report.verdict, report.checked, report.total) == (True, "agrees", 6, 6)
    assert report.worst < 1
    assert report.disagreements == ()
    assert "all 6 entries at 3 points in forward mode and reverse mode" in str(report)


SMOOTH = {
    "sum": lambda x: np.sum(x),
    "square": lambda x: np.sum(x * x),
    "cube": lambda x: np.sum(x * x * x),
    "sin": lambda x: np.sum(np.sin(x)),
    "exp": lambda x: np.sum(np.exp(x)),
    "log": lambda x: np.sum(np.log(1 + x * x)),
    "norm": lambda x: np.sqrt(np.sum(x * x)),
    "rosenbrock": lambda x: np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
    "logsumexp": nm.special.logsumexp,
    "quotient": lambda x: np.sum(1 / x),
    "product": np.prod,
    "vector": lambda x: np.sin(x) * x[::-1],
    "probabilities": lambda x: np.exp(x - x.max()) / np.sum(np.exp(x - x.max())),
    "softmax": lambda x: nm.nn.softmax_cross_entropy(x, np.array(1)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_functions_raise_no_alarm(name, scale, dtype, rng):
    f = SMOOTH[name]
    x = (rng.uniform(0.5, 1.5, 4) * [1, -1, 1, -1] * scale).astype(dtype)
    with np.errstate(over="ignore"):
        finite = np.isfinite(f(x)).all()
    for g, there in ((f, finite), (lambda x: f(x * (1 / scale)), True)):
        if there:
            report = nm.gradient_report(g, (x,), points=1)
            assert report.ok, str(report)
            # 10 periods between two steps at 1e6: the second order may stay open, never be wrong
            assert not found(report, "bug")


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("name", SMOOTH)
def test_functions_that_insist_on_float32_raise_no_alarm(name, scale, rng):
    x = (rng.uniform(0.5, 1.5, 4) * [1, -1, 1, -1] * scale).astype(np.float32)

    def f(x):
        if x.dtype != np.float32:
            raise TypeError("float32 only")
        return SMOOTH[name](x)

    with np.errstate(over="ignore"):
        if not np.isfinite(f(x)).all():
            return
    report = nm.gradient_report(f, (x,), points=2)
    assert report.verdict in ("agrees", "undecided"), str(report)
    assert any("float32" in note for note in report.notes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", range(0, 100, 12))
def test_random_programs_raise_no_alarm(k, dtype):
    program = PROGRAMS[k]
    args = tuple(np.asarray(x, dtype) for x in program.inputs)
    report = nm.gradient_report(program.scalar_function(OURS), args, points=2)
    assert report.ok, str(report)
    assert not report.disagreements


def test_float32_arguments_are_checked_to_float64_precision_where_f_keeps_it():
    x = np.array([0.5, -1.0], np.float32)
    f = rule(np.sin, np.cos, rev=1 + 1e-7)  # below a rounding unit of float32
    assert not nm.gradient_report(lambda x: np.sum(f(x)), (x,)).ok


def test_a_derivative_that_is_wrong_in_float32_only_is_found():
    def derivative(x):
        return np.cos(x) * (1.1 if x.dtype == np.float32 else 1.0)

    f = rule(np.sin, derivative)
    x = np.array([0.5, -1.0], np.float32)
    report = nm.gradient_report(lambda x: np.sum(f(x)), (x,))
    assert report.verdict == "bug"
    assert "for float32 arguments" in str(report)
    assert nm.gradient_report(lambda x: np.sum(f(x)), (x.astype(float),)).ok


def test_a_gradient_that_is_nothing_but_rounding_is_as_good_as_zero(rng):
    for _ in range(5):
        x = rng.standard_normal(4)
        report = nm.gradient_report(lambda x: np.sum(np.exp(x) / np.sum(np.exp(x))), (x,))
        assert report.ok, str(report)
        assert not report.disagreements


def test_a_float32_derivative_that_loses_digits_is_no_bug():
    def f(x):  # in float32 its derivative at 1e-3 is off by about a tenth
        return np.sum((1 - np.cos(x)) / x)

    x = np.array([1e-3, 0.75e-3], np.float32)
    rough, exact = nm.grad(f)(x), nm.grad(f)(x.astype(float))
    assert np.abs(rough - exact).max() > 0.01
    report = nm.gradient_report(f, (x,), order=1)
    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("activation", "projected"), [(nm.nn.relu, False), (nm.nn.relu, True), (nm.nn.tanh, True)]
)
def test_networks_on_float32_data_raise_no_alarm_and_hide_no_bug(activation, projected):
    def loss(model, x, y):
        return np.mean(nm.nn.softmax_cross_entropy(model(x), y))

    wrong = nm.custom_rule(activation, jvp=lambda p, t: 1.05 * nm.jvp(activation, p, t)[1])
    for seed in range(2):
        draw = np.random.default_rng(seed)
        x, y = draw.standard_normal((8, 3)).astype(np.float32), draw.integers(0, 3, 8)
        model = nm.nn.MLP.init((3, 4, 3), activation=activation, rng=seed, dtype=np.float32)
        report = nm.gradient_report(lambda m: loss(m, x, y), (model,), projected=projected)  # noqa: B023
        assert report.ok, str(report)
        assert "Differences were taken in float32" in str(report)
        broken = nm.nn.MLP(layers=model.layers, activation=wrong)
        report = nm.gradient_report(lambda m: loss(m, x, y), (broken,), projected=projected)  # noqa: B023
        assert report.verdict == "bug"


@pytest.mark.parametrize(
    ("seed", "keywords"), [(0, {"order": 1, "points": 1}), (7, {"projected": True})]
)
def test_kinks_closer_than_the_steps_of_float32_raise_no_alarm(seed, keywords):
    """Many rectifiers, and seeds at which differences in float32 converge to a wrong number."""
    draw = np.random.default_rng(seed)
    model = nm.nn.MLP.init((20, 16, 10), activation=relu, rng=seed, dtype=np.float32)
    x, y = draw.standard_normal((32, 20)).astype(np.float32), draw.integers(0, 10, 32)
    report = nm.gradient_report(
        lambda m: nm.nn.softmax_cross_entropy(m(x), y).mean(), (model,), **keywords
    )
    assert report.ok, str(report)


def test_a_user_gradient_gets_the_dtypes_that_were_given():
    def grad(x):
        assert x.dtype == np.float32
        return 2 * x

    def jvp(args, tangents):
        assert args[0].dtype == tangents[0].dtype == np.float32
        return 2 * np.sum(args[0] * tangents[0])

    x = np.array([0.5, 1.5], np.float32)
    nm.check_grads(lambda x: np.sum(x * x), (x,), grad=grad)
    nm.check_grads(lambda x: np.sum(x * x), (x,), jvp=jvp)
    report = nm.gradient_report(lambda x: np.sum(x * x), (x,), grad=lambda x: 2.0002 * x)
    assert report.verdict == "bug"  # 1e-4, where float32 rounds to 1e-7


def test_held_fixed_float32_goes_along_to_float64(rng):
    x, w = (rng.standard_normal(3).astype(np.float32) for _ in range(2))

    def f(w, x):
        assert w.dtype == x.dtype
        return np.sum(w * x * x)

    report = nm.gradient_report(f, (w, x), grad=lambda w, x: (x * x, None))
    assert report.ok
    assert not any("float32" in note for note in report.notes)


@pytest.mark.parametrize("frequency", [1e4, 1e5, 1e6])
def test_oscillation_below_the_first_steps_is_followed(frequency):
    for seed in range(6):
        x = np.random.default_rng(seed).standard_normal(3)
        report = nm.gradient_report(lambda x: np.sum(np.sin(frequency * x)), (x,), points=2)
        assert report.ok, str(report)
        assert not report.disagreements


def test_argument_rounding_is_part_of_the_noise():
    """Gradients at 2 (x - c) have no rounding but that of x, which a short line may not show."""
    c = np.array([0.7, -1.3, 0.9, 1.2345678901])
    for seed in range(25):
        report = nm.gradient_report(lambda x: np.sum((x - c) ** 2), (c,), points=1, rng=seed)
        assert report.ok, str(report)
        assert not report.disagreements


def test_at_a_minimum_the_gradient_zero_agrees(rng):
    c = rng.standard_normal(5)
    for offset in (0.0, 1.0, 1e3):
        report = nm.gradient_report(lambda x: np.sum((x - c) ** 2) + offset, (c,))  # noqa: B023
        assert report.ok, str(report)
        assert not report.disagreements


# ------------------------------------------------------------------------------------ planted bugs


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda g: -g, "the sign is wrong"),
        (lambda g: 2 * g, "it is twice what it should be"),
        (lambda g: g / 2, "it is half what it should be"),
        (lambda g: g * (1 + 1e-4), "all 9 wrong entries are 1.0001 times"),
        (lambda g: g * (1 + 1e-8), "all 9 wrong entries are 1 times"),
        (lambda g: g.T, "it looks transposed"),
        (lambda g: 0 * g, "it is zero: a term is missing"),
    ],
)
@pytest.mark.parametrize("projected", [False, True])
def test_a_wrong_gradient_is_found_and_described(wrong, words, projected, rng):
    W, X = rng.standard_normal((3, 3)), rng.standard_normal((5, 3))

    def right(W):
        y = np.tanh(X @ W)
        return X.T @ (2 * y * (1 - y * y))

    def f(W):
        return np.sum(np.tanh(X @ W) ** 2)

    assert nm.gradient_report(f, (W,), grad=right, projected=projected).ok
    report = nm.gradient_report(f, (W,), grad=lambda W: wrong(right(W)), projected=projected)
    assert report.verdict == "bug"
    assert report.worst > 1
    if not projected:
        assert words in str(report)
    assert wrong_entries(report) <= {f"W[{i}, {j}]" for i in range(3) for j in range(3)}
    assert wrong_entries(report)


@pytest.mark.parametrize("projected", [False, True])
def test_one_wrong_entry_of_a_thousand_is_named(projected, rng):
    w, x = rng.standard_normal(1000), rng.standard_normal(1000)

    def wrong(x):
        g = 2 * w * x
        g[457] *= 1 + 1e-4
        return g

    report = nm.gradient_report(
        lambda x: np.sum(w * x * x), (x,), grad=wrong, points=1, projected=projected
    )
    assert report.counts == {"bug": 1}
    (d,) = report.disagreements
    assert (d.argument, d.index, d.mode, d.order, d.point) == ("x", (457,), "grad", 1, 0)
    assert d.given == pytest.approx(wrong(x)[457], rel=8 * EPS)
    assert abs(d.expected - 2 * w[457] * x[457]) <= 10 * d.error
    assert d.witness == pytest.approx(2 * w[457] * x[457], rel=8 * EPS)


def test_each_mode_is_checked_and_named(rng):
    x = rng.standard_normal(3)
    for mode, factors in (("fwd", {"fwd": 1.0001}), ("rev", {"rev": 1.0001})):
        f = rule(np.sin, np.cos, **factors)
        report = nm.gradient_report(lambda x: np.sum(f(x)), (x,))  # noqa: B023
        assert {d.mode for d in found(report, "bug")} == {mode}
        assert report.counts["bug"] == 9
        other = {"fwd": "rev", "rev": "fwd"}[mode]
        assert nm.gradient_report(lambda x: np.sum(f(x)), (x,), modes=(other,), order=1).ok  # noqa: B023


@pytest.mark.parametrize("vector", [False, True])
def test_a_wrong_second_derivative_is_found_in_every_composition(vector, rng):
    x = rng.standard_normal(3)
    cosine = rule(np.cos, lambda x: -np.sin(x), fwd=1.001, rev=1.001)
    f = rule(np.sin, cosine)

    def total(x):
        return f(x) if vector else np.sum(f(x))

    assert nm.gradient_report(total, (x,), order=1).ok
    report = nm.gradient_report(total, (x,))
    assert report.verdict == "bug"
    assert {d.order for d in report.disagreements} == {2}
    every = {"fwd-over-rev", "rev-over-rev", "fwd-over-fwd", "rev-over-fwd"}
    assert {d.mode for d in report.disagreements} == every
    only = nm.gradient_report(total, (x,), modes=("rev",))
    assert {d.mode for d in only.disagreements} == {"rev-over-rev"}


def test_a_wrong_second_derivative_names_the_entry(rng):
    x = {"a": rng.standard_normal(2), "b": rng.standard_normal(2)}
    wrong = rule(np.cos, lambda x: -np.sin(x), fwd=1.01, rev=1.01)
    f = rule(np.sin, wrong)
    report = nm.gradient_report(lambda p: np.sum(np.sin(p["a"])) + f(p["b"][1]), (x,))
    assert wrong_entries(report) <= {"p['b'][1]", ""}
    assert "p['b'][1]" in wrong_entries(report)


def test_a_user_jvp_is_checked(rng):
    x, w = rng.standard_normal(3), rng.standard_normal((2, 3))

    def f(x, n):
        return {"y": w @ x * n, "z": np.sum(x)}

    def jvp(args, tangents):
        assert tangents[1] == 0
        return {"y": w @ tangents[0] * args[1], "z": np.sum(tangents[0])}

    nm.check_grads(f, (x, 3), jvp=jvp)
    wrong = nm.gradient_report(f, (x, 3), jvp=lambda a, t: {"y": w @ t[0], "z": np.sum(t[0])})
    assert {d.output for d in found(wrong, "bug")} <= {"output['y'][0]", "output['y'][1]"}
    assert wrong.verdict == "bug"
    nm.check_grads(f, (x, 3), jvp=jvp, projected=True)


def test_a_gradient_and_a_jvp_are_checked_together(rng):
    x = rng.standard_normal(3)
    report = nm.gradient_report(
        lambda x: np.sum(x * x),
        (x,),
        grad=lambda x: 2 * x,
        jvp=lambda args, tangents: np.sum(args[0] * tangents[0]),
    )
    assert report.modes == ("grad", "jvp")
    assert {d.mode for d in report.disagreements} == {"jvp"}


def test_several_points_find_what_one_hides():
    def f(x):
        return np.sum(x * x)

    def only_right_there(x):
        return 2.0 * np.ones(2)

    x = np.ones(2)
    assert nm.gradient_report(f, (x,), grad=only_right_there, points=1).ok
    report = nm.gradient_report(f, (x,), grad=only_right_there)
    assert {d.point for d in found(report, "bug")} == {1, 2}
    assert "at nearby point 1" in str(report) or "at nearby point 2" in str(report)


# --------------------------------------------------------------------------------- random directions


def test_directions_are_cheap_for_many_entries(rng):
    w, x = rng.standard_normal(20_000), rng.standard_normal(20_000)
    report = nm.gradient_report(lambda x: np.sum(w * x * x), (x,), projected=True, order=1)
    assert (report.ok, report.checked, report.directions) == (True, 0, 12)
    assert report.calls < 1000


def test_more_entries_than_the_limit_are_sampled_and_the_report_says_so(rng):
    w, x = rng.standard_normal(3000), rng.standard_normal(3000)
    report = nm.gradient_report(lambda x: np.sum(w * x * x), (x,), points=1)
    assert report.ok
    assert (report.checked, report.total, report.directions) == (300, 3000, 4)
    assert "300 of 3000 entries and 4 random directions at 1 point" in str(report)
    assert "Of 3000 entries 300 were compared one by one" in str(report)

    def wrong(x):
        g = 2 * w * x
        g[1234] += 1e-3
        return g

    report = nm.gradient_report(lambda x: np.sum(w * x * x), (x,), points=1, grad=wrong)
    assert wrong_entries(report) == {"x[1234]"}


def test_a_completely_wrong_gradient_does_not_pass_along_directions(rng):
    x = rng.standard_normal(50)
    # right in size, in its sum and along itself: what a single well-chosen direction cannot tell
    for wrong in (lambda g: g[::-1], lambda g: np.roll(g, 1), lambda g: 2 * g.mean() - g):
        for seed in range(5):
            report = nm.gradient_report(
                lambda x: np.sum(x * x * x),
                (x,),
                grad=lambda x: wrong(3 * x * x),  # noqa: B023
                projected=True,
                points=1,
                rng=seed,
            )
            assert report.verdict == "bug"


def test_a_direction_misses_an_error_as_rarely_as_stated(rng):
    """The bound of the notes, ``0.8 tolerance / norm(e)``, for errors of the size of the tolerance."""
    n, size = 8, 1e-3
    x = np.ones(n)
    w = rng.standard_normal(n)

    def noisy(x):  # rounding of a known size, so that there is a tolerance to hide below
        return np.round(w @ x / size) * size

    variables = Variables("test", (x,), ["x"])
    function = VectorFunction(noisy, variables, packed=True)
    near = Nearby(function, variables, x, np.full(1, EPS), function(x))
    near.noise = np.full(1, size / 2)
    missed = trials = 0
    bound = []
    for seed in range(150):
        draw = np.random.default_rng(seed)
        d = draw.standard_normal((1, n))
        best, _ = near.along_directions(d)
        tolerance = 10 * float(best.error[0, 0])
        e = draw.standard_normal(n)
        e *= 2 * tolerance / np.linalg.norm(e)
        source = UserGradient(function, lambda x: w + e, Given("test", (x,), w))  # noqa: B023
        findings = Findings()
        names = Names(function, [(x,)], whole=True)
        given = [at_point(source, near, draw)]
        compare_directions(0, near, given, d, findings, names)
        trials += 1
        missed += not findings.disagreements
        bound.append(0.8 * tolerance / np.linalg.norm(e))
    allowed = np.mean(bound)
    assert 0 < missed / trials  # the statement is about something
    assert missed / trials <= allowed + 3 * math.sqrt(allowed / trials)


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


# -------------------------------------------------------------------------------- arguments, outputs


def test_integers_are_held_fixed():
    x, i = np.array([1.0, 2.0]), np.array([1, 0, 1])
    nm.check_grads(lambda x, i, n: np.sum(x[i] ** n), (x, i, 3))
    report = nm.gradient_report(lambda x, i, n: np.sum(x[i] ** n), (x, i, 3))
    assert report.total == 2


@pytest.mark.parametrize("x", [2.0, np.float64(2.0), np.float32(2.0), np.array(2.0)])
def test_numbers_without_axes(x):
    nm.check_grads(lambda x: np.sin(x) * x, (x,))
    nm.check_grads(lambda x: np.sin(x), (x,), grad=lambda x: np.cos(x))
    report = nm.gradient_report(lambda x: np.sin(x), (x,), grad=lambda x: np.cos(x) + 1)
    assert report.disagreements[0].index == ()


def test_empty_arrays_pass(rng):
    nm.check_grads(lambda x: np.sum(x), (np.zeros((0, 3)),))
    nm.check_grads(lambda x: x * x, (np.zeros(0),))
    nm.check_grads(lambda x, y: np.sum(x) + np.sum(y * y), (np.zeros((0, 3)), np.ones(2)))


def test_trees_and_several_outputs(rng):
    tree = {"w": rng.standard_normal((2, 3)), "b": [rng.standard_normal(3), 0.5]}

    def f(p, x):
        h = np.tanh(x @ p["w"] + p["b"][0]) * p["b"][1]
        return {"h": h, "norm": np.sum(h * h), "argmax": np.argmax(h)}

    x = rng.standard_normal((4, 2))
    nm.check_grads(f, (tree, x))
    wrong = rule(np.tanh, lambda x: 1 - np.tanh(x) ** 2, rev=1.001)

    def g(p, x):
        return f({"w": p["w"], "b": [wrong(p["b"][0]), p["b"][1]]}, x)

    report = nm.gradient_report(g, (tree, x), order=1)
    assert wrong_entries(report) <= {f"p['b'][0][{i}]" for i in range(3)}
    assert {d.mode for d in found(report, "bug")} == {"rev"}


def test_many_outputs_are_checked_in_random_sums_and_each(rng):
    w, x = rng.standard_normal((100, 3)), rng.standard_normal(3)
    nm.check_grads(lambda x: np.sin(w @ x), (x,))
    f = rule(lambda y: y, lambda y: np.where(np.arange(100) == 71, 1.01, 1.0))
    report = nm.gradient_report(lambda x: f(w @ x), (x,), order=1)
    forward = [d for d in found(report, "bug") if d.mode == "fwd"]
    assert {d.output for d in forward} == {"output[71]"}
    assert any(d.mode == "rev" for d in found(report, "bug"))


def test_layers_are_arguments_and_the_loss_of_a_network_passes(rng):
    model = nm.nn.MLP.init((5, 4, 3), activation=nm.nn.tanh, rng=0)
    x, y = rng.standard_normal((6, 5)), rng.integers(0, 3, 6)

    def loss(model, x, y):
        return np.mean(nm.nn.softmax_cross_entropy(model(x), y))

    report = nm.gradient_report(loss, (model, x, y))
    assert report.ok
    assert report.checked == report.total == 5 * 4 + 4 + 4 * 3 + 3 + 30
    wrong = nm.custom_rule(
        nm.nn.tanh, vjp=lambda p, y, g: (g * (1 - y * y) * np.array([1, 1, 1.1, 1]),)
    )
    broken = nm.nn.MLP(layers=model.layers, activation=wrong)
    report = nm.gradient_report(loss, (broken, x, y), order=1, points=1)
    first = {f"model.layers[0].weight[{i}, 2]" for i in range(5)} | {"model.layers[0].bias[2]"}
    assert {e for e in wrong_entries(report) if e.startswith("model")} <= first


def test_a_gradient_of_a_network_is_checked_with_the_layout_of_grad(rng):
    model = nm.nn.MLP.init((5, 4, 3), rng=0)
    x, y = rng.standard_normal((6, 5)), rng.integers(0, 3, 6)

    def loss(model, x, y):
        return np.mean(nm.nn.softmax_cross_entropy(model(x), y))

    own = nm.grad(loss)
    nm.check_grads(loss, (model, x, y), grad=lambda m, x, y: (own(m, x, y), None, None))
    report = nm.gradient_report(
        loss, (model, x, y), grad=lambda m, x, y: (own(m, x, y), None, None)
    )
    assert "Held fixed, since `grad` returns None: x." in str(report)
    nm.check_grads(
        loss, (model, x, y), grad=lambda m, x, y: (*nm.grad(loss, (0, 1))(m, x, y), None)
    )
    with pytest.raises(TreeError, match=r"an entry for each of the 3 arguments, got .* Put None"):
        nm.check_grads(loss, (model, x, y), grad=own)


def test_scipy_functions_are_checked_as_they_are():
    x = np.array([1.2, -0.7, 2.0])
    nm.check_grads(scipy.optimize.rosen, (x,), grad=scipy.optimize.rosen_der)
    report = nm.gradient_report(
        scipy.optimize.rosen, (x,), grad=lambda x: -scipy.optimize.rosen_der(x)
    )
    assert "the sign is wrong" in str(report)


def test_the_example_of_scipy():
    """check_grad of SciPy's page: f = x0^2 - 0.5 x1^3 at (1.5, -1.5), where its check reports some 3e-08."""

    def func(x):
        return x[0] ** 2 - 0.5 * x[1] ** 3

    def grad(x):
        return [2 * x[0], -1.5 * x[1] ** 2]

    assert 1e-8 < scipy.optimize.check_grad(func, grad, [1.5, -1.5]) < 1e-7
    x = np.array([1.5, -1.5])
    nm.check_grads(func, (x,), grad=grad)
    # an error as large as what SciPy reports for the right gradient is seen
    wrong = nm.gradient_report(func, (x,), grad=lambda x: [2 * x[0], -1.5 * x[1] ** 2 + 3e-8])
    assert wrong_entries(wrong) == {"x[1]"}


def test_a_jacobian_of_the_user_has_output_axes_first(rng):
    w, x = rng.standard_normal((4, 3)), rng.standard_normal(3)
    nm.check_grads(lambda x: w @ x, (x,), grad=lambda x: w)
    report = nm.gradient_report(lambda x: w @ x, (x,), grad=lambda x: w + np.eye(4, 3) * [0, 1, 0])
    assert {(d.index, d.output) for d in found(report, "bug")} == {((1,), "output[1]")}
    with pytest.raises(ShapeError, match=r"shape \(4, 3\) for x, as output and argument together"):
        nm.check_grads(lambda x: w @ x, (x,), grad=lambda x: w.T)


def test_arguments_are_never_written_to(rng):
    x = rng.standard_normal(3)
    x.flags.writeable = False
    nm.check_grads(lambda x: np.sum(np.sin(x)), (x,))
    y = rng.standard_normal((4, 6))[::2, ::-3]
    before = y.copy()
    nm.check_grads(lambda y: np.sum(np.sin(y)), (y,))
    assert np.array_equal(y, before)


# --------------------------------------------------------------------------------- other libraries

PEERS = load_reference("verify_peers")
ANSWERS = json.loads(PEERS.STORED.read_text())["cases"]


def peer_case(name):
    """One of the cases that PyTorch and JAX were asked about, in NumPy."""
    case = PEERS.CASES[name]
    cosine = rule(np.cos, lambda x: -np.sin(x), rev=case.second, fwd=case.second)
    sine = rule(np.sin, cosine, rev=case.factor, fwd=1.0)
    f = {
        "sine": lambda x: np.sum(sine(x)),
        "scaled": lambda x: PEERS.SMALL * np.sum(sine(x)),
        "logarithm": lambda x: np.sum(np.log(x)),
        "cube": lambda x: np.sum(x * x * x),
        "rectifier": lambda x: np.sum(relu(x)),
    }[case.function]
    return f, np.array(case.point, case.dtype), case.right


@pytest.mark.parametrize("name", PEERS.CASES)
def test_right_is_told_from_wrong_where_other_libraries_were_asked(name):
    f, x, right = peer_case(name)
    assert nm.gradient_report(f, (x,)).ok == right
    assert nm.gradient_report(f, (x,), projected=True, points=1).ok == right


def test_the_stored_answers_of_other_libraries_are_the_truth_in_plain_cases():
    """And not in others, which is why they are stored: small numbers, kinks, small errors."""
    first = {name: [a["torch"], a["torch, fast"], a["jax"]] for name, a in ANSWERS.items()}
    assert set(first) == set(PEERS.CASES)
    assert first["right"] == [True] * 3
    assert first["wrong by a tenth"] == [False] * 3
    fooled = {
        name
        for name, answers in first.items()
        if PEERS.CASES[name].second == 1 and set(answers) != {PEERS.CASES[name].right}
    }
    assert fooled == {
        "right, float32",
        "right, small argument",
        "right, at a kink",
        "wrong by 1e-4",
        "wrong by 1e-7",
        "wrong by a tenth, small values",
    }


# ---------------------------------------------------------------------------------------- complaints


SQUARE = lambda x: np.sum(x * x)  # noqa: E731


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: nm.check_grads(3, (1.0,)), DtypeError, "`f` must be callable, got 3"),
        (
            lambda: nm.check_grads(SQUARE, np.ones(2)),
            TreeError,
            r"`args` must be a tuple .* Write \(x,\)",
        ),
        (lambda: nm.check_grads(SQUARE, ()), DtypeError, "`args` must be arrays of floats"),
        (lambda: nm.check_grads(SQUARE, (3,)), DtypeError, "`args` must be arrays of floats"),
        (
            lambda: nm.check_grads(SQUARE, (np.ones(2),), order=3),
            DomainError,
            "`order` must be one of 1, 2, got 3",
        ),
        (
            lambda: nm.check_grads(SQUARE, (np.ones(2),), modes="rev"),
            DomainError,
            '`modes` must be a tuple of "fwd" and "rev", got \'rev\'',
        ),
        (
            lambda: nm.check_grads(SQUARE, (np.ones(2),), modes=()),
            DomainError,
            "`modes` must be a tuple",
        ),
        (
            lambda: nm.check_grads(SQUARE, (np.ones(2),), points=0),
            DomainError,
            "`points` must be a positive integer, got 0",
        ),
        (
            lambda: nm.check_grads(SQUARE, (np.ones(2),), grad=3),
            DtypeError,
            "`grad` must be callable",
        ),
        (lambda: nm.check_grads(SQUARE, (np.ones(2),), rng=-1), DomainError, "`rng` must be"),
        (
            lambda: nm.check_grads(SQUARE, (np.ones(2, np.float16),)),
            DtypeError,
            r"x must be a float32 or float64 array",
        ),
        (
            lambda: nm.check_grads(SQUARE, (np.ones(2, complex),)),
            DtypeError,
            r"Pass x.real and x.imag",
        ),
        (
            lambda: nm.check_grads(np.argmax, (np.ones(2),)),
            DtypeError,
            "`f` must return floating-point numbers, got integers",
        ),
        (
            lambda: nm.check_grads(lambda x: None, (np.ones(2),)),
            DtypeError,
            "got nothing. Is a `return` missing",
        ),
        (
            lambda: nm.check_grads(lambda x: 1j * x, (np.ones(2),)),
            DtypeError,
            "the real and the imaginary part",
        ),
        (
            lambda: nm.check_grads(SQUARE, (np.ones((2, 3)),), grad=lambda x: x.T),
            ShapeError,
            r"`grad` must return an array of shape \(2, 3\) for x, as the argument, got \(3, 2\)",
        ),
        (
            lambda: nm.check_grads(SQUARE, (np.ones(2),), grad=lambda x: None),
            TreeError,
            "`grad` must return an array for x, got None",
        ),
        (
            lambda: nm.check_grads(SQUARE, (np.ones(2),), grad=lambda x: "no"),
            DtypeError,
            "`grad` must return real numbers for x",
        ),
        (
            lambda: nm.check_grads(SQUARE, (np.ones(2),), grad=lambda x: 1j * x),
            DtypeError,
            "`grad` must return real numbers for x, got complex128 ones",
        ),
        (
            lambda: nm.check_grads(
                lambda p: SQUARE(p["a"]), ({"a": np.ones(2)},), grad=lambda p: {"b": p["a"]}
            ),
            TreeError,
            "`grad` must return a tree like argument 0",
        ),
        (
            lambda: nm.check_grads(lambda x, y: x * y, (1.0, 2.0), grad=lambda x, y: y),
            TreeError,
            "a tuple with an entry for each of the 2 arguments",
        ),
        (
            lambda: nm.check_grads(lambda x, y: x * y, (1.0, 2.0), grad=lambda x, y: (None, None)),
            TreeError,
            "got None for every argument of floats",
        ),
        (
            lambda: nm.check_grads(lambda x: (x, x), (1.0,), grad=lambda x: (1.0, 1.0)),
            TreeError,
            "when `f` has one output, and it has 2. Give `jvp`",
        ),
        (
            lambda: nm.check_grads(SQUARE, (np.ones(2),), jvp=lambda a, t: t[0]),
            ShapeError,
            r"`jvp` must return a tangent like the output of `f`, of shape \(\), got \(2,\)",
        ),
        (
            lambda: nm.check_grads(SQUARE, (np.ones(2),), jvp=lambda a, t: (0.0, 0.0)),
            TreeError,
            "`jvp` must return a tangent like the output of `f`",
        ),
    ],
)
def test_complaints_name_the_argument_and_the_remedy(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert isinstance(caught.value, NnmathError)
    assert str(caught.value).startswith("check_grads: ")


def test_complaints_of_the_report_bear_its_name():
    with pytest.raises(DtypeError, match=r"^gradient_report: `f` must be callable"):
        nm.gradient_report(None, (1.0,))


# ---------------------------------------------------------------------------------------- the record


def test_the_error_carries_the_record_and_its_words():
    with pytest.raises(GradientError) as caught:
        nm.check_grads(lambda x: np.sum(x**3), (np.array([1.0, 2.0]),), grad=lambda x: 2 * x**2)
    report = caught.value.report
    assert isinstance(report, GradientReport)
    assert isinstance(report.disagreements[0], Disagreement)
    text = str(caught.value)
    assert text.startswith(
        "check_grads: The derivative of `f` is wrong. Compared with `grad`: all 2"
    )
    assert "differences give" in text
    assert len(text.splitlines()) <= 6
    assert isinstance(caught.value, AssertionError)
    with pytest.raises(FrozenInstanceError):
        report.ok = True


def test_the_worst_is_told_first(rng):
    x = rng.standard_normal(6) + 3
    error = np.array([0, 1e-6, 0, 1e-2, 0, 1e-4])
    report = nm.gradient_report(SQUARE, (x,), grad=lambda x: 2 * x + error, points=1)
    assert [d.index for d in report.disagreements] == [(3,), (5,), (1,)]
    assert str(report).index("x[3]") < str(report).index("x[5]") < str(report).index("x[1]")
    assert report.worst > 1


def test_a_seed_makes_the_record_reproducible(rng):
    x = rng.standard_normal(4)
    wrong = {"grad": lambda x: 2 * x + 1e-6}
    reports = [nm.gradient_report(SQUARE, (x,), **wrong, rng=seed) for seed in (0, 0, 1)]
    same, again, other = (r.disagreements for r in reports)
    assert same == again
    assert same != other
    generator = np.random.default_rng(0)
    assert nm.gradient_report(SQUARE, (x,), **wrong, rng=generator).disagreements == same


def test_the_points_are_arguments(rng):
    x = rng.standard_normal(4).astype(np.float32)
    report = nm.gradient_report(lambda x, n, s: np.sum(x**n) * s, (x, 2, 1.5))
    assert len(report.points) == 3
    for p in report.points:
        assert p[0].dtype == np.float32
        assert type(p[1]) is int
        assert type(p[2]) is float
    assert np.array_equal(report.points[0][0], x)
    assert 0 < np.abs(report.points[1][0] - x).max() < 1


@pytest.mark.parametrize(
    ("f", "args", "keywords"),
    [
        (SQUARE, (np.array([1.0, 2.0]),), {"grad": lambda x: 3 * x}),
        (lambda x, y: np.sum(x * y), (np.ones(2), np.ones(2)), {"grad": lambda x, y: (y, 2 * x)}),
        (lambda p, n: np.sum(p["a"] * n), ({"a": np.ones((2, 2))}, 3), {"grad": lambda p, n: p}),
        (SQUARE, (np.ones((4, 5), np.float32),), {"grad": lambda x: x}),
    ],
)
def test_the_line_to_reproduce_shows_both_numbers(f, args, keywords, capsys):
    report = nm.gradient_report(f, args, **keywords)
    for d in report.disagreements:
        exec(d.reproduce, {"np": np, "nm": nm, "f": f, "report": report, **keywords})
        given, expected = map(float, capsys.readouterr().out.split())
        assert given == pytest.approx(d.given, rel=1e-6)
        assert expected == pytest.approx(d.expected, rel=1e-6)


def test_the_line_to_reproduce_our_own_derivative(rng, capsys):
    broken = rule(np.sin, np.cos, fwd=1.1, rev=1.2)

    def f(x):
        return np.sum(broken(x))

    report = nm.gradient_report(f, (rng.standard_normal(3),))
    for d in report.disagreements:
        exec(d.reproduce, {"np": np, "nm": nm, "f": f, "report": report})
        given, expected = map(float, capsys.readouterr().out.split())
        assert given == pytest.approx(d.given, rel=1e-9)
        assert expected == pytest.approx(d.expected, rel=1e-9)


def test_a_line_that_checks_again_fails_again(rng):
    cosine = rule(np.cos, lambda x: -np.sin(x), fwd=1.01, rev=1.01)
    f = rule(np.sin, cosine)
    report = nm.gradient_report(f, (rng.standard_normal(3),))
    assert report.disagreements[0].order == 2
    with pytest.raises(GradientError):
        exec(report.disagreements[0].reproduce, {"np": np, "nm": nm, "f": f, "report": report})
