"""Repeated eigenvalues and singular values: which of them are one, which basis moves smoothly, what has no derivative.

A basis of the eigenvectors of a repeated eigenvalue is arbitrary, and so is the phase of a complex vector: the
*gauge*. A function that does not depend on it can have a derivative there; the derivative of the vectors themselves
does not exist. Values count as one when rounding cannot tell them apart: neighbours within 4 n eps of the largest.
"""

from __future__ import annotations

import numpy as np

from nnmath_core._ext._autodiff import value_of
from nnmath_core.autodiff.ops.compare import greater, logical_and
from nnmath_core.autodiff.ops.conventions import (
    Aval,
    all_batched,
    dtype_of,
    expand_batch,
    is_staged,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import absolute
from nnmath_core.autodiff.ops.reduce import any, max, sum_p
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import cast, stop_gradient
from nnmath_core.autodiff.ops.stacks import each_batched
from nnmath_core.autodiff.primitive import Primitive, sample
from nnmath_core.errors import GradientError

__all__ = [
    "alike_p",
    "gauge_p",
    "guarded_p",
    "repeated",
    "rotation_p",
    "rotations_p",
    "shared",
]

_UNITS = 4
"""LAPACK's errors in eigenvalues are a modest multiple of eps times the norm; measured below 2 n eps for n <= 200."""


def tolerance(xp, w):
    """The distance below which neighbours in w count as one value, one for each row."""
    n = w.shape[-1]
    top = xp.max(xp.abs(w), axis=-1, keepdims=True) if n else xp.ones((*w.shape[:-1], 1), w.dtype)
    return top * (_UNITS * n * float(np.finfo(np.result_type(w, np.float32)).eps))


def _alike(be, w):
    xp = be.xp
    jump = xp.abs(w[..., 1:] - w[..., :-1]) > tolerance(xp, w)
    first = xp.zeros((*w.shape[:-1], min(1, w.shape[-1])), dtype=np.int64)
    group = xp.concatenate([first, xp.cumsum(jump, axis=-1)], axis=-1)
    return group[..., :, None] == group[..., None, :]


alike_p = Primitive(
    "alike",
    forward=_alike,
    differentiable=False,
    shape=lambda w: Aval((*w.shape, w.shape[-1]), np.dtype(bool)),
    batch=each_batched(lambda: alike_p),
    samples=lambda d: [
        sample(np.array([-1.0, 2.0, 2.0, 3.5])),
        sample(np.array([[5.0, 1.0, 1e-18, 0.0], [4.0, 3.0, 2.0, 1.0]])),
    ],
)
"""Which values of a sorted row count as one: (..., n) -> booleans (..., n, n)."""


def shared(g, same):
    """Each row of g, where values that count as one have several entries their mean: a tie shares equally.

    Entries that are equal stay as they are, with the tangents that they carry.
    """
    if not shape_of(g)[-1]:
        return g
    member = cast(same, dtype_of(g))
    last = (len(shape_of(g)),)
    mean = sum_p(member * g[..., None, :], axis=last, keepdims=False) / sum_p(
        member, axis=last, keepdims=False
    )
    apart = absolute(stop_gradient(g - mean))
    size = absolute(stop_gradient(g))
    small = float(np.finfo(dtype_of(size)).eps) ** 0.5
    uneven = greater(apart, small * max(size, -1, keepdims=True))
    return where(any(logical_and(same, uneven[..., None, :]), -1), mean, g)


def repeated(w):
    """Whether some row of w has a repeated value; True where nothing is known yet."""
    if is_staged(w):
        return True
    w = value_of(w)
    same = alike_p(w)
    return bool(same.sum() > w.size)


# --------------------------------------------------------------------------------- the basis that a tangent asks for
def _rotation(be, m, w):
    """Eigenvectors of the blocks of a Hermitian m that belong to one value each; identity for the others."""
    xp = be.xp
    same = _alike(be, w)
    n = m.shape[-1]
    block = xp.where(same, m, xp.zeros_like(m))
    # distances between the blocks that exceed every eigenvalue keep the blocks, and their order, apart
    group = n - xp.sum(xp.cumsum(same, axis=-1) > 0, axis=-1)
    size = xp.max(xp.sum(xp.abs(block), axis=-1), axis=-1) if n else xp.zeros(m.shape[:-2])
    far = (group * (2 * size[..., None] + 1)).astype(m.dtype)
    eye = xp.eye(n, dtype=m.dtype)
    _, q = xp.linalg.eigh(block + far[..., None] * eye)
    alone = xp.sum(same, axis=-1) == 1
    q = xp.where(same, q, xp.zeros_like(q))
    return xp.where(alone[..., None, :], eye, q)


rotation_p = Primitive(
    "rotation",
    forward=_rotation,
    differentiable=False,
    shape=lambda m, w: Aval(m.shape, m.dtype),
    batch=each_batched(lambda: rotation_p),
    samples=lambda d: [
        sample(
            np.array([[2.0, 1.0, 0.5], [1.0, 3.0, 0.25], [0.5, 0.25, 1.0]]),
            np.array([1.0, 1.0, 4.0]),
        ),
    ],
    library="cusolver",
)
"""The rotation within repeated eigenvalues w that makes the blocks of m diagonal."""


def _rotations(be, p, s):
    xp = be.xp
    n = p.shape[-1]
    nought = s <= tolerance(xp, s)
    eye = xp.eye(n, dtype=p.dtype)
    swapped = xp.conj(xp.swapaxes(p, -1, -2))
    q = _rotation(be, (p + swapped) / 2, s)
    inside = nought[..., :, None] & nought[..., None, :]
    block = xp.where(inside, p, xp.zeros_like(p))
    size = xp.sum(xp.abs(block), axis=(-2, -1)) + 1
    far = xp.where(nought, xp.zeros_like(s), size[..., None] * xp.arange(2 * n, n, -1)).astype(
        p.dtype
    )
    x, _, yh = xp.linalg.svd(block + far[..., None] * eye)
    zero = xp.zeros_like(p)
    x = xp.where(inside, x, zero)
    y = xp.where(inside, xp.conj(xp.swapaxes(yh, -1, -2)), zero)
    fixed = nought[..., None, :]
    q = xp.where(fixed, zero, q)
    return xp.where(fixed, x, q), xp.where(fixed, y, q)


rotations_p = Primitive(
    "rotations",
    forward=_rotations,
    differentiable=False,
    outputs=(False, False),
    shape=lambda p, s: (Aval(p.shape, p.dtype), Aval(p.shape, p.dtype)),
    batch=each_batched(lambda: rotations_p),
    samples=lambda d: [
        sample(
            np.array(
                [
                    [2.0, 1.0, 0.5, 0.1],
                    [0.0, 3.0, 0.25, 0.2],
                    [0.5, 0.25, 1.0, 2.0],
                    [0.1, 0.3, 0.5, 1.5],
                ]
            ),
            np.array([3.0, 3.0, 0.0, 0.0]),
        ),
    ],
    library="cusolver",
)
"""The same for the left and right vectors of singular values s; within the value 0 they turn separately."""


# ------------------------------------------------------------------------------------------ what has no derivative
BASIS, PHASE, OPEN = 1, 2, 3

WORDS = {
    BASIS: "the function depends on the basis that was chosen for the vectors of a repeated {value}, and has no "
    "derivative there. Use what does not depend on it: {value}s, projectors, functions of the matrix.",
    PHASE: "the function depends on the phase of a complex vector, which is arbitrary, and has no derivative. "
    "Use what does not depend on it: moduli, projectors, v * conj(v[0]).",
    OPEN: "the function uses both a repeated {value} and its vectors, and their cotangents do not determine its "
    "derivative there. Write a function of the matrix (nnmath_core.linalg.sqrtm, expm, polar, pinv, ...), use forward "
    "mode (nm.jvp, nm.jacfwd), or average the gradients at a + d e and a - d e for a small symmetric e.",
}


def _guarded(be, x, flags, *, who, value):
    top = int(be.xp.max(flags)) if flags.size else 0
    if top:
        raise GradientError(f"{who}: " + WORDS[top].format(value=value))
    return x


guarded_p = Primitive(
    "guarded",
    forward=_guarded,
    view=True,
    vjp=(lambda g, xs, y, *, who, value: g, None),
    jvp=(lambda t, xs, y, *, who, value: t, None),
    keeps=("", ""),
    shape=lambda x, flags, *, who, value: Aval(x.shape, x.dtype),
    batch=lambda on, v, size, **k: guarded_p(
        v[0] if on[0] else expand_batch(v[0], size), v[1], **k
    ),
    samples=lambda d: [
        sample(d.normal(3, 3), np.int64(0), who="eigh", value="eigenvalue"),
        sample(d.normal(2, 3), np.zeros(1, np.int64), who="svd", value="singular value"),
    ],
)
"""x itself, unless a flag says that it is not a derivative: then a GradientError."""


def _gauge(be, k, g, w, *, values):
    xp = be.xp
    n = w.shape[-1]
    if not n:
        return xp.zeros(w.shape[:-1], dtype=np.int64)
    same = _alike(be, w)
    eye = xp.eye(n, dtype=bool)
    kh = xp.conj(xp.swapaxes(k, -1, -2))
    small = float(np.finfo(np.result_type(w, np.float32)).eps) ** 0.5
    bound = small * xp.max(xp.abs(k), axis=(-2, -1), keepdims=True)
    off = same & (xp.abs(k - kh) > 2 * bound)
    basis = xp.any(off & ~eye, axis=(-2, -1))
    phase = xp.any(off & eye, axis=(-2, -1))
    flags = phase * PHASE + (basis & ~phase) * BASIS
    if not values:
        return flags
    members = xp.sum(same, axis=-1)
    several = members > 1
    h = (k + kh) / 2
    d = xp.sum(xp.where(eye, h, xp.zeros_like(h)), axis=-1).real

    def mean(v):
        return (
            xp.sum(xp.where(same, v[..., None, :], xp.zeros_like(v)[..., None, :]), axis=-1)
            / members
        )

    uneven = xp.abs(g - mean(g)) > small * xp.max(xp.abs(g), axis=-1, keepdims=True)
    uneven = uneven | (xp.abs(d - mean(d)) > bound[..., 0])
    uneven = uneven & several
    left = xp.any(uneven, axis=-1) | xp.any(same & ~eye & (xp.abs(h) > bound), axis=(-2, -1))
    return flags + ((flags == 0) & left) * OPEN


gauge_p = Primitive(
    "gauge",
    forward=_gauge,
    differentiable=False,
    shape=lambda k, g, w, *, values: Aval(w.shape[:-1], np.dtype(np.int64)),
    batch=lambda on, v, size, **kw: gauge_p(*all_batched(on, v, size), **kw),
    samples=lambda d: [
        sample(
            np.array([[[0.0, 1.0, 3.0], [1.0, 0.5, 0.0], [2.0, 2.0, 1.0]],
                      [[0.0, 1.0, 3.0], [2.0, 0.5, 0.0], [2.0, 2.0, 1.0]]]),
            np.array([[1.0, 1.0, 2.0], [0.0, 0.5, 2.0]]),
            np.array([[1.0, 1.0, 2.0], [1.0, 1.0, 2.0]]),
            values=values,
        )
        for values in (False, True)
    ] + [sample(np.diag([2.0, 2.0, 1.0]) + 0.0, np.array([1.0, 1.0, 3.0]), np.array([1.0, 1.0, 2.0]), values=True)],
)  # fmt: skip
"""Whether cotangents see the gauge: k = v^H times that of the vectors, g that of the values w. 0: they do not."""
