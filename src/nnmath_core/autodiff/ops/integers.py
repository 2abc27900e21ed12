"""Functions of integers: bits, shifts, divisors. They carry no derivative; vmap and staging trace them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core.autodiff.ops.compare import logical_and, logical_not, logical_or, logical_xor
from nnmath_core.autodiff.ops.conventions import dtype_of
from nnmath_core.autodiff.ops.plain import numpys, optional
from nnmath_core.autodiff.primitive import Primitive, sample
from nnmath_core.errors import DtypeError

__all__ = [
    "bitwise_and",
    "bitwise_count",
    "bitwise_left_shift",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "gcd",
    "invert",
    "lcm",
]


def _of_integers(name: str, high: int = 9, second: bool = True, forward: Any = None) -> Primitive:
    """An elementwise primitive of integers; ``high`` bounds the second operand."""

    def samples(d: Any) -> Any:
        if not second:
            return [sample(d.index(40, 3, 4)), sample(d.index(9, 2))]
        return [
            sample(d.index(40, 3, 4), d.rng.integers(0, high, (3, 4))),
            sample(d.index(40, 3, 1), d.rng.integers(0, high, 4)),
        ]

    return Primitive(name, forward=forward, elementwise=True, differentiable=False, samples=samples)


def _count_forward(be: Any, x: Any) -> Any:
    if be.xp is np:
        return np.bitwise_count(x)
    x = abs(x)  # CuPy has no function of this name
    count: Any = 0
    for k in range(8 * x.dtype.itemsize):
        count = count + ((x >> k) & 1)
    return count.astype(np.uint8)


_AND, _OR, _XOR = (_of_integers(f"bitwise_{name}") for name in ("and", "or", "xor"))
_INVERT = _of_integers("invert", second=False)
_LEFT, _RIGHT = _of_integers("left_shift", 5), _of_integers("right_shift", 5)
_GCD, _LCM = _of_integers("gcd"), _of_integers("lcm")
_COUNT = _of_integers("bitwise_count", second=False, forward=_count_forward)


def _checked(name: str, p: Primitive, logical: Primitive | None = None) -> Callable[..., Any]:
    """The primitive of integers, or the one of masks; floating numbers have no bits."""

    def f(*xs: Any) -> Any:
        for x in xs:
            if dtype_of(x).kind not in "biu":
                raise DtypeError(
                    f"{name}: operands must be integers or boolean masks, got {dtype_of(x)}. "
                    "Convert them, x.astype(int), or write the condition: x > 0."
                )
        return logical(*xs) if logical and all(dtype_of(x) == np.bool_ for x in xs) else p(*xs)

    f.__name__ = f.__qualname__ = name
    f.__doc__ = f"NumPy's ``{name}``: of integers{' or masks' if logical else ''}; it carries no derivative."
    return f


bitwise_and = numpys(np.bitwise_and)(_checked("bitwise_and", _AND, logical_and))
bitwise_or = numpys(np.bitwise_or)(_checked("bitwise_or", _OR, logical_or))
bitwise_xor = numpys(np.bitwise_xor)(_checked("bitwise_xor", _XOR, logical_xor))
invert = numpys(np.invert)(_checked("invert", _INVERT, logical_not))
bitwise_left_shift = numpys(np.left_shift)(_checked("bitwise_left_shift", _LEFT))
bitwise_right_shift = numpys(np.right_shift)(_checked("bitwise_right_shift", _RIGHT))
gcd = numpys(np.gcd)(_checked("gcd", _GCD))
lcm = numpys(np.lcm)(_checked("lcm", _LCM))
bitwise_count = numpys(*optional("bitwise_count"))(_checked("bitwise_count", _COUNT))
