"""In which order to multiply the factors of a product: exact search over all pair orders, greedy for very many factors.

Every set of factors has one result, so the cheapest way to it is the cheapest pair of ways to two halves of it (dynamic
programming over subsets, 3**n steps). A pair costs its operations and the bytes that it reads and writes. A label that
only one factor has, and that is summed, is summed first. Products that nobody asks for in one array (outer products)
stay factors, because no cheap order makes them.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nnmath_core.program.cost import EquationCost

__all__ = ["Order", "best_order"]

MOST_EXACT = 9
"""Factors of an exact search: 3**9 pairs are a few hundredths of a second."""


@dataclass(frozen=True, slots=True)
class Order:
    """A way to make a product: an index of a factor, or a pair of ways, and what it costs."""

    tree: Any
    cost: EquationCost


def best_order(
    factors: Sequence[Sequence[int]], out: Sequence[int], sizes: dict[int, int], itemsize: int
) -> Order:
    """The cheapest order of a product.

    Parameters
    ----------
    factors : sequence of sequence of int
        Labels of each factor.
    out : sequence of int
        Labels of the product; all others are summed.
    sizes : dict
        Label -> length.
    itemsize : int
        Bytes of an entry.

    Returns
    -------
    Order
    """
    names = list(dict.fromkeys(c for labels in factors for c in labels))
    bit = {c: 1 << k for k, c in enumerate(names)}
    masks = tuple(sum(bit[c] for c in labels) for labels in factors)
    asked = sum(bit[c] for c in out if c in bit)
    return _found(masks, asked, tuple(sizes[c] for c in names), itemsize)


@functools.lru_cache(maxsize=4096)
def _found(masks: tuple[int, ...], out: int, lengths: tuple[int, ...], itemsize: int) -> Order:
    """The cheapest order, by masks of labels: a long program asks for few products, each very often."""
    return _Search(masks, out, lengths, itemsize).run()


class _Search:
    def __init__(
        self, masks: tuple[int, ...], out: int, lengths: tuple[int, ...], itemsize: int
    ) -> None:
        self.masks, self.out, self.lengths, self.itemsize = masks, out, lengths, itemsize
        self.n = len(masks)
        self._volumes: dict[int, int] = {0: 1}
        self._unions: dict[int, int] = {0: 0}

    def volume(self, mask: int) -> int:
        """Number of entries of an array with these labels."""
        known = self._volumes.get(mask)
        if known is None:
            low = mask & -mask
            known = self._volumes[mask] = self.lengths[low.bit_length() - 1] * self.volume(
                mask ^ low
            )
        return known

    def union(self, s: int) -> int:
        """The labels of a set of factors."""
        known = self._unions.get(s)
        if known is None:
            low = s & -s
            known = self._unions[s] = self.masks[low.bit_length() - 1] | self.union(s ^ low)
        return known

    def labels(self, s: int) -> int:
        """The labels of the product of a set: those that are read outside of it."""
        return self.union(s) & (self.union(((1 << self.n) - 1) ^ s) | self.out)

    def single(self, i: int) -> EquationCost:
        """The cost of a factor: of summing its own labels."""
        mine = self.labels(1 << i)
        if mine == self.masks[i]:
            return EquationCost()
        volume = self.volume(self.masks[i])
        return EquationCost(float(volume), float((volume + self.volume(mine)) * self.itemsize), 1)

    def pair(self, a: int, b: int, whole: int) -> EquationCost:
        """The cost of a product of two products, by their labels and its own."""
        both = a | b
        flops = (1 if both == whole else 2) * self.volume(both)
        moved = self.volume(a) + self.volume(b) + self.volume(whole)
        return EquationCost(float(flops), float(moved * self.itemsize), 1)

    def run(self) -> Order:
        return self.exact() if self.n <= MOST_EXACT else self.greedy()

    def exact(self) -> Order:
        best: dict[int, Order] = {1 << i: Order(i, self.single(i)) for i in range(self.n)}
        seconds = {s: o.cost.seconds for s, o in best.items()}
        for k in range(2, self.n + 1):
            for chosen in itertools.combinations(range(self.n), k):
                s = sum(1 << i for i in chosen)
                whole, first = self.labels(s), 1 << chosen[0]
                rest = s ^ first
                found: tuple[float, int] | None = None
                part = rest
                while part:  # the half without the first factor; each pair of halves once
                    other = s ^ part
                    time = seconds[part] + seconds[other]
                    if found is None or time < found[0]:
                        time += self.pair(self.labels(part), self.labels(other), whole).seconds
                        if found is None or time < found[0]:
                            found = time, part
                    part = (part - 1) & rest
                assert found is not None
                a, b = s ^ found[1], found[1]
                cost = (
                    best[a].cost + best[b].cost + self.pair(self.labels(a), self.labels(b), whole)
                )
                best[s], seconds[s] = Order((best[a].tree, best[b].tree), cost), found[0]
        return best[(1 << self.n) - 1]

    def greedy(self) -> Order:
        """Again and again the pair whose product is cheapest for what it takes away."""
        parts = {1 << i: Order(i, self.single(i)) for i in range(self.n)}
        while len(parts) > 1:

            def gain(p: tuple[int, int]) -> float:
                a, b, whole = self.labels(p[0]), self.labels(p[1]), self.labels(p[0] | p[1])
                freed = (self.volume(a) + self.volume(b)) * self.itemsize / 1e10
                return self.pair(a, b, whole).seconds - freed

            a, b = min(itertools.combinations(parts, 2), key=gain)
            cost = (
                parts[a].cost
                + parts[b].cost
                + self.pair(self.labels(a), self.labels(b), self.labels(a | b))
            )
            parts[a | b] = Order((parts.pop(a).tree, parts.pop(b).tree), cost)
        return next(iter(parts.values()))
