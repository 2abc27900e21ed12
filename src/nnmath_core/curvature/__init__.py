"""Second-order geometry of a loss: its Hessian and relatives as linear operators."""

from nnmath_core.curvature.hessian import HessianOperator, Reduction

__all__ = ["HessianOperator", "Reduction"]
