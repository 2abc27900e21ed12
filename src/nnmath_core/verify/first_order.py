"""First derivatives at a point: along entries, and along random directions that lead to entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from nnmath_core.typing import Array
from nnmath_core.verify.compared import Compared
from nnmath_core.verify.derivatives import Source
from nnmath_core.verify.diagnosis import SAFETY, Kinks, with_one_side
from nnmath_core.verify.differences import Estimate, Samples
from nnmath_core.verify.findings import Findings
from nnmath_core.verify.names import Names
from nnmath_core.verify.nearby import Nearby

ROWS = 32  # outputs that reverse mode checks one by one; of more, random sums
SUMS = 4
PROBES = 256  # directions along which a disagreement is followed to its entries
ENTRIES = 4  # that are named
SINGLE = 2.0**-7  # of the largest in float32, whose steps are too long to resolve kinks


@dataclass
class AtPoint:
    """A source of derivatives at a point, in natural units.

    Parameters
    ----------
    source : Source
    near : Nearby
    weights : array, shape (r, m), or None
        Rows, for a source by rows; None: each output.
    """

    source: Source
    near: Nearby
    weights: Array | None

    def __post_init__(self) -> None:
        self.jacobian = self._rows(self.near.x) if self.source.by_rows else None

    def _rows(self, x: Array) -> Array:
        weights = np.eye(len(self.near.middle)) if self.weights is None else self.weights
        return self.source.rows(x, weights) * self.near.unit

    def along_entries(self, which: Array) -> Array:
        """Return the derivatives by some entries, (b, r)."""
        if self.jacobian is not None:
            return self.jacobian[:, which].T
        return self.source.columns(self.near.x, self._units(which))

    def _units(self, which: Array) -> Iterator[Array]:
        for i in which:
            d = np.zeros(len(self.near.x))
            d[i] = self.near.unit[i]
            yield d

    def along(self, directions: Array) -> Array:
        """Return the derivatives along directions (b, n), shape (b, r)."""
        if self.jacobian is not None:
            return np.asarray(directions @ self.jacobian.T)
        return self.source.columns(self.near.x, directions * self.near.unit)

    def elsewhere(self, x: Array, directions: Array) -> Array:
        """Return them at another point, with the units of this one."""
        if self.jacobian is not None:
            return np.asarray(directions @ self._rows(x).T)
        return self.source.columns(x, directions * self.near.unit)

    def rounding(self, directions: Array, values: Array) -> Array:
        """Return by how much sums over entries, the ``values`` along directions, may be off, (b, r)."""
        eps = self.source.eps
        single = SINGLE if self.near.variables.eps > 1e-10 else 0.0
        if self.jacobian is None:
            largest = np.abs(values).max(axis=0)
            return np.asarray(16 * eps * np.sqrt(len(self.near.x)) * largest + single * largest)
        off = 8 * eps * (np.abs(directions) @ np.abs(self.jacobian).T)
        return np.asarray(off + single * np.abs(values).max(axis=0) if single else off)


def at_point(source: Source, near: Nearby, rng: Callable[[], np.random.Generator]) -> AtPoint:
    """Evaluate a source at a point; of many outputs random sums, from the generator that ``rng`` gives."""
    m = len(near.middle)
    few = m <= ROWS or source.mode == "grad" or not source.by_rows
    return AtPoint(source, near, None if few else rng().standard_normal((SUMS, m)))


def compare_entries(
    k: int, near: Nearby, given: list[AtPoint], which: Array, findings: Findings, names: Names
) -> None:
    """Compare derivatives by the entries ``which`` with differences along each of them."""
    for positions in near.blocks(len(which)):
        block = which[positions]
        best, table = near.along_components(block)
        best = with_one_side(best, table)
        for at in given:
            values = at.along_entries(block)
            finite = np.where(np.isfinite(values), np.abs(values), 0.0).max(axis=0, initial=0.0)
            share = 4 * at.source.eps + (SINGLE if near.variables.eps > 1e-10 else 0.0)
            compared = Compared(
                mode=at.source.mode,
                order=1,
                point=k,
                near=near,
                table=table,
                best=best,
                weights=at.weights,
                given=values,
                evaluate=at.elsewhere,
                entries=block,
                eps=at.source.eps,
                floor=share * finite,
            )
            findings.add(compared, names)


def compare_directions(
    k: int, near: Nearby, given: list[AtPoint], directions: Array, findings: Findings, names: Names
) -> None:
    """Compare derivatives along directions; where they disagree, find entries and compare these."""
    best, table = near.along_directions(directions)
    best = with_one_side(best, table)
    for at in given:
        compared = _along(k, near, at, directions, best=best, table=table)
        if not compared.others:
            findings.add(compared, names)
            continue
        suspects = np.zeros((0, 2), int)
        if compared.bad.any():
            kinks = Kinks(table, best, at.weights)
            between = kinks.between(compared.given, SAFETY * compared.error)
            suspects = np.argwhere(compared.bad & ~between)
        named = np.zeros(0, int)
        if len(suspects):
            ratio = compared.gap / compared.tolerance
            b, r = max(suspects, key=lambda i: np.nan_to_num(ratio[i[0], i[1]], nan=np.inf))
            named = follow(k, near, at, directions[b], int(r))
        before = dict(findings.counts)
        if len(named):
            compare_entries(k, near, [at], named, findings, names)
        if findings.counts == before:  # no entry to blame: the direction itself
            findings.add(compared, names)


def _along(
    k: int, near: Nearby, at: AtPoint, directions: Array, *, best: Estimate, table: Samples
) -> Compared:
    values = at.along(directions)
    return Compared(
        mode=at.source.mode,
        order=1,
        point=k,
        near=near,
        table=table,
        best=best,
        weights=at.weights,
        given=values,
        evaluate=at.elsewhere,
        directions=directions,
        eps=at.source.eps,
        floor=at.rounding(directions, values),
    )


def follow(k: int, near: Nearby, at: AtPoint, direction: Array, r: int) -> Array:
    """Halve the entries of a direction in which row ``r`` disagrees, down to single entries."""
    found: list[int] = []
    open_parts = [np.arange(s.start, s.stop) for s in near.variables.slices()]
    queue: list[tuple[float, Array]] = []
    for _ in range(PROBES):
        if not open_parts:
            break
        part = open_parts.pop()
        if len(part) == 0:
            continue
        d = np.zeros(len(near.x))
        d[part] = direction[part]
        best, table = near.along_directions(d[None])
        compared = _along(k, near, at, d[None], best=with_one_side(best, table), table=table)
        if compared.bad[0, r]:
            queue.append((float(compared.gap[0, r] / compared.tolerance[0, r]), part))
        if open_parts:
            continue  # the siblings first, then the worst of all
        while queue:
            worst = max(range(len(queue)), key=lambda i: np.nan_to_num(queue[i][0], nan=np.inf))
            _, part = queue.pop(worst)
            if len(part) > 1:
                open_parts = [part[: len(part) // 2], part[len(part) // 2 :]]
                break
            found.append(int(part[0]))
            if len(found) == ENTRIES:
                return np.array(found)
    return np.array(found, int)
