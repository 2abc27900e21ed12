"""Oracles of sorted arrays."""

from __future__ import annotations

import numpy as np

from oracles.register import oracle


@oracle
def searchsorted(a, v, *, side):
    out = np.zeros(np.shape(v), int)
    for i in np.ndindex(*np.shape(v)):
        row = a[i[: np.ndim(a) - 1]]
        out[i] = sum(1 for x in row if x < v[i] or (side == "right" and x == v[i]))
    return out


@oracle
def argpartition(x, *, kth, axis):
    """Of short lines, on which the places around ``kth`` leave no choice."""
    out = np.zeros(x.shape, int)
    for i in np.ndindex(*x.shape[:axis], *x.shape[axis + 1 :]):
        line = (*i[:axis], slice(None), *i[axis:])
        entries = list(x[line])
        out[line] = sorted(range(len(entries)), key=entries.__getitem__)
    return out
