"""The source document's identities of matrix calculus, computed; `docs/source.md` names each test."""

import numpy as np
import pytest

import nnmath_core as nm


@pytest.fixture
def rng():
    return np.random.default_rng(15)


def test_a_quadratic_form(rng):
    """M01: d(x' A x) / dx = (A + A') x."""
    a, x = rng.normal(size=(4, 4)), rng.normal(size=4)
    np.testing.assert_allclose(nm.grad(lambda x: x @ a @ x)(x), (a + a.T) @ x, rtol=1e-12)


def test_a_symmetric_quadratic_form(rng):
    """M02: 2 A x for symmetric A alone: for another one the two sides differ."""
    a, x = rng.normal(size=(4, 4)), rng.normal(size=4)
    s = a + a.T
    np.testing.assert_allclose(nm.grad(lambda x: x @ s @ x)(x), 2 * s @ x, rtol=1e-12)
    assert np.abs(nm.grad(lambda x: x @ a @ x)(x) - 2 * a @ x).max() > 0.1


def test_a_linear_map(rng):
    """M03, K02: by J_ij = df_i / dx_j the derivative of A x is A; A' is its pullback."""
    a, x, v = rng.normal(size=(3, 4)), rng.normal(size=4), rng.normal(size=3)
    np.testing.assert_allclose(nm.jacobian(lambda x: a @ x)(x), a, rtol=1e-14)
    np.testing.assert_allclose(nm.vjp(lambda x: a @ x, x)[1](v)[0], a.T @ v, rtol=1e-13)


def test_an_inner_product(rng):
    """M04: d(x' y) / dx = y."""
    x, y = rng.normal(size=(2, 5))
    np.testing.assert_array_equal(nm.grad(lambda x: x @ y)(x), y)


def test_a_squared_norm(rng):
    """M05: d|x|^2 / dx = 2 x."""
    x = rng.normal(size=5)
    np.testing.assert_allclose(nm.grad(lambda x: np.linalg.norm(x) ** 2)(x), 2 * x, rtol=1e-14)


def test_a_log_determinant(rng):
    """M06: d log det A / dA = A^-T; of a symmetric matrix every entry counts, none twice."""
    m = rng.normal(size=(4, 4))
    a = m @ m.T + np.eye(4)
    f = lambda a: np.linalg.slogdet(a)[1]  # noqa: E731
    np.testing.assert_allclose(nm.grad(f)(a), np.linalg.inv(a).T, rtol=1e-10)
    b = a + 0.1 * rng.normal(size=(4, 4))
    np.testing.assert_allclose(nm.grad(f)(b), np.linalg.inv(b).T, rtol=1e-10)


def test_a_trace_of_a_product(rng):
    """M07: d tr(A B) / dA = B'."""
    a, b = rng.normal(size=(3, 4)), rng.normal(size=(4, 3))
    np.testing.assert_allclose(nm.grad(lambda a: np.trace(a @ b))(a), b.T, rtol=1e-14)


def test_the_gradients_of_a_product(rng):
    """M08, M09: with Y = W X: dL/dW = dL/dY X' and dL/dX = W' dL/dY."""
    w, x = rng.normal(size=(3, 4)), rng.normal(size=(4, 5))
    loss = lambda w, x: np.sum(np.tanh(w @ x) ** 2)  # noqa: E731
    of_y = nm.grad(lambda y: np.sum(np.tanh(y) ** 2))(w @ x)
    of_w, of_x = nm.grad(loss, argnums=(0, 1))(w, x)
    np.testing.assert_allclose(of_w, of_y @ x.T, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(of_x, w.T @ of_y, rtol=1e-12, atol=1e-14)
