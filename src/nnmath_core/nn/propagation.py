"""Variance propagation: measured through a network, beside the theory of infinite width."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from nnmath_core.autodiff.transforms import jvp, vjp
from nnmath_core.checks import (
    describe,
    require_float,
    require_int,
    require_positive_int,
    require_real,
    require_rng,
    sentence,
)
from nnmath_core.device import backend_of, to_device
from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.nn.convolution import Conv1d, Conv2d
from nnmath_core.nn.dense import Dense
from nnmath_core.nn.flatten import Flatten
from nnmath_core.nn.gain import gain
from nnmath_core.nn.lsuv import require_plain
from nnmath_core.nn.mean_field import MeanField, Moments, Phase, mean_field, phase_of
from nnmath_core.nn.mlp import MLP
from nnmath_core.nn.sequential import Sequential
from nnmath_core.nn.training import is_function
from nnmath_core.typing import Array, Rng

__all__ = ["VariancePropagation", "variance_propagation"]


@dataclass(frozen=True, eq=False, repr=False)
class VariancePropagation:
    """Signals and gradients layer by layer: what `variance_propagation` returns.

    Attributes
    ----------
    layers : tuple of str
        The layers with weights.
    variance, variance_error, variance_theory : array, shape (layers,)
        Mean square of the outputs of each layer, in front of its activation; half the width of its confidence interval;
        the theory.
    gradient, gradient_error, gradient_theory : array, shape (layers,)
        Mean square of the derivatives in these outputs of ``r @ (last output)``, with r normal.
    correlation, correlation_error, correlation_theory : array, shape (layers,)
        Of two inputs, normalised; empty for a model.
    factors : array, shape (layers - 1,)
        By which the squared length of the gradient should change from a layer's outputs to those of the one in front of
        it: chi. (The mean square changes besides as the number of units does.) NaN behind a layer that is not known.
    chi : float
        chi_1 of the theory; for a model the geometric mean of its factors.
    phase : {"ordered", "critical", "chaotic"}
        By chi; a model is critical when its chi differs from 1 by no more than the chance of its weights.
    gradient_depth : float
        Layers in which the mean square of gradients changes by e, ``1 / |log chi|``.
    theory : MeanField or None
        Fixed points and depth scales; None for a model.
    networks : int
        How many were drawn; 1 for a model.
    confidence : float
        Of the intervals.
    warnings : tuple of str
        What is wrong with the network, and where the theory says less.
    """

    layers: tuple[str, ...]
    variance: Array
    variance_error: Array
    variance_theory: Array
    gradient: Array
    gradient_error: Array
    gradient_theory: Array
    correlation: Array
    correlation_error: Array
    correlation_theory: Array
    factors: Array
    chi: float
    phase: Phase
    gradient_depth: float
    theory: MeanField | None
    networks: int
    confidence: float
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        many = f"{self.networks} random networks" if self.theory else "one model"
        head = [f"{len(self.layers)} layers, {many}: {self.phase}, chi_1 = {self.chi:.4g}"]
        if self.theory:
            head += str(self.theory).splitlines()[1:4]
        two = len(self.correlation) > 0
        title = f"{'layer':<24}{'variance':>20}{'theory':>10}{'gradient':>22}{'theory':>10}"
        rows = [title + (f"{'correlation':>18}{'theory':>10}" if two else "")]
        shown = _shown(len(self.layers))
        for i in range(len(self.layers)):
            if i not in shown:
                if i - 1 in shown:
                    rows.append("...")
                continue
            row = f"{self.layers[i]:<24}{_pm(self.variance[i], self.variance_error[i]):>20}"
            row += f"{self.variance_theory[i]:>10.4g}"
            row += f"{_pm(self.gradient[i], self.gradient_error[i]):>22}{self.gradient_theory[i]:>10.4g}"
            if two:
                row += f"{_pm(self.correlation[i], self.correlation_error[i]):>18}{self.correlation_theory[i]:>10.4g}"
            rows.append(row)
        return "\n".join([*head, *rows, *(f"warning: {w}" for w in self.warnings)])

    __repr__ = __str__


def _pm(value: float, error: float) -> str:
    return f"{value:.4g} +- {error:.1g}"


def _shown(n: int) -> set[int]:
    return set(range(n)) if n <= 16 else {*range(8), *range(n - 4, n)}


# ------------------------------------------------------------------------------------ the function
def variance_propagation(
    network: Any,
    width: int | None = None,
    activation: Callable[[Array], Array] | None = None,
    *,
    weight_variance: float | None = None,
    bias_variance: float = 0.0,
    input_variance: float = 1.0,
    correlation: float = 0.5,
    x: Array | None = None,
    networks: int = 32,
    confidence: float = 0.95,
    rng: Rng = None,
) -> VariancePropagation:
    r"""How the size of signals and gradients goes through depth: measured, beside the theory of infinite width.

    .. math::
        q_{l+1} = \sigma_w^2 \, E \varphi(\sqrt{q_l} z)^2 + \sigma_b^2, \qquad
        \tilde q_l = \sigma_w^2 \, E \varphi'(\sqrt{q_l} z)^2 \; \tilde q_{l+1}

    Parameters
    ----------
    network : int or model
        The depth of random networks of one width, or an `MLP` or `Sequential` with the weights it has.
    width : int, optional
        Of random networks, of the input too.
    activation : callable, optional
        Of random networks: of one array, entry by entry, from traceable functions.
    weight_variance : float, optional
        :math:`\sigma_w^2`, that of the weights times the width. By default `gain` squared, at ``input_variance``.
    bias_variance : float, default 0
        :math:`\sigma_b^2`.
    input_variance : float, default 1
        :math:`q_1`, that in front of the first activation; positive.
    correlation : float, default 0.5
        Of the pair of inputs, in [-1, 1], in front of the first activation.
    x : array, shape (n, ...), optional
        Of a model: a batch of inputs.
    networks : int, default 32
        How many random networks are drawn, at least 2.
    confidence : float, default 0.95
        Of the intervals.
    rng : None, int or numpy.random.Generator
        Where weights, inputs and r come from.

    Returns
    -------
    VariancePropagation
        Each layer measured, with its confidence interval and theory; chi_1, phase, depth scales, warnings. It prints as
        a table.

    Raises
    ------
    DtypeError, ShapeError, DomainError
        An argument is missing or not as above; the network has no layer with weights; an activation between layers does
        not act on each number alone.
    TraceError
        A model or ``x`` is traced: this has no derivative.

    Notes
    -----
    *Random networks*: normal weights and biases are drawn; layer 1 has the stated variance and correlation. An interval
    is Student's, over the networks. In networks of finite width the averages differ from the theory by terms of the
    order of depth / width, and single networks by the square root of that.

    *A model*: intervals are over the units of a layer, which are few and not independent: they say how uneven a layer
    is. The theory takes each layer's own mean square of weights (their sum over fan_in) and biases, as they are, and
    starts from the measured mean square of ``x``; it starts again behind a layer that it does not know (normalisation,
    pooling, residual), from what is measured there. Trained weights are no random numbers: a difference from the theory
    is what training has made. Between layers there must be functions that act on each number alone.

    Cost: ``networks * depth`` products of (width, width) with 3 vectors.

    References
    ----------
    Poole et al., "Exponential expressivity in deep neural networks through transient chaos", 2016. Schoenholz et al.,
    "Deep information propagation", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> found = nm.nn.variance_propagation(10, 100, np.tanh, weight_variance=1.0, rng=0)
    >>> found.phase, found.variance.shape
    ('critical', (10,))
    >>> model = nm.nn.MLP.init((80, 80, 80, 80), init=nm.nn.glorot_normal, rng=0)  # relu, and half of what it needs
    >>> found = nm.nn.variance_propagation(model, x=np.random.default_rng(1).normal(size=(200, 80)), rng=2)
    >>> found.phase, round(found.chi, 1)
    ('ordered', 0.5)
    """
    who = "variance_propagation"
    level = require_real(who, "confidence", confidence, lambda c: 0 < c < 1, "in (0, 1)")
    generator = require_rng(who, rng)
    if isinstance(network, MLP | Sequential):
        if x is None:
            advice = "A model is measured on inputs of yours."
            raise DtypeError(sentence(who, "x", "a batch of inputs", "None", advice))
        if not (width is None and activation is None and weight_variance is None):
            raise DomainError(
                f"{who}: `width`, `activation` and `weight_variance` belong to random networks, not to a model."
            )
        return _of_model(who, network, x, level, generator)
    if isinstance(network, bool) or not isinstance(network, int | np.integer):
        wanted = "a depth (an integer), an MLP or a Sequential"
        raise DtypeError(sentence(who, "network", wanted, describe(network)))
    depth = require_positive_int(who, "network", network)
    if x is not None:
        raise DomainError(f"{who}: `x` belongs to a model, got a depth beside it.")
    if width is None or activation is None:
        wanted = "given together with `activation`"
        raise DtypeError(sentence(who, "width", wanted, describe(width)))
    width = require_int(who, "width", width, minimum=2)
    count = require_int(who, "networks", networks, minimum=2)
    c1 = require_real(who, "correlation", correlation, lambda c: -1 <= c <= 1, "in [-1, 1]")
    if weight_variance is None:
        weight_variance = gain(activation, variance=input_variance).value ** 2
    theory = mean_field(
        activation,
        weight_variance=weight_variance,
        bias_variance=bias_variance,
        input_variance=input_variance,
    )
    return _of_random(depth, width, theory, c1, count, level, generator)


# ------------------------------------------------------------------------------------ random networks
def _of_random(
    depth: int,
    width: int,
    theory: MeanField,
    c1: float,
    count: int,
    level: float,
    generator: np.random.Generator,
) -> VariancePropagation:
    phi, q1 = theory.moments.activation, theory.input_variance
    sw, sb = math.sqrt(theory.weight_variance / width), math.sqrt(theory.bias_variance)
    q, c, g = (np.zeros((count, depth)) for _ in range(3))
    for k in range(count):
        first, second = generator.standard_normal((2, width))
        h = math.sqrt(q1) * np.stack([first, c1 * first + math.sqrt(1.0 - c1 * c1) * second])
        weights, slopes = [], []
        for layer in range(depth):
            size = np.mean(h * h, axis=1)
            q[k, layer] = size.mean()
            c[k, layer] = np.mean(h[0] * h[1]) / math.sqrt(size[0] * size[1])
            if layer + 1 < depth:
                y, slope = jvp(phi, (h,), (np.ones_like(h),))
                w = sw * generator.standard_normal((width, width))
                h = y @ w + sb * generator.standard_normal(width)
                weights.append(w)
                slopes.append(slope[0])
        back = generator.standard_normal(width)
        g[k, -1] = np.mean(back * back)
        for layer in reversed(range(depth - 1)):
            back = slopes[layer] * (weights[layer] @ back)
            g[k, layer] = np.mean(back * back)
    qs, cs, factors = [q1], [c1], []
    for _ in range(depth - 1):
        factors.append(theory.gradient_factor(qs[-1]))
        cs.append(theory.correlation_map(min(max(cs[-1], -1.0), 1.0), qs[-1]))
        qs.append(theory.variance_map(qs[-1]))
    gs = np.cumprod([1.0, *reversed(factors)])[::-1]
    half = float(stdtrit(count - 1, 0.5 + 0.5 * level)) / math.sqrt(count)
    warnings = [] if 0 < theory.variance < math.inf else list(theory.notes)
    if depth > 0.25 * width:
        warnings.append(
            f"depth {depth} is no small part of the width {width}: averages differ from the theory of infinite width, "
            "and single networks from averages"
        )
    warnings += _told(theory.phase, theory.gradient_depth, depth)
    return VariancePropagation(
        tuple(f"{layer + 1}" for layer in range(depth)),
        *(q.mean(axis=0), half * q.std(axis=0, ddof=1), np.array(qs)),
        *(g.mean(axis=0), half * g.std(axis=0, ddof=1), np.array(gs)),
        *(c.mean(axis=0), half * c.std(axis=0, ddof=1), np.array(cs)),
        np.array(factors),
        theory.chi,
        theory.phase,
        theory.gradient_depth,
        theory,
        count,
        level,
        tuple(warnings),
    )


def _told(phase: Phase, scale: float, depth: int) -> list[str]:
    if phase == "critical" or depth <= 6.0 * scale:
        return []
    what = "vanish" if phase == "ordered" else "explode"
    return [
        f"gradients {what}: the depth {depth} is {depth / scale if scale else math.inf:.3g} times the depth scale "
        f"{scale:.3g}, and networks train to about 6 times"
    ]


# ------------------------------------------------------------------------------------ a model
def steps_of(who: str, model: Any) -> list[tuple[str, Any]]:
    """Return the layers and functions of an `MLP` or `Sequential`, one after another, with their places."""
    if isinstance(model, MLP):
        out: list[tuple[str, Any]] = []
        for i, layer in enumerate(model.layers):
            out.append((f"layers[{i}]", layer))
            if i + 1 < len(model.layers):
                out.append((f"activation {i}", model.activation))
        return out
    out = []
    for i, layer in enumerate(model):
        inner = steps_of(who, layer) if isinstance(layer, MLP | Sequential) else [("", layer)]
        dot = "." if isinstance(layer, MLP) else ""
        out += [(f"[{i}]{dot}{name}", step) for name, step in inner]
    return out


def _of_model(
    who: str, model: Any, x: Any, level: float, generator: np.random.Generator
) -> VariancePropagation:
    require_plain(who, network=model, x=x)
    x = require_float(who, "x", x)
    if not x.shape or not x.size:
        raise ShapeError(sentence(who, "x", "a batch with examples", str(tuple(x.shape))))
    if not np.isfinite(x).all():
        raise DomainError(sentence(who, "x", "finite", "an entry that is not"))
    steps = steps_of(who, model)
    names: list[str] = []
    warnings: list[str] = []
    numbers: list[list[float]] = [[] for _ in range(6)]
    q, q_error, q_theory, factors, back, chance = numbers
    pulls: list[Any] = []
    places: list[int] = []
    pending: list[Any] = []  # functions since the last layer with weights
    moment, gaussian = _mean_square(x), math.nan
    known = True  # whether what comes is a function of the layer in front, as the theory has it
    for name, step in steps:
        x, pull = vjp(step, x)
        pulls.append(pull)
        if isinstance(step, Dense | Conv1d | Conv2d):
            moments = Moments(who, _chain(pending)) if names and known and pending else None
            if moments:
                moment = moments.at(gaussian)[0]
            elif names and known:
                moment = gaussian
            fan_in, fan_out, size, bias = _sizes_of(step)
            if names:
                slope = moments.at(gaussian)[1] if moments else 1.0
                factors.append(fan_in * size * slope if known else math.nan)
                back.append(fan_out / fan_in)
                chance.append(2.0 / step.weight.size)
            gaussian = fan_in * size * moment + bias
            names.append(f"{name} {type(step).__name__}")
            value, error = _by_unit(x, level)
            q.append(value)
            q_error.append(error)
            q_theory.append(gaussian)
            places.append(len(pulls))
            pending, known = [], True
            if getattr(step, "padding", "valid") not in ("valid", 0):
                warnings.append(
                    f"{name}: zeros around the image; the theory does not see its edges"
                )
        elif is_function(step):
            pending.append(step)
        elif not isinstance(step, Flatten):
            known, pending, moment = False, [], _mean_square(x)
            if names:
                warnings.append(
                    f"{name}: the theory does not know {type(step).__name__}, and starts again behind it"
                )
    if not names:
        wanted = "a model with a Dense or convolution layer"
        raise DomainError(sentence(who, "network", wanted, repr(model)))
    g, g_error = _gradients(pulls, places, x, level, generator)
    g_theory = g[-1:]
    for factor, widths, measured in zip(factors[::-1], back[::-1], g[-2::-1], strict=True):
        g_theory.append(measured if math.isnan(factor) else factor * widths * g_theory[-1])
    sizes = [f for f in factors if not math.isnan(f)]
    chi = math.exp(np.mean(np.log(sizes))) if sizes and min(sizes) > 0 else float(not sizes)
    tolerance = 3.0 * math.sqrt(sum(chance)) / max(len(chance), 1) + 1e-9
    phase = phase_of(chi, tolerance)
    scale = 1.0 / abs(math.log(chi)) if chi not in (0.0, 1.0) else (0.0 if chi == 0.0 else math.inf)
    warnings += _told(phase, scale, len(names))
    warnings += [
        f"{n}: outputs are {v:.3g}" for n, v in zip(names, q, strict=True) if not 0 < v < math.inf
    ]
    empty = np.zeros(0)
    return VariancePropagation(
        tuple(names),
        *(np.array(q), np.array(q_error), np.array(q_theory)),
        *(np.array(g), np.array(g_error), np.array(g_theory[::-1])),
        *(empty, empty, empty),
        np.array(factors),
        chi,
        phase,
        scale,
        None,
        1,
        level,
        tuple(warnings),
    )


def _chain(functions: list[Any]) -> Callable[[Any], Any]:
    if len(functions) == 1:
        return functions[0]  # type: ignore[no-any-return]

    def chain(z: Any) -> Any:
        for f in functions:
            z = f(z)
        return z

    return chain


def _sizes_of(layer: Any) -> tuple[float, float, float, float]:
    """Terms of an output and of the gradient of an input; mean squares of weight and bias."""
    *window, each, outs = layer.weight.shape
    field = math.prod(window)
    stride, groups = getattr(layer, "stride", 1), getattr(layer, "groups", 1)
    steps = math.prod(stride) if isinstance(stride, tuple | list) else stride ** len(window)
    bias = 0.0 if layer.bias is None else _mean_square(layer.bias)
    return field * each, field * outs / groups / steps, _mean_square(layer.weight), bias


def _host(x: Any) -> Array:
    return np.asarray(to_device(x, "cpu"), dtype=np.float64)


def _mean_square(x: Any) -> float:
    return float(np.mean(np.square(_host(x)))) if x.size else math.nan


def _by_unit(x: Any, level: float) -> tuple[float, float]:
    """Mean square, and half the width of its interval over units."""
    host = _host(x)
    each = np.mean(np.square(host), axis=tuple(range(host.ndim - 1)))
    n = len(each)
    if n < 2:
        return float(each.mean()), math.nan
    half = float(stdtrit(n - 1, 0.5 + 0.5 * level)) / math.sqrt(n)
    return float(each.mean()), half * float(each.std(ddof=1))


def _gradients(
    pulls: list[Any], places: list[int], y: Any, level: float, generator: np.random.Generator
) -> tuple[list[float], list[float]]:
    """Mean squares of the derivatives in the outputs of layers, first to last."""
    r = generator.standard_normal(tuple(y.shape)).astype(y.dtype)
    back = backend_of(y).from_host(r)
    found = []
    for i in range(len(pulls), 0, -1):
        if i in places:
            found.append(_by_unit(back, level))
        if i > min(places):
            (back,) = pulls[i - 1](back)
    values, errors = zip(*reversed(found), strict=True)
    return list(values), list(errors)
