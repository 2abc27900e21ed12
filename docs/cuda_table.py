"""The tables of the operations on CUDA: what implements each of them, which library it enters, what has checked it.

All of it is read: from the declarations of the primitives, from `CudaBackend`, from the sources of the kernels and from
the records of runs on GPUs (`tests/reference/gpu_runs.json`). `tests/test_device_table.py` and
`tests/cuda/test_operation_table.py` hold it against what runs.
"""

from __future__ import annotations

import ast
import functools
import importlib.resources
import inspect
import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from nnmath_core.autodiff.ops.special.declare import typed
from nnmath_core.autodiff.primitive import REGISTRY, Primitive
from nnmath_core.device import Backend, CudaBackend
from nnmath_core.device.launch import read_signatures

__all__ = [
    "HEAD",
    "LIBRARIES",
    "OPERATIONS",
    "RUNS",
    "STRICT",
    "has_stand_in",
    "implementation",
    "kernel_rows",
    "kernels",
    "launched_by",
    "operation_implementation",
    "operation_rows",
    "primitive_rows",
]

TESTS = Path(__file__).parents[1] / "tests"
RUNS: list[dict[str, Any]] = json.loads((TESTS / "reference" / "gpu_runs.json").read_text())
"""The runs on GPUs: device, date, CuPy, number of tests, and what implemented each primitive that passed."""

STRICT = frozenset(json.loads((TESTS / "reference" / "array_api_strict_names.json").read_text()))
"""The primitives whose definition runs on array-api-strict, on a device that is not the host's and without float64."""

HEAD = ("operation", "on CUDA", "library", "checked by")
LIBRARIES = {"cublas": "cuBLAS", "cusolver": "cuSOLVER", "cufft": "cuFFT", "cusparse": "cuSPARSE"}
DEFINITION = "definition: array code over `cupy`"
ABSENT = "none: CuPy has no implementation, and the call says so"

OPERATIONS = (
    *Backend.operations,
    *(
        name
        for name, f in vars(Backend).items()
        if isinstance(f, FunctionType)
        and not name.startswith("_")
        and name not in (*Backend.operations, "function", "scope")
    ),
)
"""What a backend does, apart from making and finding functions."""

_BY_HAND = {
    "synchronize": "`cupy.cuda.Device.synchronize`",
    "asarray": "`cupy.asarray`",
    "to_host": "`cupy.asnumpy`",
}
_LIBRARY_OF = {"matmul": "cublas"}  # operations that are the forward of no primitive


# ---------------------------------------------------------------------------------------- our kernels
@functools.cache
def kernels() -> dict[str, str]:
    """Return the family of each kernel whose source is installed."""
    found = {}
    for source in importlib.resources.files("nnmath_core._ext").iterdir():
        if source.name.endswith(".cu"):
            family = source.name.removesuffix(".cu")
            found.update(dict.fromkeys(read_signatures(source.read_text()), family))
    return found


def _named(tree: ast.AST) -> set[str]:
    """Return the kernels that a piece of source names."""
    texts = {
        n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }
    return texts & {*kernels()}


def _written(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _written(constant)


def _named_by(f: Any, seen: set[Any]) -> set[str]:
    """Return the kernels that a function names, itself or in functions of its module that it calls."""
    if isinstance(f, partial):
        return set().union(*(_named_by(part, seen) for part in (f.func, *f.args)))
    if not isinstance(f, FunctionType) or f in seen:
        return set()
    seen.add(f)
    found = set()
    for code in _written(f.__code__):
        found |= {text for text in code.co_consts if isinstance(text, str)} & {*kernels()}
        for name in code.co_names:
            called = f.__globals__.get(name)
            if getattr(called, "__module__", None) == f.__module__:
                found |= _named_by(called, seen)
    return found


@functools.cache
def launched_by() -> dict[str, list[str]]:
    """Return the kernels that each method of `CudaBackend` launches."""
    own = {name: f for name, f in vars(CudaBackend).items() if isinstance(f, FunctionType)}
    return {name: sorted(_named_by(f, set())) for name, f in own.items()}


def _users(kernel: str) -> list[str]:
    """Return who launches a kernel: operations of `CudaBackend`, else modules of the package."""
    found = [name for name, used in launched_by().items() if kernel in used]
    if found:
        return [f"`CudaBackend.{name}`" for name in found]
    package = Path(inspect.getfile(Backend)).parents[1]
    return [
        f"`nnmath_core.{'.'.join(path.relative_to(package).with_suffix('').parts)}`"
        for path in sorted(package.rglob("*.py"))
        if f'"{kernel}"' in (text := path.read_text()) and kernel in _named(ast.parse(text))
    ]


# ------------------------------------------------------------------------------------ implementations
def operation_implementation(name: str) -> str:
    """Return how an operation of the backend runs."""
    used = launched_by().get(name)
    if used:
        return _kernel_names(used)
    if name in _BY_HAND:
        return _BY_HAND[name]
    return DEFINITION if used is None else f"`CudaBackend.{name}`, array code over `cupy`"


def _kernel_names(used: Iterable[str]) -> str:
    return "kernel " + ", ".join(f"`{kernels()[name]}.{name}`" for name in used)


def implementation(p: Primitive) -> str:
    """Return how a primitive runs: a kernel of ours, a function of CuPy, or its definition."""
    if p.library == "absent":
        return ABSENT
    if isinstance(p.forward, partial) and p.forward.func is typed:
        return f"`cupyx.scipy.special.{p.forward.args[0]}`"
    if not isinstance(p.forward, str):
        used = sorted(_named_by(p.forward, set()))
        return f"{_kernel_names(used)}; elsewhere its definition" if used else DEFINITION
    if p.forward in Backend.operations:
        return operation_implementation(p.forward)
    return (
        f"`cupyx.scipy.{p.forward}`" if p.forward.startswith("special.") else f"`cupy.{p.forward}`"
    )


# ----------------------------------------------------------------------------------------- the checks
def has_stand_in(library: str) -> bool:
    """Whether the emulated device computes what a library does."""
    return not library or (TESTS / "cuda" / "emulated" / "libraries" / f"{library}.cpp").exists()


def _checked(name: str, how: str, library: str, kind: str) -> str:
    """Return the rungs that an implementation has climbed; a run counts for what it is now."""
    if how == ABSENT:
        return "surface"
    said = ["surface", "strict"] if kind == "primitives" and name in STRICT else ["surface"]
    if has_stand_in(library):
        said += ["emulated", "NVRTC"]
    said += [run["short"] for run in RUNS if run[kind].get(name) == how]
    return ", ".join(said)


def _row(name: str, how: str, library: str, kind: str) -> tuple[str, ...]:
    shown = "" if library == "absent" else LIBRARIES.get(library, library)
    return f"`{name}`", how, shown, _checked(name, how, library, kind)


def primitive_rows() -> list[tuple[str, ...]]:
    """Return a row for each registered primitive."""
    return [_row(p.name, implementation(p), p.library, "primitives") for p in REGISTRY.values()]


def operation_rows() -> list[tuple[str, ...]]:
    """Return a row for each operation of the backend; its library is that of the primitive that it is."""
    of = {p.forward: p.library for p in REGISTRY.values() if isinstance(p.forward, str)}
    return [
        _row(
            name,
            operation_implementation(name),
            of.get(name, _LIBRARY_OF.get(name, "")),
            "operations",
        )
        for name in OPERATIONS
    ]


def kernel_rows() -> list[tuple[str, ...]]:
    """Return a row for each kernel of ours."""
    return [
        (f"`{family}.{kernel}`", ", ".join(_users(kernel)) or "nothing yet")
        for kernel, family in sorted(kernels().items(), key=lambda row: (row[1], row[0]))
    ]
