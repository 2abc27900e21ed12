"""Checks of what a prediction is compared with.

Values are looked at wherever they exist. While a function is staged they do not: then the check
returns a mask of the labels that are right, by which the loss puts NaN where one is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Tracer, value_of
from nnmath_core.autodiff.ops.conventions import beside
from nnmath_core.checks import describe, require_float, sentence
from nnmath_core.device import Backend, backend_of
from nnmath_core.errors import DomainError, DtypeError
from nnmath_core.typing import Array


def require_labels(who: str, arg: str, labels: Any, kinds: str) -> Array:
    """Return the labels as an array of floats, or of one of the ``kinds``: "iu", "iub".

    Raises
    ------
    DtypeError
        They are none of these; a list of numbers is a tree and no array.
    """
    if isinstance(labels, list | tuple):
        advice = f"Convert it: `numpy.asarray({arg})`."
        raise DtypeError(sentence(who, arg, "an array", describe(labels), advice))
    if isinstance(labels, bool | int | np.bool_ | np.integer) or (
        hasattr(labels, "__array__")
        and not hasattr(labels, "__array_namespace__")
        and not hasattr(labels, "__cuda_array_interface__")  # CuPy 14 has no array API attribute
        and not isinstance(labels, np.ma.MaskedArray)
    ):
        labels = np.asarray(labels)  # also a pandas Series
    dtype = getattr(labels, "dtype", None)
    if dtype is not None and dtype.kind in kinds and not isinstance(labels, np.ma.MaskedArray):
        array: Array = labels
        return array
    return require_float(who, arg, labels)


def beside_classes(labels: Array, classes: int) -> Array:
    """Return where each class is the labelled one: shape (..., classes)."""
    hit: Array = np.equal(labels[..., None], beside(labels, np.arange(classes)))
    return hit


def check_class_numbers(who: str, labels: Array, classes: int, arg: str = "labels") -> Array | None:
    """Refuse integer labels out of range; without values return a mask.

    Raises
    ------
    DomainError
        A label is not in ``[0, classes)``; the message names the first.
    """
    values = value_of(labels)
    if isinstance(values, Tracer):
        return np.logical_and(labels >= 0, labels < classes)
    be = backend_of(values)
    with be.scope():
        wrong = be.xp.logical_or(values < 0, values >= classes)
        found = _first(be, wrong)
        if found is not None:
            raise DomainError(
                f"{who}: `{arg}` must be integers in [0, {classes}), got {int(values[found])} at "
                f"index {_shown(found)}. Logits have a column for each class."
            )
    return None


def check_probabilities(who: str, rows: Array) -> Array | None:
    """Refuse rows that are no probabilities; without values return a mask.

    Raises
    ------
    DomainError
        An entry is negative or NaN, or a row does not sum to 1 up to rounding.
    """
    # k roundings of the entries and k of the sum, each eps / 2 of at most 1, and as much again
    tolerance = 4 * rows.shape[-1] * float(np.finfo(rows.dtype).eps)
    values = value_of(rows)
    if isinstance(values, Tracer):
        positive = np.all(rows >= 0.0, axis=-1)
        right: Array = np.logical_and(positive, abs(rows.sum(axis=-1) - 1.0) <= tolerance)
        return right
    be = backend_of(values)
    with be.scope():
        found = _first(be, be.xp.logical_not(values >= 0.0))
        if found is not None:
            raise DomainError(
                f"{who}: the rows of `labels` must be probabilities, got "
                f"{float(values[found]):.6g} at index {_shown(found)}."
            )
        total = values.sum(axis=-1)  # vmap puts its axis first
        found = _first(be, be.xp.logical_not(abs(total - 1.0) <= tolerance))
        if found is not None:
            raise DomainError(
                f"{who}: the rows of `labels` must sum to 1 within {tolerance:.1e}, got "
                f"{float(total[found])!r} at index {_shown(found)}. Divide each row by its sum."
            )
    return None


def check_unit_interval(who: str, targets: Array) -> Array | None:
    """Refuse targets outside [0, 1]; without values return a mask.

    Raises
    ------
    DomainError
        The first target that is not inside.
    """
    values = value_of(targets)
    if isinstance(values, Tracer):
        return np.logical_and(targets >= 0, targets <= 1)
    be = backend_of(values)
    with be.scope():
        inside = be.xp.logical_and(values >= 0, values <= 1)
        found = _first(be, be.xp.logical_not(inside))
        if found is not None:
            raise DomainError(
                f"{who}: `targets` must be in [0, 1], got {float(values[found]):.6g} at index "
                f"{_shown(found)}. They are the probabilities of the class 1."
            )
    return None


def check_entries(
    who: str, arg: str, x: Array, inside: Callable[[Array], Array], wanted: str, advice: str = ""
) -> Array:
    """Refuse entries outside of a domain; without values put NaN where one is.

    Parameters
    ----------
    who, arg : str
        The function and its argument.
    x : array
        The entries.
    inside : callable
        Of the array (of values or traced): where it is in the domain; NaN falls out of any comparison.
    wanted : str
        The domain, as ``"positive"``.
    advice : str, default ""
        What to do.

    Returns
    -------
    array
        ``x``.

    Raises
    ------
    DomainError
        The first entry that is not inside.
    """
    values = value_of(x)
    if isinstance(values, Tracer):
        return np.where(inside(x), x, math.nan)
    be = backend_of(values)
    with be.scope():
        found = _first(be, be.xp.logical_not(inside(values)))
        if found is not None:
            at = f" at index {_shown(found)}" if found else ""
            got = f"{float(values[found]):.6g}{at}"
            raise DomainError(sentence(who, arg, wanted, got, advice))
    return x


def poison(losses: Array, right: Array | None) -> Array:
    """Return the losses with NaN where a label could only be checked now, and is wrong."""
    return losses if right is None else np.where(right, losses, math.nan)


def _first(be: Backend, wrong: Array) -> tuple[int, ...] | None:
    """Return the index of the first true entry, or None; on a device this waits for it."""
    if not wrong.size or not bool(be.xp.any(wrong)):
        return None
    return tuple(int(i) for i in np.unravel_index(int(be.xp.argmax(wrong)), wrong.shape))


def _shown(index: tuple[int, ...]) -> str:
    return str(index[0]) if len(index) == 1 else str(index)
