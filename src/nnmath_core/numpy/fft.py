"""`numpy.fft` for plain arrays, device arrays and tracers."""

from __future__ import annotations

from typing import Any

from nnmath_core.autodiff.ops.conventions import is_traced as _is_traced
from nnmath_core.autodiff.ops.fft import (
    fft,
    fft2,
    fftn,
    fftshift,
    hfft,
    ifft,
    ifft2,
    ifftn,
    ifftshift,
    ihfft,
    irfft,
    irfft2,
    irfftn,
    rfft,
    rfft2,
    rfftn,
)
from nnmath_core.autodiff.ops.shape import cast as _cast
from nnmath_core.device import (
    backend_for as _backend_for,
    place_of as _place_of,
)

__all__ = [
    "fft",
    "fft2",
    "fftfreq",
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
    "rfftfreq",
    "rfftn",
]


def fftfreq(n: int, d: Any = 1.0, device: Any = None, *, dtype: Any = None) -> Any:
    """NumPy's ``fft.fftfreq``, on the default device or ``device``; the spacing ``d`` may be traced."""
    xp = _namespace(device)
    y = xp.fft.fftfreq(n) / d if _is_traced(d) else xp.fft.fftfreq(n, d)
    return y if dtype is None else _cast(y, dtype)


def rfftfreq(n: int, d: Any = 1.0, device: Any = None, *, dtype: Any = None) -> Any:
    """NumPy's ``fft.rfftfreq``, on the default device or ``device``; the spacing ``d`` may be traced."""
    xp = _namespace(device)
    y = xp.fft.rfftfreq(n) / d if _is_traced(d) else xp.fft.rfftfreq(n, d)
    return y if dtype is None else _cast(y, dtype)


def _namespace(device: Any) -> Any:
    return _backend_for(_place_of(device)).xp
