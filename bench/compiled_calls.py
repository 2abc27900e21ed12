"""What a call of a compiled function costs beside its arithmetic: leaves or trees, new results or given ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Calls, Group, Variant, given

TITLE = "calls of compiled functions"

N = 4  # entries of each array: the sum itself takes some nanoseconds


def groups(*, quick: bool) -> list[Group]:
    """Return a flat signature and a tree; a quick run has the same."""
    return [flat(), tree()]


def flat() -> Group:
    """Compare the sum of two arrays."""
    x, out = np.arange(N, dtype=float), np.empty(N)

    def ours(nm: Any) -> Calls:
        call = nm.compile(np.add)
        call(x, x)
        return [lambda: call(x, x), lambda: call(x, x, out=out)]

    def jax_calls(jax: Any) -> Calls:
        call, y = jax.jit(jax.numpy.add), jax.numpy.asarray(x)
        return [lambda: call(y, y).block_until_ready()]

    return Group(
        "two arrays",
        [
            Variant("NumPy", lambda: np.add(x, x)),
            Variant("NumPy, out=", lambda: np.add(x, x, out=out)),
            *given("nnmath_core", ["nm.compile", "nm.compile, out="], ours),
            *given("jax", ["jax.jit"], jax_calls),
        ],
    )


def tree() -> Group:
    """Compare twice each array of a dict of six."""
    p = {k: np.arange(N, dtype=float) for k in "abcdef"}
    out = {k: np.empty(N) for k in p}

    def doubled(p: dict[str, Any]) -> dict[str, Any]:
        return {k: v * 2 for k, v in p.items()}

    def by_key(p: dict[str, Any]) -> np.ndarray:
        return np.concatenate([np.asarray(p[k]) for k in "abcdef"])

    def ours(nm: Any) -> Calls:
        call = nm.compile(doubled)
        call(p)
        return [lambda: call(p), lambda: call(p, out=out)]

    def jax_calls(jax: Any) -> Calls:
        call, q = jax.jit(doubled), jax.tree_util.tree_map(jax.numpy.asarray, p)
        return [lambda: jax.block_until_ready(call(q))]

    return Group(
        "a dict of six arrays",
        [
            Variant("NumPy", lambda: doubled(p), answer=by_key),
            *given("nnmath_core", ["nm.compile", "nm.compile, out="], ours, answer=by_key),
            *given("jax", ["jax.jit"], jax_calls, answer=by_key),
        ],
    )
