"""Structural zeros: what a selection does not pass on has derivative 0, and nothing else has.

A function f singular at an entry (its derivative there is infinite or NaN) is followed by every
primitive that carries masks, with the singular entry not passed on. Gradient and second derivatives
must be those at a regular point, in every mode. Where the entry is passed on, or behind a
contraction, the infinity or NaN must stay.
"""

import math

import numpy as np
import pytest
from registry_checks import Case, check_mask, special_operands

import nnmath_core as nm
from nnmath_core.autodiff.primitive import REGISTRY

DTYPES = (np.float32, np.float64)
AT = (0, 1)
"""The singular entry of the 2 by 3 operand."""

SHOWN = np.ones((2, 3), bool)
SHOWN[AT] = False

ROW = np.array([[False], [True]])
"""Rows without the singular entry."""

ABOVE_ONE = np.array([[1.3, 1.2, 1.7], [1.6, 1.1, 1.4]])
BELOW_ONE = np.array([[0.3, 0.2, 0.7], [0.6, 0.1, 0.4]])

# name -> (function of an array, where it is singular, regular points)
SINGULAR = {
    "sqrt": (np.sqrt, 0.0, ABOVE_ONE),
    "log": (np.log, 0.0, ABOVE_ONE),
    "log1p": (np.log1p, -1.0, ABOVE_ONE),
    "power": (lambda x: x**0.5, 0.0, ABOVE_ONE),
    "cbrt": (np.cbrt, 0.0, ABOVE_ONE),
    "arccosh": (np.arccosh, 1.0, ABOVE_ONE),
    "root of a square": (lambda x: np.sqrt(x * x), 0.0, ABOVE_ONE),
    "negative power": (lambda x: np.power(x, -1.5), 0.0, ABOVE_ONE),
    "traced exponent": (lambda x: np.power(x, -x), 0.0, ABOVE_ONE),
    "arcsin": (np.arcsin, 1.0, BELOW_ONE),
    "arctanh": (np.arctanh, 1.0, BELOW_ONE),
    "reciprocal": (np.reciprocal, 0.0, ABOVE_ONE),
    "quotient": (lambda x: np.sin(x) / x, 0.0, ABOVE_ONE),
    "log of a log": (lambda x: np.log(np.log(x)), 0.0, ABOVE_ONE),
    "difference of infinities": (lambda x: np.log(x) - 2.0 * np.log(x), 0.0, ABOVE_ONE),
}
LOWEST = ("sqrt", "log", "log1p", "power", "cbrt", "arccosh", "root of a square")
"""Those whose value at the singular point is below all others."""

PAIRS = {"window": (2,), "stride": (2,), "dilation": (1,)}
WINNERS = np.array([[True, False, True], [True, True, False]])[:, None, :, None].repeat(2, axis=1)
"""Marked entries of three windows of two, of each of two examples."""

# name of a primitive that carries masks -> functions that do not pass on the singular entry
WAYS = {
    "where": [lambda u: np.where(SHOWN, u, 0.0), lambda u: np.where(~SHOWN, 1.0, u)],
    "slice": [lambda u: u[:, 2:], lambda u: u[1], lambda u: u[:, ::2], lambda u: u.T[0, ::-1]],
    "take": [lambda u: np.take(u, [0, 2, -1], axis=1), lambda u: u[SHOWN], lambda u: u[[1, 1]]],
    "take_along_axis": [
        lambda u: np.take_along_axis(u, np.array([[0, 2], [1, -1]]), axis=1),
        lambda u: shown(np.take_along_axis(u, np.array([[1, 0, 2], [1, 2, 0]]), axis=1), (0, 0)),
    ],
    "reshape": [lambda u: np.where(SHOWN.reshape(3, 2), u.reshape(3, 2), 0.0)],
    "transpose": [lambda u: np.where(SHOWN.T, u.T, 0.0)],
    "broadcast_to": [lambda u: np.where(SHOWN, np.broadcast_to(u, (4, 2, 3)), 0.0)],
    "concatenate": [
        lambda u: np.where(np.concatenate([SHOWN, SHOWN]), np.concatenate([u, 2.0 * u]), 0.0),
        lambda u: np.stack([u, np.exp(u)])[:, 1],
    ],
    "pad": [lambda u: shown(np.pad(u, ((1, 0), (2, 1))), (1, 3))],
    "repeat": [
        lambda u: shown(np.repeat(np.repeat(u, 2, axis=1), 1, axis=0), ([0, 0], [2, 3])),
        lambda u: np.where(np.repeat(SHOWN, 2), np.repeat(u, 2), 0.0),
    ],
    "flip": [lambda u: shown(np.flip(u), (1, 1))],
    "astype": [lambda u: np.where(SHOWN, u.astype(np.float64), 0.0)],
    "real": [lambda u: np.where(SHOWN, np.real(u), 0.0)],
    "imag": [lambda u: np.where(SHOWN, np.imag(u) + u, 0.0)],
    "unslice": [
        lambda u: shown(
            call("unslice", u, index=(slice(0, 3, 2), slice(1, 4)), shape=(3, 4)), (0, 2)
        ),
        lambda u: shown(nm.at(np.ones((3, 4)))[1:, :3].set(u), (1, 1)),
    ],
    "scatter_add": [
        lambda u: shown(call("scatter_add", u, np.array([2, 3, 2]), axis=1, shape=(2, 4)), (0, 3)),
        lambda u: nm.at(u)[1].add(np.array([1.0, 2.0, 3.0]))[1],
    ],
    "add_along_axis": [
        lambda u: shown(
            call("add_along_axis", u, np.array([[3, 1, 3], [0, 1, 1]]), axis=1, shape=(2, 4)),
            (0, 1),
        ),
    ],
    "diagonal": [
        lambda u: np.diagonal(u),
        lambda u: np.diagonal(u, 1)[1:],
        lambda u: np.trace(u[:, :2]),
    ],
    "windows": [
        lambda u: call("windows", u[..., None], window=(2,), stride=(1,), dilation=(1,))[:, 1],
        lambda u: shown(
            call("windows", u.T[None], window=(2,), stride=(1,), dilation=(1,)),
            ([0, 1], 0, [1, 0], 0),
        ),
        lambda u: call("windows", u[..., None], window=(1,), stride=(2,), dilation=(1,)),
    ],
    "share_windows": [
        lambda u: shown(
            call("share_windows", u[..., None], WINNERS, size=(6,), **PAIRS), (0, 3, 0)
        ),
    ],
    "pick_windows": [
        lambda u: call("pick_windows", u.T.reshape(1, 6, 1), WINNERS[:, :1], **PAIRS),
        lambda u: call("pick_windows", u[..., None], WINNERS[:, :, :1], **PAIRS)[1:],
    ],
    "max_windows": [
        lambda u: call("max_windows", u[..., None], window=(2,), stride=(1,), dilation=(1,))[1:],
    ],
    "add_windows": [
        lambda u: shown(
            call(
                "add_windows",
                u[..., None, None],
                size=(4,),
                window=(2,),
                stride=(3,),
                dilation=(2,),
            ),
            (1, 0, 0),
        ),
    ],
    "embed_diagonal": [lambda u: shown(np.diag(u[0]), (1, 1))],
    "sum": [
        lambda u: np.sum(u, axis=1)[1:],
        lambda u: np.where(ROW, np.sum(u, axis=1, keepdims=True), 0.0),
        lambda u: u[1].mean() + np.var(u, axis=1)[1],
    ],
    "prod": [lambda u: np.prod(u, axis=1)[1:]],
    "others": [lambda u: call("others", u, axis=(1,))[1]],
    "cumprod": [lambda u: np.cumprod(u, axis=1)[:, :1], lambda u: np.cumprod(u, axis=1)[1]],
    "recurrence": [
        lambda u: call("recurrence", u, u + 0.5, reverse=False)[:, :1],
        lambda u: call("recurrence", u, 0.5 * u, reverse=True)[1],
        lambda u: call("recurrence", u + 0.5, u, reverse=True)[:, 2:],
    ],
    "share": [lambda u: call("share", u, SHOWN, False, True)],
    "max": [lambda u: np.max(u, axis=1)[1:]],
    "min": [lambda u: np.min(u, axis=1)[1:]],
    "cumsum": [lambda u: np.cumsum(u, axis=1)[:, :1], lambda u: np.cumsum(u, axis=1)[1]],
    "logsumexp": [lambda u: np.where(ROW, nm.special.logsumexp(u, axis=1, keepdims=True), 0.0)],
    "softmax": [lambda u: np.where(ROW, nm.special.softmax(u, axis=1), 0.0)[:, :2]],
    "softmax_or_zero": [lambda u: np.where(ROW, call("softmax_or_zero", u, axis=(1,)), 0.0)[:, :2]],
    "norm": [lambda u: np.linalg.norm(u, axis=1)[1:]],
    "standardize": [
        lambda u: np.where(ROW, nm.nn.layer_norm(u, 0.5 + np.arange(3, dtype=u.dtype)), 0.0)[:, :2],
        lambda u: both_of("standardize", u)[1:],
    ],
    "rms": [
        lambda u: np.where(ROW, nm.nn.rms_norm(u), 0.0)[:, :2],
        lambda u: both_of("rms", u)[1:],
    ],
}

# what takes the extreme entries needs to know whether the singular one is among them
BY_VALUE = {
    "maximum": lambda u, top: np.maximum(u, top),
    "minimum": lambda u, top: np.minimum(-u, -top),
    "clip": lambda u, top: np.clip(u, top, top + 5.0),
    "relu": lambda u, top: call("relu", u - top),
    "max_windows": lambda u, top: call(
        "max_windows", u[..., None], window=(2,), stride=(1,), dilation=(1,)
    ),
    "max": lambda u, top: np.max(u, axis=1) + np.max(u),
    "min": lambda u, top: np.min(-u, axis=0)[2] - np.min(-u, axis=1),
    "take_along_axis": lambda u, top: np.sort(u, axis=1)[:, 1:],
}


def call(name, *operands, **params):
    return REGISTRY[name](*operands, **params)


def both_of(name, u):
    """Return a function of both differentiable outputs of a normalisation of rows."""
    y, factor = REGISTRY[name](u, axis=(1,), eps=0.5)[:2]
    return y[:, :2] * factor + factor


def shown(u, hidden):
    """Return u with one entry hidden, weighted so that all others count differently."""
    mask = np.ones(u.shape, bool)
    mask[hidden] = False
    return np.where(mask, u, 0.0) * (1.0 + 0.5 * np.arange(u.size, dtype=u.dtype).reshape(u.shape))


def points(value, regular, dtype):
    """Return the operand with its entry singular, and regular."""
    singular = regular.copy()
    singular[AT] = value
    return singular.astype(dtype), regular.astype(dtype)


def between(u):
    """Return a number that lies between two entries in the middle of u."""
    low, high = np.sort(u, axis=None)[2:4]
    return float(low + high) / 2


def masked():
    """Each singular function with one way of each kind, three of them with every way."""
    found = []
    for pre in SINGULAR:
        for name, ways in WAYS.items():
            for k, way in enumerate(ways):
                every = pre in ("sqrt", "log", "difference of infinities")
                if every or (name in ("where", "slice", "sum", "prod") and k == 0):
                    found.append(pytest.param(pre, way, id=f"{pre}-{name}-{k}"))
    return found


def test_every_primitive_that_carries_masks_has_a_way():
    carriers = {p.name for p in REGISTRY.values() if p.selects or p.through}
    assert carriers == set(WAYS) | set(BY_VALUE)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("pre", "way"), masked())
def test_entry_that_is_not_passed_on_is_a_structural_zero(pre, way, dtype):
    f, value, regular = SINGULAR[pre]
    singular, regular = points(value, regular, dtype)
    second_order = dtype is np.float64
    check_mask(lambda x: np.sum(way(f(x)) ** 2), singular, regular, AT, second_order=second_order)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BY_VALUE)
@pytest.mark.parametrize("pre", LOWEST)
def test_entry_that_loses_a_comparison_is_a_structural_zero(pre, name, dtype):
    f, value, regular = SINGULAR[pre]
    singular, regular = points(value, regular, dtype)
    regular[AT] = regular.min() - 0.05
    top = between(f(regular))
    check_mask(lambda x: np.sum(BY_VALUE[name](f(x), top) ** 2), singular, regular, AT)


# ------------------------------------------------------------------------ what must not be hidden
def infinite_at(g, at):
    return np.isinf(g[at]) and np.isfinite(np.delete(g, at)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_entries_that_are_passed_on_keep_their_infinity(dtype):
    x = np.array([0.0, 1.0, 2.0], dtype)
    with np.errstate(all="ignore"):
        for f in (
            lambda x: np.sum(np.log(x)),
            lambda x: np.sum(np.sqrt(x)[:2]),
            lambda x: np.sum(np.where(np.array([True, True, False]), np.log(x), 0.0)),
            lambda x: np.sum(np.take(np.sqrt(x), [0, 0, 1])),
            lambda x: np.min(np.sqrt(x)) + np.sum(x),
            lambda x: np.sum(np.sort(np.sqrt(x))[:1]),
        ):
            assert infinite_at(nm.grad(f)(x), 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_times_infinity_stays_nan_without_a_selection(dtype):
    """A rule "0 times anything is 0" would say 0 here, and the true derivative is 1."""
    with np.errstate(all="ignore"):
        assert math.isnan(nm.grad(lambda x: np.sqrt(x) * np.sqrt(x))(dtype(0)))
        g = nm.grad(lambda x: np.sum(np.sqrt(x) * np.sqrt(x)))(np.array([0.0, 1.0], dtype))
        assert math.isnan(g[0])
        assert g[1] == 1
        # a zero that is computed is no structural zero
        g = nm.grad(lambda x: np.sum(0.0 * np.log(x)))(np.array([0.0, 1.0], dtype))
        assert math.isnan(g[0])
        assert g[1] == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_live_use_ends_a_mask(dtype):
    x = np.array([0.0, 1.0, 2.0], dtype)
    last = np.array([False, False, True])
    with np.errstate(all="ignore"):
        for f in (
            lambda u: np.sum(np.where(last, u, 0.0)) + np.sum(u),
            lambda u: np.sum(u) + np.sum(u[1:]),
            lambda u: np.sum(u[1:]) + u[0],
            lambda u: np.sum(np.where(last, u, 0.0) + np.where(last, 0.0, u)),
        ):
            assert infinite_at(nm.grad(lambda x: f(np.sqrt(x)))(x), 0)  # noqa: B023


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_in_a_selected_entry_stays(dtype):
    x = np.array([-1.0, 1.0], dtype)
    with np.errstate(all="ignore"):
        g = nm.grad(lambda x: np.sum(np.where(np.array([True, True]), np.sqrt(x), 0.0)))(x)
        assert math.isnan(g[0])
        assert g[1] == 0.5
        # NaN wins every maximum, so it is passed on
        g = nm.grad(lambda x: np.sum(np.maximum(np.sqrt(x), 0.5)))(x)
        assert math.isnan(g[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_is_hidden_behind_a_contraction_or_factorisation(dtype):
    h = np.array([[np.inf, 1.0], [2.0, 3.0]], dtype)
    w = np.array([[1.0, 2.0], [0.5, 1.0]], dtype)
    with np.errstate(all="ignore"):
        g = nm.grad(lambda w: np.sum(np.where(ROW, h @ w, 0.0)))(w)
        assert np.isnan(g[0]).all()
        # selected before the contraction, all is well
        g = nm.grad(lambda w: np.sum(np.where(ROW, h, 0.0) @ w))(w)
        assert np.isfinite(g).all()
        # an infinite derivative in front of a product stays
        x = np.array([[0.0, 1.0], [4.0, 9.0]], dtype)
        g = nm.grad(lambda x: np.sum((np.sqrt(x) @ w)[1:]))(x)
        assert np.isnan(g[0, 0])


# ------------------------------------------------------------------ special points of all primitives
SPECIAL = [
    pytest.param(p, row, id=f"{p.name}-{k}")
    for p in REGISTRY.values()
    if p.elementwise or p.selects or p.through
    for k, row in enumerate(p.special)
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("primitive", "row"), SPECIAL)
def test_special_point_that_is_masked_out_has_derivative_zero(primitive, row, dtype):
    """Beside a regular sample, with the special point masked out: reverse = forward, both finite."""
    on = tuple(i for i, g in enumerate(row.gradient) if g is not None)
    special = special_operands(row, dtype)
    case = Case(primitive, special, row.params, np.dtype(dtype), row.what)
    regular = [np.linspace(0.3, 0.7, np.size(special[i])).reshape(np.shape(special[i])) for i in on]
    regular = [x.astype(dtype) * (1 + k) for k, x in enumerate(regular)]
    pairs = tuple(np.stack([special[i], x]) for i, x in zip(on, regular, strict=True))

    def f(*xs):
        y = nm.vmap(case.at(on))(*xs)
        shown = np.array([False, True]).reshape((2,) + (1,) * (y.ndim - 1))
        return np.sum(np.where(shown, y, 0.0))

    argnums = tuple(range(len(on)))
    with np.errstate(all="ignore"):
        back = nm.grad(f, argnums)(*pairs)
        forward = nm.jacfwd(f, argnums)(*pairs)
        alone = nm.grad(lambda *xs: np.sum(case.at(on)(*xs)), argnums)(*regular)
    for a, b, c in zip(back, forward, alone, strict=True):
        assert np.isfinite(a).all()
        assert np.array_equal(a, b)
        assert not a[0].any()
        np.testing.assert_allclose(a[1], c, rtol=16 * np.finfo(dtype).eps)
