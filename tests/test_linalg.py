"""`numpy.linalg` and `nnmath_core.linalg` on tracers: values of NumPy and SciPy, derivatives in both modes.

Each row is a function and its arguments. Values are those of the library on plain arrays; the
derivative along a random direction is compared with differences in both modes, in second order
forward mode with reverse mode.
"""

import importlib.util
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg

import nnmath_core as nm
from nnmath_core import linalg as sl


def load_reference(name):
    """Import a script of ``tests/reference``."""
    path = Path(__file__).parent / "reference" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = load_reference("linalg_peers")
PEERS = json.loads(reference.STORED.read_text())
nl = np.linalg
EPS = float(np.finfo(np.float64).eps)
rng = np.random.default_rng(3)


def normal(*shape):
    return rng.standard_normal(shape)


SQUARE = np.eye(4) * 2 + 0.4 * normal(4, 4)
STACK = np.eye(3) * 2 + 0.4 * normal(2, 3, 3)
SPD = SQUARE @ SQUARE.T / 4 + np.eye(4)
TALL = np.eye(5, 3) * 2 + 0.4 * normal(5, 3)
WIDE = TALL.T.copy()
LOWER = np.tril(SQUARE) + 0.1
STABLE = SQUARE / 4 - np.eye(4)
VECTOR = normal(4)
COLUMNS = normal(4, 2)
FIRST, ROW = np.array([5.0, 1.0, 0.3, 0.2]), np.array([5.0, -1.0, 0.5])
BANDS = normal(4, 6) + np.array([[0.0], [6.0], [0.0], [0.0]])
HALF = normal(3, 6) * 0.5 + np.array([[6.0], [0.0], [0.0]])


def gram(q):
    return q @ q.T


CASES = {
    # NumPy's names, called from NumPy
    "solve": (nl.solve, SQUARE, VECTOR),
    "solve of a stack": (nl.solve, STACK, normal(2, 3, 2)),
    "inv": (nl.inv, STACK),
    "det": (nl.det, STACK),
    "slogdet": (lambda a: tuple(nl.slogdet(a)), STACK),
    "cholesky": (nl.cholesky, SPD),
    "cholesky upper": (lambda a: nl.cholesky(a, upper=True), SPD),
    "qr": (lambda a: tuple(nl.qr(a)), TALL),
    "qr wide": (lambda a: tuple(nl.qr(a)), WIDE),
    "qr complete": (lambda a: tuple(nl.qr(a, "complete")), SQUARE),
    "qr complete wide": (lambda a: tuple(nl.qr(a, mode="complete")), WIDE),
    "qr r": (lambda a: nl.qr(a, "r"), STACK),
    "eigh": (lambda a: nl.eigh(a)[0], SPD),
    "eigvalsh": (lambda a: nl.eigvalsh(a, UPLO="U"), SPD),
    "eigvals": (lambda a: np.abs(nl.eigvals(a)), STACK),
    "svd": (lambda a: nl.svd(a, compute_uv=False), STACK),
    "svdvals": (nl.svdvals, TALL),
    "pinv": (nl.pinv, TALL),
    "pinv wide": (lambda a: nl.pinv(a, rtol=1e-9), WIDE),
    "pinv hermitian": (lambda a: nl.pinv(a, hermitian=True), SPD),
    "lstsq": (lambda a, b: (nl.lstsq(a, b)[0], nl.lstsq(a, b)[1], nl.lstsq(a, b)[3]), TALL, normal(5)),
    "lstsq columns": (lambda a, b: nl.lstsq(a, b)[0], WIDE, normal(3, 2)),
    **{f"matrix_power {n}": (lambda a, n=n: nl.matrix_power(a, n), STACK) for n in (-3, -1, 0, 1, 2, 3, 7)},
    **{
        f"norm {o} of {name}": (lambda a, o=o: nl.norm(a, o), a)
        for o in (None, "fro", "nuc", 1, 2, np.inf, -1, -2, -np.inf)
        for name, a in (("tall", TALL), ("square", SQUARE))
    },
    "norm of a stack": (lambda a: nl.norm(a, "nuc", axis=(2, 0)), STACK),
    "norm keepdims": (lambda a: nl.norm(a, 2, axis=(0, 2), keepdims=True), STACK),
    "matrix_norm": (lambda a: nl.matrix_norm(a, ord=2), STACK),
    "vector_norm": (lambda a: nl.vector_norm(a, axis=1, ord=3), STACK),
    **{f"cond {p}": (lambda a, p=p: nl.cond(a, p), STACK) for p in (None, 2, -2, 1, -1, np.inf, "fro", "nuc")},
    "cond of a tall matrix": (nl.cond, TALL),
    "multi_dot": (lambda *xs: nl.multi_dot(xs), normal(3), WIDE, TALL, normal(3, 2)),
    "multi_dot of vectors": (lambda *xs: nl.multi_dot(xs), normal(3), WIDE, normal(5)),
    "tensorsolve": (nl.tensorsolve, normal(2, 3, 6), normal(2, 3)),
    "tensorsolve axes": (lambda a, b: nl.tensorsolve(a, b, axes=(0,)), normal(6, 2, 3), normal(2, 3)),
    "tensorinv": (nl.tensorinv, normal(2, 3, 6)),
    "tensorinv 1": (lambda a: nl.tensorinv(a, ind=1), normal(6, 2, 3)),
    "cross": (nl.cross, normal(2, 3), normal(2, 3)),
    "outer": (nl.outer, normal(2), normal(3)),
    "matrix_transpose": (nl.matrix_transpose, STACK),
    "diagonal": (lambda a: nl.diagonal(a, offset=1), STACK),
    "trace": (nl.trace, STACK),
    "vecdot": (nl.vecdot, normal(2, 3), normal(2, 3)),
    # SciPy's
    **{
        f"solve_triangular {trans} {lower} {unit}": (
            lambda a, b, t=trans, l_=lower, u=unit: sl.solve_triangular(a, b, trans=t, lower=l_, unit_diagonal=u),
            LOWER + LOWER.T, COLUMNS)
        for trans in (0, 1, "C") for lower in (True, False) for unit in (True, False)
    },
    **{
        f"solve {kind} {lower}": (lambda a, b, k=kind, l_=lower: sl.solve(a, b, assume_a=k, lower=l_), SPD, VECTOR)
        for kind in (None, "gen", "sym", "her", "pos", "lower triangular", "diagonal") for lower in (True, False)
    },
    "solve transposed": (lambda a, b: sl.solve(a, b, transposed=True), SQUARE, COLUMNS),
    "scipy cholesky": (sl.cholesky, SPD),
    "cho_solve": (lambda a, b: sl.cho_solve(sl.cho_factor(a), b), SPD, VECTOR),
    "cho_solve lower": (lambda a, b: sl.cho_solve(sl.cho_factor(a, lower=True), b), SPD, COLUMNS),
    "lu": (sl.lu, SQUARE[[2, 0, 3, 1]]),
    "lu permuted": (lambda a: sl.lu(a, permute_l=True), TALL[[2, 0, 3, 1, 4]]),
    "lu wide": (lambda a: sl.lu(a, p_indices=True), WIDE[[1, 2, 0]]),
    **{
        f"lu_solve {t}": (lambda a, b, t=t: sl.lu_solve(sl.lu_factor(a), b, trans=t), SQUARE[[2, 0, 3, 1]], COLUMNS)
        for t in (0, 1, 2)
    },
    "lu_solve of a plain pair": (lambda b: sl.lu_solve(scipy.linalg.lu_factor(SQUARE[[2, 0, 3, 1]]), b), VECTOR),
    "logdet": (sl.logdet, SPD),
    "logdet gen": (lambda a: sl.logdet(a, assume_a="gen"), STACK),
    "scipy inv": (sl.inv, SQUARE),
    "scipy det": (sl.det, SQUARE),
    "scipy pinv": (sl.pinv, TALL),
    "scipy lstsq": (lambda a, b: sl.lstsq(a, b)[0], TALL, normal(5)),
    "solve_banded": (lambda ab, b: sl.solve_banded((2, 1), ab, b), BANDS, normal(6, 2)),
    "solveh_banded lower": (lambda ab, b: sl.solveh_banded(ab, b, lower=True), HALF, normal(6)),
    "solveh_banded": (sl.solveh_banded, HALF[::-1].copy(), normal(6)),
    "solve_toeplitz": (sl.solve_toeplitz, FIRST, VECTOR),
    "solve_toeplitz of two": (lambda c, r, b: sl.solve_toeplitz((c, r), b), FIRST, FIRST[::-1] / 9, VECTOR),
    "solve_circulant": (sl.solve_circulant, FIRST, VECTOR),
    "solve_circulant columns": (sl.solve_circulant, FIRST, COLUMNS),
    "scipy qr": (sl.qr, SQUARE),
    "scipy qr economic": (lambda a: sl.qr(a, mode="economic"), TALL),
    "scipy qr r": (lambda a: sl.qr(a, mode="r"), TALL),
    "scipy svdvals": (sl.svdvals, WIDE),
    "scipy eigh": (lambda a: sl.eigh(a, lower=False, eigvals_only=True), SPD),
    **{
        f"eigh of a pair, type {t}": (
            lambda a, b, t=t: (sl.eigvalsh(a, b, type=t), np.abs(sl.eigh(a, b, type=t)[1])), SQUARE + SQUARE.T, SPD)
        for t in (1, 2, 3)
    },
    "eigh subset": (lambda a: sl.eigvalsh(a, subset_by_index=[1, 2]), SPD),
    "eigh_tridiagonal": (lambda d, e: sl.eigh_tridiagonal(d, e, eigvals_only=True), normal(5), normal(4)),
    "scipy eigvals": (lambda a: np.abs(sl.eigvals(a)), SQUARE),
    **{f"polar {side}": (lambda a, s=side: sl.polar(a, s), TALL) for side in ("left", "right")},
    "polar wide": (sl.polar, WIDE),
    "orth": (lambda a: gram(sl.orth(a)), TALL),
    "null_space": (lambda a: gram(sl.null_space(a)), WIDE),
    "scipy norm": (lambda a: sl.norm(a, 2), TALL),
    **{
        name: (getattr(sl, name), SQUARE / 4)
        for name in "expm cosm sinm tanm coshm sinhm tanhm".split()
    },
    "expm_frechet": (sl.expm_frechet, SQUARE / 4, normal(4, 4)),
    "sqrtm": (sl.sqrtm, SPD),
    "logm": (sl.logm, SPD),
    "fractional_matrix_power": (lambda a: sl.fractional_matrix_power(a, 0.3), SPD),
    "solve_sylvester": (sl.solve_sylvester, SPD, gram(normal(3, 3)), normal(4, 3)),
    "solve_continuous_lyapunov": (sl.solve_continuous_lyapunov, SQUARE, SPD),
    "solve_discrete_lyapunov": (sl.solve_discrete_lyapunov, SQUARE / 5, SPD),
    "solve_discrete_lyapunov bilinear": (
        lambda a, q: sl.solve_discrete_lyapunov(a, q, method="bilinear"), SQUARE / 5, SPD),
    "solve_continuous_are": (
        lambda a, b, q: sl.solve_continuous_are(a, b, gram(q), np.eye(2)), STABLE, COLUMNS, SPD / 2),
    "solve_continuous_are of r": (
        lambda r: sl.solve_continuous_are(STABLE, COLUMNS, gram(SPD / 2), gram(r)), np.eye(2) + 0.3 * normal(2, 2)),
    "solve_discrete_are": (
        lambda a, b, q: sl.solve_discrete_are(a, b, gram(q), np.eye(2)), SQUARE / 5, COLUMNS / 2, SPD / 2),
    "toeplitz": (sl.toeplitz, FIRST, ROW),
    "toeplitz symmetric": (sl.toeplitz, FIRST),
    "hankel": (sl.hankel, FIRST, ROW),
    "hankel triangular": (sl.hankel, FIRST),
    "circulant": (sl.circulant, FIRST),
    "block_diag": (sl.block_diag, TALL, VECTOR, SQUARE),
    "companion": (sl.companion, FIRST),
    "leslie": (sl.leslie, FIRST, ROW),
    "fiedler": (sl.fiedler, FIRST),
    "khatri_rao": (sl.khatri_rao, TALL, normal(2, 3)),
    "kron": (sl.kron, TALL, COLUMNS),
    **{
        f"convolution_matrix {mode} {n}": (lambda a, m=mode, n=n: sl.convolution_matrix(a, n, m), FIRST)
        for mode in ("full", "same", "valid") for n in (3, 6)
    },
}  # fmt: skip


def leaves(y):
    """Floating results as real arrays."""
    flat = [v for z in y for v in leaves(z)] if isinstance(y, (tuple, list)) else [y]
    return [v for v in flat if hasattr(v, "dtype") and v.dtype.kind in "fc"]


def total(f, seen=None):
    """A number that sees every entry of the result."""

    def g(*xs):
        y = leaves(f(*xs))
        if seen is not None:
            seen.append([nm.value_of(v) for v in y])
        return sum(np.sum(np.sin(v) * 1.25) for v in y)

    return g


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name):
    f, *xs = CASES[name]
    seen = []
    g = total(f, seen)
    ts = [np.random.default_rng(k).standard_normal(np.shape(x)) for k, x in enumerate(xs)]
    every = tuple(range(len(xs)))
    gradient = nm.grad(g, argnums=every)(*xs)
    want = leaves(f(*xs))
    assert len(want) == len(seen[0])
    for a, b in zip(seen[0], want, strict=True):
        assert np.shape(a) == np.shape(b)
        # two algorithms of matrices with condition numbers below 1e2
        np.testing.assert_allclose(
            a, b, rtol=0, atol=1e4 * EPS * max(1.0, np.abs(b).max(initial=0))
        )
    h = EPS ** (1 / 3)

    def moved(h):
        return total(f)(*(x + h * t for x, t in zip(xs, ts, strict=True)))

    near, far = ((moved(k * h) - moved(-k * h)) / (2 * k * h) for k in (1, 2))
    bound = abs(near - far) + 1e4 * EPS * max(1.0, abs(float(g(*xs)))) / h
    assert bound < 1e-4 * max(1.0, abs(near))
    forward = float(nm.jvp(g, tuple(xs), tuple(ts))[1])
    reverse = float(sum(np.sum(a * t) for a, t in zip(gradient, ts, strict=True)))
    assert abs(forward - near) <= bound
    size = sum(np.sum(np.abs(a * t)) for a, t in zip(gradient, ts, strict=True))
    assert abs(forward - reverse) <= 1e4 * EPS * max(1.0, size)


@pytest.mark.parametrize("name", CASES)
def test_second_order_modes_agree_and_single_precision_stays(name):
    f, *xs = CASES[name]
    g = total(f)
    t = np.random.default_rng(9).standard_normal(np.shape(xs[0]))

    def first(x):
        return g(x, *xs[1:])

    a = nm.jvp(nm.grad(first), (xs[0],), (t,))[1]
    b = nm.grad(lambda x: np.sum(nm.grad(first)(x) * t))(xs[0])
    c = nm.grad(lambda x: nm.jvp(first, (x,), (t,))[1])(xs[0])
    bound = 1e5 * EPS * max(1.0, float(np.abs(a).max()))
    np.testing.assert_allclose(b, a, rtol=0, atol=bound)
    np.testing.assert_allclose(c, a, rtol=0, atol=bound)
    small = nm.grad(g, argnums=tuple(range(len(xs))))(*(x.astype(np.float32) for x in xs))
    assert all(v.dtype == np.float32 for v in small)


# ------------------------------------------------------------------------- peers
@pytest.mark.parametrize("peer", PEERS)
def test_gradients_are_those_of_the_peers(peer):
    answers = PEERS[peer]["answers"]
    assert len(answers) >= 20
    for name, stored in answers.items():
        kind, text = reference.PROGRAMS[name]
        a, draw = reference.operands(kind)
        w = draw.standard_normal(np.shape(reference.value(text, a, np.linalg, scipy.linalg)))
        got = nm.grad(lambda a, t=text, w=w: np.sum(w * reference.value(t, a, np.linalg, sl)))(a)
        want = np.reshape(stored, a.shape)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-11 * np.abs(want).max(), err_msg=name)


# ------------------------------------------------------------------------- names and signatures
def test_all_of_numpys_linear_algebra_is_here_with_its_signatures():
    names = {n for n in np.linalg.__all__ if n != "test"}
    assert names == set(nm.numpy.linalg.__all__)
    for n in names - {"LinAlgError", "diagonal", "trace", "matmul", "tensordot", "vecdot"}:
        want = list(inspect.signature(getattr(np.linalg, n)).parameters)
        got = list(inspect.signature(getattr(nm.numpy.linalg, n)).parameters)
        if n in ("outer", "det", "inv", "matrix_transpose", "vecdot", "multi_dot", "matrix_power"):
            assert len(got) == len(want), n
        else:
            assert [g.lower() for g in got] == [w.lower() for w in want], n


def test_scipys_signatures():
    for n in sl.__all__:
        ours, theirs = getattr(sl, n), getattr(scipy.linalg, n, None)
        if theirs is None or ours is theirs or n in ("kron", "lu", "sqrtm", "logm"):
            continue
        want = [
            p
            for p in inspect.signature(theirs).parameters
            if p not in ("assume_a", "lower", "transposed")
        ]
        got = inspect.signature(ours).parameters
        assert [p for p in got if p in want] == want, n


def test_plain_arrays_get_what_the_library_gives():
    for f, *xs in CASES.values():
        y = f(*xs)
        assert not any(isinstance(v, nm.Tracer) for v in leaves(y))
    assert sl.expm(np.zeros((2, 2), int)).dtype == np.float64
    assert nm.numpy.linalg.eig(np.diag([1.0, 2.0]))[0].dtype == np.float64
    with pytest.raises(np.linalg.LinAlgError):
        nm.numpy.linalg.svd(np.zeros(3))


# ------------------------------------------------------------------------- special points
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pseudo_inverse_at_constant_rank(dtype):
    u, v = normal(4, 2), normal(2, 3)
    cut = 1e-4
    weight = normal(3, 4)

    def f(u, v):  # matrices of rank 2
        return np.sum(weight * np.linalg.pinv(u @ v, rcond=cut))

    def g(u, v):  # the same by the factors of full rank
        return np.sum(weight * (v.T @ np.linalg.inv(v @ v.T) @ np.linalg.inv(u.T @ u) @ u.T))

    want = nm.grad(g, argnums=(0, 1))(u, v)
    got = nm.grad(f, argnums=(0, 1))(u.astype(dtype), v.astype(dtype))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e4 * np.finfo(dtype).eps * np.abs(b).max())
    if dtype == np.float64:
        h, k = nm.hessian(f)(u, v), nm.hessian(g)(u, v)
        np.testing.assert_allclose(h, k, rtol=0, atol=1e6 * EPS * np.abs(k).max())


def test_matrix_functions_do_not_mind_repeated_eigenvalues():
    weight = normal(3, 3)
    for f, slope in ((sl.expm, 1.0), (sl.sqrtm, 0.5), (sl.logm, 1.0)):
        at = np.zeros((3, 3)) if f is sl.expm else np.eye(3)
        got = nm.grad(lambda a, f=f: np.sum(weight * f(a)))(at)
        np.testing.assert_allclose(got, slope * weight, rtol=0, atol=64 * EPS)
        assert np.all(np.isfinite(nm.hessian(lambda a, f=f: np.sum(weight * f(a)))(at)))
    u, _ = sl.polar(np.eye(3))
    got = nm.grad(lambda a: np.sum(weight * sl.polar(a)[0]))(u)
    np.testing.assert_allclose(got, (weight - weight.T) / 2, rtol=0, atol=64 * EPS)


def test_large_matrices_of_the_exponential_are_scaled():
    a = np.array([[0.0, 30.0], [-30.0, 0.0]])
    np.testing.assert_allclose(
        nm.jvp(sl.expm, (a,), (a / 30,))[1],
        [[-np.sin(30), np.cos(30)], [-np.cos(30), -np.sin(30)]],
        atol=1e-11,
    )


# ------------------------------------------------------------------------- bad input
BAD = {
    "qr complete of a tall matrix": (lambda a: nl.qr(a, "complete")[0], TALL, nm.TraceError, "arbitrary basis"),
    "qr raw": (lambda a: nl.qr(a, "raw")[0], TALL, nm.TraceError, "'raw'"),
    "qr of a word": (lambda a: nl.qr(a, "x")[0], TALL, ValueError, "Unrecognized mode"),
    "pivoted qr": (lambda a: sl.qr(a, pivoting=True)[0], TALL, nm.TraceError, "pivoting"),
    "solve of a tall matrix": (lambda a: nl.solve(a, np.ones(5)), TALL, nm.ShapeError, "solve: `a` must have shape"),
    "scipy solve": (lambda a: sl.solve(a, np.ones(3)), SQUARE, nm.ShapeError, "solve: `b` must have 4 rows"),
    "singular": (nl.inv, np.zeros((2, 2)), np.linalg.LinAlgError, "Singular"),
    "singular triangle": (
        lambda a: sl.solve_triangular(a, np.ones(2)), np.zeros((2, 2)), np.linalg.LinAlgError, "Singular"),
    "not positive definite": (nl.cholesky, -np.eye(2), np.linalg.LinAlgError, "positive definite"),
    "root of a negative matrix": (sl.sqrtm, np.diag([-1.0, 1.0]), nm.DomainError, "sqrtm: `A` must have no negative"),
    "logarithm of a negative matrix": (sl.logm, np.diag([-1.0, 1.0]), nm.DomainError, "logm: `A` must have no"),
    "power of a tall matrix": (lambda a: nl.matrix_power(a, 2), TALL, nm.ShapeError, "matrix_power"),
    "power of a half": (lambda a: nl.matrix_power(a, 0.5), SQUARE, TypeError, "integer"),
    "norm of an unknown order": (lambda a: nl.norm(a, 3), SQUARE, ValueError, "Invalid norm order"),
    "cond of nothing": (nl.cond, np.zeros((0, 0)), np.linalg.LinAlgError, "empty"),
    "lstsq of other rows": (lambda a: nl.lstsq(a, np.ones(4))[0], TALL, nm.ShapeError, "lstsq: `b` must have 5 rows"),
    "bands": (lambda a: sl.solve_banded((1, 1), a, np.ones(6)), BANDS, nm.ShapeError, "must have 3 rows"),
    "sylvester": (lambda a: sl.solve_sylvester(a, np.eye(2), np.ones((3, 2))), SQUARE, nm.ShapeError, "`q`"),
    "toeplitz of a matrix": (sl.toeplitz, SQUARE, nm.ShapeError, "one axis"),
    "eigh by value": (
        lambda a: sl.eigvalsh(a, subset_by_value=[0, 1]), SPD, nm.TraceError, "subset_by_index"),
    "left vectors": (lambda a: sl.eig(a, left=True)[0], SQUARE, nm.TraceError, "left"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error(name):
    f, x, error, words = BAD[name]
    with pytest.raises(error, match=words):
        nm.jvp(f, (x,), (x,))


def test_rank_and_staging():
    assert nm.vmap(np.linalg.matrix_rank)(
        np.stack([np.eye(3), np.diag([1.0, 0.0, 0.0])])
    ).tolist() == [3, 1]
    with pytest.raises(nm.TraceError, match=r"pinv\(a\) @ b"):
        nm.stage(lambda a: np.linalg.lstsq(a, np.ones(5))[0], TALL)
    f = nm.stage(lambda a: np.linalg.pinv(a), TALL)
    np.testing.assert_allclose(f(TALL), np.linalg.pinv(TALL), rtol=0, atol=64 * EPS)


def test_cut_off_that_discards_real_singular_values_has_no_derivative():
    a = np.diag([1.0, 0.05])

    def f(a, rcond):
        return np.linalg.pinv(a, rcond=rcond).sum()

    assert f(a, 0.1) == 1.0
    for route in (
        lambda: nm.grad(f)(a, 0.1),
        lambda: nm.jvp(lambda a: f(a, 0.1), (a,), (a,)),
        lambda: nm.vmap(nm.grad(lambda a: f(a, 0.1)))(np.stack([np.eye(2), a])),
        lambda: nm.grad(lambda x: np.polyfit(x, x**2 + 1, 1, rcond=0.5)[0])(np.array([1.0, 2, 4])),
    ):
        with pytest.raises(nm.GradientError, match="discards singular values"):
            route()
    p = np.linalg.inv(a)
    np.testing.assert_allclose(nm.grad(f)(a, 0.01), -p.T @ np.ones((2, 2)) @ p.T, rtol=1e-14)
