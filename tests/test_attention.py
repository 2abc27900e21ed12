"""Attention: values, derivatives of both orders, masks, dropout, memory, and PyTorch's numbers."""

import functools
import json
import math
import tracemalloc

import numpy as np
import pytest
from reference import attention_torch
from reference.parity import compare, direction, weights

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError, ShapeError

DTYPES = [np.float32, np.float64]
EPS = np.finfo(np.float64).eps
STORED = json.loads(attention_torch.STORED.read_text())["cases"]
CASES = {k: v for k, v in attention_torch.cases().items() if v["kind"] == "attention"}


@pytest.fixture
def rng():
    return np.random.default_rng(20261126)


def sequences(rng, *lead, t=5, s=6, d=3, e=2, groups=None, dtype=np.float64):
    q = rng.standard_normal((*lead, t, d))
    front = (*lead[:-1], groups) if groups else lead
    k, v = rng.standard_normal((*front, s, d)), rng.standard_normal((*front, s, e))
    return q.astype(dtype), k.astype(dtype), v.astype(dtype)


def slow_attention(q, k, v, *, mask=None, bias=None, causal=False, scale=None, kept=None):
    """One query at a time, by loops; heads of keys are repeated."""
    lead, (t, d), s = q.shape[:-2], q.shape[-2:], k.shape[-2]
    if lead and k.shape[-3] != lead[-1]:
        k, v = (np.repeat(x, lead[-1] // x.shape[-3], axis=-3) for x in (k, v))
    scale = 1 / math.sqrt(d) if scale is None else scale
    mask = np.broadcast_to(True if mask is None else mask, (*lead, t, s))
    bias = np.broadcast_to(0.0 if bias is None else bias, (*lead, t, s))
    out = np.zeros((*lead, t, v.shape[-1]))
    for at in np.ndindex(*lead, t):
        head, i = at[:-1], at[-1]
        allowed = [j for j in range(s) if mask[(*at, j)] and not (causal and j > i)]
        allowed = [j for j in allowed if bias[(*at, j)] > -math.inf]
        scores = [scale * sum(q[at] * k[(*head, j)]) + bias[(*at, j)] for j in allowed]
        powers = [math.exp(x - max(scores)) for x in scores]
        for j, p in zip(allowed, powers, strict=True):
            w = p / sum(powers) * (1.0 if kept is None else kept[(*at, j)])
            out[at] += w * v[(*head, j)]
    return out


def close(got, want, tol):
    assert got.shape == want.shape
    assert np.max(np.abs(got - want), initial=0.0) <= tol


# ---------------------------------------------------------------------------------------------------------- values
VARIANTS = {
    "plain": lambda rng: {},
    "causal": lambda rng: {"causal": True},
    "scale": lambda rng: {"scale": -0.7},
    "mask": lambda rng: {"mask": rng.random((2, 4, 5, 6)) < 0.5},
    "mask for all": lambda rng: {"mask": rng.random((5, 6)) < 0.5},
    "mask of keys": lambda rng: {"mask": rng.random(6) < 0.5},
    "mask of queries": lambda rng: {"mask": rng.random((4, 5, 1)) < 0.5},
    "padded keys": lambda rng: {"mask": rng.random((2, 1, 1, 6)) < 0.5},
    "bias": lambda rng: {"bias": rng.standard_normal((4, 5, 6))},
    "bias of keys": lambda rng: {"bias": rng.standard_normal((2, 1, 1, 6))},
    "bias of -inf": lambda rng: {"bias": np.where(rng.random((5, 6)) < 0.5, 0.5, -np.inf)},
    "all": lambda rng: {
        "mask": rng.random((1, 4, 5, 1)) < 0.8, "bias": rng.standard_normal((5, 6)), "causal": True, "scale": 0.5,
    },
}  # fmt: skip


@pytest.mark.parametrize("block_size", [None, 1, 2, 3, 5, 9])
@pytest.mark.parametrize("name", VARIANTS)
def test_attention_is_the_plain_formula_in_any_blocks(name, block_size, rng):
    q, k, v = sequences(rng, 2, 4)
    options = VARIANTS[name](rng)
    got = nm.nn.attention(q, k, v, block_size=block_size, **options)
    # each weight is off by a few roundings of a score of size 4 and of a sum of six
    close(got, slow_attention(q, k, v, **options), 64 * EPS)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("name", ["plain", "mask", "bias", "padded keys", "all"])
def test_heads_in_a_row_share_a_head_of_keys(name, groups, rng):
    q, k, v = sequences(rng, 2, 4, groups=groups)
    options = VARIANTS[name](rng)
    got = nm.nn.attention(q, k, v, block_size=2, **options)
    close(got, slow_attention(q, k, v, **options), 64 * EPS)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize(("t", "s"), [(1, 1), (4, 7), (7, 4), (1, 5)])
def test_any_axes_stand_in_front_and_lengths_differ(lead, t, s, rng):
    q, k, v = sequences(rng, *lead, t=t, s=s)
    for causal in (False, True):
        close(
            nm.nn.attention(q, k, v, causal=causal),
            slow_attention(q, k, v, causal=causal),
            64 * EPS,
        )


def test_causal_attention_is_aligned_at_the_upper_left(rng):
    q, k, v = sequences(rng, 2, t=3, s=6)
    changed = v.copy()
    changed[:, 1:] += 1.0
    y, other = (nm.nn.attention(q, k, x, causal=True) for x in (v, changed))
    assert np.array_equal(y[:, 0], v[:, 0])  # the first query sees the first key alone
    assert np.array_equal(y[:, 0], other[:, 0])
    assert not np.any(y[:, 1] == other[:, 1])


def test_products_are_logits_and_become_weights_by_scale_and_softmax(rng):
    q, k, v = sequences(rng, t=4, s=5, d=3)
    logits = np.einsum("ik,jk->ij", q, k)
    a = nm.nn.attention_weights(q, k)
    assert np.min(logits) < 0.0
    assert np.max(np.abs(logits.sum(axis=1) - 1.0)) > 0.1
    assert np.min(a) > 0.0
    close(a.sum(axis=1), np.ones(4), 4 * EPS)
    powers = np.exp(logits / math.sqrt(3))
    close(a, powers / powers.sum(axis=1, keepdims=True), 32 * EPS)
    unscaled = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.max(np.abs(a - unscaled)) > 0.05
    close(nm.nn.attention(q, k, v), a @ v, 16 * EPS)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_weights_are_what_attention_uses(name, rng):
    q, k, _ = sequences(rng, 2, 4)
    options = VARIANTS[name](rng)
    a = nm.nn.attention_weights(q, k, **options)
    one = np.broadcast_to(np.eye(6), (2, 4, 6, 6))
    close(a, slow_attention(q, k, one, **options), 64 * EPS)
    sums = a.sum(axis=-1)
    assert np.all((np.abs(sums - 1.0) <= 8 * EPS) | (sums == 0.0))


def test_a_query_that_may_attend_to_nothing_gives_zeros_and_has_derivative_zero(rng):
    q, k, v = sequences(rng, 2, 4)
    mask = np.ones((5, 6), bool)
    mask[2] = False
    low = np.where(mask, 0.0, -np.inf)
    for options in ({"mask": mask}, {"bias": low}):
        f = functools.partial(nm.nn.attention, block_size=2, **options)
        assert not np.any(f(q, k, v)[:, :, 2])
        only = nm.grad(lambda q, k, v, f=f: f(q, k, v)[:, :, 2].sum(), argnums=(0, 1, 2))(q, k, v)
        assert not any(np.any(g) for g in only)
        every = nm.grad(lambda q, k, v, f=f: f(q, k, v).sum(), argnums=(0, 1, 2))(q, k, v)
        assert not np.any(every[0][:, :, 2])
        assert all(np.all(np.isfinite(g)) for g in every)
        tangent = nm.jvp(f, (q, k, v), (q, k, v))[1]
        assert not np.any(tangent[:, :, 2])
        assert np.all(np.isfinite(tangent))
        product = nm.hvp(lambda q, k, v, f=f: np.sin(f(q, k, v)).sum(), (q, k, v), (q, k, v))
        assert all(np.all(np.isfinite(h)) for h in product)


def test_masked_keys_change_nothing(rng):
    q, k, v = sequences(rng, 2, 4)
    mask = np.ones(6, bool)
    mask[[1, 4]] = False
    want = nm.nn.attention(q, k[:, :, mask], v[:, :, mask])
    close(nm.nn.attention(q, k, v, mask=mask), want, 16 * EPS)
    gk, gv = nm.grad(lambda k, v: nm.nn.attention(q, k, v, mask=mask).sum(), argnums=(0, 1))(k, v)
    assert not np.any(gk[:, :, ~mask])
    assert not np.any(gv[:, :, ~mask])


def test_no_queries_and_no_keys(rng):
    q, k, v = sequences(rng, 2, 4)
    assert nm.nn.attention(q[:, :, :0], k, v).shape == (2, 4, 0, 2)
    nothing = nm.nn.attention(q, k[:, :, :0], v[:, :, :0])
    assert nothing.shape == (2, 4, 5, 2)
    assert not np.any(nothing)
    assert nm.nn.attention(q[:0], k[:0], v[:0], causal=True).shape == (0, 4, 5, 2)
    g = nm.grad(lambda q: nm.nn.attention(q, k[:, :, :0], v[:, :, :0]).sum())(q)
    assert not np.any(g)


def test_large_scores_do_not_overflow():
    q, k = np.array([[1e4], [-1e4]]), np.array([[1e4], [2e4], [-1e4]])
    v = np.array([[1.0], [2.0], [3.0]])
    assert nm.nn.attention(q, k, v).tolist() == [[2.0], [3.0]]
    assert np.all(np.isfinite(nm.grad(lambda q: nm.nn.attention(q, k, v).sum())(q)))


# ----------------------------------------------------------------------------------------------------- derivatives
@pytest.mark.parametrize("block_size", [None, 2])
@pytest.mark.parametrize("name", ["plain", "mask", "bias", "all"])
def test_derivatives_in_both_modes_and_both_orders(name, block_size, rng):
    q, k, v = sequences(rng, 1, 2, t=3, s=3, d=2)
    options = {
        "plain": {},
        "mask": {"mask": np.array([[True, False, True], [False] * 3, [True] * 3])},
        "bias": {},
        "all": {"mask": np.array([[[True]], [[True]]]), "causal": True},
    }[name]
    if name in ("bias", "all"):
        bias = rng.standard_normal((2, 1, 3))
        f = lambda q, k, v, b: nm.nn.attention(q, k, v, bias=b, block_size=block_size, **options)  # noqa: E731
        nm.check_grads(f, (q, k, v, bias))
    else:
        nm.check_grads(
            functools.partial(nm.nn.attention, block_size=block_size, **options), (q, k, v)
        )


def test_derivatives_with_shared_heads_and_dropped_weights(rng):
    q, k, v = sequences(rng, 4, t=2, s=3, d=2, groups=2)
    key = nm.random.key(5)
    nm.check_grads(
        functools.partial(nm.nn.attention, dropout_rate=0.4, key=key, block_size=1), (q, k, v)
    )


def plain(q, k, v, mask):
    """The formula in primitives, with all weights at once."""
    s = np.matmul(q, np.swapaxes(k, -1, -2)) / math.sqrt(q.shape[-1])
    return np.matmul(nm.nn.softmax(np.where(mask, s, -np.inf)), v)


@pytest.mark.parametrize("dtype", DTYPES)
def test_derivatives_are_those_of_the_plain_formula(dtype, rng):
    q, k, v = sequences(rng, 2, 3, t=16, s=16, d=4, dtype=dtype)
    below = np.tril(np.ones((16, 16), bool))
    w = rng.standard_normal((2, 3, 16, 2)).astype(dtype)
    ours = lambda q, k, v: np.sum(w * nm.nn.attention(q, k, v, causal=True, block_size=5))  # noqa: E731
    theirs = lambda q, k, v: np.sum(w * plain(q, k, v, below))  # noqa: E731
    xs, ts = (q, k, v), tuple(rng.standard_normal(x.shape).astype(dtype) for x in (q, k, v))
    tol = 256 * np.finfo(dtype).eps  # sums of 16 products of numbers of size 4, of either sign
    every = tuple(range(3))

    def second(f):
        return lambda *xs: sum(
            np.sum(t * g) for t, g in zip(ts, nm.grad(f, argnums=every)(*xs), strict=True)
        )

    for transform in (
        lambda f: nm.grad(f, argnums=every)(*xs),
        lambda f: [nm.jvp(f, xs, ts)[1]],
        lambda f: nm.hvp(f, xs, ts),
        lambda f: nm.grad(second(f), argnums=every)(*xs),
    ):
        for got, want in zip(transform(ours), transform(theirs), strict=True):
            assert got.dtype == dtype
            close(got, want, tol * max(1.0, np.max(np.abs(want))))


@pytest.mark.parametrize("name", CASES)
def test_attention_agrees_with_pytorch(name):
    case = CASES[name]
    arrays = attention_torch.arguments(name, case)

    def f(q, k, v, bias=None):
        mask = attention_torch.mask_of(name, case)
        causal = case.get("causal", False)
        return nm.nn.attention(
            q, k, v, mask=mask, bias=bias, causal=causal, scale=case.get("scale"), block_size=2
        )  # fmt: skip

    agrees_with_pytorch(name, f, arrays)


def agrees_with_pytorch(name, f, arrays):
    stored = STORED[name]
    y = f(*arrays)
    compare("value", y, stored["value"], 1e-12)
    w = weights(name, y.shape)
    along = tuple(direction(name, i, x.shape) for i, x in enumerate(arrays))
    loss = lambda *xs: np.sum(w * f(*xs))  # noqa: E731
    gradient = nm.grad(loss, argnums=tuple(range(len(arrays))))(*arrays)
    product = nm.hvp(loss, tuple(arrays), along)
    for i in range(len(arrays)):
        compare(f"gradient {i}", gradient[i], stored["gradient"][i], 1e-12)
        compare(f"product {i}", product[i], stored["product"][i], 1e-12)


# ---------------------------------------------------------------------------------------------- other transformations
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_is_kept_and_stage_and_vmap_agree(dtype, rng):
    q, k, v = sequences(rng, 3, 4, dtype=dtype)
    mask = rng.random((3, 1, 1, 6)) < 0.7
    mask[..., 0] = True
    bias = rng.standard_normal((4, 5, 6)).astype(dtype)
    f = lambda q, k, v, m, b: nm.nn.attention(q, k, v, mask=m, bias=b, causal=True, block_size=2)  # noqa: E731
    y = f(q, k, v, mask, bias)
    tol = 32 * np.finfo(dtype).eps
    assert y.dtype == dtype
    close(nm.stage(f, q, k, v, mask, bias)(q, k, v, mask, bias), y, tol)
    mapped = nm.vmap(f, in_axes=(0, 0, 0, 0, None))(q, k, v, mask, bias)
    assert mapped.dtype == dtype
    close(mapped, y, tol)
    loss = lambda q, k, v, m, b: np.sum(np.sin(f(q, k, v, m, b)))  # noqa: E731
    g = nm.grad(loss, argnums=(0, 1, 2))
    want = g(q, k, v, mask, bias)
    for got in (
        nm.stage(g, q, k, v, mask, bias)(q, k, v, mask, bias),
        nm.vmap(g, in_axes=(0, 0, 0, 0, None))(q, k, v, mask, bias),
    ):
        for a, b in zip(got, want, strict=True):
            assert a.dtype == dtype
            close(a, b, tol)


def test_complex_step(rng):
    q, k, v = sequences(rng, 2, 3)
    for i, options in enumerate(({}, {"causal": True}, {"mask": np.arange(6) < 4})):
        f = lambda q, k, v, o=options: nm.nn.attention(q, k, v, block_size=2, **o).sum()  # noqa: E731
        xs = [q, k, v]
        step = rng.standard_normal(xs[i].shape)
        want = np.sum(step * nm.grad(f, argnums=i)(q, k, v))
        xs[i] = xs[i] + 1e-30j * step
        assert abs(f(*xs).imag / 1e-30 - want) <= 1e3 * EPS * max(1.0, abs(want))


# --------------------------------------------------------------------------------------------------------- dropout
def test_dropped_weights_do_not_depend_on_blocks_dtype_or_mode(rng):
    q, k, _ = sequences(rng, 2, 4, t=7, s=7)
    one = np.broadcast_to(np.eye(7), (2, 4, 7, 7))
    key = nm.random.key(3)
    for causal in (False, True):
        f = functools.partial(nm.nn.attention, dropout_rate=0.4, key=key, causal=causal)
        found = f(q, k, one)
        a = nm.nn.attention_weights(q, k, causal=causal)
        kept = found != 0.0
        close(found, np.where(kept, a / 0.6, 0.0), 8 * EPS)
        for block in (1, 2, 4):
            assert np.array_equal(f(q, k, one, block_size=block) != 0.0, kept)
        single = [x.astype(np.float32) for x in (q, k, one)]
        assert np.array_equal(f(*single) != 0.0, kept)
        assert np.array_equal(nm.stage(f, q, k, one)(q, k, one) != 0.0, kept)
    other = nm.nn.attention(q, k, one, dropout_rate=0.4, key=nm.random.key(4), causal=True)
    assert np.any((other != 0.0) != kept)


def test_dropout_keeps_the_mean(rng):
    q, k, v = np.zeros((64, 32, 2)), np.zeros((64, 32, 2)), np.ones((64, 32, 1))
    y = nm.nn.attention(q, k, v, dropout_rate=0.25, key=nm.random.key(0))
    # 64 * 32 rows of 32 weights 1/32: each sum has variance 0.25 / 0.75 / 32
    assert abs(y.mean() - 1.0) <= 4 * math.sqrt(0.25 / 0.75 / y.size / 32)
    dropped = (
        nm.nn.attention(
            q, k, np.broadcast_to(np.eye(32), (64, 32, 32)), dropout_rate=0.25, key=nm.random.key(0)
        )
        == 0.0
    )
    assert abs(dropped.mean() - 0.25) <= 4 * math.sqrt(0.25 * 0.75 / dropped.size)


# ----------------------------------------------------------------------------------------------------------- memory
LENGTH = 4096
MEGABYTES = 200


def memory_above_results(f):
    """Return the peak of what NumPy holds during a call, less what is held behind it (the results), in megabytes."""
    tracemalloc.start()
    try:
        out = f()
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(np.all(np.isfinite(x[..., ::512, :])) for x in out)
    return (peak - held) / 1e6


def long(dtype):
    rng = np.random.default_rng(0)
    return [rng.standard_normal((8, LENGTH, 32)).astype(dtype) for _ in range(6)]


@pytest.mark.parametrize(
    ("dtype", "causal"),
    [
        (np.float32, False),
        (np.float32, True),
        pytest.param(np.float64, False, marks=pytest.mark.long),
    ],
)
def test_memory_of_attention_and_its_gradient_is_linear(dtype, causal):
    q, k, v, w = long(dtype)[:4]
    scores = 8 * LENGTH**2 * q.dtype.itemsize / 1e6
    assert scores > 2.5 * MEGABYTES
    loss = lambda q, k, v: np.sum(w * nm.nn.attention(q, k, v, causal=causal))  # noqa: E731
    found = memory_above_results(lambda: nm.grad(loss, argnums=(0, 1, 2))(q, k, v))
    print(f"{q.dtype}, causal={causal}: {found:.0f} MB above inputs and results")
    assert found < MEGABYTES


@pytest.mark.parametrize("mode", ["value", "tangent"])
def test_memory_of_the_value_and_of_forward_mode_is_linear(mode):
    q, k, v, a, b, c = long(np.float32)
    attend = functools.partial(nm.nn.attention, causal=True)
    run = (
        (lambda: [attend(q, k, v)])
        if mode == "value"
        else (lambda: nm.jvp(attend, (q, k, v), (a, b, c)))
    )
    found = memory_above_results(run)
    print(f"{mode}: {found:.0f} MB above inputs and results")
    assert found < MEGABYTES / 2


@pytest.mark.parametrize(
    "way",
    ["forward over reverse", pytest.param("reverse over reverse", marks=pytest.mark.long)],
)
def test_memory_of_second_order_is_linear(way):
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((8, LENGTH // 2, 32)) for _ in range(7)]
    (q, k, v), ts, w = xs[:3], xs[3:6], xs[6]
    scores = 8 * (LENGTH // 2) ** 2 * 8 / 1e6
    assert scores > 1.3 * MEGABYTES
    loss = lambda q, k, v: np.sum(w * nm.nn.attention(q, k, v, causal=True))  # noqa: E731
    every = (0, 1, 2)

    def run():
        if way == "forward over reverse":
            return nm.hvp(loss, (q, k, v), tuple(ts))

        def along(*xs):
            return sum(
                np.sum(t * g) for t, g in zip(ts, nm.grad(loss, argnums=every)(*xs), strict=True)
            )

        return nm.grad(along, argnums=every)(q, k, v)

    found = memory_above_results(run)
    print(f"{way}: {found:.0f} MB above inputs and results")
    assert found < MEGABYTES


# -------------------------------------------------------------------------------------------------------- bad input
Q, K = np.zeros((2, 4, 5, 3)), np.zeros((2, 4, 6, 3))
BAD = {
    "no floats": (lambda: nm.nn.attention(Q.astype(int), K, K), DtypeError, "attention: `q` must be"),
    "a list": (lambda: nm.nn.attention(Q, [[1.0]], K), DtypeError, "attention: `k` must be"),
    "two dtypes": (lambda: nm.nn.attention(Q, K, K.astype(np.float32)), DtypeError, "`v` must be float64 as `q` is"),
    "one axis": (lambda: nm.nn.attention(Q[0, 0, 0], K, K), ShapeError, "`q` must be of shape"),
    "rows of other lengths": (lambda: nm.nn.attention(Q, K[..., :2], K), ShapeError, "`k` must be of shape"),
    "other batches": (lambda: nm.nn.attention(Q, K[:1], K[:1]), ShapeError, "`k` must be of shape"),
    "heads that do not divide": (lambda: nm.nn.attention(Q, K[:, :3], K[:, :3]), ShapeError, "must divide the 4"),
    "fewer values": (lambda: nm.nn.attention(Q, K, K[:, :, 1:]), ShapeError, "A row of values for each key"),
    "mask of numbers": (lambda: nm.nn.attention(Q, K, K, mask=np.ones((5, 6))), DtypeError, "is `bias`"),
    "mask of integers": (lambda: nm.nn.attention(Q, K, K, mask=np.ones((5, 6), int)), DtypeError, "`mask` must be"),
    "mask that does not fit": (
        lambda: nm.nn.attention(Q, K, K, mask=np.ones((6, 5), bool)), ShapeError, "`mask` must be broadcastable",
    ),
    "bias that does not fit": (lambda: nm.nn.attention(Q, K, K, bias=np.ones(5)), ShapeError, "`bias` must be broad"),
    "mask with more axes": (
        lambda: nm.nn.attention(Q, K, K, mask=np.ones((1, 2, 4, 5, 6), bool)), ShapeError, "`mask` must be broadcast",
    ),
    "negative rate": (lambda: nm.nn.attention(Q, K, K, dropout_rate=-0.1), DomainError, "`dropout_rate` must be in"),
    "rate of one": (lambda: nm.nn.attention(Q, K, K, dropout_rate=1.0), DomainError, "`dropout_rate` must be in"),
    "no key": (lambda: nm.nn.attention(Q, K, K, dropout_rate=0.1), DtypeError, "`key` must be made by nm.random.key"),
    "a seed for a key": (lambda: nm.nn.attention(Q, K, K, dropout_rate=0.1, key=3), DtypeError, "key"),
    "no block": (lambda: nm.nn.attention(Q, K, K, block_size=0), DomainError, "`block_size` must be"),
    "infinite scale": (lambda: nm.nn.attention(Q, K, K, scale=np.inf), DomainError, "`scale` must be a finite"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error(name):
    call, error, words = BAD[name]
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
