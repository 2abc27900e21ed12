"""Lanczos: eigenvalues against dense and published ones, bounds that hold, and what is refused."""

import inspect
import mmap
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
from iterating import watched_bars, with_spectrum
from scipy.sparse.linalg import LinearOperator as ScipyOperator, eigsh

import nnmath_core as nm
from nnmath_core._ext import _iterations
from nnmath_core.errors import ConvergenceError, DomainError, DtypeError, ShapeError
from nnmath_core.solvers import LinearOperator, as_operator, krylov, lanczos

DTYPES = [np.float32, np.float64]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])


@pytest.fixture
def rng():
    return np.random.default_rng(20261126)


def dense_answer(matrix):
    """Return the eigenvalues in double, and how far the dense algorithm may be off."""
    w = np.linalg.eigvalsh(matrix.astype(float))
    return w, len(w) * np.finfo(float).eps * np.abs(w).max(initial=0)


def wanted(w, which, k):
    if which == "LM":
        return np.sort(w[np.argsort(-np.abs(w), kind="stable")[:k]])
    high, low = k if isinstance(k, tuple) else (k - k // 2, k // 2)
    high, low = {"LA": (k, 0), "SA": (0, k)}.get(which, (high, low))
    return np.concatenate([w[:low], w[len(w) - high :]])


def require_proved(matrix, found, expected, exact, allowance):
    """Everything that a record claims, against dense answers: the wanted ones and all of them."""
    a, v, k = matrix.astype(float), found.vectors.astype(float), len(expected)
    eps = np.finfo(matrix.dtype).eps
    assert found.value.dtype == found.vectors.dtype == matrix.dtype
    assert found.vectors.shape == (len(a), k)
    # some eigenvalue lies within each bound
    nearest = np.abs(found.value[:, None] - exact).min(axis=1)
    assert (nearest <= found.bound + allowance).all()
    # and they are the wanted ones, to the tolerance at which copies count as such
    error = np.abs(found.value - expected)
    assert (error <= found.bound + found.tol * found.norm + allowance).all()
    # sums of n products
    assert np.abs(v.T @ v - np.eye(k)).max(initial=0) <= 4 * eps * len(a) ** 0.5
    true_residual = np.linalg.norm(a @ v - v * found.value.astype(float), axis=0)
    assert (true_residual <= found.bound + allowance).all()
    # where none was missed, the sharper bound holds too
    known = ~np.isnan(found.kato_temple) & (error <= found.bound + allowance).all()
    rounding = 8 * eps * found.norm + allowance
    assert (nearest <= found.kato_temple + rounding)[known].all()
    # no more eigenvalues lie outside the interval of the others than are listed
    low, high = found.others
    assert (exact < low - allowance).sum() <= (found.value - found.bound < low).sum()
    assert (exact > high + allowance).sum() <= (found.value + found.bound > high).sum()
    assert found.norm <= np.abs(a).sum(axis=0).max() * (1 + 8 * eps)
    assert found.converged.all()
    assert (found.residual <= found.tol * found.norm).all()
    assert found.verdict.startswith(f"{k} of {k} converged in {found.iterations} steps")


# ------------------------------------------------------------------------- dense answers

SPECTRA = {
    "random": lambda rng, n: rng.standard_normal(n),
    "definite": lambda rng, n: np.geomspace(1e-6, 1e3, n),
    "a few outliers and a bulk at zero": lambda rng, n: np.concatenate(
        [-0.1 * rng.random(n // 8), np.zeros(n - n // 8 - 6), [0.3, 1.0, 1.1, 4.0, 20.0, 21.0]]
    ),
    "clusters": lambda rng, n: (
        np.repeat(rng.standard_normal(n // 8), 8)[:n] + 1e-7 * rng.standard_normal(n // 8 * 8)
    ),
    "multiple": lambda rng, n: np.repeat([-2.0, 0.5, 3.0, 3.5], n // 4),
    "both signs alike": lambda rng, n: np.concatenate(
        [np.linspace(1, 3, n // 2), -np.linspace(1, 3, n // 2)]
    ),
    "tiny": lambda rng, n: 1e-30 * rng.standard_normal(n),
    "huge": lambda rng, n: 1e30 * rng.standard_normal(n),
}


@each_dtype
@pytest.mark.parametrize("which", ["LA", "SA", "LM", "BE"])
@pytest.mark.parametrize("name", SPECTRA)
def test_eigenvalues_are_those_of_the_dense_algorithm(rng, name, which, dtype):
    matrix = with_spectrum(rng, SPECTRA[name](rng, 120), dtype)
    w, allowance = dense_answer(matrix)
    for k in (1, 5, *([(4, 2)] if which == "BE" else [])):
        found = lanczos(matrix, k=k, which=which, rng=rng)
        expected = wanted(w, which, k)
        if which == "LM" and name == "both signs alike":  # either sign of a pair may come
            order = np.argsort(-np.abs(found.value))
            gap = np.abs(np.abs(found.value[order]) - np.sort(np.abs(expected))[::-1])
            assert (gap <= found.bound[order] + allowance).all()
        else:
            require_proved(matrix, found, expected, w, allowance)
        assert found.complete


@each_dtype
@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_all_eigenvalues_of_small_matrices(rng, n, dtype):
    matrix = with_spectrum(rng, rng.standard_normal(n), dtype)
    w, allowance = dense_answer(matrix)
    for which in ("LA", "SA", "LM", "BE"):
        found = lanczos(matrix, k=n, which=which, rng=rng)
        require_proved(matrix, found, w, w, allowance)
        assert found.complete
        assert np.isnan(found.others).all()
        assert found.verdict.endswith("the whole space was searched")
        assert found.iterations <= 2 * n


def test_integers_of_both_ends_and_one_count(rng):
    w = np.arange(-3.0, 8.0)
    for k, expected in [(5, [-3, -2, 5, 6, 7]), ((1, 3), [-3, -2, -1, 7]), ((10, 1), w)]:
        found = lanczos(with_spectrum(rng, w), k=k, which="BE", rng=rng)
        assert (np.abs(found.value - expected) <= found.bound).all()


@each_dtype
def test_bounds_hold_in_a_sweep(dtype):
    """Residual and Kato-Temple bounds, and the interval of the others, over 60 random spectra."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 80))
        w = rng.standard_normal(n) * 10.0 ** rng.uniform(-3, 3, n)
        w = w.repeat(rng.integers(1, 4, n))[:n] if seed % 2 else w
        matrix = with_spectrum(rng, w, dtype)
        k = int(rng.integers(1, min(n, 8) + 1))
        which = ["LA", "SA", "LM", "BE"][seed % 4]
        found = lanczos(matrix, k=k, which=which, rng=rng, tol=[None, 1e-4][seed % 2])
        exact, allowance = dense_answer(matrix)
        expected = wanted(exact, which, k)
        if which != "LM":  # values of the other sign may be as large to rounding
            require_proved(matrix, found, expected, exact, allowance)


# ------------------------------------------------------------------------ published numbers


def second_difference(n, dtype=np.float64):
    off = -np.ones(n - 1, dtype)
    return scipy.sparse.diags_array([off, np.full(n, 2, dtype), off], offsets=[-1, 0, 1])


@each_dtype
def test_second_difference_has_its_known_eigenvalues(dtype):
    """2 - 2 cos(j pi / (n + 1)): Gregory and Karney, "A Collection of Matrices", 1969."""
    n = 400
    exact = 2 - 2 * np.cos(np.arange(1, n + 1) * np.pi / (n + 1))
    found = lanczos(second_difference(n, dtype), k=(6, 4), which="BE", rng=0)
    assert (np.abs(found.value - wanted(exact, "BE", (6, 4))) <= found.bound).all()
    assert found.converged.all()


def test_wilkinson_matrix_has_its_close_pair():
    """W21+: the largest two differ by 7e-14, and are told apart by confirming runs with reorthogonalisation."""
    matrix = np.diag(np.abs(np.arange(-10.0, 11.0))) + np.eye(21, k=1) + np.eye(21, k=-1)
    found = lanczos(matrix, k=2, tol=32 * np.finfo(float).eps, rng=0)
    known = np.array([10.746194182903322, 10.746194182903393])
    assert (np.abs(found.value - known) <= 1e-14 * known).all()
    assert found.complete
    v = found.vectors
    assert np.abs(v.T @ v - np.eye(2)).max() <= 1e-14


def test_hilbert_matrix_has_its_known_eigenvalues():
    """Condition of Hilbert 10 (Todd 1954): the smallest eigenvalue is a few hundred eps."""
    h = scipy.linalg.hilbert(5)
    found = lanczos(h, k=5, rng=0)
    condition = found.value[-1] / found.value[0]
    assert abs(condition / 476607.25024259 - 1) <= found.bound[0] / found.value[0]
    h = scipy.linalg.hilbert(10)
    largest = lanczos(h, k=1, rng=0).value[0]
    assert abs(largest - 1.75191967026518) <= 16 * np.finfo(float).eps


def test_grid_laplacian_has_its_double_eigenvalues():
    """Sums of two eigenvalues of the second difference: most of them are double."""
    n = 30
    one = 2 - 2 * np.cos(np.arange(1, n + 1) * np.pi / (n + 1))
    exact = np.sort(np.add.outer(one, one).ravel())
    line, eye = second_difference(n), scipy.sparse.eye_array(n)
    grid = scipy.sparse.kron(line, eye) + scipy.sparse.kron(eye, line)
    found = lanczos(grid, k=(6, 6), which="BE", rng=0)
    assert (np.abs(found.value - wanted(exact, "BE", (6, 6))) <= found.bound).all()
    assert found.complete
    assert found.others[0] <= exact[6]
    assert exact[-7] <= found.others[1]


@each_dtype
@pytest.mark.parametrize("which", ["LA", "SA"])
def test_scipy_finds_the_same(rng, which, dtype):
    matrix = with_spectrum(rng, SPECTRA["a few outliers and a bulk at zero"](rng, 160), dtype)
    k = 4
    theirs = np.sort(eigsh(as_operator(matrix), k=k, which=which, return_eigenvectors=False))
    found = lanczos(matrix, k=k, which=which, rng=rng)
    # eigsh converges to eps relative to each value; its products round as ours
    assert (np.abs(found.value - theirs) <= 2 * found.bound).all()


# ----------------------------------------------------------------------- what one run misses


def test_a_second_run_finds_the_copies_that_one_run_misses(rng):
    """A Krylov space holds one vector of each eigenspace: exactly, where products are exact."""
    w = np.concatenate([np.linspace(0, 1, 195), [3.0, 4.0, 4.0, 4.0, 4.0]])
    op = as_operator(scipy.sparse.diags_array(w, format="csr"))
    alone = lanczos(op, k=2, rng=1, confirm=False)
    assert alone.converged.all()
    assert not alone.complete
    assert alone.others == (-np.inf, np.inf)
    assert alone.verdict.endswith("copies of multiple eigenvalues may be missing")
    assert np.abs(alone.value - [3, 4]).max() <= alone.bound.max()
    found = lanczos(op, k=2, rng=1)  # the same first run
    assert found.complete
    assert np.abs(found.value - [4, 4]).max() <= found.bound.max()
    found = lanczos(op, k=5, rng=1)
    assert np.abs(found.value - [3, 4, 4, 4, 4]).max() <= found.bound.max()


def test_a_second_run_finds_what_the_start_was_blind_to():
    """The first starting vector has no component along the largest eigenvector."""

    class Blind(np.random.Generator):
        drawn = 0

        def standard_normal(self, size=None):
            x = super().standard_normal(size)
            self.drawn += 1
            if self.drawn == 1:
                x[-1] = 0.0
            return x

    matrix = np.diag(np.arange(1.0, 41.0))
    alone = lanczos(matrix, k=2, rng=Blind(np.random.PCG64(0)), confirm=False)
    assert np.abs(alone.value - [38, 39]).max() <= alone.bound.max()
    found = lanczos(matrix, k=2, rng=Blind(np.random.PCG64(0)))
    assert np.abs(found.value - [39, 40]).max() <= found.bound.max()
    assert found.complete


@each_dtype
@pytest.mark.parametrize("which", ["LA", "SA", "LM", "BE"])
@pytest.mark.parametrize("scale", [0.0, 1.0, -3.0])
def test_multiples_of_the_identity(scale, which, dtype):
    n = 50
    found = lanczos(scale * np.eye(n, dtype=dtype), k=4, which=which, rng=0)
    assert (np.abs(found.value - scale) <= found.bound).all()
    assert (found.residual <= 8 * np.finfo(dtype).eps * abs(scale)).all()
    assert found.complete
    assert found.iterations <= 12
    low, high = found.others
    assert low <= scale <= high
    # breakdown at 8 eps, divided by the smallest likely component of a random vector: 1e-3 / 2 of
    # 1 / sqrt(n), and less for what two looks cost
    assert high - low <= 64 * np.finfo(dtype).eps * abs(scale) * n**0.5 * 2e3


def test_the_interval_of_the_others_is_tight_enough_to_use():
    """Outliers are proved to be the largest although the rest is known to a fraction only."""
    w = np.concatenate([np.linspace(-1, 1, 1990), np.arange(5.0, 15.0)])
    found = lanczos(scipy.sparse.diags_array(w, format="csr"), k=10, rng=0)
    assert 1.0 <= found.others[1] < 2.0
    assert -2.0 < found.others[0] <= -1.0
    assert found.value[0] - found.bound[0] > found.others[1]
    assert f"between {found.others[0]:.3g} and {found.others[1]:.3g}" in found.verdict


# ------------------------------------------------------------------------------- the record


def test_the_same_seed_gives_the_same_bits(rng):
    matrix = with_spectrum(rng, rng.standard_normal(60))
    first, second, other = (lanczos(matrix, k=3, rng=seed) for seed in (5, 5, 6))
    assert first.value.tobytes() == second.value.tobytes()
    assert first.vectors.tobytes() == second.vectors.tobytes()
    assert first.vectors.tobytes() != other.vectors.tobytes()


def test_products_are_counted(rng):
    matrix, count = with_spectrum(rng, rng.standard_normal(60)), [0]

    def product(x):
        count[0] += 1
        return matrix @ x

    op = ScipyOperator((60, 60), matvec=product, dtype=float)
    found = lanczos(op, k=3, rng=rng)
    assert found.products == count[0] == found.iterations + 2 + 3  # symmetry, and residuals
    assert repr(found) == f"<3 eigenpairs: {found.verdict}>"


def test_memory_is_that_of_the_steps(monkeypatch):
    """The basis grows as steps are taken, up to twice what they fill."""
    monkeypatch.setattr(krylov, "RESERVED", 0)
    n = 20_000
    w = np.concatenate([np.linspace(0, 1, n - 2), [2.0, 3.0]])
    op = as_operator(scipy.sparse.diags_array(w, format="csr"))
    lanczos(op, k=2, rng=0)
    tracemalloc.start()
    found = lanczos(op, k=2, rng=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.iterations < 200
    # old and new basis while it is copied, and a dozen vectors of work
    assert peak <= (3 * found.iterations + 24) * n * 8


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="reads what the system says of memory"
)
def test_what_is_reserved_for_a_basis_is_not_used_yet():
    op = as_operator(scipy.sparse.eye_array(1_000_000, format="csr"))
    space = krylov.HostKrylov("lanczos", op)
    before = resident()
    space.room(2, 1000)
    assert space.basis.nbytes == pytest.approx(krylov.RESERVED, rel=0.05)
    assert resident() - before < krylov.RESERVED / 8
    space.room(2, 1000)
    rows = len(space.basis)
    space.basis[:, 0] = np.arange(rows)
    space.room(rows + 1, 1000)
    assert len(space.basis) == rows + rows // 2
    assert np.array_equal(space.basis[:rows, 0], np.arange(rows))
    few = krylov.HostKrylov("lanczos", op)
    few.room(2, 5)
    assert len(few.basis) == 5


def resident():
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def test_progress_is_told(rng, monkeypatch):
    matrix, told = with_spectrum(rng, rng.standard_normal(60)), []
    found = lanczos(matrix, k=3, rng=rng, progress=lambda *state: told.append(state))
    steps, pairs = zip(*told, strict=True)
    assert list(steps) == sorted(steps)
    assert steps[-1] == found.iterations
    assert pairs[-1] == 3

    bars = watched_bars(monkeypatch)
    lanczos(matrix, k=3, rng=rng, progress=True)
    assert (bars[0].total, bars[0].n, bars[0].open) == (3, 3, False)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert lanczos(matrix, k=3, rng=rng, progress=True).converged.all()
    assert len(bars) == 1


# ----------------------------------------------------------------------- what goes wrong


class Product(LinearOperator):
    """An operator from a function of a block, which may say that it is symmetric."""

    def __init__(self, n, matmat, *, symmetric=True, dtype=np.float64):
        self.shape, self.dtype, self.symmetric = (n, n), np.dtype(dtype), symmetric
        self.matmat_ = matmat

    def _matmat(self, X):
        return self.matmat_(X)


def test_running_out_of_steps_keeps_what_was_found(rng):
    n = 500
    exact = 2 - 2 * np.cos(np.arange(1, n + 1) * np.pi / (n + 1))
    with pytest.raises(ConvergenceError) as caught:
        lanczos(second_difference(n), k=8, max_steps=40, rng=rng)
    text = str(caught.value)
    assert text.startswith("lanczos: 0 of 8 pairs converged in 40 steps (largest residual ")
    assert text.endswith("Raise `max_steps` above 40, or `tol` above 3.7e-11.")
    partial = caught.value.partial
    assert partial.value.shape == (8,)
    assert not partial.converged.any()
    assert not partial.complete
    near = np.abs(partial.value[:, None] - exact).min(axis=1)
    assert (near <= partial.bound).all()


def test_running_out_of_steps_while_confirming_is_no_error():
    """The pairs have converged; only the second look is not finished."""
    w = np.concatenate([np.linspace(0, 1, 3000) ** 4, [50.0]])
    op = as_operator(scipy.sparse.diags_array(w, format="csr"))
    found = lanczos(op, k=1, max_steps=12, rng=0)
    assert found.converged.all()
    assert not found.complete
    assert found.others == (-np.inf, np.inf)


def test_noise_in_the_products_is_named(rng):
    matrix = with_spectrum(rng, rng.standard_normal(80))
    noisy = Product(80, lambda X: matrix @ X + 1e-9 * rng.standard_normal(X.shape))
    with pytest.raises(ConvergenceError, match="the products carry errors of this size") as caught:
        lanczos(noisy, k=3, rng=0)
    assert str(caught.value).endswith("Raise `tol` above 3.7e-11.")
    assert (caught.value.partial.residual < 1e-6).all()
    assert lanczos(noisy, k=3, rng=0, tol=1e-6).converged.all()


def test_what_is_not_symmetric_is_refused(rng):
    matrix = with_spectrum(rng, rng.standard_normal(40))
    tilted = matrix + np.triu(matrix) * 1e-6
    with pytest.raises(DomainError, match=r"`A` must be symmetric, and for random vectors x'Ay"):
        lanczos(tilted, k=3, rng=rng)
    lanczos(matrix + np.triu(matrix) * 1e-16, k=3, rng=rng)  # rounding is none
    lying = Product(40, lambda X: (matrix + np.triu(matrix) * 0.1) @ X)
    with pytest.raises(DomainError, match="and give the same product each time; a product had"):
        lanczos(lying, k=3, rng=rng)


def test_products_that_change_are_refused(rng):
    matrix = with_spectrum(rng, rng.standard_normal(40))
    dropout = Product(40, lambda X: matrix @ X * (rng.random(X.shape) > 0.1))
    with pytest.raises(DomainError, match=r"Does the operator draw random numbers\?"):
        lanczos(dropout, k=3, rng=0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_products_that_are_not_finite_are_refused(rng, value):
    matrix = with_spectrum(rng, rng.standard_normal(40))
    matrix[3, 3] = value
    with pytest.raises(DomainError, match="must be finite, got infinity or NaN"):
        lanczos(matrix, k=3, rng=rng)
    symmetric = Product(40, lambda X: matrix @ X)
    with pytest.raises(DomainError, match="`A @ v` must be finite, got infinity or NaN in step 1"):
        lanczos(symmetric, k=3, rng=rng)


def test_products_of_a_wrong_shape_or_dtype_are_refused():
    with pytest.raises(ShapeError, match=r"`A @ x` must be of shape \(9,\), got \(8,\)"):
        lanczos(Product(9, lambda X: X[1:]), k=1)
    with pytest.raises(DtypeError, match="`A @ x` must be of the operator's dtype, float32, got"):
        lanczos(Product(9, lambda X: X * np.float64(2), dtype=np.float32), k=1)


def test_an_interrupt_keeps_what_was_found(rng):
    """After every possible number of products, the record that is returned is true."""
    matrix = with_spectrum(rng, np.concatenate([rng.standard_normal(150), [20.0, 30.0]]))
    exact = np.linalg.eigvalsh(matrix)
    total = lanczos(matrix, k=2, rng=0).products
    for stop in range(0, total, 3):
        left = [stop]

        def product(X, left=left):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return matrix @ X

        partial = lanczos(Product(152, product), k=2, rng=0)
        assert partial.interrupted
        assert partial.verdict.startswith(f"interrupted after {partial.iterations} steps; ")
        assert not partial.complete
        assert len(partial.value) == min(stop, 2)
        assert partial.iterations == min(stop, partial.iterations)
        near = np.abs(partial.value[:, None] - exact).min(axis=1, initial=np.inf)
        assert (near <= partial.bound).all()
        v = partial.vectors
        assert np.abs(v.T @ v - np.eye(len(partial.value))).max(initial=0) <= 1e-14
        residual = np.linalg.norm(matrix @ v - v * partial.value, axis=0)
        assert (residual <= 2 * partial.bound).all()


SIGNAL = """
import os, signal, sys, threading, time
import numpy as np
import nnmath_core as nm

rng = np.random.default_rng(0)
n = 1500
A = rng.standard_normal((n, n))
A = A + A.T
SPD = A @ A + np.eye(n)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
loss = lambda w: np.sum(np.tanh(A @ w) ** 2) / 2
H = nm.curvature.HessianOperator(loss, np.ones(n))
H @ np.ones(n)
calls = {
    "lanczos, a matrix": lambda: nm.solvers.lanczos(A, k=700, max_steps=1500, rng=0),
    "lanczos, a Plan": lambda: nm.solvers.lanczos(H, k=700, max_steps=1500, rng=0),
    "cg": lambda: nm.solvers.cg(SPD, np.ones(n), rtol=0.0, maxiter=10**7),
    "power": lambda: nm.solvers.power_iteration(A, steps=10**7, rng=0),
    "norm": lambda: nm.solvers.spectral_norm(A, steps=10**7, rng=0),
    "slq": lambda: nm.solvers.slq(A, probes=10**5, steps=40, rng=0),
}
for name, call in calls.items():
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    start = time.monotonic()
    found = call()
    took = time.monotonic() - start
    assert found.interrupted, name
    assert found.verdict.startswith("interrupted after "), (name, found.verdict)
    assert took < 5, (name, took)
    print(name, "|", found.verdict)
"""


def test_ctrl_c_ends_each_iteration_with_what_it_has():
    """A real signal, in a process of its own: the steps run in C, without the GIL."""
    out = subprocess.run(
        [sys.executable, "-c", SIGNAL], capture_output=True, text=True, timeout=120, check=False
    )
    assert out.returncode == 0, out.stderr
    assert len(out.stdout.splitlines()) == 6


REFUSALS = [
    (dict(A=np.ones((3, 2))), ShapeError, r"`A` must be square, got shape \(3, 2\)"),
    (dict(A=np.ones(3)), ShapeError, r"`A` must be a matrix, got an array of shape \(3,\)"),
    (dict(A=np.ones((3, 3), int)), DtypeError, r"`A` must be a float32 or float64 array, got int"),
    (dict(A="A"), DtypeError, r"`A` must be an operator or a matrix of float32 or float64, got"),
    (dict(k=4), ShapeError, r"`k` must be at most 3, got 4. The operator has 3 eigenvalues"),
    (dict(A=np.ones((0, 0)), k=1), ShapeError, r"at most 0, got 1. The operator is empty"),
    (dict(k=0), DomainError, r"`k` must be a positive integer, got 0"),
    (dict(k=1.0), DtypeError, r"`k` must be a positive integer, got 1.0"),
    (dict(k=True), DtypeError, r"`k` must be a positive integer, got True"),
    (dict(k=(1, 1)), DtypeError, r'an integer, or with which="BE" a pair .*, got \(1, 1\) with'),
    (dict(k=(1, 1, 1), which="BE"), DtypeError, r"`k` must be an integer, or"),
    (dict(k=(1, 0), which="BE"), DomainError, r'`k\[1\]` must be .* For one end use "LA" or "SA"'),
    (dict(which="largest"), DomainError, r"`which` must be one of 'LA', 'SA', 'LM', 'BE', got"),
    (dict(tol=0.0), DomainError, r"`tol` must be in \[32 eps, 1\), got 0.0. 7.1e-15 is 32 eps of"),
    (dict(tol=np.nan), DomainError, r"`tol` must be in"),
    (dict(tol="small"), DtypeError, r"`tol` must be in"),
    (dict(max_steps=0), DomainError, r"`max_steps` must be a positive integer, got 0"),
    (dict(rng=-1), DomainError, r"`rng` must be None, an integer >= 0 or a numpy.random.Generator"),
    (dict(progress="bar"), DtypeError, r"`progress` must be callable, got 'bar'"),
]


@pytest.mark.parametrize(("change", "error", "words"), REFUSALS, ids=lambda x: str(x)[:30])
def test_arguments_are_checked(change, error, words):
    options = {"A": np.eye(3), "k": 1, **change}
    with pytest.raises(error, match=words) as caught:
        lanczos(options.pop("A"), **options)
    assert str(caught.value).startswith("lanczos: ")


def test_everything_after_the_operator_is_a_keyword():
    parameters = list(inspect.signature(lanczos).parameters.values())[1:]
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters)


# ----------------------------------------------------------------------------- the kernel


def test_the_compiled_steps_refuse_arrays_without_room():
    basis, line, count = np.zeros((4, 5)), np.zeros(3), np.zeros(1, np.int64)
    facts, coefficients = np.zeros(2), np.zeros(4)
    product = _iterations.dense_product(np.eye(5))
    for stop in (4, 10):
        with pytest.raises(ShapeError, match="must have room for the steps"):
            _iterations.lanczos(product, basis, 0, stop, line, line, count, facts, 0.0)
    with pytest.raises(ShapeError, match=r"vectors must be of shape \(5,\) and float64"):
        _iterations.lanczos(product, basis.astype("f4"), 0, 2, line, line, count, facts, 0.0)
    with pytest.raises(ShapeError, match="must agree"):
        _iterations.orthonormalise(basis, 5, np.zeros(5), coefficients)
    with pytest.raises(ShapeError, match="must agree"):
        _iterations.orthonormalise(basis, 1, np.zeros(4), coefficients)


@each_dtype
def test_a_vector_in_the_span_is_not_normalised(rng, dtype):
    basis = np.linalg.qr(rng.standard_normal((6, 6)))[0][:4].astype(dtype)
    coefficients = np.zeros(4, dtype)
    inside = np.ascontiguousarray(basis[0] + 2 * basis[3])
    assert not _iterations.orthonormalise(basis, 4, inside, coefficients)
    assert not _iterations.orthonormalise(basis, 4, np.zeros(6, dtype), coefficients)
    outside = rng.standard_normal(6).astype(dtype)
    assert _iterations.orthonormalise(basis, 4, outside, coefficients)
    eps = np.finfo(dtype).eps
    assert np.abs(basis @ outside).max() <= 8 * eps
    assert abs(np.linalg.norm(outside) - 1) <= 4 * eps


@each_dtype
@pytest.mark.parametrize("threads", [1, 2])
def test_vectors_are_orthogonal_where_almost_all_is_taken_away(rng, dtype, threads):
    """A v is a locked vector u but for a ten-thousandth: one pass leaves its rounding, the second takes that."""
    n, eps, tiny = 3000, np.finfo(dtype).eps, 1e-4
    u, v = np.linalg.qr(rng.standard_normal((n, 2)))[0].T
    rest = rng.standard_normal((n, n)) / n**0.5
    matrix = np.outer(u, v) + np.outer(v, u) + tiny * (rest + rest.T)
    basis, count = np.zeros((3, n), dtype), np.zeros(1, np.int64)
    basis[:2] = u, v
    alpha, beta = np.zeros(1), np.zeros(1)
    with nm.threads(threads):
        product = _iterations.dense_product(matrix.astype(dtype))
        _iterations.lanczos(product, basis, 1, 1, alpha, beta, count, np.zeros(2), 0.0)
    assert count[0] == 1
    assert tiny / 2 < beta[0] < 4 * tiny
    wide = basis.astype(float)
    assert abs(wide[2] @ wide[2] - 1) <= 8 * eps
    # a coefficient is a sum of n products of numbers of size n ** -0.5; one pass would leave eps / tiny
    assert np.abs(wide[:2] @ wide[2]).max() <= 8 * eps
