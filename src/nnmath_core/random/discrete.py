"""Integers, coins and categories."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import dtype_of, shape_of
from nnmath_core.autodiff.ops.compare import less
from nnmath_core.autodiff.ops.conventions import normal_axis
from nnmath_core.autodiff.ops.elementwise import floor, log1p, remainder
from nnmath_core.autodiff.ops.plain import is_plain
from nnmath_core.autodiff.ops.reduce import argmax
from nnmath_core.autodiff.ops.shape import cast, stop_gradient
from nnmath_core.checks import sentence
from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.random.continuous import gumbel
from nnmath_core.random.draws import (
    as_parameter,
    dtype_of_draw,
    integer_words,
    require_key,
    shape_of_draw,
    uniforms,
)
from nnmath_core.random.keys import bits

__all__ = ["bernoulli", "categorical", "geometric", "rademacher", "randint"]


def randint(key: Any, shape: Any, minval: Any, maxval: Any, dtype: Any = np.int64) -> Any:
    """Integers in [minval, maxval), all equally likely.

    Parameters
    ----------
    key : array, shape (2,), uint32
    shape : int, tuple of int or None
        None is the shape of the bounds.
    minval, maxval : int or integer array
        minval < maxval, within int64.
    dtype : integer dtype, default int64

    Returns
    -------
    array, of that shape and dtype

    Raises
    ------
    DomainError
        A bound that is known is not below the other.
    DtypeError
        A bound or the dtype is no integer.

    Notes
    -----
    64 random bits modulo maxval - minval: an integer is more likely than another one by a factor of at most
    1 + (maxval - minval) / 2**64.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> die = nm.random.randint(nm.random.key(0), 100, 1, 7)
    >>> int(die.min()), int(die.max())
    (1, 6)
    """
    key = require_key("randint", key)
    for arg, x in (("minval", minval), ("maxval", maxval)):
        kind = dtype_of(x).kind if hasattr(x, "dtype") else np.asarray(x).dtype.kind
        if kind not in "iu":
            raise DtypeError(sentence("randint", arg, "an integer", f"{x!r}"))
    if np.dtype(dtype).kind not in "iu":
        raise DtypeError(sentence("randint", "dtype", "an integer dtype", str(np.dtype(dtype))))
    if is_plain(minval) and is_plain(maxval) and not np.all(np.less(minval, maxval)):
        raise DomainError(f"randint: `minval` must be below `maxval`, got {minval} and {maxval}.")
    low, high = (
        cast(x, np.int64) if hasattr(x, "dtype") else np.asarray(x, np.int64)[()]
        for x in (minval, maxval)
    )
    shape = shape_of_draw("randint", shape, low, high)
    with np.errstate(over="ignore"):  # the difference is right modulo 2**64
        span = cast(high - low, np.uint64)
        offset = cast(remainder(integer_words(key, shape), span), np.int64)
        return cast(offset + low, dtype)


def bernoulli(key: Any, p: Any = 0.5, shape: Any = None) -> Any:
    """Coins that are True with probability ``p``.

    Parameters
    ----------
    key : array, shape (2,), uint32
    p : float or array, default 0.5
        In [0, 1]; the coins carry no derivative.
    shape : int or tuple of int, optional
        None is the shape of ``p``.

    Returns
    -------
    array of bool, of that shape

    Notes
    -----
    ``u < p`` with the u of `uniform` in the dtype of ``p``: 0 is never and 1 always True.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.random.bernoulli(nm.random.key(0), 1.0, 3)
    array([ True,  True,  True])
    """
    key = require_key("bernoulli", key)
    dtype = dtype_of_draw("bernoulli", None, p)
    p = as_parameter(p, dtype)
    return less(uniforms(key, shape_of_draw("bernoulli", shape, p), dtype), p)


def rademacher(key: Any, shape: Any = (), dtype: Any = np.int64) -> Any:
    """Fair signs: 1 or -1.

    Parameters
    ----------
    key : array, shape (2,), uint32
    shape : int or tuple of int, default ()
    dtype : dtype, default int64

    Returns
    -------
    array, of that shape and dtype

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> np.unique(nm.random.rademacher(nm.random.key(0), 100))
    array([-1,  1])
    """
    low = cast(bits(require_key("rademacher", key), shape) % 2, dtype)
    return low * 2 - 1


def categorical(key: Any, logits: Any, *, axis: int = -1, shape: Any = None) -> Any:
    """Categories with probabilities proportional to exp(logits).

    Parameters
    ----------
    key : array, shape (2,), uint32
    logits : array
        Unnormalised log probabilities along ``axis``; -inf is never drawn. They carry no derivative.
    axis : int, default -1
    shape : int or tuple of int, optional
        Ends with the shape of ``logits`` without ``axis``, which None is.

    Returns
    -------
    array of int64, of that shape
        Positions along ``axis``.

    Raises
    ------
    ShapeError
        ``shape`` does not end with that of the logits.

    Notes
    -----
    The position of the largest of logits plus Gumbel numbers, of all categories for each draw.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.random.categorical(nm.random.key(0), np.log(np.array([0.0, 1.0, 0.0]) + 1e-300), shape=(3,))
    array([1, 1, 1])
    """
    key = require_key("categorical", key)
    dtype = dtype_of_draw("categorical", None, logits)
    logits = stop_gradient(as_parameter(logits, dtype))
    s = shape_of(logits)
    if not s:
        raise ShapeError("categorical: `logits` must have at least one axis, got a number.")
    axis = normal_axis("categorical", axis, len(s))
    batch = (*s[:axis], *s[axis + 1 :])
    shape = batch if shape is None else shape_of_draw("categorical", shape)
    more = shape[: len(shape) - len(batch)]
    if shape[len(more) :] != batch:
        raise ShapeError(
            sentence(
                "categorical",
                "shape",
                f"ending with {batch}, that of `logits` without the axis",
                str(shape),
            )
        )
    return argmax(gumbel(key, (*more, *s), dtype) + logits, axis - len(s))


def geometric(key: Any, p: Any, shape: Any = None, dtype: Any = np.int64) -> Any:
    """Numbers of trials up to the first success.

    Parameters
    ----------
    key : array, shape (2,), uint32
    p : float or array
        The probability of a success, in (0, 1]; the counts carry no derivative.
    shape : int or tuple of int, optional
        None is the shape of ``p``.
    dtype : integer dtype, default int64

    Returns
    -------
    array, of that shape and dtype
        At least 1.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.random.geometric(nm.random.key(0), 1.0, 3)
    array([1, 1, 1])
    """
    key = require_key("geometric", key)
    real = dtype_of_draw("geometric", None, p)
    p = as_parameter(p, real)
    p = np.asarray(p, real) if isinstance(p, (int, float)) else stop_gradient(p)
    u = uniforms(key, shape_of_draw("geometric", shape, p), real)
    with np.errstate(divide="ignore"):  # log 0 = -inf where p is 1: the first trial
        return cast(floor(log1p(-u) / log1p(-p)), dtype) + 1
