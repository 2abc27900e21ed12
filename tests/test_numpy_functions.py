"""Functions of NumPy that compute with values: NumPy's result, and derivatives of both orders in every variant."""

import math
import warnings

import numpy as np
import pytest
from composed_checks import EPS, Use, check_function
from registry_checks import REGISTRY

import nnmath_core as nm

RNG = np.random.default_rng(5)
A = RNG.standard_normal((3, 4))
B = RNG.standard_normal((3, 4))
V = np.array([0.4, -1.3, 2.2, 0.9, -0.7])
W = np.array([1.1, 0.6, -0.4])
P = np.array([0.3, 1.2, 0.7, 2.1, 1.6])
KNOTS = np.array([-1.0, 0.2, 1.1, 2.5])
HEIGHTS = np.array([0.5, -0.3, 1.7, 0.4])
INSIDE = np.array([[-0.6, 0.5], [1.9, 2.2]])
OUTSIDE = np.array([-3.0, 0.7, 4.0])
GRID = np.array([0.0, 0.7, 1.1, 2.5])
CUBIC = np.array([1.0, -0.5, -3.0, 0.4])
ROUND = np.array([0.4, 3.9, -1.2])
EAGER = {"stages": False, "batches": False, "dtypes": (np.float64,)}
SPD = A @ A.T + 3 * np.eye(3)


def use(name, f, *xs, **kw):
    return pytest.param(Use(name, f, xs, **kw), id=name)


UFUNCS = [
    use("fmax", np.fmax, A, B),
    use("fmin broadcast", np.fmin, A, B[:1]),
    use("fmod", np.fmod, A, np.array(0.7)),
    use("copysign", lambda x: np.copysign(x, B), A),
    use("copysign of a number", lambda x: np.copysign(x, -1.0), A),
    use("fabs", np.fabs, A),
    use("ldexp", lambda x: np.ldexp(x, np.array([1, -2, 0, 3])), A),
    use("frexp", lambda x: np.frexp(x)[0], A),
    use("modf", lambda x: np.modf(x)[0], 3 * A),
    use("divmod", lambda x, y: np.divmod(x, y)[1], A, np.array(0.7)),
    use("python's divmod", lambda x: divmod(x, 0.7)[1], A),
    use("logaddexp2", np.logaddexp2, A, B),
    use("heaviside in the value at 0", lambda h: np.heaviside(h.dtype.type(0), h), W, linear=True),
    use("deg2rad", np.deg2rad, A),
    use("rad2deg", np.rad2deg, A),
    use("radians", np.radians, A),
    use("degrees", np.degrees, A),
    use("float_power", np.float_power, np.abs(A), B),
    use("sinc", np.sinc, A),
    use("sinc near 0", np.sinc, np.array([0.0, 1e-9, 1e-4, 0.2, 1.0, -2.5])),
    use("nan_to_num", np.nan_to_num, A),
    use("unwrap", np.unwrap, np.cumsum(3 * A, 1)),
    use("unwrap with options", lambda x: np.unwrap(x, discont=2.0, axis=0, period=4.0), 3 * A),
    use("angle", lambda x, y: np.angle(x + 1j * y), A, B),
    use("angle in degrees", lambda x, y: np.angle(x + 1j * y, deg=True), A, B),
    use("real_if_close", lambda x: np.real_if_close(x), A),
    use("positive", np.positive, A),
    use("i0", np.i0, A),
]  # fmt: skip
METHODS = [
    use("logaddexp.reduce", lambda x: np.logaddexp.reduce(x, axis=1), A),
    use("logaddexp.reduce of all", lambda x: np.logaddexp.reduce(x, axis=None, keepdims=True), A),
    use("logaddexp2.reduce", np.logaddexp2.reduce, A),
    use("hypot.reduce", lambda x: np.hypot.reduce(x, axis=1), A),
    use("fmax.reduce", lambda x: np.fmax.reduce(x, axis=1), A),
    use("fmin.reduce", np.fmin.reduce, A),
    use("subtract.reduce", lambda x: np.subtract.reduce(x, axis=1), A),
    use("divide.reduce", lambda x: np.divide.reduce(x, axis=1, keepdims=True), A),
    use("multiply.reduce", lambda x: np.multiply.reduce(x, axis=(0, 1)), A),
    use("add.reduce with where", lambda x: np.add.reduce(x, axis=0, where=A > 0, initial=2.0), B),
    use("maximum.accumulate", lambda x: np.maximum.accumulate(x, axis=1), A),
    use("minimum.accumulate", np.minimum.accumulate, A),
    use("fmax.accumulate", np.fmax.accumulate, V),
    use("subtract.accumulate", lambda x: np.subtract.accumulate(x, axis=1), A),
    use("logaddexp.accumulate", np.logaddexp.accumulate, V),
    use("multiply.accumulate", np.multiply.accumulate, V),
    use("arctan2.outer", np.arctan2.outer, V, W),
    use("maximum.outer", np.maximum.outer, A, V),
    use("add.reduceat", lambda x: np.add.reduceat(x, [0, 3, 1], axis=1), A),
    use("multiply.reduceat", lambda x: np.multiply.reduceat(x, [0, 2, 4]), V),
    use("maximum.reduceat", lambda x: np.maximum.reduceat(x, [1, 0]), V),
]
STATISTICS = [
    use("average", np.average, A),
    use("average, weights", lambda x, w: np.average(x, 1, w), A, np.abs(B[0])),
    use("average, full weights", lambda x, w: np.average(x, weights=w), A, np.abs(B)),
    use("average, returned", lambda x, w: np.average(x, 0, w, True), A, P[:3]),
    use("average, returned without weights", lambda x: np.average(x, 0, returned=True)[0], A),
    use("average, axes", lambda x, w: np.average(x, (0, 1), w, keepdims=True), A, np.abs(B)),
    use("cov", np.cov, A),
    use("cov of a vector", np.cov, V),
    use("cov of two", lambda x, y: np.cov(x, y), V, P),
    use("cov by columns", lambda x: np.cov(x, rowvar=False, bias=True), A),
    use("cov, weights", lambda x, w: np.cov(x, aweights=w), A, P[:4]),
    use("cov, counts", lambda x: np.cov(x, fweights=[1, 2, 0, 3]), A),
    use("cov, both", lambda x, w: np.cov(x, fweights=[1, 2, 1, 3], aweights=w, ddof=0), A, P[:4]),
    use("corrcoef", np.corrcoef, A),
    use("corrcoef by columns", lambda x: np.corrcoef(x[:, :2], rowvar=False), A),
    use("ptp", lambda x: np.ptp(x, 1), A),
]
NUMERIC = [
    use("interp", np.interp, INSIDE, KNOTS, HEIGHTS),
    use("interp outside", lambda xp, fp: np.interp(OUTSIDE, xp, fp), KNOTS, HEIGHTS),
    use("interp, ends", lambda fp, a, b: np.interp(OUTSIDE, KNOTS, fp, a, b), HEIGHTS, np.array(1.5), np.array(-2.0)),
    use("interp of a number", lambda x: np.interp(x, KNOTS, HEIGHTS), np.array(0.9)),
    use("interp, period", lambda x, xp, fp: np.interp(x, xp, fp, period=3.0), OUTSIDE, ROUND, W),
    use("interp, one knot", lambda fp: np.interp(INSIDE, np.array([0.3]), fp), np.array([0.7]), linear=True),
    use("gradient", np.gradient, A),
    use("gradient, one axis", lambda x: np.gradient(x, axis=0, edge_order=2), A),
    use("gradient, spacing", lambda x, h: np.gradient(x, h, axis=1), A, np.array(0.7)),
    use("gradient, coordinates", lambda x, c: np.gradient(x, c, axis=1, edge_order=2), A, GRID),
    use("gradient, both", lambda x, c: np.gradient(x, 0.5, c), A, GRID),
    use("gradient, axes", lambda x: np.gradient(x, 2.0, 0.5, axis=(1, 0)), A),
    use("trapezoid", np.trapezoid, A),
    use("trapezoid, coordinates", lambda y, x: np.trapezoid(y, x), A, GRID),
    use("trapezoid, axis", lambda y, x: np.trapezoid(y, x, axis=0), A, np.array([0.0, 0.7, 1.1])),
    use("trapezoid, grid", lambda y, x: np.trapezoid(y, x, axis=0), A, np.cumsum(np.abs(B), 0)),
    use("trapezoid, step", lambda y, d: np.trapezoid(y, dx=d), A, np.array(0.3)),
    use("diff, ends", lambda x, y: np.diff(x, 2, prepend=y, append=1.0), V, np.array([0.3])),
    use("ediff1d", np.ediff1d, A),
    use("ediff1d, ends", lambda x, y: np.ediff1d(x, y, 1.5), V, W),
    use("cross", np.cross, A[:, :3], B[:, 1:]),
    use("cross, axes", lambda a, b: np.cross(a, b, 0, 1, 0), A, B[:2, :3].repeat(2, 0)),
    use("cross, axis", lambda a, b: np.cross(a, b, axis=0), A, B),
    use("kron", np.kron, A, B[:2, :2]),
    use("kron of vectors", np.kron, V, W),
    use("kron of ranks", np.kron, A, V),
    use("kron of a number", np.kron, np.array(2.0), V),
    use("convolve", np.convolve, V, W),
    use("convolve, same", lambda a, v: np.convolve(a, v, "same"), V, P[:4]),
    use("convolve, valid", lambda a, v: np.convolve(a, v, "valid"), W, V),
    use("correlate", np.correlate, V, W),
    use("correlate, same", lambda a, v: np.correlate(a, v, "same"), V, P[:4]),
    use("correlate, same, short", lambda a, v: np.correlate(a, v, "same"), P[:4], V),
    use("correlate, full", lambda a, v: np.correlate(a, v, "full"), W, V),
    use("correlate, valid, short", np.correlate, W, V),
    use("bincount", lambda w: np.bincount(np.array([1, 0, 4, 1, 1]), w, 7), V, linear=True),
    use("histogram", lambda w: np.histogram(V, 3, weights=w)[0], P, linear=True),
    use("histogram, density", lambda w: np.histogram(V, [-2, 0, 1, 3], weights=w, density=True)[0], P),
    use("histogram, range", lambda w: np.histogram(V, 4, (-1, 1), weights=w)[0], P, linear=True),
    use("histogram2d", lambda w: np.histogram2d(V, P, [2, 3], weights=w)[0], P, linear=True),
    use("histogramdd", lambda w: np.histogramdd(A[:, :3], (2, 2, 3), weights=w)[0], W, linear=True),
]  # fmt: skip
POLYNOMIALS = [
    use("polyval", np.polyval, W, A),
    use("polyval, no coefficients", lambda x: np.polyval(np.array([2.0, 1.0], x.dtype), x), A, linear=True),
    use("polyadd", np.polyadd, V, W),
    use("polysub", np.polysub, W, V),
    use("polymul", np.polymul, V, W),
    use("polydiv", lambda u, v: np.polydiv(u, v), V, W, stages=False, batches=False, dtypes=(np.float64,)),
    use("polydiv, short", lambda u, v: np.polydiv(u, v)[1], W, V, stages=False, batches=False),
    use("polyder", np.polyder, V),
    use("polyder, twice", lambda p: np.polyder(p, 2), V),
    use("polyint", np.polyint, V),
    use("polyint, constants", lambda p, k: np.polyint(p, 2, k), V, P[:2]),
    use("poly", np.poly, V),
    use("poly of a matrix", np.poly, SPD, stages=False, batches=False, dtypes=(np.float64,)),
    use("polyfit", lambda x, y: np.polyfit(x, y, 2), V, P),
    use("polyfit, weights", lambda x, y, w: np.polyfit(x, y, 1, w=w), V, A[:1].repeat(5, 0)[:, :2] + V[:, None], P),
    use("roots", lambda p: np.sort(np.roots(p).real), CUBIC, **EAGER),
    use("roots, zeros at both ends", lambda p: np.roots(np.pad(p, 1)).real.sum(), CUBIC, **EAGER),
    use("vander", np.vander, V),
    use("vander, increasing", lambda x: np.vander(x, 3, increasing=True), V),
]  # fmt: skip
CHOICES = [
    use("select", lambda x, y: np.select([A > 0.5, A < 0], [x, y], 2.0), A, B),
    use("select, both hold", lambda x, y: np.select([A > 0, A > -1], [x, y]), A, B),
    use("select broadcast", lambda x, y: np.select([A > 0.5, A < 0], [x[0], y]), A, B),
    use("choose", lambda x, y: np.choose(np.array([0, 1, 1, 0]), [x, y]), A, B),
    use(
        "choose, wrapped",
        lambda x, y: np.choose(np.array([0, 3, -1, 4]), [x, y], mode="wrap"),
        A,
        B,
    ),
    use(
        "piecewise", lambda x: np.piecewise(x, [A < 0, A >= 0.5], [lambda u: u**2, np.exp, -1.0]), A
    ),
    use("piecewise by value", lambda x: np.piecewise(x, [x < 0], [lambda u: u**2, np.sin]), A),
    use(
        "piecewise of a number", lambda x: np.piecewise(x, [x > 0], [np.sin, np.cos]), np.array(0.4)
    ),
    use("partition", lambda x: np.partition(x, 1), A),
    use("partition, flat", lambda x: np.partition(x, (1, 5), axis=None), A),
    use("sort_complex", lambda x: np.sort_complex(x).real, A),
    use("sort, flat", lambda x: np.sort(x, axis=None, kind="stable"), A),
]


@pytest.mark.parametrize("case", UFUNCS + METHODS + STATISTICS + NUMERIC + POLYNOMIALS + CHOICES)
def test_function_is_numpys_and_has_derivatives(case):
    check_function(case)


# ----------------------------------------------------------------------------------------- special points
def test_sinc_has_all_derivatives_at_zero_and_near_it():
    """The k-th derivative of sin(u)/u is the integral of t^k cos(ut + k pi/2): no cancellation, no quotient."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    t, w = (nodes + 1) / 2, weights / 2
    for x in (0.0, 1e-300, 1e-9, 1e-3, 0.1, 0.31, 0.5, 0.7, 1.0, 1.7, -2.0, 3.9):
        f, u = np.sinc, math.pi * x
        for k in range(7):
            want = math.pi**k * np.sum(w * t**k * np.cos(u * t + k * math.pi / 2))
            scale = math.pi**k / (k + 1)  # the value at 0, which bounds all others
            assert abs(f(x) - want) <= 400 * EPS * scale, (x, k)
            f = nm.grad(f)
    assert nm.grad(np.sinc)(0.0) == 0.0
    assert nm.grad(nm.grad(np.sinc))(0.0) == pytest.approx(-(math.pi**2) / 3, rel=8 * EPS)
    got = nm.jacfwd(nm.grad(np.sinc))(np.float32(1e-4))
    assert got.dtype == np.float32
    assert got == pytest.approx(-(math.pi**2) / 3, rel=1e-6)


def test_fmax_ignores_nan_and_shares_ties():
    f = lambda x, y: np.sum(np.fmax(x, y)) + 2.0 * np.sum(np.fmin(x, y))  # noqa: E731
    x, y = np.array([1.0, np.nan, 2.0, np.nan]), np.array([1.0, 3.0, np.nan, np.nan])
    g, h = nm.grad(f, (0, 1))(x, y)
    assert np.array_equal(g, [1.5, 0.0, 3.0, 0.0])
    assert np.array_equal(h, [1.5, 3.0, 0.0, 3.0])  # of two NaN, the second is returned
    # what made the NaN is a structural zero
    with np.errstate(all="ignore"):
        g = nm.grad(lambda x: np.sum(np.fmax(np.log(x), 0.5)))(np.array([-1.0, 0.0, 4.0]))
    assert np.array_equal(g, [0.0, 0.0, 0.25])


def test_copysign_fabs_heaviside_and_modf_at_their_points():
    assert nm.grad(lambda x: np.copysign(x, -1.0))(0.0) == 0.0
    assert nm.grad(lambda x: np.copysign(x, -0.0))(2.0) == -1.0
    assert nm.grad(np.fabs)(0.0) == 0.0
    assert nm.grad(lambda x: np.heaviside(x, 0.5))(0.0) == 0.0
    assert nm.grad(lambda h: np.heaviside(0.0, h))(0.3) == 1.0
    assert nm.grad(lambda x: np.modf(x)[0])(-2.0) == 1.0
    assert np.isnan(nm.jvp(lambda x: np.heaviside(x, 0.5), (np.nan,), (1.0,))[0])
    got = nm.jvp(
        lambda x: np.modf(x)[0], (np.array([-np.inf, np.inf, -2.0, np.nan]),), (np.ones(4),)
    )[0]
    assert np.array_equal(got, [-0.0, 0.0, -0.0, np.nan], equal_nan=True)
    assert np.array_equal(np.signbit(got[:3]), [True, False, True])


def test_interp_at_knots_and_ends():
    xp, fp = [0.0, 1.0, 1.0, 3.0], [0.0, 2.0, 5.0, 4.0]  # a jump at 1
    x = np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0])
    assert np.array_equal(
        nm.jvp(lambda x: np.interp(x, xp, fp), (x,), (x,))[0], np.interp(x, xp, fp)
    )
    g = nm.grad(lambda x: np.sum(np.interp(x, xp, fp)))(x)
    assert np.array_equal(g, [0.0, 2.0, 2.0, -0.5, -0.5, -0.5, 0.0])
    # knots at the end that coincide have no slope, not NaN
    g = nm.grad(lambda x: np.interp(x, [0.0, 1.0, 1.0], [0.0, 2.0, 3.0]))(1.0)
    assert g == 0.0
    assert nm.grad(lambda x: np.interp(x, xp, fp, left=x * x))(-3.0) == -6.0


def test_running_maximum_selects_the_first_of_equal_entries():
    x = np.array([1.0, 3.0, 3.0, 2.0, np.nan, 5.0])
    got, _ = nm.vjp(np.maximum.accumulate, x)
    assert np.array_equal(got, np.maximum.accumulate(x), equal_nan=True)
    weight = 10.0 ** np.arange(6)
    g = nm.grad(lambda x: np.maximum.accumulate(x) @ weight)(x)
    assert np.array_equal(g, [1.0, 1110.0, 0.0, 0.0, 110000.0, 0.0])
    g = nm.grad(lambda x: np.fmin.accumulate(x) @ weight)(
        np.array([np.nan, 2.0, np.nan, 1.0, 1.0, 4.0])
    )
    assert np.array_equal(g, [1.0, 110.0, 0.0, 111000.0, 0.0, 0.0])


def test_singular_entries_that_are_not_chosen_are_structural_zeros():
    x = np.array([0.0, 1.0, 4.0])
    with np.errstate(all="ignore"):
        for f in (
            lambda u: np.select([u > 0.5, u <= 0.5], [u, 0.0]),
            lambda u: np.choose([1, 0, 0], [u, np.ones(3)]),
            lambda u: np.maximum.accumulate(u)[1:],
            lambda u: np.partition(u, 1)[1:],
            lambda u: np.unique(u)[1:],
            lambda u: np.setdiff1d(u, [0.0]),
            lambda u: np.interp([1.5, 2.0], [0.0, 1.0, 2.0], u),
            lambda u: np.fmax.reduce(u),
            lambda u: np.add.reduceat(u, [0, 1])[1:],
            lambda u: np.nan_to_num(np.where(u == 0, np.nan, u)),
        ):
            g = nm.grad(lambda x: np.sum(f(np.sqrt(x)) ** 2))(x)  # noqa: B023
            assert g[0] == 0
            assert np.isfinite(g).all()
            assert g.any()


# ----------------------------------------------------------------------------------------- complex values
@pytest.mark.parametrize(
    "f",
    [
        lambda z, w: np.convolve(z, w[:2]),
        lambda z, w: np.correlate(z, w[:2], "full"),
        lambda z, w: np.kron(z, w),
        lambda z, w: np.cross(z[:3], w[:3]),
        lambda z, w: np.cov(z, w),
        lambda z, w: np.corrcoef(z, w),
        lambda z, w: np.average(z, weights=np.abs(w)),
        lambda z, w: np.interp(np.array([0.3, 1.7]), np.arange(4.0), z * w),
        lambda z, w: np.gradient(z * w),
        lambda z, w: np.trapezoid(z, w),
        lambda z, w: np.polyval(z, w),
        lambda z, w: np.polymul(z, w),
        lambda z, w: np.poly(z * w),
        lambda z, w: np.vander(z),
        lambda z, w: np.sinc(z * 0.5),
        lambda z, w: np.nan_to_num(z * w),
        lambda z, w: np.select([np.array([True, False, False, True])], [z], w),
        lambda z, w: np.nansum(z * w),
        lambda z, w: np.ediff1d(z, w[:1]),
        lambda z, w: np.sort_complex(z * w),
        lambda z, w: np.sign(z) * w,
    ],
)
def test_complex_values_are_numpys_and_have_derivatives(f):
    z, w = V[:4] + 0.5j * P[:4], P[1:5] - 0.3j * V[:4]

    def g(a, b, c, d):
        y = f(a + 1j * b, c + 1j * d)
        return y.real, y.imag

    parts = (z.real, z.imag, w.real, w.imag)
    check_function(Use("complex", g, parts, dtypes=(np.float64,), stages=False, batches=False))


# ----------------------------------------------------------------------------------------- the namespace
MADE = (
    "average bincount bitwise_and bitwise_count bitwise_invert bitwise_left_shift bitwise_not bitwise_or "
    "bitwise_right_shift bitwise_xor choose convolve copysign corrcoef correlate cov cross deg2rad degrees digitize "
    "divmod ediff1d fabs fix float_power fmax fmin fmod frexp gcd gradient heaviside histogram histogram2d "
    "histogram_bin_edges histogramdd i0 interp intersect1d invert iscomplex isin isneginf isposinf isreal kron lcm "
    "ldexp left_shift lexsort logaddexp2 median modf nan_to_num nanargmax nanargmin nancumprod nancumsum nanmax "
    "nanmean nanmedian nanmin nanpercentile nanprod nanquantile nanstd nansum nanvar nextafter partition percentile "
    "piecewise poly polyadd polyder polydiv polyfit polyint polymul polysub polyval quantile rad2deg radians "
    "real_if_close right_shift roots searchsorted select setdiff1d setxor1d sinc sort_complex spacing trapezoid "
    "union1d unique unique_all unique_counts unique_inverse unique_values unwrap vander argpartition argwhere "
    "flatnonzero"
).split()


@pytest.mark.parametrize("name", MADE)
def test_namespace_has_the_function_with_one_line_about_it(name):
    f = getattr(nm.numpy, name)
    assert name in nm.numpy.__all__
    if isinstance(f, type(REGISTRY["add"])):
        return
    assert "\n" not in f.__doc__.strip() or f.__doc__.strip().splitlines()[0].endswith(".")


def test_plain_arguments_give_numpys_own_result_and_error():
    xs = [3, 1, 2]
    for name, args in (
        ("median", (xs,)),
        ("interp", (1.5, xs, xs)),
        ("unique", (xs,)),
        ("cov", (xs,)),
        ("polyfit", (xs, xs, 1)),
        ("histogram", (xs,)),
        ("nansum", (xs,)),
        ("sinc", (0,)),
        ("gcd", (4, 6)),
        ("trapezoid", (xs,)),
        ("cross", (xs, xs)),
        ("fmax", (1, 2)),
        ("isin", (xs, [1])),
        ("roots", (xs,)),
    ):
        got, want = getattr(nm.numpy, name)(*args), getattr(np, name)(*args)
        assert type(got) is type(want), name
        pairs = zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]
        assert all(np.array_equal(a, b) for a, b in pairs), name
    out = np.zeros(2)
    assert nm.numpy.median(A[:2], axis=1, out=out) is out
    with pytest.raises(ValueError, match="range"):
        nm.numpy.quantile(xs, 2.0)


def test_lists_of_tracers_are_stacked():
    x = np.array([3.0, 1.0, 2.0])
    assert np.array_equal(nm.grad(lambda x: nm.numpy.median([x[0], x[1], x[2]]))(x), [0, 0, 1])
    assert np.array_equal(nm.grad(lambda x: nm.numpy.polyval([x[0], x[1]], 2.0))(x), [2, 1, 0])


def test_warnings_are_those_of_numpy_or_fewer():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nm.grad(lambda x: np.nanmean(x) + np.nanmax(x) + np.fmax(x, 0.0).sum())(
            np.array([1.0, np.nan, 2.0])
        )
        nm.grad(lambda x: np.sum(np.sinc(x)))(np.array([0.0, 1.0]))
        nm.grad(lambda x: np.interp(x, [0.0, 0.0, 1.0], [0.0, 1.0, 2.0]))(0.0)
