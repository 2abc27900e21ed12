"""Second derivatives of float32 networks with kinks: right ones raise no alarm, wrong ones are found."""

import numpy as np
import pytest
from verify_findings import found

import nnmath_core as nm
from nnmath_core.errors import TraceError
from nnmath_core.verify.widened import widened

SINGLE = np.float32


def flat_tanh(x):
    """Return tanh, with a rule whose own derivative is stopped: the first is right, the second is not."""
    slope = lambda x: 1 - np.tanh(nm.stop_gradient(x)) ** 2  # noqa: E731
    return nm.custom_rule(np.tanh, jvp=lambda p, t: slope(p[0]) * t[0])(x)


def perceptron(seed, sizes, batch, last=nm.nn.relu):
    """Return a float32 network with rectifiers, the last activation another one, and float32 data."""
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((batch, sizes[0])).astype(SINGLE)
    net = nm.nn.MLP.init(sizes, activation=nm.nn.relu, rng=seed, dtype=SINGLE)
    *first, head = net.layers
    steps = [step for layer in first for step in (layer, nm.nn.relu)]
    return nm.nn.Sequential((*steps[:-1], last, head)), x, draw.integers(0, sizes[-1], batch)


def convolution(seed, channels, units, size, batch):
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((batch, size, size, 1)).astype(SINGLE)
    inside = channels * ((size - 2) // 2) ** 2
    layers = (
        nm.nn.Conv2d.init((1, channels), 3, rng=seed, dtype=SINGLE),
        nm.nn.relu,
        nm.nn.MaxPool2d(2),
        nm.nn.Flatten(),
        nm.nn.Dense.init((inside, units), rng=seed + 1, dtype=SINGLE),
        nm.nn.relu,
        nm.nn.Dense.init((units, 10), rng=seed + 2, dtype=SINGLE),
    )
    return nm.nn.Sequential(layers), x, draw.integers(0, 10, batch)


def loss_on(x, y, *, branch=False):
    """Return a loss that closes over float32 data; with a branch, it cannot be recorded."""

    def loss(model):
        value = nm.nn.softmax_cross_entropy(model(x), y).mean()
        return value if not branch or value > -1 else 2 * value

    return loss


def require_single(x):
    if x.dtype != SINGLE:
        raise TypeError("float32 only")


def second(report, cause):
    return [d for d in found(report, cause) if d.order == 2]


NETWORKS = {
    "two layers 0": (perceptron, 0, (20, 64, 64, 10), 32),
    "two layers 3": (perceptron, 3, (20, 64, 64, 10), 32),
    "three layers 0": (perceptron, 0, (20, 64, 64, 64, 10), 16),
    "three layers 1": (perceptron, 1, (20, 64, 64, 64, 10), 16),
    "three layers 3": (perceptron, 3, (20, 64, 64, 64, 10), 16),
    "convolution 0": (convolution, 0, 4, 32, 12, 16),
}


@pytest.mark.parametrize("modes", [("fwd", "rev"), ("rev",)])
@pytest.mark.parametrize("name", NETWORKS)
def test_right_second_derivatives_of_networks_raise_no_alarm_and_are_decided(name, modes):
    build, *sizes = NETWORKS[name]
    model, x, y = build(*sizes)
    report = nm.gradient_report(
        loss_on(x, y), (model,), rng=0, points=2, projected=True, modes=modes
    )
    assert report.verdict == "agrees", str(report)
    assert {d.cause for d in report.disagreements if d.order == 2} <= {"kink"}, str(report)
    assert "Differences were taken in float32" in str(report)


@pytest.mark.parametrize("name", ["two layers 0", "two layers 3", "three layers 3"])
def test_where_it_can_not_be_recorded_it_is_undecided_and_says_why(name):
    build, *sizes = NETWORKS[name]
    model, x, y = build(*sizes)
    report = nm.gradient_report(
        loss_on(x, y, branch=True), (model,), rng=0, points=2, projected=True
    )
    assert report.verdict in ("agrees", "undecided"), str(report)
    left = second(report, "non-smooth")
    assert left
    assert any("the derivative jumps between the points" in str(d) for d in left)
    assert any("Undecided second derivative" in note for note in report.notes)


def test_a_first_derivative_among_kinks_is_confirmed_in_double():
    model, x, y = perceptron(3, (20, 64, 64, 64, 10), 16)
    report = nm.gradient_report(
        lambda m: nm.nn.softmax_cross_entropy(m(x), y),
        (model,),
        rng=0,
        projected=True,
        modes=("fwd",),
    )
    assert report.verdict == "agrees", str(report)


# ------------------------------------------------------------------------------------ planted bugs


@pytest.mark.parametrize("modes", [("fwd", "rev"), ("rev",), ("fwd",)])
@pytest.mark.parametrize("seed", range(2))
def test_a_wrong_second_derivative_among_kinks_is_found(seed, modes):
    sizes, batch = (20, 64, 64, 10), 32
    right, x, y = perceptron(seed, sizes, batch, last=np.tanh)
    wrong, _, _ = perceptron(seed, sizes, batch, last=flat_tanh)
    keywords = {"rng": 0, "points": 2, "projected": True, "modes": modes}
    report = nm.gradient_report(loss_on(x, y), (right,), **keywords)
    assert report.ok, str(report)
    report = nm.gradient_report(loss_on(x, y), (wrong,), **keywords)
    assert report.verdict == "bug"
    assert second(report, "bug")
    assert all(d.order == 2 for d in found(report, "bug"))
    assert nm.gradient_report(loss_on(x, y), (wrong,), order=1, projected=True).ok


@pytest.mark.parametrize("mode", ["fwd", "rev"])
def test_a_wrong_first_derivative_among_kinks_is_not_confirmed(mode):
    wrong = nm.custom_rule(np.tanh, jvp=lambda p, t: 1.05 * nm.jvp(np.tanh, p, t)[1])
    model, x, y = perceptron(0, (20, 64, 64, 10), 32, last=wrong)
    report = nm.gradient_report(
        loss_on(x, y), (model,), rng=0, points=1, projected=True, order=1, modes=(mode,)
    )
    assert report.verdict == "bug"


@pytest.mark.parametrize("branch", [False, True])
@pytest.mark.parametrize("factor", [1.05, 0.9, -1.0])
def test_a_wrong_second_derivative_of_a_smooth_function_is_found_in_float32(factor, branch):
    def slope(x):
        c = np.cos(nm.stop_gradient(x))
        return c + factor * (np.cos(x) - c)

    sine = nm.custom_rule(np.sin, jvp=lambda p, t: slope(p[0]) * t[0])
    held = np.random.default_rng(0).standard_normal((5, 4)).astype(SINGLE)

    def f(w):
        require_single(w)
        value = sine(nm.numpy.matmul(held, w)).sum()
        return value if not branch or value > -100 else 2 * value

    w = np.random.default_rng(1).standard_normal(4).astype(SINGLE)
    report = nm.gradient_report(f, (w,), rng=0)
    assert report.verdict == "bug"
    assert second(report, "bug")


@pytest.mark.parametrize("branch", [False, True])
def test_an_error_beyond_what_the_jumps_explain_is_found_without_recording(branch):
    """Some kinks, whose jumps are small beside a missing term."""
    draw = np.random.default_rng(0)
    held = draw.standard_normal((30, 6)).astype(SINGLE)

    def f(w):
        require_single(w)
        value = flat_tanh(nm.numpy.matmul(held, w)).sum()
        value = value + 1e-3 * nm.nn.relu(nm.numpy.matmul(held, w)).sum()
        return value if not branch or value > -100 else 2 * value

    w = draw.standard_normal(6).astype(SINGLE)
    assert second(nm.gradient_report(f, (w,), rng=0), "bug")


# ------------------------------------------------------------------------- the function in float64


def test_a_recorded_function_in_float64_is_that_function_with_less_rounding():
    model, x, _ = convolution(0, 2, 8, 8, 3)
    wide = nm.tree_map(lambda a: a.astype(float), model)
    got = widened(lambda m: nm.nn.softmax(m(x)) + SINGLE(0.1), model)(wide)
    assert got.dtype == np.float64
    want = nm.nn.softmax(wide(x.astype(float))) + float(SINGLE(0.1))
    assert np.abs(got - want).max() < 64 * np.finfo(float).eps


def test_casts_are_widened_and_choices_by_dtype_stay():
    def f(x):
        return x.astype(SINGLE) * (3.0 if x.dtype == np.float32 else 5.0)

    x = np.array([0.1, 0.2])
    got = widened(f, x.astype(SINGLE))(x)
    assert got.dtype == np.float64
    assert np.array_equal(got, 3.0 * x)


def test_control_flow_on_values_is_refused():
    x = np.ones(2, SINGLE)
    with pytest.raises(TraceError):
        widened(lambda x: x if x.sum() > 0 else -x, x)
    with pytest.raises(TraceError, match="control flow"):
        widened(lambda x: nm.cond(x[0] > 0, np.sin, np.cos, x), x)


def test_the_report_says_how_to_see_more():
    model, x, y = perceptron(0, (3, 4, 2), 2)
    note = str(nm.gradient_report(loss_on(x, y), (model,), points=1, order=1))
    assert (
        "`f` refused float64 (DtypeError). To see more, cast the arrays that it closes over" in note
    )
    assert (
        nm.gradient_report(
            lambda m: nm.nn.softmax_cross_entropy(m(x.astype(m.layers[0].weight.dtype)), y).mean(),
            (model,),
            points=1,
        ).notes
        == ()
    )

    def narrow(x):
        return np.sum(np.sin(x)).astype(SINGLE)

    note = str(nm.gradient_report(narrow, (np.ones(2, SINGLE),), points=1, order=1))
    assert "returns float32 also for float64 arguments. To see more, let it keep" in note
