"""Layers as frozen dataclasses whose arrays are leaves, activations, losses and initialisers."""

from nnmath_core.nn.activations import gelu, relu, tanh
from nnmath_core.nn.cross_entropy import binary_cross_entropy, softmax_cross_entropy
from nnmath_core.nn.dense import Dense
from nnmath_core.nn.initializers import glorot_normal, glorot_uniform, he_normal, he_uniform
from nnmath_core.nn.mlp import MLP
from nnmath_core.nn.squared_error import mean_squared_error

__all__ = [
    "MLP",
    "Dense",
    "binary_cross_entropy",
    "gelu",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "mean_squared_error",
    "relu",
    "softmax_cross_entropy",
    "tanh",
]
