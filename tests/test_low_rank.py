"""nm.LowRank against the matrix that it stands for.

Factors hold small integers in floating point, so that values and derivatives are exact.
"""

import gc
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

import nnmath_core as nm
from nnmath_core.errors import DtypeError, ShapeError, TraceError


def whole(rng, shape, dtype=np.float64):
    return rng.integers(-3, 4, shape).astype(dtype)


def pair(m=5, n=4, r=2, seed=0, dtype=np.float64, batch=()):
    """A matrix and a tangent of it."""
    rng = np.random.default_rng(seed)
    make = lambda: nm.LowRank(  # noqa: E731
        whole(rng, (*batch, m, r), dtype), whole(rng, (*batch, n, r), dtype)
    )
    return make(), make()


def full(a):
    return a.to_dense() if isinstance(a, (nm.LowRank, nm.SparseMatrix)) else a


def product(u, v):
    """The dense matrix, for the derivatives of an expression of it by our rules of dense arrays."""
    return np.matmul(u, np.swapaxes(v, -1, -2))


def same(got, want):
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


OPERATIONS = [
    ("A @ vector", lambda A, x: A @ x[0], "dense"),
    ("A @ matrix", lambda A, x: A @ x.T, "dense"),
    ("A @ stack", lambda A, x: A @ np.stack([x.T, x.T * 2.0]), "dense"),
    ("vector @ A", lambda A, x: x[:, 1] @ A, "dense"),
    ("matrix @ A", lambda A, x: x.T @ A, "dense"),
    ("A.T @ x", lambda A, x: A.T @ x, "dense"),
    ("x @ A.T", lambda A, x: x @ A.T, "dense"),
    ("np.matmul", lambda A, x: np.matmul(A, x.T), "dense"),
    ("np.matmul from the left", lambda A, x: np.matmul(x.T, A), "dense"),
    ("nm.numpy.matmul", lambda A, x: nm.numpy.matmul(A, x.T), "dense"),
    ("nm.numpy.dot", lambda A, x: nm.numpy.dot(x.T, A), "dense"),
    ("np.dot", lambda A, x: np.dot(A, x[0]), "dense"),
    ("dot", lambda A, x: A.dot(x.T), "dense"),
    ("scaled", lambda A, x: A * 3.0, "low"),
    ("scaled by a traced number", lambda A, x: x[0, 0] * A, "low"),
    ("scaled by a traced number, right", lambda A, x: A * x[0, 0], "low"),
    ("quotient", lambda A, x: A / 2.0, "low"),
    ("negative", lambda A, x: -A, "low"),
    ("positive", lambda A, x: +A, "low"),
    ("transpose", lambda A, x: A.T, "low"),
    ("np.transpose", lambda A, x: np.transpose(A), "low"),
    ("sum of two", lambda A, x: A + A * 2.0, "low"),
    ("difference", lambda A, x: A * 3.0 - A, "low"),
    ("A @ A.T", lambda A, x: A @ A.T, "low"),
    ("A.T @ A", lambda A, x: np.matmul(A.T, A), "low"),
    ("plus dense", lambda A, x: A + x, "dense"),
    ("dense minus", lambda A, x: x - A, "dense"),
    ("diagonal", lambda A, x: A.diagonal(), "dense"),
    ("upper diagonal", lambda A, x: np.diagonal(A, 2), "dense"),
    ("lower diagonal", lambda A, x: A.diagonal(-3), "dense"),
    ("trace", lambda A, x: A.trace(), "dense"),
    ("np.trace", lambda A, x: np.trace(A, 1), "dense"),
    ("sum", lambda A, x: A.sum(), "dense"),
    ("np.sum", lambda A, x: np.sum(A), "dense"),
    ("sum of columns", lambda A, x: A.sum(0), "dense"),
    ("sum of rows", lambda A, x: np.sum(A, axis=1), "dense"),
]


@pytest.mark.parametrize("sizes", [(5, 4, 2), (5, 4, 1), (5, 4, 6), (5, 4, 0)])
@pytest.mark.parametrize(("f", "kind"), [o[1:] for o in OPERATIONS], ids=[o[0] for o in OPERATIONS])
def test_operations_are_those_of_the_dense_matrix(f, kind, sizes):
    a, b = pair(*sizes)
    rng = np.random.default_rng(1)
    x, t = whole(rng, (5, 4)), whole(rng, (5, 4))
    low = lambda A, x: full(f(A, x))  # noqa: E731
    dense = lambda A, x: f(product(A.u, A.v), x)  # noqa: E731
    y, tangent = nm.jvp(low, (a, x), (b, t))
    want, slope = nm.jvp(dense, (a, x), (b, t))
    same(y, want)
    same(tangent, slope)
    same(full(f(a, x)), want)
    g = whole(rng, np.shape(want))
    ga, gx = nm.vjp(low, a, x)[1](g)
    wa, wx = nm.vjp(dense, a, x)[1](g)
    assert type(ga) is nm.LowRank
    same(ga.u, wa.u)
    same(ga.v, wa.v)
    same(gx, wx)
    if kind == "low":
        assert isinstance(f(a, x), nm.LowRank)
    total = lambda F: lambda A, x: np.sum(F(A, x) ** 2)  # noqa: E731
    h1 = nm.jvp(nm.grad(total(low)), (a, x), (b, t))[1]
    h2 = nm.jvp(nm.grad(total(dense)), (a, x), (b, t))[1]
    same(h1.u, h2.u)
    same(h1.v, h2.v)


def test_a_constant_matrix():
    a, _ = pair()
    d, x = full(a), whole(np.random.default_rng(2), (3, 5))
    same(nm.grad(lambda x: np.sum((x @ a) ** 2))(x), 2 * (x @ d) @ d.T)
    same(nm.grad(lambda x: np.sum(a @ x))(np.ones(4)), d.T @ np.ones(5))
    same(x @ a, x @ d)
    same(a @ x[:, :4].T, d @ x[:, :4].T)
    program = nm.stage(lambda x: x @ a, x)
    same(program(x), x @ d)


def test_stacks_multiply_matrix_by_matrix_and_vmap_maps_them():
    a, _ = pair(batch=(3,))
    d = full(a)
    assert a.shape == d.shape == (3, 5, 4)
    rng = np.random.default_rng(3)
    x, y, z = whole(rng, 4), whole(rng, (3, 4, 2)), whole(rng, 5)
    same(a @ x, d @ x)
    same(a @ y, d @ y)
    same(z @ a, z @ d)
    same(full(a @ a.T), d @ np.swapaxes(d, 1, 2))
    same(a.diagonal(1), np.diagonal(d, 1, 1, 2))
    same(a.trace(), np.trace(d, axis1=1, axis2=2))
    same(a.sum(axis=-1), d.sum(-1))
    same(a.sum(), d.sum((1, 2)))
    same(nm.vmap(lambda A: A @ x)(a), d @ x)
    same(nm.vmap(lambda A, y: A @ y)(a, y), d @ y)
    same(nm.vmap(lambda x: pair()[0] @ x)(y[:, :, 0]), y[:, :, 0] @ full(pair()[0]).T)
    g = nm.vmap(nm.grad(lambda A: np.sum(A @ x)))(a)
    same(g.u[1], nm.grad(lambda A: np.sum(A @ x))(nm.LowRank(a.u[1], a.v[1])).u)
    one = nm.LowRank(a.u, a.v[0])  # axes in front broadcast
    same(full(one), a.u @ a.v[0].T)
    same((one.T @ z), full(one.T) @ z)


def test_products_and_sums_with_sparse_matrices_stay_of_low_rank():
    a, _ = pair()
    s = sp.csr_array(np.array([[1.0, 0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0, 4.0]]))
    left, right = nm.SparseMatrix(s) @ a, a.T @ nm.SparseMatrix(s.T)
    assert isinstance(left, nm.LowRank)
    assert isinstance(right, nm.LowRank)
    same(full(left), s.toarray() @ full(a))
    same(full(right), full(a).T @ s.toarray().T)
    same(full(nm.numpy.matmul(s, a)), s.toarray() @ full(a))
    for f in (
        lambda: a.T @ a + nm.SparseMatrix(sp.eye_array(4)),
        lambda: nm.SparseMatrix(sp.eye_array(4)) - a.T @ a,
    ):
        with pytest.raises(TraceError, match="have no sum that keeps either"):
            f()
    g = nm.grad(lambda s: np.sum((s @ a).to_dense()))(s)
    same(g.toarray(), (np.ones((2, 4)) @ full(a).T) * (s.toarray() != 0))


def test_the_product_of_two_keeps_the_smaller_rank():
    a, b = pair(5, 4, 3)[0], pair(4, 6, 1)[0]
    assert (a @ b).rank == 1
    assert (b.T @ a.T).rank == 1
    assert (a + a).rank == 6
    same(full(a @ b), full(a) @ full(b))


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_dtypes_are_kept(dtype):
    a, _ = pair(dtype=np.float32)
    if dtype is np.complex64:
        a = nm.LowRank(a.u * np.complex64(1 + 2j), a.v)
    x = np.ones(4, np.float32)
    assert a.dtype == dtype
    assert (a @ x).dtype == dtype
    assert (2.0 * a).dtype == dtype
    same(full(a.conj()), np.conj(full(a)))
    g = nm.grad(lambda x: np.sum((a @ x).real))(x)
    assert g.dtype == np.float32
    same(g, full(a).real.T @ np.ones(5, np.float32))
    assert a.astype(np.complex128).dtype == np.complex128


def test_it_is_a_tree():
    a, b = pair()
    assert nm.tree_paths({"a": a}) == ["['a'].u", "['a'].v"]
    c = nm.tree_map(lambda x, y: x - 0.5 * y, a, b)
    same(c.u, a.u - 0.5 * b.u)
    flat, unravel = nm.ravel_tree(a)
    same(full(unravel(flat)), full(a))
    j = nm.jacrev(lambda A: A @ np.arange(4.0))(a)
    assert j.u.shape == (5, 5, 2)
    nm.check_grads(lambda A: np.sum(np.sin(A @ np.arange(4.0))), (a,))
    assert repr(a) == "LowRank(shape (5, 4), rank 2, float64)"
    assert (a.shape, a.ndim, a.rank, a.dtype) == ((5, 4), 2, 2, np.float64)
    same(a.todense(), a.toarray())


def test_the_matrix_is_never_formed():
    n = 20_000
    rng = np.random.default_rng(4)
    a = nm.LowRank(rng.standard_normal((n, 3)), rng.standard_normal((n, 3)))
    x = rng.standard_normal((n, 2))
    f = nm.grad(
        lambda A, x: np.sum(((A @ A.T + 2.0 * A) @ x) ** 2) + A.trace() + A.sum(), argnums=(0, 1)
    )
    f(a, x)
    gc.collect()
    tracemalloc.start()
    f(a, x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * a.u.nbytes  # one (n, n) array has 3.2 GB, 6,700 times a factor


@pytest.mark.parametrize(
    ("u", "v", "error", "words"),
    [
        (
            np.ones(3),
            np.ones((3, 1)),
            ShapeError,
            r"`u` must have shape \(\.\.\., m, r\), got \(3,\)",
        ),
        (np.ones((3, 1)), np.ones(3), ShapeError, r"`v` must have shape .* v\[:, None\]"),
        (np.ones((3, 2)), np.ones((3, 1)), ShapeError, "`v` must have as many columns as `u`, 2"),
        (np.ones((2, 3, 1)), np.ones((4, 3, 1)), ShapeError, "axes in front of the factors"),
        ([[1.0]], np.ones((3, 1)), DtypeError, "`u` must be an array, got a list"),
    ],
)
def test_factors_that_do_not_fit_are_refused(u, v, error, words):
    with pytest.raises(error, match="LowRank: .*" + words):
        nm.LowRank(u, v)


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda A: np.exp(A), "np.exp: a LowRank takes part in products"),
        (lambda A: A * np.ones((5, 4)), "multiply: a LowRank"),
        (lambda A: A * A, "multiply: a LowRank"),
        (lambda A: A + 1.0, "a number added to a matrix with structure would fill it"),
        (lambda A: 1.0 / A, "divide"),
        (lambda A: A[0], r"A\[i\]"),
        (lambda A: np.asarray(A), "conversion to an array"),
        (lambda A: A > 0.0, "a comparison"),
        (lambda A: np.linalg.svd(A), "np.svd"),
        (lambda A: nm.numpy.tanh(A), "tanh: a LowRank"),
    ],
)
def test_what_has_no_low_rank_says_what_to_write(f, words):
    with pytest.raises(TraceError, match=words) as caught:
        nm.grad(lambda A: np.sum(f(A)))(pair()[0])
    assert "to_dense()" in str(caught.value)


def test_shapes_that_do_not_fit_are_named():
    a, _ = pair()
    for f, words in [
        (lambda A: A @ np.ones(5), r"got shapes \(5, 4\) and \(5,\)"),
        (lambda A: np.ones(4) @ A, r"got shapes \(4,\) and \(5, 4\)"),
        (lambda A: A @ A, r"got shapes \(5, 4\) and \(5, 4\)"),
        (lambda A: A + A.T, r"must have one shape, got \(5, 4\) and \(4, 5\)"),
        (lambda A: A @ 2.0, r"for a scalar write a \* b"),
    ]:
        with pytest.raises(ShapeError, match=words):
            nm.grad(lambda A, f=f: f(A).sum())(a)
    with pytest.raises(np.exceptions.AxisError):
        a.sum(axis=2)
    with pytest.raises(TypeError, match="use its shape"):
        len(a)
