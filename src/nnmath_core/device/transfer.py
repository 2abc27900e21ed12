"""Moving trees of arrays between devices, and waiting for a device."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnmath_core._ext._tree import flatten, paths, unflatten
from nnmath_core.checks import describe
from nnmath_core.device.backend import Backend
from nnmath_core.device.dispatch import backend_for, device_of
from nnmath_core.device.driver import imported_cupy
from nnmath_core.device.names import CPU, Device, device
from nnmath_core.device.staging import between
from nnmath_core.errors import DtypeError
from nnmath_core.typing import Tree


def to_device(tree: Tree, d: str | Device) -> Tree:
    """Return the tree with every array on device ``d``.

    Parameters
    ----------
    tree : tree of arrays
        An array, or nested containers of arrays. Numbers, strings, types, functions and ``None``
        belong to no device and stay as they are.
    d : str or Device
        As for `device`.

    Returns
    -------
    tree
        Of the same structure, shapes and dtypes. An array that already lives on ``d`` is the same
        object, not a copy.

    Raises
    ------
    DeviceError
        ``d`` cannot be used.
    DtypeError
        A leaf cannot live on ``d``: an object, string or extended-precision array, a masked array,
        an array of another library, or a traced value that lives elsewhere. The message names its
        path. Nothing has been moved.

    Notes
    -----
    To a device: the host array has been read when the call returns, and may be changed. The copies
    are queued on the current stream of ``d``, by way of at most 16 MiB of pinned memory; one array
    is one copy (of each 4 MiB), and the host waits only while all of that memory is on its way.
    Foreign byte order becomes native.

    To the CPU: one copy an array and one wait for each device, after which the values are there.

    Between two devices: the copy waits on the device for what is queued on the current stream of
    the source, and the next work of that stream waits for the copy. The host waits for nothing.

    Examples
    --------
    >>> to_device({"w": np.ones(2), "steps": 3}, "cpu")
    {'steps': 3, 'w': array([1., 1.])}
    """
    d = device(d)
    leaves, treedef = flatten(tree)
    for i, leaf in enumerate(leaves):
        problem = _problem(leaf, d)
        if problem:
            path = paths(treedef)[i]
            raise DtypeError(f"to_device: `tree{path}` cannot be moved to {d}: {problem}")
    return unflatten(treedef, _to_host(leaves) if d == CPU else [_move(leaf, d) for leaf in leaves])


def _problem(leaf: Any, d: Device) -> str:
    """Return why a leaf cannot live on ``d``, or the empty string."""
    if isinstance(leaf, np.ma.MaskedArray) and d != CPU:
        return "its mask would be lost. Put values where the mask is: `x.filled(...)`."
    if isinstance(leaf, np.ndarray):
        if d != CPU and (leaf.dtype.kind not in "biufc" or leaf.dtype.char in "gG"):
            return f"it holds {leaf.dtype} elements. Arrays of numbers up to 64 bits can be moved."
        return ""
    cupy = imported_cupy()
    if isinstance(leaf, np.generic | type) or (cupy is not None and isinstance(leaf, cupy.ndarray)):
        return ""
    place = getattr(leaf, "device", None)
    if isinstance(place, Device):
        return "" if place == d else "it is a traced value. Move the arrays before differentiating."
    if hasattr(leaf, "__dlpack__") or hasattr(leaf, "__cuda_array_interface__"):
        way = "nnmath_core.from_dlpack"
    elif hasattr(leaf, "__array__"):
        way = "numpy.asarray"
    else:
        return ""
    return f"it is {describe(leaf)} of another library. Convert it with `{way}`."


def _to_host(leaves: list[Any]) -> list[Any]:
    """Return the leaves on the host: all copies are queued, then each device is waited for once."""
    cupy = imported_cupy()
    if cupy is None:
        return leaves
    waiting: dict[Device, Backend] = {}
    found = []
    try:
        for leaf in leaves:
            if isinstance(leaf, cupy.ndarray):
                here = device_of(leaf)
                waiting[here] = be = backend_for(here)
                leaf = be.xp.asnumpy(leaf, order="A", blocking=False)
            found.append(leaf)
    finally:  # also after an error nothing may still write into arrays that are given up
        for be in waiting.values():
            be.xp.cuda.get_current_stream().synchronize()
    for be in waiting.values():
        be.ring()
    return found


def _move(leaf: Any, d: Device) -> Any:
    """Return a leaf on the CUDA device ``d``."""
    if isinstance(leaf, np.ndarray):
        return backend_for(d).from_host(leaf)
    cupy = imported_cupy()
    if cupy is None or not isinstance(leaf, cupy.ndarray):
        return leaf
    here = device_of(leaf)
    return leaf if here == d else _across(cupy, leaf, here, d)


def _across(cupy: Any, x: Any, here: Device, d: Device) -> Any:
    """Return a copy of a device array on another device."""
    order = "F" if x.flags.fnc else "C"
    x = backend_for(here).xp.asarray(x, order=order)  # contiguous
    with between(cupy, backend_for(here).scope(), backend_for(d).scope()) as stream:
        out = cupy.empty(x.shape, x.dtype, order)
        if x.size:
            out.data.copy_from_device_async(x.data, x.nbytes, stream)
    return out


def synchronize(d: str | Device) -> None:
    """Wait until everything queued on device ``d`` has been done; the CPU has no queue.

    Parameters
    ----------
    d : str or Device
        As for `device`.

    Raises
    ------
    DeviceError
        ``d`` cannot be used.

    Examples
    --------
    >>> synchronize("cpu")
    """
    backend_for(d).synchronize()
