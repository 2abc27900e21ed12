"""Lengths of padded sequences, as labels checked where their values exist."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Tracer, value_of
from nnmath_core.checks import describe, sentence
from nnmath_core.device import CPU, backend_for, device_of
from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.typing import Array

__all__ = ["check_lengths", "require_lengths"]


def require_lengths(who: str, arg: str, lengths: Any, shape: tuple[int, ...]) -> Array:
    """Return lengths as an array of integers, one for each sequence.

    Raises
    ------
    DtypeError, ShapeError
        They are no integers, or of another shape.
    """
    if isinstance(lengths, int | np.integer) and not isinstance(lengths, bool):
        lengths = np.asarray(lengths)
    dtype = getattr(lengths, "dtype", None)
    if dtype is None or dtype.kind not in "iu" or isinstance(lengths, np.ma.MaskedArray):
        raise DtypeError(sentence(who, arg, "an array of integers", describe(lengths)))
    if tuple(lengths.shape) != shape:
        wanted = f"of shape {shape}, one for each sequence"
        raise ShapeError(sentence(who, arg, wanted, str(tuple(lengths.shape))))
    array: Array = lengths
    return array


def check_lengths(who: str, arg: str, lengths: Array, most: int, why: str) -> Array | None:
    """Refuse lengths outside of ``[0, most]``; without values return where they are right.

    Raises
    ------
    DomainError
        The first length that is out of range.
    """
    values = value_of(lengths)
    if isinstance(values, Tracer):
        right: Array = np.logical_and(lengths >= 0, lengths <= most)
        return right
    place = device_of(values)
    host = np.asarray(values if place == CPU else backend_for(place).to_host(values))
    flat = host.ravel()
    wrong = np.flatnonzero((flat < 0) | (flat > most))
    if wrong.size:
        at = np.unravel_index(int(wrong[0]), host.shape)
        where = f" at index {', '.join(str(int(i)) for i in at)}" if at else ""
        got = f"{int(flat[wrong[0]])}{where}"
        raise DomainError(sentence(who, arg, f"in [0, {most}], {why}", got))
    return None
