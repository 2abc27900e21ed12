"""The elementwise machine: one pass over memory, whatever is fused, for both dtypes and any number of threads."""

import itertools

import numpy as np
import pytest
from plans import assert_same, rounding

import nnmath_core as nm
from nnmath_core.autodiff.ops.softmax import logsumexp_p, softmax_or_zero_p, softmax_p
from nnmath_core.autodiff.ops.standardize import rms_p, standardize_p

DTYPES = ["float32", "float64"]
SHAPES = [(5, 7), (64, 300), (1, 9), (300, 3), (2000, 40), (3, 5000)]


def draw(*shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def compared(f, *args, ulp=64):
    """The plan of f, after its results were compared; sums in another order differ by about sqrt(terms) roundings."""
    with np.errstate(all="ignore"):
        want = f(*args)
    terms = max(np.size(x) for x in nm.tree_leaves(args))
    compiled = nm.compile(f)
    assert_same(compiled(*args), want, rounding(ulp, max(1, terms / 64)))
    return compiled.plan(*args)


def kinds(plan):
    return [s.kind for s in plan.steps]


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def layer_norm(x, w, b):
    d = x - x.mean(axis=-1, keepdims=True)
    return d / np.sqrt((d * d).mean(axis=-1, keepdims=True) + 1e-5) * w + b


def gelu(x):
    return 0.5 * x * (1 + np.tanh(0.79788 * (x + 0.044715 * x**3)))


FUNCTIONS = {
    "affine": lambda x, y, w, r: x * 2 + y,
    "row vector": lambda x, y, w, r: np.exp(x * w) - w,
    "sum of rows": lambda x, y, w, r: (x * w + r).sum(axis=1),
    "sum of columns": lambda x, y, w, r: (x * w + r).sum(axis=0),
    "sum of all": lambda x, y, w, r: (x * w + r).sum(),
    "softmax": lambda x, y, w, r: softmax(x),
    "layer norm": lambda x, y, w, r: layer_norm(x, w, w),
    "gradient of layer norm": lambda x, y, w, r: nm.grad(
        lambda x, w, b: (layer_norm(x, w, b) * y).sum(), (0, 1, 2)
    )(x, w, w),
    "rows of a transpose": lambda x, y, w, r: (x.T * 2).sum(axis=1),
    "columns of a transpose": lambda x, y, w, r: (x.T * 2).sum(axis=0),
    "sum of transposes": lambda x, y, w, r: x.T + y.T,
    "with a transpose": lambda x, y, w, r: (x.T[: min(x.shape), : min(x.shape)] + x[: min(x.shape), : min(x.shape)]),
    "negative steps": lambda x, y, w, r: x[::-1, ::2] * 3,
    "several results": lambda x, y, w, r: (
        np.tanh(x) * y, (1 - np.tanh(x) ** 2) * y, (x * y).sum(axis=0), np.abs(x).max(axis=1), (x < y).any(axis=1),
    ),
    "value and gradient": lambda x, y, w, r: nm.value_and_grad(lambda x: gelu(x).sum())(x),
    "normalised by all": lambda x, y, w, r: x / np.sum(x * x),
    "comparisons": lambda x, y, w, r: np.where((x > y) & (x < 1) | (w > 0), x, y) * (x <= w),
    "integers": lambda x, y, w, r: ((x > 0).sum(axis=0), (x > y).sum(), np.floor(x * 8).astype(int).sum(axis=1)),
    "extrema and their derivatives": lambda x, y, w, r: nm.grad(
        lambda x, y: (np.maximum(x, y) * np.minimum(x, 0) + np.clip(x, -1, y)).sum(), (0, 1)
    )(np.round(x), np.round(y)),
    "rows and columns": lambda x, y, w, r: (x - x.mean(axis=0)) / (1 + x.std(axis=1, keepdims=True)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_compiled_equals_eager(name, shape, dtype):
    rows, cols = shape
    args = (
        draw(rows, cols, dtype=dtype), draw(rows, cols, dtype=dtype, seed=1), draw(cols, dtype=dtype, seed=2),
        draw(rows, 1, dtype=dtype, seed=3),
    )  # fmt: skip
    compared(FUNCTIONS[name], *args)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", [(64, 300), (3, 5000), (2000, 40)], ids=str)
def test_shares_of_threads_give_the_same_bits(name, shape):
    rows, cols = shape
    args = (draw(rows, cols), draw(rows, cols, seed=1), draw(cols, seed=2), draw(rows, 1, seed=3))
    executable = nm.compile(FUNCTIONS[name]).plan(*args).executable
    one = executable.run_split(list(args), 1)
    two, other = (executable.run_split(list(args), n) for n in (2, -2))
    for a, b, c in zip(one, two, other, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


AXES = [0, 1, 2, (0, 1), (1, 2), (0, 2), None, (0, 1, 2), -1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("shape", [(4, 5, 6), (8, 50, 60), (1, 3, 1), (2, 1, 7)], ids=str)
def test_reductions_over_any_axes(shape, axis, dtype):
    x = draw(*shape, dtype=dtype)
    for name, keepdims in itertools.product(("sum", "max", "min"), (True, False)):
        f = getattr(np, name)
        how = {"axis": axis, "keepdims": keepdims}
        kept = {"axis": axis, "keepdims": True}
        compared(lambda x, f=f, how=how: f(x * x, **how), x)
        compared(lambda x, f=f, kept=kept: f(x, **kept) + x, x)
        compared(lambda x, f=f, how=how: f(x.transpose(2, 0, 1), **how), x)
    compared(lambda x: ((x > 0).any(axis=axis), (x > -1).all(axis=axis, keepdims=True)), x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis"), [
    ((5, 7), (1,)), ((5, 7), (0,)), ((5, 7), (0, 1)), ((3, 4, 6), (2,)), ((3, 4, 6), (1, 2)), ((3, 4, 6), (1,)),
    ((3, 4, 6), (0, 2)), ((5, 1), (1,)), ((1, 7), (0,)), ((200, 1000), (1,)), ((200, 1000), (0,)), ((9,), (0,)),
], ids=str)  # fmt: skip
def test_row_functions_equal_their_definitions(shape, axis, dtype):
    x = 3 * draw(*shape, dtype=dtype)
    plans = [
        compared(lambda x: logsumexp_p(x, axis=axis, keepdims=True), x),
        compared(lambda x: logsumexp_p(x, axis=axis, keepdims=False), x),
        compared(lambda x: softmax_p(x, axis=axis), x),
        compared(lambda x: standardize_p(x, axis=axis, eps=1e-5), x),
        compared(lambda x: standardize_p(x, axis=axis, eps=0.0), np.full_like(x, 3)),
        compared(lambda x: rms_p(x, axis=axis, eps=1e-5), x),
    ]
    assert "host" not in [k for p in plans for k in kinds(p)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_row_functions_at_infinity_and_at_large_numbers(dtype):
    x = draw(4, 5, dtype=dtype)
    x[0, 0], x[1, :], x[2, 1], x[3, 0] = np.inf, -np.inf, np.nan, -np.inf
    compared(lambda x: logsumexp_p(x, axis=(1,), keepdims=True), x)
    compared(lambda x: (softmax_p(x, axis=(1,)), softmax_or_zero_p(x, axis=(1,))), x)
    compared(
        lambda x: nm.vjp(lambda x: nm.special.logsumexp(x, axis=1), x)[1](x[:, 0] * 0 + 1)[0], x
    )
    x[0, 0] = np.inf
    x[0, 1] = -np.inf
    compared(lambda x: logsumexp_p(x, axis=(0,), keepdims=False), x)
    large = draw(4, 5, dtype=dtype) * (1e30 if dtype == "float32" else 1e200)
    compared(lambda x: standardize_p(x, axis=(1,), eps=1e-5)[0], large)
    shifted = draw(4, 64, dtype=dtype) * np.asarray(1e-3, dtype) + np.asarray(2000, dtype)
    compared(lambda x: standardize_p(x, axis=(1,), eps=1e-12)[0], shifted)


def test_values_that_are_the_same_in_all_rows_do_not_keep_threads_away():
    plan = compared(lambda x, t: x * np.exp(t) + t, draw(2**16), np.array(0.3))
    assert kinds(plan) == ["machine"]
    assert plan.steps[0].ints[6] == 1  # threads share the columns


def test_softmax_is_one_pass():
    plan = compared(softmax, draw(64, 300))
    assert kinds(plan) == ["machine"]


def test_value_and_gradient_share_a_pass():
    plan = compared(lambda x: nm.vjp(gelu, x)[1](np.ones_like(x))[0] * gelu(x), draw(2000))
    assert kinds(plan) == ["machine"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("approximate", [False, True])
def test_gelu_and_its_gradient_are_two_loops_of_one_pass(approximate, dtype):
    """Nothing but the value, the slope and the product with the cotangent."""

    def both(x, g):
        y, pull = nm.vjp(lambda x: nm.nn.gelu(x, approximate=approximate), x)
        return y, pull(g)[0]

    plan = compared(both, *(draw(6000, dtype=dtype, seed=k) for k in range(2)))
    assert kinds(plan) == ["machine"]
    name = "gelu_tanh" if approximate else "gelu"
    assert sorted(plan.steps[0].note.split()) == [name, f"{name}_slope", "multiply"]


@pytest.mark.parametrize("n", [3000, 5])
def test_steps_of_many_arrays_that_share_a_number_are_a_pass_each(n):
    """The number decides nothing about groups: each array's chain is whole; of short arrays many are one group."""

    def step(t, ws, gs, ms):
        rate = 0.1 / (1 - 0.9**t)
        ms = [0.9 * m + 0.1 * g for m, g in zip(ms, gs, strict=True)]
        return [w - rate * np.tanh(m) for w, m in zip(ws, ms, strict=True)], ms

    arrays = [[draw(n, seed=3 * k + j) for k in range(30)] for j in range(3)]
    plan = compared(step, np.array(3.0), *arrays)
    assert set(kinds(plan)) == {"machine"}
    if n == 3000:
        assert len(plan.steps) == 31
        assert all("tanh" in s.note for s in plan.steps[1:])
    else:
        assert len(plan.steps) < 20


def test_a_large_sum_does_not_lose_digits():
    # lanes of a block add up to 64 terms in single precision, each rounding half an eps; the rest is double
    for n in (10**6, 999983):
        x = np.full(n, np.float32(0.1))
        exact = n * float(np.float32(0.1))
        assert abs(float(nm.compile(np.sum)(x)) - exact) <= 8 * np.finfo(np.float32).eps * exact


def test_a_sum_of_all_entries_is_cut_into_parts():
    x, y = draw(2**16), draw(2**16, seed=1)
    plan = compared(lambda x, y: ((x * y).sum(), np.abs(x).max(), x + y), x, y)
    assert kinds(plan) == ["machine"] * 3


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sum_of_all_entries_copies_no_rows_and_columns(dtype):
    """Where operands are repeated along rows and columns, each line is summed by itself."""
    x, row, column = (
        draw(60, 70, 130, dtype=dtype),
        draw(130, dtype=dtype),
        draw(60, 70, 1, dtype=dtype),
    )
    plan = compared(lambda x, r, c: ((x * r + c).sum(), (x * c).max(), x * r), x, row, column)
    assert set(kinds(plan)) == {"machine"}
    runs = [plan.executable.run_split([x, row, column], nt) for nt in (1, 2, -2)]
    for other in runs[1:]:
        for u, v in zip(runs[0], other, strict=True):
            np.testing.assert_array_equal(u, v)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 4)], ids=str)
def test_empty_arrays(shape):
    x = np.zeros(shape)
    compared(
        lambda x: (
            np.tanh(x) + 1,
            x.sum(),
            x.sum(axis=0),
            (x > 0).any(axis=-1),
            np.exp(x).sum(axis=-1),
        ),
        x,
    )


def test_numbers_and_scalars():
    compared(lambda x, t: x * t + 2, np.float32(1.5), np.float32(2.5))
    compared(lambda x, t: np.exp(x) * t, np.array(1.5), 3.0)
    f = nm.compile(lambda x, lr: x - lr * x)
    x = draw(4, dtype="float32")
    assert f(x, 0.1).dtype == np.float32
    np.testing.assert_array_equal(f(x, 1), x - 1 * x)
    np.testing.assert_allclose(f(x, 0.1), x - 0.1 * x, rtol=2 * np.finfo(np.float32).eps)


def test_many_operations_are_cut_into_groups():
    def f(x):
        for k in range(200):
            x = np.sin(x) * 1.001 + 0.001 * k
        return x

    plan = compared(f, draw(1000), ulp=4096)
    assert set(kinds(plan)) == {"machine"}
    assert len(plan.steps) <= 10


def test_many_operands():
    xs = [draw(50, seed=k) for k in range(90)]
    compared(lambda xs: sum(np.tanh(x) * (k + 1) for k, x in enumerate(xs)), xs)
