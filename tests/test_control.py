"""cond, switch, while_loop, fori_loop, scan: every mode and order, under vmap and stage, against plain Python."""

import math
import threading
import warnings

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError, ShapeError, TraceError, TreeError

EPS = np.finfo(float).eps
V = np.array([0.5, -1.0, 2.0])
ROWS = np.random.default_rng(7).normal(size=(5, 3))


# ------------------------------------------------------------------------------------------------ two spellings
# Each case is written once, over a module of control flow: `nm`, or the Python that it stands for.
class Python:
    """Control flow as Python has it: what is traced is decided on by its value."""

    @staticmethod
    def cond(pred, true_fun, false_fun, *operands):
        return (true_fun if pred else false_fun)(*operands)

    @staticmethod
    def switch(index, branches, *operands):
        return branches[min(max(int(nm.value_of(index)), 0), len(branches) - 1)](*operands)

    @staticmethod
    def while_loop(cond_fun, body_fun, value):
        while cond_fun(value):
            value = body_fun(value)
        return value

    @staticmethod
    def fori_loop(lower, upper, body_fun, value):
        for i in range(int(nm.value_of(lower)), int(nm.value_of(upper))):
            value = body_fun(np.int64(i), value)
        return value

    @staticmethod
    def scan(f, init, xs=None, length=None, *, reverse=False, checkpoint=False):
        rows = nm.tree_leaves(xs)
        n = len(rows[0]) if rows else length
        value, out = init, []
        for t in reversed(range(n)) if reverse else range(n):
            value, y = f(value, nm.tree_map(lambda x, t=t: x[t], xs))
            out.append(y)
        if reverse:
            out.reverse()
        return value, nm.tree_map(lambda *column: np.stack(column), *out)


def branch(flow, x):
    return flow.cond(
        x[0] > 0, lambda x: np.sum(np.sin(x) * x), lambda x: np.sum(np.exp(-(x**2))), x
    )


def branch_over_closures(flow, x):
    s, n = x * x, 3
    return flow.cond(np.sum(x), lambda: np.sum(s * x) * n, lambda: np.sum(np.cos(s) * ROWS[0]))


def branch_of_trees(flow, x):
    def one(p, k, name):
        assert name == "a string passes"
        return {"a": p["a"] * 2.0, "k": k + 1, "c": 1.0}

    def other(p, k, name):
        return {"a": np.sin(p["a"]), "k": k, "c": np.sum(p["b"])}

    r = flow.cond(x[1] < x[0], one, other, {"a": x, "b": x * x}, 4, "a string passes")
    return np.sum(r["a"]) * r["k"] + r["c"]


def choice(flow, x):
    index = np.floor(2.0 * x[0]).astype(int)
    return flow.switch(
        index, [lambda v: np.sum(v**3), lambda v: np.prod(v), lambda v: v @ np.tanh(v)], x
    )


def recurrence(flow, x):
    def step(carry, row):
        h, count = carry["h"], carry["count"]
        h = np.tanh(h * x + row["r"] * x[::-1])
        return {"h": h, "count": count + 1}, {"n": np.sum(h * h), "k": count, "x": row["r"]}

    carry, ys = flow.scan(step, {"h": x * 0.5, "count": 0}, {"r": ROWS})
    assert ys["k"].shape == (5,)
    return np.sum(carry["h"]) * carry["count"] + np.sum(ys["n"] * (ys["k"] + 1)) + ys["x"][2, 1]


def backwards(flow, x):
    rows = ROWS * x

    def step(carry, row):
        total, seen = carry
        return (total * 0.9 + np.sum(row * row), (row[0] > 0) | seen), total

    (total, seen), ys = flow.scan(step, (1.0, False), rows, reverse=True)
    return total + np.sum(ys * np.arange(5.0)) + seen


def branch_in_scan(flow, x):
    def step(c, row):
        c = flow.cond(c > 1.0, lambda c: c * 0.5 + x[0], lambda c: c * c + np.sum(row * x), c)
        return c, c

    c, ys = flow.scan(step, x[2], ROWS)
    return c + np.sum(np.sin(ys))


def nested(flow, x):
    def inner(c, v):
        return c + np.sin(v) * x[0], c * v

    def outer(c, row):
        c, ys = flow.scan(inner, c, row, reverse=True)
        return c, np.sum(ys) + c * c

    c, ys = flow.scan(outer, x[1], ROWS)
    return c * np.sum(ys)


def scan_in_branch(flow, x):
    def long(v):
        return flow.scan(lambda c, r: (np.sin(c) + r * v, None), v, ROWS)[0]

    return np.sum(flow.cond(x[0] > 0.1, long, lambda v: v * v * v, x))


def counted(flow, x):
    return flow.fori_loop(2, 6, lambda i, c: c * np.cos(x) + i / 10.0, x)[1]


def checkpointed(flow, x):
    def step(c, row):
        return np.tanh(c * x + row), np.sum(c * x)

    c, ys = flow.scan(step, x, np.concatenate([ROWS, ROWS * x]), checkpoint=True)
    d, zs = flow.scan(step, c, ROWS, reverse=True, checkpoint=2)
    return np.sum(c * d) + np.sum(ys) * np.sum(zs)


def iteration(flow, x):
    a = np.sum(x * x)
    return flow.while_loop(lambda s: abs(s * s - a) > 1e-3, lambda s: (s + a / s) / 2.0, a + x[0])


def guarded(flow, x):
    """A loop with a bound, in a form that goes backward when it is staged, too."""

    def step(c, _):
        return flow.cond(np.sum(c * c) > 0.3, lambda c: c * np.cos(x), lambda c: c, c), None

    return np.sum(flow.scan(step, x, None, 6)[0])


def iteration_on_trees(flow, x):
    def step(c):
        return {"i": c["i"] + 1, "v": np.sin(c["v"]) * x + c["v"], "seen": c["v"][0] > 1.0}

    c = flow.while_loop(lambda c: c["i"] < 3, step, {"i": 0, "v": x, "seen": False})
    return np.sum(c["v"]) * c["i"] + c["seen"]


BOTH_MODES = [
    branch, branch_over_closures, branch_of_trees, choice, recurrence, backwards, branch_in_scan, nested,
    scan_in_branch, counted, checkpointed, guarded,
]  # fmt: skip
FORWARD_WHEN_STAGED = [iteration, iteration_on_trees]
POINTS = [np.array([0.75, 0.5, 1.25]), np.array([-0.6, 0.4, -0.3]), np.array([0.3, -1.2, 0.8])]

FORWARD = {
    "value": lambda f: f,
    "jvp": lambda f: lambda x: nm.jvp(f, (x,), (V,)),
    "jvp of jvp": lambda f: lambda x: nm.jvp(lambda x: nm.jvp(f, (x,), (V,))[1], (x,), (V,)),
    "jacfwd": nm.jacfwd,
    "jacfwd of jacfwd": lambda f: nm.jacfwd(nm.jacfwd(f)),
}
REVERSE = {
    "value and grad": nm.value_and_grad,
    "hvp, forward over reverse": lambda f: lambda x: nm.jvp(nm.grad(f), (x,), (V,))[1],
    "hvp, reverse over forward": lambda f: nm.grad(lambda x: nm.jvp(f, (x,), (V,))[1]),
    "hvp, reverse over reverse": lambda f: nm.grad(lambda x: nm.grad(f)(x) @ V),
    "hessian": nm.hessian,
    "jacrev of jacrev": lambda f: nm.jacrev(nm.jacrev(f)),
    "third order": lambda f: nm.grad(lambda x: V @ nm.jvp(nm.grad(f), (x,), (V,))[1]),
}
RUNS = {
    "eager": lambda t, f: t(f),
    "stage outside": lambda t, f: lambda x: nm.stage(t(f), x)(x),
    "stage inside": lambda t, f: lambda x: t(nm.stage(f, x))(x),
}
BATCHED = {
    "vmap": lambda t, f: nm.vmap(t(f)),
    "stage of vmap": lambda t, f: lambda x: nm.stage(nm.vmap(t(f)), x)(x),
    "vmap of stage": lambda t, f: lambda x: nm.vmap(nm.stage(t(f), x[0]))(x),
    "vmap of a program": lambda t, f: nm.vmap(t(nm.stage(f, POINTS[0]))),
    "derivative of vmap": lambda t, f: lambda x: t(lambda y: nm.vmap(f)(x + y).sum())(np.zeros(3)),
}


def close(got, want, scale=1 << 12):
    """Sums of some dozens of terms, up to third order: a few thousand rounding errors of the largest number."""
    got, want = nm.tree_leaves(got), nm.tree_leaves(want)
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert np.isfinite(b).all()
        assert a.shape == b.shape
        tol = scale * EPS * max(1.0, np.abs(b).max(initial=0.0))
        np.testing.assert_allclose(a, b, rtol=0, atol=tol)


def stacked(values):
    return nm.tree_map(lambda *column: np.stack(column), *values)


PAIRS = [
    pytest.param(f, name, id=f"{f.__name__}-{name}")
    for f in BOTH_MODES + FORWARD_WHEN_STAGED
    for name in [*FORWARD, *REVERSE]
]


@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_the_same_as_python(case, name):
    transform = {**FORWARD, **REVERSE}[name]
    plain, flow = (lambda x: case(Python, x)), (lambda x: case(nm, x))
    staged = name in FORWARD or case in BOTH_MODES
    want = [transform(plain)(x) for x in POINTS]
    for run, make in RUNS.items():
        if staged or run == "eager" or run == "stage inside":
            for x, w in zip(POINTS, want, strict=True):
                close(make(transform, flow)(x), w)
    batch = np.stack(POINTS)
    for run, make in BATCHED.items():
        if run == "derivative of vmap":
            if name == "value":
                continue
            several = transform(lambda y: sum(plain(x + y) for x in POINTS))(np.zeros(3))
            close(make(transform, flow)(batch), several)
        elif staged or run in ("vmap", "vmap of a program"):
            close(make(transform, flow)(batch), stacked(want))


# ------------------------------------------------------------------------------------------------ what is recorded
def names(program):
    return [e.primitive.name for e in program.equations]


def test_where_values_exist_python_decides_and_only_one_function_is_called():
    called = []

    def note(name, value):
        called.append(name)
        return value

    f = lambda x: nm.cond(x > 0, lambda x: note("yes", x), lambda x: note("no", -x), x)  # noqa: E731
    assert nm.grad(f)(-2.0) == -1.0
    assert called == ["no"]
    assert nm.hessian(f)(3.0) == 0.0
    assert set(called) == {"no", "yes"}
    # known while staging, too: nothing is recorded but what the branch does
    program = nm.stage(lambda x: nm.cond(True, np.sin, np.cos, x), 1.0)
    assert names(program) == ["sin"]


def test_a_branch_that_may_not_run_does_not_run_while_it_is_traced():
    """Neither by its operands nor by what it closes over: the logarithm of 0 warns where it is taken."""

    def f(x):
        return nm.cond(x[0] > 0, lambda: np.sum(np.log(x)), lambda: 0.0)

    x = np.array([[1.0, 2.0], [0.0, 1.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for g in (nm.vmap(f), nm.stage(nm.vmap(f), x), nm.vmap(nm.stage(f, x[0]))):
            np.testing.assert_array_equal(g(x), [np.log(2.0), 0.0])
        for g in (nm.grad(f), nm.stage(nm.grad(f), x[0])):
            np.testing.assert_array_equal(nm.vmap(g)(x), [[1.0, 0.5], [0.0, 0.0]])
        program = nm.stage(f, x[0])
        assert names(program) == ["slice", "greater", "cond"]
        assert program(x[1]) == 0.0


def test_a_loop_is_one_equation_and_prints_its_body():
    program = nm.stage(lambda c, x: nm.scan(lambda c, r: (np.sin(c) * r, c), c, x), 1.0, np.ones(4))
    assert str(program).splitlines() == [
        "program <lambda>(v0:f64[], v1:f64[4])",
        "  v2:f64[], v3:f64[4] = scan(v0, v1, consts=0, carry=1, length=4, reverse=False)",
        "    body(v0:f64[], v1:f64[])",
        "      v2:f64[] = sin(v0)",
        "      v3:f64[] = multiply(v2, v1)",
        "      return v3, v0",
        "  return v2, v3",
    ]
    program = nm.stage(lambda x: nm.while_loop(lambda c: c < 9.0, lambda c: c * c, x), 2.0)
    assert names(program) == ["while_loop"]
    assert "    cond(v0:f64[])\n      v1:bool[] = less(v0, 9.0)" in str(program)
    assert program(np.float64(2.0)) == 16.0
    program = nm.stage(lambda x: nm.cond(x > 0, np.sin, lambda x: 2.0, x), 2.0)
    assert "    true_fun(v0:f64[])\n      v1:f64[] = sin(v0)\n      return v1" in str(program)
    assert "    false_fun(v0:f64[])\n      return 2.0" in str(program)


def test_a_closure_over_a_staged_value_becomes_an_operand():
    def f(w):
        c, ys = nm.scan(lambda c, r: (c * r + w, c * w), 1.0, np.arange(1.0, 4.0))
        return c + np.sum(ys)

    program = nm.stage(f, 2.0)
    assert names(program).count("scan") == 1  # the first step, then the others as one equation
    assert program(np.float64(3.0)) == f(3.0)
    loop = nm.stage(lambda w: nm.while_loop(lambda c: c < 50.0, lambda c: c * w, 1.0), 2.0)
    assert names(loop)[-1] == "while_loop"
    assert loop(np.float64(3.0)) == 81.0


def test_dead_equations_of_a_branch_are_dropped():
    def f(x):
        np.exp(x)
        return np.sin(x)

    assert "exp" not in str(nm.stage(lambda x: nm.cond(x > 0, f, f, x), 1.0))


# ------------------------------------------------------------------------------------------------ zeros and NaN
W = np.ones((2, 2))
X = np.array([[1.0, 2.0], [-1.0, 0.0], [0.0, 0.0], [4.0, 1.0]])
TAKEN = [True, False, False, True]


def logarithms(x, w):
    return nm.cond(x[0] > 0, lambda x: np.sum(np.log(x) @ w), lambda x: 0.0, x)


@pytest.mark.parametrize("transform", [nm.grad, nm.jacfwd, nm.jacrev])
def test_what_an_example_does_not_take_has_derivative_zero(transform):
    """Also behind a product with shared weights, where a selection of the results would give NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        each = nm.vmap(transform(logarithms), (0, None))(X, W)
        staged = nm.stage(lambda x: nm.vmap(transform(logarithms), (0, None))(x, W), X)(X)
        batch = transform(lambda x: nm.vmap(logarithms, (0, None))(x, W).sum())(X)
        second = nm.vmap(nm.hessian(logarithms), (0, None))(X, W)
        shared = transform(lambda w: nm.vmap(logarithms, (0, None))(X, w).sum())(W)
    want = np.where(np.array(TAKEN)[:, None], 2.0 / np.where(X == 0, 1.0, X), 0.0)
    want[[1, 2]] = 0.0
    for got in (each, staged, batch):
        np.testing.assert_allclose(got, want, rtol=8 * EPS)
    np.testing.assert_array_equal(second[[1, 2]], 0.0)
    np.testing.assert_allclose(shared, np.log(X[TAKEN]).sum(axis=0)[:, None] * W, rtol=8 * EPS)


def test_a_nan_in_what_is_taken_stays():
    x = np.array([4.0, -1.0])
    with np.errstate(invalid="ignore"):
        g = nm.vmap(nm.grad(lambda x: nm.cond(x < 5.0, np.sqrt, np.sin, x)))(x)
    assert g[0] == 0.25
    assert np.isnan(g[1])


def test_examples_of_a_loop_that_are_done_keep_their_value_and_are_not_evaluated():
    def f(a):  # the step after the last one would divide by zero
        return nm.while_loop(
            lambda c: c[0] > 0.5, lambda c: (c[0] - 1.0, c[1] * a / c[0]), (a, 1.0)
        )[1]

    a = np.array([1.0, 3.0, 0.0, 2.0])
    want = [1.0, 4.5, 1.0, 2.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for g in (nm.vmap(f), nm.stage(nm.vmap(f), a), nm.vmap(nm.stage(f, 1.0))):
            np.testing.assert_allclose(g(a), want, rtol=4 * EPS)
        slope = nm.vmap(nm.grad(f))(a)
        np.testing.assert_allclose(slope, [nm.grad(f)(x) for x in a], rtol=8 * EPS)
        _, t = nm.stage(nm.vmap(lambda a: nm.jvp(f, (a,), (1.0,))), a)(a)
        np.testing.assert_allclose(t, slope, rtol=8 * EPS)
        deep = nm.vmap(nm.vmap(nm.grad(f)))(np.stack([a, a[::-1], np.zeros(4)]))
    np.testing.assert_allclose(deep, [slope, slope[::-1], np.zeros(4)], rtol=8 * EPS)


def test_structural_zeros_pass_a_scan_in_eager():
    def f(x):
        return nm.scan(lambda c, r: (c + np.where(r > 0, np.sqrt(r), 0.0), None), 0.0, x)[0]

    for checkpoint in (False, True, 2):
        g = nm.grad(lambda x, k=checkpoint: nm.scan(
            lambda c, r: (c + np.where(r > 0, np.sqrt(r), 0.0), None), 0.0, x, checkpoint=k)[0])  # fmt: skip
        with np.errstate(divide="ignore"):
            np.testing.assert_array_equal(
                g(np.array([0.0, 4.0, 0.0, 1.0, 16.0])), [0, 0.25, 0, 0.5, 0.125]
            )
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(
            nm.grad(nm.stage(f, np.ones(2)))(np.array([0.0, 4.0])), [0, 0.25]
        )


# ------------------------------------------------------------------------------------------------ closures, nesting
def test_gradients_flow_to_what_is_closed_over():
    def f(w, x):
        inner = lambda v: nm.scan(lambda c, r: (np.tanh(c * w + r * v), None), v, ROWS[:, 0])[0]  # noqa: E731
        return nm.grad(inner)(x) + nm.cond(w > 0, lambda: w * x, lambda: w)

    def plain(w, x):
        inner = lambda v: Python.scan(lambda c, r: (np.tanh(c * w + r * v), None), v, ROWS[:, 0])[0]  # noqa: E731
        return nm.grad(inner)(x) + (w * x if w > 0 else w)

    args = (np.float64(0.7), np.float64(0.4))
    want = nm.grad(plain, (0, 1))(*args)
    close(nm.grad(f, (0, 1))(*args), want)
    close(nm.stage(nm.grad(f, (0, 1)), *args)(*args), want)
    close(nm.grad(nm.stage(f, *args), (0, 1))(*args), want)


def test_perturbations_are_not_confused_in_a_body():
    # d/dx (x + d/dy (x y)): the inner derivative is x itself
    f = lambda x: nm.scan(lambda c, _: (c * nm.grad(lambda y: x * y)(1.0), None), x, None, 2)[0]  # noqa: E731
    assert nm.grad(f)(2.0) == 12.0
    assert nm.stage(nm.grad(f), 2.0)(np.float64(2.0)) == 12.0
    assert nm.grad(nm.grad(f))(2.0) == 12.0


@pytest.mark.parametrize("where", ["value", "batch"])
def test_inner_batches_and_outer_batches(where):
    """A predicate that differs along one of two batches, or along both."""
    a, b = np.array([1.0, -1.0, 2.0]), np.array([3.0, -0.5])
    pred = (lambda x, y: x > 0) if where == "value" else (lambda x, y: x * y > 0)

    def f(x, y):
        return nm.cond(pred(x, y), lambda x: np.log(abs(x)) * y, lambda x: x * y * y, x)

    def plain(x, y):
        return np.log(abs(x)) * y if pred(x, y) else x * y * y

    g = nm.vmap(nm.vmap(nm.value_and_grad(f, (0, 1)), (None, 0)), (0, None))
    want = stacked([stacked([nm.value_and_grad(plain, (0, 1))(x, y) for y in b]) for x in a])
    close(g(a, b), want)
    close(nm.stage(g, a, b)(a, b), want)


# ------------------------------------------------------------------------------------------------ conventions
def test_switch_takes_the_nearest_branch():
    f = lambda k, x: nm.switch(k, [np.sin, np.cos, np.exp], x)  # noqa: E731
    want = [np.sin(0.5), np.sin(0.5), np.cos(0.5), np.exp(0.5), np.exp(0.5)]
    k = np.array([-3, 0, 1, 2, 9])
    np.testing.assert_array_equal([f(i, 0.5) for i in k], want)
    np.testing.assert_array_equal(nm.vmap(f, (0, None))(k, 0.5), want)
    program = nm.stage(f, 0, 0.5)
    np.testing.assert_array_equal([program(i, np.float64(0.5)) for i in k], want)
    assert nm.stage(lambda k, x: nm.switch(k, [np.sin], x), 0, 0.5)(1, np.float64(0.5)) == want[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes_are_kept(dtype):
    x = np.linspace(0.1, 0.5, 4, dtype=dtype)

    def f(x):
        c, ys = nm.scan(lambda c, r: (c * r + x[0], c), 1.0, x, checkpoint=2)
        d = nm.while_loop(lambda c: c < 2.0, lambda c: c + x[1], c)
        return nm.cond(d > 0, lambda v: v * 2.0, lambda v: 0.0, d + np.sum(ys))

    for value, g in (nm.value_and_grad(f)(x), nm.value_and_grad(nm.stage(f, x))(x)):
        assert value.dtype == g.dtype == dtype
    for y, t in (nm.jvp(f, (x,), (x,)), nm.stage(lambda x: nm.jvp(f, (x,), (x,)), x)(x)):
        assert y.dtype == t.dtype == dtype
    wide = x.astype(float)
    tol = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(nm.grad(f)(x), nm.grad(f)(wide), rtol=tol)


def test_a_python_number_takes_the_dtype_of_what_it_meets():
    step = lambda c, r: ((c[0] + r, c[1] + 1), c[0])  # noqa: E731
    x = np.ones(3, np.float32)
    eager = nm.scan(step, (0.0, 0), x)
    program = nm.stage(lambda x: nm.scan(step, (0.0, 0), x), x)(x)
    empty = nm.scan(step, (0.0, 0), x[:0])
    for (total, count), ys in (eager, program, empty):
        assert total.dtype == ys.dtype == np.float32
        assert count.dtype == np.int64
    assert nm.cond(np.True_, lambda: 1.0, lambda: 2) == 1.0
    either = nm.stage(lambda x: nm.cond(x > 0, lambda: x, lambda: 1.0), np.float32(1.0))
    assert either(np.float32(-2.0)).dtype == np.float32


def test_complex_values_go_round():
    def f(x):
        c, ys = nm.scan(
            lambda c, r: (c * (r + 1j * x), np.abs(c)), 1.0 + 0j, np.array([0.3, 0.5, 0.2])
        )
        d = nm.cond(x > 0, lambda z: z * z * 1j, lambda z: z.conj(), c)
        return d.real * c.imag + np.sum(ys)

    def plain(x):
        c, ys = Python.scan(
            lambda c, r: (c * (r + 1j * x), np.abs(c)), 1.0 + 0j, np.array([0.3, 0.5, 0.2])
        )
        d = c * c * 1j if x > 0 else c.conj()
        return d.real * c.imag + np.sum(ys)

    for x in (np.float64(0.7), np.float64(-0.4)):
        want = nm.grad(plain)(x)
        for g in (nm.grad(f), nm.stage(nm.grad(f), x), nm.grad(nm.stage(f, x)), nm.jacfwd(f)):
            close(g(x), want)
        close(nm.stage(lambda x: nm.jvp(f, (x,), (1.0,))[1], x)(x), want)
        close(nm.hessian(f)(x), nm.hessian(plain)(x))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 7, 10])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("checkpoint", [False, True, 3])
def test_scans_of_few_steps_and_numbers_of_steps_that_leave_a_rest(checkpoint, reverse, n):
    rows = np.random.default_rng(n).normal(size=(n, 2))
    w = np.array([0.3, -0.8])

    def f(w, flow=nm, **kw):
        def step(c, r):
            return np.sin(c * w + r), (c * r[0], 2)

        return flow.scan(step, w, rows, reverse=reverse, **kw)

    def loss(w, **kw):
        return np.sum(f(w, **kw)[0]) + np.sum(f(w, **kw)[1][0] ** 2)

    def kept(w):
        return loss(w, checkpoint=checkpoint)

    c, (ys, k) = f(w, checkpoint=checkpoint)
    assert ys.shape == (n, 2)
    assert k.shape == (n,)
    staged = nm.stage(lambda w: f(w, checkpoint=checkpoint), w)(w)
    assert staged[1][1].shape == (n,)
    if n:
        want = f(w, Python)
        close((c, ys), (want[0], want[1][0]))
        close((staged[0], staged[1][0]), (want[0], want[1][0]))
    want = nm.grad(loss)(w)
    np.testing.assert_array_equal(nm.grad(kept)(w), want)
    close(nm.stage(nm.grad(kept), w)(w), want)
    close(nm.grad(nm.stage(kept, w))(w), want)
    close(nm.stage(nm.vmap(nm.grad(kept)), w[None])(w[None])[0], want)


def test_no_xs_and_no_carry():
    c, ys = nm.scan(lambda c, x: (c + 1, c), 5, None, 3)
    assert (c, ys.tolist()) == (8, [5, 6, 7])
    c, ys = nm.scan(lambda c, x: (None, x * 2.0), None, np.arange(3.0))
    assert c is None
    np.testing.assert_array_equal(ys, [0, 2, 4])
    assert nm.scan(lambda c, x: (c, None), 1.0, length=2) == (1.0, None)
    np.testing.assert_array_equal(
        nm.scan(lambda c, x: (c * x, None), 1.0, np.arange(1.0, 4.0), unroll=3)[0], 6.0
    )


def test_fori_loop_with_traced_bounds_is_a_while_loop():
    f = lambda n, x: nm.fori_loop(0, n, lambda i, c: c * x + i, x)  # noqa: E731
    program = nm.stage(f, 3, 1.0)
    for n in (0, 1, 4):
        assert program(np.int64(n), np.float64(1.5)) == f(n, 1.5)
    np.testing.assert_array_equal(
        nm.vmap(f, (0, None))(np.array([0, 2, 3]), 1.5), [f(n, 1.5) for n in (0, 2, 3)]
    )
    assert nm.fori_loop(3, 1, lambda i, c: c + 1.0, 7.0) == 7.0


def test_linearize_and_custom_rules_inside():
    doubled = nm.custom_rule(lambda x: x * x, jvp=lambda xs, ts: 3.0 * xs[0] * ts[0])
    f = lambda x: nm.scan(lambda c, r: (doubled(c) * r, None), x, np.array([0.5, 2.0]))[0]  # noqa: E731
    y, push = nm.linearize(f, 0.7)
    want = nm.grad(f)(0.7)
    close([push(1.0), nm.stage(nm.grad(f), 0.7)(np.float64(0.7)), nm.jacfwd(f)(0.7)], [want] * 3)
    assert y == f(0.7)
    g = lambda x: nm.cond(x > 0, doubled, np.sin, x)  # noqa: E731
    close(nm.vmap(nm.grad(g))(np.array([0.5, -0.5])), np.array([1.5, math.cos(0.5)]))


def test_taylor_mode_goes_through_recorded_control_flow():
    def f(x):
        c = nm.scan(lambda c, r: (np.sin(c) * r + x, None), x, np.array([0.5, 1.2]))[0]
        c = nm.cond(c > 0, lambda c: c**3, np.sin, c)
        return nm.while_loop(lambda c: c < 30.0, lambda c: c * x, c)

    jet = lambda x: nm.jet(f, (x,), ([1.0, 0.0, 0.0],))  # noqa: E731
    close(nm.stage(jet, 1.3)(np.float64(1.3)), jet(1.3))
    close(jet(1.3)[1][1], nm.grad(nm.grad(f))(1.3))


# ------------------------------------------------------------------------------------------------ refusals
def staged(f, *examples):
    return lambda: nm.stage(f, *examples)


ONES = np.ones(3)
ERRORS = [
    (lambda: nm.scan(lambda c, x: (np.append(c, x), None), ONES, ONES), ShapeError,
     r"scan: `init` is carried round and must keep its shape and dtype, float64\[3\], got float64\[4\] from `f`"),
    (lambda: nm.scan(lambda c, x: ({"a": c["a"], "b": c["b"] * 1j}, None), {"a": 1.0, "b": ONES}, ONES), DtypeError,
     r"`init\['b'\]` .* float64\[3\], got complex128\[3\]"),
    (lambda: nm.scan(lambda c, x: ({"b": c}, None), {"a": ONES}, ONES), TreeError, "structure of `init`"),
    (lambda: nm.scan(lambda c, x: c, 1.0, ONES), TreeError, r"must return a pair \(carry, y\), got 1.0. .*None"),
    (lambda: nm.scan(lambda c, x: (c, x), 1.0, {"a": ONES, "b": np.ones(4)}), ShapeError,
     r"one length along the first axis, got 3 \(`xs\['a'\]`\) and 4 \(`xs\['b'\]`\)"),
    (lambda: nm.scan(lambda c, x: (c, x), 1.0), ShapeError, "must be given as `length`"),
    (lambda: nm.scan(lambda c, x: (c, x), 1.0, ONES, 4), ShapeError, "`length` must be 3"),
    (lambda: nm.scan(lambda c, x: (c, x), {"name": "a"}, ONES), DtypeError, r"`init\['name'\]` must be an array"),
    (lambda: nm.scan(lambda c, x: (c, "s"), 1.0, ONES), DtypeError, "`y` must be an array or a number, got 's'"),
    (lambda: nm.scan(lambda c, x: (c, x), 1.0, [1.0]), ShapeError, r"`xs\[0\]` must have a first axis"),
    (lambda: nm.scan(lambda c, x: (c, x), 1.0, ONES, checkpoint=0), DomainError, "`checkpoint` must be a positive"),
    (lambda: nm.scan(lambda c, x: (c, x), 1.0, length=-1), DomainError, "`length` must be an integer >= 0"),
    (lambda: nm.scan(lambda c, x: (c, x), 1.0, ONES, unroll=0), DomainError, "`unroll`"),
    (lambda: nm.scan(None, 1.0, ONES), DtypeError, "scan: `f` must be callable"),
    (lambda: nm.scan(lambda c, x: (c + 1, np.ones(c)), 1, ONES), ShapeError, "one shape in all steps"),
    (lambda: nm.scan(lambda c, x: (c + 1, c if c < 2 else (c, c)), 1, ONES), TreeError, "one structure in all steps"),
    (staged(lambda x: nm.scan(lambda c, r: (c if c > 0 else r, r), 1.0, x), ONES), TraceError,
     "scan: `if`, .* nm.cond or nm.while_loop"),
    (staged(lambda x: nm.scan(lambda c, r: (c.astype(np.float32), r), x[0], x), ONES), DtypeError,
     r"x.astype\(np.float64\)"),
    (lambda: nm.cond(ONES, lambda: 1, lambda: 2), ShapeError, "cond: `pred` must be one truth value.*np.any"),
    (lambda: nm.cond("a", lambda: 1, lambda: 2), DtypeError, "`pred` must be a boolean or a real number, got 'a'"),
    (lambda: nm.cond(1j, lambda: 1, lambda: 2), DtypeError, "`pred`"),
    (lambda: nm.cond(True, 1, lambda: 2), DtypeError, "`true_fun` must be callable"),
    (lambda: nm.cond(True, lambda: 2, 1), DtypeError, "`false_fun` must be callable"),
    (staged(lambda x: nm.cond(x > 0, lambda: x, lambda: (x, x)), 1.0), TreeError, "`false_fun` must return the struct"),
    (staged(lambda x: nm.cond(x > 0, lambda: {"a": x}, lambda: {"a": x * ONES}), 1.0), ShapeError,
     r"output\['a'\] of `false_fun` .* float64\[\], got float64\[3\]"),
    (staged(lambda x: nm.cond(x > 0, lambda: x, lambda: x.astype(np.float32)), 1.0), DtypeError, "Cast one of the two"),
    (lambda: nm.switch(1.5, [np.sin], 1.0), DtypeError, "`index` must be an integer, got 1.5"),
    (lambda: nm.switch(ONES.astype(int), [np.sin], 1.0), ShapeError, "`index`"),
    (lambda: nm.switch(1, [], 1.0), TreeError, "`branches`"),
    (lambda: nm.switch(1, [np.sin, 2], 1.0), DtypeError, r"`branches\[1\]` must be callable"),
    (lambda: nm.while_loop(lambda c: c < ONES, lambda c: c + 1, 0.0), ShapeError, "`cond_fun"),
    (lambda: nm.while_loop(lambda c: c < 3, lambda c: (c, 1), 0.0), TreeError, "structure of `init_val`"),
    (lambda: nm.while_loop(lambda c: True, None, 0.0), DtypeError, "`body_fun` must be callable"),
    (lambda: nm.fori_loop(0.5, 3, lambda i, c: c, 1.0), DtypeError, "`lower` must be an integer"),
    (lambda: nm.fori_loop(0, 3, lambda i, c: c * i, np.ones(2, np.float32)), DtypeError, "fori_loop: `init_val`"),
    (staged(nm.grad(lambda x: nm.while_loop(lambda c: c < 9, lambda c: c * x, x)), 1.0), TraceError,
     "while_loop: reverse mode .* nm.scan"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), ERRORS)
def test_refusals_say_what_was_wanted_and_what_came(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_an_exception_or_an_interrupt_in_a_body_leaves_nothing_behind():
    x = np.ones(3)

    def f(x, stop):
        def step(c, r):
            if stop.pop():
                raise KeyboardInterrupt
            return c * r + np.sum(x), None

        return nm.scan(step, 1.0, x, checkpoint=True)[0]

    for go in range(3):
        with pytest.raises(KeyboardInterrupt):
            nm.grad(lambda x, go=go: f(x, [True] + [False] * go))(x)
        assert x.flags.writeable

    def broken(x):
        raise RuntimeError("in a branch")

    with pytest.raises(RuntimeError, match="in a branch"):
        nm.vmap(lambda x: nm.cond(x > 0, broken, np.sin, x))(x)
    # nothing of the branch stays open: operations on outer values run at once again
    g = nm.grad(lambda x: np.sum(np.sin(x) * float(nm.value_of(np.sum(x)))))
    np.testing.assert_allclose(g(x), 3.0 * np.cos(x))
    assert nm.grad(lambda x: f(x, [False] * 8))(x).shape == (3,)


def test_threads_trace_branches_at_the_same_time():
    x = np.linspace(-1.0, 1.0, 7)
    g = nm.vmap(nm.grad(lambda v: nm.cond(v > 0, lambda: np.sin(v) * v, lambda: np.exp(v))))
    want, found = g(x), []

    def work():
        found.extend(np.array_equal(g(x), want) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == [True] * 80


def test_a_tracer_that_leaves_a_body_is_refused():
    kept = []

    def f(x):
        nm.cond(x > 0, lambda v: (kept.append(v * 2.0), v)[1], lambda v: v, x)
        return kept[0] * 1.0

    with pytest.raises(TraceError, match="leaked"):
        nm.stage(f, 1.0)
