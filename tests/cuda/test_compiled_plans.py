"""Compiled functions on device arrays: results, memory that is given and taken, what a call costs, and refusals."""

import importlib.util
import json
import threading
from pathlib import Path

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.program.cuda import DevicePlan, plan

DTYPES = [np.float32, np.float64]


def loss(w, x, t):
    h = np.tanh(x @ w) * t
    return np.sum(np.where(h > 0, h, 0.5 * h) ** 2)


def operands(dtype, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((3, 4)).astype(dtype), rng.standard_normal((5, 3)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_compiled_gradient_agrees_with_the_host(cp, dtype):
    w, x = operands(dtype)
    f = nm.compile(nm.value_and_grad(loss))
    value, g = f(w, x, 0.7)
    bound = 64 * np.finfo(dtype).eps
    for _ in range(2):
        got, gradient = f(cp.asarray(w), cp.asarray(x), 0.7)
        assert type(gradient) is cp.ndarray
        assert gradient.dtype == dtype
        np.testing.assert_allclose(float(got), value, rtol=bound)
        np.testing.assert_allclose(cp.asnumpy(gradient), g, rtol=bound, atol=bound)
    assert f(w, x, 0.7)[0] == value  # the host has a plan of its own
    assert isinstance(f.plan(cp.asarray(w), cp.asarray(x), 0.7), DevicePlan)


def test_what_has_no_kernel_runs_by_definition(cp):
    def f(x, i):
        y = np.sort(x, axis=0) * 2.0
        return np.linalg.solve(y @ y.T + np.eye(5), x), y[i], np.cumsum(np.exp(x), axis=1)

    rng = np.random.default_rng(0)
    x, i = rng.standard_normal((5, 5)), np.array([0, 2, 2])
    g = nm.compile(f)
    made = g.plan(cp.asarray(x), cp.asarray(i))
    assert {s.note for s in made.steps if s.kind == "definition"} >= {"argsort", "solve", "cumsum"}
    for got, want in zip(g(cp.asarray(x), cp.asarray(i)), f(x, i), strict=True):
        np.testing.assert_allclose(cp.asnumpy(got), want, rtol=1e-10, atol=1e-10)


def test_control_flow_runs_by_definition(cp):
    def f(x, n):
        y = nm.cond(np.sum(x) > 0, lambda x: x * 2.0, lambda x: x - 1.0, x)
        z, sums = nm.scan(lambda c, r: (c + np.tanh(r), np.sum(c)), y[0], y)
        return (
            z,
            sums,
            nm.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, s[1] * 1.5), (0, z))[1],
        )

    x = np.random.default_rng(0).standard_normal((4, 3))
    for sign in (1, -1):
        want = f(sign * x, 3)
        for got, y in zip(nm.compile(f)(cp.asarray(sign * x), 3), want, strict=True):
            np.testing.assert_allclose(nm.to_device(got, "cpu"), y, rtol=1e-13)


def test_captured_arrays_of_the_host_and_of_the_device(cp):
    here, there = np.arange(3.0), cp.arange(3.0)
    f = nm.compile(lambda x: np.sum(x * here) + np.sum(x * there))
    x = cp.asarray(np.array([1.0, 2.0, 4.0]))
    assert float(f(x)) == 20.0
    there *= 0  # what was captured stays as it was
    assert float(f(x)) == 20.0
    with cp.cuda.Device(1):
        far = cp.ones(3)
    with pytest.raises(nm.DeviceError, match="are on cuda:0, and it captured an array on cuda:1"):
        nm.compile(lambda x: x + far)(x)


def test_strided_arguments_and_numbers(cp):
    f = nm.compile(lambda x, a, n: (x * a + n, n * 2, a > 0.5))
    x = np.arange(12.0).reshape(3, 4)
    far = cp.asarray(x)[::2, ::-1]
    for a in (0.5, 2.0):
        y, twice, large = f(far, a, 3)
        np.testing.assert_array_equal(cp.asnumpy(y), x[::2, ::-1] * a + 3)
        assert twice == 6
        assert bool(large) == (a > 0.5)
    y = f(far, np.float64(2.0), 3)[0]
    np.testing.assert_array_equal(cp.asnumpy(y), x[::2, ::-1] * 2 + 3)
    z = nm.compile(lambda x, a: x * a)(far, 2.0 - 1j)
    np.testing.assert_array_equal(cp.asnumpy(z), x[::2, ::-1] * (2 - 1j))


def test_results_are_arrays_of_their_own(cp):
    f = nm.compile(lambda x: (x, x + 0.0, x.T, np.sum(x), 1.0, x))
    x = cp.ones((2, 3))
    first, second = f(x), f(x)
    arrays = [y for y in (*first, *second, x) if isinstance(y, cp.ndarray)]
    for k, y in enumerate(arrays):
        assert not any(cp.may_share_memory(y, z) for z in arrays[:k])
    assert first[4] == 1.0


@pytest.mark.parametrize("apart", [False, True])
def test_donated_memory_is_taken(cp, monkeypatch, apart):
    monkeypatch.setattr(plan, "APART", apart)
    f = nm.compile(lambda p, g: [p[0] - 0.5 * g[0], p[1] * p[0]], donate_argnums=0)
    p, g = [cp.ones(5), cp.full(5, 4.0)], [cp.arange(5.0)]
    for _ in range(2):
        where = [x.data.ptr for x in p]
        before = [cp.asnumpy(x) for x in p]
        p = f(p, g)
        assert [x.data.ptr for x in p] == where
        np.testing.assert_array_equal(cp.asnumpy(p[0]), before[0] - 0.5 * np.arange(5.0))
        np.testing.assert_array_equal(cp.asnumpy(p[1]), before[1] * before[0])
    with pytest.raises(nm.DtypeError, match="shares memory with argument 0"):
        f(p, [p[0]])
    with pytest.raises(nm.DtypeError, match="is donated, but is not contiguous"):
        f([cp.ones(10)[::2], p[1]], g)


def test_out_receives_results(cp):
    f = nm.compile(lambda x: (x + 1, np.sort(x, axis=0)))
    x, y = cp.asarray(np.array([3.0, 1.0, 2.0])), (cp.empty(3), cp.empty(3))
    got = f(x, out=y)
    assert got[0] is y[0]
    np.testing.assert_array_equal(cp.asnumpy(y[0]), [4, 2, 3])
    np.testing.assert_array_equal(cp.asnumpy(y[1]), [1, 2, 3])
    f(x, out=(x, y[1]))  # it is still read
    np.testing.assert_array_equal(cp.asnumpy(x), [4, 2, 3])
    np.testing.assert_array_equal(cp.asnumpy(y[1]), [1, 2, 3])
    for out, error, text in [
        ((np.empty(3), y[1]), nm.DeviceError, "must be an array on cuda:0"),
        ((cp.empty(4), y[1]), nm.ShapeError, r"must have shape \(3,\)"),
        ((cp.empty(3, np.float32), y[1]), nm.DtypeError, "must have dtype float64"),
        ((cp.empty(6)[::2], y[1]), nm.DtypeError, "is not contiguous"),
        ((y[0], y[0]), nm.DtypeError, "shares memory with another array"),
        (y[0], nm.TreeError, "must have the structure"),
    ]:
        with pytest.raises(error, match=text):
            f(x, out=out)


def test_other_arguments_than_those_of_the_plan(cp):
    x = cp.ones((2, 3))
    made = nm.compile(lambda x, a: x * a).plan(x, 1.0)
    assert float(made(x, 3.0)[0, 0]) == 3.0
    with pytest.raises(nm.ShapeError, match=r"argument 0 must have shape \(2, 3\)"):
        made(cp.ones(3), 1.0)
    with pytest.raises(nm.DtypeError, match="argument 0 must be float64"):
        made(x.astype(np.float32), 1.0)
    with pytest.raises(nm.DtypeError, match="argument 1 must be a Python float"):
        made(x, cp.ones(()))
    with pytest.raises(nm.DeviceError, match="argument 0 must be an array on cuda:0"):
        made(np.ones((2, 3)), 1.0)
    with pytest.raises(nm.TreeError, match="the plan is for arguments"):
        made(x)
    with pytest.raises(
        nm.DeviceError, match="argument 1 must be on cuda:0 as argument 0 is, got cpu"
    ):
        nm.compile(lambda x, y: x + y)(x, np.ones((2, 3)))


def test_the_second_device_while_the_first_is_current(cp):
    w, x = operands(np.float32)
    f = nm.compile(nm.value_and_grad(loss))
    want = f(w, x, 0.7)
    for index in (1, 0):
        far = nm.to_device((w, x), f"cuda:{index}")
        value, g = f(*far, 0.7)
        assert value.device.id == g.device.id == index
        np.testing.assert_allclose(nm.to_device(g, "cpu"), want[1], rtol=1e-5, atol=1e-5)
        assert cp.cuda.Device().id == 0


def test_every_stream_has_memory_of_its_own(cp):
    f = nm.compile(lambda x: np.sort(np.tanh(x) @ np.cos(x), axis=0) + 1.0)
    x = cp.asarray(np.random.default_rng(0).standard_normal((6, 6)))
    made = f.plan(x)
    want = cp.asnumpy(f(x))
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        got = f(x)
    np.testing.assert_array_equal(cp.asnumpy(got), want)
    assert len(made._spaces) == 2


def test_another_stream_waits_for_what_a_plan_was_made_with(cp, device):
    table = np.arange(36.0).reshape(6, 6)
    f = nm.compile(lambda x, y: np.tanh(x) @ table + y)
    x = cp.ones((6, 6))
    frozen = f.plan(x, x).freeze({0: x})
    stream = cp.cuda.Stream(non_blocking=True)
    for run in (lambda: f(x, x), lambda: frozen(x)):
        device.history.clear()
        with stream:
            run()
            run()
        waits = [
            k
            for k, entry in enumerate(device.history)
            if entry[0] == "wait" and entry[1] == stream.ptr
        ]
        launches = [
            k
            for k, entry in enumerate(device.history)
            if entry[0] == "launch" and entry[1] == stream.ptr
        ]
        assert len(waits) == 1  # at the first run on this stream, and before it begins
        assert waits[0] < launches[0]


def test_eight_threads_share_a_plan(cp):
    f = nm.compile(nm.value_and_grad(loss))
    inputs = [nm.to_device(operands(np.float64, seed), "cuda") for seed in range(8)]
    want = [nm.to_device(f(*x, 0.7), "cpu") for x in inputs]
    got = [[None] * 5 for _ in inputs]

    def work(k):
        for n in range(5):
            got[k][n] = f(*inputs[k], 0.7)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for k in range(8):
        for result in got[k]:
            for u, v in zip(nm.to_device(result, "cpu"), want[k], strict=True):
                np.testing.assert_array_equal(u, v)


def test_what_it_became_can_be_read(cp):
    f = nm.compile(nm.value_and_grad(loss))
    far = nm.to_device(operands(np.float32), "cuda")
    said = str(f.inspect(*far, 0.7))
    assert "gemm" in said
    assert "kernel" in said
    made = f.plan(*far, 0.7)
    assert made.cost.flops > 0
    assert "DevicePlan" in repr(made)
    assert all("__global__" in text for text in made.kernels)


# ---------------------------------------------------------------------------------------------- made again
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_backward_pass_makes_again_what_it_would_read(cp, dtype):
    """Of a GELU, as a formula, between two products one array is written; its slope is made from the first product."""

    def f(w, x, v):
        h = x @ w
        return np.sum(np.tanh((0.5 * h * nm.special.erfc(-0.7071067811865476 * h)) @ v))

    rng = np.random.default_rng(0)
    args = [rng.standard_normal(s).astype(dtype) for s in ((5, 33), (7, 5), (33, 4))]
    g = nm.compile(nm.grad(f, argnums=(0, 2)))
    far = nm.to_device(args, "cuda")
    for got, want in zip(g(*far), nm.grad(f, argnums=(0, 2))(*args), strict=True):
        np.testing.assert_allclose(cp.asnumpy(got), want, rtol=0, atol=256 * np.finfo(dtype).eps)
    wide = [
        s
        for s in g.plan(*far).steps
        if s.kind == "kernel" and any(v.shape == (7, 33) for v in s.writes)
    ]
    assert [len(s.writes) for s in wide] == [1, 1]
    assert "erfc" in wide[0].note
    assert "erfc" in wide[1].note


def test_results_are_not_made_again_and_long_chains_are_read(cp):
    def f(x, v):
        y = np.exp(x)
        z = np.sin(np.cos(np.tan(np.sinh(np.arctan(np.cosh(np.sin(np.cos(np.tan(x)))))))))
        return y, np.sum(y @ v), y * 2.0 + np.sum((z * x) @ v), z

    x = np.random.default_rng(0).uniform(0.1, 1.0, (9, 9))
    g = nm.compile(f)
    for got, want in zip(g(*nm.to_device((x, x), "cuda")), f(x, x), strict=True):
        np.testing.assert_allclose(cp.asnumpy(got), want, rtol=1e-12)


# ---------------------------------------------------------------------------------------------- graphs
def test_kernels_between_products_are_replayed(cp, device):
    f = nm.compile(
        lambda p: [np.tanh(p[0]) * 2.0, p[1] @ (p[1] * 0.5), np.exp(-p[2]) + np.sum(p[2])],
        donate_argnums=0,
    )
    p = [cp.asarray(np.linspace(-1.0, 1.0, 20)), cp.full((3, 3), 0.5), cp.arange(7.0)]
    q, want = [x.copy() for x in p], []
    for _ in range(5):
        q = f(q)
        want.append(nm.to_device(q, "cpu"))
    with nm.cuda_graphs(True):
        got, replays, launches = [], [], []
        for _ in range(5):
            device.counters.clear()
            p = f(p)
            replays.append(device.counters["graph"])
            launches.append(device.counters["launch"])
            got.append(nm.to_device(p, "cpu"))
    for u, v in zip(nm.tree_leaves(got), nm.tree_leaves(want), strict=True):
        np.testing.assert_array_equal(u, v)
    assert replays == [0, 2, 2, 2, 2]  # before the product and behind it
    assert launches[3] == launches[4] < launches[0]
    assert not nm.cuda_graphs()
    with pytest.raises(nm.DtypeError, match="cuda_graphs: `on` must be True or False"):
        nm.cuda_graphs(1)


def test_other_memory_and_other_numbers_are_not_replayed(cp, device):
    f = nm.compile(lambda x, y, a: (np.exp(x) * a, np.sum(y) * a))
    inputs = [(cp.full(4, 0.5), cp.ones(3)) for _ in range(3)]
    out = cp.empty(4), cp.empty(())
    with nm.cuda_graphs(True):
        for _ in range(3):
            for k, (x, y) in enumerate(inputs):
                for a in (1.0, 2.0):
                    x[0] = k
                    f(x, y, a, out=out)
                    np.testing.assert_allclose(
                        cp.asnumpy(out[0]), a * np.exp([k, 0.5, 0.5, 0.5]), rtol=1e-14
                    )
                    assert float(out[1]) == 3 * a
    assert device.counters["graph"] == 12


# ---------------------------------------------------------------------------------------------- freezing
def test_freezing_runs_once_what_depends_on_the_frozen(cp):
    def hvp(w, x, v):
        return nm.jvp(nm.grad(lambda w: np.sum(np.tanh(x @ w) ** 2)), (w,), (v,))[1]

    w, x = operands(np.float64)
    v = np.random.default_rng(5).standard_normal(w.shape)
    f = nm.compile(hvp)
    frozen = f.plan(*nm.to_device((w, x, v), "cuda")).freeze(
        dict(enumerate(nm.to_device((w, x), "cuda")))
    )
    np.testing.assert_allclose(cp.asnumpy(frozen(cp.asarray(v))), f(w, x, v), rtol=1e-13)
    assert (
        frozen.plan.cost.instructions < f.plan(*nm.to_device((w, x, v), "cuda")).cost.instructions
    )
    frozen.update({0: cp.asarray(2 * w), 1: cp.asarray(x)})
    np.testing.assert_allclose(cp.asnumpy(frozen(cp.asarray(v))), f(2 * w, x, v), rtol=1e-13)


# ---------------------------------------------------------------------------------------------- training
def digits():
    """The example program."""
    spec = importlib.util.spec_from_file_location(
        "train_digits", Path(__file__).with_name("train_digits.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float64", 1e-12)])
def test_training_on_digits_gives_the_parameters_of_the_host(dtype, bound):
    pytest.importorskip("sklearn")
    program = digits()
    want, losses = program.train("cpu", dtype, 20, program.OPTIMIZERS["heavy_ball"])
    got, far_losses = program.train("cuda", dtype, 20, program.OPTIMIZERS["heavy_ball"])
    assert len(losses) == 2
    for u, v in zip(nm.tree_leaves(got), nm.tree_leaves(want), strict=True):
        np.testing.assert_allclose(u, v, rtol=0, atol=bound)
    assert losses[-1] < 0.7 * losses[0]
    np.testing.assert_allclose(far_losses, losses, rtol=0, atol=10 * bound)


BUDGET = json.loads(Path(__file__).with_name("budget.json").read_text())["steps"]


def asked(cp, device, monkeypatch, run):
    """What each turn of ``run(after)`` asks of the device, where memory comes from a pool as it does on a GPU."""
    found, products = [], []

    def counting(*args, **parameters):
        products.append(1)
        gemm(*args, **parameters)

    def after(turn):
        found.append({**device.counters, "product": len(products)})
        device.counters.clear()
        products.clear()

    gemm = plan.gemm
    monkeypatch.setattr(plan, "gemm", counting)
    cp.cuda.set_allocator(cp.get_default_memory_pool().malloc)
    try:
        run(after)
    finally:
        cp.cuda.set_allocator(None)
        cp.get_default_memory_pool().free_all_blocks()
    return found


@pytest.mark.parametrize("name", ["heavy_ball", "adam"])
def test_a_training_step_keeps_its_budget(cp, device, monkeypatch, name):
    """After warm-up: no allocation, no waiting, no transfer; one launch a product and one a fused run."""
    pytest.importorskip("sklearn")
    program = digits()
    found = asked(
        cp, device, monkeypatch,
        lambda after: program.train("cuda", "float32", 6, program.OPTIMIZERS[name], after=after),
    )  # fmt: skip
    # three products forward, five backward; two activations, the loss in two, two slopes, the count, the optimizer
    assert found[3:] == [BUDGET[f"digits, {name}"]] * 3


def test_a_step_of_a_transformer_keeps_its_budget(cp, device, monkeypatch):
    """Attention runs by definition, by kernels of ours whose results are allocated from the pool: nothing waits."""
    block = nm.nn.TransformerBlock.init(32, 4, rng=0, dtype=np.float32)
    x = np.random.default_rng(0).standard_normal((2, 16, 32)).astype(np.float32)
    optimizer = nm.optim.adamw(1e-3, weight_decay=0.01)
    model, x = nm.to_device((block, x), "cuda")
    state = optimizer.init(model)
    step = nm.compile(
        lambda m, s, x: optimizer.step(m, nm.grad(lambda m: np.mean(m(x) ** 2))(m), s),
        donate_argnums=(0, 1),
    )

    def run(after):
        given = model, state
        for turn in range(6):
            given = step(*given, x)
            after(turn)

    found = asked(cp, device, monkeypatch, run)
    assert found[3:] == [BUDGET["transformer block, adamw"]] * 3
