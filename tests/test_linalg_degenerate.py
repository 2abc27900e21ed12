"""Linear algebra at singular, empty and single-entry matrices: values of NumPy and SciPy, derivatives by hand."""

import itertools

import numpy as np
import pytest
import scipy.linalg

import nnmath_core as nm
from nnmath_core import linalg as sl

EPS = float(np.finfo(np.float64).eps)
DTYPES = [np.float32, np.float64]
MODES = {
    "forward over reverse": lambda f: nm.jacfwd(nm.grad(f)),
    "reverse over reverse": lambda f: nm.jacrev(nm.grad(f)),
    "forward over forward": lambda f: nm.jacfwd(nm.jacfwd(f)),
    "reverse over forward": lambda f: nm.jacrev(nm.jacfwd(f)),
}


def normal(*shape, seed=0):
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape)


def of_rank(n, r):
    return normal(n, r) @ normal(r, n, seed=1)


# ------------------------------------------------------------------------- determinants
def leibniz(a):
    """The determinant by its definition: products of entries, differentiable by the rules of products."""
    n, total = a.shape[-1], 0.0
    for turn in itertools.permutations(range(n)):
        odd = sum(p > q for p, q in itertools.combinations(turn, 2)) % 2
        term = -1.0 if odd else 1.0
        for i in range(n):
            term = term * a[..., i, turn[i]]
        total = total + term
    return total


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("n", "r"), [(n, r) for n in (1, 2, 3, 4) for r in range(n + 1)])
def test_second_derivatives_of_determinants_of_every_rank(n, r, mode, dtype):
    a = of_rank(n, r)
    got = MODES[mode](np.linalg.det)(a.astype(dtype))
    want = nm.hessian(leibniz)(a.astype(dtype).astype(float))
    assert got.dtype == dtype
    # sums of at most n! products of n - 2 entries, through matrices of orthonormal columns
    bound = 64 * n * np.finfo(dtype).eps * max(1.0, np.abs(a).max(initial=0)) ** n
    np.testing.assert_allclose(got, want, rtol=0, atol=bound)
    np.testing.assert_allclose(
        nm.grad(np.linalg.det)(a.astype(dtype)),
        nm.grad(leibniz)(a.astype(dtype).astype(float)),
        rtol=0,
        atol=bound,
    )


def test_determinant_of_two_by_two_has_a_constant_second_derivative():
    want = np.zeros((2, 2, 2, 2))
    want[0, 0, 1, 1] = want[1, 1, 0, 0] = 1.0
    want[0, 1, 1, 0] = want[1, 0, 0, 1] = -1.0
    for a in (np.zeros((2, 2)), np.ones((2, 2)), np.eye(2), np.array([[1.0, 2.0], [2.0, 4.0]])):
        np.testing.assert_allclose(nm.hessian(np.linalg.det)(a), want, rtol=0, atol=16 * EPS)
        assert not nm.jacfwd(nm.hessian(np.linalg.det))(a).any()


@pytest.mark.parametrize("r", [0, 1, 2, 3, 4])
def test_derivatives_of_every_order_of_determinants(r):
    a, t = of_rank(4, r), normal(4, 4, seed=2)

    def along(f, order):
        g = lambda x: f(a + x * t)  # noqa: E731
        for _ in range(order):
            g = (lambda h: lambda x: nm.jvp(h, (x,), (1.0,))[1])(g)
        return float(g(0.0))

    for order in range(1, 6):
        want = along(leibniz, order)
        assert along(np.linalg.det, order) == pytest.approx(want, rel=1e-11, abs=1e-11)
    _, terms = nm.jet(np.linalg.det, (a,), ((t, 0 * t, 0 * t, 0 * t),))
    np.testing.assert_allclose(terms, [along(leibniz, k) for k in (1, 2, 3, 4)], rtol=0, atol=1e-11)
    third = nm.jacrev(nm.hessian(np.linalg.det))(a)
    np.testing.assert_allclose(third, nm.jacrev(nm.hessian(leibniz))(a), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_second_derivatives_of_determinants_of_a_stack(dtype):
    a = np.stack([of_rank(3, r) for r in range(4)]).astype(dtype)
    t = normal(4, 3, 3).astype(dtype)
    bound = 256 * np.finfo(dtype).eps * max(1.0, np.abs(a).max()) * max(1.0, np.abs(t).max())

    def gradient(x):
        return nm.grad(lambda x: np.sum(np.linalg.det(x)))(x)

    want = [
        nm.jvp(nm.grad(leibniz), (x.astype(float),), (d.astype(float),))[1]
        for x, d in zip(a, t, strict=True)
    ]
    for got in (
        nm.jvp(gradient, (a,), (t,))[1],
        nm.vjp(gradient, a)[1](t)[0],
        nm.vmap(lambda x, d: nm.jvp(nm.grad(np.linalg.det), (x,), (d,))[1])(a, t),
        nm.stage(lambda x: nm.jvp(gradient, (x,), (t,))[1], a)(a),
    ):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, rtol=0, atol=bound)


def test_gradient_of_a_determinant_agrees_with_the_complex_step_at_singular_matrices():
    t = normal(3, 3, seed=3)
    for r in range(4):
        a = of_rank(3, r)
        got = nm.jvp(nm.grad(np.linalg.det), (a,), (t,))[1]
        step = leibniz_cofactors(a + 1e-30j * t).imag / 1e-30
        np.testing.assert_allclose(got, step, rtol=0, atol=64 * EPS * np.abs(step).max() + 64 * EPS)


def leibniz_cofactors(a):
    """Cofactors of 3 x 3 by cross products of the rows."""
    return np.stack([np.cross(a[1], a[2]), np.cross(a[2], a[0]), np.cross(a[0], a[1])])


def test_determinants_of_complex_singular_matrices():
    z = of_rank(3, 2) + 1j * of_rank(3, 0)
    z = np.outer(z[0], z[1] + 1j) + np.outer(z[2] * 1j, z[1] - 1j)
    t = normal(3, 3) + 1j * normal(3, 3, seed=5)

    def second(f):
        return nm.jvp(lambda x: nm.jvp(lambda s: f(z + s * t), (x,), (1.0,))[1], (0.0,), (1.0,))[1]

    np.testing.assert_allclose(second(np.linalg.det), second(leibniz), rtol=1e-13)


def test_entries_out_of_range_do_not_spoil_the_other_cofactors():
    a = np.diag([1e-200, 1e200, 1.0])
    np.testing.assert_allclose(
        np.diag(nm.grad(np.linalg.det)(a)), [1e200, 1e-200, 1.0], rtol=4 * EPS
    )
    h = nm.hessian(np.linalg.det)(a)
    np.testing.assert_allclose(
        [h[0, 0, 1, 1], h[0, 0, 2, 2], h[1, 1, 2, 2]], [1, 1e200, 1e-200], rtol=4 * EPS
    )


def test_nan_flows_through_determinants():
    a = np.stack([np.full((2, 2), np.nan), np.eye(2)])
    with np.errstate(invalid="ignore"):
        value, slope = nm.jvp(np.linalg.det, (a,), (a,))
    np.testing.assert_array_equal(value, [np.nan, 1.0])
    np.testing.assert_allclose(slope, [np.nan, 2.0])
    with np.errstate(invalid="ignore"):
        g = nm.grad(lambda a: np.sum(np.linalg.det(a)))(a)
    assert np.isnan(g[0]).all()
    np.testing.assert_array_equal(g[1], np.eye(2))
    assert nm.grad(np.linalg.det)(np.zeros((0, 0))).shape == (0, 0)


def test_logarithm_of_a_determinant_that_is_zero_has_an_infinite_derivative():
    # as the logarithm at 0: the limit of cof(a) / det(a) as the determinant falls to 0
    for a in (np.zeros((1, 1)), np.diag([2.0, 0.0]), np.zeros((2, 2))):
        (_, value), (_, slope) = nm.jvp(
            lambda a: tuple(np.linalg.slogdet(a)), (a,), (np.eye(len(a)),)
        )
        assert value == -np.inf
        assert not np.isfinite(slope)
    g = nm.grad(lambda a: np.linalg.slogdet(a)[1])(np.diag([2.0, 0.0]))
    np.testing.assert_array_equal(g, [[np.nan, np.nan], [np.nan, np.inf]])
    stack = np.stack([np.eye(2), np.ones((2, 2))])
    g = nm.grad(lambda a: np.sum(np.linalg.slogdet(a)[1]))(stack)
    np.testing.assert_array_equal(g, [np.eye(2), [[np.inf, -np.inf], [-np.inf, np.inf]]])


# ------------------------------------------------------------------------- factorizations
def test_lu_of_a_matrix_whose_last_pivot_is_zero_has_derivatives():
    a, t = np.array([[2.0, 1.0], [1.0, 0.5]]), np.array([[0.3, -0.2], [0.7, 0.4]])
    _, (_, dl, du) = nm.jvp(lambda a: sl.lu(a, p_indices=True), (a,), (t,))
    l10, u00, u01 = 0.5, 2.0, 1.0
    slope = (t[1, 0] - l10 * t[0, 0]) / u00
    np.testing.assert_allclose(dl, [[0, 0], [slope, 0]], rtol=0, atol=4 * EPS)
    np.testing.assert_allclose(
        du, [t[0], [0, t[1, 1] - slope * u01 - l10 * t[0, 1]]], rtol=0, atol=4 * EPS
    )
    g = nm.grad(lambda a: np.sum(sl.lu(a, p_indices=True)[2]))(a)
    np.testing.assert_allclose(np.sum(g * t), np.sum(du), rtol=0, atol=8 * EPS)


def test_factors_behind_a_zero_pivot_have_no_derivative_and_the_others_keep_theirs():
    a = np.ones((3, 3))
    y, (_, dl, du) = nm.jvp(lambda a: sl.lu(a, p_indices=True), (a,), (np.eye(3),))
    np.testing.assert_array_equal(y[2], scipy.linalg.lu(a)[2])
    assert np.isfinite(dl[:, 0]).all()
    np.testing.assert_array_equal(du[0], [1.0, 0.0, 0.0])
    assert np.isnan(dl[2, 1])
    for f in (np.linalg.qr, lambda a: sl.qr(a, mode="economic")):
        y, slope = nm.jvp(lambda a, f=f: tuple(f(a)), (np.zeros((3, 3)),), (np.eye(3),))
        np.testing.assert_array_equal(y[1], np.zeros((3, 3)))
        assert np.isnan(slope[1]).any()


def test_qr_of_a_square_matrix_without_full_rank_has_derivatives():
    a, t = of_rank(3, 2), normal(3, 3, seed=4)
    a[:, 2] = a[:, 0]  # R has an exact or rounded zero at its end
    q, dq = nm.jvp(lambda a: np.linalg.qr(a)[0], (a,), (t,))
    r, dr = nm.jvp(lambda a: np.linalg.qr(a)[1], (a,), (t,))
    np.testing.assert_allclose(dq @ r + q @ dr, t, rtol=0, atol=1e-13)
    np.testing.assert_allclose(dq.T @ q + q.T @ dq, np.zeros((3, 3)), rtol=0, atol=1e-13)
    assert not np.tril(dr, -1).round(13).any()
    b = np.array([[1.0, 1.0], [2.0, 2.0]])
    h = 1e-6
    near = [
        (x - y) / (2 * h)
        for x, y in zip(
            np.linalg.qr(b + h * t[:2, :2]), np.linalg.qr(b - h * t[:2, :2]), strict=True
        )
    ]
    got = nm.jvp(lambda a: tuple(np.linalg.qr(a)), (b,), (t[:2, :2],))[1]
    for x, y in zip(got, near, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(2, 3), (4, 4), (5, 3), (2, 4, 4), (3, 0), (0, 3)])
def test_pivots_are_those_of_lapack(shape):
    a = normal(*shape)
    found = [scipy.linalg.lu_factor(x) for x in a.reshape(-1, *shape[-2:])] if a.size else []
    want = [np.stack(v).reshape(*shape[:-2], *v[0].shape) for v in zip(*found, strict=True)]
    want = tuple(want or scipy.linalg.lu_factor(a))
    seen = []

    def f(a):
        seen.append([nm.value_of(v) for v in sl.lu_factor(a)])
        return np.sum(a)

    nm.grad(f)(a)
    np.testing.assert_allclose(seen[0][0], want[0], rtol=0, atol=64 * EPS)
    np.testing.assert_array_equal(seen[0][1], want[1])
    for x, y in zip(nm.stage(sl.lu_factor, a)(a), want, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=64 * EPS)
    if a.ndim == 2 and a.shape == (4, 4):
        # a pair of a traced matrix is SciPy's, and the other way round
        b = normal(4)
        x = nm.vmap(lambda b: sl.lu_solve(want, b))(np.stack([b, b]))[0]
        np.testing.assert_allclose(x, np.linalg.solve(a, b), rtol=0, atol=1e-12)
        np.testing.assert_allclose(scipy.linalg.lu_solve(tuple(seen[0]), b), x, rtol=0, atol=1e-12)


# ------------------------------------------------------------------------- roots
SINGULAR = pytest.mark.filterwarnings("ignore:Matrix is singular:scipy.linalg.LinAlgWarning")
"""SciPy's own warning of a matrix that might not have a root."""


@SINGULAR
@pytest.mark.parametrize("dtype", DTYPES)
def test_root_of_a_singular_matrix_has_an_infinite_derivative(dtype):
    w = np.array([[1.0, 2.0], [3.0, 4.0]], dtype)
    a = np.diag([1.0, 0.0]).astype(dtype)
    got = nm.grad(lambda a: np.sum(w * sl.sqrtm(a)))(a)
    assert got.dtype == dtype
    # w_ij / (r_i + r_j) for the roots r = 1, 0
    np.testing.assert_array_equal(got, [[0.5, 2.0], [3.0, np.inf]])
    slope = nm.jvp(sl.sqrtm, (a,), (w,))[1]
    np.testing.assert_array_equal(slope, [[0.5, 2.0], [3.0, np.inf]])
    # without a part along the null space infinity times 0, as of the root of a number
    np.testing.assert_array_equal(
        nm.jvp(sl.sqrtm, (a,), (np.diag([1.0, 0.0]).astype(dtype),))[1], [[0.5, 0.0], [0.0, np.nan]]
    )
    np.testing.assert_array_equal(
        nm.jvp(sl.sqrtm, (np.zeros((2, 2), dtype),), (w,))[1], np.full((2, 2), np.inf)
    )


@SINGULAR
def test_root_of_a_projector_and_of_a_matrix_that_is_not_symmetric():
    # the null space of both is that of (1, -1) or (1, -2): no entry of the root stays finite
    for a in (np.ones((2, 2)), np.array([[4.0, 2.0], [2.0, 1.0]]), np.ones((3, 3))):
        assert not np.isfinite(nm.jvp(sl.sqrtm, (a,), (np.eye(len(a)),))[1]).any()
        np.testing.assert_allclose(
            nm.vmap(sl.sqrtm)(a[None])[0] @ a, a @ nm.vmap(sl.sqrtm)(a[None])[0], atol=1e-14
        )
    a, w = np.array([[1.0, 1.0], [0.0, 0.0]]), np.array([[1.0, 2.0], [3.0, 4.0]])
    # a^2 = a: its range is (1, 0), its null space (1, -1)
    got = nm.grad(lambda a: np.sum(w * sl.sqrtm(a)))(a)
    np.testing.assert_allclose(got[0], [-0.5, 2.0], rtol=0, atol=8 * EPS)
    np.testing.assert_array_equal(got[1], [-np.inf, np.inf])
    # a stack: the other matrices keep their derivatives
    stack = np.stack([a, 4 * np.eye(2)])
    got = nm.grad(lambda a: np.sum(w * sl.sqrtm(a)))(stack)
    np.testing.assert_allclose(got[1], w / 4, rtol=0, atol=8 * EPS)
    # a Jordan block has no root
    assert np.isnan(nm.jvp(sl.sqrtm, (np.eye(2, k=1),), (np.eye(2),))[1]).all()


@SINGULAR
def test_root_along_matrices_that_stay_singular_is_finite_beside_the_null_space():
    def root(x):  # x (1, 0; 0, 0)
        return sl.sqrtm(np.stack([np.stack([x, 0.0]), np.zeros(2)]))[0, 0]

    assert nm.grad(root)(np.float64(4.0)) == 0.25


# ------------------------------------------------------------------------- nothing, and one number
EMPTY, ROWS, ONE = np.zeros((0, 3)), np.zeros((3, 0)), np.array(0.5)


def no_rank(a):  # older versions of NumPy raise
    return np.zeros(a.shape[:-2], int)


SMALL = {
    "pinv of no rows": (sl.pinv, scipy.linalg.pinv, EMPTY),
    "pinv of no columns": (
        lambda a: sl.pinv(a, return_rank=True),
        lambda a: scipy.linalg.pinv(a, return_rank=True),
        ROWS,
    ),
    "matrix_rank of no rows": (np.linalg.matrix_rank, no_rank, EMPTY),
    "matrix_rank of a stack": (np.linalg.matrix_rank, no_rank, np.zeros((2, 3, 0))),
    "lstsq": (lambda a, b: tuple(np.linalg.lstsq(a, b)), np.linalg.lstsq, EMPTY, np.zeros(0)),
    "scipy lstsq": (sl.lstsq, scipy.linalg.lstsq, EMPTY, np.zeros((0, 2))),
    "lu of no columns": (sl.lu, scipy.linalg.lu, ROWS),
    "lu of no rows": (sl.lu, scipy.linalg.lu, EMPTY),
    "lu permuted": (
        lambda a: sl.lu(a, permute_l=True),
        lambda a: scipy.linalg.lu(a, permute_l=True),
        ROWS,
    ),
    "circulant": (sl.circulant, scipy.linalg.circulant, ONE),
    "solve_circulant": (sl.solve_circulant, scipy.linalg.solve_circulant, ONE, 2 * ONE),
    "solve_circulant of nothing": (
        sl.solve_circulant,
        scipy.linalg.solve_circulant,
        ROWS,
        np.zeros(0),
    ),
    "lyapunov": (
        sl.solve_continuous_lyapunov,
        scipy.linalg.solve_continuous_lyapunov,
        ONE,
        3 * ONE,
    ),
    "lyapunov of vectors": (sl.solve_lyapunov, scipy.linalg.solve_lyapunov, np.ones(1), np.ones(1)),
    "convolution_matrix": (
        lambda a: sl.convolution_matrix(a, 2),
        lambda a: scipy.linalg.convolution_matrix(a, 2),
        np.array([np.nan, 1, np.inf]),
    ),
    "whole power of a negative matrix": (
        lambda a: sl.fractional_matrix_power(a, 3.0),
        lambda a: scipy.linalg.fractional_matrix_power(a, 3.0),
        -np.eye(2),
    ),
    "inverse power": (
        lambda a: sl.fractional_matrix_power(a, -1),
        lambda a: scipy.linalg.fractional_matrix_power(a, -1),
        np.diag([1.0, -2.0]),
    ),
    "derivative of a huge exponential": (
        sl.expm_frechet,
        scipy.linalg.expm_frechet,
        np.full((2, 2), 1e200),
        np.ones((2, 2)),
    ),
    "and of a tiny one": (
        sl.expm_frechet,
        scipy.linalg.expm_frechet,
        np.diag([-1e200, 1.0]),
        np.ones((2, 2)),
    ),
}


def parts(y):
    return list(y) if isinstance(y, tuple) else [y]


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("name", SMALL)
def test_values_are_those_of_the_library(name):
    ours, theirs, *xs = SMALL[name]
    want = parts(tuple(theirs(*xs)) if isinstance(theirs(*xs), tuple) else theirs(*xs))

    def recorded(*xs):
        seen[:] = [nm.value_of(v) for v in parts(ours(*xs))]
        return 0.0 * np.sum(xs[0])

    seen = []
    gradient = nm.grad(recorded)(*xs)
    assert gradient.shape == np.shape(xs[0])
    for way in ("reverse", "forward"):
        if way == "forward":
            nm.jvp(recorded, tuple(xs), tuple(xs))
        assert len(seen) == len(want)
        for a, b in zip(seen, want, strict=True):
            assert np.shape(a) == np.shape(b), way
            np.testing.assert_allclose(a, b, rtol=8 * EPS, err_msg=way)


def test_derivatives_of_single_numbers():
    c, b = np.float64(0.5), np.float64(3.0)
    assert nm.grad(lambda c: np.sum(sl.circulant(c)))(c) == 1.0
    np.testing.assert_allclose(
        nm.grad(lambda c, b: sl.solve_circulant(c, b)[0], argnums=(0, 1))(c, b),
        (-b / c**2, 1 / c),
        rtol=8 * EPS,
    )
    # 2 a x = q
    np.testing.assert_allclose(
        nm.grad(lambda a, q: sl.solve_lyapunov(a, q)[0, 0], argnums=(0, 1))(c, b),
        (-b / (2 * c**2), 1 / (2 * c)),
        rtol=8 * EPS,
    )
    for f in (sl.hankel, lambda c: sl.convolution_matrix(c, 2)):
        with pytest.raises(nm.ShapeError, match="one axis"):
            nm.grad(lambda c, f=f: np.sum(f(c)))(c)


def test_derivative_of_whole_powers_of_any_matrix():
    a, w = np.diag([1.0, -2.0]), normal(2, 2)
    got = nm.grad(lambda a: np.sum(w * sl.fractional_matrix_power(a, 3)))(a)
    want = nm.grad(lambda a: np.sum(w * (a @ a @ a)))(a)
    np.testing.assert_allclose(got, want, rtol=0, atol=64 * EPS)


def test_derivative_of_the_derivative_of_the_exponential():
    a, e, w = normal(3, 3) / 2, normal(3, 3, seed=1), normal(3, 3, seed=2)

    def by_jvp(a, e):  # the same through the exponential alone
        return np.sum(w * nm.jvp(sl.expm, (a,), (e,))[1])

    got = nm.grad(lambda a, e: np.sum(w * sl.expm_frechet(a, e)[1]), argnums=(0, 1))(a, e)
    want = nm.grad(by_jvp, argnums=(0, 1))(a, e)
    for x, y in zip(got, want, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-13 * max(1.0, np.abs(y).max()))
    second = nm.hessian(lambda a: np.sum(w * sl.expm_frechet(a, e)[1]))(a)
    np.testing.assert_allclose(second, nm.hessian(lambda a: by_jvp(a, e))(a), rtol=0, atol=1e-12)
