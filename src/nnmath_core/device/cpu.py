"""The host: NumPy, SciPy and the compiled kernels."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from nnmath_core._ext import _optim, _random
from nnmath_core.device.backend import Backend, flat
from nnmath_core.device.contract import Spec, contraction
from nnmath_core.device.index import Index, axes_used, index_parts, is_integer_array
from nnmath_core.device.names import CPU
from nnmath_core.device.sparse import Pattern
from nnmath_core.typing import Array


class CpuBackend(Backend):
    """The operations of the host."""

    name = "cpu"
    device = CPU
    xp = np

    @property
    def special(self) -> ModuleType:
        """`scipy.special`, imported when it is first asked for."""
        return importlib.import_module("scipy.special")

    def asarray(self, x: Any, *, dtype: Any = None) -> Array:
        """Return ``numpy.asarray(x)``; NumPy refuses device arrays itself."""
        array: Array = np.asarray(x, dtype=dtype)
        return array

    def from_host(self, x: Array) -> Array:
        """Return ``x`` itself."""
        return x

    def to_host(self, x: Array) -> Array:
        """Return ``x`` itself."""
        return x

    def matmul(self, x: Array, y: Array) -> Array:
        """Return `numpy.matmul`, with BLAS for every layout."""
        return _matmul(x, y)

    def contract(self, x: Array, y: Array, *, spec: Spec) -> Array:
        """Two-operand `einsum`; see `Backend.contract`."""
        prepared = contraction(spec)
        if prepared.loop is not None:
            looped = prepared.looped(np.einsum, x, y)
            if looped is not None:
                return looped
        return prepared(np, _matmul, x, y)

    def spmm(self, data: Array, x: Array, *, pattern: Pattern, transposed: bool) -> Array:
        """Multiply by SciPy's loops over the rows; see `Backend.spmm`."""
        sparse = importlib.import_module("scipy.sparse")
        parts = (data, pattern.columns, pattern.starts)
        if transposed:  # the rows of the pattern are the columns of the transpose
            matrix = sparse.csc_array(parts, shape=pattern.shape[::-1])
        else:
            matrix = sparse.csr_array(parts, shape=pattern.shape)
        product: Array = matrix @ x
        return product

    def _row_products(self, a: Array, b: Array) -> Array:
        products: Array = np.einsum("ep,ep->e", a, b)
        return products

    def index_add(self, shape: tuple[int, ...], dtype: Any, index: Index, values: Array) -> Array:
        """Return zeros with ``values`` added at ``index``; see `Backend.index_add`."""
        out = np.zeros(shape, dtype)
        add_at(out, index, values)
        return out

    def random_blocks(self, counters: Array, keys: Array) -> Array:
        """Fill blocks by the kernel; see `Backend.random_blocks`."""
        out = np.empty(counters.shape, np.uint32)
        parts = (np.ascontiguousarray(counters).reshape(-1, 4), np.ascontiguousarray(keys))
        _random.random_blocks(out.reshape(-1, 4), parts[0], parts[1].reshape(-1, 2))
        return out

    def random_words(self, keys: Array, *, count: int, purpose: int) -> Array:
        """Fill rows of words by the kernel; see `Backend.random_words`."""
        rows, shape = _rows(keys, count)
        out = np.empty((len(rows), count), np.uint32)
        _random.random_words(out, rows, purpose)
        return out.reshape(shape)

    def random_uniform(self, keys: Array, *, count: int, dtype: Any) -> Array:
        """Fill rows of uniform numbers by the kernel; see `Backend.random_uniform`."""
        rows, shape = _rows(keys, count)
        out = np.empty((len(rows), count), dtype)
        _random.random_uniform(out, rows)
        return out.reshape(shape)

    def random_normal(self, keys: Array, *, count: int, dtype: Any) -> Array:
        """Fill rows of normal numbers by the kernel; see `Backend.random_normal`."""
        rows, shape = _rows(keys, count)
        out = np.empty((len(rows), count), dtype)
        _random.random_normal(out, rows)
        return out.reshape(shape)

    def adam_step(
        self,
        w: Array,
        m: Array,
        v: Array,
        g: Array,
        *,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        c1: float,
        c2: float,
    ) -> None:
        """Take one step of Adam in one pass; see `Backend.adam_step`."""
        w, m, v, g = _flat_arrays("adam_step", w, m, v, g)
        _optim.adam_step(w, m, v, g, lr, beta1, beta2, eps, c1, c2)

    def adamw_step(
        self,
        w: Array,
        m: Array,
        v: Array,
        g: Array,
        *,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        decay: float,
        c1: float,
        c2: float,
    ) -> None:
        """Take one step of AdamW in one pass; see `Backend.adamw_step`."""
        w, m, v, g = _flat_arrays("adamw_step", w, m, v, g)
        _optim.adamw_step(w, m, v, g, lr, beta1, beta2, eps, decay, c1, c2)

    def gradient_descent_step(self, w: Array, g: Array, *, lr: float) -> None:
        """Take one step in one pass; see `Backend.gradient_descent_step`."""
        w, g = (flat("gradient_descent_step", arg, x) for arg, x in (("w", w), ("g", g)))
        _optim.gradient_descent_step(w, g, lr)

    def heavy_ball_step(self, w: Array, v: Array, g: Array, *, lr: float, momentum: float) -> None:
        """Take one step in one pass; see `Backend.heavy_ball_step`."""
        w, v, g = (flat("heavy_ball_step", arg, x) for arg, x in (("w", w), ("v", v), ("g", g)))
        _optim.heavy_ball_step(w, v, g, lr, momentum)

    def nesterov_step(self, w: Array, v: Array, g: Array, *, lr: float, momentum: float) -> None:
        """Take one step in one pass; see `Backend.nesterov_step`."""
        w, v, g = (flat("nesterov_step", arg, x) for arg, x in (("w", w), ("v", v), ("g", g)))
        _optim.nesterov_step(w, v, g, lr, momentum)


def _rows(keys: Array, count: int) -> tuple[Array, tuple[int, ...]]:
    """The keys as rows, and the shape of what they give."""
    return np.ascontiguousarray(keys).reshape(-1, 2), (*keys.shape[:-1], count)


def _flat_arrays(
    who: str, w: Array, m: Array, v: Array, g: Array
) -> tuple[Array, Array, Array, Array]:
    return flat(who, "w", w), flat(who, "m", m), flat(who, "v", v), flat(who, "g", g)


# A row of that many numbers is added by one addition sooner than by positions, one for each number.
_LONG_ROW = 128


def add_at(out: Array, index: Index, values: Any) -> None:
    """Add ``values`` at ``index`` into a C-contiguous array, repeated entries in the order of ``values``."""
    parts = index_parts(index)
    arrays = [axis for axis, part in enumerate(parts) if is_integer_array(part)]
    if not arrays:
        out[index] += values
        return
    axis = arrays[0]
    full = all(isinstance(part, slice) and part == slice(None) for part in parts[:axis])
    if full and len(parts) == axis + 1:
        at = parts[axis]
        if out.ndim == 1:
            values = np.broadcast_to(np.asarray(values, out.dtype), at.shape)
            np.add.at(out, at.reshape(-1), values.reshape(-1))
            return
        if out.size >= _LONG_ROW * out.shape[axis]:
            rows = np.moveaxis(out, axis, 0)
            shape = out.shape[:axis] + at.shape + out.shape[axis + 1 :]
            values = np.broadcast_to(np.asarray(values, out.dtype), shape)
            values = np.moveaxis(
                values.reshape(*out.shape[:axis], -1, *out.shape[axis + 1 :]), axis, 0
            )
            for i, row in zip(at.reshape(-1).tolist(), values, strict=True):
                rows[i] += row
            return
    # numpy.add.at is five times faster along one axis than along several
    at = _positions(out.shape, parts)
    values = np.broadcast_to(np.asarray(values, out.dtype), at.shape)
    np.add.at(out.reshape(-1), at.reshape(-1), values.reshape(-1))


def _matmul_by_blas(x: Array, y: Array) -> Array:
    product: Array = np.matmul(_strided_for_blas(x), _strided_for_blas(y))
    return product


def _strided_for_blas(x: Array) -> Array:
    """Return ``x``, or a contiguous copy if BLAS cannot stride over its last two axes."""
    if x.ndim < 2 or x.size < 256:
        return x
    rows, columns = x.strides[-2:]
    item = x.itemsize
    if columns == item and rows >= x.shape[-1] * item:
        return x
    if rows == item and columns >= x.shape[-2] * item:
        return x
    return np.ascontiguousarray(x)


# NumPy before 2.3 multiplies what BLAS cannot stride over (reversed, broadcast, every second row)
# in a loop that is ten times slower than a copy and BLAS.
_matmul: Callable[[Array, Array], Array] = (
    np.matmul if np.lib.NumpyVersion(np.__version__) >= "2.3.0" else _matmul_by_blas
)


def _positions(shape: tuple[int, ...], parts: tuple[Any, ...]) -> Array:
    """Return the flat positions of ``x[parts]``, in the shape of it, for an ``x`` of this shape."""
    used = len(shape)
    if not any(part is Ellipsis for part in parts):
        used = sum(axes_used(part) for part in parts)
    # a position is a sum of one term an axis; the terms are views without memory of their own
    head, tail = shape[:used], shape[used:]
    at: Any = 0
    step = 1
    for axis in reversed(range(used)):
        term = (np.arange(head[axis]) * step).reshape((-1,) + (1,) * (used - 1 - axis))
        at = at + np.broadcast_to(term, head)[parts]
        step *= head[axis]
    size = int(np.prod(tail, dtype=np.intp))
    at = np.multiply(at, size, dtype=np.intp)
    at = np.add.outer(at, np.arange(size, dtype=np.intp)).reshape(at.shape + tail)
    positions: Array = at
    return positions
