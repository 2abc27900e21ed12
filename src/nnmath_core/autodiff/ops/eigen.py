"""Eigenvalues and eigenvectors of general matrices: complex for every traced matrix.

The rule of perturbation theory, for vectors of length 1 whose phase is LAPACK's. A function must not see the phase,
nor the basis of a repeated eigenvalue (`gauge`); where the matrix is defective the vectors are dependent, and the
derivative, which does not exist, is infinite or the `LinAlgError` of a singular matrix.
"""

from __future__ import annotations

import math

import numpy as np

from nnmath_core._ext._autodiff import value_of
from nnmath_core.autodiff.ops.compare import greater, logical_and
from nnmath_core.autodiff.ops.contract import matmul
from nnmath_core.autodiff.ops.conventions import Aval, beside, dtype_of, is_staged, shape_of
from nnmath_core.autodiff.ops.elementwise import absolute, conjugated
from nnmath_core.autodiff.ops.gauge import BASIS, OPEN, PHASE, guarded_p
from nnmath_core.autodiff.ops.linalg import solve_p
from nnmath_core.autodiff.ops.plain import numpys
from nnmath_core.autodiff.ops.reduce import any, max, sum_p
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import cast, floating, imag, real, stop_gradient
from nnmath_core.autodiff.ops.stacks import (
    adjoint,
    diagonal_of,
    each_batched,
    on_diagonal,
    square_last,
)
from nnmath_core.autodiff.primitive import Primitive, sample

__all__ = ["eig", "eigvals"]

EigResult = type(np.linalg.eig(np.eye(1)))


def _eig_host(be, a):
    """NumPy's decomposition, of a complex matrix that is real that of the real one, in pairs of conjugates."""
    xp = be.xp
    plain = a.real if not bool(xp.any(a.imag != 0)) else a
    w, v = xp.linalg.eig(plain)
    return w.astype(a.dtype), v.astype(a.dtype)


def _alike(w):
    """Which eigenvalues count as one, pair by pair, and their differences w_j - w_i."""
    n = shape_of(w)[-1]
    gap = w[..., None, :] - w[..., :, None]
    size = absolute(stop_gradient(w))
    top = max(size, (-1,), keepdims=True) if n else size
    near = absolute(stop_gradient(gap)) <= top[..., None] * (
        4 * n * float(np.finfo(dtype_of(size)).eps)
    )
    return near, gap


def _inverted(gap, same):
    return where(same, 0, 1 / where(same, 1, gap))


def _large(x):
    """Entries that are not rounding errors beside the largest one."""
    size = absolute(stop_gradient(x))
    if not all(shape_of(size)):
        return greater(size, 0)
    return greater(
        size, float(np.finfo(dtype_of(size)).eps) ** 0.5 * max(size, (-2, -1), keepdims=True)
    )


def _eig_back(gs, xs, ys):
    (gw, gv), (w, v) = gs, ys
    vh = adjoint(v)
    n = shape_of(w)[-1]
    same, gap = _alike(w)
    middle = None if gw is None else on_diagonal(_shared(conjugated(gw), same))
    if gv is not None:
        vb = conjugated(gv)
        k = matmul(vh, vb)
        d = diagonal_of(k)
        scale = stop_gradient(max(absolute(k), (-2, -1), keepdims=True)) if n else 0
        small = float(np.finfo(dtype_of(real(w))).eps) ** 0.5
        phase = (
            any(greater(absolute(stop_gradient(imag(d))), small * scale[..., 0]), -1)
            if n
            else False
        )
        inner = k - matmul(matmul(vh, v), on_diagonal(cast(real(d), dtype_of(v))))
        off = logical_and(same, beside(same, ~np.eye(n, dtype=bool)))
        basis = any(logical_and(off, absolute(stop_gradient(inner)) > small * scale), (-2, -1))
        flags = where(phase, PHASE, where(basis, BASIS, 0))
        if gw is not None:
            g = stop_gradient(gw)
            uneven = (
                absolute(g[..., None, :] - g[..., :, None])
                > small * max(absolute(g), -1)[..., None, None]
            )
            flags = where(
                logical_and(flags == 0, any(logical_and(off, uneven), (-2, -1))), OPEN, flags
            )
        part = guarded_p(
            conjugated(_inverted(gap, same)) * inner, flags, who="eig", value="eigenvalue"
        )
        middle = part if middle is None else middle + part
    return conjugated(solve_p(vh, matmul(middle, vh)))


def _shared(g, same):
    """Each entry as the mean over the eigenvalues that count as one, where these differ."""
    member = cast(same, dtype_of(real(g)))
    axis = (len(shape_of(g)),)
    mean = sum_p(member * g[..., None, :], axis=axis, keepdims=False) / sum_p(
        member, axis=axis, keepdims=False
    )
    if not shape_of(g)[-1]:
        return g
    size = absolute(stop_gradient(g))
    small = float(np.finfo(dtype_of(size)).eps) ** 0.5
    uneven = absolute(stop_gradient(g - mean)) > small * max(size, -1, keepdims=True)
    return where(any(logical_and(same, uneven[..., None, :]), -1), mean, g)


def _eig_forward(t, xs, ys):
    w, v = ys
    m = solve_p(v, matmul(t, v))
    same, gap = _alike(w)
    turned = matmul(v, _inverted(gap, same) * m)
    # vectors keep their length, and their phase as far as the function can see it
    along = real(sum_p(conjugated(v) * turned, axis=(len(shape_of(v)) - 2,), keepdims=True))
    dv = turned - v * along
    off = logical_and(same, beside(same, ~np.eye(shape_of(w)[-1], dtype=bool)))
    if is_staged(w) or bool(value_of(any(off))):
        dv = where(any(logical_and(off, _large(m)), -2, keepdims=True), math.nan, dv)
    return diagonal_of(m), dv


eig_p = Primitive(
    "eig",
    forward=_eig_host,
    outputs="all",
    vjp=(_eig_back,),
    jvp=(_eig_forward,),
    keeps=("y",),
    shape=lambda a: (Aval(a.shape[:-1], a.dtype), Aval(a.shape, a.dtype)),
    batch=each_batched(lambda: eig_p),
    samples=lambda d: [
        sample(np.array([[1.0, 2.0, 0.5], [-1.0, 0.25, 1.0], [0.5, 0.0, -1.5]]) + 0j),
        sample(d.normal(2, 3, 3) + 1j * d.normal(2, 3, 3)),
    ],
    domain="diagonalisable; vectors in functions that see neither their phase nor the basis of a repeated value",
    library="cusolver",
)


def _complex(a):
    a = floating(a)
    dtype = dtype_of(a)
    return a if dtype.kind == "c" else cast(a, np.result_type(dtype, np.complex64))


@numpys(np.linalg.eig)
def eig(a):
    """NumPy's ``linalg.eig``; of a traced matrix the results are complex, whatever their values."""
    square_last("eig", a)
    return EigResult(*eig_p(_complex(a)))


@numpys(np.linalg.eigvals)
def eigvals(a):
    """NumPy's ``linalg.eigvals``; of a traced matrix they are complex, whatever their values."""
    square_last("eigvals", a)
    return eig_p(_complex(a))[0]
