"""Sums of all entries of what depends on rows, made row by row first: so they join the pass over the rows.

The gradient of a factor of all logits is such a sum, of products with the gradient of a softmax. Made in one go it
would have to wait until the products lie in memory. Rows are summed in double precision, and so are their sums. ``any``
and ``all`` likewise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nnmath_core.program import loops
from nnmath_core.program.builder import Buffer, Builder, Step, View
from nnmath_core.program.nodes import Map, Reduction

__all__ = ["with_row_sums"]

SHORTEST_ROW = 64
"""Entries of a row that is worth a sum of its own."""
FEWEST_ROWS = 8


def with_row_sums(b: Builder, steps: Sequence[Step]) -> list[Step]:
    """The steps with such sums in two."""
    made = {s.writes[0].buffer: s for s in steps if isinstance(s.object, (Map, Reduction))}
    rows = any(isinstance(s.object, Reduction) and _along(s) for s in steps)
    out: list[Step] = []
    for s in steps:
        out += (_in_two(b, s, made) if rows else None) or [s]
    return out


def _along(s: Step) -> int:
    """How many last axes a reduction folds, not all; 0: others, or all."""
    n, axes = s.reads[0].ndim, sorted(s.object.axes)
    last = list(range(n - len(axes), n))
    return len(axes) if axes == last and 0 < len(axes) < n else 0


def _in_two(b: Builder, s: Step, made: dict[Buffer, Step]) -> list[Step] | None:
    what = s.object
    if not isinstance(what, Reduction) or what.name not in ("sum", "any", "all"):
        return None
    v, out = s.reads[0], s.writes[0]
    if len(s.reads) != 1 or len(what.axes) != v.ndim or not v.whole:
        return None
    folded = _folded_rows(v, made)
    if not folded:
        return None
    lead, last = v.shape[:-folded], range(v.ndim - folded, v.ndim)
    if math.prod(v.shape[-folded:]) < SHORTEST_ROW or math.prod(lead) < FEWEST_ROWS:
        return None
    wide = np.dtype(np.float64) if v.dtype.kind == "f" else v.dtype
    first = loops.reduction(what.name, last, v.dtype, wide)
    second = loops.reduction(what.name, range(len(lead)), wide, out.dtype)
    if first is None or second is None:
        return None
    parts = b.array(lead, wide)
    return [
        Step("node", (v,), (parts,), (), (), False, first, note=what.name),
        Step("node", (parts,), (out,), (), (), False, second, note=what.name),
    ]


def _folded_rows(v: View, made: dict[Buffer, Step]) -> int:
    """How many last axes the reductions fold that an array depends on; 0: there is none over rows of its shape."""
    stack, seen = [v.buffer], {v.buffer}
    while stack:
        s = made.get(stack.pop())
        if s is None:
            continue
        if isinstance(s.object, Reduction) and s.reads[0].shape == v.shape and _along(s):
            return _along(s)
        new = {x.buffer for x in s.reads} - seen
        seen |= new
        stack += new
    return 0
