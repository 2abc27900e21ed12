"""Regularisers as priors: their densities, their scales, maximum a posteriori; and what a loss assumes, in words."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError

nn = nm.nn
EPS = np.finfo(np.float64).eps


@pytest.fixture
def rng():
    return np.random.default_rng(20261126)


@pytest.mark.parametrize("n", [None, 1, 250])
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_l2_is_a_normal_prior_of_the_scale_that_it_says(scale, n, rng):  # P06
    r = nn.l2(prior_scale=scale, examples=n)
    assert abs(r.square - 1 / (2 * scale**2 * (n or 1))) <= 4 * EPS * r.square
    assert abs(r.prior_scale(examples=n) - scale) <= 4 * EPS * scale
    w = rng.standard_normal(7)
    want = scipy.stats.norm(0, scale).logpdf(w).sum()
    assert abs(r.log_prior(w, examples=n) - want) <= 64 * EPS * (7 + abs(want))
    assert r.prior(examples=n) == f"normal(mean=0, scale={scale:.6g})"


@pytest.mark.parametrize("n", [None, 1, 250])
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_l1_is_a_laplace_prior_of_the_scale_that_it_says(scale, n, rng):  # P07
    r = nn.l1(prior_scale=scale, examples=n)
    assert abs(r.absolute - 1 / (scale * (n or 1))) <= 4 * EPS * r.absolute
    assert abs(r.prior_scale(examples=n) - scale) <= 4 * EPS * scale
    w = rng.standard_normal(7)
    want = scipy.stats.laplace(0, scale).logpdf(w).sum()
    assert abs(r.log_prior(w, examples=n) - want) <= 64 * EPS * (7 + abs(want))
    assert r.prior(examples=n) == f"laplace(mean=0, scale={scale:.6g})"


@pytest.mark.parametrize(("a", "c"), [(1.0, 0.5), (3.0, 0.01), (0.01, 2.0), (40.0, 1e-4)])
def test_the_prior_of_an_elastic_net_is_a_density(a, c):
    r = nn.elastic_net(l1=a, l2=c)
    half, error = scipy.integrate.quad(
        lambda w: math.exp(float(r.log_prior(np.array([w])))),
        0,
        60 / max(a, math.sqrt(c)),
        limit=200,
    )
    assert abs(2 * half - 1) <= 1e-10 + 2 * error
    assert "proportional to exp(-" in r.prior()
    with pytest.raises(DomainError, match="`prior_scale` of an elastic net is not one number"):
        r.prior_scale()


def test_a_regularizer_is_a_number_and_its_gradient(rng):
    tree = {"weight": rng.standard_normal((3, 2)), "bias": rng.standard_normal(2)}
    r = nn.elastic_net(l1=0.3, l2=0.7)
    flat = np.concatenate([tree["bias"], tree["weight"].ravel()])
    want = 0.3 * np.abs(flat).sum() + 0.7 * np.square(flat).sum()
    assert abs(r(tree) - want) <= 16 * EPS * want
    g = nm.grad(r)(tree)
    for name in tree:
        expected = 0.3 * np.sign(tree[name]) + 1.4 * tree[name]
        assert np.max(np.abs(g[name] - expected)) <= 8 * EPS
    nm.check_grads(r, (tree,))
    only = nn.l2(0.5, only=lambda path: "weight" in path)
    assert abs(only(tree) - 0.5 * np.square(tree["weight"]).sum()) <= 16 * EPS
    assert np.all(nm.grad(only)(tree)["bias"] == 0)
    assert np.array_equal(only.proximal(tree, 1.0)["bias"], tree["bias"])
    assert np.array_equal(only.proximal(tree, 1.0)["weight"], tree["weight"] / 2)
    single = {"w": tree["weight"].astype(np.float32)}
    assert r(single).dtype == np.float32
    assert r.proximal(single, 0.1)["w"].dtype == np.float32
    staged = nm.stage(r, tree)
    assert abs(staged(tree) - want) <= 16 * EPS * want


def test_buffers_are_not_regularised(rng):
    loss = nn.softmax_cross_entropy.replace(class_weights=np.full(3, 5.0))
    model = {"loss": loss, "w": np.array([2.0])}
    assert nn.l2(1.0)(model) == 4.0


@pytest.mark.parametrize("r", [nn.l1(0.7), nn.l2(0.7), nn.elastic_net(l1=0.7, l2=0.2)], ids=repr)
def test_a_proximal_step_is_the_minimum_that_defines_it(r):
    step = 0.6
    for w in (-2.0, -0.3, 0.0, 0.41, 0.43, 5.0):
        got = r.proximal(np.array([w]), step)[0]

        def objective(x, w=w):
            return float(r(np.array([x]))) + (x - w) ** 2 / (2 * step)

        found = scipy.optimize.minimize_scalar(objective, bounds=(-6, 6), options={"xatol": 1e-10})
        # the minimum of a function known to eps is known to its root
        assert abs(got - found.x) <= 1e-6
        assert objective(got) <= found.fun + 4 * EPS
    assert np.signbit(nn.l1(1.0).proximal(np.array([-0.5, 0.5]), 1.0)).tolist() == [False, False]


def test_the_penalised_mean_loss_is_the_posterior(rng):  # P05
    """Lambda = 1 / (2 sigma^2 n): n times the penalised mean is -log p(data, w), but for a constant."""
    n, noise, prior = 40, 0.3, 0.8
    x, y = rng.standard_normal((n, 3)), rng.standard_normal(n)
    loss = nn.gaussian_nll.replace(sigma=noise, reduction="mean", full=True)
    r = nn.l2(prior_scale=prior, examples=n)

    def objective(w):
        return loss(x @ w, y) + r(w)

    def minus_log_joint(w):
        data = scipy.stats.norm(x @ w, noise).logpdf(y).sum()
        return -data - scipy.stats.norm(0, prior).logpdf(w).sum()

    points = rng.standard_normal((5, 3))
    rest = [minus_log_joint(w) - n * objective(w) for w in points]
    assert np.ptp(rest) <= 1e-12 * np.abs([minus_log_joint(w) for w in points]).max()
    assert abs(rest[0] - 1.5 * math.log(2 * math.pi * prior**2)) <= 1e-11
    # ridge regression in closed form is where the gradient vanishes
    w = np.linalg.solve(x.T @ x / noise**2 + np.eye(3) / prior**2, x.T @ y / noise**2)
    assert np.max(np.abs(nm.grad(objective)(w))) <= 1e-13
    # a strength that forgets the n is another prior, and another minimum
    wrong = nn.l2(prior_scale=prior)
    assert np.max(np.abs(nm.grad(lambda w: loss(x @ w, y) + wrong(w))(w))) > 0.1


def test_laplace_prior_and_mean_loss(rng):  # P05 with P07
    n = 30
    x, y = rng.standard_normal((n, 2)), rng.standard_normal(n)
    loss = nn.gaussian_nll.replace(reduction="mean")
    r = nn.l1(prior_scale=0.2, examples=n)
    a, b = rng.standard_normal((2, 2))
    got = n * (loss(x @ a, y) + r(a) - loss(x @ b, y) - r(b))
    log = [
        scipy.stats.norm(x @ w, 1.0).logpdf(y).sum() + scipy.stats.laplace(0, 0.2).logpdf(w).sum()
        for w in (a, b)
    ]
    assert abs(got - (log[1] - log[0])) <= 1e-11


def test_logistic_regression_agrees_with_scikit_learn():  # P04, P05, P06
    """The mode of the posterior on the breast-cancer data: Newton's method here, scikit-learn's there."""
    datasets = pytest.importorskip("sklearn.datasets")
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = datasets.load_breast_cancer(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    prior = nn.l2(prior_scale=0.5, only=lambda path: path == ".weight")

    def objective(m):
        return nn.binary_cross_entropy(m(x)[:, 0], y, reduction="sum") + prior(m)

    flat, unravel = nm.ravel_tree(nn.Dense(np.zeros((30, 1)), np.zeros(1)))
    f = lambda flat: objective(unravel(flat))  # noqa: E731
    for _ in range(12):
        flat = flat - np.linalg.solve(nm.hessian(f)(flat), nm.grad(f)(flat))
    assert np.max(np.abs(nm.grad(f)(flat))) <= 1e-11
    model = unravel(flat)
    peer = linear_model.LogisticRegression(
        C=0.25, solver="newton-cholesky", tol=1e-12, max_iter=200
    )
    peer.fit(x, y)  # its penalty is |w|^2 / (2 C), so that C is the variance of the prior
    assert np.max(np.abs(model.weight[:, 0] - peer.coef_[0])) <= 1e-8
    assert abs(model.bias[0] - peer.intercept_[0]) <= 1e-8


# -------------------------------------------------------------------------------- explanations
def test_an_explanation_says_what_a_loss_assumes():
    text = str(nn.explain_loss(nn.softmax_cross_entropy))
    assert text.startswith("softmax_cross_entropy\n")
    for words in (
        "categorical(logits=prediction)",
        "softmax",
        "nats",
        "maximum likelihood",
        "0: the value is -log p",
    ):
        assert words in text
    loss = nn.gaussian_nll.replace(reduction="mean", full=True)
    found = nn.explain_loss(loss, regularizer=nn.l2(prior_scale=0.5, examples=100), examples=100)
    assert found.prior == "normal(mean=0, scale=0.5), from l2(0.02)"
    assert found.constant == "log(2 * pi) / 2, added"
    assert "lambda = 1 / (2 sigma^2 n)" in found.reduction
    assert (
        nn.explain_loss(loss, regularizer=nn.l1(0.1)).prior
        == "laplace(mean=0, scale=1 / (0.1 * n)), from l1(0.1)"
    )
    assert nn.explain_loss(loss, regularizer=nn.l2(0.1)).prior.startswith(
        "normal(mean=0, scale=sqrt(1 / (2 * 0.1 * n)))"
    )
    total = loss.replace(reduction="sum")
    assert (
        nn.explain_loss(total, regularizer=nn.l2(0.5)).prior
        == "normal(mean=0, scale=1), from l2(0.5)"
    )
    each = nn.explain_loss(loss.replace(reduction="none"), regularizer=nn.l1(0.5)).prior
    assert each.startswith("laplace(mean=0, scale=2) where the examples are summed")
    both = nn.explain_loss(loss, regularizer=nn.elastic_net(l1=0.5, l2=0.1)).prior
    assert both.startswith("proportional to exp(-n (|w| * 0.5 + w**2 * 0.1))")
    hinge = nn.explain_loss(nn.hinge, regularizer=nn.l2(0.1))
    assert hinge.likelihood is None
    assert hinge.prior == "none, the loss is no likelihood: l2(0.1) is a penalty"
    assert "likelihood: none" in str(hinge)


@pytest.mark.parametrize("name", [n for n in nn.__all__ if isinstance(getattr(nn, n), nn.Loss)])
def test_every_loss_explains_itself(name):
    loss = getattr(nn, name)
    assert loss.__name__ == name
    for reduction in ("none", "sum", "mean"):
        found = nn.explain_loss(loss.replace(reduction=reduction))
        assert found.unit
        assert found.link in ("identity", "log", "logit", "softmax")
        assert str(found).count("\n") >= 6
    assert (loss.likelihood is None) == ("no likelihood" in loss.constant)


# ----------------------------------------------------------------------------------- bad input
BAD = {
    "both": (
        lambda: nn.l2(0.1, prior_scale=1.0),
        DomainError,
        "`strength` and `prior_scale` say the same",
    ),
    "neither": (
        lambda: nn.l1(),
        DtypeError,
        "l1: `strength` must be a finite number >= 0, got None. Or give",
    ),
    "negative": (
        lambda: nn.l2(-0.1),
        DomainError,
        "`strength` must be a finite number >= 0, got -0.1",
    ),
    "scale 0": (
        lambda: nn.l1(prior_scale=0.0),
        DomainError,
        "`prior_scale` must be a finite number > 0",
    ),
    "n beside a strength": (
        lambda: nn.l2(0.1, examples=5),
        DomainError,
        "`examples` must be None beside a strength, got 5",
    ),
    "n 0": (
        lambda: nn.l2(prior_scale=1.0, examples=0),
        DomainError,
        "`examples` must be a positive integer",
    ),
    "only chooses nothing": (
        lambda: nn.l2(0.1, only=lambda path: path.endswith("kernel"))({"weight": np.ones(2)}),
        DomainError,
        r"`only` must choose a leaf .* Their paths are \['weight'\]",
    ),
    "only no callable": (lambda: nn.l2(0.1, only="weight"), DtypeError, "`only` must be callable"),
    "net negative": (
        lambda: nn.elastic_net(1.0, -1.0),
        DomainError,
        "elastic_net: `l2` must be a finite number >= 0",
    ),
    "flat prior": (
        lambda: nn.l2(0.0).log_prior(np.ones(2)),
        DomainError,
        "strength 0 has no density",
    ),
    "no loss": (
        lambda: nn.explain_loss(len),
        DtypeError,
        "explain_loss: `loss` must be a Loss, got `len`",
    ),
    "no regularizer": (
        lambda: nn.explain_loss(nn.huber, regularizer=0.1),
        DtypeError,
        "`regularizer` must be a Regularizer",
    ),
    "no examples": (
        lambda: nn.explain_loss(nn.huber, examples=0),
        DomainError,
        "`examples` must be a positive integer",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case):
    f, error, words = BAD[case]
    with pytest.raises(error, match=words.replace("(", r"\(").replace(")", r"\)")):
        f()
