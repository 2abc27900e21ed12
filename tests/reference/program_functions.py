"""More operations of the random programs: the namespace beyond the core.

As in `program_operations`, an operation is written once and runs on every namespace. Complex values
stay inside an operation: its operands and results are real.
"""

from __future__ import annotations

import numpy as np
from program_operations import OPERATIONS, _operation, _tuple_or_same, weights

UNARY_NP = "deg2rad rad2deg sinc i0".split()
UNARY_SPECIAL = ("gammaln digamma erfc erfinv ndtr log_ndtr ndtri entr logit i1 i0e i1e").split()
BINARY_NP = "fmax fmin logaddexp2 fmod float_power copysign".split()
BINARY_SPECIAL = "xlogy xlog1py betaln rel_entr kl_div".split()


def _of(place, name):
    return lambda f, *xs: getattr(getattr(f, place), name)(*xs)


OPERATIONS.update({name: _of("np", name) for name in UNARY_NP + BINARY_NP})
OPERATIONS.update({name: _of("special", name) for name in UNARY_SPECIAL + BINARY_SPECIAL})


@_operation
def polygamma(f, x, *, n):
    return f.special.polygamma(n, x)


@_operation
def gammainc(f, x, *, upper):
    """In x; JAX has no second derivative in the other argument."""
    return (f.special.gammaincc if upper else f.special.gammainc)(weights(np.shape(x)), x)


@_operation
def log_softmax(f, x, *, axis):
    return f.special.log_softmax(x, axis=axis)


# ------------------------------------------------------------------------------------- reductions
def _nan_reduction(name):
    def reduce(f, x, *, mask, axis):
        hidden = f.np.where(np.array(mask).reshape(np.shape(x)), x, np.nan)
        return getattr(f.np, name)(hidden, axis=axis)

    return reduce


OPERATIONS.update({n: _nan_reduction(n) for n in ("nansum", "nanmean", "nanprod", "nanmax")})


@_operation
def median(f, x, *, axis):
    return f.np.median(x, axis=axis)


@_operation
def quantile(f, x, *, q, axis, method):
    return f.np.quantile(x, q, axis=axis, method=method)


@_operation
def average(f, x, w, *, axis):
    return f.np.average(x, axis=axis, weights=w)


@_operation
def ptp(f, x, *, axis):
    return f.np.ptp(x, axis=axis)


@_operation
def cumprod(f, x, *, axis):
    return f.np.cumprod(x, axis=axis)


@_operation
def trapezoid(f, y, *, dx, axis):
    return f.np.trapezoid(y, dx=dx, axis=axis)


@_operation
def sum_where(f, x, *, mask):
    return f.np.sum(x, where=np.array(mask).reshape(np.shape(x)))


@_operation
def cov(f, x):
    return f.np.cov(x)


@_operation
def corrcoef(f, x):
    return f.np.corrcoef(x)


# ----------------------------------------------------------------------------------- moving entries
@_operation
def roll(f, x, *, shift, axis):
    return f.np.roll(x, _tuple_or_same(shift), axis=_tuple_or_same(axis))


@_operation
def flip(f, x, *, axis):
    return f.np.flip(x, axis=_tuple_or_same(axis))


@_operation
def rot90(f, x, *, k):
    return f.np.rot90(x, k)


@_operation
def repeat(f, x, *, repeats, axis):
    return f.np.repeat(x, np.array(repeats), axis=axis)


@_operation
def tile(f, x, *, reps):
    return f.np.tile(x, _tuple_or_same(reps))


@_operation
def squeeze(f, x):
    return f.np.squeeze(f.np.expand_dims(x, 0), axis=0)


@_operation
def expand_dims(f, x, *, axis):
    return f.np.expand_dims(x, axis)


@_operation
def moveaxis(f, x, *, source, destination):
    return f.np.moveaxis(x, source, destination)


@_operation
def swapaxes(f, x):
    return f.np.swapaxes(x, 0, -1)


@_operation
def ravel(f, x, *, method):
    return x.ravel() if method else f.np.ravel(x)


@_operation
def diag(f, x, *, k):
    return f.np.diag(x, k)


@_operation
def diagonal(f, x, *, offset):
    return f.np.diagonal(x, offset)


@_operation
def triangle(f, x, *, upper, k):
    return f.np.triu(x, k) if upper else f.np.tril(x, k)


@_operation
def trace(f, x, *, offset):
    return f.np.trace(x, offset)


@_operation
def meshgrid(f, x, y, *, indexing):
    return list(f.np.meshgrid(x, y, indexing=indexing))


@_operation
def append(f, x, y):
    return f.np.append(x, y)


@_operation
def delete(f, x, *, place, axis):
    return f.np.delete(x, place, axis=axis)


@_operation
def insert(f, x, v, *, place):
    return f.np.insert(x, place, v)


@_operation
def joined(f, x, y, *, how):
    return getattr(f.np, how)((x, y))


@_operation
def array_split(f, x, *, n):
    return list(f.np.array_split(x, n))


@_operation
def atleast(f, x, *, how):
    return getattr(f.np, how)(x)


@_operation
def take(f, x, *, indices, axis):
    return f.np.take(x, np.array(indices), axis=axis)


@_operation
def select(f, x, y, z):
    return f.np.select([x > y, y > z], [x * y, y * z], default=0.25)


@_operation
def block(f, x, y):
    return f.np.block([[x, y], [y, x]])


@_operation
def pad_mode(f, x, *, width, mode):
    return f.np.pad(x, [tuple(w) for w in width], mode=mode)


@_operation
def linspace(f, a, b, *, num, endpoint):
    return f.np.linspace(a, b, num, endpoint=endpoint)


@_operation
def piecewise(f, x):
    return f.np.where(x < 0, f.np.expm1(x), f.np.where(x < 1, x**2, 2 * x - 1))


# ------------------------------------------------------------------------------- small numerics
@_operation
def diff(f, x, *, n, axis):
    return f.np.diff(x, n=n, axis=axis)


@_operation
def ediff1d(f, x):
    return f.np.ediff1d(x)


@_operation
def gradient(f, x, *, spacing, axis):
    return f.np.gradient(x, spacing, axis=axis)


@_operation
def interp(f, x, fp):
    return f.np.interp(x, np.linspace(-3.0, 3.0, np.shape(fp)[0]), fp)


@_operation
def convolve(f, x, y, *, mode):
    return f.np.convolve(x, y, mode=mode)


@_operation
def correlate(f, x, y, *, mode):
    return f.np.correlate(x, y, mode=mode)


@_operation
def polyval(f, p, x):
    return f.np.polyval(p, x)


@_operation
def vander(f, x, *, n):
    return f.np.vander(x, n)


@_operation
def unwrap(f, x):
    return f.np.unwrap(3.0 * x)


# ------------------------------------------------------------------------------------------ FFT
@_operation
def fft(f, x, *, n, axis, norm):
    y = f.np.fft.fft(x, n=n, axis=axis, norm=norm)
    return f.np.real(y) + 0.5 * f.np.imag(y)


@_operation
def rfft(f, x, *, n, axis):
    return f.np.abs(f.np.fft.rfft(x, n=n, axis=axis) + (2.0 + 1.0j))


@_operation
def irfft(f, x, y, *, n):
    return f.np.fft.irfft(x + 1j * y, n=n)


@_operation
def fft2(f, x):
    return f.np.real(f.np.fft.ifft2(f.np.fft.fft2(x) * (1.0 + 0.3j)))


@_operation
def fftshift(f, x):
    return f.np.fft.fftshift(x)


@_operation
def complex_arithmetic(f, x, y):
    z = (x + 1j * y) * f.np.exp(1j * x) / (2.0 + f.np.conj(x + 1j * y) * 0.1)
    return f.np.abs(z) + f.np.real(z * z)


# -------------------------------------------------------------------------------- linear algebra
@_operation
def kron(f, x, y):
    return f.np.kron(x, y)


@_operation
def cross(f, x, y):
    return f.np.cross(x, y)


@_operation
def inner(f, x, y):
    return f.np.inner(x, y)


@_operation
def vdot(f, x, y):
    return f.np.vdot(x, y)


@_operation
def vecdot(f, x, y):
    return f.np.vecdot(x, y)


@_operation
def einsum_more(f, *xs, labels):
    return f.np.einsum(labels, *xs)


@_operation
def matrix_power(f, a, *, n):
    return f.np.linalg.matrix_power(a, n)


@_operation
def multi_dot(f, a, b, c):
    return f.np.linalg.multi_dot([a, b, c])


@_operation
def matrix_norm(f, a, *, ord):
    return f.np.linalg.norm(a, ord)


@_operation
def vector_norm(f, x, *, ord):
    return f.np.linalg.norm(x, ord)


@_operation
def pinv(f, a):
    return f.np.linalg.pinv(a)


@_operation
def eigvalsh(f, a):
    return f.np.linalg.eigvalsh(a)


@_operation
def eigh_function(f, a):
    """A function of a symmetric matrix, through its eigenvectors."""
    w, v = f.np.linalg.eigh(a)
    return (v * f.np.sin(w)) @ v.T


@_operation
def svdvals(f, a):
    return f.np.linalg.svd(a, compute_uv=False)


@_operation
def svd_function(f, a):
    """The singular values bent, the vectors kept."""
    u, s, vt = f.np.linalg.svd(a, full_matrices=False)
    return (u * f.np.tanh(s)) @ vt


@_operation
def qr(f, a):
    """Q R and |R|, which no choice of signs changes."""
    q, r = f.np.linalg.qr(a)
    return [(q * weights(np.shape(r)[:1])) @ r, r * r]


@_operation
def lstsq(f, a, b):
    return f.np.linalg.lstsq(a, b)[0]


@_operation
def expm(f, a):
    return f.linalg.expm(a)


@_operation
def solve_triangular(f, a, b, *, lower, trans):
    return f.linalg.solve_triangular(a, b, lower=lower, trans=trans)


@_operation
def block_diag(f, x, y):
    return f.linalg.block_diag(x, y)


@_operation
def toeplitz(f, x, y):
    return f.linalg.toeplitz(x, y)


@_operation
def cho_solve(f, a, b):
    return f.linalg.cho_solve((f.np.linalg.cholesky(a), True), b)
