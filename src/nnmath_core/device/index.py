"""What an index says about the array it is applied to; the same for NumPy and CuPy."""

from __future__ import annotations

from typing import Any

import numpy as np

Index = Any
"""What may stand in ``x[index]``: integers, slices, ``...``, ``None``, index arrays."""


def index_parts(index: Index) -> tuple[Any, ...]:
    """Return the index as a tuple whose lists have become host arrays."""
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(_list_as_array(part) if isinstance(part, list) else part for part in parts)


def is_integer_array(part: Any) -> bool:
    """Whether a part selects by an array of integers, which may name one entry twice."""
    return getattr(part, "ndim", 0) > 0 and part.dtype.kind in "iu"


def axes_used(part: Any) -> int:
    """Return how many axes of the array one part uses up; ``...`` counts as none."""
    if part is None or part is Ellipsis or isinstance(part, bool | np.bool_):
        return 0
    dtype = getattr(part, "dtype", None)
    return int(part.ndim) if dtype is not None and dtype.kind == "b" else 1


def _list_as_array(part: list[Any]) -> Any:
    array = np.asarray(part)
    return array.astype(np.intp) if array.size == 0 else array
