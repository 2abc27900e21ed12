"""Normalisations on device arrays: value, gradient, second order and statistics are the host's."""

import numpy as np
import pytest
from test_normalisation import NAMES, layers

import nnmath_core as nm
from nnmath_core.autodiff.ops.standardize import rms_p, standardize_p

DTYPES = [np.float32, np.float64]
HERE = [n for n in NAMES if "Whitening" not in n]
"""Whitening has eigenvectors, which are cuSOLVER's: `test_declared_libraries` checks what can be without it."""


def close(cp, got, want, dtype):
    assert type(got) is cp.ndarray
    assert got.dtype == want.dtype == dtype
    size = max(1.0, float(np.max(np.abs(want), initial=0.0)))
    # a normalisation amplifies the roundings of sums of some dozen terms, in another order
    assert np.max(np.abs(cp.asnumpy(got) - want), initial=0.0) <= 512 * np.finfo(dtype).eps * size


def number(layer, x):
    return np.sum(np.sin(layer(x)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", HERE)
def test_layer_gives_what_it_gives_on_the_host(cp, name, dtype):
    rng = np.random.default_rng(3)
    layer, x = layers(rng, dtype)[name]
    v = rng.standard_normal(x.shape).astype(dtype)
    there, tx, tv = nm.to_device((layer, x, v), "cuda:0")
    close(cp, there(tx), layer(x), dtype)
    host, device = (nm.grad(number, argnums=(0, 1))(m, a) for m, a in ((layer, x), (there, tx)))
    for a, b in zip(nm.tree_leaves(device), nm.tree_leaves(host), strict=True):
        close(cp, a, b, dtype)
    host, device = (nm.hvp(number, (m, a), (m, t)) for m, a, t in ((layer, x, v), (there, tx, tv)))
    for a, b in zip(nm.tree_leaves(device), nm.tree_leaves(host), strict=True):
        close(cp, a, b, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", HERE)
def test_training_gives_what_it_gives_on_the_host(cp, name, dtype):
    layer, x = layers(np.random.default_rng(3), dtype)[name]
    if not hasattr(layer, "train"):
        assert name.partition(",")[0] in ("LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm")
        return
    there, tx = nm.to_device((layer, x), "cuda:0")
    results = there.train(tx), layer.train(x)
    for a, b in zip(*map(nm.tree_leaves, results), strict=True):
        close(cp, a, b, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mean", [0.0, 2000.0])
def test_statistics_are_as_exact_as_on_the_host(cp, mean, dtype):
    x = (np.random.default_rng(5).standard_normal((64, 33)) + mean).astype(dtype)
    for primitive in (standardize_p, rms_p):
        host = primitive(x, axis=(1,), eps=1e-5)
        device = primitive(cp.asarray(x), axis=(1,), eps=1e-5)
        for a, b in zip(device, host, strict=True):
            close(cp, a, b, dtype)
    constant = cp.full((2, 5), 0.1, dtype)
    assert not cp.any(nm.nn.layer_norm(constant, eps=0.0))


def test_initial_layers_are_on_the_default_device(cp):
    with nm.default_device("cuda:0"):
        made = [
            nm.nn.LayerNorm.init(3),
            nm.nn.RMSNorm.init(3),
            nm.nn.BatchNorm.init(3),
            nm.nn.GroupNorm.init(1, 3),
            nm.nn.InstanceNorm.init(3, scale=True),
            nm.nn.WhiteningNorm.init(3),
            nm.nn.WeightNorm.init(nm.nn.Dense.init((3, 2), rng=0)),
            nm.nn.SpectralNorm.init(nm.nn.Dense.init((3, 2), rng=0), rng=0),
        ]
    assert {type(a) for a in nm.tree_leaves(made)} == {cp.ndarray}


def test_operator_norm_takes_a_kernel_of_the_device(cp):
    kernel = np.random.default_rng(1).standard_normal((3, 3, 2, 2)).astype(np.float32)
    assert nm.nn.conv_operator_norm(cp.asarray(kernel), (6, 6)) == nm.nn.conv_operator_norm(
        kernel, (6, 6)
    )
