"""NVIDIA GPUs: CuPy, and our own kernels where one pass over memory beats several.

Every call enters the backend's device. CuPy works on the current device, not on that of its
arguments: without entering, an operation on arrays of ``cuda:1`` fails or reads memory across
devices, depending on the machine.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from nnmath_core.checks import describe, sentence
from nnmath_core.device import attention as attention_
from nnmath_core.device.alarm import Alarm
from nnmath_core.device.backend import Backend
from nnmath_core.device.contract import Spec
from nnmath_core.device.driver import require_device
from nnmath_core.device.index import Index, axes_used, index_parts, is_integer_array
from nnmath_core.device.launch import family_of
from nnmath_core.device.names import Device
from nnmath_core.device.products import matmul
from nnmath_core.device.sparse import Pattern
from nnmath_core.device.staging import Staging
from nnmath_core.errors import DeviceError, ShapeError
from nnmath_core.typing import Array

# what atomicAdd takes; the others are added in a wider type or by parts
_ATOMIC = ("int32", "int64", "uint32", "uint64", "float16", "float32", "float64")

# Of a kernel over rows: how many results have the entries of `x`, and how many a number a row.
_ROW_RESULTS = {
    "softmax_rows": (1, 0),
    "logsumexp_rows": (0, 1),
    "standardize_rows": (1, 3),
    "rms_rows": (1, 1),
}
_LONG_ROW, _MANY_ROWS = 1 << 14, 64


class Guarded:
    """A module or function of CuPy that runs inside a context, which enters the device.

    Attributes are guarded in turn and remembered. Classes and constants come out as they are, so
    that ``isinstance(x, be.xp.ndarray)`` and ``be.xp.float32`` mean what they mean in CuPy.

    Parameters
    ----------
    target : module or callable
    scope : callable
        Makes the context of a call.
    """

    def __init__(self, target: Any, scope: Callable[[], Any]) -> None:
        self._target = target
        self._scope = scope

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copying and pickling ask for these before there is a target
            raise AttributeError(name)
        value = getattr(self._target, name)
        if isinstance(value, type) or not (callable(value) or isinstance(value, ModuleType)):
            return value
        guarded = self.__dict__[name] = type(self)(value, self._scope)
        return guarded

    def __call__(self, *args: Any, **parameters: Any) -> Any:
        """Call the target inside the context."""
        with self._scope():
            return self._target(*args, **parameters)

    def __repr__(self) -> str:
        return f"<{self._target!r}, guarded>"


class _Special(Guarded):
    """Functions of `cupyx.scipy.special`, guarded: most of them know real numbers only."""

    def __call__(self, *args: Any, **parameters: Any) -> Any:
        """Call the target inside the context; what it has not got for complex numbers is a `DeviceError`."""
        try:
            return super().__call__(*args, **parameters)
        except (TypeError, NotImplementedError) as error:
            given = [x for x in args if getattr(getattr(x, "dtype", None), "kind", "") == "c"]
            if not given:
                raise
            name = getattr(self._target, "__name__", repr(self._target)).removeprefix(
                "cupyx_scipy_special_"
            )
            raise DeviceError(
                f"{name}: CuPy has no implementation for {given[0].dtype}, so there is none on cuda:"
                f'{given[0].device.id}. Compute it on the host: nm.to_device(x, "cpu").'
            ) from error


class CudaBackend(Backend):
    """The operations of one CUDA device.

    Parameters
    ----------
    index : int
        Of a device for which `nnmath_core.device.driver.require_device` has succeeded.
    """

    name = "cuda"

    def __init__(self, index: int) -> None:
        self.cupy = require_device(index)
        self.device = Device("cuda", index)
        self._here = self.cupy.cuda.Device(index)
        self._cupyx = importlib.import_module("cupyx")
        self.staging = Staging(self.cupy, self._cupyx.empty_pinned)
        self.xp = Guarded(self.cupy, self.scope)
        self.xp.linalg = Guarded(self.cupy.linalg, self._raising)
        self.alarm = Alarm(self.cupy, str(self.device))
        self.xp.matmul = Guarded(functools.partial(matmul, self.cupy), self.scope)

    @functools.cached_property
    def special(self) -> Any:
        """`cupyx.scipy.special`, guarded."""
        return _Special(importlib.import_module("cupyx.scipy.special"), self.scope)

    def function(self, forward: str | Callable[..., Any]) -> Callable[..., Any]:
        """Return the callable of a ``forward``, which enters the device; see `Backend.function`."""
        found = super().function(forward)
        return found if isinstance(forward, str) else Guarded(found, self.scope)

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context that enters the device."""
        return self._here  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def _raising(self) -> Iterator[None]:
        """Enter the device, and let a failed factorisation raise: CuPy would return NaN."""
        with self._here, self._cupyx.errstate(linalg="raise"):
            yield

    def synchronize(self) -> None:
        """Wait until everything queued on the device has been done.

        Raises
        ------
        IndexError
            An index array on the device was out of range.
        """
        self._here.synchronize()
        self.ring()

    def ring(self) -> None:
        """Raise the `IndexError` of an index array that was found out of range on the device."""
        with self.scope():
            self.alarm.ring()

    # --- arrays in and out ----------------------------------------------------------------------

    def asarray(self, x: Any, *, dtype: Any = None) -> Array:
        """Return ``x`` as an array of this device; see `Backend.asarray`.

        Raises
        ------
        DeviceError
            ``x`` is an array of the host or of another device.
        """
        if isinstance(x, np.ndarray) or (
            isinstance(x, self.cupy.ndarray) and x.device.id != self.device.index
        ):
            place = "cpu" if isinstance(x, np.ndarray) else f"cuda:{x.device.id}"
            raise DeviceError(
                f"asarray: `x` must be on {self.device}, got a {describe(x)} on {place}. "
                f'Move it: `to_device(x, "{self.device}")`.'
            )
        return self.xp.asarray(x, dtype=dtype)  # type: ignore[no-any-return]

    def from_host(self, x: Array) -> Array:
        """Queue the copy of a host array; ``x`` may be changed as soon as the call returns."""
        with self.scope():
            return self.staging.send(x)

    def to_host(self, x: Array) -> Array:
        """Copy an array of this device to the host, waiting for it; see `synchronize` for what may be raised."""
        host: Array = self.xp.asnumpy(x)
        self.ring()
        return host

    # --- products and selections ----------------------------------------------------------------

    def matmul(self, x: Array, y: Array) -> Array:
        """Return the matrix product; see `Backend.matmul` and `nnmath_core.matmul_precision`."""
        with self.scope():
            return matmul(self.cupy, x, y)

    def contract(self, x: Array, y: Array, *, spec: Spec) -> Array:
        """Two-operand `einsum`; see `Backend.contract`."""
        with self.scope():
            return super().contract(x, y, spec=spec)

    def spmm(self, data: Array, x: Array, *, pattern: Pattern, transposed: bool) -> Array:
        """Multiply by cuSPARSE, which takes floating and complex entries; see `Backend.spmm`."""
        with self.scope():
            dtype = self.cupy.result_type(data, x)
            if dtype.char not in "fdFD":
                return super().spmm(data, x, pattern=pattern, transposed=transposed)
            sparse = importlib.import_module("cupyx.scipy.sparse")
            parts = (data.astype(dtype), pattern.columns, pattern.starts)
            matrix = sparse.csr_matrix(parts, shape=pattern.shape)
            x = x.astype(dtype)
            return matrix.T @ x if transposed else matrix @ x  # type: ignore[no-any-return]

    def sddmm(self, a: Array, b: Array, *, pattern: Pattern) -> Array:
        """Gather and multiply; see `Backend.sddmm`."""
        with self.scope():
            return super().sddmm(a, b, pattern=pattern)

    def index_get(self, x: Array, index: Index) -> Array:
        """Return ``x[index]``; see `Backend.index_get`.

        Notes
        -----
        CuPy wraps an index out of range instead of refusing it, so the range of an index array
        is checked here: one of the host at once, one on the device by a kernel there, whose finding is
        raised when the host next waits (`to_host`, `synchronize`). Nothing waits here.
        """
        with self.scope():
            return super().index_get(x, self._checked(x.shape, index))

    def index_add(self, shape: tuple[int, ...], dtype: Any, index: Index, values: Array) -> Array:
        """Return zeros with ``values`` added at ``index``; see `Backend.index_add`."""
        dtype = np.dtype(dtype)
        with self.scope():
            index = self._checked(shape, index)
            if dtype.kind == "c":
                out = self.cupy.zeros(shape, dtype)
                values = self.cupy.asarray(values)
                self.cupy.add.at(out.real, index, values.real)
                if values.dtype.kind == "c":
                    self.cupy.add.at(out.imag, index, values.imag)
                return out  # type: ignore[no-any-return]
            if dtype.name not in _ATOMIC:  # small integers wrap alike; booleans add by `or`
                out = self.cupy.zeros(shape, np.int64)
                self.cupy.add.at(out, index, values.astype(np.int64))
                return out.astype(dtype)  # type: ignore[no-any-return]
            return super().index_add(shape, dtype, index, values)

    def index_put(self, shape: tuple[int, ...], dtype: Any, index: Index, values: Array) -> Array:
        """Return zeros with ``values`` assigned at ``index``; see `Backend.index_put`.

        Notes
        -----
        CuPy leaves open which of several values stays. Here the values race by their number, the
        largest wins, and only the winners are written.
        """
        with self.scope():
            index = self._checked(shape, index)
            if not any(is_integer_array(part) for part in index):
                return super().index_put(shape, dtype, index, values)
            turn = self.cupy.zeros(shape, np.uint64)
            shape_at = turn[index].shape
            count = self.cupy.arange(1, 1 + int(np.prod(shape_at)), dtype=np.uint64)
            self.cupy.maximum.at(turn, index, count.reshape(shape_at))
            values = self.cupy.broadcast_to(values, shape_at).reshape(-1)
            if not values.size:
                return self.cupy.zeros(shape, dtype)  # type: ignore[no-any-return]
            winner = values[self.cupy.maximum(turn, 1).astype(np.int64) - 1]
            out = self.cupy.where(turn > 0, winner, 0).astype(dtype, copy=False)
            return out  # type: ignore[no-any-return]

    def take(self, x: Array, indices: Array | int, *, axis: int) -> Array:
        """Return `numpy.take`; see `Backend.take` and `index_get`."""
        with self.scope():
            axis = axis + x.ndim if axis < 0 else axis
            at: Array = np.asarray(indices) if isinstance(indices, int) else indices
            self._require_range(at, x.shape[axis], axis)
            return super().take(x, self.cupy.asarray(at), axis=axis)

    def take_along_axis(self, x: Array, indices: Array, *, axis: int) -> Array:
        """Return `numpy.take_along_axis`; see `Backend.take_along_axis` and `index_get`."""
        with self.scope():
            axis = axis + x.ndim if axis < 0 else axis
            self._require_range(indices, x.shape[axis], axis)
            return super().take_along_axis(x, indices, axis=axis)

    def _checked(self, shape: tuple[int, ...], index: Index) -> tuple[Any, ...]:
        """Return the index as a tuple, after checking the range of every integer array in it."""
        parts = index_parts(index)
        if any(is_integer_array(part) for part in parts):
            spare = len(shape) - sum(axes_used(part) for part in parts)
            axis = 0
            for part in parts:
                if is_integer_array(part) and axis < len(shape):
                    self._require_range(part, shape[axis], axis)
                axis += spare if part is Ellipsis else axes_used(part)
        return parts

    def _require_range(self, indices: Array, size: int, axis: int) -> None:
        """Refuse a host index array that is out of range; one on the device is looked at there."""
        if indices.size == 0:
            return
        if isinstance(indices, np.ndarray):
            low, high = int(np.min(indices)), int(np.max(indices))
            if low < -size or high >= size:
                raise IndexError(
                    f"index {high if high >= size else low} is out of bounds for axis {axis} "
                    f"with size {size}"
                )
            return
        words = self.cupy.ascontiguousarray(indices).astype(np.int64, copy=False)
        self.launch("index", "require_range", words.size, words, size, axis, self.alarm.found())

    # --- our kernels ----------------------------------------------------------------------------

    def launch(self, family: str, kernel: str, n: int, *args: Any) -> None:
        """Queue one of our kernels over ``n`` elements; see `nnmath_core.device.launch`."""
        with self.scope():
            family_of(self.cupy, self.device.index, family).launch(kernel, n, args)

    def attention(
        self,
        q: Array,
        k: Array,
        v: Array,
        bias: Array | None,
        mask: Array | None,
        *,
        causal: bool,
        scale: float,
        out: Array | None = None,
    ) -> Array:
        """Attend by tiles in one launch; see `Backend.attention` and `nnmath_core.device.attention`."""
        with self.scope():
            made = attention_.values_by_tiles(self, q, k, v, bias, mask, causal, scale, out)
            if made is None:
                made = super().attention(q, k, v, bias, mask, causal=causal, scale=scale, out=out)
            return made

    def attention_pull(
        self,
        q: Array,
        k: Array,
        v: Array,
        g: Array,
        bias: Array | None,
        mask: Array | None,
        *,
        causal: bool,
        scale: float,
        out: tuple[Array, Array, Array] | None = None,
        kept: Array | None = None,
    ) -> tuple[Array, Array, Array]:
        """Pull back by tiles in two launches; see `Backend.attention_pull` and `attention`."""
        with self.scope():
            made = attention_.cotangents_by_tiles(
                self, q, k, v, g, bias, mask, causal, scale, out, kept
            )
            if made is None:
                made = super().attention_pull(
                    q, k, v, g, bias, mask, causal=causal, scale=scale, out=out, kept=kept
                )
            return made

    def normal_rows(
        self, a: Array, x: Array, *, out: tuple[Array, Array] | None = None
    ) -> tuple[Array, Array]:
        """Multiply in one pass over ``a``, where its rows lie together; see `Backend.normal_rows`."""
        with self.scope():
            if not (a.size and a.flags.c_contiguous and a.dtype.char in "fd"):
                return super().normal_rows(a, x, out=out)
            m, n = a.shape
            u, y = out or (self.cupy.empty(m, a.dtype), self.cupy.empty(n, a.dtype))
            # two blocks a multiprocessor; what they have is added in their order
            most = family_of(self.cupy, self.device.index, "linalg").most_blocks // 16
            pieces = min(-(-m // 4), most)
            parts = self.cupy.empty((pieces, n), a.dtype)
            self.launch("linalg", "normal_rows", pieces, m, n, a, n, x, u, parts)
            self.launch("linalg", "sum_parts", n, y, parts, pieces)
            return u, y

    def by_rows(
        self, kernel: str, x: Array, axis: tuple[int, ...], *numbers: float
    ) -> tuple[Array, ...] | None:
        """Work a kernel of ``rows.cu`` in one launch; see `Backend.by_rows`.

        The axes must be the last ones. A block of threads does a row: a few long rows would leave
        the rest of the device idle, and CuPy's reductions take them.
        """
        kept = x.ndim - len(axis)
        if x.dtype.char not in "fd" or not x.size or set(axis) != set(range(kept, x.ndim)):
            return None
        length = math.prod(x.shape[kept:])
        rows = x.size // length
        if length > _LONG_ROW and rows < _MANY_ROWS:
            return None
        with self.scope():
            wide, narrow = _ROW_RESULTS[kernel]
            small = (*x.shape[:kept], *(1,) * len(axis))
            results = tuple(
                self.cupy.empty(s, x.dtype) for s in (x.shape,) * wide + (small,) * narrow
            )
            x = self.cupy.ascontiguousarray(x)
            self.launch("rows", kernel, rows, *results, x, length, *numbers)
            return results

    def random_blocks(self, counters: Array, keys: Array) -> Array:
        """Fill blocks by the kernel; see `Backend.random_blocks`."""
        with self.scope():
            out = self.cupy.empty(counters.shape, np.uint32)
            parts = (self.cupy.ascontiguousarray(x) for x in (counters, keys))
            self.launch("random", "random_blocks", out.size // 4, out, *parts)
            return out  # type: ignore[no-any-return]

    def random_words(self, keys: Array, *, count: int, purpose: int) -> Array:
        """Fill rows of words by the kernel; see `Backend.random_words`."""
        return self._rows("random_words", keys, count, np.uint32, 4, purpose)

    def random_uniform(self, keys: Array, *, count: int, dtype: Any) -> Array:
        """Fill rows of uniform numbers by the kernel; see `Backend.random_uniform`."""
        return self._rows("random_uniform", keys, count, dtype, 16 // np.dtype(dtype).itemsize)

    def random_normal(self, keys: Array, *, count: int, dtype: Any) -> Array:
        """Fill rows of normal numbers by the kernel; see `Backend.random_normal`."""
        return self._rows("random_normal", keys, count, dtype, 16 // np.dtype(dtype).itemsize)

    def _rows(
        self, kernel: str, keys: Array, count: int, dtype: Any, in_block: int, *more: int
    ) -> Array:
        """Return an array that a kernel of random numbers fills, one thread a block of four words."""
        with self.scope():
            out = self.cupy.empty((*keys.shape[:-1], count), dtype)
            rows = int(np.prod(keys.shape[:-1]))
            keys = self.cupy.ascontiguousarray(keys)
            blocks = rows * -(-count // in_block)
            self.launch("random", kernel, blocks, out, keys, count, *more)
            return out  # type: ignore[no-any-return]

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
        _require_one_shape("adam_step", w, m=m, v=v, g=g)
        # the gains are rounded once: 1 - beta in float32 would be off by far more than rounding
        arguments = (w, m, v, g, lr, 1 - beta1, 1 - beta2, eps, c1, c2)
        self.launch("optim", "adam_step", w.size, *arguments)

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
        _require_one_shape("adamw_step", w, m=m, v=v, g=g)
        arguments = (w, m, v, g, lr, 1 - beta1, 1 - beta2, eps, decay, c1, c2)
        self.launch("optim", "adamw_step", w.size, *arguments)

    def gradient_descent_step(self, w: Array, g: Array, *, lr: float) -> None:
        """Take one step in one pass; see `Backend.gradient_descent_step`."""
        _require_one_shape("gradient_descent_step", w, g=g)
        self.launch("optim", "gradient_descent_step", w.size, w, g, lr)

    def heavy_ball_step(self, w: Array, v: Array, g: Array, *, lr: float, momentum: float) -> None:
        """Take one step in one pass; see `Backend.heavy_ball_step`."""
        _require_one_shape("heavy_ball_step", w, v=v, g=g)
        self.launch("optim", "heavy_ball_step", w.size, w, v, g, lr, momentum)

    def nesterov_step(self, w: Array, v: Array, g: Array, *, lr: float, momentum: float) -> None:
        """Take one step in one pass; see `Backend.nesterov_step`."""
        _require_one_shape("nesterov_step", w, v=v, g=g)
        self.launch("optim", "nesterov_step", w.size, w, v, g, lr, momentum)


def _require_one_shape(who: str, w: Array, **arrays: Array) -> None:
    for arg, x in arrays.items():
        if x.shape != w.shape:
            raise ShapeError(sentence(who, arg, f"of shape {w.shape} as `w` is", str(x.shape)))
