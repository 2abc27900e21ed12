"""From arrays to the backend that works on them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from nnmath_core.checks import describe, sentence
from nnmath_core.device.backend import Backend
from nnmath_core.device.cpu import CpuBackend
from nnmath_core.device.cuda import CudaBackend
from nnmath_core.device.driver import imported_cupy
from nnmath_core.device.names import CPU, Device, current_default_device, device
from nnmath_core.errors import DeviceError, DtypeError

F = TypeVar("F", bound=Callable[..., Any])

_HOST = CpuBackend()
_NUMBERS = (int, float, complex, np.generic)  # bool is an int
_HOST_TYPES = frozenset(
    {np.ndarray, bool, int, float, complex, np.float64, np.float32, np.int64, np.bool_}
)


def device_of(x: Any) -> Device:
    """Return the device on which ``x`` lives.

    Parameters
    ----------
    x : array or number
        A `numpy.ndarray`, a Python or NumPy number (the CPU), a `cupy.ndarray` (its device), or
        an object whose attribute ``device`` is a `Device`, as that of a traced value.

    Returns
    -------
    Device

    Raises
    ------
    DtypeError
        ``x`` is none of these; a list or a dictionary is a tree and may be spread over devices.

    Examples
    --------
    >>> device_of(np.zeros(3))
    Device('cpu')
    """
    found = _device_or_none(x)
    if found is not None:
        return found
    if isinstance(x, _NUMBERS):
        return CPU
    raise DtypeError(sentence("device_of", "x", "an array or a number", describe(x)))


def _device_or_none(x: Any) -> Device | None:
    """Return the device of an array; None for what belongs to no device."""
    if isinstance(x, np.ndarray):
        return CPU
    cupy = imported_cupy()
    if cupy is not None and isinstance(x, cupy.ndarray):
        return Device("cuda", int(x.device.id))
    place = getattr(x, "device", None)
    return place if isinstance(place, Device) else None


def place_of(device: Any) -> Device:
    """Return the device that the keyword ``device`` of a function names.

    Parameters
    ----------
    device : None, str, Device or cupy.cuda.Device
        None is the default device; the last is what CuPy's arrays have in their attribute.

    Returns
    -------
    Device

    Raises
    ------
    DeviceError
        The device cannot be used.

    Examples
    --------
    >>> place_of(np.zeros(3).device)
    Device('cpu')
    """
    if device is None:
        return current_default_device()
    if not isinstance(device, str | Device) and hasattr(device, "id"):
        device = Device("cuda", int(device.id))
    return backend_for(device).device


def backend_for(d: str | Device) -> Backend:
    """Return the backend of a device.

    Parameters
    ----------
    d : str or Device
        As for `device`.

    Returns
    -------
    Backend

    Raises
    ------
    DeviceError
        The device cannot be used.

    Examples
    --------
    >>> backend_for("cpu")
    CpuBackend('cpu')
    """
    d = device(d)
    return _HOST if d == CPU else _cuda(d.index)


@functools.cache
def _cuda(index: int) -> CudaBackend:
    return CudaBackend(index)


def entering(f: F) -> F:
    """Return a function that enters the device of its first argument that lives on one.

    For functions that are made of several operations: the operators on arrays between these are CuPy's, which work on
    the current device. On the host nothing is entered, nor for traced values, whose transformation has done it.

    Parameters
    ----------
    f : callable

    Returns
    -------
    callable
        Of the same name and signature.

    Examples
    --------
    >>> @entering
    ... def middle(x, y):
    ...     return (x + y) / 2
    >>> middle(1.0, 2.0)
    1.5
    """

    @functools.wraps(f)
    def call(*args: Any, **kw: Any) -> Any:
        cupy = sys.modules.get("cupy")
        if cupy is not None:
            for x in (*args, *kw.values()):
                if isinstance(x, (list, tuple)) and x:
                    x = x[0]
                place = _device_or_none(x)
                if place is not None and place.kind == "cuda":
                    with _cuda(place.index).scope():
                        return f(*args, **kw)
        return f(*args, **kw)

    return call  # type: ignore[return-value]


def backend_of(*arrays: Any, who: str = "backend_of", names: tuple[str, ...] = ()) -> Backend:
    """Return the backend of the device on which all the arrays live.

    Parameters
    ----------
    *arrays : array or number
        Python and NumPy numbers fit every device; numbers alone are worked on by the CPU.
    who : str
        The function in whose name a complaint is made.
    names : tuple of str
        The names of the arguments for a complaint; their positions by default.

    Returns
    -------
    Backend

    Raises
    ------
    DeviceError
        Two arrays live on two devices; the message names both. Nothing is moved.
    DtypeError
        An argument is neither an array nor a number.

    Examples
    --------
    >>> backend_of(np.zeros(3), 2.0)
    CpuBackend('cpu')
    """
    for x in arrays:
        if type(x) not in _HOST_TYPES:
            return _sorted_out(arrays, who, names)
    return _HOST


def _sorted_out(arrays: tuple[Any, ...], who: str, names: tuple[str, ...]) -> Backend:
    first: tuple[str, Device] | None = None
    for i, x in enumerate(arrays):
        name = f"`{names[i]}`" if i < len(names) else f"argument {i}"
        place = _device_or_none(x)
        if place is None:
            if isinstance(x, _NUMBERS):
                continue
            raise DtypeError(f"{who}: {name} must be an array or a number, got {describe(x)}.")
        if first is None:
            first = (name, place)
        elif place != first[1]:
            raise DeviceError(
                f"{who}: {name} must be on {first[1]} as {first[0]} is, got {place}. Nothing is "
                f'moved in silence: `to_device(x, "{first[1]}")`.'
            )
    return _HOST if first is None or first[1] == CPU else _cuda(first[1].index)
