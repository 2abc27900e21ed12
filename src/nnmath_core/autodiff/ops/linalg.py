"""Linear algebra: norms, solve, inverse, determinants, Cholesky, triangles.

Matrices are the last two axes and leading axes are a batch, as in `numpy.linalg`.
"""

from __future__ import annotations

import math

import numpy as np

from nnmath_core.autodiff.ops.compare import equal
from nnmath_core.autodiff.ops.contract import matmul
from nnmath_core.autodiff.ops.conventions import (
    Aval,
    all_batched,
    beside,
    dropped,
    dtype_of,
    implements,
    kept,
    ndim_of,
    normal_axes,
    result_dtype,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import absolute, divide, power, where
from nnmath_core.autodiff.ops.reduce import _spread, _through_reduction, max, min, sum, sum_p
from nnmath_core.autodiff.ops.shape import broadcast_to, matrix_transpose, ravel, reshape_p
from nnmath_core.autodiff.primitive import Primitive, Special, sample
from nnmath_core.errors import DtypeError, ShapeError

__all__ = [
    "cholesky",
    "det",
    "inv",
    "matrix_norm",
    "norm",
    "slogdet",
    "solve",
    "tril",
    "triu",
    "vector_norm",
]


def _all_batch(p):
    return lambda on, v, size, **params: p()(*all_batched(on, v, size), **params)


def _floating_dtype(*xs):
    """Integers and booleans become float64, as in `numpy.linalg`."""
    dtype = result_dtype(*xs)
    return dtype if dtype.kind in "fc" else np.dtype(float)


def _square_last(who, a):
    s = shape_of(a)
    if len(s) < 2 or s[-1] != s[-2]:
        raise ShapeError(f"{who}: `a` must have shape (..., n, n), got {s}.")
    return s


def _per_matrix(g, like):
    """A number a matrix, to be multiplied with the matrices."""
    return reshape_p(g, shape=(*shape_of(g), 1, 1)) if shape_of(g) or ndim_of(like) else g


# ---------------------------------------------------------------------------------------------- triangles
def _triangle(name, xp_name):
    def f(m, k=0):
        s = shape_of(m)
        if len(s) < 2:
            raise ShapeError(f"{name}: `m` must have at least two axes, got shape {s}.")
        keep = getattr(np, xp_name)(np.ones(s[-2:], bool), k)
        return where(beside(m, keep), m, 0)

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
    shape=lambda a, b: Aval(b.shape, _floating_dtype(a, b)),
    batch=_all_batch(lambda: solve_p),
    samples=lambda d: [
        sample(d.spd(3), d.normal(3, 2)),
        sample(d.spd(2, 4) + 0.3 * d.normal(4, 2, 2), d.normal(4, 2, 1)),
        sample(d.spd(1), d.normal(1, 1)),
    ],
)


@implements(np.linalg.solve)
def solve(a, b):
    """NumPy's ``linalg.solve``."""
    sa, sb = _square_last("solve", a), shape_of(b)
    n = sa[-1]
    vector = len(sb) == 1
    if (sb[-1] if vector else sb[-2] if sb else None) != n:
        raise ShapeError(f"solve: `b` must have {n} rows, as `a` of shape {sa}, got shape {sb}.")
    if vector:
        b = reshape_p(b, shape=(n, 1))
    lead = np.broadcast_shapes(sa[:-2], shape_of(b)[:-2])
    x = solve_p(broadcast_to(a, (*lead, n, n)), broadcast_to(b, (*lead, *shape_of(b)[-2:])))
    return reshape_p(x, shape=(*lead, n)) if vector else x


def _inverse_back(g, xs, y):
    t = matrix_transpose(y)
    return -matmul(matmul(t, g), t)


inv_p = Primitive(
    "inv",
    forward="linalg.inv",
    vjp=(_inverse_back,),
    jvp=(lambda t, xs, y: -matmul(matmul(y, t), y),),
    keeps=("y",),
    shape=lambda a: Aval(a.shape, _floating_dtype(a)),
    batch=_all_batch(lambda: inv_p),
    samples=lambda d: [sample(d.spd(3)), sample(d.spd(2, 4) + 0.3 * d.normal(4, 2, 2))],
)


@implements(np.linalg.inv)
def inv(a):
    """NumPy's ``linalg.inv``."""
    _square_last("inv", a)
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
    return sign[..., None, None] * xp.matmul(u * others[..., None, :], vt)


def _cofactors_forward(t, xs, y):
    it = matrix_transpose(inv_p(xs[0]))
    trace = sum_p(it * t, axis=(ndim_of(t) - 2, ndim_of(t) - 1), keepdims=True)
    return trace * y - matmul(matmul(it, matrix_transpose(t)), y)


cofactors_p = Primitive(
    "cofactors",
    forward=_cofactors,
    jvp=(_cofactors_forward,),
    keeps=("0y",),
    shape=lambda a: Aval(a.shape, _floating_dtype(a)),
    batch=_all_batch(lambda: cofactors_p),
    samples=lambda d: [sample(d.spd(3)), sample(d.spd(2, 2) + 0.3 * d.normal(2, 2, 2))],
)
det_p = Primitive(
    "det",
    forward="linalg.det",
    vjp=(lambda g, xs, y: _per_matrix(g, xs[0]) * cofactors_p(xs[0]),),
    jvp=(
        lambda t, xs, y: sum_p(
            t * cofactors_p(xs[0]), axis=(ndim_of(t) - 2, ndim_of(t) - 1), keepdims=False
        ),
    ),
    keeps=("0",),
    shape=lambda a: Aval(a.shape[:-2], _floating_dtype(a)),
    batch=_all_batch(lambda: det_p),
    samples=lambda d: [sample(d.spd(3)), sample(d.normal(4, 2, 2)), sample(d.normal(1, 1))],
    special=[
        Special(
            "det of a singular matrix: the cofactors",
            ([[1.0, 2.0], [2.0, 4.0]],),
            ([[4.0, -2.0], [-2.0, 1.0]],),
        )
    ],
)


@implements(np.linalg.det)
def det(a):
    """NumPy's ``linalg.det``; the gradient is the matrix of cofactors, singular matrices included."""
    _square_last("det", a)
    return det_p(a)


def _slogdet_back(gs, xs, ys):
    return _per_matrix(gs[1], xs[0]) * matrix_transpose(inv_p(xs[0]))


def _slogdet_forward(t, xs, ys):
    axes = (ndim_of(t) - 2, ndim_of(t) - 1)
    return None, sum_p(t * matrix_transpose(inv_p(xs[0])), axis=axes, keepdims=False)


slogdet_p = Primitive(
    "slogdet",
    forward=lambda be, a: tuple(be.xp.linalg.slogdet(a)),
    outputs=(False, True),
    vjp=(_slogdet_back,),
    jvp=(_slogdet_forward,),
    keeps=("0",),
    shape=lambda a: (
        Aval(a.shape[:-2], _floating_dtype(a)),
        Aval(a.shape[:-2], _floating_dtype(a)),
    ),
    batch=_all_batch(lambda: slogdet_p),
    samples=lambda d: [sample(d.spd(3)), sample(d.spd(2, 4) + 0.3 * d.normal(4, 2, 2))],
)
SlogdetResult = type(np.linalg.slogdet(np.eye(1)))


@implements(np.linalg.slogdet)
def slogdet(a):
    """NumPy's ``linalg.slogdet``: the sign carries no derivative."""
    _square_last("slogdet", a)
    return SlogdetResult(*slogdet_p(a))


# ---------------------------------------------------------------------------------------------- Cholesky
def _half_lower(m):
    """Lower triangle with half the diagonal."""
    n = shape_of(m)[-1]
    return where(beside(m, np.tri(n, dtype=bool)), m, 0) * where(
        beside(m, np.eye(n, dtype=bool)), m * 0 + 0.5, 1
    )


def _from_lower(t):
    """The symmetric matrix whose lower triangle t has: what `cholesky` reads."""
    n = shape_of(t)[-1]
    low = where(beside(t, np.tri(n, dtype=bool)), t, 0)
    return low + matrix_transpose(where(beside(t, np.tri(n, k=-1, dtype=bool)), t, 0))


def _cholesky_forward(t, xs, y):
    inner = solve_p(y, matrix_transpose(solve_p(y, _from_lower(t))))
    return matmul(y, _half_lower(inner))


def _cholesky_back(g, xs, y):
    yt = matrix_transpose(y)
    s = _half_lower(matmul(yt, g))
    a = solve_p(yt, matrix_transpose(solve_p(yt, matrix_transpose(s))))
    s = a + matrix_transpose(a)
    n = shape_of(s)[-1]
    # symmetric part, folded onto the lower triangle: off the diagonal both halves, on it half
    return where(
        beside(s, np.tri(n, k=-1, dtype=bool)),
        s,
        where(beside(s, np.eye(n, dtype=bool)), s * 0.5, 0),
    )


cholesky_p = Primitive(
    "cholesky",
    forward="linalg.cholesky",
    vjp=(_cholesky_back,),
    jvp=(_cholesky_forward,),
    keeps=("y",),
    shape=lambda a: Aval(a.shape, _floating_dtype(a)),
    batch=_all_batch(lambda: cholesky_p),
    samples=lambda d: [sample(d.spd(3)), sample(d.spd(2, 4))],
    special=[
        Special(
            "cholesky reads the lower triangle: no derivative above it",
            ([[4.0, 0.0], [0.0, 9.0]],),
            ([[0.25, 0.0], [0.5, 1.0 / 6.0]],),
        )
    ],
)


@implements(np.linalg.cholesky)
def cholesky(a, /, *, upper=False):
    """NumPy's ``linalg.cholesky``; like NumPy it reads the lower triangle only, and so do the derivatives."""
    _square_last("cholesky", a)
    if upper:
        return matrix_transpose(cholesky_p(matrix_transpose(a)))
    return cholesky_p(a)


# ---------------------------------------------------------------------------------------------- norms
def _unit(x, y, axis, keepdims):
    """The direction x / |x|, and 0 where x is 0."""
    y = _spread(y, shape_of(x), axis, keepdims)
    zero = equal(y, 0)
    return where(zero, 0.0, divide(x, where(zero, 1.0, y)))


def _norm_forward(be, x, *, axis, keepdims):
    xp = be.xp
    if not x.size:
        return xp.sum(xp.abs(x), axis=axis, keepdims=keepdims)
    # scaled, so that squares neither overflow nor vanish
    top = xp.max(xp.abs(x), axis=axis, keepdims=True)
    scale = xp.where((top > 0) & xp.isfinite(top), top, xp.ones_like(top))
    y = xp.sqrt(xp.sum(xp.square(x / scale), axis=axis, keepdims=True)) * scale
    return y if keepdims else xp.reshape(y, dropped(x.shape, axis))


norm_p = Primitive(
    "norm",
    forward=_norm_forward,
    vjp=(
        lambda g, xs, y, *, axis, keepdims: _spread(g, xs[0].shape, axis, keepdims) * _unit(xs[0], y, axis, keepdims),
    ),
    jvp=(lambda t, xs, y, *, axis, keepdims: sum_p(t * _unit(xs[0], y, axis, keepdims), axis=axis, keepdims=keepdims),),
    keeps=("0y",),
    through=_through_reduction,
    shape=lambda x, *, axis, keepdims: Aval(
        kept(x.shape, axis) if keepdims else dropped(x.shape, axis), _floating_dtype(x)
    ),
    batch=lambda on, v, size, *, axis, keepdims: norm_p(v[0], axis=tuple(a + 1 for a in axis), keepdims=keepdims),
    samples=lambda d: [
        sample(d.normal(3, 4), axis=(1,), keepdims=False),
        sample(d.normal(2, 3), axis=(0, 1), keepdims=True),
        sample(d.normal(5), axis=(0,), keepdims=False),
    ],
    special=[
        Special("norm at 0: 0, the subgradient of least norm", ([0.0, 0.0],), ([0.0, 0.0],),
                {"axis": (0,), "keepdims": False})
    ],
)  # fmt: skip


@implements(np.linalg.norm)
def norm(x, ord=None, axis=None, keepdims=False):
    """NumPy's ``linalg.norm``: vector norms of any order, Frobenius, and the matrix norms 1 and inf."""
    if dtype_of(x).kind == "c":
        raise DtypeError(
            "norm: `x` must be real on traced arrays. Write np.sqrt(np.sum(x.real**2 + x.imag**2))."
        )
    n = ndim_of(x)
    if ord is None:
        if axis is None:
            y = norm_p(ravel(x), axis=(0,), keepdims=False)
            return reshape_p(y, shape=(1,) * n) if keepdims else y
        return norm_p(x, axis=normal_axes("norm", axis, n), keepdims=bool(keepdims))
    axes = normal_axes("norm", axis, n)
    if len(axes) == 1:
        return _vector_norm(x, ord, axes, keepdims)
    if len(axes) != 2:
        raise ValueError("Improper number of dimensions to norm.")
    if ord == "fro":
        return norm_p(x, axis=axes, keepdims=bool(keepdims))
    if ord in (1, math.inf, -1, -math.inf):
        rows, cols = (int(a) % n for a in axis) if isinstance(axis, tuple) else axes
        total = sum(absolute(x), rows if abs(ord) == 1 else cols, keepdims=True)
        y = (max if ord > 0 else min)(total, cols if abs(ord) == 1 else rows, keepdims=True)
        return y if keepdims else reshape_p(y, shape=dropped(shape_of(y), axes))
    raise ValueError(
        f"norm: `ord` = {ord!r} is not available on traced matrices. Use None, 'fro', 1, -1, inf or -inf."
    )


def vector_norm(x, /, *, axis=None, keepdims=False, ord=2):
    """The array API's ``vector_norm``: over any axes, all of them by default."""
    axes = normal_axes("vector_norm", axis, ndim_of(x))
    return _vector_norm(x, ord, axes, keepdims)


def matrix_norm(x, /, *, keepdims=False, ord="fro"):
    """The array API's ``matrix_norm`` of the last two axes."""
    return norm(x, ord, axis=(-2, -1), keepdims=keepdims)


def _vector_norm(x, ord, axes, keepdims):
    if ord == 2:
        return norm_p(x, axis=axes, keepdims=bool(keepdims))
    if ord == math.inf:
        return max(absolute(x), axes, keepdims=bool(keepdims))
    if ord == -math.inf:
        return min(absolute(x), axes, keepdims=bool(keepdims))
    if ord == 0:
        return sum(where(equal(x, 0), x * 0, x * 0 + 1), axes, keepdims=bool(keepdims))
    if ord == 1:
        return sum(absolute(x), axes, keepdims=bool(keepdims))
    if not isinstance(ord, (int, float)):
        raise ValueError(f"Invalid norm order {ord!r} for vectors")
    return power(sum(power(absolute(x), ord), axes, keepdims=bool(keepdims)), 1.0 / ord)
