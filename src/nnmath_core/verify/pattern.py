"""The language of shape contracts: ``"x: ... i, w: i o -> ... o"`` as patterns of axes."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from nnmath_core.errors import DomainError

__all__ = ["Axis", "Entry", "Pattern", "Sizes", "parse"]

Sizes = dict[str, Any]
"""What the names of a contract stand for: a length, or for a group (``...``, ``*n``) a tuple of lengths."""

_NAME = re.compile(r"[^\W\d]\w*")
_AXIS = re.compile(r"(?:(\d+)\*)?([^\W\d]\w*)(?:([+-])(\d+))?")
_ENTRY = re.compile(r"\s*(?:([^\W\d]\w*)?((?:\.[^\W\d]\w*|\[[^\]]*\])*)\s*:)?(.*)", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[([^\]]*)\]")


class Axis(NamedTuple):
    """One axis: ``factor * name + offset``, the number ``offset`` where there is no name; or anything."""

    text: str
    name: str
    factor: int = 1
    offset: int = 0

    def length(self, sizes: Sizes) -> int | None:
        """The length that it must have; None while that is not known."""
        if not self.name:
            return self.offset
        if self.name not in sizes:
            return None
        return int(self.factor * sizes[self.name] + self.offset)

    def solve(self, n: int) -> int | None:
        """What the name must be for the axis to have this length; None where no length will do."""
        value, rest = divmod(n - self.offset, self.factor)
        return None if rest or value < 0 else value


@dataclass(frozen=True, slots=True)
class Pattern:
    """The axes of an array.

    Attributes
    ----------
    text : str
        As it was written.
    axes : tuple
        An axis is a name, a number, None for ``_``, or an `Axis` for an expression.
    group : str or None
        The name of what stands for any number of axes, ``"_"`` where it is not compared.
    before : int
        How many axes stand before the group.
    """

    text: str
    axes: tuple[str | int | Axis | None, ...]
    group: str | None = None
    before: int = 0

    def takes(self, rank: int) -> bool:
        """Whether an array of so many axes fits."""
        return rank == len(self.axes) if self.group is None else rank >= len(self.axes)

    def places(self, rank: int) -> list[int]:
        """Where in an array of so many axes those of the pattern are, the group left out."""
        extra = rank - len(self.axes)
        return [k if k < self.before else k + extra for k in range(len(self.axes))]

    def fits(self, shape: tuple[int, ...], sizes: Sizes) -> bool:
        """Whether a shape agrees with what the names stand for already; new names are added."""
        if self.group is not None:
            extra = len(shape) - len(self.axes)
            if extra < 0:
                return False
            stop = self.before + extra
            group = shape[self.before : stop]
            if self.group != "_" and sizes.setdefault(self.group, group) != group:
                return False
            shape = shape[: self.before] + shape[stop:]
        elif len(shape) != len(self.axes):
            return False
        for axis, n in zip(self.axes, shape, strict=True):
            kind = axis.__class__
            if kind is str:
                if sizes.setdefault(axis, n) != n:  # type: ignore[arg-type]
                    return False
            elif kind is int:
                if axis != n:
                    return False
            elif axis is not None and not _agrees(axis, n, sizes):  # type: ignore[arg-type]
                return False
        return True


def _agrees(axis: Axis, n: int, sizes: Sizes) -> bool:
    want = axis.length(sizes)
    if want is None:
        value = axis.solve(n)
        if value is None:
            return False
        sizes[axis.name] = value
        return True
    return want == n


@dataclass(frozen=True, slots=True)
class Entry:
    """A pattern and to what it applies.

    Attributes
    ----------
    name : str
        Of the argument; ``""`` where it is the next one, or a result.
    steps : tuple of str or int
        From there: attributes or keys, and indices.
    path : str
        The same as it was written.
    pattern : Pattern
    """

    name: str
    steps: tuple[str | int, ...]
    path: str
    pattern: Pattern


def parse(text: Any, *, results: bool = True) -> tuple[tuple[Entry, ...], tuple[Entry, ...] | None]:
    """The entries of a contract for arguments and for results; None where it has no arrow.

    Raises
    ------
    DomainError
        The text is malformed.
    """
    if not isinstance(text, str) or not text.strip():
        raise DomainError(
            f'shapes: the contract must be a text as "b i, i o -> b o", got {text!r}.'
        )
    left, *right = text.split("->")
    if len(right) > (1 if results else 0):
        wanted = "one arrow at most" if results else "no arrow, since there are no results"
        raise _malformed(text, text, wanted)
    entries = _entries(text, left, False) if left.strip() else ()
    if not right:
        return entries, None
    return entries, _entries(text, right[0].strip() or "()", True)


def _malformed(text: str, part: str, wanted: str) -> DomainError:
    where = "" if part.strip() == text.strip() else f" in {part.strip()!r}"
    return DomainError(f'shapes: the contract "{text}" is malformed{where}: {wanted}.')


def _entries(text: str, side: str, results: bool) -> tuple[Entry, ...]:
    found: list[Entry] = []
    for part in re.split(r",(?![^\[\]]*\])", side):
        if not part.strip():
            raise _malformed(text, side, "an entry is empty; write () for an array without axes")
        match = _ENTRY.fullmatch(part)
        assert match is not None
        name, path, axes = match.groups()
        named = bool(name or path)
        if ":" in axes or (":" in part and not named):
            raise _malformed(
                text, part, "before the colon stands a name as x, self.weight or params['w']"
            )
        if results and name:
            raise _malformed(
                text, part, "results have no names; a part of one is written .mean or ['mean']"
            )
        if not results and path and not name:
            raise _malformed(text, part, "the name of an argument stands before its path")
        if found and bool(found[-1].name or found[-1].path) > named:
            raise _malformed(text, part, "after an entry with a name all entries need one")
        if results and found and named != bool(found[-1].path):
            raise _malformed(
                text, part, "results are given one after another or by their paths, not both"
            )
        path = path or ""
        found.append(Entry(name or "", tuple(_steps(text, part, path)), path, _pattern(text, axes)))
    return tuple(found)


def _steps(text: str, part: str, path: str) -> list[str | int]:
    steps: list[str | int] = []
    for attribute, index in _STEP.findall(path):
        if attribute:
            steps.append(attribute)
            continue
        try:
            key = ast.literal_eval(index)
        except (SyntaxError, ValueError):
            key = None
        if not isinstance(key, (str, int)):
            raise _malformed(text, part, "in brackets stands a number or a quoted key")
        steps.append(key)
    return steps


def _pattern(text: str, part: str) -> Pattern:
    words = part.split()
    if words == ["()"]:
        return Pattern("()", ())
    if not words:
        raise _malformed(text, part, "an entry is empty; write () for an array without axes")
    axes: list[str | int | Axis | None] = []
    group, before = None, 0
    for word in words:
        if word == "..." or word.startswith("*"):
            if group is not None:
                raise _malformed(text, part, "only one of ... and *name can stand in an entry")
            group, before = word if word == "..." else word[1:], len(axes)
            if word != "..." and not _NAME.fullmatch(group):
                raise _malformed(text, part, f"{word!r} is no group of axes as ... or *n")
            group = group if group in ("...", "_") else f"*{group}"
            continue
        axes.append(_axis(text, part, word))
    return Pattern(" ".join(words), tuple(axes), group, before)


def _axis(text: str, part: str, word: str) -> str | int | Axis | None:
    if word == "_":
        return None
    if word.isascii() and word.isdigit():
        return int(word)
    match = _AXIS.fullmatch(word)
    if match is None or match[2] == "_" or match[1] == "0":
        wanted = f"{word!r} is no axis: a name, a number, _, or as 2*i+1 without spaces"
        raise _malformed(text, part, wanted)
    factor, name, sign, number = match.groups()
    if factor is None and number is None:
        return name
    offset = int(number or 0) * (-1 if sign == "-" else 1)
    return Axis(word, name, int(factor or 1), offset)
