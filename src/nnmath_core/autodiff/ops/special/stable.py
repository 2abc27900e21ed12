"""Logarithms of sums and differences of exponentials, and a quotient that has a value where the divisor is 0.

All are compositions of primitives that say the same as the plain formula, but for its overflow and its cancellation:
their derivatives, of any order and in both modes, keep the digits of the value. Nothing is clipped.
"""

from __future__ import annotations

import math
from typing import Any

from nnmath_core.autodiff.ops.compare import equal, greater, less_equal
from nnmath_core.autodiff.ops.conventions import constant, dtype_of
from nnmath_core.autodiff.ops.elementwise import absolute, exp, expm1, log, log1p
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import real, stop_gradient
from nnmath_core.autodiff.ops.special.declare import floating
from nnmath_core.autodiff.ops.special.entropy import log_expit
from nnmath_core.checks import require_real
from nnmath_core.device import entering

__all__ = ["log1mexp", "log1pexp", "logsubexp", "safe_divide", "softplus"]

_LOG_HALF = -math.log(2.0)


def _both(x: Any, y: Any) -> tuple[Any, Any]:
    """Two operands; a Python number in the dtype of the other, since a choice between numbers would be a float64."""
    if isinstance(x, float) and hasattr(y, "dtype"):
        x = constant(y, (), x, dtype_of(y))
    if isinstance(y, float) and hasattr(x, "dtype"):
        y = constant(x, (), y, dtype_of(x))
    return x, y


@entering
def log1pexp(x: Any) -> Any:
    r"""Logarithm of one plus an exponential, the integral of the logistic function.

    .. math:: \log(1 + e^x)

    Parameters
    ----------
    x : array, float32, float64 or complex

    Returns
    -------
    array, shape and dtype of ``x``
        At least 0.

    Notes
    -----
    Relative error of the value: at most ``4 * eps`` for all real ``x`` whose result is a normal number; no finite
    ``x`` overflows. The derivative is ``expit(x)``, with the same error; the second ``expit(x) * (1 - expit(x))`` has
    it for ``x <= 0`` and an absolute one of ``eps`` for ``x > 0``. The value is 0 at minus infinity, and at infinity
    the argument.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.special.log1pexp(np.array([-100.0, 0.0, 1000.0]))
    array([3.72007598e-44, 6.93147181e-01, 1.00000000e+03])
    """
    x = floating(x)
    if dtype_of(x).kind != "c":
        return -log_expit(-x)
    right = greater(real(x), 0.0)
    return where(right, x, 0.0) + log1p(exp(where(right, -x, x)))


@entering
def softplus(x: Any) -> Any:
    """SciPy's ``softplus``, the smooth rectifier: another name of `log1pexp`. With a sharpness: `nn.softplus`."""
    return log1pexp(x)


@entering
def log1mexp(x: Any) -> Any:
    r"""Logarithm of one minus an exponential: of the probability that remains.

    .. math:: \log(1 - e^x), \qquad x \le 0

    Parameters
    ----------
    x : array, float32, float64 or complex
        At most 0: the logarithm of a probability. (R's function of this name, and TensorFlow's, take ``-x``.)

    Returns
    -------
    array, shape and dtype of ``x``
        At most 0; minus infinity at 0, NaN above.

    Notes
    -----
    ``log(-expm1(x))`` above :math:`-\log 2`, ``log1p(-exp(x))`` below. Relative error of the value: at most
    ``4 * eps`` for all real ``x < 0`` whose result is a normal number. The derivative :math:`-e^x / (1 - e^x)` has
    the relative error ``8 * eps``, also beside 0, where it is ``1 / x``, and below -40, where the plain formula
    is 0. At 0 it is minus infinity, the limit; at minus infinity value and derivative are 0.

    References
    ----------
    Mächler, "Accurately computing log(1 - exp(-abs(a)))", 2012.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.special.log1mexp(np.array([-40.0, -1.0, -1e-20]))
    array([-4.24835426e-18, -4.58675145e-01, -4.60517019e+01])
    """
    x = floating(x)
    near = greater(real(x) if dtype_of(x).kind == "c" else x, _LOG_HALF)
    # 0 - expm1(x), not -expm1(x): at 0 it is 0 and not -0, by which the sign of the derivative's limit goes
    above = log(0.0 - expm1(where(near, x, -1.0)))
    return where(near, above, log1p(-exp(where(near, -1.0, x))))


@entering
def logsubexp(x1: Any, x2: Any) -> Any:
    r"""Logarithm of the difference of two exponentials, as `numpy.logaddexp` of their sum.

    .. math:: \log(e^{x_1} - e^{x_2}) = x_1 + \log(1 - e^{x_2 - x_1}), \qquad x_1 \ge x_2

    Parameters
    ----------
    x1, x2 : array, float32, float64 or complex
        Logarithms; they broadcast.

    Returns
    -------
    array
        Minus infinity where both are equal, NaN where ``x1 < x2``.

    Notes
    -----
    Absolute error: at most ``4 * eps`` times the largest modulus of ``x1``, ``x2`` and the result: nearly equal
    arguments are subtracted without error. (The result itself may be near 0, as is the case with `numpy.logaddexp`;
    there is no relative bound.) The derivatives are :math:`1 / (1 - e^d)` and :math:`-e^d / (1 - e^d)`, with
    :math:`d = x_2 - x_1`. With ``x2 = -inf``, the logarithm of 0, they are 1 and 0, also where ``x1`` is minus
    infinity, too; of equal finite arguments they are plus and minus infinity, the limits.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.special.logsubexp(np.array([1000.0, 0.0, 2.0]), np.array([999.0, -1e-20, -np.inf]))
    array([999.54132485, -46.05170186,   2.        ])
    """
    x1, x2 = _both(floating(x1), floating(x2))
    nothing = equal(x2, -math.inf)
    # where x2 is the logarithm of 0 the difference could be that of two infinities: it is not formed
    top = where(nothing, 0.0, x1)
    return where(nothing, x1, top + log1mexp(where(nothing, -1.0, x2) - top))


@entering
def safe_divide(x: Any, y: Any, *, fill: Any = 0.0, tolerance: float = 0.0) -> Any:
    r"""Quotient, and a given value where the divisor is 0 or nearly.

    .. math:: \operatorname{safe\_divide}(x, y) = x / y \text{ where } |y| > \tau, \text{ else } c

    Parameters
    ----------
    x, y : array, float32, float64 or complex
        Dividend and divisor; they broadcast.
    fill : float or array, default 0.0
        The value c. It may be traced, and receives the derivative of the entries that it fills.
    tolerance : float, default 0.0
        The bound :math:`\tau \ge 0`; with 0 only a divisor of 0 counts.

    Returns
    -------
    array

    Raises
    ------
    DomainError
        ``tolerance`` is negative or not finite.

    Notes
    -----
    The error is that of a division, half a unit in the last place. Where the value is ``fill``, the derivatives in
    ``x`` and ``y`` are exactly 0 in both modes and to every order: the quotient is not formed there, so nothing
    becomes NaN or infinite, as ``np.where(y == 0, c, x / y)`` does in its branch that is not taken. A divisor that
    is NaN gives NaN. Adding a small number to the divisor changes all other values, too; this does not.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> x, y = np.array([1.0, 2.0, 0.0]), np.array([4.0, 0.0, 0.0])
    >>> nm.special.safe_divide(x, y, fill=-1.0)
    array([ 0.25, -1.  , -1.  ])
    >>> nm.grad(lambda y: nm.special.safe_divide(x, y).sum())(y)
    array([-0.0625,  0.    ,  0.    ])
    """
    x, y = _both(floating(x), floating(y))
    bound = require_real(
        "safe_divide",
        "tolerance",
        tolerance,
        lambda t: 0.0 <= t < math.inf,
        "at least 0 and finite",
    )
    near = less_equal(absolute(stop_gradient(y)), bound)
    return where(near, fill, where(near, 0.0, x) / where(near, 1.0, y))
