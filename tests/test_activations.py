"""Activations: against PyTorch, in extended precision, at their kinks and limits, in both modes and both dtypes."""

import json
import math
import warnings

import numpy as np
import pytest
import scipy.special
from reference import activations_torch as reference
from reference.parity import compare, direction, weights

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError, ShapeError

EPS = np.finfo(np.float64).eps
STORED = json.loads(reference.STORED.read_text())["cases"]
CASES = reference.cases()
NAMES = reference.NAMES
FUNCTIONS = {
    **{name: getattr(nm.nn, name) for name in NAMES},
    "gelu, approximate": lambda x: nm.nn.gelu(x, approximate=True),
    "leaky_relu, slopes": lambda x: nm.nn.leaky_relu(
        x, negative_slope=np.full((), 0.2, x.real.dtype)
    ),
    "softplus, sharp": lambda x: nm.nn.softplus(x, beta=3.0),
    "softmax, warm": lambda x: nm.nn.softmax(x, temperature=3.0),
    "log_softmax, cold": lambda x: nm.nn.log_softmax(x, temperature=0.25),
}
ENTRYWISE = [name for name in FUNCTIONS if "softmax" not in name and name != "glu"]


@pytest.fixture
def rng():
    return np.random.default_rng(20261126)


@pytest.mark.parametrize("case", CASES)
def test_activation_agrees_with_pytorch(case):
    name, x, options = CASES[case]
    w = weights(case, getattr(nm.nn, name)(x, **options).shape)

    def f(x):
        return np.sum(w * getattr(nm.nn, name)(x, **options))

    v = direction(case, 0, x.shape)
    stored = STORED[case]
    compare("value", getattr(nm.nn, name)(x, **options), stored["value"], 1e-12)
    compare("gradient", nm.grad(f)(x), stored["gradient"][0], 1e-12)
    compare("product", nm.hvp(f, (x,), (v,)), stored["product"][0], 1e-12)


# ------------------------------------------------------------------------------ accuracy

WIDE = np.concatenate([-np.geomspace(700, 1e-8, 300), np.geomspace(1e-8, 700, 300)])


def extended(name, x):
    """Value in extended precision (64 bits of mantissa), written in another way than the package does."""
    x = np.asarray(x, np.longdouble)
    low = np.minimum(x, 0)
    return {
        "sigmoid": lambda: np.where(x > 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(low) / (1 + np.exp(low))),
        "silu": lambda: x * extended("sigmoid", x),
        "softplus": lambda: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
        "log_sigmoid": lambda: -extended("softplus", -x),
        # tanh(log(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2)
        "mish": lambda: x * np.where(
            x > 20, 1.0, (np.exp(2 * np.minimum(x, 20)) + 2 * np.exp(np.minimum(x, 20)))
            / (np.exp(2 * np.minimum(x, 20)) + 2 * np.exp(np.minimum(x, 20)) + 2)
        ),
        "elu": lambda: np.where(x > 0, x, np.expm1(low)),
        "selu": lambda: np.longdouble("1.0507009873554804934193349852946")
        * np.where(x > 0, x, np.longdouble("1.6732632423543772848170429916717") * np.expm1(low)),
    }[name]()  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "name", ["sigmoid", "silu", "softplus", "log_sigmoid", "mish", "elu", "selu"]
)
def test_values_have_the_stated_relative_error(name, dtype):
    x = WIDE.astype(dtype)
    x = x[np.abs(x) < (80 if dtype == np.float32 else 700)]  # beyond, exp is denormal
    want = extended(name, x)
    got = FUNCTIONS[name](x)
    assert got.dtype == dtype
    # mish at 20: exp(-40) is left out above
    assert np.max(np.abs((got - want) / want)) <= 8 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gelu_keeps_its_digits_in_the_lower_tail(dtype):
    x = np.linspace(-12, 5, 300).astype(dtype)
    wide = x.astype(np.float64)
    want = wide * np.exp(scipy.special.log_ndtr(wide))
    error = np.abs((nm.nn.gelu(x) - want) / want)
    assert np.all(error <= 4 * np.finfo(dtype).eps * (1 + wide**2))
    # the derivative Phi + x phi is about -x^2 phi in the tail, where 1 + erf would have no digit left
    slope = np.exp(scipy.special.log_ndtr(wide)) + wide * np.exp(-0.5 * wide**2) / math.sqrt(
        2 * math.pi
    )
    found = nm.grad(lambda x: nm.nn.gelu(x).sum())(x)
    away = np.abs(wide + 0.7518) > 0.1
    assert np.all((np.abs(found / slope - 1) <= 32 * np.finfo(dtype).eps * (1 + wide**2))[away])


def test_derivatives_of_elu_and_expm1_keep_their_digits_far_out():
    x = np.linspace(-60, -1e-3, 100)
    np.testing.assert_allclose(
        nm.grad(lambda x: nm.nn.elu(x, alpha=1.5).sum())(x), 1.5 * np.exp(x), rtol=4 * EPS
    )
    second = nm.hvp(lambda x: nm.nn.elu(x).sum(), (x,), (np.ones_like(x),))
    np.testing.assert_allclose(second, np.exp(x), rtol=4 * EPS)
    np.testing.assert_allclose(nm.grad(lambda x: np.expm1(x).sum())(x), np.exp(x), rtol=4 * EPS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_extreme_arguments_overflow_in_no_derivative(name, dtype):
    most = float(np.finfo(dtype).max)
    x = np.array(
        [-most / 8, -most / 4, -1e4, -90, -20, -3, -1e-30, 0, 1e-30, 3, 20, 90, 1e4, most / 2],
        dtype,
    )
    f = FUNCTIONS[name]
    if "sharp" in name or "cold" in name:  # there the value itself would be out of range
        x = x / 16
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = f(x)
        w = np.full(y.shape, 1 / 64, dtype)  # so that the sum does not overflow
        g = nm.grad(lambda x: np.sum(w * f(x)))(x)
        h = nm.hvp(lambda x: np.sum(w * f(x)), (x,), (np.ones_like(x),))
    for found in (y, g, h):
        assert found.dtype == dtype
        assert np.isfinite(found).all()


# ------------------------------------------------------------------------------ derivatives

CLOSED = {  # value x and y -> derivative, by textbook formulas
    "relu": lambda x: (x > 0).astype(float),
    "leaky_relu": lambda x: np.where(x > 0, 1.0, 0.01),
    "sigmoid": lambda x: 1 / (2 + 2 * np.cosh(x)),
    "tanh": lambda x: np.cosh(x) ** -2.0,
    "softplus": lambda x: 1 / (1 + np.exp(-x)),
    "log_sigmoid": lambda x: 1 / (1 + np.exp(x)),
    "silu": lambda x: (1 + np.exp(-x) * (1 + x)) / (1 + np.exp(-x)) ** 2,
    "elu": lambda x: np.where(x > 0, 1.0, np.exp(x)),
    "gelu": lambda x: scipy.special.ndtr(x) + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, 1.0, 1.6732632423543772 * np.exp(x)),
    "relu6": lambda x: ((x > 0) & (x < 6)).astype(float),
    "hard_tanh": lambda x: (np.abs(x) < 1).astype(float),
    "hard_sigmoid": lambda x: (np.abs(x) < 3) / 6,
    "hard_swish": lambda x: np.where(x <= -3, 0.0, np.where(x >= 3, 1.0, x / 3 + 0.5)),
}


@pytest.mark.parametrize("name", CLOSED)
def test_elementwise_derivatives_have_their_closed_form(name):
    x = np.linspace(-8, 8, 161) + 0.013
    tol = 16 * EPS * (1 + np.abs(x).max())
    g = nm.grad(lambda x: FUNCTIONS[name](x).sum())(x)
    np.testing.assert_allclose(g, CLOSED[name](x), rtol=0, atol=tol)
    # entry by entry: the Jacobian is diagonal, and the chain rule multiplies by it entry by entry
    few = x[::40]
    jacobian = nm.jacrev(FUNCTIONS[name])(few)
    np.testing.assert_allclose(jacobian, np.diag(CLOSED[name](few)), rtol=0, atol=tol)


POINTS = [
    ("relu", 0.0, 0.0),
    ("relu6", 0.0, 0.0),
    ("relu6", 6.0, 0.0),
    ("leaky_relu", 0.0, 0.01),
    ("elu", 0.0, 1.0),
    ("selu", 0.0, 1.0507009873554805 * 1.6732632423543772),
    ("hard_tanh", 1.0, 0.0),
    ("hard_tanh", -1.0, 0.0),
    ("hard_sigmoid", 3.0, 0.0),
    ("hard_sigmoid", -3.0, 0.0),
    ("hard_swish", 3.0, 1.0),
    ("hard_swish", -3.0, 0.0),
    ("softplus", 0.0, 0.5),
    ("log_sigmoid", 0.0, 0.5),
    ("silu", 0.0, 0.5),
    ("mish", 0.0, 0.6),
    ("gelu", 0.0, 0.5),
]


@pytest.mark.parametrize(("name", "at", "want"), POINTS)
def test_derivative_at_a_special_point_is_the_documented_one(name, at, want):
    for x in (np.array(at), np.array(-at if at == 0.0 else at)):
        assert abs(nm.grad(FUNCTIONS[name])(x) - want) <= 4 * EPS
        assert abs(nm.jvp(FUNCTIONS[name], (x,), (np.ones(()),))[1] - want) <= 4 * EPS


def test_elu_with_another_alpha_has_the_left_derivative_at_zero():
    assert nm.grad(lambda x: nm.nn.elu(x, alpha=0.5))(0.0) == 0.5
    assert nm.grad(nm.grad(lambda x: nm.nn.elu(x, alpha=0.5)))(0.0) == 0.5


@pytest.mark.parametrize("name", FUNCTIONS)
def test_activation_is_right_to_second_order_in_every_way(name, rng):
    f = FUNCTIONS[name]
    x = rng.uniform(0.1, 2.6, (2, 8)) * rng.choice([-1.0, 1.0], (2, 8))
    x = np.where(np.abs(np.abs(x) - 1.0) < 0.05, 0.5, x)  # away from the kinks
    w = rng.standard_normal(f(x).shape)
    nm.check_grads(lambda x: np.sum(w * f(x)), (x,), order=2)
    tol = 16 * EPS * (1 + np.abs(f(x)))
    assert np.all(np.abs(nm.stage(f, x)(x) - f(x)) <= tol)
    assert np.all(np.abs(nm.vmap(f)(x) - f(x)) <= tol)
    v = rng.standard_normal(x.shape)
    tangent = nm.jvp(f, (x,), (v,))[1]
    assert np.all(
        np.abs(f(x + 1e-30j * v).imag / 1e-30 - tangent) <= 64 * EPS * (1 + np.abs(tangent))
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ENTRYWISE)
def test_activation_keeps_dtype_shape_and_nan(name, dtype, rng):
    f = FUNCTIONS[name]
    for shape in [(), (0,), (2, 3), (4, 1, 2)]:
        x = rng.standard_normal(shape).astype(dtype)
        y, g = f(x), nm.grad(lambda x: f(x).sum())(x)
        assert (y.dtype, y.shape, g.dtype, g.shape) == (dtype, shape, dtype, shape)
        wide = f(x.astype(np.float64))
        assert np.all(np.abs(y - wide) <= 32 * np.finfo(dtype).eps * (1 + np.abs(wide)))
    assert np.isnan(f(np.array([np.nan], dtype))).all()


# ------------------------------------------------------------------------------ what each is for


def test_selu_keeps_mean_and_variance_of_normal_numbers():
    # Gauss-Legendre on either side of the kink: exact to rounding for these analytic pieces
    nodes, w = np.polynomial.legendre.leggauss(120)
    moments = np.zeros(2)
    for low, high in [(-14.0, 0.0), (0.0, 14.0)]:
        z = 0.5 * (high - low) * nodes + 0.5 * (high + low)
        density = 0.5 * (high - low) * w * np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
        y = nm.nn.selu(z)
        moments += [density @ y, density @ y**2]
    # the weights of 120 nodes are right up to 120 roundings
    assert abs(moments[0]) <= 120 * EPS
    assert abs(moments[1] - 1.0) <= 120 * EPS


def test_learnt_slope_of_a_leaky_rectifier_is_differentiated(rng):
    x = rng.standard_normal((5, 3))
    slope = np.array([0.1, 0.2, 0.3])
    g = nm.grad(lambda a: nm.nn.leaky_relu(x, negative_slope=a).sum())(slope)
    np.testing.assert_allclose(g, np.minimum(x, 0).sum(axis=0), rtol=8 * EPS)
    nm.check_grads(
        lambda x, a: np.sum(nm.nn.leaky_relu(x, negative_slope=a) ** 2), (x, slope), order=2
    )


def test_softplus_with_growing_sharpness_is_the_rectifier(rng):
    x = rng.standard_normal(50)
    for beta in (1.0, 10.0, 1e4):
        gap = np.abs(nm.nn.softplus(x, beta=beta) - nm.nn.relu(x))
        assert np.max(gap) <= math.log(2) / beta
    # PyTorch's threshold would be off here
    assert nm.nn.softplus(np.array(21.0)) > 21.0


def test_temperature_moves_softmax_between_maximum_and_uniform(rng):
    x = rng.standard_normal((3, 5))
    np.testing.assert_allclose(
        nm.nn.softmax(x, temperature=2.0), scipy.special.softmax(x / 2, axis=-1), rtol=8 * EPS
    )
    cold = nm.nn.softmax(x, temperature=1e-300)
    assert np.array_equal(cold, np.eye(5)[x.argmax(axis=-1)])
    np.testing.assert_allclose(nm.nn.softmax(x, temperature=1e300), 0.2, rtol=4 * EPS)
    entropies = []
    for t in np.geomspace(0.01, 100, 40):
        p = nm.nn.softmax(x, temperature=t)
        assert np.all(np.abs(p.sum(axis=-1) - 1) <= 8 * EPS)
        assert np.array_equal(p.argmax(axis=-1), x.argmax(axis=-1))
        entropies.append(scipy.special.entr(p).sum(axis=-1))
    assert np.all(np.diff(entropies, axis=0) > -16 * EPS)
    assert np.all(entropies[0] < 1e-3)
    assert np.all(np.abs(entropies[-1] - math.log(5)) < 1e-3)


def test_derivative_in_the_temperature_is_a_covariance(rng):
    # d p_i / dT = p_i (E x - x_i) / T^2
    x = rng.standard_normal(5)
    t = np.array(1.7)
    p = nm.nn.softmax(x, temperature=t)
    found = nm.jacrev(lambda t: nm.nn.softmax(x, temperature=t))(t)
    np.testing.assert_allclose(found, p * (p @ x - x) / t**2, rtol=0, atol=8 * EPS)
    # of the Boltzmann distribution of energies -x: the entropy grows by the heat capacity over T, Var x / T^3
    growth = nm.grad(
        lambda t: -np.sum(nm.nn.softmax(x, temperature=t) * nm.nn.log_softmax(x, temperature=t))
    )(t)
    assert abs(growth - (p @ x**2 - (p @ x) ** 2) / t**3) <= 16 * EPS
    jacobian = nm.jacrev(lambda x: nm.nn.softmax(x, temperature=t))(x)
    np.testing.assert_allclose(jacobian, (np.diag(p) - np.outer(p, p)) / t, rtol=0, atol=8 * EPS)
    nm.check_grads(lambda x, t: nm.nn.log_softmax(x, temperature=t)[0], (x, t), order=2)


def test_large_scores_and_excluded_classes_of_softmax():
    x = np.array([1e308, 1e308 - 2e292, -np.inf, -1e308])
    with np.errstate(over="ignore"):
        p = nm.nn.softmax(x, temperature=0.5)
    assert np.isfinite(p).all()
    assert p[2] == 0.0
    assert abs(p.sum() - 1) <= 4 * EPS
    near = np.array([1e6, 1e6 + 1.0])
    want = np.array([-math.log1p(math.e), -math.log1p(math.exp(-1))])
    np.testing.assert_allclose(
        nm.nn.log_softmax(near), want, rtol=4 * EPS
    )  # the digits of 1e6 are not lost
    assert nm.nn.softmax(np.zeros((0, 3))).shape == (0, 3)


def test_glu_is_values_times_the_sigmoid_of_gates(rng):
    x = rng.standard_normal((4, 6, 2))
    for axis in (0, 1, -1):
        a, b = np.split(x, 2, axis)
        np.testing.assert_allclose(nm.nn.glu(x, axis=axis), a / (1 + np.exp(-b)), rtol=8 * EPS)


@pytest.mark.parametrize("name", NAMES)
def test_models_with_the_activation_save_and_load(name, tmp_path):
    f = getattr(nm.nn, name)
    sizes = (3, 4) if name == "glu" else (3, 4, 2)
    model = nm.nn.MLP.init(sizes, activation=f, rng=0)
    sequence = nm.nn.Sequential([*model.layers, f])
    nm.save(tmp_path / "model.npz", (model, sequence))
    again, other = nm.load(tmp_path / "model.npz")
    assert again.activation is f
    x = np.ones((2, 3))
    np.testing.assert_array_equal(again(x), model(x))
    np.testing.assert_array_equal(other(x), sequence(x))


X = np.zeros((2, 3))
BAD = [
    *((lambda name=name: getattr(nm.nn, name)([1.0, 2.0]), DtypeError, f"^{name}: `x` must be") for name in NAMES),
    *((lambda name=name: getattr(nm.nn, name)(np.arange(4)), DtypeError, f"^{name}: `x` must be") for name in NAMES),
    (lambda: nm.nn.leaky_relu(X, negative_slope=np.nan), DomainError, "`negative_slope` must be a finite number"),
    (lambda: nm.nn.leaky_relu(X, negative_slope="a"), DtypeError, "`negative_slope`"),
    (lambda: nm.nn.leaky_relu(X, negative_slope=np.ones(2)), ShapeError, r"broadcasts to that of `x`, \(2, 3\)"),
    (lambda: nm.nn.leaky_relu(X, negative_slope=np.ones(3, np.float32)), DtypeError, "float64 as `x` is"),
    (lambda: nm.nn.elu(X, alpha=np.inf), DomainError, "`alpha` must be a finite number"),
    (lambda: nm.nn.softplus(X, beta=0.0), DomainError, "`beta` must be positive and finite"),
    (lambda: nm.nn.softplus(X, beta=-1.0), DomainError, "`beta` must be positive"),
    (lambda: nm.nn.hard_tanh(X, min_val=1.0, max_val=1.0), DomainError, "`min_val` must be below `max_val` = 1"),
    (lambda: nm.nn.softmax(X, temperature=0.0), DomainError, "`temperature` must be positive and finite"),
    (lambda: nm.nn.softmax(X, temperature=-2.0), DomainError, "`temperature` must be positive"),
    (lambda: nm.nn.log_softmax(X, temperature=np.inf), DomainError, "`temperature` must be positive and finite"),
    (lambda: nm.nn.softmax(X, temperature=np.ones(3)), ShapeError, "`temperature`"),
    (lambda: nm.nn.softmax(X, axis=2), DomainError, "`axis` must be one of the 2 axes of `x`, got 2"),
    (lambda: nm.nn.softmax(X, axis=0.5), DtypeError, "`axis` must be an integer"),
    (lambda: nm.nn.softmax(np.zeros((2, 0))), ShapeError, "entries along `axis`"),
    (lambda: nm.nn.softmax(np.float64(1.0)), DomainError, "one of the 0 axes"),
    (lambda: nm.nn.glu(X), ShapeError, r"of even length along axis 1, values and gates, got \(2, 3\)"),
    (lambda: nm.nn.glu(X, axis=5), DomainError, "`axis`"),
]  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=range(len(BAD)))
def test_bad_input_is_one_clear_error(case):
    call, error, words = case
    with pytest.raises(error, match=words):
        call()
