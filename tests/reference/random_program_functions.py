"""Proposals for the operations of `program_functions`."""

from __future__ import annotations

from typing import Any

import numpy as np
from program_functions import BINARY_NP, BINARY_SPECIAL, UNARY_NP, UNARY_SPECIAL
from random_program_draft import LARGEST, MARGIN, Draft, Rejected
from random_program_proposals import PROPOSALS, broadcastable, ordered, proposal

DOMAINS = {
    "deg2rad": (-LARGEST, LARGEST),
    "rad2deg": (-0.1, 0.1),
    "sinc": (-1.4, 1.4),
    "i0": (-2.0, 2.0),
    "gammaln": (0.5, 6.0),
    "digamma": (0.5, 6.0),
    "erfc": (-1.5, 1.5),
    "erfinv": (-0.8, 0.8),
    "ndtr": (-2.0, 2.0),
    "log_ndtr": (-2.0, 2.0),
    "ndtri": (0.1, 0.9),
    "entr": (0.3, 3.0),
    "logit": (0.1, 0.9),
    "i1": (-2.0, 2.0),
    "i0e": (0.3, 3.0),  # of |x|: away from the kink of the factor
    "i1e": (0.3, 3.0),
}


def between(d: Draft, i: int, low: float, high: float) -> int:
    """Bring a value into a range that `within` does not reach: a scaled sigmoid."""
    x = d.values[i]
    if low <= x.min() and x.max() <= high:
        return i
    i = d.emit("expit", d.within(i, -1.5, 1.5))
    i = d.emit("scalar_arithmetic", i, constant=float(high - low), spelling="x*c")
    return d.emit("scalar_arithmetic", i, constant=float(low), spelling="x+c")


def _unary(name: str) -> Any:
    def propose(d: Draft) -> None:
        low, high = DOMAINS[name]
        i = d.pick()
        i = between(d, i, low, high) if low >= 0 else d.within(i, low, high)
        if name == "i1":
            d.far(d.values[i])  # JAX 0.10 gives 1 for the second derivative at 0, which is 0
        d.emit(name, i)

    return propose


PROPOSALS.update({n: _unary(n) for n in [*UNARY_NP, *UNARY_SPECIAL] if n in DOMAINS})


def _binary(name: str) -> Any:
    def propose(d: Draft) -> None:
        i = d.pick()
        j = broadcastable(d, i)
        if i == j:
            raise Rejected(name)
        if name in ("fmax", "fmin"):
            d.far(d.values[i] - d.values[j])
        elif name == "copysign":
            d.far(d.values[i])
            d.far(d.values[j])
        elif name == "fmod":
            j = between(d, j, 0.6, 1.4)
            ratio = d.values[i] / d.values[j]
            d.far(ratio - np.round(ratio))
        elif name == "float_power":
            i, j = between(d, i, 0.4, 3.0), d.within(j, -2.0, 2.0)
        elif name == "betaln":
            i, j = between(d, i, 0.5, 4.0), between(d, j, 0.5, 4.0)
        elif name in ("xlogy", "xlog1py"):
            j = between(d, j, 0.4, 4.0)
        elif name in ("rel_entr", "kl_div"):
            i, j = between(d, i, 0.4, 2.0), between(d, j, 0.4, 2.0)
        d.emit(name, i, j)

    return propose


PROPOSALS.update({name: _binary(name) for name in [*BINARY_NP, *BINARY_SPECIAL]})


@proposal
def polygamma(d):
    d.emit("polygamma", between(d, d.pick(), 0.8, 5.0), n=d.choice([1, 2]))


@proposal
def gammainc(d):
    d.emit("gammainc", between(d, d.pick(), 0.4, 3.0), upper=d.coin())


@proposal
def log_softmax(d):
    i = d.within(d.pick(lambda v: v.size > 1), -3.0, 3.0)
    d.emit("log_softmax", i, axis=d.axis(i))


def _nan_reduction(name: str) -> Any:
    def propose(d: Draft) -> None:
        i = d.pick(lambda v: v.ndim > 0 and v.size > 2)
        mask = d.rng.random(d.values[i].size) < 0.7
        mask[0] = True
        axis = d.choice([None, 0]) if d.values[i].ndim > 1 else None
        shown = mask.reshape(d.values[i].shape)
        if not shown.any(axis=axis).all():
            raise Rejected(name)
        if name == "nanmax":
            x = np.sort(np.where(shown, d.values[i], -np.inf), axis=axis)
            if axis is None:
                x = x.ravel()
            with np.errstate(invalid="ignore"):
                gap = x[-1] - x[-2] if x.shape[0] > 1 else np.inf
            if np.any(gap < MARGIN):
                raise Rejected(name)
        d.emit(name, i, mask=mask.tolist(), axis=axis)

    return propose


PROPOSALS.update({n: _nan_reduction(n) for n in ("nansum", "nanmean", "nanprod", "nanmax")})


@proposal
def median(d):
    i, axis = ordered(d)
    d.emit("median", i, axis=axis)


@proposal
def quantile(d):
    i, axis = ordered(d)
    method = d.choice(["linear", "lower", "higher", "midpoint"])
    d.emit("quantile", i, q=d.choice([0.15, 0.4, 0.77]), axis=axis, method=method)


@proposal
def average(d):
    i = d.pick(lambda v: v.ndim > 0)
    j = d.pick(lambda v: v.shape == d.values[i].shape)
    d.emit("average", i, between(d, j, 0.4, 3.0), axis=d.choice([None, 0]))


@proposal
def ptp(d):
    i, axis = ordered(d)
    d.emit("ptp", i, axis=axis)


@proposal
def cumprod(d):
    i = d.pick(lambda v: v.ndim > 0)
    d.emit("cumprod", between(d, i, 0.5, 1.6), axis=d.axis(i))


@proposal
def trapezoid(d):
    i = d.pick(lambda v: v.ndim > 0 and v.size > 1)
    d.emit("trapezoid", i, dx=0.5, axis=d.axis(i))


@proposal
def sum_where(d):
    i = d.pick(lambda v: v.size > 2)
    mask = d.rng.random(d.values[i].size) < 0.6
    d.emit("sum_where", i, mask=mask.tolist())


def _of_rows(name: str) -> Any:
    def propose(d: Draft) -> None:
        i = d.pick(lambda v: v.ndim == 2 and v.shape[0] > 1 and v.shape[1] > 2)
        if name == "corrcoef" and np.std(d.values[i], axis=1).min() < 0.2:
            raise Rejected(name)
        k = d.emit(name, i)
        if name == "corrcoef" and np.abs(d.values[k] - np.eye(len(d.values[k]))).max() > 0.95:
            raise Rejected(name)  # clipped at 1 when it rounds there

    return propose


PROPOSALS.update({name: _of_rows(name) for name in ("cov", "corrcoef")})


@proposal
def roll(d):
    i = d.pick(lambda v: v.size > 2)
    axis = None if d.values[i].ndim == 0 or d.coin() else d.axis(i)
    d.emit("roll", i, shift=d.choice([1, -2]), axis=axis)


@proposal
def flip(d):
    i = d.pick(lambda v: v.ndim > 0 and v.size > 1)
    d.emit("flip", i, axis=d.choice([None, d.axis(i)]))


@proposal
def rot90(d):
    d.emit("rot90", d.pick(lambda v: v.ndim >= 2), k=d.choice([1, 2, -1]))


@proposal
def repeat(d):
    i = d.pick(lambda v: 1 <= v.ndim <= 2 and v.size <= 12)
    axis = int(d.rng.integers(d.values[i].ndim))
    n = d.values[i].shape[axis]
    d.emit("repeat", i, repeats=d.choice([2, d.rng.integers(1, 3, n).tolist()]), axis=axis)


@proposal
def tile(d):
    d.emit("tile", d.pick(lambda v: v.ndim <= 2 and v.size <= 8), reps=d.choice([2, [2, 1]]))


@proposal
def squeeze(d):
    d.emit("squeeze", d.pick())


@proposal
def expand_dims(d):
    i = d.pick(lambda v: v.ndim <= 2)
    d.emit("expand_dims", i, axis=int(d.rng.integers(-1, d.values[i].ndim + 1)))


@proposal
def moveaxis(d):
    d.emit("moveaxis", d.pick(lambda v: v.ndim >= 2), source=0, destination=-1)


@proposal
def swapaxes(d):
    d.emit("swapaxes", d.pick(lambda v: v.ndim >= 2))


@proposal
def ravel(d):
    d.emit("ravel", d.pick(lambda v: v.ndim >= 2), method=d.coin())


@proposal
def diag(d):
    d.emit(
        "diag", d.pick(lambda v: v.ndim in (1, 2) and 2 <= v.shape[0] <= 5), k=d.choice([0, 1, -1])
    )


@proposal
def diagonal(d):
    d.emit("diagonal", d.pick(lambda v: v.ndim == 2 and min(v.shape) > 1), offset=d.choice([0, 1]))


@proposal
def triangle(d):
    d.emit("triangle", d.pick(lambda v: v.ndim == 2), upper=d.coin(), k=d.choice([0, 1, -1]))


@proposal
def trace(d):
    d.emit("trace", d.pick(lambda v: v.ndim == 2 and min(v.shape) > 1), offset=d.choice([0, 1]))


@proposal
def meshgrid(d):
    i, j = (d.pick(lambda v: v.ndim == 1 and v.size <= 5) for _ in range(2))
    d.emit("meshgrid", i, j, indexing=d.choice(["ij", "xy"]))


@proposal
def append(d):
    d.emit("append", d.pick(lambda v: v.size <= 12), d.pick(lambda v: v.size <= 12))


@proposal
def delete(d):
    i = d.pick(lambda v: v.ndim >= 1 and v.shape[0] > 1)
    d.emit("delete", i, place=d.choice([0, -1]), axis=0)


@proposal
def insert(d):
    d.emit(
        "insert",
        d.pick(lambda v: v.ndim == 1 and v.size > 1),
        d.pick(lambda v: v.ndim == 0),
        place=1,
    )


@proposal
def joined(d):
    how = d.choice(["hstack", "vstack", "dstack", "column_stack"])
    i = d.pick(lambda v: 1 <= v.ndim <= 2)
    d.emit("joined", i, d.pick(lambda v: v.shape == d.values[i].shape), how=how)


@proposal
def array_split(d):
    d.emit("array_split", d.pick(lambda v: v.ndim >= 1 and v.shape[0] >= 3), n=3)


@proposal
def atleast(d):
    d.emit(
        "atleast",
        d.pick(lambda v: v.ndim <= 2),
        how=d.choice(["atleast_1d", "atleast_2d", "atleast_3d"]),
    )


@proposal
def take(d):
    i = d.pick(lambda v: v.ndim >= 1 and v.size > 1)
    axis = d.axis(i)
    n = d.values[i].shape[axis]
    d.emit("take", i, indices=d.rng.integers(-n, n, 3).tolist(), axis=axis)


@proposal
def select(d):
    i = d.pick(lambda v: 1 < v.size < 10)
    j = d.pick(lambda v: v.shape in (d.values[i].shape, ()) and v is not d.values[i])
    k = d.emit("array_arithmetic", i, spelling="x/c")
    d.far(d.values[i] - d.values[j])
    d.far(d.values[j] - d.values[k])
    d.emit("select", i, j, k)


@proposal
def block(d):
    i = d.pick(lambda v: v.ndim == 2 and v.size <= 9)
    d.emit("block", i, d.pick(lambda v: v.shape == d.values[i].shape))


@proposal
def pad_mode(d):
    i = d.pick(lambda v: v.ndim >= 1 and min(v.shape) > 1)
    width = [[int(d.rng.integers(2)), int(d.rng.integers(2))] for _ in d.values[i].shape]
    d.emit("pad_mode", i, width=width, mode=d.choice(["edge", "reflect", "symmetric", "wrap"]))


@proposal
def linspace(d):
    i, j = (d.pick(lambda v: v.ndim == 0) for _ in range(2))
    d.emit("linspace", i, j, num=4, endpoint=d.coin())


@proposal
def piecewise(d):
    i = d.within(d.pick(), -2.0, 3.0)
    d.far(d.values[i])
    d.far(d.values[i] - 1)
    d.emit("piecewise", i)


@proposal
def diff(d):
    i = d.pick(lambda v: v.ndim >= 1 and v.shape[-1] > 2)
    d.emit("diff", i, n=d.choice([1, 2]), axis=-1)


@proposal
def ediff1d(d):
    d.emit("ediff1d", d.pick(lambda v: v.size > 1))


@proposal
def gradient(d):
    i = d.pick(lambda v: v.ndim >= 1 and v.shape[0] > 2)
    d.emit("gradient", i, spacing=d.choice([1.0, 0.5]), axis=0)


@proposal
def interp(d):
    j = d.pick(lambda v: v.ndim == 1 and v.size > 2)
    i = d.within(d.pick(), -2.9, 2.9)
    knots = np.linspace(-3.0, 3.0, d.values[j].size)
    d.far(d.values[i][..., None] - knots)
    d.emit("interp", i, j)


@proposal
def convolve(d):
    i, j = (d.pick(lambda v: v.ndim == 1) for _ in range(2))
    d.emit(d.choice(["convolve", "correlate"]), i, j, mode=d.choice(["full", "same", "valid"]))


PROPOSALS["correlate"] = convolve


@proposal
def polyval(d):
    i = d.pick(lambda v: v.ndim == 1 and v.size <= 4)
    d.emit("polyval", i, d.within(d.pick(), -1.0, 1.0))


@proposal
def vander(d):
    d.emit("vander", d.within(d.pick(lambda v: v.ndim == 1), -1.5, 1.5), n=3)


@proposal
def unwrap(d):
    i = d.within(d.pick(lambda v: v.ndim == 1 and v.size > 1), -2.0, 2.0)
    turns = np.diff(3.0 * d.values[i]) / (2 * np.pi)
    d.far(turns - np.floor(turns) - 0.5)
    d.emit("unwrap", i)


@proposal
def fft(d):
    i = d.pick(lambda v: v.ndim >= 1 and v.shape[-1] > 1)
    d.emit("fft", i, n=d.choice([None, 3, 6]), axis=-1, norm=d.choice([None, "ortho", "forward"]))


@proposal
def rfft(d):
    i = d.pick(lambda v: v.ndim >= 1 and v.shape[-1] > 1)
    k = d.emit("rfft", i, n=d.choice([None, 5]), axis=-1)
    if d.values[k].min() < 0.3:  # the modulus at 0
        raise Rejected("rfft")


@proposal
def irfft(d):
    i = d.pick(lambda v: v.ndim >= 1 and v.shape[-1] > 1)
    j = d.pick(lambda v: v.shape == d.values[i].shape)
    d.emit("irfft", i, j, n=d.choice([None, 4, 5]))


@proposal
def fft2(d):
    d.emit("fft2", d.pick(lambda v: v.ndim == 2))


@proposal
def fftshift(d):
    d.emit("fftshift", d.pick(lambda v: v.ndim >= 1 and v.size > 1))


@proposal
def complex_arithmetic(d):
    i = d.within(d.pick(), -2.0, 2.0)
    j = d.pick(lambda v: v.shape == d.values[i].shape)
    j = d.within(j, -2.0, 2.0)
    if np.hypot(d.values[i], d.values[j]).min() < 0.3:
        raise Rejected("complex_arithmetic")
    d.emit("complex_arithmetic", i, j)


@proposal
def kron(d):
    i, j = (d.pick(lambda v: 1 <= v.ndim <= 2 and v.size <= 6) for _ in range(2))
    d.emit("kron", i, j)


@proposal
def cross(d):
    i = d.pick(lambda v: v.ndim in (1, 2) and v.shape[-1] == 3)
    d.emit("cross", i, d.pick(lambda v: v.ndim in (1, 2) and v.shape[-1] == 3))


@proposal
def inner(d):
    i = d.pick(lambda v: v.ndim in (1, 2))
    n = d.values[i].shape[-1]
    d.emit("inner", i, d.pick(lambda v: v.ndim in (1, 2) and v.shape[-1] == n))


@proposal
def vdot(d):
    i = d.pick(lambda v: v.size > 1)
    d.emit("vdot", i, d.pick(lambda v: v.size == d.values[i].size))


@proposal
def vecdot(d):
    i = d.pick(lambda v: v.ndim >= 1)
    d.emit("vecdot", i, d.pick(lambda v: v.shape == d.values[i].shape))


@proposal
def einsum_more(d):
    labels = d.choice(
        ["ii->i", "ii", "ij,jk,kl->il", "i,i,i->i", "...i,i->...", "ij,ij->j", "ij,jk", "ii,i->"]
    )
    sizes: dict[str, int] = {}
    operands = []
    for term in labels.split("->")[0].split(","):
        term = term.replace("...", "z")

        def fits(v: np.ndarray, term: str = term) -> bool:
            own = dict(sizes)
            return v.ndim == len(term) and all(
                own.setdefault(a, n) == n for a, n in zip(term, v.shape, strict=True)
            )

        operands.append(d.pick(fits))
        sizes.update(zip(term, d.values[operands[-1]].shape, strict=True))
    d.emit("einsum_more", *operands, labels=labels)


@proposal
def matrix_power(d):
    i = d.invertible()
    i = d.emit("scalar_arithmetic", i, constant=0.5, spelling="x*c")
    d.emit("matrix_power", i, n=d.choice([2, 3, -1, -2, 5]))


@proposal
def multi_dot(d):
    i = d.pick(lambda v: v.ndim == 2)
    j = d.pick(lambda v: v.ndim == 2 and v.shape[0] == d.values[i].shape[1])
    k = d.pick(lambda v: v.ndim == 2 and v.shape[0] == d.values[j].shape[1])
    d.emit("multi_dot", i, j, k)


def apart(d: Draft, s: np.ndarray) -> None:
    """Reject close singular values or eigenvalues, and small ones."""
    s = np.sort(s)
    if s.size and (np.abs(s).min() < 0.15 or (s.size > 1 and np.diff(s).min() < 0.15)):
        raise Rejected("close eigenvalues")


@proposal
def matrix_norm(d):
    ord = d.choice(["fro", "nuc", 2, -2, 1, np.inf])
    i = d.pick(lambda v: v.ndim == 2 and min(v.shape) > 1)
    apart(d, np.linalg.svd(d.values[i], compute_uv=False))
    d.far(d.values[i])
    for axis in (0, 1):
        sums = np.sort(np.abs(d.values[i]).sum(axis=axis))
        d.far(np.diff(sums)[-1:])
    d.emit("matrix_norm", i, ord=ord if ord != np.inf else "fro")


@proposal
def vector_norm(d):
    i = d.pick(lambda v: v.ndim == 1 and v.size > 1)
    d.far(d.values[i])
    d.emit("vector_norm", i, ord=d.choice([1, 2, 3, 1.5]))


@proposal
def pinv(d):
    i = d.pick(lambda v: v.ndim == 2 and min(v.shape) > 1)
    if np.linalg.svd(d.values[i], compute_uv=False).min() < 0.4:
        raise Rejected("pinv")
    d.emit("pinv", i)


def symmetric(d: Draft) -> int:
    i = d.square()
    t = d.emit("transpose", i, axes=None, attribute=True)
    i = d.emit("add", i, t, operator=True)
    apart(d, np.linalg.eigvalsh(d.values[i]))
    return i


@proposal
def eigvalsh(d):
    d.emit("eigvalsh", symmetric(d))


@proposal
def eigh_function(d):
    d.emit("eigh_function", symmetric(d))


def _singular(name: str) -> Any:
    def propose(d: Draft) -> None:
        i = d.pick(lambda v: v.ndim == 2 and min(v.shape) > 1)
        apart(d, np.linalg.svd(d.values[i], compute_uv=False))
        d.emit(name, i)

    return propose


PROPOSALS.update({name: _singular(name) for name in ("svdvals", "svd_function")})


@proposal
def qr(d):
    i = d.pick(lambda v: v.ndim == 2 and v.shape[0] >= v.shape[1] > 1)
    if np.linalg.svd(d.values[i], compute_uv=False).min() < 0.4:
        raise Rejected("qr")
    d.emit("qr", i)


@proposal
def lstsq(d):
    i = d.pick(lambda v: v.ndim == 2 and min(v.shape) > 1)
    if np.linalg.svd(d.values[i], compute_uv=False).min() < 0.4:
        raise Rejected("lstsq")
    n = d.values[i].shape[0]
    d.emit("lstsq", i, d.pick(lambda v: v.ndim in (1, 2) and v.shape[0] == n))


@proposal
def expm(d):
    i = d.square()
    d.emit("expm", d.within(i, -0.6, 0.6))


@proposal
def solve_triangular(d):
    i = d.invertible()
    n = d.values[i].shape[0]
    b = d.pick(lambda v: v.ndim in (1, 2) and v.shape[0] == n)
    d.emit("solve_triangular", i, b, lower=d.coin(), trans=d.choice([0, 1]))


@proposal
def block_diag(d):
    d.emit("block_diag", *(d.pick(lambda v: v.ndim == 2 and v.size <= 6) for _ in range(2)))


@proposal
def toeplitz(d):
    d.emit("toeplitz", *(d.pick(lambda v: v.ndim == 1 and v.size <= 5) for _ in range(2)))


@proposal
def cho_solve(d):
    i = d.positive_definite()
    n = d.values[i].shape[0]
    d.emit("cho_solve", i, d.pick(lambda v: v.ndim in (1, 2) and v.shape[0] == n))
