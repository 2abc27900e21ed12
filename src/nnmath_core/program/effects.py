"""What a function must not do while it is recorded: change arrays that it closes over, or draw from host generators.

Either would happen once, now, and never again when the program runs.
"""

from __future__ import annotations

import functools
import types
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nnmath_core.errors import TraceError

__all__ = ["Effects"]

DEPTH = 5
"""How far functions, containers and attributes are followed."""
WHOLE = 1 << 26
"""Bytes up to which an array is compared entry by entry; of a larger one every so many entries are."""


class Effects:
    """A context in which a function is recorded; `check` raises what it should not have done."""

    def __init__(self, f: Callable[..., Any]) -> None:
        self.f = f

    def __enter__(self) -> Effects:
        self._arrays: list[tuple[str, np.ndarray, int]] = []
        self._generators: list[tuple[str, Any, Any]] = []
        seen: set[int] = set()
        for name, x in _reached(self.f, "", DEPTH, seen):
            if isinstance(x, np.ndarray):
                self._arrays.append((name, x, _sum(x)))
            else:
                self._generators.append((name, x, _state(x)))
        self._global = _state(np.random.mtrand._rand)
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def check(self) -> None:
        """Raise TraceError where the function has changed an array or drawn from a generator."""
        for name, x, before in self._arrays:
            if _sum(x) != before:
                raise TraceError(
                    f"compile: the function changes the array `{name}`, which it closes over. That happened once, "
                    "while it was recorded, and would not happen when it runs. Return the new array, or pass "
                    "it as an argument."
                )
        drawn = [name for name, x, before in self._generators if _state(x) != before]
        if _state(np.random.mtrand._rand) != self._global:
            drawn.append("np.random")
        if drawn:
            raise TraceError(
                f"compile: the function draws random numbers from `{drawn[0]}`, which would be the same in every run. "
                "Pass a key, nm.random.key(seed), and draw with nm.random.normal(key, shape); or draw outside and pass "
                "the numbers."
            )


def _sum(x: np.ndarray) -> int:
    if x.dtype.hasobject:
        return 0
    if x.nbytes > WHOLE:
        x = x.reshape(-1)[:: x.nbytes // WHOLE + 1] if x.flags.c_contiguous else x.flat[:4096]
    return zlib.crc32(np.ascontiguousarray(x).view(np.uint8).data) if x.size else 0


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.RandomState):  # it keeps the second normal number of a pair
        return repr(generator.get_state(legacy=False))
    return repr(generator.bit_generator.state)


def _reached(x: Any, name: str, depth: int, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Arrays and generators that a function can reach, with the names it knows them by."""
    if id(x) in seen or depth < 0 or isinstance(x, types.ModuleType):
        return
    seen.add(id(x))
    if isinstance(x, (np.ndarray, np.random.Generator, np.random.RandomState)):
        yield name, x
    elif isinstance(x, functools.partial):
        for i, v in enumerate((x.func, *x.args)):
            yield from _reached(v, name or f"argument {i}", depth - 1, seen)
        for k, v in x.keywords.items():
            yield from _reached(v, k, depth - 1, seen)
    elif isinstance(x, types.FunctionType):
        code = x.__code__
        for k, cell in zip(code.co_freevars, x.__closure__ or (), strict=True):
            try:
                yield from _reached(cell.cell_contents, k, depth - 1, seen)
            except ValueError:  # not bound yet
                continue
        for v in (*(x.__defaults__ or ()), *(x.__kwdefaults__ or {}).values()):
            yield from _reached(v, "a default argument", depth - 1, seen)
        for k in _names(code):
            v = x.__globals__.get(k)
            if v is not None:
                yield from _reached(v, k, depth - 1, seen)
    elif isinstance(x, types.MethodType):
        yield from _reached(x.__func__, name, depth, seen)
        yield from _reached(x.__self__, "self", depth - 1, seen)
    elif isinstance(x, dict):
        for k, v in tuple(x.items()):  # it may grow meanwhile
            yield from _reached(v, f"{name}[{k!r}]", depth - 1, seen)
    elif isinstance(x, (list, tuple)):
        for i, v in enumerate(tuple(x)):
            yield from _reached(v, f"{name}[{i}]", depth - 1, seen)
    elif callable(getattr(x, "f", None)) or hasattr(x, "__wrapped__"):
        yield from _reached(getattr(x, "__wrapped__", None) or x.f, name, depth, seen)
    elif not isinstance(x, type) and isinstance(getattr(x, "__dict__", None), dict):
        for k, v in tuple(vars(x).items()):
            yield from _reached(v, f"{name}.{k}" if name else k, depth - 1, seen)


def _names(code: types.CodeType) -> set[str]:
    """Global names in a function and in those that it defines."""
    names = set(code.co_names)
    for c in code.co_consts:
        if isinstance(c, types.CodeType):
            names |= _names(c)
    return names
