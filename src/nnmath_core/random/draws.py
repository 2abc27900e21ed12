"""What all distributions share: the shape and dtype of a draw, and the two kinds of numbers that they are made of."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Tracer, dtype_of, shape_of, value_of
from nnmath_core.autodiff.ops.random import random_normal_p, random_uniform_p, random_words_p
from nnmath_core.autodiff.ops.select import maximum
from nnmath_core.autodiff.ops.shape import cast, reshape_p
from nnmath_core.checks import describe, sentence
from nnmath_core.device import backend_of
from nnmath_core.errors import DtypeError, ShapeError

__all__ = [
    "as_parameter",
    "dtype_of_draw",
    "integer_words",
    "normals",
    "open_uniforms",
    "require_key",
    "shape_of_draw",
    "uniforms",
]

_MANY = "Of several keys, as `split` makes them, take one, or write nm.vmap(f)(keys)."


def require_key(who: str, key: Any, beside: Any = None) -> Any:
    """Refuse what is not one key, and a key on another device than the array ``beside`` that it is for."""
    if getattr(key, "dtype", None) is None or dtype_of(key) != np.uint32:
        raise DtypeError(sentence(who, "key", "made by nm.random.key", describe(key)))
    if shape_of(key) != (2,):
        raise ShapeError(sentence(who, "key", "of shape (2,)", str(shape_of(key)), _MANY))
    here, there = value_of(key), value_of(beside)
    if beside is not None and not isinstance(here, Tracer) and not isinstance(there, Tracer):
        backend_of(there, here, who=who, names=("x", "key"))
    return key


def shape_of_draw(who: str, shape: Any, *parameters: Any) -> tuple[int, ...]:
    """The shape as a tuple; None is that of the parameters, which must broadcast to it."""
    spread: tuple[int, ...] = np.broadcast_shapes(*map(shape_of, parameters))
    if shape is None:
        return spread
    given = shape if isinstance(shape, (tuple, list)) else (shape,)
    lengths = tuple(operator.index(n) for n in given)
    if any(n < 0 for n in lengths):
        raise ShapeError(sentence(who, "shape", "of lengths >= 0", str(lengths)))
    try:
        fits = np.broadcast_shapes(lengths, spread) == lengths
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(
            sentence(
                who,
                "shape",
                f"one to which the parameters' shape {spread} broadcasts",
                str(lengths),
            )
        )
    return lengths


def dtype_of_draw(who: str, dtype: Any, *parameters: Any) -> np.dtype[Any]:
    """Float32 or float64: what is asked for, or that of the parameters; float64 for plain numbers."""
    if dtype is None:
        kinds = [dtype_of(p) for p in parameters if hasattr(p, "dtype")]
        floats = [d for d in kinds if d.kind == "f"]
        dtype = np.result_type(*floats) if floats else np.float64
    found: np.dtype[Any] = np.dtype(dtype)
    if found not in (np.float32, np.float64):
        raise DtypeError(sentence(who, "dtype", "float32 or float64", str(found)))
    return found


def as_parameter(x: Any, dtype: Any) -> Any:
    """A parameter of a distribution in the dtype of the draw; plain numbers stay as they are."""
    if isinstance(x, (list, tuple)):
        x = np.asarray(x)
    return cast(x, dtype) if hasattr(x, "dtype") else x


def _shaped(x: Any, shape: tuple[int, ...]) -> Any:
    return x[0] if shape == () else reshape_p(x, shape=shape)


def integer_words(key: Any, shape: tuple[int, ...]) -> Any:
    """Integers of 64 bits, uint64, of two words each."""
    n = math.prod(shape)
    w = reshape_p(random_words_p(key, count=2 * n, purpose=0), shape=(n, 2))
    low, high = (cast(w[:, i], np.uint64) for i in (0, 1))
    return _shaped(high * 2**32 + low, shape)


def uniforms(key: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Uniform numbers in [0, 1)."""
    u = random_uniform_p(key, count=math.prod(shape), dtype=np.dtype(dtype))
    return _shaped(u, shape)


def open_uniforms(key: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Uniform numbers in (0, 1): in place of 0 the smallest normal number."""
    return maximum(uniforms(key, shape, dtype), float(np.finfo(dtype).tiny))


def normals(key: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Standard normal numbers."""
    z = random_normal_p(key, count=math.prod(shape), dtype=np.dtype(dtype))
    return _shaped(z, shape)
