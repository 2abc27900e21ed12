"""Products with sparse matrices."""

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


def _operands(b: Builder, e: Equation) -> tuple[View, View, int] | None:
    """Both operands in the dtype of the result, contiguous, and its code; None where there is no kernel."""
    out, pattern = e.outputs[0], e.params["pattern"]
    code = code_of(out.dtype)
    views = [b.view(x) for x in e.operands]
    if not isinstance(pattern.columns, np.ndarray) or not isinstance(pattern.starts, np.ndarray):
        return None  # it lies on a device
    if out.dtype.kind not in "fc" or code is None:
        return None
    if not all(castable(v.dtype, out.dtype) for v in views):
        return None
    x, y = (b.contiguous(to_dtype(b, v, out.dtype)) for v in views)
    return x, y, code


def _whole(b: Builder, x: Any) -> View:
    return b.constant(np.ascontiguousarray(x, np.int64))


def _is_empty(b: Builder, e: Equation, x: View, y: View) -> bool:
    """Whether nothing is summed; the result, which is 0, is then made."""
    out = e.outputs[0]
    if 0 in out.shape:
        b.new(out)
    elif x.size == 0 or y.size == 0:
        zeros(b, out)
    else:
        return False
    return True


@lowers("spmm")
def _spmm(b: Builder, e: Equation) -> Any:
    out, pattern = e.outputs[0], e.params["pattern"]
    found = _operands(b, e)
    if found is None:
        return NotImplemented
    data, x, code = found
    if _is_empty(b, e, data, x):
        return None
    if e.params["transposed"]:  # row after row of the transpose, entries in the order of the rows
        order = np.argsort(pattern.columns, kind="stable")
        orders = [_whole(b, order)]
        starts = np.searchsorted(pattern.columns[order], np.arange(pattern.shape[1] + 1))
        columns = pattern.rows[order]
    else:
        orders, starts, columns = [], pattern.starts, pattern.columns
    width = math.prod(x.shape[1:])
    b.emit(
        "spmm", [data, x, _whole(b, starts), _whole(b, columns), *orders], [b.new(out)],
        [code, out.shape[0], width], flops=2.0 * pattern.nnz * width, note="sparse times dense",
    )  # fmt: skip
    return None


@lowers("sddmm")
def _sddmm(b: Builder, e: Equation) -> Any:
    out, pattern = e.outputs[0], e.params["pattern"]
    found = _operands(b, e)
    if found is None:
        return NotImplemented
    x, y, code = found
    if _is_empty(b, e, x, y):
        return None
    width = math.prod(x.shape[1:])
    b.emit(
        "sddmm", [x, y, _whole(b, pattern.rows), _whole(b, pattern.columns)], [b.new(out)],
        [code, pattern.nnz, width], flops=2.0 * pattern.nnz * width,
        note="dense at the places of a pattern",
    )  # fmt: skip
    return None
