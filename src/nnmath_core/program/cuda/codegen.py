"""One CUDA kernel from a group of elementwise operations and reductions.

The group is that of the CPU's machine (`program.fuse`): nodes over one space, whose leading axes are rows and whose
trailing axes are columns. Three forms:

*Entries.* No reduction: a thread an entry. What is a value of a row is computed again by each of its threads.

*Rows.* Reductions along the columns: `lanes` threads share a row, a part of a warp where it is short, a block where it
is long. A phase walks over the columns, folds what it can and ends with a reduction among the lanes, which gives every
lane the same bits; values of the row follow; then the next phase. Block values that a later phase reads stay in
registers where the row is short, else they are made again from memory. One long row, or a few, are cut into parts.

*Sums over rows.* A block goes through a share of the rows, its lanes keep an accumulator for each of their columns, and
what the blocks have is added in the order of the blocks by the one that finishes last. So the bits depend on shapes
alone, and one launch is enough.

Sums of real numbers are accumulated in double precision. Shapes and strides are written into the text.
"""

from __future__ import annotations

from nnmath_core.program.builder import Buffer
from nnmath_core.program.cuda.entries import Entries
from nnmath_core.program.cuda.rows import Rows
from nnmath_core.program.cuda.writer import Kernel
from nnmath_core.program.fuse import Group

__all__ = ["generated"]


def generated(g: Group, outside: set[Buffer]) -> Kernel:
    """The kernel of a group; buffers of ``outside`` are read elsewhere."""
    folds = any(m.folded is not None for m in g.members)
    writer = Rows(g, outside) if folds else Entries(g, outside)
    return writer.kernel()
