"""Sums of terms: values that are products of factors, zero off diagonals and outside of blocks, and what adds them.

A `Term` is a form (`forms`) that fills a block of an array, which is zero elsewhere. A value that descends from the
identity of a Jacobian's or a Hessian's directions is a sum of few of them: the tangent of a layer's product with a
weight ``w[j, k]`` in the direction of each of its entries ``(i, j)`` is ``x[n, i]`` on a diagonal, in the block of
that weight alone. `Sums` makes such terms, adds two that have factors in common by adding what is left of each, and
writes the array that terms stand for where somebody needs it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var
from nnmath_core.program.passes.contraction import Emission, order_of
from nnmath_core.program.passes.forms import Draft, Form, Forms, entries
from nnmath_core.program.passes.rewrite import Rewriter

__all__ = ["Factor", "Sums", "Term", "stored", "visible"]

MOST_KEPT = 4
"""Factors of a term; of more the two whose product is smallest are multiplied."""

Factor = tuple[Var, tuple[int, ...]]
"""A variable and the labels of its axes."""


@dataclass(frozen=True, slots=True)
class Term:
    """A form of ``shape``, and where it is in a larger array: of each axis that it cuts the axis, start and length."""

    form: Form
    shape: tuple[int, ...]
    at: tuple[tuple[int, int, int], ...] = ()

    @property
    def whole(self) -> tuple[int, ...]:
        """The shape of the array."""
        lengths = {a: n for a, _, n in self.at}
        return tuple(lengths.get(a, n) for a, n in enumerate(self.shape))

    def without(self, axis: int) -> Term:
        """The same where the array is no longer than it along an axis."""
        return Term(self.form, self.shape, tuple(p for p in self.at if p[0] != axis))


def stored(terms: Sequence[Term]) -> int:
    """Entries of all factors."""
    return sum(entries(v) for t in terms for v, _ in t.form.factors)


def visible(form: Form) -> list[int]:
    """The labels of a form's axes, each once."""
    return list(dict.fromkeys(c for g in form.groups for c in g))


class Sums:
    """Makes, adds and writes terms.

    Parameters
    ----------
    r : Rewriter
        What the factors that are made are written to.
    forms : Forms
        Its labels.
    ratio : float
        Two terms are added when the sum of what they do not share has at most so many times the entries of its
        largest factor.
    """

    def __init__(self, r: Rewriter, forms: Forms, ratio: float) -> None:
        self.r, self.forms, self.ratio = r, forms, ratio
        self.sizes = forms.sizes

    def volume(self, labels: Sequence[int]) -> int:
        """Entries of an array with these labels."""
        return math.prod(self.sizes[c] for c in labels)

    def laid(self, labels: Sequence[int]) -> tuple[int, ...]:
        """The labels of a factor in the order of its axes: the longest, the examples as a rule, is innermost."""
        return tuple(sorted(labels, key=self.sizes.__getitem__))

    # ------------------------------------------------------------------------------------------ one term
    def settled(self, form: Form, dtype: Any) -> Form:
        """The form with its sums done, and with few factors."""
        shown = set(visible(form))
        factors = list(form.factors)
        while True:
            hidden = [c for c in dict.fromkeys(c for _, f in factors for c in f) if c not in shown]
            if not hidden:
                break
            groups = [[f for f in factors if c in f[1]] for c in hidden]
            chosen = min(groups, key=lambda g: self.volume({c: 0 for _, f in g for c in f}))  # type: ignore[arg-type]
            factors = self._joined(factors, chosen, shown, dtype)
        for _, alike in itertools.groupby(
            sorted(factors, key=lambda f: sorted(f[1])), key=lambda f: sorted(f[1])
        ):
            same = list(alike)
            if len(same) > 1:
                factors = self._joined(factors, same, shown, dtype)
        while len(factors) > MOST_KEPT:
            pair = min(
                itertools.combinations(factors, 2),
                key=lambda p: self.volume(list(dict.fromkeys((*p[0][1], *p[1][1])))),
            )
            factors = self._joined(factors, pair, shown, dtype)
        return Form(tuple(factors), form.groups, form.scale)

    def _joined(
        self, factors: list[Factor], chosen: Sequence[Factor], shown: set[int], dtype: Any
    ) -> list[Factor]:
        """The factors with some of them multiplied, and what only these have summed."""
        rest = [f for f in factors if not any(f is g for g in chosen)]
        outside = shown.union(*(f[1] for f in rest))
        kept = self.laid(
            [c for c in dict.fromkeys(c for _, f in chosen for c in f) if c in outside]
        )
        return [*rest, (self.product(chosen, kept, 1.0, dtype), kept)]

    def product(
        self, factors: Sequence[Factor], labels: Sequence[int], scale: float, dtype: Any
    ) -> Var:
        """An array with these labels, in this order: a product of factors, summed over all other labels."""
        shape = tuple(self.sizes[c] for c in labels)
        if not factors:
            full = np.full((), scale, dtype)
            full.flags.writeable = False
            x: Var = self.r.broadcast(self.r.constant(full), shape)
            return x
        form = Form(tuple(factors), tuple((c,) for c in labels), scale)
        sizes = {c: self.sizes[c] for part in (*[f for _, f in factors], labels) for c in part}
        made: Var = Emission(self.r, (form, sizes), self.r.fresh(shape, dtype)).run(
            order_of(form, self.forms)
        )
        return made

    def on_diagonals(self, x: Any, labels: Sequence[int], axes: Sequence[int]) -> Any:
        """An array with labels as one with axes, which may have a label in several: zero off their diagonal."""
        twice = [c for c in dict.fromkeys(axes) if axes.count(c) > 1]
        if len(twice) == 1 and axes.count(twice[0]) == 2:
            return self._on_diagonal(x, labels, axes, twice[0])
        first = [axes.index(c) for c in labels]
        x = self.r.transpose(x, sorted(range(len(labels)), key=first.__getitem__))
        x = self.r.reshape(x, [self.sizes[c] if k in first else 1 for k, c in enumerate(axes)])
        full = [self.sizes[c] for c in axes]
        masks = []
        for k, c in enumerate(axes):
            if axes.index(c) < k:
                shape = [self.sizes[c] if a in (axes.index(c), k) else 1 for a in range(len(axes))]
                masks.append(np.eye(self.sizes[c], dtype=bool).reshape(shape))
        for eye in masks:
            eye.flags.writeable = False
            shape = list(np.broadcast_shapes(x.shape, eye.shape))
            x = self.r.emit("where", [self.r.constant(eye), x, 0.0], shape, x.dtype)
        return self.r.broadcast(x, full)

    def _on_diagonal(self, x: Any, labels: Sequence[int], axes: Sequence[int], c: int) -> Any:
        """The same of one label in two axes: its entries are placed, the others are zero."""
        n = self.sizes[c]
        others = [d for d in axes if d != c]
        order = [d for d in (*others, c) if d in labels]
        x = self.r.transpose(x, [list(labels).index(d) for d in order])
        lead = [self.sizes[d] if d in labels else 1 for d in others]
        x = self.r.broadcast(self.r.reshape(x, [*lead, n if c in labels else 1]), [*lead, n])
        shape = (*lead, n, n)
        x = self.r.emit("embed_diagonal", [x], shape, x.dtype, k=0, shape=shape)
        last = iter((len(others), len(others) + 1))
        x = self.r.transpose(x, [next(last) if d == c else others.index(d) for d in axes])
        return self.r.broadcast(x, [self.sizes[d] for d in axes])

    def _array(self, t: Term, dtype: Any) -> Any:
        """The block that a term fills."""
        axes = [c for g in t.form.groups for c in g]
        labels = list(dict.fromkeys(axes))
        have = [c for c in labels if any(c in f for _, f in t.form.factors)]
        if len(labels) == len(axes):
            x = self.product(t.form.factors, labels, t.form.scale, dtype)
            return self.r.reshape(x, t.shape)
        x = self.product(t.form.factors, have, t.form.scale, dtype)
        return self.r.reshape(self.on_diagonals(x, have, axes), t.shape)

    # ------------------------------------------------------------------------------------------ arrays
    def array(self, terms: Sequence[Term], shape: Sequence[int], dtype: Any) -> Any:
        """The array that terms stand for: their blocks side by side."""
        if not terms:
            return self.product((), [], 0.0, dtype) if not shape else self._zeros(shape, dtype)
        axis = min((a for t in terms for a, _, _ in t.at), default=None)
        if axis is None:
            return self._total([self._array(t, dtype) for t in terms])
        blocks: dict[tuple[int, int], list[Term]] = {}
        over = []
        for t in terms:
            start = next((s for a, s, _ in t.at if a == axis), None)
            if start is None:
                over.append(t)
            else:
                blocks.setdefault((start, t.shape[axis]), []).append(t.without(axis))
        parts, at = [], 0

        def part(of: Sequence[Term], n: int) -> Any:
            return self.array(of, [n if a == axis else m for a, m in enumerate(shape)], dtype)

        ordered = sorted(blocks)
        if any(s + n > later for (s, n), (later, _) in itertools.pairwise(ordered)):
            return self._overlapping(blocks, axis, shape, dtype, over)
        for start, n in ordered:
            if start > at:
                parts.append(part([], start - at))
            parts.append(part(blocks[start, n], n))
            at = start + n
        if at < shape[axis]:
            parts.append(part([], shape[axis] - at))
        x = self.r.emit("concatenate", parts, shape, dtype, axis=axis)
        return self._total([x, self.array(over, shape, dtype)]) if over else x

    def _overlapping(
        self,
        blocks: dict[tuple[int, int], list[Term]],
        axis: int,
        shape: Sequence[int],
        dtype: Any,
        over: list[Term],
    ) -> Any:
        parts = [self.array(over, shape, dtype)] if over else []
        for (start, n), terms in blocks.items():
            part = [n if a == axis else m for a, m in enumerate(shape)]
            index = tuple(
                slice(start, start + n) if a == axis else slice(None) for a in range(len(shape))
            )
            x = self.array(terms, part, dtype)
            parts.append(self.r.emit("unslice", [x], shape, dtype, index=index, shape=tuple(shape)))
        return self._total(parts)

    def _zeros(self, shape: Sequence[int], dtype: Any) -> Any:
        return self.r.broadcast(self.product((), [], 0.0, dtype), shape)

    def _total(self, parts: list[Any]) -> Any:
        total = parts[0]
        for x in parts[1:]:
            total = self.r.emit("add", [total, x], total.shape, total.dtype)
        return total

    # ------------------------------------------------------------------------------------------ sums
    def sum_of(self, terms: Sequence[Term], dtype: Any) -> list[Term]:
        """The terms, with those added that have enough in common."""
        found: list[Term] = []
        for t in terms:
            for k, s in enumerate(found):
                if s.at != t.at or s.shape != t.shape:
                    continue
                both = self._added(s.form, t.form, dtype)
                if both is not None:
                    found[k : k + 1] = [Term(f, t.shape, t.at) for f in both]
                    break
            else:
                found.append(t)
        return found

    def _added(self, s: Form, t: Form, dtype: Any) -> tuple[Form, ...] | None:
        """The sum of two forms as one (or none, where nothing is left); None where they have too little in common."""
        d = Draft(self.sizes)
        d.take(s, self.forms.fresh)
        d.take(t, self.forms.fresh)
        if not d.refine(self.forms.fresh):
            return None
        pairs = [
            list(zip(g, h, strict=True)) for g, h in zip(d.groups[0], d.groups[1], strict=True)
        ]
        flat = list(dict.fromkeys(p for axis in pairs for p in axis))
        name = {p: self.forms.fresh(self.sizes[p[0]]) for p in flat}
        own = [(v, tuple(f)) for v, f in d.factors]
        left, right = own[: len(s.factors)], own[len(s.factors) :]
        common: list[Factor] = []
        for f in list(left):
            for g in right:
                if f[0] is g[0] and all(p in name for p in zip(f[1], g[1], strict=True)):
                    common.append((f[0], tuple(name[p] for p in zip(f[1], g[1], strict=True))))
                    left.remove(f)
                    right.remove(g)
                    break
        sides = [_Side(left, flat, 0, name), _Side(right, flat, 1, name)]
        labels = self.laid([name[p] for p in flat if any(name[p] in side.needed for side in sides)])
        off = [c for c in labels if any(c in side.diagonal for side in sides)]
        labels = (*(c for c in labels if c not in off), *off)
        largest = max([1, *(entries(v) for v, _ in (*left, *right))])
        if self.volume(labels) > self.ratio * largest:
            return None
        scale, of_t = s.scale, t.scale / s.scale
        if abs(of_t) != 1:
            scale, scales = 1.0, (s.scale, t.scale)
        else:
            scales = (1.0, of_t)
        groups = tuple(tuple(name[p] for p in axis) for axis in pairs)
        if not labels:
            total = scale * (scales[0] + scales[1])
            return (Form(tuple(common), groups, total),) if total else ()
        x, y = (self._beside(side, labels, k, dtype) for side, k in zip(sides, scales, strict=True))
        shape = [self.sizes[c] for c in labels]
        core = self.r.emit("add", [x, y], shape, dtype)
        return (Form((*common, (core, labels)), groups, scale),)

    def _beside(self, side: _Side, labels: Sequence[int], scale: float, dtype: Any) -> Any:
        """What is left of a form, as an operand of a sum with these labels."""
        if not side.needed:
            return scale
        x = self.product(side.factors, side.have, scale, dtype)
        x = self.on_diagonals(x, side.have, side.axes)
        axes = [c for c in labels if c in side.needed]
        x = self.r.transpose(x, [side.names.index(c) for c in axes])
        return self.r.reshape(x, [self.sizes[c] if c in axes else 1 for c in labels])


class _Side:
    """What is left of one of two forms: its factors, and the labels of the sum that it is not the same along."""

    def __init__(
        self,
        factors: list[Factor],
        pairs: Sequence[tuple[int, int]],
        i: int,
        name: dict[tuple[int, int], int],
    ) -> None:
        self.factors = factors
        mine = {c for _, f in factors for c in f}
        times: dict[int, int] = {}
        for p in pairs:
            times[p[i]] = times.get(p[i], 0) + 1
        kept = [p for p in pairs if p[i] in mine or times[p[i]] > 1]
        self.axes = [p[i] for p in kept]
        self.names = [name[p] for p in kept]
        self.have = [c for c in dict.fromkeys(self.axes) if c in mine]
        self.needed = set(self.names)
        self.diagonal = {name[p] for p in kept if times[p[i]] > 1}
