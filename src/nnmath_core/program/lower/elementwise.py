"""Elementwise primitives and reductions as nodes of the machine."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.special

from nnmath_core._ext._autodiff import Var
from nnmath_core.autodiff.ops.special.declare import typed
from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.program import loops
from nnmath_core.program.builder import Builder, View, row_major
from nnmath_core.program.ir import Equation
from nnmath_core.program.lower.rules import RULES, lowers
from nnmath_core.program.nodes import Loop, Map

__all__ = ["along_columns", "as_dtype", "mapped", "reduced", "same_entries"]


def mapped(
    b: Builder, loop: Loop, operands: Sequence[View], dtype: Any, shape: Sequence[int] | None = None
) -> View:
    """The result of a loop on operands that broadcast, as a node."""
    if shape is None:
        shape = np.broadcast_shapes(*(v.shape for v in operands))
    key = (loop, tuple(shape), *map(same_entries, operands))
    if key not in b.known:  # what was computed before is not computed again
        out = b.known[key] = b.array(shape, dtype)
        if out.size:
            b.emit("node", operands, [out], object=Map(loop), note=loop.name)
    return b.known[key]


def same_entries(v: View) -> Any:
    """What tells the entries of a view from those of others."""
    return v.buffer, v.offset, v.shape, v.strides, v.dtype


def _emit(b: Builder, loop: Loop, operands: Sequence[View], out: Var) -> None:
    """Let a variable be the result of a loop."""
    b.define(out, mapped(b, loop, operands, out.dtype, out.shape))


def reduced(
    b: Builder, name: str, x: View, axes: Sequence[int], keepdims: bool = True, target: Any = None
) -> View | None:
    """A reduction over axes, as a node; None where there is no loop for the dtype, or for sums in the target's."""
    axes = tuple(sorted(a % x.ndim for a in axes)) if x.ndim else ()
    target = x.dtype if target is None else np.dtype(target)
    trailing = along_columns(x, axes)
    if target != x.dtype and not trailing:  # sums over rows are made in the dtype of the entries
        wide = as_dtype(b, x, target)
        if wide is None:
            return None
        x = wide
    what = loops.reduction(name, axes, x.dtype, target)
    if what is None:
        return None
    moved = _less_the_largest(b, x, axes) if name == "max" and keepdims and trailing else None
    if moved is not None:
        return moved
    shape = [1 if a in axes else n for a, n in enumerate(x.shape) if keepdims or a not in axes]
    if all(x.shape[a] == 1 for a in axes):
        wide = as_dtype(b, x, target)
        if wide is None:
            return None
        x = wide
        strides = [s for a, s in enumerate(x.strides) if keepdims or a not in axes]
        return x.at(x.offset, shape, strides)
    key = (name, axes, keepdims, target, same_entries(x))
    if key in b.known:
        return b.known[key]
    out = b.known[key] = b.array(shape, target)
    if not out.size:
        return out
    if not x.size:
        filled(b, np.frombuffer(what.column.start, x.dtype)[0], out)
        return out
    b.emit("node", [x], [out], object=what, note=name)
    return out


def _less_the_largest(b: Builder, x: View, axes: tuple[int, ...]) -> View | None:
    """The maximum of y - max(y) as max(y) - max(y): rounding keeps the order, and one pass finds both.

    Some entries may be replaced by -inf, if others are left in each row: then what is not finite stays the same, too.
    """
    excluded: tuple[View, View] | None = None
    s = _maker(b, x)
    if s is not None and s.object.loop.name == "where":
        c, fill, x = s.reads
        if not _is_minus_infinity(fill) or not _leaves_some(
            b, c.broadcast(s.writes[0].shape), axes
        ):
            return None
        excluded, s = (c, fill), _maker(b, x)
    if s is None or s.object.loop.name != "subtract" or s.writes[0].dtype.kind != "f":
        return None
    y, top = s.reads
    if b.known.get(("max", axes, True, y.dtype, same_entries(y))) != top:
        return None
    loop = loops.ours("subtract", y.dtype)
    if loop is None:
        return None
    if excluded is not None:
        where = loops.where(y.dtype)
        assert where is not None
        y = mapped(b, where, [*excluded, y], y.dtype)
    first = reduced(b, "max", y, axes)
    return None if first is None else mapped(b, loop, [first, top], first.dtype)


def _maker(b: Builder, v: View) -> Any:
    """The node that makes a view, entry by entry; None where there is none."""
    for s in reversed(b.steps):
        if any(w.buffer is v.buffer for w in s.writes):
            whole = isinstance(s.object, Map) and same_entries(s.writes[0]) == same_entries(v)
            return s if whole else None
    return None


def _is_minus_infinity(v: View) -> bool:
    array = v.buffer.array if v.buffer.kind == "constant" else None
    return array is not None and not array.flags.writeable and bool(np.all(array == -math.inf))


def _leaves_some(b: Builder, c: View, axes: Sequence[int]) -> bool:
    """Whether a condition is certainly false somewhere along the axes: a class of two or more, or a fixed array."""
    if c.buffer.kind == "constant" and not c.buffer.array.flags.writeable:
        entries = np.lib.stride_tricks.as_strided(
            c.buffer.array.reshape(-1)[c.offset :], c.shape, c.strides
        )
        return not bool(entries.all(axis=tuple(axes)).any())
    s = _maker(b, c)
    if s is None or s.object.loop.name != "equal" or len(axes) != 1 or c.shape[axes[0]] < 2:
        return False
    for label, column in (s.reads, s.reads[::-1]):
        array = column.buffer.array if column.buffer.kind == "constant" else None
        label, column = (v.broadcast(c.shape) for v in (label, column))
        if array is None or array.flags.writeable or array.ndim != 1 or column.dtype != array.dtype:
            continue
        # different numbers, of which one at most is the label
        apart = array.dtype.kind == "i" and len(np.unique(array)) == len(array) == c.shape[axes[0]]
        if apart and label.strides[axes[0]] == 0 and column.strides[axes[0]] == array.itemsize:
            return True
    return False


def along_columns(x: View, axes: Sequence[int]) -> bool:
    """Whether a reduction over these axes is one along the columns of the machine: the last in memory."""
    if math.prod(x.shape[a] for a in axes) == 1:
        return False
    if tuple(axes) != tuple(range(x.ndim - len(axes), x.ndim)):
        return False
    long = [abs(s) for n, s in zip(x.shape, x.strides, strict=True) if n != 1]
    return all(a > b > 0 for a, b in itertools.pairwise(long)) and (not long or long[-1] > 0)


def filled(b: Builder, value: Any, out: View) -> None:
    """Fill an array with a number."""
    loop = loops.copy(out.dtype)
    assert loop is not None
    if out.size:
        source = b.constant(np.asarray(value, out.dtype))
        b.emit("node", [source], [out], object=Map(loop), note="fill")


def as_dtype(b: Builder, v: View, dtype: Any) -> View | None:
    """The entries as another dtype."""
    dtype = np.dtype(dtype)
    if v.dtype == dtype:
        return v
    array = v.buffer.array
    if v.buffer.kind == "constant" and array.size == 1 and not array.flags.writeable:
        return b.constant(array.reshape(()).astype(dtype)).broadcast(v.shape)
    if dtype.kind == "c":
        return _as_complex(b, v, dtype) if loops.castable(v.dtype, dtype) else None
    loop = loops.cast(v.dtype, dtype)
    return None if loop is None else mapped(b, loop, [v], dtype)


def _as_complex(b: Builder, v: View, dtype: np.dtype[Any]) -> View:
    """The entries as complex numbers of another precision, or with imaginary parts 0."""
    key = ("complex", dtype, same_entries(v))
    if key not in b.known:
        half = np.zeros(0, dtype).real.dtype
        if v.dtype.kind == "c":  # as pairs of real numbers
            own = np.zeros(0, v.dtype).real.dtype
            pairs = View(v.buffer, v.offset, (*v.shape, 2), (*v.strides, own.itemsize), own)
            flat = as_dtype(b, pairs, half)
            assert flat is not None
            flat = b.contiguous(flat)
        else:
            real = as_dtype(b, v, half)
            assert real is not None
            flat = b.array((2 * v.size,), half)
            if v.size:  # see plan/place.c: every second entry, zeros between
                ints = [half.itemsize, 1, 1, 1, 2 * v.size, 0, 2, v.size, half.itemsize]
                b.emit("place", [b.contiguous(real)], [flat], ints, note="complex")
        strides = row_major(v.shape, dtype.itemsize)
        b.known[key] = View(flat.buffer, flat.offset, v.shape, strides, dtype)
    return b.known[key]


def _elementwise(b: Builder, e: Equation) -> Any:
    """An elementwise primitive whose host function is a ufunc, or that our own loops have."""
    p, out = e.primitive, e.outputs[0]
    if p.several or e.params:
        return NotImplemented
    ufunc = p.host
    if isinstance(ufunc, functools.partial) and ufunc.func is typed:
        # SciPy's function in the precision of the arrays, which must then be one
        kinds = {x.dtype for x in e.operands if isinstance(x, Var) and not x.weak}
        if kinds != {out.dtype} or out.dtype.kind != "f":
            return NotImplemented
        ufunc = getattr(scipy.special, ufunc.args[0])
    if not isinstance(ufunc, np.ufunc):
        return NotImplemented
    try:
        types = ufunc.resolve_dtypes((*map(_promoting, e.operands), *[None] * ufunc.nout))
    except (TypeError, ValueError):
        return NotImplemented
    if ufunc.nout != 1 or types[-1] != out.dtype:
        return NotImplemented
    loop = None
    if all(t == types[0] for t in types[:-1]) and types[0].kind == "f":
        loop = loops.ours(p.name, types[0])
    if loop is None:
        chars = "".join(t.char for t in types[:-1]) + "->" + types[-1].char
        loop = loops.of_ufunc(ufunc, chars)
    if loop is None:
        return NotImplemented
    for x, t in zip(e.operands, types, strict=False):
        if isinstance(x, Var) and not loops.castable(x.dtype, t):
            return NotImplemented
    operands = [_operand(b, x, t) for x, t in zip(e.operands, types, strict=False)]
    _emit(b, loop, operands, out)
    return None


def _promoting(x: Any) -> Any:
    """What an operand is to NumPy's promotion: a dtype, or a Python type."""
    if isinstance(x, Var):
        return type(x.dtype.type(0).item()) if x.weak else x.dtype
    return type(x) if type(x) in (int, float, complex) else np.result_type(x)


def _operand(b: Builder, x: Any, dtype: Any) -> View:
    if not isinstance(x, Var):
        return b.view(x, dtype)
    v = as_dtype(b, b.view(x), dtype)
    assert v is not None
    return v


def _common(b: Builder, e: Equation, operands: Sequence[Any], dtype: Any) -> list[View] | None:
    """Operands as one dtype; None where one cannot be."""
    for x in operands:
        if isinstance(x, Var) and not loops.castable(x.dtype, dtype):
            return None
    return [_operand(b, x, dtype) for x in operands]


@lowers("where")
def _where(b: Builder, e: Equation) -> Any:
    condition, x, y = e.operands
    out = e.outputs[0]
    loop = loops.where(np.float64 if out.dtype == np.complex128 else out.dtype)
    if loop is None and out.dtype != np.bool_:
        return NotImplemented
    if isinstance(condition, Var) and condition.dtype != np.bool_:
        return NotImplemented
    both = _common(b, e, (x, y), out.dtype)
    if both is None:
        return NotImplemented
    c = b.view(condition, np.bool_) if not isinstance(condition, Var) else b.view(condition)
    if loop is None:
        b.define(out, _where_bool(b, c, *(v.broadcast(out.shape) for v in both)))
    elif out.dtype == np.complex128:  # as pairs of real numbers
        half = np.dtype(np.float64)
        halves = [View(v.buffer, v.offset, (*v.shape, 2), (*v.strides, 8), half) for v in both]
        pairs = mapped(
            b,
            loop,
            [c.at(c.offset, (*c.shape, 1), (*c.strides, 0)), *halves],
            half,
            (*out.shape, 2),
        )
        b.define(out, View(pairs.buffer, pairs.offset, out.shape, pairs.strides[:-1], out.dtype))
    else:
        _emit(b, loop, [c, *both], out)
    return None


def _where_bool(b: Builder, c: View, x: View, y: View) -> View:
    """The truth of x where c, else of y."""
    both, either, inverse = (
        loops.of_ufunc(f, types)
        for f, types in (
            (np.logical_and, "??->?"),
            (np.logical_or, "??->?"),
            (np.logical_not, "?->?"),
        )
    )
    assert both is not None
    assert either is not None
    assert inverse is not None
    left = mapped(b, both, [c, x], np.bool_)
    right = mapped(b, both, [mapped(b, inverse, [c], np.bool_), y], np.bool_)
    return mapped(b, either, [left, right], np.bool_)


@lowers("stop_gradient")
def _alias(b: Builder, e: Equation) -> Any:
    if not isinstance(e.operands[0], Var):
        return NotImplemented
    b.define(e.outputs[0], b.view(e.operands[0]))
    return None


@lowers("relu", "gelu", "gelu_slope", "gelu_tanh", "gelu_tanh_slope")
def _own(b: Builder, e: Equation) -> Any:
    """A primitive that is a loop of ours and nobody's ufunc."""
    x, out = e.operands[0], e.outputs[0]
    loop = loops.ours(e.primitive.name, out.dtype)
    if loop is None or not isinstance(x, Var) or x.dtype != out.dtype:
        return NotImplemented
    _emit(b, loop, [b.view(x)], out)
    return None


@lowers("clip")
def _clip(b: Builder, e: Equation) -> Any:
    out = e.outputs[0]
    low, high = loops.of_ufunc(np.maximum, _binary(out)), loops.of_ufunc(np.minimum, _binary(out))
    three = _common(b, e, e.operands, out.dtype) if low and high else None
    if three is None or low is None or high is None:
        return NotImplemented
    x, a, c = three
    raised = mapped(b, loops.ours("maximum", out.dtype) or low, [x, a], out.dtype)
    _emit(b, loops.ours("minimum", out.dtype) or high, [raised, c], out)
    return None


@lowers("logaddexp")
def _logaddexp(b: Builder, e: Equation) -> Any:
    """The larger plus log1p(exp(-|x - y|)); two that are equal, infinite ones too, plus log 2."""
    out = e.outputs[0]
    names = "maximum", "subtract", "absolute", "negative", "exp", "log1p", "add", "equal", "where"
    found = {name: loops.ours(name, out.dtype) for name in names}
    pair = _common(b, e, e.operands, out.dtype) if all(found.values()) else None
    if pair is None:
        return NotImplemented

    def apply(name: str, *operands: View, dtype: Any = out.dtype) -> View:
        loop = found[name]
        assert loop is not None
        return mapped(b, loop, list(operands), dtype)

    x, y = pair
    apart = apply("negative", apply("absolute", apply("subtract", x, y)))
    more = apply("log1p", apply("exp", apart))
    more = apply(
        "where", apply("equal", x, y, dtype=np.bool_), b.view(math.log(2.0), out.dtype), more
    )
    b.define(out, apply("add", apply("maximum", x, y), more).broadcast(out.shape))
    return None


def _binary(v: Any) -> str:
    c = v.dtype.char
    return f"{c}{c}->{c}"


@lowers("same")
def _same(b: Builder, e: Equation) -> Any:
    """Where two values are equal, a NaN being equal to a NaN."""
    dtype = np.result_type(*map(_promoting_dtype, e.operands))
    equal, isnan = loops.ours("equal", dtype), loops.ours("isnan", dtype)
    both, either = loops.ours("logical_and", np.bool_), loops.ours("logical_or", np.bool_)
    pair = _common(b, e, e.operands, dtype)
    if equal is None or isnan is None or both is None or either is None or pair is None:
        return NotImplemented
    y = mapped(b, equal, pair, np.bool_)
    if not any(not isinstance(x, Var) and x == x for x in e.operands):  # else no NaN meets a NaN
        nans = [mapped(b, isnan, [v], np.bool_) for v in pair]
        y = mapped(b, either, [y, mapped(b, both, nans, np.bool_)], np.bool_)
    b.define(e.outputs[0], y.broadcast(e.outputs[0].shape))
    return None


def _promoting_dtype(x: Any) -> Any:
    """A dtype, or a number whose type is weak."""
    return x.dtype if isinstance(x, Var) and not x.weak else 0.0 if isinstance(x, Var) else x


@lowers("share")
def _share(b: Builder, e: Equation) -> Any:
    """Give g where it was selected, in equal parts with the others that were."""
    g, mine, *others = e.operands
    out = e.outputs[0]
    names = ("where", "divide", "add")
    where, divide, add = (loops.ours(name, out.dtype) for name in names)
    if where is None or divide is None or add is None:
        return NotImplemented
    if not isinstance(g, Var) or g.dtype != out.dtype:
        return NotImplemented
    counted = [x for x in others if x is not False]
    for x in (mine, *counted):
        if isinstance(x, Var) and x.dtype != np.bool_:
            return NotImplemented
    y = mapped(
        b, where, [_operand(b, mine, np.bool_), b.view(g), b.view(0.0, out.dtype)], out.dtype
    )
    count: View | None = None
    for x in counted:
        part = as_dtype(b, _operand(b, x, np.bool_), out.dtype)
        assert part is not None
        count = part if count is None else mapped(b, add, [count, part], out.dtype)
    if count is not None:
        y = mapped(
            b, divide, [y, mapped(b, add, [count, b.view(1.0, out.dtype)], out.dtype)], out.dtype
        )
    b.define(out, y.broadcast(out.shape))
    return None


@lowers("divided_times")
def _divided_times(b: Builder, e: Equation) -> Any:
    """Divide x by y, times g."""
    out = e.outputs[0]
    divide, multiply = loops.ours("divide", out.dtype), loops.ours("multiply", out.dtype)
    three = _common(b, e, e.operands, out.dtype)
    if divide is None or multiply is None or three is None:
        return NotImplemented
    x, y, g = three
    _emit(b, multiply, [mapped(b, divide, [x, y], out.dtype), g], out)
    return None


@lowers("power")
def _power(b: Builder, e: Equation) -> Any:
    """A small whole number of factors, multiplied; anything else is the function."""
    x, k = e.operands
    out = e.outputs[0]
    multiply = loops.ours("multiply", out.dtype)
    if (
        isinstance(x, Var)
        and not isinstance(k, Var)
        and multiply is not None
        and x.dtype == out.dtype
        and float(k) in _FACTORS
    ):
        square = loops.ours("square", out.dtype)
        assert square is not None
        v = b.view(x)
        result: View | None = None
        n = int(abs(k))
        while n:  # by squaring
            if n % 2:
                result = v if result is None else mapped(b, multiply, [result, v], out.dtype)
            n //= 2
            if n:
                v = mapped(b, square, [v], out.dtype)
        if k < 0:
            reciprocal = loops.ours("reciprocal", out.dtype)
            assert reciprocal is not None
            assert result is not None
            result = mapped(b, reciprocal, [result], out.dtype)
        assert result is not None
        b.define(out, result)
        return None
    return _elementwise(b, e)


_FACTORS = {float(k) for k in (-2, -1, 1, 2, 3, 4, 5, 6, 7, 8)}


@lowers("sum", "max", "min", "any", "all", "prod")
def _reduce(b: Builder, e: Equation) -> Any:
    x, out = e.operands[0], e.outputs[0]
    name, axes, keepdims = e.primitive.name, e.params["axis"], e.params["keepdims"]
    if not isinstance(x, Var):
        return NotImplemented
    if axes is None:
        axes = tuple(range(len(x.shape)))
    axes = tuple(axes) if isinstance(axes, (tuple, list)) else (axes,)
    if set(e.params) != {"axis", "keepdims"}:
        return NotImplemented
    v = b.view(x)
    truth = name in ("any", "all")
    within = np.dtype(bool) if truth else out.dtype
    if loops.reduction(name, axes, within) is None or (v.size == 0 and name in ("max", "min")):
        return NotImplemented
    if truth and v.dtype != np.bool_:
        nonzero = loops.of_ufunc(np.not_equal, f"{v.dtype.char}{v.dtype.char}->?")
        if nonzero is None:
            return NotImplemented
        v = mapped(b, nonzero, [v, b.view(0, v.dtype)], np.bool_)
    elif v.dtype != within:
        if not loops.castable(v.dtype, within):
            return NotImplemented
        cast = as_dtype(b, v, within)
        assert cast is not None
        v = cast
    # trailing axes first, so that each reduction is along columns or over rows
    trailing = (
        [a for k, a in enumerate(reversed(sorted(a % v.ndim for a in axes))) if a == v.ndim - 1 - k]
        if v.ndim
        else []
    )
    others = [a for a in axes if a % v.ndim not in trailing] if v.ndim else []
    if trailing and others and math.prod(v.shape[a] for a in trailing) > 1:
        first = reduced(b, name, v, trailing)
        assert first is not None
        v = first
    result = reduced(b, name, v, axes, keepdims)
    assert result is not None
    b.define(e.outputs[0], result)
    return None


for _p in REGISTRY.values():
    if _p.elementwise and _p.name not in RULES:
        lowers(_p.name)(_elementwise)
