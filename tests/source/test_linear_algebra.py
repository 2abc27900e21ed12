"""The source document's statements on linear algebra and tensors, computed; `docs/source.md` names each test."""

import math

import numpy as np
import pytest
import scipy.linalg

import nnmath_core as nm
from nnmath_core._ext import _blas

EPS = np.finfo(float).eps


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def relu_chain(weights, x):
    for w in weights:
        x = nm.nn.relu(x @ w)
    return x


# ------------------------------------------------------------------------------------------ products
def test_one_vector(rng):
    """L01: y = W x + b of the document is x @ weight + bias with weight = W^T."""
    big_w, b, x = rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=3)
    want = [math.fsum([*(big_w[i] * x), b[i]]) for i in range(4)]
    got = nm.nn.Dense(big_w.T, b)(x)
    np.testing.assert_allclose(got, want, rtol=0, atol=8 * EPS * np.abs(big_w).sum())


def test_batches_as_one_product(rng):
    """L02: the document has examples in columns, the layer has them in rows; both are one product."""
    big_w, b, columns = rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=(3, 5))
    rows = nm.nn.Dense(big_w.T, b)(columns.T)
    np.testing.assert_allclose(rows.T, big_w @ columns + b[:, None], rtol=1e-14, atol=1e-14)
    one_by_one = np.stack([nm.nn.Dense(big_w.T, b)(x) for x in columns.T])
    np.testing.assert_allclose(rows, one_by_one, rtol=1e-14, atol=1e-14)


def test_the_gradient_of_a_weight_is_an_outer_product(rng):
    """L03: dL/dW = dL/dy x^T, and a sum of them over a batch."""
    w, b, x = rng.normal(size=(3, 4)), rng.normal(size=4), rng.normal(size=(5, 3))
    target = rng.normal(size=(5, 4))

    def loss(layer, x, target):
        return 0.5 * np.sum((layer(x) - target) ** 2)

    layer = nm.nn.Dense(w, b)
    g = nm.grad(loss)(layer, x[:1], target[:1])
    of_y = x[:1] @ w + b - target[:1]
    np.testing.assert_allclose(g.weight, np.outer(x[0], of_y[0]), rtol=1e-13)
    g = nm.grad(loss)(layer, x, target)
    want = sum(np.outer(xi, yi) for xi, yi in zip(x, x @ w + b - target, strict=True))
    np.testing.assert_allclose(g.weight, want, rtol=1e-12, atol=1e-12)


def test_products_are_those_of_blas(rng):
    """L05: traced products, in the gradient too, have the bits of NumPy's BLAS; those of kernels, of SciPy's."""
    a, b, ct = (rng.normal(size=s) for s in ((37, 23), (23, 41), (37, 41)))
    value, pull = nm.vjp(lambda a: a @ b, a)
    np.testing.assert_array_equal(value, np.dot(a, b))
    np.testing.assert_array_equal(pull(ct)[0], np.dot(ct, b.T))
    out = np.empty((37, 41))
    _blas.matmul(a, b, out)
    np.testing.assert_array_equal(out.T, scipy.linalg.blas.dgemm(1.0, b.T, a.T))


def test_a_batch_is_one_operation(rng):
    """L08: a mapped layer is one product for all examples, however many there are."""
    layer = nm.nn.Dense(rng.normal(size=(3, 4)), rng.normal(size=4))

    def products(n):
        program = nm.stage(nm.vmap(layer), np.ones((n, 3)))
        return sum(e.primitive.name == "contract" for e in program.equations)

    assert [products(n) for n in (1, 8, 64)] == [1, 1, 1]
    x = rng.normal(size=(8, 3))
    np.testing.assert_allclose(nm.vmap(layer)(x), layer(x), rtol=1e-14, atol=1e-14)


# ------------------------------------------------------------------------------------------ spectra
def test_eigenvalues_give_the_asymptotic_growth_of_gradients(rng):
    """L09: through k equal linear layers a gradient grows as the spectral radius to the power k, at last.

    Before that singular values rule: a triangular matrix with radius 1/2 amplifies by 10 first.
    """
    w = rng.normal(size=(6, 6)) / math.sqrt(6)
    radius = np.abs(np.linalg.eigvals(w)).max()

    def growth(w, depth):
        """Norm of the Jacobian of `depth` layers, by forward mode."""

        def net(x):
            for _ in range(depth):
                x = x @ w
            return x

        return np.linalg.norm(nm.jacfwd(net)(np.zeros(len(w))), 2)

    # |W^k| <= kappa(V) radius^k and >= radius^k
    kappa = np.linalg.cond(np.linalg.eig(w)[1])
    for depth in (8, 32):
        assert radius**depth * (1 - 1e-9) <= growth(w, depth) <= kappa * radius**depth
    rate = (growth(w, 64) / growth(w, 32)) ** (1 / 32)
    assert abs(rate / radius - 1) <= 2 * math.log(kappa) / 32
    jordan = np.array([[0.5, 10.0], [0.0, 0.5]])
    assert abs(growth(jordan, 1) - 10.0249378) < 1e-6
    assert growth(jordan, 64) < 1e-10


def test_the_spectral_norm_is_the_lipschitz_constant(rng):
    """L10: no pair of points exceeds the largest singular value, and its vectors attain it."""
    w = rng.normal(size=(5, 7))
    layer = nm.nn.Dense(w, rng.normal(size=7))
    norm = np.linalg.norm(w, 2)
    x, y = rng.normal(size=(2, 1000, 5))
    ratios = np.linalg.norm(layer(x) - layer(y), axis=1) / np.linalg.norm(x - y, axis=1)
    assert ratios.max() <= norm * (1 + 16 * EPS)
    u = np.linalg.svd(w)[0][:, 0]
    np.testing.assert_allclose(np.linalg.norm(layer(u) - layer(0 * u)), norm, rtol=1e-14)


@pytest.mark.parametrize("kappa", [4.0, 100.0])
def test_the_condition_number_sets_the_rate_of_descent(kappa):
    """L11: with the best step the error of gradient descent falls by (kappa - 1) / (kappa + 1) a step."""
    h = np.array([1.0, kappa])
    loss = lambda x: 0.5 * np.sum(h * x * x)  # noqa: E731
    opt = nm.optim.gradient_descent(2.0 / (1.0 + kappa))
    x = np.array([1.0, 1.0 / kappa])
    state = opt.init(x)
    errors = [np.linalg.norm(h * x)]
    for _ in range(20):
        x, state = opt.step(x, nm.grad(loss)(x), state)
        errors.append(np.linalg.norm(h * x))
    rates = np.array(errors[1:]) / errors[:-1]
    np.testing.assert_allclose(rates, (kappa - 1) / (kappa + 1), rtol=1e-9)


# ------------------------------------------------------------------------------------------ initialisation
def variance_ratio(init, activation, *, width=128, depth=10, nets=40):
    """Mean and standard error, over networks, of log(second moment after / before) a layer."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(nets):
        x = rng.normal(size=(8, width))
        before = np.mean(x * x)
        for _ in range(depth):
            x = activation(x) @ init((width, width), rng=rng, dtype=np.float64)
        found.append(math.log(np.mean(x * x) / before) / depth)
    return np.mean(found), np.std(found) / math.sqrt(nets)


def test_xavier_preserves_the_variance_of_a_linear_network():
    """L12: the log of the second moment has no drift through depth but that of its own fluctuation."""
    drift, error = variance_ratio(nm.nn.glorot_normal, lambda x: x)
    # E log of a mean of n squares lies below the log of its mean by about 1 / n of rounding: width here
    assert abs(drift) < 4 * error + 2.0 / 128
    shrunk, error = variance_ratio(nm.nn.glorot_normal, nm.nn.relu)
    assert shrunk < math.log(0.5) + 4 * error + 2.0 / 128  # relu halves it


def test_he_preserves_the_second_moment_under_relu():
    """L13: twice the variance makes up for the half that relu cuts off."""
    drift, error = variance_ratio(nm.nn.he_normal, nm.nn.relu)
    # the first layer sees normal inputs; afterwards fluctuations of width 128 add up to 5 / (2 n)
    assert abs(drift) < 4 * error + 5.0 / 128
    grown, error = variance_ratio(nm.nn.he_normal, lambda x: x)
    assert grown > math.log(2.0) - 4 * error - 2.0 / 128


# ------------------------------------------------------------------------------------------ tensors
def loops(a, b, out, left, right):
    """Sums of products over named indices by Python loops."""
    sizes = dict(zip(left + right, a.shape + b.shape, strict=True))
    names = sorted(sizes)
    y = np.zeros([sizes[i] for i in out])
    for at in np.ndindex(*(sizes[i] for i in names)):
        where = dict(zip(names, at, strict=True))
        y[tuple(where[i] for i in out)] += (
            a[tuple(where[i] for i in left)] * b[tuple(where[i] for i in right)]
        )
    return y


def test_a_product_of_matrices_in_index_notation(rng):
    """T05: C_ij = sum_k A_ik B_kj."""
    a, b = rng.normal(size=(3, 4)), rng.normal(size=(4, 2))
    want = loops(a, b, "ij", "ik", "kj")
    np.testing.assert_allclose(nm.numpy.einsum("ik,kj->ij", a, b), want, atol=16 * EPS)
    g = nm.grad(lambda a: np.sum(np.einsum("ik,kj->ij", a, b)))(a)
    np.testing.assert_allclose(g, np.tile(b.sum(axis=1), (3, 1)), rtol=1e-14)


def test_a_batch_of_products_in_index_notation(rng):
    """T06: C_bij = sum_k A_bik B_bkj."""
    a, b = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 4, 2))
    want = loops(a, b, "bij", "bik", "bkj")
    np.testing.assert_allclose(nm.numpy.einsum("bik,bkj->bij", a, b), want, atol=16 * EPS)
    g = nm.grad(lambda a: np.sum(np.einsum("bik,bkj->bij", a, b)))(a)
    np.testing.assert_allclose(g, np.repeat(b.sum(axis=2)[:, None], 3, axis=1), rtol=1e-14)


def test_images_have_their_channels_last(rng):
    """T02: (n, h, w, c); a kernel (kh, kw, in, out) sums over window and channels, and an image is one of a batch."""
    x, kernel = rng.normal(size=(2, 5, 6, 3)), rng.normal(size=(2, 2, 3, 4))
    layer = nm.nn.Conv2d.init((3, 4), 2, rng=0)
    y = nm.nn.conv(x, kernel)
    assert y.shape == (2, 4, 5, 4)
    assert layer(x).shape == y.shape
    one = sum(
        x[1, 2 + i, 3 + j, c] * kernel[i, j, c, 2]
        for i in range(2)
        for j in range(2)
        for c in range(3)
    )
    np.testing.assert_allclose(y[1, 2, 3, 2], one, rtol=0, atol=32 * EPS * 12)
