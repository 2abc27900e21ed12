"""Loops whose length may be data: while_loop and fori_loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Never

import numpy as np

from nnmath_core._ext._autodiff import Aval, Tracer, dtype_of, shape_of, value_of
from nnmath_core._ext._tree import flatten, unflatten
from nnmath_core.autodiff.control.branches import predicate
from nnmath_core.autodiff.control.carry import Carry, is_number
from nnmath_core.autodiff.control.scan import scan_
from nnmath_core.autodiff.control.standin import beside, live, stood_in
from nnmath_core.autodiff.control.subprogram import SubProgram, close, one_pass, push, trace
from nnmath_core.autodiff.ops.compare import less
from nnmath_core.autodiff.ops.conventions import expand_batch, is_known, is_staged
from nnmath_core.autodiff.ops.reduce import any as any_
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import cast
from nnmath_core.autodiff.primitive import Primitive
from nnmath_core.autodiff.variables import carries, zero
from nnmath_core.checks import describe, require_callable, sentence
from nnmath_core.errors import DtypeError, ShapeError, TraceError

__all__ = ["fori_loop", "while_loop"]


def while_loop(
    cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init_val: Any
) -> Any:
    """Repeat a function as long as a condition holds.

    Parameters
    ----------
    cond_fun : callable
        Of the carry; returns one truth value.
    body_fun : callable
        From the carry to the next one, of the same structure, shapes and dtypes.
    init_val : array or tree
        The first carry: arrays and numbers.

    Returns
    -------
    tree
        The first carry for which the condition does not hold.

    Raises
    ------
    TreeError, ShapeError, DtypeError
        A step changes the structure, a shape or a dtype; or the condition is not one truth value.
    TraceError
        Reverse mode of a loop that was recorded: how many steps it takes is not known, so nothing says what to keep.

    Notes
    -----
    Where the condition's value exists, this is Python's ``while``, in both modes; reverse mode keeps every step, so its
    memory grows with their number. Under `stage`, when the carry is staged, the loop is one equation, which forward
    mode goes through and reverse mode refuses: use `scan`, or `fori_loop` with bounds that are numbers, and `cond`
    inside for steps that may be superfluous. Under `vmap` the loop runs until the last example is done; one that is
    done keeps its carry, and further steps are not evaluated on it.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> def root(a):  # Newton's iteration
    ...     return nm.while_loop(lambda x: abs(x * x - a) > 1e-12, lambda x: (x + a / x) / 2, a)
    >>> nm.vmap(nm.grad(root))(np.array([4.0, 1.0, 0.25])).round(12)
    array([0.25, 1.  , 1.  ])
    """
    require_callable("while_loop", "cond_fun", cond_fun)
    require_callable("while_loop", "body_fun", body_fun)
    carry = Carry("while_loop", "init_val", init_val, "body_fun")
    value, leaves = init_val, carry.leaves
    while not any(map(is_staged, leaves)):
        p = predicate("while_loop", "cond_fun(...)", cond_fun(value))
        if p is False:
            return carry.finished(value)
        if p is not True:
            break
        value, leaves = carry.after(body_fun(value))
    return _recorded(cond_fun, body_fun, value, carry)


def fori_loop(lower: Any, upper: Any, body_fun: Callable[[Any, Any], Any], init_val: Any) -> Any:
    """Repeat a function for the integers from ``lower`` to ``upper - 1``.

    Parameters
    ----------
    lower, upper : int
        The bounds; numbers, or integers that are traced.
    body_fun : callable
        ``body_fun(i, carry)`` returns the next carry, of the same structure, shapes and dtypes; ``i`` is an int64.
    init_val : array or tree
        The first carry: arrays and numbers.

    Returns
    -------
    tree
        The last carry.

    Raises
    ------
    TreeError, ShapeError, DtypeError
        A step changes the structure, a shape or a dtype; or a bound is not one integer.

    Notes
    -----
    With bounds that are known it is a `scan`, hence differentiable in both modes everywhere; else a `while_loop`.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> float(nm.grad(lambda x: nm.fori_loop(0, 3, lambda i, c: c * x, 1.0))(2.0))
    12.0
    """
    require_callable("fori_loop", "body_fun", body_fun)
    for name, x in (("lower", lower), ("upper", upper)):
        if shape_of(x) != ():
            raise ShapeError(
                sentence("fori_loop", name, "one integer", f"an array of shape {shape_of(x)}")
            )
        if dtype_of(x).kind not in "iu":
            raise DtypeError(sentence("fori_loop", name, "an integer", describe(x)))
    if is_known(lower) and is_known(upper):
        numbers = np.arange(int(value_of(lower)), int(value_of(upper)))

        def step(c: Any, i: Any) -> Any:
            return body_fun(i, c), None

        return scan_("fori_loop", "init_val", "body_fun", step, init_val, numbers, len(numbers))[0]
    int64 = np.dtype(np.int64)
    return while_loop(
        lambda c: less(c[0], c[1]),
        lambda c: (c[0] + 1, c[1], body_fun(c[0], c[2])),
        (cast(lower, int64), cast(upper, int64), init_val),
    )[2]


def _recorded(
    cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], value: Any, carry: Carry
) -> Any:
    """The loop as two sub-programs, from a carry on."""
    d = carry.treedef
    leaves = flatten(value)[0]
    staged = any(map(is_staged, leaves))
    if any(map(is_number, leaves)):  # a first trace says which dtype a Python number gets
        places = [i for i, x in enumerate(leaves) if not is_number(x)]

        def probe(*xs: Any) -> list[Any]:
            full = list(leaves)
            for i, x in zip(places, xs, strict=True):
                full[i] = x
            return carry.after(body_fun(unflatten(d, full)))[1]

        trace("body_fun", probe, [leaves[i] for i in places], "while_loop", True, True)
    leaves = carry.settled(leaves)

    def flat_cond(*xs: Any) -> Any:
        p = predicate("while_loop", "cond_fun(...)", cond_fun(unflatten(d, list(xs))))
        return [np.bool_(p) if isinstance(p, bool) else p]

    def flat_body(*xs: Any) -> Any:
        return carry.after(body_fun(unflatten(d, list(xs))))[1]

    traced = [
        trace(name, f, leaves, "while_loop", not staged, True)
        for name, f in (("cond_fun", flat_cond), ("body_fun", flat_body))
    ]
    shared, closed = close([t[0] for t in traced], [t[1] for t in traced])
    xs = [*shared, *leaves]
    cond, body = (trace(name, f, xs)[0] for name, f in zip(("cond", "body"), closed, strict=True))
    return unflatten(d, list(_run(*xs, cond=cond, body=body, consts=len(shared))))


# ------------------------------------------------------------------------------------------------ the primitive
def _run(*xs: Any, cond: SubProgram, body: SubProgram, consts: int) -> Any:
    """The last carry; an equation from where on the condition is staged."""
    fixed, carry = xs[:consts], list(xs[consts:])
    while True:
        p = None if any(map(is_staged, carry)) else cond(*fixed, *carry)[0]
        if p is None or is_staged(p):
            return while_p(*fixed, *carry, cond=cond, body=body, consts=consts)
        if not isinstance(p, Tracer):
            if not p:
                return tuple(carry)
            carry = body(*fixed, *carry)
            continue
        every = value_of(p)  # of all examples
        if not every.any():
            return tuple(carry)
        if every.all():
            carry = body(*fixed, *carry)
        else:
            new = body(*(live(p, x) for x in (*fixed, *carry)))
            carry = [where(p, y, c) for y, c in zip(new, carry, strict=True)]


def _jvp(ts: Any, xs: Any, *, cond: SubProgram, body: SubProgram, consts: int) -> Any:
    """The loop over carry and tangent, as long as the carry says."""
    n, k = len(xs), len(xs) - consts
    active = tuple(i for i in range(consts) if ts[i] is not None)
    moving = tuple(i for i in range(consts, n) if carries(xs[i]))
    fixed = [*xs[:consts], *(ts[i] for i in active)]
    start = [*xs[consts:], *(zero(xs[i]) if ts[i] is None else ts[i] for i in moving)]
    m = len(fixed)

    def flat_cond(*a: Any) -> Any:
        return cond(*a[:consts], *a[m : m + k])

    def flat_body(*a: Any) -> Any:
        operands = [*a[:consts], *a[m : m + k]]
        ys, dots = push(body, operands, (*active, *moving), (*a[consts:m], *a[m + k :]))
        return [*ys, *(dots[i - consts] for i in moving)]

    avals = [*fixed, *start]
    out = _run(
        *avals,
        cond=cond.derived(("jvp", active), "cond", flat_cond, avals),
        body=body.derived(("loop jvp", active), "body", flat_body, avals),
        consts=m,
    )
    dots = dict(zip(moving, out[k:], strict=True))
    return out[:k], tuple(dots.get(i) for i in range(consts, n))


def _vjp(*_: Any, **__: Any) -> Never:
    raise TraceError(
        "while_loop: reverse mode cannot go back through a loop that was recorded, since the number of its steps is "
        "not known. Use nm.scan, or nm.fori_loop with bounds that are numbers, with nm.cond inside for steps that may "
        "be superfluous; or differentiate by forward mode (nm.jvp, nm.jacfwd); or do not stage it."
    )


def _batch(
    on: Any, values: Any, size: int, *, cond: SubProgram, body: SubProgram, consts: int
) -> Any:
    fixed, carry = tuple(on[:consts]), tuple(on[consts:])
    while True:  # what depends on the example spreads over the carry
        found = body.batched((*fixed, *carry), size, False)[1]
        more = tuple(a or b for a, b in zip(carry, found, strict=True))
        (differs,) = cond.batched((*fixed, *more), size, False)[1]
        if differs:
            more = (True,) * len(more)
        if more == carry:
            break
        carry = more
    xs = [
        v if m or not want else expand_batch(v, size)
        for v, m, want in zip(values, on, (*fixed, *carry), strict=True)
    ]
    all_on = (*fixed, *carry)
    over_cond, over_body = (
        cond.batched(all_on, size, False)[0],
        body.batched(all_on, size, False)[0],
    )
    found = body.batched(all_on, size, False)[1]

    def step(*a: Any) -> list[Any]:
        return [
            expand_batch(y, size) if want and not have else y
            for y, have, want in zip(over_body(*a), found, carry, strict=True)
        ]

    def masked(*a: Any) -> list[Any]:
        (mask,) = over_cond(*a)
        new = step(*(stood_in(mask, x) if m else x for x, m in zip(a, all_on, strict=True)))
        return [where(beside(mask, y), y, c) for y, c in zip(new, a[consts:], strict=True)]

    key = ("loop vmap", all_on, size)
    if differs:
        new_cond = cond.derived(key, "cond", lambda *a: [any_(over_cond(*a)[0])], xs)
        new_body = body.derived(key, "body", masked, xs)
    else:
        new_cond, new_body = over_cond, body.derived(key, "body", step, xs)
    out = _run(*xs, cond=new_cond, body=new_body, consts=consts)
    return tuple(y if m else expand_batch(y, size) for y, m in zip(out, carry, strict=True))


def _shape(*xs: Any, cond: SubProgram, body: SubProgram, consts: int) -> Any:
    return tuple(Aval(a.shape, a.dtype) for a in body.avals)


while_p = Primitive(
    "while_loop",
    forward=lambda be, *xs, **params: _run(*xs, **params),
    joint=True,
    vjp=(_vjp,),
    jvp=(one_pass(_jvp),),
    keeps=("*y",),
    inline=_run,
    shape=_shape,
    batch=_batch,
    outputs="all",
    register=False,
)
