"""Random numbers as functions of a key: four primitives without derivative.

A key is two words, uint32, in the last axis; leading axes are a batch of keys, each of which gives numbers of its own.
"""

from __future__ import annotations

import numpy as np

from nnmath_core.autodiff.ops.conventions import Aval, all_batched
from nnmath_core.autodiff.primitive import Primitive, sample

__all__ = ["philox_p", "random_normal_p", "random_uniform_p", "random_words_p"]


def _keys(d, *shape):
    """Keys for samples."""
    return d.rng.integers(0, 2**32, (*shape, 2), dtype=np.uint32)


def _rows(p):
    """Of a batch of keys the rows."""
    return lambda on, v, size, **params: p()(v[0], **params)


random_words_p = Primitive(
    "random_words",
    differentiable=False,
    shape=lambda keys, *, count, purpose: Aval((*keys.shape[:-1], count), np.dtype(np.uint32)),
    batch=_rows(lambda: random_words_p),
    samples=lambda d: [
        sample(_keys(d), count=7, purpose=0),
        sample(_keys(d, 3), count=4, purpose=2),
        sample(_keys(d, 2, 2), count=0, purpose=0),
    ],
)
random_uniform_p = Primitive(
    "random_uniform",
    differentiable=False,
    shape=lambda keys, *, count, dtype: Aval((*keys.shape[:-1], count), np.dtype(dtype)),
    batch=_rows(lambda: random_uniform_p),
    samples=lambda d: [
        sample(_keys(d), count=7, dtype=np.dtype(float)),
        sample(_keys(d, 2, 1), count=6, dtype=np.dtype(float)),
        sample(_keys(d, 3), count=0, dtype=np.dtype(float)),
    ],
)
random_normal_p = Primitive(
    "random_normal",
    differentiable=False,
    shape=lambda keys, *, count, dtype: Aval((*keys.shape[:-1], count), np.dtype(dtype)),
    batch=_rows(lambda: random_normal_p),
    samples=lambda d: [
        sample(_keys(d), count=7, dtype=np.dtype(float)),
        sample(_keys(d, 2, 1), count=6, dtype=np.dtype(float)),
        sample(_keys(d, 3), count=0, dtype=np.dtype(float)),
    ],
)
philox_p = Primitive(
    "philox",
    forward="random_blocks",
    differentiable=False,
    shape=lambda counter, key: Aval(counter.shape, np.dtype(np.uint32)),
    batch=lambda on, v, size: philox_p(*all_batched(on, v, size)),
    samples=lambda d: [
        sample(d.rng.integers(0, 2**32, 4, dtype=np.uint32), _keys(d)),
        sample(d.rng.integers(0, 2**32, (3, 4), dtype=np.uint32), _keys(d, 3)),
        sample(d.rng.integers(0, 2**32, (2, 3, 4), dtype=np.uint32), _keys(d, 2, 3)),
    ],
)
"""Philox4x32-10 of counters (..., 4) and as many keys (..., 2)."""
