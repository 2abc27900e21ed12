"""nnmath_core.signal: SciPy's values inside traced functions, both modes, vmap, staging, errors."""

import importlib.util
import inspect
import itertools
import json
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
from registry_checks import ROUNDING, assert_close, assert_same_kind, scale_of

import nnmath_core as nm

MODES = ("full", "same", "valid")


@pytest.fixture
def rng(request):
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


def bound(*values, dtype=np.float64, terms=64):
    """Rounding of sums of so many terms."""
    return ROUNDING * np.finfo(dtype).eps * terms**0.5 * scale_of(*values)


def draw(rng, shape, dtype):
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def inside(f, *xs):
    """The values that f has of traced arrays equal to xs."""
    kept = []

    def traced(t):
        kept.append(f(*((x + (t * 0).astype(x.dtype)) for x in xs)))
        return t

    nm.grad(traced)(0.0)
    return nm.tree_map(nm.value_of, kept[0])


# ------------------------------------------------------------------------------- the functions
def pair(name, *shapes, **kw):
    label = f"{name}-{shapes}-{kw}".replace("'", "")
    return pytest.param(name, shapes, kw, id=label)


PRODUCTS = [
    *(
        pair(name, a, b, mode=mode, method=method)
        for name in ("convolve", "correlate")
        for a, b in (
            ((7,), (3,)),
            ((6,), (4,)),
            ((3,), (7,)),
            ((4, 5), (2, 3)),
            ((2, 3, 4), (2, 2, 3)),
            ((1,), (1,)),
        )
        for mode in MODES
        for method in ("auto", "direct", "fft")
    ),
    *(
        pair(name, a, b, mode=mode)
        for name in ("fftconvolve", "oaconvolve")
        for a, b in (((7,), (3,)), ((3,), (6,)), ((4, 5), (2, 3)), ((4, 1), (2, 1)))
        for mode in MODES
    ),
    *(
        pair("fftconvolve", a, b, mode=mode, axes=axes)
        for a, b, axes in (
            ((2, 5), (2, 3), 1),
            ((2, 5), (1, 3), (1,)),
            ((1, 3), (4, 5), -1),
            ((4, 2, 5), (3, 2, 4), (2, 0)),
        )
        for mode in MODES
    ),
    *(
        pair(name, a, b, mode=mode, boundary=boundary, fillvalue=fill)
        for name in ("convolve2d", "correlate2d")
        for a, b in (((5, 4), (3, 2)), ((3, 4), (2, 2)), ((3, 3), (1, 4)), ((2, 3), (3, 5)))
        for mode in (MODES if b != (1, 4) else ("full", "same"))
        for boundary, fill in (("fill", 0), ("fill", 1.5), ("wrap", 0), ("symm", 0))
    ),
    pair("convolve", (), ()),
    pair("correlate", (), ()),
]
X, Y = (40,), (3, 40)
SPECTRA = [
    *(
        pair(name, *shapes, fs=10.0, nperseg=n, noverlap=over, nfft=nfft, **kw)
        for name, shapes in (
            ("welch", (X,)),
            ("csd", (X, X)),
            ("stft", (X,)),
            ("coherence", (Y, Y)),
        )
        for n, over, nfft in ((16, None, None), (15, 5, 20), (12, 9, 13), (8, 0, None))
        for kw in ({}, {"window": "boxcar", "detrend": name != "coherence" and "linear"})
    ),
    pair("welch", X, nperseg=8, scaling="spectrum", return_onesided=False, detrend=False),
    pair("welch", X, nperseg=8, average="median"),
    pair("welch", X, nperseg=10, average="median"),
    pair("welch", X, nperseg=40, average="median"),
    pair("welch", (40, 3), nperseg=8, axis=0, window=("tukey", 0.25)),
    pair("welch", X, window=np.hamming(10)),
    pair("csd", (3, 40), (40,), nperseg=8),
    pair("csd", X, (25,), nperseg=8),
    pair("csd", (25,), X, nperseg=8, average="median"),
    pair("csd", (20, 2, 3), (20, 2, 3), nperseg=8, axis=0),
    pair("coherence", X, X, nperseg=8),
    pair("periodogram", Y),
    pair("periodogram", X, fs=3, window="hann", scaling="spectrum", detrend=False),
    pair("periodogram", X, nfft=50),
    pair("periodogram", X, nfft=25, return_onesided=False),
    pair("periodogram", (40, 2), axis=0, window=np.hanning(40)),
    *(
        pair("stft", Y, nperseg=n, boundary=boundary, padded=padded)
        for n in (8, 9)
        for boundary in ("zeros", "even", "odd", "constant", None)
        for padded in (True, False)
    ),
    pair("stft", (40, 2), nperseg=8, axis=0, scaling="psd", fs=5.0),
    pair("stft", X, nperseg=8, return_onesided=False, window=np.hamming(8)),
    pair("istft", (5, 7)),
    pair("istft", (5, 7), fs=2.0, scaling="psd", nperseg=9, noverlap=6),
    pair("istft", (8, 7), input_onesided=False, noverlap=6, window="boxcar"),
    pair("istft", (9, 6), nperseg=10, nfft=16, noverlap=5, boundary=False, window="boxcar"),
]
TRENDS = [
    pair("detrend", Y),
    pair("detrend", Y, type="constant"),
    pair("detrend", (1, 4), axis=0),
    pair("detrend", (9, 2), axis=0, bp=4),
    pair("detrend", Y, bp=[3, 20, 20]),
    pair("hilbert", (8,)),
    pair("hilbert", (7, 2), axis=0),
    pair("hilbert", (3, 7), N=5),
    pair("hilbert", (3, 6), N=9),
]
EVERY = PRODUCTS + SPECTRA + TRENDS
REAL_ONLY = {"hilbert"}


def call(module, name, kw):
    return lambda *xs: getattr(module, name)(*xs, **kw)


def flat(y):
    """The arrays of a result that depend on the signals: not times and frequencies."""
    return y[-1] if isinstance(y, tuple) else y


@pytest.mark.filterwarnings("ignore:NOLA", "ignore:istft")
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize(("name", "shapes", "kw"), EVERY)
def test_values_dtypes_and_shapes_are_those_of_scipy(name, shapes, kw, dtype, rng):
    if name in REAL_ONLY and np.dtype(dtype).kind == "c":
        for f in (call(scipy.signal, name, kw), lambda x: inside(call(nm.signal, name, kw), x)):
            with pytest.raises((ValueError, TypeError), match="real"):
                f(draw(rng, shapes[0], dtype))
        return
    if name == "csd" and np.dtype(dtype).kind == "c":
        kw = {**kw, "return_onesided": False}
    xs = [draw(rng, s, dtype) for s in shapes]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = getattr(scipy.signal, name)(*xs, **kw)
        got = inside(call(nm.signal, name, kw), *xs)
    plain = call(nm.signal, name, kw)
    if not (np.dtype(dtype).kind == "c" and name in ("welch", "stft", "coherence", "periodogram")):
        for a, b in zip(nm.tree_leaves(plain(*xs)), nm.tree_leaves(want), strict=True):
            assert np.array_equal(a, b, equal_nan=True)
    if isinstance(want, tuple):
        for a, b in zip(got[:-1], want[:-1], strict=True):
            if name != "istft":
                assert_close(a, b, bound(b), f"{name}: times or frequencies")
        got, want = got[-1], want[-1]
    limit = bound(want, dtype=dtype) * (30 if name == "coherence" else 1)
    assert np.shape(got) == np.shape(want)
    assert_close(got, want, limit, name)
    if np.dtype(dtype).kind == "f":
        single = dtype == np.float32
        want_dtype = np.result_type(dtype, 1j) if want.dtype.kind == "c" else np.dtype(dtype)
        assert got.dtype == want_dtype, "single precision is kept" if single else name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "shapes", "kw"), EVERY)
def test_reverse_mode_is_the_adjoint_of_forward_mode_and_both_are_right(
    name, shapes, kw, dtype, rng
):
    def parts(*xs):
        y = flat(call(nm.signal, name, kw)(*xs))
        return (y.real, y.imag) if y.dtype.kind == "c" else (y,)

    xs = tuple(np.asarray(draw(rng, s, dtype)) for s in shapes)
    ts = tuple(np.asarray(draw(rng, s, dtype)) for s in shapes)
    ys, tangents = nm.jvp(parts, xs, ts)
    gs = tuple(rng.standard_normal(y.shape).astype(dtype)[()] for y in ys)
    cotangents = nm.vjp(parts, *xs)[1](gs)
    for x, c in zip(xs, cotangents, strict=True):
        assert_same_kind(c, x, "cotangent")
    for y, t in zip(ys, tangents, strict=True):
        assert_same_kind(t, y, "tangent")
    there = [np.float64(g) * t for g, t in zip(gs, tangents, strict=True)]
    back = [np.float64(c) * t for c, t in zip(cotangents, ts, strict=True)]
    size = sum(np.sum(np.abs(v)) for v in there + back)
    amplified = 100 if name == "coherence" else 1  # a quotient of small densities
    assert_close(
        sum(map(np.sum, there)), sum(map(np.sum, back)),
        amplified * bound(size, dtype=dtype), "adjoint",
    )  # fmt: skip
    if dtype == np.float64:
        h = np.finfo(float).eps ** (1 / 3)
        ahead, behind, far, farther = (
            parts(*(x + s * h * t for x, t in zip(xs, ts, strict=True))) for s in (1, -1, 2, -2)
        )
        for t, a, b, c, d in zip(tangents, ahead, behind, far, farther, strict=True):
            near, rough = (a - b) / (2 * h), (c - d) / (4 * h)
            limit = np.abs(near - rough) + amplified * bound(a, b) / h
            assert np.all(limit <= 1e-4 * scale_of(near)), "the difference is too rough"
            assert_close(t, near, limit, "differences")


SOME = [
    pair("convolve", (7,), (3,), mode="same", method="direct"),
    pair("convolve", (7,), (3,), mode="valid", method="fft"),
    pair("correlate", (4, 5), (2, 3), mode="full", method="direct"),
    pair("fftconvolve", (2, 5), (1, 3), mode="same", axes=(1,)),
    pair("convolve2d", (5, 4), (3, 2), mode="same", boundary="symm"),
    pair("welch", X, nperseg=8),
    pair("stft", Y, nperseg=9, noverlap=4),
    pair("csd", (3, 40), (40,), nperseg=8),
    pair("detrend", Y, bp=7),
    pair("hilbert", (3, 6)),
]


@pytest.mark.parametrize(("name", "shapes", "kw"), SOME)
def test_second_order_vmap_and_staging(name, shapes, kw, rng):
    def loss(*xs):
        y = flat(call(nm.signal, name, kw)(*(np.tanh(x) for x in xs)))
        return np.sum(np.real(y) ** 3) + np.sum(np.abs(y) ** 2)

    argnums = tuple(range(len(shapes)))
    f = nm.value_and_grad(loss, argnums=argnums)
    xs = tuple(draw(rng, (3, *s), float) for s in shapes)
    x0 = tuple(x[0] for x in xs)
    ts = tuple(draw(rng, s, float) for s in shapes)
    g = nm.grad(loss, argnums=argnums)
    cts, a = nm.jvp(g, x0, ts)
    b = nm.vjp(g, *x0)[1](ts)
    c = nm.grad(lambda *xs: nm.jvp(loss, xs, ts)[1], argnums=argnums)(*x0)
    for p, q, r in zip(a, b, c, strict=True):
        assert_close(q, p, 8 * bound(*a, *cts), "reverse over reverse")
        assert_close(r, p, 8 * bound(*a, *cts), "reverse over forward")
    rows = [nm.tree_leaves(f(*(x[k] for x in xs))) for k in range(3)]
    for j, got in enumerate(nm.tree_leaves(nm.vmap(f)(*xs))):
        want = np.stack([r[j] for r in rows])
        assert_close(got, want, 4 * bound(want), "vmap")
    axes = (0, *[None] * (len(shapes) - 1))
    one = nm.vmap(loss, in_axes=axes)(xs[0], *x0[1:])
    for k in range(3):
        assert_close(one[k], loss(xs[0][k], *x0[1:]), 4 * bound(one), "vmap of the first operand")
    program = nm.stage(f, *x0)
    for got, want in zip(nm.tree_leaves(program(*(x[2] for x in xs))), rows[2], strict=True):
        assert_close(got, want, 4 * bound(want), "staged")


def test_constants_beside_traced_signals_get_no_derivative_and_mix(rng):
    x, k = rng.standard_normal(9), rng.standard_normal(3).astype(np.float32)
    for method in ("direct", "fft"):
        got = nm.grad(lambda x: np.sum(nm.signal.convolve(x, k, method=method) ** 2))(x)  # noqa: B023
        kernel = np.zeros((11, 9))
        for i in range(9):
            kernel[i : i + 3, i] = k
        assert_close(got, 2 * kernel.T @ (kernel @ x), 100 * bound(got), method)
        single = nm.grad(lambda k: np.sum(nm.signal.convolve(x, k, method=method)))(k)  # noqa: B023
        assert single.dtype == np.float32


def test_the_window_can_be_differentiated(rng):
    x, w = rng.standard_normal(30), np.hamming(8)
    for f in (
        lambda w: np.sum(nm.signal.welch(x, window=w)[1] ** 2),
        lambda w: np.sum(np.abs(nm.signal.stft(x, window=w, nperseg=8)[2]) ** 2),
        lambda w: np.sum(nm.signal.istft(np.abs(Z) + 1j, window=w)[1] ** 2),
    ):
        nm.check_grads(f, (w,))


Z = np.arange(35.0).reshape(5, 7) % 6


def test_stft_is_inverted_by_istft(rng):
    x = rng.standard_normal((2, 50))

    def there_and_back(x):
        return nm.signal.istft(nm.signal.stft(x, nperseg=10)[2])[1][:, :50]

    assert_close(inside(there_and_back, x), x, bound(x), "round trip")
    t = rng.standard_normal(x.shape)
    assert_close(nm.jvp(there_and_back, (x,), (t,))[1], t, bound(t), "its derivative")
    assert_close(nm.vjp(there_and_back, x)[1](t)[0], t, bound(t), "its transpose")


def test_the_analytic_signal_of_a_cosine():
    t = np.arange(32) * (2 * np.pi / 32)
    z = inside(nm.signal.hilbert, np.cos(3 * t))
    assert_close(z, np.exp(3j * t), 1e-14, "cosine and sine")
    envelope = nm.grad(lambda a: np.sum(np.abs(nm.signal.hilbert(a * np.cos(3 * t)))))(2.0)
    assert_close(envelope, 32.0, 1e-12, "the envelope is the amplitude")


# ------------------------------------------------------------------------------- labelled axes
def slow_tensor_convolve(a, b, axes, dot_axes, mode):
    """Sums over all pairs of entries, the axes in autograd's order."""
    keep_a = [i for i in range(a.ndim) if i not in (*axes[0], *dot_axes[0])]
    keep_b = [i for i in range(b.ndim) if i not in (*axes[1], *dot_axes[1])]
    ka, kb = [a.shape[i] for i in axes[0]], [b.shape[i] for i in axes[1]]
    full = [m + n - 1 for m, n in zip(ka, kb, strict=True)]
    out = np.zeros([a.shape[i] for i in keep_a] + [b.shape[i] for i in keep_b] + full)
    for i, j in itertools.product(np.ndindex(*a.shape), np.ndindex(*b.shape)):
        if all(i[p] == j[q] for p, q in zip(*dot_axes, strict=True)):
            at = [i[p] for p in keep_a] + [j[p] for p in keep_b]
            at += [i[p] + j[q] for p, q in zip(*axes, strict=True)]
            out[tuple(at)] += a[i] * b[j]
    lead = [slice(None)] * (len(keep_a) + len(keep_b))
    if mode == "same":
        starts = [(n - 1) // 2 for n in kb]
        return out[tuple(lead + [slice(s, s + m) for s, m in zip(starts, ka, strict=True)])]
    if mode == "valid":
        ends = [(min(m, n) - 1, max(m, n)) for m, n in zip(ka, kb, strict=True)]
        return out[tuple(lead + [slice(*e) for e in ends])]
    return out


TENSOR = [
    ((5,), (3,), ((0,), (0,)), ((), ())),
    ((3,), (5,), ((0,), (0,)), ((), ())),
    ((2, 5), (3, 3), ((1,), (1,)), ((), ())),
    ((5, 2), (3, 4, 2), ((0,), (1,)), ((1,), (2,))),
    ((2, 3, 4, 3), (3, 5, 2, 3), ((2, 3), (2, 3)), ((1,), (0,))),
    ((4, 3), (3, 4), ((), ()), ((1, 0), (0, 1))),
    ((4, 3), (2, 3), ((-2,), (-2,)), ((-1,), (-1,))),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("a", "b", "axes", "dot_axes"), TENSOR)
def test_labelled_convolution_is_the_sum_over_pairs(a, b, axes, dot_axes, mode, rng):
    x, y = rng.standard_normal(a), rng.standard_normal(b)

    def f(x, y):
        return nm.signal.tensor_convolve(x, y, axes, dot_axes, mode)

    positive = [tuple(i % n for i in g) for n, g in zip((len(a), len(b)), axes, strict=True)]
    dots = [tuple(i % n for i in g) for n, g in zip((len(a), len(b)), dot_axes, strict=True)]
    want = slow_tensor_convolve(x, y, positive, dots, mode)
    assert_close(f(x, y), want, bound(want), "plain")
    assert_close(inside(f, x, y), want, bound(want), "traced")
    assert_same_kind(f(np.float32(x), np.float32(y)), want.astype(np.float32), "single precision")
    g, t, u = (rng.standard_normal(s) for s in (want.shape, a, b))
    forward = nm.jvp(f, (x, y), (t, u))[1]
    product = f(t, y) + f(x, u)
    assert_close(forward, product, bound(product), "jvp")
    ca, cb = nm.vjp(f, x, y)[1](g)
    assert_close(np.vdot(ca, t) + np.vdot(cb, u), np.vdot(g, forward), bound(g.size * 4.0), "vjp")


def load_reference(name):
    path = Path(__file__).parent / "reference" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


reference = load_reference("signal_autograd")
ANSWERS = json.loads(reference.STORED.read_text())["answers"]


@pytest.mark.parametrize("case", reference.CASES, ids=repr)
def test_labelled_convolution_is_autograds(case):
    *_, axes, dot_axes, mode = case
    want = ANSWERS[repr(case)]

    def f(a, b):
        return nm.signal.tensor_convolve(a, b, axes=axes, dot_axes=dot_axes, mode=mode)

    a, b = reference.operands(case)
    assert_close(f(a, b), np.array(want["value"]), bound(want["value"]), "value")
    ga, gb = nm.grad(lambda a, b: reference.weighed(np, f(a, b)), argnums=(0, 1))(a, b)
    assert_close(ga, np.array(want["a"]), bound(want["a"]), "gradient in A")
    assert_close(gb, np.array(want["b"]), bound(want["b"]), "gradient in B")


def test_all_axes_are_convolved_by_default(rng):
    x, y = rng.standard_normal((4, 5)), rng.standard_normal((2, 3))
    got = nm.signal.tensor_convolve(x, y)
    assert_close(got, scipy.signal.convolve(x, y), bound(got), "default")


# ------------------------------------------------------------------------------- cost and the choice
def test_the_method_is_chosen_by_cost():
    kept = []

    def f(x, k):
        kept.append(nm.signal.choose_conv_method(x, k))
        return np.sum(x)

    for n, k in (((100,), (5,)), ((5000,), (3000,)), ((200, 200), (3, 3)), ((200, 200), (60, 60))):
        nm.grad(f)(np.zeros(n), np.zeros(k))
    assert kept == ["direct", "fft", "direct", "fft"]
    program = nm.stage(nm.signal.convolve, np.arange(9000), np.arange(4000))
    assert program.outputs[0].dtype == np.arange(1).dtype, "integers stay exact"


def test_the_direct_method_needs_no_memory_for_all_windows():
    import tracemalloc

    x, k = np.ones((300, 300)), np.ones((20, 20))
    f = nm.grad(lambda x: np.sum(nm.signal.convolve(x, k, method="direct") ** 2))
    f(x[:30, :30])
    tracemalloc.start()
    f(x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * x.nbytes  # all windows would be 400 times as much


# ------------------------------------------------------------------------------- names and errors
def test_names_and_signatures_are_scipys():
    for name in set(nm.signal.__all__) - {"tensor_convolve"}:
        ours, theirs = (inspect.signature(getattr(m, name)) for m in (nm.signal, scipy.signal))
        assert list(ours.parameters) == list(theirs.parameters), name
        for a, b in zip(ours.parameters.values(), theirs.parameters.values(), strict=True):
            if a.name == "window":  # the default has another spelling from SciPy 1.16 on
                assert str(b.default).startswith(str(a.default))
            else:
                assert a.default == b.default, (name, a.name)


BAD = [
    ("convolve", ((3,), (2, 2)), {}),
    ("convolve", ((3, 4), (4, 3)), {"mode": "valid"}),
    ("convolve", ((3,), (2,)), {"mode": "most"}),
    ("convolve", ((3,), (2,)), {"method": "best"}),
    ("correlate", ((3,), (2,)), {"mode": "most"}),
    ("fftconvolve", ((3, 2), (2, 3)), {"axes": (1,)}),
    ("fftconvolve", ((3, 2), (2, 3)), {"axes": ()}),
    ("fftconvolve", ((3, 2), (2, 3)), {"axes": (0, 0)}),
    ("convolve2d", ((3,), (2,)), {}),
    ("convolve2d", ((3, 3), (2, 2)), {"boundary": "mirror"}),
    ("welch", ((9,),), {"nperseg": 4, "noverlap": 4}),
    ("welch", ((9,),), {"nperseg": 4, "nfft": 3}),
    ("welch", ((9,),), {"nperseg": 0}),
    ("welch", ((9,),), {"nperseg": 4, "scaling": "power"}),
    ("welch", ((9,),), {"nperseg": 4, "average": "mode"}),
    ("stft", ((9,),), {"nperseg": 4, "boundary": "round"}),
    ("stft", ((9,),), {"window": np.ones((2, 2))}),
    ("istft", ((9,),), {}),
    ("istft", ((9, 3),), {"time_axis": 0, "freq_axis": 0}),
    ("detrend", ((9,),), {"type": "curve"}),
    ("detrend", ((9,),), {"bp": 10}),
    ("hilbert", ((9,),), {"N": 0}),
]


@pytest.mark.parametrize(("name", "shapes", "kw"), BAD)
def test_bad_arguments_are_errors_as_in_scipy(name, shapes, kw):
    xs = [np.ones(s) for s in shapes]
    for f in (
        lambda *xs: getattr(nm.signal, name)(*xs, **kw),
        lambda *xs: inside(call(nm.signal, name, kw), *xs),
    ):
        with pytest.raises((ValueError, TypeError)):
            f(*xs)


def test_errors_say_who_and_what():
    x = np.ones((3, 4))
    with pytest.raises(nm.errors.ShapeError, match=r"^convolve: for mode=\"valid\" one operand"):
        inside(call(nm.signal, "convolve", {"mode": "valid"}), x, x.T)
    with pytest.raises(
        nm.errors.ShapeError, match=r"^tensor_convolve: axis 1 of A and axis 0 of B"
    ):
        nm.signal.tensor_convolve(x, x, ((0,), (1,)), ((1,), (0,)))
    with pytest.raises(TypeError, match=r"hilbert: `x` must be real"):
        inside(nm.signal.hilbert, x + 1j)
    with pytest.warns(UserWarning, match="welch: nperseg = 256"):
        inside(nm.signal.welch, np.ones(20))
    with pytest.warns(UserWarning, match="NOLA"):
        inside(call(nm.signal, "istft", {"noverlap": 0}), Z)
    with pytest.raises(nm.errors.ShapeError, match=r"^csd: signals of different lengths must have"):
        nm.jvp(lambda x: nm.signal.csd(x, np.ones(3))[1], (x,), (x,))
    for shape in ((0, 4), (4, 0)):
        with pytest.raises(
            nm.errors.ShapeError, match=r"^detrend: `data` must be an array with ent"
        ):
            inside(nm.signal.detrend, np.zeros(shape))


@pytest.mark.filterwarnings("ignore:nperseg")
def test_csd_extends_the_shorter_of_two_signals(rng):
    x, y = rng.standard_normal((2, 3, 9))
    for a, b in ((x, y[:, :7]), (x[:, :7], y)):
        got = inside(lambda a, b: nm.signal.csd(a, b, nperseg=4)[1], a, b)
        want = scipy.signal.csd(a, b, nperseg=4)[1]
        np.testing.assert_allclose(got, want, rtol=0, atol=bound(want))
