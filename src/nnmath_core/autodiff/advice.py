"""What a refusal says: the line of the user's code that asked for it, and what to write instead.

The advice follows from the expression that was being evaluated, which Python can tell exactly (a line holds many), and
from what its names mean there: ``exp`` may be that of `math`. Where there is no source, it follows from the conversion.
"""

from __future__ import annotations

import ast
import builtins
import dis
import itertools
import linecache
import os
import re
from dataclasses import dataclass
from types import FrameType, ModuleType
from typing import Any

import numpy as np

from nnmath_core._ext import _autodiff as core
from nnmath_core._ext._autodiff import Tracer
from nnmath_core.autodiff.ops.conventions import numpy_functions, ufuncs
from nnmath_core.autodiff.origin import user_frame
from nnmath_core.errors import TraceError

__all__ = [
    "MISSING_ATTRIBUTES",
    "SPARSE",
    "MissingAttribute",
    "explain",
    "missing_attributes",
    "unknown_function",
    "unknown_ufunc",
]


# -------------------------------------------------------------------------------------------- where it was asked for
@dataclass(frozen=True)
class _Site:
    """The user's frame, the expression under way in it, and the files of NumPy, SciPy and pandas in between."""

    frame: FrameType | None
    node: ast.expr | None
    storing: bool
    inside: tuple[str, ...]

    @property
    def line(self) -> str:
        """The line for the message; of a long one the expression."""
        if self.frame is None:
            return ""
        line = linecache.getline(self.frame.f_code.co_filename, self.frame.f_lineno).strip()
        if len(line) > 100 and self.node is not None:
            line = ast.unparse(self.node)
        return f" (line {self.frame.f_lineno}: {line})" if line else ""

    def meaning(self, node: ast.expr) -> Any:
        """What a name, or the attribute of a module or an array, is here; None when looking could run code."""
        if isinstance(node, ast.Name) and self.frame is not None:
            for scope in (self.frame.f_locals, self.frame.f_globals, vars(builtins)):
                if node.id in scope:
                    return scope[node.id]
        if isinstance(node, ast.Attribute):
            owner = self.meaning(node.value)
            if isinstance(
                owner, (ModuleType, np.ndarray, np.random.Generator, np.random.RandomState)
            ):
                return getattr(owner, node.attr, None)
        return None

    def is_list(self, node: ast.expr) -> bool:
        """Whether an expression is a list or a tuple."""
        displays = (ast.List, ast.Tuple, ast.ListComp, ast.GeneratorExp)
        return isinstance(node, displays) or isinstance(self.meaning(node), (list, tuple))


def _site() -> _Site:
    """The first frame outside of this package, NumPy, SciPy, pandas and the standard library."""
    frame, inside = user_frame()
    if frame is None:
        return _Site(None, None, False, inside)
    operation = dis.opname[frame.f_code.co_code[frame.f_lasti]]
    storing = operation in ("STORE_SUBSCR", "STORE_SLICE")
    return _Site(frame, _expression(frame), storing, inside)


def _expression(frame: FrameType) -> ast.expr | None:
    """The expression that a frame is evaluating, from the positions that the compiler keeps."""
    positions = itertools.islice(frame.f_code.co_positions(), frame.f_lasti // 2, None)
    first, last, start, end = next(positions, (None, None, None, None))
    if first is None or last is None or start is None or end is None:
        return None
    lines = [
        linecache.getline(frame.f_code.co_filename, k).encode() for k in range(first, last + 1)
    ]
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][start:]
    try:
        return ast.parse(b"(" + b"".join(lines) + b")", mode="eval").body
    except (SyntaxError, ValueError):
        return None


# ------------------------------------------------------------------------------------------------ refused conversions
_INTO = {
    "array": "a plain array",
    "float": "a Python float",
    "int": "a Python int",
    "complex": "a Python complex",
    "index": "an index",
}
_OTHERWISE = {
    "array": "Use NumPy functions that return new arrays.",
    "float": "Stay with arrays (np.exp(x), not math.exp(x); y = nm.at(y)[i].set(x), not y[i] = x).",
    "int": "Stay with arrays; for indices use x.astype(int), which carries no derivative.",
    "complex": "Stay with arrays.",
    "index": "Use nnmath_core.numpy.take(a, i), or nm.value_of(x) for a number without derivative.",
}


def explain(what: str, x: Any) -> str:
    """The message of a refused conversion, with the user's line and what to write instead."""
    site = _site()
    hint = _hint(what, site) or _OTHERWISE[what]
    why, number = "its derivative would be lost", ""
    if core.is_batched(x):
        why = "under vmap it stands for all examples of the batch"
    elif isinstance(core.value_of(x), Tracer):
        why = "it has no value while staging"
    elif "nm.value_of(" not in hint:
        number = " For the number without its derivative: nm.value_of(x)."
    return f"a traced value cannot become {_INTO[what]}: {why}{site.line}. {hint}{number}"


SPARSE = (
    "SciPy would convert it. A product: nnmath_core.numpy.matmul(a, x) instead of a @ x; x @ a is traced as it stands. "
    "A multiple or a product by entries: nm.SparseMatrix(a) * x. Others: a.toarray()."
)
"""SciPy's operators convert what they do not know; a tracer's, and our functions, know sparse matrices."""


def _hint(what: str, site: _Site) -> str | None:
    """What to write instead of the expression; None when it says nothing."""
    folders = [os.path.dirname(name) for name in site.inside]
    if any(re.search(r"[\\/]pandas\b", folder) for folder in folders):
        return "pandas asks for plain numbers: write a.to_numpy() in the place of its a, as in a.to_numpy() @ x."
    if any(re.search(r"[\\/]scipy[\\/]sparse\b", folder) for folder in folders):
        return SPARSE
    if any(re.search(r"[\\/]scipy[\\/]stats\b", folder) for folder in folders):
        return (
            "scipy.stats converts its arguments: write nnmath_core.stats, which has its densities."
        )
    if any(re.search(r"[\\/]numpy[\\/]ma\b", folder) for folder in folders):
        return "A masked array cannot take part in a traced computation. Fill it: a.filled(value)."
    if site.storing:
        return "Write y = nm.at(y)[i].set(x) instead of y[i] = x."
    if isinstance(site.node, ast.Call):
        return _hint_for_call(what, site, site.node) or _hint_for_scipy(folders)
    if isinstance(site.node, ast.Subscript):
        return _hint_for_index(site, site.node)
    if isinstance(site.node, ast.BinOp) and isinstance(site.node.op, ast.Mod):
        return "Write f'{x:.3f}', which prints the value."
    return None


_TRACED_PARTS = {
    "fft": "np.fft",
    "linalg": "nnmath_core.linalg",
    "signal": "nnmath_core.signal",
    "special": "nnmath_core.special",
    "stats": "nnmath_core.stats",
}


def _hint_for_scipy(folders: list[str]) -> str | None:
    """The namespace that stands for the part of SciPy that was called, the outermost of these folders."""
    parts = [found[1] for f in folders if (found := re.search(r"(?:^|[\\/])scipy[\\/](\w+)", f))]
    if not parts:
        return None
    if parts[-1] in _TRACED_PARTS:
        return (
            f"scipy.{parts[-1]} converts its arguments where it is not a ufunc: write {_TRACED_PARTS[parts[-1]]}, "
            "which has most of its functions."
        )
    return f"scipy.{parts[-1]} converts its arguments: give its function a rule, nm.custom_rule or nm.implicit_root."


_JOINING = {"stack", "concatenate", "concat", "hstack", "vstack", "dstack", "column_stack", "block"}
_CONVERTING = {"array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray"}
_ASKING_ONE = {"max", "min", "nan_to_num", "pad", "piecewise", "prod", "select", "sum", "take"}
"""Functions of NumPy that do not dispatch on all of the arguments that may be traced; those of ours do."""
_MATH = {"pow": "power", "fabs": "abs", "fsum": "sum"}


def _hint_for_call(what: str, site: _Site, call: ast.Call) -> str | None:
    text = ast.unparse(call.func)
    owner, _, name = text.rpartition(".")
    f = site.meaning(call.func)
    home = str(getattr(f, "__module__", None) or type(f).__module__)
    if home in ("math", "cmath"):
        known = _MATH.get(name, name)
        twin = getattr(np, known, None)
        if twin in ufuncs or twin in numpy_functions:
            return f"Write np.{known}(x) instead of {home}.{name}(x)."
        return f"{home}.{name} has no derivative rule: give it one with nm.custom_rule."
    if what == "int" or f in (float, complex, range):
        return None
    if re.search(r"\b(rng|random|default_rng)\b", owner) or "random" in home:
        return "Write mean + scale * rng.standard_normal(shape)."
    first = bool(call.args) and site.is_list(call.args[0]) and name != "select"
    if home.startswith("numpy") and name in _ASKING_ONE and not first:
        return f"NumPy looks for traced values in the array alone: write nnmath_core.numpy.{name}(...)."
    lists = any(map(site.is_list, call.args))
    if lists and name in _CONVERTING:
        return "Join traced values with np.stack([...]) or np.concatenate([...])."
    if name in _CONVERTING:
        return "Leave out the conversion: x is an array already."
    if name in ("full", "full_like"):
        return "Write x * np.ones(shape)."
    if name == "arange":
        return "Write start + step * np.arange(n)."
    if lists and name in _JOINING and home.startswith("numpy"):
        return f"The parts are lists themselves: join each of them, {text}([np.stack([...]), ...])."
    if lists and home.startswith("numpy"):
        return f"NumPy would convert the list: write {text}(np.stack([...]))."
    if home.startswith("scipy"):
        return _hint_for_scipy([home.replace(".", os.sep)])
    if isinstance(f, np.vectorize):
        return _INSTEAD["vectorize"]
    if home.startswith("numpy.polynomial"):
        return "Write np.polyval(c[::-1], x), whose coefficients begin with the highest power."
    if name == "dot":
        return "Write a @ x instead of a.dot(x)."
    if (
        isinstance(getattr(f, "__self__", None), np.ndarray)
        and getattr(np, name, None) in numpy_functions
    ):
        return f"Write nnmath_core.numpy.{name}(a, ...) instead of a.{name}(...)."
    return None


def _hint_for_index(site: _Site, node: ast.Subscript) -> str:
    base = type(site.meaning(node.value)).__name__
    if base == "RClass":
        return "Join traced values with np.concatenate([...])."
    if base == "CClass":
        return "Join traced values with np.column_stack([...])."
    if any(isinstance(part, ast.Slice) for part in ast.walk(node.slice)):
        return "The bounds of a slice are plain integers: choose entries with nnmath_core.numpy.take(a, i)."
    return "Index an ordinary array by a traced one with nnmath_core.numpy.take(a, i)."


# -------------------------------------------------------------------------------------------- functions without a rule
def _name(f: Any) -> str:
    return str(getattr(f, "__name__", None) or f.name)


def unknown_ufunc(ufunc: Any, xs: tuple[Any, ...], kw: dict[str, Any]) -> Any:
    """A ufunc without a row: refused by name."""
    raise TraceError(
        f"{_name(ufunc)}: this ufunc has no derivative rule. Write it with functions that have one, or give it a "
        "rule with nm.custom_rule."
    )


_IN_PLACE = {"copyto", "put", "putmask", "place", "fill_diagonal", "put_along_axis"}
_INSTEAD = {
    "full": "Write x * np.ones(shape).",
    "vectorize": "Write the function with array operations, or use nm.vmap.",
}
_PRINTING = {"array_repr", "array_str", "array2string", "save", "savez", "savetxt"}


def unknown_function(func: Any, args: tuple[Any, ...]) -> Any:
    """A NumPy function without a row."""
    name = getattr(func, "__name__", str(func))
    inside = [part for part in ("linalg", "fft") if part in getattr(func, "__module__", "")]
    shown = ".".join(["np", *inside, name])
    if name in _IN_PLACE:
        node = _site().node
        caller = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        instead = "Write y = nm.at(y)[i].set(x), or np.where(mask, x, y)."
        if caller.endswith((".full", ".full_like")):
            shown, instead = caller, "Write x * np.ones(shape)."
        raise TraceError(
            f"{shown} writes a traced value into an ordinary array: its derivative would be lost. {instead}"
        )
    if name in _PRINTING:
        raise TraceError(
            f"{shown}: a traced value has no plain form. Use nm.value_of(x) for the number."
        )
    if name in _INSTEAD:
        raise TraceError(f"{shown} cannot be traced. {_INSTEAD[name]}")
    raise TraceError(
        f"{shown} cannot be traced. Write it with functions that can, or give it a rule with nm.custom_rule."
    )


# ------------------------------------------------------------------------------------------------ attributes of ndarray
class MissingAttribute(TraceError, AttributeError):
    """An attribute of ndarray that a tracer lacks; ``hasattr`` says so."""


_MEMORY = "Ask its value: nm.value_of(x).{}."
_SHARED = "It would share memory that has lost its derivative. For the number: nm.value_of(x)."
MISSING_ATTRIBUTES = {
    "__dlpack__": _SHARED,
    "__dlpack_device__": _SHARED,
    "base": _MEMORY,
    "byteswap": "Convert the array before it is traced.",
    "ctypes": _MEMORY,
    "data": _MEMORY,
    "dump": _MEMORY,
    "dumps": _MEMORY,
    "fill": "It cannot be written into. Write x = np.full_like(x, value).",
    "flags": _MEMORY,
    "flat": "Write x.ravel() to read, x = nm.at(x.ravel())[i].set(v).reshape(x.shape) to write.",
    "getfield": "Write x.astype(dtype) to convert.",
    "partition": "Write x = np.sort(x).",
    "put": "It cannot be written into. Write x = nm.at(x.ravel())[i].set(v).reshape(x.shape).",
    "resize": "Write x.ravel()[:n].reshape(shape), or np.pad(x, ...) to make it longer.",
    "setfield": "It cannot be written into. Write x = nm.at(x)[i].set(v).",
    "setflags": _MEMORY,
    "strides": _MEMORY,
    "tobytes": _MEMORY,
    "tostring": _MEMORY,  # gone since NumPy 2.3
    "tofile": _MEMORY,
    "view": "Write x[...] for a view, x.astype(dtype) for another dtype.",
}
"""The attributes of ndarray that a tracer lacks, and what to write instead."""


def missing_attributes() -> dict[str, property]:
    """What a tracer has in the place of each of ndarray's attributes that it lacks."""

    def missing(name: str, advice: str) -> property:
        def refuse(self: Tracer) -> Any:
            raise MissingAttribute(f"a traced array has no `{name}`. {advice.format(name)}")

        return property(refuse)

    return {name: missing(name, advice) for name, advice in MISSING_ATTRIBUTES.items()}
