"""Linear algebra: norms, solve, inverse, determinants, Cholesky, triangles.

Matrices are the last two axes and leading axes are a batch, as in `numpy.linalg`. Rules transpose without conjugation
where the function is holomorphic (solve, inv, det); the Cholesky factor and the norms are not, and theirs conjugate.
"""

from __future__ import annotations

import math

import numpy as np

from nnmath_core._ext._autodiff import alias, mark_fresh
from nnmath_core.autodiff.ops.compare import equal, not_equal
from nnmath_core.autodiff.ops.contract import matmul
from nnmath_core.autodiff.ops.conventions import (
    Aval,
    all_batched,
    as_operand,
    beside,
    constant,
    dropped,
    dtype_of,
    implements,
    kept,
    ndim_of,
    normal_axes,
    result_dtype,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import absolute, conjugated, power
from nnmath_core.autodiff.ops.reduce import _through_reduction, max, min, sum, sum_p
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import (
    broadcast_to,
    cast,
    imag,
    matrix_transpose,
    real,
    reshape_p,
    stop_gradient,
)
from nnmath_core.autodiff.primitive import Primitive, Special, sample
from nnmath_core.errors import ShapeError

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


def _real_dtype(x):
    """The dtype of the modulus."""
    return np.zeros(0, _floating_dtype(x)).real.dtype


def _floating(x):
    """Integers and booleans as float64; a list or tuple as an array."""
    x = as_operand(x)
    return x if dtype_of(x).kind in "fc" else cast(x, np.float64)


def _adjoint(x):
    """The conjugate transpose of the last two axes."""
    return conjugated(matrix_transpose(x))


def _square_last(who, a):
    s = shape_of(a)
    if len(s) < 2 or s[-1] != s[-2]:
        raise ShapeError(f"{who}: `a` must have shape (..., n, n), got {s}.")
    return s


def _matrix_sum(x, keepdims=False):
    """The sum of the entries of each matrix."""
    return sum_p(x, axis=(ndim_of(x) - 2, ndim_of(x) - 1), keepdims=keepdims)


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
    # inv(a).T = conj(u) s**-1 conj(vt)
    return sign[..., None, None] * xp.conj(xp.matmul(u * others[..., None, :], vt))


def _cofactors_forward(t, xs, y):
    it = matrix_transpose(inv_p(xs[0]))
    return _matrix_sum(it * t, keepdims=True) * y - matmul(matmul(it, matrix_transpose(t)), y)


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
    jvp=(lambda t, xs, y: _matrix_sum(t * cofactors_p(xs[0])),),
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


# d log(det a) = trace(inv(a) da): its real part belongs to log|det a|, its imaginary part to the sign
def _slogdet_back(gs, xs, ys):
    turn, growth = gs
    it = matrix_transpose(inv_p(xs[0]))
    if turn is not None and dtype_of(xs[0]).kind == "c":
        turned = imag(turn * ys[0]) * 1j
        growth = turned if growth is None else growth + turned
    return None if growth is None else _per_matrix(growth, xs[0]) * it


def _slogdet_forward(t, xs, ys):
    c = _matrix_sum(t * matrix_transpose(inv_p(xs[0])))
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
        Aval(a.shape[:-2], _floating_dtype(a)),
        Aval(a.shape[:-2], _real_dtype(a)),
    ),
    batch=_all_batch(lambda: slogdet_p),
    samples=lambda d: [sample(d.spd(3)), sample(d.spd(2, 4) + 0.3 * d.normal(4, 2, 2))],
)
SlogdetResult = type(np.linalg.slogdet(np.eye(1)))


@implements(np.linalg.slogdet)
def slogdet(a):
    """NumPy's ``linalg.slogdet``: the sign of a real matrix carries no derivative, that of a complex one does."""
    _square_last("slogdet", a)
    sign, logabsdet = slogdet_p(a)
    return SlogdetResult(sign if dtype_of(a).kind == "c" else stop_gradient(sign), logabsdet)


# ---------------------------------------------------------------------------------------------- Cholesky
def _half_lower(m):
    """Lower triangle with half the diagonal."""
    n = shape_of(m)[-1]
    return where(beside(m, np.tri(n, dtype=bool)), m, 0) * where(
        beside(m, np.eye(n, dtype=bool)), m * 0 + 0.5, 1
    )


def _from_lower(t):
    """The Hermitian matrix whose lower triangle t has: what `cholesky` reads, of the diagonal the real part."""
    n = shape_of(t)[-1]
    low = where(beside(t, np.tri(n, k=-1, dtype=bool)), t, 0)
    return low + _adjoint(low) + where(beside(t, np.eye(n, dtype=bool)), real(t), 0)


def _cholesky_forward(t, xs, y):
    inner = solve_p(y, _adjoint(solve_p(y, _from_lower(t))))
    return matmul(y, _half_lower(inner))


def _cholesky_back(g, xs, y):
    yh = _adjoint(y)
    s = _half_lower(matmul(yh, conjugated(g)))
    a = solve_p(yh, _adjoint(solve_p(yh, _adjoint(s))))
    s = a + _adjoint(a)
    n = shape_of(s)[-1]
    # Hermitian part, folded onto the lower triangle: off the diagonal both halves, on it half
    return conjugated(
        where(
            beside(s, np.tri(n, k=-1, dtype=bool)),
            s,
            where(beside(s, np.eye(n, dtype=bool)), s * 0.5, 0),
        )
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
        return mark_fresh(_adjoint(cholesky_p(_adjoint(alias(a)))))
    return cholesky_p(a)


# ---------------------------------------------------------------------------------------------- norms
def _divided_times_forward(be, x, y, g):
    r = be.xp.divide(x, y)
    if (
        type(r) is np.ndarray
        and np.broadcast_shapes(r.shape, np.shape(g)) == r.shape
        and np.result_type(r, g) == r.dtype
    ):
        return np.multiply(r, g, out=r)
    return r * g


divided_times = Primitive(
    "divided_times",
    forward=_divided_times_forward,
    elementwise=True,
    vjp=(
        lambda g, xs, y: divided_times(g, xs[1], xs[2]),
        lambda g, xs, y: -divided_times(g, xs[1], y),
        lambda g, xs, y: divided_times(g, xs[1], xs[0]),
    ),
    keeps=("12", "1y", "01"),
    samples=lambda d: [
        sample(d.normal(3, 4), d.positive(3, 4), d.normal(3, 4)),
        sample(d.normal(3, 4), d.positive(3, 1), d.normal(3, 1)),
        sample(d.normal(4), d.positive(3, 1), d.normal(2, 1, 1)),
        sample(d.normal(), d.positive(), d.normal()),
        sample(d.normal(0, 4), d.positive(4), 0.5),
    ],
)
"""x / y * g in one array instead of two; where y is a norm of x nothing on the way overflows, as g / y could."""


def _along(t, x, y, axis, keepdims):
    """Return t times the conjugate direction conj(x) / |x|, which is 0 where x is 0, in all orders."""
    y = y if keepdims else reshape_p(y, shape=kept(x.shape, axis))
    return divided_times(conjugated(x), where(equal(y, 0), math.inf, y), t)


def _norm_back(g, xs, y, *, axis, keepdims):
    g = g if keepdims else reshape_p(g, shape=kept(xs[0].shape, axis))
    return _along(g, xs[0], y, axis, keepdims)


def _norm_tangent(t, xs, y, *, axis, keepdims):
    return sum_p(_along(t, xs[0], y, axis, keepdims), axis=axis, keepdims=keepdims)


def _norm_forward(be, x, *, axis, keepdims):
    xp = be.xp
    x = x if x.dtype.kind in "fc" else xp.asarray(x, dtype=float)
    if not x.size:
        return xp.sum(xp.abs(x), axis=axis, keepdims=keepdims)
    if xp is np:  # one pass, unless squares have overflowed, or vanished beside others
        total = _sum_of_squares(x, axis, keepdims)
        info = np.finfo(total.dtype)
        if np.all((total > info.tiny / info.eps) & (total < math.inf)):
            return np.sqrt(total)
    a = xp.abs(x)
    top = xp.max(a, axis=axis, keepdims=True)
    scale = xp.where((top > 0) & xp.isfinite(top), top, xp.ones_like(top))
    y = xp.sqrt(xp.sum(xp.square(a / scale), axis=axis, keepdims=True)) * scale
    return y if keepdims else xp.reshape(y, dropped(x.shape, axis))[()]


_BLOCK = 1024


def _sum_of_squares(x, axis, keepdims):
    """Sum of |x|**2 of a host array; over all axes in blocks, without an array of the squares."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if x.size > _BLOCK and x.dtype.kind == "f" and len(axis) == x.ndim and x.flags.forc:
            flat = x.ravel(order="K")
            cut = x.size - x.size % _BLOCK
            blocks, rest = flat[:cut].reshape(-1, _BLOCK), flat[cut:]
            total = np.add.reduce(np.einsum("ij,ij->i", blocks, blocks)) + np.einsum(
                "i,i->", rest, rest
            )
            return np.full((1,) * x.ndim, total) if keepdims else total
        squares = np.square(x) if x.dtype.kind != "c" else np.square(x.real) + np.square(x.imag)
        return np.add.reduce(squares, axis=axis, keepdims=keepdims)


norm_p = Primitive(
    "norm",
    forward=_norm_forward,
    vjp=(_norm_back,),
    jvp=(_norm_tangent,),
    keeps=("0y",),
    through=_through_reduction,
    shape=lambda x, *, axis, keepdims: Aval(
        kept(x.shape, axis) if keepdims else dropped(x.shape, axis), _real_dtype(x)
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
    x = _floating(x)
    n = ndim_of(x)
    if ord is None:
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
        first, second = (rows, cols) if abs(ord) == 1 else (cols, rows)
        total = sum(absolute(x), first, keepdims=bool(keepdims))
        if not keepdims and first < second:
            second -= 1  # the axis that was summed is gone
        return (max if ord > 0 else min)(total, second, keepdims=bool(keepdims))
    raise ValueError(
        f"norm: `ord` = {ord!r} is not available on traced matrices. Use None, 'fro', 1, -1, inf or -inf."
    )


def vector_norm(x, /, *, axis=None, keepdims=False, ord=2):
    """The array API's ``vector_norm``: over any axes, all of them by default."""
    x = _floating(x)
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
        return sum(cast(not_equal(x, 0), _real_dtype(x)), axes, keepdims=bool(keepdims))
    if ord == 1:
        return sum(absolute(x), axes, keepdims=bool(keepdims))
    if not isinstance(ord, (int, float)):
        raise ValueError(f"Invalid norm order {ord!r} for vectors")
    return power(sum(power(absolute(x), ord), axes, keepdims=bool(keepdims)), 1.0 / ord)
