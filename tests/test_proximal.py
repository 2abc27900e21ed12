"""Proximal gradient and FISTA: closed forms, optimality conditions, exact zeros, rates, complaints."""

import math

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import ConvergenceError, DomainError, DtypeError

nn = nm.nn
METHODS = [nm.optim.proximal_gradient, nm.optim.fista]
EPS = np.finfo(np.float64).eps


@pytest.fixture
def rng():
    return np.random.default_rng(20261126)


def lasso(rng, n=60, p=25, noise=0.1):
    x = rng.standard_normal((n, p))
    w = np.zeros(p)
    w[:4] = [2.0, -1.0, 0.5, 3.0]
    return x, x @ w + noise * rng.standard_normal(n)


def soft(w, t):
    return np.sign(w) * np.maximum(np.abs(w) - t, 0.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lasso_of_an_orthogonal_design_is_soft_thresholding(method, dtype, rng):
    n, p, strength = 50, 12, 0.3
    q = np.linalg.qr(rng.standard_normal((n, p)))[0] * math.sqrt(n)  # x'x = n
    y = q @ rng.standard_normal(p) + 0.1 * rng.standard_normal(n)
    x, y = q.astype(dtype), y.astype(dtype)
    loss = nn.mean_squared_error.replace(reduction="mean")
    found = method(lambda w: loss(x @ w, y), np.zeros(p, dtype), nn.l1(strength))
    # the loss is (w - x'y / n)^2 but for a constant: half of the strength is the threshold
    want = soft(q.T @ y.astype(float) / n, strength / 2)
    eps = np.finfo(dtype).eps
    # the residual bounds the error by the curvature, which is 2
    assert np.max(np.abs(found.params - want)) <= found.residual + 64 * eps
    assert found.params.dtype == dtype
    assert np.array_equal(found.params == 0, want == 0)
    assert 0 < found.zeros < p
    assert found.zeros == np.count_nonzero(want == 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "penalty", [nn.l1(0.2), nn.elastic_net(l1=0.2, l2=0.1), nn.l2(0.3)], ids=repr
)
def test_the_point_found_satisfies_the_optimality_conditions(method, penalty, rng):
    x, y = lasso(rng)

    def loss(w):
        return nn.mean_squared_error(x @ w, y, reduction="mean")

    found = method(loss, np.zeros(25), penalty, gtol=1e-9)
    w = found.params
    g = 2 / len(y) * x.T @ (x @ w - y) + 2 * penalty.square * w  # by hand
    active = w != 0
    assert found.residual <= 1e-9
    # by the residual, whose own rounding is eps / s
    tol = 1e-9 * (1 + 4 * penalty.square) + 64 * EPS / found.step
    assert np.all(np.abs(g[active] + penalty.absolute * np.sign(w[active])) <= tol)
    assert np.all(np.abs(g[~active]) <= penalty.absolute + tol)
    assert found.zeros == np.count_nonzero(~active)
    assert abs(found.value - (loss(w) + penalty(w))) <= 8 * EPS * found.value
    if not penalty.absolute:
        want = np.linalg.solve(x.T @ x / len(y) + penalty.square * np.eye(25), x.T @ y / len(y))
        assert np.max(np.abs(w - want)) <= 1e-8


def test_both_methods_agree_and_acceleration_is_faster(rng):
    x, y = lasso(rng, n=40, p=30)
    x = x * np.geomspace(1, 0.03, 30)  # ill conditioned

    def loss(w):
        return nn.mean_squared_error(x @ w, y, reduction="mean")

    slow, fast = (m(loss, np.zeros(30), nn.l1(1e-3), gtol=1e-7, max_steps=100_000) for m in METHODS)
    assert abs(slow.value - fast.value) <= 1e-9
    assert np.max(np.abs(slow.params - fast.params)) <= 1e-2
    assert fast.iterations * 2 < slow.iterations


def test_values_stay_under_the_bound_of_the_rate(rng):
    """F(w_t) - F* <= 2 L |w0 - w*|^2 / (t + 1)^2, with the backtracked L at most twice the true one."""
    x, y = lasso(rng, n=20, p=40)

    def loss(w):
        return nn.mean_squared_error(x @ w, y, reduction="mean")

    penalty = nn.l1(0.05)
    best = nm.optim.fista(loss, np.zeros(40), penalty, gtol=1e-10)
    constant = 2 * np.linalg.norm(x, 2) ** 2 / 20
    for steps in (1, 2, 5, 10, 20):
        with pytest.raises(ConvergenceError) as stopped:
            nm.optim.fista(loss, np.zeros(40), penalty, gtol=1e-14, max_steps=steps)
        partial = stopped.value.partial
        assert partial.iterations == steps
        bound = 2 * (2 * constant) * np.sum(best.params**2) / (steps + 1) ** 2
        assert -1e-12 <= partial.value - best.value <= bound


def test_gradient_descent_does_not_reach_the_zeros_that_fista_has(rng):  # P08
    x, y = lasso(rng)
    loss = nn.mean_squared_error.replace(reduction="mean")
    penalty = nn.l1(prior_scale=0.05, examples=60)

    def objective(w):
        return loss(x @ w, y) + penalty(w)

    found = nm.optim.fista(lambda w: loss(x @ w, y), np.zeros(25), penalty)
    assert found.zeros == 21
    assert np.flatnonzero(found.params).tolist() == [0, 1, 2, 3]
    opt = nm.optim.gradient_descent(0.02)
    w = 0.1 * rng.standard_normal(25)
    state = opt.init(w)
    for _ in range(3000):
        w, state = opt.step(w, nm.grad(objective)(w), state)
    assert np.count_nonzero(w == 0) == 0
    small = np.abs(w[4:])
    assert 0 < small.max() < 0.05  # near, and never there
    assert objective(found.params) < objective(w)
    # with L2 nothing is zero, by whatever method
    ridge = nm.optim.fista(lambda w: loss(x @ w, y), np.zeros(25), nn.l2(0.1))
    assert ridge.zeros == 0


def test_a_model_is_trained_to_be_sparse(rng):
    x = rng.standard_normal((80, 10))
    y = (x[:, 0] - x[:, 1] > 0).astype(int)
    model = nn.Dense.init((10, 2), rng=0)

    def loss(m):
        return nn.softmax_cross_entropy(m(x), y, reduction="mean")

    only = nn.l1(0.05, only=lambda path: path.endswith("weight"))
    found = nm.optim.fista(loss, model, only)
    assert isinstance(found.params, nn.Dense)
    used = np.flatnonzero(np.any(found.params.weight != 0, axis=1))
    assert used.tolist() == [0, 1]
    assert np.mean(found.params(x).argmax(axis=1) == y) > 0.9


def test_huge_and_tiny_curvatures_need_no_tuning():
    for scale in (1e-6, 1.0, 1e8):
        for method in METHODS:
            found = method(
                lambda w, s=scale: 0.5 * s * np.sum((w - 2.0) ** 2),
                np.zeros(3),
                nn.l1(0.5 * scale),
                gtol=1e-6 * scale,
            )
            assert np.max(np.abs(found.params - 1.5)) <= 2e-6


def test_a_start_at_the_minimum_stays_there():
    for method in METHODS:
        found = method(lambda w: 0.5 * np.sum(w**2), np.zeros(3), nn.l1(1.0))
        assert (found.iterations, found.residual, found.zeros) == (0, 0.0, 3)


class Box:
    """The indicator of a box, of which the proximal step is the projection."""

    def __call__(self, w):
        return 0.0

    def proximal(self, w, step):
        return np.clip(w, 0.0, 1.0)


def test_a_penalty_of_your_own_is_a_constraint(rng):
    q = rng.standard_normal((6, 4))
    b = 3 * rng.standard_normal(6)
    import scipy.optimize

    want = scipy.optimize.lsq_linear(q, b, (0, 1), tol=1e-14).x
    for method in METHODS:
        found = method(lambda w: 0.5 * np.sum((q @ w - b) ** 2), np.full(4, 0.5), Box(), gtol=1e-10)
        assert np.max(np.abs(found.params - want)) <= 1e-8


def quadratic(w):
    return 0.5 * np.sum(w**2)


BAD = {
    "f": (lambda m: m(3, np.zeros(2), nn.l1(1.0)), DtypeError, "`f` must be callable"),
    "penalty": (
        lambda m: m(quadratic, np.zeros(2), 0.1),
        DtypeError,
        "`penalty` must be a penalty with",
    ),
    "penalty function": (
        lambda m: m(quadratic, np.zeros(2), np.sum),
        DtypeError,
        "`penalty` must be a penalty with",
    ),
    "step": (
        lambda m: m(quadratic, np.zeros(2), nn.l1(1.0), step=0.0),
        DomainError,
        "`step` must be a finite number > 0",
    ),
    "gtol": (
        lambda m: m(quadratic, np.zeros(2), nn.l1(1.0), gtol=0.0),
        DomainError,
        "`gtol` must be a number > 0",
    ),
    "max_steps": (
        lambda m: m(quadratic, np.zeros(2), nn.l1(1.0), max_steps=0),
        DomainError,
        "`max_steps` must be a positive",
    ),
    "integers": (
        lambda m: m(quadratic, np.zeros(2, int), nn.l1(1.0)),
        DtypeError,
        "`params` must be arrays of floats",
    ),
    "start": (
        lambda m: m(lambda w: np.sum(w) / 0.0 * np.inf, np.ones(2), nn.l1(1.0)),
        DomainError,
        "must be finite at the start",
    ),
    "steps": (
        lambda m: m(quadratic, np.full(2, 5.0), nn.l2(0.1), step=1e-3, max_steps=3),
        ConvergenceError,
        "after 3 steps, the tolerance",
    ),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case, method):
    f, error, words = BAD[case]
    with np.errstate(all="ignore"), pytest.raises(error, match=words):
        f(method)
