"""`contract` as matrix products: views, at most one copy an operand, one instruction.

What broadcasting and lonely labels make superfluous is taken out first: an axis along which an operand repeats itself
(stride 0) belongs to the other operand alone. What is left is a product of numbers (elementwise), a batch of dot
products (elementwise, then a sum), both left to the machine, or a batch of matrix products, for which `layouts` finds
the views.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var
from nnmath_core.program import loops
from nnmath_core.program.builder import Builder, View
from nnmath_core.program.ir import Equation
from nnmath_core.program.lower.elementwise import as_dtype, filled, mapped, reduced
from nnmath_core.program.lower.layouts import (
    PACKED,
    TYPES,
    Matrices,
    best_layout,
    packed_scratch,
)
from nnmath_core.program.lower.rules import lowers

__all__ = ["multiplied"]


@lowers("contract")
def _contract(b: Builder, e: Equation) -> Any:
    out, spec = e.outputs[0], e.params["spec"]
    if out.dtype.str[1:] not in TYPES or any(len(set(labels)) != len(labels) for labels in spec):
        return NotImplemented
    for v in e.operands:
        if isinstance(v, Var) and not loops.castable(v.dtype, out.dtype):
            return NotImplemented
    if loops.of_ufunc(np.multiply, f"{out.dtype.char * 2}->{out.dtype.char}") is None:
        return NotImplemented
    if loops.reduction(_adding(out.dtype), (0,), out.dtype) is None:
        return NotImplemented
    x, y = (
        as_dtype(b, b.view(v), out.dtype) if isinstance(v, Var) else b.view(v, out.dtype)
        for v in e.operands
    )
    assert x is not None
    assert y is not None
    b.define(out, multiplied(b, x, y, spec))
    return None


def _adding(dtype: Any) -> str:
    return "any" if dtype.kind == "b" else "sum"


def multiplied(b: Builder, x: View, y: View, spec: tuple[str, str, str]) -> View:
    """The labelled product of two views of one dtype, which is that of the result."""
    length = dict(zip(spec[0], x.shape, strict=True)) | dict(zip(spec[1], y.shape, strict=True))
    shape = tuple(length[c] for c in spec[2])
    if 0 in length.values():
        out = b.array(shape, x.dtype)
        filled(b, 0, out)
        return out
    left, right, labels = _reduced(b, _Side(x, spec[0]), _Side(y, spec[1]), spec[2])
    inner = [c for c in left.labels if c in right.labels and c not in labels]
    if not inner:
        made = _elementwise(b, left, right, labels)
    elif all(c in left.labels and c in right.labels for c in labels):
        made = _dots(b, left, right, labels, inner)
    else:
        made = _matrices(b, left, right, labels)
    strides = dict(zip(labels, made.strides, strict=True))
    return made.at(
        made.offset,
        shape,
        [strides.get(c, 0 if length[c] > 1 else x.dtype.itemsize) for c in spec[2]],
    )


class _Side:
    """An operand with labelled axes; those of length 1 are left out."""

    __slots__ = ("labels", "view")

    def __init__(self, view: View, labels: str) -> None:
        keep = [k for k, n in enumerate(view.shape) if n != 1]
        self.labels = "".join(labels[k] for k in keep)
        self.view = view.at(
            view.offset, [view.shape[k] for k in keep], [view.strides[k] for k in keep]
        )

    def without(self, gone: str) -> _Side:
        """The first entry along some labels."""
        keep = [k for k, c in enumerate(self.labels) if c not in gone]
        v = self.view
        left = v.at(v.offset, [v.shape[k] for k in keep], [v.strides[k] for k in keep])
        return _Side(left, "".join(self.labels[k] for k in keep))

    def repeated(self) -> str:
        """Labels along which it repeats itself."""
        return "".join(c for c, s in zip(self.labels, self.view.strides, strict=True) if s == 0)

    def strides(self) -> dict[str, int]:
        """Bytes from one entry to the next along each label."""
        return dict(zip(self.labels, self.view.strides, strict=True))


def _reduced(b: Builder, x: _Side, y: _Side, out: str) -> tuple[_Side, _Side, str]:
    """Both operands without labels that are theirs alone and summed, or along which they repeat themselves.

    Labels of the result that neither has any more are left out of it: there it repeats itself.
    """
    rx, ry = x.repeated(), y.repeated()
    x, y = (
        side.without(
            "".join(c for c in mine if c in out or (c in other.labels and c not in theirs))
        )
        for side, mine, other, theirs in ((x, rx, y, ""), (y, ry, x, rx))
    )
    x, y = (
        _summed(b, side, "".join(c for c in side.labels if c not in other.labels and c not in out))
        for side, other in ((x, y), (y, x))
    )
    have = x.labels + y.labels
    return x, y, "".join(c for c in out if c in have)


def _summed(b: Builder, side: _Side, alone: str) -> _Side:
    if not alone:
        return side
    axes = [side.labels.index(c) for c in alone]
    total = reduced(b, _adding(side.view.dtype), side.view, axes, keepdims=False)
    assert total is not None
    return _Side(total, "".join(c for c in side.labels if c not in alone))


def _lined_up(side: _Side, labels: str, length: dict[str, int]) -> View:
    """The operand with an axis for each label, of length 1 where it has none."""
    strides = side.strides()
    v = side.view
    return v.at(
        v.offset,
        [length[c] if c in strides else 1 for c in labels],
        [strides.get(c, 0) for c in labels],
    )


def _lengths(*sides: _Side) -> dict[str, int]:
    return {c: n for s in sides for c, n in zip(s.labels, s.view.shape, strict=True)}


def _elementwise(b: Builder, x: _Side, y: _Side, labels: str) -> View:
    length = _lengths(x, y)
    dtype = x.view.dtype
    loop = loops.ours("multiply", dtype) or loops.of_ufunc(
        np.multiply, f"{dtype.char * 2}->{dtype.char}"
    )
    assert loop is not None
    return mapped(b, loop, [_lined_up(s, labels, length) for s in (x, y)], dtype)


def _dots(b: Builder, x: _Side, y: _Side, labels: str, inner: list[str]) -> View:
    """A batch of dot products: the sum goes over rows where the last label of the result lies innermost in memory."""
    sx, sy = x.strides(), y.strides()
    by = sorted((*labels, *inner), key=lambda c: abs(sx[c]) + abs(sy[c]))
    inner.sort(key=lambda c: -abs(sx[c]) - abs(sy[c]))
    order = "".join(inner) + labels if by[0] in labels else labels + "".join(inner)
    products = _elementwise(b, x, y, order)
    out = reduced(
        b, _adding(x.view.dtype), products, [order.index(c) for c in inner], keepdims=False
    )
    assert out is not None
    return out


def _matrices(b: Builder, x: _Side, y: _Side, labels: str) -> View:
    sizes = _lengths(x, y)
    dtype = x.view.dtype
    found = best_layout(dtype, x.strides(), y.strides(), labels, sizes, b.blas_only)
    left, right = (y, x) if found.swapped else (x, y)
    left, right = (
        side if order is None else _copied(b, side, order)
        for side, order in ((left, found.copy_a), (right, found.copy_b))
    )
    shape = [sizes[c] for c in found.order]
    c = b.array(shape, dtype)
    emit_product(b, found, left.view, right.view, c)
    axes = [found.order.index(label) for label in labels]
    return c.transposed(axes)


def _copied(b: Builder, side: _Side, order: str) -> _Side:
    v = side.view.transposed([side.labels.index(c) for c in order])
    copy = b.array(v.shape, v.dtype)
    b.copy(v, copy)
    return _Side(copy, order)


def emit_product(b: Builder, p: Matrices, a: View, x: View, c: View) -> None:
    """The instruction of products whose layout is known."""
    panel = 256 if b.deterministic and p.how == 0 else 0
    axes = [number for axis in p.axes for number in axis]
    many = math.prod(axis[0] for axis in p.axes)
    flops = (8.0 if c.dtype.kind == "c" else 2.0) * many * p.m * p.n * p.k
    by = ("BLAS", "blocks", "dots", "loops", "packed")[p.how]
    if p.how == PACKED:
        panel = packed_scratch(c.dtype.itemsize, p.m, p.n, p.k)
        b.scratch(panel * b.threads)
    times = f"{many} x " if many > 1 else ""
    b.emit(
        "gemm", [a, x], [c],
        [TYPES[c.dtype.str[1:]], p.how, panel, p.m, p.n, p.k, p.ra, p.ka, p.kb, p.nb, p.ldc, len(p.axes), *axes],
        flops=flops, note=f"{times}{p.m}x{p.k} @ {p.k}x{p.n} by {by}",
    )  # fmt: skip
