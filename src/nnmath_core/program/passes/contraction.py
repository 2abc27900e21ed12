"""Contraction order: multilinear chains are gathered into one product of factors and multiplied in the cheapest order.

Contractions, elementwise products, sums, and the shape operations between them make a product of factors (`forms`);
the cheapest order of its pairs (`order`) replaces what is written where it costs less, as counted with all that is
then no longer needed. So outer products stay factors: per-example gradients ``x[a,j] d[a,k]`` that are multiplied,
squared and summed reach the cost of products of the layers' matrices. A value that is used elsewhere stays, and a
chain ends at it or looks through it, whichever is cheaper. No equation is replaced by a dearer one.

Equal to rounding: a product of sums is another order of the same sum of products, and a sum of repeated numbers a
multiplication by their count. Infinities and NaN come and go as in any reordering: entries that overflow in one order
may not in the other, and where a factor is infinite beside an exact 0 of another factor, which entries become NaN may
differ. Selections (`where`, `share`) and everything else that is not multilinear end a chain, so a structural zero
still hides what is behind it.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from nnmath_core._ext._autodiff import Var, shape_of
from nnmath_core.program.cost import FREE, EquationCost, cost_of, program_cost
from nnmath_core.program.ir import Equation
from nnmath_core.program.passes.forms import Form, Forms, coalesced, entries, grown_values
from nnmath_core.program.passes.order import Order, best_order
from nnmath_core.program.passes.rewrite import Rewriter, uses

__all__ = ["Emission", "order_of", "with_contractions_ordered"]

ROOTS = ("contract", "sum", "multiply", "square")
WORTH = 0.9
"""What is written stays unless the other order costs at most this part of it: the model is not better than that."""
LEAST = 2e-8
"""Seconds that a change must save: below, it only makes other equations."""


def with_contractions_ordered(program: Any) -> tuple[Any, list[str]]:
    """The program with chains in their cheapest order, and a sentence for each that changed."""
    best, notes, cost = program, [], program_cost(program.equations)
    for hopeful in (False, True):
        new, found = _Pass(program, hopeful).run()
        if found:
            spent = program_cost(new.equations)
            if spent.seconds < cost.seconds:
                best, notes, cost = new, found, spent
    return best, notes


class _Pass:
    """One run over a program, from its results to its inputs.

    Parameters
    ----------
    program : Program
    hopeful : bool
        Count a value that several chains look through as saved in parts by each, before it is known that all do.
    """

    def __init__(self, program: Any, hopeful: bool) -> None:
        self.program, self.hopeful = program, hopeful
        self.makers = {v: e for e in program.equations for v in e.outputs}
        self.reads: Counter[Var] = uses(program.equations, program.outputs)
        self.ready: dict[Var, tuple[Form, Order]] = {}  # root -> how it is made
        self.notes: list[str] = []
        self.grown = grown_values(program)

    def run(self) -> tuple[Any, list[str]]:
        everything = Forms(self.makers, lambda v: True, self.program.constants)
        for e in reversed(self.program.equations):
            if e.primitive.name in ROOTS and self.reads[e.outputs[0]] > 0:
                self._try(e, everything)
        if not self.ready:
            return self.program, []
        return self._written(), self.notes[::-1]

    # ------------------------------------------------------------------------------------------ decisions
    def _try(self, e: Equation, everything: Forms) -> None:
        """Replace an equation when that is cheaper."""
        own = self._only_for(e)
        some = Forms(self.makers, lambda v: v in own, self.program.constants)
        choices = [(f, f.made(e)) for f in (everything, some, self._grown_or(own))]
        found = None
        seen = set()
        for forms, form in choices:
            if (
                form is None
                or not form.factors
                or (len(form.factors) == 1 and e.primitive.name != "contract")
            ):
                continue
            axes = [c for g in form.groups for c in g]
            if len(set(axes)) < len(axes):  # zero off a diagonal: nothing to gain here
                continue
            form = coalesced(form, forms.sizes, forms.fresh)
            key = tuple(v for v, _ in form.factors)
            if key in seen:
                continue
            seen.add(key)
            order = order_of(form, forms)
            gone, shared = self._freed(e, [v for v, _ in form.factors])
            old = _fused_cost(e, gone)
            hope = sum(shared.values()) if self.hopeful else 0.0
            new = order.cost + _scaling(form, forms, e)
            if new.work >= min(WORTH * (old.work + hope), old.work + hope - LEAST):
                continue
            if new.seconds >= old.seconds + hope:
                continue
            if found is None or old.seconds + hope - new.seconds > found[0]:
                found = old.seconds + hope - new.seconds, forms, form, order, old
        if found is None:
            return
        _, forms, form, order, old = found
        out = e.outputs[0]
        self._release(e, [v for v, _ in form.factors], lambda v: None)
        self.ready[out] = _portable(form, forms), order
        new = order.cost + _scaling(form, forms, e)
        self.notes.append(
            f"{out!r}: {_sentence(form, order)}; {old.flops:.4g} -> {new.flops:.4g} FLOPs, "
            f"{old.bytes:.4g} -> {new.bytes:.4g} bytes"
        )

    def _grown_or(self, own: set[Var]) -> Forms:
        """Forms that look into values that only lead to one equation, and into those larger than what makes them."""
        return Forms(self.makers, lambda v: v in own or v in self.grown, self.program.constants)

    def _only_for(self, e: Equation) -> set[Var]:
        """The variables that only lead to an equation."""
        gone: set[Var] = set()
        left: Counter[Var] = Counter()
        stack = [e]
        while stack:
            for x in stack.pop().operands:
                if isinstance(x, Var):
                    left[x] += 1
                    if (
                        left[x] == self.reads[x]
                        and x in self.makers
                        and len(self.makers[x].outputs) == 1
                    ):
                        gone.add(x)
                        stack.append(self.makers[x])
        return gone

    def _freed(self, e: Equation, kept: Sequence[Var]) -> tuple[list[Equation], dict[Var, float]]:
        """The equations that nobody would need beside an equation, and of shared grown values a part of their costs."""
        before = self.reads.copy()
        gone: list[Equation] = [e]
        shared: dict[Var, float] = {}
        self._release(e, kept, lambda v: gone.append(self.makers[v]))
        if self.hopeful:
            for m in gone:
                for x in m.operands:
                    f = self.makers.get(x) if isinstance(x, Var) else None
                    if f is not None and self.reads[x] > 0 and x not in kept and x in self.grown:
                        shared[x] = cost_of(f).seconds * (1 - self.reads[x] / max(1, before[x]))
        self.reads = before
        return gone, shared

    def _release(self, e: Equation, kept: Sequence[Var], gone: Callable[[Var], None]) -> None:
        """Count the reads after an equation has been replaced by a product of what is kept."""
        self.reads.update(kept)
        stack = [e]
        while stack:
            for x in stack.pop().operands:
                if isinstance(x, Var):
                    self.reads[x] -= 1
                    if not self.reads[x] and x in self.makers and len(self.makers[x].outputs) == 1:
                        gone(x)
                        stack.append(self.makers[x])

    # ------------------------------------------------------------------------------------------ writing
    def _written(self) -> Any:
        r = Rewriter(self.program)
        for e in self.program.equations:
            made = self.ready.get(e.outputs[0])
            if made is None:
                operands = tuple(map(r.now, e.operands))
                r.keep(Equation(e.primitive, operands, e.outputs, e.params))
                continue
            r.line = r.lines.get(e.outputs[0], 0)
            form, order = made
            r.replace(e.outputs[0], Emission(r, form, e.outputs[0]).run(order))
        return r.finish()


def order_of(form: Form, forms: Forms) -> Order:
    """The cheapest order of the products of a form."""
    out = [c for g in form.groups for c in g]
    itemsize = form.factors[0][0].dtype.itemsize
    return best_order([labels for _, labels in form.factors], out, forms.sizes, itemsize)


def _scaling(form: Form, forms: Forms, e: Equation) -> EquationCost:
    """The cost of the scale, at the smallest array, and of repeating the result."""
    cost = EquationCost()
    itemsize = e.outputs[0].dtype.itemsize
    if form.scale != 1:
        n = min([entries(e.outputs[0]), *(entries(v) for v, _ in form.factors)])
        cost += EquationCost(float(n), 2.0 * n * itemsize, 1)
    return cost


def _fused_cost(root: Equation, gone: Sequence[Equation]) -> EquationCost:
    """The cost of equations that are written, where elementwise runs and the sums that end them do not touch memory."""
    inside = {v: e for e in gone for v in e.outputs}
    readers: dict[Var, list[Equation]] = {}
    for e in gone:
        for x in e.operands:
            if isinstance(x, Var):
                readers.setdefault(x, []).append(e)

    def streams(e: Equation) -> bool:
        return e.primitive.elementwise or e.primitive.name == "sum"

    total = EquationCost()
    for e in gone:
        c = cost_of(e)
        if not streams(e):
            total += c
            continue
        moved = 0.0
        for x in dict.fromkeys(x for x in e.operands if isinstance(x, Var)):
            m = _through_views(x, inside)
            if m is None or not streams(m) or m.primitive.name == "sum":
                moved += entries(x) * x.dtype.itemsize
        for v in e.outputs:
            after = readers.get(v, [])
            elementwise = all(
                f.primitive.elementwise or f.primitive.name in (*FREE, "sum") for f in after
            )
            if e is root or not after or not elementwise or e.primitive.name == "sum":
                moved += entries(v) * v.dtype.itemsize
        total += EquationCost(c.flops, moved, 1)
    return total


def _through_views(x: Var, inside: dict[Var, Equation]) -> Equation | None:
    m = inside.get(x)
    while m is not None and m.primitive.name in FREE and isinstance(m.operands[0], Var):
        m = inside.get(m.operands[0])
    return m


def _portable(form: Form, forms: Forms) -> Any:
    return form, {c: forms.sizes[c] for labels in _all_labels(form) for c in labels}


def _all_labels(form: Form) -> list[Sequence[int]]:
    return [*(labels for _, labels in form.factors), *form.groups]


def _sentence(form: Form, order: Order) -> str:
    names = {
        c: string.ascii_letters[k % 52]
        for k, c in enumerate(dict.fromkeys(c for labels in _all_labels(form) for c in labels))
    }

    def said(tree: Any) -> str:
        if isinstance(tree, int):
            v, labels = form.factors[tree]
            return f"v{v.number}[{''.join(names[c] for c in labels)}]"
        return f"({' '.join(map(said, tree))})"

    out = "".join(names[c] for g in form.groups for c in g)
    return f"[{out}] = {said(order.tree)}"


class Emission:
    """Writes the equations of a product."""

    def __init__(self, r: Rewriter, sized: Any, out: Var) -> None:
        self.r, self.out = r, out
        self.form, self.sizes = sized
        self.scale = self.form.scale
        self.have = {c for _, labels in self.form.factors for c in labels}
        self.result = [c for g in self.form.groups for c in g if c in self.have]
        self.smallest = min(
            range(len(self.form.factors)), key=lambda i: entries(self.form.factors[i][0])
        )

    def run(self, order: Order) -> Any:
        """Write them; what stands for the output."""
        late = self.scale == 1 or entries(self.out) <= entries(self.form.factors[self.smallest][0])
        self.early = not late
        tree = order.tree
        x, labels = self._tree(tree, set(self.result))
        axes = [labels.index(c) for c in self.result]
        x = self.r.transpose(x, axes)
        if late:
            x = self._scaled(x)
        if len(self.result) < sum(map(len, self.form.groups)):
            every = [c for g in self.form.groups for c in g]
            x = self.r.reshape(x, [self.sizes[c] if c in self.have else 1 for c in every])
            x = self.r.broadcast(x, [self.sizes[c] for c in every])
        return self.r.reshape(x, self.out.shape)

    def _scaled(self, x: Any) -> Any:
        if self.scale == 1:
            return x
        if self.scale == -1:
            return self.r.emit("negative", [x], x.shape, x.dtype)
        return self.r.emit("multiply", [x, self.scale], x.shape, x.dtype)

    def _tree(self, tree: Any, wanted: set[int]) -> tuple[Any, list[int]]:
        """A product and its labels, of which it keeps those that are wanted outside of it."""
        if isinstance(tree, int):
            return self._factor(tree, wanted)
        left, right = tree
        a = self._tree(left, wanted | self._labels(right))
        b = self._tree(right, wanted | self._labels(left))
        return self._pair(a, b, wanted)

    def _labels(self, tree: Any) -> set[int]:
        if isinstance(tree, int):
            return set(self.form.factors[tree][1])
        return self._labels(tree[0]) | self._labels(tree[1])

    def _factor(self, i: int, wanted: set[int]) -> tuple[Any, list[int]]:
        v, labels = self.form.factors[i]
        x = self.r.now(v)
        x = self.r.reshape(x, [self.sizes[c] for c in labels])
        x = self.r.sum(x, [k for k, c in enumerate(labels) if c not in wanted])
        if self.early and i == self.smallest:
            x = self._scaled(x)
        return x, [c for c in labels if c in wanted]

    def _pair(
        self, a: tuple[Any, list[int]], b: tuple[Any, list[int]], wanted: set[int]
    ) -> tuple[Any, list[int]]:
        (x, p), (y, q) = a, b
        every = list(dict.fromkeys([*p, *q]))
        out = [c for c in every if c in wanted]
        summed = len(out) < len(every)
        if set(q) <= set(p) and (not summed or (set(p) == set(q) and out)):
            return self._elementwise(x, p, y, q, wanted)
        if set(p) <= set(q) and not summed:
            return self._elementwise(y, q, x, p, wanted)
        batch = [c for c in out if c in p and c in q]
        out = (
            batch
            + [c for c in out if c in p and c not in q]
            + [c for c in out if c in q and c not in p]
        )
        name = dict(zip(every, string.ascii_letters, strict=False))
        spec = tuple("".join(name[c] for c in labels) for labels in (p, q, out))
        shape = [self.sizes[c] for c in out]
        return self.r.emit("contract", [x, y], shape, self.out.dtype, spec=spec), out

    def _elementwise(
        self, x: Any, p: list[int], y: Any, q: list[int], wanted: set[int]
    ) -> tuple[Any, list[int]]:
        """A product in which one operand has all labels, by multiplication, and its sum."""
        y = self.r.transpose(y, sorted(range(len(q)), key=lambda k: p.index(q[k])))
        if x is y:
            z = self.r.emit("square", [x], shape_of(x), self.out.dtype)
        else:
            y = self.r.reshape(y, [self.sizes[c] if c in q else 1 for c in p])
            z = self.r.emit("multiply", [x, y], shape_of(x), self.out.dtype)
        z = self.r.sum(z, [k for k, c in enumerate(p) if c not in wanted])
        return z, [c for c in p if c in wanted]
