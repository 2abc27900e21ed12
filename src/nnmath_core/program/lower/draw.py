"""Random numbers of keys, and products with sparse matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnmath_core.program.builder import Builder, View
from nnmath_core.program.ir import Equation
from nnmath_core.program.loops import castable
from nnmath_core.program.lower.entries import code_of, to_dtype, zeros
from nnmath_core.program.lower.rules import lowers

__all__: list[str] = []

WORDS, UNIFORM, NORMAL, BLOCKS = 0, 1, 3, 5


# ---------------------------------------------------------------------------------------------- random numbers
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


# ---------------------------------------------------------------------------------------------- sparse matrices
def _pattern(e: Equation) -> Any:
    """The pattern, where it is an array of the host."""
    pattern = e.params["pattern"]
    return (
        pattern
        if isinstance(pattern.columns, np.ndarray) and isinstance(pattern.starts, np.ndarray)
        else None
    )


def _whole(b: Builder, x: Any) -> View:
    return b.constant(np.ascontiguousarray(x, np.int64))


@lowers("spmm")
def _spmm(b: Builder, e: Equation) -> Any:
    out, pattern = e.outputs[0], _pattern(e)
    data, x = b.view(e.operands[0]), b.view(e.operands[1])
    code = code_of(out.dtype)
    if pattern is None or out.dtype.kind not in "fc" or code is None:
        return NotImplemented
    if not castable(data.dtype, out.dtype) or not castable(x.dtype, out.dtype):
        return NotImplemented
    if 0 in out.shape:
        b.new(out)
        return None
    if data.size == 0 or x.size == 0:
        zeros(b, out)
        return None
    if e.params["transposed"]:  # row after row of the transpose, entries in the order of the rows
        order = np.argsort(pattern.columns, kind="stable")
        orders = [_whole(b, order)]
        starts = np.searchsorted(pattern.columns[order], np.arange(pattern.shape[1] + 1))
        columns = pattern.rows[order]
    else:
        orders, starts, columns = [], pattern.starts, pattern.columns
    data, x = (b.contiguous(to_dtype(b, v, out.dtype)) for v in (data, x))
    width = math.prod(x.shape[1:])
    b.emit(
        "spmm", [data, x, _whole(b, starts), _whole(b, columns), *orders], [b.new(out)],
        [code, out.shape[0], width], flops=2.0 * pattern.nnz * width, note="sparse times dense",
    )  # fmt: skip
    return None


@lowers("sddmm")
def _sddmm(b: Builder, e: Equation) -> Any:
    out, pattern = e.outputs[0], _pattern(e)
    x, y = b.view(e.operands[0]), b.view(e.operands[1])
    code = code_of(out.dtype)
    if pattern is None or out.dtype.kind not in "fc" or code is None:
        return NotImplemented
    if not castable(x.dtype, out.dtype) or not castable(y.dtype, out.dtype):
        return NotImplemented
    if 0 in out.shape:
        b.new(out)
        return None
    if x.size == 0 or y.size == 0:
        zeros(b, out)
        return None
    x, y = (b.contiguous(to_dtype(b, v, out.dtype)) for v in (x, y))
    width = math.prod(x.shape[1:])
    b.emit(
        "sddmm", [x, y, _whole(b, pattern.rows), _whole(b, pattern.columns)], [b.new(out)],
        [code, pattern.nnz, width], flops=2.0 * pattern.nnz * width, note="dense at the places of a pattern",
    )  # fmt: skip
    return None
