"""Compiled functions on device arrays: the function itself runs there."""

import numpy as np
import pytest

import nnmath_core as nm


def loss(w, x, t):
    h = np.tanh(x @ w) * t
    return np.sum(np.where(h > 0, h, 0.5 * h) ** 2)


def test_a_compiled_gradient_agrees_with_the_host(cp):
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        w, x = rng.standard_normal((3, 4)).astype(dtype), rng.standard_normal((5, 3)).astype(dtype)
        f = nm.compile(nm.value_and_grad(loss))
        value, g = f(w, x, 0.7)
        for _ in range(2):
            got, gradient = f(cp.asarray(w), cp.asarray(x), 0.7)
            assert type(gradient) is cp.ndarray
            assert gradient.dtype == dtype
            bound = 64 * np.finfo(dtype).eps
            np.testing.assert_allclose(float(got), value, rtol=bound)
            np.testing.assert_allclose(cp.asnumpy(gradient), g, rtol=bound, atol=bound)


def test_results_on_a_device_are_not_written_into_host_arrays(cp):
    f = nm.compile(lambda x: x + 1)
    with pytest.raises(nm.DeviceError, match="`out` receives results on the host"):
        f(cp.ones(3), out=np.zeros(3))
