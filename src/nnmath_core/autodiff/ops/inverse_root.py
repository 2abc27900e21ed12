"""The inverse square root of a symmetric positive definite matrix, the map that whitens.

It is an analytic function of the matrix: no difference of eigenvalues stands in a denominator, only sums of two
positive numbers, so that repeated and nearly repeated eigenvalues need no care, in any order of derivative.
"""

from __future__ import annotations

import numpy as np

from nnmath_core.autodiff.ops.contract import matmul
from nnmath_core.autodiff.ops.conventions import Aval, all_batched, floating_dtype
from nnmath_core.autodiff.ops.shape import matrix_transpose
from nnmath_core.autodiff.ops.stacks import each_batched
from nnmath_core.autodiff.primitive import Primitive, sample
from nnmath_core.errors import DtypeError

__all__ = ["inverse_root_p", "symmetric_slope_p"]


def _even(t):
    """The symmetric part: all that the functions read of a matrix."""
    return (t + matrix_transpose(t)) * 0.5


def _require_real(who, *xs):
    """Of complex matrices a symmetric part is not what one wants, and a Hermitian one is not analytic."""
    if any(x.dtype.kind == "c" for x in xs):
        raise DtypeError(f"{who}: the matrix must be real, got complex numbers.")


def _eigenbasis(xp, a):
    """Eigenvalues and eigenvectors; NaN for a matrix that is not finite, at which LAPACK gives up."""
    a = a.astype(np.result_type(a.dtype, np.float32))
    finite = xp.isfinite(a).all(axis=(-2, -1))
    a = xp.where(finite[..., None, None], a, 0.0)
    w, v = xp.linalg.eigh((a + xp.swapaxes(a, -1, -2)) * 0.5)
    return xp.where(finite[..., None], w, xp.nan), v


def _inverse_root_forward(be, a):
    xp = be.xp
    _require_real("inverse_root", a)
    w, v = _eigenbasis(xp, a)
    with np.errstate(divide="ignore", invalid="ignore"):  # a singular matrix has no inverse root
        scaled = v / xp.sqrt(w)[..., None, :]
    return xp.matmul(scaled, xp.swapaxes(v, -1, -2))


def _slope_forward(be, y, t):
    xp = be.xp
    _require_real("symmetric_slope", y, t)
    w, v = _eigenbasis(xp, y)
    t = t.astype(np.result_type(y.dtype, t.dtype, np.float32))
    vt = xp.swapaxes(v, -1, -2)
    inner = xp.matmul(xp.matmul(vt, t), v) / (w[..., :, None] + w[..., None, :])
    return xp.matmul(xp.matmul(v, inner), vt)


def _slope_back(g, xs, x):
    pulled = symmetric_slope_p(xs[0], g)
    xt = matrix_transpose(x)
    return _even(-matmul(pulled, xt) - matmul(xt, pulled))


def _slope_moved(t, xs, x):
    t = _even(t)
    return -symmetric_slope_p(xs[0], matmul(t, x) + matmul(x, t))


symmetric_slope_p = Primitive(
    "symmetric_slope",
    forward=_slope_forward,
    vjp=(_slope_back, lambda g, xs, x: symmetric_slope_p(xs[0], g)),
    jvp=(_slope_moved, lambda t, xs, x: symmetric_slope_p(xs[0], t)),
    keeps=("0y", "0"),
    shape=lambda y, t: Aval(t.shape, floating_dtype(y, t)),
    batch=lambda on, v, size: symmetric_slope_p(*all_batched(on, v, size)),
    samples=lambda d: [
        sample(d.spd(3), d.normal(3, 3)),
        sample(d.spd(2, 2), d.normal(2, 2, 2)),
    ],
    domain="y symmetric, positive definite",
    library="cusolver",
)
"""The derivative x of a root y along t: y x + x y = t. Of y the symmetric part is read."""


def _turned(t, y):
    """Y (y y) = a^-1, so that dy y + y dy = -y^2 da y^2."""
    square = matmul(y, y)
    return -symmetric_slope_p(y, matmul(matmul(square, _even(t)), square))


inverse_root_p = Primitive(
    "inverse_root",
    forward=_inverse_root_forward,
    vjp=(lambda g, xs, y: _turned(g, y),),
    jvp=(lambda t, xs, y: _turned(t, y),),
    keeps=("y",),
    shape=lambda a: Aval(a.shape, floating_dtype(a)),
    batch=each_batched(lambda: inverse_root_p),
    samples=lambda d: [sample(d.spd(3)), sample(d.spd(2, 4)), sample(np.diag([2.0, 2.0, 2.0]) + 0.0)],
    domain="symmetric, positive definite",
    library="cusolver",
)  # fmt: skip
"""The inverse of the symmetric positive definite root of a. Of a the symmetric part is read."""
