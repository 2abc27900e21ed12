"""Attention of all queries, and its pull, as one operation each: what they are in a Program, one instruction in a Plan.

Their meaning is that in blocks (`nn.attention_blocks`), by which derivatives beyond the first go. In eager code the
instruction of a Plan computes them on the host, too, and the backend's kernels on a device.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Aval, dtype_of
from nnmath_core._ext._plan import Executable, execute
from nnmath_core.autodiff.meaning import rules_by_meaning
from nnmath_core.autodiff.ops.conventions import expand_batch, is_traced
from nnmath_core.autodiff.primitive import Primitive
from nnmath_core.autodiff.transforms import vjp
from nnmath_core.nn.attention_blocks import attend_in_blocks, tangent_in_blocks
from nnmath_core.program.compiled import compile
from nnmath_core.typing import Array

__all__ = ["attend", "is_real"]

SMALL = 1 << 18
"""Products of a call below which finding its instruction costs more than it gains."""


def is_real(*xs: Any) -> bool:
    """Whether all that is given are real floats of single or double precision."""
    return all(x is None or dtype_of(x).char in "fd" for x in xs)


def attend(q: Array, k: Array, v: Array, bias: Any, mask: Any, causal: bool, scale: float) -> Array:
    """Return the values of all queries; heads of q, k and v are the same."""
    operands = [x for x in (q, k, v, bias, mask) if x is not None]
    y: Array = attention_p(
        *operands,
        causal=causal,
        scale=scale,
        biased=bias is not None,
        masked=mask is not None,
        moves=is_traced(bias),
    )[0]
    return y


def _parts(
    operands: Sequence[Any], count: int, biased: bool, masked: bool
) -> tuple[tuple[Any, ...], Any, Any]:
    """Return the first operands, the bias and the mask."""
    rest = list(operands[count:])
    bias = rest.pop(0) if biased else None
    return tuple(operands[:count]), bias, rest.pop(0) if masked else None


# --------------------------------------------------------------------------------------------------- what they mean
def _values(*operands: Any, causal: bool, scale: float, biased: bool, masked: bool) -> Array:
    (q, k, v), bias, mask = _parts(operands, 3, biased, masked)
    return attend_in_blocks(q, k, v, bias, mask, None, causal, scale)


def _cotangents(
    *operands: Any, causal: bool, scale: float, biased: bool, masked: bool
) -> tuple[Array, ...]:
    (q, k, v, g), bias, mask = _parts(operands, 4, biased, masked)

    def values(q: Array, k: Array, v: Array) -> Array:
        return attend_in_blocks(q, k, v, bias, mask, None, causal, scale)

    gq, gk, gv = vjp(values, q, k, v)[1](g)
    return gq, gk, gv


# ------------------------------------------------------------------------------------------------------------- rules
def _forward(be: Any, *operands: Any, moves: bool, **params: Any) -> tuple[Array]:
    if be.name == "cpu" and _is_large(operands):
        made: tuple[Array] = _run(attention_p, operands, {**params, "moves": False})
        return made
    if be.name == "cuda":
        (q, k, v), bias, mask = _parts(operands, 3, params["biased"], params["masked"])
        options = {"causal": params["causal"], "scale": params["scale"]}
        return (be.attention(q, k, v, bias, mask, **options),)
    return (_values(*operands, **params),)


def _pull_forward(be: Any, *operands: Any, **params: Any) -> tuple[Array, ...]:
    if be.name == "cpu" and _is_large(operands):
        return _run(attention_pull_p, operands, params)
    if be.name == "cuda":
        (q, k, v, g), bias, mask = _parts(operands, 4, params["biased"], params["masked"])
        options = {"causal": params["causal"], "scale": params["scale"]}
        made: tuple[Array, ...] = be.attention_pull(q, k, v, g, bias, mask, **options)
        return made
    return _cotangents(*operands, **params)


def _is_large(operands: Sequence[Any]) -> bool:
    q, k, v = operands[:3]
    return math.prod(q.shape) * k.shape[-2] >= SMALL and q.shape[-1] > 0 and 0 not in v.shape


def _run(primitive: Primitive, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
    key = tuple((x.shape, x.dtype) for x in operands)
    plan = _executable(primitive, key, tuple(params.items()))
    results = execute(plan, [np.asarray(x) for x in operands])
    assert results is not None
    return tuple(results)


@functools.lru_cache(maxsize=16)
def _executable(primitive: Primitive, key: Any, params: Any) -> Executable:
    """Return the plan of one instruction; it keeps the scratch of its threads."""
    operands = [np.broadcast_to(np.zeros((), dtype), shape) for shape, dtype in key]
    made: Executable = (
        compile(lambda *xs: primitive(*xs, **dict(params))).plan(*operands).executable
    )
    return made


def _shape(q: Any, k: Any, v: Any, *rest: Any, **params: Any) -> tuple[Aval]:
    return (Aval((*q.shape[:-1], v.shape[-1]), dtype_of(q)),)


def _pull_shape(q: Any, k: Any, v: Any, *rest: Any, **params: Any) -> tuple[Aval, ...]:
    return tuple(Aval(x.shape, dtype_of(x)) for x in (q, k, v))


def _jvp(ts: Any, xs: Any, ys: Any, *, moves: bool, **params: Any) -> tuple[Array]:
    flags = params["biased"], params["masked"]
    primals, bias, mask = _parts(xs, 3, *flags)
    tangents, db, _ = _parts(ts, 3, *flags)
    t = tangent_in_blocks(
        (*primals, bias, mask), (*tangents, db), params["causal"], params["scale"]
    )
    return (t,)


def _vjp(gs: Any, xs: Any, ys: Any, *, moves: bool, **params: Any) -> list[Any]:
    (g,) = gs
    pulled = attention_pull_p(*xs[:3], g, *xs[3:], **params)
    out = [*pulled, *[None] * (len(xs) - 3)]
    if moves:  # nobody differentiates a bias that is no tracer

        def of_bias(bias: Array) -> Array:
            return _values(*xs[:3], bias, *xs[4:], **params)

        (out[3],) = vjp(of_bias, xs[3])[1](g)
    return out


_pull_jvp, _pull_vjp = rules_by_meaning(_cotangents)


def _batched(count: int) -> Any:
    """Return the batching rule of an operation with so many operands before bias and mask."""

    def batch(on: Sequence[bool], values: Sequence[Any], size: int, **params: Any) -> Any:
        rank = len(values[0].shape) + (not on[0])
        given = []
        for i, (mapped, x) in enumerate(zip(on, values, strict=True)):
            if i < count:
                x = x if mapped else expand_batch(x, size)
            elif mapped:
                x = x.reshape((size, *(1,) * (rank - len(x.shape)), *x.shape[1:]))
            given.append(x)
        return tuple((attention_p if count == 3 else attention_pull_p)(*given, **params))

    return batch


attention_p = Primitive(
    "attention",
    forward=_forward,
    joint=True,
    vjp=(_vjp,),
    jvp=(_jvp,),
    keeps=("*",),
    shape=_shape,
    batch=_batched(3),
    outputs="all",
    register=False,
)

attention_pull_p = Primitive(
    "attention_pull",
    forward=_pull_forward,
    joint=True,
    vjp=(_pull_vjp,),
    jvp=(_pull_jvp,),
    keeps=("*",),
    shape=_pull_shape,
    batch=_batched(4),
    outputs="all",
    register=False,
)
