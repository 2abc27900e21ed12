"""Products on a pattern, entry by entry."""

import numpy as np

from oracles.register import oracle


def places(pattern):
    """Row, column and number of each entry."""
    e = 0
    for i in range(pattern.shape[0]):
        while e < pattern.starts[i + 1]:
            yield i, int(pattern.columns[e]), e
            e += 1


@oracle
def spmm(data, x, *, pattern, transposed):
    y = np.zeros((pattern.shape[1 if transposed else 0], *x.shape[1:]))
    for i, j, e in places(pattern):
        if transposed:
            i, j = j, i
        y[i] = y[i] + data[e] * x[j]
    return y


@oracle
def sddmm(a, b, *, pattern):
    z = np.zeros(pattern.nnz)
    for i, j, e in places(pattern):
        z[e] = sum(float(p) * float(q) for p, q in zip(np.ravel(a[i]), np.ravel(b[j]), strict=True))
    return z
