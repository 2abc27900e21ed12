"""Plans outside of Python: the folder of the C header, and the functions that SciPy calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import dtype_of, shape_of
from nnmath_core._ext._plan import scipy_table
from nnmath_core.errors import DtypeError, ShapeError

__all__ = ["get_include", "low_level_callable"]

SCIPY, SCIPY_MOST = scipy_table()


def get_include() -> str:
    """Folder of ``nnmath_core.h``, the C header of compiled plans.

    Returns
    -------
    str
        For the compiler: ``cc -I"$(python -c 'import nnmath_core as nm; print(nm.get_include())')" ...``.

    Notes
    -----
    The header needs a C99 or C++ compiler and no other header of Python or NumPy. ``nnmath_core/embed.pxd`` says the
    same to Cython: ``from nnmath_core.embed cimport nnm_plan, nnm_run, plan_of``.

    Examples
    --------
    >>> import os
    >>> import nnmath_core as nm
    >>> sorted(os.listdir(nm.get_include()))
    ['nnmath_core.h']
    """
    return str(Path(__file__).parents[1] / "include")


_FUNCTIONS = {
    **dict.fromkeys(("quad", "dblquad", "tplquad", "nquad"), "quad"),
    "generic_filter": "filter",
    "generic_filter1d": "filter1d",
    "geometric_transform": "mapping",
}


def low_level_callable(plan: Any, function: str) -> Any:
    """Return the `scipy.LowLevelCallable` of a plan, for a function of SciPy; see `Plan.low_level_callable`."""
    from scipy import LowLevelCallable

    if function not in _FUNCTIONS:
        raise ValueError(
            f"Plan.low_level_callable: `function` must be one of {', '.join(_FUNCTIONS)}, got {function!r}."
        )
    kind = _FUNCTIONS[function]
    ins = [(shape_of(x), dtype_of(x)) for x in plan.program.inputs]
    outs = [(shape_of(x), dtype_of(x)) for x in plan.program.outputs]
    if plan.donors:
        raise DtypeError(
            "Plan.low_level_callable: an argument is donated, but SciPy keeps its memory. Compile without "
            "`donate_argnums`."
        )
    for what, arrays in (("arguments", ins), ("result", outs)):
        if any(dtype != np.float64 for _, dtype in arrays):
            raise DtypeError(
                f"Plan.low_level_callable: the {what} must be float64, as SciPy's numbers are, got "
                f"{', '.join(str(dtype) for _, dtype in arrays)}."
            )
    shapes, results = [shape for shape, _ in ins], [shape for shape, _ in outs]
    want = 1 if kind in ("filter1d", "mapping") else 0
    if len(results) != 1 or len(results[0]) != want:
        raise ShapeError(
            f"Plan.low_level_callable: for {function} the result must be one "
            f"{'array of rank 1' if want else 'number'}, got {_named(results)}."
        )
    scalars = bool(shapes) and all(shape == () for shape in shapes)
    vector = len(shapes) == 1 and len(shapes[0]) == 1
    if kind == "quad" and scalars and len(shapes) <= SCIPY_MOST:
        name = "quad" if len(shapes) == 1 else "quad_numbers"
    elif kind == "quad" and vector:
        name = "quad_array"
    elif kind != "quad" and vector:
        name = kind
    else:
        numbers = f"up to {SCIPY_MOST} numbers, or " if kind == "quad" else ""
        raise ShapeError(
            f"Plan.low_level_callable: for {function} the arguments must be {numbers}one array of rank 1, got "
            f"{_named(shapes)}. Close over arrays that stay the same."
        )
    return LowLevelCallable(SCIPY[name], plan.capsule)


def _named(shapes: list[tuple[int, ...]]) -> str:
    """Shapes in words."""
    if not shapes:
        return "none"
    if len(shapes) == 1:
        return f"shape {shapes[0]}"
    return f"{len(shapes)} of shapes {', '.join(map(str, shapes[:4]))}" + (
        ", ..." if len(shapes) > 4 else ""
    )
