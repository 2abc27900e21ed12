"""The gain of an activation: the number that makes up for what it does to the size of a signal."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core.checks import describe, require_real
from nnmath_core.errors import DomainError
from nnmath_core.nn.gaussian_average import elementwise, gaussian_average
from nnmath_core.typing import Array

__all__ = ["Gain", "gain", "number_of"]


@dataclass(frozen=True)
class Gain:
    """The gain of an activation, with the error of its quadrature.

    Attributes
    ----------
    value : float
        The gain; ``float(gain)`` is it too, and initialisers take the record as ``gain=``.
    error : float
        Of its quadrature: by how much panels and their halves disagree, and rounding.
    mean : float
        Of the activation, E phi(z).
    second_moment : float
        Of the activation, E phi(z)^2.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> round(float(nm.nn.gain(nm.nn.relu)) ** 2, 12)
    2.0
    """

    value: float
    error: float
    mean: float
    second_moment: float

    def __float__(self) -> float:
        return self.value


def gain(activation: Callable[[Array], Array], *, variance: float = 1.0) -> Gain:
    r"""Gain with which a layer behind an activation keeps the size of normal signals.

    .. math:: g = \sqrt{\frac{v}{E \, \varphi(z)^2}}, \qquad z \sim \mathcal N(0, v)

    A layer whose weights have the variance :math:`g^2 / fan_{in}` has outputs of variance v then, as z has.

    Parameters
    ----------
    activation : callable
        Of one array, entry by entry: `relu`, `numpy.tanh`, a `functools.partial`, a function of your own.
    variance : float, default 1
        v, that of the numbers in front of the activation. Only for functions as relu, with
        :math:`\varphi(a z) = a \varphi(z)`, the gain is the same for all.

    Returns
    -------
    Gain
        ``value``, ``error``, ``mean``, ``second_moment``; it is taken as ``gain=`` by the initialisers.

    Raises
    ------
    DtypeError
        ``activation`` cannot be called, or ``variance`` is no number.
    ShapeError, DomainError
        The activation does not act on each number alone (softmax), is not finite, is zero everywhere or grows too fast
        to have a second moment; ``variance`` is not positive and finite.
    ConvergenceError
        It has jumps or oscillations without end.

    Notes
    -----
    The average is found by panels that are halved until their halves agree, so that kinks and jumps cost nothing in
    accuracy. Conventional gains differ: PyTorch's ``calculate_gain`` has 5/3 for tanh, where 1.5925 keeps the variance,
    1 for the sigmoid (1.8462), 3/4 for selu (1, its fixed point), and none for gelu (1.5335), silu or mish; for relu
    and leaky relu, :math:`\sqrt{2 / (1 + a^2)}`, both are the same.

    What is kept is the mean square. A mean that is not zero (sigmoid) makes up a part of it.

    Examples
    --------
    >>> import functools
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> round(nm.nn.gain(np.tanh).value, 10), nm.nn.gain(np.tanh).error < 1e-13
    (1.5925374197, True)
    >>> init = functools.partial(nm.nn.lecun_normal, gain=nm.nn.gain(nm.nn.gelu))
    >>> model = nm.nn.MLP.init((64, 64, 10), activation=nm.nn.gelu, init=init, rng=0)
    """
    v = require_real(
        "gain", "variance", variance, lambda v: 0 < v < math.inf, "a positive finite number"
    )
    values = elementwise("gain", "activation", activation)
    root = math.sqrt(v)

    def moments(z: Array) -> Array:
        y = values(root * z)
        return np.stack([y, y * y])

    found = gaussian_average("gain", moments)
    mean, second = (float(m) for m in found.value)
    if second <= 0.0:
        raise DomainError(
            f"gain: `activation` must not be zero everywhere, got {describe(activation)}, whose mean square for "
            f"normal numbers of variance {v:g} is 0."
        )
    value = math.sqrt(v / second)
    error = value * (0.5 * float(found.error[1]) / second + 2.0 * float(np.finfo(float).eps))
    return Gain(value, error, mean, second)


def number_of(who: str, gain: Any) -> float:
    """Return a gain, a number or a `Gain`, as a float >= 0.

    Raises
    ------
    DtypeError, DomainError
        It is neither, negative, infinite or NaN.
    """
    value = gain.value if isinstance(gain, Gain) else gain
    wanted = "a finite number >= 0, or a `Gain`"
    return require_real(who, "gain", value, lambda g: 0 <= g < math.inf, wanted)
