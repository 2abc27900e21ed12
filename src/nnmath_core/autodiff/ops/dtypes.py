"""Questions about dtypes, answered for traced arrays too: they carry no derivative."""

from __future__ import annotations

import numpy as np

from nnmath_core.autodiff.ops.conventions import dtype_of, is_traced, ndim_of, require_value
from nnmath_core.autodiff.ops.plain import numpys

__all__ = ["can_cast", "common_type", "min_scalar_type"]


@numpys(np.can_cast)
def can_cast(from_, to, casting="safe"):
    """NumPy's ``can_cast``; an array, also a traced one, stands for its dtype."""
    have = dtype_of(from_) if hasattr(from_, "shape") else from_
    return np.can_cast(have, dtype_of(to) if is_traced(to) else to, casting)


@numpys(np.common_type)
def common_type(*arrays):
    """NumPy's ``common_type``: the inexact scalar type that holds all the arrays."""
    return np.common_type(*[np.empty(0, dtype_of(a)) for a in arrays])


@numpys(np.min_scalar_type)
def min_scalar_type(a, /):
    """NumPy's ``min_scalar_type``: of a number the smallest dtype that holds it, else the dtype."""
    return dtype_of(a) if ndim_of(a) else np.min_scalar_type(require_value("np.min_scalar_type", a))
