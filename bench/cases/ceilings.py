"""What a device can do at best: a copy from memory to memory, and a large product of matrices.

Fractions are of these, measured beside the work: the CPU's by a copy in C and SciPy's BLAS, the GPU's by CuPy's copy
and product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from floors import STREAM, gemms, moved
from registry import Inputs, Options, Work, contender, family

CEILINGS = "ceilings"


@family(CEILINGS, tolerance=0.0)
def nothing(rng: np.random.Generator, options: Options) -> Inputs:
    """Make no inputs: ``options`` have "bytes", moved by the copy in all, and "n" and "dtype" of the product."""
    return {}


@contender(CEILINGS, "floor", "copy")
def copy_on_the_cpu(inputs: Inputs, options: Options) -> Work:
    """With stores that bypass the caches."""
    return Work(moved(STREAM, options["bytes"]))


@contender(CEILINGS, "floor", "product")
def product_on_the_cpu(inputs: Inputs, options: Options) -> Work:
    """By SciPy's BLAS, on all threads of the process."""
    n = options["n"]
    return Work(gemms([(n, n, n)], options["dtype"]))


@contender(CEILINGS, "ours", "copy")
def copy_on_the_gpu(inputs: Inputs, options: Options) -> Work:
    """From device memory to device memory."""
    import cupy

    n = int(options["bytes"]) // 8
    source, target = cupy.zeros(n, "f4"), cupy.zeros(n, "f4")
    return Work(lambda: cupy.copyto(target, source))


@contender(CEILINGS, "ours", "product")
def product_on_the_gpu(inputs: Inputs, options: Options) -> Work:
    """By cuBLAS; numbers are random, since zeros cost less power and run faster."""
    import cupy

    n, rng = options["n"], np.random.default_rng(0)

    def matrix() -> Any:
        return cupy.asarray(rng.standard_normal((n, n)).astype(options["dtype"]))

    a, b, c = matrix(), matrix(), matrix()
    return Work(lambda: cupy.matmul(a, b, out=c))
