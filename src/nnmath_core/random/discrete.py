"""Integers, coins and categories."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import dtype_of, shape_of
from nnmath_core.autodiff.ops.compare import greater, less, less_equal, logical_and
from nnmath_core.autodiff.ops.conventions import normal_axis
from nnmath_core.autodiff.ops.elementwise import floor, log1p, remainder
from nnmath_core.autodiff.ops.plain import is_plain
from nnmath_core.autodiff.ops.reduce import argmax
from nnmath_core.autodiff.ops.select import minimum, where
from nnmath_core.autodiff.ops.shape import cast, stop_gradient
from nnmath_core.checks import sentence
from nnmath_core.device import entering
from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.random.continuous import gumbel
from nnmath_core.random.domains import PROBABILITY, REAL, Domain, require_parameter
from nnmath_core.random.draws import (
    as_parameter,
    dtype_of_draw,
    integer_words,
    require_key,
    shape_of_draw,
    uniforms,
)
from nnmath_core.random.keys import bits

_SUCCESS = Domain("in (0, 1]", lambda p: ~(np.greater(p, 0) & np.less_equal(p, 1)))

__all__ = ["bernoulli", "categorical", "geometric", "rademacher", "randint"]


@entering
def randint(key: Any, shape: Any, minval: Any, maxval: Any, dtype: Any = np.int64) -> Any:
    """Integers in [minval, maxval), all equally likely.

    Parameters
    ----------
    key : array, shape (2,), uint32
    shape : int, tuple of int or None
        None is the shape of the bounds.
    minval, maxval : int or integer array
        minval < maxval, within int64 and the dtype; of traced bounds that are not the integer is minval.
    dtype : integer dtype, default int64

    Returns
    -------
    array, of that shape and dtype

    Raises
    ------
    DomainError
        A bound that is known is not below the other, or an integer would not fit into the dtype.
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
    for arg, x, past in (("minval", minval, 0), ("maxval", maxval, 1)):
        _require_within(arg, x, np.dtype(dtype), past)
    low, high = (
        cast(x, np.int64) if hasattr(x, "dtype") else np.asarray(x, np.int64)[()]
        for x in (minval, maxval)
    )
    shape = shape_of_draw("randint", shape, low, high)
    with np.errstate(over="ignore"):  # the difference is right modulo 2**64
        span = cast(high - low, np.uint64)
        if not (is_plain(minval) and is_plain(maxval)):
            span = where(less(low, high), span, np.uint64(1))
        offset = cast(remainder(integer_words(key, shape), span), np.int64)
        return cast(offset + low, dtype)


def _require_within(arg: str, x: Any, dtype: np.dtype[Any], past: int) -> None:
    """Refuse plain bounds of integers which int64 or the dtype cannot hold; one may be one past its last."""
    if not is_plain(x) or not np.size(x):
        return
    least, most = (np.iinfo(d) for d in (np.int64, dtype))
    lowest, highest = max(least.min, most.min), min(least.max, most.max + past)
    for bound in (int(np.min(x)), int(np.max(x))):
        if not lowest <= bound <= highest:
            wanted = f"between {lowest} and {highest} for integers of {dtype}"
            raise DomainError(sentence("randint", arg, wanted, str(bound)))


def bernoulli(key: Any, p: Any = 0.5, shape: Any = None) -> Any:
    """Coins that are True with probability ``p``.

    Parameters
    ----------
    key : array, shape (2,), uint32
    p : float or array, default 0.5
        In [0, 1]; of a traced one below 0 or NaN a coin is never, above 1 it is always True. The coins carry no
        derivative.
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
    require_parameter("bernoulli", "p", p, PROBABILITY)
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
        Of numbers that have a sign.

    Returns
    -------
    array, of that shape and dtype

    Raises
    ------
    DtypeError
        The dtype has no -1.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> np.unique(nm.random.rademacher(nm.random.key(0), 100))
    array([-1,  1])
    """
    key = require_key("rademacher", key)
    if np.dtype(dtype).kind not in "ifc":
        raise DtypeError(sentence("rademacher", "dtype", "one that has -1", str(np.dtype(dtype))))
    low = cast(bits(key, shape) % 2, dtype)
    return low * 2 - 1


@entering
def categorical(key: Any, logits: Any, *, axis: int = -1, shape: Any = None) -> Any:
    """Categories with probabilities proportional to exp(logits).

    Parameters
    ----------
    key : array, shape (2,), uint32
    logits : array
        Unnormalised log probabilities along ``axis``; -inf is never drawn. Of traced ones the first NaN is drawn, and
        the first where all are -inf. They carry no derivative.
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
    DomainError
        Logits that are known have NaN or inf among them, or all of a row are -inf.

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
    require_parameter("categorical", "logits", logits, REAL)
    dtype = dtype_of_draw("categorical", None, logits)
    logits = stop_gradient(as_parameter(logits, dtype))
    s = shape_of(logits)
    if not s:
        raise ShapeError("categorical: `logits` must have at least one axis, got a number.")
    axis = normal_axis("categorical", axis, len(s))
    if is_plain(logits):
        _require_logits(logits, axis)
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


def _require_logits(logits: Any, axis: int) -> None:
    if not np.all(np.less(logits, np.inf)):  # nor is NaN
        raise DomainError(sentence("categorical", "logits", "below inf", "inf or NaN among them"))
    if not np.all(np.any(np.greater(logits, -np.inf), axis=axis)):
        wanted = f"above -inf somewhere along axis {axis}"
        raise DomainError(sentence("categorical", "logits", wanted, "-inf alone"))


@entering
def geometric(key: Any, p: Any, shape: Any = None, dtype: Any = np.int64) -> Any:
    """Numbers of trials up to the first success.

    Parameters
    ----------
    key : array, shape (2,), uint32
    p : float or array
        The probability of a success, in (0, 1]; of a traced one that is not the count is 0. The counts carry no
        derivative.
    shape : int or tuple of int, optional
        None is the shape of ``p``.
    dtype : integer dtype, default int64

    Returns
    -------
    array, of that shape and dtype
        At least 1, and no more than the dtype's largest number.

    Raises
    ------
    DomainError
        A p that is known is not in (0, 1].

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.random.geometric(nm.random.key(0), 1.0, 3)
    array([1, 1, 1])
    """
    key = require_key("geometric", key)
    require_parameter("geometric", "p", p, _SUCCESS)
    if np.dtype(dtype).kind not in "iu":
        raise DtypeError(sentence("geometric", "dtype", "an integer dtype", str(np.dtype(dtype))))
    real = dtype_of_draw("geometric", None, p)
    p = as_parameter(p, real)
    p = np.asarray(p, real) if isinstance(p, (int, float)) else stop_gradient(p)
    u = uniforms(key, shape_of_draw("geometric", shape, p), real)
    good = is_plain(p) or logical_and(greater(p, 0), less_equal(p, 1))
    p = p if good is True else where(good, p, 1.0)
    # the largest number below the dtype's last one that the counts have while they are floating
    most = float(np.nextafter(real.type(np.iinfo(dtype).max), real.type(0)))
    with np.errstate(divide="ignore"):  # log 0 = -inf where p is 1: the first trial
        count = cast(minimum(floor(log1p(-u) / log1p(-p)), most), dtype) + 1
    return count if good is True else where(good, count, 0)
