"""The promises of a linear operator, checked one by one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from nnmath_core.checks import describe, require_float, require_rng, require_shape, sentence
from nnmath_core.device import CPU, device_of, to_device
from nnmath_core.errors import DeviceError, DomainError, DtypeError, ShapeError
from nnmath_core.solvers import LinearOperator
from nnmath_core.typing import Array, Rng

__all__ = ["check_operator"]

COLUMNS = 3  # of a block

Product: TypeAlias = Callable[[Array], Array]


def check_operator(op: LinearOperator, dense: Array | None = None, *, rng: Rng = 0) -> None:
    r"""Check every promise of a linear operator, and say which one it breaks.

    .. math:: A(ax + by) = a\,Ax + b\,Ay, \qquad \langle y, Ax \rangle = \langle A^T y, x \rangle

    Parameters
    ----------
    op : LinearOperator, shape (m, n)
        It is multiplied with random vectors and blocks, some twenty products in all.
    dense : array, shape (m, n), optional
        The matrix that it should be, of any float dtype; it is compared through its products.
    rng : None, int or numpy.random.Generator, default 0
        Where the vectors come from.

    Raises
    ------
    DtypeError
        ``op`` is no `LinearOperator`; its ``dtype`` is not float32 or float64; a product has another.
    ShapeError
        ``shape`` is no pair of lengths, or not square although ``symmetric``; a product has a wrong
        shape; ``dense`` has another.
    DeviceError
        A product lives on another device than ``op.device``.
    DomainError
        A product is not finite, not linear, changes from one call to the next or with the width of
        the block, changes its argument or an earlier product, or does not agree with ``dense``; the
        transpose does not fit. The message says which.

    Notes
    -----
    Two ways to the same number may differ by the rounding of products,
    ``64 eps sqrt(m + n)`` relative to the lengths of what is compared. An operator without
    ``_rmatmat`` that does not call itself symmetric promises no transpose: none is checked.

    Examples
    --------
    >>> matrix = np.array([[2.0, 1.0], [0.0, 3.0]])
    >>> nm.verify.check_operator(nm.solvers.as_operator(matrix), matrix)
    """
    if not isinstance(op, LinearOperator):
        raise DtypeError(sentence("check_operator", "op", "a LinearOperator", describe(op)))
    _Checks(op, require_rng("check_operator", rng)).all(dense)


class _Checks:
    """Random vectors and comparisons to rounding; all arrays here are on the host."""

    def __init__(self, op: LinearOperator, rng: np.random.Generator) -> None:
        self.op, self.rng = op, rng
        shape, dtype = getattr(op, "shape", None), getattr(op, "dtype", None)
        if not (
            isinstance(shape, tuple)
            and len(shape) == 2
            and all(isinstance(n, int | np.integer) and n >= 0 for n in shape)
        ):
            raise ShapeError(self.broken("`shape` must be a pair of lengths", str(shape)))
        if not isinstance(dtype, np.dtype) or dtype not in (np.float32, np.float64):
            wanted = "`dtype` must be numpy.dtype('float32') or numpy.dtype('float64')"
            raise DtypeError(self.broken(wanted, repr(dtype)))
        if op.symmetric and shape[0] != shape[1]:
            wanted = "`shape` must be square, since `symmetric` is True"
            raise ShapeError(self.broken(wanted, str(shape)))
        self.m, self.n = shape
        self.tol = 64 * float(np.finfo(dtype).eps) * (self.m + self.n) ** 0.5

    def all(self, dense: Array | None) -> None:
        x, y = self.random(self.n), self.random(self.m)
        forth = self.one_way("A @ x", self.op.__matmul__, x, self.m)
        if self.has_transpose():
            back = self.one_way("A.T @ x", self.op.rmatvec, y, self.n)
            wanted = "y'(A x) and (A'y)'x must be equal"
            self.require_close(wanted, y @ forth, back @ x, length(forth, y) + length(back, x))
        if self.op.symmetric:
            back = on_host(self.product("A @ x", self.op.__matmul__, y, self.m))
            wanted = "y'(A x) and (A y)'x must be equal, since `symmetric` is True"
            self.require_close(wanted, y @ forth, back @ x, length(forth, y) + length(back, x))
        if dense is not None:
            matrix = on_host(require_float("check_operator", "dense", dense))
            require_shape("check_operator", "dense", matrix, (self.m, self.n))
            X = self.random(self.n, COLUMNS)
            found = on_host(self.product("A @ x", self.op.__matmul__, X, self.m))
            self.require_close("A @ x must be `dense @ x`", found, matrix @ X, length(matrix, X))

    def has_transpose(self) -> bool:
        return type(self.op)._rmatmat is not LinearOperator._rmatmat

    def one_way(self, what: str, multiply: Product, x: Array, rows: int) -> Array:
        """Check state, blocks and linearity in one direction; return the product with x."""
        n = len(x)
        z, X = self.random(n), self.random(n, COLUMNS)
        y = self.product(what, multiply, x, rows)
        first = on_host(y).copy()
        other = on_host(self.product(what, multiply, z, rows))
        if not np.array_equal(on_host(y), first):
            wanted = f"{what} must be an array of its own"
            raise DomainError(self.broken(wanted, "one that the next product overwrites"))
        again = on_host(self.product(what, multiply, x, rows))
        if not np.array_equal(again, first):
            wanted = f"{what} must be the same each time"
            got = f"a difference of {np.abs(again - first).max():.1e}"
            raise DomainError(self.broken(wanted, got))
        block = on_host(self.product(what, multiply, X, rows))
        columns = [on_host(self.product(what, multiply, column, rows)) for column in X.T]
        wanted = f"{what} of a block must be the products with its columns"
        self.require_close(wanted, block, np.stack(columns, axis=1), length(block))
        self.product(what, multiply, X[:, :0], rows)
        u = (1.5 * x - 0.75 * z).astype(self.op.dtype)
        mixed = on_host(self.product(what, multiply, u, rows))
        scale = 1.5 * length(first) + 0.75 * length(other)
        self.require_close(f"{what} must be linear", mixed, 1.5 * first - 0.75 * other, scale)
        return first

    def random(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape).astype(self.op.dtype)

    def product(self, what: str, multiply: Product, x: Array, rows: int) -> Array:
        """Return a product as it is, after looking at what can be seen from outside."""
        given = to_device(x.copy(), self.op.device)
        y = multiply(given)
        shape = (rows, *x.shape[1:])
        if getattr(y, "shape", None) != shape:
            got = str(getattr(y, "shape", describe(y)))
            raise ShapeError(self.broken(f"{what} must have shape {shape}", got))
        if y.dtype != self.op.dtype:
            raise DtypeError(self.broken(f"{what} must be of {self.op.dtype}", str(y.dtype)))
        if device_of(y) != self.op.device:
            wanted = f"{what} must live on {self.op.device}"
            raise DeviceError(self.broken(wanted, str(device_of(y))))
        if not np.isfinite(on_host(y)).all():
            raise DomainError(self.broken(f"{what} must be finite", "infinity or NaN"))
        if not np.array_equal(on_host(given), x):
            raise DomainError(self.broken(f"{what} must leave x as it is", "a changed x"))
        return y

    def require_close(self, wanted: str, a: Any, b: Any, scale: float) -> None:
        """Refuse numbers or arrays that differ by more than rounding, relative to a scale."""
        gap = length(np.asarray(a - b))
        if not gap <= self.tol * scale:
            got = f"a difference of {gap / scale if scale else math.inf:.1e} of their size"
            raise DomainError(self.broken(wanted, f"{got} (rounding makes {self.tol:.1e})"))

    def broken(self, wanted: str, got: str) -> str:
        return f"check_operator: {type(self.op).__name__}: {wanted}, got {got}."


def on_host(x: Array) -> Array:
    """Return an array on the host, in double."""
    return np.asarray(to_device(x, CPU), dtype=np.float64)


def length(*arrays: Array) -> float:
    """Return the product of the Euclidean lengths, in double."""
    return math.prod(float(np.linalg.norm(np.asarray(x, np.float64))) for x in arrays)
