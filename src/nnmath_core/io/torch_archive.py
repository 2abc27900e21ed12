"""Files of `torch.save`, read without PyTorch and without executing the pickle that is in them.

A file is a zip archive, uncompressed: ``data.pkl`` says what there is, and ``data/0``, ``data/1``, ... are the numbers.
The pickle is a program for a machine with a stack. The standard library lists its instructions and a small machine here
carries out those that build dictionaries, lists, tuples, numbers and strings. The names that it may call are four, and
they make arrays and dictionaries; whatever else is named is an error. It is less than what PyTorch's own loader of
``weights_only`` allows: nothing of subclasses, quantised or sparse tensors.
"""

from __future__ import annotations

import os
import pickletools
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core.checks import describe, sentence
from nnmath_core.errors import DomainError, DtypeError
from nnmath_core.io.safetensors import from_bfloat16
from nnmath_core.typing import Array

__all__ = ["read_torch"]

_STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
    "ComplexFloatStorage": "c8",
    "ComplexDoubleStorage": "c16",
}
_PICKLE_LIMIT = 100_000_000
_MARK = object()


class _Damage(ValueError):
    """What is wrong with a file, in words."""


@dataclass(frozen=True)
class _Name:
    """A name that the pickle gives; never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


_DICT = _Name("collections", "OrderedDict")
_TENSOR = _Name("torch._utils", "_rebuild_tensor_v2")
_PARAMETER = _Name("torch._utils", "_rebuild_parameter")
_SIZE = _Name("torch", "Size")
_CALLED = (_DICT, _TENSOR, _PARAMETER, _SIZE)


def read_torch(path: str | os.PathLike[str], *, dtype: DTypeLike | None = None) -> Any:
    r"""Read a file of ``torch.save``: a state dictionary of tensors, without PyTorch.

    Parameters
    ----------
    path : str or path-like
        As ``torch.save`` has written it since PyTorch 1.6, a zip archive.
    dtype : dtype, optional
        float32 or float64, to which tensors of bfloat16 are widened, exactly; NumPy does not have that type. All other
        tensors are returned in theirs.

    Returns
    -------
    dict of str to array
        In the order of the file. Of a checkpoint with more in it all of that: dictionaries, lists, tuples, numbers and
        strings, with arrays for tensors.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DomainError
        It is damaged, of the older format, or names something else than tensors and dictionaries: a whole module, an
        optimizer of another package. Nothing of it has been called then.
    DtypeError
        A tensor is of a type that NumPy does not have.

    Notes
    -----
    A pickle can call any function when it is loaded. Here it is not loaded: its instructions are read, and of functions
    only those that rebuild a tensor from its storage have a meaning. `from_torch` brings the arrays into a model.

    Examples
    --------
    >>> import tempfile, zipfile
    >>> import nnmath_core as nm
    >>> program = b"\x80\x02}X\x04\x00\x00\x00stepK\x03s."        # {"step": 3}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with zipfile.ZipFile(f"{folder}/state.pt", "w") as archive:
    ...         archive.writestr("state/data.pkl", program)
    ...     nm.nn.read_torch(f"{folder}/state.pt")
    {'step': 3}
    """
    name = os.fspath(path)
    if not os.path.exists(name):
        raise FileNotFoundError(f"read_torch: there is no file {name!r}.")
    wide = None if dtype is None else np.dtype(dtype)
    if wide is not None and wide not in (np.float32, np.float64):
        raise DtypeError(sentence("read_torch", "dtype", "float32 or float64", str(wide)))
    with open(name, "rb") as file:
        try:
            if not zipfile.is_zipfile(file):
                raise _Damage(
                    "is no zip archive, which `torch.save` writes since version 1.6. Load and save it once with a "
                    "newer PyTorch."
                )
            with zipfile.ZipFile(file) as archive:
                return _Machine(_Archive(archive, wide, os.fstat(file.fileno()).st_size)).run()
        except DtypeError as error:
            raise DtypeError(f"read_torch: {name!r} {error}") from None
        except _Damage as error:
            raise DomainError(f"read_torch: {name!r} {error}") from None
        except (
            *(ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError, OverflowError),
            *(zipfile.BadZipFile, zlib.error, RuntimeError, MemoryError, OSError),
        ) as error:
            why = (str(error).splitlines() or [""])[0] or type(error).__name__
            raise DomainError(f"read_torch: {name!r} is damaged ({why}). Use a backup.") from None


class _Archive:
    """The members of a file, and the tensors in them."""

    def __init__(self, archive: zipfile.ZipFile, wide: np.dtype[Any] | None, size: int) -> None:
        self.archive, self.wide = archive, wide
        self.left = 16 * size  # bytes of tensors, which may share their storages
        programs = [n for n in archive.namelist() if n == "data.pkl" or n.endswith("/data.pkl")]
        if len(programs) != 1:
            raise _Damage("has no single data.pkl: it was not written by `torch.save`.")
        self.folder = programs[0].removesuffix("data.pkl")
        if f"{self.folder}constants.pkl" in archive.namelist():
            raise _Damage(
                "is a TorchScript program. Save the weights alone: `torch.save(module.state_dict(), path)`."
            )
        order = "little"
        if f"{self.folder}byteorder" in archive.namelist():
            order = self.read("byteorder", 16).decode().strip()
        if order not in ("little", "big"):
            raise _Damage(f"has the unknown byte order {order!r}.")
        self.order: Literal["<", ">"] = "<" if order == "little" else ">"
        self.storages: dict[str, Array] = {}

    def read(self, member: str, limit: int) -> bytes:
        info = self.archive.getinfo(f"{self.folder}{member}")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
            raise _Damage(
                f"has the member {member!r} of {info.file_size} bytes where at most {limit}, uncompressed, are "
                "expected."
            )
        return self.archive.read(info)

    def storage(self, kind: Any, key: Any, numel: Any) -> Array:
        """Return the flat numbers of a storage: of one key the same array."""
        code = (
            _STORAGES.get(kind.name) if isinstance(kind, _Name) and kind.module == "torch" else None
        )
        if code is None:
            raise DtypeError(f"has tensors of the type {_words(kind)}, which NumPy does not have.")
        if not isinstance(key, str) or not key.isalnum() or type(numel) is not int or numel < 0:
            raise _Damage("is damaged (a storage without name or size). Use a backup.")
        if code == "bfloat16" and self.wide is None:
            raise DtypeError(
                "has tensors of the type bfloat16, which NumPy does not have. Pass `dtype=numpy.float32`, which "
                "holds every bfloat16 exactly."
            )
        raw = np.dtype("u2" if code == "bfloat16" else code).newbyteorder(self.order)
        label = f"{key} of {kind.name}"
        if label not in self.storages:
            data = self.read(f"data/{key}", 2**63)
            flat = np.frombuffer(data, raw, len(data) // raw.itemsize).astype(raw.newbyteorder("="))
            if code == "bfloat16":
                assert self.wide is not None
                flat = from_bfloat16(flat, self.wide)
            self.storages[label] = flat
        flat = self.storages[label]
        if flat.size < numel:
            raise _Damage(
                f"is damaged (storage {key} has {flat.size} of {numel} numbers). Use a backup."
            )
        return flat[:numel]

    def tensor(self, flat: Any, offset: Any, size: Any, stride: Any) -> Array:
        """Return the tensor that lies so in a storage; a copy, but for one that repeats numbers."""
        numbers = [offset, *size, *stride]
        if not all(type(n) is int and n >= 0 for n in numbers) or len(size) != len(stride):
            raise ValueError("a tensor without offset, size and stride")
        if not isinstance(flat, np.ndarray) or flat.ndim != 1:
            raise TypeError("a tensor without storage")
        if 0 in size:
            return np.empty(size, flat.dtype)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if last >= flat.size:
            raise ValueError(f"a tensor reaches to {last} of a storage of {flat.size}")
        steps = [step * flat.itemsize for step in stride]
        view: Array = np.lib.stride_tricks.as_strided(flat[offset:], size, steps, writeable=False)
        if view.size > flat.size:
            return view
        self.left -= view.nbytes
        if self.left < 0:
            raise _Damage(
                "has tensors that are together more than 16 times as large as the file. It is refused."
            )
        return np.array(view)


class _Machine:
    """The stack of a pickle, for the instructions that make data."""

    def __init__(self, archive: _Archive) -> None:
        self.archive = archive
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Return what the pickle describes."""
        program = self.archive.read("data.pkl", _PICKLE_LIMIT)
        for opcode, argument, _ in pickletools.genops(program):
            if opcode.name == "STOP":
                (made,) = self.stack
                return made
            step = _STEPS.get(opcode.name)
            if step is None:
                raise _Damage(
                    f"has the instruction {opcode.name}, which no tensors need. It is refused."
                )
            step(self, argument)
        raise EOFError("the pickle has no end")

    def marked(self) -> list[Any]:
        """Take from the stack what lies above the last mark."""
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                items = self.stack[i + 1 :]
                del self.stack[i:]
                return items
        raise IndexError("the pickle has no mark")

    def taken(self, n: int) -> list[Any]:
        """Take the last n from the stack."""
        if len(self.stack) < n:
            raise IndexError("the pickle takes more than there is")
        items = self.stack[-n:]
        del self.stack[-n:]
        return items

    def name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise TypeError("a name that is no string")
        found = _Name(module, name)
        storage = found.module == "torch" and found.name.endswith("Storage")
        if found not in _CALLED and not storage:
            raise _Damage(
                f"names {found}, and only tensors and dictionaries are read: a pickle may call anything. Save the "
                "state dictionary alone: `torch.save(module.state_dict(), path)`."
            )
        self.stack.append(found)

    def call(self) -> None:
        name, arguments = self.taken(2)
        if not isinstance(arguments, tuple):
            raise TypeError("arguments that are no tuple")
        if name == _DICT:
            (pairs,) = arguments or ([],)
            self.stack.append({})
            self.set_items([part for key, value in pairs for part in (key, value)])
        elif name == _TENSOR:
            self.stack.append(self.archive.tensor(*arguments[:4]))
        elif name == _PARAMETER:
            self.stack.append(arguments[0])
        elif name == _SIZE:
            self.stack.append(tuple(*arguments))
        else:
            raise _Damage(f"calls {_words(name)}. It is refused.")

    def persistent(self) -> None:
        (found,) = self.taken(1)
        kind, storage, key, _, numel = found
        if kind != "storage":
            raise _Damage(f"refers to {_words(kind)}, which is no storage. It is refused.")
        self.stack.append(self.archive.storage(storage, key, numel))

    def set_items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(pairs) % 2:
            raise TypeError("entries of something that is no dictionary")
        if not all(isinstance(key, str | int | float) for key in pairs[::2]):
            raise TypeError("a key that is neither a string nor a number")
        target.update(zip(pairs[::2], pairs[1::2], strict=True))

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise TypeError("items of something that is no list")
        target.extend(items)

    def build(self) -> None:
        """Attributes of a dictionary (a state dictionary has the versions of its modules): left out."""
        target, _attributes = self.taken(2)
        if not isinstance(target, dict):
            raise TypeError("attributes of something that is no dictionary")
        self.stack.append(target)


def _words(x: Any) -> str:
    """Say what something in a pickle is: of tuples in tuples the text could be as long as one likes."""
    return str(x) if isinstance(x, _Name) else describe(x)


def _push(value: Any) -> Callable[[_Machine, Any], None]:
    return lambda m, _: m.stack.append(value)


def _argument(m: _Machine, argument: Any) -> None:
    m.stack.append(argument)


def _remember(m: _Machine, index: Any) -> None:
    m.memo[int(index)] = m.stack[-1]


def _recall(m: _Machine, index: Any) -> None:
    m.stack.append(m.memo[int(index)])


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "MARK": _push(_MARK),
    "NONE": _push(None),
    "NEWTRUE": _push(True),
    "NEWFALSE": _push(False),
    "EMPTY_TUPLE": _push(()),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), _argument),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _argument),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _remember),
    "MEMOIZE": lambda m, _: _remember(m, len(m.memo)),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _recall),
    "TUPLE": lambda m, _: _argument(m, tuple(m.marked())),
    "TUPLE1": lambda m, _: _argument(m, tuple(m.taken(1))),
    "TUPLE2": lambda m, _: _argument(m, tuple(m.taken(2))),
    "TUPLE3": lambda m, _: _argument(m, tuple(m.taken(3))),
    "SETITEM": lambda m, _: m.set_items(m.taken(2)),
    "SETITEMS": lambda m, _: m.set_items(m.marked()),
    "APPEND": lambda m, _: m.extend(m.taken(1)),
    "APPENDS": lambda m, _: m.extend(m.marked()),
    "GLOBAL": lambda m, argument: m.name(*argument.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.name(*m.taken(2)),
    "REDUCE": lambda m, _: m.call(),
    "BINPERSID": lambda m, _: m.persistent(),
    "BUILD": lambda m, _: m.build(),
}
