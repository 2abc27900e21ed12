"""Norms of the gradients of each example of a batch, by the order of products that costs least."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nnmath_core._ext._tree import flatten
from nnmath_core.autodiff.ops.join import stack
from nnmath_core.autodiff.ops.norms import norm
from nnmath_core.autodiff.ops.shape import ravel
from nnmath_core.autodiff.per_example import over_examples
from nnmath_core.autodiff.transforms import ArgNums
from nnmath_core.autodiff.tree import tree_map
from nnmath_core.errors import TraceError
from nnmath_core.program.compiled import compile

__all__ = ["per_example_norms"]

LARGE = 1 << 24
"""Entries of the gradients of all examples, from which compiling pays."""


def per_example_norms(
    f: Callable[..., Any], argnums: ArgNums = 0, *, chunk_size: int | None = None
) -> Callable[..., Any]:
    r"""Euclidean norm of the gradient of each example of a batch.

    .. math:: \left\| \frac{\partial f(p, x_i)}{\partial p} \right\|_2, \qquad i = 1, \ldots, n,

    over all parameters together.

    Parameters
    ----------
    f : callable
        ``f(params, *example)``: the scalar loss of one example.
    argnums : int or sequence of int, default 0
        The arguments to differentiate, as in `per_example_grad`.
    chunk_size : int, optional
        Examples whose gradients are in memory at once; all of them by default.

    Returns
    -------
    callable
        ``norms(params, *batch)``: array of shape (n,). Its own gradient where a norm is 0 is 0.

    Raises
    ------
    ShapeError
        The batches differ in length, or there is none.

    Notes
    -----
    With arrays of the host and more than 2^24 entries in the gradients of all examples, the function is compiled
    (`nm.compile`; again for other shapes): the order of products is chosen by their cost there, so that the gradient of
    a dense layer is not formed (its norm is that of its two factors, Goodfellow's "ghost norm"). Squares that overflow
    or underflow are seen, and the norms of these examples computed again with scaling. Else it costs one forward and
    one backward pass for all examples, and the memory of the gradients of one chunk.

    References
    ----------
    I. Goodfellow, "Efficient per-example gradient computations", arXiv:1510.01799 (2015).

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> norms = nm.per_example_norms(lambda p, x: p["w"] @ x + p["b"])
    >>> norms({"w": np.ones(2), "b": 0.0}, np.array([[0.0, 0.0], [2.0, 2.0]]))
    array([1., 3.])
    """
    careful = over_examples("per_example_norms", f, argnums, chunk_size, _length)
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    squares = compile(over_examples("per_example_norms", f, argnums, chunk_size, _square))

    @functools.wraps(careful)
    def norms(*args: Any) -> Any:
        shared = {i % len(args) for i in numbers} if args else set()
        if not _large(args, shared):
            return careful(*args)
        try:
            found = squares(*args)
        except TraceError:  # f has captured what is traced, or asks for values
            return careful(*args)
        out = np.sqrt(found)
        info = np.finfo(found.dtype)
        again = np.flatnonzero(~((found > info.tiny / info.eps) & (found < np.inf)))
        if len(again):
            rows = [
                a if i in shared else tree_map(lambda x: x[again], a) for i, a in enumerate(args)
            ]
            out[again] = careful(*rows)
        return out

    return norms


def _large(args: Sequence[Any], shared: set[int]) -> bool:
    """Whether the gradients of all examples are many numbers, of arrays that can be compiled."""
    leaves = [flatten(a)[0] for a in args]
    if any(
        type(x) is not np.ndarray or x.dtype.kind not in "fiub" for part in leaves for x in part
    ):
        return False
    entries = sum(x.size for i in shared for x in leaves[i])
    batch = [x for i, part in enumerate(leaves) if i not in shared for x in part]
    if not batch or any(not x.ndim or len(x) != len(batch[0]) for x in batch):
        return False  # an error, which is told as always
    return bool(entries * len(batch[0]) > LARGE)


def _length(g: Any) -> Any:
    parts = [norm(ravel(x)) for x in flatten(g)[0]]
    return parts[0] if len(parts) == 1 else norm(stack(parts))


def _square(g: Any) -> Any:
    return sum((x * x).sum() for x in flatten(g)[0])
