"""Every CUDA twin: the same kernels and arguments as its C family, and accepted by NVRTC.

NVRTC is the compiler that CuPy uses on the user's machine. Its wheel needs no GPU, and it refuses
what g++ and nvcc accept (there are no host headers: INFINITY is undefined), so each twin is
compiled with it, with CuPy's options, for the oldest architecture it supports.
"""

import ctypes
import importlib.util
import re
import sys
from pathlib import Path

import pytest

from nnmath_core._ext import _vector
from nnmath_core.device import launch

SOURCES = Path(__file__).parents[1] / "src" / "_ext"
FAMILIES = sorted(path.parent.name for path in SOURCES.glob("*/*.def") if path.name != "kinds.def")
TWINS = sorted(path.stem for path in SOURCES.glob("*/*.cu"))
FUNCTIONS = sorted(path.stem for path in SOURCES.glob("*/*.cuh"))  # which kernels include
ARCHITECTURES = ["sm_75"]  # make nvrtc compiles what the device tests reached for others
CUPY_OPTIONS = ["--std=c++17", "-ftz=true", "--device-as-default-execution-space"]

# Families without a twin, and what stands in for it on a device.
HOST_ONLY = {
    "elementwise": "small arrays, where a call of a ufunc costs more than its loop; a launch costs what it costs, and "
    "CuPy's ufunc is one launch",
    "gemm": "the products of Plans, which run on the host; device arrays go through cuBLAS",
}

# Families without loops on the host, and what stands in for them there.
DEVICE_ONLY = {
    "index": "index arrays on the device are looked at there; the host looks at its own",
    "iterations": "the steps of iterations, which are nogil Cython over BLAS on the host",
    "rows": "NumPy's passes over a row that lies in the cache; on a device each is a launch",
}

# Twins of whole instructions of Plans, whose kernels on the host are the steps between two products of BLAS.
OTHER_KERNELS = {"attention": ["attention", "attention_pull_q", "attention_pull_kv"]}

# Kernels that a device needs beside those of the host: the second part of a sum over blocks.
SECOND_PARTS = {"linalg": {"sum_parts"}}


def kernels_of(family):
    """Map the kernels of a .def to their arguments, as (C type with REAL, name)."""
    text = (SOURCES / family / f"{family}.def").read_text()
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    rows = re.findall(r"^K\((\w+),\s*\(([^)]*)\)\)", text, flags=re.M)
    return {name: [_argument(part) for part in arguments.split(",")] for name, arguments in rows}


def _argument(text):
    *kind, name = re.findall(r"[A-Za-z_]\w*|\*", text)
    return " ".join(kind), name


def test_every_family_has_a_twin_or_a_reason():
    have = set(TWINS) | set(FUNCTIONS)
    assert (have - set(DEVICE_ONLY)) | set(HOST_ONLY) == set(FAMILIES)
    assert not have & set(HOST_ONLY)
    assert set(DEVICE_ONLY) <= set(TWINS)


@pytest.mark.parametrize("name", [*(f"{f}.cu" for f in TWINS), *(f"{f}.cuh" for f in FUNCTIONS)])
def test_twin_is_installed_as_it_stands_in_the_sources(name):
    assert launch.read_text(name) == (SOURCES / name.partition(".")[0] / name).read_text()


@pytest.mark.parametrize("family", OTHER_KERNELS)
def test_kernels_of_a_twin_of_instructions_are_these(family):
    assert list(launch.read_signatures(launch.read_source(family))) == OTHER_KERNELS[family]


def elementwise_loops():
    """Map the loops of real numbers without accumulators to the letters of their operands and results."""
    return {
        name: (ins, outs)
        for name, (ins, outs) in _vector.names().items()
        if "r" in ins and set(ins) <= {"r", "b"} and outs in ("r", "b")
    }


def test_every_elementwise_loop_has_a_function_on_the_device():
    """Of the family of a Plan's loops; sums, extremes and their like are what generated kernels make themselves."""
    text = re.sub(r"//.*", "", launch.read_text("vector.cuh"))
    types = {"real_t": "r", "bool": "b"}
    found = {
        name: ("".join(types[part.split()[0]] for part in operands.split(",")), types[result])
        for result, name, operands in re.findall(
            r"__forceinline__ (real_t|bool) nnm_(\w+)\(([^)&]*)\)", text
        )
        if operands and set(re.findall(r"(\w+) \w+", operands)) <= set(types)
    }
    loops = elementwise_loops()
    assert {name: found.get(name) for name in loops} == loops
    assert set(found) - set(loops) == {"half_erfcx"}


@pytest.mark.parametrize("family", [f for f in TWINS if f not in {*DEVICE_ONLY, *OTHER_KERNELS}])
def test_twin_has_the_kernels_and_arguments_of_its_family(family):
    spelled = {"nnm_idx": "long long", "REAL": "real_t"}
    code = re.sub(r"//.*", "", launch.read_text(f"{family}.cu"))
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
    for name in SECOND_PARTS.get(family, ()):
        del twin[name]
    for (
        name,
        arguments,
    ) in twin.items():  # what counts elements is the host's too, what counts blocks is not
        twin[name] = arguments[1:] if arguments[0][1] == "blocks" else arguments
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
    source = launch.read_source(family)
    names = [
        f"{kernel}<{t}>" for kernel in launch.read_signatures(source) for t in ("float", "double")
    ]
    options = [*CUPY_OPTIONS, f"-arch={architecture}"]
    binary, log = nvrtc.compile(source, f"{family}.cu", names, options)
    assert binary.startswith(b"\x7fELF")
    assert log == ""  # no warning


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_functions_compile_with_nvrtc(nvrtc, architecture):
    """In one kernel, that calls each."""
    calls = {
        name: ", ".join({"r": "x[k++]", "b": "x[k++] > 0"}[letter] for letter in ins)
        for name, (ins, _) in elementwise_loops().items()
    }
    body = "".join(
        f"    y[{k}] = nnm_{name}({call});\n" for k, (name, call) in enumerate(calls.items())
    )
    kernel = f"template <typename real_t> __global__ void f(real_t *y, const real_t *x)\n{{\n    int k = 0;\n{body}}}\n"
    options = [*CUPY_OPTIONS, f"-arch={architecture}"]
    source = launch.expanded('#include "vector.cuh"\n' + kernel)
    binary, log = nvrtc.compile(source, "vector.cu", ["f<float>", "f<double>"], options)
    assert binary.startswith(b"\x7fELF")
    assert log == ""


def test_nvrtc_refuses_what_needs_host_headers(nvrtc):
    source = "__global__ void f(float *x) { x[0] = INFINITY; }"
    with pytest.raises(AssertionError, match='identifier "INFINITY" is undefined'):
        nvrtc.compile(source, "f.cu", ["f"], [*CUPY_OPTIONS, "-arch=sm_75"])
