"""What a loss assumes, in words."""

from __future__ import annotations

from dataclasses import dataclass

from nnmath_core.checks import describe, require_positive_int, sentence
from nnmath_core.errors import DtypeError
from nnmath_core.nn.loss import Likelihood, Loss
from nnmath_core.nn.regularizers import Regularizer

__all__ = ["LossExplanation", "explain_loss"]

_REDUCTIONS = {
    "none": "one number per example; what a strength means depends on how you reduce them",
    "sum": "the sum over the examples; a prior is added as it is, L2 with lambda = 1 / (2 sigma^2)",
    "mean": (
        "the mean over n examples, the n-th part of the sum; a prior is divided by n, too: L2 with\n"
        "              lambda = 1 / (2 sigma^2 n), L1 with lambda = 1 / (b n)"
    ),
}


@dataclass(frozen=True)
class LossExplanation:
    """What `explain_loss` returns; ``str(...)`` is the text.

    Parameters
    ----------
    loss : str
        The loss with its options.
    likelihood : str or None
        The distribution, and what the prediction is in it.
    link : str
        The function of the mean that the prediction is.
    unit : str
        What the loss is measured in.
    constant : str
        What ``full=True`` adds to each example, and whether it is added.
    reduction : str
        What it means for the strength of a prior.
    prior : str
        The prior that the regulariser stands for.
    """

    loss: str
    likelihood: str | None
    link: str
    unit: str
    constant: str
    reduction: str
    prior: str

    def __str__(self) -> str:
        likelihood = self.likelihood or "none"
        rows = [
            ("likelihood", likelihood),
            ("link", self.link),
            ("prior", self.prior),
            ("unit", self.unit),
            ("constant", self.constant),
            ("reduction", self.reduction),
        ]
        return "\n".join([self.loss, *(f"  {name + ':':<12}{text}" for name, text in rows)])


def explain_loss(
    loss: Loss, *, regularizer: Regularizer | None = None, examples: int | None = None
) -> LossExplanation:
    """Say what a loss assumes: likelihood, link, prior, unit, constant, and what its reduction does to the prior.

    Parameters
    ----------
    loss : Loss
        One of this package or a subclass of `Loss`, with its options: ``loss.replace(reduction="mean")``.
    regularizer : Regularizer, optional
        What is added to it: `l2`, `l1` or `elastic_net`.
    examples : int, optional
        How many examples a mean is over. Without them the prior of a regularised mean is that of n examples.

    Returns
    -------
    LossExplanation
        Its ``str`` is the text.

    Raises
    ------
    DtypeError
        ``loss`` or ``regularizer`` is something else.
    DomainError
        ``examples`` is not positive.

    Examples
    --------
    >>> import nnmath_core as nm
    >>> loss = nm.nn.gaussian_nll.replace(sigma=2.0, reduction="mean")
    >>> print(nm.nn.explain_loss(loss, regularizer=nm.nn.l2(0.005), examples=100))
    gaussian_nll(reduction='mean', sigma=2.0)
      likelihood: normal(mean=prediction, scale=sigma), or of a pair (mean, log_scale)
      link:       identity
      prior:      normal(mean=0, scale=1), from l2(0.005)
      unit:       nats
      constant:   log(2 * pi) / 2, left out
      reduction:  the mean over n examples, the n-th part of the sum; a prior is divided by n, too: L2 with
                lambda = 1 / (2 sigma^2 n), L1 with lambda = 1 / (b n)
    """
    if not isinstance(loss, Loss):
        advice = "A function says nothing of what it assumes: subclass `nm.nn.Loss`."
        raise DtypeError(sentence("explain_loss", "loss", "a Loss", describe(loss), advice))
    if regularizer is not None and not isinstance(regularizer, Regularizer):
        advice = "`nm.nn.l2`, `nm.nn.l1` or `nm.nn.elastic_net` make one."
        got = describe(regularizer)
        raise DtypeError(sentence("explain_loss", "regularizer", "a Regularizer", got, advice))
    if examples is not None:
        require_positive_int("explain_loss", "examples", examples)
    constant = loss.constant
    if isinstance(loss, Likelihood) and not constant.startswith("0"):
        constant += ", added" if loss.full else ", left out"
    return LossExplanation(
        loss=repr(loss),
        likelihood=loss.likelihood,
        link=loss.link,
        unit=loss.unit,
        constant=constant,
        reduction=_REDUCTIONS[loss.reduction],
        prior=_prior(loss, regularizer, examples),
    )


def _prior(loss: Loss, regularizer: Regularizer | None, examples: int | None) -> str:
    if regularizer is None:
        return "none: all parameters are as likely as any (maximum likelihood)"
    source = f", from {regularizer!r}"
    if loss.likelihood is None:
        return f"none, the loss is no likelihood: {regularizer!r} is a penalty"
    if loss.reduction == "sum":
        return regularizer.prior() + source
    if loss.reduction == "none":
        return f"{regularizer.prior()} where the examples are summed, narrower by n where they are averaged{source}"
    if examples is not None:
        return regularizer.prior(examples=examples) + source
    a, c = regularizer.absolute, regularizer.square
    if a and c:
        return f"proportional to exp(-n (|w| * {a:.6g} + w**2 * {c:.6g})){source}"
    if c:
        return f"normal(mean=0, scale=sqrt(1 / (2 * {c:.6g} * n))){source}"
    return (f"laplace(mean=0, scale=1 / ({a:.6g} * n))" if a else "flat (improper)") + source
