"""Losses, their closed derivatives and regularisers on device arrays: the host's numbers."""

import numpy as np
import pytest

import nnmath_core as nm

nn = nm.nn
RNG = np.random.default_rng(20261126)
P, T, S = (RNG.standard_normal((3, 4)) for _ in range(3))
LABELS = np.array([0, 3, -1])
WEIGHTS = np.array([1.0, 0.5, 2.0, 0.25])

CASES = {
    "squares": (nn.mean_squared_error, P, T),
    "gaussian": (nn.gaussian_nll.replace(sigma=np.array([0.5, 1.0, 2.0, 3.0])), P, T),
    "gaussian, pair": (nn.gaussian_nll, (P, S), T),
    "score": (nn.crps_gaussian.replace(spread="variance"), (P, np.exp(S)), T),
    "binary": (nn.binary_cross_entropy.replace(label_smoothing=0.1, pos_weight=2.0), P, T > 0),
    "classes": (
        nn.softmax_cross_entropy.replace(
            class_weights=WEIGHTS, label_smoothing=0.2, ignore_label=-1, reduction="mean"
        ),
        P,
        LABELS,
    ),
    "rows": (nn.softmax_cross_entropy, P, np.full((3, 4), 0.25)),
    "poisson": (nn.poisson_nll, P, np.abs(np.round(T)).astype(int)),
    "laplace": (nn.laplace_nll, P, T),
    "student": (nn.student_t_nll.replace(df=3.0), P, T),
    "huber": (nn.huber, P, T),
    "quantile": (nn.quantile.replace(level=WEIGHTS / 4), P, T),
    "hinge": (nn.hinge, P, np.sign(T)),
    "margins": (nn.hinge.replace(power=2), P, np.abs(LABELS)),
    "strongest": (nn.hinge.replace(rivals="max"), P, np.abs(LABELS)),
}


def close(cp, got, want):
    for a, b in zip(nm.tree_leaves(got), nm.tree_leaves(want), strict=True):
        assert type(a) is cp.ndarray
        np.testing.assert_allclose(cp.asnumpy(a), b, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_a_loss_agrees_with_the_host(name, cp):
    loss, p, t = CASES[name]
    there, p_there, t_there = nm.to_device((loss, p, t), "cuda:0")

    def gradient(loss, p, t):
        return nm.grad(lambda p: loss(p, t).sum())(p)

    def second(loss, p, t):
        return nm.hvp(lambda p: loss(p, t).sum(), (p,), (p,))

    full = {"full": True} if loss.likelihood else {}
    close(cp, there(p_there, t_there, **full), loss(p, t, **full))
    for f in (gradient, second, lambda f, p, t: f.gradient(p, t), lambda f, p, t: f.hessian(p, t)):
        close(cp, f(there, p_there, t_there), f(loss, p, t))
    if loss.likelihood and not (name == "classes"):
        close(cp, there.fisher(p_there), loss.fisher(p))
        close(cp, there.inverse_link(p_there), loss.inverse_link(p))


def test_samples_are_those_of_the_host(cp):
    key = nm.random.key(3)
    for loss in (nn.gaussian_nll, nn.laplace_nll, nn.quantile, nn.softmax_cross_entropy):
        there = loss.sample(nm.to_device(key, "cuda:0"), cp.asarray(P))
        np.testing.assert_allclose(cp.asnumpy(there), loss.sample(key, P), rtol=1e-13)


def test_labels_that_are_wrong_are_named(cp):
    with pytest.raises(nm.DomainError, match=r"in \[0, 4\), got 7 at index 1"):
        nn.softmax_cross_entropy(cp.asarray(P), cp.asarray(np.array([0, 7, 1])))
    with pytest.raises(nm.DomainError, match="`sigma` must be > 0, got -1 at index 2"):
        nn.gaussian_nll(cp.zeros(3), cp.zeros(3), sigma=cp.asarray([1.0, 2.0, -1.0]))


def test_fista_runs_on_the_device(cp):
    target = np.array([3.0, -0.4, 1.0])
    there = cp.asarray(target)
    net = nn.elastic_net(l1=0.5, l2=0.1)
    found = nm.optim.fista(lambda w: 0.5 * np.sum((w - there) ** 2), cp.zeros(3), net)
    want = nm.optim.fista(lambda w: 0.5 * np.sum((w - target) ** 2), np.zeros(3), net)
    close(cp, found.params, want.params)
    assert found.zeros == want.zeros == 1
    assert abs(float(net.log_prior(there)) - float(net.log_prior(target))) <= 1e-12
