"""Products: transposes and repetitions vanish into the labels of a contraction.

Exact but for the order in which a product sums, which is the kernel's. A repeated axis whose label the other operand
has too is not read; one that only the repeated operand has, and that is summed, stays: its sum of equal numbers rounds
otherwise than a multiplication by their count.
"""

from __future__ import annotations

from typing import Any

from nnmath_core._ext._autodiff import Var
from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.program.ir import Equation
from nnmath_core.program.passes.rewrite import Rewriter, rewrite

__all__ = ["with_products_tidied"]


def with_products_tidied(program: Any) -> tuple[Any, int]:
    """The program with products of what was not transposed or repeated, and how many changed."""
    return rewrite(program, _rule)


def _rule(r: Rewriter, e: Equation) -> Any:
    if e.primitive is REGISTRY["contract"]:
        return _contract(r, e)
    if e.primitive is REGISTRY["transpose"]:
        return _transposed(r, e)
    return None


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
