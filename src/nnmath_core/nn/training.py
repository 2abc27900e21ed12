"""What layers made of layers need: training, where it differs, and what may be a layer at all."""

from __future__ import annotations

import functools
import types
from typing import Any

import numpy as np

from nnmath_core._ext._tree import flatten
from nnmath_core.autodiff.primitive import Primitive
from nnmath_core.checks import describe, require_callable, sentence
from nnmath_core.errors import DtypeError
from nnmath_core.random import fold_in

__all__ = [
    "is_function",
    "key_of",
    "require_activation",
    "require_layer",
    "show_layer",
    "train_layer",
]

_FUNCTIONS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    functools.partial,
    np.ufunc,
    Primitive,
)


def train_layer(layer: Any, x: Any, key: Any = None, **options: Any) -> tuple[Any, Any]:
    """Return the output of a layer in training, and the layer with its new statistics.

    A layer without ``train`` is the same in training. ``options`` are handed on (a mask).
    """
    if hasattr(layer, "train"):
        y, new = layer.train(x, key=key, **options)
        return y, new
    return layer(x, **options), layer


def key_of(key: Any, number: int) -> Any:
    """Return the key of the part ``number`` of a layer; no key has none."""
    return None if key is None else fold_in(key, number)


def is_function(layer: Any) -> bool:
    """Whether a layer is a function without arrays of its own."""
    return isinstance(layer, _FUNCTIONS)


def require_layer(who: str, arg: str, layer: Any) -> None:
    """Refuse what cannot be called, and an object whose arrays no transformation would see.

    Raises
    ------
    DtypeError
        Either of the two.
    """
    wanted = "a layer (a dataclass that can be called) or a function of one array"
    if not callable(layer) or isinstance(layer, type):
        raise DtypeError(sentence(who, arg, wanted, describe(layer)))
    if is_function(layer):
        return
    leaves = flatten(layer)[0]
    if len(leaves) == 1 and leaves[0] is layer:
        advice = "Its arrays would not be differentiated: make its class a dataclass."
        raise DtypeError(sentence(who, arg, wanted, f"an object of {type(layer).__name__}", advice))


def require_activation(who: str, activation: Any) -> None:
    """Refuse what cannot be called, and a layer that is another one in training: nobody would train it there.

    Raises
    ------
    DtypeError, DomainError
        Either of the two.
    """
    require_callable(who, "activation", activation)
    if hasattr(activation, "train"):
        wanted = "the same in training and evaluation"
        advice = "Put it between layers: `Sequential`."
        raise DtypeError(sentence(who, "activation", wanted, describe(activation), advice))


def show_layer(layer: Any) -> str:
    """Return a layer as it prints, a function by its name."""
    return describe(layer) if is_function(layer) else repr(layer)
