"""The labelled product of two arrays, lowered to views and one matrix product.

A spec ``("bij", "bjk", "bik")`` names each axis of both operands and of the result by a letter. No
letter occurs twice in one operand. A letter is then one of

    batch       in both operands and the result        leading axes of the product
    contracted  in both operands, not in the result    the inner axis of the product
    free        in one operand and the result          rows or columns of the product
    summed      in one operand only                    summed before the product
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import prod
from typing import Any

from nnmath_core.errors import ShapeError
from nnmath_core.typing import Array

Spec = tuple[str, str, str]


class _Side:
    """How one operand becomes a stack of matrices: sum, transpose, merge.

    `first` and `second` are the letters that become the last two axes, `batch` those in front.
    """

    __slots__ = ("first", "order", "second", "single", "summed", "trivial", "vector")

    def __init__(self, labels: str, summed: str, batch: str, first: str, second: str) -> None:
        kept = "".join(label for label in labels if label not in summed)
        self.summed = tuple(labels.index(label) for label in summed)
        order = tuple(kept.index(label) for label in batch + first + second)
        self.order = None if order == tuple(range(len(order))) else order
        self.first, self.second = len(first), len(second)
        # nothing to merge: numpy.matmul takes the view as it is (a missing group is a vector)
        self.single = self.first == self.second == 1
        self.trivial = not batch and self.first <= 1 and self.second <= 1
        self.vector = not batch and (not first or not second)

    def sorted_shape(self, x: Array) -> tuple[int, ...]:
        """Return the lengths of ``x`` in the order batch, first, second."""
        return x.shape if self.order is None else tuple(x.shape[i] for i in self.order)

    def arrange(self, x: Array) -> Array:
        """Transpose and merge; ``numpy.reshape`` copies only where strides cannot say it."""
        if self.order is not None:
            x = x.transpose(self.order)
        if self.single or self.trivial:
            return x
        if self.vector:
            return x.reshape(-1)
        shape = x.shape
        split = len(shape) - self.second
        stack = len(shape) - self.first - self.second
        rows, columns = prod(shape[stack:split]), prod(shape[split:])
        return x.reshape((*shape[:stack], rows, columns))


class Contraction:
    """A spec made ready: which letter is what, found once.

    Raises
    ------
    ShapeError
        The spec repeats a letter, or the result has a letter that no operand has.
    """

    __slots__ = (
        "direct", "expand", "left", "loop", "merged", "order", "pairs", "right", "spec", "swap",
    )  # fmt: skip

    def __init__(self, spec: Spec) -> None:
        in_x, in_y, out = self.spec = spec
        repeated = any(len(set(labels)) != len(labels) for labels in spec)
        if repeated or not set(out) <= set(in_x + in_y):
            raise ShapeError(
                f"contract: `spec` must name each axis of an operand by a letter of its own and "
                f"the result by letters of the operands, got {spec}."
            )
        self.pairs = tuple((in_x.index(c), in_y.index(c)) for c in in_x if c in in_y)
        batch = "".join(c for c in out if c in in_x and c in in_y)
        free_x = "".join(c for c in in_x if c in out and c not in in_y)
        free_y = "".join(c for c in in_y if c in out and c not in in_x)
        inner = "".join(c for c in in_x if c in in_y and c not in out)
        if inner not in in_x and (other := "".join(c for c in in_y if c in inner)) in in_y:
            inner = other  # these axes lie together in y: merging them there needs no copy
        alone_x = "".join(c for c in in_x if c not in in_y and c not in out)
        alone_y = "".join(c for c in in_y if c not in in_x and c not in out)
        # the left factor has the free letter that comes first in the result: usual results are
        # contiguous then
        free_out = [c for c in out if c not in batch]
        self.swap = bool(free_out) and free_out[0] in free_y
        x, y = (in_x, alone_x, free_x), (in_y, alone_y, free_y)
        (left, left_alone, rows), (right, right_alone, columns) = (y, x) if self.swap else (x, y)
        self.left = _Side(left, left_alone, batch, rows, inner)
        self.right = _Side(right, right_alone, batch, inner, columns)
        plain = self.left.trivial and self.right.trivial and len(inner) == 1
        self.direct = plain and not alone_x and not alone_y
        lacking = bool(batch) and not (rows and columns)  # an axis of length 1 stands for it
        self.merged = len(rows) > 1 or len(columns) > 1 or lacking
        made = batch + rows + columns
        self.order = None if made == out else tuple(made.index(c) for c in out)
        self.loop = None
        if batch and inner and not (rows and columns) and not alone_x and not alone_y:
            self.loop = _Loop(spec, batch, rows + columns, inner)
        # without a contracted letter the product is elementwise over axes lined up with the result
        self.expand = (
            None
            if inner
            else (
                _lined_up(in_x, alone_x, out),
                _lined_up(in_y, alone_y, out),
            )
        )

    def __call__(
        self, xp: Any, matmul: Callable[[Array, Array], Array], x: Array, y: Array
    ) -> Array:
        """Return the product of ``x`` and ``y``; see `Backend.contract`."""
        left, right = (y, x) if self.swap else (x, y)
        if self.direct:  # at most two axes each: the only order is the transpose
            return matmul(
                left if self.left.order is None else left.T,
                right if self.right.order is None else right.T,
            )
        for i, j in self.pairs:
            if x.shape[i] != y.shape[j]:
                raise ShapeError(
                    f"contract: axis {i} of `x` and axis {j} of `y`, both "
                    f"{self.spec[0][i]!r}, must have one length, got {x.shape} and {y.shape}."
                )
        if self.expand is not None:
            axes_x, axes_y = self.expand
            dtype = xp.result_type(x, y)
            x = _sum_alone(xp, x, axes_x[0], dtype).transpose(axes_x[1])[axes_x[2]]
            y = _sum_alone(xp, y, axes_y[0], dtype).transpose(axes_y[1])[axes_y[2]]
            elementwise: Array = xp.multiply(x, y)
            return elementwise
        if self.left.summed or self.right.summed:
            dtype = xp.result_type(x, y)
            left = _sum_alone(xp, left, self.left.summed, dtype)
            right = _sum_alone(xp, right, self.right.summed, dtype)
        a, b = self.left.arrange(left), self.right.arrange(right)
        product = matmul(a, b)
        if self.merged:
            product = product.reshape(self._split(left, right))
        return product if self.order is None else product.transpose(self.order)

    def looped(self, einsum: Callable[..., Array], x: Array, y: Array) -> Array | None:
        """Return the product by one loop of ``einsum`` where that is faster than `matmul`, else None."""
        if self.loop is None or any(x.shape[i] != y.shape[j] for i, j in self.pairs):
            return None  # axes of two lengths are refused by the call
        return self.loop(einsum, x, y) if self.loop.pays(x, y) else None

    def _split(self, left: Array, right: Array) -> tuple[int, ...]:
        """Return the axes that the product has merged: batch, free of left, free of right."""
        rows = self.left.sorted_shape(left)[: left.ndim - self.left.second]
        return rows + self.right.sorted_shape(right)[right.ndim - self.right.second :]


# A batch of dot products of up to that many numbers, or of matrices of up to that many entries with
# vectors, takes NumPy less in one loop over all axes than in one call of BLAS for each of them. Along
# an axis that does not lie together in memory BLAS has no advantage at any length.
_SHORT_DOT = 512
_SMALL_MATRIX = 64


class _Loop:
    """A batch of dot products, or of products of a matrix and a vector, as one loop of `numpy.einsum`."""

    __slots__ = ("axes", "dots", "free", "inner", "lists")

    def __init__(self, spec: Spec, batch: str, free: str, inner: str) -> None:
        number = {c: k for k, c in enumerate(batch + free + inner)}
        self.lists = tuple([number[c] for c in labels] for labels in spec)
        self.dots = not free
        self.free = tuple(
            (0, spec[0].index(c)) if c in spec[0] else (1, spec[1].index(c)) for c in free
        )
        self.inner = tuple(spec[0].index(c) for c in inner)
        self.axes = (spec[0].index(inner), spec[1].index(inner)) if len(inner) == 1 else None

    def pays(self, x: Array, y: Array) -> bool:
        """Whether the loop beats one product after the other for these shapes and strides."""
        length = prod(x.shape[i] for i in self.inner)
        if not self.dots:
            entries = length * prod((x, y)[k].shape[i] for k, i in self.free)
            return bool(entries <= _SMALL_MATRIX)
        if length <= _SHORT_DOT:
            return True
        if self.axes is None:
            return False
        i, j = self.axes
        return bool(x.strides[i] != x.itemsize or y.strides[j] != y.itemsize)

    def __call__(self, einsum: Callable[..., Array], x: Array, y: Array) -> Array:
        """Return the product."""
        return einsum(x, self.lists[0], y, self.lists[1], self.lists[2])


def _lined_up(labels: str, alone: str, out: str) -> tuple[Any, Any, Any]:
    """Axes to sum, the order of the rest as in ``out``, and the index that adds what lacks."""
    kept = "".join(c for c in labels if c not in alone)
    order = tuple(kept.index(c) for c in out if c in kept)
    index = tuple(slice(None) if c in kept else None for c in out)
    return tuple(labels.index(c) for c in alone), order, (*index, ...)


def _sum_alone(xp: Any, x: Array, axes: tuple[int, ...], dtype: Any) -> Array:
    """Sum in the result's dtype, as the product itself would; booleans by `or`."""
    if not axes:
        return x
    total: Array = xp.any(x, axis=axes) if dtype.kind == "b" else xp.sum(x, axis=axes, dtype=dtype)
    return total


@functools.lru_cache(maxsize=4096)
def contraction(spec: Spec) -> Contraction:
    """Return the prepared form of ``spec``."""
    return Contraction(spec)
