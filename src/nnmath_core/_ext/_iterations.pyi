from collections.abc import Callable
from typing import Any, TypeAlias

from numpy import float32, float64, int64
from numpy.typing import DTypeLike, NDArray

_Array: TypeAlias = NDArray[float32] | NDArray[float64]

class _Product:
    rows: int
    cols: int
    dtype: Any
    count: int
    image: Any
    def __call__(self, x: Any) -> Any: ...

def python_product(
    function: Callable[[Any], Any], rows: int, cols: int, dtype: DTypeLike
) -> _Product: ...
def plan_product(capsule: object, scale: float = 1) -> _Product: ...
def dense_product(a: Any, turned: bool = False) -> _Product: ...
def sparse_product(data: Any, indices: Any, indptr: Any, cols: int) -> _Product: ...
def normal_product(forward: _Product, backward: _Product | None = None) -> _Product: ...
def orthonormalise(basis: _Array, rows: int, w: _Array, coefficients: _Array) -> bool: ...
def lanczos(
    product: _Product,
    basis: _Array,
    locked: int,
    stop: int,
    alpha: NDArray[float64],
    beta: NDArray[float64],
    done: NDArray[int64],
    facts: NDArray[float64],
    breakdown: float,
) -> bool: ...
def cg(
    product: _Product,
    preconditioner: _Product | None,
    x: _Array,
    r: _Array,
    z: _Array,
    p: _Array,
    q: _Array,
    numbers: NDArray[float64],
    counts: NDArray[int64],
    active: NDArray[int64],
    steps: int,
) -> int: ...
def power(
    product: _Product,
    v: _Array,
    done: NDArray[int64],
    stop: int,
    tol: float,
    facts: NDArray[float64],
) -> bool: ...
