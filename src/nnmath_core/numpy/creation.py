"""Making arrays: on the default device or the one that is named, or traced ones from traced values.

``device`` is None, a name, a `Device`, or what an array of NumPy or CuPy has in its attribute of that name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Tracer, dtype_of, mark_fresh, shape_of
from nnmath_core.autodiff import functions
from nnmath_core.autodiff.ops import spacing
from nnmath_core.autodiff.ops.conventions import as_operand, holds_tracer, placed
from nnmath_core.autodiff.ops.join import concatenate
from nnmath_core.autodiff.ops.shape import astype, atleast_1d, copied, expand_dims, reshape
from nnmath_core.device import (
    CPU,
    Backend,
    backend_for,
    backend_of,
    device_of,
    entering,
    from_dlpack as shared,
    place_of,
    to_device,
)
from nnmath_core.errors import TraceError

__all__ = [
    "arange",
    "array",
    "asanyarray",
    "asarray",
    "asarray_chkfinite",
    "ascontiguousarray",
    "asfortranarray",
    "bartlett",
    "blackman",
    "c_",
    "diag_indices",
    "empty",
    "empty_like",
    "eye",
    "from_dlpack",
    "frombuffer",
    "fromfile",
    "fromfunction",
    "fromiter",
    "fromstring",
    "full",
    "full_like",
    "geomspace",
    "hamming",
    "hanning",
    "identity",
    "indices",
    "kaiser",
    "linspace",
    "logspace",
    "mask_indices",
    "mgrid",
    "ogrid",
    "ones",
    "ones_like",
    "r_",
    "require",
    "tri",
    "tril_indices",
    "triu_indices",
    "zeros",
    "zeros_like",
]


def _backend(device: Any) -> Backend:
    return backend_for(place_of(device))


# ---------------------------------------------------------------------------------------------- from numbers
def empty(shape: Any, dtype: Any = float, order: Any = "C", *, device: Any = None) -> Any:
    """NumPy's ``empty``, on the default device."""
    return _backend(device).xp.empty(shape, float if dtype is None else dtype, order)


def zeros(shape: Any, dtype: Any = float, order: Any = "C", *, device: Any = None) -> Any:
    """NumPy's ``zeros``, on the default device."""
    return _backend(device).xp.zeros(shape, float if dtype is None else dtype, order)


def ones(shape: Any, dtype: Any = None, order: Any = "C", *, device: Any = None) -> Any:
    """NumPy's ``ones``, on the default device."""
    return _backend(device).xp.ones(shape, float if dtype is None else dtype, order)


def full(
    shape: Any, fill_value: Any, dtype: Any = None, order: Any = "C", *, device: Any = None
) -> Any:
    """NumPy's ``full``, on the device of the value or the default one; a traced value makes a traced array."""
    if holds_tracer(fill_value):
        value = as_operand(fill_value)
        like = np.broadcast_to(np.zeros((), dtype_of(value)), shape)
        return functions.full_like(like, value, dtype)
    be = _backend(device)
    if _on_device(fill_value) is not None or (be.device != CPU and np.ndim(fill_value)):
        value = asarray(fill_value, dtype, device=device)  # CuPy fills with numbers only
        xp = backend_of(value).xp
        return xp.array(xp.broadcast_to(value, shape), order=order)
    return be.xp.full(shape, fill_value, dtype, order)


def eye(
    N: Any, M: Any = None, k: Any = 0, dtype: Any = float, order: Any = "C", *, device: Any = None
) -> Any:
    """NumPy's ``eye``, on the default device."""
    return _backend(device).xp.eye(N, M, k, float if dtype is None else dtype, order)


def arange(
    start: Any, /, stop: Any = None, step: Any = 1, dtype: Any = None, *, device: Any = None
) -> Any:
    """NumPy's ``arange``, on the default device; its ends are known numbers."""
    xp = _backend(device).xp
    if stop is None and step is not None and not isinstance(step, Tracer) and step == 1:
        return xp.arange(start, dtype=dtype)
    start, stop = (0, start) if stop is None else (start, stop)
    return xp.arange(start, stop, 1 if step is None else step, dtype=dtype)


def _made(name: str) -> Callable[..., Any]:
    """A creation function with NumPy's own arguments."""

    def make(*args: Any, **kw: Any) -> Any:
        return getattr(_backend(None).xp, name)(*args, **kw)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"NumPy's ``{name}``, on the default device."
    return make


bartlett = _made("bartlett")
blackman = _made("blackman")
diag_indices = _made("diag_indices")
hamming = _made("hamming")
hanning = _made("hanning")
identity = _made("identity")
indices = _made("indices")
kaiser = _made("kaiser")
mask_indices = _made("mask_indices")
tri = _made("tri")
tril_indices = _made("tril_indices")
triu_indices = _made("triu_indices")


def _spaced(
    f: Callable[..., Any], start: Any, stop: Any, args: tuple[Any, ...], device: Any
) -> Any:
    """Run a function of `spacing` on numbers of the default device."""
    be = _backend(device)
    ends = (start, stop)
    if be.device != CPU and not any(holds_tracer(x) or hasattr(x, "dtype") for x in ends):
        ends = (be.asarray(start, dtype=float), be.asarray(stop, dtype=float))
    return f(*ends, *args)


def linspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: Any = 0,
    *,
    device: Any = None,
) -> Any:
    """NumPy's ``linspace``, on the default device; it is linear in ``start`` and ``stop``."""
    return _spaced(spacing.linspace, start, stop, (num, endpoint, retstep, dtype, axis), device)


def logspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    base: Any = 10.0,
    dtype: Any = None,
    axis: Any = 0,
) -> Any:
    """NumPy's ``logspace``, on the default device; it is differentiable in its ends and in the base."""
    return _spaced(spacing.logspace, start, stop, (num, endpoint, base, dtype, axis), None)


def geomspace(
    start: Any, stop: Any, num: Any = 50, endpoint: bool = True, dtype: Any = None, axis: Any = 0
) -> Any:
    """NumPy's ``geomspace``, on the default device; it is differentiable in its ends."""
    return _spaced(spacing.geomspace, start, stop, (num, endpoint, dtype, axis), None)


def fromfunction(function: Any, shape: Any, *, dtype: Any = float, **kwargs: Any) -> Any:
    """NumPy's ``fromfunction``: a function of the index arrays of a shape; what it closes over may be traced."""
    return function(*indices(shape, dtype=dtype), **kwargs)


class _Grid:
    """NumPy's ``mgrid`` or ``ogrid``, on the default device."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getitem__(self, key: Any) -> Any:
        return getattr(_backend(None).xp, self.name)[key]

    def __repr__(self) -> str:
        return f"nnmath_core.numpy.{self.name}"


mgrid = _Grid("mgrid")
ogrid = _Grid("ogrid")


class _Joined:
    """NumPy's ``r_`` or ``c_``; arrays, numbers and slices in brackets are joined, traced ones too."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getitem__(self, key: Any) -> Any:
        pieces = key if isinstance(key, tuple) else (key,)
        if not any(map(holds_tracer, pieces)):
            return getattr(_backend(None).xp, self.name)[key]
        if any(isinstance(p, str) for p in pieces):
            raise TraceError(
                f"nnmath_core.numpy.{self.name}: a string that says how to join is not supported on traced arrays. "
                "Write np.concatenate([...]) or np.stack([...])."
            )
        parts = [np.r_[p] if isinstance(p, slice) else atleast_1d(as_operand(p)) for p in pieces]
        if self.name == "c_":
            parts = [expand_dims(p, -1) if len(shape_of(p)) == 1 else p for p in parts]
            return concatenate(parts, -1)
        return concatenate(parts, 0)

    def __repr__(self) -> str:
        return f"nnmath_core.numpy.{self.name}"


c_ = _Joined("c_")
r_ = _Joined("r_")


# ---------------------------------------------------------------------------------------------- like an array
def _like(name: str) -> Callable[..., Any]:
    of = getattr(functions, name)

    def like(
        a: Any,
        dtype: Any = None,
        order: Any = "K",
        subok: bool = True,
        shape: Any = None,
        *,
        device: Any = None,
    ) -> Any:
        if device is not None:
            a = np.broadcast_to(np.zeros((), dtype_of(a)), shape_of(a))
        y = of(a, dtype, order, subok, shape)
        return y if device is None else to_device(y, place_of(device))

    like.__name__ = like.__qualname__ = name
    like.__doc__ = (
        f"NumPy's ``{name}``; of a tracer an ordinary array, which carries no derivative."
    )
    return like


empty_like = _like("empty_like")
ones_like = _like("ones_like")
zeros_like = _like("zeros_like")


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
    y = functions.full_like(a, fill_value, dtype, order, subok, shape)
    return y if device is None else placed("full_like", y, device)


# ---------------------------------------------------------------------------------------------- from what there is
def asarray(
    a: Any, dtype: Any = None, order: Any = None, *, device: Any = None, copy: bool | None = None
) -> Any:
    """NumPy's ``asarray``: an array stays where it is, the rest goes to the default device; lists may hold tracers.

    A traced array has no order in memory: ``order`` concerns the others.
    """
    if holds_tracer(a):
        made = not isinstance(a, Tracer)
        y = as_operand(a)
        to = dtype_of(y) if dtype is None else np.dtype(dtype)
        if copy is False and (made or to != dtype_of(y)):
            raise ValueError("Unable to avoid copy while creating an array as requested.")
        y = astype(y, to, copy=bool(copy) and not made)
        return y if device is None else placed("asarray", y, device)
    found = _on_device(a)
    if found is not None and found is not a:  # a list of them
        a, copy = backend_of(found).xp.array(a, dtype=dtype), None
    if found is None:
        be = _backend(device)
        if be.device == CPU:
            return np.asarray(a, dtype, order, copy=copy)
        a, copy = np.asarray(a, dtype, order), copy or None
        return be.from_host(a)
    here = device_of(a)
    if device is not None and place_of(device) != here:
        if copy is False:
            raise ValueError("Unable to avoid copy while creating an array as requested.")
        return asarray(to_device(a, place_of(device)), dtype, order)
    xp = backend_for(here).xp
    if copy is False and dtype is not None and np.dtype(dtype) != a.dtype:
        raise ValueError("Unable to avoid copy while creating an array as requested.")
    return xp.array(a, dtype=dtype, copy=True) if copy else xp.asarray(a, dtype=dtype, order=order)


def _on_device(a: Any) -> Any:
    """The first device array in a nested list, or the argument that is one; None without."""
    if isinstance(a, (list, tuple)):
        return next((x for x in map(_on_device, a) if x is not None), None)
    return a if hasattr(a, "__cuda_array_interface__") else None


def array(
    object: Any,
    dtype: Any = None,
    *,
    copy: bool | None = True,
    order: Any = "K",
    subok: bool = False,
    ndmin: int = 0,
) -> Any:
    """NumPy's ``array``; lists may hold tracers."""
    if holds_tracer(object):
        y = asarray(object, dtype, copy=copy)
        lead = ndmin - len(shape_of(y))
        return mark_fresh(reshape(y, (1,) * lead + shape_of(y))) if lead > 0 else y
    if _on_device(object) is None:
        y = np.array(object, dtype, copy=copy, order=order, subok=subok, ndmin=ndmin)
        be = _backend(None)
        return y if be.device == CPU else be.from_host(y)
    y = asarray(object, dtype, None if order == "K" else order, copy=copy)
    return y.reshape((1,) * (ndmin - y.ndim) + y.shape) if ndmin > y.ndim else y


def asanyarray(
    a: Any, dtype: Any = None, order: Any = None, *, device: Any = None, copy: bool | None = None
) -> Any:
    """NumPy's ``asanyarray``: `asarray`, which lets subclasses of ndarray pass."""
    if isinstance(a, np.ndarray) and place_of(device) == CPU:
        if copy is None:
            return np.asanyarray(a, dtype, order)
        return np.array(a, dtype, copy=copy, order=order or "K", subok=True)
    return asarray(a, dtype, order, device=device, copy=copy)


def ascontiguousarray(a: Any, dtype: Any = None) -> Any:
    """NumPy's ``ascontiguousarray``: in C order, with at least one axis."""
    return atleast_1d(asarray(a, dtype, None if holds_tracer(a) else "C"))


def asfortranarray(a: Any, dtype: Any = None) -> Any:
    """NumPy's ``asfortranarray``: in Fortran order, with at least one axis."""
    return atleast_1d(asarray(a, dtype, None if holds_tracer(a) else "F"))


@entering
def asarray_chkfinite(a: Any, dtype: Any = None, order: Any = None) -> Any:
    """NumPy's ``asarray_chkfinite``: an array without NaN and infinities."""
    y = asarray(a, dtype, order)
    if dtype_of(y).kind in "fc" and not bool(np.isfinite(y).all()):
        raise ValueError("array must not contain infs or NaNs")
    return y


def require(a: Any, dtype: Any = None, requirements: Any = None) -> Any:
    """NumPy's ``require``; of arrays that are traced or on a device only the dtype and a copy can be asked for."""
    if not holds_tracer(a) and _on_device(a) is None:
        return np.require(a, dtype, requirements)
    y = asarray(a, dtype)
    owned = {"O", "OWNDATA", "W", "WRITEABLE"} & {str(r).upper() for r in requirements or ()}
    return copied(y) if owned and y is a else y


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Any:
    """NumPy's ``from_dlpack``: the array of another library, without a copy where that can be.

    Arrays of CUDA devices become CuPy's. A tracer has no memory to share: its derivative would be lost.
    """
    if not hasattr(x, "__cuda_array_interface__"):
        _ = x.__dlpack_device__  # without the protocol Python's own error, as NumPy's function
    return shared(x, device=device, copy=copy)


def _read(name: str) -> Callable[..., Any]:
    """A function that makes arrays from bytes, files or iterators: NumPy's, then moved to the default device."""
    f = getattr(np, name)

    def read(*args: Any, **kw: Any) -> Any:
        be = _backend(None)
        y = f(*args, **kw)
        return y if be.device == CPU else be.from_host(y)

    read.__name__ = read.__qualname__ = name
    read.__doc__ = f"NumPy's ``{name}``, on the default device."
    return read


frombuffer = _read("frombuffer")
fromfile = _read("fromfile")
fromstring = _read("fromstring")


def fromiter(iter: Any, dtype: Any, count: int = -1) -> Any:
    """NumPy's ``fromiter``, on the default device; the numbers may be traced."""
    rows = list(iter) if count < 0 else [x for x, _ in zip(iter, range(count), strict=False)]
    if count > len(rows):
        raise ValueError(
            f"iterator too short: Expected {count} but iterator had only {len(rows)} items."
        )
    if holds_tracer(rows):
        return asarray(rows, dtype)
    be = _backend(None)
    y = np.fromiter(rows, dtype)
    return y if be.device == CPU else be.from_host(y)
