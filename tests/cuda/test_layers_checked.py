"""Every layer on the device, its derivatives checked by differences there: both modes, first and second order."""

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core import nn
from nnmath_core.errors import DeviceError

CUDA = next((d for d in nm.devices() if d.kind == "cuda"), None)


def rows(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


CASES = {
    "Dense": lambda: (nn.Dense.init((2, 2), rng=0), rows(3, 2)),
    "MLP": lambda: (nn.MLP.init((2, 2, 1), activation=nn.tanh, rng=0), rows(3, 2)),
    "Conv1d": lambda: (nn.Conv1d.init((2, 1), 2, rng=0), rows(2, 3, 2)),
    "Conv2d": lambda: (nn.Conv2d.init((1, 2), 2, stride=2, padding=1, rng=0), rows(1, 3, 3, 1)),
    "ConvTranspose1d": lambda: (nn.ConvTranspose1d.init((2, 1), 2, stride=2, rng=0), rows(1, 2, 2)),
    "ConvTranspose2d": lambda: (nn.ConvTranspose2d.init((1, 1), 2, rng=0), rows(1, 2, 2, 1)),
    "pooling": lambda: (
        nn.Sequential(
            [nn.Conv2d.init((1, 1), 1, rng=0), nn.AvgPool2d(2), nn.MaxPool2d(2), nn.Flatten()]
        ),
        rows(1, 4, 4, 1),
    ),
    "global pooling": lambda: (
        nn.Sequential([nn.Conv1d.init((1, 2), 1, rng=0), nn.MaxPool1d(2), nn.GlobalAvgPool()]),
        rows(2, 4, 1),
    ),
    "LayerNorm": lambda: (nn.LayerNorm.init(3), rows(2, 3)),
    "RMSNorm": lambda: (nn.RMSNorm.init(3), rows(2, 3)),
    "BatchNorm": lambda: (nn.BatchNorm.init(2), rows(4, 2)),
    "GroupNorm": lambda: (nn.GroupNorm.init(2, 4), rows(2, 2, 4)),
    "InstanceNorm": lambda: (nn.InstanceNorm.init(2, scale=True, shift=True), rows(2, 3, 2)),
    "WeightNorm": lambda: (nn.WeightNorm.init(nn.Dense.init((2, 2), rng=0)), rows(3, 2)),
    "SpectralNorm": lambda: (nn.SpectralNorm.init(nn.Dense.init((2, 2), rng=0), rng=1), rows(3, 2)),
    "Embedding": lambda: (nn.Embedding.init(3, 2, rng=0), np.array([0, 2, 2])),
    "PositionEmbedding": lambda: (nn.PositionEmbedding.init(4, 2, rng=0), rows(1, 3, 2)),
    "MultiHeadAttention": lambda: (nn.MultiHeadAttention.init(2, 1, rng=0), rows(1, 3, 2)),
    "TransformerBlock": lambda: (nn.TransformerBlock.init(2, 1, hidden=2, rng=0), rows(1, 2, 2)),
    "RNN": lambda: (nn.RNN.init((2, 2), rng=0), rows(1, 3, 2)),
    "GRU": lambda: (nn.GRU.init((2, 1), rng=0), rows(1, 3, 2)),
    "LSTM": lambda: (nn.LSTM.init((2, 1), rng=0), rows(1, 3, 2)),
    "WhiteningNorm": lambda: (nn.WhiteningNorm.init(2), rows(4, 2)),
    "Residual": lambda: (nn.Residual(nn.Dense.init((2, 2), rng=0)), rows(3, 2)),
}


@pytest.mark.skipif(CUDA is None, reason="there is no CUDA device, or no CuPy")
@pytest.mark.parametrize("name", CASES)
def test_derivatives_on_the_device_agree_with_differences(name):
    layer, x = nm.to_device(CASES[name](), CUDA)
    assert nm.device_of(nm.tree_leaves(layer)[0]) == CUDA

    def loss(layer, x):
        return nm.numpy.sum(nm.numpy.sin(layer(x)))

    nm.check_grads(loss, (layer, x), points=1, rng=0)


TRAINED = {
    "BatchNorm": lambda: (nn.BatchNorm.init(2), rows(4, 2)),
    "WhiteningNorm": lambda: (nn.WhiteningNorm.init(2), rows(5, 2)),
    "Dropout": lambda: (nn.Sequential([nn.Dense.init((2, 3), rng=0), nn.Dropout(0.5)]), rows(3, 2)),
}


@pytest.mark.skipif(CUDA is None, reason="there is no CUDA device, or no CuPy")
@pytest.mark.parametrize("name", TRAINED)
def test_derivatives_in_training_agree_with_differences(name):
    layer, x = nm.to_device(TRAINED[name](), CUDA)
    key = nm.to_device(nm.random.key(3), CUDA)

    def loss(layer, x):
        y, _ = layer.train(x, key=key)
        return nm.numpy.sum(nm.numpy.sin(y))

    nm.check_grads(loss, (layer, x), points=1, rng=0)


@pytest.mark.skipif(CUDA is None, reason="there is no CUDA device, or no CuPy")
def test_a_key_on_another_device_is_refused():
    x, key = nm.to_device(rows(3, 2), CUDA), nm.random.key(3)
    with pytest.raises(DeviceError, match="dropout: `key` must be on cuda:0 as `x` is, got cpu"):
        nn.dropout(x, 0.5, key)
    with pytest.raises(DeviceError, match="`key` must be on cuda:0"):
        nn.attention(x[None], x[None], x[None], dropout_rate=0.5, key=key)
    with pytest.raises(DeviceError, match="`key` must be on cuda:0"):
        nm.grad(lambda x: nn.dropout(x, 0.5, key).sum())(x)
