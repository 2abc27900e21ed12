"""Rows that are added and activations inside of products: the bits of loops behind them, wherever they may stand."""

import numpy as np
import pytest
from plans import lowered, run_all

import nnmath_core as nm
from nnmath_core._ext._tree import flatten
from nnmath_core.program.lower import bodies, layouts

relu = nm.nn.relu

KERNELS = {"blocks": layouts.BLOCKS, "packed": layouts.PACKED}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=KERNELS)
def kernel(request, monkeypatch):
    """All products are made by one of our kernels, whatever would be faster."""
    monkeypatch.setattr(
        layouts, "_who", lambda dtype, *sizes, **ways: (KERNELS[request.param], 1e-9)
    )
    return request.param


def finishes(f, *args):
    """What the products of a function do in registers."""
    notes = [s.note for s in lowered(f, *args).steps if s.kind == "gemm"]
    return [n.split(" with ")[1] if " with " in n else "" for n in notes]


def apart(monkeypatch, f, *args):
    """The results with every operation in a loop behind the product."""
    with monkeypatch.context() as m:
        m.setattr(bodies, "with_finishes", lambda b, steps, kept: list(steps))
        assert not any(finishes(f, *args))
        return run_all(f, *args)[0]


def same_bits(got, want):
    (a, d), (b, e) = flatten(got), flatten(want)
    assert d == e
    for x, y in zip(a, b, strict=True):
        assert np.array_equal(x, y, equal_nan=True)
        numbers = ~np.isnan(y)  # with the signs of 0
        assert np.array_equal(np.signbit(x)[numbers], np.signbit(y)[numbers])


def check(monkeypatch, f, args, what):
    want = apart(monkeypatch, f, *args)
    assert finishes(f, *args) == what
    for got in run_all(f, *args):
        same_bits(got, want)


def draw(rng, dtype, *shape):
    """Small integers, so that sums are often 0, and two numbers that are not finite."""
    x = rng.integers(-1, 2, shape).astype(dtype)
    x.flat[:: x.size // 2 + 1] = np.nan, np.inf
    x[x == 0] *= -1
    return x


def dense(x, w, b):
    return relu(x @ w + b)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        (2, 2, 2), (3, 5, 7), (13, 33, 4), (15, 100, 9), (8, 49, 300), (70, 35, 300), (29, 16, 128), (14, 32, 900),
        (40, 401, 17), (1100, 7, 3),
    ],
)  # fmt: skip
def test_tiles_of_all_shapes_have_the_bits_of_a_loop(m, n, k, dtype, kernel, rng, monkeypatch):
    """Heights and widths that are not full, rows in several panels and blocks, sums in several parts."""
    args = draw(rng, dtype, m, k), draw(rng, dtype, k, n), draw(rng, dtype, n)
    check(monkeypatch, dense, args, ["add relu"])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("many", [3, 16, 130])
@pytest.mark.parametrize("n", [4, 19])
def test_stacks_of_products(many, n, dtype, kernel, rng, monkeypatch):
    args = draw(rng, dtype, many, 5, 7), draw(rng, dtype, many, 7, n), draw(rng, dtype, n)
    check(monkeypatch, dense, args, ["add relu"])
    check(monkeypatch, dense, (*args[:2], args[2].reshape(1, 1, n)), ["add relu"])
    other = draw(rng, dtype, 5, n), draw(rng, dtype, many, 1, n), draw(rng, dtype, 5, 1)
    for b in other:  # not a row for all products
        check(monkeypatch, dense, (*args[:2], b), [""])


def test_what_is_needed_elsewhere_is_the_last_that_a_product_makes(kernel, rng, monkeypatch):
    x, w, b = draw(rng, "f4", 6, 9), draw(rng, "f4", 9, 20), draw(rng, "f4", 20)

    def sums(x, w, b):
        y = x @ w + b
        return y, relu(y)

    check(monkeypatch, sums, (x, w, b), ["add"])

    def products(x, w, b):
        y = x @ w
        return y, relu(y + b)

    check(monkeypatch, products, (x, w, b), [""])

    def twice(x, w, b):
        y = x @ w
        return relu(y + b) - np.tanh(y)

    check(monkeypatch, twice, (x, w, b), [""])
    check(monkeypatch, lambda x, w, b: np.tanh(b + x @ w), (x, w, b), ["add"])
    check(monkeypatch, lambda x, w: np.tanh(relu(x @ w)), (x, w), ["relu"])
    check(monkeypatch, lambda x, w, b: relu(relu(x @ w + b) @ w.T + x), (x, w, b), ["add relu", ""])


def test_a_row_may_be_made_behind_the_product(kernel, rng, monkeypatch):
    x, w, b = draw(rng, "f4", 6, 9), draw(rng, "f4", 9, 20), draw(rng, "f4", 20)
    check(monkeypatch, lambda x, w, b: relu(x @ w + np.exp(b)), (x, w, b), ["add relu"])
    check(monkeypatch, lambda x, w: x @ w + (x @ w).sum(axis=0), (x, w), [""])


def test_a_product_may_be_the_row_of_another(kernel, rng, monkeypatch):
    x, w = draw(rng, "f8", 9), draw(rng, "f8", 9, 20)
    check(monkeypatch, lambda x, w: relu(x @ w + (2.0 * x) @ w), (x, w), ["", "add relu"])


def test_no_row_is_none(kernel, rng, monkeypatch):
    x, w = draw(rng, "f4", 20, 9), draw(rng, "f4", 9, 20)
    for b in (
        draw(rng, "f4", 20, 1),
        draw(rng, "f4", 20, 20),
        draw(rng, "f4", 3, 1, 20),
        np.float32(2),
    ):
        check(monkeypatch, lambda x, w, b: x @ w + b, (x, w, b), [""])
    check(monkeypatch, lambda x, w: (x @ w).T + x[:, 0], (x, w), [""])


def test_a_maximum_with_zero_is_one_where_its_bits_are(kernel, rng, monkeypatch):
    x, w = draw(rng, "f8", 7, 9), draw(rng, "f8", 9, 20)
    check(monkeypatch, lambda x, w: np.maximum(x @ w, 0.0), (x, w), ["relu"])
    check(monkeypatch, lambda x, w: np.maximum(x @ w, -0.0), (x, w), [""])
    check(monkeypatch, lambda x, w: np.maximum(x @ w, 1.0), (x, w), [""])
    check(monkeypatch, lambda x, w: np.maximum(0.0, x @ w), (x, w), [""])


def test_gradients_read_what_products_made(kernel, rng, monkeypatch):
    """The derivative of relu asks for its value, so that its argument is nowhere."""
    x, w, b = draw(rng, "f4", 12, 9), draw(rng, "f4", 9, 20), draw(rng, "f4", 20)
    f = nm.value_and_grad(lambda x, w, b: (dense(x, w, b) ** 2).sum(), argnums=(0, 1, 2))
    assert "add relu" in finishes(f, x, w, b)
    check(monkeypatch, f, (x, w, b), finishes(f, x, w, b))


def test_products_in_bodies_of_loops(kernel, rng, monkeypatch):
    x, w, b = draw(rng, "f4", 5, 20), draw(rng, "f4", 20, 20), draw(rng, "f4", 20)

    def f(x, w, b):
        return nm.scan(lambda h, _: (relu(h @ w + b), None), x, None, 3)[0]

    want = apart(monkeypatch, f, x, w, b)
    for got in run_all(f, x, w, b):
        same_bits(got, want)


def test_products_are_ours_where_a_loop_is_saved(monkeypatch, rng):
    """BLAS would be a little faster for the product alone; a loop that remains saves nothing."""
    x, w, b = (rng.standard_normal(s).astype("f4") for s in ((16, 9), (9, 20), 20))
    monkeypatch.setattr(layouts, "_who", lambda *sizes, **ways: (layouts.BLAS, 1e-9))
    monkeypatch.setattr(layouts, "_blas_seconds", lambda *sizes: 1e-9)
    monkeypatch.setattr(layouts, "_blocks_seconds", lambda *sizes: 5e-8)
    assert finishes(dense, x, w, b) == ["add relu"]
    assert finishes(lambda x, w, b: np.tanh(x @ w + b), x, w, b) == [""]
    monkeypatch.setattr(layouts, "_blocks_seconds", lambda *sizes: 1e-6)
    monkeypatch.setattr(layouts, "_packed_seconds", lambda *sizes: 1e-6)
    assert finishes(dense, x, w, b) == [""]
