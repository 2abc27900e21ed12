"""Recurrent layers: cells along the time axis of padded sequences, in both directions and several layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core.checks import describe, require_in, require_positive_int, require_rng, sentence
from nnmath_core.device import entering
from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.nn.cells import GRUCell, LSTMCell, RNNCell
from nnmath_core.nn.dropout import dropout, require_rate
from nnmath_core.nn.initializers import glorot_uniform
from nnmath_core.nn.labels import poison
from nnmath_core.nn.orthogonal import orthogonal
from nnmath_core.nn.unroll import along_time, require_sequences, steps_that_count
from nnmath_core.random import fold_in
from nnmath_core.typing import Array, Rng

__all__ = ["GRU", "LSTM", "RNN"]


@dataclass(frozen=True, eq=False, repr=False)
class _Recurrent:
    """Cells of one kind, layer by layer; of two directions the forward one first."""

    cells: tuple[Any, ...]
    _: KW_ONLY
    bidirectional: bool = False
    reverse: bool = False
    dropout: float = 0.0
    checkpoint: bool | int = False

    _cell: ClassVar[Any]

    @classmethod
    def _of(
        cls,
        sizes: Any,
        num_layers: Any,
        bidirectional: Any,
        reverse: Any,
        rate: Any,
        checkpoint: bool | int,
        rng: Rng,
        **options: Any,
    ) -> Self:
        who = f"{cls.__name__}.init"
        if not isinstance(sizes, tuple | list) or len(sizes) != 2:
            got = str(sizes) if isinstance(sizes, tuple | list) else describe(sizes)
            raise ShapeError(sentence(who, "sizes", "a pair (in, features)", got))
        require_positive_int(who, "num_layers", num_layers)
        require_in(who, "bidirectional", bidirectional, (True, False))
        require_in(who, "reverse", reverse, (True, False))
        if bidirectional and reverse:
            raise DomainError(
                f"{who}: `reverse` has no meaning with `bidirectional`. Leave it out."
            )
        p = require_rate(who, rate, "dropout")
        generator = require_rng(who, rng)
        d, n = sizes
        directions = 2 if bidirectional else 1
        cells = tuple(
            cls._cell.init((d if layer == 0 else directions * n, n), rng=generator, **options)
            for layer in range(num_layers)
            for _ in range(directions)
        )
        return cls(
            cells,
            bidirectional=bool(bidirectional),
            reverse=bool(reverse),
            dropout=p,
            checkpoint=checkpoint,
        )

    @property
    def num_layers(self) -> int:
        """Number of layers."""
        return len(self.cells) // (2 if self.bidirectional else 1)

    @entering
    def __call__(
        self,
        x: Array,
        *,
        state: Sequence[Any] | None = None,
        lengths: Array | None = None,
        mask: Array | None = None,
    ) -> Array:
        """Return the outputs of the last layer.

        Parameters
        ----------
        x : array, shape (..., t, in), dtype of the weights
            Sequences.
        state, lengths, mask
            As for `unroll`.

        Returns
        -------
        array, shape (..., t, features), or (..., t, 2 * features) of two directions
            0 at steps that do not count.

        Raises
        ------
        ShapeError, DtypeError, DomainError
            As `nm.nn.unroll`.
        """
        return self.unroll(x, state, lengths=lengths, mask=mask)[0]

    def unroll(
        self,
        x: Array,
        state: Sequence[Any] | None = None,
        *,
        lengths: Array | None = None,
        mask: Array | None = None,
    ) -> tuple[Array, tuple[Any, ...]]:
        """Return the outputs and the last states.

        Parameters
        ----------
        x : array, shape (..., t, in), dtype of the weights
            Sequences, one or a batch.
        state : sequence of states, optional
            One for each cell, in the order of ``cells``; None is zeros.
        lengths : integer array, shape (...), optional
            Steps of each sequence that count, from the first on; in [0, t].
        mask : boolean array, shape (..., t), optional
            Instead of ``lengths``: where a step counts.

        Returns
        -------
        y : array, shape (..., t, features), or (..., t, 2 * features) of two directions
            Of the last layer; 0 at steps that do not count.
        state : tuple
            Of each cell after its last step that counts; of the backward direction that is the first one.

        Raises
        ------
        ShapeError, DtypeError, DomainError
            As `nm.nn.unroll`; ``state`` has another number of states than there are cells.
        """
        return self._run(x, state, lengths, mask, None)

    @entering
    def train(
        self,
        x: Array,
        *,
        key: Array | None = None,
        state: Sequence[Any] | None = None,
        lengths: Array | None = None,
        mask: Array | None = None,
    ) -> tuple[Array, Self]:
        """Return the outputs with dropout between the layers, and the layer.

        Parameters
        ----------
        x, state, lengths, mask
            As for the call.
        key : key, optional
            Needed when there is dropout between layers; layer i gets ``nm.random.fold_in(key, i)``.

        Returns
        -------
        y : array
        layer : the layer itself
            Nothing is learnt here.

        Raises
        ------
        DtypeError
            ``key`` is missing; and what the call raises.
        """
        if self.dropout and self.num_layers > 1 and key is None:
            advice = "Dropout needs a key: `nm.random.key(seed)`, a new one for every call."
            wanted = "made by nm.random.key"
            raise DtypeError(sentence(type(self).__name__, "key", wanted, "None", advice))
        return self._run(x, state, lengths, mask, key)[0], self

    def _require_cells(self, who: str) -> None:
        wanted = f"a tuple of one {self._cell.__name__} or more"
        if not isinstance(self.cells, tuple | list) or not self.cells:
            raise DtypeError(sentence(who, "cells", wanted, describe(self.cells)))
        for i, cell in enumerate(self.cells):
            if not isinstance(cell, self._cell):
                raise DtypeError(
                    sentence(who, f"cells[{i}]", f"a {self._cell.__name__}", describe(cell))
                )

    def _run(
        self, x: Any, state: Any, lengths: Any, mask: Any, key: Any
    ) -> tuple[Array, tuple[Any, ...]]:
        who = type(self).__name__
        h = require_sequences(who, x)
        self._require_cells(who)
        weight: tuple[int, ...] = getattr(self.cells[0].weight, "shape", ())
        if len(weight) == 2 and h.shape[-1] != weight[0]:
            wanted = f"of shape (..., t, {weight[0]})"
            raise ShapeError(sentence(who, "x", wanted, str(tuple(h.shape))))
        valid, right = steps_that_count(who, h, lengths, mask)
        if state is None:
            state = (None,) * len(self.cells)
        elif not isinstance(state, tuple | list) or len(state) != len(self.cells):
            wanted = f"a tuple of {len(self.cells)} states, one for each cell"
            raise ShapeError(sentence(who, "state", wanted, _counted(state)))
        directions = 2 if self.bidirectional else 1
        if len(self.cells) % directions:
            wanted = "pairs of cells, one forward and one backward, as the layer is bidirectional"
            raise ShapeError(sentence(who, "cells", wanted, f"{len(self.cells)} cells"))
        states = []
        for layer in range(self.num_layers):
            if layer and key is not None and self.dropout:
                h = dropout(h, self.dropout, fold_in(key, layer))
            ys = []
            for k in range(directions):
                i = directions * layer + k
                backwards = k == 1 or self.reverse
                y, last = along_time(self.cells[i], h, state[i], valid, backwards, self.checkpoint)
                ys.append(y)
                states.append(last)
            h = ys[0] if directions == 1 else np.concatenate(ys, axis=-1)
        return poison(h, right), tuple(states)

    def __repr__(self) -> str:
        said = [repr(self.cells[0]) if self.cells else ""]
        if self.num_layers > 1:
            said.append(f"num_layers={self.num_layers}")
        said += [name for name in ("bidirectional", "reverse") if getattr(self, name)]
        if self.dropout:
            said.append(f"dropout={self.dropout:g}")
        return f"{type(self).__name__}({', '.join(said)})"


def _counted(state: Any) -> str:
    return f"{len(state)} states" if isinstance(state, tuple | list) else describe(state)


@dataclass(frozen=True, eq=False, repr=False)
class RNN(_Recurrent):
    r"""Plain recurrent network over sequences.

    .. math:: h_t = \varphi(x_t W + h_{t-1} U + b)

    Parameters
    ----------
    cells : tuple of RNNCell
        Layer by layer; of two directions the forward one first (PyTorch's order).
    bidirectional : bool, default False
        Whether each layer has a second cell that goes backwards; their outputs are joined.
    reverse : bool, default False
        Whether the only direction is backwards.
    dropout : float, in [0, 1), default 0.0
        Rate between the layers in training; not after the last one, nor from step to step.
    checkpoint : bool or int, default False
        As in `scan`: memory in the square root of the number of steps.

    Notes
    -----
    A frozen dataclass: arrays are leaves. ``layer(x)`` returns the outputs, so that it stands in a `Sequential`;
    ``layer.unroll(x, state)`` the outputs and the last states.

    References
    ----------
    Elman, "Finding structure in time", 1990.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> layer = nm.nn.RNN.init((3, 4), rng=0)
    >>> layer(np.ones((2, 5, 3))).shape
    (2, 5, 4)
    """

    _cell: ClassVar[Any] = RNNCell

    @classmethod
    def init(
        cls,
        sizes: tuple[int, int],
        *,
        num_layers: int = 1,
        bidirectional: bool = False,
        reverse: bool = False,
        dropout: float = 0.0,
        checkpoint: bool | int = False,
        activation: str = "tanh",
        init: Callable[..., Array] = glorot_uniform,
        recurrent_init: Callable[..., Array] = orthogonal,
        bias: bool = True,
        rng: Rng = None,
        dtype: DTypeLike = np.float64,
    ) -> RNN:
        """Return a layer with random weights and biases of zeros.

        Parameters
        ----------
        sizes : (in, features)
            Two integers >= 1.
        num_layers : int, default 1
            Of which each reads the outputs of the one before.
        bidirectional, reverse, dropout, checkpoint
            As for the class.
        activation, init, recurrent_init, bias, rng, dtype
            As for `RNNCell.init`.

        Returns
        -------
        RNN
            On the default device.

        Raises
        ------
        ShapeError, DomainError, DtypeError
            An argument is not as above.
        """
        return cls._of(
            sizes, num_layers, bidirectional, reverse, dropout, checkpoint, rng,
            activation=activation, init=init, recurrent_init=recurrent_init, bias=bias, dtype=dtype,
        )  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class GRU(_Recurrent):
    r"""Gated recurrent units over sequences; the step is that of `GRUCell`.

    .. math:: h_t = \operatorname{GRU}(x_t, h_{t-1})

    Parameters
    ----------
    cells : tuple of GRUCell
        Layer by layer; of two directions the forward one first (PyTorch's order).
    bidirectional : bool, default False
        Whether each layer has a second cell that goes backwards; their outputs are joined.
    reverse : bool, default False
        Whether the only direction is backwards.
    dropout : float, in [0, 1), default 0.0
        Rate between the layers in training; not after the last one, nor from step to step.
    checkpoint : bool or int, default False
        As in `scan`: memory in the square root of the number of steps.

    Notes
    -----
    A frozen dataclass: arrays are leaves. ``layer(x)`` returns the outputs, so that it stands in a `Sequential`;
    ``layer.unroll(x, state)`` the outputs and the last states.

    References
    ----------
    Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> layer = nm.nn.GRU.init((3, 4), bidirectional=True, rng=0)
    >>> layer(np.ones((2, 5, 3))).shape
    (2, 5, 8)
    """

    _cell: ClassVar[Any] = GRUCell

    @classmethod
    def init(
        cls,
        sizes: tuple[int, int],
        *,
        num_layers: int = 1,
        bidirectional: bool = False,
        reverse: bool = False,
        dropout: float = 0.0,
        checkpoint: bool | int = False,
        reset_after: bool = True,
        init: Callable[..., Array] = glorot_uniform,
        recurrent_init: Callable[..., Array] = orthogonal,
        bias: bool = True,
        rng: Rng = None,
        dtype: DTypeLike = np.float64,
    ) -> GRU:
        """Return a layer with random weights and biases of zeros.

        Parameters
        ----------
        sizes : (in, features)
            Two integers >= 1.
        num_layers : int, default 1
            Of which each reads the outputs of the one before.
        bidirectional, reverse, dropout, checkpoint
            As for the class.
        reset_after, init, recurrent_init, bias, rng, dtype
            As for `GRUCell.init`.

        Returns
        -------
        GRU
            On the default device.

        Raises
        ------
        ShapeError, DomainError, DtypeError
            An argument is not as above.
        """
        return cls._of(
            sizes, num_layers, bidirectional, reverse, dropout, checkpoint, rng,
            reset_after=reset_after, init=init, recurrent_init=recurrent_init, bias=bias, dtype=dtype,
        )  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class LSTM(_Recurrent):
    r"""Long short-term memory over sequences; the step is that of `LSTMCell`.

    .. math:: h_t, c_t = \operatorname{LSTM}(x_t, h_{t-1}, c_{t-1})

    Parameters
    ----------
    cells : tuple of LSTMCell
        Layer by layer; of two directions the forward one first (PyTorch's order).
    bidirectional : bool, default False
        Whether each layer has a second cell that goes backwards; their outputs are joined.
    reverse : bool, default False
        Whether the only direction is backwards.
    dropout : float, in [0, 1), default 0.0
        Rate between the layers in training; not after the last one, nor from step to step.
    checkpoint : bool or int, default False
        As in `scan`: memory in the square root of the number of steps.

    Notes
    -----
    A frozen dataclass: arrays are leaves. ``layer(x)`` returns the outputs, so that it stands in a `Sequential`;
    ``layer.unroll(x, state)`` the outputs and the last states, a pair (h, c) for each cell.

    References
    ----------
    Hochreiter & Schmidhuber, "Long short-term memory", 1997.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> layer = nm.nn.LSTM.init((3, 4), num_layers=2, rng=0)
    >>> y, state = layer.unroll(np.ones((2, 5, 3)), lengths=np.array([5, 2]))
    >>> y.shape, len(state), state[1][0].shape
    ((2, 5, 4), 2, (2, 4))
    >>> bool(np.array_equal(state[1][0], y[[0, 1], [4, 1]]))
    True
    """

    _cell: ClassVar[Any] = LSTMCell

    @classmethod
    def init(
        cls,
        sizes: tuple[int, int],
        *,
        num_layers: int = 1,
        bidirectional: bool = False,
        reverse: bool = False,
        dropout: float = 0.0,
        checkpoint: bool | int = False,
        forget_bias: float = 1.0,
        init: Callable[..., Array] = glorot_uniform,
        recurrent_init: Callable[..., Array] = orthogonal,
        bias: bool = True,
        rng: Rng = None,
        dtype: DTypeLike = np.float64,
    ) -> LSTM:
        """Return a layer with random weights and biases of zeros, but for the forget gates'.

        Parameters
        ----------
        sizes : (in, features)
            Two integers >= 1.
        num_layers : int, default 1
            Of which each reads the outputs of the one before.
        bidirectional, reverse, dropout, checkpoint
            As for the class.
        forget_bias, init, recurrent_init, bias, rng, dtype
            As for `LSTMCell.init`.

        Returns
        -------
        LSTM
            On the default device.

        Raises
        ------
        ShapeError, DomainError, DtypeError
            An argument is not as above.
        """
        return cls._of(
            sizes, num_layers, bidirectional, reverse, dropout, checkpoint, rng,
            forget_bias=forget_bias, init=init, recurrent_init=recurrent_init, bias=bias, dtype=dtype,
        )  # fmt: skip
