"""The continuous ranked probability score of a normal forecast."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core.nn.reduction import Reduction
from nnmath_core.nn.spread import Spread, WithSpread
from nnmath_core.special import erf
from nnmath_core.typing import Array, ArrayLike

__all__ = ["GaussianCRPS", "crps_gaussian"]

_ROOT_HALF = math.sqrt(0.5)
_DENSITY = math.sqrt(2.0 / math.pi)  # twice the density at 0
_HALF_SPREAD = 1.0 / math.sqrt(math.pi)  # half of the mean distance of two draws


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class GaussianCRPS(WithSpread):
    r"""Continuous ranked probability score of the normal distribution, for each entry.

    .. math::
        \ell = \int (F(x) - [x \ge y])^2 \, dx
             = \sigma \left( z \, (2 \Phi(z) - 1) + 2 \varphi(z) - 1 / \sqrt \pi \right),
        \qquad z = (y - \mu) / \sigma

    Parameters
    ----------
    prediction : array, float32 or float64; or a pair of them of one shape
        The means; or the means and, entry by entry, what ``spread`` says.
    target : array, shape and dtype of the means
        Nothing is broadcast.
    reduction : {"none", "sum", "mean"}, default "none"
        One number per entry, their sum or their mean.
    sigma : float or array, default 1
        The standard deviation where the prediction is no pair; see `gaussian_nll`.
    spread : {"log_scale", "scale", "variance"}, default "log_scale"
        What the second of a pair is: ``log(sigma)``, of any value, or ``sigma`` or its square, which must be positive.

    Returns
    -------
    array, shape of the means or (), dtype of the means
        In the target's unit, > 0.

    Raises
    ------
    DtypeError
        An argument is no array of floats, or two differ in dtype.
    ShapeError
        Two differ in shape.
    DomainError
        A spread that is not positive (the message names the first); ``sigma`` beside a pair; the mean over no entries;
        an unknown option.

    Notes
    -----
    A proper scoring rule: its expectation is least for the distribution of the targets. It is no negative logarithm
    of a density, grows as ``|y - mu|`` far away, where `gaussian_nll` grows as the square, and is the absolute error
    for ``sigma -> 0``. The gradient is ``-erf(z / sqrt(2))`` in the mean and ``2 phi(z) - 1 / sqrt(pi)`` in sigma.

    References
    ----------
    Gneiting & Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation", JASA 2007, equation 21.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.crps_gaussian(np.zeros(2), np.array([0.0, 3.0]))
    array([0.23369498, 2.43657473])
    """

    __name__ = "crps_gaussian"
    unit = "the target's unit"
    _why_none = "It is a proper scoring rule, a distance between distribution functions."

    def __call__(
        self,
        prediction: ArrayLike | tuple[ArrayLike, ArrayLike],
        target: ArrayLike,
        *,
        reduction: Reduction | None = None,
        sigma: ArrayLike | float | None = None,
        spread: Spread | None = None,
    ) -> Array:
        """Return the loss; see the class."""
        return self._with(reduction=reduction, sigma=sigma, spread=spread)._value(
            prediction, target
        )

    def _each(self, p: Any, t: Any) -> Any:
        mean, sigma, _ = self._scale(p)
        z = (t - mean) / sigma
        distance = z * _central(z) + _twice_density(z)
        return sigma * (distance - _HALF_SPREAD)

    def _derivatives(self, z: Any, sigma: Any) -> tuple[Any, Any, Any, Any, Any]:
        twice = _twice_density(z)
        of_log = sigma * (twice - _HALF_SPREAD)
        bent = twice * z
        return -_central(z), of_log, twice / sigma, bent, of_log + sigma * (bent * z)


# Beyond 40 the density is 0 in both precisions, and the square of z might be infinite.
def _twice_density(z: Any) -> Any:
    return _DENSITY * np.exp(-0.5 * np.square(np.clip(z, -40.0, 40.0)))


def _central(z: Any) -> Any:
    """The probability between -z and z, with the sign of z."""
    return erf(_ROOT_HALF * np.clip(z, -40.0, 40.0))


crps_gaussian = GaussianCRPS()
