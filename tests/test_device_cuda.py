"""The Python side of the CUDA backend, without CuPy and without a GPU.

A stand-in (a fake module) takes CuPy's place in ``sys.modules``. With it are tested what is missing
on a machine and how it is said, that a device is left after an error, and what a launch checks. That
the names and keywords exist in the real CuPy is the business of ``test_cuda_surface.py``; what the
real CuPy does with them, of ``test_gpu.py`` and ``tests/cuda`` (docs/gpu-testing.md).
"""

import ctypes
import importlib.abc
import sys
import types

import numpy as np
import pytest

from nnmath_core.device import (
    CPU,
    CudaBackend,
    Device,
    backend_for,
    backend_of,
    default_device,
    device,
    devices,
    dispatch,
    driver,
    entering,
    launch,
    synchronize,
    to_device,
)
from nnmath_core.errors import DeviceError, DtypeError, ShapeError


class StandInError(RuntimeError):
    """In place of CUDARuntimeError, whose number is `status`."""

    def __init__(self, status):
        super().__init__(f"cudaError {status}")
        self.status = status


class Runtime:
    """One process's CUDA: versions, devices, the current device, what has been done."""

    CUDARuntimeError = StandInError
    is_hip = False

    def __init__(self, *, count=2, driver=13000, built=13000, status=None):
        self.count, self.driver, self.built, self.status = count, driver, built, status
        self.current, self.log = [0], []

    def getDeviceCount(self):
        if self.status is not None:
            raise StandInError(self.status)
        return self.count

    def driverGetVersion(self):
        return self.driver

    def runtimeGetVersion(self):
        return self.built


class Array:
    """A device array: host memory that may be touched only through the stand-in."""

    def __init__(self, cupy, host, index):
        self.cupy, self.host, self.device = cupy, host, types.SimpleNamespace(id=index)

    dtype = property(lambda self: self.host.dtype)
    shape = property(lambda self: self.host.shape)
    strides = property(lambda self: self.host.strides)
    ndim = property(lambda self: self.host.ndim)
    size = property(lambda self: self.host.size)
    flags = property(lambda self: self.host.flags)
    nbytes = property(lambda self: self.host.nbytes)
    data = property(lambda self: Pointer(self, 0))

    def __getitem__(self, index):
        return self.cupy.call("getitem", lambda x, i: x[i], (self, index), {})


class Pointer:
    """An address in a device array."""

    def __init__(self, array, offset):
        self.array, self.offset = array, offset

    address = property(lambda self: self.array.host.ctypes.data + self.offset)

    def __add__(self, offset):
        return Pointer(self.array, self.offset + offset)

    def copy_from_host_async(self, address, size, stream):
        self._copy("to device", address, size, stream)

    def copy_from_device_async(self, source, size, stream):
        self._copy("across", source.address, size, stream)

    def _copy(self, what, address, size, stream):
        runtime = self.array.cupy.runtime
        assert runtime.current[-1] == stream.device == self.array.device.id
        runtime.log.append((what, stream.device))
        ctypes.memmove(self.address, address, size)


class Stream:
    """The one stream of a device; what is queued is done at once."""

    def __init__(self, runtime):
        self.runtime, self.device = runtime, runtime.current[-1]

    def wait_event(self, event):
        self.runtime.log.append(("wait", self.device, event.device))

    def synchronize(self):
        self.runtime.log.append(("synchronize stream", self.device))


class StandIn(types.ModuleType):
    """The module `cupy`: NumPy's functions on device arrays, with a current device."""

    def __init__(self, runtime, archs=("75", "90"), capability="80", version="14.2.0"):
        super().__init__("cupy")
        self.__version__, self.runtime, self.ndarray = version, runtime, Array
        module = self

        class CudaDevice:
            def __init__(self, index):
                self.id, self.compute_capability = index, capability
                self.attributes = {"MultiProcessorCount": 2}

            def __enter__(self):
                runtime.current.append(self.id)

            def __exit__(self, *error):
                runtime.current.pop()

            def synchronize(self):
                runtime.log.append(("synchronize", self.id))

        class RawModule:
            def __init__(self, *, code, name_expressions):
                runtime.log.append(("compile", name_expressions))

            def get_function(self, name):
                return lambda grid, block, args: runtime.log.append(
                    ("launch", name, grid, block, args, runtime.current[-1])
                )

        class Event:
            done = True

            def __init__(self, *, disable_timing):
                assert disable_timing

            def record(self, stream):
                self.device = stream.device

        self.RawModule = RawModule
        self.cuda = types.SimpleNamespace(
            runtime=runtime,
            Device=CudaDevice,
            Event=Event,
            get_current_stream=lambda: Stream(runtime),
            nvrtc=types.SimpleNamespace(getSupportedArchs=lambda: archs),
            cublas=types.SimpleNamespace(),
        )
        self.linalg = types.ModuleType("cupy.linalg")
        self.linalg.inv = lambda x: module.call("inv", np.linalg.inv, (x,), {})

    def __getattr__(self, name):
        function = getattr(np, name)
        if not callable(function) or isinstance(function, type):
            return function
        return lambda *args, **keywords: self.call(name, function, args, keywords)

    def call(self, name, function, args, keywords):
        here = self.runtime.current[-1]

        def host(x):
            if isinstance(x, tuple):
                return tuple(map(host, x))
            if not isinstance(x, Array):
                return x
            if x.device.id != here:
                raise ValueError(f"{name}: array on device {x.device.id}, current device {here}")
            return x.host

        keywords.pop("blocking", None)
        self.runtime.log.append((name, here))
        return Array(self, np.asarray(function(*map(host, args), **keywords)), here)

    def asnumpy(self, x, *, order="C", blocking=True):
        self.runtime.log.append(("to host", x.device.id))
        return np.array(x.host)


@pytest.fixture
def stand_in(monkeypatch):
    """Return a function that puts a stand-in for CuPy in its place until the test ends."""
    states = []

    class ErrState:
        def __init__(self, *, linalg):
            self.linalg = linalg

        def __enter__(self):
            states.append(self.linalg)

        def __exit__(self, *error):
            states.pop()

    def install(**options):
        runtime = Runtime(
            **{k: options.pop(k) for k in [*options] if k in Runtime.__init__.__kwdefaults__}
        )
        cupy = StandIn(runtime, **options)
        cupyx = types.ModuleType("cupyx")
        cupyx.errstate, cupyx.states = ErrState, states
        cupyx.empty_pinned = np.empty
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        monkeypatch.setitem(sys.modules, "cupyx", cupyx)
        return cupy

    forget()
    yield install
    forget()


def forget():
    for cached in (driver.usable_cupy, driver.require_device, dispatch._cuda, launch.family_of):
        cached.cache_clear()


# ----------------------------------------------------------------------- what is missing


def said(name="cuda"):
    with pytest.raises(DeviceError) as caught:
        device(name)
    assert devices() == (CPU,)
    return str(caught.value)


def test_without_cupy_the_error_says_what_to_install(monkeypatch, stand_in):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert said() == f"device: CuPy is not installed. {BOTH}"


def test_a_broken_cupy_is_told_apart_from_a_missing_one(monkeypatch, stand_in):
    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name == "cupy":
                raise ImportError(
                    "\n====\nFailed to import CuPy.\n\nlibcudart.so: not found\n====\n"
                )

    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    assert said() == (
        "device: CuPy is installed but cannot be imported (ImportError: libcudart.so: not found). "
        f"Its wheel must fit the CUDA version and only one CuPy may be installed: remove every `cupy` package. {BOTH}"
    )


BOTH = (
    'Install it with `pip install "nnmath-core[cuda13]"` (NVIDIA driver 580 or newer) or '
    '`pip install "nnmath-core[cuda12]"` (525 or newer).'
)
OLDER = (
    ', or exchange the wheel: `pip uninstall cupy-cuda13x` and `pip install "nnmath-core[cuda12]"`.'
)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"version": "13.6.0"}, f"CuPy 14 or newer is needed, got 13.6.0. {BOTH}"),
        (
            {"status": 35, "driver": 0},
            "CuPy 14.2.0 is built for CUDA 13 and finds no NVIDIA driver. Install the driver of the GPU, or "
            'use `device("cpu")`.',
        ),
        (
            {"status": 35, "driver": 12040},
            "CuPy 14.2.0 is built for CUDA 13 and the NVIDIA driver reaches only CUDA 12.4. Update the driver"
            + OLDER,
        ),
        (
            {"status": 35, "driver": 11080, "built": 12090},
            "CuPy 14.2.0 is built for CUDA 12 and the NVIDIA driver reaches only CUDA 11.8. Update the driver.",
        ),
        (
            {"status": 100},
            "the NVIDIA driver shows no GPU. CUDA_VISIBLE_DEVICES is '-1'. Use `device(\"cpu\")`.",
        ),
        (
            {"count": 0},
            "the NVIDIA driver shows no GPU. CUDA_VISIBLE_DEVICES is '-1'. Use `device(\"cpu\")`.",
        ),
        ({"status": 999}, "the CUDA driver does not start: cudaError 999."),
        (
            {"capability": "70"},
            "cuda:0 has compute capability 7.0 and CUDA 13 begins at 7.5. Use a newer GPU" + OLDER,
        ),
        (
            {"capability": "35", "built": 12090, "archs": ("50", "90")},
            "cuda:0 has compute capability 3.5 and CUDA 12 begins at 5.0. Use a newer GPU.",
        ),
    ],
)
def test_what_is_missing_is_said(monkeypatch, stand_in, options, text):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    stand_in(**options)
    assert said() == f"device: {text}"


def test_without_devices_and_without_a_choice_of_them_nothing_is_said_of_the_choice(
    monkeypatch, stand_in
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    stand_in(count=0)
    assert said() == 'device: the NVIDIA driver shows no GPU. Use `device("cpu")`.'


def absent():
    """Return a namespace whose libraries are not on the machine: CuPy loads them when they are asked for."""

    class Cuda(types.SimpleNamespace):
        def __getattr__(self, name):
            raise ImportError(f"lib{name}.so.13: cannot open shared object file\nand more")

    return Cuda


@pytest.mark.parametrize(("library", "shown"), [("nvrtc", "NVRTC"), ("cublas", "cuBLAS")])
def test_a_missing_cuda_library_is_found_before_any_work(stand_in, library, shown):
    cupy = stand_in()
    there = {k: v for k, v in vars(cupy.cuda).items() if k != library}
    cupy.cuda = absent()(**there)
    assert said() == (
        f"device: CuPy 14.2.0 cannot load {shown} of CUDA 13 (lib{library}.so.13: cannot open shared object file). "
        'Install the CUDA libraries: `pip install "cupy-cuda13x[ctk]"`.'
    )


def test_a_missing_dependency_of_cupy_is_not_a_missing_cupy(monkeypatch, stand_in):
    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name == "cupy":
                raise ModuleNotFoundError(
                    "No module named 'cuda.pathfinder'", name="cuda.pathfinder"
                )

    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    assert said() == (
        "device: CuPy is installed but cannot be imported (ModuleNotFoundError: No module named 'cuda.pathfinder'). "
        f"Its wheel must fit the CUDA version and only one CuPy may be installed: remove every `cupy` package. {BOTH}"
    )


def test_rocm_is_refused(stand_in):
    stand_in().cuda.runtime.is_hip = True
    assert said() == f"device: this CuPy is built for ROCm and NVIDIA CUDA is needed. {BOTH}"


def test_an_index_beyond_the_devices_is_refused(stand_in):
    stand_in()
    assert devices() == (CPU, Device("cuda", 0), Device("cuda", 1))
    with pytest.raises(DeviceError, match="there is no cuda:2; this machine has cuda:0 to cuda:1"):
        device("cuda:2")


def test_a_failure_is_not_remembered(stand_in):
    stand_in(count=0)
    assert "shows no GPU" in said()
    stand_in(count=1)
    assert device("cuda") == Device("cuda", 0)
    with pytest.raises(DeviceError, match="there is no cuda:1; this machine has only cuda:0"):
        device("cuda:1")


# -------------------------------------------------------------------- entering the device


def test_cuda_is_device_0_whatever_device_is_current(stand_in):
    cupy = stand_in()
    with cupy.cuda.Device(1), default_device("cuda") as d:
        assert d == Device("cuda", 0)


def test_the_device_is_left_after_an_error(stand_in):
    cupy = stand_in()
    be = backend_for("cuda:1")
    with pytest.raises(np.linalg.LinAlgError):
        be.function("linalg.inv")(be.from_host(np.zeros((2, 2))))
    assert cupy.runtime.current == [0]
    assert sys.modules["cupyx"].states == []


def test_functions_enter_the_device_of_their_first_argument_that_has_one(stand_in):
    cupy = stand_in()
    x = backend_for("cuda:1").from_host(np.ones(2))

    @entering
    def where(*args, **keywords):
        """Say which device is current."""
        if keywords.get("fails"):
            raise KeyError
        return cupy.runtime.current[-1]

    assert where.__name__ == "where"
    assert where.__doc__ == "Say which device is current."
    assert where(x) == where(2.0, x) == where([x, x]) == where(1, key=x) == 1
    assert where() == where(2.0, np.ones(2), [], "text") == 0
    with pytest.raises(KeyError):
        where(x, fails=True)
    assert cupy.runtime.current == [0]


def test_factorisations_are_told_to_raise(stand_in):
    cupy = stand_in()
    be, seen = backend_for("cuda"), []
    cupy.linalg.inv = lambda x: seen.append(list(sys.modules["cupyx"].states))
    cupy.tanh = cupy.linalg.inv
    be.xp.linalg.inv(None)
    be.function("linalg.inv")(None)
    be.function(lambda be, x: be.xp.linalg.inv(x))(None)
    be.xp.tanh(None)
    assert seen == [["raise"], ["raise"], ["raise"], []]


def test_the_namespace_gives_classes_and_constants_as_they_are(stand_in):
    cupy = stand_in()
    xp = backend_for("cuda").xp
    assert xp.ndarray is cupy.ndarray
    assert xp.float32 is np.float32
    assert xp.pi is np.pi
    assert xp.tanh is xp.tanh
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = xp.no_such_name


# ---------------------------------------------------------------------- mixing and moving


def test_mixed_devices_are_refused_and_nothing_is_moved(stand_in):
    cupy = stand_in()
    x, y = np.ones(2), backend_for("cuda:1").from_host(np.ones(2))
    z = backend_for("cuda:0").from_host(np.ones(2))
    cupy.runtime.log.clear()
    with pytest.raises(DeviceError, match=r"add: `y` must be on cpu as `x` is, got cuda:1\."):
        backend_of(x, y, who="add", names=("x", "y"))
    with pytest.raises(
        DeviceError, match=r"argument 2 must be on cuda:1 as argument 1 is, got cuda:0"
    ):
        backend_of(2.0, y, z)
    with pytest.raises(
        DeviceError, match="asarray: `x` must be on cuda:1, got a float64 array of sh"
    ):
        backend_for("cuda:1").asarray(z)
    with pytest.raises(DeviceError, match=r"on cpu\. Move it: `to_device\(x, \"cuda:1\"\)`"):
        backend_for("cuda:1").asarray(x)
    assert cupy.runtime.log == []
    assert backend_of(y, np.float32(2), 3) is backend_for("cuda:1")


@pytest.mark.parametrize(
    ("leaf", "words"),
    [
        (np.ma.ones(2), r"its mask would be lost\. Put values where the mask is: `x\.filled"),
        (np.array([None]), "it holds object elements"),
        (np.array(["a"]), "it holds <U1 elements"),
        (np.ones(2, np.longdouble), "it holds (float128|longdouble) elements"),
    ],
)
def test_to_device_refuses_what_a_gpu_cannot_hold(stand_in, leaf, words):
    cupy = stand_in()
    with pytest.raises(DtypeError, match=r"`tree\['x'\]\[1\]` cannot be moved to cuda:0: " + words):
        to_device({"w": np.ones(2), "x": [1, leaf]}, "cuda")
    assert cupy.runtime.log == []  # the first leaf has not been moved either


def test_synchronize_waits_for_its_device(stand_in):
    cupy = stand_in()
    synchronize("cuda:1")
    assert cupy.runtime.log == [("synchronize", 1)]


# -------------------------------------------------------------------------------- launches

SOURCE = """
// comment with __global__ void ghost(int x)
template <typename real_t>
__global__ void scale(long long n, real_t *__restrict__ y, const real_t *__restrict__ x, real_t a,
                      int k, const unsigned int *mask) { }
template<typename real_t> __global__ void __launch_bounds__(256) fill(long long n, real_t *y) {}
"""


def family(stand_in, source=SOURCE):
    cupy = stand_in()
    return cupy, launch.Family(cupy, 1, "demo", source)


def device_array(cupy, host, index=1):
    with cupy.cuda.Device(index):
        return cupy.asarray(host)


def test_signatures_are_read_from_the_source():
    found = launch.read_signatures(SOURCE)
    assert [*found] == ["scale", "fill"]
    assert [p.name for p in found["scale"]] == ["y", "x", "a", "k", "mask"]
    assert found["scale"][1] == launch.Parameter("x", "real_t", is_array=True, is_const=True)
    assert found["scale"][4] == launch.Parameter(
        "mask", "unsigned int", is_array=True, is_const=True
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("int n, real_t *y", "its first parameter must be `long long n`"),
        ("long long n, half *y", "parameter `y` has the unknown type 'half'"),
    ],
)
def test_a_signature_that_cannot_be_launched_is_refused(text, words):
    with pytest.raises(DtypeError, match=words):
        launch.read_signatures(f"template <typename real_t> __global__ void f({text}) {{}}")


def test_template_names_are_computed_and_compiled_once(stand_in):
    cupy, kernels = family(stand_in)
    names = ("scale<float>", "scale<double>", "fill<float>", "fill<double>")
    assert cupy.runtime.log == [("compile", names)]
    y = device_array(cupy, np.ones(2))
    kernels.launch("fill", 2, (y,))
    kernels.launch("fill", 2, (y,))
    assert sum(entry[0] == "compile" for entry in cupy.runtime.log) == 1


@pytest.mark.parametrize(
    ("dtype", "name"), [(np.float32, "scale<float>"), (np.float64, "scale<double>")]
)
def test_numbers_become_numbers_of_the_parameter(stand_in, dtype, name):
    cupy, kernels = family(stand_in)
    y, x = (device_array(cupy, np.ones(2, dtype)) for _ in range(2))
    mask = device_array(cupy, np.ones(2, np.uint32))
    kernels.launch("scale", 2, (y, x, 0.1, 3, mask))
    _, expression, grid, block, (n, *args), _ = cupy.runtime.log[-1]
    assert (expression, grid, block) == (name, (1,), (256,))
    assert (type(n), n) == (np.int64, 2)
    assert args[:2] == [y, x]
    assert [type(a) for a in args[2:4]] == [dtype, np.int32]
    assert args[2] == dtype(0.1)


def test_the_grid_grows_with_the_size_and_ends(stand_in):
    cupy, kernels = family(stand_in)
    y = device_array(cupy, np.ones(2))
    grids = []
    for n in (1, 256, 257, 10**6, 2**40):
        kernels.launch("fill", n, (y,))
        grids.append(cupy.runtime.log[-1][2][0])
    assert grids == [1, 1, 2, 64, 64]  # 32 blocks on each of the two multiprocessors
    count = len(cupy.runtime.log)
    kernels.launch("fill", 0, (y,))
    assert len(cupy.runtime.log) == count


def test_a_kernel_that_counts_blocks_gets_as_many(stand_in):
    source = "template <typename real_t> __global__ void rows(long long blocks, real_t *y) {}"
    assert launch.block_kernels(SOURCE + source) == {"rows"}
    cupy, kernels = family(stand_in, source)
    y = device_array(cupy, np.ones(2))
    grids = []
    for n in (1, 63, 64, 10**6):
        kernels.launch("rows", n, (y,))
        grids.append(cupy.runtime.log[-1][2][0])
    assert grids == [1, 63, 64, 64]


def test_an_included_text_stands_in_its_place():
    text = launch.read_text("vector.cuh")
    assert launch.expanded('a\n#include "vector.cuh"\nb') == f"a\n{text}\nb"
    assert launch.expanded("// #include <x.h>\n") == "// #include <x.h>\n"
    assert "#include" not in launch.read_source("optim")


def test_a_wrong_argument_is_refused_before_the_launch(stand_in):
    cupy, kernels = family(stand_in)
    y = device_array(cupy, np.ones((2, 2)))
    mask = device_array(cupy, np.ones(2, np.uint32))
    count = len(cupy.runtime.log)

    def refused(error, words, args, kernel="scale"):
        with pytest.raises(error, match=words):
            kernels.launch(kernel, 4, args)

    refused(
        DtypeError, r"demo\.ghost: no such kernel; demo\.cu has \['scale', 'fill'\]", (), "ghost"
    )
    refused(ShapeError, "takes 5 arguments after n, got 2", (y, y))
    refused(DtypeError, "`x` must be float64, got uint32", (y, mask, 0.1, 3, mask))
    refused(
        DtypeError, "`y` must be a float32 or float64 array, got uint32", (mask, y, 0.1, 3, mask)
    )
    refused(DtypeError, "`y` must be a float32 or float64 array, got int", (1, y, 0.1, 3, mask))
    refused(DeviceError, "`x` must be an array on cuda:1, got ndarray", (y, np.ones(4), 1, 3, mask))
    refused(DtypeError, "`a` must be a number, got an array", (y, y, np.ones(1), 3, mask))
    refused(DtypeError, "`k` must be an integer, got 0.5", (y, y, 0.1, 0.5, mask))
    other = Array(cupy, np.ones((2, 2)), 0)
    refused(DeviceError, "`x` must be on cuda:1, got cuda:0", (y, other, 0.1, 3, mask))
    turned = Array(cupy, np.ones((2, 3)).T, 1)
    refused(ShapeError, "`x` must be C-contiguous", (y, turned, 0.1, 3, mask))
    assert len(cupy.runtime.log) == count


def test_an_optimizer_step_launches_its_kernel_on_its_device(stand_in):
    cupy = stand_in()
    be = backend_for("cuda:1")
    arrays = [be.from_host(np.ones((2, 3), np.float32)) for _ in range(4)]
    step = {"lr": 0.1, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "c1": 0.1, "c2": 0.001}
    be.adamw_step(*arrays, **step, decay=0.01)
    _, name, _, _, (n, *args), place = cupy.runtime.log[-1]
    assert (name, n, place) == ("adamw_step<float>", 6, 1)
    assert args[:4] == arrays
    # one minus beta is rounded once: float32(1) - float32(0.999) is off by 1e-5 of itself
    gains = [np.float32(1 - 0.9), np.float32(1 - 0.999)]
    expected = [0.1, *gains, 1e-8, 0.01, 0.1, 0.001]
    assert args[4:] == [np.float32(value) for value in expected]
    assert all(type(value) is np.float32 for value in args[4:])
    be.adam_step(*arrays, **step)
    assert cupy.runtime.log[-1][1] == "adam_step<float>"
    short = be.from_host(np.ones((2, 2), np.float32))
    with pytest.raises(
        ShapeError, match=r"adam_step: `g` must be of shape \(2, 3\) as `w` is, got"
    ):
        be.adam_step(*arrays[:3], short, **step)


def test_a_backend_says_which_device_it_is(stand_in):
    stand_in()
    assert repr(backend_for("cuda:1")) == "CudaBackend('cuda:1')"
    assert isinstance(backend_for("cuda"), CudaBackend)
    assert "cuda" not in repr(backend_for("cpu"))
