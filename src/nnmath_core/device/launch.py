"""Launching our own CUDA kernels, with signatures read from the source that is compiled.

A family is one file ``<family>.cu`` beside the compiled doors, with kernels of the form

    template <typename real_t> __global__ void adam_step(long long n, real_t *w, ..., real_t lr)

whose first parameter is the number of elements; each walks over them with a grid stride, so that
any number of blocks is right. Where it is called ``blocks`` and not ``n``, it counts pieces of work
of which a block of threads does one at a time. A line ``#include "name.cuh"`` stands for that file.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core.errors import DeviceError, DtypeError, ShapeError

_THREADS = 256  # a block
_BLOCKS = 32  # for each multiprocessor at most: enough to fill it, then the grid stride takes over

_REAL = {"float32": "float", "float64": "double"}
_SCALARS: dict[str, type[np.generic]] = {
    "float": np.float32,
    "double": np.float64,
    "int": np.int32,
    "unsigned int": np.uint32,
    "long long": np.int64,
    "unsigned long long": np.uint64,
    "bool": np.bool_,
}
_KERNEL = re.compile(
    r"template\s*<\s*typename\s+real_t\s*>\s*__global__\s+void\s+"
    r"(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(([^)]*)\)"
)
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"$', re.MULTILINE)
_COUNTS = ("n", "blocks")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a kernel: its name, its element type as written, array or scalar.

    A type with a capital letter is a struct that the source declares; it is passed by value.
    """

    name: str
    type: str
    is_array: bool
    is_const: bool

    @property
    def is_struct(self) -> bool:
        """Whether it is a struct, for which a host array of as many bytes is given."""
        return self.type[0].isupper()


def read_signatures(source: str) -> dict[str, tuple[Parameter, ...]]:
    """Return the kernel templates of a CUDA source and their parameters after the leading count.

    Raises
    ------
    DtypeError
        A parameter has a type that the launcher cannot pass, or the first one is neither
        ``long long n`` nor ``long long blocks``.
    """
    return {name: parameters[1:] for name, parameters in _read_kernels(source).items()}


def block_kernels(source: str) -> frozenset[str]:
    """Return the kernels of a CUDA source that count blocks and not elements."""
    kernels = _read_kernels(source).items()
    return frozenset(name for name, parameters in kernels if parameters[0].name == "blocks")


def _read_kernels(source: str) -> dict[str, tuple[Parameter, ...]]:
    kernels = {}
    for name, text in _KERNEL.findall(_COMMENT.sub(" ", source)):
        parameters = tuple(_read_parameter(name, part) for part in text.split(","))
        first = parameters[0]
        if first.name not in _COUNTS or first.type != "long long" or first.is_array:
            raise DtypeError(
                f"kernel {name}: its first parameter must be `long long n` or `long long blocks`, "
                f"got {text!r}."
            )
        kernels[name] = parameters
    return kernels


def _read_parameter(kernel: str, text: str) -> Parameter:
    words = text.replace("__restrict__", " ").replace("*", " * ").split()
    *kind, name = words
    is_array, is_const = "*" in kind, "const" in kind
    spelled = " ".join(word for word in kind if word not in ("*", "const"))
    if spelled != "real_t" and spelled not in _SCALARS and not spelled[:1].isupper():
        raise DtypeError(f"kernel {kernel}: parameter `{name}` has the unknown type {spelled!r}.")
    return Parameter(name, spelled, is_array, is_const)


class Family:
    """The kernels of one source file, compiled once for one device."""

    def __init__(self, cupy: Any, index: int, family: str, source: str) -> None:
        self.name, self.cupy, self.index = family, cupy, index
        self.signatures = read_signatures(source)
        self.by_block = block_kernels(source)
        self.module = cupy.RawModule(code=source, name_expressions=self.name_expressions())
        self.functions: dict[str, Any] = {}
        self.most_blocks = _BLOCKS * int(cupy.cuda.Device(index).attributes["MultiProcessorCount"])

    def name_expressions(self) -> tuple[str, ...]:
        """Return the template instances: every kernel for every promised dtype."""
        return tuple(f"{k}<{t}>" for k in self.signatures for t in _REAL.values())

    def launch(self, kernel: str, n: int, args: tuple[Any, ...]) -> None:
        """Check the arguments against the kernel's parameters and queue it.

        The caller has entered the device. Python numbers become numbers of the parameter's type,
        since CuPy would pass a Python float as eight bytes to a ``float`` parameter.

        Raises
        ------
        ShapeError
            There are too few or too many arguments, or an array is not C-contiguous.
        DtypeError
            No such kernel; an argument has the wrong type.
        DeviceError
            An array is not on this device.
        """
        who = f"{self.name}.{kernel}"
        parameters = self.signatures.get(kernel)
        if parameters is None:
            raise DtypeError(f"{who}: no such kernel; {self.name}.cu has {[*self.signatures]}.")
        if len(args) != len(parameters):
            raise ShapeError(
                f"{who}: the kernel takes {len(parameters)} arguments after n, got {len(args)}."
            )
        real = self._real_type(who, parameters, args)
        packed = [self._pack(who, p, x, real) for p, x in zip(parameters, args, strict=True)]
        if n == 0:
            return
        expression = f"{kernel}<{_REAL[real.name]}>"
        function = self.functions.get(expression)
        if function is None:
            function = self.functions[expression] = self.module.get_function(expression)
        blocks = min(n if kernel in self.by_block else -(-n // _THREADS), self.most_blocks)
        function((blocks,), (_THREADS,), (np.int64(n), *packed))

    def _real_type(
        self, who: str, parameters: tuple[Parameter, ...], args: tuple[Any, ...]
    ) -> np.dtype[Any]:
        """Return the dtype that ``real_t`` is: that of the first array declared with it."""
        for parameter, x in zip(parameters, args, strict=True):
            if parameter.is_array and parameter.type == "real_t":
                dtype = getattr(x, "dtype", None)
                if dtype is None or dtype.name not in _REAL:
                    raise DtypeError(
                        f"{who}: `{parameter.name}` must be a float32 or float64 array, "
                        f"got {dtype or type(x).__name__}."
                    )
                real: np.dtype[Any] = np.dtype(dtype)
                return real
        if not any(parameter.type == "real_t" for parameter in parameters):
            return np.dtype(np.float32)  # a kernel of integers alone: its instances are one
        raise DtypeError(f"{who}: no array tells which type real_t is.")

    def _pack(self, who: str, parameter: Parameter, x: Any, real: np.dtype[Any]) -> Any:
        want = real if parameter.type == "real_t" else np.dtype(_SCALARS[parameter.type])
        if not parameter.is_array:
            if isinstance(x, self.cupy.ndarray | np.ndarray):
                raise DtypeError(f"{who}: `{parameter.name}` must be a number, got an array.")
            if want.kind in "iu" and int(x) != x:
                raise DtypeError(f"{who}: `{parameter.name}` must be an integer, got {x!r}.")
            return want.type(x)
        if not isinstance(x, self.cupy.ndarray):
            raise DeviceError(
                f"{who}: `{parameter.name}` must be an array on cuda:{self.index}, "
                f"got {type(x).__name__}."
            )
        if x.device.id != self.index:
            raise DeviceError(
                f"{who}: `{parameter.name}` must be on cuda:{self.index}, got cuda:{x.device.id}."
            )
        if x.dtype != want:
            raise DtypeError(f"{who}: `{parameter.name}` must be {want}, got {x.dtype}.")
        self._require_contiguous(who, parameter, x)
        return x

    def _require_contiguous(self, who: str, parameter: Parameter, x: Any) -> None:
        if not x.flags.c_contiguous:
            raise ShapeError(f"{who}: `{parameter.name}` must be C-contiguous.")


def read_source(family: str) -> str:
    """Return the text of ``<family>.cu`` with what it includes."""
    return expanded(read_text(f"{family}.cu"))


def expanded(source: str) -> str:
    """Return a CUDA source with the text of each ``#include "name.cuh"`` in its place."""
    return _INCLUDE.sub(lambda found: read_text(found[1]), source)


@functools.cache
def read_text(name: str) -> str:
    """Return the text of a CUDA source, which is installed beside the compiled doors."""
    import importlib.resources  # a cost that programs without a GPU do not pay

    return (importlib.resources.files("nnmath_core._ext") / name).read_text(encoding="utf-8")


@functools.cache
def family_of(cupy: Any, index: int, family: str) -> Family:
    """Return the family ready for one device; read, and compiled at the first launch, once."""
    return Family(cupy, index, family, read_source(family))
