"""The one door to BLAS: every transpose, both types, empty products, sizes past 32 bits."""

import itertools

import numpy as np
import pytest

from nnmath_core._ext import _blas
from nnmath_core.errors import ShapeError

DTYPES = [np.float32, np.float64]


def exact(a, b):
    """Return a @ b in extended precision, term by term, without BLAS."""
    a, b = a.astype(np.longdouble), b.astype(np.longdouble)
    return (a[:, :, None] * b[None, :, :]).sum(axis=1, dtype=np.longdouble)


def assert_product(got, want, terms, magnitude):
    """|fl(sum) - sum| <= (terms + 2) eps sum |a_i b_i|; 2 for alpha and beta."""
    eps = np.finfo(got.dtype).eps
    assert got.dtype in DTYPES
    assert np.all(np.abs(got - want) <= (terms + 2) * eps * magnitude)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("ta", "tb"), [*itertools.product([False, True], repeat=2)])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (3, 5, 4), (17, 2, 9), (4, 6, 0), (0, 3, 2)])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (-0.5, 2.0)])
def test_gemm_is_the_row_major_product(dtype, ta, tb, m, n, k, alpha, beta):
    rng = np.random.default_rng([m, n, k])
    a = rng.standard_normal((k, m) if ta else (m, k)).astype(dtype)
    b = rng.standard_normal((n, k) if tb else (k, n)).astype(dtype)
    start = rng.standard_normal((m, n)).astype(dtype)
    out = start.copy()
    _blas.matmul(a, b, out, alpha, beta, ta, tb)
    left, right = a.T if ta else a, b.T if tb else b
    want = alpha * exact(left, right) + beta * start
    magnitude = abs(alpha) * exact(np.abs(left), np.abs(right)) + abs(beta * start)
    assert_product(out, want, k, magnitude)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (5, 3), (3, 64), (4, 0), (0, 4)])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (2.0, -1.5)])
def test_gemv_is_the_row_major_product(dtype, ta, m, n, alpha, beta):
    rng = np.random.default_rng([m, n])
    a = rng.standard_normal((m, n)).astype(dtype)
    op = a.T if ta else a
    x = rng.standard_normal(op.shape[1]).astype(dtype)
    start = rng.standard_normal(op.shape[0]).astype(dtype)
    out = start.copy()
    _blas.matvec(a, x, out, alpha, beta, ta)
    want = alpha * exact(op, x[:, None])[:, 0] + beta * start
    magnitude = abs(alpha) * exact(np.abs(op), np.abs(x)[:, None])[:, 0] + abs(beta * start)
    assert_product(out, want, op.shape[1], magnitude)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [0, 3])
def test_products_do_not_read_the_output_where_beta_is_zero(dtype, k):
    out = np.full((2, 2), np.nan, dtype)
    _blas.matmul(np.ones((2, k), dtype), np.ones((k, 2), dtype), out)
    assert np.array_equal(out, np.full((2, 2), k))
    out = np.full(2, np.nan, dtype)
    _blas.matvec(np.ones((2, k), dtype), np.ones(k, dtype), out)
    assert np.array_equal(out, np.full(2, k))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 7, 4096])
def test_vector_operations_match_their_definition(dtype, n):
    rng = np.random.default_rng(n)
    x, y = rng.standard_normal((2, n)).astype(dtype)
    eps = np.finfo(dtype).eps
    long_x, long_y = x.astype(np.longdouble), y.astype(np.longdouble)
    assert abs(_blas.inner(x, y) - (long_x * long_y).sum()) <= n * eps * abs(long_x * long_y).sum()
    norm = np.sqrt((long_x**2).sum())
    assert abs(_blas.norm(x) - norm) <= (n + 2) * eps * norm
    z = y.copy()
    _blas.add_scaled(-1.5, x, z)
    assert np.all(abs(z - (long_y - 1.5 * long_x)) <= 2 * eps * (abs(long_y) + 1.5 * abs(long_x)))
    z = x.copy()
    _blas.scale(0.25, z)
    assert np.array_equal(z, x / 4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_norm_neither_overflows_nor_underflows(dtype):
    big, tiny = np.finfo(dtype).max / 4, np.finfo(dtype).tiny
    eps = np.finfo(dtype).eps
    assert abs(_blas.norm(np.array([3 * big, 0], dtype)) - 3 * big) <= 8 * eps * 3 * big
    got = _blas.norm(np.array([3 * tiny, 4 * tiny], dtype))
    assert abs(got - 5 * tiny) <= 8 * eps * 5 * tiny


def test_a_dimension_past_32_bits_is_refused():
    n = 2**31  # arrays of no elements, so no memory is needed
    words = r"^matmul: the number of summed terms must be at most 2147483647 .* got 2147483648\.$"
    with pytest.raises(ShapeError, match=words):
        _blas.matmul(np.zeros((0, n)), np.zeros((n, 0)), np.zeros((0, 0)))
    with pytest.raises(ShapeError, match=r"^matmul: the number of rows of `a` must be at most"):
        _blas.matmul(np.zeros((n, 0)), np.zeros((0, 0)), np.zeros((n, 0)))


def test_shapes_that_do_not_fit_are_refused():
    a = np.zeros((2, 3))
    words = r"^matmul: .* got \(2, 3\) @ \(2, 3\) -> \(2, 2\)\.$"
    with pytest.raises(ShapeError, match=words):
        _blas.matmul(a, a, np.zeros((2, 2)))
    with pytest.raises(ShapeError, match=r"^matvec: .* got \(2, 3\) @ \(2,\) -> \(2,\)\.$"):
        _blas.matvec(a, np.zeros(2), np.zeros(2))
    with pytest.raises(ShapeError, match=r"^inner: `y` must be of shape \(2,\), got \(3,\)\.$"):
        _blas.inner(np.zeros(2), np.zeros(3))
    with pytest.raises(
        ShapeError, match=r"^add_scaled: `y` must be of shape \(2,\), got \(3,\)\.$"
    ):
        _blas.add_scaled(1.0, np.zeros(2), np.zeros(3))


def test_types_are_not_mixed():
    a = np.zeros((2, 2))
    with pytest.raises(
        (TypeError, ValueError), match=r"Buffer dtype mismatch|No matching signature"
    ):
        _blas.matmul(a, a.astype(np.float32), np.zeros((2, 2)))
