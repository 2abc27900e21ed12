"""`numpy.linalg` for plain arrays, device arrays and tracers; matrices are the last two axes."""

from __future__ import annotations

from typing import Any

from numpy.linalg import LinAlgError

from nnmath_core.autodiff.ops.contract import (
    diagonal as _diagonal,
    matmul,
    tensordot,
    trace as _trace,
    vecdot,
)
from nnmath_core.autodiff.ops.eigen import eig, eigvals
from nnmath_core.autodiff.ops.factorisations import cholesky, qr
from nnmath_core.autodiff.ops.least_squares import lstsq, pinv
from nnmath_core.autodiff.ops.linalg import det, inv, slogdet, solve
from nnmath_core.autodiff.ops.matrix_functions import matrix_power
from nnmath_core.autodiff.ops.norms import cond, matrix_norm, matrix_rank, norm, vector_norm
from nnmath_core.autodiff.ops.shape import matrix_transpose
from nnmath_core.autodiff.ops.spectral import eigh, eigvalsh, svd, svdvals
from nnmath_core.autodiff.ops.tensor_systems import (
    linalg_cross as cross,
    linalg_outer as outer,
    multi_dot,
    tensorinv,
    tensorsolve,
)

__all__ = [
    "LinAlgError",
    "cholesky",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inv",
    "lstsq",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "tensorinv",
    "tensorsolve",
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
