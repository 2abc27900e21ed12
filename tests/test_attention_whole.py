"""Attention as one instruction: values and cotangents of attention in blocks, for any layout and number of threads."""

import functools
import math

import numpy as np
import pytest
from plans import kinds_of, run_all

import nnmath_core as nm
from nnmath_core.nn import attention_whole
from nnmath_core.nn.attention_blocks import attend_in_blocks

DTYPES = [np.float32, np.float64]


@pytest.fixture
def rng():
    return np.random.default_rng(20261127)


@pytest.fixture
def always(monkeypatch):
    """Eager calls take the instruction, however small they are."""
    monkeypatch.setattr(attention_whole, "SMALL", 1)


def drawn(rng, lead, t, s, d, e, dtype=np.float64):
    shapes = ((*lead, t, d), (*lead, s, d), (*lead, s, e), (*lead, t, e))
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def values_and_cotangents(q, k, v, g, **options):
    y, pull = nm.vjp(lambda *xs: nm.nn.attention(*xs, **options), q, k, v)
    return (y, *pull(g))


def in_blocks(q, k, v, g, *, bias=None, mask=None, causal=False, scale=None):
    """The same in double precision, by the composition of primitives."""
    wide = [x.astype(np.float64) for x in (q, k, v, g)]
    scale = 1 / math.sqrt(max(q.shape[-1], 1)) if scale is None else scale
    bias = None if bias is None else np.atleast_2d(bias).astype(np.float64)
    mask = None if mask is None else np.atleast_2d(mask)
    f = lambda q, k, v: attend_in_blocks(q, k, v, bias, mask, None, causal, scale)  # noqa: E731
    y, pull = nm.vjp(f, *wide[:3])
    return (y, *pull(wide[3]))


def bounds(q, k, v, g, want, scale=None):
    """Rounding errors of the dtype of q: of the scores, as large as they are, and of sums of t or s terms.

    An error u in a score is a relative error u in its weight. A score is a sum of d products, a cotangent one of t or
    s terms of either sign, each of them wrong by that much; so is the bound, times the largest entry that is summed.
    """
    eps = np.finfo(q.dtype).eps
    d, s, t = q.shape[-1], k.shape[-2], q.shape[-2]
    scale = 1 / math.sqrt(d) if scale is None else abs(scale)
    largest = [max(1.0, float(np.max(np.abs(x), initial=0.0))) for x in (q, k, v, g)]
    score = scale * largest[0] * largest[1] * d
    each = 8 * eps * (1 + score)
    sums = math.sqrt(max(s, t, d))
    top_q, top_k, top_v, top_g = largest
    pulled = top_g * top_v * q.shape[-1] ** 0.5 * sums
    sizes = (top_v, pulled * top_k * scale, pulled * top_q * scale, top_g * sums)
    return [
        each * max(size, float(np.max(np.abs(w), initial=0.0)))
        for size, w in zip(sizes, want, strict=True)
    ]


def assert_near(got, want, limits, what):
    for name, a, b, limit in zip(("y", "q", "k", "v"), got, want, limits, strict=True):
        assert a.shape == b.shape
        off = np.max(np.abs(a - b), initial=0.0)
        assert off <= limit, f"{what}, {name}: off by {off:.2e}, at most {limit:.2e}"


# ------------------------------------------------------------ values, cotangents
SIZES = [
    ((), 1, 1, 1, 1),
    ((), 5, 7, 3, 2),
    ((3,), 1, 100, 16, 16),  # a step of decoding: few queries read the keys as they are
    ((2,), 4, 49, 33, 17),
    ((2, 3), 50, 48, 8, 5),
    ((2,), 130, 70, 32, 32),
    ((1, 2), 70, 193, 64, 20),
    ((), 300, 2100, 5, 3),  # sums in several parts
    ((), 2500, 40, 4, 4),
]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_instruction_is_attention_in_blocks(size, dtype, causal, rng):
    xs = drawn(rng, *size, dtype=dtype)
    f = functools.partial(values_and_cotangents, causal=causal)
    kinds = kinds_of(f, *xs)
    assert {"attention", "attention_pull"} <= set(kinds)
    assert "host" not in kinds
    assert "gemm" not in kinds
    want = in_blocks(*xs, causal=causal)
    limits = bounds(*xs, want)
    alone, *shared = run_all(f, *xs, threads=3)
    assert all(y.dtype == dtype for y in alone)
    assert_near(alone, want, limits, "one thread")
    for made in shared:  # bit for bit
        assert all(np.array_equal(a, b) for a, b in zip(made, alone, strict=True))


OPTIONS = {
    "mask": lambda rng, t, s: {"mask": rng.random((2, 3, t, s)) < 0.5},
    "mask for all": lambda rng, t, s: {"mask": rng.random((t, s)) < 0.5},
    "mask of keys": lambda rng, t, s: {"mask": rng.random(s) < 0.5},
    "mask of queries": lambda rng, t, s: {"mask": rng.random((3, t, 1)) < 0.5},
    "padded keys": lambda rng, t, s: {"mask": rng.random((2, 1, 1, s)) < 0.5},
    "turned mask": lambda rng, t, s: {"mask": (rng.random((s, t)) < 0.5).T},
    "nothing allowed": lambda rng, t, s: {"mask": np.zeros((t, s), bool)},
    "bias": lambda rng, t, s: {"bias": rng.standard_normal((2, 3, t, s))},
    "bias of heads": lambda rng, t, s: {"bias": rng.standard_normal((3, 1, s))},
    "bias of queries": lambda rng, t, s: {"bias": rng.standard_normal((t, 1))},
    "turned bias": lambda rng, t, s: {"bias": rng.standard_normal((s, t))[::-1].T},
    "bias of -inf": lambda rng, t, s: {"bias": np.where(rng.random((t, s)) < 0.5, 0.5, -np.inf)},
    "scale": lambda rng, t, s: {"scale": -0.7},
    "all": lambda rng, t, s: {
        "mask": rng.random((1, 3, t, 1)) < 0.8, "bias": rng.standard_normal((t, s)), "causal": True, "scale": 0.5,
    },
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("t", "s"), [(2, 9), (67, 50), (50, 131)])
@pytest.mark.parametrize("name", OPTIONS)
def test_masks_biases_and_scales(name, t, s, dtype, rng):
    xs = drawn(rng, (2, 3), t, s, 6, 5, dtype=dtype)
    options = OPTIONS[name](rng, t, s)
    if "bias" in options:
        options["bias"] = options["bias"].astype(dtype)
    f = functools.partial(values_and_cotangents, **options)
    assert "host" not in kinds_of(f, *xs)
    want = in_blocks(*xs, **options)
    limits = bounds(*xs, want, options.get("scale"))
    extra = 1 + np.max(
        np.abs(options.get("bias", 0.0)), where=np.isfinite(options.get("bias", 0.0)), initial=0.0
    )
    for made in run_all(f, *xs, threads=2):
        assert_near(made, want, [extra * limit for limit in limits], name)


@pytest.mark.parametrize("name", ["plain", "mask", "bias"])
def test_operands_that_are_arguments_of_the_program(name, rng):
    xs = drawn(rng, (2, 3), 40, 50, 6, 5)
    options = {
        "plain": {},
        "mask": OPTIONS["padded keys"](rng, 40, 50),
        "bias": OPTIONS["bias of heads"](rng, 40, 50),
    }
    options = options[name]
    names = list(options)

    def f(*args):
        return values_and_cotangents(*args[:4], **dict(zip(names, args[4:], strict=True)))

    args = (*xs, *options.values())
    kinds = kinds_of(f, *args)
    assert {"attention", "attention_pull"} <= set(kinds)
    assert "gemm" not in kinds  # nobody asks for the cotangent of the bias, so it is not computed
    want = in_blocks(*xs, **options)
    limits = [4 * limit for limit in bounds(*xs, want)]
    assert_near(nm.compile(f)(*args), want, limits, name)


@pytest.mark.parametrize("bias_shape", [(2, 3, 40, 50), (3, 1, 50), (40, 1)])
def test_the_cotangent_of_a_bias(bias_shape, rng):
    q, k, v, g = drawn(rng, (2, 3), 40, 50, 6, 5)
    bias = rng.standard_normal(bias_shape)

    def f(bias, block_size=None):
        return np.sum(g * nm.nn.attention(q, k, v, bias=bias, causal=True, block_size=block_size))

    want = nm.grad(functools.partial(f, block_size=40))(bias)
    tol = (
        64 * np.finfo(np.float64).eps * math.sqrt(2 * 3 * 40 * 50) * max(1.0, np.max(np.abs(want)))
    )
    for got in (nm.grad(f)(bias), nm.compile(nm.grad(f))(bias)):
        assert got.shape == bias.shape
        assert np.max(np.abs(got - want)) <= tol


@pytest.mark.parametrize("dtype", DTYPES)
def test_heads_are_read_where_they_lie(dtype, rng):
    """Heads of (b, t, h d), shared keys, rows in reverse order and every second position: no copies of operands."""
    b, t, h, d = 2, 60, 4, 8

    def split(x, heads):
        return x.reshape(b, t, heads, -1).transpose(0, 2, 1, 3)

    q, k, v = (rng.standard_normal((b, t, n * d)).astype(dtype) for n in (h, 2, 2))

    def f(q, k, v, **options):
        return nm.nn.attention(
            split(q, h), split(k, 2)[:, :, ::-1], split(v, 2)[:, :, ::-1], **options
        )

    assert kinds_of(f, q, k, v) == ["attention"]
    g = rng.standard_normal((b, t, h, d)).astype(dtype).transpose(0, 2, 1, 3)

    def pulled(q, k, v, **options):
        y, pull = nm.vjp(functools.partial(f, **options), q, k, v)
        return (y, *pull(g))

    got = nm.compile(pulled)(q, k, v)
    want = pulled(*(x.astype(np.float64) for x in (q, k, v)), block_size=t)
    tol = 512 * np.finfo(dtype).eps  # sums of 60 terms of size 10, of two heads
    for x, y in zip(got, want, strict=True):
        assert np.max(np.abs(x - y)) <= tol * max(1.0, np.max(np.abs(y)))


def test_empty_operands(rng):
    for lead, t, s, d, e in [
        ((2,), 0, 5, 3, 2),
        ((2,), 4, 0, 3, 2),
        ((0,), 4, 5, 3, 2),
        ((2,), 4, 5, 3, 0),
        ((2,), 4, 5, 0, 2),
    ]:
        xs = drawn(rng, lead, t, s, d, e)
        got = nm.compile(values_and_cotangents)(*xs)
        for a, b in zip(got, in_blocks(*xs), strict=True):
            assert a.shape == b.shape
            assert np.max(np.abs(a - b), initial=0.0) <= 64 * np.finfo(np.float64).eps


# ------------------------------------------------------------ extreme values
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("t", [2, 20])
def test_large_scores_and_weights_that_vanish(dtype, t):
    q = np.linspace(-1e4, 1e4, t, dtype=dtype)[:, None]
    k = np.array([[1e4], [2e4], [-1e4]], dtype)
    v = np.array([[1.0], [2.0], [3.0]], dtype)
    y, *pulled = nm.compile(values_and_cotangents)(q, k, v, np.ones((t, 1), dtype))
    assert y[0, 0] == 3.0
    assert y[-1, 0] == 2.0
    assert pulled[0][0, 0] == 0.0  # one weight is 1 to the last digit
    assert all(np.all(np.isfinite(x)) for x in pulled)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("t", [3, 20])
def test_rows_that_see_one_key_are_exact_and_have_cotangent_zero(dtype, t, rng):
    xs = drawn(rng, (2,), t, t, 8, 8, dtype=dtype)
    y, q, _, _ = nm.compile(functools.partial(values_and_cotangents, causal=True))(*xs)
    assert np.array_equal(y[:, 0], xs[2][:, 0])
    assert not np.any(q[:, 0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("t", [3, 20])
def test_rows_that_see_nothing_are_zeros(dtype, t, rng):
    xs = drawn(rng, (2,), t, 30, 8, 8, dtype=dtype)
    mask = np.ones((t, 30), bool)
    mask[1] = False
    for options in ({"mask": mask}, {"bias": np.where(mask, 0, -np.inf).astype(dtype)}):
        y, q, k, v = nm.compile(functools.partial(values_and_cotangents, **options))(*xs)
        assert not np.any(y[:, 1])
        assert not np.any(q[:, 1])
        assert all(np.all(np.isfinite(x)) for x in (y, q, k, v))
        assert np.all(np.any(y[:, 2:], axis=-1))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_what_is_not_finite_arrives_where_it_does_in_blocks(where, bad, masked, rng):
    xs = drawn(rng, (2,), 20, 60, 8, 8)
    xs["qkv".index(where)][1, 7, 3] = bad
    options = {"mask": np.arange(60) != 9} if masked else {}
    with np.errstate(all="ignore"):
        got = nm.compile(functools.partial(values_and_cotangents, **options))(*xs)
        want = in_blocks(*xs, **options)
    for a, b in zip(got, want, strict=True):
        assert np.array_equal(np.isfinite(a), np.isfinite(b))


# ------------------------------------------------------------ eager
@pytest.mark.parametrize("dtype", DTYPES)
def test_eager_calls_have_the_bits_of_compiled_ones(dtype, rng):
    xs = drawn(rng, (2,), 96, 128, 32, 32, dtype=dtype)
    xs[1] = np.asfortranarray(xs[1])
    for options in ({}, {"causal": True}, {"mask": np.arange(128) < 100}):
        f = functools.partial(values_and_cotangents, **options)
        for a, b in zip(f(*xs), nm.compile(f)(*xs), strict=True):
            assert np.array_equal(a, b)


def test_an_eager_call_inside_of_a_trace(rng):
    q, k, v, _ = drawn(rng, (2,), 96, 128, 32, 32)
    want = nm.nn.attention(q, k, v)
    f = lambda x: x * nm.nn.attention(q, k, v)  # noqa: E731
    assert np.array_equal(nm.compile(f)(2.0), 2.0 * want)
    assert np.array_equal(nm.vmap(f)(np.full(3, 2.0))[1], 2.0 * want)


@pytest.mark.parametrize("name", ["plain", "causal", "mask", "bias", "shared heads"])
def test_derivatives_of_all_kinds(name, always, rng):
    q, k, v, _ = drawn(rng, (1, 2), 3, 3, 2, 2)
    options = {
        "causal": {"causal": True},
        "mask": {"mask": np.array([[True, False, True], [False] * 3, [True] * 3])},
        "bias": {"bias": rng.standard_normal((2, 1, 3))},
    }.get(name, {})
    if name == "shared heads":
        k, v = k[:, :1], v[:, :1]
    nm.check_grads(functools.partial(nm.nn.attention, **options), (q, k, v))
    if name == "bias":
        nm.check_grads(
            lambda q, k, v, b: nm.nn.attention(q, k, v, bias=b), (q, k, v, options["bias"])
        )


def test_the_directions_that_move(always, rng):
    """Forward mode in some of the operands alone, and the second derivative of some in others."""
    q, k, v, g = drawn(rng, (2,), 6, 5, 3, 4)
    bias = rng.standard_normal((6, 5))
    args = {"q": q, "k": k, "v": v, "bias": bias}
    tol = 256 * np.finfo(np.float64).eps
    for name, x in args.items():
        t = rng.standard_normal(x.shape)

        def f(x, name=name, block_size=None):
            return nm.nn.attention(**{**args, name: x}, causal=True, block_size=block_size)

        got, want = (nm.jvp(functools.partial(f, block_size=n), (x,), (t,))[1] for n in (None, 6))
        assert np.max(np.abs(got - want)) <= tol * max(1.0, np.max(np.abs(want)))
        for other in "qkv":

            def slope(x, name=name, other=other, block_size=None):
                given = {**args, name: x}
                h = lambda z: np.sum(  # noqa: E731
                    g * nm.nn.attention(**{**given, other: z}, causal=True, block_size=block_size)
                )
                return nm.grad(h)(given[other])

            got, want = (
                nm.jvp(functools.partial(slope, block_size=n), (x,), (t,))[1] for n in (None, 6)
            )
            assert np.max(np.abs(got - want)) <= tol * max(1.0, np.max(np.abs(want)))
            w = rng.standard_normal(got.shape)
            back = nm.grad(lambda x, s=slope, w=w: np.sum(w * s(x)))(x)
            assert (
                abs(np.sum(back * t) - np.sum(w * got)) <= tol * max(1.0, abs(np.sum(w * got))) * 8
            )


def test_vmap_of_any_operands(always, rng):
    q, k, v, g = drawn(rng, (3, 2), 6, 5, 3, 4)
    mask = rng.random((3, 6, 5)) < 0.7
    bias = rng.standard_normal((3, 2, 1, 5))
    tol = 128 * np.finfo(np.float64).eps

    def f(q, k, v, mask, bias, g):
        y, pull = nm.vjp(
            lambda q, k, v, b: nm.nn.attention(q, k, v, mask=mask, bias=b), q, k, v, bias
        )
        return (y, *pull(g))

    args = (q, k, v, mask, bias, g)
    for on in (
        (0,) * 6,
        (0, None, 0, None, 0, 0),
        (None, 0, None, 0, None, None),
        (None, None, None, None, 0, None),
    ):
        given = [x if axis == 0 else x[1] for x, axis in zip(args, on, strict=True)]
        got = nm.vmap(f, in_axes=on)(*given)
        for i in range(3):
            want = f(*(x[i] if axis == 0 else x for x, axis in zip(given, on, strict=True)))
            for a, b in zip(got, want, strict=True):
                assert np.max(np.abs(a[i] - b)) <= tol * max(1.0, np.max(np.abs(b)))


def test_taylor_mode(always, rng):
    q, k, v, _ = drawn(rng, (2,), 5, 5, 3, 3)
    series = [[rng.standard_normal(x.shape) for _ in range(3)] for x in (q, k, v)]
    made = [
        nm.jet(lambda *xs, n=n: nm.nn.attention(*xs, causal=True, block_size=n), (q, k, v), series)
        for n in (None, 5)
    ]
    for a, b in zip((made[0][0], *made[0][1]), (made[1][0], *made[1][1]), strict=True):
        assert np.max(np.abs(a - b)) <= 512 * np.finfo(np.float64).eps * max(1.0, np.max(np.abs(b)))


# ------------------------------------------------------------ cost, memory
@pytest.mark.parametrize("causal", [False, True])
def test_memory_of_the_plan_is_linear(causal):
    def peak(t):
        xs = [np.zeros((4, t, 16), np.float32)] * 4
        return (
            nm.compile(functools.partial(values_and_cotangents, causal=causal)).plan(*xs).cost.peak
        )

    small, large = peak(4096), peak(16384)
    assert large <= 4 * small + 2**16
    assert large < 4 * 16384**2 // 8  # an eighth of the scores of one head


def test_the_cost_counts_the_products():
    t, s, d, e = 100, 60, 8, 4
    xs = [np.zeros(shape) for shape in ((3, t, d), (3, s, d), (3, s, e), (3, t, e))]
    flops = nm.compile(values_and_cotangents).plan(*xs).cost.flops
    products = 3 * t * s * (8.0 * d + 6.0 * e)
    assert products < flops < products + 3 * t * s * 48


def test_few_heads_are_shared_by_threads(rng):
    xs = drawn(rng, (), 1000, 300, 8, 8)
    f = functools.partial(values_and_cotangents, causal=True)
    parts = [s for s in nm.compile(f).plan(*xs).steps if s.kind == "attention_pull"]
    assert parts[0].writes[1].shape[0] > 1
    want = in_blocks(*xs, causal=True)
    shared = run_all(f, *xs, threads=3)
    for made in shared:
        assert_near(made, want, bounds(*xs, want), "chunks")
    (alone,) = run_all(f, *xs, threads=1)  # a plan for one thread adds up the same chunks
    assert all(np.array_equal(a, b) for a, b in zip(shared[0], alone, strict=True))
