"""Products of Jacobians as users write them: per-example gradient norms and the empirical neural tangent kernel."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from floors import gemm_floor
from models import classify, flops, mlp, mlp_params
from registry import Inputs, Options, Target, Work, contender, family, row

Products = list[tuple[int, int, int]]

# Norms of the gradients of each example's loss. A gradient of a dense layer is an outer product, so that forward and
# backward products suffice. Answer: the norms.


def norm_products(options: Options) -> Products:
    """Return the products of a forward and a backward pass without the gradients of weights."""
    widths, batch = options["widths"], options["batch"]
    layers = list(itertools.pairwise(widths))
    return [(batch, i, o) for i, o in layers] + [(batch, o, i) for i, o in layers[1:]]


@family("gradient_norms", count=lambda o: (flops(norm_products(o)), 0.0), tolerance=1e-4)
def norm_inputs(rng: np.random.Generator, options: Options) -> Inputs:
    """Draw a batch with labels and the parameters."""
    widths, batch = options["widths"], options["batch"]
    x = rng.standard_normal((batch, widths[0])).astype("f4")
    return {"params": mlp_params(rng, options), "x": x, "y": rng.integers(0, widths[-1], batch)}


@contender("gradient_norms", "ours", "nm.compile of vmap(grad(f)) and a sum of squares")
def norms_ours(inputs: Inputs, options: Options) -> Work:
    """All gradients, then their norms."""
    import nnmath_core as nm

    loss = classify(options)

    def norms(params: Any, x: Any, y: Any) -> Any:
        grads = nm.vmap(nm.grad(loss), in_axes=(None, 0, 0))(params, x, y)
        rows = [g.reshape(x.shape[0], -1) for g in nm.tree_leaves(grads)]
        return np.sqrt(sum(np.sum(g * g, axis=1) for g in rows))

    args = inputs["params"], inputs["x"], inputs["y"]
    call = nm.compile(norms)
    return Work(lambda: call(*args), [call(*args)], lambda: [norms(*args)])


gemm_floor("gradient_norms", norm_products)

row(
    "gradient-norms",
    "per-example gradient norms, MLP 784-256-10, batch 256",
    "gradient_norms",
    options={"widths": (784, 256, 10), "batch": 256, "activation": "tanh"},
    tiny={"widths": (6, 5, 3), "batch": 4},
    targets=(Target("floor", 2.0, "GEMMs"), Target("ahead", 20.0)),
)


# The Gram matrix of the gradients of a scalar network at two sets of inputs. Answer: the matrix.


def ntk_products(options: Options) -> Products:
    """Return the products of the form by layers: two forward and backward passes, and two Gram matrices a layer."""
    widths, n = options["widths"], options["batch"]
    layers = list(itertools.pairwise(widths))
    inner = layers[:-1]
    made = [(n, i, o) for i, o in inner] * 2 + [(n, o, i) for i, o in inner[1:]] * 2
    made += [(n, i, n) for i, _ in layers] + [(n, o, n) for _, o in inner]
    return made


@family("ntk", count=lambda o: (flops(ntk_products(o)), 0.0), tolerance=1e-4)
def ntk_inputs(rng: np.random.Generator, options: Options) -> Inputs:
    """Draw two sets of inputs and the parameters."""
    shape = options["batch"], options["widths"][0]
    a, b = (rng.standard_normal(shape).astype("f4") for _ in range(2))
    return {"params": mlp_params(rng, options), "a": a, "b": b}


@contender("ntk", "ours", "nm.compile of vmap(grad(f)) twice and a product")
def ntk_ours(inputs: Inputs, options: Options) -> Work:
    """Both Jacobians, then the product of the two, leaf by leaf."""
    import nnmath_core as nm

    def kernel(params: Any, a: Any, b: Any) -> Any:
        rows = nm.vmap(nm.grad(lambda p, x: mlp(p, x, options)[0]), in_axes=(None, 0))
        pairs = zip(nm.tree_leaves(rows(params, a)), nm.tree_leaves(rows(params, b)), strict=True)
        return sum(u.reshape(a.shape[0], -1) @ v.reshape(b.shape[0], -1).T for u, v in pairs)

    args = inputs["params"], inputs["a"], inputs["b"]
    call = nm.compile(kernel)
    return Work(lambda: call(*args), [call(*args)], lambda: [kernel(*args)])


gemm_floor("ntk", ntk_products)

row(
    "ntk",
    "empirical NTK Gram 256 x 256, MLP 64-512-512-1",
    "ntk",
    options={"widths": (64, 512, 512, 1), "batch": 256, "activation": "relu"},
    tiny={"widths": (5, 6, 6, 1), "batch": 4},
    targets=(Target("floor", 1.4, "GEMMs"), Target("ahead", 40.0)),
)
