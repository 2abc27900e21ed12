"""On a CUDA device: every primitive and its derivatives, kernels, training, curvature, study.

The host, whose numbers the registry tests prove, is the reference. The device is a GPU
(``python -m pytest -m gpu`` runs these alone; skipped where there is none), or the emulated one
under ``make test-cuda`` (docs/gpu-testing.md): the tests are the same.
"""

import dataclasses
import sys

import numpy as np
import pytest
from registry_checks import assert_close, inner, is_float, pullback, registry_cases, smooth

import nnmath_core as nm
from nnmath_core.device import device_of, devices, to_device
from nnmath_core.device.sparse import Pattern
from nnmath_core.errors import DeviceError

CUDA = [d for d in devices() if d.kind == "cuda"]

if not CUDA:
    pytest.skip("there is no CUDA device, or no CuPy", allow_module_level=True)

pytestmark = pytest.mark.gpu

# None on a GPU. The emulated device has no stand-in for some libraries: test_declared_libraries.py
# checks the primitives that enter them as far as it can be done without.
EMULATION = getattr(sys.modules.get("emulated.plugin"), "device", None)
WITHOUT = sys.modules["emulated.libraries"].WITHOUT_STAND_IN if EMULATION else ()


def runs(case):
    """Whether CuPy has the primitive, and the device the libraries that it enters."""
    return case.primitive.library not in ("absent", *WITHOUT)


def differentiates(case):
    """Whether the same holds of the primitives in its rules, and its outputs are determined."""
    return smooth(case) and runs(case) and case.primitive.adapt is None


TURNS = ("rotation", "rotations")
"""They choose a basis, as the vectors of `eigh` and `svd` are chosen, which have `adapt`."""

EVERY = registry_cases(keep=runs)
SMOOTH = registry_cases(keep=differentiates)
SMOOTH64 = registry_cases((np.float64,), differentiates)
# the signs and phases of their vectors are the library's choice
CHOSEN = registry_cases(keep=lambda case: runs(case) and case.primitive.adapt is not None)


def complex_cases():
    """Return the float64 samples with imaginary parts, where the host takes such operands.

    Without selections, whose order of complex numbers is NumPy's own.
    """
    found = []
    for (case,) in (row.values for row in SMOOTH64):
        rng = case.rng
        if case.primitive.selects is not None or case.matrices:
            continue
        operands = tuple(
            x + 0.1j * rng.standard_normal(np.shape(x)) if is_float(x) else x for x in case.operands
        )
        wide = dataclasses.replace(case, operands=operands, dtype=np.dtype(complex))
        with np.errstate(all="ignore"):
            try:
                y = case.primitive(*operands, **case.params)
            except (TypeError, np.exceptions.ComplexWarning):
                continue
        if not case.primitive.several and np.asarray(y).dtype.kind == "c":
            name = case.name.replace("float64", "complex128")
            found.append(pytest.param(dataclasses.replace(wide, name=name), id=name))
    return found


COMPLEX = complex_cases()


def there(x):
    """Move arrays to the device; NumPy scalars become 0-d arrays there, Python numbers stay."""
    if isinstance(x, np.generic):
        x = np.asarray(x)
    return to_device(x, "cuda:0") if isinstance(x, np.ndarray) else x


def here(x):
    return np.asarray(to_device(x, "cpu"))


def moved(case):
    """Return the case with its operands on the device."""

    def of(v):
        return Pattern(there(v.columns), there(v.starts), v.shape) if isinstance(v, Pattern) else v

    params = {name: of(v) for name, v in case.params.items()}
    return dataclasses.replace(case, operands=tuple(map(there, case.operands)), params=params)


@pytest.mark.parametrize("case", EVERY)
def test_forward_is_that_of_the_host(case):
    want = case.primitive(*case.operands, **case.params)
    far = moved(case)
    got = case.primitive(*far.operands, **far.params)
    several = case.primitive.several
    for g, w in zip(got if several else (got,), want if several else (want,), strict=True):
        assert device_of(g) == CUDA[0]
        assert here(g).dtype == np.asarray(w).dtype
        if case.primitive.adapt is not None or case.primitive.name in TURNS:  # up to sign, or phase
            assert_close(np.abs(here(g)), np.abs(w), 64 * case.bound(w), "forward")
            continue
        assert_close(here(g), w, case.bound(w), "forward")


def assert_same(got, want, bound, what):
    """Assert that each result is on the device and is the host's within a bound."""
    for g, w in zip(got, want, strict=True):
        assert device_of(g) == CUDA[0]
        assert here(g).dtype == np.asarray(w).dtype
        assert_close(here(g), w, bound, what)


@pytest.mark.parametrize("case", SMOOTH)
def test_derivatives_are_those_of_the_host(case):
    rng = case.rng
    cotangents = case.randoms(case.value, rng)
    tangents = case.randoms(case.point, rng)
    far = moved(case)
    _, want = nm.jvp(case.f, case.point, tangents)
    _, got = nm.jvp(far.f, far.point, tuple(map(there, tangents)))
    assert_same(got, want, case.bound(*want, *case.point) * 4, "jvp")
    want = nm.vjp(case.f, *case.point)[1](cotangents)
    got = nm.vjp(far.f, *far.point)[1](tuple(map(there, cotangents)))
    assert_same(got, want, case.bound(*want, *case.point) * 4, "vjp")


@pytest.mark.parametrize("case", CHOSEN)
def test_chosen_vectors_move_as_the_adjoint_says(case):
    far, rng = moved(case), case.rng
    cotangents, tangents = case.randoms(case.value, rng), case.randoms(case.point, rng)
    _, moves = nm.jvp(far.f, far.point, tuple(map(there, tangents)))
    back = nm.vjp(far.f, *far.point)[1](tuple(map(there, cotangents)))
    forward, size = inner(cotangents, tuple(map(here, moves)))
    backward, other = inner(tuple(map(here, back)), tangents)
    assert_close(forward, backward, 64 * case.bound(size, other), "adjoint identity")


@pytest.mark.parametrize("case", SMOOTH)
def test_second_derivatives_are_those_of_the_host(case):
    rng = case.rng
    far = moved(case)
    cotangents, tangents = case.randoms(case.value, rng), case.randoms(case.point, rng)
    first, want = nm.jvp(lambda *xs: pullback(case)(cotangents, *xs), case.point, tangents)
    far_cotangents, far_tangents = (tuple(map(there, v)) for v in (cotangents, tangents))
    _, got = nm.jvp(lambda *xs: pullback(far)(far_cotangents, *xs), far.point, far_tangents)
    assert_same(got, want, case.bound(*want, *first, *case.point) * 16, "forward over reverse")


@pytest.mark.parametrize("case", COMPLEX)
def test_complex_numbers_are_those_of_the_host(case):
    positions = tuple(
        i for i, x in enumerate(case.operands) if getattr(x, "dtype", np.dtype(int)).kind == "c"
    )
    point = tuple(np.asarray(case.operands[i]) for i in positions)
    parts = (*map(np.real, point), *map(np.imag, point))

    def parts_of(case):
        def f(*parts):
            half = len(parts) // 2
            y = case.at(positions)(
                *(x + 1j * y for x, y in zip(parts[:half], parts[half:], strict=True))
            )
            return np.real(y), np.imag(y)

        return f

    try:
        want, pull = nm.vjp(parts_of(case), *parts)
        back = pull(case.randoms(want, case.rng))
    except TypeError:
        return  # the derivative is a function that SciPy has for real numbers only
    try:
        got, far_pull = nm.vjp(parts_of(moved(case)), *map(there, parts))
    except DeviceError as error:
        if "CuPy has no implementation for complex" not in str(error):
            raise
        return
    except TypeError as error:  # of `clip`
        if "Wrong type" not in str(error):
            raise
        return
    # a product has two products in each part: twice the roundings of the real one
    real = dataclasses.replace(case, operands=parts, dtype=np.dtype(float))
    assert_same(got, want, 8 * real.bound(*want, *parts), "complex value")
    far_back = far_pull(tuple(map(there, case.randoms(want, case.rng))))
    assert_same(far_back, back, 8 * real.bound(*want, *back, *parts), "complex vjp")


@pytest.mark.parametrize("case", SMOOTH64)
def test_staged_and_batched_are_those_of_the_device(case):
    far = moved(case)
    want = far.f(*far.point)
    got = nm.stage(far.f, *far.point)(*far.point)
    assert_same(got, map(here, want), 0.0, "staged")
    twice = tuple(there(np.stack([here(x)] * 2)) for x in far.point)
    batched = nm.vmap(far.f)(*twice)
    for row in range(2):
        assert_same(
            [y[row] for y in batched], map(here, want), case.bound(*map(here, want)), "vmap"
        )


@pytest.mark.parametrize("case", SMOOTH64)
def test_compiled_is_that_of_the_host(case):
    want = case.f(*case.point)
    far = moved(case)
    assert_same(nm.compile(far.f)(*far.point), want, case.bound(*want), "compiled")


def network(dtype):
    rng = np.random.default_rng(0)
    model = nm.nn.MLP.init((20, 16, 4), activation=nm.nn.gelu, rng=rng, dtype=dtype)
    return model, rng.standard_normal((64, 20)).astype(dtype), rng.integers(0, 4, 64)


def loss(model, x, y):
    return nm.nn.softmax_cross_entropy(model(x), y, reduction="mean")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "opt",
    [nm.optim.gradient_descent(0.1), nm.optim.heavy_ball(0.1, 0.9), nm.optim.nesterov(0.1, 0.9),
     nm.optim.adam(1e-2), nm.optim.adamw(1e-2, weight_decay=0.1)],
    ids=lambda opt: opt.name,
)  # fmt: skip
def test_training_goes_as_on_the_host(opt, dtype):
    model, x, y = network(dtype)
    far, fx, fy = to_device((model, x, y), "cuda:0")
    state, far_state = opt.init(model), opt.init(far)
    slope = nm.grad(loss)
    for _ in range(5):
        model, state = opt.step(model, slope(model, x, y), state)
        far, far_state = opt.step(far, slope(far, fx, fy), far_state)
    for w, g in zip(nm.tree_leaves(model), nm.tree_leaves(far), strict=True):
        assert device_of(g) == CUDA[0]
        # five steps, each a few hundred roundings of entries of size 1; Adam divides by small roots
        np.testing.assert_allclose(here(g), w, rtol=0, atol=4096 * np.finfo(dtype).eps)


@pytest.mark.parametrize(
    "opt",
    [nm.optim.gradient_descent(0.1), nm.optim.nesterov(lambda count: 0.1 / (1 + count), 0.9),
     nm.optim.adamw(1e-2, weight_decay=0.1)],
    ids=lambda opt: opt.name,
)  # fmt: skip
def test_recorded_steps_run_on_the_device(opt):
    rng = np.random.default_rng(3)
    params = {"w": rng.standard_normal((3, 4)), "b": rng.standard_normal(5).astype(np.float32)}
    grads = nm.tree_map(np.sin, params)
    state = opt.init(params)
    want = opt.step(params, grads, state)
    far = to_device((params, grads), "cuda:0")
    for step in (nm.stage(opt.step, params, grads, state), nm.compile(opt.step)):
        got = step(*far, opt.init(far[0]))
        for w, g in zip(nm.tree_leaves(want[0]), nm.tree_leaves(got[0]), strict=True):
            assert device_of(g) == CUDA[0]
            np.testing.assert_allclose(here(g), w, rtol=0, atol=64 * np.finfo(w.dtype).eps)


def test_second_order_on_the_device():
    model, x, y = network(np.float64)
    far, fx, fy = to_device((model, x, y), "cuda:0")
    H = nm.curvature.HessianOperator(loss, model, x, y)
    D = nm.curvature.HessianOperator(loss, far, fx, fy)
    assert D.device == CUDA[0]
    v = np.random.default_rng(1).standard_normal((H.shape[0], 3))
    eps = np.finfo(float).eps
    scale = np.abs(H @ v).max()
    np.testing.assert_allclose(here(D @ there(v)), H @ v, rtol=0, atol=4096 * eps * scale)
    want = nm.solvers.lanczos(H, k=(3, 2), which="BE", rng=0)
    got = nm.solvers.lanczos(D, k=(3, 2), which="BE", rng=0)
    np.testing.assert_allclose(got.value, want.value, rtol=0, atol=1e-10 * want.norm)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_iterations_run_on_the_device(dtype):
    """cg, powers and quadrature over device arrays: as on the host, with their vectors there."""
    rng, eps = np.random.default_rng(2), np.finfo(dtype).eps
    a = rng.standard_normal((20, 20)).astype(dtype)
    a = a @ a.T / 20 + np.eye(20, dtype=dtype)
    b, start = rng.standard_normal((20, 2)).astype(dtype), rng.standard_normal(20).astype(dtype)
    rtol = 1e-4 if dtype == np.float32 else 1e-9
    jacobi = np.diag(1 / np.diag(a)).astype(dtype)
    for options, far in (({}, {}), ({"M": jacobi}, {"M": there(jacobi)})):
        want = nm.solvers.cg(a, b, rtol=rtol, **options)
        got = nm.solvers.cg(there(a), there(b), rtol=rtol, **far)
        assert device_of(got.value) == CUDA[0]
        np.testing.assert_allclose(here(got.value), want.value, rtol=0, atol=1e3 * eps)
        assert np.abs(got.iterations - want.iterations).max() <= 1
        assert got.converged.all()
    with pytest.raises(nm.ConvergenceError) as caught:
        nm.solvers.cg(there(-a), there(b))
    assert device_of(caught.value.partial.direction) == CUDA[0]
    want = nm.solvers.power_iteration(a, start=start, steps=20)
    got = nm.solvers.power_iteration(there(a), start=there(start), steps=20)
    assert device_of(got.vector) == CUDA[0]
    np.testing.assert_allclose(here(got.vector), want.vector, rtol=0, atol=1e3 * eps)
    assert abs(got.value - want.value) <= 1e3 * eps
    want = nm.solvers.spectral_norm(a[:, :15], start=start[:15], steps=20)
    got = nm.solvers.spectral_norm(there(a[:, :15].copy()), start=there(start[:15]), steps=20)
    assert device_of(got.left) == device_of(got.right) == CUDA[0]
    np.testing.assert_allclose(here(got.left), want.left, rtol=0, atol=1e3 * eps)
    want, got = (nm.solvers.slq(x, probes=3, rng=0).logdet() for x in (a, there(a)))
    assert abs(got.value - want.value) <= 1e3 * eps
    with pytest.raises(DeviceError, match="`b` must be on cuda:0"):
        nm.solvers.cg(there(a), b)


def test_gradients_are_checked_on_the_device():
    model, x, y = network(np.float64)
    far, fx, fy = to_device((model, x, y), "cuda:0")
    assert nm.gradient_report(loss, (far, fx, fy), points=1, projected=True).ok
    with pytest.raises(nm.GradientError):
        nm.check_grads(lambda w: (w * w).sum(), (there(np.ones(3)),), grad=lambda w: w)


def test_devices_are_not_mixed():
    with pytest.raises(DeviceError, match="cuda:0"):
        nm.grad(lambda w: (w * np.ones(3)).sum())(there(np.ones(3)))


def test_creation_follows_the_default_device():
    with nm.default_device("cuda:0"):
        model = nm.nn.MLP.init((3, 2), rng=0)
        made = nm.numpy.zeros((2, 2))
    assert device_of(model.layers[0].weight) == CUDA[0]
    assert device_of(made) == CUDA[0]


def test_files_keep_device_arrays(tmp_path):
    model, _, _ = network(np.float32)
    far = to_device(model, "cuda:0")
    nm.save(tmp_path / "model.npz", far)
    back = nm.load(tmp_path / "model.npz", like=far)
    assert device_of(back.layers[0].weight) == CUDA[0]
    np.testing.assert_array_equal(here(back.layers[0].weight), model.layers[0].weight)


def test_batches_stay_on_the_device():
    x = there(np.arange(10.0))
    assert all(device_of(xb) == CUDA[0] for (xb,) in nm.batches((x,), size=3, rng=0))


def test_study_runs_on_the_device(tmp_path):
    from nnmath_core.study import study
    from nnmath_core.study.protocol import Protocol

    x = np.random.default_rng(0).standard_normal((60, 5))
    y = np.arange(60) % 3
    x[np.arange(60), y] += 4.0
    np.savez(tmp_path / "data.npz", X=x, y=y)
    short = Protocol(  # few weights: each entry of the gradient is compared with differences
        hidden=8, epochs=2, comparison_epochs=1, least_steps=100, learning_rate=3e-2, checked_rows=8,
        highest=3, lowest=2,
    )  # fmt: skip
    results = study(data=str(tmp_path / "data.npz"), device="cuda", out=tmp_path, protocol=short)
    assert results["study"]["device"] == "cuda:0"
    assert results["gradients"]["ok"]
    assert results["accuracy"]["mean"] > 0.9
