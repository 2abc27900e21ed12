"""The contraction-order pass: plain code reaches the cost of its layers' products, and keeps its value.

The bounds count operations: `2 * n * k * m` for each product of matrices that is needed, and a few operations for each
entry of the arrays between them.
"""

import itertools
import math

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core._ext._tree import flatten
from nnmath_core.program.cost import program_cost
from nnmath_core.program.passes import optimize
from nnmath_core.program.passes.contraction import with_contractions_ordered
from nnmath_core.program.passes.order import best_order

N, SIZES = 24, (10, 32, 28, 3)
RNG = np.random.default_rng(11)
PARAMS = [
    (RNG.standard_normal((a, b)) / np.sqrt(a), RNG.standard_normal(b))
    for a, b in itertools.pairwise(SIZES)
]
DIRECTION = [(RNG.standard_normal(w.shape), RNG.standard_normal(b.shape)) for w, b in PARAMS]
X, Y = RNG.standard_normal((N, SIZES[0])), RNG.standard_normal((N, SIZES[0]))
NUMBERS = sum(a * b + b for a, b in itertools.pairwise(SIZES))
LAYERS = sum(a * b for a, b in itertools.pairwise(SIZES))
FORWARD = 2 * N * LAYERS
ENTRIES = N * sum(SIZES)


def network(params, x):
    for w, b in params[:-1]:
        x = np.tanh(x @ w + b)
    w, b = params[-1]
    return x @ w + b


def scalar(params, x):
    return np.sum(np.sin(network(params, x)))


def leaves(tree):
    return flatten(tree)[0]


def gradients(params, x):
    return leaves(nm.vmap(nm.grad(scalar), (None, 0))(params, x))


def ordered(f, *args):
    """The program of a function after all passes, and after those without this one."""
    program = nm.stage(f, *args)
    new, records = optimize(program)
    want, got = leaves(program(*args)), leaves(new(*args))
    for w, g in zip(want, got, strict=True):
        w, g = np.asarray(w), np.asarray(g)
        assert (g.shape, g.dtype) == (w.shape, w.dtype)
        # products and sums of up to a thousand terms in another order
        eps = np.finfo(w.dtype).eps if w.dtype.kind in "fc" else 0.0
        np.testing.assert_allclose(
            g, w, rtol=0, atol=64 * eps * 32 * max(1.0, np.abs(w).max(initial=0))
        )
    return new, program, [r for r in records if r.name == "contraction order"]


def flops(program):
    return program_cost(program.equations).flops


def largest(program):
    return max(math.prod(v.shape) for e in program.equations for v in e.outputs)


def names(program):
    return [e.primitive.name for e in program.equations]


# ---------------------------------------------------------------------------------------------- search
def brute_force(factors, out, sizes):
    """The least number of operations over all orders: by recursion on lists of labels, nothing else."""
    if len(factors) == 1:
        private = set(factors[0]) - set(out)
        return math.prod(sizes[c] for c in factors[0]) if private else 0
    best = math.inf
    for i, j in itertools.combinations(range(len(factors)), 2):
        rest = [f for k, f in enumerate(factors) if k not in (i, j)]
        both = set(factors[i]) | set(factors[j])
        kept = [c for c in both if c in out or any(c in f for f in rest)]
        cost = (1 if len(kept) == len(both) else 2) * math.prod(sizes[c] for c in both)
        best = min(best, cost + (brute_force([kept, *rest], out, sizes) if rest else 0))
    return best


@pytest.mark.parametrize("seed", range(20))
def test_the_exact_search_finds_the_cheapest_order(seed):
    """Every label is in two factors or the result, so that nothing is summed alone; and bytes cost nothing."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 6))
    labels = list(range(6))
    sizes = {c: int(rng.integers(2, 9)) for c in labels}
    factors = [set() for _ in range(n)]
    out = []
    for c in labels:
        homes = rng.choice(n, size=min(n, int(rng.integers(2, 4))), replace=False)
        for h in homes:
            factors[h].add(c)
        if rng.random() < 0.3:
            out.append(c)
    factors = [sorted(f) for f in factors if f] or [[0], [0]]
    out = [c for c in out if any(c in f for f in factors)]
    if len(factors) < 2:
        return
    found = best_order(factors, out, sizes, 0)  # entries of no bytes
    seconds = brute_force(factors, out, sizes) / 2e10 + (len(factors) - 1) * 5e-8
    assert found.cost.seconds <= seconds * (1 + 1e-9)


def test_many_factors_are_ordered_greedily():
    sizes = {k: 8 for k in range(31)}
    chain = [(k, k + 1) for k in range(30)]
    found = best_order(chain, (0, 30), sizes, 8)
    assert found.cost.flops <= 29 * 2 * 8**3


def test_a_chain_of_matrices_is_multiplied_from_the_short_side():
    def f(a, b, c, v):
        return a @ (b @ (c @ np.eye(40))) @ v

    a, b, c = (RNG.standard_normal((40, 40)) for _ in range(3))
    new, _, records = ordered(
        lambda a, b, c, v: ((a @ b) @ c) @ v, a, b, c, RNG.standard_normal(40)
    )
    assert flops(new) == 3 * 2 * 40 * 40
    (record,) = records
    assert record.flops == (2 * (2 * 40**3) + 2 * 40 * 40, 3 * 2 * 40 * 40)
    assert "FLOPs" in str(record)
    new, _, _ = ordered(lambda a, v: f(a, b, c, v), a, RNG.standard_normal(40))
    assert flops(new) <= 4 * 2 * 40 * 40


def test_a_sum_of_repeated_entries_is_a_multiplication_by_their_number():
    a, b, v = RNG.standard_normal((40, 40)), RNG.standard_normal((40, 40)), RNG.standard_normal(40)

    def f(a, b, v):
        return np.sum(np.broadcast_to((a @ b)[None], (7, 40, 40)), axis=0) @ v

    new, _, _ = ordered(f, a, b, v)
    assert flops(new) <= 2 * 2 * 40 * 40 + 40


def test_identities_are_renamings_and_what_only_looks_like_one_is_not():
    a, v = RNG.standard_normal((40, 40)), RNG.standard_normal(40)
    new, _, _ = ordered(lambda a, v: ((np.eye(40) * 3.0) @ (a * a)) @ v, a, v)
    assert flops(new) <= 3 * 40 * 40 + 40
    near = np.eye(40)
    near[3, 7] = 2.0
    for c in (near, np.diag(np.arange(1.0, 41.0)), np.eye(40)[::-1].copy()):
        new, _, _ = ordered(lambda a, v, c=c: (c @ (a * a)) @ v, a, v)
        assert flops(new) >= 4 * 40 * 40
    new, _, _ = ordered(lambda a, v: (np.eye(40, k=1) @ (a * a)) @ v, a, v)  # all rows but one
    assert flops(new) <= 3 * 40 * 40 + 40
    ordered(lambda a, v: np.sum(np.eye(40) * (a @ a), axis=1) * v, a, v)
    ordered(lambda a, v: (np.eye(40) * a) @ v, a, v)  # a diagonal is no product of labels


# ---------------------------------------------------------------------------------------------- plain user code
def ntk(params, x, y):
    pairs = zip(gradients(params, x), gradients(params, y), strict=True)
    return sum(g.reshape(len(x), -1) @ h.reshape(len(y), -1).T for g, h in pairs)


def test_the_tangent_kernel_costs_two_gram_matrices_a_layer():
    new, old, records = ordered(ntk, PARAMS, X, Y)
    grams = sum(2 * N * N * (a + b) for a, b in itertools.pairwise(SIZES))
    both_sides = 2 * (FORWARD + FORWARD)  # forward and backward, for x and y
    assert flops(new) <= both_sides + grams + 20 * (2 * ENTRIES + 4 * N * N)
    assert flops(old) >= 2 * N * N * NUMBERS
    assert largest(new) < N * min(a * b for a, b in itertools.pairwise(SIZES))
    assert records[0].flops[1] < records[0].flops[0]


def test_the_tangent_kernel_by_tensordot_and_by_einsum_is_the_same_program():
    def by_tensordot(params, x, y):
        pairs = zip(gradients(params, x), gradients(params, y), strict=True)
        return sum(np.tensordot(g, h, 2 * (tuple(range(1, g.ndim)),)) for g, h in pairs)

    def by_einsum(params, x, y):
        pairs = zip(gradients(params, x), gradients(params, y), strict=True)
        return sum(
            np.einsum(f"a{'ij'[: g.ndim - 1]},b{'ij'[: g.ndim - 1]}->ab", g, h) for g, h in pairs
        )

    costs = [flops(ordered(f, PARAMS, X, Y)[0]) for f in (ntk, by_tensordot, by_einsum)]
    assert max(costs) <= 1.01 * min(costs)


def test_the_tangent_kernel_with_itself_makes_each_side_once():
    new, _, _ = ordered(lambda p, x: ntk(p, x, x), PARAMS, X)
    grams = sum(2 * N * N * (a + b) for a, b in itertools.pairwise(SIZES))
    assert flops(new) <= 2 * FORWARD + grams + 20 * (ENTRIES + 4 * N * N)


@pytest.mark.parametrize(
    "square",
    [
        lambda g: np.sum(g**2, axis=tuple(range(1, g.ndim))),
        lambda g: np.sum(g * g, axis=tuple(range(1, g.ndim))),
        lambda g: np.sum((g * g).reshape(len(g), -1), axis=-1),
        lambda g: np.linalg.vecdot(g.reshape(len(g), -1), g.reshape(len(g), -1)),
    ],
)
def test_norms_of_gradients_of_examples_never_make_the_gradients(square):
    new, _, _ = ordered(lambda p, x: np.sqrt(sum(square(g) for g in gradients(p, x))), PARAMS, X)
    assert flops(new) <= 2 * FORWARD + 24 * ENTRIES
    assert largest(new) <= N * max(SIZES)


def tokens(params, x):
    """Norms of gradients of sequences, whose tokens share the weights."""
    return sum(np.sum(g**2, axis=tuple(range(1, g.ndim))) for g in gradients(params, x))


def test_ghost_norms_are_chosen_by_cost():
    few = RNG.standard_normal(
        (N, 2, SIZES[0])
    )  # Gram matrices of two tokens: less than the gradients
    new, _, _ = ordered(tokens, PARAMS, few)
    assert largest(new) < N * 10 * 32
    many = RNG.standard_normal((3, 200, SIZES[0]))  # here the gradients are less
    new, _, _ = ordered(tokens, PARAMS, many)
    assert largest(new) < 3 * 200 * 200


def test_the_fisher_product_makes_no_gradient_of_an_example():
    def product(params, direction, x):
        every = gradients(params, x)
        along = sum(
            np.tensordot(g, v, (tuple(range(1, g.ndim)), tuple(range(v.ndim))))
            for g, v in zip(every, leaves(direction), strict=True)
        )
        return [np.tensordot(along, g, ((0,), (0,))) / len(x) for g in every]

    new, old, _ = ordered(product, PARAMS, DIRECTION, X)
    assert largest(new) <= max(N * max(SIZES), max(a * b for a, b in itertools.pairwise(SIZES)))
    assert flops(new) <= 4 * FORWARD + 30 * ENTRIES + 2 * NUMBERS
    assert program_cost(new.equations).bytes < 0.5 * program_cost(old.equations).bytes


def flat(params, x):
    """Gradients of examples as the rows of a matrix."""
    return np.concatenate([g.reshape(len(x), -1) for g in gradients(params, x)], axis=1)


def test_gradients_in_one_matrix_are_read_part_by_part():
    new, _, _ = ordered(lambda p, x, y: flat(p, x) @ flat(p, y).T, PARAMS, X, Y)
    grams = sum(2 * N * N * (a + b) for a, b in itertools.pairwise(SIZES))
    assert flops(new) <= 4 * FORWARD + grams + 20 * (2 * ENTRIES + 4 * N * N)
    new, _, _ = ordered(lambda p, x: np.sqrt(np.sum(flat(p, x) ** 2, axis=1)), PARAMS, X)
    assert largest(new) <= N * max(SIZES)
    new, _, _ = ordered(
        lambda p, x, v: flat(p, x).T @ (flat(p, x) @ v), PARAMS, X, RNG.standard_normal(NUMBERS)
    )
    assert largest(new) <= NUMBERS
    new, _, _ = ordered(
        lambda p, x: np.sum(-flat(p, x) * flat(p, x), axis=0, keepdims=True), PARAMS, X
    )
    assert largest(new) < N * NUMBERS


def test_clipping_by_division_is_a_product_with_the_inverse():
    def clipped(params, x):
        g = flat(params, x)
        return np.mean(
            g / np.maximum(1.0, 10 * np.sqrt(np.sum(g**2, axis=1, keepdims=True))), axis=0
        )

    new, _, _ = ordered(clipped, PARAMS, X)
    assert largest(new) <= NUMBERS
    assert flops(new) <= 3 * FORWARD + 40 * ENTRIES + 2 * NUMBERS


def test_a_matrix_of_gradients_that_is_the_result_is_made():
    new, old, _ = ordered(lambda p, x: (flat(p, x), np.sum(flat(p, x))), PARAMS, X)
    assert largest(new) == N * NUMBERS
    assert program_cost(new.equations).bytes <= program_cost(old.equations).bytes


def test_clipped_gradients_of_examples_are_products_of_layers():
    def clipped(params, x):
        every = gradients(params, x)
        norms = np.sqrt(sum(np.sum(g**2, axis=tuple(range(1, g.ndim))) for g in every))
        weights = np.minimum(1.0, 0.1 / norms)
        return [np.mean(g * weights.reshape(-1, *[1] * (g.ndim - 1)), axis=0) for g in every]

    new, _, _ = ordered(clipped, PARAMS, X)
    assert largest(new) <= max(N * max(SIZES), max(a * b for a, b in itertools.pairwise(SIZES)))
    assert flops(new) <= 3 * FORWARD + 40 * ENTRIES + 2 * NUMBERS


def test_the_mean_of_gradients_of_examples_is_the_gradient_of_the_mean():
    new, _, _ = ordered(lambda p, x: [np.mean(g, axis=0) for g in gradients(p, x)], PARAMS, X)
    plain, _ = optimize(nm.stage(nm.grad(lambda p, x: scalar(p, x) / N), PARAMS, X))
    assert flops(new) <= 1.1 * flops(plain)


def test_the_gauss_newton_product_costs_four_passes():
    def product(params, direction, x):
        _, along = nm.jvp(lambda p: network(p, x), (params,), (direction,))
        return nm.vjp(lambda p: network(p, x), params)[1](along)[0]

    new, _, _ = ordered(product, PARAMS, DIRECTION, X)
    assert flops(new) <= 5 * FORWARD + 40 * ENTRIES


def test_a_jacobian_by_pulling_back_a_basis_multiplies_no_zeros():
    new, old, _ = ordered(nm.jacrev(network), PARAMS, X)
    results = N * SIZES[-1] * NUMBERS
    assert flops(new) < 0.35 * flops(old)
    assert flops(new) <= 2 * FORWARD + 2 * N * SIZES[-1] * LAYERS + 3 * results + 20 * ENTRIES


def test_a_dense_hessian_costs_no_more_than_it_did():
    new, old, _ = ordered(nm.hessian(lambda p: np.sum(network(p, X) ** 2)), PARAMS)
    assert flops(new) <= flops(old)


# ---------------------------------------------------------------------------------------------- what must stay
def test_selections_end_a_chain():
    def f(x, w):
        h = np.where(x > 0, np.log(x) * 2.0, 0.0)
        return np.sum((h @ w) * (h @ w))

    x = np.abs(X)
    x[0, 0] = 0.0
    program = nm.stage(nm.grad(f), x, PARAMS[0][0])
    new, _ = optimize(program)
    with np.errstate(all="ignore"):
        want, got = program(x, PARAMS[0][0]), new(x, PARAMS[0][0])
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
    assert got[0, 0] == want[0, 0] == 0.0


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_network_with_a_weight_that_is_not_finite_has_the_same_entries(value):
    params = [(w.copy(), b) for w, b in PARAMS]
    params[1][0][3, 4] = value
    program = nm.stage(nm.grad(scalar), params, X)
    new, _ = optimize(program)
    with np.errstate(all="ignore"):
        want, got = leaves(program(params, X)), leaves(new(params, X))
    for w, g in zip(want, got, strict=True):
        np.testing.assert_array_equal(np.isnan(g), np.isnan(w))


def test_a_product_that_is_read_elsewhere_is_not_made_again():
    a, b = RNG.standard_normal((40, 40)), RNG.standard_normal((40, 40))
    new, old, _ = ordered(lambda a, b, v: ((a @ b) @ v, a @ b), a, b, RNG.standard_normal(40))
    assert flops(new) == 2 * 40**3 + 2 * 40**2
    assert names(new).count("contract") == 2
    assert names(old).count("contract") == 3


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sum(x**2, axis=1),
        lambda x: np.sum(x * x * 0.5),
        lambda x: x * np.sum(x, axis=1, keepdims=True) * 2.0,
        lambda x: np.mean(x * x, axis=0),
    ],
)
def test_runs_that_are_one_pass_over_memory_stay_as_written(f):
    for x in (X, X[:2, :3]):
        program, _ = optimize(nm.stage(f, x))
        assert with_contractions_ordered(program) == (program, [])


def test_an_ordinary_gradient_stays_as_written():
    program = nm.stage(nm.grad(lambda p, x: np.mean(network(p, x) ** 2)), PARAMS, X)
    tidied, _ = optimize(program)
    assert (
        names(tidied).count("contract") == 3 + 3 + 2
    )  # forward; weights; signals behind the last two layers
    assert with_contractions_ordered(tidied) == (tidied, [])


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (3, 1), (1, 1)])
def test_empty_arrays_and_axes_of_one_entry(shape):
    x = RNG.standard_normal(shape)
    w = RNG.standard_normal((shape[1], 4))
    ordered(lambda x, w: np.sum((x[:, :, None] * (x @ w)[:, None, :]) ** 2, axis=(1, 2)), x, w)
    ordered(lambda x, w: np.sum(x[:, :, None] * w, axis=0) @ np.ones(4), x, w)


@pytest.mark.parametrize("dtype", ["f4", "c8", "c16", "i8", "?"])
def test_dtypes(dtype):
    def f(x):
        outer = x[:, :, None] * x[:, None, :]
        return np.sum(outer * outer, axis=(1, 2))

    new, old, _ = ordered(f, (3 * RNG.standard_normal((60, 50))).astype(dtype))
    if dtype in ("f4", "c8", "c16"):
        assert largest(new) <= 60 * 50
    else:
        assert names(new) == names(optimize(old)[0])


def test_numbers_that_leave_the_range_of_the_dtype_stay_in_their_place():
    x = X.astype(np.float32)
    ordered(lambda x: np.sum((x * 1e-25)[:, :, None] * (x * 1e25)[:, None, :], axis=(1, 2)), x)


@pytest.mark.parametrize("seed", range(60))
def test_random_multilinear_programs_keep_their_value(seed):
    """Chains of products, sums, transposes, reshapes and repetitions in random order; some values are read twice."""
    draw = np.random.default_rng(seed)

    def f(*xs):
        pool = list(xs)
        rng = np.random.default_rng(seed)
        for _ in range(int(rng.integers(3, 9))):
            x = pool[int(rng.integers(len(pool)))]
            kind = rng.integers(7)
            if kind == 0 and x.ndim >= 1:
                pool.append(
                    np.sum(x, axis=int(rng.integers(x.ndim)), keepdims=bool(rng.integers(2)))
                )
            elif kind == 1 and x.ndim >= 2:
                pool.append(np.transpose(x, rng.permutation(x.ndim)))
            elif kind == 2 and x.size <= 500:
                pool.append(x[..., None] * xs[int(rng.integers(len(xs)))][0])
            elif kind == 3:
                pool.append(x.reshape(-1))
            elif kind == 4 and x.ndim >= 1 and x.shape[-1] in (6, 12):
                pool.append(x.reshape(*x.shape[:-1], 2, x.shape[-1] // 2))
            elif kind == 5:
                pool.append(x * x * -0.5)
            elif x.ndim >= 1:
                mates = [
                    y
                    for y in pool
                    if y.ndim >= 1 and y.shape[0] == x.shape[-1] and x.size * y.size <= 40_000
                ]
                if mates:
                    pool.append(np.tensordot(x, mates[int(rng.integers(len(mates)))], 1))
        rows = [y for y in pool[len(xs) :]][-3:]
        return [np.sum(y, axis=-1) if y.ndim else y for y in rows], np.tanh(pool[-1])

    xs = [draw.uniform(-1, 1, s) for s in ((6, 12), (12, 6), (6, 6))]
    program = nm.stage(f, *xs)
    new, _ = with_contractions_ordered(program)
    for w, g in zip(leaves(program(*xs)), leaves(new(*xs)), strict=True):
        # up to nine steps, of sums of at most forty thousand terms: 200 rounding errors each
        scale = max(1.0, float(np.abs(w).max(initial=0)))
        np.testing.assert_allclose(g, w, rtol=0, atol=2000 * np.finfo(float).eps * scale)
    assert program_cost(new.equations).seconds <= program_cost(program.equations).seconds * (
        1 + 1e-12
    )
