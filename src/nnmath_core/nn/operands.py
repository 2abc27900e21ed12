"""What layers and activations take: real arrays, and complex ones where NumPy would."""

from typing import Any

import numpy as np

from nnmath_core.checks import describe, require_float, sentence
from nnmath_core.errors import DomainError, DtypeError
from nnmath_core.typing import Array

_COMPLEX = (np.dtype(np.complex64), np.dtype(np.complex128))


def require_operand(who: str, arg: str, x: Any) -> Array:
    """Return ``x`` as a float32 or float64 array; complex passes, for checks by complex steps.

    Raises
    ------
    DtypeError
        ``x`` is no array or has elements of another type.
    """
    dtype = getattr(x, "dtype", None)
    if dtype is not None and dtype in _COMPLEX and not isinstance(x, np.ma.MaskedArray):
        return x  # type: ignore[no-any-return]
    return require_float(who, arg, x)


def require_operand_of(who: str, arg: str, x: Any, dtype: np.dtype[Any], owner: str) -> Array:
    """Return ``x`` as an operand of the dtype that ``owner`` has; complex meets any.

    Raises
    ------
    DtypeError
        ``x`` is no operand, or its product with the other would promote one of the two.
    """
    if getattr(getattr(x, "dtype", None), "kind", "") in ("b", "i", "u"):
        advice = f"Convert it: `{arg}.astype({dtype})`, as `{owner}` is."
        raise DtypeError(sentence(who, arg, "a float32 or float64 array", describe(x), advice))
    operand = require_operand(who, arg, x)
    if operand.dtype != dtype and operand.dtype.kind != "c" and dtype.kind != "c":
        advice = f"Nothing is converted in silence: `{arg}.astype({dtype})`."
        raise DtypeError(sentence(who, arg, f"{dtype} as `{owner}` is", str(operand.dtype), advice))
    return operand


def require_axes(who: str, arg: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """Return axes of ``arg``, which has ``ndim``, as sorted distinct integers >= 0; None is all of them.

    Raises
    ------
    DtypeError
        ``axis`` is no integer and no tuple of integers.
    DomainError
        An axis does not exist, or is named twice.
    """
    given = tuple(range(ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    for a in given:
        if isinstance(a, bool) or not isinstance(a, int | np.integer):
            raise DtypeError(sentence(who, "axis", "an integer or a tuple of them", describe(a)))
    axes = sorted({int(a) % ndim for a in given if -ndim <= a < ndim})
    if len(axes) < len(given):
        wanted = f"distinct axes of `{arg}`, which has {ndim}"
        raise DomainError(sentence(who, "axis", wanted, str(axis)))
    return tuple(axes)
