"""Windows over the axes of positions: what convolutions and pooling take as window, stride, padding and dilation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from nnmath_core.autodiff.ops.convolutions import output_lengths
from nnmath_core.autodiff.ops.shape import reshape_p
from nnmath_core.checks import describe, require_int, sentence
from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.typing import Array

__all__ = [
    "Padding",
    "Pairs",
    "PerAxis",
    "flat_batch",
    "paddings",
    "per_axis",
    "require_room",
    "unflat_batch",
]

PerAxis: TypeAlias = int | Sequence[int]
"""One number for all axes of positions, or one for each."""

Padding: TypeAlias = Literal["valid", "same"] | int | Sequence[int | Sequence[int]]
"""Nothing, as much as keeps the size at stride 1, a number for all ends of all axes, or one or a pair for each axis."""

Pairs: TypeAlias = tuple[tuple[int, int], ...]


def per_axis(who: str, arg: str, value: Any, axes: int, minimum: int) -> tuple[int, ...]:
    """Return one integer for each axis.

    Raises
    ------
    ShapeError
        There are not as many as axes.
    DtypeError, DomainError
        One is no integer, or below ``minimum``.
    """
    if not isinstance(value, tuple | list):
        return (require_int(who, arg, value, minimum=minimum),) * axes
    if len(value) != axes:
        wanted = f"an integer or {axes} of them, one for each axis of positions"
        raise ShapeError(sentence(who, arg, wanted, str(tuple(value))))
    return tuple(require_int(who, f"{arg}[{i}]", n, minimum=minimum) for i, n in enumerate(value))


def paddings(
    who: str,
    value: Any,
    size: Sequence[int],
    window: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Pairs:
    """Return how many zeros stand before and behind each axis.

    With "same" there are ``ceil(size / stride)`` windows; an odd number of zeros has one more behind.

    Raises
    ------
    DomainError
        Another word, or a negative number.
    DtypeError, ShapeError
        Something else than numbers and pairs, or not as many as axes.
    """
    if isinstance(value, str):
        if value == "valid":
            return ((0, 0),) * len(size)
        if value == "same":
            axes = zip(size, window, stride, dilation, strict=True)
            return tuple(_same(n, d * (k - 1) + 1, s) for n, k, s, d in axes)
        wanted = "'valid', 'same', an integer, or an integer or a pair for each axis"
        raise DomainError(sentence(who, "padding", wanted, repr(value)))
    if not isinstance(value, tuple | list):
        n = _margin(who, "padding", value)
        return ((n, n),) * len(size)
    if len(value) != len(size):
        wanted = f"an integer, or an integer or a pair for each of {len(size)} axes of positions"
        advice = "Pairs are written (before, behind) inside of the tuple of axes."
        raise ShapeError(sentence(who, "padding", wanted, str(tuple(value)), advice))
    pairs = []
    for i, p in enumerate(value):
        if isinstance(p, tuple | list):
            if len(p) != 2:
                wanted = "an integer or a pair (before, behind)"
                raise ShapeError(sentence(who, f"padding[{i}]", wanted, str(tuple(p))))
            before, behind = (_margin(who, f"padding[{i}][{j}]", n) for j, n in enumerate(p))
        else:
            before = behind = _margin(who, f"padding[{i}]", p)
        pairs.append((before, behind))
    return tuple(pairs)


def _margin(who: str, arg: str, n: Any) -> int:
    if isinstance(n, bool | np.bool_) or not isinstance(n, int | np.integer):
        wanted = "'valid', 'same', an integer >= 0, or an integer or a pair for each axis"
        raise DtypeError(sentence(who, arg, wanted, describe(n)))
    return require_int(who, arg, n, minimum=0)


def _same(size: int, reach: int, stride: int) -> tuple[int, int]:
    windows = -(-size // stride)
    total = max((windows - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def require_room(
    who: str,
    arg: str,
    size: Sequence[int],
    window: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
) -> tuple[int, ...]:
    """Return how many windows there are along each axis.

    Raises
    ------
    ShapeError
        A window is longer than the padded axis.
    """
    counts = output_lengths(size, window, stride, padding, dilation)
    for i, m in enumerate(counts):
        if m < 1:
            reach = dilation[i] * (window[i] - 1) + 1
            long = size[i] + sum(padding[i])
            spread = f" ({window[i]} entries, {dilation[i]} apart)" if dilation[i] > 1 else ""
            raise ShapeError(
                sentence(
                    who,
                    arg,
                    f"at most {long} long along axis {i} of positions, as padded `x` is there",
                    f"{reach}{spread}",
                    'Pad it: `padding="same"`.',
                )
            )
    return tuple(counts)


def flat_batch(x: Array, axes: int) -> tuple[Array, tuple[int, ...]]:
    """Return x as (n, *positions, c) and its leading axes, of which there may be any number."""
    lead = tuple(x.shape[: len(x.shape) - axes - 1])
    if len(lead) == 1:
        return x, lead
    count = int(np.prod(lead, dtype=np.int64))
    flat: Array = reshape_p(x, shape=(count, *x.shape[len(lead) :]))
    return flat, lead


def unflat_batch(y: Array, lead: tuple[int, ...]) -> Array:
    """Return (n, ...) with its leading axes again."""
    if len(lead) == 1:
        return y
    whole: Array = reshape_p(y, shape=(*lead, *y.shape[1:]))
    return whole
