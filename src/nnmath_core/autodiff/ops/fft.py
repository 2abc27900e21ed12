"""Discrete Fourier transforms: three linear primitives, and NumPy's eighteen functions made of them.

A transform is a symmetric matrix of roots of unity, so its transpose (without conjugation, by the convention for
complex cotangents) is itself: of the same direction and norm. The real transforms are transposes of each other up to
the weights of the half spectrum: an entry stands for itself and its mirror image, except the entry of frequency 0 and,
for even n, that of frequency n/2, whose imaginary parts `irfft` does not read.
"""

from __future__ import annotations

import functools
import operator

import numpy as np

from nnmath_core._ext._autodiff import alias, mark_fresh
from nnmath_core.autodiff.ops.conventions import (
    Aval,
    as_operand,
    beside,
    dtype_of,
    ndim_of,
    normal_axis,
    real_dtype,
    refuse,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import conjugated
from nnmath_core.autodiff.ops.index import getitem
from nnmath_core.autodiff.ops.join import roll
from nnmath_core.autodiff.ops.pad import pad
from nnmath_core.autodiff.ops.plain import numpys
from nnmath_core.autodiff.ops.shape import cast
from nnmath_core.autodiff.primitive import Primitive, sample
from nnmath_core.checks import sentence
from nnmath_core.errors import DtypeError, ShapeError

__all__ = [
    "fft",
    "fft2",
    "fftn",
    "fftshift",
    "hfft",
    "ifft",
    "ifft2",
    "ifftn",
    "ifftshift",
    "ihfft",
    "irfft",
    "irfft2",
    "irfftn",
    "rfft",
    "rfft2",
    "rfftn",
]

_OTHER = {"backward": "forward", "ortho": "ortho", "forward": "backward"}
"""The norm by which the opposite direction divides as much."""


# ---------------------------------------------------------------------------------------------- primitives
def _replaced(shape, axis, n):
    return (*shape[:axis], n, *shape[axis + 1 :])


def _complex_dtype(x):
    return np.result_type(dtype_of(x), 1j)


def _fft_forward(be, x, *, axes, inverse, norm):
    if not x.size:  # cuFFT has no plan for an empty batch
        return be.xp.zeros(x.shape, _complex_dtype(x))
    if inverse:
        return be.xp.fft.ifftn(x, axes=axes, norm=norm)
    return be.xp.fft.fftn(x, axes=axes, norm=norm)


def _fft_back(g, xs, y, *, axes, inverse, norm):
    return cast(fft_p(g, axes=axes, inverse=inverse, norm=norm), dtype_of(xs[0]))


def _fft_batch(on, v, size, *, axes, inverse, norm):
    return fft_p(v[0], axes=tuple(a + 1 for a in axes), inverse=inverse, norm=norm)


fft_p = Primitive(
    "fft",
    forward=_fft_forward,
    linear=True,
    vjp=(_fft_back,),
    keeps=("",),
    shape=lambda x, **params: Aval(x.shape, _complex_dtype(x)),
    batch=_fft_batch,
    library="cufft",
    samples=lambda d: [
        sample(d.normal(3, 4), axes=(1,), inverse=False, norm="backward"),
        sample(d.normal(2, 5, 3), axes=(2, 0), inverse=True, norm="backward"),
        sample(d.normal(5), axes=(0,), inverse=True, norm="ortho"),
        sample(d.normal(1, 2), axes=(0, 1), inverse=False, norm="forward"),
        sample(d.normal(0, 3), axes=(1,), inverse=False, norm="backward"),
    ],
)


def _weighed(z, axis, n, edge, inner):
    """The half spectrum of n points with a factor for its edges, frequency 0 and n/2, and one for the others."""
    m = n // 2 + 1
    w = np.full(m, inner, real_dtype(z))
    w[0] = edge
    if n % 2 == 0:
        w[-1] = edge
    return z * beside(z, w.reshape((m,) + (1,) * (ndim_of(z) - 1 - axis)))


def _require_real(who, a):
    if dtype_of(a).kind == "c":
        advice = "Take the complex transform, or the real part if the rest does not matter."
        raise DtypeError(sentence(who, "a", "real", str(dtype_of(a)), advice))


def _rfft_forward(be, x, *, axis, norm):
    _require_real("rfft", x)
    if not x.size:
        half = _replaced(x.shape, axis, x.shape[axis] // 2 + 1)
        return be.xp.zeros(half, _complex_dtype(x))
    return be.xp.fft.rfft(x, axis=axis, norm=norm)


def _rfft_back(g, xs, y, *, axis, norm):
    n = xs[0].shape[axis]
    return irfft_p(_weighed(conjugated(g), axis, n, 1.0, 0.5), n=n, axis=axis, norm=_OTHER[norm])


rfft_p = Primitive(
    "rfft",
    forward=_rfft_forward,
    linear=True,
    vjp=(_rfft_back,),
    keeps=("",),
    shape=lambda x, *, axis, norm: Aval(
        _replaced(x.shape, axis, x.shape[axis] // 2 + 1), _complex_dtype(x)
    ),
    batch=lambda on, v, size, *, axis, norm: rfft_p(v[0], axis=axis + 1, norm=norm),
    library="cufft",
    samples=lambda d: [
        sample(d.normal(3, 4), axis=1, norm="backward"),
        sample(d.normal(5, 2), axis=0, norm="ortho"),
        sample(d.normal(6), axis=0, norm="forward"),
        sample(d.normal(1), axis=0, norm="backward"),
        sample(d.normal(0, 3), axis=1, norm="backward"),
    ],
)


def _irfft_forward(be, x, *, n, axis, norm):
    if not x.size:
        return be.xp.zeros(_replaced(x.shape, axis, n), real_dtype(x))
    return be.xp.fft.irfft(x, n, axis=axis, norm=norm)


def _irfft_back(g, xs, y, *, n, axis, norm):
    spectrum = rfft_p(g, axis=axis, norm=_OTHER[norm])
    return cast(_weighed(conjugated(spectrum), axis, n, 1.0, 2.0), dtype_of(xs[0]))


irfft_p = Primitive(
    "irfft",
    forward=_irfft_forward,
    linear=True,
    vjp=(_irfft_back,),
    keeps=("",),
    shape=lambda x, *, n, axis, norm: Aval(_replaced(x.shape, axis, n), real_dtype(x)),
    batch=lambda on, v, size, *, n, axis, norm: irfft_p(v[0], n=n, axis=axis + 1, norm=norm),
    library="cufft",
    samples=lambda d: [
        sample(d.normal(2, 3), n=4, axis=1, norm="backward"),
        sample(d.normal(3, 2), n=5, axis=0, norm="ortho"),
        sample(d.normal(4), n=6, axis=0, norm="forward"),
        sample(d.normal(1), n=1, axis=0, norm="backward"),
        sample(d.normal(0, 3), n=4, axis=1, norm="backward"),
    ],
)


# ---------------------------------------------------------------------------------------------- one axis
def _numpys(f):
    """NumPy's own on host arrays, its errors and ``out`` included; of tracers and device arrays ours."""

    @functools.wraps(f)
    def transform(a, *args, **kw):
        return f(as_operand(a), *args, **kw)

    return numpys(getattr(np.fft, f.__name__))(transform)


def _norm_of(who, norm):
    norm = "backward" if norm is None else norm
    if norm not in _OTHER:
        raise ValueError(
            f'{who}: invalid norm value {norm!r}; it should be "backward", "ortho" or "forward".'
        )
    return norm


def _points(n):
    n = operator.index(n)
    if n < 1:
        raise ValueError(f"Invalid number of FFT data points ({n}) specified.")
    return n


def _resized(a, n, axis):
    """The first n entries along an axis, zeros after the last one."""
    have = shape_of(a)[axis]
    if n < have:
        return getitem(alias(a), (*([slice(None)] * axis), slice(0, n)))
    if n > have:
        return pad(a, [(0, n - have if i == axis else 0) for i in range(ndim_of(a))])
    return a


def _complex_transform(who, a, n, axis, norm, inverse):
    axis = normal_axis(who, axis, ndim_of(a))
    n = _points(shape_of(a)[axis] if n is None else n)
    norm = _norm_of(who, norm)
    return fft_p(_resized(a, n, axis), axes=(axis,), inverse=inverse, norm=norm)


@_numpys
def fft(a, n=None, axis=-1, norm=None, out=None):
    """NumPy's ``fft.fft``."""
    refuse("fft", out=(out, None))
    return _complex_transform("fft", a, n, axis, norm, False)


@_numpys
def ifft(a, n=None, axis=-1, norm=None, out=None):
    """NumPy's ``fft.ifft``."""
    refuse("ifft", out=(out, None))
    return _complex_transform("ifft", a, n, axis, norm, True)


def _real_transform(who, a, n, axis, norm):
    _require_real(who, a)
    axis = normal_axis(who, axis, ndim_of(a))
    n = _points(shape_of(a)[axis] if n is None else n)
    return rfft_p(_resized(a, n, axis), axis=axis, norm=_norm_of(who, norm))


@_numpys
def rfft(a, n=None, axis=-1, norm=None, out=None):
    """NumPy's ``fft.rfft``; of a complex array an error."""
    refuse("rfft", out=(out, None))
    return _real_transform("rfft", a, n, axis, norm)


def _real_result(who, a, n, axis, norm):
    axis = normal_axis(who, axis, ndim_of(a))
    n = _points((shape_of(a)[axis] - 1) * 2 if n is None else n)
    return irfft_p(_resized(a, n // 2 + 1, axis), n=n, axis=axis, norm=_norm_of(who, norm))


@_numpys
def irfft(a, n=None, axis=-1, norm=None, out=None):
    """NumPy's ``fft.irfft``; the imaginary parts at frequency 0 and n/2, which it does not read, have derivative 0."""
    refuse("irfft", out=(out, None))
    return _real_result("irfft", a, n, axis, norm)


@_numpys
def hfft(a, n=None, axis=-1, norm=None, out=None):
    """NumPy's ``fft.hfft``: the real spectrum of half a Hermitian signal."""
    refuse("hfft", out=(out, None))
    return _real_result("hfft", conjugated(alias(a)), n, axis, _OTHER[_norm_of("hfft", norm)])


@_numpys
def ihfft(a, n=None, axis=-1, norm=None, out=None):
    """NumPy's ``fft.ihfft``: half the Hermitian signal of a real spectrum."""
    refuse("ihfft", out=(out, None))
    norm = _OTHER[_norm_of("ihfft", norm)]
    return mark_fresh(conjugated(_real_transform("ihfft", a, n, axis, norm)))


# ---------------------------------------------------------------------------------------------- several axes
def _sizes_and_axes(who, a, s, axes, half=False):
    """Lengths and axes of a transform over several axes, an axis as often as it is named."""
    shape = shape_of(a)
    if axes is None:
        if s is not None:
            raise TypeError(
                f"{who}: `axes` must be given with `s`: which axis has the length s[i] is not clear otherwise. "
                "Pass axes=range(a.ndim) to transform all."
            )
        axes = range(len(shape))
    axes = [normal_axis(who, i, len(shape)) for i in axes]
    given = [-1] * len(axes) if s is None else [operator.index(n) for n in s]
    if len(given) != len(axes):
        raise ValueError("Shape and axes have different lengths.")
    lengths = [shape[i] if n == -1 else n for n, i in zip(given, axes, strict=True)]
    if half and s is None:
        lengths[-1] = (shape[axes[-1]] - 1) * 2
    return lengths, axes


def _over(a, lengths, axes, norm, inverse):
    """Transform along the axes, in this order; those that differ in one call of the primitive, last one first."""
    todo = list(zip(lengths, axes, strict=True))
    while todo:
        run = []
        while todo and todo[0][1] not in run:
            n, axis = todo.pop(0)
            a = _resized(a, _points(n), axis)
            run.append(axis)
        a = fft_p(a, axes=tuple(run[::-1]), inverse=inverse, norm=norm)
    return a


def _complex_over(who, a, s, axes, norm, inverse):
    lengths, axes = _sizes_and_axes(who, a, s, axes)
    return _over(a, lengths[::-1], axes[::-1], _norm_of(who, norm), inverse)


@_numpys
def fftn(a, s=None, axes=None, norm=None, out=None):
    """NumPy's ``fft.fftn``."""
    refuse("fftn", out=(out, None))
    return _complex_over("fftn", a, s, axes, norm, False)


@_numpys
def ifftn(a, s=None, axes=None, norm=None, out=None):
    """NumPy's ``fft.ifftn``."""
    refuse("ifftn", out=(out, None))
    return _complex_over("ifftn", a, s, axes, norm, True)


@_numpys
def fft2(a, s=None, axes=(-2, -1), norm=None, out=None):
    """NumPy's ``fft.fft2``."""
    refuse("fft2", out=(out, None))
    return _complex_over("fft2", a, s, axes, norm, False)


@_numpys
def ifft2(a, s=None, axes=(-2, -1), norm=None, out=None):
    """NumPy's ``fft.ifft2``."""
    refuse("ifft2", out=(out, None))
    return _complex_over("ifft2", a, s, axes, norm, True)


def _real_over(who, a, s, axes, norm):
    lengths, axes = _sizes_and_axes(who, a, s, axes)
    a = _real_transform(who, a, lengths[-1], axes[-1], norm)
    return _over(a, lengths[-2::-1], axes[-2::-1], _norm_of(who, norm), False)


@_numpys
def rfftn(a, s=None, axes=None, norm=None, out=None):
    """NumPy's ``fft.rfftn``; of a complex array an error."""
    refuse("rfftn", out=(out, None))
    return _real_over("rfftn", a, s, axes, norm)


@_numpys
def rfft2(a, s=None, axes=(-2, -1), norm=None, out=None):
    """NumPy's ``fft.rfft2``; of a complex array an error."""
    refuse("rfft2", out=(out, None))
    return _real_over("rfft2", a, s, axes, norm)


def _real_result_over(who, a, s, axes, norm):
    lengths, axes = _sizes_and_axes(who, a, s, axes, half=True)
    a = _over(a, lengths[:-1], axes[:-1], _norm_of(who, norm), True)
    return _real_result(who, a, lengths[-1], axes[-1], norm)


@_numpys
def irfftn(a, s=None, axes=None, norm=None, out=None):
    """NumPy's ``fft.irfftn``."""
    refuse("irfftn", out=(out, None))
    return _real_result_over("irfftn", a, s, axes, norm)


@_numpys
def irfft2(a, s=None, axes=(-2, -1), norm=None, out=None):
    """NumPy's ``fft.irfft2``."""
    refuse("irfft2", out=(out, None))
    return _real_result_over("irfft2", a, s, axes, norm)


# ---------------------------------------------------------------------------------------------- shifts
def _shifted(who, x, axes, by):
    x = as_operand(x)
    n = ndim_of(x)
    axes = range(n) if axes is None else axes if isinstance(axes, (tuple, list)) else (axes,)
    axes = tuple(normal_axis(who, i, n) for i in axes)
    if not axes:
        advice = "There is nothing to shift: use x itself."
        raise ShapeError(
            sentence(who, "x", "an array, shifted along one axis or more", "no axes", advice)
        )
    return roll(x, tuple(by(shape_of(x)[i]) for i in axes), axes)


@_numpys
def fftshift(x, axes=None):
    """NumPy's ``fft.fftshift``: frequency 0 in the middle."""
    return _shifted("fftshift", x, axes, lambda n: n // 2)


@_numpys
def ifftshift(x, axes=None):
    """NumPy's ``fft.ifftshift``: the inverse of `fftshift`."""
    return _shifted("ifftshift", x, axes, lambda n: -(n // 2))
