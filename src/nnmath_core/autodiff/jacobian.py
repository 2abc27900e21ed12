"""Dense Jacobians and Hessians, by either mode, in chunks when memory asks for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import (
    aval_of,
    dtype_of,
    jvp_door,
    require_leaves,
    shape_of,
    value_of,
    vjp_door,
)
from nnmath_core._ext._tree import flatten, paths, unflatten
from nnmath_core.autodiff.ops.conventions import beside
from nnmath_core.autodiff.ops.join import concatenate_p
from nnmath_core.autodiff.ops.shape import moveaxis, reshape_p
from nnmath_core.autodiff.transforms import ArgNums, named_after, require_argnums, vmap
from nnmath_core.autodiff.wiring import leaf_value
from nnmath_core.checks import require_callable, require_positive_int
from nnmath_core.errors import DtypeError

__all__ = ["hessian", "jacfwd", "jacobian", "jacrev"]


def _split(
    who: str, args: tuple[Any, ...], argnums: int | tuple[int, ...]
) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """The differentiated part of the arguments, checked, and the arguments with it replaced."""
    single = isinstance(argnums, int)
    numbers = [argnums] if isinstance(argnums, int) else list(argnums)

    def rebuild(x: Any) -> tuple[Any, ...]:
        out = list(args)
        for i, v in zip(numbers, [x] if single else x, strict=True):
            out[i] = v
        return tuple(out)

    for i in numbers:
        if not -len(args) <= i < len(args):
            raise TypeError(
                f"{who}: `argnums` = {argnums} must name positional arguments, got {len(args)} of them."
            )
    parts = tuple(_checked(who, args[i], f"argument {i}") for i in numbers)
    return (parts[0] if single else parts), rebuild


def _checked(who: str, x: Any, place: str) -> Any:
    """A tree whose leaves can be differentiated, or the error that names the one that cannot."""
    leaves, d = flatten(x, True)
    require_leaves(who, leaves, d, place)
    return unflatten(
        d, [leaf_value(who, v, place + path) for v, path in zip(leaves, paths(d), strict=True)]
    )


def _basis(leaves: list[Any], start: int, stop: int) -> list[Any]:
    """Rows start to stop of the identity over all entries of the leaves, split into leaves (batch axis first)."""
    out, at = [], 0
    for x in leaves:
        s = shape_of(x)
        n = math.prod(s)
        e = np.zeros((stop - start, n), dtype_of(x))
        low, high = max(start, at), min(stop, at + n)
        if low < high:
            e[np.arange(low - start, high - start), np.arange(low - at, high - at)] = 1
        out.append(beside(value_of(x), e.reshape(stop - start, *s)))
        at += n
    return out


def chunks(total: int, chunk_size: int | None) -> list[tuple[int, int]]:
    """Return where each chunk of ``total`` things begins and ends; one empty chunk of no things."""
    step = total if chunk_size is None else chunk_size
    return [(i, min(i + step, total)) for i in range(0, total, step)] if total else [(0, 0)]


def joined_rows(parts: list[list[Any]]) -> list[Any]:
    """Return the leaves of several chunks, joined along axis 0."""
    return (
        parts[0]
        if len(parts) == 1
        else [concatenate_p(*p, axis=0) for p in zip(*parts, strict=True)]
    )


def jacrev(
    f: Callable[..., Any],
    argnums: ArgNums = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """Jacobian by reverse mode: one backward pass for each output, batched.

    Parameters
    ----------
    f : callable
        Function of arrays or trees, with an array or a tree of arrays as output.
    argnums : int or sequence of int, default 0
        Which positional arguments to differentiate.
    has_aux : bool, default False
        ``f`` returns ``(value, aux)``; the result is then ``(jacobian, aux)``.
    chunk_size : int, optional
        Backward passes that run at once; all of them by default. Memory grows with it.

    Returns
    -------
    callable
        With the arguments of ``f``, keywords among them, which are passed on; returns for each output leaf a tree like
        the argument, with arrays of shape ``out_shape + in_shape``.

    Notes
    -----
    Costs as many backward passes as there are outputs: the choice for few outputs and many inputs.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.jacrev(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    require_callable("jacrev", "f", f)
    nums = require_argnums("jacrev", argnums)
    if chunk_size is not None:
        require_positive_int("jacrev", "chunk_size", chunk_size)

    def jac(*args: Any, **kw: Any) -> Any:
        x, rebuild = _split("jacrev", args, nums)
        y, pull, *aux = vjp_door(lambda v: f(*rebuild(v), **kw), (x,), has_aux)
        outs, out_def = flatten(y)
        ins, in_def = flatten(x, True)
        _refuse_integers("jacrev", outs)
        total = sum(math.prod(shape_of(o)) for o in outs)

        def rows(*cts: Any) -> list[Any]:
            return flatten(pull(unflatten(out_def, list(cts)))[0], True)[0]

        parts = []
        for start, stop in chunks(total, chunk_size):
            parts.append(vmap(rows)(*_basis(outs, start, stop)) if stop > start else [
                np.zeros((0, *shape_of(v)), dtype_of(v)) for v in ins
            ])  # fmt: skip
        stacked = joined_rows(parts)  # one array a leaf of x: (total outputs, *in_shape)
        jacs, at = [], 0
        for o in outs:
            n = math.prod(shape_of(o))
            leaves = [
                reshape_p(s[at : at + n], shape=(*shape_of(o), *shape_of(v)))
                for s, v in zip(stacked, ins, strict=True)
            ]
            jacs.append(unflatten(in_def, [_own(v) for v in leaves], shape_of(o)))
            at += n
        result = unflatten(out_def, jacs)
        return (result, aux[0]) if has_aux else result

    return named_after(jac, f, "Jacobian")


def jacfwd(
    f: Callable[..., Any],
    argnums: ArgNums = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """Jacobian by forward mode: one directional derivative for each input, batched.

    Parameters
    ----------
    f : callable
        Function of arrays or trees, with an array or a tree of arrays as output.
    argnums : int or sequence of int, default 0
        Which positional arguments to differentiate.
    has_aux : bool, default False
        ``f`` returns ``(value, aux)``; the result is then ``(jacobian, aux)``.
    chunk_size : int, optional
        Directions that run at once; all of them by default.

    Returns
    -------
    callable
        As `jacrev`.

    Notes
    -----
    Costs as many forward passes as there are inputs: the choice for few inputs and many outputs.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.jacfwd(lambda x: np.stack([x[0] * x[1], x[0]]))(np.array([2.0, 3.0]))
    array([[3., 2.],
           [1., 0.]])
    """
    require_callable("jacfwd", "f", f)
    nums = require_argnums("jacfwd", argnums)
    if chunk_size is not None:
        require_positive_int("jacfwd", "chunk_size", chunk_size)

    def jac(*args: Any, **kw: Any) -> Any:
        x, rebuild = _split("jacfwd", args, nums)
        ins, in_def = flatten(x, True)
        total = sum(math.prod(shape_of(v)) for v in ins)
        found: dict[str, Any] = {}

        def column(*ts: Any) -> list[Any]:
            y, t, *aux = jvp_door(
                lambda v: f(*rebuild(v), **kw),
                (x,),
                (unflatten(in_def, list(ts)),),
                has_aux,
                "jacfwd",
            )
            outs, found["def"] = flatten(y)
            _refuse_integers("jacfwd", outs)
            found["avals"], found["aux"] = [aval_of(o) for o in outs], aux
            return flatten(t)[0]

        parts = []
        for start, stop in chunks(total, chunk_size):
            if stop > start:
                parts.append(vmap(column)(*_basis(ins, start, stop)))
            else:  # no inputs: run once for the structure of the output
                column(*ins)
                parts.append([np.zeros((0, *a.shape), a.dtype) for a in found["avals"]])
        stacked = joined_rows(parts)  # one array an output: (total inputs, *out_shape)
        jacs = []
        for s, a in zip(stacked, found["avals"], strict=True):
            s, leaves, at = moveaxis(s, 0, -1), [], 0
            for v in ins:
                n = math.prod(shape_of(v))
                leaves.append(_own(reshape_p(s[..., at : at + n], shape=(*a.shape, *shape_of(v)))))
                at += n
            jacs.append(unflatten(in_def, leaves, a.shape))
        result = unflatten(found["def"], jacs)
        return (result, found["aux"][0]) if has_aux else result

    return named_after(jac, f, "Jacobian")


def _own(x: Any) -> Any:
    """A contiguous array of its own, not a view of all blocks."""
    return x.copy() if isinstance(x, np.ndarray) else x


def _refuse_integers(who: str, outs: list[Any]) -> None:
    for o in outs:
        if dtype_of(o).kind != "f":
            raise DtypeError(
                f"{who}: outputs must be real floating-point arrays, got {dtype_of(o)}. Integers carry no derivative; "
                "return them with has_aux=True."
            )


def jacobian(
    f: Callable[..., Any],
    argnums: ArgNums = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
) -> ChosenJacobian:
    """Jacobian by the mode that needs fewer passes; the callable's attribute ``mode`` says which it chose last.

    Parameters
    ----------
    f : callable
        Function of arrays or trees, with an array or a tree of arrays as output.
    argnums : int or sequence of int, default 0
        Which positional arguments to differentiate.
    has_aux : bool, default False
        ``f`` returns ``(value, aux)``.
    chunk_size : int, optional
        Passes that run at once.

    Returns
    -------
    callable
        As `jacrev`. After a call ``.mode`` is ``"forward"`` or ``"reverse"`` and ``.why`` gives the counts.

    Notes
    -----
    Forward mode is chosen when there are fewer inputs than outputs. The outputs are counted by one evaluation.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> J = nm.jacobian(lambda x: np.sum(x**2))
    >>> J(np.array([1.0, 2.0])), J.mode
    (array([2., 4.]), 'reverse')
    """
    require_callable("jacobian", "f", f)
    nums = require_argnums("jacobian", argnums)
    return named_after(ChosenJacobian(f, nums, has_aux, chunk_size), f, "Jacobian")


class ChosenJacobian:
    """What `jacobian` returns: a callable that says which mode it chose, and why."""

    mode: str
    why: str

    def __init__(
        self,
        f: Callable[..., Any],
        argnums: int | tuple[int, ...],
        has_aux: bool,
        chunk_size: int | None,
    ) -> None:
        self._f, self._argnums, self._has_aux, self._chunk_size = f, argnums, has_aux, chunk_size

    def __call__(self, *args: Any, **kw: Any) -> Any:
        x, _ = _split("jacobian", args, self._argnums)
        y = self._f(*args, **kw)
        outs = sum(math.prod(shape_of(v)) for v in flatten(y[0] if self._has_aux else y)[0])
        ins = sum(math.prod(shape_of(v)) for v in flatten(x, True)[0])
        self.mode = "forward" if ins < outs else "reverse"
        self.why = f"{ins} inputs, {outs} outputs"
        chosen = jacfwd if ins < outs else jacrev
        jac = chosen(self._f, self._argnums, has_aux=self._has_aux, chunk_size=self._chunk_size)
        return jac(*args, **kw)


def hessian(
    f: Callable[..., Any],
    argnums: ArgNums = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    r"""Dense Hessian, forward over reverse.

    .. math:: H_{ij} = \partial^2 f / \partial x_i \partial x_j

    Parameters
    ----------
    f : callable
        Scalar function (or any output: then the Hessian of each entry).
    argnums : int or sequence of int, default 0
        Which positional arguments to differentiate.
    has_aux : bool, default False
        ``f`` returns ``(value, aux)``; the result is then ``(hessian, aux)``.
    chunk_size : int, optional
        Columns that run at once; all of them by default. Memory grows with it.

    Returns
    -------
    callable
        With the arguments of ``f``; a tree of trees like the argument, arrays of shape
        ``out_shape + in_shape + in_shape``.

    Notes
    -----
    Costs n gradients in n variables; for products with it use `hvp`.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    require_callable("hessian", "f", f)
    inner = jacrev(f, argnums, has_aux=has_aux)
    return named_after(jacfwd(inner, argnums, has_aux=has_aux, chunk_size=chunk_size), f, "Hessian")
