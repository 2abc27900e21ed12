"""Control flow on device arrays: decisions read one number, everything else stays on the device."""

import numpy as np

import nnmath_core as nm


def recurrence(w, x, checkpoint=False):
    def step(h, row):
        h = nm.cond(np.sum(h) > 0.5, lambda h: np.tanh(h * w + row), lambda h: h + w, h)
        return h, np.sum(h * h)

    h, ys = nm.scan(step, w, x, checkpoint=checkpoint)
    k = nm.while_loop(lambda c: c < 3.0, lambda c: c * 2.0 + h[0] * 0.01, np.sum(ys) * 0.0 + 0.5)
    return np.sum(h) + np.sum(ys) * k


def guarded(x):
    return nm.cond(x > 0, np.sqrt, lambda x: 0.0 * x, x)


def test_scan_cond_and_while_agree_with_the_host(cp):
    w, x = np.array([0.3, -0.2]), np.array([[0.5, 0.1], [-0.4, 0.9], [0.2, 0.3], [0.7, -0.6]])
    want = nm.value_and_grad(recurrence)(w, x)
    for checkpoint in (False, 2):
        value, g = nm.value_and_grad(recurrence)(cp.asarray(w), cp.asarray(x), checkpoint)
        assert type(g) is cp.ndarray
        np.testing.assert_allclose(float(value), want[0], rtol=1e-14)
        np.testing.assert_allclose(cp.asnumpy(g), want[1], rtol=1e-13)
    tangent = nm.jvp(lambda w: recurrence(w, cp.asarray(x)), (cp.asarray(w),), (cp.ones(2),))[1]
    np.testing.assert_allclose(float(tangent), want[1].sum(), rtol=1e-13)


def test_branches_of_a_batch_agree_with_the_host(cp):
    x = np.array([4.0, 0.0, -1.0])
    g = nm.vmap(nm.grad(guarded))(cp.asarray(x))
    np.testing.assert_array_equal(cp.asnumpy(g), [0.25, 0.0, 0.0])
    root = lambda a: nm.while_loop(lambda s: abs(s * s - a) > 1e-12, lambda s: (s + a / s) / 2, a)  # noqa: E731
    a = np.array([4.0, 1.0])
    got = nm.vmap(nm.grad(root))(cp.asarray(a))
    np.testing.assert_allclose(cp.asnumpy(got), nm.vmap(nm.grad(root))(a), rtol=1e-14)
