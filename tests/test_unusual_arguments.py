"""Unusual arguments of NumPy's functions on traced arrays: empty arrays, single numbers, infinite ones, text, None.

The values are NumPy's, and where NumPy has none there is one clear error.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

import nnmath_core as nm
import nnmath_core.numpy as nnp
from nnmath_core.errors import DtypeError, NnmathError, ShapeError, TraceError

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

import bad_input

EPS = np.finfo(float).eps
RNG = np.random.default_rng(41)

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


WAYS = ("grad", "jvp", "vmap", "stage")


def traced(f, x, ways=WAYS):
    """Pairs of a transformation and the values of f at x on its tracers."""
    seen = []

    def body(x):
        seen.append(nm.tree_map(nm.value_of, f(x)))
        return 0.0 * np.sum(x)

    for way in ways:
        if way == "grad":
            nm.grad(body)(x)
            yield way, seen.pop()
        elif way == "jvp":
            nm.jvp(body, (x,), (x,))
            yield way, seen.pop()
        elif way == "vmap":
            yield way, nm.tree_map(lambda y: y[0], nm.vmap(f)(np.stack([x, x])))
        else:
            yield way, nm.stage(f, x)(x)


def assert_numpys(f, x, ways=WAYS):
    x = np.asarray(x)
    want = nm.tree_leaves(f(x))
    for way, y in traced(f, x, ways):
        for a, b in zip(nm.tree_leaves(y), want, strict=True):
            assert np.asarray(a).dtype == np.asarray(b).dtype, way
            np.testing.assert_allclose(a, b, rtol=16 * EPS, err_msg=way)


def assert_refused(f, x, words, error=NnmathError):
    for door in (nm.grad, nm.vmap, lambda f: nm.stage(f, x)):
        with pytest.raises(error, match=words):
            door(f)(np.stack([x, x]) if door is nm.vmap else x)
    with pytest.raises(error, match=words):
        nm.jvp(f, (x,), (x,))


# ------------------------------------------------------------------------------------------------ empty arrays
@pytest.mark.parametrize("kth", [2, -5, (1, 2)])
@pytest.mark.parametrize(("shape", "axis"), [((0,), -1), ((0, 3), 0), ((0, 3), 1), ((3, 0), 1)])
@pytest.mark.parametrize("f", [np.partition, np.argpartition])
def test_nothing_is_partitioned_at_any_place(f, shape, axis, kth):
    assert_numpys(lambda x: f(x, kth, axis=axis), np.zeros(shape))
    assert nm.jacrev(lambda x: np.partition(x, 2, axis=axis))(np.zeros(shape)).shape == shape * 2


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("q", [0.5, [0.2, 0.5]])
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
@pytest.mark.parametrize("f", [np.nanquantile, np.nanpercentile])
def test_a_quantile_of_nothing_without_nan_is_nan(f, shape, q, axis, keepdims):
    x = np.zeros(shape, np.float32)
    assert_numpys(lambda x: f(x, q, axis=axis, keepdims=keepdims), x)
    assert_numpys(lambda x: f(x, q, axis=axis, keepdims=keepdims, method="lower"), x)
    g = nm.grad(lambda x: np.sum(f(x, q, axis=axis, keepdims=keepdims)))(x)
    assert (g.shape, g.dtype) == (shape, np.float32)


def test_a_quantile_of_nothing_checks_its_place():
    with pytest.raises(ValueError, match=r"range \[0, 1\]"):
        nm.grad(lambda x: np.nanquantile(x, 1.5))(np.zeros(0))
    with pytest.raises(IndexError, match="empty slice"):
        nm.grad(lambda x: np.quantile(x, 0.5))(np.zeros(0))


def test_lexsort_asks_for_a_key():
    for shape in ((0, 3), (0,), ()):
        assert_refused(np.lexsort, np.zeros(shape), "lexsort: `keys`.*at least one key", ShapeError)
    assert_numpys(np.lexsort, np.zeros((3, 0)))
    assert_numpys(np.lexsort, RNG.standard_normal((2, 5)))


# ------------------------------------------------------------------------------------------------ single numbers
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize(
    "f",
    [
        np.sum, np.prod, np.max, np.min, np.any, np.all, np.ptp, np.argmax, np.argmin, np.cumsum,
        np.cumprod, np.count_nonzero, np.nansum, np.nanprod, np.nanmax, np.nanmin, np.nanmean, np.nanvar,
        np.nanstd, np.nanargmax, np.nancumsum, np.nancumprod,
    ],
)  # fmt: skip
def test_a_number_is_reduced_along_the_axis_that_it_has_not(f, axis):
    assert_numpys(lambda x: f(x, axis=axis), 0.5)
    with pytest.raises(np.exceptions.AxisError):
        nm.grad(lambda x: f(x, axis=1))(0.5)


def test_a_reduction_of_a_number_has_derivatives():
    for f, want in ((np.sum, 1.0), (np.prod, 1.0), (np.max, 1.0), (np.nanmean, 1.0), (np.ptp, 0.0)):
        assert nm.grad(lambda x, f=f: f(x, axis=0))(0.5) == want
        assert nm.jvp(lambda x, f=f: f(x, axis=-1), (0.5,), (3.0,))[1] == 3.0 * want
    np.testing.assert_array_equal(nm.jvp(lambda x: np.cumsum(x, 0), (0.5,), (3.0,))[1], [3.0])
    assert nm.grad(lambda x: np.max(x, axis=0, initial=0.2))(0.5) == 1.0
    assert nm.grad(lambda x: np.apply_over_axes(np.sum, x, 0))(0.5) == 1.0


def test_what_numpy_does_not_shift_correlate_or_count_is_refused():
    for f in (np.fft.fftshift, np.fft.ifftshift):
        assert_refused(f, np.array(0.5), f"{f.__name__}: `x`.*axis")
        assert_refused(lambda x, f=f: f(x, axes=()), np.ones(2), f"{f.__name__}: `x`.*axis")
    assert_refused(lambda x: np.correlate(x, x), np.array(0.5), "correlate: `a`.*one axis")
    assert_refused(lambda x: np.correlate(np.ones(2), x), np.array(0.5), "correlate: `v`.*one axis")
    np.testing.assert_array_equal(nm.vmap(lambda x: np.convolve(x, x))(np.array([0.5])), [[0.25]])
    with pytest.raises(ShapeError, match=r"histogram2d: `x` and `y`.*one axis"):
        nm.grad(lambda x: np.sum(np.histogram2d(x, x)[1]))(0.5)
    with pytest.raises(ShapeError, match=r"histogram2d.*\(2,\) and \(3,\)"):
        nm.grad(lambda x: np.sum(np.histogram2d(x, np.ones(3))[1]))(np.ones(2))


@pytest.mark.parametrize(
    ("f", "word"),
    [
        (np.polyder, "p"),
        (np.polyint, "p"),
        (lambda x: np.polyval(x, x), "p"),
        (nnp.poly, "seq_of_zeros"),
    ],
)
def test_a_number_is_no_polynomial(f, word):
    assert_refused(f, np.array(0.5), rf"poly\w*: `{word}`.*single number.*\[None\]", ShapeError)


def test_a_number_has_no_roots():
    with pytest.raises(ShapeError, match=r"roots: `p`.*single number"):
        nm.grad(lambda x: np.sum(nnp.roots(x)))(0.5)


@pytest.mark.parametrize("sample", [0.5, RNG.standard_normal(7), RNG.standard_normal((7, 2))])
@pytest.mark.parametrize("kw", [{}, {"bins": 3}, {"density": True}])
def test_histogramdd_takes_numbers_and_vectors(sample, kw):
    assert_numpys(lambda x: np.histogramdd(x, **kw), sample, ways=("grad", "jvp"))
    last = lambda x: np.histogramdd(x, **kw)[1][-1][-1]  # noqa: E731
    at, g = np.asarray(sample), nm.grad(last)(sample)
    want = np.zeros(at.shape) + (at == (at.max(axis=0) if at.ndim < 2 else at[:, -1].max()))
    np.testing.assert_array_equal(g, want)


def test_histogramdd_of_a_vector_is_linear_in_weights():
    x, w = RNG.standard_normal(7), RNG.uniform(size=7)
    count = lambda w: np.histogramdd(x, 3, weights=w)[0]  # noqa: E731
    np.testing.assert_allclose(
        nm.jacrev(count)(w) @ w, np.histogramdd(x, 3, weights=w)[0], rtol=16 * EPS
    )
    np.testing.assert_array_equal(nm.jacfwd(count)(w), nm.jacrev(count)(w))
    with pytest.raises(ShapeError, match="histogramdd: `sample`"):
        nm.grad(lambda x: np.sum(np.histogramdd(x)[1][0]))(np.ones((2, 2, 2)))


def test_a_number_is_padded_with_nothing():
    assert_numpys(lambda x: np.pad(x, 2), 0.5)
    assert_numpys(lambda x: np.pad(x, 2, mode="edge"), 0.5)
    assert nm.grad(lambda x: 3.0 * np.pad(x, 2))(0.5) == 3.0
    assert nm.jvp(lambda x: np.pad(x, 2), (0.5,), (3.0,))[1] == 3.0


def test_conditions_of_piecewise_have_the_shape_of_the_argument():
    mask = np.array([True, False, True])
    for x in (np.array(0.5), np.ones(2), np.ones((2, 3))):
        assert_refused(
            lambda x: np.piecewise(x, [mask], [2.0]), x, r"piecewise.*shape \(3,\)", ShapeError
        )
    assert_numpys(lambda x: np.piecewise(x, [mask], [2.0, np.square]), np.arange(3.0))
    assert_numpys(lambda x: np.piecewise(x, [mask], [2.0]), np.ones((3, 2)))
    for x, c in (
        (0.5, [True]),
        (0.5, [True, False]),
        (np.arange(3.0), [1, 0, 1]),
        (np.ones(1), [True]),
    ):
        assert_numpys(lambda x, c=c: np.piecewise(x, c, [2.0, 3.0]), x)
    for x in (0.5, np.arange(3.0)):
        f = lambda x: np.sum(np.piecewise(x, [x > 0.7], [np.square, lambda x: 3.0 * x]))  # noqa: E731
        want = np.where(np.asarray(x) > 0.7, 2.0 * np.asarray(x), 3.0)
        np.testing.assert_array_equal(nm.grad(f)(x), want)
        assert nm.jvp(f, (x,), (np.ones(np.shape(x)),))[1] == want.sum()


# ------------------------------------------------------------------------------------------------ infinite numbers
def test_interpolation_between_infinite_numbers_is_numpys():
    values = np.array([0.0, 1.0, 2.0, -1.0, 0.5, 1.5, 2.5, np.inf, -np.inf, np.nan])
    checked = set()
    for k in range(400):
        n = RNG.integers(1, 5)
        xp = np.sort(RNG.choice([-np.inf, 0.0, 1.0, 2.0, 3.0, np.inf], n, replace=False))
        fp = np.full(n, RNG.choice(values)) if k % 3 == 0 else RNG.choice(values, n)
        x = RNG.choice(values, 4)
        f = lambda x: np.interp(x, xp, fp)  # noqa: E731, B023
        assert_numpys(f, x, ways=("jvp", "vmap") if k % 20 else ("grad", "jvp", "vmap", "stage"))
        checked.add(str(np.isfinite(f(x))))
    assert len(checked) > 8  # many patterns of what is finite


def test_interpolation_with_infinite_knots_keeps_finite_derivatives():
    x, xp, fp = np.array([0.5, 3.0, 1.0]), np.array([0.0, 1.0, np.inf]), np.array([0.0, 2.0, 5.0])
    slopes = np.array([2.0, 0.0, 0.0])
    f = lambda x: np.interp(x, xp, fp)  # noqa: E731
    np.testing.assert_array_equal(nm.grad(lambda x: np.sum(f(x)))(x), slopes)
    np.testing.assert_array_equal(nm.jvp(f, (x,), (np.ones(3),))[1], slopes)
    np.testing.assert_array_equal(nm.vmap(nm.grad(f))(x), slopes)
    # an infinite height elsewhere does not reach the interval in which x lies
    g = nm.grad(lambda fp: np.interp(0.5, np.arange(3.0), fp) + np.interp(2.0, np.arange(3.0), fp))
    np.testing.assert_array_equal(g(np.array([0.0, 1.0, np.inf])), [0.5, 0.5, 1.0])


def test_a_partition_with_nan_is_one():
    for n in (3, 8, 9):
        x = RNG.permutation([np.nan, np.inf, *RNG.standard_normal(n - 2)])
        for k in range(n):
            want = np.sort(x)
            for _, y in traced(lambda x, k=k: np.partition(x, k), x):
                assert y[k] == want[k] or np.isnan(want[k])
                np.testing.assert_array_equal(np.sort(y[:k]), want[:k])
                np.testing.assert_array_equal(np.sort(y[k + 1 :]), want[k + 1 :])
            g = nm.jacrev(lambda x, k=k: np.partition(x, k)[k])(x)
            assert np.sum(g) == 1.0
            assert x[int(np.argmax(g))] == want[k] or np.isnan(want[k])


def test_polynomials_at_infinity_are_those_of_horners_rule_from_zero():
    x = np.array([np.inf, -np.inf, np.nan, 2.0])
    for p in ([3.0], [1.0, 2.0], [0.0, 2.0, 1.0], []):
        assert_numpys(lambda x, p=p: np.polyval(np.array(p), x), x)
    g = nm.grad(lambda x: np.polyval(np.array([1.0, 2.0, 3.0]), x))
    assert g(2.0) == 6.0
    assert nm.hessian(lambda x: np.polyval(np.array([1.0, 2.0, 3.0]), x))(2.0) == 2.0
    p, at = np.array([1.0, 2.0, 3.0]), 2.0
    np.testing.assert_array_equal(nm.jacfwd(lambda p: np.polyval(p, at))(p), [4.0, 2.0, 1.0])
    np.testing.assert_array_equal(nm.jacrev(lambda p: np.polyval(p, at))(p), [4.0, 2.0, 1.0])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([0, 1, 2], [1, 2]),
        ([0, 0], [0, 0, 1]),
        ([], [1, 2]),
        ([1], [0, 0]),
        ([], []),
        ([0, 3], [0, 5]),
    ],
)
def test_a_product_of_polynomials_has_no_leading_zeros(a, b):
    a, b = np.array(a, float), np.array(b, float)
    assert_numpys(lambda a: np.polymul(a, b), a, ways=("grad", "jvp"))
    assert_numpys(lambda b: np.polymul(a, b), b, ways=("grad", "jvp"))
    y = np.asarray(nm.vmap(lambda a: np.polymul(a, b))(np.stack([a, a]))[0])
    want = np.polymul(a, b)
    np.testing.assert_array_equal(y[len(y) - len(want) :], want)
    assert not y[: len(y) - len(want)].any()


def test_a_dropped_leading_zero_keeps_its_derivative_in_what_stays():
    f = lambda a: np.polymul(a, np.array([1.0, 2.0]))  # noqa: E731
    want = [[2.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 0.0, 2.0]]
    np.testing.assert_array_equal(nm.jacfwd(f)(np.array([0.0, 1.0, 2.0])), want)
    np.testing.assert_array_equal(nm.jacrev(f)(np.array([0.0, 1.0, 2.0])), want)
    with pytest.raises(ValueError, match="1d"):
        nm.grad(lambda a: np.sum(np.polymul(a, a)))(np.ones((2, 2)))


@pytest.mark.parametrize(
    ("u", "v"),
    [
        ([1, 2, 3, 4], [1, 2]),
        ([0, 0, 1, 2], [1, 2]),
        ([1e20, 1, 2, 3], [3, 1e5]),
        ([1], [1, 2]),
        ([1, 2], [2]),
        ([np.nan, 1, np.inf], [np.nan, 2, np.inf]),
        ([np.nan, 1, 2], [1, np.inf]),
    ],
)
def test_a_remainder_is_trimmed_as_numpys(u, v):
    u, v = np.array(u, float), np.array(v, float)
    assert_numpys(lambda u: np.polydiv(u, v), u, ways=("grad", "jvp"))


def test_a_remainder_has_derivatives():
    u, v = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0])
    f = lambda u: np.polydiv(u, v)  # noqa: E731
    q, r = nm.jacrev(f)(u)
    np.testing.assert_array_equal(q, [[1, 0, 0, 0], [-2, 1, 0, 0], [4, -2, 1, 0]])
    np.testing.assert_array_equal(r, [[-8, 4, -2, 1]])  # u at the zero -2 of v
    for a, b in zip(nm.jacfwd(f)(u), (q, r), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_characteristic_polynomial_of_real_eigenvalues_is_real():
    a = np.array([[2.0, 1.0], [0.5, 3.0]])
    assert_numpys(
        np.poly, 1e200 * (RNG.uniform(0.3, 0.9, (3, 3)) + 2.0 * np.eye(3)), ways=("grad", "jvp")
    )
    assert_numpys(np.poly, a, ways=("grad", "jvp"))
    want = [np.zeros((2, 2)), -np.eye(2), [[3.0, -0.5], [-1.0, 2.0]]]  # of 1, -trace and det
    for jacobian in (nm.jacfwd, nm.jacrev):
        np.testing.assert_allclose(jacobian(np.poly)(a), want, atol=64 * EPS)
        turn = np.array([[0.0, 1.0], [-1.0, 0.0]])  # eigenvalues i and -i
        want_turn = [np.zeros((2, 2)), -np.eye(2), [[0.0, 1.0], [-1.0, 0.0]]]
        np.testing.assert_allclose(jacobian(np.poly)(turn), want_turn, atol=64 * EPS)
    assert nm.vmap(lambda z: np.poly(z) * np.ones(1))(np.zeros((2, 0))).tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 7, 8])
def test_rows_are_searched_as_one_after_the_other(n, side):
    a = np.sort(RNG.integers(0, 4, (3, n)).astype(float), axis=-1)
    if n:
        a[0, -1] = np.nan
        a[1, n // 2 :] = np.inf
    v = RNG.choice([0.0, 1.0, 2.5, 3.0, np.nan, -1.0, np.inf], (3, 2, 2))
    f = lambda a, v: np.searchsorted(a, v, side)  # noqa: E731
    each = np.stack([f(p, q) for p, q in zip(a, v, strict=True)])
    np.testing.assert_array_equal(nm.vmap(f)(a, v), each)
    np.testing.assert_array_equal(nm.vmap(f, in_axes=(0, None))(a, v), [f(p, v) for p in a])
    np.testing.assert_array_equal(nm.vmap(f, in_axes=(None, 0))(a[2], v), f(a[2], v))
    table = [[f(p, q) for q in v] for p in a]
    np.testing.assert_array_equal(nm.vmap(lambda p: nm.vmap(lambda q: f(p, q))(v))(a), table)
    turned = nm.vmap(lambda q: nm.vmap(lambda p: f(p, q))(a))(v)
    np.testing.assert_array_equal(np.swapaxes(turned, 0, 1), table)


# ------------------------------------------------------------------------------------------------ text and None
def test_text_equals_no_number():
    x = np.ones(2)
    words = np.array(["a", "b"])
    assert_numpys(lambda x: np.isin(x, "text"), x)
    assert_numpys(lambda x: np.isin(x, ["a", "b"], invert=True), x)
    for f in (np.array_equiv, np.array_equal):
        for c in ("text", words):
            assert (
                nm.vmap(lambda x, f=f, c=c: x * f(x, c))(np.ones((2, 2))).tolist()
                == [[0.0, 0.0]] * 2
            )
            assert not nm.stage(lambda x, f=f, c=c: x * f(x, c), x)(x).any()
    with pytest.raises(DtypeError, match=r"searchsorted: `a` and `v` must be numbers.*text"):
        nm.vmap(lambda x: np.searchsorted(x, "text"))(np.ones((2, 3)))


def test_none_is_compared_as_numpy_compares_it():
    x = np.array([0.5, 0.0])
    for name in ("equal", "not_equal", "logical_and", "logical_or"):
        for args in ((x, None), (None, x)):
            y, want = getattr(nnp, name)(*args), getattr(np, name)(*args)
            assert y.dtype == want.dtype
            assert y.tolist() == want.tolist()
    for f in (lambda: nnp.add(x, None), lambda: nnp.sin(None), lambda: nnp.less(x, None)):
        with pytest.raises(TraceError, match="NoneType"):
            f()
    with pytest.raises(TraceError, match="NoneType"):
        nm.grad(lambda x: np.sum(x * nnp.logical_and(x, None)))(x)


# ------------------------------------------------------------------------------------------------ the judge's forms
def test_forms_see_what_is_not_a_matter_of_order():
    form = bad_input.FORMS["nm.numpy.partition"]
    args = (np.array([np.nan, 0.6, np.inf]), 2)

    def verdict(y):
        theirs, here = (
            bad_input.Outcome(tuple(form(args, [np.array(v)]))) for v in ([np.inf, 0.6, np.nan], y)
        )
        return bad_input.verdict(theirs, here, "jvp")

    assert verdict([0.6, np.inf, np.nan]) == "the same value"
    for wrong in ([0.6, np.nan, np.inf], [0.6, 0.6, np.nan], [0.6, np.inf]):
        assert verdict(wrong).startswith("differs")


def test_a_remainder_of_nan_alone_has_no_length():
    form, nan = bad_input.FORMS["nm.numpy.polydiv"], np.nan

    def verdict(r):
        theirs, here = (
            bad_input.Outcome(tuple(form((), [np.array([nan]), np.array(v)])))
            for v in ([nan, nan, nan], r)
        )
        return bad_input.verdict(theirs, here, "vmap")

    assert verdict([nan, nan]) == "the same value"
    for wrong in ([nan, 1.0], [1.0, nan, nan], [0.0], []):
        assert verdict(wrong).startswith("differs")
