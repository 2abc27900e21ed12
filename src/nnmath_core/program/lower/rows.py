"""Log-sum-exp, softmax and standardisation as nodes: the machine runs each in one pass over memory.

The formulas are those of the primitives' definitions (autodiff/ops/softmax.py, standardize.py), with the values of a
row in double precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var
from nnmath_core.program import loops
from nnmath_core.program.builder import Builder, View
from nnmath_core.program.ir import Equation
from nnmath_core.program.lower.elementwise import (
    along_columns,
    as_dtype,
    mapped,
    reduced,
    same_entries,
)
from nnmath_core.program.lower.rules import lowers

__all__: list[str] = []

WIDE = np.dtype(np.float64)


class _Rows:
    """Operations on views by name, for formulas."""

    def __init__(self, b: Builder) -> None:
        self.b = b

    def __getattr__(self, name: str) -> Any:
        def apply(*operands: Any) -> View:
            dtype = next(v.dtype for v in operands[::-1] if isinstance(v, View))
            views = [v if isinstance(v, View) else self.b.view(v, dtype) for v in operands]
            loop = loops.ours(name, dtype)
            assert loop is not None
            truth = name in ("equal", "isfinite", "greater")
            return mapped(self.b, loop, views, np.bool_ if truth else dtype)

        return apply

    def fold(self, name: str, x: View, axes: Sequence[int]) -> View:
        """A sum of the name, in double precision."""
        done = reduced(self.b, name, x, axes, target=WIDE)
        assert done is not None
        return done

    def folds(self, name: str, x: View, axes: Sequence[int]) -> bool:
        """Whether this sum is made already."""
        return (name, tuple(axes), True, WIDE, same_entries(x)) in self.b.known

    def sum(self, x: View, axes: Sequence[int]) -> View:
        """The sum over axes, kept; in double precision."""
        return self.fold("sum", x, axes)

    def max(self, x: View, axes: Sequence[int]) -> View:
        """The maximum over axes, kept."""
        done = reduced(self.b, "max", x, axes)
        assert done is not None
        return done

    def to(self, x: View, dtype: Any) -> View:
        """The entries as another dtype."""
        done = as_dtype(self.b, x, dtype)
        assert done is not None
        return done


def _real(e: Equation) -> Var | None:
    """The operand, where it is an array that the machine computes with."""
    x = e.operands[0]
    if not isinstance(x, Var) or x.dtype.kind != "f" or x.dtype.itemsize not in (4, 8):
        return None
    return None if 0 in x.shape or not e.params["axis"] else x


@lowers("logsumexp")
def _logsumexp(b: Builder, e: Equation) -> Any:
    """The largest + log(m + rest): m entries are as large, with exponentials 1; log1p keeps what is beside them."""
    x = _real(e)
    if x is None:
        return NotImplemented
    r, axes, v = _Rows(b), e.params["axis"], b.view(x)
    top, p = _exponentials(r, v, axes)
    rest, count = _beside_one(r, p, axes)
    y = r.add(r.to(r.log1p(r.add(rest, r.subtract(count, 1.0))), x.dtype), top)
    y = r.where(r.equal(top, math.inf), math.inf, y)
    y = r.where(r.equal(top, -math.inf), -math.inf, y)
    _settle(b, e, y)
    return None


def _beside_one(r: _Rows, p: View, axes: Sequence[int]) -> tuple[View, View]:
    """The sum of the exponentials that are not 1, and the number of those that are."""
    if along_columns(p, axes):
        return r.fold("sum_others", p, axes), r.fold("sum_ones", p, axes)
    ones = r.to(r.equal(p, 1.0), p.dtype)
    return r.sum(r.subtract(p, ones), axes), r.sum(ones, axes)


def _exponentials(r: _Rows, v: View, axes: Sequence[int]) -> tuple[View, View]:
    """The largest entry and exp(x - largest), which is 0 where all entries are -inf."""
    top = r.max(v, axes)
    return top, r.exp(r.subtract(v, r.where(r.equal(top, -math.inf), 0.0, top)))


@lowers("softmax", "softmax_or_zero")
def _softmax(b: Builder, e: Equation) -> Any:
    x = _real(e)
    if x is None:
        return NotImplemented
    r, axes, v = _Rows(b), e.params["axis"], b.view(x)
    _, p = _exponentials(r, v, axes)
    known = r.folds("sum_others", p, axes)  # by a logsumexp of the same entries
    whole = r.add(*_beside_one(r, p, axes)) if known else r.sum(p, axes)
    total = r.to(whole, x.dtype)
    if e.primitive.name == "softmax_or_zero":
        total = r.where(r.equal(total, 0.0), 1.0, total)
    b.define(e.outputs[0], r.multiply(p, r.reciprocal(total)))
    return None


def _settle(b: Builder, e: Equation, y: View) -> None:
    """Define the output, whose reduced axes may be dropped."""
    out = e.outputs[0]
    shaped = y.reshaped(out.shape)
    assert shaped is not None
    b.define(out, shaped)


@lowers("standardize")
def _standardize(b: Builder, e: Equation) -> Any:
    x = _real(e)
    if x is None:
        return NotImplemented
    r, axes, v = _Rows(b), e.params["axis"], b.view(x)
    n = float(math.prod(x.shape[a] for a in axes))
    first = v.at(v.offset, [1 if a in axes else m for a, m in enumerate(v.shape)], v.strides)
    c = r.subtract(v, first)
    shift = r.divide(r.sum(c, axes), n)
    c = r.subtract(c, r.to(shift, x.dtype))
    var, factor = _scaled(r, c, axes, n, e.params["eps"])
    factor = r.to(factor, x.dtype)
    mean = r.to(r.add(r.to(first, WIDE), shift), x.dtype)
    for out, y in zip(
        e.outputs, (r.multiply(c, factor), factor, mean, r.to(var, x.dtype)), strict=True
    ):
        b.define(out, y)
    return None


@lowers("rms")
def _rms(b: Builder, e: Equation) -> Any:
    x = _real(e)
    if x is None:
        return NotImplemented
    r, axes, v = _Rows(b), e.params["axis"], b.view(x)
    n = float(math.prod(x.shape[a] for a in axes))
    _, factor = _scaled(r, v, axes, n, e.params["eps"])
    factor = r.to(factor, x.dtype)
    b.define(e.outputs[0], r.multiply(v, factor))
    b.define(e.outputs[1], factor)
    return None


def _scaled(r: _Rows, c: View, axes: Sequence[int], n: float, eps: float) -> tuple[View, View]:
    """Mean square of the entries and 1 / sqrt(mean square + eps), which is 0 at 0, in double precision.

    Squares of single precision are in range in double. Those of double are made of entries that the largest divides.
    """
    if c.dtype != WIDE:
        if along_columns(c, axes):
            squares = r.fold("sum_wide_squares", c, axes)
        else:
            wide = r.to(c, WIDE)
            squares = r.sum(r.multiply(wide, wide), axes)
        var = r.divide(squares, n)
        total = r.add(var, float(eps))
        nought = r.equal(total, 0.0)
        return var, r.where(nought, 0.0, r.reciprocal(r.sqrt(r.where(nought, 1.0, total))))
    top = r.max(r.absolute(c), axes)
    top = r.where(r.isfinite(top), top, 1.0)
    top = r.where(r.greater(top, 0.0), top, 1.0)
    part = r.divide(c, top)
    root = r.multiply(r.sqrt(r.divide(r.sum(r.multiply(part, part), axes), n)), top)
    length = r.hypot(root, math.sqrt(eps))
    nought = r.equal(length, 0.0)
    factor = r.where(nought, 0.0, r.reciprocal(r.where(nought, 1.0, length)))
    return r.multiply(root, root), factor
