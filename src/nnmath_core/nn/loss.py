"""What every loss is: a frozen callable that carries its reduction, its likelihood and its link.

A loss is written by subclassing `Loss` as a frozen dataclass (``eq=False, repr=False``) whose fields are its options:
numbers and strings are static, arrays are leaves. It states

    __name__            the public name
    __call__            explicit options, each None for "as this loss has it"; returns
                        ``self._with(reduction=reduction, ...)._value(prediction, target)``
    _operands(p, t)     checks; returns both as the rest wants them, NaN where a check had to wait
    _each(p, t)         one number per example
    _examples(p, t)     how many examples there are (default: the entries of p); t is None for `fisher`

and, where they have a closed form, of the sum over examples, ``_gradient(p, t)`` and ``_hessian(p, t)``; a likelihood
also ``_fisher(p)``, ``_mean(p)``, ``_draw(key, p)`` and ``_constant(p, t)``, what ``full=True`` adds to each example.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from nnmath_core.autodiff.transforms import grad
from nnmath_core.autodiff.tree import tree_map
from nnmath_core.checks import (
    describe,
    require_float,
    require_in,
    require_real,
    require_same_dtype,
    require_shape,
    sentence,
)
from nnmath_core.device import entering
from nnmath_core.errors import DomainError, ShapeError
from nnmath_core.nn.labels import check_entries
from nnmath_core.nn.reduction import REDUCTIONS, Reduction, reduce_examples, require_reduction
from nnmath_core.typing import Array

__all__ = ["Likelihood", "Loss", "option_of_entries", "same_operands"]

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Loss:
    """A loss: called with a prediction and a target, it returns one number per example, their sum or their mean.

    Parameters
    ----------
    reduction : {"none", "sum", "mean"}, default "none"
        One number per example, their sum, or their mean.

    Attributes
    ----------
    likelihood : str or None
        The distribution of which the loss is the negative logarithm, and what the prediction is in it; None where it is
        none.
    link : str
        "identity", "log", "logit" or "softmax": the function of the mean that the prediction is.
    unit : str
        What the loss is measured in.
    constant : str
        What ``full=True`` adds to each example.

    Notes
    -----
    The public losses are instances: `nm.nn.softmax_cross_entropy`, `nm.nn.huber`, ... A loss is a frozen dataclass:
    options that are arrays are leaves of the tree, as the weights of a layer are; the rest is static.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> loss = nm.nn.huber.replace(delta=2.0, reduction="mean")
    >>> loss
    huber(reduction='mean', delta=2.0)
    >>> float(loss(np.array([0.0, 5.0]), np.zeros(2)))
    4.0
    >>> loss.gradient(np.array([0.0, 5.0]), np.zeros(2))
    array([0., 1.])
    """

    reduction: Reduction = "none"

    __name__ = "loss"
    link: ClassVar[str] = "identity"
    unit: ClassVar[str] = "nats"
    _why_none: ClassVar[str] = "It is no negative logarithm of a probability."

    def __post_init__(self) -> None:
        for name in (field.name for field in dataclasses.fields(self)):
            if isinstance(getattr(self, name), np.generic):  # it would promote float32
                object.__setattr__(self, name, getattr(self, name).item())
        require_in(self.__name__, "reduction", self.reduction, REDUCTIONS)
        self._check_options()

    # --------------------------------------------------------------------- what a loss states
    @property
    def likelihood(self) -> str | None:
        """The distribution whose negative logarithm the loss is, or None."""
        return None

    @property
    def constant(self) -> str:
        """What ``full=True`` adds to each example."""
        return "none: the loss is no likelihood"

    def _check_options(self) -> None:
        """Refuse options that are out of their domain."""

    def _operands(self, prediction: Any, target: Any) -> tuple[Any, Any]:
        return same_operands(self.__name__, prediction, target)

    def _each(self, p: Any, t: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has to state `_each`")

    def _examples(self, p: Any, t: Any) -> int:
        return math.prod(p.shape)

    def _gradient(self, p: Any, t: Any) -> Any:
        return grad(lambda p: self._each(p, t).sum())(p)

    def _hessian(self, p: Any, t: Any) -> Any:
        raise DomainError(
            f"{self.__name__}: `hessian` has no closed form. Differentiate the loss: `nm.hvp` for products with it, "
            "`nm.hessian` for all of it."
        )

    def _weight_of_mean(self, p: Any, t: Any) -> Any:
        """What the sum is divided by to be the mean: the number of examples, or their weights together."""
        return self._examples(p, t)

    # ------------------------------------------------------------------------- what users call
    def __call__(
        self, prediction: Any, target: Any, /, *, reduction: Reduction | None = None
    ) -> Array:
        """Return the loss.

        Parameters
        ----------
        prediction, target : array
            As the loss says.
        reduction : {"none", "sum", "mean"}, optional
            Instead of its own.

        Returns
        -------
        array
            One number per example, or one number.
        """
        return self._with(reduction=reduction)._value(prediction, target)

    def replace(self, **options: Any) -> Self:
        """Return the loss with other options.

        Parameters
        ----------
        **options
            Those of the call, by name.

        Returns
        -------
        Loss
            Of the same kind.

        Raises
        ------
        DomainError
            An option is unknown, or out of its domain.

        Examples
        --------
        >>> import nnmath_core as nm
        >>> nm.nn.softmax_cross_entropy.replace(label_smoothing=0.1, reduction="mean")
        softmax_cross_entropy(reduction='mean', label_smoothing=0.1)
        """
        known = [field.name for field in dataclasses.fields(self)]
        for name in options:
            require_in(f"{self.__name__}.replace", "options", name, known)
        return dataclasses.replace(self, **options)

    @entering
    def gradient(self, prediction: Any, target: Any) -> Any:
        """Return the gradient in the prediction, in closed form.

        Parameters
        ----------
        prediction, target : array
            As for the call.

        Returns
        -------
        array or tuple, of the shape of ``prediction``
            That of the sum of the examples' losses; with ``reduction="mean"`` that of their mean.

        Notes
        -----
        Without reduction the gradient is that of the sum: no entry of a prediction belongs to two examples.
        """
        p, t = self._operands(prediction, target)
        return self._scaled(self._gradient(p, t), p, t)

    @entering
    def hessian(self, prediction: Any, target: Any) -> Any:
        """Return the Hessian in the prediction, in closed form, without the zeros between examples.

        Parameters
        ----------
        prediction, target : array
            As for the call.

        Returns
        -------
        array, of the shape of ``prediction`` and the axes that the loss couples; or a tuple of tuples
            Of an elementwise loss its diagonal, of a loss of rows ``(..., k)`` matrices ``(..., k, k)``, of a loss of
            pairs a pair of pairs. Scaled as `gradient` is.

        Raises
        ------
        DomainError
            There is no closed form.
        """
        p, t = self._operands(prediction, target)
        return self._scaled(self._hessian(p, t), p, t)

    @entering
    def fisher(self, prediction: Any) -> Any:
        """Return the Fisher information: the expected Hessian when the targets follow the likelihood.

        Parameters
        ----------
        prediction : array
            As for the call.

        Returns
        -------
        array or tuple of tuples, as `hessian` returns them
            Scaled as `gradient` is. Where the Hessian is 0 except at a kink (`laplace_nll`, `quantile`), it is the
            expected square of the gradient, which the Hessian has as a distribution.

        Raises
        ------
        DomainError
            The loss is no likelihood.
        """
        raise DomainError(self._no_likelihood("fisher"))

    def sample(self, key: Any, prediction: Any) -> Array:
        """Draw a target for each example from the likelihood.

        Parameters
        ----------
        key : array
            From `nm.random.key`.
        prediction : array
            As for the call.

        Returns
        -------
        array
            Targets; labels are integers.

        Raises
        ------
        DomainError
            The loss is no likelihood, or there is no sampler of it.
        """
        raise DomainError(self._no_likelihood("sample"))

    @entering
    def inverse_link(self, prediction: Any) -> Any:
        """Return the parameter of the likelihood that the prediction stands for: mean, rate, probabilities.

        Parameters
        ----------
        prediction : array
            As for the call.

        Returns
        -------
        array

        Raises
        ------
        DomainError
            The loss is no likelihood.
        """
        raise DomainError(self._no_likelihood("inverse_link"))

    # ------------------------------------------------------------------------------- machinery
    def _with(self, **options: Any) -> Self:
        """The loss with the options that are not None."""
        given = {name: value for name, value in options.items() if value is not None}
        return dataclasses.replace(self, **given) if given else self

    @entering
    def _value(self, prediction: Any, target: Any) -> Array:
        p, t = self._operands(prediction, target)
        require_reduction(self.__name__, self.reduction, self._examples(p, t))
        value: Array = self._reduced(self._each(p, t), p, t)
        return value

    def _reduced(self, losses: Any, p: Any, t: Any) -> Any:
        return reduce_examples(losses, self.reduction)

    def _scaled(self, derivative: _T, p: Any, t: Any) -> _T:
        if self.reduction != "mean":
            return derivative
        require_reduction(self.__name__, self.reduction, self._examples(p, t))
        total = self._weight_of_mean(p, t)
        scaled: _T = tree_map(lambda x: x / total, derivative)
        return scaled

    def _no_likelihood(self, what: str) -> str:
        return f"{self.__name__}: `{what}` is that of a likelihood, and this loss has none. {self._why_none}"

    def __repr__(self) -> str:
        said = [
            f"{field.name}={_shown(getattr(self, field.name))}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) is not field.default
            and not _equal(getattr(self, field.name), field.default)
        ]
        return f"{self.__name__}({', '.join(said)})" if said else self.__name__


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Likelihood(Loss):
    """A loss that is the negative logarithm of a probability, but for a constant that ``full=True`` adds.

    Parameters
    ----------
    reduction : {"none", "sum", "mean"}, default "none"
        One number per example, their sum, or their mean.
    full : bool, default False
        Whether the constant is added.
    """

    full: bool = False

    __name__ = "likelihood"

    def _check_options(self) -> None:
        require_in(self.__name__, "full", self.full, (False, True))

    def _constant(self, p: Any, t: Any) -> Any:
        """What is missing for each example; a number, or an array of the shape of the losses."""
        return 0.0

    def _fisher(self, p: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has to state `_fisher`")

    def _mean(self, p: Any) -> Any:
        return p

    def _draw(self, key: Any, p: Any) -> Any:
        raise DomainError(
            f"{self.__name__}: `sample` has no sampler of {self.likelihood} to draw with. Draw from "
            "`inverse_link(prediction)` on the host: `numpy.random.default_rng`."
        )

    def _checked_prediction(self, prediction: Any) -> Any:
        return require_float(self.__name__, "prediction", prediction)

    @entering
    def _value(self, prediction: Any, target: Any) -> Array:
        p, t = self._operands(prediction, target)
        require_reduction(self.__name__, self.reduction, self._examples(p, t))
        losses = self._each(p, t)
        losses = losses + self._constant(p, t) if self.full else losses
        value: Array = self._reduced(losses, p, t)
        return value

    @entering
    def fisher(self, prediction: Any) -> Any:  # noqa: D102 (inherited)
        p = self._checked_prediction(prediction)
        return self._scaled(self._fisher(p), p, None)

    def sample(self, key: Any, prediction: Any) -> Any:  # noqa: D102 (inherited)
        return self._draw(key, self._checked_prediction(prediction))

    @entering
    def inverse_link(self, prediction: Any) -> Any:  # noqa: D102 (inherited)
        return self._mean(self._checked_prediction(prediction))


def same_operands(
    who: str, prediction: Any, target: Any, names: tuple[str, str] = ("prediction", "target")
) -> tuple[Array, Array]:
    """Return prediction and target, called ``names``, as arrays of floats, of one shape and dtype.

    Raises
    ------
    DtypeError, ShapeError
        They are no floats, or differ.
    """
    p = require_float(who, names[0], prediction)
    t = require_float(who, names[1], target)
    require_same_dtype(who, **dict(zip(names, (p, t), strict=True)))
    advice = "Nothing is broadcast: (n, 1) against (n,) would be n * n differences."
    require_shape(who, names[1], t, tuple(p.shape), advice)
    return p, t


def option_of_entries(
    who: str,
    arg: str,
    option: Any,
    like: Any,
    inside: Callable[[Any], Any],
    wanted: str,
    advice: str = "",
) -> Any:
    """Return a number or an array that broadcasts against the entries of ``like``, checked.

    Raises
    ------
    DtypeError, ShapeError, DomainError
        It is no number, has another dtype, does not broadcast to the shape, or is out of its domain.
    """
    if not hasattr(option, "shape") or isinstance(option, np.generic):
        return require_real(who, arg, option, inside, f"a number {wanted}", advice)
    x = require_float(who, arg, option)
    require_same_dtype(who, prediction=like, **{arg: x})
    shape, whole = tuple(x.shape), tuple(like.shape)
    tail = whole[len(whole) - len(shape) :]
    if len(shape) > len(whole) or any(n not in (1, m) for n, m in zip(shape, tail, strict=True)):
        wanted_shape = f"a number, or of a shape that broadcasts to {whole}"
        raise ShapeError(sentence(who, arg, wanted_shape, str(shape)))
    return check_entries(who, arg, x, inside, wanted, advice)


def _shown(value: Any) -> str:
    return f"<{describe(value)}>" if hasattr(value, "shape") else repr(value)


def _equal(value: Any, default: Any) -> bool:
    """Whether an option is as it is by default; arrays never are."""
    return not hasattr(value, "shape") and bool(value == default)
