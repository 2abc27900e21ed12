"""Whether arrays may be written where they stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nnmath_core.checks import describe
from nnmath_core.errors import DomainError, DtypeError, ShapeError


def require_own_memory(
    who: str, rows: Sequence[Sequence[Any]], name: Callable[[int, int], str], *, read_only: int
) -> None:
    """Refuse arrays that cannot be written, and written arrays that share memory.

    Parameters
    ----------
    who : str
        In whose name.
    rows : sequence of rows of arrays
        Of all columns but one the arrays are written.
    name : callable
        ``name(row, column)`` is what an array is called in a message.
    read_only : int
        The column that is only read; its arrays may share memory among each other.

    Raises
    ------
    ShapeError
        An array is not contiguous in C order.
    DtypeError
        An array is not aligned.
    DomainError
        A written array is read-only, or shares memory with another one.
    """
    spans = []
    for i, row in enumerate(rows):
        for j, x in enumerate(row):
            written = j != read_only
            _require_layout(who, x, name, i, j, written)
            if x.nbytes:
                start = _address(x)
                spans.append((start, start + x.nbytes, written, i, j))
    # In the order of their addresses: how far the spans up to here reach, and which one does.
    furthest = furthest_written = (0, 0, 0)
    for start, end, written, i, j in sorted(spans):
        reach, *other = furthest if written else furthest_written
        if start < reach:
            pair = sorted([tuple(other), (i, j)], key=lambda at: (at[1], at[0]))
            first, second = (name(*at) for at in pair)
            raise DomainError(
                f"{who}: `{first}` and `{second}` must not share memory, since a step in place "
                "writes into it. Use `step`, or pass a copy of one of them."
            )
        furthest = max(furthest, (end, i, j))
        if written:
            furthest_written = max(furthest_written, (end, i, j))


def _require_layout(
    who: str, x: Any, name: Callable[[int, int], str], i: int, j: int, written: bool
) -> None:
    """Refuse what a kernel cannot go through; CuPy's arrays are aligned and writeable."""
    flags = x.flags
    aligned = getattr(flags, "aligned", True)
    writeable = getattr(flags, "writeable", True)
    if flags.c_contiguous and aligned and (writeable or not written):
        return
    what, advice = f"{who}: `{name(i, j)}`", "Use `step`, which copies, or pass a copy."
    if not flags.c_contiguous:
        raise ShapeError(
            f"{what} must be contiguous in C order, got strides {x.strides} for shape {x.shape}. "
            f"{advice}"
        )
    if not aligned:
        raise DtypeError(f"{what} must be aligned in memory, got a {describe(x)}. {advice}")
    raise DomainError(f"{what} must be writeable, got a read-only {describe(x)}. {advice}")


def _address(x: Any) -> int:
    """Return where an array's memory begins: on the host, or on a device."""
    if isinstance(x, np.ndarray):
        address: int = x.__array_interface__["data"][0]
        return address
    return int(x.data.ptr)
