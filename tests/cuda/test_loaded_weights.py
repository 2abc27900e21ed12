"""Weights into models on a device and out of them: arrays arrive where the model has its own."""

import numpy as np
import pytest
from reference.weights_torch import state_of
from test_weights import CASES, OURS

import nnmath_core as nm


@pytest.mark.parametrize("name", CASES)
def test_a_state_of_pytorch_arrives_on_the_device(cp, name):
    model = OURS[name][0]
    state = state_of(name, CASES[name]["state"])
    here = nm.nn.from_torch(state, like=model)
    there = nm.nn.from_torch(state, like=nm.to_device(model, "cuda:0"))
    for got, want in zip(nm.tree_leaves(there), nm.tree_leaves(here), strict=True):
        assert type(got) is cp.ndarray
        assert np.array_equal(cp.asnumpy(got), want)
    back, wanted = nm.nn.to_torch(there), nm.nn.to_torch(here)
    assert list(back) == list(wanted)
    for key, value in back.items():
        assert type(value) is np.ndarray
        assert np.array_equal(value, wanted[key])


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_a_state_of_the_device_is_written_and_read(cp, tmp_path, ending):
    path = tmp_path / f"a{ending}"
    here = OURS["network"][0]
    there = nm.to_device(here, "cuda:0")
    nm.nn.save_state(there, path)
    found = nm.nn.load_state(there, path)
    assert all(type(x) is cp.ndarray for x in nm.tree_leaves(found))
    nm.save(path, there)
    for got in (found, nm.load(path, like=there), nm.nn.load_state(there, path)):
        for x, want in zip(nm.tree_leaves(got), nm.tree_leaves(here), strict=True):
            assert type(x) is cp.ndarray
            assert np.array_equal(cp.asnumpy(x), want)


def test_entries_of_a_state_may_be_on_the_device(cp):
    state = {"weight": cp.asarray(np.arange(6.0).reshape(3, 2)), "bias": cp.asarray(np.ones(3))}
    layer = nm.nn.from_torch(state, like=nm.nn.Dense.init((2, 3), rng=0))
    assert type(layer.weight) is np.ndarray
    assert np.array_equal(layer.weight, np.arange(6.0).reshape(3, 2).T)
