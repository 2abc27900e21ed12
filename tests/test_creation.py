"""Making arrays: NumPy's results and keywords, traced numbers inside of lists, and the default device."""

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import TraceError

xp = nm.numpy
X = np.random.default_rng(9).standard_normal((2, 3))

# The same call of NumPy and of ours gives the same array.
PLAIN = {
    "arange": lambda p: p.arange(5),
    "arange from to": lambda p: p.arange(1.0, 4.0, 0.5),
    "arange step": lambda p: p.arange(5, step=2),
    "arange down": lambda p: p.arange(5, 0, -2, dtype=np.float32),
    "array": lambda p: p.array([[1, 2], [3, 4]], dtype=np.float32, ndmin=3, order="F"),
    "array of a number": lambda p: p.array(3.0),
    "array ndmin": lambda p: p.array([1, 2], ndmin=2),
    "asarray": lambda p: p.asarray([1, 2.5, True]),
    "asarray copy": lambda p: p.asarray(X, copy=True, order="F"),
    "asanyarray": lambda p: p.asanyarray([1, 2]),
    "ascontiguousarray": lambda p: p.ascontiguousarray(X.T),
    "ascontiguousarray of a number": lambda p: p.ascontiguousarray(2.0),
    "asfortranarray": lambda p: p.asfortranarray(X, dtype=np.float32),
    "asarray_chkfinite": lambda p: p.asarray_chkfinite([1.0, 2.0]),
    "bartlett": lambda p: p.bartlett(5),
    "blackman": lambda p: p.blackman(5),
    "c_": lambda p: p.c_[[1, 2], [3, 4.5]],
    "diag_indices": lambda p: p.diag_indices(3, 3),
    "empty_like": lambda p: p.empty_like(X, dtype=int, shape=(4,)).shape,
    "eye": lambda p: p.eye(2, 3, 1, dtype=int, order="F"),
    "frombuffer": lambda p: p.frombuffer(b"\x00\x00\x80?", np.float32),
    "fromfunction": lambda p: p.fromfunction(lambda i, j: i + 10 * j, (2, 3), dtype=int),
    "fromiter": lambda p: p.fromiter((k * k for k in range(5)), float, 3),
    "fromstring": lambda p: p.fromstring("1 2 3", sep=" "),
    "full": lambda p: p.full((2, 2), 7, dtype=np.float32),
    "full from an array": lambda p: p.full((2, 3), [1, 2, 3]),
    "full_like": lambda p: p.full_like(X, 2.5, dtype=np.float32, order="F", shape=(2, 2)),
    "geomspace": lambda p: p.geomspace(1, 1000, 4),
    "hamming": lambda p: p.hamming(5),
    "hanning": lambda p: p.hanning(5),
    "identity": lambda p: p.identity(3, dtype=int),
    "indices": lambda p: p.indices((2, 3)),
    "indices sparse": lambda p: p.indices((2, 3), dtype=float, sparse=True),
    "kaiser": lambda p: p.kaiser(5, 8.6),
    "linspace": lambda p: p.linspace(0, 1, 5, endpoint=False, retstep=True),
    "logspace": lambda p: p.logspace(0, 2, 3, base=2.0, dtype=int),
    "mask_indices": lambda p: p.mask_indices(3, np.triu, 1),
    "mgrid": lambda p: p.mgrid[0:2, 0:3],
    "mgrid by count": lambda p: p.mgrid[0:1:3j],
    "ogrid": lambda p: p.ogrid[0:2, 0:3],
    "ones": lambda p: p.ones((2, 3), dtype=np.int8),
    "ones_like": lambda p: p.ones_like(X, dtype=bool),
    "r_": lambda p: p.r_[1:4, 0, [5.0, 6]],
    "r_ directive": lambda p: p.r_["0,2", [1, 2], [3, 4]],
    "require": lambda p: p.require(X.T, np.float32, ["C", "W"]),
    "tri": lambda p: p.tri(3, 4, -1, dtype=int),
    "tril_indices": lambda p: p.tril_indices(3, -1, 4),
    "triu_indices": lambda p: p.triu_indices(3, 1),
    "zeros": lambda p: p.zeros(3, np.complex64),
    "zeros_like": lambda p: p.zeros_like(np.asfortranarray(X)),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_arrays_are_numpys(name):
    ours, numpys = PLAIN[name](xp), PLAIN[name](np)
    assert type(ours) is type(numpys)
    for a, b in zip(
        *((y if isinstance(y, (tuple, list)) else [y]) for y in (ours, numpys)), strict=True
    ):
        assert type(a) is type(b)
        assert np.array_equal(a, b)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            assert a.flags.c_contiguous == b.flags.c_contiguous


TRACED = {
    "array": lambda x: xp.array([[x[0, 0], 1.0], [2, x[1, 1]]]),
    "array of rows": lambda x: xp.array([x[0], [1.0, 2.0, 3.0], x[1]]),
    "array deep": lambda x: xp.array([[[x[0, 0]], [x[0, 1]]], ((x[1, 0],), (0.0,))]),
    "array ndmin": lambda x: xp.array(x[0], ndmin=3),
    "array dtype": lambda x: xp.array([x[0, 0], 1], dtype=np.float32),
    "array complex": lambda x: abs(xp.array([x[0, 0], 1j])),
    "asarray": lambda x: xp.asarray(x),
    "asarray order": lambda x: xp.asarray([x[0, 0], 0.0], order="F"),
    "asanyarray": lambda x: xp.asanyarray([x[0, 0], x[0, 1]]),
    "ascontiguousarray": lambda x: xp.ascontiguousarray(x.T),
    "ascontiguousarray of a number": lambda x: xp.ascontiguousarray(x[0, 0]),
    "asfortranarray": lambda x: xp.asfortranarray(x),
    "asarray_chkfinite": lambda x: xp.asarray_chkfinite(x),
    "c_": lambda x: xp.c_[x[0], [1.0, 2.0, 3.0]],
    "c_ of a matrix": lambda x: xp.c_[x, x[:, 0]],
    "fromfunction": lambda x: xp.fromfunction(lambda i, j: i * x[0, 0] + j, (2, 3)),
    "fromiter": lambda x: xp.fromiter((v * v for v in x[0]), float),
    "fromiter count": lambda x: xp.fromiter(iter(x[0]), float, 2),
    "full": lambda x: xp.full((2, 3), x[0, 0]),
    "full from an array": lambda x: xp.full((2, 3), x[0], dtype=np.float32),
    "full_like": lambda x: xp.full_like(np.ones((2, 2)), x[0, 0]),
    "full_like of a tracer": lambda x: xp.full_like(x, x[1], shape=(4, 3)),
    "linspace": lambda x: xp.linspace(x[0, 0], x[0, 1], 4),
    "logspace": lambda x: xp.logspace(x[0, 0], 1.0, 3),
    "geomspace": lambda x: xp.geomspace(np.exp(x[0, 0]), 2.0, 3),
    "r_": lambda x: xp.r_[x[0], 1:3, x[0, 0], [5.0]],
    "require": lambda x: xp.require(x, np.float64, ["C", "O"]),
}


@pytest.mark.parametrize("name", TRACED)
def test_traced_numbers_become_traced_arrays(name):
    f = TRACED[name]
    want = f(X)
    value, _ = nm.vjp(f, X)
    assert value.dtype == want.dtype
    np.testing.assert_allclose(value, want, rtol=1e-6 if want.dtype == np.float32 else 1e-14)
    if want.dtype == np.float64:
        nm.check_grads(lambda x: np.sum(np.sin(f(x))), (X,))
    batch = np.stack([X, X + 1])
    mapped = {name for name in TRACED if name != "asarray_chkfinite"}
    if name in mapped:
        np.testing.assert_allclose(nm.vmap(f)(batch)[1], f(batch[1]), rtol=1e-6)


def test_windows_are_not_copied_without_need():
    def f(x):
        assert xp.asarray(x) is x
        assert xp.asarray(x, dtype=x.dtype, copy=False) is x
        assert xp.array(x) is not x
        assert xp.require(x) is x
        y = xp.array(x)
        y += 1.0  # a copy: the caller's array stays
        return y.sum()

    assert np.array_equal(nm.grad(f)(X), np.ones(X.shape))
    assert xp.asarray(X) is X
    assert xp.array(X) is not X
    assert xp.asanyarray(X) is X


def test_copies_that_cannot_be_avoided_are_refused_as_numpys():
    for f in (
        lambda x: xp.asarray([x[0, 0]], copy=False),
        lambda x: xp.asarray(x, dtype=np.float32, copy=False),
        lambda x: xp.array(x, dtype=np.float32, copy=False),
    ):
        with pytest.raises(ValueError, match="Unable to avoid copy"):
            nm.grad(lambda x: f(x).sum())(X)  # noqa: B023
    with pytest.raises(ValueError, match="Unable to avoid copy"):
        xp.asarray([1.0], copy=False)


def test_bad_input_is_numpys_error():
    with pytest.raises(
        ValueError, match=r"entries of a list must have one shape, got \(\) and \(3,\)"
    ):
        nm.grad(lambda x: xp.array([x[0], x[0, 0]]).sum())(X)
    with pytest.raises(ValueError, match="iterator too short"):
        nm.grad(lambda x: xp.fromiter(iter(x[0]), float, 9).sum())(X)
    with pytest.raises(TraceError, match="r_: a string"):
        nm.grad(lambda x: xp.r_["0,2", x[0], x[1]].sum())(X)
    with np.errstate(divide="ignore"), pytest.raises(ValueError, match="infs or NaNs"):
        nm.grad(lambda x: xp.asarray_chkfinite(x / 0.0).sum())(np.ones(2))
    with pytest.raises(ValueError, match="infs or NaNs"):
        xp.asarray_chkfinite([np.inf])
    for f in (lambda x: xp.arange(x[0, 0]), lambda x: xp.eye(x[0, 0])):
        with pytest.raises(TraceError):
            nm.grad(lambda x: f(x).sum())(X)  # noqa: B023


def test_likeness_of_a_traced_array_carries_no_derivative():
    def f(x):
        for y in (
            xp.zeros_like(x),
            xp.ones_like(x, dtype=np.float32),
            xp.empty_like(x, shape=(2,)),
        ):
            assert isinstance(y, np.ndarray)
        assert xp.full_like(x, 2.0, dtype=int, shape=4).tolist() == [2, 2, 2, 2]
        return (x + xp.ones_like(x)).sum()

    nm.grad(f)(X)


def test_names_that_only_numpy_has_are_not_about_numbers():
    """Other kinds of data, files and settings, and NumPy's own machinery."""
    absent = {name for name in np.__all__ if not name.startswith("_")} - set(xp.__all__)
    kinds = (
        "bytes_ character datetime64 timedelta64 str_ void record rec recarray char strings memmap matrix asmatrix "
        "bmat ma busday_count busday_offset busdaycalendar is_busday isnat datetime_as_string datetime_data poly1d "
        "complex256 clongdouble float128 object emath"
    )
    files = "fromregex genfromtxt load loadtxt save savetxt savez savez_compressed"
    machinery = (
        "ScalarType base_repr binary_repr broadcast core ctypeslib dtypes "
        "exceptions f2py flatiter format_float_positional format_float_scientific frompyfunc get_include getbufsize "
        "geterr geterrcall info little_endian mintypecode nditer nested_iters polynomial random row_stack sctypeDict "
        "setbufsize seterr seterrcall show_config show_runtime test testing trapz typecodes typing"
    )
    assert absent <= {*kinds.split(), *files.split(), *machinery.split()}
