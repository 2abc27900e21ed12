"""Matrices that know more than their entries (sparse, of low rank), and how they meet arrays, tracers and each other.

A subclass of `StructuredMatrix` says how it multiplies, is scaled and added. NumPy's operators and functions, those of
tracers and ``nnmath_core.numpy.matmul`` all come here, so that every spelling has one meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Tracer, shape_of
from nnmath_core.autodiff.ops.conventions import as_operand
from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.device.sparse import FORMATS, is_sparse, layout_of, wrapped
from nnmath_core.errors import ShapeError, TraceError

__all__ = [
    "StructuredMatrix",
    "is_structured",
    "product",
    "require_operand",
    "structured",
    "structured_call",
]

_PLAIN = frozenset({np.ndarray, np.float64, np.float32, float, int})


class StructuredMatrix:
    """What all matrices with structure have in common: operators, NumPy's protocols, and what they refuse."""

    __array_priority__ = 900  # below a tracer's
    __hash__ = None  # type: ignore[assignment]

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""
        raise NotImplementedError

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    # what a subclass says
    def _apply(self, x: Any) -> Any:
        """``A @ x`` for a dense x."""
        raise NotImplementedError

    def _apply_left(self, x: Any) -> Any:
        """``x @ A`` for a dense x."""
        raise NotImplementedError

    def _times(self, other: StructuredMatrix) -> Any:
        """``A @ B``, or NotImplemented: then `_after` of B is asked."""
        return NotImplemented

    def _after(self, other: StructuredMatrix) -> Any:
        """``B @ A``, or NotImplemented."""
        return NotImplemented

    def _scaled(self, op: Any, s: Any) -> Any:
        """``op(A, s)`` for a number s and op a product or quotient."""
        raise NotImplementedError

    def _entrywise(self, op: Any, x: Any) -> Any:
        """``op(A, x)`` for a dense array x and op a product or quotient, or NotImplemented."""
        return NotImplemented

    def _plus(self, op: Any, other: StructuredMatrix) -> Any:
        """``op(A, B)`` for op a sum or difference, or NotImplemented."""
        return NotImplemented

    def _negated(self) -> Any:
        raise NotImplementedError

    def to_dense(self) -> Any:
        """All entries as an array."""
        raise NotImplementedError

    def transpose(self) -> Any:
        """The transpose."""
        raise NotImplementedError

    def todense(self) -> Any:
        """All entries as an array."""
        return self.to_dense()

    def toarray(self) -> Any:
        """All entries as an array."""
        return self.to_dense()

    @property
    def T(self) -> Any:
        """The transpose."""
        return self.transpose()

    @property
    def mT(self) -> Any:
        """The transpose of each matrix."""
        return self.transpose()

    def dot(self, other: Any) -> Any:
        """The product with a vector or matrix; with a number, the multiple."""
        return self * other if shape_of(as_operand(other)) == () else product(self, other)

    # operators
    def __matmul__(self, other: Any) -> Any:
        return product(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return product(other, self)

    def __mul__(self, other: Any) -> Any:
        return _combine("multiply", self, other)

    def __rmul__(self, other: Any) -> Any:
        return _combine("multiply", other, self)

    def __truediv__(self, other: Any) -> Any:
        return _combine("divide", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _combine("divide", other, self)

    def __add__(self, other: Any) -> Any:
        return _combine("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return _combine("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return _combine("subtract", self, other)

    def __rsub__(self, other: Any) -> Any:
        return _combine("subtract", other, self)

    def __neg__(self) -> Any:
        return self._negated()

    def __pos__(self) -> Any:
        return self

    def __pow__(self, other: Any) -> Any:
        raise _unsuitable("A ** n", self)

    def __abs__(self) -> Any:
        raise _unsuitable("abs(A)", self)

    def _compared(self, other: Any) -> Any:
        raise _unsuitable("a comparison", self)

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _compared

    def __bool__(self) -> bool:
        raise _unsuitable("the truth value", self)

    # NumPy
    def __array_ufunc__(self, ufunc: Any, method: str, *xs: Any, **kw: Any) -> Any:
        if method == "__call__" and not kw:
            if ufunc is np.matmul:
                return product(*xs)
            if ufunc in (np.multiply, np.divide, np.add, np.subtract):
                return _combine(ufunc.__name__, *xs)
            if ufunc is np.negative:
                return self._negated()
        raise _unsuitable(f"np.{ufunc.__name__}", self)

    def __array_function__(self, func: Any, types: Any, args: Any, kw: Any) -> Any:
        if func in _FUNCTIONS:
            return _FUNCTIONS[func](*args, **kw)
        raise _unsuitable(f"np.{func.__name__}", self)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise _unsuitable("conversion to an array", self)

    def __getitem__(self, index: Any) -> Any:
        raise _unsuitable("A[i]", self)

    def __len__(self) -> int:
        raise TypeError(f"len() of a {type(self).__name__}: use its shape, {self.shape}.")

    def __iter__(self) -> Any:
        raise _unsuitable("iteration", self)


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.dot: lambda a, b: a.dot(b) if isinstance(a, StructuredMatrix) else _dot(a, b),
    np.transpose: lambda a: a.transpose(),
    np.matrix_transpose: lambda a: a.transpose(),
    np.trace: lambda a, offset=0: a.trace(offset),
    np.diagonal: lambda a, offset=0: a.diagonal(offset),
    np.diag: lambda a, k=0: a.diagonal(k),
    np.sum: lambda a, axis=None: a.sum(axis),
    np.shape: lambda a: a.shape,
    np.ndim: lambda a: a.ndim,
}


def _dot(a: Any, b: Any) -> Any:
    return a * b if shape_of(as_operand(a)) == () else product(a, b)


# ------------------------------------------------------------------------------------------------ recognising
def is_structured(x: Any) -> bool:
    """Whether an operand is a matrix with structure, SciPy's and CuPy's sparse ones included."""
    if type(x) in _PLAIN or isinstance(x, Tracer):
        return False
    return isinstance(x, StructuredMatrix) or is_sparse(x)


def structured(x: Any) -> StructuredMatrix | None:
    """The matrix with structure that an operand is; None for an array."""
    if type(x) in _PLAIN or isinstance(x, Tracer):
        return None
    if isinstance(x, StructuredMatrix):
        return x
    if not is_sparse(x):
        return None
    if x.ndim != 2:
        raise ShapeError(
            f"a {type(x).__name__} must have two axes as an operand, got shape {x.shape}. Make it a matrix of one row."
        )
    if x.format not in FORMATS:
        x = x.tocsr()
    matrix: StructuredMatrix = wrapped(x.data, layout_of(x))
    return matrix


def _unsuitable(who: str, x: Any) -> TraceError:
    dense = "A.toarray()" if is_sparse(x) else "A.to_dense()"
    return TraceError(
        f"{who}: a {type(x).__name__} takes part in products, multiples and sums only. Write {dense} in its place for "
        "the dense array of its entries."
    )


# ------------------------------------------------------------------------------------------------ combining
def product(x1: Any, x2: Any) -> Any:
    """The matrix product of two operands of which one at least has structure."""
    x1, x2 = as_operand(x1), as_operand(x2)
    if is_sparse(x1) and is_sparse(x2):
        return x1 @ x2
    a, b = structured(x1), structured(x2)
    if a is None:
        assert b is not None
        return b._apply_left(x1)
    if b is None:
        return a._apply(x2)
    require_operand("matmul", a, b.shape, left=True)
    y = a._times(b)
    if y is NotImplemented:
        y = b._after(a)
    if y is NotImplemented:
        raise TraceError(
            f"matmul: a {type(a).__name__} and a {type(b).__name__} have no product with a derivative rule: it has "
            "another pattern. Write A @ B.to_dense()."
        )
    return y


def require_operand(who: str, a: StructuredMatrix, shape: tuple[int, ...], *, left: bool) -> None:
    """Refuse a dense operand that does not fit: x in ``A @ x`` with ``left``, in ``x @ A`` without."""
    if not shape:
        raise ShapeError(
            f"{who}: operands must have at least one axis; for a scalar write a * b, got shapes "
            f"{a.shape if left else shape} and {shape if left else a.shape}."
        )
    inner = a.shape[-1] if left else a.shape[-2]
    have = shape[0 if len(shape) == 1 else -2] if left else shape[-1]
    if inner != have:
        s1, s2 = (a.shape, shape) if left else (shape, a.shape)
        raise ShapeError(
            f"{who}: the last axis of the first operand must have the length of the "
            f"{'only' if len(s2) == 1 else 'second to last'} axis of the second, got shapes {s1} and {s2}."
        )


def _combine(name: str, x1: Any, x2: Any) -> Any:
    """A sum, difference, product or quotient by entries, of which one operand at least has structure."""
    op = REGISTRY[name]
    a, b = structured(x1), structured(x2)
    if name in ("add", "subtract"):
        return _sum(op, x1, x2, a, b)
    if a is not None and b is not None:
        y = a._entrywise(op, b)
    elif a is not None:
        x2 = as_operand(x2)
        y = a._scaled(op, x2) if shape_of(x2) == () else a._entrywise(op, x2)
    elif b is not None and name == "multiply":
        x1 = as_operand(x1)
        y = b._scaled(op, x1) if shape_of(x1) == () else b._entrywise(op, x1)
    else:
        y = NotImplemented
    if y is NotImplemented:
        raise _unsuitable(name, a if a is not None else b)
    return y


def _sum(op: Any, x1: Any, x2: Any, a: Any, b: Any) -> Any:
    if a is not None and b is not None:
        if a.shape[-2:] != b.shape[-2:]:
            raise ShapeError(
                f"{op.name}: two matrices must have one shape, got {a.shape} and {b.shape}."
            )
        y = a._plus(op, b)
        if y is NotImplemented:
            raise TraceError(
                f"{op.name}: a {type(a).__name__} and a {type(b).__name__} of other structure have no sum that keeps "
                "either. Write A.to_dense() + B."
            )
        return y
    x = as_operand(x1 if a is None else x2)
    if shape_of(x) == ():
        raise TraceError(
            f"{op.name}: a number added to a matrix with structure would fill it. Write A.to_dense() + s."
        )
    return op(x, b.to_dense()) if a is None else op(a.to_dense(), x)


def structured_call(p: Any, xs: tuple[Any, ...], kw: dict[str, Any] | None) -> Any:
    """A primitive that has met an operand with structure."""
    if not kw and p.name in ("add", "subtract", "multiply", "divide"):
        return _combine(p.name, *xs)
    if not kw and p.name == "negative":
        return structured(xs[0])._negated()  # type: ignore[union-attr]
    raise _unsuitable(p.name, next(x for x in xs if is_structured(x)))
