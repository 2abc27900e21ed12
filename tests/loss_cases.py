"""Losses with predictions and targets, shared by the tests of their values, derivatives and likelihoods."""

import math

import numpy as np

import nnmath_core as nm

__all__ = ["CLOSED", "EPS", "assert_close", "dense", "problem"]

nn = nm.nn
EPS = np.finfo(np.float64).eps


def positive(rng, shape):
    return rng.uniform(0.3, 2.0, shape)


def pair(rng, shape, spread):
    second = rng.standard_normal(shape) if spread == "log_scale" else positive(rng, shape)
    return rng.standard_normal(shape), second


def signs(rng, shape):
    return rng.choice([-1, 1], shape)


def rows(rng, shape):
    e = np.exp(rng.standard_normal(shape))
    return e / e.sum(axis=-1, keepdims=True)


# name -> loss, prediction, target (functions of a generator)
CLOSED = {
    "squares": (
        nn.mean_squared_error,
        lambda r: r.standard_normal((3, 4)),
        lambda r: r.standard_normal((3, 4)),
    ),
    "squares of entries": (
        nn.mean_squared_error,
        lambda r: r.standard_normal(3),
        lambda r: r.standard_normal(3),
    ),
    "squares of one": (
        nn.mean_squared_error,
        lambda r: r.standard_normal(()),
        lambda r: r.standard_normal(()),
    ),
    "gaussian": (
        nn.gaussian_nll.replace(sigma=0.7),
        lambda r: r.standard_normal((3, 2)),
        lambda r: r.standard_normal((3, 2)),
    ),
    "gaussian, sigmas": (
        nn.gaussian_nll.replace(sigma=np.array([0.5, 2.0])),
        lambda r: r.standard_normal((3, 2)),
        lambda r: r.standard_normal((3, 2)),
    ),
    **{
        f"{name}, {spread}": (
            loss.replace(spread=spread),
            lambda r, spread=spread: pair(r, (3, 2), spread),
            lambda r: r.standard_normal((3, 2)),
        )
        for name, loss in (("gaussian", nn.gaussian_nll), ("crps", nn.crps_gaussian))
        for spread in ("log_scale", "scale", "variance")
    },
    "crps": (
        nn.crps_gaussian.replace(sigma=0.4),
        lambda r: r.standard_normal(4),
        lambda r: r.standard_normal(4),
    ),
    "binary": (
        nn.binary_cross_entropy,
        lambda r: r.standard_normal((3, 2)),
        lambda r: r.uniform(0, 1, (3, 2)),
    ),
    "binary, options": (
        nn.binary_cross_entropy.replace(pos_weight=np.array([2.0, 0.5]), label_smoothing=0.1),
        lambda r: r.standard_normal((3, 2)),
        lambda r: r.integers(0, 2, (3, 2)),
    ),
    "classes": (
        nn.softmax_cross_entropy,
        lambda r: r.standard_normal((3, 4)),
        lambda r: r.integers(0, 4, 3),
    ),
    "classes, options": (
        nn.softmax_cross_entropy.replace(
            class_weights=np.array([1.0, 0.5, 2.0, 0.0]), label_smoothing=0.2, ignore_label=1
        ),
        lambda r: r.standard_normal((2, 3, 4)),
        lambda r: np.array([[0, 1, 2], [3, 1, 0]]),
    ),
    "classes, ignored": (
        nn.softmax_cross_entropy.replace(ignore_label=-1),
        lambda r: r.standard_normal((3, 4)),
        lambda r: np.array([2, -1, 0]),
    ),
    "classes, weights": (
        nn.softmax_cross_entropy.replace(class_weights=np.array([1.0, 0.5, 2.0])),
        lambda r: r.standard_normal((4, 3)),
        lambda r: np.array([0, 1, 2, 1]),
    ),
    "rows": (
        nn.softmax_cross_entropy,
        lambda r: r.standard_normal((3, 4)),
        lambda r: rows(r, (3, 4)),
    ),
    "rows, options": (
        nn.softmax_cross_entropy.replace(
            class_weights=np.array([1.0, 0.5, 2.0]), label_smoothing=0.3
        ),
        lambda r: r.standard_normal((2, 3)),
        lambda r: rows(r, (2, 3)),
    ),
    "poisson": (
        nn.poisson_nll,
        lambda r: r.standard_normal((2, 3)),
        lambda r: r.poisson(2.0, (2, 3)),
    ),
    "laplace": (
        nn.laplace_nll.replace(scale=0.3),
        lambda r: r.standard_normal(5),
        lambda r: r.standard_normal(5),
    ),
    "laplace, scales": (
        nn.laplace_nll.replace(scale=np.array([0.3, 2.0])),
        lambda r: r.standard_normal((3, 2)),
        lambda r: r.standard_normal((3, 2)),
    ),
    "student": (
        nn.student_t_nll.replace(df=2.5, scale=0.6),
        lambda r: 4 * r.standard_normal((3, 2)),
        lambda r: r.standard_normal((3, 2)),
    ),
    "student, arrays": (
        nn.student_t_nll.replace(df=np.array([1.5, 30.0]), scale=np.array(0.6), full=True),
        lambda r: 4 * r.standard_normal((3, 2)),
        lambda r: r.standard_normal((3, 2)),
    ),
    "huber": (
        nn.huber.replace(delta=0.8),
        lambda r: 2 * r.standard_normal((4, 3)),
        lambda r: r.standard_normal((4, 3)),
    ),
    "quantile": (
        nn.quantile.replace(level=0.2),
        lambda r: r.standard_normal(6),
        lambda r: r.standard_normal(6),
    ),
    "quantile, levels": (
        nn.quantile.replace(level=np.array([0.1, 0.5, 0.9])),
        lambda r: r.standard_normal((4, 3)),
        lambda r: r.standard_normal((4, 3)),
    ),
    **{
        f"hinge, signs, {power}": (
            nn.hinge.replace(power=power),
            lambda r: 2 * r.standard_normal((3, 4)),
            lambda r: signs(r, (3, 4)),
        )
        for power in (1, 2)
    },
    **{
        f"hinge, {rivals}, {power}": (
            nn.hinge.replace(power=power, rivals=rivals, margin=1.5),
            lambda r: 2 * r.standard_normal((3, 4)),
            lambda r: r.integers(0, 4, 3),
        )
        for power in (1, 2)
        for rivals in ("mean", "max")
    },
}


def problem(name, rng):
    loss, prediction, target = CLOSED[name]
    return loss, prediction(rng), target(rng)


def dense(blocks, shape, coupled):
    """A Hessian without its zeros as the whole matrix of an array of that shape."""
    n = math.prod(shape)
    if not coupled:
        return np.diag(np.broadcast_to(blocks, shape).ravel())
    k = shape[-1]
    whole = np.zeros((n, n))
    for i, block in enumerate(blocks.reshape(-1, k, k)):
        whole[i * k : i * k + k, i * k : i * k + k] = block
    return whole


def assert_close(got, want, tol):
    assert np.shape(got) == np.shape(want)
    assert np.all(np.abs(np.asarray(got) - want) <= tol), np.max(np.abs(got - want))
