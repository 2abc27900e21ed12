"""Products in C, conjugate gradients, powers: against dense answers, in both dtypes, and what is refused."""

import inspect

import numpy as np
import pytest
import scipy.sparse
from iterating import watched_bars
from scipy.sparse.linalg import LinearOperator as ScipyOperator, cg as scipy_cg

import nnmath_core as nm
from nnmath_core._ext import _iterations
from nnmath_core.errors import ConvergenceError, DomainError, DtypeError, ShapeError
from nnmath_core.solvers import (
    LinearOperator,
    PlanOperator,
    cg,
    lanczos,
    power_iteration,
    spectral_norm,
)
from nnmath_core.verify import check_operator

DTYPES = [np.float32, np.float64]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])


@pytest.fixture
def rng():
    return np.random.default_rng(20261127)


def definite(rng, n, dtype=np.float64, *, condition=100.0):
    """Return a positive definite matrix of this condition number and largest eigenvalue 1, to rounding."""
    q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    a = (q * np.geomspace(1 / condition, 1, n)) @ q.T
    return ((a + a.T) / 2).astype(dtype)


class Operator(LinearOperator):
    """What a user writes, in Python."""

    def __init__(self, matrix, *, symmetric=True):
        self.matrix, self.symmetric = matrix, symmetric
        self.shape, self.dtype = matrix.shape, matrix.dtype

    def _matmat(self, X):
        return self.matrix @ X

    def _rmatmat(self, Y):
        return self.matrix.T @ Y


def plan_of(matrix):
    return nm.compile(lambda v: matrix @ v).plan(np.zeros(matrix.shape[1], matrix.dtype))


# every kind of operator: a name, and how it is made of a symmetric matrix
KINDS = {
    "rows": np.ascontiguousarray,
    "columns": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "csr": scipy.sparse.csr_array,
    "csc": scipy.sparse.csc_matrix,
    "coo": scipy.sparse.coo_array,
    "scipy": lambda a: ScipyOperator(
        a.shape, matvec=lambda x: a @ x, rmatvec=lambda y: a.T @ y, dtype=a.dtype
    ),
    "python": Operator,
    "plan": lambda a: PlanOperator(plan_of(a), symmetric=True),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


# ------------------------------------------------------------------------------ products


@each_dtype
@pytest.mark.parametrize("k", [1, 3, 300])
@pytest.mark.parametrize(
    "shape", [(1, 1), (7, 5), (5, 7), (300, 65), (65, 1000), (2000, 130)], ids=str
)
def test_each_product_is_that_of_the_matrix(rng, shape, k, dtype):
    a = rng.standard_normal(shape).astype(dtype)
    x = rng.standard_normal((k, shape[1])).astype(dtype)
    exact = x.astype(float) @ a.astype(float).T
    # sums of n products, each of a size of at most |a| |x|
    size = (
        np.linalg.norm(a.astype(float), axis=1) * np.linalg.norm(x.astype(float), axis=1)[:, None]
    )
    allowed = 4 * np.finfo(dtype).eps * np.sqrt(shape[1]) * size
    sparse = scipy.sparse.csr_array(a)
    long = [sparse.indices.astype(np.int64), sparse.indptr.astype(np.int64)]
    products = {
        "rows": _iterations.dense_product(a),
        "columns": _iterations.dense_product(np.ascontiguousarray(a.T), True),
        "csr": _iterations.sparse_product(sparse.data, sparse.indices, sparse.indptr, shape[1]),
        "csr, long": _iterations.sparse_product(sparse.data, *long, shape[1]),
        "plan": _iterations.plan_product(plan_of(a).capsule),
        "python": _iterations.python_product(lambda x: x @ a.T, *shape, dtype),
    }
    for name, product in products.items():
        found = product(x)
        assert found.dtype == dtype
        assert (np.abs(found - exact) <= allowed).all(), name
        assert product.count == k
    twice = _iterations.plan_product(plan_of(a).capsule, 2.0)(x)
    np.testing.assert_array_equal(twice, 2 * products["plan"](x))


@each_dtype
@pytest.mark.parametrize(
    "shape", [(1, 1), (5, 7), (9, 1), (67, 33), (1000, 17), (17, 20_000)], ids=str
)
def test_the_normal_product_reads_a_matrix_once(rng, shape, dtype):
    a = rng.standard_normal(shape).astype(dtype)
    x = rng.standard_normal((2, shape[1])).astype(dtype)
    wide = a.astype(float)
    image = x.astype(float) @ wide.T
    exact = image @ wide
    scale = np.linalg.norm(np.abs(x) @ np.abs(wide).T @ np.abs(wide), axis=1, keepdims=True)
    dense = _iterations.dense_product(a)
    turned = _iterations.dense_product(np.ascontiguousarray(a.T), True)
    for product in (
        _iterations.normal_product(dense),
        _iterations.normal_product(dense, _iterations.dense_product(a, True)),
        _iterations.normal_product(turned, _iterations.dense_product(np.ascontiguousarray(a.T))),
    ):
        assert (np.abs(product(x) - exact) <= 4 * np.finfo(dtype).eps * scale).all()
        assert (
            np.abs(product.image - image[-1]).max()
            <= 64 * np.finfo(dtype).eps * np.abs(wide).sum(axis=1).max() * np.abs(x).max()
        )


@each_dtype
def test_the_bits_do_not_depend_on_the_number_of_threads(rng, dtype):
    a = rng.standard_normal((900, 900)).astype(dtype)
    a = a + a.T
    x = rng.standard_normal((1, 900)).astype(dtype)
    tall = rng.standard_normal((5000, 300)).astype(dtype)

    def numbers():
        sparse = scipy.sparse.csr_array(a)
        return [
            _iterations.dense_product(a)(x),
            _iterations.dense_product(a, True)(x),
            _iterations.sparse_product(sparse.data, sparse.indices, sparse.indptr, 900)(x),
            _iterations.normal_product(_iterations.dense_product(tall))(x[:, :300].copy()),
            lanczos(np.asarray(a), k=3, rng=0).value,
            cg(a @ a / 900 + np.eye(900, dtype=dtype), x[0]).value,
        ]

    with nm.threads(1):
        one = numbers()
    with nm.threads(2):
        for u, v in zip(one, numbers(), strict=True):
            np.testing.assert_array_equal(u, v)


def test_products_refuse_what_does_not_fit(rng):
    product = _iterations.dense_product(np.eye(3))
    for x in (np.ones((1, 4)), np.ones((1, 3), "f4"), np.ones(3), np.ones((3, 3)).T[:, ::-1]):
        with pytest.raises(ShapeError, match=r"contiguous rows of shape \(k, 3\) and float64"):
            product(x)
    with pytest.raises(ShapeError, match="the second product must be that of the transpose"):
        _iterations.normal_product(_iterations.dense_product(np.ones((3, 2))), product)
    with pytest.raises(ShapeError, match="as it lies in memory"):
        _iterations.normal_product(_iterations.dense_product(np.eye(3), True))
    with pytest.raises(ShapeError, match=r"of one vector to one vector of its dtype"):
        _iterations.plan_product(nm.compile(lambda x: x @ x).plan(np.ones(3)).capsule)
    wrong = _iterations.python_product(lambda x: x[:, :2], 3, 3, float)
    with pytest.raises(ShapeError, match=r"the result must be of shape \(1, 3\), got \(1, 2\)"):
        wrong(np.ones((1, 3)))
    empty = _iterations.dense_product(np.ones((0, 3)))
    assert empty(np.ones((2, 3))).shape == (2, 0)
    assert (_iterations.dense_product(np.ones((3, 0)))(np.ones((2, 0))) == 0).all()


@each_dtype
def test_a_plan_is_an_operator(rng, dtype):
    a = definite(rng, 20, dtype)
    op = nm.solvers.as_operator(plan_of(a))
    assert not op.symmetric
    w = rng.standard_normal(20).astype(dtype)
    frozen = nm.compile(lambda w, v: w * (a @ (w * v))).plan(w, w).freeze({0: w})
    whole, rest = PlanOperator(plan_of(a), symmetric=True), PlanOperator(frozen, symmetric=True)
    for A, dense in ((whole, a), (rest, w[:, None] * a * w)):
        check_operator(A, dense)
        assert A.dtype == dtype
        found = lanczos(A, k=2, rng=0)
        exact = np.linalg.eigvalsh(dense.astype(float))[-2:]
        assert (np.abs(found.value - exact) <= found.bound + 20 * np.finfo(dtype).eps).all()
    found = lanczos(op, k=1, rng=0)  # tested for symmetry, since nobody promised it
    assert found.products > found.iterations + 1
    with pytest.raises(NotImplementedError, match="PlanOperator has no transpose"):
        op.T @ w


PLANS = [
    (lambda: np.eye(3), DtypeError, "PlanOperator: `plan` must be a Plan, got float64 array"),
    (lambda: nm.compile(lambda x: x @ x).plan(np.ones(3)), ShapeError, "one that gives one vector"),
    (lambda: nm.compile(lambda x, y: x + y).plan(np.ones(3), np.ones(3)), ShapeError, "takes one"),
    (lambda: nm.compile(lambda x: x > 0).plan(np.ones(3)), DtypeError, "float32 or float64 alone"),
    (lambda: nm.compile(lambda x: x[:2]).plan(np.ones(3)), ShapeError, "must be square, got shape"),
]


@pytest.mark.parametrize(("make", "error", "words"), PLANS, ids=[row[-1] for row in PLANS])
def test_a_plan_that_is_no_operator_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        PlanOperator(make(), symmetric=True)


# ----------------------------------------------------------------------- conjugate gradients


@each_dtype
@each_kind
@pytest.mark.parametrize("k", [None, 1, 4])
def test_systems_are_solved(rng, kind, k, dtype):
    n, eps = 60, np.finfo(dtype).eps
    a = definite(rng, n, dtype)
    b = rng.standard_normal(n if k is None else (n, k)).astype(dtype)
    rtol = 1e-4 if dtype == np.float32 else 1e-10
    found = cg(KINDS[kind](a), b, rtol=rtol)
    exact = np.linalg.solve(a.astype(float), b.astype(float))
    assert found.value.dtype == dtype
    assert found.value.shape == b.shape
    size = np.linalg.norm(b.astype(float), axis=0)
    true = np.linalg.norm(b - a.astype(float) @ found.value, axis=0)
    # residuals are those of products in the dtype
    assert np.all(np.abs(found.residual - true) <= 8 * eps * np.linalg.norm(exact, axis=0))
    assert np.all(found.residual <= rtol * size)
    # the smallest eigenvalue is 1/100
    assert np.all(np.linalg.norm(found.value - exact, axis=0) <= 101 * (true + eps * size))
    assert np.all(found.converged)
    assert np.shape(found.iterations) == np.shape(found.residual) == b.shape[1:]
    assert np.all((found.curvature > 0.01 * (1 - 1e-3)) & (found.curvature <= 1.001))
    assert found.direction is None
    assert not found.interrupted
    assert found.verdict.startswith(
        f"{k or 1} of {k or 1} systems solved in {np.max(found.iterations)} steps"
    )


def test_the_steps_are_those_of_scipy(rng):
    a, b = definite(rng, 80), rng.standard_normal(80)
    start = rng.standard_normal(80)
    jacobi = np.diag(1 / np.diag(a))
    for options in ({}, {"x0": start}, {"M": jacobi}, {"x0": start, "M": jacobi}):
        ours, theirs = [], []
        found = cg(a, b, rtol=1e-8, callback=ours.append, **options)
        value, info = scipy_cg(
            a, b, rtol=1e-8, callback=lambda x, seen=theirs: seen.append(x.copy()), **options
        )
        assert info == 0
        assert len(ours) == found.iterations
        # the recurrences amplify rounding, until a late step is another one
        assert abs(len(ours) - len(theirs)) <= 0.1 * len(theirs)
        assert np.abs(np.array(ours[:20]) - theirs[:20]).max() <= 1e-11 * np.abs(value).max()
        np.testing.assert_array_equal(ours[-1], found.value)


def test_a_preconditioner_saves_steps(rng):
    d = np.geomspace(1, 1e6, 200)
    noise = rng.standard_normal((200, 200)) * 1e-3
    a = np.sqrt(d)[:, None] * (np.eye(200) + noise + noise.T) * np.sqrt(d)
    b = rng.standard_normal((200, 3))
    quick = cg(a, b, rtol=1e-8, M=scipy.sparse.diags_array(1 / d, format="csr"))
    assert quick.converged.all()
    with pytest.raises(ConvergenceError):
        cg(a, b, rtol=1e-8, maxiter=5 * int(quick.iterations.max()))
    python = cg(a, b, rtol=1e-8, M=Operator(np.diag(1 / d)))
    assert np.abs(python.value - quick.value).max() <= 1e-7 * np.abs(quick.value).max()


def test_systems_end_one_by_one(rng):
    """Zero, an eigenvector, and a general right-hand side: none waits for another, and each column is its own."""
    a = definite(rng, 40)
    vector = np.linalg.eigh(a)[1][:, 5]
    b = np.stack([np.zeros(40), rng.standard_normal(40), vector, rng.standard_normal(40)], axis=1)
    found = cg(a, b, rtol=1e-9)
    assert found.iterations[0] == 0
    assert found.iterations[2] == 1
    assert found.iterations[1] > 10
    for i in range(4):
        alone = cg(a, b[:, i], rtol=1e-9)
        assert np.abs(alone.value - found.value[:, i]).max() <= 1e-8
        assert abs(int(alone.iterations) - int(found.iterations[i])) <= 1
    solved = cg(a, b, found.value, rtol=1e-8)  # from the solution there is nothing to do
    assert (solved.iterations == 0).all()
    np.testing.assert_array_equal(solved.value, found.value)
    loose = cg(a, b[:, 1], rtol=0.0, atol=0.5 * np.linalg.norm(b[:, 1]))
    assert loose.iterations < found.iterations[1]
    assert loose.residual <= 0.5 * np.linalg.norm(b[:, 1])


def test_negative_curvature_is_named(rng):
    w = np.concatenate([[-0.5], np.linspace(0.5, 1, 49)])
    q = np.linalg.qr(rng.standard_normal((50, 50)))[0]
    a = (q * w) @ q.T
    a = (a + a.T) / 2
    b = rng.standard_normal((50, 3))
    b[:, 1] = a @ a @ q[:, 3]  # in a positive invariant direction, to rounding
    with pytest.raises(
        ConvergenceError, match=r"`A` is not positive definite: p'Ap = -.* p'p in step"
    ) as caught:
        cg(a, b, rtol=1e-6)
    found = caught.value.partial
    assert found.converged.tolist() == [False, True, False]
    assert found.direction.shape == (50, 3)
    for i in (0, 2):
        p = found.direction[:, i]
        assert p @ a @ p / (p @ p) == pytest.approx(found.curvature[i], rel=1e-10)
        assert found.curvature[i] < 0
        # the solution is that of the step before, and no worse than the start
        x = found.value[:, i]
        assert x @ a @ x / 2 - b[:, i] @ x <= 0
    assert (found.direction[:, 1] == 0).all()
    with pytest.raises(ConvergenceError, match=r"`partial.direction` has the direction p"):
        cg(-a, b[:, 0])
    with pytest.raises(ConvergenceError) as caught:
        cg(np.zeros((3, 3)), np.ones(3))
    assert caught.value.partial.curvature == 0
    np.testing.assert_array_equal(caught.value.partial.direction, np.ones(3))


def test_running_out_of_steps_keeps_what_was_found(rng):
    a, b = definite(rng, 100, condition=1e6), rng.standard_normal(100)
    with pytest.raises(
        ConvergenceError, match=r"^cg: 0 of 1 systems solved in 5 steps .* `maxiter` above 5"
    ) as caught:
        cg(a, b, maxiter=5)
    found = caught.value.partial
    assert found.iterations == 5
    assert found.residual == pytest.approx(np.linalg.norm(b - a @ found.value))


def test_a_drifted_recurrence_begins_again(rng):
    """In float32 it says too early that all is solved; from the true residual it then is."""
    a = definite(rng, 200, np.float32, condition=100)
    b = rng.standard_normal(200).astype("f4")
    found = cg(a, b, rtol=3e-6)
    assert found.converged
    assert found.products >= found.iterations + 3  # of the residuals, and of the new beginning
    true = np.linalg.norm(b - a.astype(float) @ found.value.astype(float))
    assert true <= 4e-6 * np.linalg.norm(b)


def test_residuals_are_true_ones():
    """In float32 the recurrence goes on to fall while the residual does not: it is restarted, and then refused."""
    rng = np.random.default_rng(0)
    a = definite(rng, 200, np.float32, condition=1e4)
    b = rng.standard_normal(200).astype("f4")
    with pytest.raises(ConvergenceError, match="the products carry errors of this size") as caught:
        cg(a, b, rtol=1e-8)
    found = caught.value.partial
    assert not found.converged
    true = np.linalg.norm(b - a.astype(float) @ found.value.astype(float))
    assert found.residual == pytest.approx(true, rel=0.5)


def test_noise_and_infinities_are_refused(rng):
    a, b = definite(rng, 30), rng.standard_normal(30)
    with pytest.raises(DomainError, match=r"`A @ p` must be finite, got infinity or NaN"):
        cg(np.where(np.eye(30) == 1, np.nan, a), b)
    with pytest.raises(DomainError, match=r"`M` must be positive definite"):
        cg(a, b, M=-np.eye(30))
    with pytest.raises(DomainError, match=r"`M` must be positive definite"):
        cg(a, b, M=np.diag(np.where(np.arange(30) < 3, -1e-3, 1.0)), rtol=1e-12)

    class Broken(Operator):
        def _matmat(self, X):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        cg(Broken(a), b)


@pytest.mark.parametrize("stop", [0, 1, 7])
def test_an_interrupt_keeps_the_solution(rng, stop):
    a, b = definite(rng, 50), rng.standard_normal((50, 2))
    left = [stop]

    class Interrupted(Operator):
        def _matmat(self, X):
            left[0] -= 1
            if left[0] == -1:
                raise KeyboardInterrupt
            return self.matrix @ X

    found = cg(Interrupted(a), b, rtol=1e-12)
    assert found.interrupted
    assert not found.converged.any()
    assert (found.iterations == stop).all()
    assert found.verdict.startswith(f"interrupted after {max(stop, 1)} steps; 0 of 2 systems")
    # the value is that of the same number of steps
    seen = []
    cg(a, b, rtol=1e-12, callback=lambda x: seen.append(x))
    expected = seen[stop - 1] if stop else np.zeros((50, 2))
    assert np.abs(found.value - expected).max() <= 1e-12


CG_REFUSALS = [
    (dict(A=np.ones((3, 2))), ShapeError, r"`A` must be square, got shape \(3, 2\)"),
    (dict(b=np.ones(4)), ShapeError, r"`b` must be of shape \(3,\) or \(3, k\), got \(4,\)"),
    (dict(b=np.ones((3, 1, 1))), ShapeError, r"`b` must be of shape"),
    (dict(b=np.ones(3, "f4")), DtypeError, r"`b` must be of float64, got float32. Nothing is conv"),
    (dict(b=np.ones(3, int)), DtypeError, r"`b` must be a float32 or float64 array"),
    (dict(b=np.array([1.0, np.nan, 0.0])), DomainError, r"`b` must be finite, got infinity or NaN"),
    (
        dict(x0=np.ones((3, 1))),
        ShapeError,
        r"`x0` must be of shape \(3,\), that of `b`, got \(3, 1\)",
    ),
    (dict(M=np.eye(2)), ShapeError, r"`M` must be an operator of shape \(3, 3\), float64, on cpu"),
    (dict(M=np.eye(3, dtype="f4")), ShapeError, r"`M` must be an operator of shape"),
    (dict(rtol=1.0), DomainError, r"`rtol` must be in \[0, 1\), got 1.0"),
    (dict(atol=-1.0), DomainError, r"`atol` must be at least 0, got -1.0"),
    (dict(maxiter=0), DomainError, r"`maxiter` must be a positive integer, got 0"),
    (dict(callback=3), DtypeError, r"`callback` must be callable, got 3"),
    (dict(progress="bar"), DtypeError, r"`progress` must be callable, got 'bar'"),
]


@pytest.mark.parametrize(("change", "error", "words"), CG_REFUSALS, ids=lambda x: str(x)[:30])
def test_arguments_of_cg_are_checked(change, error, words):
    options = {"A": np.eye(3), "b": np.ones(3), **change}
    with pytest.raises(error, match=words) as caught:
        cg(options.pop("A"), options.pop("b"), **options)
    assert str(caught.value).startswith("cg: ")


def test_empty_systems_are_solved():
    assert cg(np.zeros((0, 0)), np.zeros(0)).value.shape == (0,)
    found = cg(np.eye(3), np.zeros((3, 0)))
    assert found.value.shape == (3, 0)
    assert found.converged.shape == (0,)


# -------------------------------------------------------------------------------- powers


@each_dtype
@each_kind
@pytest.mark.parametrize("sign", [1, -1])
def test_powers_find_the_largest_magnitude(rng, kind, sign, dtype):
    n, eps = 40, np.finfo(dtype).eps
    w = sign * np.concatenate([rng.uniform(-0.5, 0.5, n - 1), [1.0]])
    q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    a = (q * w) @ q.T
    a = ((a + a.T) / 2).astype(dtype)
    found = power_iteration(KINDS[kind](a), rng=rng)
    assert found.iterations == 100
    assert found.converged
    assert found.vector.dtype == dtype
    assert abs(found.value - sign) <= 8 * eps * n**0.5
    wide = a.astype(float) @ found.vector
    assert abs(np.linalg.norm(wide) - found.norm) <= 8 * eps
    assert (
        abs(np.linalg.norm(wide - found.value * found.vector) - found.residual) <= 8 * eps * n**0.5
    )
    assert found.norm * (1 - 8 * eps) <= 1 <= found.upper * (1 + 8 * eps)
    assert found.verdict.startswith("residual ")


@each_dtype
@pytest.mark.parametrize("kind", [k for k in KINDS if k != "plan"])
@pytest.mark.parametrize("shape", [(30, 70), (70, 30), (1, 5), (5, 1), (50, 50)], ids=str)
def test_the_norm_is_the_largest_singular_value(rng, kind, shape, dtype):
    eps, m = np.finfo(dtype).eps, min(shape)
    u = np.linalg.qr(rng.standard_normal((shape[0], m)))[0]
    v = np.linalg.qr(rng.standard_normal((shape[1], m)))[0]
    s = np.concatenate([[2.0], rng.uniform(0, 1, m - 1)])
    a = ((u * s) @ v.T).astype(dtype)
    op = Operator(a, symmetric=False) if kind == "python" else KINDS[kind](a)
    found = spectral_norm(op, rng=rng)
    assert abs(found.value - 2) <= 8 * eps * max(shape) ** 0.5
    assert found.converged
    assert found.left.dtype == found.right.dtype == dtype
    assert (found.left.shape, found.right.shape) == ((shape[0],), (shape[1],))
    wide = a.astype(float)
    assert (
        np.abs(wide @ found.right - found.value * found.left).max() <= 16 * eps * max(shape) ** 0.5
    )
    rest = np.linalg.norm(wide.T @ found.left - found.value * found.right)
    assert abs(rest - found.residual) <= 16 * eps * max(shape) ** 0.5
    assert abs(np.linalg.norm(found.right) - 1) <= 8 * eps
    assert found.iterations == 100
    assert 200 <= found.products <= 204
    assert found.upper >= 2


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_steps_are_those_of_the_definition(rng, steps, order):
    """|A v| after so many v <- A'A v, from a given start, whichever way the matrix lies in memory."""
    a, v = rng.standard_normal((30, 20)), rng.standard_normal(20)
    found = spectral_norm(np.asarray(a, order=order), steps=steps, start=v)
    for _ in range(steps):
        v = a.T @ (a @ v)
        v /= np.linalg.norm(v)
    assert abs(found.value - np.linalg.norm(a @ v)) <= 1e-13 * found.value
    assert np.abs(found.right - v).max() <= 1e-13
    assert found.iterations == steps
    assert found.upper == np.inf  # nothing is known of a start that was given
    s, v = a[:20] + a[:20].T, rng.standard_normal(20)
    found = power_iteration(s, steps=steps, start=v)
    for _ in range(steps):
        v = s @ v / np.linalg.norm(s @ v)
    v /= np.linalg.norm(v)
    assert np.abs(found.vector - v).max() <= 1e-12
    assert abs(found.value - v @ s @ v) <= 1e-12 * found.norm


def test_upper_bounds_hold_in_a_sweep(rng):
    """Eighty random spectra and few steps: the risk is a thousandth each."""
    for _ in range(40):
        n = int(rng.integers(2, 60))
        a = definite(rng, n, condition=10 ** rng.uniform(0, 3))
        steps = int(rng.integers(1, 12))
        found = power_iteration(a, steps=steps, rng=rng)
        assert found.norm <= 1 + 1e-14
        assert found.upper >= 1
        found = spectral_norm(a, steps=steps, rng=rng)
        assert found.value <= 1 + 1e-14
        assert found.upper >= 1


def test_a_tolerance_ends_the_steps_or_raises(rng):
    a = definite(rng, 50, condition=2)
    for f in (power_iteration, spectral_norm):
        found = f(a, tol=1e-3, steps=10_000, rng=0)
        assert found.iterations < 10_000
        assert found.converged
        assert found.residual <= 1e-3
        with pytest.raises(
            ConvergenceError, match=rf"^{f.__name__}: the residual is .* after 3 steps"
        ) as caught:
            f(a, tol=1e-9, steps=3, rng=0)
        assert not caught.value.partial.converged
        assert caught.value.partial.iterations == 3


def test_opposite_signs_are_seen_in_the_residual():
    found = power_iteration(np.diag([1.0, -1.0, 0.5]), rng=0)
    assert not found.converged
    assert found.residual > 0.1
    assert abs(found.norm - 1) <= 1e-12
    assert spectral_norm(np.diag([1.0, -1.0, 0.5]), rng=0).converged


@each_dtype
def test_zero_matrices_have_norm_zero(dtype):
    for order in "CF":
        found = spectral_norm(np.zeros((4, 3), dtype, order=order), rng=0)
        assert (found.value, found.residual, found.upper) == (0.0, 0.0, 0.0)
        assert found.iterations <= 1
    found = power_iteration(np.zeros((3, 3), dtype), rng=0)
    assert (found.value, found.norm, found.residual, found.iterations) == (0.0, 0.0, 0.0, 0)


def test_huge_and_tiny_numbers_are_scaled(rng):
    a = definite(rng, 30, condition=3)
    for scale in (1e-200, 1e200):
        found = power_iteration(scale * a, steps=2000, rng=0)
        assert abs(found.norm / scale - 1) <= 1e-12
        assert abs(found.value / scale - 1) <= 1e-12


@pytest.mark.parametrize("f", [power_iteration, spectral_norm], ids=lambda f: f.__name__)
@pytest.mark.parametrize("stop", [0, 1, 8])
def test_an_interrupt_keeps_the_vector(rng, f, stop):
    a = definite(rng, 30)
    left = [2 * stop if f is spectral_norm else stop]

    class Interrupted(Operator):
        def _matmat(self, X):
            left[0] -= 1
            if left[0] == -1:
                raise KeyboardInterrupt
            return self.matrix @ X

        _rmatmat = _matmat

    start = rng.standard_normal(30)
    found = f(Interrupted(a), start=start)
    assert found.interrupted
    assert found.iterations == stop
    assert found.verdict.startswith(f"interrupted after {stop} steps")
    if stop:
        whole = f(a, steps=stop, start=start)
        vector, same = (
            (found.vector, whole.vector) if f is power_iteration else (found.right, whole.right)
        )
        assert np.abs(vector - same).max() <= 1e-13


POWER_REFUSALS = [
    (
        dict(A=np.ones((0, 0))),
        DomainError,
        r"`A` must be an operator with rows and columns, got sh",
    ),
    (dict(A=np.ones((3, 3), int)), DtypeError, r"`A` must be a float32 or float64 array"),
    (dict(steps=0), DomainError, r"`steps` must be a positive integer, got 0"),
    (dict(tol=0.0), DomainError, r"`tol` must be in \[8 eps, 1\), 1.8e-15 for float64, got 0.0"),
    (dict(start=np.ones(2)), ShapeError, r"`start` must be of shape \(3,\), got \(2,\)"),
    (dict(start=np.ones(3, "f4")), DtypeError, r"`start` must be of float64, got float32"),
    (dict(start=np.zeros(3)), DomainError, r"`start` must be finite and not zero, got length 0.0"),
    (dict(start=np.full(3, np.inf)), DomainError, r"`start` must be finite and not zero"),
    (dict(rng=-1), DomainError, r"`rng` must be None, an integer >= 0"),
    (dict(progress=1), DtypeError, r"`progress` must be callable, got 1"),
    (dict(A=np.diag([np.nan, 1.0, 1.0])), DomainError, r"must be finite, got infinity or NaN"),
]


@pytest.mark.parametrize("f", [power_iteration, spectral_norm], ids=lambda f: f.__name__)
@pytest.mark.parametrize(("change", "error", "words"), POWER_REFUSALS, ids=lambda x: str(x)[:30])
def test_arguments_of_powers_are_checked(f, change, error, words):
    options = {"A": np.eye(3), **change}
    with pytest.raises(error, match=words) as caught:
        f(options.pop("A"), **options)
    assert str(caught.value).startswith(f"{f.__name__}: ")


def test_what_is_not_symmetric_has_no_powers(rng):
    with pytest.raises(
        ShapeError, match=r"`A` must be square, got shape \(2, 3\). The largest singular value is"
    ):
        power_iteration(np.ones((2, 3)))
    with pytest.raises(
        DomainError, match=r"power_iteration: `A` must be symmetric, and for random vectors"
    ):
        power_iteration(np.triu(np.ones((3, 3))))
    with pytest.raises(NotImplementedError, match="has no transpose"):
        spectral_norm(PlanOperator(plan_of(np.ones((2, 3)))))


# -------------------------------------------------------------------------- all together


def test_progress_is_told(rng, monkeypatch):
    a = definite(rng, 60, condition=1e4)
    calls = {
        "cg": lambda progress: cg(a, rng.standard_normal((60, 2)), rtol=1e-10, progress=progress),
        "power_iteration": lambda progress: power_iteration(a, steps=50, progress=progress),
        "spectral_norm": lambda progress: spectral_norm(a, steps=50, progress=progress),
    }
    bars = watched_bars(monkeypatch)
    for name, call in calls.items():
        told = []
        call(lambda *state, told=told: told.append(state))
        steps = [s for s, _ in told]
        assert len(steps) > 2
        assert steps == sorted(steps)
        call(True)
        assert bars[-1].desc == name
        assert bars[-1].n == bars[-1].total
        assert not bars[-1].open


@pytest.mark.parametrize(
    "f", [cg, power_iteration, spectral_norm, nm.solvers.slq], ids=lambda f: f.__name__
)
def test_everything_after_the_arrays_is_a_keyword(f):
    parameters = list(inspect.signature(f).parameters.values())
    arrays = {"A", "b", "x0"}
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters if p.name not in arrays)


@each_dtype
@pytest.mark.parametrize("k", [None, 3])
def test_the_steps_on_a_device_are_the_same(rng, k, dtype, monkeypatch):
    """What runs on a device, in the arrays' namespace, here on the host."""
    from nnmath_core.solvers import conjugate, power

    a = definite(rng, 50, dtype, condition=10)
    b = rng.standard_normal(50 if k is None else (50, k)).astype(dtype)
    rtol = 1e-4 if dtype == np.float32 else 1e-9
    jacobi = np.diag(1 / np.diag(a)).astype(dtype)
    start = rng.standard_normal(50).astype(dtype)
    tall = rng.standard_normal((60, 50)).astype(dtype)

    def numbers():
        one, two = cg(a, b, rtol=rtol), cg(a, b, np.ones_like(b), rtol=rtol, M=jacobi)
        bent = [0, 0]
        with pytest.raises(ConvergenceError) as caught:
            cg(a - 0.5 * np.eye(50, dtype=dtype), b, rtol=1e-3)
        bent = caught.value.partial
        p, s = power_iteration(a, start=start, steps=30), spectral_norm(tall, start=start, steps=30)
        early = power_iteration(a, start=start, steps=500, tol=0.05)
        values = [one.value, two.value, bent.value, bent.direction, bent.curvature]
        values += [p.value, p.vector, s.value, s.left, s.right]
        return values, [x.iterations for x in (one, two, bent, p, s, early)]

    values, counts = numbers()
    monkeypatch.setattr(conjugate, "CPU", None)
    monkeypatch.setattr(power, "CPU", None)
    monkeypatch.setattr(conjugate, "to_device", lambda x, device: x)
    other, other_counts = numbers()
    for u, v in zip(values, other, strict=True):
        assert np.abs(u - v).max() <= 1e3 * np.finfo(dtype).eps * max(1.0, np.abs(u).max())
    for u, v in zip(counts, other_counts, strict=True):
        assert np.abs(u - v).max() <= 1
