"""The block of a transformer: attention and two dense layers, each beside a shortcut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core.checks import (
    describe,
    require_in,
    require_positive_int,
    require_rng,
)
from nnmath_core.device import entering
from nnmath_core.nn.activations import gelu
from nnmath_core.nn.dense import Dense
from nnmath_core.nn.dropout import dropout, require_rate
from nnmath_core.nn.initializers import glorot_uniform
from nnmath_core.nn.layer_norm import LayerNorm
from nnmath_core.nn.multihead import MultiHeadAttention
from nnmath_core.nn.training import key_of, require_activation, train_layer
from nnmath_core.typing import Array, ArrayLike, Rng

__all__ = ["TransformerBlock"]


@dataclass(frozen=True, eq=False, repr=False)
class TransformerBlock:
    r"""Self-attention and two dense layers, each normalised and added to its input.

    .. math::
        u = x + \operatorname{attention}(N_1(x)), \qquad y = u + \varphi(N_2(u) W_1 + b_1) W_2 + b_2

    or, with ``norm_first=False``, :math:`u = N_1(x + \operatorname{attention}(x))` and
    :math:`y = N_2(u + \varphi(u W_1 + b_1) W_2 + b_2)`.

    Parameters
    ----------
    attention : MultiHeadAttention
    norm1, norm2 : layer
        `LayerNorm` or another normalisation of rows.
    linear1, linear2 : Dense
        To the hidden rows, and back.
    activation : callable, default `gelu`
        Between the two.
    norm_first : bool, default True
        Whether a normalisation stands before its layer (pre-norm) or behind the sum (post-norm).
    dropout : float in [0, 1), default 0
        In training: the probability that an entry behind the attention, the activation and the second dense layer is
        dropped; that of the attention's weights is the attention's own.

    Notes
    -----
    The parts have the names of PyTorch's `TransformerEncoderLayer`, whose defaults are other: post-norm, relu, a hidden
    layer of 2048 and dropout of 0.1. With ``causal=True`` it is the block of a decoder that has no encoder.

    References
    ----------
    Vaswani et al., "Attention is all you need", 2017. Xiong et al., "On layer normalization in the transformer
    architecture", 2020 (pre-norm trains without a warm-up of the step).

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> block = nm.nn.TransformerBlock.init(8, 2, dropout=0.1, rng=0)
    >>> x = np.random.default_rng(1).standard_normal((3, 5, 8))
    >>> block(x, causal=True).shape
    (3, 5, 8)
    >>> y, block = block.train(x, key=nm.random.key(0), causal=True)
    """

    attention: MultiHeadAttention
    norm1: Any
    norm2: Any
    linear1: Dense
    linear2: Dense
    activation: Callable[[Array], Array] = gelu
    norm_first: bool = field(default=True, kw_only=True, metadata={"static": True})
    dropout: float = field(default=0.0, kw_only=True, metadata={"static": True})

    @classmethod
    def init(
        cls,
        d: int,
        heads: int,
        *,
        hidden: int | None = None,
        activation: Callable[[Array], Array] = gelu,
        norm_first: bool = True,
        dropout: float = 0.0,
        kv_heads: int | None = None,
        bias: bool = True,
        eps: float = 1e-5,
        init: Callable[..., Array] = glorot_uniform,
        rng: Rng = None,
        dtype: DTypeLike = np.float64,
    ) -> TransformerBlock:
        """Return a block with random weights and biases of zeros.

        Parameters
        ----------
        d : int
            Length of the rows.
        heads : int
            Of the attention; they divide ``d``.
        hidden : int, default ``4 * d``
            Length of the rows between the dense layers.
        activation : callable, default `gelu`
            Between them.
        norm_first : bool, default True
            Pre-norm, or post-norm.
        dropout : float in [0, 1), default 0
            In training, of the block and of the attention's weights.
        kv_heads : int, default ``heads``
            Heads of keys and values.
        bias : bool, default True
            Whether the projections and dense layers have biases.
        eps : float, default 1e-5
            Of the normalisations.
        init : callable, default `glorot_uniform`
            ``init(shape, *, rng, dtype)`` returns a weight.
        rng : None, int or numpy.random.Generator
            Where the weights come from: attention, then dense layers.
        dtype : dtype, default float64
            float32 or float64.

        Returns
        -------
        TransformerBlock
            On the default device.

        Raises
        ------
        DomainError, DtypeError
            As `MultiHeadAttention.init`, `Dense.init` and `LayerNorm.init`.
        """
        who = "TransformerBlock.init"
        d = require_positive_int(who, "d", d)
        hidden = 4 * d if hidden is None else require_positive_int(who, "hidden", hidden)
        require_activation(who, activation)
        require_in(who, "norm_first", norm_first, (True, False))
        rate = require_rate(who, dropout, "dropout")
        drawn: dict[str, Any] = {
            "bias": bias,
            "init": init,
            "rng": require_rng(who, rng),
            "dtype": dtype,
        }
        return cls(
            MultiHeadAttention.init(d, heads, kv_heads=kv_heads, dropout=rate, **drawn),
            LayerNorm.init(d, eps=eps, dtype=dtype),
            LayerNorm.init(d, eps=eps, dtype=dtype),
            Dense.init((d, hidden), **drawn),
            Dense.init((hidden, d), **drawn),
            activation,
            norm_first=bool(norm_first),
            dropout=rate,
        )

    @entering
    def __call__(
        self,
        x: Array,
        *,
        mask: ArrayLike | None = None,
        bias: ArrayLike | None = None,
        causal: bool = False,
    ) -> Array:
        """Return the output in evaluation.

        Parameters
        ----------
        x : array, shape (..., t, d), dtype of the weights
        mask, bias, causal
            As for `attention`: ``mask`` is broadcastable to (..., heads, t, t), True where may be attended.

        Returns
        -------
        array, shape (..., t, d)

        Raises
        ------
        ShapeError, DtypeError
            An argument does not fit the weights.
        """
        options: dict[str, Any] = {"mask": mask, "bias": bias, "causal": causal}
        if self.norm_first:
            x = x + self.attention(self.norm1(x), **options)
            return x + self._mlp(self.norm2(x))
        x = self.norm1(x + self.attention(x, **options))
        y: Array = self.norm2(x + self._mlp(x))
        return y

    @entering
    def train(
        self,
        x: Array,
        *,
        key: Array | None = None,
        mask: ArrayLike | None = None,
        bias: ArrayLike | None = None,
        causal: bool = False,
    ) -> tuple[Array, TransformerBlock]:
        """Return the output in training, and the block with its new statistics (none with `LayerNorm`).

        Parameters
        ----------
        x, mask, bias, causal
            As for a call.
        key : key, optional
            Of `nm.random.key`; needed with a dropout above 0.

        Returns
        -------
        y : array
        new : TransformerBlock
        """
        options: dict[str, Any] = {"mask": mask, "bias": bias, "causal": causal}
        keys = [key_of(key, i) for i in range(4)]
        if self.norm_first:
            h, norm1 = train_layer(self.norm1, x)
            h, attention = train_layer(self.attention, h, keys[0], **options)
            x = x + self._dropped(h, keys[1])
            h, norm2 = train_layer(self.norm2, x)
            y = x + self._dropped(self._mlp(h, keys[2]), keys[3])
        else:
            h, attention = train_layer(self.attention, x, keys[0], **options)
            x, norm1 = train_layer(self.norm1, x + self._dropped(h, keys[1]))
            y, norm2 = train_layer(self.norm2, x + self._dropped(self._mlp(x, keys[2]), keys[3]))
        return y, replace(self, attention=attention, norm1=norm1, norm2=norm2)

    def _mlp(self, x: Array, key: Array | None = None) -> Array:
        h = self.activation(self.linear1(x))
        return self.linear2(h if key is None else self._dropped(h, key))

    def _dropped(self, x: Array, key: Array | None) -> Array:
        return dropout(x, self.dropout, key) if self.dropout else x

    def __repr__(self) -> str:
        dropped = f", dropout: {self.dropout}" if self.dropout else ""
        order = "pre-norm" if self.norm_first else "post-norm"
        return (
            f"TransformerBlock({self.attention!r}, {self.linear1!r}, {self.linear2!r}, "
            f"activation: {describe(self.activation)}, {order}{dropped})"
        )
