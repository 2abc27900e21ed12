"""Eigenvalues of Hermitian matrices and singular values, and what becomes of them where they are repeated.

The rules are those of perturbation theory. Where values are repeated (`gauge` says when), their vectors are a basis
that LAPACK chose. Reverse mode: cotangents of values are shared among equals, and cotangents of vectors must not see
the basis, which is checked (`GradientError`). Forward mode: the basis is chosen in which the tangent is diagonal, so
that values move along their one-sided derivatives, and what does not depend on the basis is exact. Functions of the
matrix have rules of their own, which need no vectors.
"""

from __future__ import annotations

import math

import numpy as np

from nnmath_core._ext._autodiff import value_of
from nnmath_core.autodiff.ops.compare import greater, less, less_equal, logical_and
from nnmath_core.autodiff.ops.contract import matmul
from nnmath_core.autodiff.ops.conventions import (
    Aval,
    beside,
    constant,
    dtype_of,
    floating_dtype,
    is_staged,
    real_dtype,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import absolute, conjugated
from nnmath_core.autodiff.ops.gauge import (
    alike_p,
    gauge_p,
    guarded_p,
    repeated,
    rotation_p,
    rotations_p,
    shared,
)
from nnmath_core.autodiff.ops.index import argsort, take_along_axis
from nnmath_core.autodiff.ops.join import concatenate
from nnmath_core.autodiff.ops.plain import numpys
from nnmath_core.autodiff.ops.reduce import any, max
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import cast, flip, matrix_transpose, real, stop_gradient
from nnmath_core.autodiff.ops.stacks import (
    adjoint,
    diagonal_of,
    each_batched,
    folded,
    hermitian_of,
    matrices_last,
    on_diagonal,
    square_last,
)
from nnmath_core.autodiff.primitive import Primitive, sample

__all__ = ["eigh", "eigvalsh", "svd", "svdvals"]


def _scaled_columns(v, d):
    return v * d[..., None, :]


def _differences(w, same):
    """1 / (w_j - w_i), and 0 where they count as one."""
    return where(same, 0, 1 / where(same, 1, w[..., None, :] - w[..., :, None]))


def _skew(k):
    return (k - adjoint(k)) * 0.5


def _columns_left_open(m, same):
    """Columns of vectors of a repeated value that the tangent m would turn: they have no derivative."""
    n = shape_of(m)[-1]
    if not n:
        return beside(m, np.zeros((1, 0), bool))
    size = absolute(stop_gradient(m))
    small = float(np.finfo(dtype_of(size)).eps) ** 0.5
    bound = small * max(size, (-2, -1), keepdims=True)
    off = logical_and(logical_and(same, beside(m, ~np.eye(n, dtype=bool))), greater(size, bound))
    return any(off, -2, keepdims=True)


# ------------------------------------------------------------------------------------------------ eigh
def _eigh_back(gs, xs, ys, *, lower):
    (gw, gv), (w, v) = gs, ys
    vh = adjoint(v)
    several = repeated(w)
    if gv is None:
        d = shared(gw, alike_p(w)) if several else gw
        out = matmul(_scaled_columns(v, d), vh)
    else:
        k = matmul(vh, conjugated(gv))
        same = alike_p(w)
        middle = _differences(w, same) * _skew(k)
        if several or dtype_of(v).kind == "c":
            seen = stop_gradient(gw if gw is not None else w)
            flags = gauge_p(stop_gradient(k), seen, stop_gradient(w), values=gw is not None)
            middle = guarded_p(middle, flags, who="eigh", value="eigenvalue")
        if gw is not None:
            middle = middle + on_diagonal(gw)
        out = matmul(matmul(v, middle), vh)
    return conjugated(folded(out, lower))


def _eigh_forward(t, xs, ys, *, lower):
    w, v = ys
    m = matmul(adjoint(v), matmul(hermitian_of(t, lower), v))
    same = alike_p(w)
    dv = matmul(v, _differences(w, same) * m)
    if repeated(w):
        dv = where(_columns_left_open(m, same), math.nan, dv)
    return real(diagonal_of(m)), dv


def _eigh_adapt(ts, xs, ys, *, lower):
    w, v = ys
    if is_staged(ts[0]) or is_staged(w) or not repeated(w):
        return ys
    m = matmul(adjoint(v), matmul(hermitian_of(ts[0], lower), v))
    return w, matmul(v, rotation_p(stop_gradient(m), stop_gradient(w)))


def _apart(d, m, n, *batch):
    """Matrices with the singular values 1, 2, 3, ... times a factor near 1."""
    k = min(m, n)
    u = np.linalg.qr(d.normal(*batch, m, k))[0]
    v = np.linalg.qr(d.normal(*batch, n, k))[0]
    return (u * (np.arange(k, 0, -1) * d.within(0.9, 1.1, *batch, k))[..., None, :]) @ np.swapaxes(
        v, -1, -2
    )


def _symmetric(d, n, *batch):
    u = np.linalg.qr(d.normal(*batch, n, n))[0]
    return (u * (np.arange(n) + d.within(0.9, 1.1, *batch, n))[..., None, :]) @ np.swapaxes(
        u, -1, -2
    )


def _eigh_host(be, a, *, lower):
    w, v = be.xp.linalg.eigh(a, "L" if lower else "U")
    return w, v


eigh_p = Primitive(
    "eigh",
    forward=_eigh_host,
    outputs="all",
    vjp=(_eigh_back,),
    jvp=(_eigh_forward,),
    adapt=_eigh_adapt,
    keeps=("y",),
    shape=lambda a, *, lower: (
        Aval(a.shape[:-1], real_dtype(a)),
        Aval(a.shape, floating_dtype(a)),
    ),
    batch=each_batched(lambda: eigh_p),
    samples=lambda d: [
        sample(_symmetric(d, 3), lower=True),
        sample(_symmetric(d, 2, 4), lower=False),
        sample(_symmetric(d, 1), lower=True),
    ],
    domain="Hermitian; vectors of a repeated value in functions that do not see their basis",
    library="cusolver",
)
EighResult = type(np.linalg.eigh(np.eye(1)))
SVDResult = type(np.linalg.svd(np.eye(1)))


def _uplo(UPLO):
    if not isinstance(UPLO, str) or UPLO.upper() not in ("L", "U"):
        raise ValueError("UPLO argument must be 'L' or 'U'")
    return UPLO.upper() == "L"


@numpys(np.linalg.eigh)
def eigh(a, UPLO="L"):
    """NumPy's ``linalg.eigh``; like NumPy it reads one triangle, and so do the derivatives."""
    square_last("eigh", a)
    return EighResult(*eigh_p(a, lower=_uplo(UPLO)))


@numpys(np.linalg.eigvalsh)
def eigvalsh(a, UPLO="L"):
    """NumPy's ``linalg.eigvalsh``; repeated eigenvalues share their derivative equally."""
    square_last("eigvalsh", a)
    return eigh_p(a, lower=_uplo(UPLO))[0]


# ------------------------------------------------------------------------------------------------ svd
def _unfolded(ys, full):
    """U, s, V and the columns that complete U and V to square matrices (None: there are none)."""
    u, s, vh = ys
    v = adjoint(vh)
    k, m, n = shape_of(s)[-1], shape_of(u)[-2], shape_of(v)[-2]
    u2 = u[..., :, k:] if full and m > k else None
    v2 = v[..., :, k:] if full and n > k else None
    return (
        u[..., :, :k] if u2 is not None else u,
        s,
        v[..., :, :k] if v2 is not None else v,
        u2,
        v2,
    )


def _nought(s):
    """Singular values that count as 0."""
    n = shape_of(s)[-1]
    if not n:
        return less(stop_gradient(s), 0)
    top = max(stop_gradient(s), -1, keepdims=True) * (4 * n * float(np.finfo(dtype_of(s)).eps))
    return less_equal(stop_gradient(s), top)


def _sums(s, nought):
    """1 / (s_i + s_j), and 0 where both are 0."""
    both = logical_and(nought[..., :, None], nought[..., None, :])
    return where(both, 0, 1 / where(both, 1, s[..., None, :] + s[..., :, None]))


def _outside(u, x):
    """The part of x that is orthogonal to the columns of u."""
    return x - matmul(u, matmul(adjoint(u), x))


def _without_kinks(g, nought):
    """Return g with 0 where a singular value is 0, the subgradient of least norm of |s|, unless g is 0 there anyway."""
    if not shape_of(g)[-1]:
        return g
    size = absolute(stop_gradient(g))
    small = float(np.finfo(dtype_of(size)).eps) ** 0.5
    return where(logical_and(nought, greater(size, small * max(size, -1, keepdims=True))), 0, g)


def _left_over(u, x, nought):
    """Columns of what lies outside of u that belong to the value 0: a vector of it may be any of the null space."""
    size = absolute(stop_gradient(x))
    small = float(np.finfo(dtype_of(size)).eps) ** 0.5
    return logical_and(
        nought[..., None, :], greater(size, small * max(size, (-2, -1), keepdims=True))
    )


def _svd_guard(middle, zu, zv, gs, s, nought):
    """Refuse cotangents that see the basis of repeated values, or that of the value 0 on either side."""
    said = {"who": "svd", "value": "singular value"}
    like = stop_gradient(s if gs is None else gs)
    z, y = stop_gradient(zu + zv), stop_gradient(zu - zv)
    middle = guarded_p(middle, gauge_p(z, like, stop_gradient(s), values=gs is not None), **said)
    n = shape_of(s)[-1]
    # a level for each value that is not 0: those that are 0 count as one, and turn separately left and right
    places = where(nought, 0, beside(s, np.arange(n, 0, -1).astype(dtype_of(s))))
    inside = logical_and(nought[..., :, None], nought[..., None, :])
    return guarded_p(middle, gauge_p(where(inside, y, 0), like, places, values=False), **said)


def _null_guard(x, u2, ub2):
    """Refuse a cotangent of the completing columns that sees their basis."""
    k = matmul(adjoint(u2), ub2)
    level = constant(k, shape_of(k)[:-1], 0, real_dtype(stop_gradient(k)))
    flags = gauge_p(stop_gradient(k), level, level, values=False)
    return guarded_p(x, flags, who="svd", value="singular value")


def _side(u, u2, cotangent):
    """The cotangent of the thin vectors u, with that of the columns u2 that complete them."""
    k = shape_of(u)[-1]
    if cotangent is None or u2 is None:
        return cotangent
    first, second = cotangent[..., :, :k], cotangent[..., :, k:]
    return _null_guard(first - matmul(u2, matmul(adjoint(second), u)), u2, second)


def _svd_back(gs, xs, ys, *, full):
    gu, gd, gvh = gs
    u, s, v, u2, v2 = _unfolded(ys, full)
    vh, nought, same = adjoint(v), _nought(s), alike_p(s)
    if gu is None and gvh is None:
        return conjugated(matmul(_scaled_columns(u, _without_kinks(shared(gd, same), nought)), vh))
    ub = _side(u, u2, None if gu is None else conjugated(gu))
    vb = _side(v, v2, None if gvh is None else matrix_transpose(gvh))
    zu = s[..., None] * 0 if ub is None else matmul(adjoint(u), ub)
    zv = s[..., None] * 0 if vb is None else matmul(vh, vb)
    middle = _differences(s, same) * _skew(zu + zv) + _sums(s, nought) * _skew(zu - zv)
    loose = repeated(s) or _may_be_nought(s)
    if loose or dtype_of(u).kind == "c":
        middle = _svd_guard(middle, zu, zv, gd, s, nought)
    if gd is not None:
        middle = middle + on_diagonal(_without_kinks(gd, nought))
    out = matmul(matmul(u, middle), vh)
    inverse = where(nought, 0, 1 / where(nought, 1, s))
    for side, bar, other, turned in ((u, ub, vh, False), (v, vb, adjoint(u), True)):
        if bar is None or shape_of(side)[-2] == shape_of(s)[-1]:
            continue
        rest = _outside(side, bar)
        if loose:
            flags = where(any(_left_over(side, rest, nought), (-2, -1)), 1, 0)
            rest = guarded_p(rest, flags, who="svd", value="singular value")
        part = matmul(_scaled_columns(rest, inverse), other)
        out = out + (adjoint(part) if turned else part)
    return conjugated(out)


def _may_be_nought(s):
    if is_staged(s):
        return True
    return bool(value_of(_nought(s)).any())


def _svd_turns(p, s, same, nought):
    sym, skew = (p + adjoint(p)) * 0.5, _skew(p)
    turn, slip = _differences(s, same) * sym, _sums(s, nought) * skew
    return turn + slip, turn - slip


def _svd_vectors(u, u2, turn, moved, s, nought, loose):
    """Tangent of one side's vectors: their turn among each other, and out of their span."""
    du = matmul(u, turn)
    if shape_of(u)[-2] == shape_of(s)[-1]:
        return du
    rest = _outside(u, moved)
    out = _scaled_columns(rest, where(nought, 0, 1 / where(nought, 1, s)))
    lost = where(_left_over(u, rest, nought), math.nan, out) if loose else out
    du = du + lost
    if u2 is None:
        return du
    return concatenate([du, -matmul(u, adjoint(matmul(adjoint(u2), out)))], -1)


def _svd_forward(t, xs, ys, *, full):
    u, s, v, u2, v2 = _unfolded(ys, full)
    tv = matmul(t, v)
    p = matmul(adjoint(u), tv)
    same, nought = alike_p(s), _nought(s)
    loose = repeated(s) or _may_be_nought(s)
    left, right = _svd_turns(p, s, same, nought)
    if loose:
        inside = logical_and(nought[..., :, None], nought[..., None, :])
        lost = _columns_left_open(where(inside, p, p + adjoint(p)), same)
        left, right = where(lost, math.nan, left), where(lost, math.nan, right)
    du = _svd_vectors(u, u2, left, tv, s, nought, loose)
    dv = _svd_vectors(v, v2, right, matmul(adjoint(t), u), s, nought, loose)
    return du, real(diagonal_of(p)), adjoint(dv)


def _svd_adapt(ts, xs, ys, *, full):
    if is_staged(ts[0]) or is_staged(ys[1]) or not (repeated(ys[1]) or _may_be_nought(ys[1])):
        return ys
    u, s, v, u2, v2 = _unfolded(ys, full)
    p = matmul(adjoint(u), matmul(ts[0], v))
    left, right = rotations_p(stop_gradient(p), stop_gradient(s))
    u, v = matmul(u, left), matmul(v, right)
    u = u if u2 is None else concatenate([u, u2], -1)
    v = v if v2 is None else concatenate([v, v2], -1)
    return u, s, adjoint(v)


def _svd_shape(a, *, full):
    *lead, m, n = a.shape
    k, dtype = m if m < n else n, floating_dtype(a)
    return (
        Aval((*lead, m, m if full else k), dtype),
        Aval((*lead, k), real_dtype(a)),
        Aval((*lead, n if full else k, n), dtype),
    )


svd_p = Primitive(
    "svd",
    forward=lambda be, a, *, full: tuple(be.xp.linalg.svd(a, full_matrices=full)),
    outputs="all",
    vjp=(_svd_back,),
    jvp=(_svd_forward,),
    adapt=_svd_adapt,
    keeps=("y",),
    shape=_svd_shape,
    batch=each_batched(lambda: svd_p),
    samples=lambda d: [
        sample(_apart(d, 3, 3), full=False),
        sample(_apart(d, 4, 2, 2), full=False),
        sample(_apart(d, 2, 3), full=False),
        sample(_apart(d, 2, 3), full=True),
        sample(_apart(d, 3, 2, 2), full=True),
    ],
    domain="vectors of a repeated value, or of 0, in functions that do not see their basis",
    library="cusolver",
)


@numpys(np.linalg.svd)
def svd(a, full_matrices=True, compute_uv=True, hermitian=False):
    """NumPy's ``linalg.svd``; the derivative of a singular value at 0 is 0, the subgradient of least norm."""
    matrices_last("svd", a)
    if hermitian:
        return _hermitian_svd(a, compute_uv)
    if not compute_uv:
        return svd_p(a, full=False)[1]
    return SVDResult(*svd_p(a, full=bool(full_matrices)))


def _hermitian_svd(a, compute_uv):
    """Singular values of a Hermitian matrix from its eigenvalues, largest magnitude first."""
    square_last("svd", a)
    w, v = eigh_p(a, lower=True)
    s = absolute(w)
    order = flip(argsort(stop_gradient(s), -1), -1)
    s = take_along_axis(s, order, -1)
    if not compute_uv:
        return s
    v = take_along_axis(v, order[..., None, :], -1)
    turned = where(less(take_along_axis(w, order, -1), 0), -1.0, 1.0)
    return SVDResult(v, s, adjoint(_scaled_columns(v, cast(turned, dtype_of(s)))))


@numpys(np.linalg.svdvals)
def svdvals(x, /):
    """NumPy's ``linalg.svdvals``: singular values, largest first."""
    matrices_last("svdvals", x, "x")
    return svd_p(x, full=False)[1]
