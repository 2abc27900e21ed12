"""One of several functions, chosen by a number: cond and switch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Aval, Tracer, dtype_of, shape_of, value_of
from nnmath_core._ext._tree import flatten, paths, unflatten
from nnmath_core.autodiff.control.carry import fitted, is_number
from nnmath_core.autodiff.control.standin import beside, stood_in
from nnmath_core.autodiff.control.subprogram import SubProgram, close, one_pass, trace
from nnmath_core.autodiff.ops.compare import equal, logical_not, not_equal
from nnmath_core.autodiff.ops.conventions import expand_batch, is_known, is_staged
from nnmath_core.autodiff.ops.reduce import any as any_
from nnmath_core.autodiff.ops.select import maximum, minimum, where
from nnmath_core.autodiff.ops.shape import cast
from nnmath_core.autodiff.primitive import Primitive
from nnmath_core.autodiff.variables import carries
from nnmath_core.autodiff.wiring import zeros
from nnmath_core.checks import describe, require_callable, sentence
from nnmath_core.errors import DtypeError, ShapeError, TreeError

__all__ = ["cond", "predicate", "switch"]


def cond(
    pred: Any, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any
) -> Any:
    """One of two functions, chosen by a truth value that may be data.

    Parameters
    ----------
    pred : bool or number
        One truth value; a number that is not 0 is true.
    true_fun, false_fun : callable
        Called with the operands. Both must return one structure of one set of shapes and dtypes; this is checked where
        both are traced. What they close over is differentiated, too.
    *operands : array or tree
        Arguments of the function that is chosen.

    Returns
    -------
    tree
        What the chosen function returns.

    Raises
    ------
    ShapeError, DtypeError
        ``pred`` is not one number; or the two results differ in shape or dtype.
    TreeError
        The two results differ in structure.

    Notes
    -----
    Where the value of ``pred`` exists, the chosen function is called and nothing else happens. Under `stage` both
    become sub-programs of one equation, and one of them runs when the Program does. Under `vmap`, where ``pred``
    differs between the examples, each runs on the whole batch, unless no example takes it, and the results are
    selected. The derivative is that of the function that is chosen; the other one contributes exactly 0, whatever NaN
    or infinity its own derivative is: under `vmap` an example that does not take a branch is replaced there by one that
    does. Where the functions are traced, Python control flow in them works on what is not traced.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> f = lambda x: nm.cond(x > 0, np.sqrt, lambda x: 0.0 * x, x)
    >>> nm.vmap(nm.grad(f))(np.array([4.0, 0.0, -1.0]))
    array([0.25, 0.  , 0.  ])
    """
    require_callable("cond", "true_fun", true_fun)
    require_callable("cond", "false_fun", false_fun)
    p = predicate("cond", "pred", pred)
    if isinstance(p, bool):
        return (true_fun if p else false_fun)(*operands)
    return _choose("cond", p, (false_fun, true_fun), ("false_fun", "true_fun"), operands)


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """One of several functions, chosen by an integer that may be data.

    Parameters
    ----------
    index : int
        Which function; numbers out of range take the nearest, the first or the last.
    branches : sequence of callable
        Called with the operands. All must return one structure of one set of shapes and dtypes.
    *operands : array or tree
        Arguments of the function that is chosen.

    Returns
    -------
    tree
        What the chosen function returns.

    Raises
    ------
    ShapeError, DtypeError
        ``index`` is not one integer; or the results differ in shape or dtype.
    TreeError
        The results differ in structure.

    Notes
    -----
    As `cond`, which is the case of two.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> [float(nm.switch(k, [np.sin, np.exp, np.square], 2.0)) for k in (-1, 1, 7)]
    [0.9092974268256817, 7.38905609893065, 4.0]
    """
    if not isinstance(branches, (tuple, list)) or not branches:
        raise TreeError(
            sentence(
                "switch", "branches", "a list of functions, not an empty one", describe(branches)
            )
        )
    for k, f in enumerate(branches):
        require_callable("switch", f"branches[{k}]", f)
    if shape_of(index) != ():
        raise ShapeError(
            sentence("switch", "index", "one integer", f"an array of shape {shape_of(index)}")
        )
    if dtype_of(index).kind not in "biu":
        raise DtypeError(sentence("switch", "index", "an integer", describe(index)))
    last = len(branches) - 1
    if is_known(index):
        return branches[min(max(int(value_of(index)), 0), last)](*operands)
    k = minimum(maximum(cast(index, np.dtype(np.int64)), 0), last)
    names = tuple(f"branches[{k}]" for k in range(last + 1))
    return _choose("switch", k, tuple(branches), names, operands)


def predicate(who: str, name: str, x: Any) -> Any:
    """A condition as a bool; as a traced boolean where Python cannot decide by it."""
    if shape_of(x) != ():
        raise ShapeError(
            sentence(
                who,
                name,
                "one truth value",
                f"an array of shape {shape_of(x)}",
                "Reduce it with np.any or np.all, or map the function over the examples with nm.vmap.",
            )
        )
    if dtype_of(x).kind not in "biuf":
        raise DtypeError(sentence(who, name, "a boolean or a real number", describe(x)))
    if is_known(x):
        return bool(value_of(x))
    return x if dtype_of(x).kind == "b" else not_equal(x, 0)


# ------------------------------------------------------------------------------------------------ tracing the branches
def _choose(
    who: str,
    index: Any,
    functions: tuple[Callable[..., Any], ...],
    names: tuple[str, ...],
    operands: tuple[Any, ...],
) -> Any:
    """Record the functions and bind them to a choice that is not known."""
    leaves, d = flatten(operands)
    places = [i for i, x in enumerate(leaves) if isinstance(x, Tracer)]
    inputs = [leaves[i] for i in places]

    def flat(f: Callable[..., Any]) -> Callable[..., Any]:
        def g(*xs: Any) -> Any:
            full = list(leaves)
            for i, x in zip(places, xs, strict=True):
                full[i] = x
            return f(*unflatten(d, full))

        return g

    traced = [
        trace(name, flat(f), inputs, who, not is_staged(index), True)
        for f, name in zip(functions, names, strict=True)
    ]
    order = slice(None, None, -1 if who == "cond" else 1)  # name the true function first
    out_def, dtypes = _common_outputs(who, names[order], traced[order])
    shared, closed = close([t[0] for t in traced], [t[1] for t in traced])
    xs = [*shared, *inputs]
    branches = tuple(
        trace(name, lambda *a, f=f: [_as(y, t) for y, t in zip(f(*a), dtypes, strict=True)], xs)[0]
        for f, name in zip(closed, names, strict=True)
    )
    return unflatten(out_def, _run(index, *xs, branches=branches))


def _as(y: Any, dtype: Any) -> Any:
    return fitted(y, dtype) if is_number(y) else cast(y, dtype)


def _common_outputs(
    who: str, names: tuple[str, ...], traced: list[tuple[SubProgram, Any, Any]]
) -> tuple[Any, list[Any]]:
    """The structure of the results and the dtype of each leaf; a Python number takes the other branch's dtype."""
    out_def = traced[0][2]
    for name, (_, _, d) in zip(names[1:], traced[1:], strict=True):
        if d != out_def:
            raise TreeError(
                f"{who}: `{name}` must return the structure that `{names[0]}` returns, {out_def}, got {d}."
            )
    dtypes = []
    for i, row in enumerate(zip(*(t[0].outputs for t in traced), strict=True)):
        where_ = f"output{paths(out_def)[i]}"
        arrays = [(n, y) for n, y in zip(names, row, strict=True) if not is_number(y)]
        dtype = dtype_of(arrays[0][1]) if arrays else np.result_type(*row)
        first = arrays[0] if arrays else (names[0], row[0])
        for name, y in zip(names, row, strict=True):
            fits = np.result_type(dtype, y) == dtype if is_number(y) else dtype_of(y) == dtype
            if not fits or shape_of(y) != shape_of(first[1]):
                wrong_shape = shape_of(y) != shape_of(first[1])
                raise (ShapeError if wrong_shape else DtypeError)(
                    f"{who}: {where_} of `{name}` must have the shape and dtype that `{first[0]}` returns, "
                    f"{dtype}{list(shape_of(first[1]))}, got {dtype_of(y)}{list(shape_of(y))}. "
                    + ("Broadcast one of the two." if wrong_shape else "Cast one of the two.")
                )
        dtypes.append(dtype)
    return out_def, dtypes


# ------------------------------------------------------------------------------------------------ the primitive
def _run(index: Any, *xs: Any, branches: tuple[SubProgram, ...]) -> Any:
    """The outputs of the chosen branch; an equation where the choice is not known."""
    if is_known(index):
        return tuple(branches[int(value_of(index))](*xs))
    return cond_p(index, *xs, branches=branches)


def _jvp(ts: Any, xs: Any, *, branches: tuple[SubProgram, ...]) -> Any:
    index, *operands = xs
    active = tuple(i for i, t in enumerate(ts[1:]) if t is not None)
    pushed = tuple(b.pushed(active) for b in branches)
    out = _run(index, *operands, *(ts[1 + i] for i in active), branches=pushed)
    ys = out[: len(branches[0].outputs)]
    dots = iter(out[len(ys) :])
    return ys, tuple(next(dots) if carries(y) else None for y in branches[0].outputs)


def _vjp(gs: Any, xs: Any, ys: Any, *, branches: tuple[SubProgram, ...], needs: Any) -> Any:
    index, *operands = xs
    wanted = tuple(i for i, x in enumerate(operands) if needs[1 + i] and carries(x))
    given = tuple(k for k, g in enumerate(gs) if g is not None)
    pulled = tuple(b.pulled(wanted, given) for b in branches)
    cts = _run(index, *operands, *(gs[k] for k in given), branches=pulled)
    out: list[Any] = [None] * len(xs)
    for i, c in zip(wanted, cts, strict=True):
        out[1 + i] = c
    return out


def _batch(on: Any, values: Any, size: int, *, branches: tuple[SubProgram, ...]) -> Any:
    index, *xs = values
    if not any(on):
        return tuple(expand_batch(y, size) for y in _run(index, *xs, branches=branches))
    over = [b.batched(tuple(on[1:]), size, True)[0] for b in branches]
    if not on[0]:
        return _run(index, *xs, branches=tuple(over))
    out: list[Any] | None = None
    for k, b in enumerate(over):
        if dtype_of(index).kind == "b":
            mask = index if k else logical_not(index)
        else:
            mask = equal(index, k)
        some = any_(mask)
        if is_known(some) and not value_of(some) and size:
            continue  # no example takes this branch
        theirs = [stood_in(mask, x) if m else x for x, m in zip(xs, on[1:], strict=True)]
        if is_known(some):
            ys = b(*theirs)
        else:
            ys = _run(some, *theirs, branches=(_nothing(b), b))
        out = (
            list(ys)
            if out is None
            else [where(beside(mask, y), y, z) for y, z in zip(ys, out, strict=True)]
        )
        if not size:
            break
    return tuple(out or ())


def _nothing(b: SubProgram) -> Any:
    """A branch of zeros with the outputs of another."""

    def f(*xs: Any) -> list[Any]:
        return [zeros(xs[0] if xs else 0.0, a.shape, a.dtype) for a in b.avals]

    return b.derived("nothing", f"no {b.name}", f, b.inputs)


cond_p = Primitive(
    "cond",
    forward=lambda be, index, *xs, branches: tuple(branches[int(index)](*xs)),
    joint=True,
    vjp=(_vjp,),
    jvp=(one_pass(_jvp),),
    keeps=("*y",),
    inline=_run,
    shape=lambda index, *xs, branches: tuple(Aval(a.shape, a.dtype) for a in branches[0].avals),
    batch=_batch,
    outputs="all",
    register=False,
)
