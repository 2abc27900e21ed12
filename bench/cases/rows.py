"""Passes over memory: layer norm, softmax cross-entropy and GELU with their gradients, a formula, normal numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from floors import STREAMED, byte_floor, exp_floor
from registry import Inputs, Options, Target, Work, case, contender, family, row

FLOAT = 4  # bytes


def size(options: Options) -> int:
    """Return how many elements the input has."""
    return int(np.prod(options["shape"]))


def compiled(f: Any, args: tuple[Any, ...], flat: Any = list) -> Work:
    """Return a function given to `nm.compile`, its answer and its eager answer."""
    import nnmath_core as nm

    call = nm.compile(f)
    return Work(lambda: call(*args), flat(call(*args)), lambda: flat(f(*args)))


# Layer norm: x is read forward, x and the cotangent backward; the output and the gradient are written.
# Answer: the output, the gradients of x, scale and shift.


def layer_norm_bytes(options: Options) -> float:
    """Return the bytes of five passes over arrays of the input's size."""
    return 5.0 * FLOAT * size(options)


@family(
    "layer_norm",
    count=lambda o: (0.0, layer_norm_bytes(o)),
    tolerance=2e-5,
    arithmetic=lambda o: 18.0 * size(o),
)
def layer_norm_inputs(rng: np.random.Generator, options: Options) -> Inputs:
    """Draw rows, a cotangent, scale and shift."""
    shape = options["shape"]
    x, g = (rng.standard_normal(shape).astype("f4") for _ in range(2))
    scale, shift = (rng.standard_normal(shape[-1]).astype("f4") for _ in range(2))
    return {"x": x, "g": g, "scale": scale, "shift": shift}


@contender("layer_norm", "ours", "nm.compile of nm.nn.layer_norm and nm.vjp")
def layer_norm_ours(inputs: Inputs, options: Options) -> Work:
    """Value and gradients of everything."""
    import nnmath_core as nm

    def norm(x: Any, scale: Any, shift: Any) -> Any:
        y = nm.nn.layer_norm(x.T if options.get("columns") else x, scale, shift)
        return nm.nn.layer_norm(y, scale, shift) if options.get("twice") else y

    def both(x: Any, scale: Any, shift: Any, g: Any) -> Any:
        y, pull = nm.vjp(norm, x, scale, shift)
        return [y, *pull(g)]

    return compiled(both, (inputs["x"], inputs["scale"], inputs["shift"], inputs["g"]))


byte_floor("layer_norm", lambda o: layer_norm_bytes(o) * (2 if o.get("twice") else 1))

row(
    "layer-norm",
    "layer norm 4096 x 1024, forward and backward",
    "layer_norm",
    options={"shape": (4096, 1024)},
    tiny={"shape": (8, 16)},
    targets=(Target("floor", 1.4, STREAMED), Target("ahead", 1.3)),
)
case(
    "layer-norm",
    "layer norm of n rows of 1024, forward and backward",
    "layer_norm",
    "rows",
    [
        (16, {"shape": (16, 1024)}),
        (256, {"shape": (256, 1024)}),
        (4096, "layer-norm"),
        (65536, {"shape": (65536, 1024)}, "full"),
    ],
    tiny={"shape": (8, 16)},
)


# Softmax cross-entropy, value and gradient: logits are read, the gradient is written, one exponential an element.
# Answer: the loss, the gradient of the logits.


@family(
    "cross_entropy",
    count=lambda o: (0.0, 2.0 * FLOAT * size(o)),
    tolerance=1e-5,
    arithmetic=lambda o: 6.0 * size(o),
)
def cross_entropy_inputs(rng: np.random.Generator, options: Options) -> Inputs:
    """Draw logits and labels."""
    rows, classes = options["shape"]
    logits = rng.standard_normal((rows, classes)).astype("f4")
    return {"logits": logits, "labels": rng.integers(0, classes, rows)}


@contender("cross_entropy", "ours", "nm.compile(nm.value_and_grad(loss))")
def cross_entropy_ours(inputs: Inputs, options: Options) -> Work:
    """Mean loss of a batch and its gradient."""
    import nnmath_core as nm

    def loss(logits: Any, labels: Any) -> Any:
        return nm.nn.softmax_cross_entropy(logits, labels).mean()

    if options.get("temperature"):
        args = ((inputs["logits"], np.zeros((), "f4")), inputs["labels"])
        warm = nm.value_and_grad(lambda at, labels: loss(at[0] * np.exp(-at[1]), labels))
        return compiled(warm, args, lambda result: [result[0], *result[1]])
    return compiled(nm.value_and_grad(loss), (inputs["logits"], inputs["labels"]))


byte_floor("cross_entropy", lambda o: 2.0 * FLOAT * size(o))
exp_floor("cross_entropy", lambda o: o["shape"])

for shape, at_most in (((4096, 1000), 1.5), ((512, 32000), 1.3)):
    name = " x ".join(map(str, shape))
    row(
        f"cross-entropy-{shape[0]}x{shape[1]}",
        f"softmax cross-entropy {name}, value and gradient",
        "cross_entropy",
        options={"shape": shape},
        tiny={"shape": (6, 10)},
        targets=(
            Target("floor", at_most, "one exp"),
            Target("ahead", 1.3, "tuned"),
            Target("ahead", 2.5, "default"),
        ),
    )

case(
    "cross-entropy",
    "softmax cross-entropy, value and gradient",
    "cross_entropy",
    "logits",
    [
        (64_000, {"shape": (64, 1000)}),
        (512_000, {"shape": (512, 1000)}),
        (4_096_000, "cross-entropy-4096x1000"),
        (16_384_000, "cross-entropy-512x32000"),
        (262_144_000, {"shape": (8192, 32000)}, "full"),
    ],
    tiny={"shape": (6, 10)},
    label=lambda o: "{} x {}".format(*o["shape"]),
)


# GELU by tanh, value and gradient in one program: x and the cotangent are read, the value and the gradient are written.
# Answer: the value, the gradient.


def tanh_gelu(x: Any) -> Any:
    """The formula as plain NumPy."""
    return 0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


@family(
    "gelu",
    count=lambda o: (0.0, 4.0 * FLOAT * o["n"]),
    tolerance=1e-5,
    arithmetic=lambda o: 20.0 * o["n"],
)
def gelu_inputs(rng: np.random.Generator, options: Options) -> Inputs:
    """Draw numbers and a cotangent."""
    x, g = (rng.standard_normal(options["n"]).astype("f4") for _ in range(2))
    return {"x": x, "g": g}


@contender("gelu", "ours", "nm.compile of the formula and nm.vjp")
def gelu_ours(inputs: Inputs, options: Options) -> Work:
    """Value and gradient; a variant takes the exact GELU by erf."""
    import nnmath_core as nm

    f = nm.nn.gelu if options.get("exact") else tanh_gelu

    def both(x: Any, g: Any) -> Any:
        y, pull = nm.vjp(f, x)
        return [y, *pull(g)]

    return compiled(both, (inputs["x"], inputs["g"]))


byte_floor("gelu", lambda o: 4.0 * FLOAT * o["n"])

row(
    "gelu",
    "GELU on 1e7, value and gradient",
    "gelu",
    options={"n": 10_000_000},
    tiny={"n": 100},
    targets=(
        Target("floor", 1.5, STREAMED),
        Target("ahead", 1.7, "tuned"),
        Target("ahead", 4.0, "default"),
    ),
)
row(
    "gelu-1e5",
    "GELU on 1e5, value and gradient",
    "gelu",
    options={"n": 100_000},
    tiny={"n": 100},
    sizes="full",
)
case(
    "gelu",
    "GELU, value and gradient",
    "gelu",
    "numbers",
    [
        (1e3, {"n": 1000}),
        (1e5, "gelu-1e5", "quick"),
        (1e7, "gelu"),
        (1e8, {"n": 100_000_000}, "full"),
    ],
    tiny={"n": 100},
)


# A formula of seven operations in one pass: three arrays are read, one is written. Answer: its value.


@family(
    "formula",
    count=lambda o: (0.0, 4.0 * FLOAT * o["n"]),
    tolerance=1e-5,
    arithmetic=lambda o: 7.0 * o["n"],
)
def formula_inputs(rng: np.random.Generator, options: Options) -> Inputs:
    """Draw three arrays."""
    return {k: rng.standard_normal(options["n"], dtype="f4") for k in "xab"}


@contender("formula", "ours", "nm.compile of the formula")
def formula_ours(inputs: Inputs, options: Options) -> Work:
    """An affine function under a bell, as plain NumPy."""

    def f(x: Any, a: Any, b: Any) -> Any:
        return (a * x + b) * np.exp(-0.5 * x * x)

    return compiled(f, tuple(inputs[k] for k in "xab"), lambda y: [y])


byte_floor("formula", lambda o: 4.0 * FLOAT * o["n"])

case(
    "formula",
    "(a x + b) exp(-x^2 / 2) of three arrays",
    "formula",
    "numbers",
    [
        (1e3, {"n": 1000}),
        (1e5, {"n": 100_000}),
        (1e7, {"n": 10_000_000}),
        (1e8, {"n": 100_000_000}, "full"),
    ],
    tiny={"n": 100},
)


# Normal numbers from a key, float32. Answer: the numbers, which no peer's generator gives.


@family(
    "normals",
    count=lambda o: (0.0, 1.0 * FLOAT * o["n"]),
    tolerance=1e-6,
    arithmetic=lambda o: 40.0 * o["n"],
)
def key(rng: np.random.Generator, options: Options) -> Inputs:
    """Draw a key."""
    return {"key": rng.integers(0, 2**32, 2, dtype="u4")}


@contender("normals", "ours", "nm.compile of nm.random.normal")
def normals_ours(inputs: Inputs, options: Options) -> Work:
    """As many numbers as asked for."""
    import nnmath_core as nm

    def draw(key: Any) -> Any:
        return nm.random.normal(key, options["n"], np.float32)

    return compiled(draw, (inputs["key"],), lambda y: [y])


case(
    "normals",
    "normal numbers",
    "normals",
    "numbers",
    [
        (1e3, {"n": 1000}),
        (1e5, {"n": 100_000}),
        (1e7, {"n": 10_000_000}),
        (1e8, {"n": 100_000_000}, "full"),
    ],
    tiny={"n": 100},
)


# Rows of a table by an index array, as embeddings are, and the gradient, which adds them up again.
# Answer: the rows, the gradient of their sum with fixed weights.


@family("embedding", count=lambda o: (0.0, 5.0 * FLOAT * o["n"] * o["width"]), tolerance=1e-5)
def table_and_tokens(rng: np.random.Generator, options: Options) -> Inputs:
    """Draw a table, tokens of which some repeat, and weights."""
    words, width, n = options["words"], options["width"], options["n"]
    return {
        "table": rng.standard_normal((words, width)).astype("f4"),
        "tokens": rng.integers(0, words, n),
        "weights": rng.standard_normal((n, width)).astype("f4"),
    }


@contender("embedding", "ours", "nm.compile(nm.value_and_grad(...))")
def embedding_ours(inputs: Inputs, options: Options) -> Work:
    """The weighted sum of the rows, and its gradient."""
    import nnmath_core as nm

    def f(table: Any, tokens: Any, weights: Any) -> Any:
        return np.sum(nm.numpy.take(table, tokens, axis=0) * weights)

    args = inputs["table"], inputs["tokens"], inputs["weights"]
    return compiled(nm.value_and_grad(f), args)


case(
    "embedding",
    "rows of a table and their gradient",
    "embedding",
    "rows",
    [
        (1e2, {"words": 1000, "width": 64, "n": 100}),
        (1e4, {"words": 10_000, "width": 128, "n": 10_000}),
        (1e5, {"words": 50_000, "width": 256, "n": 100_000}, "full"),
    ],
    tiny={"words": 7, "width": 3, "n": 10},
)
