"""`conv`, `conv_input` and `conv_kernel`: blocks of windows and small products; a window of length 1 is a product."""

from __future__ import annotations

import itertools
import math
from typing import Any

from nnmath_core._ext._autodiff import Var
from nnmath_core.autodiff.ops.convolutions import output_lengths
from nnmath_core.program import loops
from nnmath_core.program.builder import Builder, View
from nnmath_core.program.ir import Equation
from nnmath_core.program.lower.elementwise import as_dtype, filled, mapped, reduced
from nnmath_core.program.lower.entries import put
from nnmath_core.program.lower.products import multiplied
from nnmath_core.program.lower.rules import lowers

__all__: list[str] = []

MOST_AXES = 8
BLOCK = 1 << 18
"""Bytes of a block of windows."""
MOST_OFFSETS = 27
"""Offsets of a kernel of each channel by itself: one step of the machine for each."""
FEW = 64
"""Bytes of the channels of one entry, below which the input's cotangent is made from a matrix of windows."""


@lowers("conv", "conv_input", "conv_kernel")
def _conv(b: Builder, e: Equation) -> Any:
    out, name, p = e.outputs[0], e.primitive.name, e.params
    stride, padding, dilation, groups = (
        p[key] for key in ("stride", "padding", "dilation", "groups")
    )
    if out.dtype.char not in "fd" or len(stride) > MOST_AXES:
        return NotImplemented
    for v in e.operands:
        if not isinstance(v, Var) or (
            v.dtype != out.dtype and loops.cast(v.dtype, out.dtype) is None
        ):
            return NotImplemented
    first, second = e.operands
    x, w, y = {
        "conv": (first.shape, second.shape, out.shape),
        "conv_input": (out.shape, second.shape, first.shape),
        "conv_kernel": (first.shape, out.shape, second.shape),
    }[name]
    each, outs = w[-2], w[-1] // max(groups, 1)
    empty = 0 in x or 0 in w or 0 in y
    counts = tuple(max(m, 0) for m in output_lengths(x[1:-1], w[:-2], stride, padding, dilation))
    if not empty and counts != tuple(y[1:-1]):
        return NotImplemented
    alone = groups > 1 and each == outs == 1
    if alone and (
        math.prod(w[:-2]) > MOST_OFFSETS or (name == "conv_input" and set(stride) != {1})
    ):
        return NotImplemented
    left, right = (as_dtype(b, b.view(v), out.dtype) for v in e.operands)
    assert left is not None
    assert right is not None
    if empty:
        filled(b, 0, b.new(out))
        return None
    plain = groups == 1 and set(w[:-2]) == {1} and set(stride) == {1} and not any(map(any, padding))
    if plain:
        b.define(out, _product(b, name, left, right, out.shape))
        return None
    if alone:
        b.define(out, _each_channel(b, name, left, right, out.shape, stride, padding, dilation))
        return None
    windows = math.prod(w[:-2])
    axes = zip(x[1:-1], y[1:-1], w[:-2], stride, padding, dilation, strict=True)
    item = out.dtype.itemsize
    room = windows * each * item
    positions = x[0] * math.prod(counts)
    rows = max(8, min(256, BLOCK // room // 8 * 8, -(-positions // 8) * 8))
    ints = [0 if out.dtype.char == "f" else 1, groups, x[0], each, outs, rows, len(stride)]
    for size, count, window, step, (before, _), gap in axes:
        ints += [size, count, window, step, before, gap]
    if name == "conv_input":
        if each * item < FEW:
            name = "conv_input_few"
        else:
            right = right.transposed([*range(right.ndim - 2), right.ndim - 1, right.ndim - 2])
    operands = [b.contiguous(v) for v in (left, right)]
    if name != "conv_input":
        b.scratch(rows * room * b.threads)
    b.emit(
        name, operands, [b.new(out)], ints,
        flops=2.0 * positions * windows * each * outs * groups, note=f"{'x'.join(map(str, w))}",
    )  # fmt: skip
    return None


def _padded(b: Builder, v: View, widths: Any) -> View:
    """An array (n, *s, c) with zeros around s; negative widths take entries away."""
    lead, tail = (0, 0), (0, 0)
    axes = list(zip((lead, *widths, tail), v.shape, v.strides, strict=True))
    offset = v.offset + sum(max(-a, 0) * s for (a, _), _, s in axes)
    inside = [max(n + min(a, 0) + min(z, 0), 0) for (a, z), n, _ in axes]
    core = v.at(offset, inside, v.strides)
    if all(a <= 0 and z <= 0 for a, z in widths):
        return core
    room = b.array([n + a + z for (a, z), n, _ in axes], v.dtype)
    put(
        b,
        room,
        [(core, [(max(a, 0), 1, n, s) for ((a, _), _, s), n in zip(axes, inside, strict=True)])],
        True,
    )
    return room


def _each_channel(
    b: Builder,
    name: str,
    left: View,
    right: View,
    shape: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
) -> View:
    """Each channel by itself: for each offset a product of numbers, which the machine joins."""
    dtype, n = left.dtype, left.ndim
    multiply, add = loops.ours("multiply", dtype), loops.ours("add", dtype)
    assert multiply is not None
    assert add is not None
    if name == "conv_kernel":
        window, counts = shape[:-2], right.shape[1:-1]
    elif name == "conv":
        window, counts = right.shape[:-2], shape[1:-1]
    else:  # of stride 1: the same sum with the kernel turned round
        window, counts = right.shape[:-2], shape[1:-1]
        reach = [d * (k - 1) for k, d in zip(window, dilation, strict=True)]
        padding = tuple((r - a, r - z) for r, (a, z) in zip(reach, padding, strict=True))
        last = sum((k - 1) * s for k, s in zip(window, right.strides[:-2], strict=True))
        turned = [-s for s in right.strides[:-2]]
        right = right.at(right.offset + last, right.shape, (*turned, *right.strides[-2:]))
    x = _padded(b, left, padding)
    places = [s * step for s, step in zip(x.strides[1:-1], stride, strict=True)]
    made: list[View] = []
    for k in itertools.product(*map(range, window)):
        offset = sum(i * d * s for i, d, s in zip(k, dilation, x.strides[1:-1], strict=True))
        part = x.at(
            x.offset + offset,
            (x.shape[0], *counts, x.shape[-1]),
            (x.strides[0], *places, x.strides[-1]),
        )
        if name == "conv_kernel":
            total = reduced(
                b, "sum", mapped(b, multiply, [part, right], dtype), range(n - 1), keepdims=False
            )
            assert total is not None
            made.append(total)
            continue
        start = right.offset + sum(i * s for i, s in zip(k, right.strides[:-2], strict=True))
        term = mapped(
            b, multiply, [part, right.at(start, right.shape[-1:], right.strides[-1:])], dtype
        )
        made = [mapped(b, add, [made[0], term], dtype)] if made else [term]
    if name != "conv_kernel":
        return made[0]
    out = b.array((len(made), shape[-1]), dtype)
    rows = [(v, [(i, 1, 1, 0), (0, 1, shape[-1], v.strides[-1])]) for i, v in enumerate(made)]
    put(b, out, [(v.at(v.offset, (1, *v.shape), (0, *v.strides)), own) for v, own in rows], False)
    result = out.reshaped(shape)
    assert result is not None
    return result


def _product(b: Builder, name: str, left: View, right: View, shape: tuple[int, ...]) -> View:
    """One product over all positions, where windows have length 1."""
    space = "abcdefgh"[: left.ndim - 2]
    x, w, y = f"n{space}i", f"{space.upper()}io", f"n{space}o"
    if name == "conv_kernel":
        made = multiplied(b, left, right, (x, y, "io"))
        return made.at(
            made.offset, shape, [left.dtype.itemsize] * (len(shape) - 2) + list(made.strides)
        )
    matrix = right.at(right.offset, right.shape[-2:], right.strides[-2:])
    spec = (x, w[-2:], y) if name == "conv" else (y, w[-2:], x)
    return multiplied(b, left, matrix, spec)
