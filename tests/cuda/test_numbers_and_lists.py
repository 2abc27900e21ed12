"""Numbers, lists of numbers and lists of arrays beside arrays of a device, and what CuPy alone would refuse.

NumPy takes a list wherever it takes an array. It has no device, so that it goes to that of the array beside it; an
array of the host does not.
"""

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.device import device_of, to_device
from nnmath_core.errors import DeviceError

xnp = nm.numpy
X = np.array([[0.3, 1.2, -0.4], [2.0, 0.1, 0.7]])
V = np.array([0.5, -1.0, 2.0, 0.25])
I = np.array([2, 0, 1])  # noqa: E741
DATA = np.array([0.1, 0.9, 0.4, 0.4, 1.0, 0.0, 0.75])
EDGES = np.array([0.0, 0.25, 0.5, 1.0])

CALLS = {
    "append a number": (lambda x: xnp.append(x, 1.0), X),
    "append a list": (lambda x: xnp.append([1, 2], x), X),
    "array_equal": (lambda x: xnp.array_equal(x, 1), X),
    "array_equiv": (lambda x: xnp.array_equiv(x, [1, 2, 3]), X),
    "compress, a list": (lambda x: xnp.compress([True, False, True], x, axis=1), X),
    "compress, a mask": (lambda x: xnp.compress(x[0] > 0, x, axis=1), X),
    "cross": (lambda x: xnp.cross(x, [1, 2, 3]), X),
    "digitize": (lambda x: xnp.digitize(x, [0.0, 0.5, 1.0]), X),
    "ediff1d": (lambda x: xnp.ediff1d(x, to_end=[1, 2], to_begin=0), X),
    "extract": (lambda x: xnp.extract(x > 0.2, x), X),
    "full, a scalar": (lambda x: xnp.full((2, 3), x[0, 0]), X),
    "full, a row": (lambda x: xnp.full((2, 3), x[0], np.float32), X),
    "full_like, a list": (lambda x: xnp.full_like(x, [1, 2, 3]), X),
    "geomspace": (lambda x: xnp.geomspace([0.5, 0.5, 0.5], abs(x), 4), X),
    "insert": (lambda x: xnp.insert(x, 1, 0, axis=1), X),
    "insert at places there": (lambda i: xnp.insert(i, i, i), I),
    "interp": (lambda x: xnp.interp(x, [0, 1, 2], [3, 2, 4]), X),
    "intersect1d": (lambda x: xnp.intersect1d(x, [0.1, 2.0, 3.0]), X),
    "isin, numbers": (lambda x: xnp.isin(x, [0.1, 2.0, np.nan]), X),
    "isin, inverted": (lambda x: xnp.isin(x, x[0, :2], invert=True), X),
    "isin, a number": (lambda x: xnp.isin(0.1, x), X),
    "kron": (lambda x: xnp.kron(x, 2), X),
    "linspace": (lambda x: xnp.linspace([0, 0, 0], x[0], 4), X),
    "logspace": (lambda x: xnp.logspace(x, [1, 2, 3], 4), X),
    "matrix_rank": (lambda x: xnp.linalg.matrix_rank(x[None], tol=[0.5]), X),
    "nanquantile": (lambda x: xnp.nanquantile(x, [0.2, 0.5], axis=1), X),
    "outer": (lambda x: xnp.outer(x, [1, 2]), X),
    "percentile": (lambda x: xnp.percentile(x, 30, axis=0), X),
    "polyadd": (lambda x: xnp.polyadd(x, 2), V),
    "polyder": (lambda x: xnp.polyder(x, 2), V),
    "polydiv": (lambda x: xnp.polydiv(x, [1, 2]), V),
    "polyint": (lambda x: xnp.polyint(x, 2, k=[1, 2]), V),
    "polymul": (lambda x: xnp.polymul([1, 2], x), V),
    "quantile, a number": (lambda x: xnp.quantile(x, 0.3), X),
    "quantile, weights": (
        lambda x: xnp.quantile(x, 0.3, axis=1, method="inverted_cdf", weights=[1, 2, 3]),
        X,
    ),
    "require": (lambda x: xnp.require(x, np.float32), X),
    "roots": (lambda x: xnp.sort(xnp.roots(x)), V),
    "roots, zeros at both ends": (
        lambda x: xnp.sort(xnp.real(xnp.roots(x))),
        np.array([0, 1.0, -3, 2, 0]),
    ),
    "roots of nothing": (xnp.roots, np.zeros(2)),
    "searchsorted": (lambda x: xnp.searchsorted([0.0, 0.5, 1.0], x), X),
    "select": (lambda x: xnp.select([x > 1, x > 0], [x, -x], [7, 8, 9]), X),
    "setdiff1d": (lambda x: xnp.setdiff1d(x, [0.1, 2.0]), X),
    "setxor1d": (lambda x: xnp.setxor1d(x, [0.1, 3.0], assume_unique=True), X),
    "concatenate lists": (lambda x: xnp.concatenate([[x[0], x[1]], [[1, 2, 3]]]), X),
    "take, a list": (lambda x: xnp.take(x, [0, -1], axis=1), X),
    "take, a number": (lambda x: xnp.take(x, 1, axis=1), X),
    "take, wrapped": (lambda x: xnp.take(x, [5, -7], axis=1, mode="wrap"), X),
    "trapezoid": (lambda x: xnp.trapezoid(x, [0, 1, 3]), X),
    "union1d": (lambda x: xnp.union1d(x, 1), X),
    "unwrap": (lambda x: xnp.unwrap(x * 9, [1, 2]), X),
    "histogram": (lambda x: xnp.histogram(x, 4), DATA),
    "histogram, float32": (lambda x: xnp.histogram(x, 4), DATA.astype(np.float32)),
    "histogram, edges": (lambda x: xnp.histogram(x, list(EDGES), weights=x), DATA),
    "histogram, a rule": (lambda x: xnp.histogram(x, "auto", density=True), DATA),
    "histogram, a range": (lambda x: xnp.histogram(x, 5, (0.2, 0.8)), DATA),
    "histogram of nothing": (lambda x: xnp.histogram(x, 3), DATA[:0]),
    "histogram of one value": (lambda x: xnp.histogram(x, 3), DATA[2:4]),
    "histogram_bin_edges": (lambda x: xnp.histogram_bin_edges(x, 3), DATA),
    "histogram2d": (lambda x: xnp.histogram2d(x, x[::-1], (3, 2), density=True), DATA),
    "histogramdd": (lambda x: xnp.histogramdd(x.reshape(3, 2), [2, [0, 0.5, 1]]), DATA[:6]),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", CALLS)
def test_a_call_gives_the_hosts_result_where_its_array_is(cp, name):
    f, x = CALLS[name]
    result = f(to_device(x, "cuda:0"))
    for y, z in zip(nm.tree_leaves(f(x)), nm.tree_leaves(result), strict=True):
        if isinstance(y, bool):
            assert bool(z) is y
            continue
        assert str(device_of(z)) == "cuda:0"
        z = to_device(z, "cpu")
        assert (z.dtype, z.shape) == (np.asarray(y).dtype, np.shape(y))
        # sums in another order, eigenvalues by another routine
        np.testing.assert_allclose(z, y, rtol=1e-12 if z.dtype != np.float32 else 1e-6, atol=1e-14)


GRADIENTS = {
    "compress": lambda x: xnp.compress([True, False, True], x, axis=1),
    "det": lambda x: xnp.linalg.det(x[:, :2]),
    "full": lambda x: xnp.full((2, 3), x[0]),
    "polyder": lambda x: xnp.polyder(x[0], 1),
    "polyint": lambda x: xnp.polyint(x[0], 2),
    "quantile": lambda x: xnp.quantile(x, [0.3, 0.8], axis=1),
    "roots": lambda x: xnp.real(xnp.roots(x[0])),
    "take": lambda x: xnp.take(x, [0, 0, 2], axis=1),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_the_hosts(cp, name):
    g = nm.grad(lambda x: xnp.sum(GRADIENTS[name](x) ** 2))
    y = g(to_device(X, "cuda:0"))
    assert str(device_of(y)) == "cuda:0"
    np.testing.assert_allclose(to_device(y, "cpu"), g(X), rtol=1e-11, atol=1e-13)


def test_weights_of_a_histogram_have_the_hosts_gradient(cp):
    w = np.arange(7.0)

    def f(w, x):
        return xnp.sum(xnp.histogram(x, 3, weights=w)[0] ** 2)

    y = nm.grad(f)(to_device(w, "cuda:0"), to_device(DATA, "cuda:0"))
    np.testing.assert_allclose(to_device(y, "cpu"), nm.grad(f)(w, DATA), rtol=1e-12)


def test_an_array_of_the_host_does_not_move(cp):
    x = to_device(X, "cuda:0")
    for f in (
        lambda: xnp.append(x, X),
        lambda: xnp.quantile(x, np.array(0.5)),
        lambda: xnp.isin(x, X),
        lambda: xnp.take(x, np.array([0])),
        lambda: xnp.histogram2d(x[0], X[0]),
    ):
        with pytest.raises(DeviceError, match="Nothing is moved in silence"):
            f()


@pytest.mark.parametrize(
    "name", ["wofz", "erf", "erfc", "erfcx", "ndtr", "log_ndtr", "exp1", "expi"]
)
def test_complex_numbers_that_cupy_lacks_are_named(cp, name):
    z = to_device(np.array([0.5 + 1j]), "cuda:0")
    named = "erfcx" if name == "wofz" else name
    said = f"{named}: CuPy has no implementation for complex128, so there is none on cuda:0"
    with pytest.raises(DeviceError, match=said):
        getattr(nm.special, name)(z)
