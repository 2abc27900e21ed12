"""SciPy's special functions for plain arrays, device arrays and tracers, under SciPy's names."""

from nnmath_core.autodiff.ops.elementwise import erf, expit
from nnmath_core.autodiff.ops.softmax import log_softmax, logsumexp, softmax

__all__ = ["erf", "expit", "log_softmax", "logsumexp", "softmax"]
