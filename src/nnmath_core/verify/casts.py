"""Values in the other precision: arrays, NumPy numbers, and dtypes among the parameters of an operation."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["narrow", "wide"]

_WIDE = {"float16": "float64", "float32": "float64", "complex64": "complex128"}
_NARROW = {"float16": "float32", "float64": "float32", "complex128": "complex64"}


def wide(x: Any) -> Any:
    """Return an array, a NumPy number or a dtype in double precision; other values as they are."""
    return _cast(x, _WIDE)


def narrow(x: Any) -> Any:
    """Return the same in single precision."""
    return _cast(x, _NARROW)


def _cast(x: Any, to: dict[str, str]) -> Any:
    if isinstance(x, np.dtype) or (isinstance(x, type) and issubclass(x, np.generic)):
        name = to.get(np.dtype(x).name)
        return x if name is None else np.dtype(name)
    name = to.get(getattr(getattr(x, "dtype", None), "name", ""))
    return x if name is None else x.astype(name)
