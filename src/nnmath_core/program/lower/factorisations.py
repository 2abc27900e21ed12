"""Factorisations, systems and determinants: LAPACK through NumPy's loops, in double precision as NumPy's functions.

A matrix for which an eager call raises `LinAlgError` ends the run with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var
from nnmath_core.program import loops
from nnmath_core.program.builder import Builder, View
from nnmath_core.program.ir import Equation
from nnmath_core.program.loops import castable
from nnmath_core.program.lower.elementwise import mapped
from nnmath_core.program.lower.entries import to_dtype
from nnmath_core.program.lower.gufuncs import StackLoop, emit_stack, stack_flops, stack_loop
from nnmath_core.program.lower.rules import lowers

__all__ = ["linalg_loop"]

MODULE = "numpy.linalg._umath_linalg"
SINGULAR = ((np.linalg.LinAlgError, "Singular matrix"),)
INDEFINITE = ((np.linalg.LinAlgError, "Matrix is not positive definite"),)
NO_EIGENVALUES = ((np.linalg.LinAlgError, "Eigenvalues did not converge"),)
NO_SVD = ((np.linalg.LinAlgError, "SVD did not converge"),)
NO_QR = ((np.linalg.LinAlgError, "Incorrect argument found while performing QR factorization"),)


def linalg_loop(dtype: Any, types: str, *names: str) -> StackLoop | None:
    """A loop for results of a dtype; in ``types`` C stands for its double precision and r for that of its parts."""
    if dtype.str[1:] not in ("f4", "f8", "c8", "c16"):
        return None
    char = "D" if dtype.kind == "c" else "d"
    return stack_loop(MODULE, types.replace("r", "d").replace("C", char), *names)


def _wide(dtype: Any) -> Any:
    return np.dtype(np.complex128 if dtype.kind == "c" else np.float64)


def _stacks(b: Builder, operands: Sequence[Any], wide: Any) -> list[View] | None:
    """Arrays in a dtype, None where one is a number or cannot have it."""
    if not all(isinstance(x, Var) and castable(x.dtype, wide) for x in operands):
        return None
    return [to_dtype(b, b.view(x), wide) for x in operands]


def _defined(b: Builder, results: Sequence[View], outputs: Sequence[Var]) -> None:
    """Let variables be results, in their own precision."""
    for v, out in zip(results, outputs, strict=True):
        b.define(out, to_dtype(b, v, out.dtype))


def _arrays(b: Builder, e: Equation, wide: Any) -> list[View]:
    return [b.array(v.shape, wide if v.dtype.kind == "c" else np.float64) for v in e.outputs]


def _plain(
    b: Builder, e: Equation, loop: StackLoop | None, flops: float,
    refusal: tuple[tuple[type, str], ...] = (), dtype: Any = None,
) -> Any:  # fmt: skip
    """A rule that only calls the loop; ``flops`` is over n m^2 of the larger and smaller length."""
    dtype = e.outputs[0].dtype if dtype is None else dtype
    views = _stacks(b, e.operands, _wide(dtype)) if loop is not None else None
    if loop is None or views is None:
        return NotImplemented
    results = _arrays(b, e, _wide(dtype))
    *lead, m, n = views[0].shape
    emit_stack(
        b, loop, views, results, lead, refusal=refusal,
        flops=stack_flops(_cubic(flops, m, n, dtype), *lead),
        note=f"{loop.name} of {m}x{n}",
    )  # fmt: skip
    _defined(b, results, e.outputs)
    return None


def _cubic(flops: float, m: int, n: int, dtype: Any) -> float:
    return flops * max(m, n) * min(m, n) ** 2 * (4 if dtype.kind == "c" else 1)


@lowers("cholesky")
def _cholesky(b: Builder, e: Equation) -> Any:
    loop = linalg_loop(e.outputs[0].dtype, "C->C", "cholesky_lo")
    return _plain(b, e, loop, 1 / 3, INDEFINITE)


@lowers("inv")
def _inv(b: Builder, e: Equation) -> Any:
    return _plain(b, e, linalg_loop(e.outputs[0].dtype, "C->C", "inv"), 2.0, SINGULAR)


@lowers("det")
def _det(b: Builder, e: Equation) -> Any:
    return _plain(b, e, linalg_loop(e.outputs[0].dtype, "C->C", "det"), 2 / 3)


@lowers("slogdet")
def _slogdet(b: Builder, e: Equation) -> Any:
    return _plain(b, e, linalg_loop(e.outputs[0].dtype, "C->Cr", "slogdet"), 2 / 3)


@lowers("eigh")
def _eigh(b: Builder, e: Equation) -> Any:
    dtype = e.outputs[1].dtype
    loop = linalg_loop(dtype, "C->rC", "eigh_lo" if e.params["lower"] else "eigh_up")
    return _plain(b, e, loop, 9.0, NO_EIGENVALUES, dtype)


@lowers("svd")
def _svd(b: Builder, e: Equation) -> Any:
    m, n = e.operands[0].shape[-2:]
    how = "f" if e.params["full"] else "s"
    loop = linalg_loop(
        e.outputs[0].dtype, "C->CrC", f"svd_{how}", f"svd_{'m' if m < n else 'n'}_{how}"
    )
    return _plain(b, e, loop, 20.0, NO_SVD)


@lowers("solve")
def _solve(b: Builder, e: Equation) -> Any:
    out = e.outputs[0]
    loop = linalg_loop(out.dtype, "CC->C", "solve")
    views = _stacks(b, e.operands, _wide(out.dtype)) if loop is not None else None
    if loop is None or views is None:
        return NotImplemented
    *lead, n, k = out.shape
    result = b.array(out.shape, _wide(out.dtype))
    flops = (2 / 3 * n**3 + 2.0 * n * n * k) * (4 if out.dtype.kind == "c" else 1)
    emit_stack(
        b, loop, views, [result], lead, refusal=SINGULAR, flops=stack_flops(flops, *lead),
        note=f"solve {n}x{n} for {k}",
    )  # fmt: skip
    _defined(b, [result], e.outputs)
    return None


@lowers("qr")
def _qr(b: Builder, e: Equation) -> Any:
    q, r = e.outputs
    wide = _wide(q.dtype)
    *lead, m, n = q.shape
    k = min(m, n)
    raw = linalg_loop(q.dtype, "C->C", "qr_r_raw", "qr_r_raw_m" if m < n else "qr_r_raw_n")
    reduced = linalg_loop(q.dtype, "CC->C", "qr_reduced")
    views = _stacks(b, e.operands, wide)
    choose = loops.where(np.float64)
    if raw is None or reduced is None or views is None or choose is None or m < n:
        return NotImplemented
    a = b.array(views[0].shape, wide)
    b.copy(views[0], a)  # the reflectors take its place
    tau, out = b.array((*lead, k), wide), b.array(q.shape, wide)
    cost = 4 if q.dtype.kind == "c" else 1
    half = stack_flops(cost * (2.0 * n * n * (m - n / 3)), *lead)
    emit_stack(
        b, raw, [a], [tau], lead, refusal=NO_QR, inplace={0: a}, flops=half, note=f"qr of {m}x{n}"
    )
    emit_stack(b, reduced, [a, tau], [out], lead, refusal=NO_QR, flops=half, note=f"q of {m}x{n}")
    top = a.at(a.offset, (*lead, k, n), a.strides)
    _defined(b, [out, _upper(b, top, choose)], [q, r])
    return None


def _upper(b: Builder, a: View, choose: Any) -> View:
    """The upper triangle, zeros below it; complex entries as pairs of numbers."""
    keep = np.triu(np.ones(a.shape[-2:], np.bool_))
    half = np.dtype(np.float64)
    if a.dtype.kind != "c":
        return mapped(b, choose, [b.constant(keep), a, b.view(0.0, half)], half, a.shape)
    pairs = View(a.buffer, a.offset, (*a.shape, 2), (*a.strides, 8), half)
    out = mapped(
        b, choose, [b.constant(keep[..., None]), pairs, b.view(0.0, half)], half, pairs.shape
    )
    return View(out.buffer, out.offset, a.shape, out.strides[:-1], a.dtype)
