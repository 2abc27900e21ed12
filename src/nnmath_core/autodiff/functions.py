"""NumPy's functions and methods that draw on several groups of primitives, or on none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Tracer, dtype_of, shape_of, value_of
from nnmath_core.autodiff.advice import explain, missing_attributes
from nnmath_core.autodiff.ops import (
    compare,
    contract,
    counting,
    elementwise,
    index,
    norms,
    reduce,
    select,
    shape,
)
from nnmath_core.autodiff.ops.conventions import (
    as_operand,
    constant,
    is_traced,
    methods,
    normal_axes,
    numpy_functions,
    operands,
    placed,
    refuse,
)
from nnmath_core.autodiff.ops.plain import numpys
from nnmath_core.device import device_of, entering
from nnmath_core.errors import TraceError

__all__ = [
    "allclose",
    "array_equal",
    "array_equiv",
    "clip",
    "copy",
    "empty_like",
    "full_like",
    "isclose",
    "ndim",
    "ones_like",
    "round_",
    "size",
    "where",
    "zeros_like",
]


# ------------------------------------------------------------------------------------------------ without derivative
def _fixed(*xs: Any) -> list[Any]:
    """Operands of a function that carries no derivative: only vmap and staging still trace them."""
    return [shape.stop_gradient(x) if isinstance(x, Tracer) else x for x in operands(*xs)]


@entering
def isclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Any:
    """NumPy's ``isclose``: |a - b| <= atol + rtol |b|; it carries no derivative."""
    a, b, rtol, atol = _fixed(a, b, rtol, atol)
    if not is_traced(a, b, rtol, atol):
        return np.isclose(a, b, rtol, atol, equal_nan)
    if hasattr(b, "dtype"):
        b = shape.cast(b, np.result_type(dtype_of(b), 1.0))  # abs of an integer may overflow
    with np.errstate(invalid="ignore"):
        near = compare.less_equal(abs(a - b), atol + rtol * abs(b))
        close = compare.logical_or(
            compare.logical_and(near, compare.isfinite(b)), compare.equal(a, b)
        )
    return compare.logical_or(close, _both_nan(a, b)) if equal_nan else close


def _both_nan(a: Any, b: Any) -> Any:
    return compare.logical_and(compare.isnan(a), compare.isnan(b))


@entering
def allclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Any:
    """NumPy's ``allclose``; under vmap a truth value for each example."""
    close = isclose(a, b, rtol, atol, equal_nan)
    return reduce.all(close) if is_traced(close) else bool(np.all(close))


@entering
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    """NumPy's ``array_equal``; under vmap a truth value for each example."""
    a, b = _fixed(*operands(a1, a2, numbers=True))
    if not is_traced(a, b):
        return np.array_equal(a, b, equal_nan)
    if shape_of(a) != shape_of(b) or counting.is_text(a, b):
        return False
    same = compare.equal(a, b)
    return reduce.all(compare.logical_or(same, _both_nan(a, b)) if equal_nan else same)


@entering
def array_equiv(a1: Any, a2: Any) -> Any:
    """NumPy's ``array_equiv``; under vmap a truth value for each example."""
    a, b = _fixed(*operands(a1, a2, numbers=True))
    if not is_traced(a, b):
        return np.array_equiv(a, b)
    try:
        np.broadcast_shapes(shape_of(a), shape_of(b))
    except ValueError:
        return False
    return False if counting.is_text(a, b) else reduce.all(compare.equal(a, b))


def _memory(name: str) -> Callable[..., Any]:
    """A question about memory, answered for the values behind tracers."""
    f = getattr(np, name)

    def answer(a: Any, b: Any, /, max_work: Any = None) -> Any:
        values = [value_of(x) for x in (a, b)]
        if is_traced(*values):
            raise TraceError(
                f"np.{name}: a staged array has no memory yet. Ask outside of nm.stage."
            )
        return f(*values, max_work)

    return answer


def _like(name: str, fill: float) -> Any:
    def like(
        a: Any,
        dtype: Any = None,
        order: Any = "K",
        subok: bool = True,
        shape: Any = None,
        *,
        device: Any = None,
    ) -> Any:
        a = as_operand(a)
        s = shape_of(a) if shape is None else shape
        return constant(
            a,
            tuple(s) if isinstance(s, (tuple, list)) else (s,),
            fill,
            dtype_of(a) if dtype is None else dtype,
        )

    like.__name__ = like.__qualname__ = name
    like.__doc__ = (
        f"NumPy's ``{name}``; of a tracer an ordinary array, which carries no derivative."
    )
    return numpys(getattr(np, name))(like)


empty_like = _like("empty_like", 0)
ones_like = _like("ones_like", 1)
zeros_like = _like("zeros_like", 0)


@numpys(np.full_like)
def full_like(
    a: Any,
    fill_value: Any,
    dtype: Any = None,
    order: Any = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Any:
    """NumPy's ``full_like``: of a tracer an ordinary array, unless the value is traced."""
    a = as_operand(a)
    s = shape_of(a) if shape is None else shape
    s = tuple(s) if isinstance(s, (tuple, list)) else (s,)
    to = np.dtype(dtype_of(a) if dtype is None else dtype)
    fill_value = operands(a, fill_value)[1]
    return (
        _spread(fill_value, s, to)
        if isinstance(fill_value, Tracer) or len(shape_of(fill_value))
        else constant(a, s, fill_value, to)
    )


def _spread(x: Any, to: tuple[int, ...], dtype: Any) -> Any:
    return shape.copied(shape.broadcast_to(shape.cast(x, dtype), to))


# ------------------------------------------------------------------------------------------- of several primitives
def ndim(a: Any) -> int:
    """NumPy's ``ndim``."""
    return len(shape_of(a))


def size(a: Any, axis: int | tuple[int, ...] | None = None) -> int:
    """NumPy's ``size``: how many entries there are, in all or along some axes."""
    s = shape_of(a)
    return math.prod(s[i] for i in normal_axes("size", axis, len(s)))


@numpys(np.copy)
def copy(a: Any, order: str = "K", subok: bool = False) -> Any:
    """NumPy's ``copy``; of a tracer a traced array that shares no memory with it."""
    return shape.copied(as_operand(a))


def clip(
    a: Any,
    a_min: Any = None,
    a_max: Any = None,
    out: Any = None,
    *,
    min: Any = None,
    max: Any = None,
) -> Any:
    """NumPy's ``clip``; what equals a bound shares the derivative with it."""
    refuse("clip", out=(out, None))
    a = as_operand(a)
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    if low is None or high is None:
        if low is not None:
            return select.maximum(a, low)
        return a if high is None else select.minimum(a, high)
    return select.clip(a, low, high)


def round_(a: Any, decimals: int = 0, out: Any = None) -> Any:
    """NumPy's ``round``: it carries no derivative; of integers integers."""
    refuse("round", out=(out, None))
    a = as_operand(a)
    dtype = dtype_of(a)
    if dtype.kind in "iu" and decimals >= 0:
        return shape.copied(a)
    if decimals == 0:
        return elementwise.rint(a)
    scale = 10.0 ** abs(decimals)
    r = elementwise.rint(a * scale) / scale if decimals > 0 else elementwise.rint(a / scale) * scale
    return shape.cast(r, dtype) if dtype.kind in "iu" else r


def where(condition: Any, *branches: Any) -> Any:
    """NumPy's ``where``."""
    if not branches:
        return index.nonzero(condition)
    x, y = branches
    if isinstance(condition, Tracer) or hasattr(condition, "dtype"):
        if dtype_of(condition) != np.bool_:
            condition = compare.not_equal(condition, 0)
    return select.where(condition, x, y)


def _refuse_sort(self: Any, *args: Any, **kw: Any) -> Any:
    raise TraceError(
        "x.sort() sorts in place, and a traced array cannot be written into. Write x = np.sort(x)."
    )


def _to_device(self: Any, device: Any, /, *, stream: Any = None) -> Any:
    """The array itself where it is already; a tracer does not move."""
    return placed("to_device", self, device)


def _refuse_tolist(self: Any, *args: Any) -> Any:
    raise TraceError(explain("float", self))


numpy_functions.update(
    {
        np.clip: clip,
        np.round: round_,
        np.around: round_,
        np.where: where,
        np.shape: shape_of,
        np.ndim: ndim,
        np.size: size,
        np.result_type: lambda *xs: np.result_type(
            *[dtype_of(x) if isinstance(x, Tracer) else x for x in xs]
        ),
        np.iscomplexobj: lambda x: dtype_of(x).kind == "c",
        np.isrealobj: lambda x: dtype_of(x).kind != "c",
        np.may_share_memory: _memory("may_share_memory"),
        np.shares_memory: _memory("shares_memory"),
        np.isclose: isclose,
        np.allclose: allclose,
        np.array_equal: array_equal,
        np.array_equiv: array_equiv,
    }
)
numpy_functions.update(
    {
        np.linalg.matmul: contract.matmul,
        np.linalg.tensordot: contract.tensordot,
        np.linalg.matrix_transpose: shape.matrix_transpose,
        np.linalg.diagonal: lambda x, /, *, offset=0: contract.diagonal(x, offset, -2, -1),
        np.linalg.trace: lambda x, /, *, offset=0, dtype=None: contract.trace(
            x, offset, -2, -1, dtype
        ),
        np.linalg.vector_norm: norms.vector_norm,
        np.linalg.matrix_norm: norms.matrix_norm,
        np.linalg.vecdot: contract.vecdot,
    }
)
methods.update(missing_attributes())
methods.update(
    {
        "clip": clip,
        "searchsorted": counting.searchsorted,
        "round": round_,
        "sort": _refuse_sort,
        "to_device": _to_device,
        "tolist": _refuse_tolist,
        "item": lambda self, *args: float(self),
        "conj": elementwise.conjugated,
        "conjugate": elementwise.conjugated,
        "device": property(
            lambda self: (
                device_of(value_of(self)) if not isinstance(value_of(self), Tracer) else None
            )
        ),
    }
)
