"""Proximal gradient descent and its accelerated form, for functions with a kink: L1 reaches zeros no other way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nnmath_core.autodiff.transforms import value_and_grad
from nnmath_core.autodiff.tree import ravel_tree
from nnmath_core.checks import (
    describe,
    require_callable,
    require_positive_int,
    require_real,
    sentence,
)
from nnmath_core.device import CPU, backend_of, to_device
from nnmath_core.errors import ConvergenceError, DomainError, DtypeError
from nnmath_core.typing import Array, Tree

__all__ = ["ProximalResult", "fista", "proximal_gradient"]


_HALVINGS = 200  # of a step; what is smaller changes nothing in either precision


class _Penalty(Protocol):
    """What is not smooth: its value, and the point that gains most for a step."""

    def __call__(self, params: Any, /) -> Any: ...

    def proximal(self, params: Any, step: float) -> Any: ...


@dataclass(frozen=True, eq=False)
class ProximalResult:
    """Where `fista` or `proximal_gradient` ended.

    Parameters
    ----------
    params : tree
        The point, with exact zeros where the penalty has them.
    value : float
        The function with the penalty there.
    residual : float
        Largest entry of ``(params - proximal(params - s * gradient)) / s``: 0 at a minimum and nowhere else. It is
        computed at ``params`` itself.
    converged : bool
        Whether the residual is below the tolerance.
    iterations : int
        Steps taken.
    step : float
        The step size s of the last one.
    zeros : int
        How many of the parameters are exactly 0.
    """

    params: Tree
    value: float
    residual: float
    converged: bool
    iterations: int
    step: float
    zeros: int


def proximal_gradient(
    f: Callable[[Any], Any],
    params: Tree,
    penalty: _Penalty,
    *,
    step: float = 1.0,
    gtol: float | None = None,
    max_steps: int = 10_000,
) -> ProximalResult:
    r"""Minimise a smooth function and a penalty with kinks, by steps of the one and the other in turn (ISTA).

    .. math:: w_{t+1} = \operatorname{prox}_{s R}(w_t - s \nabla f(w_t))

    Parameters
    ----------
    f : callable
        Of the parameters, differentiable, to one number.
    params : tree of arrays
        Where to start.
    penalty : Regularizer, or any object that is called as ``penalty(params)`` and has ``proximal(params, step)``
        `nm.nn.l1`, `nm.nn.l2`, `nm.nn.elastic_net`, or your own.
    step : float, default 1
        The first step size; it is halved until the quadratic bound holds, and tried twice as large at every tenth step.
    gtol : float, optional
        The residual, in the unit of the gradient, at which to stop. None is ``sqrt(eps)`` times the largest entry of
        the first gradient, or 1 if that is larger.
    max_steps : int, default 10000
        Most steps.

    Returns
    -------
    ProximalResult
        The point, its value, the residual that proves it, and how it went.

    Raises
    ------
    ConvergenceError
        After ``max_steps``, or because rounding hides every further step; ``partial`` is the result so far.
    DomainError, DtypeError
        An argument is not as above, or ``f`` is not finite at the start.

    Notes
    -----
    For a convex f whose gradient has the Lipschitz constant L the distance to the minimum's value falls as
    ``L |w0 - w|**2 / (2 t)``, without steps tuned by hand. The value never grows by more than rounding.

    References
    ----------
    Beck & Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems", SIAM J. Imaging
    Sciences 2009.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> target = np.array([3.0, -0.4, 1.0])
    >>> found = nm.optim.proximal_gradient(lambda w: 0.5 * np.sum((w - target) ** 2), np.zeros(3), nm.nn.l1(0.5))
    >>> found.params, found.zeros
    (array([2.5, 0. , 0.5]), 1)
    """
    return _minimise("proximal_gradient", f, params, penalty, step, gtol, max_steps, False)


def fista(
    f: Callable[[Any], Any],
    params: Tree,
    penalty: _Penalty,
    *,
    step: float = 1.0,
    gtol: float | None = None,
    max_steps: int = 10_000,
) -> ProximalResult:
    r"""Minimise a smooth function and a penalty with kinks, by accelerated proximal steps (FISTA).

    .. math::
        w_{t+1} = \operatorname{prox}_{s R}(v_t - s \nabla f(v_t)), \qquad
        v_{t+1} = w_{t+1} + \frac{a_t - 1}{a_{t+1}} (w_{t+1} - w_t)

    Parameters
    ----------
    f : callable
        Of the parameters, differentiable and convex, to one number.
    params : tree of arrays
        Where to start.
    penalty : Regularizer, or any object that is called as ``penalty(params)`` and has ``proximal(params, step)``
        `nm.nn.l1`, `nm.nn.l2`, `nm.nn.elastic_net`, or your own.
    step : float, default 1
        The first step size; it is halved until the quadratic bound holds.
    gtol : float, optional
        The residual, in the unit of the gradient, at which to stop. None is ``sqrt(eps)`` times the largest entry of
        the first gradient, or 1 if that is larger.
    max_steps : int, default 10000
        Most steps.

    Returns
    -------
    ProximalResult
        The point, its value, the residual that proves it, and how it went.

    Raises
    ------
    ConvergenceError
        After ``max_steps``, or because rounding hides every further step; ``partial`` is the result so far.
    DomainError, DtypeError
        An argument is not as above, or ``f`` is not finite at the start.

    Notes
    -----
    A step costs two gradients; on a device two copies of a few numbers to the host, for the bound and for the residual,
    and one for each halving. The distance to the minimum's value falls as ``2 L |w0 - w|**2 / (t + 1)**2``. The
    momentum starts afresh where it points uphill (O'Donoghue & Candes 2015), which makes the rate linear where f is
    strongly convex. A function that is not convex is better served by `proximal_gradient`.

    References
    ----------
    Beck & Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems", SIAM J. Imaging
    Sciences 2009. O'Donoghue & Candes, "Adaptive Restart for Accelerated Gradient Schemes", Foundations of
    Computational Mathematics 2015.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((50, 20))
    >>> y = x[:, 0] - 2 * x[:, 1]
    >>> loss = lambda w: nm.nn.mean_squared_error(x @ w, y, reduction="mean")
    >>> found = nm.optim.fista(loss, np.zeros(20), nm.nn.l1(0.5))
    >>> np.flatnonzero(found.params), found.zeros
    (array([0, 1]), 18)
    """
    return _minimise("fista", f, params, penalty, step, gtol, max_steps, True)


def _minimise(
    who: str,
    f: Callable[[Any], Any],
    params: Tree,
    penalty: _Penalty,
    step: float,
    gtol: float | None,
    max_steps: int,
    accelerate: bool,
) -> ProximalResult:
    require_callable(who, "f", f)
    if not (callable(penalty) and callable(getattr(penalty, "proximal", None))):
        advice = "`nm.nn.l1(...)` is one."
        wanted = "a penalty with `proximal(params, step)`"
        raise DtypeError(sentence(who, "penalty", wanted, describe(penalty), advice))
    s = require_real(who, "step", step, lambda x: 0 < x < math.inf, "a finite number > 0")
    require_positive_int(who, "max_steps", max_steps)
    x, unravel = ravel_tree(params)
    if x.dtype.kind != "f":
        advice = "Convert them: `params.astype(float)`."
        raise DtypeError(sentence(who, "params", "arrays of floats", str(x.dtype), advice))
    with backend_of(x, who=who).scope():
        return _descent(who, f, x, unravel, penalty, s, gtol, max_steps, accelerate)


def _descent(
    who: str,
    f: Callable[[Any], Any],
    x: Array,
    unravel: Callable[[Array], Any],
    penalty: _Penalty,
    s: float,
    gtol: float | None,
    max_steps: int,
    accelerate: bool,
) -> ProximalResult:
    eps = float(np.finfo(x.dtype).eps)
    evaluate = value_and_grad(lambda flat: f(unravel(flat)))

    def prox(z: Array, s: float) -> Array:
        moved: Array = ravel_tree(penalty.proximal(unravel(z), s))[0]
        return moved

    fx, gx = evaluate(x)
    if not (math.isfinite(fx) and bool(np.all(np.isfinite(gx)))):
        raise DomainError(
            f"{who}: `f` and its gradient must be finite at the start, got {float(fx):.6g}. Start elsewhere."
        )
    if gtol is None:
        tolerance = math.sqrt(eps) * max(1.0, _largest(gx))
    else:
        tolerance = require_real(who, "gtol", gtol, lambda t: t > 0, "a number > 0")

    v, fv, gv = x, fx, gx
    a, steps, last = 1.0, 0, s
    while True:
        residual = _largest(x - prox(x - s * gx, s)) / s  # of x itself, not of v
        if residual <= tolerance or steps == max_steps:
            break
        if not accelerate and steps % 10 == 9:
            s *= 2.0
        found = _bounded_step(evaluate, prox, x, v, fv, gv, s, eps)
        if found is None:
            break
        z, fz, gz, s, slope = found
        last, steps = s, steps + 1
        uphill = accelerate and slope > 0.0
        following = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * a * a))
        ahead = (a - 1.0) / following if accelerate and not uphill else 0.0
        a = 1.0 if uphill else following
        v, fv, gv = z, fz, gz
        if ahead:
            v = z + ahead * (z - x)
            fv, gv = evaluate(v)
        x, fx, gx = z, fz, gz
    point = unravel(x)
    result = ProximalResult(
        params=point,
        value=float(fx) + float(penalty(point)),
        residual=residual,
        converged=residual <= tolerance,
        iterations=steps,
        step=last,
        zeros=int((x == 0).sum()),
    )
    if not result.converged:
        raise ConvergenceError(
            f"{who}: the residual is {residual:.1e} after {result.iterations} steps, the tolerance {tolerance:.1e}. "
            "Raise `max_steps` or `gtol`; `error.partial` has the point.",
            partial=result,
        )
    return result


def _bounded_step(
    evaluate: Callable[[Any], Any],
    prox: Callable[[Any, float], Any],
    x: Array,
    v: Array,
    fv: Any,
    gv: Array,
    s: float,
    eps: float,
) -> tuple[Any, Any, Any, float, float] | None:
    """A step from v, halved until f stays below the quadratic that the step minimises; None if there is none.

    The last number says whether the momentum that led from x to v points uphill.
    """
    for _ in range(_HALVINGS):
        z = prox(v - s * gv, s)
        d = z - v
        fz, gz = evaluate(z)
        before, after, along, square, slope = _numbers(
            fv, fz, np.vdot(gv, d), np.vdot(d, d), np.vdot(v - z, z - x)
        )
        bound = before + along + square / (2.0 * s)
        # in the last digits of f the bound says nothing any more
        if after <= bound + 8.0 * eps * max(abs(before), abs(after)):
            return z, fz, gz, s, slope
        s *= 0.5
    return None


def _numbers(*found: Any) -> list[float]:
    """Return numbers on the host; of a device they come in one copy."""
    be = backend_of(*found)
    if be.device == CPU:
        return [float(x) for x in found]
    with be.scope():
        there = [be.xp.asarray(x).astype(float).reshape(()) for x in found]
        return [float(x) for x in to_device(be.xp.stack(there), CPU)]


def _largest(x: Array) -> float:
    return float(np.max(np.abs(x))) if x.size else 0.0
