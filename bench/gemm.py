"""Matrix products inside of a Plan: BLAS, ours in blocks, by dot products, packed; which one a Plan takes.

The model of costs in ``program/lower/layouts.py`` is fitted to such numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import Group, Variant

TITLE = "matrix products"

REPEATS = 16
# rows, columns, inner; which factor is transposed; dtype
SHAPES = [
    (8, 16, 8, "", "f4"), (16, 16, 16, "b", "f4"), (32, 32, 32, "", "f4"), (32, 128, 784, "", "f4"),
    (784, 128, 32, "", "f4"), (32, 10, 128, "", "f4"), (32, 128, 10, "b", "f4"), (128, 512, 784, "", "f4"),
    (128, 512, 512, "b", "f4"), (10, 256, 1024, "", "f4"), (1, 512, 512, "b", "f4"), (128, 32, 128, "", "f4"),
    (784, 512, 128, "a", "f4"), (1024, 256, 1024, "b", "f4"), (512, 2048, 2048, "", "f4"), (256, 512, 64, "", "f8"),
    (8, 512, 512, "", "f4"), (8, 1024, 1024, "", "f4"), (16, 1000, 4000, "", "f4"), (64, 1000, 4000, "", "f4"),
    (64, 2048, 64, "", "f4"), (256, 256, 256, "", "f8"), (16, 16, 16, "", "f8"), (64, 32, 10, "b", "f8"),
    (64, 64, 64, "", "f8"),
]  # fmt: skip


def groups(*, quick: bool) -> list[Group]:
    """Return one group a shape; a quick run has the first and the last."""
    return [compared(*shape) for shape in (SHAPES[:1] + SHAPES[-1:] if quick else SHAPES)]


def compared(m: int, n: int, k: int, turned: str, dtype: str) -> Group:
    """Compare all that can multiply one shape."""
    from nnmath_core.program.lower import layouts

    rng = np.random.default_rng(0)
    a = rng.standard_normal((k, m) if turned == "a" else (m, k)).astype(dtype)
    b = rng.standard_normal((n, k) if turned == "b" else (k, n)).astype(dtype)
    strides = (*((1, m) if turned == "a" else (k, 1)), *((1, k) if turned == "b" else (n, 1)))
    found = layouts._who(a.dtype, m, n, k, *strides, n)
    assert found is not None
    kinds = {"BLAS": layouts.BLAS, "blocks": layouts.BLOCKS}
    if turned == "b" and m <= 8:
        kinds["dots"] = layouts.DOTS
    if layouts.PACKS and m > 1:
        kinds["packed"] = layouts.PACKED
    repeats = 1 if m * n * k > 1e8 else REPEATS
    variants = [
        Variant(
            name + (", taken" if how == found[0] else ""),
            repeated(how, (m, n, k), a, b, strides, repeats),
        )
        for name, how in kinds.items()
    ]
    name = f"{m}x{k} @ {k}x{n}, {a.dtype}" + (f", {turned} transposed" if turned else "")
    return Group(name, variants, per=repeats, tolerance=1e-13 if dtype == "f8" else 1e-4)


def repeated(
    how: int, sizes: tuple[int, int, int], a: Any, b: Any, strides: tuple[int, ...], repeats: int
) -> Callable[[], Any]:
    """Return a run of instructions that all make the same product."""
    from nnmath_core._ext._plan import Executable
    from nnmath_core.program.lower import layouts

    m, n, k = sizes
    number, room, refs = a.dtype.num, 0, [(1, 0), (2, 0), (3, 0)]
    if how == layouts.PACKED:
        room = layouts.packed_scratch(a.itemsize, m, n, k)
        refs.append((0, 0))
    ints = [0 if a.itemsize == 4 else 1, how, room, m, n, k, *strides, n, 0]
    instruction = ("gemm", 0, refs, ints, (), None, 0)
    inputs = ((1, a.shape, number, False), (2, b.shape, number, False))
    outputs = ((3, (m, n), number, -1),)
    program = Executable([instruction] * repeats, 4, room, {}, inputs, outputs, 1)
    leaves = [a, b]
    return lambda: program.run_split(leaves, 1)[0]
