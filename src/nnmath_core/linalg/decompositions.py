"""Orthogonal and spectral decompositions, under SciPy's names."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from nnmath_core._ext._autodiff import value_of
from nnmath_core.autodiff.ops.contract import matmul
from nnmath_core.autodiff.ops.conventions import beside, dtype_of, is_staged, shape_of
from nnmath_core.autodiff.ops.eigen import eig as _eig, eigvals as _eigvals
from nnmath_core.autodiff.ops.factorisations import cholesky_p, qr as _qr
from nnmath_core.autodiff.ops.join import concatenate
from nnmath_core.autodiff.ops.linalg import solve_triangular_p
from nnmath_core.autodiff.ops.matrix_functions import polar_p
from nnmath_core.autodiff.ops.norms import norm as _norm
from nnmath_core.autodiff.ops.plain import scipys
from nnmath_core.autodiff.ops.shape import floating
from nnmath_core.autodiff.ops.spectral import eigh_p, svd as _svd, svdvals as _svdvals
from nnmath_core.autodiff.ops.stacks import (
    adjoint,
    hermitian_of,
    matrices_last,
    on_diagonal,
    square_last,
)
from nnmath_core.errors import ShapeError, TraceError

__all__ = [
    "eig",
    "eigh",
    "eigh_tridiagonal",
    "eigvals",
    "eigvalsh",
    "eigvalsh_tridiagonal",
    "norm",
    "null_space",
    "orth",
    "polar",
    "qr",
    "svd",
    "svdvals",
]


def _unavailable(who: str, what: str, instead: str) -> NoReturn:
    raise TraceError(f"{who}: {what} is not available on traced arrays. {instead}")


@scipys("scipy.linalg")
def qr(
    a: Any,
    overwrite_a: Any = False,
    lwork: Any = None,
    mode: Any = "full",
    pivoting: Any = False,
    check_finite: Any = True,
) -> Any:
    """SciPy's ``linalg.qr``; of a tall matrix the derivative exists in mode 'economic' and 'r' alone."""
    a = floating(a)
    *_, m, n = matrices_last("qr", a)
    if pivoting:
        _unavailable("qr", "`pivoting`", "Permute the columns before: a[:, p].")
    if mode == "r" and m > n:
        r = _qr(a, "r")  # SciPy's R has the rows of zeros
        rows = beside(a, np.zeros((*shape_of(a)[:-2], m - n, n), dtype_of(r)))
        return (_joined([r, rows]),)
    if mode in ("r", "economic"):
        return (_qr(a, "r"),) if mode == "r" else tuple(_qr(a, "reduced"))
    if mode == "full":
        return tuple(_qr(a, "complete"))
    return _unavailable("qr", f"mode {mode!r}", "Use 'full', 'economic' or 'r'.")


def _joined(parts: list[Any]) -> Any:
    return concatenate(parts, -2)


@scipys("scipy.linalg")
def svd(
    a: Any,
    full_matrices: Any = True,
    compute_uv: Any = True,
    overwrite_a: Any = False,
    check_finite: Any = True,
    lapack_driver: Any = "gesdd",
) -> Any:
    """SciPy's ``linalg.svd``."""
    y = _svd(floating(a), full_matrices=full_matrices, compute_uv=compute_uv)
    return tuple(y) if compute_uv else y


@scipys("scipy.linalg")
def svdvals(a: Any, overwrite_a: Any = False, check_finite: Any = True) -> Any:
    """SciPy's ``linalg.svdvals``: singular values, largest first."""
    return _svdvals(floating(a))


@scipys("scipy.linalg")
def norm(
    a: Any, ord: Any = None, axis: Any = None, keepdims: Any = False, check_finite: Any = True
) -> Any:
    """SciPy's ``linalg.norm``."""
    return _norm(a, ord, axis, keepdims)


# ------------------------------------------------------------------------------------------------ eigenvalues
@scipys("scipy.linalg")
def eigh(
    a: Any,
    b: Any = None,
    *,
    lower: Any = True,
    eigvals_only: Any = False,
    overwrite_a: Any = False,
    overwrite_b: Any = False,
    type: Any = 1,
    check_finite: Any = True,
    subset_by_index: Any = None,
    subset_by_value: Any = None,
    driver: Any = None,
) -> Any:
    """SciPy's ``linalg.eigh``, the generalised problems included: through the Cholesky factor of b."""
    a = floating(a)
    square_last("eigh", a)
    if subset_by_value is not None:
        _unavailable(
            "eigh", "`subset_by_value`", "Use subset_by_index, or select from all of them."
        )
    w, v = eigh_p(a, lower=bool(lower)) if b is None else _generalised(a, b, bool(lower), int(type))
    if subset_by_index is not None:
        low, high = (int(i) for i in subset_by_index)
        w, v = w[..., low : high + 1], v[..., :, low : high + 1]
    return w if eigvals_only else (w, v)


def _generalised(a: Any, b: Any, lower: bool, kind: int) -> tuple[Any, Any]:
    """1: a v = w b v; 2: a b v = w v; 3: b a v = w v, with b = l l^H."""
    b = floating(b)
    if square_last("eigh", b, "b") != shape_of(a):
        raise ShapeError(f"eigh: `b` must have the shape {shape_of(a)} of `a`, got {shape_of(b)}.")
    if kind not in (1, 2, 3):
        raise ValueError(f'"type" keyword only accepts 1, 2, and 3, got {kind}.')
    factor = cholesky_p(b if lower else adjoint(b))
    full = hermitian_of(a, lower)
    if kind == 1:
        half = solve_triangular_p(factor, full, lower=True, unit=False)
        inner = adjoint(solve_triangular_p(factor, adjoint(half), lower=True, unit=False))
    else:
        inner = matmul(adjoint(factor), matmul(full, factor))
    w, y = eigh_p(inner, lower=True)
    if kind == 3:
        return w, matmul(factor, y)
    return w, solve_triangular_p(adjoint(factor), y, lower=False, unit=False)


@scipys("scipy.linalg")
def eigvalsh(
    a: Any,
    b: Any = None,
    *,
    lower: Any = True,
    overwrite_a: Any = False,
    overwrite_b: Any = False,
    type: Any = 1,
    check_finite: Any = True,
    subset_by_index: Any = None,
    subset_by_value: Any = None,
    driver: Any = None,
) -> Any:
    """SciPy's ``linalg.eigvalsh``; repeated eigenvalues share their derivative equally."""
    return eigh(
        a, b, lower=lower, eigvals_only=True, type=type, subset_by_index=subset_by_index,
        subset_by_value=subset_by_value,
    )  # fmt: skip


def _tridiagonal(d: Any, e: Any) -> Any:
    d, e = floating(d), floating(e)
    n = shape_of(d)[-1]
    if shape_of(e)[-1] != n - 1:
        raise ShapeError(f"eigh_tridiagonal: `e` must have {n - 1} entries, got {shape_of(e)[-1]}.")
    low = e[..., :, None] * beside(e, np.eye(n - 1, n, dtype=dtype_of(e)))
    zero = beside(e, np.zeros((*shape_of(e)[:-1], 1, n), dtype_of(e)))
    return on_diagonal(d) + _joined([zero, low])


@scipys("scipy.linalg")
def eigh_tridiagonal(
    d: Any,
    e: Any,
    eigvals_only: Any = False,
    select: Any = "a",
    select_range: Any = None,
    check_finite: Any = True,
    tol: Any = 0.0,
    lapack_driver: Any = "auto",
) -> Any:
    """SciPy's ``linalg.eigh_tridiagonal``; by the dense matrix."""
    if select == "v":
        _unavailable("eigh_tridiagonal", "select='v'", "Use 'a' or 'i'.")
    chosen = select_range if select == "i" else None
    return eigh(_tridiagonal(d, e), eigvals_only=eigvals_only, subset_by_index=chosen)


@scipys("scipy.linalg")
def eigvalsh_tridiagonal(
    d: Any,
    e: Any,
    select: Any = "a",
    select_range: Any = None,
    check_finite: Any = True,
    tol: Any = 0.0,
    lapack_driver: Any = "auto",
) -> Any:
    """SciPy's ``linalg.eigvalsh_tridiagonal``; by the dense matrix."""
    return eigh_tridiagonal(d, e, True, select, select_range)


@scipys("scipy.linalg")
def eig(
    a: Any,
    b: Any = None,
    left: Any = False,
    right: Any = True,
    overwrite_a: Any = False,
    overwrite_b: Any = False,
    check_finite: Any = True,
    homogeneous_eigvals: Any = False,
) -> Any:
    """SciPy's ``linalg.eig``: eigenvalues and right vectors."""
    if b is not None or left or homogeneous_eigvals:
        _unavailable(
            "eig",
            "`b`, `left` or `homogeneous_eigvals`",
            "Write eig(solve(b, a)), or eig(a.conj().T).",
        )
    return tuple(_eig(a)) if right else _eigvals(a)


@scipys("scipy.linalg")
def eigvals(
    a: Any,
    b: Any = None,
    overwrite_a: Any = False,
    check_finite: Any = True,
    homogeneous_eigvals: Any = False,
) -> Any:
    """SciPy's ``linalg.eigvals``."""
    return eig(a, b, right=False, homogeneous_eigvals=homogeneous_eigvals)


# ------------------------------------------------------------------------------------------------ bases and polar form
@scipys("scipy.linalg")
def polar(a: Any, side: Any = "right") -> Any:
    """SciPy's ``linalg.polar``: the nearest matrix with orthonormal columns or rows, and a positive one."""
    a = floating(a)
    *_, m, n = matrices_last("polar", a)
    if side not in ("right", "left"):
        raise ValueError("`side` must be either 'right' or 'left'")
    u = polar_p(a) if m >= n else adjoint(polar_p(adjoint(a)))
    p = matmul(adjoint(u), a) if side == "right" else matmul(a, adjoint(u))
    return u, (p + adjoint(p)) * 0.5


def _rank_of(who: str, s: Any, shape: tuple[int, ...], rcond: Any) -> int:
    if is_staged(s):
        raise TraceError(
            f"{who}: the rank, which decides the shape, is a value, and there is none while staging."
        )
    values = value_of(s)
    if values.ndim != 1:
        raise TraceError(
            f"{who}: the rank, which decides the shape, may differ between the examples of a batch."
        )
    if rcond is None:
        rcond = float(np.finfo(values.dtype).eps) * max(shape)
    top = float(values.max()) if values.size else 0.0
    return int((values > top * rcond).sum())


@scipys("scipy.linalg")
def orth(A: Any, rcond: Any = None) -> Any:
    """SciPy's ``linalg.orth``; only functions that do not see the basis, as Q Q^H, have a derivative everywhere."""
    A = floating(A)
    u, s, _ = _svd(A, full_matrices=False)
    return u[:, : _rank_of("orth", s, shape_of(A), rcond)]


@scipys("scipy.linalg")
def null_space(
    A: Any,
    rcond: Any = None,
    *,
    overwrite_a: Any = False,
    check_finite: Any = True,
    lapack_driver: Any = "gesdd",
) -> Any:
    """SciPy's ``linalg.null_space``; only functions that do not see the basis, as Z Z^H, have a derivative."""
    A = floating(A)
    _, s, vh = _svd(A, full_matrices=True)
    return adjoint(vh[_rank_of("null_space", s, shape_of(A), rcond) :, :])
