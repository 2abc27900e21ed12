"""Derivatives under check beside differences, number by number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nnmath_core._ext._perturb import judge
from nnmath_core.typing import Array
from nnmath_core.verify.diagnosis import FLOOR, SAFETY, Suspect
from nnmath_core.verify.differences import Estimate, Samples
from nnmath_core.verify.nearby import Nearby

TINY = 2.0**-1020  # differences of numbers that have lost digits below the normal ones

# (x, directions (b, n) in natural units of the point) -> (b, r) derivatives under check
Evaluate = Callable[[Array, Array], Array]


@dataclass
class Compared:
    """Derivatives under check beside differences, along b lines, for r rows of weights.

    All numbers are in natural units. ``entries`` (b,) are the lines when they run along entries,
    otherwise ``directions`` (b, n) are.
    """

    mode: str
    order: int
    point: int
    near: Nearby
    table: Samples
    best: Estimate
    weights: Array | None  # (r, m); None: the outputs themselves
    given: Array  # (b, r)
    evaluate: Evaluate
    entries: Array | None = None
    directions: Array | None = None
    floor: Array | float = 0.0
    eps: float = 0.0  # spacing of the numbers in ``given``
    skip: Array | None = None  # bools: what is judged elsewhere

    def __post_init__(self) -> None:
        w, best = self.weights, self.best
        if w is None:
            self.expected, error, self.step = best.value, best.error, best.step
            part = best.rounding
        else:
            self.expected, error = best.value @ w.T, best.error @ np.abs(w).T
            part = best.rounding @ np.abs(w).T
            self.step = np.broadcast_to(best.step.min(axis=1, keepdims=True), error.shape)
        shape = self.given.shape
        floor = np.asarray(self.floor)
        if floor.shape != shape:
            floor = np.full(shape, floor)
        numbers, marks = np.empty((3, *shape)), np.empty((4, *shape), bool)
        # the largest gap of the good ones by its tolerance, how many of these are of a derivative that is not zero, and
        # of one that is, and how many comparisons are anything but good
        self.worst, self.decided, self.zeros, self.others = judge(
            self.given,
            self.expected,
            error,
            part,
            floor,
            None if self.skip is None else self.skip.view(np.uint8),
            FLOOR * max(self.eps, self.near.variables.eps),
            SAFETY,
            TINY,
            numbers,
            marks.view(np.uint8),
        )
        self.error, self.gap, self.tolerance = numbers
        self.good, self.bad, self.blind, self.unsettled = marks

    def direction(self, b: int) -> Array:
        """Return line b as a direction in natural units."""
        if self.entries is None:
            assert self.directions is not None
            return np.asarray(self.directions[b])
        d = np.zeros(len(self.near.x))
        d[self.entries[b]] = 1.0
        return d

    def weight(self, r: int) -> Array:
        """Return row r of the weights."""
        if self.weights is not None:
            return np.asarray(self.weights[r])
        w = np.zeros(len(self.near.middle))
        w[r] = 1.0
        return w

    def suspect(self, b: int, r: int) -> Suspect:
        """Return one comparison, to be examined."""
        d = self.direction(b)
        return Suspect(
            near=self.near,
            direction=d,
            entry=None if self.entries is None else int(self.entries[b]),
            weight=self.weight(r),
            given=float(self.given[b, r]),
            expected=float(self.expected[b, r]),
            error=float(self.error[b, r]),
            step=float(self.step[b, r]),
            eps=self.eps,
            again=lambda x: float(self.evaluate(x, d[None])[0, r]),
        )
