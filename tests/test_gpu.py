"""On a real CUDA device: every primitive and its derivatives, kernels, training, curvature, study.

Skipped where there is none; ``python -m pytest -m gpu`` runs these alone. The host, whose numbers
the registry tests prove, is the reference.
"""

import dataclasses

import numpy as np
import pytest
from registry_checks import assert_close, registry_cases, smooth

import nnmath_core as nm
from nnmath_core.device import device_of, devices, to_device
from nnmath_core.errors import DeviceError

CUDA = [d for d in devices() if d.kind == "cuda"]

if not CUDA:
    pytest.skip("there is no CUDA device, or no CuPy", allow_module_level=True)

pytestmark = pytest.mark.gpu

EVERY = registry_cases()
SMOOTH = registry_cases(keep=smooth)


def there(x):
    """Move arrays to the device; NumPy scalars become 0-d arrays there, Python numbers stay."""
    if isinstance(x, np.generic):
        x = np.asarray(x)
    return to_device(x, "cuda:0") if isinstance(x, np.ndarray) else x


def here(x):
    return np.asarray(to_device(x, "cpu"))


def moved(case):
    """Return the case with its operands on the device."""
    return dataclasses.replace(case, operands=tuple(map(there, case.operands)))


@pytest.mark.parametrize("case", EVERY)
def test_forward_is_that_of_the_host(case):
    want = case.primitive(*case.operands, **case.params)
    got = case.primitive(*moved(case).operands, **case.params)
    several = case.primitive.several
    for g, w in zip(got if several else (got,), want if several else (want,), strict=True):
        assert device_of(g) == CUDA[0]
        assert here(g).dtype == np.asarray(w).dtype
        assert_close(here(g), w, case.bound(w), "forward")


@pytest.mark.parametrize("case", SMOOTH)
def test_derivatives_are_those_of_the_host(case):
    rng = case.rng
    cotangents = case.randoms(case.value, rng)
    tangents = case.randoms(case.point, rng)
    far = moved(case)
    _, want = nm.jvp(case.f, case.point, tangents)
    _, got = nm.jvp(far.f, far.point, tuple(map(there, tangents)))
    _, pull = nm.vjp(case.f, *case.point)
    _, far_pull = nm.vjp(far.f, *far.point)
    pairs = [*zip(got, want, strict=True)]
    pairs += zip(far_pull(tuple(map(there, cotangents))), pull(cotangents), strict=True)
    for g, w in pairs:
        assert here(g).dtype == np.asarray(w).dtype
        assert_close(here(g), w, case.bound(w, *case.point) * 4, "derivative")


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
    short = Protocol(epochs=2, comparison_epochs=1, least_steps=100, highest=3, lowest=2)
    results = study(data=str(tmp_path / "data.npz"), device="cuda", out=tmp_path, protocol=short)
    assert results["study"]["device"] == "cuda:0"
    assert results["gradients"]["ok"]
    assert results["accuracy"]["mean"] > 0.9
