"""Averages over normal numbers, by quadrature that finds kinks and says how far off it may be.

One variable: Gauss-Legendre panels, halved where the halves disagree with the whole; the disagreement is the error that
is reported, although the halves, whose sum is returned, are far better. Two variables: the kinks found in one are panel
ends along both axes, and the inner panels follow the ridge of the density, so that no correlation is too close to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core.autodiff.transforms import jvp
from nnmath_core.checks import describe, require_callable
from nnmath_core.errors import ConvergenceError, DomainError, ShapeError
from nnmath_core.typing import Array

__all__ = [
    "Average",
    "Mesh",
    "elementwise",
    "gaussian_average",
    "mesh_of",
    "pair_average",
    "with_slope",
]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_ENDS = np.array([-1.0, 1.0]) * (1 - 2.0**-30)
_CELL = 1.0 - float(_NODES[-1])
"""From the last node to the end of a panel: a jump there is not seen by the nodes, nor by those of the halves."""

_TO_ENDS = np.polynomial.legendre.legvander(_ENDS, 15) @ (
    (np.arange(16)[:, None] + 0.5) * np.polynomial.legendre.legvander(_NODES, 15).T * _WEIGHTS
)
"""Values at the nodes to those of their polynomial at both ends."""

_MARKS = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 38], dtype=float)
"""Ends of the first panels; the density is below the smallest double beyond 38.6."""

_FAR = 24.0
_NARROW = 2.0**-9
"""Panels that are narrower end at a kink or a jump, or the function is steep, which a second look tells."""

_MOST = 20000
_EPS = float(np.finfo(float).eps)
_ROOT_TAU = math.sqrt(2.0 * math.pi)

Values = Callable[[Array], Array]
"""From points, shape (n,), to values, shape (n,) or (m, n)."""


@dataclass(frozen=True)
class Average:
    """Averages of m functions, and the error of each: the disagreement of two quadratures, and rounding."""

    value: Array
    error: Array


@dataclass(frozen=True)
class Mesh:
    """Kinks and jumps of a function, and ends of the panels that it needs where it is steep."""

    kinks: Array
    steep: Array


# ------------------------------------------------------------------------------------ activations
def elementwise(who: str, arg: str, activation: Any) -> Values:
    """Return a function of float64 arrays of one axis that calls ``activation``, and complains.

    Raises
    ------
    DtypeError
        It cannot be called.
    ShapeError, DomainError
        It does not return one number for each, or a number depends on its neighbours.
    """
    require_callable(who, arg, activation)
    name = describe(activation)

    def values(z: Array) -> Array:
        y = activation(z)
        if tuple(getattr(y, "shape", ())) != z.shape:
            raise ShapeError(
                f"{who}: `{arg}` must return an array of the shape of its argument, got {describe(y)} from "
                f"{name} of {describe(z)}."
            )
        return np.asarray(y, dtype=np.float64)

    probe = np.array([-3.1, -1.4, -0.3, 0.2, 0.7, 1.9, 4.3])
    with np.errstate(all="ignore"):
        whole, part = values(probe), values(probe[2:5])
    if not np.allclose(whole[2:5], part, rtol=1e-6, atol=1e-9, equal_nan=True):
        raise DomainError(
            f"{who}: `{arg}` must act on each number alone, got {name}, whose values depend on the others. "
            "A softmax or a normalisation has no gain."
        )
    return values


def with_slope(who: str, arg: str, activation: Any) -> Values:
    """Return a function with two rows of values, those of an activation and of its derivative."""
    values = elementwise(who, arg, activation)

    def rows(z: Array) -> Array:
        y, slope = jvp(values_traced, (z,), (np.ones_like(z),))
        return np.stack([np.asarray(y), np.asarray(slope)])

    def values_traced(z: Any) -> Any:
        return activation(z)

    rows(values(np.array([-0.5, 0.5])))  # what cannot be differentiated says so here
    return rows


# ------------------------------------------------------------------------------------ one variable
def gaussian_average(
    who: str, f: Values, *, tolerance: float = 1e-14, kinks: Array | None = None
) -> Average:
    r"""Return :math:`E f(z)` for a standard normal z; known kinks save the search for them.

    Raises
    ------
    DomainError
        A value is not finite, or the average does not exist.
    ConvergenceError
        The function is too rough; ``partial`` is the average as far as it got.
    """
    marks = np.concatenate([-_MARKS[:0:-1], _MARKS])
    if kinks is not None:
        marks = _apart(np.concatenate([marks, kinks[np.abs(kinks) < _MARKS[-1]]]), 1e-13)
    return _adapted(who, f, marks, tolerance)[0]


def mesh_of(who: str, f: Values) -> Mesh:
    """Return where panels must end for a function: at its kinks and jumps, and where it is steep.

    Raises
    ------
    DomainError, ConvergenceError
        As `gaussian_average`.
    """
    marks = np.concatenate([-_MARKS[:0:-1], _MARKS])
    aside = marks.copy()
    aside[1:-1] += 0.0381966  # no kink is there by design, so that panels narrow down to every one
    _, panels = _adapted(who, f, aside, 1e-14)
    kinks = _narrowest(panels[panels[:, 1] - panels[:, 0] < _NARROW])
    kinks[np.abs(kinks) < 1e-6] = 0.0
    _, panels = _adapted(who, f, np.union1d(marks, kinks), 1e-13)
    steep = np.setdiff1d(panels[:, 0], np.union1d(marks, kinks))
    return Mesh(kinks[np.abs(kinks) < _REACH], steep[np.abs(steep) < _REACH])


def _adapted(who: str, f: Values, marks: Array, tolerance: float) -> tuple[Average, Array]:
    """The average, and the panels (left, right) that it took."""
    left, right = marks[:-1], marks[1:]
    whole, size, _ = _panels(who, f, left, right)
    total, error, scale = (np.zeros(len(whole)) for _ in range(3))
    far = np.abs(0.5 * (left + right)) > _FAR
    if np.any(size[:, far].sum(axis=1) > 1e-14 * size.sum(axis=1)):
        raise DomainError(
            f"{who}: the average of the function over normal numbers is not finite, or comes from numbers beyond "
            f"{_FAR:g} standard deviations: it grows too fast."
        )
    done, met = 0, []
    while left.size:
        done += left.size
        middle = 0.5 * (left + right)
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
        both, sizes, hidden = _panels(who, f, left, right)
        n = middle.size
        halves = both[:, :n] + both[:, n:]
        gap = np.abs(halves - whole) + hidden[:, :n] + hidden[:, n:]
        rest = size.sum(axis=1) + scale
        enough = gap <= 0.01 * tolerance * rest[:, None] + 2 * _EPS * size
        end = right[n:] - left[:n] <= 8 * _EPS * np.maximum(np.abs(middle), 2.0**-40)
        stop = np.all(enough, axis=0) | end
        total += halves[:, stop].sum(axis=1)
        error += gap[:, stop].sum(axis=1)
        scale += size[:, stop].sum(axis=1)
        met.append(np.stack([left[:n], right[n:]], axis=1)[stop])
        go = np.tile(~stop, 2)
        whole, size, left, right = both[:, go], sizes[:, go], left[go], right[go]
        if done > _MOST and left.size:
            partial = Average(total + whole.sum(axis=1), error + size.sum(axis=1))
            raise ConvergenceError(
                f"{who}: the average over normal numbers did not converge in {_MOST} panels: the function has "
                f"jumps or oscillations without end. Error so far {float(partial.error.max()):.1e}.",
                partial=partial,
            )
    panels = np.concatenate(met)
    return Average(total, error + 8 * _EPS * scale), panels[np.argsort(panels[:, 0])]


def _panels(who: str, f: Values, left: Array, right: Array) -> tuple[Array, Array, Array]:
    """Integrals over panels, of absolute values, and what the ends may hide; each of shape (m, panels)."""
    half = 0.5 * (right - left)
    nodes = np.concatenate([_NODES, _ENDS])
    z = 0.5 * (left + right)[:, None] + half[:, None] * nodes
    with np.errstate(all="ignore"):
        values = np.atleast_2d(f(z.ravel()))
    bad = ~np.isfinite(values)
    if bad.any():
        at = float(z.ravel()[np.argwhere(bad)[0, 1]])
        raise DomainError(
            f"{who}: the function must be finite on the numbers that have a normal probability above 1e-314, "
            f"got {values[bad][0]} at {at:.4g} standard deviations."
        )
    integrand = values.reshape(len(values), *z.shape) * (np.exp(-0.5 * z * z) / _ROOT_TAU)
    inner = integrand[..., :-2]
    hidden = np.abs(inner @ _TO_ENDS.T - integrand[..., -2:]).sum(axis=2) * (_CELL * half)
    return (inner @ _WEIGHTS) * half, (np.abs(inner) @ _WEIGHTS) * half, hidden


def _narrowest(panels: Array) -> Array:
    """Of each row of panels that touch the middle of the narrowest one."""
    found: list[float] = []
    start = 0
    for i in range(1, len(panels) + 1):
        if i == len(panels) or panels[i, 0] > panels[i - 1, 1]:
            row = panels[start:i]
            found.append(float(row[np.argmin(row[:, 1] - row[:, 0])].mean()))
            start = i
    return np.array(found)


# ------------------------------------------------------------------------------------ two variables
_REACH = 9.0
"""Standard deviations to which two variables are followed: 1e-18 is outside."""

_GRID = np.arange(-_REACH, _REACH + 0.1, 0.5)
_STEPS = np.array([-8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8], dtype=float)


def pair_average(f: Values, c: float, mesh: Mesh) -> Average:
    r"""Return :math:`E f(z_1) f(z_2)` for standard normal numbers with correlation c."""
    fine, _ = _pair(f, c, mesh, 14)
    coarse, size = _pair(f, c, mesh, 10)
    return Average(fine, np.abs(fine - coarse) + 8 * _EPS * size)


def _pair(f: Values, c: float, mesh: Mesh, order: int) -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(order)
    s = math.sqrt((1.0 - c) * (1.0 + c))
    ends = np.union1d(mesh.kinks, mesh.steep)
    if s == 0.0:
        z, w = _composite(_apart(np.concatenate([_GRID, ends, -ends]), 1e-13), nodes, weights)
        terms = np.atleast_2d(f(z)) * np.atleast_2d(f(math.copysign(1.0, c) * z))
        terms = terms * (w * np.exp(-0.5 * z * z) / _ROOT_TAU)
        return terms.sum(axis=1), np.abs(terms).sum(axis=1)
    marks = np.concatenate([_GRID, ends])
    if abs(c) > 0.02 and len(ends):
        # what the second variable has at a place, smoothed over s, the first one sees at that place over c
        smoothed = _apart((ends[:, None] + s * _STEPS).ravel(), 0.25 * s) / c
        marks = np.concatenate([marks, smoothed, ends / c])
    z1, w1 = _composite(_apart(marks[np.abs(marks) <= _REACH], 1e-13), nodes, weights)
    # z2 = c z1 + s t with a normal t of its own
    ridge = np.broadcast_to(np.arange(-_REACH, _REACH + 0.1), (len(z1), 19))
    inner = np.clip((ends - c * z1[:, None]) / s, -_REACH, _REACH)
    edges = np.sort(np.concatenate([ridge, inner], axis=1), axis=1)
    half = 0.5 * np.diff(edges, axis=1)[..., None]
    t = 0.5 * (edges[:, 1:] + edges[:, :-1])[..., None] + half * nodes
    z2 = c * z1[:, None, None] + s * t
    along = np.exp(-0.5 * t * t) / _ROOT_TAU
    second = np.atleast_2d(f(z2.ravel())).reshape(-1, *z2.shape)
    mean = (second * (along * half * weights)).sum(axis=(2, 3))
    terms = np.atleast_2d(f(z1)) * mean * (w1 * np.exp(-0.5 * z1 * z1) / _ROOT_TAU)
    return terms.sum(axis=1), np.abs(terms).sum(axis=1)


def _apart(marks: Array, least: float) -> Array:
    """Sorted marks, without those that are nearer to the one in front than ``least``."""
    marks = np.sort(marks)
    kept: Array = marks[np.concatenate([[True], np.diff(marks) > least])]
    return kept


def _composite(marks: Array, nodes: Array, weights: Array) -> tuple[Array, Array]:
    half = 0.5 * np.diff(marks)[:, None]
    z = 0.5 * (marks[1:] + marks[:-1])[:, None] + half * nodes
    return z.ravel(), (half * weights).ravel()
