"""Every dense product on a CUDA device: cuBLAS behind one function.

`gemm` takes addresses and strides and queues one call of cuBLAS, or one for each index of the batch
axes that no stride walks over. `matmul` takes arrays and means `numpy.matmul`.

cuBLAS thinks in columns. A row-major :math:`C = A B` is the column-major :math:`C^T = B^T A^T` in the
same memory, so that the factors change places and nothing is moved.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

import numpy as np

from nnmath_core.checks import describe, sentence
from nnmath_core.device.precision import current_matmul_precision
from nnmath_core.errors import DeviceError, DtypeError, ShapeError
from nnmath_core.typing import Array

__all__ = ["gemm", "gemm_can", "matmul"]

Axis = tuple[int, int, int, int]
"""A batch axis: its length, and its strides in A, B and C, in entries."""

_DATA = {"f": 0, "d": 1, "F": 4, "D": 5}  # cudaDataType_t, by the character of a dtype
_COMPUTE = {"f": 68, "d": 70, "F": 68, "D": 70}  # cublasComputeType_t: float32 and float64
_COMPUTE_TF32 = 77
_TF32_SINCE = 80  # compute capability
_DEFAULT_MATH, _PEDANTIC_MATH, _SAFE_SUMS = 0, 2, 16  # cublasMath_t; the last one is a flag
_FULL_MATH = frozenset({_DEFAULT_MATH, _PEDANTIC_MATH, _SAFE_SUMS, _PEDANTIC_MATH | _SAFE_SUMS})
_POINTERS_ON_HOST, _POINTERS_ON_DEVICE = 0, 1  # cublasPointerMode_t
_DEFAULT_ALGORITHM = -1  # cublasGemmAlgo_t
_MOST = 2**31 - 1  # CuPy binds cuBLAS with sizes of 32 bits

# Batch axes that no stride walks over take a call for each index, or a copy of an operand. Queueing a
# call takes some microseconds, in which a GPU copies about so many bytes.
_COPY_A_CALL = 1 << 20


# ---------------------------------------------------------------------------------------------- plans
@dataclass(frozen=True, slots=True)
class _Plan:
    """One product in cuBLAS's terms: what is transposed, leading dimensions, batches."""

    m: int
    n: int
    k: int
    left: tuple[int, int]  # of A: transposed or not, leading dimension
    right: tuple[int, int]
    ldc: int
    batch: Axis  # of each call; its length is 1 where there is none
    rest: tuple[Axis, ...]  # one call for each index

    @property
    def calls(self) -> int:
        """How often cuBLAS is called."""
        return prod(axis[0] for axis in self.rest)

    def offsets(self) -> Iterator[tuple[int, int, int]]:
        """Entries from the beginnings of A, B and C to the matrices of each call."""
        for at in itertools.product(*(range(axis[0]) for axis in self.rest)):
            a, b, c = (
                sum(i * axis[which] for i, axis in zip(at, self.rest, strict=True))
                for which in (1, 2, 3)
            )
            yield a, b, c


def _layout(rows: int, columns: int, row: int, column: int) -> tuple[int, int] | None:
    """Return (transposed, leading dimension) of a row-major matrix with these strides, else None.

    Strides of axes of length 1 mean nothing and may be anything.
    """
    if columns == 1:
        column = 1
    if rows == 1:
        row = columns if column == 1 else 1
    if column == 1 and row >= columns:
        return 0, row
    if row == 1 and column >= rows:
        return 1, column
    return None


def _merged(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """Join axes that one stride walks over in A, B and C alike."""
    for outer, inner in itertools.permutations(axes, 2):
        if all(outer[i] == inner[0] * inner[i] for i in (1, 2, 3)):
            others = list(axes)
            others.remove(outer)
            others[others.index(inner)] = (outer[0] * inner[0], *inner[1:])
            return _merged(tuple(others))
    return axes


@functools.lru_cache(maxsize=4096)
def _plan(
    m: int,
    n: int,
    k: int,
    ra: int,
    ka: int,
    kb: int,
    nb: int,
    ldc: int,
    axes: tuple[Axis, ...],
) -> _Plan | None:
    """Return the product as calls of cuBLAS; None where an operand's strides do not fit."""
    axes = _merged(tuple(axis for axis in axes if axis[0] != 1))
    while True:
        left, right = _layout(m, k, ra, ka), _layout(k, n, kb, nb)
        if left is None or right is None or not (m == 1 or n <= ldc):
            return None
        for axis in axes:
            count, sa, sb, sc = axis
            # one B for all, and rows of A and C that go on at the same pace: more rows
            if sb == 0 and (m == 1 or (sa == m * ra and sc == m * ldc)) and sc >= n:
                rows, pace, ldc_ = (count, sa, sc) if m == 1 else (count * m, ra, ldc)
                if _layout(rows, k, pace, ka) is not None:
                    m, ra, ldc = rows, pace, ldc_
                    break
            # one A for all, and columns of B and C that go on at the same pace: more columns
            if sa == 0 and sc == n and (n == 1 or sb == n * nb):
                columns, pace = (count, sb) if n == 1 else (count * n, nb)
                if _layout(k, columns, kb, pace) is not None:
                    n, nb = columns, pace
                    break
        else:
            break
        axes = tuple(other for other in axes if other is not axis)
    # cuBLAS promises nothing of strides that go back
    main = max((axis for axis in axes if min(axis) >= 0), default=(1, 0, 0, 0))
    rest = list(axes)
    if main in rest:
        rest.remove(main)
    return _Plan(m, n, k, left, right, max(ldc, n) if m == 1 else ldc, main, tuple(rest))


def gemm_can(m: int, n: int, k: int, ra: int, ka: int, kb: int, nb: int, ldc: int) -> bool:
    """Whether `gemm` takes these sizes and strides as they are; an operand is to be copied otherwise.

    It does where A, B and C each have one stride of 1 and another that is at least as long as a row (a
    column, where rows have the stride of 1). Strides of axes of length 1 may be anything.

    Examples
    --------
    >>> gemm_can(4, 5, 3, 3, 1, 1, 3, 5)  # B is the transpose of a matrix of 5 rows
    True
    >>> gemm_can(4, 5, 3, 6, 2, 5, 1, 5)  # A has every second column of a matrix
    False
    """
    return 0 in (m, n, k) or _plan(m, n, k, ra, ka, kb, nb, ldc, ()) is not None


# ---------------------------------------------------------------------------------------------- cuBLAS
@functools.lru_cache(maxsize=1024)
def _scalar(char: str, value: complex) -> tuple[Array, int]:
    """Return a number in the memory of the host, and its address."""
    array = np.array([value], dtype=np.dtype(char))
    return array, int(array.ctypes.data)


@functools.cache
def _has_tf32(cupy: Any, index: int) -> bool:
    return int(cupy.cuda.Device(index).compute_capability) >= _TF32_SINCE


def _compute_type(cupy: Any, char: str) -> int:
    """Return the type that cuBLAS multiplies in: TF32 only where it was asked for and exists."""
    if char in "fF" and current_matmul_precision() == "tf32":
        if _has_tf32(cupy, int(cupy.cuda.runtime.getDevice())):
            return _COMPUTE_TF32
    return _COMPUTE[char]


class _Handle:
    """Context: the current device's handle, in full precision and with numbers read from the host.

    The handle is CuPy's, one a thread and device, and others may have changed it: what was set comes back.
    """

    __slots__ = ("cublas", "handle", "math", "pointers", "where")

    def __init__(self, cupy: Any, where: int = _POINTERS_ON_HOST) -> None:
        self.cublas, self.where = cupy.cuda.cublas, where
        self.handle = cupy.cuda.get_cublas_handle()

    def __enter__(self) -> int:
        self.math = self.cublas.getMathMode(self.handle)
        self.pointers = self.cublas.getPointerMode(self.handle)
        if self.math not in _FULL_MATH:
            self.cublas.setMathMode(self.handle, _DEFAULT_MATH)
        if self.pointers != self.where:
            self.cublas.setPointerMode(self.handle, self.where)
        handle: int = self.handle
        return handle

    def __exit__(self, *error: object) -> None:
        if self.math not in _FULL_MATH:
            self.cublas.setMathMode(self.handle, self.math)
        if self.pointers != self.where:
            self.cublas.setPointerMode(self.handle, self.pointers)


def gemm(
    cupy: Any,
    dtype: Any,
    m: int,
    n: int,
    k: int,
    a: int,
    ra: int,
    ka: int,
    b: int,
    kb: int,
    nb: int,
    c: int,
    ldc: int,
    batch: tuple[Axis, ...] = (),
    alpha: complex = 1,
    beta: complex = 0,
) -> None:
    r"""Queue products of matrices on the current device and CuPy's current stream.

    .. math:: C \leftarrow \alpha A B + \beta C

    for each index of the batch axes. Nothing is allocated and nothing waits.

    Parameters
    ----------
    cupy : module
    dtype : dtype
        Of A, B and C: float32, float64, complex64 or complex128.
    m, n, k : int
        A has m rows and k columns, B k rows and n columns, C m rows and n columns.
    a : int
        Address of A's first entry on the current device.
    ra, ka : int
        Entries from one row of A to the next, and from one column to the next.
    b, kb, nb : int
        Likewise of B: address, entries between rows, entries between columns.
    c, ldc : int
        Address of C, and entries between its rows; the entries of a row lie side by side. C has no
        memory in common with A and B.
    batch : tuple of (count, sa, sb, sc), optional
        Axes of products: their lengths, and the entries from one matrix to the next in A, B and C.
        0 in A or B: one matrix for all.
    alpha, beta : number, optional
        With ``beta=0``, C is not read.

    Raises
    ------
    ShapeError
        Strides for which `gemm_can` is false, or a size that 32 bits do not hold.
    DtypeError
        Another dtype.

    Notes
    -----
    One call of cuBLAS for all of a batch where the axes merge into one stride, or into the rows or
    columns of a single product (one B, or one A, for all). Otherwise the longest axis goes into each
    call, and the others are a loop.

    An inner product, m = n = 1, is cuBLAS's ``dot``, which spreads one sum over the device. float32
    and complex64 matrices follow `nnmath_core.matmul_precision`.
    """
    dtype = np.dtype(dtype)
    char = dtype.char
    if char not in _DATA:
        raise DtypeError(sentence("gemm", "dtype", "a floating or complex dtype", str(dtype)))
    if m == 0 or n == 0 or any(axis[0] == 0 for axis in batch):
        return
    size = dtype.itemsize
    if k == 0:
        _scale(cupy, char, size, m, n, c, ldc, batch, beta)
        return
    plan = _plan(m, n, k, ra, ka, kb, nb, ldc, batch)
    if plan is None:
        raise ShapeError(
            f"gemm: A, B and C must each have one stride of 1 and another that reaches over it, got a "
            f"product of {m}, {k} and {n} with strides A ({ra}, {ka}), B ({kb}, {nb}) and C ({ldc}, 1). "
            f"Copy the operand."
        )
    sizes = (plan.m, plan.n, plan.k, plan.left[1], plan.right[1], plan.ldc, plan.batch[0])
    if max(sizes) > _MOST:
        raise ShapeError(
            f"gemm: cuBLAS counts rows, columns, entries between rows, and matrices in 32 bits, got "
            f"{max(sizes)} in a product of {plan.m}, {plan.k} and {plan.n}. Multiply it in parts."
        )
    if plan.m == plan.n == plan.batch[0] == 1 and not plan.rest and (alpha, beta) == (1, 0):
        _dot(cupy, char, plan, (a, b, c))
        return
    count, sa, sb, sc = plan.batch
    kind, compute = _DATA[char], _compute_type(cupy, char)
    kept_alpha, at_alpha = _scalar(char, alpha)
    kept_beta, at_beta = _scalar(char, beta)
    (right, ldb), (left, lda) = plan.right, plan.left
    cublas = cupy.cuda.cublas
    with _Handle(cupy) as handle:
        if count == 1:
            for oa, ob, oc in plan.offsets():
                cublas.gemmEx(
                    handle, right, left, plan.n, plan.m, plan.k, at_alpha,
                    b + ob * size, kind, ldb, a + oa * size, kind, lda, at_beta,
                    c + oc * size, kind, plan.ldc, compute, _DEFAULT_ALGORITHM,
                )  # fmt: skip
        else:
            for oa, ob, oc in plan.offsets():
                cublas.gemmStridedBatchedEx(
                    handle, right, left, plan.n, plan.m, plan.k, at_alpha,
                    b + ob * size, kind, ldb, sb, a + oa * size, kind, lda, sa, at_beta,
                    c + oc * size, kind, plan.ldc, sc, count, compute, _DEFAULT_ALGORITHM,
                )  # fmt: skip
    del kept_alpha, kept_beta  # cuBLAS has read them


def _dot(cupy: Any, char: str, plan: _Plan, addresses: tuple[int, int, int]) -> None:
    """Write the sum of the products of two vectors; neither is conjugated."""
    a, b, c = addresses
    cublas = cupy.cuda.cublas
    dot = {"f": cublas.sdot, "d": cublas.ddot, "F": cublas.cdotu, "D": cublas.zdotu}[char]
    (a_turned, lda), (b_turned, ldb) = plan.left, plan.right
    with _Handle(cupy, _POINTERS_ON_DEVICE) as handle:
        dot(handle, plan.k, a, lda if a_turned else 1, b, 1 if b_turned else ldb, c)


def _scale(
    cupy: Any,
    char: str,
    size: int,
    m: int,
    n: int,
    c: int,
    ldc: int,
    batch: tuple[Axis, ...],
    beta: complex,
) -> None:
    """Multiply C by ``beta``, what a sum of no products leaves of it; zeros for 0, whatever C was."""
    if beta == 1:
        return
    axes = tuple((count, 0, 0, sc) for count, _, _, sc in batch)
    plan = _plan(m, n, 1, 1, 1, n, 1, ldc, axes)
    if plan is None:
        raise ShapeError(f"gemm: C must have rows apart, got {ldc} entries between rows of {n}.")
    cublas = cupy.cuda.cublas
    geam = {"f": cublas.sgeam, "d": cublas.dgeam, "F": cublas.cgeam, "D": cublas.zgeam}[char]
    kept_beta, at_beta = _scalar(char, beta)
    kept_zero, at_zero = _scalar(char, 0)
    count, _, _, sc = plan.batch
    with _Handle(cupy) as handle:
        for _, _, oc in plan.offsets():
            for i in range(count):
                at = c + (oc + i * sc) * size
                geam(
                    handle, 0, 0, plan.n, plan.m, at_beta, at, plan.ldc, at_zero, at, plan.ldc,
                    at, plan.ldc,
                )  # fmt: skip
    del kept_beta, kept_zero


# ---------------------------------------------------------------------------------------------- arrays
@dataclass(frozen=True, slots=True)
class _Operand:
    """An array that holds matrices, and its strides in entries."""

    x: Any
    row: int
    column: int
    lead: tuple[int, ...]  # of the batch axes; 0 where they are broadcast


def matmul(cupy: Any, x: Array, y: Array, out: Array | None = None) -> Array:
    """Return `numpy.matmul` of two arrays of the current device.

    Parameters
    ----------
    cupy : module
    x, y : cupy.ndarray
        Transposed and strided views are multiplied as they are where cuBLAS can walk over them, and
        copied once otherwise.
    out : cupy.ndarray, optional
        C-contiguous, of the result's shape and dtype.

    Returns
    -------
    cupy.ndarray
        C-contiguous; ``out`` when it is given.

    Raises
    ------
    ValueError
        Shapes that `numpy.matmul` refuses, in its words.
    DeviceError
        An array lives on another device than the current one.
    ShapeError, DtypeError
        ``out`` is not as described.

    Notes
    -----
    Floating and complex products are `gemm`. Integers, booleans and float16 are CuPy's. Nothing waits
    for the device.
    """
    here = int(cupy.cuda.runtime.getDevice())
    for name, array in (("x", x), ("y", y), ("out", out)):
        if array is not None:
            _require_here(cupy, here, name, array)
    dtype = x.dtype if x.dtype == y.dtype else np.result_type(x.dtype, y.dtype)
    if dtype.char not in _DATA:  # CuPy has kernels for these
        product: Array = cupy.matmul(x, y, out=out)
        return product
    sizes, lead, shape = _shapes(x, y)
    z = out
    if out is not None:
        _require_out(out, shape, dtype)
        if cupy.may_share_memory(out, x) or cupy.may_share_memory(out, y):
            z = None
    if z is None:
        z = cupy.empty(shape, dtype)
    if z.size:
        _multiply(cupy, sizes, lead, x.astype(dtype, copy=False), y.astype(dtype, copy=False), z)
    if out is None or z is out:
        return z
    out[...] = z
    return out


def _require_here(cupy: Any, here: int, name: str, x: Any) -> None:
    if not isinstance(x, cupy.ndarray):
        wanted = f"an array on cuda:{here}"
        advice = f'Move it: `to_device({name}, "cuda:{here}")`.'
        raise DeviceError(sentence("matmul", name, wanted, describe(x), advice))
    if x.device.id != here:
        raise DeviceError(f"matmul: `{name}` must be on cuda:{here}, got cuda:{x.device.id}.")


def _shapes(x: Array, y: Array) -> tuple[tuple[int, int, int], tuple[int, ...], tuple[int, ...]]:
    """Return m, n and k, the lengths of the batch axes, and the shape of the product."""
    sx, sy = x.shape, y.shape
    if not sx or not sy or sx[-1] != sy[-2 if len(sy) > 1 else -1]:
        _refuse(sx, sy)
    rows, columns = sx[-2:-1], sy[-1:] if len(sy) > 1 else ()
    lead = sx[:-2]
    if lead != sy[:-2]:
        try:
            lead = np.broadcast_shapes(lead, sy[:-2])
        except ValueError:
            _refuse(sx, sy)
    return (prod(rows), prod(columns), sx[-1]), lead, (*lead, *rows, *columns)


def _refuse(sx: tuple[int, ...], sy: tuple[int, ...]) -> NoReturn:
    """Raise what NumPy says of two shapes that do not fit."""
    np.matmul(np.broadcast_to(np.float32(0), sx), np.broadcast_to(np.float32(0), sy))
    raise ShapeError(f"matmul: shapes {sx} and {sy} do not fit.")  # NumPy has said so already


def _require_out(out: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if out.shape != shape or not out.flags.c_contiguous:
        wanted = f"C-contiguous and of shape {shape}"
        raise ShapeError(sentence("matmul", "out", wanted, describe(out)))
    if out.dtype != dtype:
        raise DtypeError(sentence("matmul", "out", f"a {dtype} array", describe(out)))


def _multiply(
    cupy: Any,
    sizes: tuple[int, int, int],
    lead: tuple[int, ...],
    x: Array,
    y: Array,
    z: Any,
) -> None:
    """Write the product into ``z``, which is contiguous and not empty."""
    m, n, k = sizes
    x = x[None, :] if x.ndim == 1 else x
    y = y[:, None] if y.ndim == 1 else y
    a, b = _fitting(cupy, x, lead), _fitting(cupy, y, lead)
    if lead and k:
        a, b = _fewer_calls(cupy, sizes, lead, a, b)
    gemm(
        cupy, z.dtype, m, n, k, a.x.data.ptr, a.row, a.column, b.x.data.ptr, b.row, b.column,
        z.data.ptr, n, _batch(lead, a.lead, b.lead, m * n),
    )  # fmt: skip


def _fitting(cupy: Any, x: Array, lead: tuple[int, ...]) -> _Operand:
    """Return an operand whose matrices cuBLAS can walk over; a copy where the strides do not fit."""
    rows, columns = x.shape[-2:]
    size = x.itemsize
    row, column = (s // size for s in x.strides[-2:])
    fits = 0 in (rows, columns) or _layout(rows, columns, row, column) is not None
    if not fits or any(s % size for s in x.strides):
        # of axes along which nothing changes one entry is copied
        one, whole = slice(0, 1), slice(None)
        x = x[tuple(one if s == 0 else whole for s in x.strides[:-2])]
        x = cupy.ascontiguousarray(x)
        row, column = columns, 1
    missing = len(lead) - (x.ndim - 2)
    own = zip(x.shape[:-2], x.strides[:-2], strict=True)
    strides = (*[0] * missing, *(0 if length == 1 else s // size for length, s in own))
    return _Operand(x, row, column, strides)


def _batch(
    lead: tuple[int, ...], a: tuple[int, ...], b: tuple[int, ...], step: int
) -> tuple[Axis, ...]:
    """Return the batch axes of a product into contiguous matrices of ``step`` entries."""
    return tuple(zip(lead, a, b, _contiguous(lead, step), strict=True))


def _contiguous(lead: tuple[int, ...], step: int) -> tuple[int, ...]:
    """Return the strides of batch axes over contiguous matrices of ``step`` entries."""
    return tuple(step * prod(lead[i + 1 :]) for i in range(len(lead)))


def _fewer_calls(
    cupy: Any, sizes: tuple[int, int, int], lead: tuple[int, ...], a: _Operand, b: _Operand
) -> tuple[_Operand, _Operand]:
    """Return the operands, copied where copying costs less than the calls that it saves."""
    m, n, k = sizes

    def cost(copy_a: bool, copy_b: bool) -> int:
        left = (k, 1, _contiguous(lead, m * k)) if copy_a else (a.row, a.column, a.lead)
        right = (n, 1, _contiguous(lead, k * n)) if copy_b else (b.row, b.column, b.lead)
        axes = _batch(lead, left[2], right[2], m * n)
        plan = _plan(m, n, k, left[0], left[1], right[0], right[1], n, axes)
        assert plan is not None  # both fit
        copied: int = a.x.itemsize * k * prod(lead) * (m * copy_a + n * copy_b)
        return (plan.calls + copy_a + copy_b) * _COPY_A_CALL + copied

    if cost(False, False) == _COPY_A_CALL:
        return a, b
    copy_a, copy_b = min(itertools.product((False, True), repeat=2), key=lambda c: cost(*c))
    if copy_a:
        a = _copied(cupy, a.x, lead)
    if copy_b:
        b = _copied(cupy, b.x, lead)
    return a, b


def _copied(cupy: Any, x: Array, lead: tuple[int, ...]) -> _Operand:
    """Return an operand in contiguous memory, with the batch axes that it lacked."""
    rows, columns = x.shape[-2:]
    x = cupy.ascontiguousarray(cupy.broadcast_to(x, (*lead, rows, columns)))
    return _Operand(x, columns, 1, _contiguous(lead, rows * columns))
