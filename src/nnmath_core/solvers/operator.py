"""Linear operators: an action on blocks of vectors and the promises that go with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

import numpy as np

from nnmath_core._ext import _iterations
from nnmath_core.checks import describe, require_float, sentence
from nnmath_core.device import CPU, Device, backend_for, backend_of, device_of
from nnmath_core.errors import DeviceError, DtypeError, ShapeError
from nnmath_core.program.plan import FrozenPlan, Plan
from nnmath_core.typing import Array

__all__ = ["LinearOperator", "PlanOperator", "as_operator", "operator_of"]


class LinearOperator(ABC):
    """A real linear map known by its action on blocks of vectors.

    A final class sets the attributes and writes ``_matmat(X)``, from (n, k) to (m, k), and
    ``_rmatmat(Y)`` unless it is symmetric; everything else is here. `nm.verify.check_operator`
    tests the promises against a dense matrix.

    Attributes
    ----------
    shape : tuple of int
        ``(m, n)``.
    dtype : numpy.dtype
        float32 or float64: of what it takes and of what it gives.
    symmetric : bool
        A promise, which the Lanczos iteration relies on.
    device : Device
        Where the vectors live.

    Notes
    -----
    ``A @ x`` takes vectors (n,) and blocks (n, k); ``x @ A`` is ``A.T @ x``. SciPy's iterative
    solvers take an operator as it is (`scipy.sparse.linalg.eigsh`, ``cg``, ``lsmr``), which
    multiplies vector by vector; `to_scipy` gives one that multiplies blocks.

    Examples
    --------
    >>> class Diagonal(nm.solvers.LinearOperator):
    ...     symmetric = True
    ...
    ...     def __init__(self, d):
    ...         self.d, self.dtype, self.shape = d, d.dtype, (d.size, d.size)
    ...
    ...     def _matmat(self, X):
    ...         return self.d[:, None] * X
    >>> Diagonal(np.array([1.0, 2.0])) @ np.array([10.0, 10.0])
    array([10., 20.])
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    symmetric: bool = False
    device: Device = CPU

    __array_ufunc__ = None  # so that `ndarray @ operator` asks the operator

    @abstractmethod
    def _matmat(self, X: Array) -> Array:
        """Return the product with a block (n, k), of this dtype and on this device: (m, k)."""

    def _rmatmat(self, Y: Array) -> Array:
        """Return the product of the transpose with a block (m, k): (n, k)."""
        if self.symmetric:
            return self._matmat(Y)
        raise NotImplementedError(
            f"{type(self).__name__} has no transpose: write `_rmatmat`, or set `symmetric = True` "
            "when it is."
        )

    def _compiled_product(self) -> Any:
        """Return the product for iterations in C, which then need no GIL; None: they call `_matmat`."""
        return None

    def _compiled_transpose(self) -> Any:
        """Return the same of the transpose; None: they call `_rmatmat`."""
        return self._compiled_product() if self.symmetric else None

    def __matmul__(self, x: Any) -> Array:
        x = self._require_block(x, self.shape[1], f"{type(self).__name__} @ x")
        with backend_for(self.device).scope():
            return self._matmat(x[:, None])[:, 0] if x.ndim == 1 else self._matmat(x)

    def __rmatmul__(self, x: Any) -> Array:
        if getattr(x, "ndim", 1) == 2:
            return self.rmatvec(x.T).T
        return self.rmatvec(x)

    def _require_block(self, given: Any, n: int, who: str) -> Array:
        x = require_float(who, "x", given)
        if x.ndim not in (1, 2) or x.shape[0] != n:
            raise ShapeError(sentence(who, "x", f"of shape ({n},) or ({n}, k)", str(x.shape)))
        if x.dtype != self.dtype:
            advice = f"Nothing is converted in silence: `x.astype({self.dtype})`."
            raise DtypeError(sentence(who, "x", f"of {self.dtype}", str(x.dtype), advice))
        if device_of(x) != self.device:
            advice = f'Nothing is moved in silence: `nm.to_device(x, "{self.device}")`.'
            raise DeviceError(sentence(who, "x", f"on {self.device}", str(device_of(x)), advice))
        return x

    @property
    def T(self) -> LinearOperator:
        """The transpose, which is the operator itself where it is symmetric."""
        return self if self.symmetric else _Transposed(self)

    def matvec(self, x: Array) -> Array:
        """Return ``A @ x``; SciPy's name."""
        return self @ x

    def matmat(self, X: Array) -> Array:
        """Return ``A @ X``; SciPy's name."""
        return self @ X

    def rmatvec(self, y: Array) -> Array:
        """Return ``A.T @ y``; SciPy's name."""
        y = self._require_block(y, self.shape[0], f"{type(self).__name__}.T @ x")
        with backend_for(self.device).scope():
            return self._rmatmat(y[:, None])[:, 0] if y.ndim == 1 else self._rmatmat(y)

    def rmatmat(self, Y: Array) -> Array:
        """Return ``A.T @ Y``; SciPy's name."""
        return self.rmatvec(Y)

    def to_scipy(self) -> Any:
        """Return a `scipy.sparse.linalg.LinearOperator` that multiplies blocks as blocks."""
        from scipy.sparse.linalg import LinearOperator as ScipyOperator

        return ScipyOperator(
            self.shape,
            matvec=self.matvec,
            rmatvec=self.rmatvec,
            matmat=self.matmat,
            rmatmat=self.rmatmat,
            dtype=self.dtype,
        )

    def to_dense(self, *, chunk_size: int = 256) -> Array:
        """Return the matrix: n products, ``chunk_size`` columns at a time."""
        m, n = self.shape
        xp = backend_for(self.device).xp
        with backend_for(self.device).scope():
            out = xp.empty((m, n), self.dtype)
            for start in range(0, n, chunk_size):
                stop = min(start + chunk_size, n)
                columns = xp.zeros((n, stop - start), self.dtype)
                columns[xp.arange(start, stop), xp.arange(stop - start)] = 1
                out[:, start:stop] = self._matmat(columns)
        return out  # type: ignore[no-any-return]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        raise DtypeError(
            f"{type(self).__name__}: an operator is not an array. Write `A.to_dense()` for its "
            "matrix, which costs a product for each column."
        )

    def __repr__(self) -> str:
        words = ["symmetric"] if self.symmetric else []
        words += [str(self.dtype)] + ([str(self.device)] if self.device != CPU else [])
        return f"<{self.shape[0]}x{self.shape[1]} {type(self).__name__}, {', '.join(words)}>"


@final
class _Transposed(LinearOperator):
    def __init__(self, A: LinearOperator) -> None:
        self._of = A
        self.shape, self.dtype, self.device = (A.shape[1], A.shape[0]), A.dtype, A.device

    def _matmat(self, X: Array) -> Array:
        return self._of._rmatmat(X)

    def _rmatmat(self, Y: Array) -> Array:
        return self._of._matmat(Y)

    def _compiled_product(self) -> Any:
        return self._of._compiled_transpose()

    def _compiled_transpose(self) -> Any:
        return self._of._compiled_product()

    @property
    def T(self) -> LinearOperator:
        return self._of


@final
class MatrixOperator(LinearOperator):
    """A dense or sparse matrix as an operator."""

    def __init__(self, matrix: Any, *, symmetric: bool, device: Device = CPU) -> None:
        self.matrix, self.symmetric, self.device = matrix, symmetric, device
        self.shape, self.dtype = tuple(matrix.shape), matrix.dtype

    def _matmat(self, X: Array) -> Array:
        return self.matrix @ X  # type: ignore[no-any-return]

    def _rmatmat(self, Y: Array) -> Array:
        return self.matrix.T @ Y  # type: ignore[no-any-return]

    def _compiled_product(self) -> Any:
        return _product_of_matrix(self.matrix) if self.device == CPU else None

    def _compiled_transpose(self) -> Any:
        if self.symmetric:
            return self._compiled_product()
        return _product_of_matrix(self.matrix.T) if self.device == CPU else None


def _product_of_matrix(matrix: Any) -> Any:
    """Return the product in C of a dense or sparse matrix; memory in neither order is copied."""
    if not isinstance(matrix, np.ndarray):
        rows = matrix.tocsr()
        # of a list of rows SciPy may have given the two lists of indices types of their own
        kind = np.promote_types(rows.indices.dtype, rows.indptr.dtype)
        indices, indptr = (
            rows.indices.astype(kind, copy=False),
            rows.indptr.astype(kind, copy=False),
        )
        return _iterations.sparse_product(rows.data, indices, indptr, rows.shape[1])
    if matrix.dtype.isnative and matrix.flags.aligned:
        if matrix.flags.c_contiguous:
            return _iterations.dense_product(matrix)
        if matrix.flags.f_contiguous:
            return _iterations.dense_product(matrix.T, True)
    return _iterations.dense_product(np.array(matrix, matrix.dtype.newbyteorder("="), order="C"))


@final
class PlanOperator(LinearOperator):
    """A Plan of one vector to one vector as an operator, whose products run in C.

    Parameters
    ----------
    plan : Plan
        What `nm.compile` made of a linear function of one vector, or `Plan.freeze` of one that is linear in the
        argument that is left. That it is linear is a promise.
    symmetric : bool, default False
        A promise, too.

    Raises
    ------
    DtypeError
        ``plan`` is no plan, or not of float32 or float64 to the same dtype.
    ShapeError
        It does not take one vector, or does not give one.

    Notes
    -----
    A product with a block is one run a vector. What calls Python inside of the plan (``plan.cost.host``) takes the GIL.
    There is no transpose unless it is symmetric.

    Examples
    --------
    >>> def product(w, v):
    ...     return nm.hvp(lambda w: np.sum(w**3) / 6, (w,), (v,))
    >>> w = np.array([1.0, 2.0, 3.0])
    >>> H = nm.solvers.PlanOperator(nm.compile(product).plan(w, w).freeze({0: w}), symmetric=True)
    >>> H @ np.ones(3)
    array([1., 2., 3.])
    """

    def __init__(self, plan: Plan | FrozenPlan, *, symmetric: bool = False) -> None:
        if not isinstance(plan, (Plan, FrozenPlan)):
            raise DtypeError(sentence("PlanOperator", "plan", "a Plan", describe(plan)))
        run = plan.plan if isinstance(plan, FrozenPlan) else plan
        for what, found in (("take", run.program.inputs), ("give", run.program.outputs)):
            shapes = [tuple(v.shape) for v in found]
            if len(shapes) != 1 or len(shapes[0]) != 1:
                got = f"shapes {shapes}"
                raise ShapeError(
                    sentence("PlanOperator", "plan", f"one that {what}s one vector", got)
                )
        (taken,), (given,) = run.program.inputs, run.program.outputs
        if taken.dtype != given.dtype or taken.dtype not in (np.float32, np.float64):
            got = f"{taken.dtype} to {given.dtype}"
            raise DtypeError(sentence("PlanOperator", "plan", "of float32 or float64 alone", got))
        self.plan, self.symmetric, self._keep = run, symmetric, plan
        self.shape, self.dtype = (given.shape[0], taken.shape[0]), np.dtype(taken.dtype)
        if symmetric and self.shape[0] != self.shape[1]:
            raise ShapeError(sentence("PlanOperator", "plan", "square", f"shape {self.shape}"))

    def _matmat(self, X: Array) -> Array:
        Y = np.empty((X.shape[1], self.shape[0]), self.dtype)
        for row, x in zip(Y, np.ascontiguousarray(X.T), strict=True):
            self.plan(x, out=row)
        return Y.T

    def _compiled_product(self) -> Any:
        return None if self.plan.cost.host else _iterations.plan_product(self.plan.capsule)


@final
class ScipyOperator(LinearOperator):
    """An operator of SciPy, or what SciPy takes as one."""

    def __init__(self, A: Any, dtype: np.dtype[Any]) -> None:
        self.wrapped = A
        self.shape, self.dtype = tuple(A.shape), dtype

    def _matmat(self, X: Array) -> Array:
        Y = self.wrapped.matvec(X[:, 0])[:, None] if X.shape[1] == 1 else self.wrapped.matmat(X)
        return np.asarray(Y).astype(self.dtype, copy=False)

    def _rmatmat(self, Y: Array) -> Array:
        return np.asarray(self.wrapped.rmatmat(Y)).astype(self.dtype, copy=False)


def as_operator(A: Any) -> LinearOperator:
    """A matrix or an operator of SciPy as a `LinearOperator`.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or array, SciPy operator, or Plan, shape (m, n)
        float32 or float64. An object with ``shape`` and ``matvec`` counts as SciPy's. A Plan (frozen or not) is
        one of a linear function of one vector, see `PlanOperator`.

    Returns
    -------
    LinearOperator
        ``A`` itself when it is one. A matrix that equals its transpose exactly is symmetric.

    Raises
    ------
    DtypeError
        ``A`` is none of these, or its elements are of another type.
    ShapeError
        An array does not have two axes.

    Examples
    --------
    >>> nm.solvers.as_operator(np.eye(3))
    <3x3 MatrixOperator, symmetric, float64>
    """
    return operator_of("as_operator", A)


def operator_of(who: str, A: Any) -> LinearOperator:
    """Return `as_operator` of ``A``, with complaints in the name of ``who``."""
    if isinstance(A, LinearOperator):
        return A
    if isinstance(A, (Plan, FrozenPlan)):
        return PlanOperator(A)
    if type(A).__module__.startswith("scipy.sparse") and hasattr(A, "tocsr"):
        if A.dtype not in (np.float32, np.float64):
            wanted = "a float32 or float64 matrix"
            raise DtypeError(sentence(who, "A", wanted, f"a sparse one of {A.dtype}"))
        A = A.tocsr()
        square = A.shape[0] == A.shape[1]
        return MatrixOperator(A, symmetric=square and (A != A.T).nnz == 0)
    if hasattr(A, "matvec") and hasattr(A, "shape"):
        from scipy.sparse.linalg import aslinearoperator

        found = aslinearoperator(A)
        if found.dtype not in (np.float32, np.float64):
            wanted = "a float32 or float64 operator"
            raise DtypeError(sentence(who, "A", wanted, f"one of {found.dtype}"))
        return ScipyOperator(found, np.dtype(found.dtype))
    if not hasattr(A, "shape") or isinstance(A, np.generic):
        wanted = "an operator or a matrix of float32 or float64"
        raise DtypeError(sentence(who, "A", wanted, describe(A)))
    A = require_float(who, "A", A)
    A = np.asarray(A) if isinstance(A, np.ndarray) else A  # numpy.matrix has rules of its own
    if A.ndim != 2:
        raise ShapeError(sentence(who, "A", "a matrix", f"an array of shape {A.shape}"))
    square = A.shape[0] == A.shape[1]
    backend = backend_of(A, who=who)
    with backend.scope():
        symmetric = square and _is_symmetric(A)
    return MatrixOperator(A, symmetric=symmetric, device=backend.device)


def _is_symmetric(A: Array) -> bool:
    """Whether a square matrix equals its transpose exactly, block by block; most others are known by one row."""
    n, width = A.shape[0], 256
    if n and not bool((A[0] == A[:, 0]).all()):
        return False
    return all(
        bool((A[i : i + width, i:] == A[i:, i : i + width].T).all()) for i in range(0, n, width)
    )
