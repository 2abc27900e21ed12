"""Compiled steps of optimizers: one instruction for all leaves, the bits of the eager step, and its derivatives."""

import dataclasses

import numpy as np
import pytest
from plans import run_all
from test_optim import DTYPES, EPS, OPTIMIZERS, advanced, bits, like, some_params

import nnmath_core as nm
from nnmath_core.optim.whole import LEAVES

RULES = {
    **OPTIMIZERS,
    "adam, a schedule": nm.optim.adam(lambda count: 0.1 / (1 + count), 0.8, 0.95, 1e-3),
    "heavy_ball, a schedule": nm.optim.heavy_ball(lambda count: 0.1 * 0.5**count, 0.7),
}
every_rule = pytest.mark.parametrize("opt", RULES.values(), ids=RULES)


@pytest.fixture
def rng():
    return np.random.default_rng(20261127)


def ragged(rng, dtype, count=7):
    """Leaves of many sizes, without entries and without axes among them."""
    sizes = [(3, 4), (), (0,), (1,), (1000,), (17, 61), (2, 0, 3)][:count]
    return {f"w{i}": np.asarray(rng.standard_normal(n), dtype) for i, n in enumerate(sizes)}


def instructions(plan):
    return [step.note for step in plan.steps if step.kind == "optimizer"]


@pytest.mark.parametrize("dtype", DTYPES)
@every_rule
def test_compiled_steps_have_the_bits_of_eager_ones(opt, dtype, rng):
    params = ragged(rng, dtype)
    plain, donated = nm.compile(opt.step), nm.compile(opt.step, donate_argnums=(0, 2))
    eager = (params, opt.init(params))
    kept = eager
    own = nm.tree_map(np.copy, eager)
    for _ in range(4):
        g = like(rng, params)
        eager = opt.step(eager[0], g, eager[1])
        kept = plain(kept[0], g, kept[1])
        own = donated(own[0], g, own[1])
        assert bits(kept) == bits(eager)
        assert bits(own) == bits(eager)
    plan = plain.plan(kept[0], g, kept[1])
    assert len(instructions(plan)) == 1
    assert plan.cost.host == 0


@pytest.mark.parametrize("dtype", DTYPES)
@every_rule
def test_threads_share_entries_and_change_no_bit(opt, dtype, rng):
    params = ragged(rng, dtype)
    params, state = advanced(opt, params, rng)
    g = like(rng, params)
    want = opt.step(params, g, state)
    for got in run_all(opt.step, params, g, state, threads=5):
        assert bits(got) == bits(want)


@pytest.mark.parametrize("opt", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_leaves_of_each_dtype_are_one_operation_and_many_are_a_few(opt, rng):
    params = [np.asarray(rng.standard_normal(5), DTYPES[i % 2]) for i in range(9)]
    state, g = opt.init(params), like(rng, params)
    plan = nm.compile(opt.step).plan(params, g, state)
    assert len(instructions(plan)) == 2
    assert bits(plan(params, g, state)) == bits(opt.step(params, g, state))
    params = [rng.standard_normal(3) for _ in range(2 * LEAVES + 1)]
    state, g = opt.init(params), like(rng, params)
    plan = nm.compile(opt.step).plan(params, g, state)
    assert len(instructions(plan)) == 3
    assert len(plan.program.equations) < 16  # and not a multiple of the leaves
    assert bits(plan(params, g, state)) == bits(opt.step(params, g, state))


@every_rule
def test_donated_arrays_are_changed_where_they_lie(opt, rng):
    params = some_params(rng)
    state, g = opt.init(params), like(rng, params)
    step = nm.compile(opt.step, donate_argnums=(0, 2))
    new, new_state = step(params, g, state)
    for field in ("w", "b"):
        mine, old = nm.tree_leaves(new[field]), nm.tree_leaves(params[field])
        assert all(a is b for a, b in zip(mine, old, strict=True) if a.shape)
    moved = [f.name for f in dataclasses.fields(state) if f.name != "count"]
    assert all(getattr(new_state, f)["w"] is getattr(state, f)["w"] for f in moved)
    # the results lie where the operands do: nothing is copied
    assert not [s for s in step.plan(params, g, state).steps if s.kind == "copy"]


@pytest.mark.parametrize("dtype", DTYPES)
@every_rule
def test_a_training_step_is_its_gradient_and_one_instruction(opt, dtype, rng):
    x, y = rng.standard_normal((20, 6)).astype(dtype), rng.standard_normal((20, 3)).astype(dtype)
    params = {"w": rng.standard_normal((6, 3)).astype(dtype), "b": np.zeros(3, dtype)}

    def loss(p):
        return np.mean((np.tanh(x @ p["w"] + p["b"]) - y) ** 2)

    def train(params, state):
        value, g = nm.value_and_grad(loss)(params)
        return value, *opt.step(params, g, state)

    step = nm.compile(train, donate_argnums=(0, 1))
    eager = (params, opt.init(params))
    mine = nm.tree_map(np.copy, eager)
    assert len(instructions(step.plan(*mine))) == 1
    for _ in range(5):
        value, *mine = step(*mine)
        want, *eager = train(*eager)
        # the gradients differ by rounding, which Adam's first steps may magnify by 1 / eps of small entries only
        assert abs(value - want) <= 256 * np.finfo(dtype).eps * (1 + abs(want))
    for a, b in zip(nm.tree_leaves(mine), nm.tree_leaves(eager), strict=True):
        assert np.all(np.abs(a - b) <= 4096 * np.finfo(dtype).eps * (1 + np.abs(b)))


@every_rule
def test_a_recorded_step_differentiates_and_maps_by_its_definition(opt, rng):
    w, state = advanced(opt, rng.standard_normal(4), rng)
    g = 1 + rng.uniform(0, 1, 4)
    program = nm.stage(opt.step, w, g, state)
    assert [e.primitive.name for e in program.equations].count("optimizer_step") == 1

    def after(step, w, g, mu):
        fields = [f.name for f in dataclasses.fields(state) if f.name != "count"]
        moved = dataclasses.replace(state, **({fields[0]: mu} if fields else {}))
        new, after = step(w, g, moved)
        out = np.sum(np.sin(new))
        return out + sum(np.sum(getattr(after, f) ** 2) for f in fields)

    mu = rng.standard_normal(4)
    args, vs = (w, g, mu), tuple(rng.standard_normal((3, 4)))
    mine, want = (lambda *a: after(program, *a)), (lambda *a: after(opt.step, *a))
    every = (0, 1, 2)
    near = dict(rtol=1e-12, atol=1e-13)  # some hundred roundings of numbers near one
    for a, b in zip(
        nm.grad(mine, argnums=every)(*args), nm.grad(want, argnums=every)(*args), strict=True
    ):
        np.testing.assert_allclose(a, b, **near)
    np.testing.assert_allclose(nm.jvp(mine, args, vs)[1], nm.jvp(want, args, vs)[1], **near)
    for a, b in zip(nm.hvp(mine, args, vs), nm.hvp(want, args, vs), strict=True):
        np.testing.assert_allclose(a, b, **near)
    ws, gs = rng.standard_normal((2, 3, 4))
    step = nm.vmap(lambda w, g: program(w, g, state)[0])
    want = nm.vmap(lambda w, g: opt.step(w, g, state)[0])
    np.testing.assert_allclose(step(ws, gs), want(ws, gs), rtol=64 * EPS, atol=64 * EPS)


@every_rule
def test_training_in_a_scan_compiles_and_differentiates(opt, rng):
    w, gs = rng.standard_normal(4), rng.standard_normal((5, 4)) + 3.0

    def train(w, gs):
        def one(carry, g):
            w, state = opt.step(carry[0], g * carry[0], carry[1])
            return (w, state), np.sum(w)

        (w, _), sums = nm.scan(one, (w, opt.init(w)), gs)
        return np.sum(w**2) + sums[-1]

    def by_hand(w, gs):
        state = opt.init(w)
        for g in gs:
            w, state = opt.step(w, g * w, state)
        return np.sum(w**2) + np.sum(w)

    near = dict(rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(nm.compile(train)(w, gs), by_hand(w, gs), **near)
    want = nm.grad(by_hand)(w, gs)
    np.testing.assert_allclose(nm.grad(train)(w, gs), want, **near)
    np.testing.assert_allclose(nm.compile(nm.grad(train))(w, gs), want, **near)


def test_a_traced_hyperparameter_compiles_by_the_definition(rng):
    w, g = rng.standard_normal((2, 4))

    def step(rate, decay):
        opt = nm.optim.adamw(rate, weight_decay=decay)
        return opt.step(w, g, opt.init(w))[0]

    got = nm.compile(step)(np.array(0.1), np.array(0.2))
    np.testing.assert_allclose(got, step(0.1, 0.2), rtol=16 * EPS, atol=16 * EPS)


def test_an_optimizer_without_a_kernel_compiles(rng):
    @dataclasses.dataclass(frozen=True)
    class Sign(nm.optim.Optimizer):
        name = "sign"
        State = type(nm.optim.gradient_descent(0.1).init(np.zeros(1)))
        learning_rate: float

        def _meaning(self, rate, t, w, g, *slots):
            return (w - rate * np.sign(g),)

        def _in_place(self, be, rate, t, w, g, *slots):
            w -= rate * be.xp.sign(g)

    opt = Sign(0.5)
    w, g = rng.standard_normal((2, 6))
    step = nm.compile(opt.step)
    assert not instructions(step.plan(w, g, opt.init(w)))
    assert bits(step(w, g, opt.init(w))) == bits(opt.step(w, g, opt.init(w)))


def test_nan_stays_in_its_weight_of_its_leaf():
    for opt in OPTIMIZERS.values():
        params = [np.ones(5), np.ones(3)]
        g = [np.array([1.0, np.nan, np.inf, -np.inf, 0.0]), np.ones(3)]
        state = opt.init(params)
        with np.errstate(all="ignore"):
            want = opt.step(params, g, state)
        assert bits(nm.compile(opt.step)(params, g, state)) == bits(want)
