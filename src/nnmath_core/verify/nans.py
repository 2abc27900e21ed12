"""Where the first NaN comes from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nnmath_core.autodiff.watch import watching
from nnmath_core.checks import require_in

__all__ = ["debug_nans"]


@contextlib.contextmanager
def debug_nans(*, infinities: bool = False) -> Iterator[None]:
    """Raise an error at the first operation that returns NaN for operands without one.

    Parameters
    ----------
    infinities : bool, default False
        Also where a result is infinite and no operand is.

    Yields
    ------
    None
        A context manager; as a decorator it watches each call of a function.

    Raises
    ------
    DomainError
        Inside of the block: names the operation, the line of your code that called it, and shape and range of its
        operands. In a backward pass the line is that of the operation whose derivative it is, if that ran inside of
        the block, too.

    Notes
    -----
    Looked at are all operations that are differentiable here: those on traced arrays, and on plain ones those of
    `nnmath_core` (plain ``np.log(a)`` of a plain array never comes here; NumPy warns of it itself, or raises with
    ``np.errstate(all="raise")``); the tangents of forward mode, the cotangents that each rule of reverse mode hands
    on, to any order; and the equations of a `Program` that runs. A branch that `numpy.where` does not take is an
    operation as well. In the backward pass what is masked there is exactly 0 and no error.

    It holds for this thread and this context alone, and NumPy's own warnings stay what they are. Each result is read
    once more; outside of such blocks the cost is a comparison of an integer per operation. On a GPU each operation
    waits for its result.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> def loss(x):
    ...     return np.sum(np.sqrt(x) * np.array([0.0, 1.0]))
    >>> with nm.debug_nans(), np.errstate(all="ignore"):
    ...     nm.grad(loss)(np.array([0.0, 4.0]))  # doctest: +ELLIPSIS, +NORMALIZE_WHITESPACE
    Traceback (most recent call last):
        ...
    nnmath_core.errors.DomainError: debug_nans: the derivative of `sqrt` in reverse mode, called at ..., is NaN.
    The cotangent is float64[2] in [0, 1], 1 0. Its result: float64[2] in [0, 2], 1 0.
    """
    require_in("debug_nans", "infinities", infinities, (False, True))
    with watching("inf" if infinities else "nan"):
        yield
