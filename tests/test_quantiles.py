"""Median, quantiles, percentiles: NumPy's values by every method, derivatives in data and fractions."""

import numpy as np
import pytest
from composed_checks import Use, check_function

import nnmath_core as nm

RNG = np.random.default_rng(3)
A = RNG.permutation(np.arange(20.0)).reshape(4, 5) * 0.37 - 2
V = RNG.permutation(np.arange(7.0)) * 0.8 - 2.0
METHODS = (
    "inverted_cdf averaged_inverted_cdf closest_observation interpolated_inverted_cdf hazen weibull linear "
    "median_unbiased normal_unbiased lower higher midpoint nearest"
).split()
INTERPOLATING = (
    "interpolated_inverted_cdf",
    "hazen",
    "weibull",
    "linear",
    "median_unbiased",
    "normal_unbiased",
)
AXES = [{}, {"axis": 0}, {"axis": -1, "keepdims": True}, {"axis": (0, 1), "keepdims": True}]


@pytest.mark.parametrize("options", AXES, ids=str)
def test_median_is_numpys_and_has_derivatives(options):
    check_function(Use("median", lambda x: np.median(x, **options), (A,)))
    check_function(Use("median of an odd number", lambda x: np.median(x[:, :3], **options), (A,)))


@pytest.mark.parametrize(
    "q", [0.4, [0.0, 0.21, 1.0], [[0.3, 0.5], [0.9, 0.04]]], ids=["one", "row", "table"]
)
@pytest.mark.parametrize("method", METHODS)
def test_quantile_is_numpys_by_every_method(method, q):
    for options in ({}, {"axis": 1}, {"axis": 0, "keepdims": True}):
        check_function(Use(method, lambda x: np.quantile(x, q, method=method, **options), (A,)))  # noqa: B023


@pytest.mark.parametrize("method", METHODS)
def test_places_between_entries_are_numpys(method):
    """Every fraction k/24, at which methods decide between two entries."""
    for k in range(25):
        for n in (1, 2, 5, 6, 7):
            x = V[:n] if n <= 7 else V
            got = nm.stage(lambda x: np.quantile(x, k / 24, method=method), x)(x)  # noqa: B023
            want = np.quantile(x, k / 24, method=method)
            np.testing.assert_allclose(got, want, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("method", INTERPOLATING)
def test_quantile_has_a_derivative_in_the_fraction(method):
    q = np.array([0.33, 0.61])
    check_function(Use(method, lambda x, q: np.quantile(x, q, axis=0, method=method), (A, q)))


def test_percentile_is_the_quantile_of_a_hundredth():
    check_function(Use("percentile", lambda x: np.percentile(x, [12, 70.0], axis=1), (A,)))
    check_function(
        Use("percentile of a number", lambda x: np.percentile(x, 33, keepdims=True), (A,))
    )


def test_derivative_goes_to_the_two_neighbours():
    x = np.array([3.0, 1.0, 2.0, 5.0])
    assert np.array_equal(nm.grad(np.median)(x), [0.5, 0.0, 0.5, 0.0])
    assert np.array_equal(nm.grad(lambda x: np.quantile(x, 0.25))(x), [0.0, 0.25, 0.75, 0.0])
    assert np.array_equal(nm.grad(lambda x: np.quantile(x, 1.0))(x), [0.0, 0.0, 0.0, 1.0])
    # equal entries: by their place in the stable sorted order
    assert np.array_equal(nm.grad(np.median)(np.array([1.0, 1.0, 1.0])), [0.0, 1.0, 0.0])
    # a NaN is the result, so the last of them gets the derivative
    assert np.array_equal(nm.grad(np.median)(np.array([1.0, np.nan, 3.0])), [0.0, 1.0, 0.0])
    assert np.array_equal(
        nm.grad(lambda x: np.quantile(x, 0.3))(np.array([1.0, np.nan])), [0.0, 1.0]
    )


def test_slope_in_the_fraction_is_the_gap_times_the_number_of_gaps():
    x = np.array([0.0, 1.0, 4.0])
    assert nm.grad(lambda q: np.quantile(x, q))(0.75) == 6.0


def test_infinite_entries_that_are_not_near_do_not_matter():
    x = np.array([1.0, 2.0, 3.0, np.inf])
    assert np.array_equal(nm.grad(np.median)(x), [0.0, 0.5, 0.5, 0.0])
    got = nm.grad(lambda x: np.quantile(x, 0.4))(x)
    np.testing.assert_allclose(got, [0.0, 0.8, 0.2, 0.0], rtol=1e-14)


def test_singular_entries_that_are_not_near_are_structural_zeros():
    x = np.array([0.0, 1.0, 4.0, 9.0, 16.0])
    with np.errstate(all="ignore"):
        for f in (
            np.median,
            lambda y: np.quantile(y, 0.7),
            lambda y: np.quantile(y, 0.5, method="lower"),
        ):
            g = nm.grad(lambda x: f(np.sqrt(x)))(x)  # noqa: B023
            assert np.isfinite(g).all()
            assert g[0] == 0


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="weights are new in NumPy 2.0"
)
def test_weighted_quantile_selects_an_entry():
    w = np.array([1.0, 0.0, 2.0, 0.5, 3.0, 1.0, 0.2])
    for q in (0.0, 0.1, 0.5, 0.77, 1.0):
        f = lambda x, q=q: np.quantile(x, q, weights=w, method="inverted_cdf")  # noqa: E731
        check_function(Use("weights", f, (V,)))
    lightest = np.where(V == V.min(), 0.0, w)  # the smallest entry counts for nothing
    assert (
        nm.stage(lambda x: np.quantile(x, 0.0, weights=lightest, method="inverted_cdf"), V)(V)
        > V.min()
    )
    f = lambda x: np.percentile(x, [20, 90], axis=1, weights=w[2:], method="inverted_cdf")  # noqa: E731
    check_function(Use("weights along an axis", f, (A,)))
    with pytest.raises(ValueError, match="inverted_cdf"):
        nm.grad(lambda x: np.quantile(x, 0.5, weights=w))(V)


def test_bad_input_is_refused():
    for f, error, words in (
        (lambda x: np.quantile(x, 1.5), ValueError, "range"),
        (lambda x: np.percentile(x, -1), ValueError, "range"),
        (lambda x: np.quantile(x, 0.5, method="middle"), ValueError, "method"),
        (lambda x: np.quantile(x, 0.5, axis=4), np.exceptions.AxisError, "axis"),
        (lambda x: np.quantile(x[:0], 0.5), IndexError, "empty"),
        (lambda x: np.median(x + 1j), nm.DtypeError, "real"),
    ):
        with pytest.raises(error, match=words):
            nm.grad(f)(V)


def test_median_of_nothing_is_nan_as_numpys():
    got = nm.jvp(lambda x: np.median(x[:0]) + 0 * x[0], (V,), (V,))[0]
    assert np.isnan(got)


@pytest.mark.parametrize(("shape", "axis"), [((0, 4), 1), ((3, 0), 0), ((2, 0, 3), 2)])
@pytest.mark.parametrize("q", [0.3, [0.2, 0.7]])
def test_quantiles_of_no_rows_are_empty_as_numpys(shape, axis, q):
    x = np.zeros(shape)
    y, pull = nm.vjp(lambda x: np.quantile(x, q, axis=axis), x)
    assert y.shape == np.quantile(x, q, axis=axis).shape
    assert pull(y)[0].shape == shape
