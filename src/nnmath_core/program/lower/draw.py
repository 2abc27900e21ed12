"""Random numbers of keys."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnmath_core.program.builder import Builder
from nnmath_core.program.ir import Equation
from nnmath_core.program.lower.rules import lowers

__all__: list[str] = []

WORDS, UNIFORM, NORMAL, BLOCKS = 0, 1, 3, 5


@lowers("random_words", "random_uniform", "random_normal")
def _draw(b: Builder, e: Equation) -> Any:
    keys, out, p = b.view(e.operands[0]), e.outputs[0], e.params
    if keys.dtype != np.uint32 or keys.shape[-1:] != (2,):
        return NotImplemented
    what = {"random_words": WORDS, "random_uniform": UNIFORM, "random_normal": NORMAL}[
        e.primitive.name
    ]
    if what != WORDS:
        if out.dtype.kind != "f" or out.dtype.itemsize not in (4, 8):
            return NotImplemented
        what += out.dtype.itemsize == 8
    if 0 in out.shape:
        b.new(out)
        return None
    rows = math.prod(keys.shape[:-1])
    b.emit(
        "draw", [b.contiguous(keys)], [b.new(out)], [what, rows, p["count"], p.get("purpose", 0)],
        flops=(40.0 if what >= NORMAL else 20.0) * rows * p["count"], note=e.primitive.name,
    )  # fmt: skip
    return None


@lowers("philox")
def _philox(b: Builder, e: Equation) -> Any:
    counters, keys, out = b.view(e.operands[0]), b.view(e.operands[1]), e.outputs[0]
    if (
        counters.dtype != np.uint32
        or keys.dtype != np.uint32
        or counters.shape[:-1] != keys.shape[:-1]
    ):
        return NotImplemented
    if counters.shape[-1:] != (4,) or keys.shape[-1:] != (2,):
        return NotImplemented
    if 0 in out.shape:
        b.new(out)
        return None
    rows = math.prod(out.shape[:-1])
    b.emit(
        "draw", [b.contiguous(counters), b.contiguous(keys)], [b.new(out)], [BLOCKS, rows, 4, 0],
        flops=80.0 * rows, note="philox",
    )  # fmt: skip
    return None
