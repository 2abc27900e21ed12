"""Comparison of derivatives with differences, and the disagreements gathered over a check."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from nnmath_core.typing import Array
from nnmath_core.verify.compared import Compared
from nnmath_core.verify.diagnosis import FLOOR, SAFETY, Kinks, Verdict, examine, right_in_double
from nnmath_core.verify.differences import noise_of
from nnmath_core.verify.hints import hint_for
from nnmath_core.verify.names import Names
from nnmath_core.verify.record import FAILURES, UNCLEAR, Disagreement, in_words

EXAMINED = 32  # suspects of one comparison that are looked at again, worst first
NAMED = 4  # of them that are confirmed as wrong
NOISE_LINES = 64  # lines along which the noise of a derivative is measured


class Findings:
    """Everything that a check has found so far."""

    def __init__(self) -> None:
        self.disagreements: list[Disagreement] = []
        self.counts: Counter[str] = Counter()
        self.worst = 0.0
        self.undecided = self.decided = self.zeros = 0
        self.hidden: Disagreement | None = None  # the largest derivative that rounding hides
        self.unexamined = 0
        self.jumps = 0  # second derivatives left open where the first jumps within the steps

    @property
    def failures(self) -> int:
        """How many comparisons have a cause for which the check fails."""
        return sum(self.counts[cause] for cause in FAILURES) if self.counts else 0

    @property
    def unclear(self) -> bool:
        """Whether differences left open all that is worth a decision."""
        if self.decided:
            return False
        return self.undecided + sum(self.counts[cause] for cause in UNCLEAR) > self.zeros

    def count(self, cause: str, times: int) -> None:
        """Count disagreements that were recorded elsewhere."""
        self.counts[cause] += times

    def add(self, c: Compared, names: Names) -> None:
        """Judge a comparison."""
        self.worst = max(self.worst, c.worst)
        self.decided += c.decided
        self.zeros += c.zeros if c.order == 1 else 0
        if not c.others:
            return
        if c.order == 1:
            self._count_blind(c, names)
            self._unsettled(c, names)
        if not c.bad.any():
            return
        ratio = np.where(c.gap == 0, 0.0, c.gap / c.tolerance)
        between = self._kinks(c, names)
        order = [tuple(i) for i in np.argwhere(c.bad & ~between)]
        order.sort(key=lambda i: -np.nan_to_num(ratio[i], nan=np.inf))
        self._judge(c, names, order, ratio)

    def add_rounded(self, c: Compared, wide: Compared, which: Array, names: Names) -> None:
        """Judge float32 derivatives beside ``wide``, the same in float64, where these are right."""
        with np.errstate(invalid="ignore", over="ignore"):
            gap = np.abs(c.given - wide.given)
            rounding = c.floor + FLOOR * c.near.variables.eps * np.abs(c.given)
        self.leave_open(c, which & wide.good & (gap > rounding), names, "round-off", "", wide)
        self.leave_open(c, which & (wide.blind | wide.unsettled), names, "non-smooth", "", wide)

    def leave_open(
        self,
        c: Compared,
        where: Array,
        names: Names,
        cause: str,
        hint: str,
        beside: Compared | None = None,
    ) -> None:
        """Count what is not decided, and record some of it, with the differences of ``beside``."""
        if not where.any():
            return
        other = beside or c
        for b, r in np.argwhere(where)[:NAMED].tolist():
            numbers = float(other.expected[b, r]), float(other.error[b, r]), float(other.step[b, r])
            self._record(c, names, b, r, Verdict(cause, *numbers), hint)
        self.counts[cause] += int(where.sum())

    def _judge(self, c: Compared, names: Names, order: list[tuple[int, ...]], ratio: Array) -> None:
        """Examine suspects, worst first, and count the rest with them."""
        causes: Counter[str] = Counter()
        agreed = 0
        for k, (b, r) in enumerate(order):
            if k == EXAMINED or sum(causes[cause] for cause in FAILURES) == NAMED:
                break
            suspect = c.suspect(b, r)
            verdict = examine(suspect)
            slack = float(c.tolerance[b, r] - SAFETY * c.error[b, r])
            if verdict.cause == "agrees" or (
                verdict.cause == "bug" and right_in_double(suspect, slack)
            ):
                self.decided += 1
                agreed += 1
                continue
            causes[verdict.cause] += 1
            hint = hint_for(c, names.entry, b, r) if verdict.cause == "bug" else ""
            self._record(c, names, b, r, verdict, hint)
            if verdict.cause in FAILURES:
                worse = float(ratio[b, r])
                self.worst = max(self.worst, worse if np.isfinite(worse) else np.inf)
        rest = len(order) - sum(causes.values()) - agreed
        if rest and causes:
            failing = [cause for cause in FAILURES if causes[cause]]
            cause = failing[0] if failing else causes.most_common(1)[0][0]
            causes[cause] += rest
            self.unexamined += 0 if failing else rest
        self.counts.update(causes)

    def _kinks(self, c: Compared, names: Names) -> Array:
        """Count and record the disagreements that are kinks; return where they are.

        All at once from the table, after a closer look at a few: there may be hundreds.
        """
        kinks = Kinks(c.table, c.best, c.weights)
        between = c.bad & np.isfinite(c.given)
        between &= kinks.between(c.given, SAFETY * c.error)
        some = np.argwhere(between)[:NAMED].tolist()
        verdicts = [examine(c.suspect(b, r)) for b, r in some]
        if any(verdict.cause != "kink" for verdict in verdicts):
            return np.zeros(between.shape, bool)  # each has to be examined
        for (b, r), verdict in zip(some, verdicts, strict=True):
            self._record(c, names, b, r, verdict)
        if some:
            self.counts["kink"] += int(between.sum())
        return np.asarray(between)

    def _unsettled(self, c: Compared, names: Names) -> None:
        """Record where differences do not converge, so that any derivative would pass."""
        self.leave_open(c, c.unsettled, names, "non-smooth", "")

    def _count_blind(self, c: Compared, names: Names) -> None:
        """Count what agrees only because rounding makes the differences coarse.

        A derivative that is itself nothing but rounding is as good as zero.
        """
        if not c.blind.any():
            return
        where = np.argwhere(c.blind & ~c.unsettled)
        if not len(where):
            return
        lines = np.unique(where[:, 0])[:NOISE_LINES]
        directions = np.array([c.direction(int(b)) for b in lines])
        near = c.near
        size = near.size
        middle = c.given[lines].reshape(-1)

        def line(_: int, t: float) -> tuple[Array, float]:
            x = near.variables.snap(near.x + t * size)
            with np.errstate(all="ignore"):
                return c.evaluate(x, directions).reshape(-1), t

        noise = noise_of(
            line, middle, np.full(middle.shape, max(c.eps, near.variables.eps)), near.shortest
        )
        hidden = c.blind[lines] & ~c.unsettled[lines]
        hidden &= np.abs(c.given[lines]) > 16 * noise.reshape(len(lines), -1)
        share = len(np.unique(where[:, 0])) / len(lines)
        self.undecided += round(int(hidden.sum()) * share)
        if hidden.any() and self.hidden is None:
            size = np.where(hidden, np.abs(c.given[lines]), -1.0)
            row, column = np.unravel_index(np.argmax(size), size.shape)
            b, r = int(lines[row]), int(column)
            numbers = float(c.expected[b, r]), float(c.error[b, r]), float(c.step[b, r])
            self.hidden = self._made(c, names, b, r, Verdict("round-off", *numbers))

    def _record(
        self, c: Compared, names: Names, b: int, r: int, verdict: Verdict, hint: str = ""
    ) -> None:
        self.disagreements.append(self._made(c, names, int(b), int(r), verdict, hint))

    def _made(
        self, c: Compared, names: Names, b: int, r: int, verdict: Verdict, hint: str = ""
    ) -> Disagreement:
        """Return the record of a disagreement, in the units of the argument."""
        unit = 1.0 if c.entries is None else float(c.near.unit[c.entries[b]])
        argument, index, output = names.output(c, r)
        if c.entries is not None:
            argument, index = names.entry(int(c.entries[b]))
        slopes = verdict.slopes and (verdict.slopes[0] / unit, verdict.slopes[1] / unit)
        d = Disagreement(
            cause=verdict.cause,
            mode=c.mode,
            order=c.order,
            point=c.point,
            argument=argument,
            index=index,
            output=output,
            given=float(c.given[b, r]) / unit,
            expected=verdict.expected / unit,
            error=verdict.error / unit,
            tolerance=float(c.tolerance[b, r]) / unit,
            step=verdict.step * unit,
            slopes=slopes or None,
            witness=names.witness(c, b, r, unit),
            explanation="",
            reproduce="",
        )
        d = replace(d, reproduce=names.reproduce(d, c))
        return replace(d, explanation=in_words(d, hint))
