"""Programs: recorded computations that can be printed, run by definition, and compiled to Plans."""

from nnmath_core.program.compiled import Compiled, compile
from nnmath_core.program.cuda import DevicePlan
from nnmath_core.program.ir import Equation, Program
from nnmath_core.program.plan import Plan
from nnmath_core.program.stage import linearize, stage

__all__ = ["Compiled", "DevicePlan", "Equation", "Plan", "Program", "compile", "linearize", "stage"]
