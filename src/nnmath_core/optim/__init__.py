"""Optimizers: rules that turn gradients into new parameters, with optax's argument names."""

from nnmath_core.optim.adaptive import Adam, AdamState, AdamW, adam, adamw
from nnmath_core.optim.descent import GradientDescent, GradientDescentState, gradient_descent
from nnmath_core.optim.momentum import HeavyBall, MomentumState, Nesterov, heavy_ball, nesterov
from nnmath_core.optim.optimizer import Optimizer
from nnmath_core.optim.proximal import ProximalResult, fista, proximal_gradient

__all__ = [
    "Adam",
    "AdamState",
    "AdamW",
    "GradientDescent",
    "GradientDescentState",
    "HeavyBall",
    "MomentumState",
    "Nesterov",
    "Optimizer",
    "ProximalResult",
    "adam",
    "adamw",
    "fista",
    "gradient_descent",
    "heavy_ball",
    "nesterov",
    "proximal_gradient",
]
