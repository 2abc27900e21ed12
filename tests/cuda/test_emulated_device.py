"""What the emulated device sees that a stand-in for CuPy could not: memory, copies, mixing, waiting."""

import os
import subprocess
import sys

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.device import backend_for, device_of, to_device
from nnmath_core.errors import DeviceError


def test_cupy_is_the_unmodified_wheel_on_two_devices(cp, device):
    assert cp.__version__ == "14.2.0"
    assert cp.cuda.runtime.getDeviceCount() == 2
    assert cp.cuda.Device(0).compute_capability == "80"


def test_new_memory_is_nan(cp, device):
    assert np.isnan(cp.asnumpy(cp.empty(5))).all()


def test_memory_is_given_back(cp, device):
    before = device.live_bytes(0)
    x = cp.ones(1000)
    assert device.live_bytes(0) == before + 8000
    del x
    assert device.live_bytes(0) == before


def test_copies_have_a_direction(cp, device):
    x, host = cp.ones(4), np.ones(4)
    copy = cp.cuda.runtime.memcpy
    copy(host.ctypes.data, x.data.ptr, 32, 2)
    for to, of, kind in [
        (host.ctypes.data, x.data.ptr, 1),
        (x.data.ptr, host.ctypes.data, 3),
        (host.ctypes.data, host.ctypes.data, 2),
    ]:
        with pytest.raises(RuntimeError, match=r"a copy .* between"):
            copy(to, of, 32, kind)
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="InvalidValue"):
        copy(x.data.ptr, host.ctypes.data, 40, 1)


def test_a_host_pointer_in_a_kernel_is_refused(cp, device):
    kernel = cp.RawKernel('extern "C" __global__ void f(float *y) { y[0] = 1; }', "f")
    with pytest.raises(
        RuntimeError, match="kernel f: a pointer argument is not memory of device 0"
    ):
        kernel((1,), (1,), (np.intp(np.ones(4).ctypes.data),))


def test_memory_of_another_device_in_a_kernel_is_refused(cp, device):
    with cp.cuda.Device(1):
        x = cp.ones(4, np.float32)
    kernel = cp.RawKernel('extern "C" __global__ void f(float *y) { y[0] = 1; }', "f")
    with pytest.raises(RuntimeError, match="not memory of device 0"):
        kernel((1,), (1,), (np.intp(x.data.ptr),))


def test_use_after_free_is_refused(cp, device):
    x = cp.ones(4, np.float32)
    address = np.intp(x.data.ptr)
    del x
    kernel = cp.RawKernel('extern "C" __global__ void f(float *y) { y[0] = 1; }', "f")
    with pytest.raises(RuntimeError, match="not memory of device 0"):
        kernel((1,), (1,), (address,))


def test_damage_before_an_array_is_found_when_it_is_freed(cp, device):
    x = cp.ones(3, np.float32)
    kernel = cp.RawKernel('extern "C" __global__ void f(float *y) { y[-1] = 1; }', "f")
    kernel((1,), (1,), (x,))
    del x
    assert device.faults == ["bytes before an array of 12 bytes on device 0 were overwritten"]
    device.faults.clear()


def test_the_host_cannot_follow_a_device_pointer(device):
    program = """
import ctypes, emulated
emulated.install()
import cupy
ctypes.c_double.from_address(cupy.ones(4).data.ptr).value
"""
    ended = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True)
    assert ended.returncode == -11  # SIGSEGV


def test_numpy_and_cupy_do_not_mix(cp, device):
    x = cp.ones(3)
    for mix in (
        lambda: x + np.ones(3),
        lambda: np.asarray(x),
        lambda: cp.where(x > 0, x, np.ones(3)),
    ):
        with pytest.raises(TypeError):
            mix()
    with pytest.raises(DeviceError, match="cuda:0"):
        nm.grad(lambda w: (w * np.ones(3)).sum())(x)


def test_a_numpy_scalar_promotes_and_a_python_number_does_not(cp, device):
    x = cp.ones(3, np.float32)
    assert (x * 2.0).dtype == np.float32
    assert (x * np.float64(2)).dtype == np.float64


def test_a_missing_stand_in_says_its_name(cp, device, capfd):
    with pytest.raises(Exception, match="INTERNAL_ERROR"):
        cp.random.RandomState(0).random_sample(3)
    assert "no stand-in for curand" in capfd.readouterr().err


# ------------------------------------------------------------------------------- two devices
def test_every_call_enters_its_device(cp):
    if cp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("two devices are needed")
    be = backend_for("cuda:1")
    x = be.from_host(np.eye(3))
    i = be.from_host(np.array([0, 2]))
    for y in (
        be.contract(x, x, spec=("ij", "jk", "ik")),
        be.index_get(x, (i,)),
        be.index_add((3, 3), float, (i,), x[:2]),
        be.index_put((3, 3), float, (i,), x[:2]),
        be.take(x, i, axis=0),
        be.take_along_axis(x, be.from_host(np.array([[0]])), axis=0),
        be.function("tanh")(x),
        be.function("linalg.inv")(x),
        be.function(lambda be, x: be.xp.square(x[0]))(x),
        be.xp.zeros(3),
        be.asarray([1.0]),
    ):
        assert str(device_of(y)) == "cuda:1"
    assert cp.cuda.runtime.getDevice() == 0


def test_cupy_itself_refuses_an_array_of_another_device(cp):
    if cp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("two devices are needed")
    x = backend_for("cuda:1").from_host(np.ones(3))
    with pytest.raises(ValueError, match="device"):
        cp.tanh(x)  # what the backend prevents


def test_gradients_on_the_second_device(cp):
    if cp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("two devices are needed")

    def f(w):
        return (nm.numpy.tanh(w @ w.T) * w[0, 0]).sum()

    w = np.random.default_rng(0).standard_normal((3, 3))
    got = nm.grad(f)(to_device(w, "cuda:1"))
    assert str(device_of(got)) == "cuda:1"
    np.testing.assert_allclose(cp.asnumpy(got), nm.grad(f)(w), rtol=1e-13)


def test_arrays_move_between_all_devices(cp):
    if cp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("two devices are needed")
    x = np.arange(3.0)
    here = x
    for name in ("cuda:1", "cuda:0", "cpu", "cuda:0", "cuda:1"):
        here = to_device((here, 2.0), name)[0]
        assert str(device_of(here)) == name
        assert to_device(here, name) is here
    np.testing.assert_array_equal(to_device(here, "cpu"), x)


# ------------------------------------------------------------------------------- waiting
WAITS = ("synchronize", "device to host", "host to device")


def waits(device):
    return {name: device.counters[name] for name in WAITS if device.counters[name]}


def test_a_training_step_waits_for_nothing(device):
    model = nm.nn.MLP.init((5, 8, 3), activation=nm.nn.gelu, rng=0, dtype=np.float32)
    rng = np.random.default_rng(0)
    x, y = (
        rng.standard_normal((16, 5)).astype(np.float32),
        rng.standard_normal((16, 3)).astype(np.float32),
    )
    model, x, y = to_device((model, x, y), "cuda:0")
    opt = nm.optim.adamw(1e-2, weight_decay=0.1)
    state = opt.init(model)
    slope = nm.grad(lambda m, x, y: ((m(x) - y) ** 2).mean())
    for _ in range(2):  # the first compiles
        device.counters.clear()
        model, state = opt.step(model, slope(model, x, y), state)
    assert waits(device) == {}


@pytest.mark.parametrize(
    "index",
    [
        lambda cp: (cp.asarray([0, 3]),),
        lambda cp: (slice(None), cp.asarray([[0], [-1]], np.int32)),
        lambda cp: (1, slice(2)),
        lambda cp: (slice(None, None, -1),),
    ],
)
def test_no_selection_waits(cp, device, index):
    be = backend_for("cuda:0")
    x, at = cp.ones((4, 3)), index(cp)
    for _ in range(2):
        device.counters.clear()
        y = be.index_get(x, at)
        be.index_add((4, 3), np.float32, at, y.astype(np.float32))
        be.index_put((4, 3), np.float32, at, y)
        if not isinstance(at[0], slice | int):
            be.take(x, at[0], axis=0)
    assert waits(device) == {}


@pytest.mark.parametrize("bad", [4, -5])
def test_an_index_out_of_range_is_refused(cp, bad):
    be = backend_for("cuda:0")
    x, host = cp.ones((4, 3)), np.array([0, bad])
    for i in (host, cp.asarray(host)):
        for select in (
            lambda i: be.index_get(x, (i,)),
            lambda i: be.index_get(x, (None, i, Ellipsis)),
            lambda i: be.index_add((4, 3), float, (i,), x[:2]),
            lambda i: be.index_put((4, 3), float, (i,), x[:2]),
            lambda i: be.take(x, i, axis=0),
        ):
            with pytest.raises(IndexError, match=f"index {bad} is out of bounds for axis 0 with"):
                to_device(
                    select(i), "cpu"
                )  # of an index array on the device the host hears when it waits
    be.index_get(x, (cp.asarray(host),))
    with pytest.raises(IndexError, match="before; what has been computed"):
        be.synchronize()
    be.synchronize()  # it has been said


def test_the_first_index_out_of_range_is_told_whatever_its_integers(cp, device):
    be = backend_for("cuda:0")
    for dtype in (np.int8, np.uint8, np.int32, np.int64):
        i = np.zeros(4099, dtype)
        i[1023] = 5
        be.take(cp.ones(5), cp.asarray(i)[::-1], axis=0)
        with pytest.raises(IndexError, match="index 5 is out of bounds for axis 0 with size 5"):
            be.to_host(cp.ones(1))
    be.take(cp.ones((5, 2)), cp.asarray(np.arange(-5, 5)), axis=0)
    be.synchronize()


def test_a_failed_factorisation_raises(cp):
    with pytest.raises(np.linalg.LinAlgError):
        backend_for("cuda:0").function("linalg.inv")(cp.zeros((2, 2)))
    with pytest.raises(np.linalg.LinAlgError):
        backend_for("cuda:0").function("linalg.cholesky")(-cp.eye(2))
