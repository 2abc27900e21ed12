"""`numpy.lib.stride_tricks` for plain arrays, device arrays and tracers, without `as_strided`.

A traced array has no strides: its windows are copies.
"""

from nnmath_core.autodiff.ops.arrange import sliding_window_view
from nnmath_core.autodiff.ops.shape import broadcast_arrays, broadcast_to

__all__ = ["broadcast_arrays", "broadcast_to", "sliding_window_view"]
