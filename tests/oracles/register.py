"""The register of oracles, and the ways from functions of numbers to functions of arrays."""

from __future__ import annotations

import numpy as np

ORACLES = {}


def oracle(f):
    """Register a function under its own name, without the trailing underscore."""
    ORACLES[f.__name__.rstrip("_")] = f
    return f


# ------------------------------------------------------------------------------------- elementwise
def broadcast_entry(x, i, shape):
    """Return the entry of x that broadcasting to ``shape`` puts at index i."""
    x = np.asarray(x)
    at = i[len(shape) - x.ndim :]
    return x[tuple(0 if n == 1 else k for k, n in zip(at, x.shape, strict=True))].item()


def broadcast_shape(*shapes):
    """Return the shape to which the shapes broadcast: the longest, an axis of 1 stretched."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(s)) + tuple(s) for s in shapes]
    return tuple(next((n for n in lengths if n != 1), 1) for lengths in zip(*padded, strict=True))


def entrywise(f, dtype=float):
    """Apply a function of numbers to each entry, operands broadcast."""

    def apply(*xs):
        shape = broadcast_shape(*map(np.shape, xs))
        out = np.zeros(shape, dtype)
        for i in np.ndindex(*shape):
            out[i] = f(*(broadcast_entry(x, i, shape) for x in xs))
        return out

    return apply


def filled(shape, entries, dtype=float):
    """Return the array of a shape with these entries in C order."""
    out = np.zeros(shape, dtype)
    for i, e in zip(np.ndindex(*shape), entries, strict=True):
        out[i] = e
    return out
