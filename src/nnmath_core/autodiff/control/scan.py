"""scan: a loop of known length over a carry, over slices of arrays, whose results are stacked."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Aval, Tracer, dtype_of, recomputed, shape_of
from nnmath_core._ext._tree import TreeDef, flatten, flatten_like, paths, unflatten
from nnmath_core.autodiff.control.carry import Carry, is_number, require_leaves
from nnmath_core.autodiff.control.steps import run
from nnmath_core.autodiff.control.subprogram import close, trace
from nnmath_core.autodiff.ops.conventions import constant, is_staged
from nnmath_core.autodiff.ops.index import slice_p
from nnmath_core.checks import describe, require_callable, require_int, sentence
from nnmath_core.errors import ShapeError, TreeError

__all__ = ["scan", "scan_"]


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    *,
    reverse: bool = False,
    unroll: int = 1,
    checkpoint: bool | int = False,
) -> tuple[Any, Any]:
    r"""Go over the rows of arrays with a carry, and stack what each step gives.

    .. math:: (c_{t+1}, y_t) = f(c_t, x_t)

    Parameters
    ----------
    f : callable
        ``f(carry, x)`` returns ``(carry, y)``; the carry keeps its structure, shapes and dtypes. What ``f`` closes over
        is differentiated, too.
    init : array or tree
        The first carry: arrays and numbers. Integers and booleans pass, without derivative.
    xs : array or tree, optional
        Arrays of one length along their first axis; step t gets row t of each.
    length : int, optional
        Number of steps; needed when there are no ``xs``.
    reverse : bool, default False
        Go from the last row to the first; ``ys[t]`` still belongs to ``xs[t]``.
    unroll : int, default 1
        Accepted for JAX's sake. There is nothing to unroll: the result and the cost do not depend on it.
    checkpoint : bool or int, default False
        Reverse mode keeps the carry at the ends of segments alone, and runs a segment again when its turn comes: about
        :math:`2 \sqrt n` steps in memory in place of n, at the price of one more evaluation. An integer is the length
        of a segment; True is :math:`\lceil \sqrt n \rceil`.

    Returns
    -------
    carry : tree
        The last carry.
    ys : tree
        What the steps gave, stacked along a new first axis.

    Raises
    ------
    TreeError
        ``f`` returns no pair, or a carry of another structure, or results whose structure changes.
    ShapeError, DtypeError
        A step changes a shape or dtype of the carry; the ``xs`` differ in length, or from ``length``.

    Notes
    -----
    Where nothing is staged this is a Python loop, in both modes; reverse mode keeps what the rules of each step read,
    and the gradient with ``checkpoint`` has the same bits as without. Under `stage`, when ``init`` or ``xs`` are
    staged, it is one equation with ``f`` as sub-program; reverse mode keeps the carry of each step and runs each step
    again, and ``checkpoint`` nests two scans. In reverse over reverse the outer pass keeps all steps of the inner one.

    References
    ----------
    Griewank & Walther, "Evaluating Derivatives", 2008, chapter 12.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.scan(lambda c, x: (c + x, c * x), 0.0, np.array([1.0, 2.0, 3.0]))
    (np.float64(6.0), array([0., 2., 9.]))
    >>> f = lambda x: nm.scan(lambda c, _: (np.sin(c) + x, None), x, None, 1000, checkpoint=True)[0]
    >>> round(float(nm.grad(f)(0.25)), 12)
    1.636712606461
    """
    require_callable("scan", "f", f)
    require_int("scan", "unroll", unroll, minimum=1)
    return scan_("scan", "init", "f", f, init, xs, length, reverse, checkpoint)


def scan_(
    who: str,
    name: str,
    step: str,
    f: Callable[[Any, Any], Any],
    init: Any,
    xs: Any,
    length: int | None,
    reverse: bool = False,
    checkpoint: bool | int = False,
) -> tuple[Any, Any]:
    """`scan` under the names that the caller's arguments have."""
    rows, xs_def = flatten(xs)
    n = _length(who, xs, rows, xs_def, length)
    segment = _segment(who, n, checkpoint)
    loop = _Loop(who, f, step, Carry(who, name, init, step), rows, xs_def, n)
    if n == 0 or any(map(is_staged, (*loop.carry.leaves, *rows))):
        return loop.recorded(init, 0, n, bool(reverse), segment)
    return loop.python(init, bool(reverse), segment)


def _length(who: str, xs: Any, rows: list[Any], d: TreeDef, length: int | None) -> int:
    if length is not None:
        length = require_int(who, "length", length, minimum=0)
    if not rows:
        if length is None:
            raise ShapeError(f"{who}: without `xs` the number of steps must be given as `length`.")
        return length
    require_leaves(who, "xs", xs, "Close over what is no array.")
    where = [f"`xs{path}`" for path in paths(d)]
    lengths = []
    for x, place in zip(rows, where, strict=True):
        if is_number(x) or shape_of(x) == ():
            raise ShapeError(
                f"{who}: {place} must have a first axis to go along, got {describe(x)}. Close over what is the same in "
                "all steps."
            )
        lengths.append(shape_of(x)[0])
    for m, place in zip(lengths, where, strict=True):
        if m != lengths[0]:
            raise ShapeError(
                f"{who}: `xs` must have one length along the first axis, got {lengths[0]} ({where[0]}) and {m} "
                f"({place})."
            )
    if length is not None and length != lengths[0]:
        raise ShapeError(
            sentence(who, "length", f"{lengths[0]}, the length of `xs`, or left out", str(length))
        )
    return int(lengths[0])


def _segment(who: str, n: int, checkpoint: bool | int) -> int:
    """Steps between two carries that are kept; 0: keep everything."""
    if checkpoint is False or checkpoint is None:
        return 0
    if checkpoint is True:
        return math.isqrt(n - 1) + 1 if n > 3 else 0
    segment = require_int(who, "checkpoint", checkpoint, minimum=1)
    return segment if segment < n else 0


class _Loop:
    """A scan, by Python or as an equation."""

    def __init__(
        self,
        who: str,
        f: Callable[[Any, Any], Any],
        step: str,
        carry: Carry,
        rows: list[Any],
        xs_def: TreeDef,
        length: int,
    ) -> None:
        self.who, self.f, self.step, self.carry = who, f, step, carry
        self.rows, self.xs_def, self.length = rows, xs_def, length
        self.ys_def: Any = None

    def once(self, value: Any, x: Any) -> tuple[Any, list[Any], list[Any]]:
        """One step: the carry, its leaves, and the leaves of y."""
        out = self.f(value, x)
        if not isinstance(out, tuple) or len(out) != 2:
            raise TreeError(
                f"{self.who}: `{self.step}` must return a pair (carry, y), got {describe(out)}"
                + (f" of length {len(out)}. " if isinstance(out, tuple) else ". ")
                + "Where there is no y write (carry, None)."
            )
        value, leaves = self.carry.after(out[0])
        if self.ys_def is None:
            require_leaves(self.who, "y", out[1], "Return arrays and numbers.")
            self.ys_def = flatten(out[1])[1]
        ys = flatten_like(out[1], self.ys_def)
        if ys is None:
            raise TreeError(
                f"{self.who}: the y that `{self.step}` returns must have one structure in all steps, {self.ys_def}, "
                f"got {flatten(out[1])[1]}."
            )
        return value, leaves, ys

    def row(self, t: int) -> Any:
        """What step t gets of the xs."""
        rows = [slice_p(x, index=(t,)) if isinstance(x, Tracer) else x[t] for x in self.rows]
        return rows[0] if self.xs_def.is_leaf else unflatten(self.xs_def, rows)

    # -------------------------------------------------------------------------------------------- by Python
    def python(self, init: Any, reverse: bool, segment: int) -> tuple[Any, Any]:
        """The loop in Python, from which it goes over to an equation when a step gives something staged."""
        n = self.length
        value: Any = init
        given: list[list[Any]] = []
        times = range(n - 1, -1, -1) if reverse else range(n)
        value, leaves, ys = self.once(value, self.row(times[0]))
        given.append(ys)
        if any(map(is_staged, (*leaves, *ys))):  # f closes over what is staged
            low, high = (0, n - 1) if reverse else (1, n)
            value, rest = self.recorded(value, low, high, reverse, segment)
            return value, self.joined(given, rest, reverse)

        def some(value: Any, times: range) -> Any:
            out = []
            for t in times:
                value, _, ys = self.once(value, self.row(t))
                out.append(ys)
            return value, out

        if not segment:
            value, more = some(value, times[1:])
            given += more
        else:
            at = 1
            for stop in [*range(segment, n, segment), n]:
                value, more = recomputed(some, (value, times[at:stop]), {})
                given += more
                at = stop
        return self.carry.finished(value), self.stacked(given, reverse)

    def stacked(self, given: list[list[Any]], reverse: bool) -> Any:
        """The results of all steps, in the order of the xs."""
        if reverse:
            given.reverse()
        columns = zip(*given, strict=True)
        return unflatten(self.ys_def, [_stack(self.who, self.step, c) for c in columns])

    def joined(self, given: list[list[Any]], rest: Any, reverse: bool) -> Any:
        """The results of the first step before those of the others."""
        first = self.stacked(given, reverse)
        pairs = zip(flatten(first)[0], flatten(rest)[0], strict=True)
        return unflatten(
            self.ys_def, [np.concatenate((b, a) if reverse else (a, b)) for a, b in pairs]
        )

    # -------------------------------------------------------------------------------------------- as an equation
    def recorded(
        self, value: Any, low: int, high: int, reverse: bool, segment: int
    ) -> tuple[Any, Any]:
        """The steps low to high - 1 as a sub-program; it runs at once where nothing is staged."""
        d = self.carry.treedef
        leaves = flatten(value)[0]
        xs = [
            x if (low, high) == (0, self.length) else slice_p(x, index=(slice(low, high),))
            for x in self.rows
        ]
        rows = [Aval(shape_of(x)[1:], dtype_of(x)) for x in xs]
        if any(map(is_number, leaves)):  # a first trace says which dtype a Python number gets
            places = [i for i, x in enumerate(leaves) if not is_number(x)]

            def probe(*a: Any) -> list[Any]:
                full = list(leaves)
                for i, x in zip(places, a[: len(places)], strict=True):
                    full[i] = x
                x = unflatten(self.xs_def, list(a[len(places) :]))
                return self.once(unflatten(d, full), x)[1]

            trace(self.step, probe, [*(leaves[i] for i in places), *rows], self.who, True)
        leaves = self.carry.settled(leaves)
        k = len(leaves)

        def flat(*a: Any) -> list[Any]:
            x = unflatten(self.xs_def, list(a[k:]))
            _, new, ys = self.once(unflatten(d, list(a[:k])), x)
            return [*new, *(np.asarray(y)[()] if is_number(y) else y for y in ys)]

        staged = any(map(is_staged, (*leaves, *xs)))
        sub, captured, _ = trace(self.step, flat, [*leaves, *rows], self.who, not staged)
        shared, (closed,) = close([sub], [captured])
        body = trace(self.step, closed, [*shared, *leaves, *rows])[0]
        out = run(
            *shared,
            *leaves,
            *xs,
            body=body,
            consts=len(shared),
            carry=k,
            length=high - low,
            reverse=reverse,
            checkpoint=segment if segment < high - low else 0,
        )
        return unflatten(d, list(out[:k])), unflatten(self.ys_def, list(out[k:]))


def _stack(who: str, step: str, column: tuple[Any, ...]) -> Any:
    """The results of all steps; a Python number, which the first carry may have left, takes the dtype of the others."""
    first = next((y for y in column if not is_number(y)), column[0])
    dtype, shape = dtype_of(first), shape_of(first)
    for y in column:
        if shape_of(y) != shape:
            raise ShapeError(
                f"{who}: the y that `{step}` returns must have one shape in all steps, got {shape} and {shape_of(y)}."
            )
    if not is_number(first):
        column = tuple(
            constant(first, (), y, dtype)
            if is_number(y) and np.result_type(dtype, y) == dtype
            else y
            for y in column
        )
    return np.stack(column)
