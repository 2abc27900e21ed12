"""The pseudo-inverse and least squares, at constant rank.

The pseudo-inverse is continuous, and has a derivative, along matrices of one rank; the rule is that of Golub and
Pereyra (1973), in projectors and without singular vectors, so that repeated singular values need no care. A
perturbation that changes the rank has no derivative, and the rule gives that of its part which keeps it. Singular
values below the cut-off count as zeros; the rule is off by their ratio to those that are kept, and where a large
cut-off makes that more than a rounding error it refuses.
"""

from __future__ import annotations

import builtins

import numpy as np

from nnmath_core._ext._autodiff import Tracer, value_of
from nnmath_core.autodiff.ops.contract import matmul
from nnmath_core.autodiff.ops.conventions import (
    NO_VALUE,
    Aval,
    all_batched,
    beside,
    constant,
    floating_dtype,
    is_staged,
    ndim_of,
    real_dtype,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import absolute, conjugated
from nnmath_core.autodiff.ops.norms import matrix_rank
from nnmath_core.autodiff.ops.plain import numpys
from nnmath_core.autodiff.ops.reduce import sum
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import floating, reshape_p, stop_gradient
from nnmath_core.autodiff.ops.spectral import svdvals
from nnmath_core.autodiff.ops.stacks import adjoint, hermitian_of, matrices_last, square_last
from nnmath_core.autodiff.primitive import Primitive, Special, sample
from nnmath_core.device import backend_of
from nnmath_core.errors import GradientError, ShapeError, TraceError

__all__ = ["lstsq", "pinv"]


def _pinv_host(be, a, cutoff):
    xp = be.xp
    *lead, m, n = a.shape
    if not a.size:
        return xp.empty((*lead, n, m), dtype=a.dtype)
    u, s, vh = xp.linalg.svd(xp.conj(a), full_matrices=False)
    large = s > xp.max(s, axis=-1, keepdims=True) * xp.asarray(cutoff, dtype=s.dtype)[..., None]
    inverse = xp.where(large, 1 / xp.where(large, s, xp.ones_like(s)), xp.zeros_like(s))
    return xp.matmul(xp.swapaxes(vh, -1, -2), inverse[..., None] * xp.swapaxes(u, -1, -2))


def _lacking(a, p, left):
    """Return I - A P or I - P A: the projector to what A does not reach, or does not see."""
    q = matmul(a, p) if left else matmul(p, a)
    return where(beside(q, np.eye(shape_of(q)[-1], dtype=bool)), 1 - q, -q)


def _require_gap(a, p):
    """Refuse a derivative where the cut-off discards more than roundings: what is left of A is D = A - A P A."""
    a, p = value_of(a), value_of(p)
    if isinstance(a, Tracer) or isinstance(p, Tracer) or not a.size:
        return  # while staging there are no values to judge
    xp = backend_of(a, p).xp
    left = xp.linalg.norm(a - xp.matmul(xp.matmul(a, p), a), axis=(-2, -1))
    ratio = float(xp.max(left * xp.linalg.norm(p, axis=(-2, -1))))
    if ratio > float(np.finfo(p.dtype).eps) ** 0.5:
        raise GradientError(
            "pinv: the cut-off discards singular values that are no rounding errors (up to "
            f"{ratio:.1e} of those that are kept), and there the derivative at constant rank is another one. Use a "
            "smaller `rcond`, or a function of the singular values: nm.numpy.linalg.svd."
        )


def _pinv_forward(t, xs, y):
    _require_gap(xs[0], y)
    a, ph, th = xs[0], adjoint(y), adjoint(t)
    return (
        matmul(matmul(y, ph), matmul(th, _lacking(a, y, True)))
        + matmul(_lacking(a, y, False), matmul(th, matmul(ph, y)))
        - matmul(matmul(y, t), y)
    )


def _pinv_back(g, xs, y):
    _require_gap(xs[0], y)
    a, ph, g = xs[0], adjoint(y), conjugated(g)
    gh = adjoint(g)
    out = (
        matmul(_lacking(a, y, True), matmul(gh, matmul(y, ph)))
        + matmul(matmul(ph, y), matmul(gh, _lacking(a, y, False)))
        - matmul(matmul(ph, g), ph)
    )
    return conjugated(out)


pinv_p = Primitive(
    "pinv",
    forward=_pinv_host,
    vjp=(_pinv_back, None),
    jvp=(_pinv_forward, None),
    keeps=("0y", ""),
    shape=lambda a, cutoff: Aval((*a.shape[:-2], a.shape[-1], a.shape[-2]), floating_dtype(a)),
    batch=lambda on, v, size: pinv_p(
        all_batched(on[:1], v[:1], size)[0], all_batched(on[1:], v[1:], size)[0] if on[1] else v[1]
    ),
    samples=lambda d: [
        sample(d.normal(3, 2), 1e-6),
        sample(d.normal(2, 2, 3), 1e-6),
    ],
    special=[
        Special(
            "pinv of a matrix without full rank: the derivative along matrices of its rank",
            ([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]], 1e-6),
            ([[-0.25, 0.25, 0.25], [0.25, 0.0, 0.0]], None),
        )
    ],
    domain="along matrices of one rank",
    library="cusolver",
)


def _cutoff(a, rcond, rtol):
    if rcond is None:
        if rtol is NO_VALUE:
            return 1e-15
        if rtol is None:
            return builtins.max(shape_of(a)[-2:]) * float(np.finfo(real_dtype(a)).eps)
        return rtol
    if rtol is not NO_VALUE:
        raise ValueError("`rtol` and `rcond` can't be both set.")
    return rcond


@numpys(np.linalg.pinv)
def pinv(a, rcond=None, hermitian=False, *, rtol=NO_VALUE):
    """NumPy's ``linalg.pinv``, differentiated along matrices of the rank that the cut-off finds."""
    a = floating(a)
    matrices_last("pinv", a)
    if hermitian:
        square_last("pinv", a)
        a = hermitian_of(a)
    return pinv_p(a, stop_gradient(_cutoff(a, rcond, rtol)))


@numpys(np.linalg.lstsq)
def lstsq(a, b, rcond=None):
    """NumPy's ``linalg.lstsq``: the solution of least norm, differentiated along matrices of one rank."""
    a, b = floating(a), floating(b)
    if ndim_of(a) != 2 or ndim_of(b) not in (1, 2):
        raise np.linalg.LinAlgError(
            f"lstsq: `a` must have two axes and `b` one or two, got {ndim_of(a)} and {ndim_of(b)}."
        )
    (m, n), sb = shape_of(a), shape_of(b)
    if sb[0] != m:
        raise ShapeError(
            f"lstsq: `b` must have {m} rows, as `a` of shape {(m, n)}, got shape {sb}."
        )
    if is_staged(a):
        raise TraceError(
            "lstsq: the rank, which decides the shape of the residuals, is a value, and there is none while staging. "
            "Write pinv(a) @ b."
        )
    if rcond is None:
        rcond = float(np.finfo(real_dtype(a)).eps) * builtins.max(m, n)
    elif rcond == -1:
        rcond = float(np.finfo(real_dtype(a)).eps)
    columns = reshape_p(b, shape=(m, 1)) if len(sb) == 1 else b
    x = matmul(pinv_p(a, rcond), columns)
    rank = matrix_rank(a, rtol=rcond)
    full = int(np.min(_plain(rank))) == n and m > n
    residuals = sum(absolute(columns - matmul(a, x)) ** 2, 0) if full else _none(columns)
    return reshape_p(x, shape=(n,)) if len(sb) == 1 else x, residuals, rank, svdvals(a)


def _plain(x):
    v = value_of(x)
    return backend_of(v).to_host(v) if not isinstance(v, (int, np.generic, np.ndarray)) else v


def _none(like):
    """The residuals of a matrix of lower rank: an empty array."""
    return constant(like, (0,), 0, real_dtype(like))
