"""A function that insists on float32, recorded, and its equations run in float64."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var, replay
from nnmath_core._ext._tree import flatten, unflatten
from nnmath_core.autodiff.control.subprogram import with_spent
from nnmath_core.errors import TraceError
from nnmath_core.program import stage
from nnmath_core.typing import Tree
from nnmath_core.verify.casts import wide
from nnmath_core.verify.derivatives import raveled
from nnmath_core.verify.nearby import Nearby
from nnmath_core.verify.variables import VectorFunction

__all__ = ["nearby_in_double", "widened"]


def widened(f: Callable[..., Tree], *examples: Tree) -> Callable[..., Tree]:
    """Record ``f`` and return the same operations in float64, for arguments and captured arrays of float64.

    What ``f`` does for the dtype of its arguments it has done while it was recorded, so it is the same
    function: its values differ by rounding alone.

    Parameters
    ----------
    f : callable
        Function of trees of arrays to a tree of arrays.
    *examples : tree
        Arguments in the dtypes that ``f`` takes.

    Returns
    -------
    callable
        From trees like the examples, in float64, to the result in float64.

    Raises
    ------
    TraceError
        ``f`` cannot be recorded, or holds control flow, whose steps have dtypes of their own.
    """
    leaves, in_def = flatten(examples)
    arrays = [np.asarray(x) if isinstance(x, float) else x for x in leaves]
    out_def: Any = None

    def flat(*xs: Any) -> tuple[Any, ...]:
        nonlocal out_def
        found, out_def = flatten(f(*unflatten(in_def, list(xs))))
        return tuple(found)

    program = stage(flat, *arrays)
    if any(e.primitive.inline is not None for e in program.equations):
        raise TraceError("widened: control flow is run in the dtypes that it was recorded in.")
    constants = {v: wide(x) for v, x in program.constants.items()}
    equations = [
        (
            e.primitive,
            tuple(x if isinstance(x, Var) else wide(x) for x in e.operands),
            e.outputs,
            {k: wide(p) for k, p in e.params.items()},
        )
        for e in program.equations
    ]
    outputs = {x for x in program.outputs if isinstance(x, Var)}
    kept = with_spent(equations, {*constants, *outputs})

    def run(*args: Tree) -> Tree:
        env: dict[Any, Any] = dict(constants)
        env.update(zip(program.inputs, map(wide, flatten(args)[0]), strict=True))
        replay(kept, env)
        found = [env[x] if isinstance(x, Var) else x for x in program.outputs]
        return unflatten(out_def, found)

    return run


def nearby_in_double(function: VectorFunction, near: Nearby) -> Nearby | None:
    """Return a function of float32 around a point in float64; None where it can't be had."""
    variables = copy(function.variables)
    try:
        run = widened(
            lambda values: function.floats(function.call(values)), variables.values(near.x)
        )
        variables.wide = True
        double = Nearby(
            lambda x: raveled(run(variables.values(x)), function.size),
            variables,
            near.x,
            variables.eps,
        )
    except Exception:  # Python control flow, or an operation of one dtype alone
        return None
    double.unit = near.unit
    return double if np.isfinite(double.middle).all() else None
