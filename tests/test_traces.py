"""Nesting, threads, generators, exceptions, leaks: right by construction, and shown to be."""

import asyncio
import concurrent.futures
import copy
import pickle

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import TraceError

X = np.linspace(0.1, 1.0, 6)


def test_perturbations_of_nested_gradients_are_not_confused():
    inner = nm.grad(lambda x: np.sum(x * nm.grad(lambda y: np.sum(x + y))(1.0)))
    assert inner(1.0) == 1.0


def test_perturbations_of_nested_jvps_are_not_confused():
    f = nm.jvp(lambda x: x * nm.jvp(lambda y: x * y, (2.0,), (1.0,))[1], (3.0,), (1.0,))
    assert f[1] == 6.0


def test_reverse_in_forward_in_reverse_is_not_confused():
    # d/dx of d/dy (d/dz z z y x at z = y) at y = x: d/dx (4 x y) at y = x, times x: 8 x
    f = nm.grad(lambda x: nm.jvp(lambda y: nm.grad(lambda z: z * z * y * x)(y), (x,), (1.0,))[1])
    assert f(2.0) == pytest.approx(16.0, rel=1e-15)


def test_six_nested_gradients_of_exp_are_exp():
    f = np.exp
    for _ in range(6):
        f = nm.grad(f)
    assert f(0.5) == pytest.approx(np.exp(0.5), rel=1e-14)


@pytest.mark.parametrize(
    "use",
    [
        lambda t: t + 1,
        lambda t: 2.0 * t,
        lambda t: np.tanh(t),
        lambda t: np.sum(t),
        lambda t: t[0],
        lambda t: bool(np.sum(t)),
        lambda t: nm.grad(lambda y: np.sum(y * t))(X),
        lambda t: nm.jvp(lambda y: y * t, (X,), (X,)),
        lambda t: nm.vmap(lambda y: y * t)(X),
        lambda t: nm.stage(lambda y: y * t, X),
    ],
)
@pytest.mark.parametrize("kind", ["grad", "jvp", "vmap", "stage"])
def test_a_leaked_tracer_is_refused(use, kind):
    kept = []

    def leaky(x):
        kept.append(x * 2.0)
        return np.sum(x)

    {
        "grad": lambda: nm.grad(leaky)(X),
        "jvp": lambda: nm.jvp(leaky, (X,), (X,)),
        "vmap": lambda: nm.vmap(leaky)(X[None]),
        "stage": lambda: nm.stage(leaky, X),
    }[kind]()
    with pytest.raises(TraceError, match="leaked"):
        use(kept[0])


def test_the_value_of_a_leaked_tracer_can_be_read():
    kept = []
    nm.grad(lambda x: kept.append(x * 2.0) or np.sum(x))(X)
    np.testing.assert_array_equal(nm.value_of(kept[0]), 2 * X)


@pytest.mark.parametrize("kind", [nm.grad, nm.vmap])
@pytest.mark.parametrize(
    "convert", [float, int, complex, range, np.asarray, lambda t: np.array([t])]
)
def test_a_conversion_of_a_leaked_tracer_says_leaked(kind, convert):
    kept = []
    kind(lambda x: kept.append(x * 2.0) or x)(1.0 if kind is nm.grad else X)
    with pytest.raises(TraceError, match="leaked"):
        convert(kept[0])


def test_the_value_of_one_example_of_a_batch_is_refused():
    for f in (
        nm.vmap(lambda x: x * nm.value_of(x)),
        nm.vmap(nm.grad(lambda x: x * nm.value_of(x))),
        nm.grad(lambda v: np.sum(nm.vmap(lambda x: x * nm.value_of(x))(v))),
    ):
        with pytest.raises(TraceError, match=r"value_of: under vmap .*nm\.stop_gradient\(x\)"):
            f(X)
    # what is not mapped has a value, and staging has none yet
    nm.vmap(lambda x, y: x * nm.value_of(y), in_axes=(0, None))(X, 2.0)
    nm.hessian(lambda x: np.sum(x**2) * float(nm.value_of(x)[0] > 0.0))(X)
    nm.stage(lambda x: isinstance(nm.value_of(x), nm.Tracer) and x, X)


def test_an_output_of_an_unfinished_inner_transformation_is_refused():
    def suspended(out):
        def f(y):
            out.append(y * 2.0)
            raise StopIteration

        try:
            nm.grad(f)(X)
        except StopIteration:
            pass
        return out[0]

    with pytest.raises(TraceError, match="leaked"):
        nm.grad(lambda x: np.sum(x) + np.sum(suspended([])))(X)


def test_an_exception_inside_leaves_nothing_behind():
    def broken(x):
        y = x * 2.0
        raise RuntimeError("inside")
        return y

    for door in (nm.grad(broken), nm.vmap(broken), lambda x: nm.jvp(broken, (x,), (x,))):
        with pytest.raises(RuntimeError, match="inside"):
            door(X)
        np.testing.assert_array_equal(nm.grad(lambda x: np.sum(x * x))(X), 2 * X)
    assert X.flags.writeable


def test_an_exception_in_a_pullback_leaves_it_usable():
    state = {"fail": True}

    def rule(xs, y, g):
        if state["fail"]:
            raise RuntimeError("in the rule")
        return (g * 3.0,)

    f = nm.custom_rule(lambda x: x * 3.0, vjp=rule)
    _, pull = nm.vjp(lambda x: np.sum(f(x) * x), X)
    with pytest.raises(RuntimeError, match="in the rule"):
        pull(1.0)
    state["fail"] = False
    np.testing.assert_allclose(pull(1.0)[0], 6 * X, rtol=1e-15)


def test_interleaved_generators_do_not_mix():
    def steps(scale):
        yield nm.grad(lambda x: np.sum(x * scale))(X)
        yield nm.grad(lambda x: np.sum(x * x * scale))(X)

    a, b = steps(2.0), steps(3.0)
    firsts = next(a), next(b)
    seconds = next(a), next(b)
    assert firsts[0][0] == 2.0
    assert firsts[1][0] == 3.0
    np.testing.assert_allclose(seconds[1], 6 * X, rtol=1e-15)


def test_a_generator_suspended_inside_a_trace_does_not_disturb_another():
    def values(x):
        y = x * x
        yield None
        yield np.sum(y)

    def f(x):
        it = values(x)
        next(it)
        inner = nm.grad(lambda z: np.sum(z * 3.0))(X)
        return next(it) + np.sum(x * inner)

    np.testing.assert_allclose(nm.grad(f)(X), 2 * X + 3.0, rtol=1e-15)


def test_coroutines_do_not_mix():
    async def one(k):
        await asyncio.sleep(0.0)
        return nm.grad(lambda x: np.sum(x * k))(X)[0]

    async def main():
        return await asyncio.gather(*[one(float(k)) for k in range(5)])

    assert asyncio.run(main()) == [0.0, 1.0, 2.0, 3.0, 4.0]


def hessians(seed):
    a = np.random.default_rng(seed).standard_normal((6, 6))

    def f(x):
        rows = nm.vmap(lambda v: np.sum(v * v * x))(np.stack([x, x * 2.0]))
        return np.sum(np.tanh(a @ x) * x) + np.sum(rows)

    return np.stack([nm.hessian(f)(X) for _ in range(10)])


def test_eight_threads_give_the_bits_of_one():
    serial = [hessians(s) for s in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        parallel = list(pool.map(hessians, range(8)))
    for a, b in zip(serial, parallel, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_thread_pool_inside_the_function_records_into_one_graph():
    def f(x):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            parts = list(pool.map(lambda k: np.sum(np.tanh(x * k)), range(1, 9)))
        return sum(parts)

    def plain(x):
        return sum(np.sum(np.tanh(x * k)) for k in range(1, 9))

    # the order of the sums may differ: 8 terms of order one
    np.testing.assert_allclose(nm.grad(f)(X), nm.grad(plain)(X), rtol=16 * np.finfo(float).eps)


def test_one_pullback_may_be_called_from_many_threads():
    a = np.random.default_rng(0).standard_normal((6, 6))
    _, pull = nm.vjp(lambda x: np.tanh(a @ x), X)
    seeds = [np.eye(6)[i % 6] for i in range(64)]
    serial = [pull(s)[0] for s in seeds]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        parallel = list(pool.map(lambda s: pull(s)[0], seeds))
    np.testing.assert_array_equal(serial, parallel)


@pytest.mark.parametrize("how", [pickle.dumps, copy.copy, lambda t: copy.deepcopy({"a": t})])
def test_a_tracer_is_not_copied_or_pickled(how):
    def f(x):
        with pytest.raises(TraceError, match="value_of"):
            how(x)
        return np.sum(x)

    nm.grad(f)(X)


def test_a_rule_may_differentiate():
    f = nm.custom_rule(
        lambda x: x**3, vjp=lambda xs, y, g: (g * nm.grad(lambda z: np.sum(z**3))(xs[0]),)
    )
    np.testing.assert_allclose(nm.grad(lambda x: np.sum(f(x)))(X), 3 * X**2, rtol=1e-15)
    np.testing.assert_allclose(
        nm.hvp(lambda x: np.sum(f(x)), (X,), (np.ones(6),)), 6 * X, rtol=8 * np.finfo(float).eps
    )


def test_stop_gradient_stops_every_mode():
    f = lambda x: np.sum(x * nm.stop_gradient(x))  # noqa: E731
    np.testing.assert_array_equal(nm.grad(f)(X), X)
    np.testing.assert_array_equal(nm.jvp(f, (X,), (np.ones(6),))[1], X.sum())
    np.testing.assert_array_equal(nm.hessian(f)(X), np.zeros((6, 6)))


def test_gradients_do_not_share_memory_with_arguments_or_each_other():
    y = X.copy()
    a, b = nm.grad(lambda x, y: np.sum(x + y), argnums=(0, 1))(X, y)
    assert not np.shares_memory(a, b)
    a[0] = 5.0
    assert b[0] == 1.0
    c = np.ones(6)
    (g,) = nm.vjp(lambda x: x, X)[1](c)
    assert not np.shares_memory(g, c)
    g = nm.grad(lambda x: np.sum(np.reshape(x, (2, 3)) * c.reshape(2, 3)))(X)
    assert g.base is None
    assert g.flags.writeable


@pytest.mark.parametrize(
    "f",
    [np.copy, nm.numpy.copy, lambda x: x.copy(), lambda x: x.flatten(), lambda x: np.tile(x, 2),
     lambda x: np.roll(x, 1), lambda x: x.astype(bool)],
)  # fmt: skip
def test_copies_keep_booleans_under_vmap(f):
    x = np.array([[True, False, True], [False, False, True]])
    mapped = nm.vmap(f)(x)
    assert mapped.dtype == bool
    np.testing.assert_array_equal(mapped, [f(row) for row in x])


# ------------------------------------------------------------------ answers about values
ANSWERS = [
    lambda x: np.isclose(x, 0.1),
    lambda x: np.isclose(0.1, x, atol=1e-3),
    lambda x: np.isclose(x, [0.1, np.nan, 0.2]),
    lambda x: np.isclose(x, x, equal_nan=True),
    lambda x: np.isclose(x, np.array([0, 1, 1])),
    lambda x: np.isclose(x, np.inf),
    lambda x: np.allclose(x, 0.1),
    lambda x: np.allclose(x, [0.1, 0.1, 0.1], rtol=0.5),
    lambda x: np.allclose(x, x),
    lambda x: np.allclose(x, x, equal_nan=True),
    lambda x: np.array_equal(x, x),
    lambda x: np.array_equal(x, x, equal_nan=True),
    lambda x: np.array_equal(x, np.full(3, 0.1)),
    lambda x: np.array_equal(x, np.ones(2)),
    lambda x: np.array_equiv(x, 0.1),
    lambda x: np.array_equiv(x, np.ones((2, 3))),
    lambda x: np.array_equiv(x, np.ones(2)),
]
VALUES = np.array([[0.1, 0.1, 0.1], [0.1, 1.0, 1e-9], [0.1, np.nan, np.inf]])


@pytest.mark.parametrize("f", ANSWERS)
def test_comparisons_within_a_tolerance_are_those_of_each_example(f):
    want = [f(row) for row in VALUES]
    np.testing.assert_array_equal(nm.vmap(f)(VALUES), want)
    for row, answer in zip(VALUES, want, strict=True):
        with np.errstate(invalid="ignore"):  # a program warns of inf - inf, as its operations do
            np.testing.assert_array_equal(nm.stage(f, row)(row), answer)
        found = []
        nm.grad(lambda x, found=found: found.append(f(x)) or x[0])(row)
        np.testing.assert_array_equal(found[0], answer)
        assert type(found[0]) is type(answer)  # so that `if` may ask


def test_a_choice_by_isclose_is_made_for_each_example():
    f = lambda x: np.where(np.isclose(x, 0.1), x**2, 0.0)  # noqa: E731
    v = np.array([0.1, 0.2])
    np.testing.assert_array_equal(nm.vmap(f)(v), f(v))
    np.testing.assert_array_equal(nm.vmap(nm.grad(f))(v), [0.2, 0.0])
    with pytest.raises(TraceError, match=r"np\.where"):
        nm.vmap(lambda x: x if np.allclose(x, 0.1) else 0.0)(v)


@pytest.mark.parametrize("through", [nm.vmap, lambda f: lambda x: nm.stage(f, x[0])])
def test_sets_without_values_are_refused_and_searchsorted_is_traced(through):
    for f in (np.unique, lambda x: np.setdiff1d(x, [0.5])):
        with pytest.raises(TraceError, match=r"needs values.*Call it outside, or mask"):
            through(f)(VALUES)
    for f in (lambda x: np.searchsorted(x, 0.5), lambda x: x.searchsorted(0.5)):
        through(f)(np.sort(VALUES, axis=-1))


@pytest.mark.parametrize("shares", [np.shares_memory, np.may_share_memory])
def test_questions_about_memory_are_answered_for_the_values(shares):
    def f(x):
        assert shares(x, x)
        assert shares(x, x[1:])
        assert shares(x.reshape(2, 3), x)
        assert shares(x, X)
        assert not shares(x, x * 1.0)
        assert not shares(x, x.copy())
        return np.sum(x)

    nm.grad(f)(X)
    nm.jvp(f, (X,), (X,))
    with pytest.raises(TraceError, match="staged"):
        nm.stage(lambda x: x * shares(x, x), X)


# ------------------------------------------------------------------ in place, by a result without derivative
def floored(x):
    y = x * 2.5
    alias = y
    y //= 1.0
    y *= x
    return np.sum(alias * x)


def test_an_operator_in_place_may_take_the_derivative_away():
    # floor(2.5 x) is constant nearby: the derivative of floor(2.5 x) x^2 is twice floor(2.5 x) x
    x = np.array([1.1, 2.3, -0.7])
    want = 2 * np.floor(2.5 * x) * x
    value, g = nm.value_and_grad(floored)(x)
    assert value == floored(x)
    np.testing.assert_allclose(g, want, rtol=4 * np.finfo(float).eps)
    np.testing.assert_allclose(nm.jvp(floored, (x,), (x,))[1], want @ x, rtol=1e-15)
    np.testing.assert_allclose(nm.hessian(floored)(x), np.diag(2 * np.floor(2.5 * x)), rtol=1e-15)
    np.testing.assert_array_equal(nm.vmap(floored)(np.stack([x, x])), [floored(x)] * 2)
    _, pull = nm.vjp(floored, x)
    np.testing.assert_array_equal(pull(1.0)[0], pull(1.0)[0])


def test_an_operator_in_place_with_an_inner_value_is_refused():
    def f(x):
        y = x * 2.0

        def inner(z):
            nonlocal y
            y += z
            return np.sum(z)

        return np.sum(nm.grad(inner)(X) * x)

    with pytest.raises(TraceError, match="`y` belongs to an inner transformation"):
        nm.grad(f)(X)
