"""InfoNCE: pairs that belong together are told from those that do not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core.autodiff.ops.conventions import beside
from nnmath_core.autodiff.transforms import stop_gradient
from nnmath_core.checks import (
    require_float,
    require_in,
    require_real,
    require_same_dtype,
    require_shape,
    sentence,
)
from nnmath_core.errors import DomainError, ShapeError
from nnmath_core.nn.cross_entropy import softmax_cross_entropy
from nnmath_core.nn.labels import check_entries
from nnmath_core.nn.loss import Loss, same_operands
from nnmath_core.nn.reduction import Reduction
from nnmath_core.typing import Array, ArrayLike

__all__ = ["InfoNCE", "info_nce"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class InfoNCE(Loss):
    r"""Cross entropy of finding each query's key among the keys of the batch.

    .. math::
        \ell_i = -\log \frac{\exp(s_{ii} / T)}{\sum_{j=1}^{n} \exp(s_{ij} / T)}, \qquad
        s_{ij} = \frac{q_i \cdot k_j}{|q_i| |k_j|}

    Parameters
    ----------
    queries, keys : array, shape (n, d), float32 or float64
        Row i of one belongs to row i of the other; the other rows are the negatives. Both are differentiated.
    reduction : {"none", "sum", "mean"}, default "none"
        One number per pair, their sum or their mean.
    temperature : float or array of shape (), default 0.1
        T > 0 and finite. (MoCo and CLIP start with 0.07, SimCLR with 0.5.) An array, of the dtype of the queries, is
        differentiated, and learnt where the loss is part of a model; CLIP learns ``log T``: ``temperature=np.exp(s)``.
    symmetric : bool, default False
        Whether the loss is the mean of both directions, queries among keys and keys among queries, as in CLIP.
    normalize : bool, default True
        Whether similarities are cosines; False takes inner products.

    Returns
    -------
    array, shape (n,) or (), dtype of ``queries``
        Nats, >= 0.

    Raises
    ------
    DtypeError
        An argument is no array of floats, or they differ in dtype.
    ShapeError
        Queries and keys differ in shape, or are not of shape (n, d); ``temperature`` has axes.
    DomainError
        ``temperature`` is not positive and finite (a traced one is not looked at); the mean over no pairs.

    Notes
    -----
    With cosines a loss is between ``log(1 + (n - 1) exp(-2 / T))`` and ``log(1 + (n - 1) exp(2 / T))``; of keys that
    are all alike it is ``log n``. ``log(n) - mean`` is a lower bound of the mutual information of queries and keys in
    expectation, and never above ``log n``: `mutual_information`. A row of zeros has the similarity 0 to all, with
    derivative 0 in that row. Relative error: a few ``eps (n + d / T)``.

    References
    ----------
    van den Oord et al., "Representation learning with contrastive predictive coding", 2018.
    Radford et al., "Learning transferable visual models from natural language supervision", 2021 (symmetric).

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> q = np.eye(3)
    >>> nm.nn.info_nce(q, q, temperature=0.5).round(6)  # log(1 + 2 exp(-2))
    array([0.239545, 0.239545, 0.239545])
    >>> round(float(nm.nn.info_nce.replace(temperature=0.5).mutual_information(q, q)), 6)
    0.859068
    """

    temperature: float | Array = 0.1
    symmetric: bool = False
    normalize: bool = True

    __name__ = "info_nce"
    link = "softmax"

    @property
    def likelihood(self) -> str:
        """Which key of the batch it is."""
        return "categorical(logits=similarities / temperature) of which key of the batch belongs to a query"

    @property
    def constant(self) -> str:
        """Nothing."""
        return "0: the value is -log p already"

    _why_none = "What it is a likelihood of depends on the batch."

    def __call__(
        self,
        queries: ArrayLike,
        keys: ArrayLike,
        *,
        reduction: Reduction | None = None,
        temperature: float | Array | None = None,
        symmetric: bool | None = None,
        normalize: bool | None = None,
    ) -> Array:
        """Return the loss; see the class."""
        loss = self._with(
            reduction=reduction, temperature=temperature, symmetric=symmetric, normalize=normalize
        )
        return loss._value(queries, keys)

    def mutual_information(self, queries: ArrayLike, keys: ArrayLike) -> Array:
        """Return the lower bound of the mutual information that the pairs give.

        Parameters
        ----------
        queries, keys : array, shape (n, d)
            As for the call.

        Returns
        -------
        array, shape ()
            Nats, at most ``log(n)``: a bound for the expectation over batches, not for a single one.

        Raises
        ------
        DomainError
            There are no pairs.
        """
        p, t = self._operands(queries, keys)
        n = p.shape[0]
        if not n:
            raise DomainError("info_nce.mutual_information: the mean over no pairs is undefined.")
        bound: Array = math.log(n) - self._each(p, t).sum() / n
        return bound

    def _check_options(self) -> None:
        who, wanted = self.__name__, "positive and finite"
        if hasattr(self.temperature, "shape"):
            require_float(who, "temperature", self.temperature)
        else:
            require_real(who, "temperature", self.temperature, lambda t: 0.0 < t < math.inf, wanted)
        require_in(who, "symmetric", self.symmetric, (False, True))
        require_in(who, "normalize", self.normalize, (False, True))

    def _checked_temperature(self, p: Any) -> Any:
        t: Any = self.temperature
        if not hasattr(t, "shape"):
            return float(t)
        require_same_dtype(self.__name__, queries=p, temperature=t)
        require_shape(self.__name__, "temperature", t, ())
        return check_entries(self.__name__, "temperature", t, _possible, "positive and finite")

    def _operands(self, prediction: Any, target: Any) -> tuple[Array, Array]:
        names = ("queries", "keys")
        queries, keys = same_operands(self.__name__, prediction, target, names)
        if len(queries.shape) != 2 or not queries.shape[1]:
            wanted = "of shape (n, d) with d >= 1, a row for each pair"
            raise ShapeError(sentence(self.__name__, "queries", wanted, str(tuple(queries.shape))))
        return queries, keys

    def _examples(self, p: Any, t: Any) -> int:
        return int(p.shape[0])

    def _each(self, p: Any, t: Any) -> Array:
        n, temperature = p.shape[0], self._checked_temperature(p)
        if not n:
            none: Array = p.sum(axis=1)
            return none
        if self.normalize:
            p, t = _unit(p), _unit(t)
        scores = (p @ t.T) / temperature
        places = beside(scores, np.arange(n))
        losses: Array = softmax_cross_entropy(scores, places)
        if self.symmetric:
            losses = 0.5 * (losses + softmax_cross_entropy(scores.T, places))
        return losses


def _possible(t: Array) -> Array:
    inside: Array = (t > 0.0) & (t < math.inf)
    return inside


def _unit(x: Array) -> Array:
    """Rows over their lengths, of zeros zeros; the largest entry first, whose square could overflow or vanish."""
    top = abs(stop_gradient(x)).max(axis=-1, keepdims=True)
    zero = np.equal(top, 0.0)
    scaled = x / np.where(zero, 1.0, top)
    length = np.sqrt(np.where(zero, 1.0, np.square(scaled).sum(axis=-1, keepdims=True)))
    unit: Array = np.where(zero, 0.0, scaled / length)
    return unit


info_nce = InfoNCE()
