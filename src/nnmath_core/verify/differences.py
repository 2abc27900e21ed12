"""Derivatives from differences of a function, with the error that they carry.

Along a line t -> y(x + t d) values are taken at steps t = first / 4**k on both sides. Central
differences have errors in even powers of t, which Richardson extrapolation removes one by one;
rounding grows as noise / t. Of all extrapolates the one with the smallest estimated error is kept.

References: Ridders, "Accurate computation of F'(x) and F'(x) F''(x)", 1982. More and Wild,
"Estimating computational noise", 2011.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nnmath_core._ext._perturb import Table, noise_of, one_by_one, values_on
from nnmath_core.typing import Array

__all__ = ["Estimate", "Line", "Samples", "noise_of", "one_by_one", "values_on"]

# line(b, t) -> values (m,) at t on line b, and the t that was reached after rounding of x. A line may have `many`:
# (b (n,), t (k,)) -> the same of k points, (k, m) and (k,); the lines repeat when there are more steps
Line = Callable[[int, float], tuple[Array, float]]


@dataclass
class Estimate:
    """Derivatives along B lines of m outputs: value, error, its rounding part and the step."""

    value: Array
    error: Array
    rounding: Array
    step: Array


class Samples(Table):
    """Values on both sides of a point along B lines, at steps that shrink by a factor of 4.

    The search for steps is in C: ``advance`` takes smaller ones.

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

    def slope(self) -> Array:
        """Size of the slopes at the largest step, (B, m)."""
        return np.asarray(np.abs(self.plus[0] - self.minus[0]) / (self.right[0] + self.left[0]))

    def central(self) -> Estimate:
        """The best extrapolate of central differences."""
        return self._best(self.plus, self.minus, self.right, self.left)

    def one_sided(self, side: int) -> Estimate:
        """The best extrapolate of differences to the right (1) or to the left (-1)."""
        middle = [np.ascontiguousarray(np.broadcast_to(self.middle, y.shape)) for y in self.plus]
        if side > 0:
            return self._best(self.plus, middle, self.right, [])
        return self._best(middle, self.minus, self.left, [])

    def _best(
        self, there: list[Array], other: list[Array], right: list[Array], left: list[Array]
    ) -> Estimate:
        """Richardson's table over levels, and its entry of least estimated error for each line and output.

        The errors of differences are in even powers of the step, one-sided ones in all powers. The
        error of an entry is the largest of: what the extrapolation changed, the distance from the
        entry one step before, the distance from the entry one step after beyond that one's rounding,
        and its own rounding. An accidental agreement of two entries is thus not enough.
        """
        best = np.full((4, self.count, self.m), np.nan)
        self.extrapolated(there, other, right, left, np.ones(self.count, bool), best)
        return Estimate(*best)

    def bend(self) -> Array:
        """Slope to the right less slope to the left at each step, (K, B, m): in a kink it stays."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            right = (np.array(self.plus) - self.middle) / np.array(self.right)
            left = (self.middle - np.array(self.minus)) / np.array(self.left)
        return np.asarray(right - left)

    def settled(self, most: int) -> Estimate:
        """The best that smaller steps give, ``most`` at most; see `Table.until_settled`."""
        return Estimate(*self.until_settled(most))
