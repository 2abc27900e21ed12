"""Densities and distribution functions: SciPy's values, derivatives in the point and in every parameter."""

import inspect
import math

import numpy as np
import pytest
import scipy.stats

import nnmath_core as nm
from nnmath_core.autodiff.ops.special.cumulative import SCIPY_IS_EXACT

EPS = float(np.finfo(float).eps)
INF = math.inf
LINE = np.array(
    [-1e3, -40.0, -5.0, -1.0, -0.3, 0.0, 1e-8, 0.2, 0.5, 0.9, 1.0, 1.5, 3.0, 5.0, 20.0, 300.0, 1e5]
)
SHARES = np.array([0.0, 1e-5, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, -0.1, 1.1, np.nan])
COUNTS = np.array([-3.0, -1.0, 0.0, 1.0, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 30.0, 1000.0, np.nan])

# name -> shape parameters: ordinary ones first, then the ends and the outside of their domain
SHAPES = {
    "norm": [()],
    "t": [(3.5,), (0.3,), (40.0,), (1e6,), (-1.0,)],
    "cauchy": [()],
    "laplace": [()],
    "logistic": [()],
    "gumbel_r": [()],
    "gumbel_l": [()],
    "gennorm": [(2.5,), (0.5,), (1.0,), (-1.0,)],
    "truncnorm": [(-1.0, 2.0), (3.0, 5.0), (-INF, 0.5), (0.5, INF), (30.0, 31.0), (2.0, 1.0)],
    "vonmises": [(0.5,), (0.0,), (30.0,), (1e5,), (-1.0,)],
    "wrapcauchy": [(0.3,), (0.9,), (1.5,)],
    "gamma": [(3.0,), (0.01,), (0.5,), (1.0,), (100.0,), (1e5,), (0.0,), (-1.0,)],
    "chi2": [(7.0,), (0.1,), (1.0,), (2.0,), (1e4,), (-1.0,)],
    "beta": [(2.0, 5.0), (0.5, 0.5), (1.0, 1.0), (0.01, 3.0), (-1.0, 1.0)],
    "f": [(5.0, 7.0), (1.0, 2.0), (-1.0, 1.0)],
    "expon": [()],
    "uniform": [()],
    "pareto": [(3.0,), (0.5,), (-1.0,)],
    "lognorm": [(1.0,), (0.2,), (5.0,), (-1.0,)],
    "invgamma": [(3.0,), (0.5,), (-1.0,)],
    "weibull_min": [(3.0,), (0.5,), (1.0,), (-1.0,)],
    "rayleigh": [()],
    "halfnorm": [()],
}
DISCRETE = {
    "poisson": [(0.5,), (0.0,), (30.0,), (1e4,), (-1.0,)],
    "binom": [(5, 0.3), (0, 0.5), (1000, 0.01), (5, 0.0), (5, 1.0), (5, 1.5), (4.5, 0.5)],
    "bernoulli": [(0.3,), (0.0,), (1.0,), (2.0,)],
    "geom": [(0.3,), (1.0,), (1e-5,), (0.0,)],
    "nbinom": [(2.5, 0.3), (0.5, 0.9), (100.0, 0.01), (2.0, 1.0)],
    "betabinom": [(5, 0.5, 2.0), (100, 3.0, 4.0)],
}
LOGS = {"logcdf", "logsf"}


def functions(name):
    """Return the names of the functions of a distribution that take a point."""
    return [f for f in getattr(nm.stats, name)._functions if f != "entropy"]


EVERY = [
    pytest.param(name, f, id=f"{name}.{f}")
    for name in (*SHAPES, *DISCRETE)
    for f in functions(name)
]


# ------------------------------------------------------------------------------------------ values
def assert_as_scipy(got, want, rtol):
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    # SciPy's logarithms of tails: -inf where the tail underflows, and few digits beside 0
    both = np.isfinite(got) & np.isfinite(want)
    same = np.isnan(got) == np.isnan(want)
    assert np.all(same)
    assert np.all((got == want) | np.isnan(want) | both)
    np.testing.assert_allclose(got[both], want[both], rtol=rtol, atol=1e-290)


def rounding(f, want):
    """Relative error: an exponential turns the absolute error of its argument into a relative one."""
    finite = np.abs(want[np.isfinite(want) & (want != 0)])
    depth = np.max(np.abs(np.log(finite)), initial=1.0)
    return 64 * EPS * (depth if f in ("pdf", "pmf", "sf", "cdf") else 16.0)


@pytest.mark.parametrize(("name", "f"), EVERY)
def test_values_are_scipys(name, f):
    ours, theirs = getattr(nm.stats, name), getattr(scipy.stats, name)
    discrete = name in DISCRETE
    points = SHARES if f in ("ppf", "isf") else COUNTS if discrete else LINE
    for shapes in (DISCRETE if discrete else SHAPES)[name]:
        for rest in ((0,), (1,)) if discrete else ((0, 1), (0.5, 2.0), (0.0, -1.0)):
            with np.errstate(all="ignore"):
                got = getattr(ours, f)(points, *shapes, *rest)
                want = getattr(theirs, f)(points, *shapes, *rest)
            keep = np.ones(points.shape, bool)
            if f in LOGS:  # compared where SciPy's logarithm of a difference has digits
                keep = (np.abs(want) > 1e-3) & ((want > -700) | np.isinf(got)) | np.isnan(got)
                if discrete:  # SciPy's 0 above the support does not look at the parameters
                    keep &= ~(np.isnan(got) & (want == 0))
                    keep &= np.abs(want) > 1e-3
            if name == "laplace" and f == "logpdf":  # SciPy's is the logarithm of the density
                keep = want > -700
            if name == "f" and f in ("ppf", "isf"):  # SciPy 1.15 loses digits, and inverts 1 - q
                keep = points != 1e-5
            if name == "cauchy" and f in ("ppf", "isf"):
                keep = points != 1e-5
            scale = 1e4 if max(map(abs, (*shapes, 1))) > 999 else 1.0
            if name == "t" and f in ("ppf", "isf") and not SCIPY_IS_EXACT:
                scale = 1e4
            assert_as_scipy(got[keep], want[keep], scale * rounding(f, want))


def test_tails_keep_their_digits_where_scipys_do_not():
    assert nm.stats.laplace.logpdf(-1000.0) == -1000.0 - math.log(2.0)
    np.testing.assert_allclose(
        nm.stats.poisson.logsf(0, 30.0), math.log1p(-math.exp(-30.0)), rtol=8 * EPS
    )
    np.testing.assert_allclose(nm.stats.halfnorm.logsf(300.0), -45005.9295849381, rtol=8 * EPS)
    np.testing.assert_allclose(nm.stats.cauchy.isf(1e-5), 31830.988607907, rtol=1e-13)
    np.testing.assert_allclose(nm.stats.geom.logcdf(30, 0.3), math.log1p(-(0.7**30)), rtol=16 * EPS)
    np.testing.assert_allclose(nm.stats.norm.logcdf(-1e5), -5000000012.431864, rtol=4 * EPS)


ENTROPIES = [name for name in SHAPES if hasattr(getattr(nm.stats, name), "entropy")]


@pytest.mark.parametrize("name", ENTROPIES)
def test_entropy_is_scipys(name):
    shapes = SHAPES[name][0]
    want = getattr(scipy.stats, name).entropy(*shapes, 0.5, 2.0)
    np.testing.assert_allclose(
        getattr(nm.stats, name).entropy(*shapes, 0.5, 2.0), want, rtol=64 * EPS
    )


def test_arguments_are_scipys():
    for name in (*SHAPES, *DISCRETE):
        ours, theirs = getattr(nm.stats, name), getattr(scipy.stats, name)
        shapes = theirs.shapes.split(", ") if theirs.shapes else []
        assert list(ours.shapes) == shapes, name
        for f in functions(name):
            parameters = inspect.signature(getattr(ours, f)).parameters
            rest = ["loc"] if name in DISCRETE else ["loc", "scale"]
            first = "q" if f in ("ppf", "isf") else "k" if name in DISCRETE else "x"
            assert list(parameters) == [first, *shapes, *rest]
    with pytest.raises(TypeError, match="missing a required argument: 'a'"):
        nm.stats.gamma.logpdf(1.0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'shape'"):
        nm.stats.gamma.logpdf(1.0, 2.0, shape=3.0)
    assert nm.stats.gamma.logpdf(3.0, a=2.0, loc=1.0) == nm.stats.gamma.logpdf(2.0, 2.0)


@pytest.mark.parametrize(("name", "f"), EVERY)
def test_float32_stays_float32_beside_python_numbers(name, f):
    shapes = (DISCRETE[name] if name in DISCRETE else SHAPES[name])[0]
    x = np.array([0.25, 0.5], np.float32)
    y = getattr(getattr(nm.stats, name), f)(x if name not in DISCRETE else np.round(x), *shapes)
    assert y.dtype == np.float32
    assert y.shape == (2,)


# ------------------------------------------------------------------------------------- derivatives
INNER = {"pareto": 1.9, "wrapcauchy": 1.3, "f": 0.8}


def case_of(name, f):
    """Return the function of the arguments that are differentiated, and a point with two entries each."""
    discrete = name in DISCRETE
    shapes = (DISCRETE[name] if discrete else SHAPES[name])[0]
    fixed = [i for i, s in enumerate(shapes) if isinstance(s, int)]
    x = INNER.get(name, 0.6)
    x = 0.35 if f in ("ppf", "isf") else x
    if discrete:
        x = 0.0 if name == "bernoulli" else 2.0
    first = np.array([x, x]) if discrete else np.array([x, x * 1.1])
    free = [s for i, s in enumerate(shapes) if i not in fixed]
    point = [] if discrete else [first]
    point += [np.array([s, s * 1.05]) for s in free]
    if not discrete:
        point += [np.array([0.05, -0.02]), np.array([1.2, 0.9])]
        if f not in ("ppf", "isf"):
            point[0] = point[0] * point[-1] + point[-2]
    made = getattr(getattr(nm.stats, name), f)

    def function(*args):
        args = list(args)
        k = first if discrete else args.pop(0)
        values = [shapes[i] if i in fixed else args.pop(0) for i in range(len(shapes))]
        return made(k, *values, *args)

    return function, tuple(point)


@pytest.mark.parametrize(("name", "f"), EVERY)
def test_derivatives_in_the_point_and_all_parameters(name, f):
    """Differences, the adjoint identity, three ways to the second derivative, vmap and staging."""
    function, xs = case_of(name, f)
    rng = np.random.default_rng(3)
    ts = tuple(rng.standard_normal(2) for _ in xs)
    g = rng.standard_normal(2)
    value, tangent = nm.jvp(function, xs, ts)
    h = EPS ** (1 / 3)

    def slope(h):
        ahead = function(*(x + h * t for x, t in zip(xs, ts, strict=True)))
        behind = function(*(x - h * t for x, t in zip(xs, ts, strict=True)))
        return (ahead - behind) / (2 * h)

    near = slope(h)
    error = np.abs(near - slope(2 * h)) + 256 * EPS * (1 + np.abs(value)) / h
    assert np.all(error <= 1e-4 * (1 + np.abs(near)))
    assert np.all(np.abs(tangent - near) <= error)
    back = nm.vjp(function, *xs)[1](g)
    terms = [g * tangent, *(b * t for b, t in zip(back, ts, strict=True))]
    size = sum(np.sum(np.abs(v)) for v in terms)
    assert abs(np.sum(terms[0]) - sum(np.sum(v) for v in terms[1:])) <= 64 * EPS * size

    def pull(*zs):
        return nm.vjp(function, *zs)[1](g)

    over_forward = nm.jvp(pull, xs, ts)[1]
    over_reverse = nm.vjp(pull, *xs)[1](ts)
    forward_first = nm.vjp(lambda *zs: nm.jvp(function, zs, ts)[1], *xs)[1](g)
    scale = max(1.0, *(np.max(np.abs(v)) for v in (*over_forward, *back)))
    for a, b, c in zip(over_forward, over_reverse, forward_first, strict=True):
        np.testing.assert_allclose(b, a, atol=1e3 * EPS * scale, rtol=0)
        np.testing.assert_allclose(c, a, atol=1e3 * EPS * scale, rtol=0)
    if name not in DISCRETE:
        rows = nm.vmap(
            lambda *zs: nm.grad(lambda *ys: function(*ys).sum(), argnums=tuple(range(len(xs))))(*zs)
        )
        many = rows(*(np.stack([x, x]) for x in xs))
        one = nm.grad(lambda *ys: function(*ys).sum(), argnums=tuple(range(len(xs))))(*xs)
        for a, b in zip(many, one, strict=True):
            np.testing.assert_allclose(a[1], b, rtol=64 * EPS, atol=64 * EPS * scale)
    np.testing.assert_array_equal(nm.stage(function, *xs)(*xs), function(*xs))


@pytest.mark.parametrize(
    "name", [n for n in SHAPES if np.isfinite(scipy.stats.__dict__[n].support(*SHAPES[n][0])[0])]
)
def test_outside_of_the_support_the_derivative_is_a_structural_zero(name):
    shapes = SHAPES[name][0]
    d = getattr(nm.stats, name)
    x = np.array([-7.5, INNER.get(name, 0.6)])
    with np.errstate(all="raise"):
        assert d.logpdf(x, *shapes)[0] == -INF
        assert d.pdf(x, *shapes)[0] == 0.0
    everything = tuple(range(1 + len(shapes)))
    for f in ("logpdf", "pdf", *(("cdf", "logsf") if hasattr(d, "cdf") else ())):
        made = getattr(d, f)
        g = nm.grad(lambda x, *s: made(x, *s), argnums=everything)(-7.5, *shapes)  # noqa: B023
        assert g == (0.0,) * len(everything), f
        gx = nm.grad(lambda x: np.sum(made(x, *shapes)))(x)  # noqa: B023
        assert gx[0] == 0.0
        assert np.isfinite(gx[1])
        assert gx[1] != 0.0 or name == "uniform"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "side"), [("gumbel_r", -1.0), ("gumbel_l", 1.0)])
def test_gumbels_double_exponential_has_no_slope_where_it_overflows(name, side, dtype):
    d = getattr(nm.stats, name)
    for f in ("pdf", "cdf", "sf", "logsf" if side < 0 else "logcdf"):
        made = getattr(d, f)
        for z in (side * np.array([20.0, 100.0, 1e3, 1e30])).astype(dtype):
            with np.errstate(all="ignore"):
                value, slope = nm.value_and_grad(made)(z)
                forward = nm.jvp(made, (z,), (dtype(1.0),))[1]
            assert value == (1.0 if f == ("sf" if side < 0 else "cdf") else 0.0)
            assert slope == forward == 0.0
    np.testing.assert_allclose(
        d.pdf(np.linspace(-5.0, 5.0)),
        getattr(scipy.stats, name).pdf(np.linspace(-5.0, 5.0)),
        rtol=256 * EPS,
    )


@pytest.mark.parametrize(
    "name", [n for n in SHAPES if len(SHAPES[n][-1]) and min(SHAPES[n][-1]) < 1.5]
)
def test_outside_of_the_domain_value_and_derivatives_are_nan(name):
    shapes = SHAPES[name][-1]
    with np.errstate(all="ignore"):
        f = getattr(nm.stats, name).logpdf
        assert np.isnan(f(0.5, *shapes))
        assert np.isnan(nm.grad(f)(0.5, *shapes))
        assert np.isnan(nm.grad(lambda s: f(0.5, *SHAPES[name][0], scale=s))(-1.0))


def test_density_at_the_border_of_the_gamma_distribution():
    for a, value, slope in ((1.0, 0.0, -1.0), (0.5, INF, -INF), (2.0, -INF, INF)):
        with np.errstate(all="ignore"):
            assert nm.stats.gamma.logpdf(0.0, a) == value
            assert nm.grad(lambda x: nm.stats.gamma.logpdf(x, a))(0.0) == slope  # noqa: B023


def test_maximum_likelihood_of_plain_data():
    """The gradient of the log-likelihood vanishes at the closed-form estimate."""
    x = np.random.default_rng(0).normal(1.0, 2.0, 50)
    estimate = (x.mean(), x.std())
    g = nm.grad(lambda m, s: np.sum(nm.stats.norm.logpdf(x, m, s)), argnums=(0, 1))(*estimate)
    assert max(map(abs, g)) <= 1e3 * EPS
    rate = nm.grad(lambda s: np.sum(nm.stats.expon.logpdf(np.abs(x), scale=s)))(np.abs(x).mean())
    assert abs(rate) <= 1e3 * EPS


def test_scipys_functions_name_ours():
    x = np.array([0.3, 0.7])
    for f in (
        lambda x: scipy.stats.norm.logpdf(x),
        lambda x: scipy.stats.gamma.pdf(1.0, x),
        lambda x: scipy.stats.multivariate_normal.logpdf(x, np.zeros(2), np.eye(2)),
        lambda x: scipy.stats.dirichlet.logpdf(x, np.ones(2)),
    ):
        with pytest.raises(nm.errors.TraceError, match=r"nnmath_core\.stats"):
            nm.grad(lambda x: np.sum(f(x)))(x)  # noqa: B023


# -------------------------------------------------------------------------------- at and beyond the ends
@pytest.mark.parametrize("a", [30.0, 99.0, 101.0, 1e3, 1e8, 1e70])
def test_entropies_keep_their_digits_for_large_parameters(a):
    """The terms of the formulas grow like a log a, the entropies like log a."""
    s, loc = nm.stats, [0.0, INF]
    # by the expansion of Edgeworth: that of a normal number, less a term of the third cumulant's square, 4 / a
    gamma = 0.5 * math.log(2 * math.pi * math.e * a) - 1 / (3 * a) - 1 / (12 * a * a)
    tol = 1 / (80 * a**3) + 16 * EPS * gamma + 8 * EPS * (a * math.log(a) if a < 100 else 0)
    assert abs(s.gamma.entropy(a) - gamma) <= tol
    assert abs(s.chi2.entropy(2 * a) - gamma - math.log(2)) <= tol
    assert abs(s.gamma.entropy(a, *loc[1:]) - gamma) <= tol
    log_a = math.log(a)
    digamma = log_a - 1 / (2 * a) - 1 / (12 * a * a)
    assert abs(s.invgamma.entropy(a) - (gamma - 2 * digamma)) <= tol + 8 * EPS * log_a + 1 / a**4
    symmetric = 0.5 * (math.log(2 * math.pi * math.e) - 3 * math.log(2) - log_a)
    for got in (s.beta.entropy(a, a), s.dirichlet.entropy(np.full(2, a))):
        assert abs(got - symmetric) <= 1 / a + 64 * EPS * log_a
    # dH/da = 1 / (2 a) + 1 / (3 a**2) + ..., in both modes
    slope = 1 / (2 * a) + 1 / (3 * a * a) + 1 / (6 * a**3)
    for got in (nm.grad(s.gamma.entropy)(a), nm.jvp(s.gamma.entropy, (a,), (1.0,))[1]):
        assert abs(got - slope) <= 1 / (20 * a**4) + (64 * EPS * slope if a > 100 else 1e3 * EPS)


def test_entropy_of_a_beta_number_is_scipys():
    for a, b in ((0.1, 0.2), (0.01, 50.0), (3.0, 7.0), (40.0, 300.0), (1.0, 1.0)):
        with np.errstate(all="ignore"):
            want = scipy.stats.beta.entropy(a, b)
        # SciPy's own formula loses digits: its terms are as large as (a + b) log(a + b)
        tol = 16 * EPS * ((a + b) * abs(math.log(a + b)) + abs(want) + 1 / a)
        assert abs(nm.stats.beta.entropy(a, b) - want) <= tol


def test_entropy_does_not_depend_on_a_location_that_is_a_number():
    for name in SHAPES:
        d = getattr(nm.stats, name)
        if hasattr(d, "entropy"):
            f = lambda loc: d.entropy(*SHAPES[name][0], loc, 2.0)  # noqa: B023, E731
            want = f(0.0)
            np.testing.assert_array_equal(
                f(np.array([INF, -INF, 1.0, math.nan])), [want] * 3 + [math.nan]
            )
            assert nm.grad(f)(INF) == nm.jvp(f, (INF,), (1.0,))[1] == 0.0


def test_logarithms_beyond_where_the_numbers_vanish():
    """SciPy's are -inf there."""
    x, b = 2.5, 1e5
    assert math.isclose(nm.stats.pareto.logsf(x, b), -b * math.log(x), rel_tol=8 * EPS)
    want = math.log(b) - (b + 1) * math.log(x)
    assert math.isclose(nm.stats.pareto.logpdf(x, b), want, rel_tol=8 * EPS)
    g = nm.grad(nm.stats.pareto.logpdf, (0, 1))(x, b)
    np.testing.assert_allclose(g, [-(b + 1) / x, 1 / b - math.log(x)], rtol=8 * EPS)
