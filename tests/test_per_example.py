"""Gradients of each example and their norms: against a loop, chunks, trees, arguments, errors."""

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import DomainError, ShapeError


def loss(w, x, y):
    return (np.sum(np.tanh(x["a"] @ w["m"]) + w["b"]) - y) ** 2 * x["s"]


def data(dtype=float, n=7):
    rng = np.random.default_rng(0)
    w = {"m": rng.standard_normal((3, 2)).astype(dtype), "b": rng.standard_normal(2).astype(dtype)}
    x = {"a": rng.standard_normal((n, 3)).astype(dtype), "s": rng.random(n).astype(dtype)}
    return w, x, rng.standard_normal(n).astype(dtype)


def one_by_one(w, x, y):
    return [
        nm.grad(loss)(w, {"a": a, "s": s}, v) for a, s, v in zip(x["a"], x["s"], y, strict=True)
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunk_size", [None, 1, 3, 100])
def test_gradients_and_norms_are_those_of_a_loop(dtype, chunk_size):
    w, x, y = data(dtype)
    want = one_by_one(w, x, y)
    got = nm.per_example_grad(loss, chunk_size=chunk_size)(w, x, y)
    norms = nm.per_example_norms(loss, chunk_size=chunk_size)(w, x, y)
    slack = 64 * np.finfo(dtype).eps * max(np.abs(g["m"]).max() for g in want)
    for k in w:
        assert got[k].dtype == dtype
        np.testing.assert_allclose(got[k], [g[k] for g in want], rtol=0, atol=slack)
    assert norms.dtype == dtype
    lengths = [np.sqrt(sum(np.sum(np.square(v)) for v in g.values())) for g in want]
    np.testing.assert_allclose(norms, lengths, rtol=0, atol=4 * slack)


def test_other_arguments_may_be_differentiated():
    got = nm.per_example_grad(lambda x, a, b: a * b * x, argnums=(1, 2))(
        np.array([1.0, 2.0]), 3.0, 5.0
    )
    np.testing.assert_array_equal(got, ([5.0, 10.0], [3.0, 6.0]))
    last = nm.per_example_grad(lambda x, a: a**2 * x, argnums=-1)(np.array([1.0, 2.0]), 3.0)
    np.testing.assert_array_equal(last, [6.0, 12.0])


def test_mean_of_the_gradients_is_the_gradient_of_the_mean():
    w, x, y = data()
    total = nm.grad(lambda w: nm.vmap(loss, (None, 0, 0))(w, x, y).mean())(w)
    each = nm.per_example_grad(loss)(w, x, y)
    for k in w:
        np.testing.assert_allclose(each[k].mean(axis=0), total[k], rtol=1e-13)


def test_norms_can_be_differentiated_and_are_flat_at_zero():
    def f(w, x):
        return np.sum(w**2) * x

    def total(w):
        return nm.per_example_norms(f)(w, np.array([1.0, 2.0])).sum()

    w = np.array([3.0, 4.0])  # the norm is 2 |w| x, its gradient 2 x w / |w|
    np.testing.assert_allclose(nm.grad(total)(w), 6.0 * w / 5.0, rtol=1e-14)
    np.testing.assert_array_equal(nm.grad(total)(np.zeros(2)), [0.0, 0.0])


def test_empty_batch_has_no_gradients():
    w, _, _ = data()
    x = {"a": np.zeros((0, 3)), "s": np.zeros(0)}
    assert nm.per_example_grad(loss)(w, x, np.zeros(0))["m"].shape == (0, 3, 2)
    assert nm.per_example_norms(loss, chunk_size=2)(w, x, np.zeros(0)).shape == (0,)


@pytest.mark.parametrize("maker", [nm.per_example_grad, nm.per_example_norms])
def test_bad_input_says_what_is_wrong(maker):
    w, x, y = data()
    with pytest.raises(ShapeError, match=r"one length, got \[7, 7, 6\]"):
        maker(loss)(w, x, y[:6])
    with pytest.raises(ShapeError, match="there is no batch"):
        maker(lambda w: np.sum(w))(np.ones(2))
    with pytest.raises(ShapeError, match="the examples as axis 0"):
        maker(lambda w, x: w * x)(1.0, 2.0)
    with pytest.raises(DomainError, match="`chunk_size`"):
        maker(loss, chunk_size=0)
    with pytest.raises(TypeError, match="`f`"):
        maker(3)


# ---------------------------------------------------------------------------------------------- norms, compiled
@pytest.fixture
def compiled_norms(monkeypatch):
    """Compile whatever can be; the calls that were made without."""
    from nnmath_core.program import example_norms

    without = []
    over = example_norms.over_examples

    def counted(*args):
        f = over(*args)

        def g(*batch):
            if args[-1] is example_norms._length:
                without.append(len(batch[-1]))
            return f(*batch)

        return g

    monkeypatch.setattr(example_norms, "LARGE", -1)
    monkeypatch.setattr(example_norms, "over_examples", counted)
    return without


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunk_size", [None, 3])
def test_compiled_norms_are_those_of_the_gradients(dtype, chunk_size, compiled_norms):
    w, x, y = data(dtype)
    got = nm.per_example_norms(loss, chunk_size=chunk_size)(w, x, y)
    want = [np.sqrt(sum(np.sum(np.square(v)) for v in g.values())) for g in one_by_one(w, x, y)]
    assert got.dtype == dtype
    np.testing.assert_allclose(got, want, rtol=64 * np.finfo(dtype).eps)
    assert compiled_norms == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squares_that_leave_the_range_are_computed_again(dtype, compiled_norms):
    scale = np.array([1.0, 0.0, 1e-30, 1e30, np.inf, np.nan, 2.0], dtype)
    if dtype == np.float64:
        scale[2:4] = 1e-200, 1e200
    w = np.array([3.0, 4.0], dtype)
    got = nm.per_example_norms(lambda w, s: (w @ np.array([3.0, 4.0], dtype)) * s)(w, scale)
    np.testing.assert_allclose(got, 5 * scale, rtol=8 * np.finfo(dtype).eps)
    assert compiled_norms == [5]  # all but the first and the last


def test_norms_of_what_cannot_be_compiled_are_found_without(compiled_norms):
    w, x, y = data()

    def total(v):  # v is traced and captured
        return nm.per_example_norms(lambda w, a: (np.tanh(w * v["m"]) @ a).sum())(
            w["m"].T, x["a"]
        ).sum()

    got = nm.grad(lambda t: total({"m": t * w["m"].T}))(1.0)
    # a central difference: its rounding is eps / h, its own error h^2
    np.testing.assert_allclose(got, slope(total, w["m"].T), rtol=100 * np.finfo(float).eps / 1e-6)
    assert compiled_norms
    with pytest.raises(ShapeError, match="one length"):
        nm.per_example_norms(loss)(w, x, y[:3])


def slope(f, m, h=1e-6):
    return (f({"m": (1 + h) * m}) - f({"m": (1 - h) * m})) / (2 * h)
