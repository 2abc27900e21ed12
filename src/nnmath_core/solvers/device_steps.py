"""What the kernels of ``iterations.cu`` mean, in array code on the host: same names, same arguments.

Without a device the steps of a device run by these, which is how they are tested on every machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnmath_core.typing import Array

__all__ = ["MEANINGS"]


def _pieces(x: Array, piece: int) -> Array:
    """Sums along the last axis, piece by piece, in double."""
    wide = x.astype(float, copy=False)
    return np.add.reduceat(wide, np.arange(0, x.shape[-1], piece), axis=-1)


def row_products(n: int, a: Array, b: Array, sums: Array, cols: int, piece: int) -> None:
    """Products of rows, piece by piece: of a and b, and of a with itself."""
    wide = a.astype(float).reshape(-1, cols)
    sums = sums.reshape(2, len(wide), -1)
    sums[0] = _pieces(wide * b.reshape(-1, cols), piece)
    sums[1] = _pieces(wide * wide, piece)


def basis_products(
    n: int, basis: Array, w: Array, sums: Array, capacity: int, height: int, cols: int, piece: int
) -> None:
    """The coefficients of w on the first vectors of each basis, and its square, piece by piece."""
    wide, rows = w.astype(float), len(w)
    found = np.concatenate([basis[:, :height], w[:, None]], axis=1) * wide[:, None]
    made = _pieces(found, piece)
    sums[: made.size] = made.reshape(-1)
    assert n == rows * (height + 1) * cols


def take_away(
    n: int,
    basis: Array,
    w: Array,
    sums: Array,
    squares: Array,
    record: Array,
    capacity: int,
    height: int,
    cols: int,
    piece: int,
    width: int,
    step: int,
    known: float,
) -> None:
    """One pass of classical Gram-Schmidt, and in the first pass the entries of T that it knows."""
    rows, pieces = len(w), -(-cols // piece)
    made = sums[: rows * (height + 1) * pieces].reshape(rows, height + 1, pieces).sum(axis=2)
    c = made[:, :height]
    w -= np.einsum("ir,irk->ik", c.astype(w.dtype), basis[:, :height])
    squares[...] = _pieces(w.astype(float) ** 2, width)
    if step < 0:
        return
    before = record[step - 1] if step else np.tile([0.0, 0.0, known, 0.0], (rows, 1))
    off = np.abs(c[:, :-1])
    if step:
        off[:, -1] = np.abs(c[:, -2] - before[:, 1])
    norm = np.sqrt(made[:, height])
    record[step, :, 0] = c[:, -1]
    record[step, :, 2] = np.where(norm <= before[:, 2], before[:, 2], norm)
    record[step, :, 3] = np.fmax(off.max(axis=1, initial=0.0), before[:, 3])


def next_vectors(
    n: int,
    w: Array,
    v: Array,
    basis: Array,
    first: Array,
    second: Array,
    record: Array,
    capacity: int,
    height: int,
    cols: int,
    width: int,
    step: int,
    breakdown: float,
) -> None:
    """The next vectors, or 0 where a run closes, and beta."""
    before, beta = (np.sqrt(x.sum(axis=1)) for x in (first, second))
    beta = np.where(beta < 0.7 * before, 0.0, beta)
    goes = beta > breakdown * record[step, :, 2]
    v[...] = np.where(goes[:, None], w / np.where(goes, beta, 1.0)[:, None], 0.0)
    basis[:, height] = v
    record[step, :, 1] = beta


def cg_move(
    n: int,
    x: Array,
    r: Array,
    p: Array,
    q: Array,
    sums: Array,
    squares: Array,
    before: Array,
    after: Array,
    cols: int,
    piece: int,
) -> None:
    """The first part of a step of conjugate gradients: x, r, and the squares of r."""
    pq, pp = sums.sum(axis=2)
    code = before[:, 3].copy()
    finite = np.isfinite(pq) & np.isfinite(pp)
    ran = code == 0
    least = np.where(
        ran & finite, np.fmin(before[:, 1], pq / np.where(pp > 0, pp, 1.0)), before[:, 1]
    )
    code[ran] = np.where(finite, np.where(pq <= 0, 2, 0), 3)[ran]
    runs = code == 0
    scale = (before[runs, 0] / pq[runs]).astype(x.dtype)[:, None]
    x[runs] += scale * p[runs]
    r[runs] -= scale * q[runs]
    squares[...] = _pieces(r.astype(float) ** 2, piece)
    after[...] = np.stack([before[:, 0], least, before[:, 2], code, before[:, 4] + runs], axis=1)


def cg_turn(
    n: int,
    p: Array,
    z: Array,
    squares: Array,
    products: Array,
    goals: Array,
    before: Array,
    after: Array,
    cols: int,
    piece: int,
) -> None:
    """The second part: whether a system is solved, and the next direction."""
    length = np.sqrt(squares.sum(axis=1))
    rz = products.reshape(-1, *squares.shape)[0].sum(axis=1)
    code = before[:, 3].copy()
    ran = code == 0
    bad = np.where(~np.isfinite(rz), 3, np.where(rz > 0, 0, 4))
    code[ran] = np.where(~np.isfinite(length), 3, np.where(length <= goals, 1, bad))[ran]
    runs = code == 0
    p[runs] = z[runs] + (rz[runs] / before[runs, 0]).astype(p.dtype)[:, None] * p[runs]
    numbers = (np.where(runs, rz, before[:, 0]), np.where(ran, length, before[:, 2]))
    after[...] = np.stack([numbers[0], before[:, 1], numbers[1], code, before[:, 4]], axis=1)


def power_rest(n: int, w: Array, v: Array, sums: Array, squares: Array, piece: int) -> None:
    """What w has beside v, piece by piece."""
    rest = w.astype(float) - sums[0].sum() * v
    squares[...] = _pieces(rest.reshape(-1) ** 2, piece)


def power_step(
    n: int,
    v: Array,
    w: Array,
    sums: Array,
    squares: Array,
    before: Array,
    after: Array,
    piece: int,
    tol: float,
) -> None:
    """One step of powers, unless it has ended."""
    length = np.sqrt(sums[1].sum())
    ended = before[1] != 0 or not np.isfinite(length) or length == 0
    ended = ended or (tol > 0 and np.sqrt(squares.sum()) <= tol * length)
    if not ended:
        v[...] = w / length
    after[:] = before[0] + (not ended), ended


MEANINGS: dict[str, Any] = {
    f.__name__: f
    for f in (
        row_products,
        basis_products,
        take_away,
        next_vectors,
        cg_move,
        cg_turn,
        power_rest,
        power_step,
    )
}
