"""Regularisers as priors of the parameters: the strength that is added to a loss, and the scale that it stands for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import shape_of
from nnmath_core._ext._tree import flatten, paths, unflatten
from nnmath_core.checks import (
    describe,
    require_callable,
    require_positive_int,
    require_real,
    sentence,
)
from nnmath_core.errors import DomainError, DtypeError
from nnmath_core.special import erfcx
from nnmath_core.typing import Array, Tree

__all__ = ["Regularizer", "elastic_net", "l1", "l2"]


def l2(
    strength: float | None = None,
    *,
    prior_scale: float | None = None,
    examples: int | None = None,
    only: Callable[[str], bool] | None = None,
) -> Regularizer:
    r"""L2 regulariser: the sum of the squares, a normal prior.

    .. math:: R(w) = \lambda \sum_i w_i^2, \qquad \lambda = \frac{1}{2 \sigma^2 n}

    Parameters
    ----------
    strength : float, optional
        :math:`\lambda \ge 0`, the factor in what is added to the loss.
    prior_scale : float, optional
        :math:`\sigma > 0`, the standard deviation of the prior, instead of the strength.
    examples : int, optional
        With ``prior_scale``: the n of a loss that is the mean over n examples. None is a loss that is their sum, n = 1.
    only : callable, optional
        Of the path of a leaf, as `tree_paths` writes it: whether it is regularised. None is all of them, e.g.
        ``lambda path: path.endswith("weight")`` leaves out biases.

    Returns
    -------
    Regularizer
        Call it with the parameters, and add the number to the loss.

    Raises
    ------
    DomainError, DtypeError
        Both or neither of strength and scale are given, or one is out of its domain.

    Notes
    -----
    A mean of n losses is the n-th part of ``-log p(data)``, and so must be what is added to it, ``-log p(w)``: from
    there comes the n in the strength. The optimizers' ``weight_decay`` has the gradient of ``weight_decay / 2 * w**2``.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> prior = nm.nn.l2(prior_scale=0.5, examples=1000)
    >>> prior, prior.prior_scale(examples=1000)
    (l2(0.002), 0.5)
    >>> round(float(prior({"w": np.array([1.0, 2.0])})), 12)
    0.01
    """
    n = _examples("l2", examples, prior_scale)
    if prior_scale is None:
        return Regularizer(0.0, _strength("l2", strength), only)
    scale = _scale("l2", strength, prior_scale)
    return Regularizer(0.0, 1.0 / (2.0 * scale * scale * n), only)


def l1(
    strength: float | None = None,
    *,
    prior_scale: float | None = None,
    examples: int | None = None,
    only: Callable[[str], bool] | None = None,
) -> Regularizer:
    r"""L1 regulariser: the sum of the absolute values, a Laplace prior.

    .. math:: R(w) = \lambda \sum_i |w_i|, \qquad \lambda = \frac{1}{b \, n}

    Parameters
    ----------
    strength : float, optional
        :math:`\lambda \ge 0`, the factor in what is added to the loss.
    prior_scale : float, optional
        :math:`b > 0`, the mean absolute value of the prior, instead of the strength.
    examples : int, optional
        With ``prior_scale``: the n of a loss that is the mean over n examples. None is a loss that is their sum, n = 1.
    only : callable, optional
        Of the path of a leaf, as `tree_paths` writes it: whether it is regularised.

    Returns
    -------
    Regularizer
        Call it with the parameters, and add the number to the loss.

    Raises
    ------
    DomainError, DtypeError
        Both or neither of strength and scale are given, or one is out of its domain.

    Notes
    -----
    At its minimum many parameters are exactly 0, which no gradient step reaches: the derivative of ``|w|`` at 0 is 0
    by convention and does not know of the kink. `nm.optim.fista` steps onto it.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> lasso = nm.nn.l1(0.5)
    >>> float(lasso(np.array([1.0, -3.0])))
    2.0
    >>> lasso.proximal(np.array([1.0, -3.0, 0.2]), step=1.0)
    array([ 0.5, -2.5,  0. ])
    """
    n = _examples("l1", examples, prior_scale)
    if prior_scale is None:
        return Regularizer(_strength("l1", strength), 0.0, only)
    return Regularizer(1.0 / (_scale("l1", strength, prior_scale) * n), 0.0, only)


def elastic_net(l1: float, l2: float, *, only: Callable[[str], bool] | None = None) -> Regularizer:
    r"""Elastic net: L1 and L2 together, whose prior is their product.

    .. math:: R(w) = \lambda_1 \sum_i |w_i| + \lambda_2 \sum_i w_i^2

    Parameters
    ----------
    l1, l2 : float
        Strengths >= 0. scikit-learn's ``ElasticNet(alpha, l1_ratio)``, with its loss of half of the mean of squares, is
        ``l1 = alpha * l1_ratio`` and ``l2 = alpha * (1 - l1_ratio) / 2``.
    only : callable, optional
        Of the path of a leaf, as `tree_paths` writes it: whether it is regularised.

    Returns
    -------
    Regularizer
        Call it with the parameters, and add the number to the loss.

    Raises
    ------
    DomainError, DtypeError
        A strength is negative or no number.

    References
    ----------
    Zou & Hastie, "Regularization and Variable Selection via the Elastic Net", JRSS B 2005.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> float(nm.nn.elastic_net(l1=1.0, l2=0.5)(np.array([2.0, -2.0])))
    8.0
    """
    return Regularizer(_strength("elastic_net", l1, "l1"), _strength("elastic_net", l2, "l2"), only)


@dataclass(frozen=True, eq=False, repr=False)
class Regularizer:
    r"""What `l2`, `l1` and `elastic_net` make: a number to add to a loss, and the prior that it says.

    Parameters
    ----------
    absolute : float
        :math:`\lambda_1`, the factor of the absolute values.
    square : float
        :math:`\lambda_2`, the factor of the squares.
    only : callable or None
        Of the path of a leaf: whether it is regularised. It is an error when a tree has leaves and none of them is.

    Notes
    -----
    ``regularizer(params)`` is the number; buffers take no part. The prior depends on whether the loss is a sum or a
    mean over n ``examples``: what is added to a mean is the n-th part of ``-log p(params)``, but for the constant.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> ridge = nm.nn.l2(0.5)
    >>> ridge.prior(), ridge.prior(examples=100)
    ('normal(mean=0, scale=1)', 'normal(mean=0, scale=0.1)')
    >>> w = np.array([1.0, -2.0])
    >>> bool(np.isclose(ridge.log_prior(w), nm.stats.norm.logpdf(w).sum()))
    True
    """

    absolute: float
    square: float
    only: Callable[[str], bool] | None = None

    def __post_init__(self) -> None:
        if self.only is not None:
            advice = 'Of the path of a leaf: `lambda path: path.endswith("weight")`.'
            require_callable("Regularizer", "only", self.only, advice)

    def _leaves(self, tree: Tree) -> tuple[list[Any], list[bool], Any]:
        """The leaves, which of them take part, and the structure."""
        leaves, d = flatten(tree, True)
        for x in leaves:
            if not hasattr(x, "shape") and not isinstance(x, int | float | complex):
                wanted = "a tree of arrays and numbers"
                raise DtypeError(sentence("Regularizer", "params", wanted, describe(x)))
        if self.only is None:
            return leaves, [True] * len(leaves), d
        names = paths(d)
        chosen = [bool(self.only(path)) for path in names]
        if names and not any(chosen):
            raise DomainError(
                "Regularizer: `only` must choose a leaf of `params`, and chooses none of them. Their paths are "
                f"{', '.join(names[:4])}{', ...' if len(names) > 4 else ''}."
            )
        return leaves, chosen, d

    def _sum(self, tree: Tree, f: Callable[[Any], Any]) -> Any:
        leaves, chosen, _ = self._leaves(tree)
        return sum((np.sum(f(x)) for x, yes in zip(leaves, chosen, strict=True) if yes), 0.0)

    def __call__(self, params: Tree) -> Array:
        """Return what is added to the loss.

        Parameters
        ----------
        params : tree of arrays
            Parameters of a model.

        Returns
        -------
        array, shape ()
        """
        value: Array = self._sum(params, self._of_entries)
        return value

    def _of_entries(self, w: Any) -> Any:
        if self.absolute and self.square:
            return self.absolute * np.abs(w) + self.square * np.square(w)
        return self.absolute * np.abs(w) if self.absolute else self.square * np.square(w)

    def proximal(self, params: Tree, step: float) -> Tree:
        r"""Return the point that gains most for a step away from ``params``.

        Parameters
        ----------
        params : tree of arrays
            Where the step starts.
        step : float
            Its size s > 0.

        Returns
        -------
        tree
            The minimum over w of ``R(w) + |w - params|**2 / (2 s)``: shrunk by ``s * absolute``, exactly 0 for what is
            not larger, and divided by ``1 + 2 s * square``.

        Raises
        ------
        DomainError
            The step is negative or NaN.
        """
        if not hasattr(step, "shape"):
            require_real("Regularizer.proximal", "step", step, lambda s: s >= 0, "a number >= 0")
        leaves, chosen, d = self._leaves(params)
        moved = [self._shrunk(x, step) if yes else x for x, yes in zip(leaves, chosen, strict=True)]
        return unflatten(d, moved)

    def _shrunk(self, w: Any, step: float) -> Any:
        if self.absolute:
            t = step * self.absolute
            w = np.where(np.abs(w) > t, w - t * np.sign(w), 0.0)
        return w / (1.0 + 2.0 * step * self.square) if self.square else w

    # ---------------------------------------------------------------------------- the prior
    def _of_data(self, examples: int | None) -> tuple[float, float]:
        """The factors beside the log-likelihood of all the data."""
        n = 1 if examples is None else require_positive_int("Regularizer", "examples", examples)
        return n * self.absolute, n * self.square

    def prior(self, *, examples: int | None = None) -> str:
        """Return the prior of a parameter.

        Parameters
        ----------
        examples : int, optional
            The n of a loss that is a mean over n examples; None is a loss that is their sum.

        Returns
        -------
        str
        """
        a, c = self._of_data(examples)
        if a and c:
            return f"proportional to exp(-{a:.6g} |w| - {c:.6g} w**2)"
        if c:
            return f"normal(mean=0, scale={math.sqrt(0.5 / c):.6g})"
        return f"laplace(mean=0, scale={1.0 / a:.6g})" if a else "flat (improper)"

    def prior_scale(self, *, examples: int | None = None) -> float:
        """Return the scale of the prior: sigma of `l2`, b of `l1`.

        Parameters
        ----------
        examples : int, optional
            The n of a loss that is a mean over n examples; None is a loss that is their sum.

        Returns
        -------
        float
            inf for the strength 0.

        Raises
        ------
        DomainError
            An elastic net has two.
        """
        a, c = self._of_data(examples)
        if a and c:
            raise DomainError(
                "Regularizer: `prior_scale` of an elastic net is not one number: its prior is "
                f"{self.prior(examples=examples)}."
            )
        if c:
            return math.sqrt(0.5 / c)
        return 1.0 / a if a else math.inf

    def log_prior(self, params: Tree, *, examples: int | None = None) -> Array:
        """Return the logarithm of the prior density of the parameters, with its constant.

        Parameters
        ----------
        params : tree of arrays
            Those that take part are independent.
        examples : int, optional
            The n of a loss that is a mean over n examples; None is a loss that is their sum.

        Returns
        -------
        array, shape ()
            Nats: ``-n * R(params)`` less the logarithm of the normalising integral, once for each number.

        Raises
        ------
        DomainError
            The strength is 0: such a prior has no density.
        """
        a, c = self._of_data(examples)
        if not (a or c):
            raise DomainError("Regularizer: `log_prior` of the strength 0 has no density.")
        leaves, chosen, _ = self._leaves(params)
        count = sum(math.prod(shape_of(x)) for x, yes in zip(leaves, chosen, strict=True) if yes)
        n = 1 if examples is None else examples
        log: Array = -n * self(params) - count * _log_integral(a, c)
        return log

    def __repr__(self) -> str:
        if self.absolute and self.square:
            return f"elastic_net(l1={self.absolute:.6g}, l2={self.square:.6g})"
        return f"l1({self.absolute:.6g})" if self.absolute else f"l2({self.square:.6g})"


def _log_integral(a: float, c: float) -> float:
    """The logarithm of the integral of exp(-a |w| - c w^2) over the line."""
    if not c:
        return math.log(2.0 / a)
    return 0.5 * math.log(math.pi / c) + math.log(float(erfcx(a / (2.0 * math.sqrt(c)))))


def _strength(who: str, strength: float | None, name: str = "strength") -> float:
    advice = "Or give the `prior_scale`." if name == "strength" else ""
    wanted = "a finite number >= 0"
    return require_real(who, name, strength, lambda x: 0 <= x < math.inf, wanted, advice)


def _scale(who: str, strength: float | None, prior_scale: float) -> float:
    if strength is not None:
        raise DomainError(
            f"{who}: `strength` and `prior_scale` say the same. Leave out one of the two."
        )
    return require_real(
        who, "prior_scale", prior_scale, lambda x: 0 < x < math.inf, "a finite number > 0"
    )


def _examples(who: str, examples: int | None, prior_scale: float | None) -> int:
    if examples is None:
        return 1
    if prior_scale is None:
        advice = "A strength is what it is; `prior_scale` becomes one by them."
        raise DomainError(
            sentence(who, "examples", "None beside a strength", repr(examples), advice)
        )
    return require_positive_int(who, "examples", examples)
