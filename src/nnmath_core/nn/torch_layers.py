"""What PyTorch calls the arrays of each layer, and how they lie there.

A `Rule` is an exchange of some of PyTorch's arrays for some of ours; most are one for one. Names are relative to the
layer on both sides. Weights of dense layers are transposed, kernels have their axes turned around, and attention and
recurrent layers have the weights of several projections in one array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nnmath_core.errors import DomainError
from nnmath_core.nn.batch_norm import BatchNorm
from nnmath_core.nn.cells import GRUCell, LSTMCell, RNNCell
from nnmath_core.nn.convolution import Conv1d, Conv2d
from nnmath_core.nn.dense import Dense
from nnmath_core.nn.embedding import Embedding, PositionEmbedding
from nnmath_core.nn.group_norm import GroupNorm, InstanceNorm
from nnmath_core.nn.layer_norm import LayerNorm, RMSNorm
from nnmath_core.nn.multihead import MultiHeadAttention
from nnmath_core.nn.recurrent import GRU, LSTM, RNN
from nnmath_core.nn.spectral_norm import SpectralNorm
from nnmath_core.nn.transformer import TransformerBlock
from nnmath_core.nn.transposed_convolution import ConvTranspose1d, ConvTranspose2d
from nnmath_core.nn.weight_norm import WeightNorm
from nnmath_core.nn.whitening import WhiteningNorm
from nnmath_core.typing import Array

__all__ = ["COUNTER", "Rule", "rules_of"]

COUNTER = "num_batches_tracked"
"""PyTorch counts batches for a running mean of all of them; nothing here needs it."""

Arrays = list[Array]


@dataclass(frozen=True)
class Rule:
    """Some of PyTorch's arrays for some of ours.

    Attributes
    ----------
    theirs, ours : tuple of str
        Names below the layer's: ``"weight"``; ``".weight"``.
    bring, back : callable
        Arrays in the order of ``theirs`` to those in the order of ``ours``, and back.
    features : tuple of bool
        Which of ours have the layer's input along axis 0, so that it matters how that was flattened.
    """

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    bring: Callable[[Arrays], Arrays]
    back: Callable[[Arrays], Arrays]
    features: tuple[bool, ...] = (False,)

    def below(self, theirs: str, ours: str) -> Rule:
        """Return the rule of a part, for the whole."""
        return replace(
            self,
            theirs=tuple(theirs + name for name in self.theirs),
            ours=tuple(ours + name for name in self.ours),
        )


def _one(
    theirs: str,
    ours: str,
    bring: Callable[[Array], Array] = lambda x: x,
    back: Callable[[Array], Array] | None = None,
    *,
    features: bool = False,
) -> Rule:
    """Return the rule of an array that is one there, too; ``back`` is ``bring`` if not given."""
    inverse = bring if back is None else back
    return Rule(
        (theirs,),
        (f".{ours}",),
        lambda xs: [bring(xs[0])],
        lambda ys: [inverse(ys[0])],
        (features,),
    )


def _present(layer: Any, *rules: Rule) -> list[Rule]:
    """Keep the rules of fields that are not None."""
    return [rule for rule in rules if getattr(layer, rule.ours[0][1:]) is not None]


def _transposed(x: Array) -> Array:
    if x.ndim != 2:
        return x  # the comparison of shapes finds it
    return x.T


def _turned(x: Array) -> Array:
    """(out, in / groups, *window) to (*window, in / groups, out)."""
    return x.transpose(*range(2, x.ndim), 1, 0) if x.ndim > 2 else x


def _turned_back(x: Array) -> Array:
    return x.transpose(-1, -2, *range(x.ndim - 2))


def _last(x: Array) -> Array:
    """Channels from the first axis to the last, of the scale of whole images."""
    return np.moveaxis(x, 0, -1) if x.ndim > 2 else x


def _first(x: Array) -> Array:
    return np.moveaxis(x, -1, 0) if x.ndim > 2 else x


# ------------------------------------------------------------------------------ layer by layer
def _dense(layer: Any) -> list[Rule]:
    return _present(
        layer, _one("weight", "weight", _transposed, features=True), _one("bias", "bias")
    )


def _conv(layer: Any) -> list[Rule]:
    return _present(layer, _one("weight", "weight", _turned, _turned_back), _one("bias", "bias"))


def _conv_transpose(layer: Any) -> list[Rule]:
    groups = layer.groups

    def bring(x: Array) -> Array:
        """(in, out / groups, *window), a block of rows for each group, to (*window, in / groups, out)."""
        if x.ndim < 3 or x.shape[0] % groups:
            return x
        blocks = np.split(x, groups, axis=0)
        return np.concatenate([b.transpose(*range(2, x.ndim), 0, 1) for b in blocks], axis=-1)

    def back(y: Array) -> Array:
        blocks = np.split(y, groups, axis=-1)
        axes = (-2, -1, *range(y.ndim - 2))
        return np.concatenate([b.transpose(*axes) for b in blocks], axis=0)

    return _present(layer, _one("weight", "weight", bring, back), _one("bias", "bias"))


def _norm(layer: Any) -> list[Rule]:
    return _present(
        layer,
        _one("weight", "scale", _last, _first, features=True),
        *(
            []
            if isinstance(layer, RMSNorm)
            else [_one("bias", "shift", _last, _first, features=True)]
        ),
    )


def _batch_norm(layer: Any) -> list[Rule]:
    return [
        *_norm(layer),
        _one("running_mean", "mean", features=True),
        _one("running_var", "var", features=True),
    ]


def _embedding(layer: Any) -> list[Rule]:
    return [_one("weight", "weight")]


def _cell(cell: Any, end: str = "") -> list[Rule]:
    """Return the rules of a cell; PyTorch's has two biases, which are added where only their sum matters."""
    if isinstance(cell, GRUCell) and not cell.reset_after:
        raise DomainError(
            "PyTorch has no gated recurrent unit with `reset_after=False`; its weights are for other equations."
        )
    rules = [
        _one(f"weight_ih{end}", "weight", _transposed),
        _one(f"weight_hh{end}", "recurrent_weight", _transposed),
    ]
    if cell.bias is None:
        return rules
    theirs = (f"bias_ih{end}", f"bias_hh{end}")
    if not isinstance(cell, GRUCell):
        return [*rules, Rule(theirs, (".bias",), lambda xs: [xs[0] + xs[1]], _with_zeros)]
    if cell.recurrent_bias is None:
        raise DomainError(
            "PyTorch's gated recurrent units with a bias have the one inside of the reset gate, too."
        )
    return [
        *rules,
        Rule(theirs, (".bias", ".recurrent_bias"), _gru_bias, _gru_biases, (False, False)),
    ]


def _with_zeros(ys: Arrays) -> Arrays:
    return [ys[0], np.zeros_like(ys[0])]


def _gru_bias(xs: Arrays) -> Arrays:
    ih, hh = xs
    n = hh.shape[0] // 3
    return [ih + np.concatenate([hh[: 2 * n], np.zeros_like(hh[2 * n :])]), hh[2 * n :]]


def _gru_biases(ys: Arrays) -> Arrays:
    bias, recurrent = ys
    return [bias, np.concatenate([np.zeros_like(bias[: -recurrent.shape[0]]), recurrent])]


def _recurrent(layer: Any) -> list[Rule]:
    directions = 2 if layer.bidirectional else 1
    rules = []
    for i, cell in enumerate(layer.cells):
        end = f"_l{i // directions}" + ("_reverse" if i % directions else "")
        rules += [rule.below("", f".cells[{i}]") for rule in _cell(cell, end)]
    return rules


def _attention(layer: Any) -> list[Rule] | None:
    parts = ("query", "key", "value")
    q, k, v = (getattr(layer, part) for part in parts)
    if not q.weight.shape[1] == k.weight.shape[1] == v.weight.shape[1]:
        return None  # grouped queries: four dense layers, as models that have them are written
    ours = tuple(f".{part}.weight" for part in parts)
    if q.weight.shape[0] == k.weight.shape[0] == v.weight.shape[0]:
        rules = [Rule(("in_proj_weight",), ours, _thirds, _joined, (False,) * 3)]
    else:
        rules = [_one(f"{part[0]}_proj_weight", f"{part}.weight", _transposed) for part in parts]
    if q.bias is not None:
        ours = tuple(f".{part}.bias" for part in parts)
        rules.append(Rule(("in_proj_bias",), ours, _thirds, _joined, (False,) * 3))
    return rules + [_plain(rule).below("out_proj.", ".out") for rule in _dense(layer.out)]


def _thirds(xs: Arrays) -> Arrays:
    (x,) = xs
    return [_transposed(part) for part in np.array_split(x, 3)]


def _joined(ys: Arrays) -> Arrays:
    return [np.concatenate([_transposed(y) for y in ys])]


def _plain(rule: Rule) -> Rule:
    return replace(rule, features=(False,) * len(rule.ours))


def _block(layer: Any) -> list[Rule] | None:
    parts = (
        ("self_attn", "attention"),
        *((name, name) for name in ("linear1", "linear2", "norm1", "norm2")),
    )
    rules: list[Rule] = []
    for theirs, ours in parts:
        of_part = rules_of(getattr(layer, ours))
        if of_part is None:
            return None
        rules += [_plain(rule).below(f"{theirs}.", f".{ours}") for rule in of_part]
    return rules


def _weight_norm(layer: Any) -> list[Rule]:
    inner, axis = layer.layer, layer.axis
    if axis != -1 or not isinstance(inner, Dense | Conv1d | Conv2d):
        raise DomainError(
            "PyTorch's weight_norm has a length for each output of a dense layer or a convolution, `axis=-1` here; "
            f"got axis {axis} and {type(inner).__name__}."
        )
    spread = (-1, *(1,) * (inner.weight.ndim - 1))
    length = _one(
        "parametrizations.weight.original0",
        "magnitude",
        lambda x: x.reshape(-1) if x.ndim == len(spread) else x,
        lambda y: y.reshape(spread),
    )
    weight, *bias = (_dense if isinstance(inner, Dense) else _conv)(inner)
    direction = replace(weight, theirs=("parametrizations.weight.original1",))
    return [length, direction.below("", ".layer"), *(rule.below("", ".layer") for rule in bias)]


def _refuse_spectral(layer: Any) -> list[Rule]:
    raise DomainError(
        "SpectralNorm divides a convolution by the norm of its map, PyTorch's by that of its kernel as a matrix; its "
        "vectors have other shapes. Convert the layer inside of it and make it again with `SpectralNorm.init`."
    )


def _refuse_whitening(layer: Any) -> list[Rule]:
    raise DomainError("PyTorch has no WhiteningNorm. Save it with `nm.save` or `save_state`.")


_RULES: dict[type, Callable[[Any], list[Rule] | None]] = {
    Dense: _dense,
    **dict.fromkeys((Conv1d, Conv2d), _conv),
    **dict.fromkeys((ConvTranspose1d, ConvTranspose2d), _conv_transpose),
    **dict.fromkeys((LayerNorm, RMSNorm, GroupNorm, InstanceNorm), _norm),
    BatchNorm: _batch_norm,
    **dict.fromkeys((Embedding, PositionEmbedding), _embedding),
    **dict.fromkeys((RNNCell, GRUCell, LSTMCell), _cell),
    **dict.fromkeys((RNN, GRU, LSTM), _recurrent),
    MultiHeadAttention: _attention,
    TransformerBlock: _block,
    WeightNorm: _weight_norm,
    SpectralNorm: _refuse_spectral,
    WhiteningNorm: _refuse_whitening,
}


def rules_of(layer: Any) -> Sequence[Rule] | None:
    """Return the rules of a layer, in PyTorch's order of names; None of what is no layer of theirs.

    Raises
    ------
    DomainError
        The layer is one that PyTorch does not have, or computes otherwise.
    """
    make = _RULES.get(type(layer))
    return None if make is None else make(layer)
