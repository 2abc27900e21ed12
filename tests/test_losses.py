"""Losses: PyTorch's numbers, closed derivatives, special points, options, transformations."""

import itertools
import json
import math

import numpy as np
import pytest
import scipy.stats
from loss_cases import CLOSED, EPS, assert_close, dense, problem
from reference import losses_torch
from reference.parity import compare, direction, weights

import nnmath_core as nm
from nnmath_core.errors import DomainError

nn = nm.nn
DTYPES = [np.float32, np.float64]


@pytest.fixture
def rng():
    return np.random.default_rng(20261126)


# ------------------------------------------------------------------------------------ PyTorch
TORCH = losses_torch.cases()
ANSWERS = json.loads(losses_torch.STORED.read_text())["cases"]


def of_arrays(case):
    """The loss of a case as a function of the arrays that are differentiated, and these."""
    loss, options, arrays, fixed = TORCH[case]
    f = getattr(nn, loss).replace(**options)
    if loss == "gaussian_nll":
        return lambda m, v: f.replace(spread="variance")((m, v), fixed[0]), arrays
    return lambda *xs: f(*xs, *fixed), arrays


@pytest.mark.parametrize("case", TORCH)
def test_loss_agrees_with_pytorch(case):
    f, arrays = of_arrays(case)
    if case.startswith(("binary", "softmax")) and len(arrays) == 2:
        # probabilities are checked, and differentiated as any factor is
        arrays = [np.asarray(x) for x in arrays]
    y = f(*arrays)
    want = ANSWERS[case]
    # the reference is rounded as often as ours: a few eps of each of some twenty operations
    compare(f"{case}, value", y, want["value"], 1e-13)
    w = weights(case, np.shape(y))

    def total(*xs):
        return np.sum(w * f(*xs))

    argnums = tuple(range(len(arrays)))
    gradient = nm.grad(total, argnums)(*arrays)
    vs = tuple(direction(case, i, x.shape) for i, x in enumerate(arrays))
    product = nm.jvp(lambda *xs: nm.grad(total, argnums)(*xs), tuple(arrays), vs)[1]
    for g, stored in zip(gradient, want["gradient"], strict=True):
        compare(f"{case}, gradient", g, stored, 1e-12)
    for h, stored in zip(product, want["product"], strict=True):
        compare(f"{case}, product", h, stored, 1e-12)


def test_every_loss_of_pytorch_has_five_configurations():
    counts = {}
    for loss, *_ in TORCH.values():
        counts[loss] = counts.get(loss, 0) + 1
    assert len(counts) == 9
    assert min(counts.values()) >= 5


# -------------------------------------------------------------------------- closed derivatives
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("name", CLOSED)
def test_closed_derivatives_are_those_of_the_value(name, reduction, rng):
    loss, p, t = problem(name, rng)
    loss = loss.replace(reduction=reduction)
    # entries of the order of 10, a few dozen roundings
    tol = 1e3 * EPS

    def total(p):
        return np.sum(loss(p, t))

    found, want = loss.gradient(p, t), nm.grad(total)(p)
    h = loss.hessian(p, t)
    whole = nm.hessian(total)(p)
    if isinstance(p, tuple):
        for i in range(2):
            assert_close(found[i], want[i], tol)
            for j in range(2):
                n = p[0].size
                assert_close(dense(h[i][j], p[0].shape, False), whole[i][j].reshape(n, n), tol)
        return
    assert_close(found, want, tol)
    coupled = h.ndim == p.ndim + 1
    assert coupled == (name.startswith(("classes", "rows")) or "hinge, m" in name)
    assert h.shape == (p.shape + p.shape[-1:] if coupled else p.shape)
    assert_close(dense(h, p.shape, coupled), whole.reshape(p.size, p.size), tol)


@pytest.mark.parametrize("name", CLOSED)
def test_a_reduction_is_over_the_examples(name, rng):
    loss, p, t = problem(name, rng)
    each = loss(p, t)
    tol = EPS * max(each.size, 1) * np.abs(each).sum()
    assert abs(loss(p, t, reduction="sum") - each.sum()) <= tol
    if loss is not CLOSED["classes, options"][0] and name not in (
        "classes, weights",
        "classes, ignored",
    ):
        assert abs(loss(p, t, reduction="mean") - each.mean()) <= tol
    assert np.array_equal(loss.replace(reduction="sum")(p, t, reduction="none"), each)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CLOSED)
def test_a_loss_keeps_the_dtype_maps_and_stages(name, dtype, rng):
    loss, p, t = problem(name, rng)

    def cast(x):
        return x.astype(dtype) if hasattr(x, "dtype") and x.dtype.kind == "f" else x

    loss, p = nm.tree_map(cast, loss), nm.tree_map(cast, p)
    t = t / t.sum(axis=-1, keepdims=True) if name.startswith("rows") else t
    t = cast(t)
    if name.startswith("rows"):
        t = t / t.sum(axis=-1, keepdims=True)
    each = loss(p, t)
    eps = np.finfo(dtype).eps
    tol = 64 * eps * (1 + np.abs(each))
    assert each.dtype == dtype
    total = loss.replace(reduction="sum")
    assert total(p, t).dtype == dtype
    assert loss.replace(reduction="mean")(p, t).dtype == dtype
    for leaf in nm.tree_leaves([loss.gradient(p, t), loss.hessian(p, t), nm.grad(total)(p, t)]):
        assert leaf.dtype == dtype
    if loss.likelihood:
        assert all(
            x.dtype == dtype for x in nm.tree_leaves(loss.replace(reduction="sum").fisher(p))
        )
        full = loss.replace(full=True)
        assert full(p, t).dtype == dtype
    assert_close(nm.stage(loss, p, t)(p, t), each, tol)
    staged = nm.stage(loss.gradient, p, t)(p, t)
    for a, b in zip(nm.tree_leaves(staged), nm.tree_leaves(loss.gradient(p, t)), strict=True):
        assert_close(a, b, 64 * eps * (1 + np.abs(b)))
    staged = nm.stage(loss.hessian, p, t)(p, t)
    for a, b in zip(nm.tree_leaves(staged), nm.tree_leaves(loss.hessian(p, t)), strict=True):
        assert_close(a, b, 64 * eps * (1 + np.abs(b)))
    if nm.tree_leaves(p)[0].ndim < 2 and name.startswith("squares"):
        return
    mapped = nm.vmap(lambda p, t: loss(nm.tree_map(lambda x: x[None], p), t[None])[0])(p, t)
    assert_close(mapped, each, tol)


# ------------------------------------------------------------------------------- special points
def test_derivatives_at_kinks():
    zero, y = np.zeros(3), np.array([0.0, 1.0, -1.0])
    for loss, want in [
        (nn.laplace_nll, [0.0, -1.0, 1.0]),
        (nn.quantile.replace(level=0.25), [0.25, -0.25, 0.75]),
        (nn.huber, [0.0, -1.0, 1.0]),
    ]:
        assert loss.gradient(zero, y).tolist() == want
        assert nm.grad(loss.replace(reduction="sum"))(zero, y).tolist() == want
    assert nn.huber.hessian(zero, y).tolist() == [1.0, 1.0, 1.0]
    h = nm.hvp(lambda p: nn.huber(p, y).sum(), (zero,), (np.ones(3),))
    assert h.tolist() == [1.0, 1.0, 1.0]
    at_margin = np.array([1.0, -1.0, 0.5])
    t = np.array([1, -1, 1])
    assert nn.hinge.gradient(at_margin, t).tolist() == [0.0, 0.0, -1.0]
    assert nm.grad(nn.hinge.replace(reduction="sum"))(at_margin, t).tolist() == [0.0, 0.0, -1.0]
    ties = np.array([[0.0, 0.0, 0.0]])
    strongest = nn.hinge.replace(rivals="max", reduction="sum")
    assert strongest.gradient(ties, np.array([0])).tolist() == [[-1.0, 0.5, 0.5]]
    assert nm.grad(strongest)(ties, np.array([0])).tolist() == [[-1.0, 0.5, 0.5]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_predictions_have_finite_losses_and_derivatives(dtype):
    big = float(np.finfo(dtype).max) / 8
    p = np.array([big, -big, 0.0], dtype)
    t = np.zeros(3, dtype)
    for loss in (nn.student_t_nll, nn.laplace_nll, nn.huber, nn.quantile, nn.crps_gaussian):
        for x in (
            loss(p, t),
            loss.gradient(p, t),
            loss.hessian(p, t),
            nm.grad(loss.replace(reduction="sum"))(p, t),
        ):
            assert np.all(np.isfinite(x)), loss
            assert x.dtype == dtype
    want = 2.5 * (math.log(big) * 2 - math.log(4.0))
    slope = float(nn.student_t_nll.gradient(p, t)[0])
    assert abs(slope * (big / 5) - 1) <= 8 * np.finfo(dtype).eps
    got = float(nn.student_t_nll(p, t)[0])
    assert abs(got - want) <= 8 * np.finfo(dtype).eps * want
    z = np.array([[1e4, -1e4, 0.0]], dtype)
    s = nn.softmax_cross_entropy
    assert s.gradient(z, np.array([1])).tolist() == [[1.0, -1.0, 0.0]]
    assert np.all(s.hessian(z, np.array([1])) == 0)
    assert nn.binary_cross_entropy.gradient(z, np.array([[0, 1, 1]])).tolist() == [
        [1.0, -1.0, -0.5]
    ]


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_and_hessians_of_classes_are_accurate_however_small(dtype):
    """Far from the border, where softmax - 1 would be 0 in this precision."""
    d = np.array([20.0, 50.0, 80.0])
    z = np.stack([d, np.zeros(3)], axis=-1).astype(dtype)
    p = np.exp(-d) / (1 + np.exp(-d))
    tol = 8 * np.finfo(dtype).eps * (2 + d)
    y = np.zeros(3, int)
    g = nn.softmax_cross_entropy.gradient(z, y).astype(float)
    assert np.all(np.abs(g[:, 0] + p) <= tol * p)
    assert np.all(np.abs(g[:, 1] - p) <= tol * p)
    h = nn.softmax_cross_entropy.hessian(z, y).astype(float)
    want = p * (1 - p)
    for i, j in itertools.product(range(2), repeat=2):
        assert np.all(np.abs(h[:, i, j] - (1 if i == j else -1) * want) <= tol * want)
    b = nn.binary_cross_entropy.gradient(d.astype(dtype), np.ones(3, int)).astype(float)
    assert np.all(np.abs(b + p) <= tol * p)


def test_a_rate_of_zero_and_the_count_zero():
    p = np.array([-np.inf, -800.0])
    assert nn.poisson_nll(p, np.array([0, 0])).tolist() == [0.0, 0.0]
    assert nn.poisson_nll.gradient(p, np.array([0, 2])).tolist() == [0.0, -2.0]
    assert nn.poisson_nll(p, np.array([1, 0])).tolist() == [np.inf, 0.0]


# ------------------------------------------------------------------------------------- options
def test_weighted_mean_is_over_the_weights_of_what_is_not_ignored(rng):
    z = rng.standard_normal((5, 3))
    y = np.array([0, 2, -100, 1, -100])
    w = np.array([1.0, 3.0, 0.5])
    f = nn.softmax_cross_entropy
    each = f(z, y, ignore_label=-100, class_weights=w)
    kept = [0, 1, 3]
    assert each[[2, 4]].tolist() == [0.0, 0.0]
    assert_close(each[kept], w[y[kept]] * f(z[kept], y[kept]), 8 * EPS)
    got = f(z, y, ignore_label=-100, class_weights=w, reduction="mean")
    assert abs(got - each.sum() / w[y[kept]].sum()) <= 8 * EPS
    got = f(z, y, ignore_label=-100, reduction="mean")
    assert abs(got - f(z[kept], y[kept]).mean()) <= 8 * EPS
    inside = f(z, np.where(y < 0, 1, y), ignore_label=1)
    assert np.flatnonzero(inside == 0).tolist() == [2, 3, 4]
    unsigned = f(z[:2], np.array([0, 2], np.uint8), ignore_label=-100)
    assert np.array_equal(unsigned, f(z[:2], np.array([0, 2])))


def test_smoothing_mixes_the_rows_with_the_uniform_one(rng):
    z, y = rng.standard_normal((4, 5)), rng.integers(0, 5, 4)
    mixed = 0.9 * np.eye(5)[y] + 0.1 / 5
    f = nn.softmax_cross_entropy
    assert_close(f(z, y, label_smoothing=0.1), f(z, mixed), 32 * EPS * np.ones(4))
    assert_close(f(z, np.eye(5)[y], label_smoothing=0.1), f(z, mixed), 32 * EPS * np.ones(4))


def test_sigma_is_learnt_and_class_weights_are_not(rng):
    p, t = rng.standard_normal((2, 50))
    loss = nn.gaussian_nll.replace(sigma=np.array(0.5), reduction="mean")
    g = nm.grad(lambda loss: loss(p, t))(loss)
    want = 1 / 0.5 - np.mean((p - t) ** 2) / 0.5**3
    assert abs(g.sigma - want) <= 64 * EPS * abs(want)
    step = nm.grad(lambda s: nn.gaussian_nll(p, t, sigma=np.exp(s), reduction="mean"))
    assert abs(step(0.5 * math.log(np.mean((p - t) ** 2)))) <= 64 * EPS
    z, y = rng.standard_normal((4, 3)), rng.integers(0, 3, 4)
    weighted = nn.softmax_cross_entropy.replace(class_weights=np.ones(3), reduction="mean")
    g = nm.grad(lambda held: held[0] * held[1](z, y))((np.array(2.0), weighted))[1]
    assert g.class_weights.tolist() == [0.0, 0.0, 0.0]
    opt = nm.optim.gradient_descent(0.1)
    new, _ = opt.step(loss, nm.grad(lambda loss: loss(p, t))(loss), opt.init(loss))
    assert abs(new.sigma - (0.5 - 0.1 * want)) <= 64 * EPS * abs(want)
    assert new(p, t).shape == ()


def test_degrees_of_freedom_are_learnt_with_their_constant(rng):
    y = rng.standard_t(3.0, 200)
    zero = np.zeros(200)
    with pytest.raises(DomainError, match="`df` is an array, and the constant depends on it"):
        nn.student_t_nll(zero, y, df=np.array(3.0))
    g = nm.grad(lambda df: nn.student_t_nll(zero, y, df=df, full=True, reduction="sum"))(
        np.array(3.0)
    )
    h = 1e-5
    ends = [-scipy.stats.t.logpdf(y, 3.0 + d).sum() for d in (-h, h)]
    assert abs(g - (ends[1] - ends[0]) / (2 * h)) <= 1e-6


def test_losses_are_saved_and_loaded(tmp_path, rng):
    weighted = nn.softmax_cross_entropy.replace(
        class_weights=np.array([1.0, 2.0]), ignore_label=-1, reduction="mean"
    )
    tree = {"a": weighted, "b": nn.gaussian_nll.replace(sigma=np.array(0.3)), "c": nn.huber}
    nm.save(tmp_path / "losses.npz", tree)
    back = nm.load(tmp_path / "losses.npz")
    assert repr(back) == repr(tree)
    z, y = rng.standard_normal((3, 2)), np.array([0, -1, 1])
    assert back["a"](z, y) == weighted(z, y)
    assert back["b"](z[:, 0], z[:, 1])[0] == tree["b"](z[:, 0], z[:, 1])[0]


def test_a_model_holds_its_loss(rng):
    model = {
        "net": nn.MLP.init((3, 2), rng=0),
        "loss": nn.gaussian_nll.replace(sigma=np.array(1.0)),
    }
    x, y = rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    g = nm.grad(lambda m: m["loss"](m["net"](x), y, reduction="mean"))(model)
    assert g["loss"].sigma.shape == ()
    nm.check_grads(lambda m: m["loss"](m["net"](x), y, reduction="mean"), (model,))


def test_options_are_replaced_by_name():
    loss = nn.softmax_cross_entropy.replace(label_smoothing=0.1, reduction="mean")
    assert repr(loss) == "softmax_cross_entropy(reduction='mean', label_smoothing=0.1)"
    assert repr(nn.softmax_cross_entropy) == "softmax_cross_entropy"
    assert loss.replace(label_smoothing=0.0).reduction == "mean"
    assert nn.gaussian_nll.replace(sigma=np.float32(0.5)).sigma == 0.5
    with pytest.raises(
        DomainError,
        match=r"huber\.replace: `options` must be one of 'reduction', 'delta', got 'detla'",
    ):
        nn.huber.replace(detla=2.0)
    with pytest.raises(AttributeError):
        nn.huber.delta = 3.0


# ------------------------------------------------------------------------- transformations of both
@pytest.mark.parametrize("name", CLOSED)
def test_derivatives_are_right_to_second_order_in_both_modes(name, rng):
    """In the prediction, in targets that are floats, and in the options that are learnt."""
    loss, p, t = problem(name, rng)
    arguments = (loss, p)
    f = lambda loss, p: loss(p, t, reduction="sum")  # noqa: E731
    if np.asarray(t).dtype.kind == "f" and not name.startswith(("binary", "rows")):
        arguments = (loss, p, t)
        f = lambda loss, p, t: loss(p, t, reduction="sum")  # noqa: E731
    nm.check_grads(f, arguments, points=1)


@pytest.mark.parametrize("name", ["gaussian", "laplace", "student", "crps"])
def test_a_batch_of_scales_is_mapped(name, rng):
    loss, p, t = problem(name, rng)
    option = "sigma" if name in ("gaussian", "crps") else "scale"
    scales = np.array([0.5, 1.0, 2.0])
    mapped = nm.vmap(lambda s: loss(p, t, **{option: s}))(scales)
    each = np.stack([loss(p, t, **{option: float(s)}) for s in scales])
    assert_close(mapped, each, 64 * EPS * (1 + np.abs(each)))
    with pytest.raises(DomainError, match=f"`{option}` must be > 0, got -1 at index 1"):
        nm.vmap(lambda s: loss(p, t, **{option: s}))(np.array([0.5, -1.0, 2.0]))
    losses = loss.replace(**{option: scales})
    mapped = nm.vmap(lambda loss: loss(p, t))(losses)
    assert_close(mapped, each, 64 * EPS * (1 + np.abs(each)))


def test_a_batch_of_class_weights_is_mapped(rng):
    z, y = rng.standard_normal((4, 3)), rng.integers(0, 3, 4)
    weights = rng.uniform(0.5, 2.0, (5, 3))
    f = nn.softmax_cross_entropy.replace(reduction="mean")
    mapped = nm.vmap(lambda w: f(z, y, class_weights=w))(weights)
    each = np.array([f(z, y, class_weights=w) for w in weights])
    assert_close(mapped, each, 32 * EPS)


def test_losses_are_summed_in_a_scan(rng):
    p, t = rng.standard_normal((2, 4, 3))

    def total(p):
        return nm.scan(lambda s, x: (s + nn.huber(x[0], x[1], reduction="sum"), s), 0.0, (p, t))[0]

    assert abs(total(p) - nn.huber(p, t, reduction="sum")) <= 32 * EPS
    assert_close(nm.grad(total)(p), nn.huber.gradient(p, t), 4 * EPS)


@pytest.mark.parametrize("name", ["classes", "rows", "binary", "poisson", "gaussian", "squares"])
def test_the_gauss_newton_product_is_made_of_the_closed_hessian(name, rng):
    """For v -> J' H J v, which for these links is the Fisher product, too."""
    loss, p, t = problem(name, rng)
    x = rng.standard_normal((p.shape[0], 5))
    w, v = rng.standard_normal((2, 5, p.shape[1]))
    predict = lambda w: np.tanh(x @ w)  # noqa: E731
    got = nm.ggnvp(predict, lambda z: loss(z, t, reduction="sum"), w, v)
    z = predict(w)
    jv = (1 - z**2) * (x @ v)
    h = loss.fisher(z)
    hjv = np.einsum("nij,nj->ni", h, jv) if h.ndim > z.ndim else h * jv
    want = x.T @ ((1 - z**2) * hjv)
    assert_close(got, want, 1e3 * EPS)


def test_options_do_not_promote_and_are_named():
    p, t = np.ones(2, np.float32), np.zeros(2, np.float32)
    assert nn.huber(p, t, delta=np.float64(0.5)).dtype == np.float32
    assert nn.gaussian_nll(p, t, sigma=np.float64(0.5)).dtype == np.float32
    smooth = nn.softmax_cross_entropy.replace(label_smoothing=np.float64(0.1))
    assert smooth(p[None], np.array([0])).dtype == np.float32
    assert "labels mixed with 0.1 of the uniform" in smooth.likelihood
    weighted = nn.binary_cross_entropy.replace(pos_weight=2.0, label_smoothing=0.2)
    assert weighted.likelihood.endswith("0.2 of one half, a target of 1 counted pos_weight times")
    # None at the call leaves the option as it is
    assert nn.huber.replace(delta=0.5)(p, t, delta=None)[0] == np.float32(0.375)
