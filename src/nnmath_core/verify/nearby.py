"""Values of a function around a point: along components and along directions, NaN where it has none."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from nnmath_core._ext._perturb import moves, sizes
from nnmath_core.typing import Array
from nnmath_core.verify.differences import Estimate, Line, Samples, noise_of, one_by_one
from nnmath_core.verify.on_device import DevicePoints
from nnmath_core.verify.staged import Staged
from nnmath_core.verify.variables import Variables

STEPS = 22  # 4**-22 of the first step lies below the spacing of an entry of natural size
BLOCK = 1 << 16  # numbers in the table of a block of lines


class Nearby:
    """A map of vectors around ``x``, in steps relative to the natural unit of each entry.

    Parameters
    ----------
    values : callable
        From the vector of the variables to a vector (m,).
    variables : Variables
    x : array, shape (n,)
    eps : array, shape (m,), or float
        Relative spacing of the values.
    middle : array, shape (m,), optional
        The values at ``x``.
    staged : Staged or DevicePoints, optional
        The same map by a Plan, or on a device, for many points in one call.
    """

    def __init__(
        self,
        values: Callable[[Array], Array],
        variables: Variables,
        x: Array,
        eps: Array | float,
        middle: Array | None = None,
        staged: Staged | DevicePoints | None = None,
    ) -> None:
        self.values, self.variables, self.x, self.staged = values, variables, x, staged
        self.unit = variables.scale(x)
        if middle is None:
            middle = values(x) if staged is None else staged.at(x)
        self.middle = middle
        eps = np.asarray(eps)
        self.eps = eps if eps.shape == middle.shape else np.broadcast_to(eps, middle.shape)
        self.failure: Exception | None = None
        single = variables.eps < 1e-10
        self.first = 2.0**-3 if single else 2.0**-2
        self.shortest = 2.0**-44 if single else 2.0**-15
        self.noise = self.eps * np.abs(self.middle)
        self.widen: Callable[[], Nearby | None] = lambda: None

    @cached_property
    def size(self) -> Array:
        """The size of each entry, which its unit may be larger than; the unit where it is 0."""
        out = np.empty(len(self.x))
        sizes(self.x, self.unit, out)
        return out

    @cached_property
    def in_double(self) -> Nearby | None:
        """The same map in float64 where it insists on float32, if that can be had."""
        return self.widen()

    def at(self, z: Array) -> Array:
        """Return the values at ``z``; NaN where the function raises, which a step too far may do."""
        try:
            with np.errstate(all="ignore"):
                return self.values(z)
        except Exception as e:
            self.failure = self.failure or e
            return np.full(self.middle.shape, np.nan)

    def components(self, which: Array) -> Line:
        """Lines along single entries; the step is the one that rounding left."""
        return _Entries(self, which)

    def directions(self, d: Array) -> Line:
        """Lines along the rows of ``d`` (B, n), in natural units."""
        return self._along(self.unit, d)

    def _along(self, unit: Array, d: Array) -> Line:
        if isinstance(self.staged, Staged):
            return self.staged.directions(self.x, unit, d)
        return _Directions(self, unit, d)

    def measure_noise(self, d: Array | None = None) -> None:
        """Find the error of a value, from values a few spacings of ``x`` apart along ``d`` (n,), or ones."""
        line = self._along(self.size, np.ones((1, 1)) if d is None else d[None])
        self.noise = noise_of(line, self.middle, self.eps, self.shortest)

    def samples(self, line: Line, count: int, first: float | None = None) -> Samples:
        """Return the table of ``count`` lines, still empty."""
        return Samples(line, count, self.middle, self.noise, first or self.first)

    def along_components(self, which: Array) -> tuple[Estimate, Samples]:
        """Return the best derivatives by the entries ``which``, in natural units, and their table."""
        x, unit = np.abs(self.x[which]), self.unit[which]
        with np.errstate(divide="ignore"):
            largest = np.divide(unit, x, out=np.ones(len(x)), where=x != 0).max(initial=1.0)
            below = np.log(largest) / np.log(4.0)
        table = self.samples(self.components(which), len(which))
        return table.settled(STEPS + min(40, int(below))), table

    def along_directions(self, d: Array) -> tuple[Estimate, Samples]:
        """Return the best derivatives along the rows of ``d`` (B, n), and their table."""
        table = self.samples(self.directions(d), len(d))
        table.begin()
        table.round_steps(self.variables.eps)
        return table.settled(STEPS), table

    def blocks(self, count: int) -> list[Array]:
        """Return 0 .. count - 1 in blocks whose tables stay small."""
        size = max(1, BLOCK // max(1, len(self.middle)))
        return [np.arange(a, min(a + size, count)) for a in range(0, count, size)]


class _Entries:
    """Lines along single entries; see `Nearby.components`."""

    def __init__(self, near: Nearby, which: Array) -> None:
        self.near, self.which = near, which

    def __call__(self, b: int, t: float) -> tuple[Array, float]:
        near, i = self.near, self.which[b]
        if near.staged is not None:
            values, reached = self.many(np.array([b]), np.array([t]))
            return values[0], float(reached[0])
        z = near.x.copy()
        z[i] += t * near.unit[i]
        z = near.variables.snap(z)
        return near.at(z), (z[i] - near.x[i]) / near.unit[i]

    def many(self, b: Array, t: Array) -> tuple[Array, Array]:
        """Return values and steps of many points; the lines repeat when there are more steps."""
        near = self.near
        if near.staged is None:
            return one_by_one(self, b, t)
        which, to, reached = np.empty(len(b), np.int64), np.empty(len(t)), np.empty(len(t))
        single = near.variables.single
        moves(near.x, near.unit, self.which, b, t, single, which, to, reached)
        return near.staged.entries(near.x, which, to), reached


class _Directions:
    """Lines along directions, in some units; see `Nearby.directions`."""

    def __init__(self, near: Nearby, unit: Array, d: Array) -> None:
        self.near, self.unit, self.d = near, unit, d

    def __call__(self, b: int, t: float) -> tuple[Array, float]:
        near = self.near
        if isinstance(near.staged, DevicePoints):
            return self.many(np.array([b]), np.array([t]))[0][0], t
        return near.at(near.variables.snap(near.x + t * self.unit * self.d[b])), t

    def many(self, b: Array, t: Array) -> tuple[Array, Array]:
        """Return values and steps of many points; the lines repeat when there are more steps."""
        near = self.near
        if not isinstance(near.staged, DevicePoints):
            return one_by_one(self, b, t)
        return near.staged.along(near.x, self.unit, self.d, b, t), t
