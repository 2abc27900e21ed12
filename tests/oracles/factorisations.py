"""Oracles of factorisations, triangular and Sylvester systems, pseudo-inverse and exponential: textbook loops."""

from __future__ import annotations

import math

import numpy as np

from oracles.linalg import gauss
from oracles.register import ORACLES, oracle
from oracles.spectral import settled, stacked


def substitution(a, b, *, lower, unit):
    n = len(a)
    x = np.zeros(b.shape)
    rows = range(n) if lower else reversed(range(n))
    for i in rows:
        done = range(i) if lower else range(i + 1, n)
        for c in range(b.shape[1]):
            rest = b[i, c] - math.fsum(a[i, j] * x[j, c] for j in done)
            x[i, c] = rest if unit else rest / a[i, i]
    return (x,)


ORACLES["solve_triangular"] = lambda a, b, **kw: stacked(substitution, 1)(a, b, **kw)[0]


def gram_schmidt(a):
    """Q with positive diagonal of R; each column is made orthogonal twice."""
    m, n = a.shape
    q, r = np.zeros((m, n)), np.zeros((n, n))
    for j in range(n):
        x = [float(v) for v in a[:, j]]
        for _ in range(2):
            for i in range(j):
                d = math.fsum(p * v for p, v in zip(q[:, i], x, strict=True))
                r[i, j] += d
                x = [v - d * p for p, v in zip(q[:, i], x, strict=True)]
        r[j, j] = math.sqrt(math.fsum(v * v for v in x))
        q[:, j] = [v / r[j, j] for v in x]
    return q, r


ORACLES["qr"] = stacked(gram_schmidt, 2)


def settle_qr(q, r):
    f = np.sign(np.diagonal(r, 0, -2, -1))
    return q * f[..., None, :], r * f[..., :, None]


settled("qr", settle_qr)


def doolittle(a):
    """Elimination by rows with the largest pivot."""
    m, n = a.shape
    k = min(m, n)
    up, order = [list(map(float, r)) for r in a], list(range(m))
    low = [[0.0] * k for _ in range(m)]
    for c in range(k):
        top = max(range(c, m), key=lambda r: abs(up[r][c]))
        for table in (up, low, order):
            table[c], table[top] = table[top], table[c]
        low[c][c] = 1.0
        for r in range(c + 1, m):
            f = low[r][c] = up[r][c] / up[c][c]
            up[r] = [
                0.0 if j <= c else x - f * y
                for j, (x, y) in enumerate(zip(up[r], up[c], strict=True))
            ]
    return np.array(order), np.array(low), np.array(up[:k])


ORACLES["lu"] = stacked(doolittle, 3)


@oracle
def pivots(order, *, k):
    out = np.zeros((*order.shape[:-1], k), int)
    for at in np.ndindex(*order.shape[:-1]):
        rows = list(range(order.shape[-1]))
        for i in range(k):
            j = out[(*at, i)] = rows.index(order[(*at, i)])
            rows[i], rows[j] = rows[j], rows[i]
    return out


@oracle
def order_of_pivots(p):
    out = np.zeros(p.shape, int)
    for at in np.ndindex(*p.shape[:-1]):
        rows = list(range(p.shape[-1]))
        for i, j in enumerate(p[at]):
            rows[i], rows[j] = rows[j], rows[i]
        out[at] = rows
    return out


def full_rank_inverse(a):
    m, n = a.shape
    return (gauss(a.T @ a, a.T) if m >= n else gauss(a @ a.T, a).T,)


@oracle
def pinv(a, cutoff):
    return stacked(full_rank_inverse, 1)(a)[0]


def series(a):
    """The power series of the exponential, of a small power of two of the matrix."""
    n = len(a)
    b = a / 1024.0
    total, term = np.eye(n), np.eye(n)
    for k in range(1, 30):
        term = np.array(
            [
                [math.fsum(term[i, m] * b[m, j] for m in range(n)) / k for j in range(n)]
                for i in range(n)
            ]
        )
        total = total + term
    # (I + d)^2 = I + (2 d + d^2): what is small is squared without the identity
    d = total - np.eye(n)
    for _ in range(10):
        d = 2 * d + d @ d
    return (np.eye(n) + d,)


ORACLES["expm"] = lambda a: stacked(series, 1)(a)[0]


def series_of_blocks(a, e):
    n = len(a)
    (y,) = series(np.block([[a, e], [np.zeros((n, n)), a]]))
    return y[:n, :n], y[:n, n:]


ORACLES["expm_frechet"] = stacked(series_of_blocks, 2)


def by_kronecker(a, b, q):
    m, n = q.shape
    system = np.zeros((m * n, m * n))
    for i in range(m):
        for j in range(n):
            for k in range(m):
                system[i * n + j, k * n + j] += a[i, k]
            for k in range(n):
                system[i * n + j, i * n + k] += b[k, j]
    return (gauss(system, q.reshape(-1, 1)).reshape(m, n),)


ORACLES["sylvester"] = lambda a, b, q: stacked(by_kronecker, 1)(a, b, q)[0]
ORACLES["root_slope"] = lambda y, t: stacked(lambda y, t: by_kronecker(y, y, t), 1)(y, t)[0]


def dense(ab, b, *, lower, upper):
    n = ab.shape[-1]
    a = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if -upper <= i - j <= lower:
                a[i, j] = ab[upper + i - j, j]
    return (gauss(a, b),)


ORACLES["solve_banded"] = lambda ab, b, **kw: stacked(dense, 1)(ab, b, **kw)[0]


def nearest_orthonormal(a):
    """The limit of (3 x - x x^T x) / 2 from a matrix of norm at most 1."""
    x = a / math.sqrt(math.fsum(v * v for v in a.ravel()))
    for _ in range(200):
        x = 1.5 * x - 0.5 * x @ (x.T @ x)
    return (x,)


ORACLES["polar"] = lambda a: stacked(nearest_orthonormal, 1)(a)[0]


def kleinman(a, b, q, r):
    """Newton's iteration of continuous time from no control of a stable system: a Lyapunov equation a step."""
    k = np.zeros((b.shape[1], len(a)))
    for _ in range(60):
        closed = a - b @ k
        (x,) = by_kronecker(closed.T, closed, -(q + k.T @ r @ k))
        k = gauss(r, b.T @ x)
    return ((x + x.T) / 2,)


def recursion(a, b, q, r):
    """The recursion of dynamic programming, until nothing changes."""
    x = q
    for _ in range(3000):
        k = gauss(r + b.T @ x @ b, b.T @ x @ a)
        x = q + a.T @ x @ (a - b @ k)
    return ((x + x.T) / 2,)


def of_hermitian_parts(f):
    def g(a, b, q, r):
        q, r = ((v + np.swapaxes(v, -1, -2)) / 2 for v in (q, r))
        return stacked(f, 1)(a, b, q, r)[0]

    return g


ORACLES["care"] = of_hermitian_parts(kleinman)
ORACLES["dare"] = of_hermitian_parts(recursion)
