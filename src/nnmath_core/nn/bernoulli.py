"""The cross entropy of a yes or no: the negative log-likelihood of coins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnmath_core.checks import require_float, require_real, require_same_dtype, require_shape
from nnmath_core.nn.labels import check_unit_interval, poison, require_labels
from nnmath_core.nn.loss import Likelihood, option_of_entries
from nnmath_core.nn.reduction import Reduction
from nnmath_core.random import bernoulli
from nnmath_core.special import expit
from nnmath_core.typing import Array, ArrayLike

__all__ = ["BinaryCrossEntropy", "binary_cross_entropy"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class BinaryCrossEntropy(Likelihood):
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
    full : bool, default False
        Adds nothing: the value is ``-log p`` already.
    label_smoothing : float in [0, 1], default 0
        Mixes the targets with one half: ``t * (1 - s) + s / 2``.
    pos_weight : float or array, default 1
        Factor of the first term, >= 0: how often an entry counts whose target is 1. An array, of the dtype of
        ``logits``, broadcasts against them. It is not trained with a model that holds the loss.

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
        option is out of its domain.

    Notes
    -----
    The relative error of value and gradient is a few ``eps * (1 + |z|)``, however small they are.
    The derivative in the logit is ``sigma(z) - t``, the second one ``sigma(z) * sigma(-z)``, which is the Fisher
    information, too. The mean divides by the number of entries whatever ``pos_weight`` is, as PyTorch does.
    While a function is staged targets have no values: one that is wrong then gives NaN.
    On a CUDA device the check of the targets waits for the device.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.binary_cross_entropy(np.array([0.0, 40.0, -1e4]), np.array([1, 1, 1]))
    array([6.93147181e-01, 4.24835426e-18, 1.00000000e+04])
    """

    label_smoothing: float = 0.0
    pos_weight: Any = field(default=1.0, metadata={"buffer": True})

    __name__ = "binary_cross_entropy"
    link = "logit"

    @property
    def likelihood(self) -> str:
        """Coins."""
        text = "bernoulli(logits=prediction)"
        if self.label_smoothing:
            text += f", targets mixed with {self.label_smoothing:.6g} of one half"
        return text if self._is_plain() else f"{text}, a target of 1 counted pos_weight times"

    @property
    def constant(self) -> str:
        """Nothing."""
        return "0: the value is -log p already"

    def __call__(
        self,
        logits: ArrayLike,
        targets: ArrayLike,
        *,
        reduction: Reduction | None = None,
        full: bool | None = None,
        label_smoothing: float | None = None,
        pos_weight: ArrayLike | float | None = None,
    ) -> Array:
        """Return the loss; see the class."""
        loss = self._with(
            reduction=reduction, full=full, label_smoothing=label_smoothing, pos_weight=pos_weight
        )
        return loss._value(logits, targets)

    def _check_options(self) -> None:
        super()._check_options()
        require_real(
            self.__name__,
            "label_smoothing",
            self.label_smoothing,
            lambda s: 0 <= s <= 1,
            "a number in [0, 1]",
        )

    def _is_plain(self) -> bool:
        return not hasattr(self.pos_weight, "shape") and self.pos_weight == 1.0

    def _weight(self, z: Any) -> Any:
        """The checked factor of the ones."""
        return option_of_entries(
            self.__name__, "pos_weight", self.pos_weight, z, lambda w: w >= 0, ">= 0"
        )

    def _checked_prediction(self, prediction: Any) -> Array:
        return require_float(self.__name__, "logits", prediction)

    def _operands(self, prediction: Any, target: Any) -> tuple[Array, Array]:
        who = self.__name__
        z = self._checked_prediction(prediction)
        targets = require_labels(who, "targets", target, "iub")
        if targets.dtype.kind == "f":
            require_same_dtype(who, logits=z, targets=targets)
        advice = "Nothing is broadcast: (n, 1) against (n,) would be n * n losses."
        require_shape(who, "targets", targets, tuple(z.shape), advice)
        right = check_unit_interval(who, targets)
        t = targets if targets.dtype == z.dtype else targets.astype(z.dtype)
        t = poison(t, right)
        if self.label_smoothing:
            t = t * (1.0 - self.label_smoothing) + 0.5 * self.label_smoothing
        return z, t

    def _each(self, p: Any, t: Any) -> Any:
        ones = t * np.logaddexp(0.0, -p)
        return self._weight(p) * ones + (1.0 - t) * np.logaddexp(0.0, p)

    def _gradient(self, p: Any, t: Any) -> Any:
        return (1.0 - t) * expit(p) - self._weight(p) * (t * expit(-p))

    def _hessian(self, p: Any, t: Any) -> Any:
        return (self._weight(p) * t + (1.0 - t)) * (expit(p) * expit(-p))

    def _fisher(self, p: Any) -> Any:
        information: Array = expit(p) * expit(-p)
        if self._is_plain():
            return information
        t = expit(p) * (1.0 - self.label_smoothing) + 0.5 * self.label_smoothing
        return (self._weight(p) * t + (1.0 - t)) * information

    def _mean(self, p: Any) -> Any:
        return expit(p)

    def _draw(self, key: Any, p: Any) -> Any:
        return bernoulli(key, expit(p))


binary_cross_entropy = BinaryCrossEntropy()
