"""The multilayer perceptron."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core.checks import (
    describe,
    require_callable,
    require_positive_int,
    require_rng,
    sentence,
)
from nnmath_core.device import entering
from nnmath_core.errors import ShapeError
from nnmath_core.nn.activations import relu
from nnmath_core.nn.dense import Dense
from nnmath_core.nn.initializers import he_normal
from nnmath_core.nn.training import require_activation
from nnmath_core.typing import Array, Rng

__all__ = ["MLP"]


@dataclass(frozen=True, eq=False, repr=False)
class MLP:
    r"""Dense layers with an activation between them.

    .. math:: h_0 = x, \qquad h_l = \varphi(h_{l-1} W_l + b_l), \qquad
        y = h_{L-1} W_L + b_L

    Parameters
    ----------
    layers : tuple of Dense
    activation : callable
        Of one array, from traceable functions: `relu`, `numpy.tanh`, a function of your own. It
        belongs to the structure of the tree, unless it is itself a dataclass with arrays.

    Notes
    -----
    A frozen dataclass, as `Dense`: ``grad(loss)(model)`` is an MLP of gradients. `save` and `load`
    know a model with an activation of this package or of NumPy; another one needs ``like=``.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> model = nm.nn.MLP.init((4, 8, 3), rng=0)
    >>> model(np.ones((5, 4))).shape
    (5, 3)
    >>> loss = lambda m, x, y: nm.nn.softmax_cross_entropy(m(x), y).mean()
    >>> nm.grad(loss)(model, np.ones((5, 4)), np.zeros(5, int)).layers[1].bias.shape
    (3,)
    """

    layers: tuple[Dense, ...]
    activation: Callable[[Array], Array]

    @classmethod
    def init(
        cls,
        sizes: Sequence[int],
        *,
        activation: Callable[[Array], Array] = relu,
        init: Callable[..., Array] = he_normal,
        rng: Rng = None,
        dtype: DTypeLike = np.float64,
    ) -> MLP:
        """Return a network with random weights and biases of zeros.

        Parameters
        ----------
        sizes : sequence of int, (in, hidden, ..., out)
            Two or more integers >= 1; two are a single dense layer.
        activation : callable, default `relu`
            Between the layers; the last one has none.
        init : callable, default `he_normal`
            ``init(shape, *, rng, dtype)`` returns a weight. `he_normal` belongs to `relu`; take
            `glorot_uniform` or `glorot_normal` with `tanh`.
        rng : None, int or numpy.random.Generator
            Where the weights come from, layer by layer.
        dtype : dtype, default float64
            float32 or float64.

        Returns
        -------
        MLP
            On the default device.

        Raises
        ------
        ShapeError
            There are fewer than two sizes.
        DomainError, DtypeError
            A size, ``activation``, ``init``, ``rng`` or ``dtype`` is not as above.
        """
        if not isinstance(sizes, tuple | list) or len(sizes) < 2:
            got = str(sizes) if isinstance(sizes, tuple | list) else describe(sizes)
            raise ShapeError(sentence("MLP.init", "sizes", "a tuple (in, hidden, ..., out)", got))
        lengths = [require_positive_int("MLP.init", f"sizes[{i}]", n) for i, n in enumerate(sizes)]
        require_activation("MLP.init", activation)
        generator = require_rng("MLP.init", rng)
        layers = [
            Dense.init(pair, init=init, rng=generator, dtype=dtype)
            for pair in itertools.pairwise(lengths)
        ]
        return cls(tuple(layers), activation)

    @entering
    def __call__(self, x: Array) -> Array:
        """Return the outputs of the last layer.

        Parameters
        ----------
        x : array, shape (..., in), dtype of the weights
            Rows.

        Returns
        -------
        array, shape (..., out)

        Raises
        ------
        ShapeError, DtypeError
            ``x`` does not fit the first layer, or a layer the one before it; there are no layers.
        """
        if not isinstance(self.layers, tuple | list) or not self.layers:
            wanted = "a tuple of one layer or more"
            raise ShapeError(sentence("MLP", "layers", wanted, describe(self.layers)))
        for i, layer in enumerate(self.layers):
            require_callable("MLP", f"layers[{i}]", layer)
        require_callable("MLP", "activation", self.activation)
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x)

    def __repr__(self) -> str:
        layers = ", ".join(map(repr, self.layers))
        return f"MLP({layers}, activation: {describe(self.activation)})"
