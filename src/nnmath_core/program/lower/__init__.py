"""Lowering rules: how an equation becomes instructions of the CPU's executor. One file a topic."""

from nnmath_core.program.lower import (
    control,
    convolutions,
    draw,
    elementwise,
    index,
    movement,
    pooling,
    products,
    rows,
    sparse,
)
from nnmath_core.program.lower.rules import RULES, lowers

__all__ = [
    "RULES",
    "control",
    "convolutions",
    "draw",
    "elementwise",
    "index",
    "lowers",
    "movement",
    "pooling",
    "products",
    "rows",
    "sparse",
]
