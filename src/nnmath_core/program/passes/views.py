"""Shape operations: those that do nothing go, and chains of them become one.

Exact: no arithmetic is touched; but NumPy's loops and sums choose their order by the layout of what they read, so that
the last bit of an eager value may be another one. An elementwise primitive reads a smaller array in place of what was
repeated from it when its result has the same shape. A transpose (or reshape) and its inverse around elementwise
primitives vanish.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var, shape_of
from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.program.ir import Equation
from nnmath_core.program.passes.rewrite import Rewriter, rewrite

__all__ = ["with_views_joined"]


def with_views_joined(program: Any) -> tuple[Any, int]:
    """The program with fewer shape operations, and how many were changed."""
    return rewrite(program, _rule)


def _rule(r: Rewriter, e: Equation) -> Any:
    if REGISTRY.get(e.primitive.name) is not e.primitive or len(e.outputs) != 1:
        return None
    if e.primitive.elementwise:
        return _unrepeated(r, e)
    rule = _RULES.get(e.primitive.name)
    x = e.operands[0] if e.operands else None
    return None if rule is None or not isinstance(x, Var) else rule(r, e, x)


def _returned(r: Rewriter, e: Equation, x: Var) -> Any:
    """X for the output, unless that is a result, which must be an array of its own."""
    return None if x.weak or not r.results.isdisjoint(e.outputs) else x


# ---------------------------------------------------------------------------------------------- one operation
def _reshape(r: Rewriter, e: Equation, x: Var) -> Any:
    shape = e.params["shape"]
    if shape == x.shape:
        return _returned(r, e, x)
    m = r.made_by(x, "reshape")
    if m is not None:
        return _again(r, e, m, lambda y: r.reshape(y, shape))
    return _around(r, e, x, "reshape")


def _transpose(r: Rewriter, e: Equation, x: Var) -> Any:
    axes = e.params["axes"]
    if axes == tuple(range(len(axes))):
        return _returned(r, e, x)
    long = [a for a in axes if x.shape[a] != 1]
    if long == sorted(long) or 0 in x.shape:  # only axes of one entry move
        return None if x.weak else r.reshape(x, e.outputs[0].shape)
    m = r.made_by(x, "transpose")
    if m is not None:
        inner = m.params["axes"]
        return _again(r, e, m, lambda y: r.transpose(y, [inner[a] for a in axes]))
    return _around(r, e, x, "transpose")


def _broadcast(r: Rewriter, e: Equation, x: Var) -> Any:
    shape = e.params["shape"]
    if shape == x.shape:
        return _returned(r, e, x)
    m = r.made_by(x, "broadcast_to")
    if m is not None:
        return _again(r, e, m, lambda y: r.broadcast(y, shape))
    if shape == (*[1] * (len(shape) - x.ndim), *x.shape):
        return None if x.weak else r.reshape(x, shape)
    return None


def _flip(r: Rewriter, e: Equation, x: Var) -> Any:
    axis = e.params["axis"]
    if all(x.shape[a] <= 1 for a in axis):
        return _returned(r, e, x)
    m = r.made_by(x, "flip")
    if m is not None and sorted(m.params["axis"]) == sorted(axis):
        return _again(r, e, m, lambda y: y)
    return None


def _astype(r: Rewriter, e: Equation, x: Var) -> Any:
    dtype = e.outputs[0].dtype
    if dtype == x.dtype:
        return _returned(r, e, x)
    m = r.made_by(x, "astype")
    if m is not None and isinstance(m.operands[0], Var) and not m.operands[0].weak:
        y = m.operands[0]
        if np.can_cast(y.dtype, x.dtype, "safe") and _without_loss(y.dtype, x.dtype):
            if y.dtype == dtype:
                return _returned(r, e, y)
            return r.emit("astype", [y], y.shape, dtype, dtype=dtype)
    return None


def _without_loss(small: np.dtype[Any], large: np.dtype[Any]) -> bool:
    """Whether every number of one dtype is one of the other: int64 to float64 counts as safe in NumPy, and is not."""
    if small.kind in "iu" and large.kind in "fc":
        mantissa = np.finfo(large).nmant + 1
        return bool(np.iinfo(small).bits <= mantissa)
    return True


def _part(r: Rewriter, e: Equation, x: Var) -> Any:
    return _returned(r, e, x) if x.dtype.kind != "c" else None


def _slice(r: Rewriter, e: Equation, x: Var) -> Any:
    """What takes everything, and at most adds or drops axes of one entry."""
    axis = 0
    for i in e.params["index"]:
        if i is None:
            continue
        n = x.shape[axis]
        if not (range(n)[i] == range(n) if isinstance(i, slice) else isinstance(i, int) and n == 1):
            return None
        axis += 1
    out = e.outputs[0]
    return (
        _returned(r, e, x) if x.shape == out.shape else None if x.weak else r.reshape(x, out.shape)
    )


def _takes_all(index: Any, shape: Sequence[int]) -> bool:
    return all(
        isinstance(i, slice) and range(n)[i] == range(n) for i, n in zip(index, shape, strict=False)
    )


def _unslice(r: Rewriter, e: Equation, x: Var) -> Any:
    whole = e.params["shape"] == x.shape and _takes_all(e.params["index"], x.shape)
    return _returned(r, e, x) if whole else None


def _pad(r: Rewriter, e: Equation, x: Var) -> Any:
    return _returned(r, e, x) if e.outputs[0].shape == x.shape else None


def _concatenate(r: Rewriter, e: Equation, x: Var) -> Any:
    """One part is the whole; parts that were cut from one array, in order and without gaps, are that array."""
    axis, out = e.params["axis"], e.outputs[0]
    if x.shape == out.shape and x.dtype == out.dtype:
        return _returned(r, e, x)
    source, at = None, 0
    for part in e.operands:
        m = r.made_by(part, "slice")
        if m is None or (source is not None and m.operands[0] is not source):
            return None
        source = m.operands[0]
        if not isinstance(source, Var):
            return None
        index, n = m.params["index"], part.shape[axis]
        others = [i for k, i in enumerate(index) if k != axis]
        if len(index) <= axis or not _takes_all(
            others, [s for k, s in enumerate(source.shape) if k != axis]
        ):
            return None
        i = index[axis]
        if not isinstance(i, slice) or range(source.shape[axis])[i] != range(at, at + n):
            return None
        at += n
    if source is None or source.shape != out.shape or source.dtype != out.dtype:
        return None
    return _returned(r, e, source)


_RULES = {
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast_to": _broadcast,
    "flip": _flip,
    "astype": _astype,
    "real": _part,
    "slice": _slice,
    "unslice": _unslice,
    "pad": _pad,
    "concatenate": _concatenate,
}


# ---------------------------------------------------------------------------------------------- two operations
def _again(r: Rewriter, e: Equation, inner: Equation, make: Any) -> Any:
    """What ``make`` makes of the operand of the operation before."""
    y = inner.operands[0]
    if not isinstance(y, Var) or y.weak:
        return None
    z = make(y)
    return _returned(r, e, z) if z is y else z


def _around(r: Rewriter, e: Equation, x: Var, name: str) -> Any:
    """An operation after an elementwise primitive, all of whose operands were made by its inverse."""
    m = r.maker.get(x)
    out = e.outputs[0]
    if (
        m is None
        or not m.primitive.elementwise
        or len(m.outputs) != 1
        or r.reads[x] > 1
        or not r.reads[x]
    ):
        return None
    operands: list[Any] = []
    for y in m.operands:
        if not shape_of(y):
            operands.append(y)
            continue
        before = r.made_by(y, name)
        if before is None or shape_of(y) != x.shape:
            return None
        z = before.operands[0]
        if not isinstance(z, Var) or z.weak or z.shape != out.shape:
            return None
        if name == "transpose":
            inner = before.params["axes"]
            if [inner[a] for a in e.params["axes"]] != list(range(len(inner))):
                return None
        operands.append(z)
    if all(y is z for y, z in zip(m.operands, operands, strict=True)):
        return None
    return r.emit(m.primitive.name, operands, out.shape, out.dtype, **m.params)


def _unrepeated(r: Rewriter, e: Equation) -> Any:
    """An elementwise primitive of what was repeated reads what it was repeated from."""
    name = e.primitive.name
    if name in ("conj", "stop_gradient"):
        x = e.operands[0]
        if (
            isinstance(x, Var)
            and (name == "stop_gradient" or x.dtype.kind != "c")
            and x.dtype == e.outputs[0].dtype
        ):
            return _returned(r, e, x)
        return None
    operands = list(e.operands)
    changed = False
    for i, x in enumerate(operands):
        m = r.made_by(x, "broadcast_to")
        if m is None:
            continue
        y = m.operands[0]
        if not isinstance(y, Var) or y.weak:
            continue
        shapes = [shape_of(y if k == i else z) for k, z in enumerate(operands)]
        if np.broadcast_shapes(*shapes) == e.outputs[0].shape:
            operands[i], changed = y, True
    if not changed:
        return None
    out = e.outputs[0]
    return r.emit(name, operands, out.shape, out.dtype, **e.params)
