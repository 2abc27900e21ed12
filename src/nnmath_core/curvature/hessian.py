"""The Hessian of a loss in its parameters, as an operator."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, final

import numpy as np

from nnmath_core._ext import _iterations
from nnmath_core._ext._tree import flatten, paths
from nnmath_core.autodiff.transforms import grad, vmap
from nnmath_core.autodiff.tree import ravel_tree
from nnmath_core.checks import require_callable, require_float, require_in, require_positive_int
from nnmath_core.device import CPU, backend_of
from nnmath_core.errors import DomainError, TreeError
from nnmath_core.program import compile, linearize
from nnmath_core.solvers import LinearOperator
from nnmath_core.typing import Array, Tree

__all__ = ["HessianOperator", "Reduction"]

BLOCK_BYTES = (
    1 << 18
)  # of the largest intermediate of a block by definition: past the cache a loop is faster


@dataclasses.dataclass(frozen=True)
class Reduction:
    """How a loss joins its data: ``kind`` is "mean" or "sum", over ``n_data`` of them.

    Examples
    --------
    >>> nm.curvature.Reduction("mean", 100).factor_to("sum")
    100.0
    """

    kind: str
    n_data: int

    def __post_init__(self) -> None:
        require_in("Reduction", "kind", self.kind, ("mean", "sum"))
        require_positive_int("Reduction", "n_data", self.n_data)

    def factor_to(self, kind: str) -> float:
        """Return the factor from this reduction's losses and derivatives to those of ``kind``."""
        require_in("Reduction.factor_to", "kind", kind, ("mean", "sum"))
        if kind == self.kind:
            return 1.0
        return float(self.n_data) if kind == "sum" else 1.0 / self.n_data


@final
class HessianOperator(LinearOperator):
    r"""Hessian of ``loss(params, *data)`` in the raveled parameters, known by its products.

    .. math:: H_{ij} = \partial^2 L / \partial\theta_i \partial\theta_j

    Parameters
    ----------
    loss : callable
        ``loss(params, *data)``: a scalar.
    params : tree of float32 or float64 arrays
        The point, and the variables.
    *data : array or tree
        Passed on; not differentiated.
    reduction : Reduction, optional
        What the loss does with its data, when it is to be converted.

    Attributes
    ----------
    gradient : array, shape (n,)
        Of the loss at ``params``, raveled; it comes with the operator for nothing.
    unravel : callable
        A vector (n,) to a tree like ``params``.
    reduction : Reduction or None
        As given; the operator is scaled as the loss is.

    Raises
    ------
    DtypeError
        A leaf of ``params`` is no float32 or float64 array.
    TreeError
        ``params`` is empty.

    Notes
    -----
    The gradient is linearised once (`nm.linearize`), at the values of the point, so that Python
    control flow in ``loss`` is taken as it goes there: a product runs what depends on the vector, and
    reuses the forward pass, at the price of keeping its intermediate values. On the host the first
    product turns what is left into a Plan in C (`nm.compile`; about 10 milliseconds for a few
    dozen operations), which all later ones run, of `A @ x` as of the iterations in `nm.solvers`:
    without the GIL, on `nm.threads` threads, a block vector by vector. On a device a product is what
    `nm.compile` makes of it there, and a block goes at once (`nm.vmap`). The vector's dtype is the common one of the
    parameters. At a kink (``relu`` at 0) the derivative is that of the special-point table. The
    arrays are captured: changing them afterwards does not change the operator.

    References
    ----------
    Pearlmutter, "Fast exact multiplication by the Hessian", 1994.

    Examples
    --------
    >>> x = np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> H = nm.curvature.HessianOperator(lambda w, x: np.sum((x @ w) ** 2) / 2, np.zeros(2), x)
    >>> H
    <2x2 HessianOperator, symmetric, float64>
    >>> H @ np.array([1.0, 1.0])
    array([1., 4.])
    """

    symmetric = True

    def __init__(
        self,
        loss: Callable[..., Any],
        params: Tree,
        *data: Any,
        reduction: Reduction | None = None,
    ) -> None:
        require_callable("HessianOperator", "loss", loss)
        leaves, structure = flatten(params, True)
        for path, leaf in zip(paths(structure), leaves, strict=True):
            require_float("HessianOperator", f"params{path}", leaf)
        if not leaves:
            raise TreeError("HessianOperator: `params` must hold at least one array, got none.")
        slope = grad(lambda p: loss(p, *data))
        gradient, linear = linearize(slope, params)
        self.device = backend_of(*leaves, who="HessianOperator").device
        flat, self.unravel = ravel_tree(params)
        self.gradient = ravel_tree(gradient)[0]
        self.reduction = reduction
        self.dtype = flat.dtype
        self.shape = (flat.size, flat.size)
        self._scale = 1.0
        self._linear = _Linear(linear, self.unravel, flat)

    def _compiled_product(self) -> Any:
        plan = self._linear.planned()
        return _iterations.plan_product(plan.capsule, self._scale) if self._linear.in_c else None

    def _matmat(self, X: Array) -> Array:
        if self.device != CPU:
            return self._by_definition(X)
        plan = self._linear.planned()
        rows = np.ascontiguousarray(X.T)
        Y = np.empty_like(rows)
        for x, y in zip(rows, Y, strict=True):
            plan(x, out=y)
        Y *= self._scale
        return Y.T

    def _by_definition(self, X: Array) -> Array:
        """Return the product without a Plan of the host; on a device what is compiled for it, a block at once."""
        xp = backend_of(X).xp
        columns, parts = X.shape[1], []
        one, several = self._linear.matvec, self._linear.block
        if self.device != CPU:
            one, several = self._linear.compiled()
        step = min(self._columns(), columns)
        for start in range(0, columns, max(step, 1)):
            block = X[:, start : start + step]
            if block.shape[1] == 1:
                parts.append(one(block[:, 0])[:, None])
            else:
                parts.append(several(block))
        if not parts:
            return xp.empty(X.shape, self.dtype)  # type: ignore[no-any-return]
        Y = parts[0] if len(parts) == 1 else xp.concatenate(parts, axis=1)
        return Y if self._scale == 1.0 else Y * self._scale  # type: ignore[no-any-return]

    def _columns(self) -> int:
        """Return how many columns run at once."""
        equations = self._linear.program.equations
        sizes = (math.prod(v.shape) * v.dtype.itemsize for e in equations for v in e.outputs)
        return max(1, min(64, BLOCK_BYTES // max(1, max(sizes, default=1))))

    def to_reduction(self, kind: str) -> HessianOperator:
        """Return the Hessian (and gradient) of the loss with reduction ``kind``, "mean" or "sum".

        Raises
        ------
        DomainError
            The operator does not know its reduction.
        """
        if self.reduction is None:
            raise DomainError(
                "HessianOperator.to_reduction: the operator does not know how its loss joins the "
                "data. Give `reduction=Reduction(kind, n_data)` when you make it."
            )
        factor = self.reduction.factor_to(kind)
        other = object.__new__(HessianOperator)
        other.__dict__.update(self.__dict__)
        other.reduction = dataclasses.replace(self.reduction, kind=kind)
        other.gradient = self.gradient * factor
        other._scale = self._scale * factor
        return other


class _Linear:
    """The derivative of the gradient: a function of a raveled vector, and once it is asked for, a Plan.

    It is shared by the operators of all reductions. The Plan copies the arrays that it captures; the program that was
    linearised is then given up, and by definition the plan's own runs.
    """

    def __init__(self, linear: Any, unravel: Callable[[Array], Tree], flat: Array) -> None:
        self.program: Any = linear.program
        self.matvec: Callable[[Array], Any] = lambda v: ravel_tree(linear(unravel(v)))[0]
        self.size, self.dtype = flat.size, flat.dtype
        self.plan: Any = None
        self.in_c = False
        self.on_device: tuple[Callable[..., Any], Callable[..., Any]] | None = None

    def block(self, X: Array) -> Any:
        """Return the products with the columns of X, at once."""
        return vmap(self.matvec, in_axes=1, out_axes=1)(X)

    def compiled(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Return the function of a vector, and that of columns, as `nnmath_core.compile` makes them for a device."""
        if self.on_device is None:
            self.on_device = compile(self.matvec), compile(self.block)
        return self.on_device

    def planned(self) -> Any:
        """Return the Plan, which the first call makes."""
        if self.plan is None:
            v = np.zeros(self.size, self.dtype)
            plan = compile(self.matvec).plan(v)
            self.in_c = not plan.cost.host
            self.plan = plan
            self.program = self.matvec = plan.program.replaced(in_def=flatten((v,))[1])
        return self.plan
