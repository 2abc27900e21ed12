"""Floors: what a row cannot avoid, measured alone. Matrix products, bytes, one exponential an element."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from registry import Options, Work, contender, family

COPY, STREAM, READ = range(3)
GEMMS = "GEMMs by BLAS"
STREAMED = "bytes, non-temporal copy"
COPIED = "bytes, ordinary copy"

Products = Iterable[tuple[int, int, int]]


def threads() -> int:
    """Return how many threads this process was given."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


# Matrix products ----------------------------------------------------------------------------------------------------


def gemms(products: Products, dtype: str = "f4") -> Callable[[], None]:
    """Return a run of products (rows, inner, columns) by SciPy's BLAS, nothing allocated in it."""
    from scipy.linalg import blas

    rng = np.random.default_rng(0)
    gemm = {"f4": blas.sgemm, "f8": blas.dgemm}[dtype]

    def matrix(m: int, n: int) -> Any:
        return np.asfortranarray(rng.standard_normal((m, n)).astype(dtype))

    made = [(matrix(m, k), matrix(k, n), matrix(m, n)) for m, k, n in products]

    def run() -> None:
        for a, b, c in made:
            gemm(1.0, a, b, 0.0, c, overwrite_c=1)

    return run


def gemm_floor(name: str, products: Callable[[Options], Products], dtype: str = "f4") -> None:
    """Declare that a family cannot avoid some products.

    BLAS has the row's threads in one engine and one thread in another, since many products are too small to be shared;
    the faster of the two is the floor.
    """
    for engine, title in (("floor", GEMMS), ("floor, serial BLAS", f"{GEMMS}, one thread")):

        @contender(name, engine, title)
        def build(inputs: Any, options: Options) -> Work:
            return Work(gemms(products(options), dtype))


def compiled_gemm_floor(name: str, products: Callable[[Options], Products]) -> None:
    """Declare the same products as a Plan of nothing else, which takes BLAS's or our own GEMM for each."""

    @contender(name, "floor", "GEMMs, the better of BLAS and ours")
    def build(inputs: Any, options: Options) -> Work:
        import nnmath_core as nm

        rng = np.random.default_rng(0)
        pairs = [
            tuple(rng.standard_normal(s).astype("f4") for s in ((m, k), (k, n)))
            for m, k, n in products(options)
        ]
        call = nm.compile(lambda pairs: [a @ b for a, b in pairs])
        out = call(pairs)
        return Work(lambda: call(pairs, out=out))


# Bytes --------------------------------------------------------------------------------------------------------------


@functools.cache
def library() -> Any:
    """Compile ``memory.c`` and load it; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    folder = tempfile.mkdtemp(prefix="nnmath-floors-")
    made = Path(folder) / "memory.so"
    source = Path(__file__).parent / "memory.c"
    done = subprocess.run(
        [compiler, "-O3", "-shared", "-fPIC", "-pthread", "-o", str(made), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        if done.returncode != 0:
            print(f"bench: memory.c does not compile here:\n{done.stderr}", file=sys.stderr)
            return None
        found = ctypes.CDLL(str(made))
    finally:
        shutil.rmtree(folder)
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    found.nnm_pass.argtypes = [ctypes.c_int, pointer, pointer, size, ctypes.c_int]
    found.nnm_pass.restype = ctypes.c_float
    return found


def aligned(n: int) -> Any:
    """Return n float32 zeros, each page touched, that begin at a cache line."""
    raw = np.zeros(n + 16, "f4")
    raw[...] = 1.0
    start = -raw.ctypes.data % 64 // 4
    return raw[start : start + n]


def moved(kind: int, nbytes: float) -> Callable[..., Any]:
    """Return a pass that moves ``nbytes`` in all: a copy reads one half and writes the other, a read reads all.

    Called with a share between 0 and 1, the pass moves the first part of these bytes.

    Without a C compiler NumPy's copy and sum take the place of the passes in C.
    """
    n = max(64, int(nbytes) // (4 if kind == READ else 8) // 64 * 64)
    source = aligned(n)
    target = None if kind == READ else aligned(n)
    found = library()
    nt = threads()

    def run(share: float = 1.0) -> None:
        part = max(64, int(share * n) // 64 * 64)
        if found is not None:
            to = 0 if target is None else target.ctypes.data
            found.nnm_pass(kind, to, source.ctypes.data, part, nt)
        elif target is None:
            source[:part].sum()
        else:
            np.copyto(target[:part], source[:part])

    return run


def byte_floor(name: str, nbytes: Callable[[Options], float]) -> None:
    """Declare that a family cannot avoid moving some bytes.

    The copy with non-temporal stores goes to memory whatever the size. The ordinary one stays in a cache that holds
    both arrays, and may then be the faster.
    """
    for title, kind in ((STREAMED, STREAM), (COPIED, COPY)):

        @contender(name, "floor", title)
        def build(inputs: Any, options: Options, kind: int = kind) -> Work:
            return Work(moved(kind, nbytes(options)))


# Elements -----------------------------------------------------------------------------------------------------------


def exp_floor(name: str, shape: Callable[[Options], tuple[int, ...]]) -> None:
    """Declare that a family cannot avoid one exponential an element, an element read and an element written."""

    @contender(name, "floor", "one exp an element")
    def build(inputs: Any, options: Options) -> Work:
        import nnmath_core as nm

        x = np.random.default_rng(0).standard_normal(shape(options)).astype("f4")
        call = nm.compile(np.exp)
        out = call(x)
        return Work(lambda: call(x, out=out))


# Calibration --------------------------------------------------------------------------------------------------------


@family("calibration", tolerance=0.0)
def nothing(rng: np.random.Generator, options: Options) -> dict[str, Any]:
    """Make no inputs: the family says whether the machine is quiet, by one product of n x n float32 matrices."""
    return {}


@contender("calibration", "floor", "product")
def product(inputs: Any, options: Options) -> Work:
    """One product by BLAS."""
    n = options["n"]
    return Work(gemms([(n, n, n)]))
