"""Lowering rules: how an equation becomes instructions of the CPU's executor. One file a topic."""

from nnmath_core.program.lower import (
    attention,
    control,
    convolutions,
    convolve,
    defined,
    draw,
    elementwise,
    factorisations,
    index,
    movement,
    optimizers,
    pooling,
    products,
    rows,
    sparse,
    systems,
    transforms,
)
from nnmath_core.program.lower.rules import RULES, lowers

__all__ = [
    "RULES",
    "attention",
    "control",
    "convolutions",
    "convolve",
    "defined",
    "draw",
    "elementwise",
    "factorisations",
    "index",
    "lowers",
    "movement",
    "optimizers",
    "pooling",
    "products",
    "rows",
    "sparse",
    "systems",
    "transforms",
]
