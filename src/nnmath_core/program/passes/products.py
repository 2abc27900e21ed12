"""Products: transposes and repetitions vanish into the labels of a contraction.

Exact but for the order in which a product sums, which is the kernel's. A repeated axis whose label the other operand
has too is not read; one that only the repeated operand has, and that is summed, stays: its sum of equal numbers rounds
otherwise than a multiplication by their count. Sums of products that another contraction has with its axes in another
order, or its operands exchanged, are that one transposed.
"""

from __future__ import annotations

import math
from typing import Any

from nnmath_core._ext._autodiff import Var
from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.program.ir import Equation
from nnmath_core.program.passes.rewrite import Rewriter, rewrite

__all__ = ["with_products_tidied"]

LONG = 8
"""Products in each sum of a contraction from which a transposition costs less than the contraction."""


def with_products_tidied(program: Any) -> tuple[Any, int]:
    """The program with products of what was not transposed or repeated, each made once, and how many changed."""
    return rewrite(program, _Products())


class _Products:
    """The rule, and the contractions that it has seen by what they sum."""

    def __init__(self) -> None:
        self.made: dict[Any, tuple[Var, str]] = {}  # with the labels of the axes
        self.shared: set[Var] = set()  # what is read by others than the program says

    def __call__(self, r: Rewriter, e: Equation) -> Any:
        if e.primitive is REGISTRY["contract"]:
            found = _contract(r, e)
            return self._known(r, e) if found is None else found
        if e.primitive is REGISTRY["transpose"] and e.operands[0] not in self.shared:
            found = _transposed(r, e)
            m = None if found is None else r.made_by(found, "contract")
            if m is not None:  # others with its sums are made from this one
                self._note(m.outputs[0], _sums(m))
            return found
        return None

    def _known(self, r: Rewriter, e: Equation) -> Any:
        """A contraction of the same sums before this one, transposed."""
        keys = _sums(e)
        for key, order in keys:
            if key in self.made:
                product, axes = self.made[key]
                self.shared.add(product)
                return r.transpose(product, [axes.index(c) for c in order])
        self._note(e.outputs[0], keys)
        return None

    def _note(self, product: Var, keys: list[tuple[Any, str]]) -> None:
        for key, _ in keys:
            self.made.pop(key, None)
        for key, order in keys[:1]:
            self.made[key] = product, order


def _sums(e: Equation) -> list[tuple[Any, str]]:
    """What a contraction sums, and the labels of its axes, with either operand as the first one; nothing if little."""
    (x, y), (a, b, out) = e.operands, e.params["spec"]
    if not (isinstance(x, Var) and isinstance(y, Var)) or len(set(out)) != len(out):
        return []
    length = dict(zip(a + b, x.shape + y.shape, strict=True))
    if math.prod(n for c, n in length.items() if c not in out) < LONG:
        return []
    kind, found = (e.outputs[0].dtype, e.outputs[0].weak), []
    for p, mine, q, other in ((x, a, y, b), (y, b, x, a)):
        names = {c: chr(ord("A") + k) for k, c in enumerate(dict.fromkeys(mine + other))}
        first, second, order = ("".join(map(names.__getitem__, s)) for s in (mine, other, out))
        found.append(((id(p), id(q), first, second, "".join(sorted(order)), kind), order))
    return found


def _contract(r: Rewriter, e: Equation) -> Any:
    operands, spec = list(e.operands), list(e.params["spec"])
    changed = False
    for i in (0, 1):
        while True:
            step = _without_transpose(r, operands[i], spec[i]) or _without_repetition(
                r, operands[i], spec[i], spec[1 - i]
            )
            if step is None:
                break
            (operands[i], spec[i]), changed = step, True
    if not changed:
        return None
    out = e.outputs[0]
    return r.emit("contract", operands, out.shape, out.dtype, spec=tuple(spec))


def _without_transpose(r: Rewriter, x: Any, labels: str) -> tuple[Any, str] | None:
    m = r.made_by(x, "transpose")
    if m is None or not isinstance(m.operands[0], Var):
        return None
    inner = [""] * len(labels)
    for label, a in zip(labels, m.params["axes"], strict=True):
        inner[a] = label
    return m.operands[0], "".join(inner)


def _without_repetition(r: Rewriter, x: Any, labels: str, other: str) -> tuple[Any, str] | None:
    m = r.made_by(x, "broadcast_to")
    if m is None or not isinstance(m.operands[0], Var) or m.operands[0].weak:
        return None
    y = m.operands[0]
    lead = len(labels) - y.ndim
    repeated = [
        k
        for k, n in enumerate(x.shape)
        if (k < lead or y.shape[k - lead] != n)
        and labels[k] in other
        and labels.count(labels[k]) == 1
    ]
    if not repeated:
        return None
    kept = [k for k in range(len(labels)) if k not in repeated]
    z = r.reshape(y, [y.shape[k - lead] if k >= lead else 1 for k in kept])
    return r.broadcast(z, [x.shape[k] for k in kept]), "".join(labels[k] for k in kept)


def _transposed(r: Rewriter, e: Equation) -> Any:
    """A product that is read only to be transposed is made in that order."""
    x, out = e.operands[0], e.outputs[0]
    m = r.made_by(x, "contract")
    if m is None or r.reads[x] != 1:
        return None
    a, b, o = m.params["spec"]
    spec = (a, b, "".join(o[k] for k in e.params["axes"]))
    return r.emit("contract", m.operands, out.shape, out.dtype, spec=spec)
