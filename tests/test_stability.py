"""Stable forms: each error bound of a docstring is measured, against a decimal arithmetic of many digits.

The oracle is Python's `decimal`, whose ``exp`` and ``ln`` are correctly rounded; it shares no code with the package.
Arguments are adversarial: many magnitudes, neighbours in floating point, both ends of the range. The derivatives are
measured in the same way, in both modes and in second order.
"""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import scipy.special

import nnmath_core as nm

S = nm.special
INF = math.inf
DTYPES = (np.float32, np.float64)


@pytest.fixture(params=DTYPES, ids=lambda d: d.__name__)
def dtype(request):
    return request.param


# ------------------------------------------------------------------------------------------ the oracle
def exact(f):
    """A function of decimals, with digits enough for ``1 + exp(x)`` and for differences of neighbours."""

    def run(*xs):
        with localcontext() as ctx:
            ctx.prec = (
                50 + int(max(xs) - min(xs) if len(xs) > 1 else abs(xs[0])) // 2
            )  # log(10) > 2
            ctx.Emin, ctx.Emax = -999999, 999999
            return f(*(Decimal(float(x)) for x in xs))

    return run


LOG1PEXP = exact(lambda x: (1 + x.exp()).ln())
LOG1MEXP = exact(lambda x: (1 - x.exp()).ln())
LOGSUBEXP = exact(lambda a, b: (a.exp() - b.exp()).ln())
LOGADDEXP = exact(lambda a, b: (a.exp() + b.exp()).ln())
EXPIT = exact(lambda x: 1 / (1 + (-x).exp()))
EXPIT_SLOPE = exact(lambda x: x.exp() / (1 + x.exp()) ** 2)
LOG1MEXP_SLOPE = exact(lambda x: -x.exp() / (1 - x.exp()))
LOG1MEXP_BEND = exact(lambda x: -x.exp() / (1 - x.exp()) ** 2)


def in_eps(got, wants, scales=None):
    """The largest error in units of eps, relative to the exact value or to a scale; subnormal results are spared."""
    wants = list(wants)
    info = np.finfo(got.dtype)
    worst = 0.0
    assert np.isfinite(got).all()
    for i, (y, want) in enumerate(zip(got, wants, strict=True)):
        scale = abs(want) if scales is None else Decimal(float(scales[i]))
        if abs(want) > Decimal(float(4 * info.tiny)):
            worst = max(worst, float(abs(Decimal(float(y)) - want) / scale) / float(info.eps))
    return worst


def arguments(dtype, low, high, n=80):
    """Numbers of all magnitudes between two bounds, on both sides of 0 where the bounds allow it."""
    rng = np.random.default_rng(7)
    sizes = 10.0 ** rng.uniform(-12, np.log10(max(-low, high)), n)
    xs = np.concatenate([sizes, -sizes, rng.uniform(low, high, n), rng.uniform(-1, 1, n)])
    return xs[(xs > low) & (xs < high)].astype(dtype)


def derivatives(f, x):
    """The derivative of a function entry by entry, in both modes."""
    forward = nm.jvp(f, (x,), (np.ones_like(x),))[1]
    reverse = nm.grad(lambda v: np.sum(f(v)))(x)
    return forward, reverse


LOWEST = {np.float32: -86.0, np.float64: -700.0}


# ------------------------------------------------------------------------------------------ one argument
def test_log1pexp_keeps_its_bound(dtype):
    x = arguments(dtype, LOWEST[dtype], -LOWEST[dtype])
    wants = list(map(LOG1PEXP, x))
    for f in (S.log1pexp, S.softplus, nm.nn.softplus):
        y = f(x)
        assert y.dtype == dtype
        assert in_eps(y, wants) <= 4
    assert in_eps(-nm.nn.log_sigmoid(-x), wants) <= 4
    assert in_eps(-S.log_expit(-x), wants) <= 4


def test_log1pexp_has_exact_derivatives(dtype):
    x = arguments(dtype, LOWEST[dtype], -LOWEST[dtype])
    wants = list(map(EXPIT, x))
    for slope in derivatives(S.log1pexp, x):
        assert in_eps(slope, wants) <= 4
    left = -np.abs(x)
    second = list(map(EXPIT_SLOPE, left))
    for bend in derivatives(nm.grad(lambda v: np.sum(S.log1pexp(v))), left):
        assert in_eps(bend, second) <= 8


def test_log1mexp_keeps_its_bound(dtype):
    x = -np.abs(arguments(dtype, LOWEST[dtype], 1.0))
    half = dtype(-np.log(2.0))  # where the two forms meet
    x = np.concatenate([x, [half, np.nextafter(half, dtype(0)), np.nextafter(half, dtype(-1))]])
    y = S.log1mexp(x.astype(dtype))
    assert y.dtype == dtype
    assert in_eps(y, map(LOG1MEXP, x.astype(dtype))) <= 4


def test_log1mexp_has_exact_derivatives(dtype):
    x = -np.abs(arguments(dtype, LOWEST[dtype], 1.0))
    first, second = list(map(LOG1MEXP_SLOPE, x)), list(map(LOG1MEXP_BEND, x))
    for slope in derivatives(S.log1mexp, x):
        assert in_eps(slope, first) <= 8
    for bend in derivatives(nm.grad(lambda v: np.sum(S.log1mexp(v))), x):
        assert in_eps(bend, second) <= 16


def test_log1mexp_at_the_ends():
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.array([0.0, -0.0, -INF])
        np.testing.assert_array_equal(S.log1mexp(ends), [-INF, -INF, 0.0])
        for slope in derivatives(S.log1mexp, ends):
            np.testing.assert_array_equal(slope, [-INF, -INF, 0.0])
        assert np.isnan(S.log1mexp(1.0))
        assert np.isnan(S.log1mexp(np.nan))
    # -40 and below, where 1 - exp(x) is 1 in double precision
    np.testing.assert_allclose(S.log1mexp(-40.0), -np.exp(-40.0), rtol=4e-16)
    np.testing.assert_allclose(nm.grad(S.log1mexp)(-40.0), -np.exp(-40.0), rtol=4e-16)
    np.testing.assert_allclose(nm.grad(nm.grad(S.log1mexp))(-40.0), -np.exp(-40.0), rtol=4e-16)


@pytest.mark.parametrize("f", [S.log1pexp, S.log1mexp, S.softplus])
def test_functions_of_one_argument_take_what_scipys_take(f):
    assert f(-1).dtype == np.float64
    assert f([-1, -2]).dtype == np.float64
    assert type(f(-1.0)) is np.float64
    assert f(np.float32(-1.0)).dtype == np.float32
    assert f(np.zeros((0, 3)) - 1).shape == (0, 3)
    x = np.array([-1.5, -0.2])
    step = f(x + 1e-30j).imag / 1e-30  # the complex step: a derivative to full precision
    np.testing.assert_allclose(step, nm.grad(lambda v: np.sum(f(v)))(x), rtol=1e-15)
    nm.check_grads(f, (x,))
    np.testing.assert_array_equal(nm.stage(f, x)(x), f(x))
    np.testing.assert_array_equal(nm.vmap(f)(x), f(x))


# ------------------------------------------------------------------------------------------ two arguments
def pairs(dtype):
    """Pairs a > b: far apart, near, and neighbours in floating point."""
    rng = np.random.default_rng(3)
    a = np.concatenate(
        [rng.uniform(-700, 700, 80), 10.0 ** rng.uniform(-20, 2, 80), rng.uniform(-2, 2, 80)]
    )
    a = a.astype(dtype)
    b = (a - 10.0 ** rng.uniform(-12, 2, a.size)).astype(dtype)
    b[::3] = np.nextafter(a[::3], dtype(-np.inf))
    return a[a > b], b[a > b]


def largest(*xs):
    return np.max(np.abs(xs), axis=0)


def test_logsubexp_keeps_its_bound(dtype):
    a, b = pairs(dtype)
    y = S.logsubexp(a, b)
    assert y.dtype == dtype
    assert in_eps(y, map(LOGSUBEXP, a, b), largest(a, b, y)) <= 4


def test_logaddexp_keeps_the_same_bound(dtype):
    a, b = pairs(dtype)
    y = np.logaddexp(a, b)
    assert in_eps(y, map(LOGADDEXP, a, b), largest(a, b, y)) <= 4
    np.testing.assert_array_equal(nm.numpy.logaddexp(a, b), y)


def test_logsubexp_has_exact_derivatives(dtype):
    a, b = pairs(dtype)
    near = (np.abs(b - a) < 80) & (np.abs(b - a) > 1e-15)  # the second derivative is 1 / d**2
    a, b = a[near], b[near]
    d = b - a  # rounded: the slopes are compared for the difference that the formula sees
    at = [Decimal(float(v)) for v in d]
    with localcontext() as ctx:
        ctx.prec = 60
        first = [1 / (1 - v.exp()) for v in at]
        second = [-v.exp() / (1 - v.exp()) for v in at]
        bend = [-v.exp() / (1 - v.exp()) ** 2 for v in at]
    slopes = nm.grad(lambda u, v: np.sum(S.logsubexp(u, v)), (0, 1))(a, b)
    assert in_eps(slopes[0], first) <= 8
    assert in_eps(slopes[1], second) <= 8
    one, none = np.ones_like(a), np.zeros_like(a)
    assert in_eps(nm.jvp(S.logsubexp, (a, b), (one, none))[1], first) <= 8
    assert in_eps(nm.jvp(S.logsubexp, (a, b), (none, one))[1], second) <= 8
    hvp = nm.hvp(lambda u, v: np.sum(S.logsubexp(u, v)), (a, b), (one, none))[0]
    assert in_eps(hvp, bend) <= 16


@pytest.mark.parametrize(
    ("x1", "x2", "value", "slopes"),
    [
        (2.0, -INF, 2.0, (1.0, 0.0)),
        (-INF, -INF, -INF, (1.0, 0.0)),
        (INF, 3.0, INF, (1.0, 0.0)),
        (2.0, 2.0, -INF, (INF, -INF)),
    ],
)
def test_logsubexp_at_special_points(x1, x2, value, slopes, dtype):
    x1, x2 = dtype(x1), dtype(x2)
    with np.errstate(divide="ignore", invalid="ignore"):
        assert S.logsubexp(x1, x2) == value
        assert nm.grad(S.logsubexp, (0, 1))(x1, x2) == slopes
        tangents = (dtype(1), dtype(0)), (dtype(0), dtype(1))
        if np.isfinite(slopes).all():
            assert tuple(nm.jvp(S.logsubexp, (x1, x2), t)[1] for t in tangents) == slopes
        assert np.isnan(S.logsubexp(dtype(1), dtype(2)))
        assert np.isnan(S.logsubexp(dtype(-INF), dtype(1)))


def test_logsubexp_of_the_logarithm_of_zero_computes_nothing_invalid(dtype):
    with np.errstate(all="raise"):
        for x in (dtype(2), dtype(-INF)):
            assert S.logsubexp(x, dtype(-INF)) == x
            assert nm.jvp(S.logsubexp, (x, dtype(-INF)), (dtype(1), dtype(1)))[1] == 1


def test_logsubexp_broadcasts_and_keeps_the_dtype():
    x = np.float32([[1.0], [2.0]])
    assert S.logsubexp(x, np.float32([0.5, -1.0])).shape == (2, 2)
    assert S.logsubexp(x, 0.5).dtype == np.float32
    assert S.logsubexp(3, x).dtype == np.float32
    nm.check_grads(S.logsubexp, (np.array([[1.0], [2.0]]), np.array([0.5, -1.0])))


# ------------------------------------------------------------------------------------------ over an axis
def log_sum_exp(row):
    return exact(lambda *xs: sum(x.exp() for x in xs).ln())(*row)


ROWS = {
    "spread": lambda rng: rng.uniform(-30, 30, (20, 8)),
    "dominated": lambda rng: np.concatenate([np.zeros((20, 1)), rng.uniform(-80, -10, (20, 7))], 1),
    "ties": lambda rng: rng.integers(-2, 3, (20, 8)).astype(float),
    "large": lambda rng: 1e4 + rng.uniform(-3, 3, (20, 8)),
    "small": lambda rng: 1e-9 * rng.standard_normal((20, 8)),
}


@pytest.mark.parametrize("name", ROWS)
def test_logsumexp_keeps_its_bound(name, dtype):
    x = ROWS[name](np.random.default_rng(1)).astype(dtype)
    top, d, k = x.max(axis=1), np.ptp(x, axis=1), x.shape[1]
    for axis, a in ((1, x), (0, np.ascontiguousarray(x.T))):
        y = S.logsumexp(a, axis=axis)
        assert y.dtype == dtype
        wants = [log_sum_exp(row) for row in x]
        over = np.array([float(w - Decimal(float(t))) for w, t in zip(wants, top, strict=True)])
        bound = np.abs(y.astype(float)) + (k + 4 + d) * over
        assert in_eps(y, wants, bound) <= 1


@pytest.mark.parametrize("name", ROWS)
def test_log_softmax_keeps_its_bound(name, dtype):
    x = ROWS[name](np.random.default_rng(1)).astype(dtype)
    y = S.log_softmax(x, axis=1)
    wants, bounds = [], []
    for row in x:
        whole = log_sum_exp(row)
        wants += [Decimal(float(v)) - whole for v in row]
        bounds += [
            float(abs(w)) * (row.size + 4 + float(row.max() - v))
            for w, v in zip(wants[-8:], row, strict=True)
        ]
    assert in_eps(y.ravel(), wants, np.maximum(bounds, 1e-300)) <= 1


def test_what_is_beside_the_largest_exponent_is_not_lost():
    """The logarithm of a probability near 1, which `x - log(sum(exp(x)))` makes 0."""
    x = np.array([0.0, -40.0])
    np.testing.assert_allclose(S.logsumexp(x), np.log1p(np.exp(-40.0)), rtol=1e-15)
    np.testing.assert_allclose(S.log_softmax(x)[0], -np.exp(-40.0), rtol=1e-15)
    np.testing.assert_allclose(nm.nn.log_softmax(x)[0], -np.exp(-40.0), rtol=1e-15)


def test_logsumexp_with_infinite_entries(dtype):
    nothing, some = dtype(-INF), dtype(2.0)
    x = np.array([[nothing, some], [nothing, nothing], [-nothing, some]])
    np.testing.assert_array_equal(S.logsumexp(x, axis=1), [some, nothing, -nothing])
    grad = nm.grad(lambda v: S.logsumexp(v, axis=1)[:2].sum())(x)
    np.testing.assert_array_equal(grad, [[0, 1], [0, 0], [0, 0]])
    assert S.logsumexp(np.zeros((3, 0), dtype), axis=1).tolist() == [-INF] * 3
    assert np.isnan(S.logsumexp(np.array([np.nan, 1.0], dtype)))


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (1, -1), ()])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_weighted_logsumexp_is_scipys(axis, keepdims, signed, dtype):
    rng = np.random.default_rng(4)
    a = rng.standard_normal((3, 4, 2)).astype(dtype)
    b = rng.uniform(0.5, 2.0, (3, 1, 2)).astype(dtype) * rng.choice([-1, 1], (3, 1, 2)).astype(
        dtype
    )
    b[0] = np.abs(b[0])
    kw = {"axis": axis, "b": b, "keepdims": keepdims, "return_sign": signed}
    with np.errstate(invalid="ignore"):
        want = scipy.special.logsumexp(a, **kw)
        got = S.logsumexp(a, **kw)
    scale = np.sum(np.abs(b) * np.exp(a), axis=axis, keepdims=keepdims)
    scale = scale / np.abs(np.sum(b * np.exp(a), axis=axis, keepdims=keepdims))
    for x, y in zip(got if signed else (got,), want if signed else (want,), strict=True):
        assert x.dtype == dtype
        assert np.shape(x) == np.shape(y)
        # k + 4 + d < 40, in both libraries
        close = np.abs(x - y) <= 80 * np.finfo(dtype).eps * (np.abs(y) + scale)
        assert (close | (np.isnan(x) & np.isnan(y))).all()


COMPLEX = {
    "plain": {},
    "sign": {"return_sign": True},
    "real factors": {"b": np.array([1.0, -2.0, 3.0])},
    "factors": {"b": np.array([1j, 2.0, -1.0])},
    "factors, sign": {"b": np.array([1j, 2.0, -1.0]), "return_sign": True},
}


@pytest.mark.parametrize("name", COMPLEX)
def test_logsumexp_of_complex_numbers_is_scipys(name):
    kw = COMPLEX[name]
    for a in (np.array([1 + 2j, 3 - 1j, 0.5j]), np.array([800 + 2j, 803 - 1j, 802.0])):
        want, got = scipy.special.logsumexp(a, **kw), S.logsumexp(a, **kw)
        for x, y in zip(*((v if isinstance(v, tuple) else (v,)) for v in (got, want)), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-13)
            assert type(x) is type(y)

    def parts(re, im):
        ys = S.logsumexp(re + 1j * im, **kw)
        return [np.real(y) + 2 * np.imag(y) for y in (ys if isinstance(ys, tuple) else (ys,))]

    nm.check_grads(parts, (np.array([1.0, 3.0, 0.0]), np.array([2.0, -1.0, 0.5])))


def test_logsumexp_of_complex_numbers_without_a_term():
    assert S.logsumexp(np.array([1j, 2.0]), b=np.zeros(2), return_sign=True) == (-INF, 0)
    assert S.logsumexp(np.full(2, -INF + 0j), return_sign=True) == (-INF, 0)


def test_logsumexp_of_real_numbers_with_complex_factors():
    a, b = np.array([1.0, 2.0]), np.array([1j, 2.0])
    np.testing.assert_allclose(S.logsumexp(a, b=b), scipy.special.logsumexp(a, b=b), rtol=1e-14)


# ------------------------------------------------------------------------------------------ quotients
def test_safe_divide_is_a_division_elsewhere(dtype):
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(200) * 10.0 ** rng.uniform(-15, 15, 200) for _ in range(2))
    x, y = x.astype(dtype), y.astype(dtype)
    np.testing.assert_array_equal(S.safe_divide(x, y), x / y)
    assert S.safe_divide(x, y).dtype == dtype
    assert S.safe_divide(x, 2.0).dtype == dtype
    assert S.safe_divide(1, y).dtype == dtype
    assert S.safe_divide(1, 2) == 0.5
    assert S.safe_divide(1, 0, fill=7.0) == 7.0


def test_safe_divide_has_derivative_zero_where_it_fills(dtype):
    x = np.array([1.0, 2.0, 0.0, INF, np.nan, 3.0], dtype)
    y = np.array([4.0, 0.0, -0.0, 0.0, 0.0, 1e-9], dtype)

    def f(x, y):
        return S.safe_divide(x, y, fill=-1.0, tolerance=1e-8)

    np.testing.assert_array_equal(f(x, y), np.array([0.25, -1, -1, -1, -1, -1], dtype))
    gx, gy = nm.grad(lambda x, y: f(x, y).sum(), (0, 1))(x, y)
    np.testing.assert_array_equal(gx, np.array([0.25, 0, 0, 0, 0, 0], dtype))
    np.testing.assert_array_equal(gy, np.array([-0.0625, 0, 0, 0, 0, 0], dtype))
    ones = np.ones_like(x)
    _, t = nm.jvp(f, (x, y), (ones, ones))
    np.testing.assert_array_equal(t, gx + gy)
    hx, hy = nm.hvp(lambda x, y: f(x, y).sum(), (x, y), (ones, ones))
    np.testing.assert_array_equal(hx, np.array([-0.0625, 0, 0, 0, 0, 0], dtype))
    np.testing.assert_array_equal(hy, np.array([-0.0625 + 2 / 64, 0, 0, 0, 0, 0], dtype))


def test_safe_divide_gives_the_filled_entries_their_own_derivative():
    y = np.array([2.0, 0.0])
    g = nm.grad(lambda c: S.safe_divide(1.0, y, fill=c).sum())(np.array([5.0, 5.0]))
    np.testing.assert_array_equal(g, [0.0, 1.0])
    assert np.isnan(S.safe_divide(1.0, np.array([np.nan]))).all()
    with pytest.raises(
        nm.DomainError, match=r"^safe_divide: `tolerance` must be at least 0 and finite, got -1"
    ):
        S.safe_divide(1.0, y, tolerance=-1)
    nm.check_grads(lambda x, y: S.safe_divide(x, y), (np.array([1.0, 2.0]), np.array([3.0, -1.5])))
    np.testing.assert_array_equal(nm.vmap(S.safe_divide)(y, y), S.safe_divide(y, y))
    np.testing.assert_array_equal(nm.stage(S.safe_divide, y, y)(y, y), [1.0, 0.0])


# ------------------------------------------------------------------------------------------ variance, norms
def fractions_variance(x):
    """Variance of float numbers by exact decimals."""
    with localcontext() as ctx:
        ctx.prec = 60
        xs = [Decimal(float(v)) for v in x]
        mean = sum(xs) / len(xs)
        return float(sum((v - mean) ** 2 for v in xs) / len(xs))


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 1), None])
def test_variance_of_large_numbers_is_made_in_two_passes(axis):
    """float32 numbers with mean 2000 and variance 1: the difference of two means has no digit of the variance."""
    x = (2000 + np.random.default_rng(0).standard_normal((40, 50))).astype(np.float32)
    rows = {0: x.T, 1: x, -1: x}.get(axis, x.reshape(1, -1))
    want = np.array([fractions_variance(row) for row in rows]).reshape(
        np.shape(np.sum(x, axis=axis))
    )
    n, eps, spread = rows.shape[1], np.finfo(np.float32).eps, 2000.0
    bound = n * eps + (n * spread * eps) ** 2  # Chan, Golub & LeVeque, 1983: two passes
    for f in (np.var, nm.numpy.var):
        np.testing.assert_allclose(f(x, axis=axis), want, rtol=bound)
        assert f(x, axis=axis).dtype == np.float32
    traced, slope = nm.vjp(lambda v: np.var(v, axis=axis), x)
    np.testing.assert_allclose(traced, want, rtol=bound)
    (g,) = slope(np.ones_like(traced))
    axes = axis if axis is None or isinstance(axis, tuple) else (axis,)
    exact_slope = 2 * (x - np.mean(x, axis=axes, keepdims=True, dtype=float)) / n
    np.testing.assert_allclose(g, exact_slope, atol=4 * spread * eps * 2 / n)
    naive = np.mean(x**2, axis=axis) - np.mean(x, axis=axis) ** 2
    assert np.max(np.abs(naive - want)) > 0.1


EXTREMES = {np.float32: (1e-30, 1e30), np.float64: (1e-200, 1e200)}


def test_norm_and_hypot_neither_overflow_nor_vanish(dtype):
    for scale in EXTREMES[dtype]:
        x = np.array([3.0, -4.0], dtype) * dtype(scale)
        eps = np.finfo(dtype).eps
        for f in (
            np.linalg.norm,
            lambda v: np.hypot(v[0], v[1]),
            nm.numpy.linalg.norm,
            nm.linalg.norm,
        ):
            value, slope = nm.value_and_grad(f)(x)
            np.testing.assert_allclose(value, 5.0 * dtype(scale), rtol=4 * eps)
            np.testing.assert_allclose(slope, [0.6, -0.8], rtol=4 * eps)
            tangent = nm.jvp(f, (x,), (x,))[1]
            np.testing.assert_allclose(tangent, value, rtol=4 * eps)
        # the second derivative, (1 - u u') / norm
        bend = nm.hvp(np.linalg.norm, (x,), (np.array([0.8, 0.6], dtype),))
        np.testing.assert_allclose(bend, np.array([0.8, 0.6]) / (5.0 * scale), rtol=16 * eps)


def test_norm_and_hypot_at_zero_have_derivative_zero(dtype):
    zero = np.zeros(3, dtype)
    for f in (np.linalg.norm, lambda v: np.hypot(v[0], v[1])):
        np.testing.assert_array_equal(nm.grad(f)(zero), zero)
        assert nm.jvp(f, (zero,), (zero,))[1] == 0
        np.testing.assert_array_equal(nm.hvp(f, (zero,), (np.ones(3, dtype),)), zero)


# ------------------------------------------------------------------------------------------ the source document
def test_exp_overflows_at_the_logarithm_of_the_largest_number():
    """D01: the largest argument of exp is log(max), 88.72 in float32 and 709.78 in float64; log-sum-exp has none."""
    for dtype, limit in ((np.float32, 88.72), (np.float64, 709.78)):
        largest = np.log(np.finfo(dtype).max)
        assert abs(float(largest) - limit) < 0.005
        with np.errstate(over="ignore"):
            assert np.exp(dtype(limit)) < INF
            assert np.exp(dtype(limit + 0.01)) == INF
        x = np.array([limit + 1000, limit + 1000], dtype)
        np.testing.assert_allclose(
            S.logsumexp(x), limit + 1000 + math.log(2), rtol=np.finfo(dtype).eps
        )


def test_log_of_a_small_probability_is_lost_before_the_logarithm():
    """D02: not log loses a small number but the exp before: at 104 in float32 and 746 in float64 it is 0."""
    for dtype, limit in ((np.float32, 104.0), (np.float64, 746.0)):
        with np.errstate(under="ignore", divide="ignore"):
            assert np.exp(dtype(1 - limit)) > 0
            assert np.log(np.exp(dtype(-limit))) == -INF
        assert S.log_softmax(np.array([0.0, -limit], dtype))[1] == -limit
        tiny = np.finfo(dtype).smallest_subnormal
        np.testing.assert_allclose(
            np.log(tiny), math.log(2) * (-149 if dtype is np.float32 else -1074), rtol=1e-6
        )


def test_small_divisors_multiply_errors_of_the_divisor_alone():
    """D03: a quotient is exact to half an ulp however small the divisor; what hurts is an error in the divisor."""
    y = np.float32(1e-30)
    assert abs(float(np.float32(3.0) / y) / (3.0 / float(y)) - 1) <= 2.0**-24
    a, b = np.float32(1.0001), np.float32(1.0)
    lost = float(np.float32(3.0) / (a - b)) / (3.0 / 1e-4)
    assert 1e-4 < abs(lost - 1) < 1e-2  # of 1.0001 float32 holds 1.00010002
    assert S.safe_divide(np.float32(3.0), np.float32(0.0)) == 0


def test_log_sum_exp_is_the_same_after_any_shift():
    """D04: logsumexp(x + c) = logsumexp(x) + c for shifts by which exp overflows or vanishes."""
    x = np.array([0.0, 1.0, 2.0])
    value = math.log(1 + math.e + math.e**2)
    for c in (-1e6, -1000.0, 0.0, 1000.0, 1e6):
        np.testing.assert_allclose(S.logsumexp(x + c), value + c, rtol=4e-16)
        np.testing.assert_allclose(
            S.softmax(x + c), np.exp(x - value), rtol=1e-10 if abs(c) > 1e3 else 1e-12
        )


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_eps_in_the_denominator_changes_the_scale_and_bounds_the_derivative(eps):
    """D05: a layer with eps gives variance v / (v + eps), not 1, and the derivative at v = 0 is 1 / sqrt(eps)."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal(1000)
    z = (z - z.mean()) / z.std()
    for v in (1e-8, eps, 1e-2, 1.0):
        y = nm.nn.layer_norm(math.sqrt(v) * z, np.ones(1000), np.zeros(1000), eps=eps)
        np.testing.assert_allclose(np.var(y), v / (v + eps), rtol=1e-12)
    flat, direction = np.zeros(1000), z / np.linalg.norm(z)
    _, t = nm.jvp(
        lambda x: nm.nn.layer_norm(x, np.ones(1000), np.zeros(1000), eps=eps), (flat,), (direction,)
    )
    np.testing.assert_allclose(np.linalg.norm(t), 1 / math.sqrt(eps), rtol=1e-12)


def test_double_precision_is_needed_where_the_report_says():
    """D06: of a loss in float32 it is the difference of means that needs double precision; so computed it is safe."""
    x = (2000 + np.random.default_rng(0).standard_normal(100)).astype(np.float32)

    def naive(x):
        return np.mean(x**2) - np.mean(x) ** 2

    culprit = nm.precision_report(naive, (x,)).culprit
    assert culprit.name == "subtract"
    assert culprit.lost > 5
    want = fractions_variance(x)
    assert abs(naive(x) / want - 1) > 0.01
    assert abs(naive(x.astype(np.float64)) / want - 1) < 1e-9
    assert abs(np.var(x) / want - 1) < 1e-5
