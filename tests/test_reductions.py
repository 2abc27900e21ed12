"""Reductions, cumulative products, selections: NumPy's meaning of every keyword, and exact derivatives."""

import math
import warnings

import numpy as np
import pytest
from registry_checks import REGISTRY, ROUNDING, difference

import nnmath_core as nm

DTYPES = (np.float32, np.float64)
EPS = np.finfo(float).eps

MASK = np.array([[True, False, True, True], [False, True, True, False], [True, True, False, True]])
NAMES = ("sum", "prod", "mean", "var", "std", "max", "min", "any", "all")


def draw(*shape):
    return np.random.default_rng(7).standard_normal(shape)


def complex_of(a, b):
    return a + 1j * b


def close(got, want, scale=1.0):
    """Assert agreement to the rounding errors of a few operations on numbers of size ``scale``."""
    np.testing.assert_allclose(got, want, rtol=0, atol=ROUNDING * EPS * max(scale, 1.0) * 4)


def same_kind(got, want):
    """Assert the shape and dtype of NumPy's result, and its values to rounding."""
    assert np.shape(got) == np.shape(want)
    assert np.asarray(got).dtype == np.asarray(want).dtype
    np.testing.assert_allclose(got, want, rtol=8 * np.finfo(float).eps, equal_nan=True)


def checked_gradient(f, *xs):
    """Return the gradient of f; forward mode and central differences agree with it."""
    argnums = tuple(range(len(xs)))
    back = nm.grad(f, argnums)(*xs)
    forward = nm.jacfwd(f, argnums)(*xs)
    h = EPS ** (1 / 3)
    for i, (a, b) in enumerate(zip(back, forward, strict=True)):
        close(a, b, np.abs(b).max())
        for at in np.ndindex(*np.shape(a)):
            ts = [np.zeros_like(x) for x in xs]
            ts[i][at] = 1.0
            (near,) = difference(lambda *z: (f(*z),), xs, ts, h)
            (far,) = difference(lambda *z: (f(*z),), xs, ts, 2 * h)
            # the error of h is a third of the difference; rounding adds eps |f| / h
            assert abs(a[at] - near) <= abs(near - far) + ROUNDING * EPS * max(1, abs(f(*xs))) / h
    return back


# ------------------------------------------------------------------------------- complex values
@pytest.mark.parametrize("name", ["var", "std"])
@pytest.mark.parametrize(
    "options", [{}, {"axis": 1}, {"axis": 0, "ddof": 1, "keepdims": True}, {"where": MASK}]
)
def test_variance_of_complex_values_is_real_as_numpys(name, options):
    z = complex_of(draw(3, 4), draw(4, 3).T)
    ours, numpys = getattr(nm.numpy, name), getattr(np, name)
    same_kind(ours(z, **options), numpys(z, **options))
    traced = nm.stage(lambda a, b: numpys(complex_of(a, b), **options), z.real, z.imag)
    same_kind(traced(z.real, z.imag), numpys(z, **options))


@pytest.mark.parametrize("name", ["var", "std"])
def test_variance_of_complex_values_has_derivatives_of_both_orders(name):
    a, b = draw(4), draw(5)[:4] * 0.7
    weight = draw(4)

    def f(a, b):
        return getattr(np, name)(complex_of(a, b) * (1 + 0.5j) + weight * complex_of(b, a))

    checked_gradient(f, a, b)
    hessian = nm.hessian(f, (0, 1))(a, b)
    other = nm.jacrev(nm.jacfwd(f, (0, 1)), (0, 1))(a, b)
    for row, column in zip(hessian, other, strict=True):
        for x, y in zip(row, column, strict=True):
            close(x, y, np.abs(y).max())


def test_variance_of_complex_values_is_that_of_the_parts():
    a, b = draw(6), draw(7)[1:]
    z = complex_of(a, b)
    g, h = nm.grad(lambda a, b: np.var(complex_of(a, b)), (0, 1))(a, b)
    close(nm.numpy.var(z), np.var(a) + np.var(b))
    close(g, 2 * (a - a.mean()) / 6)
    close(h, 2 * (b - b.mean()) / 6)


@pytest.mark.parametrize("ddof", [0, 1, 2, 3])
@pytest.mark.parametrize("where", [True, np.array([True, True, False]), False])
def test_variance_with_too_few_entries_is_numpys(where, ddof):
    x = np.array([[1.0, 2.0, 5.0], [1.0, 1.0, 1.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the division by 0
        for f in (np.var, np.std):
            want = f(x, axis=1, ddof=ddof, where=where)
            same_kind(nm.stage(lambda x: f(x, axis=1, ddof=ddof, where=where), x)(x), want)  # noqa: B023


# ----------------------------------------------------------------------------- where and initial
@pytest.mark.parametrize("mask", [MASK, MASK[:1], MASK[:, :1], MASK[0], False])
@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
@pytest.mark.parametrize("name", NAMES)
def test_where_is_numpys(name, axis, mask):
    x = draw(3, 4)
    options = {"axis": axis, "where": mask}
    if name in ("max", "min"):
        options["initial"] = -0.4
    f = getattr(np, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the mean of nothing
        want = f(x, **options)
        same_kind(getattr(nm.numpy, name)(x, **options), want)
        same_kind(nm.stage(lambda x: f(x, **options), x)(x), want)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("any", "all")])
def test_gradient_with_where_is_zero_where_nothing_is_shown(name):
    x, w = draw(3, 4), np.array([1.0, -2.0, 0.5])
    options = {"axis": 1, "where": MASK}
    if name in ("max", "min"):
        options["initial"] = -9.0 if name == "max" else 9.0

    def f(x):
        return w @ getattr(np, name)(x, **options)

    (g,) = checked_gradient(f, x)
    assert not g[~MASK].any()
    assert g[MASK].any()
    singular = np.where(MASK, x, math.inf)  # what is not shown is a structural zero
    with np.errstate(all="ignore"):
        close(nm.grad(f)(singular), g, np.abs(g).max())


def test_where_takes_a_traced_mask_and_every_door():
    x = draw(3, 4)
    with np.errstate(all="ignore"):
        for f in (
            lambda x: np.add.reduce(x, axis=None, where=x > 0),
            lambda x: x.sum(where=x > 0),
            lambda x: np.sum(np.maximum(x, 0.0)),
        ):
            assert np.array_equal(nm.grad(f)(x), x > 0)
            assert np.array_equal(nm.vmap(nm.grad(f))(x), x > 0)
    assert nm.value_and_grad(lambda x: np.maximum.reduce(x, axis=None, initial=9.0))(x)[0] == 9.0
    assert nm.numpy.mean(np.ones((2, 3), np.float32), where=MASK[:2, :3]).dtype == np.float32


def test_where_is_checked():
    x = np.ones((2, 3))
    for name in NAMES:
        f = getattr(nm.numpy, name)
        with pytest.raises(TypeError, match=f"{name}: `where` must be boolean, got int64"):
            f(x, where=np.ones(3, int), **({"initial": 0} if name in ("max", "min") else {}))
        with pytest.raises(ValueError, match=f"{name}: `where` must broadcast to the shape"):
            f(x, where=np.ones(2, bool), **({"initial": 0} if name in ("max", "min") else {}))
    for f in (nm.numpy.max, nm.numpy.min):
        with pytest.raises(ValueError, match="with `where` give `initial`"):
            f(x, where=True & (x > 0))


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min"])
def test_initial_is_numpys(name):
    f, g = getattr(nm.numpy, name), getattr(np, name)
    for x in (draw(3, 4), np.arange(6).reshape(2, 3), np.ones((2, 0)), np.array([[True, False]])):
        for axis in (0, 1, None):
            if name in ("max", "min") and x.dtype == bool:
                same_kind(f(x, axis, initial=True), g(x, axis, initial=True))
            elif x.size or axis == 1:
                same_kind(f(x, axis, initial=2), g(x, axis, initial=2))
    x = draw(5)
    value, slope = nm.value_and_grad(lambda x, c: getattr(np, name)(x, initial=c), (0, 1))(x, 0.3)
    assert value == pytest.approx(g(x, initial=0.3), rel=8 * EPS)
    want = {"sum": 1.0, "prod": np.prod(x), "max": x.max() < 0.3, "min": x.min() > 0.3}[name]
    close(slope[1], want)


# --------------------------------------------------------------------------- NaN among the entries
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_is_what_an_extremum_selects(dtype):
    x = np.array([[1.0, np.nan, 3.0], [np.nan, 2.0, np.nan], [3.0, 3.0, 1.0]], dtype)
    for f in (np.max, np.min):
        g = nm.grad(lambda x: np.sum(f(x, axis=1)))(x)  # noqa: B023
        assert np.array_equal(g[0], [0.0, 1.0, 0.0])
        assert np.array_equal(g[1], [0.5, 0.0, 0.5])
        assert np.isfinite(g[2]).all()
        assert g.dtype == dtype
        assert np.array_equal(nm.jacfwd(lambda x: np.sum(f(x, axis=1)))(x), g)  # noqa: B023
        staged = nm.stage(nm.grad(lambda x: np.sum(f(x, axis=1))), x)  # noqa: B023
        assert np.array_equal(staged(x), g)
        assert np.array_equal(nm.vmap(nm.grad(f))(x), g)
    g = nm.grad(lambda x: np.sum(np.ptp(x, axis=1)))(x)
    assert np.isnan(g[0, 1])
    assert np.isnan(g[1, [0, 2]]).all()
    assert np.array_equal(g[2], [0.5, 0.5, -1.0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [3, 3000])
def test_operand_that_is_nan_takes_the_derivative_of_a_selection(dtype, n):
    a = np.resize(np.array([1.0, np.nan, 2.0, np.nan], dtype), n)
    b = np.resize(np.array([np.nan, 1.0, 2.0, np.nan], dtype), n)
    for f in (np.maximum, np.minimum):
        g, h = nm.grad(lambda a, b: np.sum(f(a, b)), (0, 1))(a, b)  # noqa: B023
        assert np.array_equal(g, np.resize([0.0, 1.0, 0.5, 0.5], n))
        assert np.array_equal(h, np.resize([1.0, 0.0, 0.5, 0.5], n))
    g = nm.grad(lambda a: np.sum(np.clip(a, 1.0, 3.0)))(a)
    assert np.array_equal(g, np.resize([0.5, 1.0, 1.0, 1.0], n))


# ------------------------------------------------------------------------------------ selections
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("zero", [0.0, -0.0, 0])
def test_selecting_against_zero_gives_the_bits_of_numpy(dtype, zero):
    rng = np.random.default_rng(3)
    where = REGISTRY["where"]
    for shape, mask_shape in (((50, 60), (50, 60)), ((60,), (50, 60)), ((50, 60), (60,))):
        x = rng.standard_normal(shape).astype(dtype)
        x.ravel()[:5] = [np.nan, np.inf, -np.inf, 0.0, -0.0]
        mask = rng.random(mask_shape) < 0.5
        for y in (x, x[..., ::-1], x.T.copy().T):
            for got, want in (
                (where(mask, y, zero), np.where(mask, y, zero)),
                (where(mask, zero, y), np.where(mask, zero, y)),
                (where(mask.T.copy().T, y, zero), np.where(mask, y, zero)),
            ):
                assert got.dtype == want.dtype
                assert got.shape == want.shape
                assert np.array_equal(got, want, equal_nan=True)
                number = ~np.isnan(want)
                assert np.array_equal(np.signbit(got)[number], np.signbit(want)[number])


def test_clip_is_numpys():
    x, low, high = draw(40), np.linspace(-1, 0, 40), np.linspace(0, 1, 40)
    for bounds in ((-0.5, 0.5), (low, 0.5), (-0.5, high), (low, high), (0.5, -0.5), (None, 0.2)):
        same_kind(nm.numpy.clip(x, *bounds), np.clip(x, *bounds))
        value = nm.value_and_grad(lambda x: np.clip(x, *bounds).sum())(x)[0]  # noqa: B023
        same_kind(value, np.clip(x, *bounds).sum())
    g = nm.grad(lambda x, low, high: np.sum(np.clip(x, low, high)), (0, 1, 2))(x, low, high)
    assert np.array_equal(g, [(x > low) & (x < high), x < low, x > high])
    tie = nm.grad(lambda *xs: np.clip(*xs), (0, 1, 2))(1.0, 1.0, 1.0)
    close(tie, [1 / 3] * 3)


# -------------------------------------------------------------------------------------- products
def by_definition(x, others=()):
    """Return the product of the entries but some, one by one."""
    p = 1.0
    for i, e in enumerate(x):
        p *= 1.0 if i in others else e
    return p


PRODUCTS = {
    "no zero": [0.7, -1.3, 2.0, 0.9, -0.4],
    "one zero": [0.7, 0.0, 2.0, 0.9, -0.4],
    "two zeros": [0.7, 0.0, 2.0, 0.0, -0.4],
    "three zeros": [0.0, 0.0, 2.0, 0.0, -0.4],
    "vanishing": [1e-200, 1e-150, 3.0, 2.0, 0.5],
    "overflowing": [1e200, 1e150, 1e-3, 2.0, 0.5],
    "denormal": [1e-155, 1e-155, 1.0, 3.0, 1.0],
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_first_and_second_derivative_of_a_product_are_products(name):
    x = np.array(PRODUCTS[name])
    n = len(x)
    with np.errstate(all="ignore"):
        gradient = nm.grad(np.prod)(x)
        want = [by_definition(x, {i}) for i in range(n)]
        np.testing.assert_allclose(gradient, want, rtol=4 * n * EPS)
        if name == "overflowing":
            return  # the product itself is inf, and so are some on the way
        want = [[by_definition(x, {i, j}) * (i != j) for j in range(n)] for i in range(n)]
        for second in (
            nm.hessian(np.prod),
            nm.jacrev(nm.grad(np.prod)),
            nm.jacfwd(nm.jacfwd(np.prod)),
        ):
            np.testing.assert_allclose(second(x), want, rtol=8 * n * EPS)


@pytest.mark.parametrize("name", [n for n in PRODUCTS if n != "overflowing"])
def test_derivatives_of_cumulative_products_are_products(name):
    x, w = np.array(PRODUCTS[name]), np.array([0.3, -1.0, 2.0, 0.5, 1.5])
    n = len(x)

    def f(x):
        return np.sum(w * np.cumprod(x))

    want = [sum(w[k] * by_definition(x[: k + 1], {i}) for k in range(i, n)) for i in range(n)]
    size = sum(abs(w[k]) * abs(by_definition(x[: k + 1], {0})) for k in range(n))
    for g in (nm.grad(f)(x), nm.jacfwd(f)(x)):
        np.testing.assert_allclose(g, want, rtol=8 * n * EPS, atol=8 * n * EPS * size)
    want = [
        [
            (i != j) * sum(w[k] * by_definition(x[: k + 1], {i, j}) for k in range(max(i, j), n))
            for j in range(n)
        ]
        for i in range(n)
    ]
    for second in (nm.hessian(f), nm.jacrev(nm.grad(f)), nm.jacfwd(nm.jacfwd(f))):
        np.testing.assert_allclose(
            second(x), want, rtol=16 * n * EPS, atol=16 * n * EPS * np.abs(want).max()
        )


def test_third_derivative_of_a_product_with_zeros():
    x = np.array([0.0, 2.0, 0.0, 3.0])
    for f in (np.prod, lambda x: np.cumprod(x)[-1]):
        third = nm.jacfwd(nm.hessian(f))(x)
        for i, j, k in np.ndindex(4, 4, 4):
            distinct = len({i, j, k}) == 3
            assert third[i, j, k] == (by_definition(x, {i, j, k}) if distinct else 0.0)


@pytest.mark.parametrize("dtype", [*DTYPES, np.complex64, np.complex128])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [(2000,), (3, 500), (40, 7), (7, 40), (1,), (2, 0), (0, 3)])
def test_recurrence_takes_its_steps_one_by_one(shape, reverse, dtype):
    """Rows longer than they are many go to BLAS, others through a loop: both are the plain loop."""
    rng = np.random.default_rng(5)
    b, c = (rng.uniform(-1, 1, (2, *shape))).astype(dtype)
    if np.dtype(dtype).kind == "c":
        b, c = b * dtype(1 - 0.3j), c * dtype(0.4 + 0.5j)
    got = REGISTRY["recurrence"](b, c, reverse=reverse)
    assert got.dtype == dtype
    wide = np.complex128 if np.dtype(dtype).kind == "c" else np.float64
    want = b.astype(wide)
    for k in range(shape[-1] - 2, -1, -1) if reverse else range(1, shape[-1]):
        step, source = (
            (c[..., k + 1], want[..., k + 1]) if reverse else (c[..., k], want[..., k - 1])
        )
        want[..., k] += step.astype(wide) * source
    # |c| <= 1 times a random sign: an error lives on for a few steps
    np.testing.assert_allclose(
        got, want, rtol=0, atol=64 * np.finfo(dtype).eps * max(1, np.abs(want).max(initial=0))
    )


# ------------------------------------------------------------------------- what NumPy returns
def test_cumulative_functions_of_the_standard():
    x = draw(3, 4)
    for name in ("cumulative_sum", "cumulative_prod"):
        ours, old = getattr(nm.numpy, name), np.cumsum if name == "cumulative_sum" else np.cumprod
        same_kind(ours(x, axis=1), old(x, axis=1))
        start = np.full((3, 1), float(name == "cumulative_prod"))
        same_kind(ours(x, axis=1, include_initial=True), np.hstack([start, old(x, axis=1)]))
        same_kind(ours(x[0], include_initial=True), np.append(start[0], old(x[0])))
        assert ours(np.array([True, True]), include_initial=True).dtype == np.int64
        with pytest.raises(ValueError, match=f"{name}: name the `axis`"):
            ours(x)
        if hasattr(np, name):
            f = getattr(np, name)
            g = nm.grad(lambda x: np.sum(f(x, axis=0, include_initial=True) ** 2))(x)  # noqa: B023
            close(g, nm.grad(lambda x: np.sum(old(x, axis=0) ** 2))(x), np.abs(g).max())  # noqa: B023
            same_kind(ours(x, axis=0, include_initial=True), f(x, axis=0, include_initial=True))


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("count_nonzero", ([1, 2, 0],)),
        ("count_nonzero", ([[1, 2, 0], [0, 0, 3]], 1)),
        ("zeros_like", ([1, 2],)),
        ("ones_like", ([1.0, 2.0],)),
        ("ones_like", ([[True]],)),
        ("round", (np.array([1, -2, 3]),)),
        ("round", (np.array([14, -26, 35]), -1)),
        ("round", (np.array([1, 2], np.int8), 2)),
        ("round", ([1.26, -2.0], 1)),
        ("round", (np.array([1234.5, -151.0]), -2)),
        ("cumprod", (np.array([True, True, False]),)),
        ("cumprod", (np.array([2, 3], np.int8),)),
        ("cumprod", ([2, 3],)),
        ("cumsum", ([[2, 3], [4, 5]], 1)),
        ("tril", (np.ones((2, 2), bool),)),
        ("triu", (np.ones((3, 2), bool), 1)),
        ("sum", ([[1, 2], [3, 4]], 0)),
        ("prod", ([[1, 2], [3, 4]], 1)),
        ("max", ([[1, 2], [3, 0]], 0)),
        ("mean", ([[1, 2], [3, 4]], 0)),
        ("var", ([[1, 2], [3, 4]], 1)),
        ("diff", ([1, 4, 9],)),
        ("diff", ([True, False, False],)),
        ("clip", ([1, 4, 9], 2, 5)),
    ],
)
def test_lists_integers_and_booleans_give_numpys_results(name, args):
    same_kind(getattr(nm.numpy, name)(*args), getattr(np, name)(*args))


def test_differences_with_ends():
    x = draw(3, 4)
    for options in (
        {"prepend": 0.0},
        {"append": x[:, :2]},
        {"prepend": 1.0, "append": 2.0, "n": 2},
    ):
        same_kind(nm.numpy.diff(x, **options), np.diff(x, **options))
        checked_gradient(lambda x: np.sum(np.diff(x, **options) ** 2), x)  # noqa: B023


@pytest.mark.parametrize(
    "x",
    [
        np.array([1e-25, 1e-19, 1e30], np.float32),
        np.array([1e-30, 1e-12, 1e20], np.float32),
        np.array([1e-160, 1e-162, 1e160]),
        np.array([1e160, 1e162, 1e-160]),
        np.r_[np.full(1000, np.exp(-0.725)), np.full(1000, np.exp(0.725))],
    ],
)
def test_gradient_of_prod_keeps_its_digits_where_partial_products_lose_them(x):
    wide = x.astype(np.longdouble)
    with np.errstate(over="ignore"):
        want = np.array([np.prod(np.delete(wide, i)) for i in range(len(x))]).astype(x.dtype)
        got = nm.grad(np.prod)(x)
        own = abs(float(np.prod(x)) - float(np.prod(wide))) / float(np.prod(wide))
    # NumPy's product itself may pass through numbers with few digits: no derivative is better than that
    np.testing.assert_allclose(got, want, rtol=2 * len(x) * np.finfo(x.dtype).eps + min(own, 1e-8))


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: np.maximum(x, -1e30).sum(), np.array([-1e30, 1.0, 2.0], np.float32)),
        (lambda x: np.minimum(x, 2).sum(), np.array([-1e30, 1.0, 2.0], np.float32)),
        (np.ptp, np.array([-1e30, 1.0, 2.0], np.float32)),
        (lambda x: np.clip(x, -1, 1).sum(), np.full(4, 1e-200)),
        (np.max, np.full(4, 1e200)),
    ],
)
def test_extrema_of_huge_and_tiny_numbers_raise_no_flag(f, x):
    with np.errstate(all="raise"):
        nm.grad(f)(x)
        nm.jvp(f, (x,), (np.ones_like(x),))
