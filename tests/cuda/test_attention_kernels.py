"""The kernels of attention: values and cotangents of the formula, in every order of threads, and what they ask for."""

import functools
import itertools
import math
import sys

import numpy as np
import pytest
from test_attention_whole import OPTIONS

import nnmath_core as nm
from nnmath_core.device import attention as device_attention, backend_for
from nnmath_core.errors import DeviceError, ShapeError

DTYPES = [np.float32, np.float64]
HOST = backend_for("cpu")


@pytest.fixture
def rng():
    return np.random.default_rng(20261127)


@pytest.fixture
def orders():
    """Three orders of threads and two fillings of shared memory, one after the other; on a GPU what it does itself."""
    emulated = sys.modules["emulated.plugin"].device

    def each():
        for order, poison in ((0, 0xFF), (1, 0x7F), (2, 0xFF), (0, 0x7F), (1, 0xFF), (2, 0x7F)):
            if emulated is not None:
                emulated.order.update(order=order, poison=poison, seed=1)
            yield order, poison

    yield each
    if emulated is not None:
        emulated.order.update(order=0, poison=0xFF, seed=0)


def drawn(rng, lead, t, s, d, e, dtype):
    shapes = ((*lead, t, d), (*lead, s, d), (*lead, s, e), (*lead, t, e))
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def turned(x):
    return np.swapaxes(x, -1, -2)


def slow(q, k, v, g, *, bias=None, mask=None, causal=False, scale):
    """Values and cotangents by the formula, in double precision, and how far off single rounding errors may put them.

    The bounds are of first order and doubled: a sum of n products is off by n roundings of the sum of their sizes; an
    error in a score, and the rounding of what is put into exp, is a relative error of the weight and of all of its row;
    a running sum has a term for each tile of 64 columns, four steps in it and four over the threads, and is scaled as
    often; exp of CUDA is off by two units.
    """
    eps, tiny = np.finfo(q.dtype).eps / 2, float(np.finfo(q.dtype).tiny)
    q, k, v, g = (x.astype(np.float64) for x in (q, k, v, g))
    t, s, d, e = q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1]
    scores = scale * q @ turned(k)
    sizes = abs(scale) * np.abs(q) @ turned(np.abs(k))
    if bias is not None:
        scores = scores + bias
        sizes = sizes + np.where(np.isfinite(bias), np.abs(bias), 0.0)
    seen = np.ones(scores.shape, bool)
    if mask is not None:
        seen = seen & mask
    if causal:
        seen = seen & (np.arange(s) <= np.arange(t)[:, None])
    scores = np.where(seen, scores, -np.inf)
    top = np.max(scores, axis=-1, keepdims=True)
    top = np.where(top == -np.inf, 0.0, top)
    a = np.exp(scores - top)
    total = np.sum(a, axis=-1, keepdims=True)
    a = a / np.where(total == 0, 1.0, total)
    p = g @ turned(v)
    mean = np.sum(a * p, axis=-1, keepdims=True)
    ds = a * (p - mean)
    results = (a @ v, scale * ds @ k, scale * turned(ds) @ q, turned(a) @ g)

    moved = np.where(
        seen, eps * ((d + 3) * sizes + np.where(a > 0, np.abs(scores - top), 0.0)), 0.0
    )
    along = s / 16 + 16
    of_a = a * (moved + np.max(moved, axis=-1, keepdims=True) + eps * (4 + along)) + tiny
    of_p = eps * (e + 1) * np.abs(g) @ turned(np.abs(v))
    of_mean = np.sum(
        of_a * np.abs(p) + a * (of_p + eps * along * np.abs(p)), axis=-1, keepdims=True
    )
    of_ds = of_a * np.abs(p - mean) + a * (of_p + of_mean + 2 * eps * (np.abs(p) + np.abs(mean)))
    limits = (
        of_a @ np.abs(v) + eps * (s / 4 + along) * (a @ np.abs(v)),
        abs(scale) * (of_ds + eps * (s + 2) * np.abs(ds)) @ np.abs(k),
        abs(scale) * turned(of_ds + eps * (t + 2) * np.abs(ds)) @ np.abs(q),
        turned(of_a + eps * (t + 1) * a) @ np.abs(g),
    )
    return results, [2 * x + tiny for x in limits]


def on_device(xs, *, bias=None, mask=None, causal=False, scale, device="cuda:0"):
    """Values and cotangents by the backend of a device, on the host."""
    be = backend_for(device)
    q, k, v, g = (be.from_host(x) for x in xs)
    bias, mask = (x if x is None else be.from_host(np.atleast_2d(x)) for x in (bias, mask))
    options = {"causal": causal, "scale": scale}
    made = [be.attention(q, k, v, bias, mask, **options)]
    made += be.attention_pull(q, k, v, g, bias, mask, **options)
    return [be.to_host(x) for x in made]


def assert_near(got, want, limits, what):
    for name, x, y, limit in zip(("y", "q", "k", "v"), got, want, limits, strict=True):
        assert x.shape == y.shape
        excess = np.max(np.abs(x - y) / limit, initial=0.0)
        assert excess <= 1.0, f"{what}, {name}: {excess:.3g} times what roundings allow"


def check(orders, xs, *, runs=6, **options):
    """The formula in every order, with the same bits; three runs have each order and each filling."""
    want, limits = slow(*xs, **options)
    first = None
    for order in itertools.islice(orders(), runs):
        got = on_device(xs, **options)
        assert all(x.dtype == xs[0].dtype for x in got)
        assert_near(got, want, limits, order)
        first = first or got
        assert all(np.array_equal(x, y) for x, y in zip(got, first, strict=True))


SIZES = [
    ((), 1, 1, 1, 1),
    ((), 31, 33, 3, 8),
    ((2,), 32, 32, 16, 16),
    ((), 33, 31, 8, 3),
    ((1, 2), 1, 127, 32, 32),
    ((), 65, 64, 40, 40),
    ((), 64, 65, 64, 64),
    ((), 127, 129, 52, 33),  # wide enough for both orders of columns
    ((), 33, 65, 128, 1),
    ((), 20, 70, 1, 256),
]  # fmt: skip


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size[-4:])))
def test_kernels_give_the_formula_in_every_order(orders, size, dtype, causal, rng):
    xs = drawn(rng, *size, dtype)
    check(orders, xs, causal=causal, scale=1 / math.sqrt(size[3]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIONS)
def test_masks_biases_and_scales(orders, name, dtype, rng):
    t, s = 33, 70
    options = {"scale": 0.4, **OPTIONS[name](rng, t, s)}
    if "bias" in options:
        options["bias"] = options["bias"].astype(dtype)
    check(orders, drawn(rng, (2, 3), t, s, 6, 5, dtype), runs=3, **options)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_has_the_same_bits_among_any_others(cp, dtype, rng):
    xs = drawn(rng, (2, 3), 70, 50, 8, 8, dtype)
    whole = on_device(xs, scale=0.3)
    alone = on_device([x[1, 2] for x in xs], scale=0.3)
    assert all(np.array_equal(x[1, 2], y) for x, y in zip(whole, alone, strict=True))
    part = on_device([xs[0][..., :10, :], xs[1], xs[2], xs[3][..., :10, :]], scale=0.3)
    assert np.array_equal(part[0], whole[0][..., :10, :])
    assert np.array_equal(part[1], whole[1][..., :10, :])


@pytest.mark.parametrize("causal", [False, True])
def test_few_blocks_take_tiles_in_turn(device, orders, causal, rng, monkeypatch):
    xs = drawn(rng, (3,), 70, 80, 8, 8, np.float32)
    want = on_device(xs, causal=causal, scale=0.3)
    monkeypatch.setattr(device_attention, "_MOST", 2)
    for _ in itertools.islice(orders(), 3):
        got = on_device(xs, causal=causal, scale=0.3)
        assert all(np.array_equal(x, y) for x, y in zip(got, want, strict=True))


# ------------------------------------------------------------------------------------------------------ extreme values
@pytest.mark.parametrize("dtype", DTYPES)
def test_small_cotangents_keep_their_digits(cp, dtype, rng):
    """All is linear in them and a power of two is exact: nothing that has a size of its own is added."""
    xs, part = drawn(rng, (), 20, 70, 8, 8, dtype), dtype(2.0**-40)
    _, *whole = on_device(xs, scale=0.3)
    _, *small = on_device([*xs[:3], part * xs[3]], scale=0.3)
    assert all(np.array_equal(x, part * y) for x, y in zip(small, whole, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_scores_and_weights_that_vanish(orders, dtype):
    q = np.linspace(-1e4, 1e4, 20, dtype=dtype)[:, None]
    k, v = np.array([[1e4], [2e4], [-1e4]], dtype), np.array([[1.0], [2.0], [3.0]], dtype)
    for _ in orders():
        y, *pulled = on_device((q, k, v, np.ones((20, 1), dtype)), scale=1.0)
        assert y[0, 0] == 3.0
        assert y[-1, 0] == 2.0
        assert pulled[0][0, 0] == 0.0  # one weight is 1 to the last digit
        assert all(np.all(np.isfinite(x)) for x in pulled)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_that_are_all_far_below_zero(orders, dtype, rng):
    """A maximum that begins at 0, or at the largest negative number of another type, shows here."""
    q, k, v, g = drawn(rng, (), 33, 70, 4, 4, dtype)
    bias = np.full((1, 70), -1e4, dtype)
    check(orders, (q, k, v, g), bias=bias, scale=0.5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_that_see_one_key_are_exact_and_have_cotangent_zero(orders, dtype, rng):
    xs = drawn(rng, (2,), 70, 70, 8, 8, dtype)
    for _ in orders():
        y, q, _, _ = on_device(xs, causal=True, scale=0.35)
        assert np.array_equal(y[:, 0], xs[2][:, 0])
        assert not np.any(q[:, 0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_that_see_nothing_are_zeros(orders, dtype, rng):
    xs = drawn(rng, (2,), 20, 80, 8, 8, dtype)
    mask = np.ones((20, 80), bool)
    mask[1] = False
    mask[2, :70] = False  # nothing in the first tile
    for options in ({"mask": mask}, {"bias": np.where(mask, 0, -np.inf).astype(dtype)}):
        check(orders, xs, **options, scale=0.35)
        y, q, _, _ = on_device(xs, **options, scale=0.35)
        assert not np.any(y[:, 1])
        assert not np.any(q[:, 1])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["q", "k", "v", "g"])
def test_what_is_not_finite_arrives_where_it_does_by_definition(cp, where, bad, masked, rng):
    xs = drawn(rng, (2,), 20, 90, 8, 8, np.float64)
    xs["qkvg".index(where)][1, 7, 3] = bad
    mask = np.arange(90)[None] != 9 if masked else None
    options = {"causal": False, "scale": 0.35}
    got = on_device(xs, mask=mask, **options)
    with np.errstate(all="ignore"):
        want = [HOST.attention(*xs[:3], None, mask, **options)]
        want += HOST.attention_pull(*xs, None, mask, **options)
    for a, b in zip(got, want, strict=True):
        assert np.array_equal(np.isfinite(a), np.isfinite(b))


def test_scores_that_are_all_minus_infinity_without_a_mask_are_nan(cp):
    q, k = np.full((2, 1), 1.0), np.full((3, 1), -np.inf)
    y, *_ = on_device((q, k, np.ones((3, 1)), np.ones((2, 1))), scale=1.0)
    assert np.all(np.isnan(y))


# ------------------------------------------------------------------------------------------------------------- layouts
@pytest.mark.parametrize("dtype", DTYPES)
def test_heads_are_read_where_they_lie(cp, dtype, rng):
    """Heads of (b, t, h d), shared keys, rows in reverse order: no copies, and the host's numbers."""
    b, t, h, d = 2, 40, 4, 8
    q, k, v = (rng.standard_normal((b, t, n * d)).astype(dtype) for n in (h, 2, 2))
    g = rng.standard_normal((b, t, h, d)).astype(dtype)

    def split(x, heads):
        return x.reshape(b, t, heads, -1).transpose(0, 2, 1, 3)

    def f(q, k, v, **options):
        k, v = (split(x, 2)[:, :, ::-1] for x in (k, v))
        return nm.nn.attention(split(q, h), k, v, causal=True, **options)

    there = nm.to_device((q, k, v, g), "cuda:0")
    y, pull = nm.vjp(f, *there[:3])
    got = [nm.to_device(x, "cpu") for x in (y, *pull(there[3].transpose(0, 2, 1, 3)))]
    wide = [x.astype(np.float64) for x in (q, k, v, g)]
    y, pull = nm.vjp(functools.partial(f, block_size=t), *wide[:3])
    tol = 512 * np.finfo(dtype).eps  # sums of 40 terms of size 10, of two heads
    for x, w in zip(got, (y, *pull(wide[3].transpose(0, 2, 1, 3))), strict=True):
        assert np.max(np.abs(x - w)) <= tol * max(1.0, np.max(np.abs(w)))


def strided(rng, dtype):
    """Operands with four axes in front that cannot be merged, and columns of stride 2."""
    lead = (2, 3, 2, 2)
    q, k, v, g = (rng.standard_normal((*lead[::-1], n, 5)).astype(dtype) for n in (7, 9, 9, 7))
    q, k, v, g = (x.transpose(3, 2, 1, 0, 4, 5) for x in (q, k, v, g))
    double = rng.standard_normal((*lead, 9, 10)).astype(dtype)[..., ::2]
    return {
        "turned axes": (q, k, v, g),
        "repeated keys": (q, np.broadcast_to(k[:, :1], k.shape), np.broadcast_to(v[..., :1, :, :], v.shape), g),
        "every second column": (q, k, double, g),
        "turned rows": (q, np.swapaxes(np.ascontiguousarray(np.swapaxes(k, -1, -2)), -1, -2), v, g),
    }  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "name", ["turned axes", "repeated keys", "every second column", "turned rows"]
)
def test_operands_of_any_strides(cp, name, dtype, rng):
    xs = strided(rng, dtype)[name]
    bias, mask = (
        rng.standard_normal((3, 1, 1, 7, 1)).astype(dtype),
        rng.random((2, 1, 1, 2, 1, 9)) < 0.8,
    )
    options = {"causal": True, "scale": 0.5}
    want, limits = slow(*(np.ascontiguousarray(x) for x in xs), bias=bias, mask=mask, **options)
    be = backend_for("cuda:0")

    def there(x):
        """The same strides on the device."""
        base = x
        while base.base is not None:
            base = base.base
        offset = x.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        far = be.from_host(np.ascontiguousarray(base))
        at = far.data + offset
        return cp.ndarray(x.shape, x.dtype, at, strides=x.strides)

    q, k, v, g = map(there, xs)
    bias, mask = be.from_host(bias), be.from_host(mask)
    got = [be.attention(q, k, v, bias, mask, **options)]
    got += be.attention_pull(q, k, v, g, bias, mask, **options)
    assert_near([be.to_host(x) for x in got], want, limits, name)


@pytest.mark.parametrize(
    ("lead", "t", "s", "d", "e"),
    [((2,), 0, 5, 3, 2), ((2,), 4, 0, 3, 2), ((0,), 4, 5, 3, 2), ((2,), 4, 5, 3, 0), ((2,), 4, 5, 0, 2)],
)  # fmt: skip
def test_empty_operands(cp, lead, t, s, d, e, rng):
    xs = drawn(rng, lead, t, s, d, e, np.float64)
    options = {"causal": False, "scale": 0.5}
    want = [HOST.attention(*xs[:3], None, None, **options)]
    want += HOST.attention_pull(*xs, None, None, **options)
    for a, b in zip(on_device(xs, **options), want, strict=True):
        assert a.shape == b.shape
        assert np.max(np.abs(a - b), initial=0.0) <= 64 * np.finfo(np.float64).eps


def test_what_the_kernels_do_not_take_goes_by_definition(device, rng):
    for lead, d, e in (((), 260, 4), ((), 4, 300), ((2, 1, 2, 1, 2, 1, 2, 1, 2), 3, 3)):
        xs = drawn(rng, lead, 5, 6, d, e, np.float64)
        if len(lead) > 4:  # axes that repeat something in turn cannot be merged
            xs[1], xs[2] = (np.broadcast_to(x[:, :, :1, :, :, :, :1], x.shape) for x in xs[1:3])
        be = backend_for("cuda:0")
        far = [be.from_host(x) for x in xs]
        if len(lead) > 4:
            far[1], far[2] = (
                be.xp.broadcast_to(x[:, :, :1, :, :, :, :1], x.shape) for x in far[1:3]
            )
        device.launched.clear()
        options = {"causal": True, "scale": 0.5}
        got = [be.attention(*far[:3], None, None, **options)]
        got += be.attention_pull(*far, None, None, **options)
        assert not any("attention" in name or "template" in name for name in device.launched)
        want, limits = slow(*xs, **options)
        assert_near([be.to_host(x) for x in got], want, limits, lead)


def test_definition_on_the_host_is_the_formula(cp, rng, monkeypatch):
    monkeypatch.setattr(device_attention, "BLOCK_BYTES", 1)  # blocks of d queries
    for name in ("mask", "bias", "all", "bias of -inf"):
        xs = drawn(rng, (2, 3), 33, 40, 6, 5, np.float64)
        options = {"causal": False, "scale": 0.4, **OPTIONS[name](rng, 33, 40)}
        want, limits = slow(*xs, **options)
        bias, mask = options.pop("bias", None), options.pop("mask", None)
        got = [HOST.attention(*xs[:3], bias, mask, **options)]
        got += HOST.attention_pull(*xs, bias, mask, **options)
        assert_near(got, want, limits, name)


# ------------------------------------------------------------------------------------------------- what they ask for
def counted(device, f):
    """What a call asks the device for, when all is compiled."""
    f()
    device.counters.clear()
    made = f()
    return made, {k: n for k, n in device.counters.items() if n}


@pytest.mark.parametrize("name", ["plain", "causal", "mask", "bias", "shared heads"])
def test_attention_is_one_launch_and_its_gradient_two_more(device, name, rng):
    groups = 2 if name == "shared heads" else 4
    q, k, v = (rng.standard_normal((2, n, 40, 8)) for n in (4, groups, groups))
    options = {
        "causal": {"causal": True},
        "mask": {"mask": rng.random((40, 40)) < 0.8},
        "bias": {"bias": rng.standard_normal((4, 1, 40))},
    }.get(name, {})
    (q, k, v), options = nm.to_device(((q, k, v), options), "cuda:0") if options.get("causal") is None else (
        nm.to_device((q, k, v), "cuda:0"), options)  # fmt: skip
    f = functools.partial(nm.nn.attention, **options)
    _, asked = counted(device, lambda: f(q, k, v))
    assert asked == {"launch": 1, "malloc": 1}
    y = f(q, k, v)
    assert y.shape == (2, 4, 40, 8)
    _, asked = counted(device, lambda: nm.vjp(f, q, k, v))
    assert asked == {"launch": 1, "malloc": 1}
    _, both = counted(device, lambda: nm.vjp(f, q, k, v)[1](y))
    sums = 2 if groups < 4 else 0  # of the heads that share a head of keys
    assert both == {"launch": 3 + sums, "malloc": 5 + sums}


def test_vmap_of_queries_alone_repeats_keys_without_copies(device, rng):
    here = [rng.standard_normal(shape) for shape in ((3, 2, 20, 8), (2, 30, 8), (2, 30, 4))]
    q, k, v = nm.to_device(here, "cuda:0")
    f = nm.vmap(nm.nn.attention, in_axes=(0, None, None))
    y, asked = counted(device, lambda: f(q, k, v))
    assert asked == {"launch": 1, "malloc": 1}
    want = np.stack([nm.nn.attention(x, *here[1:]) for x in here[0]])
    tol = 64 * np.finfo(np.float64).eps  # means of numbers of size 4, with scores of size 10
    np.testing.assert_allclose(nm.to_device(y, "cpu"), want, rtol=0, atol=tol)


def test_results_and_scratch_may_be_given(device, rng):
    be = backend_for("cuda:0")
    q, k, v, g = (be.from_host(x) for x in drawn(rng, (3,), 130, 70, 8, 8, np.float32))
    y, gq, gk, gv = (be.xp.empty_like(x) for x in (g, q, k, v))
    kept = be.xp.empty((3, 3, 130), np.float32)
    options = {"causal": True, "scale": 0.3}

    def run():
        assert be.attention(q, k, v, None, None, **options, out=y) is y
        made = be.attention_pull(q, k, v, g, None, None, **options, out=(gq, gk, gv), kept=kept)
        assert made[0] is gq
        assert made[2] is gv

    _, asked = counted(device, run)
    assert asked == {"launch": 3}  # so all their memory is what is given: linear in the lengths
    want, limits = slow(*map(be.to_host, (q, k, v, g)), **options)
    assert_near(list(map(be.to_host, (y, gq, gk, gv))), want, limits, "given")
    with pytest.raises(ShapeError, match=r"attention: `out` must be of shape \(3, 130, 8\)"):
        be.attention(q, k, v, None, None, **options, out=gk)
    with pytest.raises(ShapeError, match=r"attention_pull: `kept` must be of shape \(3, 3, 130\)"):
        be.attention_pull(q, k, v, g, None, None, **options, kept=y)
    with pytest.raises(ShapeError, match="`y` must be C-contiguous"):
        be.attention(
            q, k, v, None, None, **options, out=be.xp.empty((3, 8, 130), np.float32).swapaxes(1, 2)
        )
    with pytest.raises(DeviceError, match="`k` must be on cuda:0, got cuda:1"):
        be.attention(q, nm.to_device(be.to_host(k), "cuda:1"), v, None, None, **options)


@pytest.mark.parametrize("name", ["cuda:0", "cuda:1"])
def test_other_devices_and_streams(cp, name, rng):
    xs = drawn(rng, (2,), 40, 30, 8, 8, np.float32)
    want, limits = slow(*xs, causal=True, scale=0.3)
    with cp.cuda.Device(int(name[-1])):
        stream = cp.cuda.Stream(non_blocking=True)
    far = nm.to_device(xs, name)
    with cp.cuda.Device(int(name[-1])), stream:
        be = backend_for(name)
        with cp.cuda.Device(0):  # a current device that is not theirs
            y = be.attention(*far[:3], None, None, causal=True, scale=0.3)
        rest = be.attention_pull(*far, None, None, causal=True, scale=0.3)
        stream.synchronize()
    assert all(str(nm.device_of(x)) == name for x in (y, *rest))
    assert_near([nm.to_device(x, "cpu") for x in (y, *rest)], want, limits, name)


# ----------------------------------------------------------------------------------------------------------- mutations
MUTANTS = {
    "stage overwritten": ("__syncthreads(); // the stage has been read", ""),
    "stage read early": ("        __syncthreads(); // the stage is filled\n#pragma unroll 4", "#pragma unroll 4"),
    "tile read early": ("__syncthreads(); // the tile is there, and the stage has been read", ""),
    "lines read early": ("        __syncthreads(); // the stage is filled\n#pragma unroll 1", "#pragma unroll 1"),
    "tile overwritten": ("__syncthreads(); // the tile has been read", ""),
    "maximum over half of a row": ("for (int by = 8; by > 0; by /= 2) {", "for (int by = 4; by > 0; by /= 2) {"),
    "sum over half of a row": ("by = 8; by > 0; by /= 2)\n        part", "by = 4; by > 0; by /= 2)\n        part"),
    "maximum begins at 0": ("top[i] = -infinity<real_t>();", "top[i] = 0;"),
    "a key too many": ("key <= query)", "key <= query + 1)"),
    "a key too few": ("key <= query)", "key < query)"),
    "a column too many": ("c < cols && (", "c <= cols && ("),
    "no bias": ("tile[i][j] += bias", "tile[i][j] += 0 * bias"),
    "sum not scaled": ("sum[i] = sum[i] * kept + part", "sum[i] = sum[i] + part"),
    "values not scaled": ("out[i][m] *= kept;", ""),
    "mean not scaled": ("mean[i] = mean[i] * shrunk + weighed", "mean[i] = mean[i] + weighed"),
    "dead rows": ("all == 0 ? some ? (real_t)1 : not_a_number<real_t>() : all", "all"),
    "own keys not seen": ("at.causal && first + rows < at.s ? first + rows", "at.causal && first < at.s ? first"),
    "queries begin late": ("at.causal ? first : 0", "at.causal ? first + 1 : 0"),
    "cotangent of keys not scaled": ("(int)at.d, scale, stage);\n        }", "(int)at.d, 1, stage);\n        }"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_kernel_broken_on_purpose_is_found(device, orders, name, rng, monkeypatch):
    right, wrong = MUTANTS[name]
    source = device_attention.read_source("attention")
    assert right in source
    monkeypatch.setattr(device_attention, "read_source", lambda _: source.replace(right, wrong))
    device_attention.tiles_of.cache_clear()
    mask = np.ones((70, 70), bool)
    mask[5] = False
    bias = (rng.standard_normal((1, 70)) - 500).astype(np.float32)
    cases = [{"causal": True}, {"mask": mask, "bias": bias}]
    xs = drawn(rng, (), 70, 70, 20, 20, np.float32)
    xs[1][60:] *= 40  # the maximum comes late

    def found():
        for options in cases:
            want, limits = slow(*xs, **options, scale=0.5)
            for order in orders():
                try:
                    assert_near(on_device(xs, **options, scale=0.5), want, limits, order)
                except (AssertionError, RuntimeError):
                    return True
        return False

    try:
        assert found()
    finally:
        device_attention.tiles_of.cache_clear()
