"""Oracles of the discrete Fourier transforms: the defining sums, term by term, with `cmath`."""

from __future__ import annotations

import cmath
import math

import numpy as np

from oracles.register import oracle

SCALES = {
    "backward": (lambda n: 1.0, lambda n: 1.0 / n),
    "ortho": (lambda n: 1.0 / math.sqrt(n), lambda n: 1.0 / math.sqrt(n)),
    "forward": (lambda n: 1.0 / n, lambda n: 1.0),
}
"""What a norm multiplies by: in the forward direction and in the inverse one."""


def root(j, n):
    """The j-th power of exp(2 pi i / n), its angle reduced exactly."""
    return cmath.rect(1.0, 2 * math.pi * (j % n) / n)


def along(x, axis, count, term):
    """Sums along an axis: entry k is the sum over j of term(x_j, j, k)."""
    out = np.zeros((*x.shape[:axis], count, *x.shape[axis + 1 :]), complex)
    for i in np.ndindex(*out.shape):
        line = x[(*i[:axis], slice(None), *i[axis + 1 :])]
        terms = [term(complex(v), j, i[axis]) for j, v in enumerate(line)]
        out[i] = complex(math.fsum(t.real for t in terms), math.fsum(t.imag for t in terms))
    return out


@oracle
def fft(x, *, axes, inverse, norm):
    for axis in axes:
        n = x.shape[axis]
        sign = 1 if inverse else -1
        x = SCALES[norm][inverse](n) * along(x, axis, n, lambda v, j, k: v * root(sign * j * k, n))  # noqa: B023
    return np.asarray(x, complex)


@oracle
def rfft(x, *, axis, norm):
    n = x.shape[axis]
    return SCALES[norm][0](n) * along(x, axis, n // 2 + 1, lambda v, j, k: v * root(-j * k, n))


@oracle
def irfft(x, *, n, axis, norm):
    def term(v, j, k):
        if j == 0 or 2 * j == n:  # its own mirror image
            return v.real * root(j * k, n).real + 0j
        return 2 * (v * root(j * k, n)).real + 0j

    return SCALES[norm][1](n) * along(x, axis, n, term).real
