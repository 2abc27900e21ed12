"""Distributions of vectors: multivariate normal, Dirichlet, multinomial; arguments and layouts are SciPy's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Tracer, dtype_of, shape_of, value_of
from nnmath_core.autodiff.ops.compare import (
    equal,
    greater,
    greater_equal,
    less_equal,
    logical_and,
    logical_not,
)
from nnmath_core.autodiff.ops.contract import diagonal
from nnmath_core.autodiff.ops.conventions import constant, ndim_of
from nnmath_core.autodiff.ops.elementwise import absolute, exp, floor, log, square
from nnmath_core.autodiff.ops.factorisations import cholesky
from nnmath_core.autodiff.ops.join import concatenate
from nnmath_core.autodiff.ops.linalg import solve_triangular_p
from nnmath_core.autodiff.ops.plain import is_plain
from nnmath_core.autodiff.ops.reduce import all as all_, sum as sum_
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import matrix_transpose, moveaxis, reshape
from nnmath_core.device import entering
from nnmath_core.errors import DomainError, ShapeError
from nnmath_core.special import digamma, gammaln, xlogy
from nnmath_core.stats.distribution import gamma_entropy, operands

__all__ = ["dirichlet", "multinomial", "multivariate_normal"]


def _known(x: Any) -> np.ndarray | None:
    """The numbers of x on the host, batch axes last; None where they do not exist yet or are on a device."""
    v = value_of(x)
    while isinstance(v, Tracer) and value_of(v) is not v:
        v = value_of(v)
    if not isinstance(v, (np.ndarray, np.generic, float, int)):
        return None
    v = np.asarray(v)
    axes = range(v.ndim - ndim_of(x))  # vmap puts the examples first
    return np.moveaxis(v, axes, [a - len(axes) for a in axes])


class _multivariate_normal:
    """Normal distribution of vectors, the last axis of x; by the Cholesky factor of the covariance.

    ``mean`` is a vector or None (zeros), ``cov`` a symmetric positive definite matrix, the vector of a diagonal one, or
    a number times the identity. Only the symmetric part of ``cov`` counts, so that the gradient is symmetric. There is
    no ``cdf``, whose derivatives are integrals of their own.

    Examples
    --------
    >>> round(float(multivariate_normal.logpdf([0.0, 0.0], [1.0, 2.0], [[2.0, 0.5], [0.5, 1.0]])), 9)
    -4.11768496
    """

    name = "multivariate_normal"

    def __repr__(self) -> str:
        return f"nm.stats.{self.name}"

    @entering
    def logpdf(self, x: Any, mean: Any = None, cov: Any = 1, allow_singular: bool = False) -> Any:
        """Return the logarithm of the density; SciPy's ``multivariate_normal.logpdf``.

        Parameters
        ----------
        x : array, shape (..., d)
            A vector alone, of length n, is n numbers when d = 1.
        mean : array, shape (d,), optional
        cov : array, shape (d, d) or (d,) or ()
        allow_singular : bool
            Only False: the density with respect to a subspace has no derivative in ``cov``.

        Returns
        -------
        array, shape (...)

        Raises
        ------
        numpy.linalg.LinAlgError
            ``cov`` is not positive definite.
        DomainError
            ``allow_singular`` is true.
        ShapeError
            The shapes do not belong together.
        """
        if allow_singular:
            raise DomainError(
                "multivariate_normal: `allow_singular` must be False, got True. Write the density of the subspace "
                "with a positive definite covariance in its own coordinates."
            )
        x, factor, mean, d = self._factored(x, mean, cov)
        x = reshape(x, (1,)) if ndim_of(x) == 0 else x
        if ndim_of(x) == 1 and d == 1:
            x = reshape(x, (-1, 1))
        if shape_of(x)[-1] not in (d, 1):
            raise ShapeError(
                f"multivariate_normal: `x` must have shape (..., {d}) as `mean` and `cov` say, got {shape_of(x)}."
            )
        away = x - mean
        lead = shape_of(away)[:-1]
        columns = moveaxis(reshape(away, (-1, d)), -1, 0)
        z = solve_triangular_p(factor, columns, lower=True, unit=False)
        y = -0.5 * (sum_(square(z), axis=0) + d * math.log(2.0 * math.pi))
        y = y - sum_(log(diagonal(factor)))
        lead = lead[1:] if lead == (1,) else lead  # as SciPy: a single point is a number
        return reshape(y, lead)[()]

    @entering
    def pdf(self, x: Any, mean: Any = None, cov: Any = 1, allow_singular: bool = False) -> Any:
        """Return the density; see `logpdf` for arguments and errors."""
        return exp(self.logpdf(x, mean, cov, allow_singular))

    @entering
    def entropy(self, mean: Any = None, cov: Any = 1) -> Any:
        """Return the differential entropy, in nats; see `logpdf` for the arguments.

        Of a singular ``cov`` that is a plain array it is, as SciPy's, that of the subspace in which the vectors lie.
        """
        if is_plain(mean) and is_plain(cov):
            try:
                factored = self._factored(0.0, mean, cov)
            except np.linalg.LinAlgError:
                return _entropy_of_subspace(np.asarray(cov))
        else:
            factored = self._factored(0.0, mean, cov)
        _, factor, _, d = factored
        return sum_(log(diagonal(factor))) + 0.5 * d * (1.0 + math.log(2.0 * math.pi))

    def _factored(self, x: Any, mean: Any, cov: Any) -> tuple[Any, Any, Any, int]:
        x, mean, cov = operands(x, 0.0 if mean is None else mean, 1.0 if cov is None else cov)
        rank = ndim_of(cov)
        if rank > 2 or (rank == 2 and len(set(shape_of(cov))) > 1):
            raise ShapeError(
                f"multivariate_normal: `cov` must have shape (d, d), (d,) or (), got {shape_of(cov)}."
            )
        given = math.prod(shape_of(mean)) if ndim_of(mean) else 0
        d = given or (shape_of(cov)[0] if rank == 2 else 1)
        if (ndim_of(mean) and ndim_of(mean) > 1 and d != 1) or (rank and shape_of(cov)[0] != d):
            raise ShapeError(
                f"multivariate_normal: `mean` must be a vector of the length of `cov`, got the shapes "
                f"{shape_of(mean)} and {shape_of(cov)}."
            )
        if ndim_of(mean) > 1:
            mean = reshape(mean, (1,))
        if rank < 2:
            eye = constant(cov, (d, d), 0.0, dtype_of(cov)) + np.eye(d, dtype=dtype_of(cov))
            cov = eye * (reshape(cov, (d, 1)) if rank == 1 else cov)
        else:
            cov = 0.5 * (cov + matrix_transpose(cov))  # the factorisation reads one triangle
        return x, cholesky(cov), mean, d


def _entropy_of_subspace(cov: np.ndarray) -> Any:
    """Of a positive semidefinite matrix; SciPy's bound of what counts as 0."""
    x = cov.astype(np.float64)
    s = np.linalg.eigvalsh(np.diag(x) if x.ndim == 1 else np.atleast_2d(x))
    least = 1e6 * np.finfo(x.dtype).eps * np.max(np.abs(s))
    if np.min(s) < -least:
        raise np.linalg.LinAlgError(
            "multivariate_normal: `cov` must be positive semidefinite, got the eigenvalue "
            f"{np.min(s):.6g}."
        )
    s = s[s > least]
    y = 0.5 * (len(s) * (1.0 + math.log(2.0 * math.pi)) + np.sum(np.log(s)))
    return y.astype(cov.dtype) if cov.dtype.kind == "f" else y


class _dirichlet:
    """Dirichlet's distribution on the simplex, density ``prod x_i**(alpha_i - 1) / B(alpha)``.

    The entries of a point are the *first* axis of x, as in SciPy: shape (k,) or (k, n) for n points; k - 1 entries
    stand for k that sum to 1. The gradient in x treats its entries as independent numbers.

    Examples
    --------
    >>> float(dirichlet.logpdf([0.2, 0.2, 0.6], [1.0, 1.0, 1.0]))
    0.6931471805599453
    """

    name = "dirichlet"

    def __repr__(self) -> str:
        return f"nm.stats.{self.name}"

    @entering
    def logpdf(self, x: Any, alpha: Any) -> Any:
        """Return the logarithm of the density; SciPy's ``dirichlet.logpdf``.

        Parameters
        ----------
        x : array, shape (k,) or (k, n), or one entry fewer
            Points of the simplex.
        alpha : array, shape (k,)
            Positive numbers.

        Returns
        -------
        array, shape () or (n,)

        Raises
        ------
        DomainError
            A known x lies off the simplex (by more than 1e-9 in float64), or on its border where alpha < 1 (one alpha
            for all examples of a batch); a known alpha is not positive. While staging and on a device nothing is
            known: the value is NaN or inf then.
        ShapeError
            The shapes do not belong together.
        """
        x, alpha = operands(x, alpha)
        k = _number_of_classes(alpha)
        if ndim_of(x) not in (1, 2):
            raise ShapeError(f"dirichlet: `x` must have shape (k,) or (k, n), got {shape_of(x)}.")
        if shape_of(x)[0] == k - 1:
            x = concatenate([x, 1.0 - sum_(x, axis=0, keepdims=True)])
        if shape_of(x)[0] != k:
            raise ShapeError(
                f"dirichlet: `x` must have {k} or {k - 1} entries along its first axis, as `alpha` has {k}, got "
                f"{shape_of(x)[0]}."
            )
        known, point = _known(alpha), _known(x)
        _check_positive(known)
        _check_simplex(point)
        _check_border(point, known if known is None or known.ndim == 1 else None)
        a = alpha if ndim_of(x) == 1 else reshape(alpha, (k, 1))
        y = sum_(xlogy(a - 1.0, x), axis=0) - _log_beta(alpha)
        if point is None:
            off = absolute(sum_(x, axis=0) - 1.0)
            inside = all_(logical_and(greater_equal(x, 0), less_equal(x, 1)), axis=0)
            y = where(logical_and(inside, less_equal(off, _rounding(dtype_of(x)))), y, math.nan)
        return y if known is not None else where(all_(greater(alpha, 0)), y, math.nan)

    @entering
    def pdf(self, x: Any, alpha: Any) -> Any:
        """Return the density; see `logpdf` for arguments and errors."""
        return exp(self.logpdf(x, alpha))

    @entering
    def entropy(self, alpha: Any) -> Any:
        """Return the differential entropy, in nats, of positive ``alpha`` of shape (k,)."""
        alpha = _parameters(alpha)
        total = sum_(alpha)
        rest = (1.0 - float(shape_of(alpha)[0])) * digamma(total)
        return sum_(gamma_entropy(alpha)) - gamma_entropy(total) + rest

    @entering
    def mean(self, alpha: Any) -> Any:
        """Return the mean, ``alpha / sum(alpha)``."""
        alpha = _parameters(alpha)
        return alpha / sum_(alpha)


def _log_beta(alpha: Any) -> Any:
    return sum_(gammaln(alpha)) - gammaln(sum_(alpha))


def _number_of_classes(alpha: Any) -> int:
    s = shape_of(alpha)
    if len(s) != 1 or s == (0,):
        raise ShapeError(f"dirichlet: `alpha` must have shape (k,) with k >= 1, got {s}.")
    return s[0]


def _parameters(alpha: Any) -> Any:
    (alpha,) = operands(alpha)
    _number_of_classes(alpha)
    known = _known(alpha)
    _check_positive(known)
    return alpha if known is not None else where(greater(alpha, 0), alpha, math.nan)


def _check_positive(alpha: np.ndarray | None) -> None:
    if alpha is not None and alpha.size and alpha.min() <= 0:
        raise DomainError(
            f"dirichlet: `alpha` must be positive, got {alpha.min():.6g} at index {int(alpha.argmin())}."
        )


def _rounding(dtype: Any) -> float:
    """How far from 1 a sum of entries may be; SciPy's bound in float64."""
    return max(10e-10, 8 * float(np.finfo(dtype).eps))


def _check_simplex(x: np.ndarray | None) -> None:
    if x is None or not x.size:
        return
    if x.min() < 0 or x.max() > 1:
        bad = x.min() if x.min() < 0 else x.max()
        raise DomainError(f"dirichlet: the entries of `x` must lie in [0, 1], got {bad:.6g}.")
    off = np.abs(x.sum(0) - 1.0)
    if np.max(off) > _rounding(x.dtype):
        raise DomainError(
            f"dirichlet: the entries of `x` must sum to 1, got {float(x.sum(0).flat[off.argmax()]):.10g}. "
            "Normalise it: x / x.sum(0)."
        )


def _check_border(x: np.ndarray | None, alpha: np.ndarray | None) -> None:
    if x is None or alpha is None:
        return
    if np.any((x == 0) & (alpha.reshape(-1, *[1] * (x.ndim - 1)) < 1)):
        raise DomainError(
            "dirichlet: an entry of `x` must be positive where its `alpha` is below 1, got 0."
        )


class _multinomial:
    """Counts of n independent draws among the classes of the last axis, with probabilities p.

    ``p`` must sum to 1 along its last axis, and nothing adjusts it; its gradient treats the entries as independent.

    Examples
    --------
    >>> round(float(multinomial.pmf([1, 1], 2, [0.5, 0.5])), 12)
    0.5
    """

    name = "multinomial"

    def __repr__(self) -> str:
        return f"nm.stats.{self.name}"

    @entering
    def logpmf(self, x: Any, n: Any, p: Any) -> Any:
        """Return the logarithm of the probability; SciPy's ``multinomial.logpmf``.

        Parameters
        ----------
        x : array, shape (..., k)
            Counts; -inf where they are not counts that sum to n.
        n : array of integers, shape (...)
        p : array, shape (..., k)
            Probabilities; NaN where one is outside of [0, 1].

        Returns
        -------
        array, shape (...)

        Raises
        ------
        ShapeError
            The last axes of x and p have different lengths, or none.
        """
        x, n, p = operands(x, n, p)
        sx, sp = shape_of(x), shape_of(p)
        if not sx or not sp or sx[-1] != sp[-1] or not sp[-1]:
            raise ShapeError(
                f"multinomial: `x` and `p` must have shapes (..., k) of one k >= 1, got {sx} and {sp}."
            )
        counts = logical_and(greater_equal(x, 0), equal(x, floor(x)))
        good = logical_and(all_(counts, axis=-1), equal(sum_(x, axis=-1), n))
        k = where(counts, x, 0.0)
        y = gammaln(n + 1.0) + sum_(xlogy(k, p) - gammaln(k + 1.0), axis=-1)
        share = all_(logical_and(greater_equal(p, 0), less_equal(p, 1)), axis=-1)
        bad = logical_not(logical_and(share, greater_equal(n, 0)))
        return (where(good, y, -math.inf) * where(bad, math.nan, 1.0))[()]

    @entering
    def pmf(self, x: Any, n: Any, p: Any) -> Any:
        """Return the probability; see `logpmf`."""
        return exp(self.logpmf(x, n, p))


multivariate_normal, dirichlet, multinomial = (
    _multivariate_normal(),
    _dirichlet(),
    _multinomial(),
)
