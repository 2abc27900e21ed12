"""Derivatives of roots and minima: closed forms, both modes, orders, batches, trees, and what is refused."""

import numpy as np
import pytest
from scipy.optimize import brentq, minimize, root
from scipy.sparse.linalg import LinearOperator, gmres

import nnmath_core as nm
from nnmath_core.errors import ConvergenceError, ShapeError, TraceError

EPS = np.finfo(float).eps
SMALL = 1e-11  # what the solvers leave; a derivative of order k is off by a small multiple of it


def cubic(x, a):
    return x**3 + x - a


def solve_cubic(a):
    return np.float64(brentq(lambda x: cubic(x, a), -9.0, 9.0, xtol=1e-15, rtol=4 * EPS))


cubic_root = nm.implicit_root(cubic, solve_cubic)


def by_gmres(product, b):
    op = LinearOperator((b.size, b.size), matvec=product, dtype=b.dtype)
    return gmres(op, b, rtol=1e-14, atol=0.0)[0]


def test_value_is_what_the_solver_returns():
    assert cubic_root(2.0) == solve_cubic(2.0)


# x^3 + x = a at a = 2: x = 1, x' = 1/(3 x^2 + 1) = 1/4, x'' = -6 x x'^3, x''' = (108 x^2 / (3x^2+1) - 6) x'^4
ORDERS = [0.25, -6.0 / 64.0, (27.0 - 6.0) / 256.0]


@pytest.mark.parametrize("route", ["reverse", "forward", "mixed"])
def test_derivatives_of_three_orders_are_those_of_the_closed_form(route):
    def forward(f):
        return lambda a: nm.jvp(f, (a,), (1.0,))[1]

    steps = {
        "reverse": [nm.grad] * 3,
        "forward": [forward] * 3,
        "mixed": [nm.grad, forward, nm.grad],
    }[route]
    f = cubic_root
    for step, want in zip(steps, ORDERS, strict=True):
        f = step(f)
        assert abs(f(2.0) - want) <= SMALL


def test_vmap_solves_for_each_example():
    a = np.array([2.0, 10.0, 0.0])
    np.testing.assert_array_equal(nm.vmap(cubic_root)(a), [solve_cubic(v) for v in a])
    got = nm.vmap(nm.grad(cubic_root))(a)
    x = np.array([1.0, 2.0, 0.0])
    np.testing.assert_allclose(got, 1 / (3 * x**2 + 1), rtol=0, atol=SMALL)
    jacobian = nm.jacrev(nm.vmap(cubic_root))(a)
    np.testing.assert_allclose(jacobian, np.diag(1 / (3 * x**2 + 1)), rtol=0, atol=SMALL)
    with pytest.raises(ShapeError, match="the batch is empty"):
        nm.vmap(cubic_root)(np.zeros(0))


# A system: x in a tree, arguments in a tree, an integer among them ---------------------------------
def system(x, p, power):
    u, v = x["u"], x["v"]
    return [p["m"] @ u + np.sin(v) - p["b"], v**power + np.sum(u) * 0.1 - 1.0]


def solve_system(p, power):
    n = len(p["b"])

    def flat(z):
        r = system({"u": z[:n], "v": z[n]}, p, power)
        return np.append(r[0], r[1])

    found = root(flat, np.ones(n + 1), tol=1e-13)
    assert np.abs(flat(found.x)).max() < 1e-14
    return {"u": found.x[:n], "v": np.float64(found.x[n])}


def parameters(dtype=float):
    rng = np.random.default_rng(3)
    m = (np.eye(3) * 3 + 0.3 * rng.standard_normal((3, 3))).astype(dtype)
    return {"m": m, "b": rng.standard_normal(3).astype(dtype)}


@pytest.mark.parametrize("linear_solve", [None, by_gmres], ids=["dense", "by products"])
def test_system_of_trees_agrees_with_differences(linear_solve):
    f = nm.implicit_root(system, solve_system, linear_solve=linear_solve)
    p = parameters()

    def loss(p):
        x = f(p, 3)
        return np.sum(x["u"] ** 2) + x["v"] ** 2

    got = nm.grad(loss)(p)
    assert set(got) == {"m", "b"}
    step = EPS ** (1 / 3)
    rng = np.random.default_rng(0)
    t = {k: rng.standard_normal(v.shape) for k, v in p.items()}
    plus, minus = ({k: p[k] + s * t[k] for k in p} for s in (step, -step))
    slope = (loss(plus) - loss(minus)) / (2 * step)
    along = sum(np.vdot(got[k], t[k]) for k in p)
    assert abs(along - slope) <= 100 * step**2 * max(1.0, abs(slope))
    _, forward = nm.jvp(loss, (p,), (t,))
    assert abs(along - forward) <= SMALL
    curvature = nm.hvp(loss, (p,), (t,))
    slopes = [nm.grad(loss)(q) for q in (plus, minus)]
    for k in p:
        want = (slopes[0][k] - slopes[1][k]) / (2 * step)
        np.testing.assert_allclose(curvature[k], want, rtol=0, atol=1000 * step**2)


def ridge(w, X, y, c):
    return np.sum((X @ w - y) ** 2) + c * np.sum(w**2)


def solve_ridge(X, y, c):
    return np.linalg.solve(X.T @ X + c * np.eye(X.shape[1], dtype=X.dtype), X.T @ y)


@pytest.mark.parametrize(
    ("dtype", "linear_solve"),
    [(np.float32, None), (np.float64, None), (np.float64, by_gmres)],
    ids=["dense float32", "dense", "by products"],
)
def test_minimum_agrees_with_the_differentiated_solver(dtype, linear_solve):
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((6, 3)).astype(dtype), rng.standard_normal(6).astype(dtype)
    c = np.asarray(0.5, dtype)
    weights = nm.implicit_minimum(ridge, solve_ridge, linear_solve=linear_solve)

    def loss(f):
        return lambda X, y, c: np.sum(np.sin(f(X, y, c)))

    every = (0, 1, 2)
    got = nm.grad(loss(weights), every)(X, y, c)
    want = nm.grad(loss(solve_ridge), every)(X, y, c)
    for g, w in zip(got, want, strict=True):
        assert g.dtype == dtype
        # both solve a system with a condition number below 100
        assert np.abs(g - w).max() <= 1e4 * np.finfo(dtype).eps * max(1.0, np.abs(w).max())
    got = nm.hessian(loss(weights), 2)(X, y, c)
    want = nm.hessian(loss(solve_ridge), 2)(X, y, c)
    assert np.abs(got - want) <= 1e5 * np.finfo(dtype).eps


def test_minimum_of_a_nonquadratic_loss():
    """Logistic regression by BFGS: the derivative in the penalty against differences."""
    rng = np.random.default_rng(2)
    X = rng.standard_normal((30, 2))
    y = (X @ [1.0, -1.0] + 0.5 * rng.standard_normal(30) > 0) * 2.0 - 1.0

    def objective(w, c):
        return np.sum(np.log1p(np.exp(-y * (X @ w)))) + c * (w @ w)

    def solve(c):
        w = minimize(objective, np.zeros(2), args=(c,), jac=nm.grad(objective), tol=1e-12).x
        for _ in range(3):  # polish
            w = w - np.linalg.solve(nm.hessian(objective)(w, c), nm.grad(objective)(w, c))
        return w

    weights = nm.implicit_minimum(objective, solve)
    step = EPS ** (1 / 3)
    slope = (solve(1.0 + step) - solve(1.0 - step)) / (2 * step)
    np.testing.assert_allclose(nm.jacfwd(weights)(1.0), slope, rtol=0, atol=100 * step**2)


def test_what_is_no_root_has_no_derivative():
    sloppy = nm.implicit_root(cubic, lambda a: np.float64(0.9))
    assert sloppy(2.0) == 0.9
    with pytest.raises(ConvergenceError, match=r"Newton's step there is \d.*tolerance 6.1e-06"):
        nm.grad(sloppy)(2.0)
    assert nm.grad(nm.implicit_root(cubic, lambda a: np.float64(0.9), tolerance=0.5))(2.0) > 0.2
    with pytest.raises(ConvergenceError, match="`linear_solve` left a residual"):
        nm.grad(nm.implicit_root(cubic, solve_cubic, linear_solve=lambda product, b: 0.9 * b))(2.0)


def test_singular_jacobian_is_an_error():
    double = nm.implicit_root(lambda x, a: (x - a) ** 2, lambda a: np.float64(a))
    with pytest.raises(np.linalg.LinAlgError):
        nm.grad(double)(1.0)


def test_residual_of_another_size_is_refused():
    f = nm.implicit_root(lambda x, a: x[:1] - a, lambda a: np.ones(2))
    with pytest.raises(ShapeError, match="as many entries as `x`, 2, got 1"):
        nm.grad(lambda a: f(a).sum())(1.0)


CLOSED = {
    "argument held fixed": lambda root: nm.grad(lambda b: root(b)(2.0))(2.0),
    "argument of the same pass": lambda root: nm.grad(lambda a, b: root(b)(a), (0, 1))(2.0, 2.0),
    "argument of an inner pass": lambda root: nm.grad(lambda b: nm.grad(root(b))(2.0))(2.0),
    "forward": lambda root: nm.jvp(lambda b: root(b)(2.0), (2.0,), (1.0,)),
    "jet": lambda root: nm.jet(lambda b: root(b)(2.0), (2.0,), ([1.0],)),
    "batch of arguments": lambda root: nm.grad(
        lambda b: np.sum(nm.vmap(lambda a: root(b)(a))(np.array([2.0, 8.0])))
    )(2.0),
    "batch of what is closed over": lambda root: nm.grad(
        lambda b: np.sum(nm.vmap(lambda b: root(b)(2.0))(b))
    )(np.array([2.0, 8.0])),
}


@pytest.mark.parametrize("case", CLOSED)
@pytest.mark.parametrize(
    "maker",
    [
        lambda b: nm.implicit_root(lambda x, a: x - a * b, lambda a: a * nm.numpy.asarray(2.0)),
        lambda b: nm.implicit_minimum(lambda x, a: (x - a * b) ** 2, lambda a: a * 2.0),
    ],
)
def test_closed_over_tracer_is_refused_and_its_derivative_not_lost(maker, case):
    with pytest.raises(TraceError, match="closes over a traced value"):
        CLOSED[case](maker)


def test_closing_over_an_example_of_a_batch_or_over_constants_is_allowed():
    at = np.array([2.0, 8.0])
    root = lambda b: nm.implicit_root(lambda x, a: x * x - a * b, lambda a: np.sqrt(a * b))  # noqa: E731
    np.testing.assert_allclose(nm.vmap(lambda b: root(b)(2.0))(at), [2.0, 4.0], rtol=4 * EPS)
    np.testing.assert_allclose(nm.grad(root(2.0))(2.0), 0.5, rtol=16 * EPS)


@pytest.mark.parametrize("maker", [nm.implicit_root, nm.implicit_minimum])
def test_arguments_must_be_callable(maker):
    with pytest.raises(TypeError, match="`solve`"):
        maker(cubic, 3)
    with pytest.raises(TypeError, match="`linear_solve`"):
        maker(cubic, solve_cubic, linear_solve="gmres")
