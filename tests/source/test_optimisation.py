"""The source document's optimizers and geometry of the gradient, computed; `docs/source.md` names each test."""

import numpy as np
import pytest

import nnmath_core as nm

H = np.array([1.0, 10.0])


def quadratic(x):
    return 0.5 * np.sum(H * x * x)


def steps(opt, x, n, f=quadratic):
    """The points of n steps."""
    state, path = opt.init(x), [x]
    for _ in range(n):
        x, state = opt.step(x, nm.grad(f)(x), state)
        path.append(x)
    return np.array(path)


def test_heavy_ball_is_a_recurrence_of_three_points():
    """O08: x_{t+1} = x_t - a g(x_t) + b (x_t - x_{t-1})."""
    path = steps(nm.optim.heavy_ball(0.05, momentum=0.8), np.array([1.0, -2.0]), 12)
    want = [path[0], path[0] - 0.05 * H * path[0]]
    for _ in range(11):
        want.append(want[-1] - 0.05 * H * want[-1] + 0.8 * (want[-1] - want[-2]))
    np.testing.assert_allclose(path, want, rtol=1e-12, atol=1e-14)


def test_nesterov_takes_the_gradient_ahead():
    """O09: y = x_t + b (x_t - x_{t-1}), x_{t+1} = y - a g(y); the optimizer moves y, where the gradient is taken."""
    a, b = 0.05, 0.8
    path = steps(nm.optim.nesterov(a, momentum=b), np.array([1.0, -2.0]), 12)
    before = now = path[0]
    want = [now]
    for _ in range(12):
        y = now + b * (now - before)
        before, now = now, y - a * H * y
        want.append(now + b * (now - before))
    np.testing.assert_allclose(path, want, rtol=1e-12, atol=1e-14)


def test_adam_has_two_moments_without_bias():
    """O14: both moments are divided by 1 - beta^t, so that the first step has the length of the learning rate."""
    rate, b1, b2, eps = 0.1, 0.9, 0.999, 1e-8
    path = steps(nm.optim.adam(rate), np.array([1.0, -2.0]), 8)
    x, m, v, want = path[0], 0.0, 0.0, [path[0]]
    for t in range(1, 9):
        g = H * x
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        x = x - rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        want.append(x)
    np.testing.assert_allclose(path, want, rtol=1e-12)
    np.testing.assert_allclose(np.abs(path[1] - path[0]), rate, rtol=1e-6)


def test_adamw_decays_beside_the_moments():
    """O17, K14: the decay is rate * decay * weight (PyTorch); in the loss it would meet the moments."""
    x, decay = np.array([1.0, -2.0]), 0.5
    flat = lambda x: 0.0 * np.sum(x)  # noqa: E731
    decayed = steps(nm.optim.adamw(0.1, weight_decay=decay), x, 5, flat)
    np.testing.assert_allclose(decayed, x * (1 - 0.1 * decay) ** np.arange(6)[:, None], rtol=1e-14)
    with_loss = lambda x: 0.5 * decay * np.sum(x * x)  # noqa: E731
    coupled = steps(nm.optim.adam(0.1), x, 5, with_loss)
    # whatever the weight is, Adam moves it by the rate: that is no decay
    np.testing.assert_allclose(np.abs(coupled[1] - x), 0.1, rtol=1e-6)
    np.testing.assert_allclose(np.abs(decayed[1] - x), 0.05 * np.abs(x), rtol=1e-14)


def test_the_gradient_is_the_direction_of_steepest_ascent():
    """V01, V02: of unit directions none rises faster than the gradient's, at the rate of its length, in the 2-norm."""
    rng = np.random.default_rng(1)
    f = lambda x: np.sum(np.sin(x)) + np.prod(x)  # noqa: E731
    x = rng.normal(size=3)
    g = nm.grad(f)(x)
    d = rng.normal(size=(2000, 3))
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    rates = nm.vmap(lambda d: nm.jvp(f, (x,), (d,))[1])(d)
    assert rates.max() <= np.linalg.norm(g) * (1 + 1e-14)
    np.testing.assert_allclose(nm.jvp(f, (x,), (g / np.linalg.norm(g),))[1], np.linalg.norm(g))
    # in the maximum norm another direction is the steepest: its rate is the 1-norm
    np.testing.assert_allclose(nm.jvp(f, (x,), (np.sign(g),))[1], np.abs(g).sum(), rtol=1e-13)


@pytest.mark.parametrize(
    ("point", "signs"), [((1.0, 0.0), [1, 1]), ((0.0, 0.0), [-1, 1]), ((-1.0, 0.0), [1, 1])]
)
def test_eigenvalues_of_the_hessian_tell_minima_from_saddles(point, signs):
    """V03: (x^2 - 1)^2 + y^2 has two minima and a saddle between them."""
    f = lambda x: (x[0] ** 2 - 1.0) ** 2 + x[1] ** 2  # noqa: E731
    x = np.array(point)
    np.testing.assert_array_equal(nm.grad(f)(x), [0.0, 0.0])
    np.testing.assert_array_equal(np.sign(np.linalg.eigvalsh(nm.hessian(f)(x))), signs)


def test_divergence_is_cross_entropy_less_entropy():
    """I06, I07, I08: H(p) = sum of entr, H(p, q) by the loss, KL(p || q) = H(p, q) - H(p) >= 0, in nats."""
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.ones(6), size=20)
    logits = rng.normal(size=(20, 6))
    q = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    entropy = nm.special.entr(p).sum(axis=1)
    np.testing.assert_allclose(entropy, -np.sum(p * np.log(p), axis=1), rtol=1e-13)
    crossed = nm.nn.softmax_cross_entropy(logits, p)
    np.testing.assert_allclose(crossed, -np.sum(p * np.log(q), axis=1), rtol=1e-12)
    divergence = nm.special.rel_entr(p, q).sum(axis=1)
    np.testing.assert_allclose(crossed - entropy, divergence, rtol=0, atol=1e-13)
    assert divergence.min() > 0.0
    np.testing.assert_allclose(nm.special.entr(np.full(8, 0.125)).sum(), np.log(8.0), rtol=1e-15)
