from typing import Any

from numpy import float64, int64, uint8
from numpy.typing import NDArray

def failure(code: int) -> Exception: ...

class Points:
    n: int
    m: int
    def __init__(
        self, capsule: Any, fixed: list[Any], order: list[int], wanted: list[int]
    ) -> None: ...
    def entries(
        self,
        x: NDArray[float64],
        which: NDArray[int64],
        values: NDArray[float64],
        out: NDArray[float64],
    ) -> int: ...
    def along(
        self,
        x: NDArray[float64],
        unit: NDArray[float64],
        d: NDArray[float64],
        rows: NDArray[int64],
        t: NDArray[float64],
        out: NDArray[float64],
    ) -> int: ...

def moves(
    x: NDArray[float64],
    unit: NDArray[float64],
    lines: NDArray[int64],
    b: NDArray[int64],
    t: NDArray[float64],
    single: NDArray[uint8],
    which: NDArray[int64],
    to: NDArray[float64],
    reached: NDArray[float64],
) -> None: ...

class Batches:
    size: int
    steps: int
    coordinates: int
    m: int
    def __init__(self, capsule: Any, lengths: tuple[int, ...], steps: int) -> None: ...
    @property
    def enough(self) -> bool: ...
    def run(
        self,
        which: NDArray[int64],
        to: NDArray[float64],
        start: int,
        stop: int,
        out: NDArray[float64],
    ) -> int: ...

def extrapolate(
    there: list[NDArray[float64]],
    other: list[NDArray[float64]],
    right: list[NDArray[float64]],
    left: list[NDArray[float64]],
    noise: NDArray[float64],
    active: NDArray[uint8],
    best: NDArray[float64],
) -> None: ...
def irregularity(
    values: NDArray[float64], sigma: NDArray[float64], equal: NDArray[int64]
) -> None: ...
def natural_units(
    x: NDArray[float64], starts: NDArray[int64], fraction: float, out: NDArray[float64]
) -> None: ...
