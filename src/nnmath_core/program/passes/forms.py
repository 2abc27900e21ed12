"""Values of a program as products of factors over labelled axes, summed over the labels that are not their own.

A `Form` says ``value[groups] = scale * sum of the product of factors[labels]``: the n-ary product that contractions,
elementwise products, sums, transposes, repetitions and reshapes that split or merge axes make together. A label stands
for one axis, or for a part of one that some reshape has cut. Axes of one entry have no label. A label that no factor
has is an axis of repeated entries; so a captured array of one number is a scale without factors.

A value may have a label in two of its axes: it is zero off their diagonal. So a captured identity matrix is a form
without factors, and the product with it, of which a Jacobian that pulls back a basis is made, a renaming of labels.
(Its zeros are not multiplied: beside them an infinity gives no NaN.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var, shape_of
from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.program.ir import Equation
from nnmath_core.program.passes.rewrite import one_number, value_of_constant

__all__ = ["MULTILINEAR", "Draft", "Form", "Forms", "coalesced", "entries", "grown_values"]

MOST_FACTORS = 12
MOST_LABELS = 40
LARGEST_IDENTITY = 1 << 22

MULTILINEAR = {
    "contract",
    "multiply",
    "square",
    "sum",
    "negative",
    "divide",
    "transpose",
    "reshape",
    "broadcast_to",
}


@dataclass(frozen=True, slots=True)
class Form:
    """A value as a product of factors."""

    factors: tuple[tuple[Var, tuple[int, ...]], ...]
    groups: tuple[tuple[int, ...], ...]
    scale: float = 1.0


class Draft:
    """A form that is being made of others, all with labels of their own."""

    def __init__(self, sizes: dict[int, int]) -> None:
        self.sizes = sizes
        self.factors: list[tuple[Var, list[int]]] = []
        self.groups: list[list[list[int]]] = []  # of each part, for each axis
        self.scale = 1.0

    def take(self, form: Form, fresh: Callable[[int], int]) -> int:
        """Add the factors of a form, with new labels; its number among the parts."""
        new: dict[int, int] = {}

        def name(label: int) -> int:
            if label not in new:
                new[label] = fresh(self.sizes[label])
            return new[label]

        self.factors += [(v, [name(c) for c in labels]) for v, labels in form.factors]
        self.groups.append([[name(c) for c in g] for g in form.groups])
        self.scale *= form.scale
        return len(self.groups) - 1

    def _lists(self) -> list[list[int]]:
        return [*(labels for _, labels in self.factors), *(g for part in self.groups for g in part)]

    def split(self, label: int, outer: int, fresh: Callable[[int], int]) -> None:
        """Cut a label in two, the first of size ``outer``."""
        two = [fresh(outer), fresh(self.sizes[label] // outer)]
        for labels in self._lists():
            if label in labels:
                labels[:] = [c for old in labels for c in (two if old == label else [old])]

    def join(self, g: list[int], h: list[int], fresh: Callable[[int], int]) -> bool:
        """Make the labels of two axes the same; False where their cuts do not fit."""
        k = 0
        while k < len(g) or k < len(h):
            if k >= len(g) or k >= len(h):
                return False
            a, b = g[k], h[k]
            if a != b:
                m, n = self.sizes[a], self.sizes[b]
                if m == n:
                    self._rename(b, a)
                elif m % n == 0:
                    self.split(a, n, fresh)
                    continue
                elif n % m == 0:
                    self.split(b, m, fresh)
                    continue
                else:
                    return False
            k += 1
        return True

    def refine(self, fresh: Callable[[int], int]) -> bool:
        """Cut the labels of the axes of two parts alike; False where their cuts do not fit."""
        same = False
        while not same:
            same = True
            for g, h in zip(self.groups[0], self.groups[1], strict=True):
                k = 0
                while k < len(g) or k < len(h):
                    if k >= len(g) or k >= len(h):
                        return False
                    m, n = self.sizes[g[k]], self.sizes[h[k]]
                    if m == n:
                        k += 1
                        continue
                    if m % n and n % m:
                        return False
                    self.split(*((g[k], n) if m > n else (h[k], m)), fresh)
                    same = False
        return True

    def _rename(self, old: int, new: int) -> None:
        for labels in self._lists():
            for k, c in enumerate(labels):
                if c == old:
                    labels[k] = new

    def done(self, groups: Sequence[Sequence[int]]) -> Form | None:
        """The form with these axes; None where a factor has a label twice (its diagonal), or there is too much."""
        lists = [labels for _, labels in self.factors]
        if any(len(set(labels)) != len(labels) for labels in lists):
            return None
        lists += map(list, groups)
        if (
            len({c for labels in lists for c in labels}) > MOST_LABELS
            or len(self.factors) > MOST_FACTORS
        ):
            return None
        if not math.isfinite(self.scale) or not 1e-30 < abs(self.scale) < 1e30:
            return None
        return Form(
            tuple((v, tuple(c)) for v, c in self.factors), tuple(map(tuple, groups)), self.scale
        )


class Forms:
    """The forms of the variables of a program.

    Parameters
    ----------
    makers : dict
        Variable -> its equation.
    opens : callable
        Whether a variable may be looked into; its form has one factor, itself, where not.
    constants : dict
        Captured arrays.
    """

    def __init__(
        self,
        makers: dict[Var, Equation],
        opens: Callable[[Var], bool],
        constants: Mapping[Var, Any],
    ) -> None:
        self.sizes: dict[int, int] = {}
        self._count = itertools.count()
        self._makers, self._opens, self._constants = makers, opens, constants
        self._known: dict[Var, Form] = {}

    def fresh(self, size: int) -> int:
        """A new label."""
        label = next(self._count)
        self.sizes[label] = size
        return label

    def of(self, v: Var) -> Form:
        """The form of an operand."""
        if v not in self._known:
            e = self._makers.get(v)
            form = (self._uniform(v) or self._identity(v)) if e is None else None
            if e is not None and self._opens(v):
                form = self.made(e)
            self._known[v] = form or self.leaf(v)
        return self._known[v]

    def combined(self, e: Equation, forms: Mapping[Var, Form]) -> Form | None:
        """The form of what an equation makes of operands with these forms."""
        self._known.update(forms)
        return self.made(e)

    def leaf(self, v: Var) -> Form:
        """The form that is the variable itself."""
        groups = [(self.fresh(n),) if n != 1 else () for n in v.shape]
        return Form(((v, tuple(c for g in groups for c in g)),), tuple(groups))

    def _uniform(self, v: Var) -> Form | None:
        """The form of a captured array of one number."""
        array = value_of_constant(v, self._constants)
        number = None if array is None or array.dtype.kind != "f" else one_number(array)
        if number is None or not self.plain(number):
            return None
        return Form((), tuple((self.fresh(n),) if n != 1 else () for n in v.shape), number)

    def _identity(self, v: Var) -> Form | None:
        """The form of a captured identity matrix, or a multiple of it, whose rows and columns may be several axes."""
        array = value_of_constant(v, self._constants)
        if (
            array is None
            or array.dtype.kind != "f"
            or array.ndim < 2
            or array.size > LARGEST_IDENTITY
        ):
            return None
        for k in range(1, array.ndim):
            n = math.prod(array.shape[:k])
            if n > 1 and n * n == array.size:
                matrix = array.reshape(n, n)
                number = matrix[0, 0].item()
                if (
                    not self.plain(number)
                    or np.count_nonzero(matrix) != n
                    or np.any(np.diagonal(matrix) != number)
                ):
                    return None
                groups = self.paired(array.shape, k)
                return None if groups is None else Form((), groups, number)
        return None

    def paired(self, shape: Sequence[int], k: int) -> tuple[tuple[int, ...], ...] | None:
        """Labels for axes of which the first k and the others are the same index; None where their cuts do not fit."""
        groups: list[list[int]] = [[] for _ in shape]
        left = list(shape)
        i, j = 0, k
        while i < k or j < len(shape):
            if i < k and left[i] == 1:
                i += 1
            elif j < len(shape) and left[j] == 1:
                j += 1
            else:
                m = min(left[i], left[j])
                if max(left[i], left[j]) % m:
                    return None
                label = self.fresh(m)
                groups[i].append(label)
                groups[j].append(label)
                left[i] //= m
                left[j] //= m
        return tuple(map(tuple, groups))

    def made(self, e: Equation) -> Form | None:
        """The form of what an equation makes; None where it is not multilinear in its operands."""
        name = e.primitive.name
        if REGISTRY.get(name) is not e.primitive or name not in MULTILINEAR or len(e.outputs) != 1:
            return None
        out = e.outputs[0]
        if out.dtype.kind not in "fc" or out.weak or 0 in out.shape:
            return None
        for x in e.operands:
            if isinstance(x, Var) and (x.dtype != out.dtype or x.weak or 0 in x.shape):
                return None
        rule: Any = getattr(self, f"_{name}")
        form: Form | None = rule(e, *e.operands)
        return form

    def _draft(self, *operands: Var) -> Draft:
        """A draft of the operands; of those that have too many factors together, the longest are taken whole."""
        forms = [self.of(x) for x in operands]
        while sum(len(f.factors) for f in forms) > MOST_FACTORS:
            k = max(range(len(forms)), key=lambda i: len(forms[i].factors))
            if len(forms[k].factors) == 1:
                break
            forms[k] = self.leaf(operands[k])
        d = Draft(self.sizes)
        for f in forms:
            d.take(f, self.fresh)
        return d

    # ------------------------------------------------------------------------------------------ products
    def _contract(self, e: Equation, x: Any, y: Any) -> Form | None:
        a, b, o = e.params["spec"]
        if (
            not isinstance(x, Var)
            or not isinstance(y, Var)
            or len(set(a)) < len(a)
            or len(set(b)) < len(b)
        ):
            return None
        d = self._draft(x, y)
        for i, c in enumerate(a):
            if c in b and not d.join(d.groups[0][i], d.groups[1][b.index(c)], self.fresh):
                return None
        where = {c: d.groups[1][j] for j, c in enumerate(b)} | {
            c: d.groups[0][i] for i, c in enumerate(a)
        }
        self._count_repeated(d, [where[c] for c in o], [g for c, g in where.items() if c not in o])
        return d.done([where[c] for c in o])

    def _multiply(self, e: Equation, x: Any, y: Any) -> Form | None:
        out = e.outputs[0]
        if not isinstance(x, Var) or not isinstance(y, Var):
            v, number = (x, y) if isinstance(x, Var) else (y, x)
            if shape_of(number) or not self.plain(number):
                return None
            d = self._draft(v)
            d.scale *= float(number)
            return d.done(d.groups[0])
        d = self._draft(x, y)
        groups = []
        for k in range(-len(out.shape), 0):
            sides = [
                d.groups[i][k] for i, z in enumerate((x, y)) if -k <= z.ndim and z.shape[k] != 1
            ]
            if len(sides) == 2 and not d.join(sides[0], sides[1], self.fresh):
                return None
            groups.append(sides[0] if sides else [])
        return d.done(groups)

    @staticmethod
    def plain(number: Any) -> bool:
        """Whether a number may become part of the scale: a real one of Python's, which takes the arrays' dtype."""
        return type(number) in (int, float) and number != 0 and math.isfinite(number)

    def _square(self, e: Equation, x: Any) -> Form | None:
        d = self._draft(x, x)
        for g, h in zip(d.groups[0], d.groups[1], strict=True):
            if not d.join(g, h, self.fresh):
                return None
        return d.done(d.groups[0])

    def _negative(self, e: Equation, x: Any) -> Form | None:
        d = self._draft(x)
        d.scale = -d.scale
        return d.done(d.groups[0])

    def _divide(self, e: Equation, x: Any, y: Any) -> Form | None:
        if not isinstance(x, Var) or isinstance(y, Var) or not self.plain(y):
            return None
        d = self._draft(x)
        d.scale /= float(y)
        return d.done(d.groups[0])

    def _count_repeated(
        self, d: Draft, kept: Sequence[Sequence[int]], summed: Sequence[Sequence[int]]
    ) -> None:
        """A sum over repeated entries is a multiplication by their number."""
        have = {c for _, labels in d.factors for c in labels} | {c for g in kept for c in g}
        for c in dict.fromkeys(c for g in summed for c in g):
            if c not in have:
                d.scale *= self.sizes[c]

    def _sum(self, e: Equation, x: Any) -> Form | None:
        axis, keepdims = e.params["axis"], e.params["keepdims"]
        d = self._draft(x)
        groups = [
            g if i not in axis else []
            for i, g in enumerate(d.groups[0])
            if keepdims or i not in axis
        ]
        self._count_repeated(d, groups, [d.groups[0][i] for i in axis])
        return d.done(groups)

    # ------------------------------------------------------------------------------------------ shapes
    def _transpose(self, e: Equation, x: Any) -> Form | None:
        d = self._draft(x)
        return d.done([d.groups[0][a] for a in e.params["axes"]])

    def _broadcast_to(self, e: Equation, x: Any) -> Form | None:
        if not isinstance(x, Var):
            return None
        d, shape = self._draft(x), e.params["shape"]
        lead = len(shape) - x.ndim
        groups = []
        for k, n in enumerate(shape):
            have = k >= lead and x.shape[k - lead] == n
            groups.append(d.groups[0][k - lead] if have else [self.fresh(n)])
        return d.done(groups)

    def _reshape(self, e: Equation, x: Any) -> Form | None:
        if not isinstance(x, Var):
            return None
        d = self._draft(x)
        flat = [c for g in d.groups[0] for c in g]
        d.groups[0] = [flat]  # splits change it in place
        groups: list[list[int]] = []
        at = 0
        for n in e.params["shape"]:
            group: list[int] = []
            left = n
            while left > 1:
                size = self.sizes[flat[at]]
                if left % size:
                    if size % left:
                        return None
                    d.split(flat[at], left, self.fresh)
                    continue
                group.append(flat[at])
                left //= size
                at += 1
            groups.append(group)
        return d.done(groups)


def coalesced(form: Form, sizes: dict[int, int], fresh: Callable[[int], int]) -> Form:
    """The form with labels that are neighbours wherever they occur merged into one."""
    while True:
        lists = [labels for _, labels in form.factors] + list(form.groups)
        pair = next(
            (p for labels in lists for p in itertools.pairwise(labels) if _neighbours(p, lists)),
            None,
        )
        if pair is None:
            return form
        one = fresh(sizes[pair[0]] * sizes[pair[1]])
        form = Form(
            tuple((v, _merged(labels, pair, one)) for v, labels in form.factors),
            tuple(_merged(g, pair, one) for g in form.groups),
            form.scale,
        )


def _neighbours(pair: tuple[int, int], lists: Sequence[Sequence[int]]) -> bool:
    p, q = pair
    for labels in lists:
        if (p in labels) != (q in labels):
            return False
        if p in labels and labels.index(p) + 1 != labels.index(q):
            return False
    return True


def _merged(labels: Sequence[int], pair: tuple[int, int], one: int) -> tuple[int, ...]:
    return tuple(one if c == pair[0] else c for c in labels if c != pair[1])


def entries(v: Any) -> int:
    """Number of entries."""
    return math.prod(shape_of(v))


def grown_values(program: Any) -> set[Var]:
    """The values that are larger than all that they are made of, and what scaling and shape operations make of them."""
    grown: set[Var] = set()
    for e in program.equations:
        if e.primitive.name in MULTILINEAR and len(e.outputs) == 1:
            v = e.outputs[0]
            read = [x for x in e.operands if isinstance(x, Var)]
            large = [x for x in read if entries(x) >= entries(v)]
            if entries(v) > sum(map(entries, read)) or (
                e.primitive.name != "contract" and len(large) == 1 and large[0] in grown
            ):
                grown.add(v)
    return grown
