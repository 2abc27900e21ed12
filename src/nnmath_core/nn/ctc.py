"""Connectionist temporal classification: labels of a sequence whose places in time are not known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nnmath_core._ext._autodiff import Tracer, value_of
from nnmath_core.autodiff.control.scan import scan
from nnmath_core.autodiff.ops.conventions import beside, constant
from nnmath_core.checks import require_float, require_in, require_int, sentence
from nnmath_core.device import CPU, backend_for, device_of
from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.nn.labels import poison, require_labels
from nnmath_core.nn.lengths import check_lengths, require_lengths
from nnmath_core.nn.loss import Loss
from nnmath_core.nn.reduction import Reduction
from nnmath_core.nn.softmax import log_softmax
from nnmath_core.special import logsumexp
from nnmath_core.typing import Array, ArrayLike

__all__ = ["CTC", "ctc", "ctc_log_probability"]


class _Target(NamedTuple):
    labels: Array  # (..., l), the blank in place of what does not count
    steps: Array | None  # (...), None: all
    length: Array | None  # (...), None: all
    right: Array | None  # (...), what could not be checked yet


def ctc_log_probability(
    log_probs: Array, labels: Array, steps: Array | None, length: Array | None, blank: int
) -> Array:
    r"""Logarithm of the probability of label sequences: the sum over all their alignments.

    With the labels spread by blanks, :math:`l' = (\emptyset, l_1, \emptyset, \ldots, l_L, \emptyset)`,

    .. math:: \alpha_t(s) = p_t(l'_s) \, (\alpha_{t-1}(s) + \alpha_{t-1}(s - 1) + [l'_s \ne \emptyset,
        l'_s \ne l'_{s-2}] \, \alpha_{t-1}(s - 2))

    from :math:`\alpha_{-1} = (1, 0, 0, \ldots)`, in logarithms; the probability is
    :math:`\alpha_{T-1}(2 L) + \alpha_{T-1}(2 L - 1)`.

    Parameters
    ----------
    log_probs : array, shape (..., t, k)
        Logarithms of the probabilities of the classes at each step.
    labels : integer array, shape (..., l)
        In [0, k).
    steps, length : integer array, shape (...), or None
        How many steps and labels count; None is all of them.
    blank : int
        The class of no label.

    Returns
    -------
    array, shape (...)
        -inf where there is no alignment; its derivative is 0 there.
    """
    batch, (time, _) = tuple(log_probs.shape[:-2]), log_probs.shape[-2:]
    most = labels.shape[-1]
    size = 2 * most + 1
    blanks = constant(labels, (*batch, most, 1), blank, labels.dtype)
    pairs = np.concatenate([blanks, labels[..., None]], axis=-1)
    spread = np.reshape(pairs, (*batch, 2 * most))
    spread = np.concatenate([spread, constant(labels, (*batch, 1), blank, labels.dtype)], axis=-1)
    edge = constant(labels, (*batch, 2), blank, labels.dtype)
    before = np.concatenate([edge, spread], axis=-1)[..., :size]
    may_skip = np.logical_and(spread != blank, spread != before)

    everywhere = np.broadcast_to(spread[..., None, :], (*batch, time, size))
    emitted = np.moveaxis(np.take_along_axis(log_probs, everywhere, axis=-1), -2, 0)
    dtype = log_probs.dtype
    first = constant(log_probs, (*batch, 1), 0.0, dtype)
    nowhere = constant(log_probs, (*batch, size - 1), -math.inf, dtype)
    start = np.concatenate([first, nowhere], axis=-1)
    left = constant(log_probs, (*batch, 2), -math.inf, dtype)

    def step(alpha: Array, row: Any) -> tuple[Array, None]:
        now, counts = row
        padded = np.concatenate([left, alpha], axis=-1)
        skipped = np.where(may_skip, padded[..., :size], -math.inf)
        new = now + logsumexp(np.stack([alpha, padded[..., 1:-1], skipped]), axis=0)
        return (new if counts is None else np.where(counts[..., None], new, alpha)), None

    counts = None
    if steps is not None:
        counts = np.moveaxis(np.less(beside(steps, np.arange(time)), steps[..., None]), -1, 0)
    alpha, _ = scan(step, start, (emitted, counts))
    total: Array
    if length is None:
        total = logsumexp(alpha[..., max(size - 2, 0) :], axis=-1)
        return total
    # the last label, and the blank after it; no labels have the blank alone
    distance = 2 * length[..., None] - beside(length, np.arange(size))
    final = np.logical_and(distance >= 0, distance <= 1)
    total = logsumexp(np.where(final, alpha, -math.inf), axis=-1)
    return total


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CTC(Loss):
    r"""Negative logarithm of the probability of a label sequence whose alignment is not known.

    .. math:: \ell = -\log \sum_{\pi \in B^{-1}(l)} \prod_t \operatorname{softmax}(z_t)_{\pi_t}

    where B removes repetitions, then blanks: the sum is over all paths that read as the labels.

    Parameters
    ----------
    logits : array, shape (..., t, k), float32 or float64
        Scores of the k classes at each step, one of which is the blank. Logarithms of probabilities are logits, too.
    labels : integer array, shape (..., l)
        In [0, k) without the blank; what stands beyond a length is not looked at.
    input_lengths : integer array, shape (...), optional
        How many steps count, in [0, t]; None is t.
    target_lengths : integer array, shape (...), optional
        How many labels count, in [0, l]; None is l.
    reduction : {"none", "sum", "mean"}, default "none"
        One number per sequence, their sum, or, as in PyTorch, the mean of the losses divided each by the number of its
        labels (by 1 where there are none).
    blank : int, default 0
        The class of no label.
    zero_infinity : bool, default False
        Whether the loss of impossible labels is 0 in place of inf.

    Returns
    -------
    array, shape (...) or (), dtype of ``logits``
        Nats, >= 0.

    Raises
    ------
    DtypeError
        ``logits`` is no array of floats; labels or lengths are no integers.
    ShapeError
        They do not fit each other.
    DomainError
        A label is out of range or the blank, a length too long (the message names the first); the mean over no
        sequences.

    Notes
    -----
    Labels that no path can read (more labels and repetitions than steps) have the loss inf, and their derivatives are
    0, not NaN: they have no influence on a gradient, with and without ``zero_infinity``.
    The gradient in the logits is ``softmax(logits)`` minus the probability of each class at each step, given the
    labels; what is beyond ``input_lengths`` has derivative exactly 0. All orders of derivatives are right.
    The recursion is in logarithms; absolute error: ``eps * t`` times a few, relative to the largest logarithm.
    While a function is staged labels and lengths have no values: one that is wrong then gives NaN.
    Time and memory are O(t * l) for each sequence.

    References
    ----------
    Graves et al., "Connectionist temporal classification", 2006.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> z = np.zeros((1, 3, 2))  # three steps, the blank and one label, all as likely
    >>> loss = nm.nn.ctc(z, np.array([[1]]))
    >>> np.exp(-loss)  # 100, 010, 001, 110, 011, 111 of eight paths
    array([0.75])
    >>> nm.nn.ctc(z, np.array([[1, 1]]), input_lengths=np.array([2]))
    array([inf])
    """

    blank: int = 0
    zero_infinity: bool = False

    __name__ = "ctc"
    link = "softmax"

    @property
    def likelihood(self) -> str:
        """Paths that read as the labels."""
        return "labels read from independent categorical(logits=prediction), one at each step"

    @property
    def constant(self) -> str:
        """Nothing."""
        return "0: the value is -log p already"

    _why_none = "Its expectation would be over all label sequences."

    def __call__(
        self,
        logits: ArrayLike,
        labels: ArrayLike,
        *,
        input_lengths: ArrayLike | None = None,
        target_lengths: ArrayLike | None = None,
        reduction: Reduction | None = None,
        blank: int | None = None,
        zero_infinity: bool | None = None,
    ) -> Array:
        """Return the loss; see the class."""
        loss = self._with(reduction=reduction, blank=blank, zero_infinity=zero_infinity)
        return loss._value(logits, (labels, input_lengths, target_lengths))

    def gradient(
        self,
        logits: ArrayLike,
        labels: Any,
        *,
        input_lengths: ArrayLike | None = None,
        target_lengths: ArrayLike | None = None,
    ) -> Array:
        """Return the gradient in the logits.

        Parameters
        ----------
        logits, labels, input_lengths, target_lengths : array
            As for the call.

        Returns
        -------
        array, shape of ``logits``
            That of the sum over the sequences; with ``reduction="mean"`` that of the mean.
        """
        gradient: Array = super().gradient(logits, (labels, input_lengths, target_lengths))
        return gradient

    def _check_options(self) -> None:
        require_int(self.__name__, "blank", self.blank, minimum=0)
        require_in(self.__name__, "zero_infinity", self.zero_infinity, (False, True))

    def _operands(self, prediction: Any, target: Any) -> tuple[Array, _Target]:
        who = self.__name__
        z = require_float(who, "logits", prediction)
        shape = tuple(z.shape)
        if len(shape) < 2:
            wanted = "of shape (..., t, k), scores of k classes at each step"
            raise ShapeError(sentence(who, "logits", wanted, str(shape)))
        if not self.blank < shape[-1]:
            wanted = f"a class, in [0, {shape[-1]})"
            raise DomainError(sentence(who, "blank", wanted, str(self.blank)))
        given, steps, length = target if isinstance(target, tuple) else (target, None, None)
        labels = require_labels(who, "labels", given, "iu")
        if labels.dtype.kind == "f":
            advice = "Class numbers are integers: `labels.astype(int)`."
            wanted = "an array of integers"
            raise DtypeError(sentence(who, "labels", wanted, str(labels.dtype), advice))
        batch = shape[:-2]
        if tuple(labels.shape[:-1]) != batch or not labels.shape:
            wanted = f"of shape {_shape_of_rows(batch, 'l')}, a row for each sequence"
            advice = "Fill short rows up, and pass `target_lengths`."
            raise ShapeError(sentence(who, "labels", wanted, str(tuple(labels.shape)), advice))
        checks = []
        if steps is not None:
            steps = require_lengths(who, "input_lengths", steps, batch)
            why = "the number of steps of `logits`"
            checks.append(check_lengths(who, "input_lengths", steps, shape[-2], why))
        if length is not None:
            length = require_lengths(who, "target_lengths", length, batch)
            why = "the number of `labels` in a row"
            checks.append(check_lengths(who, "target_lengths", length, labels.shape[-1], why))
        labels, right = self._checked_labels(labels, length, shape[-1])
        for check in [right, *checks]:
            if check is not None and check is not right:
                right = check if right is None else np.logical_and(right, check)
        return z, _Target(labels, steps, length, right)

    def _checked_labels(
        self, labels: Array, length: Array | None, classes: int
    ) -> tuple[Array, Array | None]:
        """Labels with the blank where none count, and where they are right if that is not known yet."""
        places = beside(labels, np.arange(labels.shape[-1]))
        counts = None if length is None else np.less(places, length[..., None])
        inside = np.logical_and(labels >= 0, labels < classes)
        fine = np.logical_and(inside, labels != self.blank)
        if counts is not None:
            fine = np.logical_or(fine, np.logical_not(counts))
        right: Array | None = np.all(fine, axis=-1)
        values = value_of(fine)
        if not isinstance(values, Tracer):
            host = _on_host(values)
            if not host.all():
                at = np.unravel_index(int(np.argmin(host)), host.shape)
                got = int(_on_host(value_of(labels))[at])
                index = ", ".join(str(int(i)) for i in at)
                what = f"integers in [0, {classes}) without the blank {self.blank}"
                advice = "Pass `target_lengths` if it is there to fill the row up."
                raise DomainError(
                    sentence(self.__name__, "labels", what, f"{got} at index {index}", advice)
                )
            right = None
        usable = inside if counts is None else np.logical_and(inside, counts)
        return np.where(usable, labels, self.blank), right

    def _examples(self, p: Any, t: Any) -> int:
        return math.prod(p.shape[:-2])

    def _each(self, p: Any, t: _Target) -> Array:
        if t.steps is not None:  # what stands beyond has no influence, NaN included
            counts = np.less(beside(t.steps, np.arange(p.shape[-2])), t.steps[..., None])
            p = np.where(counts[..., None], p, 0.0)
        log_probs = log_softmax(p)
        losses = 0.0 - ctc_log_probability(log_probs, t.labels, t.steps, t.length, self.blank)
        if self.zero_infinity:
            losses = np.where(np.equal(losses, math.inf), 0.0, losses)
        return poison(losses, t.right)

    def _share(self, p: Any, t: _Target) -> Any:
        """What each loss is divided by in the mean, its number of labels times that of sequences."""
        n = self._examples(p, t)
        if t.length is None:
            return float(n * max(t.labels.shape[-1], 1))
        return (n * np.maximum(t.length, 1)).astype(p.dtype)

    def _reduced(self, losses: Array, p: Any, t: Any) -> Array:
        if self.reduction != "mean":
            reduced: Array = super()._reduced(losses, p, t)
            return reduced
        mean: Array = (losses / self._share(p, t)).sum()
        return mean

    def _scaled(self, derivative: Any, p: Any, t: Any) -> Any:
        if self.reduction != "mean":
            return derivative
        share = self._share(p, t)
        scaled: Array = derivative / (share if isinstance(share, float) else share[..., None, None])
        return scaled


def _shape_of_rows(batch: tuple[int, ...], last: str) -> str:
    return f"({', '.join([*map(str, batch), last])}{'' if batch else ','})"


def _on_host(x: Any) -> Array:
    place = device_of(x)
    host: Array = np.asarray(x if place == CPU else backend_for(place).to_host(x))
    return host


ctc = CTC()
