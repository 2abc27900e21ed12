"""Recurrent cells: one step of a plain recurrent network, of gated recurrent units, of long short-term memory.

A cell is a frozen dataclass with ``cell(x, state) -> (y, state)`` and ``cell.initial_state(x)``. What `unroll` needs
besides is optional: ``project(x)`` does what depends on the input alone, for all steps in one product, and
``step(projected, state)`` the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core.autodiff.ops.conventions import constant
from nnmath_core.checks import (
    describe,
    require_callable,
    require_in,
    require_positive_int,
    require_real,
    require_rng,
    require_shape,
    sentence,
)
from nnmath_core.device import backend_for, current_default_device, entering
from nnmath_core.errors import DtypeError, ShapeError
from nnmath_core.nn.activations import relu, sigmoid
from nnmath_core.nn.initializers import glorot_uniform, require_float_dtype
from nnmath_core.nn.operands import require_operand, require_operand_of
from nnmath_core.nn.orthogonal import orthogonal
from nnmath_core.typing import Array, Rng

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]

LSTMState: TypeAlias = tuple[Array, Array]
"""Output and memory, (h, c)."""


@dataclass(frozen=True, eq=False, repr=False)
class _Cell:
    """What the three cells share: the shapes of the weights, and one product for the inputs of all steps."""

    weight: Array
    recurrent_weight: Array
    bias: Array | None

    _gates: ClassVar[int] = 1

    @property
    def features(self) -> int:
        """Length of the state."""
        return int(self.recurrent_weight.shape[0])

    def project(self, x: Any) -> Array:
        """Return the part of the gates that the input gives: ``x @ weight + bias``.

        Parameters
        ----------
        x : array, shape (..., in)
            Of one step or of all of them.

        Returns
        -------
        array, shape (..., gates * features)

        Raises
        ------
        ShapeError, DtypeError
            The weights do not fit each other or ``x``.
        """
        who = type(self).__name__
        weight = require_operand(who, "weight", self.weight)
        require_shape(who, "weight", weight, (None, None))
        u = require_operand_of(
            who, "recurrent_weight", self.recurrent_weight, weight.dtype, "weight"
        )
        n = weight.shape[1] // self._gates
        if weight.shape[1] % self._gates:
            wanted = f"of shape (in, {self._gates} * features)"
            raise ShapeError(sentence(who, "weight", wanted, str(tuple(weight.shape))))
        require_shape(who, "recurrent_weight", u, (n, weight.shape[1]))
        x = require_operand_of(who, "x", x, weight.dtype, "weight")
        if not x.shape or x.shape[-1] != weight.shape[0]:
            advice = f"Its rows must be as long as the weight {tuple(weight.shape)} is high."
            wanted = f"of shape (..., {weight.shape[0]})"
            raise ShapeError(sentence(who, "x", wanted, str(tuple(x.shape)), advice))
        z: Array = x @ weight
        if self.bias is None:
            return z
        bias = require_operand_of(who, "bias", self.bias, weight.dtype, "weight")
        require_shape(who, "bias", bias, (weight.shape[1],))
        return z + bias

    def _zeros(self, x: Any) -> Array:
        who = type(self).__name__
        x = require_operand(who, "x", x)
        dtype = np.result_type(x.dtype, self.weight.dtype, self.recurrent_weight.dtype)
        zeros: Array = constant(x, (*x.shape[:-1], self.features), 0.0, dtype)
        return zeros

    def _state(self, name: str, h: Any, projected: Array) -> Array:
        who = type(self).__name__
        state: Array = require_operand_of(who, name, h, projected.dtype, "weight")
        require_shape(who, name, state, (*projected.shape[:-1], self.features))
        return state

    def _part(self, z: Array, i: int) -> Array:
        n = self.features
        return z[..., i * n : (i + 1) * n]

    def __repr__(self) -> str:
        shape = tuple(getattr(self.weight, "shape", ()))
        sizes = (shape[0], shape[1] // self._gates) if len(shape) == 2 else describe(self.weight)
        return (
            f"{type(self).__name__}({sizes}, {getattr(self.weight, 'dtype', '')}{self._options()})"
        )

    def _options(self) -> str:
        return ""


def _drawn(
    who: str,
    sizes: Any,
    gates: int,
    init: Callable[..., Array],
    recurrent_init: Callable[..., Array],
    bias: bool,
    rng: Rng,
    dtype: DTypeLike,
) -> tuple[Array, Array, Array | None]:
    """Weight, recurrent weight and bias; each gate is drawn by itself, for its own fans."""
    if not isinstance(sizes, tuple | list) or len(sizes) != 2:
        got = str(sizes) if isinstance(sizes, tuple | list) else describe(sizes)
        raise ShapeError(sentence(who, "sizes", "a pair (in, features)", got))
    d, n = (require_positive_int(who, f"sizes[{i}]", v) for i, v in enumerate(sizes))
    require_callable(who, "init", init)
    require_callable(who, "recurrent_init", recurrent_init)
    require_in(who, "bias", bias, (True, False))
    kind = require_float_dtype(who, dtype)
    generator = require_rng(who, rng)

    def blocks(arg: str, f: Callable[..., Array], shape: tuple[int, int]) -> Array:
        drawn = [f(shape, rng=generator, dtype=kind) for _ in range(gates)]
        for w in drawn:
            w = require_operand_of(who, f"{arg}(...)", w, kind, "dtype")
            require_shape(who, f"{arg}(...)", w, shape)
        return np.concatenate(drawn, axis=1)

    weight = blocks("init", init, (d, n))
    recurrent = blocks("recurrent_init", recurrent_init, (n, n))
    xp = backend_for(current_default_device()).xp
    return weight, recurrent, xp.zeros(gates * n, kind) if bias else None


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"tanh": np.tanh, "relu": relu}


@dataclass(frozen=True, eq=False, repr=False)
class RNNCell(_Cell):
    r"""One step of a plain recurrent network.

    .. math:: h_t = \varphi(x_t W + h_{t-1} U + b)

    Parameters
    ----------
    weight : array, shape (in, features), float32 or float64
        The W.
    recurrent_weight : array, shape (features, features)
        The U.
    bias : array, shape (features,), or None
        PyTorch has two, of which only the sum matters.
    activation : {"tanh", "relu"}, default "tanh"
        The :math:`\varphi`.

    Notes
    -----
    A frozen dataclass: arrays are leaves. Weights are the transposes of PyTorch's ``weight_ih`` and ``weight_hh``.

    References
    ----------
    Elman, "Finding structure in time", 1990.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> cell = nm.nn.RNNCell.init((3, 2), rng=0)
    >>> y, h = cell(np.ones((5, 3)), np.zeros((5, 2)))
    >>> y.shape, y is h
    ((5, 2), True)
    """

    activation: str = "tanh"

    @classmethod
    def init(
        cls,
        sizes: tuple[int, int],
        *,
        activation: str = "tanh",
        init: Callable[..., Array] = glorot_uniform,
        recurrent_init: Callable[..., Array] = orthogonal,
        bias: bool = True,
        rng: Rng = None,
        dtype: DTypeLike = np.float64,
    ) -> RNNCell:
        """Return a cell with random weights and a bias of zeros.

        Parameters
        ----------
        sizes : (in, features)
            Two integers >= 1.
        activation : {"tanh", "relu"}, default "tanh"
            Of the step.
        init, recurrent_init : callable, default `glorot_uniform` and `orthogonal`
            ``init(shape, *, rng, dtype)``, for input and state.
        bias : bool, default True
            Whether the cell has one.
        rng : None, int or numpy.random.Generator
            Where the weights come from.
        dtype : dtype, default float64
            float32 or float64.

        Returns
        -------
        RNNCell
            On the default device.

        Raises
        ------
        ShapeError, DomainError, DtypeError
            An argument is not as above.
        """
        require_in("RNNCell.init", "activation", activation, tuple(_ACTIVATIONS))
        drawn = _drawn("RNNCell.init", sizes, 1, init, recurrent_init, bias, rng, dtype)
        return cls(*drawn, activation)

    def initial_state(self, x: Any) -> Array:
        """Return zeros, shape (..., features), for inputs of shape (..., in)."""
        return self._zeros(x)

    @entering
    def __call__(self, x: Any, state: Array) -> tuple[Array, Array]:
        """Return the output and the new state, which are the same.

        Parameters
        ----------
        x : array, shape (..., in)
            The inputs of one step.
        state : array, shape (..., features)
            The state before it.

        Returns
        -------
        y, state : array, shape (..., features)

        Raises
        ------
        ShapeError, DtypeError
            Input, state and weights do not fit.
        """
        return self.step(self.project(x), state)

    def step(self, projected: Array, state: Array) -> tuple[Array, Array]:
        """Return output and state of a step whose input has been projected."""
        require_in("RNNCell", "activation", self.activation, tuple(_ACTIVATIONS))
        h = self._state("state", state, projected)
        h = _ACTIVATIONS[self.activation](projected + h @ self.recurrent_weight)
        return h, h

    def _options(self) -> str:
        return "" if self.activation == "tanh" else f", activation={self.activation!r}"


@dataclass(frozen=True, eq=False, repr=False)
class GRUCell(_Cell):
    r"""One step of gated recurrent units.

    .. math::
        r &= \sigma(x W_r + h U_r + b_r), \qquad z = \sigma(x W_z + h U_z + b_z) \\
        n &= \tanh(x W_n + b_n + r \odot (h U_n + b_n')) \\
        h' &= (1 - z) \odot n + z \odot h

    Parameters
    ----------
    weight : array, shape (in, 3 * features), float32 or float64
        The blocks W for r, z, n, in this order, which is PyTorch's.
    recurrent_weight : array, shape (features, 3 * features)
        The blocks U.
    bias : array, shape (3 * features,), or None
        The blocks b.
    recurrent_bias : array, shape (features,), or None
        The :math:`b_n'`, inside of the reset gate; PyTorch's other biases of the state only add to ``bias``.
    reset_after : bool, default True
        True multiplies the product of the state by the reset gate, as above and as cuDNN and PyTorch do. False
        multiplies the state itself, :math:`n = \tanh(x W_n + b_n + (r \odot h) U_n)`, as in the original paper;
        there is no ``recurrent_bias`` then.

    Notes
    -----
    In the paper z and 1 - z are exchanged in the last line, which is another name for the same cell.

    References
    ----------
    Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> cell = nm.nn.GRUCell.init((3, 2), rng=0)
    >>> y, h = cell(np.ones((5, 3)), np.zeros((5, 2)))
    >>> y.shape, cell.weight.shape
    ((5, 2), (3, 6))
    """

    recurrent_bias: Array | None
    _: KW_ONLY
    reset_after: bool = True

    _gates: ClassVar[int] = 3

    @classmethod
    def init(
        cls,
        sizes: tuple[int, int],
        *,
        reset_after: bool = True,
        init: Callable[..., Array] = glorot_uniform,
        recurrent_init: Callable[..., Array] = orthogonal,
        bias: bool = True,
        rng: Rng = None,
        dtype: DTypeLike = np.float64,
    ) -> GRUCell:
        """Return a cell with random weights and biases of zeros.

        Parameters
        ----------
        sizes : (in, features)
            Two integers >= 1.
        reset_after : bool, default True
            Whether the reset gate comes after the product, as PyTorch has it, or before.
        init, recurrent_init : callable, default `glorot_uniform` and `orthogonal`
            ``init(shape, *, rng, dtype)``, for each block of input and state.
        bias : bool, default True
            Whether the cell has biases.
        rng : None, int or numpy.random.Generator
            Where the weights come from.
        dtype : dtype, default float64
            float32 or float64.

        Returns
        -------
        GRUCell
            On the default device.

        Raises
        ------
        ShapeError, DomainError, DtypeError
            An argument is not as above.
        """
        require_in("GRUCell.init", "reset_after", reset_after, (True, False))
        w, u, b = _drawn("GRUCell.init", sizes, 3, init, recurrent_init, bias, rng, dtype)
        inner = b[: sizes[1]].copy() if b is not None and reset_after else None
        return cls(w, u, b, inner, reset_after=bool(reset_after))

    def initial_state(self, x: Any) -> Array:
        """Return zeros, shape (..., features), for inputs of shape (..., in)."""
        return self._zeros(x)

    @entering
    def __call__(self, x: Any, state: Array) -> tuple[Array, Array]:
        """Return the output and the new state, which are the same.

        Parameters
        ----------
        x : array, shape (..., in)
            The inputs of one step.
        state : array, shape (..., features)
            The state before it.

        Returns
        -------
        y, state : array, shape (..., features)

        Raises
        ------
        ShapeError, DtypeError
            Input, state and weights do not fit.
        DomainError
            There is a ``recurrent_bias`` without ``reset_after``.
        """
        return self.step(self.project(x), state)

    def step(self, projected: Array, state: Array) -> tuple[Array, Array]:
        """Return output and state of a step whose input has been projected."""
        h = self._state("state", state, projected)
        n, u = self.features, self.recurrent_weight
        inner = self.recurrent_bias
        if inner is not None:
            if not self.reset_after:
                advice = "Without `reset_after` the bias of the state only adds to `bias`."
                raise DtypeError(
                    sentence("GRUCell", "recurrent_bias", "None", describe(inner), advice)
                )
            inner = require_operand_of(
                "GRUCell", "recurrent_bias", inner, projected.dtype, "weight"
            )
            require_shape("GRUCell", "recurrent_bias", inner, (n,))
        if self.reset_after:
            product = h @ u
            gates = sigmoid(projected[..., : 2 * n] + product[..., : 2 * n])
            r, z = gates[..., :n], gates[..., n:]
            candidate = self._part(product, 2)
            candidate = r * (candidate if inner is None else candidate + inner)
        else:
            gates = sigmoid(projected[..., : 2 * n] + h @ u[:, : 2 * n])
            r, z = gates[..., :n], gates[..., n:]
            candidate = (r * h) @ u[:, 2 * n :]
        new = np.tanh(self._part(projected, 2) + candidate)
        h = new + z * (h - new)
        return h, h

    def _options(self) -> str:
        return "" if self.reset_after else ", reset_after=False"


@dataclass(frozen=True, eq=False, repr=False)
class LSTMCell(_Cell):
    r"""One step of long short-term memory.

    .. math::
        i, f, o &= \sigma(x W_k + h U_k + b_k) \quad (k = i, f, o), \qquad
        g = \tanh(x W_g + h U_g + b_g) \\
        c' &= f \odot c + i \odot g, \qquad h' = o \odot \tanh(c')

    Parameters
    ----------
    weight : array, shape (in, 4 * features), float32 or float64
        The blocks W for i, f, g, o, in this order, which is PyTorch's and Keras' (TensorFlow 1: i, g, f, o).
    recurrent_weight : array, shape (features, 4 * features)
        The blocks U.
    bias : array, shape (4 * features,), or None
        The blocks b. PyTorch has two, of which only the sum matters.

    Notes
    -----
    The state is the pair (h, c) of output and memory.

    References
    ----------
    Hochreiter & Schmidhuber, "Long short-term memory", 1997.
    Gers et al., "Learning to forget", 2000.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> cell = nm.nn.LSTMCell.init((3, 2), rng=0)
    >>> x = np.ones((5, 3))
    >>> y, (h, c) = cell(x, cell.initial_state(x))
    >>> y is h, c.shape, cell.bias
    (True, (5, 2), array([0., 0., 1., 1., 0., 0., 0., 0.]))
    """

    _gates: ClassVar[int] = 4

    @classmethod
    def init(
        cls,
        sizes: tuple[int, int],
        *,
        forget_bias: float = 1.0,
        init: Callable[..., Array] = glorot_uniform,
        recurrent_init: Callable[..., Array] = orthogonal,
        bias: bool = True,
        rng: Rng = None,
        dtype: DTypeLike = np.float64,
    ) -> LSTMCell:
        """Return a cell with random weights and biases of zeros, but for the forget gate's.

        Parameters
        ----------
        sizes : (in, features)
            Two integers >= 1.
        forget_bias : float, default 1.0
            The first bias of the forget gate: above 0 memory is kept from the start. (Keras has 1; PyTorch draws it;
            Flax has 0.)
        init, recurrent_init : callable, default `glorot_uniform` and `orthogonal`
            ``init(shape, *, rng, dtype)``, for each block of input and state.
        bias : bool, default True
            Whether the cell has one; without, ``forget_bias`` is not looked at.
        rng : None, int or numpy.random.Generator
            Where the weights come from.
        dtype : dtype, default float64
            float32 or float64.

        Returns
        -------
        LSTMCell
            On the default device.

        Raises
        ------
        ShapeError, DomainError, DtypeError
            An argument is not as above.
        """
        who = "LSTMCell.init"
        start = require_real(who, "forget_bias", forget_bias, np.isfinite, "a finite number")
        w, u, b = _drawn(who, sizes, 4, init, recurrent_init, bias, rng, dtype)
        if b is not None:
            b[sizes[1] : 2 * sizes[1]] = start
        return cls(w, u, b)

    def initial_state(self, x: Any) -> LSTMState:
        """Return a pair of zeros, shape (..., features), for inputs of shape (..., in)."""
        zeros = self._zeros(x)
        return zeros, zeros

    @entering
    def __call__(self, x: Any, state: LSTMState) -> tuple[Array, LSTMState]:
        """Return the output and the new state.

        Parameters
        ----------
        x : array, shape (..., in)
            The inputs of one step.
        state : pair of arrays, shape (..., features)
            Output and memory (h, c) before it.

        Returns
        -------
        y : array, shape (..., features)
        state : pair of arrays
            ``(y, c)``.

        Raises
        ------
        ShapeError, DtypeError
            Input, state and weights do not fit.
        """
        return self.step(self.project(x), state)

    def step(self, projected: Array, state: LSTMState) -> tuple[Array, LSTMState]:
        """Return output and state of a step whose input has been projected."""
        if not isinstance(state, tuple | list) or len(state) != 2:
            wanted = "a pair (h, c) of output and memory"
            raise DtypeError(sentence("LSTMCell", "state", wanted, describe(state)))
        h, c = (self._state(f"state[{i}]", s, projected) for i, s in enumerate(state))
        z = projected + h @ self.recurrent_weight
        n = self.features
        first = sigmoid(z[..., : 2 * n])  # i and f are neighbours
        c = first[..., n:] * c + first[..., :n] * np.tanh(self._part(z, 2))
        h = sigmoid(self._part(z, 3)) * np.tanh(c)
        return h, (h, c)
