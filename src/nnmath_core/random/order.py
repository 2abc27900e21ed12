"""Shuffling and choosing."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import dtype_of, shape_of
from nnmath_core.autodiff.ops.conventions import as_operand, beside, normal_axis
from nnmath_core.autodiff.ops.counting import searchsorted
from nnmath_core.autodiff.ops.elementwise import log
from nnmath_core.autodiff.ops.index import argsort, take, take_along_axis
from nnmath_core.autodiff.ops.plain import is_plain
from nnmath_core.autodiff.ops.reduce import cumsum
from nnmath_core.autodiff.ops.select import maximum, minimum
from nnmath_core.autodiff.ops.shape import cast, reshape_p, stop_gradient
from nnmath_core.checks import sentence
from nnmath_core.device import entering
from nnmath_core.errors import DomainError, ShapeError
from nnmath_core.random.continuous import gumbel
from nnmath_core.random.discrete import randint
from nnmath_core.random.domains import Domain, require_parameter
from nnmath_core.random.draws import integer_words, require_key, shape_of_draw, uniforms

_WEIGHTS = Domain("finite and at least 0", lambda p: ~(np.isfinite(p) & np.greater_equal(p, 0)))

__all__ = ["choice", "permutation"]


def _positions(key: Any, x: Any) -> Any:
    """What an integer stands for: the positions below it, on the device of the key."""
    if hasattr(x, "dtype") and shape_of(x) != ():
        return x
    return beside(key, np.arange(operator.index(x)))


@entering
def permutation(key: Any, x: Any, *, axis: int = 0, independent: bool = False) -> Any:
    """Shuffle an array along an axis, or the numbers below an integer.

    Parameters
    ----------
    key : array, shape (2,), uint32
    x : int or array
        Differentiable, as entries that are taken.
    axis : int, default 0
    independent : bool, default False
        Shuffle each line along the axis by itself, instead of whole slices.

    Returns
    -------
    array, like ``x``

    Notes
    -----
    The order of random integers of 64 bits, one an entry. Two of n are equal with probability below n**2 / 2**65; then
    these two stay in order.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> np.sort(nm.random.permutation(nm.random.key(0), 5))
    array([0, 1, 2, 3, 4])
    """
    key = require_key("permutation", key)
    x = _positions(key, as_operand(x))
    axis = normal_axis("permutation", axis, len(shape_of(x)))
    if independent:
        return take_along_axis(x, argsort(integer_words(key, shape_of(x)), axis=axis), axis)
    return take(x, argsort(integer_words(key, (shape_of(x)[axis],))), axis)


@entering
def choice(
    key: Any,
    a: Any,
    shape: Any = (),
    *,
    replace: bool = True,
    p: Any = None,
    axis: int = 0,
) -> Any:
    """Choose entries of an array along an axis, or numbers below an integer.

    Parameters
    ----------
    key : array, shape (2,), uint32
    a : int or array
        Differentiable, as entries that are taken.
    shape : int or tuple of int, default ()
    replace : bool, default True
        Whether an entry may be chosen again.
    p : array, shape (n,), optional
        Weights >= 0, which need not sum to 1; None: all alike. Of traced ones those below 0 count as 0. They carry no
        derivative.
    axis : int, default 0

    Returns
    -------
    array
        ``shape`` stands in place of the axis.

    Raises
    ------
    DomainError
        More entries are asked for than there are, without replacement; or there is none; or known weights are below
        0 or no numbers, or too few are above 0.
    ShapeError
        ``p`` has another shape.

    Notes
    -----
    With replacement the inverse of the cumulative weights; without, the order of log p plus Gumbel numbers, which is
    drawing one after the other.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.random.choice(nm.random.key(0), np.array([10.0, 20.0]), 3, p=np.array([0.0, 1.0]))
    array([20., 20., 20.])
    """
    key = require_key("choice", key)
    a = _positions(key, as_operand(a))
    axis = normal_axis("choice", axis, len(shape_of(a)))
    n, shape = shape_of(a)[axis], shape_of_draw("choice", shape)
    count = math.prod(shape)
    if n == 0 or (count > n and not replace):
        raise DomainError(
            f"choice: `a` must have entries to choose, {count} without replacement, got {n} and shape {shape}."
        )
    if p is not None:
        require_parameter("choice", "p", p, _WEIGHTS)
        p = as_operand(p)
        if shape_of(p) != (n,):
            raise ShapeError(f"choice: `p` must have shape ({n},), got {shape_of(p)}.")
        p = stop_gradient(p if dtype_of(p).kind == "f" else cast(p, np.float64))
        if not is_plain(p):
            p = maximum(p, 0.0)
        elif np.count_nonzero(p) < (bool(count) if replace else count):
            wanted = "above 0 somewhere" if replace else f"above 0 for {count} entries at least"
            raise DomainError(
                sentence("choice", "p", wanted, f"{np.count_nonzero(p)} such weights")
            )
    if replace and p is None:
        at = randint(key, (count,), 0, n)
    elif replace:
        reach = cumsum(p, 0)
        u = uniforms(key, (count,), dtype_of(p)) * reach[-1]
        at = minimum(searchsorted(reach, u, side="right"), n - 1)
    elif p is None:
        at = argsort(integer_words(key, (n,)))[:count]
    else:
        with np.errstate(divide="ignore"):  # a weight of 0 comes last
            at = argsort(-(gumbel(key, (n,), dtype_of(p)) + log(p)))[:count]
    return take(a, reshape_p(at, shape=shape) if shape != () else at[0], axis)
