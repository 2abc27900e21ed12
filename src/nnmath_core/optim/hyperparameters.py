"""The numbers of an optimizer: their domains, and the dtype in which they meet an array.

A number may be a traced scalar, so that one can differentiate in a learning rate; it is then taken
as it is, and is a leaf of the optimizer. A float is none: it belongs to the structure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from nnmath_core._ext._autodiff import Tracer
from nnmath_core.checks import describe, require_real, sentence
from nnmath_core.errors import DtypeError

Schedule: TypeAlias = Callable[[Any], Any]
"""From the number of steps taken so far (0 at the first one) to the learning rate of the next."""


def _is_amount(x: float) -> bool:
    return 0.0 <= x < math.inf


def _is_factor(x: float) -> bool:
    return 0.0 <= x < 1.0


_DOMAINS: dict[str, tuple[Callable[[float], bool], str]] = {
    "learning_rate": (_is_amount, "a finite number >= 0"),
    "momentum": (_is_factor, "a number in [0, 1)"),
    "b1": (_is_factor, "a number in [0, 1)"),
    "b2": (_is_factor, "a number in [0, 1)"),
    "eps": (lambda x: 0.0 < x < math.inf, "a finite number > 0"),
    "weight_decay": (_is_amount, "a finite number >= 0"),
}


def require_hyperparameter(who: str, name: str, x: Any) -> Any:
    """Return a number inside the domain of this name as a float, and a traced scalar as it is.

    Raises
    ------
    DtypeError
        ``x`` is no real number.
    DomainError
        ``x`` is outside the domain.
    """
    inside, wanted = _DOMAINS[name]
    if isinstance(x, Tracer):
        if x.shape != () or x.dtype.kind != "f":
            raise DtypeError(sentence(who, name, wanted, f"a traced {describe(x)}"))
        return x
    if isinstance(x, np.ndarray) and x.shape == ():
        x = x[()]
    return require_real(who, name, x, inside, wanted)


def scalar_in(dtype: np.dtype[Any], x: Any) -> Any:
    """Return a number in ``dtype``; a Python float takes that of the array it meets by itself."""
    return x if type(x) is float else x.astype(dtype)
