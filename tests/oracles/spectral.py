"""Oracles of eigenvalues, singular values and their gauge: Jacobi rotations, roots of the characteristic polynomial.

What is unique only up to signs, phases or order is compared after `settle` has fixed them on both sides.
"""

from __future__ import annotations

import math

import numpy as np

from oracles.linalg import gauss
from oracles.register import ORACLES, oracle


def stacked(f, results):
    """Apply a function of matrices with several results to each matrix of a stack."""

    def apply(*xs, **params):
        lead = np.shape(xs[0])[:-2]
        rows = [f(*(x[i] for x in xs), **params) for i in np.ndindex(*lead)]
        return tuple(
            np.array([np.asarray(r[k]) for r in rows]).reshape((*lead, *np.shape(rows[0][k])))
            for k in range(results)
        )

    return apply


def settled(name, f):
    """Give an oracle the function that fixes what is not unique."""
    ORACLES[name].settle = f


def signs(v):
    """Return the factors that make the largest entry of each column real and positive."""
    top = np.take_along_axis(v, np.abs(v).argmax(-2)[..., None, :], -2)[..., 0, :]
    return np.abs(top) / np.where(top == 0, 1, top) + (top == 0)


# ------------------------------------------------------------------------------------------- symmetric
def jacobi(a):
    """Eigenvalues, ascending, and vectors of a symmetric matrix by cyclic Jacobi rotations."""
    a = [[float(x) for x in row] for row in a]
    n = len(a)
    v = [[float(i == j) for j in range(n)] for i in range(n)]
    for _ in range(60):
        if math.fsum(a[i][j] ** 2 for i in range(n) for j in range(n) if i != j) < 1e-300:
            break
        for p in range(n):
            for q in range(p + 1, n):
                if a[p][q] == 0.0:
                    continue
                angle = 0.5 * math.atan2(2 * a[p][q], a[q][q] - a[p][p])
                c, s = math.cos(angle), math.sin(angle)
                for row in (*a, *v):
                    row[p], row[q] = c * row[p] - s * row[q], s * row[p] + c * row[q]
                for k in range(n):
                    a[p][k], a[q][k] = c * a[p][k] - s * a[q][k], s * a[p][k] + c * a[q][k]
                a[p][q] = a[q][p] = 0.0
    order = sorted(range(n), key=lambda i: a[i][i])
    return np.array([a[i][i] for i in order]), np.array([[row[i] for i in order] for row in v])


def triangle(a, lower):
    n = len(a)
    return [
        [a[max(i, j)][min(i, j)] if lower else a[min(i, j)][max(i, j)] for j in range(n)]
        for i in range(n)
    ]


@oracle
def eigh(a, *, lower):
    return stacked(lambda m: jacobi(triangle(m, lower)), 2)(a)


settled("eigh", lambda w, v: (w, v * signs(v)[..., None, :]))


# ------------------------------------------------------------------------------------------- singular values
def completed(columns, n):
    """Return columns made a basis of all n dimensions by Gram-Schmidt of unit vectors."""
    out = [list(c) for c in columns]
    for k in sorted(range(n), key=lambda k: sum(c[k] ** 2 for c in columns)):
        x = [float(i == k) for i in range(n)]
        for _ in range(2):
            for c in out:
                d = math.fsum(p * q for p, q in zip(c, x, strict=True))
                x = [p - d * q for p, q in zip(x, c, strict=True)]
        size = math.sqrt(math.fsum(p * p for p in x))
        if len(out) < n and size > 1e-6:
            out.append([p / size for p in x])
    return out


def hestenes(a, full):
    """Singular values by rotating pairs of columns until all are orthogonal (one-sided Jacobi)."""
    a = np.asarray(a, float)
    if a.shape[0] < a.shape[1]:
        u, s, vt = hestenes(a.T, full)
        return vt.T, s, u.T
    m, n = a.shape
    cols = [list(c) for c in a.T]
    v = [[float(i == j) for i in range(n)] for j in range(n)]  # columns
    for _ in range(60):
        for p in range(n):
            for q in range(p + 1, n):
                alpha = math.fsum(x * x for x in cols[p])
                beta = math.fsum(x * x for x in cols[q])
                gamma = math.fsum(x * y for x, y in zip(cols[p], cols[q], strict=True))
                if gamma == 0.0:
                    continue
                angle = 0.5 * math.atan2(2 * gamma, beta - alpha)
                c, s = math.cos(angle), math.sin(angle)
                for w in (cols, v):
                    w[p], w[q] = (
                        [c * x - s * y for x, y in zip(w[p], w[q], strict=True)],
                        [s * x + c * y for x, y in zip(w[p], w[q], strict=True)],
                    )
    size = [math.sqrt(math.fsum(x * x for x in c)) for c in cols]
    order = sorted(range(n), key=lambda i: -size[i])
    u = [[x / size[i] for x in cols[i]] for i in order]
    u = completed(u, m) if full else u
    return np.array(u).T, np.array([size[i] for i in order]), np.array([v[i] for i in order])


@oracle
def svd(a, *, full):
    return stacked(lambda m: hestenes(m, full), 3)(a)


def settle_svd(u, s, vh):
    k = s.shape[-1]
    f = signs(u)
    g = np.concatenate([f[..., :k], signs(np.swapaxes(vh[..., k:, :], -1, -2))], -1)
    return u * f[..., None, :], s, vh * g[..., :, None]


settled("svd", settle_svd)


# ------------------------------------------------------------------------------------------- general
def characteristic(a):
    """Coefficients of det(x I - a), the highest first, by Faddeev and LeVerrier."""
    n = len(a)
    a = np.asarray(a, complex)
    m, c = np.zeros((n, n), complex), [1.0 + 0j]
    for k in range(1, n + 1):
        m = a @ m + c[-1] * np.eye(n)
        c.append(-sum((a @ m)[i, i] for i in range(n)) / k)
    return c


def durand_kerner(c):
    """All roots of a polynomial at once."""
    n = len(c) - 1
    roots = [(0.4 + 0.9j) ** k * (1 + max(map(abs, c))) ** (1 / n) for k in range(n)]
    for _ in range(500):
        for i in range(n):
            value = 0j
            for x in c:
                value = value * roots[i] + x
            roots[i] -= value / math.prod(
                (roots[i] - r for j, r in enumerate(roots) if j != i), start=1
            )
    return roots


def cgauss(a, b):
    """Solve a x = b for complex matrices through the real system of twice the size."""
    a, b = np.asarray(a, complex), np.asarray(b, complex)
    big = np.block([[a.real, -a.imag], [a.imag, a.real]])
    x = gauss(big, np.concatenate([b.real, b.imag]))
    n = len(a)
    return x[:n] + 1j * x[n:]


def eigenpairs(a):
    """Eigenvalues, and vectors by inverse iteration."""
    a = np.asarray(a, complex)
    n = len(a)
    values = sorted(durand_kerner(characteristic(a)), key=lambda z: (round(z.real, 6), z.imag))
    columns = []
    for w in values:
        x = np.ones((n, 1), complex) + 0.1 * np.arange(n)[:, None]
        for _ in range(3):
            x = cgauss(a - (w + 1e-9) * np.eye(n), x)
            x = x / math.sqrt(sum(abs(z) ** 2 for z in x[:, 0]))
        columns.append(x[:, 0])
    return np.array(values), np.array(columns).T


@oracle
def eig(a):
    return stacked(eigenpairs, 2)(a)


def settle_eig(w, v):
    order = np.lexsort((w.imag, np.round(w.real, 6)), axis=-1)
    v = np.take_along_axis(v, order[..., None, :], -1)
    return np.take_along_axis(w, order, -1), v * signs(v)[..., None, :]


settled("eig", settle_eig)


def function_by_pairs(f):
    def of(a):
        w, v = eigenpairs(a)
        return (cgauss(v.T, (v * f(w)).T).T.real,)

    return lambda a: stacked(of, 1)(a)[0]


ORACLES["sqrtm"] = function_by_pairs(np.sqrt)
ORACLES["logm"] = function_by_pairs(np.log)


# ------------------------------------------------------------------------------------------- gauge
def groups(w):
    """Number of the value to which each entry of a sorted row belongs."""
    n, eps = len(w), 2.0**-52
    top = max((abs(x) for x in w), default=0.0)
    out = []
    for i in range(n):
        new = i > 0 and abs(w[i] - w[i - 1]) > 4 * n * eps * top
        out.append((out[-1] if out else 0) + new)
    return out


@oracle
def alike(w):
    out = np.zeros((*w.shape, w.shape[-1]), bool)
    for i in np.ndindex(*w.shape[:-1]):
        g = groups(w[i])
        out[i] = [[p == q for q in g] for p in g]
    return out


def blocks(g):
    return [[i for i, x in enumerate(g) if x == k] for k in dict.fromkeys(g)]


@oracle
def rotation(m, w):
    out = np.eye(len(m))
    for rows in blocks(groups(w)):
        if len(rows) > 1:
            out[np.ix_(rows, rows)] = jacobi(m[np.ix_(rows, rows)])[1]
    return out


settled("rotation", lambda q: (q * signs(q)[..., None, :],))


@oracle
def rotations(p, s):
    left, right = np.eye(len(p)), np.eye(len(p))
    for rows in blocks(groups(s)):
        at = np.ix_(rows, rows)
        if s[rows[0]] == 0:
            left[at], _, vt = hestenes(p[at], False)
            right[at] = vt.T
        elif len(rows) > 1:
            left[at] = right[at] = jacobi((p[at] + p[at].T) / 2)[1]
    return left, right


def settle_pair(x, y):
    f = signs(x)[..., None, :]
    return x * f, y * f


settled("rotations", settle_pair)


@oracle
def guarded(x, flags, *, who, value):
    assert not np.any(flags)
    return np.array(x)


@oracle
def gauge(k, g, w, *, values):
    lead = w.shape[:-1]
    out = np.zeros(lead, int)
    small = 2.0**-26
    for at in np.ndindex(*lead):
        m, d = k[at], g[at]
        top = small * max(abs(x) for x in m.ravel())
        for rows in blocks(groups(w[at])):
            pairs = [(i, j) for i in rows for j in rows if i != j]
            if any(abs(m[i, j] - m[j, i]) > 2 * top for i, j in pairs):
                out[at] = 1
                break
            mean_g = sum(d[i] for i in rows) / len(rows)
            mean_m = sum(m[i, i] for i in rows) / len(rows)
            even = all(abs(d[i] - mean_g) <= small * max(map(abs, d)) for i in rows)
            even = even and all(abs(m[i, i] - mean_m) <= top for i in rows)
            even = even and all(abs(m[i, j] + m[j, i]) / 2 <= top for i, j in pairs)
            if values and len(rows) > 1 and not even:
                out[at] = 3
    return out
