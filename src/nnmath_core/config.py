"""What this installation is made of: `show_config`."""

import importlib.metadata
import importlib.util
import platform
from typing import Any, Literal

import numpy as np
import scipy

from nnmath_core._build_info import BUILD_INFO
from nnmath_core._ext import _cpu, _threads
from nnmath_core._version import __version__
from nnmath_core.checks import require_in
from nnmath_core.device.precision import current_matmul_precision

# Instruction sets on which the tests have run, by processor family. The highest that a processor has is
# chosen; one that is compiled and not named here may only be chosen on request, and is named "never run".
_TESTED = {"x86_64": ("baseline", "v3", "v4")}

_CUPY_WHEELS = ("cupy-cuda13x", "cupy-cuda12x", "cupy")


def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> dict[str, Any] | None:
    """Say how nnmath-core was compiled and what it runs on.

    Parameters
    ----------
    mode : {"stdout", "dicts"}, default "stdout"
        Print the configuration, or return it.

    Returns
    -------
    dict or None
        For ``"dicts"``, with the keys ``"nnmath-core"`` (version, compiler, ...), ``"instruction
        sets"`` (``built``, ``selected``, and ``never run``: compiled, but no test has executed
        it), ``"threads"`` (their number, see `threads`, and what is done about those of BLAS),
        ``"matmul precision"`` (of float32 on CUDA devices, here and now: see `matmul_precision`),
        ``"numpy"`` and ``"scipy"`` (version and BLAS), ``"cupy"`` (version, or ``None``) and
        ``"python"``.

    Raises
    ------
    DomainError
        ``mode`` is neither.

    Notes
    -----
    CuPy is looked up and not imported, and no device is touched.

    Examples
    --------
    >>> config = show_config(mode="dicts")
    >>> sorted(config)
    ['cupy', 'instruction sets', 'matmul precision', 'nnmath-core', 'numpy', 'python', 'scipy', 'threads']
    >>> config["instruction sets"]["selected"] in config["instruction sets"]["built"]
    True
    """
    require_in("show_config", "mode", mode, ("stdout", "dicts"))
    built = BUILD_INFO["isa"].split()
    family = BUILD_INFO["host"].rpartition("-")[2]
    config: dict[str, Any] = {
        "nnmath-core": {"version": __version__}
        | {key: text for key, text in BUILD_INFO.items() if key != "isa"},
        "instruction sets": {
            "built": built,
            "selected": _cpu.selected(),
            "never run": [name for name in built if name not in _TESTED.get(family, ())],
        },
        "threads": {"number": _threads.number(), "blas": _threads.blas()},
        "matmul precision": current_matmul_precision(),
        "python": {"version": platform.python_version(), "platform": platform.platform()},
        "numpy": {"version": np.__version__, "blas": _blas(np)},
        "scipy": {"version": scipy.__version__, "blas": _blas(scipy)},
        "cupy": _cupy_version(),
    }
    if mode == "dicts":
        return config
    for section, entries in config.items():
        if not isinstance(entries, dict):
            print(f"{section}: {entries or 'not installed'}")
            continue
        print(f"{section}:")
        for key, value in entries.items():
            print(f"  {key}: {', '.join(value) or 'none' if isinstance(value, list) else value}")
    return None


def _blas(library: Any) -> str:
    """Return name and version of the BLAS that ``library`` (numpy or scipy) was built with."""
    blas = library.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas['version']}"


def _cupy_version() -> str | None:
    if importlib.util.find_spec("cupy") is None:
        return None
    for name in _CUPY_WHEELS:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown version"
