"""Movement and indices in a Plan: every rule equals the eager operation, bit for bit where nothing is computed."""

import itertools
import math

import numpy as np
import pytest
import scipy.sparse
from plans import kinds_of, lowered, run_all

import nnmath_core as nm
from nnmath_core._ext._tree import flatten
from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.device.sparse import Pattern
from nnmath_core.program.lower_cpu import lower

NUMBERS = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16"]
FAST = ["f4", "f8", "c8", "c16", "i4", "i8", "u1", "?"]


def draw(rng, shape, dtype):
    """Entries over the range of the type."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    x = rng.standard_normal(shape)
    return np.asarray(x + 1j * rng.standard_normal(shape) if dtype.kind == "c" else x).astype(dtype)


def check(f, *args, host=False, rtol=0.0, threads=4):
    """Compiled equals eager on any number of threads; without Python unless ``host``."""
    with np.errstate(all="ignore"):
        want, _ = flatten(f(*args))
    plan = lowered(f, *args)
    made = lower(plan.program, threads=threads)
    leaves, _ = flatten((args, {}))
    for n in (1, *(way * n for n in range(2, threads + 1) for way in (1, -1))):
        got = made.executable.run_split(leaves, n)
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            a, b = np.asarray(a), np.asarray(b)
            assert a.dtype == b.dtype
            assert a.shape == b.shape
            if rtol:
                scale = np.max(np.abs(b[np.isfinite(b)]), initial=0)
                np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale)
            else:
                assert a.tobytes() == b.tobytes(), (a, b)
    if not host:
        assert "host" not in [step.kind for step in plan.steps]


def only(f, *args):
    """The kinds of instructions, without the copies of results."""
    return [k for k in kinds_of(f, *args) if k not in ("copy", "machine")]


# ------------------------------------------------------------------------------------------- views
VIEWS = [
    lambda x: x.reshape(6, 4),
    lambda x: x.reshape(-1),
    lambda x: x.T.reshape(-1),
    lambda x: x[::-1, :, ::-1].reshape(8, 3),
    lambda x: x.transpose(1, 2, 0),
    lambda x: np.swapaxes(x, 0, 2),
    lambda x: x[None, ..., None],
    lambda x: np.flip(x),
    lambda x: np.flip(x, 1),
    lambda x: x[0],
    lambda x: x[-1, 1],
    lambda x: x[1, 2, 3],
    lambda x: x[:, ::-2],
    lambda x: x[..., 1:3],
    lambda x: x[:, -1:0:-1, None, 2],
    lambda x: x[1:1],
    lambda x: x[:, 5:],
    lambda x: np.rot90(x),
    lambda x: np.broadcast_to(x, (3, 2, 3, 4)),
    lambda x: np.broadcast_to(x[:, :1], (2, 5, 4)).reshape(10, 4),
    lambda x: np.diagonal(x, 0, 1, 2),
    lambda x: np.diagonal(x, 2, 0, 2),
    lambda x: np.diagonal(x, -1, 1, 2),
    lambda x: np.diagonal(x, 7, 1, 2),
    lambda x: np.expand_dims(x, (0, -1)),
    lambda x: np.squeeze(x[:, :1]),
    lambda x: np.moveaxis(x, 0, -1)[::-1].reshape(2, -1),
    lambda x: (x, x.T, x[0]),
]


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("k", range(len(VIEWS)))
def test_views_cost_nothing_but_the_copy_of_the_result(k, dtype):
    x = draw(np.random.default_rng(k), (2, 3, 4), dtype)
    check(VIEWS[k], x)
    assert only(VIEWS[k], x) == []


def test_views_between_operations_are_not_copied():
    x = np.arange(24.0).reshape(4, 6)
    assert set(kinds_of(lambda x: np.exp(x[:, ::2]).T * 2, x)) == {"machine"}
    assert kinds_of(lambda x: np.sum(np.broadcast_to(x[:, None], (4, 3, 6)), axis=1), x) == [
        "machine"
    ]


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", "i4", "?"])
def test_parts_of_complex_numbers_are_views(dtype):
    x = draw(np.random.default_rng(0), (3, 4), dtype)
    for f in (np.real, np.imag, lambda x: x.real[::-1].T, lambda x: np.real(x) + np.imag(x)):
        check(f, x)
    check(np.real, x[0, 0])


def test_scalars_empty_arrays_and_python_numbers():
    for f, args in [
        (lambda x: np.reshape(x, (1, 1)), (2.5,)),
        (lambda x: np.broadcast_to(x, (3, 2)), (2,)),
        (lambda x: np.reshape(x, ()), (np.ones((1, 1), "f4"),)),
        (lambda x: np.transpose(x), (np.float32(3),)),
        (lambda x: x.reshape(0, 5), (np.ones((2, 0)),)),
        (lambda x: x[::-1].T, (np.ones((0, 3)),)),
        (lambda x: np.concatenate([x, x]), (np.ones((0, 3), "f4"),)),
        (lambda x: np.pad(x, 1), (np.ones((0, 2)),)),
        (lambda x: np.repeat(x, 3), (np.float64(2),)),
        (lambda x: np.repeat(x, 0, axis=0), (np.ones((2, 3)),)),
        (lambda x: np.take(x, np.zeros(0, int)), (np.ones(3),)),
        (lambda x: np.cumsum(x), (np.ones(0, "f4"),)),
    ]:
        check(f, *args)


@pytest.mark.parametrize("dtype", ["g", "G"])
def test_long_numbers_are_copied_or_left_to_numpy(dtype):
    x = (np.arange(24).reshape(2, 3, 4) / np.longdouble(3)).astype(dtype)
    for f in (
        lambda x: x.T,
        lambda x: x[::-1].reshape(-1),
        lambda x: np.concatenate([x, x.T.reshape(2, 3, 4)]),
        lambda x: np.take(x, [1, 0], 2),
    ):
        for got in run_all(f, x):
            assert got.dtype == x.dtype
            np.testing.assert_array_equal(got, f(x))


# ------------------------------------------------------------------------------------------- casts
@pytest.mark.parametrize("source", [t for t in NUMBERS if t != "f2"])
@pytest.mark.parametrize("target", [t for t in NUMBERS if t != "f2"])
def test_casts(source, target):
    rng = np.random.default_rng(1)
    x = (
        draw(rng, (5, 7), source)
        if np.dtype(source).kind != "f"
        else (rng.random((5, 7)) * 100).astype(source)
    )
    if np.dtype(source).kind == "c":
        x = abs(x.real) * 50 + 1j * x.imag
        x = x.astype(source)
        if np.dtype(target).kind != "c":
            return  # the package takes the real part first, and warns of nothing
    for f in (lambda x: nm.numpy.astype(x, target), lambda x: nm.numpy.astype(x.T[::-1], target)):
        check(f, x)


def test_complex_and_real_numbers_meet_without_python():
    rng = np.random.default_rng(19)
    for a, b in itertools.product(["c8", "c16"], ["?", "i2", "i8", "f4", "f8", "c8", "c16"]):
        x, y = draw(rng, (3, 4), a), draw(rng, (3, 4), b)
        # sums of at most 9 products, each of which rounds three times, in the lower precision
        rtol = 32 * max(np.finfo(t).eps for t in (a, b) if t[0] in "fc")
        check(lambda x, y: x * y + y.T[:3, :3].sum() * x[::-1], x, y, rtol=rtol)
        check(lambda x, y: np.where(y.real > 0, x, y), x, y)
        check(lambda x, y: x @ y.T, x, y, rtol=rtol)
    check(lambda x: np.exp(1j * x), draw(rng, (5,), "f8"), rtol=1e-15)
    for dtype in ("?", "i1", "i4", "u8", "c8", "c16"):
        x, y = draw(rng, (3, 4), dtype), draw(rng, (4,), dtype)
        check(lambda x, y: np.where(np.arange(4) % 2 > 0, x, y), x, y, host=dtype == "i1")


# ------------------------------------------------------------------------------------------- pieces
@pytest.mark.parametrize("dtype", NUMBERS)
def test_pieces(dtype):
    rng = np.random.default_rng(2)
    x, y = draw(rng, (3, 4), dtype), draw(rng, (3, 2), dtype)
    for f in (
        lambda x, y: np.concatenate([x, y], axis=1),
        lambda x, y: np.concatenate([x.T, y.T[::-1], x.T[:0]]),
        lambda x, y: np.concatenate([np.broadcast_to(x[:1], (5, 4)), x]),
        lambda x, y: np.stack([x, x[::-1]], axis=-1),
        lambda x, y: np.hstack([y, x[:, ::-2], y]),
        lambda x, y: np.concatenate([x[:0], x]),
        lambda x, y: np.repeat(x, 3, axis=1),
        lambda x, y: np.repeat(y.T, 2, axis=0),
        lambda x, y: np.tile(x, (2, 3)),
        lambda x, y: np.roll(x, 1, axis=0),
        lambda x, y: np.roll(x, (1, -1), axis=(0, 1)),
    ):
        check(f, x, y)
    for f in (
        lambda x, y: np.pad(x, 1),
        lambda x, y: np.pad(x.T, ((0, 2), (3, 0))),
        lambda x, y: np.pad(y[::-1], ((0, 0), (1, 0))),
        lambda x, y: np.diag(x[0]),
        lambda x, y: np.diag(x[:, 0], 2),
        lambda x, y: np.diag(x[0, ::-1], -1),
    ):
        check(f, x, y)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_transposed_copies_of_all_lengths_around_the_blocks(dtype):
    rng = np.random.default_rng(4)
    for rows, cols in itertools.product([7, 8, 17], [3, 4, 5, 13]):
        check(lambda x: x.T.reshape(-1), draw(rng, (rows, cols), dtype))
    x = draw(rng, (3, 9, 5, 10), dtype)
    for axes in itertools.permutations(range(4)):
        check(lambda x, a=axes: np.transpose(x[:, ::-1, 1:], a).reshape(-1), x)


@pytest.mark.parametrize("dtype", ["f4", "f8", "?"])
def test_pieces_of_pieces_are_made_where_they_lie(dtype):
    rng = np.random.default_rng(5)
    x, y = draw(rng, (3, 4), dtype), draw(rng, (3, 2), dtype)

    def wide(x, y):
        return np.concatenate([x, y[:, ::-1]], axis=1)

    def nested(x, y):
        return np.concatenate([wide(x, y), wide(x[::-1], y), np.concatenate([y, x], axis=1)[:2]])

    def deep(x, y):
        return np.concatenate([nested(x, y), nested(x[:, ::-1], y)])

    for f, count in ((nested, 4), (deep, 8)):  # the part of a piece is a piece still
        check(f, x, y)
        assert kinds_of(f, x, y) == ["place"] * count
    for f in (
        lambda x, y: np.concatenate([wide(x, y), wide(x, y)]),  # a piece in two places
        lambda x, y: (np.concatenate([wide(x, y), wide(x[::-1], y)]), wide(x, y)),  # and a result
        lambda x, y: np.concatenate([wide(x, y), wide(x[::-1], y)], axis=1),
        lambda x, y: np.concatenate([wide(x, y), wide(x, y)[:1]]),
        lambda x, y: np.concatenate([wide(x, y).T, wide(x[::-1], y).T]),
        lambda x, y: np.concatenate([wide(x, y), wide(x[::-1], y)])[1:-1, ::2].T,
        lambda x, y: np.stack([wide(x, y), wide(x[::-1], y)]),
        lambda x, y: np.pad(wide(x, y), ((1, 0), (0, 0))),
    ):
        check(f, x, y)


def test_pieces_are_not_made_in_memory_that_is_still_read():
    f = nm.compile(
        lambda x: np.concatenate(
            [
                np.concatenate([x[2:, 2:], x[2:, :2]], axis=1),
                np.concatenate([x[:2, 2:], x[:2, :2]], axis=1),
            ]
        ),
        donate_argnums=0,
    )
    x = np.arange(16.0).reshape(4, 4)
    want = np.block([[x[2:, 2:], x[2:, :2]], [x[:2, 2:], x[:2, :2]]])
    assert np.array_equal(f(x.copy()), want)


def test_concatenation_promotes():
    rng = np.random.default_rng(3)
    for a, b in itertools.product(["?", "i4", "f4", "f8", "c8", "c16"], repeat=2):
        x, y = draw(rng, (2, 3), a), draw(rng, (4, 3), b)
        if "c" in a + b or "f" in a + b or a == b:
            check(lambda x, y: np.concatenate([x, y]), x, y)


INDICES = [
    (slice(1, 4, 2), slice(None)),
    (2, slice(None, None, -1)),
    (slice(None), None, -1),
    (slice(3, 1),),
    (..., 0),
    (-1, -2),
    (slice(4, 0, -3), slice(None, None, 2)),
    (None, ..., slice(1, None)),
    (slice(1, 4), slice(2, 5)),
    (0,),
    (slice(None), slice(4, None, -4)),
]


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("k", range(len(INDICES)))
def test_transposes_of_slices(k, dtype):
    index, shape = INDICES[k], (5, 6)
    g = draw(np.random.default_rng(k), np.zeros(shape)[index].shape, dtype)
    unslice = REGISTRY["unslice"]
    check(lambda g: unslice(g, index=index, shape=shape), g)
    if g.ndim:
        check(lambda g: unslice(g[::-1], index=index, shape=shape), g)
    if g.size:
        check(
            lambda v: unslice(np.broadcast_to(v, g.shape), index=index, shape=shape),
            g.reshape(-1)[0],
        )


def test_random_slices_of_many_axes_and_their_transposes():
    rng = np.random.default_rng(4)
    for _ in range(60):
        shape = tuple(int(n) for n in rng.integers(1, 5, rng.integers(1, 5)))
        index = []
        for n in shape:
            kind = rng.integers(4)
            if kind == 0:
                index.append(int(rng.integers(-n, n)))
            elif kind == 1:
                index.append(slice(None))
            else:
                a, b = (
                    int(v) if rng.random() < 0.7 else None for v in rng.integers(-n - 1, n + 2, 2)
                )
                index.append(slice(a, b, int(rng.choice([-3, -2, -1, 1, 2, 3]))))
        index = tuple(index[: rng.integers(0, len(shape) + 1)])
        x = draw(rng, shape, "f8")
        check(lambda x, index=index: x[index], x)
        g = draw(rng, x[index].shape, "f4")
        check(
            lambda g, index=index, shape=shape: REGISTRY["unslice"](g, index=index, shape=shape),
            np.asarray(g),
        )


# ------------------------------------------------------------------------------------------- indices
@pytest.mark.parametrize("dtype", NUMBERS)
def test_take(dtype):
    rng = np.random.default_rng(5)
    x = draw(rng, (4, 5, 6), dtype)
    for axis, n in enumerate(x.shape):
        for i in (
            rng.integers(-n, n, (3, 2)),
            rng.integers(-n, n, 70),
            np.int32(n - 1),
            rng.integers(0, n, 9, dtype="u1"),
        ):
            check(lambda x, i, axis=axis: np.take(x, i, axis), x, i)
            check(lambda x, i, axis=axis: np.take(x[::-1, :, ::-1], i, axis), x, i)
    check(lambda x, i: x.T[:, i], x, np.array([0, -1, 3]))
    check(lambda x, i, j: x[i, :, j], x, np.array([0, -1, 3]), np.array([5, -6, 0]))
    check(lambda x: x[[2, 0]], x)
    check(lambda x, i: np.broadcast_to(x[:1], (4, 5, 6))[i], x, np.array([3, 1]))


@pytest.mark.parametrize("dtype", NUMBERS)
def test_take_along_axis(dtype):
    rng = np.random.default_rng(6)
    x = draw(rng, (4, 5, 6), dtype)
    for axis, n in enumerate(x.shape):
        shape = list(x.shape)
        shape[axis] = 7
        i = rng.integers(-n, n, shape)
        check(lambda x, i, axis=axis: np.take_along_axis(x, i, axis), x, i)
        check(lambda x, i, axis=axis: np.take_along_axis(x[:, ::-1], i[:, ::-1], axis), x, i)
        check(
            lambda x, i, axis=axis: np.take_along_axis(x, np.argsort(x, axis), axis),
            x.real.astype("f4"),
            i,
        )
    check(lambda x, i: np.take_along_axis(x, i, 1), x, rng.integers(-5, 5, (1, 3, 1)))


@pytest.mark.parametrize("dtype", [t for t in NUMBERS if t != "f2"])
def test_scatter_add_in_the_order_of_the_values(dtype):
    rng = np.random.default_rng(7)
    add = REGISTRY["scatter_add"]
    for lead, trail, n, k in [
        ((), (), 5, 40),
        ((3,), (), 4, 7),
        ((), (9,), 5, 6),
        ((), (130,), 3, 8),
        ((2, 3), (2, 2), 4, 5),
        ((7,), (3,), 1, 2),
    ]:
        g = draw(rng, (*lead, k, *trail), dtype)
        i = rng.integers(-n, n, k)
        shape, axis = (*lead, n, *trail), len(lead)
        f = lambda g, i, shape=shape, axis=axis: add(g, i, axis=axis, shape=shape)  # noqa: E731
        check(f, g, i)
        check(f, g[..., ::-1] if trail else g, i.astype("i2"))
        check(
            lambda g, i, shape=shape, axis=axis: add(
                g, i.reshape(-1, 1)[:, 0], axis=axis, shape=shape
            ),
            g,
            i,
        )


@pytest.mark.parametrize("dtype", [t for t in NUMBERS if t != "f2"])
def test_add_along_axis(dtype):
    rng = np.random.default_rng(8)
    add = REGISTRY["add_along_axis"]
    for shape, axis, k in [
        ((4, 5), 1, 9),
        ((4, 5), 0, 9),
        ((5,), 0, 12),
        ((2, 3, 70), 1, 4),
        ((1, 6, 1), 1, 20),
        ((9, 2), 1, 5),
    ]:
        own = list(shape)
        own[axis] = k
        g, i = draw(rng, own, dtype), rng.integers(-shape[axis], shape[axis], own)
        check(lambda g, i, shape=shape, axis=axis: add(g, i, axis=axis, shape=shape), g, i)
        check(
            lambda g, i, shape=shape, axis=axis: add(g[::-1], i[::-1], axis=axis, shape=shape), g, i
        )


def test_last_writer():
    p = REGISTRY["last_writer"]
    check(lambda i: p(i, length=5), np.array([1, 4, 1, 0, -1, -4]))
    check(lambda i: p(i, length=2), np.zeros(0, int))


OUTSIDE = [
    lambda x, i: np.take(x, i, 0),
    lambda x, i: np.take_along_axis(x, i[:, None], 0),
    lambda x, i: REGISTRY["scatter_add"](x[: i.shape[0]], i, axis=0, shape=(4, 3)),
    lambda x, i: REGISTRY["add_along_axis"](x[: i.shape[0], :1], i[:, None], axis=0, shape=(4, 1)),
    lambda x, i: REGISTRY["last_writer"](i, length=4),
    lambda x, i: np.take(x, i, 0)[:, :0],
    lambda x, i: np.take(x[:0], i, 0),
]


@pytest.mark.parametrize("k", range(len(OUTSIDE)))
@pytest.mark.parametrize("bad", [4, -5, 2**62, -(2**63)])
def test_indices_outside_are_errors_as_in_numpy(k, bad):
    x, i = np.arange(12.0).reshape(4, 3), np.array([1, 0, bad])
    plan = lowered(OUTSIDE[k], x, np.array([0, 1, 0])) if k != 6 else lowered(OUTSIDE[k], x, i)
    if k == 5:  # nobody reads what was taken
        return
    with pytest.raises(IndexError, match="out of bounds"):
        plan(x, i)
    if k != 6:
        plan(x, np.array([0, 1, 0]))  # the next run is as good as any


# ------------------------------------------------------------------------------------------- order
ORDERED = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


def ties(rng, shape, dtype):
    """Entries with ties and, of floats, both zeros, infinities and NaN."""
    x = rng.integers(-3, 4, shape) if np.dtype(dtype).kind != "u" else rng.integers(0, 7, shape)
    if np.dtype(dtype).kind != "f":
        return x.astype(dtype)
    x = x / np.asarray(2.0)
    x[rng.random(shape) < 0.1] = np.nan
    x[rng.random(shape) < 0.1] = -0.0
    x[rng.random(shape) < 0.05] = np.inf
    x[rng.random(shape) < 0.05] = -np.inf
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", ORDERED)
@pytest.mark.parametrize(
    "shape", [(5,), (3, 40), (2, 13, 4), (1, 300), (7, 1), (12,), (13,), (24, 2)]
)
def test_sorting_and_extremes(shape, dtype):
    rng = np.random.default_rng(9)
    for draw_ in (ties, draw):
        x = draw_(rng, shape, dtype)
        for axis in range(len(shape)):
            check(lambda x, axis=axis: nm.numpy.argsort(x, axis), x)
            check(lambda x, axis=axis: np.argmax(x, axis), x)
            check(lambda x, axis=axis: np.argmin(x[::-1], axis), x)
        check(lambda x: np.argmax(x), x)
        if dtype != "?":
            check(
                lambda x: np.sort(x), x, rtol=1e-12
            )  # NumPy's own sort has the zeros in another order


def test_a_sort_of_many_is_stable():
    x = np.random.default_rng(10).integers(0, 50, 5000).astype("f4")
    check(lambda x: nm.numpy.argsort(x), x, threads=2)


@pytest.mark.parametrize("dtype", ORDERED)
@pytest.mark.parametrize("side", ["left", "right"])
def test_searchsorted(dtype, side):
    rng = np.random.default_rng(11)
    for n in (0, 1, 2, 9, 100):
        a, v = np.sort(ties(rng, (n,), dtype)), ties(rng, (3, 50), dtype)
        check(lambda a, v: np.searchsorted(a, v, side), a, v)
    if dtype in ("f4", "i4", "u1"):
        check(
            lambda a, v: np.searchsorted(a, v, side),
            np.sort(ties(rng, (9,), "f8")),
            ties(rng, (9,), dtype),
        )
        p = REGISTRY["searchsorted"]
        check(
            lambda a, v: p(a, v, side=side),
            np.sort(ties(rng, (2, 3, 9), dtype)),
            ties(rng, (2, 3, 4, 2), dtype),
        )


# ------------------------------------------------------------------------------------------- scans
@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "i8", "u8", "f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 40), (4, 1), (1, 6)])
def test_sums_and_products_along_axes_have_the_bits_of_numpy(shape, dtype):
    x = draw(np.random.default_rng(12), shape, dtype)
    for axis, reverse in itertools.product(range(len(shape)), (False, True)):
        check(lambda x, axis=axis, r=reverse: REGISTRY["cumsum"](x, axis=axis, reverse=r), x)
        # NumPy multiplies complex numbers with fused operations on some machines: each product rounds three times
        rtol = 3 * shape[axis] * np.finfo(dtype).eps if "c" in dtype else 0
        check(lambda x, axis=axis: np.cumprod(x[::-1], axis), x, rtol=rtol)


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
def test_recurrences(dtype):
    rng = np.random.default_rng(13)
    for shape in [(9,), (3, 6), (2, 2, 5), (20, 3), (4, 1)]:
        x, c = draw(rng, shape, dtype), draw(rng, shape, dtype)
        for reverse in (False, True):
            # each step rounds twice, and passes its error on times c; 64 is far above the growth of these
            check(
                lambda x, c, r=reverse: REGISTRY["recurrence"](x, c, reverse=r),
                x,
                c,
                rtol=64 * np.finfo(dtype).eps,
            )


@pytest.mark.parametrize("dtype", ["i8", "f4", "f8"])
def test_products_of_the_others(dtype):
    rng = np.random.default_rng(14)
    p = REGISTRY["others"]
    rtol = 0 if dtype == "i8" else 16 * np.finfo(dtype).eps  # products of at most 12 factors
    for shape, axis in [
        ((5,), (0,)),
        ((3, 4), (1,)),
        ((3, 4), (0,)),
        ((2, 3, 2), (0, 2)),
        ((3,), ()),
        ((2, 0), (1,)),
    ]:
        x = rng.integers(-2, 3, shape).astype(dtype) if dtype == "i8" else draw(rng, shape, dtype)
        check(lambda x, axis=axis: p(x, axis=axis), x, rtol=rtol)
    if dtype != "i8":
        for x in (
            [0.0, 2, 3],
            [0, 2, 0],
            [1e300, 1e300, 1e-300, 1e-300],
            [np.nan, 1, 2],
            [np.inf, 0, 1],
        ):
            with np.errstate(over="ignore"):
                check(lambda x: p(x, axis=(0,)), np.array(x).astype(dtype), rtol=rtol)


# ------------------------------------------------------------------------------------------- windows
WINDOWS = [
    ((2, 7, 3), (3,), (1,), (1,)),
    ((2, 9, 1), (2,), (2,), (3,)),
    ((1, 6, 7, 2), (2, 3), (2, 1), (1, 2)),
    ((3, 5, 5, 1), (2, 2), (2, 2), (1, 1)),
    ((1, 4, 5, 4, 2), (2, 2, 2), (1, 2, 1), (1, 1, 2)),
    ((0, 4, 2), (2,), (1,), (1,)),
    ((1, 8, 8, 2), (6, 6), (1, 1), (1, 1)),
    ((2, 2, 1), (3,), (1,), (1,)),
]


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "?", "c8", "c16", "i2", "u8"])
@pytest.mark.parametrize("k", range(len(WINDOWS)))
def test_windows(k, dtype):
    shape, window, stride, dilation = WINDOWS[k]
    rng = np.random.default_rng(k)
    p = {"window": window, "stride": stride, "dilation": dilation}
    x = ties(rng, shape, dtype) if dtype in ("f4", "f8") else draw(rng, shape, dtype)
    windows, back, top, winners = (
        REGISTRY[n] for n in ("windows", "add_windows", "max_windows", "winners")
    )
    check(lambda x: windows(x, **p), x)
    check(lambda x: windows(x[:, ::-1], **p), x)
    g = windows(draw(rng, shape, dtype), **p)
    check(lambda g: back(g, size=shape[1:-1], **p), g)
    if dtype[0] != "c":
        check(lambda x: top(x, **p), x)
        check(lambda x, y: winners(x, y, **p), x, top(x, **p))
    if dtype in ("f4", "f8"):
        m = rng.random(g.shape) < 0.5
        one = draw(rng, g.shape[1:], dtype)
        eps = math.prod(window) * np.finfo(dtype).eps  # sums of at most that many terms
        check(lambda g, m: REGISTRY["share_windows"](g, m, size=shape[1:-1], **p), one, m, rtol=eps)
        check(
            lambda x, m: REGISTRY["pick_windows"](x, m, **p), draw(rng, shape, dtype), m, rtol=eps
        )
        check(
            lambda g, m: REGISTRY["share_windows"](g, m[::-1], size=shape[1:-1], **p),
            one,
            m,
            rtol=eps,
        )


# ------------------------------------------------------------------------------------------- random, sparse
def test_random_numbers_have_the_bits_of_the_eager_functions():
    rng = np.random.default_rng(15)
    for lead, count in itertools.product([(), (3,), (2, 3)], [0, 1, 3, 4, 5, 1000]):
        keys = rng.integers(0, 2**32, (*lead, 2), dtype="u4")
        check(lambda k, c=count: REGISTRY["random_words"](k, count=c, purpose=1), keys)
        for name, dtype in itertools.product(("random_uniform", "random_normal"), ("f4", "f8")):
            check(
                lambda k, c=count, n=name, d=dtype: REGISTRY[n](k, count=c, dtype=np.dtype(d)), keys
            )
    check(
        lambda c, k: REGISTRY["philox"](c, k),
        rng.integers(0, 2**32, (3, 5, 4), dtype="u4"),
        rng.integers(0, 2**32, (3, 5, 2), dtype="u4"),
    )


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
def test_sparse_products(dtype):
    rng = np.random.default_rng(16)
    a = scipy.sparse.random_array((30, 20), density=0.2, rng=rng, format="csr", dtype="f8").astype(
        dtype
    )
    rtol = 40 * np.finfo(dtype).eps  # sums of at most 30 terms
    pattern = Pattern(a.indices, a.indptr, a.shape)
    spmm, sddmm = REGISTRY["spmm"], REGISTRY["sddmm"]
    for n in ((7,), (), (1,)):
        x, y = draw(rng, (20, *n), dtype), draw(rng, (30, *n), dtype)
        check(lambda d, x: spmm(d, x, pattern=pattern, transposed=False), a.data, x, rtol=rtol)
        check(lambda d, y: spmm(d, y, pattern=pattern, transposed=True), a.data, y, rtol=rtol)
        check(lambda y, x: sddmm(y, x, pattern=pattern), y, x, rtol=rtol)
        check(
            lambda d, x: spmm(d, x[::-1], pattern=pattern, transposed=False),
            a.data.real.copy(),
            x,
            rtol=rtol,
        )


# ------------------------------------------------------------------------------------------- with derivatives
def test_derivatives_of_movement_need_no_python():
    rng = np.random.default_rng(17)
    x, i = draw(rng, (6, 5), "f8"), np.array([1, -1, 1, 4])
    functions = [
        lambda x: np.concatenate([x[::2], x[1:3] * 2]),
        lambda x: np.take(x, i, 0) ** 2,
        lambda x: np.sort(x, 0) * x,
        lambda x: np.cumsum(x * x, 1),
        lambda x: np.pad(x * x, 2)[1:, 3:],
        lambda x: np.diag(np.diag(x[:5])) @ x[:5],
        lambda x: np.repeat(np.exp(x), 3, 1),
        lambda x: np.max(x, 0) * x,
        lambda x: np.cumprod(x, 0),
        lambda x: np.prod(x, 1),
        lambda x: x.reshape(5, 6).T[:, ::-1] * x,
        lambda x: np.take_along_axis(x, np.argsort(x, 1), 1) * x,
        lambda x: np.roll(x, 2, 0) * x,
        lambda x: np.tile(x, (2, 2)) ** 3,
    ]
    for f in functions:
        loss = lambda x, f=f: np.sum(f(x) * np.cos(f(x)))  # noqa: E731
        # sums of at most 60 terms, each after a few operations, in another order
        rtol = 400 * np.finfo("f8").eps
        check(nm.grad(loss), x, rtol=rtol)
        check(lambda x, f=f: nm.jvp(f, (x,), (np.ones_like(x),)), x, rtol=rtol)
        check(lambda x, loss=loss: nm.hvp(loss, (x,), (x,)), x, rtol=rtol)
        check(nm.vmap(nm.grad(loss)), np.stack([x, x[::-1], -x]), rtol=rtol)


# ------------------------------------------------------------------------------------------- threads
def test_two_threads_write_what_one_does():
    rng = np.random.default_rng(18)
    x, w = draw(rng, (3000, 60), "f8"), draw(rng, (200000,), "f4")
    i, j = rng.integers(0, 3000, 4000), rng.integers(-5000, 5000, 200000)
    along = rng.integers(0, 60, (3000, 60))
    windows = {"window": (3,), "stride": (1,), "dilation": (1,)}
    cases = [
        (lambda x, i: np.take(x, i, 0), x, i),
        (lambda w, j: REGISTRY["scatter_add"](w, j, axis=0, shape=(5000,)), w, j),
        (lambda g, i: REGISTRY["scatter_add"](g, i, axis=0, shape=(3000, 60)), x, i[:3000]),
        (lambda x, a: np.take_along_axis(x, a, 1), x, along),
        (lambda g, a: REGISTRY["add_along_axis"](g, a, axis=1, shape=(3000, 60)), x, along),
        (lambda x: nm.numpy.argsort(x, 1), x),
        (lambda x: nm.numpy.argsort(x, 0), x),
        (lambda x: np.cumsum(x, 0), x),
        (lambda a, v: np.searchsorted(a, v), np.sort(x[:, 0]), x),
        (lambda x: np.concatenate([x, x[::-1]], 1), x),
        (lambda x: np.pad(x, 5)[::-1].reshape(-1), x),
        (
            lambda v: REGISTRY["add_windows"](v, size=(3002,), **windows),
            np.stack([x, x, x])[:, None],
        ),
    ]
    for f, *args in cases:
        with nm.threads(1):
            want = f(*args)
        compiled = nm.compile(f)
        with nm.threads(2):
            for _ in range(8):
                assert compiled(*args).tobytes() == want.tobytes()
