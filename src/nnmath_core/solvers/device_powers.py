"""Powers of an operator on a device: the steps of `power_iteration` and `spectral_norm` there."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nnmath_core.device import backend_for
from nnmath_core.solvers.device_product import DeviceProduct, launch, on_host, piece_of
from nnmath_core.solvers.iteration import Progress
from nnmath_core.solvers.operator import LinearOperator

__all__ = ["DeviceNormalPowers", "DevicePowers"]

AT_ONCE = 20  # steps between two looks at whether a tolerance is reached, and between two reports of progress


class DevicePowers:
    """Powers of a symmetric product of rows (1, n); ``times(x, out)`` returns it, in ``out`` or elsewhere.

    Steps done, and whether it has ended, are two numbers on the device; a step after the end changes nothing.
    """

    def __init__(self, times: Callable[[Any, Any], Any], op: LinearOperator, begin: Any) -> None:
        self.times, self.op, self.n = times, op, op.shape[1]
        self.backend: Any = backend_for(op.device)
        self.piece, self.count = piece_of(self.n), 0
        xp, pieces = self.backend.xp, -(-self.n // self.piece)
        with self.backend.scope():
            self.v = xp.array(begin[None], order="C", copy=True)
            self.w = xp.empty_like(self.v)
            self.sums, self.squares = xp.empty((2, pieces)), xp.empty(pieces)
            self.now, self.then = xp.zeros(2), xp.zeros(2)
        self.steps, self.ended = 0, False

    @property
    def vector(self) -> Any:
        """The vector (n,) that was reached, which later steps change."""
        return self.v[0]

    def advance(self, steps: int, tol: float, tell: Progress) -> None:
        """Do up to so many steps; fewer where a tolerance was reached, which is looked at now and then."""
        queued = 0
        try:
            while queued < steps and not self.ended:
                for _ in range(min(AT_ONCE, steps - queued)):
                    self.step(tol)
                    queued += 1
                if tol:
                    self.look()
                tell(self.steps if tol else queued, self.steps if tol else queued)
        finally:
            self.look()

    def look(self) -> None:
        """Copy the two numbers to the host."""
        done, ended = on_host(self.now)
        self.steps, self.ended = int(done), bool(ended)

    def step(self, tol: float) -> None:
        """Queue one step."""
        n, piece = self.n, self.piece
        with self.backend.scope():
            self.count += 1
            w = self.times(self.v, self.w)
            launch(self.backend, "row_products", n, w, self.v, self.sums, n, piece)
            if tol:
                launch(self.backend, "power_rest", n, w, self.v, self.sums, self.squares, piece)
            numbers = (self.sums, self.squares, self.now, self.then)
            launch(self.backend, "power_step", n, self.v, w, *numbers, piece, tol)
        self.now, self.then = self.then, self.now

    def multiply(self, x: Any) -> Any:
        """Return the product with a vector (n,)."""
        self.count += 1
        with self.backend.scope():
            return self.times(x[None], self.backend.xp.empty_like(self.v))[0]

    def dot(self, x: Any, y: Any) -> float:
        """Return the product of two vectors, summed in double."""
        with self.backend.scope():
            return float((x.astype(float, copy=False) * y).sum())

    def length(self, x: Any) -> float:
        """Return the length of a vector, summed in double."""
        with self.backend.scope():
            return math.sqrt(float((x.astype(float, copy=False) ** 2).sum()))


class DeviceNormalPowers:
    """Powers of A^T A on a device."""

    def __init__(self, who: str, op: LinearOperator, begin: Any) -> None:
        forward, backward = DeviceProduct(who, op), DeviceProduct(who, op, transpose=True)
        with forward.backend.scope():
            half = forward.work(1)

        def times(x: Any, out: Any) -> Any:
            if forward.matrix is None:
                return backward.into(forward.into(x, half), out)
            forward.backend.normal_rows(forward.matrix, x[0], out=(half[0], out[0]))
            return out

        self.op = op
        self.state = DevicePowers(times, op, begin)

    @property
    def steps(self) -> int:
        """Steps done."""
        return self.state.steps

    @property
    def count(self) -> int:
        """Products with A or its transpose."""
        return 2 * self.state.count

    def advance(self, steps: int, tol: float, tell: Progress) -> None:
        """Do up to so many steps; see `DevicePowers.advance`."""
        self.state.advance(steps, tol, tell)

    def triplet(self) -> tuple[float, Any, Any, float]:
        """Return the value, the left and the right vector, and the residual."""
        v = self.state.vector
        half = self.op @ v
        self.state.count += 1
        size = self.state.length(half)
        if not size > 0 or not math.isfinite(size):
            return size, half, v, 0.0
        with self.state.backend.scope():
            left = (half / size).astype(v.dtype)
            rest = self.op.rmatvec(left) - size * v
        return size, left, v, self.state.length(rest)
