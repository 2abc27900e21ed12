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

from nnmath_core.typing import Array

RATIO = 4.0
DEPTH = 3  # columns of the table: one more removes less truncation than it adds rounding

# line(b, t) -> values (m,) at t on line b, and the t that was reached after rounding of x
Line = Callable[[int, float], tuple[Array, float]]


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

    def advance(self, active: Array) -> None:
        """Take the next smaller step on the active lines."""
        t = self.first / RATIO ** len(self.plus)
        plus = np.full((self.count, len(self.middle)), np.nan)
        minus, right, left = plus.copy(), np.full((self.count, 1), t), np.full((self.count, 1), t)
        for b in np.flatnonzero(active).tolist():
            plus[b], right[b] = self.line(b, t)
            minus[b], reached = self.line(b, -t)
            left[b] = -reached
        self.plus.append(plus)
        self.minus.append(minus)
        self.right.append(right)
        self.left.append(left)

    def slope(self) -> Array:
        """Size of the slopes at the largest step, (B, m)."""
        return np.asarray(np.abs(self.plus[0] - self.minus[0]) / (self.right[0] + self.left[0]))

    def central(self) -> Estimate:
        """The best extrapolate of central differences."""
        width = np.array(self.right) + np.array(self.left)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            slopes = (np.array(self.plus) - np.array(self.minus)) / width
            return extrapolated(slopes, 2 * self.noise / width, width / 2, power=2)

    def one_sided(self, side: int) -> Estimate:
        """The best extrapolate of differences to the right (1) or to the left (-1)."""
        there, t = (self.plus, self.right) if side > 0 else (self.minus, self.left)
        width = np.array(t)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            slopes = side * (np.array(there) - self.middle) / width
            return extrapolated(slopes, 2 * self.noise / width, width, power=1)

    def bend(self) -> Array:
        """Slope to the right less slope to the left at each step, (K, B, m): in a kink it stays."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            right = (np.array(self.plus) - self.middle) / np.array(self.right)
            left = (self.middle - np.array(self.minus)) / np.array(self.left)
        return np.asarray(right - left)

    def until_settled(self, most: int) -> Estimate:
        """Take smaller steps until rounding outweighs the best error found, on each line."""
        active = np.ones(self.count, bool)
        while len(self.plus) < most and active.any():
            self.advance(active)
            if len(self.plus) < 4:
                continue
            best = self.central()
            width = self.right[-1] + self.left[-1]
            with np.errstate(divide="ignore", invalid="ignore"):
                spent = 2 * self.noise / width > 4 * best.error
            active &= ~(spent.all(axis=1) | (width[:, 0] <= 0))
        return self.central()


def extrapolated(slopes: Array, rounding: Array, steps: Array, *, power: int) -> Estimate:
    """Richardson's table over levels, and its entry of least estimated error for each line and output.

    ``slopes`` (K, B, m) at K steps, with errors in powers of ``step**power``. The error of an entry
    is the largest of: what the extrapolation changed, the distance from the entry one step before,
    the distance from the entry one step after beyond that one's rounding, and its own rounding. An
    accidental agreement of two entries is thus not enough.
    """
    rounding = np.broadcast_to(rounding, slopes.shape)
    steps = np.broadcast_to(steps, slopes.shape)
    columns, guesses, parts, levels = [], [], [], []
    column = slopes
    for j in range(min(DEPTH + 1, len(slopes))):  # column[i] belongs to level i + j
        own = 1.2 * rounding[j:]
        if j:
            finer = column[1:]
            column = finer + (finer - column[:-1]) / (RATIO ** (power * j) - 1)
            guess = np.abs(column - finer)
        else:
            guess = np.zeros(column.shape)
            guess[0] = np.inf  # a single difference says nothing about its error
        drift = np.abs(column[1:] - column[:-1])
        guess[1:] = np.maximum(guess[1:], drift)
        guess[:-1] = np.maximum(guess[:-1], drift - 4 * rounding[j + 1 :])
        columns.append(column)
        guesses.append(np.where(np.isnan(guess), np.inf, guess + own))
        parts.append(own)
        levels.append(steps[j:])
    error = np.concatenate(guesses)
    best = np.argmin(error, axis=0)[None]
    best = np.where(np.isinf(np.take_along_axis(error, best, 0)), len(slopes) - 1, best)

    def pick(tables: list[Array]) -> Array:
        return np.asarray(np.take_along_axis(np.concatenate(tables), best, 0)[0])

    return Estimate(pick(columns), pick(guesses), pick(parts), pick(levels))


def noise_of(line: Line, middle: Array, eps: Array, first: float) -> Array:
    """Error of a value, from differences of high order of seven values on a short line.

    A smooth function has next to no third to fifth differences there, so what they show is
    rounding (More and Wild). Where neighbours are equal the line was too short to see it and is
    made longer. At least one rounding unit of the value.
    """
    found = np.full(middle.shape, np.nan)
    spacing = first
    rounds, growth = (5, 2.0**8) if first < 1e-10 else (3, 2.0**4)
    for _ in range(rounds):
        values = np.array([line(0, k * spacing)[0] for k in range(-3, 4)])
        table, sigma = values, np.zeros(middle.shape)
        gamma = 1.0
        equal = (np.diff(values, axis=0) == 0).sum(axis=0)
        for k in range(1, 6):
            table = np.diff(table, axis=0)
            gamma *= k / (2.0 * (2 * k - 1))  # (k!)^2 / (2k)!
            if k >= 3:
                sigma = np.maximum(sigma, np.sqrt(gamma * np.mean(table**2, axis=0)))
        usable = np.isnan(found) & (equal < 3) & np.isfinite(sigma)
        found = np.where(usable, sigma, found)
        if not np.isnan(found).any():
            break
        spacing *= growth
    return np.asarray(np.maximum(np.nan_to_num(found), eps * np.abs(middle)))
