"""Device arrays of other libraries come in by both protocols without a copy or a wait; ours go out.

The other libraries are written here, as the protocols say: a producer whose memory is the device's, a consumer that
reads a capsule as C does. On a GPU PyTorch and JAX take part where they are installed.
"""

import ctypes
import os
import weakref

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.device import device_of, interop, to_device
from nnmath_core.errors import DeviceError, DtypeError, TraceError

REAL = os.environ.get("REAL_GPU", "") not in ("", "0")
DTYPES = (
    "bool",
    "int8",
    "uint16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
)
CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
CUDA, ROCM, MANAGED = 2, 10, 13


# ----------------------------------------------------------------------- a library that speaks DLPack
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)


EXPORTED = []  # what capsules point to, which C would free in its deleter


class Unversioned(ctypes.Structure):
    _fields_ = (
        ("tensor", interop._Tensor),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


class Tensor:
    """An array of another library: device memory, a shape, strides in entries."""

    def __init__(self, data, *, versioned=True, read_only=False, kind=CUDA, index=None, **dtype):
        self.data, self.versioned, self.read_only = data, versioned, read_only
        self.kind, self.index = kind, int(data.device.id) if index is None else index
        self.dtype = {
            "code": CODES[data.dtype.kind],
            "bits": 8 * data.dtype.itemsize,
            "lanes": 1,
        } | dtype
        self.asked, self.deleted = [], []

    def __dlpack_device__(self):
        return self.kind, self.index

    def __dlpack__(self, *, stream=None, **options):
        if not self.versioned and options:
            raise TypeError("__dlpack__() got an unexpected keyword argument 'max_version'")
        self.asked.append({"stream": stream, **options})
        n, step = self.data.ndim, self.data.dtype.itemsize
        shape = (ctypes.c_int64 * n)(*self.data.shape)
        strides = (ctypes.c_int64 * n)(*(s // step for s in self.data.strides))
        tensor = interop._Tensor(
            data=self.data.data.ptr, device_type=self.kind, device_id=self.index, ndim=n,
            shape=ctypes.addressof(shape), strides=ctypes.addressof(strides), **self.dtype,
        )  # fmt: skip
        delete = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(lambda p: self.deleted.append(p))
        deleter = ctypes.cast(delete, ctypes.c_void_p).value
        if self.versioned:
            managed = interop._Versioned(
                major=1, minor=0, deleter=deleter, flags=int(self.read_only), tensor=tensor
            )
        else:
            managed = Unversioned(tensor=tensor, deleter=deleter)
        EXPORTED.append((managed, shape, strides, delete))
        name = b"dltensor_versioned" if self.versioned else b"dltensor"
        return _new(ctypes.addressof(managed), name, None)


def views(x):
    yield from (x, x.T, x[::2, 1:], x[:, 0], x[:0], x[0, 0])


@pytest.mark.parametrize("versioned", [True, False], ids=["1.0", "before 1.0"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_device_arrays_come_in_without_a_copy_or_a_wait(device, cp, dtype, versioned):
    x = cp.asarray((np.arange(63).reshape(9, 7) % 5).astype(dtype))
    for v in views(x):
        other = Tensor(v, versioned=versioned)
        device.counters.clear()
        y = nm.from_dlpack(other)
        assert not {"malloc", "synchronize", "launch", "device to device"} & {*+device.counters}
        assert type(y) is cp.ndarray
        assert (y.data.ptr, y.shape, y.strides, y.dtype) == (
            v.data.ptr,
            v.shape,
            v.strides,
            v.dtype,
        )
        np.testing.assert_array_equal(cp.asnumpy(y), cp.asnumpy(v))
        assert other.deleted == []
        del y
        assert len(other.deleted) == 1  # the other library has its memory back


def test_the_producer_is_told_our_stream(cp):
    other = Tensor(cp.ones(3))
    nm.from_dlpack(other)
    with cp.cuda.Stream(non_blocking=True) as stream:
        nm.from_dlpack(other)
    old = Tensor(cp.ones(3), versioned=False)
    nm.from_dlpack(old)
    first = 2 if cp.cuda.stream.get_current_stream().ptr == 2 else 1
    assert other.asked == [
        {"stream": first, "max_version": (1, 0)},
        {"stream": stream.ptr, "max_version": (1, 0)},
    ]
    assert old.asked == [{"stream": first}]


def test_what_comes_in_is_differentiated_where_it_is(cp):
    x = nm.from_dlpack(Tensor(cp.arange(3.0)))
    g = nm.grad(lambda x: (x**3).sum())(x)
    assert device_of(g) == device_of(x)
    assert cp.asnumpy(g).tolist() == [0.0, 3.0, 12.0]
    assert type(nm.numpy.from_dlpack(Tensor(cp.arange(3.0)))) is cp.ndarray


def test_copies_are_made_when_they_are_asked_for_or_needed(cp):
    x = cp.arange(6.0).reshape(2, 3).T
    for other, copy, shared in [
        (Tensor(x), None, True),
        (Tensor(x), False, True),
        (Tensor(x), True, False),
        (Tensor(x, read_only=True), None, False),
        (Tensor(x, read_only=True), True, False),
    ]:
        y = nm.from_dlpack(other, copy=copy)
        assert (y.data.ptr == x.data.ptr) is shared
        assert y.strides == x.strides
        assert cp.asnumpy(y).tolist() == cp.asnumpy(x).tolist()
    with pytest.raises(DeviceError) as caught:
        nm.from_dlpack(Tensor(x, read_only=True), copy=False)
    assert str(caught.value) == (
        "from_dlpack: `x` is read-only memory on cuda:0, and CuPy's arrays can be written. It comes in as a copy, "
        "which `copy=False` forbids."
    )


def test_another_device_needs_a_copy(cp):
    x = Tensor(cp.arange(3.0))
    assert nm.from_dlpack(x, device="cuda:0").data.ptr == x.data.data.ptr
    y = nm.from_dlpack(x, device="cpu")
    assert type(y) is np.ndarray
    assert y.tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(DeviceError) as caught:
        nm.from_dlpack(x, device="cpu", copy=False)
    assert str(caught.value) == (
        "from_dlpack: `x` is on cuda:0 and cannot come to cpu without a copy, which `copy=False` forbids."
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"kind": ROCM},
            "from_dlpack: `x` must be on a CPU or a CUDA device, got an array on ROCm.",
        ),
        (
            {"kind": 99},
            "from_dlpack: `x` must be on a CPU or a CUDA device, got an array on the device type 99 of DLPack.",
        ),
        ({"index": 77}, "device: there is no cuda:77; this machine has {have}."),
    ],
)
def test_an_array_elsewhere_is_refused(cp, options, text):
    count = cp.cuda.runtime.getDeviceCount()
    have = "only cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
    other = Tensor(cp.ones(3), **options)
    with pytest.raises(DeviceError) as caught:
        nm.from_dlpack(other)
    assert str(caught.value) == text.format(have=have)
    assert other.asked == []  # before any work


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        ({"code": 4, "bits": 16}, "bfloat16"),
        ({"code": 2, "bits": 128}, "float128"),
        ({"code": 5, "bits": 32}, "complex32"),
        ({"code": 2, "bits": 32, "lanes": 4}, "float32x4"),
        ({"code": 10, "bits": 8}, "the type 10 of DLPack with bits 8"),
        ({"code": 6, "bits": 1}, "bool1"),
    ],
)
def test_elements_that_are_no_numbers_of_numpy_are_refused(cp, dtype, text):
    with pytest.raises(DtypeError) as caught:
        nm.from_dlpack(Tensor(cp.ones(3), **dtype))
    assert str(caught.value) == (
        f"from_dlpack: `x` must have elements that NumPy knows as numbers, got {text}. "
        "Convert it to float32 in its own library."
    )


def test_an_error_of_the_producer_passes(cp):
    class Refusing(Tensor):
        def __dlpack__(self, **options):
            raise BufferError("this tensor requires a gradient")

    with pytest.raises(BufferError, match="requires a gradient"):
        nm.from_dlpack(Refusing(cp.ones(3)))


def test_a_traced_device_array_does_not_go_out(cp):
    with pytest.raises(TraceError, match="__dlpack"):
        nm.grad(lambda x: nm.from_dlpack(x).sum())(cp.ones(3))


# --------------------------------------------------------- a library with __cuda_array_interface__ alone
class Interface:
    def __init__(self, data, /, *, read_only=False, **more):
        self.data = data
        self.__cuda_array_interface__ = {
            "version": 3,
            "shape": data.shape,
            "typestr": data.dtype.str,
            "data": (data.data.ptr if data.size else 0, read_only),
            "strides": None if data.flags.c_contiguous else data.strides,
        } | more


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_interface_of_cuda_arrays_comes_in_without_a_copy(device, cp, dtype):
    x = cp.asarray((np.arange(63).reshape(9, 7) % 5).astype(dtype))
    for v in views(x):
        other = Interface(v)
        ends = weakref.ref(other)
        device.counters.clear()
        y = nm.from_dlpack(other)
        assert not {"malloc", "synchronize", "launch", "device to device"} & {*+device.counters}
        assert (y.shape, y.dtype) == (v.shape, v.dtype)
        if v.size:
            assert (y.data.ptr, y.strides) == (v.data.ptr, v.strides)
        np.testing.assert_array_equal(cp.asnumpy(y), cp.asnumpy(v))
        del other
        assert ends() is not None  # whoever has the array keeps its owner
        del y
        assert ends() is None


@pytest.mark.parametrize("stream", [1, 2, "own"])
def test_our_stream_waits_for_that_of_the_producer(device, cp, stream):
    source = cp.cuda.Stream(non_blocking=True)
    number = source.ptr if stream == "own" else stream
    x = cp.ones(3)
    device.history.clear()
    device.counters.clear()
    with cp.cuda.Stream(non_blocking=True) as ours:
        nm.from_dlpack(Interface(x, stream=number))
    (_, recorded, event), waited = device.history
    assert (recorded, waited) == (number, ("wait", ours.ptr, event))
    assert device.counters["synchronize"] == 0


def test_a_read_only_array_of_the_interface_is_copied(cp):
    x = cp.arange(6.0).reshape(2, 3).T
    assert nm.from_dlpack(Interface(x)).data.ptr == x.data.ptr
    for y in (
        nm.from_dlpack(Interface(x, read_only=True)),
        nm.from_dlpack(Interface(x), copy=True),
    ):
        assert y.data.ptr != x.data.ptr
        assert cp.asnumpy(y).tolist() == cp.asnumpy(x).tolist()
    with pytest.raises(DeviceError, match="is read-only memory on cuda:0"):
        nm.from_dlpack(Interface(x, read_only=True), copy=False)


@pytest.mark.parametrize(
    ("more", "error", "text"),
    [
        (
            {"mask": object()},
            DtypeError,
            "must be an array without a mask: it would be lost. Fill it",
        ),
        ({"typestr": "<V2"}, DtypeError, "elements that NumPy knows as numbers, got <V2"),
        ({"typestr": ">f8"}, DtypeError, "elements that NumPy knows as numbers, got >f8"),
        ({"typestr": "<f16"}, DtypeError, "elements that NumPy knows as numbers, got <f16"),
    ],
)
def test_the_interface_of_what_cannot_be_taken_is_refused(cp, more, error, text):
    with pytest.raises(error, match=text):
        nm.from_dlpack(Interface(cp.ones(3), **more))


def test_host_memory_under_the_interface_is_refused(cp):
    host = np.ones(3)
    with pytest.raises(
        DeviceError, match="must be on a CUDA device, got a pointer to other memory"
    ):
        nm.from_dlpack(Interface(cp.ones(3), data=(host.ctypes.data, False)))


def test_moving_says_how_to_convert(cp):
    for other in (Tensor(cp.ones(3)), Interface(cp.ones(3))):
        with pytest.raises(DtypeError, match=r"Convert it with `nnmath_core\.from_dlpack`"):
            to_device({"w": other}, "cuda:0")


# --------------------------------------------------------------------------------- the second device
def test_arrays_of_the_second_device_come_in_there(device, cp):
    if cp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("two devices are needed")
    x = to_device(np.arange(6.0).reshape(2, 3), "cuda:1")
    for other in (Tensor(x), Interface(x), Interface(x, stream=1), Tensor(x, read_only=True), x):
        for copy in (None, True):
            y = nm.from_dlpack(other, copy=copy)
            assert str(device_of(y)) == "cuda:1"
            assert to_device(y, "cpu").tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert str(device_of(nm.from_dlpack(Interface(x), device="cuda:0"))) == "cuda:0"
    assert cp.cuda.runtime.getDevice() == 0


# ---------------------------------------------------------------------------------------- going out
class Consumed:
    """What a consumer written in C finds in a capsule."""

    def __init__(self, capsule, name=b"dltensor_versioned"):
        managed = interop._Versioned.from_address(interop._pointer(capsule, name))
        t = managed.tensor
        self.pointer, self.kind, self.index = t.data + t.byte_offset, t.device_type, t.device_id
        self.shape = tuple((ctypes.c_int64 * t.ndim).from_address(t.shape)) if t.ndim else ()
        self.strides = tuple((ctypes.c_int64 * t.ndim).from_address(t.strides)) if t.ndim else ()
        self.code, self.bits, self.lanes = t.code, t.bits, t.lanes
        self.read_only = bool(managed.flags & 1)


@pytest.mark.parametrize("name", ["cuda:0", "cuda:1"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_go_out_with_pointer_shape_strides_and_device(device, cp, dtype, name):
    if cp.cuda.runtime.getDeviceCount() <= int(name[-1]):
        pytest.skip("two devices are needed")
    x = to_device(np.arange(6, dtype=dtype).reshape(2, 3), name)
    g = nm.grad(lambda x: (x**2).sum())(x)
    for y in (g, g.T, g[:, 1]):
        with cp.cuda.Device(int(name[-1])):
            theirs, ours = cp.cuda.Stream(non_blocking=True), cp.cuda.get_current_stream()
            device.history.clear()
            capsule = y.__dlpack__(stream=theirs.ptr, max_version=(1, 0))
        seen = Consumed(capsule)
        assert (seen.pointer, seen.shape) == (y.data.ptr, y.shape)
        assert seen.strides == tuple(s // y.itemsize for s in y.strides)
        assert (seen.code, seen.bits, seen.lanes) == (2, 8 * y.itemsize, 1)
        assert (seen.kind, seen.index, seen.read_only) == (CUDA, int(name[-1]), False)
        assert y.__dlpack_device__() == (CUDA, int(name[-1]))
        (_, recorded, event), waited = device.history  # theirs waits for what made the array
        assert (recorded, waited) == (ours.ptr, ("wait", theirs.ptr, event))
        said = y.__cuda_array_interface__
        assert said["version"] == 3
        assert said["data"] == (y.data.ptr, False)
        assert said["shape"] == y.shape
        assert said["strides"] in (y.strides, None if y.flags.c_contiguous else y.strides)
        assert np.dtype(said["typestr"]) == dtype


def test_the_interface_going_out_names_the_stream_that_makes_the_array(device, cp):
    x = cp.ones(3)
    with cp.cuda.Stream(non_blocking=True) as stream:
        y = nm.numpy.exp(x)
        assert y.__cuda_array_interface__["stream"] == stream.ptr


# --------------------------------------------------------------------------- PyTorch and JAX, on a GPU
@pytest.mark.skipif(not REAL, reason="PyTorch and JAX need a GPU of their own: REAL_GPU=1")
def test_tensors_of_pytorch_on_a_gpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    t = torch.arange(6, dtype=torch.float64, device="cuda").reshape(2, 3).T
    x = nm.from_dlpack(t)
    assert (x.data.ptr, x.shape) == (t.data_ptr(), tuple(t.shape))
    assert x.strides == tuple(8 * s for s in t.stride())
    g = nm.grad(lambda x: (x**2).sum())(x)
    back = torch.from_dlpack(g)
    assert back.data_ptr() == g.data.ptr
    assert torch.equal(back, 2 * t)
    with pytest.raises(DtypeError, match="bfloat16"):
        nm.from_dlpack(t.to(torch.bfloat16))
    pinned = nm.from_dlpack(torch.ones(3).pin_memory())
    assert type(pinned) is np.ndarray


@pytest.mark.skipif(not REAL, reason="PyTorch and JAX need a GPU of their own: REAL_GPU=1")
def test_arrays_of_jax_on_a_gpu():
    jax = pytest.importorskip("jax")
    if jax.default_backend() != "gpu":
        pytest.skip("this JAX has no CUDA")
    a = jax.numpy.arange(6.0).reshape(2, 3)
    x = nm.from_dlpack(a)
    g = nm.grad(lambda x: (x**2).sum())(x)
    x *= 0  # JAX's arrays do not change: what comes in is a copy where they say so
    assert a.sum() == 15.0
    back = jax.dlpack.from_dlpack(g)
    assert jax.numpy.array_equal(back, 2 * a)
