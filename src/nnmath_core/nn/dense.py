"""The dense layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core.checks import (
    describe,
    require_callable,
    require_in,
    require_positive_int,
    require_rng,
    require_shape,
    sentence,
)
from nnmath_core.device import backend_for, current_default_device, entering
from nnmath_core.errors import ShapeError
from nnmath_core.nn.initializers import he_normal, require_float_dtype
from nnmath_core.nn.operands import require_operand, require_operand_of
from nnmath_core.typing import Array, Rng

__all__ = ["Dense"]


@dataclass(frozen=True, eq=False, repr=False)
class Dense:
    r"""An affine map of rows.

    .. math:: y = x W + b

    Parameters
    ----------
    weight : array, shape (in, out), float32 or float64
    bias : array, shape (out,), of the same dtype, or None
        None leaves it out.

    Notes
    -----
    A frozen dataclass: its arrays are the leaves of a tree. Transformations and optimizers rebuild
    it around traced values, gradients and moments without a check; the shapes are checked when the
    layer is called.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> layer = nm.nn.Dense(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0.5, 0.0]))
    >>> layer(np.array([[1.0, 1.0]]))
    array([[4.5, 6. ]])
    >>> nm.grad(lambda l: l(np.ones((3, 2))).sum())(layer).bias
    array([3., 3.])
    """

    weight: Array
    bias: Array | None

    @classmethod
    def init(
        cls,
        sizes: Sequence[int],
        *,
        init: Callable[..., Array] = he_normal,
        bias: bool = True,
        rng: Rng = None,
        dtype: DTypeLike = np.float64,
    ) -> Dense:
        """Return a layer with random weights and, with ``bias``, a bias of zeros.

        Parameters
        ----------
        sizes : (in, out)
            Two integers >= 1.
        init : callable, default `he_normal`
            ``init(shape, *, rng, dtype)`` returns the weight.
        bias : bool, default True
            Whether the layer has one.
        rng : None, int or numpy.random.Generator
            Where the weights come from.
        dtype : dtype, default float64
            float32 or float64.

        Returns
        -------
        Dense
            On the default device.

        Raises
        ------
        ShapeError
            ``sizes`` is no pair, or ``init`` returns another shape.
        DomainError, DtypeError
            A size, ``rng``, ``dtype`` or ``init`` is not as above.
        """
        if not isinstance(sizes, tuple | list) or len(sizes) != 2:
            got = str(sizes) if isinstance(sizes, tuple | list) else describe(sizes)
            raise ShapeError(sentence("Dense.init", "sizes", "a pair (in, out)", got))
        for i, n in enumerate(sizes):
            require_positive_int("Dense.init", f"sizes[{i}]", n)
        require_callable("Dense.init", "init", init)
        require_in("Dense.init", "bias", bias, (True, False))
        dtype = require_float_dtype("Dense.init", dtype)
        generator = require_rng("Dense.init", rng)
        weight = init(tuple(sizes), rng=generator, dtype=dtype)
        weight = require_operand_of("Dense.init", "init(...)", weight, dtype, "dtype")
        require_shape("Dense.init", "init(...)", weight, tuple(sizes))
        xp = backend_for(current_default_device()).xp
        return cls(weight, xp.zeros(sizes[1], dtype) if bias else None)

    @entering
    def __call__(self, x: Array) -> Array:
        """Return ``x @ weight + bias``.

        Parameters
        ----------
        x : array, shape (..., in), dtype of ``weight``
            Rows; one row of shape (in,) is fine.

        Returns
        -------
        array, shape (..., out)

        Raises
        ------
        DtypeError
            ``x`` is no array of floats, or the dtypes of ``x``, weight and bias differ.
        ShapeError
            The rows have another length than the weight, or the bias does not fit.
        """
        weight = require_operand("Dense", "weight", self.weight)
        x = require_operand_of("Dense", "x", x, weight.dtype, "weight")
        require_shape("Dense", "weight", weight, (None, None))
        fan_in, fan_out = weight.shape
        if not x.shape or x.shape[-1] != fan_in:
            advice = f"Its rows must be as long as the weight {tuple(weight.shape)} is high."
            wanted = f"of shape (..., {fan_in})"
            raise ShapeError(sentence("Dense", "x", wanted, str(tuple(x.shape)), advice))
        y = x @ weight
        if self.bias is None:
            return y
        bias = require_operand_of("Dense", "bias", self.bias, weight.dtype, "weight")
        require_shape("Dense", "bias", bias, (fan_out,))
        return y + bias

    def __repr__(self) -> str:
        return f"Dense(weight: {describe(self.weight)}, bias: {describe(self.bias)})"
