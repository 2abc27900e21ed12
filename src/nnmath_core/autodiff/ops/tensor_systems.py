"""Chains and products of vectors and matrices, and systems whose unknowns are arrays of several axes."""

from __future__ import annotations

import math

import numpy as np

from nnmath_core._ext._autodiff import alias, mark_fresh
from nnmath_core.autodiff.ops.contract import matmul, outer
from nnmath_core.autodiff.ops.conventions import as_operand, ndim_of, refuse, shape_of
from nnmath_core.autodiff.ops.linalg import inv, solve
from nnmath_core.autodiff.ops.numeric import cross
from nnmath_core.autodiff.ops.plain import numpys
from nnmath_core.autodiff.ops.shape import moveaxis, ravel, reshape_p

__all__ = ["linalg_cross", "linalg_outer", "multi_dot", "tensorinv", "tensorsolve"]


@numpys(np.linalg.multi_dot)
def multi_dot(arrays, *, out=None):
    """NumPy's ``linalg.multi_dot``: a chain of products in the order that costs least."""
    refuse("multi_dot", out=(out, None))
    xs = [as_operand(x) for x in arrays]
    if len(xs) < 2:
        raise ValueError("Expecting at least two arrays.")
    for i, x in enumerate(xs):
        if ndim_of(x) != 2 and not (ndim_of(x) == 1 and i in (0, len(xs) - 1)):
            raise np.linalg.LinAlgError(
                f"{ndim_of(x)}-dimensional array given. Array must be two-dimensional"
            )
    sizes = [
        (1, *shape_of(x)) if ndim_of(x) == 1 and i == 0 else shape_of(x) for i, x in enumerate(xs)
    ]
    return _chain(xs, _cuts([s[0] for s in sizes] + [math.prod(sizes[-1][1:])]), 0, len(xs) - 1)


def _cuts(p):
    """Where to cut the chain between i and j, by dynamic programming over all cuts (Cormen et al., section 15.2)."""
    n = len(p) - 1
    cost, cut = [[0] * n for _ in range(n)], {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            cost[i][j], cut[i, j] = min(
                (cost[i][k] + cost[k + 1][j] + p[i] * p[k + 1] * p[j + 1], k) for k in range(i, j)
            )
    return cut


def _chain(xs, cut, i, j):
    if i == j:
        return xs[i]
    k = cut[i, j]
    return matmul(_chain(xs, cut, i, k), _chain(xs, cut, k + 1, j))


@numpys(np.linalg.tensorsolve)
def tensorsolve(a, b, axes=None):
    """NumPy's ``linalg.tensorsolve``."""
    a, b = as_operand(a), as_operand(b)
    if axes is not None:
        n = ndim_of(a)
        a = moveaxis(alias(a), tuple(axes), tuple(range(n - len(axes), n)))
    shape = shape_of(a)[ndim_of(b) - ndim_of(a) or ndim_of(a) :]
    size = math.prod(shape)
    if math.prod(shape_of(a)) != size**2:
        raise np.linalg.LinAlgError(
            "Input arrays must satisfy the requirement prod(a.shape[b.ndim:]) == prod(a.shape[:b.ndim])"
        )
    x = solve(reshape_p(alias(a), shape=(size, size)), ravel(alias(b)))
    return mark_fresh(reshape_p(x, shape=shape))


@numpys(np.linalg.tensorinv)
def tensorinv(a, ind=2):
    """NumPy's ``linalg.tensorinv``."""
    if ind <= 0:
        raise ValueError("Invalid ind argument.")
    a = as_operand(a)
    s = shape_of(a)
    rows = math.prod(s[:ind])
    inverse = inv(reshape_p(alias(a), shape=(rows, math.prod(s[ind:]))))
    return mark_fresh(reshape_p(inverse, shape=(*s[ind:], *s[:ind])))


@numpys(np.linalg.cross)
def linalg_cross(x1, x2, /, *, axis=-1):
    """NumPy's ``linalg.cross``: of vectors of length 3 along an axis."""
    x1, x2 = as_operand(x1), as_operand(x2)
    lengths = shape_of(x1)[axis], shape_of(x2)[axis]
    if lengths != (3, 3):
        raise ValueError(
            "Both input arrays must be (arrays of) 3-dimensional vectors, "
            f"but they are {lengths[0]} and {lengths[1]} dimensional instead."
        )
    return cross(x1, x2, axis=axis)


@numpys(np.linalg.outer)
def linalg_outer(x1, x2, /):
    """NumPy's ``linalg.outer``: of two vectors."""
    x1, x2 = as_operand(x1), as_operand(x2)
    if (ndim_of(x1), ndim_of(x2)) != (1, 1):
        raise ValueError(
            "Input arrays must be one-dimensional, "
            f"but they are x1.ndim={ndim_of(x1)} and x2.ndim={ndim_of(x2)}."
        )
    return outer(x1, x2)
