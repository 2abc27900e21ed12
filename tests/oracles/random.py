"""Oracles of random numbers: Philox4x32-10 with Python's integers, numbers of its words with `math`."""

from __future__ import annotations

import math

import numpy as np

from oracles.register import oracle


def block(counter, key):
    """The four words of Philox4x32-10, as its authors wrote it: ten rounds, the key bumped between them."""
    (a, b, c, d), (k, m) = map(int, counter), map(int, key)
    for i in range(10):
        if i:
            k, m = (k + 0x9E3779B9) % 2**32, (m + 0xBB67AE85) % 2**32
        high0, low0 = divmod(0xD2511F53 * a, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c, 2**32)
        a, b, c, d = high1 ^ b ^ k, low1, high0 ^ d ^ m, low0
    return a, b, c, d


@oracle
def philox(counter, key):
    out = np.zeros(counter.shape, np.uint32)
    for i in np.ndindex(*counter.shape[:-1]):
        out[i] = block(counter[i].tolist(), key[i].tolist())
    return out


def words(key, count, purpose):
    """The first words of a key."""
    return [block((j // 4, 0, 0, purpose), key)[j % 4] for j in range(count)]


def each_key(f, dtype):
    def apply(keys, *, count, **params):
        out = np.zeros((*keys.shape[:-1], count), dtype)
        for i in np.ndindex(*keys.shape[:-1]):
            out[i] = f(keys[i].tolist(), count, **params)[:count]
        return out

    return apply


@oracle
def random_words(keys, *, count, purpose):
    return each_key(lambda key, count: words(key, count, purpose), np.uint32)(keys, count=count)


def fractions(key, count, dtype):
    """Integers and the power of two that they are divided by: a word, or 53 bits of two."""
    if dtype == np.float32:
        return words(key, count, 0), 32
    w = words(key, 2 * count, 0)
    return [(high * 2**32 + low) >> 11 for low, high in zip(w[::2], w[1::2], strict=True)], 53


@oracle
def random_uniform(keys, *, count, dtype):
    def row(key, count):
        whole, bits = fractions(key, count, dtype)
        return [(n >> 8) / 2**24 if bits == 32 else n / 2**53 for n in whole]

    return each_key(row, float)(keys, count=count)


@oracle
def random_normal(keys, *, count, dtype):
    def row(key, count):
        whole, bits = fractions(key, count + count % 2, dtype)
        made = []
        for n, m in zip(whole[::2], whole[1::2], strict=True):
            u = (
                float(np.float32(n) / 2**32 + np.float32(2.0**-33))
                if bits == 32
                else (n + 1) / 2**53
            )
            radius, angle = math.sqrt(-2 * math.log(u)), 2 * math.pi * (m / 2**bits)
            made += [radius * math.cos(angle), radius * math.sin(angle)]
        return made

    return each_key(row, float)(keys, count=count)
