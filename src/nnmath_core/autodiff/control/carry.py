"""What goes round in a loop: the same structure, shapes and dtypes before and after each step."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Tracer, dtype_of, shape_of
from nnmath_core._ext._tree import flatten, flatten_like, paths, unflatten
from nnmath_core.checks import describe
from nnmath_core.errors import DtypeError, ShapeError, TreeError

__all__ = ["Carry", "fitted", "is_number", "require_leaves"]


def is_number(x: Any) -> bool:
    """Whether a leaf is a Python number, which takes the dtype of what it meets."""
    return type(x) in (bool, int, float, complex)


def require_leaves(who: str, name: str, tree: Any, advice: str) -> None:
    """Refuse a tree with a leaf that is neither an array nor a number."""
    leaves, d = flatten(tree)
    for i, x in enumerate(leaves):
        if isinstance(x, Tracer) or is_number(x):
            continue
        if getattr(getattr(x, "dtype", None), "kind", "") not in tuple("biufc"):
            raise DtypeError(
                f"{who}: `{name}{paths(d)[i]}` must be an array or a number, got {describe(x)}. {advice}"
            )


def fitted(x: Any, dtype: Any) -> Any:
    """A Python number as a scalar of a dtype; anything else as it is."""
    return np.dtype(dtype).type(x) if is_number(x) else x


class Carry:
    """The carry of a loop, checked after each step.

    A Python number in the first carry has no dtype yet: what the first step returns in its place decides.
    """

    def __init__(self, who: str, name: str, tree: Any, step: str) -> None:
        require_leaves(who, name, tree, "Close over what does not change.")
        self.who, self.name, self.step = who, name, step
        self.leaves, self.treedef = flatten(tree)
        self.known = [None if is_number(x) else (shape_of(x), dtype_of(x)) for x in self.leaves]  # type: list[Any]

    def after(self, tree: Any) -> tuple[Any, list[Any]]:
        """What a step returned as the next carry, and its leaves."""
        leaves = flatten_like(tree, self.treedef)
        if leaves is None:
            raise TreeError(
                f"{self.who}: the carry that `{self.step}` returns must have the structure of `{self.name}`, "
                f"{self.treedef}, got {flatten(tree)[1]}."
            )
        changed = False
        for i, x in enumerate(leaves):
            want = self.known[i]
            if want is None or is_number(x):
                if want is None and is_number(x):
                    continue
                y = self._settled(i, x)
                changed = changed or y is not x
                leaves[i] = y
            elif dtype_of(x) != want[1] or shape_of(x) != want[0]:
                self._refuse(i, x)
        return (unflatten(self.treedef, leaves) if changed else tree), leaves

    def finished(self, tree: Any) -> Any:
        """The last carry: numbers as NumPy scalars."""
        leaves = flatten_like(tree, self.treedef)
        if not any(map(is_number, leaves or ())):
            return tree
        return unflatten(
            self.treedef, [np.asarray(x)[()] if is_number(x) else x for x in leaves or ()]
        )

    def settled(self, leaves: list[Any]) -> list[Any]:
        """The leaves of a carry as what a sub-program takes: numbers as scalars of the dtype that was found."""
        for i, x in enumerate(leaves):
            if self.known[i] is None:
                self.known[i] = ((), dtype_of(x))
        return [fitted(x, want[1]) for x, want in zip(leaves, self.known, strict=True)]

    def _settled(self, i: int, x: Any) -> Any:
        """A leaf where before or after the step there is a Python number."""
        want = self.known[i]
        if want is not None:  # x is a number
            if want[0] == () and np.result_type(want[1], x) == want[1]:
                return fitted(x, want[1])
            self._refuse(i, x)
        if shape_of(x) != () or np.result_type(dtype_of(x), self.leaves[i]) != dtype_of(x):
            self.known[i] = ((), dtype_of(self.leaves[i]))
            self._refuse(i, x)
        self.known[i] = ((), dtype_of(x))
        return x

    def _refuse(self, i: int, x: Any) -> None:
        shape, dtype = self.known[i]
        place = f"`{self.name}{paths(self.treedef)[i]}`"
        if not hasattr(x, "shape") and not is_number(x):
            raise DtypeError(
                f"{self.who}: {place} is carried round and must stay an array or a number, got {describe(x)} from "
                f"`{self.step}`."
            )
        wrong_shape = shape_of(x) != shape
        advice = (
            "Broadcast `init` first, or reduce the result."
            if wrong_shape
            else f"Cast one of the two: x.astype(np.{dtype})."
        )
        raise (ShapeError if wrong_shape else DtypeError)(
            f"{self.who}: {place} is carried round and must keep its shape and dtype, {dtype}{list(shape)}, got "
            f"{dtype_of(x)}{list(shape_of(x))} from `{self.step}`. {advice}"
        )
