"""The types that signatures of nnmath-core speak of."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "ArrayLike", "Rng", "Tree"]

Array: TypeAlias = NDArray[Any]
"""A host array (`numpy.ndarray`), a device array (`cupy.ndarray`, untyped) or a traced value."""

ArrayLike: TypeAlias = Array | float
"""An array or a Python number, which is an array of no axes."""

Tree: TypeAlias = Any
"""Nested dicts, lists, tuples, named tuples, ``None`` and dataclasses whose leaves are arrays."""

Rng: TypeAlias = np.random.Generator | int | None
"""What ``rng=`` takes: a generator, a seed, or ``None`` for a fresh one."""
