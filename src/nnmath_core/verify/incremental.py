"""Incremental evaluation: a program as a function of one entry of one argument, for many entries at a time.

When a single entry of an argument moves, most of what a program computes stays, and of what moves often only a part
does: an entry ``w[i, j]`` of a dense layer moves column j of its products, and after the activation still column j.
Such a value is *pinned* at some axes: along these only the place that a coordinate of the entry names moves. `moved`
follows pins through the equations:

- an elementwise operation keeps the pins that all its moving operands share;
- a product over a pinned axis moves by the outer product with what the operand has moved by;
- a sum over a pinned axis moves by the sum of what its entries have moved by; other reductions keep the pins that they
  do not fold;
- what only moves by a sum goes on as that, until an operation needs the value;
- reshapes, transposes and broadcasts carry pins to where their axes go;
- anything else gets whole arrays, in which what moves is put in its place, and runs as under `vmap`.

The last two axes of every moving value are the steps of an entry and the batch of entries, so that one operation runs
along many entries, and what stays is brought to their places once for several steps. It is computed once, too, by
`Plan.freeze`. Nothing here knows a model. Results are those of the program up to the rounding of
its sums: what is added to a sum is the difference of its parts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var, shape_of
from nnmath_core.autodiff.ops.contract import contract
from nnmath_core.autodiff.transforms import vmap
from nnmath_core.numpy import take
from nnmath_core.program.ir import Equation, Program

__all__ = ["moved", "pins_of"]

_FOLDS = {"axis", "keepdims"}
"""Parameters of reductions, and of what runs along an axis."""


def pins_of(shape: Sequence[int]) -> tuple[int, ...]:
    """The axes of an argument at which an entry of it is pinned: all but those of length one."""
    return tuple(a for a, n in enumerate(shape) if n != 1)


def moved(program: Program, leaf: int, batch: int, steps: int) -> Callable[..., Any]:
    """The program as a function of entries of one argument.

    Parameters
    ----------
    program : Program
        Of real numbers, in float64 throughout.
    leaf : int
        Position of the argument.
    batch : int
        How many entries at a time.
    steps : int
        How many values of each.

    Returns
    -------
    callable
        ``(point, where, new) -> outputs``: the list of all arguments; for each of `pins_of` the argument the indices
        (batch,); the new values (steps * batch,). The outputs have such an axis as their last.
    """

    def of_entries(point: list[Any], where: list[Any], new: Any) -> tuple[Any, ...]:
        still: dict[Any, Any] = dict(program.constants)
        still.update(zip(program.inputs, point, strict=True))
        for e in program.equations:
            made = _applied(e, [still[x] if isinstance(x, Var) else x for x in e.operands])
            still.update(zip(e.outputs, made, strict=True))
        follower = _Follower(still, where, (steps, batch))
        follower.start(program.inputs[leaf], new)
        for e in program.equations:
            follower.follow(e)
        return tuple(follower.whole(o) for o in program.outputs)

    return of_entries


def _applied(e: Equation, operands: list[Any]) -> tuple[Any, ...]:
    run = e.primitive if e.primitive.inline is None else e.primitive.inline
    y = run(*operands, **e.params)
    return tuple(y) if e.primitive.several else (y,)


@dataclass
class _Moving:
    """A value that moves: pinned axes with the coordinates they are pinned at, and entries (..., steps, batch).

    Where ``value`` is None, it is what the value was and ``by``.
    """

    pins: dict[int, int]
    value: Any
    by: Any = None

    def mapped(self, pins: dict[int, int], f: Callable[[Any], Any]) -> _Moving:
        """The same of a linear map of the entries."""
        if self.value is None:
            return _Moving(pins, None, f(self.by))
        return _Moving(pins, f(self.value))


class _Follower:
    """The moving values of a program, equation by equation."""

    def __init__(self, still: dict[Any, Any], where: list[Any], tail: tuple[int, int]) -> None:
        self.still, self.where, self.tail = still, where, tail
        self.moving: dict[Any, _Moving] = {}

    def start(self, v: Var, new: Any) -> None:
        """Let an argument have new entries."""
        pins = {a: k for k, a in enumerate(pins_of(v.shape))}
        self.moving[v] = _Moving(pins, np.reshape(new, (*[1] * len(v.shape), *self.tail)))

    def follow(self, e: Equation) -> None:
        """Find what of an equation moves."""
        on = [x if isinstance(x, Var) and x in self.moving else None for x in e.operands]
        if not any(x is not None for x in on):
            return
        p = e.primitive
        name = p.name
        made: list[_Moving] | None = None
        if p.elementwise:
            made = [self._elementwise(e, on)]
        elif name == "contract":
            made = self._contract(e, on)
        elif name == "sum":
            made = [self._sum(e, self.moving[on[0]])]
        elif name in _VIEWS and len(e.operands) == 1:
            made = [_VIEWS[name](self, e, self.moving[on[0]])]
        elif len(e.operands) == 1 and len(e.outputs) == 1 and set(e.params) <= _FOLDS:
            made = self._along(e, self.moving[on[0]])
        if made is None:
            made = self._whole_operands(e, on)
        self.moving.update(zip(e.outputs, made, strict=True))

    # ------------------------------------------------------------------------------------------ parts
    def taken(self, x: Any, pins: dict[int, int]) -> Any:
        """What stays of a value at the places of pins: (..., 1, batch), or (..., 1, 1) without pins."""
        shape = shape_of(x)
        if not pins:
            return np.reshape(x, (*shape, 1, 1))
        axes, rest = sorted(pins), [a for a in range(len(shape)) if a not in pins]
        index = self.where[pins[axes[0]]]
        for a in axes[1:]:
            index = index * shape[a] + self.where[pins[a]]
        lengths = [shape[a] for a in rest]
        flat = np.reshape(
            np.transpose(x, [*rest, *axes]), (*lengths, math.prod(shape[a] for a in axes))
        )
        got = take(flat, index, axis=-1)
        left = [1 if a in pins else n for a, n in enumerate(shape)]
        return np.reshape(got, (*left, 1, self.tail[1]))

    def loose(self, v: Var, axes: Sequence[int]) -> _Moving:
        """A moving value without its pins at some axes: whole along them."""
        m = self.moving[v]
        if m.value is None:
            m.value = self.taken(self.still[v], m.pins) + m.by
        gone = [a for a in m.pins if a in axes]
        if not gone:
            return m
        pins = {a: k for a, k in m.pins.items() if a not in gone}
        here: Any = None
        for a in gone:
            places = np.arange(v.shape[a]).reshape(
                [-1 if b == a else 1 for b in range(len(v.shape) + 2)]
            )
            at = places == self.where[m.pins[a]]
            here = at if here is None else here & at
        return _Moving(pins, np.where(here, m.value, self.taken(self.still[v], pins)))

    def by(self, v: Var, m: _Moving) -> Any:
        """How far a value has moved, at its pins."""
        if m.by is None:
            m.by = m.value - self.taken(self.still[v], m.pins)
        return m.by

    def whole(self, x: Any) -> Any:
        """A result for all entries of the batch."""
        if isinstance(x, Var) and x in self.moving:
            shape = x.shape
            value = self.loose(x, range(len(shape))).value
        else:
            shape = shape_of(x)
            still = self.still[x] if isinstance(x, Var) else np.asarray(x)
            value = np.reshape(still, (*shape, 1, 1))
        return self._joined(value, shape)

    def _joined(self, value: Any, shape: Sequence[int]) -> Any:
        """A value without pins, of full length, whose last axis is the batch with all steps."""
        full = np.broadcast_to(value, (*shape, *self.tail))
        return np.reshape(full, (*shape, math.prod(self.tail)))

    # ------------------------------------------------------------------------------------------ rules
    def _elementwise(self, e: Equation, on: list[Any]) -> _Moving:
        out = e.outputs[0]
        rank = len(out.shape)
        if (e.primitive.name == "add" and None in on) or (
            e.primitive.name == "subtract" and on[1] is None
        ):
            m = self.moving[on[0] or on[1]]
            if m.value is None:
                return self._broadcast_to(m, rank - len((on[0] or on[1]).shape), out.shape)
        shared: dict[int, int] | None = None
        for v in on:
            if v is None:
                continue
            shift = rank - len(v.shape)
            pins = {a + shift: k for a, k in self.moving[v].pins.items()}
            shared = pins if shared is None else dict(shared.items() & pins.items())
        assert shared is not None
        operands = []
        for x, v in zip(e.operands, on, strict=True):
            if v is not None:
                shift = rank - len(v.shape)
                loose = [a for a in range(len(v.shape)) if a + shift not in shared]
                operands.append(self.loose(v, loose).value)
            elif isinstance(x, Var):
                shift = rank - len(x.shape)
                pins = {
                    a - shift: k
                    for a, k in shared.items()
                    if a >= shift and x.shape[a - shift] != 1
                }
                operands.append(self.taken(self.still[x], pins))
            else:
                operands.append(x)
        return _Moving(shared, e.primitive(*operands, **e.params))

    def _contract(self, e: Equation, on: list[Any]) -> list[_Moving] | None:
        if all(v is not None for v in on) or any(len(set(s)) < len(s) for s in e.params["spec"]):
            return None
        i = 0 if on[0] is not None else 1
        v, other = on[i], e.operands[1 - i]
        mine, theirs, out = e.params["spec"][i], e.params["spec"][1 - i], e.params["spec"][2]
        m = self.moving[v]
        pins = {mine[a]: k for a, k in m.pins.items()}
        kept = {out.index(c): k for c, k in pins.items() if c in out}
        by = m.value is None or any(c not in out for c in pins)
        x = self.by(v, m) if by else m.value
        still = self.still[other] if isinstance(other, Var) else other
        shared = {a: pins[c] for a, c in enumerate(theirs) if c in pins}
        y = self.taken(still, shared) if shared else still
        product = self._product(x, mine, y, theirs, out, set(pins), bool(shared))
        return [_Moving(kept, None, product) if by else _Moving(kept, product)]

    def _product(
        self, x: Any, mine: str, y: Any, theirs: str, out: str, pinned: set[str], both: bool
    ) -> Any:
        """The contraction of x (..., steps, batch) and y, with the batch too if ``both``."""
        if any(c not in out and c not in pinned for c in mine + theirs):
            free = (c for c in map(chr, itertools.count(97)) if c.isalpha())
            new = itertools.islice((c for c in free if c not in mine + theirs + out), 2)
            s, z = new
            if both:
                shape = shape_of(y)
                y, theirs = np.reshape(y, (*shape[:-2], shape[-1])), theirs + z
            return contract(x, y, spec=(mine + s + z, theirs, out + s + z))
        return _spread(x, mine, out) * _spread(
            y if both else np.reshape(y, (*shape_of(y), 1, 1)), theirs, out
        )

    def _sum(self, e: Equation, m: _Moving) -> _Moving:
        v, out = e.operands[0], e.outputs[0]
        axes, keep = e.params["axis"], e.params["keepdims"]
        left = [a for a in range(len(v.shape)) if keep or a not in axes]
        pins = {left.index(a): k for a, k in m.pins.items() if a not in axes}
        by = m.value is None or any(a in axes for a in m.pins)
        x = self.by(v, m) if by else m.value
        long = tuple(a for a in axes if a not in m.pins)
        if long:
            x = e.primitive(x, axis=long, keepdims=True)
        x = np.reshape(x, (*[1 if a in pins else n for a, n in enumerate(out.shape)], *self.tail))
        return _Moving(pins, None, x) if by else _Moving(pins, x)

    def _along(self, e: Equation, m: _Moving) -> list[_Moving] | None:
        """A reduction, or what runs along axes and keeps the shape: pins at other axes stay."""
        v, out, axis = e.operands[0], e.outputs[0], e.params.get("axis")
        axes = axis if isinstance(axis, tuple) else (axis,)
        if not all(isinstance(a, (int, np.integer)) for a in axes):
            return None
        axes = tuple(int(a) % len(v.shape) for a in axes) if v.shape else ()
        left = [a for a in range(len(v.shape)) if a not in axes]
        if out.shape == v.shape or e.params.get("keepdims"):
            left = list(range(len(v.shape)))
        elif out.shape != tuple(v.shape[a] for a in left):
            return None
        m = self.loose(v, axes)
        params = (
            {**e.params, "axis": axes if isinstance(axis, tuple) else axes[0]} if axes else e.params
        )
        return [
            _Moving({left.index(a): k for a, k in m.pins.items()}, e.primitive(m.value, **params))
        ]

    def _reshape(self, e: Equation, m: _Moving) -> _Moving:
        v, out = e.operands[0], e.outputs[0]
        places = _same_axes(v.shape, out.shape)
        if not places.keys() >= m.pins.keys():
            m = self.loose(v, [a for a in m.pins if a not in places])
        pins = {places[a]: k for a, k in m.pins.items()}
        shape = [1 if a in pins else n for a, n in enumerate(out.shape)]
        return m.mapped(pins, lambda x: np.reshape(x, (*shape, *self.tail)))

    def _transpose(self, e: Equation, m: _Moving) -> _Moving:
        axes = e.params["axes"]
        pins = {axes.index(a): k for a, k in m.pins.items()}
        return m.mapped(pins, lambda x: np.transpose(x, (*axes, len(axes), len(axes) + 1)))

    def _broadcast(self, e: Equation, m: _Moving) -> _Moving:
        shape = e.outputs[0].shape
        return self._broadcast_to(m, len(shape) - len(e.operands[0].shape), shape)

    def _broadcast_to(self, m: _Moving, more: int, shape: Sequence[int]) -> _Moving:
        """The same with ``more`` axes in front, and of a shape."""
        pins = {a + more: k for a, k in m.pins.items()}
        full = (*[1 if a in pins else n for a, n in enumerate(shape)], *self.tail)

        def wider(x: Any) -> Any:
            return np.broadcast_to(np.reshape(x, (*[1] * more, *shape_of(x))), full)

        return m.mapped(pins, wider)

    def _entrywise(self, e: Equation, m: _Moving) -> _Moving:
        m = self.loose(e.operands[0], ())
        return _Moving(m.pins, e.primitive(m.value, **e.params))

    def _whole_operands(self, e: Equation, on: list[Any]) -> list[_Moving]:
        """The outputs from operands without pins, by the primitive's rule for batches."""
        operands: list[Any] = []
        for x, v in zip(e.operands, on, strict=True):
            if v is not None:
                value = self.loose(v, range(len(v.shape))).value
                operands.append(self._joined(value, v.shape))
            else:
                operands.append(self.still[x] if isinstance(x, Var) else x)
        moving = [k for k, v in enumerate(on) if v is not None]

        def run(*xs: Any) -> tuple[Any, ...]:
            full = list(operands)
            for k, x in zip(moving, xs, strict=True):
                full[k] = x
            return _applied(e, full)

        made = vmap(run, in_axes=-1, out_axes=-1)(*[operands[k] for k in moving])
        return [_Moving({}, np.reshape(y, (*shape_of(y)[:-1], *self.tail))) for y in made]


_VIEWS: dict[str, Callable[[_Follower, Equation, _Moving], _Moving]] = {
    "reshape": _Follower._reshape,
    "transpose": _Follower._transpose,
    "broadcast_to": _Follower._broadcast,
    "astype": _Follower._entrywise,
}


def _spread(x: Any, labels: str, out: str) -> Any:
    """An array of labelled axes, steps and batch, with axes as the output's; those that it lacks have length 1."""
    shape, n = shape_of(x), len(labels)
    order = [labels.index(c) for c in out if c in labels]
    gone = [a for a, c in enumerate(labels) if c not in out]  # pinned: of length 1
    x = np.transpose(x, (*order, *gone, n, n + 1))
    return np.reshape(x, (*[shape[labels.index(c)] if c in labels else 1 for c in out], *shape[n:]))


def _same_axes(before: Sequence[int], after: Sequence[int]) -> dict[int, int]:
    """The axes that a reshape leaves as they are, by where they go: not those that it cuts or joins."""
    places: dict[int, int] = {}
    if 0 in before:
        return places
    i = j = 0
    while i < len(before) and j < len(after):
        if before[i] == 1:
            i += 1
        elif after[j] == 1:
            j += 1
        else:
            first, second, a, b = i, j, before[i], after[j]
            while a != b:
                if a < b:
                    i += 1
                    a *= before[i]
                else:
                    j += 1
                    b *= after[j]
            if i == first and j == second:
                places[i] = j
            i, j = i + 1, j + 1
    return places
