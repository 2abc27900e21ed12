"""Functions that are NumPy's or SciPy's own on plain arrays of the host, and compositions of primitives elsewhere.

So value, dtype, shape, error and warning of a call without tracers are theirs by construction.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Tracer
from nnmath_core.autodiff.ops.conventions import as_operand, implements
from nnmath_core.device import entering

__all__ = ["is_plain", "numpys", "optional", "scipys"]


def is_plain(x: Any) -> bool:
    """Whether NumPy alone can answer: no tracer and no array of a device in x, nor in a list x."""
    if type(x) in (np.ndarray, int, float, bool, complex, str, type(None)):
        return True
    if isinstance(x, (list, tuple)):
        return all(map(is_plain, x))
    return not isinstance(x, Tracer) and not hasattr(x, "__cuda_array_interface__")


def optional(*names: str) -> list[Any]:
    """The functions of NumPy of these names that the installed version has."""
    return [getattr(np, name) for name in names if hasattr(np, name)]


def numpys(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as what these NumPy functions do on tracers; on plain arrays it is the first of them."""

    def register(f: Callable[..., Any]) -> Callable[..., Any]:
        f = _of_arrays(f) if any(isinstance(g, np.ufunc) for g in functions) else f
        implements(*functions)(f)
        if not functions:  # this version of NumPy lacks it
            return f
        return _on_plain(f, lambda: functions[0])

    return register


def scipys(module: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function SciPy's of the same name on plain arrays; the module is imported when it is first asked."""

    @functools.cache
    def host(name: str) -> Callable[..., Any]:
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]

    return lambda f: _on_plain(f, lambda: host(f.__name__))


def _on_plain(f: Callable[..., Any], host: Callable[[], Any]) -> Callable[..., Any]:
    """``f``; where nothing is traced or on a device, what ``host`` returns."""
    elsewhere = entering(f)

    @functools.wraps(f)
    def call(*args: Any, **kw: Any) -> Any:
        if all(map(is_plain, args)) and all(map(is_plain, kw.values())):
            return host()(*args, **kw)
        return elsewhere(*args, **kw)

    return call


def _of_arrays(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function of operands alone, whose lists are arrays; NumPy hands a ufunc's lists over as they are."""

    @functools.wraps(f)
    def call(*operands: Any, **kw: Any) -> Any:
        return f(*map(as_operand, operands), **kw)

    return call
