"""Products of matrices alone, and a dense layer forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
from floors import gemm_floor
from models import flops
from registry import Inputs, Options, Work, case, contender, family

from cases.rows import compiled

FLOAT = 4  # bytes
Products = list[tuple[int, int, int]]


# A product of (rows, inner) by (inner, columns), float32. Answer: the product.


def one_product(options: Options) -> Products:
    """Return the product itself."""
    return [options["shape"]]


def product_bytes(options: Options) -> float:
    """Return the bytes of both factors and of the product."""
    m, k, n = options["shape"]
    return float(FLOAT * (m * k + k * n + m * n))


@family("gemm", count=lambda o: (flops(one_product(o)), product_bytes(o)), tolerance=2e-5)
def gemm_inputs(rng: np.random.Generator, options: Options) -> Inputs:
    """Draw both factors."""
    m, k, n = options["shape"]
    a, b = (rng.standard_normal(shape, dtype="f4") for shape in ((m, k), (k, n)))
    return {"a": a, "b": b}


@contender("gemm", "ours", "nm.compile of a @ b")
def gemm_ours(inputs: Inputs, options: Options) -> Work:
    """The operator, in a program of one equation."""
    return compiled(lambda a, b: a @ b, (inputs["a"], inputs["b"]), lambda y: [y])


gemm_floor("gemm", one_product)

case(
    "matmul",
    "product of two matrices, n x n by n x n",
    "gemm",
    "rows",
    [
        (64, {"shape": (64, 64, 64)}),
        (128, {"shape": (128, 128, 128)}, "full"),
        (256, {"shape": (256, 256, 256)}),
        (512, {"shape": (512, 512, 512)}, "full"),
        (1024, {"shape": (1024, 1024, 1024)}),
        (2048, {"shape": (2048, 2048, 2048)}),
        (4096, {"shape": (4096, 4096, 4096)}, "full"),
        (8192, {"shape": (8192, 8192, 8192)}, "full"),
    ],
    tiny={"shape": (5, 4, 3)},
)
case(
    "matmul-skinny",
    "product of n rows with a matrix of 4096 x 4096",
    "gemm",
    "rows",
    [
        (1, {"shape": (1, 4096, 4096)}),
        (8, {"shape": (8, 4096, 4096)}),
        (64, {"shape": (64, 4096, 4096)}),
        (512, {"shape": (512, 4096, 4096)}, "full"),
    ],
    tiny={"shape": (1, 4, 5)},
)


# A dense layer with relu, forward and backward. Answer: the output, the gradients of x, w and b.


def layer_products(options: Options) -> Products:
    """Return the product of the layer and those of its two gradients."""
    b, i, o = options["batch"], *options["widths"]
    return [(b, i, o), (b, o, i), (i, b, o)]


@family("dense_layer", count=lambda o: (flops(layer_products(o)), 0.0), tolerance=2e-5)
def layer_inputs(rng: np.random.Generator, options: Options) -> Inputs:
    """Draw a batch, a cotangent, weights and biases."""
    b, i, o = options["batch"], *options["widths"]
    x, g = (rng.standard_normal((b, n), dtype="f4") for n in (i, o))
    w = rng.standard_normal((i, o), dtype="f4") / np.float32(np.sqrt(i))
    return {"x": x, "g": g, "w": w, "b": rng.standard_normal(o, dtype="f4")}


@contender("dense_layer", "ours", "nm.compile of the layer and nm.vjp")
def layer_ours(inputs: Inputs, options: Options) -> Work:
    """Value and all gradients."""
    import nnmath_core as nm

    def both(x: Any, w: Any, b: Any, g: Any) -> Any:
        y, pull = nm.vjp(lambda x, w, b: nm.nn.relu(x @ w + b), x, w, b)
        return [y, *pull(g)]

    return compiled(both, tuple(inputs[k] for k in "xwbg"))


gemm_floor("dense_layer", layer_products)

case(
    "dense-layer",
    "dense layer 1024-1024 with relu, forward and backward",
    "dense_layer",
    "rows",
    [
        (8, {"batch": 8, "widths": (1024, 1024)}),
        (128, {"batch": 128, "widths": (1024, 1024)}),
        (1024, {"batch": 1024, "widths": (1024, 1024)}),
        (8192, {"batch": 8192, "widths": (1024, 1024)}, "full"),
    ],
    tiny={"batch": 3, "widths": (5, 4)},
)
