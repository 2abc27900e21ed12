"""Oracles of reductions, cumulative ones and softmax."""

from __future__ import annotations

import math

import numpy as np

from oracles.register import ORACLES, entrywise, oracle


def reduction(f, dtype=float):
    """Apply a function of a list of numbers to each slice over ``axis``."""

    def apply(x, *, axis, keepdims):
        shape = tuple(1 if k in axis else n for k, n in enumerate(x.shape))
        slices = {i: [] for i in np.ndindex(*shape)}
        for i in np.ndindex(*x.shape):
            slices[tuple(0 if k in axis else j for k, j in enumerate(i))].append(x[i].item())
        out = np.zeros(shape, dtype)
        for i, entries in slices.items():
            out[i] = f(entries)
        return out if keepdims else squeezed(out, axis)

    return apply


def squeezed(x, axis):
    return x[tuple(0 if k in axis else slice(None) for k in range(x.ndim))]


def product(entries):
    p = 1.0
    for e in entries:
        p *= e
    return p


def log_sum_exp(entries):
    return math.log(math.fsum(map(math.exp, entries)))


ORACLES["sum"] = reduction(math.fsum)
ORACLES["prod"] = reduction(product)
ORACLES["max"] = reduction(lambda e: sorted(e)[-1])
ORACLES["min"] = reduction(lambda e: sorted(e)[0])
ORACLES["any"] = reduction(lambda e: True in e, bool)
ORACLES["all"] = reduction(lambda e: False not in e, bool)
ORACLES["logsumexp"] = reduction(log_sum_exp)
ORACLES["norm"] = reduction(lambda e: math.sqrt(math.fsum(a * a for a in e)))


def position(pick):
    def apply(x, *, axis):
        find = reduction(lambda entries: entries.index(pick(entries)), int)
        return find(x, axis=(axis,), keepdims=False)

    return apply


ORACLES["argmax"] = position(lambda e: sorted(e)[-1])
ORACLES["argmin"] = position(lambda e: sorted(e)[0])


@oracle
def softmax(x, *, axis):
    total = reduction(log_sum_exp)(x, axis=axis, keepdims=True)
    return entrywise(lambda a, b: math.exp(a - b))(x, total)


@oracle
def softmax_or_zero(x, *, axis):
    dead = np.broadcast_to(np.all(x == -np.inf, axis=axis, keepdims=True), x.shape)
    return np.where(dead, 0.0, softmax(np.where(dead, 0.0, x), axis=axis))


@oracle
def cumsum(x, *, axis, reverse):
    out = np.zeros(x.shape)
    for i in np.ndindex(*x.shape):
        before = range(i[axis], x.shape[axis]) if reverse else range(i[axis] + 1)
        out[i] = math.fsum(x[(*i[:axis], k, *i[axis + 1 :])] for k in before)
    return out


@oracle
def cumprod(x, *, axis):
    out = np.zeros(x.shape)
    for i in np.ndindex(*x.shape):
        out[i] = product(x[(*i[:axis], k, *i[axis + 1 :])].item() for k in range(i[axis] + 1))
    return out


@oracle
def others(x, *, axis):
    out = np.zeros(x.shape)
    for i in np.ndindex(*x.shape):
        out[i] = product(
            x[j].item()
            for j in np.ndindex(*x.shape)
            if j != i and all(k in axis or j[k] == i[k] for k in range(x.ndim))
        )
    return out


@oracle
def recurrence(b, c, *, reverse):
    """Sum over the places at which a path begins, of the product of the steps from there."""
    out = np.zeros(b.shape)
    for *row, k in np.ndindex(*b.shape):
        starts = range(k, b.shape[-1]) if reverse else range(k + 1)
        steps = {j: range(k + 1, j + 1) if reverse else range(j + 1, k + 1) for j in starts}
        out[(*row, k)] = math.fsum(
            b[(*row, j)].item() * product(c[(*row, i)].item() for i in steps[j]) for j in starts
        )
    return out
