"""Systems with banded matrices, in the layout of LAPACK: row ``upper + i - j`` of ``ab`` holds the entries a[i, j]."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from nnmath_core.autodiff.ops.conventions import Aval, all_batched, floating_dtype, shape_of
from nnmath_core.autodiff.ops.join import concatenate, stack
from nnmath_core.autodiff.ops.reduce import sum_p
from nnmath_core.autodiff.primitive import Primitive, sample

__all__ = ["banded_p", "dense_of_bands", "shifted"]


def dense_of_bands(xp, ab, lower, upper):
    """The matrices of which ab has the bands, in plain array code."""
    n = ab.shape[-1]
    i, j = xp.arange(n)[:, None], xp.arange(n)[None, :]
    row = upper + i - j
    inside = (row >= 0) & (row <= lower + upper)
    taken = xp.take_along_axis(
        ab, xp.broadcast_to(xp.clip(row, 0, lower + upper), (*ab.shape[:-2], n, n)), axis=-2
    )
    return xp.where(inside, taken, xp.zeros_like(taken))


def _banded_host(be, ab, b, *, lower, upper):
    xp = be.xp
    dtype = np.result_type(ab.dtype, b.dtype, np.float32)
    if xp is not np:
        return xp.linalg.solve(dense_of_bands(xp, ab.astype(dtype), lower, upper), b.astype(dtype))
    out = np.empty(b.shape, dtype)
    for k in np.ndindex(*b.shape[:-2]):
        out[k] = scipy.linalg.solve_banded((lower, upper), ab[k], b[k]) if b[k].size else b[k]
    return out


def shifted(x, k):
    """Return x along its last axis moved so that entry j is x[j + k]; zeros come in."""
    n = shape_of(x)[-1]
    if k == 0:
        return x
    if abs(k) >= n:
        return x * 0
    nothing = x[..., : abs(k)] * 0
    parts = [x[..., k:], nothing] if k > 0 else [nothing, x[..., :k]]
    return concatenate(parts, -1)


def _transposed(ab, lower, upper):
    """The bands of the transposed matrix."""
    return stack(
        [shifted(ab[..., upper + lower - r, :], r - lower) for r in range(lower + upper + 1)], -2
    )


def _into_bands(g, y, lower, upper):
    """The entries of - g y^T that lie in the bands."""
    rows = []
    for r in range(lower + upper + 1):
        product = shifted(_rows_last(g), r - upper) * _rows_last(y)
        rows.append(-sum_p(product, axis=(len(shape_of(product)) - 2,), keepdims=False))
    return stack(rows, -2)


def _rows_last(x):
    axes = len(shape_of(x))
    return x.transpose(*range(axes - 2), axes - 1, axes - 2)


def _times_bands(t, x, lower, upper):
    """The product of the matrix with bands t and x."""
    total = None
    for r in range(lower + upper + 1):
        part = shifted(t[..., r, None, :] * _rows_last(x), upper - r)
        total = part if total is None else total + part
    return _rows_last(total)


banded_p = Primitive(
    "solve_banded",
    forward=_banded_host,
    vjp=(
        lambda g, xs, y, *, lower, upper: _into_bands(
            banded_p(_transposed(xs[0], lower, upper), g, lower=upper, upper=lower), y, lower, upper
        ),
        lambda g, xs, y, *, lower, upper: banded_p(
            _transposed(xs[0], lower, upper), g, lower=upper, upper=lower
        ),
    ),
    jvp=(
        lambda t, xs, y, *, lower, upper: (
            -banded_p(xs[0], _times_bands(t, y, lower, upper), lower=lower, upper=upper)
        ),
        lambda t, xs, y, *, lower, upper: banded_p(xs[0], t, lower=lower, upper=upper),
    ),
    keeps=("0y", "0"),
    shape=lambda ab, b, *, lower, upper: Aval(b.shape, floating_dtype(ab, b)),
    batch=lambda on, v, size, **k: banded_p(*all_batched(on, v, size), **k),
    samples=lambda d: [
        sample(
            np.array([[0.0], [4.0], [0.0]]) + d.within(0.5, 1.0, 3, 5),
            d.normal(5, 2),
            lower=1,
            upper=1,
        ),
        sample(
            np.array([[0.0], [4.0], [0.0], [0.0]]) + d.within(0.5, 1.0, 4, 4),
            d.normal(4, 1),
            lower=2,
            upper=1,
        ),
        sample(
            np.array([[0.0], [4.0]]) + d.within(0.5, 1.0, 2, 2, 4),
            d.normal(2, 4, 1),
            lower=0,
            upper=1,
        ),
    ],
    domain="a invertible",
    library="cusolver",
)
"""The solution of a x = b for a matrix given by its bands; on CUDA by the dense matrix."""
