"""Small matrix products inside of a Plan: BLAS, ours in blocks, ours by dot products; which one a Plan takes.

The model of costs in ``program/lower/layouts.py`` is fitted to such numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import Group, Variant

TITLE = "small matrix products"

REPEATS = 16
# rows, columns, inner; whether the second factor is transposed; dtype
SHAPES = [
    (8, 16, 8, False, "f4"), (16, 16, 16, True, "f4"), (32, 32, 32, False, "f4"), (32, 128, 784, False, "f4"),
    (784, 128, 32, False, "f4"), (32, 10, 128, False, "f4"), (32, 128, 10, True, "f4"), (128, 512, 784, False, "f4"),
    (128, 512, 512, True, "f4"), (10, 256, 1024, False, "f4"), (1, 512, 512, True, "f4"), (128, 32, 128, False, "f4"),
    (8, 512, 512, False, "f4"), (16, 16, 16, False, "f8"), (64, 32, 10, True, "f8"), (64, 64, 64, False, "f8"),
]  # fmt: skip


def groups(*, quick: bool) -> list[Group]:
    """Return one group a shape; a quick run has the first and the last."""
    return [compared(*shape) for shape in (SHAPES[:1] + SHAPES[-1:] if quick else SHAPES)]


def compared(m: int, n: int, k: int, turned: bool, dtype: str) -> Group:
    """Compare all that can multiply one shape."""
    from nnmath_core.program.lower import layouts

    rng = np.random.default_rng(0)
    a = rng.standard_normal((m, k)).astype(dtype)
    b = rng.standard_normal((n, k) if turned else (k, n)).astype(dtype)
    strides = (k, 1, 1, k) if turned else (k, 1, n, 1)
    found = layouts._who(a.dtype, m, n, k, *strides, n)
    assert found is not None
    kinds = ["BLAS", "blocks", *(["dots"] if turned and m <= 8 else [])]
    variants = [
        Variant(name + (", taken" if how == found[0] else ""), repeated(how, a, b, strides))
        for how, name in enumerate(kinds)
    ]
    name = f"{m}x{k} @ {k}x{n}{' transposed' if turned else ''}, {a.dtype}"
    return Group(name, variants, per=REPEATS, tolerance=1e-13 if dtype == "f8" else 1e-4)


def repeated(how: int, a: Any, b: Any, strides: tuple[int, ...]) -> Callable[[], Any]:
    """Return a run of instructions that all make the same product."""
    from nnmath_core._ext._plan import Executable

    m, k = a.shape
    n = b.size // k
    number = a.dtype.num
    ints = [0 if a.itemsize == 4 else 1, how, 0, m, n, k, *strides, n, 0]
    instruction = ("gemm", 0, [(1, 0), (2, 0), (3, 0)], ints, (), None, 0)
    inputs = ((1, a.shape, number, False), (2, b.shape, number, False))
    program = Executable([instruction] * REPEATS, 4, 0, {}, inputs, ((3, (m, n), number, -1),), 1)
    leaves = [a, b]
    return lambda: program.run_split(leaves, 1)[0]
