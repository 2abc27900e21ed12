"""All windows of an array, their sum back into an array, and the largest entry of each: of what pooling is made.

`windows_p` maps x (n, *s, c) to (k, n, *t, c), with the k entries of a window in front, where a reduction of long rows
is cheapest; `add_windows_p` is its transpose. `max_windows_p` is the maximum over them, without an array of them; its
rules are `share_windows_p` and `pick_windows_p`, which are each other's transpose, at the entries `winners_p`.
"""

from __future__ import annotations

import math

import numpy as np

from nnmath_core.autodiff.ops.conventions import Aval, dtype_of, expand_batch, shape_of
from nnmath_core.autodiff.ops.convolutions import output_lengths, windows_at
from nnmath_core.autodiff.ops.reduce import any_p
from nnmath_core.autodiff.ops.select import _has_nan, _where_forward
from nnmath_core.autodiff.ops.shape import reshape_p, transpose_p
from nnmath_core.autodiff.primitive import Primitive, Special, sample

__all__ = [
    "add_windows_p",
    "max_windows_p",
    "pick_windows_p",
    "share_windows_p",
    "windows_p",
    "winners_p",
]


def _counts(size, window, stride, dilation):
    none = ((0, 0),) * len(window)
    return tuple(max(m, 0) for m in output_lengths(size, window, stride, none, dilation))


def _windows_shape(x, *, window, stride, dilation):
    counts = _counts(x.shape[1:-1], window, stride, dilation)
    return (math.prod(window), x.shape[0], *counts, x.shape[-1])


def _windows_forward(be, x, *, window, stride, dilation):
    shape = _windows_shape(x, window=window, stride=stride, dilation=dilation)
    out = be.xp.empty(shape, x.dtype)
    if not math.prod(shape):
        return out
    for i, k in enumerate(np.ndindex(*window)):
        out[i] = x[(slice(None), *windows_at(k, shape[2:-1], stride, dilation))]
    return out


def _add_forward(be, v, *, size, window, stride, dilation):
    x = be.xp.zeros((v.shape[1], *size, v.shape[-1]), v.dtype)
    if not v.size:
        return x
    for i, k in enumerate(np.ndindex(*window)):
        x[(slice(None), *windows_at(k, v.shape[2:-1], stride, dilation))] += v[i]
    return x


def _windows_back(g, xs, y, *, window, stride, dilation):
    size = tuple(xs[0].shape[1:-1])
    return add_windows_p(g, size=size, window=window, stride=stride, dilation=dilation)


def _add_back(g, xs, y, *, size, window, stride, dilation):
    return windows_p(g, window=window, stride=stride, dilation=dilation)


def _reached(xs, window, stride, dilation):
    """Which entries are in a window: those behind the last one, and between windows far apart, are not."""
    shape = tuple(xs[0].shape)
    reached = np.ones((1,) * len(shape), bool)
    counts = _counts(shape[1:-1], window, stride, dilation)
    for axis, (k, m, s, d) in enumerate(zip(window, counts, stride, dilation, strict=True), 1):
        line = np.zeros(shape[axis], bool)
        line[np.add.outer(s * np.arange(m), d * np.arange(k)).ravel()] = True
        reached = reached & line.reshape((-1,) + (1,) * (len(shape) - axis - 1))
    return np.broadcast_to(reached, shape)


def _windows_batch(on, v, z, **params):
    s = shape_of(v[0])
    y = windows_p(reshape_p(v[0], shape=(z * s[1], *s[2:])), **params)
    t = shape_of(y)
    y = reshape_p(y, shape=(t[0], z, s[1], *t[2:]))
    return transpose_p(y, axes=(1, 0, *range(2, len(t) + 1)))


def _add_batch(on, v, z, **params):
    s = shape_of(v[0])
    inside = transpose_p(v[0], axes=(1, 0, *range(2, len(s))))
    y = add_windows_p(reshape_p(inside, shape=(s[1], z * s[2], *s[3:])), **params)
    return reshape_p(y, shape=(z, s[2], *shape_of(y)[1:]))


windows_p = Primitive(
    "windows",
    forward=_windows_forward,
    linear=True,
    vjp=(_windows_back,),
    keeps=("",),
    selects=lambda i, xs, y, **params: _reached(xs, **params),
    # an entry is live when one of its windows is live there
    through=lambda m, i, xs, y, **params: _windows_back(m, xs, y, **params),
    shape=lambda x, **params: Aval(_windows_shape(x, **params), dtype_of(x)),
    batch=_windows_batch,
    samples=lambda d: [
        sample(d.normal(2, 5, 2), window=(3,), stride=(1,), dilation=(1,)),
        sample(d.normal(2, 5, 4, 1), window=(2, 2), stride=(2, 1), dilation=(1, 2)),
        sample(d.normal(0, 4, 2), window=(2,), stride=(2,), dilation=(1,)),
    ],
)
"""The entries x[n, t * stride + k * dilation, c] for each offset k of a window, in C order of k."""

add_windows_p = Primitive(
    "add_windows",
    forward=_add_forward,
    linear=True,
    vjp=(_add_back,),
    keeps=("",),
    through=lambda m, i, xs, y, **params: _add_back(m, xs, y, **params),
    shape=lambda v, *, size, **params: Aval((v.shape[1], *size, v.shape[-1]), dtype_of(v)),
    batch=_add_batch,
    samples=lambda d: [
        sample(d.normal(3, 2, 3, 2), size=(5,), window=(3,), stride=(1,), dilation=(1,)),
        sample(d.normal(4, 2, 2, 2, 1), size=(5, 4), window=(2, 2), stride=(2, 1), dilation=(1, 2)),
        sample(d.normal(2, 0, 2, 2), size=(4,), window=(2,), stride=(2,), dilation=(1,)),
    ],
)
"""The transpose of `windows_p`: what windows (k, n, *t, c) add to the entries of an array (n, *size, c)."""


# ---------------------------------------------------------------------------------------------- the largest entry
def _spots(window, counts, stride, dilation):
    """The index of what all windows have at each offset."""
    lead = (slice(None),)
    return [(*lead, *windows_at(k, counts, stride, dilation)) for k in np.ndindex(*window)]


def _max_shape(x, *, window, stride, dilation):
    return (x.shape[0], *_counts(x.shape[1:-1], window, stride, dilation), x.shape[-1])


def _max_forward(be, x, *, window, stride, dilation):
    xp = be.xp
    shape = _max_shape(x, window=window, stride=stride, dilation=dilation)
    if not math.prod(shape):
        return xp.empty(shape, x.dtype)
    first, *others = _spots(window, shape[1:-1], stride, dilation)
    y = xp.array(x[first])
    for spot in others:
        xp.maximum(y, x[spot], out=y)
    return y


def _winners_forward(be, x, y, *, window, stride, dilation):
    out = be.xp.empty((math.prod(window), *y.shape), bool)
    if not out.size:
        return out
    nan = be.xp is not np or _has_nan(y)
    for i, spot in enumerate(_spots(window, y.shape[1:-1], stride, dilation)):
        part = x[spot]
        be.xp.equal(part, y, out=out[i])
        if nan:
            out[i] |= (part != part) & (y != y)
    return out


def _in_parts(be, g, m):
    """Each window's number divided by how many entries of it are marked, where there are several."""
    if be.xp is np:
        few = np.int8 if m.shape[0] < 128 else np.int32
        counts = np.add.reduce(m.view(np.int8), axis=0, dtype=few)
        if counts.max() <= 1:  # no ties: the ordinary case
            return g
    else:
        counts = m.sum(axis=0, dtype=np.int32)
    return g / be.xp.maximum(counts, 1).astype(np.zeros(0, g.dtype).real.dtype)


def _share_forward(be, g, m, *, size, window, stride, dilation):
    x = be.xp.zeros((g.shape[0], *size, g.shape[-1]), np.result_type(g.dtype, np.float32))
    if not g.size:
        return x
    part = _in_parts(be, g, m)
    apart = all(s > d * (k - 1) for k, s, d in zip(window, stride, dilation, strict=True))
    for i, spot in enumerate(_spots(window, g.shape[1:-1], stride, dilation)):
        mine = _where_forward(be, m[i], part, 0.0)
        if apart:
            x[spot] = mine
        else:
            x[spot] += mine
    return x


def _pick_forward(be, t, m, *, window, stride, dilation):
    y = be.xp.zeros(m.shape[1:], np.result_type(t.dtype, np.float32))
    if not y.size:
        return y
    for i, spot in enumerate(_spots(window, y.shape[1:-1], stride, dilation)):
        y += be.where(m[i], t[spot], 0)
    return _in_parts(be, y, m)


def _max_vjp(g, xs, y, **params):
    return share_windows_p(
        g, winners_p(xs[0], y, **params), size=tuple(xs[0].shape[1:-1]), **params
    )


def _max_through(m, i, xs, y, **params):
    live = winners_p(xs[0], y, **params) & m
    return add_windows_p(live, size=tuple(xs[0].shape[1:-1]), **params)


def _max_selects(i, xs, y, **params):
    return add_windows_p(winners_p(xs[0], y, **params), size=tuple(xs[0].shape[1:-1]), **params)


def _merged(x, on, z):
    """(z, n, ...) as (z * n, ...); an operand that all examples have, repeated."""
    if not on:
        x = expand_batch(x, z)
    s = shape_of(x)
    return reshape_p(x, shape=(z * s[1], *s[2:]))


def _merged_mask(m, on, z):
    """(z, k, n, ...) as (k, z * n, ...)."""
    if not on:
        m = expand_batch(m, z)
    s = shape_of(m)
    m = transpose_p(m, axes=(1, 0, *range(2, len(s))))
    return reshape_p(m, shape=(s[1], z * s[2], *s[3:]))


def _split_first(y, z):
    s = shape_of(y)
    return reshape_p(y, shape=(z, s[0] // z, *s[1:]))


def _winners_batch(on, v, z, **params):
    m = winners_p(_merged(v[0], on[0], z), _merged(v[1], on[1], z), **params)
    s = shape_of(m)
    m = reshape_p(m, shape=(s[0], z, s[1] // z, *s[2:]))
    return transpose_p(m, axes=(1, 0, *range(2, len(s) + 1)))


_AT = {"window": (2,), "stride": (1,), "dilation": (1,)}

max_windows_p = Primitive(
    "max_windows",
    forward=_max_forward,
    vjp=(_max_vjp,),
    jvp=(lambda t, xs, y, **params: pick_windows_p(t, winners_p(xs[0], y, **params), **params),),
    keeps=("0y",),
    selects=_max_selects,
    through=_max_through,
    shape=lambda x, **params: Aval(_max_shape(x, **params), dtype_of(x)),
    batch=lambda on, v, z, **params: _split_first(
        max_windows_p(_merged(v[0], True, z), **params), z
    ),
    samples=lambda d: [
        sample(d.apart(2, 5, 2), window=(3,), stride=(1,), dilation=(1,)),
        sample(d.apart(2, 5, 4, 1), window=(2, 2), stride=(2, 1), dilation=(1, 2)),
        sample(d.apart(2, 5, 3), window=(2,), stride=(2,), dilation=(1,)),
        sample(d.apart(0, 4, 2), window=(2,), stride=(2,), dilation=(1,)),
    ],
    domain="everywhere; shared equally at ties",
    special=[
        Special(
            "max_windows, of max_pool, at a tie: shared equally in each window",
            ([[[2.0], [2.0], [2.0]]],),
            ([[[0.5], [1.0], [0.5]]],),
            _AT,
        ),
        Special(
            "max_windows with NaN, which is selected: 1 for each window",
            ([[[1.0], [math.nan], [2.0]]],),
            ([[[0.0], [2.0], [0.0]]],),
            _AT,
        ),
    ],
)
"""The maximum over k of x[n, t * stride + k * dilation, c]."""

winners_p = Primitive(
    "winners",
    forward=_winners_forward,
    differentiable=False,
    shape=lambda x, y, *, window, **params: Aval((math.prod(window), *y.shape), np.dtype(bool)),
    batch=_winners_batch,
    samples=lambda d: [
        sample(d.apart(2, 3, 1), d.apart(2, 2, 1), **_AT),
        sample(
            np.array([[[1.0], [math.nan], [2.0], [2.0]]]), np.array([[[math.nan], [2.0]]]),
            window=(2,), stride=(2,), dilation=(1,),
        ),
    ],
)  # fmt: skip
"""Which entries of the windows (k, n, *t, c) of x equal y (n, *t, c), a NaN being equal to a NaN."""

share_windows_p = Primitive(
    "share_windows",
    forward=_share_forward,
    multilinear=True,
    vjp=(lambda g, xs, y, *, size, **params: pick_windows_p(g, xs[1], **params), None),
    keeps=("1", ""),
    through=lambda m, i, xs, y, *, size, **params: any_p(
        windows_p(m, **params) & xs[1], axis=(0,), keepdims=False
    ),
    shape=lambda g, m, *, size, **params: Aval(
        (g.shape[0], *size, g.shape[-1]), np.result_type(dtype_of(g), np.float32)
    ),
    batch=lambda on, v, z, **params: _split_first(
        share_windows_p(_merged(v[0], on[0], z), _merged_mask(v[1], on[1], z), **params), z
    ),
    samples=lambda d: [
        sample(d.normal(2, 3, 2), d.mask(3, 2, 3, 2), size=(5,), window=(3,), stride=(1,), dilation=(1,)),
        sample(d.normal(1, 2, 2), d.mask(2, 1, 2, 2), size=(5,), window=(2,), stride=(2,), dilation=(1,)),
        sample(d.normal(0, 2, 2), d.mask(2, 0, 2, 2), size=(4,), window=(2,), stride=(2,), dilation=(1,)),
    ],
)  # fmt: skip
"""Each number g[n, t, c] in equal parts to the entries of its window that are marked in m (k, n, *t, c)."""

pick_windows_p = Primitive(
    "pick_windows",
    forward=_pick_forward,
    multilinear=True,
    vjp=(
        lambda g, xs, y, **params: share_windows_p(
            g, xs[1], size=tuple(xs[0].shape[1:-1]), **params
        ),
        None,
    ),
    keeps=("1", ""),
    selects=lambda i, xs, y, **params: add_windows_p(
        xs[1], size=tuple(xs[0].shape[1:-1]), **params
    ),
    through=lambda m, i, xs, y, **params: add_windows_p(
        xs[1] & m, size=tuple(xs[0].shape[1:-1]), **params
    ),
    shape=lambda t, m, **params: Aval(tuple(m.shape[1:]), np.result_type(dtype_of(t), np.float32)),
    batch=lambda on, v, z, **params: _split_first(
        pick_windows_p(_merged(v[0], on[0], z), _merged_mask(v[1], on[1], z), **params), z
    ),
    samples=lambda d: [
        sample(d.normal(2, 5, 2), d.mask(3, 2, 3, 2), window=(3,), stride=(1,), dilation=(1,)),
        sample(d.normal(1, 5, 2), d.mask(2, 1, 2, 2), window=(2,), stride=(2,), dilation=(1,)),
        sample(d.normal(0, 4, 2), d.mask(2, 0, 2, 2), window=(2,), stride=(2,), dilation=(1,)),
    ],
)
"""The mean of the entries of each window of t that are marked in m."""
