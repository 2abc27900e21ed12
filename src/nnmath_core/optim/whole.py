"""A step over all leaves as one operation: what a step is in a Program, and one instruction in a Plan.

Its meaning is that of `Optimizer.step` leaf by leaf, in array code that can be traced: derivatives, `vmap` and devices
go by it. On the host it is the kernel of each leaf, so that a compiled step has the bits of an eager one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Aval, StageTracer, Tracer, dtype_of, shape_of
from nnmath_core.autodiff.meaning import rules_by_meaning
from nnmath_core.autodiff.primitive import Primitive
from nnmath_core.autodiff.transforms import vmap

__all__ = ["LEAVES", "is_recorded", "recorded_step"]

LEAVES = 64
"""Leaves of one operation: enough to share them evenly among threads, and few enough for a list."""


def is_recorded(numbers: Sequence[Any], rows: Sequence[Sequence[Any]]) -> bool:
    """Whether all that is traced of a step is being recorded, and nothing is differentiated or mapped."""
    kinds = {type(x) for row in (numbers, *rows) for x in row if isinstance(x, Tracer)}
    return kinds == {StageTracer}


def recorded_step(
    optimizer: Any, rate: Any, t: Any, rows: Sequence[tuple[Any, ...]]
) -> list[tuple[Any, ...]]:
    """New weights and slots of each row after step t, by an operation for every so many leaves of one dtype."""
    results: list[tuple[Any, ...]] = [()] * len(rows)
    by_dtype: dict[Any, list[int]] = {}
    for i, row in enumerate(rows):
        by_dtype.setdefault(np.dtype(row[0].dtype), []).append(i)
    for places in by_dtype.values():
        for at in range(0, len(places), LEAVES):
            some = places[at : at + LEAVES]
            leaves = [x for i in some for x in rows[i]]
            made = iter(optimizer_step(rate, t, *leaves, optimizer=optimizer))
            for i in some:
                results[i] = tuple(next(made) for _ in range(len(rows[i]) - 1))
    return results


def _rows(optimizer: Any, leaves: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Weights, gradient and slots of each leaf."""
    width = 2 + len(optimizer._slots())
    return (tuple(leaves[i : i + width]) for i in range(0, len(leaves), width))


def _forward(be: Any, rate: Any, t: Any, *leaves: Any, optimizer: Any) -> tuple[Any, ...]:
    made = [optimizer._copied_step(float(rate), int(t), *row) for row in _rows(optimizer, leaves)]
    return tuple(x for row in made for x in row)


def _meaning(rate: Any, t: Any, *leaves: Any, optimizer: Any) -> tuple[Any, ...]:
    made = [optimizer._meaning(rate, t, *row) for row in _rows(optimizer, leaves)]
    return tuple(x for row in made for x in row)


def _shape(rate: Any, t: Any, *leaves: Any, optimizer: Any) -> tuple[Any, ...]:
    rows = _rows(optimizer, leaves)
    return tuple(Aval(shape_of(row[0]), dtype_of(row[0])) for row in rows for _ in row[1:])


def _batch(on: Any, values: Any, size: int, *, optimizer: Any) -> tuple[Any, ...]:
    axes = tuple(0 if mapped else None for mapped in on)
    return tuple(vmap(lambda *xs: _meaning(*xs, optimizer=optimizer), in_axes=axes)(*values))


_jvp, _vjp = rules_by_meaning(_meaning)

optimizer_step = Primitive(
    "optimizer_step",
    forward=_forward,
    joint=True,
    vjp=(_vjp,),
    jvp=(_jvp,),
    keeps=("*",),
    shape=_shape,
    batch=_batch,
    outputs="all",
    register=False,
)
