"""The functions that NumPy has, too, as SciPy's: of integers in float64, where NumPy's dtype goes by their size."""

from __future__ import annotations

from nnmath_core.autodiff.ops import elementwise
from nnmath_core.autodiff.ops.special.declare import dispatches, floating

__all__ = ["cbrt", "exp2", "expm1", "log1p"]


@dispatches("cbrt")
def cbrt(x):
    """SciPy's ``cbrt``: the cube root."""
    return elementwise.cbrt(floating(x))


@dispatches("exp2")
def exp2(x):
    """SciPy's ``exp2``: two to the power of x."""
    return elementwise.exp2(floating(x))


@dispatches("expm1")
def expm1(x):
    """SciPy's ``expm1``: exp(x) - 1, without the difference."""
    return elementwise.expm1(floating(x))


@dispatches("log1p")
def log1p(x):
    """SciPy's ``log1p``: log(1 + x), without the sum."""
    return elementwise.log1p(floating(x))
