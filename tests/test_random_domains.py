"""Parameters of random functions at the ends of their ranges and beyond: one error, NaN, or what the function says."""

import math

import numpy as np
import pytest
import scipy.special

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError

R = nm.random
KEY = R.key(5)
EPS = float(np.finfo(float).eps)
INF, NAN = math.inf, math.nan

# function -> its ordinary parameters
ORDINARY = {
    "uniform": {"minval": 0.5, "maxval": 2.0},
    "normal": {"loc": 1.0, "scale": 2.0},
    "truncated_normal": {"lower": -1.0, "upper": 2.0},
    "exponential": {"scale": 2.0},
    "gumbel": {"loc": 1.0, "scale": 2.0},
    "laplace": {"loc": 1.0, "scale": 2.0},
    "logistic": {"loc": 1.0, "scale": 2.0},
    "cauchy": {"loc": 1.0, "scale": 2.0},
    "lognormal": {"sigma": 0.5},
    "pareto": {"b": 2.0},
    "rayleigh": {"scale": 2.0},
    "weibull_min": {"scale": 2.0, "concentration": 1.5},
    "gamma": {"a": 1.5, "scale": 2.0},
    "chisquare": {"df": 3.0},
    "t": {"df": 3.0},
    "beta": {"a": 1.5, "b": 2.0},
    "dirichlet": {"alpha": [1.0, 2.0]},
    "multivariate_normal": {"mean": [0.0, 1.0], "cov": [[2.0, 0.5], [0.5, 1.0]]},
    "bernoulli": {"p": 0.5},
    "geometric": {"p": 0.5},
    "categorical": {"logits": [0.0, 1.0]},
    "randint": {"minval": 0, "maxval": 5},
    "choice": {"p": [0.5, 0.5, 0.0]},
}
NO_PARAMETERS = {"bits", "fold_in", "key", "orthogonal", "permutation", "rademacher", "split"}

# function, bad parameters, the call of NumPy's generator that raises ValueError, too (None: it has no such function)
BAD = [
    ("uniform", {"minval": 3.0}, lambda g: g.uniform(3, 2)),
    ("uniform", {"maxval": [1.0, 0.0]}, lambda g: g.uniform(0.5, [1.0, 0.0])),
    ("normal", {"scale": -1.0}, lambda g: g.normal(0, -1)),
    ("normal", {"scale": [1.0, -1e-300]}, lambda g: g.normal(0, [1.0, -1e-300])),
    ("truncated_normal", {"lower": 2.0}, None),
    ("truncated_normal", {"lower": 5.0}, None),
    ("exponential", {"scale": -1.0}, lambda g: g.exponential(-1.0)),
    ("gumbel", {"scale": -1.0}, lambda g: g.gumbel(0, -1.0)),
    ("laplace", {"scale": -1.0}, lambda g: g.laplace(0, -1.0)),
    ("logistic", {"scale": -1.0}, lambda g: g.logistic(0, -1.0)),
    ("cauchy", {"scale": -1.0}, None),
    ("lognormal", {"sigma": -1.0}, lambda g: g.lognormal(0, -1.0)),
    ("pareto", {"b": 0.0}, lambda g: g.pareto(0.0)),
    ("pareto", {"b": -1.0}, lambda g: g.pareto(-1.0)),
    ("rayleigh", {"scale": -1.0}, lambda g: g.rayleigh(-1.0)),
    ("weibull_min", {"scale": -1.0}, None),
    ("weibull_min", {"concentration": -1.0}, lambda g: g.weibull(-1.0)),
    ("weibull_min", {"concentration": 0.0}, None),
    ("gamma", {"a": -1.0}, lambda g: g.gamma(-1.0)),
    ("gamma", {"a": 0.0}, None),
    ("gamma", {"scale": -1.0}, lambda g: g.gamma(1.0, -1.0)),
    ("chisquare", {"df": 0.0}, lambda g: g.chisquare(0.0)),
    ("t", {"df": 0.0}, lambda g: g.standard_t(0.0)),
    ("beta", {"a": 0.0}, lambda g: g.beta(0.0, 1.0)),
    ("beta", {"b": [1.0, -1.0]}, lambda g: g.beta(1.0, [1.0, -1.0])),
    ("dirichlet", {"alpha": [1.0, -1.0]}, lambda g: g.dirichlet([1.0, -1.0])),
    ("bernoulli", {"p": 2.0}, lambda g: g.binomial(1, 2.0)),
    ("bernoulli", {"p": -0.1}, lambda g: g.binomial(1, -0.1)),
    ("bernoulli", {"p": NAN}, lambda g: g.binomial(1, NAN)),
    ("geometric", {"p": 0.0}, lambda g: g.geometric(0.0)),
    ("geometric", {"p": 1.5}, lambda g: g.geometric(1.5)),
    ("geometric", {"p": NAN}, lambda g: g.geometric(NAN)),
    ("categorical", {"logits": [0.0, NAN]}, lambda g: g.choice(2, p=[1.0, NAN])),
    ("categorical", {"logits": [0.0, INF]}, None),
    ("categorical", {"logits": [-INF, -INF]}, lambda g: g.choice(2, p=[0.0, 0.0])),
    ("randint", {"minval": 5}, lambda g: g.integers(5, 5)),
    ("randint", {"maxval": 300, "dtype": np.int8}, lambda g: g.integers(0, 300, dtype=np.int8)),
    ("randint", {"minval": -1, "dtype": np.uint8}, lambda g: g.integers(-1, 5, dtype=np.uint8)),
    ("randint", {"maxval": 2**63}, None),
    ("choice", {"p": [-1.0, 1.0, 1.0]}, lambda g: g.choice(3, p=[-1.0, 1.0, 1.0])),
    ("choice", {"p": [NAN, 1.0, 1.0]}, lambda g: g.choice(3, p=[NAN, 1.0, 1.0])),
    ("choice", {"p": [0.0, 0.0, 0.0]}, lambda g: g.choice(3, p=[0.0, 0.0, 0.0])),
    (
        "choice",
        {"p": [0.0, 0.0, 1.0], "replace": False},
        lambda g: g.choice(3, 2, p=[0.0, 0.0, 1.0], replace=False),
    ),
]


def call(name, parameters):
    f = getattr(R, name)
    if name == "choice":
        return f(KEY, 3, 2, **parameters)
    return f(KEY, **({"shape": None} if name == "randint" else {}), **parameters)


@pytest.mark.parametrize(("name", "bad", "numpys"), BAD)
def test_parameters_out_of_range_are_one_error(name, bad, numpys):
    if numpys is not None:
        with pytest.raises(ValueError):  # noqa: PT011
            numpys(np.random.default_rng(0))
    arg = next(iter(bad))
    for change in (lambda x: x, lambda x: np.asarray(x) if isinstance(x, (list, float)) else x):
        parameters = ORDINARY[name] | {k: change(v) for k, v in bad.items()}
        with pytest.raises(DomainError, match=rf"^{name}: `\w+` must be ") as found:
            call(name, parameters)
        assert f"`{arg}`" in str(found.value)


def test_every_parameter_is_here():
    assert set(ORDINARY) | NO_PARAMETERS == set(R.__all__)
    ranged = {(name, arg) for name, bad, _ in BAD for arg in bad}
    whole = {"loc", "mean", "cov"}  # any number; the Cholesky factorisation judges a covariance
    ends = {("uniform", "maxval"), ("truncated_normal", "upper")}  # the lower bound is named
    for name, parameters in ORDINARY.items():
        assert {(name, arg) for arg in set(parameters) - whole} <= ranged | ends


@pytest.mark.parametrize("name", sorted(set(ORDINARY) - {"randint"}))
def test_what_is_no_real_number_is_refused(name):
    for arg, x in ORDINARY[name].items():
        for bad in ("text", None, np.asarray(x) + 1j):
            if name == "choice" and bad is None:
                continue  # all alike
            with pytest.raises(DtypeError, match=f"^{name}: `{arg}` must be a real number"):
                call(name, ORDINARY[name] | {arg: bad})


CONTINUOUS = sorted(
    set(ORDINARY)
    - {"bernoulli", "geometric", "categorical", "randint", "choice", "multivariate_normal"}
)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_nan_flows_and_is_no_error_as_in_numpys_generator(name):
    for arg, x in ORDINARY[name].items():
        drawn = call(name, ORDINARY[name] | {arg: np.asarray(x) * NAN})
        assert np.all(np.isnan(drawn)), arg


# traced parameters: name, argument, value, what comes (None: NaN, with the derivative)
TRACED = [
    ("truncated_normal", "lower", 2.0, None),
    ("truncated_normal", "lower", 5.0, None),
    ("truncated_normal", "upper", -3.0, None),
    ("pareto", "b", 0.0, None),
    ("pareto", "b", -1.0, None),
    ("weibull_min", "concentration", 0.0, None),
    ("weibull_min", "concentration", -1.0, None),
    ("gamma", "a", -1.0, None),
    ("gamma", "a", 0.0, None),
    ("chisquare", "df", -1.0, None),
    ("t", "df", -1.0, None),
    ("beta", "a", -1.0, None),
    ("beta", "b", 0.0, None),
    ("dirichlet", "alpha", np.array([1.0, -1.0]), None),
    ("bernoulli", "p", 2.0, True),
    ("bernoulli", "p", -1.0, False),
    ("bernoulli", "p", NAN, False),
    ("geometric", "p", 0.0, 0),
    ("geometric", "p", 1.5, 0),
    ("geometric", "p", NAN, 0),
    ("categorical", "logits", np.array([5.0, NAN]), 1),
    ("categorical", "logits", np.array([-INF, -INF]), 0),
    ("randint", "minval", np.int64(9), 9),
    ("randint", "maxval", np.int64(-3), 0),
    ("choice", "p", np.array([-1.0, 2.0, -3.0]), np.array([1, 1])),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "arg", "value", "want"), TRACED)
def test_traced_parameters_out_of_range(name, arg, value, want):
    value = np.asarray(value)
    rest = {k: np.asarray(v) for k, v in ORDINARY[name].items() if k != arg}
    run = lambda x: call(name, rest | {arg: x})  # noqa: E731
    ordinary = np.asarray(ORDINARY[name][arg])
    with np.errstate(all="ignore"):
        program = nm.stage(run, ordinary)
        found = [program(value), nm.vmap(run)(np.stack([ordinary, value]))[1]]
        if want is None:
            slope = nm.grad(lambda x: np.sum(run(x)))(value)
            assert np.all(np.isnan(slope)) if slope.ndim == 0 else np.any(np.isnan(slope))
            found.append(nm.jvp(run, (value,), (np.ones_like(value),))[0])
            assert np.isnan(nm.jvp(run, (value,), (np.ones_like(value),))[1]).any()
    for y in found:
        np.testing.assert_array_equal(y, np.full(np.shape(y), NAN if want is None else want))
    np.testing.assert_array_equal(program(ordinary), run(ordinary))  # and in range nothing changed


def test_counts_and_signs_fit_into_their_dtype():
    assert R.geometric(KEY, 1e-300) > 2**62
    for dtype in (np.int8, np.uint8, np.int32, np.int64):
        counts = R.geometric(KEY, np.full(200, 1e-3), dtype=dtype)
        assert counts.dtype == dtype
        assert counts.min() >= 1
    assert R.geometric(KEY, np.full(200, np.float32(1e-30))).min() >= 1
    for dtype in (np.uint8, bool, object):
        with pytest.raises(DtypeError, match=r"^rademacher: `dtype` must be one that has -1"):
            R.rademacher(KEY, 3, dtype)
    with pytest.raises(DtypeError, match=r"^geometric: `dtype` must be an integer dtype"):
        R.geometric(KEY, 0.5, dtype=float)
    assert np.unique(R.randint(KEY, 99, -128, 128, np.int8)).size > 50


# -------------------------------------------------------------------------------- draws at the ends of their range
def forward(f, xs, i):
    """Value, first and second derivative in one of the parameters, by forward over forward."""
    along = tuple(float(k == i) for k in range(len(xs)))

    def first(*xs):
        return nm.jvp(f, xs, along)[1]

    with np.errstate(all="ignore"):
        return f(*xs), *nm.jvp(first, xs, along)


SMALL = (0.001, 0.01, 0.05, 0.3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("b", [*SMALL, 2.0])
@pytest.mark.parametrize("a", [*SMALL, 2.0])
def test_second_derivatives_of_beta_draws_are_numbers_and_0_at_the_ends(a, b, dtype):
    xs = (dtype(a), dtype(b))
    f = lambda a, b: R.beta(KEY, a, b, 200)  # noqa: E731
    for i in (0, 1):
        y, first, second = forward(f, xs, i)
        assert np.all(np.isfinite(first))
        assert np.all(np.isfinite(second))
        at_end = (y == 0) | (y == 1)
        assert np.all(first[at_end] == 0)
        assert np.all(second[at_end] == 0)
    if b <= 0.01:
        assert (y == 1).any()
    with np.errstate(all="ignore"):
        reverse = nm.hessian(lambda a, b: np.sum(f(a, b)), (0, 1))(*xs)
    assert np.all(np.isfinite(np.array(reverse)))
    assert math.isclose(reverse[1][1], second.sum(), rel_tol=1e5 * np.finfo(dtype).eps)


@pytest.mark.parametrize("a", SMALL)
@pytest.mark.parametrize("name", ["beta", "gamma"])
def test_derivatives_of_tiny_draws_are_the_closed_form(name, a):
    """Of a small y the distribution function is (y/c)**a / a c', so that log y = (log u + n(a)) / a."""
    b = 0.7
    f = (lambda a: R.beta(KEY, a, b, 400)) if name == "beta" else (lambda a: R.gamma(KEY, a, 400))
    y, first, second = forward(f, (a,), 0)
    digamma, trigamma = scipy.special.digamma, lambda x: scipy.special.polygamma(1, x)
    n1, n2 = digamma(a + 1), trigamma(a + 1)
    if name == "beta":
        n1, n2 = n1 - digamma(a + b), n2 - trigamma(a + b)
    small = (y > 1e-295) & (y < 1e-15)  # beyond, y is of few digits or the expansion is
    if a < 0.3:
        assert small.sum() > 10
    log = np.log(y[small])
    slope = (n1 - log) / a
    curve = n2 / a - 2 * slope / a
    # the expansion leaves out y; the logarithm of y, as large as 700, is off by its rounding
    tol = 4e-15 + 64 * EPS
    np.testing.assert_allclose(first[small], y[small] * slope, rtol=20 * tol)
    np.testing.assert_allclose(second[small], y[small] * (slope**2 + curve), rtol=200 * tol)
    with np.errstate(all="ignore"):
        reverse = nm.grad(nm.grad(lambda a: np.sum(f(a))))(a)
    assert math.isclose(reverse, second.sum(), rel_tol=1e-9)
