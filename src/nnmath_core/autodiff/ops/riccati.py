"""Algebraic Riccati equations: stabilising solutions, differentiated implicitly.

At the solution the gain K minimises the cost, so that its own change does not count: the derivative solves the
Lyapunov (or Stein) equation of the closed loop a - b K. Of q and r the Hermitian part is read.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from nnmath_core.autodiff.ops.contract import contract, matmul
from nnmath_core.autodiff.ops.conventions import (
    Aval,
    all_batched,
    beside,
    dtype_of,
    floating_dtype,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import conjugated
from nnmath_core.autodiff.ops.linalg import solve_p
from nnmath_core.autodiff.ops.matrix_functions import sylvester_p
from nnmath_core.autodiff.ops.shape import reshape_p
from nnmath_core.autodiff.ops.stacks import adjoint
from nnmath_core.autodiff.primitive import Primitive, sample
from nnmath_core.errors import DtypeError

__all__ = ["care_p", "dare_p", "stein"]


def _half(x):
    return (x + adjoint(x)) * 0.5


def _host(solver, on_device):
    def forward(be, a, b, q, r):
        xp = be.xp
        dtype = np.result_type(a.dtype, b.dtype, q.dtype, r.dtype, np.float32)
        if "i" in (kinds := {x.dtype.kind for x in (a, b, q, r)}) or "b" in kinds:
            raise DtypeError(
                "the Riccati solvers take floating arrays. Convert integers: x.astype(float)."
            )
        q, r = ((x + xp.conj(xp.swapaxes(x, -1, -2))) / 2 for x in (q, r))
        if xp is not np:
            return on_device(xp, *(x.astype(dtype) for x in (a, b, q, r)))
        out = np.empty(a.shape, dtype)
        for i in np.ndindex(*a.shape[:-2]):
            out[i] = solver(a[i], b[i], q[i], r[i])
        return out

    return forward


def _care_by_sign(xp, a, b, q, r):
    """Newton's iteration for the sign of the Hamiltonian matrix; Roberts, 1980."""
    ah, bh = (xp.conj(xp.swapaxes(x, -1, -2)) for x in (a, b))
    n = a.shape[-1]
    g = xp.matmul(b, xp.linalg.solve(r, bh))
    z = xp.concatenate(
        [xp.concatenate([a, -g], axis=-1), xp.concatenate([-q, -ah], axis=-1)], axis=-2
    )
    eps = float(np.finfo(z.real.dtype).eps)
    for _ in range(60):
        new = (z + xp.linalg.inv(z)) / 2
        change, z = float(xp.max(xp.abs(new - z))), new
        if change <= 16 * n * eps * float(xp.max(xp.abs(z))):
            break
    z = z + xp.eye(2 * n, dtype=z.dtype)
    left, right = z[..., :, n:], -z[..., :, :n]
    lh = xp.conj(xp.swapaxes(left, -1, -2))
    return xp.linalg.solve(xp.matmul(lh, left), xp.matmul(lh, right))


def _dare_by_doubling(xp, a, b, q, r):
    """Structure-preserving doubling: each step is twice as many steps of the recursion; Anderson, 1978."""

    def h(x):
        return xp.conj(xp.swapaxes(x, -1, -2))

    g, x = xp.matmul(b, xp.linalg.solve(r, h(b))), q
    eye = xp.eye(a.shape[-1], dtype=a.dtype)
    eps = float(np.finfo(a.real.dtype).eps)
    for _ in range(60):
        w = eye + xp.matmul(g, x)
        wa, wg = xp.linalg.solve(w, a), xp.linalg.solve(w, g)
        step = xp.matmul(h(a), xp.matmul(x, wa))
        g, x, a = g + xp.matmul(a, xp.matmul(wg, h(a))), x + step, xp.matmul(a, wa)
        if float(xp.max(xp.abs(step))) <= eps * float(xp.max(xp.abs(x))):
            break
    return (x + h(x)) / 2


def stein(a, q):
    """The solution x of x - a^H x a = q, by a dense system of all its entries."""
    *lead, n, _ = shape_of(a)
    rows = int(np.prod(lead, dtype=int))
    flat = reshape_p(a, shape=(rows, n, n))
    both = contract(conjugated(flat), flat, spec=("aki", "alj", "aijkl"))
    system = beside(a, np.eye(n * n, dtype=dtype_of(a))) - reshape_p(
        both, shape=(rows, n * n, n * n)
    )
    return reshape_p(solve_p(system, reshape_p(q, shape=(rows, n * n, 1))), shape=(*lead, n, n))


def _care_gain(xs, x):
    a, b, _, r = xs
    k = solve_p(_half(r), matmul(adjoint(b), x))
    return k, a - matmul(b, k)


def _dare_gain(xs, x):
    a, b, _, r = xs
    bh = matmul(adjoint(b), x)
    k = solve_p(_half(r) + matmul(bh, b), matmul(bh, a))
    return k, a - matmul(b, k)


def _of_a(t, k):
    return t


def _of_b(t, k):
    return -matmul(t, k)


def _of_q(t, k):
    return _half(t)


def _of_r(t, k):
    return matmul(adjoint(k), matmul(_half(t), k))


def _continuous(loop, cost):
    """The rule of an operand that moves the closed loop, or the cost."""

    def rule(t, xs, x):
        k, closed = _care_gain(xs, x)
        if cost is not None:
            change = cost(t, k)
        else:
            moved = matmul(x, loop(t, k))
            change = moved + adjoint(moved)
        return sylvester_p(adjoint(closed), closed, -change)

    return rule


def _discrete(loop, cost):
    def rule(t, xs, x):
        k, closed = _dare_gain(xs, x)
        if cost is not None:
            change = cost(t, k)
        else:
            moved = matmul(adjoint(closed), matmul(x, loop(t, k)))
            change = moved + adjoint(moved)
        return stein(closed, change)

    return rule


def _riccati(name, forward, rule, start):
    def batch(on, v, size):
        return made(*all_batched(on, v, size))

    made = Primitive(
        name,
        forward=forward,
        jvp=(rule(_of_a, None), rule(_of_b, None), rule(None, _of_q), rule(None, _of_r)),
        keeps=("*y",) * 4,
        shape=lambda a, b, q, r: Aval(a.shape, floating_dtype(a, b, q, r)),
        batch=batch,
        samples=lambda d: [
            sample(start(d, 3), 0.5 * d.normal(3, 2), d.spd(3), d.spd(2)),
            sample(start(d, 2, 2), 0.5 * d.normal(2, 2, 1), d.spd(2, 2), d.spd(1, 2)),
        ],
        domain="(a, b) stabilisable, r positive definite",
        library="cusolver",
    )
    return made


care_p = _riccati(
    "care",
    _host(scipy.linalg.solve_continuous_are, _care_by_sign),
    _continuous,
    lambda d, n, *batch: 0.2 * d.normal(*batch, n, n) - np.eye(n),
)
dare_p = _riccati(
    "dare",
    _host(scipy.linalg.solve_discrete_are, _dare_by_doubling),
    _discrete,
    lambda d, n, *batch: 0.3 * d.normal(*batch, n, n),
)
