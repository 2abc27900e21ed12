"""Devices: their names, what lives where, and the operations of each.

The module can be called as its function `device`, so that ``nnmath_core.device("cuda")`` means the
same before and after this module has been imported.

Parameters
----------
name : str or Device
    ``"cpu"``, ``"cuda"`` or ``"cuda:1"`` and so on.

Returns
-------
Device

Examples
--------
>>> import nnmath_core as nm
>>> print(nm.device("cpu"))
cpu
"""

import sys
from types import ModuleType

from nnmath_core.device.backend import Backend
from nnmath_core.device.cpu import CpuBackend
from nnmath_core.device.cuda import CudaBackend
from nnmath_core.device.dispatch import backend_for, backend_of, device_of, entering, place_of
from nnmath_core.device.interop import from_dlpack
from nnmath_core.device.names import (
    CPU,
    Device,
    current_default_device,
    default_device,
    device,
    devices,
)
from nnmath_core.device.precision import current_matmul_precision, matmul_precision
from nnmath_core.device.transfer import synchronize, to_device

__all__ = [
    "CPU",
    "Backend",
    "CpuBackend",
    "CudaBackend",
    "Device",
    "backend_for",
    "backend_of",
    "current_default_device",
    "current_matmul_precision",
    "default_device",
    "device",
    "device_of",
    "devices",
    "entering",
    "from_dlpack",
    "matmul_precision",
    "place_of",
    "synchronize",
    "to_device",
]


class _CallableModule(ModuleType):
    """A module that is also the function of its name: the parent has one attribute for both."""

    def __call__(self, name: str | Device) -> Device:
        """Return the device of this name; see `device`."""
        return device(name)


sys.modules[__name__].__class__ = _CallableModule
