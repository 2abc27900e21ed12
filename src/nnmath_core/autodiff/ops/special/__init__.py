"""The special functions of SciPy as primitives, a file for each family; `declare.py` says how they are declared."""

from nnmath_core.autodiff.ops.special import (
    bessel,
    cumulative,
    entropy,
    error,
    gamma,
    incomplete,
    integrals,
    polynomials,
)

__all__ = [
    "bessel",
    "cumulative",
    "entropy",
    "error",
    "gamma",
    "incomplete",
    "integrals",
    "polynomials",
]
