"""Convolutions of whole arrays: sums over windows, which are views of an operand with zeros around it.

A window begins an entry after the one before, so that all of them are one array with strides that repeat. Nothing of
the size of all windows is stored: along one axis they are multiplied by dot products, else multiplied and summed in
one pass.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var
from nnmath_core.program import loops
from nnmath_core.program.builder import Builder, View, merged_axes
from nnmath_core.program.ir import Equation
from nnmath_core.program.lower.elementwise import mapped, reduced
from nnmath_core.program.lower.entries import Piece, put, to_dtype, zeros
from nnmath_core.program.lower.layouts import DOTS, Matrices
from nnmath_core.program.lower.products import emit_product
from nnmath_core.program.lower.rules import lowers

__all__: list[str] = []


@lowers("convolve")
def _convolve(b: Builder, e: Equation) -> Any:
    out, spec, full = e.outputs[0], e.params["spec"], e.params["full"]
    loop = loops.ours("multiply", out.dtype) or loops.of_ufunc(
        np.multiply, f"{out.dtype.char * 2}->{out.dtype.char}"
    )
    adding = "any" if out.dtype.kind == "b" else "sum"
    if loop is None or loops.reduction(adding, (0,), out.dtype) is None:
        return NotImplemented
    if not all(isinstance(v, Var) and loops.castable(v.dtype, out.dtype) for v in e.operands):
        return NotImplemented
    if 0 in out.shape or any(0 in v.shape for v in e.operands):
        zeros(b, out)
        return None
    x, y = (to_dtype(b, b.view(v), out.dtype) for v in e.operands)
    (lx, ly, lo), rank = spec, len(out.shape) - len(spec[2])
    if full and math.prod(x.shape[len(lx) :]) < math.prod(y.shape[len(ly) :]):
        x, y, lx, ly = y, x, ly, lx
    taps = y.shape[len(ly) :]
    if full:
        x = _between_zeros(b, x, rank, [n - 1 for n in taps])
    places = out.shape[len(lo) :]
    summed = "".join(c for c in dict.fromkeys(lx + ly) if c not in lo)
    order = lo + summed
    windows = x.at(
        x.offset, (*x.shape[: len(lx)], *places, *taps), (*x.strides, *x.strides[len(lx) :])
    )
    turned = y.at(
        y.offset + sum((n - 1) * s for n, s in zip(taps, y.strides[len(ly) :], strict=True)),
        (*y.shape[: len(ly)], *(1,) * rank, *taps),
        (*y.strides[: len(ly)], *(0,) * rank, *(-s for s in y.strides[len(ly) :])),
    )
    if rank == 1 and not summed and out.dtype.str[1:] in ("f4", "f8"):
        by_dots(b, windows, turned, (lx, ly, lo), b.new(out))
        return None
    both = [_lined_up(v, labels, lo, summed, rank) for v, labels in ((windows, lx), (turned, ly))]
    products = mapped(b, loop, both, out.dtype)
    axes = range(len(lo) + rank, len(order) + 2 * rank)
    total = reduced(b, adding, products, list(axes), keepdims=False)
    assert total is not None
    b.define(out, total)
    return None


def by_dots(b: Builder, windows: View, taps: View, spec: tuple[str, str, str], out: View) -> None:
    """One axis: a product of windows, rows that overlap, with a column of taps, by the kernel of dot products."""
    if windows.strides[-1] != out.dtype.itemsize:
        x = windows.at(
            windows.offset,
            (*windows.shape[:-2], windows.shape[-2] + windows.shape[-1] - 1),
            windows.strides[:-1],
        )
        x = b.contiguous(x)
        windows = x.at(x.offset, windows.shape, (*x.strides, x.strides[-1]))
    taps = b.contiguous(taps)
    m, k = windows.shape[-2:]
    outer = []
    for v, labels, rank in ((windows, spec[0], 2), (taps, spec[1], 2), (out, spec[2], 1)):
        where = dict(zip(labels, v.strides[: v.ndim - rank], strict=True))
        outer.append(tuple(where.get(c, 0) for c in spec[2]))
    axes = tuple((n, s[0], s[1], s[2]) for n, s in merged_axes(out.shape[:-1], outer))
    made = Matrices(
        swapped=False, copy_a=None, copy_b=None, order="", how=DOTS, m=m, n=1, k=k, ra=1, ka=1, kb=1, nb=k, ldc=1,
        axes=axes, seconds=0.0,
    )  # fmt: skip
    emit_product(b, made, windows, taps, out)


def _between_zeros(b: Builder, x: View, rank: int, room: list[int]) -> View:
    """The operand with so many zeros before and behind its last axes."""
    lead = x.ndim - rank
    before = [*(0,) * lead, *room]
    shape = [n + 2 * m for n, m in zip(x.shape, before, strict=True)]
    if x.shape == tuple(shape):
        return x
    wide = b.array(shape, x.dtype)
    piece: Piece = (x, [(m, 1, n, s) for m, n, s in zip(before, x.shape, x.strides, strict=True)])
    put(b, wide, [piece], True)
    return wide


def _lined_up(v: View, labels: str, kept: str, summed: str, rank: int) -> View:
    """An axis for each label that is kept, then the places, then those that are summed, then the taps."""
    where = {c: k for k, c in enumerate(labels)}
    places = list(range(len(labels), len(labels) + rank))
    taps = list(range(len(labels) + rank, len(labels) + 2 * rank))
    axes = [*(where.get(c) for c in kept), *places, *(where.get(c) for c in summed), *taps]
    return v.at(
        v.offset,
        [1 if k is None else v.shape[k] for k in axes],
        [0 if k is None else v.strides[k] for k in axes],
    )
