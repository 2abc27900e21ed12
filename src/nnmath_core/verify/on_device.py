"""Values of a function of device arrays at many points: perturbed, evaluated and collected there, and copied once.

Points are made on the device, from a point and a list of moved entries or of steps along directions. Many go through
the function at once, by `nm.vmap`; where that fails, as with Python control flow on values, or gives other values, one
after another. Either way nothing is read until the last has been queued.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from nnmath_core._ext._tree import flatten
from nnmath_core.autodiff.transforms import jvp, vjp, vmap
from nnmath_core.device import CPU, backend_for, device_of, to_device
from nnmath_core.errors import ShapeError
from nnmath_core.typing import Array
from nnmath_core.verify.behaviour import varying
from nnmath_core.verify.variables import Variables, VectorFunction

__all__ = ["DevicePoints", "device_points"]

AT_ONCE = 64  # points that go through a function together
NUMBERS = 1 << 20  # of their variables, or of their values, at most: of more, fewer points


class DevicePoints:
    """A map of the variables' leaves on a device, at points near a point; the face is that of `Staged`.

    Parameters
    ----------
    variables : Variables
        All on one device.
    f : callable
        ``f(*leaves)``: a tuple of arrays of floats on that device.
    size : int
        Numbers in them.
    kept : array of int, optional
        Which of the numbers are wanted; all by default.
    counted : callable, optional
        Called with a number of evaluations.
    """

    def __init__(
        self,
        variables: Variables,
        f: Callable[..., tuple[Any, ...]],
        size: int,
        kept: Array | None = None,
        counted: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.variables, self.f, self.size, self.counted = variables, f, size, counted
        self.device = variables.devices[0]
        self.backend: Any = backend_for(self.device)
        self.wide = variables.wide
        self.kept = None if kept is None else to_device(kept, self.device)
        self.outputs = size if kept is None else len(kept)
        self.batched = True
        self.failure: Exception | None = None
        self._at: tuple[Array, Any] | None = None  # a point, and the same on the device
        self._direction: tuple[Array, Any] | None = None
        self.at_once = max(1, min(AT_ONCE, NUMBERS // max(variables.size, size, 1)))

    def close(self) -> None:
        """There is nothing to leave to the next check."""

    # ------------------------------------------------------------------------------ values

    def at(self, x: Array) -> Array:
        """Return the values (m,) at ``x``."""
        with self.backend.scope():
            value: Array = self._values(1, lambda first, last: self._there(x)[None])[0]
        return value

    def along(self, x: Array, unit: Array, d: Array, rows: Array, t: Array) -> Array:
        """Return the values (k, m) at ``x + t[k] unit d[rows[k]]``; the rows repeat when there are more steps."""
        with self.backend.scope():
            there = self._there(x)
            lines = self._moved(unit * d)
            which, steps = self._moved(np.resize(rows, len(t))), self._moved(t)
            return self._values(
                len(t),
                lambda first, last: there + steps[first:last, None] * lines[which[first:last]],
            )

    def entries(self, x: Array, which: Array, to: Array) -> Array:
        """Return the values (k, m) at ``x`` with entry ``which[k]`` as ``to[k]``; the entries repeat, likewise."""
        xp = self.backend.xp
        with self.backend.scope():
            there = self._there(x)
            places, numbers = self._moved(np.resize(which, len(to))), self._moved(to)
            columns = xp.arange(len(x))

            def points(first: int, last: int) -> Any:
                moved = columns == places[first:last, None]
                return xp.where(moved, numbers[first:last, None], there)

            return self._values(len(to), points)

    def of(self, f: Callable[..., Any], x: Array, *directions: Array) -> Array:
        """Return the numbers of ``f`` of the leaves of ``x`` and of those of each direction: one copy back."""
        with self.backend.scope():
            vectors = [self._there(x), *map(self._along_there, directions)]
            out = self.backend.xp.empty((1, self.outputs))
            leaves = [[leaf[0] for leaf in self._leaves(v[None])] for v in vectors]
            self._write(tuple(y[None] for y in f(*leaves)), out)
            return np.asarray(to_device(out[0], CPU))

    def _there(self, x: Array) -> Any:
        """Return a point on the device; the last one is kept."""
        if self._at is None or self._at[0] is not x:
            self._at = (x, self._moved(x))
        return self._at[1]

    def _along_there(self, d: Array) -> Any:
        """Return a direction on the device; the last one is kept."""
        if self._direction is None or not np.array_equal(self._direction[0], d):
            self._direction = (d, self._moved(d))
        return self._direction[1]

    def _moved(self, x: Array) -> Any:
        return to_device(np.ascontiguousarray(x), self.device)

    def _leaves(self, points: Any) -> list[Any]:
        """Return fresh leaves (k, ...) of points (k, n), in the dtypes that are passed."""
        xp, v, out = self.backend.xp, self.variables, []
        for part, shape, own in zip(v.slices(), v.shapes, v.dtypes, strict=True):
            dtype = np.float64 if v.wide else own
            leaf = xp.array(points[:, part], dtype=dtype, order="C", copy=True)
            out.append(leaf.reshape((len(points), *shape)))
        return out

    def _values(self, count: int, points: Callable[[int, int], Any]) -> Array:
        """Return the values (count, m) at points (first, last) -> (last - first, n), copied at the end."""
        self.counted(count)
        out = self.backend.xp.empty((count, self.outputs))
        for first in range(0, count, self.at_once):
            last = min(first + self.at_once, count)
            leaves = self._leaves(points(first, last))
            self._evaluate(self.f, leaves, out[first:last])
        return np.asarray(to_device(out, CPU))

    def _evaluate(
        self,
        f: Callable[..., tuple[Any, ...]],
        leaves: list[Any],
        out: Any,
        *,
        strict: bool = False,
    ) -> None:
        """Write the values of ``f`` at leaves (k, ...) to rows of ``out``: NaN where it raises, unless ``strict``."""
        k = len(out)
        if self.batched and k > 1:
            try:
                self._write(vmap(f)(*leaves), out)
                return
            except Exception:  # Python control flow on values, an operation without a rule, memory
                self.batched = False
        for i in range(k):
            try:
                self._write(
                    tuple(y[None] for y in f(*(leaf[i] for leaf in leaves))), out[i : i + 1]
                )
            except Exception as e:
                if strict:
                    raise
                self.failure = self.failure or e
                out[i] = np.nan

    def _write(self, results: tuple[Any, ...], out: Any) -> None:
        """Write results (k, ...) to rows (k, m), next to each other."""
        xp = self.backend.xp
        rows = [y.reshape((len(out), -1)) for y in results if y.size]
        made = (
            rows[0] if len(rows) == 1 else xp.concatenate([y.astype(float) for y in rows], axis=1)
        )
        out[...] = made if self.kept is None else made[:, self.kept]

    # ------------------------------------------------------------------------------ derivatives

    def rows(self, x: Array, weights: Array, sweeps: Callable[[], Array]) -> Array:
        """Return W J (r, n): a forward pass, and a sweep for each row."""
        if self.variables.wide != self.wide:
            return sweeps()
        with self.backend.scope():
            found = self.backend.xp.empty((len(weights), self.variables.size))
            out, pull = vjp(self.f, *(leaf[0] for leaf in self._leaves(self._there(x)[None])))
            there, kept, self.kept = self._moved(weights), self.kept, None
            try:
                for w, row in zip(there, found, strict=True):
                    self._write(tuple(g[None] for g in pull(self._split(w, out))), row[None])
            finally:
                self.kept = kept
            return np.asarray(to_device(found, CPU))

    def _split(self, w: Any, like: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a vector (m,) as arrays like the results."""
        parts, at = [], 0
        for y in like:
            parts.append(w[at : at + y.size].astype(y.dtype).reshape(y.shape))
            at += y.size
        return tuple(parts)

    def columns(self, x: Array, directions: Iterable[Array]) -> Array:
        """Return J d (b, m) of directions, many at once."""
        with self.backend.scope():
            leaves = [leaf[0] for leaf in self._leaves(self._there(x)[None])]

            def along(*d: Any) -> tuple[Any, ...]:
                pushed: tuple[Any, ...] = jvp(self.f, leaves, list(d))[1]
                return pushed

            parts, some = [], []
            for d in directions:
                some.append(d)
                if len(some) == self.at_once:
                    parts.append(self._along(along, some))
                    some = []
            if some:
                parts.append(self._along(along, some))
            if not parts:
                return np.zeros((0, self.outputs))
            return np.asarray(to_device(self.backend.xp.concatenate(parts), CPU))

    def _along(self, along: Callable[..., tuple[Any, ...]], directions: list[Array]) -> Any:
        out = self.backend.xp.empty((len(directions), self.outputs))
        self._evaluate(along, self._leaves(self._moved(np.array(directions))), out, strict=True)
        return out


def device_points(function: VectorFunction) -> DevicePoints | None:
    """Return a function's values at many points of a device; None where its variables or results are elsewhere."""
    variables = function.variables
    places = set(variables.devices)
    if len(places) != 1 or CPU in places or not function.size:
        return None
    device = variables.devices[0]

    def of_leaves(*leaves: Any) -> tuple[Any, ...]:
        out = function.call(list(leaves))
        function.calls -= 1
        found, treedef = flatten(out)
        if treedef != function.treedef or [np.shape(y) for y in found] != function.all_shapes:
            raise ShapeError(
                f"{function.who}: `f` must return one structure and shape at all points, and returned another one at a "
                "point nearby."
            )
        return tuple(found[i] for i in function.which)

    def counted(count: int) -> None:
        function.calls += count

    made = DevicePoints(variables, of_leaves, function.size, counted=counted)
    x = variables.start
    with made.backend.scope():
        leaves = [leaf[0] for leaf in made._leaves(made._there(x)[None])]
        if any(device_of(y) != device for y in of_leaves(*leaves)):
            return None
    made.batched = _agree(function, made)
    return made


def _agree(function: VectorFunction, made: DevicePoints) -> bool:
    """Whether a batch gives the function's values at its point and beside it."""
    x = function.variables.start
    unit = function.variables.scale(x)
    if not len(x):
        return False
    before = function.calls
    try:
        both = made.along(
            x, unit, np.ones((1, len(x))), np.zeros(2, np.int64), np.array([0.0, 2.0**-12])
        )
        alone = [function(z) for z in (x, function.variables.snap(x + 2.0**-12 * unit))]
    except Exception:  # outside of its domain
        return False
    finally:
        function.calls = before
    return made.batched and all(
        varying(a, b, function.eps) is None for a, b in zip(alone, both, strict=True)
    )
