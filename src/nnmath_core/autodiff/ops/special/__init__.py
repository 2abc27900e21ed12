"""The special functions of SciPy as primitives, a file for each family; `declare.py` says how they are declared."""

from nnmath_core.autodiff.ops.special import (
    bessel,
    cumulative,
    elementary,
    entropy,
    error,
    gamma,
    gelu,
    incomplete,
    integrals,
    polynomials,
    stable,
)

__all__ = [
    "bessel",
    "cumulative",
    "elementary",
    "entropy",
    "error",
    "gamma",
    "gelu",
    "incomplete",
    "integrals",
    "polynomials",
    "stable",
]
