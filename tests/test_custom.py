"""Rules of the user's own and rematerialisation: arguments of every kind, keywords, checks of what a rule returns."""

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import DtypeError, ShapeError, TraceError, TreeError

X = np.array([0.5, -1.5, 2.0])
EPS = np.finfo(float).eps
ROWS = np.array([0, 2, 2])
MASK = np.array([True, False, True])


def mixed(x, i, n, mode, scale, f, mask):
    """Arguments with and without a derivative, as they are in ordinary code."""
    assert type(n) is int
    assert mode == "mean"
    y = f(x[i] * scale["by"]) * np.where(mask, 1.0, 2.0)
    for _ in range(n):
        y = y * x[0]
    return y.mean()


ARGS = (ROWS, 2, "mean", {"by": 1.5, "times": None}, np.tanh, MASK)


def plain(x):
    return mixed(x, *ARGS)


def remade(x):
    return nm.checkpoint(mixed)(x, *ARGS)


def ruled(x):
    def jvp(primals, tangents):
        assert tangents[2:4] == (0, 0)
        return nm.jvp(lambda v: mixed(v, *primals[1:]), primals[:1], tangents[:1])[1]

    return nm.custom_rule(mixed, jvp=jvp)(x, *ARGS)


@pytest.mark.parametrize("f", [remade, ruled])
def test_arguments_without_a_derivative_are_held_fixed(f):
    tol = 32 * EPS  # sums of a dozen terms of order one
    np.testing.assert_allclose(nm.grad(f)(X), nm.grad(plain)(X), rtol=0, atol=tol)
    t = np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(nm.jvp(f, (X,), (t,))[1], nm.jvp(plain, (X,), (t,))[1], atol=tol)
    np.testing.assert_allclose(nm.hessian(f)(X), nm.hessian(plain)(X), rtol=0, atol=tol)
    batch = np.stack([X, 2 * X])
    np.testing.assert_allclose(
        nm.vmap(nm.grad(f))(batch), nm.vmap(nm.grad(plain))(batch), rtol=0, atol=tol
    )
    program = nm.stage(nm.grad(f), X)
    np.testing.assert_allclose(program(2 * X), nm.grad(plain)(2 * X), rtol=0, atol=tol)


def test_a_checkpoint_goes_through_complex_values_and_integer_results():
    block = lambda z, k: (z * z * (1.0 + 2.0j), k + 1, np.argmax(np.abs(z)))  # noqa: E731

    def f(x, block):
        z, k, at = block(x + 1j * x**2, 3)
        assert k == 4
        return z.imag.sum() + z.real[at]

    for g in (
        lambda block: nm.grad(lambda x: f(x, block))(X),
        lambda block: nm.jvp(lambda x: f(x, block), (X,), (X,))[1],
        lambda block: nm.hvp(lambda x: f(x, block), (X,), (X,)),
    ):
        np.testing.assert_allclose(g(nm.checkpoint(block)), g(block), rtol=32 * EPS)


@pytest.mark.parametrize("given", ["jvp", "vjp"])
def test_one_rule_serves_both_modes_of_a_complex_function(given):
    # z -> (1 + 2i) z^2, complex-linear in its tangent: the transpose multiplies by the same number
    rules = {
        "jvp": lambda xs, ts: (2.0 + 4.0j) * xs[0] * ts[0],
        "vjp": lambda xs, y, g: ((2.0 + 4.0j) * xs[0] * g,),
    }
    f = lambda z: z * z * (1.0 + 2.0j)  # noqa: E731
    mine = nm.custom_rule(f, **{given: rules[given]})
    for g in (
        lambda f: nm.grad(lambda x: f(x + 1j * x**2).imag.sum())(X),
        lambda f: nm.jvp(lambda x: f(x + 1j * x**2).imag.sum(), (X,), (X,))[1],
    ):
        np.testing.assert_allclose(g(mine), g(f), rtol=32 * EPS)


# ------------------------------------------------------------------ keywords
@pytest.mark.parametrize("transformed", [nm.jacrev, nm.jacfwd, nm.jacobian, nm.hessian])
def test_keywords_are_passed_on_by_jacobians(transformed):
    f = lambda x, *, power, scale=1.0: scale * np.sum(x**power)  # noqa: E731
    want = transformed(lambda x: 2.0 * np.sum(x**3))(X)
    np.testing.assert_array_equal(transformed(f)(X, power=3, scale=2.0), want)


def test_keywords_are_passed_on_to_functions_and_rules():
    f = lambda x, *, power: np.sum(x**power)  # noqa: E731
    jvp = lambda xs, ts, *, power: np.sum(power * xs[0] ** (power - 1) * ts[0])  # noqa: E731
    vjp = lambda xs, y, g, *, power: (g * power * xs[0] ** (power - 1),)  # noqa: E731
    for made in (
        nm.checkpoint(f), nm.custom_rule(f, jvp=jvp), nm.custom_rule(f, vjp=vjp),
        nm.custom_rule(f, jvp=jvp, vjp=vjp),
    ):  # fmt: skip
        assert made(X, power=3) == f(X, power=3)
        np.testing.assert_allclose(nm.grad(made)(X, power=3), 3 * X**2, rtol=8 * EPS)
        _, t = nm.jvp(lambda x, made=made: made(x, power=3), (X,), (X,))
        assert t == pytest.approx(np.sum(3 * X**3), rel=8 * EPS)
        g = nm.vmap(nm.grad(lambda x, made=made: made(x, power=3)))(np.stack([X, X]))
        np.testing.assert_allclose(g, [3 * X**2] * 2, rtol=8 * EPS)


def test_a_traced_keyword_is_refused():
    made = nm.custom_rule(lambda x, k=1.0: x * k, jvp=max)
    for f in (lambda x: made(x, k=x), lambda x: made(2.0, k=x), lambda x: made(x, k={"a": [x]})):
        with pytest.raises(TraceError, match=r"keyword argument `k` .* Pass it by position"):
            nm.grad(f)(1.0)


# ------------------------------------------------------------------ checkpoint
def test_a_checkpoint_differentiates_what_it_closes_over_and_its_keywords():
    def f(x, w, checkpoint):
        block = checkpoint(lambda v, *, s: np.tanh(v * w) @ s + w[0] * v)
        return np.sum(block(block(x, s=np.outer(w, x)), s=np.outer(x, x)))

    w = np.array([0.3, -0.2, 0.7])
    plain = lambda x, w: f(x, w, lambda g: g)  # noqa: E731
    kept = lambda x, w: f(x, w, nm.checkpoint)  # noqa: E731
    for a, b in zip(nm.grad(kept, (0, 1))(X, w), nm.grad(plain, (0, 1))(X, w), strict=True):
        np.testing.assert_array_equal(a, b)
    hessians = (nm.hessian(g, (0, 1))(X, w) for g in (kept, plain))
    for a, b in zip(*map(nm.tree_leaves, hessians), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=64 * EPS * np.abs(b).max())
    program = nm.stage(nm.grad(kept, (0, 1)), X, w)
    for a, b in zip(program(X, w), nm.grad(plain, (0, 1))(X, w), strict=True):
        np.testing.assert_allclose(a, b, rtol=64 * EPS)
    batch = nm.vmap(nm.grad(kept, (0, 1)), (0, None))(np.stack([X, -X]), w)
    np.testing.assert_allclose(batch[1][1], nm.grad(plain, 1)(-X, w), rtol=64 * EPS)


def test_a_checkpoint_runs_once_more_for_each_backward_pass_and_structural_zeros_pass():
    runs = []

    def root(x):
        runs.append(None)
        return np.sqrt(x)

    x = np.array([0.0, 4.0])
    _, pull = nm.vjp(lambda x: np.where(x > 0, nm.checkpoint(root)(x), 0.0), x)
    assert len(runs) == 1
    with np.errstate(divide="ignore"):
        for k in (2, 3):
            np.testing.assert_array_equal(pull(np.ones(2))[0], [0.0, 0.25])
            assert len(runs) == k
    nm.jvp(nm.checkpoint(root), (x + 1.0,), (x,))
    assert len(runs) == 4
    np.testing.assert_array_equal(nm.checkpoint(root)(x), [0.0, 2.0])


def test_a_checkpoint_inside_a_checkpoint_and_several_outputs():
    def f(x, checkpoint):
        inner = checkpoint(lambda v: {"a": np.sin(v), "b": v[0] * v, "n": 3})
        outer = checkpoint(lambda v: (inner(v)["a"] * inner(v)["n"], v, inner(v)["b"]))
        a, v, b = outer(x)
        return np.sum(a * b) + np.sum(v) + np.sum(outer(b)[2])

    want = nm.grad(lambda x: f(x, lambda g: g))(X)
    np.testing.assert_array_equal(nm.grad(lambda x: f(x, nm.checkpoint))(X), want)


def test_a_checkpoint_that_returns_something_else_the_second_time_is_refused():
    outputs = [lambda x: (x * 2.0, x), lambda x: x * 2.0]
    f = nm.checkpoint(lambda x: outputs.pop()(x))
    outputs.reverse()
    with pytest.raises(TraceError, match="something else when it ran again"):
        nm.grad(lambda x: np.sum(nm.tree_leaves(f(x))[0]))(X)
    assert X.flags.writeable


def test_a_second_run_that_gives_other_numbers_is_refused():
    rng = np.random.default_rng(0)
    noisy = nm.checkpoint(lambda x: x * rng.standard_normal(3))
    with pytest.raises(TraceError, match="draw random numbers"):
        nm.grad(lambda x: np.sum(noisy(x)))(X)

    def f(x):
        h = x * 2.0
        y = nm.checkpoint(lambda v: v * h)(x)
        h += 1.0
        return np.sum(y + h)

    with pytest.raises(TraceError, match="changed in place"):
        nm.grad(f)(X)


def test_operators_in_place_do_not_change_what_a_second_run_gets():
    def f(x, checkpoint):
        def block(v):
            v += x * v
            return np.sin(v)

        h = x * 0.5
        y = checkpoint(block)(h)
        h += 3.0
        h *= y
        return np.sum(h)

    # h keeps the first run, which wrote into it: contributions to x are added in another order
    want = nm.grad(lambda x: f(x, lambda g: g))(X)
    np.testing.assert_allclose(nm.grad(lambda x: f(x, nm.checkpoint))(X), want, rtol=16 * EPS)

    def loop(x, checkpoint):
        def step(c, r):
            c *= r
            c += x
            return c, c * r

        c, ys = nm.scan(step, x * 1.0, np.linspace(0.5, 1.5, 9), checkpoint=checkpoint)
        return np.sum(c) + np.sum(ys)

    want = nm.grad(loop)(X, False)
    np.testing.assert_array_equal(nm.grad(loop)(X, True), want)


def test_buffers_that_a_second_run_reads_are_locked_until_the_end():
    buffer = np.ones(3)

    def f(x):
        y = nm.checkpoint(lambda x: x * x * buffer)(x)
        buffer[0] = 2.0
        return np.sum(y)

    with pytest.raises(ValueError, match="read-only"):
        nm.grad(f)(X)
    assert buffer.flags.writeable
    np.testing.assert_array_equal(
        nm.grad(lambda x: np.sum(nm.checkpoint(lambda x: x * buffer)(x)))(X), buffer
    )
    assert buffer.flags.writeable


# ------------------------------------------------------------------ what a rule returns
WRONG = [
    (lambda xs, ts: ts[0].sum(), ShapeError, r"tangent of the output of .* shape \(3,\).*got \(\)"),
    (lambda xs, ts: np.stack([ts[0]]), ShapeError, r"got \(1, 3\)"),
    (lambda xs, ts: 1j * ts[0], DtypeError, "complex"),
    (lambda xs, ts: (ts[0],), TreeError, "must return the structure"),
    (lambda xs, ts: None, TreeError, "must return the structure"),
]


@pytest.mark.parametrize(("jvp", "error", "words"), WRONG)
def test_a_jvp_rule_that_breaks_its_contract_is_refused_in_both_modes(jvp, error, words):
    f = nm.custom_rule(lambda x: x * 2.0, jvp=jvp)
    for use in (
        lambda: nm.jvp(f, (X,), (X,)),
        lambda: nm.grad(lambda x: f(x).sum())(X),
        lambda: nm.vmap(lambda x: nm.jvp(f, (x,), (x,)))(np.stack([X, X])),
    ):
        with pytest.raises(error, match=words):
            use()


def test_a_tangent_of_integers_is_converted():
    f = nm.custom_rule(lambda x: x * 2.0, jvp=lambda xs, ts: np.array([1, 0, 2]))
    _, t = nm.jvp(f, (X.astype(np.float32),), (X.astype(np.float32),))
    assert t.dtype == np.float32
    np.testing.assert_array_equal(t, [1.0, 0.0, 2.0])


def test_outputs_without_a_derivative_have_no_tangent():
    f = nm.custom_rule(
        lambda x: {"y": x**2, "at": np.argmax(x)},
        jvp=lambda xs, ts: {"y": 2 * xs[0] * ts[0], "at": "anything"},
    )
    y, t = nm.jvp(f, (X,), (X,))
    assert y["at"] == 2
    np.testing.assert_array_equal(t["y"], 2 * X**2)
    np.testing.assert_array_equal(nm.grad(lambda x: f(x)["y"].sum())(X), 2 * X)
    g = nm.custom_rule(
        lambda x: {"y": x**2, "at": np.argmax(x)}, vjp=lambda xs, y, c: (2 * xs[0] * c["y"],)
    )
    np.testing.assert_array_equal(nm.jvp(g, (X,), (X,))[1]["y"], 2 * X**2)
