"""Rows for indices, and what tells positions apart."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core._ext._autodiff import Tracer, value_of
from nnmath_core.autodiff.ops.conventions import beside
from nnmath_core.autodiff.ops.index import take
from nnmath_core.autodiff.transforms import stop_gradient
from nnmath_core.checks import (
    describe,
    require_in,
    require_int,
    require_positive_int,
    require_real,
    require_rng,
    require_shape,
    sentence,
)
from nnmath_core.device import backend_for, backend_of, current_default_device, entering
from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.nn.initializers import require_float_dtype
from nnmath_core.nn.operands import require_operand, require_operand_of
from nnmath_core.typing import Array, Rng

__all__ = ["Embedding", "PositionEmbedding", "positional_encoding", "rotary"]


@dataclass(frozen=True, eq=False, repr=False)
class Embedding:
    r"""A learnt row for each index.

    .. math:: y_{i} = W_{x_i}

    Parameters
    ----------
    weight : array, shape (n, d), float32 or float64
        A row for each of n indices.
    padding_index : int, optional
        An index whose row gets no derivative, as PyTorch's ``padding_idx``.

    Notes
    -----
    ``layer(x)`` is the product of one-hot rows with the weight, without the zeros. Its derivative adds the rows of the
    gradient at their indices: an index that occurs several times gets the sum, one that does not gets zeros.
    While a function is staged indices have no values: one out of range then gives NaN.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> layer = nm.nn.Embedding(np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]))
    >>> layer(np.array([2, 0, 2]))
    array([[4., 5.],
           [0., 1.],
           [4., 5.]])
    >>> nm.grad(lambda l: l(np.array([2, 0, 2])).sum())(layer).weight
    array([[1., 1.],
           [0., 0.],
           [2., 2.]])
    """

    weight: Array
    padding_index: int | None = field(default=None, metadata={"static": True})

    @classmethod
    def init(
        cls,
        n: int,
        d: int,
        *,
        padding_index: int | None = None,
        std: float = 1.0,
        rng: Rng = None,
        dtype: DTypeLike = np.float64,
    ) -> Embedding:
        """Return a layer with normal rows; that of ``padding_index`` is zero.

        Parameters
        ----------
        n : int
            How many indices.
        d : int
            Length of a row.
        padding_index : int, optional
            In [0, n).
        std : float, default 1
            Standard deviation of an entry; 1 is PyTorch's, Flax has ``1 / sqrt(d)``.
        rng : None, int or numpy.random.Generator
            Where the rows come from.
        dtype : dtype, default float64
            float32 or float64.

        Returns
        -------
        Embedding
            On the default device.

        Raises
        ------
        DomainError, DtypeError
            A size is below 1, ``padding_index`` out of range, ``std`` negative, or an argument of another type.
        """
        who = "Embedding.init"
        n, d = require_positive_int(who, "n", n), require_positive_int(who, "d", d)
        if padding_index is not None:
            padding_index = require_int(who, "padding_index", padding_index, minimum=0)
            if padding_index >= n:
                wanted = f"an integer in [0, {n})"
                raise DomainError(sentence(who, "padding_index", wanted, str(padding_index)))
        std = _standard_deviation(who, std)
        dtype = require_float_dtype(who, dtype)
        weight = std * require_rng(who, rng).standard_normal((n, d))
        if padding_index is not None:
            weight[padding_index] = 0.0
        return cls(_placed(weight, dtype), padding_index)

    @entering
    def __call__(self, x: Array) -> Array:
        """Return the rows of the indices.

        Parameters
        ----------
        x : integer array
            Indices in [0, n), of any shape; nothing counts from the end.

        Returns
        -------
        array, shape of ``x`` and (d,) behind it

        Raises
        ------
        DtypeError
            ``x`` is no array of integers.
        DomainError
            An index is out of range (the message names the first).
        ShapeError
            The weight is no matrix, or has no rows.
        """
        who = "Embedding"
        weight = require_operand(who, "weight", self.weight)
        require_shape(who, "weight", weight, (None, None))
        n = weight.shape[0]
        x = _indices(who, x)
        right = _in_range(who, x, n)
        if not n:  # and no index, or there would have been an error
            raise ShapeError(sentence(who, "weight", "of a row at least", str(tuple(weight.shape))))
        if right is not None:
            x = np.clip(x, 0, n - 1)
        rows: Array = take(weight, x, axis=0)
        if self.padding_index is not None:
            padded = np.equal(x, self.padding_index)[..., None]
            rows = np.where(padded, stop_gradient(rows), rows)
        y: Array = rows if right is None else np.where(right[..., None], rows, math.nan)
        return y

    def __repr__(self) -> str:
        padded = "" if self.padding_index is None else f", padding_index: {self.padding_index}"
        return f"Embedding(weight: {describe(self.weight)}{padded})"


@dataclass(frozen=True, eq=False, repr=False)
class PositionEmbedding:
    r"""A learnt row for each position, added to a sequence.

    .. math:: y_t = x_t + W_t

    Parameters
    ----------
    weight : array, shape (length, d), float32 or float64
        A row for each position up to the longest sequence.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> layer = nm.nn.PositionEmbedding(np.array([[1.0], [2.0], [3.0]]))
    >>> layer(np.zeros((2, 2, 1)))[0]
    array([[1.],
           [2.]])
    """

    weight: Array

    @classmethod
    def init(
        cls,
        length: int,
        d: int,
        *,
        std: float = 0.02,
        rng: Rng = None,
        dtype: DTypeLike = np.float64,
    ) -> PositionEmbedding:
        """Return a layer with normal rows.

        Parameters
        ----------
        length : int
            Of the longest sequence.
        d : int
            Length of a row.
        std : float, default 0.02
            Standard deviation of an entry.
        rng : None, int or numpy.random.Generator
            Where the rows come from.
        dtype : dtype, default float64
            float32 or float64.

        Returns
        -------
        PositionEmbedding
            On the default device.

        Raises
        ------
        DomainError, DtypeError
            A size is below 1, ``std`` negative, or an argument of another type.
        """
        who = "PositionEmbedding.init"
        length, d = require_positive_int(who, "length", length), require_positive_int(who, "d", d)
        std = _standard_deviation(who, std)
        dtype = require_float_dtype(who, dtype)
        return cls(_placed(std * require_rng(who, rng).standard_normal((length, d)), dtype))

    @entering
    def __call__(self, x: Array) -> Array:
        """Return ``x`` with the rows of its positions added.

        Parameters
        ----------
        x : array, shape (..., t, d), dtype of ``weight``
            t is at most ``length``.

        Returns
        -------
        array, shape of ``x``

        Raises
        ------
        ShapeError
            The sequence is longer than the weight, or has rows of another length.
        DtypeError
            The dtypes differ.
        """
        who = "PositionEmbedding"
        weight = require_operand(who, "weight", self.weight)
        require_shape(who, "weight", weight, (None, None))
        x = require_operand_of(who, "x", x, weight.dtype, "weight")
        length, d = weight.shape
        if len(x.shape) < 2 or x.shape[-1] != d or x.shape[-2] > length:
            wanted = f"of shape (..., t, {d}) with t <= {length}"
            raise ShapeError(sentence(who, "x", wanted, str(tuple(x.shape))))
        y: Array = x + weight[: x.shape[-2]]
        return y

    def __repr__(self) -> str:
        return f"PositionEmbedding(weight: {describe(self.weight)})"


def positional_encoding(
    length: int, d: int, *, base: float = 10000.0, dtype: DTypeLike = np.float64
) -> Array:
    r"""Sines and cosines of the positions, at wavelengths from :math:`2 \pi` to :math:`2 \pi` times the base.

    .. math:: P_{t, 2i} = \sin(t / b^{2i/d}), \qquad P_{t, 2i+1} = \cos(t / b^{2i/d})

    Parameters
    ----------
    length : int
        How many positions, >= 0.
    d : int
        Length of a row; an odd one ends with a sine.
    base : float, default 10000
        :math:`b`, > 0.
    dtype : dtype, default float64
        float32 or float64.

    Returns
    -------
    array, shape (length, d)
        On the default device; add it to a sequence (..., length, d). Computed in float64 and rounded once.

    Raises
    ------
    DomainError, DtypeError
        A size or the base is out of range, or an argument of another type.

    Notes
    -----
    The row of ``t + k`` is a rotation of that of ``t`` which depends on ``k`` alone.

    References
    ----------
    Vaswani et al., "Attention is all you need", 2017, section 3.5.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> nm.nn.positional_encoding(2, 4).round(6)
    array([[0.      , 1.      , 0.      , 1.      ],
           [0.841471, 0.540302, 0.01    , 0.99995 ]])
    """
    who = "positional_encoding"
    length = require_int(who, "length", length, minimum=0)
    d = require_positive_int(who, "d", d)
    dtype = require_float_dtype(who, dtype)
    angles = np.arange(length)[:, None] * _frequencies(who, d, base)
    table = np.empty((length, d))
    table[:, ::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles[:, : d // 2])
    return _placed(table, dtype)


@entering
def rotary(x: Array, *, base: float = 10000.0, offset: int = 0, interleaved: bool = False) -> Array:
    r"""Turn pairs of entries of queries or keys by angles that grow with their position.

    .. math::
        \begin{pmatrix} y_{2i} \\ y_{2i+1} \end{pmatrix} =
        \begin{pmatrix} \cos \theta & -\sin \theta \\ \sin \theta & \cos \theta \end{pmatrix}
        \begin{pmatrix} x_{2i} \\ x_{2i+1} \end{pmatrix}, \qquad \theta = t / b^{2i/d}

    Parameters
    ----------
    x : array, shape (..., t, d), float32 or float64
        Queries or keys of heads; d is even.
    base : float, default 10000
        :math:`b`, > 0.
    offset : int, default 0
        The position of the first row.
    interleaved : bool, default False
        True pairs neighbours, as the formula and the paper do; False pairs entry i with entry i + d / 2, as the weights
        of Llama and GPT-NeoX want it.

    Returns
    -------
    array, shape and dtype of ``x``

    Raises
    ------
    ShapeError
        d is odd, or ``x`` has fewer than two axes.
    DomainError, DtypeError
        An argument is out of range or of another type.

    Notes
    -----
    Products of turned queries and keys depend on the difference of their positions alone. The map is linear and keeps
    lengths.

    References
    ----------
    Su et al., "RoFormer: enhanced transformer with rotary position embedding", 2021.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.rotary(np.ones((2, 2))).round(6)
    array([[ 1.      ,  1.      ],
           [-0.301169,  1.381773]])
    """
    who = "rotary"
    x = require_operand(who, "x", x)
    if len(x.shape) < 2 or x.shape[-1] % 2:
        wanted = "of shape (..., t, d) with an even d"
        raise ShapeError(sentence(who, "x", wanted, str(tuple(x.shape))))
    offset = require_int(who, "offset", offset, minimum=0)
    length, d = x.shape[-2:]
    angles = np.arange(offset, offset + length)[:, None] * _frequencies(who, d, base)
    real = np.zeros((), x.dtype).real.dtype
    cos, sin = (beside(x, f(angles).astype(real)) for f in (np.cos, np.sin))
    require_in("rotary", "interleaved", interleaved, (False, True))
    if interleaved:
        a, b = x[..., ::2], x[..., 1::2]
        pairs = np.stack([a * cos - b * sin, a * sin + b * cos], axis=-1)
        y: Array = pairs.reshape(x.shape)
        return y
    a, b = x[..., : d // 2], x[..., d // 2 :]
    y = np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
    return y


def _frequencies(who: str, d: int, base: Any) -> Any:
    base = require_real(who, "base", base, lambda b: 0 < b < math.inf, "finite and > 0")
    return float(base) ** (-np.arange(0, d, 2) / max(d, 1))


def _standard_deviation(who: str, std: Any) -> float:
    return require_real(who, "std", std, lambda s: 0 <= s < math.inf, "finite and >= 0")


def _placed(x: Any, dtype: Any) -> Array:
    array: Array = backend_for(current_default_device()).from_host(x.astype(dtype))
    return array


def _indices(who: str, x: Any) -> Any:
    if isinstance(x, int | np.integer) and not isinstance(x, bool):
        x = np.asarray(x)
    dtype = getattr(x, "dtype", None)
    if dtype is None or isinstance(x, np.ma.MaskedArray) or np.dtype(dtype).kind not in "iu":
        advice = "Indices are integers: `x.astype(int)`." if dtype is not None else ""
        raise DtypeError(sentence(who, "x", "an array of integers", describe(x), advice))
    return x


def _in_range(who: str, x: Any, n: int) -> Any:
    """Refuse indices out of range; without values return a mask."""
    values = value_of(x)
    if isinstance(values, Tracer):
        return np.logical_and(x >= 0, x < n)
    be = backend_of(values)
    with be.scope():
        wrong = be.xp.logical_or(values < 0, values >= n)
        if wrong.size and bool(be.xp.any(wrong)):
            at = tuple(int(i) for i in np.unravel_index(int(be.xp.argmax(wrong)), wrong.shape))
            where = f" at index {at[0] if len(at) == 1 else at}" if at else ""
            got = f"{int(values[at])}{where}"
            advice = "The weight has a row for each."
            raise DomainError(sentence(who, "x", f"integers in [0, {n})", got, advice))
    return None
