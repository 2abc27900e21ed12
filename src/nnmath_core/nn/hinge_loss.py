"""The hinge losses of support vector machines, of two classes and of many."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from nnmath_core.autodiff.ops.conventions import beside
from nnmath_core.checks import (
    require_float,
    require_in,
    require_real,
    require_same_dtype,
    sentence,
)
from nnmath_core.errors import DtypeError, ShapeError
from nnmath_core.nn.activations import relu
from nnmath_core.nn.labels import (
    beside_classes,
    check_class_numbers,
    check_entries,
    poison,
    require_labels,
)
from nnmath_core.nn.loss import Loss
from nnmath_core.nn.reduction import Reduction
from nnmath_core.typing import Array, ArrayLike

__all__ = ["Hinge", "hinge"]


class _Target(NamedTuple):
    """Signs, or class numbers with where they are right (None: everywhere)."""

    signs: Any
    numbers: Any
    right: Any


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Hinge(Loss):
    r"""How much a score misses a margin: the hinge loss of two classes, or of many.

    .. math::
        \ell = \max(0, m - t \, s)^p, \qquad
        \ell = \frac1k \sum_{j \ne y} \max(0, m - s_y + s_j)^p \quad\text{or}\quad
        \ell = \max(0, m - s_y + \max_{j \ne y} s_j)^p

    Parameters
    ----------
    prediction : array, float32 or float64
        Scores: of any shape for two classes, each entry an example; of shape (..., k) for k classes.
    target : array
        Signs, -1 or 1, integers or floats of the dtype of ``prediction`` and of its shape; or class numbers in [0, k),
        integers of shape (...).
    reduction : {"none", "sum", "mean"}, default "none"
        One number per example, their sum or their mean.
    margin : float, default 1
        The distance m > 0 from which on there is no loss.
    power : {1, 2}, default 1
        The exponent p; 2 is the squared hinge.
    rivals : {"mean", "max"}, default "mean"
        Of k classes: the sum over the others divided by k (Weston & Watkins; PyTorch's ``MultiMarginLoss``), or the
        strongest of the others (Crammer & Singer; scikit-learn's ``hinge_loss``).

    Returns
    -------
    array, dtype of ``prediction``
        In the unit of the scores to the power.

    Raises
    ------
    DtypeError
        ``prediction`` is no array of floats, or ``target`` of another kind than above.
    ShapeError
        The two do not fit.
    DomainError
        A sign is neither -1 nor 1, or a class number out of range (the message names the first); the mean over no
        examples; an option is out of its domain.

    Notes
    -----
    At the kink the derivative is 0, as that of `relu`; equal strongest rivals share theirs. The Hessian of power 1 is
    0 but for the kinks, that of power 2 is 2 where the margin is missed (a matrix of the classes where there are many).

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.hinge(np.array([2.0, 0.5, -1.0]), np.array([1, 1, 1]))
    array([0. , 0.5, 2. ])
    >>> scores = np.array([[2.0, 1.5, 0.0], [0.0, 1.0, 3.0]])
    >>> nm.nn.hinge(scores, np.array([0, 1]), rivals="max")
    array([0.5, 3. ])
    """

    margin: float = 1.0
    power: Literal[1, 2] = 1
    rivals: Literal["mean", "max"] = "mean"

    __name__ = "hinge"
    unit = "the scores' unit, to the power"
    _why_none = "It separates classes by a margin: exp(-loss) is no probability of the label."

    def __call__(
        self,
        prediction: ArrayLike,
        target: ArrayLike,
        *,
        reduction: Reduction | None = None,
        margin: float | None = None,
        power: Literal[1, 2] | None = None,
        rivals: Literal["mean", "max"] | None = None,
    ) -> Array:
        """Return the loss; see the class."""
        loss = self._with(reduction=reduction, margin=margin, power=power, rivals=rivals)
        return loss._value(prediction, target)

    def _check_options(self) -> None:
        super()._check_options()
        require_real(self.__name__, "margin", self.margin, lambda m: m > 0, "a number > 0")
        require_in(self.__name__, "power", self.power, (1, 2))
        require_in(self.__name__, "rivals", self.rivals, ("mean", "max"))

    def _operands(self, prediction: Any, target: Any) -> tuple[Array, _Target]:
        who = self.__name__
        p = require_float(who, "prediction", prediction)
        labels = require_labels(who, "target", target, "iu")
        if labels.dtype.kind == "f":
            require_same_dtype(who, prediction=p, target=labels)
        shape = tuple(p.shape)
        if tuple(labels.shape) == shape:
            signs = labels if labels.dtype == p.dtype else labels.astype(p.dtype)
            advice = "Class numbers have an axis less than the scores."
            signs = check_entries(who, "target", signs, lambda t: abs(t) == 1, "-1 or 1", advice)
            return p, _Target(signs, None, None)
        if not shape or shape[-1] == 0 or tuple(labels.shape) != shape[:-1]:
            wanted = f"of shape {shape}, signs, or {shape[:-1]}, class numbers"
            raise ShapeError(sentence(who, "target", wanted, str(tuple(labels.shape))))
        if labels.dtype.kind == "f":
            advice = f"Convert them: `target.astype(int)`; signs have the shape {shape}."
            got = f"a {labels.dtype} array"
            raise DtypeError(sentence(who, "target", "integers, class numbers", got, advice))
        return p, _Target(None, labels, check_class_numbers(who, labels, shape[-1], "target"))

    def _examples(self, p: Any, t: _Target) -> int:
        return math.prod((p if t.numbers is None else t.numbers).shape)

    def _short(self, p: Any, t: _Target) -> tuple[Any, Any]:
        """What is missing to the margin, of each example or of each rival, and where the label is."""
        if t.signs is not None:
            return self.margin - t.signs * p, None
        hit = beside_classes(t.numbers, p.shape[-1])
        mine = np.where(hit, p, 0.0).sum(axis=-1)
        if self.rivals == "max":
            return self.margin - mine + np.where(hit, -math.inf, p).max(axis=-1), hit
        return np.where(hit, 0.0, self.margin - mine[..., None] + p), hit

    def _each(self, p: Any, t: _Target) -> Any:
        short, hit = self._short(p, t)
        missed = relu(short) if self.power == 1 else np.square(relu(short))
        if hit is not None and self.rivals == "mean":
            missed = missed.sum(axis=-1) / p.shape[-1]
        return poison(missed, t.right)

    def _slope(self, short: Any) -> tuple[Any, Any]:
        """First and second derivative of what is lost in what is missing."""
        missed = np.where(short > 0.0, np.full_like(short, 1.0), 0.0)
        return (missed, 0.0 * missed) if self.power == 1 else (2.0 * relu(short), 2.0 * missed)

    def _directions(self, p: Any, hit: Any) -> Any:
        """The derivative of what is missing to the strongest rival, in the scores."""
        rivals = np.where(hit, -math.inf, p)
        strongest = rivals == rivals.max(axis=-1, keepdims=True)
        share = np.where(strongest, np.full_like(p, 1.0), 0.0)
        return np.where(hit, -1.0, share / share.sum(axis=-1, keepdims=True))

    def _gradient(self, p: Any, t: _Target) -> Any:
        short, hit = self._short(p, t)
        slope, _ = self._slope(short)
        if hit is None:
            return -t.signs * slope
        if self.rivals == "max":
            gradient = slope[..., None] * self._directions(p, hit)
        else:
            gradient = np.where(hit, -slope.sum(axis=-1, keepdims=True), slope) / p.shape[-1]
        return poison(gradient, None if t.right is None else t.right[..., None])

    def _hessian(self, p: Any, t: _Target) -> Any:
        short, hit = self._short(p, t)
        _, bend = self._slope(short)
        if hit is None:
            return bend
        if self.rivals == "max":
            d = self._directions(p, hit)
            hessian = bend[..., None, None] * (d[..., :, None] * d[..., None, :])
        else:
            one = np.where(hit, np.full_like(p, 1.0), 0.0)
            diagonal = np.where(hit, bend.sum(axis=-1, keepdims=True), bend)
            eye = beside(p, np.eye(p.shape[-1], dtype=bool))
            cross = bend[..., :, None] * one[..., None, :] + one[..., :, None] * bend[..., None, :]
            hessian = (np.where(eye, diagonal[..., :, None], 0.0) - cross) / p.shape[-1]
        return poison(hessian, None if t.right is None else t.right[..., None, None])


hinge = Hinge()
