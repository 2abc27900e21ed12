"""From a function to a Program, and linearize, which is the staging of a directional derivative in its direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnmath_core._ext._autodiff import Aval, dtype_of, jvp_door, shape_of, stage_door
from nnmath_core._ext._tree import flatten, flatten_like, unflatten
from nnmath_core.autodiff.wiring import leaf_value, tangent_value
from nnmath_core.checks import require_callable
from nnmath_core.errors import DtypeError
from nnmath_core.program.ir import Program

__all__ = ["linearize", "stage"]


def stage(f: Callable[..., Any], *args: Any) -> Program:
    """Record a function as a Program, for arguments of these shapes and dtypes.

    Parameters
    ----------
    f : callable
        Function of arrays or trees of arrays. Operations that do not depend on the arguments run once, now; arrays that
        it captures are copied.
    *args : array or tree
        Examples of the arguments: only structure, shapes and dtypes count.

    Returns
    -------
    Program
        Prints itself, and runs by definition when it is called.

    Raises
    ------
    TraceError
        Python control flow, or a conversion, needs a value that does not exist while staging.

    Notes
    -----
    Host random numbers are drawn once. The derivatives of ``f`` may be inside: ``stage(nm.grad(f), x)``.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> print(nm.stage(lambda x: np.sum(x * 2.0), np.ones(3)))
    program <lambda>(v0:f64[3])
      v1:f64[3] = multiply(v0, 2.0)
      v2:f64[] = sum(v1, axis=(0,), keepdims=False)
      return v2
    """
    require_callable("stage", "f", f)
    leaves, in_def = flatten(args)
    for i, x in enumerate(leaves):
        if dtype_of(x).kind not in "biufc":
            raise DtypeError(
                f"stage: leaf {i} of the arguments must be a numeric array, got {dtype_of(x)}."
            )
    recording, outputs, out_def = stage_door(f, args)
    return Program(recording, in_def, outputs, out_def, getattr(f, "__name__", type(f).__name__))


def linearize(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    r"""Value of ``f`` and its derivative at a point as a function of the direction.

    Parameters
    ----------
    f : callable
        Function of arrays or trees of arrays.
    *primals : array or tree
        The point.

    Returns
    -------
    value : tree
        ``f(*primals)``.
    f_jvp : callable
        ``f_jvp(*tangents)`` is :math:`J t`. What depends only on the point was computed once; ``f_jvp.program`` is the
        rest.

    Notes
    -----
    For many directions at one point it costs less than `jvp`, at the price of keeping the intermediate values.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> y, f_jvp = nm.linearize(np.sin, 0.0)
    >>> float(f_jvp(2.0))
    2.0
    """
    require_callable("linearize", "f", f)
    leaves, d = flatten(primals, True)
    values = [
        x if type(x) is float else leaf_value("linearize", x, f"argument {i}")
        for i, x in enumerate(leaves)
    ]
    found: list[Any] = []

    def of_tangent(*tangents: Any) -> Any:
        y, t = jvp_door(f, primals, unflatten(d, tangents), False, "linearize")
        found.append(y)
        return t

    examples = tuple(Aval(shape_of(v), dtype_of(v)) for v in values)
    recording, outputs, out_def = stage_door(of_tangent, examples)
    program = Program(
        recording, d, outputs, out_def, f"jvp of {getattr(f, '__name__', type(f).__name__)}"
    )

    def f_jvp(*tangents: Any) -> Any:
        ts = flatten_like(tangents, d)
        if ts is not None:
            ts = [
                tangent_value("linearize", t, v, f"tangent {i}")
                for i, (t, v) in enumerate(zip(ts, values, strict=True))
            ]
            tangents = unflatten(d, ts)
        return program(*tangents)

    f_jvp.program = program  # type: ignore[attr-defined]
    return found[0], f_jvp
