"""Freezing: what depends only on some inputs runs once, and afterwards only the rest.

A program is cut in two: equations that nothing but frozen inputs (and constants) lead to, and the others. What the
second part reads of the first are its captured arrays. Both are Plans; the first runs when it is frozen and when the
frozen values change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var
from nnmath_core.program.ir import Equation, Program

__all__ = ["cut"]


def cut(program: Program, frozen: Iterable[int]) -> tuple[Program, Program, tuple[Var, ...]]:
    """The part of a program that depends on frozen inputs alone, the rest, and the variables it reads of the first.

    Parameters
    ----------
    program : Program
    frozen : iterable of int
        Positions of leaves.

    Returns
    -------
    once, rest : Program
        ``once`` gives the values of ``passed`` for the frozen leaves; ``rest`` the result for the others, with
        ``passed`` among its constants, which are arrays that nobody has filled yet.
    passed : tuple of Var

    Notes
    -----
    Values of the first part that are cheap to make again and larger than what they are made of (broadcasts, casts of
    booleans) belong to the rest: reading them would cost more.
    """
    still = set(frozen)
    fixed = {v for i, v in enumerate(program.inputs) if i in still}
    known: set[Any] = {*fixed, *program.constants}
    first: list[Equation] = []
    second: list[Equation] = []
    for e in program.equations:
        if all(not isinstance(x, Var) or x in known for x in e.operands) and not _grows(e):
            first.append(e)
            known.update(e.outputs)
        else:
            second.append(e)
    made = {v for e in first for v in e.outputs} | fixed
    read = [x for e in second for x in e.operands if isinstance(x, Var) and x in made]
    read += [x for x in program.outputs if isinstance(x, Var) and x in made]
    passed = tuple(dict.fromkeys(read))
    needed = _needed(first, set(passed))
    once = program.replaced(
        equations=needed,
        inputs=[v for i, v in enumerate(program.inputs) if i in still],
        outputs=passed,
        constants=_read(program, needed, passed),
        name=f"{program.name}, once",
    )
    arrays = {v: np.zeros(v.shape, v.dtype) for v in passed}
    rest = program.replaced(
        equations=second,
        inputs=[v for i, v in enumerate(program.inputs) if i not in still],
        constants={**_read(program, second, program.outputs), **arrays},
        name=f"{program.name}, frozen",
    )
    return once, rest, passed


def _grows(e: Equation) -> bool:
    """Whether the result is a larger array with nothing in it that the operands have not."""
    if e.primitive.name not in ("broadcast_to", "astype", "repeat"):
        return False
    size = sum(math.prod(x.shape) * x.dtype.itemsize for x in e.operands if isinstance(x, Var))
    return sum(math.prod(v.shape) * v.dtype.itemsize for v in e.outputs) > size


def _needed(equations: list[Equation], wanted: set[Any]) -> list[Equation]:
    out = []
    for e in reversed(equations):
        if not wanted.isdisjoint(e.outputs):
            wanted.update(x for x in e.operands if isinstance(x, Var))
            out.append(e)
    return out[::-1]


def _read(program: Program, equations: list[Equation], outputs: Iterable[Any]) -> dict[Var, Any]:
    """The constants that some equations read."""
    read = {x for e in equations for x in e.operands if isinstance(x, Var)} | {
        x for x in outputs if isinstance(x, Var)
    }
    return {v: x for v, x in program.constants.items() if v in read}
