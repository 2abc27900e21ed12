"""Sorting, which CuPy leaves to Thrust: device code in its wheel that only a GPU can run.

CuPy's Python code reaches it through three names, which NumPy serves here on the same memory.
"""

from __future__ import annotations

import ctypes

import numpy as np


def array_at(address: int, shape: tuple[int, ...], dtype) -> np.ndarray:
    """Return device memory as a host array; to be used while the device is open."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)


def install(thrust, device) -> None:
    """Replace the three functions of ``cupy.cuda.thrust``."""

    def sort(dtype, data, keys, shape):
        device.counters["thrust"] += 1
        with device.opened():
            x = array_at(data, shape, dtype)
            x[...] = np.sort(x, axis=-1, kind="stable")

    def argsort(dtype, indices, data, keys, shape):
        device.counters["thrust"] += 1
        with device.opened():
            x = array_at(data, shape, dtype)
            found = np.argsort(x, axis=-1, kind="stable")
            array_at(indices, shape, np.intp)[...] = found
            x[...] = np.take_along_axis(x, found, -1)

    def lexsort(dtype, indices, keys, count, length):
        device.counters["thrust"] += 1
        with device.opened():
            found = np.lexsort(array_at(keys, (count, length), dtype))
            array_at(indices, (length,), np.intp)[...] = found

    thrust.sort, thrust.argsort, thrust.lexsort = sort, argsort, lexsort
