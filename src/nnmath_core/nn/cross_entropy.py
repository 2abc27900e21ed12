"""The cross entropy of classes: the negative log-likelihood of a label."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from nnmath_core._ext._autodiff import value_of
from nnmath_core.autodiff.ops.conventions import beside, is_staged
from nnmath_core.autodiff.transforms import stop_gradient
from nnmath_core.checks import (
    describe,
    require_float,
    require_int,
    require_real,
    require_same_dtype,
    require_shape,
    sentence,
)
from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.nn.labels import (
    beside_classes,
    check_class_numbers,
    check_entries,
    check_probabilities,
    poison,
    require_labels,
)
from nnmath_core.nn.loss import Likelihood
from nnmath_core.nn.reduction import Reduction
from nnmath_core.random import categorical
from nnmath_core.special import logsumexp, softmax
from nnmath_core.typing import Array, ArrayLike

__all__ = ["SoftmaxCrossEntropy", "softmax_cross_entropy"]

_MIN = -(2**63)


class _Target(NamedTuple):
    """Class numbers or rows, where a label counts (None: everywhere) and where it is right (None: everywhere)."""

    numbers: Any
    rows: Any
    kept: Any
    right: Any


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SoftmaxCrossEntropy(Likelihood):
    r"""Cross entropy between labels and the softmax of logits, in nats.

    .. math::
        \ell = -\sum_k p_k \log \operatorname{softmax}(z)_k
             = \sum_k p_k (\operatorname{logsumexp}(z) - z_k)

    with :math:`p` the row of the class :math:`y`, one there and zero elsewhere, where the labels
    are class numbers; then :math:`\ell = \operatorname{softplus}(\operatorname{logsumexp}_{k \ne
    y}(z_k) - z_y)`.

    Parameters
    ----------
    logits : array, shape (..., k), float32 or float64
        Scores, a column for each class, before any softmax. An entry of -inf excludes a class.
    labels : array, shape (...), of integers in [0, k); or shape (..., k), dtype of ``logits``
        Class numbers, or rows of probabilities: >= 0, summing to 1 within ``4 * k * eps``.
    reduction : {"none", "sum", "mean"}, default "none"
        One number per example, their sum or their mean. The mean of labels with class weights is divided by the sum of
        the weights of the labels, ignored ones left out, as PyTorch does; that of rows by the number of rows.
    full : bool, default False
        Adds nothing: the value is ``-log p`` already.
    label_smoothing : float in [0, 1], default 0
        Mixes the rows with the uniform one: ``p * (1 - s) + s / k``.
    class_weights : array, shape (k,), dtype of ``logits``, optional
        A factor >= 0 for each class, of its term in the sum. It is not trained with a model that holds the loss.
    ignore_label : int, optional
        A class number whose examples have the loss 0 and do not count in a mean; it may be out of range.

    Returns
    -------
    array, shape (...) or (), dtype of ``logits``
        Nats, >= 0.

    Raises
    ------
    DtypeError
        ``logits`` is no array of floats, or ``labels`` of another kind than above.
    ShapeError
        ``labels`` does not fit ``logits``, or there are no classes.
    DomainError
        A class number is out of range, or a row no probability (the message names the first); the
        mean over no examples, or over ignored ones alone; an option is out of its domain.

    Notes
    -----
    With class numbers the relative error of value and gradient is a few ``eps * (k + d)``, where
    ``d`` is the largest difference of logits, however small the loss is: nothing is subtracted from
    the logarithm of a sum. With rows, or smoothing, it is the absolute error that has this bound.
    The gradient in the logits is ``softmax(logits) - p``, the Hessian
    ``diag(s) - s s'`` with ``s = softmax(logits)``, which is the Fisher information, too.

    While a function is staged labels have no values: one that is wrong then gives NaN, and so does the mean
    over ignored labels alone. On a CUDA device the check of the labels waits for the device.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> z = np.array([[2.0, 0.0, 0.0], [0.0, 1e4, 0.0]])
    >>> nm.nn.softmax_cross_entropy(z, np.array([0, 1]))
    array([0.23954477, 0.        ])
    >>> nm.nn.softmax_cross_entropy(z, np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]))
    array([1.23954477, 0.        ])
    >>> nm.nn.softmax_cross_entropy(z, np.array([0, -1]), ignore_label=-1, reduction="mean").round(6)
    np.float64(0.239545)
    """

    label_smoothing: float = 0.0
    class_weights: Any = field(default=None, metadata={"buffer": True})
    ignore_label: int | None = None

    __name__ = "softmax_cross_entropy"
    link = "softmax"

    @property
    def likelihood(self) -> str:
        """Labels."""
        text = "categorical(logits=prediction)"
        if self.label_smoothing:
            text += f", labels mixed with {self.label_smoothing:.6g} of the uniform distribution"
        if self.class_weights is not None:
            text += ", a label counted class_weights[label] times"
        return text

    @property
    def constant(self) -> str:
        """Nothing."""
        return "0: the value is -log p already"

    def __call__(
        self,
        logits: ArrayLike,
        labels: ArrayLike,
        *,
        reduction: Reduction | None = None,
        full: bool | None = None,
        label_smoothing: float | None = None,
        class_weights: ArrayLike | None = None,
        ignore_label: int | None = None,
    ) -> Array:
        """Return the loss; see the class."""
        loss = self._with(
            reduction=reduction,
            full=full,
            label_smoothing=label_smoothing,
            class_weights=class_weights,
            ignore_label=ignore_label,
        )
        return loss._value(logits, labels)

    def _check_options(self) -> None:
        super()._check_options()
        who = self.__name__
        wanted = "a number in [0, 1]"
        require_real(who, "label_smoothing", self.label_smoothing, lambda s: 0 <= s <= 1, wanted)
        if self.ignore_label is not None:
            require_int(who, "ignore_label", self.ignore_label, minimum=_MIN)
        if self.class_weights is not None:
            require_float(who, "class_weights", self.class_weights)

    def _weights(self, z: Any) -> Any:
        """The checked class weights, or None."""
        if self.class_weights is None:
            return None
        who = self.__name__
        w = require_float(who, "class_weights", self.class_weights)
        require_same_dtype(who, logits=z, class_weights=w)
        require_shape(who, "class_weights", w, tuple(z.shape[-1:]), "A weight for each class.")
        return check_entries(who, "class_weights", w, lambda w: w >= 0, ">= 0")

    def _checked_prediction(self, prediction: Any) -> Any:
        logits = require_float(self.__name__, "logits", prediction)
        shape = tuple(logits.shape)
        if not shape or shape[-1] == 0:
            wanted = "of shape (..., k), a column for each class"
            raise ShapeError(sentence(self.__name__, "logits", wanted, str(shape)))
        return logits

    def _operands(self, prediction: Any, target: Any) -> tuple[Array, _Target]:
        who = self.__name__
        logits = self._checked_prediction(prediction)
        labels = require_labels(who, "labels", target, "iub")
        shape = tuple(logits.shape)
        advice = "Class numbers are integers: `labels.astype(int)`."
        if labels.dtype.kind == "b":
            wanted = "an array of integers, or of floats as `logits`"
            raise DtypeError(sentence(who, "labels", wanted, describe(labels), advice))
        if labels.dtype.kind == "f":
            require_shape(who, "labels", labels, shape, advice)
            require_same_dtype(who, logits=logits, labels=labels)
            if self.ignore_label is not None:
                raise DomainError(
                    f"{who}: `ignore_label` is a class number, and `labels` are rows of "
                    "probabilities. Weight the examples instead."
                )
            return logits, _Target(None, labels, None, check_probabilities(who, labels))
        advice = "A label for each row; one-hot rows are floats: `labels.astype(logits.dtype)`."
        require_shape(who, "labels", labels, shape[:-1], advice)
        kept = None
        if self.ignore_label is not None and _holds(labels.dtype, self.ignore_label):
            kept = np.not_equal(labels, self.ignore_label)
            labels = np.where(kept, labels, 0)
        right = check_class_numbers(who, labels, shape[-1])
        return logits, _Target(labels, None, kept, right)

    def _examples(self, p: Any, t: Any) -> int:
        return math.prod(p.shape[:-1])

    # ------------------------------------------------------------------------------ the value
    def _each(self, p: Any, t: _Target) -> Any:
        z, weights = _shifted(p), self._weights(p)
        if t.rows is not None:
            return poison(_of_rows(z, self._smoothed(t.rows, weights)), t.right)
        hit = beside_classes(t.numbers, z.shape[-1])
        mine = np.where(hit, z, 0.0).sum(axis=-1)
        others = logsumexp(np.where(hit, -math.inf, z), axis=-1)
        losses = np.logaddexp(0.0, others - mine)
        if weights is not None:
            losses = np.where(hit, weights, 0.0).sum(axis=-1) * losses
        if self.label_smoothing:
            share = self.label_smoothing / z.shape[-1]
            evenly = np.full_like(z, share) if weights is None else np.full_like(z, share) * weights
            losses = (1.0 - self.label_smoothing) * losses + _of_rows(z, evenly)
        if t.kept is not None:
            losses = np.where(t.kept, losses, 0.0)
        return poison(losses, t.right)

    def _smoothed(self, rows: Any, weights: Any) -> Any:
        """Rows mixed with the uniform one, each class with its weight."""
        if self.label_smoothing:
            share = self.label_smoothing / rows.shape[-1]
            rows = (1.0 - self.label_smoothing) * rows + share
        return rows if weights is None else rows * weights

    def _reduced(self, losses: Any, p: Any, t: _Target) -> Any:
        if self.reduction != "mean":
            return super()._reduced(losses, p, t)
        total = self._weight_of_mean(p, t)
        return losses.sum() / total

    def _weight_of_mean(self, p: Any, t: _Target | None) -> Any:
        if t is None or t.rows is not None or (t.kept is None and self.class_weights is None):
            return self._examples(p, t)
        weights = self._weights(p)
        if weights is None:
            counted = t.kept.astype(p.dtype)
        else:
            counted = np.where(beside_classes(t.numbers, p.shape[-1]), weights, 0.0).sum(axis=-1)
            counted = counted if t.kept is None else np.where(t.kept, counted, 0.0)
        total = counted.sum()
        if not is_staged(total) and not np.all(value_of(total) > 0):
            raise DomainError(
                f"{self.__name__}: the mean over examples that are all ignored, or have the "
                'weight 0, is undefined. Leave out such batches, or take `reduction="sum"`.'
            )
        return np.where(total > 0, total, math.nan)

    # ------------------------------------------------------------------------ its derivatives
    def _rows(self, p: Any, t: _Target) -> Any:
        """What the logarithms of the probabilities are multiplied by, as rows."""
        weights = self._weights(p)
        if t.rows is not None:
            return self._smoothed(
                poison(t.rows, None if t.right is None else t.right[..., None]), weights
            )
        hit = beside_classes(t.numbers, p.shape[-1])
        one = np.where(hit, np.full_like(p, 1.0), 0.0)
        if self.label_smoothing and weights is not None:
            mine = np.where(hit, weights, 0.0)
            share = self.label_smoothing / p.shape[-1]
            rows = (1.0 - self.label_smoothing) * mine + share * weights
        else:
            rows = self._smoothed(one, weights)
        if t.kept is not None:
            rows = np.where(t.kept[..., None], rows, 0.0)
        return poison(rows, None if t.right is None else t.right[..., None])

    def _gradient(self, p: Any, t: _Target) -> Any:
        if t.rows is None and not self.label_smoothing:
            return self._of_labels(p, t)
        s, rest = _probabilities(p)
        rows = self._rows(p, t)
        return s * (rows.sum(axis=-1, keepdims=True) - rows) - rows * rest

    def _of_labels(self, p: Any, t: _Target) -> Any:
        """The gradient where one class of each row counts: no complement but its own is needed."""
        e = np.exp(_shifted(p))
        hit = beside_classes(t.numbers, p.shape[-1])
        others = np.where(hit, 0.0, e).sum(axis=-1, keepdims=True)
        rows = np.where(hit, -others, e) / e.sum(axis=-1, keepdims=True)
        weights = self._weights(p)
        if weights is not None:
            rows = np.where(hit, weights, 0.0).sum(axis=-1, keepdims=True) * rows
        if t.kept is not None:
            rows = np.where(t.kept[..., None], rows, 0.0)
        return poison(rows, None if t.right is None else t.right[..., None])

    def _hessian(self, p: Any, t: _Target) -> Any:
        total = self._rows(p, t).sum(axis=-1)
        return total[..., None, None] * _covariance(p)

    def _fisher(self, p: Any) -> Any:
        weights = self._weights(p)
        if weights is None:
            return _covariance(p)
        if self.reduction == "mean":
            raise DomainError(
                f"{self.__name__}: `fisher` of a mean with class weights is undefined: the mean is "
                'divided by the weights of the labels. Take `reduction="sum"`.'
            )
        expected = (1.0 - self.label_smoothing) * (softmax(p, axis=-1) * weights).sum(axis=-1)
        expected = expected + self.label_smoothing * weights.mean()
        return expected[..., None, None] * _covariance(p)

    def _mean(self, p: Any) -> Any:
        return softmax(p, axis=-1)

    def _draw(self, key: Any, p: Any) -> Any:
        return categorical(key, p)


def _holds(dtype: Any, label: int) -> bool:
    """Whether integers of a dtype can be that label at all."""
    info = np.iinfo(dtype)
    return bool(info.min <= label <= info.max)


def _shifted(logits: Array) -> Array:
    """Return the logits less the largest of each row: the losses do not change, nor do derivatives.

    Differences of logits are exact where they are small, sums of large ones would not be.
    """
    largest: Array = stop_gradient(logits).max(axis=-1, keepdims=True)
    return logits - largest


def _of_rows(z: Array, rows: Array) -> Any:
    total = logsumexp(z, axis=-1, keepdims=True)
    # 0 log 0 = 0: a class that is excluded on both sides adds nothing
    excluded = np.logical_and(rows == 0.0, z == -math.inf)
    return (rows * (total - np.where(excluded, 0.0, z))).sum(axis=-1)


def _probabilities(logits: Any) -> tuple[Any, Any]:
    """Return the softmax s and 1 - s, both with a small relative error.

    Only the largest can be near 1: its complement is the sum of the others.
    """
    e = np.exp(_shifted(logits))
    first = beside_classes(stop_gradient(logits).argmax(axis=-1), logits.shape[-1])
    others = np.where(first, 0.0, e).sum(axis=-1, keepdims=True)
    total = e.sum(axis=-1, keepdims=True)
    return e / total, np.where(first, others, total - e) / total


def _covariance(logits: Any) -> Any:
    """Return diag(s) - s s' of the probabilities of each row."""
    s, rest = _probabilities(logits)
    diagonal = beside(logits, np.eye(logits.shape[-1], dtype=bool))
    return np.where(diagonal, (s * rest)[..., :, None], -(s[..., :, None] * s[..., None, :]))


softmax_cross_entropy = SoftmaxCrossEntropy()
