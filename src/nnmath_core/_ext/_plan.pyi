from typing import Any

import numpy as np

def scipy_table() -> tuple[dict[str, Any], int]: ...
def ufunc_loop(f: np.ufunc, types: str) -> tuple[int, int] | None: ...

class Executable:
    constants: dict[int, Any]
    objects: list[Any]
    in_def: Any
    out_def: Any
    donates: bool
    def __init__(
        self,
        instructions: list[Any],
        nslots: int,
        arena: int,
        constants: dict[int, Any],
        inputs: tuple[Any, ...],
        outputs: tuple[Any, ...],
        threads: int,
        in_def: Any = None,
        out_def: Any = None,
        seconds: float = 0.0,
        nargs: int = -1,
    ) -> None: ...
    @property
    def arena(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def workspace(self) -> int: ...
    def capsule(self) -> Any: ...
    def run_split(self, leaves: list[Any], nt: int) -> list[Any] | None: ...
    def run_timed(self, leaves: list[Any], given: list[Any] | None = None) -> Any: ...

class Door:
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    def settle(self, plan: Executable) -> None: ...
    def called(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...

def execute(
    plan: Executable, leaves: list[Any], given: list[Any] | None = None
) -> list[Any] | None: ...
