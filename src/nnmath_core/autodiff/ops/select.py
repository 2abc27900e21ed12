"""Selections: where, maximum, minimum, clip, relu, and the two primitives of which their rules are made."""

from __future__ import annotations

import math

import numpy as np

from nnmath_core.autodiff.ops.compare import less_equal, logical_not
from nnmath_core.autodiff.ops.conventions import dtype_of
from nnmath_core.autodiff.primitive import Primitive, Special, sample

__all__ = ["clip", "maximum", "minimum", "relu", "same", "share", "where"]

_BITS = {np.dtype(np.float32): np.int32, np.dtype(np.float64): np.int64}
_LONG = 1024
"""Fewer entries are selected sooner by `numpy.where`, whose branches cost more than the calls saved."""


def _zeroed(x, condition, keep):
    """Return x where the condition is ``keep`` and 0.0 elsewhere, by masking bits; None: not this kind of array.

    NumPy branches on every entry, and at random conditions mispredicts half of them: 4 ns each, four times this.
    """
    if type(x) is not np.ndarray or type(condition) is not np.ndarray or condition.size < _LONG:
        return None
    bits = _BITS.get(x.dtype)
    if bits is None or condition.dtype != np.bool_:
        return None
    if (
        x.shape != condition.shape
        and np.broadcast_shapes(x.shape, condition.shape) != condition.shape
    ):
        return None
    shown = condition.view(np.int8)
    mask = np.negative(shown) if keep else np.subtract(shown, 1)  # -1, all bits set, or 0
    return np.bitwise_and(mask, x.view(bits)).view(x.dtype)


def _is_zero(x):
    return type(x) in (int, float) and x == 0 and math.copysign(1.0, x) > 0


def _where_forward(be, condition, x, y):
    if be.xp is np:
        r = None
        if _is_zero(y):
            r = _zeroed(x, condition, True)
        elif _is_zero(x):
            r = _zeroed(y, condition, False)
        if r is not None:
            return r
    r = be.where(condition, x, y)
    return r if r.ndim else r[()]  # a scalar of scalars, as every other function of them


where = Primitive(
    "where",
    forward=_where_forward,
    elementwise=True,
    vjp=(None, lambda g, xs, y: where(xs[0], g, 0.0), lambda g, xs, y: where(xs[0], 0.0, g)),
    keeps=("", "0", "0"),
    selects=lambda i, xs, y: xs[0] if i == 1 else logical_not(xs[0]),
    samples=lambda d: [
        sample(d.mask(3, 4), d.normal(3, 4), d.normal(3, 4)),
        sample(d.mask(3, 1), d.normal(4), d.normal(2, 1, 1)),
        sample(d.mask(5), d.normal(5), 0.0),
        sample(True, d.normal(2), d.normal(3, 2)),
    ],
)

relu = Primitive(
    "relu",
    forward=lambda be, x: be.xp.maximum(x, 0),
    elementwise=True,
    vjp=(lambda g, xs, y: where(less_equal(y, 0), 0.0, g),),
    keeps=("y",),  # 0 where the operand is 0 or less: who keeps the operand keeps one array more
    selects=lambda i, xs, y: logical_not(less_equal(y, 0)),
    samples=lambda d: [sample(d.apart(3, 4)), sample(d.apart(0, 4)), sample(d.apart())],
    special=[
        Special("relu at 0: 0", (0.0,), (0.0,)),
        Special("relu at NaN: 1, as for every NaN that is selected", (math.nan,), (1.0,)),
    ],
    domain="everywhere; 0 at 0 by convention",
)


def _has_nan(x):
    """Whether there may be a NaN (False: there is none): one pass over memory, and nothing is written."""
    if not isinstance(x, np.ndarray):
        return x != x
    if x.dtype.kind not in "fc":
        return False
    flat = x.reshape(-1)
    with np.errstate(all="ignore"):  # that they overflow or vanish says nothing
        total = np.dot(flat, flat)  # squares of real numbers add up to NaN only when there is one
    return total != total


def _same_forward(be, x, y):
    r = be.xp.equal(x, y)
    if be.xp is np:
        first, second = (y, x) if isinstance(x, np.ndarray) else (x, y)  # the cheaper question
        if not (_has_nan(first) and _has_nan(second)):
            return r
    return r | ((x != x) & (y != y))


same = Primitive(
    "same",
    forward=_same_forward,
    elementwise=True,
    differentiable=False,
    samples=lambda d: [
        sample(np.array([1.0, math.nan, -2.0, 0.0]), np.array([1.0, math.nan, 2.0, -0.0])),
        sample(np.array([[1.0], [math.nan]]), np.array([1.0, math.nan, 3.0])),
        sample(np.array([1.0, math.nan, -1.0]), -1.0),
        sample(np.array([0.5, math.nan]), math.nan),
    ],
)
"""Where x equals y, a NaN being equal to a NaN: what an extremum y was made of."""


def _some(x):
    return x.any() if isinstance(x, (np.ndarray, np.generic)) else x


def _share_forward(be, g, mine, other, third):
    r = _where_forward(be, mine, g, 0.0)
    others = [x for x in (other, third) if x is not False]
    if be.xp is np:
        shapes = {(), r.shape}
        if not [x for x in others if np.shape(x) not in shapes or _some(mine & x)]:
            return r
    dtype = dtype_of(r)
    return r / (be.xp.asarray(other, dtype) + be.xp.asarray(third, dtype) + 1)


share = Primitive(
    "share",
    forward=_share_forward,
    elementwise=True,
    vjp=(lambda g, xs, y: share(g, xs[1], xs[2], xs[3]), None, None, None),
    keeps=("123", "", "", ""),
    selects=lambda i, xs, y: xs[1],
    samples=lambda d: [
        sample(d.normal(3, 4), d.mask(3, 4), d.mask(3, 4), d.mask(3, 4)),
        sample(d.normal(3, 1), d.mask(4), d.mask(3, 4), False),
        sample(d.normal(5), d.mask(5), False, True),
        sample(d.normal(), True, d.mask(2), False),
        sample(d.normal(0, 2), d.mask(2), True, False),
    ],
)
"""The part of g that goes to an operand: g where it was selected (``mine``), in equal parts with the others there."""


def _extremal(n):
    """Rules and `selects` of maximum, minimum or clip of n operands: those that the result equals share g.

    NaN is passed on, so an operand that is NaN takes g.
    """

    def factor(i):
        def rule(g, xs, y):
            others = [same(x, y) for k, x in enumerate(xs) if k != i]
            return share(g, same(xs[i], y), *others, *[False] * (3 - n))

        return rule

    kept = "".join(map(str, range(n))) + "y"
    return {
        "vjp": tuple(map(factor, range(n))),
        "keeps": (kept,) * n,
        "selects": lambda i, xs, y: same(xs[i], y),
    }


def _two_apart(d):
    """Operands whose entries are never equal or near: equal shapes, broadcasting, a Python scalar, empty."""
    x = d.apart(2, 3, 4)
    z = d.apart(7)
    return [
        sample(x[0], x[1]),
        sample(z[:3, None], z[3:]),
        sample(z, 0.05),
        sample(d.apart(0, 2), d.apart(2)),
    ]


maximum = Primitive(
    "maximum",
    elementwise=True,
    **_extremal(2),
    samples=_two_apart,
    special=[
        Special("maximum at a tie: shared equally", (1.0, 1.0), (0.5, 0.5)),
        Special("maximum with NaN, which is passed on: 1 there", (math.nan, 1.0), (1.0, 0.0)),
    ],
    domain="everywhere; shared equally at ties",
)
minimum = Primitive(
    "minimum",
    elementwise=True,
    **_extremal(2),
    samples=_two_apart,
    special=[
        Special("minimum at a tie: shared equally", (1.0, 1.0), (0.5, 0.5)),
        Special("minimum with NaN, which is passed on: 1 there", (math.nan, 1.0), (1.0, 0.0)),
    ],
    domain="everywhere; shared equally at ties",
)


def _clip_samples(d):
    x = d.apart(2, 3, 4)
    return [
        sample(x[0], -0.55, 0.65),
        sample(x[0], np.array([[-0.55], [-0.85], [-0.75]]), np.array([0.25, 0.65, 1.05, 0.45])),
        sample(x[1], x[0] - 0.07, x[0] + 0.83),
        sample(d.apart(), -1.0, 1.0),
        sample(d.apart(0, 2), -1.0, np.array([1.0, 2.0])),
    ]


clip = Primitive(
    "clip",
    elementwise=True,
    **_extremal(3),
    samples=_clip_samples,
    special=[
        Special("clip at a bound: shared equally with the bound", (1.0, 0.0, 1.0), (0.5, 0.0, 0.5)),
        Special("clip outside of the bounds: 0", (2.0, 0.0, 1.0), (0.0, 0.0, 1.0)),
        Special("clip of NaN, which is passed on: 1", (math.nan, 0.0, 1.0), (1.0, 0.0, 0.0)),
    ],
    domain="everywhere; shared equally with a bound that is met",
)
