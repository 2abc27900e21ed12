"""Oracles of standardisation and of the inverse root of a matrix: exact sums, Jacobi rotations, a dense system."""

from __future__ import annotations

import math

import numpy as np

from oracles.linalg import gauss
from oracles.register import oracle
from oracles.spectral import jacobi, stacked


def slices_of(x, axis):
    """Map the index of each slice over ``axis`` to the indices of its entries."""
    out = {}
    for i in np.ndindex(*x.shape):
        out.setdefault(tuple(0 if k in axis else j for k, j in enumerate(i)), []).append(i)
    return out


def normalised(x, axis, eps, centred):
    small = tuple(1 if k in axis else n for k, n in enumerate(x.shape))
    y, factor, means, variances = np.zeros(x.shape), *(np.zeros(small) for _ in range(3))
    for at, entries in slices_of(x, axis).items():
        values = [float(x[i]) for i in entries]
        mean = math.fsum(values) / len(values) if centred else 0.0
        variance = math.fsum((v - mean) ** 2 for v in values) / len(values)
        root = math.sqrt(variance + eps)
        means[at], variances[at], factor[at] = mean, variance, 1 / root if root else 0.0
        for i, v in zip(entries, values, strict=True):
            y[i] = (v - mean) / root if root else 0.0
    return y, factor, means, variances


@oracle
def standardize(x, *, axis, eps):
    return normalised(x, axis, eps, True)


@oracle
def rms(x, *, axis, eps):
    return normalised(x, axis, eps, False)[:2]


@oracle
def inverse_root(a):
    def of_one(m):
        n = len(m)
        w, v = jacobi((m + m.T) / 2)
        return (
            [
                [math.fsum(v[i, k] * v[j, k] / math.sqrt(w[k]) for k in range(n)) for j in range(n)]
                for i in range(n)
            ],
        )

    return stacked(of_one, 1)(a)[0]


@oracle
def symmetric_slope(y, t):
    """All n**2 unknowns of y x + x y = t at once."""

    def of_one(y, t):
        n = len(y)
        y = (y + y.T) / 2
        system = np.zeros((n * n, n * n))
        for i, j in np.ndindex(n, n):
            for k in range(n):
                system[i * n + j, k * n + j] += y[i, k]
                system[i * n + j, i * n + k] += y[k, j]
        return (gauss(system, t.reshape(-1, 1)).reshape(n, n),)

    return stacked(of_one, 1)(y, t)[0]
