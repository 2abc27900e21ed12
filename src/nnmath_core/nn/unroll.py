"""A recurrent cell along the time axis of padded sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core.autodiff.control.scan import scan
from nnmath_core.autodiff.ops.conventions import beside
from nnmath_core.autodiff.tree import tree_map
from nnmath_core.checks import describe, require_callable, sentence
from nnmath_core.device import entering
from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.nn.labels import poison
from nnmath_core.nn.lengths import check_lengths, require_lengths
from nnmath_core.nn.operands import require_operand
from nnmath_core.typing import Array

__all__ = ["along_time", "require_sequences", "steps_that_count", "unroll"]


@entering
def unroll(
    cell: Callable[[Any, Any], tuple[Any, Any]],
    x: Array,
    state: Any = None,
    *,
    lengths: Array | None = None,
    mask: Array | None = None,
    reverse: bool = False,
    checkpoint: bool | int = False,
) -> tuple[Any, Any]:
    r"""Apply a recurrent cell along the time axis.

    .. math:: y_t, s_t = \operatorname{cell}(x_t, s_{t-1})

    Parameters
    ----------
    cell : callable
        ``cell(x, state) -> (y, state)``: a cell of this package, or one of your own, whose weights are differentiated
        as all that a function closes over.
    x : array, shape (..., t, d), float32 or float64
        Sequences, one or a batch.
    state : array or tree, optional
        Before the first step; None is ``cell.initial_state`` of one step, zeros.
    lengths : integer array, shape (...), optional
        Steps of each sequence that count, from the first on; in [0, t].
    mask : boolean array, shape (..., t), optional
        Instead of ``lengths``: where a step counts.
    reverse : bool, default False
        Go from the last step to the first; ``y[..., t, :]`` still belongs to ``x[..., t, :]``.
    checkpoint : bool or int, default False
        As in `scan`: reverse mode keeps the ends of segments and runs them again; for long sequences.

    Returns
    -------
    y : array, shape (..., t, features), or tree of such
        What the steps gave; 0 at steps that do not count.
    state : tree
        After the last step that counts. A step that does not count leaves it, bit for bit.

    Raises
    ------
    DtypeError
        ``x`` is no array of floats, ``lengths`` no array of integers, ``mask`` none of booleans; no state and no
        ``initial_state``.
    ShapeError
        ``x`` has fewer than two axes, or ``lengths``, ``mask`` or a state does not fit it.
    DomainError
        A length is outside of [0, t] (while staged it makes the outputs NaN); both ``lengths`` and ``mask``.

    Notes
    -----
    What stands at steps that do not count has no influence on values and derivatives, NaN included. No steps at all
    return the first state. The part of a cell that depends on the input alone is one product for all steps
    (``cell.project``); with ``checkpoint`` it belongs to the steps, for the sake of memory.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> total = lambda x, s: (s + x, s + x)  # a cell of one's own
    >>> x = np.arange(6.0).reshape(1, 6, 1)
    >>> y, s = nm.nn.unroll(total, x, np.zeros((1, 1)), lengths=np.array([4]))
    >>> y[0, :, 0], s
    (array([0., 1., 3., 6., 0., 0.]), array([[6.]]))
    """
    require_callable("unroll", "cell", cell)
    x = require_sequences("unroll", x)
    valid, right = steps_that_count("unroll", x, lengths, mask)
    y, last = along_time(cell, x, state, valid, reverse, checkpoint)
    return tree_map(lambda v: poison(v, right), y), last


def require_sequences(who: str, x: Any) -> Array:
    """Return x as sequences of rows, (..., t, d).

    Raises
    ------
    DtypeError, ShapeError
        It is no array of floats, or has fewer than two axes.
    """
    x = require_operand(who, "x", x)
    if len(x.shape) < 2:
        wanted = "of shape (..., t, d), sequences of rows"
        raise ShapeError(sentence(who, "x", wanted, str(tuple(x.shape))))
    array: Array = x
    return array


def steps_that_count(
    who: str, x: Array, lengths: Any, mask: Any
) -> tuple[Array | None, Array | None]:
    """Where steps count, (..., t), and whether the lengths are right if that can only be told later."""
    whole = tuple(x.shape[:-1])
    if mask is not None:
        if lengths is not None:
            raise DomainError(f"{who}: `lengths` and `mask` say the same thing. Pass one of them.")
        if getattr(mask, "dtype", None) != np.bool_:
            wanted = "an array of booleans, True where a step counts"
            raise DtypeError(sentence(who, "mask", wanted, describe(mask)))
        if tuple(mask.shape) != whole:
            wanted = f"of shape {whole} as `x` without its last axis"
            raise ShapeError(sentence(who, "mask", wanted, str(tuple(mask.shape))))
        return mask, None
    if lengths is None:
        return None, None
    lengths = require_lengths(who, "lengths", lengths, whole[:-1])
    steps = whole[-1]
    right = check_lengths(who, "lengths", lengths, steps, "the number of steps of `x`")
    counts: Array = np.less(beside(lengths, np.arange(steps)), lengths[..., None])
    whole_right: Any = None if right is None else np.all(right)
    return counts, whole_right


def along_time(
    cell: Any, x: Array, state: Any, valid: Any, reverse: bool, checkpoint: bool | int
) -> tuple[Any, Any]:
    """`unroll` of checked arguments; ``valid`` is where steps count, or None."""
    if valid is not None:  # the derivative in the weights is a product with the inputs: 0 times NaN
        x = np.where(valid[..., None], x, 0.0)
    rows = np.moveaxis(x, -2, 0)
    # the gates of all steps at once are the most memory, which `checkpoint` is there to save
    at_once = hasattr(cell, "project") and not checkpoint
    prepared = cell.project(rows) if at_once else rows
    step = cell.step if at_once else cell
    if state is None:
        if not hasattr(cell, "initial_state"):
            advice = "The cell has no `initial_state`."
            raise DtypeError(sentence("unroll", "state", "given", "None", advice))
        state = cell.initial_state(prepared[0] if prepared.shape[0] else rows.sum(axis=0))

    def plain(state: Any, row: Any) -> tuple[Any, Any]:
        y, new = step(row, state)
        return new, y

    def masked(state: Any, row: Any) -> tuple[Any, Any]:
        now, counts = row
        y, new = step(now, state)
        kept = tree_map(lambda a, b: np.where(_spread(counts, a), a, b), new, state)
        return kept, tree_map(lambda v: np.where(_spread(counts, v), v, 0.0), y)

    if valid is None:
        last, y = scan(plain, state, prepared, reverse=reverse, checkpoint=checkpoint)
    else:
        counts = np.moveaxis(valid, -1, 0)
        last, y = scan(masked, state, (prepared, counts), reverse=reverse, checkpoint=checkpoint)
    axis = len(x.shape) - 2
    return tree_map(lambda v: np.moveaxis(v, 0, axis), y), last


def _spread(counts: Any, like: Any) -> Any:
    """The mask with axes of length 1 where the array has more."""
    return np.reshape(counts, (*counts.shape, *(1,) * (len(like.shape) - len(counts.shape))))
