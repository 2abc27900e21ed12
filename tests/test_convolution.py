"""Convolutions, transposed convolutions, pooling and their layers: values, derivatives, dtypes, complaints."""

import itertools
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from oracles import ORACLES
from reference.convolution_cases import CASES, digest, inputs, weights

import nnmath_core as nm
from nnmath_core.autodiff.ops import convolutions
from nnmath_core.autodiff.ops.convolutions import conv_input_p, conv_kernel_p, conv_p
from nnmath_core.errors import DomainError, DtypeError, ShapeError

REFERENCE = Path(__file__).parent / "reference"
EPS = np.finfo(np.float64).eps
DTYPES = [np.float32, np.float64]


@pytest.fixture
def rng():
    return np.random.default_rng(20261126)


def assert_close(got, want, tol):
    assert np.shape(got) == np.shape(want)
    assert np.all(np.abs(got - want) <= tol), np.max(np.abs(got - want) / tol)


def scale(x):
    return max(1.0, float(np.max(np.abs(x), initial=0.0)))


# ------------------------------------------------------------------------------ PyTorch
with np.load(REFERENCE / "convolution_torch.npz") as _stored:
    _parts = np.split(_stored["answers"], np.cumsum(_stored["lengths"])[:-1])
    STORED = dict(zip(_stored["names"].tolist(), _parts, strict=True))


def test_stored_answers_are_those_of_the_cases():
    assert list(STORED) == list(CASES)
    kinds = [name.partition(",")[0].partition(" x")[0] for name in CASES]
    for kind in ("conv1d", "conv2d", "transposed 1d", "transposed 2d", "max 1d", "max 2d"):
        assert kinds.count(kind) >= 5, kind
    for kind in ("average 1d", "average 2d", "adaptive 1d", "adaptive 2d"):
        assert kinds.count(kind) >= 5, kind


@pytest.mark.parametrize("name", CASES)
def test_value_gradient_and_hessian_vector_product_agree_with_pytorch(name):
    function, _, options, _ = CASES[name]
    f = getattr(nm.nn, function)
    operands, direction = inputs(name)
    y = f(*operands, **options)
    shape, want = STORED[name][: y.ndim], STORED[name][y.ndim :]
    assert y.shape == tuple(int(n) for n in shape)
    c = weights(y.shape)

    def number(*xs):
        return np.sum(c * np.tanh(f(*xs, **options)))

    every = tuple(range(len(operands)))
    gradient = nm.grad(number, argnums=every)(*operands)
    product = nm.hvp(number, tuple(operands), tuple(direction))
    product = product if len(operands) > 1 else (product,)  # of one primal: its structure
    got = np.concatenate([digest(x) for x in (y, *gradient, *product)])
    # 1e-12 of the largest entry of each array, whose projections are sums of all of them
    at = 0
    for x in (y, *gradient, *product):
        n = digest(x).size
        assert_close(got[at : at + n], want[at : at + n], 1e-12 * scale(want[at : at + n]))
        at += n
    assert at == want.size


# ------------------------------------------------------------------------------ oracles
GRID = [
    # size, window, channels, outs, groups, stride, padding, dilation
    ((6,), (3,), 9, 4, 1, (1,), ((0, 0),), (1,)),  # fewer channels out than in: by `conv`
    ((6,), (3,), 9, 12, 1, (1,), ((1, 1),), (1,)),  # one offset after the other
    ((9,), (3,), 10, 6, 1, (2,), ((2, 1),), (2,)),
    ((4,), (2,), 8, 2, 1, (1,), ((3, 2),), (1,)),  # padding beyond the reach of the kernel
    ((5, 4), (3, 2), 1, 3, 1, (1, 2), ((1, 0), (0, 2)), (1, 1)),  # one channel
    ((5, 5), (2, 3), 4, 6, 2, (2, 1), ((1, 1), (1, 1)), (1, 2)),
    ((5, 5), (2, 2), 18, 4, 2, (1, 1), ((0, 1), (1, 0)), (1, 1)),
    ((4, 5), (3, 3), 3, 3, 3, (1, 2), ((1, 1), (1, 1)), (1, 1)),  # depthwise
    ((4, 5), (3, 3), 3, 6, 3, (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((4, 4), (1, 1), 3, 5, 1, (1, 1), ((0, 0), (0, 0)), (1, 1)),
    ((4, 4), (1, 1), 4, 6, 2, (1, 1), ((0, 1), (0, 0)), (1, 1)),
    ((4, 4), (1, 1), 3, 5, 1, (2, 3), ((0, 0), (0, 0)), (1, 1)),
    ((3, 4, 3), (2, 1, 3), 2, 2, 1, (1, 1, 1), ((0, 0),) * 3, (1, 1, 1)),
]


@pytest.mark.parametrize("block", [1, 100, 1 << 20])
@pytest.mark.parametrize("case", GRID, ids=range(len(GRID)))
def test_every_way_to_the_three_convolutions_is_the_defining_sum(case, block, rng, monkeypatch):
    monkeypatch.setattr(convolutions, "BLOCK", {False: block, True: block})
    size, window, channels, outs, groups, stride, padding, dilation = case
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x = rng.standard_normal((5, *size, channels))
    w = rng.standard_normal((*window, channels // groups, outs))
    y = conv_p(x, w, **options)
    g = rng.standard_normal(y.shape)
    # sums of products of standard normal numbers: rounding grows with the root of their number
    terms = max(w[..., 0].size, y[..., 0].size, outs * w[..., 0, 0].size)
    tol = 64 * EPS * terms**0.5
    assert_close(y, ORACLES["conv"](x, w, **options), tol)
    back = conv_input_p(g, w, size=size, **options)
    assert_close(back, ORACLES["conv_input"](g, w, size=size, **options), tol)
    kernel = conv_kernel_p(x, g, size=window, **options)
    assert_close(kernel, ORACLES["conv_kernel"](x, g, size=window, **options), tol)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_operands_meet_real_and_complex_ones(dtype, rng):
    real = np.zeros(0, dtype).real.dtype
    x = (rng.standard_normal((2, 5, 4, 2)) + 1j * rng.standard_normal((2, 5, 4, 2))).astype(dtype)
    w = rng.standard_normal((2, 3, 2, 3)).astype(real)
    y = nm.nn.conv(x, w, padding=1)
    assert y.dtype == dtype
    tol = 64 * np.finfo(dtype).eps
    assert_close(y.real, nm.nn.conv(x.real.copy(), w, padding=1), tol)
    assert_close(y.imag, nm.nn.conv(x.imag.copy(), w, padding=1), tol)
    turned = nm.nn.conv_transpose(x, 1j * w, stride=2)
    assert turned.dtype == dtype
    assert_close(turned.imag, nm.nn.conv_transpose(x.real.copy(), w, stride=2), tol)


def test_complex_step_differentiates_a_convolutional_network(rng):
    x, w = rng.standard_normal((2, 6, 6, 2)), rng.standard_normal((3, 3, 2, 3))

    def f(w):
        y = nm.nn.max_pool(nm.nn.relu(nm.nn.conv(x, w, padding=1)), 2)
        return nm.nn.avg_pool(y, 3, stride=1, padding=1).sum()

    v = rng.standard_normal(w.shape)
    want = np.sum(nm.grad(f)(w) * v)
    assert abs(f(w + 1e-30j * v).imag / 1e-30 - want) <= 1e3 * EPS * scale(want)


# ------------------------------------------------------------------------------ identities
def test_convolution_is_the_matrix_of_its_windows(rng):
    """One image, every entry of a dense matrix: rows are places of the kernel."""
    x, w = rng.standard_normal((1, 4, 5, 2)), rng.standard_normal((2, 3, 2, 3))
    jacobian = nm.jacobian(lambda x: nm.nn.conv(x, w))(x)
    matrix = jacobian.reshape(3 * 3 * 3, 4 * 5 * 2)
    for i, j, o in itertools.product(range(3), range(3), range(3)):
        row = np.zeros((4, 5, 2))
        row[i : i + 2, j : j + 3] = w[..., o]
        assert np.array_equal(matrix[(i * 3 + j) * 3 + o], row.ravel())
    assert_close(nm.nn.conv(x, w).ravel(), matrix @ x.ravel(), 32 * EPS)


@pytest.mark.parametrize("stride", [1, 2, (3, 1)])
@pytest.mark.parametrize("padding", [0, 1, ((0, 2), (1, 0))])
def test_transposed_convolution_is_the_adjoint(stride, padding, rng):
    x, w = rng.standard_normal((2, 7, 6, 3)), rng.standard_normal((3, 2, 3, 4))
    y = nm.nn.conv(x, w, stride=stride, padding=padding)
    g = rng.standard_normal(y.shape)
    v = np.swapaxes(w, -1, -2)
    shortest = nm.nn.conv_transpose(g, v, stride=stride, padding=padding)
    more = tuple(a - b for a, b in zip(x.shape[1:3], shortest.shape[1:3], strict=True))
    back = nm.nn.conv_transpose(g, v, stride=stride, padding=padding, output_padding=more)
    assert back.shape == x.shape
    assert abs(np.sum(y * g) - np.sum(x * back)) <= 1e3 * EPS
    pulled = nm.vjp(lambda x: nm.nn.conv(x, w, stride=stride, padding=padding), x)[1](g)[0]
    assert np.array_equal(pulled, back)


def test_full_convolution_of_signals_is_the_turned_kernel(rng):
    x, w = rng.standard_normal(9), rng.standard_normal(4)
    y = nm.nn.conv(x[:, None], w[::-1, None, None], padding=3)[:, 0]
    assert_close(y, np.convolve(x, w), 32 * EPS)
    y = nm.nn.conv_transpose(x[:, None], w[:, None, None])[:, 0]
    assert_close(y, np.convolve(x, w), 32 * EPS)


def test_kernel_of_length_one_is_a_dense_layer(rng):
    x, w, b = (rng.standard_normal(s) for s in [(3, 4, 5, 6), (6, 7), (7,)])
    assert_close(nm.nn.conv(x, w[None, None], b), nm.nn.Dense(w, b)(x), 32 * EPS)


def test_groups_are_separate_convolutions_side_by_side(rng):
    x, w = rng.standard_normal((2, 5, 5, 6)), rng.standard_normal((3, 2, 2, 9))
    y = nm.nn.conv(x, w, groups=3, stride=2)
    for k in range(3):
        part = nm.nn.conv(x[..., 2 * k : 2 * k + 2], w[..., 3 * k : 3 * k + 3], stride=2)
        assert_close(y[..., 3 * k : 3 * k + 3], part, 32 * EPS)
    z = nm.nn.conv_transpose(x, w, groups=3, stride=2)
    for k in range(3):
        part = nm.nn.conv_transpose(x[..., 2 * k : 2 * k + 2], w[..., 3 * k : 3 * k + 3], stride=2)
        assert_close(z[..., 3 * k : 3 * k + 3], part, 32 * EPS)


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize(("window", "dilation"), [(1, 1), (2, 1), (3, 1), (4, 1), (3, 2)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_padding_gives_as_many_windows_as_strides(size, window, dilation, stride, rng):
    x, w = rng.standard_normal((size, 2)), rng.standard_normal((window, 2, 3))
    y = nm.nn.conv(x, w, stride=stride, padding="same", dilation=dilation)
    assert y.shape == (-(-size // stride), 3)
    if stride == 1:
        reach = dilation * (window - 1)
        want = nm.nn.conv(x, w, padding=((reach // 2, reach - reach // 2),), dilation=dilation)
        assert np.array_equal(y, want)


def test_axes_of_examples_may_be_any_number(rng):
    x, w, b = (rng.standard_normal(s) for s in [(2, 3, 6, 5, 2), (3, 2, 2, 4), (4,)])
    y = nm.nn.conv(x, w, b, padding=1)
    t = nm.nn.conv_transpose(x, w, b, stride=2)
    for i, j in itertools.product(range(2), range(3)):
        assert_close(y[i, j], nm.nn.conv(x[i, j], w, b, padding=1), 32 * EPS)
        assert_close(t[i, j], nm.nn.conv_transpose(x[i, j], w, b, stride=2), 32 * EPS)
    pooled = nm.nn.max_pool(x, (2, 2))
    assert pooled.shape == (2, 3, 3, 2, 2)
    assert np.array_equal(pooled[1, 2], nm.nn.max_pool(x[1, 2], (2, 2)))
    assert nm.nn.avg_pool(x[0, 0], (2, 2)).shape == (3, 2, 2)
    assert nm.nn.adaptive_avg_pool(x, (2, 2)).shape == (2, 3, 2, 2, 2)


@pytest.mark.parametrize("n", [0, 1])
def test_no_examples_and_one_work(n, rng):
    x, w = rng.standard_normal((n, 6, 5, 2)), rng.standard_normal((3, 2, 2, 4))
    assert nm.nn.conv(x, w).shape == (n, 4, 4, 4)
    assert nm.nn.conv_transpose(x, w, stride=2).shape == (n, 13, 10, 4)
    assert nm.nn.max_pool(x, 2).shape == (n, 3, 2, 2)
    assert nm.nn.avg_pool(x, 2, padding=1).shape == (n, 4, 3, 2)
    assert nm.nn.adaptive_avg_pool(x, 2).shape == (n, 2, 2, 2)
    assert nm.nn.global_avg_pool(x).shape == (n, 2)
    assert nm.nn.Flatten()(x).shape == (n, 60)
    gx, gw = nm.grad(lambda x, w: nm.nn.max_pool(nm.nn.conv(x, w), 2).sum(), argnums=(0, 1))(x, w)
    assert gx.shape == x.shape
    assert gw.shape == w.shape
    assert n or not gw.any()


# ------------------------------------------------------------------------------ pooling
def windows_of(n, k, s, p, d, ceil):
    """The entries of each window: all that are whole, then one more for entries left over, if it starts in x."""
    found, start = [], -p
    while start + d * (k - 1) < n + p:
        found.append([start + d * j for j in range(k)])
        start += s
    if ceil and found[-1][-1] < n + p - 1 and start < n:
        found.append([start + d * j for j in range(k)])
    return found


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize(
    ("k", "s", "p", "d"), [(2, 2, 0, 1), (3, 2, 1, 1), (3, 1, 1, 2), (2, 3, 1, 1)]
)
def test_pooling_is_its_definition(k, s, p, d, ceil, rng):
    for n in range(4, 9):
        x = rng.standard_normal((n, 2))
        every = windows_of(n, k, s, p, d, ceil)
        real = [[i for i in w if 0 <= i < n] for w in every]
        got = nm.nn.max_pool(x, (k,), stride=s, padding=p, dilation=d, ceil_mode=ceil)
        want = [x[w].max(axis=0) if w else np.full(2, -np.inf) for w in real]
        assert np.array_equal(got, np.array(want))
        if d > 1:
            continue
        got = nm.nn.avg_pool(x, (k,), stride=s, padding=p, ceil_mode=ceil)
        counted = [len([i for i in w if i < n + p]) for w in every]
        want = [x[w].sum(axis=0) / c for w, c in zip(real, counted, strict=True)]
        assert_close(got, np.array(want), 8 * EPS * scale(x))
        got = nm.nn.avg_pool(x, (k,), stride=s, padding=p, ceil_mode=ceil, count_include_pad=False)
        assert_close(got, np.array([x[w].mean(axis=0) for w in real]), 8 * EPS * scale(x))


def test_tied_entries_share_the_derivative_equally():
    x = np.array([[3.0, 3.0, 1.0], [0.0, 3.0, 2.0]])[None, :, :, None]
    g = nm.grad(lambda x: nm.nn.max_pool(x, 2, stride=1).sum())(x)[0, :, :, 0]
    third, half = 1 / 3, 1 / 2  # three in the first window, two in the second
    assert_close(g, np.array([[third, third + half, 0.0], [0.0, third + half, 0.0]]), 2 * EPS)
    t = nm.jvp(lambda x: nm.nn.max_pool(x, 2), (x,), (np.arange(6.0).reshape(x.shape),))[1]
    assert_close(t.ravel(), np.array([(0 + 1 + 4) / 3]), 4 * EPS)


def test_nan_is_the_largest_entry_and_infinity_below_all_is_kept():
    x = np.array([1.0, np.nan, 2.0, 3.0, -np.inf, -np.inf])[None, :, None]
    assert np.array_equal(
        nm.nn.max_pool(x, 2)[0, :, 0], np.array([np.nan, 3.0, -np.inf]), equal_nan=True
    )


def test_entries_in_no_window_are_structural_zeros():
    x = np.array([1.0, 4.0, 9.0, 16.0, 0.0])[None, :, None]
    with np.errstate(all="ignore"):
        g = nm.grad(lambda x: nm.nn.max_pool(np.sqrt(x), 2).sum())(x)
        assert np.array_equal(g[0, :, 0], np.array([0.0, 0.25, 0.0, 0.125, 0.0]))
        g = nm.grad(lambda x: nm.nn.max_pool(np.sqrt(x[:, ::-1]), 2, padding=1).sum())(x)
        assert np.array_equal(g[0, :, 0], [0.0, 0.25, 0.0, 0.125, np.inf])


def test_means_of_all_positions_agree(rng):
    x = rng.standard_normal((3, 5, 4, 2))
    want = x.mean(axis=(1, 2))
    assert_close(nm.nn.global_avg_pool(x), want, 8 * EPS)
    assert_close(nm.nn.adaptive_avg_pool(x, 1)[:, 0, 0], want, 8 * EPS)
    assert_close(nm.nn.avg_pool(x, (5, 4))[:, 0, 0], want, 8 * EPS)
    assert np.array_equal(nm.nn.adaptive_avg_pool(x, (5, 4)), x)


# ------------------------------------------------------------------------------ layers
def network(rng, dtype=np.float64):
    """A stack with every kind of layer of this file."""
    return [
        nm.nn.Conv2d.init((2, 4), 2, padding="same", rng=rng, dtype=dtype),
        nm.nn.MaxPool2d(2),
        nm.nn.Conv2d.init((4, 4), (2, 3), stride=(1, 2), padding=1, groups=2, rng=rng, dtype=dtype),
        nm.nn.ConvTranspose2d.init((4, 3), 3, stride=2, output_padding=1, rng=rng, dtype=dtype),
        nm.nn.AvgPool2d(3, stride=2, padding=1),
        nm.nn.AdaptiveAvgPool2d((2, 3)),
        nm.nn.Flatten(),
    ]


LAYERS = {
    "Conv1d": (
        lambda r, t: nm.nn.Conv1d.init((2, 3), 3, stride=2, padding=1, rng=r, dtype=t),
        (2, 7, 2),
    ),
    "Conv1d, depthwise": (
        lambda r, t: nm.nn.Conv1d.init((3, 3), 2, dilation=2, groups=3, rng=r, dtype=t),
        (2, 6, 3),
    ),
    "Conv2d": (
        lambda r, t: nm.nn.Conv2d.init((2, 4), 3, padding="same", rng=r, dtype=t),
        (2, 4, 5, 2),
    ),
    "Conv2d, groups": (
        lambda r, t: nm.nn.Conv2d.init((4, 2), (3, 2), stride=2, groups=2, rng=r, dtype=t),
        (2, 5, 4, 4),
    ),
    "ConvTranspose1d": (
        lambda r, t: nm.nn.ConvTranspose1d.init((2, 3), 4, stride=2, padding=1, rng=r, dtype=t),
        (2, 4, 2),
    ),
    "ConvTranspose2d": (
        lambda r, t: nm.nn.ConvTranspose2d.init(
            (4, 2), 3, stride=2, padding=1, output_padding=1, groups=2, rng=r, dtype=t
        ),
        (2, 3, 2, 4),
    ),
    "MaxPool1d": (lambda r, t: nm.nn.MaxPool1d(3, 2, 1), (2, 7, 2)),
    "MaxPool2d": (lambda r, t: nm.nn.MaxPool2d(2, ceil_mode=True), (2, 5, 4, 2)),
    "AvgPool1d": (lambda r, t: nm.nn.AvgPool1d(3, 2, 1, count_include_pad=False), (2, 7, 2)),
    "AvgPool2d": (lambda r, t: nm.nn.AvgPool2d((2, 3), padding=1), (2, 4, 5, 2)),
    "AdaptiveAvgPool1d": (lambda r, t: nm.nn.AdaptiveAvgPool1d(3), (2, 7, 2)),
    "AdaptiveAvgPool2d": (lambda r, t: nm.nn.AdaptiveAvgPool2d((3, 2)), (2, 5, 4, 2)),
    "GlobalAvgPool": (lambda r, t: nm.nn.GlobalAvgPool(), (2, 4, 3, 2)),
    "Flatten": (lambda r, t: nm.nn.Flatten(), (2, 2, 3, 2)),
    "stack": (
        lambda r, t: nm.nn.Sequential(tuple(network(r, t))),
        (1, 4, 4, 2),
    ),
}


def made(name, dtype, rng):
    make, shape = LAYERS[name]
    return make(rng, dtype), rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("name", LAYERS)
def test_layer_passes_the_check_of_derivatives_in_both_modes(name, rng):
    layer, x = made(name, np.float64, rng)
    order = 1 if name == "stack" else 2  # of whose layers each is checked to the second
    if nm.tree_leaves(layer):
        nm.check_grads(lambda m, x: np.sum(np.sin(m(x))), (layer, x), order=order)
    else:
        nm.check_grads(lambda x: np.sum(np.sin(layer(x))), (x,), order=order)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LAYERS)
def test_layer_keeps_its_dtype_and_is_the_same_staged_mapped_and_saved(name, dtype, rng, tmp_path):
    layer, x = made(name, dtype, rng)
    y = layer(x)
    assert y.dtype == dtype
    tol = 64 * np.finfo(dtype).eps * scale(y)

    def number(m, x):
        return np.sum(np.sin(m(x)))

    assert np.array_equal(nm.stage(lambda m, x: m(x), layer, x)(layer, x), y)
    nm.save(tmp_path / "layer.npz", layer)
    again = nm.load(tmp_path / "layer.npz")
    assert repr(again) == repr(layer)
    assert np.array_equal(again(x), y)
    g = nm.grad(number, argnums=1)(layer, x)
    assert g.dtype == dtype
    many = np.stack([x, 2 * x, x[::-1]])
    mapped = nm.vmap(lambda x: layer(x))(many)
    assert_close(mapped, np.stack([layer(x) for x in many]), 2 * tol)
    if not nm.tree_leaves(layer):
        return
    for leaf in nm.tree_leaves(nm.grad(number)(layer, x)):
        assert leaf.dtype == dtype
    # parameters of several models, with one input and with one input each
    models = nm.tree_map(lambda w: np.stack([w, -w, 2 * w]), layer)
    one = [nm.tree_map(lambda w, i=i: w[i], models) for i in range(3)]
    got = nm.vmap(lambda m: m(x))(models)
    assert_close(got, np.stack([m(x) for m in one]), 2 * tol)
    got = nm.vmap(lambda m, x: m(x))(models, many)
    assert_close(got, np.stack([m(x) for m, x in zip(one, many, strict=True)]), 4 * tol)
    gradients = nm.vmap(nm.grad(number))(models, many)
    for i, m in enumerate(one):
        pairs = zip(
            nm.tree_leaves(gradients), nm.tree_leaves(nm.grad(number)(m, many[i])), strict=True
        )
        for a, b in pairs:
            assert_close(a[i], b, 1e3 * np.finfo(dtype).eps * scale(b))


def test_gradients_of_examples_are_those_of_single_ones(rng):
    layer = nm.nn.Conv2d.init((2, 4), 3, padding=1, rng=rng)
    x = rng.standard_normal((5, 6, 5, 2))

    def number(m, x):
        return np.sum(np.sin(m(x)))

    every = nm.vmap(nm.grad(number), in_axes=(None, 0))(layer, x)
    for i in range(5):
        single = nm.grad(number)(layer, x[i])
        assert_close(every.weight[i], single.weight, 1e3 * EPS)
        assert_close(every.bias[i], single.bias, 1e3 * EPS)


def test_layer_in_a_scan_is_the_layer_in_a_loop(rng):
    layer = nm.nn.Conv1d.init((3, 3), 3, padding="same", rng=rng)
    x = rng.standard_normal((2, 8, 3))

    def run(layer):
        return np.sum(nm.scan(lambda h, _: (np.tanh(layer(h)), None), x, None, length=4)[0])

    def loop(layer):
        h = x
        for _ in range(4):
            h = np.tanh(layer(h))
        return np.sum(h)

    a, b = nm.grad(run)(layer), nm.grad(loop)(layer)
    assert_close(a.weight, b.weight, 1e3 * EPS)
    assert_close(a.bias, b.bias, 1e3 * EPS)


def test_layers_print_what_they_are():
    layer = nm.nn.Conv2d.init((1, 2), (3, 2), stride=2, bias=False, rng=0, dtype=np.float32)
    assert (
        repr(layer) == "Conv2d(weight: float32 array of shape (3, 2, 1, 2), bias: None, stride=2)"
    )
    assert repr(nm.nn.MaxPool2d(2)).startswith("MaxPool2d(window=2, stride=None, padding=0")
    assert repr(nm.nn.ConvTranspose1d.init((1, 2), 3, output_padding=0, rng=0)) == (
        "ConvTranspose1d(weight: float64 array of shape (3, 1, 2), bias: float64 array of shape (2,))"
    )


def test_weights_of_a_kernel_have_the_variance_of_their_sums():
    layer = nm.nn.Conv2d.init((64, 128), (3, 5), groups=4, rng=0)
    assert layer.weight.shape == (3, 5, 16, 128)
    assert not layer.bias.any()
    n = layer.weight.size
    # the variance of n squares of normal numbers is 2 / n of the square; five of its roots
    assert abs(layer.weight.var() * (3 * 5 * 16) / 2 - 1) <= 5 * (2 / n) ** 0.5
    other = nm.nn.Conv2d.init((64, 128), (3, 5), groups=4, rng=0, init=nm.nn.glorot_uniform)
    # an output of its group sums 3 * 5 * 16 terms, a gradient of an input 3 * 5 * 32
    bound = (6 / (3 * 5 * (16 + 128))) ** 0.5
    assert abs(other.weight).max() <= bound
    assert abs(other.weight).max() > 0.99 * bound


# ------------------------------------------------------------------------------ cost
def seconds(f, repeats=5):
    """The least process time of a call."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        f()
        found.append(time.process_time() - start)
    return min(found)


@pytest.mark.parametrize("shape", [(64, 16, 16, 16), (1, 130, 120, 16)])
def test_convolution_never_holds_all_windows(shape, rng):
    x, w = rng.standard_normal(shape), rng.standard_normal((3, 3, 16, 16))
    y, pull = nm.vjp(lambda w: nm.nn.conv(x, w), w)
    windows = 9 * y.nbytes  # 16 channels in, 16 out
    block = 8 * convolutions.BLOCK[False]
    assert windows > 10 * block
    for f, result in ((lambda: nm.nn.conv(x, w), y), (lambda: pull(y)[0], w)):
        tracemalloc.start()
        f()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= 2 * result.nbytes + 2 * block


def test_batches_have_a_higher_throughput_than_single_images(rng):
    """Images a second of a gradient, one by one and in batches: measured, with a wide margin."""
    layer = nm.nn.Conv2d.init((1, 8), 3, rng=rng, dtype=np.float32)
    x = rng.standard_normal((32, 12, 12, 1)).astype(np.float32)

    def number(m, x):
        return np.sum(nm.nn.max_pool(nm.nn.relu(m(x)), 2))

    gradient = nm.grad(number)

    def by(size):
        return [gradient(layer, x[i : i + size]).weight for i in range(0, 32, size)]

    want = by(32)[0]
    for size in (1, 4):  # the same gradient, whatever the batches
        tol = 64 * np.finfo(np.float32).eps * 3200**0.5  # sums of 100 * 32 terms
        assert_close(sum(by(size)), want, tol)
    images = {size: 32 / max(seconds(lambda: by(size)), 1e-6) for size in (1, 32)}  # noqa: B023
    assert images[32] > 2 * images[1]  # ten times as many, when nothing else runs


# ------------------------------------------------------------------------------ bad input
IMAGE = np.ones((2, 6, 5, 4))
KERNEL = np.ones((3, 3, 4, 6))
CONV2D = nm.nn.Conv2d(KERNEL, np.zeros(6))

BAD = [
    (lambda: nm.nn.conv(IMAGE, np.ones((7, 3, 4, 6))), ShapeError,
     r"conv: `kernel` must be at most 6 long along axis 0 of positions, as padded `x` is there, got 7\. Pad it"),
    (lambda: nm.nn.conv(IMAGE, KERNEL, dilation=(1, 3)), ShapeError,
     r"conv: `kernel` must be at most 5 long along axis 1 .* got 7 \(3 entries, 3 apart\)"),
    (lambda: CONV2D(np.ones((2, 2, 2, 4))), ShapeError, r"Conv2d: `weight` must be at most 2 long"),
    (lambda: nm.nn.conv(np.ones((2, 0, 5, 4)), KERNEL), ShapeError, r"at most 0 long along axis 0"),
    (lambda: nm.nn.conv(IMAGE, np.ones((3, 3, 3, 6))), ShapeError,
     r"conv: `x` must be of shape \(\.\.\., 3\), the channels last, got \(2, 6, 5, 4\)\. `kernel` \(3, 3, 3, 6\) take"),
    (lambda: nm.nn.conv(IMAGE, np.ones((3, 3, 2, 5)), groups=2), ShapeError,
     r"conv: `groups` must be a divisor of the 5 channels of the output, got 2\."),
    (lambda: nm.nn.conv(np.ones((1, 6, 5, 4), np.uint8), KERNEL.astype("f4")), DtypeError,
     r"conv: `x` must be a float32 or float64 array, got uint8 .*`x\.astype\(float32\)`, as `kernel` is"),
    (lambda: nm.nn.conv(IMAGE, KERNEL, groups=3), ShapeError, r"`x` must be of shape \(\.\.\., 12\)"),
    (lambda: nm.nn.conv(IMAGE, KERNEL, groups=0), DomainError, r"`groups` must be a positive integer, got 0"),
    (lambda: nm.nn.conv(IMAGE, KERNEL, groups=1.0), DtypeError, r"`groups` must be a positive integer, got 1\.0"),
    (lambda: nm.nn.conv(IMAGE, KERNEL, stride=0), DomainError, r"conv: `stride` must be a positive integer, got 0"),
    (lambda: nm.nn.conv(IMAGE, KERNEL, stride=(1, -1)), DomainError, r"conv: `stride\[1\]` must be a positive integer"),
    (lambda: nm.nn.conv(IMAGE, KERNEL, stride=(1, 1, 1)), ShapeError,
     r"conv: `stride` must be an integer or 2 of them"),
    (lambda: nm.nn.conv(IMAGE, KERNEL, dilation=0), DomainError, r"conv: `dilation` must be a positive integer"),
    (lambda: nm.nn.conv(IMAGE, KERNEL, padding=-1), DomainError, r"conv: `padding` must be an integer >= 0, got -1"),
    (lambda: nm.nn.conv(IMAGE, KERNEL, padding=(1,)), ShapeError,
     r"conv: `padding` must be an integer, or an integer or a"),
    (lambda: nm.nn.conv(IMAGE, KERNEL, padding=((1, 2, 3), 0)), ShapeError,
     r"`padding\[0\]` must be an integer or a pair"),
    (lambda: nm.nn.conv(IMAGE, KERNEL, padding="full"), DomainError,
     r"conv: `padding` must be 'valid', 'same', an integer"),
    (lambda: nm.nn.conv(IMAGE, KERNEL, padding=1.5), DtypeError,
     r"conv: `padding` must be 'valid', 'same', an integer >= 0"),
    (lambda: nm.nn.conv(IMAGE, np.ones((4, 6))), ShapeError,
     r"conv: `kernel` must be of shape \(\*window, in / groups"),
    (lambda: nm.nn.conv(IMAGE, np.ones((0, 3, 4, 6))), ShapeError,
     r"a window of at least one entry, got \(0, 3, 4, 6\)"),
    (lambda: nm.nn.conv(np.ones((6, 5)), np.ones((3, 3, 1, 2))), ShapeError,
     r"conv: `x` must be of shape \(\.\.\., size, size, in\): 3 axes or more, got \(6, 5\)\. One channel"),
    (lambda: nm.nn.conv(IMAGE, KERNEL, np.zeros(5)), ShapeError, r"conv: `bias` must be of shape \(6,\), got \(5,\)"),
    (lambda: nm.nn.conv(IMAGE, KERNEL.astype(np.float32)), DtypeError,
     r"conv: `x` must be float32 as `kernel` is, got float64"),
    (lambda: nm.nn.conv(IMAGE.astype(int), KERNEL), DtypeError,
     r"conv: `x` must be a float32 or float64 array, got int64"),
    (lambda: nm.nn.conv(IMAGE, KERNEL, np.zeros(6, np.float32)), DtypeError,
     r"conv: `bias` must be float64 as `kernel`"),
    (lambda: nm.nn.conv(IMAGE.tolist(), KERNEL), DtypeError,
     r"conv: `x` must be a float32 or float64 array, got a list"),
    (lambda: nm.nn.conv_transpose(IMAGE, KERNEL, stride=2, output_padding=2), DomainError,
     r"conv_transpose: `output_padding` must be less than stride 2 or dilation 1 along axis 0 of positions, got 2"),
    (lambda: nm.nn.conv_transpose(IMAGE, KERNEL, output_padding=-1), DomainError,
     r"`output_padding` must be an integer >= 0"),
    (lambda: nm.nn.conv_transpose(IMAGE, KERNEL, padding=4), ShapeError,
     r"conv_transpose: `padding` must be small enough to leave a position of the result, got .* It would leave"),
    (lambda: nm.nn.conv_transpose(IMAGE, KERNEL, padding="same"), DomainError,
     r"conv_transpose: `padding` must be an integer"),
    (lambda: nm.nn.conv_transpose(np.ones((2, 0, 5, 4)), KERNEL), ShapeError, r"`x` must be of at least one position"),
    (lambda: nm.nn.conv_transpose(IMAGE, np.ones((3, 3, 5, 6))), ShapeError,
     r"conv_transpose: `x` must be of shape \(\.\.\., 5\)"),
    (lambda: CONV2D(np.ones((6, 4))), ShapeError,
     r"Conv2d: `x` must be of shape \(n, h, w, c\), or \(h, w, c\) for one"),
    (lambda: nm.nn.Conv1d(KERNEL, None)(IMAGE), ShapeError,
     r"Conv1d: `weight` must be of shape \(k, in / groups, out\)"),
    (lambda: nm.nn.Conv2d.init(3, 3), ShapeError, r"Conv2d\.init: `sizes` must be a pair \(in, out\), got 3"),
    (lambda: nm.nn.Conv2d.init((3, 0), 3), DomainError,
     r"Conv2d\.init: `sizes\[1\]` must be a positive integer, got 0"),
    (lambda: nm.nn.Conv2d.init((3, 4), (3, 3, 3)), ShapeError,
     r"Conv2d\.init: `kernel` must be an integer or 2 of them"),
    (lambda: nm.nn.Conv2d.init((3, 4), 0), DomainError, r"Conv2d\.init: `kernel` must be a positive integer, got 0"),
    (lambda: nm.nn.Conv2d.init((3, 4), 3, groups=2), ShapeError, r"`groups` must be a divisor of the 3 and 4 channels"),
    (lambda: nm.nn.Conv2d.init((3, 4), 3, stride=-1), DomainError,
     r"Conv2d\.init: `stride` must be a positive integer"),
    (lambda: nm.nn.Conv2d.init((3, 4), 3, padding="circular"), DomainError, r"Conv2d\.init: `padding` must be 'valid'"),
    (lambda: nm.nn.Conv2d.init((3, 4), 3, dtype=int), DtypeError, r"`dtype` must be float32 or float64, got int64"),
    (lambda: nm.nn.Conv2d.init((3, 4), 3, init=lambda s, rng, dtype: np.ones((3, 4))), ShapeError,
     r"`init\(\.\.\.\)` must be"),
    (lambda: nm.nn.ConvTranspose2d.init((3, 4), 3, output_padding=-1), DomainError,
     r"`output_padding` must be an integer >= 0"),
    (lambda: nm.nn.max_pool(IMAGE, 7), ShapeError,
     r"max_pool: `window` must be at most 6 long along axis 0 of positions"),
    (lambda: nm.nn.max_pool(IMAGE, 2, padding=2), DomainError,
     r"max_pool: `padding` must be at most 1 at each end of axis 0"),
    (lambda: nm.nn.max_pool(IMAGE, 0), DomainError, r"max_pool: `window` must be a positive integer, got 0"),
    (lambda: nm.nn.max_pool(IMAGE, 2, stride=0), DomainError, r"max_pool: `stride` must be a positive integer, got 0"),
    (lambda: nm.nn.max_pool(IMAGE[0, 0], 2), ShapeError,
     r"max_pool: `x` must be of shape \(n, \*size, c\), got \(5, 4\)"),
    (lambda: nm.nn.max_pool(IMAGE[0], (2, 2, 2)), ShapeError,
     r"max_pool: `x` must be of at least 4 axes, got \(6, 5, 4\)"),
    (lambda: nm.nn.max_pool(IMAGE.astype(int), 2), DtypeError, r"max_pool: `x` must be a float32 or float64 array"),
    (lambda: nm.nn.avg_pool(np.ones((2, 0, 5, 4)), 2), ShapeError, r"avg_pool: `x` must be of at least one position"),
    (lambda: nm.nn.avg_pool(IMAGE, (7, 1), padding=(0, 0)), ShapeError, r"avg_pool: `window` must be at most 6 long"),
    (lambda: nm.nn.adaptive_avg_pool(IMAGE, 0), DomainError, r"adaptive_avg_pool: `size` must be a positive integer"),
    (lambda: nm.nn.adaptive_avg_pool(np.ones((2, 0, 4)), 1), ShapeError, r"`x` must be of at least one position along"),
    (lambda: nm.nn.global_avg_pool(np.ones((2, 4))), ShapeError,
     r"global_avg_pool: `x` must be of shape \(n, \*size, c\)"),
    (lambda: nm.nn.MaxPool2d(2)(IMAGE[0, 0]), ShapeError,
     r"MaxPool2d: `x` must be of shape \(n, h, w, c\), or \(h, w, c\)"),
    (lambda: nm.nn.MaxPool2d((2, 2, 2))(IMAGE), ShapeError, r"MaxPool2d: `window` must be an integer or 2 of them"),
    (lambda: nm.nn.AvgPool1d(9)(IMAGE[0]), ShapeError, r"AvgPool1d: `window` must be at most 5 long"),
    (lambda: nm.nn.AdaptiveAvgPool2d(-1)(IMAGE), DomainError, r"AdaptiveAvgPool2d: `size` must be a positive integer"),
    (lambda: nm.nn.GlobalAvgPool()(IMAGE.astype(int)), DtypeError, r"GlobalAvgPool: `x` must be a float32 or float64"),
    (lambda: nm.nn.Flatten()(np.float64(1.0)), ShapeError, r"Flatten: `x` must be of shape \(n, \.\.\.\), got \(\)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), BAD, ids=range(len(BAD)))
def test_bad_input_is_one_clear_error(call, error, words):
    with pytest.raises(error, match=words):
        call()
