"""Random numbers from counters, in plain array code: Philox4x32-10, words, uniform and normal numbers.

What `Backend` says of the kernels in ``src/_ext/random``, and what runs where there is no kernel. An array of keys has
shape (..., 2), uint32; each gives a row of numbers of its own. Entry j of a row depends on the key and on j alone.

References
----------
Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnmath_core.typing import Array

__all__ = ["normals", "philox", "uniforms", "words"]

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)  # the golden ratio, and the root of 3 less 1
_ROUNDS = 10
_LOW = 0xFFFFFFFF


def philox(xp: Any, counter: Array, key: Array) -> Array:
    """Philox4x32-10: four words from a counter of four words, (..., 4), and a key of two, (..., 2); all uint32."""
    c = [counter[..., i].astype(np.uint64) for i in range(4)]
    k = [key[..., i].astype(np.uint64) for i in range(2)]
    for _ in range(_ROUNDS):
        p = [c[2 * i] * np.uint64(m) for i, m in enumerate(_MULTIPLIERS)]
        low = [x & np.uint64(_LOW) for x in p]
        high = [x >> np.uint64(32) for x in p]
        c = [high[1] ^ c[1] ^ k[0], low[1], high[0] ^ c[3] ^ k[1], low[0]]
        k = [(x + np.uint64(w)) & np.uint64(_LOW) for x, w in zip(k, _WEYL, strict=True)]
    return xp.stack(c, axis=-1).astype(np.uint32)  # type: ignore[no-any-return]


def words(xp: Any, keys: Array, count: int, purpose: int) -> Array:
    """The words of each key, (..., count): those of the counters (low(b), high(b), 0, purpose), b = 0, 1, ...."""
    blocks = -(-count // 4)
    b = xp.arange(blocks, dtype=np.uint64)
    low, high = b & np.uint64(_LOW), b >> np.uint64(32)
    counter = xp.stack([low, high, xp.zeros_like(b), xp.full_like(b, purpose)], axis=-1)
    made = philox(xp, counter, keys[..., None, :])
    return made.reshape((*keys.shape[:-1], 4 * blocks))[..., :count]


def _wide(w: Array) -> Array:
    """Pairs of words as 53 bits, the second word of a pair on top."""
    w = w.astype(np.uint64)
    return (w[..., 1::2] << np.uint64(32) | w[..., 0::2]) >> np.uint64(11)


def uniforms(xp: Any, keys: Array, count: int, dtype: Any) -> Array:
    """Multiples of 2^-53 in [0, 1) from two words each, of 2^-24 from one in float32."""
    if np.dtype(dtype) == np.float32:
        top = words(xp, keys, count, 0) >> np.uint32(8)
        return top.astype(np.float32) * np.float32(2.0**-24)
    return _wide(words(xp, keys, 2 * count, 0)).astype(np.float64) * 2.0**-53


def normals(xp: Any, keys: Array, count: int, dtype: Any) -> Array:
    """Normal numbers by Box and Muller; float32 ones are computed in float64 and rounded once.

    Of a pair of words, 32 bits (53 of two words) make the radius sqrt(-2 log u), u in (0, 1], and as many the turn,
    whose nearest quarter is taken off exactly, so that numbers near 0 keep their relative precision.
    """
    single = np.dtype(dtype) == np.float32
    pairs = -(-count // 2)
    if single:
        w = words(xp, keys, 2 * pairs, 0)
        # as the kernel: the word rounded to float32, then half a step, rounded again
        u = w[..., 0::2].astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)
        turn, bits = w[..., 1::2].astype(np.uint64), 32
    else:
        wide = _wide(words(xp, keys, 4 * pairs, 0))
        u = (wide[..., 0::2] + np.uint64(1)).astype(np.float64) * 2.0**-53
        turn, bits = wide[..., 1::2], 53
    quarter = ((turn >> np.uint64(bits - 3)) + np.uint64(1)) >> np.uint64(1)
    rest = turn.astype(np.int64) - (quarter << np.uint64(bits - 2)).astype(np.int64)
    angle = rest.astype(np.float64) * 2.0 ** (2 - bits) * (math.pi / 2)
    radius = xp.sqrt(-2.0 * xp.log(u.astype(np.float64)))
    sine, cosine = xp.sin(angle), xp.cos(angle)
    odd = (quarter & np.uint64(1)).astype(bool)
    first = radius * xp.where(odd, sine, cosine)
    second = radius * xp.where(odd, cosine, sine)
    first = xp.where(((quarter + np.uint64(1)) & np.uint64(2)).astype(bool), -first, first)
    second = xp.where((quarter & np.uint64(2)).astype(bool), -second, second)
    z = xp.stack([first, second], axis=-1).reshape((*keys.shape[:-1], 2 * pairs))
    return z[..., :count].astype(dtype)  # type: ignore[no-any-return]
