"""Checks of derivatives and of promises."""

from nnmath_core.verify.gradients import check_grads, gradient_report
from nnmath_core.verify.numerical import complex_step, numerical_gradient
from nnmath_core.verify.operators import check_operator
from nnmath_core.verify.record import Disagreement, GradientReport

__all__ = [
    "Disagreement",
    "GradientReport",
    "check_grads",
    "check_operator",
    "complex_step",
    "gradient_report",
    "numerical_gradient",
]
