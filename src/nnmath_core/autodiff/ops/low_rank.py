"""Matrices of low rank, kept as their two factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import shape_of
from nnmath_core.autodiff.ops.contract import matmul, matvec
from nnmath_core.autodiff.ops.conventions import result_dtype
from nnmath_core.autodiff.ops.einsum import einsum
from nnmath_core.autodiff.ops.elementwise import conjugated, negative
from nnmath_core.autodiff.ops.join import concatenate
from nnmath_core.autodiff.ops.matrices import StructuredMatrix, require_operand
from nnmath_core.autodiff.ops.reduce import sum as _sum
from nnmath_core.autodiff.ops.shape import astype, matrix_transpose
from nnmath_core.errors import DtypeError, ShapeError

__all__ = ["LowRank"]


@dataclass(frozen=True, eq=False, repr=False)
class LowRank(StructuredMatrix):
    r"""The matrix of two thin factors, which is never formed.

    .. math:: A = u v^T, \qquad A_{ij} = \sum_{k < r} u_{ik} v_{jk}

    It is a tree with the leaves ``u`` and ``v``: a gradient with respect to it is the pair of gradients of the factors,
    as a `LowRank`, and not a factorisation of the gradient of the matrix.

    Parameters
    ----------
    u : array, shape (..., m, r)
    v : array, shape (..., n, r)
        Axes in front, if any, broadcast: a stack of matrices.

    Attributes
    ----------
    shape : tuple (..., m, n)
    rank : int
        The number of columns of the factors, r.

    Raises
    ------
    DtypeError
        A factor is not an array.
    ShapeError
        A factor has fewer than two axes, or the numbers of columns differ.

    Notes
    -----
    ``A @ x`` and ``x @ A`` cost O((m + n) r) a vector. Products with another `LowRank` or a sparse matrix, sums and
    differences of two (the ranks add), multiples and `T` stay of low rank; a sum with a dense array is dense. The
    factors are not conjugated.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> A = nm.LowRank(np.array([[1.0], [2.0]]), np.array([[3.0], [4.0], [5.0]]))
    >>> A @ np.ones(3)
    array([12., 24.])
    >>> g = nm.grad(lambda A: np.sum(A @ np.ones(3)))(A)
    >>> g.u.ravel(), g.v.ravel()
    (array([12., 12.]), array([3., 3., 3.]))
    """

    u: Any
    v: Any

    def __post_init__(self) -> None:
        for name, x in (("u", self.u), ("v", self.v)):
            if not hasattr(x, "shape"):
                raise DtypeError(f"LowRank: `{name}` must be an array, got a {type(x).__name__}.")
            if len(x.shape) < 2:
                raise ShapeError(
                    f"LowRank: `{name}` must have shape (..., {'m' if name == 'u' else 'n'}, r), got {tuple(x.shape)}. "
                    f"A vector is a factor of one column: {name}[:, None]."
                )
        if self.u.shape[-1] != self.v.shape[-1]:
            raise ShapeError(
                f"LowRank: `v` must have as many columns as `u`, {self.u.shape[-1]}, got shapes {tuple(self.u.shape)} "
                f"and {tuple(self.v.shape)}: the matrix is u @ v.T."
            )
        try:
            np.broadcast_shapes(self.u.shape[:-2], self.v.shape[:-2])
        except ValueError:
            raise ShapeError(
                f"LowRank: the axes in front of the factors must broadcast, got shapes {tuple(self.u.shape)} and "
                f"{tuple(self.v.shape)}."
            ) from None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the matrix."""
        su, sv = shape_of(self.u), shape_of(self.v)
        return (*np.broadcast_shapes(su[:-2], sv[:-2]), su[-2], sv[-2])

    @property
    def rank(self) -> int:
        """The number of columns of the factors, a bound of the rank."""
        return int(shape_of(self.u)[-1])

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the matrix."""
        return result_dtype(self.u, self.v)

    def __repr__(self) -> str:
        return f"LowRank(shape {self.shape}, rank {self.rank}, {self.dtype})"

    def to_dense(self) -> Any:
        """The matrix as an array: O(m n r)."""
        return matmul(self.u, matrix_transpose(self.v))

    def transpose(self) -> LowRank:
        """The transpose: the factors change places."""
        return LowRank(self.v, self.u)

    def conj(self) -> LowRank:
        """The complex conjugate."""
        return LowRank(conjugated(self.u), conjugated(self.v))

    def astype(self, dtype: Any) -> LowRank:
        """The matrix with its factors in another dtype."""
        return LowRank(astype(self.u, dtype), astype(self.v, dtype))

    def diagonal(self, k: int = 0) -> Any:
        """The k-th diagonal: O(n r)."""
        m, n = self.shape[-2:]
        length = max(0, min(m + min(k, 0), n - max(k, 0)))
        i, j = max(0, -k), max(0, k)
        return einsum(
            "...ik,...ik->...i", self.u[..., i : i + length, :], self.v[..., j : j + length, :]
        )

    def trace(self, offset: int = 0) -> Any:
        """The sum of a diagonal."""
        return _sum(self.diagonal(offset), axis=-1)

    def sum(self, axis: int | None = None) -> Any:
        """The sum of all entries, or of each column (axis -2) or row (axis -1); of one matrix 0 and 1 are those axes.

        Of a stack the sum of all entries is one number for each matrix.
        """
        if axis is None:
            return einsum("...ik,...jk->...", self.u, self.v)
        back = axis - self.ndim if axis >= 0 else axis
        if back not in (-1, -2):
            raise np.exceptions.AxisError(axis, 2)
        if back == -2:
            return einsum("...ik,...jk->...j", self.u, self.v)
        return einsum("...ik,...jk->...i", self.u, self.v)

    # ------------------------------------------------------------------ products
    def _apply(self, x: Any) -> Any:
        require_operand("matmul", self, shape_of(x), left=True)
        one = len(shape_of(x)) == 1
        f = matvec if one else matmul
        return f(self.u, f(matrix_transpose(self.v), x))

    def _apply_left(self, x: Any) -> Any:
        require_operand("matmul", self, shape_of(x), left=False)
        if len(shape_of(x)) == 1:
            return self.transpose()._apply(x)
        return matmul(matmul(x, self.u), matrix_transpose(self.v))

    def _times(self, other: StructuredMatrix) -> Any:
        if isinstance(other, LowRank):
            inner = matmul(matrix_transpose(self.v), other.u)
            if self.rank <= other.rank:  # the smaller factors stay
                return LowRank(self.u, matmul(other.v, matrix_transpose(inner)))
            return LowRank(matmul(self.u, inner), other.v)
        return LowRank(self.u, other.transpose()._apply(self.v))

    def _after(self, other: StructuredMatrix) -> Any:
        return LowRank(other._apply(self.u), self.v)

    def _scaled(self, op: Any, s: Any) -> LowRank:
        return LowRank(op(self.u, s), self.v)

    def _plus(self, op: Any, other: StructuredMatrix) -> Any:
        if not isinstance(other, LowRank):
            return NotImplemented
        second = other.u if op.name == "add" else negative(other.u)
        return LowRank(_side_by_side(self.u, second), _side_by_side(self.v, other.v))

    def _negated(self) -> LowRank:
        return LowRank(negative(self.u), self.v)


def _side_by_side(a: Any, b: Any) -> Any:
    return concatenate([a, b], axis=-1)
