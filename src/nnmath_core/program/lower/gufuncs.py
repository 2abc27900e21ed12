"""Loops of universal functions over stacks of matrices and rows: one instruction for all members.

A generalised ufunc (a factorisation of NumPy's, say) holds a C function for each of its type signatures, as others do;
it needs neither Python nor the GIL, and reads operands at any strides. NumPy keeps these objects in private modules:
where one has another name, or is gone, there is no loop, and the operation is done in Python.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnmath_core._ext._plan import ufunc_loop
from nnmath_core.program.builder import Builder, View, merged_axes

__all__ = ["StackLoop", "emit_stack", "refuses", "stack_loop"]

MOST_ARGS, MOST_NUMBERS = 16, 32
"""Of one loop; see plan/gufunc.c."""


@dataclass(frozen=True)
class StackLoop:
    """A C loop over the members of a stack."""

    name: str
    types: str
    address: int
    data: int
    cores: tuple[tuple[str, ...], ...]
    """For each operand and result the names of the lengths of its last axes."""
    nin: int
    lengths: tuple[str, ...] = field(init=False)
    """These names, each once, in the order in which the loop takes their values."""

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "lengths", tuple(dict.fromkeys(c for core in self.cores for c in core))
        )


def found_ufunc(module: str, *names: str) -> Any:
    """The first ufunc of these names that a module has, else None."""
    try:
        place = importlib.import_module(module)
    except ImportError:
        return None
    found = (getattr(place, name, None) for name in names)
    return next((f for f in found if isinstance(f, np.ufunc)), None)


@functools.cache
def stack_loop(module: str, types: str, *names: str) -> StackLoop | None:
    """The loop for types such as ``"dd->d"`` of the first of some ufuncs that there is."""
    ufunc = found_ufunc(module, *names)
    found = None if ufunc is None else ufunc_loop(ufunc, types)
    if ufunc is None or found is None or not found[0]:
        return None
    cores = _cores(ufunc)
    if len(cores) > MOST_ARGS or sum(map(len, cores)) > MOST_NUMBERS:
        return None
    return StackLoop(ufunc.__name__, types, *found, cores, ufunc.nin)


def _cores(ufunc: Any) -> tuple[tuple[str, ...], ...]:
    if ufunc.signature is None:
        return ((),) * int(ufunc.nin + ufunc.nout)
    sides = str(ufunc.signature).replace(" ", "").split("->")
    args = [part for side in sides for part in side[1:-1].split("),(")]
    return tuple(tuple(c for c in part.split(",") if c) for part in args)


def emit_stack(
    b: Builder,
    loop: StackLoop,
    operands: Sequence[View],
    results: Sequence[View],
    lead: Sequence[int],
    *,
    refusal: tuple[tuple[type, str], ...] = (),
    inplace: Mapping[int, View] | None = None,
    flops: float = 0.0,
    note: str = "",
) -> None:
    """Emit the instruction.

    Parameters
    ----------
    b : Builder
    loop : StackLoop
    operands, results : sequence of View
        In the dtypes of the loop. The axes before the last ones broadcast to those of the stack.
    lead : sequence of int
        Shape of the stack.
    refusal : tuple of (type of exception, message)
        What ends the run when the loop ends with a floating-point "invalid", as those of factorisations do where there
        is none.
    inplace : dict of int to View, optional
        Operands that the loop changes.
    flops : float
        Of the whole stack.
    note : str, optional
        What it computes, by default the name of the loop.
    """
    args = [*operands, *results]
    if 0 in lead:
        return
    length: dict[str, int] = {}
    own: list[int] = []
    outer = []
    for v, core in zip(args, loop.cores, strict=True):
        k = v.ndim - len(core)
        length.update(zip(core, v.shape[k:], strict=True))
        own += v.strides[k:]
        outer.append(v.at(v.offset, v.shape[:k], v.strides[:k]).broadcast(lead).strides)
    axes = merged_axes(lead, outer) or [(1, (0,) * len(args))]
    numbers = [n for count, strides in axes for n in (count, *strides)]
    b.emit(
        "gufunc", operands, [*results, *(inplace or {}).values()],
        [loop.address, loop.data, len(args), bool(refusal), len(loop.lengths), len(own),
         *(length[c] for c in loop.lengths), *own, len(axes), *numbers],
        object=refusal or None, flops=flops, note=note or loop.name,
    )  # fmt: skip


def refuses(b: Builder, flags: View, reasons: tuple[tuple[type, str], ...]) -> None:
    """End the run with an exception where integers say so: the largest above 0, k, chooses ``reasons[k - 1]``."""
    if flags.size:
        b.emit("guard", [b.contiguous(flags)], [], [flags.size], object=reasons, note="guard")


def stack_flops(n: float, *lead: int) -> float:
    """Operations of all members."""
    return float(n) * math.prod(lead)
