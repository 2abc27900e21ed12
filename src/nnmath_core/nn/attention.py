"""Scaled dot-product attention, with memory linear in the lengths of the sequences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnmath_core.checks import (
    describe,
    require_in,
    require_positive_int,
    require_real,
    sentence,
)
from nnmath_core.device import entering
from nnmath_core.errors import DtypeError, ShapeError
from nnmath_core.nn.attention_blocks import Block, attend_in_blocks
from nnmath_core.nn.attention_whole import attend, is_real
from nnmath_core.nn.dropout import require_rate
from nnmath_core.nn.operands import require_operand, require_operand_of
from nnmath_core.random.draws import require_key
from nnmath_core.typing import Array, ArrayLike

__all__ = ["attention", "attention_weights"]


def attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    mask: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout_rate: float = 0.0,
    key: Array | None = None,
    block_size: int | None = None,
) -> Array:
    r"""Scaled dot-product attention: means of values, weighted by how well keys fit queries.

    .. math::
        y_i = \sum_j a_{ij} v_j, \qquad a_{ij} = \frac{e^{s_{ij}}}{\sum_l e^{s_{il}}},
        \qquad s_{ij} = \frac{q_i \cdot k_j}{\sqrt d} + b_{ij}

    Parameters
    ----------
    q : array, shape (..., h, t, d), float32 or float64
        Queries: h heads of t positions. Any number of axes in front, none included.
    k : array, shape (..., g, s, d), dtype of ``q``
        Keys. g is h, or divides it: then h / g heads in a row share a head of keys and values (grouped queries; g = 1
        is multi-query attention).
    v : array, shape (..., g, s, e), dtype of ``q``
        Values.
    mask : boolean array, broadcastable to (..., h, t, s), optional
        True where a query may attend to a key: (t, s) for all, (n, 1, 1, s) for padded keys of each example.
    bias : array, broadcastable to (..., h, t, s), dtype of ``q``, optional
        Added to the scores; -inf is as ``mask`` False. It is differentiated, as distances or a learnt table.
    causal : bool, default False
        Query i attends to the keys j <= i only: the upper left corner is aligned, as in PyTorch, where s is not t.
    scale : float, default ``1 / sqrt(d)``
        The factor of the products, in place of the root.
    dropout_rate : float in [0, 1), default 0
        The probability that a weight is dropped (for training); the others are divided by the rest.
    key : array, shape (2,), uint32, optional
        Where dropped weights come from, of `nm.random.key`; needed with a ``dropout_rate`` above 0.
    block_size : int, optional
        Queries at a time, of attention composed of blocks. By default one kernel does all of it, on the host and, for
        heads of up to 256 entries, on a GPU; where it does not, a block has as many scores as 8 MiB hold, or as there
        are keys' entries.

    Returns
    -------
    array, shape (..., h, t, e), dtype of ``q``
        Zeros for a query that may attend to nothing, where PyTorch gives NaN.

    Raises
    ------
    DtypeError
        ``q``, ``k``, ``v``, ``bias`` are no arrays of floats of one dtype, ``mask`` is none of booleans, or ``key`` is
        missing or no key.
    ShapeError
        Shapes that do not fit each other as above.
    DomainError
        ``dropout_rate`` outside of [0, 1), ``block_size`` below 1, ``scale`` not finite, ``causal`` no flag.
    DeviceError
        ``key`` is on another device than ``q``: `to_device` moves it.

    Notes
    -----
    Derivatives are exact: the rules are

    .. math::
        \dot y = \dot a v + a \dot v, \quad \dot a = a \odot (\dot s - \sum_j a_j \dot s_j), \qquad
        \bar v = a^\top \bar y, \quad \bar a = \bar y v^\top, \quad
        \bar s = a \odot (\bar a - \sum_j a_j \bar a_j), \quad
        \bar q = \bar s k / \sqrt d, \quad \bar k = \bar s^\top q / \sqrt d

    The derivative in a masked score is exactly 0, and in all of a query that may attend to nothing. What is masked is
    still multiplied, by the weight 0: keys and values must be finite there.

    Memory beyond operands and results is a few blocks, in both modes and at second order, so linear in t and s; the
    price is that a derivative computes the weights again. Time is O(t s (d + e)) for each head; causal attention does
    about half of it. Which weights are dropped does not depend on ``block_size`` or dtype. Under `vmap` a block is as
    many times larger as there are examples.

    References
    ----------
    Vaswani et al., "Attention is all you need", 2017. Rabe & Staats, "Self-attention does not need O(n^2) memory",
    2021. Ainslie et al., "GQA: training generalized multi-query transformer models from multi-head checkpoints", 2023.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> q, k = np.array([[0.0, 0.0], [9.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 2.0]])
    >>> nm.nn.attention(q, k, np.array([[1.0], [2.0]])).round(6)
    array([[1.5     ],
           [1.000003]])
    >>> nm.nn.attention(q, k, np.array([[1.0], [2.0]]), causal=True)[0]
    array([1.])
    """
    who = "attention"
    q, k = _queries_and_keys(who, q, k)
    v = require_operand_of(who, "v", v, q.dtype, "q")
    if tuple(v.shape[:-1]) != tuple(k.shape[:-1]):
        wanted = f"of shape {_text((*k.shape[:-1], 'e'))}"
        advice = "A row of values for each key."
        raise ShapeError(sentence(who, "v", wanted, str(tuple(v.shape)), advice))
    rate = require_rate(who, dropout_rate, "dropout_rate")
    if rate and key is None:
        advice = "Randomness needs a key: `nm.random.key(seed)`, a new one for every call."
        raise DtypeError(sentence(who, "key", "made by nm.random.key", "None", advice))
    key = require_key(who, key, beside=q) if rate else None
    require_in(who, "causal", causal, (False, True))
    if block_size is not None:
        block_size = require_positive_int(who, "block_size", block_size)
    shape = (*q.shape[:-1], v.shape[-1])
    q, k, v, mask, bias = _grouped(who, q, k, v, mask, bias)
    causal, scale = bool(causal), _scale(who, scale, q.shape[-1])
    if rate or block_size is not None or not is_real(q, k, v, bias):
        y = attend_in_blocks(q, k, v, bias, mask, key, causal, scale, rate, block_size)
    else:
        y = attend(q, k, v, bias, mask, causal, scale)
    return y.reshape(shape) if tuple(y.shape) != shape else y


@entering
def attention_weights(
    q: Array,
    k: Array,
    *,
    mask: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Array:
    r"""The weights of scaled dot-product attention, all of them.

    .. math:: a_{ij} = \operatorname{softmax}_j\left(q_i \cdot k_j / \sqrt d + b_{ij}\right)

    Parameters
    ----------
    q, k : arrays, shapes (..., h, t, d) and (..., g, s, d), float32 or float64
        As for `attention`.
    mask, bias, causal, scale
        As for `attention`.

    Returns
    -------
    array, shape (..., h, t, s), dtype of ``q``
        >= 0; each row sums to 1, or to 0 where a query may attend to nothing.

    Raises
    ------
    DtypeError, ShapeError, DomainError
        As for `attention`.

    Notes
    -----
    ``np.einsum("ik,jk->ij", q, k)`` alone gives the products, which may be negative and sum to anything: they become
    weights by the scale and the softmax. `attention` does not store what this returns.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.attention_weights(np.eye(2), np.eye(2)).round(4)
    array([[0.6698, 0.3302],
           [0.3302, 0.6698]])
    """
    who = "attention_weights"
    require_in(who, "causal", causal, (False, True))
    q, k = _queries_and_keys(who, q, k)
    shape = (*q.shape[:-1], k.shape[-2])
    q, k, _, mask, bias = _grouped(who, q, k, k, mask, bias)
    block = Block(0, q.shape[-2], bool(causal), _scale(who, scale, q.shape[-1]), 0.0)
    weights: Array = block.weights(q, k, bias, mask).reshape(shape)
    return weights


# --------------------------------------------------------------------------------------------------------- arguments
def _text(shape: tuple[Any, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


def _queries_and_keys(who: str, q: Any, k: Any) -> tuple[Array, Array]:
    q = require_operand(who, "q", q)
    k = require_operand_of(who, "k", k, q.dtype, "q")
    for arg, x in (("q", q), ("k", k)):
        if len(x.shape) < 2:
            wanted = "of shape (..., h, t, d): rows of positions"
            raise ShapeError(sentence(who, arg, wanted, str(tuple(x.shape))))
    heads, groups = q.shape[-3:-2], k.shape[-3:-2]
    shared = len(heads) == len(groups) == 1 and groups[0] > 0 and heads[0] % groups[0] == 0
    if (
        q.shape[-1] != k.shape[-1]
        or len(q.shape) != len(k.shape)
        or tuple(q.shape[:-3]) != tuple(k.shape[:-3])
        or not (heads == groups or shared)
    ):
        front = (*q.shape[:-3], *(["g"] if heads else []), "s", q.shape[-1])
        advice = (
            f"The heads g of the keys must divide the {heads[0]} of the queries." if heads else ""
        )
        wanted = f"of shape {_text(front)} for queries {tuple(q.shape)}"
        raise ShapeError(sentence(who, "k", wanted, str(tuple(k.shape)), advice))
    return q, k


def _grouped(who: str, q: Array, k: Array, v: Array, mask: Any, bias: Any) -> tuple[Any, ...]:
    """Return the operands with one head of keys for each head of queries, or in groups of heads."""
    scores = (*q.shape[:-1], k.shape[-2])
    if mask is not None:
        mask = _beside_scores(who, "mask", _booleans(who, mask), scores)
    if bias is not None:
        bias = _beside_scores(
            who, "bias", require_operand_of(who, "bias", bias, q.dtype, "q"), scores
        )
    if tuple(q.shape[:-2]) == tuple(k.shape[:-2]):
        return q, k, v, mask, bias
    *front, heads, length, d = q.shape
    groups = k.shape[-3]
    pair = (*front, groups, heads // groups)
    k, v = (
        np.broadcast_to(np.expand_dims(x, -3), (*pair, *x.shape[-2:])) for x in (k, v)
    )  # fmt: skip
    mask, bias = (_in_groups(x, groups) for x in (mask, bias))
    return q.reshape((*pair, length, d)), k, v, mask, bias


def _in_groups(x: Any, groups: int) -> Any:
    """Return a mask or bias with its axis of heads in two."""
    if x is None or len(x.shape) < 3:
        return x
    *front, heads, rows, columns = x.shape
    pair = (1, 1) if heads == 1 else (groups, heads // groups)
    return x.reshape((*front, *pair, rows, columns))


def _booleans(who: str, mask: Any) -> Any:
    wanted = "an array of booleans, True where a query may attend"
    dtype = getattr(mask, "dtype", None)
    if dtype is None or isinstance(mask, np.ma.MaskedArray) or np.dtype(dtype).kind != "b":
        floats = dtype is not None and np.dtype(dtype).kind == "f"
        advice = "What is added to the scores is `bias`." if floats else ""
        raise DtypeError(sentence(who, "mask", wanted, describe(mask), advice))
    return mask


def _beside_scores(who: str, arg: str, x: Any, scores: tuple[int, ...]) -> Any:
    """Refuse what does not broadcast to the scores; give it two axes at least."""
    shape = tuple(x.shape)
    if len(shape) > len(scores) or any(
        n not in (1, m) for n, m in zip(shape[::-1], scores[::-1], strict=False)
    ):
        wanted = f"broadcastable to the scores, {scores}"
        raise ShapeError(sentence(who, arg, wanted, str(shape)))
    return x.reshape((1,) * (2 - len(shape)) + shape) if len(shape) < 2 else x


def _scale(who: str, scale: Any, d: int) -> float:
    if scale is None:
        return 1.0 / math.sqrt(max(d, 1))
    return require_real(who, "scale", scale, math.isfinite, "a finite number")
