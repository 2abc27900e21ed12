"""Convolutions and pooling that are compared with PyTorch: sizes, options, and inputs from a seed.

A case is ``(function, shapes of the operands, options of ours, options of PyTorch's)``; operands have
the layout of nnmath_core. The number that is differentiated is ``sum(c * tanh(y))``.
"""

from __future__ import annotations

import zlib

import numpy as np

HEAD = 24
"""How many entries of an array are stored; of all of them, four projections."""


def _conv(
    name, size, window, ins, outs, n=2, groups=1, bias=True, *, ours=None, torch=None, **same
):
    shapes = [(n, *size, ins), (*window, ins // groups, outs)] + [(outs,)] * bias
    both = {**same, "groups": groups}
    return name, shapes, {**both, **(ours or {})}, {**both, **(torch or {})}


def _pool(name, shape, window, *, ours=None, torch=None, **same):
    mine = {"window": window, **same, **(ours or {})}
    return name, [shape], mine, {"kernel_size": window, **same, **(torch or {})}


def _adaptive(name, shape, size):
    return name, [shape], {"size": size}, {"output_size": size}


CASES = {
    "conv1d": _conv("conv", (7,), (3,), 2, 3),
    "conv1d, same": _conv("conv", (7,), (4,), 2, 3, padding="same"),
    "conv1d, strided": _conv("conv", (9,), (3,), 2, 4, n=1, stride=2, padding=1),
    "conv1d, dilated": _conv("conv", (9,), (3,), 4, 2, dilation=3, padding=2, bias=False),
    "conv1d, groups": _conv("conv", (6,), (2,), 4, 6, n=3, groups=2),
    "conv1d, depthwise": _conv("conv", (6,), (3,), 4, 4, groups=4, padding=1),
    "conv2d": _conv("conv", (6, 5), (3, 3), 2, 3),
    "conv2d, one channel": _conv("conv", (7, 7), (3, 2), 1, 4, padding=1),
    "conv2d, same": _conv("conv", (5, 6), (4, 3), 2, 3, padding="same", dilation=(1, 2)),
    "conv2d, strided": _conv("conv", (8, 7), (3, 3), 3, 2, n=1, stride=(2, 3), padding=(1, 0)),
    "conv2d, dilated": _conv("conv", (9, 9), (3, 3), 2, 2, dilation=(2, 3), padding=(2, 3)),
    "conv2d, groups": _conv("conv", (5, 5), (3, 3), 6, 4, groups=2, stride=2, padding=2),
    "conv2d, depthwise": _conv("conv", (5, 6), (3, 3), 3, 3, groups=3, padding=1, stride=2),
    "conv2d, twice as many": _conv("conv", (5, 6), (3, 3), 3, 6, groups=3, padding=1),
    "conv2d, 1 x 1": _conv("conv", (4, 5), (1, 1), 3, 5),
    "conv2d, many channels": _conv("conv", (5, 5), (3, 3), 9, 10, padding=1),
    "conv2d, fewer out": _conv("conv", (5, 5), (3, 3), 10, 3, padding=1),
    "conv3d": _conv("conv", (4, 3, 5), (2, 2, 3), 2, 3, padding=(1, 0, 1), stride=(2, 1, 1)),
    "transposed 1d": _conv("conv_transpose", (5,), (3,), 2, 3),
    "transposed 1d, strided": _conv("conv_transpose", (5,), (4,), 3, 2, n=1, stride=2, padding=1),
    "transposed 1d, larger": _conv(
        "conv_transpose", (5,), (3,), 2, 2, stride=3, padding=1, output_padding=2
    ),
    "transposed 1d, dilated": _conv(
        "conv_transpose", (5,), (3,), 2, 3, dilation=3, padding=2, output_padding=2, bias=False
    ),
    "transposed 1d, padded beyond": _conv(
        "conv_transpose", (5,), (3,), 2, 3, dilation=3, padding=1, output_padding=2
    ),
    "transposed 1d, groups": _conv("conv_transpose", (4,), (3,), 4, 6, groups=2, stride=2),
    "transposed 2d": _conv("conv_transpose", (4, 3), (3, 3), 2, 3),
    "transposed 2d, strided": _conv(
        "conv_transpose", (4, 3), (4, 3), 3, 2, n=1, stride=(2, 3), padding=(1, 0)
    ),
    "transposed 2d, larger": _conv(
        "conv_transpose", (3, 4), (3, 3), 2, 2, stride=2, padding=1, output_padding=(1, 0)
    ),
    "transposed 2d, dilated": _conv(
        "conv_transpose", (4, 4), (2, 3), 2, 3, dilation=(3, 2), padding=1
    ),
    "transposed 2d, groups": _conv(
        "conv_transpose", (3, 3), (3, 2), 6, 4, groups=2, stride=2, padding=1
    ),
    "transposed 2d, depthwise": _conv("conv_transpose", (3, 3), (3, 3), 3, 3, groups=3, stride=2),
    "transposed 2d, many channels": _conv("conv_transpose", (4, 4), (3, 3), 10, 9, padding=1),
    "transposed 2d, more out": _conv("conv_transpose", (4, 4), (3, 3), 3, 10, stride=2, padding=2),
    "max 1d": _pool("max_pool", (2, 8, 3), 2),
    "max 1d, overlapping": _pool("max_pool", (2, 9, 3), 3, stride=2, padding=1),
    "max 1d, dilated": _pool("max_pool", (1, 9, 3), 3, stride=1, dilation=2, padding=1),
    "max 1d, ceil": _pool("max_pool", (2, 8, 2), 3, stride=2, ceil_mode=True),
    "max 1d, ceil and padding": _pool(
        "max_pool", (2, 8, 2), 2, stride=3, padding=1, ceil_mode=True
    ),
    "max 2d": _pool("max_pool", (2, 6, 4, 3), 2),
    "max 2d, odd": _pool("max_pool", (2, 7, 5, 2), 2),
    "max 2d, overlapping": _pool("max_pool", (2, 7, 6, 2), (3, 2), stride=(2, 1), padding=(1, 1)),
    "max 2d, dilated": _pool("max_pool", (1, 8, 8, 2), 2, stride=2, dilation=(2, 3), padding=1),
    "max 2d, ceil": _pool("max_pool", (2, 6, 7, 2), 3, stride=2, padding=1, ceil_mode=True),
    "average 1d": _pool("avg_pool", (2, 8, 3), 2),
    "average 1d, padded": _pool("avg_pool", (2, 8, 3), 3, stride=2, padding=1),
    "average 1d, not counted": _pool(
        "avg_pool", (2, 8, 3), 3, stride=2, padding=1, count_include_pad=False
    ),
    "average 1d, ceil": _pool("avg_pool", (2, 8, 3), 3, stride=2, ceil_mode=True),
    "average 1d, ceil and padding": _pool(
        "avg_pool", (1, 9, 3), 4, stride=3, padding=2, ceil_mode=True
    ),
    "average 2d": _pool("avg_pool", (2, 6, 4, 3), 2),
    "average 2d, padded": _pool("avg_pool", (2, 6, 5, 2), (3, 2), stride=2, padding=(1, 0)),
    "average 2d, not counted": _pool(
        "avg_pool", (2, 6, 5, 2), 3, stride=(1, 2), padding=1, count_include_pad=False
    ),
    "average 2d, ceil": _pool("avg_pool", (2, 6, 7, 2), 3, stride=2, padding=1, ceil_mode=True),
    "average 2d, all of it": _pool("avg_pool", (1, 5, 4, 3), (5, 4)),
    "adaptive 1d": _adaptive("adaptive_avg_pool", (2, 7, 3), 3),
    "adaptive 1d, one": _adaptive("adaptive_avg_pool", (2, 7, 3), 1),
    "adaptive 1d, dividing": _adaptive("adaptive_avg_pool", (2, 8, 3), 4),
    "adaptive 1d, all": _adaptive("adaptive_avg_pool", (1, 5, 3), 5),
    "adaptive 1d, more": _adaptive("adaptive_avg_pool", (2, 4, 3), 6),
    "adaptive 2d": _adaptive("adaptive_avg_pool", (2, 7, 5, 2), (3, 2)),
    "adaptive 2d, square": _adaptive("adaptive_avg_pool", (2, 5, 6, 2), 2),
    "adaptive 2d, one": _adaptive("adaptive_avg_pool", (2, 5, 6, 2), 1),
    "adaptive 2d, dividing": _adaptive("adaptive_avg_pool", (1, 6, 4, 2), (3, 2)),
    "adaptive 2d, more": _adaptive("adaptive_avg_pool", (2, 3, 2, 2), (5, 3)),
}


def inputs(name):
    """Return the operands of a case and a direction in their space."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    shapes = CASES[name][1]
    return [rng.standard_normal(s) for s in shapes], [rng.standard_normal(s) for s in shapes]


def weights(shape):
    """Return the weights c of the number that is differentiated."""
    return np.cos(np.arange(np.prod(shape, dtype=int)) + 0.5).reshape(shape)


def digest(x):
    """Return the first entries of an array and four projections of all of them."""
    flat = np.ravel(x)
    directions = np.sin(np.outer(np.arange(1, 5), np.arange(flat.size) + 1.0))
    return np.concatenate([flat[:HEAD], directions @ flat])
