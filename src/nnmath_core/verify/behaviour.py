"""Whether a function can be checked at all: it is deterministic and leaves its arguments alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core._ext._tree import flatten, paths, unflatten
from nnmath_core.device import CPU, backend_for, device_of
from nnmath_core.typing import Array
from nnmath_core.verify.record import Disagreement
from nnmath_core.verify.variables import Variables, VectorFunction

LOOSE = 2.0**10  # rounding units by which two calls may differ: sums on several threads


def copied(tree: Any) -> Any:
    """Return a tree whose arrays are copies."""
    leaves, treedef = flatten(tree)
    return unflatten(
        treedef,
        [x.copy() if hasattr(x, "dtype") and hasattr(x, "copy") else x for x in leaves],
    )


def changed_by(
    call: Callable[..., Any], args: tuple[Any, ...], roots: list[str]
) -> tuple[Any, str]:
    """Call with copies of the arguments; return the result and the name of a leaf that changed, or ``""``."""
    mine = copied(args)
    before, treedef = flatten(copied(args))
    containers = [_containers(x) for x in mine]
    result = call(*mine)
    after, other = flatten(mine)
    if other != treedef or containers != [_containers(x) for x in mine]:
        return result, "an argument"
    names = []
    for root, x in zip(roots, args, strict=True):
        names += [root + path for path in paths(flatten(x)[1])]
    for name, a, b in zip(names, before, after, strict=True):
        if hasattr(a, "dtype") and not np.array_equal(_host(a), _host(b), equal_nan=_floats(a)):
            return result, name
    return result, ""


def _containers(x: Any) -> int | None:
    return len(x) if isinstance(x, list | dict) else None


def _floats(a: Any) -> bool:
    return getattr(a.dtype, "kind", "") in "fc"


def _host(a: Any) -> Array:
    place = device_of(a)
    return np.asarray(a if place == CPU else backend_for(place).to_host(a))


def varying(first: Array, second: Array, eps: Array | float) -> int | None:
    """Return where two evaluations differ by more than rounding, worst first, or None."""
    if first.shape != second.shape:
        return 0
    with np.errstate(invalid="ignore"):
        size = np.abs(first)
        size = np.where(np.isfinite(size), size, 0.0)
        allowed = LOOSE * np.broadcast_to(eps, first.shape) * size.max(initial=0.0)
        same = (np.abs(first - second) <= allowed) | (first == second)
        same |= np.isnan(first) & np.isnan(second)
    bad = np.flatnonzero(~same)
    return int(bad[np.argmax(np.nan_to_num(np.abs(first - second)[bad]))]) if len(bad) else None


def plain(cause: str, explanation: str, given: float = 0.0, expected: float = 0.0) -> Disagreement:
    """Return the record of a fault of the function itself."""
    return Disagreement(
        cause=cause,
        mode="",
        order=0,
        point=0,
        argument="",
        index=None,
        output="",
        given=given,
        expected=expected,
        error=0.0,
        tolerance=0.0,
        step=0.0,
        slopes=None,
        witness=None,
        explanation=explanation,
        reproduce="",
    )


def points_near(
    function: VectorFunction, variables: Variables, count: int, rng: np.random.Generator
) -> tuple[list[Array], str]:
    """Return the point and random ones around it at which the function has finite values, and a note.

    Entries move by about a tenth of their size, and by less where the function has no value there.
    """
    points = [variables.start]
    unit = variables.scale(variables.start)
    failed = ""
    for _ in range(count - 1):
        move = unit * rng.standard_normal(variables.size)
        for radius in (2.0**-3, 2.0**-6, 2.0**-9, 2.0**-12):
            x = variables.rounded(variables.start + radius * move)
            try:
                with np.errstate(all="ignore"):
                    y = function(x)
            except Exception as e:  # outside of its domain
                failed = f"`f` raised {type(e).__name__} at points nearby"
                continue
            if np.isfinite(y).all():
                points.append(x)
                break
            failed = "`f` is not finite at points nearby"
    if len(points) < count:
        what = "the point given" if len(points) == 1 else f"{len(points)} points"
        return points, f"Only {what} could be checked: {failed}."
    return points, ""
