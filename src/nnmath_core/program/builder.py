"""Instructions of a Plan in the making: views of buffers, and who reads and writes them.

A view is a piece of a buffer with a shape and byte strides. Movement of data is deferred: transposes, broadcasts,
slices are views, and whoever cannot read one asks for a contiguous copy. Where a buffer lies in memory is decided at
the end, from the instructions that use it (`program.memory`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from nnmath_core._ext._autodiff import Var
from nnmath_core.program.ir import Equation

__all__ = ["Buffer", "Builder", "Step", "View", "row_major", "whole_lines"]

Kind = Literal["arena", "input", "output", "constant", "moving", "held"]


@dataclass(eq=False, slots=True)
class Buffer:
    """Some bytes that instructions use, or the memory of an input, an output or a constant.

    ``"moving"`` is what lies elsewhere in each turn of a loop, ``"held"`` an array that a run on a device allocates.
    """

    nbytes: int
    kind: Kind = "arena"
    slot: int = 0
    offset: int = 0
    array: Any = None
    """Of a constant."""
    past: bool = False
    """A result so large that it is written past the caches, where nothing reads it."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A piece of a buffer, as an array."""

    buffer: Buffer
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    weak: bool = False
    """It is a Python number, which takes the dtype of what it meets."""

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the entries."""
        return self.size * self.dtype.itemsize

    @property
    def contiguous(self) -> bool:
        """Whether the entries lie one behind the other, the last axis innermost."""
        if 0 in self.shape:
            return True
        want = row_major(self.shape, self.dtype.itemsize)
        return all(n == 1 or s == w for n, s, w in zip(self.shape, self.strides, want, strict=True))

    @property
    def whole(self) -> bool:
        """Whether it is a contiguous array that fills its buffer."""
        return self.contiguous and self.offset == 0 and self.nbytes == self.buffer.nbytes

    def reshaped(self, shape: Sequence[int]) -> View | None:
        """The view of another shape, entries in the same order; None where strides cannot say it."""
        strides = _reshape(self.shape, self.strides, tuple(shape), self.dtype.itemsize)
        return None if strides is None else self.at(self.offset, shape, strides)

    def at(self, offset: int, shape: Sequence[int], strides: Sequence[int]) -> View:
        """Another view of the same buffer and dtype."""
        return View(self.buffer, offset, tuple(shape), tuple(strides), self.dtype, self.weak)

    def broadcast(self, shape: Sequence[int]) -> View:
        """The view broadcast to a shape."""
        lead = len(shape) - self.ndim
        strides = [0] * lead + [
            0 if n == 1 and m != 1 else s
            for n, m, s in zip(self.shape, shape[lead:], self.strides, strict=True)
        ]
        return self.at(self.offset, shape, strides)

    def transposed(self, axes: Sequence[int]) -> View:
        """The view with its axes in another order."""
        return self.at(self.offset, [self.shape[a] for a in axes], [self.strides[a] for a in axes])


@dataclass(eq=False, slots=True)
class Step:
    """One instruction before memory is laid out."""

    kind: str
    reads: tuple[View, ...]
    writes: tuple[View, ...]
    ints: tuple[int, ...]
    reals: tuple[float, ...]
    alone: bool = False
    object: Any = None
    scratch: tuple[View, ...] = ()
    inplace: tuple[tuple[int, int], ...] = ()
    """Pairs (write, read): the write may take the memory of the read, entry by entry."""
    flops: float = 0.0
    note: str = ""
    """What it computes, for `inspect`."""
    subs: tuple[tuple[Step, ...], ...] = ()
    """Of control flow: the instructions of its bodies. Its reads and writes are theirs, too."""
    turns: int = 1
    """How often the bodies run, as far as that is known."""
    free: bool = False
    """Threads may share its rows or its columns, whichever way."""


@dataclass(eq=False)
class Builder:
    """What lowering rules work with."""

    name: str
    threads: int = 1
    deterministic: bool = False
    outer: Builder | None = None
    """Of a body: the builder of what the control flow stands in."""
    steps: list[Step] = field(default_factory=list)
    views: dict[Var, View] = field(default_factory=dict)
    known: dict[Any, View] = field(default_factory=dict)
    """Results of nodes by what they compute, so that nothing is computed twice."""
    blas_only: bool = False
    """Products are left to BLAS, whose demands on strides they then meet."""
    _numbers: dict[Any, View] = field(default_factory=dict)
    _scratch: list[View] = field(default_factory=list)

    def child(self, threads: int) -> Builder:
        """A builder for a body of control flow that stands here."""
        new = Builder(self.name, threads, self.deterministic, self)
        new._numbers = self._numbers
        return new

    # ---------------------------------------------------------------------------------------- operands
    def view(self, x: Any, dtype: Any = None) -> View:
        """The view of an operand; a number becomes a constant of the given dtype, or that of its NumPy array."""
        if isinstance(x, Var):
            return self.views[x]
        dtype = np.dtype(np.result_type(x) if dtype is None else dtype)
        key = (
            type(x),
            x if x == x else "nan",
            math.copysign(1, x) if isinstance(x, float) else 0,
            dtype,
        )
        if key not in self._numbers:
            array = np.asarray(x, dtype)
            array.flags.writeable = False
            self._numbers[key] = self.constant(array)
        return self._numbers[key]

    def constant(self, x: Any) -> View:
        """The view of a captured array, whose memory the plan keeps; a read-only one never changes."""
        x = np.ascontiguousarray(x).reshape(np.shape(x))
        buffer = Buffer(x.nbytes, "constant", array=x)
        return View(buffer, 0, x.shape, row_major(x.shape, x.itemsize), x.dtype)

    def new(self, var: Var) -> View:
        """A fresh contiguous buffer for a variable."""
        view = self.array(var.shape, var.dtype)
        self.views[var] = view
        return view

    def array(self, shape: Sequence[int], dtype: Any) -> View:
        """A fresh contiguous buffer."""
        dtype = np.dtype(dtype)
        nbytes = math.prod(shape) * dtype.itemsize
        return View(Buffer(nbytes), 0, tuple(shape), row_major(shape, dtype.itemsize), dtype)

    def forget(self, views: int, known: int) -> None:
        """Take back what was defined after the first so many variables and known results."""
        for table, n in ((self.views, views), (self.known, known)):
            for key in list(table)[n:]:
                del table[key]
        self._scratch.clear()

    def define(self, var: Var, view: View) -> None:
        """Let a variable be a view of something that exists."""
        self.views[var] = view

    def scratch(self, nbytes: int) -> View:
        """Memory for the next instruction alone; it is the last of its refs, in the order of the calls."""
        view = View(Buffer(nbytes), 0, (nbytes,), (1,), np.dtype(np.uint8))
        self._scratch.append(view)
        return view

    # ---------------------------------------------------------------------------------------- instructions
    def emit(
        self,
        kind: str,
        reads: Sequence[View],
        writes: Sequence[View],
        ints: Sequence[int] = (),
        reals: Sequence[float] = (),
        *,
        alone: bool = False,
        object: Any = None,
        inplace: Sequence[tuple[int, int]] = (),
        flops: float = 0.0,
        note: str = "",
        free: bool = False,
    ) -> None:
        """Add an instruction; its refs are the reads, the writes, then the scratch asked for since the last one."""
        self.steps.append(
            Step(
                kind, tuple(reads), tuple(writes), tuple(map(int, ints)), tuple(map(float, reals)), alone, object,
                tuple(self._scratch), tuple(inplace), flops, note, free=free,
            )
        )  # fmt: skip
        self._scratch.clear()

    def contiguous(self, view: View) -> View:
        """The view itself where its entries lie one behind the other, else a copy."""
        if view.contiguous:
            return view
        copy = self.array(view.shape, view.dtype)
        self.copy(view, copy)
        return copy

    def copy(self, source: View, target: View) -> None:
        """Copy a view into another one of its shape and dtype."""
        if source.size == 0:
            return
        item, axes = (
            source.dtype.itemsize,
            merged_axes(source.shape, (source.strides, target.strides)),
        )
        axes = _turned(axes, item)
        if item == 32:  # two parts of 16 bytes
            item, axes = 16, [*axes, (2, (16, 16))]
        flat = [number for n, (a, b) in axes for number in (n, a, b)]
        self.emit("copy", [source], [target], [item, len(axes), *flat], note="copy")

    def host(self, e: Equation) -> None:
        """Run an equation by its definition, in Python."""
        operands: list[tuple[str, Any]] = []
        reads = []
        for x in e.operands:
            if isinstance(x, Var):
                view = self.views[x]
                reads.append(view)
                operands.append(("number" if view.weak else "array", None))
            else:
                operands.append(("given", x))
        writes = [self.new(v) for v in e.outputs]
        ints: list[int] = []
        for v in (*reads, *writes):
            ints += [v.dtype.num, v.ndim, *v.shape, *v.strides]
        function = e.primitive.inline or e.primitive.host
        count = len(e.outputs) if e.primitive.several else 0
        self.emit(
            "host", reads, writes, ints, alone=True, note=e.primitive.name,
            object=(function, tuple(operands), dict(e.params), count),
        )  # fmt: skip


def whole_lines(nbytes: int) -> int:
    """Bytes in whole lines of the cache."""
    return -(-nbytes // 64) * 64


def row_major(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Byte strides of a contiguous array."""
    strides = []
    for n in reversed(shape):
        strides.append(itemsize)
        itemsize *= max(n, 1)
    return tuple(reversed(strides))


def merged_axes(
    shape: Sequence[int], strides: Sequence[Sequence[int]]
) -> list[tuple[int, tuple[int, ...]]]:
    """Axes with their strides in each operand, those that lie behind each other in all of them merged."""
    axes: list[tuple[int, tuple[int, ...]]] = []
    for k, n in enumerate(shape):
        if n == 1:
            continue
        own = tuple(s[k] for s in strides)
        if axes and all(p == s * n for p, s in zip(axes[-1][1], own, strict=True)):
            axes[-1] = (axes[-1][0] * n, own)
        else:
            axes.append((n, own))
    return axes


def _turned(
    axes: list[tuple[int, tuple[int, ...]]], item: int
) -> list[tuple[int, tuple[int, ...]]]:
    """Axes of a copy, with the one along which its source lies beside the last, along which its target lies."""
    last = axes[-1][1] if len(axes) > 2 else (item, item)
    if last[1] == item != last[0]:
        for k, (_, strides) in enumerate(axes):
            if strides[0] == item:
                return [*axes[:k], *axes[k + 1 : -1], axes[k], axes[-1]]
    return axes


def _reshape(
    old: tuple[int, ...], strides: tuple[int, ...], new: tuple[int, ...], itemsize: int
) -> tuple[int, ...] | None:
    """Byte strides of the new shape over the same entries, None where a copy is needed."""
    if 0 in new:
        return row_major(new, itemsize)
    out: list[int] = []
    runs = [(n, step) for n, (step,) in merged_axes(old, (strides,))]
    k, left, inner = 0, 1, 0  # of run k, `left` entries are not used yet
    if runs:
        left, inner = runs[0]
    for n in new:
        if n == 1:
            out.append(itemsize)
            continue
        while left == 1:
            k += 1
            left, inner = runs[k]
        if left % n:
            return None
        left //= n
        out.append(inner * left)
    return tuple(out)
