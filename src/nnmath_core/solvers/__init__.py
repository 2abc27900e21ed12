"""Iterations over operators: eigenvalues, singular values and solutions by products, with their residuals."""

from nnmath_core.solvers.conjugate import Solution, cg
from nnmath_core.solvers.eigenpairs import Eigenpairs
from nnmath_core.solvers.lanczos import lanczos
from nnmath_core.solvers.operator import LinearOperator, PlanOperator, as_operator
from nnmath_core.solvers.power import Dominant, SingularTriplet, power_iteration, spectral_norm
from nnmath_core.solvers.quadrature import SpectralDensity, SpectralQuadrature, TraceEstimate, slq

__all__ = [
    "Dominant",
    "Eigenpairs",
    "LinearOperator",
    "PlanOperator",
    "SingularTriplet",
    "Solution",
    "SpectralDensity",
    "SpectralQuadrature",
    "TraceEstimate",
    "as_operator",
    "cg",
    "lanczos",
    "power_iteration",
    "slq",
    "spectral_norm",
]
