"""Jumps of a derivative between the points of its differences, seen without knowing the function."""

from __future__ import annotations

import numpy as np

from nnmath_core.typing import Array
from nnmath_core.verify.compared import Compared

HALF = 16  # parts of a step
SEEN = 8.0  # times the rounding of a value: a jump
STAYS = 0.25  # of a fourth difference at half the spacing: 1/16 for smooth functions, 1 at a jump
SHARE = 8.0  # times what their irregularity shows: of many jumps in one sense it shows a part alone
MOST = 4  # steps that are looked at
SHORT = 2.0**-16  # a step in float32 with few kinks in it, on which rounding is seen
NORMAL = 0.6745 * 70**0.5  # median size of a fourth difference of rounding 1: 70 = 1+16+36+16+1

JUMPS = (
    "the derivative jumps between the points of the differences, where relu, max and the like change "
    "branch, and the steps of float32 are too long to keep clear of that"
)


def jumps_explain(c: Compared) -> Array:
    """Return where jumps between the points of differences may account for a disagreement, (b, r).

    Values are taken at 33 points of the step on both sides. Of a smooth function their fourth
    differences are next to nothing but rounding, or shrink with the spacing; a jump stays in them.
    The disagreement is explained when it is below some times the sum of what the increments differ
    by from their median, per length.
    """
    found = np.zeros(c.bad.shape, bool)
    for b in np.flatnonzero(c.bad.any(axis=1)).tolist():
        fourth = np.abs(np.diff(_values(c, b, SHORT), 4, axis=0))
        noise = np.fmax(np.median(fourth, axis=0) / NORMAL, c.near.eps * np.abs(c.near.middle))
        for step in np.unique(c.step[b][c.bad[b]])[::-1][:MOST].tolist():
            values = _values(c, b, step)
            fine, coarse = (
                np.abs(np.diff(v, 4, axis=0)).max(axis=0) for v in (values, values[::2])
            )
            increments = np.diff(values, axis=0)
            uneven = np.abs(increments - np.median(increments, axis=0)).sum(axis=0)
            mine = c.bad[b] & (c.step[b] == step)
            mine &= (fine > SEEN * noise) & (fine > STAYS * coarse)
            found[b] |= mine & (c.gap[b] * 2 * step <= SHARE * uneven)
    return found


def _values(c: Compared, b: int, step: float) -> Array:
    """Return values at 33 points of a line, up to a step to both sides."""
    line = c.near.directions(c.direction(b)[None])
    return np.array([line(0, step * k / HALF)[0] for k in range(-HALF, HALF + 1)])
