"""Every CUDA twin: the same kernels and arguments as its C family, and accepted by NVRTC.

NVRTC is the compiler that CuPy uses on the user's machine. Its wheel needs no GPU, and it refuses
what g++ and nvcc accept (there are no host headers: INFINITY is undefined), so each twin is
compiled with it, with CuPy's options, for the oldest architecture it supports and a recent one.
"""

import ctypes
import importlib.resources
import importlib.util
import re
import sys
from pathlib import Path

import pytest

from nnmath_core.device.launch import read_signatures

SOURCES = Path(__file__).parents[1] / "src" / "_ext"
FAMILIES = sorted(path.parent.name for path in SOURCES.glob("*/*.def") if path.name != "kinds.def")
TWINS = sorted(path.stem for path in SOURCES.glob("*/*.cu"))
ARCHITECTURES = ["sm_75", "sm_90"]
CUPY_OPTIONS = ["--std=c++17", "-ftz=true", "--device-as-default-execution-space"]

# Families without a twin, and what stands in for it on a device.
HOST_ONLY = {
    "elementwise": "small arrays on the host; device arrays go through CuPy's ufuncs",
    "vector": "the loops of Plans, which run on the host; device arrays go through CuPy's ufuncs",
    "linalg": "A^T A x in one pass over rows; on a device two products by cuBLAS",
    "gemm": "the products of Plans, which run on the host; device arrays go through cuBLAS",
}

# Twins of whole instructions of Plans, whose kernels on the host are the steps between two products of BLAS.
OTHER_KERNELS = {"attention": ["attention", "attention_pull_q", "attention_pull_kv"]}

# Twins of loops that are Cython's, or of none: their kernels are read from the source itself.
DEVICE_ONLY = {
    "index": "index arrays on the device are looked at there; the host looks at its own",
    "iterations": "the steps of iterations, which are nogil Cython over BLAS on the host",
}


def kernels_of(family):
    """Map the kernels of a .def to their arguments, as (C type with REAL, name)."""
    text = (SOURCES / family / f"{family}.def").read_text()
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    rows = re.findall(r"^K\((\w+),\s*\(([^)]*)\)\)", text, flags=re.M)
    return {name: [_argument(part) for part in arguments.split(",")] for name, arguments in rows}


def _argument(text):
    *kind, name = re.findall(r"[A-Za-z_]\w*|\*", text)
    return " ".join(kind), name


def twin_of(family):
    """Return the installed CUDA source of a family."""
    return importlib.resources.files("nnmath_core._ext").joinpath(f"{family}.cu").read_text()


def test_every_family_has_a_twin_or_a_reason():
    assert set(TWINS) | set(HOST_ONLY) == set(FAMILIES) | set(DEVICE_ONLY)
    assert not set(TWINS) & set(HOST_ONLY)


@pytest.mark.parametrize("family", OTHER_KERNELS)
def test_kernels_of_a_twin_of_instructions_are_these(family):
    assert list(read_signatures(twin_of(family))) == OTHER_KERNELS[family]


@pytest.mark.parametrize("family", TWINS)
def test_twin_is_installed_as_it_stands_in_the_sources(family):
    assert twin_of(family) == (SOURCES / family / f"{family}.cu").read_text()


@pytest.mark.parametrize("family", sorted(set(TWINS) - set(DEVICE_ONLY) - set(OTHER_KERNELS)))
def test_twin_has_the_kernels_and_arguments_of_its_family(family):
    spelled = {"nnm_idx": "long long", "REAL": "real_t"}
    code = re.sub(r"//.*", "", twin_of(family))
    twin = {
        name: [_argument(part.replace("__restrict__", "")) for part in arguments.split(",")]
        for name, arguments in re.findall(r"__global__ void (\w+)\(([^)]*)\)", code)
    }
    host = {
        name: [
            (" ".join(spelled.get(word, word) for word in kind.split()), argument)
            for kind, argument in arguments
        ]
        for name, arguments in kernels_of(family).items()
    }
    assert twin == host


class Nvrtc:
    """As much of NVRTC as compiling one source needs."""

    def __init__(self):
        home = Path(next(iter(importlib.util.find_spec("nvidia").submodule_search_locations)))
        (builtins,) = home.glob("*/lib/libnvrtc-builtins.so.*")
        (library,) = builtins.parent.glob("libnvrtc.so.*")
        ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)  # NVRTC looks for it by name
        self.lib = ctypes.CDLL(str(library))
        self.lib.nvrtcGetErrorString.restype = ctypes.c_char_p

    def call(self, name, *args):
        code = getattr(self.lib, name)(*args)
        assert code == 0, f"{name}: {self.lib.nvrtcGetErrorString(code).decode()}"

    def text(self, program, what):
        size = ctypes.c_size_t()
        self.call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self.call(f"nvrtcGet{what}", program, buffer)
        return buffer.raw

    def compile(self, source, name, expressions, options):
        """Return the device binary and the log; the log is in the failure otherwise."""
        program = ctypes.c_void_p()
        reference = ctypes.byref(program)
        self.call("nvrtcCreateProgram", reference, source.encode(), name.encode(), 0, None, None)
        try:
            for expression in expressions:
                self.call("nvrtcAddNameExpression", program, expression.encode())
            array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            code = self.lib.nvrtcCompileProgram(program, len(options), array)
            log = self.text(program, "ProgramLog").rstrip(b"\0").decode()
            assert code == 0, log
            for expression in expressions:
                lowered = ctypes.c_char_p()
                self.call(
                    "nvrtcGetLoweredName", program, expression.encode(), ctypes.byref(lowered)
                )
                assert lowered.value
            return self.text(program, "CUBIN"), log
        finally:
            self.call("nvrtcDestroyProgram", reference)


@pytest.fixture(scope="module")
def nvrtc():
    if sys.platform != "linux":
        pytest.skip("the wheel nvidia-cuda-nvrtc is looked for on Linux only")
    assert importlib.util.find_spec("nvidia"), "pip install nvidia-cuda-nvrtc"
    return Nvrtc()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("family", TWINS)
def test_twin_compiles_with_nvrtc(nvrtc, family, architecture):
    names = [f"{k}<{t}>" for k in read_signatures(twin_of(family)) for t in ("float", "double")]
    options = [*CUPY_OPTIONS, f"-arch={architecture}"]
    binary, log = nvrtc.compile(twin_of(family), f"{family}.cu", names, options)
    assert binary.startswith(b"\x7fELF")
    assert log == ""  # no warning


def test_nvrtc_refuses_what_needs_host_headers(nvrtc):
    source = "__global__ void f(float *x) { x[0] = INFINITY; }"
    with pytest.raises(AssertionError, match='identifier "INFINITY" is undefined'):
        nvrtc.compile(source, "f.cu", ["f"], [*CUPY_OPTIONS, "-arch=sm_75"])
