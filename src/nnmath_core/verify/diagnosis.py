"""Why a derivative and the differences of a function disagree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from nnmath_core.typing import Array
from nnmath_core.verify.differences import Estimate, Samples, noise_of
from nnmath_core.verify.nearby import STEPS, Nearby

SAFETY = 10.0  # estimated errors of differences are right within a factor of a few
FLOOR = 64.0  # rounding units by which two ways to one derivative may differ
SIGNIFICANT = 8.0  # times its rounding: a bend that is seen
STAYS = 0.6  # of a bend after a step four times smaller: 1/4 for smooth functions, 1 in a kink


@dataclass
class Suspect:
    """A derivative along a line that differs from the differences beyond tolerance.

    All numbers are along ``direction`` in natural units. ``again(x)`` is the derivative under check
    at another point, along the same direction.
    """

    near: Nearby
    direction: Array
    entry: int | None
    weight: Array
    given: float
    expected: float
    error: float
    step: float
    again: Callable[[Array], float]
    eps: float


@dataclass
class Verdict:
    """The cause, and the best numbers for the record."""

    cause: str
    expected: float
    error: float
    step: float
    slopes: tuple[float, float] | None = None


class Kinks:
    """Bends of functions at lines of a table: slope to the right less slope to the left.

    For each line and row of ``weights`` (r, m) (None: each output): whether the bend stays as the
    step shrinks, down to the smallest step at which rounding lets it be seen, and the slopes there.
    """

    def __init__(self, table: Samples, best: Estimate, weights: Array | None) -> None:
        plus, minus, middle = np.array(table.plus), np.array(table.minus), table.middle
        noise = table.noise
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            right = (plus - middle) / np.array(table.right)
            left = (middle - minus) / np.array(table.left)
            if weights is not None:
                right, left = right @ weights.T, left @ weights.T
                noise = noise @ np.abs(weights).T
            rounding = 4 * noise / np.minimum(np.array(table.right), np.array(table.left))
            bend = np.abs(right - left)
            seen = bend > SIGNIFICANT * rounding  # false for NaN
            stays = np.zeros(seen.shape, bool)
            stays[1:] = seen[1:] & seen[:-1] & (bend[1:] > STAYS * bend[:-1])
        levels = len(seen)
        last = levels - 1 - np.argmax(seen[::-1], axis=0)
        pick = last[None]
        self.left = np.take_along_axis(left, pick, 0)[0]
        self.right = np.take_along_axis(right, pick, 0)[0]
        smallest = np.take_along_axis(np.broadcast_to(table.right, seen.shape), pick, 0)[0]
        # where the best difference used steps below the bend, it is far away and does no harm
        reached = best.step if weights is None else best.step.min(axis=1, keepdims=True)
        near = reached > smallest / 2
        # a kink beside the point fades at the last step that still crosses it
        before = np.take_along_axis(stays, np.maximum(pick - 1, 0), 0)[0]
        stays = np.take_along_axis(stays, pick, 0)[0] | before
        self.found = stays & seen.any(axis=0) & near

    def between(self, given: Array, slack: Array) -> Array:
        """Whether the derivatives given lie between the slopes at a kink."""
        low, high = np.minimum(self.left, self.right), np.maximum(self.left, self.right)
        slack = np.minimum(slack, 0.1 * (high - low))
        with np.errstate(invalid="ignore"):
            return np.asarray(self.found & (given >= low - slack) & (given <= high + slack))


def with_one_side(best: Estimate, table: Samples) -> Estimate:
    """Fill in one-sided differences where the function has values on one side only."""
    if np.isnan(best.value).any():
        for side in (1, -1):
            other = table.one_sided(side)
            missing = np.isnan(best.value) & np.isfinite(other.value)
            best.value = np.where(missing, other.value, best.value)
            best.error = np.where(missing, other.error, best.error)
            best.rounding = np.where(missing, other.rounding, best.rounding)
            best.step = np.where(missing, other.step, best.step)
    return best


def examine(s: Suspect) -> Verdict:
    """Look at a suspect again, with other steps, from both sides, and for noise in what is given."""
    if not np.isfinite(s.given):
        return Verdict("not finite", s.expected, s.error, s.step)
    best, table = _again(s)
    value, error = float(best.value[0, 0]), float(best.error[0, 0])
    step = float(best.step[0, 0])
    if not np.isfinite(value):
        return Verdict("outside", s.expected, s.error, s.step)
    if abs(s.given - value) <= SAFETY * error + rounding_of(s) and error < abs(s.given) / SAFETY:
        return Verdict("agrees", value, error, step)  # the first steps missed what these see
    if np.isfinite(
        s.expected
    ):  # two estimates with different steps: their distance is an error too
        apart = abs(value - s.expected)
        if s.error < error:
            value, error, step = s.expected, s.error, s.step
        error = max(error, apart)
    kinks = Kinks(table, best, None)
    slopes = None
    if kinks.found[0, 0]:
        slopes = (float(kinks.left[0, 0]), float(kinks.right[0, 0]))
        if kinks.between(np.full((1, 1), s.given), np.full((1, 1), SAFETY * error))[0, 0]:
            return Verdict("kink", value, error, step, slopes)
    gap = abs(s.given - value)
    if gap <= SAFETY * error:
        spoiled = float(best.rounding[0, 0]) > 0.1 * error
        return Verdict("round-off" if spoiled else "non-smooth", value, error, step, slopes)
    if gap <= _unseen(s) + _bend(s, table, step):
        return Verdict("round-off", value, error, step)
    if gap <= SAFETY * error + 16 * noise_of_given(s):
        return Verdict("kink" if _jumps(s) else "round-off", value, error, step)
    return Verdict("bug", value, error, step, slopes)


def right_in_double(s: Suspect, slack: float) -> bool:
    """Whether differences in float64 confirm a derivative that those of float32 call wrong.

    Between the steps of float32 there may be many kinks of a network, which look smooth together.
    """
    wide = s.near.in_double
    if wide is None:
        return False
    best, _ = _again(replace(s, near=wide, expected=np.nan))
    value, error = float(best.value[0, 0]), float(best.error[0, 0])
    return abs(s.given - value) <= SAFETY * error + slack and error < abs(s.given) / SAFETY


def rounding_of(s: Suspect) -> float:
    """Return by how much two ways to the derivative under check may differ."""
    return FLOOR * max(s.eps, s.near.variables.eps) * abs(s.given)


def _unseen(s: Suspect) -> float:
    """Return the effect on a function of float32 that its own rounding can hide.

    1 + x**2 is constant in float32 around small x: noise that no difference of values can show.
    """
    eps = s.near.variables.eps
    if eps < 1e-10:
        return 0.0
    rows = np.flatnonzero(s.weight)
    return FLOOR * eps * max(1.0, float(np.abs(s.weight[rows]) @ np.abs(s.near.middle[rows])))


def _bend(s: Suspect, table: Samples, step: float) -> float:
    """Return by how much the slopes to both sides differ at a step, for a function of float32.

    Its steps cannot be so short that no kink of a network lies among them, and several kinks look
    smooth: the derivative may be any number between the slopes.
    """
    if s.near.variables.eps < 1e-10:
        return 0.0
    steps = np.array(table.right)[:, 0, 0]
    level = int(np.argmin(np.abs(np.log(steps / step))))
    return float(np.abs(table.bend()[level, 0, 0]))


def _first_step(s: Suspect, table: Samples, least: float) -> float:
    """Return a step at which the derivative under check, if it were right, would be seen.

    A function that oscillates below the steps looks flat at all of them. In float32 it looks like
    noise at the shortest, and what is above the ``least`` rounding of a value is taken for it.
    """
    eps = s.near.variables.eps
    around = np.array([table.plus[0], table.minus[0]]) - table.middle
    seen = float(np.abs(around).max())
    noise = 4 * float(np.max(table.noise)) if eps < 1e-10 else FLOOR * least
    gap = abs(s.given - s.expected) if np.isfinite(s.expected) else abs(s.given)
    if noise < seen < gap * table.first / 2:
        return min(table.first, max(seen / gap / 8, 8 * eps))
    return table.first


def _again(s: Suspect) -> tuple[Estimate, Samples]:
    """A new table along the line, of the weighted outputs, with steps between the former ones."""
    near, rows = s.near, np.flatnonzero(s.weight)
    weight = s.weight[rows]
    if s.entry is None:
        outer = near.directions(s.direction[None])
    else:
        outer = near.components(np.array([s.entry]))

    def line(_: int, t: float) -> tuple[Array, float]:
        values, reached = outer(0, t)
        return np.array([weight @ values[rows]]), reached

    middle = np.array([weight @ near.middle[rows]])
    least = np.abs(weight) @ (near.eps[rows] * np.abs(near.middle[rows]))
    noise = noise_of(line, middle, np.zeros(1), near.shortest)
    noise = np.maximum(noise, max(least, np.abs(weight) @ near.noise[rows] / 4))
    table = Samples(line, 1, middle, noise, 0.7 * near.first)
    table.advance(np.ones(1, bool))
    if s.entry is None:
        steepest = np.fmax(table.slope(), abs(s.given))
        table.noise = np.fmax(noise, near.variables.eps * steepest)
    first = _first_step(s, table, float(least))
    if first < table.first:
        noise = table.noise
        table = Samples(line, 1, middle, noise, first)
    best = table.settled(STEPS + 20)
    return with_one_side(best, table), table


def noise_of_given(s: Suspect) -> float:
    """Rounding error of the derivative under check, from its values a few spacings apart."""
    eps = np.array([max(s.eps, s.near.variables.eps)])
    line = lambda _, t: (np.array([_given_at(s, t)]), t)  # noqa: E731
    return float(noise_of(line, np.array([s.given]), eps, s.near.shortest)[0])


def _jumps(s: Suspect) -> bool:
    """Whether the derivative under check has one value on each side of the point."""
    steps = s.near.shortest * np.array([1.0, 2.0, 3.0])
    sides = [np.array([_given_at(s, sign * t) for t in steps]) for sign in (1, -1)]
    within = max(float(np.ptp(side)) for side in sides)
    return within < 0.1 * float(np.ptp(np.array([*sides[0], *sides[1], s.given])))


def _given_at(s: Suspect, t: float) -> float:
    """The derivative under check a little away from the point, in a fixed direction of all entries."""
    near = s.near
    d = np.where(np.arange(len(near.x)) % 2 == 0, 1.0, -0.7)
    with np.errstate(all="ignore"):
        return s.again(near.variables.snap(near.x + t * near.size * d))
