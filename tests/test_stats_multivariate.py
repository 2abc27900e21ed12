"""Distributions of vectors: SciPy's values and layouts, closed-form gradients, refusals."""

import math

import numpy as np
import pytest
import scipy.stats

import nnmath_core as nm

EPS = float(np.finfo(float).eps)
RNG = np.random.default_rng(7)
A = RNG.standard_normal((3, 3))
COV = A @ A.T + np.eye(3)
MEAN = RNG.standard_normal(3)
ALPHA = np.array([0.7, 2.0, 3.0])
SIMPLEX = RNG.dirichlet(ALPHA, 5).T


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 4, 3), (1, 3)])
@pytest.mark.parametrize("cov", [COV, np.array([1.0, 2.0, 3.0]), 2.5])
@pytest.mark.parametrize("f", ["logpdf", "pdf"])
def test_normal_of_vectors_has_scipys_values(shape, cov, f):
    x = RNG.standard_normal(shape)
    want = getattr(scipy.stats.multivariate_normal, f)(x, MEAN, cov)
    got = getattr(nm.stats.multivariate_normal, f)(x, MEAN, cov)
    np.testing.assert_allclose(got, want, rtol=64 * EPS * 3)
    assert np.shape(got) == np.shape(want)


@pytest.mark.parametrize(
    ("x", "mean", "cov"),
    [
        (np.array([0.5, 1.0, 2.0]), None, 1),
        (np.array([0.5, 1.0, 2.0]), 0.5, 2.0),
        (1.5, None, 1),
        (np.ones((3, 1)), None, 2.0),
        (np.ones((2, 3, 1)), np.array([0.5]), [[2.0]]),
        (np.ones((4, 3)), None, COV),
    ],
)
def test_normal_of_vectors_infers_the_dimension_as_scipy(x, mean, cov):
    want = scipy.stats.multivariate_normal.logpdf(x, mean, cov)
    got = nm.stats.multivariate_normal.logpdf(x, mean, cov)
    np.testing.assert_allclose(got, want, rtol=64 * EPS)
    assert np.shape(got) == np.shape(want)
    np.testing.assert_allclose(
        nm.stats.multivariate_normal.entropy(mean, cov),
        scipy.stats.multivariate_normal.entropy(mean, cov),
        rtol=64 * EPS,
    )


def test_gradient_of_the_normal_density_is_the_closed_form():
    x = RNG.standard_normal((4, 3))
    inverse = np.linalg.inv(COV)
    z = (x - MEAN) @ inverse

    def f(x, mean, cov):
        return np.sum(nm.stats.multivariate_normal.logpdf(x, mean, cov))

    gx, gm, gc = nm.grad(f, argnums=(0, 1, 2))(x, MEAN, COV)
    close = {"rtol": 1e3 * EPS, "atol": 1e3 * EPS}
    np.testing.assert_allclose(gx, -z, **close)
    np.testing.assert_allclose(gm, z.sum(0), **close)
    np.testing.assert_allclose(gc, 0.5 * (z.T @ z - 4 * inverse), **close)
    np.testing.assert_allclose(
        nm.grad(lambda c: nm.stats.multivariate_normal.entropy(MEAN, c))(COV),
        0.5 * inverse,
        **close,
    )
    np.testing.assert_allclose(nm.hessian(lambda m: f(x, m, COV))(MEAN), -4 * inverse, **close)
    nm.check_grads(f, (x, MEAN, COV))
    nm.check_grads(lambda s, d: f(x, s, d), (MEAN, np.array([1.0, 2.0, 3.0])))
    rows = nm.vmap(
        nm.grad(lambda x, c: nm.stats.multivariate_normal.logpdf(x, MEAN, c)), in_axes=(0, None)
    )
    np.testing.assert_allclose(rows(x, COV), -z, **close)
    np.testing.assert_array_equal(nm.stage(f, x, MEAN, COV)(x, MEAN, COV), f(x, MEAN, COV))


def test_normal_of_vectors_refuses_what_has_no_derivative():
    normal = nm.stats.multivariate_normal
    with pytest.raises(np.linalg.LinAlgError):
        normal.logpdf(np.zeros(2), None, [[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(nm.errors.DomainError, match="`allow_singular` must be False"):
        normal.logpdf(np.zeros(2), None, np.eye(2), allow_singular=True)
    with pytest.raises(nm.errors.ShapeError, match="`cov` must have shape"):
        normal.logpdf(np.zeros(2), None, np.ones((2, 3)))
    with pytest.raises(nm.errors.ShapeError, match="`mean` must be a vector of the length"):
        normal.logpdf(np.zeros(2), np.zeros(2), np.eye(3))
    with pytest.raises(nm.errors.ShapeError, match="`x` must have shape"):
        normal.logpdf(np.zeros(2), np.zeros(3), np.eye(3))


@pytest.mark.parametrize("x", [SIMPLEX[:, 0], SIMPLEX, SIMPLEX[:-1], SIMPLEX[:-1, 0]])
@pytest.mark.parametrize("f", ["logpdf", "pdf"])
def test_dirichlet_has_scipys_values_and_layout(x, f):
    want = getattr(scipy.stats.dirichlet, f)(x, ALPHA)
    got = getattr(nm.stats.dirichlet, f)(x, ALPHA)
    np.testing.assert_allclose(got, want, rtol=64 * EPS)
    assert np.shape(got) == np.shape(want)


def test_gradient_of_dirichlet_is_the_closed_form():
    f = nm.stats.dirichlet.logpdf
    x = SIMPLEX[:, 1]
    gx, ga = nm.grad(f, argnums=(0, 1))(x, ALPHA)
    psi = nm.special.digamma
    np.testing.assert_allclose(gx, (ALPHA - 1) / x, rtol=16 * EPS)
    np.testing.assert_allclose(ga, np.log(x) - psi(ALPHA) + psi(ALPHA.sum()), rtol=256 * EPS)
    nm.check_grads(lambda a: np.sum(f(SIMPLEX, a)), (ALPHA,))
    nm.check_grads(nm.stats.dirichlet.entropy, (ALPHA,))
    np.testing.assert_allclose(
        nm.stats.dirichlet.entropy(ALPHA), scipy.stats.dirichlet.entropy(ALPHA), rtol=64 * EPS
    )
    np.testing.assert_allclose(nm.stats.dirichlet.mean(ALPHA), scipy.stats.dirichlet.mean(ALPHA))
    # logits to a point of the simplex: what one differentiates in practice
    nm.check_grads(lambda v: f(nm.special.softmax(v), ALPHA), (np.array([0.1, -0.4, 0.3]),))


@pytest.mark.parametrize(
    ("x", "alpha", "said"),
    [
        ([0.5, 0.6], [1.0, 2.0], "must sum to 1"),
        ([-0.5, 1.5], [1.0, 2.0], r"must lie in \[0, 1\]"),
        ([0.5, 0.5], [0.0, 2.0], "`alpha` must be positive"),
        ([0.0, 1.0], [0.5, 2.0], "must be positive where its `alpha` is below 1"),
    ],
)
def test_points_off_the_simplex_are_refused_traced_or_not(x, alpha, said):
    x, alpha = np.array(x), np.array(alpha)
    with pytest.raises(ValueError):  # noqa: PT011
        scipy.stats.dirichlet.logpdf(x, alpha)
    for call in (nm.stats.dirichlet.logpdf, nm.grad(nm.stats.dirichlet.logpdf)):
        with pytest.raises(nm.errors.DomainError, match=said):
            call(x, alpha)


def test_dirichlet_checks_the_examples_of_a_batch_and_not_the_batch():
    f = nm.stats.dirichlet.logpdf
    x = np.random.default_rng(0).dirichlet(np.ones(3), 4)
    alpha = x[::-1] + 0.5
    wanted = [f(a, b) for a, b in zip(x, alpha, strict=True)]
    np.testing.assert_allclose(nm.vmap(f)(x, alpha), wanted, rtol=16 * EPS)
    np.testing.assert_allclose(
        nm.vmap(f, (0, None))(x, alpha[0]), [f(a, alpha[0]) for a in x], rtol=16 * EPS
    )
    slopes = nm.vmap(nm.vmap(nm.grad(f, 1), (None, 0)), (0, None))(x, alpha)
    np.testing.assert_allclose(slopes[1, 2], nm.grad(f, 1)(x[1], alpha[2]), rtol=64 * EPS)
    with pytest.raises(nm.errors.DomainError, match="must sum to 1"):
        nm.vmap(f)(x + np.array([[0.0], [0.0], [0.0], [0.1]]), alpha)
    with pytest.raises(nm.errors.DomainError, match="`alpha` must be positive"):
        nm.vmap(f, (None, 0))(x[0], alpha - 0.5 - x.max())


def test_multinomial_has_scipys_values_and_its_gradient():
    f = nm.stats.multinomial.logpmf
    x, p = np.array([[1.0, 2.0, 0.0], [3.0, 0.0, 0.0], [1.0, 1.0, 2.0]]), np.array([0.2, 0.3, 0.5])
    np.testing.assert_allclose(f(x, 3, p), scipy.stats.multinomial.logpmf(x, 3, p), rtol=64 * EPS)
    np.testing.assert_allclose(
        nm.stats.multinomial.pmf(x, 3, p), scipy.stats.multinomial.pmf(x, 3, p), rtol=64 * EPS
    )
    np.testing.assert_allclose(nm.grad(lambda p: f(x[0], 3, p))(p), x[0] / p, rtol=16 * EPS)
    assert np.array_equal(nm.grad(lambda p: f(x[2], 3, p))(p), np.zeros(3))
    with np.errstate(all="ignore"):
        assert np.isnan(f(x[0], 3, np.array([1.2, -0.1, -0.1])))
    for xs, ps in (((3,), ()), ((), (3,)), ((3,), (4,)), ((3,), (1,)), ((0,), (0,))):
        for call in (f, nm.grad(f, 2)):
            with pytest.raises(nm.errors.ShapeError, match=r"^multinomial: `x` and `p` must have"):
                call(np.ones(xs), 3, np.ones(ps))


@pytest.mark.parametrize("alpha", [np.array(0.5), np.zeros(0), np.ones((2, 2))])
@pytest.mark.parametrize("method", ["mean", "entropy"])
def test_parameters_of_dirichlets_that_are_no_vector_are_refused(method, alpha):
    f = getattr(nm.stats.dirichlet, method)
    for call in (f, nm.grad(lambda a: np.sum(f(a))), lambda a: nm.stage(f, a)):
        with pytest.raises(nm.errors.ShapeError, match=r"`alpha` must have shape \(k,\)"):
            call(alpha)
    with pytest.raises(nm.errors.DomainError, match="`alpha` must be positive"):
        f(np.array([1.0, 0.0]))
    assert np.isnan(nm.stage(f, np.ones(2))(np.array([1.0, -1.0]))).any()


def test_dirichlet_of_values_that_are_not_known_is_nan_off_the_simplex():
    f = nm.stats.dirichlet.logpdf
    x, alpha = np.array([0.2, 0.3, 0.5]), np.array([1.0, 2.0, 3.0])
    program = nm.stage(nm.value_and_grad(f), x, alpha)
    assert math.isclose(program(x, alpha)[0], f(x, alpha), rel_tol=8 * EPS)
    for p, a in ((2 * x, alpha), (x * [-1, 1, 1] + [0, 0.2, 0.2], alpha), (x, alpha * [0, 1, 1])):
        assert np.isnan(program(p, a)[0])


def test_entropy_of_a_singular_covariance_is_that_of_its_subspace():
    a = np.array([[1.0, 0.0], [2.0, 1.0], [0.5, 1.0]])
    for cov in (a @ a.T, np.full((3, 3), 127, np.int8), np.diag([1.0, 0.0]), np.array([2.0, 0.0])):
        mean = np.zeros(len(cov))
        want = scipy.stats.multivariate_normal.entropy(mean, cov)
        assert math.isclose(nm.stats.multivariate_normal.entropy(mean, cov), want, rel_tol=64 * EPS)
    for call in (
        lambda c: nm.stats.multivariate_normal.entropy(None, c),
        nm.grad(lambda c: nm.stats.multivariate_normal.entropy(None, c)),
    ):
        with pytest.raises(np.linalg.LinAlgError):
            call(-np.eye(2))
