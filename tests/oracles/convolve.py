"""The oracle of the labelled convolution: the defining sum, over all pairs of entries."""

from __future__ import annotations

import itertools

import numpy as np

from oracles.register import oracle


@oracle
def convolve(x, y, *, spec, full):
    a, b, o = spec
    length = dict(zip(a + b, x.shape[: len(a)] + y.shape[: len(b)], strict=True))
    kx, ky = x.shape[len(a) :], y.shape[len(b) :]
    long = [m + n - 1 for m, n in zip(kx, ky, strict=True)]
    out = np.zeros([*(length[c] for c in o), *long])
    for at in itertools.product(*(range(n) for n in length.values())):
        letters = dict(zip(length, at, strict=True))
        left = x[tuple(letters[c] for c in a)]
        right = y[tuple(letters[c] for c in b)]
        for i, j in itertools.product(np.ndindex(*kx), np.ndindex(*ky)):
            m = tuple(p + q for p, q in zip(i, j, strict=True))
            out[(*(letters[c] for c in o), *m)] += left[i] * right[j]
    if full:
        return out
    inner = tuple(slice(n - 1, m) for m, n in zip(kx, ky, strict=True))
    return out[(..., *inner)]
