"""Moving trees of arrays between devices, and waiting for a device."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnmath_core._ext._tree import flatten, paths, unflatten
from nnmath_core.checks import describe
from nnmath_core.device.dispatch import backend_for
from nnmath_core.device.driver import imported_cupy
from nnmath_core.device.names import CPU, Device, device
from nnmath_core.errors import DtypeError
from nnmath_core.typing import Tree


def to_device(tree: Tree, d: str | Device) -> Tree:
    """Return the tree with every array on device ``d``.

    Parameters
    ----------
    tree : tree of arrays
        An array, or nested containers of arrays. Numbers, strings, functions and ``None`` belong
        to no device and stay as they are.
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
    Copies to a device read the host array before the call returns, so that it may be changed
    afterwards. Foreign byte order becomes native on a CUDA device.

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
    return unflatten(treedef, [_move(leaf, d) for leaf in leaves])


def _problem(leaf: Any, d: Device) -> str:
    """Return why a leaf cannot live on ``d``, or the empty string."""
    if isinstance(leaf, np.ma.MaskedArray) and d != CPU:
        return "its mask would be lost. Put values where the mask is: `x.filled(...)`."
    if isinstance(leaf, np.ndarray):
        if d != CPU and (leaf.dtype.kind not in "biufc" or leaf.dtype.char in "gG"):
            return f"it holds {leaf.dtype} elements. Arrays of numbers up to 64 bits can be moved."
        return ""
    cupy = imported_cupy()
    if isinstance(leaf, np.generic) or (cupy is not None and isinstance(leaf, cupy.ndarray)):
        return ""
    place = getattr(leaf, "device", None)
    if isinstance(place, Device):
        return "" if place == d else "it is a traced value. Move the arrays before differentiating."
    if hasattr(leaf, "__array__") or hasattr(leaf, "__dlpack__"):
        return f"it is {describe(leaf)} of another library. Convert it with `numpy.asarray`."
    return ""


def _move(leaf: Any, d: Device) -> Any:
    if isinstance(leaf, np.ndarray):
        return leaf if d == CPU else backend_for(d).from_host(leaf)
    cupy = imported_cupy()
    if cupy is None or not isinstance(leaf, cupy.ndarray):
        return leaf
    here = Device("cuda", int(leaf.device.id))
    if here == d:
        return leaf
    if d == CPU:
        return backend_for(here).to_host(leaf)
    with backend_for(d).scope():
        return leaf.copy()  # CuPy copies to the current device


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
