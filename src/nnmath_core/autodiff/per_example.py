"""Gradients of each example of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnmath_core._ext._autodiff import dtype_of, shape_of
from nnmath_core._ext._tree import flatten, unflatten
from nnmath_core.autodiff.jacobian import chunks, joined_rows
from nnmath_core.autodiff.ops.index import slice_p
from nnmath_core.autodiff.transforms import ArgNums, grad, require_argnums, vmap
from nnmath_core.autodiff.tree import tree_map
from nnmath_core.checks import require_callable, require_positive_int, sentence
from nnmath_core.errors import ShapeError

__all__ = ["over_examples", "per_example_grad"]


def per_example_grad(
    f: Callable[..., Any], argnums: ArgNums = 0, *, chunk_size: int | None = None
) -> Callable[..., Any]:
    """Gradient for each example of a batch.

    Parameters
    ----------
    f : callable
        ``f(params, *example)``: the scalar loss of one example.
    argnums : int or sequence of int, default 0
        The arguments to differentiate, which all examples share. Every other positional argument is a batch: a tree of
        arrays whose axis 0 runs over the examples.
    chunk_size : int, optional
        Examples that run at once; all of them by default.

    Returns
    -------
    callable
        ``g(params, *batch)``: a tree like ``params`` whose leaves have the examples as axis 0.

    Raises
    ------
    ShapeError
        The batches differ in length, or there is none.

    Notes
    -----
    ``vmap(grad(f))`` with the axes filled in: one forward and one backward pass for all examples. The result takes as
    much memory as there are parameters times examples; `per_example_norms` keeps less.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> g = nm.per_example_grad(lambda w, x: np.sum(w * x) ** 2)
    >>> g(np.array([1.0, 2.0]), np.eye(2))
    array([[2., 0.],
           [0., 4.]])
    """
    return over_examples("per_example_grad", f, argnums, chunk_size, lambda g: g)


def over_examples(
    who: str,
    f: Callable[..., Any],
    argnums: ArgNums,
    chunk_size: int | None,
    of_gradient: Callable[[Any], Any],
) -> Callable[..., Any]:
    """A function of the gradient of each example, for ``who``: ``g(params, *batch)``."""
    require_callable(who, "f", f)
    numbers = require_argnums(who, argnums)
    if chunk_size is not None:
        require_positive_int(who, "chunk_size", chunk_size)
    gradient = grad(f, numbers)

    def one(*args: Any) -> Any:
        return of_gradient(gradient(*args))

    def mapped(*args: Any) -> Any:
        shared = {i % len(args) for i in ((numbers,) if isinstance(numbers, int) else numbers)}
        batches = [a for i, a in enumerate(args) if i not in shared]
        n = _length(who, batches)
        axes = tuple(None if i in shared else 0 for i in range(len(args)))
        parts = []
        for low, high in chunks(n, chunk_size):
            chunk = args
            if (low, high) != (0, n):
                chunk = tuple(a if i in shared else _rows(a, low, high) for i, a in enumerate(args))
            parts.append(vmap(one, axes)(*chunk))
        if len(parts) == 1:
            return parts[0]
        return unflatten(flatten(parts[0])[1], joined_rows([flatten(p)[0] for p in parts]))

    return mapped


def _rows(batch: Any, low: int, high: int) -> Any:
    return tree_map(lambda x: slice_p(x, index=(slice(low, high),)), batch)


def _length(who: str, batches: list[Any]) -> int:
    lengths = []
    for x in flatten(batches)[0]:
        if not shape_of(x):
            wanted = "an array with the examples as axis 0"
            raise ShapeError(sentence(who, "batch", wanted, f"a scalar of {dtype_of(x)}"))
        lengths.append(shape_of(x)[0])
    if not lengths:
        raise ShapeError(
            f"{who}: there is no batch: every argument is differentiated. Pass the examples as further arguments."
        )
    if len(set(lengths)) > 1:
        raise ShapeError(f"{who}: the batches must have one length, got {lengths}.")
    return int(lengths[0])
