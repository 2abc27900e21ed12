"""Trees in Python: mapping, raveling and prefixes; the walking itself is compiled."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import dtype_of, shape_of
from nnmath_core._ext._tree import TreeDef, flatten, flatten_like, paths, unflatten
from nnmath_core.autodiff.ops.index import slice_p
from nnmath_core.autodiff.ops.join import concatenate_p
from nnmath_core.autodiff.ops.shape import cast, reshape_p
from nnmath_core.errors import ShapeError, TreeError

__all__ = ["buffer", "prefix_leaves", "ravel_tree", "tree_leaves", "tree_map", "tree_paths"]


def buffer() -> Any:
    """A field of a dataclass whose arrays are statistics: carried along, not differentiated.

    Returns
    -------
    dataclasses.Field
        Without a default value; fields follow it only if they are buffers, too.

    Notes
    -----
    Its arrays are leaves for `tree_map`, `tree_leaves`, `vmap`, `stage`, `scan`, `save`, `load` and `to_device`. In the
    argument that `grad`, `vjp`, `jvp`, `hvp`, `jacobian`, `linearize` or `jet` differentiates they are constants, a
    gradient has zeros in their place, and a tangent's are not read. Optimizers, `ravel_tree`, `check_grads` and
    operators of curvature do not see them. In a result they are arrays as others are.

    Examples
    --------
    >>> import dataclasses
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> @dataclasses.dataclass(frozen=True)
    ... class Centred:
    ...     scale: np.ndarray
    ...     mean: np.ndarray = nm.buffer()
    >>> layer = Centred(np.ones(2), np.array([3.0, 4.0]))
    >>> nm.grad(lambda l: np.sum(l.scale * (5.0 - l.mean)))(layer)
    Centred(scale=array([2., 1.]), mean=array([0., 0.]))
    """
    return dataclasses.field(metadata={"buffer": True})


def tree_leaves(tree: Any) -> list[Any]:
    """The leaves of a tree in order (dict keys sorted).

    Parameters
    ----------
    tree : tree
        Dicts, lists, tuples, named tuples, None and dataclasses; everything else is a leaf. In a dataclass only arrays
        are: a number, a string or a function in a field belongs to the structure.

    Returns
    -------
    list
        The leaves. None is a node without leaves.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.tree_leaves({"b": 2.0, "a": [1.0, None]})
    [1.0, 2.0]
    """
    return flatten(tree)[0]


def tree_paths(tree: Any) -> list[str]:
    """The key path of each leaf of a tree.

    Parameters
    ----------
    tree : tree
        As for `tree_leaves`.

    Returns
    -------
    list of str
        In the order of the leaves: what is written after the tree's name to reach the leaf.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.tree_paths({"b": 2.0, "a": [1.0]})
    ["['a'][0]", "['b']"]
    """
    return paths(flatten(tree)[1])


def tree_map(f: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply a function to the leaves of trees of one structure.

    Parameters
    ----------
    f : callable
        Of one leaf of each tree.
    tree, *rest : tree
        Dicts, lists, tuples, named tuples, None and dataclasses of leaves, all of one structure.

    Returns
    -------
    tree
        Like ``tree``.

    Raises
    ------
    TreeError
        The structures differ.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.tree_map(lambda a, b: a + b, {"w": 1.0}, {"w": 2.0})
    {'w': 3.0}
    """
    leaves, d = flatten(tree)
    columns = [leaves]
    for i, other in enumerate(rest):
        more = flatten_like(other, d)
        if more is None:
            got = flatten(other)[1]
            advice = (
                ""
                if str(got) != str(d)
                else (
                    " They read alike, and hold different objects, such as two lambdas: make it once, outside."
                )
            )
            raise TreeError(
                f"tree_map: tree {i + 1} must have the structure of the first, {d}, got {got}.{advice}"
            )
        columns.append(more)
    return unflatten(d, [f(*row) for row in zip(*columns, strict=True)])


def ravel_tree(tree: Any) -> tuple[Any, Callable[[Any], Any]]:
    """All leaves of a tree as one vector, and the way back.

    Parameters
    ----------
    tree : tree of arrays or floats
        On one device.

    Returns
    -------
    flat : array, shape (n,)
        The leaves one after another, in their common dtype; without buffers.
    unravel : callable
        A vector of length n (traced or plain) to a tree like ``tree``, leaves in their own dtypes, with its buffers.

    Raises
    ------
    ShapeError
        ``unravel`` is given another shape.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> flat, unravel = nm.ravel_tree({"w": np.ones((1, 2)), "b": 3.0})
    >>> flat
    array([3., 1., 1.])
    >>> unravel(2 * flat)["w"]
    array([[2., 2.]])
    """
    leaves, d = flatten(tree, True)
    shapes = [shape_of(x) for x in leaves]
    dtypes = [dtype_of(x) for x in leaves]
    sizes = [math.prod(s) for s in shapes]
    total = sum(sizes)
    common = np.result_type(*dtypes) if dtypes else np.dtype(np.float64)

    def unravel(flat: Any) -> Any:
        if shape_of(flat) != (total,):
            raise ShapeError(f"unravel: `flat` must have shape ({total},), got {shape_of(flat)}.")
        out, at = [], 0
        for s, n, dtype in zip(shapes, sizes, dtypes, strict=True):
            part = reshape_p(slice_p(flat, index=(slice(at, at + n),)), shape=s)
            part = cast(part, dtype) if dtype_of(flat) == common else part
            # a leaf of its own, not a view of the vector
            out.append(part.copy() if isinstance(part, np.ndarray) else part)
            at += n
        return unflatten(d, out)

    if not leaves:
        return np.zeros(0), unravel
    arrays = [x if hasattr(x, "dtype") else np.asarray(x) for x in leaves]
    parts = [reshape_p(cast(x, common), shape=(n,)) for x, n in zip(arrays, sizes, strict=True)]
    return concatenate_p(*parts, axis=0), unravel


def prefix_leaves(who: str, name: str, prefix: Any, tree: Any) -> list[Any]:
    """One int or None for each leaf of ``tree`` (or of a TreeDef), from a prefix of its structure."""
    d = tree if isinstance(tree, TreeDef) else flatten(tree)[1]
    out: list[Any] = []
    _spread_prefix(who, name, prefix, d, out)
    return out


def _spread_prefix(who: str, name: str, prefix: Any, d: TreeDef, out: list[Any]) -> None:
    if prefix is None or (isinstance(prefix, int) and not isinstance(prefix, bool)):
        out.extend([prefix] * d.num_leaves)
        return
    children: list[Any] | None = None
    if isinstance(prefix, (tuple, list)) and len(prefix) == len(d.children) and not d.keys:
        children = list(prefix)
    elif isinstance(prefix, dict) and tuple(sorted(prefix)) == d.keys:
        children = [prefix[k] for k in d.keys]
    if children is None or d.is_leaf:
        raise TreeError(
            f"{who}: `{name}` must be integers or None in a prefix of the structure {d}, got {prefix!r}."
        )
    for p, c in zip(children, d.children, strict=True):
        _spread_prefix(who, name, p, c, out)
