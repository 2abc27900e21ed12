"""Functions with rules of the user's own, in both modes; rematerialisation is one of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from nnmath_core._ext._autodiff import (
    Aval,
    aval_of,
    recomputed,
    stage_door,
)
from nnmath_core._ext._tree import TreeDef, flatten, flatten_like, paths, unflatten
from nnmath_core.autodiff.ops.conventions import expand_batch, is_traced
from nnmath_core.autodiff.ops.join import stack
from nnmath_core.autodiff.primitive import Primitive
from nnmath_core.autodiff.transforms import vmap
from nnmath_core.autodiff.variables import carries, is_operand, zero
from nnmath_core.autodiff.wiring import tangent_value, transpose_of
from nnmath_core.checks import require_callable
from nnmath_core.errors import ShapeError, TraceError, TreeError

__all__ = ["checkpoint", "custom_rule", "ruled"]

Rule = Callable[..., Any]


def custom_rule(
    f: Callable[..., Any], *, jvp: Rule | None = None, vjp: Rule | None = None
) -> Callable[..., Any]:
    """A function with derivative rules of its own, valid in both modes when only one of them is given.

    Parameters
    ----------
    f : callable
        Function of arrays or trees of arrays, returning an array or a tree of arrays.
    jvp : callable, optional
        ``jvp(primals, tangents) -> tangent``: both are tuples like the positional arguments, the result is like the
        output. Linear in the tangents.
    vjp : callable, optional
        ``vjp(primals, output, cotangent) -> cotangents``: a tuple with an entry for each positional argument (None:
        zero). Linear in the cotangent.

    Returns
    -------
    callable
        Behaves as ``f``, and as the rules say under differentiation. A rule that is missing is the transpose of the
        other.

    Raises
    ------
    TypeError
        Neither rule is given.
    TreeError, ShapeError, DtypeError
        A rule returns another structure, shape or kind of numbers than its contract; raised when the rule is used.
    TraceError
        A keyword argument is traced; raised by the call.

    Notes
    -----
    Rules are written with traceable functions, so that derivatives of any order, `vmap` and `stage` work. ``f`` itself
    need not be traceable where it is only differentiated; `stage` and `vmap` trace it. Integers, booleans and
    what is no number (a string, a function) are held fixed: their tangents are zeros and their cotangents are ignored.
    Keyword arguments are passed on to ``f`` and to the rules, and are not differentiated.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> clipped = nm.custom_rule(lambda x: x, vjp=lambda xs, y, g: (np.clip(g, -1.0, 1.0),))
    >>> nm.grad(lambda x: np.sum(5.0 * clipped(x)))(np.zeros(2))
    array([1., 1.])
    """
    require_callable("custom_rule", "f", f)
    if jvp is None and vjp is None:
        raise TypeError("custom_rule: give `jvp`, `vjp` or both.")
    for name, rule in (("jvp", jvp), ("vjp", vjp)):
        if rule is not None:
            require_callable("custom_rule", name, rule)

    return ruled("custom_rule", f, jvp, vjp)


def ruled(
    who: str, f: Callable[..., Any], jvp: Rule | None, vjp: Rule | None, *, opaque: bool = False
) -> Callable[..., Any]:
    """``f`` with these rules; ``who`` made it. ``opaque``: `vmap` calls ``f`` for each example, untraced."""

    @functools.wraps(f)
    def wrapped(*args: Any, **kw: Any) -> Any:
        for name, x in kw.items():
            if is_traced(*flatten(x)[0]):
                raise TraceError(
                    f"{who}: the keyword argument `{name}` of {_name(f)} is traced, and keyword arguments are not "
                    "differentiated. Pass it by position."
                )
        leaves, d = flatten(args)
        if not is_traced(*leaves):
            return f(*args, **kw)
        rule = _UserRule(who, f, jvp, vjp, leaves, d, kw)
        rule.opaque = opaque
        outs = _primitive(rule)(*[x for x in leaves if is_operand(x)])
        return unflatten(rule.out_def, list(outs))

    return wrapped


def _name(f: Callable[..., Any]) -> str:
    return str(getattr(f, "__name__", type(f).__name__))


def _carries(x: Any) -> bool:
    """Whether a leaf carries a derivative."""
    return is_operand(x) and carries(x)


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function that keeps only its arguments for the backward pass and runs again when its derivative is needed.

    Parameters
    ----------
    f : callable
        Function of arrays or trees, and of anything else; called without side effects a second time.

    Returns
    -------
    callable
        As ``f``. Memory between forward and backward pass is that of the arguments; the price is one more evaluation.

    Notes
    -----
    Composes with all transformations. What ``f`` closes over is differentiated as its arguments are. The backward pass
    goes on through the second run as it would have gone through the first: the gradient has the same bits, and
    structural zeros pass. A second run that gives other numbers (random ones, or because something was changed in
    place) is a `TraceError`. In reverse over reverse the outer pass keeps what the inner one does not.

    References
    ----------
    Griewank & Walther, "Algorithm 799: revolve", 2000.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> block = nm.checkpoint(lambda x: np.tanh(np.tanh(x)))
    >>> float(nm.grad(block)(0.0))
    1.0
    """
    require_callable("checkpoint", "f", f)

    @functools.wraps(f)
    def wrapped(*args: Any, **kw: Any) -> Any:
        return recomputed(f, args, kw)

    return wrapped


class _FlatRule:
    """A function of leaves with both rules: what a joint primitive needs."""

    who: str  # what made it: a public name, for messages
    name: str
    opaque = False

    def forward(self, *xs: Any) -> tuple[Any, ...]:
        """Outputs as a tuple of leaves."""
        raise NotImplementedError

    def given_jvp(
        self, ts: list[Any], xs: tuple[Any, ...], ys: tuple[Any, ...]
    ) -> list[Any] | None:
        """Tangents of the outputs by the given rule, None for those that carry none; None where there is no rule."""
        raise NotImplementedError

    def given_vjp(
        self, gs: list[Any], xs: tuple[Any, ...], ys: tuple[Any, ...]
    ) -> list[Any] | None:
        """Cotangents of the operands by the given rule, None for those that carry none; None where there is no rule."""
        raise NotImplementedError

    def jvp(self, ts: list[Any], xs: tuple[Any, ...], ys: tuple[Any, ...]) -> tuple[Any, ...]:
        """Tangents of the outputs; the transpose of the vjp where no jvp was given."""
        ts = [zero(x) if t is None else t for t, x in zip(ts, xs, strict=True)]
        out = self.given_jvp(ts, xs, ys)
        if out is None:
            out = _transposed(lambda gs: self.given_vjp(gs, xs, ys), ys, xs, ts)
        return tuple(out)

    def vjp(self, gs: Any, xs: tuple[Any, ...], ys: tuple[Any, ...]) -> list[Any]:
        """Cotangents of the operands; the transpose of the jvp where no vjp was given."""
        gs = [zero(y) if g is None else g for g, y in zip(gs, ys, strict=True)]
        out = self.given_vjp(gs, xs, ys)
        if out is None:
            out = _transposed(lambda ts: self.given_jvp(ts, xs, ys), xs, ys, gs)
        return out


def _transposed(rule: Any, source: Any, target: Any, cts: list[Any]) -> list[Any]:
    """Pull ``cts``, like ``target``, back through a rule that is linear from what is like ``source``."""
    like = tuple(zero(x) for x in source if _carries(x))
    carried = [c for c, y in zip(cts, target, strict=True) if _carries(y)]

    def linear(vs: Any) -> list[Any]:
        it = iter(vs)
        out = rule([next(it) if _carries(x) else zero(x) for x in source])
        # an entry that the rule leaves out is zero
        return [
            zero(y) if v is None else v for v, y in zip(out, target, strict=True) if _carries(y)
        ]

    it = iter(transpose_of(linear, like, carried))
    return [next(it) if _carries(x) else None for x in source]


class _UserRule(_FlatRule):
    """The function and the rules that `custom_rule` was given, on the leaves that are operands."""

    def __init__(
        self,
        who: str,
        f: Callable[..., Any],
        jvp: Rule | None,
        vjp: Rule | None,
        leaves: list[Any],
        in_def: TreeDef,
        kw: dict[str, Any],
    ) -> None:
        self.who, self.f, self.user_jvp, self.user_vjp, self.kw = who, f, jvp, vjp, kw
        self.in_def, self.name, self.out_def = in_def, _name(f), flatten(None)[1]
        self.on = [is_operand(x) for x in leaves]
        self.constants = [None if m else x for m, x in zip(self.on, leaves, strict=True)]

    def args(self, xs: Any, others: list[Any]) -> Any:
        """The tree of arguments with these operands."""
        it = iter(xs)
        return unflatten(
            self.in_def, [next(it) if m else c for m, c in zip(self.on, others, strict=True)]
        )

    def forward(self, *xs: Any) -> tuple[Any, ...]:
        outs, self.out_def = flatten(self.f(*self.args(xs, self.constants), **self.kw))
        return tuple(outs)

    def given_jvp(
        self, ts: list[Any], xs: tuple[Any, ...], ys: tuple[Any, ...]
    ) -> list[Any] | None:
        if self.user_jvp is None:
            return None
        out = self.user_jvp(
            self.args(xs, self.constants), self.args(ts, [0] * len(self.on)), **self.kw
        )
        given = flatten_like(out, self.out_def)
        if given is None:
            raise TreeError(
                f"{self.who}: the jvp rule of {self.name} must return the structure {self.out_def}, "
                f"got {flatten(out)[1]}."
            )
        where = paths(self.out_def)
        return [
            tangent_value(self.who, t, y, f"the tangent of the output{where[i]} of {self.name}")
            if _carries(y)
            else None
            for i, (t, y) in enumerate(zip(given, ys, strict=True))
        ]

    def given_vjp(
        self, gs: list[Any], xs: tuple[Any, ...], ys: tuple[Any, ...]
    ) -> list[Any] | None:
        if self.user_vjp is None:
            return None
        args = self.args(xs, self.constants)
        out = self.user_vjp(
            args, unflatten(self.out_def, list(ys)), unflatten(self.out_def, gs), **self.kw
        )
        if not isinstance(out, (tuple, list)) or len(out) != len(args):
            got = f"a {type(out).__name__}" + (
                f" of length {len(out)}" if isinstance(out, (tuple, list)) else ""
            )
            raise TreeError(
                f"{self.who}: the vjp rule of {self.name} must return a tuple of {len(args)} cotangents, one for each "
                f"argument, got {got}."
            )
        cts: list[Any] = []
        for i, (c, a) in enumerate(zip(out, args, strict=True)):
            mine, d = flatten(a)
            given = [None] * len(mine) if c is None else flatten_like(c, d)
            if given is None:
                raise TreeError(
                    f"{self.who}: the vjp rule of {self.name} must return for argument {i} the structure {d}, "
                    f"got {flatten(c)[1]}."
                )
            cts += [
                tangent_value(self.who, v, x, f"the cotangent of argument {i} of {self.name}")
                if v is not None and _carries(x)
                else None
                for v, x in zip(given, mine, strict=True)
                if is_operand(x)
            ]
        return cts


class _BatchedRule(_FlatRule):
    """A flat rule over a batch; ``axes`` has 0 for the operands that have the batch axis, else None."""

    def __init__(self, inner: _FlatRule, axes: tuple[Any, ...], size: int) -> None:
        self.inner, self.axes, self.size = inner, axes, size
        self.who, self.name, self.opaque = inner.who, inner.name, inner.opaque

    def forward(self, *xs: Any) -> tuple[Any, ...]:
        if not self.opaque:
            ys: tuple[Any, ...] = vmap(self.inner.forward, self.axes)(*xs)
            return ys
        if not self.size:
            raise ShapeError(
                f"vmap: {self.name} is called for each example, and the batch is empty."
            )
        rows = [
            self.inner.forward(
                *(x if axis is None else x[i] for x, axis in zip(xs, self.axes, strict=True))
            )
            for i in range(self.size)
        ]
        return tuple(stack(column) for column in zip(*rows, strict=True))

    def given_jvp(
        self, ts: list[Any], xs: tuple[Any, ...], ys: tuple[Any, ...]
    ) -> list[Any] | None:
        n, k = len(xs), len(ys)

        def one(*a: Any) -> tuple[Any, ...]:
            return self.inner.jvp(list(a[:n]), a[n : 2 * n], a[2 * n :])

        return list(vmap(one, self.axes * 2 + (0,) * k)(*ts, *xs, *ys))

    def given_vjp(
        self, gs: list[Any], xs: tuple[Any, ...], ys: tuple[Any, ...]
    ) -> list[Any] | None:
        n, k = len(ys), len(xs)

        def one(*a: Any) -> tuple[Any, ...]:
            cts = self.inner.vjp(list(a[:n]), a[n : n + k], a[n + k :])
            return tuple(
                zero(x) if c is None else c for c, x in zip(cts, a[n : n + k], strict=True)
            )

        cts = vmap(one, (0,) * n + self.axes + (0,) * n)(*gs, *xs, *ys)
        return [c if axis == 0 else c.sum(axis=0) for c, axis in zip(cts, self.axes, strict=True)]


def _primitive(rule: _FlatRule) -> Primitive:
    """A joint primitive for one use of a rule."""

    def shape(*operands: Any) -> tuple[Aval, ...]:
        _, outputs, _ = stage_door(rule.forward, operands)
        return tuple(
            Aval(o.shape, o.dtype) if hasattr(o, "number") else aval_of(o) for o in outputs
        )

    def batch(on: list[bool], values: list[Any], size: int) -> tuple[Any, ...]:
        if not any(on):
            return tuple(expand_batch(v, size) for v in _primitive(rule)(*values))
        axes = tuple(0 if m else None for m in on)
        return tuple(_primitive(_BatchedRule(rule, axes, size))(*values))

    return Primitive(
        f"{rule.who}({rule.name})",
        forward=lambda be, *xs: rule.forward(*xs),
        joint=True,
        vjp=(lambda gs, xs, ys: rule.vjp(gs, xs, ys),),
        jvp=(lambda ts, xs, ys: rule.jvp(ts, xs, ys),),
        keeps=("*y",),
        shape=shape,
        batch=batch,
        outputs="all",
        register=False,
    )
