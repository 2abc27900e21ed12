"""Optimizers: trajectories, conventions, purity, derivatives through a step, saving, complaints."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError, ShapeError, TraceError, TreeError

DTYPES = [np.float32, np.float64]
EPS = np.finfo(np.float64).eps
STORED = json.loads((Path(__file__).parent / "reference" / "optim_torch.json").read_text())

OPTIMIZERS = {
    "gradient_descent": nm.optim.gradient_descent(0.05),
    "heavy_ball": nm.optim.heavy_ball(0.02, 0.9),
    "nesterov": nm.optim.nesterov(0.02, 0.9),
    "adam": nm.optim.adam(0.1),
    "adamw": nm.optim.adamw(0.1, weight_decay=0.2),
}
every_optimizer = pytest.mark.parametrize("opt", OPTIMIZERS.values(), ids=OPTIMIZERS)


@pytest.fixture
def rng():
    return np.random.default_rng(20261122)


def some_params(rng, dtype=np.float64):
    return {
        "w": rng.standard_normal((3, 4)).astype(dtype),
        "b": [rng.standard_normal(4).astype(dtype), rng.standard_normal(()).astype(dtype)[...]],
        "none": None,
    }


def like(rng, tree):
    return nm.tree_map(lambda x: rng.standard_normal(x.shape).astype(x.dtype)[...], tree)


def advanced(opt, params, rng, steps=3):
    """Return parameters and state after some steps with random gradients."""
    state = opt.init(params)
    for _ in range(steps):
        params, state = opt.step(params, like(rng, params), state)
    return params, state


def bits(tree):
    return [(x.dtype, x.shape, x.tobytes()) for x in nm.tree_leaves(tree)]


def run(opt, f, x, steps):
    """Return the iterates of a descent on f."""
    path, state, g = [x], opt.init(x), nm.grad(f)
    for _ in range(steps):
        x, state = opt.step(x, g(x), state)
        path.append(x)
    return np.array(path)


# --------------------------------------------------------------------- published conventions

AS_TORCH = {
    **OPTIMIZERS,
    "adam, other betas, large eps": nm.optim.adam(0.1, 0.7, 0.95, 0.05),
    "heavy_ball, halving": nm.optim.heavy_ball(lambda steps: 0.04 * 0.5**steps, 0.8),
    "adamw, halving": nm.optim.adamw(lambda steps: 0.2 * 0.5**steps, weight_decay=0.1),
}


@pytest.mark.parametrize("name", STORED["paths"])
def test_twenty_steps_agree_with_pytorch(name):
    x, y, w, b = (np.array(STORED["data"][k]) for k in "xywb")

    def loss(p):
        return ((x @ p["w"] + p["b"] - y) ** 2).mean() + 0.25 * (p["w"] ** 4).sum()

    opt, params, g = AS_TORCH[name], {"w": w, "b": b}, nm.grad(loss)
    state = opt.init(params)
    for t, row in enumerate(STORED["paths"][name], start=1):
        params, state = opt.step(params, g(params), state)
        want = np.array([float.fromhex(v) for v in row])
        got = np.concatenate([params["w"].ravel(), params["b"]])
        # a few roundings of numbers of order one in gradient and step, carried on by each step,
        # with a gain of order one: the loss has curvatures of order ten and rates of a tenth
        assert np.all(np.abs(got - want) <= 32 * t * EPS), t
        assert int(state.count) == t


# --------------------------------------------------------------------- closed forms

CURVATURE = 3.0


def quadratic(x):
    return 0.5 * CURVATURE * np.sum(x * x)


def second_order_recurrence(first, second, trace, determinant, steps):
    """Solve x[t+1] = trace x[t] - determinant x[t-1] by its characteristic equation."""
    roots = np.roots([1, -trace, determinant]).astype(complex)
    a, b = np.linalg.solve([[1, 1], roots], [first, second])
    t = np.arange(steps + 1)
    return (a * roots[0] ** t + b * roots[1] ** t).real


def test_gradient_descent_on_a_quadratic_is_a_geometric_sequence():
    rate, steps = 0.1, 30
    path = run(nm.optim.gradient_descent(rate), quadratic, np.array([2.0]), steps)[:, 0]
    want = 2.0 * (1 - rate * CURVATURE) ** np.arange(steps + 1)
    assert np.all(np.abs(path - want) <= 4 * EPS * (1 + np.arange(steps + 1)) * want)


def test_heavy_ball_on_a_quadratic_is_polyaks_recurrence():
    rate, momentum, steps = 0.1, 0.8, 40
    path = run(nm.optim.heavy_ball(rate, momentum), quadratic, np.array([2.0]), steps)[:, 0]
    # x[t+1] = x[t] - rate g + momentum (x[t] - x[t-1])
    trace = 1 + momentum - rate * CURVATURE
    want = second_order_recurrence(2.0, 2.0 * (1 - rate * CURVATURE), trace, momentum, steps)
    assert np.all(np.abs(path - want) <= 64 * EPS * steps)


def test_nesterov_on_a_quadratic_is_the_recurrence_of_its_looking_ahead():
    rate, momentum, steps = 0.1, 0.8, 40
    path = run(nm.optim.nesterov(rate, momentum), quadratic, np.array([2.0]), steps)[:, 0]
    shrink = 1 - rate * CURVATURE  # x = shrink w, and w[t+1] = x[t+1] + momentum (x[t+1] - x[t])
    first = 2.0 * (shrink + momentum * (shrink - 1))  # the first x before is w[0] itself
    trace, determinant = (1 + momentum) * shrink, momentum * shrink
    want = second_order_recurrence(2.0, first, trace, determinant, steps)
    assert np.all(np.abs(path - want) <= 64 * EPS * steps)


def test_nesterov_is_the_pair_of_sequences_of_its_docstring(rng):
    a = rng.standard_normal((4, 3))
    f = lambda x: np.sum(np.log(np.cosh(a @ x)))  # noqa: E731
    rate, momentum, steps = 0.05, 0.7, 15
    path = run(nm.optim.nesterov(rate, momentum), f, np.ones(3), steps)
    w = x = np.ones(3)
    for t in range(steps):
        ahead = w - rate * nm.grad(f)(w)
        w, x = ahead + momentum * (ahead - x), ahead
        assert np.all(np.abs(path[t + 1] - w) <= 32 * EPS * (t + 1))


@pytest.mark.parametrize(
    ("make", "factor"),
    [
        (lambda m, L: nm.optim.gradient_descent(1 / L), 0.99),
        (lambda m, L: nm.optim.gradient_descent(2 / (L + m)), 0.9801980198019802),
        (
            lambda m, L: nm.optim.heavy_ball(
                4 / (L**0.5 + m**0.5) ** 2, ((L**0.5 - m**0.5) / (L**0.5 + m**0.5)) ** 2
            ),
            0.8181818181818182,
        ),
        (lambda m, L: nm.optim.nesterov(1 / L, (L**0.5 - m**0.5) / (L**0.5 + m**0.5)), 0.9),
    ],
    ids=["descent, 1/L", "descent, 2/(L+m)", "heavy ball", "nesterov"],
)
def test_factor_per_step_at_condition_100_is_the_published_one(make, factor):
    m, L = 1.0, 100.0
    curvatures = np.array([m, L])
    path = run(make(m, L), lambda x: 0.5 * np.sum(curvatures * x * x), np.ones(2), 240)
    # Heavy ball and Nesterov have a double root: they decay like (a + b t) factor^t.
    growth = 2.0 if factor < 0.95 else 1.0
    size = np.linalg.norm(path, axis=1)
    measured = (size[240] / size[120] / growth) ** (1 / 120)
    # The ratio of a + b t at 240 and 120 is 2 (1 - a / (240 b)) nearly, and a / b is below 20.
    assert abs(measured - factor) <= factor * 20 / 240 / 120


def test_adam_with_a_constant_gradient_takes_steps_of_the_learning_rate():
    g, rate, steps = np.array([5.0, -1e-3]), 0.1, 50
    opt = nm.optim.adam(rate)
    x = np.array([1.0, 1.0])
    state = opt.init(x)
    for _ in range(steps):
        x, state = opt.step(x, g, state)
    want = 1.0 - steps * rate * g / (np.abs(g) + 1e-8)
    # 1 - 0.999^t loses log2(1000) bits to cancellation, and its root half of that
    assert np.all(np.abs(x - want) <= steps * rate * 1000 * EPS)
    moment = g * (1 - 0.9**steps)
    assert np.all(np.abs(state.mu - moment) <= 4 * steps * EPS * np.abs(g))


def test_adamw_without_gradient_decays_by_learning_rate_times_decay():
    opt = nm.optim.adamw(0.1, weight_decay=0.5)
    x = np.array([3.0])
    state = opt.init(x)
    for _ in range(10):
        x, state = opt.step(x, np.zeros(1), state)
    assert abs(x[0] - 3.0 * 0.95**10) <= 16 * EPS


def test_adamw_without_decay_is_adam(rng):
    params = some_params(rng)
    plain, _ = advanced(nm.optim.adam(0.1), params, np.random.default_rng(1))
    decayed, _ = advanced(nm.optim.adamw(0.1, weight_decay=0.0), params, np.random.default_rng(1))
    assert bits(plain) == bits(decayed)


def test_schedule_is_asked_with_the_number_of_steps_taken():
    asked = []

    def schedule(steps):
        asked.append(steps)
        return [0.5, 0.25, 0.0][steps]

    opt = nm.optim.gradient_descent(schedule)
    x = np.array([0.0])
    state = opt.init(x)
    path = []
    for _ in range(3):
        x, state = opt.step(x, np.array([1.0]), state)
        path.append(float(x[0]))
    assert asked == [0, 1, 2]
    assert path == [-0.5, -0.75, -0.75]


# --------------------------------------------------------------------- state, purity, layout


@pytest.mark.parametrize("dtype", DTYPES)
@every_optimizer
def test_step_is_pure_and_keeps_structure_and_dtypes(opt, dtype, rng):
    params = some_params(rng, dtype)
    grads = like(rng, params)
    state = opt.init(params)
    for count in range(3):
        for x in nm.tree_leaves((params, grads, state)):
            x.flags.writeable = False
        before = bits((params, grads, state))
        new_params, new_state = opt.step(params, grads, state)
        assert bits((params, grads, state)) == before
        assert int(new_state.count) == count + 1
        assert type(new_state) is type(state)
        for old, new in zip(
            nm.tree_leaves((params, state)), nm.tree_leaves((new_params, new_state)), strict=True
        ):
            assert type(new) is np.ndarray
            assert (new.dtype, new.shape) == (old.dtype, old.shape)
            assert not np.shares_memory(old, new)
        assert nm.tree_paths(new_params) == nm.tree_paths(params)
        params, state = new_params, new_state


@every_optimizer
def test_state_starts_at_zero_and_counts_in_an_array(opt, rng):
    params = some_params(rng, np.float32)
    state = opt.init(params)
    assert (state.count.dtype, state.count.shape, int(state.count)) == (np.int64, (), 0)
    for field in dataclasses.fields(state)[1:]:
        tree = getattr(state, field.name)
        assert nm.tree_paths(tree) == nm.tree_paths(params)
        for zero, x in zip(nm.tree_leaves(tree), nm.tree_leaves(params), strict=True):
            assert (zero.dtype, zero.shape) == (x.dtype, x.shape)
            assert not zero.any()


@pytest.mark.parametrize("dtype", DTYPES)
@every_optimizer
def test_step_in_place_gives_the_bits_of_step(opt, dtype, rng):
    params = some_params(rng, dtype)
    grads = [like(rng, params) for _ in range(4)]
    pure, state = params, opt.init(params)
    for g in grads:
        pure, state = opt.step(pure, g, state)
    own = nm.tree_map(np.copy, params)
    own_state = opt.init(own)
    for g in grads:
        before = bits(g)
        assert opt.step_in_place(own, g, own_state) is None
        assert bits(g) == before
    assert bits((own, own_state)) == bits((pure, state))


@pytest.mark.parametrize("dtype", DTYPES)
@every_optimizer
def test_fused_step_agrees_with_its_definition(opt, dtype, rng):
    params, state = advanced(opt, some_params(rng, dtype), rng)
    grads = like(rng, params)
    fused = opt.step(params, grads, state)
    # under differentiation a step is made of array code
    defined = nm.vjp(lambda p: opt.step(p, grads, state)[0], params)[0]
    defined = (defined, nm.vjp(lambda p: opt.step(p, grads, state)[1], params)[0])
    # Both round each of about ten operations, in another order; numbers are of order one.
    tol = 16 * np.finfo(dtype).eps
    for a, b in zip(nm.tree_leaves(fused), nm.tree_leaves(defined), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert np.all(np.abs(a - b) <= tol * (1 + np.abs(a)))
    assert int(defined[1].count) == 4


@every_optimizer
def test_step_takes_any_layout(opt, rng):
    x, g = rng.standard_normal((2, 6, 4))
    state = opt.init(x)
    want = opt.step(x, g, state)
    spread = np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)
    mirrored = np.ascontiguousarray(g[::-1])[::-1]
    unaligned = np.frombuffer(b"\0" + g.tobytes(), np.uint8)[1:].view(np.float64).reshape(6, 4)
    layouts = [
        (np.asfortranarray(x), np.asfortranarray(g)),
        (spread[::2, ::3], mirrored),
        (np.ascontiguousarray(x[:, ::-1])[:, ::-1], unaligned),
        (x, np.broadcast_to(g, (1, 6, 4))[0]),
    ]
    for a, b in layouts:
        assert bits(opt.step(a, b, state)) == bits(want)
        assert opt.init(a).count == 0
    same = opt.step(x, x, state)  # gradient and parameters may be one array
    assert bits(same) == bits(opt.step(x, x.copy(), state))


@every_optimizer
def test_step_takes_floats_empty_arrays_and_empty_trees(opt):
    params, grads = {"a": 1.0, "b": np.zeros((0, 3))}, {"a": 0.5, "b": np.zeros((0, 3))}
    new, state = opt.step(params, grads, opt.init(params))
    assert (new["a"].dtype, new["a"].shape, new["b"].shape) == (np.float64, (), (0, 3))
    assert new["a"] < 1.0
    assert int(state.count) == 1
    assert opt.step({}, {}, opt.init({}))[0] == {}
    own = {"b": np.zeros((0, 3))}
    opt.step_in_place(own, own, opt.init(own))  # nothing is shared by empty arrays


@every_optimizer
def test_leaves_of_two_dtypes_stay_as_they_are(opt, rng):
    params = {"a": np.ones(3, np.float32), "b": np.ones(3)}
    new, state = advanced(opt, params, rng)
    assert (new["a"].dtype, new["b"].dtype) == (np.float32, np.float64)
    state = dataclasses.replace(state, count=int(state.count))  # a plain integer is a count as well
    grads = like(rng, params)
    assert opt.step(new, grads, state)[1].count.dtype == np.int64


def test_training_a_network_lowers_its_loss(rng):
    x = rng.standard_normal((60, 4))
    y = (np.sum(x, axis=1) > 0).astype(int)

    def loss(model):
        return nm.nn.softmax_cross_entropy(model(x), y).mean()

    vg = nm.value_and_grad(loss)
    for opt in OPTIMIZERS.values():
        model = nm.nn.MLP.init((4, 8, 2), rng=0)
        state = opt.init(model)
        first = loss(model)
        for _ in range(60):
            _, grads = vg(model)
            model, state = opt.step(model, grads, state)
        assert isinstance(model, nm.nn.MLP)
        assert loss(model) < 0.6 * first, opt.name


@pytest.mark.parametrize("dtype", DTYPES)
@every_optimizer
def test_saved_training_goes_on_bit_for_bit(opt, dtype, tmp_path, rng):
    model, state = advanced(opt, nm.nn.MLP.init((3, 4, 2), rng=0, dtype=dtype), rng)
    nm.save(tmp_path / "training.npz", {"opt": opt, "model": model, "state": state})
    loaded = nm.load(tmp_path / "training.npz")
    assert loaded["opt"] == opt
    assert type(loaded["state"]) is type(state)
    assert bits((loaded["model"], loaded["state"])) == bits((model, state))
    grads = like(rng, model)
    on = opt.step(model, grads, state)
    resumed = loaded["opt"].step(loaded["model"], grads, loaded["state"])
    assert bits(resumed) == bits(on)
    checked = nm.load(tmp_path / "training.npz", like={"opt": opt, "model": model, "state": state})
    assert bits(checked["state"]) == bits(state)


# --------------------------------------------------------------------- traced steps


def target_after_step(opt, w, g, state):
    new, new_state = opt.step(w, g, state)
    return np.sum(np.sin(new)) + sum(
        np.sum(np.cos(tree)) for tree in vars(new_state).values() if tree is not new_state.count
    )


def assert_gradient(got, f, x):
    """Compare with central differences, by steps in proportion to each entry of x.

    Where a function changes on the scale of its argument, or more slowly, the error of a step
    h = eps^(1/3) |x| is a small multiple of eps^(2/3) times slope and value / |x|.
    """
    assert got.shape == x.shape
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += EPS ** (1 / 3) * abs(x[i])
        down[i] -= EPS ** (1 / 3) * abs(x[i])
        want = (f(up) - f(down)) / (up[i] - down[i])
        scale = 1 + abs(want) + (1 + abs(f(x))) / abs(x[i])
        assert abs(got[i] - want) <= 20 * EPS ** (2 / 3) * scale


@every_optimizer
def test_step_differentiates_in_parameters_gradients_and_state(opt, rng):
    w, state = advanced(opt, rng.standard_normal(4), rng)
    g = 1 + rng.uniform(0, 1, 4)
    in_w = lambda w: target_after_step(opt, w, g, state)  # noqa: E731
    in_g = lambda g: target_after_step(opt, w, g, state)  # noqa: E731
    slopes = nm.grad(lambda w, g: target_after_step(opt, w, g, state), argnums=(0, 1))(w, g)
    assert_gradient(slopes[0], in_w, w)
    assert_gradient(slopes[1], in_g, g)
    v = rng.standard_normal(4)
    tangent = nm.jvp(in_g, (g,), (v,))[1]
    assert abs(tangent - slopes[1] @ v) <= 64 * EPS * np.sum(np.abs(slopes[1] * v))
    assert_gradient(nm.hvp(in_g, (g,), (v,)), lambda g: nm.grad(in_g)(g) @ v, g)
    for field in dataclasses.fields(state)[1:]:

        def in_state(x, name=field.name):
            return target_after_step(opt, w, g, dataclasses.replace(state, **{name: x}))

        x = getattr(state, field.name)
        assert_gradient(nm.grad(in_state)(x), in_state, x)


@every_optimizer
def test_step_differentiates_in_its_hyperparameters(opt, rng):
    w, state = advanced(opt, rng.standard_normal(4), rng)
    g = rng.standard_normal(4)
    for field in dataclasses.fields(opt):
        x = getattr(opt, field.name)
        f = lambda x, k=field.name: target_after_step(  # noqa: E731
            dataclasses.replace(opt, **{k: x}), w, g, state
        )
        near = min(x, 1 - x)  # factors near 1 act through what they lack to it
        h = EPS ** (1 / 3) * near
        want = (f(x + h) - f(x - h)) / (2 * h)
        tol = 20 * EPS ** (2 / 3) * (abs(want) + (1 + abs(f(x))) / near)
        slope = nm.grad(f)(x)
        assert abs(slope - want) <= tol, field.name
        forward = nm.jvp(f, (x,), (1.0,))[1]
        assert abs(forward - slope) <= 64 * EPS * (1 + abs(want)), field.name


@every_optimizer
def test_hyperparameters_belong_to_the_structure(opt, rng):
    assert nm.tree_leaves(opt) == []
    assert nm.tree_map(lambda x: x + 1.0, opt) == opt
    assert nm.stop_gradient((opt, 1.0))[0] == opt
    # what is trained beside an optimizer does not change it
    params = {"opt": opt, "w": rng.standard_normal(3)}
    grads = nm.grad(lambda p: p["opt"].learning_rate * np.sum(p["w"]))(params)
    assert grads["opt"] == opt
    outer = nm.optim.gradient_descent(0.5)
    new, _ = outer.step(params, grads, outer.init(params))
    assert new["opt"] == opt
    assert np.array_equal(new["w"], params["w"] - 0.5 * opt.learning_rate)
    other = dataclasses.replace(opt, learning_rate=0.25)
    with pytest.raises(TreeError, match=r"learning_rate=0\.\d+.*got .*learning_rate=0\.25"):
        nm.tree_map(lambda a, b: a, opt, other)
    with pytest.raises(DtypeError, match=r"argument 0\.learning_rate is a constant"):
        nm.grad(lambda o: o.learning_rate * 2.0)(opt)
    traced = []
    nm.grad(
        lambda r: traced.append(nm.tree_leaves(dataclasses.replace(opt, learning_rate=r))) or r
    )(0.5)
    assert [len(leaves) for leaves in traced] == [1]


@pytest.mark.parametrize(
    ("make", "other"),
    [
        (nm.optim.adam(0.1), nm.optim.adamw(0.1, weight_decay=0.0)),
        (nm.optim.heavy_ball(0.1, 0.5), nm.optim.nesterov(0.1, 0.5)),
    ],
)
def test_training_goes_on_with_the_other_optimizer_of_the_same_state(make, other, rng):
    w, state = advanced(make, rng.standard_normal(4), rng)
    g = rng.standard_normal(4)
    new, next_state = other.step(w, g, state)
    assert next_state.count == 4
    assert bits(next_state) == bits(make.step(w, g, state)[1])
    if make.name == "adam":
        assert bits(new) == bits(make.step(w, g, state)[0])


@pytest.mark.parametrize(
    "make", [nm.optim.adam, lambda rate: nm.optim.adamw(rate, weight_decay=0.1)]
)
def test_derivative_of_adam_at_a_gradient_of_zero_is_its_limit(make):
    opt, w, g = make(0.1), np.ones(2), np.array([0.0, 1.0])
    state = opt.init(w)
    f = lambda g: opt.step(w, g, state)[0].sum()  # noqa: E731
    want = -0.1 / 1e-8  # -rate (1 - b1) / (c1 eps), and c1 = 1 - b1 in the first step
    d = nm.grad(f)(g)
    assert abs(d[0] - want) <= 8 * EPS * abs(want)
    assert nm.jvp(f, (g,), (np.array([1.0, 0.0]),))[1] == pytest.approx(want, rel=8 * EPS)
    assert np.all(np.isfinite(nm.hvp(f, (g,), (np.ones(2),))))


@every_optimizer
def test_steps_of_an_ensemble_map(opt, rng):
    params = rng.standard_normal((3, 4))
    grads = rng.standard_normal((3, 4))
    states = nm.vmap(opt.init)(params)
    states = dataclasses.replace(states, count=np.array([0, 1, 5]))
    new, new_states = nm.vmap(opt.step)(params, grads, states)
    assert new_states.count.tolist() == [1, 2, 6]
    for i in range(3):
        state = nm.tree_map(lambda x, i=i: x[i], states)
        want, _ = opt.step(params[i], grads[i], state)
        assert np.all(np.abs(new[i] - want) <= 16 * EPS * (1 + np.abs(want)))


@every_optimizer
def test_learning_rates_map(opt):
    rates = np.array([0.1, 0.2])
    w, g = np.ones(3), np.array([1.0, -2.0, 0.5])
    f = lambda rate: dataclasses.replace(opt, learning_rate=rate).step(w, g, opt.init(w))[0]  # noqa: E731
    got = nm.vmap(f)(rates)
    for i in range(2):
        want = f(float(rates[i]))
        assert np.all(np.abs(got[i] - want) <= 16 * EPS * (1 + np.abs(want)))


@pytest.mark.parametrize("dtype", DTYPES)
@every_optimizer
def test_traced_step_keeps_the_dtype(opt, dtype, rng):
    params, state = advanced(opt, some_params(rng, dtype), rng)
    grads = like(rng, params)
    f = lambda p: sum(x.sum() for x in nm.tree_leaves(opt.step(p, grads, state)[0]))  # noqa: E731
    for x in nm.tree_leaves(nm.grad(f)(params)):
        assert x.dtype == dtype
    scheduled = dataclasses.replace(opt, learning_rate=lambda steps: 0.1 / (1.0 + steps))
    program = nm.stage(scheduled.step, params, grads, state)
    got, want = program(params, grads, state), scheduled.step(params, grads, state)
    for a, b in zip(nm.tree_leaves(got), nm.tree_leaves(want), strict=True):
        assert a.dtype == b.dtype
        assert np.all(np.abs(a - b) <= 16 * np.finfo(dtype).eps * (1 + np.abs(b)))


def test_gradient_flows_through_a_whole_training(rng):
    x, y = rng.standard_normal((6, 3)), rng.standard_normal(6)
    loss = lambda w: nm.nn.mean_squared_error(x @ w, y, reduction="mean")  # noqa: E731

    def after_training(rate):
        opt = nm.optim.heavy_ball(rate, 0.5)
        w = np.zeros(3)
        state = opt.init(w)
        for _ in range(5):
            w, state = opt.step(w, nm.grad(loss)(w), state)
        return loss(w)

    h = EPS ** (1 / 3)
    want = (after_training(0.1 + h) - after_training(0.1 - h)) / (2 * h)
    assert abs(nm.grad(after_training)(0.1) - want) <= 100 * EPS ** (2 / 3)


# --------------------------------------------------------------------- complaints


AMOUNT, FACTOR = "a finite number >= 0", r"a number in \[0, 1\)"
o = nm.optim
REFUSED = [
    (lambda: o.nesterov(-0.1, 0.5), DomainError, "nesterov: learning_rate", AMOUNT, "-0.1"),
    (lambda: o.gradient_descent("f"), DtypeError, "gradient_descent: learning_rate", AMOUNT, "'f'"),
    (lambda: o.adam(math.nan), DomainError, "adam: learning_rate", AMOUNT, "nan"),
    (lambda: o.adam(np.ones(2)), DtypeError, "adam: learning_rate", AMOUNT, "float64 array of"),
    (lambda: o.heavy_ball(0.1, 1.0), DomainError, "heavy_ball: momentum", FACTOR, "1.0"),
    (lambda: o.heavy_ball(0.1, abs), DtypeError, "heavy_ball: momentum", FACTOR, "`abs`"),
    (lambda: o.nesterov(0.1, -0.5), DomainError, "nesterov: momentum", FACTOR, "-0.5"),
    (lambda: o.adam(0.1, b1=1.0), DomainError, "adam: b1", FACTOR, "1.0"),
    (lambda: o.adam(0.1, b2=True), DtypeError, "adam: b2", FACTOR, "True"),
    (lambda: o.adam(0.1, eps=0.0), DomainError, "adam: eps", "a finite number > 0", "0.0"),
    (lambda: o.adamw(1, weight_decay=math.inf), DomainError, "adamw: weight_decay", AMOUNT, "inf"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "name", "wanted", "got"), REFUSED)
def test_hyperparameters_outside_their_domain_are_refused(make, error, name, wanted, got):
    who, name = name.split(": ")
    with pytest.raises(error, match=f"^{who}: `{name}` must be {wanted}, got {got}"):
        make()


def test_a_traced_hyperparameter_is_a_scalar():
    words = r"^adam: `learning_rate` must be .*, got a traced float64 array of shape \(2,\)"
    with pytest.raises(DtypeError, match=words):
        nm.grad(lambda rate: nm.optim.adam(rate).learning_rate.sum())(np.ones(2))


def test_weight_decay_has_no_default():
    with pytest.raises(TypeError, match="weight_decay"):
        nm.optim.adamw(0.1)
    assert nm.optim.adamw(np.float32(0.5), weight_decay=1) == nm.optim.adamw(0.5, weight_decay=1.0)


@every_optimizer
def test_structures_that_differ_are_refused(opt):
    params = {"w": np.ones(2), "b": np.ones(1)}
    state, who = opt.init(params), rf"^{opt.name}\.step: "
    with pytest.raises(
        TreeError, match=who + r"`grads` must be of the structure of `params`, .*'w'"
    ):
        opt.step(params, {"w": np.ones(2)}, state)
    with pytest.raises(TreeError, match=who + r"`grads` must be .*got TreeDef\(\[\*, \*\]\)"):
        opt.step(params, [np.ones(1), np.ones(2)], state)
    wanted = type(state).__name__
    with pytest.raises(
        TreeError, match=who + rf"`state` must be of type {wanted}, as `{opt.name}\.init"
    ):
        opt.step(params, params, None)
    other = nm.optim.adam(0.1) if not opt.name.startswith("adam") else nm.optim.nesterov(0.1, 0.5)
    with pytest.raises(TreeError, match=who + rf"`state` must be of type {wanted}"):
        opt.step(params, params, other.init(params))
    with pytest.raises(
        TreeError, match=rf"^{opt.name}\.step_in_place: `grads` must be of the struct"
    ):
        opt.step_in_place(params, {"w": np.ones(2)}, state)
    for field in dataclasses.fields(state)[1:]:
        with pytest.raises(
            TreeError, match=who + rf"`state\.{field.name}` must be of the structure"
        ):
            opt.step(params, params, dataclasses.replace(state, **{field.name: [1.0]}))


@every_optimizer
def test_leaves_that_differ_are_refused(opt):
    params = {"w": np.ones((2, 3)), "b": [np.ones(1)]}
    state, who = opt.init(params), rf"^{opt.name}\.step: "
    with pytest.raises(
        ShapeError, match=who + r"`grads\['w'\]` must be of shape \(2, 3\), got \(3, 2\)"
    ):
        opt.step(params, {"w": np.ones((3, 2)), "b": [np.ones(1)]}, state)
    single = {"w": np.ones((2, 3)), "b": [np.ones(1, np.float32)]}
    words = r"`grads\['b'\]\[0\]` must be float64 as `params\['b'\]\[0\]` is, got float32\. Nothing"
    with pytest.raises(DtypeError, match=who + words):
        opt.step(params, single, state)
    with pytest.raises(
        DtypeError, match=who + r"`grads\['w'\]` must be a float32 or float64 array, got"
    ):
        opt.step(params, {"w": np.ones((2, 3), int), "b": [np.ones(1)]}, state)
    with pytest.raises(
        DtypeError, match=rf"^{opt.name}\.init: `params\['n'\]` must be a float32 or "
    ):
        opt.init({"n": 3})
    with pytest.raises(
        DtypeError, match=who + r"`params\['n'\]` must be a float32 or float64 array"
    ):
        opt.step({"n": np.ones(2, np.float16)}, {"n": np.ones(2)}, opt.init({"n": np.ones(2)}))
    slots = dataclasses.fields(state)[1:]
    for field in slots:
        other = dataclasses.replace(
            state, **{field.name: {"w": np.ones((2, 4)), "b": [np.ones(1)]}}
        )
        words = rf"`state\.{field.name}\['w'\]` must be of shape \(2, 3\), got \(2, 4\)"
        with pytest.raises(ShapeError, match=who + words):
            opt.step(params, params, other)


@every_optimizer
def test_counts_that_are_none_are_refused(opt):
    params = np.ones(2)
    state, who = opt.init(params), rf"^{opt.name}\.step: `state\.count` must be "
    for count in (np.array([1, 2]), np.array(1.5), "three"):
        with pytest.raises(DtypeError, match=who + "a"):
            opt.step(params, params, dataclasses.replace(state, count=count))
    with pytest.raises(DomainError, match=who + "an integer >= 0, got -1"):
        opt.step(params, params, dataclasses.replace(state, count=np.array(-1)))


def test_schedules_that_return_no_rate_are_refused():
    params = np.ones(2)
    for rate, error in ((-1.0, DomainError), (math.nan, DomainError), (None, DtypeError)):
        opt = nm.optim.heavy_ball(lambda steps, rate=rate: rate, 0.5)
        words = r"^heavy_ball\.step: `learning_rate` must be a finite number >= 0, got "
        with pytest.raises(error, match=words):
            opt.step(params, params, opt.init(params))
    opt = nm.optim.gradient_descent(lambda steps: np.where(steps < 5, 0.5, 0.1))  # a 0-d array
    assert opt.step(params, params, opt.init(params))[0].tolist() == [0.5, 0.5]


@every_optimizer
def test_what_cannot_be_written_is_refused_before_anything_changes(opt, rng):
    who = rf"^{opt.name}\.step_in_place: "

    def refused(params, grads, state, error, words):
        before = bits((params, grads, state))
        with pytest.raises(error, match=who + words):
            opt.step_in_place(params, grads, state)
        assert bits((params, grads, state)) == before

    good, g = rng.standard_normal((2, 4))
    frozen = np.ones(4)
    frozen.flags.writeable = False
    state = opt.init([good, good])
    refused(
        [good, frozen], [g, g], state, DomainError, r"`params\[1\]` must be writeable, got a read-"
    )
    refused(
        [good, np.ones(8)[::2]], [g, g], state, ShapeError, r"`params\[1\]` must be contiguous in C"
    )
    refused(
        [good, np.ones(4)], [g, np.ones(8)[::2]], state, ShapeError, r"`grads\[1\]` must be contig"
    )
    raw = np.zeros(33, np.uint8)
    refused(
        [good, raw[1:].view(np.float64)],
        [g, g],
        state,
        DtypeError,
        r"`params\[1\]` must be aligned",
    )
    shared = r"`params\[0\]` and `params\[1\]` must not share memory, since a step in place"
    refused([good, good], [g, g], state, DomainError, shared)
    long = rng.standard_normal(6)
    refused([long[:4], long[2:]], [g, g], state, DomainError, shared)
    refused(
        [good, np.ones(4)],
        [g, good],
        state,
        DomainError,
        r"`params\[0\]` and `grads\[1\]` must not",
    )
    opt.step_in_place([long[:3], long[3:]], [g[:3], g[:3]], opt.init([long[:3], long[3:]]))
    plain = dataclasses.replace(state, count=2)
    with pytest.raises(
        DomainError, match=who + r"`state\.count` must be a 0-d array that can be wri"
    ):
        opt.step_in_place([good, np.ones(4)], [g, g], plain)
    for field in dataclasses.fields(state)[1:]:
        fixed = opt.init([good, good])
        getattr(fixed, field.name)[0].flags.writeable = False
        words = rf"`state\.{field.name}\[0\]` must be writeable"
        refused([good, np.ones(4)], [g, g], fixed, DomainError, words)


@every_optimizer
def test_a_traced_step_in_place_is_refused(opt):
    w = np.ones(3)
    with pytest.raises(
        TraceError, match=rf"^{opt.name}\.step_in_place: a step in place has no deriv"
    ):
        nm.grad(lambda g: opt.step_in_place(w, g, opt.init(w)))(np.ones(3))
    assert w.tolist() == [1.0, 1.0, 1.0]


@every_optimizer
def test_nan_in_a_gradient_stays_in_its_weight(opt):
    w, g = np.ones(5), np.array([1.0, np.nan, 1.0, 1.0, 1.0])
    new, _ = opt.step(w, g, opt.init(w))
    assert np.isnan(new).tolist() == [False, True, False, False, False]
