"""Shuffled epochs over arrays with a common first axis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nnmath_core._ext._tree import flatten, paths, unflatten
from nnmath_core.checks import describe, require_positive_int, require_rng
from nnmath_core.device import backend_of
from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.typing import Array, Rng, Tree


def batches(
    arrays: Tree,
    *,
    size: int,
    rng: Rng = None,
    shuffle: bool = True,
    drop_last: bool = False,
) -> Batches:
    """Iterate over arrays in batches of rows, one epoch each time it is iterated.

    Parameters
    ----------
    arrays : tree of arrays, each of shape (n, ...)
        A pair ``(x, y)``, a dictionary or any tree; all leaves have the same number n >= 1 of
        rows. They are not copied and must not change while they are iterated.
    size : int
        Rows in a batch, at least 1.
    rng : None, int or numpy.random.Generator
        Where the orders come from. An integer starts the sequence of epochs anew for each call of
        `batches`: the same seed gives the same epochs. A generator is drawn from, one permutation
        when an epoch begins. ``None`` takes fresh entropy.
    shuffle : bool, default True
        False gives the rows in order, and draws nothing.
    drop_last : bool, default False
        Whether to leave out the last batch when it would have fewer than ``size`` rows. By default
        it is given, with the remaining ``n % size`` rows, so that every row occurs once an epoch.

    Returns
    -------
    Batches
        Iterable again and again, each time over one epoch in a new order; ``len()`` is the number
        of batches in an epoch. A batch has the structure of ``arrays``, on the device of each leaf.
        Shuffled batches are copies; without shuffling they are views.

    Raises
    ------
    DtypeError
        A leaf is not an array (a list of numbers is a tree of numbers), or ``size`` no integer.
    ShapeError
        A leaf has no axis, or two leaves differ in the number of rows.
    DomainError
        ``size`` is below 1; there are no rows or no leaves; or with ``drop_last`` an epoch would
        be empty.

    Notes
    -----
    The order is ``rng.permutation(n)`` on the host, also for device arrays, so that the rows and
    their order are the same on every device.

    Examples
    --------
    >>> x, y = np.arange(5.0), np.arange(5)
    >>> epoch = batches((x, y), size=2, rng=0)
    >>> len(epoch), [len(xb) for xb, yb in epoch]
    (3, [2, 2, 1])
    >>> same = batches((x, y), size=2, rng=0), batches((x, y), size=2, rng=0)
    >>> all(np.array_equal(a, b) for (a, _), (b, _) in zip(*same))
    True
    """
    size = require_positive_int("batches", "size", size)
    generator = require_rng("batches", rng)
    leaves, treedef = flatten(arrays)
    if not leaves:
        raise DomainError("batches: `arrays` must hold at least one array, got an empty tree.")
    names = [f"arrays{path}" for path in paths(treedef)]
    leaves = [_require_rows(name, leaf) for name, leaf in zip(names, leaves, strict=True)]
    rows = leaves[0].shape[0]
    for name, leaf in zip(names, leaves, strict=True):
        if leaf.shape[0] != rows:
            raise ShapeError(
                f"batches: `{name}` must have {rows} rows as `{names[0]}` has, got shape "
                f"{tuple(leaf.shape)}."
            )
    if rows == 0:
        raise DomainError(f"batches: `{names[0]}` must have at least one row, got shape (0, ...).")
    if drop_last and size > rows:
        raise DomainError(
            f"batches: `size` must be at most {rows}, the number of rows, got {size}. With "
            "`drop_last` no batch would be left."
        )
    return Batches(leaves, treedef, rows, size, generator if shuffle else None, drop_last)


def _require_rows(name: str, leaf: Any) -> Array:
    """Return a leaf as an array with at least one axis."""
    ours = isinstance(leaf, np.ndarray) or hasattr(leaf, "__cuda_array_interface__")
    if not ours and (isinstance(leaf, np.generic) or not hasattr(leaf, "__array__")):
        raise DtypeError(
            f"batches: `{name}` must be an array, got {describe(leaf)}. Lists are trees: convert "
            "them with `numpy.asarray`."
        )
    if not ours:
        leaf = np.asarray(leaf)  # a pandas Series or DataFrame
    if len(leaf.shape) == 0:
        raise ShapeError(f"batches: `{name}` must have rows, got an array of shape ().")
    array: Array = leaf
    return array


class Batches:
    """An epoch of batches each time it is iterated; made by `batches`.

    Attributes
    ----------
    rows : int
        Rows of the data.
    size : int
        Rows of a batch, but for a shorter last one.
    """

    def __init__(
        self,
        leaves: list[Array],
        treedef: Any,
        rows: int,
        size: int,
        rng: np.random.Generator | None,
        drop_last: bool,
    ) -> None:
        self.rows, self.size = rows, size
        self._leaves, self._treedef, self._rng = leaves, treedef, rng
        self._backends = [backend_of(leaf, who="batches") for leaf in leaves]
        self._count = rows // size if drop_last else -(-rows // size)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Tree]:
        order = None if self._rng is None else self._rng.permutation(self.rows)
        return (self._batch(order, k * self.size) for k in range(self._count))

    def _batch(self, order: Array | None, start: int) -> Tree:
        rows: Any = slice(start, min(start + self.size, self.rows))
        if order is not None:
            rows = order[rows]
        pairs = zip(self._backends, self._leaves, strict=True)
        return unflatten(self._treedef, [be.index_get(leaf, (rows,)) for be, leaf in pairs])

    def __repr__(self) -> str:
        return f"Batches({self.rows} rows, {len(self)} batches of {self.size})"
