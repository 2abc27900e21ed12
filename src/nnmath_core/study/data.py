"""The data of a study: what they are, how a file is read, and their division into folds."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core.checks import describe
from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.typing import Array

__all__ = ["HELD_OUT", "Dataset", "read_npz", "stratified_folds"]

HELD_OUT = 5
"""Of a single split, one row in so many is tested where the data set none aside."""

_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, KeyError, OSError)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows of features with a class each.

    Attributes
    ----------
    x : array, shape (n, d), float32 or float64
    y : array, shape (n,), int64
        Class numbers, the position of the row's label in ``classes``.
    classes : tuple of str
        The labels, sorted.
    name : str
        What the data are, for the report.
    source : str
        The file, or the package they come from.
    one_unit : bool
        Whether all features are measured in one unit, as the pixels of an image are.
    tested : array of int, optional
        The rows that are set aside for testing by those who made the data.
    """

    x: Array
    y: Array
    classes: tuple[str, ...]
    name: str
    source: str
    one_unit: bool = False
    tested: Array | None = None


def read_npz(path: str, *, folds: int) -> Dataset:
    """Read features ``X`` and labels ``y`` from an ``.npz`` file, and refuse what cannot be studied.

    Parameters
    ----------
    path : str
        A file as `numpy.savez` writes it. ``X``: shape (n, d), float32 or float64, or integers or
        booleans, which become float64. ``y``: shape (n,), labels of any kind: numbers, strings.
    folds : int
        The number of splits; every class must have as many rows.

    Raises
    ------
    FileNotFoundError, OSError
        There is no such file, or it cannot be read.
    DomainError
        It is no .npz file, or damaged, or lacks an array; X or y has NaN or infinite entries (the
        message counts them and names the first); there are fewer than two classes, or a class with
        fewer rows than ``folds``.
    DtypeError
        X does not hold real numbers, or y no labels.
    ShapeError
        X or y has the wrong number of axes, or they differ in the number of rows.
    """
    x, y = _arrays(path)
    x, y = _require_features(x), _require_labels(y)
    if len(x) != len(y):
        raise ShapeError(
            f"study: `y` must have a label for each of the {len(x)} rows of `X`, got {len(y)}."
        )
    for name, values in (("X", x), ("y", y)):
        if values.dtype.kind == "f":
            _require_finite(name, values)
    labels, numbers, counts = np.unique(y, return_inverse=True, return_counts=True)
    if len(labels) < 2:
        raise DomainError(f"study: `y` must have at least two classes, got only {labels[0]!s}.")
    if counts.min() < folds:
        rarest = int(np.argmin(counts))
        advice = (
            f"`y` has {len(labels)} different values in {len(y)} rows; is it a quantity and no class?"
            if len(labels) > len(y) // folds
            else "Leave out rare classes, or join them."
        )
        raise DomainError(
            f"study: each class must have at least {folds} rows, one for the test part of each "
            f"split, got {counts[rarest]} of class {_label(labels[rarest])!r}. {advice}"
        )
    name = os.path.basename(path)
    classes = tuple(_label(value) for value in labels)
    return Dataset(x, numbers.reshape(-1).astype(np.int64), classes, name, path)


def _arrays(path: str) -> tuple[Array, Array]:
    """Return the arrays X and y of a file as they stand."""
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"study: there is no file {path!r}; by name there are digits, mnist and mnist1d."
        )
    if os.path.isdir(path):
        raise DomainError(f"study: `--data` must be an .npz file, got the folder {path!r}.")
    with open(path, "rb") as file:  # "permission denied" is said here, by the system
        if file.read(6) == b"\x93NUMPY":
            raise DomainError(
                f"study: `--data` must be an .npz file with arrays X and y, and {path!r} is a single "
                "array (.npy). Write `numpy.savez(file, X=X, y=y)`."
            )
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            names = list(archive.files)
            found = {name: archive[name] for name in ("X", "y") if name in names}
    except _DAMAGE as error:
        if "allow_pickle" in str(error) and zipfile.is_zipfile(path):
            raise DtypeError(
                f"study: `X` and `y` in {path!r} must hold numbers or text, got Python objects. "
                "Convert them before `numpy.savez`: `X.astype(float)`, `y.astype(str)`."
            ) from None
        why = (
            (str(error).strip("'\"").splitlines() or [""])[0]
            if zipfile.is_zipfile(path)
            else "no zip file"
        )
        raise DomainError(
            f"study: {path!r} is damaged or not an .npz file ({why or type(error).__name__}). "
            "Write it again with `numpy.savez(file, X=X, y=y)`."
        ) from None
    missing = [name for name in ("X", "y") if name not in found]
    if missing:
        present = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") or "none"
        raise DomainError(
            f"study: {path!r} must hold arrays named X and y, and has no {' and no '.join(missing)} "
            f"(its arrays: {present}). Write `numpy.savez(file, X=X, y=y)`."
        )
    return found["X"], found["y"]


def _require_features(x: Array) -> Array:
    if x.dtype.kind in "biu":
        x = x.astype(np.float64)
    elif x.dtype.kind != "f" or x.dtype.itemsize not in (4, 8):
        advice = "Convert it: `X.astype(float)`."
        raise DtypeError(
            f"study: `X` must hold real numbers (float32, float64 or integers), got {x.dtype}. {advice}"
        )
    x = np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("="))
    if x.ndim != 2 or x.size == 0:
        advice = "Flatten each example to a row: `X.reshape(len(X), -1)`." if x.ndim > 2 else ""
        raise ShapeError(
            f"study: `X` must have shape (rows, features), both at least 1, got {x.shape}. {advice}".rstrip()
        )
    return x


def _require_labels(y: Array) -> Array:
    if y.dtype.kind not in "biufSU" or y.dtype.itemsize == 0:
        raise DtypeError(
            f"study: `y` must hold labels (integers, numbers or text), got {describe(y)}."
        )
    if y.ndim != 1:
        advice = (
            "For rows with a one in the column of the class: `y.argmax(axis=1)`."
            if y.ndim == 2
            else ""
        )
        raise ShapeError(
            f"study: `y` must have shape (rows,), a label for each row, got {y.shape}. {advice}".rstrip()
        )
    return y


def _require_finite(name: str, values: Array) -> None:
    bad = ~np.isfinite(values)
    count = int(bad.sum())
    if count:
        first = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
        nan = int(np.isnan(values).sum())
        what = "NaN" if nan == count else "infinite" if nan == 0 else "NaN or infinite"
        where = f"{name}[{', '.join(map(str, first))}]"
        entries = "1 entry is" if count == 1 else f"{count} of {values.size} entries are"
        raise DomainError(
            f"study: `{name}` must be finite, and {entries} {what}, first {where}. Leave out these "
            "rows, or fill the gaps."
        )


def _label(value: Any) -> str:
    """Return a label as text; bytes as what they spell."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def stratified_folds(
    y: Array, *, folds: int, rng: np.random.Generator
) -> list[tuple[Array, Array]]:
    """Divide rows into folds with the same share of each class: pairs (training rows, test rows).

    Parameters
    ----------
    y : array, shape (n,), integers
    folds : int
    rng : numpy.random.Generator

    Returns
    -------
    list of (array, array)
        For each fold the sorted numbers of the other rows and of its own. Each row is in one fold;
        folds differ by at most one row, and by at most one row of each class.

    Notes
    -----
    The rows of each class are shuffled and the classes laid end to end; fold i takes every place
    that is i modulo the number of folds.

    Examples
    --------
    >>> folds = stratified_folds(np.array([0, 0, 1, 1, 1, 1]), folds=2, rng=np.random.default_rng(0))
    >>> [len(test) for _, test in folds]
    [3, 3]
    """
    shuffled = rng.permutation(len(y))
    order = shuffled[np.argsort(y[shuffled], kind="stable")]
    tests = [np.sort(order[i::folds]) for i in range(folds)]
    everything = np.arange(len(y))
    return [(np.setdiff1d(everything, test, assume_unique=True), test) for test in tests]
