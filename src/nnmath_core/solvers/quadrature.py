"""Traces of functions of a symmetric operator, and its spectral density, by stochastic Lanczos quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.special import stdtrit

from nnmath_core.checks import (
    require_callable,
    require_positive_int,
    require_real,
    require_rng,
    sentence,
)
from nnmath_core.device import CPU, to_device
from nnmath_core.errors import DomainError, ShapeError
from nnmath_core.solvers.iteration import Progress, require_progress, require_symmetric
from nnmath_core.solvers.krylov import FIELDS, DeviceKrylov, HostKrylov, not_finite
from nnmath_core.solvers.operator import LinearOperator, operator_of
from nnmath_core.typing import Array, Rng

__all__ = ["SpectralDensity", "SpectralQuadrature", "TraceEstimate", "slq"]

AT_ONCE = 10  # steps between two reports of progress
BYTES = 1 << 30  # of the bases of random vectors that a device takes side by side


@dataclass(frozen=True, eq=False)
class TraceEstimate:
    """A trace that was estimated from random vectors, with its error bars.

    Attributes
    ----------
    value : float
        The mean of the samples.
    stderr : float
        Standard error of the mean, from the scatter of the samples; NaN of one sample.
    interval : (float, float)
        The value with Student's bounds at 95 %, for samples that are about normal, widened by ``truncation``. It is
        infinite where one sample, or a quadrature that has not settled, leaves the error unknown.
    truncation : float
        By how much the value changes when a quarter of the Lanczos steps is left out. 0 where the Krylov spaces closed.
    settled : bool
        The last quarter of the steps changed the value by at most a quarter of what the quarter before did: the
        error falls geometrically, and ``truncation`` is an estimate of it from above. Else it is none, and more steps
        are needed.
    samples : array, shape (probes,)
        One estimate of each random vector.
    verdict : str
        All this in a sentence.
    """

    value: float
    stderr: float
    interval: tuple[float, float]
    truncation: float
    settled: bool
    samples: Array
    verdict: str

    def __repr__(self) -> str:
        return f"<trace {self.verdict}>"


@dataclass(frozen=True, eq=False)
class SpectralDensity:
    """The density of eigenvalues, smoothed by a Gaussian, with its error band.

    Attributes
    ----------
    points : array, shape (k,)
        Where.
    value : array, shape (k,)
        The density there: that of an eigenvalue chosen at random, so that the integral is 1.
    stderr : array, shape (k,)
        Its standard error, from the scatter of the random vectors; NaN of one vector.
    sigma : float
        The width of the Gaussian. Features of the spectrum that are narrower are those of the Gaussian.
    """

    points: Array
    value: Array
    stderr: Array
    sigma: float

    def __repr__(self) -> str:
        low, high = float(self.points[0]), float(self.points[-1])
        return f"<spectral density at {len(self.points)} points of [{low:.3g}, {high:.3g}]>"


@dataclass(frozen=True, eq=False)
class SpectralQuadrature:
    """Gauss rules of the spectrum as random vectors see it; what `slq` returns.

    Of each vector z the rule gives ``z'f(A)z / z'z`` as the sum of ``weights * f(nodes)``, exactly for polynomials of
    degree up to ``2 steps - 1``. So one set of products serves any number of functions.

    Attributes
    ----------
    nodes, weights : array, shape (probes, steps)
        Ritz values in ascending order, and weights that sum to 1. Rules with fewer steps, where a Krylov space closed,
        end in nodes of weight 0.
    short : two of (nodes, weights)
        The same of three quarters and of half of the steps, from which `TraceEstimate.truncation` comes.
    n : int
        Rows of the operator.
    products : int
        Products with the operator.
    interrupted : bool
        Ctrl-C ended the sampling; the rules are those of the vectors that were finished.
    verdict : str
        All this in a sentence.
    """

    nodes: Array
    weights: Array
    short: tuple[tuple[Array, Array], tuple[Array, Array]]
    n: int
    products: int
    interrupted: bool
    verdict: str

    def __repr__(self) -> str:
        return f"<quadrature of {len(self.nodes)} random vectors: {self.verdict}>"

    def trace(self, f: Callable[[Array], Array]) -> TraceEstimate:
        r"""Estimate the trace of ``f(A)``, the sum of f over all eigenvalues.

        .. math:: \mathrm{tr} f(A) \approx \frac{n}{N} \sum_{i=1}^N \sum_j w_{ij} f(\theta_{ij})

        Parameters
        ----------
        f : callable
            From an array of numbers to an array of that shape, as ``np.exp``.

        Returns
        -------
        TraceEstimate

        Raises
        ------
        DomainError
            ``f`` is not finite at a node, or there is no finished random vector.
        ShapeError
            ``f`` gives another shape.

        Examples
        --------
        >>> A = np.diag(np.arange(1.0, 101.0))
        >>> round(nm.solvers.slq(A, rng=0).trace(np.sqrt).value, 6)
        671.462947
        """
        require_callable("SpectralQuadrature.trace", "f", f)
        return self._trace(f, "SpectralQuadrature.trace")

    def logdet(self) -> TraceEstimate:
        """Estimate the logarithm of the determinant of a positive definite operator, ``tr(log(A))``.

        Returns
        -------
        TraceEstimate

        Raises
        ------
        DomainError
            A node is not positive, so the operator is not positive definite, up to rounding.
        """
        seen = self.nodes[self.weights > 0]
        lowest = float(seen.min(initial=math.inf))
        if lowest <= 0:
            raise DomainError(
                f"SpectralQuadrature.logdet: `A` must be positive definite; a Ritz value is {lowest:.3e}. Add a "
                "multiple of the identity."
            )
        return self._trace(np.log, "SpectralQuadrature.logdet")

    def _trace(self, f: Callable[[Array], Array], who: str) -> TraceEstimate:
        if not len(self.nodes):
            raise _nothing(who)
        samples = self.n * self._means(f, self.nodes, self.weights, who)
        value, k = float(samples.mean()), len(samples)
        most, half = (self.n * self._means(f, *rule, who) for rule in self.short)
        truncation, before = abs(value - float(most.mean())), abs(float((most - half).mean()))
        rounding = 1e-13 * float(np.abs(samples).max())
        settled = truncation <= rounding or (self._quarters and truncation <= before / 4)
        stderr = float(samples.std(ddof=1) / math.sqrt(k)) if k > 1 else math.nan
        width = math.inf
        if k > 1 and settled:
            width = float(stdtrit(k - 1, 0.975)) * stderr + truncation
        words = f"{value:.6g} +- {stderr:.2g} of {k} random vectors"
        if k == 1:
            words = f"{value:.6g} of one random vector: no error bar"
        if settled:
            words += f", quadrature to {truncation:.1g}"
        else:
            words += f", quadrature not settled: the last quarter of the steps changed it by {truncation:.1g}"
        return TraceEstimate(
            value=value,
            stderr=stderr,
            interval=(value - width, value + width),
            truncation=truncation,
            settled=settled,
            samples=samples,
            verdict=words,
        )

    @property
    def _quarters(self) -> bool:
        """Whether there are enough steps to compare quarters of them."""
        return bool(self.nodes.shape[1] >= 4)

    def _means(self, f: Callable[[Array], Array], nodes: Array, weights: Array, who: str) -> Array:
        values = np.asarray(f(nodes))
        if values.shape != nodes.shape:
            raise ShapeError(
                sentence(who, "f(x)", f"of the shape of x, {nodes.shape}", str(values.shape))
            )
        bad = ~np.isfinite(values) & (weights > 0)
        if bad.any():
            i = tuple(np.argwhere(bad)[0])
            got = f"{values[i]} at the Ritz value {nodes[i]:.6g}"
            raise DomainError(sentence(who, "f(x)", "finite", got))
        return np.sum(np.where(weights > 0, values, 0.0) * weights, axis=1)  # type: ignore[no-any-return]

    def density(self, points: int | Array = 1024, *, sigma: float | None = None) -> SpectralDensity:
        r"""Estimate the density of the eigenvalues, smoothed by a Gaussian.

        .. math:: \rho(t) \approx \frac1N \sum_{ij} w_{ij} \, g_\sigma(t - \theta_{ij})

        Parameters
        ----------
        points : int or array, default 1024
            Where; a number means so many equally spaced ones, which reach five per cent and three ``sigma`` beyond the
            nodes.
        sigma : float, optional
            Width of the Gaussian. By default that of Lin, Saad and Yang, the width of the spectrum over
            ``(steps - 1) sqrt(8 log 3)``: about what so many steps resolve.

        Returns
        -------
        SpectralDensity

        Raises
        ------
        DomainError
            ``sigma`` is not positive, or is needed: all nodes are equal, or there is no finished random vector.
        """
        who = "SpectralQuadrature.density"
        if not len(self.nodes):
            raise _nothing(who)
        seen = self.nodes[self.weights > 0]
        low, high = float(seen.min()), float(seen.max())
        if sigma is None:
            steps = self.nodes.shape[1]
            sigma = (high - low) / (max(steps - 1, 1) * math.sqrt(8 * math.log(3)))
            if not sigma > 0:
                raise DomainError(
                    f"{who}: `sigma` must be given where all Ritz values are equal; they are {low:.6g}."
                )
        else:
            sigma = require_real(who, "sigma", sigma, lambda s: 0 < s < math.inf, "positive")
        if isinstance(points, np.ndarray):
            if points.ndim != 1 or points.dtype.kind != "f" or not len(points):
                wanted = "a number, or floats on one axis"
                raise ShapeError(sentence(who, "points", wanted, str(points.shape)))
            at = points.astype(float)
        else:
            margin = 0.05 * (high - low) + 3 * sigma
            at = np.linspace(
                low - margin, high + margin, require_positive_int(who, "points", points)
            )
        k = len(self.nodes)
        each = np.empty((k, len(at)))
        for row, theta, w in zip(each, self.nodes, self.weights, strict=True):
            bells = np.exp(-(((at[:, None] - theta) / sigma) ** 2) / 2)
            row[...] = bells @ w / (sigma * math.sqrt(2 * math.pi))
        stderr = each.std(axis=0, ddof=1) / math.sqrt(k) if k > 1 else np.full(len(at), np.nan)
        return SpectralDensity(points=at, value=each.mean(axis=0), stderr=stderr, sigma=sigma)


def slq(
    A: Any,
    *,
    probes: int = 10,
    steps: int = 80,
    rng: Rng = None,
    progress: bool | Callable[[int, int], object] = False,
) -> SpectralQuadrature:
    r"""Stochastic Lanczos quadrature: traces of functions of a symmetric operator, and its spectral density.

    .. math:: \frac{z^T f(A) z}{z^T z} \approx e_1^T f(T_m) e_1 = \sum_j w_j f(\theta_j), \qquad
              \mathrm{tr} f(A) = n \, \mathrm{E} \frac{z^T f(A) z}{z^T z}

    Parameters
    ----------
    A : LinearOperator, symmetric array or sparse matrix, SciPy operator, or Plan, shape (n, n)
        float32 or float64. What does not promise to be symmetric is tested with two products.
    probes : int, default 10
        Random vectors, with entries 1 and -1.
    steps : int, default 80
        Lanczos steps of each, hence products; at most n are done.
    rng : None, int or numpy.random.Generator
        Where the vectors come from.
    progress : bool or callable, default False
        True shows a progress bar where tqdm is installed; a callable gets the numbers of steps and of finished vectors.

    Returns
    -------
    SpectralQuadrature
        It has ``trace(f)``, ``logdet()`` and ``density()``, which cost no products. After Ctrl-C it has the vectors
        that were finished, and says so.

    Raises
    ------
    ShapeError
        ``A`` is not square.
    DomainError
        ``A`` is empty or not symmetric, or its products are not finite.
    DtypeError
        ``A`` is no operator of float32 or float64.

    Notes
    -----
    Two errors are told apart. *Sampling*: the scatter of the random vectors, which falls as ``probes ** -0.5``; for
    entries of 1 and -1 the variance of one is twice the sum of the squared off-diagonal entries of f(A), so that a
    diagonal matrix is exact. *Quadrature*: m steps integrate polynomials of degree 2 m - 1 exactly; the error falls
    geometrically for f analytic about the spectrum, and slowly for log or sqrt where the spectrum reaches 0;
    then no few steps tell by how much they are wrong, and the record says that it has not settled. Basis
    vectors are orthogonalised in full, so that no ghost copies carry weights.

    Cost: ``probes * steps`` products, and ``steps + 1`` vectors of memory. The steps are those of `lanczos`, in C
    without the GIL. On a device random vectors are taken side by side, as many as have bases of 1 GiB together: their
    products are blocks, and the numbers of their rules come to the host once, after the last step. So Ctrl-C leaves
    those of the blocks that were finished. In float32 nodes are right to about ``1e-6`` of the norm: eigenvalues closer
    to 0 than that are noise, and so is their logarithm.

    References
    ----------
    Ubaru, Chen and Saad, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature", 2017. Lin, Saad and Yang,
    "Approximating spectral densities of large matrices", 2016.

    Examples
    --------
    >>> found = nm.solvers.slq(np.diag(np.arange(1.0, 101.0)), probes=4, rng=0)
    >>> round(found.logdet().value, 6)  # log(100!)
    363.739376
    """
    op = operator_of("slq", A)
    n = op.shape[0]
    if op.shape[1] != n:
        raise ShapeError(sentence("slq", "A", "square", f"shape {op.shape}"))
    if not n:
        raise DomainError(sentence("slq", "A", "an operator with rows", "an empty one"))
    probes = require_positive_int("slq", "probes", probes)
    steps = min(require_positive_int("slq", "steps", steps), n)
    generator = require_rng("slq", rng)
    require_progress("slq", progress)
    nodes, weights = np.zeros((probes, steps)), np.zeros((probes, steps))
    quarter = max(1, steps // 4)
    fewer = [max(1, steps - quarter), max(1, steps - 2 * quarter)]
    short = [(np.zeros((probes, steps)), np.zeros((probes, steps))) for _ in fewer]
    finished, interrupted, closed = 0, False, 0
    kind: Any = _Rules if op.device == CPU else _DeviceRules
    with Progress(progress, probes, "slq", "vector") as tell:
        work = kind(op, steps, probes, generator, tell)
        try:
            if not op.symmetric:
                require_symmetric("slq", op, work.space.multiply, generator)
            while finished < probes:
                for alpha, beta in work.run(finished):
                    m = len(alpha)
                    closed += m < steps or m == n
                    nodes[finished], weights[finished] = _rule(alpha, beta, steps)
                    for (theta, w), few in zip(short, fewer, strict=True):
                        k = m if m < steps or m == n else few  # a closed space is exact
                        theta[finished], w[finished] = _rule(alpha[:k], beta[: k - 1], steps)
                    finished += 1
                tell(work.steps, finished)
        except KeyboardInterrupt:
            interrupted = True
    words = [f"interrupted after {finished} of {probes}"] if interrupted else []
    words.append(f"{finished} rules of {steps} Lanczos steps")
    if closed:
        words.append(f"{closed} of them exact, since their Krylov spaces closed")
    return SpectralQuadrature(
        nodes=nodes[:finished],
        weights=weights[:finished],
        short=tuple((theta[:finished], w[:finished]) for theta, w in short),  # type: ignore[arg-type]
        n=n,
        products=int(work.space.multiply.count),
        interrupted=interrupted,
        verdict="; ".join(words),
    )


def _nothing(who: str) -> DomainError:
    return DomainError(
        f"{who}: there is no finished random vector, since the sampling was interrupted."
    )


def _rule(alpha: Array, beta: Array, width: int) -> tuple[Array, Array]:
    """The Gauss rule of a tridiagonal matrix, filled up with its last node and weight 0."""
    theta, s = eigh_tridiagonal(alpha, beta)
    w = s[0] ** 2
    nodes, weights = np.full(width, theta[-1]), np.zeros(width)
    nodes[: len(theta)], weights[: len(theta)] = theta, w / w.sum()
    return nodes, weights


class _Rules:
    """Lanczos runs over one basis, one after another."""

    def __init__(
        self, op: LinearOperator, steps: int, probes: int, rng: np.random.Generator, tell: Progress
    ) -> None:
        self.most, self.probes, self.rng, self.tell = steps, probes, rng, tell
        self.n, self.steps = op.shape[0], 0
        self.eps = float(np.finfo(op.dtype).eps)
        self.space: Any = self.made(op)

    def made(self, op: LinearOperator) -> Any:
        """Return the basis."""
        space = HostKrylov("slq", op)
        space.room(self.most + 1, self.most + 1)
        return space

    def start(self) -> Array:
        """Return the next random vector, of length 1."""
        signs: Array = self.rng.integers(0, 2, self.n) * 2.0 - 1.0
        return signs / math.sqrt(self.n)

    def run(self, finished: int) -> list[tuple[Array, Array]]:
        """Return the entries of T from the next random vector."""
        self.space.basis[0] = self.start()
        alpha, beta = np.empty(self.most), np.empty(self.most)
        done, facts, closed = np.zeros(1, np.int64), np.zeros(2), False
        at_once = AT_ONCE if self.tell.wanted else self.most
        while done[0] < self.most and not closed:
            before = int(done[0])
            stop = min(before + at_once, self.most)
            try:
                closed = self.space.run(0, stop, alpha, beta, done, facts, 8 * self.eps)
            finally:
                self.steps += int(done[0]) - before
            self.tell(self.steps, finished)
        self.require_small_leak(float(facts[0]), float(facts[1]))
        m = int(done[0])
        return [(alpha[:m], beta[: m - 1])]

    def require_small_leak(self, size: float, leak: float) -> None:
        """A symmetric A leaves no component on earlier vectors but rounding."""
        if leak > 100 * self.eps**0.5 * size:
            raise DomainError(
                "slq: `A` must be symmetric and give the same product each time; a product had a component of "
                f"{leak / size:.1e} of its length where symmetry allows none. Does the operator draw random "
                "numbers?"
            )


class _DeviceRules(_Rules):
    """Runs side by side on a device."""

    space: DeviceKrylov

    def made(self, op: LinearOperator) -> DeviceKrylov:
        each = (self.most + 1) * self.n * op.dtype.itemsize
        blocks = -(-self.probes // max(1, BYTES // each))
        space = DeviceKrylov("slq", op, -(-self.probes // blocks))
        space.room(self.most + 1, self.most + 1)
        return space

    def run(self, finished: int) -> list[tuple[Array, Array]]:
        """Return the entries of T from the next random vectors, of which the last block may have some too many."""
        space = self.space
        some = min(space.runs, self.probes - finished)
        vectors = np.zeros((space.runs, self.n), space.op.dtype)  # those of no use stay zero
        for row in vectors[:some]:
            row[...] = self.start()
        with space.backend.scope():
            space.begin(0, to_device(vectors, space.op.device))
        breakdown = 8 * self.eps
        for j in range(self.most):
            space.step(0, j, 0.0, breakdown)
            self.steps += some
            if self.tell.wanted and (j + 1) % AT_ONCE == 0:
                self.tell(self.steps, finished)
        found = space.read(0, self.most).reshape(self.most, space.runs, FIELDS)
        return [self.entries(found[:, i]) for i in range(some)]

    def entries(self, record: Array) -> tuple[Array, Array]:
        """Return the entries of T from the record (steps, 4) of a run, up to where it closed."""
        alpha, beta, top, leak = record.T
        ends = np.flatnonzero(~(beta > 8 * self.eps * top))
        m = int(ends[0]) + 1 if len(ends) else self.most
        bad = np.flatnonzero(~np.isfinite(top[:m]))
        if len(bad):
            raise not_finite("slq", int(bad[0]) + 1)
        self.require_small_leak(float(top[m - 1]), float(leak[m - 1]))
        return alpha[:m].copy(), beta[: m - 1].copy()
