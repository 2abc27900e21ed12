"""A tree as JSON and named arrays, and back; nothing is executed that a file names.

    null, true, 3, "text"                       None, bool, int, str
    {"float": "0x1.8p+1"}                       a float, exactly; {"complex": [re, im]} likewise
    {"array": NAME}, {"scalar": NAME}           an array, a NumPy scalar: a member of the file
    {"list": [...]}, {"tuple": [...]}           in order
    {"dict": [[KEY, ...], ...]}                 keys are strings or integers; or "OrderedDict"
    {"namedtuple": NAME, "fields": [...]}       NAME is "module:class", fields [[name, ...], ...]
    {"dataclass": NAME, "fields": [...]}        all fields, rebuilt without ``__init__``
    {"dtype": "<f4"}, {"callable": NAME}        a dtype or NumPy scalar type; a function or class

A NAME is looked up only inside nnmath_core, and must be what it says; for all others the caller
gives a tree with the same structure, from which the class or function is taken.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections import OrderedDict
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Tracer
from nnmath_core.autodiff.primitive import REGISTRY, Primitive
from nnmath_core.checks import describe
from nnmath_core.device import CPU, backend_for, device_of
from nnmath_core.errors import DtypeError, ShapeError, TraceError, TreeError
from nnmath_core.typing import Array, Tree

_MAX_DEPTH = 200
_NO_LIKE = object()
_MEMBER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}")


class Encoder:
    """Turns a tree into JSON, and collects its arrays by name in `arrays`."""

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}

    def encode(self, x: Any, path: str = "", keys: tuple[str, ...] = ()) -> Any:
        """Return the JSON of ``x``.

        Raises
        ------
        TreeError
            Something in the tree cannot be saved, or it contains itself.
        DtypeError
            An array holds objects, or is masked.
        TraceError
            A leaf is being differentiated.
        """
        if len(keys) > _MAX_DEPTH:
            raise TreeError(
                f"save: `tree` is nested deeper than {_MAX_DEPTH} levels. Does it contain itself?"
            )
        if x is None or type(x) in (bool, int, str):
            return x
        if type(x) is float:
            return {"float": x.hex()}
        if type(x) is complex:
            return {"complex": [x.real.hex(), x.imag.hex()]}
        if isinstance(x, Tracer):
            raise TraceError(
                f"save: `tree{path}` is a traced value. Save outside of the transformation."
            )
        if isinstance(x, list | tuple | dict):
            return self._container(x, path, keys)
        if dataclasses.is_dataclass(x) and not isinstance(x, type):
            named = [(field.name, getattr(x, field.name)) for field in dataclasses.fields(x)]
            return {"dataclass": _reference(type(x)), "fields": self._fields(named, path, keys)}
        if isinstance(x, np.dtype):
            return {"dtype": x.str}
        if isinstance(x, type) and issubclass(x, np.generic):
            return {"dtype": np.dtype(x).str, "type": x.__name__}
        if isinstance(x, np.ndarray | np.generic) or hasattr(x, "__cuda_array_interface__"):
            return self._array(x, path, keys)
        if callable(x):
            return {"callable": _reference(x)}
        raise TreeError(
            f"save: `tree{path}` cannot be saved: {describe(x)}. Arrays, numbers, strings, None, "
            "lists, tuples, dictionaries, named tuples and dataclasses can."
        )

    def _container(self, x: Any, path: str, keys: tuple[str, ...]) -> Any:
        if isinstance(x, dict):
            if type(x) not in (dict, OrderedDict):
                raise TreeError(
                    f"save: `tree{path}` cannot be saved: a {type(x).__name__}. Convert it to a "
                    "dict."
                )
            pairs = []
            for key, value in x.items():
                if type(key) not in (str, int):
                    raise TreeError(
                        f"save: the keys of `tree{path}` must be strings or integers, got "
                        f"{describe(key)}."
                    )
                pairs.append([key, self.encode(value, f"{path}[{key!r}]", (*keys, str(key)))])
            return {type(x).__name__: pairs}
        if type(x) in (list, tuple):
            items = [self.encode(v, f"{path}[{i}]", (*keys, str(i))) for i, v in enumerate(x)]
            return {type(x).__name__: items}
        if isinstance(x, tuple) and hasattr(x, "_fields"):
            named = list(zip(x._fields, x, strict=True))
            return {"namedtuple": _reference(type(x)), "fields": self._fields(named, path, keys)}
        raise TreeError(
            f"save: `tree{path}` cannot be saved: {describe(x)}. Convert it to a list or a tuple."
        )

    def _fields(self, named: list[tuple[str, Any]], path: str, keys: tuple[str, ...]) -> Any:
        return [[k, self.encode(v, f"{path}.{k}", (*keys, k))] for k, v in named]

    def _array(self, x: Any, path: str, keys: tuple[str, ...]) -> Any:
        if isinstance(x, np.ma.MaskedArray):
            raise DtypeError(
                f"save: `tree{path}` cannot be saved: {describe(x)}; its mask would be lost. Put "
                "values where the mask is: `x.filled(...)`."
            )
        place = device_of(x)
        host = np.asarray(x if place == CPU else backend_for(place).to_host(x))
        if host.dtype.kind not in "biufcSUmM":
            raise DtypeError(
                f"save: `tree{path}` cannot be saved: {describe(x)}. Arrays of numbers, booleans, "
                "fixed-width strings and dates can; objects would need pickle."
            )
        name = ".".join(keys) or "array"
        if not _MEMBER.fullmatch(name):
            name = f"array-{len(self.arrays)}"
        while name in self.arrays:
            name += "-"
        self.arrays[name] = host
        return {"scalar" if isinstance(x, np.generic) else "array": name}


class Decoder:
    """Rebuilds a tree from its JSON; ``read(name)`` gives the arrays."""

    def __init__(self, read: Callable[[str], Array]) -> None:
        self.read = read

    def decode(self, node: Any, like: Any = _NO_LIKE, path: str = "") -> Any:
        """Return the tree of ``node``, checked against ``like`` if it is given.

        Raises
        ------
        TreeError
            ``like`` has another structure, or is needed and missing.
        ShapeError, DtypeError
            An array differs in shape or dtype from that of ``like``.
        """
        if not isinstance(node, dict):
            self._require_kind(path, like, type(node), node)
            return node
        kind, value = next(iter(node.items()))
        if kind == "float":
            self._require_kind(path, like, float, node)
            return float.fromhex(value)
        if kind == "complex":
            self._require_kind(path, like, complex, node)
            return complex(*map(float.fromhex, value))
        if kind == "dtype":
            dtype = np.dtype(value)
            found = dtype.type if "type" in node else dtype
            if _given(like) and isinstance(like, np.dtype) == ("type" in node):
                raise TreeError(_differ(path, describe(found), describe(like)))
            return found
        if kind in ("array", "scalar"):
            return self._array(kind, value, like, path)
        if kind in ("list", "tuple"):
            self._require_kind(path, like, list if kind == "list" else tuple, node)
            parts = [like[i] if _given(like) else like for i in range(len(value))]
            items = [self.decode(part, parts[i], f"{path}[{i}]") for i, part in enumerate(value)]
            return items if kind == "list" else tuple(items)
        if kind in ("dict", "OrderedDict"):
            self._require_kind(path, like, dict if kind == "dict" else OrderedDict, node)
            pairs = [(k, v, like[k] if _given(like) else like) for k, v in value]
            made = {k: self.decode(v, part, f"{path}[{k!r}]") for k, v, part in pairs}
            return made if kind == "dict" else OrderedDict(made)
        if kind == "callable":
            return self._callable(value, like, path)
        if kind in ("dataclass", "namedtuple"):
            return self._record(kind, value, node["fields"], like, path)
        raise TreeError(f"load: `tree{path}` has the unknown kind {kind!r}.")

    def _require_kind(self, path: str, like: Any, kind: type, node: Any) -> None:
        """Refuse a ``like`` that has another type here, other keys or another length."""
        if not _given(like):
            return
        saved, given = _saved_size(node), _given_size(like)
        if type(like) is not kind or saved != given:
            raise TreeError(_differ(path, _words(kind, saved), _words(type(like), given)))

    def _array(self, kind: str, name: str, like: Any, path: str) -> Any:
        array = self.read(name)
        if not _given(like):
            return array[()] if kind == "scalar" else array
        if not hasattr(like, "shape") or isinstance(like, np.generic) != (kind == "scalar"):
            raise TreeError(_differ(path, f"{describe(array)}", describe(like)))
        if tuple(like.shape) != array.shape:
            raise ShapeError(_differ(path, f"shape {array.shape}", f"{tuple(like.shape)}"))
        if like.dtype != array.dtype:
            raise DtypeError(_differ(path, f"{array.dtype} elements", f"{like.dtype}"))
        if kind == "scalar":
            return array[()]
        return backend_for(device_of(like)).from_host(array)

    def _callable(self, name: str, like: Any, path: str) -> Any:
        found = _find(name)
        if not _given(like):
            if found is None:
                raise TreeError(_needs_like(path, "function", name))
            return found
        if not callable(like) or _reference(like).partition(":")[2] != name.partition(":")[2]:
            raise TreeError(_differ(path, name, describe(like)))
        return like

    def _record(self, kind: str, name: str, fields: Any, like: Any, path: str) -> Any:
        """Rebuild a dataclass or named tuple, of the class of ``like`` or one of ours."""
        if _given(like):
            cls = type(like)
            if cls.__qualname__ != name.partition(":")[2]:
                raise TreeError(_differ(path, name.partition(":")[2], describe(like)))
        else:
            cls = _find(name)
            if not isinstance(cls, type):
                raise TreeError(_needs_like(path, "class", name))
        expected = _field_names(cls, kind)
        saved = [field for field, _ in fields]
        if expected != saved:
            raise TreeError(
                f"load: `tree{path}` was saved with the fields {saved}, and {cls.__qualname__} "
                f"has {expected}."
            )
        values = {}
        for field, node in fields:
            part = getattr(like, field) if _given(like) else like
            values[field] = self.decode(node, part, f"{path}.{field}")
        if kind == "namedtuple":
            return cls(**values)
        made: Any = object.__new__(cls)
        for field, value in values.items():
            object.__setattr__(made, field, value)
        return made


def _given(like: Any) -> bool:
    return like is not _NO_LIKE


def _field_names(cls: type, kind: str) -> list[str] | None:
    if kind == "namedtuple":
        return list(getattr(cls, "_fields", ()))
    if not dataclasses.is_dataclass(cls):
        return None
    return [field.name for field in dataclasses.fields(cls)]


_Size = int | list[str] | None
"""What must agree besides the type: the length of a sequence, the keys of a dictionary."""


def _saved_size(node: Any) -> _Size:
    if isinstance(node, dict):
        kind, value = next(iter(node.items()))
        if kind in ("list", "tuple"):
            return len(value)
        if kind in ("dict", "OrderedDict"):
            return sorted(repr(key) for key, _ in value)
    return None


def _given_size(like: Any) -> _Size:
    if isinstance(like, dict):
        return sorted(map(repr, like))
    return len(like) if isinstance(like, list | tuple) else None


def _words(kind: type, size: _Size) -> str:
    article = "an" if kind.__name__[0].lower() in "aeiou" else "a"
    name = "None" if kind is type(None) else f"{article} {kind.__name__}"
    if isinstance(size, int):
        return f"{name} of length {size}"
    return name if size is None else f"{name} with the keys {', '.join(size) or 'none'}"


def _differ(path: str, saved: str, given: str) -> str:
    return f"load: `like{path}` must have the structure that was saved, {saved}, got {given}."


def _needs_like(path: str, what: str, name: str) -> str:
    return (
        f"load: `tree{path}` was saved with the {what} {name}, which is none of nnmath_core, and "
        "nothing else is imported. Pass a tree of the same structure as `like=`."
    )


def _reference(x: Any) -> str:
    """Return the name under which `_find` finds a class, a function, a ufunc or a primitive.

    What has no name of its own (a bound method, a partial) gets one that is never found.
    """
    if isinstance(x, np.ufunc):
        home = "ufunc" if getattr(np, x.__name__, None) is x else "ufunc of others"
        return f"{home}:{x.__name__}"
    if isinstance(x, Primitive):
        return f"primitive:{x.name}"
    if isinstance(x, type | FunctionType):
        return f"{x.__module__}:{x.__qualname__}"
    return f"{type(x).__module__}:<{type(x).__qualname__}>"


def _find(name: str) -> Any:
    """Return what `_reference` has named, if it is one of nnmath_core or a NumPy ufunc, or None."""
    module, _, qualified = name.partition(":")
    if module == "ufunc":
        found = getattr(np, qualified, None)
        return found if isinstance(found, np.ufunc) else None
    if module == "primitive":
        return REGISTRY.get(qualified)
    if module.partition(".")[0] != "nnmath_core" or "__main__" in module:
        return None
    try:
        found = importlib.import_module(module)
        for part in qualified.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return found if isinstance(found, type | FunctionType) and _reference(found) == name else None


def decode(node: Any, read: Callable[[str], Array], like: Tree | None) -> Tree:
    """Return the tree of ``node``; see `Decoder.decode`. ``like=None`` stands for no `like`."""
    return Decoder(read).decode(node, _NO_LIKE if like is None else like)
