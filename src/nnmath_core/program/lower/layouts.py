"""How labelled operands lie as stacks of matrices: which axes are rows, columns, inner, what is copied, who multiplies.

A matrix product needs the labels of rows, of columns and the inner ones each as one axis with one stride. Labels that
do not merge become axes over which the instruction repeats, or an operand is copied, whichever costs less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core._ext._cpu import runs_here, selected

__all__ = [
    "BLAS", "BLOCKS", "DEPTH", "PACKED", "TYPES", "Matrices", "best_layout", "packed_scratch", "seconds_more",
    "seconds_more_packed", "tile_bytes",
]  # fmt: skip

TYPES = {
    "f4": 0, "f8": 1, "c8": 2, "c16": 3, "i1": 4, "u1": 4, "i2": 5, "u2": 5, "i4": 6, "u4": 6, "i8": 7, "u8": 7,
    "b1": 8,
}  # fmt: skip
"""Codes of the types in plan/gemm.h, by kind and size."""

BLAS, BLOCKS, DOTS, LOOPS, PACKED = range(5)
MOST = 2**31 - 1
"""Sizes and strides that BLAS can take."""


@dataclass(frozen=True, slots=True)
class Matrices:
    """A stack of products C = A B; strides of matrices in entries, of ``axes`` (length, a, b, c) in bytes."""

    swapped: bool
    """A is the second operand."""
    copy_a: str | None
    """Labels, outermost first, in which the operand is copied."""
    copy_b: str | None
    order: str
    """Labels of C as it is written, contiguous."""
    how: int
    m: int
    n: int
    k: int
    ra: int
    ka: int
    kb: int
    nb: int
    ldc: int
    axes: tuple[tuple[int, int, int, int], ...]
    seconds: float


def best_layout(
    dtype: np.dtype[Any],
    x: dict[str, int],
    y: dict[str, int],
    out: str,
    length: dict[str, int],
    blas_only: bool = False,
) -> Matrices:
    """The cheapest layout, where operands have byte strides by label, and no label has length 1 or stride 0 in vain."""
    batch = "".join(c for c in out if c in x and c in y)
    best: Matrices | None = None
    for swapped in (False, True):
        a, b = (y, x) if swapped else (x, y)
        rows = "".join(c for c in out if c not in b)
        cols = "".join(c for c in out if c not in a)
        inner = [c for c in a if c in b and c not in out]
        if rows and not cols:
            continue  # a vector is the left factor: its entries are summed along contiguous rows of the right one
        orders = [out] if out[-1] in cols else []
        grouped = batch + rows + cols
        if grouped != out:
            orders.append(grouped)
        along = batch + _outermost_first(list(rows), a) + cols
        if along not in (out, grouped):  # the rows as they lie
            orders.append(along)
        k_of_a, k_of_b = _outermost_first(inner, a), _outermost_first(inner, b)
        for order in orders:
            for copy_a in (None, batch + rows + k_of_b):
                for copy_b in (None, batch + (k_of_b if copy_a else k_of_a) + cols):
                    made = _layout(
                        dtype,
                        swapped,
                        a,
                        b,
                        order,
                        length,
                        (copy_a, copy_b),
                        (rows, cols, inner),
                        order == out,
                        blas_only,
                    )
                    if made is not None and (best is None or made.seconds < best.seconds):
                        best = made
    assert best is not None
    return best


def _layout(
    dtype: np.dtype[Any],
    swapped: bool,
    a: dict[str, int],
    b: dict[str, int],
    order: str,
    length: dict[str, int],
    copies: tuple[str | None, str | None],
    groups: tuple[str, str, list[str]],
    direct: bool,
    blas_only: bool,
) -> Matrices | None:
    """The layout with these copies; None where there is none."""
    item = dtype.itemsize
    rows, cols, inner = groups
    seconds = 0.0
    if copies[0]:
        seconds += _copying(math.prod(length[c] for c in a), item)
        a = _contiguous(copies[0], length, item)
    if copies[1]:
        seconds += _copying(math.prod(length[c] for c in b), item)
        b = _contiguous(copies[1], length, item)
    c = _contiguous(order, length, item)
    if not direct:  # who reads the result will wait longer for it
        seconds += 1.5 * _copying(math.prod(length[i] for i in order), item)
    merged = _chain(sorted(inner, key=lambda i: abs(a[i])), (a, b), length)
    if len(merged) != len(inner) or any(s[i] % item for s in (a, b) for i in s):
        return None
    k = math.prod(length[i] for i in inner)
    ka, kb = a[merged[0]] // item, b[merged[0]] // item
    in_cols = _chain(sorted(cols, key=lambda i: c[i]), (b, c), length)
    if not in_cols or c[in_cols[0]] != item:
        return None
    n = math.prod(length[i] for i in in_cols)
    nb = b[in_cols[0]] // item
    in_rows = _chain(sorted(rows, key=lambda i: c[i]), (a, c), length)
    m = math.prod(length[i] for i in in_rows)
    ra, ldc = (a[in_rows[0]] // item, c[in_rows[0]] // item) if in_rows else (1, n)
    outer = [i for i in order if i not in in_cols and i not in in_rows]
    axes: list[tuple[int, int, int, int]] = []
    for i in outer:
        own = a.get(i, 0), b.get(i, 0), c[i]
        if axes and all(p == s * length[i] for p, s in zip(axes[-1][1:], own, strict=True)):
            axes[-1] = (axes[-1][0] * length[i], *own)
        else:
            axes.append((length[i], *own))
    if dtype.kind in "iub":
        how, each = LOOPS, 1e-9 * m * n * k
    else:
        found = _who(dtype, m, n, k, ra, ka, kb, nb, ldc, blas_only)
        if found is None:
            return None
        how, each = found
    seconds += each * math.prod(axis[0] for axis in axes)
    return Matrices(
        swapped, *copies, order, how, m, n, k, ra, ka, kb, nb, ldc, tuple(axes), seconds
    )


def _outermost_first(labels: list[str], strides: dict[str, int]) -> str:
    return "".join(sorted(labels, key=lambda c: -abs(strides[c])))


def _chain(
    labels: list[str], sides: tuple[dict[str, int], ...], length: dict[str, int]
) -> list[str]:
    """The labels from the innermost outwards that lie behind each other in all of ``sides``."""
    taken = labels[:1]
    for c in labels[1:]:
        if any(s[c] != s[taken[-1]] * length[taken[-1]] for s in sides):
            break
        taken.append(c)
    return taken


def _contiguous(order: str, length: dict[str, int], item: int) -> dict[str, int]:
    strides = {}
    for c in reversed(order):
        strides[c] = item
        item *= length[c]
    return strides


def _copying(entries: int, item: int) -> float:
    """About the seconds of a strided copy."""
    return 1e-7 + entries * item / 5e9


# ---------------------------------------------------------------------------------------------- who multiplies
def _who(
    dtype: np.dtype[Any],
    m: int,
    n: int,
    k: int,
    ra: int,
    ka: int,
    kb: int,
    nb: int,
    ldc: int,
    blas_only: bool = False,
) -> tuple[int, float] | None:
    """The faster of those that can read these strides, and about the seconds of one product; None: nobody can."""
    choices = []
    if blas_only:  # on a device, where strides cost nothing
        return (BLAS, 1e-14 * m * n * k) if _blas_can(m, n, k, ra, ka, kb, nb, ldc) else None
    if _blas_can(m, n, k, ra, ka, kb, nb, ldc):
        choices.append((_blas_seconds(dtype, m, n, k, nb == 1, ra == 1), BLAS))
    if dtype.kind == "f":
        if ka == 1 or ra == 1 or m == 1:
            choices.append((_blocks_seconds(dtype, m, n, k, kb, nb, ka != 1), BLOCKS))
        if ka == kb == 1 and m <= 8 and k >= 16:
            choices.append((_dots_seconds(dtype, m, n, k), DOTS))
        if PACKS and m > 1 and n > 1:
            choices.append((_packed_seconds(dtype, m, n, k, ra, ka, kb, nb), PACKED))
    if not choices:
        return None
    seconds, how = min(choices)
    return how, seconds


def _blas_can(m: int, n: int, k: int, ra: int, ka: int, kb: int, nb: int, ldc: int) -> bool:
    if max(m, n, k, abs(ra), abs(ka), abs(kb), abs(nb), ldc) > MOST:
        return False
    if nb != 1 and kb != 1:
        return False
    if kb < n if nb == 1 else nb < k:
        return False
    if m == 1:
        return ka > 0
    return (ka == 1 and ra >= k) or (ra == 1 and ka >= m)


# Nanoseconds by a model of the cycles, fitted to what bench/gemm.py measures; only their comparison matters.
# instruction set -> bytes of a vector, rows and vectors of a block (gemm.inc.c), multiply-adds a cycle
SHAPES = {"baseline": (16, 6, 2, 0.7), "v3": (32, 6, 2, 2.0), "v4": (64, 8, 3, 2.0)}
WIDTH, ROWS, VECTORS, RATE = SHAPES[selected()]
PACKS = selected() != "baseline"
"""Packed kernels are worth their while."""
TALL = {"baseline": 6, "v3": 6, "v4": 14}[selected()]
DEPTH, COLUMNS = (384, 384) if selected() == "v4" else (256, 192)
MOST_ROWS, FEW = 1036, 256
"""Of packed products (gemm.inc.c): rows of a tile; rows (of float32) and columns of a block of B, rows of A that it
meets; and up to how many rows of A read B where it is, without AVX-512 if B is near."""
WIDE = runs_here("v4")
"""BLAS has kernels of AVX-512 then, and those for small products that copy nothing."""
MALLOC = 1.25
"""Some such kernels of OpenBLAS ask for memory at each call: ours go first where they are about as fast."""
CYCLE = 0.36
LARGE = 1 << 20
"""Bytes of an operand that no longer stays in the second-level cache."""


def _blas_seconds(
    dtype: np.dtype[Any], m: int, n: int, k: int, across: bool, turned: bool
) -> float:
    """``across``: B has unit stride in n; ``turned``: A has unit stride in m."""
    parts = 2 if dtype.kind == "c" else 1
    word = dtype.itemsize / parts / 4
    each = word * parts**2 * (1 if WIDE else 2)
    if m == 1:
        ns = (280 if across else 110) + k * n * max(0.008 * each, 0.04 * word)
    elif not WIDE or m * n * k > 1_000_000:
        ns = 120 + word * (0.36 * (n * k + m * k) + 0.08 * m * n) + 0.0122 * each * m * n * k
    else:
        if across:
            step = 1 if turned else 16 if word == 1 else 4
            full = -(-n // step) * step  # what is multiplied
            ns = 75 + each * (0.0108 * m * full * k + 0.025 * n * k + 0.06 * m * k + 0.008 * m * n)
        elif not turned:
            ns = 100 + each * (0.03 * m * n * k + 0.15 * m * n)
        else:
            ns = 84 + each * (0.094 * n * k + 0.1 * m * n + 0.015 * m * n * k)
        if WIDTH == 64 and parts == 1:
            ns *= MALLOC
    return 1e-9 * ns


def _blocks_seconds(
    dtype: np.dtype[Any], m: int, n: int, k: int, kb: int, nb: int, turned: bool
) -> float:
    """Each block takes the cycles of its multiply-adds, of its loads, or of the latency of one chain."""
    item = dtype.itemsize
    vectors = -(-n // (WIDTH // item))
    panels, blocks = -(-vectors // VECTORS), -(-m // ROWS)
    height, across = m / blocks, vectors / panels
    cycles = max(height * across / RATE, (height + 2 * across) / 2, 4.0)
    around, again, line = (9, 0, 3) if WIDTH == 32 and k <= 256 else (16, 8, 4)
    ns = 40 + panels * blocks * (CYCLE * k * cycles + around) + m * vectors * 0.1
    packs = nb != 1 or (k > 256 and m >= 4 * ROWS)
    if packs:
        ns += (
            panels * blocks * again
            + panels * k * line
            + n * k * (0.1 if nb != 1 else 0.02) * item / 4
        )
    size = n * k * item
    if size > LARGE:  # as it lies, its rows are too far apart to be asked for ahead
        ns += size * (0.035 if packs or WIDTH == 64 else 0.095 if size <= 8 * LARGE else 0.25)
    if m * k * item > LARGE:  # read again for each panel
        ns += m * k * item * panels * 0.02
    if WIDTH == 32 and not packs and m > 2 * ROWS and k >= 32 and kb * item % 2048 == 0:
        ns *= 1.3  # the rows of a panel lie in a few sets of the first-level cache
    if turned and k >= 128 and m * k * item >= 1 << 18:  # each row of A on a page of its own
        ns += m * k * item * panels * 0.025
    if m * n * k > 4_000_000:  # past the first-level cache
        ns *= 1.05
    return 1e-9 * ns


def _packed_seconds(
    dtype: np.dtype[Any], m: int, n: int, k: int, ra: int, ka: int, kb: int, nb: int
) -> float:
    """Tiles at the rate of their multiply-adds, what lies around each of them, and the packing."""
    item = dtype.itemsize
    vector = WIDTH // item
    vectors = -(-n // vector)
    panels, blocks = -(-vectors // 2), -(-m // TALL)
    parts = -(-k * item // (4 * DEPTH))
    cycles = blocks * max(m / blocks * vectors / RATE, (m / blocks * panels + vectors) / 2)
    edge = m * (0.5 if WIDTH == 64 else 1.2 * vector) if n % vector else 0.0
    each = item / 4
    a = 0.1 if ka == 1 else (0.2 if WIDTH == 32 else 0.1) if ra == 1 else 1.0
    near = m <= FEW and (WIDTH == 64 or n * k * item <= LARGE // 2)
    b = (
        (0.035 if near else 0.17)
        if nb == 1
        else (0.35 if WIDTH == 32 else 0.22)
        if kb == 1
        else 1.0
    )
    ns = (
        150
        + CYCLE * k * cycles
        + parts * (panels * blocks * 20 + edge)
        + each * (a * m * k + b * n * k * -(-m // MOST_ROWS))
    )
    if near and n * k * item > LARGE:
        ns += n * k * item * 0.045
    return 1e-9 * ns


def seconds_more_packed(dtype: np.dtype[Any], ints: Sequence[int]) -> float:
    """How much longer a product takes packed than as it is chosen (ints: see plan/gemm.c); infinite: it cannot be."""
    return _seconds_more(dtype, ints).get(PACKED, math.inf)


def seconds_more(dtype: np.dtype[Any], ints: Sequence[int]) -> tuple[float, int]:
    """How much longer a product takes by the faster of our kernels than as it is chosen; by blocks or packed."""
    more = _seconds_more(dtype, ints)
    return min(((s, how) for how, s in more.items()), default=(math.inf, BLOCKS))


def _seconds_more(dtype: np.dtype[Any], ints: Sequence[int]) -> dict[int, float]:
    how, (m, n, k, ra, ka, kb, nb) = ints[1], ints[3:10]
    if dtype.kind != "f" or how not in (BLAS, BLOCKS, PACKED):
        return {}
    each: dict[int, float] = {}
    if how == BLAS:
        each[BLAS] = _blas_seconds(dtype, m, n, k, nb == 1, ra == 1)
    if ka == 1 or ra == 1 or m == 1:
        each[BLOCKS] = _blocks_seconds(dtype, m, n, k, kb, nb, ka != 1)
    if how == PACKED or (PACKS and m > 1 and n > 1):
        each[PACKED] = _packed_seconds(dtype, m, n, k, ra, ka, kb, nb)
    return {ours: each[ours] - each[how] for ours in (BLOCKS, PACKED) if ours in each}


def packed_scratch(item: int, m: int, n: int, k: int) -> int:
    """Bytes that a thread needs to pack operands of at most this size."""
    line, depth = 64 // item, 4 * DEPTH // item
    deep = min(-(-k // line) * line, depth)
    return item * deep * (min(m, MOST_ROWS) + min(-(-n // 32) * 32, COLUMNS))


def tile_bytes(item: int) -> int:
    """Bytes of a tile of the result that lies apart (gemm/after.h)."""
    return item * TALL * COLUMNS


def _dots_seconds(dtype: np.dtype[Any], m: int, n: int, k: int) -> float:
    turns = -(-k // (WIDTH // dtype.itemsize))
    return 1e-9 * (47 + -(-m // 2) * -(-n // 4) * (10 * turns + 40) * CYCLE)
