"""Attention and its pull: their meaning in plain array code, and how kernels are given operands where they lie.

The kernels (``src/_ext/attention/attention.cu``) keep tiles of scores where they compute them, so the memory beside
operands and results is three numbers for each query, in the pull. They take heads of up to 256 entries, float32 or
float64, whose axes in front are at most four once those that lie behind each other are merged; for anything else the
meaning here runs, by blocks of queries.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from nnmath_core.checks import sentence
from nnmath_core.device.launch import Family, Parameter, read_source
from nnmath_core.errors import ShapeError
from nnmath_core.typing import Array

__all__ = ["Tiles", "cotangents", "cotangents_by_tiles", "tiles_of", "values", "values_by_tiles"]

BLOCK_BYTES = 1 << 23
"""Scores of a block of the meaning."""

WIDEST = 256
"""Entries of a head that the kernels take."""

_STEP = 16  # the kernels are compiled for multiples of it
_AXES = 4  # in front of rows
_MOST = 2**31 - 1  # blocks of a grid
_REAL = {"float32": "float", "float64": "double"}


# --------------------------------------------------------------------------------------------------------- meaning
def values(
    be: Any,
    q: Array,
    k: Array,
    v: Array,
    bias: Any,
    mask: Any,
    causal: bool,
    scale: float,
    out: Any,
) -> Array:
    """Return the values of all queries; see `Backend.attention`."""
    y: Array = be.xp.empty((*q.shape[:-1], v.shape[-1]), q.dtype) if out is None else out
    for rows, a in _weights(be, q, k, bias, mask, causal, scale):
        y[..., rows, :] = be.matmul(a, v)
    return y


def cotangents(
    be: Any,
    q: Array,
    k: Array,
    v: Array,
    g: Array,
    bias: Any,
    mask: Any,
    causal: bool,
    scale: float,
    out: Any,
) -> tuple[Array, Array, Array]:
    """Return the cotangents of q, k and v; see `Backend.attention_pull`."""
    gq, gk, gv = (be.xp.empty(x.shape, x.dtype) for x in (q, k, v)) if out is None else out
    gk[...] = 0
    gv[...] = 0
    for rows, a in _weights(be, q, k, bias, mask, causal, scale):
        part = g[..., rows, :]
        ga = be.matmul(part, _turned(v))
        gs = a * (ga - be.xp.sum(a * ga, axis=-1, keepdims=True))
        gq[..., rows, :] = be.matmul(gs, k) * scale
        gk += be.matmul(_turned(gs), q[..., rows, :] * scale)
        gv += be.matmul(_turned(a), part)
    return gq, gk, gv


def _turned(x: Array) -> Array:
    return x.swapaxes(-1, -2)


def _weights(
    be: Any, q: Array, k: Array, bias: Any, mask: Any, causal: bool, scale: float
) -> Iterator[tuple[slice, Array]]:
    """Yield blocks of queries with their weights, (..., rows, s)."""
    xp, length, keys = be.xp, q.shape[-2], k.shape[-2]
    row = max(math.prod(q.shape[:-2]) * keys, 1) * q.dtype.itemsize
    step = max(BLOCK_BYTES // row, q.shape[-1], 1)
    for start in range(0, length, step):
        rows = slice(start, min(start + step, length))
        s = be.matmul(q[..., rows, :] * scale, _turned(k))
        if not keys:
            yield rows, s
            continue
        if bias is not None:
            s = s + _part(bias, rows)
        seen = None if mask is None else _part(mask, rows)
        if causal:
            before = xp.arange(keys) <= xp.arange(rows.start, rows.stop)[:, None]
            seen = before if seen is None else seen & before
        if seen is not None:
            s = xp.where(seen, s, -math.inf)
        top = xp.max(s, axis=-1, keepdims=True)
        if seen is None and bias is None:
            e = xp.exp(s - top)
            yield rows, e / xp.sum(e, axis=-1, keepdims=True)
        else:  # a row that is -inf everywhere has no softmax
            dead = top == -math.inf
            e = xp.exp(xp.where(dead, 0.0, s) - xp.where(dead, 0.0, top))
            yield rows, xp.where(dead, 0.0, e / xp.sum(e, axis=-1, keepdims=True))


def _part(x: Array, rows: slice) -> Array:
    return x if x.shape[-2] == 1 else x[..., rows, :]


# --------------------------------------------------------------------------------------------------------- kernels
def values_by_tiles(
    be: Any,
    q: Array,
    k: Array,
    v: Array,
    bias: Any,
    mask: Any,
    causal: bool,
    scale: float,
    out: Any,
) -> Array | None:
    """Return the values by one launch on the backend's device, which has been entered; None where no kernel does it."""
    found = _described(be.cupy, (q, k, v), bias, mask, causal)
    if found is None:
        return None
    shape = (*q.shape[:-1], v.shape[-1])
    y: Array = be.cupy.empty(shape, q.dtype) if out is None else out
    _require("attention", "out", y, shape, q.dtype)
    if k.shape[-2] == 0:
        y[...] = 0
    elif y.size:
        floats, layout = found
        kernels = tiles_of(be.cupy, be.device.index, q.dtype, q.shape[-1], v.shape[-1])
        tiles = math.prod(shape[:-2]) * -(-shape[-2] // _tile_rows(q.dtype))
        kernels.launch("attention", tiles, (y, *floats, bias, mask, scale, layout))
    return y


def cotangents_by_tiles(
    be: Any,
    q: Array,
    k: Array,
    v: Array,
    g: Array,
    bias: Any,
    mask: Any,
    causal: bool,
    scale: float,
    out: Any,
    kept: Any,
) -> tuple[Array, Array, Array] | None:
    """Return the cotangents by two launches on the backend's device; see `values_by_tiles`."""
    found = _described(be.cupy, (q, k, v, g), bias, mask, causal)
    if found is None:
        return None
    who, empty = "attention_pull", be.cupy.empty
    gq, gk, gv = (empty(x.shape, x.dtype) for x in (q, k, v)) if out is None else out
    for i, (made, x) in enumerate(zip((gq, gk, gv), (q, k, v), strict=True)):
        _require(who, f"out[{i}]", made, x.shape, q.dtype)
    if 0 in q.shape or 0 in k.shape or 0 in v.shape:
        for made in (gq, gk, gv):
            made[...] = 0
        return gq, gk, gv
    kept = empty((3, *q.shape[:-1]), q.dtype) if kept is None else kept
    _require(who, "kept", kept, (3, *q.shape[:-1]), q.dtype)
    floats, layout = found
    kernels = tiles_of(be.cupy, be.device.index, q.dtype, q.shape[-1], v.shape[-1])
    heads, rows = math.prod(q.shape[:-2]), _tile_rows(q.dtype)
    rest = (*floats, bias, mask, scale, layout)
    kernels.launch("attention_pull_q", heads * -(-q.shape[-2] // rows), (gq, kept, *rest))
    kernels.launch("attention_pull_kv", heads * -(-k.shape[-2] // rows), (gk, gv, kept, *rest))
    return gq, gk, gv


class Tiles(Family):
    """The kernels of attention for one element type and widths of heads; blocks of threads take one tile at a time."""

    def __init__(self, cupy: Any, index: int, real: str, d: int, e: int) -> None:
        self.real = real
        widths = f"#define NNM_D {d}\n#define NNM_E {e}\n"
        super().__init__(cupy, index, "attention", widths + read_source("attention"))

    def name_expressions(self) -> tuple[str, ...]:
        """Return the instances of the one element type."""
        return tuple(f"{k}<{self.real}>" for k in self.signatures)

    def launch(self, kernel: str, n: int, args: tuple[Any, ...]) -> None:
        """Queue a kernel over n tiles; arrays that it only reads may lie in any way that the last argument says."""
        who = f"{self.name}.{kernel}"
        parameters = self.signatures[kernel]
        real = self._real_type(who, parameters, args)
        packed = [self._pack(who, p, x, real) for p, x in zip(parameters, args, strict=True)]
        expression = f"{kernel}<{self.real}>"
        function = self.functions.get(expression)
        if function is None:
            function = self.functions[expression] = self.module.get_function(expression)
        function((min(n, _MOST),), (256,), (np.int64(n), *packed))

    def _pack(self, who: str, parameter: Parameter, x: Any, real: np.dtype[Any]) -> Any:
        if parameter.is_array and x is None:
            return np.int64(0)  # the null pointer
        return x if parameter.is_struct else super()._pack(who, parameter, x, real)

    def _require_contiguous(self, who: str, parameter: Parameter, x: Any) -> None:
        if not parameter.is_const:
            super()._require_contiguous(who, parameter, x)


@functools.cache
def tiles_of(cupy: Any, index: int, dtype: np.dtype[Any], d: int, e: int) -> Tiles:
    """Return the kernels for heads of d and e entries, compiled at the first launch, once for a multiple of 16."""
    wide_d, wide_e = (-(-max(n, 1) // _STEP) * _STEP for n in (d, e))
    if (d, e) != (wide_d, wide_e):
        return tiles_of(cupy, index, dtype, wide_d, wide_e)
    return Tiles(cupy, index, _REAL[dtype.name], d, e)


def _tile_rows(dtype: np.dtype[Any]) -> int:
    """Return how many rows a tile has, as in attention.cu."""
    return 256 // dtype.itemsize


def _described(
    cupy: Any, floats: tuple[Array, ...], bias: Any, mask: Any, causal: bool
) -> tuple[tuple[Array, ...], Array] | None:
    """Return q, k, v (and the cotangent) with rows of unit stride, and the struct that describes all operands.

    None where the kernels do not do this.
    """
    q, k, v = floats[:3]
    dtype, d, e = q.dtype, q.shape[-1], v.shape[-1]
    if dtype.name not in _REAL or not 0 < d <= WIDEST or e > WIDEST:
        return None
    same = floats if bias is None else (*floats, bias)
    if any(x.dtype != dtype for x in same) or (mask is not None and mask.dtype != np.bool_):
        return None
    item = dtype.itemsize
    floats = tuple(x if _has_rows(x) else cupy.ascontiguousarray(x) for x in floats)
    if bias is not None and any(step % item for step in bias.strides):
        return None
    shape = (*q.shape[:-1], k.shape[-2])
    strides = [_spread(x, (*shape[:-2], *x.shape[-2:]), item)[:-1] for x in floats]
    strides += [(0,) * len(strides[0])] * (4 - len(floats))
    strides.append((0,) * len(shape) if bias is None else _spread(bias, shape, item))
    strides.append((0,) * len(shape) if mask is None else _spread(mask, shape, 1))
    layout = _layout(shape, d, e, causal, tuple(strides))
    return None if layout is None else (floats, layout)


def _has_rows(x: Array) -> bool:
    """Whether the entries of a row lie one behind the other, and rows are whole entries apart."""
    item = x.dtype.itemsize
    return (x.shape[-1] == 1 or x.strides[-1] == item) and not any(s % item for s in x.strides)


def _spread(x: Array, shape: tuple[int, ...], item: int) -> tuple[int, ...]:
    """Return the strides, in entries, of an array that is broadcast to a shape."""
    own = (0 if n == 1 else s // item for n, s in zip(x.shape, x.strides, strict=True))
    return (*(0,) * (len(shape) - x.ndim), *own)


@functools.lru_cache(maxsize=256)
def _layout(
    shape: tuple[int, ...], d: int, e: int, causal: bool, strides: tuple[tuple[int, ...], ...]
) -> Array | None:
    """Return the struct ``Layout`` of attention.cu for scores of a shape; None where there are too many axes."""
    *lead, t, s = shape
    axes: list[tuple[int, tuple[int, ...]]] = []
    for axis, n in enumerate(lead):
        own = tuple(steps[axis] for steps in strides)
        if n == 1:
            continue
        if axes and all(a == b * n for a, b in zip(axes[-1][1], own, strict=True)):
            axes[-1] = (axes[-1][0] * n, own)
        else:
            axes.append((n, own))
    if len(axes) > _AXES:
        return None
    missing = _AXES - len(axes)
    axes = [(1, (0,) * len(strides))] * missing + axes
    numbers = [t, s, d, e, int(causal), *(n for n, _ in axes)]
    for k, steps in enumerate(strides):
        numbers += [*(own[k] for _, own in axes), *steps[len(lead) :]]
    made = np.array(numbers, np.int64)
    return made.view(f"V{made.nbytes}")  # one item, which CuPy passes by value


def _require(who: str, arg: str, x: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse an array to write into that has another shape or dtype; the launcher sees to the rest."""
    if tuple(x.shape) != tuple(shape) or x.dtype != dtype:
        wanted = f"of shape {tuple(shape)} and dtype {dtype}"
        raise ShapeError(sentence(who, arg, wanted, f"{tuple(x.shape)} and {x.dtype}"))
