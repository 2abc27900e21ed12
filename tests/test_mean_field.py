"""Gains, the theory of wide random networks, what is measured against it, and LSUV."""

import functools
import itertools
import math

import numpy as np
import pytest
import scipy.stats

import nnmath_core as nm
from nnmath_core.errors import ConvergenceError, DomainError, DtypeError, ShapeError, TraceError
from nnmath_core.nn.mean_field import Moments

EPS = np.finfo(float).eps
PHI, DENSITY = scipy.stats.norm.cdf, scipy.stats.norm.pdf
K = 0.3717


def leaky(slope):
    return functools.partial(nm.nn.leaky_relu, negative_slope=slope)


# ------------------------------------------------------------------------------ gains
# activation -> E phi^2 for a standard normal number
SECOND_MOMENTS = {
    "relu": (nm.nn.relu, 0.5),
    "leaky": (leaky(0.3), 0.545),
    "linear": (lambda z: z, 1.0),
    "square": (lambda z: z * z, 3.0),
    "cube": (lambda z: z**3, 15.0),
    "exp": (np.exp, math.exp(2.0)),
    "abs": (np.abs, 1.0),
    "sin": (np.sin, 0.5 * (1 - math.exp(-2.0))),
    "fast sin": (lambda z: np.sin(40.0 * z), 0.5),
    "sign": (np.sign, 1.0),
    "step": (lambda z: (z > K) * 1.0, PHI(-K)),
    "kink": (lambda z: np.maximum(z - K, 0.0), (1 + K * K) * PHI(-K) - K * DENSITY(K)),
    "erf": (nm.special.erf, 2 / math.pi * math.asin(2 / 3)),
    # arcsin(2 v / (1 + 2 v)) by its tangent, which keeps the digits
    "steep erf": (
        lambda z: nm.special.erf(1e4 * z),
        2 / math.pi * math.atan2(2e8, math.sqrt(1 + 4e8)),
    ),
    "gelu": (nm.nn.gelu, 1 / 3 + 1 / (2 * math.sqrt(3) * math.pi)),
    "selu": (nm.nn.selu, 1.0),
}


@pytest.mark.parametrize("name", SECOND_MOMENTS)
def test_gain_is_the_closed_form_within_its_error(name):
    f, second = SECOND_MOMENTS[name]
    g = nm.nn.gain(f)
    # two roundings of the closed form itself
    assert abs(g.value - 1 / math.sqrt(second)) <= g.error + 2 * EPS * g.value
    assert g.error < 1e-13 * g.value
    assert abs(g.second_moment / second - 1) < 1e-14


def test_published_gains():
    assert abs(nm.nn.gain(nm.nn.relu).value - math.sqrt(2)) < 4 * EPS
    assert abs(nm.nn.gain(np.tanh).value - 1.5925374197228312) < 4 * EPS
    g = nm.nn.gain(nm.nn.gelu)
    assert abs(g.value - 1.5335304411955317) < 8e-15  # published with the error of its quadrature
    assert abs(g.second_moment - 0.4252214825703006) < 4e-15
    g = nm.nn.gain(nm.nn.selu)
    assert abs(g.mean) < 1e-15
    assert abs(g.second_moment - 1) < 1e-15
    for a in (0.01, 0.2, 1.0):
        assert abs(nm.nn.gain(leaky(a)).value - math.sqrt(2 / (1 + a * a))) < 8 * EPS


@pytest.mark.parametrize("v", [1e-6, 0.3, 4.0, 1e4])
def test_gain_at_another_variance(v):
    assert abs(nm.nn.gain(nm.nn.relu, variance=v).value - math.sqrt(2)) < 8 * EPS
    f = functools.partial(nm.nn.gain, nm.special.erf)
    want = math.sqrt(v / (2 / math.pi * math.asin(2 * v / (1 + 2 * v))))
    assert abs(f(variance=v).value / want - 1) < 1e-14


def test_a_gain_is_a_number():
    g = nm.nn.gain(np.tanh)
    assert float(g) == g.value
    assert nm.nn.gain(nm.nn.gelu).mean == pytest.approx(1 / (2 * math.sqrt(math.pi)), rel=1e-14)


# ------------------------------------------------------------------------------ two variables
CORRELATIONS = [-1.0, -0.999, -0.3, 0.0, 0.04, 0.06, 0.5, 0.9, 0.999, 1 - 1e-6, 1 - 1e-10, 1.0]


@pytest.mark.parametrize("c", CORRELATIONS)
@pytest.mark.parametrize("q", [1e-4, 1.0, 30.0])
def test_averages_of_pairs_have_their_closed_forms(q, c):
    angle = math.atan2(math.sqrt((1 - c) * (1 + c)), c)  # arccos, exact near 1
    value, slope = Moments("t", nm.nn.relu).pair(q, c)
    want = q / (2 * math.pi) * (math.sin(angle) + (math.pi - angle) * c)
    assert abs(value - want) < 1e-13 * q
    assert abs(slope - (math.pi - angle) / (2 * math.pi)) < 1e-13
    value, _ = Moments("t", nm.special.erf).pair(q, c)
    assert abs(value - 2 / math.pi * math.asin(2 * q * c / (1 + 2 * q))) < 1e-13
    value, _ = Moments("t", lambda z: np.where(z > 0, 1.0, 0.0) + 0.0 * z).pair(q, c)
    assert abs(value - (math.pi - angle) / (2 * math.pi)) < 1e-13


@pytest.mark.parametrize(
    "f", [nm.nn.relu6, nm.nn.hard_tanh, nm.nn.gelu, nm.nn.elu], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("c", [-0.6, 0.3, 0.9, 0.999])
def test_prices_theorem(f, c):
    """By c E phi phi grows as q E phi' phi', by two numbers that share no integrand."""
    q, moments = 9.0, Moments("t", f)
    h = 1e-3 * (1 - abs(c))
    values = [moments.pair(q, c + k * h)[0] for k in (-2, -1, 1, 2)]
    slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
    assert (
        abs(slope / (q * moments.pair(q, c)[1]) - 1) < 1e-9
    )  # h^4 times a fifth derivative; rounding over h


# ------------------------------------------------------------------------------ theory
def test_published_critical_points():
    tanh = nm.nn.critical_point(np.tanh)
    assert (tanh.weight_variance, tanh.bias_variance, tanh.variance) == (
        pytest.approx(1.0, abs=1e-12),
        0.0,
        0.0,
    )
    relu = nm.nn.critical_point(nm.nn.relu)
    assert (relu.weight_variance, relu.bias_variance) == (pytest.approx(2.0, abs=1e-12), 0.0)
    # Roberts, Yaida & Hanin, equations 5.75 and 5.76: half-stable points, at which both slopes are 1
    swish = nm.nn.critical_point(nm.nn.silu, bias_variance=0.55514317)
    assert abs(swish.weight_variance - 1.98800468) < 1e-8
    assert (
        abs(swish.variance - 14.32017362) < 2e-4
    )  # a double root: the square root of the eighth digit
    gelu = nm.nn.critical_point(nm.nn.gelu, bias_variance=0.17292239)
    assert abs(gelu.weight_variance - 1.98305826) < 1e-8
    assert max(abs(p.variance_chi - 1) for p in (swish, gelu)) < 1e-4


@pytest.mark.parametrize("bias_variance", [1e-4, 0.05, 1.0])
@pytest.mark.parametrize("f", [np.tanh, nm.special.erf, nm.nn.sigmoid, nm.nn.hard_tanh])
def test_a_point_of_the_critical_line_is_critical(f, bias_variance):
    point = nm.nn.critical_point(f, bias_variance=bias_variance)
    theory = nm.nn.mean_field(
        f,
        weight_variance=point.weight_variance,
        bias_variance=bias_variance,
        input_variance=point.variance * 1.5,
    )
    assert abs(theory.variance / point.variance - 1) < 1e-8
    assert abs(theory.chi - 1) < 1e-8
    for factor, phase in ((0.98, "ordered"), (1.02, "chaotic")):
        beside = nm.nn.mean_field(
            f, weight_variance=factor * point.weight_variance, bias_variance=bias_variance
        )
        assert beside.phase == phase


NETS = [
    (np.tanh, 1.5, 0.05, "ordered"),
    (np.tanh, 4.0, 0.05, "chaotic"),
    (np.tanh, 2.0, 0.0, "chaotic"),
    (nm.special.erf, 3.0, 0.1, "chaotic"),
    (nm.nn.relu, 1.5, 0.1, "ordered"),
    (nm.nn.gelu, 2.0, 0.1, "ordered"),
    (nm.nn.hard_tanh, 3.0, 0.2, "chaotic"),
]


@pytest.mark.parametrize(("f", "sw", "sb", "phase"), NETS)
def test_fixed_points_and_depth_scales(f, sw, sb, phase):
    t = nm.nn.mean_field(f, weight_variance=sw, bias_variance=sb, input_variance=0.7)
    assert t.phase == phase
    assert abs(t.variance_map(t.variance) / t.variance - 1) < 1e-12
    q = 0.7
    for _ in range(200):
        q = t.variance_map(q)
    assert abs(q / t.variance - 1) < 1e-10
    assert abs(t.correlation_map(t.correlation) - t.correlation) < 1e-11
    h = 1e-4 * t.variance
    slope = (t.variance_map(t.variance + h) - t.variance_map(t.variance - h)) / (2 * h)
    assert abs(abs(slope) - math.exp(-1 / t.variance_depth)) < 1e-6
    # c* attracts, at the rate of its depth scale
    c = t.correlation + (0.1 if phase == "chaotic" else -0.1)
    seen = []
    for _ in range(60):
        c = t.correlation_map(c)
        seen.append(abs(c - t.correlation))
    last = next(i for i in range(len(seen)) if seen[i] < 1e-5 or i == len(seen) - 1)
    rate = math.log(seen[last - 1] / seen[last])
    assert (
        abs(rate * t.correlation_depth - 1)
        < 0.4 * t.correlation_depth * math.sqrt(seen[last - 1]) + 1e-3
    )
    assert abs(t.gradient_depth * abs(math.log(t.chi)) - 1) < 1e-12


def test_the_closed_form_of_erf():
    """There chi = sigma_w^2 (4 / pi) / sqrt(1 + 4 q)."""
    t = nm.nn.mean_field(nm.special.erf, weight_variance=3.0, bias_variance=0.1)
    want = 3.0 * 2 / math.pi * math.asin(2 * t.variance / (1 + 2 * t.variance)) + 0.1
    assert abs(t.variance / want - 1) < 1e-13
    assert abs(t.chi / (3.0 * 4 / math.pi / math.sqrt(1 + 4 * t.variance)) - 1) < 1e-13


@pytest.mark.parametrize(
    ("f", "sw", "sb", "variance", "phase"),
    [
        (nm.nn.relu, 2.0, 0.0, 1.0, "critical"),
        (nm.nn.relu, 2.5, 0.0, math.inf, "chaotic"),
        (nm.nn.relu, 2.0, 0.1, math.inf, "critical"),
        (nm.nn.relu, 1.9, 0.0, 0.0, "ordered"),
        (np.tanh, 1.0, 0.0, 0.0, "critical"),
        (np.tanh, 0.9, 0.0, 0.0, "ordered"),
    ],
)
def test_networks_that_die_explode_or_keep_everything(f, sw, sb, variance, phase):
    t = nm.nn.mean_field(f, weight_variance=sw, bias_variance=sb)
    assert (t.variance, t.phase) == (variance, phase)
    assert t.notes
    assert math.isinf(t.gradient_depth) == (phase == "critical")
    assert phase in str(t)


# ------------------------------------------------------------------------------ measured
def agree(measured, error, theory, slack):
    """Within three times the half width of an interval of 95 percent, and what finite width may add."""
    np.testing.assert_array_less(np.abs(measured - theory), 3 * error + slack * np.abs(theory))


@pytest.mark.parametrize(
    ("f", "sw", "sb"),
    [
        (np.tanh, 1.5, 0.05),
        (np.tanh, 3.0, 0.05),
        (nm.nn.relu, 2.0, 0.0),
        (nm.nn.gelu, 2.3, 0.1),
        (np.sin, 2.0, 0.3),
    ],
)
def test_measured_variances_gradients_and_correlations_are_those_of_the_theory(f, sw, sb):
    width, depth = 200, 8
    found = nm.nn.variance_propagation(
        depth, width, f, weight_variance=sw, bias_variance=sb, correlation=0.6, networks=40, rng=1
    )
    slack = depth / width
    agree(found.variance, found.variance_error, found.variance_theory, slack)
    agree(found.gradient, found.gradient_error, found.gradient_theory, slack)
    agree(found.correlation, found.correlation_error, found.correlation_theory, slack)
    # the test tells theories apart
    wrong = nm.nn.mean_field(f, weight_variance=1.3 * sw, bias_variance=sb)
    q = 1.0
    for _ in range(depth - 1):
        q = wrong.variance_map(q)
    assert abs(found.variance[-1] - q) > 3 * found.variance_error[-1] + slack * q


def test_the_gradient_goes_as_chi_to_the_depth():
    found = nm.nn.variance_propagation(
        12,
        150,
        np.tanh,
        weight_variance=2.5,
        bias_variance=0.05,
        input_variance=1.063957,
        networks=40,
        rng=0,
    )
    np.testing.assert_allclose(found.gradient_theory, found.chi ** np.arange(11, -1, -1), rtol=1e-5)
    assert found.phase == "chaotic"
    assert found.gradient[0] > 0.6 * found.chi**11


def test_defaults_are_the_gain_of_the_activation():
    found = nm.nn.variance_propagation(5, 100, nm.nn.selu, networks=4, rng=0)
    np.testing.assert_allclose(found.variance_theory, 1.0, rtol=1e-12)
    again = nm.nn.variance_propagation(5, 100, nm.nn.selu, networks=4, rng=0)
    np.testing.assert_array_equal(found.variance, again.variance)


def test_warnings_and_the_table():
    found = nm.nn.variance_propagation(
        60, 40, nm.nn.sigmoid, weight_variance=1.0, networks=3, rng=0
    )
    assert found.phase == "ordered"
    assert any("gradients vanish" in w for w in found.warnings)
    assert any("no small part of the width" in w for w in found.warnings)
    text = str(found)
    assert "60 layers, 3 random networks: ordered" in text
    assert text.count("\n") < 30  # the middle is left out
    found = nm.nn.variance_propagation(40, 200, np.tanh, weight_variance=9.0, networks=2, rng=0)
    assert any("gradients explode" in w for w in found.warnings)


def test_a_model_is_measured_with_its_own_weights():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 100))
    model = nm.nn.MLP.init((100, 200, 200, 200), rng=1)
    found = nm.nn.variance_propagation(model, x=x, rng=2)
    h = [x @ model.layers[0].weight]
    for layer in model.layers[1:]:
        h.append(np.maximum(h[-1], 0) @ layer.weight)
    np.testing.assert_allclose(found.variance, [np.mean(a * a) for a in h], rtol=1e-12)
    agree(found.variance, found.variance_error, found.variance_theory, 0.05)
    agree(found.gradient, found.gradient_error, found.gradient_theory, 0.05)
    assert found.phase == "critical"
    assert abs(found.chi - 1) < 0.02
    half = nm.tree_map(lambda w: w / math.sqrt(2), model)
    found = nm.nn.variance_propagation(half, x=x, rng=2)
    assert found.phase == "ordered"
    assert abs(found.chi - 0.5) < 0.01


def test_widths_and_biases_of_a_model_enter_the_theory():
    rng = np.random.default_rng(0)
    sizes = (200, 600, 150, 400)
    layers = [
        nm.nn.Dense(nm.nn.he_normal(pair, rng=rng), rng.normal(size=pair[1]))
        for pair in itertools.pairwise(sizes)
    ]
    model = nm.nn.MLP(tuple(layers), nm.nn.relu)
    x = rng.normal(size=(200, 200))
    found = nm.nn.variance_propagation(model, x=x, rng=1)
    # inputs of variance 1 have outputs of 2 + 1, and relu keeps what comes: 1 is added by each bias
    np.testing.assert_allclose(found.variance_theory, [3.0, 4.0, 5.0], rtol=0.2)
    np.testing.assert_allclose(found.variance, found.variance_theory, rtol=0.2)
    np.testing.assert_allclose(found.factors, 1.0, rtol=0.02)
    # one unit of 150 is read by 400: the mean square grows as that, the length stays
    np.testing.assert_allclose(found.gradient_theory, [400 / 600, 400 / 150, 1.0], rtol=0.05)
    np.testing.assert_allclose(found.gradient, found.gradient_theory, rtol=0.15)
    h = layers[0](x)
    want = 600 * np.mean(layers[1].weight ** 2) * 0.5 * np.mean(np.square(h)) + np.mean(
        layers[1].bias ** 2
    )
    assert abs(found.variance_theory[1] / want - 1) < 0.05


def test_strides_of_a_convolution_enter_the_theory_of_gradients():
    rng = np.random.default_rng(0)
    model = nm.nn.Sequential(
        [
            nm.nn.Conv1d.init((8, 64), 3, rng=0),
            np.tanh,
            nm.nn.Conv1d.init((64, 32), 4, stride=2, groups=2, rng=1),
        ]
    )
    found = nm.nn.variance_propagation(model, x=rng.normal(size=(50, 200, 8)), rng=1)
    np.testing.assert_allclose(found.gradient, found.gradient_theory, rtol=0.1)
    np.testing.assert_allclose(found.variance, found.variance_theory, rtol=0.1)


def test_gradients_of_a_model_are_those_of_reverse_mode():
    x = np.random.default_rng(0).normal(size=(20, 5))
    model = nm.nn.MLP.init((5, 8, 6), activation=np.tanh, rng=1)
    r = np.random.default_rng(3).standard_normal((20, 6))
    found = nm.nn.variance_propagation(model, x=x, rng=np.random.default_rng(3))
    first = model.layers[0](x)
    g = nm.grad(lambda h: np.sum(r * model.layers[1](np.tanh(h))))(first)
    np.testing.assert_allclose(found.gradient, [np.mean(g * g), np.mean(r * r)], rtol=1e-12)


def test_a_model_with_convolutions_and_layers_that_the_theory_does_not_know():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 16, 16, 3))
    model = nm.nn.Sequential(
        [
            nm.nn.Conv2d.init((3, 32), 3, rng=0),
            nm.nn.relu,
            nm.nn.Sequential([nm.nn.Conv2d.init((32, 32), 3, groups=2, rng=1), nm.nn.relu]),
            nm.nn.MaxPool2d(2),
            nm.nn.Flatten(),
            nm.nn.Dense.init((32 * 36, 50), rng=2),
            np.tanh,
            nm.nn.Dense.init((50, 50), init=nm.nn.lecun_normal, rng=3),
        ]
    )
    found = nm.nn.variance_propagation(model, x=x, rng=1)
    assert found.layers == ("[0] Conv2d", "[2][0] Conv2d", "[5] Dense", "[7] Dense")
    assert any("does not know MaxPool2d" in w for w in found.warnings)
    np.testing.assert_allclose(found.variance, found.variance_theory, rtol=0.35)
    assert np.isnan(found.factors[1])
    np.testing.assert_allclose(found.factors[0], 1.0, rtol=0.1)


# ------------------------------------------------------------------------------ LSUV
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("orthonormal", [True, False])
def test_lsuv_makes_every_variance_one(orthonormal, dtype):
    rng = np.random.default_rng(0)
    x = (5 * rng.normal(size=(128, 12, 12, 3)) + 2).astype(dtype)
    inner = nm.nn.Sequential([nm.nn.Conv2d.init((8, 16), 3, stride=2, rng=1, dtype=dtype), np.tanh])
    head = nm.nn.MLP.init((400, 30, 10), rng=2, dtype=dtype)
    first = nm.nn.Conv2d.init((3, 8), 3, rng=0, padding="same", dtype=dtype)
    model = nm.nn.Sequential([first, nm.nn.relu, inner, nm.nn.Flatten(), head])
    new, record = nm.nn.lsuv(model, x, orthonormal=orthonormal, rng=3)
    assert record.layers == (
        "[0] Conv2d",
        "[2][0] Conv2d",
        "[4].layers[0] Dense",
        "[4].layers[1] Dense",
    )
    h = x
    variances = []
    for layer in (
        new[0],
        nm.nn.relu,
        new[2][0],
        np.tanh,
        new[3],
        new[4].layers[0],
        nm.nn.relu,
        new[4].layers[1],
    ):
        h = layer(h)
        if hasattr(layer, "weight"):
            assert layer.weight.dtype == dtype
            variances.append(np.var(h.astype(np.float64)))
    np.testing.assert_allclose(variances, 1.0, rtol=16 * np.finfo(dtype).eps * 400)
    np.testing.assert_allclose(record.after, variances, rtol=1e-6)
    assert set(record.iterations) <= {0, 1}
    w = new[2][0].weight.reshape(-1, 16) / record.scale[1]
    if orthonormal:
        np.testing.assert_allclose(w.T @ w, np.eye(16), atol=64 * np.finfo(dtype).eps)
    else:
        np.testing.assert_allclose(w, inner[0].weight.reshape(-1, 16), rtol=8 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(model[0].weight, first.weight)  # the old model is as it was
    assert "iterations" in str(record)


def test_lsuv_with_biases_takes_several_steps():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, 3))
    model = nm.nn.MLP((nm.nn.Dense(rng.normal(size=(3, 5)), 0.3 * rng.normal(size=5)),), np.tanh)
    new, record = nm.nn.lsuv(model, x, tolerance=1e-9, max_iterations=100, rng=0)
    assert abs(np.var(new(x)) - 1) <= 1e-9
    assert record.iterations[0] > 1
    np.testing.assert_array_equal(new.layers[0].bias, model.layers[0].bias)
    wide = nm.nn.MLP((nm.nn.Dense(rng.normal(size=(3, 5)), 5 * rng.normal(size=5)),), np.tanh)
    with pytest.raises(
        ConvergenceError, match=r"^lsuv: the outputs of layers\[0\] Dense did not come"
    ) as caught:
        nm.nn.lsuv(wide, x)
    partial, record = caught.value.partial
    assert isinstance(partial, nm.nn.MLP)
    assert record.iterations == (10,)


# ------------------------------------------------------------------------------ complaints
N = nm.nn
MLP = nm.nn.MLP.init((3, 4, 2), rng=0)
X = np.ones((5, 3))
PROPAGATE = N.variance_propagation
BAD = [
    (lambda: N.gain(3), DtypeError, "^gain: `activation` must be callable, got 3"),
    (
        lambda: N.gain(nm.nn.softmax),
        DomainError,
        "^gain: `activation` must act on each number alone",
    ),
    (
        lambda: N.gain(lambda z: z - z.mean()),
        DomainError,
        "^gain: `activation` must act on each number alone",
    ),
    (lambda: N.gain(np.sum), ShapeError, "^gain: `activation` must return an array of the shape"),
    (
        lambda: N.gain(lambda z: 0 * z),
        DomainError,
        "^gain: `activation` must not be zero everywhere",
    ),
    (lambda: N.gain(np.log), DomainError, "must be finite on the numbers .* got nan at"),
    (lambda: N.gain(lambda z: np.exp(0.24 * z * z)), DomainError, "grows too fast"),
    (lambda: N.gain(lambda z: np.exp(z * z)), DomainError, "must be finite .* got inf"),
    (
        lambda: N.gain(lambda z: np.sin(1e9 * z)),
        ConvergenceError,
        "jumps or oscillations without end",
    ),
    (
        lambda: N.gain(np.tanh, variance=0.0),
        DomainError,
        "^gain: `variance` must be a positive finite",
    ),
    (
        lambda: N.mean_field(np.tanh, weight_variance=0.0),
        DomainError,
        "^mean_field: `weight_variance` must be a positive",
    ),
    (
        lambda: N.mean_field(np.tanh, weight_variance=1.0, bias_variance=-1.0),
        DomainError,
        "`bias_variance` must be",
    ),
    (lambda: N.mean_field(nm.nn.softmax, weight_variance=1.0), DomainError, "each number alone"),
    (
        lambda: N.mean_field(np.tanh, weight_variance=1.0).correlation_map(1.5),
        DomainError,
        r"`c` must be in \[-1, 1\]",
    ),
    (lambda: N.critical_point(nm.nn.relu, bias_variance=0.1), DomainError, "`relu` has none there"),
    (
        lambda: N.critical_point(nm.nn.silu, bias_variance=0.5),
        DomainError,
        "attracts for bias variances from 0.59",
    ),
    (lambda: N.critical_point(np.sign), DomainError, "has none that attracts"),
    (lambda: PROPAGATE("net"), DtypeError, "`network` must be a depth"),
    (
        lambda: PROPAGATE(3),
        DtypeError,
        "`width` must be given together with `activation`, got None",
    ),
    (lambda: PROPAGATE(0, 5, np.tanh), DomainError, "`network` must be a positive integer, got 0"),
    (lambda: PROPAGATE(3, 1, np.tanh), DomainError, "`width` must be an integer >= 2"),
    (
        lambda: PROPAGATE(3, 9, np.tanh, networks=1),
        DomainError,
        "`networks` must be an integer >= 2",
    ),
    (
        lambda: PROPAGATE(3, 9, np.tanh, correlation=2.0),
        DomainError,
        r"`correlation` must be in \[-1, 1\]",
    ),
    (
        lambda: PROPAGATE(3, 9, np.tanh, confidence=95),
        DomainError,
        r"`confidence` must be in \(0, 1\)",
    ),
    (lambda: PROPAGATE(3, 9, np.tanh, x=X), DomainError, "`x` belongs to a model"),
    (lambda: PROPAGATE(MLP), DtypeError, "`x` must be a batch of inputs, got None"),
    (lambda: PROPAGATE(MLP, 9, x=X), DomainError, "belong to random networks"),
    (lambda: PROPAGATE(MLP, x=np.ones((0, 3))), ShapeError, "`x` must be a batch with examples"),
    (lambda: PROPAGATE(MLP, x=np.ones((5, 4))), ShapeError, "^Dense: `x` must be of shape"),
    (
        lambda: PROPAGATE(N.Sequential([nm.nn.relu]), x=X),
        DomainError,
        "a model with a Dense or convolution layer",
    ),
    (
        lambda: N.lsuv(np.tanh, X),
        DtypeError,
        "^lsuv: `model` must be an MLP or a Sequential, got `tanh`",
    ),
    (lambda: N.lsuv(MLP, np.ones((0, 3))), ShapeError, "^lsuv: `x` must be a batch with examples"),
    (
        lambda: N.lsuv(MLP, [[1.0, 2.0, 3.0]]),
        DtypeError,
        "^lsuv: `x` must be a float32 or float64 array",
    ),
    (
        lambda: N.lsuv(MLP, np.zeros((5, 3))),
        DomainError,
        "must have a positive finite variance, got 0",
    ),
    (lambda: N.lsuv(MLP, X, tolerance=0.0), DomainError, r"^lsuv: `tolerance` must be in \(0, 1\)"),
    (
        lambda: N.lsuv(MLP, X, max_iterations=0),
        DomainError,
        "^lsuv: `max_iterations` must be a positive",
    ),
    (lambda: N.lsuv(N.Sequential([nm.nn.relu]), X), DomainError, "a model with a dense layer"),
]


@pytest.mark.parametrize(
    "f", [lambda m, x: N.lsuv(m, x)[0](x).sum(), lambda m, x: PROPAGATE(m, x=x).chi]
)
def test_what_measures_refuses_traced_arrays(f):
    for which in (
        lambda: nm.grad(f)(MLP, X),
        lambda: nm.grad(lambda x: f(MLP, x))(X),
        lambda: nm.stage(f, MLP, X),
    ):
        with pytest.raises(TraceError, match="must be made of plain arrays, got traced values"):
            which()


@pytest.mark.parametrize(("call", "error", "says"), BAD)
def test_bad_input_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()
