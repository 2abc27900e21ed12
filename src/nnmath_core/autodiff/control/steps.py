"""The primitive of scan: a known number of steps, as an equation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnmath_core._ext._autodiff import Aval, dtype_of, recomputed, reverse_first, shape_of
from nnmath_core.autodiff.control.subprogram import SubProgram, one_pass, pull, push
from nnmath_core.autodiff.ops.conventions import expand_batch, is_staged
from nnmath_core.autodiff.ops.index import slice_p
from nnmath_core.autodiff.ops.join import concatenate, stack
from nnmath_core.autodiff.ops.shape import moveaxis, reshape_p
from nnmath_core.autodiff.primitive import Primitive
from nnmath_core.autodiff.variables import carries, zero
from nnmath_core.autodiff.wiring import zeros

__all__ = ["run"]

# Operands: what the body closes over (`consts` of them), the carry (`carry` of them), the xs. Outputs: the last carry
# and the ys. With `history` the last of the ys are the carries before each step, which the vjp rule reads. `checkpoint`
# is the number of steps between two carries that reverse mode keeps where the loop runs on tracers; 0: it keeps all.
# The vjp rule of the equation keeps every carry and runs every step again, so there longer segments are nested scans.


def run(
    *operands: Any,
    body: SubProgram,
    consts: int,
    carry: int,
    length: int,
    reverse: bool,
    checkpoint: int = 0,
    history: bool = False,
) -> Any:
    """The last carry and the stacked results; an equation where an operand is staged."""
    params: dict[str, Any] = {"consts": consts, "carry": carry, "length": length}
    params["reverse"] = reverse
    if not any(map(is_staged, operands)):
        return _loop(operands, body=body, checkpoint=checkpoint, **params)
    if checkpoint > 1 and length:
        return _nested(operands, checkpoint, body=body, **params)
    if checkpoint:
        params["checkpoint"] = 1
    if history:
        return scan_p(*operands, body=body, **params, history=True)
    if not reverse_first(operands):
        return scan_p(*operands, body=body, **params)
    out = scan_p(*operands, body=_remembering(body, consts, carry), **params, history=True)
    return out[: len(body.outputs)]


def _remembering(body: SubProgram, consts: int, carry: int) -> Any:
    """The body with the carry before the step among its results."""

    def f(*a: Any) -> list[Any]:
        return [*body(*a), *a[consts : consts + carry]]

    return body.derived("history", body.name, f, body.inputs)


def _loop(
    operands: Sequence[Any],
    *,
    body: SubProgram,
    consts: int,
    carry: int,
    length: int,
    reverse: bool,
    checkpoint: int,
) -> tuple[Any, ...]:
    """The steps, one after another."""
    fixed, xs = tuple(operands[:consts]), operands[consts + carry :]
    times = range(length - 1, -1, -1) if reverse else range(length)

    def some(value: list[Any], times: range) -> Any:
        out = []
        for t in times:
            ys = body(*fixed, *value, *(slice_p(x, index=(t,)) for x in xs))
            value = ys[:carry]
            out.append(ys[carry:])
        return value, out

    value = list(operands[consts : consts + carry])
    if checkpoint:
        given: list[list[Any]] = []
        for at in range(0, length, checkpoint):
            value, more = recomputed(some, (value, times[at : at + checkpoint]), {})
            given += more
    else:
        value, given = some(value, times)
    if reverse:
        given.reverse()
    if given:
        return (*value, *(stack(column) for column in zip(*given, strict=True)))
    like = operands[0] if operands else 0.0
    return (*value, *(zeros(like, (0, *a.shape), a.dtype) for a in body.avals[carry:]))


def _nested(
    operands: Sequence[Any],
    segment: int,
    *,
    body: SubProgram,
    consts: int,
    carry: int,
    length: int,
    reverse: bool,
) -> tuple[Any, ...]:
    """A scan over segments of a scan, and a scan of what is left.

    Reverse mode keeps the carry of each outer step, and those of the inner steps of one segment at a time.
    """
    k, whole = consts + carry, length // segment * segment
    fixed, value, xs = operands[:consts], operands[consts:k], operands[k:]
    rest = length - whole
    main = [
        reshape_p(
            _rows(x, rest if reverse else 0, length if reverse else whole) if rest else x,
            shape=(whole // segment, segment, *shape_of(x)[1:]),
        )
        for x in xs
    ]
    params: dict[str, Any] = {"consts": consts, "carry": carry, "reverse": reverse}
    outer = body.derived(
        ("segment", segment, reverse),
        "segment",
        lambda *a: run(*a, body=body, length=segment, **params),
        [*operands[:k], *map(_row, main)],
    )
    steps = whole // segment
    out = run(*fixed, *value, *main, body=outer, length=steps, checkpoint=1, **params)
    value = out[:carry]
    ys = [reshape_p(y, shape=(whole, *shape_of(y)[2:])) for y in out[carry:]]
    if rest:
        low = 0 if reverse else whole
        ends = [_rows(x, low, low + rest) for x in xs]
        out = run(*fixed, *value, *ends, body=body, length=rest, **params)
        value = out[:carry]
        pairs = zip(ys, out[carry:], strict=True)
        ys = [concatenate((b, a) if reverse else (a, b)) for a, b in pairs]
    return (*value, *ys)


def _rows(x: Any, low: int, high: int) -> Any:
    return slice_p(x, index=(slice(low, high),))


def _row(x: Any) -> Aval:
    return Aval(shape_of(x)[1:], dtype_of(x))


# ------------------------------------------------------------------------------------------------ rules
def _jvp(
    ts: Any,
    xs: Any,
    *,
    body: SubProgram,
    consts: int,
    carry: int,
    length: int,
    reverse: bool,
    checkpoint: int = 0,
    history: bool = False,
) -> Any:
    """The scan over carry and tangent."""
    n, k, m = len(xs), consts + carry, len(body.outputs)
    fixed_on = [i for i in range(consts) if ts[i] is not None]
    moving = [i for i in range(consts, k) if carries(xs[i])]
    rows_on = [i for i in range(k, n) if ts[i] is not None]
    given = [j for j in range(carry, m) if carries(body.outputs[j])]
    active = (*fixed_on, *moving, *rows_on)
    fixed = [*xs[:consts], *(ts[i] for i in fixed_on)]
    start = [*xs[consts:k], *(zero(xs[i]) if ts[i] is None else ts[i] for i in moving)]
    rows = [*xs[k:], *(ts[i] for i in rows_on)]
    a, c = len(fixed), len(start)
    b = a + c

    def flat(*v: Any) -> list[Any]:
        operands = [*v[:consts], *v[a : a + carry], *v[b : b + n - k]]
        directions = [*v[consts:a], *v[a + carry : b], *v[b + n - k :]]
        ys, dots = push(body, operands, active, directions)
        ends = [dots[i - consts] for i in moving]
        return [*ys[:carry], *ends, *ys[carry:], *(dots[j] for j in given)]

    avals = [*fixed, *start, *map(_row, rows)]
    out = run(
        *(*fixed, *start, *rows),
        body=body.derived(("scan jvp", active), f"jvp of {body.name}", flat, avals),
        consts=a,
        carry=c,
        length=length,
        reverse=reverse,
        checkpoint=checkpoint,
    )
    stacked = out[c:]
    places = [*(i - consts for i in moving), *given]
    dots = dict(zip(places, (*out[carry:c], *stacked[m - carry :]), strict=True))
    return (*out[:carry], *stacked[: m - carry]), tuple(dots.get(j) for j in range(m))


def _vjp(
    gs: Any,
    xs: Any,
    ys: Any,
    *,
    body: SubProgram,
    consts: int,
    carry: int,
    length: int,
    reverse: bool,
    checkpoint: int = 0,
    history: bool = False,
    needs: Any,
) -> Any:
    """The scan the other way over the cotangent of the carry, with the carry of each step as it was."""
    n, k = len(xs), consts + carry
    params: dict[str, Any] = {"consts": consts, "length": length}
    if not history:
        again = _remembering(body, consts, carry)
        ys = run(*xs, body=again, carry=carry, reverse=reverse, **params)
    fixed_on = [i for i in range(consts) if needs[i] and carries(xs[i])]
    moving = [i for i in range(consts, k) if carries(xs[i])]
    rows_on = [i for i in range(k, n) if needs[i] and carries(xs[i])]
    given = [j for j in range(carry, len(body.outputs)) if gs[j] is not None]
    wanted = [*fixed_on, *moving, *rows_on]
    outs = [*(i - consts for i in moving), *given]
    start = [
        *(zero(xs[i]) if gs[i - consts] is None else gs[i - consts] for i in moving),
        *(zero(xs[i]) for i in fixed_on),
    ]
    rows = [*ys[len(ys) - carry :], *xs[k:], *(gs[j] for j in given)]
    a, b, c = len(moving), len(start), len(fixed_on)

    def flat(*v: Any) -> list[Any]:
        fixed, now, row = v[:consts], v[consts : consts + b], v[consts + b :]
        operands, gy = (*fixed, *row[: n - consts]), row[n - consts :]
        cts = pull(body, operands, wanted, outs, (*now[:a], *gy))
        sums = [s + t for s, t in zip(now[a:], cts[:c], strict=True)]
        return [*cts[c : c + a], *sums, *cts[c + a :]]

    avals = [*xs[:consts], *start, *map(_row, rows)]
    key = ("scan vjp", tuple(wanted), tuple(given))
    back = body.derived(key, f"vjp of {body.name}", flat, avals)
    out = run(*xs[:consts], *start, *rows, body=back, carry=b, reverse=not reverse, **params)
    cts: list[Any] = [None] * n
    for i, g in zip([*moving, *fixed_on, *rows_on], out, strict=True):
        cts[i] = g
    return cts


def _batch(
    on: Any,
    values: Any,
    size: int,
    *,
    body: SubProgram,
    consts: int,
    carry: int,
    length: int,
    reverse: bool,
    checkpoint: int = 0,
    history: bool = False,
) -> Any:
    k = consts + carry
    moving = tuple(on[consts:k])
    while True:  # what depends on the example spreads over the carry
        now = (*on[:consts], *moving, *on[k:])
        over, found = body.batched(now, size, False)
        more = tuple(a or b for a, b in zip(moving, found[:carry], strict=True))
        if more == moving:
            break
        moving = more
    wide = (*moving, *found[carry:])

    def flat(*a: Any) -> list[Any]:
        return [
            expand_batch(y, size) if want and not have else y
            for y, have, want in zip(over(*a), found, wide, strict=True)
        ]

    xs = [
        expand_batch(v, size) if want and not have else v
        for v, have, want in zip(values[:k], on[:k], now[:k], strict=True)
    ]
    xs += [moveaxis(v, 0, 1) if m else v for v, m in zip(values[k:], on[k:], strict=True)]
    avals = [*xs[:k], *map(_row, xs[k:])]
    out = run(
        *xs,
        body=body.derived(("scan vmap", now, size), over.name, flat, avals),
        consts=consts,
        carry=carry,
        length=length,
        reverse=reverse,
        checkpoint=checkpoint,
    )
    return tuple(
        (y if i < carry else moveaxis(y, 1, 0)) if wide[i] else expand_batch(y, size)
        for i, y in enumerate(out)
    )


def _shape(
    *operands: Any,
    body: SubProgram,
    consts: int,
    carry: int,
    length: int,
    reverse: bool,
    checkpoint: int = 0,
    history: bool = False,
) -> Any:
    return (
        *(Aval(a.shape, a.dtype) for a in body.avals[:carry]),
        *(Aval((length, *a.shape), a.dtype) for a in body.avals[carry:]),
    )


def _forward(
    be: Any, *operands: Any, checkpoint: int = 0, history: bool = False, **params: Any
) -> Any:
    return _loop(operands, checkpoint=checkpoint, **params)


scan_p = Primitive(
    "scan",
    forward=_forward,
    joint=True,
    vjp=(_vjp,),
    jvp=(one_pass(_jvp),),
    keeps=("*y",),
    inline=run,
    shape=_shape,
    batch=_batch,
    outputs="all",
    register=False,
)
