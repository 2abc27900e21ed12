"""Layers as frozen dataclasses whose arrays are leaves, activations, losses and initialisers."""

from nnmath_core.io.torch_archive import read_torch
from nnmath_core.nn.activations import gelu, log_sigmoid, mish, relu, sigmoid, silu, softplus, tanh
from nnmath_core.nn.attention import attention, attention_weights
from nnmath_core.nn.batch_norm import BatchNorm, batch_norm
from nnmath_core.nn.bernoulli import binary_cross_entropy
from nnmath_core.nn.cells import GRUCell, LSTMCell, RNNCell
from nnmath_core.nn.convolution import Conv1d, Conv2d, conv
from nnmath_core.nn.cross_entropy import softmax_cross_entropy
from nnmath_core.nn.crps import crps_gaussian
from nnmath_core.nn.ctc import ctc
from nnmath_core.nn.dense import Dense
from nnmath_core.nn.distillation import distillation
from nnmath_core.nn.dropout import Dropout, dropout
from nnmath_core.nn.embedding import Embedding, PositionEmbedding, positional_encoding, rotary
from nnmath_core.nn.explain import LossExplanation, explain_loss
from nnmath_core.nn.flatten import Flatten
from nnmath_core.nn.gain import Gain, gain
from nnmath_core.nn.gaussian import gaussian_nll
from nnmath_core.nn.group_norm import GroupNorm, InstanceNorm, group_norm, instance_norm
from nnmath_core.nn.hinge_loss import hinge
from nnmath_core.nn.huber_loss import huber
from nnmath_core.nn.info_nce import info_nce
from nnmath_core.nn.initializers import (
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    torch_default,
)
from nnmath_core.nn.laplace import laplace_nll
from nnmath_core.nn.layer_norm import LayerNorm, RMSNorm, layer_norm, rms_norm
from nnmath_core.nn.loss import Likelihood, Loss
from nnmath_core.nn.lsuv import LSUV, lsuv
from nnmath_core.nn.mean_field import CriticalPoint, MeanField, critical_point, mean_field
from nnmath_core.nn.mlp import MLP
from nnmath_core.nn.multihead import MultiHeadAttention
from nnmath_core.nn.operator_norm import OperatorNorm, conv_operator_norm
from nnmath_core.nn.orthogonal import delta_orthogonal, orthogonal
from nnmath_core.nn.poisson import poisson_nll
from nnmath_core.nn.pooling import adaptive_avg_pool, avg_pool, global_avg_pool, max_pool
from nnmath_core.nn.pooling_layers import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    GlobalAvgPool,
    MaxPool1d,
    MaxPool2d,
)
from nnmath_core.nn.propagation import VariancePropagation, variance_propagation
from nnmath_core.nn.quantile_loss import quantile
from nnmath_core.nn.rectifiers import (
    elu,
    hard_sigmoid,
    hard_swish,
    hard_tanh,
    leaky_relu,
    relu6,
    selu,
)
from nnmath_core.nn.recurrent import GRU, LSTM, RNN
from nnmath_core.nn.regularizers import Regularizer, elastic_net, l1, l2
from nnmath_core.nn.residual import Residual
from nnmath_core.nn.sequential import Sequential
from nnmath_core.nn.softmax import glu, log_softmax, softmax
from nnmath_core.nn.spectral_norm import SpectralNorm
from nnmath_core.nn.squared_error import mean_squared_error
from nnmath_core.nn.state import load_state, save_state
from nnmath_core.nn.student_t import student_t_nll
from nnmath_core.nn.torch_state import from_torch, to_torch
from nnmath_core.nn.transformer import TransformerBlock
from nnmath_core.nn.transposed_convolution import ConvTranspose1d, ConvTranspose2d, conv_transpose
from nnmath_core.nn.unroll import unroll
from nnmath_core.nn.unscaled import constant, normal, truncated_normal, uniform, zeros
from nnmath_core.nn.variance_scaling import VarianceScaling, variance_scaling
from nnmath_core.nn.weight_norm import WeightNorm, weight_norm
from nnmath_core.nn.whitening import WhiteningNorm, whiten

__all__ = [
    "GRU",
    "LSTM",
    "LSUV",
    "MLP",
    "RNN",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "CriticalPoint",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GRUCell",
    "Gain",
    "GlobalAvgPool",
    "GroupNorm",
    "InstanceNorm",
    "LSTMCell",
    "LayerNorm",
    "Likelihood",
    "Loss",
    "LossExplanation",
    "MaxPool1d",
    "MaxPool2d",
    "MeanField",
    "MultiHeadAttention",
    "OperatorNorm",
    "PositionEmbedding",
    "RMSNorm",
    "RNNCell",
    "Regularizer",
    "Residual",
    "Sequential",
    "SpectralNorm",
    "TransformerBlock",
    "VariancePropagation",
    "VarianceScaling",
    "WeightNorm",
    "WhiteningNorm",
    "adaptive_avg_pool",
    "attention",
    "attention_weights",
    "avg_pool",
    "batch_norm",
    "binary_cross_entropy",
    "constant",
    "conv",
    "conv_operator_norm",
    "conv_transpose",
    "critical_point",
    "crps_gaussian",
    "ctc",
    "delta_orthogonal",
    "distillation",
    "dropout",
    "elastic_net",
    "elu",
    "explain_loss",
    "from_torch",
    "gain",
    "gaussian_nll",
    "gelu",
    "global_avg_pool",
    "glorot_normal",
    "glorot_uniform",
    "glu",
    "group_norm",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "he_normal",
    "he_uniform",
    "hinge",
    "huber",
    "info_nce",
    "instance_norm",
    "l1",
    "l2",
    "laplace_nll",
    "layer_norm",
    "leaky_relu",
    "lecun_normal",
    "lecun_uniform",
    "load_state",
    "log_sigmoid",
    "log_softmax",
    "lsuv",
    "max_pool",
    "mean_field",
    "mean_squared_error",
    "mish",
    "normal",
    "orthogonal",
    "poisson_nll",
    "positional_encoding",
    "quantile",
    "read_torch",
    "relu",
    "relu6",
    "rms_norm",
    "rotary",
    "save_state",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
    "student_t_nll",
    "tanh",
    "to_torch",
    "torch_default",
    "truncated_normal",
    "uniform",
    "unroll",
    "variance_propagation",
    "variance_scaling",
    "weight_norm",
    "whiten",
    "zeros",
]
