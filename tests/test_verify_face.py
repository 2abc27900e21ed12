"""Checking gradients: arguments and outputs, other libraries, complaints, the record."""

import json
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import scipy.optimize
import scipy.special
from test_random_programs import load_reference
from verify_findings import found, rule, wrong_entries

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


@pytest.fixture
def rng():
    return np.random.default_rng(20261123)


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
        "rectifier": lambda x: np.sum(nm.nn.relu(x)),
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
