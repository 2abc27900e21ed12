"""Eigenvalues with their vectors, and what proves them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnmath_core.typing import Array

__all__ = ["Eigenpairs"]


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Eigenvalues and vectors of a symmetric operator, with what proves them.

    Attributes
    ----------
    value : array, shape (k,)
        Eigenvalues in ascending order, in the operator's dtype.
    vectors : array, shape (n, k)
        Orthonormal columns, on the operator's device, in its dtype.
    residual : array, shape (k,)
        ``|A v - value v|``, from products. Some eigenvalue lies within it of the value.
    bound : array, shape (k,)
        ``residual`` plus an allowance for rounding in a product: ``8 eps norm``, or ``sqrt(n)`` times
        the largest component met where symmetry makes it zero, whichever is larger.
    kato_temple : array, shape (k,)
        ``residual**2 / gap``, a sharper bound that holds where no eigenvalue was missed; NaN where
        the neighbours are too close or too inaccurate to know a gap.
    converged : array of bool, shape (k,)
        ``residual <= tol * norm``.
    complete : bool
        A run from another random vector, orthogonal to the pairs found, found no further one, or
        the whole space was searched. False: copies of a multiple eigenvalue may be missing.
    others : (float, float)
        An interval that holds all eigenvalues not listed, with a probability of at least 0.999 over
        the random starts; ``(-inf, inf)`` where it is not known (``complete`` is False), NaN where
        none are left. It settles which of the values are extreme: those outside it.
    iterations : int
        Lanczos steps, over all runs.
    runs : int
        Runs, each from a random vector of its own.
    products : int
        Products with the operator, those for residuals and for the test of symmetry included.
    norm : float
        The largest size met of a Ritz value or of a product with a unit vector: an estimate of the
        operator's norm from below.
    tol : float
        The tolerance, relative to ``norm``.
    verdict : str
        All this in a sentence.
    interrupted : bool
        Ctrl-C ended the iteration: the pairs are those found until then, ``residual`` is estimated
        from the recurrence, and nothing is known of other eigenvalues.
    """

    value: Array
    vectors: Array
    residual: Array
    bound: Array
    kato_temple: Array
    converged: Array
    complete: bool
    others: tuple[float, float]
    iterations: int
    runs: int
    products: int
    norm: float
    tol: float
    verdict: str
    interrupted: bool

    def __repr__(self) -> str:
        return f"<{len(self.value)} eigenpairs: {self.verdict}>"


def kato_temple(value: Array, residual: Array, others: Array, errors: Array) -> Array:
    """residual^2 / gap, the gap to the nearest other value less its residual; NaN without a gap."""
    out = np.full(len(value), np.nan)
    for i in range(len(value)):
        far = np.concatenate([np.abs(np.delete(value, i) - value[i]), np.abs(others - value[i])])
        near = np.concatenate([np.delete(residual, i), errors])
        gap = float((far - near).min(initial=np.inf))
        if gap > residual[i]:
            out[i] = residual[i] ** 2 / gap
    return out
