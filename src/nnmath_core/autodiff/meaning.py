"""Derivatives of a joint primitive by its meaning: a function of primitives that gives the same results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nnmath_core._ext._autodiff import dtype_of
from nnmath_core.autodiff.transforms import jvp, vjp

__all__ = ["rules_by_meaning"]


def rules_by_meaning(meaning: Callable[..., tuple[Any, ...]]) -> tuple[Any, Any]:
    """Return the jvp and the vjp of a primitive, ``meaning(*operands, **parameters)``, with results for all outputs."""

    def forward(ts: Any, xs: Any, ys: Any, **params: Any) -> tuple[Any, ...]:
        on = [i for i, t in enumerate(ts) if t is not None]

        def moving(*some: Any) -> tuple[Any, ...]:
            return meaning(*_with(xs, on, some), **params)

        return tuple(jvp(moving, [xs[i] for i in on], [ts[i] for i in on])[1])

    def backward(gs: Any, xs: Any, ys: Any, **params: Any) -> list[Any]:
        on = [i for i, x in enumerate(xs) if dtype_of(x).kind == "f"]
        outs = [k for k, g in enumerate(gs) if g is not None]

        def moving(*some: Any) -> tuple[Any, ...]:
            made = meaning(*_with(xs, on, some), **params)
            return tuple(made[k] for k in outs)

        back = vjp(moving, *[xs[i] for i in on])[1](tuple(gs[k] for k in outs))
        return _with([None] * len(xs), on, back)

    return forward, backward


def _with(xs: Sequence[Any], on: Sequence[int], some: Sequence[Any]) -> list[Any]:
    full = list(xs)
    for i, x in zip(on, some, strict=True):
        full[i] = x
    return full
