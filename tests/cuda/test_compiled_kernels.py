"""Kernels that `compile` generates: every form, at sizes around its borders, in three orders of threads."""

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.program.cuda import plan, writer

ORDERS = [(order, poison) for order in (0, 1, 2) for poison in (0xFF, 0x7F)]
DTYPES = [np.float32, np.float64]


@pytest.fixture(autouse=True)
def _guarded(monkeypatch):
    """Each buffer of a plan ends where an inaccessible page begins."""
    monkeypatch.setattr(plan, "APART", True)


def normal(*shape, dtype=np.float32, scale=1.0, shift=0.0):
    rng = np.random.default_rng(sum(shape))
    return (rng.standard_normal(shape) * scale + shift).astype(dtype)


def run(f, *args, by_definition=0):
    """The results of a compiled function on the device, as host arrays, and its plan."""
    far = nm.to_device(args, "cuda")
    g = nm.compile(f)
    made = g.plan(*far)
    assert made.cost.host == by_definition, [s.note for s in made.steps if s.kind == "definition"]
    return nm.to_device(g(*far), "cpu"), made


def agrees(f, *args, rounds=16.0, launches=None):
    """Whether a compiled function gives on the device what it gives in double precision on the host."""
    got, made = run(f, *args)
    wide = [
        x.astype(np.float64) if getattr(x, "dtype", np.dtype(bool)).kind == "f" else x for x in args
    ]
    want = f(*wide)
    kind = next(
        (x.dtype for x in args if getattr(x, "dtype", np.dtype(bool)).kind == "f"), np.float64
    )
    for y, z in zip(
        got if isinstance(got, tuple) else (got,),
        want if isinstance(want, tuple) else (want,),
        strict=True,
    ):
        assert y.shape == np.shape(z)
        bound = rounds * np.finfo(kind).eps
        np.testing.assert_allclose(
            y, z, rtol=bound, atol=bound * max(1.0, np.max(np.abs(np.nan_to_num(z)), initial=0))
        )
    if launches is not None:
        assert len(made.kernels) == launches, made.kernels
    return made


# ---------------------------------------------------------------------------------------------- entries
@pytest.mark.parametrize("n", [1, 31, 32, 33, 255, 257, 1023, 4099])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_chain_is_one_launch(n, dtype):
    x, y = normal(n, dtype=dtype), normal(n + 1, dtype=dtype)[1:]
    agrees(lambda x, y: np.tanh(x) * y + np.exp(-(x**2)) / 3.0, x, y, launches=1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_entries_of_strided_and_repeated_operands(dtype):
    x, row, column = (
        normal(7, 5, 3, dtype=dtype),
        normal(3, dtype=dtype),
        normal(7, 1, 1, dtype=dtype),
    )
    agrees(
        lambda x, r, c: (x * r + c, np.transpose(x, (2, 0, 1)) * 2.0, x[::-1, 1::2] - r),
        x,
        row,
        column,
    )


def test_integers_booleans_and_casts():
    a = np.array([-7, 7, -7, 7, 0, 5, -1, 2**31 - 1, -(2**31)], np.int32)
    b = np.array([2, -2, -2, 2, 3, 0, 7, -1, -1], np.int32)

    def f(a, b):
        return (
            a + b, a * b, a - b, a // b, a % b, np.minimum(a, b), a & b, a ^ b, ~a, np.sign(a), np.abs(a), a > b,
            (a > b) | (b == 7), np.logical_not(a), a.astype(np.float32), a.astype(np.int8), a.astype(bool),
            np.where(a > 0, a, b),
        )  # fmt: skip

    with np.errstate(all="ignore"):
        want = f(a, b)
    got, made = run(f, a, b)
    for y, z in zip(got, want, strict=True):
        assert y.dtype == z.dtype
        np.testing.assert_array_equal(y, z)
    assert len(made.kernels) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values_of_entries(dtype):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, -3.5, 88.0, -100.0], dtype)
    y = x[::-1].copy()

    def f(x, y):
        return (
            np.maximum(x, y), np.minimum(x, y), np.sign(x), np.exp(x), np.tanh(x), np.where(np.isnan(x), y, x),
            np.isfinite(x), x < y, np.abs(x), np.sqrt(np.abs(x)), nm.nn.relu(x), np.copysign(x, y), np.floor(x),
        )  # fmt: skip

    got, _ = run(f, x, y)
    with np.errstate(all="ignore"):
        want = f(x, y)
    for u, v in zip(got, want, strict=True):
        np.testing.assert_allclose(u, v, rtol=8 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)
        np.testing.assert_array_equal(np.signbit(u[~np.isnan(u)]), np.signbit(v[~np.isnan(v)]))


def test_offsets_of_64_bits(monkeypatch):
    monkeypatch.setattr(writer, "NARROW", 8)
    x = normal(40, 33)
    made = agrees(
        lambda x: (
            x * 2.0,
            np.sum(x, axis=0),
            np.exp(x) / np.sum(np.exp(x), axis=1, keepdims=True),
        ),
        x,
    )
    assert all("long long" in text for text in made.kernels)


def test_a_grid_shorter_than_the_entries(monkeypatch):
    monkeypatch.setattr(writer, "MOST_BLOCKS", 2)
    agrees(lambda x: np.tanh(x) + 1.0, normal(4099))
    agrees(lambda x: nm.nn.softmax(x, axis=-1), normal(900, 5))
    agrees(lambda x: nm.nn.softmax(x, axis=-1), normal(7, 300))


# ---------------------------------------------------------------------------------------------- rows
SHAPES = [
    (1, 1),
    (1, 33),
    (7, 2),
    (300, 3),
    (9, 31),
    (9, 32),
    (9, 33),
    (5, 257),
    (3, 1023),
    (2, 4099),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_is_one_launch(shape, dtype):
    agrees(lambda x: nm.nn.softmax(x, axis=-1), normal(*shape, dtype=dtype, scale=4), launches=1)


def test_a_row_too_long_for_registers():
    agrees(lambda x: nm.nn.softmax(x, axis=-1), normal(2, 17000, scale=4), launches=1)


@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (400, 0), (4, -1000)])
@pytest.mark.parametrize(("order", "poison"), ORDERS)
@pytest.mark.parametrize("cols", [13, 300])
def test_rows_in_every_order_of_threads(device, order, poison, scale, shift, cols):
    device.order.update(order=order, poison=poison, seed=1)
    x = normal(5, cols, scale=scale, shift=shift)
    bound = 4 * max(1, np.abs(x).max())  # the exponent's argument is rounded at the size of x
    agrees(
        lambda x: (nm.nn.softmax(x, axis=-1), np.max(x, axis=1), np.min(x, axis=1)), x, rounds=bound
    )


@pytest.mark.parametrize("shape", [(4, 10), (6, 300)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_norm_and_its_gradient(shape, dtype):
    x, w = normal(*shape, dtype=dtype), normal(shape[1], dtype=dtype)
    b, g = normal(shape[1] + 1, dtype=dtype)[1:], normal(*shape, dtype=dtype, scale=2)

    def f(x, w, b, g):
        mean = np.mean(x, axis=-1, keepdims=True)
        var = np.mean((x - mean) ** 2, axis=-1, keepdims=True)
        return np.sum(((x - mean) / np.sqrt(var + 1e-5) * w + b) * g)

    agrees(nm.grad(f, argnums=(0, 1, 2)), x, w, b, g, rounds=256)


def test_products_of_rows_and_reductions_of_other_kinds():
    x = normal(6, 70, dtype=np.float64)

    def f(x):
        small = np.abs(x) * 0.1 + 0.9
        return (
            np.sum(x * x[::-1], axis=1), np.prod(small, axis=1), np.max(x, axis=1), np.min(x, axis=1),
            np.any(x > 2, axis=1), np.all(x > -9, axis=1), np.sum(x > 0, axis=1),
            np.sum(np.floor(x).astype(np.int64), axis=1),
        )  # fmt: skip

    agrees(f, x, rounds=64)


# ---------------------------------------------------------------------------------------------- parts of long rows
@pytest.mark.parametrize("n", [16385, 50000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_long_sum_in_parts_is_one_launch(n, dtype):
    made = agrees(
        lambda x: np.sqrt(np.sum(x**2)) / 3.0, normal(n, dtype=dtype), rounds=4, launches=1
    )
    assert made.steps[0].object.tickets == 1


@pytest.mark.parametrize(("order", "poison"), ORDERS)
def test_parts_in_every_order_of_threads(device, order, poison):
    device.order.update(order=order, poison=poison, seed=1)
    f = nm.compile(lambda x: (np.sum(x, axis=1), np.max(x, axis=1) * 2.0, x + 1.0))
    x = normal(3, 20000, shift=-100)
    far = nm.to_device(x, "cuda")
    first, second = nm.to_device(
        (f(far), f(far)), "cpu"
    )  # the counters of blocks begin at zero again
    np.testing.assert_allclose(first[0], x.sum(1, dtype=np.float64), rtol=1e-7 * 2)
    np.testing.assert_array_equal(first[1], x.max(1) * 2)
    np.testing.assert_array_equal(first[2], x + np.float32(1))
    for u, v in zip(first, second, strict=True):
        np.testing.assert_array_equal(u, v)


# ---------------------------------------------------------------------------------------------- sums over rows
@pytest.mark.parametrize(
    "shape", [(1, 1), (2, 3), (7, 3), (100, 10), (1000, 33), (5, 4099), (300, 64)]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_over_rows_are_one_launch(shape, dtype):
    x = normal(*shape, dtype=dtype)
    agrees(lambda x: np.sum(np.tanh(x), axis=0), x, launches=1)
    agrees(lambda x: (np.max(x, axis=0), np.sum(x * x, axis=0), x * 2.0), x)


def test_sums_over_a_middle_axis():
    x = normal(3, 50, 7)
    agrees(lambda x: np.sum(x, axis=1), x, launches=1)
    agrees(lambda x: np.max(x, axis=(0, 2)), x)
    agrees(lambda x: np.sum(x, axis=0), x, launches=1)


@pytest.mark.parametrize("shape", [(600, 8), (40, 33), (9, 300), (70, 130)])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_sums_over_rows_beside_reductions_along_them(device, shape, order):
    device.order.update(order=order, poison=0x7F, seed=1)
    x = normal(*shape)

    def f(x):
        p = nm.nn.softmax(x, axis=-1)
        return p, np.sum(p * x, axis=0), np.sum(p, axis=0)

    made = agrees(f, x, rounds=64)
    assert any(s.object.tickets for s in made.steps) or shape[0] < 40


def test_the_order_of_threads_changes_no_bit(device):
    x = normal(700, 20, scale=100)
    f = nm.compile(lambda x: (np.sum(x, axis=0), np.sum(x, axis=1), np.sum(x)))
    far = nm.to_device(x, "cuda")
    found = []
    for order in (0, 1, 2):
        device.order.update(order=order, poison=0xFF, seed=order)
        found.append(nm.to_device(f(far), "cpu"))
    for other in found[1:]:
        for u, v in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(u, v)


# ---------------------------------------------------------------------------------------------- empty arrays
def test_empty_arrays():
    x = np.zeros((0, 3), np.float32)
    got, _ = run(lambda x: (x + 1, np.sum(x, axis=0), np.sum(x), np.sum(x, axis=1)), x)
    for y, z in zip(
        got, (x, np.zeros(3, np.float32), np.float32(0), np.zeros(0, np.float32)), strict=True
    ):
        assert y.shape == np.shape(z)
        np.testing.assert_array_equal(y, z)
