"""What it costs to take a tree of arrays (a dict of 20) apart and to put it together again."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Calls, Group, Variant, given

TITLE = "trees: flatten and unflatten"

TREES = "nnmath_core._ext._tree"
TORCH_TREES = "torch.utils._pytree"
Tree = dict[str, np.ndarray]


def groups(*, quick: bool) -> list[Group]:
    """Return the two directions; a quick run has the same."""
    # the keys are not in order, as those of a model rarely are
    tree = {f"{kind}{i}": np.full(3, i + 0.5) for i in range(10) for kind in ("w", "b")}
    return [flatten(tree), unflatten(tree)]


def joined(leaves: Any) -> np.ndarray:
    """Return all numbers of a list of leaves, in order."""
    return np.concatenate([np.asarray(leaf) for leaf in leaves])


def first_joined(pair: Any) -> np.ndarray:
    """Return the numbers of the leaves of ``(leaves, structure)``."""
    return joined(pair[0])


def by_key(tree: Tree) -> np.ndarray:
    """Return all numbers of a dict, in the order of its keys."""
    return joined([tree[key] for key in sorted(tree)])


def flatten(tree: Tree) -> Group:
    """Compare taking apart."""

    def ours(trees: Any) -> Calls:
        return [lambda: trees.flatten(tree)]

    def ours_like(trees: Any) -> Calls:
        known = trees.flatten(tree)[1]
        return [lambda: trees.flatten_like(tree, known)]

    def jax_calls(jax: Any) -> Calls:
        return [lambda: jax.tree_util.tree_flatten(tree)]

    def torch_calls(pytree: Any) -> Calls:
        return [lambda: pytree.tree_flatten(tree)]

    def torch_joined(pair: Any) -> np.ndarray:  # PyTorch leaves keys in the order of the dict
        return by_key(dict(zip(tree, pair[0], strict=True)))

    return Group(
        "flatten a dict of 20 arrays",
        [
            Variant("Python by hand", lambda: [tree[k] for k in sorted(tree)], answer=joined),
            *given(TREES, ["nnmath_core, flatten"], ours, answer=first_joined),
            *given(TREES, ["nnmath_core, flatten_like"], ours_like, answer=joined),
            *given("jax", ["jax.tree_util"], jax_calls, answer=first_joined),
            *given(TORCH_TREES, ["torch.utils._pytree"], torch_calls, answer=torch_joined),
        ],
    )


def unflatten(tree: Tree) -> Group:
    """Compare putting together."""
    keys = sorted(tree)
    leaves = [tree[key] for key in keys]

    def ours(trees: Any) -> Calls:
        listed, structure = trees.flatten(tree)
        return [lambda: trees.unflatten(structure, listed)]

    def jax_calls(jax: Any) -> Calls:
        listed, structure = jax.tree_util.tree_flatten(tree)
        return [lambda: jax.tree_util.tree_unflatten(structure, listed)]

    def torch_calls(pytree: Any) -> Calls:
        listed, structure = pytree.tree_flatten(tree)
        return [lambda: pytree.tree_unflatten(listed, structure)]

    return Group(
        "unflatten a dict of 20 arrays",
        [
            Variant("Python by hand", lambda: dict(zip(keys, leaves, strict=True)), answer=by_key),
            *given(TREES, ["nnmath_core, unflatten"], ours, answer=by_key),
            *given("jax", ["jax.tree_util"], jax_calls, answer=by_key),
            *given(TORCH_TREES, ["torch.utils._pytree"], torch_calls, answer=by_key),
        ],
    )
