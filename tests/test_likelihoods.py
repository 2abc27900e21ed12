"""Losses as likelihoods: densities with their constants, Fisher information, samples, links, known numbers."""

import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from loss_cases import CLOSED, EPS, assert_close, problem

import nnmath_core as nm
from nnmath_core.errors import DomainError

nn = nm.nn


@pytest.fixture
def rng():
    return np.random.default_rng(20261126)


# ------------------------------------------------------------------------------- likelihoods
def density(name, loss, p):
    """The distribution of SciPy that a target of each entry has."""
    stats = scipy.stats
    if name.startswith("gaussian"):
        if not isinstance(p, tuple):
            return stats.norm(p, loss.sigma)
        second = {"log_scale": np.exp, "scale": np.asarray, "variance": np.sqrt}[loss.spread](p[1])
        return stats.norm(p[0], second)
    if name.startswith("laplace"):
        return stats.laplace(p, loss.scale)
    if name.startswith("student"):
        return stats.t(loss.df, p, loss.scale)
    if name == "poisson":
        return stats.poisson(np.exp(p))
    if name == "binary":
        return stats.bernoulli(1 / (1 + np.exp(-p)))
    return stats.norm(p, math.sqrt(math.prod(p.shape[1:]) / 2))


DENSITIES = [
    n for n in CLOSED if n.startswith(("gaussian", "laplace", "student", "squares", "poisson"))
] + ["binary"]


@pytest.mark.parametrize("name", DENSITIES)
def test_with_the_constant_a_likelihood_is_minus_log_p(name, rng):
    loss, p, t = problem(name, rng)
    t = np.round(t).astype(int) if name == "binary" else t
    d = density(name, loss, p)
    want = -(d.logpmf(t) if name in ("poisson", "binary") else d.logpdf(t))
    want = want.sum(axis=tuple(range(1, want.ndim))) if name == "squares" else want
    got = loss(p, t, full=True)
    # SciPy's own densities are good to some 50 eps
    assert_close(got, want, 256 * EPS * (1 + np.abs(want)))


def test_with_the_constant_a_likelihood_is_minus_ours(rng):
    p, t = rng.standard_normal((2, 5))
    n = rng.poisson(3.0, 5)
    table = [
        (nn.gaussian_nll.replace(sigma=0.3), p, t, nm.stats.norm.logpdf(t, p, 0.3)),
        (nn.laplace_nll.replace(scale=0.3), p, t, nm.stats.laplace.logpdf(t, p, 0.3)),
        (nn.student_t_nll.replace(df=3.0, scale=0.3), p, t, nm.stats.t.logpdf(t, 3.0, p, 0.3)),
        (nn.poisson_nll, p, n, nm.stats.poisson.logpmf(n, np.exp(p))),
        (nn.binary_cross_entropy, p, n % 2, nm.stats.bernoulli.logpmf(n % 2, nm.special.expit(p))),
    ]
    for loss, prediction, target, log_p in table:
        got = loss(prediction, target, full=True)
        assert_close(got, -log_p, 64 * EPS * (1 + np.abs(log_p)))


def test_cross_entropy_is_the_categorical_likelihood(rng):  # P03
    z, y = rng.standard_normal((6, 5)), rng.integers(0, 5, 6)
    one_hot = np.eye(5)[y]
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    want = [-scipy.stats.multinomial.logpmf(o, 1, q) for o, q in zip(one_hot, p, strict=True)]
    assert_close(nn.softmax_cross_entropy(z, y, full=True), np.array(want), 256 * EPS)
    assert_close(nn.softmax_cross_entropy.inverse_link(z), p, 8 * EPS)


def test_binary_cross_entropy_is_the_bernoulli_likelihood(rng):  # P04
    z, y = rng.standard_normal(7), rng.integers(0, 2, 7)
    want = -scipy.stats.bernoulli.logpmf(y, 1 / (1 + np.exp(-z)))
    assert_close(nn.binary_cross_entropy(z, y), want, 64 * EPS)
    # two classes with the logits 0 and z are the same likelihood
    two = np.stack([np.zeros(7), z], axis=-1)
    assert_close(nn.softmax_cross_entropy(two, y), want, 64 * EPS)


@pytest.mark.parametrize("sigma", [0.2, 1.0, 3.0])
def test_squares_are_the_gaussian_likelihood_with_sigma_and_constant(sigma, rng):  # P02
    p, y = rng.standard_normal((2, 6, 3))
    d = 3
    nll = nn.gaussian_nll(p, y, sigma=sigma, full=True).sum(axis=1)
    squares = nn.mean_squared_error(p, y)
    want = d * squares / (2 * sigma**2) + d / 2 * math.log(2 * math.pi * sigma**2)
    assert_close(nll, want, 64 * EPS * (1 + want))
    same = nn.gaussian_nll(p, y, sigma=math.sqrt(d / 2), full=True).sum(axis=1)
    assert_close(nn.mean_squared_error(p, y, full=True), same, 64 * EPS * (1 + same))


def test_training_is_maximum_likelihood(rng):  # P01
    """The minimum of the summed loss over mean and log-scale is the maximum likelihood estimate of a normal sample."""
    y = rng.normal(3.0, 2.0, 50)

    def total(m, s):
        return nn.gaussian_nll((m + 0 * y, s + 0 * y), y, reduction="sum", full=True)

    mean, spread = y.mean(), math.log(y.std())
    gradient = nm.grad(total, (0, 1))(mean, spread)
    assert np.all(np.abs(gradient) <= 64 * EPS * y.size)
    curvature = nm.hessian(lambda p: total(p[0], p[1]))(np.array([mean, spread]))
    assert np.linalg.eigvalsh(curvature)[0] > 0
    assert abs(total(mean, spread) + scipy.stats.norm(mean, y.std()).logpdf(y).sum()) <= 1e-12
    # the observed information is the expected one there: n / sigma^2 and 2 n
    want = np.diag([y.size / y.var(), 2 * y.size])
    assert_close(curvature, want, 1e-12 * y.size)


NODES = np.polynomial.legendre.leggauss(1000)


def expected(name, loss, p, h):
    """E h(y) of each entry when the targets follow the likelihood, by quadrature or by sums."""
    d = density(name, loss, p)
    shape = (p[0] if isinstance(p, tuple) else p).shape
    if name in ("poisson", "binary"):
        counts = range(120 if name == "poisson" else 2)
        return sum(d.pmf(np.full(shape, k)) * h(np.full(shape, k)) for k in counts)
    centre = p[0] if isinstance(p, tuple) else p
    # y = centre + tan(u), u at Gauss-Legendre nodes: all of the line
    u, w = NODES
    u, w = (x.reshape(-1, *(1 for _ in shape)) * np.pi / 2 for x in (u, w))
    y = centre + np.tan(u)
    return np.sum(w / np.cos(u) ** 2 * d.pdf(y) * h(y), axis=0)


SMOOTH = [n for n in DENSITIES if not n.startswith("laplace") and n != "squares of one"]


@pytest.mark.parametrize("name", SMOOTH)
def test_fisher_is_the_expected_hessian(name, rng):
    loss, p, _ = problem(name, rng)
    tol = 1e-6 if name.startswith("student") else 1e-10  # a slow tail under the quadrature
    fisher = loss.fisher(p)
    if name.startswith("squares"):
        assert_close(fisher, loss.hessian(p, p), 0)
        return
    if not isinstance(p, tuple):
        want = expected(name, loss, p, lambda y: loss.hessian(np.broadcast_to(p, y.shape), y))
        assert_close(fisher, want, tol * (1 + np.abs(want)))
        return
    for i, j in itertools.product(range(2), repeat=2):
        want = expected(
            name,
            loss,
            p,
            lambda y, i=i, j=j: loss.hessian(tuple(np.broadcast_to(x, y.shape) for x in p), y)[i][
                j
            ],
        )
        assert_close(fisher[i][j], want, tol * (1 + np.abs(want)))


@pytest.mark.parametrize("name", ["laplace", "quantile", "quantile, levels", "gaussian", "student"])
def test_fisher_is_the_expected_square_of_the_gradient(name, rng):
    loss, p, _ = problem(name, rng)
    fisher = loss.fisher(p)
    n = 50_000
    wide = np.broadcast_to(p, (n, *p.shape))
    y = loss.sample(nm.random.key(3), np.ascontiguousarray(wide))
    squares = np.square(loss.gradient(wide, y))
    want, error = squares.mean(axis=0), squares.std(axis=0) / math.sqrt(n)
    assert_close(fisher, want, 5 * error + 1e-9)  # the sum of equal squares has its roundings


def test_fisher_of_classes_is_the_expected_hessian(rng):
    z = rng.standard_normal((3, 4))
    s = nm.special.softmax(z, axis=-1)
    for loss in (
        nn.softmax_cross_entropy,
        nn.softmax_cross_entropy.replace(label_smoothing=0.3),
        nn.softmax_cross_entropy.replace(
            class_weights=np.array([1.0, 0.5, 2.0, 0.0]), label_smoothing=0.1
        ),
    ):
        want = sum(s[:, k, None, None] * loss.hessian(z, np.full(3, k)) for k in range(4))
        assert_close(loss.fisher(z), want, 32 * EPS)
    mean = nn.softmax_cross_entropy.replace(reduction="mean")
    assert_close(mean.fisher(z), nn.softmax_cross_entropy.fisher(z) / 3, EPS)
    z = rng.standard_normal((3, 2))
    binary = nn.binary_cross_entropy.replace(pos_weight=3.0, label_smoothing=0.2)
    p = nm.special.expit(z)
    want = p * binary.hessian(z, np.ones((3, 2))) + (1 - p) * binary.hessian(z, np.zeros((3, 2)))
    assert_close(binary.fisher(z), want, 32 * EPS)


@pytest.mark.parametrize(
    "name", ["gaussian", "gaussian, log_scale", "squares", "laplace", "student", "binary"]
)
def test_samples_follow_the_likelihood(name, rng):
    loss, p, _ = problem(name, rng)
    n = 20_000
    wide = nm.tree_map(lambda x: np.ascontiguousarray(np.broadcast_to(x, (n, *x.shape))), p)
    if name == "squares":  # its example is a row: one row at a time
        wide = wide.reshape(-1, p.shape[1])
    y = loss.sample(nm.random.key(7), wide).reshape(n, *(p[0] if isinstance(p, tuple) else p).shape)
    d = density(name, loss, p)
    if name == "binary":
        error = np.sqrt(d.var() / n)
        assert np.all(np.abs(y.mean(axis=0) - d.mean()) <= 5 * error)
        return
    u = d.cdf(y)
    for index in np.ndindex(u.shape[1:]):
        assert scipy.stats.kstest(u[(slice(None), *index)], "uniform").pvalue > 1e-5


def test_samples_of_classes_and_quantiles_follow_the_likelihood(rng):
    z = rng.standard_normal(4)
    y = nn.softmax_cross_entropy.sample(nm.random.key(1), np.broadcast_to(z, (40_000, 4)).copy())
    assert y.dtype.kind == "i"
    s = nm.special.softmax(z)
    share = np.bincount(y, minlength=4) / y.size
    assert np.all(np.abs(share - s) <= 5 * np.sqrt(s * (1 - s) / y.size))
    loss = nn.quantile.replace(level=0.2)
    y = loss.sample(nm.random.key(2), np.full(40_000, 1.5))
    assert abs((y < 1.5).mean() - 0.2) <= 5 * math.sqrt(0.16 / y.size)
    total = scipy.integrate.quad(
        lambda y: math.exp(-loss(1.5, float(y), full=True)), -60, 300, points=[1.5], limit=500
    )[0]
    assert abs(total - 1) <= 1e-5  # what is beyond the ends


def test_inverse_links(rng):
    z = rng.standard_normal((3, 2))
    assert np.array_equal(nn.poisson_nll.inverse_link(z), np.exp(z))
    assert np.array_equal(nn.binary_cross_entropy.inverse_link(z), nm.special.expit(z))
    for loss in (nn.mean_squared_error, nn.gaussian_nll, nn.laplace_nll, nn.student_t_nll):
        assert loss.link == "identity"
        assert np.array_equal(loss.inverse_link(z), z)
    mean, sigma = nn.gaussian_nll.inverse_link((z, z))
    assert np.array_equal(mean, z)
    assert np.array_equal(sigma, np.exp(z))
    links = [nn.poisson_nll.link, nn.binary_cross_entropy.link, nn.softmax_cross_entropy.link]
    assert links == ["log", "logit", "softmax"]


@pytest.mark.parametrize("loss", [nn.huber, nn.hinge, nn.crps_gaussian], ids=repr)
def test_what_is_no_likelihood_says_so(loss):
    assert loss.likelihood is None
    for ask in (
        lambda: loss.fisher(np.zeros(2)),
        lambda: loss.sample(nm.random.key(0), np.zeros(2)),
        lambda: loss.inverse_link(np.zeros(2)),
    ):
        with pytest.raises(DomainError, match=f"^{loss.__name__}: `.*this loss has none. It "):
            ask()


def test_poisson_has_no_sampler():
    with pytest.raises(DomainError, match=r"poisson_nll: `sample` has no sampler of poisson"):
        nn.poisson_nll.sample(nm.random.key(0), np.zeros(2))


# ---------------------------------------------------------------------------- known numbers
def test_softmax_of_one_to_four():
    z, f = np.array([1.0, 2.0, 3.0, 4.0]), nn.softmax_cross_entropy
    want = np.array([0.03205860328, 0.087144318742, 0.23688281809, 0.643914259888])  # twelve digits
    assert_close(f.inverse_link(z), want, 5e-12)
    assert abs(f(z, 3) - (4.440189698561196 - 4)) <= 4 * EPS
    assert abs(np.trace(f.fisher(z)) - 0.5206390700734246) <= 4 * EPS


def test_divergence_of_normals_is_the_expected_difference_of_losses():
    x, w = np.polynomial.hermite_e.hermegauss(40)
    f = nn.gaussian_nll.replace(full=True)
    difference = f(np.full(40, 1.0), x, sigma=2.0) - f(np.zeros(40), x, sigma=1.0)
    assert abs(w @ difference / w.sum() - 0.4431471805599453) <= 64 * EPS


def test_brier_score_is_the_squared_error_of_the_probabilities():
    p, y = np.array([[0.7, 0.2, 0.1]]), np.eye(3)[[0]]
    assert abs(3 * nn.mean_squared_error(p, y)[0] - 0.14) <= 4 * EPS


def test_score_of_the_standard_normal_at_its_mean():
    got = nn.crps_gaussian(np.zeros(1), np.zeros(1))[0]
    assert abs(got - 0.23369497725510915) <= EPS


@pytest.mark.parametrize(
    ("mean", "sigma", "y"), [(0.0, 1.0, 3.0), (1.0, 0.2, 0.5), (-2.0, 3.0, 4.0)]
)
def test_score_is_the_integral_that_defines_it(mean, sigma, y):
    def integrand(x):
        return (scipy.stats.norm.cdf(x, mean, sigma) - (x >= y)) ** 2

    ends = (mean - 12 * sigma - abs(y), y), (y, mean + 12 * sigma + abs(y))
    want = sum(scipy.integrate.quad(integrand, a, b, epsabs=1e-13, limit=400)[0] for a, b in ends)
    assert abs(nn.crps_gaussian(mean, y, sigma=sigma) - want) <= 1e-11


def test_score_tends_to_the_absolute_error():
    y = np.array([-3.0, 1e-3, 500.0])
    assert_close(nn.crps_gaussian(np.zeros(3), y, sigma=1e-9), np.abs(y), 1e-9 * np.ones(3))


def test_quantile_loss_is_least_at_the_quantile(rng):
    y = np.sort(rng.standard_normal(101))
    for level in (0.1, 0.25, 0.5, 0.9):
        f = nn.quantile.replace(level=level, reduction="mean")
        candidates = [f(np.full(101, q), y) for q in y]
        assert y[int(np.argmin(candidates))] == np.quantile(y, level, method="inverted_cdf")


def test_crammer_singer_hinge_is_the_textbook_sum(rng):
    s, y = rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
    want = [max(0, 1 - s[i, y[i]] + max(np.delete(s[i], y[i]))) for i in range(6)]
    assert_close(nn.hinge(s, y, rivals="max"), np.array(want), 4 * EPS)
    t = rng.choice([-1.0, 1.0], (6, 4))
    assert_close(nn.hinge(s, t), np.maximum(0, 1 - t * s), 0)


def test_smooth_l1_is_huber_over_its_delta():
    r = np.array([-2.0, -0.1, 0.0, 0.3, 1.0])
    beta = 0.5
    want = np.where(np.abs(r) < beta, r**2 / (2 * beta), np.abs(r) - beta / 2)
    assert_close(nn.huber(r, np.zeros(5), delta=beta) / beta, want, 2 * EPS)
