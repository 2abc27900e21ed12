"""Products with an operator on a device, rows into rows, and the kernels of the steps between them."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnmath_core.checks import sentence
from nnmath_core.device import CPU, backend_for, device_of, to_device
from nnmath_core.errors import DeviceError, DtypeError, ShapeError
from nnmath_core.solvers.device_steps import MEANINGS
from nnmath_core.solvers.operator import LinearOperator, MatrixOperator
from nnmath_core.typing import Array

__all__ = ["DeviceProduct", "launch", "on_host", "piece_of"]

LEAST = 1024  # numbers of a row that a block sums by itself


def piece_of(cols: int, pieces: int = 512) -> int:
    """Return how long the pieces of a row are whose sums are added afterwards: at most so many of them."""
    return LEAST * max(1, -(-cols // (LEAST * pieces)))


def on_host(x: Any) -> Array:
    """Return an array of a device on the host, waiting for it."""
    return np.asarray(to_device(x, CPU))


def launch(backend: Any, kernel: str, n: int, *args: Any) -> None:
    """Queue one of the kernels of iterations over n elements; on the host do what it means."""
    if backend.device == CPU:
        with np.errstate(all="ignore"):
            MEANINGS[kernel](n, *args)
    else:
        backend.launch("iterations", kernel, n, *args)


class DeviceProduct:
    """Products of rows (k, cols) with an operator on a device, as rows; a dense matrix writes them where they belong.

    Parameters
    ----------
    who : str
        In whose name a complaint is made.
    op : LinearOperator
    transpose : bool
        Products with the transpose.
    """

    def __init__(self, who: str, op: LinearOperator, *, transpose: bool = False) -> None:
        self.who, self.op, self.transpose = who, op, transpose
        self.backend: Any = backend_for(op.device)
        self.rows, self.cols = op.shape[::-1] if transpose else op.shape
        self.count = 0
        self.matrix: Any = None
        if isinstance(op, MatrixOperator):
            self.matrix = op.matrix.T if transpose and not op.symmetric else op.matrix

    def __call__(self, x: Array) -> Array:
        """Return the products with rows of the host, on the host."""
        with self.backend.scope():
            moved = to_device(x, self.op.device)
            return on_host(self.into(moved, self.work(len(x))))

    def work(self, k: int) -> Any:
        """Return memory for k products."""
        return self.backend.xp.empty((k, self.rows), self.op.dtype)

    def into(self, x: Any, out: Any, *, own: bool = False) -> Any:
        """Return the products with contiguous rows x, as such: ``out``, or another array where that saves a copy.

        With ``own`` they are in ``out``, so that they may be changed.
        """
        xp, k = self.backend.xp, len(x)
        self.count += k
        if self.matrix is not None:
            if k == 1:
                xp.matmul(self.matrix, x[0], out=out[0])
            else:
                xp.matmul(x, self.matrix.T, out=out)
            return out
        block = x[0] if k == 1 else x.T
        y = self.op.rmatvec(block) if self.transpose else self.op @ block
        wanted = (self.rows, *block.shape[1:])
        name = "A.T @ x" if self.transpose else "A @ x"
        if tuple(y.shape) != wanted:
            raise ShapeError(sentence(self.who, name, f"of shape {wanted}", str(tuple(y.shape))))
        if device_of(y) != self.op.device:
            raise DeviceError(sentence(self.who, name, f"on {self.op.device}", str(device_of(y))))
        if y.dtype != self.op.dtype:
            wanted_dtype = f"of the operator's dtype, {self.op.dtype}"
            raise DtypeError(sentence(self.who, name, wanted_dtype, str(y.dtype)))
        rows = y.T.reshape(k, self.rows) if k == 1 else y.T
        if not own and rows.flags.c_contiguous:
            return rows
        out[...] = rows
        return out

    def launch(self, kernel: str, n: int, *args: Any) -> None:
        """Queue one of the kernels of iterations."""
        launch(self.backend, kernel, n, *args)
