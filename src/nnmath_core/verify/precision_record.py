"""The record of a precision report: a row for each equation, the outputs, and the first culprit."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DIGITS", "PrecisionReport", "PrecisionRow"]

DIGITS = 7.2
"""Decimal digits of float32: ``24 * log10(2)``."""

SHOWN = 24  # rows of a printed table


@dataclass(frozen=True)
class PrecisionRow:
    """One equation of the program, or one argument, in float32 beside float64.

    Attributes
    ----------
    index : int
        Of the equation in the program; -1 for an argument.
    name : str
        The operation, ``"derivative of log"`` with it where it belongs to a derivative.
    line : str
        ``"file.py:12"`` of your code; of a derivative the line of the operation that is differentiated.
    source : str
        The text of the line.
    lost : float
        Decimal digits that the float32 value has lost, of 7.2: 0 is one rounding.
    inherited : float
        Of these, the digits that it would have lost in float64, too, from its float32 operands.
    verdict : str
        ``"ok"``, ``"inherits"`` (bad, and its operands are as bad), or what it does itself: ``"loses digits"``
        (cancellation, or a function that is steep there), ``"overflows"``, ``"underflows"``, ``"divides by nearly
        nothing"``, ``"is not a number"``, ``"is infinite"`` (in float64, too).
    example : str
        The entry that is worst: its operands in float32, its value in float32 and in float64.
    advice : str
        What to write in place of the formula to which the equation belongs; ``""`` for rows that are ok.
    """

    index: int
    name: str
    line: str
    source: str
    lost: float
    inherited: float
    verdict: str
    example: str
    advice: str


@dataclass(frozen=True)
class PrecisionReport:
    """What `precision_report` found. It prints itself, the first culprit on top.

    Attributes
    ----------
    ok : bool
        All outputs are finite and keep enough digits.
    culprit : PrecisionRow or None
        The first equation on the way to the worst output that spoils it.
    lost : float
        Decimal digits that the worst output has lost, of 7.2; 7.2 where it is not finite.
    digits : float
        How many may be lost.
    rows : tuple of PrecisionRow
        A row for each equation, in order; before them a row for each argument that does not fit into float32.
    name : str
        What messages call the function.
    """

    ok: bool
    culprit: PrecisionRow | None
    lost: float
    digits: float
    rows: tuple[PrecisionRow, ...]
    name: str = "f"

    def __str__(self) -> str:
        of = f"{self.lost:.1f} of {DIGITS} digits"
        if self.ok:
            lines = [f"`{self.name}` is safe in float32 here: its outputs lose {of}."]
        else:
            lines = [f"`{self.name}` loses {of} in float32."]
        row = self.culprit
        if row is not None:
            at = f" at {row.line}" if row.line else ""
            source = f": {row.source}" if row.source else ""
            lines.append(f"First, `{row.name}`{at} {row.verdict}{source}")
            if row.example:
                lines.append(f"  {row.example}")
            if row.advice:
                lines.append(f"  {row.advice}")
        shown = [r for r in self.rows if r.verdict != "ok" or r.lost >= 1.0]
        if shown:
            lines += _table(shown[:SHOWN])
        rest = len(self.rows) - min(len(shown), SHOWN)
        if rest:
            lines.append(f"  {rest} more equations; see `.rows`.")
        return "\n".join(lines)


def _table(rows: list[PrecisionRow]) -> list[str]:
    head = ("equation", "line", "lost", "inherited", "verdict")
    cells = [(r.name, r.line, f"{r.lost:.1f}", f"{r.inherited:.1f}", r.verdict) for r in rows]
    widths = [max(len(row[i]) for row in (head, *cells)) for i in range(4)]
    return [
        "  "
        + "  ".join(
            text.rjust(w) if i in (2, 3) else text.ljust(w)
            for i, (text, w) in enumerate(zip(row, [*widths, 0], strict=True))
        ).rstrip()
        for row in (head, *cells)
    ]
