"""Initialisers, LSUV and measured variances where arrays and models are on a device: as on the host."""

import numpy as np
import pytest

import nnmath_core as nm

NAMES = (
    "glorot_normal glorot_uniform he_normal he_uniform lecun_normal lecun_uniform torch_default orthogonal normal "
    "truncated_normal uniform constant zeros"
).split()


def there(tree, cp):
    return nm.tree_map(cp.asarray, tree)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [*NAMES, "delta_orthogonal", "variance_scaling"])
def test_initialisers_draw_for_the_default_device(name, dtype, cp):
    f = getattr(nm.nn, name)
    f = f(2.0) if name == "variance_scaling" else f
    shape = (3, 2, 4)
    with nm.default_device("cuda"):
        w = f(shape, rng=1, dtype=dtype)
    assert type(w) is cp.ndarray
    np.testing.assert_array_equal(cp.asnumpy(w), f(shape, rng=1, dtype=dtype))


def models():
    mlp = nm.nn.MLP.init((6, 8, 5), activation=np.tanh, rng=0)
    layers = [
        nm.nn.Conv2d.init((1, 4), 3, rng=1),
        nm.nn.relu,
        nm.nn.Flatten(),
        nm.nn.Dense.init((64, 5), rng=2),
    ]
    rng = np.random.default_rng(3)
    return [
        (mlp, rng.normal(size=(20, 6))),
        (nm.nn.Sequential(layers), rng.normal(size=(20, 6, 6, 1))),
    ]


@pytest.mark.parametrize("which", [0, 1])
def test_lsuv_of_a_model_on_the_device(which, cp):
    model, x = models()[which]
    want, on_host = nm.nn.lsuv(model, x, rng=4)
    got, record = nm.nn.lsuv(there(model, cp), cp.asarray(x), rng=4)
    for a, b in zip(nm.tree_leaves(got), nm.tree_leaves(want), strict=True):
        assert type(a) is cp.ndarray
        np.testing.assert_allclose(cp.asnumpy(a), b, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(record.before, on_host.before, rtol=1e-12)


@pytest.mark.parametrize("which", [0, 1])
def test_variances_of_a_model_on_the_device(which, cp):
    model, x = models()[which]
    want = nm.nn.variance_propagation(model, x=x, rng=4)
    got = nm.nn.variance_propagation(there(model, cp), x=cp.asarray(x), rng=4)
    for name in (
        "variance",
        "variance_error",
        "variance_theory",
        "gradient",
        "gradient_theory",
        "factors",
    ):
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-12)
