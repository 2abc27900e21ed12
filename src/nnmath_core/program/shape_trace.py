"""The record of traced shapes: a row for each operation, and the one whose operands do not fit."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Misfit", "ShapeRow", "ShapeTrace"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ShapeRow:
    """One operation, or one argument or constant.

    Attributes
    ----------
    name : str
        The operation; ``"argument"`` or ``"constant"``.
    operands : tuple of str
        What they are called: an argument by its name and path (``"params['w']"``), a result as ``"v7"``, a number as
        itself. Inside of ``scan``, ``cond`` and the like the name of the sub-program stands before: ``"body.v3"``.
    in_shapes : tuple of tuple of int
        A shape for each operand.
    outputs : tuple of str
        What the results are called.
    out_shapes : tuple of tuple of int
    dtypes : tuple of str
        Of the results.
    nbytes : int
        Of the results together.
    line : str
        ``"file.py:12"`` of your code; ``""`` where it is not known.
    source : str
        The text of the line.
    rule : str
        The operation whose derivative this belongs to; ``""``.
    depth : int
        How many sub-programs it is inside of.
    """

    name: str
    operands: tuple[str, ...]
    in_shapes: tuple[Shape, ...]
    outputs: tuple[str, ...]
    out_shapes: tuple[Shape, ...]
    dtypes: tuple[str, ...]
    nbytes: int
    line: str = ""
    source: str = ""
    rule: str = ""
    depth: int = 0


@dataclass(frozen=True)
class Misfit:
    """The operation at which it ended.

    Attributes
    ----------
    name : str
        Of the operation, layer or function; ``""`` where your own code raised the error.
    operands : tuple of str
    in_shapes : tuple of tuple of int
    origins : tuple of str
        Where each operand comes from.
    line, source : str
        Of your code.
    """

    name: str
    operands: tuple[str, ...]
    in_shapes: tuple[Shape, ...]
    origins: tuple[str, ...]
    line: str
    source: str


@dataclass(frozen=True)
class ShapeTrace:
    """What `trace_shapes` found. It prints itself as a table.

    Attributes
    ----------
    name : str
        Of the function.
    arguments, constants, rows : tuple of ShapeRow
        The leaves of the arguments, the arrays that the function captured, and the operations in order.
    results : tuple of ShapeRow
        The leaves of what it returns; empty where it failed.
    error : Exception or None
        What the function raised.
    misfit : Misfit or None
        The operation at which it did.
    """

    name: str
    arguments: tuple[ShapeRow, ...]
    constants: tuple[ShapeRow, ...]
    rows: tuple[ShapeRow, ...]
    results: tuple[ShapeRow, ...]
    error: Exception | None = None
    misfit: Misfit | None = None

    @property
    def ok(self) -> bool:
        """Whether the function ran to its end."""
        return self.error is None

    @property
    def nbytes(self) -> int:
        """Of the results of all operations together, those inside of sub-programs left out."""
        return sum(r.nbytes for r in self.rows if not r.depth)

    def __str__(self) -> str:
        count = sum(not r.depth for r in self.rows)
        operations = "1 operation" if count == 1 else f"{count} operations"
        head = f"shapes of `{self.name}`: {operations}, results of {self.nbytes} bytes"
        if not self.ok:
            head += " up to where it fails"
        lines = [head, *_table([*self.arguments, *self.constants, *self.rows, *self.results])]
        if self.error is not None:
            lines += self._failure(self.error)
        return "\n".join(lines)

    def _failure(self, error: Exception) -> list[str]:
        lines = []
        if self.misfit is not None:
            m = self.misfit
            what = f"`{m.name}`" if m.name else "your code"
            at = f", at {m.line}" if m.line else ""
            lines.append(f"Then {what} fails{at}{f': {m.source}' if m.source else ''}")
            operands = [f"{o} {_shape(s)}" for o, s in zip(m.operands, m.in_shapes, strict=True)]
            width = max(map(len, operands), default=0)
            lines += [
                f"  {o.ljust(width)}  {origin}"
                for o, origin in zip(operands, m.origins, strict=True)
            ]
        text = str(error).splitlines() or [""]
        return [*lines, f"{type(error).__name__}: {text[0]}", *text[1:]]


def _shape(shape: Shape) -> str:
    return str(tuple(shape))


def _table(rows: list[ShapeRow]) -> list[str]:
    cells = [("operation", "operands", "result", "dtype", "bytes", "line")]
    for r in rows:
        operands = zip(r.operands, r.in_shapes, strict=True)
        outputs = zip(r.outputs, r.out_shapes, strict=True)
        at = r.line + (f", derivative of {r.rule}" if r.rule else "")
        cells.append(
            (
                "  " * r.depth + r.name,
                ", ".join(f"{o} {_shape(s)}" if s or o[:1].isalpha() else o for o, s in operands),
                ", ".join(f"{o} {_shape(s)}" for o, s in outputs),
                ", ".join(dict.fromkeys(r.dtypes)),
                str(r.nbytes) if r.outputs else "",
                at,
            )
        )
    widths = [max(len(row[i]) for row in cells) for i in range(6)]
    return [
        "  "
        + "  ".join(
            text.rjust(w) if i == 4 else text.ljust(w)
            for i, (text, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
