"""Linear operators: products, refusals, SciPy's solvers, devices; and the checker that proves them."""

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import LinearOperator as ScipyOperator, aslinearoperator, cg, eigsh, lsmr
from test_device_cuda import Array, stand_in  # noqa: F401 (a fixture)

import nnmath_core as nm
from nnmath_core.device import Device
from nnmath_core.errors import DeviceError, DomainError, DtypeError, ShapeError
from nnmath_core.solvers import LinearOperator, as_operator
from nnmath_core.verify import check_operator

DTYPES = [np.float32, np.float64]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])


@pytest.fixture
def rng():
    return np.random.default_rng(20261126)


def random_matrix(rng, m, n, dtype=np.float64):
    return rng.standard_normal((m, n)).astype(dtype)


def symmetric_matrix(rng, n, dtype=np.float64):
    a = random_matrix(rng, n, n, dtype)
    return a + a.T


class Diagonal(LinearOperator):
    """What a user writes."""

    symmetric = True

    def __init__(self, d):
        self.d, self.dtype, self.shape = d, d.dtype, (d.size, d.size)

    def _matmat(self, X):
        return self.d[:, None] * X


class Dense(LinearOperator):
    """A matrix whose parts the broken operators below replace."""

    def __init__(self, matrix, *, symmetric=False):
        self.matrix, self.symmetric = matrix, symmetric
        self.shape, self.dtype = matrix.shape, matrix.dtype

    def _matmat(self, X):
        return self.matrix @ X

    def _rmatmat(self, Y):
        return self.matrix.T @ Y


# ------------------------------------------------------------------------------- promises


@each_dtype
@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (1, 1), (200, 150)], ids=str)
def test_operators_of_matrices_keep_their_promises(rng, shape, dtype):
    matrix = random_matrix(rng, *shape, dtype)
    for op, dense in [
        (as_operator(matrix), matrix),
        (as_operator(np.asfortranarray(matrix)[:, ::-1]), matrix[:, ::-1]),
        (as_operator(matrix).T, matrix.T),
        (as_operator(scipy.sparse.csr_array(matrix)), matrix),
        (as_operator(scipy.sparse.coo_matrix(matrix)), matrix),
        (as_operator(aslinearoperator(matrix)), matrix),
        (as_operator(as_operator(matrix).to_scipy()), matrix),
        (Dense(matrix), matrix),
    ]:
        check_operator(op, dense, rng=rng)
        assert op.shape == dense.shape
        assert op.dtype == dtype
        np.testing.assert_array_equal(op.to_dense(), dense)


@each_dtype
def test_symmetric_operators_keep_their_promises(rng, dtype):
    matrix = symmetric_matrix(rng, 20, dtype)
    d = rng.standard_normal(20).astype(dtype)
    for op, dense in [
        (as_operator(matrix), matrix),
        (as_operator(scipy.sparse.csc_array(matrix)), matrix),
        (Diagonal(d), np.diag(d)),
        (Diagonal(d[:0]), np.zeros((0, 0), dtype)),
        (as_operator(np.zeros((4, 4), dtype)), np.zeros((4, 4))),
    ]:
        check_operator(op, dense, rng=rng)
        assert op.symmetric
        assert op.T is op


def broken(rng, name):
    """Return an operator with one fault, and its matrix without it."""
    matrix = symmetric_matrix(rng, 30) if "symmetric" in name else random_matrix(rng, 30, 20)
    op = Dense(matrix)
    multiply, count, shared = op._matmat, [0], {}

    def counted(X):
        count[0] += 1
        return multiply(X) * (1 + 1e-12 * count[0])

    def noisy(X):
        return multiply(X) + 1e-13 * rng.standard_normal((matrix.shape[0], X.shape[1]))

    def reused(X):
        out = shared.setdefault(X.shape, np.empty((matrix.shape[0], X.shape[1])))
        return np.matmul(matrix, X, out=out)

    def writes(X):
        y = multiply(X)
        X *= 2.0
        return y

    def nan_in_blocks(X):
        y = multiply(X)
        y[: X.shape[1] - 1] *= np.nan
        return y

    faults = {
        "wrong transpose": {"_rmatmat": lambda Y: 1.0000001 * (matrix.T @ Y)},
        "transpose of another shape": {"_rmatmat": lambda Y: matrix @ Y[:20]},
        "transpose with a state": {"_rmatmat": lambda Y: matrix.T @ Y + rng.standard_normal()},
        "state": {"_matmat": counted},
        "noise": {"_matmat": noisy},
        "one result array for all products": {"_matmat": reused},
        "argument written": {"_matmat": writes},
        "wrong dtype": {"_matmat": lambda X: multiply(X).astype(np.float32)},
        "wrong shape": {"_matmat": lambda X: multiply(X)[:-1]},
        "flat block": {"_matmat": lambda X: multiply(X)[:, :1]},
        "not linear": {"_matmat": lambda X: multiply(X) + 1e-9 * multiply(X) ** 2},
        "affine": {"_matmat": lambda X: multiply(X) + 1e-9},
        "block other than its columns": {"_matmat": lambda X: multiply(np.sort(X, axis=1))},
        "NaN in blocks": {"_matmat": nan_in_blocks},
        "another matrix": {
            "_matmat": lambda X: 1.0000001 * multiply(X),
            "_rmatmat": lambda Y: 1.0000001 * (matrix.T @ Y),
        },
        "not symmetric": {"matrix": matrix + np.eye(len(matrix), k=1)[:, : matrix.shape[1]] * 1e-8},
        "dtype as a string": {"dtype": "float64"},
        "shape as a list": {"shape": [30, 20]},
    }
    op.symmetric = name == "not symmetric"
    for attribute, value in faults[name].items():
        setattr(op, attribute, value)
    return op, matrix


FAULTS = {
    "wrong transpose": (DomainError, r"y'\(A x\) and \(A'y\)'x must be equal, got a difference"),
    "transpose of another shape": (ShapeError, r"A.T @ x must have shape \(20,\), got \(30,\)"),
    "transpose with a state": (DomainError, r"A.T @ x must be the same each time"),
    "state": (DomainError, r"A @ x must be the same each time, got a difference of"),
    "noise": (DomainError, r"A @ x must be the same each time"),
    "one result array for all products": (DomainError, r"must be an array of its own"),
    "argument written": (DomainError, r"A @ x must leave x as it is"),
    "wrong dtype": (DtypeError, r"A @ x must be of float64, got float32"),
    "wrong shape": (ShapeError, r"A @ x must have shape \(30,\), got \(29,\)"),
    "flat block": (ShapeError, r"A @ x must have shape \(30, 3\), got \(30, 1\)"),
    "not linear": (DomainError, r"A @ x must be linear, got a difference of .*e-.. of their size"),
    "affine": (DomainError, r"A @ x must be linear"),
    "block other than its columns": (DomainError, r"of a block must be the products with its"),
    "NaN in blocks": (DomainError, r"A @ x must be finite, got infinity or NaN"),
    "another matrix": (DomainError, r"A @ x must be `dense @ x`, got a difference"),
    "not symmetric": (DomainError, r"\(A y\)'x must be equal, since `symmetric` is True"),
    "dtype as a string": (DtypeError, r"`dtype` must be numpy.dtype.*, got 'float64'"),
    "shape as a list": (ShapeError, r"`shape` must be a pair of lengths, got \[30, 20\]"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_check_operator_notices(rng, name):
    op, matrix = broken(rng, name)
    error, words = FAULTS[name]
    with pytest.raises(error, match=words) as caught:
        check_operator(op, matrix)
    assert str(caught.value).startswith("check_operator: Dense: ")


def test_check_operator_refuses_what_is_no_operator_and_another_matrix(rng):
    matrix = random_matrix(rng, 3, 2)
    wanted = "check_operator: `op` must be a LinearOperator, got float64 array of shape"
    with pytest.raises(DtypeError, match=wanted):
        check_operator(matrix)
    with pytest.raises(ShapeError, match=r"`dense` must be of shape \(3, 2\), got \(2, 3\)"):
        check_operator(as_operator(matrix), matrix.T)
    op = Dense(matrix)
    op.symmetric = True
    with pytest.raises(ShapeError, match="`shape` must be square, since `symmetric` is True"):
        check_operator(op)


def test_an_operator_without_a_transpose_promises_none(rng):
    class Forward(LinearOperator):
        def __init__(self, matrix):
            self.matrix, self.shape, self.dtype = matrix, matrix.shape, matrix.dtype

        def _matmat(self, X):
            return self.matrix @ X

    matrix = random_matrix(rng, 4, 3)
    op = Forward(matrix)
    check_operator(op, matrix)
    with pytest.raises(NotImplementedError, match="Forward has no transpose: write `_rmatmat`"):
        op.T @ np.ones(4)


# -------------------------------------------------------------------------------- products


def test_products_on_either_side_of_vectors_and_blocks(rng):
    matrix = random_matrix(rng, 4, 3)
    A, x, y = as_operator(matrix), random_matrix(rng, 3, 2), random_matrix(rng, 4, 2)
    for found, expected in [
        (A @ x, matrix @ x),
        (A @ x[:, 0], matrix @ x[:, 0]),
        (A @ x[:, :0], np.empty((4, 0))),
        (y.T @ A, y.T @ matrix),
        (y[:, 0] @ A, y[:, 0] @ matrix),
        (A.T @ y, matrix.T @ y),
        (A.matvec(x[:, 0]), matrix @ x[:, 0]),
        (A.matmat(x), matrix @ x),
        (A.rmatvec(y[:, 0]), matrix.T @ y[:, 0]),
        (A.rmatmat(y), matrix.T @ y),
        (A.to_dense(chunk_size=2), matrix),
        (A.T.to_dense(), matrix.T),
    ]:
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=16 * np.finfo(float).eps)
    assert A.T.T is A


def test_products_refuse_other_shapes_and_dtypes():
    A = as_operator(np.ones((4, 3), np.float32))
    x = np.ones(3, np.float32)
    with pytest.raises(ShapeError, match=r"MatrixOperator @ x: `x` must be of shape \(3,\) or"):
        A @ np.ones(4, np.float32)
    with pytest.raises(ShapeError, match=r"`x` must be of shape \(3,\) or \(3, k\), got \(1, 3\)"):
        A @ x[None]
    with pytest.raises(ShapeError, match=r"`x` must be of shape \(3,\) or \(3, k\), got \(\)"):
        A @ x[0]
    with pytest.raises(DtypeError, match=r"of float32, got float64. Nothing is converted in"):
        A @ x.astype(float)
    with pytest.raises(DtypeError, match=r"a float32 or float64 array, got int64 array"):
        A @ np.ones(3, int)
    with pytest.raises(DtypeError, match=r"a float32 or float64 array, got a list"):
        A @ [1.0, 2.0, 3.0]
    with pytest.raises(DtypeError, match=r"an operator is not an array. Write `A.to_dense\(\)`"):
        np.asarray(A)
    with pytest.raises(TypeError):
        np.sin(A)


def test_as_operator_says_what_it_takes():
    op = Diagonal(np.ones(2))
    assert as_operator(op) is op
    assert repr(as_operator(np.ones((2, 3), np.float32))) == "<2x3 MatrixOperator, float32>"
    assert repr(as_operator(np.eye(2)).T) == "<2x2 MatrixOperator, symmetric, float64>"
    with pytest.raises(DtypeError, match="as_operator: `A` must be an operator or a matrix of"):
        as_operator([[1.0]])
    with pytest.raises(ShapeError, match=r"`A` must be a matrix, got an array of shape \(2,\)"):
        as_operator(np.ones(2))
    with pytest.raises(DtypeError, match=r"got int64 array of shape \(2, 2\). Convert it"):
        as_operator(np.ones((2, 2), int))
    with pytest.raises(DtypeError, match="a float32 or float64 matrix, got a sparse one of int64"):
        as_operator(scipy.sparse.csr_array(np.ones((2, 2), int)))
    complex_one = ScipyOperator((2, 2), matvec=lambda x: x, dtype=complex)
    with pytest.raises(DtypeError, match="a float32 or float64 operator, got one of complex128"):
        as_operator(complex_one)


def test_a_matrix_of_the_old_class_multiplies_as_an_array():
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix([[1.0, 2.0], [2.0, 5.0]])
    found = as_operator(matrix) @ np.array([1.0, 1.0])
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, [3.0, 7.0])


def test_an_operator_differentiates():
    A = as_operator(np.array([[2.0, 1.0], [0.0, 3.0]]))
    x = np.array([1.0, 2.0])
    slope = nm.grad(lambda v: np.sum((A @ v) ** 2))(x)
    np.testing.assert_allclose(slope, 2 * (A.T @ (A @ x)), rtol=8 * np.finfo(float).eps)


# ------------------------------------------------------------------------- SciPy's solvers


@each_dtype
def test_scipy_takes_an_operator_as_it_is(rng, dtype):
    """Each solver is asked for its own tolerance, 32 eps (n = 40) relative to the norm."""
    a = random_matrix(rng, 40, 40, dtype)
    matrix = a @ a.T / 40 + np.eye(40, dtype=dtype)
    A, b = as_operator(matrix), a[0]
    wrapped = aslinearoperator(A)
    assert wrapped.shape == A.shape
    assert wrapped.dtype == dtype
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(wrapped @ b, matrix @ b, rtol=0, atol=32 * eps * np.abs(b).sum())

    w = eigsh(A, k=3, which="LA", return_eigenvectors=False)
    exact = np.linalg.eigvalsh(matrix.astype(float))
    assert np.abs(np.sort(w) - exact[-3:]).max() <= 32 * eps * exact[-1]

    x, info = cg(A, b, rtol=32 * eps)
    assert info == 0
    # the residual that cg updates drifts from the true one by eps times the condition number
    condition = exact[-1] / exact[0]
    assert np.linalg.norm(matrix @ x - b) <= (64 + 32 * condition) * eps * np.linalg.norm(b)

    tall = as_operator(random_matrix(rng, 60, 10, dtype))
    c = rng.standard_normal(60).astype(dtype)
    with np.errstate(over="ignore"):  # in its estimate of the condition number, in float32
        x = lsmr(tall, c, atol=eps, btol=eps)[0].astype(dtype)
    slope = tall.T @ (c - tall @ x)
    assert np.linalg.norm(slope) <= 64 * eps * np.linalg.norm(tall.to_dense()) * np.linalg.norm(c)


def test_to_scipy_multiplies_blocks_as_blocks(rng):
    widths = []

    class Watched(Diagonal):
        def _matmat(self, X):
            widths.append(X.shape[1])
            return super()._matmat(X)

    A = Watched(rng.standard_normal(6))
    X = rng.standard_normal((6, 4))
    np.testing.assert_array_equal(A.to_scipy() @ X, A @ X)
    assert widths == [4, 4]
    widths.clear()
    np.testing.assert_array_equal(aslinearoperator(A) @ X, A @ X)
    assert 4 in widths


# --------------------------------------------------------------------------------- devices


def test_an_operator_on_a_device_gets_and_gives_device_arrays(stand_in, rng):  # noqa: F811
    cupy = stand_in()
    d = rng.standard_normal(30)

    class OnDevice(LinearOperator):
        symmetric = True
        device = Device("cuda", 1)
        shape, dtype = (30, 30), np.dtype(np.float64)
        lost = False

        def _matmat(self, X):
            assert isinstance(X, Array)
            assert cupy.runtime.current[-1] == 1
            y = d[:, None] * X.host
            return y if self.lost else Array(cupy, y, 1)

    A = OnDevice()
    assert repr(A) == "<30x30 OnDevice, symmetric, float64, cuda:1>"
    check_operator(A, np.diag(d))
    with pytest.raises(DeviceError, match=r'on cuda:1, got cpu. .*`nm.to_device\(x, "cuda:1"\)`'):
        A @ np.ones(30)
    A.lost = True
    with pytest.raises(DeviceError, match="A @ x must live on cuda:1, got cpu"):
        check_operator(A)
