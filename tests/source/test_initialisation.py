"""The source document's statement on orthogonal initialisation, computed; `docs/source.md` names the test."""

import math

import numpy as np
import pytest

import nnmath_core as nm

EPS = np.finfo(float).eps


def singular_values(init, width, depth, rng):
    """Of the Jacobian from end to end of a deep linear network, by forward mode."""
    layers = [nm.nn.Dense.init((width, width), init=init, rng=rng) for _ in range(depth)]
    model = nm.nn.Sequential(layers)
    return np.linalg.svd(nm.jacfwd(model)(np.zeros(width)), compute_uv=False)


@pytest.mark.parametrize("depth", [1, 4, 16, 64])
def test_orthogonal_weights_neither_vanish_nor_explode(depth):
    """L14: all singular values of the end-to-end Jacobian are 1; those of Gaussian weights of the same variance spread.

    The squares of the latter have mean 1 and, for infinite width, mean square L + 1 and the edge (L + 1)^(L + 1) / L^L
    (Fuss and Catalan); a typical one is e^(-L / 2).
    """
    rng, width = np.random.default_rng(14), 64
    kept = singular_values(nm.nn.orthogonal, width, depth, rng)
    # each of the products and factors rounds: eps times width for a matrix, added up
    np.testing.assert_allclose(kept, 1.0, rtol=0, atol=4 * EPS * width * depth)
    if depth <= 4:
        nets = 40
        squares = (
            np.array([singular_values(nm.nn.lecun_normal, width, depth, rng) for _ in range(nets)])
            ** 2
        )
        for power, want in ((1, 1.0), (2, depth + 1.0)):
            each = np.mean(squares**power, axis=1)
            error = np.std(each) / math.sqrt(nets)
            # moments of finite width differ by terms of L^2 / width^2 and less
            assert abs(each.mean() - want) < 4 * error + want * depth**2 / width**2
        edge = (depth + 1) ** (depth + 1) / depth**depth
        largest = squares.max(axis=1).mean()
        assert (
            abs(largest / edge - 1) < 2 * width ** (-2 / 3) * depth
        )  # edges of matrices are blurred as n^(-2/3)
    else:
        spread = singular_values(nm.nn.lecun_normal, width, depth, rng)
        assert spread[0] > 2.0
        assert np.median(spread) < math.exp(-depth / 4)  # vanished


def test_gradients_of_a_deep_linear_network_keep_their_length():
    """The gradient of the input is as long as that of the output, through 100 orthogonal layers."""
    rng, width, depth = np.random.default_rng(3), 32, 100
    x = rng.normal(size=width)
    lengths = {}
    for init in (nm.nn.orthogonal, nm.nn.lecun_normal):
        layers = [nm.nn.Dense.init((width, width), init=init, rng=rng) for _ in range(depth)]
        y, pull = nm.vjp(nm.nn.Sequential(layers), x)
        (g,) = pull(y / np.linalg.norm(y))
        lengths[init] = np.linalg.norm(g), np.linalg.norm(y) / np.linalg.norm(x)
    np.testing.assert_allclose(lengths[nm.nn.orthogonal], 1.0, atol=4 * EPS * width * depth)
    assert abs(math.log(lengths[nm.nn.lecun_normal][1])) > 0.5
