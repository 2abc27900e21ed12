"""Activations that look at a whole axis: softmax with its temperature, its logarithm, and gates."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from nnmath_core import special
from nnmath_core.autodiff.transforms import stop_gradient
from nnmath_core.checks import describe, require_real, require_shape, sentence
from nnmath_core.device import entering
from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.nn.activations import sigmoid
from nnmath_core.nn.operands import require_operand, require_operand_of
from nnmath_core.typing import Array, ArrayLike

__all__ = ["glu", "log_softmax", "softmax"]


@entering
def softmax(x: ArrayLike, *, axis: int = -1, temperature: float | Array = 1.0) -> Array:
    r"""Probabilities in proportion to exponentials.

    .. math:: \operatorname{softmax}(x; T)_i = \frac{e^{x_i / T}}{\sum_j e^{x_j / T}}

    Parameters
    ----------
    x : array, float32 or float64
        Scores; -inf excludes an entry.
    axis : int, default -1
        Along which they sum to 1.
    temperature : float or array of shape (), default 1.0
        T > 0: below 1 the largest gains, towards the indicator of the maximum; above 1 all become alike. An array of
        the dtype of ``x`` is differentiated, too, as for calibration.

    Returns
    -------
    array, shape and dtype of ``x``
        In ``[0, 1]``.

    Raises
    ------
    DtypeError
        ``x`` is no array of floats, or the dtype of ``temperature`` is another.
    DomainError
        ``temperature`` is not positive and finite (a traced one is not looked at), or ``axis`` out of range.
    ShapeError
        There are no entries along ``axis``, or ``temperature`` is an array with axes.

    Notes
    -----
    The largest entry is subtracted before anything is divided or exponentiated, so that neither large scores nor a
    small temperature overflow. Relative error: ``eps * (k + d / T)``, with ``d`` the distance of an entry from the
    largest. The Jacobian is ``(diag(s) - s s') / T``. Where all entries are -inf the value is NaN.

    References
    ----------
    Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990.
    Guo et al., "On calibration of modern neural networks", 2017 (temperature).

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> z = np.array([1.0, 2.0, 4.0])
    >>> nm.nn.softmax(z)
    array([0.04201007, 0.1141952 , 0.84379473])
    >>> nm.nn.softmax(z, temperature=0.01).round(6), nm.nn.softmax(z, temperature=1e6).round(3)
    (array([0., 0., 1.]), array([0.333, 0.333, 0.333]))
    """
    y: Array = special.softmax(*_cooled("softmax", x, axis, temperature))
    return y


@entering
def log_softmax(x: ArrayLike, *, axis: int = -1, temperature: float | Array = 1.0) -> Array:
    r"""Logarithms of the probabilities of `softmax`.

    .. math:: \log \operatorname{softmax}(x; T)_i = x_i / T - \operatorname{logsumexp}_j(x_j / T)

    Parameters
    ----------
    x : array, float32 or float64
        Scores; -inf excludes an entry.
    axis : int, default -1
        Along which the probabilities sum to 1.
    temperature : float or array of shape (), default 1.0
        As for `softmax`.

    Returns
    -------
    array, shape and dtype of ``x``
        At most 0.

    Raises
    ------
    DtypeError, DomainError, ShapeError
        As `softmax`.

    Notes
    -----
    The largest entry is subtracted first. Absolute error: ``eps * (k + d / T)``, with ``d`` the distance of an entry
    from the largest, whatever the size of the scores. The gradient of entry i is ``(e_i - s) / T``.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.log_softmax(np.array([1e4, 0.0]))
    array([     0., -10000.])
    """
    y: Array = special.log_softmax(*_cooled("log_softmax", x, axis, temperature))
    return y


def _cooled(who: str, given: Any, axis: Any, temperature: Any) -> tuple[Array, int]:
    """The scores less their largest, over the temperature; and the axis."""
    x = require_operand(who, "x", given)
    axis = _require_axis(who, axis, len(x.shape))
    if not x.shape[axis]:
        raise ShapeError(
            sentence(who, "x", "an array with entries along `axis`", str(tuple(x.shape)))
        )
    positive = "positive and finite"
    t: Any
    if hasattr(temperature, "dtype") and not isinstance(temperature, np.generic):
        t = require_operand_of(who, "temperature", temperature, x.dtype, "x")
        require_shape(who, "temperature", t, ())
    else:
        t = require_real(who, "temperature", temperature, lambda v: 0.0 < v < math.inf, positive)
    if not x.size:
        return x, axis
    # of complex scores it is the one with the largest real part
    z = x - stop_gradient(x).max(axis=axis, keepdims=True)
    return (z if isinstance(t, float) and t == 1.0 else z / t), axis


def _require_axis(who: str, axis: Any, ndim: int) -> int:
    try:
        number = operator.index(axis)
    except TypeError:
        raise DtypeError(sentence(who, "axis", "an integer", describe(axis))) from None
    if not -ndim <= number < ndim:
        wanted = f"one of the {ndim} axes of `x`"
        raise DomainError(sentence(who, "axis", wanted, str(number)))
    return number % ndim


@entering
def glu(x: ArrayLike, *, axis: int = -1) -> Array:
    r"""Gated linear unit: one half times the sigmoid of the other.

    .. math:: \operatorname{glu}([a, b]) = a \odot \sigma(b)

    Parameters
    ----------
    x : array, float32 or float64
        With an even length along ``axis``: the values a, then the gates b.
    axis : int, default -1
        Which is halved.

    Returns
    -------
    array, dtype of ``x``
        Half as long along ``axis``.

    Raises
    ------
    DtypeError
        ``x`` is no array of floats.
    DomainError
        ``axis`` is out of range.
    ShapeError
        The length along ``axis`` is odd.

    Notes
    -----
    Relative error: a few ``eps``. No finite gate overflows.

    References
    ----------
    Dauphin et al., "Language modeling with gated convolutional networks", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.glu(np.array([2.0, 3.0, 0.0, -1e4]))
    array([1., 0.])
    """
    x = require_operand("glu", "x", x)
    number = _require_axis("glu", axis, len(x.shape))
    half, odd = divmod(x.shape[number], 2)
    if odd:
        wanted = f"of even length along axis {number}, values and gates"
        raise ShapeError(sentence("glu", "x", wanted, str(tuple(x.shape))))
    before = (slice(None),) * number
    y: Array = x[(*before, slice(half))] * sigmoid(x[(*before, slice(half, None))])
    return y
