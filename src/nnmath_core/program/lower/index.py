"""Entries at the places that arrays of integers say, and places that entries say: take, scatter, sort, extremes, scans.

Indices are checked where they are read: of one that is outside the run ends, and raises IndexError.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var
from nnmath_core.program.builder import Builder, View, merged_axes
from nnmath_core.program.ir import Equation
from nnmath_core.program.loops import castable
from nnmath_core.program.lower.elementwise import as_dtype
from nnmath_core.program.lower.entries import (
    COPIED,
    alias,
    code_of,
    products,
    to_dtype,
    zeros,
)
from nnmath_core.program.lower.rules import lowers

__all__: list[str] = []

INDEX = np.dtype(np.int64)


def _indices(b: Builder, i: Any) -> View | None:
    """An operand as 64-bit indices; None where NumPy would not take it for that."""
    if not isinstance(i, Var):
        return (
            b.view(i, INDEX)
            if isinstance(i, (int, np.integer)) and not isinstance(i, bool)
            else None
        )
    if i.dtype.kind not in "iu" or i.dtype == np.uint64:
        return None
    return as_dtype(b, b.view(i), INDEX)


def _empty(b: Builder, out: Var, n: int, indices: int) -> Any:
    """The result without entries; indices that NumPy would find outside are left to it."""
    if indices:
        return NotImplemented
    b.new(out)
    return None


# ---------------------------------------------------------------------------------------------- take
@lowers("take")
def _take(b: Builder, e: Equation) -> Any:
    (x, i), axis, out = e.operands, e.params["axis"], e.outputs[0]
    v = b.view(x)
    if v.dtype.itemsize not in COPIED or v.dtype != out.dtype:
        return NotImplemented
    at = _indices(b, i)
    if at is None:
        return NotImplemented
    if 0 in out.shape:
        return _empty(b, out, v.shape[axis], at.size)
    lead = merged_axes(v.shape[:axis], (v.strides[:axis],))
    trail = merged_axes(v.shape[axis + 1 :], (v.strides[axis + 1 :],))
    flat = [number for n, (s,) in (*lead, *trail) for number in (n, s)]
    b.emit(
        "take", [v, b.contiguous(at)], [b.new(out)],
        [v.dtype.itemsize, v.shape[axis], v.strides[axis], at.size, len(lead), len(trail), *flat], note="take",
    )  # fmt: skip
    return None


@lowers("take_along_axis")
def _take_along(b: Builder, e: Equation) -> Any:
    (x, i), axis, out = e.operands, e.params["axis"], e.outputs[0]
    v = b.view(x)
    if v.dtype.itemsize not in COPIED or v.dtype != out.dtype:
        return NotImplemented
    at = _indices(b, i)
    others = [n for a, n in enumerate(v.shape) if a != axis]
    if at is None or others != [n for a, n in enumerate(at.shape) if a != axis]:
        return NotImplemented
    if 0 in out.shape:
        return _empty(b, out, v.shape[axis], at.size)
    y = b.new(out)
    fixed = [0 if a == axis else s for a, s in enumerate(v.strides)]
    axes = merged_axes(y.shape, (at.strides, fixed, y.strides))
    flat = [number for n, (a, s, _) in axes for number in (n, a, s)]
    b.emit(
        "take_along", [v, at], [y],
        [v.dtype.itemsize, v.shape[axis], v.strides[axis], len(axes), *flat], note="take along",
    )  # fmt: skip
    return None


# ---------------------------------------------------------------------------------------------- scatter
@lowers("scatter_add", "add_along_axis")
def _scatter(b: Builder, e: Equation) -> Any:
    (g, i), axis, shape, out = e.operands, e.params["axis"], e.params["shape"], e.outputs[0]
    each = e.primitive.name == "add_along_axis"
    v = b.view(g)
    code = code_of(out.dtype)
    if code is None or out.dtype.kind == "b" or not castable(v.dtype, out.dtype):
        return NotImplemented
    before, n, behind = products(shape, axis)
    if each:
        others = [m for a, m in enumerate(v.shape) if a != axis]
        if (
            not isinstance(i, Var)
            or i.shape != v.shape
            or others != [m for a, m in enumerate(shape) if a != axis]
        ):
            return NotImplemented
    at = _indices(b, i)
    if at is None:
        return NotImplemented
    if 0 in out.shape:
        return _empty(b, out, n, at.size)
    if v.size == 0:
        zeros(b, out)
        return None
    v = b.contiguous(to_dtype(b, v, out.dtype))
    if out.dtype.kind == "c" and not each:  # rows of real numbers
        code, behind = code - code_of("c8") + code_of("f4"), 2 * behind  # type: ignore[operator]
    count = at.shape[axis] if each else at.size
    b.emit(
        "scatter_add", [v, b.contiguous(at)], [b.new(out)], [code, n, before, count, behind, each],
        flops=float(v.size), note="scatter",
    )  # fmt: skip
    return None


@lowers("last_writer")
def _last_writer(b: Builder, e: Equation) -> Any:
    at, out = _indices(b, e.operands[0]), e.outputs[0]
    if at is None or at.ndim != 1:
        return NotImplemented
    if 0 in out.shape:
        return _empty(b, out, 0, at.size)
    b.emit(
        "last_writer",
        [b.contiguous(at)],
        [b.new(out)],
        [out.shape[0], at.size],
        alone=True,
        note="last writer",
    )
    return None


# ---------------------------------------------------------------------------------------------- order
def _sortable(dtype: Any) -> int | None:
    """The code of a type whose entries have an order that the kernels know."""
    return code_of(dtype) if dtype.kind in "fiub" else None


def _last(v: View, axis: int) -> tuple[View, tuple[int, ...]]:
    """The view with an axis last, and where its axes are then found."""
    order = [a for a in range(v.ndim) if a != axis] + [axis]
    return v.transposed(order), tuple(int(a) for a in np.argsort(order))


@lowers("argsort")
def _argsort(b: Builder, e: Equation) -> Any:
    v, out, axis = b.view(e.operands[0]), e.outputs[0], e.params["axis"]
    code = _sortable(v.dtype)
    if code is None:
        return NotImplemented
    if 0 in out.shape:
        b.new(out)
        return None
    rows, back = _last(v, axis)
    rows = b.contiguous(rows)
    y = b.array(rows.shape, INDEX)
    n, many = rows.shape[-1], math.prod(rows.shape[:-1])
    b.scratch(32 * n * min(b.threads, many))
    flops = 5.0 * v.size * max(n, 2).bit_length()
    b.emit("argsort", [rows], [y], [code, many, n], flops=flops, note="sort")
    alias(b, e, y.transposed(back))
    return None


@lowers("searchsorted")
def _searchsorted(b: Builder, e: Equation) -> Any:
    (a, v), out = e.operands, e.outputs[0]
    a, v = b.view(a), b.view(v)
    dtype = np.promote_types(a.dtype, v.dtype)
    code = _sortable(dtype)
    if (
        code is None
        or a.weak
        or v.weak
        or not castable(a.dtype, dtype)
        or not castable(v.dtype, dtype)
    ):
        return NotImplemented
    if 0 in out.shape:
        b.new(out)
        return None
    rows = math.prod(a.shape[:-1])
    a, v = (b.contiguous(to_dtype(b, x, dtype)) for x in (a, v))
    b.emit(
        "searchsorted", [a, v], [b.new(out)],
        [code, rows, a.shape[-1], v.size // rows, e.params["side"] == "right"],
        flops=4.0 * v.size * (a.shape[-1] + 1).bit_length(), note="search",
    )  # fmt: skip
    return None


@lowers("argmax", "argmin")
def _extreme(b: Builder, e: Equation) -> Any:
    v, out, axis = b.view(e.operands[0]), e.outputs[0], e.params["axis"]
    code = _sortable(v.dtype)
    if code is None or not v.ndim or v.shape[axis] == 0:
        return NotImplemented
    if 0 in out.shape:
        b.new(out)
        return None
    sizes = products(v.shape, axis)
    b.emit(
        "extreme", [b.contiguous(v)], [b.new(out)], [code, e.primitive.name == "argmin", *sizes],
        flops=float(v.size), note=e.primitive.name,
    )  # fmt: skip
    return None


# ---------------------------------------------------------------------------------------------- one after the other
def _accumulating(b: Builder, v: View, out: Var) -> int | None:
    """The code of the type in which entries are added up or multiplied."""
    code = code_of(out.dtype)
    if out.dtype.kind == "b" or (out.dtype.kind in "iu" and out.dtype.itemsize != 8):
        return None
    return code if castable(v.dtype, out.dtype) else None


@lowers("cumsum", "cumprod")
def _accumulate(b: Builder, e: Equation) -> Any:
    v, out, axis = b.view(e.operands[0]), e.outputs[0], e.params["axis"]
    code = _accumulating(b, v, out)
    if code is None or not v.ndim:
        return NotImplemented
    if 0 in out.shape:
        b.new(out)
        return None
    v = b.contiguous(to_dtype(b, v, out.dtype))
    b.emit(
        "accumulate", [v], [b.new(out)],
        [code, e.primitive.name == "cumprod", *products(v.shape, axis), e.params.get("reverse", False)],
        flops=float(v.size), note=e.primitive.name,
    )  # fmt: skip
    return None


@lowers("recurrence")
def _recurrence(b: Builder, e: Equation) -> Any:
    out = e.outputs[0]
    v, c = (b.view(x) for x in e.operands)
    code = _accumulating(b, v, out)
    if (
        code is None
        or not castable(c.dtype, out.dtype)
        or not out.shape
        or not v.shape == c.shape == out.shape
    ):
        return NotImplemented
    if 0 in out.shape:
        b.new(out)
        return None
    v, c = (b.contiguous(to_dtype(b, x, out.dtype)) for x in (v, c))
    b.emit(
        "accumulate", [v, c], [b.new(out)], [code, 2, *products(v.shape, v.ndim - 1), e.params["reverse"]],
        flops=2.0 * v.size, note="recurrence",
    )  # fmt: skip
    return None


@lowers("others")
def _others(b: Builder, e: Equation) -> Any:
    v, out, axes = b.view(e.operands[0]), e.outputs[0], e.params["axis"]
    code = _accumulating(b, v, out)
    if code is None or out.dtype.kind == "c":
        return NotImplemented
    if 0 in out.shape:
        b.new(out)
        return None
    axes = tuple(a % v.ndim for a in axes)
    order = [*(a for a in range(v.ndim) if a not in axes), *axes]
    rows = b.contiguous(to_dtype(b, v, out.dtype).transposed(order))
    n = math.prod(v.shape[a] for a in axes)
    y = b.array(rows.shape, out.dtype)
    b.emit("others", [rows], [y], [code, v.size // n, n], flops=3.0 * v.size, note="others")
    alias(b, e, y.transposed([int(a) for a in np.argsort(order)]))
    return None
