"""Functions of matrices and matrix equations, under SciPy's names."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnmath_core.autodiff.ops.contract import matmul
from nnmath_core.autodiff.ops.conventions import beside, dtype_of, ndim_of, shape_of
from nnmath_core.autodiff.ops.elementwise import conjugated
from nnmath_core.autodiff.ops.linalg import solve as _solve, solve_p
from nnmath_core.autodiff.ops.matrix_functions import (
    expm_frechet_p,
    expm_p,
    logm_p,
    matrix_power,
    sqrtm_p,
    sylvester_p,
)
from nnmath_core.autodiff.ops.numeric import kron
from nnmath_core.autodiff.ops.plain import scipys
from nnmath_core.autodiff.ops.riccati import care_p, dare_p
from nnmath_core.autodiff.ops.shape import broadcast_to, cast, floating, imag, real, reshape
from nnmath_core.autodiff.ops.stacks import adjoint, square_last
from nnmath_core.errors import ShapeError, TraceError

__all__ = [
    "coshm",
    "cosm",
    "expm",
    "expm_frechet",
    "fractional_matrix_power",
    "logm",
    "sinhm",
    "sinm",
    "solve_continuous_are",
    "solve_continuous_lyapunov",
    "solve_discrete_are",
    "solve_discrete_lyapunov",
    "solve_lyapunov",
    "solve_sylvester",
    "sqrtm",
    "tanhm",
    "tanm",
]


def _square(who: str, A: Any, name: str = "A") -> Any:
    A = floating(A)
    square_last(who, A, name)
    return A


@scipys("scipy.linalg")
def expm(A: Any) -> Any:
    """SciPy's ``linalg.expm``; derivatives of every order by the exponential of block matrices."""
    return expm_p(_square("expm", A))


@scipys("scipy.linalg")
def expm_frechet(
    A: Any, E: Any, method: Any = None, compute_expm: Any = True, check_finite: Any = True
) -> Any:
    """SciPy's ``linalg.expm_frechet``: the exponential and its derivative along E."""
    A, E = _square("expm_frechet", A), _square("expm_frechet", E, "E")
    if shape_of(A) != shape_of(E):
        raise ValueError("expected A and E to be the same shape")
    y = expm_frechet_p(A, E)
    return tuple(y) if compute_expm else y[1]


@scipys("scipy.linalg")
def sqrtm(A: Any) -> Any:
    """SciPy's ``linalg.sqrtm``; of a traced real matrix with a negative eigenvalue a `DomainError`."""
    return sqrtm_p(_square("sqrtm", A))


@scipys("scipy.linalg")
def logm(A: Any) -> Any:
    """SciPy's ``linalg.logm``; of a traced real matrix with a negative eigenvalue a `DomainError`."""
    return logm_p(_square("logm", A))


@scipys("scipy.linalg")
def fractional_matrix_power(A: Any, t: Any) -> Any:
    """SciPy's ``linalg.fractional_matrix_power``: expm(t logm(A)), differentiable in the exponent too.

    An exponent that is a whole number, and not traced, multiplies or inverts, and takes every matrix.
    """
    A = _square("fractional_matrix_power", A)
    if isinstance(t, (int, float, np.integer, np.floating)) and t == np.floor(t):
        return matrix_power(A, int(t))
    return expm_p(logm_p(A) * t)


def _turned(A: Any) -> Any:
    """exp(i A)."""
    return expm_p(A * 1j)


@scipys("scipy.linalg")
def cosm(A: Any) -> Any:
    """SciPy's ``linalg.cosm``."""
    A = _square("cosm", A)
    if dtype_of(A).kind != "c":
        return real(_turned(A))
    return (_turned(A) + _turned(-A)) * 0.5


@scipys("scipy.linalg")
def sinm(A: Any) -> Any:
    """SciPy's ``linalg.sinm``."""
    A = _square("sinm", A)
    if dtype_of(A).kind != "c":
        return imag(_turned(A))
    return (_turned(A) - _turned(-A)) * -0.5j


@scipys("scipy.linalg")
def tanm(A: Any) -> Any:
    """SciPy's ``linalg.tanm``."""
    return solve_p(cosm(A), sinm(A))


@scipys("scipy.linalg")
def coshm(A: Any) -> Any:
    """SciPy's ``linalg.coshm``."""
    A = _square("coshm", A)
    return (expm_p(A) + expm_p(-A)) * 0.5


@scipys("scipy.linalg")
def sinhm(A: Any) -> Any:
    """SciPy's ``linalg.sinhm``."""
    A = _square("sinhm", A)
    return (expm_p(A) - expm_p(-A)) * 0.5


@scipys("scipy.linalg")
def tanhm(A: Any) -> Any:
    """SciPy's ``linalg.tanhm``."""
    return solve_p(coshm(A), sinhm(A))


# ------------------------------------------------------------------------------------------------ equations
def _sylvester(who: str, a: Any, b: Any, q: Any) -> Any:
    a, b, q = _square(who, a, "a"), _square(who, b, "b"), floating(q)
    sa, sb, sq = shape_of(a), shape_of(b), shape_of(q)
    if sq[-2:] != (sa[-1], sb[-1]):
        raise ShapeError(f"{who}: `q` must have shape {(sa[-1], sb[-1])}, got {sq[-2:]}.")
    lead = np.broadcast_shapes(sa[:-2], sb[:-2], sq[:-2])
    return sylvester_p(*(broadcast_to(x, (*lead, *shape_of(x)[-2:])) for x in (a, b, q)))


@scipys("scipy.linalg")
def solve_sylvester(a: Any, b: Any, q: Any) -> Any:
    """SciPy's ``linalg.solve_sylvester``: x with a x + x b = q."""
    return _sylvester("solve_sylvester", a, b, q)


@scipys("scipy.linalg")
def solve_continuous_lyapunov(a: Any, q: Any) -> Any:
    """SciPy's ``linalg.solve_continuous_lyapunov``: x with a x + x a^H = q."""
    a, q = _at_least_a_row(a), _at_least_a_row(q)
    return _sylvester("solve_continuous_lyapunov", a, adjoint(a), q)


def _at_least_a_row(x: Any) -> Any:
    """A number or a vector as a matrix of one row, as SciPy's ``atleast_2d``."""
    x = floating(x)
    return reshape(x, (1, -1)) if ndim_of(x) < 2 else x


solve_lyapunov = solve_continuous_lyapunov


@scipys("scipy.linalg")
def solve_discrete_lyapunov(a: Any, q: Any, method: Any = None) -> Any:
    """SciPy's ``linalg.solve_discrete_lyapunov``: x with a x a^H - x + q = 0."""
    a, q = _square("solve_discrete_lyapunov", a, "a"), _square("solve_discrete_lyapunov", q, "q")
    n = shape_of(a)[-1]
    if shape_of(q) != shape_of(a):
        raise ShapeError(
            f"solve_discrete_lyapunov: `q` must have shape {shape_of(a)}, got {shape_of(q)}."
        )
    if method is None:
        method = "direct" if n < 10 else "bilinear"
    eye = beside(a, np.eye(n, dtype=dtype_of(a)))
    if method == "direct":
        if len(shape_of(a)) != 2:
            raise ShapeError(
                "solve_discrete_lyapunov: method 'direct' takes one matrix, not a stack."
            )
        system = beside(a, np.eye(n * n, dtype=dtype_of(a))) - kron(a, conjugated(a))
        return reshape(_solve(system, reshape(q, (n * n,))), (n, n))
    if method != "bilinear":
        raise ValueError(f"Unknown solver {method}")
    # b = (a^H - 1) / (a^H + 1) makes the equation one of continuous time
    ah = adjoint(a)
    inverse = _solve(ah + eye, cast(eye, dtype_of(ah)))
    b = matmul(ah - eye, inverse)
    c = 2.0 * matmul(matmul(_solve(a + eye, eye), q), inverse)
    return _sylvester("solve_discrete_lyapunov", adjoint(b), b, -c)


def _riccati(who: str, p: Any, a: Any, b: Any, q: Any, r: Any, e: Any, s: Any) -> Any:
    if e is not None or s is not None:
        raise TraceError(
            f"{who}: `e` and `s` are not available on traced arrays. Remove them by algebra: a - b r^-1 s^H, "
            "q - s r^-1 s^H, and e^-1 from the left of a and b."
        )
    a, q, r = _square(who, a, "a"), _square(who, q, "q"), _square(who, r, "r")
    b = floating(b)
    n, m = shape_of(a)[-1], shape_of(r)[-1]
    if shape_of(b)[-2:] != (n, m) or shape_of(q)[-1] != n:
        raise ShapeError(
            f"{who}: `b` must have shape {(n, m)} and `q` {(n, n)}, got {shape_of(b)} and {shape_of(q)}."
        )
    lead = np.broadcast_shapes(*(shape_of(x)[:-2] for x in (a, b, q, r)))
    return p(*(broadcast_to(x, (*lead, *shape_of(x)[-2:])) for x in (a, b, q, r)))


@scipys("scipy.linalg")
def solve_continuous_are(
    a: Any, b: Any, q: Any, r: Any, e: Any = None, s: Any = None, balanced: Any = True
) -> Any:
    """SciPy's ``linalg.solve_continuous_are``, differentiated implicitly; of q and r the Hermitian part is read."""
    return _riccati("solve_continuous_are", care_p, a, b, q, r, e, s)


@scipys("scipy.linalg")
def solve_discrete_are(
    a: Any, b: Any, q: Any, r: Any, e: Any = None, s: Any = None, balanced: Any = True
) -> Any:
    """SciPy's ``linalg.solve_discrete_are``, differentiated implicitly; of q and r the Hermitian part is read."""
    return _riccati("solve_discrete_are", dare_p, a, b, q, r, e, s)
