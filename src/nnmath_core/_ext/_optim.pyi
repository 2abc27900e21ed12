from typing import Any, TypeAlias

from numpy import float32, float64
from numpy.typing import NDArray

_Vector: TypeAlias = NDArray[float32] | NDArray[float64]

def isa() -> str: ...
def adam_step(
    w: _Vector,
    m: _Vector,
    v: _Vector,
    g: _Vector,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    c1: float,
    c2: float,
) -> None: ...
def adamw_step(
    w: _Vector,
    m: _Vector,
    v: _Vector,
    g: _Vector,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
    c1: float,
    c2: float,
) -> None: ...
def gradient_descent_step(w: _Vector, g: _Vector, lr: float) -> None: ...
def heavy_ball_step(w: _Vector, v: _Vector, g: _Vector, lr: float, momentum: float) -> None: ...
def nesterov_step(w: _Vector, v: _Vector, g: _Vector, lr: float, momentum: float) -> None: ...
def step(
    rule: int, rate: float, t: int, numbers: NDArray[float64], rows: list[tuple[Any, ...]]
) -> bool: ...
