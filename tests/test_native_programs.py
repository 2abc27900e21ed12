"""Compiled functions with generated loops and without: the same bits where nothing is summed, rounding elsewhere."""

import gc
import importlib
import threading
import weakref

import numpy as np
import pytest
from plans import assert_same, each_entry, rounding
from test_machine import FUNCTIONS, draw, layer_norm, softmax

import nnmath_core as nm
from nnmath_core._ext._native import Code
from nnmath_core.program.native import available

# `nnmath_core.program.native.joined` is the function of the name; its module is found by import
JOINED = importlib.import_module("nnmath_core.program.native.joined")
pytestmark = pytest.mark.skipif(not available(), reason="generated loops need AVX2")
DTYPES = ["float32", "float64"]
# Rows of one entry, of less than a vector, of a vector and one more, of several vectors, of several blocks.
SHAPES = [(3, 1), (40, 15), (5, 17), (7, 1000), (2, 5000)]


def codes(plan):
    """The generated loops of a plan."""
    held = [step.object for step in plan.steps if isinstance(step.object, tuple)]
    return [x for each in held for x in each if isinstance(x, Code)]


@pytest.fixture
def without(monkeypatch):
    """Compile and call as on a machine without AVX-512."""

    def run(f, *args):
        with monkeypatch.context() as m:
            m.setattr(JOINED, "available", lambda: False)
            compiled = nm.compile(f)
            out = compiled(*args)
            assert codes(compiled.plan(*args)) == []
        return out

    return run


def adam(p, g, m, v):
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * (g * g)
    return p - 1e-3 * (m / 0.19) / (np.sqrt(v / 0.002) + 1e-8), m, v


def labels(x):
    """The largest entry of each row, or the first one."""
    return np.argmax(x, axis=1) * (x[:, 0] > 0)


# Of matrices x, y, a row w and a column r. Without sums: bit for bit.
EXACT = {
    "adam": lambda x, y, w, r: adam(x, y, x * y, y * y),
    "gelu and its slope": lambda x, y, w, r: nm.vjp(lambda x: nm.nn.gelu(x, approximate=True), x)[1](y),
    "exponentials": lambda x, y, w, r: (np.exp(x), np.expm1(y), np.tanh(x * y), nm.special.expit(x - y)),
    "derivatives of tanh and the logistic": lambda x, y, w, r: nm.vjp(
        lambda x: np.tanh(x) * nm.special.expit(x + w), x
    )[1](y),
    "masks": lambda x, y, w, r: (
        np.where((x > y) & ~(w < r) | np.isnan(x), x, y), (x > 0) ^ (y > 0), np.isfinite(x) & (x <= w),
    ),
    "division by rows and numbers": lambda x, y, w, r: (x / r, x / w, x / 3, 2 / x, x / y / 7),
    "largest and smallest": lambda x, y, w, r: (
        (x * 2).max(axis=1), (x - y).min(axis=1), x - x.max(axis=1, keepdims=True), (x * y).max(), (x + w).max(axis=0),
    ),
    "clips": lambda x, y, w, r: (np.clip(x, -1, 1), np.clip(x, w, r), np.maximum(x, 0) * np.minimum(y, r)),
    "rounding": lambda x, y, w, r: (np.floor(x * 4), np.ceil(y), np.trunc(x - y), np.rint(x * w)),
    "logic of row values": lambda x, y, w, r: np.logical_and(x.max(axis=1) * 2, y.min(axis=1) + 1),
    "strided and turned": lambda x, y, w, r: (x[::-1, ::2] * 3 + 1, (x.T + y.T) * 2, x[:, ::-1] * y - w),
    "zeros of both signs": lambda x, y, w, r: ((x * 0) + 0.0, (x * 0) + -0.0, (x * 0) * -0.0, (x * 0) - 0.0),
}  # fmt: skip
SUMS = {
    "cross entropy": lambda x, y, w, r: nm.value_and_grad(
        lambda x: nm.nn.softmax_cross_entropy(x, labels(y)).sum()
    )(x),
    "softmax": lambda x, y, w, r: softmax(x),
    "derivative of softmax": lambda x, y, w, r: nm.vjp(softmax, x)[1](y),
    "layer norm with its derivatives": lambda x, y, w, r: nm.vjp(layer_norm, x, w, w * 2)[1](y),
    "moments": lambda x, y, w, r: (x.mean(axis=0), x.std(axis=1), (x * y).sum(), np.square(x).mean(axis=1)),
    "norms": lambda x, y, w, r: (np.sqrt((x * x).sum(axis=1)), x / np.sqrt((x * x).sum()), (x * y).sum(axis=1)),
}  # fmt: skip
ALL = {**EXACT, **SUMS}


def arguments(shape, dtype):
    rows, cols = shape
    return (
        draw(rows, cols, dtype=dtype), draw(rows, cols, dtype=dtype, seed=1), draw(cols, dtype=dtype, seed=2),
        draw(rows, 1, dtype=dtype, seed=3),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", EXACT)
def test_the_same_bits_where_nothing_is_summed(name, shape, dtype, without):
    args = arguments(shape, dtype)
    args[0].flat[:4] = np.resize([0.0, -0.0, np.nan, np.inf], min(4, args[0].size))
    want = without(EXACT[name], *args)
    got = nm.compile(EXACT[name])(*args)
    assert_same(got, want, each_entry(0))
    for a, b in zip(nm.tree_leaves(got), nm.tree_leaves(want), strict=True):
        if "largest" not in name:  # of 0 and -0 either is the largest
            same = np.isnan(a) & np.isnan(b) if a.dtype.kind == "f" else a == b
            assert (same | (np.signbit(a) == np.signbit(b)) if a.dtype.kind == "f" else same).all()


def assert_near(f, args, without):
    """A sum has the error of its terms: at most the square root of their number, by blocks of lanes."""
    with np.errstate(all="ignore"):
        want = without(f, *args)
        got = nm.compile(f)(*args)
    assert_same(got, want, rounding(64, max(1, args[0].size / 64)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", SUMS)
def test_the_same_to_rounding_where_there_are_sums(name, shape, dtype, without):
    assert_near(SUMS[name], arguments(shape, dtype), without)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_the_machine(name, dtype, without):
    """Those of tests/test_machine.py, which compares them with what is not compiled."""
    for shape in [(21, 33), (2, 1030)]:
        assert_near(FUNCTIONS[name], arguments(shape, dtype), without)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(1, 40000), (2000, 40)], ids=str)
def test_shares_of_threads_give_the_same_bits(name, shape):
    args = arguments(shape, "float32")
    with nm.threads(2):
        executable = nm.compile(ALL[name]).plan(*args).executable
    with np.errstate(all="ignore"):
        one = executable.run_split(list(args), 1)
        two, other = (executable.run_split(list(args), n) for n in (2, -2))
    for a, b, c in zip(one, two, other, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ALL)
def test_operands_of_any_strides(name, dtype, without):
    """Columns apart, rows that repeat, backwards, Fortran order."""
    x, y, w, r = arguments((12, 90), dtype)
    turned = (
        (
            draw(24, 180, dtype=dtype)[::2, ::2],
            np.asfortranarray(y),
            w[::-1],
            np.broadcast_to(r[:1], (12, 1)),
        ),
        (np.broadcast_to(x[:1], x.shape), x[:, ::-1], np.broadcast_to(w[:1], w.shape), r[::-1]),
    )
    f = ALL[name]
    for args in turned:
        with np.errstate(all="ignore"):
            want = without(f, *args)
            got = nm.compile(f)(*args)
        assert_same(got, want, each_entry(0) if name in EXACT else rounding(64, 20))


def random_function(seed):
    """A function of x, y, w, r of a dozen random steps."""
    unary = [
        np.negative,
        np.abs,
        np.square,
        np.tanh,
        np.exp,
        np.floor,
        lambda a: np.sqrt(np.abs(a)),
        np.expm1,
    ]
    binary = [
        np.add, np.subtract, np.multiply, np.maximum, np.minimum, lambda a, b: a / (b + 3),
        lambda a, b: np.where(a < b, a, b * 2), lambda a, b: np.clip(a, -1.5, b), lambda a, b: a * b + a,
    ]  # fmt: skip

    def f(*given):
        rng = np.random.default_rng(seed)
        values = list(given)
        for _ in range(12):
            a, b = (values[rng.integers(max(0, len(values) - 6), len(values))] for _ in range(2))
            v = (
                unary[rng.integers(len(unary))](a)
                if rng.random() < 0.4
                else binary[rng.integers(len(binary))](a, b)
            )
            if rng.random() < 0.1:
                v = v - v.max(axis=-1, keepdims=True)
            values.append(np.clip(v, -100, 100))
        return values[-1], values[-3], values[6]

    return f


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_programs_have_the_same_bits(dtype, without):
    for seed in range(30):
        args = arguments([(9, 33), (1, 700), (50, 7)][seed % 3], dtype)
        f = random_function(seed)
        assert_same(nm.compile(f)(*args), without(f, *args), each_entry(0), f"seed {seed}")


# ------------------------------------------------------------------------------------------ memory of code
def test_the_common_functions_have_generated_loops():
    """So that the comparisons above compare something."""
    args = arguments((30, 64), "float32")
    for name in ("adam", "masks", "gelu and its slope"):
        assert codes(nm.compile(EXACT[name]).plan(*args)), name
    for name in ("cross entropy", "derivative of softmax", "layer norm with its derivatives"):
        assert codes(nm.compile(SUMS[name]).plan(*args)), name


def test_code_dies_with_the_last_plan_that_runs_it():
    """Two programs with the same run share its code."""
    x = draw(20, 50)
    first, second = (nm.compile(lambda x: np.tanh(x * 1.2345) + x) for _ in range(2))
    (a,), (b,) = codes(first.plan(x)), codes(second.plan(x))
    assert a is b
    alive = weakref.ref(a)
    del a, b, first
    gc.collect()
    assert alive() is not None
    np.testing.assert_allclose(second(x), np.tanh(x * 1.2345) + x, rtol=1e-14)
    del second
    gc.collect()
    assert alive() is None


def test_numbers_that_are_equal_and_not_the_same_have_code_of_their_own():
    x = -np.zeros(40)
    plus = nm.compile(lambda x: np.tanh(x * 1.5) + 0.0)
    minus = nm.compile(lambda x: np.tanh(x * 1.5) + -0.0)
    (first,), (second,) = codes(plus.plan(x)), codes(minus.plan(x))
    assert first is not second
    assert not np.signbit(plus(x)).any()
    assert np.signbit(minus(x)).all()


def test_without_memory_that_executes_loops_stay_as_they_are(monkeypatch):
    """As where the system forbids such pages; the answer is kept, as it does not change."""

    def forbidden(code):
        raise OSError("forbidden")

    JOINED.available.cache_clear()
    monkeypatch.setattr(JOINED, "Code", forbidden)
    try:
        assert not available()
        x = draw(20, 50)
        compiled = nm.compile(lambda x: softmax(x))
        assert_same(compiled(x), softmax(x), rounding())
        assert codes(compiled.plan(x)) == []
    finally:
        monkeypatch.undo()
        JOINED.available.cache_clear()
    assert available()


def test_other_processors_and_windows_have_none(monkeypatch):
    for what, value in ((JOINED._cpu, "baseline"), (JOINED.sys, "win32")):
        JOINED.available.cache_clear()
        with monkeypatch.context() as m:
            if what is JOINED.sys:
                m.setattr(what, "platform", value)
            else:
                m.setattr(what, "selected", lambda value=value: value)
            assert not available()
    JOINED.available.cache_clear()
    assert available()


def test_threads_may_compile_the_same_at_once():
    x = draw(30, 70)
    want = softmax(x * 1.75)
    out = [None] * 8

    def work(k):
        out[k] = nm.compile(lambda x: softmax(x * 1.75))(x)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(out))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for got in out:
        assert_same(got, want, rounding())


def test_large_results_go_past_the_caches():
    """Each of 32 MB, or together; a small one beside them does not, nor donated memory."""
    x = np.ones(17 << 18, np.float32)  # 17 MB
    few = np.ones(100, np.float32)

    def past(f, *args, **options):
        plan = nm.compile(f, **options).plan(*args)
        return [v.buffer.past for s in plan.steps for v in s.writes if v.buffer.kind == "output"]

    assert past(lambda x: x + 1, x) == [False]
    assert past(lambda x: (x + 1, x * 2), x) == [True, True]
    assert sorted(past(lambda x, y: (x + 1, x * 2, y + 1), x, few)) == [False, True, True]
    assert past(lambda x: x + 1, np.ones(2 * len(x), np.float32)) == [True]
    assert past(lambda x: (x + 1, x * 2), x, donate_argnums=0) == [False, False]
    both = nm.compile(lambda x: (x + 1, x * 2))(x)
    assert (both[0] == 2).all()
    assert (both[1] == 2).all()
