"""Sets, sorted orders, counts: selections by value with the gradient of what was selected, and plain integers."""

import numpy as np
import pytest
from composed_checks import Use, check_function

import nnmath_core as nm

A = np.array([[2.0, 1.0, 3.5], [1.0, -0.5, 2.0]])
B = np.array([3.5, 0.7, 1.0, 9.0])
EAGER = {"stages": False, "batches": False}


def case(name, f, *xs):
    return pytest.param(Use(name, f, xs, **EAGER), id=name)


@pytest.mark.parametrize(
    "use",
    [
        case("unique", np.unique, np.array([0.3, -1.0, 2.0])),
        case("unique by rows", lambda x: np.unique(x, axis=0), A),
        case(
            "unique, indices", lambda x: np.unique(x, True, True, True), np.array([0.3, -1.0, 2.0])
        ),
        case("unique_values", np.unique_values, np.array([0.3, -1.0, 2.0])),
        case("unique_all", np.unique_all, np.array([[0.3, -1.0, 2.0]])),
        case("unique_counts", np.unique_counts, np.array([0.3, -1.0, 2.0])),
        case("unique_inverse", np.unique_inverse, np.array([[0.3, -1.0], [4.0, 2.0]])),
        case("union1d", np.union1d, np.array([0.3, -1.0]), np.array([7.0, 0.1])),
        case("setdiff1d", lambda x: np.setdiff1d(x, [1.0, 3.5]), np.array([0.3, -1.0, 2.0])),
        case("setxor1d", np.setxor1d, np.array([0.3, -1.0]), np.array([7.0, 0.1])),
    ],
)
def test_set_is_numpys_and_has_derivatives(use):
    check_function(use)


def test_gradient_goes_to_the_entries_that_were_selected():
    weight = np.array([1.0, 10.0, 100.0, 1000.0, 1e4, 1e5])

    def of(f, *xs):
        return nm.grad(lambda *zs: (y := f(*zs)) @ weight[: y.size], tuple(range(len(xs))))(*xs)

    (g,) = of(np.unique, A)  # -0.5, 1, 2, 3.5: of equal entries the first
    assert np.array_equal(g, [[100, 10, 1000], [0, 1, 0]])
    g, h = of(np.intersect1d, A.ravel(), B)
    assert np.array_equal(g, [0, 1, 10, 0, 0, 0])
    assert not h.any()
    g, h = of(np.union1d, A.ravel(), B)  # -0.5, 0.7, 1, 2, 3.5, 9
    assert np.array_equal(g, [1000, 100, 1e4, 0, 1, 0])
    assert np.array_equal(h, [0, 10, 0, 1e5])
    g, h = of(np.setdiff1d, A, B)  # -0.5, 2
    assert np.array_equal(g, [[10, 0, 0], [0, 1, 0]])
    assert not h.any()
    g, h = of(np.setxor1d, A.ravel(), B)  # -0.5, 0.7, 2, 9
    assert np.array_equal(g, [100, 0, 0, 0, 1, 0])
    assert np.array_equal(h, [0, 10, 0, 1000])


def test_values_indices_and_counts_are_numpys():
    for f in (np.unique_all, np.unique_counts, np.unique_inverse):
        got = nm.jvp(lambda x: (nm.value_of(x).sum() * 0 + x.sum(), *f(x)), (A,), (A,))[0][1:]  # noqa: B023
        want = f(A)
        for a, b in zip(got, want, strict=True):
            assert np.array_equal(a, b)
            assert np.shape(a) == np.shape(b)
    x = np.array([1.0, np.nan, np.nan, 0.0])
    for options in ({}, {"equal_nan": False}):
        got = nm.jvp(lambda x: np.unique(x, **options), (x,), (x,))[0]  # noqa: B023
        assert np.array_equal(got, np.unique(x, **options), equal_nan=True)
    got = nm.jvp(np.unique_values, (x,), (x,))[0]
    assert np.array_equal(np.sort(got), np.sort(np.unique_values(x)), equal_nan=True)
    y, i, j = nm.jvp(lambda a: np.intersect1d(a, B, return_indices=True), (A[1],), (A[1],))[0]
    for a, b in zip((y, i, j), np.intersect1d(A[1], B, return_indices=True), strict=True):
        assert np.array_equal(a, b)


def test_sets_need_values_and_say_so():
    for f in (
        np.unique,
        np.unique_values,
        lambda x: np.union1d(x, B),
        lambda x: np.setdiff1d(x, B),
    ):
        with pytest.raises(
            nm.TraceError, match="needs values, which differ between the examples under vmap"
        ):
            nm.vmap(f)(A)
        with pytest.raises(nm.TraceError, match="needs values"):
            nm.stage(f, A)


# ----------------------------------------------------------------------------------------- membership, places
def traced(f, *xs):
    """What f gives eager, staged and under vmap of a batch of one."""
    yield "eager", nm.jvp(lambda *zs: (zs[0].sum(), f(*zs)), xs, xs)[0][1]
    yield "staged", nm.stage(f, *xs)(*xs)
    yield "batched", nm.vmap(f)(*(x[None] for x in xs))[0]


@pytest.mark.parametrize(
    "f",
    [
        lambda a, b: np.isin(a, b),
        lambda a, b: np.isin(a, b, invert=True),
        lambda a, b: np.searchsorted(np.sort(b), a),
        lambda a, b: np.searchsorted(b, a, "right", sorter=np.argsort(b)),
        lambda a, b: np.sort(b).searchsorted(a, side="right"),
        lambda a, b: np.digitize(a, np.array([0.0, 1.0, 2.0])),
        lambda a, b: np.digitize(a, np.array([2.0, 1.0, 0.0]), right=True),
        lambda a, b: np.argpartition(b, 2),
        lambda a, b: b.argpartition(2),
        lambda a, b: (a > 1).astype(int).choose([1.0, 2.0]),
        lambda a, b: a.astype(int) << 2,
        lambda a, b: 64 >> a.astype(int).clip(0),
        lambda a, b: np.argsort(a, axis=None),
        lambda a, b: np.lexsort((a[1], a[0])),
        lambda a, b: np.lexsort(a, axis=-1),
        lambda a, b: np.isposinf(a / 0),
        lambda a, b: np.isneginf(-a / 0),
        lambda a, b: np.isreal(a + 0j),
        lambda a, b: np.iscomplex(a + 1j * a),
        lambda a, b: np.isreal(a),
        lambda a, b: np.fix(a),
        lambda a, b: np.frexp(a)[1],
        lambda a, b: np.modf(a)[1],
        lambda a, b: np.divmod(a, 0.7)[0],
        lambda a, b: np.spacing(a),
        lambda a, b: np.bitwise_and(a.astype(int), 3),
        lambda a, b: a.astype(int) | 4,
        lambda a, b: (a > 1) & a.astype(int),
        lambda a, b: ~a.astype(int),
        lambda a, b: (a > 0) ^ (a > 2),
        lambda a, b: np.left_shift(a.astype(int), 2),
        lambda a, b: np.bitwise_right_shift(a.astype(int), 1),
        lambda a, b: np.gcd(a.astype(int), 6),
        lambda a, b: np.lcm(a.astype(int), b.astype(int)[:3]),
        lambda a, b: np.bitwise_count(a.astype(int)),
        lambda a, b: np.logical_xor.reduce(a > 1, axis=1),
        lambda a, b: np.logical_or.reduce(a > 1, axis=0),
        lambda a, b: np.logical_and.reduce(a, axis=1),
        lambda a, b: np.bitwise_or.reduce(a.astype(int), axis=0),
        lambda a, b: np.gcd.reduce(a.astype(int), axis=1),
    ],
)
def test_what_carries_no_derivative_is_numpys_in_every_way(f):
    with np.errstate(all="ignore"):
        want = f(A, B)
        for how, got in traced(f, A, B):
            assert np.array_equal(got, want, equal_nan=np.asarray(want).dtype.kind == "f"), how
            assert np.asarray(got).dtype == np.asarray(want).dtype, how


def test_searchsorted_puts_nan_last_under_vmap_too():
    a = np.array([[0.0, 1.0, np.nan], [-1.0, 0.0, 2.0]])
    v = np.array([[np.nan, 1.0], [0.0, np.nan]])
    for side in ("left", "right"):
        got = nm.vmap(lambda a, v: np.searchsorted(a, v, side))(a, v)  # noqa: B023
        want = np.stack([np.searchsorted(p, q, side) for p, q in zip(a, v, strict=True)])
        assert np.array_equal(got, want)


def test_counts_are_plain_and_numpys():
    x = A.ravel()

    def f(x):
        found = [
            *np.histogram(x, 4),
            *np.histogram(x, [0, 1, 2], density=True),
            *np.histogram2d(x, x * x, 3),
        ]
        edges = np.histogram_bin_edges(x, 5)
        found += [
            edges,
            np.bincount(np.digitize(x, edges)),
            np.flatnonzero(x > 1),
            np.argwhere(x > 1),
        ]
        return found

    got = nm.jvp(lambda x: (x.sum(), *f(x)), (x,), (x,))[0][1:]
    for a, b in zip(got, f(x), strict=True):
        assert np.array_equal(a, b)
        assert np.asarray(a).dtype == np.asarray(b).dtype


def test_weights_reach_histogram_cells_as_numpys():
    rng = np.random.default_rng(2)
    x, y, w = rng.standard_normal((3, 40))
    for f in (
        lambda w: np.histogram(x, 7, weights=w)[0],
        lambda w: np.histogram(x, [-1, 0.0, 0.3, 1], weights=w, density=True)[0],
        lambda w: np.histogram2d(x, y, [4, 3], [[-1, 1], [-2, 2]], weights=w)[0],
        lambda w: np.histogramdd((x, y, x * y), 3, weights=w, density=True)[0],
        lambda w: np.histogram2d(x, y, [np.array([-1.0, 0.0, 1.0]), 4], weights=w)[0],
    ):
        got = nm.jvp(f, (w,), (w,))[0]
        np.testing.assert_allclose(got, f(w), rtol=1e-12, atol=1e-12)


def test_bad_input_is_refused():
    for f, error in (
        (lambda x: np.bincount(x.astype(int) - 9, x), ValueError),
        (lambda x: np.bincount(np.arange(2), x), ValueError),
        (lambda x: np.digitize(x, [1.0, 3.0, 2.0]), ValueError),
        (lambda x: np.partition(x, 9), ValueError),
        (lambda x: np.searchsorted(A, x), ValueError),
        (lambda x: np.bitwise_and(x, 1), nm.DtypeError),
        (lambda x: np.fabs(x + 1j), nm.DtypeError),
        (lambda x: np.place(x, x > 0, 1.0), nm.TraceError),
        (lambda x: np.interp(x, [0.0, 1.0], [1.0]), ValueError),
        (lambda x: np.interp(x, [], []), ValueError),
        (lambda x: np.gradient(x[:1]), ValueError),
        (lambda x: np.gradient(x, [0.0, 1.0]), ValueError),
        (lambda x: np.convolve(x, []), ValueError),
        (lambda x: np.convolve(A, x), ValueError),
        (lambda x: np.cross(x, x), ValueError),
        (lambda x: np.average(x, weights=[1.0, 2.0]), (TypeError, ValueError)),
        (lambda x: np.average(x, weights=x * 0), ZeroDivisionError),
        (lambda x: np.cov(x, aweights=-np.ones(4)), ValueError),
        (lambda x: np.select([], []), ValueError),
        (lambda x: np.select([x], [x]), TypeError),
        (lambda x: np.choose([5], [x, x]), ValueError),
        (lambda x: np.piecewise(x, [x > 0], [1, 2, 3]), ValueError),
        (lambda x: np.subtract.reduce(A * x[0], axis=None), ValueError),
        (lambda x: np.add.reduceat(x, [7]), IndexError),
    ):
        with pytest.raises(error):
            nm.grad(lambda x: np.sum(f(x)) + x[0])(B)  # noqa: B023
