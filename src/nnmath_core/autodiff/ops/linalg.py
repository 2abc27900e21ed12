"""Solving, inverting and determinants of square matrices, and triangles.

Matrices are the last two axes and leading axes are a batch, as in `numpy.linalg`. Rules transpose without conjugation:
these functions are holomorphic.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from nnmath_core._ext._autodiff import alias, mark_fresh
from nnmath_core.autodiff.ops.contract import matmul
from nnmath_core.autodiff.ops.conventions import (
    Aval,
    as_operand,
    beside,
    constant,
    dtype_of,
    floating_dtype,
    implements,
    real_dtype,
    shape_of,
)
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import (
    broadcast_to,
    imag,
    matrix_transpose,
    real,
    reshape_p,
    stop_gradient,
)
from nnmath_core.autodiff.ops.stacks import each_batched, matrix_sum, per_matrix, square_last
from nnmath_core.autodiff.primitive import Primitive, Special, sample
from nnmath_core.errors import ShapeError

__all__ = ["det", "inv", "slogdet", "solve", "solve_triangular_p", "tril", "triu"]


# ---------------------------------------------------------------------------------------------- triangles
def _triangle(name, xp_name):
    def f(m, k=0):
        m = as_operand(m)
        s = shape_of(m)
        if len(s) < 2:
            raise ShapeError(f"{name}: `m` must have at least two axes, got shape {s}.")
        keep = getattr(np, xp_name)(np.ones(s[-2:], bool), k)
        return where(beside(m, keep), m, False if dtype_of(m) == np.bool_ else 0)

    f.__name__, f.__doc__ = (
        name,
        f"NumPy's ``{name}``: the other entries are zero, whatever stood there.",
    )
    return f


tril = implements(np.tril)(_triangle("tril", "tril"))
triu = implements(np.triu)(_triangle("triu", "triu"))


# ---------------------------------------------------------------------------------------------- solve, inv
solve_p = Primitive(
    "solve",
    forward=lambda be, a, b: be.xp.linalg.solve(a, b),
    vjp=(
        lambda g, xs, y: -matmul(solve_p(matrix_transpose(xs[0]), g), matrix_transpose(y)),
        lambda g, xs, y: solve_p(matrix_transpose(xs[0]), g),
    ),
    jvp=(lambda t, xs, y: -solve_p(xs[0], matmul(t, y)), lambda t, xs, y: solve_p(xs[0], t)),
    keeps=("0y", "0"),
    shape=lambda a, b: Aval(b.shape, floating_dtype(a, b)),
    batch=each_batched(lambda: solve_p),
    samples=lambda d: [
        sample(d.spd(3), d.normal(3, 2)),
        sample(d.spd(2, 4) + 0.3 * d.normal(4, 2, 2), d.normal(4, 2, 1)),
        sample(d.spd(1), d.normal(1, 1)),
    ],
    domain="a square and invertible",
    library="cusolver",
)


@implements(np.linalg.solve)
def solve(a, b):
    """NumPy's ``linalg.solve``."""
    sa, sb = square_last("solve", a), shape_of(b)
    n = sa[-1]
    vector = len(sb) == 1
    a, b = alias(a), alias(b)
    if (sb[-1] if vector else sb[-2] if sb else None) != n:
        raise ShapeError(f"solve: `b` must have {n} rows, as `a` of shape {sa}, got shape {sb}.")
    if vector:
        b = reshape_p(b, shape=(n, 1))
    lead = np.broadcast_shapes(sa[:-2], shape_of(b)[:-2])
    x = solve_p(broadcast_to(a, (*lead, n, n)), broadcast_to(b, (*lead, *shape_of(b)[-2:])))
    return mark_fresh(reshape_p(x, shape=(*lead, n))) if vector else x


def _inverse_back(g, xs, y):
    t = matrix_transpose(y)
    return -matmul(matmul(t, g), t)


inv_p = Primitive(
    "inv",
    forward="linalg.inv",
    vjp=(_inverse_back,),
    jvp=(lambda t, xs, y: -matmul(matmul(y, t), y),),
    keeps=("y",),
    shape=lambda a: Aval(a.shape, floating_dtype(a)),
    batch=each_batched(lambda: inv_p),
    samples=lambda d: [sample(d.spd(3)), sample(d.spd(2, 4) + 0.3 * d.normal(4, 2, 2))],
    domain="square, invertible",
    library="cusolver",
)


@implements(np.linalg.inv)
def inv(a):
    """NumPy's ``linalg.inv``."""
    square_last("inv", a)
    return inv_p(a)


# ---------------------------------------------------------------------------------------------- determinants
def _cofactors(be, a):
    """The matrix of cofactors, det(a) inv(a).T, through singular values, so that it exists where a is singular."""
    xp = be.xp
    u, s, vt = xp.linalg.svd(a)
    n = a.shape[-1]
    sign = xp.linalg.det(u) * xp.linalg.det(vt)
    # product of the other singular values, for each
    others = xp.ones_like(s)
    for i in range(n):
        rest = xp.concatenate([s[..., :i], s[..., i + 1 :]], axis=-1)
        others[..., i] = xp.prod(rest, axis=-1)
    # inv(a).T = conj(u) s**-1 conj(vt)
    return sign[..., None, None] * xp.conj(xp.matmul(u * others[..., None, :], vt))


def _cofactors_forward(t, xs, y):
    it = matrix_transpose(inv_p(xs[0]))
    return matrix_sum(it * t, keepdims=True) * y - matmul(matmul(it, matrix_transpose(t)), y)


cofactors_p = Primitive(
    "cofactors",
    forward=_cofactors,
    jvp=(_cofactors_forward,),
    keeps=("0y",),
    shape=lambda a: Aval(a.shape, floating_dtype(a)),
    batch=each_batched(lambda: cofactors_p),
    samples=lambda d: [sample(d.spd(3)), sample(d.spd(2, 2) + 0.3 * d.normal(2, 2, 2))],
    domain="square; the derivative where invertible",
    library="cusolver",
)
det_p = Primitive(
    "det",
    forward="linalg.det",
    vjp=(lambda g, xs, y: per_matrix(g, xs[0]) * cofactors_p(xs[0]),),
    jvp=(lambda t, xs, y: matrix_sum(t * cofactors_p(xs[0])),),
    keeps=("0",),
    shape=lambda a: Aval(a.shape[:-2], floating_dtype(a)),
    batch=each_batched(lambda: det_p),
    samples=lambda d: [sample(d.spd(3)), sample(d.normal(4, 2, 2)), sample(d.normal(1, 1))],
    special=[
        Special(
            "det of a singular matrix: the cofactors",
            ([[1.0, 2.0], [2.0, 4.0]],),
            ([[4.0, -2.0], [-2.0, 1.0]],),
        )
    ],
    domain="square; the second derivative where invertible",
    library="cusolver",
)


@implements(np.linalg.det)
def det(a):
    """NumPy's ``linalg.det``; the gradient is the matrix of cofactors, singular matrices included."""
    square_last("det", a)
    return det_p(a)


# d log(det a) = trace(inv(a) da): its real part belongs to log|det a|, its imaginary part to the sign
def _slogdet_back(gs, xs, ys):
    turn, growth = gs
    it = matrix_transpose(inv_p(xs[0]))
    if turn is not None and dtype_of(xs[0]).kind == "c":
        turned = imag(turn * ys[0]) * 1j
        growth = turned if growth is None else growth + turned
    return None if growth is None else per_matrix(growth, xs[0]) * it


def _slogdet_forward(t, xs, ys):
    c = matrix_sum(t * matrix_transpose(inv_p(xs[0])))
    if dtype_of(xs[0]).kind == "c":
        return ys[0] * (imag(c) * 1j), real(c)
    return constant(c, shape_of(ys[0]), 0, dtype_of(ys[0])), c


slogdet_p = Primitive(
    "slogdet",
    forward=lambda be, a: tuple(be.xp.linalg.slogdet(a)),
    outputs="all",
    vjp=(_slogdet_back,),
    jvp=(_slogdet_forward,),
    keeps=("0y",),
    shape=lambda a: (
        Aval(a.shape[:-2], floating_dtype(a)),
        Aval(a.shape[:-2], real_dtype(a)),
    ),
    batch=each_batched(lambda: slogdet_p),
    samples=lambda d: [sample(d.spd(3)), sample(d.spd(2, 4) + 0.3 * d.normal(4, 2, 2))],
    domain="square, invertible",
    library="cusolver",
)
SlogdetResult = type(np.linalg.slogdet(np.eye(1)))


@implements(np.linalg.slogdet)
def slogdet(a):
    """NumPy's ``linalg.slogdet``: the sign of a real matrix carries no derivative, that of a complex one does."""
    square_last("slogdet", a)
    sign, logabsdet = slogdet_p(a)
    return SlogdetResult(sign if dtype_of(a).kind == "c" else stop_gradient(sign), logabsdet)


# ---------------------------------------------------------------------------------------------- triangular systems
def _triangular_host(be, a, b, *, lower, unit):
    xp = be.xp
    n = a.shape[-1]
    kept = xp.tril(a, -1 if unit else 0) if lower else xp.triu(a, 1 if unit else 0)
    if unit:
        kept = kept + xp.eye(n, dtype=a.dtype)
    dtype = np.result_type(a.dtype, b.dtype, np.float32)
    if xp is not np or not b.size:
        return xp.linalg.solve(kept.astype(dtype), b.astype(dtype))
    if a.ndim == 2:
        return _triangular_one(kept, b, lower, unit)
    out = np.empty(b.shape, dtype)
    for i in np.ndindex(*a.shape[:-2]):
        out[i] = _triangular_one(kept[i], b[i], lower, unit)
    return out


def _triangular_one(a, b, lower, unit):
    if not unit and not np.diagonal(a).all():
        raise np.linalg.LinAlgError("Singular matrix")
    return scipy.linalg.solve_triangular(a, b, lower=lower, unit_diagonal=unit, check_finite=False)


def _in_triangle(x, lower, unit):
    k = 1 if unit else 0
    return tril(x, -k) if lower else triu(x, k)


solve_triangular_p = Primitive(
    "solve_triangular",
    forward=_triangular_host,
    vjp=(
        lambda g, xs, y, *, lower, unit: _in_triangle(
            -matmul(
                solve_triangular_p(matrix_transpose(xs[0]), g, lower=not lower, unit=unit),
                matrix_transpose(y),
            ),
            lower,
            unit,
        ),
        lambda g, xs, y, *, lower, unit: solve_triangular_p(
            matrix_transpose(xs[0]), g, lower=not lower, unit=unit
        ),
    ),
    jvp=(
        lambda t, xs, y, *, lower, unit: (
            -solve_triangular_p(
                xs[0], matmul(_in_triangle(t, lower, unit), y), lower=lower, unit=unit
            )
        ),
        lambda t, xs, y, *, lower, unit: solve_triangular_p(xs[0], t, lower=lower, unit=unit),
    ),
    keeps=("0y", "0"),
    shape=lambda a, b, *, lower, unit: Aval(b.shape, floating_dtype(a, b)),
    batch=each_batched(lambda: solve_triangular_p),
    samples=lambda d: [
        sample(d.spd(3), d.normal(3, 2), lower=True, unit=False),
        sample(d.spd(2, 3), d.normal(3, 2, 2), lower=False, unit=False),
        sample(0.3 * d.normal(3, 3), d.normal(3, 1), lower=True, unit=True),
        sample(0.3 * d.normal(3, 3), d.normal(3, 1), lower=False, unit=True),
    ],
    domain="no zero on the diagonal of a",
    library="cusolver",
)
"""Solves a x = b with one triangle of a, without reading the other one; on CUDA by an LU factorisation."""
