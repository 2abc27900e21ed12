"""Gradient descent with momentum: Polyak's heavy ball and Nesterov's acceleration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from nnmath_core.device import Backend
from nnmath_core.optim.hyperparameters import Schedule, scalar_in
from nnmath_core.optim.optimizer import Optimizer
from nnmath_core.typing import Array, Tree

__all__ = ["HeavyBall", "MomentumState", "Nesterov", "heavy_ball", "nesterov"]


def heavy_ball(learning_rate: float | Schedule, momentum: float) -> HeavyBall:
    r"""Polyak's heavy ball: a velocity that forgets, fed by the gradient.

    .. math::
        v_{t+1} = \mu v_t + g_t, \qquad w_{t+1} = w_t - \eta_t v_{t+1}, \qquad v_0 = 0

    Parameters
    ----------
    learning_rate : float or callable
        :math:`\eta`, finite and >= 0; or a function of the number of steps taken so far, 0 at the
        first one, that returns it.
    momentum : float
        :math:`\mu` in [0, 1).

    Returns
    -------
    HeavyBall
        With ``init(params)``, ``step(params, grads, state)`` and ``step_in_place``: see
        `Optimizer`.

    Raises
    ------
    DomainError, DtypeError
        A number is outside its domain, or none.

    Notes
    -----
    The form of PyTorch and optax: the gradient enters the velocity with weight 1 (no
    :math:`1 - \mu`), and the learning rate stands outside. At a constant rate this is Polyak's
    :math:`w_{t+1} = w_t - \eta g_t + \mu (w_t - w_{t-1})`; under a schedule the two differ, since
    here a new rate acts on the whole velocity at once.

    On a quadratic with curvatures in :math:`[m, L]` the best numbers are
    :math:`\mu = (\frac{\sqrt{L} - \sqrt{m}}{\sqrt{L} + \sqrt{m}})^2` and
    :math:`\eta = 4 / (\sqrt{L} + \sqrt{m})^2`; the error then decays like :math:`\mu^{t/2}`. For
    general strongly convex functions there is no such rate: with these numbers it may cycle.

    References
    ----------
    Polyak, "Some methods of speeding up the convergence of iteration methods", 1964. Lessard,
    Recht & Packard, "Analysis and design of optimization algorithms via integral quadratic
    constraints", 2016, section 4.6.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> opt = nm.optim.heavy_ball(0.1, 0.5)
    >>> x, g = np.array([1.0]), np.array([1.0])
    >>> state = opt.init(x)
    >>> for _ in range(2):
    ...     x, state = opt.step(x, g, state)
    >>> x, state.velocity
    (array([0.75]), array([1.5]))
    """
    return HeavyBall(learning_rate, momentum)


def nesterov(learning_rate: float | Schedule, momentum: float) -> Nesterov:
    r"""Nesterov's accelerated gradient, in the parameters at which gradients are taken.

    .. math::
        v_{t+1} = \mu v_t + g_t, \qquad w_{t+1} = w_t - \eta_t (g_t + \mu v_{t+1}), \qquad v_0 = 0

    Parameters
    ----------
    learning_rate : float or callable
        :math:`\eta`, finite and >= 0; or a function of the number of steps taken so far, 0 at the
        first one, that returns it.
    momentum : float
        :math:`\mu` in [0, 1).

    Returns
    -------
    Nesterov
        With ``init(params)``, ``step(params, grads, state)`` and ``step_in_place``: see
        `Optimizer`.

    Raises
    ------
    DomainError, DtypeError
        A number is outside its domain, or none.

    Notes
    -----
    The form of PyTorch and optax. At a constant rate it is Nesterov's pair of sequences
    :math:`x_{t+1} = w_t - \eta \nabla f(w_t)`,
    :math:`w_{t+1} = x_{t+1} + \mu (x_{t+1} - x_t)`, of which ``params`` is :math:`w`, the point
    where the gradient is taken. On functions with curvatures in :math:`[m, L]` the usual numbers
    are :math:`\eta = 1 / L` and
    :math:`\mu = \frac{\sqrt{L} - \sqrt{m}}{\sqrt{L} + \sqrt{m}}`; on a quadratic the error then
    decays like :math:`(1 - \sqrt{m / L})^t`, up to a factor that grows like :math:`t`.

    References
    ----------
    Nesterov, "A method of solving a convex programming problem with convergence rate O(1/k^2)",
    1983. Sutskever et al., "On the importance of initialization and momentum in deep learning",
    2013.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> opt = nm.optim.nesterov(0.1, 0.5)
    >>> x, g = np.array([1.0]), np.array([1.0])
    >>> state = opt.init(x)
    >>> x, state = opt.step(x, g, state)
    >>> x
    array([0.85])
    """
    return Nesterov(learning_rate, momentum)


@dataclass(frozen=True, eq=False)
class MomentumState:
    """The state of `HeavyBall` and `Nesterov`.

    Parameters
    ----------
    count : array, shape (), int64
        Steps taken.
    velocity : tree
        Like the parameters.
    """

    count: Array
    velocity: Tree


@dataclass(frozen=True)
class _Momentum(Optimizer):
    State: ClassVar[type[Any]] = MomentumState

    learning_rate: float | Schedule
    momentum: float


@dataclass(frozen=True)
class HeavyBall(_Momentum):
    """The optimizer that `heavy_ball` describes and makes."""

    name: ClassVar[str] = "heavy_ball"
    kernel: ClassVar[tuple[str, tuple[str, ...]] | None] = ("heavy_ball", ("momentum",))

    def _meaning(self, rate: Any, t: Any, w: Array, g: Array, *slots: Array) -> tuple[Array, ...]:
        (v,) = slots
        v = scalar_in(w.dtype, self.momentum) * v + g
        return w - scalar_in(w.dtype, rate) * v, v

    def _in_place(
        self, be: Backend, rate: float, t: int, w: Array, g: Array, *slots: Array
    ) -> None:
        (v,) = slots
        be.heavy_ball_step(w, v, g, lr=rate, momentum=float(self.momentum))


@dataclass(frozen=True)
class Nesterov(_Momentum):
    """The optimizer that `nesterov` describes and makes."""

    name: ClassVar[str] = "nesterov"
    kernel: ClassVar[tuple[str, tuple[str, ...]] | None] = ("nesterov", ("momentum",))

    def _meaning(self, rate: Any, t: Any, w: Array, g: Array, *slots: Array) -> tuple[Array, ...]:
        (v,) = slots
        momentum = scalar_in(w.dtype, self.momentum)
        v = momentum * v + g
        return w - scalar_in(w.dtype, rate) * (g + momentum * v), v

    def _in_place(
        self, be: Backend, rate: float, t: int, w: Array, g: Array, *slots: Array
    ) -> None:
        (v,) = slots
        be.nesterov_step(w, v, g, lr=rate, momentum=float(self.momentum))
