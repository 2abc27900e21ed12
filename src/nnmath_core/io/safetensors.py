"""The safetensors format: named arrays in one file, nothing in it that could be executed.

::

    8 bytes       length of the header, an unsigned little-endian integer
    header        JSON: {name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}, and under
                  "__metadata__" strings by name; spaces may follow
    data          little-endian numbers in C order, each array at its offsets from the end of the header

The arrays fill the data without gaps and do not overlap; a file for which that is not so is refused before an array is
made.
Source: the description of the format by its authors, as of version 0.8 of the package safetensors.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core.checks import describe, sentence
from nnmath_core.errors import DomainError, DtypeError
from nnmath_core.io.replacing import replacing
from nnmath_core.typing import Array

__all__ = ["from_bfloat16", "read_safetensors", "write_safetensors"]

HEADER_LIMIT = 100_000_000
"""Bytes of a header; that of the reference implementation."""

_METADATA = "__metadata__"
_DTYPES = {
    **{"BOOL": "|b1", "U8": "|u1", "I8": "|i1", "U16": "<u2", "I16": "<i2", "U32": "<u4"},
    **{"I32": "<i4", "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8"},
    "C64": "<c8",
    "BF16": "<u2",  # NumPy has no such type: the upper half of a float32
}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items() if name != "BF16"}


def read_safetensors(
    who: str, path: str | os.PathLike[str], *, dtype: DTypeLike | None = None
) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays of a file by name, in the order of the header, and its metadata.

    Parameters
    ----------
    who : str
        For whom errors speak.
    path : str or path-like
    dtype : dtype, optional
        float32 or float64, to which bfloat16 is widened, exactly. Arrays of other types are returned as they are.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DomainError
        It is damaged or no safetensors file.
    DtypeError
        An array is of a type that NumPy does not have.
    """
    name = os.fspath(path)
    if not os.path.exists(name):
        raise FileNotFoundError(f"{who}: there is no file {name!r}.")
    with open(name, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(size - 8, HEADER_LIMIT):
            raise _damaged(who, name, f"a header of {length} bytes in a file of {size}")
        header = _header(who, name, file.read(length))
        metadata = _metadata(who, name, header.pop(_METADATA, {}))
        room = size - 8 - length
        spans = {key: _span(who, name, key, entry, room) for key, entry in header.items()}
        _require_tiled(who, name, spans, room)
        arrays = {}
        for key, (kind, shape, begin, end) in spans.items():
            if kind == "BF16" and dtype is None:
                raise DtypeError(
                    f"{who}: {key!r} in {name!r} is of type bfloat16, which NumPy does not have. Pass "
                    "`dtype=numpy.float32`, which holds every bfloat16 exactly."
                )
            file.seek(8 + length + begin)
            flat = np.empty((end - begin) // np.dtype(_DTYPES[kind]).itemsize, _DTYPES[kind])
            if file.readinto(flat.view(np.uint8).data) != end - begin:
                raise _damaged(who, name, f"it ends inside of {key!r}")
            if kind == "BOOL" and flat.size and flat.view(np.uint8).max() > 1:
                raise _damaged(who, name, f"{key!r} has a boolean that is neither 0 nor 1")
            if kind == "BF16":
                flat = from_bfloat16(flat, np.dtype(dtype))
            arrays[key] = flat.astype(flat.dtype.newbyteorder("="), copy=False).reshape(shape)
    return arrays, metadata


def write_safetensors(
    who: str,
    path: str | os.PathLike[str],
    arrays: Mapping[str, Array],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write arrays by name, whole or not at all; the same arrays give the same bytes.

    Parameters
    ----------
    who : str
        For whom errors speak.
    path : str or path-like
    arrays : mapping of str to array
        On the host. They lie in the file by size of their elements, largest first, then by name.
    metadata : mapping of str to str, optional

    Raises
    ------
    DtypeError
        An array is of a type that the format does not have.
    DomainError
        An array has the name of the metadata.
    """
    header: dict[str, Any] = {} if metadata is None else {_METADATA: dict(metadata)}
    order = sorted(arrays, key=lambda key: (-arrays[key].dtype.itemsize, key))
    offset = 0
    for key in order:
        array = arrays[key]
        if key == _METADATA:
            raise DomainError(f"{who}: the name {key!r} belongs to the format. Rename the array.")
        kind = _NAMES.get(array.dtype.newbyteorder("<"))
        if kind is None:
            advice = "Convert it, or write a file that ends in .npz."
            wanted = (
                "of a type that safetensors has: booleans, integers, float16 to float64, complex64"
            )
            raise DtypeError(sentence(who, key, wanted, describe(array), advice))
        end = offset + array.nbytes
        header[key] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8
    with replacing(os.path.realpath(os.fspath(path))) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for key in order:
            array = arrays[key]
            file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())


def from_bfloat16(bits: Array, dtype: np.dtype[Any]) -> Array:
    """Return the numbers whose upper 16 bits of float32 are ``bits``, as ``dtype``."""
    wide: Array = (bits.astype(np.uint32) << 16).view(np.float32).astype(dtype)
    return wide


def _header(who: str, name: str, text: bytes) -> dict[str, Any]:
    """Return the JSON object of a header, each name of it once."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"the name {twice!r} stands twice in the header")
        return found

    try:
        header = json.loads(text.decode(), object_pairs_hook=once)
    except (
        ValueError,
        RecursionError,
    ) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise _damaged(who, name, str(error) or "its header is nested too deeply") from None
    if not isinstance(header, dict):
        raise _damaged(who, name, "its header is no JSON object")
    return header


def _metadata(who: str, name: str, found: Any) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise _damaged(who, name, "its metadata are not strings by name")
    return found


def _span(
    who: str, name: str, key: str, entry: Any, room: int
) -> tuple[str, tuple[int, ...], int, int]:
    """Return type, shape and offsets of an array after checking that they fit one another and the file."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _damaged(who, name, f"{key!r} needs dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise DtypeError(
            f"{who}: {key!r} in {name!r} is of type {kind!r}, which NumPy does not have. Convert it where it "
            "was made."
        )
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise _damaged(who, name, f"{key!r} has a shape or offsets that are no lists of sizes")
    begin, end = offsets
    if len(shape) > 64 or not begin <= end <= room:
        raise _damaged(who, name, f"{key!r} lies at {begin} to {end} of {room} bytes of data")
    needed = math.prod(shape) * np.dtype(_DTYPES[kind]).itemsize
    if needed != end - begin:
        raise _damaged(who, name, f"{key!r} needs {needed} bytes and has {end - begin}")
    return kind, tuple(shape), begin, end


def _are_sizes(found: Any) -> bool:
    return isinstance(found, list) and all(type(n) is int and 0 <= n < 2**63 for n in found)


def _require_tiled(
    who: str, name: str, spans: Mapping[str, tuple[str, tuple[int, ...], int, int]], room: int
) -> None:
    """Refuse arrays that overlap or leave gaps."""
    reached = 0
    for key, (_, _, begin, end) in sorted(spans.items(), key=lambda item: item[1][2:]):
        if begin != reached:
            what = "overlaps another array" if begin < reached else "leaves a gap before it"
            raise _damaged(who, name, f"{key!r} {what}, at byte {begin} of the data")
        reached = end
    if reached != room:
        raise _damaged(who, name, f"{room - reached} bytes belong to no array")


def _damaged(who: str, name: str, why: str) -> DomainError:
    return DomainError(f"{who}: {name!r} is damaged or no safetensors file ({why}). Use a backup.")
