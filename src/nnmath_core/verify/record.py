"""The record of a gradient check: what was compared, what disagreed, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["Disagreement", "GradientReport"]

FAILURES = ("mutation", "nondeterminism", "not finite", "bug")
"""Causes for which a check fails, the most fundamental first; the others are no proof of a mistake."""

UNCLEAR = ("round-off", "non-smooth", "outside")
"""Causes for which differences decide nothing."""

SHOWN = 3  # disagreements that a message lists

MODES = {
    "fwd": "forward mode",
    "rev": "reverse mode",
    "grad": "`grad`",
    "jvp": "`jvp`",
    "fwd-over-rev": "forward over reverse",
    "rev-over-rev": "reverse over reverse",
    "fwd-over-fwd": "forward over forward",
    "rev-over-fwd": "reverse over forward",
}


@dataclass(frozen=True)
class Disagreement:
    """One number that differs from the differences of the function, and the likely cause.

    Attributes
    ----------
    cause : str
        ``"bug"``: the differences converge to another number. ``"kink"``: the slopes to the left and
        to the right differ and the derivative given lies between them, or it jumps there itself.
        ``"round-off"``: rounding hides the answer. ``"non-smooth"``: the differences do not converge
        (a jump, a cusp, noise, or oscillation below the steps). ``"outside"``: the function has no
        value next to the point.
        ``"not finite"``: the derivative given is infinite or NaN. ``"nondeterminism"``: two calls
        with the same arguments differ. ``"mutation"``: the function changes its argument.
    mode : str
        ``"fwd"``, ``"rev"``, ``"grad"``, ``"jvp"``, or in second order ``"fwd-over-rev"`` and so on;
        ``""`` when it is about the function itself.
    order : int
        1, or 2 where the derivative of our own gradient is compared; 0 for the function itself.
    point : int
        Its number in `GradientReport.points`; 0 is the one that was given.
    argument : str
        Name of the argument and path of the leaf, as ``params['w']``; ``""`` for a direction in all.
    index : tuple of int or None
        Entry of the leaf; None for a direction.
    output : str
        Which entry of the output; ``""`` where it is a scalar.
    given, expected : float
        The derivative under check, and that of the differences. In second order: of the gradient
        along a random direction.
    error : float
        Estimated error of ``expected``.
    tolerance : float
        Largest difference that passes.
    step : float
        Step of the best difference, in the units of the argument.
    slopes : tuple of two floats, or None
        To the left and to the right, where they differ.
    witness : float or None
        The derivative by the complex step, where the function takes complex numbers.
    explanation : str
        One sentence.
    reproduce : str
        A line of Python that shows the two numbers; it knows ``f``, ``nm`` and ``report``.
    """

    cause: str
    mode: str
    order: int
    point: int
    argument: str
    index: tuple[int, ...] | None
    output: str
    given: float
    expected: float
    error: float
    tolerance: float
    step: float
    slopes: tuple[float, float] | None
    witness: float | None
    explanation: str
    reproduce: str

    @property
    def where(self) -> str:
        """The entry: argument, index, output and point in words."""
        if not self.argument and self.order == 2:
            return (self.output or "the output") + self._at()
        place = self.argument or "a random direction"
        if self.index:
            place += f"[{', '.join(map(str, self.index))}]"
        elif self.index is None and self.argument:
            place = f"a random direction in {place}"
        if self.output:
            place += f" of {self.output}"
        return place + self._at()

    def _at(self) -> str:
        return f", at nearby point {self.point}" if self.point else ""

    def __str__(self) -> str:
        return self.explanation


@dataclass(frozen=True, eq=False)
class GradientReport:
    """What `gradient_report` found. It prints itself.

    Attributes
    ----------
    ok : bool
        Nothing speaks against the derivatives, and something could be decided. Kinks, and entries
        hidden by rounding, are listed and do not fail.
    verdict : str
        ``"agrees"``, ``"undecided"`` when rounding or roughness hid every entry, or the cause of the
        failure: ``"bug"``, ``"not finite"``, ``"nondeterminism"``, ``"mutation"``.
    worst : float
        Largest difference relative to its tolerance, of those that could be decided; above 1 in a
        failure.
    checked : int
        Entries of the arguments compared one by one, at any point.
    total : int
        Entries of the arguments that have a derivative.
    directions : int
        Random directions compared in first order, over all points.
    undecided : int
        Comparisons that agree only because the differences are too coarse to tell.
    order : int
        2 where second derivatives were compared.
    modes : tuple of str
        What was compared: ``"fwd"``, ``"rev"``, ``"grad"``, ``"jvp"``.
    points : tuple
        The arguments at each point; the first are those given.
    disagreements : tuple of Disagreement
        Worst first.
    counts : dict
        Cause to the number of disagreeing comparisons, of which ``disagreements`` explains the worst.
    notes : tuple of str
        What was not checked, and why.
    calls : int
        Evaluations of the function.
    name : str
        What messages call the function.
    """

    ok: bool
    verdict: str
    worst: float
    checked: int
    total: int
    directions: int
    undecided: int
    order: int
    modes: tuple[str, ...]
    points: tuple[tuple[Any, ...], ...]
    disagreements: tuple[Disagreement, ...]
    counts: dict[str, int]
    notes: tuple[str, ...]
    calls: int
    name: str = "f"

    def __str__(self) -> str:
        lines = [f"{self._finding()} {self._scope()}".strip()]
        failing = [d for d in self.disagreements if d.cause in FAILURES]
        shown = _distinct(self.disagreements)[:SHOWN]
        lines += [f"  {d}" for d in shown]
        more = sum(self.counts.values()) - len(shown)
        if more > 0:
            lines.append(f"  {more} more; see `.disagreements`.")
        lines += [f"  {note}" for note in self.notes]
        if failing and failing[0].reproduce:
            lines.append(f"  Reproduce: {failing[0].reproduce}")
        return "\n".join(lines)

    def _finding(self) -> str:
        if self.verdict == "agrees":
            return f"The derivatives of `{self.name}` agree with its differences."
        return {
            "bug": f"The derivative of `{self.name}` is wrong.",
            "not finite": f"The derivative of `{self.name}` is not finite.",
            "nondeterminism": f"`{self.name}` cannot be checked: it is not deterministic.",
            "mutation": f"`{self.name}` cannot be checked: it changes its argument.",
            "undecided": f"The derivatives of `{self.name}` could not be decided by differences.",
        }[self.verdict]

    def _scope(self) -> str:
        """How much was compared, in one sentence."""
        if self.verdict in ("mutation", "nondeterminism"):
            return ""
        if self.total == 0:
            return "There is no entry to differentiate by."
        what = "all " if self.checked == self.total else f"{self.checked} of "
        entries = "the 1 entry" if self.total == 1 else f"{what}{self.total} entries"
        parts = [entries] if self.checked else []
        if self.directions:
            parts.append(f"{self.directions} random directions")
        compared = " and ".join(parts)
        points = "1 point" if len(self.points) == 1 else f"{len(self.points)} points"
        modes = " and ".join(MODES[m] for m in self.modes)
        if set(self.modes) <= {"fwd", "rev"}:
            order = ", first and second order" if self.order == 2 else ""
            text = f"Compared: {compared} at {points} in {modes}{order}"
        else:
            text = f"Compared with {modes}: {compared} at {points}"
        if self.verdict == "agrees":
            text += f"; largest difference {self.worst:.2g} of the tolerance"
        return text + "."


def _distinct(found: tuple[Disagreement, ...]) -> list[Disagreement]:
    """Leave out what was said of the same entry in another mode or at another point."""
    seen: set[tuple[Any, ...]] = set()
    out = []
    for d in found:
        key = (d.cause, d.argument, d.index, d.output, d.order)
        if key not in seen:
            seen.add(key)
            out.append(d)
    return out


# ------------------------------------------------------------------------------------- sentences


def pair(a: float, b: float) -> tuple[str, str]:
    """Two numbers with as many digits as it takes to tell them apart, six at least.

    Examples
    --------
    >>> pair(1.0, 1.5), pair(3.14159265, 3.14159266)
    (('1', '1.5'), ('3.14159265', '3.14159266'))
    """
    digits = 6
    if math.isfinite(a) and math.isfinite(b) and a != b:
        digits = 1 + math.ceil(math.log10(max(abs(a), abs(b)) / abs(a - b)) + 0.3)
    digits = min(17, max(6, digits))
    return f"{a:.{digits}g}", f"{b:.{digits}g}"


def in_words(d: Disagreement, hint: str = "") -> str:
    """The sentence about a disagreement."""
    given, expected = pair(d.given, d.expected)
    about = "" if d.order == 1 else "second derivative along a random direction, "
    both = f"{about}{MODES[d.mode]} gives {given}, differences give {expected} ± {d.error:.1g}"
    if d.cause == "bug":
        text = f"{d.where}: {both}"
        if d.slopes is not None:
            text += f" (slopes {d.slopes[0]:.6g} to the left, {d.slopes[1]:.6g} to the right)"
        if d.witness is not None:
            text += f" (complex step: {pair(d.witness, d.given)[0]})"
        return text + (f"; {hint}." if hint else ".")
    if d.cause == "kink" and d.slopes is not None:
        left, right = d.slopes
        return (
            f"{d.where}: a kink. The derivative given, {given}, lies between the one-sided slopes "
            f"{left:.6g} and {right:.6g}."
        )
    if d.cause == "kink":
        return f"{d.where}: a kink. The derivative given, {given}, jumps at the point."
    if hint:
        return f"{d.where}: {both}: {hint}."
    why = {
        "round-off": ": rounding hides the answer. Use float64, or a point where less cancels.",
        "non-smooth": ": they do not converge. A jump, a cusp, noise, or oscillation below the steps?",
        "outside": ": the function has no finite value next to the point.",
    }
    return f"{d.where}: {both}{why.get(d.cause, '.')}"
