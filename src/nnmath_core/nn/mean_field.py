"""Random networks of infinite width: how variance, correlation and gradients go from layer to layer."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nnmath_core.checks import describe, require_real, sentence
from nnmath_core.errors import DomainError
from nnmath_core.nn.gaussian_average import (
    Mesh,
    Values,
    gaussian_average,
    mesh_of,
    pair_average,
    with_slope,
)
from nnmath_core.typing import Array

__all__ = ["CriticalPoint", "MeanField", "Moments", "critical_point", "mean_field", "phase_of"]

Phase = Literal["ordered", "critical", "chaotic"]

_TINY, _HUGE = 1e-30, 1e30
"""Variances from which on a network is said to die or to explode: q = 0 and q = inf."""

_CRITICAL = 1e-9
"""How near to 0 the logarithm of chi is taken for it."""


# ------------------------------------------------------------------------------------ averages of an activation
class Moments:
    """Averages of an activation over normal numbers of a variance: what all maps are made of."""

    def __init__(self, who: str, activation: Any) -> None:
        self.who, self.activation = who, activation
        self.rows: Values = with_slope(who, "activation", activation)
        near, wide = (self._mesh(v).kinks * math.sqrt(v) for v in (1.0, 900.0))
        self.kinks = np.concatenate([near, wide[np.abs(wide) > 9.0]])  # of the activation itself
        self.at = functools.lru_cache(maxsize=4096)(self._at)
        self.mesh = functools.lru_cache(maxsize=256)(self._mesh)

    def _at(self, q: float) -> tuple[float, float, float]:
        """E phi^2, E phi'^2, d E phi^2 / dq at variance q."""
        q = min(max(q, _TINY), _HUGE)
        root = math.sqrt(q)

        def integrands(z: Array) -> Array:
            y, slope = self.rows(root * z)
            square = y * y
            # by the score of the density: no second derivative of the activation, which may have kinks
            return np.stack([square, slope * slope, square * (z * z - 1.0) / (2.0 * q)])

        found = gaussian_average(self.who, integrands, tolerance=1e-13, kinks=self.kinks / root)
        second, slope, growth = (float(v) for v in found.value)
        return second, slope, growth

    def _mesh(self, q: float) -> Mesh:
        root = math.sqrt(q)
        return mesh_of(self.who, lambda z: self.rows(root * z) ** 2)

    def pair(self, q: float, c: float) -> tuple[float, float]:
        """E phi phi and E phi' phi' of two numbers of variance q and correlation c."""
        q = min(max(q, _TINY), _HUGE)
        if c >= 1.0:
            return self.at(q)[:2]
        root = math.sqrt(q)
        value = pair_average(lambda z: self.rows(root * z), max(c, -1.0), self.mesh(q)).value
        return float(value[0]), float(value[1])


# ------------------------------------------------------------------------------------ the theory
@dataclass(frozen=True, eq=False, repr=False)
class MeanField:
    """The theory of a random network of infinite width: what `mean_field` returns.

    Attributes
    ----------
    variance : float
        q*, that of the numbers in front of the activation after many layers; 0 where they die, inf where they explode.
    chi : float
        chi_1, by which a layer multiplies the mean square of a gradient, and small differences of two signals.
    phase : {"ordered", "critical", "chaotic"}
        chi_1 below, at or above 1: gradients vanish, stay or explode.
    correlation : float
        c*, to which that of two inputs goes; NaN where the variance is 0 or inf.
    variance_depth : float
        xi_q: differences from q* fall by e in so many layers.
    correlation_depth : float
        xi_c: differences from c* fall by e in so many layers; inf at criticality, NaN where it is not defined.
    gradient_depth : float
        Layers in which the mean square of gradients changes by e, ``1 / |log chi_1|``.
    weight_variance, bias_variance, input_variance : float
        As given.
    notes : tuple of str
        What is special.
    """

    variance: float
    chi: float
    phase: Phase
    correlation: float
    variance_depth: float
    correlation_depth: float
    gradient_depth: float
    weight_variance: float
    bias_variance: float
    input_variance: float
    notes: tuple[str, ...]
    moments: Moments

    def variance_map(self, q: float) -> float:
        """Return the variance in the next layer.

        Parameters
        ----------
        q : float
            Variance in front of the activation, >= 0.

        Returns
        -------
        float
            ``weight_variance * E phi(sqrt(q) z)**2 + bias_variance``.
        """
        return self.weight_variance * self.moments.at(_variance(q))[0] + self.bias_variance

    def correlation_map(self, c: float, q: float | None = None) -> float:
        """Return the correlation in the next layer of two signals of the same variance.

        Parameters
        ----------
        c : float
            In [-1, 1].
        q : float, optional
            Their variance; q* by default.

        Returns
        -------
        float
        """
        c = require_real("MeanField.correlation_map", "c", c, lambda c: -1 <= c <= 1, "in [-1, 1]")
        q = self.variance if q is None else _variance(q)
        both = self.weight_variance * self.moments.pair(q, c)[0] + self.bias_variance
        return both / self.variance_map(q)

    def gradient_factor(self, q: float | None = None) -> float:
        """Return by how much a layer multiplies the mean square of gradients: chi at a variance.

        Parameters
        ----------
        q : float, optional
            Variance in front of the activation; q* by default.

        Returns
        -------
        float
            ``weight_variance * E phi'(sqrt(q) z)**2``.
        """
        q = self.variance if q is None else _variance(q)
        return self.weight_variance * self.moments.at(q)[1]

    def __str__(self) -> str:
        lines = [
            f"{describe(self.moments.activation)} with weight variance {self.weight_variance:.6g} / fan_in, "
            f"bias variance {self.bias_variance:.6g}: {self.phase}",
            f"variance          q*    = {self.variance:.6g}, reached with depth scale {self.variance_depth:.4g}",
            f"gradients         chi_1 = {self.chi:.6g} a layer, depth scale {self.gradient_depth:.4g}",
            f"correlation       c*    = {self.correlation:.6g}, reached with depth scale {self.correlation_depth:.4g}",
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    __repr__ = __str__


def _root(
    f: Callable[[float], float], low: float, high: float, *, xtol: float, rtol: float
) -> float:
    """Return a root between two points of opposite sign, by Brent's method."""
    from scipy.optimize import (
        brentq,
    )  # takes a quarter of a second, which `import nnmath_core.nn` need not

    return float(brentq(f, low, high, xtol=xtol, rtol=rtol))


def mean_field(
    activation: Callable[[Array], Array],
    *,
    weight_variance: float,
    bias_variance: float = 0.0,
    input_variance: float = 1.0,
) -> MeanField:
    r"""Fixed points, phase and depth scales of random networks of infinite width.

    .. math::
        q_{l+1} = \sigma_w^2 \, E \varphi(\sqrt{q_l} z)^2 + \sigma_b^2, \qquad
        c_{l+1} = \frac{\sigma_w^2 \, E \varphi(u_1) \varphi(u_2) + \sigma_b^2}{q_{l+1}}, \qquad
        \chi_1 = \sigma_w^2 \, E \varphi'(\sqrt{q^*} z)^2

    with :math:`u_1, u_2` normal, of variance :math:`q_l` and correlation :math:`c_l`.

    Parameters
    ----------
    activation : callable
        Of one array, entry by entry, from traceable functions.
    weight_variance : float
        :math:`\sigma_w^2`, that of the weights times fan_in; positive.
    bias_variance : float, default 0
        :math:`\sigma_b^2`.
    input_variance : float, default 1
        :math:`q_1`, that in front of the first activation; where there are several fixed points it says which.

    Returns
    -------
    MeanField
        Fixed points, :math:`\chi_1`, phase, depth scales; and the maps themselves, as methods. It prints as a summary.

    Raises
    ------
    DtypeError
        ``activation`` cannot be called, or a variance is no number.
    ShapeError, DomainError
        ``activation`` does not act on each number alone or has no second moment; a variance is out of range.
    ConvergenceError
        The activation has jumps or oscillations without end.

    Notes
    -----
    Below :math:`\chi_1 = 1` all inputs become alike and gradients vanish, above it neighbours part and gradients
    explode; a network can be trained to a depth of a few :math:`\xi_c`. With :math:`c^*` found by bisection,

    .. math::
        \xi_q = -1 / \log \frac{d q_{l+1}}{d q_l}, \qquad
        \xi_c = -1 / \log \left( \sigma_w^2 \, E \varphi'(u_1) \varphi'(u_2) \right)

    at the fixed points. Averages are those of `gain`, kinks included; those of two numbers are as accurate for
    correlations near 1. A jump has no slope in :math:`\chi`, which is that of the smooth part.

    References
    ----------
    Poole, Lahiri, Raghu, Sohl-Dickstein & Ganguli, "Exponential expressivity in deep neural networks through transient
    chaos", 2016. Schoenholz, Gilmer, Ganguli & Sohl-Dickstein, "Deep information propagation", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> theory = nm.nn.mean_field(np.tanh, weight_variance=1.5, bias_variance=0.05)
    >>> theory.phase, round(theory.variance, 6), round(theory.chi, 6)
    ('ordered', 0.418037, 0.938636)
    >>> nm.nn.mean_field(nm.nn.relu, weight_variance=2.0).phase
    'critical'
    """
    who = "mean_field"
    sw = require_real(who, "weight_variance", weight_variance, _positive, "a positive number")
    sb = require_real(who, "bias_variance", bias_variance, _not_negative, "a number >= 0")
    q1 = require_real(who, "input_variance", input_variance, _positive, "a positive number")
    moments = Moments(who, activation)
    notes: list[str] = []
    q = _fixed_variance(moments, sw, sb, q1, notes)
    _, slope, growth = moments.at(q)
    chi = sw * slope
    phase = phase_of(chi)
    decay = abs(sw * growth)
    if decay > 1.0 + _CRITICAL and 0.0 < q < math.inf:
        notes.append(f"q* repels: a layer multiplies distances from it by {decay:.4g}")
    c, xi_c = _fixed_correlation(moments, sw, sb, q, chi, phase)
    xi_q = math.inf if abs(decay - 1.0) < _CRITICAL else _depth(decay)
    return MeanField(q, chi, phase, c, xi_q, xi_c, _scale(chi), sw, sb, q1, tuple(notes), moments)


def phase_of(chi: float, tolerance: float = _CRITICAL) -> Phase:
    """Return the phase of a factor of gradients."""
    if abs(math.log(chi) if chi > 0 else math.inf) <= tolerance:
        return "critical"
    return "ordered" if chi < 1.0 else "chaotic"


def _depth(factor: float) -> float:
    """Layers in which a factor below 1 makes 1/e; NaN above it, where nothing falls."""
    if factor <= 0.0:
        return 0.0
    return -1.0 / math.log(factor) if factor < 1.0 else math.nan


def _scale(chi: float) -> float:
    """Layers in which a factor, whatever its sign in the exponent, makes e."""
    if chi <= 0.0:
        return 0.0
    size = abs(math.log(chi))
    return math.inf if size <= _CRITICAL else 1.0 / size


def _fixed_variance(
    moments: Moments, sw: float, sb: float, start: float, notes: list[str]
) -> float:
    """The fixed point that the map reaches from ``start``, if it grows: the first one in its direction."""

    def growth(q: float) -> float:
        return sw * moments.at(q)[0] + sb - q

    def settled(q: float) -> bool:
        return abs(growth(q)) <= 1e-12 * q

    if settled(start):
        if all(settled(start * f) for f in (0.1, 10.0)):
            notes.append("every variance is a fixed point; q* is that of the input")
        return start
    up = growth(start) > 0
    near, far = start, start
    while (growth(far) > 0) == up:
        near, far = far, far * (2.0 if up else 0.5)
        if settled(far):
            if not settled(2.0 * far if up else 0.5 * far):
                return far
            notes.append(
                f"the variance {'grows without bound' if up else 'goes to 0'}, as a power of depth"
            )
            return math.inf if up else 0.0
        if not _TINY < far < _HUGE:
            notes.append(f"the variance {'grows without bound' if up else 'goes to 0'}")
            return math.inf if up else 0.0
    return _root(growth, min(near, far), max(near, far), xtol=1e-300, rtol=1e-14)


def _fixed_correlation(
    moments: Moments, sw: float, sb: float, q: float, chi: float, phase: Phase
) -> tuple[float, float]:
    """The correlation that attracts, and the depth scale of reaching it."""
    if not 0.0 < q < math.inf:
        return math.nan, math.nan
    if phase == "critical":
        return 1.0, math.inf
    if phase == "ordered":
        return 1.0, _depth(chi)

    def excess(c: float) -> float:
        return (sw * moments.pair(q, c)[0] + sb) / q - c

    if abs(excess(0.0)) <= 1e-13:
        c = 0.0
    else:
        top = 1.0 - 1e-12
        for k in range(1, 40):  # below 1 the map is below the diagonal: how near depends on chi
            top = 1.0 - 2.0**-k
            if excess(top) < 0:
                break
        else:
            return 1.0, math.inf
        c = _root(excess, 0.0, top, xtol=1e-15, rtol=1e-13)
    return c, _depth(sw * moments.pair(q, c)[1])


def _variance(q: Any) -> float:
    return require_real("MeanField", "q", q, _not_negative, "a number >= 0")


def _positive(x: float) -> bool:
    return 0.0 < x < math.inf


def _not_negative(x: float) -> bool:
    return 0.0 <= x < math.inf


# ------------------------------------------------------------------------------------ criticality
@dataclass(frozen=True)
class CriticalPoint:
    """Variances at which gradients neither vanish nor explode: what `critical_point` returns.

    Attributes
    ----------
    weight_variance, bias_variance : float
        Times fan_in, and as given.
    variance : float
        q*, that in front of the activation; 0 is the limit of small signals.
    chi : float
        chi_1 there, computed: 1 up to rounding.
    variance_chi : float
        ``d q_{l+1} / d q_l`` there; at 1 the variance changes as a power of depth, below it exponentially.
    """

    weight_variance: float
    bias_variance: float
    variance: float
    chi: float
    variance_chi: float


def critical_point(
    activation: Callable[[Array], Array], *, bias_variance: float = 0.0
) -> CriticalPoint:
    r"""Weight variance at which random networks of a bias variance are critical: a point of the critical line.

    .. math::
        \sigma_w^2(q) = \frac{1}{E \varphi'(\sqrt q z)^2}, \qquad
        \sigma_b^2(q) = q - \sigma_w^2(q) \, E \varphi(\sqrt q z)^2

    Parameters
    ----------
    activation : callable
        Of one array, entry by entry, from traceable functions.
    bias_variance : float, default 0
        :math:`\sigma_b^2`.

    Returns
    -------
    CriticalPoint
        That with the smallest variance q of those that attract.

    Raises
    ------
    DtypeError
        ``activation`` cannot be called, or ``bias_variance`` is no number.
    ShapeError, DomainError
        ``activation`` does not act on each number alone; no point of the line has this bias variance; it is negative.
    ConvergenceError
        The activation has jumps or oscillations without end.

    Notes
    -----
    On the line :math:`\chi_1 = 1` and q is a fixed point, which makes both variances functions of q; the root of the
    second one is looked for from small q on. relu is critical at (2, 0) alone, tanh from (1, 0) on. For gelu and silu,
    with (4, 0), the line begins with points whose variance does not attract.

    References
    ----------
    Schoenholz et al., "Deep information propagation", 2017. Roberts, Yaida & Hanin, "The principles of deep learning
    theory", 2022, chapter 5.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> [round(nm.nn.critical_point(f).weight_variance, 9) for f in (np.tanh, nm.nn.relu)]
    [1.0, 2.0]
    >>> round(nm.nn.critical_point(np.tanh, bias_variance=0.05).weight_variance, 6)
    1.760955
    """
    who = "critical_point"
    target = require_real(who, "bias_variance", bias_variance, _not_negative, "a number >= 0")
    moments = Moments(who, activation)

    def on_line(q: float) -> CriticalPoint:
        second, slope, growth = moments.at(q)
        if slope <= 0.0:
            return CriticalPoint(math.inf, -math.inf, q, math.nan, math.nan)
        sw = 1.0 / slope
        return CriticalPoint(sw, q - sw * second, q, sw * slope, sw * growth)

    def excess(q: float) -> float:
        return on_line(q).bias_variance - target

    if target == 0.0:
        limit = on_line(_TINY)
        if abs(limit.bias_variance) <= 1e-12 * _TINY and limit.variance_chi <= 1.0 + 1e-9:
            return CriticalPoint(limit.weight_variance, 0.0, 0.0, limit.chi, limit.variance_chi)
    grid = [on_line(float(q)) for q in np.geomspace(1e-8, 1e6, 281)]
    for near, far in itertools.pairwise(grid):
        ends = near.bias_variance - target, far.bias_variance - target
        if math.isfinite(sum(ends)) and (ends[0] > 0) != (ends[1] > 0):
            root = _root(excess, near.variance, far.variance, xtol=1e-300, rtol=1e-14)
            found = on_line(root)
            if found.variance_chi <= 1.0 + 1e-9:
                return dataclasses.replace(found, bias_variance=target)
    attracting = [p for p in grid if p.variance_chi <= 1.0 + 1e-9]
    told = "The line of chi_1 = 1 has none that attracts."
    if attracting:
        # what is lost in the difference of two terms of the size of q is no variance
        reached = [max(p.bias_variance - 1e-12 * p.variance, 0.0) for p in attracting]
        told = f"The line of chi_1 = 1 attracts for bias variances from {min(reached):.4g} to {max(reached):.4g}."
    advice = f"{describe(activation)} has none there. {told}"
    wanted = "that of a point with chi_1 = 1 and a variance that attracts"
    raise DomainError(sentence(who, "bias_variance", wanted, f"{target:g}", advice))
