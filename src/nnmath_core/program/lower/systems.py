"""Triangular and banded systems, LU and Schur factorisations: kinds of plan/lapack.c, in the dtype of the result."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Aval, Var
from nnmath_core.autodiff.primitive import Primitive
from nnmath_core.program.builder import Builder, View, merged_axes
from nnmath_core.program.ir import Equation
from nnmath_core.program.loops import castable
from nnmath_core.program.lower.entries import to_dtype
from nnmath_core.program.lower.gufuncs import stack_flops
from nnmath_core.program.lower.rules import lowers

__all__ = ["TYPES", "not_batched", "own_scratch", "schur_p", "sylvester_triangle_p"]

TYPES = {"f4": 0, "f8": 1, "c8": 2, "c16": 3}
MOST = 2**31 - 1
"""Sizes of LAPACK."""
SINGULAR = (np.linalg.LinAlgError, "Singular matrix")
INFINITE = (ValueError, "array must not contain infs or NaNs")


def _views(b: Builder, e: Equation, dtype: Any) -> list[View] | None:
    """Operands in a dtype; None where LAPACK has no such type, or a size is beyond its own."""
    if dtype.str[1:] not in TYPES:
        return None
    for x in e.operands:
        if not isinstance(x, Var) or not castable(x.dtype, dtype) or max(x.shape) > MOST:
            return None
    return [to_dtype(b, b.view(x), dtype) for x in e.operands]


def own_scratch(b: Builder, nbytes: int) -> int:
    """Scratch for each thread; the bytes of one."""
    nbytes = -(-nbytes // 64) * 64
    b.scratch(nbytes * b.threads)
    return nbytes


def _factor(dtype: Any) -> int:
    """How many operations one is."""
    return 4 if dtype.kind == "c" else 1


@lowers("solve_triangular")
def _solve_triangular(b: Builder, e: Equation) -> Any:
    out = e.outputs[0]
    views = _views(b, e, out.dtype)
    if views is None:
        return NotImplemented
    a, y = views
    x = b.new(out)
    if 0 in out.shape:
        return None
    *lead, n, k = out.shape
    item = out.dtype.itemsize
    rows, columns = a.strides[-2:]
    if not _leads(columns, rows, n, item) and not _leads(rows, columns, n, item):
        a = b.contiguous(a)
        if a.strides[-1] != item:  # contiguous in a dtype of its own, of length 1
            a = a.at(a.offset, a.shape, (*a.strides[:-2], n * item, item))
        rows, columns = a.strides[-2:]
    turned = not _leads(columns, rows, n, item)
    ld = max((columns if turned else rows) // item, n)
    axes = merged_axes(lead, (_outer(a, lead), _outer(y, lead)))
    b.emit(
        "triangular", [a, y], [x],
        [TYPES[out.dtype.str[1:]], e.params["lower"], e.params["unit"], n, k, turned, ld, *y.strides[-2:], len(axes),
         *(number for count, strides in axes for number in (count, *strides))],
        object=(SINGULAR,), flops=stack_flops(_factor(out.dtype) * n * n * k, *lead), note=f"triangle {n}x{n} for {k}",
    )  # fmt: skip
    return None


def _leads(inner: int, outer: int, n: int, item: int) -> bool:
    """Whether LAPACK can read n x n entries with these strides, the inner ones side by side."""
    return n == 1 or (inner == item and outer >= n * item and outer % item == 0)


def _outer(v: View, lead: Any) -> tuple[int, ...]:
    return v.at(v.offset, v.shape[:-2], v.strides[:-2]).broadcast(lead).strides


@lowers("lu")
def _lu(b: Builder, e: Equation) -> Any:
    up = e.outputs[2]
    views = _views(b, e, up.dtype)
    if views is None:
        return NotImplemented
    *lead, m, n = views[0].shape
    outs = [b.new(v) for v in e.outputs]
    if not math.prod(lead):
        return None
    k, item, a = min(m, n), up.dtype.itemsize, b.contiguous(views[0])
    flops = _factor(up.dtype) * (m * n * k - (m + n) * k * k / 2 + k**3 / 3) * 2
    nbytes = own_scratch(b, m * n * item + 4 * k)
    b.emit(
        "lu", [a], outs, [TYPES[up.dtype.str[1:]], math.prod(lead), m, n, nbytes],
        flops=stack_flops(flops, *lead), note=f"lu of {m}x{n}",
    )  # fmt: skip
    return None


@lowers("solve_banded")
def _solve_banded(b: Builder, e: Equation) -> Any:
    out, lower, upper = e.outputs[0], e.params["lower"], e.params["upper"]
    views = _views(b, e, out.dtype)
    if views is None or out.shape[-2] == 1:  # SciPy divides, and does not mind a zero
        return NotImplemented
    ab, y = views
    x = b.new(out)
    if 0 in out.shape:
        return None
    *lead, n, k = out.shape
    item = out.dtype.itemsize
    ab, y = (b.contiguous(v.broadcast((*lead, *v.shape[-2:]))) for v in (ab, y))
    nbytes = own_scratch(b, ((2 * lower + upper + 1) * n + n * k) * item + 4 * n)
    flops = (
        _factor(out.dtype) * 2.0 * n * (lower * (lower + upper + 1) + k * (2 * lower + upper + 1))
    )
    b.emit(
        "banded", [ab, y], [x], [TYPES[out.dtype.str[1:]], math.prod(lead), lower, upper, n, k, nbytes],
        object=((np.linalg.LinAlgError, "singular matrix"), INFINITE), flops=stack_flops(flops, *lead),
        note=f"bands {lower}+1+{upper} of {n} for {k}",
    )  # fmt: skip
    return None


# ------------------------------------------------------------------------------------------------ of definitions
def not_batched(on: Any, v: Any, size: int, **params: Any) -> Any:
    """The batching rule of what stands in definitions alone, which are recorded when nothing is batched any more."""
    raise NotImplementedError


def _schur(be: Any, a: Any) -> Any:
    import scipy.linalg

    s, z = np.empty_like(a), np.empty_like(a)
    for i in np.ndindex(*a.shape[:-2]):
        s[i], z[i] = scipy.linalg.schur(a[i])
    return s, z


schur_p = Primitive(
    "schur",
    forward=_schur,
    differentiable=False,
    outputs="all",
    shape=lambda a: (Aval(a.shape, a.dtype), Aval(a.shape, a.dtype)),
    batch=not_batched,
    register=False,
)
"""(s, z) with a = z s z^H."""


@lowers("schur")
def _schur_rule(b: Builder, e: Equation) -> Any:
    views = _views(b, e, e.outputs[0].dtype)
    if views is None:
        return NotImplemented
    *lead, n, _ = views[0].shape
    outs = [b.new(v) for v in e.outputs]
    if 0 in views[0].shape:
        return None
    dtype, a = e.outputs[0].dtype, b.contiguous(views[0])
    work = 66 * n + 4200  # more than the blocks of dgehrd, dorghr and dhseqr want
    nbytes = own_scratch(b, (2 * n * n + 3 * n + work) * dtype.itemsize)
    b.emit(
        "schur", [a], outs, [TYPES[dtype.str[1:]], math.prod(lead), n, work, nbytes],
        object=((np.linalg.LinAlgError, "Schur form not found. Possibly ill-conditioned."), INFINITE),
        flops=stack_flops(_factor(dtype) * 25.0 * n**3, *lead), note=f"schur of {n}x{n}",
    )  # fmt: skip
    return None


def _sylvester_triangle(be: Any, r: Any, s: Any, f: Any) -> Any:
    import scipy.linalg

    x = np.empty_like(f)
    for i in np.ndindex(*f.shape[:-2]):
        (solve,) = scipy.linalg.get_lapack_funcs(("trsyl",), (r[i], s[i], f[i]))
        y, scale, _ = solve(r[i], s[i], f[i], tranb="C")
        x[i] = scale * y
    return x


sylvester_triangle_p = Primitive(
    "sylvester triangle",
    forward=_sylvester_triangle,
    differentiable=False,
    shape=lambda r, s, f: Aval(f.shape, f.dtype),
    batch=not_batched,
    register=False,
)
"""The solution x of r x + x s^H = f for Schur's forms r and s."""


@lowers("sylvester triangle")
def _sylvester_rule(b: Builder, e: Equation) -> Any:
    out = e.outputs[0]
    views = _views(b, e, out.dtype)
    if views is None:
        return NotImplemented
    *lead, m, n = out.shape
    x = b.new(out)
    if 0 in out.shape:
        return None
    r, s, f = (b.contiguous(v.broadcast((*lead, *v.shape[-2:]))) for v in views)
    nbytes = own_scratch(b, (m * m + n * n + m * n) * out.dtype.itemsize)
    b.emit(
        "sylvester", [r, s, f], [x], [TYPES[out.dtype.str[1:]], math.prod(lead), m, n, nbytes],
        flops=stack_flops(_factor(out.dtype) * 1.0 * m * n * (m + n), *lead), note=f"sylvester {m}x{n}",
    )  # fmt: skip
    return None


# ------------------------------------------------------------------------------------------------ row exchanges, exp
@lowers("pivots", "order_of_pivots")
def _exchanges(b: Builder, e: Equation) -> Any:
    x, out = e.operands[0], e.outputs[0]
    made = e.primitive.name == "order_of_pivots"
    if not isinstance(x, Var) or x.dtype != (np.int32 if made else np.int64) or max(x.shape) > MOST:
        return NotImplemented
    source = b.contiguous(b.view(x))
    y = b.new(out)
    if out.shape and 0 not in out.shape:
        m, k = (out.shape[-1], x.shape[-1]) if made else (x.shape[-1], out.shape[-1])
        ints = [made, math.prod(out.shape[:-1]), m, k]
        b.emit("exchanges", [source], [y], ints, note="row exchanges")
    return None


@lowers("expm")
def _expm(b: Builder, e: Equation) -> Any:
    out = e.outputs[0]
    views = _views(b, e, out.dtype)
    if views is None:
        return NotImplemented
    *lead, n, _ = out.shape
    y = b.new(out)
    if 0 in out.shape:
        return None
    a = b.contiguous(views[0])
    nbytes = own_scratch(b, 8 * n * n * out.dtype.itemsize + 4 * n)
    b.emit(
        "expm", [a], [y], [TYPES[out.dtype.str[1:]], math.prod(lead), n, nbytes],
        flops=stack_flops(_factor(out.dtype) * 18.0 * n**3, *lead), note=f"exponential of {n}x{n}",
    )  # fmt: skip
    return None
