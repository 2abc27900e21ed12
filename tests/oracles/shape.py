"""Oracles of what moves entries: reshaping, joining, padding, casting."""

from __future__ import annotations

import numpy as np

from oracles.register import broadcast_entry, entrywise, filled, oracle


@oracle
def reshape(x, *, shape):
    return filled(shape, [x[i] for i in np.ndindex(*x.shape)])


@oracle
def transpose(x, *, axes):
    out = np.zeros([x.shape[a] for a in axes])
    for i in np.ndindex(*x.shape):
        out[tuple(i[a] for a in axes)] = x[i]
    return out


@oracle
def broadcast_to(x, *, shape):
    return filled(shape, [broadcast_entry(x, i, shape) for i in np.ndindex(*shape)])


@oracle
def concatenate(*xs, axis):
    shape = list(xs[0].shape)
    shape[axis] = sum(x.shape[axis] for x in xs)
    out, start = np.zeros(shape), 0
    for x in xs:
        for i in np.ndindex(*x.shape):
            out[(*i[:axis], start + i[axis], *i[axis + 1 :])] = x[i]
        start += x.shape[axis]
    return out


@oracle
def repeat(x, *, count, axis):
    out = np.zeros([n * count if k == axis else n for k, n in enumerate(x.shape)])
    for i in np.ndindex(*out.shape):
        out[i] = x[(*i[:axis], i[axis] // count, *i[axis + 1 :])]
    return out


@oracle
def pad(x, *, widths):
    out = np.zeros([a + n + b for n, (a, b) in zip(x.shape, widths, strict=True)])
    for i in np.ndindex(*x.shape):
        out[tuple(k + a for k, (a, _) in zip(i, widths, strict=True))] = x[i]
    return out


@oracle
def flip(x, *, axis):
    out = np.zeros(x.shape)
    for i in np.ndindex(*x.shape):
        out[tuple(x.shape[k] - 1 - j if k in axis else j for k, j in enumerate(i))] = x[i]
    return out


@oracle
def astype(x, *, dtype):
    return entrywise(lambda a: a)(x)


@oracle
def real(x):
    return entrywise(lambda a: a)(x)


@oracle
def imag(x):
    return entrywise(lambda a: 0.0)(x)
