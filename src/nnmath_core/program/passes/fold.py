"""Constant folding: what depends on captured arrays and numbers alone is made now.

Exact: the primitive's own host function makes the value, without floating-point warnings. Nothing is folded that would
take more memory than what it is made of (a few hundred bytes are free): a number repeated to a large array stays a
number. Sub-programs are not run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var
from nnmath_core.autodiff.control.subprogram import sub_programs
from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.program.ir import Equation
from nnmath_core.program.passes.rewrite import Rewriter, rewrite, size_of

__all__ = ["with_constants_folded"]

FREE_BYTES = 512


def with_constants_folded(program: Any) -> tuple[Any, int]:
    """The program without equations that have only constants as operands, and how many those were."""
    return rewrite(program, _fold)


def _fold(r: Rewriter, e: Equation) -> Any:
    if REGISTRY.get(e.primitive.name) is not e.primitive or any(
        map(sub_programs, e.params.values())
    ):
        return None
    if not e.operands or not any(isinstance(x, Var) for x in e.operands):
        return None
    if not r.results.isdisjoint(e.outputs):  # a result is an array of its own at each call
        return None
    values, nbytes = [], 0
    for x in e.operands:
        value = r.constant_value(x) if isinstance(x, Var) else x
        if value is None:
            return None
        if isinstance(x, Var):
            nbytes += value.nbytes
            value = value if value.ndim else value[()]
        values.append(value)
    if sum(size_of(v) * v.dtype.itemsize for v in e.outputs) > max(nbytes, FREE_BYTES):
        return None
    with np.errstate(all="ignore"):
        made = e.primitive.host(*values, **e.params)
    arrays = [np.asarray(y) for y in (made if len(e.outputs) > 1 else (made,))]
    if any(
        y.shape != v.shape or y.dtype != v.dtype for y, v in zip(arrays, e.outputs, strict=True)
    ):
        return None
    out = []
    for y in arrays:
        y = y.copy() if y.base is not None else y
        y.flags.writeable = False
        out.append(r.constant(y))
    return tuple(out)
