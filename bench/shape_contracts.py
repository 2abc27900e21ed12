"""What it costs to check the shapes of three arrays and a result at each call."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from harness import Calls, Group, Variant, given

TITLE = "shape contracts"

PEER = "jaxtyping" if importlib.util.find_spec("beartype") else "beartype"  # it needs both
Array = np.ndarray


def first(x: Array, w: Array, b: Array) -> Array:
    """Return ``x``: as little as a function can do."""
    return x


def by_hand(x: Array, w: Array, b: Array) -> Array:
    """Return ``x`` after the comparisons that somebody would write."""
    if x.ndim != 2 or w.ndim != 2 or b.ndim != 1:
        raise ValueError("ranks")
    if x.shape[1] != w.shape[0] or w.shape[1] != b.shape[0]:
        raise ValueError("lengths")
    return x


def groups(*, quick: bool) -> list[Group]:
    """Return a call with shapes that were seen before; a quick run has the same."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in ((2, 3), (3, 5), 5)]

    def ours(nm: Any) -> Calls:
        checked = nm.shapes("b i, i o, o -> b i")(first)

        def unchecked() -> Any:
            with nm.shapes.off():
                return checked(*arrays)

        return [lambda: checked(*arrays), unchecked]

    def jaxtyping(found: Any) -> Calls:
        from beartype import beartype

        kinds = {"x": "b i", "w": "i o", "b": "o", "return": "b i"}

        def annotated(x: Any, w: Any, b: Any) -> Any:
            return x

        annotated.__annotations__ = {k: found.Float64[np.ndarray, v] for k, v in kinds.items()}
        checked = found.jaxtyped(typechecker=beartype)(annotated)
        return [lambda: checked(*arrays)]

    return [
        Group(
            "b i, i o, o -> b i",
            [
                Variant("no checks", lambda: first(*arrays)),
                Variant("Python by hand", lambda: by_hand(*arrays)),
                *given("nnmath_core", ["nm.shapes", "nm.shapes, in a block of off"], ours),
                *given(PEER, ["jaxtyping and beartype"], jaxtyping),
            ],
        )
    ]
