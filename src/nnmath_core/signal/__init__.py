"""SciPy's signal processing for plain arrays, device arrays and tracers, under SciPy's names.

On plain arrays of the host a function is SciPy's own. `tensor_convolve` is the ``convolve`` of HIPS autograd.
"""

from nnmath_core.signal.convolution import (
    choose_conv_method,
    convolve,
    convolve2d,
    correlate,
    correlate2d,
    correlation_lags,
    fftconvolve,
    oaconvolve,
    tensor_convolve,
)
from nnmath_core.signal.spectra import coherence, csd, istft, periodogram, stft, welch
from nnmath_core.signal.trend import detrend, hilbert

__all__ = [
    "choose_conv_method",
    "coherence",
    "convolve",
    "convolve2d",
    "correlate",
    "correlate2d",
    "correlation_lags",
    "csd",
    "detrend",
    "fftconvolve",
    "hilbert",
    "istft",
    "oaconvolve",
    "periodogram",
    "stft",
    "tensor_convolve",
    "welch",
]
