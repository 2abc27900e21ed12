"""Trees in one file: arrays beside a description of the structure, without pickle."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from nnmath_core.errors import DomainError, DtypeError
from nnmath_core.io.replacing import replacing
from nnmath_core.io.safetensors import read_safetensors, write_safetensors
from nnmath_core.io.structure import Encoder, decode
from nnmath_core.typing import Array, Tree

_STRUCTURE = "structure.json"
_SAFETENSORS = ".safetensors"
_METADATA = "nnmath_core"
_FORMAT = 1
_DAMAGE = (  # what the standard library and NumPy raise on files with changed or missing bytes
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(ValueError, KeyError, TypeError, MemoryError, RuntimeError),
)


def save(path: str | os.PathLike[str], tree: Tree) -> None:
    """Write a tree of arrays to a file, ``.npz`` or ``.safetensors``, whole or not at all.

    Parameters
    ----------
    path : str or path-like
        Where; the name ends in ``.npz`` or ``.safetensors``. An existing file is replaced.
    tree : tree
        Nested dictionaries (keys strings or integers), lists, tuples, named tuples and
        dataclasses, of arrays, numbers, booleans, strings and ``None``: a model, an optimizer
        state, a dictionary of results. Device arrays are copied to the host. Functions, as
        activations in a model, are saved by name.

    Raises
    ------
    TreeError
        The tree holds something else; the message names its path. No file has been written.
    DtypeError
        An array holds objects (which would need pickle), or is masked; or safetensors does not have its type (strings,
        dates, complex128, foreign byte order), which an ``.npz`` file has.
    DomainError
        The name ends otherwise.
    FileNotFoundError
        The folder does not exist.
    OSError
        The file cannot be written. The old file, if there was one, is untouched.

    Notes
    -----
    The file is written under another name beside ``path``, flushed to the disk and renamed, so
    that a crash at any moment leaves the old file or the new one. `numpy.load` opens it, too: every
    array is a member, named by its path in the tree, uncompressed; ``structure.json`` describes
    the rest. In a safetensors file, which other programs read as named arrays, the metadata do. The same tree gives the
    same bytes.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/state.npz", {"w": np.ones(2), "step": 3})
    ...     load(f"{folder}/state.npz")
    {'w': array([1., 1.]), 'step': 3}
    """
    target = os.path.realpath(os.fspath(path))
    if not target.endswith((".npz", _SAFETENSORS)):
        raise DomainError(
            f'save: `path` must end in ".npz" or ".safetensors", got {os.fspath(path)!r}.'
        )
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"save: there is no folder {folder!r}. Create it first.")
    encoder = Encoder()
    structure = json.dumps({"format": _FORMAT, "tree": encoder.encode(tree)}, allow_nan=False)
    if target.endswith(_SAFETENSORS):
        for name, array in encoder.arrays.items():
            if not array.dtype.isnative:
                raise DtypeError(
                    f"save: the array {name!r} has foreign byte order, {array.dtype.str}, which safetensors does not "
                    "have. Convert it, or write .npz."
                )
        write_safetensors("save", target, encoder.arrays, {_METADATA: structure})
        return
    with replacing(target) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(_member(_STRUCTURE), structure)
        for name, array in encoder.arrays.items():
            with archive.open(_member(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def load(path: str | os.PathLike[str], *, like: Tree = None) -> Tree:
    """Read a tree that `save` has written, or the named arrays of any safetensors file.

    Parameters
    ----------
    path : str or path-like
    like : tree, optional
        A tree of the same structure, as a freshly initialised model: every container, array shape
        and dtype of the file must agree with it, arrays arrive on its devices, and classes and
        functions are taken from it. Without it the file must name only classes and functions of
        nnmath_core, and all arrays arrive on the host.

    Returns
    -------
    tree
        Dataclasses are rebuilt without their ``__init__``. Numbers and strings are those of the
        file, also with ``like``. Of a safetensors file from elsewhere a dictionary of arrays by name.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DomainError
        The file is damaged or was not written by `save`.
    TreeError
        ``like`` has another structure, and the message names the path where it differs; or the
        file names a class or function of another package and there is no ``like``; or a class has
        other fields than the file.
    ShapeError, DtypeError
        An array of ``like`` has another shape or dtype.

    Notes
    -----
    Nothing in the file is executed. Names are looked up among the classes, functions and
    primitives of nnmath_core and NumPy's ufuncs and nowhere else. Every array is read to its
    checksum.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/pair.npz", (np.zeros((2, 2), np.float32), None))
    ...     load(f"{folder}/pair.npz", like=(np.ones((2, 2), np.float32), None))
    (array([[0., 0.],
           [0., 0.]], dtype=float32), None)
    """
    name = os.fspath(path)
    if name.endswith(_SAFETENSORS):
        return _load_safetensors(name, like)
    if not os.path.exists(name):
        raise FileNotFoundError(f"load: there is no file {name!r}.")
    with open(name, "rb") as file:
        with _damage(name):
            archive = zipfile.ZipFile(file)
        with archive:
            node = _read_structure(name, archive)
            return decode(node, lambda member: _read_array(name, archive, member), like)


def _load_safetensors(name: str, like: Tree) -> Tree:
    arrays, metadata = read_safetensors("load", name)
    if _METADATA not in metadata:
        return decode({"dict": [[key, {"array": key}] for key in arrays]}, arrays.__getitem__, like)
    with _damage(name):
        structure = json.loads(metadata[_METADATA])
        node = _tree_of(name, structure["format"], structure["tree"])

    def read(member: str) -> Array:
        with _damage(name):
            return arrays[member]

    return decode(node, read, like)


def _read_structure(name: str, archive: zipfile.ZipFile) -> Any:
    """Return the JSON of the tree after checking that we have written it."""
    if _STRUCTURE not in archive.namelist():
        raise DomainError(
            f"load: {name!r} was not written by nnmath_core.save: it has no structure. "
            "`numpy.load` reads plain .npz files."
        )
    with _damage(name):
        structure = json.loads(archive.read(_STRUCTURE))
        version, node = structure["format"], structure["tree"]
    return _tree_of(name, version, node)


def _tree_of(name: str, version: Any, node: Any) -> Any:
    """Return the tree of a format that is known."""
    if version != _FORMAT:
        raise DomainError(
            f"load: {name!r} has format {version} and this version of nnmath_core reads format "
            f"{_FORMAT}. Update nnmath_core."
        )
    return node


def _read_array(name: str, archive: zipfile.ZipFile, member: str) -> Array:
    with _damage(name), archive.open(f"{member}.npy") as stream:
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
        if stream.read(1):  # reaching the end checks the checksum
            raise ValueError(f"{member} is longer than its header says")
        return array


@contextlib.contextmanager
def _damage(name: str) -> Iterator[None]:
    """Turn what zipfile, zlib, json and NumPy raise on a broken file into one error of ours."""
    try:
        yield
    except _DAMAGE as error:
        text = str(error).strip("'\"").splitlines()
        why = text[0] if text and text[0] else type(error).__name__
        raise DomainError(
            f"load: {name!r} is damaged or not an .npz file ({why}). Use a backup; files written "
            "by nnmath_core.save are whole unless changed afterwards."
        ) from None


def _member(name: str) -> zipfile.ZipInfo:
    """Return a member's header with a fixed date: the same tree gives the same bytes."""
    return zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
