"""Gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from nnmath_core.device import Backend
from nnmath_core.optim.hyperparameters import Schedule, scalar_in
from nnmath_core.optim.optimizer import Optimizer
from nnmath_core.typing import Array

__all__ = ["GradientDescent", "GradientDescentState", "gradient_descent"]


def gradient_descent(learning_rate: float | Schedule) -> GradientDescent:
    r"""Gradient descent: a step against the gradient.

    .. math:: w_{t+1} = w_t - \eta_t \, g_t

    Parameters
    ----------
    learning_rate : float or callable
        :math:`\eta`, finite and >= 0; or a function of the number of steps taken so far, 0 at the
        first one, that returns it.

    Returns
    -------
    GradientDescent
        With ``init(params)``, ``step(params, grads, state)`` and ``step_in_place``: see
        `Optimizer`.

    Raises
    ------
    DomainError, DtypeError
        ``learning_rate`` is neither.

    Notes
    -----
    For a quadratic of curvature :math:`\lambda` a step multiplies the error by
    :math:`1 - \eta \lambda`: it converges for :math:`\eta < 2 / \lambda_{max}`, and with
    :math:`\eta = 1 / L` a function of curvatures in :math:`[\mu, L]` loses at least the fraction
    :math:`\mu / L` of its distance at each step.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> opt = nm.optim.gradient_descent(0.25)
    >>> x = np.array([8.0])
    >>> state = opt.init(x)
    >>> for _ in range(3):
    ...     x, state = opt.step(x, nm.grad(lambda x: np.sum(x**2))(x), state)
    >>> x
    array([1.])
    """
    return GradientDescent(learning_rate)


@dataclass(frozen=True, eq=False)
class GradientDescentState:
    """The state of `GradientDescent`.

    Parameters
    ----------
    count : array, shape (), int64
        Steps taken.
    """

    count: Array


@dataclass(frozen=True)
class GradientDescent(Optimizer):
    """The optimizer that `gradient_descent` describes and makes."""

    name: ClassVar[str] = "gradient_descent"
    State: ClassVar[type[Any]] = GradientDescentState

    kernel: ClassVar[tuple[str, tuple[str, ...]] | None] = ("gradient_descent", ())

    learning_rate: float | Schedule

    def _meaning(self, rate: Any, t: Any, w: Array, g: Array, *slots: Array) -> tuple[Array, ...]:
        return (w - scalar_in(w.dtype, rate) * g,)

    def _in_place(
        self, be: Backend, rate: float, t: int, w: Array, g: Array, *slots: Array
    ) -> None:
        be.gradient_descent_step(w, g, lr=rate)
