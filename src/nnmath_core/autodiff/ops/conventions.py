"""NumPy's conventions that many operations share: axes, unsupported keywords, batching of plain shape rules."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import (
    Aval,
    Tracer,
    alias,
    aval_of,
    dtype_of,
    is_batched,
    shape_of,
    value_of,
)
from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.device import backend_of, device_of, place_of, to_device
from nnmath_core.errors import DeviceError, TraceError

NO_VALUE = np._NoValue
"""NumPy's own mark for a keyword that was not given."""

numpy_functions: dict[Any, Callable[..., Any]] = {}
"""NumPy function (NEP 18) -> ours; filled by `implements`."""

ufuncs: dict[Any, Any] = {}
"""ufunc (NEP 13) -> primitive, or function of the same operands."""

ufunc_methods: dict[tuple[Any, str], Callable[..., Any]] = {}
"""(ufunc, 'reduce' | 'accumulate' | 'outer') -> function."""

methods: dict[str, Any] = {}
"""Methods and properties of a tracer."""


def implements(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as what these NumPy functions do on tracers."""

    def register(f: Callable[..., Any]) -> Callable[..., Any]:
        for g in functions:
            (ufuncs if isinstance(g, np.ufunc) else numpy_functions)[g] = f
        return f

    return register


def refuse(who: str, **given: tuple[Any, Any]) -> None:
    """Raise for a keyword that was given and is not supported: ``refuse("sum", out=(out, None))``."""
    for name, (value, default) in given.items():
        if value is not default and value is not NO_VALUE:
            remedy = (
                "Use the returned array."
                if name == "out"
                else "Write it out with the functions that are supported."
            )
            if name == "where":
                remedy = "Write np.where(mask, x, neutral) before the reduction."
            raise TraceError(
                f"{who}: the keyword `{name}` is not supported on traced arrays. {remedy}"
            )


def as_operand(x: Any) -> Any:
    """A list or tuple as an array, stacked when it holds tracers or arrays of a device; everything else as it is."""
    if isinstance(x, (list, tuple)):
        if holds_tracer(x):
            return _stacked(x)
        try:
            return np.asarray(x)
        except TypeError:  # CuPy's arrays do not become NumPy's in silence
            if _of_device(x) is None:
                raise
            return _stacked(x)
    return x


def operands(*xs: Any, numbers: bool = False) -> list[Any]:
    """The operands by `as_operand`; lists of numbers are put beside the first operand that is on a device.

    Numbers fit every device; where a function reshapes or joins its operands, ``numbers`` makes arrays of them, too.
    """
    listed = (list, tuple, *(_NUMBERS if numbers else ()))
    if not any(isinstance(x, listed) for x in xs):
        return list(xs)
    arrays = [as_operand(x) for x in xs]
    like = next((a for a in arrays if on_device(a)), None)
    if like is None:
        return arrays
    return [
        a
        if not isinstance(x, listed) or is_traced(a) or on_device(a)
        else beside(like, np.asarray(a))
        for x, a in zip(xs, arrays, strict=True)
    ]


_NUMBERS = (int, float, complex, np.generic)  # bool is an int


def on_device(x: Any) -> bool:
    """Whether x, or the value behind it, is an array of a device; while staging it is anywhere."""
    return hasattr(value_of(x), "__cuda_array_interface__")


def on_host(x: Any) -> Any:
    """The values of a plain array on the host: of a device the copy waits for it."""
    return backend_of(x).to_host(x) if hasattr(x, "__cuda_array_interface__") else x


def _of_device(x: Any) -> Any:
    """The first array of a device in a nested list; None without."""
    if isinstance(x, (list, tuple)):
        return next((y for y in map(_of_device, x) if y is not None), None)
    return x if on_device(x) else None


def holds_tracer(x: Any) -> bool:
    """Whether x is a tracer, or a list or tuple with one at any depth."""
    return isinstance(x, Tracer) or (
        isinstance(x, (list, tuple)) and any(holds_tracer(v) for v in x)
    )


def _stacked(xs: Any) -> Any:
    """NumPy's array of a nested list, where some entries are tracers."""
    parts = operands(*map(as_operand, xs), numbers=True)
    parts = [x if isinstance(x, Tracer) or on_device(x) else np.asarray(x) for x in parts]
    shapes = sorted({shape_of(x) for x in parts})
    if len(shapes) > 1:
        raise ValueError(
            f"array: the entries of a list must have one shape, got {shapes[0]} and {shapes[1]}."
        )
    rows = [REGISTRY["reshape"](alias(x), shape=(1, *shapes[0])) for x in parts]
    return REGISTRY["concatenate"](*rows, axis=0)


def placed(who: str, x: Any, device: Any) -> Any:
    """X on a device; a tracer does not move, so that it must be there already (while staging it is anywhere)."""
    if not isinstance(x, Tracer):
        return to_device(x, place_of(device))
    here, there = value_of(x), place_of(device)
    if not isinstance(here, Tracer) and device_of(here) != there:
        raise DeviceError(
            f"{who}: `device` must be {device_of(here)}, where the traced array is, got {there}. "
            "Move what is passed in: nm.to_device(x, device) before the transformation."
        )
    return x


def normal_axes(who: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """``axis`` (None, int or tuple) as a sorted tuple of distinct non-negative ints."""
    if axis is None or axis is NO_VALUE:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple) else (axis,)
    out = []
    for a in axes:
        a = operator.index(a)
        if not -ndim <= a < ndim:
            raise np.exceptions.AxisError(a, ndim, who)
        out.append(a % ndim)
    if len(set(out)) != len(out):
        raise ValueError(f"{who}: duplicate value in 'axis'")
    return tuple(sorted(out))


def normal_axis(who: str, axis: Any, ndim: int) -> int:
    """One axis as a non-negative int."""
    return normal_axes(who, operator.index(axis), ndim)[0]


def kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with 1 in place of the axes."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def dropped(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without the axes."""
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def constant(like: Any, shape: tuple[int, ...], value: float, dtype: Any) -> Any:
    """An untraced array of one value on the device of ``like`` (the host while staging)."""
    x = value_of(like)
    xp = np if isinstance(x, Tracer) or not hasattr(x, "dtype") else backend_of(x).xp
    return xp.full(shape, value, dtype)


def beside(like: Any, x: np.ndarray) -> Any:
    """A host constant of ours on the device of ``like`` (the host while staging)."""
    v = value_of(like)
    if isinstance(v, (np.ndarray, np.generic, Tracer, int, float, complex)):
        return x
    return backend_of(v).from_host(x)


def ndim_of(x: Any) -> int:
    """Number of axes of an array, tracer or scalar."""
    return len(shape_of(x))


def is_traced(*xs: Any) -> bool:
    """Whether any operand is a tracer."""
    return any(isinstance(x, Tracer) for x in xs)


def is_staged(x: Any) -> bool:
    """Whether a value does not exist yet."""
    return isinstance(x, Tracer) and isinstance(value_of(x), Tracer)


def is_known(x: Any) -> bool:
    """Whether a value exists and is one for all examples, so that Python can decide by it."""
    return not isinstance(x, Tracer) or not (isinstance(value_of(x), Tracer) or is_batched(x))


def require_value(who: str, x: Any, advice: str = "Call it outside, or mask with np.where.") -> Any:
    """The plain array behind x: what decides about a shape cannot be traced by vmap or staging."""
    x = as_operand(x)
    if not is_known(x):
        raise TraceError(
            f"{who} needs values, which differ between the examples under vmap and do not exist yet while staging. "
            f"{advice}"
        )
    return value_of(x)


def as_first(x: Any, *others: Any, **params: Any) -> Aval:
    """Shape rule: shape and dtype of the first operand (an array, a variable or a scalar)."""
    return Aval(x.shape, x.dtype) if hasattr(x, "dtype") else aval_of(x)


def all_batched(on: list[bool], values: list[Any], size: int) -> list[Any]:
    """The operands of a batching rule, each with the batch axis first."""
    return [v if m else expand_batch(v, size) for m, v in zip(on, values, strict=True)]


def expand_batch(x: Any, size: int) -> Any:
    """Repeat x along a new first axis."""
    return broadcast_to_primitive()(x, shape=(size, *shape_of(x)))


def broadcast_to_primitive() -> Any:
    """The primitive `broadcast_to`, declared in `shape.py`, which imports this module."""
    return REGISTRY["broadcast_to"]


def result_dtype(*xs: Any) -> np.dtype:
    """NumPy's result dtype of operands (arrays, variables, Python scalars)."""
    return np.result_type(*[x.dtype if hasattr(x, "dtype") else x for x in xs])


def floating_dtype(*xs: Any) -> np.dtype:
    """The result dtype; integers and booleans become float64, as in `numpy.linalg`."""
    dtype = result_dtype(*xs)
    return dtype if dtype.kind in "fc" else np.dtype(float)


def real_dtype(*xs: Any) -> np.dtype:
    """The dtype of the modulus of numbers of the dtype `floating_dtype`."""
    return np.zeros(0, floating_dtype(*xs)).real.dtype


__all__ = [
    "NO_VALUE",
    "Aval",
    "all_batched",
    "as_first",
    "as_operand",
    "beside",
    "constant",
    "dropped",
    "dtype_of",
    "expand_batch",
    "floating_dtype",
    "holds_tracer",
    "implements",
    "is_known",
    "is_staged",
    "is_traced",
    "kept",
    "methods",
    "ndim_of",
    "normal_axes",
    "normal_axis",
    "numpy_functions",
    "on_device",
    "on_host",
    "operands",
    "placed",
    "real_dtype",
    "refuse",
    "require_value",
    "result_dtype",
    "shape_of",
    "ufunc_methods",
    "ufuncs",
]
