"""Movement of entries: views where strides can say it, else one pass over what is written."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var
from nnmath_core.program.builder import Builder, View
from nnmath_core.program.ir import Equation
from nnmath_core.program.loops import castable
from nnmath_core.program.lower.entries import (
    COPIED,
    alias,
    parts,
    placed,
    positions,
    put,
    to_dtype,
)
from nnmath_core.program.lower.rules import lowers

__all__: list[str] = []


def _operand(b: Builder, e: Equation, k: int = 0) -> View:
    return b.view(e.operands[k])


# ---------------------------------------------------------------------------------------------- views
@lowers("reshape")
def _reshape(b: Builder, e: Equation) -> Any:
    v, shape = _operand(b, e), e.outputs[0].shape
    view = v.reshaped(shape)
    if view is None:
        view = b.contiguous(v).reshaped(shape)
    assert view is not None
    alias(b, e, view)


@lowers("transpose")
def _transpose(b: Builder, e: Equation) -> Any:
    alias(b, e, _operand(b, e).transposed(e.params["axes"]))


@lowers("broadcast_to")
def _broadcast_to(b: Builder, e: Equation) -> Any:
    alias(b, e, _operand(b, e).broadcast(e.outputs[0].shape))


@lowers("flip")
def _flip(b: Builder, e: Equation) -> Any:
    v, axes = _operand(b, e), [a % len(e.outputs[0].shape) for a in e.params["axis"]]
    index = [slice(None, None, -1) if a in axes else slice(None) for a in range(v.ndim)]
    alias(b, e, _sliced(v, index))


@lowers("slice")
def _slice(b: Builder, e: Equation) -> Any:
    alias(b, e, _sliced(_operand(b, e), e.params["index"]))


def _sliced(v: View, index: Any) -> View:
    offset, axis = v.offset, 0
    shape: list[int] = []
    strides: list[int] = []
    for entry in positions(v.shape, index):
        if entry is None:
            shape.append(1)
            strides.append(0)
            continue
        start, step, count = entry
        if count:
            offset += start * v.strides[axis]
        if step:
            shape.append(count)
            strides.append(step * v.strides[axis])
        axis += 1
    return v.at(offset, shape, strides)


@lowers("diagonal")
def _diagonal(b: Builder, e: Equation) -> Any:
    v, k = _operand(b, e), e.params["k"]
    rows, columns = v.strides[-2:]
    shape = e.outputs[0].shape
    start = k * columns if k >= 0 else -k * rows
    offset = v.offset + (start if 0 not in shape else 0)
    alias(b, e, v.at(offset, shape, (*v.strides[:-2], rows + columns)))


@lowers("real", "imag")
def _part(b: Builder, e: Equation) -> Any:
    v, real = _operand(b, e), e.primitive.name == "real"
    if v.dtype.kind == "c":
        alias(b, e, parts(v)[0 if real else 1])
    elif real:
        alias(b, e, v)
    else:
        alias(b, e, b.constant(np.zeros((), v.dtype)).broadcast(v.shape))


# ---------------------------------------------------------------------------------------------- copies
@lowers("astype")
def _astype(b: Builder, e: Equation) -> Any:
    v, dtype = _operand(b, e), e.outputs[0].dtype
    if v.dtype.kind == "c" and dtype.kind in "fiu":  # as NumPy, which drops the imaginary parts
        v = parts(v)[0]
    if not castable(v.dtype, dtype):
        return NotImplemented
    alias(b, e, to_dtype(b, v, dtype))
    return None


@lowers("repeat")
def _repeat(b: Builder, e: Equation) -> Any:
    v, axis, count = _operand(b, e), e.params["axis"], int(e.params["count"])
    if v.dtype.itemsize not in COPIED:
        return NotImplemented
    copies = v.at(
        v.offset,
        (*v.shape[: axis + 1], count, *v.shape[axis + 1 :]),
        (*v.strides[: axis + 1], 0, *v.strides[axis + 1 :]),
    )
    view = copies.reshaped(e.outputs[0].shape)
    if view is None:
        view = b.contiguous(copies).reshaped(e.outputs[0].shape)
    assert view is not None
    alias(b, e, view)
    return None


@lowers("unslice")
def _unslice(b: Builder, e: Equation) -> Any:
    v, out = _operand(b, e), e.outputs[0]
    if v.dtype.itemsize not in COPIED or v.dtype != out.dtype:
        return NotImplemented
    axis, offset, strides = 0, v.offset, list(v.strides)
    own: list[tuple[int, int, int, int]] = []
    for entry in positions(out.shape, e.params["index"]):
        if entry is None:
            axis += 1
            continue
        start, step, count = entry
        if step < 0 and count:  # from its last entry on
            start, step, offset = (
                start + (count - 1) * step,
                -step,
                offset + (count - 1) * strides[axis],
            )
            strides[axis] = -strides[axis]
        own.append((start, max(step, 1), count, strides[axis] if step else 0))
        axis += step != 0
    placed(b, out, [(v.at(offset, v.shape, strides), own)], True)
    return None


@lowers("embed_diagonal")
def _embed_diagonal(b: Builder, e: Equation) -> Any:
    v, out, k = _operand(b, e), e.outputs[0], e.params["k"]
    if v.dtype.itemsize not in COPIED or v.dtype != out.dtype:
        return NotImplemented
    *lead, m, n = out.shape
    if v.size == 0:
        placed(b, out, [], True)
        return None
    first = k if k >= 0 else -k * n
    own = [(0, 1, length, s) for length, s in zip(lead, v.strides, strict=False)]
    flat = b.array((*lead, m * n), out.dtype)
    put(b, flat, [(v, [*own, (first, n + 1, v.shape[-1], v.strides[-1])])], True)
    view = flat.reshaped(out.shape)
    assert view is not None
    alias(b, e, view)
    return None


@lowers("pad")
def _pad(b: Builder, e: Equation) -> Any:
    v, out, widths = _operand(b, e), e.outputs[0], e.params["widths"]
    if v.shape == out.shape:
        alias(b, e, v)
        return None
    if v.dtype.itemsize not in COPIED or v.dtype != out.dtype:
        return NotImplemented
    own = [(a, 1, n, s) for (a, _), n, s in zip(widths, v.shape, v.strides, strict=True)]
    placed(b, out, [(v, own)], True)
    return None


@lowers("concatenate")
def _concatenate(b: Builder, e: Equation) -> Any:
    out, axis = e.outputs[0], e.params["axis"]
    if out.dtype.itemsize not in COPIED:
        return NotImplemented
    if not all(isinstance(x, Var) and castable(x.dtype, out.dtype) for x in e.operands):
        return NotImplemented
    pieces, start = [], 0
    for x in e.operands:
        v = to_dtype(b, b.view(x), out.dtype)
        own = [
            (start if a == axis else 0, 1, n, s)
            for a, (n, s) in enumerate(zip(v.shape, v.strides, strict=True))
        ]
        pieces.append((v, own))
        start += v.shape[axis]
    full = [p for p in pieces if p[0].size]
    if len(full) == 1:
        alias(b, e, full[0][0])
        return None
    placed(b, out, pieces, False)
    return None
