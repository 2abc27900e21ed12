"""Short-time Fourier transforms and estimates of spectral density, made of windows that overlap.

A window is given by its name, which SciPy turns into numbers, or as an array, which may be traced.
"""

from __future__ import annotations

import importlib
import operator
import warnings
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import alias, dtype_of, shape_of
from nnmath_core.autodiff.ops.conventions import (
    as_operand,
    beside,
    is_traced,
    normal_axis,
    real_dtype,
)
from nnmath_core.autodiff.ops.elementwise import absolute, conj, sqrt
from nnmath_core.autodiff.ops.fft import fft, ifft, irfft, rfft
from nnmath_core.autodiff.ops.index import scatter_add_p, sort, take
from nnmath_core.autodiff.ops.join import concatenate
from nnmath_core.autodiff.ops.pad import pad
from nnmath_core.autodiff.ops.plain import scipys
from nnmath_core.autodiff.ops.reduce import mean, sum
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import cast, floating, imag, moveaxis, real, reshape
from nnmath_core.checks import require_in
from nnmath_core.errors import DomainError, ShapeError
from nnmath_core.numpy.fft import fftfreq, rfftfreq
from nnmath_core.signal.trend import detrend as _detrend

__all__ = ["coherence", "csd", "istft", "periodogram", "stft", "welch"]


# ---------------------------------------------------------------------------------------------- windows
def _window(who: str, window: Any, nperseg: Any, n: int) -> tuple[Any, int]:
    """The window as an array and its length; a named one is not longer than the signal."""
    if isinstance(window, (str, tuple)):
        nperseg = 256 if nperseg is None else _positive(who, "nperseg", nperseg)
        if nperseg > n:
            warnings.warn(
                f"{who}: nperseg = {nperseg} is greater than the signal's length; {n} is taken.",
                stacklevel=4,
            )
            nperseg = n
        return _named_window(window, nperseg), nperseg
    window = as_operand(window)
    window = window if hasattr(window, "dtype") else np.asarray(window)
    if len(shape_of(window)) != 1:
        raise ShapeError(f"{who}: `window` must have one axis, got shape {shape_of(window)}.")
    length = shape_of(window)[0]
    if length > n or (nperseg is not None and nperseg != length):
        raise ShapeError(
            f"{who}: `window` must have nperseg entries, no more than the signal of {n}; "
            f"it has {length}, and nperseg = {nperseg}."
        )
    return window, length


def _named_window(window: Any, n: int) -> Any:
    return importlib.import_module("scipy.signal").get_window(window, n)


def _positive(who: str, arg: str, n: Any) -> int:
    length = int(n)
    if length < 1:
        raise DomainError(f"{who}: `{arg}` must be a positive integer, got {n}.")
    return length


def _step_and_points(who: str, nperseg: int, noverlap: Any, nfft: Any) -> tuple[int, int]:
    """How far one window is from the next, and the length of the transforms."""
    nfft = nperseg if nfft is None else int(nfft)
    if nfft < nperseg:
        raise DomainError(f"{who}: `nfft` must be at least nperseg = {nperseg}, got {nfft}.")
    noverlap = nperseg // 2 if noverlap is None else int(noverlap)
    if noverlap >= nperseg:
        raise DomainError(
            f"{who}: `noverlap` must be less than nperseg = {nperseg}, got {noverlap}."
        )
    return nperseg - noverlap, nfft


def _beside(x: Any, w: Any) -> Any:
    """A window on the device and in the real dtype of x."""
    dtype = real_dtype(x)
    return cast(w, dtype) if is_traced(w) else beside(x, np.asarray(w).astype(dtype))


# ---------------------------------------------------------------------------------------------- frames
def _frames(x: Any, nperseg: int, step: int) -> Any:
    """Windows of the last axis, (..., count, nperseg); what does not fill one is left over."""
    s = shape_of(x)
    count = (s[-1] - nperseg) // step + 1
    if nperseg % step:
        index = np.arange(count)[:, None] * step + np.arange(nperseg)
        return take(x, index, axis=-1)
    parts = nperseg // step  # blocks, of which each frame is made
    blocks = alias(x)[..., : (count + parts - 1) * step]
    blocks = reshape(blocks, (*s[:-1], count + parts - 1, step))
    shifted = [blocks[..., i : i + count, :] for i in range(parts)]
    return shifted[0] if parts == 1 else concatenate(shifted, -1)


def _overlap_added(frames: Any, step: int) -> Any:
    """The transpose of `_frames`: (..., count, nperseg) to a signal."""
    *lead, count, nperseg = shape_of(frames)
    length = nperseg + (count - 1) * step
    if nperseg % step:
        index = np.arange(count)[:, None] * step + np.arange(nperseg)
        return scatter_add_p(frames, index, axis=len(lead), shape=(*lead, length))
    parts = nperseg // step
    widths = [(0, 0)] * len(lead)
    total = None
    for i in range(parts):
        block = alias(frames)[..., i * step : (i + 1) * step]
        block = pad(block, [*widths, (i, parts - 1 - i), (0, 0)])
        total = block if total is None else total + block
    return reshape(total, (*lead, length))


def _spectra(x: Any, win: Any, step: int, nfft: int, detrend: Any, onesided: bool) -> Any:
    """Transforms of the windows of the last axis, (..., count, frequencies)."""
    frames = _frames(x, shape_of(win)[0], step)
    if callable(detrend):
        frames = detrend(frames)
    elif detrend is not False:
        frames = _detrend(frames, type=detrend)
    frames = frames * _beside(frames, win)
    return (rfft if onesided else fft)(frames, nfft)


def _frequencies(nfft: int, fs: Any, onesided: bool) -> Any:
    return (rfftfreq if onesided else fftfreq)(nfft, 1 / fs)


# ---------------------------------------------------------------------------------------------- densities
def _cross_density(
    who: str,
    x: Any,
    y: Any,
    fs: Any,
    window: Any,
    nperseg: Any,
    noverlap: Any,
    nfft: Any,
    detrend: Any,
    onesided: bool,
    scaling: str,
    axis: int,
    average: str,
) -> tuple[Any, Any]:
    require_in(who, "scaling", scaling, ("density", "spectrum"))
    require_in(who, "average", average, ("mean", "median"))
    same = y is x
    axis = operator.index(axis)
    x = _last(who, x, axis)
    y = x if same else _last(who, y, axis)
    if not same:
        n = max(shape_of(x)[-1], shape_of(y)[-1])
        if shape_of(x)[-1] != shape_of(y)[-1] and shape_of(x)[:-1] != shape_of(y)[:-1]:
            raise ShapeError(
                f"{who}: signals of different lengths must have the same other axes, got shapes "
                f"{shape_of(x)} and {shape_of(y)} with the signal's axis last. "
                "Broadcast them, or append zeros to the shorter one."
            )
        x, y = _extended(x, n), _extended(y, n)
    n = shape_of(x)[-1]
    win, nperseg = _window(who, window, nperseg, n)
    step, nfft = _step_and_points(who, nperseg, noverlap, nfft)
    onesided = bool(onesided) and "c" not in (dtype_of(x).kind, dtype_of(y).kind)
    sx = _spectra(x, win, step, nfft, detrend, onesided)
    if same:
        p = real(sx) ** 2 + imag(sx) ** 2
    else:
        p = conj(sx) * _spectra(y, win, step, nfft, detrend, onesided)
    w = _beside(p, win)
    scale = 1.0 / (fs * sum(w * w)) if scaling == "density" else 1.0 / sum(w) ** 2
    p = p * cast(scale, real_dtype(p))
    if onesided:
        twice = np.full(shape_of(p)[-1], 2.0)
        twice[0] = 1.0
        if nfft % 2 == 0:
            twice[-1] = 1.0
        p = p * _beside(p, twice)
    p = mean(p, -2) if average == "mean" else _median_of_windows(p)
    return _frequencies(nfft, fs, onesided), moveaxis(p, -1, axis)


def _last(who: str, x: Any, axis: int) -> Any:
    x = floating(x)
    s = shape_of(x)
    if 0 in s:
        raise ShapeError(f"{who}: the signal must not be empty, got shape {s}.")
    return moveaxis(alias(x), normal_axis(who, axis, len(s)), -1)


def _extended(x: Any, n: int) -> Any:
    s = shape_of(x)
    return x if s[-1] == n else pad(x, [*[(0, 0)] * (len(s) - 1), (0, n - s[-1])])


def _median_of_windows(p: Any) -> Any:
    """The median over the windows, divided by its bias for the periodograms of noise."""
    n = shape_of(p)[-2]
    k = np.arange(2.0, n, 2.0)
    bias = 1.0 + float(np.sum(1.0 / (k + 1.0) - 1.0 / k))  # of n exponential variables

    def middle(v: Any) -> Any:
        v = sort(v, axis=-2)
        low, high = (alias(v)[..., i, :] for i in ((n - 1) // 2, n // 2))
        return (low + high) * 0.5

    if n == 1:
        return alias(p)[..., 0, :]
    if dtype_of(p).kind == "c":
        return (middle(real(p)) + 1j * middle(imag(p))) / bias
    return middle(p) / bias


@scipys("scipy.signal")
def welch(
    x: Any,
    fs: Any = 1.0,
    window: Any = "hann",
    nperseg: Any = None,
    noverlap: Any = None,
    nfft: Any = None,
    detrend: Any = "constant",
    return_onesided: bool = True,
    scaling: str = "density",
    axis: int = -1,
    average: str = "mean",
) -> Any:
    """SciPy's ``welch``: power spectral density by averaged periodograms; frequencies and densities."""
    return _cross_density(
        "welch", x, x, fs, window, nperseg, noverlap, nfft, detrend, return_onesided, scaling, axis, average
    )  # fmt: skip


@scipys("scipy.signal")
def csd(
    x: Any,
    y: Any,
    fs: Any = 1.0,
    window: Any = "hann",
    nperseg: Any = None,
    noverlap: Any = None,
    nfft: Any = None,
    detrend: Any = "constant",
    return_onesided: bool = True,
    scaling: str = "density",
    axis: int = -1,
    average: str = "mean",
) -> Any:
    """SciPy's ``csd``: cross spectral density, the average of conj(X) Y; frequencies and densities."""
    return _cross_density(
        "csd", x, y, fs, window, nperseg, noverlap, nfft, detrend, return_onesided, scaling, axis, average
    )  # fmt: skip


@scipys("scipy.signal")
def coherence(
    x: Any,
    y: Any,
    fs: Any = 1.0,
    window: Any = "hann",
    nperseg: Any = None,
    noverlap: Any = None,
    nfft: Any = None,
    detrend: Any = "constant",
    axis: int = -1,
) -> Any:
    """SciPy's ``coherence``: the square of the cross spectral density over both densities."""
    rest = (fs, window, nperseg, noverlap, nfft, detrend, True, "density", axis, "mean")
    f, pxx = _cross_density("coherence", x, x, *rest)
    _, pyy = _cross_density("coherence", y, y, *rest)
    _, pxy = _cross_density("coherence", x, y, *rest)
    square = real(pxy) ** 2 + imag(pxy) ** 2
    return f, square / pxx / pyy


@scipys("scipy.signal")
def periodogram(
    x: Any,
    fs: Any = 1.0,
    window: Any = "boxcar",
    nfft: Any = None,
    detrend: Any = "constant",
    return_onesided: bool = True,
    scaling: str = "density",
    axis: int = -1,
) -> Any:
    """SciPy's ``periodogram``: power spectral density by one window; frequencies and densities."""
    x = floating(x)
    axis = normal_axis("periodogram", axis, len(shape_of(x)))
    n = shape_of(x)[axis]
    if nfft is not None and nfft < n:
        x = alias(x)[*([slice(None)] * axis), slice(0, nfft)]
        n, nfft = nfft, None
    window = "boxcar" if window is None else window
    if hasattr(window, "shape") and shape_of(window) != (n,):
        raise ShapeError(
            f"periodogram: `window` must have shape ({n},), as long as the signal, got {shape_of(window)}."
        )
    return _cross_density(
        "periodogram", x, x, fs, window, n, 0, nfft, detrend, return_onesided, scaling, axis, "mean"
    )


# ---------------------------------------------------------------------------------------------- short-time transforms
_SCALINGS = ("spectrum", "psd")


@scipys("scipy.signal")
def stft(
    x: Any,
    fs: Any = 1.0,
    window: Any = "hann",
    nperseg: Any = 256,
    noverlap: Any = None,
    nfft: Any = None,
    detrend: Any = False,
    return_onesided: bool = True,
    boundary: Any = "zeros",
    padded: bool = True,
    axis: int = -1,
    scaling: str = "spectrum",
) -> Any:
    """SciPy's ``stft``: frequencies, times, and the transform of each window."""
    require_in("stft", "scaling", scaling, _SCALINGS)
    require_in("stft", "boundary", boundary, ("zeros", "even", "odd", "constant", None))
    axis = operator.index(axis)
    x = _last("stft", x, axis)
    win, nperseg = _window("stft", window, nperseg, shape_of(x)[-1])
    step, nfft = _step_and_points("stft", nperseg, noverlap, nfft)
    if boundary is not None:
        x = _beyond(x, nperseg // 2, boundary)
    if padded:
        n = shape_of(x)[-1]
        x = _extended(x, n + (-(n - nperseg) % step) % nperseg)
    onesided = bool(return_onesided) and dtype_of(x).kind != "c"
    z = _spectra(x, win, step, nfft, detrend, onesided)
    w = _beside(z, win)
    scale = 1.0 / sum(w) if scaling == "spectrum" else 1.0 / sqrt(fs * sum(w * w))
    z = z * cast(scale, dtype_of(w))
    times = np.arange(nperseg / 2, shape_of(x)[-1] - nperseg / 2 + 1, step) / fs
    if boundary is not None:
        times = times - nperseg / 2 / fs
    at = axis - 1 if axis < 0 else axis  # times are a new last axis
    return _frequencies(nfft, fs, onesided), times, moveaxis(z, -1, at)


def _beyond(x: Any, n: int, boundary: str) -> Any:
    """The signal with n more entries at each end."""
    s = shape_of(x)
    widths = [*[(0, 0)] * (len(s) - 1), (n, n)]
    if boundary == "zeros":
        return pad(x, widths)
    if n >= s[-1] and boundary != "constant":
        raise ShapeError(
            f"stft: the signal must be longer than {n}, half a window, to be continued as {boundary!r}, got {s[-1]}."
        )
    if boundary == "constant":
        return pad(x, widths, "edge")
    mirrored = pad(x, widths, "reflect")
    if boundary == "even":
        return mirrored
    x = alias(x)
    first, last = (x[..., i] for i in (slice(0, 1), slice(-1, None)))
    m = s[-1]
    left, right = (alias(mirrored)[..., a : a + n] for a in (0, n + m))
    return concatenate([2.0 * first - left, x, 2.0 * last - right], -1)


@scipys("scipy.signal")
def istft(
    Zxx: Any,
    fs: Any = 1.0,
    window: Any = "hann",
    nperseg: Any = None,
    noverlap: Any = None,
    nfft: Any = None,
    input_onesided: bool = True,
    boundary: bool = True,
    time_axis: int = -1,
    freq_axis: int = -2,
    scaling: str = "spectrum",
) -> Any:
    """SciPy's ``istft``: times, and the signal of which `stft` is nearest to Zxx."""
    require_in("istft", "scaling", scaling, _SCALINGS)
    z = as_operand(Zxx)
    n_axes = len(shape_of(z))
    if n_axes < 2:
        raise ShapeError(f"istft: `Zxx` must have at least two axes, got shape {shape_of(z)}.")
    time_axis, freq_axis = (normal_axis("istft", a, n_axes) for a in (time_axis, freq_axis))
    if time_axis == freq_axis:
        raise ValueError("istft: `time_axis` and `freq_axis` must differ.")
    count, bins = shape_of(z)[time_axis], shape_of(z)[freq_axis]
    default = 2 * (bins - 1) if input_onesided else bins
    nperseg = default if nperseg is None else _positive("istft", "nperseg", nperseg)
    if nfft is None:  # a window one longer than expected: it is odd, and not padded
        nfft = nperseg if input_onesided and nperseg == default + 1 else default
    step, nfft = _step_and_points("istft", nperseg, noverlap, nfft)
    z = moveaxis(alias(z), (time_axis, freq_axis), (-2, -1))
    if isinstance(window, (str, tuple)):
        win = _named_window(window, nperseg)
    else:
        win, _ = _window("istft", window, nperseg, nperseg)
    frames = (irfft if input_onesided else ifft)(z, nfft)
    frames = alias(frames)[..., :nperseg]
    w = _beside(frames, win)
    frames = frames * (sum(w) if scaling == "spectrum" else sqrt(fs * sum(w * w))) * w
    x = _overlap_added(frames, step)
    weight = _overlap_added(_repeated(w * w, count), step)
    if boundary:
        half = nperseg // 2
        x, weight = (alias(v)[..., half:-half] for v in (x, weight))
    x = x / _where_covered(weight, boundary)
    times = np.arange(shape_of(x)[-1]) / float(fs)
    at = time_axis - (freq_axis < time_axis)
    return times, moveaxis(x, -1, at)


def _repeated(w: Any, count: int) -> Any:
    return w + beside(w, np.zeros((count, 1), dtype_of(w)))


def _where_covered(weight: Any, boundary: bool) -> Any:
    covered = absolute(weight) > 1e-10
    if not is_traced(covered) and not bool(covered.all()):
        warnings.warn(
            "istft: the windows do not cover the signal (NOLA fails), so it may not be recovered"
            + ("." if boundary else "; the boundary may be missing."),
            stacklevel=3,
        )
    return where(covered, weight, 1.0)
