"""The dominant eigenpair of a symmetric operator, and the norm of any, by powers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core._ext import _iterations
from nnmath_core.checks import (
    require_float,
    require_positive_int,
    require_real,
    require_rng,
    sentence,
)
from nnmath_core.device import CPU, backend_for, device_of, to_device
from nnmath_core.errors import ConvergenceError, DeviceError, DomainError, DtypeError, ShapeError
from nnmath_core.solvers.device_powers import DeviceNormalPowers, DevicePowers
from nnmath_core.solvers.device_product import DeviceProduct
from nnmath_core.solvers.iteration import (
    Progress,
    lengths,
    product_of,
    require_progress,
    require_symmetric,
)
from nnmath_core.solvers.operator import LinearOperator, MatrixOperator, operator_of
from nnmath_core.typing import Array, Rng

__all__ = ["Dominant", "SingularTriplet", "power_iteration", "spectral_norm"]

RISK = 1e-3  # that the upper bound is wrong
AT_ONCE = 20  # steps between two reports of progress


@dataclass(frozen=True, eq=False)
class Dominant:
    """The eigenvalue of largest magnitude and its vector, with what proves them.

    Attributes
    ----------
    value : float
        The Rayleigh quotient ``v'Av``.
    vector : array, shape (n,)
        Of length 1, on the operator's device, in its dtype.
    residual : float
        ``|A v - value v|``: some eigenvalue is within it of the value, up to rounding in the product.
    norm : float
        ``|A v|``: the operator's norm is at least this.
    upper : float
        The norm is at most this, with a probability of 0.999 over random starts; infinite where the start was given.
    converged : bool
        ``residual <= tol * norm``; where no tolerance was given, with ``sqrt(eps)`` for it.
    iterations, products : int
        Steps, and products with A.
    interrupted : bool
        Ctrl-C ended the iteration.
    verdict : str
        All this in a sentence.
    """

    value: float
    vector: Array
    residual: float
    norm: float
    upper: float
    converged: bool
    iterations: int
    products: int
    interrupted: bool
    verdict: str

    def __repr__(self) -> str:
        return f"<eigenvalue {self.value:.6g}: {self.verdict}>"


@dataclass(frozen=True, eq=False)
class SingularTriplet:
    """The largest singular value with its vectors, and what proves them.

    Attributes
    ----------
    value : float
        ``|A right|``: the norm is at least this, up to rounding in the product.
    left : array, shape (m,)
        ``A right / value``.
    right : array, shape (n,)
        Of length 1, on the operator's device, in its dtype.
    residual : float
        ``|A' left - value right|``: some singular value is within it of the value.
    upper : float
        The norm is at most this, with a probability of 0.999 over random starts; infinite where the start was given.
    converged : bool
        ``residual <= tol * value``; where no tolerance was given, with ``sqrt(eps)`` for it.
    iterations, products : int
        Steps, and products with A or its transpose.
    interrupted : bool
        Ctrl-C ended the iteration.
    verdict : str
        All this in a sentence.
    """

    value: float
    left: Array
    right: Array
    residual: float
    upper: float
    converged: bool
    iterations: int
    products: int
    interrupted: bool
    verdict: str

    def __repr__(self) -> str:
        return f"<singular value {self.value:.6g}: {self.verdict}>"


def power_iteration(
    A: Any,
    *,
    steps: int = 100,
    tol: float | None = None,
    start: Array | None = None,
    rng: Rng = None,
    progress: bool | Callable[[int, int], object] = False,
) -> Dominant:
    r"""Eigenvalue of largest magnitude of a symmetric operator, by powers of it.

    .. math:: v_{j+1} = A v_j / |A v_j|, \qquad \lambda \approx v^T A v

    Parameters
    ----------
    A : LinearOperator, symmetric array or sparse matrix, SciPy operator, or Plan, shape (n, n)
        float32 or float64. What does not promise to be symmetric is tested with two products.
    steps : int, default 100
        Steps, with a tolerance at most.
    tol : float, optional
        End where the residual is at most ``tol * |A v|``. By default all steps are done, and nothing is asked of them.
    start : array, shape (n,), optional
        Where to begin, of any length but 0; random by default.
    rng : None, int or numpy.random.Generator
        Where the random start comes from.
    progress : bool or callable, default False
        True shows a progress bar where tqdm is installed; a callable gets the number of steps twice.

    Returns
    -------
    Dominant
        With its residual and bounds. After Ctrl-C it is what was reached until then, and says so.

    Raises
    ------
    ConvergenceError
        A tolerance was given and not reached; ``.partial`` is the record as it stands.
    ShapeError
        ``A`` is not square, or ``start`` does not fit.
    DtypeError, DeviceError
        ``start`` has another dtype than ``A``, or is elsewhere.
    DomainError
        ``A`` is not symmetric or empty, ``start`` is zero, or products are not finite.

    Notes
    -----
    The error falls by the ratio of the second largest magnitude to the largest in each step; where a pair of opposite
    signs shares the largest magnitude the vector does not converge, and the residual shows it. `lanczos` needs far
    fewer products for the same accuracy. After m steps from a random start the square of ``|A v|`` falls short of the
    largest by more than the fraction x with a probability of at most ``0.824 sqrt(n) (1 - x)**(m + 1/2)`` for each two
    steps (Kuczynski and Wozniakowski); ``upper`` follows from it. On the host the steps run in C without the GIL. On a
    device vectors and numbers stay there: a step is its product and two kernels (three with a tolerance), makes no
    array and waits for nothing. With a tolerance it is looked every twenty steps whether it is reached; the vector does
    not move in the steps that are too many. Without one nothing is read before the end.

    References
    ----------
    Kuczynski and Wozniakowski, "Estimating the largest eigenvalue by the power and Lanczos algorithms with a random
    start", 1992, theorem 4.1.

    Examples
    --------
    >>> found = nm.solvers.power_iteration(np.diag([1.0, 2.0, -5.0]), rng=0)
    >>> round(found.value, 12), found.converged
    (-5.0, True)
    """
    who = "power_iteration"
    op, steps, tol, begin = _checked(who, A, steps, tol, start, rng, progress)
    if op.shape[0] != op.shape[1]:
        advice = "The largest singular value is `spectral_norm(A)`."
        raise ShapeError(sentence(who, "A", "square", f"shape {op.shape}", advice))
    state = _powers(who, op, begin)

    def advance(tell: Progress) -> None:
        if not op.symmetric:
            require_symmetric(who, op, product_of(who, op), np.random.default_rng(0))
        state.advance(steps, tol or 0.0, tell)

    interrupted = _interrupted(who, steps, progress, advance)
    v = state.vector
    w = state.multiply(v)
    theta, size = state.dot(v, w), state.length(w)
    _require_finite(who, size)
    with backend_for(op.device).scope():
        residual = state.length(w - np.asarray(theta).astype(op.dtype).item() * v)
    upper = _upper(size, op.shape[0], state.steps // 2, start is None, op)
    found = Dominant(
        value=theta,
        vector=v,
        residual=residual,
        norm=size,
        upper=upper,
        converged=residual <= _level(tol, op) * size,
        iterations=state.steps,
        products=state.count,
        interrupted=interrupted,
        verdict=_verdict(state.steps, residual, size, upper, interrupted),
    )
    return _judged(who, found, found.converged, tol, residual, size, steps)  # type: ignore[no-any-return]


def spectral_norm(
    A: Any,
    *,
    steps: int = 100,
    tol: float | None = None,
    start: Array | None = None,
    rng: Rng = None,
    progress: bool | Callable[[int, int], object] = False,
) -> SingularTriplet:
    r"""Largest singular value of an operator, by powers of ``A^T A``.

    .. math:: v_{j+1} = A^T A v_j / |A^T A v_j|, \qquad \|A\|_2 \approx |A v|

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix, or SciPy operator with a transpose, shape (m, n)
        float32 or float64.
    steps : int, default 100
        Steps, with a tolerance at most.
    tol : float, optional
        End where ``|A'A v - |A v|^2 v|`` is at most ``tol * |A'A v|``. By default all steps are done, and nothing is
        asked of them.
    start : array, shape (n,), optional
        Where to begin, of any length but 0; random by default.
    rng : None, int or numpy.random.Generator
        Where the random start comes from.
    progress : bool or callable, default False
        True shows a progress bar where tqdm is installed; a callable gets the number of steps twice.

    Returns
    -------
    SingularTriplet
        With its residual and bounds. After Ctrl-C it is what was reached until then, and says so.

    Raises
    ------
    ConvergenceError
        A tolerance was given and not reached; ``.partial`` is the record as it stands.
    ShapeError
        ``start`` does not fit.
    DtypeError, DeviceError
        ``start`` has another dtype than ``A``, or is elsewhere.
    DomainError
        ``A`` is empty, ``start`` is zero, or products are not finite.
    NotImplementedError
        The operator has no transpose.

    Notes
    -----
    A dense matrix on the host is read once a step: its rows serve ``A v`` and ``A^T`` of it while they are in cache. On
    a device a step is two products and the kernels of `power_iteration`, and a tolerance is looked at as there.
    The error of the square of the value falls by the square of the ratio of the second singular value to the first; the
    upper bound is that of `power_iteration` for ``A^T A``. Eigenvalues of the operator ``A.T A`` by `lanczos` need far
    fewer products for the same accuracy.

    References
    ----------
    Kuczynski and Wozniakowski, "Estimating the largest eigenvalue by the power and Lanczos algorithms with a random
    start", 1992, theorem 4.1.

    Examples
    --------
    >>> found = nm.solvers.spectral_norm(np.array([[3.0, 0.0], [4.0, 0.0], [0.0, 1.0]]), rng=0)
    >>> round(found.value, 12), found.value <= found.upper
    (5.0, True)
    """
    who = "spectral_norm"
    op, steps, tol, begin = _checked(who, A, steps, tol, start, rng, progress)
    state = _normal_powers(who, op, begin)
    interrupted = _interrupted(
        who, steps, progress, lambda tell: state.advance(steps, tol or 0.0, tell)
    )
    value, left, right, residual = state.triplet()
    _require_finite(who, value)
    upper = _upper(value, op.shape[1], state.steps, start is None, op)
    found = SingularTriplet(
        value=value,
        left=left,
        right=right,
        residual=residual,
        upper=upper,
        converged=residual <= _level(tol, op) * value,
        iterations=state.steps,
        products=state.count,
        interrupted=interrupted,
        verdict=_verdict(state.steps, residual, value, upper, interrupted),
    )
    return _judged(who, found, found.converged, tol, residual, value, steps)  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------------------ what both do


def _checked(
    who: str, A: Any, steps: Any, tol: Any, start: Any, rng: Rng, progress: Any
) -> tuple[LinearOperator, int, float | None, Array]:
    """Check the arguments; return also the unit vector to begin with."""
    op = operator_of(who, A)
    steps = require_positive_int(who, "steps", steps)
    if tol is not None:
        eps = float(np.finfo(op.dtype).eps)
        wanted = f"in [8 eps, 1), {8 * eps:.1e} for {op.dtype}"
        tol = require_real(who, "tol", tol, lambda t: 8 * eps <= t < 1, wanted)
    require_progress(who, progress)
    generator = require_rng(who, rng)
    n = op.shape[1]
    if not n or not op.shape[0]:
        raise DomainError(
            sentence(who, "A", "an operator with rows and columns", f"shape {op.shape}")
        )
    if start is None:
        begin: Any = generator.standard_normal(n)
        begin = (begin / np.linalg.norm(begin)).astype(op.dtype)
        return op, steps, tol, begin if op.device == CPU else to_device(begin, op.device)
    begin = require_float(who, "start", start)
    if tuple(begin.shape) != (n,):
        raise ShapeError(sentence(who, "start", f"of shape ({n},)", str(tuple(begin.shape))))
    if begin.dtype != op.dtype:
        advice = f"Nothing is converted in silence: `start.astype({op.dtype})`."
        raise DtypeError(sentence(who, "start", f"of {op.dtype}", str(begin.dtype), advice))
    if device_of(begin) != op.device:
        advice = f'Nothing is moved in silence: `nm.to_device(start, "{op.device}")`.'
        raise DeviceError(sentence(who, "start", f"on {op.device}", str(device_of(begin)), advice))
    with backend_for(op.device).scope():
        size = float((begin.astype(float, copy=False) ** 2).sum()) ** 0.5
    if not 0 < size < math.inf:
        raise DomainError(sentence(who, "start", "finite and not zero", f"length {size}"))
    with backend_for(op.device).scope():
        return op, steps, tol, begin / np.asarray(size).astype(op.dtype).item()


def _interrupted(
    who: str,
    steps: int,
    progress: bool | Callable[[int, int], object],
    advance: Callable[[Progress], None],
) -> bool:
    """Do the steps; whether Ctrl-C ended them."""
    with Progress(progress, steps, who, "step") as tell:
        try:
            advance(tell)
        except KeyboardInterrupt:
            return True
    return False


def _require_finite(who: str, size: float) -> None:
    if not math.isfinite(size):
        raise DomainError(f"{who}: `A @ v` must be finite, got infinity or NaN.")


def _level(tol: float | None, op: LinearOperator) -> float:
    return float(np.finfo(op.dtype).eps) ** 0.5 if tol is None else tol


def _upper(size: float, n: int, steps: int, drawn: bool, op: LinearOperator) -> float:
    """The norm is at most this but for the risk: P(size^2 < (1 - x) norm^2) <= 0.824 sqrt(n) (1 - x)^(steps + 1/2)."""
    if not drawn:
        return math.inf
    kept = (RISK / (0.824 * math.sqrt(n))) ** (1 / (steps + 0.5))  # 1 - x
    rounding = 8 * float(np.finfo(op.dtype).eps) * math.sqrt(n)
    return size * (1 + rounding) / math.sqrt(min(kept, 1.0))


def _verdict(steps: int, residual: float, size: float, upper: float, interrupted: bool) -> str:
    parts = [f"interrupted after {steps} steps"] if interrupted else []
    parts.append(f"residual {residual / size if size else 0.0:.1e} of the value in {steps} steps")
    if math.isfinite(upper):
        parts.append(f"the norm is between {size:.6g} and {upper:.6g} (probability 0.999)")
    return "; ".join(parts)


def _judged(
    who: str,
    found: Any,
    converged: bool,
    tol: float | None,
    residual: float,
    size: float,
    steps: int,
) -> Any:
    if tol is not None and not converged and not found.interrupted:
        raise ConvergenceError(
            f"{who}: the residual is {residual:.1e} after {found.iterations} steps, tolerance {tol * size:.1e}. Raise "
            f"`steps` above {steps}, or `tol`; `lanczos` needs fewer products.",
            partial=found,
        )
    return found


# ------------------------------------------------------------------------------------------ where they run


class _HostPowers:
    """Powers of a symmetric product, in C."""

    def __init__(self, product: Any, begin: Array) -> None:
        self.product = product
        self.pair = np.empty((2, len(begin)), begin.dtype)
        self.pair[0] = begin
        self.done = np.zeros(1, np.int64)
        self.facts = np.zeros(3)

    @property
    def vector(self) -> Array:
        return np.array(self.pair[0])

    @property
    def steps(self) -> int:
        return int(self.done[0])

    @property
    def count(self) -> int:
        return int(self.product.count)

    def advance(self, steps: int, tol: float, tell: Progress) -> None:
        at_once = AT_ONCE if tell.wanted else steps
        ended = False
        while self.steps < steps and not ended:
            stop = min(self.steps + at_once, steps)
            ended = _iterations.power(self.product, self.pair, self.done, stop, tol, self.facts)
            tell(self.steps, self.steps)

    def multiply(self, x: Array) -> Array:
        return self.product(np.ascontiguousarray(x)[None])[0]  # type: ignore[no-any-return]

    def dot(self, x: Array, y: Array) -> float:
        return float(x.astype(float, copy=False) @ y.astype(float, copy=False))

    def length(self, x: Array) -> float:
        return float(lengths(x))


def _powers(who: str, op: LinearOperator, begin: Array) -> Any:
    if op.device == CPU:
        return _HostPowers(product_of(who, op), begin)
    return DevicePowers(DeviceProduct(who, op).into, op, begin)


class _NormalPowers:
    """Powers of A^T A on the host; ``turned``: the matrix lies by columns, and powers of A A^T go over its memory.

    There the left vector u is what is multiplied, from A v on: A (A^T A)^j v = (A A^T)^j A v, with the same steps.
    """

    def __init__(self, who: str, op: LinearOperator, begin: Array) -> None:
        forward = product_of(who, op)
        self.turned = False
        backward = None
        if isinstance(op, MatrixOperator) and isinstance(op.matrix, np.ndarray):
            self.turned = op.matrix.flags.f_contiguous and not op.matrix.flags.c_contiguous
            native = op.matrix.dtype.isnative and op.matrix.flags.aligned
            self.turned = self.turned and native
        else:
            backward = product_of(who, op, transpose=True)
        self.forward = forward
        if self.turned:
            u = forward(np.ascontiguousarray(begin)[None])[0]
            size = float(lengths(u))
            self.begin = begin
            along = _iterations.dense_product(op.matrix.T)  # type: ignore[attr-defined]
            start = u / op.dtype.type(size) if 0 < size < math.inf else u
            self.state = _HostPowers(_iterations.normal_product(along), start)
        else:
            self.state = _HostPowers(_iterations.normal_product(forward, backward), begin)

    @property
    def steps(self) -> int:
        return self.state.steps

    @property
    def count(self) -> int:
        return 2 * self.state.count + (1 if self.turned else 0)

    def advance(self, steps: int, tol: float, tell: Progress) -> None:
        # the step that a matrix by columns still owes is that of `triplet`
        self.state.advance(steps - 1 if self.turned else steps, tol, tell)

    def triplet(self) -> tuple[float, Array, Array, float]:
        """Return the value, the left and the right vector, and the residual."""
        length, dtype = self.state.length, self.state.pair.dtype
        start = self.state.vector
        image = self.state.multiply(start)  # A^T A v, or A A^T u
        half = self.state.product.image.copy()  # A v, or A^T u
        size = length(half)
        if not size > 0 or not math.isfinite(size):
            right = self.begin if self.turned else start
            left = start if self.turned else half
            return (0.0 if size == 0 else size), left, right, 0.0
        unit = (half.astype(float) / size).astype(dtype)
        if not self.turned:
            rest = image.astype(float) / size - size * start.astype(float)
            return size, unit, start, float(lengths(rest))
        value = length(image) / size  # |A v| of v = A^T u / |A^T u|
        left = (image.astype(float) / length(image)).astype(dtype)
        self.state.multiply(left)  # for A^T left alone
        rest = self.state.product.image.astype(float) - value * unit.astype(float)
        self.state.done[0] += 1
        return value, left, unit, float(lengths(rest))


def _normal_powers(who: str, op: LinearOperator, begin: Array) -> Any:
    return _NormalPowers(who, op, begin) if op.device == CPU else DeviceNormalPowers(who, op, begin)
