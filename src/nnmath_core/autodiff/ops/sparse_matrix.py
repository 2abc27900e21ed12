"""Sparse matrices in traced code: what a matrix of SciPy or CuPy becomes while its entries are differentiated."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import dtype_of, shape_of
from nnmath_core._ext._tree import register_node
from nnmath_core.autodiff.ops.conventions import constant, ndim_of
from nnmath_core.autodiff.ops.elementwise import conjugated, negative
from nnmath_core.autodiff.ops.index import getitem, take
from nnmath_core.autodiff.ops.matrices import StructuredMatrix, require_operand, structured
from nnmath_core.autodiff.ops.reduce import sum as _sum
from nnmath_core.autodiff.ops.shape import astype, matrix_transpose
from nnmath_core.autodiff.ops.sparse import multiply_sparse
from nnmath_core.autodiff.ops.update import at
from nnmath_core.device.sparse import Layout, install_wrapper
from nnmath_core.errors import DtypeError, ShapeError, TraceError

__all__ = ["SparseMatrix"]


class SparseMatrix(StructuredMatrix):
    r"""A sparse matrix whose entries may be traced: stored numbers and a fixed pattern.

    .. math:: A_{ij} = \sum_{e:\, row_e = i,\, col_e = j} data_e

    Inside a differentiated function an argument that is a sparse matrix of SciPy or CuPy is one of these; its gradient
    is a matrix of the argument's type and pattern, explicit zeros included. It is made from one to be scaled or
    multiplied by entries with traced values: ``nm.SparseMatrix(A) * t``.

    Parameters
    ----------
    matrix : sparse matrix or array, shape (m, n)
        Of SciPy or CuPy. Formats other than csr, csc and coo are converted to csr.

    Attributes
    ----------
    data : array, shape (nnz,)
        The entries, in the order of the format.
    shape : tuple (m, n)
    format : {"csr", "csc", "coo"}

    Raises
    ------
    DtypeError
        ``matrix`` is not a sparse matrix.
    ShapeError
        It does not have two axes.

    Notes
    -----
    Products with vectors, matrices and stacks of matrices on either side, `T`, multiples, products by entries, sums of
    matrices of one pattern, `sum`, `diagonal`, `trace` and `to_dense` are differentiated in both modes, to any order.
    The cotangent of the entries of A in ``A @ x`` is the outer product sampled on the pattern: O(nnz k) for k columns,
    and never an array of m n numbers. On the CPU SciPy multiplies, on a CUDA device cuSPARSE.

    Examples
    --------
    >>> import numpy as np, scipy.sparse
    >>> import nnmath_core as nm
    >>> A = scipy.sparse.csr_array(np.array([[1.0, 0.0], [2.0, 3.0]]))
    >>> x = np.array([1.0, 10.0])
    >>> nm.grad(lambda A: np.sum((A @ x) ** 2))(A).toarray()
    array([[  2.,   0.],
           [ 64., 640.]])
    >>> nm.grad(lambda t: np.sum((nm.SparseMatrix(A) * t) @ x))(2.0)
    np.float64(33.0)
    """

    def __init__(self, matrix: Any) -> None:
        found = structured(matrix)
        if not isinstance(found, SparseMatrix):
            raise DtypeError(
                "SparseMatrix: `matrix` must be a sparse matrix or array of SciPy or CuPy, got a "
                f"{type(matrix).__name__}. Make one: scipy.sparse.csr_array(matrix)."
            )
        layout = found.layout
        self.data = found.data
        self.layout = Layout(layout.format, layout.arrays, layout.shape, None)

    @classmethod
    def of(cls, data: Any, layout: Layout) -> SparseMatrix:
        """Entries and layout as a matrix, unchecked."""
        self = cls.__new__(cls)
        self.data, self.layout = data, layout
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes; of a stack, whose entries have more than one axis, those in front."""
        return (*shape_of(self.data)[:-1], *self.layout.shape)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the entries."""
        return dtype_of(self.data)

    @property
    def format(self) -> str:
        """The format: "csr", "csc" or "coo"."""
        return self.layout.format

    @property
    def nnz(self) -> int:
        """The number of stored entries, explicit zeros included."""
        return self.layout.nnz

    def __repr__(self) -> str:
        return (
            f"SparseMatrix({self.format}, shape {self.shape}, {self.nnz} entries of {self.dtype})"
        )

    # ------------------------------------------------------------------ the entries
    def with_data(self, data: Any) -> SparseMatrix:
        """The matrix of this pattern with other entries, as in ``A.with_data(np.tanh(A.data))``.

        Parameters
        ----------
        data : array, shape (nnz,)
            In the order of ``A.data``.

        Returns
        -------
        SparseMatrix

        Raises
        ------
        ShapeError
            The number of entries differs.
        """
        if shape_of(data)[-1:] != (self.nnz,):
            raise ShapeError(
                f"with_data: `data` must have shape ({self.nnz},), one entry for each of the pattern, got "
                f"{shape_of(data)}."
            )
        return SparseMatrix.of(data, self.layout)

    def astype(self, dtype: Any) -> SparseMatrix:
        """The matrix with its entries in another dtype."""
        return self.with_data(astype(self.data, dtype))

    def conj(self) -> SparseMatrix:
        """The complex conjugate."""
        return self.with_data(conjugated(self.data))

    def copy(self) -> SparseMatrix:
        """The matrix itself: nothing of it can be written into."""
        return self

    def tocoo(self) -> SparseMatrix:
        """The matrix in the format "coo", entries in the same order."""
        return SparseMatrix.of(
            self.data, Layout("coo", self.layout.places, self.layout.shape, None)
        )

    def tocsr(self) -> SparseMatrix:
        """The matrix in the format "csr", entries sorted by rows."""
        if self.format == "csr":
            return self
        coo = self.tocoo()
        order, p = coo.layout.order, coo.layout.pattern
        layout = Layout("csr", (p.columns, p.starts), self.layout.shape, None)
        return SparseMatrix.of(take(self.data, order, axis=-1), layout)

    def tocsc(self) -> SparseMatrix:
        """The matrix in the format "csc", entries sorted by columns."""
        return self if self.format == "csc" else self.transpose().tocsr().transpose()

    def transpose(self) -> SparseMatrix:
        """The transpose, entries in the same order."""
        return SparseMatrix.of(self.data, self.layout.transposed)

    def to_dense(self) -> Any:
        """All entries as an array; entries of one place are added."""
        zeros = constant(self.data, self.shape, 0, self.dtype)
        return at(zeros)[(..., *self.layout.places)].add(self.data)

    # ------------------------------------------------------------------ reductions
    def sum(self, axis: int | None = None) -> Any:
        """The sum of all entries, or of each column (axis 0) or row (axis 1)."""
        if axis is None:
            return _sum(self.data, axis=-1)
        if axis not in (0, 1, -1, -2):
            raise np.exceptions.AxisError(axis, 2)
        keep = 1 if axis in (0, -2) else 0
        return self._scattered(self.layout.places[keep], self.data, self.layout.shape[keep])

    def mean(self, axis: int | None = None) -> Any:
        """The mean over all m n places, or those of each column (axis 0) or row (axis 1)."""
        m, n = self.layout.shape
        return self.sum(axis) / (m * n if axis is None else m if axis in (0, -2) else n)

    def diagonal(self, k: int = 0) -> Any:
        """The entries of the k-th diagonal, zeros where none is stored."""
        (m, n), (rows, columns) = self.layout.shape, self.layout.places
        length = max(0, min(m + min(k, 0), n - max(k, 0)))
        (here,) = (columns.astype(np.int64) - rows == k).nonzero()
        places = rows[here] - max(0, -k)
        return self._scattered(places, take(self.data, here, axis=-1), length)

    def trace(self, offset: int = 0) -> Any:
        """The sum of a diagonal."""
        rows, columns = self.layout.places
        (here,) = (columns.astype(np.int64) - rows == offset).nonzero()
        return _sum(take(self.data, here, axis=-1), axis=-1)

    def multiply(self, other: Any) -> Any:
        """The product by entries, ``A * other``."""
        return self * other

    def _scattered(self, places: Any, data: Any, length: int) -> Any:
        zeros = constant(data, (*shape_of(data)[:-1], length), 0, self.dtype)
        return at(zeros)[..., places].add(data)

    # ------------------------------------------------------------------ products
    def _operator(self, x: Any, *, transposed: bool) -> Any:
        if ndim_of(self.data) != 1:
            raise ShapeError(
                f"matmul: a stack of sparse matrices, entries of shape {shape_of(self.data)}, multiplies under nm.vmap."
            )
        layout, data = self.layout, self.data
        if layout.order is not None:
            data = take(data, layout.order)
        flipped = transposed ^ (layout.format == "csc")
        return multiply_sparse(data, x, pattern=layout.pattern, transposed=flipped)

    def _apply(self, x: Any) -> Any:
        require_operand("matmul", self, shape_of(x), left=True)
        return self._operator(x, transposed=False)

    def _apply_left(self, x: Any) -> Any:
        require_operand("matmul", self, shape_of(x), left=False)
        if ndim_of(x) == 1:
            return self._operator(x, transposed=True)
        return matrix_transpose(self._operator(matrix_transpose(x), transposed=True))

    def _times(self, other: StructuredMatrix) -> Any:
        return NotImplemented

    def _scaled(self, op: Any, s: Any) -> SparseMatrix:
        return self.with_data(op(self.data, s))

    def _entrywise(self, op: Any, x: Any) -> Any:
        if isinstance(x, StructuredMatrix):
            if isinstance(x, SparseMatrix) and x.layout == self.layout and op.name == "multiply":
                return self.with_data(op(self.data, x.data))
            return NotImplemented
        home = self.layout.home
        if home is not None and home.__name__.endswith("_matrix"):
            raise TraceError(
                f"multiply: `*` of a {home.__name__} and an array is a product of matrices in SciPy. Write A @ x, or "
                "A.multiply(x) on nm.SparseMatrix(A) for the product by entries."
            )
        s = shape_of(x)
        try:
            fits = np.broadcast_shapes(s, self.layout.shape) == self.layout.shape
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(
                f"{op.name}: the array must broadcast to the shape of the matrix, {self.layout.shape}, got {s}."
            )
        places = self.layout.places[2 - len(s) :]
        index = tuple(0 if n == 1 else p for n, p in zip(s, places, strict=True))
        return self.with_data(op(self.data, getitem(x, index)))

    def _plus(self, op: Any, other: StructuredMatrix) -> Any:
        if isinstance(other, SparseMatrix) and other.layout == self.layout:
            return self.with_data(op(self.data, other.data))
        return NotImplemented

    def _negated(self) -> SparseMatrix:
        return self.with_data(negative(self.data))


def _take_apart(a: SparseMatrix) -> tuple[tuple[str], tuple[Any], Layout]:
    return ("data",), (a.data,), a.layout


register_node(SparseMatrix, _take_apart)
install_wrapper(SparseMatrix)
