"""What the parameters of distributions must be: checked where they are plain numbers, before anything is drawn.

Nothing is known of a traced parameter, and asking a device would wait for it: there the result is NaN, or what the
function says. NaN is in no range and out of none: it flows, as through NumPy's generator, but not into what is counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nnmath_core._ext._autodiff import dtype_of
from nnmath_core.autodiff.ops.compare import greater
from nnmath_core.autodiff.ops.plain import is_plain
from nnmath_core.autodiff.ops.select import where
from nnmath_core.checks import describe, sentence
from nnmath_core.errors import DomainError, DtypeError

__all__ = [
    "NON_NEGATIVE",
    "POSITIVE",
    "PROBABILITY",
    "REAL",
    "Domain",
    "nan_unless_positive",
    "require_order",
    "require_parameter",
]


class Domain(NamedTuple):
    """A range of numbers, in words and by what lies outside of it."""

    wanted: str
    outside: Callable[[Any], Any]


REAL = Domain("a real number", lambda x: False)
POSITIVE = Domain("positive", lambda x: np.less_equal(x, 0))
NON_NEGATIVE = Domain("at least 0", lambda x: np.less(x, 0))
PROBABILITY = Domain("in [0, 1]", lambda x: ~(np.greater_equal(x, 0) & np.less_equal(x, 1)))


def require_parameter(who: str, arg: str, x: Any, domain: Domain) -> None:
    """Refuse what is no real number, and plain numbers outside of the domain."""
    plain = is_plain(x)
    if plain and not isinstance(x, (np.ndarray, int, float)):
        x = np.asarray(x)
    if (dtype_of(x) if hasattr(x, "dtype") else np.asarray(x).dtype).kind not in "biuf":
        raise DtypeError(sentence(who, arg, "a real number or an array of them", describe(x)))
    if plain and np.any(bad := domain.outside(x)):
        got = np.asarray(x)[np.asarray(bad)].flat[0]
        raise DomainError(sentence(who, arg, domain.wanted, f"{got}"))


def require_order(who: str, low: tuple[str, Any], high: tuple[str, Any], *, strict: bool) -> None:
    """Refuse plain bounds of which the lower one is above the upper one or, if ``strict``, equal to it."""
    for arg, x in (low, high):
        require_parameter(who, arg, x, REAL)
    if not (is_plain(low[1]) and is_plain(high[1])):
        return
    a, b = np.broadcast_arrays(low[1], high[1])
    bad = a >= b if strict else a > b
    if np.any(bad):
        wanted = f"{'below' if strict else 'at most'} `{high[0]}`"
        got = f"{a[bad].flat[0]} and {b[bad].flat[0]}"
        raise DomainError(sentence(who, low[0], wanted, got))


def nan_unless_positive(y: Any, x: Any) -> Any:
    """``y`` where ``x > 0``, else NaN, in the derivative too; plain ``x`` have been checked."""
    return y if is_plain(x) else where(greater(x, 0), y, math.nan * x)
