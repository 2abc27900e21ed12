"""Values that a later kernel makes again from what they were made of, instead of reading them.

A device has more arithmetic than memory traffic: what a backward pass wants of a forward pass (the parts of a GELU,
what went into a rectifier) is a few operations on an array that is there anyway. Where a kernel reads several such
values, or is the only reader of one, their operations are repeated in it, and nobody writes them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from nnmath_core.program.builder import Buffer, Step, View
from nnmath_core.program.fuse import Group, fused
from nnmath_core.program.lower.bodies import needed_steps
from nnmath_core.program.nodes import Map

__all__ = ["made_again", "units"]

MOST_COST = 150.0
"""Plain operations that an entry may take to make again."""
MOST_NODES = 48
"""Of a group with what it makes again."""
WHOLE, SHARED = 1 << 62, 0
"""Limits of fusion: a long sum has its parts, and every launch counts."""


def units(steps: Sequence[Step], kept: set[Buffer]) -> list[Group | Step]:
    """Kernels and other steps in an order in which they can run."""
    return fused(steps, kept, WHOLE, SHARED)


def made_again(steps: Sequence[Step], kept: set[Buffer]) -> list[Step]:
    """The steps with operations repeated where that moves fewer bytes, as long as it takes no more launches."""
    before = units(steps, kept)
    plan = _Repetition(steps, before, kept)
    for group in before:
        if isinstance(group, Group):
            plan.consider(group)
    if not plan.copies:
        return list(steps)
    new = needed_steps(plan.rewritten(), kept)
    return new if len(units(new, kept)) <= len(before) else list(steps)


class _Repetition:
    """Which operations are repeated for which group."""

    def __init__(
        self, steps: Sequence[Step], order: Sequence[Group | Step], kept: set[Buffer]
    ) -> None:
        self.steps, self.kept = steps, kept
        self.unit: dict[int, Any] = {}
        for u in order:
            for s in [m.step for m in u.members] if isinstance(u, Group) else [u]:
                self.unit[id(s)] = u
        self.made: dict[Buffer, list[Step]] = {}
        self.readers: dict[Buffer, list[Any]] = {}
        for s in steps:
            for w in s.writes:
                self.made.setdefault(w.buffer, []).append(s)
            for r in s.reads:
                self.readers.setdefault(r.buffer, []).append(self.unit[id(s)])
        self.copies: dict[int, list[Step]] = {}
        """By a step: copies of it, to stand behind it."""
        self.instead: dict[int, dict[Buffer, Buffer]] = {}
        """By a step: buffers that it reads in place of others."""

    def _maker(self, b: Buffer) -> Step | None:
        """The elementwise operation that makes a buffer, all of it."""
        makers = self.made.get(b, [])
        if len(makers) != 1 or not isinstance(makers[0].object, Map):
            return None
        return makers[0] if makers[0].writes[0].whole else None

    def _chain(self, b: Buffer, chain: dict[int, Step], sources: set[Buffer]) -> None:
        """Collect what makes a buffer, and what that is made of."""
        s = self._maker(b)
        if s is None:
            sources.add(b)
            return
        if id(s) in chain:
            return
        chain[id(s)] = s
        for v in s.reads:
            if v.buffer.kind == "arena":
                self._chain(v.buffer, chain, sources)
            else:
                sources.add(v.buffer)

    def consider(self, g: Group) -> None:
        """Decide what a group makes again."""
        members = {id(m.step) for m in g.members}
        read = {v.buffer for m in g.members for v in m.step.reads}
        own = {w.buffer for m in g.members for w in m.step.writes}
        outside = read - own
        found: dict[int, Step] = {}
        sources: set[Buffer] = set()
        again: list[Buffer] = []
        for b in outside:
            s = self._maker(b) if b.kind == "arena" else None
            if s is None or not isinstance(self.unit[id(s)], Group):
                continue
            chain: dict[int, Step] = {}
            new: set[Buffer] = set()
            self._chain(b, chain, new)
            cost = sum(c.object.loop.cost for c in chain.values())
            if cost <= MOST_COST and not members & chain.keys() and not new & own:
                found.update(chain)
                sources |= new
                again.append(b)
        saved = sum(b.nbytes for b in again)
        saved += sum(b.nbytes for b in again if self._only_reader(b, g))
        added = sum(b.nbytes for b in sources - (outside - set(again)))
        if not again or saved <= added or len(g.members) + len(found) > MOST_NODES:
            return
        place = {id(s): k for k, s in enumerate(self.steps)}
        moved: dict[Buffer, Buffer] = {}
        for s in sorted(found.values(), key=lambda s: place[id(s)]):
            out = s.writes[0]
            moved[out.buffer] = Buffer(out.buffer.nbytes)
            copy = dataclasses.replace(s, reads=_at(s.reads, moved), writes=_at(s.writes, moved))
            self.copies.setdefault(id(s), []).append(copy)
        wanted = {b: moved[b] for b in again}
        for m in g.members:
            self.instead.setdefault(id(m.step), {}).update(wanted)

    def _only_reader(self, b: Buffer, g: Group) -> bool:
        """Whether nobody but this group and the one that makes it reads a buffer."""
        own = self.unit[id(self.made[b][0])]
        return b not in self.kept and all(u is g or u is own for u in self.readers[b])

    def rewritten(self) -> list[Step]:
        """The steps with the repeated ones behind their originals."""
        out: list[Step] = []
        for s in self.steps:
            instead = self.instead.get(id(s))
            out.append(dataclasses.replace(s, reads=_at(s.reads, instead)) if instead else s)
            out += self.copies.get(id(s), ())
        return out


def _at(views: Sequence[View], moved: dict[Buffer, Buffer]) -> tuple[View, ...]:
    return tuple(
        dataclasses.replace(v, buffer=moved[v.buffer]) if v.buffer in moved else v for v in views
    )
