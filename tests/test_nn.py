"""Layers, activations, losses and initialisers: values, derivatives, dtypes and complaints."""

import json
import math
from pathlib import Path

import numpy as np
import pandas
import pytest
import scipy.special
from reference import dense_torch
from reference.parity import compare, direction, weights

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError, ShapeError

DTYPES = [np.float32, np.float64]
EPS = np.finfo(np.float64).eps
STORED = json.loads((Path(__file__).parent / "reference" / "nn_torch.json").read_text())
LOSSES = ["classes", "rows", "binary", "squared"]


@pytest.fixture
def rng():
    return np.random.default_rng(20261122)


def problem(loss, rng, n=5, k=4, dtype=np.float64):
    """Return a loss of one number per example, its prediction, and what that is compared with."""
    z = (3 * rng.standard_normal((n, k))).astype(dtype)
    if loss == "classes":
        return nm.nn.softmax_cross_entropy, z, rng.integers(0, k, n)
    if loss == "rows":
        p = scipy.special.softmax(rng.standard_normal((n, k)), axis=-1)
        p = p.astype(dtype)
        return nm.nn.softmax_cross_entropy, z, p / p.sum(axis=-1, keepdims=True)
    if loss == "binary":
        return nm.nn.binary_cross_entropy, z, rng.uniform(0, 1, (n, k)).astype(dtype)
    return nm.nn.mean_squared_error, z, rng.standard_normal((n, k)).astype(dtype)


def central_difference(f, x):
    """Gradient of a scalar function in float64, entry by entry."""
    h = EPS ** (1 / 3)
    g = np.empty_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += h
        down[i] -= h
        g[i] = (f(up) - f(down)) / (up[i] - down[i])
    return g


def assert_close(got, want, tol):
    assert got.shape == want.shape
    assert np.all(np.abs(got - want) <= tol), np.max(np.abs(got - want) / tol)


# ------------------------------------------------------------------------------ activations

ACTIVATIONS = {
    "relu": nm.nn.relu,
    "tanh": nm.nn.tanh,
    "gelu": nm.nn.gelu,
    "gelu, approximate": lambda x: nm.nn.gelu(x, approximate=True),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_agrees_with_pytorch(name):
    case = STORED["cases"][name]
    x = np.array(case["arguments"][0])
    weights = np.arange(1.0, x.size + 1)
    value = np.array([float.fromhex(v) for v in case["value"]])
    gradient = np.array([float.fromhex(v) for v in case["gradient"]])
    # a handful of roundings of numbers of the size of x, and the error functions' own
    assert_close(ACTIVATIONS[name](x), value, 8 * EPS * (1 + np.abs(x)))
    found = nm.grad(lambda x: np.sum(weights * ACTIVATIONS[name](x)))(x)
    assert_close(found, gradient, 8 * EPS * weights * (1 + np.abs(x)) ** 2)


def test_gelu_is_the_argument_times_its_normal_probability(rng):
    x = np.concatenate([rng.uniform(-6, 6, 200), [0.0, -40.0, 40.0]])
    want = x * scipy.special.ndtr(x)  # by erfc in the tail: no cancellation
    assert_close(nm.nn.gelu(x), want, 2 * EPS * np.abs(x))
    assert nm.nn.gelu(np.array([-1e4, 1e4])).tolist() == [0.0, 1e4]


def test_approximate_gelu_is_within_its_stated_distance():
    x = np.linspace(-6, 6, 4001)
    distance = np.abs(nm.nn.gelu(x, approximate=True) - nm.nn.gelu(x)).max()
    assert 4e-4 < distance < 5e-4


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_derivatives_match_differences(name, rng):
    f = ACTIVATIONS[name]
    x = rng.uniform(0.1, 3, 12) * rng.choice([-1.0, 1.0], 12)
    weights = rng.standard_normal(12)
    # The error of a central difference is h^2 f''' / 6 + eps |f| / h, with h = eps^(1/3).
    tol = 20 * EPS ** (2 / 3)

    def total(x):
        return np.sum(weights * f(x))

    g = nm.grad(total)(x)
    assert_close(g, central_difference(total, x), tol)
    v = rng.standard_normal(12)
    value, tangent = nm.jvp(total, (x,), (v,))
    assert abs(value - total(x)) <= 64 * EPS
    assert abs(tangent - g @ v) <= 64 * EPS
    along = central_difference(lambda x: nm.grad(total)(x) @ v, x)
    assert_close(nm.hvp(total, (x,), (v,)), along, tol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_keeps_dtype_and_shape_everywhere(name, dtype, rng):
    f = ACTIVATIONS[name]
    for shape in [(), (0,), (2, 3), (4, 1, 2)]:
        x = rng.standard_normal(shape).astype(dtype)
        y = f(x)
        assert (y.dtype, y.shape) == (dtype, shape)
        g = nm.grad(lambda x: f(x).sum())(x)
        assert (g.dtype, g.shape) == (dtype, shape)
        tol = 8 * np.finfo(dtype).eps * (1 + np.abs(x))  # NumPy's loops differ with the layout
        mapped = nm.vmap(f)(np.stack([x, x]))
        assert mapped.dtype == dtype
        assert_close(mapped, np.stack([y, y]), tol)
        assert_close(nm.stage(f, x)(x), y, tol)


def test_rectifier_passes_nan_and_has_derivative_zero_at_zero():
    x = np.array([-1.0, 0.0, 2.0, np.nan])
    assert np.array_equal(nm.nn.relu(x), [0.0, 0.0, 2.0, np.nan], equal_nan=True)
    assert nm.grad(lambda x: nm.nn.relu(x).sum())(x[:3]).tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_complex_step_differentiates_an_activation(name):
    x, h = np.array([-1.25, 0.5, 2.0]), 1e-30
    g = nm.grad(lambda x: ACTIVATIONS[name](x).sum())(x)
    assert_close(ACTIVATIONS[name](x + 1j * h).imag / h, g, 8 * EPS * (1 + np.abs(g)))


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu"])
def test_activation_refuses_what_is_no_array_of_floats(name):
    f = getattr(nm.nn, name)
    words = rf"^{name}: `x` must be a float32 or float64 array, got "
    with pytest.raises(DtypeError, match=words + r"a list\. Convert it: `numpy\.asarray"):
        f([1.0, 2.0])
    with pytest.raises(DtypeError, match=words + r"int64 array of shape \(3,\)\. Convert it"):
        f(np.arange(3))
    with pytest.raises(DtypeError, match=words + "float16 array"):
        f(np.zeros(3, np.float16))
    with pytest.raises(DtypeError, match=words + r"masked float64 array .* `x\.filled"):
        f(np.ma.masked_array(np.zeros(2), [True, False]))
    with pytest.raises(DtypeError, match=words + ">f8 array .*byte order is foreign"):
        f(np.zeros(2, ">f8"))
    assert f(pandas.Series([1.0, -1.0])).shape == (2,)
    assert f(0.0) == 0.0


# ------------------------------------------------------------------------------ losses


def stored_loss(name):
    case = STORED["cases"][name]
    arguments = [np.array(x) for x in case["arguments"]]
    if name == "softmax_cross_entropy, classes":
        arguments.append(np.array(STORED["classes"]))
    value = np.array([float.fromhex(v) for v in case["value"]])
    gradient = np.array([float.fromhex(v) for v in case["gradient"]])
    return getattr(nm.nn, name.split(",")[0]), arguments, value, gradient


@pytest.mark.parametrize(
    "name",
    [name for name in STORED["cases"] if name not in {"relu", "tanh"} and "gelu" not in name],
)
def test_loss_agrees_with_pytorch(name):
    f, (z, target), value, gradient = stored_loss(name)
    weights = np.arange(1.0, value.size + 1)
    # PyTorch subtracts logits of about 10 from each other: their rounding, in a few operations
    tol = 16 * EPS * (1 + np.abs(z).max())
    assert_close(f(z, target).ravel(), value, tol)
    found = nm.grad(lambda z: np.sum(weights * f(z, target).ravel()))(z)
    assert_close(found.ravel(), gradient, tol * weights.max())


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_gradients_have_their_closed_form(loss, rng):
    f, z, target = problem(loss, rng)
    g = nm.grad(lambda z: f(z, target).sum())(z)
    s = scipy.special.softmax(z, axis=-1)
    want = {
        "classes": lambda: s - np.eye(4)[target],
        "rows": lambda: s - target,
        "binary": lambda: scipy.special.expit(z) - target,
        "squared": lambda: 2 * (z - target) / 4,
    }[loss]()
    assert_close(g, want, 16 * EPS * (1 + np.abs(z)))


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_hessians_have_their_closed_form(loss, rng):
    f, z, target = problem(loss, rng, n=1)
    h = nm.hessian(lambda z: f(z, target).sum())(z).reshape(4, 4)
    s = scipy.special.softmax(z[0])
    if loss in ("classes", "rows"):
        want = np.diag(s) - np.outer(s, s)
    elif loss == "binary":
        want = np.diag(scipy.special.expit(z[0]) * scipy.special.expit(-z[0]))
    else:
        want = 2 * np.eye(4) / 4
    assert_close(h, want, 32 * EPS * (1 + np.abs(z).max()))


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_derivatives_match_differences(loss, rng):
    f, z, target = problem(loss, rng)
    weights = rng.standard_normal(f(z, target).shape)

    def total(z):
        return np.sum(weights * f(z, target))

    tol = 20 * EPS ** (2 / 3) * (1 + np.abs(z).max())
    g = nm.grad(total)(z)
    assert_close(g, central_difference(total, z), tol)
    v = rng.standard_normal(z.shape)
    value, tangent = nm.jvp(total, (z,), (v,))
    assert abs(value - total(z)) <= 64 * EPS * (1 + np.abs(z).max())
    assert abs(tangent - np.vdot(g, v)) <= 64 * EPS * np.sum(np.abs(g * v))
    along = central_difference(lambda z: np.vdot(nm.grad(total)(z), v), z)
    assert_close(nm.hvp(total, (z,), (v,)), along, tol)


@pytest.mark.parametrize("loss", ["rows", "binary", "squared"])
def test_loss_differentiates_in_its_targets(loss, rng):
    f, z, target = problem(loss, rng)
    got = nm.grad(lambda t: f(z, t).sum())(target)
    want = {
        "rows": lambda: -scipy.special.log_softmax(z, axis=-1),
        "binary": lambda: -z,
        "squared": lambda: -2 * (z - target) / 4,
    }[loss]()
    assert_close(got, want, 32 * EPS * (1 + np.abs(z).max()))


def exact_cross_entropy(z, y):
    """Loss and gradient in long double; the one term that cancels is left out of the sum."""
    z = z.astype(np.longdouble)
    n = np.arange(len(z))
    d = z - z[n, y][:, None]
    e = np.exp(d)
    e[n, y] = 0
    others = e.sum(axis=1)
    g = e / (1 + others)[:, None]
    g[n, y] = -others / (1 + others)
    return np.log1p(others), g


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_of_classes_is_accurate_however_small(dtype, rng):
    n, k = 400, 5
    z = rng.standard_normal((n, k)).astype(dtype)
    y = rng.integers(0, k, n)
    z[np.arange(n), y] += rng.uniform(-30, 60, n).astype(dtype)
    value, gradient = exact_cross_entropy(z, y)
    assert value.min() < 1e-25
    # A difference of logits of size d is rounded to eps d, which is a relative error of its
    # exponential; the sum over k classes and the logarithm add a few more.
    spread = np.ptp(z, axis=1)
    tol = np.finfo(dtype).eps * (k + 2 * spread)
    got = nm.nn.softmax_cross_entropy(z, y)
    assert np.all(np.abs(got - value) <= tol * value)
    g = nm.grad(lambda z: nm.nn.softmax_cross_entropy(z, y).sum())(z)
    tiny = np.finfo(dtype).tiny
    assert np.all(np.abs(g - gradient) <= tol[:, None] * np.abs(gradient) + tiny)


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy_is_accurate_however_small(dtype):
    z = np.concatenate([-np.geomspace(1e-3, 80, 60), [0.0], np.geomspace(1e-3, 80, 60)])
    z = z.astype(dtype)
    exact = z.astype(np.longdouble)
    tol = 4 * np.finfo(dtype).eps * (1 + np.abs(z))
    for target, sign in [(0, 1), (1, -1)]:
        t = np.full(z.shape, target)
        value = np.log1p(np.exp(-np.abs(exact))) + np.maximum(sign * exact, 0)
        got = nm.nn.binary_cross_entropy(z, t)
        assert got.dtype == dtype
        assert np.all(np.abs(got - value) <= tol * value)
        g = nm.grad(lambda z, t=t: nm.nn.binary_cross_entropy(z, t).sum())(z)
        slope = sign / (1 + np.exp(-sign * exact))
        assert np.all(np.abs(g - slope) <= tol * np.abs(slope))


def test_second_derivative_of_binary_cross_entropy_at_zero_is_a_quarter():
    z = np.zeros(3)
    h = nm.hvp(lambda z: nm.nn.binary_cross_entropy(z, np.ones(3)).sum(), (z,), (np.ones(3),))
    assert h.tolist() == [0.25, 0.25, 0.25]


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_logits_have_finite_losses_and_derivatives(dtype):
    z = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [1e4, 1e4, 1e4]], dtype)
    y = np.array([1, 1, 2])
    rows = np.eye(3, dtype=dtype)[y]
    want = np.array([2e4, 0.0, math.log(3)])
    f = nm.nn.softmax_cross_entropy
    for target in (y, rows):
        assert_close(f(z, target), want, 4 * np.finfo(dtype).eps * (1 + want))
        g = nm.grad(lambda z, t=target: f(z, t).sum())(z)
        assert g[:2].tolist() == [[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]]
        h = nm.hvp(lambda z, t=target: f(z, t).sum(), (z,), (np.ones_like(z),))
        assert np.all(np.isfinite(h))
    flat = z[:2].ravel()
    t = np.array([1, 0, 1, 1, 0, 1])
    b = nm.nn.binary_cross_entropy
    log_two = float(dtype(math.log(2)))
    assert b(flat, t).tolist() == [0.0, 0.0, log_two, 1e4, 1e4, log_two]
    g = nm.grad(lambda z: b(z, t).sum())(flat)
    assert g.tolist() == [0.0, 0.0, -0.5, -1.0, 1.0, -0.5]
    assert np.all(np.isfinite(nm.hvp(lambda z: b(z, t).sum(), (flat,), (np.ones_like(flat),))))


def test_excluded_classes_take_no_part(rng):
    z = rng.standard_normal((3, 4))
    masked = z.copy()
    masked[:, 3] = -np.inf
    y = np.array([0, 1, 2])
    f = nm.nn.softmax_cross_entropy
    tol = 8 * EPS * (1 + np.abs(z).max())
    for target, kept in [(y, y), (np.eye(4)[y], np.eye(3)[y])]:
        assert_close(f(masked, target), f(z[:, :3], kept), tol)
        g = nm.grad(lambda z, t=target: f(z, t).sum())(masked)
        assert_close(g[:, :3], nm.grad(lambda z, t=kept: f(z, t).sum())(z[:, :3]), tol)
        assert g[:, 3].tolist() == [0.0, 0.0, 0.0]
    assert f(masked, np.array([3, 3, 3])).tolist() == [np.inf] * 3


def test_cross_entropy_of_one_class_is_zero():
    z = np.array([[3.0], [-2.0]])
    assert nm.nn.softmax_cross_entropy(z, np.array([0, 0])).tolist() == [0.0, 0.0]
    assert nm.grad(lambda z: nm.nn.softmax_cross_entropy(z, np.array([0, 0])).sum())(
        z
    ).tolist() == [
        [0.0],
        [0.0],
    ]


def test_class_numbers_and_one_hot_rows_are_the_same(rng):
    z = rng.standard_normal((2, 3, 5))
    y = rng.integers(0, 5, (2, 3))
    f = nm.nn.softmax_cross_entropy
    tol = 8 * EPS * (1 + np.abs(z).max())
    assert f(z, y).shape == (2, 3)
    assert_close(f(z, y), f(z, np.eye(5)[y]), tol)
    for kind in (np.int8, np.uint8, np.int32, np.uint64):
        assert np.array_equal(f(z, y.astype(kind)), f(z, y))
    assert f(z[0, 0], int(y[0, 0])) == f(z, y)[0, 0]
    assert np.array_equal(f(z[0], pandas.Series(y[0])), f(z, y)[0])


@pytest.mark.parametrize("loss", LOSSES)
def test_reduction_is_over_the_examples(loss, rng):
    f, z, target = problem(loss, rng)
    each = f(z, target)
    assert each.shape == ((5, 4) if loss == "binary" else (5,))
    assert np.array_equal(f(z, target, reduction="none"), each)
    tol = EPS * each.size * np.abs(each).max()
    assert abs(f(z, target, reduction="sum") - each.sum()) <= each.size * tol
    assert abs(f(z, target, reduction="mean") - each.mean()) <= tol


def test_squared_error_averages_over_all_axes_but_the_first(rng):
    a, b = rng.standard_normal((2, 3, 4, 5))
    f = nm.nn.mean_squared_error
    assert_close(f(a, b), np.mean((a - b) ** 2, axis=(1, 2)), 32 * EPS * np.ones(3))
    assert abs(f(a, b, reduction="mean") - np.mean((a - b) ** 2)) <= 64 * EPS
    assert np.array_equal(f(a[0, 0], b[0, 0]), (a[0, 0] - b[0, 0]) ** 2)
    assert f(2.0, 0.5) == 2.25
    mapped = nm.vmap(lambda a, b: f(a, b, reduction="mean"))(a, b)
    assert_close(mapped, f(a, b), 32 * EPS * np.ones(3))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_keeps_the_dtype(loss, dtype, rng):
    f, z, target = problem(loss, rng, dtype=dtype)
    for reduction in ("none", "sum", "mean"):

        def reduced(z, reduction=reduction):
            return f(z, target, reduction=reduction)

        assert reduced(z).dtype == dtype
        assert nm.grad(lambda z, r=reduced: r(z).sum())(z).dtype == dtype
        assert nm.jvp(reduced, (z,), (z,))[1].dtype == dtype
        assert nm.hvp(lambda z, r=reduced: r(z).sum(), (z,), (z,)).dtype == dtype
        program = nm.stage(reduced, z)
        assert program(z).dtype == dtype


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_maps_and_stages(loss, rng):
    f, z, target = problem(loss, rng)
    each = f(z, target)
    tol = 8 * EPS * (1 + np.abs(each))
    mapped = nm.vmap(lambda z, t: f(z[None], t[None])[0])(z, target)
    assert_close(mapped, each, tol)
    program = nm.stage(f, z, target)
    assert_close(program(z, target), each, tol)
    g = nm.grad(lambda z: f(z, target).sum())(z)
    per_example = nm.vmap(nm.grad(lambda z, t: f(z[None], t[None]).sum()))(z, target)
    assert_close(per_example, g, 16 * EPS * (1 + np.abs(z)))
    staged = nm.stage(nm.grad(lambda z, t: f(z, t).sum()), z, target)
    assert_close(staged(z, target), g, 16 * EPS * (1 + np.abs(z)))


def test_labels_that_are_wrong_give_nan_when_staged(rng):
    z = rng.standard_normal((4, 3))
    f = nm.nn.softmax_cross_entropy
    y = np.array([0, 1, 2, 0])
    got = nm.stage(f, z, y)(z, np.array([0, 3, -1, 2]))
    assert np.isnan(got).tolist() == [False, True, True, False]
    rows = np.eye(3)[y]
    wrong = rows.copy()
    wrong[0] *= 1.5
    wrong[2, :2] = [-0.5, 0.5]
    got = nm.stage(f, z, rows)(z, wrong)
    assert np.isnan(got).tolist() == [True, False, True, False]
    b = nm.nn.binary_cross_entropy
    got = nm.stage(b, z[0], rows[0])(z[0], np.array([0.5, 1.5, np.nan]))
    assert np.isnan(got).tolist() == [False, True, True]


def test_cross_entropy_refuses_labels_out_of_range():
    z = np.zeros((4, 3))
    words = r"softmax_cross_entropy: `labels` must be integers in \[0, 3\), got "
    with pytest.raises(DomainError, match=words + r"3 at index 2\. Logits have a column"):
        nm.nn.softmax_cross_entropy(z, np.array([0, 1, 3, -1]))
    with pytest.raises(DomainError, match=words + r"-1 at index \(0, 1\)\."):
        nm.nn.softmax_cross_entropy(z.reshape(2, 2, 3), np.array([[0, -1], [5, 0]]))
    with pytest.raises(DomainError, match=words + "7 at index 1"):
        nm.vmap(nm.nn.softmax_cross_entropy)(z, np.array([0, 7, 0, 0]))
    with pytest.raises(DomainError, match=words + "9 at index 3"):
        nm.grad(lambda z: nm.nn.softmax_cross_entropy(z, np.array([0, 0, 0, 9])).sum())(z)


def test_cross_entropy_refuses_rows_that_are_no_probabilities():
    z = np.zeros((2, 2))
    who = "softmax_cross_entropy: the rows of `labels` must "
    with pytest.raises(DomainError, match=who + r"be probabilities, got -0\.5 at index \(1, 0\)"):
        nm.nn.softmax_cross_entropy(z, np.array([[1.0, 0.0], [-0.5, 1.5]]))
    with pytest.raises(DomainError, match=who + r"be probabilities, got nan at index \(0, 1\)"):
        nm.nn.softmax_cross_entropy(z, np.array([[1.0, np.nan], [0.0, 1.0]]))
    with pytest.raises(DomainError, match=who + r"sum to 1 within 1\.8e-15, got 2\.0 at index 1"):
        nm.nn.softmax_cross_entropy(z, np.array([[1.0, 0.0], [1.0, 1.0]]))


def test_binary_cross_entropy_refuses_targets_outside_the_unit_interval():
    who = r"binary_cross_entropy: `targets` must be in \[0, 1\], got "
    with pytest.raises(DomainError, match=who + r"1\.5 at index 1\. They are the probabilities"):
        nm.nn.binary_cross_entropy(np.zeros(3), np.array([0.0, 1.5, -1.0]))
    with pytest.raises(DomainError, match=who + "-1 at index 0"):
        nm.nn.binary_cross_entropy(np.zeros(2), np.array([-1, 1]))


def test_loss_refuses_targets_that_do_not_fit():
    z = np.zeros((4, 3))
    f, b, m = nm.nn.softmax_cross_entropy, nm.nn.binary_cross_entropy, nm.nn.mean_squared_error
    labels = r"^softmax_cross_entropy: `labels` must be of shape "
    with pytest.raises(ShapeError, match=labels + r"\(4,\), got \(4, 3\)\. .*one-hot rows are fl"):
        f(z, np.eye(3, dtype=int)[[0, 1, 2, 0]])
    with pytest.raises(ShapeError, match=labels + r"\(4, 3\), got \(4,\)\. Class numbers are int"):
        f(z, np.zeros(4))
    with pytest.raises(ShapeError, match=r"`logits` must be of shape \(\.\.\., k\), a column"):
        f(np.zeros((4, 0)), np.zeros(4, int))
    with pytest.raises(ShapeError, match=r"`logits` must be of shape \(\.\.\., k\).*got \(\)\."):
        f(1.0, 0)
    with pytest.raises(
        ShapeError, match=r"^binary_cross_entropy: `targets` .*Nothing is broadcast"
    ):
        b(np.zeros((4, 1)), np.zeros(4))
    with pytest.raises(ShapeError, match=r"`target` must be of shape \(4, 1\), got \(4,\)\. Noth"):
        m(np.zeros((4, 1)), np.zeros(4))
    with pytest.raises(DtypeError, match=r"`labels` must be an array, got a list\. Convert it"):
        f(z, [0, 1, 2, 0])
    with pytest.raises(
        DtypeError, match=r"`labels` must be an array of integers, .*got bool .*astype\(int\)"
    ):
        f(z, np.ones(4, bool))
    with pytest.raises(ShapeError, match=r"Class numbers are integers: `labels\.astype\(int\)`"):
        f(z.astype(np.float32), np.zeros(4))  # of another dtype, too: that is not what is wrong
    pair = nm.nn.BatchNorm.init(3).train(np.eye(3))
    with pytest.raises(DtypeError, match=r"got a tuple\. `train` returns a pair, .*`y, layer = "):
        f(pair, np.array([0, 1, 2]))
    with pytest.raises(DtypeError, match=r"`labels` must be float64 as `logits` is, got float32"):
        f(z, np.eye(3, dtype=np.float32)[[0, 1, 2, 0]])
    with pytest.raises(DtypeError, match=r"`target` must be float32 as `prediction` is"):
        m(np.zeros(3, np.float32), np.zeros(3))
    with pytest.raises(DtypeError, match=r"`targets` must be float64 as `logits` is"):
        b(np.zeros(3), np.zeros(3, np.float32))
    with pytest.raises(DtypeError, match=r"`logits` must be a float32 or float64 array, got comp"):
        f(z + 1j, np.zeros(4, int))


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_refuses_unknown_reductions_and_empty_means(loss, rng):
    f, z, target = problem(loss, rng)
    words = r"`reduction` must be one of 'none', 'sum', 'mean', got 'average'\."
    with pytest.raises(DomainError, match=words):
        f(z, target, reduction="average")
    with pytest.raises(DomainError, match="the mean over no examples is undefined"):
        f(z[:0], target[:0], reduction="mean")
    assert f(z[:0], target[:0]).shape[0] == 0
    assert f(z[:0], target[:0], reduction="sum") == 0
    if loss == "squared":
        with pytest.raises(DomainError, match=r"mean over no entries .* shape is \(5, 0\)"):
            f(z[:, :0], target[:, :0])


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_takes_any_layout_and_changes_no_input(loss, rng):
    f, z, target = problem(loss, rng, n=6)
    want = f(z, target)
    strided = np.asfortranarray(np.repeat(z, 2, axis=0))[::-2][::-1]
    z.flags.writeable = target.flags.writeable = False
    assert np.array_equal(f(strided, target), want)
    assert np.array_equal(f(z, target), want)


# ------------------------------------------------------------------------------ initialisers

INITIALISERS = {
    "glorot_uniform": lambda i, o: 2 / (i + o),
    "glorot_normal": lambda i, o: 2 / (i + o),
    "he_uniform": lambda i, o: 2 / i,
    "he_normal": lambda i, o: 2 / i,
}


@pytest.mark.parametrize("name", INITIALISERS)
def test_initialiser_has_mean_zero_and_its_variance(name):
    fan_in, fan_out = 256, 128
    w = getattr(nm.nn, name)((fan_in, fan_out), rng=3)
    variance = INITIALISERS[name](fan_in, fan_out)
    n = w.size
    assert abs(w.mean()) <= 5 * math.sqrt(variance / n)  # five standard errors
    kurtosis = 3 if name.endswith("normal") else 9 / 5
    assert abs(np.mean(w**2) - variance) <= 5 * variance * math.sqrt((kurtosis - 1) / n)


def test_initialisers_have_their_published_numbers():
    w = nm.nn.glorot_uniform((256, 128), rng=0)  # fan 256, 128: the bound is 1/8 exactly
    assert 0.12499 < np.abs(w).max() <= 0.125
    draw = np.random.default_rng(0).standard_normal((256, 10))
    assert_close(nm.nn.he_normal((256, 10), rng=0), 0.08838834764831845 * draw, 4 * EPS * abs(draw))
    bound = np.abs(nm.nn.he_uniform((6, 5000), rng=0)).max()
    assert 0.999 < bound <= 1.0
    draw = np.random.default_rng(1).standard_normal((6, 2))
    assert_close(nm.nn.glorot_normal((6, 2), rng=1), 0.5 * draw, 4 * EPS * abs(draw))


def test_initialiser_counts_the_field_of_a_kernel():
    draw = np.random.default_rng(0).standard_normal((3, 3, 8, 2))
    w = nm.nn.he_normal((3, 3, 8, 2), rng=0)
    assert_close(w, math.sqrt(2 / 72) * draw, 4 * EPS * abs(draw))
    w = nm.nn.glorot_normal((3, 3, 8, 2), rng=0)
    assert_close(w, math.sqrt(2 / 90) * draw, 4 * EPS * abs(draw))


@pytest.mark.parametrize("name", INITIALISERS)
def test_initialiser_draws_the_same_numbers_in_both_dtypes(name):
    f = getattr(nm.nn, name)
    w = f((5, 4), rng=7)
    assert np.array_equal(f((5, 4), rng=7), w)
    assert not np.array_equal(f((5, 4), rng=8), w)
    single = f([5, 4], rng=np.random.default_rng(7), dtype="float32")
    assert np.array_equal(single, w.astype(np.float32))
    assert single.flags.writeable


@pytest.mark.parametrize("name", INITIALISERS)
def test_initialiser_refuses_what_is_no_shape(name):
    f = getattr(nm.nn, name)
    words = rf"^{name}: `shape` must be a tuple \(\.\.\., in, out\), got "
    with pytest.raises(ShapeError, match=words + r"\(3,\)\."):
        f((3,))
    with pytest.raises(ShapeError, match=words + "5"):
        f(5)
    with pytest.raises(
        DomainError, match=rf"^{name}: `shape\[1\]` must be a positive integer, got 0"
    ):
        f((3, 0))
    with pytest.raises(DtypeError, match=rf"^{name}: `shape\[0\]` must be a positive integer"):
        f((3.0, 2))
    with pytest.raises(
        DtypeError, match=rf"^{name}: `dtype` must be float32 or float64, got int64"
    ):
        f((3, 2), dtype=int)
    with pytest.raises(DtypeError, match=rf"^{name}: `dtype` must be float32 or float64, got None"):
        f((3, 2), dtype=None)
    with pytest.raises(DomainError, match=rf"^{name}: `rng` must be None, an integer >= 0"):
        f((3, 2), rng=-1)


# ------------------------------------------------------------------------------ layers


def test_dense_is_an_affine_map_of_rows(rng):
    layer = nm.nn.Dense(rng.standard_normal((3, 2)), rng.standard_normal(2))
    x = rng.standard_normal((4, 3))
    want = np.einsum("ni,io->no", x, layer.weight) + layer.bias
    assert_close(layer(x), want, 8 * EPS * (np.abs(x) @ np.abs(layer.weight) + np.abs(layer.bias)))
    assert layer(x[0]).shape == (2,)
    assert layer(x.reshape(2, 2, 3)).shape == (2, 2, 2)
    assert layer(x[:0]).shape == (0, 2)
    plain = nm.nn.Dense(layer.weight, None)
    assert np.array_equal(plain(x) + layer.bias, layer(x))
    assert nm.tree_paths(plain) == [".weight"]


def test_dense_init_draws_the_weight_and_starts_the_bias_at_zero():
    layer = nm.nn.Dense.init((4, 3), rng=5)
    assert np.array_equal(layer.weight, nm.nn.he_normal((4, 3), rng=5))
    assert layer.bias.tolist() == [0.0, 0.0, 0.0]
    layer = nm.nn.Dense.init((4, 3), init=nm.nn.glorot_uniform, bias=False, rng=5, dtype=np.float32)
    assert layer.bias is None
    assert np.array_equal(layer.weight, nm.nn.glorot_uniform((4, 3), rng=5, dtype=np.float32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_mlp_is_its_layers_with_activations_between(dtype, rng):
    model = nm.nn.MLP.init((3, 5, 4, 2), activation=np.tanh, rng=1, dtype=dtype)
    x = rng.standard_normal((6, 3)).astype(dtype)
    h = x
    for layer in model.layers[:-1]:
        h = np.tanh(h @ layer.weight + layer.bias)
    assert np.array_equal(model(x), h @ model.layers[-1].weight + model.layers[-1].bias)
    assert model(x).dtype == dtype
    assert [leaf.dtype for leaf in nm.tree_leaves(model)] == [dtype] * 6
    again = nm.nn.MLP.init((3, 5, 4, 2), activation=np.tanh, rng=1, dtype=dtype)
    for a, b in zip(nm.tree_leaves(model), nm.tree_leaves(again), strict=True):
        assert np.array_equal(a, b)
    linear = nm.nn.MLP.init([3, 2], rng=1, dtype=dtype)
    assert np.array_equal(linear(x), linear.layers[0](x))


def test_mlp_is_a_tree_whose_arrays_are_leaves():
    model = nm.nn.MLP.init((3, 4, 2), rng=0)
    assert nm.tree_paths(model) == [
        ".layers[0].weight",
        ".layers[0].bias",
        ".layers[1].weight",
        ".layers[1].bias",
    ]
    doubled = nm.tree_map(lambda x: 2 * x, model)
    assert isinstance(doubled, nm.nn.MLP)
    assert doubled.activation is nm.nn.relu
    assert np.array_equal(doubled.layers[1].weight, 2 * model.layers[1].weight)
    with pytest.raises(AttributeError):
        model.activation = np.tanh
    flat, unravel = nm.ravel_tree(model)
    assert flat.shape == (3 * 4 + 4 + 4 * 2 + 2,)
    assert np.array_equal(unravel(flat).layers[0].weight, model.layers[0].weight)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_gradient_of_a_network_matches_differences(activation, rng):
    model = nm.nn.MLP.init((3, 6, 4), activation=getattr(nm.nn, activation), rng=2)
    x, y = rng.standard_normal((5, 3)), rng.integers(0, 4, 5)
    flat, unravel = nm.ravel_tree(model)

    def loss(p):
        return nm.nn.softmax_cross_entropy(unravel(p)(x), y).mean()

    tol = 20 * EPS ** (2 / 3)
    grads = nm.grad(lambda m: nm.nn.softmax_cross_entropy(m(x), y).mean())(model)
    assert isinstance(grads, nm.nn.MLP)
    g = nm.ravel_tree(grads)[0]
    assert_close(g, central_difference(loss, flat), tol)
    v = rng.standard_normal(flat.shape)
    h = nm.hvp(loss, (flat,), (v,))
    assert_close(h, central_difference(lambda p: nm.grad(loss)(p) @ v, flat), 10 * tol)


def test_network_maps_over_examples_and_over_models(rng):
    model = nm.nn.MLP.init((3, 4, 2), rng=0)
    x = rng.standard_normal((5, 3))
    each = nm.vmap(lambda m, x: m(x), in_axes=(None, 0))(model, x)
    # each output is a sum of 4 products, in another order
    assert_close(each, model(x), 16 * EPS * (1 + np.abs(model(x))))
    models = [nm.nn.MLP.init((3, 4, 2), rng=i) for i in range(3)]
    stacked = nm.tree_map(lambda *leaves: np.stack(leaves), *models)
    outputs = nm.vmap(lambda m: m(x))(stacked)
    for output, m in zip(outputs, models, strict=True):
        assert_close(output, m(x), 16 * EPS * (1 + np.abs(m(x))))
    program = nm.stage(lambda m, x: m(x), model, x)
    assert np.array_equal(program(model, x), model(x))


def test_dense_takes_complex_steps():
    layer = nm.nn.Dense.init((3, 2), rng=0)
    x, direction = np.ones(3), np.array([1.0, -2.0, 0.5])
    got = layer(x + 1e-30j * direction).imag / 1e-30
    assert_close(got, direction @ layer.weight, 8 * EPS * np.ones(2))


def test_dense_refuses_what_does_not_fit():
    layer = nm.nn.Dense.init((3, 2), rng=0)
    with pytest.raises(
        ShapeError, match=r"^Dense: `x` must be of shape \(\.\.\., 3\), got \(5, 4\)"
    ):
        layer(np.zeros((5, 4)))
    with pytest.raises(ShapeError, match=r"^Dense: `x` must be of shape \(\.\.\., 3\), got \(\)"):
        layer(1.0)
    with pytest.raises(
        DtypeError, match=r"^Dense: `x` must be float64 as `weight` is, got float32"
    ):
        layer(np.zeros((5, 3), np.float32))
    with pytest.raises(
        DtypeError, match=r"^Dense: `x` must be a float32 or float64 array, got int64"
    ):
        layer(np.zeros((5, 3), int))
    wrong = nm.nn.Dense(layer.weight, np.zeros(1))
    with pytest.raises(ShapeError, match=r"^Dense: `bias` must be of shape \(2,\), got \(1,\)"):
        wrong(np.zeros((5, 3)))
    wrong = nm.nn.Dense(layer.weight, np.zeros(2, np.float32))
    with pytest.raises(DtypeError, match=r"^Dense: `bias` must be float64 as `weight` is"):
        wrong(np.zeros((5, 3)))
    wrong = nm.nn.Dense(np.zeros(3), None)
    with pytest.raises(
        ShapeError, match=r"^Dense: `weight` must be of shape \(any, any\), got \(3,\)"
    ):
        wrong(np.zeros(3))


def test_init_refuses_what_makes_no_layer():
    dense, mlp = nm.nn.Dense.init, nm.nn.MLP.init
    with pytest.raises(
        ShapeError, match=r"^Dense\.init: `sizes` must be a pair \(in, out\), got \(3,"
    ):
        dense((3, 2, 1))
    with pytest.raises(
        ShapeError, match=r"^MLP\.init: `sizes` must be a tuple \(in, hidden, .*got 3"
    ):
        mlp(3)
    with pytest.raises(ShapeError, match=r"^MLP\.init: `sizes` .*got \(3,\)"):
        mlp((3,))
    with pytest.raises(
        DomainError, match=r"^MLP\.init: `sizes\[1\]` must be a positive integer, got 0"
    ):
        mlp((3, 0, 2))
    with pytest.raises(DtypeError, match=r"^Dense\.init: `sizes\[0\]` must be a positive integer"):
        dense((3.5, 2))
    with pytest.raises(DtypeError, match=r"^MLP\.init: `activation` must be callable, got 'relu'"):
        mlp((3, 2), activation="relu")
    with pytest.raises(
        DtypeError, match=r"`activation` must be the same in training .*`Dropout`\. Put"
    ):
        mlp((3, 4, 2), activation=nm.nn.Dropout(0.5))
    with pytest.raises(DtypeError, match=r"^Dense\.init: `init` must be callable, got 0\.1"):
        mlp((3, 2), init=0.1)
    with pytest.raises(
        DtypeError, match=r"^Dense\.init: `dtype` must be float32 or float64, got floa"
    ):
        mlp((3, 2), dtype=np.float16)
    with pytest.raises(
        ShapeError, match=r"^Dense\.init: `init\(\.\.\.\)` must be of shape \(3, 2\)"
    ):
        dense((3, 2), init=lambda shape, *, rng, dtype: np.zeros((2, 3)))
    with pytest.raises(DtypeError, match=r"^Dense\.init: `init\(\.\.\.\)` must be float64"):
        dense((3, 2), init=lambda shape, *, rng, dtype: np.zeros(shape, np.float32))


def test_layers_print_their_shapes_and_not_their_arrays():
    model = nm.nn.MLP.init((64, 32), rng=0, dtype=np.float32)
    assert repr(model) == (
        "MLP(Dense(weight: float32 array of shape (64, 32), bias: float32 array of shape (32,)), "
        "activation: `relu`)"
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [nm.nn.relu, nm.nn.gelu, np.tanh])
def test_saved_model_comes_back_bit_for_bit(activation, dtype, tmp_path):
    model = nm.nn.MLP.init((3, 4, 2), activation=activation, rng=0, dtype=dtype)
    nm.save(tmp_path / "model.npz", model)
    loaded = nm.load(tmp_path / "model.npz")
    assert isinstance(loaded, nm.nn.MLP)
    assert loaded.activation is activation
    for a, b in zip(nm.tree_leaves(model), nm.tree_leaves(loaded), strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


# -------------------------------------------------------------------------------- beside PyTorch
PEER = json.loads(dense_torch.STORED.read_text())["cases"]


@pytest.mark.parametrize("name", PEER)
def test_dense_layers_are_those_of_pytorch(name):
    arrays = dense_torch.cases()[name]

    def f(x, weight, bias=None):
        return np.tanh(nm.nn.Dense(weight, bias)(x))

    def loss(*xs):
        return np.sum(weights(name, y.shape) * f(*xs))

    y = f(*arrays)
    compare("value", y, PEER[name]["value"], 1e-12)
    along = tuple(direction(name, i, x.shape) for i, x in enumerate(arrays))
    gradients = nm.grad(loss, argnums=tuple(range(len(arrays))))(*arrays)
    products = nm.hvp(loss, tuple(arrays), along)
    for what, got in (("gradient", gradients), ("product", products)):
        for g, stored in zip(got, PEER[name][what], strict=True):
            compare(what, g, stored, 1e-12)
