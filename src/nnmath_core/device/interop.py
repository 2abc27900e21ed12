"""Arrays of other libraries, on the host and on CUDA devices, without a copy.

Two protocols are spoken: DLPack, which almost every library has, and ``__cuda_array_interface__``, which some have
alone. Both order the work of the two libraries on the device by events, so that the host waits for nothing.

References
----------
"Python specification for DLPack", dmlc.github.io/dlpack; "CUDA Array Interface (Version 3)", numba.readthedocs.io.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np

from nnmath_core.checks import describe, sentence
from nnmath_core.device.cuda import CudaBackend
from nnmath_core.device.dispatch import backend_for, place_of
from nnmath_core.device.driver import usable_cupy
from nnmath_core.device.names import CPU, Device
from nnmath_core.device.transfer import to_device
from nnmath_core.errors import DeviceError, DtypeError, NnmathError
from nnmath_core.typing import Array

# DLDeviceType
_HOST = (1, 3)  # ordinary and pinned memory
_CUDA = (2, 13)  # and managed memory
_OTHER = {4: "OpenCL", 7: "Vulkan", 8: "Metal", 10: "ROCm", 11: "ROCm's host memory", 14: "oneAPI"}
# DLDataTypeCode, and how many bits CuPy takes of each
_CODES = {0: "int", 1: "uint", 2: "float", 3: "opaque", 4: "bfloat", 5: "complex", 6: "bool"}
_BITS = {
    "int": (8, 16, 32, 64),
    "uint": (8, 16, 32, 64),
    "float": (16, 32, 64),
    "complex": (64, 128),
    "bool": (8,),
}
_READ_ONLY = 1  # a bit of the flags of a versioned tensor
_LEGACY = 1  # how both protocols call the stream that CUDA calls 0
_ON_DEVICE = (2, 3)  # cudaMemoryType: device, managed


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Array:
    """Return an array of another library as one that this package works on.

    Memory of the host becomes a `numpy.ndarray`, that of a CUDA device a `cupy.ndarray` there. The
    memory is shared unless a copy is needed or asked for.

    Parameters
    ----------
    x : array of another library
        An object with ``__dlpack__`` (PyTorch, JAX, TensorFlow, CuPy, NumPy), or with
        ``__cuda_array_interface__`` alone (Numba, PyCUDA, RAPIDS).
    device : str, Device or None
        Where the result has to be; by default where ``x`` is.
    copy : bool or None
        True: always copy. False: never, an error where one is needed. None: where one is needed,
        which is for another device, and for device memory that is read-only (JAX): CuPy's arrays
        can be written.

    Returns
    -------
    numpy.ndarray or cupy.ndarray
        Of the same shape, strides and dtype. NumPy marks arrays of libraries that do not say
        whether they may be written as read-only.

    Raises
    ------
    DeviceError
        ``x`` lives on no CPU and no CUDA device that can be used here; or ``copy=False`` and a copy
        is needed.
    DtypeError
        ``x`` speaks neither protocol, has a mask, or has elements that are no numbers of NumPy
        (bfloat16).

    Notes
    -----
    On a device the producer is told CuPy's current stream of that device, and orders its work
    before what is queued there from now on. The host waits for nothing. What the producer does to
    the memory later is not ordered with our work: as between two streams, that is for the caller.

    Results of this package go out in the same way: they are NumPy's and CuPy's arrays, which speak
    both protocols (``torch.from_dlpack(y)``, ``jax.dlpack.from_dlpack(y)``). A traced array has no
    memory to share.

    Examples
    --------
    >>> class Other:
    ...     def __init__(self, data):
    ...         self.data = data
    ...     def __dlpack_device__(self):
    ...         return self.data.__dlpack_device__()
    ...     def __dlpack__(self, **options):
    ...         return self.data.__dlpack__(**options)
    >>> data = np.arange(3.0)
    >>> y = from_dlpack(Other(data))
    >>> print(y, np.shares_memory(y, data))
    [0. 1. 2.] True
    """
    if _speaks_dlpack(x):
        y, here = _by_dlpack(x, copy)
    elif hasattr(x, "__cuda_array_interface__"):
        y, here = _by_interface(x, device, copy)
    else:
        wanted = "an array with `__dlpack__` or `__cuda_array_interface__`"
        raise DtypeError(sentence("from_dlpack", "x", wanted, describe(x)))
    there = here if device is None else place_of(device)
    if there == here:
        return y
    if copy is False:
        raise DeviceError(
            f"from_dlpack: `x` is on {here} and cannot come to {there} without a copy, which "
            "`copy=False` forbids."
        )
    return to_device(y, there)  # type: ignore[no-any-return]


# --------------------------------------------------------------------------------------- DLPack


def _speaks_dlpack(x: Any) -> bool:
    try:
        _ = x.__dlpack__, x.__dlpack_device__
    except AttributeError as error:
        if isinstance(error, NnmathError):  # a traced array says why it does not
            raise
        return False
    return True


def _by_dlpack(x: Any, copy: bool | None) -> tuple[Array, Device]:
    kind, index = (int(number) for number in x.__dlpack_device__())
    if kind in _HOST:
        y = np.from_dlpack(x)
        return (y.copy() if copy else y), CPU
    if kind not in _CUDA:
        name = _OTHER.get(kind, f"the device type {kind} of DLPack")
        raise DeviceError(
            sentence("from_dlpack", "x", "on a CPU or a CUDA device", f"an array on {name}")
        )
    be = _cuda(index)
    with be.scope():
        stream = be.cupy.cuda.get_current_stream().ptr or _LEGACY
        try:
            capsule = x.__dlpack__(stream=stream, max_version=(1, 0))
        except TypeError:  # written before the protocol had versions
            capsule = x.__dlpack__(stream=stream)
        said = _said(capsule)
        if said.bits not in _BITS.get(said.name, ()) or said.lanes != 1:
            text = f"{said.name}{said.bits}" + (f"x{said.lanes}" if said.lanes != 1 else "")
            raise _no_number(text)
        y = be.cupy.from_dlpack(capsule)
        return _own(be, y, said.read_only, copy), Device("cuda", int(y.device.id))


class _Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
    )


class _Versioned(ctypes.Structure):
    """DLManagedTensorVersioned; the one without a version begins with its tensor."""

    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class _Said(NamedTuple):
    name: str
    bits: int
    lanes: int
    read_only: bool


def _said(capsule: Any) -> _Said:
    """Return what a capsule that nobody has consumed says of its elements and of writing."""
    read_only = False
    if _is_valid(capsule, b"dltensor_versioned"):
        whole = _Versioned.from_address(_pointer(capsule, b"dltensor_versioned"))
        read_only, tensor = bool(whole.flags & _READ_ONLY), whole.tensor
    elif _is_valid(capsule, b"dltensor"):
        tensor = _Tensor.from_address(_pointer(capsule, b"dltensor"))
    else:
        raise DtypeError(
            sentence("from_dlpack", "x", "an array whose `__dlpack__` gives a tensor", "another")
        )
    name = _CODES.get(tensor.code, f"the type {tensor.code} of DLPack with bits ")
    return _Said(name, tensor.bits, tensor.lanes, read_only)


# -------------------------------------------------------------------- __cuda_array_interface__


class _Described:
    """An array of another library under a description of its own; whoever keeps this keeps it."""

    def __init__(self, owner: Any, said: dict[str, Any]) -> None:
        self.owner = owner
        self.__cuda_array_interface__ = said


def _by_interface(x: Any, device: Any, copy: bool | None) -> tuple[Array, Device]:
    said = dict(x.__cuda_array_interface__)
    if said.get("mask") is not None:
        raise DtypeError(
            "from_dlpack: `x` must be an array without a mask: it would be lost. Fill it first."
        )
    dtype = np.dtype(said["typestr"])
    if dtype.kind not in "biufc" or not dtype.isnative or dtype.char in "gG":
        raise _no_number(said["typestr"])
    pointer, read_only = said["data"]
    shape = said["shape"] = tuple(said["shape"])
    cupy, _ = usable_cupy()
    if 0 in shape or not pointer:
        index = 0 if device is None else place_of(device).index  # memory of no device
    else:
        found = cupy.cuda.runtime.pointerGetAttributes(pointer)
        if found.type not in _ON_DEVICE:
            raise DeviceError(
                sentence("from_dlpack", "x", "on a CUDA device", "a pointer to other memory")
            )
        index = int(found.device)
    be = _cuda(index)
    stream = said.pop("stream", None)
    with be.scope():
        if stream is not None:  # the work queued there comes before ours
            written = cupy.cuda.Event(disable_timing=True)
            cupy.cuda.runtime.eventRecord(written.ptr, stream or _LEGACY)
            cupy.cuda.get_current_stream().wait_event(written)
        y = cupy.asarray(_Described(x, said))
        return _own(be, y, read_only, copy), be.device


# -------------------------------------------------------------------------------------- both


def _cuda(index: int) -> CudaBackend:
    be = backend_for(Device("cuda", index))
    assert isinstance(be, CudaBackend)
    return be


def _own(be: CudaBackend, y: Any, read_only: bool, copy: bool | None) -> Array:
    """Return the imported array, or a copy where that is asked for or needed."""
    if read_only and copy is False:
        raise DeviceError(
            f"from_dlpack: `x` is read-only memory on {be.device}, and CuPy's arrays can be "
            "written. It comes in as a copy, which `copy=False` forbids."
        )
    if copy or read_only:
        be.staging.keep(y)  # its library may give the memory away, which our copy has yet to read
        y = y.copy(order="K")
    return y  # type: ignore[no-any-return]


def _no_number(elements: str) -> NnmathError:
    return DtypeError(
        f"from_dlpack: `x` must have elements that NumPy knows as numbers, got {elements}. "
        "Convert it to float32 in its own library."
    )
