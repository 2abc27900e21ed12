"""What the namespace can do, asked by programs that are written for every array library."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnmath_core.device import Device, current_default_device, devices

__all__ = ["ArrayNamespaceInfo"]

_SIGNED = ("int8", "int16", "int32", "int64")
_UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
_REAL = ("float32", "float64")
_COMPLEX = ("complex64", "complex128")
_KINDS = {
    "bool": ("bool",),
    "signed integer": _SIGNED,
    "unsigned integer": _UNSIGNED,
    "integral": _SIGNED + _UNSIGNED,
    "real floating": _REAL,
    "complex floating": _COMPLEX,
    "numeric": _SIGNED + _UNSIGNED + _REAL + _COMPLEX,
}


class ArrayNamespaceInfo:
    """The answers of ``nnmath_core.numpy.__array_namespace_info__()``, as the array API standard has them.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> info = nm.numpy.__array_namespace_info__()
    >>> info.default_dtypes()["real floating"], info.devices()[0]
    (dtype('float64'), Device('cpu'))
    """

    def capabilities(self) -> dict[str, Any]:
        """Boolean masks and shapes that depend on values are possible; there may be 64 axes."""
        return {
            "boolean indexing": True,
            "data-dependent shapes": True,
            "max dimensions": 64,
        }

    def default_device(self) -> Device:
        """The device of arrays that are made without one; see `nnmath_core.default_device`."""
        return current_default_device()

    def default_dtypes(self, *, device: Any = None) -> dict[str, np.dtype[Any]]:
        """The dtypes of arrays that are made without one, the same on all devices."""
        return {
            "real floating": np.dtype(np.float64),
            "complex floating": np.dtype(np.complex128),
            "integral": np.dtype(np.intp),
            "indexing": np.dtype(np.intp),
        }

    def dtypes(
        self, *, device: Any = None, kind: str | tuple[str, ...] | None = None
    ) -> dict[str, np.dtype[Any]]:
        """The dtypes of a kind by name, the same on all devices; None stands for all of them.

        Raises
        ------
        ValueError
            The standard has no such kind.
        """
        if kind is None:
            kind = ("bool", "numeric")
        names: list[str] = []
        for k in kind if isinstance(kind, tuple) else (kind,):
            if k not in _KINDS:
                raise ValueError(f"dtypes: `kind` must be one of {', '.join(_KINDS)}, got {k!r}.")
            names += [name for name in _KINDS[k] if name not in names]
        return {name: np.dtype(name) for name in names}

    def devices(self) -> tuple[Device, ...]:
        """The devices on which arrays can be made."""
        return devices()
