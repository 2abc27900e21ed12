"""Points where a derivative is a convention or a limit: what is promised is what comes out."""

import numpy as np
import pytest
from registry_checks import check_special

import nnmath_core as nm
from nnmath_core.autodiff.primitive import REGISTRY

DTYPES = (np.float32, np.float64)
SPECIAL = [
    pytest.param(p, row, id=f"{p.name}-{k}")
    for p in REGISTRY.values()
    for k, row in enumerate(p.special)
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("primitive", "row"), SPECIAL)
def test_special_point_has_the_promised_gradient(primitive, row, dtype):
    check_special(primitive, row, dtype)


@pytest.mark.parametrize(("primitive", "row"), SPECIAL)
def test_special_point_is_documented_in_words(primitive, row):
    assert len(row.what) > 10
    assert len(row.gradient) == len(row.operands)


@pytest.mark.parametrize("dtype", DTYPES)
def test_second_derivative_is_zero_where_the_first_is_by_convention(dtype):
    """The least-norm subgradient at a kink is a constant of the definition: it has no slope."""
    zero = np.zeros(2, dtype)
    norm = REGISTRY["norm"]
    for f in (
        lambda x: norm(x, axis=(0,), keepdims=False),
        lambda x: np.hypot(x[0], x[1]),
        lambda x: np.arctan2(x[0], x[1]),
        lambda x: np.sum(np.abs(x)),
    ):
        with np.errstate(all="ignore"):
            for second in (nm.hessian(f), nm.jacrev(nm.grad(f)), nm.jacfwd(nm.jacfwd(f))):
                assert np.array_equal(second(zero), np.zeros((2, 2), dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_derivatives_are_right_where_squares_overflow_or_vanish(dtype):
    tiny, huge = np.finfo(dtype).tiny, np.finfo(dtype).max / 8
    close = {"rtol": 8 * np.finfo(dtype).eps}
    for scale in (tiny, huge):
        x = np.array([3.0, 4.0], dtype) * dtype(scale)
        r = 5.0 * float(scale)
        unit = np.array([0.6, 0.8])
        np.testing.assert_allclose(nm.grad(lambda v: np.hypot(v[0], v[1]))(x), unit, **close)
        np.testing.assert_allclose(nm.grad(np.linalg.norm)(x), unit, **close)
        angle = nm.grad(lambda v: np.arctan2(v[0], v[1]))(x)
        np.testing.assert_allclose(angle.astype(float) * r, [0.8, -0.6], **close)
    big = np.array([1e4, 1e4 - 1.0, -1e4], dtype)
    e = np.exp(-1.0)
    softmax = np.array([1 / (1 + e), e / (1 + e), 0.0])
    np.testing.assert_allclose(nm.grad(lambda v: nm.special.logsumexp(v))(big), softmax, **close)
    pair = nm.grad(lambda v: np.logaddexp(v[0], v[1]))(big[:2])
    np.testing.assert_allclose(pair, softmax[:2], **close)


@pytest.mark.parametrize("dtype", DTYPES)
def test_derivatives_beside_a_singular_point_do_not_cancel(dtype):
    gap = np.finfo(dtype).eps * 3
    x = dtype(1) - dtype(gap)
    close = {"rtol": 8 * np.finfo(dtype).eps}
    exact = 1 / np.sqrt(float(gap) * (2 - float(gap)))
    np.testing.assert_allclose(nm.grad(np.arcsin)(x), exact, **close)
    np.testing.assert_allclose(nm.grad(np.arccos)(x), -exact, **close)
    np.testing.assert_allclose(nm.grad(np.arctanh)(x), exact**2, **close)
    y = dtype(1) + dtype(gap)
    exact = 1 / np.sqrt(float(gap) * (2 + float(gap)))
    np.testing.assert_allclose(nm.grad(np.arccosh)(y), exact, **close)


def test_equal_infinities_warn_of_nothing():
    both = np.array([-np.inf, -np.inf])
    with np.errstate(all="raise"):
        assert np.array_equal(nm.grad(lambda v: np.logaddexp(v[0], v[1]))(both), [0.5, 0.5])
        g = nm.grad(lambda v: REGISTRY["logsumexp"](v, axis=(0,), keepdims=False))(both)
        assert np.array_equal(g, [0.0, 0.0])
