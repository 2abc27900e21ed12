"""einsum of any number of operands: read, planned once for each set of shapes, lowered to products of two.

A plan says what happens to each operand (diagonals of repeated indices, axes of length 1 that broadcast dropped), which
two are multiplied next, and what is left to do at the end. It depends on the subscripts and the shapes alone and is
kept, so that a call in a loop pays for its products only.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
import string
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from nnmath_core._ext._autodiff import Tracer, alias, mark_fresh
from nnmath_core.autodiff.ops.contract import contract, diagonal_p, operand_arrays
from nnmath_core.autodiff.ops.conventions import (
    constant,
    dtype_of,
    implements,
    is_traced,
    refuse,
    shape_of,
)
from nnmath_core.autodiff.ops.reduce import sum_p
from nnmath_core.autodiff.ops.shape import cast, reshape_p, transpose_p
from nnmath_core.errors import DtypeError, ShapeError

__all__ = ["einsum", "einsum_path"]

Shape = tuple[int, ...]
Labels = tuple[str, ...]


# ------------------------------------------------------------------------------------------------ reading
def _letters(used: set[str]) -> Iterator[str]:
    """Letters that are not in use: the alphabet, then the rest of Unicode's."""
    further = (c for c in map(chr, itertools.count(0xC0)) if c.isalpha())
    return (c for c in itertools.chain(string.ascii_letters, further) if c not in used)


def _read(subscripts: str, shapes: tuple[Shape, ...]) -> tuple[Labels, str]:
    """The indices of each operand and of the output, ellipses replaced by letters."""
    text = subscripts.replace(" ", "")
    left, arrow, out = text.partition("->")
    parts = left.split(",")
    if len(parts) != len(shapes):
        raise ValueError(
            f"einsum: {subscripts!r} names {len(parts)} operands and {len(shapes)} were given."
        )
    for part in (*parts, out):
        bare = part.replace("...", "", 1)
        for c in bare:
            if c == "." or not c.isalpha():
                raise ValueError(
                    f"einsum: invalid character {c!r} in {subscripts!r}; indices are letters, `...` stands for all "
                    "other axes (once in an operand), `->` leads to the output."
                )
    free = _letters(set(text))
    extra = [len(s) - len(part.replace("...", "")) for part, s in zip(parts, shapes, strict=True)]
    widths = [n for part, n in zip(parts, extra, strict=True) if "..." in part]
    dots = "".join(itertools.islice(free, max([0, *widths])))
    labels = []
    for k, (part, s, n) in enumerate(zip(parts, shapes, extra, strict=True)):
        if n < 0 or (n > 0 and "..." not in part):
            raise ShapeError(
                f"einsum: operand {k} has {len(s)} axes and {part!r} names {len(s) - n}."
            )
        labels.append(part.replace("...", dots[len(dots) - n :] if n else ""))
    if not arrow:
        every = "".join(labels)
        named = sorted(c for c in set(every) - set(dots) if every.count(c) == 1)
        return tuple(labels), dots + "".join(named)
    if dots and "..." not in out:
        raise ValueError(
            f"einsum: the output of {subscripts!r} must have '...', since the operands have {len(dots)} more axes than "
            "are named. To sum over them, name them."
        )
    for c in out.replace("...", ""):
        if c not in left or out.count(c) > 1:
            why = "is in no operand" if c not in left else "stands there twice"
            raise ValueError(f"einsum: index `{c}` of the output of {subscripts!r} {why}.")
    return tuple(labels), out.replace("...", dots)


def _lengths(subscripts: str, labels: Labels, shapes: tuple[Shape, ...]) -> dict[str, int]:
    """The length of each index; 1 stretches to the others', as in broadcasting."""
    length: dict[str, int] = {}
    where: dict[str, int] = {}
    for k, (part, s) in enumerate(zip(labels, shapes, strict=True)):
        mine: dict[str, int] = {}
        for c, n in zip(part, s, strict=True):
            if mine.setdefault(c, n) != n:
                raise ShapeError(
                    f"einsum: index `{c}` has length {mine[c]} and {n} in operand {k} of {subscripts!r}."
                )
        for c, n in mine.items():
            if length.get(c, 1) == 1:
                length[c], where[c] = n, k
            elif n not in (1, length[c]):
                named = f"index `{c}`" if c in subscripts else "an axis of `...`"
                raise ShapeError(
                    f"einsum: {named} has length {length[c]} in operand {where[c]} and {n} in operand {k} of "
                    f"{subscripts!r}."
                )
    return length


def _letters_of_sublist(who: str, sublist: Any) -> str:
    """The subscripts that a list of integers stands for: A-Z, then a-z, as in NumPy."""
    symbols = string.ascii_uppercase + string.ascii_lowercase
    text = ""
    for i in sublist:
        if i is Ellipsis:
            text += "..."
            continue
        try:
            n = operator.index(i)
        except TypeError:
            raise TypeError(
                f"{who}: a subscript in a list must be an integer or an ellipsis, got {i!r}."
            ) from None
        if not 0 <= n < len(symbols):
            raise ValueError(
                f"{who}: a subscript in a list must be in [0, {len(symbols)}), got {n}."
            )
        text += symbols[n]
    return text


def _as_text(who: str, args: tuple[Any, ...]) -> tuple[str, list[Any]]:
    """Subscripts and operands of either way to call: ``("ij,jk", a, b)`` or ``(a, [0, 1], b, [1, 2], [0, 2])``."""
    if not args:
        raise ValueError(f"{who}: subscripts and operands are missing.")
    if isinstance(args[0], str):
        return args[0], list(args[1:])
    if len(args) < 2:
        raise TypeError(
            f"{who}: write the subscripts as a string, like 'ij,jk->ik', or as a list after each operand."
        )
    pairs = len(args) // 2 * 2
    text = ",".join(_letters_of_sublist(who, s) for s in args[1:pairs:2])
    if len(args) % 2:
        text += "->" + _letters_of_sublist(who, args[-1])
    return text, list(args[:pairs:2])


# ------------------------------------------------------------------------------------------------ planning
# A number read or written costs about as much as that many multiplications and additions inside a matrix product.
_TRAFFIC = 8

# So many operands are planned by trying every order (3^n steps, a few milliseconds); more, greedily.
_EXACT = 6


def _bits(labels: Sequence[str], out: str, length: dict[str, int]) -> tuple[list[int], int, Any]:
    """Operands and output as sets of indices in the bits of integers, and the size of such a set."""
    order = {c: 1 << i for i, c in enumerate(length)}
    lengths = list(length.values())

    @functools.cache
    def size(s: int) -> int:
        return math.prod(n for i, n in enumerate(lengths) if s >> i & 1)

    def bits(part: str) -> int:
        return functools.reduce(operator.or_, (order[c] for c in part), 0)

    return [bits(part) for part in labels], bits(out), size


def _cost(a: int, b: int, c: int, size: Any) -> int:
    """Multiplications of one product, and its traffic."""
    return int(size(a | b) + _TRAFFIC * (size(a) + size(b) + size(c)))


def _optimal(labels: Sequence[str], out: str, length: dict[str, int]) -> list[tuple[int, ...]]:
    """The cheapest order of pairs, by dynamic programming over the subsets of the operands."""
    terms, result, size = _bits(labels, out, length)
    n = len(terms)
    everything = (1 << n) - 1
    union = [0] * (everything + 1)
    for s in range(1, everything + 1):
        low = s & -s
        union[s] = union[s ^ low] | terms[low.bit_length() - 1]
    left = [union[s] & (union[everything ^ s] | result) for s in range(everything + 1)]
    best: list[tuple[float, int]] = [(math.inf, 0)] * (everything + 1)
    for i in range(n):
        best[1 << i] = (0, 0)
    for s in range(1, everything + 1):
        if s & (s - 1) == 0:
            continue
        part = (s - 1) & s
        while part > s ^ part:  # each split once
            other = s ^ part
            cost = best[part][0] + best[other][0] + _cost(left[part], left[other], left[s], size)
            if cost < best[s][0]:
                best[s] = (cost, part)
            part = (part - 1) & s
    return _as_path(best, everything, n)


def _as_path(best: list[tuple[float, int]], everything: int, n: int) -> list[tuple[int, ...]]:
    """A tree of subsets as positions in the list of operands, from which two leave and to whose end one comes."""
    order: list[int] = []
    stack = [everything]
    while stack:
        s = stack.pop()
        if s & (s - 1):
            order.append(s)
            stack += [best[s][1], s ^ best[s][1]]
    waiting = [1 << i for i in range(n)]
    path: list[tuple[int, ...]] = []
    for s in reversed(order):
        i, j = sorted((waiting.index(best[s][1]), waiting.index(s ^ best[s][1])))
        path.append((i, j))
        waiting = [w for k, w in enumerate(waiting) if k not in (i, j)] + [s]
    return path


def _greedy(labels: Sequence[str], out: str, length: dict[str, int]) -> list[tuple[int, ...]]:
    """Again and again the pair whose product frees the most memory; of equals the cheapest."""
    terms, result, size = _bits(labels, out, length)
    path: list[tuple[int, ...]] = []
    while len(terms) > 1:
        count: dict[int, int] = {}
        for t in terms:
            for bit in _each_bit(t):
                count[bit] = count.get(bit, 0) + 1
        once = sum(bit for bit, k in count.items() if k == 1) & ~result
        twice = sum(bit for bit, k in count.items() if k == 2) & ~result
        best: tuple[Any, ...] | None = None
        for j in range(1, len(terms)):
            for i in range(j):
                a, b = terms[i], terms[j]
                c = (a | b) & ~(a & b & twice) & ~once
                key = (size(c) - size(a) - size(b), _cost(a, b, c, size), i, j, c)
                if best is None or key < best:
                    best = key
        assert best is not None
        *_, i, j, c = best
        path.append((i, j))
        terms = [t for k, t in enumerate(terms) if k not in (i, j)] + [c]
    return path


def _each_bit(s: int) -> Iterator[int]:
    while s:
        low = s & -s
        yield low
        s ^= low


def _checked_path(path: tuple[tuple[int, ...], ...], n: int) -> list[tuple[int, ...]]:
    """A path that the caller gave, as pairs; groups of three and more from the left, what is left over at the end."""
    steps: list[tuple[int, ...]] = []
    for group in path:
        if not group or len(set(group)) != len(group) or not all(0 <= i < n for i in group):
            raise ValueError(
                f"einsum: `optimize` must be a path of different positions below the number of operands that are "
                f"left, here {n}, got {group}."
            )
        waiting = list(range(n))  # each group's result is appended, and the group leaves
        chosen = [*sorted(group)]
        while len(chosen) > 1:
            i, j = sorted((waiting.index(chosen[0]), waiting.index(chosen[1])))
            steps.append((i, j))
            new = max(waiting) + 1
            waiting = [w for k, w in enumerate(waiting) if k not in (i, j)] + [new]
            chosen = [new, *chosen[2:]]
        if len(group) == 1:
            steps.append((group[0],))
        n -= len(group) - 1
    while n > 1:
        steps.append((0, 1))
        n -= 1
    return steps


How = bool | str | tuple[tuple[int, ...], ...]


def _how(optimize: Any) -> How:
    """The keyword ``optimize`` as something that can be the key of a cache."""
    if isinstance(optimize, (bool, np.bool_)):
        return bool(optimize)
    if optimize is None:
        return False
    if isinstance(optimize, str) and optimize in ("greedy", "optimal"):
        return optimize
    if isinstance(optimize, (list, tuple)):
        items = list(optimize)
        if items[:1] == ["einsum_path"]:
            items = items[1:]
        if all(isinstance(g, (list, tuple)) for g in items):
            return tuple(tuple(operator.index(i) for i in g) for g in items)
    raise TypeError(
        "einsum: `optimize` must be True, False, 'greedy', 'optimal' or a path such as that of np.einsum_path, got "
        f"{optimize!r}."
    )


class _Operand(NamedTuple):
    """What makes one operand ready: pairs of axes of which the diagonal is taken, then the shape without ones."""

    diagonals: tuple[tuple[int, ...], ...]  # orders of axes that bring the pair to the end
    shape: Shape | None


class _Plan(NamedTuple):
    """What is to be done, in order."""

    text: str  # the subscripts without ellipses, in the letters a-z, A-Z where they suffice
    operands: tuple[_Operand, ...]
    steps: tuple[
        tuple[Any, ...], ...
    ]  # (i, j, spec): two leave the list, their product comes to its end
    gone: tuple[int, ...]  # axes of the last one to be summed
    order: tuple[int, ...] | None


@functools.lru_cache(maxsize=2048)
def _plan(subscripts: str, shapes: tuple[Shape, ...], how: How) -> _Plan:
    labels, out = _read(subscripts, shapes)
    length = _lengths(subscripts, labels, shapes)
    operands, parts = [], []
    for part, s in zip(labels, shapes, strict=True):
        op, left = _ready(part, s, length)
        operands.append(op)
        parts.append(left)
    steps: list[tuple[Any, ...]] = []
    waiting = list(parts)
    for step in _path(parts, out, length, how):
        if len(step) == 1:
            waiting.append(waiting.pop(step[0]))
            steps.append((step[0], None, None))
            continue
        i, j = step
        a, b = waiting[i], waiting[j]
        waiting = [w for k, w in enumerate(waiting) if k not in (i, j)]
        o = _product(a, b, out, waiting)
        steps.append((i, j, (a, b, o)))
        waiting.append(o)
    (a,) = waiting
    gone = tuple(i for i, c in enumerate(a) if c not in out)
    a = "".join(c for c in a if c in out)
    order = None if a == out else tuple(a.index(c) for c in out)
    rename = dict(zip(length, _letters(set()), strict=False))
    text = ",".join("".join(rename[c] for c in part) for part in labels)
    text += "->" + "".join(rename[c] for c in out)
    return _Plan(text, tuple(operands), tuple(steps), gone, order)


def _ready(labels: str, shape: Shape, length: dict[str, int]) -> tuple[_Operand, str]:
    """One operand with each index once and without the axes of length 1 that broadcast."""
    diagonals = []
    for c in dict.fromkeys(labels):
        while labels.count(c) > 1:
            i = labels.index(c)
            j = labels.index(c, i + 1)
            others = [k for k in range(len(labels)) if k not in (i, j)]
            diagonals.append((*others, i, j))
            shape = (*(shape[k] for k in others), shape[i])
            labels = "".join(labels[k] for k in others) + c
    keep = [k for k, c in enumerate(labels) if shape[k] != 1 or length[c] == 1]
    if len(keep) == len(labels):
        return _Operand(tuple(diagonals), None), labels
    return (
        _Operand(tuple(diagonals), tuple(shape[k] for k in keep)),
        "".join(labels[k] for k in keep),
    )


def _path(labels: list[str], out: str, length: dict[str, int], how: How) -> list[tuple[int, ...]]:
    n = len(labels)
    if isinstance(how, tuple):
        return _checked_path(how, n)
    if n <= 2 or how is False:
        return [(0, 1)] * (n - 1)
    every = "".join(labels)
    # what one operand alone has is summed before its first product
    bare = ["".join(c for c in part if c in out or every.count(c) > 1) for part in labels]
    exact = how == "optimal" or (how is True and n <= _EXACT)
    return (_optimal if exact else _greedy)(bare, out, length)


def _product(a: str, b: str, out: str, rest: list[str]) -> str:
    """The indices of a product of two: those that are still needed, in an order that needs no copy."""
    needed = set(out).union(*rest)
    o = [c for c in dict.fromkeys(a + b) if c in needed]
    if not rest:
        return out if set(o) == set(out) else "".join(o)
    batch = [c for c in o if c in a and c in b]
    return "".join(batch + [c for c in o if c not in batch])


# ------------------------------------------------------------------------------------------------ running
def _prepared(x: Any, op: _Operand, several: bool) -> Any:
    if not op.diagonals and op.shape is None:
        return x
    x = alias(x) if several else x  # of one operand the result may be a view
    for order in op.diagonals:
        if order != tuple(range(len(order))):
            x = transpose_p(x, axes=order)
        x = diagonal_p(x, k=0)
    return x if op.shape is None else reshape_p(x, shape=op.shape)


def _total(x: Any, axes: tuple[int, ...]) -> Any:
    """The sum over some axes, in the operand's own dtype as einsum has it: booleans add by `or`."""
    dtype = dtype_of(x)
    if dtype.kind in "fc":
        return sum_p(x, axis=axes, keepdims=False)
    labels = "".join(itertools.islice(_letters(set()), len(shape_of(x))))
    out = "".join(c for i, c in enumerate(labels) if i not in axes)
    return contract(x, constant(x, (), 1, dtype), spec=(labels, "", out))


def _converted(xs: list[Any], dtype: Any, casting: str) -> list[Any]:
    dtype = np.dtype(dtype)
    for k, x in enumerate(xs):
        if not np.can_cast(dtype_of(x), dtype, casting):  # type: ignore[arg-type]
            raise DtypeError(
                f"einsum: operand {k} must have a dtype that can be cast to {dtype} by the rule {casting!r}, got "
                f"{dtype_of(x)}. Pass casting='same_kind', or convert it: x.astype({dtype})."
            )
    return [cast(x, dtype) for x in xs]


@implements(np.einsum)
def einsum(*operands, out=None, optimize=True, dtype=None, order="K", casting="safe"):
    """NumPy's ``einsum``: any number of operands, the order of the products planned and kept for each set of shapes.

    ``optimize`` is True (every order tried up to 6 operands, then greedy), False (from the left), ``"greedy"``,
    ``"optimal"`` or a path. Each step is one matrix product of views, one elementwise product, or NumPy's own loop
    where the matrices of a batch are tiny.
    """
    subscripts, xs = _as_text("einsum", operands)
    how = _how(optimize)
    if order not in ("K", "A", "C", "F"):
        raise ValueError(f"einsum: `order` must be one of 'K', 'A', 'C' and 'F', got {order!r}.")
    plain = all([type(x) is np.ndarray for x in xs])
    if not plain:
        xs = operand_arrays(*xs)
        plain = not is_traced(*xs) and all(isinstance(x, (np.ndarray, np.generic)) for x in xs)
        if not plain:
            refuse("einsum", out=(out, None))
    plan = _plan(subscripts, tuple([shape_of(x) for x in xs]), how)
    if plain and len(xs) == 1 and plan.text.isascii():
        # the view, or the one pass, of NumPy itself
        given = {} if out is None else {"out": out}
        return np.einsum(plan.text, xs[0], dtype=dtype, order=order, casting=casting, **given)
    if dtype is not None:
        xs = _converted(xs, dtype, casting)
    y = _run(plan, xs)
    if not plain:
        return y
    if out is not None:
        if np.shape(out) != np.shape(y):
            raise ShapeError(f"einsum: `out` must have shape {np.shape(y)}, got {np.shape(out)}.")
        np.copyto(out, y, casting=casting)
        return out
    if np.ndim(y) == 0:
        return y[()]
    return y if order in "KA" else np.asarray(y, order=order)


def _run(plan: _Plan, xs: list[Any]) -> Any:
    several = len(xs) > 1
    waiting = [_prepared(x, op, several) for x, op in zip(xs, plan.operands, strict=True)]
    for i, j, spec in plan.steps:
        if spec is None:
            waiting.append(waiting.pop(i))
            continue
        b, a = waiting.pop(j), waiting.pop(i)
        waiting.append(contract(a, b, spec=spec))
    (x,) = waiting
    if plan.gone:
        x = _total(x, plan.gone)
    if plan.order is not None:
        x = transpose_p(x, axes=plan.order)
    return mark_fresh(x) if several or plan.gone else x


@implements(np.einsum_path)
def einsum_path(*operands, optimize="greedy"):
    """NumPy's ``einsum_path``: the order of the products, as a list for ``optimize=`` and as text."""
    subscripts, xs = _as_text("einsum_path", operands)
    stand_ins = [
        np.broadcast_to(np.zeros((), dtype_of(x)), shape_of(x)) if isinstance(x, Tracer) else x
        for x in operand_arrays(*xs)
    ]
    return np.einsum_path(subscripts, *stand_ins, optimize=optimize)
