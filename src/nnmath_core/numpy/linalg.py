"""`numpy.linalg` for plain arrays, device arrays and tracers; matrices are the last two axes."""

from __future__ import annotations

from typing import Any

from nnmath_core.autodiff.ops.contract import diagonal as _diagonal
from nnmath_core.autodiff.ops.contract import matmul, outer, tensordot, vecdot
from nnmath_core.autodiff.ops.contract import trace as _trace
from nnmath_core.autodiff.ops.linalg import (
    cholesky,
    det,
    inv,
    matrix_norm,
    norm,
    slogdet,
    solve,
    vector_norm,
)
from nnmath_core.autodiff.ops.shape import matrix_transpose

__all__ = [
    "cholesky",
    "det",
    "diagonal",
    "inv",
    "matmul",
    "matrix_norm",
    "matrix_transpose",
    "norm",
    "outer",
    "slogdet",
    "solve",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]


def diagonal(x: Any, /, *, offset: int = 0) -> Any:
    """The diagonals of the last two axes."""
    return _diagonal(x, offset, -2, -1)


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    """The traces of the last two axes."""
    return _trace(x, offset, -2, -1, dtype)
