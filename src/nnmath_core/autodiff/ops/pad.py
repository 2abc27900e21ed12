"""Padding: constants, entries of the array, reflections, ramps and statistics, in all modes of NumPy."""

from __future__ import annotations

import operator

import numpy as np

from nnmath_core.autodiff.ops.conventions import (
    as_operand,
    beside,
    constant,
    dtype_of,
    holds_tracer,
    kept,
    ndim_of,
    numpy_functions,
    shape_of,
)
from nnmath_core.autodiff.ops.elementwise import rint
from nnmath_core.autodiff.ops.index import slice_p, take_p
from nnmath_core.autodiff.ops.join import concatenate, pad_p
from nnmath_core.autodiff.ops.plain import numpys
from nnmath_core.autodiff.ops.reduce import max as max_of, mean, min as min_of
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import broadcast_to, cast, copied, flip, squeeze
from nnmath_core.autodiff.ops.spacing import linspace
from nnmath_core.checks import require_in
from nnmath_core.errors import TraceError

__all__ = ["pad"]

# mode -> the keywords that it has
_MODES = {
    "constant": ("constant_values",),
    "edge": (),
    "empty": (),
    "linear_ramp": ("end_values",),
    "maximum": ("stat_length",),
    "mean": ("stat_length",),
    "median": ("stat_length",),
    "minimum": ("stat_length",),
    "reflect": ("reflect_type",),
    "symmetric": ("reflect_type",),
    "wrap": (),
}


@numpys(np.pad)
def pad(array, pad_width, mode="constant", **kwargs):
    """NumPy's ``pad`` in all its modes; the values of constants and ramps may be traced."""
    x = as_operand(array)
    if callable(mode):
        raise TraceError(
            "pad: a function as `mode` writes into its argument, and a traced array cannot be written into. "
            "Write np.concatenate([...])."
        )
    require_in("pad", "mode", mode, tuple(_MODES))
    for name in kwargs:
        if name not in _MODES[mode]:
            raise ValueError(f"unsupported keyword arguments for mode '{mode}': {{'{name}'}}")
    widths = _widths(pad_width, ndim_of(x))
    if mode == "constant":
        return _pad_constant(x, widths, kwargs.get("constant_values", 0))
    if mode == "empty":
        return pad_p(x, widths=widths)
    for axis, (n, w) in enumerate(zip(shape_of(x), widths, strict=True)):
        if n == 0 and any(w):
            raise ValueError(
                f"can't extend empty axis {axis} using modes other than 'constant' or 'empty'"
            )
    if not any(map(any, widths)):
        return copied(x)
    if mode in ("reflect", "symmetric"):
        kind = kwargs.get("reflect_type", "even")
        require_in("pad", "reflect_type", kind, ("even", "odd"))
        if kind == "odd":
            return _each_axis(x, widths, lambda y, axis, w: _pad_odd(y, axis, w, mode == "reflect"))
    if mode in ("edge", "reflect", "symmetric", "wrap"):
        return _each_axis(x, widths, lambda y, axis, w: _pad_taken(y, axis, w, mode))
    if mode == "linear_ramp":
        ends = _pairs("end_values", kwargs.get("end_values", 0), ndim_of(x))
        return _each_axis(x, widths, lambda y, axis, w: _pad_ramp(y, axis, w, ends[axis]))
    lengths = _lengths(kwargs.get("stat_length"), shape_of(x), mode)
    return _each_axis(x, widths, lambda y, axis, w: _pad_statistic(y, axis, w, mode, lengths[axis]))


def _each_axis(x, widths, extend):
    """The axes one after the other: corners come from what the earlier axes have added, as NumPy's do."""
    for axis, w in enumerate(widths):
        if any(w):
            x = extend(x, axis, w)
    return x


# ---------------------------------------------------------------------------------------------- arguments
def _widths(pad_width, ndim):
    if isinstance(pad_width, dict):
        rows = [(0, 0)] * ndim
        for axis, w in pad_width.items():
            rows[operator.index(axis)] = w if isinstance(w, tuple) else (w, w)
        pad_width = rows or 0
    w = np.asarray(pad_width)
    if w.dtype.kind not in "iu":
        raise TypeError("`pad_width` must be of integral type.")
    w = np.broadcast_to(w, (ndim, 2)).tolist()
    if any(k < 0 for pair in w for k in pair):
        raise ValueError("index can't contain negative values")
    return tuple((a, b) for a, b in w)


def _pairs(name, values, ndim):
    """A value before and one after, for each axis; they may be traced."""
    if holds_tracer(values):
        v = broadcast_to(as_operand(values), (ndim, 2))
        return [(v[i, 0], v[i, 1]) for i in range(ndim)]
    return np.broadcast_to(np.asarray(values), (ndim, 2)).tolist()


def _lengths(stat_length, shape, mode):
    """How many entries at each end a statistic is made of; the whole axis by default."""
    if stat_length is None:
        return [(n, n) for n in shape]
    given = np.round(np.broadcast_to(np.asarray(stat_length), (len(shape), 2))).astype(int).tolist()
    rows = []
    for n, pair in zip(shape, given, strict=True):
        row = tuple(min(k, n) for k in pair)
        if any(k < 0 for k in row):
            raise ValueError("index can't contain negative values")
        if 0 in row and mode in ("maximum", "minimum"):
            raise ValueError("stat_length of 0 yields no value for padding")
        rows.append(row)
    return rows


# ---------------------------------------------------------------------------------------------- one axis
def _part(x, axis, first, last):
    return slice_p(x, index=(*[slice(None)] * axis, slice(first, last)))


def _joined(before, x, after, axis, w):
    """The array between its margins, either of which may have no width."""
    parts = [before] * (w[0] > 0) + [x] + [after] * (w[1] > 0)
    return concatenate(parts, axis)


def _repeated(row, axis, count):
    s = shape_of(row)
    return broadcast_to(row, (*s[:axis], count, *s[axis + 1 :]))


def _pad_constant(x, widths, values):
    if not holds_tracer(values) and np.ndim(values) == 0:
        y = pad_p(x, widths=widths)
        if values == 0:
            return y
        outside = np.pad(np.zeros(shape_of(x), bool), widths, constant_values=True)
        # cast as NumPy casts what it writes: 2.5 into an array of integers is 2
        value = np.asarray(values).astype(dtype_of(x), casting="unsafe").item()
        return where(beside(x, outside), value, y)
    pairs = _pairs("constant_values", values, ndim_of(x))

    def extend(y, axis, w):
        margins = [
            broadcast_to(cast(_as_array(y, v), dtype_of(x)), _margin(y, axis, k))
            for v, k in zip(pairs[axis], w, strict=True)
        ]
        return _joined(margins[0], y, margins[1], axis, w)

    y = _each_axis(x, widths, extend)
    return y if any(map(any, widths)) else copied(y)


def _as_array(like, v):
    return v if hasattr(v, "dtype") else beside(like, np.asarray(v))


def _margin(x, axis, k):
    s = shape_of(x)
    return (*s[:axis], k, *s[axis + 1 :])


def _pad_taken(x, axis, w, mode):
    """Entries of the array itself: NumPy pads their positions."""
    places = np.pad(np.arange(shape_of(x)[axis]), w, mode)
    return take_p(x, beside(x, places), axis=axis)


def _pad_odd(x, axis, w, around_entry):
    r"""Reflection through the end points: :math:`f(-k) = 2 f(0) - f(k)`, and so on at the other end.

    The extension is periodic up to a drift of twice the difference of the ends, which gives all of it at once.
    """
    n = shape_of(x)[axis]
    if n == 1:
        return _pad_taken(x, axis, w, "edge")  # as NumPy does
    k = np.arange(-w[0], n + w[1])
    period = 2 * (n - 1) if around_entry else 2 * n
    turns, k = np.divmod(k, period)
    last = n - 1
    back = k > last
    mirrored = 2 * last - k if around_entry else 2 * last + 1 - k
    taken = take_p(x, beside(x, np.where(back, mirrored, k)), axis=axis)
    first, end = _part(x, axis, 0, 1), _part(x, axis, last, n)

    def along(v):
        row = v.astype(dtype_of(x)).reshape((-1,) + (1,) * (ndim_of(x) - axis - 1))
        return beside(x, row)

    # where nothing is reflected the entry stays itself, also an infinite one
    reflected = 2 * end - taken
    y = where(beside(x, back.reshape((-1,) + (1,) * (ndim_of(x) - axis - 1))), reflected, taken)
    if not turns.any():
        return y
    moved = y + along(2 * turns) * (end - first)
    still = beside(x, (turns == 0).reshape((-1,) + (1,) * (ndim_of(x) - axis - 1)))
    return where(still, y, moved)


def _pad_ramp(x, axis, w, ends):
    n = shape_of(x)[axis]
    edges = [squeeze(_part(x, axis, 0, 1), axis), squeeze(_part(x, axis, n - 1, n), axis)]
    ramps = [
        linspace(_as_array(x, end), edge, k, endpoint=False, dtype=dtype_of(x), axis=axis)
        for end, edge, k in zip(ends, edges, w, strict=True)
    ]
    return _joined(ramps[0], x, flip(ramps[1], axis), axis, w)


def _median(x, axis, keepdims):
    return numpy_functions[np.median](x, axis=axis, keepdims=keepdims)


_STATISTICS = {"maximum": max_of, "minimum": min_of, "mean": mean, "median": _median}


def _pad_statistic(x, axis, w, mode, lengths):
    n = shape_of(x)[axis]
    parts = (_part(x, axis, 0, lengths[0]), _part(x, axis, n - lengths[1], n))
    rows = []
    for part, k in zip(parts, w, strict=True):
        if shape_of(part)[axis] == 0:  # NumPy's mean of nothing
            row = constant(x, kept(shape_of(x), (axis,)), np.nan, np.result_type(dtype_of(x), 1.0))
        else:
            row = _STATISTICS[mode](part, axis=axis, keepdims=True)
        if dtype_of(x).kind in "iu" and dtype_of(row).kind == "f":
            row = rint(row)
        rows.append(_repeated(cast(row, dtype_of(x)), axis, k))
    return _joined(rows[0], x, rows[1], axis, w)
