"""Derivatives of what an equation defines: roots and minima that any solver found.

The solver is called and never differentiated. At a root of F(x, a) = 0 the implicit function theorem gives

    dx = -(dF/dx)^-1 (dF/da) da,

so a cotangent costs one linear solve with the transposed Jacobian and one pullback of F in a, whatever the number of
the solver's iterations. The rule is written in traceable functions and reads the root as a value that depends on a:
derivatives of any order follow.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import (
    Tracer,
    dtype_of,
    is_differentiated,
    shape_of,
    value_of,
    vjp_door,
)
from nnmath_core._ext._tree import flatten, unflatten
from nnmath_core.autodiff.custom import ruled
from nnmath_core.autodiff.jacobian import jacfwd
from nnmath_core.autodiff.ops.linalg import solve as linear
from nnmath_core.autodiff.ops.shape import matrix_transpose, stop_gradient
from nnmath_core.autodiff.transforms import grad
from nnmath_core.autodiff.tree import ravel_tree
from nnmath_core.autodiff.variables import is_operand, pullback
from nnmath_core.checks import require_callable
from nnmath_core.device import backend_of
from nnmath_core.errors import ConvergenceError, ShapeError, TraceError

__all__ = ["implicit_minimum", "implicit_root"]

Solver = Callable[..., Any]
LinearSolver = Callable[[Callable[[Any], Any], Any], Any]


def implicit_root(
    residual: Callable[..., Any],
    solve: Solver,
    *,
    linear_solve: LinearSolver | None = None,
    tolerance: float | None = None,
) -> Callable[..., Any]:
    r"""A root of an equation as a differentiable function of the equation's arguments.

    .. math:: F(x, a) = 0, \qquad \frac{dx}{da} = -\left(\frac{\partial F}{\partial x}\right)^{-1}
        \frac{\partial F}{\partial a}.

    Parameters
    ----------
    residual : callable
        ``residual(x, *args)``: a tree with as many numbers as ``x``, zero at the root. Traceable.
    solve : callable
        ``solve(*args) -> x``, an array or a tree of arrays. It gets plain arrays and may do anything, call SciPy or
        compiled code for example; `vmap` calls it for each example. Only `stage` traces it.
    linear_solve : callable, optional
        ``linear_solve(product, b) -> u`` with ``product(u) = b``, for vectors of the length of ``x``; ``product`` is a
        function of vectors, the transposed Jacobian. By default the Jacobian is made and factorised.
    tolerance : float, optional
        The largest Newton step at which a derivative is given, relative to the largest entry of ``x`` (absolute where
        that is below 1); ``eps ** (1/3)`` by default. With ``linear_solve`` it is the largest relative residual of that
        solve.

    Returns
    -------
    callable
        ``root(*args)``: what ``solve`` returns, with derivatives of all orders in ``args``, in both modes.

    Raises
    ------
    ConvergenceError
        When a derivative is asked for: what ``solve`` returned is no root, since the Newton step there is larger than
        ``tolerance``; or ``linear_solve`` did not solve.
    ShapeError
        ``residual`` has another number of entries than ``x``.
    numpy.linalg.LinAlgError
        The Jacobian is singular: the root is not a function of the arguments there.
    TraceError
        ``residual`` or ``solve`` closes over a traced value, whose derivative would be lost: pass it as an argument.

    Notes
    -----
    A derivative costs n directional derivatives of ``residual`` and the factorisation of an n by n matrix; with
    ``linear_solve`` as many products as that takes. A ``residual`` with a closure is called once at the root, to see
    whether it is traced.

    References
    ----------
    M. Blondel et al., "Efficient and modular implicit differentiation", NeurIPS 2022.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> from scipy.optimize import brentq
    >>> solve = lambda a: np.float64(brentq(lambda x: x**3 + x - a, -9.0, 9.0, xtol=1e-14))
    >>> root = nm.implicit_root(lambda x, a: x**3 + x - a, solve)
    >>> round(float(root(2.0)), 12), round(float(nm.grad(root)(2.0)), 12)  # dx/da = 1 / (3 x^2 + 1)
    (1.0, 0.25)
    """
    require_callable("implicit_root", "residual", residual)
    require_callable("implicit_root", "solve", solve)
    if linear_solve is not None:
        require_callable("implicit_root", "linear_solve", linear_solve)
    root = _implicit("implicit_root", residual, solve, linear_solve, tolerance)
    return _open(root, "implicit_root", "residual", residual, residual)


def implicit_minimum(
    objective: Callable[..., Any],
    solve: Solver,
    *,
    linear_solve: LinearSolver | None = None,
    tolerance: float | None = None,
) -> Callable[..., Any]:
    r"""A minimum of a function as a differentiable function of its other arguments.

    .. math:: x(a) = \arg\min_x f(x, a), \qquad
        \frac{dx}{da} = -\left(\frac{\partial^2 f}{\partial x^2}\right)^{-1} \frac{\partial^2 f}{\partial x \partial a}.

    Parameters
    ----------
    objective : callable
        ``objective(x, *args)``: a scalar, twice differentiable in ``x``. Traceable.
    solve : callable
        ``solve(*args) -> x``: where the minimum is; as in `implicit_root`.
    linear_solve : callable, optional
        ``linear_solve(product, b) -> u`` with ``product(u) = b``; ``product`` is the Hessian, symmetric, on vectors. By
        default the Hessian is made and factorised.
    tolerance : float, optional
        As in `implicit_root`.

    Returns
    -------
    callable
        ``minimum(*args)``: what ``solve`` returns, with derivatives of all orders in ``args``, in both modes.

    Raises
    ------
    ConvergenceError
        When a derivative is asked for: the gradient of ``objective`` does not vanish at what ``solve`` returned.
    numpy.linalg.LinAlgError
        The Hessian is singular: the minimum is not isolated.

    Notes
    -----
    The derivative is that of any stationary point. For a constrained minimum write its conditions as the residual of
    `implicit_root`.

    Examples
    --------
    Ridge regression: the derivative of the weights in the penalty.

    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> X, y = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([1.0, 1.0])
    >>> loss = lambda w, c: np.sum((X @ w - y) ** 2) + c * np.sum(w**2)
    >>> weights = nm.implicit_minimum(loss, lambda c: np.linalg.solve(X.T @ X + c * np.eye(2), X.T @ y))
    >>> nm.jacfwd(weights)(1.0)
    array([-0.25, -0.08])
    """
    require_callable("implicit_minimum", "objective", objective)
    require_callable("implicit_minimum", "solve", solve)
    if linear_solve is not None:
        require_callable("implicit_minimum", "linear_solve", linear_solve)
    slope = grad(objective)
    minimum = _implicit("implicit_minimum", slope, solve, linear_solve, tolerance)
    return _open(minimum, "implicit_minimum", "objective", objective, slope)


def _implicit(
    who: str,
    residual: Callable[..., Any],
    solve: Solver,
    linear_solve: LinearSolver | None,
    tolerance: float | None,
) -> Callable[..., Any]:
    def backward(args: Any, x: Any, cotangent: Any) -> Any:
        flat, unravel = ravel_tree(x)
        g, _ = ravel_tree(cotangent)

        def of_flat(v: Any, args: Any) -> Any:
            return ravel_tree(residual(unravel(v), *args))[0]

        limit = float(np.finfo(dtype_of(flat)).eps) ** (1 / 3) if tolerance is None else tolerance
        if linear_solve is None:
            u = _dense(who, of_flat, flat, args, g, limit)
        else:
            u = _by_products(who, of_flat, linear_solve, limit)(flat, args, g)
        return pullback(lambda *a: of_flat(flat, a), args, -u)

    return ruled(who, solve, None, backward, opaque=True)


def _open(
    root: Callable[..., Any],
    who: str,
    name: str,
    given: Callable[..., Any],
    residual: Callable[..., Any],
) -> Callable[..., Any]:
    """``root``, which refuses an equation with a derivative in something other than its arguments."""
    if isinstance(given, FunctionType) and given.__closure__ is None and not given.__defaults__:
        return root

    @functools.wraps(root)
    def checked(*args: Any, **kw: Any) -> Any:
        x = root(*args, **kw)
        leaves, d = flatten((x, args))
        fixed, others = unflatten(d, [stop_gradient(v) if is_operand(v) else v for v in leaves])
        if any(map(is_differentiated, flatten(residual(fixed, *others, **kw))[0])):
            raise TraceError(
                f"{who}: `{name}` closes over a traced value, whose derivative would be lost. Pass it as an argument."
            )
        return x

    return checked


def _dense(who: str, of_flat: Callable[..., Any], x: Any, args: Any, g: Any, limit: float) -> Any:
    """Solve with the transposed Jacobian, which is made; its Newton step says whether x is a root."""
    slope, value = jacfwd(lambda v: _twice(of_flat(v, args)), has_aux=True)(x)
    if shape_of(slope) != shape_of(x) * 2:
        raise ShapeError(
            f"{who}: the residual must have as many entries as `x`, {shape_of(x)[0]}, got {shape_of(slope)[0]}."
        )
    step = value_of(linear(slope, value))
    if not isinstance(step, Tracer):  # staged: there are no numbers to judge
        xp = backend_of(step).xp
        size, away = float(xp.max(xp.abs(value_of(x)))), float(xp.max(xp.abs(step)))
        if not away <= limit * max(size, 1.0):
            raise ConvergenceError(
                f"{who}: `solve` returned no root: Newton's step there is {away:.1e}, with x of size {size:.1e}, and "
                f"the derivative holds at roots (tolerance {limit:.1e}). Let `solve` iterate longer, or raise "
                "`tolerance`."
            )
    return linear(matrix_transpose(slope), g)


def _twice(y: Any) -> tuple[Any, Any]:
    return y, y


def _by_products(
    who: str, of_flat: Callable[..., Any], linear_solve: LinearSolver, limit: float
) -> Callable[..., Any]:
    """Solve with the transposed Jacobian by its products; the solution is an implicit root itself."""

    def product(u: Any, x: Any, args: Any) -> Any:
        return vjp_door(lambda v: of_flat(v, args), (x,), False)[1](u)[0]

    def solve(x: Any, args: Any, g: Any) -> Any:
        u = linear_solve(lambda v: product(v, x, args), g)
        left = value_of(product(u, x, args) - g)
        if not isinstance(left, Tracer):
            xp = backend_of(left).xp
            size, away = float(xp.max(xp.abs(value_of(g)))), float(xp.max(xp.abs(left)))
            if not away <= limit * size:
                raise ConvergenceError(
                    f"{who}: `linear_solve` left a residual of {away:.1e} for a right side of size {size:.1e} "
                    f"(tolerance {limit:.1e}). Let it iterate longer, or raise `tolerance`."
                )
        return u

    def backward(inputs: Any, u: Any, g: Any) -> Any:
        x, args, _ = inputs
        # the transpose of the transpose: products with the Jacobian itself, solved in the same way
        w = _by_products(who, lambda v, a: product(v, *a), linear_solve, limit)(u, (x, args), g)
        return pullback(lambda x, args, b: product(u, x, args) - b, inputs, -w)

    return ruled(who, solve, None, backward, opaque=True)
