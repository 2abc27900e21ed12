"""Second derivatives at a point: those of our gradient against differences of our own gradient.

For a weighted sum of outputs w f the Hessian is symmetric: forward over reverse, reverse over
reverse and reverse over forward along one direction d are all H d, compared entry by entry with
differences of J^T w along d. Forward over forward is compared with differences of J d along d.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core.autodiff.transforms import jvp, vjp
from nnmath_core.typing import Array
from nnmath_core.verify.compared import Compared
from nnmath_core.verify.derivatives import cotangent, gradient_of, raveled, tangent_of
from nnmath_core.verify.diagnosis import with_one_side
from nnmath_core.verify.findings import Findings
from nnmath_core.verify.names import Names
from nnmath_core.verify.nearby import Nearby
from nnmath_core.verify.variables import VectorFunction

SINGLE = 2.0**-5  # of the largest in float32, whose steps are too long to resolve kinks
MANY = 1 << 16  # entries of a gradient; of more, a sample is compared


class Hessians:
    """Second derivatives of a function along a direction, by each composition of our modes."""

    def __init__(self, function: VectorFunction, out: Any, w: Array, kept: Array | None) -> None:
        self.function, self.variables = function, function.variables
        self.out, self.w, self.kept = out, w, kept

    def gradient(self, x: Array) -> Array:
        """Return J^T w by reverse mode."""
        g = gradient_of(self.function, self.out, self.w)
        return self._entries(g(*self.variables.values(x)))

    def tangent(self, x: Array, u: Array) -> Array:
        """Return J u by forward mode."""
        found = tangent_of(self.function, u)(*self.variables.values(x))
        return raveled(found, self.function.size)

    def product(self, mode: str, x: Array, u: Array) -> Array:
        """Return H u, or for ``"fwd-over-fwd"`` the derivative of J u along u."""
        values, direction = self.variables.values(x), self.variables.values(u)
        if mode == "fwd-over-fwd":
            found = jvp(tangent_of(self.function, u), values, direction)[1]
            return raveled(found, self.function.size)
        if mode == "rev-over-fwd":
            weights = cotangent(self.function, self.out, self.w)
            return self._entries(vjp(tangent_of(self.function, u), *values)[1](weights))
        g = gradient_of(self.function, self.out, self.w)
        if mode == "fwd-over-rev":
            return self._entries(jvp(g, values, direction)[1])
        return self._entries(vjp(g, *values)[1](tuple(direction)))

    def _entries(self, leaves: Any) -> Array:
        flat = self.variables.ravel(list(leaves))
        return flat if self.kept is None else flat[self.kept]


def compare_second_order(
    k: int,
    near: Nearby,
    function: VectorFunction,
    modes: tuple[str, ...],
    directions: Array,
    rng: np.random.Generator,
    findings: Findings,
    names: Names,
) -> None:
    """Compare second derivatives along directions (b, n), in natural units."""
    n = len(near.x)
    w = np.ones(1) if function.size == 1 else rng.standard_normal(function.size)
    kept = None if n <= MANY else np.sort(rng.choice(n, MANY, replace=False))
    names.kept = kept
    out = function.floats(function.call(function.variables.values(near.x)))
    hessians = Hessians(function, out, w, kept)
    if "rev" in modes:
        unit = near.unit if kept is None else near.unit[kept]
        gradient = hessians.gradient(near.x)
        scale = np.abs(gradient) * unit + np.abs(w) @ np.abs(near.middle) / 8
        around = Nearby(hessians.gradient, near.variables, near.x, near.variables.eps, gradient)
        for b in range(len(directions)):
            given = [
                (mode, _product(hessians, mode, near.unit))
                for mode in ("fwd-over-rev", "rev-over-rev", "rev-over-fwd")
                if all(part in modes for part in mode.split("-over-"))
            ]
            _compare(k, around, given, directions[b : b + 1], unit, scale, findings, names)
    if "fwd" in modes:
        for b in range(len(directions)):
            u = near.unit * directions[b]
            middle = hessians.tangent(near.x, u)
            around = Nearby(
                lambda x, u=u: hessians.tangent(x, u),  # type: ignore[misc]
                near.variables,
                near.x,
                near.variables.eps,
                middle,
            )
            given = [("fwd-over-fwd", _product(hessians, "fwd-over-fwd", near.unit, u))]
            by_output = Names(function, names.points, whole=False)
            unit, scale = np.ones(function.size), np.abs(middle) + np.abs(near.middle) / 8
            _compare(k, around, given, directions[b : b + 1], unit, scale, findings, by_output)


def _product(
    hessians: Hessians, mode: str, unit: Array, u: Array | None = None
) -> Callable[[Array, Array], Array]:
    """Return (x, directions) -> products (b, r); ``u`` is kept fixed where it is a parameter."""

    def product(x: Array, directions: Array) -> Array:
        return np.array(
            [hessians.product(mode, x, unit * d if u is None else u) for d in directions]
        )

    return product


def _compare(
    k: int,
    around: Nearby,
    given: list[tuple[str, Callable[[Array, Array], Array]]],
    direction: Array,
    unit: Array,
    scale: Array,
    findings: Findings,
    names: Names,
) -> None:
    """Compare products with differences along one direction (1, n)."""
    around.measure_noise(direction[0])
    best, table = around.along_directions(direction)
    best = with_one_side(best, table)
    eps = around.variables.eps  # of the gradient, which is rounded to parts of the function too
    for mode, product in given:
        values = product(around.x, direction)
        finite = np.where(np.isfinite(values), np.abs(values), 0.0)
        top = (finite * unit).max(initial=0.0)
        floor = 64 * eps * (top + scale.max(initial=0.0)) + (SINGLE * top if eps > 1e-10 else 0.0)
        compared = Compared(
            mode=mode,
            order=2,
            point=k,
            near=around,
            table=table,
            best=best,
            weights=None,
            given=values,
            evaluate=product,
            directions=direction,
            floor=floor / unit,
        )
        findings.add(compared, names)
