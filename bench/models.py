"""The users' functions: networks as plain NumPy, one body for every row and every variant."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

Params = list[dict[str, Any]]


def mlp_params(rng: np.random.Generator, options: Any, dtype: str = "f4") -> Params:
    """Draw the parameters of a multilayer perceptron, and of what a variant adds to it."""
    widths = options["widths"]
    params: Params = []
    for k, (i, o) in enumerate(itertools.pairwise(widths)):
        weight = (rng.standard_normal((i, o)) / np.sqrt(i)).astype(dtype)
        layer = {"w": weight, "b": (0.1 * rng.standard_normal(o)).astype(dtype)}
        if options.get("turned"):
            layer["w"] = np.ascontiguousarray(weight.T)
        if k == 0 and options.get("norm"):
            layer |= {"scale": np.ones(o, dtype), "shift": np.zeros(o, dtype)}
        if k == len(widths) - 2 and options.get("temperature"):
            layer["log_t"] = np.zeros((), dtype)
        params.append(layer)
    return params


def mlp(params: Params, x: Any, options: Any) -> Any:
    """Return the outputs of a multilayer perceptron; ``options`` says which."""
    import nnmath_core as nm

    activation = {
        "relu": nm.nn.relu,
        "tanh": np.tanh,
        "gelu": lambda h: nm.nn.gelu(h, approximate=True),
    }[options["activation"]]
    h = x
    for k, layer in enumerate(params):
        z = h @ (layer["w"].T if options.get("turned") else layer["w"]) + layer["b"]
        if k == 0 and options.get("norm"):
            z = nm.nn.layer_norm(z, layer["scale"], layer["shift"])
        if k < len(params) - 1:
            z = activation(z)
        if options.get("skip") and z.shape == h.shape:
            z = z + h
        h = z
    if options.get("temperature"):
        h = h * np.exp(-params[-1]["log_t"])
    return h


def classify(options: Any) -> Any:
    """Return the loss of a classifier on one batch (or, in `vmap`, on one example)."""
    import nnmath_core as nm

    def loss(params: Params, x: Any, y: Any) -> Any:
        inputs = x.T if options.get("columns") else x
        return nm.nn.softmax_cross_entropy(mlp(params, inputs, options), y).mean()

    return loss


def mlp_products(options: Any) -> list[tuple[int, int, int]]:
    """Return the matrix products (rows, inner, columns) of a gradient."""
    widths, batch = options["widths"], options["batch"]
    products = []
    for k, (i, o) in enumerate(itertools.pairwise(widths)):
        products += [(batch, i, o), (i, batch, o)]
        if k:
            products.append((batch, o, i))
    return products


def flops(products: list[tuple[int, int, int]]) -> float:
    """Return the arithmetic operations of products."""
    return float(sum(2 * m * k * n for m, k, n in products))


def block_params(rng: np.random.Generator, options: Any) -> dict[str, Any]:
    """Draw the parameters of a pre-norm transformer block."""
    d, f = options["d"], options["ff"]

    def dense(i: int, o: int) -> Any:
        return (rng.standard_normal((i, o)) / np.sqrt(i)).astype("f4")

    params = {
        "qkv": dense(d, 3 * d),
        "out": dense(d, d),
        "up": dense(d, f),
        "down": dense(f, d),
        "qkv_b": np.zeros(3 * d, "f4"),
        "out_b": np.zeros(d, "f4"),
        "up_b": np.zeros(f, "f4"),
        "down_b": np.zeros(d, "f4"),
    }
    for norm in ("norm1", "norm2", *(["norm3"] if options.get("norm") else [])):
        params |= {norm: np.ones(d, "f4"), f"{norm}_b": np.zeros(d, "f4")}
    return params


def block(params: dict[str, Any], x: Any, options: Any) -> Any:
    """Return a transformer block of (batch, time, d): attention and feed-forward layer, each after a norm."""
    import nnmath_core as nm

    b, t, d = x.shape
    heads = options["heads"]

    def split(z: Any) -> Any:
        return z.reshape(b, t, heads, d // heads).transpose(0, 2, 1, 3)

    h = nm.nn.layer_norm(x, params["norm1"], params["norm1_b"])
    q, k, v = np.split(h @ params["qkv"] + params["qkv_b"], 3, axis=-1)
    q, k, v = split(q), split(k), split(v)
    scores = q @ k.transpose(0, 1, 3, 2) * (d // heads) ** -0.5
    mixed = nm.nn.softmax(scores) @ v
    x = x + mixed.transpose(0, 2, 1, 3).reshape(b, t, d) @ params["out"] + params["out_b"]
    h = nm.nn.layer_norm(x, params["norm2"], params["norm2_b"])
    up = h @ params["up"] + params["up_b"]
    up = nm.nn.relu(up) if options.get("relu") else nm.nn.gelu(up, approximate=True)
    x = x + up @ params["down"] + params["down_b"]
    return nm.nn.layer_norm(x, params["norm3"], params["norm3_b"]) if options.get("norm") else x
