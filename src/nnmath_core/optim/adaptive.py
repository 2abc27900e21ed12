"""Adam and AdamW: steps measured in the running size of each gradient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from nnmath_core.device import Backend
from nnmath_core.optim.hyperparameters import Schedule, scalar_in
from nnmath_core.optim.optimizer import Optimizer
from nnmath_core.typing import Array, Tree

__all__ = ["Adam", "AdamState", "AdamW", "adam", "adamw"]


def adam(
    learning_rate: float | Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> Adam:
    r"""Adam: the mean of the gradient over the root of the mean of its square.

    .. math::
        m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad
        v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \qquad
        w_t = w_{t-1} - \eta_t \, \frac{m_t / (1 - \beta_1^t)}
                                      {\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}

    Parameters
    ----------
    learning_rate : float or callable
        :math:`\eta`, finite and >= 0; or a function of the number of steps taken so far, 0 at the
        first one, that returns it.
    b1, b2 : float, default 0.9 and 0.999
        :math:`\beta_1` and :math:`\beta_2`, in [0, 1).
    eps : float, default 1e-8
        :math:`\epsilon > 0`, in the unit of the gradient.

    Returns
    -------
    Adam
        With ``init(params)``, ``step(params, grads, state)`` and ``step_in_place``: see
        `Optimizer`.

    Raises
    ------
    DomainError, DtypeError
        A number is outside its domain, or none.

    Notes
    -----
    :math:`\epsilon` is added to the corrected root, as in the paper, PyTorch and optax (Keras adds
    it before the correction). One pass over a leaf, by a kernel: about 16 bytes read and 12 written
    for a weight in float32. The moments have the dtype of the weights.

    Differentiating through a step: where :math:`v_t = 0`, and so every gradient has been 0, the
    root counts as constant; the derivative of the step in :math:`g_t` there is
    :math:`\eta (1 - \beta_1) / ((1 - \beta_1^t) \epsilon)`, the limit.

    References
    ----------
    Kingma & Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> opt = nm.optim.adam(lambda steps: 0.5 / (1 + steps))
    >>> x, g = np.array([1.0, 1.0]), np.array([100.0, -0.01])
    >>> x, state = opt.step(x, g, opt.init(x))
    >>> x.round(5)
    array([0.5, 1.5])
    """
    return Adam(learning_rate, b1, b2, eps)


def adamw(
    learning_rate: float | Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    *,
    weight_decay: float,
) -> AdamW:
    r"""AdamW: Adam with a decay of the weights that does not pass through the moments.

    .. math:: w_t = w_{t-1} - \eta_t \lambda w_{t-1} - \eta_t \, u_t

    with the step :math:`\eta_t u_t` of `adam`.

    Parameters
    ----------
    learning_rate : float or callable
        :math:`\eta`, finite and >= 0; or a function of the number of steps taken so far, 0 at the
        first one, that returns it.
    b1, b2 : float, default 0.9 and 0.999
        :math:`\beta_1` and :math:`\beta_2`, in [0, 1).
    eps : float, default 1e-8
        :math:`\epsilon > 0`, in the unit of the gradient.
    weight_decay : float
        :math:`\lambda`, finite and >= 0. It has no default: PyTorch's is 1e-2, optax's 1e-4.

    Returns
    -------
    AdamW
        With ``init(params)``, ``step(params, grads, state)`` and ``step_in_place``: see
        `Optimizer`.

    Raises
    ------
    DomainError, DtypeError
        A number is outside its domain, or none.

    Notes
    -----
    The decay is multiplied by the learning rate, as in PyTorch and optax; in the paper it is
    multiplied by the schedule alone, so that ``weight_decay = paper's / learning_rate``. All
    leaves decay, biases too.

    References
    ----------
    Loshchilov & Hutter, "Decoupled weight decay regularization", 2019, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> opt = nm.optim.adamw(0.1, weight_decay=0.5)
    >>> x = np.array([1.0])
    >>> x, state = opt.step(x, np.array([0.0]), opt.init(x))
    >>> x
    array([0.95])
    """
    return AdamW(learning_rate, b1, b2, eps, weight_decay=weight_decay)


@dataclass(frozen=True, eq=False)
class AdamState:
    """The state of `Adam` and `AdamW`.

    Parameters
    ----------
    count : array, shape (), int64
        Steps taken.
    mu, nu : tree
        Running means of the gradient and of its square, uncorrected, like the parameters.
    """

    count: Array
    mu: Tree
    nu: Tree


@dataclass(frozen=True)
class _Adaptive(Optimizer):
    State: ClassVar[type[Any]] = AdamState

    learning_rate: float | Schedule
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def _moments_and_step(
        self, rate: Any, t: Any, g: Array, mu: Array, nu: Array
    ) -> tuple[Array, Array, Array]:
        """Return the new moments, and what Adam subtracts from the weights, in array code."""
        mu = mu + scalar_in(g.dtype, 1.0 - self.b1) * (g - mu)
        nu = nu + scalar_in(g.dtype, 1.0 - self.b2) * (g * g - nu)
        c1, c2 = 1.0 - self.b1**t, 1.0 - self.b2**t
        # nu is 0 only where all gradients were 0, and mu with them: there the root's derivative,
        # which is infinite, is multiplied by 0. It is taken at 1 instead, and left out.
        moved = nu > 0.0
        root = np.where(moved, np.sqrt(np.where(moved, nu, 1.0)), 0.0)
        root = root * scalar_in(g.dtype, c2**-0.5)
        return mu, nu, scalar_in(g.dtype, rate / c1) * mu / (root + scalar_in(g.dtype, self.eps))

    def _constants(self, rate: float, t: int) -> dict[str, float]:
        """Return the numbers that the kernels take; the corrections once, in double precision."""
        b1, b2 = float(self.b1), float(self.b2)
        c1, c2 = 1.0 - b1**t, 1.0 - b2**t
        return {"lr": rate, "beta1": b1, "beta2": b2, "eps": float(self.eps), "c1": c1, "c2": c2}


@dataclass(frozen=True)
class Adam(_Adaptive):
    """The optimizer that `adam` describes and makes."""

    name: ClassVar[str] = "adam"
    kernel: ClassVar[tuple[str, tuple[str, ...]] | None] = ("adam", ("b1", "b2", "eps"))

    def _meaning(self, rate: Any, t: Any, w: Array, g: Array, *slots: Array) -> tuple[Array, ...]:
        mu, nu, step = self._moments_and_step(rate, t, g, *slots)
        return w - step, mu, nu

    def _in_place(
        self, be: Backend, rate: float, t: int, w: Array, g: Array, *slots: Array
    ) -> None:
        mu, nu = slots
        be.adam_step(w, mu, nu, g, **self._constants(rate, t))


@dataclass(frozen=True)
class AdamW(_Adaptive):
    """The optimizer that `adamw` describes and makes."""

    name: ClassVar[str] = "adamw"
    kernel: ClassVar[tuple[str, tuple[str, ...]] | None] = (
        "adamw",
        ("b1", "b2", "eps", "weight_decay"),
    )

    weight_decay: float = field(kw_only=True)

    def _meaning(self, rate: Any, t: Any, w: Array, g: Array, *slots: Array) -> tuple[Array, ...]:
        mu, nu, step = self._moments_and_step(rate, t, g, *slots)
        return w - (scalar_in(w.dtype, rate * self.weight_decay) * w + step), mu, nu

    def _in_place(
        self, be: Backend, rate: float, t: int, w: Array, g: Array, *slots: Array
    ) -> None:
        mu, nu = slots
        decay = float(self.weight_decay)
        be.adamw_step(w, mu, nu, g, decay=decay, **self._constants(rate, t))
