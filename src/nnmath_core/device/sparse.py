"""Sparse matrices of SciPy and CuPy as stored entries and a pattern, and as nodes of a tree.

The entries are numbers like any others: they are what is moved, traced and differentiated. The pattern says where they
stand. It is copied when a matrix is taken apart, since SciPy sorts and merges entries in place.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core._ext._tree import install_foreign
from nnmath_core.errors import ShapeError
from nnmath_core.typing import Array

__all__ = ["Layout", "Pattern", "install_wrapper", "is_sparse", "layout_of", "wrapped"]

FORMATS = ("csr", "csc", "coo")
"""The formats whose entries are one vector; others are converted by their own ``tocsr``."""


def _namespace(x: Array) -> Any:
    return np if isinstance(x, np.ndarray) else sys.modules["cupy"]


def _equal(a: Array, b: Array) -> bool:
    if a is b:
        return True
    return type(a) is type(b) and a.shape == b.shape and bool((a == b).all())


def _frozen(x: Any) -> Array:
    copy: Array = x.copy()
    if isinstance(copy, np.ndarray):
        copy.flags.writeable = False
    return copy


class Pattern:
    """The places of the entries, row after row: entry e is in column ``columns[e]``.

    Row i has the entries ``starts[i]`` to ``starts[i + 1]``.

    Attributes
    ----------
    columns : integer array, shape (nnz,)
    starts : integer array, shape (m + 1,)
    shape : tuple (m, n)
    """

    def __init__(self, columns: Array, starts: Array, shape: tuple[int, int]) -> None:
        self.columns = columns
        self.starts = starts
        self.shape = (int(shape[0]), int(shape[1]))

    @property
    def nnz(self) -> int:
        """The number of entries."""
        return int(self.columns.shape[0])

    @functools.cached_property
    def rows(self) -> Array:
        """The row of each entry."""
        xp = _namespace(self.columns)
        if xp is np:
            return np.repeat(np.arange(self.shape[0]), np.diff(self.starts))
        entries = xp.arange(self.nnz, dtype=self.starts.dtype)
        rows: Array = xp.searchsorted(self.starts, entries, side="right") - 1
        return rows

    def tiled(self, count: int) -> Pattern:
        """Return the pattern of a block diagonal matrix of ``count`` such matrices."""
        xp = _namespace(self.columns)
        (m, n), k = self.shape, xp.arange(count, dtype=np.int64)[:, None]
        columns = (self.columns[None, :] + k * n).reshape(-1)
        starts = (self.starts[None, :-1] + k * self.nnz).reshape(-1)
        starts = xp.concatenate((starts, xp.asarray([count * self.nnz], dtype=starts.dtype)))
        return Pattern(columns, starts, (count * m, count * n))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Pattern)
            and self.shape == other.shape
            and _equal(self.columns, other.columns)
            and _equal(self.starts, other.starts)
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.nnz))

    def __repr__(self) -> str:
        return f"Pattern({self.nnz} entries of {self.shape[0]}x{self.shape[1]})"


class Layout:
    """All of a sparse matrix but its entries: format, index arrays, shape and the type to give back.

    Attributes
    ----------
    format : {"csr", "csc", "coo"}
    arrays : tuple of 2 integer arrays
        ``(indices, indptr)``, or ``(row, col)`` of "coo". Read-only copies.
    shape : tuple (m, n)
    home : type or None
        The class that `build` makes of plain entries; None for our own.
    """

    def __init__(
        self, format: str, arrays: tuple[Array, Array], shape: tuple[int, int], home: type | None
    ) -> None:
        self.format = format
        self.arrays = arrays
        self.shape = (int(shape[0]), int(shape[1]))
        self.home = home

    @property
    def nnz(self) -> int:
        """The number of entries."""
        return int(self.arrays[0].shape[0])

    @property
    def type(self) -> type:
        """The class that a message names."""
        return self.home or _wrapper_type()

    @functools.cached_property
    def order(self) -> Array | None:
        """The order that sorts the entries of "coo" by rows; None where there is nothing to sort."""
        if self.format != "coo":
            return None
        row = self.arrays[0]
        xp = _namespace(row)
        if xp is np:
            return np.argsort(row, kind="stable")
        order: Array = xp.argsort(row)  # CuPy's is stable
        return order

    @functools.cached_property
    def pattern(self) -> Pattern:
        """The pattern row by row, of "csc" that of the transpose."""
        if self.format == "csr":
            return Pattern(*self.arrays, self.shape)
        if self.format == "csc":
            return Pattern(*self.arrays, self.shape[::-1])
        row, col = self.arrays
        xp = _namespace(row)
        counts = xp.bincount(row, minlength=self.shape[0])
        starts = xp.concatenate((xp.zeros(1, counts.dtype), xp.cumsum(counts)))
        return Pattern(col[self.order], starts, self.shape)

    @property
    def places(self) -> tuple[Array, Array]:
        """Row and column of each entry, in the order of the entries."""
        if self.format == "coo":
            return self.arrays
        places = (self.pattern.rows, self.pattern.columns)
        return places if self.format == "csr" else places[::-1]

    @property
    def transposed(self) -> Layout:
        """The layout of the transpose, entries in the same order."""
        formats = {"csr": "csc", "csc": "csr", "coo": "coo"}
        arrays = self.arrays[::-1] if self.format == "coo" else self.arrays
        home = self.home
        if home is not None:
            name = home.__name__.replace(self.format, formats[self.format])
            home = getattr(importlib.import_module(_library(home)), name)
        return Layout(formats[self.format], arrays, self.shape[::-1], home)

    def build(self, children: Any) -> Any:
        """Return a matrix with these entries: of the type it came from, or our own while they are traced."""
        (data,) = children
        if self.home is None or getattr(data, "shape", None) != (self.nnz,):
            return wrapped(data, self)
        if isinstance(data, np.ndarray) and isinstance(self.arrays[0], np.ndarray):
            return _assembled(self.home, self, data, self.arrays)
        if type(data).__module__.partition(".")[0] == "cupy":
            cupy = sys.modules["cupy"]
            with data.device:
                arrays = tuple(cupy.asarray(a) for a in self.arrays)
                return _assembled(_cupy_type(self.format), self, data, arrays)
        if isinstance(data, np.ndarray):
            host: Any = self.arrays
            arrays = tuple(a.get() for a in host)
            return _assembled(_scipy_type(self.format), self, data, arrays)
        return wrapped(data, self)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Layout)
            and self.format == other.format
            and self.shape == other.shape
            and all(map(_equal, self.arrays, other.arrays))
        )

    def __hash__(self) -> int:
        return hash((self.format, self.shape, self.nnz))

    def __repr__(self) -> str:
        first, second = (a[:6].tolist() for a in self.arrays)
        more = ", ..." if max(a.size for a in self.arrays) > 6 else ""
        return f"{self.format} of shape {self.shape}, {self.nnz} entries at {first}, {second}{more}"


def _assembled(home: type, layout: Layout, data: Array, arrays: tuple[Any, ...]) -> Any:
    """A matrix of a library; the index arrays are its own, since it may sort them in place."""
    first, second = (a.copy() for a in arrays)
    parts = (data, (first, second)) if layout.format == "coo" else (data, first, second)
    return home(parts, shape=layout.shape)


def _library(home: type) -> str:
    return "cupyx.scipy.sparse" if home.__module__.startswith("cupyx") else "scipy.sparse"


def _scipy_type(format: str) -> type:
    sparse = importlib.import_module("scipy.sparse")
    return getattr(sparse, f"{format}_array")  # type: ignore[no-any-return]


def _cupy_type(format: str) -> type:
    sparse = importlib.import_module("cupyx.scipy.sparse")
    return getattr(sparse, f"{format}_matrix")  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------------- recognising
def is_sparse(x: Any) -> bool:
    """Whether an object is a sparse matrix or array of SciPy or CuPy, in any format."""
    return _is_sparse_type(type(x))


def _is_sparse_type(t: type) -> bool:
    scipy = sys.modules.get("scipy.sparse")
    if scipy is not None and issubclass(t, scipy.sparray | scipy.spmatrix):
        return True
    cupyx = sys.modules.get("cupyx.scipy.sparse")
    return cupyx is not None and issubclass(t, cupyx.spmatrix)


def _format(t: type) -> str | None:
    """The format of a class whose entries are one vector; None of all others."""
    for module, suffixes in (
        ("scipy.sparse", ("_array", "_matrix")),
        ("cupyx.scipy.sparse", ("_matrix",)),
    ):
        if (sparse := sys.modules.get(module)) is not None:
            for format in FORMATS:
                if any(t is getattr(sparse, format + suffix, None) for suffix in suffixes):
                    return format
    return None


def layout_of(a: Any) -> Layout:
    """Return the layout of a two-dimensional matrix in one of `FORMATS`."""
    format = a.format
    arrays = (a.row, a.col) if format == "coo" else (a.indices, a.indptr)
    return Layout(format, (_frozen(arrays[0]), _frozen(arrays[1])), a.shape, type(a))


def _take_apart(a: Any) -> tuple[tuple[str], tuple[Any], Layout]:
    if a.ndim != 2:
        raise ShapeError(
            f"tree: a {type(a).__name__} must have two axes, got shape {a.shape}. Make it a matrix of one row."
        )
    return ("data",), (a.data,), layout_of(a)


def _foreign(t: type) -> Callable[[Any], Any] | bool | None:
    """What a class is to a tree: a node, a leaf (other formats, of which "dok" is a dict), or none of ours."""
    if _format(t) is not None:
        return _take_apart
    return False if _is_sparse_type(t) else None


# ------------------------------------------------------------------------------------- our own matrix
_wrapped: list[Any] = []


def install_wrapper(cls: Any) -> None:
    """Hand in the class that stands for a matrix while its entries are traced: ``cls.of(data, layout)``."""
    _wrapped[:] = [cls]


def _wrapper_type() -> Any:
    return _wrapped[0]


def wrapped(data: Any, layout: Layout) -> Any:
    """Return our own matrix with these entries, which may be traced."""
    return _wrapper_type().of(data, layout)


install_foreign(_foreign)
