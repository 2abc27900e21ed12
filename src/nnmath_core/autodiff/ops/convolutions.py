"""The convolution of layers: strided, padded, dilated, in groups, over any number of axes, channels last.

The trilinear form sum_y g[y] conv(x, w)[y] has three partial derivatives: `conv_p` of x and w, `conv_input_p` of g and
w (the transposed convolution) and `conv_kernel_p` of x and g. Each is the derivative of the other two, so that all of
them are closed under differentiation to any order. Arrays have the shapes x (n, *s, c), w (*k, c / groups, o) and
g (n, *t, o).

The host gathers the windows of a few examples at a time into a matrix, small enough to stay in a cache, and multiplies
it; a kernel of length 1 is one product of what is there. `convolve.py` is the convolution of signals: no stride, no
groups, but labelled axes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnmath_core.autodiff.ops.conventions import Aval, dtype_of, result_dtype, shape_of
from nnmath_core.autodiff.ops.shape import cast, reshape_p, transpose_p
from nnmath_core.autodiff.primitive import Primitive, sample

__all__ = ["conv_input_p", "conv_kernel_p", "conv_p", "output_lengths", "windows_at"]

BLOCK = {False: 1 << 17, True: 1 << 26}
"""Numbers in a matrix of windows: the host's second-level cache, or (True) what fills a GPU."""

FEW_CHANNELS = 8
"""Below, sums over rows of that length cost more than bringing the channels to the front."""


def output_lengths(
    size: Any, window: Any, stride: Any, padding: Any, dilation: Any
) -> tuple[int, ...]:
    """How many windows there are along each axis (less than 1: none)."""
    axes = zip(size, window, stride, padding, dilation, strict=True)
    return tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes)


def windows_at(offset, counts, stride, dilation):
    """The index, behind the axis of examples, of the entries that all windows have at one offset."""
    axes = zip(offset, counts, stride, dilation, strict=True)
    return tuple(slice(i * d, i * d + (m - 1) * s + 1, s) for i, m, s, d in axes)


# ---------------------------------------------------------------------------------------------- windows
def _padded(xp, x, padding):
    if not any(map(any, padding)):
        return x
    size = x.shape[1:-1]
    lengths = [n + a + b for n, (a, b) in zip(size, padding, strict=True)]
    out = xp.zeros((x.shape[0], *lengths, x.shape[-1]), x.dtype)
    out[_inside(size, padding)] = x
    return out


def _inside(size, padding):
    return (slice(None), *(slice(a, a + n) for n, (a, _) in zip(size, padding, strict=True)))


def _blocks(be, n, numbers):
    """Ranges of examples of which ``numbers`` each fit into a block."""
    step = max(1, BLOCK[be.name == "cuda"] // max(numbers, 1))
    return [(i, min(i + step, n)) for i in range(0, n, step)]


def _matrices(be, x, window, counts, stride, dilation, groups):
    """Yield (rows, matrix): for some examples, or lines of one, the windows of each group, (groups, windows, terms).

    ``x`` is padded. The matrix is overwritten by the next one.
    """
    xp, n, d = be.xp, x.shape[0], len(window)
    each = x.shape[-1] // groups
    many = math.prod(counts)
    if math.prod(window) == 1 and set(stride) == {1}:
        yield slice(0, n * many), xp.transpose(xp.reshape(x, (-1, groups, each)), (1, 0, 2))
        return
    terms = math.prod(window) * each
    line = many // counts[0]  # windows for each position of the first axis
    blocks = _parts(be, n, counts[0], line * terms * groups)
    m, lines = (blocks[0][1] - blocks[0][0], blocks[0][3] - blocks[0][2])
    split = xp.reshape(x, (*x.shape[:-1], groups, each))
    places = range(1, d + 1)
    if each == 1:  # windows last: their entries are neighbours in x, those of one window are not
        buffer = xp.empty((groups, *window, m, lines, *counts[1:], each), x.dtype)
        axes = (d + 1, *range(d + 2, 2 * d + 2), 0, *places, 2 * d + 2)
    else:
        buffer = xp.empty((groups, m, lines, *counts[1:], *window, each), x.dtype)
        axes = (d + 1, 0, *places, *range(d + 2, 2 * d + 2), 2 * d + 2)
    for i, j, first, last in blocks:
        if each == 1:
            part = buffer[(slice(None),) * (d + 1) + (slice(0, j - i), slice(0, last - first))]
        else:
            part = buffer[:, : j - i, : last - first]
        # all windows of the block: (m, *counts, groups, *window, each)
        room = xp.transpose(part, [axes.index(k) for k in range(2 * d + 3)])
        _gather(
            xp,
            split[i:j, first * stride[0] :],
            room,
            window,
            room.shape[1 : d + 1],
            stride,
            dilation,
        )
        rows = slice(i * many + first * line, (j - 1) * many + last * line)
        if each == 1:
            matrix = xp.reshape(part, (groups, terms, -1))
            yield rows, xp.transpose(matrix, (0, 2, 1))
        else:
            yield rows, xp.reshape(part, (groups, -1, terms))


def _parts(be, n, lines, numbers):
    """Blocks (examples i to j, lines a to b) of ``numbers`` for each line: whole examples, or lines of one."""
    if lines * numbers <= BLOCK[be.name == "cuda"]:
        return [(i, j, 0, lines) for i, j in _blocks(be, n, lines * numbers)]
    return [(i, i + 1, a, b) for i in range(n) for a, b in _blocks(be, lines, numbers)]


def _gather(xp, x, room, window, counts, stride, dilation):
    """Write the windows of x (m, *s, groups, each) into room (m, *counts, groups, *window, each)."""
    d = len(window)
    if xp is np:  # one copy, in the order of the destination
        step = x.strides[1 : d + 1]
        strides = (
            x.strides[0],
            *(a * s for a, s in zip(step, stride, strict=True)),
            x.strides[-2],
            *(a * s for a, s in zip(step, dilation, strict=True)),
            x.strides[-1],
        )
        np.copyto(room, np.lib.stride_tricks.as_strided(x, room.shape, strides))
        return
    lead = (slice(None),) * (d + 2)
    for k in np.ndindex(*window):
        room[(*lead, *k)] = x[(slice(None), *windows_at(k, counts, stride, dilation))]


def _by_group(xp, w, groups):
    """The kernel as matrices, (groups, *k * c / groups, o / groups)."""
    *k, each, outs = w.shape
    split = xp.reshape(w, (math.prod(k) * each, groups, outs // groups))
    return xp.transpose(split, (1, 0, 2))


def _rows(xp, g, groups):
    """(n, *t, o) as matrices (groups, n * t, o / groups)."""
    return xp.transpose(xp.reshape(g, (-1, groups, g.shape[-1] // groups)), (1, 0, 2))


def _is_depthwise(w_each, w_outs, groups):
    """Whether each channel has one kernel: products of numbers, not of matrices."""
    return groups > 1 and w_each == 1 and w_outs == groups


# ---------------------------------------------------------------------------------------------- conv
def _conv_shape(x, w, *, stride, padding, dilation, groups):
    counts = output_lengths(x.shape[1:-1], w.shape[:-2], stride, padding, dilation)
    return (x.shape[0], *(max(m, 0) for m in counts), w.shape[-1])


def _conv_forward(be, x, w, *, stride, padding, dilation, groups):
    xp = be.xp
    shape = _conv_shape(x, w, stride=stride, padding=padding, dilation=dilation, groups=groups)
    dtype = np.result_type(x.dtype, w.dtype)
    if not (math.prod(shape) and x.size and w.size):
        return xp.zeros(shape, dtype)
    x = _padded(xp, x, padding)
    window, counts = w.shape[:-2], shape[1:-1]
    if _is_depthwise(*w.shape[-2:], groups):
        y = xp.zeros(shape, dtype)
        blocks = _blocks(be, shape[0], math.prod(shape[1:]))
        room = xp.empty((blocks[0][1], *shape[1:]), dtype)
        for i, j in blocks:
            for k in np.ndindex(*window):
                part = x[(slice(i, j), *windows_at(k, counts, stride, dilation))]
                y[i:j] += xp.multiply(part, w[(*k, 0)], out=room[: j - i])
        return y
    y = xp.empty((math.prod(shape[:-1]), groups, shape[-1] // groups), dtype)
    matrices, out = _by_group(xp, w, groups), xp.transpose(y, (1, 0, 2))
    for rows, windows in _matrices(be, x, window, counts, stride, dilation, groups):
        _product(xp, windows, matrices, out[:, rows])
    return xp.reshape(y, shape)


def _product(xp, a, b, out):
    """Write a @ b of stacks of matrices into ``out``."""
    if xp is np:
        np.matmul(a, b, out=out)
    else:
        out[...] = xp.matmul(a, b)


# ---------------------------------------------------------------------------------------------- conv_input
def _input_forward(be, g, w, *, size, stride, padding, dilation, groups):
    xp = be.xp
    *window, each, outs = w.shape
    n, channels, counts = g.shape[0], each * groups, g.shape[1:-1]
    dtype = np.result_type(g.dtype, w.dtype)
    if not (g.size and w.size and math.prod(size)):
        return xp.zeros((n, *size, channels), dtype)
    if _is_depthwise(each, outs, groups):
        x = xp.zeros(_with_margins(n, size, padding, channels), dtype)
        blocks = _blocks(be, n, math.prod(counts) * channels)
        room = xp.empty((blocks[0][1], *counts, channels), dtype)
        for i, j in blocks:
            for k in np.ndindex(*window):
                place = (slice(i, j), *windows_at(k, counts, stride, dilation))
                x[place] += xp.multiply(g[i:j], w[(*k, 0)], out=room[: j - i])
        return _cropped(xp, x, size, padding)
    if each < FEW_CHANNELS:
        return _input_few(be, g, w, size, stride, padding, dilation, groups)
    reach = [d * (k - 1) for k, d in zip(window, dilation, strict=True)]
    margins = tuple((r - a, r - b) for r, (a, b) in zip(reach, padding, strict=True))
    if set(stride) == {1} and outs <= channels and min(map(min, margins)) >= 0:
        turned = xp.reshape(
            xp.flip(w, tuple(range(len(window)))), (-1, each, groups, outs // groups)
        )
        turned = xp.reshape(xp.transpose(turned, (0, 3, 2, 1)), (*window, outs // groups, channels))
        ones = (1,) * len(window)
        return _conv_forward(
            be, g, turned, stride=ones, padding=margins, dilation=dilation, groups=groups
        )
    # one offset after the other: its product is added to the entries that it came from
    x = xp.zeros(_with_margins(n, size, padding, channels), dtype)
    many = math.prod(counts)
    blocks = _blocks(be, n, many * channels)
    y = xp.empty((blocks[0][1] * many, groups, each), dtype)
    matrices = xp.reshape(_by_group(xp, w, groups), (groups, -1, each, outs // groups))
    for i, j in blocks:
        mine, part = _rows(xp, g[i:j], groups), y[: (j - i) * many]
        for at, k in enumerate(np.ndindex(*window)):
            _product(xp, mine, xp.swapaxes(matrices[:, at], 1, 2), xp.transpose(part, (1, 0, 2)))
            place = (slice(i, j), *windows_at(k, counts, stride, dilation))
            x[place] += xp.reshape(part, (j - i, *counts, channels))
    return _cropped(xp, x, size, padding)


def _input_few(be, g, w, size, stride, padding, dilation, groups):
    """`conv_input` with few channels a group: they stand in front, where rows of positions are added."""
    xp = be.xp
    *window, each, _ = w.shape
    n, counts = g.shape[0], g.shape[1:-1]
    d = len(window)
    margins = _with_margins(n, size, padding, 1)[:-1]
    x = xp.zeros((groups, each, *margins), np.result_type(g.dtype, w.dtype))
    matrices = _by_group(xp, w, groups)
    many = math.prod(counts)
    blocks = _blocks(be, n, many * each * math.prod(window) * groups)
    room = xp.empty((groups, each * math.prod(window), blocks[0][1] * many), x.dtype)
    for i, j in blocks:
        y = room[:, :, : (j - i) * many]
        _product(xp, matrices, xp.swapaxes(_rows(xp, g[i:j], groups), 1, 2), y)
        y = xp.reshape(y, (groups, *window, each, j - i, *counts))
        for k in np.ndindex(*window):
            place = windows_at(k, counts, stride, dilation)
            x[(slice(None), slice(None), slice(i, j), *place)] += y[(slice(None), *k)]
    last = xp.transpose(x, (*range(2, d + 3), 0, 1))
    return xp.reshape(last[_inside(size, padding)], (n, *size, each * groups))


def _with_margins(n, size, padding, channels):
    return (n, *(m + sum(p) for m, p in zip(size, padding, strict=True)), channels)


def _cropped(xp, x, size, padding):
    return xp.ascontiguousarray(x[_inside(size, padding)]) if any(map(any, padding)) else x


# ---------------------------------------------------------------------------------------------- conv_kernel
def _kernel_forward(be, x, g, *, size, stride, padding, dilation, groups):
    xp = be.xp
    counts, each, outs = g.shape[1:-1], x.shape[-1] // groups, g.shape[-1]
    dtype = np.result_type(x.dtype, g.dtype)
    if not (x.size and g.size and math.prod(size)):
        return xp.zeros((*size, each, outs), dtype)
    x = _padded(xp, x, padding)
    if _is_depthwise(each, outs, groups):
        w = xp.zeros((*size, 1, outs), dtype)
        blocks = _blocks(be, x.shape[0], math.prod(g.shape[1:]))
        room = xp.empty((blocks[0][1], *g.shape[1:]), dtype)
        lead = tuple(range(x.ndim - 1))
        for i, j in blocks:
            for k in np.ndindex(*size):
                part = x[(slice(i, j), *windows_at(k, counts, stride, dilation))]
                terms = xp.multiply(part, g[i:j], out=room[: j - i])
                w[(*k, 0)] += xp.sum(terms, axis=lead, dtype=dtype)
        return w
    rows_of_g = _rows(xp, g, groups)
    w = None
    for rows, windows in _matrices(be, x, size, counts, stride, dilation, groups):
        part = xp.matmul(xp.swapaxes(windows, 1, 2), rows_of_g[:, rows])
        w = part if w is None else w + part
    return xp.reshape(xp.transpose(w, (1, 0, 2)), (*size, each, outs))


# ---------------------------------------------------------------------------------------------- rules
def _back(p, first, i, size_of):
    """The rule of operand i: the primitive p of the cotangent and the other operand, in that order if ``first``."""

    def rule(g, xs, y, *, stride, padding, dilation, groups, size=None):
        other = xs[1 - i]
        wanted = {} if size_of is None else {"size": size_of(xs[i].shape)}
        operands = (g, other) if first else (other, g)
        back = p()(
            *operands, **wanted, stride=stride, padding=padding, dilation=dilation, groups=groups
        )
        return cast(back, dtype_of(xs[i]))

    return rule


def _positions(shape):
    return tuple(shape[1:-1])


def _window_of(shape):
    return tuple(shape[:-2])


# A batch of one operand: of x and g more examples, of w more channels; of both operands more groups.
def _merge_first(v):
    """(z, n, ...) as (z * n, ...)."""
    s = shape_of(v)
    return reshape_p(v, shape=(s[0] * s[1], *s[2:]))


def _into_channels(v, axis, groups, grouped):
    """The batch axis into the channels of ``axis`` of one operand: inside of each group, or as groups of its own."""
    s = shape_of(v)
    axis %= len(s) - 1
    if grouped:  # (groups, each) -> (groups, z, each)
        lead = (s[0], *s[1 : axis + 1], groups, s[axis + 1] // groups, *s[axis + 2 :])
        v = reshape_p(v, shape=lead)
        at = axis + 1
    else:
        at = axis
    order = (*range(1, at + 1), 0, *range(at + 1, len(shape_of(v))))
    v = transpose_p(v, axes=order)
    return reshape_p(v, shape=(*s[1 : axis + 1], s[0] * s[axis + 1], *s[axis + 2 :]))


def _out_of_channels(v, axis, z, groups, grouped):
    """The batch axis out of the channels again, to the front."""
    s = shape_of(v)
    axis %= len(s)
    each = s[axis] // z
    middle = (groups, z, each // groups) if grouped else (z, each)
    v = reshape_p(v, shape=(*s[:axis], *middle, *s[axis + 1 :]))
    at = axis + 1 if grouped else axis
    order = (at, *(i for i in range(len(shape_of(v))) if i != at))
    return reshape_p(transpose_p(v, axes=order), shape=(z, *s[:axis], each, *s[axis + 1 :]))


def _each_its_own(p, v, z, groups, params):
    """Every example has both operands of its own: groups of their own."""
    a, b = (_into_channels(x, -1, groups, False) for x in v)
    return _out_of_channels(p(a, b, groups=z * groups, **params), -1, z, groups, False)


def _conv_batch(on, v, z, *, groups, **params):
    x, w = v
    if all(on):
        return _each_its_own(conv_p, v, z, groups, params)
    if on[0]:
        y = conv_p(_merge_first(x), w, groups=groups, **params)
        return reshape_p(y, shape=(z, shape_of(x)[1], *shape_of(y)[1:]))
    y = conv_p(x, _into_channels(w, -1, groups, True), groups=groups, **params)
    return _out_of_channels(y, -1, z, groups, True)


def _input_batch(on, v, z, *, groups, **params):
    g, w = v
    if all(on):
        return _each_its_own(conv_input_p, v, z, groups, params)
    if on[0]:
        x = conv_input_p(_merge_first(g), w, groups=groups, **params)
        return reshape_p(x, shape=(z, shape_of(g)[1], *shape_of(x)[1:]))
    x = conv_input_p(g, _into_channels(w, -2, 1, False), groups=groups, **params)
    return _out_of_channels(x, -1, z, groups, True)


def _kernel_batch(on, v, z, *, groups, **params):
    x, g = v
    if all(on):
        return _each_its_own(conv_kernel_p, v, z, groups, params)
    if on[0]:
        w = conv_kernel_p(_into_channels(x, -1, groups, True), g, groups=groups, **params)
        return _out_of_channels(w, -2, z, 1, False)
    w = conv_kernel_p(x, _into_channels(g, -1, groups, True), groups=groups, **params)
    return _out_of_channels(w, -1, z, groups, True)


# ---------------------------------------------------------------------------------------------- declarations
def _plain(d):
    return {"stride": (1,) * d, "padding": ((0, 0),) * d, "dilation": (1,) * d, "groups": 1}


_MIXED = {"stride": (2, 1), "padding": ((1, 0), (2, 1)), "dilation": (1, 2), "groups": 2}
_DEPTHWISE = {**_plain(1), "padding": ((1, 1),), "groups": 3}

conv_p = Primitive(
    "conv",
    forward=_conv_forward,
    multilinear=True,
    vjp=(
        _back(lambda: conv_input_p, True, 0, _positions),
        _back(lambda: conv_kernel_p, False, 1, _window_of),
    ),
    keeps=("1", "0"),
    shape=lambda x, w, **params: Aval(_conv_shape(x, w, **params), result_dtype(x, w)),
    batch=_conv_batch,
    samples=lambda d: [
        sample(d.normal(2, 5, 2), d.normal(3, 2, 3), **_plain(1)),
        sample(d.normal(2, 4, 3, 1), d.normal(2, 2, 1, 2), **_plain(2)),
        sample(d.normal(2, 4, 4, 4), d.normal(2, 3, 2, 4), **_MIXED),
        sample(d.normal(2, 4, 3), d.normal(3, 1, 3), **_DEPTHWISE),
        sample(d.normal(2, 3, 2), d.normal(1, 2, 4), **_plain(1)),
        sample(d.normal(1, 2, 2, 3, 1), d.normal(2, 1, 2, 1, 2), **_plain(3)),
        sample(d.normal(0, 5, 2), d.normal(3, 2, 3), **_plain(1)),
    ],
)
"""The sum over offsets k and channels c of x[n, t * stride + k * dilation, c] w[k, c, o], of x padded with zeros."""

conv_input_p = Primitive(
    "conv_input",
    forward=_input_forward,
    multilinear=True,
    vjp=(
        _back(lambda: conv_p, True, 0, None),
        _back(lambda: conv_kernel_p, True, 1, _window_of),
    ),
    keeps=("1", "0"),
    shape=lambda g, w, *, size, groups, **params: Aval(
        (g.shape[0], *size, w.shape[-2] * groups), result_dtype(g, w)
    ),
    batch=_input_batch,
    samples=lambda d: [
        sample(d.normal(2, 3, 3), d.normal(3, 2, 3), size=(5,), **_plain(1)),
        sample(d.normal(2, 2, 3, 4), d.normal(2, 3, 2, 4), size=(4, 4), **_MIXED),
        sample(d.normal(2, 4, 3), d.normal(3, 1, 3), size=(4,), **_DEPTHWISE),
        sample(d.normal(2, 2, 2), d.normal(2, 9, 2), size=(3,), **_plain(1)),
        sample(d.normal(2, 2, 2), d.normal(2, 8, 2), size=(4,), **{**_plain(1), "stride": (2,)}),
        sample(d.normal(0, 3, 3), d.normal(3, 2, 3), size=(5,), **_plain(1)),
    ],
)
"""The cotangent of `conv_p` in x, of shape (n, *size, c): the transposed convolution of g."""

conv_kernel_p = Primitive(
    "conv_kernel",
    forward=_kernel_forward,
    multilinear=True,
    vjp=(
        _back(lambda: conv_input_p, False, 0, _positions),
        _back(lambda: conv_p, False, 1, None),
    ),
    keeps=("1", "0"),
    shape=lambda x, g, *, size, groups, **params: Aval(
        (*size, x.shape[-1] // groups, g.shape[-1]), result_dtype(x, g)
    ),
    batch=_kernel_batch,
    samples=lambda d: [
        sample(d.normal(2, 5, 2), d.normal(2, 3, 3), size=(3,), **_plain(1)),
        sample(d.normal(2, 4, 4, 4), d.normal(2, 2, 3, 4), size=(2, 3), **_MIXED),
        sample(d.normal(2, 4, 3), d.normal(2, 4, 3), size=(3,), **_DEPTHWISE),
        sample(d.normal(2, 3, 2), d.normal(2, 3, 4), size=(1,), **_plain(1)),
        sample(d.normal(0, 5, 2), d.normal(0, 3, 3), size=(3,), **_plain(1)),
    ],
)
"""The cotangent of `conv_p` in w, of shape (*size, c / groups, o): the correlation of x and g."""
