"""Which layers read flattened images: PyTorch's rows are in the order (c, h, w), ours in the order (h, w, c).

The layers of a model are followed in order. Of what `Flatten` flattens only the number of channels matters: with it and
the length of the rows both orders are known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from nnmath_core.checks import describe, sentence
from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.nn.affine import require_lengths
from nnmath_core.nn.batch_norm import BatchNorm
from nnmath_core.nn.convolution import Conv1d, Conv2d
from nnmath_core.nn.dense import Dense
from nnmath_core.nn.dropout import Dropout
from nnmath_core.nn.flatten import Flatten
from nnmath_core.nn.group_norm import GroupNorm, InstanceNorm
from nnmath_core.nn.layer_norm import LayerNorm, RMSNorm
from nnmath_core.nn.pooling_layers import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    GlobalAvgPool,
    MaxPool1d,
    MaxPool2d,
)
from nnmath_core.nn.state import dotted
from nnmath_core.nn.transposed_convolution import ConvTranspose1d, ConvTranspose2d
from nnmath_core.nn.weight_norm import WeightNorm
from nnmath_core.typing import Array

__all__ = ["channels_first", "channels_last", "flattened_images"]

_KERNELS = (Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d)
_NORMS = (BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm)
_POOLS = (MaxPool1d, MaxPool2d, AvgPool1d, AvgPool2d, AdaptiveAvgPool1d, AdaptiveAvgPool2d, Dropout)
_SAME = "relu elu selu gelu silu mish tanh sigmoid log_sigmoid softplus leaky_relu relu6".split()
_SAME += ["hard_sigmoid", "hard_swish", "hard_tanh"]
"""Functions of this package that leave channels where they are; of NumPy the ufuncs do."""


def flattened_images(who: str, steps: list[tuple[str, Any]], image_shape: Any) -> dict[str, int]:
    """Return path of a layer -> channels of the images whose flattened numbers it reads.

    ``steps`` are the layers and functions of a model in order, each with its path; a layer of unknown make stands for
    the end of what is known.

    Raises
    ------
    DomainError
        The channels are not known, or ``image_shape`` is given and nothing reads flattened images.
    ShapeError, DtypeError
        ``image_shape`` does not fit a layer, or is no shape.
    """
    everywhere, at = _given(who, image_shape)
    found: dict[str, int] = {}
    channels: int | None = (
        None  # PyTorch's first axis behind the examples, None if not known; 0: the features are last
    )
    image = 0  # the last number of channels that was known; 0: no images have been seen
    flat, unused = False, everywhere is not None
    for path, layer in steps:
        inner = layer.layer if isinstance(layer, WeightNorm) else layer
        features = _features(inner)
        if isinstance(inner, Flatten):
            flat = True
        elif isinstance(inner, _KERNELS):
            channels, flat = int(inner.weight.shape[-1]), False
            image = channels
        elif isinstance(inner, GlobalAvgPool):
            channels = image = 0
        elif isinstance(inner, _POOLS) or _leaves_channels(inner):
            pass
        elif features is not None:
            dense = isinstance(inner, Dense)
            shape = at.pop(dotted(path), None)
            reads = flat and channels != 0
            if dense and not flat and channels != 0 and image and features != image:
                reads = True  # flattened by what is not among the layers
            if shape is None and reads and everywhere is not None:
                shape, unused = everywhere, False
            if shape is not None:
                if math.prod(shape) != features:
                    wanted = f"the shape of {features} numbers, which `model{path}` reads"
                    raise ShapeError(sentence(who, "image_shape", wanted, str(shape)))
                found[path] = shape[-1]
            elif reads:
                if not flat or not channels or features % channels:
                    raise DomainError(
                        f"{who}: `model{path}` reads rows of {features} numbers, which were flattened, (c, h, w) in "
                        "PyTorch and (h, w, c) here. Say their shape: `image_shape=(h, w, c)`."
                    )
                found[path] = channels
            if dense:
                channels, image, flat = 0, 0, False
            elif not flat:
                channels = _behind_norm(inner, features, channels)
                image = channels or image
        elif _is_unknown(inner):
            channels, flat = None, False
        else:
            channels, image, flat = 0, 0, False
    if at or unused:
        what = f"`{next(iter(at))}` of the model reads no" if at else "no layer of the model reads"
        raise DomainError(f"{who}: `image_shape` is given, and {what} flattened images.")
    return found


def _given(who: str, image_shape: Any) -> tuple[tuple[int, ...] | None, dict[str, tuple[int, ...]]]:
    if image_shape is None:
        return None, {}
    if isinstance(image_shape, Mapping):
        pairs = image_shape.items()
        if not all(isinstance(path, str) for path in image_shape):
            wanted = "a shape, or a mapping of paths to shapes"
            raise DtypeError(sentence(who, "image_shape", wanted, describe(image_shape)))
        return None, {dotted(p): require_lengths(who, "image_shape", n) for p, n in pairs}
    return require_lengths(who, "image_shape", image_shape), {}


def _features(layer: Any) -> int | None:
    """Return how many numbers a dense layer or a normalisation of rows reads."""
    if isinstance(layer, Dense):
        return int(layer.weight.shape[0])
    if not isinstance(layer, _NORMS):
        return None
    if isinstance(layer, BatchNorm):
        return int(layer.mean.shape[0])
    return layer.channels if isinstance(layer, GroupNorm | InstanceNorm) else layer.shape[-1]


def _behind_norm(norm: Any, features: int, channels: int | None) -> int | None:
    """Return the channels behind a normalisation that is not of flattened images."""
    if isinstance(norm, LayerNorm | RMSNorm) and len(norm.shape) < 3:
        # PyTorch normalises its last axis, which are not the channels: rows, or images whose axes were moved
        return 0 if not channels else None
    return features if channels is None else channels


def _leaves_channels(layer: Any) -> bool:
    if isinstance(layer, np.ufunc):
        return True
    home = str(getattr(layer, "__module__", ""))
    return home.startswith("nnmath_core.") and getattr(layer, "__name__", "") in _SAME


def _is_unknown(layer: Any) -> bool:
    return not type(layer).__module__.startswith("nnmath_core.")


def channels_last(x: Array, channels: int) -> Array:
    """Return the rows of a weight, of numbers in the order (c, h, w), in the order (h, w, c)."""
    split = x.reshape(channels, x.shape[0] // channels, *x.shape[1:])
    return np.swapaxes(split, 0, 1).reshape(x.shape)


def channels_first(x: Array, channels: int) -> Array:
    """Return the rows of a weight, of numbers in the order (h, w, c), in the order (c, h, w)."""
    split = x.reshape(x.shape[0] // channels, channels, *x.shape[1:])
    return np.swapaxes(split, 0, 1).reshape(x.shape)
