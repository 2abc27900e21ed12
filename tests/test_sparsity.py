"""Sparse Jacobians and Hessians: patterns against dense Jacobians, colourings, values, what is refused."""

import numpy as np
import pytest
from problems.mgh import PROBLEMS
from scipy import sparse

import nnmath_core as nm
from nnmath_core.errors import DomainError, GradientError, ShapeError, TraceError
from nnmath_core.program.coloring import column_coloring, star_coloring

EPS = np.finfo(float).eps


def nonzeros(f, x, *args):
    """Return which entries of the dense Jacobian are nonzero at some of twenty random points."""
    rng = np.random.default_rng(0)
    found = None
    for _ in range(20):
        j = nm.jacrev(f)(x + 3 * rng.standard_normal(x.shape), *args)
        j = np.asarray(j).reshape(-1, x.size) != 0
        found = j if found is None else found | j
    return found


BAND = np.eye(6) - np.eye(6, k=1) + 0.5 * np.eye(6, k=-2)

# function of six numbers, and whether its pattern is exact (else a superset)
FUNCTIONS = {
    "elementwise": (lambda x: np.sin(x) * x + 1.0, True),
    "neighbours": (lambda x: x[1:] * x[:-1], True),
    "strides and reverse": (lambda x: x[::-2] + x[0] * x[1::2], True),
    "broadcast": (lambda x: x[:2, None] * x[None, 2:5], True),
    "reduction": (lambda x: np.sum(x.reshape(2, 3) ** 2, axis=0), True),
    "maximum of a row": (lambda x: np.max(x.reshape(3, 2), axis=1), True),
    "keepdims": (lambda x: x.reshape(2, 3) - x.reshape(2, 3).mean(axis=1, keepdims=True), True),
    "norms": (lambda x: np.linalg.norm(x.reshape(3, 2), axis=1), True),
    "softmax": (lambda x: nm.special.softmax(x.reshape(3, 2), axis=1), True),
    "cumulative": (lambda x: np.cumsum(x.reshape(3, 2), axis=1), False),
    "constant band": (lambda x: BAND @ np.exp(x), True),
    "constant band from the right": (lambda x: x @ BAND, True),
    "products of matrices": (lambda x: x[:4].reshape(2, 2) @ x[2:].reshape(2, 2), True),
    "stack and concatenate": (
        lambda x: np.concatenate([x[:2], np.stack([x[3] * x[4], np.sum(x[:2])]), x[5:]]),
        True,
    ),
    "pad, roll and repeat": (lambda x: np.pad(np.roll(np.repeat(x[:3], 2), 1), (1, 2)), True),
    "integer index, repeated": (lambda x: x[[0, 0, 5]] * x[[1, 2, 3]], True),
    "functional update": (lambda x: nm.at(x * x)[2].add(x[0]), False),
    "sorted rows": (lambda x: np.sort(x.reshape(3, 2), axis=1), False),
    "selection": (lambda x: np.where(x > 0, x, 2 * x) + np.maximum(x[::-1], 0.0), True),
    "no derivative": (lambda x: np.round(x) + np.sign(x), True),
    "solve": (lambda x: np.linalg.solve(np.diag(x[:2] ** 2 + 1), x[2:4]), False),
    "scalar": (lambda x: np.sum(x[:3] ** 2), True),
    "dot of halves": (lambda x: np.dot(x[:3], x[3:]), True),
    "einsum": (lambda x: np.einsum("ij,j->i", x[:4].reshape(2, 2), x[4:]), True),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_pattern_holds_every_entry_that_can_be_nonzero(name):
    f, exact = FUNCTIONS[name]
    x = np.linspace(-1.0, 1.5, 6)
    pattern = nm.jacobian_sparsity(f, x)
    assert pattern.dtype == bool
    got, want = pattern.toarray(), nonzeros(f, x)
    assert not np.any(want & ~got)
    if exact:
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("mode", [None, "forward", "reverse"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_jacobian_is_the_dense_one(name, dtype, mode):
    f, _ = FUNCTIONS[name]
    x = np.random.default_rng(1).standard_normal(6).astype(dtype)
    got = nm.sparse_jacobian(f, mode=mode)(x)
    want = np.asarray(nm.jacrev(f)(x)).reshape(-1, 6)
    assert isinstance(got, sparse.csr_array)
    if not name.startswith("constant"):  # a constant of float64 promotes what forward mode gives
        assert got.dtype == want.dtype
    slack = 64 * np.finfo(dtype).eps * max(1.0, np.abs(want).max(initial=0.0))
    np.testing.assert_allclose(got.toarray(), want, rtol=0, atol=slack)


SCALARS = {
    "chain": lambda x: np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
    "arrow": lambda x: np.sum(x[0] * np.sin(x[1:])),
    "blocks": lambda x: np.sum(np.prod(x.reshape(2, 3), axis=1)),
    "dense": lambda x: np.sum(x) ** 3,
    "separable": lambda x: np.sum(np.exp(x)),
    "linear": lambda x: 3.0 * np.sum(x),
    "grid": lambda x: np.sum((np.diff(x.reshape(2, 3), axis=0) ** 4).sum()
                             + (np.diff(x.reshape(2, 3), axis=1) ** 4).sum()),
}  # fmt: skip


@pytest.mark.parametrize("chunk_size", [None, 1])
@pytest.mark.parametrize("name", SCALARS)
def test_hessian_is_the_dense_one_and_symmetric_to_the_bit(name, chunk_size):
    f = SCALARS[name]
    x = np.random.default_rng(2).standard_normal(6)
    got = nm.sparse_hessian(f, chunk_size=chunk_size)(x)
    want = nm.hessian(f)(x)
    scale = max(1.0, np.abs(want).max())
    np.testing.assert_allclose(got.toarray(), want, rtol=0, atol=256 * EPS * scale)
    assert (got != got.T).nnz == 0


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_problems_of_the_literature(problem):
    if problem.name == "Helical valley":
        with pytest.raises(TraceError, match="needs the value"):
            nm.jacobian_sparsity(problem.residuals, problem.start)
        return
    x = problem.start
    want = problem.jacobian(x)
    got = nm.sparse_jacobian(problem.residuals)(x).toarray()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * max(1.0, np.abs(want).max()))


# Colourings ---------------------------------------------------------------------------------------
def random_pattern(rng, m, n, density):
    return sparse.csr_array(sparse.random_array((m, n), density=density, rng=rng) != 0)


@pytest.mark.parametrize("seed", range(20))
def test_columns_of_one_colour_share_no_row(seed):
    rng = np.random.default_rng(seed)
    p = random_pattern(rng, *rng.integers(1, 30, 2), rng.choice([0.02, 0.1, 0.5]))
    colors = column_coloring(p)
    dense = p.toarray()
    for c in range(colors.max() + 1):
        assert dense[:, colors == c].sum(axis=1).max() <= 1
    fullest = dense.sum(axis=1).max(initial=0)
    assert max(fullest, 1) <= colors.max() + 1


@pytest.mark.parametrize("seed", range(20))
def test_star_colouring_has_three_colours_on_every_path_of_four(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 14))
    p = random_pattern(rng, n, n, rng.choice([0.05, 0.2, 0.6]))
    p = sparse.csr_array(p + p.T)
    colors = star_coloring(p)
    near = [set(np.flatnonzero(row)) - {i} for i, row in enumerate(p.toarray())]
    for b in range(n):
        for c in near[b]:
            assert colors[b] != colors[c]
            for a in near[b] - {c}:
                for d in near[c] - {a, b}:
                    assert len({colors[v] for v in (a, b, c, d)}) > 2


def test_bands_and_arrows_take_few_colours():
    n = 200
    band = sparse.csr_array(sparse.diags_array(np.ones((5, n)), offsets=range(-2, 3), shape=(n, n)))
    assert column_coloring(band).max() + 1 == 5
    tridiagonal = sparse.csr_array(sparse.diags_array(np.ones((3, n)), offsets=[-1, 0, 1], shape=(n, n)))  # fmt: skip
    assert star_coloring(tridiagonal).max() + 1 == 3
    arrow = sparse.lil_array((n, n))
    arrow[0, :] = arrow[:, 0] = 1
    assert star_coloring(arrow).max() + 1 == 2


def test_work_does_not_grow_with_the_size():
    calls = []

    def f(x):
        calls.append(x.shape)
        return x[1:] * x[:-1]

    for n in (10, 1000):
        J = nm.sparse_jacobian(f)
        J(np.ones(n))
        calls.clear()
        assert J(np.ones(n)).nnz == 2 * (n - 1)
        assert len(calls) <= 3  # the derivatives of all colours at once, the check


# Arguments ----------------------------------------------------------------------------------------
def test_trees_and_further_arguments():
    def f(p, a, k):
        return {"u": p["w"] * a[k], "v": (p["b"] ** 2,)}

    p = {"w": np.arange(1.0, 4.0), "b": 2.0}
    a = np.array([0.0, 5.0])
    J = nm.sparse_jacobian(f)
    want = np.diag([4.0, 5.0, 5.0, 5.0])[[1, 2, 3, 0]][:, [0, 1, 2, 3]]
    np.testing.assert_array_equal(J(p, a, 1).toarray(), want)
    # the pattern holds for all floating values, and is found anew for another integer
    other = J(p, a, 0).toarray()
    np.testing.assert_array_equal(other, want * [1.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(J(p, a + 1.0, 0).toarray()[0], [0.0, 1.0, 0.0, 0.0])


def test_zeros_of_an_argument_are_not_taken_for_structure():
    J = nm.sparse_jacobian(lambda x, a: a @ x)
    np.testing.assert_array_equal(J(np.ones(2), np.eye(2)).toarray(), np.eye(2))
    np.testing.assert_array_equal(J(np.ones(2), np.ones((2, 2))).toarray(), np.ones((2, 2)))


def test_given_pattern_is_used_and_checked():
    def f(x):  # branches on values: its pattern cannot be found
        return x[1:] * x[:-1] if x[0] > 0 else x[1:]

    x = np.arange(1.0, 5.0)
    pattern = nm.jacobian_sparsity(lambda x: x[1:] * x[:-1], x)
    want = nm.jacrev(lambda x: x[1:] * x[:-1])(x)
    np.testing.assert_array_equal(nm.sparse_jacobian(f, pattern)(x).toarray(), want)
    wrong = pattern.toarray()
    wrong[1, 2] = False
    with pytest.raises(GradientError, match="lacks an entry in row 1"):
        nm.sparse_jacobian(f, sparse.csr_array(wrong))(x)
    zeros = sparse.csr_array((np.zeros(pattern.nnz), pattern.indices, pattern.indptr))
    np.testing.assert_array_equal(nm.sparse_jacobian(f, zeros)(x).toarray(), want)
    diagonal = sparse.csr_array(np.eye(4))
    with pytest.raises(GradientError, match="lacks an entry in row"):
        nm.sparse_hessian(SCALARS["chain"], diagonal)(x)


def test_captured_array_that_changes_is_noticed():
    a = np.eye(3)
    J = nm.sparse_jacobian(lambda x: a @ x)
    J(np.ones(3))
    a[0, 2] = 1.0
    with pytest.raises(GradientError, match="call sparse_jacobian again"):
        J(np.ones(3))


def test_bad_input_says_what_is_wrong():
    x = np.ones(3)
    with pytest.raises(ShapeError, match="3 columns"):
        nm.sparse_jacobian(lambda x: x, sparse.csr_array(np.eye(4)))(x)
    with pytest.raises(ShapeError, match="3 rows"):
        nm.sparse_jacobian(lambda x: x, sparse.csr_array(np.ones((2, 3))))(x)
    with pytest.raises(TypeError, match=r"scipy.sparse array, got ndarray"):
        nm.sparse_jacobian(lambda x: x, np.eye(3))
    with pytest.raises(DomainError, match=r"only one of the entries \(0, 1\), \(1, 0\)"):
        nm.sparse_hessian(np.sum, sparse.csr_array(np.triu(np.ones((2, 2)))))
    with pytest.raises(ShapeError, match="square"):
        nm.sparse_hessian(np.sum, sparse.csr_array(np.ones((2, 3))))
    with pytest.raises(TypeError, match="'forward', 'reverse' or None"):
        nm.sparse_jacobian(lambda x: x, mode="both")
    with pytest.raises(TraceError, match="a sparse matrix holds no traced values"):
        nm.grad(lambda x: nm.sparse_jacobian(lambda y: y)(x).sum())(x)
    with pytest.raises(TraceError, match="closes over a traced value"):
        nm.grad(lambda b: nm.sparse_jacobian(lambda y: y * b)(x).sum())(2.0)
    with pytest.raises(TraceError, match="closes over a traced value"):
        nm.jvp(lambda b: nm.sparse_hessian(lambda y: np.sum(y**3) * b)(x).sum(), (2.0,), (1.0,))
    with pytest.raises(TraceError, match="needs the value"):
        nm.jacobian_sparsity(lambda x: x if x[0] > 0 else -x, x)


def test_empty_functions():
    assert nm.sparse_jacobian(lambda x: x[:0])(np.ones(3)).shape == (0, 3)
    assert nm.sparse_jacobian(lambda x: np.ones(2))(np.ones(3)).nnz == 0


def test_large_functions_keep_a_sparse_pattern():
    n = 1_100_000  # a dense pattern would have 1e12 entries
    pattern = nm.jacobian_sparsity(lambda x: (x.reshape(2, -1) ** 2)[:, ::-1].ravel(), np.ones(n))
    assert pattern.nnz == n
    columns = pattern[[0, n - 1]].indices
    np.testing.assert_array_equal(columns, [n // 2 - 1, n // 2])
