"""A step of an optimizer over many tensors: one instruction."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnmath_core.program.builder import Builder
from nnmath_core.program.ir import Equation
from nnmath_core.program.lower.elementwise import as_dtype
from nnmath_core.program.lower.rules import lowers

__all__: list[str] = []

RULES = {"gradient_descent": 0, "heavy_ball": 1, "nesterov": 2, "adam": 3, "adamw": 4}
"""As the enumeration of `optimizer.c` says."""
SLOTS = (0, 1, 1, 2, 2)
QUANTUM = 64
"""Entries of which the share of a thread is a multiple."""
FLOPS = (2.0, 4.0, 6.0, 22.0, 25.0)
"""Of an entry: a division and a root count as four."""


@lowers("optimizer_step")
def _step(b: Builder, e: Equation) -> Any:
    optimizer = e.params["optimizer"]
    rate, t, *leaves = e.operands
    if optimizer.kernel is None:
        return NotImplemented
    name, numbers = optimizer.kernel
    dtypes = {b.view(x).dtype for x in leaves}
    floats = (np.dtype(np.float32), np.dtype(np.float64))
    if len(dtypes) != 1 or not dtypes <= set(floats) or name not in RULES:
        return NotImplemented
    dtype = dtypes.pop()
    slots = SLOTS[RULES[name]]
    width = 2 + slots
    lr, number = as_dtype(b, b.view(rate), np.float64), as_dtype(b, b.view(t), np.int64)
    if lr is None or number is None:
        return NotImplemented
    reads = [b.contiguous(v) for v in (lr, number, *map(b.view, leaves))]
    writes = [b.new(v) for v in e.outputs]
    sizes = [math.prod(v.shape) for v in e.outputs[:: 1 + slots]]
    inplace = [
        (i * (1 + slots) + j, 2 + i * width + (j + 1 if j else 0))
        for i in range(len(sizes))
        for j in range(1 + slots)
    ]
    rule = RULES[name]
    b.emit(
        "optimizer", reads, writes, [rule, dtype == np.float64, len(sizes), *sizes, *(QUANTUM for _ in sizes)],
        [float(getattr(optimizer, n)) for n in numbers],
        inplace=inplace, flops=FLOPS[rule] * sum(sizes), note=f"{name} of {len(sizes)}",
    )  # fmt: skip
    return None
