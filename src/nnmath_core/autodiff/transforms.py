"""The transformations: grad, vjp, jvp, vmap and what is made of them.

The doors are compiled; here are their names, their checks and their documentation. Names, argument order and layouts
are JAX's: ``J[i, j] = df_i/dx_j``, of shape ``out_shape + in_shape``.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from nnmath_core._ext import _autodiff as core
from nnmath_core._ext._autodiff import GradFn, jvp_door, shape_of, vjp_door, vmap_door
from nnmath_core._ext._tree import flatten
from nnmath_core.autodiff.ops.shape import stop_gradient as _stop_gradient
from nnmath_core.autodiff.tree import prefix_leaves, tree_map
from nnmath_core.checks import describe, require_callable, sentence
from nnmath_core.errors import ShapeError, TraceError, TreeError

__all__ = [
    "ggnvp",
    "grad",
    "hvp",
    "jvp",
    "stop_gradient",
    "value_and_grad",
    "value_of",
    "vjp",
    "vmap",
]

ArgNums = int | Sequence[int]

_G = TypeVar("_G", bound=Callable[..., Any])


def require_argnums(who: str, argnums: ArgNums) -> int | tuple[int, ...]:
    """Return ``argnums`` as a Python integer or a tuple of distinct ones."""
    several = isinstance(argnums, (tuple, list))
    given: Any = argnums if several else (argnums,)
    numbers = [_integer(i) for i in given]
    if None not in numbers and 0 < len(set(numbers)) == len(numbers):
        return tuple(numbers) if several else numbers[0]
    raise TypeError(
        sentence(who, "argnums", "an integer or distinct integers, not none", repr(argnums))
    )


def _integer(i: Any) -> Any:
    """``i`` as a Python integer (NumPy's are too), or None when it is none."""
    return operator.index(i) if hasattr(i, "__index__") and not isinstance(i, bool) else None


def require_tuples(who: str, **given: Any) -> None:
    """Refuse an array where a tuple with an entry for each argument is meant: its rows would become the arguments."""
    for name, x in given.items():
        if not isinstance(x, (tuple, list)):
            wanted = "a tuple with one entry for each argument of `f`"
            raise TreeError(sentence(who, name, wanted, describe(x), "Write (x,)."))


def named_after(g: _G, f: Callable[..., Any], what: str) -> _G:
    """Give a transformed function the name of the original one and a docstring."""
    functools.update_wrapper(g, f, assigned=("__module__", "__name__", "__qualname__"))
    g.__doc__ = f"{what} of `{getattr(f, '__name__', type(f).__name__)}`."
    return g


def grad(
    f: Callable[..., Any], argnums: ArgNums = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    r"""Gradient of a scalar function, by reverse mode.

    .. math:: \nabla f(x)_i = \partial f / \partial x_i

    Parameters
    ----------
    f : callable
        Takes arrays, floats or trees of them; returns one real floating-point scalar (with ``has_aux`` a pair of it and
        anything). Plain NumPy code is fine, Python control flow on values included.
    argnums : int or sequence of int, default 0
        Which positional arguments to differentiate; a sequence gives a tuple of gradients.
    has_aux : bool, default False
        ``f`` returns ``(value, aux)``; the result is then ``(gradient, aux)``.

    Returns
    -------
    callable
        With the arguments of ``f``; returns a tree like the argument, arrays of its shape and dtype.

    Raises
    ------
    DtypeError
        A differentiated argument is not float32 or float64, or the result is not real and floating.
    ShapeError
        The result is not a scalar.
    TraceError
        A traced value would lose its derivative (``float(x)``, ``np.array([x])``, ``y[i] = x``).

    Notes
    -----
    Costs a small multiple (about three to four) of ``f``, whatever the number of variables; keeps what the rules read
    until the backward pass has used it. Ties and kinks: see the table of special points.

    References
    ----------
    Griewank & Walther, "Evaluating Derivatives", 2008, chapter 3.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.grad(lambda x: np.sum(np.sin(x) * x))(np.array([0.0, 1.0]))
    array([0.        , 1.38177329])
    """
    require_callable("grad", "f", f)
    return named_after(
        GradFn(f, require_argnums("grad", argnums), False, has_aux, "grad"), f, "Gradient"
    )


def value_and_grad(
    f: Callable[..., Any], argnums: ArgNums = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """Value and gradient of a scalar function in one pass.

    Parameters
    ----------
    f : callable
        As for `grad`.
    argnums : int or sequence of int, default 0
        As for `grad`.
    has_aux : bool, default False
        ``f`` returns ``(value, aux)``; the result is then ``((value, aux), gradient)``.

    Returns
    -------
    callable
        With the arguments of ``f``; returns ``(value, gradient)``.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> value, g = nm.value_and_grad(lambda p: np.sum(p["w"] ** 2))({"w": np.array([1.0, 2.0])})
    >>> float(value), g
    (5.0, {'w': array([2., 4.])})
    """
    require_callable("value_and_grad", "f", f)
    g = GradFn(f, require_argnums("value_and_grad", argnums), True, has_aux, "value_and_grad")
    return named_after(g, f, "Value and gradient")


def vjp(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    r"""Value of ``f`` and the map :math:`g \mapsto g^T J` from cotangents of its output to those of its inputs.

    Parameters
    ----------
    f : callable
        Function of arrays or trees of arrays, with any outputs.
    *primals : array or tree
        The point.
    has_aux : bool, default False
        ``f`` returns ``(value, aux)``.

    Returns
    -------
    value : tree
        ``f(*primals)``.
    pullback : callable
        Takes a tree like ``value``, returns a tuple like ``primals``; may be called any number of times, from any
        thread.
    aux : any
        Only with ``has_aux``.

    Notes
    -----
    The pullback keeps what the rules read. It reads the arrays that were passed in, which it does not copy: do not
    change them in place before its last use.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> y, pullback = nm.vjp(lambda x: x**2, np.array([1.0, 2.0]))
    >>> pullback(np.array([1.0, 10.0]))
    (array([ 2., 40.]),)
    """
    require_callable("vjp", "f", f)
    return vjp_door(f, primals, has_aux)


def jvp(
    f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], *, has_aux: bool = False
) -> Any:
    r"""Value of ``f`` and its derivative :math:`J t` along a direction, by forward mode.

    Parameters
    ----------
    f : callable
        Function of arrays or trees of arrays.
    primals, tangents : sequence of array or tree
        The point and the direction, one entry for each argument, of the same structure and shapes.
    has_aux : bool, default False
        ``f`` returns ``(value, aux)``.

    Returns
    -------
    value, tangent : tree
        ``f(*primals)`` and its directional derivative; with ``has_aux`` also ``aux``.

    Raises
    ------
    TreeError, ShapeError, DtypeError
        ``tangents`` does not match ``primals``.

    Notes
    -----
    Costs about two to three evaluations of ``f`` and no memory for the past.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> y, t = nm.jvp(np.sin, (0.0,), (1.0,))
    >>> float(y), float(t)
    (0.0, 1.0)
    """
    require_callable("jvp", "f", f)
    require_tuples("jvp", primals=primals, tangents=tangents)
    return jvp_door(f, tuple(primals), tuple(tangents), has_aux)


def hvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    r"""Hessian-vector product :math:`\nabla^2 f(x)\, v`, forward over reverse; the Hessian is never formed.

    Parameters
    ----------
    f : callable
        Scalar function.
    primals, tangents : sequence of array or tree
        The point and the vector, one entry for each argument of ``f``.

    Returns
    -------
    tree
        The product, of the structure of the primal when there is one, else a tuple like ``primals``.

    Raises
    ------
    TreeError, ShapeError, DtypeError
        ``primals`` or ``tangents`` is no tuple, or they do not match.

    Notes
    -----
    Costs about two to three gradients and memory for two forward passes.

    References
    ----------
    Pearlmutter, "Fast exact multiplication by the Hessian", 1994.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.hvp(lambda x: np.sum(x**3), (np.array([1.0, 2.0]),), (np.array([1.0, 1.0]),))
    array([ 6., 12.])
    """
    require_callable("hvp", "f", f)
    require_tuples("hvp", primals=primals, tangents=tangents)
    n = len(primals)
    g = GradFn(f, 0 if n == 1 else tuple(range(n)), False, False, "hvp")
    return jvp_door(g, tuple(primals), tuple(tangents), False, "hvp")[1]


def ggnvp(predict: Callable[[Any], Any], loss: Callable[[Any], Any], params: Any, v: Any) -> Any:
    r"""Product with the generalised Gauss-Newton matrix of ``loss(predict(params))``.

    .. math:: G v = J^T H_L J v,

    with the Jacobian :math:`J` of ``predict`` and the Hessian :math:`H_L` of ``loss`` in the prediction.

    Parameters
    ----------
    predict : callable
        Parameters to predictions.
    loss : callable
        Predictions to a scalar; where it is convex, :math:`G` is positive semi-definite.
    params, v : tree
        The point and the vector, of the same structure.

    Returns
    -------
    tree
        Like ``params``.

    References
    ----------
    Schraudolph, "Fast curvature matrix-vector products for second-order gradient descent", 2002.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> x = np.array([[1.0, 2.0], [0.0, 1.0]])
    >>> nm.ggnvp(lambda w: x @ w, lambda z: np.sum(z**2) / 2, np.zeros(2), np.array([1.0, 0.0]))
    array([1., 2.])
    """
    require_callable("ggnvp", "predict", predict)
    require_callable("ggnvp", "loss", loss)
    z, pullback = vjp_door(predict, (params,), False)
    _, jv = jvp_door(predict, (params,), (v,), False, "ggnvp")
    return pullback(hvp(loss, (z,), (jv,)))[0]


def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """Map a function over an axis of its arguments, running it once on whole arrays.

    Parameters
    ----------
    f : callable
        Function of one example.
    in_axes : int, None, or a tuple with one entry (a tree prefix) for each positional argument, default 0
        The mapped axis; None: the argument is the same for all examples. Keyword arguments are mapped over axis 0.
    out_axes : int, None or a tree prefix of the output, default 0
        Where the mapped axis goes; None is for outputs that do not depend on the example.

    Returns
    -------
    callable
        ``f`` over the batch.

    Raises
    ------
    ShapeError
        Mapped axes differ in length, or nothing is mapped.
    TraceError
        Python control flow needs a value that differs between examples.

    Notes
    -----
    Operations without a mapped operand run once for all examples. With shared weights a dense layer stays one matrix
    product.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.vmap(lambda x, w: x @ w, in_axes=(0, None))(np.eye(2), np.array([3.0, 4.0]))
    array([3., 4.])
    """
    require_callable("vmap", "f", f)
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)
    if not (in_axes is None or isinstance(in_axes, (int, tuple))):
        raise TypeError(
            sentence(
                "vmap",
                "in_axes",
                "an integer, None or a tuple with an entry for each argument",
                repr(in_axes),
            )
        )

    @functools.wraps(f)
    def mapped(*args: Any, **kw: Any) -> Any:
        if isinstance(in_axes, tuple) and len(in_axes) != len(args):
            raise TreeError(
                f"vmap: `in_axes` has {len(in_axes)} entries and the function was called with {len(args)} positional "
                "arguments. Give each of them an axis or None."
            )
        axes = prefix_leaves("vmap", "in_axes", in_axes, args) + [0] * len(flatten(kw)[0])
        leaves = flatten((args, kw))[0]
        size, first = None, ""
        normal: list[int | None] = []
        for k, (x, axis) in enumerate(zip(leaves, axes, strict=True)):
            if axis is None:
                normal.append(None)
                continue
            s = shape_of(x)
            if not -len(s) <= axis < len(s):
                raise ShapeError(
                    f"vmap: leaf {k} of the arguments has shape {s} and no axis {axis} to map over."
                )
            normal.append(axis % len(s))
            if size is None:
                size, first = s[axis], f"leaf {k} of shape {s}"
            elif s[axis] != size:
                raise ShapeError(
                    f"vmap: mapped axes must have one length, got {size} ({first}) and {s[axis]} "
                    f"(leaf {k} of shape {s})."
                )
        if size is None:
            raise ShapeError("vmap: no argument is mapped. Give one of them an axis in `in_axes`.")
        return vmap_door(
            f, args, kw, normal, size, lambda d: prefix_leaves("vmap", "out_axes", out_axes, d)
        )

    return mapped


def stop_gradient(x: Any) -> Any:
    """The value of a tree as a constant: derivatives do not pass.

    Parameters
    ----------
    x : array or tree
        Traced or plain.

    Returns
    -------
    tree
        Like ``x``.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> float(nm.grad(lambda x: x * nm.stop_gradient(x))(3.0))
    3.0
    """
    return tree_map(_stop_gradient, x)


def value_of(x: Any) -> Any:
    """The number behind a tracer, on purpose without its derivative.

    Parameters
    ----------
    x : array, tracer or any other value
        Traced or plain.

    Returns
    -------
    array or any other value
        The innermost value of a tracer; what is not a tracer, or has no value yet while staging, as it is.

    Raises
    ------
    TraceError
        ``x`` stands for one example of a batch (under `vmap`): the value behind it is that of all examples, with one
        axis more. ``print(x)`` shows it, and `stop_gradient` makes a constant of it.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> seen = []
    >>> g = nm.grad(lambda x: seen.append(nm.value_of(x)) or x**2)(3.0)
    >>> [float(x) for x in seen], float(g)
    ([3.0], 6.0)
    """
    if core.is_batched(x):
        raise TraceError(
            "value_of: under vmap `x` stands for one example, and the value behind it is that of the whole batch. Use "
            "nm.stop_gradient(x) for a constant, print(x) to look at the batch, or return x from the mapped function."
        )
    return core.value_of(x)
