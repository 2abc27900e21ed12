"""Training steps: multilayer perceptrons with Adam, and a transformer block forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
from floors import GEMMS, gemm_floor
from models import block, block_params, classify, flops, mlp_params, mlp_products
from registry import Inputs, Options, Target, Work, contender, family, row

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
