"""numpy.fft on tracers: NumPy's values for every argument, both modes, complex inside, peers' gradients."""

import importlib.util
import inspect
import itertools
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from registry_checks import ROUNDING, assert_close, assert_same_kind, scale_of

import nnmath_core as nm
from nnmath_core.errors import TraceError


def load_reference(name):
    path = Path(__file__).parent / "reference" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


reference = load_reference("fft_peers")
ANSWERS = json.loads(reference.STORED.read_text())["answers"]
NORMS = (None, "backward", "ortho", "forward")
TO_REAL = {"irfft", "hfft", "irfftn", "irfft2"}
OF_REAL = {"rfft", "ihfft", "rfftn", "rfft2"}
ONE_AXIS = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
SEVERAL_AXES = ("fftn", "ifftn", "rfftn", "irfftn", "fft2", "ifft2", "rfft2", "irfft2")


def calls():
    """Every function with every kind of argument."""
    for name in ONE_AXIS:
        for n, axis in itertools.product((None, 1, 3, 4, 5, 8), (-1, 0)):
            yield name, {"n": n, "axis": axis, "norm": NORMS[(n or 0) % 4]}
    for name in SEVERAL_AXES:
        yield name, {}
        yield name, {"norm": "ortho"}
        for k, axes in enumerate(((0,), (-1, 0), (0, 1), (1, 1), (0, 1, 0), (2, 2, 2))):
            yield name, {"axes": axes, "norm": NORMS[k % 4]}
        for k, s in enumerate(((2, 5), (4, -1), (6, 3), (1, 1))):
            yield name, {"s": s, "axes": (0, 2), "norm": NORMS[k % 4]}
            yield name, {"s": s, "axes": (1, 1), "norm": NORMS[k % 4]}
    for name in ("fftshift", "ifftshift"):
        for axes in (None, 0, -1, (0, 2), (1, 1)):
            yield name, {"axes": axes}


CALLS = [pytest.param(name, kw, id=f"{name}-{kw}") for name, kw in calls()]


@pytest.fixture
def rng(request):
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


def operand(name, dtype, rng, shape=(3, 4, 5)):
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c" and name not in OF_REAL:
        return (x + 1j * rng.standard_normal(shape)).astype(dtype)
    return x.astype(np.zeros(0, dtype).real.dtype)


def bound(name, *values, dtype=np.float64):
    """Rounding of a transform of a few dozen entries."""
    return ROUNDING * np.finfo(dtype).eps * 8 * scale_of(*values)


def inside(f, x):
    """The value that f has of a traced array equal to x."""
    kept = []

    def traced(t):
        kept.append(nm.value_of(f(x + (t * 0).astype(x.dtype) if x.dtype.kind in "fc" else x)))
        return t

    nm.grad(traced)(0.0)
    return kept[0]


# ------------------------------------------------------------------------------- NumPy's values
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize(("name", "kw"), CALLS)
def test_values_dtypes_and_shapes_are_those_of_numpy(name, kw, dtype, rng):
    x = operand(name, dtype, rng)
    f, g = getattr(np.fft, name), getattr(nm.numpy.fft, name)
    want = f(x, **kw)
    for got in (inside(lambda t: f(t, **kw), x), inside(lambda t: g(t, **kw), x)):
        assert_same_kind(got, want, name)
        assert_close(got, want, bound(name, want, dtype=dtype), name)
    plain = g(x, **kw)
    assert_same_kind(plain, want, name)
    assert np.array_equal(plain, want)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.uint16, np.float16])
@pytest.mark.parametrize("name", [*ONE_AXIS, *SEVERAL_AXES])
def test_integers_inside_a_staged_function(name, dtype):
    x = (np.arange(12).reshape(3, 4) % 5).astype(dtype)
    f = getattr(np.fft, name)
    want = f(x)
    program = nm.stage(f, x)
    assert_same_kind(program.outputs[0], want, name)
    assert_close(program(x), want, bound(name, want, dtype=want.dtype), name)
    assert np.array_equal(getattr(nm.numpy.fft, name)(x.tolist()), f(x.tolist()))


def test_a_list_of_traced_numbers_is_an_array():
    f = nm.numpy.fft.rfft
    got = nm.grad(lambda t: np.sum(np.abs(f([t, 2 * t, t * t])) ** 2))(1.5)
    # Parseval: the spectrum of 3 numbers is the entry 0 and one of a pair, (3 |x|^2 + |sum x|^2) / 2
    assert_close(
        got, 0.5 * (3 * (2 * 1.5 * 5 + 4 * 1.5**3) + 2 * (3 * 1.5 + 1.5**2) * 6), 1e-12, ""
    )


def test_every_name_and_signature_is_numpys():
    assert set(nm.numpy.fft.__all__) == set(np.fft.__all__)
    for name in np.fft.__all__:
        ours, theirs = (inspect.signature(getattr(m, name)) for m in (nm.numpy.fft, np.fft))
        mine, numpys = list(ours.parameters.values()), list(theirs.parameters.values())
        for a, b in zip(mine, numpys, strict=False):
            assert (a.name, a.default, a.kind) == (b.name, b.default, b.kind), name
        # what is more than NumPy's are keywords of the array API
        assert all(p.kind is p.KEYWORD_ONLY for p in mine[len(numpys) :]), name
        assert len(mine) >= len(numpys)


def test_the_extension_of_the_array_api_is_complete():
    names = (
        "fft ifft fftn ifftn rfft irfft rfftn irfftn hfft ihfft fftfreq rfftfreq fftshift ifftshift"
    )
    assert set(names.split()) <= set(nm.numpy.fft.__all__)
    x = np.arange(6.0)
    xp = nm.vmap(lambda x: x.__array_namespace__().fft.rfft(x))  # reached from a traced array
    assert np.array_equal(xp(x[None]), np.fft.rfft(x[None]))


@pytest.mark.parametrize("name", ["fftfreq", "rfftfreq"])
def test_frequencies_are_numpys_and_the_spacing_can_be_traced(name):
    f, g = getattr(np.fft, name), getattr(nm.numpy.fft, name)
    for n, d in itertools.product((1, 2, 5, 8), (1.0, 0.1, 2)):
        assert np.array_equal(f(n, d), g(n, d))
    assert np.array_equal(g(4, device="cpu"), f(4))
    d = 0.3
    got = nm.jacfwd(lambda d: g(5, d))(d)
    assert_close(got, -f(5) / d**2, bound(name, got), name)


# ------------------------------------------------------------------------------- both modes
def parts(y):
    return (y.real, y.imag) if y.dtype.kind == "c" else (y,)


def of_parts(name, kw):
    """The transform as a function of real arrays with real results."""
    f = getattr(np.fft, name)

    def g(a, b):
        return parts(f(a if name in OF_REAL else a + 1j * b, **kw))

    return g


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "kw"), CALLS)
def test_both_modes_of_every_call(name, kw, dtype, rng):
    g = of_parts(name, kw)
    a, b, s, t = (rng.standard_normal((3, 4, 5)).astype(dtype) for _ in range(4))
    ys, tangents = nm.jvp(g, (a, b), (s, t))
    want = g(s, t)  # it is linear
    for y, got, w in zip(ys, tangents, want, strict=True):
        assert_same_kind(got, y, "tangent")
        assert_close(got, w, bound(name, w, dtype=dtype), "jvp")
    gs = tuple(rng.standard_normal(y.shape).astype(dtype) for y in ys)
    _, pull = nm.vjp(g, a, b)
    ca, cb = pull(gs)
    assert_same_kind(ca, a, "cotangent")
    assert_same_kind(cb, b, "cotangent")
    there = sum(np.vdot(c, w.astype(float)) for c, w in zip(gs, want, strict=True))
    back = np.vdot(ca, s.astype(float)) + np.vdot(cb, t.astype(float))
    size = sum(np.sum(np.abs(c * w)) for c, w in zip(gs, want, strict=True))
    assert_close(there, back, ROUNDING * np.finfo(dtype).eps * 8 * max(1.0, size), "adjoint")


@pytest.mark.parametrize("peer", ["jax", "torch"])
@pytest.mark.parametrize("case", reference.CASES, ids=lambda c: reference.label(*c))
@pytest.mark.parametrize("namespace", [np, nm.numpy], ids=["numpy", "nnmath_core.numpy"])
def test_gradients_are_those_of_jax_and_torch(namespace, case, peer):
    name, kw = case
    want = ANSWERS[reference.label(name, kw)][peer]
    a, b = reference.operand(name)

    def f(a, b):
        return reference.run(namespace, name, kw, a, b) + 0.0 * np.sum(b)

    value, (da, db) = nm.value_and_grad(f, argnums=(0, 1))(a, b)
    # tens of products of transforms of a few entries
    for got, w in ((value, want["value"]), (da, want["a"]), (db, want["b"])):
        assert_close(got, np.asarray(w), 1e-13 * scale_of(w), f"{name} by {peer}")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_irfft_does_not_read_the_imaginary_parts_at_the_edges(n, norm):
    m = n // 2 + 1
    rng = np.random.default_rng(n)
    w, a, b = rng.standard_normal(n), rng.standard_normal(m), rng.standard_normal(m)
    g = nm.grad(lambda b: np.sum(w * np.fft.irfft(a + 1j * b, n, norm=norm)))(b)
    edges = [0] if n % 2 else [0, m - 1]
    assert np.all(g[edges] == 0)
    rest = [k for k in range(m) if k not in edges]
    assert np.all(g[rest] != 0)


@pytest.mark.parametrize("name", ["fft", "rfft", "irfft", "hfft", "ifftn", "rfft2", "irfftn"])
def test_second_order_in_every_order_of_the_modes(name, rng):
    f = getattr(np.fft, name)
    w = rng.standard_normal((3, 4))

    def loss(x):
        y = f(np.tanh(x) if name in OF_REAL else np.tanh(x) + 1j * x**2)
        return np.sum(np.real(y) ** 3) + np.sum(np.abs(y) ** 2) + np.sum(w * x)

    x = rng.standard_normal((3, 4))
    nm.check_grads(loss, (x,))
    h = nm.jacfwd(nm.grad(loss))(x)
    for other in (nm.jacrev(nm.grad(loss))(x), nm.jacrev(nm.jacfwd(loss))(x)):
        assert_close(other, h, 4 * bound(name, h) * 8, "second order")
    t = rng.standard_normal(x.shape)
    eps = np.finfo(float).eps ** (1 / 3)
    ahead, behind = (nm.grad(loss)(x + s * eps * t) for s in (1, -1))
    got = np.tensordot(h, t, 2)
    assert_close(got, (ahead - behind) / (2 * eps), 1e-6 * scale_of(got), "differences")


@pytest.mark.parametrize(("name", "kw"), CALLS[::7])
def test_vmap_and_staging_give_the_same(name, kw, rng):
    g = of_parts(name, kw)
    a, b = rng.standard_normal((2, 6, 3, 4, 5))[:, :3]

    def loss(a, b):
        return sum(np.sum(p**2 * 0.5 + p) for p in g(a, b))

    f = nm.value_and_grad(loss, argnums=(0, 1)) if name not in OF_REAL else nm.value_and_grad(loss)
    rows = [nm.tree_leaves(f(a[k], b[k])) for k in range(3)]
    for j, got in enumerate(nm.tree_leaves(nm.vmap(f)(a, b))):
        want = np.stack([r[j] for r in rows])
        assert_close(got, want, bound(name, want), "vmap")
    axes = nm.vmap(f, in_axes=(2, None))(np.moveaxis(a, 0, 2), b[0])
    for got, want in zip(nm.tree_leaves(axes), nm.tree_leaves(f(a[1], b[0])), strict=True):
        assert_close(got[1], want, bound(name, want), "vmap of one operand")
    program = nm.stage(f, a[0], b[0])
    for got, want in zip(nm.tree_leaves(program(a[1], b[1])), rows[1], strict=True):
        assert_close(got, want, bound(name, want), "staged")


def test_the_derivative_of_a_periodic_function():
    n = 16
    x = np.arange(n) * (2 * np.pi / n)

    def derivative(u):
        return np.fft.irfft(1j * np.fft.rfftfreq(n, 1 / n) * np.fft.rfft(u), n)

    d = nm.jacrev(derivative)(np.sin(x))
    assert_close(d @ np.sin(3 * x), 3 * np.cos(3 * x), 1e-13, "spectral derivative")
    assert_close(d, -d.T, 1e-13, "it is antisymmetric")
    assert_close(nm.jacfwd(derivative)(x * 0), d, 1e-13, "forward")


def test_the_gradient_of_the_power_is_parsevals():
    x = np.random.default_rng(0).standard_normal(9)
    g = nm.grad(lambda x: np.sum(np.abs(np.fft.fft(x)) ** 2))(x)
    assert_close(g, 2 * 9 * x, bound("fft", g), "Parseval")


# ------------------------------------------------------------------------------- what is refused
ERRORS = [
    ("fft", {"n": 0}, ValueError),
    ("irfft", {"n": -2}, ValueError),
    ("fft", {"norm": "orthogonal"}, ValueError),
    ("ihfft", {"norm": "x"}, ValueError),
    ("fft", {"axis": 3}, IndexError),
    ("fftn", {"axes": (0, -4)}, IndexError),
    ("fftn", {"s": (2,), "axes": (0, 1)}, ValueError),
    ("rfftn", {"axes": ()}, IndexError),
    ("irfftn", {"s": (2, 0), "axes": (0, 1)}, ValueError),
    ("fft", {"n": 2.5}, TypeError),
    ("fftn", {"s": (2.5,), "axes": (0,)}, TypeError),
]


@pytest.mark.parametrize(("name", "kw", "error"), ERRORS)
def test_bad_arguments_are_errors_as_in_numpy(name, kw, error):
    x = np.ones((2, 3))
    f = getattr(np.fft, name)
    for call in (lambda: f(x, **kw), lambda: nm.grad(lambda x: np.abs(f(x, **kw)).sum())(x)):
        with pytest.raises(error):
            call()


def test_what_only_tracers_refuse():
    x = np.ones((2, 3))
    with pytest.raises(TypeError, match="must be real"):
        nm.grad(lambda x: np.abs(np.fft.rfft(x + 1j)).sum())(x)
    with pytest.raises(TypeError, match="must be real"):
        nm.grad(lambda x: np.abs(np.fft.rfftn(x + 1j)).sum())(x)
    with pytest.raises(TypeError, match="`axes` must be given with `s`"):
        nm.grad(lambda x: np.abs(np.fft.fftn(x, (2, 2))).sum())(x)
    with pytest.raises(TraceError, match="out"):
        nm.grad(lambda x: np.abs(np.fft.fft(x, out=np.zeros((2, 3), complex))).sum())(x)
    with pytest.raises(TraceError, match="out"):
        nm.grad(lambda x: np.abs(np.fft.fft(np.ones((2, 3)), out=x)).sum())(x)


def test_no_axes_is_the_array_itself():
    x = np.arange(3.0)
    assert np.array_equal(nm.grad(lambda x: np.sum(np.fft.fftn(x, axes=()) ** 2))(x), 2 * x)
