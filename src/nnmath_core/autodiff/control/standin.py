"""What an example computes that does not take part: what one that does computes."""

from __future__ import annotations

from typing import Any

from nnmath_core._ext._autodiff import Aval, batch_of, batches_of, dtype_of, shape_of
from nnmath_core.autodiff.ops.conventions import expand_batch
from nnmath_core.autodiff.ops.index import take_p
from nnmath_core.autodiff.ops.reduce import any as any_, argmax
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import reshape_p, stop_gradient
from nnmath_core.autodiff.primitive import Primitive

__all__ = ["beside", "live", "stood_in"]


def live(mask: Any, x: Any) -> Any:
    """An operand of what only the examples in ``mask`` (a traced boolean) compute.

    The others get the value of one that does, so that nothing is evaluated where the user's code would not have been:
    no warning, and no NaN that 0 would be multiplied with. Their results must be thrown away.
    """
    theirs = batches_of(x)
    mine = batches_of(mask)
    while (
        mine and mine[0] not in theirs
    ):  # x is the same for these examples: it counts for any of them
        mask = any_(batch_of(mask), axis=0)
        mine = batches_of(mask)
    return standin_p(mask, x) if mine else x


def stood_in(mask: Any, x: Any) -> Any:
    """The same on arrays with the batch axis first; where no example of this batch computes, one of an outer batch."""
    if not shape_of(mask)[0]:
        return x
    other = stop_gradient(take_p(x, argmax(mask, axis=0), axis=0))
    y = where(beside(mask, x), x, other)
    return live(any_(mask, axis=0), y) if batches_of(mask) else y


def beside(mask: Any, x: Any) -> Any:
    """A mask of examples with the axes that x has after the batch."""
    rank = len(shape_of(x)) - 1
    return reshape_p(mask, shape=(*shape_of(mask), *[1] * rank)) if rank else mask


def _batch(on: Any, values: Any, size: int) -> Any:
    mask, x = values
    if not on[0]:
        return standin_p(mask, x)
    return stood_in(mask, x if on[1] else expand_batch(x, size))


standin_p = Primitive(
    "standin",
    forward=lambda be, mask, x: x,
    multilinear=True,
    vjp=(None, lambda g, xs, y: where(xs[0], g, 0.0)),
    keeps=("", "0"),
    shape=lambda mask, x: Aval(shape_of(x), dtype_of(x)),
    batch=_batch,
    register=False,
)
