"""Finding CuPy, its driver and its compiler, and saying in one sentence what is missing.

CuPy is imported here and only when a device is asked for. A success is remembered, a failure is
not, so that an interpreter in which CuPy has just been installed finds it.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from types import ModuleType
from typing import Any

from nnmath_core.errors import DeviceError

_OLDEST_CUPY = 14  # the tests compare every name and keyword with 14.2
_OLDEST_CUDA = 12  # of the wheels of that CuPy
_INSUFFICIENT_DRIVER, _NO_DEVICE = 35, 100  # cudaError_t
_INSTALL = (
    'Install it with `pip install "nnmath-core[cuda13]"` (NVIDIA driver 580 or newer) or '
    '`pip install "nnmath-core[cuda12]"` (525 or newer).'
)


def imported_cupy() -> ModuleType | None:
    """Return CuPy if the program has imported it; without it no device array exists."""
    return sys.modules.get("cupy")


@functools.cache
def usable_cupy() -> tuple[ModuleType, int]:
    """Return CuPy and the number of its devices, at least one.

    Raises
    ------
    DeviceError
        CuPy, the driver or a device is missing; the message says which and what to install.
    """
    cupy = _import_cupy()
    return cupy, _count_devices(cupy)


@functools.cache
def require_device(index: int) -> ModuleType:
    """Return CuPy after making sure that CUDA device ``index`` exists and can run its kernels.

    Raises
    ------
    DeviceError
        As `usable_cupy`; or there is no such device, or a CUDA library is missing, or the
        compiler no longer knows the device.
    """
    cupy, count = usable_cupy()
    if index >= count:
        have = "only cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise DeviceError(f"device: there is no cuda:{index}; this machine has {have}.")
    _require_libraries(cupy, index)
    return cupy


def _import_cupy() -> ModuleType:
    try:
        cupy = importlib.import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise _broken(error) from error
        raise DeviceError(f"device: CuPy is not installed. {_INSTALL}") from None
    except Exception as error:  # a wheel for another CUDA or another Python fails in many ways
        raise _broken(error) from error
    version = str(getattr(cupy, "__version__", "0"))
    if int(version.partition(".")[0]) < _OLDEST_CUPY:
        raise DeviceError(
            f"device: CuPy {_OLDEST_CUPY} or newer is needed, got {version}. {_INSTALL}"
        )
    if getattr(cupy.cuda.runtime, "is_hip", False):
        raise DeviceError(
            f"device: this CuPy is built for ROCm and NVIDIA CUDA is needed. {_INSTALL}"
        )
    return cupy


def _broken(error: Exception) -> DeviceError:
    lines = [line.strip() for line in str(error).splitlines()]
    text = next((line for line in reversed(lines) if line and set(line) != {"="}), "no message")
    return DeviceError(
        f"device: CuPy is installed but cannot be imported ({type(error).__name__}: {text}). "
        f"Its wheel must fit the CUDA version and only one CuPy may be installed: remove every "
        f"`cupy` package. {_INSTALL}"
    )


def _count_devices(cupy: Any) -> int:
    runtime, cuda = cupy.cuda.runtime, _cuda_version(cupy)
    built = f"CuPy {cupy.__version__} is built for CUDA {cuda}"
    try:
        count = int(runtime.getDeviceCount())
    except runtime.CUDARuntimeError as error:
        status = getattr(error, "status", None)
        driver = int(runtime.driverGetVersion())
        if driver == 0:
            raise DeviceError(
                f"device: {built} and finds no NVIDIA driver. Install the driver of the GPU, or "
                'use `device("cpu")`.'
            ) from error
        if status == _INSUFFICIENT_DRIVER:
            raise DeviceError(
                f"device: {built} and the NVIDIA driver reaches only CUDA "
                f"{driver // 1000}.{driver % 1000 // 10}. Update the driver{_older_wheel(cuda)}."
            ) from error
        if status != _NO_DEVICE:
            raise DeviceError(f"device: the CUDA driver does not start: {error}.") from error
        count = 0
    if count == 0:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hint = "" if visible is None else f" CUDA_VISIBLE_DEVICES is {visible!r}."
        raise DeviceError(f'device: the NVIDIA driver shows no GPU.{hint} Use `device("cpu")`.')
    return count


def _require_libraries(cupy: Any, index: int) -> None:
    """Refuse, before any work, a device for which no kernel or product can be made."""
    cuda = _cuda_version(cupy)
    library = "NVRTC"
    try:  # both are loaded when they are first used, not with CuPy
        archs = [int(arch) for arch in cupy.cuda.nvrtc.getSupportedArchs()]
        library = "cuBLAS"
        _ = cupy.cuda.cublas
    except Exception as error:  # the loader's error type is not CuPy's
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DeviceError(
            f"device: CuPy {cupy.__version__} cannot load {library} of CUDA {cuda} ({text}). "
            f'Install the CUDA libraries: `pip install "cupy-cuda{cuda}x[ctk]"`.'
        ) from error
    capability = int(cupy.cuda.Device(index).compute_capability)
    if capability < min(archs):
        raise DeviceError(
            f"device: cuda:{index} has compute capability {capability // 10}.{capability % 10} "
            f"and CUDA {cuda} begins at {min(archs) // 10}.{min(archs) % 10}. "
            f"Use a newer GPU{_older_wheel(cuda)}."
        )


def _cuda_version(cupy: Any) -> int:
    return int(cupy.cuda.runtime.runtimeGetVersion()) // 1000


def _older_wheel(cuda: int) -> str:
    if cuda <= _OLDEST_CUDA:
        return ""
    return (
        f", or exchange the wheel: `pip uninstall cupy-cuda{cuda}x` and "
        f'`pip install "nnmath-core[cuda{_OLDEST_CUDA}]"`'
    )
