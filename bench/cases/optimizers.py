"""Optimizer steps on given gradients: AdamW on one large tensor and on many small ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from floors import STREAMED, byte_floor
from registry import Inputs, Options, Target, Work, case, contender, family, row

RATE, DECAY = 1e-3, 1e-2


def step_bytes(options: Options) -> float:
    """Parameters, gradients and two moments are read; parameters and moments are written."""
    return 7.0 * 4 * options["tensors"] * options["n"]


@family(
    "adamw",
    count=lambda o: (0.0, step_bytes(o)),
    tolerance=1e-5,
    arithmetic=lambda o: 13.0 * o["tensors"] * o["n"],
)
def adamw_inputs(rng: np.random.Generator, options: Options) -> Inputs:
    """Draw tensors and their gradients. Answer: the tensors after one step."""
    shapes = [options["n"]] * options["tensors"]
    params = [rng.standard_normal(n, dtype="f4") for n in shapes]
    return {"params": params, "grads": [rng.standard_normal(n, dtype="f4") for n in shapes]}


def by_formula(params: Any, grads: Any, state: Any) -> Any:
    """The step as a user writes it who does not know `nm.optim`."""
    t, first, second = state
    t = t + 1
    first = [0.9 * m + 0.1 * g for m, g in zip(first, grads, strict=True)]
    second = [0.999 * v + 0.001 * g * g for v, g in zip(second, grads, strict=True)]
    rate, scale = RATE / (1 - 0.9**t), 1 / (1 - 0.999**t)
    moved = [
        (1 - RATE * DECAY) * p - rate * m / (np.sqrt(v * scale) + 1e-8)
        for p, m, v in zip(params, first, second, strict=True)
    ]
    return moved, (t, first, second)


@contender("adamw", "ours", "nm.compile(nm.optim.adamw.step)")
def adamw_ours(inputs: Inputs, options: Options) -> Work:
    """Parameters and state are donated, gradients are not."""
    import nnmath_core as nm

    optimizer = nm.optim.adamw(RATE, weight_decay=DECAY)
    stepping = by_formula if options.get("formula") else optimizer.step

    def first(step: Any) -> tuple[list[Any], Any, Any]:
        params = [p.copy() for p in inputs["params"]]
        if options.get("formula"):
            zeros = [np.zeros_like(p) for p in params]
            state: Any = (0, zeros, [z.copy() for z in zeros])
        else:
            state = optimizer.init(params)
        params, state = step(params, inputs["grads"], state)
        return [p.copy() for p in params], params, state

    compiled = nm.compile(stepping, donate_argnums=(0, 2))
    answer, *now = first(compiled)

    def run() -> None:
        now[:] = compiled(now[0], inputs["grads"], now[1])

    return Work(run, answer, lambda: first(stepping)[0])


byte_floor("adamw", step_bytes)

row(
    "adamw-1e7",
    "AdamW, one tensor of 1e7",
    "adamw",
    options={"tensors": 1, "n": 10_000_000},
    tiny={"n": 100},
    targets=(Target("floor", 1.03, STREAMED), Target("ahead", 1.0)),
)
row(
    "adamw-200x1e4",
    "AdamW, 200 tensors of 1e4",
    "adamw",
    options={"tensors": 200, "n": 10_000},
    tiny={"tensors": 3, "n": 10},
    targets=(Target("floor", 1.2, STREAMED), Target("ahead", 2.0)),
)
case(
    "adamw",
    "AdamW, one tensor",
    "adamw",
    "parameters",
    [
        (1e4, {"tensors": 1, "n": 10_000}),
        (1e6, {"tensors": 1, "n": 1_000_000}),
        (1e7, "adamw-1e7"),
        (1e8, {"tensors": 1, "n": 100_000_000}, "full"),
    ],
    tiny={"n": 100},
)
case(
    "adamw-tensors",
    "AdamW, tensors of 1e4",
    "adamw",
    "tensors",
    [
        (4, {"tensors": 4, "n": 10_000}),
        (200, "adamw-200x1e4"),
        (2000, {"tensors": 2000, "n": 10_000}, "full"),
    ],
    tiny={"tensors": 3, "n": 10},
)
