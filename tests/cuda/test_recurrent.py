"""Activations, dropout, recurrent layers and losses of sequences on device arrays: as on the host, to second order."""

import numpy as np
import pytest

import nnmath_core as nm

KEY = nm.random.key(3)
ACTIVATIONS = (
    "relu leaky_relu elu selu relu6 hard_tanh hard_sigmoid hard_swish gelu sigmoid log_sigmoid tanh silu softplus mish "
    "softmax log_softmax glu"
).split()
LAYERS = {
    "RNN": lambda: nm.nn.RNN.init((3, 4), rng=0),
    "GRU": lambda: nm.nn.GRU.init((3, 4), num_layers=2, rng=0),
    "GRU of the paper": lambda: nm.nn.GRU.init((3, 4), reset_after=False, rng=0),
    "LSTM": lambda: nm.nn.LSTM.init((3, 4), bidirectional=True, rng=0),
    "LSTM, checkpointed": lambda: nm.nn.LSTM.init((3, 4), checkpoint=2, rng=0),
}


def device(tree, cp):
    """The tree with its arrays on the device."""
    return nm.tree_map(cp.asarray, tree)


def agree(f, host, cp):
    """Value, gradient and Hessian-vector product of a sum are those of the host, and stay on the device."""
    there = device(host, cp)
    rng = np.random.default_rng(1)
    along = nm.tree_map(lambda a: rng.standard_normal(a.shape), host)
    want = (f(*host), nm.grad(lambda h: f(*h))(host), nm.hvp(lambda h: f(*h), (host,), (along,)))
    got = (
        f(*there),
        nm.grad(lambda h: f(*h))(there),
        nm.hvp(lambda h: f(*h), (there,), (device(along, cp),)),
    )
    for a, b in zip(nm.tree_leaves(got), nm.tree_leaves(want), strict=True):
        assert type(a) is cp.ndarray
        scale = 1 + np.abs(b).max(initial=0.0)
        np.testing.assert_allclose(cp.asnumpy(a), b, rtol=0, atol=1e-13 * scale)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_agrees_with_the_host(name, cp):
    x = np.random.default_rng(0).standard_normal((3, 4)) * 3
    f = getattr(nm.nn, name)
    agree(lambda x: np.sum(np.sin(f(x))), (x,), cp)


def test_options_of_activations_agree_with_the_host(cp):
    x = np.random.default_rng(0).standard_normal((3, 4)) * 3
    agree(lambda x: np.sum(np.sin(nm.nn.gelu(x, approximate=True))), (x,), cp)
    agree(lambda x: np.sum(np.sin(nm.nn.softplus(x, beta=2.0))), (x,), cp)
    agree(lambda x, t: np.sum(np.sin(nm.nn.softmax(x, temperature=t))), (x, np.array(2.0)), cp)
    agree(
        lambda x, a: np.sum(np.sin(nm.nn.leaky_relu(x, negative_slope=a))), (x, np.full(4, 0.2)), cp
    )


def test_dropout_drops_the_same_entries(cp):
    x = np.random.default_rng(0).standard_normal((20, 5))
    y = nm.nn.dropout(cp.asarray(x), 0.4, cp.asarray(KEY))
    np.testing.assert_array_equal(cp.asnumpy(y), nm.nn.dropout(x, 0.4, KEY))
    there = cp.asarray(KEY)
    host = nm.grad(lambda x: np.sum(nm.nn.dropout(x, 0.4, KEY, broadcast_dims=(0,)) ** 2))(x)
    g = nm.grad(lambda x: np.sum(nm.nn.dropout(x, 0.4, there, broadcast_dims=(0,)) ** 2))(
        cp.asarray(x)
    )
    np.testing.assert_array_equal(cp.asnumpy(g), host)


@pytest.mark.parametrize("name", LAYERS)
def test_recurrent_layer_agrees_with_the_host(name, cp):
    layer = LAYERS[name]()
    x = np.random.default_rng(0).standard_normal((2, 5, 3))

    def f(layer, x):
        on_device = not isinstance(nm.value_of(x), np.ndarray)
        lengths = np.array([5, 3])
        y, last = layer.unroll(x, lengths=cp.asarray(lengths) if on_device else lengths)
        return np.sum(np.sin(y)) + sum(np.sum(s * s) for s in nm.tree_leaves(last))

    agree(f, (layer, x), cp)


def test_layers_are_made_on_the_default_device(cp):
    with nm.default_device("cuda"):
        layer = nm.nn.LSTM.init((3, 4), rng=0)
    assert all(type(a) is cp.ndarray for a in nm.tree_leaves(layer))
    host = nm.nn.LSTM.init((3, 4), rng=0)
    for a, b in zip(nm.tree_leaves(layer), nm.tree_leaves(host), strict=True):
        np.testing.assert_array_equal(cp.asnumpy(a), b)


def test_losses_of_sequences_agree_with_the_host(cp):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((2, 5, 4))
    labels, steps, lengths = np.array([[1, 2, 2], [3, 0, 0]]), np.array([5, 4]), np.array([3, 1])

    def total(z):
        on_device = not isinstance(nm.value_of(z), np.ndarray)
        given = [cp.asarray(a) if on_device else a for a in (labels, steps, lengths)]
        return np.sum(nm.nn.ctc(z, given[0], input_lengths=given[1], target_lengths=given[2]))

    agree(total, (z,), cp)
    q, k = rng.standard_normal((2, 4, 3))
    agree(lambda q, k: np.sum(nm.nn.info_nce(q, k, symmetric=True)), (q, k), cp)
    agree(lambda s, t: np.sum(nm.nn.distillation(s, t, temperature=2.0)), (q, k), cp)
    loss = nm.nn.distillation.replace(temperature=2.0)
    there = loss.hessian(cp.asarray(q), cp.asarray(k))
    np.testing.assert_allclose(cp.asnumpy(there), loss.hessian(q, k), rtol=0, atol=1e-14)
    with pytest.raises(nm.DomainError, match="got 9 at index 0, 1"):
        nm.nn.ctc(cp.asarray(z), cp.asarray(np.array([[1, 9, 2], [3, 1, 1]])))
