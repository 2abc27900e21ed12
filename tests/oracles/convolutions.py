"""Oracles of the convolutions of layers and of their windows: the defining sums, entry by entry.

`triples` lists the products of the trilinear form; each of the three convolutions sums them into the
entries of the operand that it lacks.
"""

from __future__ import annotations

import itertools

import numpy as np

from oracles.register import oracle


def count(n, k, stride, padding, dilation):
    """How many windows of k entries, so far apart, start inside the padded axis and end inside."""
    long = n + padding[0] + padding[1]
    reach = dilation * (k - 1)
    return len([i for i in range(0, max(long - reach, 0), stride)])


def triples(size, window, channels, outs, stride, padding, dilation, groups):
    """Yield (index into x, index into w, index into y), all behind the axis of examples."""
    counts = [count(*axis) for axis in zip(size, window, stride, padding, dilation, strict=True)]
    each_in, each_out = channels // groups, outs // groups
    for t in itertools.product(*map(range, counts)):
        for k in itertools.product(*map(range, window)):
            at = [
                i * s + j * d - p[0]
                for i, j, s, p, d in zip(t, k, stride, padding, dilation, strict=True)
            ]
            if not all(0 <= a < n for a, n in zip(at, size, strict=True)):
                continue
            for group, c, o in itertools.product(range(groups), range(each_in), range(each_out)):
                out = (group * each_out + o,)
                yield (*at, group * each_in + c), (*k, c, *out), (*t, *out)


@oracle
def conv(x, w, *, stride, padding, dilation, groups):
    size, window = x.shape[1:-1], w.shape[:-2]
    lengths = [count(*axis) for axis in zip(size, window, stride, padding, dilation, strict=True)]
    y = np.zeros((x.shape[0], *lengths, w.shape[-1]), np.result_type(x, w))
    every = triples(size, window, x.shape[-1], w.shape[-1], stride, padding, dilation, groups)
    for a, b, c in every:
        for n in range(x.shape[0]):
            y[(n, *c)] += x[(n, *a)] * w[b]
    return y


@oracle
def conv_input(g, w, *, size, stride, padding, dilation, groups):
    channels = w.shape[-2] * groups
    x = np.zeros((g.shape[0], *size, channels), np.result_type(g, w))
    for a, b, c in triples(
        size, w.shape[:-2], channels, w.shape[-1], stride, padding, dilation, groups
    ):
        for n in range(g.shape[0]):
            x[(n, *a)] += g[(n, *c)] * w[b]
    return x


@oracle
def conv_kernel(x, g, *, size, stride, padding, dilation, groups):
    w = np.zeros((*size, x.shape[-1] // groups, g.shape[-1]), np.result_type(x, g))
    for a, b, c in triples(
        x.shape[1:-1], size, x.shape[-1], g.shape[-1], stride, padding, dilation, groups
    ):
        for n in range(x.shape[0]):
            w[b] += x[(n, *a)] * g[(n, *c)]
    return w


def places(size, window, stride, dilation):
    """Yield (number of the offset, window, entry of the array)."""
    counts = [
        count(n, k, s, (0, 0), d) for n, k, s, d in zip(size, window, stride, dilation, strict=True)
    ]
    for number, k in enumerate(itertools.product(*map(range, window))):
        for t in itertools.product(*map(range, counts)):
            yield (
                number,
                t,
                tuple(i * s + j * d for i, j, s, d in zip(t, k, stride, dilation, strict=True)),
            )


@oracle
def windows(x, *, window, stride, dilation):
    size = x.shape[1:-1]
    counts = [
        count(n, k, s, (0, 0), d) for n, k, s, d in zip(size, window, stride, dilation, strict=True)
    ]
    total = 1
    for k in window:
        total *= k
    out = np.zeros((total, x.shape[0], *counts, x.shape[-1]), x.dtype)
    for number, t, at in places(size, window, stride, dilation):
        for n in range(x.shape[0]):
            out[(number, n, *t)] = x[(n, *at)]
    return out


@oracle
def add_windows(v, *, size, window, stride, dilation):
    out = np.zeros((v.shape[1], *size, v.shape[-1]), v.dtype)
    for number, t, at in places(size, window, stride, dilation):
        for n in range(v.shape[1]):
            out[(n, *at)] += v[(number, n, *t)]
    return out


@oracle
def max_windows(x, *, window, stride, dilation):
    every = windows(x, window=window, stride=stride, dilation=dilation)
    out = np.zeros(every.shape[1:], x.dtype)
    for at in np.ndindex(*out.shape):
        entries = [every[(k, *at)] for k in range(every.shape[0])]
        nan = [e for e in entries if e != e]
        out[at] = nan[0] if nan else sorted(entries)[-1]
    return out


@oracle
def winners(x, y, *, window, stride, dilation):
    every = windows(x, window=window, stride=stride, dilation=dilation)
    out = np.zeros(every.shape, bool)
    for k, *at in np.ndindex(*every.shape):
        a, b = every[(k, *at)], y[tuple(at)]
        out[(k, *at)] = a == b or (a != a and b != b)
    return out


@oracle
def share_windows(g, m, *, size, window, stride, dilation):
    parts = np.zeros(m.shape)
    for at in np.ndindex(*g.shape):
        marked = [k for k in range(m.shape[0]) if m[(k, *at)]]
        for k in marked:
            parts[(k, *at)] = g[at] / len(marked)
    return add_windows(parts, size=size, window=window, stride=stride, dilation=dilation)


@oracle
def pick_windows(t, m, *, window, stride, dilation):
    every = windows(t, window=window, stride=stride, dilation=dilation)
    out = np.zeros(m.shape[1:])
    for at in np.ndindex(*out.shape):
        marked = [every[(k, *at)] for k in range(m.shape[0]) if m[(k, *at)]]
        out[at] = sum(marked) / len(marked) if marked else 0.0
    return out
