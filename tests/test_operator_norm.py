"""The operator norm of convolutions: published numbers, dense matrices, and bounds that hold in floating point."""

import math

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError, ShapeError, TraceError
from nnmath_core.nn import operator_norm, symbol

norm_of = nm.nn.conv_operator_norm
ONES = np.ones((3, 3, 1, 1))
EPS = np.finfo(np.float64).eps


@pytest.fixture
def rng():
    return np.random.default_rng(20261126)


def matrix_of(kernel, sizes, *, stride=1, padding="circular", dilation=1, groups=1):
    """The map as a matrix (inputs, outputs), window by window."""
    d = kernel.ndim - 2
    stride, dilation = ((v,) * d if isinstance(v, int) else v for v in (stride, dilation))
    spans = [m * (k - 1) + 1 for k, m in zip(kernel.shape[:d], dilation, strict=True)]
    if padding in ("circular", "same"):
        total = [
            max((math.ceil(n / s) - 1) * s + k - n, 0)
            for n, k, s in zip(sizes, spans, stride, strict=True)
        ]
        pads = [(t // 2, t - t // 2) for t in total]
    elif padding == "valid":
        pads = [(0, 0)] * d
    else:
        pads = [
            p if isinstance(p, tuple) else (p, p)
            for p in (padding if isinstance(padding, tuple) else [padding] * d)
        ]
    counts = [
        (n + sum(p) - k) // s + 1 for n, p, k, s in zip(sizes, pads, spans, stride, strict=True)
    ]
    ins, outs = kernel.shape[-2], kernel.shape[-1] // groups
    out = np.zeros((*sizes, groups * ins, *counts, groups * outs))
    for t in np.ndindex(*counts):
        for k in np.ndindex(*kernel.shape[:d]):
            at = [
                i * s + j * m - p[0]
                for i, j, s, m, p in zip(t, k, stride, dilation, pads, strict=True)
            ]
            if padding == "circular":
                at = [a % n for a, n in zip(at, sizes, strict=True)]
            elif not all(0 <= a < n for a, n in zip(at, sizes, strict=True)):
                continue
            for g in range(groups):
                rows, columns = slice(g * ins, (g + 1) * ins), slice(g * outs, (g + 1) * outs)
                out[(*at, rows, *t, columns)] += kernel[k][:, columns]
    return out.reshape(math.prod(sizes) * groups * ins, -1)


# ------------------------------------------------------------------------------------ published numbers
def test_nine_ones_on_a_torus_have_norm_nine_and_not_three():
    found = norm_of(ONES, (16, 16))
    assert found.value == pytest.approx(9.0, rel=1e-14)
    assert found.lower <= 9.0 <= found.upper
    assert np.linalg.norm(ONES.reshape(9, 1), 2) == pytest.approx(3.0)


@pytest.mark.parametrize("dense", [0, 1024])
def test_nine_ones_with_zeros_around_have_the_norm_of_the_published_formula(dense, monkeypatch):
    monkeypatch.setattr(operator_norm, "_DENSE", dense)
    want = (1 + 2 * math.cos(math.pi / 17)) ** 2
    found = norm_of(ONES, (16, 16), padding="same")
    assert want == pytest.approx(8.79683685754, rel=1e-12)
    assert found.value == pytest.approx(want, rel=1e-13)
    assert found.lower <= want <= found.upper
    assert found.upper - found.lower < 1e-9


def test_sequence_of_ones_has_the_eigenvalue_of_its_tridiagonal_matrix():
    found = norm_of(np.ones((3, 1, 1)), 40, padding=1)
    assert found.value == pytest.approx(1 + 2 * math.cos(math.pi / 41), rel=1e-13)


# ------------------------------------------------------------------------------------ dense matrices
CONFIGURATIONS = [
    ((3, 3, 4, 5), (9, 8), {}),
    ((3, 3, 4, 5), (9, 8), {"padding": "same"}),
    ((3, 3, 5, 2), (9, 8), {"padding": "valid"}),
    ((3, 3, 4, 5), (9, 8), {"padding": 2, "stride": 2}),
    ((3, 2, 2, 6), (9, 8), {"padding": ((1, 0), (2, 1)), "stride": (2, 1), "dilation": (1, 2), "groups": 2}),
    ((4, 4, 5), (20,), {"padding": "same", "stride": 3}),
    ((3, 3, 2, 3), (8, 6), {"stride": 2}),
    ((3, 3, 2, 3), (9, 7), {"stride": 2}),
    ((3, 3, 2, 3), (2, 2), {"padding": "same"}),
    ((3, 3, 2, 3), (2, 2), {"padding": "circular"}),
    ((5, 3, 3), (20,), {"dilation": 2}),
    ((5, 3, 3), (20,), {"dilation": 3, "padding": "same"}),
    ((3, 3, 2, 3), (9, 7), {"padding": 5}),
    ((1, 1, 3, 4), (5, 5), {"stride": 2, "padding": "valid"}),
    ((2, 3, 2, 2, 1), (4, 3, 5), {"padding": "same"}),
    ((3, 3, 1, 6), (6, 5), {"padding": 1, "groups": 3}),
]  # fmt: skip


@pytest.mark.parametrize("dense", [0, 1024], ids=["by Lanczos", "dense"])
@pytest.mark.parametrize(("shape", "sizes", "options"), CONFIGURATIONS)
def test_value_is_the_largest_singular_value_and_between_the_bounds(
    shape, sizes, options, dense, rng, monkeypatch
):
    monkeypatch.setattr(operator_norm, "_DENSE", dense)
    kernel = rng.standard_normal(shape)
    top = np.linalg.svd(matrix_of(kernel, sizes, **options), compute_uv=False)[0]
    found = norm_of(kernel, sizes, **options)
    slack = 64 * EPS * top  # of the dense decomposition, which is no proof
    assert found.lower <= found.value <= found.upper
    assert found.lower <= top + slack
    assert found.upper >= top - slack
    assert abs(found.value - top) <= 1e-12 * top
    assert found.residual <= (1e-8 if dense == 0 else 1e-12) * top
    if dense:
        assert found.upper - found.lower <= 1e-9 * top
        assert found.iterations == 0


def test_dense_matrix_is_that_of_the_layer(rng):
    for shape, sizes, options in CONFIGURATIONS:
        if options.get("padding", "circular") == "circular":
            continue
        kernel = rng.standard_normal(shape)
        channels = shape[-2] * options.get("groups", 1)
        n = math.prod(sizes) * channels
        mapped = nm.nn.conv(np.eye(n).reshape(n, *sizes, channels), kernel, **options).reshape(
            n, -1
        )
        assert np.max(np.abs(mapped - matrix_of(kernel, sizes, **options))) < 1e-13


def test_reshaped_kernel_bounds_the_norm_from_below_and_with_the_taps_from_above(rng):
    for _ in range(10):
        kernel = rng.standard_normal((3, 3, 2, 4)) + rng.uniform(-1, 1)
        reshaped = np.linalg.norm(kernel.reshape(18, 4), 2)
        for padding in ("circular", "same", "valid"):
            value = norm_of(kernel, (7, 6), padding=padding).value
            assert reshaped * (1 - 1e-12) <= value <= 3 * reshaped * (1 + 1e-12)


def test_norm_is_that_of_the_layer_by_its_gain(rng):
    kernel = rng.standard_normal((3, 3, 3, 4))
    found = norm_of(kernel, (12, 12), padding=1, stride=2)
    layer = nm.nn.SpectralNorm.init(
        nm.nn.Conv2d(kernel, None, stride=2, padding=1), (12, 12, 3), iterations=2000, rng=0
    )
    layer = layer.train(np.ones((1, 12, 12, 3)))[1]
    assert layer.norm == pytest.approx(found.value, rel=1e-10)
    x = rng.standard_normal((50, 12, 12, 3))
    gains = np.sqrt(
        (nm.nn.conv(x, kernel, stride=2, padding=1) ** 2).sum(axis=(1, 2, 3))
        / (x**2).sum(axis=(1, 2, 3))
    )
    assert gains.max() < found.upper


def test_bounds_of_a_large_map_hold_the_value_and_are_near(rng):
    kernel = rng.standard_normal((3, 3, 8, 12))
    found = norm_of(kernel, (20, 20), padding="same")  # 3200 inputs: no matrix
    assert found.iterations > 0
    assert found.lower <= found.value <= found.upper
    assert found.value - found.lower < 1e-10 * found.value
    assert found.upper < 1.01 * found.value


def test_scale_dtype_and_zero(rng):
    kernel = rng.standard_normal((3, 3, 2, 2))
    base = norm_of(kernel, (6, 6), padding="same")
    for power in (-900, 900):
        scaled = norm_of(kernel * 2.0**power, (6, 6), padding="same")
        assert scaled.value == base.value * 2.0**power
        assert scaled.upper == base.upper * 2.0**power
    narrow = kernel.astype(np.float32)
    assert norm_of(narrow, (6, 6)) == norm_of(narrow.astype(float), (6, 6))
    zero = norm_of(np.zeros((3, 3, 1, 1)), (4, 4))
    assert (zero.value, zero.lower, zero.upper) == (0.0, 0.0, 0.0)


def test_taps_that_meet_only_zeros_add_nothing():
    kernel = np.zeros((3, 1, 1))
    kernel[0] = 1.0  # meets the zero in front of the single entry
    found = norm_of(kernel, 1, padding="same")
    assert found.value == 0.0
    assert 0 <= found.upper < 1e-100


# ------------------------------------------------------------------------------------ certificates
@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_certificate_is_above_the_norm_and_near_it(n, rng):
    for dtype in (float, complex):
        a = rng.standard_normal((5, n + 2, n)).astype(dtype)
        if dtype is complex:
            a = a + 1j * rng.standard_normal(a.shape)
        gram = np.conj(np.swapaxes(a, -1, -2)) @ a
        top = float(np.linalg.eigvalsh(gram)[:, -1].max())
        error = 4 * (n + 4) * EPS * float((np.abs(a) ** 2).sum(axis=(1, 2)).max())
        found = symbol.certified_root(gram, error, top)
        assert math.sqrt(top) < found < math.sqrt(top) * (1 + 1e3 * n**2 * EPS)


def test_certificate_does_not_believe_an_estimate_that_is_too_small(rng):
    a = rng.standard_normal((3, 6, 6))
    gram = np.swapaxes(a, -1, -2) @ a
    top = float(np.linalg.eigvalsh(gram)[:, -1].max())
    assert symbol.certified_root(gram, 0.0, 0.25 * top) >= math.sqrt(top)


# ------------------------------------------------------------------------------------ complaints
BAD = [
    (lambda: norm_of(np.ones((3, 3)), (4, 4)), ShapeError, "`kernel` must be of shape"),
    (lambda: norm_of(np.ones((3, 0, 1, 1)), (4, 4)), ShapeError, "`kernel`"),
    (lambda: norm_of(np.ones((3, 3, 1, 1), int), (4, 4)), DtypeError, "int64"),
    (
        lambda: norm_of(ONES, 4),
        ShapeError,
        "`input_shape` must be the size of the images, 2 numbers",
    ),
    (lambda: norm_of(ONES, (4, 0)), DomainError, "`input_shape"),
    (lambda: norm_of(ONES, (4, 2), padding="valid"), ShapeError, "at most 2 long"),
    (lambda: norm_of(ONES, (4, 4), padding="zero"), DomainError, "'zero'"),
    (lambda: norm_of(ONES, (4, 4), padding=-1), DomainError, "padding"),
    (lambda: norm_of(ONES, (4, 4), stride=0), DomainError, "`stride`"),
    (lambda: norm_of(ONES, (4, 4), dilation=(1, 2, 3)), ShapeError, "`dilation`"),
    (lambda: norm_of(ONES, (4, 4), groups=2), ShapeError, "divisor of the 1 outputs"),
    (lambda: norm_of(ONES * np.nan, (4, 4)), DomainError, r"finite, got nan at \(0, 0, 0, 0\)"),
    (lambda: nm.stage(lambda k: norm_of(k, (4, 4)).value * k, ONES), TraceError, "SpectralNorm"),
]


@pytest.mark.parametrize(("call", "error", "words"), BAD, ids=range(len(BAD)))
def test_bad_input_is_one_clear_error(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_gradient_through_the_measurement_is_refused():
    with pytest.raises(TraceError):
        nm.grad(lambda k: norm_of(k, (4, 4)).value)(ONES)
