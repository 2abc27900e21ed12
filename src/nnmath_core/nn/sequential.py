"""Layers one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from nnmath_core.checks import describe, sentence
from nnmath_core.device import entering
from nnmath_core.errors import DtypeError
from nnmath_core.nn.training import is_function, key_of, require_layer, show_layer, train_layer
from nnmath_core.typing import Array

__all__ = ["Sequential"]


@dataclass(frozen=True, eq=False, repr=False)
class _Function:
    """A function among layers: part of the structure of the tree, where a bare one would be a leaf."""

    function: Callable[[Any], Any]

    def __call__(self, x: Any) -> Any:
        return self.function(x)


@dataclass(frozen=True, eq=False, repr=False)
class Sequential:
    r"""Layers one after another, each of the output of the one before.

    .. math:: y = f_L(\ldots f_2(f_1(x)))

    Parameters
    ----------
    layers : sequence of layers and functions
        Dataclasses that are called with one argument, and functions of one array (`relu`, `numpy.tanh`, a lambda, a
        `functools.partial`). Functions belong to the structure of the tree. None at all is the identity.

    Raises
    ------
    DtypeError
        ``layers`` is no sequence, or one of them is neither of the two.

    Notes
    -----
    ``model[1]`` is the second layer or function, ``model[:2]`` a `Sequential` of two; iteration and ``len`` work.
    `save` and `load` know a model whose functions are of this package or NumPy's ufuncs; another one needs ``like=``.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> model = nm.nn.Sequential([
    ...     nm.nn.Dense.init((4, 8), rng=0), nm.nn.relu, nm.nn.Dense.init((8, 3), rng=1),
    ... ])
    >>> model(np.ones((5, 4))).shape, len(model), model[1].__name__
    ((5, 3), 3, 'relu')
    >>> nm.grad(lambda m: m(np.ones((5, 4))).sum())(model)[2].bias
    array([5., 5., 5.])
    """

    layers: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.layers, list | tuple):
            wanted = "a list or tuple of layers"
            raise DtypeError(sentence("Sequential", "layers", wanted, describe(self.layers)))
        layers = tuple(_as_layer(f"layers[{i}]", layer) for i, layer in enumerate(self.layers))
        object.__setattr__(self, "layers", layers)

    @entering
    def __call__(self, x: Array) -> Array:
        """Return the output of the last layer.

        Parameters
        ----------
        x : array
            What the first layer takes.

        Returns
        -------
        array

        Raises
        ------
        NnmathError
            What a layer raises: an output that does not fit the next one.
        """
        for layer in self.layers:
            x = layer(x)
        return x

    @entering
    def train(self, x: Array, *, key: Array | None = None) -> tuple[Array, Sequential]:
        """Return the output in training, and the layers with their new statistics.

        Parameters
        ----------
        x : array
            What the first layer takes.
        key : key, optional
            For layers that draw numbers; layer i gets ``nm.random.fold_in(key, i)``.

        Returns
        -------
        y : array
        new : Sequential
        """
        made = []
        for i, layer in enumerate(self.layers):
            x, new = train_layer(layer, x, key_of(key, i))
            made.append(new)
        return x, Sequential(tuple(made))

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Any]:
        return map(_as_given, self.layers)

    def __getitem__(self, i: int | slice) -> Any:
        return Sequential(self.layers[i]) if isinstance(i, slice) else _as_given(self.layers[i])

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(show_layer, self))})"


def _as_layer(arg: str, layer: Any) -> Any:
    require_layer("Sequential", arg, layer)
    return _Function(layer) if is_function(layer) else layer


def _as_given(layer: Any) -> Any:
    return layer.function if isinstance(layer, _Function) else layer
