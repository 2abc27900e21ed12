"""Functions of a square matrix: integer powers, exponential, square root, logarithm, and the Sylvester equation.

Their Frechet derivatives are blocks of the same function of a matrix twice the size, f([[A, E], [0, A]]), or the
solution of a Sylvester equation; both are written with the functions themselves, so that every order exists.
Repeated eigenvalues need no care.
"""

from __future__ import annotations

import math
import operator

import numpy as np
import scipy.linalg

from nnmath_core._ext._autodiff import mark_fresh
from nnmath_core.autodiff.ops.contract import matmul
from nnmath_core.autodiff.ops.conventions import (
    Aval,
    all_batched,
    beside,
    constant,
    dtype_of,
    floating_dtype,
    shape_of,
)
from nnmath_core.autodiff.ops.join import concatenate
from nnmath_core.autodiff.ops.linalg import inv, solve_p
from nnmath_core.autodiff.ops.plain import numpys
from nnmath_core.autodiff.ops.shape import broadcast_to, copied, floating, matrix_transpose
from nnmath_core.autodiff.ops.stacks import adjoint, each_batched, square_last
from nnmath_core.autodiff.primitive import Primitive, sample
from nnmath_core.errors import DomainError, DtypeError

__all__ = [
    "expm_frechet_p",
    "expm_p",
    "logm_p",
    "matrix_power",
    "polar_p",
    "sqrtm_p",
    "sylvester_p",
]


# ------------------------------------------------------------------------------------------------ integer powers
@numpys(np.linalg.matrix_power)
def matrix_power(a, n):
    """NumPy's ``linalg.matrix_power``, by repeated squaring; a negative exponent inverts first."""
    a = floating(a) if not hasattr(a, "dtype") or operator.index(n) < 0 else a
    square_last("matrix_power", a)
    n = operator.index(n)
    if n == 0:
        eye = beside(a, np.eye(shape_of(a)[-1], dtype=dtype_of(a)))
        return mark_fresh(copied(broadcast_to(eye, shape_of(a))))
    base = inv(a) if n < 0 else a
    power, result = abs(n), None
    while power:
        if power & 1:
            result = base if result is None else matmul(result, base)
        power >>= 1
        if power:
            base = matmul(base, base)
    return copied(result) if result is a else result


# ------------------------------------------------------------------------------------------------ Frechet derivatives
def _beside_below(a, e):
    """The block matrix [[a, e], [0, a]]."""
    top = concatenate([a, e], -1)
    return concatenate([top, concatenate([a * 0, a], -1)], -2)


def _frechet(p, a, e):
    """The derivative of a function of matrices at a in direction e: the corner of the function of a block matrix."""
    n = shape_of(a)[-1]
    return p(_beside_below(a, e))[..., :n, n:]


def _by_blocks(p):
    """The rules: L(A, E), and its transpose L(A^T, G)."""
    return {
        "vjp": (lambda g, xs, y: _frechet(p(), matrix_transpose(xs[0]), g),),
        "jvp": (lambda t, xs, y: _frechet(p(), xs[0], t),),
        "keeps": ("0",),
    }


# ------------------------------------------------------------------------------------------------ exponential
_PADE = tuple(
    math.factorial(26 - k) * math.factorial(13) / (math.factorial(26) * math.factorial(k) * math.factorial(13 - k))
    for k in range(14)
)  # fmt: skip
"""Coefficients of the numerator of the diagonal Pade approximant of order 13; Higham (2008), 10.31."""

_RADIUS = 5.371920351148152
"""1-norm up to which that approximant is exact to double rounding; table 10.2 there."""


def _expm_host(be, a):
    if be.xp is np:
        return scipy.linalg.expm(a)
    return _expm_by_squaring(be.xp, a)


def _expm_by_squaring(xp, a):
    n = a.shape[-1]
    a = a.astype(np.result_type(a.dtype, np.float32))
    if not a.size:
        return a
    size = float(xp.max(xp.sum(xp.abs(a), axis=-2)))
    times = max(0, math.ceil(math.log2(size / _RADIUS))) if 0 < size < math.inf else 0
    a = a / 2.0**times
    eye = xp.eye(n, dtype=a.dtype)
    square = xp.matmul(a, a)
    even, odd, power = _PADE[0] * eye, _PADE[1] * eye, eye
    for k in range(2, 14, 2):
        power = xp.matmul(power, square)
        even, odd = even + _PADE[k] * power, odd + _PADE[k + 1] * power
    odd = xp.matmul(a, odd)
    y = xp.linalg.solve(even - odd, even + odd)
    for _ in range(times):
        y = xp.matmul(y, y)
    return y


expm_p = Primitive(
    "expm",
    forward=_expm_host,
    **_by_blocks(lambda: expm_p),
    shape=lambda a: Aval(a.shape, floating_dtype(a)),
    batch=each_batched(lambda: expm_p),
    samples=lambda d: [sample(0.5 * d.normal(3, 3)), sample(0.5 * d.normal(2, 2, 2))],
    domain="square",
    library="cusolver",
)


def _expm_frechet_host(be, a, e):
    xp, n, dtype = be.xp, a.shape[-1], floating_dtype(a, e)
    if xp is not np:
        zero = xp.zeros(a.shape, dtype)
        rows = [xp.concatenate(pair, axis=-1) for pair in ((a.astype(dtype), e), (zero, a))]
        block = _expm_by_squaring(xp, xp.concatenate(rows, axis=-2))
        return _expm_by_squaring(xp, a), block[..., :n, n:]
    y, x = np.empty(a.shape, floating_dtype(a)), np.empty(e.shape, dtype)
    for i in np.ndindex(*a.shape[:-2]):
        y[i], x[i] = _expm_pair(a[i].astype(np.result_type(a, float)), e[i])
    return y, x


def _expm_pair(a, e):
    if not (np.isfinite(a).all() and np.isfinite(e).all()):
        return math.nan, math.nan
    return scipy.linalg.expm_frechet(a, e) if a.size else (a, e)


def _expm_slope(a, t):
    return expm_frechet_p(a, t)[1]


def _expm_second(a, e, t):
    """The second derivative along e and t: the derivative of the corner of exp [[a, e], [0, a]]."""
    n = shape_of(a)[-1]
    return _expm_slope(_beside_below(a, e), _block_diagonal(t))[..., :n, n:]


def _block_diagonal(t):
    zero = t * 0
    return concatenate([concatenate([t, zero], -1), concatenate([zero, t], -1)], -2)


def _expm_frechet_back(gs, xs, ys):
    (gy, gx), (at, et) = gs, map(matrix_transpose, xs)
    parts = [] if gy is None else [_expm_slope(at, gy)]
    parts += [] if gx is None else [_expm_second(at, et, gx)]
    return sum(parts[1:], parts[0])


expm_frechet_p = Primitive(
    "expm_frechet",
    forward=_expm_frechet_host,
    outputs="all",
    vjp=(
        _expm_frechet_back,
        lambda gs, xs, ys: None if gs[1] is None else _expm_slope(matrix_transpose(xs[0]), gs[1]),
    ),
    jvp=(
        lambda t, xs, ys: (_expm_slope(xs[0], t), _expm_second(xs[0], xs[1], t)),
        lambda t, xs, ys: (constant(t, shape_of(t), 0, dtype_of(ys[0])), _expm_slope(xs[0], t)),
    ),
    keeps=("01", "0"),
    shape=lambda a, e: (Aval(a.shape, floating_dtype(a)), Aval(e.shape, floating_dtype(a, e))),
    batch=each_batched(lambda: expm_frechet_p),
    samples=lambda d: [
        sample(0.5 * d.normal(3, 3), d.normal(3, 3)),
        sample(0.5 * d.normal(2, 2, 2), d.normal(2, 2, 2)),
    ],
    domain="square",
    library="cusolver",
)
"""The exponential of a, and its derivative along e, by squaring of both; SciPy's algorithm."""


# ------------------------------------------------------------------------------------------------ Sylvester
def _sylvester_host(be, a, b, q):
    xp = be.xp
    dtype = np.result_type(a.dtype, b.dtype, q.dtype, np.float32)
    if xp is not np:
        return _sylvester_by_kronecker(xp, a.astype(dtype), b.astype(dtype), q.astype(dtype))
    out = np.empty(q.shape, dtype)
    for i in np.ndindex(*q.shape[:-2]):
        out[i] = scipy.linalg.solve_sylvester(a[i], b[i], q[i]) if q[i].size else q[i]
    return out


def _sylvester_by_kronecker(xp, a, b, q):
    """One dense system of m n unknowns: (A x I + I x B^T) vec X = vec Q, row by row."""
    *lead, m, n = q.shape
    left = a[..., :, None, :, None] * xp.eye(n, dtype=a.dtype)[:, None, :]
    right = (
        xp.eye(m, dtype=b.dtype)[:, None, :, None] * xp.swapaxes(b, -1, -2)[..., None, :, None, :]
    )
    system = xp.reshape(left + right, (*lead, m * n, m * n))
    return xp.reshape(xp.linalg.solve(system, xp.reshape(q, (*lead, m * n, 1))), q.shape)


def _sylvester_pulled(g, xs):
    return sylvester_p(matrix_transpose(xs[0]), matrix_transpose(xs[1]), g)


sylvester_p = Primitive(
    "sylvester",
    forward=_sylvester_host,
    vjp=(
        lambda g, xs, y: -matmul(_sylvester_pulled(g, xs), matrix_transpose(y)),
        lambda g, xs, y: -matmul(matrix_transpose(y), _sylvester_pulled(g, xs)),
        lambda g, xs, y: _sylvester_pulled(g, xs),
    ),
    jvp=(
        lambda t, xs, y: -sylvester_p(xs[0], xs[1], matmul(t, y)),
        lambda t, xs, y: -sylvester_p(xs[0], xs[1], matmul(y, t)),
        lambda t, xs, y: sylvester_p(xs[0], xs[1], t),
    ),
    keeps=("01y", "01y", "01"),
    shape=lambda a, b, q: Aval(q.shape, floating_dtype(a, b, q)),
    batch=lambda on, v, size: sylvester_p(*all_batched(on, v, size)),
    samples=lambda d: [
        sample(d.spd(3), d.spd(2), d.normal(3, 2)),
        sample(d.spd(2, 2), d.spd(2, 2), d.normal(2, 2, 2)),
    ],
    domain="no eigenvalue of a is minus one of b",
    library="cusolver",
)
"""The solution x of a x + x b = q; on CUDA by a dense system of all its entries."""


# ------------------------------------------------------------------------------------------------ roots, logarithms
def _real_like(who, y, a):
    """The result in the dtype of a; a real matrix whose function is complex is refused."""
    if a.dtype.kind != "c" and y.dtype.kind == "c":
        if not np.all(np.abs(y.imag) <= 1e3 * np.finfo(y.real.dtype).eps * max(np.abs(y).max(), 1)):
            raise DomainError(
                f"{who}: `A` must have no negative eigenvalue when it is real, got one. "
                "Make it complex: A.astype(complex)."
            )
        y = y.real
    return y.astype(np.result_type(a.dtype, np.float32), copy=False)


def _real_root(y, a):
    """A root whose imaginary part comes from a negative eigenvalue that is a rounding error of 0: its real part."""
    if a.dtype.kind == "c" or y.dtype.kind != "c" or not np.all(np.isfinite(y)):
        return y
    error = np.abs(np.matmul(y.real, y.real) - a).max()
    return y.real if error <= 4 * len(a) * np.finfo(a.dtype).eps * np.abs(a).max() else y


def _each_by(f, who):
    def host(a):
        if a.dtype.kind not in "fc":
            raise DtypeError(f"{who}: `A` must be a floating array, got {a.dtype}.")
        out = np.empty(a.shape, a.dtype)
        for i in np.ndindex(*a.shape[:-2]):
            # in double precision: SciPy warns of what single precision lacks
            x = a[i].astype(np.result_type(a.dtype, np.float64))
            out[i] = _real_like(who, np.asarray(f(x)), a) if x.size else x
        return out

    return host


_sqrtm_lapack = _each_by(lambda a: _real_root(np.asarray(scipy.linalg.sqrtm(a)), a), "sqrtm")
_logm_lapack = _each_by(scipy.linalg.logm, "logm")


def _sqrtm_host(be, a):
    return _sqrtm_lapack(a) if be.xp is np else _sqrtm_by_newton(be.xp, a)


def _sqrtm_by_newton(xp, a):
    """The product form of the Denman and Beavers iteration; Higham, "Functions of Matrices", 6.29."""
    a = a.astype(np.result_type(a.dtype, np.float32))
    eye = xp.eye(a.shape[-1], dtype=a.dtype)
    m, y = a, a
    for _ in range(40):
        inverse = xp.linalg.inv(m)
        m, y = (eye + (m + inverse) / 2) / 2, xp.matmul(y, eye + inverse) / 2
        if float(xp.max(xp.abs(m - eye))) <= a.shape[-1] * float(np.finfo(a.real.dtype).eps):
            break
    return y


def _root_slope_host(be, y, t):
    xp = be.xp
    dtype = np.result_type(y.dtype, t.dtype, np.float32)
    if xp is not np:
        return _sylvester_by_kronecker(xp, y.astype(dtype), y.astype(dtype), t.astype(dtype))
    out = np.empty(t.shape, dtype)
    for i in np.ndindex(*t.shape[:-2]):
        out[i] = _root_slope(y[i], t[i]) if t[i].size else t[i]
    return out


def _root_slope(y, t):
    """Solve y x + x y = t; along the null space of y that is a division by 0."""
    finite = np.isfinite(y).all() and np.isfinite(t).all()
    u, s, vh = np.linalg.svd(np.where(np.isfinite(y), y, 0))
    n, eps = len(y), np.finfo(s.dtype).eps
    null = s <= 4 * n * eps * s[0]
    if finite and not null.any():
        return scipy.linalg.solve_sylvester(y, y, t)
    right, left = vh[null].conj().T, u[:, null].conj().T
    between = left @ right
    if not finite or np.linalg.cond(between) > 1 / np.sqrt(eps):  # of a Jordan block: no root
        return np.full(t.shape, np.nan, np.result_type(y, t))
    p = right @ np.linalg.solve(between, left)  # the projector to the null space along the range
    q, moved = np.eye(n, dtype=p.dtype) - p, y + p
    inside = p @ t @ p
    x = scipy.linalg.solve_sylvester(moved, moved, q @ t @ q)
    x = x + np.linalg.solve(moved, q @ t @ p) + np.linalg.solve(moved.T, (p @ t @ q).T).T
    touched = np.abs(p).max(1)[:, None] * np.abs(p).max(0) > 4 * n * eps * np.abs(p).max() ** 2
    inside = np.where(np.abs(inside) > 4 * n * eps * np.abs(t).max(), inside, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(touched, inside / 0.0, x)


root_slope_p = Primitive(
    "root_slope",
    forward=_root_slope_host,
    vjp=(
        lambda g, xs, x: _root_slope_back(g, xs, x),
        lambda g, xs, x: root_slope_p(matrix_transpose(xs[0]), g),
    ),
    jvp=(
        lambda t, xs, x: -root_slope_p(xs[0], matmul(t, x) + matmul(x, t)),
        lambda t, xs, x: root_slope_p(xs[0], t),
    ),
    keeps=("0y", "0"),
    shape=lambda y, t: Aval(t.shape, floating_dtype(y, t)),
    batch=lambda on, v, size: root_slope_p(*all_batched(on, v, size)),
    samples=lambda d: [
        sample(d.spd(3) + 0.2 * d.normal(3, 3), d.normal(3, 3)),
        sample(d.spd(2, 2), d.normal(2, 2, 2)),
    ],
    domain="square; no two eigenvalues of y have the sum 0",
    library="cusolver",
)
"""The derivative x of the root y of a matrix along t: y x + x y = t. Infinite, or NaN, along the null space of y."""


def _root_slope_back(g, xs, x):
    pulled = root_slope_p(matrix_transpose(xs[0]), g)
    xt = matrix_transpose(x)
    return -matmul(pulled, xt) - matmul(xt, pulled)


sqrtm_p = Primitive(
    "sqrtm",
    forward=_sqrtm_host,
    vjp=(lambda g, xs, y: root_slope_p(matrix_transpose(y), g),),
    jvp=(lambda t, xs, y: root_slope_p(y, t),),
    keeps=("y",),
    shape=lambda a: Aval(a.shape, floating_dtype(a)),
    batch=each_batched(lambda: sqrtm_p),
    samples=lambda d: [sample(d.spd(3) + 0.2 * d.normal(3, 3)), sample(d.spd(2, 2))],
    domain="square, no eigenvalue on the closed negative axis",
    library="cusolver",
)


def _logm_host(be, a):
    return _logm_lapack(a) if be.xp is np else _logm_by_roots(be.xp, a)


_NODES, _WEIGHTS = (v / 2 for v in np.polynomial.legendre.leggauss(8))


def _logm_by_roots(xp, a):
    """Inverse scaling and squaring: log A = 2^k log A^(1/2^k), by the Pade approximant of order 8 in partial fractions.

    Source: Higham, "Functions of Matrices", 11.18; its Gauss-Legendre nodes, and 0.34 as the radius of order 8.
    """
    a = a.astype(np.result_type(a.dtype, np.float32))
    eye = xp.eye(a.shape[-1], dtype=a.dtype)
    times = 0
    while times < 60 and not float(xp.max(xp.sum(xp.abs(a - eye), axis=-2))) <= 0.25:
        a, times = _sqrtm_by_newton(xp, a), times + 1
    x, y = a - eye, xp.zeros_like(a)
    for node, weight in zip(_NODES.tolist(), _WEIGHTS.tolist(), strict=True):
        y = y + weight * xp.linalg.solve(eye + (node + 0.5) * x, x)
    return y * 2.0**times


logm_p = Primitive(
    "logm",
    forward=_logm_host,
    **_by_blocks(lambda: logm_p),
    shape=lambda a: Aval(a.shape, floating_dtype(a)),
    batch=each_batched(lambda: logm_p),
    samples=lambda d: [sample(d.spd(3) + 0.2 * d.normal(3, 3)), sample(d.spd(2, 2))],
    domain="square, no eigenvalue on the closed negative axis",
    library="cusolver",
)


# ------------------------------------------------------------------------------------------------ polar factor
def _polar_host(be, a):
    u, _, vh = be.xp.linalg.svd(a, full_matrices=False)
    return be.xp.matmul(u, vh)


def _polar_forward(t, xs, u):
    # a = u p with p positive definite: du = u w + (I - u u^H) da inv(p), where w p + p w = u^H da - da^H u
    uh = adjoint(u)
    p = matmul(uh, xs[0])
    moved = matmul(uh, t)
    turn = matmul(u, sylvester_p(p, p, moved - adjoint(moved)))
    if shape_of(u)[-2] == shape_of(u)[-1]:
        return turn
    outside = t - matmul(u, moved)
    return turn + matrix_transpose(solve_p(matrix_transpose(p), matrix_transpose(outside)))


polar_p = Primitive(
    "polar",
    forward=_polar_host,
    jvp=(_polar_forward,),
    keeps=("0y",),
    shape=lambda a: Aval(a.shape, floating_dtype(a)),
    batch=each_batched(lambda: polar_p),
    samples=lambda d: [
        sample(d.spd(3) + 0.3 * d.normal(3, 3)),
        sample(np.eye(3, 2) * 2 + 0.4 * d.normal(2, 3, 2)),
    ],
    domain="at least as many rows as columns, which are independent",
    library="cusolver",
)
"""The factor u with orthonormal columns of a = u p: the nearest such matrix. Repeated singular values need no care."""
