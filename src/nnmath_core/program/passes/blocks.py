"""Concatenations of outer products, read part by part: what is asked of the whole is asked of its parts.

Gradients of examples that are flattened and concatenated to one matrix are a block row of outer products. A product
with it is a sum (or a concatenation) of products with its parts, an elementwise product or a square is one of the
parts, and so is a division by something smaller, as a product with its inverse. Then the contraction-order pass
reaches the parts. `optimize` keeps the result only where the program as a whole costs less.

Equal to rounding: a sum over the whole is a sum of sums over parts; ``x / y`` is ``x * (1 / y)``, whose inverse
overflows where y is denormal.
"""

from __future__ import annotations

from typing import Any

from nnmath_core._ext._autodiff import Var, shape_of
from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.program.ir import Equation
from nnmath_core.program.passes.forms import entries, grown_values
from nnmath_core.program.passes.rewrite import Rewriter, rewrite

__all__ = ["with_blocks_apart"]


def with_blocks_apart(program: Any) -> tuple[Any, int]:
    """The program with concatenations of outer products read part by part, and how often."""
    return rewrite(program, _Apart(program).rule)


class _Apart:
    def __init__(self, program: Any) -> None:
        self.grown = grown_values(program)
        self.blocks: dict[Var, tuple[int, tuple[Any, ...]]] = {}  # variable -> axis and parts

    def rule(self, r: Rewriter, e: Equation) -> Any:
        if REGISTRY.get(e.primitive.name) is not e.primitive or len(e.outputs) != 1:
            return None
        name, out = e.primitive.name, e.outputs[0]
        if name == "concatenate":
            if any(isinstance(x, Var) and x in self.grown for x in e.operands) and all(
                isinstance(x, Var) and x.dtype == out.dtype for x in e.operands
            ):
                self.blocks[out] = e.params["axis"], e.operands
            return None
        if name == "divide":
            found = self._inverse(r, e)
            if found is not None:
                return found
        if out.dtype.kind not in "fc" or not any(
            isinstance(x, Var) and x in self.blocks for x in e.operands
        ):
            return None
        if name in ("multiply", "square", "negative"):
            return self._elementwise(r, e)
        if name == "sum":
            return self._sum(r, e)
        return self._contract(r, e) if name == "contract" else None

    def _inverse(self, r: Rewriter, e: Equation) -> Any:
        """A division of something grown by something smaller is a product with the inverse."""
        x, y = e.operands
        out = e.outputs[0]
        if (
            not isinstance(x, Var)
            or not isinstance(y, Var)
            or y.weak
            or x.dtype != out.dtype
            or y.dtype != out.dtype
        ):
            return None
        if (
            (x not in self.grown and x not in self.blocks)
            or 2 * entries(y) > entries(x)
            or out.dtype.kind != "f"
        ):
            return None
        inverse = r.emit("divide", [1.0, y], y.shape, y.dtype)
        product = Equation(REGISTRY["multiply"], (x, inverse), (r.fresh(out.shape, out.dtype),), {})
        if x in self.blocks:
            apart = self._elementwise(r, product)
            if apart is not None:
                return apart
        r.keep(product)
        self.grown.add(product.outputs[0])
        return product.outputs[0]

    # ------------------------------------------------------------------------------------------ parts
    def _first(self, e: Equation) -> tuple[int, int, tuple[Any, ...]]:
        """Which operand is a concatenation, its axis and its parts."""
        i = next(i for i, x in enumerate(e.operands) if isinstance(x, Var) and x in self.blocks)
        return (i, *self.blocks[e.operands[i]])

    def _piece(
        self, r: Rewriter, x: Any, axis: int, parts: tuple[Any, ...], k: int, of: int
    ) -> Any:
        """What part k of an axis of x is, cut as ``parts`` are along their axis ``of``."""
        mine = self.blocks.get(x) if isinstance(x, Var) else None
        sizes = [p.shape[of] for p in parts]
        if mine is not None and mine[0] == axis and [p.shape[axis] for p in mine[1]] == sizes:
            return mine[1][k]
        start = sum(sizes[:k])
        index = tuple(
            slice(start, start + sizes[k]) if a == axis else slice(None) for a in range(x.ndim)
        )
        shape = [sizes[k] if a == axis else n for a, n in enumerate(x.shape)]
        return r.emit("slice", [x], shape, x.dtype, index=index)

    def _joined(self, r: Rewriter, e: Equation, pieces: list[Any], axis: int) -> Any:
        out = e.outputs[0]
        v = r.emit("concatenate", pieces, out.shape, out.dtype, axis=axis)
        self.blocks[v] = axis, tuple(pieces)
        return v

    def _total(self, r: Rewriter, e: Equation, pieces: list[Any]) -> Any:
        out, total = e.outputs[0], pieces[0]
        for x in pieces[1:]:
            total = r.emit("add", [total, x], out.shape, out.dtype)
        return total

    # ------------------------------------------------------------------------------------------ operations
    def _elementwise(self, r: Rewriter, e: Equation) -> Any:
        i, axis, parts = self._first(e)
        out = e.outputs[0]
        if e.operands[i].shape != out.shape:
            return None
        pieces = []
        for k, part in enumerate(parts):
            operands = []
            for j, x in enumerate(e.operands):
                at = axis - (len(out.shape) - len(shape_of(x)))
                if j == i:
                    operands.append(part)
                elif at < 0 or shape_of(x)[at] == 1:
                    operands.append(x)
                elif isinstance(x, Var):
                    operands.append(self._piece(r, x, at, parts, k, axis))
                else:
                    return None
            pieces.append(r.emit(e.primitive.name, operands, part.shape, out.dtype))
        return self._joined(r, e, pieces, axis)

    def _sum(self, r: Rewriter, e: Equation) -> Any:
        _, axis, parts = self._first(e)
        axes, keepdims, out = e.params["axis"], e.params["keepdims"], e.outputs[0]
        after = axis if keepdims else axis - sum(a < axis for a in axes)
        pieces = []
        for part in parts:
            shape = list(out.shape)
            if axis not in axes:
                shape[after] = part.shape[axis]
            pieces.append(r.emit("sum", [part], shape, out.dtype, axis=axes, keepdims=keepdims))
        return self._total(r, e, pieces) if axis in axes else self._joined(r, e, pieces, after)

    def _contract(self, r: Rewriter, e: Equation) -> Any:
        i, axis, parts = self._first(e)
        spec, out = e.params["spec"], e.outputs[0]
        label, other = spec[i][axis], e.operands[1 - i]
        if spec[i].count(label) > 1 or spec[1 - i].count(label) > 1 or not isinstance(other, Var):
            return None
        pieces = []
        for k, part in enumerate(parts):
            mate = other
            if label in spec[1 - i]:
                mate = self._piece(r, other, spec[1 - i].index(label), parts, k, axis)
            operands = [part, mate] if i == 0 else [mate, part]
            shape = [
                part.shape[axis] if c == label else n
                for c, n in zip(spec[2], out.shape, strict=True)
            ]
            pieces.append(r.emit("contract", operands, shape, out.dtype, spec=spec))
        if label in spec[2]:
            return self._joined(r, e, pieces, spec[2].index(label))
        return self._total(r, e, pieces)
