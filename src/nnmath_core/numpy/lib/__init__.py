"""`numpy.lib`, as far as it concerns arrays that may be traced."""

from nnmath_core.numpy.lib import stride_tricks

__all__ = ["stride_tricks"]
