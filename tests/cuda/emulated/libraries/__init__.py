"""Stand-ins for NVIDIA's libraries, under the names and symbol versions that CuPy's wheel links to.

A library of the same name that is already in the process satisfies the loader, so each of
``libcublas.so.13`` and so on is built here and loaded before CuPy asks. ``<name>.cpp`` has what is
computed; every other symbol that the wheel needs says its name and returns "not supported".
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import importlib.util
import re
import subprocess
import types
from pathlib import Path

from emulated import build

HERE = Path(__file__).parent

# library: (the wheel's module that links to it, its status "not supported")
LIBRARIES = {
    "cublas": ("cupy_backends/cuda/libs/cublas", 15),
    "cusolver": ("cupy_backends/cuda/libs/cusolver", 9),
    "cufft": ("cupy/cuda/cufft", 16),
    "cusparse": ("cupy_backends/cuda/libs/cusparse", 10),
    "curand": ("cupy_backends/cuda/libs/curand", 999),
}

WITHOUT_STAND_IN = tuple(name for name in LIBRARIES if not (HERE / f"{name}.cpp").exists())
"""Libraries of which nothing is computed."""

_loaded: dict[str, ctypes.CDLL] = {}

LAPACK = "potrf potrs getrf getrs getri geqrf gesvd geev".split()
REAL, COMPLEX = "orgqr ormqr syevd".split(), "ungqr unmqr heevd".split()


@functools.cache
def symbols(name: str) -> tuple[str, tuple[str, ...]]:
    """Return the file name of a library and the functions of it that CuPy's wheel links to."""
    module, _ = LIBRARIES[name]
    package = importlib.util.find_spec(module.partition("/")[0])
    home = Path(next(iter(package.submodule_search_locations))).parent
    (path,) = home.glob(f"{module}.*.so")
    said = subprocess.run(["nm", "-D", str(path)], capture_output=True, text=True, check=True)
    found = re.findall(rf" U ({name}\w+)@(\S+)", said.stdout)
    return found[0][1], tuple(sorted(symbol for symbol, _ in found))


def computed(name: str) -> set[str]:
    """Return the functions of a library that its stand-in computes, as its object file has them."""
    said = subprocess.run(
        ["nm", "-D", "--defined-only", str(library(name))],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = set(re.findall(rf" T ({name}\w+)@", said.stdout))
    missing = set(re.findall(r"^MISSING\((\w+)\)", missing_text(name), flags=re.M))
    return found - missing


def missing_text(name: str) -> str:
    """Return the C++ text of the functions that only say their name."""
    _, wanted = symbols(name)
    source = HERE / f"{name}.cpp"
    text = source.read_text() if source.exists() else ""
    there = set(re.findall(rf"\b({name}\w+)\(", text)) | generated(text, name)
    lines = "\n".join(f"MISSING({symbol})" for symbol in wanted if symbol not in there)
    return (
        "#include <cstdio>\n#define MISSING(name) extern "
        f'"C" int name(void) {{ fprintf(stderr, "emulated device: no stand-in for %s\\n", #name); '
        f"return {LIBRARIES[name][1]}; }}\n{lines}\n"
    )


def generated(text: str, name: str) -> set[str]:
    """Return the functions that a source makes by macros, as the preprocessor spells them."""
    said = subprocess.run(
        [build.compiler(), "-std=gnu++17", "-x", "c++", "-E", "-P", f"-I{HERE}", "-"],
        input=text, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(re.findall(rf"\bint ({name}\w+)\s*\(", said.stdout))


@functools.cache
def library(name: str) -> Path:
    """Return the built stand-in."""
    source = HERE / f"{name}.cpp"
    text = source.read_text() if source.exists() else '#include "common.h"\n'
    flags = ["-std=gnu++17", "-O1", "-shared", "-fPIC", "-w", f"-I{HERE}"]
    wheel = importlib.metadata.version("cupy-cuda13x")
    parts = (wheel, text, (HERE / "common.h").read_bytes(), Path(__file__).read_bytes(), *flags)
    folder = build.CACHE / f"{name}-{build.key_of(*parts)}"
    product = folder / "library.so"
    with build.making(product) as needed:
        if needed:
            file, _ = symbols(name)
            unit, versions = folder / f"{name}.cpp", folder / f"{name}.map"
            unit.write_text(text + missing_text(name))
            versions.write_text(f"{file} {{ global: *; }};\n")
            named = [f"-Wl,-soname,{file}", f"-Wl,--version-script={versions}"]
            build.run([build.compiler(), *flags, *named, str(unit)], product)
    return product


def lapack_addresses() -> dict[str, int]:
    """Return the addresses of SciPy's LAPACK routines, by name."""
    from scipy.linalg import cython_lapack

    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = (
        ctypes.c_char_p,
        [ctypes.py_object],
    )
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    found = {}
    for letter in "sdcz":
        for routine in LAPACK + (REAL if letter in "sd" else COMPLEX):
            capsule = cython_lapack.__pyx_capi__[letter + routine]
            signature = api.PyCapsule_GetName(capsule)
            if b"int *" not in signature:
                raise RuntimeError(f"SciPy's {letter}{routine} takes other integers: {signature}")
            found[letter + routine] = api.PyCapsule_GetPointer(capsule, signature)
    return found


def entered() -> set[str]:
    """Return the libraries, cuBLAS apart, that were given arrays since the last call."""
    return {name for name, lib in _loaded.items() if lib.nnm_entries() and name != "cublas"}


def products() -> dict[str, int]:
    """Return the products that cuBLAS was asked for since the last call, by kind, and the last one's "stream"."""
    calls, stream = (ctypes.c_long * 4)(), ctypes.c_void_p()
    _loaded["cublas"].nnm_products(calls, ctypes.byref(stream))
    return dict(zip(("gemm", "strided", "pointers", "dot"), calls, strict=True)) | {
        "stream": stream.value or 0
    }


def install(device) -> None:
    """Load the stand-ins, and keep CuPy's loader from looking for NVIDIA's."""
    from cuda import pathfinder

    addresses, handles = lapack_addresses(), {}
    for name in LIBRARIES:
        lib = _loaded[name] = ctypes.CDLL(str(library(name)), mode=ctypes.RTLD_GLOBAL)
        lib.nnm_set_gate(ctypes.c_void_p(device.gate_address()))
        lib.nnm_set_routine.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
        for routine, address in addresses.items():
            lib.nnm_set_routine(routine.encode(), address)
        handles[name] = types.SimpleNamespace(_handle_uint=lib._handle, found_via="emulated device")
    load = pathfinder.load_nvidia_dynamic_lib

    def load_others(name, *args, **keywords):
        return handles.get(name) or load(name, *args, **keywords)

    pathfinder.load_nvidia_dynamic_lib = load_others
