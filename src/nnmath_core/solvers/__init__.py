"""Iterations over operators: eigenvalues by products, with their residuals."""

from nnmath_core.solvers.eigenpairs import Eigenpairs
from nnmath_core.solvers.lanczos import lanczos
from nnmath_core.solvers.operator import LinearOperator, as_operator

__all__ = ["Eigenpairs", "LinearOperator", "as_operator", "lanczos"]
