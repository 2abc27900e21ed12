"""From images to rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nnmath_core.autodiff.ops.shape import reshape_p
from nnmath_core.checks import sentence
from nnmath_core.errors import ShapeError
from nnmath_core.nn.operands import require_operand
from nnmath_core.typing import Array

__all__ = ["Flatten"]


@dataclass(frozen=True, eq=False)
class Flatten:
    r"""A row for each example: all axes but the first one as one.

    .. math:: y_{n, (i W + j) C + c} = x_{n, i, j, c}

    Notes
    -----
    It has no arrays. The order of an image's numbers is (h, w, c), where PyTorch's is (c, h, w):
    the weight behind it takes its rows in another order.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.Flatten()(np.ones((5, 4, 4, 3))).shape
    (5, 48)
    """

    def __call__(self, x: Array) -> Array:
        """Return rows.

        Parameters
        ----------
        x : array, shape (n, ...), float32 or float64

        Returns
        -------
        array, shape (n, length)

        Raises
        ------
        DtypeError
            ``x`` is no array of floats.
        ShapeError
            It has no axes.
        """
        x = require_operand("Flatten", "x", x)
        shape = tuple(x.shape)
        if not shape:
            raise ShapeError(sentence("Flatten", "x", "of shape (n, ...)", str(shape)))
        if len(shape) == 2:
            return x
        rows: Array = reshape_p(x, shape=(shape[0], math.prod(shape[1:])))
        return rows
