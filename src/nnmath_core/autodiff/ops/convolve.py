"""Convolution: one primitive, multilinear in its two operands, closed under its own derivatives.

``spec`` names the leading axes of both operands and of the result by letters, as in a two-operand einsum, and the last
axes are convolved. Batches, outer products and sums over channels are letters; a full convolution is differentiated by
a valid one, a valid one by a full one and a valid one. The method is direct: nothing of the size of all windows is
stored. `nnmath_core.signal` chooses between it and Fourier transforms.
"""

from __future__ import annotations

import math
import string

import numpy as np

from nnmath_core.autodiff.ops.conventions import Aval, dtype_of, ndim_of, result_dtype
from nnmath_core.autodiff.ops.shape import cast, flip_p
from nnmath_core.autodiff.primitive import Primitive, sample

__all__ = ["convolve_p"]


def _lengths(kx, ky, full):
    """Lengths of the convolved axes of the result."""
    if full:
        return tuple(m + n - 1 if m and n else 0 for m, n in zip(kx, ky, strict=True))
    return tuple(m - n + 1 if n else 0 for m, n in zip(kx, ky, strict=True))


def _split(shape, labels):
    return shape[: len(labels)], tuple(shape[len(labels) :])


def _result_shape(x, y, spec, full):
    (leadx, kx), (leady, ky) = _split(x.shape, spec[0]), _split(y.shape, spec[1])
    length = dict(zip(spec[0] + spec[1], (*leadx, *leady), strict=True))
    return (*(length[c] for c in spec[2]), *_lengths(kx, ky, full))


def _convolve_forward(be, x, y, *, spec, full):
    xp = be.xp
    (_, kx), (_, ky) = _split(x.shape, spec[0]), _split(y.shape, spec[1])
    shape = _result_shape(x, y, spec, full)
    if not math.prod(shape) or not x.size or not y.size:
        return xp.zeros(shape, np.result_type(x, y))
    if xp is np and len(kx) == 1 and spec == ("", "", ""):
        return np.convolve(x, y, "full" if full else "valid")
    if full and math.prod(kx) < math.prod(ky):
        x, y, kx, ky, spec = y, x, ky, kx, (spec[1], spec[0], spec[2])
    # one product for each entry of the smaller operand, of shifted views of the other
    free = iter(c for c in string.ascii_letters if c not in "".join(spec))
    axes = "".join(next(free) for _ in kx)
    product = (spec[0] + axes, spec[1], spec[2] + axes)
    out = xp.zeros(shape, np.result_type(x, y))
    for k in np.ndindex(*ky):
        tap = y[(..., *k)]
        if full:
            place = (..., *(slice(i, i + m) for i, m in zip(k, kx, strict=True)))
            out[place] += be.contract(x, tap, spec=product)
        else:
            spans = zip(k, kx, ky, strict=True)
            window = x[(..., *(slice(n - 1 - i, m - i) for i, m, n in spans))]
            out += be.contract(window, tap, spec=product)
    return out


def _flipped(x, labels):
    axes = tuple(range(len(labels), ndim_of(x)))
    return flip_p(x, axis=axes) if axes else x


def _back_to_first(g, xs, y, *, spec, full):
    other = _flipped(xs[1], spec[1])
    back = convolve_p(g, other, spec=(spec[2], spec[1], spec[0]), full=not full)
    return cast(back, dtype_of(xs[0]))


def _back_to_second(g, xs, y, *, spec, full):
    if full:
        other = _flipped(xs[0], spec[0])
        back = convolve_p(g, other, spec=(spec[2], spec[0], spec[1]), full=False)
    else:
        turned = _flipped(g, spec[2])
        back = convolve_p(xs[0], turned, spec=(spec[0], spec[2], spec[1]), full=False)
        back = _flipped(back, spec[1])
    return cast(back, dtype_of(xs[1]))


def _convolve_batch(on, v, size, *, spec, full):
    a, b, o = spec
    z = next(c for c in string.ascii_letters if c not in a + b + o)
    return convolve_p(*v, spec=(z + a if on[0] else a, z + b if on[1] else b, z + o), full=full)


convolve_p = Primitive(
    "convolve",
    forward=_convolve_forward,
    multilinear=True,
    vjp=(_back_to_first, _back_to_second),
    keeps=("1", "0"),
    shape=lambda x, y, *, spec, full: Aval(_result_shape(x, y, spec, full), result_dtype(x, y)),
    batch=_convolve_batch,
    samples=lambda d: [
        sample(d.normal(5), d.normal(3), spec=("", "", ""), full=True),
        sample(d.normal(5), d.normal(3), spec=("", "", ""), full=False),
        sample(d.normal(2, 3), d.normal(3, 3), spec=("", "", ""), full=True),
        sample(d.normal(4, 3), d.normal(2, 3), spec=("", "", ""), full=False),
        sample(d.normal(2, 3, 5), d.normal(4, 3, 2), spec=("bc", "oc", "bo"), full=False),
        sample(d.normal(2, 3, 2), d.normal(3, 2, 3), spec=("bc", "cb", "b"), full=True),
        sample(d.normal(2, 4), d.normal(3, 2), spec=("b", "c", "cb"), full=True),
        sample(d.normal(0, 4), d.normal(2), spec=("b", "", "b"), full=False),
    ],
)
"""The sum over k of x[..., m - k] y[..., k], with the letters of the result kept and the others summed.

Every letter of one operand is in the other or in the result; in a valid convolution x is at least as long as y along
each of the last axes, and the result is what no zero was needed for.
"""
