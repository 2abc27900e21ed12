"""The mean squared error."""

from __future__ import annotations

import math

import numpy as np

from nnmath_core.checks import require_float, require_same_dtype, require_shape
from nnmath_core.errors import DomainError
from nnmath_core.nn.reduction import Reduction, reduce_examples, require_reduction
from nnmath_core.typing import Array, ArrayLike

__all__ = ["mean_squared_error"]


def mean_squared_error(
    prediction: ArrayLike, target: ArrayLike, *, reduction: Reduction = "none"
) -> Array:
    r"""Mean of the squared differences of each example.

    .. math:: \ell_i = \frac{1}{d} \sum_{j=1}^{d} (\hat y_{ij} - y_{ij})^2

    Parameters
    ----------
    prediction : array, shape (n, ...), float32 or float64
        A row for each example; the mean of an example is over all its other axes together, so that
        the entries of shape (n,) are squared and not averaged.
    target : array, shape and dtype of ``prediction``
        Nothing is broadcast.
    reduction : {"none", "sum", "mean"}, default "none"
        One number per example, their sum, or their mean, which is the mean of all squares.

    Returns
    -------
    array, shape (n,) or (), dtype of ``prediction``
        Squares of the target's unit.

    Raises
    ------
    DtypeError
        An argument is no array of floats, or the two differ in dtype.
    ShapeError
        The two differ in shape.
    DomainError
        A mean over nothing, or an unknown ``reduction``.

    Notes
    -----
    The gradient in ``prediction`` is ``2 * (prediction - target) / d``. Inside `vmap` there is no
    batch axis: take ``reduction="mean"`` there.

    For the Gaussian likelihood with variance :math:`\sigma^2` the negative logarithm is
    :math:`d \ell_i / (2 \sigma^2) + \tfrac{d}{2} \log(2 \pi \sigma^2)`: equal up to a factor and a
    constant, which matter as soon as a prior or another term is added.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> y = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> nm.nn.mean_squared_error(y, np.array([[1.0, 0.0], [3.0, 3.0]]))
    array([2. , 0.5])
    >>> float(nm.nn.mean_squared_error(y, np.zeros((2, 2)), reduction="mean"))
    7.5
    """
    who = "mean_squared_error"
    prediction = require_float(who, "prediction", prediction)
    target = require_float(who, "target", target)
    require_same_dtype(who, prediction=prediction, target=target)
    shape = tuple(prediction.shape)
    advice = "Nothing is broadcast: (n, 1) against (n,) would be n * n differences."
    require_shape(who, "target", target, shape, advice)
    require_reduction(who, reduction, shape[0] if shape else 1)
    if 0 in shape[1:]:
        raise DomainError(f"{who}: the mean over no entries is undefined; the shape is {shape}.")
    squares = np.square(prediction - target)
    if len(shape) > 1:
        squares = squares.sum(axis=tuple(range(1, len(shape)))) / math.prod(shape[1:])
    return reduce_examples(squares, reduction)
