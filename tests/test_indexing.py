"""Indexing has NumPy's meaning, its gradient is added in place, and functional updates keep the dtype.

Indexing is linear in the array, so derivatives are compared with sums over the positions that NumPy
itself reads, to the rounding of those sums.
"""

import itertools
import time

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError, TraceError

EPS = np.finfo(float).eps


class Number:
    """An integer that is none: NumPy takes it by ``__index__``."""

    def __index__(self):
        return 1


# ------------------------------------------------------------------------------ x[index], generated
SHAPE = (3, 4, 2)
MASK = np.array([True, False, True])
ENTRIES = {
    "1": 1,
    "-1": -1,
    "np.int64": np.int64(1),
    "0-d array": np.array(1),
    "__index__": Number(),
    ":": slice(None),
    "::-1": slice(None, None, -1),
    "-1:0:-2": slice(-1, 0, -2),
    "2:2": slice(2, 2),
    "None": None,
    "...": ...,
    "True": True,
    "False": False,
    "np.True_": np.True_,
    "[]": [],
    "[1, 0, 1]": [1, 0, 1],
    "range": range(2),
    "tuple": (1, -1, 0),
    "int array": np.array([[0, 1], [-1, 0]]),
    "uint8 array": np.array([1, 0, 1], np.uint8),
    "empty array": np.array([], int),
    "mask": MASK,
    "list mask": [True, False, True],
    "mask of two": np.arange(12).reshape(3, 4) % 3 == 1,
    "empty mask": np.zeros(3, bool),
}


def indices():
    """Each entry alone, all pairs, and triples of the kinds that meet in different ways."""
    yield from (((), "()"), ((1,), "(1,)"), ((..., True), "(..., True)"))
    for name, i in ENTRIES.items():
        yield i, name
    for pair in itertools.product(ENTRIES.items(), repeat=2):
        yield tuple(i for _, i in pair), ", ".join(name for name, _ in pair)
    kinds = ("1", "::-1", "None", "...", "True", "[1, 0, 1]", "0-d array")
    for names in itertools.product(kinds, repeat=3):
        yield tuple(ENTRIES[name] for name in names), ", ".join(names)


def valid(x):
    """The indices that NumPy takes, each with what it reads."""
    found = []
    for index, name in indices():
        try:
            found.append((index, name, x[index]))
        except (IndexError, ValueError):
            continue
    return found


def positions(shape, index):
    return np.arange(np.prod(shape, dtype=int)).reshape(shape)[index]


@pytest.mark.parametrize("shape", [SHAPE, (3,), (3, 3)])
def test_every_index_reads_and_differentiates_what_numpy_reads(shape):
    rng = np.random.default_rng(1)
    x, batch = rng.standard_normal(shape), rng.standard_normal((2, *shape))
    cases = valid(x)
    assert len(cases) > 150
    for index, name, expected in cases:
        w = rng.standard_normal(expected.shape)
        value, pull = nm.vjp(lambda x: x[index], x)  # noqa: B023
        assert np.shape(value) == expected.shape, name
        assert np.array_equal(value, expected), name
        at = positions(shape, index)
        counts = np.bincount(np.ravel(at), np.ravel(w), x.size).reshape(shape)
        scale = np.bincount(np.ravel(at), np.ravel(abs(w)), x.size).max(initial=0.0)
        np.testing.assert_allclose(pull(w)[0], counts, rtol=0, atol=24 * EPS * scale, err_msg=name)
        # second order: the derivative of the sum of w x[index]^3 along ones is 6 w x at the positions
        curved = nm.hvp(lambda x: (w * x[index] ** 3).sum(), (x,), (np.ones(shape),))  # noqa: B023
        bound = 96 * EPS * 6 * scale * abs(x).max()
        np.testing.assert_allclose(curved, 6 * counts * x, rtol=0, atol=bound, err_msg=name)
        many = nm.vmap(lambda x: x[index])(batch)  # noqa: B023
        assert np.array_equal(many, np.stack([b[index] for b in batch])), name


@pytest.mark.parametrize("shape", [SHAPE, (3,)])
def test_what_numpy_refuses_to_index_is_an_index_error(shape):
    x = np.zeros(shape)
    wrong = [
        *[index for index, _ in indices()],
        *[9, -9, [9], (slice(None), 9), (0,) * 4, (..., 0, ...), 1.0, [0.5], np.array([]), "a"],
        *[np.zeros((3, 3), bool), ([0, 1], [0, 1, 2]), (..., [-5])],
    ]
    count = 0
    for index in wrong:
        try:
            x[index]
        except IndexError:
            with pytest.raises(IndexError):
                nm.grad(lambda x: x[index].sum())(x)  # noqa: B023
            count += 1
    assert count > 30


@pytest.mark.parametrize("shape", [SHAPE, (3,)])
def test_functional_updates_write_where_numpy_writes(shape):
    rng = np.random.default_rng(2)
    x, batch = rng.standard_normal(shape), rng.standard_normal((2, *shape))
    for index, name, read in valid(x):
        v = rng.standard_normal(read.shape)
        expected = x.copy()
        expected[index] = v
        assert np.array_equal(nm.at(x)[index].set(v), expected), name
        expected = x.copy()
        np.add.at(expected, positions_tuple(shape, index), v)
        found = nm.at(x)[index].add(v)
        # the sums differ in their order, of at most 24 numbers
        np.testing.assert_allclose(found, expected, rtol=0, atol=24 * EPS * 30, err_msg=name)
        expected = x.copy()
        np.multiply.at(expected, positions_tuple(shape, index), v)
        found = nm.at(x)[index].multiply(v)
        np.testing.assert_allclose(found, expected, rtol=24 * EPS, err_msg=name)
        assert found is not x
        if isinstance(index, tuple) and len(index) == 3:
            continue
        # what was overwritten has derivative 0, all else 1; a value counts where it is the last
        gx, gv = nm.grad(lambda x, v: nm.at(x)[index].set(v).sum(), (0, 1))(x, v)  # noqa: B023
        hit = np.isin(np.arange(x.size), positions(shape, index)).reshape(shape)
        assert np.array_equal(gx, ~hit), name
        assert np.sum(gv) == np.sum(hit), name
        many = nm.vmap(lambda x: nm.at(x)[index].set(v))(batch)  # noqa: B023
        assert np.array_equal(many, np.stack([nm.at(b)[index].set(v) for b in batch])), name


def positions_tuple(shape, index):
    return np.unravel_index(positions(shape, index), shape)


def test_traced_indices_read_what_numpy_reads():
    x, i = np.arange(12.0).reshape(3, 4), np.array([2, -1, 0], np.int8)
    for f in (lambda x, i: x[i], lambda x, i: x[1, i], lambda x, i: x[i, ::-1]):
        expected = np.array([f(x, k) for k in i])
        each = nm.vmap(lambda k, x: f(x * 1.0, k), in_axes=(0, None))  # noqa: B023
        value, pull = nm.vjp(lambda x: each(i, x), x)  # noqa: B023
        assert np.array_equal(value, expected)
        ids = np.array([f(np.arange(12).reshape(3, 4), k) for k in i])
        counts = np.bincount(ids.ravel(), minlength=12).reshape(3, 4)
        assert np.array_equal(pull(np.ones(expected.shape))[0], counts)


# ------------------------------------------------------------------------- cotangents added in place
def reads(rng, x):
    """A random program of reads, whole uses and steps in between, with weights that tell them apart."""
    total = 0.0
    arrays = [x]
    for _ in range(12):
        u = arrays[rng.integers(len(arrays))]
        w = rng.standard_normal()
        kind = rng.integers(8)
        if kind == 0:
            total = total + w * u[rng.integers(len(u)), 1]
        elif kind == 1:
            total = total + w * (u[rng.integers(len(u))] ** 2).sum()
        elif kind == 2:
            total = total + w * np.sin(u).sum()
        elif kind == 3:
            total = total + w * (u[rng.integers(-3, 3, 5)] ** 3).sum()
        elif kind == 4:
            arrays.append(np.tanh(u) * w)
        elif kind == 5:
            arrays.append(u + arrays[rng.integers(len(arrays))])
        elif kind == 6:
            arrays.append(u[::-1])
        else:
            for row in u:
                total = total + w * row[0] * row[-1]
    return total


@pytest.mark.parametrize("seed", range(40))
def test_programs_of_reads_have_the_gradient_of_forward_mode(seed):
    """Reverse mode, plain and with traced cotangents, against forward mode, which adds nothing in place."""
    x = np.random.default_rng(99).standard_normal((3, 4))

    def f(x):
        return reads(np.random.default_rng(seed), x)

    forward = nm.jacfwd(f)(x)
    bound = 1000 * EPS * max(1.0, abs(forward).max())  # some hundred sums and products
    np.testing.assert_allclose(nm.grad(f)(x), forward, rtol=0, atol=bound)
    _, pull = nm.vjp(f, x)
    assert np.array_equal(pull(1.0)[0], pull(1.0)[0])
    traced = nm.vmap(lambda s: pull(s)[0])(np.array([1.0, 2.0]))
    np.testing.assert_allclose(traced[0], forward, rtol=0, atol=bound)
    reverse = nm.jacrev(nm.grad(f))(x)
    other = nm.jacfwd(nm.jacfwd(f))(x)
    bound = 5000 * EPS * max(1.0, abs(other).max())
    np.testing.assert_allclose(reverse, other, rtol=0, atol=bound)


def test_a_seed_is_not_written_into():
    x = np.array([1.0, 2.0, 3.0])
    (_, pull) = nm.vjp(lambda x: (x[0] + x[2], x, 2.0 * x), x)
    seed = (np.float64(5.0), np.array([1.0, 1.0, 1.0]), np.array([1.0, 0.0, 1.0]))
    for _ in range(2):
        assert np.array_equal(pull(seed)[0], [8.0, 1.0, 8.0])
    assert np.array_equal(seed[1], np.ones(3))
    assert np.array_equal(seed[2], [1.0, 0.0, 1.0])


def test_a_cotangent_that_a_rule_has_seen_is_not_written_into():
    seen = []

    def rule(xs, y, g):
        seen.append(g)
        return (g,)

    same = nm.custom_rule(lambda x: x * 1.0, vjp=rule)

    def f(x):
        u = x * 1.0
        total = u[0] * 3.0 + u[1] * 4.0
        return total + (np.array([1.0, 2.0, 5.0]) * same(u)).sum()

    assert np.array_equal(nm.grad(f)(np.zeros(3)), [4.0, 6.0, 5.0])
    assert np.array_equal(seen[0], [1.0, 2.0, 5.0])


def test_one_cotangent_of_two_operands_is_added_to_apart():
    """The rule of a sum hands one array to both operands."""
    w = np.array([1.0, 2.0, 3.0])

    def f(x, y):
        u, v = x * 1.0, y * 1.0
        total = 10.0 * u[0] + 20.0 * v[0] + 30.0 * u[1]
        return total + (w * (u + v)).sum()

    gx, gy = nm.grad(f, (0, 1))(np.zeros(3), np.zeros(3))
    assert np.array_equal(gx, [11.0, 32.0, 3.0])
    assert np.array_equal(gy, [21.0, 2.0, 3.0])


def test_two_pullbacks_return_two_arrays():
    _, pull = nm.vjp(lambda x: x[0] * x[1], np.array([2.0, 3.0]))
    first, second = pull(1.0)[0], pull(1.0)[0]
    first[:] = 7.0
    assert np.array_equal(second, [3.0, 2.0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_entries_that_no_loop_reads_are_structural_zeros(dtype):
    x = np.array([[0.0, 1.0], [4.0, 9.0], [0.0, 16.0]], dtype)
    mask = np.array([[False, True], [True, True], [False, True]])
    with np.errstate(all="ignore"):

        def singular(x):
            return np.sqrt(x) + np.log(x + 1.0)

        expected = nm.grad(lambda x: singular(x)[1].sum())(np.where(x == 0, 1, x).astype(dtype))
        loops = {
            "rows": lambda u: sum(u[k].sum() for k in (1, -2)) / 2,
            "entries": lambda u: u[1, 0] + u[1, 1],
            "iteration": lambda u: list(u)[1].sum(),
            "rows of rows": lambda u: u[1:2][0][0] + u[1][-1],
            "arrays": lambda u: (u[[1, 1]].sum() + u[np.array([[1]])].sum()) / 3,
            "split": lambda u: np.split(u, 3)[1].sum(),
            "a mask first": lambda u: np.where(mask, u, 0.0)[1].sum(),
        }
        for name, loop in loops.items():
            g = nm.grad(lambda x: loop(singular(x)))(x)  # noqa: B023
            assert g.dtype == dtype
            # two or three terms each
            np.testing.assert_allclose(g, expected, rtol=8 * np.finfo(dtype).eps, err_msg=name)

        # a mask that two operands share: the reads of the one make nothing live in the other
        def shared(x):
            u, v = np.sqrt(x), np.sqrt(x + 0.0)
            alive = u[0, 0]
            return alive + np.where(mask, u + v, 0.0).sum()

        g = nm.grad(shared)(x)
        assert np.isinf(g[0, 0])
        assert np.isfinite(g[2, 0])
        assert g[2, 0] == 0
        # one use of everything ends the mask
        g = nm.grad(lambda x: (lambda u: u[1, 0] + u.sum() + u[1, 1])(np.sqrt(x)))(x)
        assert np.isinf(g[[0, 2], 0]).all()


def test_a_read_costs_what_it_reads():
    """Reads of a long vector may not each cost a pass over it: 300 of them take less than 60 passes."""
    n, count = 1_000_000, 300

    def f(x):
        total = 0.0
        for k in range(count):
            total = total + x[k] * x[k]
        return total

    def best(call):
        times = []
        for _ in range(5):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
        return min(times)

    long, short = np.ones(n), np.ones(count)
    gradient = nm.grad(f)
    a_pass = best(lambda: np.zeros(n) + long)
    assert best(lambda: gradient(long)) < best(lambda: gradient(short)) + 60 * a_pass


# --------------------------------------------------------------------------- copies, views, in-place
def test_copies_are_no_views_and_leave_their_array_writable():
    x = np.arange(6.0).reshape(2, 3)
    copies = {
        "flatten": lambda y: y.flatten(),
        "entry": lambda y: y[0, 1],
        "array": lambda y: y[[0]],
        "stack": lambda y: np.stack([y, y]),
        "vstack": lambda y: np.vstack([y, y]),
        "tile": lambda y: np.tile(y, 2),
        "repeat": lambda y: np.repeat(y, 2),
        "sort": lambda y: np.sort(y, axis=None),
        "imag": lambda y: np.imag(y),
    }
    for name, take in copies.items():

        def in_place(x, take=take):
            y = x * 2.0
            z = take(y)
            y += 1.0
            z *= 3.0
            return (z * z).sum() + (y * y).sum()

        def functional(x, take=take):
            y = x * 2.0
            z = take(y) * 3.0
            return (z * z).sum() + ((y + 1.0) ** 2).sum()

        assert np.array_equal(nm.grad(in_place)(x), nm.grad(functional)(x)), name


def test_views_of_an_array_that_is_written_into_are_refused():
    x = np.arange(6.0).reshape(2, 3)
    views = {
        "row": lambda y: y[0],
        "part": lambda y: y[0, ..., 1:],
        "0-d": lambda y: y[0, 1, ...],
        "real": lambda y: y.real,
        "ravel": lambda y: y.ravel(),
        "ravel F": lambda y: y.reshape(-1, order="F"),
        "iteration": lambda y: next(iter(y)),
    }
    for take in views.values():

        def f(x, take=take):
            y = x * 2.0
            z = take(y)
            y += 1.0
            return z.sum() + y.sum()

        with pytest.raises(TraceError, match="has views"):
            nm.grad(f)(x)

    def stacked(x):
        z = (x * 2.0)[0]
        np.stack([z, z])
        z += 1.0  # still a view
        return z.sum()

    with pytest.raises(TraceError, match="a view of another"):
        nm.grad(stacked)(x)


def test_imaginary_part_of_a_complex_array_is_a_view():
    def f(x):
        y = x * (1.0 + 2.0j)
        z = y.imag
        y += 1.0
        return (z + y.real).sum()

    with pytest.raises(TraceError, match="has views"):
        nm.grad(f)(np.ones(2))


def test_iteration_reads_a_row_when_it_is_asked_for():
    x = np.arange(6.0).reshape(3, 2)
    assert np.array_equal(nm.grad(lambda x: next(iter(x)).sum())(x), [[1, 1], [0, 0], [0, 0]])
    a = nm.grad(lambda x: (lambda a, b, c: (a * b * c).sum())(*x))(x)
    np.testing.assert_allclose(a[0], x[1] * x[2], rtol=4 * EPS)


# ------------------------------------------------------------------------------- functional updates
@pytest.mark.parametrize("kind", ["set", "add", "multiply"])
def test_updates_that_would_cut_a_value_are_refused_traced_and_plain(kind):
    def f(v, x):
        return getattr(nm.at(x)[0], kind)(v).sum() * 1.0

    with np.errstate(all="ignore"):
        for x in (np.zeros(3, int), np.zeros(3, np.uint8), np.zeros(3, bool)):
            text = (
                rf"at\(x\)\[i\].{kind}: `v` must be of a kind that {x.dtype} can hold, got float64"
            )
            for run in (
                lambda x=x: f(2.5, x),
                lambda x=x: f(np.float64(2.5), x),
                lambda x=x: nm.value_and_grad(f)(2.5, x),
                lambda x=x: nm.jvp(lambda v: f(v, x), (2.5,), (1.0,)),
                lambda x=x: nm.vmap(lambda v: f(v, x))(np.array([2.5, 1.0])),
            ):
                with pytest.raises(DtypeError, match=text) as e:
                    run()
                assert "x.astype(float)" in str(e.value)
        with pytest.raises(DtypeError, match="got complex128"):
            f(1j, np.zeros(3))
        with pytest.raises(DtypeError, match="got int64"):
            f(2, np.zeros(3, bool))
    assert nm.value_and_grad(f)(2.5, np.ones(3, int).astype(float))[0] == {
        "set": 4.5, "add": 5.5, "multiply": 4.5
    }[kind]  # fmt: skip


@pytest.mark.parametrize(
    "dtype", [bool, np.int8, np.uint8, np.int64, np.float32, np.float64, complex]
)
def test_updates_keep_the_dtype(dtype):
    x = np.array([1, 0, 1]).astype(dtype)
    v = np.array([1, 1]).astype(dtype)
    for kind, ufunc in (("add", np.add), ("multiply", np.multiply)):
        expected = x.copy()
        ufunc.at(expected, [0, 0], v)
        found = getattr(nm.at(x)[[0, 0]], kind)(v)
        assert found.dtype == dtype
        assert np.array_equal(found, expected), kind
        assert getattr(nm.at(x)[[]], kind)(1.0 if dtype in (float, complex) else True) is not x
    assert nm.at(x)[0].set(True).dtype == dtype
    assert nm.at(x)[0].set(v[0]).dtype == dtype
    with pytest.raises(OverflowError):
        nm.at(np.zeros(2, np.uint8))[0].set(300)


# -------------------------------------------------------------------------------- NumPy's functions
FUNCTIONS = {
    "reshape F": lambda x: np.reshape(x, (4, 3), order="F"),
    "reshape method F": lambda x: x.reshape(2, 6, order="F"),
    "reshape -1 F": lambda x: x.reshape((-1, 2), order="F"),
    "ravel F": lambda x: np.ravel(x, order="F"),
    "ravel method F": lambda x: x.ravel("F"),
    "flatten F": lambda x: x.flatten("F"),
    "flatten": lambda x: x.flatten(),
    "take wrap": lambda x: np.take(x, [5, -1, -9, 2], mode="wrap"),
    "take clip": lambda x: np.take(x, [[5, -1], [-9, 2]], axis=1, mode="clip"),
    "take empty": lambda x: np.take(x, [], axis=0),
    "edge": lambda x: np.pad(x, ((1, 2), (0, 3)), mode="edge"),
    "reflect": lambda x: np.pad(x, ((1, 2), (7, 3)), mode="reflect"),
    "symmetric": lambda x: np.pad(x, 2, mode="symmetric"),
    "wrap": lambda x: np.pad(x, ((5, 2), (0, 3)), mode="wrap"),
    "no width": lambda x: np.pad(x, 0, mode="edge"),
    "constant": lambda x: np.pad(x, 1, constant_values=2.0),
    "repeat": lambda x: np.repeat(x, 3),
    "repeat axis": lambda x: x.repeat(2, axis=0),
    "repeat one": lambda x: np.repeat(x, [2], axis=-1),
    "repeat none": lambda x: np.repeat(x, 0, axis=1),
    "repeat each": lambda x: np.repeat(x, [2, 0, 3], axis=0),
    "split": lambda x: np.concatenate([p * (k + 1) for k, p in enumerate(np.split(x, 2, axis=1))]),
    "array_split": lambda x: np.concatenate([p for p in np.array_split(x, 3, axis=1)], axis=1),
    "split at": lambda x: np.concatenate(np.split(x, [1, -1], axis=1)[::2], axis=1),
}


def test_take_along_axis_broadcasts_as_numpy():
    for shape, place, axis in (((0, 4), (1, 2), 1), ((1, 4), (3, 2), 1), ((3, 0), (2, 1), 0)):
        x, i = np.ones(shape), np.zeros(place, int)
        y, pull = nm.vjp(lambda x, i=i, axis=axis: np.take_along_axis(x, i, axis), x)
        assert y.shape == np.take_along_axis(x, i, axis).shape
        assert pull(np.ones(y.shape))[0].sum() == y.size
    for call in (np.take_along_axis, nm.grad(lambda x, *a: np.take_along_axis(x, *a).sum())):
        with pytest.raises(IndexError):
            call(np.ones((3, 4)), np.zeros((2, 2), int), 1)


def test_triangles_of_lists_are_numpys():
    rows = [[1.0, 2.0], [3.0, 4.0]]
    np.testing.assert_array_equal(nm.numpy.tril(rows, -1), np.tril(rows, -1))
    np.testing.assert_array_equal(nm.numpy.triu(rows), np.triu(rows))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_move_numbers_agree_with_numpy(name):
    f = FUNCTIONS[name]
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 4))
    expected = f(x)
    w = rng.standard_normal(expected.shape)
    value, pull = nm.vjp(f, x)
    assert np.array_equal(value, expected)
    # f is linear up to a constant: one difference an entry is exact up to rounding
    unit = np.eye(x.size).reshape(-1, *x.shape)
    slope = [np.sum(w * (f(u) - f(np.zeros(x.shape)))) for u in unit]
    bound = 64 * EPS * abs(w).sum()
    np.testing.assert_allclose(pull(w)[0].ravel(), slope, rtol=0, atol=bound)
    batch = rng.standard_normal((2, 3, 4))
    assert np.array_equal(nm.vmap(f)(batch), np.stack([f(b) for b in batch]))
    _, tangent = nm.jvp(f, (x,), (batch[0],))
    zero = f(np.zeros(x.shape))
    assert np.array_equal(tangent, f(batch[0]) - zero)


def test_repeats_and_pads_share_no_memory_with_their_operand():
    x = np.arange(3.0)
    for y in (nm.numpy.repeat(x, 1), nm.numpy.pad(x, 0, mode="edge"), nm.numpy.repeat(x[:1], 2)):
        assert not np.shares_memory(x, y)
        assert y.flags.writeable


def test_unsupported_choices_say_what_to_write():
    x = np.ones((2, 3))
    for f, error, text in (
        (lambda x: x.ravel("K"), DomainError, r"reshape: `order` must be one of 'C', 'F', got 'K'"),
        (lambda x: np.take(x, 0, mode="near"), DomainError, "take: `mode` must be one of 'raise'"),
        (lambda x: np.take(x, 0.5), DtypeError, r"take: `indices` must be integers, got float64"),
        (
            lambda x: np.pad(x, 1, mode="mirror"),
            DomainError,
            "pad: `mode` must be one of 'constant'",
        ),
        (lambda x: np.repeat(x, -1), ValueError, "may not contain negative"),
        (lambda x: np.take(x, 6), IndexError, "index 6 is out of bounds for axis 0 with size 6"),
    ):
        with pytest.raises(error, match=text):
            nm.grad(lambda x: f(x).sum())(x)  # noqa: B023
