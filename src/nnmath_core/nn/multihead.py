"""Multi-head attention: projections, attention in each head, and a projection of all heads together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core.checks import (
    require_callable,
    require_in,
    require_positive_int,
    require_rng,
    sentence,
)
from nnmath_core.device import entering
from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.nn.attention import attention, attention_weights
from nnmath_core.nn.dense import Dense
from nnmath_core.nn.dropout import require_rate
from nnmath_core.nn.initializers import glorot_uniform
from nnmath_core.nn.operands import require_operand
from nnmath_core.typing import Array, ArrayLike, Rng

__all__ = ["MultiHeadAttention"]


@dataclass(frozen=True, eq=False, repr=False)
class MultiHeadAttention:
    r"""Attention in several heads, of a sequence to itself or to another one.

    .. math::
        y = [\,y_1 \ldots y_h\,]\, W_O + b_O, \qquad
        y_i = \operatorname{attention}\left((x W_Q + b_Q)_i, (c W_K + b_K)_i, (c W_V + b_V)_i\right)

    with the heads' columns one beside another, and :math:`c = x` in self-attention.

    Parameters
    ----------
    query, key, value, out : Dense
        The projections; those of keys and values may have fewer heads.
    heads : int
        Of the queries.
    dropout : float in [0, 1), default 0
        The probability that a weight of the attention is dropped in training.

    Notes
    -----
    A frozen dataclass: the arrays of its projections are leaves. Memory is linear in the lengths, see `attention`.
    PyTorch's ``in_proj_weight`` has the transposed weights of queries, keys and values one below another.

    References
    ----------
    Vaswani et al., "Attention is all you need", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> layer = nm.nn.MultiHeadAttention.init(8, 2, rng=0)
    >>> x = np.random.default_rng(1).standard_normal((3, 5, 8))
    >>> layer(x, causal=True).shape, layer(x, np.ones((3, 7, 8))).shape
    ((3, 5, 8), (3, 5, 8))
    >>> layer.weights(x).shape
    (3, 2, 5, 5)
    """

    query: Dense
    key: Dense
    value: Dense
    out: Dense
    heads: int = field(metadata={"static": True})
    dropout: float = field(default=0.0, metadata={"static": True})

    @classmethod
    def init(
        cls,
        d: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        context: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        init: Callable[..., Array] = glorot_uniform,
        rng: Rng = None,
        dtype: DTypeLike = np.float64,
    ) -> MultiHeadAttention:
        """Return a layer with random weights and, with ``bias``, biases of zeros.

        Parameters
        ----------
        d : int
            Length of the rows of ``x`` and of the output.
        heads : int
            How many; they divide ``d``.
        kv_heads : int, default ``heads``
            Heads of keys and values; they divide ``heads`` (grouped queries; 1: multi-query attention).
        context : int, default ``d``
            Length of the rows of another sequence that is attended to.
        bias : bool, default True
            Whether the projections have biases.
        dropout : float in [0, 1), default 0
            The probability that a weight of the attention is dropped in training.
        init : callable, default `glorot_uniform`
            ``init(shape, *, rng, dtype)`` returns a weight.
        rng : None, int or numpy.random.Generator
            Where the weights come from: queries, keys, values, output.
        dtype : dtype, default float64
            float32 or float64.

        Returns
        -------
        MultiHeadAttention
            On the default device.

        Raises
        ------
        DomainError
            ``heads`` does not divide ``d``, ``kv_heads`` not ``heads``, a size is below 1, or ``dropout`` outside of
            [0, 1).
        DtypeError
            An argument is of another type than above.
        """
        who = "MultiHeadAttention.init"
        d = require_positive_int(who, "d", d)
        heads = require_positive_int(who, "heads", heads)
        if d % heads:
            advice = "All heads have d / heads columns."
            raise DomainError(sentence(who, "heads", f"a divisor of d = {d}", str(heads), advice))
        groups = heads if kv_heads is None else require_positive_int(who, "kv_heads", kv_heads)
        if heads % groups:
            wanted = f"a divisor of heads = {heads}"
            raise DomainError(sentence(who, "kv_heads", wanted, str(groups)))
        source = d if context is None else require_positive_int(who, "context", context)
        require_in(who, "bias", bias, (True, False))
        rate = require_rate(who, dropout, "dropout")
        generator = require_rng(who, rng)
        width = groups * (d // heads)
        query, key, value, out = (
            Dense.init(sizes, init=init, bias=bias, rng=generator, dtype=dtype)
            for sizes in ((d, d), (source, width), (source, width), (d, d))
        )
        return cls(query, key, value, out, heads, rate)

    @entering
    def __call__(
        self,
        x: Array,
        context: Array | None = None,
        *,
        mask: ArrayLike | None = None,
        bias: ArrayLike | None = None,
        causal: bool = False,
    ) -> Array:
        """Return the output in evaluation: nothing is dropped.

        Parameters
        ----------
        x : array, shape (..., t, d), dtype of the weights
            The sequence that asks.
        context : array, shape (..., s, c), optional
            The sequence that is attended to; ``x`` by default.
        mask, bias, causal
            As for `attention`: ``mask`` is broadcastable to (..., heads, t, s), True where may be attended; for padded
            keys of each example (n, 1, 1, s).

        Returns
        -------
        array, shape (..., t, out)

        Raises
        ------
        ShapeError, DtypeError
            An argument does not fit the weights or the others.
        """
        q, k, v = self._heads(x, context)
        return self._joined(attention(q, k, v, mask=mask, bias=bias, causal=causal))

    @entering
    def train(
        self,
        x: Array,
        context: Array | None = None,
        *,
        key: Array | None = None,
        mask: ArrayLike | None = None,
        bias: ArrayLike | None = None,
        causal: bool = False,
    ) -> tuple[Array, MultiHeadAttention]:
        """Return the output in training, with weights dropped, and the layer.

        Parameters
        ----------
        x, context, mask, bias, causal
            As for a call.
        key : key, optional
            Of `nm.random.key`; needed with a ``dropout`` above 0.

        Returns
        -------
        y : array
        new : MultiHeadAttention
            The layer itself: it has no statistics.
        """
        if self.dropout and key is None:
            advice = "Randomness needs a key: `nm.random.key(seed)`, a new one for every call."
            wanted = "made by nm.random.key"
            raise DtypeError(sentence("MultiHeadAttention", "key", wanted, "None", advice))
        q, k, v = self._heads(x, context)
        y = attention(
            q, k, v, mask=mask, bias=bias, causal=causal, dropout_rate=self.dropout, key=key
        )  # fmt: skip
        return self._joined(y), self

    def weights(
        self,
        x: Array,
        context: Array | None = None,
        *,
        mask: ArrayLike | None = None,
        bias: ArrayLike | None = None,
        causal: bool = False,
    ) -> Array:
        """Return the weights of the attention, shape (..., heads, t, s); PyTorch's are their mean over the heads.

        Parameters
        ----------
        x, context, mask, bias, causal
            As for a call.

        Returns
        -------
        array
            Rows sum to 1, or to 0 where nothing may be attended.
        """
        q, k, _ = self._heads(x, context)
        return attention_weights(q, k, mask=mask, bias=bias, causal=causal)

    def _heads(self, x: Array, context: Array | None) -> tuple[Array, Array, Array]:
        who = "MultiHeadAttention"
        x = require_operand(who, "x", x)
        if context is None:
            context = x
        else:
            context = require_operand(who, "context", context)
        for arg, rows in (("x", x), ("context", context)):
            if len(rows.shape) < 2:
                wanted = "of shape (..., t, d): rows of positions"
                raise ShapeError(sentence(who, arg, wanted, str(tuple(rows.shape))))
        if tuple(context.shape[:-2]) != tuple(x.shape[:-2]):
            front = ", ".join(map(str, (*x.shape[:-2], "s", "d")))
            raise ShapeError(
                sentence(who, "context", f"of shape ({front})", str(tuple(context.shape)))
            )
        for part in ("query", "key", "value", "out"):
            require_callable(who, part, getattr(self, part), "It is a `Dense` layer.")
        q = self.query(x)
        size, rest = divmod(q.shape[-1], require_positive_int(who, "heads", self.heads))
        if rest or not size:
            wanted = f"a divisor of the {q.shape[-1]} columns of the queries"
            raise DomainError(sentence(who, "heads", wanted, str(self.heads)))
        k, v = self.key(context), self.value(context)
        if k.shape[-1] % size or v.shape[-1] % size or k.shape[-1] != v.shape[-1]:
            got = f"{k.shape[-1]} and {v.shape[-1]}"
            wanted = (
                f"projections to the same multiple of {size} columns, those of a head of queries"
            )
            raise ShapeError(sentence(who, "key, value", wanted, got))
        return _split(q, size), _split(k, size), _split(v, size)

    def _joined(self, y: Array) -> Array:
        y = np.swapaxes(y, -2, -3)
        return self.out(y.reshape((*y.shape[:-2], y.shape[-2] * y.shape[-1])))

    def __repr__(self) -> str:
        dropped = f", dropout: {self.dropout}" if self.dropout else ""
        parts = ", ".join(
            f"{name}: {getattr(self, name)!r}" for name in ("query", "key", "value", "out")
        )
        return f"MultiHeadAttention({parts}, heads: {self.heads}{dropped})"


def _split(x: Any, size: int) -> Array:
    """Return the columns of the rows in heads: (..., t, h * size) to (..., h, t, size)."""
    heads: Array = np.swapaxes(x.reshape((*x.shape[:-1], x.shape[-1] // size, size)), -2, -3)
    return heads
