"""A layer beside which its input passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nnmath_core.checks import sentence
from nnmath_core.device import entering
from nnmath_core.errors import ShapeError
from nnmath_core.nn.operands import require_operand, require_operand_of
from nnmath_core.nn.training import key_of, require_layer, show_layer, train_layer
from nnmath_core.typing import Array

__all__ = ["Residual"]


@dataclass(frozen=True, eq=False, repr=False)
class Residual:
    r"""The sum of the input and of a layer of it.

    .. math:: y = x + f(x), \qquad \text{or } y = P(x) + f(x)

    Parameters
    ----------
    layer : layer or function
        Of one array; a `Sequential` for several.
    projection : layer or function, optional
        Of the input, where ``layer`` changes the shape: a `Dense`, a convolution with kernels of one entry.

    Raises
    ------
    DtypeError
        ``layer`` or ``projection`` is neither of the two.

    Notes
    -----
    The Jacobian is :math:`I + \partial f / \partial x`: the gradient reaches the input whatever ``layer`` does to it.

    References
    ----------
    He, Zhang, Ren & Sun, "Deep residual learning for image recognition", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> block = nm.nn.Residual(np.tanh)
    >>> block(np.array([0.0, 1.0]))
    array([0.        , 1.76159416])
    """

    layer: Any
    projection: Any = None

    def __post_init__(self) -> None:
        require_layer("Residual", "layer", self.layer)
        if self.projection is not None:
            require_layer("Residual", "projection", self.projection)

    @entering
    def __call__(self, x: Array) -> Array:
        """Return ``x + layer(x)``.

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
            The two terms differ in shape or dtype; nothing is broadcast or converted.
        """
        straight = x if self.projection is None else self.projection(x)
        return self._sum(straight, self.layer(x))

    @entering
    def train(self, x: Array, *, key: Array | None = None) -> tuple[Array, Residual]:
        """Return the output in training, and the layers with their new statistics.

        Parameters
        ----------
        x : array
            What the layer takes.
        key : key, optional
            For layers that draw numbers.

        Returns
        -------
        y : array
        new : Residual
        """
        y, layer = train_layer(self.layer, x, key_of(key, 0))
        if self.projection is None:
            return self._sum(x, y), Residual(layer)
        straight, projection = train_layer(self.projection, x, key_of(key, 1))
        return self._sum(straight, y), Residual(layer, projection)

    def _sum(self, straight: Any, y: Any) -> Array:
        who, arg = "Residual", "x" if self.projection is None else "projection(x)"
        straight = require_operand(who, arg, straight)
        y = require_operand_of(who, "layer(x)", y, straight.dtype, arg)
        if tuple(straight.shape) != tuple(y.shape):
            wanted = f"of the shape {tuple(straight.shape)} that is added to it"
            advice = "Where a layer changes the shape give it a `projection` of the input."
            raise ShapeError(sentence(who, "layer(x)", wanted, str(tuple(y.shape)), advice))
        total: Array = straight + y
        return total

    def __repr__(self) -> str:
        parts = [self.layer] if self.projection is None else [self.layer, self.projection]
        return f"Residual({', '.join(show_layer(part) for part in parts)})"
