"""Functions with rules of the user's own, in both modes; rematerialisation is one of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from nnmath_core._ext._autodiff import (
    Aval,
    aval_of,
    dtype_of,
    jvp_door,
    shape_of,
    stage_door,
    vjp_door,
)
from nnmath_core._ext._tree import TreeDef, flatten, unflatten
from nnmath_core.autodiff.ops.conventions import expand_batch, is_traced
from nnmath_core.autodiff.primitive import Primitive
from nnmath_core.autodiff.transforms import vmap
from nnmath_core.autodiff.wiring import tangent_value, zeros
from nnmath_core.checks import require_callable
from nnmath_core.errors import TreeError

__all__ = ["checkpoint", "custom_rule"]

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
        ``jvp(primals, tangents) -> tangent``: both are tuples like the arguments, the result is like the output.
        Linear in the tangents.
    vjp : callable, optional
        ``vjp(primals, output, cotangent) -> cotangents``: a tuple with an entry for each argument (None: zero).
        Linear in the cotangent.

    Returns
    -------
    callable
        Behaves as ``f``, and as the rules say under differentiation. A rule that is missing is the transpose of the
        other.

    Raises
    ------
    TypeError
        Neither rule is given.
    TreeError, ShapeError
        A rule returns another structure or shape than its contract; raised when the rule is used.

    Notes
    -----
    Rules are written with traceable functions, so that derivatives of any order, `vmap` and `stage` work. ``f`` itself
    need not be traceable where it is only differentiated; `stage` and `vmap` trace it. Integer arguments are held
    fixed: their tangents are zeros and their cotangents are ignored.

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

    @functools.wraps(f)
    def wrapped(*args: Any) -> Any:
        leaves, d = flatten(args)
        if not is_traced(*leaves):
            return f(*args)
        flat = _UserRule(f, jvp, vjp, d)
        outs = _primitive(flat)(*leaves)
        return unflatten(flat.out_def, list(outs))

    return wrapped


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function that keeps only its arguments for the backward pass and runs again when its derivative is needed.

    Parameters
    ----------
    f : callable
        Function of arrays or trees; called without side effects a second time.

    Returns
    -------
    callable
        As ``f``. Memory between forward and backward pass is that of the arguments; the price is one more evaluation.

    Notes
    -----
    Composes with all transformations, to any order. Arrays that ``f`` closes over are constants of the rule: pass what
    is to be differentiated as an argument.

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
    return custom_rule(
        f,
        jvp=lambda primals, tangents: jvp_door(f, primals, tangents, False, "checkpoint")[1],
        vjp=lambda primals, y, g: vjp_door(f, primals, False)[1](g),
    )


class _FlatRule:
    """A function of leaves with both rules: what a joint primitive needs."""

    name: str

    def forward(self, *xs: Any) -> tuple[Any, ...]:
        """Outputs as a tuple of leaves."""
        raise NotImplementedError

    def given_jvp(self, ts: list[Any], xs: tuple[Any, ...]) -> list[Any] | None:
        """Tangents of the outputs by the given rule; None where there is none."""
        raise NotImplementedError

    def given_vjp(
        self, gs: list[Any], xs: tuple[Any, ...], ys: tuple[Any, ...]
    ) -> list[Any] | None:
        """Cotangents of the operands by the given rule; None where there is none."""
        raise NotImplementedError

    def jvp(self, ts: list[Any], xs: tuple[Any, ...], ys: tuple[Any, ...]) -> tuple[Any, ...]:
        """Tangents of the outputs; the transpose of the vjp where no jvp was given."""
        ts = [_zero(x) if t is None else t for t, x in zip(ts, xs, strict=True)]
        out = self.given_jvp(ts, xs)
        if out is None:
            carries = [dtype_of(x).kind == "f" for x in xs]

            def back(*gs: Any) -> list[Any]:
                cts = self.given_vjp(list(gs), xs, ys)
                assert cts is not None  # custom_rule refuses a function without rules
                return [c for c, m in zip(cts, carries, strict=True) if m]

            _, pull = vjp_door(back, tuple(_zero(y) for y in ys), False)
            out = pull([t for t, m in zip(ts, carries, strict=True) if m])
        return tuple(out)

    def vjp(self, gs: Any, xs: tuple[Any, ...], ys: tuple[Any, ...]) -> list[Any]:
        """Cotangents of the operands; the transpose of the jvp where no vjp was given."""
        gs = [_zero(y) if g is None else g for g, y in zip(gs, ys, strict=True)]
        out = self.given_vjp(gs, xs, ys)
        if out is None:
            carries = [dtype_of(x).kind == "f" for x in xs]

            def forth(*ts: Any) -> list[Any]:
                it = iter(ts)
                full = [next(it) if m else _zero(x) for x, m in zip(xs, carries, strict=True)]
                out = self.given_jvp(full, xs)
                assert out is not None  # custom_rule refuses a function without rules
                return out

            _, pull = vjp_door(
                forth, tuple(_zero(x) for x, m in zip(xs, carries, strict=True) if m), False
            )
            cts = iter(pull(gs))
            out = [next(cts) if m else None for m in carries]
        return out


class _UserRule(_FlatRule):
    """The function and the rules that `custom_rule` was given, on leaves."""

    def __init__(
        self, f: Callable[..., Any], jvp: Rule | None, vjp: Rule | None, in_def: TreeDef
    ) -> None:
        self.f, self.user_jvp, self.user_vjp, self.in_def = f, jvp, vjp, in_def
        self.name = getattr(f, "__name__", type(f).__name__)
        self.out_def: Any = None

    def forward(self, *xs: Any) -> tuple[Any, ...]:
        outs, self.out_def = flatten(self.f(*unflatten(self.in_def, list(xs))))
        return tuple(outs)

    def given_jvp(self, ts: list[Any], xs: tuple[Any, ...]) -> list[Any] | None:
        if self.user_jvp is None:
            return None
        outs, d = flatten(
            self.user_jvp(unflatten(self.in_def, list(xs)), unflatten(self.in_def, ts))
        )
        if d != self.out_def:
            raise TreeError(
                f"custom_rule: the jvp rule of {self.name} must return the structure {self.out_def}, got {d}."
            )
        return outs

    def given_vjp(
        self, gs: list[Any], xs: tuple[Any, ...], ys: tuple[Any, ...]
    ) -> list[Any] | None:
        if self.user_vjp is None:
            return None
        args = unflatten(self.in_def, list(xs))
        out = self.user_vjp(args, unflatten(self.out_def, list(ys)), unflatten(self.out_def, gs))
        if not isinstance(out, (tuple, list)) or len(out) != len(args):
            got = f"a {type(out).__name__}" + (
                f" of length {len(out)}" if isinstance(out, (tuple, list)) else ""
            )
            raise TreeError(
                f"custom_rule: the vjp rule of {self.name} must return a tuple of {len(args)} cotangents, one for each "
                f"argument, got {got}."
            )
        cts: list[Any] = []
        for i, (c, a) in enumerate(zip(out, args, strict=True)):
            mine, d = flatten(a)
            if c is None:
                cts += [None] * len(mine)
                continue
            given, got_def = flatten(c)
            if got_def != d:
                raise TreeError(
                    f"custom_rule: the vjp rule of {self.name} must return for argument {i} the structure {d}, "
                    f"got {got_def}."
                )
            for v, x in zip(given, mine, strict=True):
                carries = dtype_of(x).kind == "f"
                cts.append(
                    tangent_value("custom_rule", v, x, f"the cotangent of argument {i}")
                    if carries
                    else None
                )
        return cts


class _BatchedRule(_FlatRule):
    """A flat rule over a batch; ``axes`` has 0 for the operands that have the batch axis, else None."""

    def __init__(self, inner: _FlatRule, axes: tuple[Any, ...], size: int) -> None:
        self.inner, self.axes, self.size, self.name = inner, axes, size, inner.name

    def forward(self, *xs: Any) -> tuple[Any, ...]:
        ys: tuple[Any, ...] = vmap(self.inner.forward, self.axes)(*xs)
        return ys

    def given_jvp(self, ts: list[Any], xs: tuple[Any, ...]) -> list[Any] | None:
        n = len(xs)

        def one(*a: Any) -> tuple[Any, ...]:
            return self.inner.jvp(list(a[:n]), a[n:], self.inner.forward(*a[n:]))

        return list(vmap(one, self.axes * 2)(*ts, *xs))

    def given_vjp(
        self, gs: list[Any], xs: tuple[Any, ...], ys: tuple[Any, ...]
    ) -> list[Any] | None:
        n, k = len(ys), len(xs)

        def one(*a: Any) -> tuple[Any, ...]:
            cts = self.inner.vjp(list(a[:n]), a[n : n + k], a[n + k :])
            return tuple(
                _zero(x) if c is None else c for c, x in zip(cts, a[n : n + k], strict=True)
            )

        cts = vmap(one, (0,) * n + self.axes + (0,) * n)(*gs, *xs, *ys)
        return [c if axis == 0 else c.sum(axis=0) for c, axis in zip(cts, self.axes, strict=True)]


def _zero(x: Any) -> Any:
    return zeros(x, shape_of(x), dtype_of(x))


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
        f"custom_rule({rule.name})",
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
