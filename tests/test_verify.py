"""Checking gradients: right ones pass, planted bugs are found and named, along entries and directions."""

import math

import numpy as np
import pytest
from test_random_programs import OURS, PROGRAMS
from verify_findings import found, rule, wrong_entries

import nnmath_core as nm
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
    model = nm.nn.MLP.init((20, 16, 10), activation=nm.nn.relu, rng=seed, dtype=np.float32)
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
