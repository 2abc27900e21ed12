"""What the operations on stacks of matrices share: shapes, dtypes, adjoints, triangles.

Matrices are the last two axes and leading axes are a batch, as in `numpy.linalg`.
"""

from __future__ import annotations

import numpy as np

from nnmath_core.autodiff.ops.contract import diagonal
from nnmath_core.autodiff.ops.conventions import (
    all_batched,
    beside,
    ndim_of,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import conjugated
from nnmath_core.autodiff.ops.reduce import sum_p
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import matrix_transpose, real, reshape_p
from nnmath_core.errors import ShapeError

__all__ = [
    "adjoint",
    "diagonal_of",
    "each_batched",
    "eye_mask",
    "folded",
    "hermitian_of",
    "matrices_last",
    "matrix_sum",
    "on_diagonal",
    "per_matrix",
    "square_last",
]


def each_batched(p):
    """Batching rule of a primitive of stacks: every operand gets the batch axis. ``p`` returns the primitive."""
    return lambda on, v, size, **params: p()(*all_batched(on, v, size), **params)


def adjoint(x):
    """The conjugate transpose of the last two axes."""
    return conjugated(matrix_transpose(x))


def square_last(who, a, name="a"):
    """The shape of a stack of square matrices, or the reason why it is none."""
    s = shape_of(a)
    if len(s) < 2 or s[-1] != s[-2]:
        raise ShapeError(f"{who}: `{name}` must have shape (..., n, n), got {s}.")
    return s


def matrices_last(who, a, name="a"):
    """The shape of a stack of matrices, or the reason why it is none."""
    s = shape_of(a)
    if len(s) < 2:
        raise ShapeError(f"{who}: `{name}` must have shape (..., m, n), got {s}.")
    return s


def matrix_sum(x, keepdims=False):
    """The sum of the entries of each matrix."""
    return sum_p(x, axis=(ndim_of(x) - 2, ndim_of(x) - 1), keepdims=keepdims)


def per_matrix(g, like):
    """A number a matrix, to be multiplied with the matrices."""
    return reshape_p(g, shape=(*shape_of(g), 1, 1)) if shape_of(g) or ndim_of(like) else g


def eye_mask(like, n):
    """The diagonal of n x n matrices as booleans, on the device of ``like``."""
    return beside(like, np.eye(n, dtype=bool))


def diagonal_of(m):
    """The main diagonals of a stack."""
    return diagonal(m, 0, -2, -1)


def on_diagonal(d):
    """The diagonal matrices of a stack of vectors."""
    return where(eye_mask(d, shape_of(d)[-1]), d[..., None], 0)


def hermitian_of(t, lower=True):
    """The Hermitian matrix of which t has one triangle, as LAPACK reads it: of the diagonal the real part."""
    n = shape_of(t)[-1]
    kept = np.tri(n, k=-1, dtype=bool)
    part = where(beside(t, kept if lower else kept.T), t, 0)
    return part + adjoint(part) + where(eye_mask(t, n), real(t), 0)


def folded(s, lower=True):
    """The derivative s in a Hermitian matrix as one in the triangle of which it was made; both Re tr(s^H da).

    Entries off the diagonal count twice, on it the real part once.
    """
    n = shape_of(s)[-1]
    kept = np.tri(n, k=-1, dtype=bool)
    s = s + adjoint(s)
    return where(beside(s, kept if lower else kept.T), s, where(eye_mask(s, n), s * 0.5, 0))
