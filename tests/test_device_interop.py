"""The door for arrays of other libraries, on the host; `tests/cuda/test_interop_device.py` has devices."""

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import DeviceError, DtypeError, TraceError


class Other:
    """An array of another library; ``kind`` is the device that it names."""

    def __init__(self, data, kind=1):
        self.data, self.kind = data, kind

    def __dlpack_device__(self):
        return self.kind, 0

    def __dlpack__(self, **options):
        return self.data.__dlpack__(**options)


@pytest.mark.parametrize("kind", [1, 3], ids=["ordinary", "pinned"])
def test_host_memory_is_shared_with_numpy(kind):
    data = np.arange(6.0).reshape(2, 3)[:, ::2]
    y = nm.from_dlpack(Other(data, kind))
    assert type(y) is np.ndarray
    assert np.shares_memory(y, data)
    assert (y.strides, y.tolist()) == (data.strides, data.tolist())
    assert nm.from_dlpack(data, device="cpu", copy=False) is not None
    assert not np.shares_memory(nm.from_dlpack(Other(data, kind), copy=True), data)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (4, "OpenCL"),
        (8, "Metal"),
        (10, "ROCm"),
        (14, "oneAPI"),
        (99, "the device type 99 of DLPack"),
    ],
)
def test_memory_of_other_devices_is_refused(kind, name):
    with pytest.raises(DeviceError) as caught:
        nm.from_dlpack(Other(np.ones(3), kind))
    assert (
        str(caught.value)
        == f"from_dlpack: `x` must be on a CPU or a CUDA device, got an array on {name}."
    )


@pytest.mark.parametrize("x", [[1.0, 2.0], 2.0, None, "x", {"a": 1}])
def test_what_speaks_no_protocol_is_refused(x):
    with pytest.raises(DtypeError, match="must be an array with `__dlpack__` or `__cuda_array_int"):
        nm.from_dlpack(x)
    with pytest.raises(AttributeError, match="__dlpack"):
        nm.numpy.from_dlpack(x)


def test_a_traced_array_has_no_memory_to_share():
    with pytest.raises(TraceError, match="It would share memory that has lost its derivative"):
        nm.grad(lambda x: nm.from_dlpack(x).sum())(np.ones(3))


def test_a_mask_of_the_interface_of_cuda_arrays_is_refused():
    said = {"shape": (3,), "typestr": "<f8", "data": (64, False), "version": 3, "mask": object()}
    other = type("Masked", (), {"__cuda_array_interface__": said})()
    with pytest.raises(DtypeError, match="must be an array without a mask: it would be lost"):
        nm.from_dlpack(other)
