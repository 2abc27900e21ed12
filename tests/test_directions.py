"""Directions of Jacobians and Hessians stay products of factors: values are those of eager, costs those of the layers.

The bounds of costs count operations and entries; the random programs take the pass's result whatever it costs.
"""

import itertools
import math

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core._ext._tree import flatten
from nnmath_core.program.cost import program_cost
from nnmath_core.program.passes import bases, optimize
from nnmath_core.program.passes.bases import with_bases_apart

RNG = np.random.default_rng(23)


def layers(*sizes, dtype="f8", seed=5):
    rng = np.random.default_rng(seed)
    return [
        {
            "w": (rng.standard_normal((i, o)) / np.sqrt(i)).astype(dtype),
            "b": (0.1 * rng.standard_normal(o)).astype(dtype),
        }
        for i, o in itertools.pairwise(sizes)
    ]


def network(params, x, act=np.tanh, skip=False):
    for k, p in enumerate(params):
        z = x @ p["w"] + p["b"]
        if k < len(params) - 1:
            z = act(z)
        x = z + x if skip and z.shape == x.shape else z
    return x


def gelu(x):
    return nm.nn.gelu(x, approximate=True)


def squares(params, x, y, **kw):
    return np.mean((network(params, x, **kw) - y) ** 2)


def classes(params, x, y, **kw):
    return nm.nn.softmax_cross_entropy(network(params, x, **kw), y).mean()


def leaves(tree):
    return [np.asarray(v) for v in flatten(tree)[0]]


def same(got, want, terms=2000):
    """Equal to the rounding of sums of some thousand terms, relative to the largest entry of each array."""
    got, want = leaves(got), leaves(want)
    for g, w in zip(got, want, strict=True):
        assert (g.shape, g.dtype) == (w.shape, w.dtype)
        scale = max(float(np.abs(w).max(initial=0)), np.finfo(w.dtype).tiny)
        np.testing.assert_allclose(
            g, w, rtol=0, atol=8 * np.sqrt(terms) * np.finfo(w.dtype).eps * scale
        )


def apart(f, *args):
    """The program of a function after all passes, as staged, and what the pass says; values are compared."""
    program = nm.stage(f, *args)
    new, records = optimize(program)
    same(new(*args), program(*args))
    notes = [n for r in records for n in r.notes if "axes of directions" in n]
    return new, program, notes


def flops(program):
    return program_cost(program.equations).flops


def largest(program):
    return max(math.prod(v.shape) for e in program.equations for v in e.outputs)


def inputs(dtype, sizes, n):
    x = RNG.standard_normal((n, sizes[0])).astype(dtype)
    y = RNG.standard_normal((n, sizes[-1])).astype(dtype)
    return x, y, RNG.integers(0, sizes[-1], n)


# ---------------------------------------------------------------------------------------------- Hessians
CASES = {
    "squares": ((7, 6, 3), squares, {}),
    "classes": ((7, 6, 3), classes, {}),
    "gelu": ((6, 5, 4), classes, {"act": gelu}),
    "relu": ((6, 5, 4), classes, {"act": nm.nn.relu}),
    "sine": ((5, 7, 2), squares, {"act": np.sin}),
    "two hidden layers": ((5, 4, 6, 3), classes, {}),
    "a skip connection": ((5, 5, 5, 3), squares, {"skip": True}),
}


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", CASES)
def test_a_hessian_costs_a_part_of_its_directions(name, dtype):
    """Of 11 examples: one less than a power of anything, so that no axis is mistaken for another."""
    sizes, loss, kw = CASES[name]
    params = layers(*sizes, dtype=dtype)
    x, targets, labels = inputs(dtype, sizes, 11)
    y = targets if loss is squares else labels

    def f(p, x):
        return loss(p, x, y, **kw)

    new, old, notes = apart(nm.hessian(f), params, x)
    assert len(notes) == 1
    assert flops(new) < 0.6 * flops(old)  # nothing is done for each direction, example and unit
    flat, unravel = nm.ravel_tree(params)
    new, _, notes = apart(nm.hessian(lambda w, x: f(unravel(w), x)), flat, x)
    assert len(notes) == 1
    assert largest(new) <= max(len(flat) ** 2, 11 * max(sizes) ** 3)


@pytest.mark.parametrize(
    "order", [(nm.jacrev, nm.jacrev), (nm.jacfwd, nm.jacfwd), (nm.jacrev, nm.jacfwd)]
)
def test_every_order_of_modes_reaches_about_the_same_cost(order):
    outer, inner = order
    params = layers(8, 8, 3)
    x, _, y = inputs("f8", (8, 8, 3), 16)
    plain, _, _ = apart(nm.hessian(lambda p, x: classes(p, x, y)), params, x)
    new, old, notes = apart(outer(inner(lambda p, x: classes(p, x, y))), params, x)
    assert notes
    assert flops(new) < 0.6 * flops(old)
    if inner is nm.jacrev:
        assert flops(new) < 2 * flops(plain)


def test_the_hessian_of_the_table_costs_its_blocks():
    """340 parameters, 64 examples: the block of a weight with itself is a product of 256 x 64 x 256."""
    sizes = (16, 16, 4)
    x, _, y = inputs("f8", sizes, 64)
    flat, unravel = nm.ravel_tree(layers(*sizes))
    new, old, (note,) = apart(nm.hessian(lambda w, x: classes(unravel(w), x, y)), flat, x)
    blocks = 2 * 64 * (256 * 256 + 2 * 256 * 64 + 64 * 64)
    assert flops(new) < 1.2 * blocks
    assert program_cost(new.equations).bytes < 0.12 * program_cost(old.equations).bytes
    assert (
        note.startswith("59 ") or "values with axes of directions stay products of factors" in note
    )


def test_a_jacobian_by_either_mode_is_its_outer_products():
    sizes = (10, 9, 8, 3)
    params = layers(*sizes)
    x, _, _ = inputs("f8", sizes, 12)
    results = 12 * 3 * sum(i * o + o for i, o in itertools.pairwise(sizes))
    for jacobian in (nm.jacrev, nm.jacfwd):
        new, old, notes = apart(jacobian(network), params, x)
        assert notes
        assert flops(new) < 3 * results + 2 * 12 * 3 * 9 * 8 + 2 * 12 * (90 + 72 + 24) + 2000
        assert flops(new) < 0.1 * flops(old)


@pytest.mark.parametrize("jacobian", [nm.jacrev, nm.jacfwd])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_gauss_newton_as_users_write_it(jacobian, dtype):
    sizes = (9, 8, 3)
    x, _, y = inputs(dtype, sizes, 20)
    flat, unravel = nm.ravel_tree(layers(*sizes, dtype=dtype))

    def matrix(w, x):
        J = jacobian(lambda w: network(unravel(w), x))(w)
        H = nm.vmap(nm.hessian(nm.nn.softmax_cross_entropy))(network(unravel(w), x), y)
        return np.einsum("nkp,nkl,nlq->pq", J, H, J) / len(x)

    new, old, notes = apart(matrix, flat, x)
    assert notes
    assert flops(new) < 0.5 * flops(old)


def test_the_hessian_by_inputs_of_many_examples_is_blocks_of_examples():
    sizes = (6, 5, 3)
    params = layers(*sizes)
    x, _, y = inputs("f8", sizes, 8)
    new, old, notes = apart(nm.hessian(lambda x, p: classes(p, x, y)), x, params)
    assert notes
    assert flops(new) < 0.25 * flops(old)


def test_a_third_derivative():
    x, y, _ = inputs("f8", (3, 3, 2), 5)
    _, _, notes = apart(nm.jacfwd(nm.hessian(lambda p, x: squares(p, x, y))), layers(3, 3, 2), x)
    assert notes


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_plans_equal_eager(threads, dtype):
    sizes = (13, 9, 5)
    params = layers(*sizes, dtype=dtype)
    x, _, y = inputs(dtype, sizes, 33)
    f = nm.hessian(lambda p, x: classes(p, x, y))
    before = nm.threads()
    nm.threads(threads)
    try:
        same(nm.compile(f)(params, x), f(params, x))
    finally:
        nm.threads(before)


def test_chunks_and_very_few_directions_stay_as_written():
    x, y, _ = inputs("f8", (4, 3, 2), 6)
    params = layers(4, 3, 2)
    apart(nm.hessian(lambda p: squares(p, x, y), chunk_size=5), params)
    _, _, notes = apart(nm.hessian(lambda v: np.sum(np.sin(v) ** 2)), np.array([0.3, 1.0]))
    assert not notes


# ---------------------------------------------------------------------------------------------- special values
def test_saturated_units_and_examples_without_a_label():
    sizes = (6, 5, 3)
    params = layers(*sizes)
    params[0]["w"] *= 400  # tanh is 1 to the last bit, its derivative 0
    params[1]["w"] *= 300  # and the softmax one entry
    x, _, y = inputs("f8", sizes, 9)
    y[2] = -100

    def f(p, x):
        return np.sum(nm.nn.softmax_cross_entropy(network(p, x, act=nm.nn.relu), np.abs(y) % 3))

    apart(nm.hessian(f), params, x)
    apart(
        nm.hessian(lambda p, x: np.sum(np.where(y >= 0, np.sum(network(p, x) ** 2, axis=1), 0.0))),
        params,
        x,
    )


def test_derivatives_behind_a_selection_stay_hidden():
    """The derivative of log at 0 is infinite; nothing of it reaches the entries that were not selected."""
    x = np.array([0.0, 0.5, 2.0, 0.0, 3.0])

    def f(x):
        safe = np.where(x > 0, np.log(x) * x, 0.0)
        return np.sum(safe**2) + np.sum(safe) ** 2

    program = nm.stage(nm.hessian(f), x)
    with np.errstate(all="ignore"):
        want = program(x)
        new, _ = with_bases_apart(program)
        got = new(x)
    assert np.isfinite(want).all()
    same(got, want)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_shows(value):
    """Every entry that is not finite in eager is not finite, unless zeros of the basis alone made it so."""
    sizes = (5, 4, 3)
    params = layers(*sizes)
    params[1]["w"][1, 2] = value
    x, y, _ = inputs("f8", sizes, 7)
    program = nm.stage(nm.hessian(lambda p, x: squares(p, x, y)), params, x)
    new, _ = optimize(program)
    with np.errstate(all="ignore"):
        got, want = leaves(new(params, x)), leaves(program(params, x))
    finite = [np.isfinite(w) for w in want]
    assert not all(np.all(m) for m in finite)
    for g, w, m in zip(got, want, finite, strict=True):
        np.testing.assert_allclose(g[m], w[m], rtol=1e-12, atol=1e-12)
    assert not all(np.isfinite(g).all() for g in got)


# ---------------------------------------------------------------------------------------------- which arrays are bases
def pushed(matrix, f):
    """The pass on a captured array, whatever it costs: the new program and its value, compared."""
    a = RNG.standard_normal((3, 4))
    program = nm.stage(lambda a: f(matrix, a), a)
    new, note = with_bases_apart(program)
    same(new(a), program(a))
    return note


def rows(n, *shape, start=0):
    whole = np.zeros((n, math.prod(shape)))
    k = math.prod(shape)
    whole[np.arange(start, start + k), np.arange(k)] = 1.5
    return whole.reshape(n, *shape)


BASES = {
    "rows of a block": rows(30, 3, 4, start=7),
    "axes exchanged": rows(30, 4, 3, start=2).transpose(0, 2, 1).copy(),
    "repeated along an axis": np.broadcast_to(rows(9, 4, start=3)[:, None], (9, 3, 4)).copy(),
    "rows repeated, inner": np.tile(rows(12, 3, 4), (5, 1, 1)),
    "rows repeated, outer": np.repeat(rows(12, 3, 4), 5, axis=0),
    "columns of a block": np.pad(rows(12, 3, 4), ((0, 0), (0, 0), (0, 0))) * -2.0,
}


@pytest.mark.parametrize("name", BASES)
def test_identities_are_found_in_blocks_repeated_and_with_axes_exchanged(name):
    assert pushed(BASES[name], lambda e, a: np.sin(a) * e)


def test_what_only_looks_like_an_identity_is_an_array():
    other = rows(30, 3, 4, start=7)
    other[9, 0, 1] = 1.0  # another number
    assert not pushed(other, lambda e, a: a * e)
    other = rows(30, 3, 4, start=7)
    other[9] = other[8]
    assert not pushed(other, lambda e, a: a * e)
    other = rows(30, 3, 4)
    other[29, 2, 3] = np.nan
    program = nm.stage(lambda a: a * other, np.ones((3, 4)))
    assert with_bases_apart(program) == (program, "")


def test_programs_without_a_basis_are_not_touched():
    params, x = layers(6, 5, 3), RNG.standard_normal((8, 6))
    program = nm.stage(nm.grad(lambda p, x: np.sum(network(p, x) ** 2)), params, x)
    assert with_bases_apart(program) == (program, "")


def test_very_long_programs_stay_as_written(monkeypatch):
    x, y, _ = inputs("f8", (4, 3, 2), 6)
    program = nm.stage(nm.hessian(lambda p: squares(p, x, y)), layers(4, 3, 2))
    assert with_bases_apart(program)[1]
    monkeypatch.setattr(bases, "MOST_EQUATIONS", -40)
    assert with_bases_apart(program) == (program, "")


def test_inspect_says_what_stays_a_product():
    x, y, _ = inputs("f8", (8, 8, 3), 24)
    f = nm.compile(nm.hessian(lambda p: squares(p, x, y)))
    assert "values with axes of directions stay products of factors" in str(
        f.inspect(layers(8, 8, 3))
    )


# ---------------------------------------------------------------------------------------------- random programs
class Drawn:
    """A random program of values with an axis of directions (the first, of 17), at most three others."""

    def __init__(self, rng, xs):
        self.rng, self.xs = rng, xs

    def other(self, shape):
        """A primal value that broadcasts to a shape."""
        total = self.xs[0][5, 5]
        for k, n in enumerate(shape):
            m = n if n <= 6 else 1
            total = total + self.xs[0][k, :m].reshape(*[1] * k, m, *[1] * (len(shape) - k - 1))
        return np.sin(total)

    def step(self, pool):
        rng, v = self.rng, pool[int(self.rng.integers(len(pool)))]
        kind = int(rng.integers(14))
        axis = int(rng.integers(v.ndim))
        if kind == 0:
            return v * self.other(v.shape)
        if kind == 1:
            return np.where(self.other(v.shape) > 0.1, v, 0.0)
        if kind == 2:
            mates = [w for w in pool if w.shape == v.shape]
            return v + mates[int(rng.integers(len(mates)))]
        if kind == 3:
            mates = [w for w in pool if w.shape == v.shape]
            return v - 0.5 * mates[int(rng.integers(len(mates)))]
        if kind == 4 and v.ndim > 1:
            return np.transpose(v, rng.permutation(v.ndim))
        if kind == 5 and v.ndim > 1:
            return np.sum(v, axis=axis, keepdims=bool(rng.integers(2)))
        if kind == 6 and v.ndim > 1:
            k = int(rng.integers(v.ndim - 1))
            return v.reshape(*v.shape[:k], -1, *v.shape[k + 2 :])
        if kind == 7:
            n = v.shape[axis]
            low = int(rng.integers(n))
            index = [slice(None)] * v.ndim
            index[axis] = slice(low, int(rng.integers(low + 1, n + 1)))
            return v[tuple(index)]
        if kind == 8 and v.size < 2000:
            return np.concatenate([v, 2.0 * v, pool[0] if pool[0].shape == v.shape else v], axis)
        if kind == 9 and v.shape[-1] <= 6:
            return np.tensordot(v, np.cos(self.xs[0][: v.shape[-1]]), 1) if v.ndim < 4 else -v
        if kind == 10:
            return v / (2.0 + self.other(v.shape))
        if kind == 11:
            return np.pad(v, [(int(k == axis), 2 * int(k == axis)) for k in range(v.ndim)])
        if kind == 12 and v.size < 500:
            mates = [w for w in pool if w.ndim < 3 and w.shape[0] == v.shape[0] and w.size < 500]
            if mates:
                return np.tensordot(v, mates[int(rng.integers(len(mates)))], ((0,), (0,)))
        if kind == 13:
            return v * v if rng.integers(2) else np.tanh(v)
        return v[None] * self.other((3,) + (1,) * v.ndim) if v.ndim < 3 else -v


@pytest.mark.parametrize("ratio", [1.0, 8.0])
@pytest.mark.parametrize("seed", range(60))
def test_random_programs_keep_their_value(seed, ratio):
    draw = np.random.default_rng(seed)
    x = draw.uniform(-1, 1, (6, 6))
    parts = [rows(17, 4, 3, start=0), rows(17, 5, start=12)]
    parts += [np.broadcast_to(parts[1][:, None], (17, 4, 5)).copy()]

    def f(x):
        rng = np.random.default_rng(seed)
        d = Drawn(rng, [x])
        pool = [p * d.other((1, *p.shape[1:])) for p in parts]
        pool += [np.tensordot(pool[0], x[:3, :5], 1) + pool[2], pool[1][:, None] * x[:4, :1]]
        for _ in range(int(rng.integers(2, 10))):
            v = d.step(pool)
            if 0 < v.ndim <= 4 and 0 < v.size <= 40_000:
                pool.append(v)
        return pool[-3:]

    program = nm.stage(f, x)
    new, note = with_bases_apart(program, ratio)
    same(new(x), program(x))
    assert note


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_numbers_beside_terms_keep_the_dtype(dtype):
    e = rows(6, 6).astype(dtype)
    x = RNG.standard_normal(6).astype(dtype)

    def f(x):
        t = e * x
        picked = np.where(x > 0, e, 0.0) * 2.5
        return t + t, t - t, picked + e / 4, -(t + 3.0), t / x, np.sum(t - 2 * e, axis=0)

    program = nm.stage(f, x)
    new, note = with_bases_apart(program)
    assert note
    same(new(x), program(x))


def test_blocks_that_overlap_in_part_are_multiplied_and_added():
    low, high = rows(30, 9, start=0), rows(30, 9, start=4)
    a = RNG.standard_normal(9)

    def f(a):
        x, y = low * np.sin(a), high * np.cos(a)
        return x + y, np.einsum("kd,ke->de", x, y), x * y, np.concatenate([x, y], axis=1).T @ x

    program = nm.stage(f, a)
    new, _ = with_bases_apart(program)
    same(new(a), program(a))
    assert np.count_nonzero(program(a)[1])
