"""Systems of equations with a symmetric positive definite operator, by conjugate gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core._ext import _iterations
from nnmath_core.checks import (
    require_callable,
    require_float,
    require_positive_int,
    require_real,
    sentence,
)
from nnmath_core.device import CPU, backend_for, device_of, to_device
from nnmath_core.errors import ConvergenceError, DeviceError, DomainError, DtypeError, ShapeError
from nnmath_core.solvers.device_product import DeviceProduct, on_host, piece_of
from nnmath_core.solvers.iteration import Progress, lengths, product_of, require_progress
from nnmath_core.solvers.operator import LinearOperator, operator_of
from nnmath_core.typing import Array

__all__ = ["Solution", "cg"]

RUNNING, CONVERGED, BENT, BROKEN, PRECONDITIONER = range(5)  # as in cg.pxi
RESTARTS = 3  # from the true residual, where the recurrence has drifted from it
AT_ONCE = 16  # steps between looks: at progress, and on a device


@dataclass(frozen=True, eq=False)
class Solution:
    """Solutions of linear systems, with what proves them.

    Of one right-hand side the numbers are scalars, of k ones arrays of shape (k,).

    Attributes
    ----------
    value : array, shape (n,) or (n, k)
        The solutions, on the device of the right-hand sides, in the operator's dtype.
    residual : float, or array of shape (k,)
        ``|b - A x|``, from a product with the solution, not from the recurrence.
    converged : bool, or array of shape (k,)
        ``residual <= max(rtol * |b|, atol)``.
    iterations : int, or array of shape (k,)
        Steps of each system.
    curvature : float, or array of shape (k,)
        The smallest ``p'Ap / p'p`` over the directions that were tried: no eigenvalue range is proved by a positive
        one, but one that is not positive proves that A is not positive definite. Infinite without a step.
    direction : array, shape (n,) or (n, k), or None
        Where a curvature is not positive, the direction p of it (columns of other systems are zero).
    products : int
        Products of vectors with A.
    interrupted : bool
        Ctrl-C ended the iteration.
    verdict : str
        All this in a sentence.
    """

    value: Array
    residual: Any
    converged: Any
    iterations: Any
    curvature: Any
    direction: Array | None
    products: int
    interrupted: bool
    verdict: str

    def __repr__(self) -> str:
        return f"<solution of shape {tuple(self.value.shape)}: {self.verdict}>"


def cg(
    A: Any,
    b: Array,
    x0: Array | None = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
    callback: Callable[[Array], object] | None = None,
    progress: bool | Callable[[int, int], object] = False,
) -> Solution:
    r"""Solve ``A x = b`` for a symmetric positive definite operator by conjugate gradients.

    .. math:: x_m = \arg\min_{x \in x_0 + K_m(A, r_0)} \tfrac12 x^T A x - b^T x

    Parameters
    ----------
    A : LinearOperator, symmetric array or sparse matrix, SciPy operator, or Plan, shape (n, n)
        float32 or float64. What is not symmetric gives residuals that do not fall, which is said; it is not tested.
    b : array, shape (n,) or (n, k)
        One right-hand side, or k, which have steps of their own and share products.
    x0 : array of the shape of b, optional
        Where to begin; zero by default.
    rtol, atol : float, default 1e-5 and 0
        A system is solved when ``|b - A x| <= max(rtol * |b|, atol)``, as in SciPy.
    maxiter : int, optional
        Steps at most; ``10 n`` by default, as in SciPy.
    M : as A, optional
        An approximation of the inverse of A, symmetric positive definite: the preconditioner.
    callback : callable, optional
        Called after each step with the present solutions, in an array of the shape of b.
    progress : bool or callable, default False
        True shows a progress bar where tqdm is installed; a callable gets the number of steps and of solved systems.

    Returns
    -------
    Solution
        With true residuals and a verdict. After Ctrl-C it is what was reached until then, and says so.

    Raises
    ------
    ConvergenceError
        A system was not solved: steps ran out, or a direction of negative curvature was met, or the products carry
        errors larger than the tolerance. ``.partial`` is the record as it stands.
    ShapeError
        ``A`` is not square, or the shapes of ``b``, ``x0`` or ``M`` do not fit.
    DtypeError, DeviceError
        Something has another dtype than ``A``, or is elsewhere.
    DomainError
        An option is out of its range, ``b`` or a product is not finite, or ``M`` is not positive definite.

    Notes
    -----
    Each system has the steps of Hestenes and Stiefel. A step costs one product (with a block for several systems) and
    five vectors of traffic; sums are in double. When the recurrence says that a system is solved, the residual is
    computed from a product; where it is larger than asked for, the iteration begins again there, up to three times.

    *Negative curvature.* ``p'Ap <= 0`` ends a system at once: its solution is that of the step before, and
    ``direction`` is p. A Newton method uses both.

    On the host the steps run in C without the GIL. On a device vectors and numbers stay there: a step is its products
    and three kernels (four with ``M``), makes no array and waits for nothing. Every sixteen steps, with ``callback``
    each time, the numbers are copied to the host, to see whether all systems have ended; one that has does not move in
    the steps that are too many. How fast: after m steps the error has fallen, in the norm of A, at least by
    ``2 ((sqrt(c) - 1) / (sqrt(c) + 1))**m`` for the condition number c (of M A).

    References
    ----------
    Hestenes and Stiefel, "Methods of conjugate gradients for solving linear systems", 1952. Barrett et al., "Templates
    for the solution of linear systems", 1994, section 2.3.1.

    Examples
    --------
    >>> A = np.array([[4.0, 1.0], [1.0, 3.0]])
    >>> found = nm.solvers.cg(A, np.array([1.0, 2.0]), rtol=1e-12)
    >>> np.round(found.value, 8), bool(found.converged), int(found.iterations)
    (array([0.09090909, 0.63636364]), True, 2)
    """
    op = operator_of("cg", A)
    n = op.shape[0]
    if op.shape[1] != n:
        raise ShapeError(sentence("cg", "A", "square", f"shape {op.shape}"))
    b = _like(op, "b", b, None)
    if x0 is not None:
        x0 = _like(op, "x0", x0, tuple(b.shape))
    inverse = None
    if M is not None:
        inverse = operator_of("cg", M)
        if inverse.shape != op.shape or inverse.dtype != op.dtype or inverse.device != op.device:
            wanted = f"an operator of shape {op.shape}, {op.dtype}, on {op.device}, as `A`"
            got = f"{inverse.shape}, {inverse.dtype}, on {inverse.device}"
            raise ShapeError(sentence("cg", "M", wanted, got))
    rtol = require_real("cg", "rtol", rtol, lambda t: 0 <= t < 1, "in [0, 1)")
    atol = require_real("cg", "atol", atol, lambda t: t >= 0, "at least 0")
    if maxiter is None:
        maxiter = 10 * max(n, 1)
    else:
        maxiter = require_positive_int("cg", "maxiter", maxiter)
    if callback is not None:
        require_callable("cg", "callback", callback)
    require_progress("cg", progress)
    single = b.ndim == 1
    columns = b[:, None] if single else b
    start = None if x0 is None else (x0[:, None] if single else x0)
    k = columns.shape[1]
    kind: Any = _Steps if op.device == CPU else _DeviceSteps
    with Progress(progress, k, "cg", "system") as tell:
        state: _State = kind(op, inverse, columns, start, rtol, atol)
        try:
            state.solve(maxiter, callback, single, tell)
        except KeyboardInterrupt:
            return state.result(single, interrupted=True)
    found = state.result(single)
    if (state.codes == BROKEN).any():
        raise DomainError(
            f"cg: `A @ p` must be finite, got infinity or NaN within {state.steps} steps."
        )
    if (state.codes == PRECONDITIONER).any():
        raise DomainError(
            "cg: `M` must be positive definite, and r'Mr was not positive for a residual r."
        )
    if not np.all(found.converged):
        raise ConvergenceError(f"cg: {found.verdict}. {state.advice(maxiter)}", partial=found)
    return found


def _like(op: LinearOperator, name: str, given: Any, shape: tuple[int, ...] | None) -> Array:
    x = require_float("cg", name, given)
    n = op.shape[0]
    if shape is None and (x.ndim not in (1, 2) or x.shape[0] != n):
        raise ShapeError(sentence("cg", name, f"of shape ({n},) or ({n}, k)", str(tuple(x.shape))))
    if shape is not None and tuple(x.shape) != shape:
        raise ShapeError(
            sentence("cg", name, f"of shape {shape}, that of `b`", str(tuple(x.shape)))
        )
    if x.dtype != op.dtype:
        advice = f"Nothing is converted in silence: `{name}.astype({op.dtype})`."
        raise DtypeError(sentence("cg", name, f"of {op.dtype}", str(x.dtype), advice))
    if device_of(x) != op.device:
        advice = f'Nothing is moved in silence: `nm.to_device({name}, "{op.device}")`.'
        raise DeviceError(sentence("cg", name, f"on {op.device}", str(device_of(x)), advice))
    with backend_for(op.device).scope():
        finite = bool(backend_for(op.device).xp.isfinite(x).all())
    if not finite:
        raise DomainError(sentence("cg", name, "finite", "infinity or NaN"))
    return x


class _State(ABC):
    """What both ways of iterating know of k systems; the arrays are on the host."""

    def __init__(self, k: int) -> None:
        self.k, self.steps, self.restarts = k, 0, 0
        self.codes = np.zeros(k, np.int64)
        self.counts = np.zeros(k, np.int64)
        self.curvatures = np.full(k, np.inf)
        self.residuals = np.zeros(k)
        self.goals = np.zeros(k)
        self.best = np.full(k, np.inf)  # true residuals at the last restart

    def solve(self, maxiter: int, callback: Any, single: bool, tell: Progress) -> None:
        """Iterate to the end, and again where the true residuals are larger than the recurrence says."""
        at_once = 1 if callback is not None else AT_ONCE if tell.wanted else self.at_once(maxiter)
        while True:
            while self.steps < maxiter and self.running():
                self.advance(min(at_once, maxiter - self.steps))
                if callback is not None:
                    x = self.solutions()
                    callback(x[:, 0] if single else x)
                tell(self.steps, int((self.codes == CONVERGED).sum()))
            self.residuals = self.true_residuals()
            off = (self.codes == CONVERGED) & (self.residuals > self.goals)
            again = off & (self.residuals < 0.5 * self.best)
            if not again.any() or self.restarts == RESTARTS or self.steps >= maxiter:
                return
            self.restarts += 1
            self.best[again] = self.residuals[again]
            self.restart(again)

    def result(self, single: bool, *, interrupted: bool = False) -> Solution:
        if interrupted:
            self.residuals = self.true_residuals()
        converged = self.residuals <= self.goals
        bent = self.codes == BENT
        value = self.solutions()
        direction = self.directions(bent) if bent.any() else None

        def scalar(x: Any) -> Any:
            return x[0] if single else x

        if single:
            value = value[:, 0]
            direction = None if direction is None else direction[:, 0]
        return Solution(
            value=value,
            residual=scalar(self.residuals),
            converged=scalar(converged),
            iterations=scalar(self.counts),
            curvature=scalar(self.curvatures),
            direction=direction,
            products=self.products(),
            interrupted=interrupted,
            verdict=self.verdict(converged, bent, interrupted),
        )

    def verdict(self, converged: Array, bent: Array, interrupted: bool) -> str:
        steps = int(self.counts.max(initial=0))
        parts = [f"interrupted after {self.steps} steps"] if interrupted else []
        ratio = float((self.residuals / np.where(self.goals > 0, self.goals, 1)).max(initial=0))
        parts.append(
            f"{int(converged.sum())} of {self.k} systems solved in {steps} steps "
            f"(largest residual {float(self.residuals.max(initial=0)):.1e}, {ratio:.1e} of what was asked for)"
        )
        if bent.any():
            worst = float(self.curvatures[bent].min())
            parts.append(
                f"`A` is not positive definite: p'Ap = {worst:.1e} p'p in step "
                f"{int(self.counts[bent].min()) + 1}"
            )
        return "; ".join(parts)

    def advice(self, maxiter: int) -> str:
        if (self.codes == BENT).any():
            return "`partial.direction` has the direction p; add a multiple of the identity to `A`, or use `lanczos`."
        if self.steps >= maxiter:
            return f"Raise `maxiter` above {maxiter}, or `rtol`, or give a preconditioner `M`."
        return "No more is to be had: the products carry errors of this size. Raise `rtol`."

    @abstractmethod
    def at_once(self, maxiter: int) -> int:
        """Return after how many steps it is looked whether all has ended."""

    @abstractmethod
    def running(self) -> bool:
        """Return whether a system has not ended."""

    @abstractmethod
    def advance(self, steps: int) -> None:
        """Do up to so many steps."""

    @abstractmethod
    def restart(self, chosen: Array) -> None:
        """Begin again from the true residuals of some systems."""

    @abstractmethod
    def solutions(self) -> Any:
        """Return them, (n, k)."""

    @abstractmethod
    def directions(self, chosen: Array) -> Any:
        """Return the last directions of some systems, (n, k)."""

    @abstractmethod
    def true_residuals(self) -> Array:
        """Return the lengths of ``b - A x``."""

    @abstractmethod
    def products(self) -> int:
        """Return how many products were done."""


class _Steps(_State):
    """On the host, in C: row i of the arrays is system ``order[i, 0]``, the active rows first."""

    def __init__(
        self, op: Any, inverse: Any, b: Array, start: Any, rtol: float, atol: float
    ) -> None:
        super().__init__(b.shape[1])
        self.multiply = product_of("cg", op)
        self.inverse = None if inverse is None else product_of("cg", inverse)
        self.b = np.array(b.T, order="C")  # (k, n)
        self.x = np.zeros_like(self.b) if start is None else np.array(start.T, order="C")
        self.r = self.b.copy()
        if start is not None:
            self.r -= self.multiply(self.x)
        self.goals = np.maximum(rtol * lengths(self.b), atol)
        self.z = (
            np.empty_like(self.b)
            if inverse is not None
            else np.empty((0, self.b.shape[1]), b.dtype)
        )
        self.p, self.q = np.empty_like(self.b), np.empty_like(self.b)
        self.numbers = np.zeros((self.k, 4))
        self.numbers[:, 1], self.numbers[:, 2] = self.goals, np.inf
        self.order = np.zeros((self.k, 3), np.int64)
        self.order[:, 0] = np.arange(self.k)
        self.active = np.zeros(1, np.int64)
        self.begin(np.arange(self.k))

    def begin(self, rows: Array) -> None:
        """Make these rows active, from their residuals; those that are solved already end at once."""
        self.numbers[rows, 3] = lengths(self.r[rows])
        self.order[rows, 2] = RUNNING
        solved = rows[self.numbers[rows, 3] <= self.numbers[rows, 1]]
        self.order[solved, 2] = CONVERGED
        chosen = np.concatenate(
            [np.setdiff1d(rows, solved), solved, np.setdiff1d(np.arange(self.k), rows)]
        )
        for a in (self.x, self.r, self.p, self.numbers, self.order):
            a[...] = a[chosen]
        first = len(rows) - len(solved)
        self.active[0] = first
        if first:
            z = self.r[:first] if self.inverse is None else self.inverse(self.r[:first])
            self.p[:first] = z
            self.numbers[:first, 0] = np.einsum("ij,ij->i", self.r[:first], z, dtype=float)
            self.order[:first, 2][~(self.numbers[:first, 0] > 0)] = PRECONDITIONER
            if not (self.numbers[:first, 0] > 0).all():
                self.active[0] = 0
        self.note()

    def at_once(self, maxiter: int) -> int:
        return maxiter

    def running(self) -> bool:
        return bool(self.active[0])

    def advance(self, steps: int) -> None:
        before = self.order[:, 1].max(initial=0)
        try:
            _iterations.cg(
                self.multiply, self.inverse, self.x, self.r, self.z, self.p, self.q,
                self.numbers, self.order, self.active, steps,
            )  # fmt: skip
        finally:
            self.steps += max(int(self.order[:, 1].max(initial=0) - before), 1)
            self.note()

    def note(self) -> None:
        """Put what the rows say in the order of the systems."""
        systems = self.order[:, 0]
        self.codes[systems], self.counts[systems] = self.order[:, 2], self.order[:, 1]
        self.curvatures[systems], self.residuals[systems] = self.numbers[:, 2], self.numbers[:, 3]

    def restart(self, chosen: Array) -> None:
        rows = np.flatnonzero(chosen[self.order[:, 0]])
        self.r[rows] = self.b[self.order[rows, 0]] - self.multiply(self.x[rows])
        self.begin(rows)

    def in_order(self, rows: Array) -> Array:
        out = np.empty_like(rows)
        out[self.order[:, 0]] = rows
        return np.ascontiguousarray(out.T)

    def solutions(self) -> Array:
        return self.in_order(self.x)

    def directions(self, chosen: Array) -> Array:
        return self.in_order(self.p) * chosen

    def true_residuals(self) -> Array:
        out = np.zeros(self.k)
        if self.k and self.x.shape[1]:
            out[self.order[:, 0]] = lengths(self.b[self.order[:, 0]] - self.multiply(self.x))
        return out

    def products(self) -> int:
        return int(self.multiply.count)


class _DeviceSteps(_State):
    """On a device, by kernels: row i of the arrays is system i, and one that has ended stays as it is."""

    def __init__(
        self, op: Any, inverse: Any, b: Array, start: Any, rtol: float, atol: float
    ) -> None:
        super().__init__(b.shape[1])
        self.op, self.multiply = op, DeviceProduct("cg", op)
        self.inverse = None if inverse is None else DeviceProduct("cg", inverse)
        self.backend: Any = self.multiply.backend
        xp, n = self.backend.xp, b.shape[0]
        self.piece = piece_of(n)
        pieces = -(-n // self.piece)
        with self.backend.scope():
            self.b = xp.array(b.T, order="C", copy=True)  # (k, n)
            self.r, self.q, self.p = self.b.copy(), xp.empty_like(self.b), xp.zeros_like(self.b)
            self.x = xp.zeros_like(self.b)
            if start is not None:
                self.x[...] = start.T
                self.r -= self.multiply.into(self.x, self.q)
            self.z = self.r if inverse is None else xp.empty_like(self.b)
            self.sums, self.squares = xp.empty((2, self.k, pieces)), xp.empty((self.k, pieces))
            self.products_rz = xp.empty((2, self.k, pieces))
            goals = xp.maximum(rtol * xp.sqrt(self.dots(self.b, self.b)), atol)
            self.goals_there, self.goals = goals, on_host(goals)
            # of each system r'z, the least curvature, the length of r, how it ended, its steps
            self.numbers = np.tile([0.0, np.inf, 0.0, RUNNING, 0.0], (self.k, 1))
            self.now, self.then = xp.empty((self.k, 5)), xp.empty((self.k, 5))
            self.begin(np.ones(self.k, bool))

    def dots(self, x: Any, y: Any) -> Any:
        return self.backend.xp.sum(x.astype(float, copy=False) * y, axis=1)

    def begin(self, chosen: Array) -> None:
        """Begin these systems, from their residuals; those that are solved already end at once."""
        xp = self.backend.xp
        z = self.r if self.inverse is None else self.inverse.into(self.r, self.z)
        squares, rz = on_host(xp.stack([self.dots(self.r, self.r), self.dots(self.r, z)]))
        sizes = np.sqrt(squares)
        codes = np.where(sizes <= self.goals, CONVERGED, np.where(rz > 0, RUNNING, PRECONDITIONER))
        for column, new in ((0, rz), (2, sizes), (3, codes)):
            self.numbers[chosen, column] = new[chosen]
        mask = to_device(chosen[:, None], self.op.device)
        self.p = xp.where(mask, z, self.p)
        self.now[...] = to_device(self.numbers, self.op.device)
        self.note()

    def note(self) -> None:
        """Copy the numbers of the systems to the host."""
        self.numbers = on_host(self.now).copy()
        self.codes, self.counts = (self.numbers[:, i].astype(np.int64) for i in (3, 4))
        self.curvatures, self.residuals = self.numbers[:, 1], self.numbers[:, 2]

    def at_once(self, maxiter: int) -> int:
        return AT_ONCE

    def running(self) -> bool:
        return bool((self.codes == RUNNING).any())

    def advance(self, steps: int) -> None:
        try:
            with self.backend.scope():
                for _ in range(steps):
                    self.step()
        finally:
            most = int(self.counts.max(initial=0))
            self.note()
            self.steps += (
                steps if self.running() else max(int(self.counts.max(initial=0)) - most, 1)
            )

    def step(self) -> None:
        """Queue one step of all systems that run."""
        launch, (k, n) = self.multiply.launch, self.x.shape
        x, r, p, piece = self.x, self.r, self.p, self.piece
        q = self.multiply.into(p, self.q)
        launch("row_products", k * n, p, q, self.sums, n, piece)
        launch("cg_move", k * n, x, r, p, q, self.sums, self.squares, self.now, self.then, n, piece)
        z, rz = r, self.squares
        if self.inverse is not None:
            z, rz = self.inverse.into(r, self.z), self.products_rz
            launch("row_products", k * n, r, z, rz, n, piece)
        launch(
            "cg_turn",
            k * n,
            p,
            z,
            self.squares,
            rz,
            self.goals_there,
            self.then,
            self.now,
            n,
            piece,
        )

    def restart(self, chosen: Array) -> None:
        xp = self.backend.xp
        with self.backend.scope():
            mask = to_device(chosen[:, None], self.op.device)
            rest = self.b - self.multiply.into(self.x, self.q)
            self.r[...] = xp.where(mask, rest, self.r)
            self.begin(chosen)

    def solutions(self) -> Any:
        with self.backend.scope():
            return self.x.T.copy()

    def directions(self, chosen: Array) -> Any:
        with self.backend.scope():
            return (self.p * to_device(chosen[:, None], self.op.device)).T

    def true_residuals(self) -> Array:
        if not self.k or not self.b.shape[1]:
            return np.zeros(self.k)
        with self.backend.scope():
            rest = self.b - self.multiply.into(self.x, self.q)
            return on_host(self.backend.xp.sqrt(self.dots(rest, rest)))

    def products(self) -> int:
        return int(self.multiply.count)
