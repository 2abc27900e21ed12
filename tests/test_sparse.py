"""Sparse matrices as constants and as differentiated values, against the dense matrix.

Operands hold small integers in floating point, so that values and derivatives are exact: comparisons
are equalities unless a function is not a polynomial.
"""

import gc
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

import nnmath_core as nm
from nnmath_core._ext._tree import flatten, flatten_like
from nnmath_core.device import CpuBackend
from nnmath_core.device.backend import SDDMM_BLOCK, Backend
from nnmath_core.device.sparse import Pattern
from nnmath_core.errors import DtypeError, ShapeError, TraceError, TreeError

FORMATS = ["csr_array", "csc_array", "coo_array", "csr_matrix", "csc_matrix", "coo_matrix"]


def whole(rng, shape, dtype=np.float64):
    return rng.integers(-3, 4, shape).astype(dtype)


def matrix(home="csr_array", m=5, n=4, dtype=np.float64, seed=0, zeros=True):
    """A matrix with an empty row and column, an explicit zero and, in "coo", entries in no order."""
    rng = np.random.default_rng(seed)
    places = [(i, j) for i in range(m) for j in range(n) if i != 1 and j != 2 and (i + j) % 3 != 1]
    order = rng.permutation(len(places))
    row, col = (np.array([places[k][axis] for k in order]) for axis in (0, 1))
    data = rng.integers(1, 5, len(order)).astype(dtype)
    if zeros:
        data[0] = 0.0
    return getattr(sp, home)(sp.coo_array((data, (row, col)), shape=(m, n)))


def dense(a):
    return np.asarray(a.todense()) if sp.issparse(a) else np.asarray(a.to_dense())


def mask(a):
    """1 where an entry is stored, zeros included."""
    coo = a.tocoo()
    out = np.zeros(a.shape)
    out[coo.row, coo.col] = 1.0
    return out


def same(got, want, what=""):
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, what
    assert got.dtype == want.dtype, what
    np.testing.assert_array_equal(got, want, err_msg=what)


def same_pattern(g, a):
    """A gradient has the type, the pattern and the order of entries of its argument, and its own memory."""
    assert type(g) is type(a)
    assert g.shape == a.shape
    assert g.data.dtype == a.data.dtype
    for name in ("row", "col") if a.format == "coo" else ("indices", "indptr"):
        np.testing.assert_array_equal(getattr(g, name), getattr(a, name))
        assert not np.shares_memory(getattr(g, name), getattr(a, name))
    assert not np.shares_memory(g.data, a.data)


# ------------------------------------------------------------------------------- the operands of a product
PRODUCTS = [
    ("A @ x, vector", lambda A, x: A @ x, (4,), False),
    ("A @ x, matrix", lambda A, x: A @ x, (4, 3), False),
    ("A @ x, one column", lambda A, x: A @ x, (4, 1), False),
    ("A @ x, no column", lambda A, x: A @ x, (4, 0), False),
    ("A @ x, stack", lambda A, x: A @ x, (2, 3, 4, 2), False),
    ("x @ A, vector", lambda A, x: x @ A, (5,), True),
    ("x @ A, matrix", lambda A, x: x @ A, (3, 5), True),
    ("x @ A, stack", lambda A, x: x @ A, (2, 3, 5), True),
    ("A.T @ x", lambda A, x: A.T @ x, (5, 2), False),
    ("x @ A.T", lambda A, x: x @ A.T, (2, 4), True),
    ("np.matmul(x, A)", lambda A, x: np.matmul(x, A), (2, 5), True),
    ("matmul(A, x)", lambda A, x: nm.numpy.matmul(A, x), (4, 3), True),
    ("matmul(A, x), vector", lambda A, x: nm.numpy.matmul(A, x), (4,), True),
    ("matmul(A.T, x)", lambda A, x: nm.numpy.matmul(A.T, x), (5, 2), True),
    ("dot(A, x)", lambda A, x: nm.numpy.dot(A, x), (4, 3), True),
    ("dot(x, A)", lambda A, x: nm.numpy.dot(x, A), (3, 5), True),
    ("np.dot(A, x)", lambda A, x: np.dot(A, x), (4,), True),
]


@pytest.mark.parametrize("home", FORMATS)
@pytest.mark.parametrize(
    ("f", "shape", "constant"), [p[1:] for p in PRODUCTS], ids=[p[0] for p in PRODUCTS]
)
def test_products_have_the_values_and_derivatives_of_the_dense_matrix(home, f, shape, constant):
    rng = np.random.default_rng(1)
    a = matrix(home)
    x, t = whole(rng, shape), whole(rng, shape)
    b = a.copy()
    b.data = whole(rng, a.data.shape)
    da, db = dense(a), dense(b)
    want = f(da, x)
    y, tangent = nm.jvp(f, (a, x), (b, t))
    same(y, want)
    same(tangent, f(db, x) + f(da, t))
    g = whole(rng, want.shape)
    y, pull = nm.vjp(f, a, x)
    ga, gx = pull(g)
    wa, wx = nm.vjp(f, da, x)[1](g)
    same_pattern(ga, a)
    same(dense(ga), wa * mask(a))
    same(gx, wx)
    if constant:  # the matrix as SciPy's own object
        same(nm.vjp(lambda x: f(a, x), x)[1](g)[0], wx)
        same(nm.jvp(lambda x: f(a, x), (x,), (t,))[1], f(da, t))


@pytest.mark.parametrize("home", FORMATS)
def test_a_constant_matrix_on_either_side(home):
    rng = np.random.default_rng(2)
    a, x, z = matrix(home), whole(rng, (2, 5)), whole(rng, (4, 2))
    d = dense(a)
    same(nm.jvp(lambda t: t @ a, (x,), (x,))[1], x @ d)
    same(nm.grad(lambda t: np.sum((t @ a) * z.T))(x), z.T @ d.T)
    same(nm.grad(lambda t: np.sum(nm.numpy.matmul(a, t) * x.T))(z), d.T @ x.T)
    same(nm.numpy.matmul(a, z), d @ z)
    same(nm.numpy.dot(x, a), x @ d)
    with pytest.raises(TraceError, match=r"nnmath_core\.numpy\.matmul\(a, x\) instead of a @ x"):
        nm.grad(lambda t: np.sum(a @ t))(z)


@pytest.mark.parametrize("convert", ["tobsr", "todia", "tolil", "todok"])
def test_other_formats_are_constants_and_refused_as_variables(convert):
    a = getattr(matrix("csr_array", zeros=False), convert)()
    x = whole(np.random.default_rng(3), (4, 2))
    same(nm.grad(lambda x: np.sum(nm.numpy.matmul(a, x)))(x), dense(a).T @ np.ones((5, 2)))
    with pytest.raises(DtypeError, match=rf"got a {type(a).__name__}. Convert it: A.tocsr\(\)"):
        nm.grad(lambda a: np.sum(a @ x))(a)


# ------------------------------------------------------------------------------- operations of the variable
OPERATIONS = [
    ("scaled", lambda A, d: A * 3.0, "sparse"),
    ("scaled from the left", lambda A, d: 3.0 * A, "sparse"),
    ("scaled by a 0-d array", lambda A, d: np.array(2.0) * A, "sparse"),
    ("scaled by a NumPy number", lambda A, d: np.float64(2.0) * A, "sparse"),
    ("quotient", lambda A, d: A / 4.0, "sparse"),
    ("negative", lambda A, d: -A, "sparse"),
    ("np.negative", lambda A, d: np.negative(A), "sparse"),
    ("positive", lambda A, d: +A, "sparse"),
    ("transpose", lambda A, d: A.T, "sparse"),
    ("np.transpose", lambda A, d: np.transpose(A), "sparse"),
    ("transpose twice", lambda A, d: A.transpose().T * 2.0, "sparse"),
    ("sum of two", lambda A, d: A + A * 2.0, "sparse"),
    ("difference", lambda A, d: A * 3.0 - A, "sparse"),
    ("by entries", lambda A, d: np.multiply(A, d), "entries"),
    ("by entries from the left", lambda A, d: d * A, "entries"),
    ("by columns", lambda A, d: A * d[0], "entries"),
    ("by rows", lambda A, d: A * d[:, :1], "entries"),
    ("quotient by entries", lambda A, d: A / (d * d + 1.0), "entries"),
    ("squares", lambda A, d: A * A, "sparse"),
    ("plus dense", lambda A, d: A + d, "dense"),
    ("dense plus", lambda A, d: d + A, "dense"),
    ("dense minus", lambda A, d: d - A, "dense"),
    ("toarray", lambda A, d: A.toarray() if hasattr(A, "toarray") else A, "dense"),
    ("todense", lambda A, d: A.todense() if hasattr(A, "todense") else A, "dense"),
    ("sum", lambda A, d: A.sum(), "dense"),
    ("np.sum", lambda A, d: np.sum(A), "dense"),
    ("sum of columns", lambda A, d: A.sum(0), "dense"),
    ("sum of rows", lambda A, d: np.sum(A, axis=1), "dense"),
    ("mean", lambda A, d: A.mean() * 20.0, "dense"),
    ("mean of columns", lambda A, d: A.mean(axis=0) * 5.0, "dense"),
    ("diagonal", lambda A, d: A.diagonal(), "dense"),
    ("upper diagonal", lambda A, d: A.diagonal(2), "dense"),
    ("lower diagonal", lambda A, d: np.diagonal(A, -3), "dense"),
    ("trace", lambda A, d: np.trace(A), "dense"),
    ("upper trace", lambda A, d: A.trace(3), "dense"),
    ("csr", lambda A, d: A.tocsr() if hasattr(A, "tocsr") else A, "sparse"),
    ("csc", lambda A, d: A.tocsc() if hasattr(A, "tocsc") else A, "sparse"),
    ("coo", lambda A, d: A.tocoo() if hasattr(A, "tocoo") else A, "sparse"),
    (
        "new entries",
        lambda A, d: A.with_data(A.data * A.data) if hasattr(A, "with_data") else A * A,
        "sparse",
    ),
    (
        "complex and back",
        lambda A, d: (
            (A * (2.0 - 1.0j)).conj().to_dense().imag
            if hasattr(A, "conj") and not isinstance(A, (np.ndarray, nm.Tracer))
            else A
        ),
        "dense",
    ),
]


@pytest.mark.parametrize(
    ("home", "f", "kind"),
    [
        pytest.param(home, f, kind, id=f"{name}-{home}")
        for home in ("csr_array", "csc_array", "coo_array", "csr_matrix")
        for name, f, kind in OPERATIONS
        # by entries `*` of a matrix and an array would be a product of matrices in SciPy
        if kind != "entries" or home.endswith("_array")
    ],
)
def test_operations_are_those_of_the_dense_matrix(home, f, kind):
    rng = np.random.default_rng(4)
    a = matrix(home)
    b = a.copy()
    b.data = whole(rng, a.data.shape)
    d = whole(rng, (5, 4))
    full = lambda A: f(A, d).to_dense() if hasattr(f(A, d), "to_dense") else f(A, d)  # noqa: E731
    plain = lambda D: f(D, d)  # noqa: E731
    y, tangent = nm.jvp(full, (a,), (b,))
    want, slope = nm.jvp(plain, (dense(a),), (dense(b),))
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(tangent, slope)
    assert np.shape(y) == np.shape(want)
    g = whole(rng, np.shape(want))
    (back,) = nm.vjp(full, a)[1](g)
    (expected,) = nm.vjp(plain, dense(a))[1](g)
    same_pattern(back, a)
    np.testing.assert_array_equal(dense(back), expected * mask(a))
    if kind in ("sparse", "entries"):
        inside = nm.jvp(lambda A: f(A, d), (a,), (b,))[0]
        assert not isinstance(inside, np.ndarray)


def test_a_matrix_of_scipy_times_an_array_is_refused_because_scipy_multiplies_matrices():
    with pytest.raises(
        TraceError, match="`\\*` of a csr_matrix and an array is a product of matrices"
    ):
        nm.grad(lambda A: (A * np.ones((5, 4))).sum())(matrix("csr_matrix"))


def test_a_constant_is_scaled_by_a_traced_number_in_every_spelling():
    a, x = matrix(), whole(np.random.default_rng(5), (4,))
    total = np.sum(dense(a) @ x)
    for f in (
        lambda t: (t * a) @ x,
        lambda t: np.multiply(a, t) @ x,
        lambda t: nm.numpy.multiply(t, a) @ x,
        lambda t: (nm.SparseMatrix(a) * t) @ x,
        lambda t: (t * nm.SparseMatrix(a)) @ x,
        lambda t: t * (nm.SparseMatrix(a) @ x),
    ):
        assert nm.grad(lambda t, f=f: np.sum(f(t)))(2.0) == total
    d = whole(np.random.default_rng(6), (5, 4))
    same(nm.grad(lambda t: np.sum((t * a) @ x))(d), mask(a) * dense(a) * x)
    y, t = nm.jvp(lambda t: t * a, (2.0,), (1.0,))
    same_pattern(y, a)
    same(dense(t), dense(a))


def test_entries_of_one_place_count_twice():
    a = sp.coo_array((np.array([1.0, 2.0, 4.0]), ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    x = np.array([3.0, 5.0])
    g = nm.grad(lambda A: np.sum(A @ x))(a)
    assert g.data.tolist() == [5.0, 5.0, 3.0]
    same(nm.jvp(lambda A: A.to_dense(), (a,), (a,))[0], a.toarray())


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 3)])
def test_empty_matrices(shape):
    a = sp.csr_array(shape)
    x = np.ones((shape[1], 2))
    y, pull = nm.vjp(lambda A, x: A @ x, a, x)
    same(y, np.zeros((shape[0], 2)))
    ga, gx = pull(np.ones(y.shape))
    assert ga.nnz == 0
    assert ga.shape == shape
    same(gx, np.zeros(x.shape))


# ------------------------------------------------------------------------------- all transformations
def f_of(A, x):
    return np.sum((A @ x) ** 3)


@pytest.mark.parametrize("home", FORMATS)
def test_second_derivatives_in_every_order(home):
    rng = np.random.default_rng(7)
    a, x = matrix(home), whole(rng, (4, 2))
    t, u = a.copy(), a.copy()
    t.data, u.data = whole(rng, a.data.shape), whole(rng, a.data.shape)
    da, dt, du = dense(a), dense(t), dense(u)
    want = np.sum(6 * (da @ x) * (dt @ x) * (du @ x))
    gradient = nm.grad(f_of)
    hv = nm.jvp(lambda A: gradient(A, x), (a,), (t,))[1]
    same_pattern(hv, a)
    rr = nm.grad(lambda A: np.sum(gradient(A, x).data * t.data))(a)
    rf = nm.grad(lambda A: nm.jvp(lambda A: f_of(A, x), (A,), (t,))[1])(a)
    hvp = nm.hvp(lambda A: f_of(A, x), (a,), (t,))
    hvp = hvp[0] if isinstance(hvp, tuple) else hvp
    for h in (hv, rr, rf, hvp):
        assert np.sum(h.data * u.data) == want
    mixed = nm.jvp(lambda x: gradient(a, x), (x,), (x,))[1]
    same(dense(mixed), mask(a) * (9 * (da @ x) ** 2 @ x.T))  # homogeneous of degree 3 in x
    blocks = nm.hessian(lambda A: f_of(A, x))(a).data.data
    assert blocks.shape == (a.nnz, a.nnz)
    assert t.data @ blocks @ u.data == want


def test_float32_stays_float32():
    a, x = matrix(dtype=np.float32), whole(np.random.default_rng(8), (4, 2), np.float32)
    ga, gx = nm.grad(f_of, argnums=(0, 1))(a, x)
    same_pattern(ga, a)
    assert gx.dtype == np.float32
    same(
        nm.grad(lambda x: np.sum(x @ a))(np.ones(5, np.float32)), dense(a) @ np.ones(4, np.float32)
    )
    assert nm.jvp(lambda A: A @ x.astype(float), (a,), (a,))[1].dtype == np.float64


def test_complex_vectors():
    rng = np.random.default_rng(9)
    a, x, z = matrix(), whole(rng, 4), whole(rng, 5)

    def f(A, x):
        y = A @ (x * (1.0 + 2.0j))
        return np.sum(y.real * y.imag) + np.sum(((z + 1.0j) @ A).imag)

    dense_f = lambda D, x: f(D, x)  # noqa: E731
    ga, gx = nm.grad(f, argnums=(0, 1))(a, x)
    wa, wx = nm.grad(dense_f, argnums=(0, 1))(dense(a), x)
    same(dense(ga), wa * mask(a))
    same(gx, wx)
    same(nm.grad(lambda x: np.sum(nm.numpy.matmul(a * 1j, x).imag))(x), dense(a).T @ np.ones(5))


def test_vmap_over_vectors_over_entries_and_over_both():
    rng = np.random.default_rng(10)
    a, xs = matrix(), whole(rng, (6, 4))
    da = dense(a)
    same(nm.vmap(lambda x: nm.numpy.matmul(a, x))(xs), xs @ da.T)
    same(nm.vmap(lambda x: x[None, :] @ a.T)(xs), (xs @ da.T)[:, None])
    ms = whole(rng, (6, 4, 3))
    same(nm.vmap(lambda x: nm.numpy.matmul(a, x))(ms), da @ ms)
    same(nm.vmap(lambda x: nm.numpy.matmul(a, x), in_axes=2)(np.moveaxis(ms, 0, 2)), da @ ms)
    stack = nm.vmap(lambda x: nm.grad(f_of)(a, x))(xs)
    assert isinstance(stack, nm.SparseMatrix)
    assert stack.shape == (6, 5, 4)
    for k in range(6):
        same(stack.to_dense()[k], dense(nm.grad(f_of)(a, xs[k])))
    got = nm.vmap(lambda S, x: S @ x)(stack, xs)
    same(got, np.einsum("bij,bj->bi", stack.to_dense(), xs))
    same(nm.vmap(lambda S: S @ xs[0])(stack), stack.to_dense() @ xs[0])
    same(
        nm.vmap(lambda S, x: x @ S, in_axes=(0, None))(stack, np.ones((2, 5))),
        np.ones((2, 5)) @ stack.to_dense(),
    )
    inner = nm.vmap(nm.grad(lambda S, x: np.sum((S @ x) ** 2)))(stack, xs)
    for k in range(6):
        want = 2 * np.outer(stack.to_dense()[k] @ xs[k], xs[k]) * mask(a)
        same(inner.to_dense()[k], want)
    same(stack.diagonal(), np.diagonal(stack.to_dense(), axis1=1, axis2=2))
    same(stack.sum(axis=0), stack.to_dense().sum(axis=1))
    with pytest.raises(
        ShapeError, match=r"a stack of sparse matrices, .* multiplies under nm\.vmap"
    ):
        stack @ xs[0]
    with pytest.raises(ShapeError):
        nm.vmap(lambda A: A @ xs[0])(a)


def test_jacobians_are_stacks_of_matrices():
    a, x = matrix(), whole(np.random.default_rng(11), 4)
    for transform in (nm.jacrev, nm.jacfwd, nm.jacobian):
        j = transform(lambda A: A @ x)(a)
        assert j.shape == (5, 5, 4)
        same(j.to_dense(), np.einsum("ik,j,kj->ikj", np.eye(5), x, mask(a)))


def test_staged_programs_hold_constants_and_take_arguments():
    rng = np.random.default_rng(12)
    a, x = matrix(), whole(rng, (4, 2))
    program = nm.stage(lambda x: np.sum(nm.numpy.matmul(a, x) ** 2), x)
    want = np.sum((dense(a) @ x) ** 2)
    before = a.data.copy()
    a.data[:] = 0.0  # what was captured is a copy
    a.indices[:] = 0
    assert program(x) == want
    a = matrix()
    assert np.array_equal(a.data, before)
    second = nm.stage(lambda A, x: nm.grad(f_of)(A, x), a, x)
    b = a.copy()
    b.data = whole(rng, a.data.shape)
    got = second(b, x)
    same_pattern(got, a)
    same(dense(got), dense(nm.grad(f_of)(b, x)))
    with pytest.raises(TreeError):
        second(sp.csr_array(np.ones((5, 4))), x)
    value, linear = nm.linearize(lambda A: A @ x, a)
    same(value, dense(a) @ x)
    same(linear(b), dense(b) @ x)


def test_check_grads_and_the_optimizers_take_sparse_variables():
    rng = np.random.default_rng(13)
    a = matrix()
    a.data = rng.standard_normal(a.data.shape)
    x = rng.standard_normal(4)
    loss = lambda A: np.sum(np.tanh(A @ x - 1.0) ** 2)  # noqa: E731
    nm.check_grads(loss, (a,))
    opt = nm.optim.adam(0.05)
    state = opt.init(a)
    loss_of = nm.value_and_grad(loss)
    first = loss_of(a)[0]
    for _ in range(60):
        _, g = loss_of(a)
        a, state = opt.step(a, g, state)
    assert type(a) is sp.csr_array
    assert loss_of(a)[0] < 0.5 * first


# ------------------------------------------------------------------------------- trees
def test_a_sparse_matrix_is_a_node_whose_leaf_is_its_entries():
    a = matrix()
    leaves, d = flatten({"a": a, "b": 1.0})
    assert leaves[0] is a.data
    assert nm.tree_paths({"a": a}) == ["['a'].data"]
    half = nm.tree_map(lambda x: x / 2, {"a": a, "b": 2.0})
    same_pattern(half["a"], a)
    same(dense(half["a"]), dense(a) / 2)
    assert flatten({"a": a.copy(), "b": 2.0})[1] == d
    assert hash(flatten({"a": a.copy(), "b": 2.0})[1]) == hash(d)
    other = matrix(seed=1).tocsr()
    other.indices = other.indices[::-1].copy()
    assert flatten({"a": other, "b": 1.0})[1] != d
    assert flatten_like({"a": other, "b": 1.0}, d) is None
    assert flatten_like({"a": a.tocsc(), "b": 1.0}, d) is None
    assert flatten_like({"a": a.toarray(), "b": 1.0}, d) is None
    assert flatten_like({"a": nm.SparseMatrix(a), "b": 1.0}, d)[0] is a.data
    flat, unravel = nm.ravel_tree(a)
    same(flat, a.data)
    same_pattern(unravel(2 * flat), a)
    assert "csr_array(data=*, csr of shape (5, 4), 8 entries at" in str(flatten(a)[1])


def test_a_tangent_of_another_pattern_is_refused():
    a, x = matrix(), np.ones(4)
    with pytest.raises(TreeError, match="must have the structure"):
        nm.jvp(lambda A: A @ x, (a,), (sp.csr_array(np.ones((5, 4))),))


def test_a_gradient_does_not_share_what_scipy_sorts_in_place():
    a = matrix("csr_array")
    a.indices[:2] = a.indices[:2][::-1].copy()  # not sorted
    a.has_sorted_indices = False
    before = a.toarray()
    pull = nm.vjp(lambda A: A @ np.arange(4.0), a)[1]
    (g,) = pull(np.ones(5))
    g.sort_indices()
    same(a.toarray(), before)
    want = pull(np.ones(5))[0].toarray()
    a.sort_indices()
    same(pull(np.ones(5))[0].toarray(), want)


def test_sparse_matrices_inside_dataclasses_and_containers():
    a, x = matrix(), np.ones(4)
    g = nm.grad(lambda p: np.sum(p["layers"][0] @ x) * p["scale"])({"layers": [a], "scale": 2.0})
    same_pattern(g["layers"][0], a)
    same(dense(g["layers"][0]), 2.0 * mask(a))


def test_to_device_keeps_a_matrix():
    a = matrix()
    same_pattern(nm.to_device(a, "cpu"), nm.to_device(a, "cpu").copy())


# ------------------------------------------------------------------------------- SparseMatrix itself
def test_the_public_class_wraps_and_is_differentiated():
    a, x = matrix("coo_array"), np.arange(4.0)
    s = nm.SparseMatrix(a)
    assert (s.shape, s.dtype, s.format, s.nnz, s.ndim) == ((5, 4), np.float64, "coo", 8, 2)
    assert repr(s) == "SparseMatrix(coo, shape (5, 4), 8 entries of float64)"
    same(s @ x, dense(a) @ x)
    same((s.astype(np.float32) @ x.astype(np.float32)), (dense(a) @ x).astype(np.float32))
    g = nm.grad(lambda s: np.sum(s @ x))(s)
    assert isinstance(g, nm.SparseMatrix)
    same(g.to_dense(), mask(a) * x)
    assert nm.SparseMatrix(s).data is s.data
    assert nm.SparseMatrix(a.tocsr().tobsr((1, 1))).format == "csr"
    with pytest.raises(DtypeError, match="SparseMatrix: `matrix` must be a sparse matrix or array"):
        nm.SparseMatrix(np.eye(2))
    with pytest.raises(ShapeError, match=r"with_data: `data` must have shape \(8,\)"):
        s.with_data(np.ones(3))
    with pytest.raises(ShapeError, match="must have two axes"):
        nm.SparseMatrix(sp.coo_array(np.ones(3)))


REFUSED = [
    (lambda A, x: np.tanh(A), "np.tanh: a SparseMatrix takes part in products"),
    (lambda A, x: np.linalg.norm(A), "np.norm"),
    (lambda A, x: np.stack([A, A]), "np.stack"),
    (lambda A, x: np.asarray(A), "conversion to an array"),
    (lambda A, x: A[0], r"A\[i\]"),
    (lambda A, x: A**2, r"A \*\* n"),
    (lambda A, x: abs(A), r"abs\(A\)"),
    (lambda A, x: A == 0.0, "a comparison"),
    (lambda A, x: A < 1.0, "a comparison"),
    (lambda A, x: A and x, "the truth value"),
    (lambda A, x: list(A), "iteration"),
    (lambda A, x: A + 1.0, "a number added to a matrix with structure would fill it"),
    (lambda A, x: 1.0 / A, "divide: a SparseMatrix"),
    (lambda A, x: A / A, "divide: a SparseMatrix"),
    (lambda A, x: A @ A.T, "have no product with a derivative rule"),
    (lambda A, x: A + A.tocsc(), "have no sum that keeps"),
    (lambda A, x: np.einsum("ij,j->i", A, x), "np.einsum: a SparseMatrix"),
    (lambda A, x: np.add(A, x, where=[True]), "np.add"),
    (lambda A, x: nm.numpy.exp(A), "exp: a SparseMatrix"),
]


@pytest.mark.parametrize(("f", "words"), REFUSED)
def test_what_would_fill_the_matrix_says_what_to_write(f, words):
    with pytest.raises(TraceError, match=words) as caught:
        nm.grad(lambda A: np.sum(f(A, np.ones(4))))(matrix())
    assert "to_dense()" in str(caught.value)


SHAPES = [
    (lambda A: A @ np.ones(5), r"got shapes \(5, 4\) and \(5,\)"),
    (lambda A: A @ np.ones((2, 5, 3)), r"got shapes \(5, 4\) and \(2, 5, 3\)"),
    (lambda A: np.ones(4) @ A, r"got shapes \(4,\) and \(5, 4\)"),
    (lambda A: A @ 2.0, r"for a scalar write a \* b"),
    (lambda A: A + A.T, r"must have one shape, got \(5, 4\) and \(4, 5\)"),
    (lambda A: A * np.ones(5), r"must broadcast to the shape of the matrix, \(5, 4\), got \(5,\)"),
    (lambda A: A * np.ones((2, 5, 4)), r"must broadcast to the shape of the matrix"),
]


@pytest.mark.parametrize(("f", "words"), SHAPES)
def test_shapes_that_do_not_fit_are_named(f, words):
    with pytest.raises(ShapeError, match=words):
        nm.grad(lambda A: f(A).sum())(matrix())


def test_integer_entries_are_constants_and_no_variables():
    a = matrix(dtype=np.int64)
    same(nm.grad(lambda x: np.sum(x @ a))(np.ones(5)), dense(a) @ np.ones(4))
    with pytest.raises(DtypeError, match=r"argument 0\.data must be a float32 or float64 array"):
        nm.grad(lambda A: np.sum(A @ np.ones(4)))(a)


# ------------------------------------------------------------------------------- kernels
def random_pattern(rng, m, n, nnz):
    rows = np.sort(rng.integers(0, m, nnz))
    return Pattern(rng.integers(0, n, nnz), np.searchsorted(rows, np.arange(m + 1)), (m, n))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128, np.int64])
@pytest.mark.parametrize("columns", [None, 0, 1, 3])
def test_the_host_has_the_meaning_of_the_backend(dtype, columns):
    rng = np.random.default_rng(14)
    host = CpuBackend()
    for m, n, nnz in [(5, 4, 12), (1, 7, 3), (6, 1, 0), (3, 3, 40)]:
        pattern = random_pattern(rng, m, n, nnz)
        tail = () if columns is None else (columns,)
        data = whole(rng, nnz, dtype)
        x, z = whole(rng, (n, *tail), dtype), whole(rng, (m, *tail), dtype)
        for transposed, v in ((False, x), (True, z)):
            got = host.spmm(data, v, pattern=pattern, transposed=transposed)
            same(got, Backend.spmm(host, data, v, pattern=pattern, transposed=transposed))
        got = host.sddmm(z, x, pattern=pattern)
        want = np.array(
            [np.sum(z[i] * x[j]) for i, j in zip(pattern.rows, pattern.columns, strict=True)], dtype
        )
        same(got, want)


def test_sampled_products_of_many_blocks():
    rng = np.random.default_rng(15)
    for p, nnz in ((7, 9000), (100, 3000), (SDDMM_BLOCK + 3, 4)):
        pattern = random_pattern(rng, 50, 60, nnz)
        a, b = whole(rng, (50, p)), whole(rng, (60, p))
        got = CpuBackend().sddmm(a, b, pattern=pattern)
        want = np.sum(a[pattern.rows] * b[pattern.columns], axis=1)
        same(got, want)


def test_sampled_products_gather_blocks_of_bounded_memory():
    rng = np.random.default_rng(17)
    pattern = random_pattern(rng, 500, 500, 40_000)
    a, b = rng.standard_normal((500, 64)), rng.standard_normal((500, 64))
    pattern.rows  # noqa: B018 (made before it is measured)
    gc.collect()
    tracemalloc.start()
    CpuBackend().sddmm(a, b, pattern=pattern)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # the result and two blocks, and a third while one is replaced; all rows at once would be 41 MB
    assert peak < 40_000 * 8 + 4 * SDDMM_BLOCK * 8


def test_no_array_of_the_dense_size_is_made():
    n = 4000
    rng = np.random.default_rng(16)
    a = sp.random_array((n, n), density=2e-3, format="csr", rng=rng)
    x = rng.standard_normal((n, 8))
    f = nm.value_and_grad(lambda A, x: np.sum((A @ x) ** 2), argnums=(0, 1))
    f(a, x)
    gc.collect()
    tracemalloc.start()
    f(a, x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # entries, pattern, rows and a few (n, 8) arrays: far below the 128 MB of one (n, n) array
    assert peak < 20 * (a.data.nbytes + a.indices.nbytes + x.nbytes)
    assert peak < n * n * 8 / 10


def test_patterns_compare_by_contents():
    p = Pattern(np.array([0, 1]), np.array([0, 1, 2]), (2, 2))
    q = Pattern(np.array([0, 1]), np.array([0, 1, 2]), (2, 2))
    assert p == q
    assert hash(p) == hash(q)
    assert p != Pattern(np.array([1, 1]), np.array([0, 1, 2]), (2, 2))
    assert p != Pattern(np.array([0, 1]), np.array([0, 1, 2]), (2, 3))
    assert p != 3
    assert repr(p) == "Pattern(2 entries of 2x2)"
    t = p.tiled(3)
    assert (t.shape, t.nnz) == ((6, 6), 6)
    assert t.rows.tolist() == [0, 1, 2, 3, 4, 5]
    assert p.tiled(0).shape == (0, 0)
