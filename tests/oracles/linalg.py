"""Oracles of products, diagonals and linear algebra: textbook methods."""

from __future__ import annotations

import itertools
import math

import numpy as np

from oracles.register import ORACLES, entrywise, oracle


@oracle
def contract(x, y, *, spec):
    a, b, o = spec
    length = dict(zip(a + b, x.shape + y.shape, strict=True))
    out = np.zeros([length[c] for c in o])
    for i in itertools.product(*(range(n) for n in length.values())):
        at = dict(zip(length, i, strict=True))
        left, right = x[tuple(at[c] for c in a)], y[tuple(at[c] for c in b)]
        out[tuple(at[c] for c in o)] += left * right
    return out


def diagonal_places(m, n, k):
    return [(i, i + k) for i in range(m) if 0 <= i + k < n]


@oracle
def diagonal(x, *, k):
    found = diagonal_places(*x.shape[-2:], k)
    out = np.zeros((*x.shape[:-2], len(found)))
    for lead in np.ndindex(*x.shape[:-2]):
        for at, (i, j) in enumerate(found):
            out[(*lead, at)] = x[(*lead, i, j)]
    return out


@oracle
def embed_diagonal(g, *, k, shape):
    out = np.zeros(shape)
    for lead in np.ndindex(*shape[:-2]):
        for at, (i, j) in enumerate(diagonal_places(*shape[-2:], k)):
            out[(*lead, i, j)] = g[(*lead, at)]
    return out


# ---------------------------------------------------------------------------------- linear algebra
def each_matrix(f, result=lambda a, *rest: a.shape[-2:]):
    """Apply a function of matrices to each one of a stack."""

    def apply(*xs):
        lead = xs[0].shape[:-2]
        out = np.zeros((*lead, *result(*xs)))
        for i in np.ndindex(*lead):
            out[i] = f(*(x[i] for x in xs))
        return out

    return apply


def gauss(a, b):
    """Solve a x = b by elimination with row exchanges."""
    a, b = [list(map(float, r)) for r in a], [list(map(float, r)) for r in b]
    n = len(a)
    for c in range(n):
        top = max(range(c, n), key=lambda r: abs(a[r][c]))
        a[c], a[top], b[c], b[top] = a[top], a[c], b[top], b[c]
        for r in range(c + 1, n):
            f = a[r][c] / a[c][c]
            a[r] = [x - f * y for x, y in zip(a[r], a[c], strict=True)]
            b[r] = [x - f * y for x, y in zip(b[r], b[c], strict=True)]
    for c in reversed(range(n)):
        b[c] = [x / a[c][c] for x in b[c]]
        for r in range(c):
            b[r] = [x - a[r][c] * y for x, y in zip(b[r], b[c], strict=True)]
    return np.array(b)


def minor(a, i, j):
    return [[a[r][c] for c in range(len(a)) if c != j] for r in range(len(a)) if r != i]


def laplace(a):
    """Determinant by expansion along the first row."""
    if not len(a):
        return 1.0
    return math.fsum((-1) ** j * a[0][j] * laplace(minor(a, 0, j)) for j in range(len(a)))


def cofactor_matrix(a, *ts):
    """Of more matrices the derivative along all of them: a determinant is linear in each of its rows."""
    n = range(len(a))
    out = np.zeros((len(a), len(a)))
    for i, j in itertools.product(n, n):
        for rows in itertools.permutations([r for r in n if r != i], len(ts)):
            moved = np.array(a)
            for r, t in zip(rows, ts, strict=True):
                moved[r] = t[r]
            out[i, j] += (-1) ** (i + j) * laplace(minor(moved, i, j))
    return out


def banachiewicz(a):
    """Cholesky factor, row by row, of the lower triangle."""
    n = len(a)
    low = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            rest = a[i][j] - math.fsum(low[i, k] * low[j, k] for k in range(j))
            low[i, j] = math.sqrt(rest) if i == j else rest / low[j, j]
    return low


ORACLES["solve"] = each_matrix(gauss, lambda a, b: b.shape[-2:])
ORACLES["inv"] = each_matrix(lambda a: gauss(a, np.eye(len(a))))
ORACLES["inverse_or_limit"] = ORACLES["inv"]
ORACLES["det"] = each_matrix(laplace, lambda a: ())
ORACLES["cofactors"] = each_matrix(cofactor_matrix)
ORACLES["cholesky"] = each_matrix(banachiewicz)


@oracle
def slogdet(a):
    d = each_matrix(laplace, lambda a: ())(a)
    return entrywise(lambda x: math.copysign(1, x))(d), entrywise(lambda x: math.log(abs(x)))(d)
