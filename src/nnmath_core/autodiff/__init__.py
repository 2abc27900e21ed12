"""The differentiation core: primitives, trees and transformations."""

from nnmath_core.autodiff import wiring  # noqa: F401  (hands the primitives to the compiled core)
from nnmath_core.autodiff.ops import linalg  # noqa: F401
from nnmath_core.autodiff.primitive import REGISTRY, Primitive

__all__ = ["REGISTRY", "Primitive"]
