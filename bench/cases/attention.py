"""Attention of heads, forward and backward: two products of scores and values, five backward.

There is no floor: products that BLAS makes of whole heads write scores to memory, which the work need not do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from models import flops
from registry import Inputs, Options, Target, Work, case, contender, family, row

from cases.rows import compiled


def products(options: Options) -> list[tuple[int, int, int]]:
    """Return the products of all heads: scores and values, then both again and their gradients, but for the values."""
    b, h, t, d = options["shape"]
    return [(t, d, t), (t, t, d), (t, d, t), (t, d, t), (t, t, d), (t, t, d), (t, t, d)] * (b * h)


# Answer: the values, the gradients of q, k, v.


@family("attention", count=lambda o: (flops(products(o)), 0.0), tolerance=2e-5)
def attention_inputs(rng: np.random.Generator, options: Options) -> Inputs:
    """Draw queries, keys, values and a cotangent."""
    return {k: rng.standard_normal(options["shape"]).astype("f4") for k in "qkvg"}


@contender("attention", "ours", "nm.compile of nm.nn.attention and nm.vjp")
def attention_ours(inputs: Inputs, options: Options) -> Work:
    """Values and gradients."""
    import nnmath_core as nm

    def both(q: Any, k: Any, v: Any, g: Any) -> Any:
        y, pull = nm.vjp(lambda *xs: nm.nn.attention(*xs, causal=options["causal"]), q, k, v)
        return [y, *pull(g)]

    return compiled(both, tuple(inputs[k] for k in "qkvg"))


for shape in ((1, 8, 4096, 32), (8, 8, 128, 32), (4, 8, 512, 64)):
    for causal in (False, True):
        row(
            f"attention-{'x'.join(map(str, shape))}{'-causal' * causal}",
            "attention, B {} of {} heads, T {}, d {}, forward and backward".format(*shape)
            + ", causal" * causal,
            "attention",
            options={"shape": shape, "causal": causal},
            tiny={"shape": (2, 2, 9, 4)},
            targets=(Target("ahead", 0.67),),
            note="float32; at most 1.5 times the fused kernels of the peers",
            sizes="full",
        )


def of_length(t: int) -> Options:
    """Return 4 batches of 8 heads of width 64."""
    return {"shape": (4, 8, t, 64), "causal": False}


case(
    "attention-heads",
    "attention, B 4 of 8 heads, d 64, forward and backward",
    "attention",
    "positions",
    [
        (32, of_length(32)),
        (128, of_length(128)),
        (512, "attention-4x8x512x64", "quick"),
        (2048, of_length(2048), "full"),
    ],
    tiny={"shape": (2, 2, 9, 4)},
)
case(
    "attention-heads-causal",
    "attention, B 4 of 8 heads, d 64, causal, forward and backward",
    "attention",
    "positions",
    [
        (128, {**of_length(128), "causal": True}),
        (512, "attention-4x8x512x64-causal", "quick"),
        (2048, {**of_length(2048), "causal": True}, "full"),
    ],
    tiny={"shape": (2, 2, 9, 4)},
)
