"""Cholesky, QR and LU factorisations.

The Cholesky factor and Q conjugate, so their rules do too; QR has the diagonal of R that LAPACK makes, which is real.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg

from nnmath_core._ext._autodiff import alias, mark_fresh
from nnmath_core.autodiff.ops.compare import equal, logical_and
from nnmath_core.autodiff.ops.contract import matmul
from nnmath_core.autodiff.ops.conventions import (
    Aval,
    beside,
    dtype_of,
    floating_dtype,
    implements,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import conjugated
from nnmath_core.autodiff.ops.index import take_along_axis
from nnmath_core.autodiff.ops.join import concatenate
from nnmath_core.autodiff.ops.linalg import solve_triangular_p, tril, triu
from nnmath_core.autodiff.ops.plain import numpys
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import imag, matrix_transpose, stop_gradient
from nnmath_core.autodiff.ops.stacks import (
    adjoint,
    each_batched,
    eye_mask,
    folded,
    hermitian_of,
    matrices_last,
    square_last,
)
from nnmath_core.autodiff.primitive import Primitive, Special, sample
from nnmath_core.errors import TraceError

__all__ = ["cholesky", "lu_p", "order_of_pivots_p", "pivots_p", "qr", "qr_p"]


# ---------------------------------------------------------------------------------------------- Cholesky
def _half_lower(m):
    """Lower triangle with half the diagonal."""
    n = shape_of(m)[-1]
    return where(beside(m, np.tri(n, dtype=bool)), m, 0) * where(
        beside(m, np.eye(n, dtype=bool)), m * 0 + 0.5, 1
    )


def _lower(a, b):
    return solve_triangular_p(a, b, lower=True, unit=False)


def _upper(a, b):
    return solve_triangular_p(a, b, lower=False, unit=False)


def _cholesky_forward(t, xs, y):
    inner = _lower(y, adjoint(_lower(y, hermitian_of(t))))
    return matmul(y, _half_lower(inner))


def _cholesky_back(g, xs, y):
    yh = adjoint(y)
    s = _half_lower(matmul(yh, conjugated(g)))
    return conjugated(folded(_upper(yh, adjoint(_upper(yh, adjoint(s))))))


cholesky_p = Primitive(
    "cholesky",
    forward="linalg.cholesky",
    vjp=(_cholesky_back,),
    jvp=(_cholesky_forward,),
    keeps=("y",),
    shape=lambda a: Aval(a.shape, floating_dtype(a)),
    batch=each_batched(lambda: cholesky_p),
    samples=lambda d: [sample(d.spd(3)), sample(d.spd(2, 4))],
    special=[
        Special(
            "cholesky reads the lower triangle: no derivative above it",
            ([[4.0, 0.0], [0.0, 9.0]],),
            ([[0.25, 0.0], [0.5, 1.0 / 6.0]],),
        )
    ],
    domain="Hermitian, positive definite",
    library="cusolver",
)


@implements(np.linalg.cholesky)
def cholesky(a, /, *, upper=False):
    """NumPy's ``linalg.cholesky``; like NumPy it reads the lower triangle only, and so do the derivatives."""
    square_last("cholesky", a)
    if upper:
        return mark_fresh(adjoint(cholesky_p(adjoint(alias(a)))))
    return cholesky_p(a)


# ---------------------------------------------------------------------------------------------- QR
def _right_upper(x, r):
    """Return x inv(r) for an upper triangular r."""
    return matrix_transpose(
        solve_triangular_p(matrix_transpose(r), matrix_transpose(x), lower=True, unit=False)
    )


def _open_pivots(r, free):
    """An upper triangle with NaN for zeros on its diagonal, which have no derivative; ``free``: 1 for the last one."""
    n = shape_of(r)[-1]
    if not n:
        return r
    last = np.zeros((n, n), bool)
    last[-1, -1] = free
    nought = equal(stop_gradient(r), 0)
    r = where(logical_and(nought, beside(r, last)), 1.0, r)
    return where(logical_and(nought, beside(r, np.eye(n, dtype=bool) & ~last)), math.nan, r)


def _qr_forward(t, xs, ys):
    # dA = dQ R + Q dR with Q^H dQ skew and dR upper triangular: the lower part of Q^H dA inv(R) decides
    q, r = ys
    # of a square real matrix nothing is divided by the last pivot: it may be 0
    free = shape_of(q)[-2] == shape_of(q)[-1] and dtype_of(q).kind != "c"
    moved = _right_upper(t, _open_pivots(r, free))
    inner = matmul(adjoint(q), moved)
    low = tril(inner, -1)
    turn = low - adjoint(low)
    if dtype_of(q).kind == "c":  # the diagonal of R stays real
        turn = turn + where(eye_mask(inner, shape_of(inner)[-1]), imag(inner) * 1j, 0)
    dr = triu(matmul(adjoint(q), t) - matmul(turn, r))
    return (matmul(q, turn) if free else moved + matmul(q, turn - inner)), dr


def _tall(d, m, n, *batch):
    return np.eye(m, n) * 2 + 0.4 * d.normal(*batch, m, n)


qr_p = Primitive(
    "qr",
    forward=lambda be, a: tuple(be.xp.linalg.qr(a)),
    outputs="all",
    jvp=(_qr_forward,),
    keeps=("y",),
    shape=lambda a: (
        Aval(a.shape, floating_dtype(a)),
        Aval((*a.shape[:-2], a.shape[-1], a.shape[-1]), floating_dtype(a)),
    ),
    batch=each_batched(lambda: qr_p),
    samples=lambda d: [sample(_tall(d, 3, 3)), sample(_tall(d, 3, 2, 2))],
    domain="at least as many rows as columns, which are independent (of a square real matrix all but the last)",
    library="cusolver",
)
QRResult = type(np.linalg.qr(np.eye(1)))


@numpys(np.linalg.qr)
def qr(a, mode="reduced"):
    """NumPy's ``linalg.qr``; of a wide matrix the first columns decide. Mode 'complete' of a tall one is refused."""
    *_, m, n = matrices_last("qr", a)
    if mode in ("raw", "economic", "e") or (mode in ("complete", "c") and m > n):
        raise TraceError(
            f"qr: mode {mode!r} of a traced {m} x {n} matrix has no derivative: the columns of Q beyond the first {n} "
            "are an arbitrary basis. Use mode 'reduced', and the projector I - Q Q^H in place of the other columns."
            if mode in ("complete", "c")
            else f"qr: mode {mode!r} is not available on traced arrays. Use 'reduced' or 'r'."
        )
    if mode not in ("reduced", "r", "complete", "c", "full", "f"):
        raise ValueError(f"Unrecognized mode '{mode}'")
    if m >= n:
        q, r = qr_p(a)
    else:
        a = alias(a)
        q, r = qr_p(a[..., :, :m])
        r = concatenate([r, matmul(adjoint(q), a[..., :, m:])], -1)
    return r if mode == "r" else QRResult(q, r)


# ---------------------------------------------------------------------------------------------- LU
def _lu_host(be, a):
    xp = be.xp
    if xp is np:
        return _lu_by_lapack(a)
    return _lu_by_columns(xp, a)


def _lu_by_lapack(a):
    m, n = a.shape[-2:]
    if not m or not n:
        order = np.broadcast_to(np.arange(m), a.shape[:-1]).copy()
        return order, a[..., :, :0].copy(), a[..., :0, :].copy()
    p, low, up = scipy.linalg.lu(a, p_indices=True, check_finite=False)  # a = low[p] @ up
    return np.argsort(p, axis=-1).astype(np.int64), low, up


def _lu_by_columns(xp, a):
    """Elimination with row exchanges, a column at a time for all matrices of a stack."""
    m, n = a.shape[-2:]
    k = m if m < n else n
    up = a.astype(np.result_type(a.dtype, np.float32))
    low = xp.zeros((*a.shape[:-2], m, k), up.dtype)
    order = xp.broadcast_to(xp.arange(m), a.shape[:-1]).copy()
    for j in range(k):
        top = xp.argmax(xp.abs(up[..., j:, j]), axis=-1)[..., None] + j
        rows = xp.broadcast_to(xp.arange(m), a.shape[:-1])
        swapped = xp.where(rows == j, top, xp.where(rows == top, j, rows))
        order = xp.take_along_axis(order, swapped, axis=-1)
        up = xp.take_along_axis(up, swapped[..., None], axis=-2)
        low = xp.take_along_axis(low, swapped[..., None], axis=-2)
        pivot = up[..., j, j][..., None]
        factor = xp.where(pivot != 0, up[..., :, j] / xp.where(pivot != 0, pivot, 1), 0)
        factor = xp.where(xp.arange(m) > j, factor, xp.zeros_like(factor))
        low[..., :, j] = xp.where(xp.arange(m) == j, 1, factor)
        up = up - factor[..., :, None] * up[..., j, :][..., None, :]
    return order, low, xp.triu(up[..., :k, :])


def _lu_shape(a):
    *lead, m, n = a.shape
    k, dtype = m if m < n else n, floating_dtype(a)
    return (
        Aval((*lead, m), np.dtype(np.int64)),
        Aval((*lead, m, k), dtype),
        Aval((*lead, k, n), dtype),
    )


def _lu_forward(t, xs, ys):
    # P dA = dL U + L dU: the strict lower part of inv(L) P dA inv(U) belongs to L, the rest to U
    order, low, up = ys
    m, n = shape_of(low)[-2], shape_of(up)[-1]
    k = shape_of(low)[-1]
    t = take_along_axis(t, order[..., None], -2)
    low1, up1 = low[..., :k, :], up[..., :, :k]
    # what belongs to the pivots before a zero has a derivative; the last pivot divides the rows below alone
    inner = _right_upper(t[..., :k, :k], _open_pivots(up1, True))
    inner = tril(solve_triangular_p(low1, inner, lower=True, unit=True), -1)
    dlow = tril(matmul(low1, inner), -1)
    dup = triu(solve_triangular_p(low1, t[..., :k, :k] - matmul(dlow, up1), lower=True, unit=True))
    if m > k:
        below = t[..., k:, :] - matmul(low[..., k:, :], dup)
        below = _right_upper(below, _open_pivots(up1, False))
        dlow = concatenate([dlow, below], -2)
    if n > k:
        rest = t[..., :, k:] - matmul(dlow, up[..., :, k:])
        dup = concatenate([dup, solve_triangular_p(low1, rest, lower=True, unit=True)], -1)
    return None, dlow, dup


lu_p = Primitive(
    "lu",
    forward=_lu_host,
    outputs=(False, True, True),
    jvp=(_lu_forward,),
    keeps=("y",),
    shape=_lu_shape,
    batch=each_batched(lambda: lu_p),
    samples=lambda d: [
        sample(_tall(d, 3, 3)[[1, 2, 0]]),
        sample(_tall(d, 3, 2, 2)),
        sample(_tall(d, 2, 3)),
    ],
    domain="leading square part invertible; no two candidates for a pivot of one size",
    library="cusolver",
)
"""Rows in the order of the pivots, L with ones on its diagonal, U: a[order] = L U."""


def _pivots(be, order, *, k):
    xp = be.xp
    places = xp.arange(order.shape[-1])
    rows = xp.broadcast_to(places, order.shape)
    out = xp.zeros((*order.shape[:-1], k), np.int32)
    for i in range(k):
        at = xp.argmax(rows == order[..., i : i + 1], axis=-1)[..., None]
        out[..., i] = at[..., 0]
        rows = xp.where(places == at, rows[..., i : i + 1], rows)
        rows = xp.where(places == i, order[..., i : i + 1], rows)
    return out


pivots_p = Primitive(
    "pivots",
    forward=_pivots,
    differentiable=False,
    shape=lambda order, *, k: Aval((*order.shape[:-1], k), np.dtype(np.int32)),
    batch=lambda on, v, size, *, k: pivots_p(v[0], k=k),
    samples=lambda d: [
        sample(np.array([2, 0, 3, 1]), k=4),
        sample(np.array([[1, 2, 0], [2, 1, 0]]), k=2),
    ],
)
"""The order of the rows as LAPACK's exchanges: row i with row pivots[i], for the first k in turn."""


def _order_of_pivots(be, pivots):
    xp = be.xp
    n = pivots.shape[-1]
    rows = xp.arange(n)
    order = xp.broadcast_to(rows, pivots.shape).astype(np.int64)
    for i in range(n):
        j = pivots[..., i : i + 1]
        swapped = xp.where(rows == i, j, xp.where(rows == j, i, rows))
        order = xp.take_along_axis(order, swapped, axis=-1)
    return order


order_of_pivots_p = Primitive(
    "order_of_pivots",
    forward=_order_of_pivots,
    differentiable=False,
    shape=lambda pivots: Aval(pivots.shape, np.dtype(np.int64)),
    batch=lambda on, v, size: order_of_pivots_p(v[0]),
    samples=lambda d: [
        sample(np.array([2, 2, 3, 3], np.int32)),
        sample(np.array([[1, 2, 2], [2, 1, 2]], np.int32)),
    ],
)
"""The inverse of `pivots` of a square matrix: the order of the rows that the exchanges make."""
