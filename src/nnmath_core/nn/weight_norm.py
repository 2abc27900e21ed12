"""Weight normalisation: the length of a weight and its direction as separate parameters."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core.autodiff.ops.norms import norm_p
from nnmath_core.autodiff.ops.standardize import rms_p
from nnmath_core.checks import describe, require_shape, sentence
from nnmath_core.device import entering
from nnmath_core.errors import DtypeError, ShapeError
from nnmath_core.nn.operands import require_axes, require_operand, require_operand_of
from nnmath_core.nn.training import show_layer, train_layer
from nnmath_core.typing import Array, ArrayLike

__all__ = ["WeightNorm", "require_weighted", "weight_norm"]


@entering
def weight_norm(
    direction: Array, magnitude: ArrayLike, *, axis: int | tuple[int, ...] | None = -1
) -> Array:
    r"""Return weights with the directions of one array and the lengths in another one.

    .. math:: w_{\cdot o} = g_o \frac{v_{\cdot o}}{\lVert v_{\cdot o} \rVert}

    Parameters
    ----------
    direction : array, float32 or float64
        v; its lengths do not matter.
    magnitude : array, shape of ``direction`` along ``axis``, dtype of ``direction``
        g.
    axis : int, tuple of int or None, default -1
        The axes that stay: a length for each index along them; None: one length for the whole array. The last one is
        the axis of the outputs of dense layers and convolutions, PyTorch's ``dim=0``.

    Returns
    -------
    array, shape and dtype of ``direction``

    Raises
    ------
    ShapeError
        ``magnitude`` has another shape, or a direction has no entries.
    DtypeError
        An argument is no array of floats, or the dtypes differ.
    DomainError
        An axis does not exist, or is named twice.

    Notes
    -----
    With :math:`u = v / \lVert v \rVert` and g the gradient in w, that in the magnitude is :math:`u \cdot g`, that in
    the direction :math:`\frac{g_o}{\lVert v \rVert} (g - u \, u \cdot g)`, orthogonal to v: gradient steps only make
    v longer. A direction 0 gives 0, and its derivative is 0, as that of the norm. Nothing overflows where v and w do
    not.

    References
    ----------
    Salimans & Kingma, "Weight normalization", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.weight_norm(np.array([[3.0, 0.0], [4.0, 2.0]]), np.array([10.0, 1.0]))
    array([[6., 0.],
           [8., 1.]])
    """
    who = "weight_norm"
    v = require_operand(who, "direction", direction)
    g = require_operand_of(who, "magnitude", magnitude, v.dtype, "direction")
    ndim = len(v.shape)
    stays = () if axis is None else require_axes(who, "direction", axis, ndim)
    over = tuple(k for k in range(ndim) if k not in stays)
    require_shape(who, "magnitude", g, tuple(v.shape[k] for k in stays))
    count = math.prod(v.shape[k] for k in over)
    if not over or not count:
        wanted = f"an array with entries beside `axis` = {axis}"
        raise ShapeError(sentence(who, "direction", wanted, f"shape {tuple(v.shape)}"))
    g = np.reshape(g, tuple(1 if k in over else n for k, n in enumerate(v.shape)))
    w: Array = rms_p(v, axis=over, eps=0.0)[0] * (g * (1.0 / math.sqrt(count)))
    return w


def require_weighted(who: str, layer: Any) -> Array:
    """Return the weight of a layer, a dataclass with a field ``weight``.

    Raises
    ------
    DtypeError
        It is none, or its weight no array of floats.
    """
    wanted = "a layer with a field `weight`"
    if not dataclasses.is_dataclass(layer) or isinstance(layer, type) or not callable(layer):
        raise DtypeError(sentence(who, "layer", wanted, describe(layer)))
    if "weight" not in {field.name for field in dataclasses.fields(layer)}:
        raise DtypeError(sentence(who, "layer", wanted, f"a {type(layer).__name__} without one"))
    weight: Any = getattr(layer, "weight")  # noqa: B009 (of a dataclass, mypy knows no fields)
    return require_operand(who, "layer.weight", weight)


@dataclass(frozen=True, eq=False, repr=False)
class WeightNorm:
    r"""A layer whose weight is given by length and direction.

    Parameters
    ----------
    layer : dataclass with a field ``weight``
        `Dense`, a convolution, ...; its weight is the direction, whose length does not matter.
    magnitude : array, shape of the weight along ``axis``
        The lengths of the weight that is used.
    axis : int, tuple of int or None
        As in `weight_norm`.

    Notes
    -----
    PyTorch's ``parametrizations.weight.original0`` is the magnitude, its ``original1`` the direction.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> layer = nm.nn.WeightNorm.init(nm.nn.Dense(np.array([[3.0], [4.0]]), None))
    >>> layer.magnitude, layer(np.array([[1.0, 1.0]]))
    (array([5.]), array([[7.]]))
    """

    layer: Any
    magnitude: Array
    axis: int | tuple[int, ...] | None

    @classmethod
    def init(cls, layer: Any, *, axis: int | tuple[int, ...] | None = -1) -> WeightNorm:
        """Return the layer in the new parameters; it computes what it did before.

        Parameters
        ----------
        layer : dataclass with a field ``weight``
        axis : int, tuple of int or None, default -1
            The axes along which there is a length for each index.

        Returns
        -------
        WeightNorm

        Raises
        ------
        DtypeError
            ``layer`` has no weight of floats.
        DomainError
            An axis does not exist, or is named twice.
        """
        weight = require_weighted("WeightNorm.init", layer)
        ndim = len(weight.shape)
        stays = () if axis is None else require_axes("WeightNorm.init", "layer.weight", axis, ndim)
        over = tuple(k for k in range(ndim) if k not in stays)
        return cls(layer, norm_p(weight, axis=over, keepdims=False), axis)

    def _used(self) -> Any:
        weight = require_weighted("WeightNorm", self.layer)
        weight = weight_norm(weight, self.magnitude, axis=self.axis)
        return dataclasses.replace(self.layer, weight=weight)

    @entering
    def __call__(self, x: Array) -> Array:
        """Return the layer's output, with the weight of these lengths and directions.

        Parameters
        ----------
        x : array
            What the layer takes.

        Returns
        -------
        array

        Raises
        ------
        ShapeError, DtypeError
            The magnitude does not fit the weight, or ``x`` not the layer.
        """
        y: Array = self._used()(x)
        return y

    @entering
    def train(self, x: Array, *, key: Array | None = None) -> tuple[Array, WeightNorm]:
        """Return the layer's output in training, and the layer after it.

        Parameters
        ----------
        x : array
            What the layer takes.
        key : array, optional
            What the layer takes.

        Returns
        -------
        y : array
        layer : WeightNorm
            With the new statistics of the inner layer, where it has some.

        Raises
        ------
        ShapeError, DtypeError
            The magnitude does not fit the weight, or ``x`` not the layer.
        """
        y, new = train_layer(self._used(), x, key)
        inner = dataclasses.replace(new, weight=self.layer.weight)
        return y, dataclasses.replace(self, layer=inner)

    def __repr__(self) -> str:
        parts = f"{show_layer(self.layer)}, magnitude: {describe(self.magnitude)}"
        return f"WeightNorm({parts}, axis: {self.axis})"
