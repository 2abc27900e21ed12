"""Models from named arrays and back: every array of a model has a name, its path in the tree."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core._ext._tree import flatten, paths, unflatten
from nnmath_core.checks import describe, sentence
from nnmath_core.device import CPU, backend_for, device_of
from nnmath_core.errors import DomainError, DtypeError, ShapeError, TreeError
from nnmath_core.io.replacing import replacing
from nnmath_core.io.safetensors import read_safetensors, write_safetensors
from nnmath_core.nn.initializers import require_float_dtype
from nnmath_core.typing import Array, Tree

__all__ = [
    "dotted",
    "few",
    "host_array",
    "is_below",
    "leaves_of",
    "load_state",
    "rebuilt",
    "require_keys",
    "save_state",
]

Model = TypeVar("Model")


def load_state(
    model: Model,
    path: str | os.PathLike[str],
    *,
    keys: Mapping[str, str] | None = None,
    strict: bool = True,
    dtype: DTypeLike | None = None,
) -> Model:
    """Return a model with the arrays of a file, which have names.

    Parameters
    ----------
    model : tree
        Says the structure and the shapes; itself it stays as it is.
    path : str or path-like
        ``.npz``, of `save_state`, `nm.save` or ``numpy.savez``; or ``.safetensors``. In the file as in ``model`` the
        layout is ours; `from_torch` converts from PyTorch's.
    keys : mapping of str to str, optional
        Name or first part of a name in the file -> path in the model, of an array or of a part of the tree:
        ``{"encoder": "layers[0]"}`` takes ``encoder.weight`` for ``model.layers[0].weight``. Without it the name of an
        array is its path, written with dots: ``layers.0.weight``.
    strict : bool, default True
        False leaves an array of the model that the file does not have as it is, and an array of the file that the model
        does not have out.
    dtype : dtype, optional
        float32 or float64, to which the floating arrays of the file are converted. Without it they keep theirs, and the
        model has it then; float16 and bfloat16 are errors.

    Returns
    -------
    tree
        Of the structure of ``model``, on its devices.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DomainError
        It is damaged, or of another format; or it has not the names of the model, or others; or ``keys`` names a path
        that is none, or one array twice.
    ShapeError, DtypeError
        An array has another shape or kind than the model's, or the result would mix dtypes where the model did not.

    Notes
    -----
    Nothing is executed that a file says, and there is no pickle. `nm.load` returns the whole tree of a file of
    `nm.save`, with its structure.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> model, other = (nm.nn.Dense.init((2, 3), rng=seed) for seed in (0, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nm.nn.save_state(model, f"{folder}/dense.safetensors")
    ...     loaded = nm.nn.load_state(other, f"{folder}/dense.safetensors")
    >>> bool(np.array_equal(loaded.weight, model.weight))
    True
    """
    who = "load_state"
    wanted = None if dtype is None else require_float_dtype(who, dtype)
    arrays = _read(who, os.fspath(path), wanted)
    leaves = leaves_of(model)
    names = {dotted(p): p for p in leaves}
    if len(names) != len(leaves):
        raise TreeError(f"{who}: two arrays of the model have the same name, written with dots.")
    sources = _sources(who, arrays, names, require_keys(who, keys))
    missing = [name for name in names if names[name] not in sources]
    unused = [name for name in arrays if name not in sources.values()]
    if strict and (missing or unused):
        raise DomainError(
            f"{who}: {os.fspath(path)!r} has not the arrays of the model: missing {few(missing)}; not in the "
            f"model {few(unused)}. Map names with `keys=`, or pass `strict=False`."
        )
    found = {p: host_array(who, name, arrays[name], wanted) for p, name in sources.items()}
    return rebuilt(who, model, found, {p: f"{name!r}" for p, name in sources.items()})


def save_state(model: Tree, path: str | os.PathLike[str]) -> None:
    """Write the arrays of a model by name, without its structure.

    Parameters
    ----------
    model : tree of arrays
        A model, or any tree whose leaves are arrays.
    path : str or path-like
        ``.npz`` or ``.safetensors``. An existing file is replaced, whole or not at all.

    Raises
    ------
    DomainError
        The name ends otherwise.
    TreeError
        A leaf is no array, or two have the same name when their paths are written with dots.
    DtypeError
        An array is of a type that the format does not have.

    Notes
    -----
    The name of an array is its path, written with dots: ``layers.0.weight``. `load_state` reads the file into a model
    of the same structure; other programs read it as what it is, named arrays. `nm.save` writes the structure, too.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> model = nm.nn.Sequential([nm.nn.Dense.init((2, 3), rng=0), nm.nn.relu])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nm.nn.save_state(model, f"{folder}/model.npz")
    ...     sorted(np.load(f"{folder}/model.npz"))
    ['layers.0.bias', 'layers.0.weight']
    """
    who = "save_state"
    target = os.fspath(path)
    arrays: dict[str, Array] = {}
    for leaf_path, leaf in leaves_of(model).items():
        name = dotted(leaf_path) or "array"
        if name in arrays:
            raise TreeError(f"{who}: two arrays of the model have the name {name!r}.")
        arrays[name] = host_array(who, name, leaf, None, floats=False)
    if target.endswith(".safetensors"):
        write_safetensors(who, target, arrays)
    elif target.endswith(".npz"):
        with replacing(os.path.realpath(target)) as file, zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
                with archive.open(member, "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)
    else:
        raise DomainError(_other_ending(who, target))


def _other_ending(who: str, target: str) -> str:
    return sentence(who, "path", 'a name that ends in ".npz" or ".safetensors"', repr(target))


def _read(who: str, name: str, dtype: np.dtype[Any] | None) -> dict[str, Array]:
    if name.endswith(".safetensors"):
        return read_safetensors(who, name, dtype=dtype)[0]
    if not name.endswith(".npz"):
        raise DomainError(_other_ending(who, name))
    if not os.path.exists(name):
        raise FileNotFoundError(f"{who}: there is no file {name!r}.")
    if not zipfile.is_zipfile(name):  # NumPy would take it for a pickle, and advise to trust it
        raise DomainError(f"{who}: {name!r} is damaged or no .npz file (no zip archive).")
    try:
        with np.load(name, allow_pickle=False) as archive:
            arrays: dict[str, Array] = {
                key: archive[key] for key in archive.files if key != "structure.json"
            }
            return arrays
    except (
        *(zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError, TypeError),
        *(MemoryError, RuntimeError, AttributeError, SyntaxError),
    ) as error:
        why = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise DomainError(f"{who}: {name!r} is damaged or no .npz file ({why}).") from None


def _sources(
    who: str,
    arrays: Mapping[str, Array],
    names: Mapping[str, str],
    keys: Mapping[str, str] | None,
) -> dict[str, str]:
    """Return path in the model -> name in the file."""
    if keys is None:
        return {path: name for name, path in names.items() if name in arrays}
    sources: dict[str, str] = {}
    for prefix, path in keys.items():
        place = dotted(path)
        below = [name for name in names if is_below(name, place)]
        if not below:
            raise DomainError(_no_place(who, path, names))
        for name in below:
            source = ".".join(filter(None, (prefix, name[len(place) :].lstrip("."))))
            if source not in arrays:
                continue
            if names[name] in sources:
                raise DomainError(
                    f"{who}: `keys` gives {name!r} two arrays: {sources[names[name]]!r} and {source!r}."
                )
            sources[names[name]] = source
    return sources


def _no_place(who: str, path: str, names: Mapping[str, str]) -> str:
    advice = f"The model has {few(names)}; `nm.tree_paths(model)` lists all."
    return sentence(who, "keys", "from names to paths in the model", repr(path), advice)


def is_below(name: str, place: str) -> bool:
    """Whether a name is a place or lies in it, both written with dots."""
    return not place or name == place or name.startswith(f"{place}.")


def require_keys(who: str, keys: Any) -> Mapping[str, str] | None:
    """Return a map of names to paths, or None.

    Raises
    ------
    DtypeError
        It is no mapping of strings to strings.
    """
    wanted = "a mapping of names to paths, both strings"
    if keys is not None and not isinstance(keys, Mapping):
        raise DtypeError(sentence(who, "keys", wanted, describe(keys)))
    for key, value in ({} if keys is None else keys).items():
        for part in (key, value):
            if not isinstance(part, str):
                raise DtypeError(sentence(who, "keys", wanted, describe(part)))
    return keys


def dotted(path: str) -> str:
    """Write a path with dots alone: ``.layers[0].weight`` is ``layers.0.weight``.

    Examples
    --------
    >>> dotted(".layers[0].weight"), dotted("['a'][2]"), dotted("layers.0")
    ('layers.0.weight', 'a.2', 'layers.0')
    """
    plain = re.sub(r"\[(?:'([^']*)'|\"([^\"]*)\"|([^\]]*))\]", _with_dot, path)
    return plain.removeprefix(".")


def _with_dot(found: re.Match[str]) -> str:
    return "." + next((part for part in found.groups() if part is not None), "")


def few(names: Any) -> str:
    """Say the first names of many.

    Examples
    --------
    >>> few([]), few(["a", "b"]), few("abcdefg")
    ('none', "'a', 'b'", "'a', 'b', 'c', 'd', 'e' and 2 more")
    """
    names = list(names)
    said = ", ".join(map(repr, names[:5])) or "none"
    return said if len(names) <= 5 else f"{said} and {len(names) - 5} more"


def leaves_of(model: Any) -> dict[str, Any]:
    """Return path -> leaf, buffers with them."""
    leaves, treedef = flatten(model)
    return dict(zip(paths(treedef), leaves, strict=True))


def host_array(
    who: str, name: str, value: Any, dtype: np.dtype[Any] | None, *, floats: bool = True
) -> Array:
    """Return what stands under a name as an array of the host: NumPy's, CuPy's, or a tensor of PyTorch.

    With ``dtype`` floating ones are converted; without it ``floats`` refuses those that layers do not take.

    Raises
    ------
    DtypeError
        It is no array, or of another type.
    """
    if callable(getattr(value, "detach", None)):
        value = _from_tensor(who, name, value, dtype)
    elif hasattr(value, "__cuda_array_interface__") and not isinstance(value, np.ndarray):
        place = device_of(value)
        value = value if place == CPU else backend_for(place).to_host(value)
    if isinstance(value, np.ma.MaskedArray) or not isinstance(value, np.ndarray | np.generic):
        advice = "Give the arrays alone: of a checkpoint that is often `state['state_dict']`."
        wanted = "an array or a tensor"
        raise DtypeError(sentence(who, name, wanted, describe(value), advice if floats else ""))
    array = np.asarray(value)
    if not floats:
        return array
    kind = array.dtype.kind
    if dtype is not None and kind == "f":
        return array.astype(dtype)
    if kind not in "biuf" or (kind == "f" and array.dtype.itemsize not in (4, 8)):
        advice = "`dtype=numpy.float32` converts floating arrays."
        wanted = "float32, float64, integers or booleans"
        raise DtypeError(sentence(who, name, wanted, describe(array), advice))
    return np.array(array, array.dtype.newbyteorder("="))


def _from_tensor(who: str, name: str, value: Any, dtype: np.dtype[Any] | None) -> Any:
    """Return a tensor of PyTorch as an array, by its own methods."""
    tensor = value.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        if dtype is None:
            advice = "`dtype=numpy.float32` converts it, exactly."
            raise DtypeError(
                sentence(who, name, "of a type that NumPy has", "a bfloat16 tensor", advice)
            )
        tensor = tensor.float()
    return tensor.numpy()


def rebuilt(
    who: str, model: Model, found: Mapping[str, Array], sources: Mapping[str, str]
) -> Model:
    """Return the model with other arrays at some paths, checked against its own.

    ``sources`` says for errors where each comes from.

    Raises
    ------
    ShapeError
        One has another shape than the model's.
    DtypeError
        One is of another kind, or floating arrays of two types would stand where the model has one.
    """
    leaves, treedef = flatten(model)
    where = paths(treedef)
    made = []
    for path, leaf in zip(where, leaves, strict=True):
        array = found.get(path)
        if array is None:
            made.append(leaf)
            continue
        if tuple(getattr(leaf, "shape", ())) != array.shape:
            raise ShapeError(
                f"{who}: `model{path}` has shape {tuple(getattr(leaf, 'shape', ()))} and {sources[path]} has "
                f"{array.shape} in our layout."
            )
        kind = np.dtype(getattr(leaf, "dtype", type(leaf))).kind
        if kind != array.dtype.kind:
            wanted = f"like `model{path}`, {describe(leaf)}"
            raise DtypeError(f"{who}: {sources[path]} must be {wanted}, got {describe(array)}.")
        if hasattr(leaf, "shape") and device_of(leaf) != CPU:
            array = backend_for(device_of(leaf)).from_host(array)
        made.append(array)
    before, after = _floats(where, leaves), _floats(where, made)
    if len(set(before.values())) == 1 and len(set(after.values())) > 1:
        (first, one), *rest = after.items()
        second, two = next((p, t) for p, t in rest if t != one)
        raise DtypeError(
            f"{who}: `model{first}` would be {one} and `model{second}` {two}, and layers do not mix them. Pass "
            f"`dtype=numpy.{one}`."
        )
    new: Model = unflatten(treedef, made)
    return new


def _floats(where: list[str], leaves: list[Any]) -> dict[str, Any]:
    pairs = zip(where, leaves, strict=True)
    return {p: x.dtype for p, x in pairs if getattr(getattr(x, "dtype", None), "kind", "") == "f"}
