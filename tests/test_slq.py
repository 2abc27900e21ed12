"""Stochastic Lanczos quadrature: traces and densities against dense answers, error bars that hold, and refusals."""

import math

import numpy as np
import pytest
import scipy.sparse
from iterating import with_spectrum

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.solvers import LinearOperator, slq

DTYPES = [np.float32, np.float64]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])


@pytest.fixture
def rng():
    return np.random.default_rng(20261127)


FUNCTIONS = {
    "log": np.log,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "inverse": lambda x: 1 / x,
    "square": np.square,
    "identity": lambda x: x,
    "one": np.ones_like,
}


@each_dtype
@pytest.mark.parametrize("name", FUNCTIONS)
def test_traces_of_functions(rng, name, dtype):
    """Within the error bars of the sampling, the truncation, and rounding of the nodes."""
    f, w = FUNCTIONS[name], np.linspace(0.1, 2, 200)
    found = slq(with_spectrum(rng, w, dtype), probes=40, rng=rng).trace(f)
    exact = f(w).sum()
    # f changes by at most 100 (the slope of 1 / x at 0.1) times the error of a node
    rounding = 200 * 100 * 8 * np.finfo(dtype).eps
    # Student's t with 39 degrees of freedom is beyond 5 once in 100,000
    assert found.settled
    assert abs(found.value - exact) <= 5 * found.stderr + found.truncation + rounding
    low, high = found.interval
    assert low <= found.value <= high
    assert found.samples.shape == (40,)
    assert found.value == found.samples.mean()
    if name == "one":
        assert abs(found.value - 200) <= rounding
        assert found.stderr <= rounding


def test_all_entries_of_one_sign_are_exact_for_diagonal_matrices():
    """z'f(D)z = tr f(D) for entries 1 and -1: no scatter, and n steps of an n x n matrix are exact."""
    d = np.arange(1.0, 31.0)
    found = slq(np.diag(d), probes=3, rng=0)
    assert found.nodes.shape == (3, 30)
    assert "3 of them exact, since their Krylov spaces closed" in found.verdict
    # nodes to n eps of the norm, log has slope 1 at the lowest of them
    allowed = 30 * 30 * np.finfo(float).eps * 30
    for estimate in (found.logdet(), found.trace(np.log)):
        assert abs(estimate.value - math.lgamma(31)) <= allowed
        assert estimate.stderr <= allowed
        assert estimate.truncation == 0
    assert np.abs(found.nodes - d).max() <= allowed
    assert np.abs(found.weights - 1 / 30).max() <= allowed


def test_low_moments_are_those_of_the_products(rng):
    """A Gauss rule of m steps is exact for polynomials up to degree 2 m - 1: here 7, of a sample's own z."""
    a = with_spectrum(rng, rng.standard_normal(50))
    found = slq(a, probes=5, steps=4, rng=np.random.default_rng(3))
    again = np.random.default_rng(3)
    for theta, w in zip(found.nodes, found.weights, strict=True):
        z = again.integers(0, 2, 50) * 2.0 - 1.0
        power = z / math.sqrt(50)
        for degree in range(8):
            assert abs((w * theta**degree).sum() - z @ power / math.sqrt(50)) <= 1e-12 * max(
                1, 3**degree
            )
            power = a @ power


def test_error_bars_hold_as_often_as_they_say(rng):
    """Of 95% intervals of 200 runs, between 178 and 198 hold with a probability of more than 0.999."""
    w = np.geomspace(0.01, 1, 60)
    a = with_spectrum(rng, w)
    exact = np.log(w).sum()
    inside = 0
    for seed in range(200):
        low, high = slq(a, probes=8, steps=40, rng=seed).logdet().interval
        inside += low <= exact <= high
    assert 178 <= inside <= 199


def test_too_few_steps_are_said_to_be_too_few():
    """Log near 0 needs many steps: with few, the samples agree with each other and are wrong together."""
    w = np.geomspace(1e-4, 1, 300)
    exact = np.log(w).sum()
    a = scipy.sparse.diags_array(w, format="csr")
    few, many = (slq(a, probes=5, steps=steps, rng=0).logdet() for steps in (10, 150))
    assert abs(few.value - exact) > max(100 * few.stderr, few.truncation)
    assert not few.settled
    assert few.interval == (-math.inf, math.inf)
    assert "quadrature not settled: the last quarter of the steps changed it by" in few.verdict
    assert many.settled
    assert abs(many.value - exact) <= many.truncation <= 0.05
    assert many.interval[0] <= exact <= many.interval[1]


@pytest.mark.parametrize("name", ["log", "sqrt", "inverse", "exp"])
@pytest.mark.parametrize("spread", [1, 2, 4, 8])
def test_truncation_bounds_the_error_where_it_has_settled(name, spread):
    """Diagonal matrices, whose sampling is exact: what is left is the error of the quadrature."""
    f, settled = FUNCTIONS[name], 0
    for w in (np.geomspace(10.0**-spread, 1, 200), np.linspace(10.0**-spread, 1, 200)):
        exact = f(w).sum()
        a = scipy.sparse.diags_array(w, format="csr")
        for steps in (4, 8, 20, 50, 120):
            found = slq(a, probes=2, steps=steps, rng=0).trace(f)
            if found.settled:
                settled += 1
                rounding = 1e-11 * abs(exact) * 10.0 ** (spread if name == "inverse" else 0)
                assert abs(found.value - exact) <= found.truncation + rounding
    assert settled > (0 if spread < 8 or name == "exp" else -1)


def test_the_variance_is_that_of_hutchinson():
    """Twice the sum of squared off-diagonal entries: 2.6307993197 for the Hilbert matrix of order 5."""
    i = np.arange(5.0)
    hilbert = 1 / (i[:, None] + i + 1)
    samples = slq(hilbert, probes=4000, rng=0).trace(lambda x: x).samples
    # the standard deviation of a sample variance of bounded samples is below 3 % at 4000
    assert abs(samples.var(ddof=1) / 2.6307993197 - 1) <= 0.1


@each_dtype
def test_the_density_is_that_of_the_eigenvalues(rng, dtype):
    """The semicircle: within five standard errors and what the Gaussian blurs."""
    n = 400
    a = rng.standard_normal((n, n)) / math.sqrt(2 * n)
    a = (a + a.T).astype(dtype)
    found = slq(a, probes=20, rng=rng).density(512)
    assert found.points.shape == found.value.shape == found.stderr.shape == (512,)
    assert abs(np.trapezoid(found.value, found.points) - 1) <= 1e-3
    assert (found.value >= 0).all()
    w = np.linalg.eigvalsh(a.astype(float))
    wide = slq(a, probes=20, rng=rng).density(found.points, sigma=0.1)
    bells = np.exp(-(((found.points[:, None] - w) / 0.1) ** 2) / 2).mean(axis=1) / (
        0.1 * math.sqrt(2 * math.pi)
    )
    assert (np.abs(wide.value - bells) <= 6 * wide.stderr + 1e-4).all()
    assert wide.sigma == 0.1
    semicircle = np.sqrt(np.maximum(4 - found.points**2, 0)) / (2 * math.pi)
    # the Gaussian blurs the edge: a square root over 0.1 falls by 0.03, and 400 eigenvalues scatter
    assert np.abs(wide.value - semicircle).max() <= 0.08


def test_outliers_have_their_weight(rng):
    """Ten of a thousand eigenvalues at 5 are a bump of weight 0.01."""
    w = np.concatenate([rng.uniform(-1, 1, 990), np.full(10, 5.0)])
    a = with_spectrum(rng, w)
    found = slq(a, probes=30, steps=60, rng=rng)
    near = np.abs(found.nodes - 5) < 0.5
    weights = np.where(near, found.weights, 0).sum(axis=1)
    assert abs(weights.mean() - 0.01) <= 5 * weights.std(ddof=1) / math.sqrt(30)
    assert np.abs(found.weights.sum(axis=1) - 1).max() <= 1e-14


@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_multiples_of_the_identity_close_at_once(scale):
    found = slq(scale * np.eye(6), probes=3, rng=0)
    assert found.products == 3
    assert found.trace(np.cos).value == pytest.approx(6 * math.cos(scale), abs=1e-14)
    with pytest.raises(DomainError, match="`sigma` must be given where all Ritz values are equal"):
        found.density()
    assert found.density(5, sigma=0.1).value.shape == (5,)


def test_one_row_and_one_vector():
    found = slq(np.array([[2.0]]), probes=1, rng=0)
    estimate = found.logdet()
    assert estimate.value == pytest.approx(math.log(2))
    assert math.isnan(estimate.stderr)
    assert estimate.interval == (-math.inf, math.inf)
    assert "one random vector: no error bar" in estimate.verdict
    assert np.isnan(found.density(3, sigma=1.0).stderr).all()


def test_every_kind_of_operator_gives_the_same(rng):
    a = with_spectrum(rng, np.linspace(0.5, 2, 40))
    plan = nm.compile(lambda v: a @ v).plan(np.zeros(40))

    class Python(LinearOperator):
        shape, dtype, symmetric = (40, 40), np.dtype(float), True

        def _matmat(self, X):
            return a @ X

    want = slq(a, probes=3, rng=0).logdet().value
    for op in (scipy.sparse.csr_array(a), plan, Python(), nm.solvers.as_operator(a)):
        # a random test of symmetry moves the generator on
        vectors = (
            slq(op, probes=400, rng=0).logdet() if op is plan else slq(op, probes=3, rng=0).logdet()
        )
        allowed = 6 * vectors.stderr if op is plan else 1e-11
        assert (
            abs(vectors.value - (np.log(np.linspace(0.5, 2, 40)).sum() if op is plan else want))
            <= allowed
        )


def test_progress_and_interrupts(rng):
    a = with_spectrum(rng, np.linspace(0.5, 2, 40))
    told = []
    slq(a, probes=3, steps=25, rng=0, progress=lambda *state: told.append(state))
    assert told[-1] == (75, 3)
    assert len(told) > 6
    for stop in (0, 30, 70):
        left = [stop]

        class Interrupted(LinearOperator):
            shape, dtype, symmetric = (40, 40), np.dtype(float), True

            def _matmat(self, X, left=left):
                left[0] -= 1
                if left[0] == -1:
                    raise KeyboardInterrupt
                return a @ X

        found = slq(Interrupted(), probes=3, steps=25, rng=0)
        assert found.interrupted
        assert len(found.nodes) == stop // 25
        assert found.verdict.startswith(f"interrupted after {stop // 25} of 3; ")
        if stop == 0:
            with pytest.raises(DomainError, match="there is no finished random vector"):
                found.logdet()
            with pytest.raises(DomainError, match="there is no finished random vector"):
                found.density()
        else:
            whole = slq(a, probes=3, steps=25, rng=0)
            assert np.abs(found.nodes - whole.nodes[: stop // 25]).max() <= 1e-10


REFUSALS = [
    (dict(A=np.ones((3, 2))), ShapeError, r"`A` must be square, got shape \(3, 2\)"),
    (dict(A=np.ones((0, 0))), DomainError, r"`A` must be an operator with rows, got an empty one"),
    (dict(A=np.ones((3, 3), int)), DtypeError, r"`A` must be a float32 or float64 array"),
    (
        dict(A=np.triu(np.ones((3, 3)))),
        DomainError,
        r"`A` must be symmetric, and for random vectors",
    ),
    (dict(A=np.full((3, 3), np.inf)), DomainError, r"must be finite, got infinity or NaN"),
    (dict(probes=0), DomainError, r"`probes` must be a positive integer, got 0"),
    (dict(steps=1.5), DtypeError, r"`steps` must be a positive integer, got 1.5"),
    (dict(rng=-1), DomainError, r"`rng` must be None, an integer >= 0"),
    (dict(progress="bar"), DtypeError, r"`progress` must be callable, got 'bar'"),
]


@pytest.mark.parametrize(("change", "error", "words"), REFUSALS, ids=lambda x: str(x)[:30])
def test_arguments_are_checked(change, error, words):
    options = {"A": np.eye(3), **change}
    with pytest.raises(error, match=words):
        slq(options.pop("A"), **options)


def test_functions_that_do_not_fit_are_refused(rng):
    found = slq(np.diag([-1.0, 1.0, 2.0]), rng=0)
    with pytest.raises(
        DomainError, match=r"logdet: `A` must be positive definite; a Ritz value is -1"
    ):
        found.logdet()
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(DomainError, match=r"`f\(x\)` must be finite, got nan at"),
    ):
        found.trace(np.log)
    with pytest.raises(
        ShapeError, match=r"`f\(x\)` must be of the shape of x, \(10, 3\), got \(\)"
    ):
        found.trace(np.sum)
    with pytest.raises(DtypeError, match="`f` must be callable"):
        found.trace(3)
    with pytest.raises(DomainError, match=r"`sigma` must be positive, got 0\.0"):
        found.density(sigma=0.0)
    with pytest.raises(ShapeError, match="`points` must be a number, or floats on one axis"):
        found.density(np.ones((2, 2)))
    with pytest.raises(DomainError, match="`points` must be a positive integer, got 0"):
        found.density(0)

    class Noisy(LinearOperator):
        shape, dtype, symmetric = (30, 30), np.dtype(float), True

        def _matmat(self, X):
            return np.arange(30.0)[:, None] * X * (rng.random(X.shape) > 0.1)

    with pytest.raises(DomainError, match=r"Does the operator draw random numbers\?"):
        slq(Noisy(), rng=0)


def test_the_curvature_of_a_network_has_a_density(rng):
    """An operator that runs a Plan: the mean of its eigenvalues is the trace of the Hessian."""
    model = nm.nn.MLP.init((5, 8, 3), activation=np.tanh, rng=0)
    x, y = rng.standard_normal((60, 5)), rng.integers(3, size=60)

    def loss(model, x, y):
        return nm.nn.softmax_cross_entropy(model(x), y).mean()

    H = nm.curvature.HessianOperator(loss, model, x, y)
    dense = H.to_dense()
    found = slq(H, probes=50, rng=0)
    trace, squares = found.trace(lambda x: x), found.trace(np.square)
    assert abs(trace.value - np.trace(dense)) <= 5 * trace.stderr + 1e-12
    assert abs(squares.value - np.sum(dense**2)) <= 5 * squares.stderr + 1e-12
