"""The leaves of a function's arguments that carry a derivative, and what the core's doors make of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Tracer, dtype_of, shape_of, vjp_door
from nnmath_core._ext._tree import flatten, unflatten
from nnmath_core.autodiff.wiring import zeros

__all__ = ["carries", "is_operand", "joined", "parts", "pullback", "zero"]


def is_operand(x: Any) -> bool:
    """Whether a leaf may be an operand of a primitive; a Python integer, a string or a function is a constant."""
    if isinstance(x, (Tracer, float, complex)):
        return True
    if isinstance(x, (type, np.dtype)) or not hasattr(x, "shape"):
        return False
    return not isinstance(x, (np.integer, np.bool_))


def carries(x: Any) -> bool:
    """Whether an operand, an output or a variable of a program carries a derivative."""
    return dtype_of(x).kind in "fc"


def zero(x: Any) -> Any:
    """Zeros like an operand."""
    return zeros(x, shape_of(x), dtype_of(x))


def parts(x: Any) -> Any:
    """A complex array as a pair of real ones, since the doors of the transformations take real arguments."""
    return (np.real(x), np.imag(x)) if dtype_of(x).kind == "c" else x


def joined(x: Any, i: complex) -> Any:
    """A pair as a complex array: with ``1j`` an argument, with ``-1j`` a cotangent, by the convention of both."""
    return x[0] + i * x[1] if isinstance(x, tuple) else x


def pullback(f: Callable[..., Any], args: Any, cotangent: Any) -> Any:
    """Pull a cotangent of ``f(*args)`` back: a tree like ``args``; leaves without a derivative stay as they are."""
    leaves, d = flatten(args)
    places = [i for i, x in enumerate(leaves) if is_operand(x) and carries(x)]

    def rebuilt(xs: list[Any]) -> Any:
        full = list(leaves)
        for i, x in zip(places, xs, strict=True):
            full[i] = x
        return unflatten(d, full)

    def of_places(xs: list[Any]) -> Any:
        return f(*rebuilt([joined(x, 1j) for x in xs]))

    at = [parts(leaves[i]) for i in places]
    return rebuilt([joined(c, -1j) for c in vjp_door(of_places, (at,), False)[1](cotangent)[0]])
