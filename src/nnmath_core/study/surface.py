"""The loss surface where training stopped: slope, extreme curvatures, and what kind of point it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core.autodiff.tree import ravel_tree
from nnmath_core.curvature import HessianOperator
from nnmath_core.device import to_device
from nnmath_core.errors import ConvergenceError
from nnmath_core.solvers import Eigenpairs, lanczos
from nnmath_core.study.classifier import mean_loss
from nnmath_core.study.training import loss_over
from nnmath_core.typing import Array

__all__ = ["surface_record"]

STATIONARY = (
    1e-3  # a point counts as stationary when its slope can lower the loss by less than this share
)


def surface_record(
    model: Any,
    x: Array,
    y: Array,
    *,
    highest: int,
    lowest: int,
    basis_bytes: int,
    rng: np.random.Generator,
    tell: Callable[[int, int], None],
) -> dict[str, Any]:
    """Return loss, gradient, extreme eigenvalues of the Hessian and the verdict, for the mean loss of rows.

    The eigenvalues are those of `lanczos` with their residual bounds; where some have not converged
    in the memory allowed, they are given as they stand and the record says so. What the slope and
    the lowest curvature promise is tried: the record has the lowest loss met on a line each way.
    """
    H = HessianOperator(mean_loss, model, x, y)
    n = H.shape[0]
    high = min(highest, n)
    low = min(lowest, n - high)
    steps = max(high + low, min(n, basis_bytes // (n * H.dtype.itemsize)))
    count: Any = (high, low) if low else high
    try:
        found = lanczos(
            H, k=count, which="BE" if low else "LA", max_steps=steps, rng=rng, progress=tell
        )
    except ConvergenceError as error:
        if not isinstance(error.partial, Eigenpairs):
            raise
        found = error.partial
    if found.interrupted:
        raise KeyboardInterrupt
    loss = loss_over(model, x, y)
    gradient = np.asarray(to_device(H.gradient, "cpu"), np.float64)
    norm = float(np.linalg.norm(gradient))
    line = _Line(H, model, x, y)
    top, bottom = float(found.value[-1]), float(found.value[0])
    slope = line.lowest(-gradient, 2.0 / top if top > 0 else 1.0) if norm > 0 else (0.0, loss)
    bent = None
    if bottom + float(found.bound[0]) < 0:
        bent = line.lowest_both_ways(to_device(found.vectors[:, 0], "cpu"))
    rest = found.others[0] if not math.isnan(found.others[0]) else math.inf
    kind, words = verdict(loss, slope[1], bottom, float(found.bound[0]), rest)
    return {
        "rows": len(y),
        "parameters": n,
        "loss": loss,
        "gradient_norm": norm,
        "eigenvalues": [
            {"value": float(v), "bound": float(b), "converged": bool(c)}
            for v, b, c in zip(found.value, found.bound, found.converged, strict=True)
        ],
        "highest": high,
        "lowest": low,
        "others": [x if math.isfinite(x) else None for x in found.others],
        "iteration": found.verdict,
        "steps": found.iterations,
        "products": found.products,
        "downhill": {"distance": slope[0] * norm, "loss": slope[1]},
        "negative_direction": None if bent is None else {"distance": bent[0], "loss": bent[1]},
        "kind": kind,
        "verdict": words,
    }


def verdict(
    loss: float, downhill: float, lowest: float, bound: float, rest: float
) -> tuple[str, str]:
    """Say what kind of point it is: a short name, and a sentence.

    Parameters
    ----------
    loss, downhill : float
        At the point, and the lowest met along the negative gradient.
    lowest, bound : float
        The lowest eigenvalue of the Hessian that was found, and how far it may be off.
    rest : float
        No eigenvalue that was not found is below, with the probability that `lanczos` states.

    Returns
    -------
    (str, str)

    Examples
    --------
    >>> verdict(1.0, 1.0, 0.5, 1e-9, rest=0.5)[0]
    'a minimum'
    >>> verdict(1.0, 1.0, -0.5, 1e-9, rest=-0.5)[0]
    'a saddle'
    >>> verdict(1.0, 0.5, -0.5, 1e-9, rest=-0.5)[0]
    'a slope'
    """
    share = (loss - downhill) / loss if loss > 0 else 0.0
    down = lowest + bound < 0
    up = min(lowest - bound, rest) > 0
    if down:
        bends = "curves down in at least one direction"
    elif up:
        bends = "curves up in every direction"
    else:
        bends = "is flat in some directions, to the accuracy of the eigenvalues"
    if share >= STATIONARY:
        return (
            "a slope",
            f"Training stopped on a slope: one step along the negative gradient lowers the loss by "
            f"{100 * share:.2g} %. The surface {bends}.",
        )
    kind = "a saddle" if down else "a minimum" if up else "a degenerate point"
    what = kind if down or up else "a flat minimum or a degenerate saddle"
    return (
        kind,
        f"A step along the gradient lowers the loss by less than a thousandth. The surface {bends}: {what}.",
    )


class _Line:
    """The loss along straight lines from the point."""

    def __init__(self, H: HessianOperator, model: Any, x: Array, y: Array) -> None:
        self.H, self.x, self.y = H, x, y
        self.start = np.asarray(to_device(ravel_tree(model)[0], "cpu"), np.float64)
        self.model = model

    def loss(self, direction: Array, t: float) -> float:
        """Return the loss at distance ``t`` times the direction."""
        flat = (self.start + t * direction).astype(self.H.dtype)
        moved = self.H.unravel(to_device(flat, self.H.device))
        return loss_over(moved, self.x, self.y)

    def lowest(self, direction: Array, first: float) -> tuple[float, float]:
        """Return the step and the loss that are lowest among 0 and first * 2**k, k = -6 .. 6."""
        steps = [0.0, *(first * 2.0**k for k in range(-6, 7))]
        losses = [self.loss(direction, t) for t in steps]
        values = [loss if math.isfinite(loss) else math.inf for loss in losses]
        best = int(np.argmin(values))
        return steps[best], values[best]

    def lowest_both_ways(self, direction: Array) -> tuple[float, float]:
        """Return the same along a unit vector, forth or back, at distances 2**-6 .. 2**6 of a hundredth."""
        unit = np.asarray(direction, np.float64)
        return min((self.lowest(unit, 0.01), self.lowest(-unit, 0.01)), key=lambda found: found[1])
