from collections.abc import Callable
from typing import Any

from numpy import bool_, float64, int64, uint8
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

class Along:
    def __init__(
        self,
        points: Points,
        x: NDArray[float64],
        d: NDArray[float64],
        ran: Callable[[int, int], None],
    ) -> None: ...
    def __call__(self, b: int, t: float) -> tuple[NDArray[float64], float]: ...
    def many(
        self, b: NDArray[int64], t: NDArray[float64]
    ) -> tuple[NDArray[float64], NDArray[float64]]: ...

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

def one_by_one(
    line: Any, b: NDArray[int64], t: NDArray[float64]
) -> tuple[NDArray[float64], NDArray[float64]]: ...
def values_on(
    line: Any, b: NDArray[int64], t: NDArray[float64]
) -> tuple[NDArray[float64], NDArray[float64]]: ...
def noise_of(
    line: Any, middle: NDArray[float64], eps: NDArray[float64], first: float
) -> NDArray[float64]: ...

class Table:
    line: Any
    middle: NDArray[float64]
    noise: NDArray[float64]
    count: int
    m: int
    first: float
    plus: list[NDArray[float64]]
    minus: list[NDArray[float64]]
    right: list[NDArray[float64]]
    left: list[NDArray[float64]]
    def __init__(
        self,
        line: Any,
        count: int,
        middle: NDArray[float64],
        noise: NDArray[float64],
        first: float,
    ) -> None: ...
    def advance(self, active: NDArray[bool_], levels: int = 1) -> None: ...
    def begin(self, most: int = 4) -> None: ...
    def round_steps(self, eps: float) -> None: ...
    def extrapolated(
        self,
        there: list[NDArray[float64]],
        other: list[NDArray[float64]],
        right: list[NDArray[float64]],
        left: list[NDArray[float64]],
        active: NDArray[bool_],
        best: NDArray[float64],
    ) -> None: ...
    def until_settled(self, most: int) -> NDArray[float64]: ...

def judge(
    given: NDArray[float64],
    expected: NDArray[float64],
    error: NDArray[float64],
    part: NDArray[float64],
    floor: NDArray[float64],
    skip: NDArray[uint8] | None,
    share: float,
    safety: float,
    tiny: float,
    numbers: NDArray[float64],
    marks: NDArray[uint8],
) -> tuple[float, int, int, int]: ...
def sizes(x: NDArray[float64], unit: NDArray[float64], out: NDArray[float64]) -> None: ...
def natural_units(
    x: NDArray[float64], starts: NDArray[int64], fraction: float, out: NDArray[float64]
) -> None: ...
