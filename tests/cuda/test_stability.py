"""Stable forms on a device: value, gradient and second order are the host's; debug_nans looks at its results."""

import numpy as np
import pytest

import nnmath_core as nm

S = nm.special
X = np.array([[-30.0, -1.5, -1e-3], [-0.7, -5.0, -12.0]])
Y = np.array([[-31.0, -2.5, -0.5], [-0.9, -80.0, -12.5]])

FUNCTIONS = {
    "log1pexp": lambda x, y: S.log1pexp(-x) + S.softplus(y),
    "log1mexp": lambda x, y: S.log1mexp(x) * y,
    "logsubexp": lambda x, y: S.logsubexp(x, y),
    "logaddexp": lambda x, y: np.logaddexp(x, y),
    "logsumexp": lambda x, y: S.logsumexp(x * y, axis=1),
    "logsumexp of all": lambda x, y: S.logsumexp(x * y, axis=(0, 1), keepdims=True),
    "logsumexp with factors": lambda x, y: S.logsumexp(x, axis=0, b=2.0 - y, return_sign=True)[0],
    "log_softmax": lambda x, y: S.log_softmax(x * y, axis=1) * y,
    "safe_divide": lambda x, y: S.safe_divide(x, y + 0.5, fill=-1.0),
    "hypot": lambda x, y: np.hypot(x, y),
    "norm": lambda x, y: np.linalg.norm(x * y, axis=1),
    "var": lambda x, y: np.var(2000.0 + x * y, axis=0),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_stable_forms_are_the_hosts(name, dtype, cp, device):
    f = FUNCTIONS[name]

    def total(x, y):
        return (f(x, y) * 1.5).sum()

    def everything(x, y):
        value, slopes = nm.value_and_grad(total, (0, 1))(x, y)
        _, tangent = nm.jvp(total, (x, y), (y, x))
        return [f(x, y), value, *slopes, tangent, *nm.hvp(total, (x, y), (y, x))]

    host = X.astype(dtype), Y.astype(dtype)
    there = everything(*(cp.asarray(a) for a in host))
    # a sum of 6 terms in another order, and functions of one ulp in other libraries
    rounding = 64 * np.finfo(dtype).eps * (2000 if name == "var" else 1)
    for a, b in zip(there, everything(*host), strict=True):
        assert isinstance(a, cp.ndarray)
        assert a.dtype == dtype
        scale = max(1.0, float(np.max(np.abs(b))))
        np.testing.assert_allclose(cp.asnumpy(a), b, rtol=rounding, atol=rounding * scale)


def test_special_points_on_the_device(cp, device):
    x, y = cp.asarray([2.0, -np.inf, 3.0]), cp.asarray([-np.inf, -np.inf, 0.0])
    g = nm.grad(lambda x, y: S.logsubexp(x, y)[:2].sum(), (0, 1))(x, y)
    np.testing.assert_array_equal(cp.asnumpy(g[0]), [1.0, 1.0, 0.0])
    np.testing.assert_array_equal(cp.asnumpy(g[1]), [0.0, 0.0, 0.0])
    g = nm.grad(lambda x, y: S.safe_divide(x, y).sum(), (0, 1))(x, cp.zeros(3))
    assert not cp.asnumpy(g[0]).any()
    assert not cp.asnumpy(g[1]).any()


def test_debug_nans_names_what_happens_on_the_device(cp, device):
    with pytest.raises(nm.DomainError, match=r"`log` returned NaN at test_stability\.py") as e:
        with nm.debug_nans():
            nm.numpy.log(cp.asarray([1.0, -1.0]))
    assert "float64[2] in [-1, 1]" in str(e.value)
    x = cp.asarray([0.0, 4.0])
    with pytest.raises(nm.DomainError, match="the derivative of `sqrt` in reverse mode"):
        with nm.debug_nans():
            nm.grad(lambda x: (nm.numpy.sqrt(x) * cp.asarray([0.0, 1.0])).sum())(x)


def test_precision_report_moves_its_arguments_to_the_host(cp, device):
    report = nm.precision_report(lambda x: np.exp(x) - 1, (cp.asarray([1e-6]),))
    assert report.culprit.name == "subtract"
