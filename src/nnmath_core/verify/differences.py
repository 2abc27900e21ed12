"""Derivatives from differences of a function, with the error that they carry.

Along a line t -> y(x + t d) values are taken at steps t = first / 4**k on both sides. Central
differences have errors in even powers of t, which Richardson extrapolation removes one by one;
rounding grows as noise / t. Of all extrapolates the one with the smallest estimated error is kept.

References: Ridders, "Accurate computation of F'(x) and F'(x) F''(x)", 1982. More and Wild,
"Estimating computational noise", 2011.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nnmath_core._ext._perturb import extrapolate, irregularity
from nnmath_core.typing import Array

RATIO = 4.0
LEAST = 4  # steps before the first look at errors
SEVEN = np.arange(-3.0, 4.0)  # places of the values that show rounding
OWN = 1.2  # times the rounding of its smallest step: the least error of an extrapolate

# line(b, t) -> values (m,) at t on line b, and the t that was reached after rounding of x. A line may have `many`:
# (b (n,), t (k,)) -> the same of k points, (k, m) and (k,); the lines repeat when there are more steps
Line = Callable[[int, float], tuple[Array, float]]


def values_on(line: Line, b: Array, t: Array) -> tuple[Array, Array]:
    """Return the values (k, m) at steps t (k,) on lines b, which repeat, and the steps that were reached."""
    many = getattr(line, "many", None)
    if many is None:
        return one_by_one(line, b, t)
    values, reached = many(b, t)
    return values, reached


def one_by_one(line: Line, b: Array, t: Array) -> tuple[Array, Array]:
    """Return the same by a call for each point."""
    found = [line(i, s) for i, s in zip(itertools.cycle(b.tolist()), t.tolist(), strict=False)]
    return np.array([y for y, _ in found]), np.array([s for _, s in found])


@dataclass
class Estimate:
    """Derivatives along B lines of m outputs: value, error, its rounding part and the step."""

    value: Array
    error: Array
    rounding: Array
    step: Array


class Samples:
    """Values on both sides of a point along B lines, at steps that shrink by `RATIO`.

    Parameters
    ----------
    line : callable
        ``line(b, t)``; NaN where the function has no value.
    count : int
        Lines.
    middle : array, shape (m,)
        The values at the point.
    noise : array, shape (m,) or (B, m)
        Error of a value.
    first : float
        The largest step.
    """

    def __init__(self, line: Line, count: int, middle: Array, noise: Array, first: float) -> None:
        self.line, self.count, self.middle, self.noise, self.first = (
            line,
            count,
            middle,
            noise,
            first,
        )
        self.plus: list[Array] = []
        self.minus: list[Array] = []
        self.right: list[Array] = []  # steps reached, (B, 1)
        self.left: list[Array] = []

    def advance(self, active: Array, levels: int = 1) -> None:
        """Take the next smaller step, or several, on the active lines."""
        every = bool(active.all())
        which = np.arange(self.count) if every else np.flatnonzero(active)
        m, n, first = len(self.middle), len(which), len(self.plus)
        steps = [self.first / RATIO**k for k in range(first, first + levels)]
        t = np.array([sign * step for step in steps for sign in (1.0, -1.0)])
        t = t if n == 1 else t.repeat(n)
        if n:
            values, reached = values_on(self.line, which, t)
        else:
            values, reached = np.empty((0, m)), t
        values, reached = values.reshape(levels, 2, n, m), reached.reshape(levels, 2, n, 1)
        for k, step in enumerate(steps):
            if every:
                plus, minus = values[k]
                right, left = reached[k, 0], -reached[k, 1]
            else:
                plus, minus = np.full((2, self.count, m), np.nan)
                right, left = np.full((2, self.count, 1), step)
                plus[which], minus[which] = values[k]
                right[which], left[which] = reached[k, 0], -reached[k, 1]
            self.plus.append(plus)
            self.minus.append(minus)
            self.right.append(right)
            self.left.append(left)

    def slope(self) -> Array:
        """Size of the slopes at the largest step, (B, m)."""
        return np.asarray(np.abs(self.plus[0] - self.minus[0]) / (self.right[0] + self.left[0]))

    def central(self, lines: Array | None = None, into: Array | None = None) -> Estimate:
        """The best extrapolate of central differences, on all lines or on some; the others stay in ``into``."""
        return self._extrapolated(self.plus, self.minus, self.right, self.left, lines, into)

    def one_sided(self, side: int) -> Estimate:
        """The best extrapolate of differences to the right (1) or to the left (-1)."""
        middle = [np.ascontiguousarray(np.broadcast_to(self.middle, y.shape)) for y in self.plus]
        if side > 0:
            return self._extrapolated(self.plus, middle, self.right, [])
        return self._extrapolated(middle, self.minus, self.left, [])

    def _extrapolated(
        self,
        there: list[Array],
        other: list[Array],
        right: list[Array],
        left: list[Array],
        lines: Array | None = None,
        into: Array | None = None,
    ) -> Estimate:
        """Richardson's table over levels, and its entry of least estimated error for each line and output.

        The errors of differences are in even powers of the step, one-sided ones in all powers. The
        error of an entry is the largest of: what the extrapolation changed, the distance from the
        entry one step before, the distance from the entry one step after beyond that one's rounding,
        and its own rounding. An accidental agreement of two entries is thus not enough.
        """
        best = np.full((4, self.count, len(self.middle)), np.nan) if into is None else into
        active = np.ones(self.count, bool) if lines is None else lines
        noise = np.ascontiguousarray(np.atleast_2d(self.noise), np.float64)
        extrapolate(there, other, right, left, noise, active.view(np.uint8), best)
        return Estimate(*best)

    def bend(self) -> Array:
        """Slope to the right less slope to the left at each step, (K, B, m): in a kink it stays."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            right = (np.array(self.plus) - self.middle) / np.array(self.right)
            left = (self.middle - np.array(self.minus)) / np.array(self.left)
        return np.asarray(right - left)

    def until_settled(self, most: int) -> Estimate:
        """Take smaller steps until no smaller one can lower the best error found, on each line.

        What a step brings in carries its rounding, so the error of all that is made with it is known from below before
        it is taken. The best entry must have been seen beside one of a smaller step, unless the rounding of the step
        that it has itself outweighs its error. A line keeps the estimate with which it ended.
        """
        active = np.ones(self.count, bool)
        early = min(LEAST, most) - len(self.plus)
        if early > 0:
            self.advance(active, early)
        found = np.full((4, self.count, len(self.middle)), np.nan)
        best = self.central(active, found)
        with np.errstate(divide="ignore", invalid="ignore"):
            while len(self.plus) < most:
                width = self.right[-1] + self.left[-1]
                rounding = 2 * self.noise / width
                spent = rounding > np.where(best.step > width, 1 / (OWN * RATIO), 4) * best.error
                active &= ~(spent.all(axis=1) | (width[:, 0] <= 0))  # not spent: without a value
                if not active.any():
                    break
                self.advance(active)
                self.central(active, found)
        return best


def noise_of(line: Line, middle: Array, eps: Array, first: float) -> Array:
    """Error of a value, from differences of high order of seven values on a short line.

    A smooth function has next to no third to fifth differences there, so what they show is
    rounding (More and Wild). Where neighbours are equal the line was too short to see it and is
    made longer. At least one rounding unit of the value.
    """
    found = np.full(middle.shape, np.nan)
    spacing = first
    sigma, equal, same = np.empty(middle.shape), np.empty(middle.shape, np.int64), np.zeros(7, int)
    rounds, growth = (5, 2.0**8) if first < 1e-10 else (3, 2.0**4)
    for _ in range(rounds):
        values, _ = values_on(line, same, spacing * SEVEN)
        irregularity(np.ascontiguousarray(values), sigma, equal)
        usable = (equal < 3) & np.isfinite(sigma)
        usable &= np.isnan(found)
        found[usable] = sigma[usable]
        if not np.isnan(found).any():
            break
        spacing *= growth
    found[np.isnan(found)] = 0.0
    return np.asarray(np.maximum(found, eps * np.abs(middle)))
