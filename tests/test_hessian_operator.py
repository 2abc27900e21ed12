"""The Hessian operator: against dense Hessians, differences, published numbers, and as SciPy uses it."""

import gc
import tracemalloc

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse.linalg import aslinearoperator, cg, eigsh

import nnmath_core as nm
from nnmath_core.curvature import HessianOperator, Reduction
from nnmath_core.errors import ConvergenceError, DomainError, DtypeError, ShapeError, TreeError
from nnmath_core.solvers import lanczos
from nnmath_core.verify import check_operator

EPS = np.finfo(np.float64).eps
DTYPES = [np.float32, np.float64]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])


@pytest.fixture
def rng():
    return np.random.default_rng(20261126)


def mean_loss(model, x, y):
    return nm.nn.softmax_cross_entropy(model(x), y).mean()


def network(rng, activation, *, sizes=(5, 7, 3), rows=40, dtype=np.float64):
    """Return a small classifier and its data."""
    model = nm.nn.MLP.init(sizes, activation=activation, rng=rng, dtype=dtype)
    x = rng.standard_normal((rows, sizes[0])).astype(dtype)
    return model, x, rng.integers(sizes[-1], size=rows)


def dense_hessian(loss, params, *data):
    flat, unravel = nm.ravel_tree(params)
    return nm.hessian(lambda v: loss(unravel(v), *data))(flat)


# ------------------------------------------------------------------------- dense answers

ACTIVATIONS = {"relu": nm.nn.relu, "tanh": np.tanh, "gelu": nm.nn.gelu}


@each_dtype
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_products_are_those_of_the_dense_hessian(rng, name, dtype):
    model, x, y = network(rng, ACTIVATIONS[name], dtype=dtype)
    H = HessianOperator(mean_loss, model, x, y)
    dense = dense_hessian(mean_loss, model, x, y)
    assert H.shape == dense.shape == (66, 66)
    assert H.dtype == dense.dtype == H.gradient.dtype == dtype
    check_operator(H, dense, rng=rng)
    found = H.to_dense()
    assert found.dtype == dtype
    # sums over 40 rows and up to 7 units, in another order
    assert np.abs(found - dense).max() <= 64 * np.finfo(dtype).eps * np.abs(dense).max()
    exact = nm.ravel_tree(nm.grad(mean_loss)(model, x, y))[0]
    np.testing.assert_array_equal(H.gradient, exact)


@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_products_are_differences_of_the_gradient(rng, name):
    """Central differences: error h^2 |d4 L| / 6 + eps |g| / h, both 1e-10 or less at h = eps^(1/3)."""
    model, x, y = network(rng, ACTIVATIONS[name])
    H = HessianOperator(mean_loss, model, x, y)
    flat, h = nm.ravel_tree(model)[0], EPS ** (1 / 3)
    v = rng.standard_normal(H.shape[0])
    v /= np.linalg.norm(v)
    slope = nm.grad(lambda p: mean_loss(H.unravel(p), x, y))
    difference = (slope(flat + h * v) - slope(flat - h * v)) / (2 * h)
    scale = max(np.abs(H @ v).max(), 1.0)
    assert np.abs(H @ v - difference).max() <= 16 * EPS ** (2 / 3) * scale


@pytest.mark.parametrize("columns", [1, 2, 3, 64])
def test_blocks_by_definition_are_cut_as_the_cache_allows(rng, columns):
    """What runs on a device, here on the host."""
    model, x, y = network(rng, np.tanh)
    H = HessianOperator(mean_loss, model, x, y)
    assert 1 < H._columns() <= 64
    X = rng.standard_normal((66, 7))
    expected = np.stack([H @ column for column in X.T], axis=1)
    H._columns = lambda: columns
    found = H._by_definition(X)
    assert np.abs(found - expected).max() <= 64 * EPS * np.abs(expected).max()
    wide = HessianOperator(mean_loss, model, np.tile(x, (500, 1)), np.tile(y, 500))
    assert wide._columns() == 1


@each_dtype
def test_products_run_as_a_plan(rng, dtype):
    """One plan for all products, without Python in it, and the same in C as from Python to the bit."""
    model, x, y = network(rng, np.tanh, dtype=dtype)
    H = HessianOperator(mean_loss, model, x, y, reduction=Reduction("mean", 40))
    assert H._linear.plan is None  # nothing is compiled for the gradient
    X = rng.standard_normal((66, 3)).astype(dtype)
    Y = H @ X
    plan, total = H._linear.planned(), H.to_reduction("sum")
    assert H._linear.in_c
    assert plan.cost.host == 0
    assert total._linear.planned() is plan
    rows = np.ascontiguousarray(X.T)
    np.testing.assert_array_equal(H._compiled_product()(rows).T, Y)
    np.testing.assert_array_equal(total._compiled_product()(rows).T, total @ X)
    assert np.abs(H._by_definition(X) - Y).max() <= 64 * np.finfo(dtype).eps * np.abs(Y).max()
    assert (H @ X[:, :0]).shape == (66, 0)


def test_what_was_linearised_is_given_up_when_there_is_a_plan(rng):
    """Else the values that a product keeps would be there twice."""
    n = 50_000
    x = rng.standard_normal(n)
    gc.collect()
    tracemalloc.start()
    H = HessianOperator(lambda w, x: np.sum(np.tanh(w[0] * x) * w[1]), np.ones(2), x)
    before = tracemalloc.get_traced_memory()[0]
    H @ np.ones(2)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after <= 1.3 * before


def test_control_flow_on_values_is_taken_as_at_the_point(rng):
    """`nm.compile` refuses such a function; linearised at the point it has a plan."""

    def loss(w):
        if np.sum(w) > 0:
            return np.sum(w**3)
        return np.sum(w**2)

    for sign in (1.0, -1.0):
        w = sign * np.arange(1.0, 4.0)
        H = HessianOperator(loss, w)
        np.testing.assert_allclose(
            H.to_dense(), np.diag(6 * w if sign > 0 else np.full(3, 2.0)), rtol=8 * EPS
        )
    with pytest.raises(nm.TraceError):
        nm.compile(loss)(w)


def test_a_plan_that_calls_python_is_called_from_python(rng):
    """Where an instruction has no kernel in C, iterations call the operator, and find the same to the bit."""
    model, x, y = network(rng, np.tanh)
    H = HessianOperator(mean_loss, model, x, y)
    found = lanczos(H, k=3, rng=0)
    H._linear.in_c = False  # as planned() says where the plan has such instructions
    assert H._compiled_product() is None
    again = lanczos(H, k=3, rng=0)
    np.testing.assert_array_equal(found.value, again.value)
    np.testing.assert_array_equal(found.vectors, again.vectors)
    assert again.products == found.products


def test_a_product_frees_what_it_has_used():
    """Thirty layers: their forward tangents stay until the way back, the other values do not."""
    layers, n = 30, 20_000

    def loss(w, x):
        for _ in range(layers):
            x = np.tanh(x * w)
        return np.sum(x)

    H = HessianOperator(loss, np.ones(1), np.linspace(0, 1, n))
    one = np.ones((1, 1))
    H._by_definition(one)
    tracemalloc.start()
    H._by_definition(one)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(H._linear.program.equations) > 10 * layers
    assert peak <= (layers + 8) * n * 8
    assert H._linear.planned().cost.peak <= (layers + 8) * n * 8


# ----------------------------------------------------------------------- published numbers


def rosenbrock(p):
    return np.sum(100 * (p[1:] - p[:-1] ** 2) ** 2 + (1 - p[:-1]) ** 2)


def himmelblau(p):
    return (p[0] ** 2 + p[1] - 11) ** 2 + (p[0] + p[1] ** 2 - 7) ** 2


def mueller_brown(p):
    """Mueller and Brown, Theor. Chim. Acta 53, 1979."""
    depth, a, b, c = (
        np.array(row)
        for row in (
            [-200.0, -100.0, -170.0, 15.0],
            [-1.0, -1.0, -6.5, 0.7],
            [0.0, 0.0, 11.0, 0.6],
            [-10.0, -10.0, -6.5, 0.7],
        )
    )
    x, y = p[0] - np.array([1.0, 0.0, -0.5, -1.0]), p[1] - np.array([0.0, 0.5, 1.5, 1.0])
    return np.sum(depth * np.exp(a * x * x + b * x * y + c * y * y))


def test_rosenbrock_has_its_known_derivatives():
    H = HessianOperator(rosenbrock, np.array([-1.2, 1.0]))
    assert np.abs(H.gradient - [-215.6, -88.0]).max() <= 16 * EPS * 215.6
    assert np.abs(H.to_dense() - [[1330, 480], [480, 200]]).max() <= 16 * EPS * 1330
    found = lanczos(HessianOperator(rosenbrock, np.ones(2)), k=2, rng=0)
    known = np.array([0.3993607674876, 1001.600639233])  # thirteen digits are printed
    assert (np.abs(found.value - known) <= found.bound + 5e-13 * known).all()


# point and eigenvalues; nine and six decimals
HIMMELBLAU = [
    ((3.58442834, -1.848126527), (28.690677, 105.418908)),
    ((-3.779310253, -3.283185991), (70.714355, 133.785615)),
    ((-2.805118087, 3.131312518), (64.840373, 80.550072)),
    ((3.0, 2.0), (25.715729, 82.284271)),
    ((3.385154184, 0.07385188), (-14.135178, 97.547878)),
    ((0.086677505, 2.884254701), (-31.706622, 75.507609)),
    ((-3.073025751, -0.081353044), (-39.651496, 72.435248)),
    ((-0.127961347, -1.95371498), (-50.610239, 20.28405)),
    ((-0.270844591, -0.923038556), (-45.605229, -16.06602)),
]


@pytest.mark.parametrize(("point", "eigenvalues"), HIMMELBLAU, ids=str)
def test_himmelblau_has_its_known_eigenvalues(point, eigenvalues):
    H = HessianOperator(himmelblau, np.array(point))
    found = lanczos(H, k=2, rng=0)
    # third derivatives are at most 100: 5e-10 in the point is 5e-8, and six decimals are printed
    assert np.abs(found.value - eigenvalues).max() <= 6e-7
    assert np.abs(H.gradient).max() <= 5e-10 * 140 * 2


MUELLER_BROWN = [
    ((-0.558223634633, 1.441725841805), (410.531134692889, 4068.198955026485)),
    ((0.623499404931, 0.028037758529), (543.83618901862, 3005.395864532677)),
    ((-0.050010822998, 0.466694104872), (221.037472872321, 1479.197022012834)),
    ((-0.822001558733, 0.624312802815), (-750.862662839277, 490.240708059631)),
    ((0.212486582001, 0.292988325107), (-735.247262111364, 510.886565472547)),
]


@pytest.mark.parametrize(("point", "eigenvalues"), MUELLER_BROWN, ids=str)
def test_mueller_brown_has_its_known_eigenvalues(point, eigenvalues):
    found = lanczos(HessianOperator(mueller_brown, np.array(point)), k=2, rng=0)
    # twelve decimals of the point, and third derivatives below 1e5
    assert np.abs(found.value - eigenvalues).max() <= 5e-13 * 1e5


# ---------------------------------------------------------------------------- the interface


@each_dtype
def test_any_tree_of_parameters(rng, dtype):
    a, b = rng.standard_normal((2, 3)).astype(dtype), rng.standard_normal(3).astype(dtype)
    trees = {
        "an array": (a, lambda p: np.sum(np.sin(p) * p)),
        "a dictionary": ({"b": b, "a": a}, lambda p: np.sum(np.sin(p["a"]) @ p["b"])),
        "nested": ([a, (b, None)], lambda p: np.sum(np.exp(p[0] * p[1][0]))),
        "no axes": ({"s": b[0].reshape(()), "a": a}, lambda p: np.sum(p["a"] ** 3 * p["s"])),
    }
    for params, loss in trees.values():
        H = HessianOperator(loss, params)
        dense = dense_hessian(loss, params)
        check_operator(H, dense)
        assert H.dtype == dtype
        again = nm.ravel_tree(H.unravel(H.gradient))[0]
        np.testing.assert_array_equal(again, H.gradient)


def test_a_number_is_a_matrix_of_one():
    H = HessianOperator(lambda x: x**3, 2.0)
    assert repr(H) == "<1x1 HessianOperator, symmetric, float64>"
    assert (H @ np.ones(1)).tolist() == [12.0]
    found = lanczos(H, k=1, rng=0)
    assert abs(found.value[0] - 12) <= found.bound[0]


def test_parameters_of_two_dtypes_meet_in_the_wider_one(rng):
    params = {
        "single": rng.standard_normal(3).astype(np.float32),
        "double": rng.standard_normal(2),
    }

    def loss(p):
        return np.sum(np.cos(p["single"])) * np.sum(p["double"] ** 2)

    H = HessianOperator(loss, params)
    assert H.dtype == H.gradient.dtype == np.float64
    wide = {"single": params["single"].astype(float), "double": params["double"]}
    dense = dense_hessian(loss, wide)
    v = rng.standard_normal(5)
    # what passes through the single leaf is rounded to float32
    allowed = 16 * np.finfo(np.float32).eps * np.abs(dense).max() * np.abs(v).sum()
    assert np.abs(H @ v - dense @ v).max() <= allowed


def test_data_are_captured(rng):
    model, x, y = network(rng, np.tanh)
    H = HessianOperator(mean_loss, model, x, y)
    v = rng.standard_normal(66)
    before = H @ v
    x[:] = 0.0
    model.layers[0].weight[:] = 0.0
    np.testing.assert_array_equal(H @ v, before)


@each_dtype
def test_reductions_are_converted(rng, dtype):
    model, x, y = network(rng, np.tanh, dtype=dtype)

    def sum_loss(model, x, y):
        return nm.nn.softmax_cross_entropy(model(x), y).sum()

    mean = HessianOperator(mean_loss, model, x, y, reduction=Reduction("mean", 40))
    total = HessianOperator(sum_loss, model, x, y, reduction=Reduction("sum", 40))
    v = rng.standard_normal((66, 2)).astype(dtype)
    for one, other, kind in [(mean, total, "sum"), (total, mean, "mean")]:
        converted = one.to_reduction(kind)
        assert converted.reduction == Reduction(kind, 40)
        assert converted.dtype == dtype
        for a, b in [(converted @ v, other @ v), (converted.gradient, other.gradient)]:
            assert a.dtype == dtype
            assert np.abs(a - b).max() <= 64 * np.finfo(dtype).eps * np.abs(b).max()
        check_operator(converted, other.to_dense())
        np.testing.assert_array_equal(one.to_reduction(one.reduction.kind) @ v, one @ v)
        back = converted.to_reduction(one.reduction.kind)
        assert np.abs(back @ v - one @ v).max() <= 4 * np.finfo(dtype).eps * np.abs(one @ v).max()
    assert mean.reduction == Reduction("mean", 40)  # the original is left alone


def test_what_is_refused(rng):
    model, x, y = network(rng, np.tanh)
    with pytest.raises(DtypeError, match="HessianOperator: `loss` must be callable, got 3"):
        HessianOperator(3, model)
    with pytest.raises(TreeError, match="`params` must hold at least one array, got none"):
        HessianOperator(lambda p: 1.0, [])
    with pytest.raises(DtypeError, match=r"HessianOperator: `params` must be a float32 or float64"):
        HessianOperator(lambda p: np.sum(p**2), np.arange(3))
    with pytest.raises(
        DtypeError, match=r"`params\['w'\]\[1\]` must be a float32 or float64 array"
    ):
        HessianOperator(lambda p: np.sum(p["w"][0]), {"w": [np.ones(2), np.ones(2, int)]})
    with pytest.raises(ShapeError, match="scalar"):
        HessianOperator(lambda p: p**2, np.ones(3))
    H = HessianOperator(mean_loss, model, x, y)
    with pytest.raises(DomainError, match=r"does not know how its loss joins the data\. Give"):
        H.to_reduction("sum")
    with pytest.raises(ShapeError, match=r"HessianOperator @ x: `x` must be of shape \(66,\) or"):
        H @ np.ones(65)
    with pytest.raises(DtypeError, match="of float64, got float32"):
        H @ np.ones(66, np.float32)
    with pytest.raises(DomainError, match="`kind` must be one of 'mean', 'sum', got 'max'"):
        Reduction("max", 3)
    with pytest.raises(DomainError, match="`n_data` must be a positive integer, got 0"):
        Reduction("mean", 0)
    with pytest.raises(DomainError, match=r"Reduction\.factor_to: `kind` must be one of"):
        Reduction("mean", 3).factor_to("total")


def test_a_point_without_a_hessian_is_said_to_be_one(rng):
    model, x, y = network(rng, np.tanh)
    x[0, 0] = np.nan
    with np.errstate(invalid="ignore"):  # NumPy's warnings come as they come from NumPy
        H = HessianOperator(mean_loss, model, x, y)
        with pytest.raises(DomainError, match="`A @ v` must be finite, got infinity or NaN in st"):
            lanczos(H, k=1)


# ---------------------------------------------------------------------------- whole studies


@pytest.fixture(scope="module")
def trained():
    """A network near the end of training on two moons: outliers, and a bulk about zero."""
    rng = np.random.default_rng(3)
    turn = np.linspace(0, np.pi, 100)
    arc = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    x = np.concatenate([arc, [1.0, 0.5] - arc]) + 0.1 * rng.standard_normal((200, 2))
    y = np.repeat([0, 1], 100)
    model = nm.nn.MLP.init((2, 16, 16, 2), activation=nm.nn.gelu, rng=rng)
    descend, step = nm.optim.adam(0.01), nm.grad(mean_loss)
    state = descend.init(model)
    for _ in range(150):
        model, state = descend.step(model, step(model, x, y), state)
    return model, x, y


def test_eigenvalues_of_a_trained_network(trained):
    H = HessianOperator(mean_loss, *trained)
    dense = H.to_dense()
    exact = np.linalg.eigvalsh((dense + dense.T) / 2)
    n = len(exact)
    assert n == 354
    found = lanczos(H, k=(10, 5), which="BE", rng=0)
    expected = np.concatenate([exact[:5], exact[-10:]])
    allowance = n * EPS * np.abs(exact).max()
    assert (np.abs(found.value - expected) <= found.bound + allowance).all()
    assert found.converged.all()
    assert found.complete
    assert found.others[0] <= exact[5]
    assert exact[-11] <= found.others[1]
    assert found.iterations < n

    single = nm.tree_map(lambda a: a.astype(np.float32), trained[:2])
    H = HessianOperator(mean_loss, *single, trained[2])
    rough = lanczos(H, k=(10, 5), which="BE", rng=0)
    assert rough.value.dtype == np.float32
    # the entries of a Hessian in float32: sums over 200 rows of products of a few factors
    noise = 64 * np.finfo(np.float32).eps * np.abs(exact).max()
    assert (np.abs(rough.value - expected) <= rough.bound + noise).all()


def test_scipy_finds_the_same_eigenvalues(trained):
    H = HessianOperator(mean_loss, *trained)
    found = lanczos(H, k=(4, 2), which="BE", rng=0)
    for which, k, part in [("LA", 4, found.value[2:]), ("SA", 2, found.value[:2])]:
        theirs = eigsh(H, k=k, which=which, tol=1e-10, return_eigenvectors=False)
        # eigsh stops at residuals of tol times each value
        allowed = 1e-10 * found.norm + found.bound.max()
        assert np.abs(np.sort(theirs) - part).max() <= allowed


def test_scipy_solves_newton_steps_with_it(trained):
    """(H + damping) step = -gradient, by conjugate gradients on SciPy's sum of operators."""
    H = HessianOperator(mean_loss, *trained)
    damping = 1.0
    shifted = aslinearoperator(H) + aslinearoperator(damping * np.eye(H.shape[0]))
    step, info = cg(shifted, -H.gradient, rtol=1e-10)
    assert info == 0
    rest = H @ step + damping * step + H.gradient
    assert np.linalg.norm(rest) <= 2e-10 * np.linalg.norm(H.gradient)


def test_scipy_minimises_with_its_products():
    def hessp(x, v):
        return HessianOperator(rosenbrock, x) @ v

    start = np.array([-1.2, 1.0, -0.5])
    found = minimize(
        rosenbrock, start, jac=nm.grad(rosenbrock), hessp=hessp, method="trust-ncg", tol=1e-8
    )
    assert found.success
    # the smallest curvature at the minimum is about 0.4
    assert np.abs(found.x - 1).max() <= 1e-8 / 0.4 * 2


def test_an_interrupted_or_short_search_has_what_it_found(trained):
    H = HessianOperator(mean_loss, *trained)
    with pytest.raises(ConvergenceError) as caught:
        lanczos(H, k=(10, 5), which="BE", max_steps=30, rng=0)
    partial = caught.value.partial
    assert 0 < partial.converged.sum() < 15
    assert partial.converged[-1]


def test_the_digits_network_has_its_top_eigenvalues():
    """Handwritten digits: residuals below 1e-8, and the values of the dense algorithm."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    x, y = digits.data[:600] / 16.0, digits.target[:600]
    model = nm.nn.MLP.init((64, 16, 10), activation=nm.nn.gelu, rng=0)
    descend, step = nm.optim.adam(0.01), nm.compile(nm.grad(mean_loss))
    state = descend.init(model)
    for _ in range(60):
        model, state = descend.step(model, step(model, x, y), state)
    H = HessianOperator(mean_loss, model, x, y)
    found = lanczos(H, k=10, rng=0)
    assert found.complete
    assert found.residual.max() < 1e-8
    dense = H.to_dense()
    exact = np.linalg.eigvalsh((dense + dense.T) / 2)
    allowance = len(exact) * EPS * np.abs(exact).max()
    assert (np.abs(found.value - exact[-10:]) <= found.bound + allowance).all()
