from collections.abc import Callable
from typing import Any, TypeAlias

from numpy import float32, float64, int64
from numpy.typing import NDArray

_Array: TypeAlias = NDArray[float32] | NDArray[float64]

def orthonormalise(basis: _Array, rows: int, w: _Array, coefficients: _Array) -> bool: ...
def run(
    product: Callable[[int], Any],
    basis: _Array,
    locked: int,
    stop: int,
    alpha: NDArray[float64],
    beta: NDArray[float64],
    coefficients: _Array,
    done: NDArray[int64],
    facts: NDArray[float64],
    breakdown: float,
) -> bool: ...
