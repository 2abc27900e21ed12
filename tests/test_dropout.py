"""Dropout: its mask is a function of key, shape and rate alone, its moments are right, nothing is lost in silence."""

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError, ShapeError

KEY = nm.random.key(20261126)
RATES = [0.0, 1e-3, 0.1, 0.5, 0.9]


@pytest.mark.parametrize("rate", RATES)
def test_entries_stay_with_the_right_probability_and_scale(rate):
    n = 200_000
    y = nm.nn.dropout(np.ones(n), rate, KEY)
    kept = y != 0.0
    assert np.all(y[kept] == 1.0 / (1.0 - rate))
    # five standard deviations of a binomial share, a fixed key
    assert abs(kept.mean() - (1 - rate)) <= 5 * np.sqrt(rate * (1 - rate) / n)
    assert abs(y.mean() - 1.0) <= 5 * np.sqrt(rate / (1 - rate) / n)
    assert abs(y.var() - rate / (1 - rate)) <= 0.05 * rate / (1 - rate)


def test_mask_is_the_same_in_every_way_of_evaluation():
    x = np.random.default_rng(0).standard_normal((6, 5)) + 3.0

    def f(x, key):
        return nm.nn.dropout(x, 0.4, key)

    y = f(x, KEY)
    assert 0 < np.sum(y == 0.0) < x.size
    np.testing.assert_array_equal(nm.stage(f, x, KEY)(x, KEY), y)
    np.testing.assert_array_equal(f(x.astype(np.float32), KEY) == 0.0, y == 0.0)
    np.testing.assert_array_equal(nm.jvp(lambda x: f(x, KEY), (x,), (x,))[0], y)
    keys = nm.random.split(KEY, 3)
    mapped = nm.vmap(f)(np.stack([x] * 3), keys)
    for i in range(3):
        np.testing.assert_array_equal(mapped[i], f(x, keys[i]))
    assert not np.array_equal(mapped[0], mapped[1])
    shared = nm.vmap(lambda x: f(x, KEY))(np.stack([x, x]))
    np.testing.assert_array_equal(shared[0], shared[1])


def test_derivative_is_the_scaled_mask_and_zero_where_dropped_even_at_nan():
    x = np.random.default_rng(0).standard_normal(40)
    mask = nm.nn.dropout(np.ones(40), 0.5, KEY)
    x[mask == 0.0] = np.nan

    def f(x):
        return np.sum(nm.nn.dropout(x, 0.5, KEY) ** 2)

    value, g = nm.value_and_grad(f)(x)
    assert np.isfinite(value)
    np.testing.assert_array_equal(g, np.where(mask == 0.0, 0.0, 2 * x * mask**2))
    h = nm.hvp(f, (x,), (np.ones(40),))
    np.testing.assert_array_equal(h, 2 * mask**2)
    clean = np.nan_to_num(x)
    nm.check_grads(f, (clean,), order=2)


def test_whole_channels_share_their_fate():
    y = nm.nn.dropout(np.ones((4, 3, 3, 8)), 0.5, KEY, broadcast_dims=(1, 2))
    assert np.all(y == y[:, :1, :1])
    assert set(np.unique(y)) == {0.0, 2.0}
    rows = nm.nn.dropout(np.ones((4, 6, 8)), 0.5, KEY, broadcast_dims=(-2,))
    assert np.all(rows == rows[:, :1])
    layer = nm.nn.Dropout(0.5, broadcast_dims=(1, 2))
    np.testing.assert_array_equal(layer.train(np.ones((4, 3, 3, 8)), key=KEY)[0], y)


def test_layer_drops_in_training_alone():
    layer = nm.nn.Dropout(0.5)
    x = np.ones((3, 4))
    assert layer(x) is x
    y, same = layer.train(x, key=KEY)
    assert same is layer
    np.testing.assert_array_equal(y, nm.nn.dropout(x, 0.5, KEY))
    assert nm.tree_leaves(layer) == []
    model = nm.nn.Sequential([nm.nn.Dense.init((4, 4), rng=0), layer, layer])
    z, _ = model.train(x, key=KEY)
    assert np.any(z != model(x))
    g = nm.grad(lambda m: np.sum(m.train(x, key=KEY)[0]))(model)
    assert g[0].weight.shape == (4, 4)


def test_rate_zero_is_the_identity_and_needs_no_key():
    x = np.ones(3)
    assert nm.nn.dropout(x, 0.0, None) is x
    assert nm.nn.dropout(x, 0, KEY) is x
    assert nm.nn.Dropout(0).train(x)[0] is x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_shape_and_empty_arrays_are_kept(dtype):
    for shape in [(), (0,), (2, 0, 3), (5,)]:
        y = nm.nn.dropout(np.ones(shape, dtype), 0.3, KEY)
        assert (y.dtype, y.shape) == (dtype, shape)
    z = np.ones(4) + 1j
    np.testing.assert_array_equal(nm.nn.dropout(z, 0.5, KEY).imag, nm.nn.dropout(z.imag, 0.5, KEY))


def test_layer_saves_and_loads(tmp_path):
    nm.save(tmp_path / "layer.npz", nm.nn.Dropout(0.25, (1, 2)))
    again = nm.load(tmp_path / "layer.npz")
    assert repr(again) == "Dropout(0.25, broadcast_dims=(1, 2))"


X = np.ones(3)
BAD = [
    *((lambda r=r: nm.nn.dropout(X, r, KEY), DomainError, r"dropout: `rate` must be in \[0, 1\)")
      for r in (-0.1, 1.0, 1.5, np.nan, np.inf)),
    *((lambda r=r: nm.nn.Dropout(r), DomainError, r"Dropout: `rate` must be in \[0, 1\)") for r in (-1.0, 1, 2.0)),
    (lambda: nm.nn.dropout(X, "half", KEY), DtypeError, "`rate`"),
    (lambda: nm.nn.dropout(X, True, KEY), DtypeError, "`rate`"),
    (lambda: nm.nn.Dropout(0.5).train(X), DtypeError, "Dropout: `key` must be made by nm.random.key, got None"),
    (lambda: nm.nn.dropout(X, 0.5, None), DtypeError, "Randomness needs a key"),
    (lambda: nm.nn.dropout(X, 0.5, 7), DtypeError, "`key` must be made by nm.random.key, got 7"),
    (lambda: nm.nn.dropout(X, 0.5, nm.random.split(KEY)), ShapeError, "Of several keys"),
    (lambda: nm.nn.dropout(np.arange(3), 0.5, KEY), DtypeError, "`x` must be a float32 or float64 array"),
    (lambda: nm.nn.dropout(X, 0.5, KEY, broadcast_dims=(1,)), DomainError, "axes of an array with 1 axes, got 1"),
    (lambda: nm.nn.dropout(X, 0.5, KEY, broadcast_dims=(0.5,)), DtypeError, "a tuple of integers"),
    (lambda: nm.nn.Dropout(0.5, ("a",)), DtypeError, "a tuple of integers"),
]  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=range(len(BAD)))
def test_bad_input_is_one_clear_error(case):
    call, error, words = case
    with pytest.raises(error, match=words):
        call()
