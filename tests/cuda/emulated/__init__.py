"""A CUDA device for tests on machines without one: real CuPy, real kernels, this processor.

`install` must run before CuPy is imported. It puts under the *unmodified* wheel of CuPy

- ``device.pyx``: memory, copies, streams, launches of two devices, in place of runtime and driver;
- ``modules.py`` and ``shim/``: every kernel that CuPy or this project asks for is compiled by g++
  and run thread by thread;
- ``libraries/``: cuBLAS, cuSPARSE, cuSOLVER and cuFFT as far as CuPy calls them, on SciPy's LAPACK;
- ``thrust.py``: sorting, by NumPy.

So names, signatures, promotion, errors, kernels' text and the order of calls are the real ones.
What it cannot show is in docs/gpu-testing.md.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import sys

from emulated import build, libraries, modules, thrust

WHEEL, VERSION = "cupy-cuda13x", "14.2.0"
"""The one wheel whose private names this relies on."""

CAPABILITY = (8, 0)
MULTIPROCESSORS = 8  # of a real one about a hundred; grids are smaller and tests quicker


def unusable() -> str:
    """Return why the emulated device cannot be installed here, or an empty string."""
    try:
        found = importlib.metadata.version(WHEEL)
    except importlib.metadata.PackageNotFoundError:
        return f"{WHEEL}=={VERSION} is not installed"
    if found != VERSION:
        return f"it relies on private names of {WHEEL} {VERSION}, and {found} is installed"
    return ""


def load_device():
    """Return the module made from ``device.pyx``."""
    ctypes.CDLL(str(build.scheduler()), mode=ctypes.RTLD_GLOBAL)
    path = str(build.device_module())
    loader = importlib.machinery.ExtensionFileLoader("device", path)
    spec = importlib.util.spec_from_file_location("device", path, loader=loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def install(devices: int = 2):
    """Put the emulated devices under CuPy, import it, and return the module of the device.

    Raises
    ------
    RuntimeError
        CuPy is imported already, or is not the version that this was written for.
    """
    why = unusable()
    if "cupy" in sys.modules:
        why = "CuPy has been imported already"
    if why:
        raise RuntimeError(f"the emulated device cannot be installed: {why}")
    os.environ["CUPY_ACCELERATORS"] = ""  # CUB and cuTENSOR are compiled device code
    device = load_device()
    # cudaDeviceAttr: block and grid limits, shared memory, warp, clocks are not asked for
    device.attributes.update({
        1: 1024, 2: 1024, 3: 1024, 4: 64, 5: 2**31 - 1, 6: 65535, 7: 65535, 8: 48 << 10, 10: 32,
        16: MULTIPROCESSORS, 39: 2048, 75: CAPABILITY[0], 76: CAPABILITY[1], 97: 163 << 10,
    })  # fmt: skip
    device.properties.update(
        name=b"emulated", major=CAPABILITY[0], minor=CAPABILITY[1], warpSize=32,
        multiProcessorCount=MULTIPROCESSORS, maxThreadsPerBlock=1024,
        maxThreadsDim=(1024, 1024, 64), maxGridSize=(2**31 - 1, 65535, 65535),
        sharedMemPerBlock=48 << 10, sharedMemPerBlockOptin=163 << 10, totalGlobalMem=80 << 30,
        maxThreadsPerMultiProcessor=2048, regsPerBlock=65536, l2CacheSize=40 << 20,
    )  # fmt: skip

    import cupy_backends.cuda.api.driver as driver
    import cupy_backends.cuda.api.runtime as runtime

    libraries.install(device)
    device.install(runtime, driver, devices)

    import cupy
    from cupy.cuda import compiler, thrust as cupy_thrust

    compiler._compile_module_with_cache = modules.compile_for_cupy
    thrust.install(cupy_thrust, device)
    cupy.cuda.set_allocator(None)  # an array is one allocation, so that its end is guarded
    return device
