from typing import TypeAlias

from numpy import float32, float64
from numpy.typing import NDArray

_Array: TypeAlias = NDArray[float32] | NDArray[float64]

def matmul(
    a: _Array,
    b: _Array,
    out: _Array,
    alpha: float = 1,
    beta: float = 0,
    ta: bool = False,
    tb: bool = False,
) -> None: ...
def matvec(
    a: _Array,
    x: _Array,
    out: _Array,
    alpha: float = 1,
    beta: float = 0,
    ta: bool = False,
) -> None: ...
def inner(x: _Array, y: _Array) -> float: ...
def add_scaled(alpha: float, x: _Array, y: _Array) -> None: ...
def norm(x: _Array) -> float: ...
def scale(alpha: float, x: _Array) -> None: ...
