"""Compiling with g++ into a cache: one file a distinct input, made once, shared by processes.

The name of a product is a hash of everything that goes into it: the text, the headers of the shim,
the command and the compiler. So nothing is ever stale, and two versions of the project can share a
cache. Of two processes that want the same product, one makes it while the other waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).parent
SHIM = HERE / "shim"
ROOT = HERE.parents[2]
CACHE = Path(os.environ.get("NNMATH_CUDA_CACHE", ROOT / "build" / "cuda-emulation"))


class CompilationError(RuntimeError):
    """What g++ said about a source."""


@functools.cache
def compiler() -> str:
    return os.environ.get("CXX", "g++")


@functools.cache
def compiler_version() -> str:
    try:
        said = subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=True)
    except OSError as error:
        raise CompilationError(
            f"the emulated device needs {compiler()}: apt-get install g++"
        ) from error
    return said.stdout.splitlines()[0]


@functools.cache
def shim_text() -> bytes:
    """Return the headers that are part of every kernel."""
    return b"".join(path.read_bytes() for path in sorted(SHIM.rglob("*.h")))


def key_of(*parts: str | bytes) -> str:
    """Return the name of a product: a hash of what it is made of."""
    whole = hashlib.sha256()
    for part in (compiler_version(), *parts):
        whole.update(part.encode() if isinstance(part, str) else part)
        whole.update(b"\0")
    return whole.hexdigest()[:32]


@contextlib.contextmanager
def making(product: Path):
    """Yield whether the product has yet to be made; others wait until the context is left."""
    if product.exists():
        yield False
        return
    product.parent.mkdir(parents=True, exist_ok=True)
    with open(product.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not product.exists()


def run(command: list[str], product: Path) -> None:
    """Run a compiler that writes ``product``, which appears whole or not at all."""
    unfinished = product.with_name(f"{product.name}.{os.getpid()}")
    said = subprocess.run([*command, "-o", str(unfinished)], capture_output=True, text=True)
    if said.returncode:
        unfinished.unlink(missing_ok=True)
        raise CompilationError(f"{' '.join(command[:1])} failed:\n{said.stderr[:6000]}")
    os.replace(unfinished, product)


# ------------------------------------------------------------------------------ the device itself
def scheduler() -> Path:
    """Return the shared object that runs kernels; every module is linked against it at load."""
    source = SHIM / "scheduler.cpp"
    # fortified, longjmp would refuse to go to another stack
    flags = ["-std=gnu++17", "-O2", "-shared", "-fPIC", "-U_FORTIFY_SOURCE"]
    command = [compiler(), *flags, str(source)]
    product = CACHE / f"scheduler-{key_of(source.read_bytes(), shim_text(), *command[:-1])}.so"
    with making(product) as needed:
        if needed:
            run(command, product)
    return product


def device_module() -> Path:
    """Return the compiled ``device.pyx``."""
    import Cython

    source = HERE / "device.pyx"
    flags = ["-std=gnu++17", "-O1", "-shared", "-fPIC", "-w", f"-I{HERE}",
             f"-I{sysconfig.get_paths()['include']}"]  # fmt: skip
    texts = [path.read_bytes() for path in (source, HERE / "memory.pxi")]
    key = key_of(*texts, shim_text(), Cython.__version__, sys.version, *flags)
    product = CACHE / f"device-{key}{sysconfig.get_config_var('EXT_SUFFIX')}"
    with making(product) as needed:
        if needed:
            text = product.with_suffix(".cpp")
            translate = [sys.executable, "-m", "cython", "--cplus", "-3", str(source)]
            run(translate, text)
            run([compiler(), *flags, str(text)], product)
    return product
