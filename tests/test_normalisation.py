"""Normalisations: PyTorch's numbers, the derivation of the backward pass, statistics, precision and complaints."""

import dataclasses
import decimal
import json
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from reference import normalisation_torch
from reference.parity import compare, direction, weights

import nnmath_core as nm
from nnmath_core.autodiff.ops.standardize import standardize_p
from nnmath_core.errors import DomainError, DtypeError, ShapeError

nn = nm.nn
EPS = np.finfo(np.float64).eps
DTYPES = [np.float32, np.float64]


@pytest.fixture
def rng():
    return np.random.default_rng(20261126)


def largest(x):
    return float(np.max(np.abs(x), initial=0.0))


# ------------------------------------------------------------------------------------ PyTorch
STORED = json.loads(normalisation_torch.STORED.read_text())
CASES = normalisation_torch.cases()


def function_of(name, options):
    """The function of a case, of its arrays, and what a call has stored."""
    if not name.startswith("spectral_norm"):
        f = getattr(nn, name.removesuffix(" in evaluation"))
        return lambda *xs: f(*xs, **options)

    def call(x, weight, bias):
        vectors = options["left"], options["right"]
        layer = nn.SpectralNorm(nn.Dense(weight, bias), options["iterations"], 1e-12, *vectors)
        return layer(x) if "evaluation" in name else layer.train(x)[0]

    return call


@pytest.mark.parametrize("case", CASES)
def test_value_gradient_and_hessian_product_agree_with_pytorch(case):
    name, arrays, options = CASES[case]
    f, answer = function_of(name, options), STORED["cases"][case]
    y = f(*arrays)
    w = weights(case, y.shape)

    def total(*xs):
        return np.sum(w * f(*xs))

    compare("value", y, answer["value"], 1e-12)
    every = tuple(range(len(arrays)))
    gradients = nm.grad(total, argnums=every)(*arrays)
    along = tuple(direction(case, i, x.shape) for i, x in enumerate(arrays))
    products = nm.hvp(total, tuple(arrays), along)
    products = products if len(arrays) > 1 else (products,)
    for what, found in (("gradient", gradients), ("product", products)):
        for i, (g, want) in enumerate(zip(found, answer[what], strict=True)):
            compare(f"{what} {i}", g, want, 1e-12)


@pytest.mark.parametrize("case", [c for c in CASES if c.startswith("spectral_norm")])
def test_vectors_of_spectral_norm_agree_with_pytorch(case):
    _, (x, weight, bias), options = CASES[case]
    vectors = options["left"], options["right"]
    layer = nn.SpectralNorm(nn.Dense(weight, bias), options["iterations"], 1e-12, *vectors)
    if "evaluation" not in case:
        layer = layer.train(x)[1]
    for name in ("left", "right"):
        compare(name, getattr(layer, name), STORED["cases"][case][name], 1e-13)


@pytest.mark.parametrize("momentum", [0.1, 0.7])
def test_running_statistics_of_batch_norm_agree_with_pytorch(momentum):
    layer = nn.BatchNorm.init(3, momentum=momentum)
    for i, x in enumerate(normalisation_torch.batches()):
        layer = layer.train(x)[1]
        compare("mean", layer.mean, STORED["running"][f"mean, {momentum}, {i}"], 1e-13)
        compare("var", layer.var, STORED["running"][f"var, {momentum}, {i}"], 1e-13)


# ------------------------------------------------------------------------------------ the derivation
def test_published_numbers_of_layer_norm_and_its_backward_pass():
    x = np.array([1.0, 2.0, 3.0, 4.0])
    y, back = nm.vjp(nn.layer_norm, x, np.ones(4), np.zeros(4))
    normalised = [-1.341635419969, -0.447211806656, 0.447211806656, 1.341635419969]
    dx, dscale, dshift = back(np.array([1.0, 0.0, 0.0, 0.0]))
    assert largest(y - normalised) < 1e-12  # the digits that are printed
    slope = [0.268330303893, -0.357768372025, -0.089443434631, 0.178881502763]
    assert largest(dx - slope) < 1e-12
    assert largest(dscale - [-1.341635419969, 0, 0, 0]) < 1e-12
    assert dshift.tolist() == [1, 0, 0, 0]


def test_published_numbers_of_rms_norm():
    want = [0.365148347327, 0.730296694654, 1.095445041981, 1.460593389308]
    assert largest(nn.rms_norm(np.array([1.0, 2.0, 3.0, 4.0])) - want) < 1e-12


def plain(x, scale, shift, eps=1e-5):
    """The forward pass as the source document writes it, of NumPy's functions."""
    mean = np.mean(x, axis=-1, keepdims=True)
    var = np.mean((x - mean) ** 2, axis=-1, keepdims=True)
    return scale * ((x - mean) / np.sqrt(var + eps)) + shift


def written_out(x, scale, shift, g, eps=1e-5):
    """The backward pass by hand: gradients in x, scale and shift."""
    mean = x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt(((x - mean) ** 2).mean(axis=-1, keepdims=True) + eps)
    normalised = (x - mean) / deviation
    gn = g * scale
    inner = gn - gn.mean(-1, keepdims=True) - normalised * (gn * normalised).mean(-1, keepdims=True)
    return inner / deviation, (g * normalised).sum(axis=0), g.sum(axis=0)


def test_layer_norm_forward_is_the_documents(rng):
    x, scale, shift = (
        3 * rng.standard_normal((5, 7)) + 2,
        rng.standard_normal(7),
        rng.standard_normal(7),
    )
    assert largest(nn.layer_norm(x, scale, shift) - plain(x, scale, shift)) < 16 * EPS * 3


def test_layer_norm_sees_one_example_and_batch_norm_one_channel(rng):
    x = rng.standard_normal((6, 5))
    moved = x.copy()
    moved[2] = 100 * rng.standard_normal(5)
    others = np.arange(6) != 2
    assert largest(nn.layer_norm(moved)[others] - nn.layer_norm(x)[others]) == 0.0
    assert largest(nn.batch_norm(moved)[others] - nn.batch_norm(x)[others]) > 0.1
    y = nn.layer_norm(x, eps=0.0)
    assert largest(y.mean(axis=1)) < 16 * EPS
    assert largest(y.var(axis=1) - 1) < 16 * EPS


@pytest.mark.parametrize("eps", [1e-5, 0.0, 0.7])
def test_rule_composition_and_closed_form_of_the_backward_pass_are_one(eps, rng):
    x, scale, shift = (
        3 * rng.standard_normal((5, 7)) + 2,
        rng.standard_normal(7),
        rng.standard_normal(7),
    )
    g = rng.standard_normal((5, 7))
    rule = nm.vjp(lambda *a: nn.layer_norm(*a, eps=eps), x, scale, shift)[1](g)
    composed = nm.vjp(lambda *a: plain(*a, eps=eps), x, scale, shift)[1](g)
    closed = written_out(x, scale, shift, g, eps=eps)
    for a, b, c in zip(rule, composed, closed, strict=True):
        # a dozen operations on numbers of the size of g, x and their products
        bound = 64 * EPS * largest(g) * (1 + largest(x))
        assert largest(a - c) < bound
        assert largest(b - c) < bound


def test_gradients_of_scale_and_shift_are_sums_of_the_output_gradient(rng):
    x, scale, shift = rng.standard_normal((6, 4)), rng.standard_normal(4), rng.standard_normal(4)
    g = rng.standard_normal((6, 4))
    _, dscale, dshift = nm.vjp(nn.layer_norm, x, scale, shift)[1](g)
    normalised = nn.layer_norm(x)
    assert largest(dscale - (g * normalised).sum(axis=0)) < 16 * EPS * largest(g) * 6
    assert largest(dshift - g.sum(axis=0)) < 16 * EPS * largest(g) * 6
    # and what arrives at the normalised entries is g times the scale
    through = nm.vjp(lambda n: n * scale + shift, normalised)[1](g)[0]
    assert largest(through - g * scale) == 0.0


def test_jacobian_of_the_normalisation_is_symmetric_and_loses_two_directions(rng):
    x = rng.standard_normal(6)
    J = nm.jacobian(lambda x: nn.layer_norm(x, eps=0.0))(x)
    y = nn.layer_norm(x, eps=0.0)
    assert largest(J - J.T) < 32 * EPS * largest(J)
    assert largest(J @ np.ones(6)) < 32 * EPS * largest(J)  # a common shift changes nothing
    assert largest(J @ y) < 32 * EPS * largest(J)  # nor does a common factor, at eps = 0
    assert np.linalg.matrix_rank(J, tol=1e-10) == 4


def test_second_derivative_is_that_of_the_composition(rng):
    x, scale, shift = rng.standard_normal((3, 5)), rng.standard_normal(5), rng.standard_normal(5)
    args = (x, scale, shift)
    along = tuple(rng.standard_normal(a.shape) for a in args)
    ours = nm.hvp(lambda *a: np.sum(np.sin(nn.layer_norm(*a))), args, along)
    want = nm.hvp(lambda *a: np.sum(np.sin(plain(*a))), args, along)
    for a, b in zip(ours, want, strict=True):
        assert largest(a - b) < 256 * EPS * (1 + largest(b))
    third = [nm.jvp(nm.grad(nm.grad(lambda t, f=f: np.sum(np.sin(f(x * t, scale, shift))))), (1.3,), (1.0,))[1]
             for f in (nn.layer_norm, plain)]  # fmt: skip
    assert abs(third[0] - third[1]) < 1e-12 * (1 + abs(third[1]))


def test_jacobian_of_rows_is_known_to_be_sparse(rng):
    x = rng.standard_normal(12)
    for f in (nn.layer_norm, nn.rms_norm):

        def rows(x, f=f):
            return f(x.reshape(3, 4)).ravel()

        pattern = nm.jacobian_sparsity(rows, x).toarray()
        assert np.array_equal(pattern, np.kron(np.eye(3), np.ones((4, 4))) != 0)
        sparse = nm.sparse_jacobian(rows)(x).toarray()
        assert largest(sparse - nm.jacobian(rows)(x)) < 64 * EPS


# ------------------------------------------------------------------------------------ precision
def exact(x, eps):
    """Normalised entries of a row of floats, by exact rational arithmetic and one root of 40 digits."""
    row = [Fraction(float(v)) for v in x]
    mean = sum(row) / len(row)
    var = sum((v - mean) ** 2 for v in row) / len(row) + Fraction(eps)
    with decimal.localcontext(prec=40):
        root = (Decimal(var.numerator) / Decimal(var.denominator)).sqrt()
        out = [
            float(Decimal((v - mean).numerator) / Decimal((v - mean).denominator) / root)
            for v in row
        ]
    return np.array(out)


def test_float32_rows_of_mean_2000_have_variance_one(rng):
    x = (rng.standard_normal((32, 512)) + 2000).astype(np.float32)
    y = nn.layer_norm(x).astype(float)
    var, given = y.var(axis=1), x.astype(float).var(axis=1)
    assert y.dtype == np.float64
    assert largest(var - given / (given + 1e-5)) < 8 * float(np.finfo(np.float32).eps)
    assert largest(var - 1) < 1e-2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mean", [0.0, 2000.0, -1e6])
@pytest.mark.parametrize("n", [2, 7, 64, 1000])
def test_error_is_within_its_bound(dtype, mean, n, rng):
    x = (rng.standard_normal(n) + mean).astype(dtype)
    want = exact(x, 1e-5)
    unit = float(np.finfo(dtype).eps) / 2
    deviation = np.sqrt(np.var(x.astype(float)) + 1e-5)
    first = abs(float(x[0]) - np.mean(x.astype(float))) / deviation
    bound = 4 * unit * (1 + np.abs(want) + first) + (n * unit if dtype is np.float64 else 0)
    assert np.all(np.abs(nn.layer_norm(x).astype(float) - want) <= bound)


@pytest.mark.parametrize("size", [1e-170, 1e-30, 1e30, 1e170, 1e300])
def test_squares_beyond_the_range_do_no_harm(size, rng):
    x = rng.standard_normal((2, 9))
    for f in (nn.layer_norm, nn.rms_norm):
        want = f(x, eps=0.0)
        assert largest(f(x * size, eps=0.0) - want) < 16 * EPS * largest(want)
        g = nm.grad(lambda x, f=f: f(x, eps=0.0)[0, 0])(x * size) * size
        assert largest(g - nm.grad(lambda x, f=f: f(x, eps=0.0)[0, 0])(x)) < 64 * EPS
    small = (x * 1e30).astype(np.float32)  # whose squares are not of float32
    assert largest(nn.rms_norm(small, eps=0.0) - nn.rms_norm(x, eps=0.0)) < 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_constant_rows_are_zero_and_their_derivative_is_as_documented(dtype, eps):
    x = np.full((2, 5), 0.1, dtype)  # a number whose sums round
    y, g = nm.value_and_grad(lambda x: nn.layer_norm(x, eps=eps)[0, 0])(x)
    assert y == 0.0
    want = np.zeros((2, 5))
    if eps:
        want[0] = (np.eye(5)[0] - 0.2) / np.sqrt(eps)
    assert largest(g - want) <= 8 * np.finfo(dtype).eps * largest(want)
    hessian = nm.hvp(lambda x: np.sum(nn.layer_norm(x, eps=0.0)[0, 0]), (x,), (np.ones_like(x),))
    assert largest(hessian) == 0.0


def test_one_entry_normalises_to_zero():
    x = np.array([[3.0], [-7.0]])
    layer = nn.LayerNorm(np.array([2.0]), np.array([5.0]), (1,), 1e-5)
    assert layer(x).tolist() == [[5.0], [5.0]]
    assert largest(nm.grad(lambda x: layer(x).sum())(x)) == 0.0
    assert largest(nn.group_norm(np.array([[3.0, 4.0]]), groups=2)) == 0.0


def test_not_a_number_stays_in_its_row():
    x = np.array([[1.0, np.nan, 2.0], [1.0, 2.0, 3.0], [1.0, np.inf, 2.0]])
    with np.errstate(invalid="ignore"):
        y = nn.layer_norm(x)
    assert np.isnan(y).all(axis=1).tolist() == [True, False, True]


# ------------------------------------------------------------------------------------ layers
def layers(rng, dtype=np.float64):
    """Name -> layer with parameters that are not their first values, and an input."""

    def moved(layer):
        return nm.tree_map(lambda a: (a + 0.1 * rng.standard_normal(a.shape)).astype(dtype), layer)

    made = {
        "LayerNorm": (nn.LayerNorm.init((3, 4)), (2, 3, 4)),
        "LayerNorm, bare": (nn.LayerNorm.init(4, scale=False, shift=False), (2, 3, 4)),
        "RMSNorm": (nn.RMSNorm.init(4), (2, 3, 4)),
        "BatchNorm": (nn.BatchNorm.init(4), (5, 2, 4)),
        "GroupNorm": (nn.GroupNorm.init(2, 4), (2, 3, 4)),
        "InstanceNorm": (nn.InstanceNorm.init(4, scale=True, shift=True), (2, 3, 4)),
        "WeightNorm": (nn.WeightNorm.init(nn.Dense.init((4, 3), rng=0)), (5, 4)),
        "WeightNorm, convolution": (nn.WeightNorm.init(nn.Conv2d.init((2, 3), 3, rng=0)), (2, 5, 4, 2)),
        "SpectralNorm": (nn.SpectralNorm.init(nn.Dense.init((4, 3), rng=0), rng=1), (5, 4)),
        "SpectralNorm, convolution": (
            nn.SpectralNorm.init(nn.Conv2d.init((2, 3), 3, padding=1, rng=0), (5, 4, 2), rng=1), (2, 5, 4, 2)
        ),
        "WhiteningNorm": (nn.WhiteningNorm.init(3), (4, 2, 3)),
    }  # fmt: skip
    return {
        k: (moved(layer), rng.standard_normal(s).astype(dtype)) for k, (layer, s) in made.items()
    }


NAMES = list(layers(np.random.default_rng(0)))


@pytest.mark.parametrize("name", NAMES)
def test_layer_has_right_derivatives_in_evaluation(name, rng):
    layer, x = layers(rng)[name]
    w = rng.standard_normal(layer(x).shape)
    nm.check_grads(lambda layer, x: np.sum(w * layer(x)), (layer, x), order=2)


@pytest.mark.parametrize("name", NAMES)
def test_layer_has_right_derivatives_in_training(name, rng):
    layer, x = layers(rng)[name]
    if isinstance(layer, nn.SpectralNorm):  # the moved vectors are constants of the derivative
        layer = dataclasses.replace(layer, iterations=0)
    if not hasattr(layer, "train"):
        assert not isinstance(layer, (nn.BatchNorm, nn.WhiteningNorm))
        return
    w = rng.standard_normal(layer(x).shape)
    nm.check_grads(lambda layer, x: np.sum(w * layer.train(x)[0]), (layer, x), order=2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_layer_keeps_its_dtype(name, dtype, rng):
    layer, x = layers(rng, dtype)[name]
    y, (g, _) = nm.value_and_grad(lambda layer, x: np.sum(layer(x)), argnums=(0, 1))(layer, x)
    assert y.dtype == dtype
    assert {a.dtype for a in nm.tree_leaves(g)} <= {np.dtype(dtype)}
    if hasattr(layer, "train"):
        y, new = layer.train(x)
        assert y.dtype == dtype
        assert {a.dtype for a in nm.tree_leaves(new)} == {np.dtype(dtype)}


@pytest.mark.parametrize("name", NAMES)
def test_layer_under_vmap_of_parameters_and_inputs_is_a_loop(name, rng):
    layer, x = layers(rng)[name]
    many = nm.tree_map(lambda a: np.stack([a, 1.1 * a, a + 0.05]), layer)
    xs = np.stack([x, 2 * x, x - 1])

    def run(layer, x):
        return layer.train(x)[0] if hasattr(layer, "train") else layer(x)

    got = nm.vmap(run)(many, xs)
    for k in range(3):
        one = nm.tree_map(lambda a, k=k: a[k], many)
        assert largest(got[k] - run(one, xs[k])) < 64 * EPS * (1 + largest(got))


@pytest.mark.parametrize("name", NAMES)
def test_layer_stages_and_comes_back_from_a_file(name, rng, tmp_path):
    layer, x = layers(rng)[name]
    want = layer(x)
    assert largest(nm.stage(lambda layer, x: layer(x), layer, x)(layer, x) - want) < 16 * EPS * (
        1 + largest(want)
    )
    nm.save(tmp_path / "layer.npz", layer)
    again = nm.load(tmp_path / "layer.npz")
    assert type(again) is type(layer)
    assert repr(again) == repr(layer)
    assert np.array_equal(again(x), want)


@pytest.mark.parametrize(
    "name", [n for n in NAMES if "Batch" in n or "Whitening" in n or "Spectral" in n]
)
def test_training_runs_through_scan_and_moves_only_buffers(name, rng):
    layer, x = layers(rng)[name]
    xs = np.stack([x, x + 1, 2 * x])

    def step(layer, x):
        y, layer = layer.train(x)
        return layer, y

    last, ys = nm.scan(step, layer, xs)
    loop = layer
    for k in range(3):
        y, loop = loop.train(xs[k])
        assert largest(y - ys[k]) < 64 * EPS * (1 + largest(y))
    for a, b in zip(nm.tree_leaves(last), nm.tree_leaves(loop), strict=True):
        assert largest(a - b) < 64 * EPS * (1 + largest(b))
    flat, moved = nm.ravel_tree(layer)[0], nm.ravel_tree(last)[0]
    assert np.array_equal(flat, moved)  # parameters are as before
    g = nm.grad(lambda layer: np.sum(layer.train(x)[0] ** 2))(layer)
    buffers = {"mean", "var", "covariance", "left", "right"}
    for field in dataclasses.fields(layer):
        if field.name in buffers:
            assert largest(getattr(g, field.name)) == 0.0
            assert largest(getattr(last, field.name) - getattr(layer, field.name)) > 0


@pytest.mark.parametrize("name", [n for n in NAMES if "Whitening" not in n])
def test_layer_takes_complex_steps(name, rng):
    layer, x = layers(rng)[name]
    w, t = rng.standard_normal(layer(x).shape), rng.standard_normal(x.shape)
    slope = np.sum(w * layer(x + 1e-30j * t)).imag / 1e-30
    tangent = nm.jvp(lambda x: np.sum(w * layer(x)), (x,), (t,))[1]
    assert abs(slope - tangent) < 64 * EPS * x.size * (1 + abs(tangent))


# ------------------------------------------------------------------------------------ batch norm
def test_batch_norm_uses_the_biased_variance_and_keeps_the_unbiased_one(rng):
    x = rng.standard_normal((7, 3)) * [1, 2, 5] + 4
    y, layer = nn.BatchNorm.init(3, momentum=1.0, eps=0.0).train(x)
    assert largest(np.var(y, axis=0) - 1) < 16 * EPS
    assert largest(layer.mean - x.mean(axis=0)) < 16 * EPS * 10
    assert largest(layer.var - x.var(axis=0, ddof=1)) < 16 * EPS * 50
    again = layer(x)  # evaluation: by the unbiased one
    assert largest(np.var(again, axis=0) - 6 / 7) < 32 * EPS


def test_momentum_is_the_weight_of_the_new_batch(rng):
    x = rng.standard_normal((8, 2))
    slow, fast = (nn.BatchNorm.init(2, momentum=m).train(x)[1] for m in (0.01, 0.99))
    assert largest(slow.mean) == pytest.approx(largest(x.mean(axis=0)) * 0.01)
    assert largest(fast.mean) == pytest.approx(largest(x.mean(axis=0)) * 0.99)


def test_momentum_one_over_k_is_the_mean_over_all_batches(rng):
    layer, means, variances = nn.BatchNorm.init(3), [], []
    for k in range(1, 5):
        x = rng.standard_normal((6, 3)) + k
        layer = dataclasses.replace(layer, momentum=1 / k).train(x)[1]
        means.append(x.mean(axis=0))
        variances.append(x.var(axis=0, ddof=1))
    assert largest(layer.mean - np.mean(means, axis=0)) < 16 * EPS * 5
    assert largest(layer.var - np.mean(variances, axis=0)) < 16 * EPS * 5


def test_batch_norm_standardises_and_does_not_whiten(rng):
    x = rng.standard_normal((400, 2)) @ np.array([[1.0, 0.9], [0.0, 0.5]])
    before = np.corrcoef(x.T)[0, 1]
    y = nn.batch_norm(x, eps=0.0)
    covariance = y.T @ y / len(y)
    assert largest(covariance.diagonal() - 1) < 400 * EPS
    assert abs(covariance[0, 1] - before) < 400 * EPS  # the correlation is what it was: 0.87
    assert abs(before) > 0.8
    z = nn.whiten(x, eps=0.0)
    assert largest(z.T @ z / len(z) - np.eye(2)) < 1e-12


# ------------------------------------------------------------------------------------ whitening
def test_whitening_is_the_inverse_root_by_eigenvalues(rng):
    x = rng.standard_normal((50, 4)) @ rng.standard_normal((4, 4)) + 3
    centred = x - x.mean(axis=0)
    w, v = np.linalg.eigh(centred.T @ centred / 50 + 1e-5 * np.eye(4))
    want = centred @ (v / np.sqrt(w)) @ v.T
    assert largest(nn.whiten(x) - want) < 1e-12 * largest(want) * w[-1] / w[0]
    y = nn.whiten(x, eps=0.0)
    assert largest(y.mean(axis=0)) < 1e-13
    assert largest(y.T @ y / 50 - np.eye(4)) < 64 * EPS * w[-1] / w[0]


def test_whitening_turns_with_its_channels_and_knows_no_scale(rng):
    x = rng.standard_normal((30, 3)) @ rng.standard_normal((3, 3))
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    y = nn.whiten(x, eps=0.0)
    assert largest(nn.whiten(x @ turn, eps=0.0) - y @ turn) < 1e-11
    assert largest(nn.whiten(7 * x + 2, eps=0.0) - y) < 1e-11
    closest = np.linalg.norm(y - (x - x.mean(axis=0)))
    assert closest < np.linalg.norm(
        y @ turn - (x - x.mean(axis=0))
    )  # of all whitenings ZCA is closest


def whitened_exactly(x):
    """Whitening in 60 digits: the inverse root by Newton's iteration, without eigenvalues."""
    n, c = x.shape
    centred = x - x.sum(axis=0) / n
    covariance = centred.T @ centred / n
    size = covariance.trace()
    eye = np.array([[Decimal(i == j) for j in range(c)] for i in range(c)])
    z = eye
    for _ in range(40):
        z = z @ (3 * eye - covariance / size @ z @ z) / 2
    return centred @ z / size.sqrt()


@pytest.mark.parametrize("apart", [0.0, 1e-13, 1e-9, 1e-5, 0.5])
def test_gradient_of_whitening_is_right_for_near_equal_eigenvalues(apart, rng):
    q = np.linalg.qr(rng.standard_normal((8, 8)) @ np.diag([1.0] * 8))[0]
    q = np.linalg.qr(np.column_stack([np.ones(8), q[:, :3]]))[0][:, 1:] * np.sqrt(8)
    x = q * np.array([1.0, 1.0 + apart, 1.0 + 2 * apart])  # covariance: (almost) the identity
    g, t = rng.standard_normal((8, 3)), rng.standard_normal((8, 3))
    back = nm.vjp(lambda x: nn.whiten(x, eps=0.0), x)[1](g)[0]
    forward = nm.jvp(lambda x: nn.whiten(x, eps=0.0), (x,), (t,))[1]
    exactly = np.vectorize(Decimal, otypes=[object])
    with decimal.localcontext(prec=60):
        h = Decimal(10) ** -20
        ends = [whitened_exactly(exactly(x) + s * h * exactly(t)) for s in (1, -1)]
        want = ((ends[0] - ends[1]) / (2 * h)).astype(float)
    assert largest(forward - want) < 64 * EPS * 8
    assert abs(np.sum(back * t) - np.sum(g * want)) < 64 * EPS * 24


def test_running_whitening_is_that_of_the_collected_covariance(rng):
    mix = rng.standard_normal((3, 3))
    layer = nn.WhiteningNorm.init(3, momentum=1.0, eps=0.0)
    x = rng.standard_normal((40, 3)) @ mix
    y, layer = layer.train(x)
    assert largest(layer.covariance - np.cov(x.T)) < 64 * EPS * largest(np.cov(x.T))
    assert largest(layer(x) - y * np.sqrt(39 / 40)) < 1e-11


# ------------------------------------------------------------------------------------ weights
def test_weight_norm_gives_each_output_its_length(rng):
    v, g = rng.standard_normal((3, 3, 2, 4)), rng.uniform(0.5, 2, 4)
    w = nn.weight_norm(v, g)
    assert largest(np.sqrt((w**2).sum(axis=(0, 1, 2))) - g) < 16 * EPS * 2
    assert largest(nn.weight_norm(1e200 * v, g) - w) < 16 * EPS
    dv = nm.grad(lambda v: np.sum(w * nn.weight_norm(v, g) ** 2))(v)
    assert largest((dv * v).sum(axis=(0, 1, 2))) < 64 * EPS * largest(
        dv
    )  # orthogonal to the direction


def test_weight_norm_of_a_zero_direction_is_zero():
    v = np.array([[0.0, 3.0], [0.0, 4.0]])
    w, g = nm.value_and_grad(lambda v: nn.weight_norm(v, np.ones(2)).sum())(v)
    assert w == pytest.approx(1.4)
    assert g[:, 0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("axis", [-1, 0, None, (0, -1)])
def test_a_layer_in_length_and_direction_computes_what_it_did(axis, rng):
    dense = nn.Dense.init((4, 3), rng=1)
    x = rng.standard_normal((5, 4))
    if axis == (0, -1):
        dense, x = nn.Conv1d.init((4, 3), 2, rng=1), rng.standard_normal((2, 6, 4))
    layer = nn.WeightNorm.init(dense, axis=axis)
    assert largest(layer(x) - dense(x)) < 16 * EPS * 10
    assert layer.magnitude.shape == (
        () if axis is None else tuple(np.take(dense.weight.shape, axis).ravel())
    )


# ------------------------------------------------------------------------------------ spectral norm
def matrix_of(layer, shape):
    """The linear map of a layer on one example, as a matrix from inputs to outputs."""
    n = int(np.prod(shape))
    return layer(np.eye(n).reshape(n, *shape)).reshape(n, -1)


SPECTRAL = {
    "dense": (lambda: nn.Dense.init((5, 4), bias=False, rng=3), (5,)),
    "padding": (lambda: nn.Conv2d.init((2, 3), 3, padding="same", bias=False, rng=3), (6, 5, 2)),
    "stride": (lambda: nn.Conv2d.init((2, 3), 3, stride=2, bias=False, rng=3), (7, 7, 2)),
    "dilation": (
        lambda: nn.Conv2d.init((2, 2), 3, padding=2, dilation=2, bias=False, rng=3),
        (6, 5, 2),
    ),
    "groups": (
        lambda: nn.Conv2d.init((4, 4), 3, padding=1, groups=2, bias=False, rng=3),
        (4, 4, 4),
    ),
    "sequence": (lambda: nn.Conv1d.init((3, 2), 4, bias=False, rng=3), (9, 3)),
    "transposed": (
        lambda: nn.ConvTranspose2d.init((2, 3), 3, stride=2, bias=False, rng=3),
        (4, 4, 2),
    ),
}


@pytest.mark.parametrize("name", SPECTRAL)
def test_spectral_norm_is_the_operator_norm_of_the_map(name, rng):
    make, shape = SPECTRAL[name]
    inner = make()
    layer = nn.SpectralNorm.init(inner, shape, iterations=400, rng=0)
    x = rng.standard_normal((2, *shape))
    y, layer = layer.train(x)
    s = np.linalg.svd(matrix_of(inner, shape), compute_uv=False)
    assert abs(layer.norm - s[0]) < 1e-9 * s[0]
    assert abs(np.linalg.norm(matrix_of(layer, shape), 2) - 1) < 1e-9
    assert largest(y - layer(x)) < 1e-12
    # one step of the power iteration never exceeds the norm
    early = nn.SpectralNorm.init(inner, shape, rng=1)
    assert early.norm <= s[0] * (1 + 16 * EPS)


@pytest.mark.parametrize("name", SPECTRAL)
def test_gradient_through_the_norm_is_that_of_the_largest_singular_value(name, rng):
    make, shape = SPECTRAL[name]
    inner = make()
    weight = inner.weight
    layer = nn.SpectralNorm.init(inner, shape, iterations=3000, rng=0)
    x = rng.standard_normal((2, *shape))

    def ours(weight):
        changed = dataclasses.replace(layer, layer=dataclasses.replace(inner, weight=weight))
        return np.sum(np.sin(changed.train(x)[0]))

    def want(weight):
        top = np.linalg.norm(matrix_of(dataclasses.replace(inner, weight=weight), shape), 2)
        return np.sum(np.sin(dataclasses.replace(inner, weight=weight / top)(x)))

    a, b = nm.grad(ours)(weight), nm.grad(want)(weight)
    assert largest(a - b) < 1e-7 * largest(b)


def test_the_norm_of_the_reshaped_kernel_leaves_a_gain_of_three():
    kernel = np.ones((3, 3, 1, 1))
    reshaped = np.linalg.norm(kernel.reshape(9, 1), 2)
    assert reshaped == pytest.approx(3.0)
    conv = nn.Conv2d.init((1, 1), 3, padding="same", bias=False, rng=0)
    conv = dataclasses.replace(conv, weight=kernel / reshaped)
    assert np.linalg.norm(matrix_of(conv, (16, 16, 1)), 2) == pytest.approx(8.79683685754 / 3)
    layer = nn.SpectralNorm.init(
        dataclasses.replace(conv, weight=kernel), (16, 16, 1), iterations=2000, rng=0
    )
    layer = layer.train(np.ones((1, 16, 16, 1)))[1]
    assert layer.norm == pytest.approx(8.79683685754, rel=1e-11)


def test_training_spectral_norm_converges_over_calls(rng):
    layer = nn.SpectralNorm.init(nn.Dense(np.diag([3.0, 2.0, 1.0]), None), rng=0)
    x = rng.standard_normal((4, 3))
    for _ in range(60):
        layer = layer.train(x)[1]
    assert layer.norm == pytest.approx(3.0, rel=1e-14)


# ------------------------------------------------------------------------------------ complaints
X = np.ones((4, 3))
IMAGE = np.ones((2, 4, 4, 3))
DENSE = nn.Dense(np.ones((3, 2)), None)
BAD = [
    (lambda: nn.layer_norm(np.ones((3, 0))), ShapeError, "layer_norm: `x` must be an array with entries along"),
    (lambda: nn.layer_norm(np.ones(())), DomainError, "`axis` must be distinct axes of `x`, which has 0, got -1"),
    (lambda: nn.layer_norm(X, axis=2), DomainError, "`axis` must be distinct axes of `x`, which has 2, got 2"),
    (lambda: nn.layer_norm(X, axis=(1, -1)), DomainError, "`axis` must be distinct axes"),
    (lambda: nn.layer_norm(X, np.ones(2)), ShapeError, r"`scale` must be of shape \(3,\), got \(2,\)"),
    (lambda: nn.layer_norm(X, np.ones(3, np.float32)), DtypeError, "float64 as `x` is"),
    (lambda: nn.layer_norm(np.ones((2, 3), int)), DtypeError, "int64"),
    (lambda: nn.layer_norm(X, eps=-1e-5), DomainError, "`eps` must be finite and >= 0"),
    (lambda: nn.layer_norm(X, eps=np.nan), DomainError, "`eps`"),
    (lambda: nn.layer_norm(X, eps="1"), DtypeError, "`eps`"),
    (lambda: nn.rms_norm(np.ones((3, 0))), ShapeError, "rms_norm"),
    (lambda: nn.rms_norm(X, np.ones((1, 3))), ShapeError, "`scale`"),
    (lambda: nn.LayerNorm.init(()), ShapeError, "`shape`"),
    (lambda: nn.LayerNorm.init(0), DomainError, "`shape`"),
    (lambda: nn.LayerNorm.init((3, 2.0)), DtypeError, r"`shape\[1\]`"),
    (lambda: nn.LayerNorm.init(3, dtype=int), DtypeError, "dtype"),
    (lambda: nn.LayerNorm.init(4)(X), ShapeError, r"of shape \(\.\.\., 4\), got \(4, 3\)"),
    (lambda: nn.RMSNorm.init((4, 3))(np.ones(3)), ShapeError, r"\(\.\.\., 4, 3\)"),
    (lambda: nn.batch_norm(np.ones(3)), ShapeError, r"\(n, \.\.\., c\)"),
    (lambda: nn.batch_norm(np.ones((1, 3))), DomainError, "2 or more entries"),
    (lambda: nn.batch_norm(np.ones((0, 3))), DomainError, "which are 0"),
    (lambda: nn.batch_norm(X, mean=np.ones(3)), ShapeError, "`var` must be"),
    (lambda: nn.batch_norm(X, var=np.ones(3)), ShapeError, "`mean` must be"),
    (lambda: nn.batch_norm(X, mean=np.ones(2), var=np.ones(3)), ShapeError, "`mean`"),
    (lambda: nn.BatchNorm.init(3).train(np.ones((1, 3))), DomainError, "BatchNorm.train: a channel needs 2"),
    (lambda: nn.BatchNorm.init(3).train(np.ones((0, 3))), DomainError, "which are 0"),
    (lambda: nn.BatchNorm.init(4)(X), ShapeError, "Channels are the last axis"),
    (lambda: nn.BatchNorm.init(3, momentum=1.5), DomainError, "weight of the new batch"),
    (lambda: nn.BatchNorm.init(0), DomainError, "`channels`"),
    (lambda: nn.BatchNorm.init(3)(X.astype(np.float32)), DtypeError, "float32"),
    (lambda: nn.group_norm(IMAGE, groups=2), ShapeError, "`groups` must be a divisor of the 3 channels, got 2"),
    (lambda: nn.group_norm(IMAGE, groups=0), DomainError, "`groups`"),
    (lambda: nn.group_norm(np.ones((2, 0, 3)), groups=1), ShapeError, "with entries"),
    (lambda: nn.GroupNorm.init(2, 3), ShapeError, "divisor"),
    (lambda: nn.GroupNorm.init(1, 4)(IMAGE), ShapeError, "Channels are the last axis"),
    (lambda: nn.instance_norm(X), ShapeError, "of shape"),
    (lambda: nn.instance_norm(np.ones((2, 1, 3))), DomainError, "2 or more positions"),
    (lambda: nn.InstanceNorm.init(4)(IMAGE), ShapeError, "Channels are the last axis"),
    (lambda: nn.weight_norm(X, np.ones(4)), ShapeError, r"`magnitude` must be of shape \(3,\)"),
    (lambda: nn.weight_norm(np.ones(3), np.ones(3)), ShapeError, "beside `axis`"),
    (lambda: nn.WeightNorm.init(nn.relu), DtypeError, "a layer with a field `weight`"),
    (lambda: nn.WeightNorm.init(nn.LayerNorm.init(3)), DtypeError, "a LayerNorm without one"),
    (lambda: nn.WeightNorm(DENSE, np.ones(3), -1)(X), ShapeError, "`magnitude`"),
    (lambda: nn.SpectralNorm.init(nn.Conv2d.init((1, 1), 3)), ShapeError, "depends on the size of the images"),
    (lambda: nn.SpectralNorm.init(DENSE, eps=0.0), DomainError, "`eps`"),
    (lambda: nn.SpectralNorm.init(DENSE, iterations=-1), DomainError, "`iterations`"),
    (lambda: nn.SpectralNorm.init(DENSE)(np.ones((2, 4))), ShapeError, r"\(\.\.\., 3\)"),
    (lambda: nn.whiten(np.ones((1, 3))), DomainError, "2 or more entries"),
    (lambda: nn.whiten(np.ones((3, 3)), eps=0.0), DomainError, "`eps` must be positive for 3 rows of 3 channels"),
    (lambda: nn.whiten(X + 0j), DtypeError, "complex128"),
    (lambda: nn.whiten(X, mean=np.ones(3)), ShapeError, "`covariance` must be"),
    (lambda: nn.whiten(X, mean=np.ones(3), covariance=np.ones((2, 2))), ShapeError, "`covariance`"),
    (lambda: nn.WhiteningNorm.init(4)(X), ShapeError, "Channels are the last axis"),
    (lambda: nn.WhiteningNorm.init(3).train(X[:1]), DomainError, "WhiteningNorm.train"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), BAD, ids=range(len(BAD)))
def test_bad_input_is_one_clear_error(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_empty_batches_are_empty_where_no_statistics_are_taken_over_them():
    empty = np.ones((0, 5, 4))
    assert nn.layer_norm(empty).shape == (0, 5, 4)
    assert nn.rms_norm(empty).shape == (0, 5, 4)
    assert nn.group_norm(empty, groups=2).shape == (0, 5, 4)
    assert nn.instance_norm(empty).shape == (0, 5, 4)
    assert nn.BatchNorm.init(4)(empty).shape == (0, 5, 4)
    assert nm.grad(lambda x: nn.layer_norm(x).sum())(empty).shape == (0, 5, 4)


def test_statistics_of_the_primitive_carry_no_derivative(rng):
    x = rng.standard_normal((2, 5))
    out = []
    nm.grad(lambda x: out.append(standardize_p(x, axis=(1,), eps=0.1)) or np.sum(out[0][0]))(x)
    assert isinstance(out[0][0], nm.Tracer)
    assert [type(v) for v in out[0][2:]] == [np.ndarray, np.ndarray]
    assert largest(out[0][2] - x.mean(axis=1, keepdims=True)) < 8 * EPS
    assert largest(out[0][3] - x.var(axis=1, keepdims=True)) < 16 * EPS
