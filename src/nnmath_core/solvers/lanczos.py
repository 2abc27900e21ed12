"""Extreme eigenpairs of a symmetric operator by Lanczos runs with full reorthogonalisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import eigh_tridiagonal

from nnmath_core.checks import (
    require_in,
    require_positive_int,
    require_real,
    require_rng,
    sentence,
)
from nnmath_core.errors import ConvergenceError, DomainError, DtypeError, ShapeError
from nnmath_core.solvers.eigenpairs import Eigenpairs, kato_temple
from nnmath_core.solvers.iteration import Progress, require_progress, require_symmetric
from nnmath_core.solvers.krylov import krylov_of
from nnmath_core.solvers.operator import LinearOperator, operator_of
from nnmath_core.typing import Array, Rng

__all__ = ["lanczos"]

ENDS = ("LA", "SA", "LM", "BE")
RISK = 1e-3  # that the interval of the eigenvalues not listed is wrong
RESOLUTION = 1e-3  # of a confirming run, relative to the width of the spectrum that it sees
LEAST = 40  # its steps at least: fewer say next to nothing of what is not found


def lanczos(
    A: Any,
    *,
    k: int | tuple[int, int] = 10,
    which: str = "LA",
    max_steps: int | None = None,
    tol: float | None = None,
    rng: Rng = None,
    confirm: bool = True,
    progress: bool | Callable[[int, int], object] = False,
) -> Eigenpairs:
    r"""Extreme eigenvalues and eigenvectors of a symmetric operator, by its products alone.

    .. math:: A V_m = V_m T_m + \beta_m v_{m+1} e_m^T, \qquad
              T_m s = \theta s, \qquad |A V_m s - \theta V_m s| = \beta_m |s_m|

    Parameters
    ----------
    A : LinearOperator, symmetric array or sparse matrix, SciPy operator, or Plan, shape (n, n)
        float32 or float64. What does not promise to be symmetric is tested with two products.
    k : int or (int, int), default 10
        How many pairs. With ``which="BE"`` a pair of counts is (from the high end, from the low
        end); one count is split evenly, an odd one in favour of the high end.
    which : {"LA", "SA", "LM", "BE"}, default "LA"
        Largest algebraic, smallest algebraic, largest in magnitude, both ends; SciPy's names.
    max_steps : int, optional
        Steps of one run, hence vectors kept; ``min(n, max(20 * count, 1000))`` by default.
    tol : float, optional
        Residual at which a pair counts as converged, relative to the operator's norm. By default
        ``eps ** (2 / 3)``: 3.7e-11 in float64, 2.4e-5 in float32. An eigenvalue apart from the
        others is then right to rounding (its error is that of the residual squared), one in a
        cluster to the residual.
    rng : None, int or numpy.random.Generator
        Where the starting vectors come from.
    confirm : bool, default True
        Whether to look for what one starting vector cannot see, see the notes.
    progress : bool or callable, default False
        True shows a progress bar where tqdm is installed; a callable gets the number of steps and
        of converged pairs.

    Returns
    -------
    Eigenpairs
        In ascending order, with residuals, bounds and a verdict. After Ctrl-C it is what was found
        until then, ``interrupted`` and its verdict say so, and nothing is raised.

    Raises
    ------
    ConvergenceError
        A pair has not converged within ``max_steps``; ``.partial`` is the record as it stands.
    ShapeError
        ``A`` is not square, or has fewer than ``k`` rows.
    DomainError
        ``A`` is not symmetric, its products are not finite or differ from one call to the next, or
        an option is out of its range.
    DtypeError
        ``A`` is no operator of float32 or float64.

    Notes
    -----
    *What a residual proves.* For symmetric A some eigenvalue lies within ``residual`` of each
    value. It does not prove that the values are the extreme ones, nor that none is missing: one
    starting vector gives one vector of each eigenspace, so that copies of a multiple eigenvalue
    stay invisible, and an eigenvector almost orthogonal to the start is found late.

    *What a second run proves.* With ``confirm``, another run starts from a fresh random vector
    orthogonal to the pairs found, for at least 40 steps and until its outermost Ritz values are
    known to a thousandth of the width of the spectrum that it sees; what it finds beyond the pairs
    replaces them and is confirmed in turn. Copies equal to the last value kept to within
    ``tol * norm`` make no difference and are not looked for. After m steps in n dimensions the
    outermost Ritz value falls short of the outermost eigenvalue by more than a fraction x of the
    width of the spectrum with a probability of at most ``1.648 sqrt(n) exp(-sqrt(x) (2 m - 1))``,
    whatever the operator (Kuczynski and Wozniakowski); `Eigenpairs.others` is the interval that
    follows. Where the Krylov space closes (a breakdown), the search goes on from a random vector
    orthogonal to it.

    *Precision.* Basis and products are in the operator's dtype; lengths, the entries of T and its
    eigenvalues are in double. Each new vector is made orthogonal to all before it, twice where it
    lost more than 0.3 of its length.

    *Cost.* m steps cost m products, ``2 n m**2`` flops of orthogonalisation in one pass, and
    ``n * m`` numbers of memory; confirming adds a third to a half. Nothing is restarted: where a
    restarted method (`scipy.sparse.linalg.eigsh`) has few vectors and many products, this one has
    few products, which are what costs on a network. The steps run in C without the GIL, on
    `nm.threads` threads; products too, where the operator is a matrix, a Plan or a `HessianOperator`
    on the host. On a device basis and vectors stay there: a step is its product and five kernels, with Gram-Schmidt
    always twice, and waits for nothing; T is copied to the host where its eigenvalues are looked at, after every five
    steps or a twelfth of those done, whichever is more. So many steps at most are done past a breakdown.

    References
    ----------
    Parlett, "The Symmetric Eigenvalue Problem", 1998, chapters 11 and 13. Kuczynski and Wozniakowski,
    "Estimating the largest eigenvalue by the power and Lanczos algorithms with a random start",
    1992, theorem 4.2.

    Examples
    --------
    >>> found = nm.solvers.lanczos(np.diag(np.arange(1.0, 101.0)), k=(2, 1), which="BE", rng=0)
    >>> np.round(found.value, 10)
    array([  1.,  99., 100.])
    >>> bool(found.converged.all()), found.complete
    (True, True)
    """
    op = operator_of("lanczos", A)
    n = op.shape[0]
    if op.shape[1] != n:
        raise ShapeError(sentence("lanczos", "A", "square", f"shape {op.shape}"))
    require_in("lanczos", "which", which, ENDS)
    high, low = _counts(k, which)
    count = max(high, low) if which == "LM" else high + low
    if count > n:
        advice = f"The operator has {n} eigenvalues." if n else "The operator is empty."
        raise ShapeError(sentence("lanczos", "k", f"at most {n}", str(count), advice))
    eps = float(np.finfo(op.dtype).eps)
    if tol is None:
        tol = eps ** (2 / 3)
    advice = f"{32 * eps:.1e} is 32 eps of {op.dtype}; products carry errors of a few eps."
    tol = require_real("lanczos", "tol", tol, lambda t: 32 * eps <= t < 1, "in [32 eps, 1)", advice)
    if max_steps is None:
        max_steps = min(n, max(20 * count, 1000))
    else:
        max_steps = min(n, require_positive_int("lanczos", "max_steps", max_steps))
    require_progress("lanczos", progress)
    search = _Search(op, which, high, low, max_steps, tol, require_rng("lanczos", rng))
    with Progress(progress, count, "lanczos", "pair") as search.tell:
        try:
            if not op.symmetric:
                require_symmetric("lanczos", op, search.multiply, search.rng)
            finished = search.all_runs(confirm=confirm)
            result = search.result()
        except KeyboardInterrupt:
            return search.result(interrupted=True)
    if not finished or not result.converged.all():
        if finished:
            why = "no more is to be had: the products carry errors of this size"
            advice = f"Raise `tol` above {tol:.1e}."
        else:
            why = f"tolerance {tol * result.norm:.1e}"
            advice = f"Raise `max_steps` above {max_steps}, or `tol` above {tol:.1e}."
        raise ConvergenceError(
            f"lanczos: {int(result.converged.sum())} of {count} pairs converged in {search.steps} "
            f"steps (largest residual {result.residual.max(initial=0):.1e}, {why}). {advice}",
            partial=result,
        )
    return result


def _counts(k: Any, which: str) -> tuple[int, int]:
    """Return how many are wanted from the high and the low end."""
    if isinstance(k, tuple | list):
        if which != "BE" or len(k) != 2:
            wanted = 'an integer, or with which="BE" a pair (from the high end, from the low end)'
            raise DtypeError(sentence("lanczos", "k", wanted, f"{k!r} with which={which!r}"))
        high = require_positive_int("lanczos", "k[0]", k[0], 'For one end use "LA" or "SA".')
        return high, require_positive_int("lanczos", "k[1]", k[1], 'For one end use "LA" or "SA".')
    k = require_positive_int("lanczos", "k", k)
    return {"LA": (k, 0), "SA": (0, k), "LM": (k, k), "BE": (k - k // 2, k // 2)}[which]


class _Search:
    """Runs of the iteration over one growing basis: finished vectors first, then the present run.

    ``basis[:locked]`` are Ritz vectors of earlier runs, with ``values`` and ``residuals``;
    ``basis[locked : locked + done]`` are the Lanczos vectors of the present run.
    """

    def __init__(
        self,
        op: LinearOperator,
        which: str,
        high: int,
        low: int,
        max_steps: int,
        tol: float,
        rng: np.random.Generator,
    ) -> None:
        self.op, self.which, self.high, self.low = op, which, high, low
        self.count = max(high, low) if which == "LM" else high + low
        self.n, self.max_steps, self.tol, self.rng = op.shape[0], max_steps, tol, rng
        self.eps = float(np.finfo(op.dtype).eps)
        self.space = krylov_of("lanczos", op)
        self.multiply: Any = self.space.multiply
        self.steps = self.runs = self.locked = 0
        self.looks = 0  # at Ritz values of confirming runs: chances to stop too early
        self.values = self.residuals = np.zeros(0)
        self.complete = False
        self.others = (-math.inf, math.inf)
        self.alpha, self.beta = np.empty(max_steps), np.empty(max_steps)
        self.done = np.zeros(1, np.int64)
        self.facts = np.zeros(2)  # the largest |A v|, and coefficients that symmetry makes zero
        self.first_leak = 0.0  # the latter after the first run
        self.norm = 0.0
        self.forget_ritz()
        self.tell: Any = None

    def forget_ritz(self) -> None:
        """Have no Ritz values (m,), vectors of T (steps, m) and error estimates (m,) for now."""
        self.ritz: tuple[Array, Array, Array] = (np.zeros(0), np.zeros((0, 0)), np.zeros(0))

    # ----------------------------------------------------------------------------- runs

    def all_runs(self, *, confirm: bool) -> bool:
        """Search until the wanted pairs are found (and confirmed); False where steps ran out."""
        while self.locked < self.n:
            confirming = self.locked >= self.count
            if confirming and not confirm:
                return True
            if not self.start():
                break
            outcome = self.one_run(confirming)
            if confirming and not self.overtaken():
                self.complete = outcome != "short"
                if self.complete:
                    self.others = self.interval()
                return True
            if outcome == "short":
                return False
            if outcome == "closed":  # an invariant subspace: lock it and look at the rest
                self.lock(np.arange(self.done[0]))
            else:
                fresh = self.wanted()
                self.lock(fresh[fresh >= self.locked] - self.locked)
        self.complete = True  # the whole space
        self.others = self.interval()
        return True

    def start(self) -> bool:
        """Put a random unit vector, orthogonal to what is locked, into the row of the run."""
        self.room(self.locked + 1)
        self.runs += 1
        self.done[0] = 0
        self.forget_ritz()
        for _ in range(3):
            if self.space.start(self.locked, self.rng.standard_normal(self.n)):
                return True
        return False

    def one_run(self, confirming: bool) -> str:
        """Step until "settled", "closed" (breakdown) or "short" of steps."""
        limit = min(self.max_steps, self.n - self.locked)
        stop = 0
        breakdown = 8 * self.eps
        goal = 0.5 * self.tol  # residuals on earlier pairs are not in the estimates
        while True:
            stop = min(limit, max(stop + 5, stop + stop // 12, 0 if stop else self.count + 2))
            self.room(self.locked + stop + 1)
            before = int(self.done[0])
            try:
                closed = self.space.run(
                    self.locked, stop, self.alpha, self.beta, self.done, self.facts, breakdown
                )
            finally:
                self.steps += int(self.done[0]) - before
            m = int(self.done[0])
            closed = closed or m == self.n - self.locked
            self.looks += confirming
            self.find_ritz(m, closed)
            self.require_small_leak()
            found = self.wanted()
            good = self.candidate_residuals()[found] <= goal * self.norm
            self.tell(self.steps, int(good.sum()))
            if closed:
                return "closed"
            if (
                len(found) == self.count
                and good.all()
                and (not confirming or self.outermost_settled())
            ):
                return "settled"
            if m >= limit:
                return "short"

    def find_ritz(self, m: int, closed: bool) -> None:
        """Eigenvalues and vectors of T: all where the space closed, else a few more than wanted."""
        d, e = self.alpha[:m], self.beta[: m - 1]
        side = self.count + 1
        if closed or m <= 2 * side + 8:
            theta, s = eigh_tridiagonal(d, e)
        else:
            parts = []
            if self.high:
                span = (m - side, m - 1)
                parts.append(
                    eigh_tridiagonal(d, e, select="i", select_range=span, lapack_driver="stemr")
                )
            if self.low:
                span = (0, side - 1)
                parts.append(
                    eigh_tridiagonal(d, e, select="i", select_range=span, lapack_driver="stemr")
                )
            theta = np.concatenate([p[0] for p in parts])
            s = np.concatenate([p[1] for p in parts], axis=1)
        error = np.zeros(len(theta)) if closed else self.beta[m - 1] * np.abs(s[-1])
        self.ritz = (theta, s, error)
        self.norm = max(self.norm, float(self.facts[0]), float(np.abs(theta).max(initial=0)))

    def require_small_leak(self) -> None:
        """A symmetric A leaves no component on earlier vectors but rounding and locked residuals."""
        allowed = 100 * max(self.tol, self.eps**0.5) * max(self.norm, self.facts[0])
        if self.facts[1] > allowed:
            raise DomainError(
                "lanczos: `A` must be symmetric and give the same product each time; a product had "
                f"a component of {self.facts[1] / self.facts[0]:.1e} of its length where symmetry "
                "allows none. Does the operator draw random numbers?"
            )

    # ----------------------------------------------------------------------- selection

    def candidate_values(self) -> Array:
        return np.concatenate([self.values, self.ritz[0]])

    def candidate_residuals(self) -> Array:
        return np.concatenate([self.residuals, self.ritz[2]])

    def wanted(self) -> Array:
        """Indices of the wanted among the locked and the Ritz values, the locked before their equals."""
        theta = self.candidate_values()
        full = self.locked >= self.count
        behind = np.zeros(len(theta))
        behind[self.locked :] = self.tol * self.norm if full else 0.0
        if self.which == "LM":
            return np.argsort(behind - np.abs(theta), kind="stable")[: self.count]
        high = np.argsort(behind - theta, kind="stable")[: self.high]
        rest = np.setdiff1d(np.arange(len(theta)), high)
        low = rest[np.argsort((theta + behind)[rest], kind="stable")[: self.low]]
        return np.concatenate([high, low])

    def ends(self) -> tuple[float, float]:
        """Return the lowest and the highest Ritz value of the present run."""
        d, e = self.alpha[: self.done[0]], self.beta[: self.done[0] - 1]
        low, high = (
            eigh_tridiagonal(d, e, eigvals_only=True, select="i", select_range=(i, i))[0]
            for i in (0, len(d) - 1)
        )
        return float(low), float(high)

    def outermost_settled(self) -> bool:
        """Whether the first Ritz value at each wanted end is known well enough to compare it."""
        theta, _, error = self.ritz
        ends = [int(np.argmax(theta))] if self.high else []
        ends += [int(np.argmin(theta))] if self.low else []
        if self.done[0] < min(LEAST, self.max_steps):
            return False
        low, high = self.ends()
        enough = max(RESOLUTION * (high - low), self.tol * self.norm)
        return bool((error[ends] <= enough).all())

    def interval(self) -> tuple[float, float]:
        """Where the eigenvalues lie that are not among the wanted: see `Eigenpairs.others`.

        They are locked ones, or of the present run. Of that the spectrum goes beyond each outermost
        Ritz value by little: see `beyond`.
        """
        rest = np.setdiff1d(np.arange(self.locked), self.wanted())
        inside = list(self.values[rest])
        if self.done[0]:
            low, high = self.ends()
            more = self.beyond(high - low)
            inside += [low - more, high + more]
        if not inside:
            return math.nan, math.nan
        # The locked pairs decouple from the rest but for their residuals, and products round.
        margin = 2 * float(np.linalg.norm(self.residuals)) + self.rounding(self.norm)
        return float(min(inside)) - margin, float(max(inside)) + margin

    def beyond(self, width: float) -> float:
        """How far an eigenvalue can lie outside Ritz values of this width, but for the risk.

        Two bounds, each for one end and for m steps in n dimensions. Kuczynski and Wozniakowski:
        x = (log(1.648 sqrt(n) / risk) / (2 m - 1))**2 of the width of the spectrum, which is at most
        width / (1 - 2 x). And where the run (nearly) closed: an eigenvector u has |u'v1| > risk /
        sqrt(n), and A V = V T + beta v e' gives |a - theta| |u'v1| <= beta for its eigenvalue a and
        the nearest theta. The search stops at a look of its choice: look j gets the share
        1 / (j (j + 1)) of the risk, half of it for each end.
        """
        n, m = self.n - self.locked, int(self.done[0])
        if m >= n:
            return 0.0
        risk = RISK / (2 * self.looks * (self.looks + 1))
        x = (math.log(1.648 * math.sqrt(n) / risk) / (2 * m - 1)) ** 2
        slow = x * width / (1 - 2 * x) if x < 0.5 else math.inf
        closed = (float(self.beta[m - 1]) + self.rounding(self.norm)) * math.sqrt(n) / risk
        return min(slow, closed)

    def overtaken(self) -> bool:
        """Whether the present run has found a value that belongs among the wanted."""
        return bool((self.wanted() >= self.locked).any())

    # -------------------------------------------------------------------------- basis

    def room(self, rows: int) -> None:
        """Make the basis at least ``rows`` high, and no higher than what can ever be needed."""
        self.space.room(rows, min(self.n + 1, self.locked + self.max_steps + 1))

    def lock(self, chosen: Array) -> None:
        """Turn Ritz vectors of the run into rows of the finished part."""
        theta, s, error = self.ritz
        p = len(chosen)
        if not self.locked:
            self.first_leak = float(self.facts[1])
        turn = np.ascontiguousarray(s[:, chosen].T).astype(self.op.dtype)  # (p, m)
        first = self.locked
        self.done[0] = 0  # an interrupt must not find half of a run
        self.forget_ritz()
        self.space.turn(first, turn)
        self.values = np.concatenate([self.values, theta[chosen]])
        self.residuals = np.concatenate([self.residuals, error[chosen]])
        self.locked += p

    # -------------------------------------------------------------------------- result

    def result(self, *, interrupted: bool = False) -> Eigenpairs:
        """Return the wanted pairs as they stand, with residuals by products unless ``interrupted``."""
        if interrupted and self.done[0]:  # interrupted between two looks at the Ritz values
            self.find_ritz(int(self.done[0]), closed=False)
        found = self.wanted()
        theta, error = self.candidate_values(), self.candidate_residuals()
        found = found[np.argsort(theta[found], kind="stable")]
        old = found < self.locked
        s = self.ritz[1][:, found[~old] - self.locked].T.astype(self.op.dtype)
        rows = self.space.combined(s, self.locked, old, found[old])
        value, residual = theta[found], error[found]
        if not interrupted and len(found):
            value, residual, rows = self.space.measured(rows)
        norm = max(self.norm, float(np.abs(value).max(initial=0)))
        converged = residual <= self.tol * norm
        kato = kato_temple(value, residual, np.delete(theta, found), np.delete(error, found))
        return Eigenpairs(
            value=value.astype(self.op.dtype),
            vectors=self.space.columns(rows),
            residual=residual,
            bound=residual + self.rounding(norm),
            kato_temple=kato,
            converged=converged,
            complete=self.complete,
            others=self.others,
            iterations=self.steps,
            runs=self.runs,
            products=self.multiply.count,
            norm=norm,
            tol=self.tol,
            verdict=self.verdict(converged, residual, norm, interrupted),
            interrupted=interrupted,
        )

    def rounding(self, norm: float) -> float:
        """Return the allowance for rounding in a product: a few eps of the norm, or what was seen.

        The products show their errors where symmetry makes a component zero; an error spreads over
        n components, of which the largest seen is at least a typical one. That is so in the first
        run: the later ones also meet the residuals of what was found.
        """
        leak = self.first_leak if self.locked else float(self.facts[1])
        return max(8 * self.eps * norm, math.sqrt(self.n) * leak)

    def verdict(self, converged: Array, residual: Array, norm: float, interrupted: bool) -> str:
        parts = [f"interrupted after {self.steps} steps"] if interrupted else []
        parts += [
            f"{int(converged.sum())} of {self.count} converged in {self.steps} steps"
            f" (largest residual {residual.max(initial=0) / norm if norm else 0.0:.1e} of the norm)"
        ]
        low, high = self.others
        if self.complete and self.locked >= self.n:
            parts.append("the whole space was searched")
        elif self.complete:
            parts.append(
                "a run from another random vector found none beyond them; all other eigenvalues "
                f"are between {low:.3g} and {high:.3g} (probability 0.999)"
            )
        else:
            parts.append("copies of multiple eigenvalues may be missing")
        return "; ".join(parts)
