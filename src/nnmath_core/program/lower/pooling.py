"""Windows of arrays (autodiff/ops/windows.py): views, their extremes as nodes, and one kernel for what goes back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnmath_core.program import loops
from nnmath_core.program.builder import Builder, View
from nnmath_core.program.ir import Equation
from nnmath_core.program.lower.elementwise import mapped, reduced
from nnmath_core.program.lower.entries import COPIED, alias, code_of, zeros
from nnmath_core.program.lower.rules import lowers
from nnmath_core.program.nodes import Loop

__all__: list[str] = []

MOST = 32
"""Entries of a window whose maximum is a chain of operations; more are a reduction."""


def _counts(e: Equation, size: Any) -> tuple[int, ...]:
    p = e.params
    axes = zip(size, p["window"], p["stride"], p["dilation"], strict=True)
    return tuple(max((n - d * (k - 1) - 1) // s + 1, 0) for n, k, s, d in axes)


def _view(e: Equation, v: View) -> View:
    """All windows of x (n, *s, c) as (*window, n, *t, c)."""
    p = e.params
    inner = v.strides[1:-1]
    shape = (*p["window"], v.shape[0], *_counts(e, v.shape[1:-1]), v.shape[-1])
    steps = [s * m for s, m in zip(inner, p["stride"], strict=True)]
    strides = (
        *[s * d for s, d in zip(inner, p["dilation"], strict=True)],
        v.strides[0],
        *steps,
        v.strides[-1],
    )
    return v.at(v.offset, shape, strides)


def _split(e: Equation, m: View) -> View:
    """What is marked in windows (k, n, *t, c) with the axes of `_view`."""
    shape = (*e.params["window"], *m.shape[1:])
    view = m.reshaped(shape)
    if view is None:  # broadcast or flipped along the first axis, which splits all the same
        strides, step = [], m.strides[0]
        for k in reversed(e.params["window"]):
            strides.append(step)
            step *= k
        view = m.at(m.offset, shape, (*reversed(strides), *m.strides[1:]))
    return view


def _maximum(dtype: Any) -> Loop | None:
    c = np.dtype(dtype).char
    return loops.ours("maximum", dtype) or loops.of_ufunc(np.maximum, f"{c}{c}->{c}")


# ---------------------------------------------------------------------------------------------- from arrays to windows
@lowers("windows")
def _windows(b: Builder, e: Equation) -> Any:
    v, out = b.view(e.operands[0]), e.outputs[0]
    if v.dtype.itemsize not in COPIED:
        return NotImplemented
    if 0 in out.shape:
        b.new(out)
        return None
    windows = _view(e, v)
    view = windows.reshaped(out.shape) or b.contiguous(windows).reshaped(out.shape)
    assert view is not None
    alias(b, e, view)
    return None


@lowers("max_windows")
def _max_windows(b: Builder, e: Equation) -> Any:
    v, out = b.view(e.operands[0]), e.outputs[0]
    maximum = None if v.dtype.kind == "c" else _maximum(v.dtype)
    if maximum is None or v.dtype != out.dtype:
        return NotImplemented
    if 0 in out.shape:
        b.new(out)
        return None
    windows, axes = _view(e, v), len(e.params["window"])
    if math.prod(e.params["window"]) > MOST:
        done = reduced(b, "max", windows, range(axes), keepdims=False)
        if done is None:
            return NotImplemented
        alias(b, e, done)
        return None
    parts = [
        windows.at(
            windows.offset + sum(i * s for i, s in zip(k, windows.strides, strict=False)),
            out.shape,
            windows.strides[axes:],
        )
        for k in np.ndindex(*e.params["window"])
    ]
    y = parts[0]
    for part in parts[1:]:
        y = mapped(b, maximum, [y, part], v.dtype)
    alias(b, e, y)
    return None


@lowers("winners")
def _winners(b: Builder, e: Equation) -> Any:
    x, y, out = b.view(e.operands[0]), b.view(e.operands[1]), e.outputs[0]
    code = code_of(x.dtype)
    if x.dtype != y.dtype or x.dtype.kind == "c" or code is None:
        return NotImplemented
    if 0 in out.shape:
        b.new(out)
    else:
        reads = [b.contiguous(x), b.contiguous(y)]
        b.emit("winners", reads, [b.new(out)], _geometry(e, code, False, x.shape), note="winners")
    return None


@lowers("pick_windows")
def _pick_windows(b: Builder, e: Equation) -> Any:
    v, m, out = b.view(e.operands[0]), b.view(e.operands[1]), e.outputs[0]
    where = loops.ours("where", out.dtype)
    if v.dtype != out.dtype or where is None or m.dtype != np.bool_:
        return NotImplemented
    if 0 in out.shape:
        b.new(out)
        return None
    axes = range(len(e.params["window"]))
    marked = _split(e, m)
    chosen = mapped(b, where, [marked, _view(e, v), b.view(0, v.dtype)], v.dtype)
    total = reduced(b, "sum", chosen, axes, keepdims=False)
    assert total is not None
    alias(b, e, _parts(b, total, m))
    return None


def _parts(b: Builder, y: View, m: View) -> View:
    """Divided by how many entries of its window are marked, where there are any."""
    out, code = b.array(y.shape, y.dtype), code_of(y.dtype)
    assert code is not None
    b.emit(
        "parts",
        [b.contiguous(y), b.contiguous(m)],
        [out],
        [code, m.shape[0], y.size],
        note="equal parts",
    )
    return out


# ---------------------------------------------------------------------------------------------- back
@lowers("add_windows")
def _add_windows(b: Builder, e: Equation) -> Any:
    v, out = b.view(e.operands[0]), e.outputs[0]
    code = code_of(out.dtype)
    if code is None or v.dtype != out.dtype:
        return NotImplemented
    if 0 in out.shape:
        b.new(out)
    elif v.size == 0:
        zeros(b, out)
    else:
        _emit(b, e, code, [v])
    return None


def _emit(b: Builder, e: Equation, code: int, reads: list[View]) -> None:
    ints = _geometry(e, code, len(reads) > 1, e.outputs[0].shape)
    reads = [b.contiguous(v) for v in reads]
    b.emit(
        "add_windows", reads, [b.new(e.outputs[0])], ints, flops=float(reads[-1].size), note=e.primitive.name
    )  # fmt: skip


def _geometry(e: Equation, code: int, masked: bool, shape: tuple[int, ...]) -> list[int]:
    """What the kernels of windows take, for an array of this shape."""
    p, (n, *size, channels) = e.params, shape
    lists = size, p["window"], p["stride"], p["dilation"], _counts(e, size)
    return [
        code,
        masked,
        math.prod(p["window"]),
        n,
        len(size),
        channels,
        *(k for one in lists for k in one),
    ]


@lowers("share_windows")
def _share_windows(b: Builder, e: Equation) -> Any:
    g, m, out = b.view(e.operands[0]), b.view(e.operands[1]), e.outputs[0]
    if g.dtype != out.dtype or loops.ours("where", out.dtype) is None or m.dtype != np.bool_:
        return NotImplemented
    if 0 in out.shape:
        b.new(out)
        return None
    if g.size == 0:
        zeros(b, out)
        return None
    code = code_of(out.dtype)
    assert code is not None
    _emit(b, e, code, [_parts(b, g, m), m])
    return None
