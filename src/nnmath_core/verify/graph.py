"""A Program as a graph in which formulas are recognised: who made a value, what it is the sum, square or mean of."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var
from nnmath_core.program import Equation, Program

__all__ = ["Graph"]

SAME = frozenset("reshape broadcast_to astype transpose slice stop_gradient positive alike".split())
"""Operations that keep the numbers they pass on."""


class Graph:
    """The equations of a program and, for each variable, the index of the one that made it."""

    def __init__(self, program: Program) -> None:
        self.equations = program.equations
        self.maker = {v: k for k, e in enumerate(program.equations) for v in e.outputs}
        self.constants = {
            v: float(np.ravel(x)[0])
            for v, x in program.constants.items()
            if getattr(x, "size", 0)
            and x.dtype.kind in "biuf"
            and bool((x == np.ravel(x)[0]).all())
        }

    def source(self, x: Any) -> Any:
        """What a value was before it was reshaped, repeated or cast."""
        while isinstance(x, Var) and x in self.maker:
            e = self.equations[self.maker[x]]
            if e.primitive.name not in SAME:
                break
            x = e.operands[0]
        return x

    def index(self, x: Any) -> int:
        """The equation that made a value; -1 for an input, a constant or a number."""
        x = self.source(x)
        return self.maker.get(x, -1) if isinstance(x, Var) else -1

    def made_by(self, x: Any, *names: str) -> Equation | None:
        """The equation that made a value, if it is one of these operations."""
        k = self.index(x)
        return self.equations[k] if k >= 0 and self.equations[k].primitive.name in names else None

    def number(self, x: Any) -> float | None:
        """The number that a value is everywhere; None when it is no constant."""
        x = self.source(x)
        if isinstance(x, Var):
            return self.constants.get(x)
        return float(x) if isinstance(x, (int, float, np.number)) else None

    def same(self, x: Any, y: Any) -> bool:
        """Whether two values are the same numbers: one variable, or the same operation on the same."""
        x, y = self.source(x), self.source(y)
        if x is y:
            return True
        if not isinstance(x, Var) or not isinstance(y, Var):
            return not isinstance(x, Var) and not isinstance(y, Var) and bool(x == y)
        a, b = self.maker.get(x, -1), self.maker.get(y, -1)
        if a < 0 or b < 0:
            return False
        p, q = self.equations[a], self.equations[b]
        return (
            p.primitive is q.primitive
            and len(p.operands) == len(q.operands)
            and len(p.outputs) == 1
            and p.params.get("axis") == q.params.get("axis")
            and all(self.same(u, v) for u, v in zip(p.operands, q.operands, strict=True))
        )

    # -------------------------------------------------------------------------------- formulas
    def pair(self, x: Any, name: str) -> tuple[Any, Any] | None:
        """The two operands of ``add``, ``multiply`` and the like."""
        e = self.made_by(x, name)
        return (e.operands[0], e.operands[1]) if e is not None else None

    def argument(self, x: Any, *names: str) -> Any:
        """The operand of ``exp``, ``log`` and the like; None when it is something else."""
        e = self.made_by(x, *names)
        return e.operands[0] if e is not None else None

    def beside(self, x: Any, name: str, number: float) -> Any:
        """U in ``number + u`` or ``u + number`` (or with another operation that commutes); None."""
        found = self.pair(x, name)
        if found is not None:
            for u, c in (found, found[::-1]):
                if self.number(c) == number and self.number(u) is None:
                    return u
        return None

    def one_plus(self, x: Any) -> Any:
        """U in ``1 + u``."""
        return self.beside(x, "add", 1.0)

    def one_minus(self, x: Any) -> Any:
        """U in ``1 - u``."""
        found = self.pair(x, "subtract")
        if found is not None and self.number(found[0]) == 1.0:
            return found[1]
        u = self.one_plus(x)
        return None if u is None else self.negated(u)

    def negated(self, x: Any) -> Any:
        """U in ``-u``."""
        u = self.argument(x, "negative")
        return u if u is not None else self.beside(x, "multiply", -1.0)

    def squared(self, x: Any) -> Any:
        """U in ``u**2``, ``u * u`` or ``np.square(u)``."""
        u = self.argument(x, "square")
        if u is not None:
            return u
        found = self.pair(x, "power")
        if found is not None and self.number(found[1]) == 2.0:
            return found[0]
        found = self.pair(x, "multiply")
        return found[0] if found is not None and self.same(*found) else None

    def rooted(self, x: Any) -> Any:
        """U in ``np.sqrt(u)`` or ``u ** 0.5``."""
        u = self.argument(x, "sqrt")
        if u is not None:
            return u
        found = self.pair(x, "power")
        return found[0] if found is not None and self.number(found[1]) == 0.5 else None

    def total(self, x: Any) -> Any:
        """U in ``u.sum()`` or a multiple of it, as a mean is."""
        u = self.argument(x, "sum", "sum_to")
        if u is not None:
            return u
        for name in ("divide", "multiply"):
            found = self.pair(x, name)
            if found is not None:
                for u, c in (found, found[::-1])[: 1 if name == "divide" else 2]:
                    if self.number(c) is not None and self.argument(u, "sum") is not None:
                        return self.argument(u, "sum")
        return None

    def logistic(self, x: Any) -> Any:
        """U in ``expit(u)``, ``1 / (1 + exp(-u))`` or ``exp(u) / (1 + exp(u))``."""
        u = self.argument(x, "expit")
        if u is not None:
            return u
        u = self.argument(x, "reciprocal")
        found = self.pair(x, "divide") if u is None else (1.0, u)
        if found is None:
            return None
        v = self.argument(self.one_plus(found[1]), "exp")
        if v is None:
            return None
        if self.number(found[0]) == 1.0:
            u = self.negated(v)
            return u if u is not None else None
        return v if self.same(self.argument(found[0], "exp"), v) else None

    def softmax(self, x: Any) -> Any:
        """U in ``exp(u) / exp(u).sum()``."""
        found = self.pair(x, "divide")
        if found is None:
            return self.argument(x, "softmax")
        u, v = self.argument(found[0], "exp"), self.argument(self.total(found[1]), "exp")
        return u if u is not None and v is not None and self.same(u, v) else None

    def between(self, root: int, names: Collection[str], depth: int) -> set[int]:
        """The root and the equations of these operations that it was made of, at most so many steps before."""
        found, front = {root}, [root]
        for _ in range(depth):
            front = [
                k
                for e in (self.equations[i] for i in front)
                for k in map(self.index, e.operands)
                if k >= 0 and k not in found and self.equations[k].primitive.name in names
            ]
            found.update(front)
        return found
