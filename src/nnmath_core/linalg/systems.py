"""Systems of equations, triangular factors and determinants, under SciPy's names."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnmath_core.autodiff.ops.banded import banded_p, shifted
from nnmath_core.autodiff.ops.conventions import (
    as_operand,
    beside,
    dtype_of,
    ndim_of,
    real_dtype,
    result_dtype,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import conjugated, log
from nnmath_core.autodiff.ops.factorisations import (
    cholesky_p,
    lu_p,
    order_of_pivots_p,
    pivots_p,
)
from nnmath_core.autodiff.ops.fft import fft, ifft
from nnmath_core.autodiff.ops.index import argsort, take_along_axis
from nnmath_core.autodiff.ops.join import concatenate, stack
from nnmath_core.autodiff.ops.least_squares import lstsq as _lstsq, pinv as _pinv
from nnmath_core.autodiff.ops.linalg import (
    det as _det,
    inv as _inv,
    slogdet,
    solve as _solve,
    solve_triangular_p,
    tril,
    triu,
)
from nnmath_core.autodiff.ops.plain import scipys
from nnmath_core.autodiff.ops.reduce import count_nonzero, max, sum
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import (
    broadcast_to,
    cast,
    copied,
    floating,
    real,
    reshape,
    stop_gradient,
)
from nnmath_core.autodiff.ops.spectral import svdvals as _svdvals
from nnmath_core.autodiff.ops.stacks import (
    adjoint,
    diagonal_of,
    hermitian_of,
    matrices_last,
    square_last,
)
from nnmath_core.checks import require_in
from nnmath_core.device import entering
from nnmath_core.errors import ShapeError
from nnmath_core.linalg.special_matrices import toeplitz

__all__ = [
    "cho_factor",
    "cho_solve",
    "cholesky",
    "det",
    "inv",
    "logdet",
    "lstsq",
    "lu",
    "lu_factor",
    "lu_solve",
    "pinv",
    "slogdet",
    "solve",
    "solve_banded",
    "solve_circulant",
    "solve_toeplitz",
    "solve_triangular",
    "solveh_banded",
]


def _as_columns(who: str, n: int, b: Any, lead: tuple[int, ...] = ()) -> tuple[Any, bool]:
    """The right-hand sides as columns, and whether b was one vector."""
    b = floating(b)
    s = shape_of(b)
    vector = len(s) == 1
    if not s or s[0 if vector else -2] != n:
        raise ShapeError(f"{who}: `b` must have {n} rows, got shape {s}.")
    if vector:
        b = reshape(b, (n, 1))
    both = np.broadcast_shapes(lead, shape_of(b)[:-2])
    return broadcast_to(b, (*both, *shape_of(b)[-2:])), vector


def _triangular(who: str, a: Any, b: Any, lower: bool, unit: bool = False) -> Any:
    s = square_last(who, a)
    columns, vector = _as_columns(who, s[-1], b, s[:-2])
    lead = shape_of(columns)[:-2]
    x = solve_triangular_p(
        broadcast_to(floating(a), (*lead, *s[-2:])), columns, lower=lower, unit=unit
    )
    return reshape(x, shape_of(x)[:-1]) if vector else x


@scipys("scipy.linalg")
def solve_triangular(
    a: Any,
    b: Any,
    trans: Any = 0,
    lower: Any = False,
    unit_diagonal: Any = False,
    overwrite_b: Any = False,
    check_finite: Any = True,
) -> Any:
    """SciPy's ``linalg.solve_triangular``; the other triangle is not read and has no derivative."""
    a = floating(a)
    square_last("solve_triangular", a)
    if trans in (1, "T"):
        a, lower = a.swapaxes(-1, -2), not lower
    elif trans in (2, "C"):
        a, lower = adjoint(a), not lower
    elif trans not in (0, "N"):
        raise ValueError(
            f"solve_triangular: `trans` must be 0, 1, 2, 'N', 'T' or 'C', got {trans!r}."
        )
    return _triangular("solve_triangular", a, b, bool(lower), bool(unit_diagonal))


@scipys("scipy.linalg")
def solve(
    a: Any,
    b: Any,
    lower: Any = False,
    overwrite_a: Any = False,
    overwrite_b: Any = False,
    check_finite: Any = True,
    assume_a: Any = None,
    transposed: Any = False,
) -> Any:
    """SciPy's ``linalg.solve``; of a structure that is assumed one triangle is read, and has the derivative."""
    a = floating(a)
    n = square_last("solve", a)[-1]
    kind = "gen" if assume_a is None else assume_a
    if kind in ("pos", "positive definite", "sym", "symmetric", "her", "hermitian"):
        if transposed and dtype_of(a).kind == "c":
            raise NotImplementedError(
                "solve: `transposed` is not available for complex structured matrices."
            )
        if kind in ("sym", "symmetric"):
            low = tril(a, -1) if lower else triu(a, 1)
            diagonal = where(beside(a, np.eye(n, dtype=bool)), a, 0)
            a = low + low.swapaxes(-1, -2) + diagonal
        else:
            a = hermitian_of(a, bool(lower))
            if kind in ("pos", "positive definite"):
                return _cho_solve("solve", cholesky_p(a), True, b)
    elif kind in ("lower triangular", "upper triangular"):
        return solve_triangular(a, b, trans=int(bool(transposed)), lower=kind[0] == "l")
    elif kind == "diagonal":
        d = diagonal_of(a)
        return floating(b) / (d if ndim_of(b) == 1 else d[..., None])
    elif kind not in ("gen", "general", "banded", "tridiagonal"):
        raise ValueError(f"solve: `assume_a` = {assume_a!r} is not a recognized matrix structure.")
    if transposed:
        a = a.swapaxes(-1, -2)
    columns, vector = _as_columns("solve", n, b, shape_of(a)[:-2])
    x = _solve(a, columns)
    return reshape(x, shape_of(x)[:-1]) if vector else x


# ------------------------------------------------------------------------------------------------ Cholesky
@scipys("scipy.linalg")
def cholesky(a: Any, lower: Any = False, overwrite_a: Any = False, check_finite: Any = True) -> Any:
    """SciPy's ``linalg.cholesky``: the upper factor unless ``lower``; one triangle is read and has the derivative."""
    a = floating(a)
    square_last("cholesky", a)
    return cholesky_p(a) if lower else adjoint(cholesky_p(adjoint(a)))


@scipys("scipy.linalg")
def cho_factor(
    a: Any, lower: Any = False, overwrite_a: Any = False, check_finite: Any = True
) -> tuple[Any, bool]:
    """SciPy's ``linalg.cho_factor``; the other triangle, where SciPy leaves what it finds, is 0."""
    return cholesky(a, lower=lower), bool(lower)


@scipys("scipy.linalg")
def cho_solve(c_and_lower: Any, b: Any, overwrite_b: Any = False, check_finite: Any = True) -> Any:
    """SciPy's ``linalg.cho_solve``, of a factor that may be traced."""
    c, lower = c_and_lower
    return _cho_solve("cho_solve", floating(c), bool(lower), b)


def _cho_solve(who: str, c: Any, lower: bool, b: Any) -> Any:
    first, second = (c, adjoint(c)) if lower else (adjoint(c), c)
    return _triangular(who, second, _triangular(who, first, b, True), False)


# ------------------------------------------------------------------------------------------------ LU
@scipys("scipy.linalg")
def lu(
    a: Any,
    permute_l: Any = False,
    overwrite_a: Any = False,
    check_finite: Any = True,
    p_indices: Any = False,
) -> Any:
    """SciPy's ``linalg.lu``; the permutation carries no derivative."""
    a = floating(a)
    *_, m, n = matrices_last("lu", a)
    order, low, up = lu_p(a)
    back = argsort(order, axis=-1)
    if permute_l:
        return take_along_axis(low, back[..., None], -2), up
    if not m or not n:  # SciPy's permutation is empty, too
        back = back[..., :0]
    if p_indices:
        return back, low, up
    rows = np.arange(shape_of(back)[-1])
    p = cast(back[..., :, None] == beside(a, rows), real_dtype(a))
    return p, low, up


@scipys("scipy.linalg")
def lu_factor(a: Any, overwrite_a: Any = False, check_finite: Any = True) -> tuple[Any, Any]:
    """SciPy's ``linalg.lu_factor``: both factors in one matrix, and LAPACK's pivots, which carry no derivative."""
    a = floating(a)
    s = matrices_last("lu_factor", a)
    order, low, up = lu_p(a)
    m, n = s[-2:]
    k = m if m < n else n
    low, up = tril(low, -1), triu(up)
    lead = shape_of(a)[:-2]
    if n > k:
        low = concatenate([low, beside(a, np.zeros((*lead, m, n - k), dtype_of(low)))], -1)
    if m > k:
        up = concatenate([up, beside(a, np.zeros((*lead, m - k, n), dtype_of(up)))], -2)
    return low + up, pivots_p(order, k=k)


@scipys("scipy.linalg")
def lu_solve(
    lu_and_piv: Any, b: Any, trans: Any = 0, overwrite_b: Any = False, check_finite: Any = True
) -> Any:
    """SciPy's ``linalg.lu_solve``, of a pair of `lu_factor`, whose matrix may be traced."""
    packed, pivots = lu_and_piv
    packed = floating(packed)
    s = square_last("lu_solve", packed, "lu")
    order = order_of_pivots_p(as_operand(pivots))
    columns, vector = _as_columns("lu_solve", s[-1], b, s[:-2])
    if trans == 0:
        moved = take_along_axis(columns, order[..., None], -2)
        x = _triangular(
            "lu_solve", packed, _triangular("lu_solve", packed, moved, True, True), False
        )
    elif trans in (1, 2):
        flipped = packed.swapaxes(-1, -2) if trans == 1 else adjoint(packed)
        x = _triangular(
            "lu_solve", flipped, _triangular("lu_solve", flipped, columns, True), False, True
        )
        x = take_along_axis(x, argsort(order, axis=-1)[..., None], -2)
    else:
        raise ValueError(f"lu_solve: `trans` must be 0, 1 or 2, got {trans!r}.")
    return reshape(x, shape_of(x)[:-1]) if vector else x


# ------------------------------------------------------------------------------------------------ inverse, determinant
@scipys("scipy.linalg")
def inv(
    a: Any,
    overwrite_a: Any = False,
    check_finite: Any = True,
    *,
    assume_a: Any = None,
    lower: Any = False,
) -> Any:
    """SciPy's ``linalg.inv``."""
    if assume_a in ("pos", "positive definite", "her", "hermitian"):
        a = hermitian_of(floating(a), bool(lower))
    return _inv(a)


@scipys("scipy.linalg")
def det(a: Any, overwrite_a: Any = False, check_finite: Any = True) -> Any:
    """SciPy's ``linalg.det``."""
    return _det(a)


@entering
def logdet(a: Any, *, assume_a: str = "pos", lower: bool = True) -> Any:
    r"""The logarithm of the determinant of a positive definite matrix, or of its absolute value.

    .. math:: \log |\det A|, \qquad d \log |\det A| = \operatorname{tr}(A^{-1} dA).

    Parameters
    ----------
    a : array, shape (..., n, n)
        Square matrices.
    assume_a : {"pos", "gen"}, default "pos"
        ``"pos"``: Hermitian and positive definite, of which one triangle is read; by Cholesky. ``"gen"``: any; by LU.
    lower : bool, default True
        Which triangle is read.

    Returns
    -------
    array, shape (...)
        Of the real dtype of ``a``; -inf where a general matrix is singular.

    Raises
    ------
    numpy.linalg.LinAlgError
        ``a`` is not positive definite.
    ShapeError
        The matrices are not square.
    DomainError
        ``assume_a`` is neither.

    Notes
    -----
    Cost: n^3 / 3 multiplications by Cholesky, twice as many by LU. The sign of a general matrix: `slogdet`.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> float(nm.linalg.logdet(np.diag([1.0, np.e])))
    1.0
    """
    require_in("logdet", "assume_a", assume_a, ("pos", "gen"))
    a = floating(a)
    square_last("logdet", a)
    if assume_a == "pos":
        factor = cholesky_p(a if lower else adjoint(a))
        return 2.0 * sum(log(real(diagonal_of(factor))), -1)
    return slogdet(a)[1]


# ------------------------------------------------------------------------------------------------ least squares
@scipys("scipy.linalg")
def pinv(
    a: Any,
    *,
    atol: Any = None,
    rtol: Any = None,
    return_rank: Any = False,
    check_finite: Any = True,
) -> Any:
    """SciPy's ``linalg.pinv``, differentiated along matrices of the rank that the tolerances find."""
    a = floating(a)
    *lead, m, n = matrices_last("pinv", a)
    if not m or not n:
        y = _pinv(a, rcond=0.0)
        return (y, beside(a, np.zeros(lead, int))) if return_rank else y
    atol = 0.0 if atol is None else atol
    if rtol is None:
        rtol = (m if m > n else n) * float(np.finfo(real_dtype(a)).eps) if not atol else 0.0
    s = stop_gradient(_svdvals(a))
    top = max(s, -1)
    cutoff = atol + rtol * top
    relative = where(top > 0, cutoff / where(top > 0, top, 1.0), 0.0)
    y = _pinv(a, rcond=relative)
    return (y, count_nonzero(s > cutoff[..., None], -1)) if return_rank else y


@scipys("scipy.linalg")
def lstsq(
    a: Any,
    b: Any,
    cond: Any = None,
    overwrite_a: Any = False,
    overwrite_b: Any = False,
    check_finite: Any = True,
    lapack_driver: Any = None,
) -> Any:
    """SciPy's ``linalg.lstsq``: the solution of least norm, differentiated along matrices of one rank."""
    rcond = float(np.finfo(real_dtype(floating(a))).eps) if cond is None else cond
    return _lstsq(a, b, rcond)


# ------------------------------------------------------------------------------------------------ with structure
@scipys("scipy.linalg")
def solve_banded(
    l_and_u: Any,
    ab: Any,
    b: Any,
    overwrite_ab: Any = False,
    overwrite_b: Any = False,
    check_finite: Any = True,
) -> Any:
    """SciPy's ``linalg.solve_banded``: O(n) for a fixed number of bands, and so are the derivatives."""
    lower, upper = (int(k) for k in l_and_u)
    ab = floating(ab)
    s = matrices_last("solve_banded", ab, "ab")
    if lower + upper + 1 != s[-2]:
        raise ShapeError(f"solve_banded: `ab` must have {lower + upper + 1} rows, got shape {s}.")
    columns, vector = _as_columns("solve_banded", s[-1], b, s[:-2])
    lead = shape_of(columns)[:-2]
    x = banded_p(broadcast_to(ab, (*lead, *s[-2:])), columns, lower=lower, upper=upper)
    return reshape(x, shape_of(x)[:-1]) if vector else x


@scipys("scipy.linalg")
def solveh_banded(
    ab: Any,
    b: Any,
    overwrite_ab: Any = False,
    overwrite_b: Any = False,
    lower: Any = False,
    check_finite: Any = True,
) -> Any:
    """SciPy's ``linalg.solveh_banded``: one half of the bands of a Hermitian matrix."""
    ab = floating(ab)
    s = matrices_last("solveh_banded", ab, "ab")
    k, n = s[-2] - 1, s[-1]
    rows = [ab[..., (d if lower else k - d), :] for d in range(k + 1)]  # the d-th diagonal
    pad = [where(beside(ab, _present(n, d, bool(lower))), row, 0) for d, row in enumerate(rows)]
    below = [p if lower else conjugated(_moved(p, d)) for d, p in enumerate(pad)]
    above = [conjugated(_moved(p, -d)) if lower else p for d, p in enumerate(pad)]
    bands = [*above[:0:-1], real(pad[0]) + 0 * pad[0], *below[1:]]
    return solve_banded((k, k), stack(bands, -2), b)


def _present(n: int, d: int, lower: bool) -> np.ndarray:
    j = np.arange(n)
    return j < n - d if lower else j >= d


def _moved(row: Any, k: int) -> Any:
    return shifted(row, k)


@scipys("scipy.linalg")
def solve_toeplitz(c_or_cr: Any, b: Any, check_finite: Any = True) -> Any:
    """SciPy's ``linalg.solve_toeplitz``; by the dense matrix, O(n^3) in place of Levinson's O(n^2)."""
    c, r = c_or_cr if isinstance(c_or_cr, tuple) else (c_or_cr, None)
    return solve(toeplitz(c, r), b)


@scipys("scipy.linalg")
def solve_circulant(
    c: Any,
    b: Any,
    singular: Any = "raise",
    tol: Any = None,
    caxis: Any = -1,
    baxis: Any = 0,
    outaxis: Any = 0,
) -> Any:
    """SciPy's ``linalg.solve_circulant``, by Fourier transforms; a singular matrix is not looked for."""
    if singular != "raise" or tol is not None:
        raise NotImplementedError(
            "solve_circulant: `singular` and `tol` are not available on traced arrays."
        )
    c, b = (reshape(x, (1,)) if ndim_of(x) == 0 else x for x in (floating(c), floating(b)))
    n = shape_of(c)[caxis]
    if shape_of(b)[baxis] != n:
        raise ValueError("Shapes of c and b are incompatible")
    if 0 in shape_of(b):
        return cast(copied(b), result_dtype(c, b))
    fc = fft(_last(c, caxis), axis=-1)
    fb = fft(_last(b, baxis), axis=-1)
    x = ifft(fb / fc, axis=-1)
    if dtype_of(c).kind != "c" and dtype_of(b).kind != "c":
        x = real(x)
    return _from_last(x, outaxis)


def _last(x: Any, axis: int) -> Any:
    n = len(shape_of(x))
    axis %= n
    return x.transpose(*[i for i in range(n) if i != axis], axis)


def _from_last(x: Any, axis: int) -> Any:
    n = len(shape_of(x))
    axis %= n
    order = list(range(n - 1))
    order.insert(axis, n - 1)
    return x.transpose(*order)
