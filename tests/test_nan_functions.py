"""Functions that leave out NaN: NumPy's values, and a derivative that is exactly 0 at what was left out."""

import warnings

import numpy as np
import pytest
from composed_checks import Use, check_function

import nnmath_core as nm

RNG = np.random.default_rng(11)
HOLES = np.array([[True, False, False, True], [False, False, True, False], [False] * 4])
A = RNG.standard_normal((3, 4))
SHOWN = np.array([[True, True, False, True], [True, False, True, True], [True, True, True, False]])
DTYPES = (np.float32, np.float64)


def holed(f, **options):
    """A function of an array in which some entries are NaN, whatever the argument is there."""
    return lambda x: f(np.where(HOLES, np.nan, x), **options)


FUNCTIONS = [
    ("nansum", {}),
    ("nansum", {"axis": 1}),
    ("nansum", {"axis": (0, 1), "keepdims": True, "initial": 2.0}),
    ("nansum", {"axis": 0, "where": SHOWN}),
    ("nanprod", {}),
    ("nanprod", {"axis": 1, "keepdims": True, "initial": 0.5}),
    ("nanprod", {"axis": -1, "where": SHOWN}),
    ("nanmean", {}),
    ("nanmean", {"axis": 0}),
    ("nanmean", {"axis": (1,), "keepdims": True, "where": SHOWN}),
    ("nanvar", {}),
    ("nanvar", {"axis": 1, "ddof": 1}),
    ("nanvar", {"axis": 1, "correction": 1, "keepdims": True}),
    ("nanvar", {"where": SHOWN}),
    ("nanstd", {}),
    ("nanstd", {"axis": 1, "ddof": 1}),
    ("nanmax", {}),
    ("nanmax", {"axis": 1}),
    ("nanmax", {"axis": 0, "keepdims": True, "initial": -0.3}),
    ("nanmax", {"axis": (0, 1), "where": SHOWN, "initial": -9.0}),
    ("nanmin", {}),
    ("nanmin", {"axis": -2}),
    ("nanmin", {"axis": 0, "initial": 0.3}),
    ("nancumsum", {}),
    ("nancumsum", {"axis": 1}),
    ("nancumprod", {}),
    ("nancumprod", {"axis": 0}),
    ("nanmedian", {}),
    ("nanmedian", {"axis": 1}),
    ("nanmedian", {"axis": (0, 1), "keepdims": True}),
    ("nanquantile", {"q": 0.3}),
    ("nanquantile", {"q": [0.1, 0.7], "axis": 1}),
    ("nanquantile", {"q": 0.6, "axis": 0, "method": "hazen", "keepdims": True}),
    ("nanpercentile", {"q": 35.0, "axis": 1}),
    ("nanpercentile", {"q": [5, 60], "axis": (0, 1), "method": "nearest"}),
]
CASES = [
    pytest.param(name, options, id=f"{name}-{k}") for k, (name, options) in enumerate(FUNCTIONS)
]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_function_is_numpys_and_has_derivatives(name, options):
    check_function(Use(name, holed(getattr(np, name), **options), (A,)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_what_made_a_nan_is_a_structural_zero(name, options, dtype):
    """The NaN is the logarithm of a negative number, whose derivative, NaN or not, must not be seen."""
    x = np.where(HOLES, -1.0, np.exp(A)).astype(dtype)
    y = np.where(HOLES, 1.0, x).astype(dtype)

    def f(x):
        r = getattr(np, name)(np.log(x) + np.sqrt(x), **options)
        return np.sum(r * r)

    def g(x):
        return np.sum(holed(getattr(np, name), **options)(np.log(x) + np.sqrt(x)) ** 2)

    with np.errstate(all="ignore"):
        for grad in (nm.grad, nm.jacfwd, lambda f: nm.stage(nm.grad(f), x)):
            got, want = grad(f)(x), nm.grad(g)(y)
            assert not np.any(got[HOLES])
            assert np.isfinite(got).all()
            np.testing.assert_allclose(
                got, want, rtol=64 * np.finfo(dtype).eps, atol=64 * np.finfo(dtype).eps
            )


@pytest.mark.parametrize(
    "name", ["nansum", "nanprod", "nanmean", "nanvar", "nanstd", "nanmax", "nanmin", "nanmedian"]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_slice_of_nothing_but_nan_has_numpys_value_and_no_derivative(name, dtype):
    x = np.array([[np.nan, np.nan], [1.0, 3.0]], dtype)
    f = getattr(np, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value, _ = nm.vjp(lambda x: f(x, axis=1), x)
        want = f(x, axis=1)
        g = nm.grad(lambda x: np.sum(f(x * x, axis=1)))(x)
    assert np.array_equal(value, want, equal_nan=True)
    assert value.dtype == want.dtype
    assert not g[0].any()
    assert np.isfinite(g[1]).all()


def test_variance_of_too_few_entries_is_nan_as_numpys():
    x = np.array([[1.0, np.nan, 4.0], [1.0, 2.0, 5.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = nm.jvp(lambda x: np.nanvar(x, axis=1, ddof=3), (x,), (x,))[0]
        want = np.nanvar(x, axis=1, ddof=3)
        g = nm.grad(lambda x: np.sum(np.nanvar(x, axis=1, ddof=2)))(x)
    assert np.array_equal(got, want, equal_nan=True)
    assert np.isnan(got).all()
    assert np.array_equal(g[0], [0.0, 0.0, 0.0])
    np.testing.assert_allclose(g[1], 2 * (x[1] - x[1].mean()), rtol=1e-14)


def test_extrema_share_ties_among_what_is_not_nan():
    for f, worst in ((np.nanmax, -np.inf), (np.nanmin, np.inf)):
        assert np.array_equal(nm.grad(f)(np.array([2.0, np.nan, 2.0])), [0.5, 0.0, 0.5])
        # the worst number that there is must not tie with what stands for NaN
        assert np.array_equal(nm.grad(f)(np.array([worst, np.nan, worst])), [0.5, 0.0, 0.5])
        assert np.array_equal(nm.grad(f)(np.array([worst, np.nan])), [1.0, 0.0])


def test_positions_are_numpys_and_carry_no_derivative():
    x = np.where(HOLES, np.nan, A)
    for f in (np.nanargmax, np.nanargmin):
        for options in ({}, {"axis": 1}, {"axis": 0, "keepdims": True}):
            assert np.array_equal(nm.stage(lambda x: f(x, **options), x)(x), f(x, **options))  # noqa: B023
        with pytest.raises(ValueError, match="All-NaN slice"):
            nm.grad(lambda x: x[0, 0] * f(x))(np.full((2, 2), np.nan))  # noqa: B023


def test_integers_have_nothing_to_leave_out():
    i = np.array([[3, 1, 2], [5, 0, 4]])
    for name in (
        "nansum",
        "nanprod",
        "nanmax",
        "nanmin",
        "nanmean",
        "nanvar",
        "nancumsum",
        "nanargmax",
    ):
        f = getattr(np, name)
        got, want = nm.stage(f, i)(i), f(i)
        assert np.array_equal(got, want)
        assert np.asarray(got).dtype == np.asarray(want).dtype


def test_complex_values_with_holes():
    z = np.array([1 + 2j, complex(np.nan, 1.0), -0.5 + 1j])

    def f(a, b):
        return abs(np.nansum((a + 1j * b) ** 2)) + abs(np.nanmean(a + 1j * b))

    g = nm.grad(f, (0, 1))(z.real, z.imag)
    w = nm.grad(f, (0, 1))(z.real[[0, 2]], z.imag[[0, 2]])
    for a, b in zip(g, w, strict=True):
        assert a[1] == 0
        np.testing.assert_allclose(a[[0, 2]], b, rtol=1e-14)


def test_what_cannot_be_is_an_error_that_says_so():
    for f in (np.nansum, np.nanmean, np.nanmax, np.nanmedian):
        with pytest.raises(nm.TraceError, match="`out`"):
            nm.grad(lambda x: f(x, out=np.zeros(())))(A)  # noqa: B023
    with pytest.raises(np.exceptions.AxisError):
        nm.grad(lambda x: np.nansum(x, axis=5))(A)
