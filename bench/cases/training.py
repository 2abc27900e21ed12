"""Training steps: multilayer perceptrons with Adam, and a transformer block forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
from floors import GEMMS, gemm_floor
from models import block, block_params, classify, flops, mlp_params, mlp_products
from registry import Inputs, Options, Target, Work, case, contender, family, row

RATE = 1e-3

# A step of Adam on a multilayer perceptron. Answer: the loss, then weight and bias of each layer after one step.


@family("mlp_step", count=lambda o: (flops(mlp_products(o)), 0.0), tolerance=2e-4)
def mlp_inputs(rng: np.random.Generator, options: Options) -> Inputs:
    """Draw a batch with labels and the parameters. Adam divides by the gradient's size: rounding weighs more there."""
    widths, batch = options["widths"], options["batch"]
    x = rng.standard_normal((batch, widths[0])).astype("f4")
    if options.get("columns"):
        x = np.ascontiguousarray(x.T)
    y = rng.integers(0, widths[-1], batch)
    return {"params": mlp_params(rng, options), "x": x, "y": y}


@contender("mlp_step", "ours", "nm.compile(step)")
def mlp_ours(inputs: Inputs, options: Options) -> Work:
    """The step as a user writes it; parameters and state are donated."""
    import nnmath_core as nm

    loss = classify(options)
    optimizer = nm.optim.adam(RATE)

    def step(params: Any, state: Any, x: Any, y: Any) -> Any:
        value, grads = nm.value_and_grad(loss)(params, x, y)
        params, state = optimizer.step(params, grads, state)
        return value, params, state

    def first(stepping: Any) -> tuple[list[Any], Any, Any]:
        params = nm.tree_map(np.copy, inputs["params"])
        value, params, state = stepping(params, optimizer.init(params), inputs["x"], inputs["y"])
        answer = [value]
        for layer in params:
            answer += [np.copy(layer["w"]), np.copy(layer["b"])]
        return answer, params, state

    compiled = nm.compile(step, donate_argnums=(0, 1))
    answer, *now = first(compiled)

    def run() -> None:
        _, now[0], now[1] = compiled(now[0], now[1], inputs["x"], inputs["y"])

    return Work(run, answer, lambda: first(step)[0])


gemm_floor("mlp_step", mlp_products)

for widths, batch, at_most, ahead, full in (
    ((784, 128, 10), 32, 1.05, (Target("ahead", 2.0, threads=1), Target("ahead", 3.0, threads=2)), False),
    ((784, 512, 512, 10), 128, 1.15, (Target("ahead", 1.2),), False),
    ((784, 2048, 2048, 10), 512, 1.04, (Target("ahead", 1.02),), False),
    ((784, 1024, 10), 256, 0.0, (), True),
):  # fmt: skip
    name = "-".join(map(str, widths))
    row(
        f"mlp-{name}",
        f"MLP {name}, batch {batch}, step with Adam",
        "mlp_step",
        options={"widths": widths, "batch": batch, "activation": "relu"},
        tiny={"widths": (6, *(5 for _ in widths[1:-1]), 3), "batch": 4},
        targets=(Target("floor", at_most, GEMMS), *ahead) if at_most else (),
        sizes="full" if full else "quick",
    )


def perceptron(batch: int) -> Options:
    """Return the network of two hidden layers with another batch."""
    return {"widths": (784, 512, 512, 10), "batch": batch, "activation": "relu"}


case(
    "mlp-step",
    "MLP 784-512-512-10, step with Adam",
    "mlp_step",
    "rows",
    [
        (8, perceptron(8)),
        (128, "mlp-784-512-512-10"),
        (1024, perceptron(1024)),
        (8192, perceptron(8192), "full"),
    ],
    tiny={"widths": (6, 5, 5, 3), "batch": 4},
)
case(
    "mlp-step-widths",
    "MLPs of 784 inputs and 10 classes, step with Adam",
    "mlp_step",
    "parameters",
    [
        (101_770, "mlp-784-128-10"),
        (814_090, "mlp-784-1024-10"),
        (5_824_522, "mlp-784-2048-2048-10"),
    ],
    tiny={"widths": (6, 5, 3), "batch": 4},
    label=lambda o: f"{'-'.join(map(str, o['widths']))}, batch {o['batch']}",
)

# A transformer block, forward and backward. Answer: the output, then the gradients of the input and of the parameters
# by name.


def block_products(options: Options) -> list[tuple[int, int, int]]:
    """Return the products of a block: four dense layers and the two of attention, each with its two gradients."""
    b, t, d, f, h = (options[k] for k in ("batch", "time", "d", "ff", "heads"))
    made = []
    for i, o in ((d, 3 * d), (d, d), (d, f), (f, d)):
        made += [(b * t, i, o), (i, b * t, o), (b * t, o, i)]
    # scores, their two gradients; mixing, its two gradients
    e = d // h
    made += ([(t, e, t), (t, t, e), (t, t, e), (t, t, e), (t, e, t), (t, t, e)]) * (b * h)
    return made


@family("transformer_block", count=lambda o: (flops(block_products(o)), 0.0), tolerance=1e-4)
def block_inputs(rng: np.random.Generator, options: Options) -> Inputs:
    """Draw an input, a cotangent and the parameters."""
    shape = (options["batch"], options["time"], options["d"])
    x, g = (rng.standard_normal(shape).astype("f4") for _ in range(2))
    return {"params": block_params(rng, options), "x": x, "g": g}


@contender("transformer_block", "ours", "nm.compile of forward and nm.vjp")
def block_ours(inputs: Inputs, options: Options) -> Work:
    """Value and gradients of the input and of all parameters."""
    import nnmath_core as nm

    def forward_and_backward(params: Any, x: Any, g: Any) -> Any:
        y, pull = nm.vjp(lambda p, x: block(p, x, options), params, x)
        dp, dx = pull(g)
        return y, dx, dp

    args = inputs["params"], inputs["x"], inputs["g"]

    def ordered(result: Any) -> list[Any]:
        return [result[0], result[1], *(result[2][k] for k in sorted(result[2]))]

    compiled = nm.compile(forward_and_backward)
    return Work(
        lambda: compiled(*args),
        ordered(compiled(*args)),
        lambda: ordered(forward_and_backward(*args)),
    )


gemm_floor("transformer_block", block_products)

row(
    "transformer-block",
    "transformer block, B 8, T 128, d 256, forward and backward",
    "transformer_block",
    options={"batch": 8, "time": 128, "d": 256, "ff": 1024, "heads": 8},
    tiny={"batch": 2, "time": 4, "d": 8, "ff": 12, "heads": 2},
    targets=(Target("floor", 1.15, GEMMS), Target("ahead", 1.12)),
    note="8 heads, feed-forward 1024, pre-norm, tanh GELU, no mask, float32",
)


# A training step of that block: squares of its output's distance to targets, all gradients, a step of AdamW. Answer:
# the loss, then the parameters by name after one step, but for the biases of queries, keys and values: the gradient of
# the keys' is rounding alone, by whose size Adam divides.


@family("transformer_step", count=lambda o: (flops(block_products(o)), 0.0), tolerance=2e-4)
def step_inputs(rng: np.random.Generator, options: Options) -> Inputs:
    """Draw an input, targets and the parameters."""
    shape = (options["batch"], options["time"], options["d"])
    x, y = (rng.standard_normal(shape, dtype="f4") for _ in range(2))
    return {"params": block_params(rng, options), "x": x, "y": y}


@contender("transformer_step", "ours", "nm.compile(step)")
def step_ours(inputs: Inputs, options: Options) -> Work:
    """Parameters and state are donated."""
    import nnmath_core as nm

    optimizer = nm.optim.adamw(RATE, weight_decay=1e-2)

    def loss(params: Any, x: Any, y: Any) -> Any:
        return np.mean((block(params, x, options) - y) ** 2)

    def step(params: Any, state: Any, x: Any, y: Any) -> Any:
        value, grads = nm.value_and_grad(loss)(params, x, y)
        params, state = optimizer.step(params, grads, state)
        return value, params, state

    def first(stepping: Any) -> tuple[list[Any], Any, Any]:
        params = nm.tree_map(np.copy, inputs["params"])
        value, params, state = stepping(params, optimizer.init(params), inputs["x"], inputs["y"])
        return [value, *(np.copy(params[k]) for k in sorted(params) if k != "qkv_b")], params, state

    compiled = nm.compile(step, donate_argnums=(0, 1))
    answer, *now = first(compiled)

    def run() -> None:
        _, now[0], now[1] = compiled(now[0], now[1], inputs["x"], inputs["y"])

    return Work(run, answer, lambda: first(step)[0])


gemm_floor("transformer_step", block_products)


def blocks(batch: int) -> Options:
    """Return the block above with another batch."""
    return {"batch": batch, "time": 128, "d": 256, "ff": 1024, "heads": 8}


SMALL = {"batch": 2, "time": 4, "d": 8, "ff": 12, "heads": 2}

case(
    "transformer",
    "transformer block, T 128, d 256, forward and backward",
    "transformer_block",
    "sequences",
    [(1, blocks(1)), (8, "transformer-block"), (64, blocks(64), "full")],
    tiny=SMALL,
)
case(
    "transformer-step",
    "transformer block, T 128, d 256, step with AdamW",
    "transformer_step",
    "sequences",
    [(1, blocks(1)), (8, blocks(8)), (64, blocks(64), "full")],
    tiny=SMALL,
)
