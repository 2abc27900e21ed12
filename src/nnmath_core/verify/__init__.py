"""Checks of derivatives and of promises."""

from nnmath_core.verify.gradients import check_grads, gradient_report
from nnmath_core.verify.nans import debug_nans
from nnmath_core.verify.numerical import complex_step, numerical_gradient
from nnmath_core.verify.operators import check_operator
from nnmath_core.verify.precision_record import PrecisionReport, PrecisionRow
from nnmath_core.verify.record import Disagreement, GradientReport
from nnmath_core.verify.single_precision import precision_report

__all__ = [
    "Disagreement",
    "GradientReport",
    "PrecisionReport",
    "PrecisionRow",
    "check_grads",
    "check_operator",
    "complex_step",
    "debug_nans",
    "gradient_report",
    "numerical_gradient",
    "precision_report",
]
