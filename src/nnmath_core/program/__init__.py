"""Programs: recorded computations that can be printed, run by definition and, later, compiled."""

from nnmath_core.program.ir import Equation, Program
from nnmath_core.program.stage import linearize, stage

__all__ = ["Equation", "Program", "linearize", "stage"]
