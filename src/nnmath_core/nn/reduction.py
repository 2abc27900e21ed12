"""From one number per example to one number for the batch."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from nnmath_core.checks import require_in
from nnmath_core.errors import DomainError
from nnmath_core.typing import Array

Reduction: TypeAlias = Literal["none", "sum", "mean"]
"""What a loss returns: one number per example, or their sum or mean."""

REDUCTIONS = ("none", "sum", "mean")


def require_reduction(who: str, reduction: Reduction, examples: int) -> None:
    """Refuse an unknown reduction, and the mean over no examples.

    Raises
    ------
    DomainError
        Either of the two.
    """
    require_in(who, "reduction", reduction, REDUCTIONS)
    if reduction == "mean" and examples == 0:
        raise DomainError(
            f"{who}: the mean over no examples is undefined. Leave out empty batches, or take "
            '`reduction="sum"`.'
        )


def reduce_examples(losses: Array, reduction: Reduction) -> Array:
    """Return the losses, their sum or their mean, in their dtype."""
    if reduction == "none":
        return losses
    total: Array = losses.sum()
    return total if reduction == "sum" else total / math.prod(losses.shape)
