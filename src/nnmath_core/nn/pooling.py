"""Pooling: the largest entry or the mean of the windows of an image or a sequence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnmath_core.autodiff.ops.conventions import beside
from nnmath_core.autodiff.ops.join import concatenate_p, pad_p
from nnmath_core.autodiff.ops.pad import pad
from nnmath_core.autodiff.ops.reduce import sum_p
from nnmath_core.autodiff.ops.windows import max_windows_p, windows_p
from nnmath_core.checks import require_in, sentence
from nnmath_core.device import entering
from nnmath_core.errors import DomainError, ShapeError
from nnmath_core.nn.operands import require_operand
from nnmath_core.nn.spatial import (
    Padding,
    Pairs,
    PerAxis,
    flat_batch,
    paddings,
    per_axis,
    require_room,
    unflat_batch,
)
from nnmath_core.typing import Array

__all__ = ["adaptive_avg_pool", "avg_pool", "global_avg_pool", "max_pool"]


def max_pool(
    x: Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> Array:
    r"""Largest entry of each window, channel by channel.

    .. math:: y_{n, t, c} = \max_k x_{n,\; s t + d k - p,\; c}

    Parameters
    ----------
    x : array, shape (..., size, c), float32 or float64
        As many axes of positions as ``window`` has numbers; before them any axes of examples.
    window : int or sequence of int
        Its length along each axis of positions. A single number holds for all axes of ``x`` but the
        first one and the channels.
    stride : int or sequence of int, optional
        Positions from one window to the next; by default ``window``: they stand side by side.
    padding : "valid", "same", int, or an int or a pair (before, behind) for each axis, default 0
        Positions around ``x`` that count as -inf; at most half of ``window`` at each end.
    dilation : int or sequence of int, default 1
        Positions from one entry of a window to the next.
    ceil_mode : bool, default False
        Whether a last window that is not whole counts, too, where it starts before the end.

    Returns
    -------
    array, shape (..., counts, c)
        ``(size + padding - dilation * (window - 1) - 1) // stride + 1`` positions along each axis,
        rounded up in place of down with ``ceil_mode``.

    Raises
    ------
    DtypeError
        ``x`` is no array of floats, or an option no integer.
    ShapeError
        A window is longer than padded ``x``, or an option has not one number for each axis.
    DomainError
        A window, stride or dilation below 1, a padding that is negative or more than half a window.

    Notes
    -----
    Equal entries share the derivative equally, as those of `numpy.max` do here; PyTorch gives all
    of it to the first of them. A NaN is the largest entry. Entries in no window are structural
    zeros. With a dilation a window may lie in the padding alone; its largest entry is -inf.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> x = np.array([[1.0, 5.0, 2.0, 2.0, 4.0]])[..., None]
    >>> nm.nn.max_pool(x, 2)[0, :, 0], nm.nn.max_pool(x, 2, ceil_mode=True)[0, :, 0]
    (array([5., 2.]), array([5., 2., 4.]))
    >>> nm.grad(lambda x: nm.nn.max_pool(x, 2).sum())(x)[0, :, 0]
    array([0. , 1. , 0.5, 0.5, 0. ])
    """
    return pool_max("max_pool", x, window, stride, padding, dilation, ceil_mode)


def pool_max(
    who: str, x: Any, window: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> Array:
    """`max_pool`, in whose name ``who`` complains."""
    x, window, stride, dilation = _operands(who, x, window, stride, dilation)
    pairs, more, _ = _plan(who, x, window, stride, padding, dilation, ceil_mode)
    flat, lead = flat_batch(x, len(window))
    wide = tuple((a, b + c) for (a, b), c in zip(pairs, more, strict=True))
    if any(map(any, wide)):
        flat = pad(flat, ((0, 0), *wide, (0, 0)), constant_values=-math.inf)
    y = max_windows_p(flat, window=window, stride=stride, dilation=dilation)
    return unflat_batch(y, lead)


@entering
def avg_pool(
    x: Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    r"""Mean of each window, channel by channel.

    .. math:: y_{n, t, c} = \frac{1}{m_t} \sum_k x_{n,\; s t + k - p,\; c}

    Parameters
    ----------
    x : array, shape (..., size, c), float32 or float64
        As many axes of positions as ``window`` has numbers; before them any axes of examples.
    window : int or sequence of int
        Its length along each axis of positions. A single number holds for all axes of ``x`` but the
        first one and the channels.
    stride : int or sequence of int, optional
        Positions from one window to the next; by default ``window``: they stand side by side.
    padding : "valid", "same", int, or an int or a pair (before, behind) for each axis, default 0
        Zeros around ``x``; at most half of ``window`` at each end.
    ceil_mode : bool, default False
        Whether a last window that is not whole counts, too, where it starts before the end.
    count_include_pad : bool, default True
        Whether the zeros of ``padding`` count as entries: True divides by the length of the window
        at the border, too, False by the number of entries of ``x`` in it. What only ``ceil_mode``
        adds never counts. PyTorch and Flax have the same default.

    Returns
    -------
    array, shape (..., counts, c)
        ``(size + padding - window) // stride + 1`` positions along each axis, rounded up in place
        of down with ``ceil_mode``.

    Raises
    ------
    DtypeError
        ``x`` is no array of floats, or an option no integer.
    ShapeError
        A window is longer than padded ``x``, or an option has not one number for each axis.
    DomainError
        A window or stride below 1, a padding that is negative or more than half a window.

    Notes
    -----
    Linear; the derivative of each entry is the sum of ``1 / m_t`` over the windows that have it.
    Memory: as many entries as all windows have.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> x = np.array([[1.0, 5.0, 2.0, 2.0]])[..., None]
    >>> nm.nn.avg_pool(x, 2)[0, :, 0], nm.nn.avg_pool(x, 2, padding=1)[0, :, 0]
    (array([3., 2.]), array([0.5, 3.5, 1. ]))
    >>> nm.nn.avg_pool(x, 2, padding=1, count_include_pad=False)[0, :, 0]
    array([1. , 3.5, 2. ])
    """
    return pool_avg("avg_pool", x, window, stride, padding, ceil_mode, count_include_pad)


def pool_avg(
    who: str,
    x: Any,
    window: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Array:
    """`avg_pool`, in whose name ``who`` complains."""
    require_in(who, "count_include_pad", count_include_pad, (False, True))
    x, window, stride, dilation = _operands(who, x, window, stride, 1)
    pairs, more, counts = _plan(who, x, window, stride, padding, dilation, ceil_mode)
    flat, lead = flat_batch(x, len(window))
    wide = tuple((a, b + c) for (a, b), c in zip(pairs, more, strict=True))
    if any(map(any, wide)):
        flat = pad_p(flat, widths=((0, 0), *wide, (0, 0)))
    entries = windows_p(flat, window=window, stride=stride, dilation=dilation)
    total: Array = sum_p(entries, axis=(0,), keepdims=False)
    size = x.shape[-len(window) - 1 : -1]
    sizes = [
        _in_window(n, k, s, p, m, count_include_pad)
        for n, k, s, p, m in zip(size, window, stride, pairs, counts, strict=True)
    ]
    if all(len(set(line)) <= 1 for line in sizes):
        mean = total / float(math.prod(line[0] for line in sizes if line))
    else:
        divisor = np.ones(())
        for line in sizes:
            divisor = np.multiply.outer(divisor, np.array(line, float))
        real = np.zeros(0, total.dtype).real.dtype
        mean = total / beside(total, divisor[..., None].astype(real))
    return unflat_batch(mean, lead)


def _in_window(
    size: int, window: int, stride: int, padding: tuple[int, int], count: int, zeros: bool
) -> list[int]:
    """How many entries each window of an axis has, with those of the padding or without."""
    first, end = (-padding[0], size + padding[1]) if zeros else (0, size)
    starts = [i * stride - padding[0] for i in range(count)]
    return [min(a + window, end) - max(a, first) for a in starts]


@entering
def adaptive_avg_pool(x: Array, size: PerAxis) -> Array:
    r"""Mean of as many windows as are wanted, which cover an image or a sequence of any size.

    .. math::
        y_i = \frac{1}{b_i - a_i} \sum_{m = a_i}^{b_i - 1} x_m, \qquad
        a_i = \lfloor i n / s \rfloor, \quad b_i = \lceil (i + 1) n / s \rceil

    along each axis of positions, with :math:`n` its length and :math:`s` the wanted one.

    Parameters
    ----------
    x : array, shape (..., size, c), float32 or float64
        As many axes of positions as ``size`` has numbers; before them any axes of examples.
    size : int or sequence of int
        Lengths of the result. A single number holds for all axes of ``x`` but the first one and the
        channels.

    Returns
    -------
    array, shape (..., size, c)

    Raises
    ------
    DtypeError
        ``x`` is no array of floats.
    ShapeError
        ``x`` has too few axes, or an axis of positions without entries.
    DomainError
        A length below 1.

    Notes
    -----
    As PyTorch's ``adaptive_avg_pool1d`` and ``2d``: windows overlap where ``size`` does not divide
    the length. Linear.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> x = np.arange(5.0)[None, :, None]
    >>> nm.nn.adaptive_avg_pool(x, 2)[0, :, 0]  # windows 0, 1, 2 and 2, 3, 4
    array([1., 3.])
    """
    return pool_adaptive("adaptive_avg_pool", x, size)


def pool_adaptive(who: str, x: Any, size: Any) -> Array:
    """`adaptive_avg_pool`, in whose name ``who`` complains."""
    y: Array = require_operand(who, "x", x)
    axes = _axes_of(who, "size", y, size)
    wanted = per_axis(who, "size", size, axes, 1)
    for axis, m in enumerate(wanted, len(y.shape) - axes - 1):
        y = _along(y, axis, m)
    return y


def _along(x: Array, axis: int, m: int) -> Array:
    n = x.shape[axis]
    lead = (slice(None),) * axis
    parts = [
        x[(*lead, slice(i * n // m, -(-(i + 1) * n // m)))].mean(axis=axis, keepdims=True)
        for i in range(m)
    ]
    return concatenate_p(*parts, axis=axis) if m > 1 else parts[0]  # type: ignore[no-any-return]


@entering
def global_avg_pool(x: Array) -> Array:
    r"""Mean of all positions of each channel.

    .. math:: y_{n, c} = \frac{1}{h w} \sum_{i, j} x_{n, i, j, c}

    Parameters
    ----------
    x : array, shape (n, size, c), float32 or float64
        At least one axis of positions.

    Returns
    -------
    array, shape (n, c)

    Raises
    ------
    DtypeError
        ``x`` is no array of floats.
    ShapeError
        ``x`` has fewer than three axes, or no positions.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.nn.global_avg_pool(np.arange(8.0).reshape(1, 2, 2, 2))
    array([[3., 4.]])
    """
    return pool_global("global_avg_pool", x)


def pool_global(who: str, x: Any) -> Array:
    """`global_avg_pool`, in whose name ``who`` complains."""
    x = require_operand(who, "x", x)
    _axes_of(who, "x", x, 1)
    return x.mean(axis=tuple(range(1, len(x.shape) - 1)))  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------ windows
def _axes_of(who: str, arg: str, x: Array, window: Any) -> int:
    """How many axes of positions there are: one for each number, else all but the first and the last."""
    several = isinstance(window, tuple | list)
    axes = len(window) if several else len(x.shape) - 2
    if axes < 1 or len(x.shape) <= axes:
        wanted = f"of at least {axes + 1} axes" if several and axes else "of shape (n, *size, c)"
        advice = "Channels are the last axis: `x[..., None]` has one."
        raise ShapeError(sentence(who, "x", wanted, str(tuple(x.shape)), advice))
    size = tuple(x.shape[-axes - 1 : -1])
    if 0 in size:
        wanted = "of at least one position along each axis"
        raise ShapeError(sentence(who, "x", wanted, str(tuple(x.shape))))
    return axes


def _operands(
    who: str, x: Any, window: Any, stride: Any, dilation: Any
) -> tuple[Array, tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    x = require_operand(who, "x", x)
    axes = _axes_of(who, "window", x, window)
    window = per_axis(who, "window", window, axes, 1)
    steps = window if stride is None else per_axis(who, "stride", stride, axes, 1)
    return x, window, steps, per_axis(who, "dilation", dilation, axes, 1)


def _plan(
    who: str,
    x: Array,
    window: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Any,
    dilation: tuple[int, ...],
    ceil_mode: bool,
) -> tuple[Pairs, list[int], list[int]]:
    """Return the padding, how much more stands behind for the last windows, and how many windows there are."""
    size = tuple(x.shape[-len(window) - 1 : -1])
    pairs = paddings(who, padding, size, window, stride, dilation)
    for i, (p, k) in enumerate(zip(pairs, window, strict=True)):
        if max(p) > k // 2:
            wanted = f"at most {k // 2} at each end of axis {i} of positions, half of the window"
            raise DomainError(sentence(who, "padding", wanted, str(max(p))))
    counts = list(require_room(who, "window", size, window, stride, pairs, dilation))
    more = [0] * len(window)
    require_in(who, "ceil_mode", ceil_mode, (False, True))
    if ceil_mode:
        for i, (n, k, s, p, d) in enumerate(
            zip(size, window, stride, pairs, dilation, strict=True)
        ):
            reach = d * (k - 1) + 1
            count = -(-(n + sum(p) - reach) // s) + 1
            if (count - 1) * s >= n + p[0]:  # it would start in the padding behind
                count -= 1
            counts[i], more[i] = count, max((count - 1) * s + reach - n - sum(p), 0)
    return pairs, more, counts
