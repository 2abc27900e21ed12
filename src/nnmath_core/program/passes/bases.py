"""Directions of Jacobians and Hessians stay products of factors: what descends from an identity is not multiplied out.

A Jacobian in forward mode pushes a basis through the program, a Hessian does so through a gradient. The basis is a
captured array: for each leaf an identity in the rows of its own entries and zeros in the others'. So a value with an
axis of directions is a sum of terms (`terms`), each in the block of one leaf: outer products, on diagonals. This pass
reads the equations in order and makes the terms of what they make; sums, products with other values, selections by
their masks and shape operations keep terms. What is not linear in a value, or not known here, gets the array.

Equal to rounding, but for what the zeros of a basis would make of infinities: they are not multiplied. And a factor
that stays outside of a selection is not selected: where the input of a layer is infinite, entries may be NaN that are
0 as written (the layer's own gradient has the same product of the infinity with the selected zero). `optimize` keeps
the result only where the program as a whole costs less.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var, shape_of
from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.program.ir import Equation
from nnmath_core.program.passes.forms import Form, Forms, entries
from nnmath_core.program.passes.rewrite import Rewriter, value_of_constant
from nnmath_core.program.passes.terms import Factor, Sums, Term, stored, visible

__all__ = ["with_bases_apart"]

MOST_TERMS = 4
"""Of one block."""
MOST_BLOCKS = 400
MOST_EQUATIONS = 4000
"""Of the new program: a pass takes its time for each, and a network of very many layers stays as written."""
LEAST_DIRECTIONS = 4
LARGEST = 1 << 24
"""Entries of a captured array that is looked at."""


def with_bases_apart(program: Any, ratio: float = 8.0) -> tuple[Any, str]:
    """The program with what descends from bases as sums of products, and a sentence of what stayed one (or "").

    Parameters
    ----------
    program : Program
    ratio : float, default 8
        Two terms become one when their sum has at most so many times the entries of the largest factor of either.
    """
    forms = Forms({}, lambda v: False, {})
    bases = {}
    for v in program.constants:
        array = value_of_constant(v, program.constants)
        if array is not None and array.ndim >= 2 and array.dtype.kind == "f":
            t = _basis(array, forms)
            if t is not None:
                bases[v] = t
    return _Apart(program, forms, bases, ratio).run() if bases else (program, "")


def _basis(array: np.ndarray[Any, Any], forms: Forms) -> Term | None:
    """An identity (or one number times it) as a term: in a block of zeros, its rows repeated, its columns several axes.

    Row q * m + r (or r * k + q, of k * m rows) has its number in column r, for all q; the axes after the first are the
    columns, in any order, but for those along which the array repeats itself.
    """
    n, full = array.shape[0], array.shape
    if n < LEAST_DIRECTIONS or array.size > LARGEST or not array.size:
        return None
    if any(2 * np.count_nonzero(array[k]) > array[k].size > 1 for k in (0, n // 2, n - 1)):
        return None  # most arrays, at once
    alike = [k for k in range(1, array.ndim) if full[k] > 1 and _repeats(array, k)]
    for k in alike:
        array = array.take([0], axis=k)
    at = np.flatnonzero(array)
    if not 0 < len(at) <= n or np.any(array.reshape(-1)[at] != array.reshape(-1)[at[0]]):
        return None
    index = np.unravel_index(at, array.shape)
    low = [int(i.min()) for i in index]
    shape = tuple(int(i.max()) + 1 - a for i, a in zip(index, low, strict=True))
    rows, columns = shape[0], math.prod(shape[1:])
    number = array.reshape(-1)[at[0]].item()
    if rows != len(at) or rows % columns or columns == 1 or not Forms.plain(number):
        return None
    repeated = rows // columns
    for order in itertools.permutations(range(1, array.ndim)):
        column = np.ravel_multi_index([index[k] - low[k] for k in order], [shape[k] for k in order])
        row = np.arange(rows)
        inner = bool(np.all(column == row % columns))
        if not inner and not np.all(column == row // repeated):
            continue
        paired = forms.paired((columns, *(shape[k] for k in order)), 1)
        if paired is None:
            return None
        again = (forms.fresh(repeated),) if repeated > 1 else ()
        groups = [(*again, *paired[0]) if inner else (*paired[0], *again)]
        groups += [
            (forms.fresh(full[k]),) if k in alike else paired[1 + order.index(k)]
            for k in range(1, array.ndim)
        ]
        cut = tuple((k, low[k], whole) for k, whole in enumerate(array.shape) if whole != shape[k])
        shape = tuple(full[k] if k in alike else m for k, m in enumerate(shape))
        return Term(Form((), tuple(groups), number), shape, cut)
    return None


def _repeats(array: np.ndarray[Any, Any], axis: int) -> bool:
    """Whether an array is the same at all places of an axis."""
    first = array.take([0], axis=axis)
    return bool(np.array_equal(first, array.take([1], axis=axis)) and np.all(array == first))


class _Apart:
    """One run over a program."""

    def __init__(self, program: Any, forms: Forms, bases: dict[Var, Term], ratio: float) -> None:
        self.program, self.forms = program, forms
        self.r = Rewriter(program)
        self.sums = Sums(self.r, forms, ratio)
        self.terms: dict[Var, list[Term]] = {v: [t] for v, t in bases.items()}
        self.kept: list[tuple[int, int]] = []  # entries of each value that stays a sum; of factors

    def run(self) -> tuple[Any, str]:
        for e in self.program.equations:
            if len(self.r.equations) > MOST_EQUATIONS + len(self.program.equations):
                return self.program, ""
            self.r.line = self.r.lines.get(e.outputs[0], 0)
            reads = [x for x in e.operands if isinstance(x, Var) and x in self.terms]
            made = self._made(e) if reads else None
            if made is None:
                for x in reads:
                    self._array(x)
                operands = tuple(map(self.r.now, e.operands))
                self.r.keep(Equation(e.primitive, operands, e.outputs, e.params))
                continue
            self.terms[e.outputs[0]] = made
            self._weigh(e.outputs[0])
        for x in self.program.outputs:
            if isinstance(x, Var) and x in self.terms:
                self._array(x)
        if not self.kept:
            return self.program, ""
        whole, parts = (sum(k[i] for k in self.kept) for i in (0, 1))
        note = (
            f"{len(self.kept)} values with axes of directions stay products of factors: {whole} entries, "
            f"of which {parts} are made"
        )
        return self.r.finish(), note

    def _array(self, v: Var) -> None:
        """From here on a variable is an array."""
        if v not in self.program.constants:
            self.r.replace(v, self.sums.array(self.terms[v], v.shape, v.dtype))
        del self.terms[v]

    def _weigh(self, v: Var) -> None:
        """A value that takes no less as a sum is an array."""
        terms = self.terms[v]
        n = stored(terms)
        blocks: dict[Any, int] = {}
        for t in terms:
            blocks[t.at] = blocks.get(t.at, 0) + 1
        cut = any(t.at for t in terms)
        if (
            (not cut and 2 * n > entries(v))
            or max(blocks.values(), default=0) > MOST_TERMS
            or len(blocks) > MOST_BLOCKS
        ):
            self._array(v)
        else:
            self.kept.append((entries(v), n))

    # ------------------------------------------------------------------------------------------ equations
    def _made(self, e: Equation) -> list[Term] | None:
        """The terms of what an equation makes; None where it needs arrays."""
        name = e.primitive.name
        if REGISTRY.get(name) is not e.primitive or len(e.outputs) != 1:
            return None
        out = e.outputs[0]
        rule = getattr(self, f"_{name}", None)
        if rule is None or out.dtype.kind != "f" or out.weak or 0 in out.shape:
            return None
        for x in e.operands:
            mask = name in ("where", "share") and isinstance(x, Var) and x.dtype.kind == "b"
            if isinstance(x, Var) and ((x.dtype != out.dtype and not mask) or x.weak):
                return None
        terms: list[Term] | None = rule(e, *e.operands)
        if terms is None:
            return None
        return self.sums.sum_of(
            [Term(self.sums.settled(t.form, out.dtype), t.shape, t.at) for t in terms], out.dtype
        )

    def _of(self, x: Var) -> list[Term]:
        """The terms of an operand."""
        if x in self.terms:
            return self.terms[x]
        now = self.r.now(x)
        return [Term(self.forms.leaf(now), x.shape)]

    def _combined(
        self, e: Equation, terms: Sequence[Term], shape: Sequence[int], **params: Any
    ) -> Form | None:
        """The form of an equation's result for one term of each operand, of the shape that it then has."""
        dtype = e.outputs[0].dtype
        stand = [self.r.fresh(t.shape, dtype) for t in terms]
        out = self.r.fresh(shape, dtype)
        e = Equation(e.primitive, tuple(stand), (out,), {**e.params, **params})
        return self.forms.combined(e, {v: t.form for v, t in zip(stand, terms, strict=True)})

    def _each(self, x: Any, of: Any) -> list[Term] | None:
        """A term of each term of an operand."""
        found = []
        for t in self._of(x):
            new = of(t)
            if new is None:
                return None
            found.append(new)
        return found

    # ------------------------------------------------------------------------------------------ sums
    def _add(self, e: Equation, x: Any, y: Any, sign: float = 1.0) -> list[Term] | None:
        if not isinstance(x, Var) or not isinstance(y, Var):
            return None
        found = []
        for z, scale in ((x, 1.0), (y, sign)):
            for t in self._of(z):
                spread = self._spread(t, e.outputs[0].shape)
                if spread is None:
                    return None
                form = spread.form
                found.append(
                    Term(
                        Form(form.factors, form.groups, form.scale * scale), spread.shape, spread.at
                    )
                )
        return found

    def _subtract(self, e: Equation, x: Any, y: Any) -> list[Term] | None:
        return self._add(e, x, y, -1.0)

    def _negative(self, e: Equation, x: Any) -> list[Term] | None:
        return self._each(
            x, lambda t: Term(Form(t.form.factors, t.form.groups, -t.form.scale), t.shape, t.at)
        )

    def _sum(self, e: Equation, x: Any) -> list[Term] | None:
        axis, keepdims = e.params["axis"], e.params["keepdims"]

        def one(t: Term) -> Term | None:
            left = [k for k in range(len(t.shape)) if k not in axis]
            where = range(len(t.shape)) if keepdims else left
            shape = tuple(1 if k in axis else t.shape[k] for k in where)
            form = self._combined(e, [t], shape)
            place = {k: j for j, k in enumerate(where)}
            at = tuple((place[a], s, n) for a, s, n in t.at if a not in axis)
            return None if form is None else Term(form, shape, at)

        return self._each(x, one)

    # ------------------------------------------------------------------------------------------ products
    def _multiply(self, e: Equation, x: Any, y: Any) -> list[Term] | None:
        if not isinstance(x, Var) or not isinstance(y, Var):
            v, number = (x, y) if isinstance(x, Var) else (y, x)
            if shape_of(number) or not Forms.plain(number):
                return None
            return self._each(v, lambda t: self._scaled(t, float(number)))
        rank = len(e.outputs[0].shape)
        axes = [
            (k - (rank - x.ndim), k - (rank - y.ndim))
            for k in range(rank)
            if k >= rank - x.ndim and k >= rank - y.ndim
        ]
        same = [(i, j) for i, j in axes if x.shape[i] == y.shape[j] != 1]

        def place(i: int, a: int) -> int:
            return a + rank - (x, y)[i].ndim

        def shape(s: Term, t: Term) -> tuple[int, ...]:
            return np.broadcast_shapes(s.shape, t.shape)

        return self._products(e, x, y, same, place, shape)

    def _square(self, e: Equation, x: Any) -> list[Term] | None:
        product = Equation(REGISTRY["multiply"], (x, x), e.outputs, {})
        return self._multiply(product, x, x)

    def _contract(self, e: Equation, x: Any, y: Any) -> list[Term] | None:
        if not isinstance(x, Var) or not isinstance(y, Var):
            return None
        a, b, o = e.params["spec"]
        if len(set(a)) < len(a) or len(set(b)) < len(b):
            return None
        same = [(i, b.index(c)) for i, c in enumerate(a) if c in b]

        def place(i: int, axis: int) -> int:
            return int(o.find((a, b)[i][axis]))

        def shape(s: Term, t: Term) -> tuple[int, ...]:
            size = dict(zip(b, t.shape, strict=True)) | dict(zip(a, s.shape, strict=True))
            return tuple(size[c] for c in o)

        return self._products(e, x, y, same, place, shape)

    def _products(
        self, e: Equation, x: Var, y: Var, same: Sequence[tuple[int, int]], place: Any, shape: Any
    ) -> list[Term] | None:
        """The products of all pairs: ``same`` axes are one index, ``place(i, a)`` is where axis a of operand i goes."""
        found = []
        for s, t in itertools.product(self._of(x), self._of(y)):
            met = self._met(s, t, same)
            if met is None:
                return None
            if not met:
                continue
            s, t = met
            whole = shape(s, t)
            form = self._combined(e, [s, t], whole)
            if form is None:
                return None
            at = {}
            for i, p in enumerate((s, t)):
                at.update({place(i, a): (start, n) for a, start, n in p.at if place(i, a) >= 0})
            found.append(Term(form, whole, tuple((a, *at[a]) for a in sorted(at))))
        return found

    def _met(
        self, s: Term, t: Term, same: Sequence[tuple[int, int]]
    ) -> tuple[Term, Term] | tuple[()] | None:
        """Two terms cut alike along common axes; () where they do not meet, None where they cannot be cut."""
        for i, j in same:
            a = next(((start, s.shape[i]) for k, start, _ in s.at if k == i), None)
            b = next(((start, t.shape[j]) for k, start, _ in t.at if k == j), None)
            if a == b:
                continue
            if a is not None and b is not None:
                if a[0] + a[1] <= b[0] or b[0] + b[1] <= a[0]:
                    return ()
                return None
            cut = self._cut(s, i, *b) if a is None and b is not None else self._cut(t, j, *a)  # type: ignore[misc]
            if cut is None:
                return None
            s, t = (cut, t) if a is None else (s, cut)
        return s, t

    def _cut(self, t: Term, axis: int, start: int, n: int) -> Term | None:
        """The part of a term along an axis."""
        form = t.form
        labels = form.groups[axis]
        shape = tuple(n if k == axis else m for k, m in enumerate(t.shape))
        at = tuple(sorted((*t.at, (axis, start, t.shape[axis]))))
        others = [c for k, g in enumerate(form.groups) if k != axis for c in g]
        if any(c in others for c in labels):
            return None
        holding = [f for f in form.factors if set(f[1]) & set(labels)]
        if not holding:
            groups = list(form.groups)
            groups[axis] = (self.forms.fresh(n),) if n > 1 else ()
            return Term(Form(form.factors, tuple(groups), form.scale), shape, at)
        if len(holding) > 1 or len(labels) != 1:
            return None
        v, mine = holding[0]
        if len(mine) != v.ndim or any(
            self.forms.sizes[c] != m for c, m in zip(mine, v.shape, strict=True)
        ):
            return None
        k = mine.index(labels[0])
        index = tuple(slice(start, start + n) if a == k else slice(None) for a in range(v.ndim))
        part = self.r.emit(
            "slice", [v], [n if a == k else m for a, m in enumerate(v.shape)], v.dtype, index=index
        )
        new = self.forms.fresh(n)
        factors = tuple(
            (part, tuple(new if c == labels[0] else c for c in mine)) if f is holding[0] else f
            for f in form.factors
        )
        groups = [(new,) if a == axis else g for a, g in enumerate(form.groups)]
        return Term(Form(factors, tuple(groups), form.scale), shape, at)

    def _scaled(self, t: Term, number: float) -> Term | None:
        scale = t.form.scale * number
        if not 1e-30 < abs(scale) < 1e30:
            return None
        return Term(Form(t.form.factors, t.form.groups, scale), t.shape, t.at)

    # ------------------------------------------------------------------------------------------ elementwise
    def _divide(self, e: Equation, x: Any, y: Any) -> list[Term] | None:
        if not isinstance(x, Var):
            return None
        if not isinstance(y, Var):
            return self._each(x, lambda t: self._scaled(t, 1 / y)) if Forms.plain(y) else None
        return None if y in self.terms else self._each(x, lambda t: self._inside(e, 0, t))

    def _where(self, e: Equation, c: Any, x: Any, y: Any) -> list[Term] | None:
        k, zero = (1, y) if isinstance(x, Var) and x in self.terms else (2, x)
        if type(zero) not in (int, float) or zero != 0 or not isinstance(c, Var):
            return None
        return self._each(e.operands[k], lambda t: self._inside(e, k, t))

    def _share(self, e: Equation, x: Any, *masks: Any) -> list[Term] | None:
        return self._each(x, lambda t: self._inside(e, 0, t)) if isinstance(x, Var) else None

    def _inside(self, e: Equation, k: int, t: Term) -> Term | None:
        """An elementwise primitive, linear in operand k, of a term: of all factors but those with an axis of their own.

        The other operands are arrays or numbers.
        """
        out = e.outputs[0]
        spread = self._spread(t, out.shape)
        if spread is None:
            return None
        t, form = spread, spread.form
        others = {}
        for j, z in enumerate(e.operands):
            if j != k and isinstance(z, Var) and shape_of(z):
                aligned = self._aligned(t, self.r.now(z))
                if aligned is None:
                    return None
                others[j] = aligned
        beside = {c for _, labels in others.values() for c in labels}
        outer: list[Factor] = []
        inner: list[Factor] = []
        for f in form.factors:
            rest = {c for g in form.factors if g is not f for c in g[1]} | beside
            (inner if set(f[1]) <= rest else outer).append(f)
        labels = self.sums.laid(
            [c for c in visible(form) if c in beside or any(c in f[1] for f in inner)]
        )
        held = {c for _, f in inner for c in f}
        have = [c for c in labels if c in held]
        core = self.sums.product(inner, have, 1.0, out.dtype)
        operands = list(map(self.r.now, e.operands))
        operands[k] = self._fitted(core, have, labels)
        for j, (z, mine) in others.items():
            operands[j] = self._fitted(z, mine, labels)
        shape = [self.forms.sizes[c] for c in labels]
        made = self.r.emit(e.primitive.name, operands, shape, out.dtype, **e.params)
        factors = (*outer, (made, labels))
        return Term(Form(factors, form.groups, form.scale), t.shape, t.at)

    def _fitted(self, x: Any, have: Sequence[int], labels: Sequence[int]) -> Any:
        """An array with labels among others, which it repeats itself along."""
        order = [c for c in labels if c in have]
        x = self.r.transpose(x, [list(have).index(c) for c in order])
        return self.r.reshape(x, [self.forms.sizes[c] if c in have else 1 for c in labels])

    def _aligned(self, t: Term, z: Any) -> tuple[Any, list[int]] | None:
        """An array beside a term, cut as it is, and the term's labels of its axes; None where one is there twice."""
        lead = len(t.shape) - z.ndim
        for axis, start, _ in t.at:
            a, n = axis - lead, t.shape[axis]
            if a >= 0 and z.shape[a] != 1:
                index = tuple(
                    slice(start, start + n) if b == a else slice(None) for b in range(z.ndim)
                )
                shape = [n if b == a else m for b, m in enumerate(z.shape)]
                z = self.r.emit("slice", [z], shape, z.dtype, index=index)
        labels = [c for a in range(z.ndim) if z.shape[a] != 1 for c in t.form.groups[a + lead]]
        if len(set(labels)) < len(labels):
            return None
        return self.r.reshape(z, [self.forms.sizes[c] for c in labels]), labels

    # ------------------------------------------------------------------------------------------ shapes
    def _spread(self, t: Term, shape: Sequence[int]) -> Term | None:
        """A term repeated to the shape of a larger array."""
        if t.whole == tuple(shape):
            return t
        lead = len(shape) - len(t.shape)
        groups: list[tuple[int, ...]] = []
        part = []
        at = {a + lead: (a + lead, s, n) for a, s, n in t.at}
        for k, n in enumerate(shape):
            if k >= lead and (k in at or t.shape[k - lead] == n):
                groups.append(t.form.groups[k - lead])
                part.append(t.shape[k - lead])
            else:
                groups.append((self.forms.fresh(n),) if n > 1 else ())
                part.append(n)
        if any(n != shape[k] for k, _, n in at.values()):
            return None
        return Term(
            Form(t.form.factors, tuple(groups), t.form.scale), tuple(part), tuple(at.values())
        )

    def _broadcast_to(self, e: Equation, x: Any) -> list[Term] | None:
        return self._each(x, lambda t: self._spread(t, e.params["shape"]))

    def _transpose(self, e: Equation, x: Any) -> list[Term] | None:
        axes = list(e.params["axes"])

        def one(t: Term) -> Term:
            form = Form(t.form.factors, tuple(t.form.groups[a] for a in axes), t.form.scale)
            at = tuple(sorted((axes.index(a), s, n) for a, s, n in t.at))
            return Term(form, tuple(t.shape[a] for a in axes), at)

        return self._each(x, one)

    def _reshape(self, e: Equation, x: Any) -> list[Term] | None:
        return self._each(x, lambda t: self._reshaped(t, e.params["shape"], e.outputs[0].dtype))

    def _reshaped(self, t: Term, shape: Sequence[int], dtype: Any) -> Term | None:
        part, at = list(shape), []
        for a, start, n in t.at:
            before = math.prod(t.whole[:a])
            k = next(
                (k for k, m in enumerate(shape) if m == n and math.prod(shape[:k]) == before), None
            )
            if k is None:
                return None
            part[k] = t.shape[a]
            at.append((k, start, n))
        stand, out = self.r.fresh(t.shape, dtype), self.r.fresh(part, dtype)
        params = {"shape": tuple(part)}
        e = Equation(REGISTRY["reshape"], (stand,), (out,), params)
        form = self.forms.combined(e, {stand: t.form})
        return None if form is None else Term(form, tuple(part), tuple(at))

    def _slice(self, e: Equation, x: Any) -> list[Term] | None:
        index = [i for i in e.params["index"] if i is not None]
        found = []
        for t in self._of(x):
            at = []
            gone = False
            for a, n in enumerate(t.whole):
                i = index[a] if a < len(index) else slice(None)
                mine = next((s for b, s, _ in t.at if b == a), None)
                if isinstance(i, int) and n == 1:
                    continue
                if not isinstance(i, slice):
                    return None
                r = range(n)[i]
                if r == range(n):
                    at += [(a, mine, n)] if mine is not None else []
                    continue
                if mine is None or r.step != 1:
                    return None
                stop = mine + t.shape[a]
                if stop <= r.start or r.stop <= mine:
                    gone = True
                elif not r.start <= mine < stop <= r.stop:
                    return None
                elif len(r) != t.shape[a]:
                    at.append((a, mine - r.start, len(r)))
            if gone:
                continue
            new = self._reshaped(Term(t.form, t.shape, tuple(at)), e.outputs[0].shape, x.dtype)
            if new is None:
                return None
            found.append(new)
        return found

    def _unslice(self, e: Equation, x: Any) -> list[Term] | None:
        index, shape = e.params["index"], e.params["shape"]
        if not all(isinstance(i, slice) for i in index) or len(shape) != x.ndim:
            return None
        offsets = []
        for k, n in enumerate(shape):
            r = range(n)[index[k] if k < len(index) else slice(None)]
            if r.step != 1:
                return None
            offsets.append(r.start)
        return self._each(x, lambda t: self._moved(t, offsets, shape))

    def _pad(self, e: Equation, x: Any) -> list[Term] | None:
        offsets = [a for a, _ in e.params["widths"]]
        return self._each(x, lambda t: self._moved(t, offsets, e.outputs[0].shape))

    def _concatenate(self, e: Equation, *xs: Any) -> list[Term] | None:
        axis, shape, at = e.params["axis"], e.outputs[0].shape, 0
        found = []
        for x in xs:
            if not isinstance(x, Var):
                return None
            offsets = [at if a == axis else 0 for a in range(len(shape))]
            found += [self._moved(t, offsets, shape) for t in self._of(x)]
            at += x.shape[axis]
        return found

    def _moved(self, t: Term, offsets: Sequence[int], shape: Sequence[int]) -> Term:
        """A term in a larger array, in which the array it was in begins at ``offsets``."""
        starts = {a: s for a, s, _ in t.at}
        at = tuple(
            (a, starts.get(a, 0) + o, n)
            for a, (o, n) in enumerate(zip(offsets, shape, strict=True))
            if t.shape[a] != n
        )
        return Term(t.form, t.shape, at)
