"""Oracles of reading and writing by index."""

from __future__ import annotations

import numpy as np

from oracles.register import oracle


def places(shape, index):
    """Yield for each entry of ``x[index]`` its index in x; returns the shape first."""
    axes, lengths, axis = [], [], 0
    for part in index:
        if part is None:
            lengths.append(1)
        elif isinstance(part, slice):
            axes.append((len(lengths), list(range(shape[axis]))[part]))
            lengths.append(len(axes[-1][1]))
            axis += 1
        else:
            axes.append((None, [list(range(shape[axis]))[part]]))
            axis += 1
    found = [
        (i, tuple(chosen[0 if k is None else i[k]] for k, chosen in axes))
        for i in np.ndindex(*lengths)
    ]
    return tuple(lengths), found


@oracle
def slice_(x, *, index):
    shape, found = places(x.shape, index)
    out = np.zeros(shape)
    for i, j in found:
        out[i] = x[j]
    return out


@oracle
def unslice(g, *, index, shape):
    out = np.zeros(shape)
    for i, j in places(shape, index)[1]:
        out[j] = g[i]
    return out


def taken(g_shape, i, axis, n):
    """Yield for each entry of ``take(x, i, axis)`` its index and its index in x."""
    i = np.asarray(i)
    for k in np.ndindex(*g_shape):
        at = int(i[k[axis : axis + i.ndim]])
        yield k, (*k[:axis], at + n if at < 0 else at, *k[axis + i.ndim :])


@oracle
def take(x, i, *, axis):
    out = np.zeros(x.shape[:axis] + np.shape(i) + x.shape[axis + 1 :])
    for k, j in taken(out.shape, i, axis, x.shape[axis]):
        out[k] = x[j]
    return out


@oracle
def scatter_add(g, i, *, axis, shape):
    out = np.zeros(shape)
    for k, j in taken(g.shape, i, axis, shape[axis]):
        out[j] += g[k]
    return out


def along(i, axis, n):
    for k in np.ndindex(*i.shape):
        yield k, (*k[:axis], int(i[k]) + (n if i[k] < 0 else 0), *k[axis + 1 :])


@oracle
def take_along_axis(x, i, *, axis):
    out = np.zeros(i.shape)
    for k, j in along(i, axis, x.shape[axis]):
        out[k] = x[j]
    return out


@oracle
def add_along_axis(g, i, *, axis, shape):
    out = np.zeros(shape)
    for k, j in along(i, axis, shape[axis]):
        out[j] += g[k]
    return out


@oracle
def argsort(x, *, axis):
    out = np.zeros(x.shape, int)
    for i in np.ndindex(*x.shape[:axis], *x.shape[axis + 1 :]):
        line = (*i[:axis], slice(None), *i[axis:])
        entries = list(x[line])
        out[line] = sorted(range(len(entries)), key=entries.__getitem__)
    return out


@oracle
def last_writer(i, *, length):
    out = np.full(length, -1)
    for k, at in enumerate(i):
        out[at] = k
    return out
