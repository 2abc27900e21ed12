"""Two devices: arrays are worked on where they live, whatever device is current, and are never mixed.

Every group of operations runs on each device while the other one is current: by default, as ``cuda:0`` is, or because
another library has chosen it for the whole thread (``cupy.cuda.Device(1).use()``). The results are the host's and live
where the arrays do, and the current device is afterwards what it was.
"""

import threading

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.device import backend_for, device_of, to_device
from nnmath_core.errors import DeviceError

nn = nm.nn


@pytest.fixture(params=["cuda:0 is current", "cuda:1 is current"])
def current(request, cp):
    """The index of the device that is current for the thread, as another library has left it."""
    if cp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("two devices are needed")
    index = int(request.param[5])
    before = cp.cuda.runtime.getDevice()
    cp.cuda.Device(index).use()
    yield index
    cp.cuda.Device(before).use()


RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((4, 3)), RNG.standard_normal((4, 3))
V, S = RNG.standard_normal(3), RNG.standard_normal((3, 3)) @ np.diag([1.0, 2.0, 3.0])
SPD = S @ S.T + 3 * np.eye(3)
LABELS = np.array([0, 2, 1, 2])
MODEL = nn.MLP.init((3, 5, 3), activation=nn.gelu, rng=0)


def number(model, x, y):
    return nn.softmax_cross_entropy(model(x), y, reduction="mean")


def square(x, y):
    return nm.numpy.sum(nm.numpy.tanh(x @ y.T) ** 2)


def recurrence(x, h):
    step = lambda h, row: (nm.numpy.tanh(h + row), nm.numpy.sum(h))  # noqa: E731
    return nm.scan(step, h, x)


def step_of(opt):
    def step(model, x, y):
        state = opt.init(model)
        for _ in range(2):
            model, state = opt.step(model, nm.grad(number)(model, x, y), state)
        return model

    return step


def draws(key):
    a, b = nm.random.split(key)
    return (
        nm.random.uniform(a, (5,)), nm.random.normal(a, (5,), dtype=np.float32), nm.random.normal(b, (5,)),
        nm.random.randint(b, (5,), 0, 9), nm.random.bernoulli(a, 0.5, (5,)), nm.random.permutation(b, 7),
        nm.random.categorical(a, nm.numpy.zeros_like(nm.random.normal(b, (4,)))), nm.random.fold_in(a, 3),
    )  # fmt: skip


GROUPS = {
    "elementwise": (
        lambda x, y: nm.numpy.where(nm.numpy.greater(x, 0), nm.numpy.multiply(x, y), nm.numpy.hypot(x, 2.0)),
        (X, Y),
    ),
    "special": (
        lambda x: (nm.special.erf(x), nm.special.logsumexp(x, axis=0), nm.special.gammaln(nm.numpy.exp(x))),
        (X,),
    ),
    "products": (
        lambda x, y, v: (nm.numpy.matmul(x, y.T), nm.numpy.einsum("ij,j->i", x, v), nm.numpy.tensordot(x, y, 2),
                         nm.numpy.outer(v, v), nm.numpy.vdot(v, v), nm.numpy.kron(v, v)),
        (X, Y, V),
    ),
    "reductions": (
        lambda x: [f(x, axis=1) for f in (nm.numpy.sum, nm.numpy.max, nm.numpy.var, nm.numpy.argmin, nm.numpy.prod)]
        + [nm.numpy.cumsum(x, axis=0), nm.numpy.median(x), nm.numpy.linalg.norm(x)],
        (X,),
    ),
    "indexing": (
        lambda x, i: (x[1], x[::-1, 1:], nm.at(x)[0].set(1.0), nm.at(x)[i].add(1.0), nm.numpy.take(x, i, axis=0),
                      nm.numpy.take_along_axis(x, i[:, None], 1)),
        (X, np.array([0, 2, 2, 1])),
    ),
    "gradients of indexing": (
        lambda x, i: nm.grad(lambda x: nm.numpy.sum(x[i] ** 2) + nm.numpy.sum(nm.at(x)[i].set(x[:1]) ** 3))(x),
        (X, np.array([0, 2, 2, 1])),
    ),
    "shapes": (
        lambda x, y: (nm.numpy.concatenate([x, y]), nm.numpy.stack([x, y]), nm.numpy.pad(x, 1), nm.numpy.tril(x),
                      nm.numpy.sort(x, axis=0), nm.numpy.roll(x, 1), nm.numpy.repeat(x, 2, 0)),
        (X, Y),
    ),
    "linear algebra": (
        lambda a, v: (nm.numpy.linalg.inv(a), nm.numpy.linalg.solve(a, v), nm.numpy.linalg.cholesky(a),
                      nm.numpy.linalg.eigvalsh(a), nm.numpy.linalg.det(a), nm.numpy.linalg.svd(a)[1]),
        (SPD, V),
    ),
    "Fourier transforms": (lambda x: (nm.numpy.fft.rfft(x), nm.numpy.fft.ifft(x)), (X,)),
    "random numbers": (draws, (nm.random.key(7),)),
    "a network": (lambda m, x, y: number(m, x, y), (MODEL, X, LABELS)),
    "grad": (nm.grad(number), (MODEL, X, LABELS)),
    "value_and_grad": (nm.value_and_grad(square, argnums=(0, 1)), (X, Y)),
    "jvp": (lambda x, y, t: nm.jvp(square, (x, y), (t, y)), (X, Y, np.ones_like(X))),
    "vjp": (lambda x, y: nm.vjp(square, x, y)[1](nm.numpy.ones_like(x[0, 0])), (X, Y)),
    "linearize": (lambda x, y: nm.linearize(square, x, y)[1](y, x), (X, Y)),
    "vmap": (nm.vmap(nm.grad(lambda v: nm.numpy.sum(nm.numpy.exp(v) * v))), (X,)),
    "hessian": (nm.hessian(lambda v: nm.numpy.sum(v**3) * nm.numpy.sum(v)), (V,)),
    "jacobian": (lambda v, s: (nm.jacrev(lambda v: s @ v**2)(v), nm.jacfwd(lambda v: s @ v**2)(v)), (V, S)),
    "hvp": (lambda x, y: nm.hvp(square, (x, y), (y, x)), (X, Y)),
    "ggnvp": (
        lambda m, x, y: nm.ggnvp(lambda m: m(x), lambda z: nn.softmax_cross_entropy(z, y, reduction="mean"), m, m),
        (MODEL, X, LABELS),
    ),
    "per-example gradients": (lambda m, x, y: nm.per_example_grad(number)(m, x, y), (MODEL, X, LABELS)),
    "checkpoint": (nm.grad(lambda x: nm.numpy.sum(nm.checkpoint(nm.numpy.tanh)(x) ** 2)), (X,)),
    "scan": (nm.grad(lambda x, h: nm.numpy.sum(recurrence(x, h)[1])), (X, V)),
    "cond": (nm.grad(lambda x: nm.cond(nm.numpy.sum(x) > 0, nm.numpy.sum, lambda x: x[0, 0], x)), (X,)),
    "stage": (lambda x, y: nm.stage(square, x, y)(y, x), (X, Y)),
    **{
        opt.name: (step_of(opt), (MODEL, X, LABELS))
        for opt in (
            nm.optim.gradient_descent(0.1), nm.optim.heavy_ball(0.1, 0.9), nm.optim.nesterov(0.1, 0.9),
            nm.optim.adam(1e-2), nm.optim.adamw(1e-2, weight_decay=0.1),
        )
    },
    "quadrature": (lambda a: nm.solvers.slq(a, probes=2, rng=0).logdet().value, (SPD,)),
    "Lanczos": (lambda a: nm.solvers.lanczos(a, k=1, rng=0).value, (SPD,)),
    "conjugate gradients": (lambda a: nm.solvers.cg(a, a[0]).value, (SPD,)),
    "power iteration": (lambda a: nm.solvers.power_iteration(a, start=a[0], steps=30).vector, (SPD,)),
    "spectral norm": (lambda a: nm.solvers.spectral_norm(a, start=a[0], steps=30).left, (SPD,)),
    "a compiled gradient": (nm.compile(nm.grad(lambda x, y: nm.numpy.sum(nm.numpy.tanh(x @ y.T)))), (X, Y)),
    "a Hessian": (
        lambda m, x, y: nm.curvature.HessianOperator(number, m, x, y) @ nm.ravel_tree(m)[0],
        (MODEL, X, LABELS),
    ),
}  # fmt: skip

ON_THE_HOST = {"quadrature", "Lanczos"}  # their results are numbers

LAYERS = {
    "convolution": lambda: (nn.Conv2d.init((1, 2), 2, rng=0), RNG.standard_normal((2, 4, 4, 1))),
    "transposed convolution": lambda: (
        nn.ConvTranspose1d.init((2, 1), 2, rng=0),
        RNG.standard_normal((1, 3, 2)),
    ),
    "pooling": lambda: (
        nn.Sequential([nn.MaxPool2d(2), nn.AvgPool2d(1)]),
        RNG.standard_normal((1, 4, 4, 2)),
    ),
    "attention": lambda: (nn.MultiHeadAttention.init(4, 2, rng=0), RNG.standard_normal((2, 5, 4))),
    "transformer": lambda: (
        nn.TransformerBlock.init(4, 2, hidden=6, rng=0),
        RNG.standard_normal((2, 3, 4)),
    ),
    "layer norm": lambda: (nn.LayerNorm.init(3), X),
    "batch norm": lambda: (nn.BatchNorm.init(3), X),
    "group norm": lambda: (nn.GroupNorm.init(2, 4), RNG.standard_normal((2, 3, 4))),
    "spectral norm": lambda: (nn.SpectralNorm.init(nn.Dense.init((3, 2), rng=0), rng=1), X),
    "whitening": lambda: (nn.WhiteningNorm.init(3), X),
    "embedding": lambda: (nn.Embedding.init(3, 2, rng=0), np.array([0, 2, 2])),
    "LSTM": lambda: (nn.LSTM.init((3, 2), rng=0), RNG.standard_normal((2, 3, 3))),
    "GRU": lambda: (nn.GRU.init((3, 2), rng=0), RNG.standard_normal((2, 3, 3))),
}


def agree(got, want, place):
    """Assert that the arrays of a result live on a device and are the host's."""
    got, want = nm.tree_leaves(got), nm.tree_leaves(want)
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        if place is not None:
            assert str(device_of(g)) == place
        # some hundred roundings of numbers near 1, of which some cancel
        eps = np.finfo(np.float32 if np.asarray(w).dtype == np.float32 else np.float64).eps
        scale = max(1.0, float(np.max(np.abs(w), initial=0.0)))
        np.testing.assert_allclose(to_device(g, "cpu"), w, rtol=0, atol=2**14 * eps * scale)


@pytest.mark.parametrize("place", ["cuda:0", "cuda:1"])
@pytest.mark.parametrize("name", GROUPS)
def test_operations_run_where_their_arrays_live(cp, current, name, place):
    f, here = GROUPS[name]
    want = f(*here)
    got = f(*to_device(here, place))
    agree(got, want, None if name in ON_THE_HOST else place)
    assert cp.cuda.runtime.getDevice() == current


@pytest.mark.parametrize("name", LAYERS)
def test_layers_run_on_the_second_device(cp, current, name):
    def loss(layer, x):
        return nm.numpy.sum(nm.numpy.sin(layer(x)))

    here = LAYERS[name]()
    got = nm.value_and_grad(loss)(*to_device(here, "cuda:1"))
    agree(got, nm.value_and_grad(loss)(*here), "cuda:1")
    assert cp.cuda.runtime.getDevice() == current


def test_layers_are_trained_on_the_second_device(cp, current):
    layer, x, key = to_device((nn.BatchNorm.init(3), X, nm.random.key(0)), "cuda:1")
    y, new = layer.train(x)
    dropped, _ = nn.Dropout(0.5).train(x, key=key)
    for found in nm.tree_leaves((y, new, dropped)):
        assert str(device_of(found)) == "cuda:1"
    assert cp.cuda.runtime.getDevice() == current


def test_creation_follows_the_default_device(cp, current):
    with nm.default_device("cuda:1"):
        made = (nm.numpy.zeros(3), nm.numpy.arange(3.0), nm.numpy.eye(2), nm.random.normal(nm.random.key(0), (3,)),
                nm.numpy.linspace(0, 1, 3), nn.Dense.init((2, 2), rng=0).weight)  # fmt: skip
    assert {str(device_of(x)) for x in made} == {"cuda:1"}
    assert str(device_of(nm.numpy.ones(2, device="cuda:0"))) == "cuda:0"
    assert cp.cuda.runtime.getDevice() == current


def test_files_and_batches_stay_on_the_second_device(cp, current, tmp_path):
    model, x = to_device((MODEL, X), "cuda:1")
    nm.save(tmp_path / "model.npz", model)
    back = nm.load(tmp_path / "model.npz", like=model)
    agree(back, MODEL, "cuda:1")
    for (xb,) in nm.batches((x,), size=3, rng=0):
        assert str(device_of(xb)) == "cuda:1"
    assert cp.cuda.runtime.getDevice() == current


def test_cuda_is_the_first_device_whatever_is_current(cp, current):
    assert str(nm.device("cuda")) == "cuda:0"
    assert str(device_of(to_device(X, "cuda"))) == "cuda:0"
    assert str(backend_for("cuda").device) == "cuda:0"


MIXED = {
    "a traced product": lambda x, y: nm.grad(lambda x: nm.numpy.sum(x @ y.T))(x),
    "a traced sum": lambda x, y: nm.grad(lambda x: nm.numpy.sum(x + y))(x),
    "concatenate": lambda x, y: nm.grad(lambda x: nm.numpy.sum(nm.numpy.concatenate([x, y])))(x),
    "jvp": lambda x, y: nm.jvp(nm.numpy.tanh, (x,), (y,)),
    "two arguments": lambda x, y: nm.grad(lambda x, y: nm.numpy.sum(x * y), argnums=(0, 1))(x, y),
    "an optimizer": lambda x, y: nm.optim.adam(0.1).step(x, y, nm.optim.adam(0.1).init(x)),
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("places", [("cuda:1", "cuda:0"), ("cuda:0", "cuda:1"), ("cuda:1", "cpu")])
def test_two_devices_are_not_mixed(cp, current, places, name):
    x, y = (to_device(v, place) for v, place in zip((X, Y), places, strict=True))
    with pytest.raises(DeviceError) as caught:
        MIXED[name](x, y)
    assert places[0] in str(caught.value)
    assert places[1] in str(caught.value)
    assert cp.cuda.runtime.getDevice() == current


def test_threads_have_devices_of_their_own(cp, current):
    """One thread a device, at the same time: the gradient of each is there, and the current devices are theirs."""
    found, errors = {}, []

    def work(index):
        try:
            cp.cuda.Device(1 - index).use()
            x, y = to_device((X, Y), f"cuda:{index}")
            for _ in range(5):
                found[index] = nm.grad(square)(x, y)
            assert cp.cuda.runtime.getDevice() == 1 - index
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for t in threads:
        t.start()
        t.join()  # the emulated device has one current device for all threads
    assert errors == []
    for index in range(2):
        agree(found[index], nm.grad(square)(X, Y), f"cuda:{index}")
    cp.cuda.Device(current).use()


def test_memory_is_taken_where_the_arrays_live(device, cp, current):
    x, y = to_device((X, Y), "cuda:1")
    before = device.live_bytes(0), device.live_bytes(1)
    g = nm.grad(square)(x, y)
    after = device.live_bytes(0), device.live_bytes(1)
    assert after[0] == before[0]
    assert after[1] >= before[1] + g.nbytes
