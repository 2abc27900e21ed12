"""Groups of elementwise operations and reductions that the machine executes in one pass over memory.

Each node has a space, the shape that it runs over (without axes of length 1), and its operands are accesses: a buffer
with strides over that space. A node joins the group of its consumers when they read exactly the entry that it makes
(the same strides over the group's space), so that the value need not leave the registers; when it is also read
elsewhere, it is written as well. Nodes of smaller spaces, the leading axes of the group's, are values of a row.
Groups that share a producer become one, when nothing outside lies between them.

A group never waits for itself: no path leads out of it and back. That is the one rule of legality.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from nnmath_core.program.builder import Buffer, Step, View
from nnmath_core.program.nodes import Map, Reduction

__all__ = ["Access", "Group", "Node", "fused"]

MOST_NODES = 60
"""Nodes of a group, so that its registers stay in L1."""
MOST_VIEWS = 40
LONG_ROW = 1 << 17
"""Entries of a row that is read again in a later phase: it should still be in L2."""
SHARED = 1 << 14
"""Bytes of an array that is worth reading once for several groups."""
MOST_SHARING = 1 << 11
"""Entries of groups that become one for the sake of a single number that they read: it saves an instruction."""
WHOLE = 1 << 14
"""Entries of a space that may be one row: more are shared by threads."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the entries of a buffer lie, over a space."""

    view: View
    strides: tuple[int, ...]


@dataclass(eq=False, slots=True)
class Node:
    """A step that the machine can execute."""

    step: Step
    index: int
    space: tuple[int, ...]
    reads: tuple[Access, ...]
    write: Access
    folded: tuple[int, ...] | None
    """Axes of the space that a reduction folds."""

    @property
    def trailing(self) -> bool:
        """Whether it folds the last axes of its space, so that its result is a value of a row."""
        return self.folded is not None and (
            not self.folded
            or self.folded == tuple(range(len(self.space) - len(self.folded), len(self.space)))
        )


@dataclass(eq=False, slots=True)
class Group:
    """Nodes over one space; ``split`` axes of it are rows, the others columns, None: no node cares."""

    space: tuple[int, ...]
    split: int | None
    members: list[Node] = field(default_factory=list)
    over_rows: tuple[int, ...] | None = None
    """Axes that its reductions over rows fold."""

    @property
    def size(self) -> int:
        """Entries of the space."""
        return math.prod(self.space)


def node_of(step: Step, index: int) -> Node:
    """The node of a step that is one."""
    what = step.object
    shape = step.reads[0].shape if isinstance(what, Reduction) else step.writes[0].shape
    full = [_over(v, shape) for v in step.reads]
    out = step.writes[0]
    axes: tuple[int, ...] | None = None
    if isinstance(what, Reduction):
        axes = tuple(sorted(a % len(shape) for a in what.axes)) if shape else ()
        left = iter([s for n, s in zip(out.shape, out.strides, strict=True) if n != 1])
        own = tuple(0 if a in axes or n == 1 else next(left) for a, n in enumerate(shape))
    else:
        own = out.strides
    order = [a for a, n in enumerate(shape) if n != 1]
    lead = own
    if axes is not None:  # of two operands, the one that is not broadcast
        lead = max(full, key=lambda strides: sum(s != 0 for s in strides))
    order.sort(key=lambda a: -abs(lead[a]))  # as they lie in memory
    space = tuple(shape[a] for a in order)
    return Node(
        step,
        index,
        space,
        tuple(Access(v, tuple(s[a] for a in order)) for v, s in zip(step.reads, full, strict=True)),
        Access(out, tuple(own[a] for a in order)),
        None if axes is None else tuple(k for k, a in enumerate(order) if a in axes),
    )


def _over(v: View, shape: Sequence[int]) -> tuple[int, ...]:
    return v.broadcast(shape).strides


def fused(
    steps: Sequence[Step], kept: Iterable[Buffer], whole: int = WHOLE, shared: int = SHARED
) -> list[Group | Step]:
    """Steps and groups in an order in which they can run; ``kept`` buffers are read after the end.

    ``whole``: entries of the only row up to which its sum and what follows from it are one group. ``shared``: bytes of
    an array from which groups that read it become one.
    """
    return _Fusion(steps, set(kept), whole, shared).run()


class _Fusion:
    def __init__(self, steps: Sequence[Step], kept: set[Buffer], whole: int, shared: int) -> None:
        self.steps = list(steps)
        self.whole, self.shared = whole, shared
        self.kept = kept
        self.after: list[list[int]] = [[] for _ in steps]  # steps that wait for each
        self.before: list[list[int]] = [[] for _ in steps]
        self.readers: dict[Buffer, list[int]] = {}
        self._connect()
        self.nodes: dict[int, Node] = {
            i: node_of(s, i)
            for i, s in enumerate(self.steps)
            if isinstance(s.object, (Map, Reduction))
        }
        self.group: dict[int, Group] = {}

    def _connect(self) -> None:
        written: dict[Buffer, list[int]] = {}
        read: dict[Buffer, list[int]] = {}
        for i, s in enumerate(self.steps):
            wait: set[int] = set()
            for v in s.reads:
                wait.update(written.get(v.buffer, ()))
            for v in s.writes:
                wait.update(written.get(v.buffer, ()))
                wait.update(read.get(v.buffer, ()))
            for v in s.reads:
                read.setdefault(v.buffer, []).append(i)
                self.readers.setdefault(v.buffer, []).append(i)
            for v in s.writes:
                written.setdefault(v.buffer, []).append(i)
            wait.discard(i)
            self.before[i] = sorted(wait)
            for j in wait:
                self.after[j].append(i)

    def run(self) -> list[Group | Step]:
        single = self._single()
        for i in reversed(range(len(self.steps))):
            if i in self.nodes and i not in single:
                self._place(self.nodes[i])
        for i in sorted(single, reverse=True):
            # where no array is too small to be shared, as on a device, an instruction costs more than its loops
            self._place(self.nodes[i], MOST_SHARING if self.shared else math.inf)
        self._share_reads()
        return self._order()

    def _single(self) -> set[int]:
        """Nodes that make one number of single numbers, as a learning rate of the number of the step.

        They are placed last: else all that reads such a number would become one group, until it is full, before the
        producers of what is read find their place.
        """
        made = {v.buffer: i for i, s in enumerate(self.steps) for v in s.writes}
        out: set[int] = set()
        for i, n in self.nodes.items():
            if (
                n.space == ()
                and n.folded is None
                and all(a.view.buffer not in made or made[a.view.buffer] in out for a in n.reads)
            ):
                out.add(i)
        return out

    def _share_reads(self) -> None:
        """Groups that read one large array from memory become one, where nothing lies between them."""
        for buffer, readers in self.readers.items():
            if buffer.nbytes < self.shared:
                continue
            groups: list[Group] = []
            for i in readers:
                g = self.group.get(i)
                if g is None or g in groups:
                    continue
                for h in groups:
                    if self._alike(g, h) and not self._between(g, h):
                        self._unite(h, g)
                        break
                else:
                    groups.append(g)

    # ------------------------------------------------------------------------------------------ grouping
    def _place(self, n: Node, most: float = math.inf) -> None:
        """Find the node's group; those of up to ``most`` entries become one in order to share it."""
        consumers = self.readers.get(n.write.view.buffer, [])
        groups: list[Group] = []
        for c in consumers:
            g = self.group.get(c)
            if g is not None and g not in groups:
                groups.append(g)
        groups.sort(key=lambda g: -g.size)
        groups = self._merged(groups, most)
        for g in groups:
            if self._fits(n, g, consumers) and not self._circular(n.index, g):
                self._join(n, g)
                return
        g = Group(n.space, None)
        self._join(n, g)

    def _merged(self, groups: list[Group], most: float) -> list[Group]:
        """Groups that would share the node, made one where that can be."""
        out: list[Group] = []
        for g in groups:
            for h in out:
                if g.size <= most and self._alike(g, h) and not self._between(g, h):
                    self._unite(h, g)
                    break
            else:
                out.append(g)
        return out

    def _alike(self, g: Group, h: Group) -> bool:
        if g.space != h.space or len(g.members) + len(h.members) > MOST_NODES:
            return False
        if g.split is not None and h.split is not None and g.split != h.split:
            return False
        if g.over_rows is not None and h.over_rows is not None and g.over_rows != h.over_rows:
            return False
        rows = g.over_rows or h.over_rows
        split = g.split if g.split is not None else h.split
        if rows and split is not None and max(rows) >= split:
            return False
        return self._views([*g.members, *h.members]) <= MOST_VIEWS and self._readable(g, h)

    def _readable(self, g: Group, h: Group) -> bool:
        """Whether each reads what the other makes from a register."""
        for a, b in ((g, h), (h, g)):
            made = {m.write.view.buffer: m for m in a.members}
            for n in b.members:
                for r in n.reads:
                    m = made.get(r.view.buffer)
                    if m is not None and not (
                        (m.folded is None or m.trailing)
                        and r.view.offset == m.write.view.offset
                        and r.view.dtype == m.write.view.dtype
                        and self._padded(r.strides, len(g.space))
                        == self._padded(m.write.strides, len(g.space))
                    ):
                        return False
                    if m is not None and m.folded is not None:
                        columns = math.prod(g.space[len(g.space) - len(m.folded) :])
                        if columns > (WHOLE if len(m.folded) == len(g.space) else LONG_ROW):
                            return False
        return True

    def _views(self, members: Sequence[Node]) -> int:
        """How many registers move: what comes from memory and what goes there."""
        indices = {m.index for m in members}
        made = {m.write.view.buffer for m in members}
        outside = {
            x for x in made if x in self.kept or not indices.issuperset(self.readers.get(x, ()))
        }
        read = {(a.view.buffer, a.view.offset, a.strides) for m in members for a in m.reads}
        return len(outside) + sum(key[0] not in made for key in read)

    def _unite(self, h: Group, g: Group) -> None:
        h.members += g.members
        h.split = h.split if h.split is not None else g.split
        h.over_rows = h.over_rows or g.over_rows
        for n in g.members:
            self.group[n.index] = h

    def _fits(self, n: Node, g: Group, consumers: Sequence[int]) -> bool:
        """Whether members can read the node's result from a register, and the spaces agree."""
        if len(g.members) >= MOST_NODES:
            return False
        space, split = g.space, g.split
        k = len(n.space)
        if n.folded is not None and not n.trailing:
            return False
        if n.space == space and n.folded is None:
            pass
        elif n.folded is not None and n.space == space:
            k = len(space) - len(n.folded)
            if split is not None and split != k:
                return False
            columns = math.prod(space[k:])
            if columns > LONG_ROW or (k == 0 and columns > WHOLE):
                return False
            if g.over_rows and max(g.over_rows) >= k:
                return False
        elif n.folded is not None and split is None and n.space[: len(space)] == space:
            # a group of row values grows by the columns that are folded to them
            k = len(n.space) - len(n.folded)
            columns = math.prod(n.space[k:])
            most = LONG_ROW if k else self.whole
            if k != len(space) or g.over_rows or columns > most:
                return False
            space = n.space
        elif n.folded is None and k < len(space) and n.space == space[:k]:
            if split is None:
                if k and (g.over_rows is None or max(g.over_rows) < k):
                    pass
                elif k:
                    return False
            elif k > split:
                return False
            written = n.write.view.buffer in self.kept or any(
                self.group.get(c) is not g for c in consumers
            )
            if written and k != (split if split is not None else k):
                return False
            if written and k == 0:
                return False
        else:
            return False
        want = self._padded(n.write.strides, len(space))
        for c in consumers:
            if self.group.get(c) is not g:
                continue
            for a in self.nodes[c].reads:
                if a.view.buffer is n.write.view.buffer and (
                    a.view.offset != n.write.view.offset
                    or a.view.dtype != n.write.view.dtype
                    or self._padded(a.strides, len(space)) != want
                ):
                    return False
        return self._views([*g.members, n]) <= MOST_VIEWS

    @staticmethod
    def _padded(strides: tuple[int, ...], rank: int) -> tuple[int, ...]:
        return strides + (0,) * (rank - len(strides))

    def _join(self, n: Node, g: Group) -> None:
        if n.folded is not None:
            if n.trailing:
                if len(n.space) > len(g.space):
                    g.space = n.space
                g.split = len(n.space) - len(n.folded)
            else:
                g.over_rows = n.folded
        elif len(n.space) < len(g.space) and n.space and g.split is None:
            g.split = len(n.space)
        g.members.append(n)
        self.group[n.index] = g

    # ------------------------------------------------------------------------------------------ legality
    def _unit(self, i: int) -> list[int]:
        g = self.group.get(i)
        return [i] if g is None else [m.index for m in g.members]

    def _reaches(self, start: Iterable[int], goal: Group, skip: Group | None = None) -> bool:
        """Whether a path from these steps, which are outside, leads into the group."""
        stack = list(start)
        seen: set[int] = set()
        while stack:
            i = stack.pop()
            if i in seen:
                continue
            g = self.group.get(i)
            if g is goal:
                return True
            unit = self._unit(i)
            seen.update(unit)
            for m in unit:
                stack += self.after[m]
        return False

    def _circular(self, i: int, g: Group) -> bool:
        """Whether the step, inside of the group, would make it wait for itself."""
        outside = [c for c in self.after[i] if self.group.get(c) is not g]
        return self._reaches(outside, g)

    def _between(self, g: Group, h: Group) -> bool:
        """Whether something outside waits for one of the groups while the other waits for it."""
        for a, b in ((g, h), (h, g)):
            outside = [
                c
                for m in a.members
                for c in self.after[m.index]
                if self.group.get(c) is not a and self.group.get(c) is not b
            ]
            if self._reaches(outside, b):
                return True
        return False

    # ------------------------------------------------------------------------------------------ order
    def _order(self) -> list[Group | Step]:
        units: dict[int, Group | int] = {}
        place: dict[int, int] = {}
        members: dict[int, list[int]] = {}
        for i in range(len(self.steps)):
            g = self.group.get(i)
            key = i if g is None else max(m.index for m in g.members)
            place[i] = key
            units[key] = i if g is None else g
            members.setdefault(key, []).append(i)
        waiting = dict.fromkeys(units, 0)
        out_edges: dict[int, set[int]] = {k: set() for k in units}
        for i in range(len(self.steps)):
            for j in self.after[i]:
                a, b = place[i], place[j]
                if a != b and b not in out_edges[a]:
                    out_edges[a].add(b)
                    waiting[b] += 1
        ready = [k for k, n in waiting.items() if n == 0]
        ready.sort()
        order: list[Group | Step] = []
        while ready:
            k = heappop(ready)
            unit = units[k]
            if isinstance(unit, Group):
                unit.members.sort(key=lambda m: m.index)
                order.append(unit)
            else:
                order.append(self.steps[unit])
            for j in out_edges[k]:
                waiting[j] -= 1
                if waiting[j] == 0:
                    heappush(ready, j)
        assert sum(len(u.members) if isinstance(u, Group) else 1 for u in order) == len(self.steps)
        return order
