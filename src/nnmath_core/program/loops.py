"""Inner loops by name and dtypes: ours where there is one, else those of NumPy's and SciPy's ufuncs.

A ufunc holds a C function for each of its type signatures, which needs neither Python nor the GIL; so every ufunc runs
inside of a Plan, and gives there what it gives outside.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnmath_core._ext._plan import ufunc_loop
from nnmath_core._ext._vector import loop_address
from nnmath_core.program.nodes import Fold, Loop, Reduction

__all__ = [
    "cast",
    "castable",
    "copy",
    "copy_bytes",
    "of_ufunc",
    "ours",
    "product_sum",
    "reduction",
    "where",
]

# Of our own loops: about how many additions an entry costs, by name; what is not here costs one.
_COSTS = {
    "divide": 4, "reciprocal": 4, "sqrt": 4, "rsqrt": 5, "exp": 8, "exp2": 8, "expm1": 10, "log": 10, "log2": 10,
    "log10": 10, "log1p": 12, "sin": 15, "cos": 15, "tan": 20, "tanh": 12, "sinh": 12, "cosh": 12, "arctan": 15,
    "expit": 12, "erf": 15, "erfc": 13, "gelu": 14, "gelu_slope": 14, "gelu_tanh": 15, "gelu_tanh_slope": 20,
    "power": 40, "gammaln": 60, "digamma": 60, "hypot": 6,
}  # fmt: skip
_UNKNOWN = 30.0
"""Cost of a ufunc's loop that we know nothing of."""


@functools.cache
def ours(name: str, dtype: Any) -> Loop | None:
    """Our own loop of a name for a dtype, float32 or float64 or, for some, another one."""
    dtype = np.dtype(dtype)
    address = loop_address(name, dtype.num)
    return Loop(name, address, 0, _COSTS.get(name, 1.0), dtype.char) if address else None


@functools.cache
def of_ufunc(ufunc: np.ufunc, types: str) -> Loop | None:
    """The loop of a ufunc for a signature such as ``"dd->d"``."""
    found = ufunc_loop(ufunc, types)
    if found is None:
        return None
    address, data = found
    return Loop(ufunc.__name__, address, data, 1.0 if ufunc in _PLAIN else _UNKNOWN, types[0])


_PLAIN = {
    np.add, np.subtract, np.multiply, np.negative, np.absolute, np.square, np.maximum, np.minimum, np.equal,
    np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal, np.logical_and, np.logical_or, np.logical_not,
    np.logical_xor, np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert, np.isnan, np.isinf, np.isfinite,
    np.signbit, np.sign,
}  # fmt: skip


def cast(source: Any, target: Any) -> Loop | None:
    """The loop that turns entries of one dtype into another, as `ndarray.astype` does."""
    source, target = np.dtype(source), np.dtype(target)
    return ours(f"to_{target.kind}{target.itemsize}", source)


def castable(source: Any, target: Any) -> bool:
    """Whether entries of one dtype can be made those of another: by one loop, or as parts of complex numbers."""
    source, target = np.dtype(source), np.dtype(target)
    if source == target:
        return True
    if target.kind != "c":
        return cast(source, target) is not None
    half = np.zeros(0, target).real.dtype
    return half.itemsize <= 8 and castable(np.zeros(0, source).real.dtype, half)


def copy(dtype: Any) -> Loop | None:
    """The loop that copies entries from anywhere, at any stride."""
    return ours("copy", dtype)


def where(dtype: Any) -> Loop | None:
    """The loop that chooses entries, which it only moves: one of the size will do."""
    dtype = np.dtype(dtype)
    alike = {4: np.float32, 8: np.float64}.get(dtype.itemsize)
    return None if alike is None else ours("where", alike)


def copy_bytes(n: int) -> Loop:
    """The loop that copies items of n bytes."""
    loop = copy({1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64, 16: np.complex128}[n])
    assert loop is not None
    return loop


def _ufunc_fold(ufunc: np.ufunc, dtype: Any, start: Any) -> Fold | None:
    char = np.dtype(dtype).char
    loop = of_ufunc(ufunc, f"{char}{char}->{char}")
    return None if loop is None else Fold(loop, np.asarray(start, dtype).tobytes())


_UFUNCS = {
    "sum": np.add,
    "max": np.maximum,
    "min": np.minimum,
    "any": np.logical_or,
    "all": np.logical_and,
    "prod": np.multiply,
}


def reduction(name: str, axes: Sequence[int], dtype: Any, target: Any = None) -> Reduction | None:
    """A reduction of entries of a dtype, None where there is no loop for it.

    The result has the same dtype or, of sums of real numbers along columns, the target's.
    """
    dtype = np.dtype(dtype)
    target = dtype if target is None else np.dtype(target)
    if name in ("sum_ones", "sum_others", "sum_wide_squares"):  # along columns alone
        step, finish = ours(name, dtype), ours("finish_sum", target)
        if step is None or finish is None:
            return None
        fold = Fold(step, bytes(16), True, finish)
        return Reduction(name, tuple(axes), fold, fold)
    start: Any = {"sum": 0, "any": False, "all": True, "prod": 1}.get(name)
    if start is None:
        if dtype.kind == "f":
            start = -np.inf if name == "max" else np.inf
        elif dtype.kind in "iu":
            start = np.iinfo(dtype).min if name == "max" else np.iinfo(dtype).max
        elif dtype.kind == "b":
            start = name == "min"
        else:
            return None
    row = column = _ufunc_fold(_UFUNCS[name], dtype, start)
    if row is None or column is None:
        return None
    if name == "sum" and dtype.kind == "f" and dtype.itemsize in (4, 8):
        step, finish = ours("sum", dtype), ours("finish_sum", target)
        if step is not None and finish is not None:
            row = Fold(step, bytes(16), True, finish)
    elif target != dtype:
        return None
    return Reduction(name, tuple(axes), row, column)


def product_sum(what: Reduction, dtype: Any) -> Reduction | None:
    """The sum of products of two operands, in place of a sum; None where there is no loop."""
    row, column = ours("sum_products", dtype), ours("muladd", dtype)
    if row is None or column is None or not what.row.two:
        return None
    return Reduction(
        "sum",
        what.axes,
        Fold(row, what.row.start, True, what.row.finish),
        Fold(column, what.column.start, True),
    )
