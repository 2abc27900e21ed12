"""Solving, inverting and determinants of square matrices, and triangles.

Matrices are the last two axes and leading axes are a batch, as in `numpy.linalg`. Rules transpose without conjugation:
these functions are holomorphic.
"""

from __future__ import annotations

import itertools
import math
import string

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
def _without(xp, s, order):
    """For each choice of ``order`` different entries of s the product of the others; 0 where two of them are one."""
    n, lead = s.shape[-1], s.shape[:-1]
    places = [xp.reshape(xp.arange(n), (n,) + (1,) * (order - 1 - m)) for m in range(order)]
    several = xp.zeros((n,) * order, bool)
    for p, q in itertools.combinations(places, 2):
        several = several | (p == q)
    info = np.finfo(s.dtype)
    with np.errstate(over="ignore", under="ignore"):
        whole = xp.prod(s, axis=-1)
        ends = [whole, xp.min(s, axis=-1) ** order, xp.max(s, axis=-1) ** order]
    if all(bool(xp.all((e > info.tiny / info.eps) & (e < info.max))) for e in ends):
        out = xp.reshape(whole, (*lead, *(1,) * order))
        for m in range(order):
            out = out / xp.reshape(s, (*lead, *(1,) * m, n, *(1,) * (order - 1 - m)))
    else:  # nothing is divided by a zero, and no quotient of two numbers out of range is taken
        out = xp.ones((*lead, *(n,) * order), s.dtype)
        for j in range(n):
            chosen = several & False
            for p in places:
                chosen = chosen | (p == j)
            out = out * xp.where(chosen, 1, xp.reshape(s[..., j], (*lead, *(1,) * order)))
    return xp.where(several, xp.zeros_like(out), out)


def _odd(order):
    """Whether a permutation is odd: by the pairs that it turns round."""
    return sum(a > b for a, b in itertools.combinations(order, 2)) % 2


def _multiplied(be, x, ts, labels, taken, out):
    """The sum over all letters but those of ``out`` of x times one matrix after the other; leading axes are one."""
    lead = string.ascii_uppercase[: x.ndim - len(labels)]
    at, out = lead + labels, lead + out
    for k, (t, (row, column)) in enumerate(zip(ts, taken, strict=True)):
        label = lead + (row if row == column else row + column)
        t = be.xp.diagonal(t, axis1=-2, axis2=-1) if row == column else t
        needed = out + "".join(taken[k + 1 :])
        to = (
            out
            if k == len(ts) - 1
            else "".join(c for c in dict.fromkeys(at + label) if c in needed)
        )
        x, at = be.contract(x, t, spec=(at, label, to)), to
    return x


def _cofactors_of_diagonal(be, s, ts):
    """Derivative of the cofactors at the diagonal matrix of s along all of ts: of order len(ts)."""
    xp = be.xp
    n, order = s.shape[-1], len(ts) + 1
    others = _without(xp, s, order)
    letters = string.ascii_lowercase[:order]
    out = xp.zeros((*s.shape, n), np.result_type(s, *ts))
    diagonal = xp.arange(n)
    # det is the sum over permutations; each direction takes one of the rows, s those that stay in their place
    for turn in itertools.permutations(range(order)):
        columns = [letters[k] for k in turn]
        taken = [r + c for r, c in zip(letters[1:], columns[1:], strict=True)]
        to = letters[0] + (columns[0] if turn[0] else "")
        part = _multiplied(be, others, ts, letters, taken, to)
        part = -part if _odd(turn) else part
        if turn[0]:
            out = out + part
        else:
            out[..., diagonal, diagonal] += part
    return out


def _cofactors(be, a, *ts):
    """Through singular values: cof(u s vh) = cof(u) cof(s) cof(vh), and that of a unitary u is det(u) conj(u)."""
    xp = be.xp
    dtype = floating_dtype(a, *ts)
    if len(ts) >= a.shape[-1]:  # the entries are polynomials of degree n - 1
        return xp.zeros(a.shape, dtype)
    known = xp.all(xp.isfinite(a), axis=(-2, -1))[..., None, None]
    u, s, vh = xp.linalg.svd(xp.where(known, a, xp.zeros_like(a)))
    uh, v = xp.conj(xp.swapaxes(u, -1, -2)), xp.conj(xp.swapaxes(vh, -1, -2))
    inner = _cofactors_of_diagonal(be, s, [xp.matmul(uh, xp.matmul(t, v)) for t in ts])
    sign = (xp.linalg.det(u) * xp.linalg.det(vh))[..., None, None]
    y = sign * xp.matmul(xp.conj(u), xp.matmul(inner, xp.conj(vh)))
    return xp.where(known, y, math.nan).astype(dtype)


def _cofactors_slope(t, xs, y, *, i):
    """Rule in both modes: all derivatives of a determinant are symmetric in their directions."""
    return cofactors_p(*xs, t) if i == 0 else cofactors_p(*xs[:i], t, *xs[i + 1 :])


cofactors_p = Primitive(
    "cofactors",
    forward=_cofactors,
    variadic=True,
    vjp=(_cofactors_slope,),
    jvp=(_cofactors_slope,),
    keeps=("*",),
    shape=lambda a, *ts: Aval(a.shape, floating_dtype(a, *ts)),
    batch=each_batched(lambda: cofactors_p),
    samples=lambda d: [
        sample(d.spd(3)),
        sample(d.spd(2, 2) + 0.3 * d.normal(2, 2, 2)),
        sample(d.spd(3), d.normal(3, 3)),
        sample(d.spd(3, 2), d.normal(2, 3, 3), d.normal(2, 3, 3)),
    ],
    domain="square",
    library="cusolver",
)
"""The matrix of cofactors, det(a) inv(a).T, and with more operands its derivative along all of them.

They are polynomials of the entries, and so computed, singular matrices included: a derivative of order k takes O(n^3)
for k < 2 and O(n^(k + 1)) time and memory beyond.
"""

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
    domain="square",
    library="cusolver",
)


@implements(np.linalg.det)
def det(a):
    """NumPy's ``linalg.det``; the gradient is the matrix of cofactors, in all orders at singular matrices, too."""
    square_last("det", a)
    return det_p(a)


def _inverse_or_limit(be, a):
    """The inverse; of a singular matrix det(a) -> 0 in cof(a).T / det(a): infinite, NaN where the cofactor is 0."""
    xp = be.xp
    try:
        return xp.linalg.inv(a)
    except np.linalg.LinAlgError:
        singular = (xp.linalg.slogdet(a)[0] == 0)[..., None, None]
    n, a = a.shape[-1], a.astype(floating_dtype(a))
    adjugate = xp.swapaxes(_cofactors(be, a), -1, -2)
    size = xp.linalg.norm(a, axis=(-2, -1), keepdims=True)
    small = 4 * n * float(np.finfo(a.dtype).eps) * size ** (n - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        limit = xp.where(xp.abs(adjugate) <= small, xp.zeros_like(adjugate), adjugate) / 0.0
    return xp.where(singular, limit, xp.linalg.inv(xp.where(singular, xp.eye(n, dtype=a.dtype), a)))


inverse_or_limit_p = Primitive(
    "inverse_or_limit",
    forward=_inverse_or_limit,
    vjp=(_inverse_back,),
    jvp=(lambda t, xs, y: -matmul(matmul(y, t), y),),
    keeps=("y",),
    shape=lambda a: Aval(a.shape, floating_dtype(a)),
    batch=each_batched(lambda: inverse_or_limit_p),
    samples=lambda d: [sample(d.spd(3)), sample(d.spd(2, 4) + 0.3 * d.normal(4, 2, 2))],
    domain="square, invertible",
    library="cusolver",
)
"""The inverse of rules whose function has a value where there is none."""


# d log(det a) = trace(inv(a) da): its real part belongs to log|det a|, its imaginary part to the sign
def _slogdet_back(gs, xs, ys):
    turn, growth = gs
    it = matrix_transpose(inverse_or_limit_p(xs[0]))
    if turn is not None and dtype_of(xs[0]).kind == "c":
        turned = imag(turn * ys[0]) * 1j
        growth = turned if growth is None else growth + turned
    return None if growth is None else per_matrix(growth, xs[0]) * it


def _slogdet_forward(t, xs, ys):
    c = matrix_sum(t * matrix_transpose(inverse_or_limit_p(xs[0])))
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
