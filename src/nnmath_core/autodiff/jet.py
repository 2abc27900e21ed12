"""Taylor mode: the derivatives of all orders up to k along a curve, at a cost that grows as k^2 and not as 2^k.

Inside `jet` a value is a power series in t. Three kinds of primitives say what becomes of it:

- a linear one acts on each coefficient;
- a multilinear one is a Cauchy product;
- for any other y = f(x), y' = f'(x) x' is its own forward rule, written in primitives: evaluated on series it gives the
  coefficients of y' up to order k - 1, which are those of y up to order k. The rule may read y itself (exp, tanh), so
  its coefficients are computed one by one, when they are asked for. It is evaluated once.

So every primitive that has a derivative has all its Taylor coefficients, and no primitive has a rule for them but
division, whose recurrence is the shorter way.

References: A. Griewank and A. Walther, "Evaluating Derivatives", 2nd edition (2008), chapter 13; M. D. McIlroy, "Power
series, power serious", Journal of Functional Programming 9 (1999), for coefficients on demand.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from nnmath_core._ext._autodiff import (
    PrimitiveBase,
    dtype_of,
    evaluate,
    jet_door,
    jet_parts,
    jet_tracer,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import add, divide, multiply, subtract
from nnmath_core.autodiff.ops.shape import broadcast_to, cast
from nnmath_core.autodiff.transforms import require_tuples
from nnmath_core.autodiff.variables import carries, zero
from nnmath_core.autodiff.wiring import transposed_vjp
from nnmath_core.checks import describe, require_callable, sentence
from nnmath_core.errors import TreeError

__all__ = ["jet"]

Coefficient = Any
"""An array of the shape and dtype of the value, or None: zero."""


class Series:
    """The coefficients of t, t^2, ... of a power series; each is computed once, when it is asked for."""

    __slots__ = ("known", "next")

    def __init__(self, following: Callable[[int], Coefficient]) -> None:
        self.known: list[Coefficient] = []
        self.next = following

    def __getitem__(self, k: int) -> Coefficient:
        while len(self.known) < k:
            self.known.append(self.next(len(self.known) + 1))
        return self.known[k - 1]


def _coefficient(value: Any, series: Series | None, k: int) -> Coefficient:
    return value if k == 0 else None if series is None else series[k]


def _total(terms: Any) -> Coefficient:
    found = None
    for term in terms:
        if term is not None:
            found = term if found is None else add(found, term)
    return found


def _fitted(c: Coefficient, y: Any) -> Coefficient:
    """A coefficient in the shape and dtype of the value it belongs to."""
    if c is None:
        return None
    if shape_of(c) != shape_of(y):
        c = broadcast_to(c, shape_of(y))
    return c if dtype_of(c) == dtype_of(y) else cast(c, dtype_of(y))


class Jets:
    """The rules of the series in one trace, up to one order."""

    def __init__(self, order: int) -> None:
        self.order = order
        self.inside = 0  # rules that are being evaluated
        self.inlined: tuple[Any, tuple[Any, ...]] = (None, ())
        self.same: dict[tuple[Any, ...], tuple[Any, Any, Any]] = {}

    # --- in and out -----------------------------------------------------------------------------
    def given(self, derivatives: Sequence[Coefficient]) -> Series:
        """Return the series of an argument from its derivatives of order 1, 2, ..."""
        known = [
            c if c is None or k < 2 else divide(c, float(math.factorial(k)))
            for k, c in enumerate(derivatives, 1)
        ]
        return Series(lambda k: known[k - 1] if k <= len(known) else None)

    def taken(self, value: Any, series: Series) -> list[Any]:
        """Return the derivatives of an output from its series."""
        found = []
        for k in range(1, self.order + 1):
            c = series[k]
            if c is None:
                c = zero(value)
            found.append(c if k < 2 else multiply(c, float(math.factorial(k))))
        return found

    # --- a primitive ----------------------------------------------------------------------------
    def process(self, trace: Any, p: PrimitiveBase, xs: tuple[Any, ...], kw: dict[str, Any]) -> Any:
        """Run a primitive on series."""
        if p.inline is not None and not self._came_back(p, xs):
            # control flow: its equations, one by one; it comes back when nothing decides which ones run
            before, self.inlined = self.inlined, (p, xs)
            try:
                return p.inline(*xs, **kw)
            finally:
                self.inlined = before
        values, series = jet_parts(trace, xs)
        key = None
        if p.elementwise and len(xs) == 1 and not kw:  # sin needs cos and cos needs sin
            key = (p, id(series[0]))
            if key in self.same:
                y, own, _ = self.same[key]
                if not self.inside:
                    own[self.order]
                return jet_tracer(trace, y, own)
        y = evaluate(p, values, kw)
        if not p.differentiable or (not p.several and not carries(y)):
            return y
        if p.several:
            outputs = self._several(trace, p, values, series, y, kw)
        else:
            if p.linear:
                own = Series(lambda k: self._linear(p, values, series, kw, k))
            elif p.name == "divide":
                own = self._quotient(values, series, y)
            elif p.multilinear:
                own = Series(lambda k: self._product(p, values, series, kw, k))
            elif p.name in ("multiply", "square"):
                own = self._times(values, series)
            else:
                own = self._by_rule(trace, p, values, series, y, kw)
            inner = own.next
            own.next = lambda k: _fitted(inner(k), y)
            if key is not None:
                self.same[key] = (
                    y,
                    own,
                    series[0],
                )  # the operand lives on, so that its id stays its own
            outputs = jet_tracer(trace, y, own)
            if not self.inside:
                own[self.order]
        return outputs

    def _came_back(self, p: PrimitiveBase, xs: tuple[Any, ...]) -> bool:
        """Whether this is the equation that is being run on its operands, bound again."""
        q, operands = self.inlined
        return p is q and len(xs) == len(operands) and all(map(operator.is_, xs, operands))

    def _linear(
        self, p: PrimitiveBase, values: Any, series: Any, kw: dict[str, Any], k: int
    ) -> Coefficient:
        cs = [None if s is None else s[k] for s in series]
        if all(c is None for c in cs):
            return None
        return evaluate(
            p, tuple(zero(v) if c is None else c for c, v in zip(cs, values, strict=True)), kw
        )

    def _product(
        self, p: PrimitiveBase, values: Any, series: Any, kw: dict[str, Any], k: int
    ) -> Coefficient:
        """Sum over all ways to share the order k among the operands."""
        moving = [i for i, s in enumerate(series) if s is not None]

        def term(orders: tuple[int, ...]) -> Coefficient:
            operands = list(values)
            for i, j in zip(moving, orders, strict=True):
                operands[i] = _coefficient(values[i], series[i], j)
                if operands[i] is None:
                    return None
            return evaluate(p, tuple(operands), kw)

        return _total(
            term((*head, k - sum(head)))
            for head in itertools.product(range(k + 1), repeat=len(moving) - 1)
            if sum(head) <= k
        )

    def _times(self, values: Any, series: Any) -> Series:
        (a, b), (s, t) = (values, series) if len(values) == 2 else (values * 2, series * 2)

        def following(k: int) -> Coefficient:
            terms = []
            for i in (
                range(k + 1) if s is not None and t is not None else (0,) if s is None else (k,)
            ):
                c, d = _coefficient(a, s, i), _coefficient(b, t, k - i)
                terms.append(None if c is None or d is None else multiply(c, d))
            return _total(terms)

        return Series(following)

    def _quotient(self, values: Any, series: Any, y: Any) -> Series:
        """Y b = a, hence b_0 y_k = a_k - b_1 y_(k-1) - ... - b_k y_0."""
        (_, b), (above, below) = values, series

        def following(k: int) -> Coefficient:
            c = None if above is None else above[k]
            if below is not None:
                for j in range(1, k + 1):
                    d, e = below[j], _coefficient(y, own, k - j)
                    if d is not None and e is not None:
                        term = multiply(d, e)
                        c = -term if c is None else subtract(c, term)
            return None if c is None else divide(c, b)

        own = Series(following)
        return own

    # --- by the forward rule --------------------------------------------------------------------
    def _slope(self, trace: Any, value: Any, series: Series) -> Any:
        """Return x' as a tracer."""
        first = series[1]
        return jet_tracer(
            trace,
            zero(value) if first is None else first,
            Series(
                lambda k: None if series[k + 1] is None else multiply(series[k + 1], float(k + 1))
            ),
        )

    def _derivative(
        self, trace: Any, p: PrimitiveBase, values: Any, series: Any, y: Any, kw: dict[str, Any]
    ) -> Any:
        """Return the derivative of the output with respect to t: the forward rule, on series."""
        xs = tuple(
            v if s is None else jet_tracer(trace, v, s) for v, s in zip(values, series, strict=True)
        )
        self.inside += 1
        try:
            slopes = [
                None if s is None else self._slope(trace, v, s)
                for v, s in zip(values, series, strict=True)
            ]
            if p.joint:
                return p.jvp[0](slopes, xs, y, **kw)
            if p.linear:
                zeros = (zero(v) if s is None else s for v, s in zip(values, slopes, strict=True))
                return evaluate(p, tuple(zeros), kw)
            found = None
            for i, slope in enumerate(slopes):
                if slope is None:
                    continue
                part = _forward(p, i, slope, xs, y, kw)
                if p.several and part is not None and found is not None:
                    found = tuple(_total(pair) for pair in zip(found, part, strict=True))
                else:
                    found = part if found is None else _total((found, part))
            return found
        finally:
            self.inside -= 1

    def _by_rule(
        self, trace: Any, p: PrimitiveBase, values: Any, series: Any, y: Any, kw: dict[str, Any]
    ) -> Series:
        derivative: list[Any] = []

        def following(k: int) -> Coefficient:
            if not derivative:
                derivative.append(
                    self._derivative(trace, p, values, series, jet_tracer(trace, y, own), kw)
                )
            return self._integral(trace, derivative[0], k)

        own = Series(following)
        return own

    def _integral(self, trace: Any, derivative: Any, k: int) -> Coefficient:
        """Return the k-th coefficient of what has this derivative."""
        if derivative is None:
            return None
        (value,), (s,) = jet_parts(trace, (derivative,))
        self.inside += 1
        try:
            c = _coefficient(value, s, k - 1)
        finally:
            self.inside -= 1
        return c if c is None or k == 1 else divide(c, float(k))

    def _several(
        self, trace: Any, p: PrimitiveBase, values: Any, series: Any, ys: Any, kw: dict[str, Any]
    ) -> Any:
        derivative: list[Any] = []
        on = p.differentiable_outputs or (True,) * len(ys)
        outputs: list[Any] = []

        def following(i: int, k: int) -> Coefficient:
            if not derivative:
                derivative.append(self._derivative(trace, p, values, series, tuple(outputs), kw))
            d = derivative[0]
            return None if d is None else _fitted(self._integral(trace, d[i], k), ys[i])

        def own(i: int) -> Series:
            return Series(lambda k: following(i, k))

        outputs += [
            jet_tracer(trace, y, own(i)) if live and carries(y) else y
            for i, (y, live) in enumerate(zip(ys, on, strict=True))
        ]
        if not self.inside:
            for s in jet_parts(trace, tuple(outputs))[1]:
                if s is not None:
                    s[self.order]
        return tuple(outputs)


def _forward(p: PrimitiveBase, i: int, t: Any, xs: Any, y: Any, kw: dict[str, Any]) -> Any:
    """Apply the forward rule of operand i, as forward mode does."""
    if p.multilinear:
        return evaluate(p, (*xs[:i], t, *xs[i + 1 :]), kw)
    if p.elementwise:
        return p.vjp[i](t, xs, y, **kw)
    if p.variadic and p.jvp:
        return p.jvp[0](t, xs, y, i=i, **kw)
    if i < len(p.jvp) and p.jvp[i] is not None:
        return p.jvp[i](t, xs, y, **kw)
    return transposed_vjp(p, i, t, xs, y, kw)


def jet(
    f: Callable[..., Any], primals: Sequence[Any], series: Sequence[Sequence[Any]]
) -> tuple[Any, list[Any]]:
    r"""Derivatives of ``f`` of the orders 1 to k along a curve, by Taylor mode.

    .. math:: \left. \frac{d^j}{dt^j} f(x(t)) \right|_{t=0}, \qquad
        x(t) = x_0 + x_1 t + x_2 \frac{t^2}{2!} + \ldots + x_k \frac{t^k}{k!}.

    Parameters
    ----------
    f : callable
        Function of arrays or trees of arrays.
    primals : sequence of array or tree
        The point :math:`x_0`, one entry for each argument.
    series : sequence of sequence
        For each argument the derivatives :math:`x_1, \ldots, x_k` of its curve, each of the structure and shapes of the
        argument; all of the same length k >= 1. A straight line has :math:`x_2 = \ldots = 0`.

    Returns
    -------
    value : tree
        ``f(*primals)``.
    terms : list of k trees
        The derivatives of order 1 to k, of the structure of ``value``.

    Raises
    ------
    TreeError, ShapeError, DtypeError
        ``series`` does not match ``primals``.

    Notes
    -----
    Names, argument order and scaling are those of ``jax.experimental.jet``. Every primitive takes part, since its
    coefficients follow from its forward rule. An operation of a series costs about :math:`k^2 / 2` operations of
    numbers, where the k-fold `jvp` costs :math:`2^k`. At special points the derivatives are those of the k-fold `jvp`.

    References
    ----------
    A. Griewank and A. Walther, "Evaluating Derivatives", 2nd edition (2008), chapter 13.

    Examples
    --------
    The derivatives of the sine at 0 are 1, 0, -1, 0, 1.

    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> y, terms = nm.jet(np.sin, (0.0,), ([1.0, 0.0, 0.0, 0.0, 0.0],))
    >>> [float(t) for t in terms]
    [1.0, 0.0, -1.0, 0.0, 1.0]
    """
    require_callable("jet", "f", f)
    require_tuples("jet", primals=primals, series=series)
    if len(series) != len(primals):
        wanted = f"an entry for each of the {len(primals)} arguments in `primals`"
        raise TreeError(sentence("jet", "series", wanted, f"{len(series)} entries"))
    for i, terms in enumerate(series):
        if not isinstance(terms, (list, tuple)):
            wanted = "a list of the derivatives of order 1, 2, ..."
            raise TreeError(sentence("jet", f"series[{i}]", wanted, describe(terms), "Write [x1]."))
    orders = {len(terms) for terms in series}
    if len(orders) != 1 or 0 in orders:
        wanted = "lists of one length, at least 1"
        raise TreeError(sentence("jet", "series", wanted, f"lengths {[len(t) for t in series]}"))
    k = orders.pop()
    return jet_door(
        Jets(k), f, tuple(primals), [tuple(terms[j] for terms in series) for j in range(k)]
    )
