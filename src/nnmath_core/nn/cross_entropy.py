"""Cross entropies of logits: the negative log-likelihoods of a class and of a yes or no."""

from __future__ import annotations

import math

import numpy as np

from nnmath_core.autodiff.transforms import stop_gradient
from nnmath_core.checks import require_float, require_same_dtype, require_shape, sentence
from nnmath_core.errors import ShapeError
from nnmath_core.nn.labels import (
    beside_classes,
    check_class_numbers,
    check_probabilities,
    check_unit_interval,
    poison,
    require_labels,
)
from nnmath_core.nn.reduction import Reduction, reduce_examples, require_reduction
from nnmath_core.special import logsumexp
from nnmath_core.typing import Array, ArrayLike

__all__ = ["binary_cross_entropy", "softmax_cross_entropy"]


def softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, reduction: Reduction = "none"
) -> Array:
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
        One number per example, their sum or their mean.

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
        mean over no examples; an unknown ``reduction``.

    Notes
    -----
    With class numbers the relative error of value and gradient is a few ``eps * (k + d)``, where
    ``d`` is the largest difference of logits, however small the loss is: nothing is subtracted from
    the logarithm of a sum. With rows it is the absolute error that has this bound.
    The gradient in the logits is ``softmax(logits) - p``, the Hessian
    ``diag(s) - s s'`` with ``s = softmax(logits)``.

    While a function is staged labels have no values: one that is wrong then gives NaN.
    On a CUDA device the check of the labels waits for the device.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> z = np.array([[2.0, 0.0, 0.0], [0.0, 1e4, 0.0]])
    >>> nm.nn.softmax_cross_entropy(z, np.array([0, 1]))
    array([0.23954477, 0.        ])
    >>> nm.nn.softmax_cross_entropy(z, np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]))
    array([1.23954477, 0.        ])
    """
    who = "softmax_cross_entropy"
    logits = require_float(who, "logits", logits)
    labels = require_labels(who, "labels", labels, "iu")
    shape = tuple(logits.shape)
    if not shape or shape[-1] == 0:
        wanted = "of shape (..., k), a column for each class"
        raise ShapeError(sentence(who, "logits", wanted, str(shape)))
    require_reduction(who, reduction, math.prod(shape[:-1]))
    if labels.dtype.kind == "f":
        require_same_dtype(who, logits=logits, labels=labels)
        advice = "Class numbers are integers: `labels.astype(int)`."
        require_shape(who, "labels", labels, shape, advice)
        losses = _of_rows(logits, labels, check_probabilities(who, labels))
    else:
        advice = "A label for each row; one-hot rows are floats: `labels.astype(logits.dtype)`."
        require_shape(who, "labels", labels, shape[:-1], advice)
        losses = _of_classes(logits, labels, check_class_numbers(who, labels, shape[-1]))
    return reduce_examples(losses, reduction)


def _shifted(logits: Array) -> Array:
    """Return the logits less the largest of each row: the losses do not change, nor do derivatives.

    Differences of logits are exact where they are small, sums of large ones would not be.
    """
    largest: Array = stop_gradient(logits).max(axis=-1, keepdims=True)
    return logits - largest


def _of_classes(logits: Array, labels: Array, right: Array | None) -> Array:
    z = _shifted(logits)
    hit = beside_classes(labels, z.shape[-1])
    mine = np.where(hit, z, 0.0).sum(axis=-1)
    others = logsumexp(np.where(hit, -math.inf, z), axis=-1)
    return poison(np.logaddexp(0.0, others - mine), right)


def _of_rows(logits: Array, rows: Array, right: Array | None) -> Array:
    z = _shifted(logits)
    total = logsumexp(z, axis=-1, keepdims=True)
    # 0 log 0 = 0: a class that is excluded on both sides adds nothing
    excluded = np.logical_and(rows == 0.0, z == -math.inf)
    losses = (rows * (total - np.where(excluded, 0.0, z))).sum(axis=-1)
    return poison(losses, right)


def binary_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, *, reduction: Reduction = "none"
) -> Array:
    r"""Cross entropy between targets and the logistic function of logits, in nats.

    .. math::
        \ell = -t \log \sigma(z) - (1 - t) \log(1 - \sigma(z))
             = t \operatorname{softplus}(-z) + (1 - t) \operatorname{softplus}(z)

    Parameters
    ----------
    logits : array, float32 or float64
        Log-odds of the class 1, finite, of any shape; each entry is an example of its own.
    targets : array, shape of ``logits``
        Booleans, the integers 0 and 1, or probabilities in [0, 1] of the dtype of ``logits``.
    reduction : {"none", "sum", "mean"}, default "none"
        One number per entry, their sum or their mean.

    Returns
    -------
    array, shape of ``logits`` or (), dtype of ``logits``
        Nats, >= 0.

    Raises
    ------
    DtypeError
        ``logits`` is no array of floats, or ``targets`` of another kind than above.
    ShapeError
        The two differ in shape; nothing is broadcast.
    DomainError
        A target is outside [0, 1] (the message names the first); the mean over no entries; an
        unknown ``reduction``.

    Notes
    -----
    The relative error of value and gradient is a few ``eps * (1 + |z|)``, however small they are.
    The derivative in the logit is ``sigma(z) - t``, the second one ``sigma(z) * sigma(-z)``.
    While a function is staged targets have no values: one that is wrong then gives NaN.
    On a CUDA device the check of the targets waits for the device.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.binary_cross_entropy(np.array([0.0, 40.0, -1e4]), np.array([1, 1, 1]))
    array([6.93147181e-01, 4.24835426e-18, 1.00000000e+04])
    """
    who = "binary_cross_entropy"
    logits = require_float(who, "logits", logits)
    targets = require_labels(who, "targets", targets, "iub")
    if targets.dtype.kind == "f":
        require_same_dtype(who, logits=logits, targets=targets)
    advice = "Nothing is broadcast: (n, 1) against (n,) would be n * n losses."
    require_shape(who, "targets", targets, tuple(logits.shape), advice)
    require_reduction(who, reduction, math.prod(logits.shape))
    right = check_unit_interval(who, targets)
    t = targets if targets.dtype == logits.dtype else targets.astype(logits.dtype)
    losses = t * np.logaddexp(0.0, -logits) + (1.0 - t) * np.logaddexp(0.0, logits)
    return reduce_examples(poison(losses, right), reduction)
