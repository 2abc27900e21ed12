"""Polynomials by their coefficients, highest power first: the ``np.poly*`` family."""

from __future__ import annotations

import numpy as np

from nnmath_core._ext._autodiff import value_of
from nnmath_core.autodiff.ops.compare import equal
from nnmath_core.autodiff.ops.contract import matmul
from nnmath_core.autodiff.ops.conventions import (
    as_operand,
    beside,
    constant,
    dtype_of,
    is_known,
    ndim_of,
    on_host,
    operands,
    refuse,
    require_value,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import conj, sqrt
from nnmath_core.autodiff.ops.index import sort
from nnmath_core.autodiff.ops.join import concatenate, stack
from nnmath_core.autodiff.ops.plain import numpys
from nnmath_core.autodiff.ops.reduce import sum
from nnmath_core.autodiff.ops.sequences import convolve
from nnmath_core.autodiff.ops.shape import (
    atleast_1d,
    broadcast_to,
    cast,
    floating,
    imag,
    real,
    stop_gradient,
)
from nnmath_core.checks import sentence
from nnmath_core.errors import ShapeError

__all__ = [
    "poly",
    "polyadd",
    "polyder",
    "polydiv",
    "polyfit",
    "polyint",
    "polymul",
    "polysub",
    "polyval",
    "roots",
    "vander",
]


def _coefficients(p):
    return atleast_1d(as_operand(np.asarray(p) if isinstance(p, np.poly1d) else p))


def _both(a, b):
    """The coefficients of two polynomials, where one may be numbers beside an array of a device."""
    a, b = (list(p) if isinstance(p, np.poly1d) else p for p in (a, b))
    return map(atleast_1d, operands(a, b, numbers=True))


def _listed(who, p):
    """The coefficients for a function that takes no single number as a polynomial, since NumPy's does not."""
    if ndim_of(as_operand(p)) == 0 and not isinstance(p, np.poly1d):
        advice = "Write p[None], the constant polynomial."
        raise ShapeError(
            sentence(who, "p", "a sequence of coefficients", "a single number", advice)
        )
    return _coefficients(p)


def _zeros(like, n, dtype=None):
    return constant(like, (n,), 0, dtype_of(like) if dtype is None else dtype)


@numpys(np.polyval)
def polyval(p, x):
    """NumPy's ``polyval``, by Horner's rule; it has derivatives in the coefficients and in x."""
    p, x = _listed("polyval", p), as_operand(x)
    n = shape_of(p)[0]
    if not n:
        return constant(x, shape_of(x), 0, dtype_of(x))
    y = stop_gradient(x) * 0 + p[0]  # NumPy begins with 0, so an infinite x is NaN
    for k in range(1, n):
        y = y * x + p[k]
    return y


def _added(a1, a2, sign):
    a, b = _both(a1, a2)
    n, m = shape_of(a)[0], shape_of(b)[0]
    if n < m:
        a = concatenate([_zeros(a, m - n), a])
    if m < n:
        b = concatenate([_zeros(b, n - m), b])
    return a + b if sign > 0 else a - b


@numpys(np.polyadd)
def polyadd(a1, a2):
    """NumPy's ``polyadd``."""
    return _added(a1, a2, 1)


@numpys(np.polysub)
def polysub(a1, a2):
    """NumPy's ``polysub``."""
    return _added(a1, a2, -1)


@numpys(np.polymul)
def polymul(a1, a2):
    """NumPy's ``polymul``: the convolution of the coefficients.

    Leading zeros are dropped as NumPy drops them; under vmap and staging, where values are not known, they stay.
    """
    a, b = _both(a1, a2)
    for x in (a, b):
        if ndim_of(x) != 1:
            raise ValueError("Polynomial must be 1d only.")
    a, b = (x if shape_of(x)[0] else _zeros(x, 1) for x in (a, b))
    return convolve(a, b)[_leading_zeros(a) + _leading_zeros(b) :]


def _leading_zeros(p):
    """How many leading coefficients are known to be 0, but for the last one."""
    if not is_known(p):
        return 0
    v = value_of(p)[:-1]
    found = v.nonzero()[0]
    return int(found[0]) if len(found) else len(v)


@numpys(np.polydiv)
def polydiv(u, v):
    """NumPy's ``polydiv``: quotient and remainder, by long division; v's first coefficient must not be 0."""
    u, v = _both(u, v)
    dtype = np.result_type(dtype_of(u), dtype_of(v), np.float16)
    u, v = cast(u, dtype), cast(v, dtype)
    m, n = shape_of(u)[0] - 1, shape_of(v)[0] - 1
    scale = 1.0 / v[0]
    rest, quotient, cancelled = u, [], []
    for _ in range(m - n + 1):
        d = scale * rest[0]
        quotient.append(d)
        head = rest[: n + 1] - d * v
        cancelled.append(head[:1])
        rest = concatenate([head[1:], rest[n + 1 :]])
    q = stack(quotient) if quotient else _zeros(u, 1)
    return q, _trimmed(cancelled, rest)


def _trimmed(cancelled, rest):
    """The remainder without its leading zeros, as NumPy drops them.

    Without values there remain as many coefficients as v leaves. What the division has ``cancelled`` is 0 unless it
    was not finite, or so large that its rounding error is not.
    """
    if not is_known(rest):
        return rest if shape_of(rest)[0] else _zeros(rest, 1)
    r = concatenate([*cancelled, rest])
    v, k = value_of(r), 0
    while k < len(v) - 1 and abs(v[k]) <= 1e-8:
        k += 1
    return r[k:]


def _order(who, m):
    if int(m) < 0:
        raise ValueError(f"{who}: the order must be non-negative, got {m}.")
    return int(m)


@numpys(np.polyder)
def polyder(p, m=1):
    """NumPy's ``polyder``: the coefficients of the derivative of order m."""
    p = _listed("polyder", p)
    for _ in range(_order("polyder", m)):
        n = shape_of(p)[0] - 1
        p = p[:-1] * _powers(p, n) if n >= 0 else p
    return p


def _powers(p, n):
    """The numbers n, ..., 1 beside the coefficients."""
    return beside(p, np.arange(n, 0, -1))


@numpys(np.polyint)
def polyint(p, m=1, k=None):
    """NumPy's ``polyint``: the coefficients of the integral of order m, with constants k."""
    p, m = _listed("polyint", p), _order("polyint", m)
    k = _zeros(p, max(m, 1)) if k is None else atleast_1d(operands(p, k, numbers=True)[1])
    if shape_of(k)[0] == 1 and m > 1:
        k = broadcast_to(k, (m,))
    if shape_of(k)[0] < m:
        raise ValueError("k must be a scalar or a rank-1 array of length 1 or >m.")
    for j in range(m):
        n = shape_of(p)[0]
        p = concatenate([p / _powers(p, n), k[j : j + 1]])
    return p


@numpys(np.vander)
def vander(x, N=None, increasing=False):
    """NumPy's ``vander``: the powers of x as columns."""
    x = as_operand(x)
    if ndim_of(x) != 1:
        raise ValueError("x must be a one-dimensional array or sequence.")
    n = shape_of(x)[0] if N is None else N
    x = cast(x, np.promote_types(dtype_of(x), int))
    columns = [constant(x, shape_of(x), 1, dtype_of(x))]
    for _ in range(n - 1):
        columns.append(columns[-1] * x)
    columns = columns[:n] if increasing else columns[:n][::-1]
    return stack(columns, 1) if n else constant(x, (shape_of(x)[0], 0), 0, dtype_of(x))


# ---------------------------------------------------------------------------------------------- zeros
@numpys(np.poly)
def poly(seq_of_zeros):
    """NumPy's ``poly``: the coefficients of the polynomial with these zeros, or of a matrix's characteristic one."""
    z = as_operand(seq_of_zeros)
    if not ndim_of(z):
        wanted = "a sequence of zeros or a square matrix"
        raise ShapeError(
            sentence("poly", "seq_of_zeros", wanted, "a single number", "Write z[None].")
        )
    if ndim_of(z) == 2 and shape_of(z)[0] == shape_of(z)[1] != 0:
        z = _eigenvalues(z)
    elif ndim_of(z) != 1:
        raise ValueError("input must be 1d or non-empty square 2d array.")
    if not shape_of(z)[0]:
        return 1.0
    a = constant(z, (1,), 1, dtype_of(z))
    for k in range(shape_of(z)[0]):
        a = convolve(a, concatenate([constant(z, (1,), 1, dtype_of(z)), -z[k : k + 1]]))
    if dtype_of(a).kind == "c":
        pairs = equal(sort(z), sort(conj(z))).all()
        a = real(a) if pairs else a
    return a


def _eigenvalues(a):
    """Those of a matrix; real ones of a real matrix as real numbers, whose overflow is no NaN."""
    z = np.linalg.eigvals(a)
    if dtype_of(a).kind == "c" or not is_known(z) or dtype_of(z).kind != "c":
        return z
    return z if value_of(imag(z)).any() else real(z)


@numpys(np.roots)
def roots(p):
    """NumPy's ``roots``: the eigenvalues of the companion matrix; leading and trailing zeros must be known."""
    p = _listed("roots", p)
    if ndim_of(p) != 1:
        raise ValueError("Input must be a rank-1 array.")
    v = require_value("np.roots", p)
    (places,) = np.nonzero(on_host(np.asarray(v) if isinstance(v, np.generic) else v))
    if not len(places):
        return constant(p, (0,), 0, np.float64)
    behind = len(v) - int(places[-1]) - 1
    p = p[int(places[0]) : int(places[-1]) + 1]
    p = floating(p)
    n = shape_of(p)[0]
    if n == 1:
        return _zeros(p, behind)
    first = (-p[1:] / p[0])[None]
    below = beside(p, np.eye(n - 2, n - 1).astype(dtype_of(p)))
    found = np.linalg.eigvals(concatenate([first, below]) if n > 2 else first)
    return concatenate([found, _zeros(found, behind)]) if behind else found


@numpys(np.polyfit)
def polyfit(x, y, deg, rcond=None, full=False, w=None, cov=False):
    """NumPy's ``polyfit``: least squares; of a traced array the coefficients alone."""
    refuse("polyfit", full=(full, False), cov=(cov, False))
    x, y = floating(x), floating(y)
    if deg < 0:
        raise ValueError("expected deg >= 0")
    if ndim_of(x) != 1:
        raise TypeError("expected 1D vector for x")
    if not shape_of(x)[0]:
        raise TypeError("expected non-empty vector for x")
    if ndim_of(y) not in (1, 2):
        raise TypeError("expected 1D or 2D array for y")
    if shape_of(x)[0] != shape_of(y)[0]:
        raise TypeError("expected x and y to have same length")
    if rcond is None:
        rcond = shape_of(x)[0] * float(np.finfo(dtype_of(x)).eps)
    a = vander(x, deg + 1)
    if w is not None:
        w = as_operand(w)
        if shape_of(w) != shape_of(x):
            raise TypeError("expected w and y to have the same length")
        a, y = a * w[:, None], y * (w[:, None] if ndim_of(y) == 2 else w)
    size = sqrt(sum(a * a, 0))
    c = matmul(np.linalg.pinv(a / size, rcond=rcond), y)
    return c / (size[:, None] if ndim_of(y) == 2 else size)
