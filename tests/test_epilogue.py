"""Steps of optimizers inside of the products that make their gradients: the same bits, wherever they may stand."""

import itertools

import numpy as np
import pytest
from plans import lowered, run_all

import nnmath_core as nm
from nnmath_core._ext._tree import flatten
from nnmath_core.program import epilogue
from nnmath_core.program.lower import layouts

OPTIMIZERS = {
    "gradient_descent": nm.optim.gradient_descent(0.1),
    "heavy_ball": nm.optim.heavy_ball(0.1, 0.9),
    "nesterov": nm.optim.nesterov(0.1, 0.9),
    "adam": nm.optim.adam(1e-2),
    "adamw": nm.optim.adamw(1e-2, weight_decay=0.1),
}
ADAM = OPTIMIZERS["adam"]

pytestmark = pytest.mark.skipif(not layouts.PACKS, reason="products are not packed here")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def packed(monkeypatch):
    """All products of two matrices are packed, whatever would be faster."""
    who = layouts._who

    def only(dtype, m, n, k, *strides):
        found = who(dtype, m, n, k, *strides)
        return (layouts.PACKED, 1e-9) if dtype.kind == "f" and m > 1 and n > 1 else found

    monkeypatch.setattr(layouts, "_who", only)


def joined(f, *args):
    """Notes of the products with a step behind them."""
    return [s.note for s in lowered(f, *args).steps if s.kind == "gemm" and ", then " in s.note]


def apart(monkeypatch, f, *args):
    """The results with every step in an instruction of its own."""
    with monkeypatch.context() as m:
        m.setattr(epilogue, "SMALLEST", 1 << 60)
        assert not joined(f, *args)
        return run_all(f, *args)[0]


def same_bits(got, want):
    a, d = flatten(got)
    b, e = flatten(want)
    assert d == e
    assert all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=True))


def training(opt):
    """One step on a network of dense layers."""

    def loss(params, x):
        for w, b in params:
            x = np.tanh(x @ w + b)
        return (x * x).sum()

    def step(params, state, x):
        value, slope = nm.value_and_grad(loss)(params, x)
        return value, *opt.step(params, slope, state)

    return step


def network(rng, widths, batch, dtype, opt=None):
    params = [
        (0.1 * rng.standard_normal((i, o)), rng.standard_normal(o))
        for i, o in itertools.pairwise(widths)
    ]
    params = nm.tree_map(lambda x: x.astype(dtype), params)
    return params, (opt or ADAM).init(params), rng.standard_normal((batch, widths[0])).astype(dtype)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_in_products_have_the_bits_of_steps_apart(name, dtype, rng, packed, monkeypatch):
    opt = OPTIMIZERS[name]
    f = training(opt)
    args = network(rng, (71, 67, 99), 13, dtype, opt)
    for _ in range(2):
        want = apart(monkeypatch, f, *args)
        assert [n.split(", then ")[1] for n in joined(f, *args)] == [name] * 2
        for got in run_all(f, *args):
            same_bits(got, want)
        args = (*want[1:], args[2])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    ("rows", "columns", "batch"),
    [
        (64, 64, 1), (65, 64, 8), (1, 5000, 3), (2100, 2, 16), (20, 401, 31), (12, 800, 1000), (1100, 33, 40),
        (401, 20, 100),
    ],
)  # fmt: skip
def test_all_shapes_of_tiles(rows, columns, batch, dtype, rng, packed, monkeypatch):
    """Few rows and few columns, more than one block of either, tiles that are not full, the deepest part of k."""
    f = training(ADAM)
    batch = min(batch, 4 * layouts.DEPTH // np.dtype(dtype).itemsize)
    args = network(rng, (rows, columns), batch, dtype)
    assert len(joined(f, *args)) == (rows > 1 and batch > 1)
    want = apart(monkeypatch, f, *args)
    for got in run_all(f, *args):
        same_bits(got, want)


def test_donated_weights_change_where_they_lie(rng, packed):
    f = training(ADAM)
    params, state, x = network(rng, (80, 90, 70), 20, "f4")
    want = f(params, state, x)
    compiled = nm.compile(f, donate_argnums=(0, 1))
    plan = compiled.plan(params, state, x)
    assert sum(", then adam" in s.note for s in plan.steps) == 2
    copied = [v for s in plan.steps if s.kind == "copy" for v in s.writes]
    assert all(v.buffer.kind != "output" for v in copied)  # nothing overwrites what is still read
    w = params[0][0]
    got = compiled(params, state, x)
    assert got[1][0][0] is w
    for a, b in zip(flatten(got)[0], flatten(want)[0], strict=True):
        # sums of at most 90 products, whose rounding Adam's quotient passes on to a step of 1e-2
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_a_gradient_that_somebody_else_reads_is_written(rng, packed, monkeypatch):
    def loss(params, x):
        return (np.tanh(x @ params[0][0] + params[0][1]) ** 2).sum()

    def returned(params, state, x):
        slope = nm.grad(loss)(params, x)
        return slope, ADAM.step(params, slope, state)

    def clipped(params, state, x):
        slope = nm.grad(loss)(params, x)
        norm = np.sqrt(sum((g * g).sum() for g in flatten(slope)[0]))
        return ADAM.step(params, nm.tree_map(lambda g: g / np.maximum(norm, 1.0), slope), state)

    def watched(params, state, x):
        slope = nm.grad(loss)(params, x)
        return np.abs(slope[0][0]).max(), ADAM.step(params, slope, state)

    args = network(rng, (80, 70), 20, "f4")
    for f in (returned, clipped, watched):
        assert not joined(f, *args)
        same_bits(run_all(f, *args)[2], apart(monkeypatch, f, *args))


def test_weights_that_are_read_later(rng, packed, monkeypatch):
    """Old weights in a result, in two layers, beside the new ones: nothing is overwritten too soon."""

    def loss(params, x):
        w = params[0][0]
        return (np.tanh(np.tanh(x @ w) @ w.T) ** 2).sum()

    def f(params, state, x):
        value, slope = nm.value_and_grad(loss)(params, x)
        new, state = ADAM.step(params, slope, state)
        moved = [
            np.abs(a - b).max() for a, b in zip(flatten(new)[0], flatten(params)[0], strict=True)
        ]
        return value, new, state, params[0][0] * 2, moved

    def g(params, state, x):
        return f(params, state, x)[:3]

    args = network(rng, (80, 70), 20, "f4")
    for h in (f, g):
        want = apart(monkeypatch, h, *args)
        for got in run_all(h, *args):
            same_bits(got, want)
        donated = nm.tree_map(np.copy, args)
        same_bits(nm.compile(h, donate_argnums=(0, 1))(*donated), want)


def test_who_reads_old_weights_runs_before_they_change(rng, packed):
    def f(params, state, x):
        new = training(ADAM)(params, state, x)
        return new, np.abs(params[0][0]).max()

    args = network(rng, (80, 70), 20, "f4")
    plan = nm.compile(f, donate_argnums=(0, 1)).plan(*args)
    kinds = [s.kind for s in plan.steps]
    last = max(k for k, s in enumerate(plan.steps) if ", then adam" in s.note)
    assert kinds[last + 1 :] == ["optimizer"]
    copied = [v for s in plan.steps if s.kind == "copy" for v in s.writes]
    assert all(v.buffer.kind != "output" for v in copied)


def test_two_steps_in_one_function(rng, packed, monkeypatch):
    step = training(OPTIMIZERS["heavy_ball"])

    def twice(params, state, x):
        _, params, state = step(params, state, x)
        return step(params, state, x)

    args = network(rng, (80, 90, 70), 20, "f8", OPTIMIZERS["heavy_ball"])
    assert len(joined(twice, *args)) == 4
    want = apart(monkeypatch, twice, *args)
    for got in run_all(twice, *args):
        same_bits(got, want)
    donated = nm.tree_map(np.copy, args)
    same_bits(nm.compile(twice, donate_argnums=(0, 1))(*donated), want)


def test_training_in_a_scan(rng, packed, monkeypatch):
    step = training(ADAM)

    def train(params, state, xs):
        def body(carry, x):
            value, params, state = step(*carry, x)
            return (params, state), value

        return nm.scan(body, (params, state), xs)

    params, state, _ = network(rng, (80, 90), 20, "f4")
    xs = rng.standard_normal((5, 20, 80)).astype("f4")
    body = next(s for s in lowered(train, params, state, xs).steps if s.subs).subs[0]
    assert any(", then adam" in s.note for s in body)
    want = apart(monkeypatch, train, params, state, xs)
    for got in run_all(train, params, state, xs):
        same_bits(got, want)


def test_nan_and_infinity_stay_where_they_are(rng, packed, monkeypatch):
    f = training(OPTIMIZERS["adamw"])
    params, state, x = network(rng, (80, 70), 20, "f4", OPTIMIZERS["adamw"])
    params[0][0][3, 5], params[0][0][7, 9], x[2, 11] = np.nan, np.inf, 1e30
    want = apart(monkeypatch, f, params, state, x)
    for got in run_all(f, params, state, x):
        same_bits(got, want)


def test_it_saves_memory_and_shows_itself(rng, monkeypatch):
    monkeypatch.setattr(epilogue, "SAVED", 1e-9)  # on every instruction set
    f = training(ADAM)
    args = network(rng, (784, 128, 10), 32, "f4")
    plan = lowered(f, *args)
    text = str(nm.compile(f).inspect(*args))
    assert "784x32 @ 32x128 by packed, then adam" in text
    assert any(", then adam" in note for _, note, _ in plan.profile(*args, runs=3).rows)
    flops = plan.cost.flops
    with monkeypatch.context() as m:
        m.setattr(epilogue, "SMALLEST", 1 << 60)
        other = lowered(f, *args)
    assert plan.arena <= other.arena
    saved = 2 * 4 * 784 * 128 - 16  # the rate and the number of the step are read by two
    assert plan.cost.bytes == other.cost.bytes - saved
    np.testing.assert_allclose(flops, other.cost.flops, rtol=1e-12)


@pytest.mark.parametrize(("loses", "by"), [(1e-6, "packed"), (1.0, "blocks")])
def test_a_product_is_packed_for_the_step_where_that_costs_little(loses, by, rng, monkeypatch):
    """The gradient of 700 x 130 weights: what is saved is worth some 9 microseconds, and no second."""
    monkeypatch.setattr(epilogue, "SAVED", 2.5e-11)  # as with AVX-512
    monkeypatch.setattr(layouts, "_blas_seconds", lambda *a: 9.0)
    monkeypatch.setattr(
        layouts, "_blocks_seconds", lambda *a: layouts._packed_seconds(*a[:4], 1, 1, 1, 1) - loses
    )
    f = training(ADAM)
    args = network(rng, (700, 130), 32, "f4")
    plan = lowered(f, *args)
    note = next(s.note for s in plan.steps if s.note.startswith("700x32"))
    assert note.split(" by ")[1] == ("packed, then adam" if by == "packed" else "blocks")
    want = apart(monkeypatch, f, *args)
    for got in run_all(f, *args):
        same_bits(got, want)


def test_large_tensors_and_long_sums_stay_apart(rng):
    assert len(joined(training(ADAM), *network(rng, (700, 900), 64, "f4"))) == 0
    assert len(joined(training(ADAM), *network(rng, (128, 128), 500, "f4"))) == 0
