"""Keys: where random numbers come from, and how one becomes many."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import dtype_of, shape_of
from nnmath_core.autodiff.ops.conventions import beside, is_traced
from nnmath_core.autodiff.ops.join import stack
from nnmath_core.autodiff.ops.random import philox_p, random_words_p
from nnmath_core.autodiff.ops.shape import cast, reshape_p
from nnmath_core.checks import describe, require_in, sentence
from nnmath_core.device import backend_for, current_default_device
from nnmath_core.errors import DomainError, DtypeError
from nnmath_core.random.draws import integer_words, require_key, shape_of_draw

__all__ = ["bits", "fold_in", "key", "split"]

# The last word of the counter: numbers and keys that come from one key never share a block.
_SPLIT, _FOLD = 1, 2


def key(seed: int) -> Any:
    """Make a key from a seed.

    Parameters
    ----------
    seed : int
        At least -2**63 and below 2**64; taken modulo 2**64. Different seeds are different keys.

    Returns
    -------
    array, shape (2,), uint32
        On the default device: a plain array, which is passed, stored, batched and staged as one.

    Raises
    ------
    DtypeError
        ``seed`` is no integer.
    DomainError
        It is out of range.

    Notes
    -----
    The two words are the low and the high half of the seed, the key of Philox4x32-10.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.random.key(2**32 + 7)
    array([7, 1], dtype=uint32)
    """
    if isinstance(seed, (bool, np.bool_)) or not isinstance(seed, (int, np.integer)):
        raise DtypeError(sentence("key", "seed", "an integer", describe(seed)))
    n = int(seed)
    if not -(2**63) <= n < 2**64:
        raise DomainError(sentence("key", "seed", "in [-2**63, 2**64)", str(n)))
    n %= 2**64
    words = np.array([n % 2**32, n >> 32], np.uint32)
    return backend_for(current_default_device()).from_host(words)


def split(key: Any, num: int | tuple[int, ...] = 2) -> Any:
    """Make several keys from one; do not use the one again.

    Parameters
    ----------
    key : array, shape (2,), uint32
    num : int or tuple of int, default 2

    Returns
    -------
    array, shape (num, 2) or ``(*num, 2)``, uint32

    Notes
    -----
    The first keys of a longer split are those of a shorter one. Two keys of 64 bits each are equal by chance once among
    2**32 or so.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> first, second = nm.random.split(nm.random.key(0))
    >>> nm.random.split(nm.random.key(0), 3).shape
    (3, 2)
    """
    key = require_key("split", key)
    shape = shape_of_draw("split", num)
    words = random_words_p(key, count=2 * math.prod(shape), purpose=_SPLIT)
    return reshape_p(words, shape=(*shape, 2))


def fold_in(key: Any, data: Any) -> Any:
    """Make a key from a key and an integer, such as the number of a step or of a layer.

    Parameters
    ----------
    key : array, shape (2,), uint32
    data : int or integer array, shape ()
        Taken modulo 2**64; it may be traced.

    Returns
    -------
    array, shape (2,), uint32

    Raises
    ------
    DtypeError
        ``data`` is no integer.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> key = nm.random.key(0)
    >>> keys = [nm.random.fold_in(key, step) for step in range(3)]
    """
    key = require_key("fold_in", key)
    is_array = hasattr(data, "dtype") and dtype_of(data).kind in "iu" and shape_of(data) == ()
    if not is_array and (isinstance(data, bool) or not isinstance(data, int)):
        raise DtypeError(sentence("fold_in", "data", "an integer", describe(data)))
    if is_traced(data):
        wide = cast(data, np.uint64)
        parts = [cast(part, np.uint32) for part in (wide % 2**32, wide // 2**32)]
        rest = [beside(key, np.array(word, np.uint32)) for word in (0, _FOLD)]
        counter = stack([*parts, *rest])
    else:
        n = int(data) % 2**64
        counter = beside(key, np.array([n % 2**32, n >> 32, 0, _FOLD], np.uint32))
    return philox_p(counter, key)[:2]


def bits(key: Any, shape: Any = (), dtype: Any = np.uint32) -> Any:
    """Random bits: integers of which every bit is fair.

    Parameters
    ----------
    key : array, shape (2,), uint32
    shape : int or tuple of int, default ()
    dtype : {uint32, uint64, uint16, uint8}, default uint32
        An entry of 64 bits is made of two words, the first one low; of 16 and 8 bits it is the low part of one.

    Returns
    -------
    array, of that shape and dtype

    Notes
    -----
    Entry j, counted in C order, is word j of the key's blocks: it depends on the key and on j alone, not on the shape.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.random.bits(nm.random.key(0), 2)
    array([1713891541, 3781805453], dtype=uint32)
    """
    key = require_key("bits", key)
    shape = shape_of_draw("bits", shape)
    dtype = np.dtype(dtype)
    require_in(
        "bits", "dtype", dtype, tuple(map(np.dtype, ("uint32", "uint64", "uint16", "uint8")))
    )
    if dtype == np.uint64:
        return integer_words(key, shape)
    words = random_words_p(key, count=math.prod(shape), purpose=0)
    words = words[0] if shape == () else reshape_p(words, shape=shape)
    return words if dtype == np.uint32 else cast(words % 2 ** (8 * dtype.itemsize), dtype)
