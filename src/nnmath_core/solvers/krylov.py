"""Bases of Lanczos runs, on the host by the loops in C and on a device by kernels: what `lanczos` and `slq` step in."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import eigh

from nnmath_core._ext import _iterations
from nnmath_core.device import CPU, to_device
from nnmath_core.errors import DomainError
from nnmath_core.solvers.device_product import DeviceProduct, on_host, piece_of
from nnmath_core.solvers.iteration import product_of
from nnmath_core.solvers.operator import LinearOperator
from nnmath_core.typing import Array

__all__ = ["DeviceKrylov", "HostKrylov", "krylov_of"]

RESERVED = 2**28  # bytes of a new basis
COLUMNS = 64  # of a block product
FIELDS = 4  # of the record of a step on a device: alpha, beta, the largest |A v|, the largest leak


def krylov_of(who: str, op: LinearOperator) -> HostKrylov | DeviceKrylov:
    """Return an empty basis where the operator is."""
    return HostKrylov(who, op) if op.device == CPU else DeviceKrylov(who, op)


class HostKrylov:
    """A basis on the host: orthonormal rows, of which the last ones are the vectors of the present run."""

    def __init__(self, who: str, op: LinearOperator) -> None:
        self.op, self.n = op, op.shape[0]
        self.multiply = product_of(who, op)
        self.basis = np.empty((0, self.n), op.dtype)

    def room(self, rows: int, most: int) -> None:
        """Make the basis at least ``rows`` high, half as high again up to ``most``.

        A new one takes RESERVED bytes at once, of which the system gives what is written, in large pages: on small ones
        100 steps of 200,000 parameters take half as long again. Later it grows in place: the system moves pages and
        copies nothing.
        """
        have = len(self.basis)
        if rows <= have:
            return
        least = have + have // 2 if have else RESERVED // max(1, self.n * self.op.dtype.itemsize)
        shape = min(max(rows, least, 32), max(rows, most)), self.n
        if have:
            self.basis.resize(shape, refcheck=False)
        else:
            self.basis = np.empty(shape, self.op.dtype)
        self.coefficients = np.empty(len(self.basis), self.op.dtype)

    def start(self, locked: int, w: Array) -> bool:
        """Make row ``locked`` the unit vector of w orthogonal to the rows before it; False: w lies in their span."""
        w = w.astype(self.op.dtype)
        if not _iterations.orthonormalise(self.basis, locked, w, self.coefficients):
            return False
        self.basis[locked] = w
        return True

    def run(
        self,
        locked: int,
        stop: int,
        alpha: Array,
        beta: Array,
        done: Array,
        facts: Array,
        breakdown: float,
    ) -> bool:
        """Do the steps done[0] .. stop - 1 of the run that began in row ``locked``; True where it broke down."""
        closed: bool = _iterations.lanczos(
            self.multiply, self.basis, locked, stop, alpha, beta, done, facts, breakdown
        )
        return closed

    def turn(self, first: int, by: Array) -> None:
        """Replace the rows from ``first`` on by their combinations ``by`` (p, m), in place, column by column."""
        p, m = by.shape
        for start in range(0, self.n, 4096):
            columns = slice(start, start + 4096)
            self.basis[first : first + p, columns] = by @ self.basis[first : first + m, columns]

    def combined(self, by: Array, locked: int, old: Array, which: Array) -> Array:
        """Return rows: where ``old`` those of the basis by ``which``, else combinations ``by`` (p, m) of the run."""
        rows = np.empty((len(old), self.n), self.op.dtype)
        rows[old] = self.basis[which]
        if not old.all():
            rows[~old] = by @ self.basis[locked : locked + by.shape[1]]
        return rows

    def measured(self, vectors: Array) -> tuple[Array, Array, Array]:
        """Return values, residuals and vectors that are best in the span of orthonormal rows (k, n).

        The pairs of one run are already so; those of several runs are coupled by their residuals.
        Sums are in double, products in the operator's dtype.
        """
        wide = vectors.astype(float)
        images = np.empty_like(wide)
        for start in range(0, len(wide), COLUMNS):
            images[start : start + COLUMNS] = self.multiply(vectors[start : start + COLUMNS])
        small = wide @ images.T
        value, turn = eigh((small + small.T) / 2, wide @ wide.T)
        wide, images = turn.T @ wide, turn.T @ images
        images -= wide * value[:, None]
        return value, np.linalg.norm(images, axis=1), wide.astype(self.op.dtype)

    def columns(self, rows: Array) -> Array:
        """Return rows as columns."""
        return np.ascontiguousarray(rows.T)


class DeviceKrylov:
    """A basis on a device, of one run or of ``count`` runs side by side, whose products are blocks.

    A step is its product and five kernels: the coefficients on the basis and their subtraction, twice, and the next
    vector. Nothing is read in it, and no array is made beside those of the operator: the entries of T are collected on
    the device, and `run` copies them to the host once, after its steps. A run that has closed goes on with zeros.
    """

    def __init__(self, who: str, op: LinearOperator, count: int = 1) -> None:
        self.who, self.op, self.n, self.runs = who, op, op.shape[0], count
        self.multiply = DeviceProduct(who, op)
        self.backend: Any = self.multiply.backend
        xp, n = self.backend.xp, self.n
        self.v, self.w = xp.empty((count, n), op.dtype), xp.empty((count, n), op.dtype)
        self.piece, self.width = piece_of(n, 32), piece_of(n)
        self.pieces, widths = -(-n // self.piece), -(-n // self.width)
        self.first, self.second = xp.empty((count, widths)), xp.empty((count, widths))
        self.record = xp.empty((0, count, FIELDS))
        self.capacity = 0
        self.basis = xp.empty((count, 0, n), op.dtype)

    def room(self, rows: int, most: int) -> None:
        """Make the basis at least ``rows`` high, half as high again up to ``most``; what it holds is copied."""
        if rows <= self.capacity:
            return
        xp = self.backend.xp
        enough = min(max(rows, self.capacity + self.capacity // 2, 32), max(rows, most))
        with self.backend.scope():
            grown = xp.empty((self.runs, enough, self.n), self.op.dtype)
            grown[:, : self.capacity] = self.basis
            record = xp.empty((enough, self.runs, FIELDS))
            record[: len(self.record)] = self.record
            self.sums = xp.empty(self.runs * (enough + 1) * self.pieces)
        self.basis, self.record, self.capacity = grown, record, enough

    def start(self, locked: int, w: Array) -> bool:
        """Make row ``locked`` the unit vector of w orthogonal to the rows before it; see `HostKrylov.start`."""
        xp = self.backend.xp
        with self.backend.scope():
            moved = to_device(w.astype(self.op.dtype), self.op.device)
            rows = self.basis[0, :locked]
            before = length = _length(xp, moved)
            for k in range(3 if locked and length > 0 else 0):
                c = xp.matmul(rows, moved)
                if k == 2:  # a second loss of length
                    if float(xp.abs(c).max()) > 0.5 * length:
                        return False
                    break
                moved = moved - xp.matmul(c, rows)
                after = _length(xp, moved)
                kept, length = after >= 0.7 * length, after
                if kept:
                    break
            if not length > 32 * float(np.finfo(self.op.dtype).eps) * before:
                return False
            self.begin(locked, (moved / length)[None])
        return True

    def begin(self, locked: int, vectors: Any) -> None:
        """Begin the runs with these unit vectors (count, n), in row ``locked``."""
        self.v[...] = vectors
        self.basis[:, locked] = vectors

    def run(
        self,
        locked: int,
        stop: int,
        alpha: Array,
        beta: Array,
        done: Array,
        facts: Array,
        breakdown: float,
    ) -> bool:
        """Do steps of the run that began in row ``locked``; see `HostKrylov.run`. The entries of T come at the end."""
        begun, closed = int(done[0]), False
        try:
            while done[0] < stop:
                self.step(locked, int(done[0]), float(facts[0]), breakdown)
                done[0] += 1
        finally:
            found = self.read(begun, int(done[0]))[:, 0]
            m = begun + len(found)
            alpha[begun:m], beta[begun:m] = found[:, 0], found[:, 1]
            bad = np.flatnonzero(~np.isfinite(found[:, 2]))
            ends = np.flatnonzero(~(found[:, 1] > breakdown * found[:, 2]))
            if len(bad) and not (len(ends) and ends[0] < bad[0]):
                m = begun + int(bad[0])
            elif len(ends):
                m, closed = begun + int(ends[0]) + 1, True
            done[0] = m
            if m > begun:
                facts[:] = np.maximum(facts, found[: m - begun, 2:].max(axis=0))
        if len(bad) and not closed:
            raise not_finite(self.who, m + 1)
        return closed

    def step(self, locked: int, j: int, known: float, breakdown: float) -> None:
        """Queue step j of the runs that began in row ``locked``; the largest |A v| before is ``known``."""
        n, capacity, height = self.n, self.capacity, locked + j + 1
        launch, all_sums = self.multiply.launch, self.runs * (height + 1) * n
        basis = self.basis
        with self.backend.scope():
            w = self.multiply.into(self.v, self.w, own=True)
            for squares, step in ((self.first, j), (self.second, -1)):
                launch(
                    "basis_products", all_sums, basis, w, self.sums, capacity, height, n, self.piece
                )
                launch(
                    "take_away", w.size, basis, w, self.sums, squares, self.record, capacity, height, n,
                    self.piece, self.width, step, known,
                )  # fmt: skip
            launch(
                "next_vectors", w.size, w, self.v, basis, self.first, self.second, self.record,
                capacity, height, n, self.width, j, breakdown,
            )  # fmt: skip

    def read(self, start: int, stop: int) -> Array:
        """Return the records (stop - start, count, 4) of steps, on the host."""
        return on_host(self.record[start:stop])

    def turn(self, first: int, by: Array) -> None:
        """Replace the rows from ``first`` on by their combinations ``by`` (p, m)."""
        p, m = by.shape
        with self.backend.scope():
            moved = to_device(by, self.op.device)
            self.basis[0, first : first + p] = moved @ self.basis[0, first : first + m]

    def combined(self, by: Array, locked: int, old: Array, which: Array) -> Any:
        """Return rows of the basis and combinations of the run; see `HostKrylov.combined`."""
        xp = self.backend.xp
        with self.backend.scope():
            rows = xp.empty((len(old), self.n), self.op.dtype)
            for place, row in zip(np.flatnonzero(old), which, strict=True):
                rows[int(place)] = self.basis[0, int(row)]
            if not old.all():
                made = to_device(by, self.op.device) @ self.basis[0, locked : locked + by.shape[1]]
                for place, row in zip(np.flatnonzero(~old), made, strict=True):
                    rows[int(place)] = row
        return rows

    def measured(self, vectors: Any) -> tuple[Array, Array, Any]:
        """Return values, residuals and vectors that are best in the span of rows; see `HostKrylov.measured`."""
        xp = self.backend.xp
        with self.backend.scope():
            wide = vectors.astype(float)
            images = xp.empty_like(wide)
            for start in range(0, len(wide), COLUMNS):
                some = xp.ascontiguousarray(vectors[start : start + COLUMNS])
                work = self.multiply.work(len(some))
                images[start : start + COLUMNS] = self.multiply.into(some, work)
            small, gram = on_host(xp.stack([wide @ images.T, wide @ wide.T]))
            value, turn = eigh((small + small.T) / 2, gram)
            by = to_device(np.ascontiguousarray(turn.T), self.op.device)
            wide, images = by @ wide, by @ images
            images -= wide * to_device(value[:, None], self.op.device)
            residual = on_host(xp.sqrt(xp.sum(images * images, axis=1)))
            return value, residual, wide.astype(self.op.dtype)

    def columns(self, rows: Any) -> Any:
        """Return rows as columns."""
        return self.backend.xp.ascontiguousarray(rows.T)


def not_finite(who: str, step: int) -> DomainError:
    """Return the complaint of the loops in C."""
    return DomainError(
        f"{who}: `A @ v` must be finite, got infinity or NaN in step {step}. Is the point of the operator one where "
        "its entries are finite?"
    )


def _length(xp: Any, w: Any) -> float:
    wide = w.astype(float, copy=False)
    return float(xp.sqrt(xp.sum(wide * wide)))
