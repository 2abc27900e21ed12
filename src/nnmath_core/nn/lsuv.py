"""Layer-sequential unit-variance initialisation: weights scaled to what data do in them."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from nnmath_core._ext._autodiff import Tracer
from nnmath_core._ext._tree import flatten
from nnmath_core.checks import (
    describe,
    require_float,
    require_in,
    require_positive_int,
    require_real,
    require_rng,
    sentence,
)
from nnmath_core.device import backend_of
from nnmath_core.errors import ConvergenceError, DomainError, DtypeError, ShapeError, TraceError
from nnmath_core.nn.convolution import Conv1d, Conv2d
from nnmath_core.nn.dense import Dense
from nnmath_core.nn.mlp import MLP
from nnmath_core.nn.orthogonal import haar_matrix
from nnmath_core.nn.sequential import Sequential
from nnmath_core.nn.transposed_convolution import ConvTranspose1d, ConvTranspose2d
from nnmath_core.typing import Array, Rng

__all__ = ["LSUV", "lsuv", "require_plain"]

Model = TypeVar("Model", MLP, Sequential)

_SCALED = (Dense, Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d)


@dataclass(frozen=True)
class LSUV:
    """What `lsuv` did to each layer.

    Attributes
    ----------
    layers : tuple of str
        The layers with weights, in order.
    before : tuple of float
        Variance of the outputs before the scaling, with the orthogonal weight where one was drawn.
    after : tuple of float
        Variance of the outputs in the end.
    scale : tuple of float
        Factor of the weight.
    iterations : tuple of int
        How often the layer was measured and scaled; 0 where nothing was to be done.
    tolerance : float
        As given.
    """

    layers: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    scale: tuple[float, ...]
    iterations: tuple[int, ...]
    tolerance: float

    def __str__(self) -> str:
        rows = [f"{'layer':<28}{'before':>12}{'after':>12}{'scale':>12}{'iterations':>12}"]
        for name, before, after, scale, steps in zip(
            self.layers, self.before, self.after, self.scale, self.iterations, strict=True
        ):
            rows.append(f"{name:<28}{before:>12.4g}{after:>12.6g}{scale:>12.4g}{steps:>12}")
        return "\n".join(rows)


def lsuv(
    model: Model,
    x: Array,
    *,
    orthonormal: bool = True,
    tolerance: float = 0.01,
    max_iterations: int = 10,
    rng: Rng = None,
) -> tuple[Model, LSUV]:
    r"""Initialise a model by data: each layer in turn is scaled until its outputs have variance 1.

    .. math:: W_l \leftarrow W_l \, / \sqrt{\operatorname{Var} \left( h_{l-1} W_l + b_l \right)}

    Parameters
    ----------
    model : MLP or Sequential
        Its dense layers and convolutions are scaled, those in a `Sequential` inside of it too; other layers are run.
    x : array, shape (n, ...)
        A batch of inputs as the model will see, of the dtype of the weights; a few hundred examples do.
    orthonormal : bool, default True
        Whether weights are replaced by orthonormal ones first; False scales those that the model has.
    tolerance : float, default 0.01
        Of the variance.
    max_iterations : int, default 10
        Of measuring and scaling one layer. Without a bias one is enough.
    rng : None, int or numpy.random.Generator
        Where orthonormal weights come from.

    Returns
    -------
    model
        A new one, of the same kind.
    record : LSUV
        Variances before and after, factors and iterations of each layer; it prints as a table.

    Raises
    ------
    ShapeError, DtypeError
        ``model`` is neither of the two, or ``x`` does not fit it.
    DomainError
        An argument is out of range, there is no layer to scale, or the outputs of a layer are all the same or not
        finite.
    ConvergenceError
        A layer's variance is not within the tolerance after ``max_iterations``, as when biases alone make it larger;
        ``partial`` is the pair of model and record as far as it got.
    TraceError
        ``model`` or ``x`` is traced: this has no derivative.

    Notes
    -----
    The variance is that of all outputs of a layer, examples, positions and units together, in front of the activation.
    Unlike a gain, it takes into account the data, the widths, the padding and what lies between the layers. Layers are
    run as in evaluation: dropout and batch normalisation as they are then.

    References
    ----------
    Mishkin & Matas, "All you need is a good init", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> x = 3 * np.random.default_rng(0).normal(size=(256, 20)) + 1
    >>> model = nm.nn.MLP.init((20, 64, 64, 10), activation=np.tanh, rng=0)
    >>> model, record = nm.nn.lsuv(model, x, rng=1)
    >>> [round(v, 6) for v in record.after], record.iterations
    ([1.0, 1.0, 1.0], (1, 1, 1))
    """
    who = "lsuv"
    if not isinstance(model, MLP | Sequential):
        raise DtypeError(sentence(who, "model", "an MLP or a Sequential", describe(model)))
    require_plain(who, model=model, x=x)
    x = require_float(who, "x", x)
    if not x.shape or not x.size:
        raise ShapeError(sentence(who, "x", "a batch with examples", str(tuple(x.shape))))
    require_in(who, "orthonormal", orthonormal, (True, False))
    tolerance = require_real(who, "tolerance", tolerance, lambda t: 0 < t < 1, "in (0, 1)")
    limit = require_positive_int(who, "max_iterations", max_iterations)
    run = _Run(who, bool(orthonormal), tolerance, limit, require_rng(who, rng))
    new, _ = run.through("", model, x)
    if not run.rows:
        wanted = "a model with a dense layer or a convolution"
        raise DomainError(sentence(who, "model", wanted, repr(model)))
    names, before, after, scale, steps = zip(*run.rows, strict=True)
    record = LSUV(names, before, after, scale, steps, tolerance)
    if run.failed:
        raise ConvergenceError(
            f"{who}: the outputs of {', '.join(run.failed)} did not come within {tolerance:g} of variance 1 in {limit} "
            "steps. Biases count as outputs: set them to zeros, or allow more steps.",
            partial=(new, record),
        )
    return new, record


def require_plain(who: str, **trees: Any) -> None:
    """Refuse traced arrays where something is measured that has no derivative.

    Raises
    ------
    TraceError
        There is one.
    """
    for arg, tree in trees.items():
        if any(isinstance(leaf, Tracer) for leaf in flatten(tree)[0]):
            advice = "It measures, and has no derivative: call it outside of the transformation."
            raise TraceError(sentence(who, arg, "made of plain arrays", "traced values", advice))


class _Run:
    """One pass through a model: layers are replaced on the way, and their outputs go on."""

    def __init__(
        self,
        who: str,
        orthonormal: bool,
        tolerance: float,
        limit: int,
        generator: np.random.Generator,
    ) -> None:
        self.who, self.orthonormal, self.tolerance = who, orthonormal, tolerance
        self.limit, self.generator = limit, generator
        self.rows: list[tuple[str, float, float, float, int]] = []
        self.failed: list[str] = []

    def through(self, place: str, layer: Any, x: Any) -> tuple[Any, Any]:
        """Return the layer with its new weights, and its outputs."""
        if isinstance(layer, MLP):
            layers = []
            for i, part in enumerate(layer.layers):
                x = layer.activation(x) if i else x
                new, x = self.through(f"{place}layers[{i}]", part, x)
                layers.append(new)
            return MLP(tuple(layers), layer.activation), x
        if isinstance(layer, Sequential):
            parts = []
            for i, part in enumerate(layer.layers):
                inner = "." if isinstance(part, MLP) else ""
                new, x = self.through(f"{place}[{i}]{inner}", part, x)
                parts.append(new)
            return Sequential(tuple(parts)), x
        if isinstance(layer, _SCALED):
            return self.scaled(f"{place} {type(layer).__name__}", layer, x)
        return layer, layer(x)

    def scaled(self, name: str, layer: Any, x: Any) -> tuple[Any, Any]:
        y = layer(x)  # its own complaints come before weights are drawn
        if self.orthonormal:
            *lead, outs = layer.weight.shape
            w = haar_matrix(self.generator, math.prod(lead), outs).reshape(layer.weight.shape)
            w = backend_of(layer.weight).from_host(w.astype(layer.weight.dtype))
            layer = dataclasses.replace(layer, weight=w)
            y = layer(x)
        before = variance = self.variance(name, y)
        scale, steps = 1.0, 0
        while abs(variance - 1.0) > self.tolerance and steps < self.limit:
            factor = 1.0 / math.sqrt(variance)
            scale, steps = scale * factor, steps + 1
            layer = dataclasses.replace(layer, weight=layer.weight * factor)
            y = layer(x)
            variance = self.variance(name, y)
        if abs(variance - 1.0) > self.tolerance:
            self.failed.append(name)
        self.rows.append((name, before, variance, scale, steps))
        return layer, y

    def variance(self, name: str, y: Any) -> float:
        value = float(backend_of(y).xp.var(y.astype(np.float64)))
        if not 0.0 < value < math.inf:
            raise DomainError(
                f"{self.who}: the outputs of {name} must have a positive finite variance, got {value:g}. "
                "Its inputs may all be zero, or its units dead."
            )
        return value
