"""Dense products: what is asked of cuBLAS, precision, shapes and errors of `numpy.matmul`."""

import itertools
import threading

import numpy as np
import pytest
from emulated import libraries

import nnmath_core as nm
from nnmath_core.device import backend_for, products, to_device
from nnmath_core.device.precision import current_matmul_precision
from nnmath_core.device.products import gemm, gemm_can, matmul
from nnmath_core.errors import DeviceError, DomainError, DtypeError, ShapeError

TYPES = [np.float32, np.float64, np.complex64, np.complex128]
SIZES = [0, 1, 31, 32, 33]


def random(dtype, *shape, seed=0):
    rng = np.random.default_rng([seed, *shape])
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def wide(x):
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)


def close(got, x, y):
    """Compare with the product in double precision, to the rounding of sums of k terms."""
    want = np.matmul(wide(x), wide(y))
    k = x.shape[-1]
    size = np.matmul(abs(wide(x)), abs(wide(y)))
    bound = 4 * max(k, 1) * np.finfo(got.dtype).eps * size  # 4: complex products have four terms
    assert got.shape == want.shape
    assert got.dtype == np.result_type(x, y)
    assert np.all(abs(got.get() - want) <= bound)


def asked():
    """Return how often cuBLAS was called since the last time, by kind."""
    return {name: n for name, n in libraries.products().items() if n and name != "stream"}


def here(cp, *hosts):
    return tuple(cp.asarray(x) for x in hosts)


# ---------------------------------------------------------------------------------------------- gemm
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("turned", list(itertools.product((False, True), repeat=2)))
def test_gemm_of_every_layout(cp, dtype, turned):
    for m, n, k in [(1, 1, 1), (4, 3, 5), (1, 7, 3), (7, 1, 3), (3, 4, 1), (33, 31, 32)]:
        a, b = random(dtype, m, k), random(dtype, k, n)
        c, out = random(dtype, m, n), random(dtype, m, n + 2)
        out[:, :n] = c
        x, y = (np.asfortranarray(v) if t else v for v, t in zip((a, b), turned, strict=True))
        far_x, far_y, far = here(cp, x.ravel("K"), y.ravel("K"), out)
        strides = [
            (1, v.shape[0]) if t else (v.shape[1], 1) for v, t in zip((a, b), turned, strict=True)
        ]
        (ra, ka), (kb, nb) = strides
        places = far_x.data.ptr, ra, ka, far_y.data.ptr, kb, nb, far.data.ptr, n + 2
        gemm(cp, dtype, m, n, k, *places, (), 2, -0.5)
        want = 2 * wide(a) @ wide(b) - 0.5 * wide(c)
        eps = np.finfo(dtype).eps
        bound = 8 * (k + 2) * eps * (2 * abs(wide(a)) @ abs(wide(b)) + abs(wide(c)))
        assert np.all(abs(far.get()[:, :n] - want) <= bound)
        # between the rows nothing is written
        np.testing.assert_array_equal(far.get()[:, n:], out[:, n:])


def placed(rng, shape, *, joint):
    """Return strides of an array whose axes lie in some order, with room between them, and its length; 0: shared."""
    strides, step = [0] * len(shape), 1
    inner = len(shape) - 1 - int(rng.integers(2)) if joint else len(shape) - 1
    others = [i for i in rng.permutation(len(shape)).tolist() if i != inner]
    for i in (inner, *others):
        if joint and i < len(shape) - 2 and rng.random() < 0.3:
            continue
        strides[i] = step
        step *= shape[i] + (int(rng.integers(3)) if i != inner or len(shape) < 2 else 0)
        step += int(rng.integers(2)) * 2 if i == inner else 0
    return strides, 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))


def test_gemm_of_random_places(cp):
    rng = np.random.default_rng(11)
    taken = 0
    for _ in range(400):
        lead = rng.integers(1, 4, rng.integers(0, 4)).tolist()
        m, n, k = (int(rng.choice([1, 2, 3])) for _ in range(3))
        (sa, la), (sb, lb) = (placed(rng, (*lead, *core), joint=True) for core in ((m, k), (k, n)))
        sc, lc = placed(rng, (*lead, m, n), joint=False)
        if not gemm_can(m, n, k, *sa[-2:], *sb[-2:], sc[-2]):
            continue
        taken += 1
        bases = [rng.standard_normal(size) for size in (la, lb, lc)]
        a, b, c = (
            np.lib.stride_tricks.as_strided(base, (*lead, *core), [8 * s for s in strides])
            for base, core, strides in zip(
                bases, ((m, k), (k, n), (m, n)), (sa, sb, sc), strict=True
            )
        )
        far = here(cp, *bases)
        batch = tuple(zip(lead, sa, sb, sc, strict=False))
        at = [x.data.ptr for x in far]
        gemm(
            cp, np.float64, m, n, k, at[0], *sa[-2:], at[1], *sb[-2:], at[2], sc[-2], batch, 1, 0.5
        )
        c[...] = a @ b + 0.5 * c
        np.testing.assert_allclose(far[2].get(), bases[2], rtol=1e-14, atol=1e-14)
    assert taken > 200


def test_gemm_into_rows_that_go_back(cp):
    x, y = random(np.float64, 3, 1, 4), random(np.float64, 4, 2)
    far_x, far_y = here(cp, x, y)
    z = cp.zeros((3, 1, 2))
    last = z.data.ptr + 2 * 2 * 8
    gemm(
        cp, z.dtype, 1, 2, 4, far_x.data.ptr, 4, 1, far_y.data.ptr, 2, 1, last, 2, ((3, 4, 0, -2),)
    )
    close(z[::-1], x, y)


BATCHES = {
    # name: shapes of x and y, and what cuBLAS is asked: one product, or one call for all matrices
    "plain": ((4, 3), (3, 5), {"gemm": 1}),
    "batch": ((6, 4, 3), (6, 3, 5), {"strided": 1}),
    "batches that merge": ((2, 3, 4, 3), (2, 3, 3, 5), {"strided": 1}),
    "one right factor for all": ((6, 4, 3), (3, 5), {"gemm": 1}),
    "one right factor, two axes": ((2, 6, 4, 3), (3, 5), {"gemm": 1}),
    "one left factor for all": ((4, 3), (6, 3, 5), {"strided": 1}),
    "one row each": ((6, 1, 3), (3, 5), {"gemm": 1}),
    "a vector and a stack": ((3,), (6, 3, 5), {"strided": 1}),
    "a stack and a vector": ((6, 4, 3), (3,), {"gemm": 1}),
    "vectors": ((33,), (33,), {"dot": 1}),
    "matrix and vector": ((4, 3), (3,), {"gemm": 1}),
    "stacks of dots": ((6, 1, 3), (6, 3, 1), {"strided": 1}),
    "outer batches": ((2, 1, 4, 3), (1, 3, 3, 5), {"strided": 2}),
    "nothing to sum": ((4, 0), (0, 5), {}),
    "nothing to sum, batch": ((2, 4, 0), (2, 0, 5), {}),
    "no rows": ((0, 3), (3, 5), {}),
    "no matrices": ((0, 4, 3), (0, 3, 5), {}),
}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", BATCHES)
def test_matmul_asks_for_few_calls_and_copies_nothing(cp, device, dtype, name):
    sx, sy, calls = BATCHES[name]
    x, y = random(dtype, *sx), random(dtype, *sy, seed=1)
    far_x, far_y = here(cp, x, y)
    matmul(cp, far_x, far_y)  # whatever is made once
    device.counters.clear()
    asked()
    z = matmul(cp, far_x, far_y)
    assert asked() == calls
    want = {"malloc": 1} if z.size else {}
    assert {k: v for k, v in device.counters.items() if v} == want
    close(z, x, y)


def views(x):
    """Yield views of equal values that cuBLAS can walk over."""
    yield x
    yield np.asfortranarray(x)
    padded = np.full((*x.shape[:-1], x.shape[-1] + 3), np.nan, x.dtype)
    padded[..., : x.shape[-1]] = x
    yield padded[..., : x.shape[-1]]
    turned = np.ascontiguousarray(np.swapaxes(padded, -1, -2))
    yield np.swapaxes(turned[..., : x.shape[-1], :], -1, -2)


def device_view(cp, x):
    """Return a view on the device with the strides of a host view."""
    base = x
    while base.base is not None:
        base = base.base
    far = cp.asarray(base)
    offset = x.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    return cp.ndarray(x.shape, x.dtype, far.data + offset, x.strides)


@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
def test_transposed_and_padded_views_are_flags(cp, device, dtype):
    a, b = random(dtype, 4, 3), random(dtype, 3, 5)
    for x, y in itertools.product(views(a), views(b)):
        far_x, far_y = device_view(cp, x), device_view(cp, y)
        device.counters.clear()
        z = matmul(cp, far_x, far_y)
        assert dict(device.counters) == {"malloc": 1}, (x.strides, y.strides)
        close(z, x, y)


def test_what_cublas_cannot_walk_over_is_copied_once(cp, device):
    x, y = random(np.float32, 8, 6), random(np.float32, 3, 5)
    far_x, far_y = here(cp, x, y)
    cases = [
        (np.s_[::2, ::2], np.s_[:]),
        (np.s_[::-1, ::2], np.s_[:]),
        (np.s_[:, ::-2], np.s_[:]),
    ]
    for at_x, at_y in cases:
        device.counters.clear()
        z = matmul(cp, far_x[at_x], far_y[at_y])
        assert dict(device.counters) == {"malloc": 2, "launch": 1}
        close(z, x[at_x], y[at_y])
    # of an axis that is broadcast one matrix is copied, and there is one product
    wide_x = cp.broadcast_to(far_x[::2, ::2], (50, 4, 3))
    assert products._fitting(cp, wide_x, (50,)).x.shape == (1, 4, 3)
    close(matmul(cp, wide_x, far_y), np.broadcast_to(x[::2, ::2], (50, 4, 3)), y)


def test_vectors_with_steps_are_not_copied(cp, device):
    x, y = random(np.float32, 21), random(np.float32, 28)
    far_x, far_y = here(cp, x, y)
    for at_x, at_y in [(np.s_[::3], np.s_[::4]), (np.s_[:7], np.s_[::4]), (np.s_[::3], np.s_[:7])]:
        asked()
        device.counters.clear()
        z = matmul(cp, far_x[at_x], far_y[at_y])
        assert asked() == {"dot": 1}
        assert dict(device.counters) == {"malloc": 1}
        close(z, x[at_x], y[at_y])


def test_stacks_that_go_back_are_copied(cp, device):
    x, y = random(np.float32, 5, 4, 3), random(np.float32, 5, 3, 2)
    far_x, far_y = here(cp, x, y)
    asked()
    device.counters.clear()
    z = matmul(cp, far_x[::-1], far_y)
    assert asked() == {"strided": 1}
    assert dict(device.counters) == {"malloc": 2, "launch": 1}
    close(z, x[::-1], y)


def test_heads_between_rows_are_multiplied_in_few_calls(cp, device, monkeypatch):
    # the scores of attention: (n, t, h, d) read as (n, h, t, d)
    q, k = random(np.float32, 2, 5, 3, 4), random(np.float32, 2, 5, 3, 4, seed=1)
    x, y = (v.transpose(0, 2, 1, 3) for v in (q, k))
    y = y.swapaxes(-1, -2)
    far_x, far_y = (v.transpose(0, 2, 1, 3) for v in here(cp, q, k))
    far_y = far_y.swapaxes(-1, -2)
    asked()
    device.counters.clear()
    z = matmul(cp, far_x, far_y)
    assert asked() == {"strided": 2}
    assert dict(device.counters) == {"malloc": 1}
    close(z, x, y)
    # many of them are copied instead
    q, k = random(np.float32, 20, 2, 30, 4), random(np.float32, 20, 2, 30, 4, seed=1)
    x, y = (v.transpose(0, 2, 1, 3) for v in (q, k))
    y = y.swapaxes(-1, -2)
    far_x, far_y = (v.transpose(0, 2, 1, 3) for v in here(cp, q, k))
    far_y = far_y.swapaxes(-1, -2)
    asked()
    close(matmul(cp, far_x, far_y), x, y)
    assert asked() == {"strided": 1}
    # but not what is large beside the calls that it would save
    monkeypatch.setattr(products, "_COPY_A_CALL", 16)
    close(matmul(cp, far_x, far_y), x, y)
    assert asked() == {"strided": 20}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", SIZES)
def test_values_that_float_has_beside_numbers(cp, dtype, k):
    x, y = random(dtype, 3, k), random(dtype, k, 2)
    for value in (np.nan, np.inf, np.finfo(dtype).max, -np.finfo(dtype).max, -0.0):
        if k:
            x[1, k // 2] = value
        with np.errstate(over="ignore", invalid="ignore"):
            want = x @ y
        got = matmul(cp, *here(cp, x, y)).get()
        np.testing.assert_allclose(
            got, want, rtol=64 * np.finfo(dtype).eps, atol=64 * np.finfo(dtype).eps
        )


def test_what_is_in_the_result_beforehand_does_not_matter(cp):
    for k in (0, 3):
        x, y = random(np.float32, 4, k), random(np.float32, k, 2)
        out = cp.full((4, 2), np.nan, np.float32)
        assert matmul(cp, *here(cp, x, y), out) is out
        close(out, x, y)
    # rows apart: only the rows are cleared
    far = cp.full((3, 4, 5), 7.0, np.float32)
    gemm(cp, np.float32, 4, 2, 0, 0, 1, 1, 0, 2, 1, far.data.ptr, 5, ((3, 0, 0, 20),))
    assert (far.get()[..., :2] == 0).all()
    assert (far.get()[..., 2:] == 7).all()
    gemm(cp, np.float32, 4, 2, 0, 0, 1, 1, 0, 2, 1, far.data.ptr, 5, ((3, 0, 0, 20),), beta=1)
    assert (far.get()[..., 2:] == 7).all()


def test_out_may_be_an_operand(cp):
    x, y = random(np.float64, 4, 4), random(np.float64, 4, 4, seed=1)
    far_x, far_y = here(cp, x, y)
    assert matmul(cp, far_x, far_y, far_x) is far_x
    close(far_x, x, y)
    assert matmul(cp, far_y, far_y, far_y) is far_y
    close(far_y, y, y)


def test_many_random_products_are_numpys(cp):
    rng = np.random.default_rng(5)
    for _ in range(150):
        lead = tuple(rng.integers(1, 4, rng.integers(0, 4)))
        m, k, n = rng.integers(1, 6, 3)
        operands = []
        for core in ((m, k), (k, n)):
            own = lead[rng.integers(0, len(lead) + 1) :]
            own = tuple(1 if rng.random() < 0.3 else i for i in own)
            shape = (*own, *core)
            order = rng.permutation(len(shape))
            base = random(np.float64, *(shape[i] for i in order), seed=int(rng.integers(1000)))
            x = base.transpose(np.argsort(order))
            step = tuple(slice(None, None, int(rng.choice([1, 1, 1, 2, -1]))) for _ in own)
            operands.append((x, cp.asarray(base).transpose(np.argsort(order).tolist()), step))
        (x, far_x, at_x), (y, far_y, at_y) = operands
        try:
            np.broadcast_shapes(x[at_x].shape[:-2], y[at_y].shape[:-2])
        except ValueError:
            at_x = at_y = ()
        close(matmul(cp, far_x[at_x], far_y[at_y]), x[at_x], y[at_y])


def test_mixed_dtypes_and_what_cupy_multiplies(cp):
    x, y = random(np.float32, 3, 4), random(np.float64, 4, 2)
    close(matmul(cp, *here(cp, x, y)), x, y)
    i = np.arange(8).reshape(4, 2)
    for left, right in [(x, i), (np.arange(12).reshape(3, 4), i), (x.astype(np.float16), y.astype(np.float16)),
                        (x > 0, y > 0), (x + 1j, y.astype(np.float32))]:  # fmt: skip
        got, want = matmul(cp, *here(cp, left, right)), left @ right
        assert got.dtype == want.dtype
        eps = np.finfo(want.dtype).eps if want.dtype.kind in "fc" else 0
        np.testing.assert_allclose(got.get(), want, rtol=16 * eps, atol=16 * eps)


BAD = [
    ((3,), ()),
    ((), (3, 2)),
    ((3,), (4,)),
    ((2, 3), (4, 2)),
    ((2, 3), (4,)),
    ((3,), (4, 2)),
    ((2, 5, 3), (3, 3, 2)),
]


@pytest.mark.parametrize(("sx", "sy"), BAD)
def test_errors_are_numpys(cp, sx, sy):
    x, y = np.ones(sx), np.ones(sy)
    with pytest.raises(ValueError) as want:  # noqa: PT011 - its words are compared below
        np.matmul(x, y)
    with pytest.raises(ValueError) as got:  # noqa: PT011
        matmul(cp, *here(cp, x, y))
    assert str(got.value) == str(want.value)


def test_errors_of_our_own(cp):
    x, y = here(cp, np.ones((2, 3)), np.ones((3, 2)))
    with pytest.raises(
        DeviceError, match=r"`y` must be an array on cuda:0, got float64 array of shape"
    ):
        matmul(cp, x, np.ones((3, 2)))
    with cp.cuda.Device(1):
        far = cp.ones((3, 2))
    with pytest.raises(DeviceError, match=r"`y` must be on cuda:0, got cuda:1"):
        matmul(cp, x, far)
    with pytest.raises(ShapeError, match=r"`out` must be C-contiguous and of shape \(2, 2\)"):
        matmul(cp, x, y, cp.empty((2, 3)))
    with pytest.raises(ShapeError, match="C-contiguous"):
        matmul(cp, x, y, cp.empty((2, 2)).T[:, ::-1])
    with pytest.raises(DtypeError, match="`out` must be a float64 array"):
        matmul(cp, x, y, cp.empty((2, 2), np.float32))
    with pytest.raises(DtypeError, match="`dtype` must be a floating or complex dtype, got int64"):
        gemm(cp, np.int64, 2, 2, 2, 0, 2, 1, 0, 2, 1, 0, 2)
    with pytest.raises(ShapeError, match="Copy the operand"):
        gemm(cp, np.float32, 2, 2, 2, 0, 4, 2, 0, 2, 1, 0, 2)
    with pytest.raises(ShapeError, match="in 32 bits, got 3000000000"):
        gemm(cp, np.float32, 2, 2, 3_000_000_000, 0, 3_000_000_000, 1, 0, 2, 1, 0, 2)


def test_gemm_can_is_what_gemm_takes():
    sizes, strides = (1, 2, 3), (-1, 0, 1, 2, 3, 5)
    for rows, columns in itertools.product(sizes, repeat=2):
        for row, column in itertools.product(strides, repeat=2):
            # rows or columns side by side, none of which overlap; what has length 1 has no stride
            row_, column_ = row if rows > 1 else None, column if columns > 1 else None
            plain = column_ in (1, None) and (row_ is None or row_ >= columns)
            turned = row_ in (1, None) and (column_ is None or column_ >= rows)
            case = rows, columns, row, column
            assert gemm_can(rows, 4, columns, row, column, 4, 1, 4) == (plain or turned), case
    assert not gemm_can(2, 4, 2, 2, 1, 4, 1, 3)
    assert gemm_can(1, 4, 2, 2, 1, 4, 1, 0)
    assert gemm_can(0, 4, 2, 0, 0, 0, 0, 0)


# ---------------------------------------------------------------------------------------------- precision
# 1 + 2^-12 is a float32 and, with 10 bits of fraction, 1
FINE = 1 + 2.0**-12


def seen(cp, dtype=np.float32, product=matmul):
    """Return the precision that a product has."""
    x, y = here(cp, np.full((2, 3), FINE, dtype), np.eye(3, dtype=dtype))
    got = product(cp, x, y).get()
    assert (got == got[0, 0]).all()
    return {FINE: "highest", 1.0: "tf32"}[complex(got[0, 0]).real]


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_precision_is_full_unless_asked(cp, device, dtype):
    assert seen(cp, dtype) == "highest"
    with nm.matmul_precision("tf32") as p:
        assert p == current_matmul_precision() == "tf32"
        assert seen(cp, dtype) == "tf32"
        with nm.matmul_precision("float32") as q:
            assert q == current_matmul_precision() == "highest"
            assert seen(cp, dtype) == "highest"
        assert seen(cp, dtype) == "tf32"
        assert seen(cp, np.float64) == "highest"
        found = []
        thread = threading.Thread(target=lambda: found.append(seen(cp, dtype)))
        thread.start()
        thread.join()
        assert found == ["highest"]
    assert seen(cp, dtype) == "highest"
    with pytest.raises(KeyError), nm.matmul_precision("tf32"):
        raise KeyError
    assert current_matmul_precision() == "highest"
    with pytest.raises(
        DomainError, match=r"`p` must be one of 'highest', 'float32', 'tf32', got 'high'"
    ):
        nm.matmul_precision("high")


def test_batches_follow_the_precision(cp, device):
    def batched(cp, x, y):
        return matmul(cp, cp.stack([x, x]), cp.stack([y, y]))[1]

    assert seen(cp, product=batched) == "highest"
    with nm.matmul_precision("tf32"):
        assert seen(cp, product=batched) == "tf32"


def test_cupys_own_setting_does_not_change_ours(cp, device, monkeypatch):
    default = cp._core.get_compute_type(np.float32)
    monkeypatch.setenv("CUPY_TF32", "1")
    try:
        cp._core.set_compute_type(np.float32, 0)  # to be read from the environment
        assert seen(cp, product=lambda cp, x, y: cp.matmul(x, y)) == "tf32"
        assert seen(cp) == "highest"
    finally:
        cp._core.set_compute_type(np.float32, default)


@pytest.mark.parametrize("mode", [1, 3, 4, 8, 19])  # cublasMath_t
def test_the_handles_mode_does_not_change_ours_and_stays(cp, device, mode):
    cublas, handle = cp.cuda.cublas, cp.cuda.get_cublas_handle()
    try:
        cublas.setMathMode(handle, mode)
        cublas.setPointerMode(handle, 1)
        assert seen(cp) == "highest"
        assert cublas.getMathMode(handle) == mode
        assert cublas.getPointerMode(handle) == 1
        close(matmul(cp, *here(cp, np.arange(3.0), np.arange(3.0))), np.arange(3.0), np.arange(3.0))
        assert cublas.getPointerMode(handle) == 1
    finally:
        cublas.setMathMode(handle, 0)
        cublas.setPointerMode(handle, 0)
    close(matmul(cp, *here(cp, np.arange(3.0), np.arange(3.0))), np.arange(3.0), np.arange(3.0))
    assert cublas.getPointerMode(handle) == 0


def test_an_old_gpu_stays_in_float32(cp, device, monkeypatch):
    monkeypatch.setattr(products, "_TF32_SINCE", 90)
    products._has_tf32.cache_clear()
    try:
        with nm.matmul_precision("tf32"):
            assert seen(cp) == "highest"
    finally:
        monkeypatch.undo()
        products._has_tf32.cache_clear()


# ---------------------------------------------------------------------------------------------- the backend
XP = nm.numpy
FACES = {
    "matmul": lambda x, y: XP.matmul(x, y),
    "dot": lambda x, y: XP.dot(x, y),
    "tensordot": lambda x, y: XP.tensordot(x, y, 1),
    "einsum": lambda x, y: XP.einsum("ij,jk->ik", x, y),
    "einsum, turned": lambda x, y: XP.einsum("ij,jk->ki", x, y).T,
    "np.matmul of a tracer": lambda x, y: nm.value_and_grad(
        lambda a: np.sum(np.matmul(a, y) * 0.5)
    )(x)[1],
    "vmap": lambda x, y: nm.vmap(lambda row: row @ y)(x),
    "linalg": lambda x, y: XP.linalg.matmul(x, y),
    "be.xp": lambda x, y: backend_for(nm.device_of(x)).xp.matmul(x, y),
    "vdot": lambda x, y: XP.vdot(x, x),
}


@pytest.mark.parametrize("face", FACES)
def test_every_product_comes_through_here(cp, device, monkeypatch, face):
    x, y = here(cp, random(np.float32, 4, 3), random(np.float32, 3, 5))
    host = FACES[face](x.get(), y.get())
    FACES[face](x, y)
    monkeypatch.setattr(cp, "matmul", None)
    asked()
    device.counters.clear()
    got = FACES[face](x, y)
    found = asked()
    there_and_back = {"np.matmul of a tracer": {"gemm": 2}, "vdot": {"dot": 1}}
    assert found == there_and_back.get(face, {"gemm": 1})
    assert not {"synchronize", "device to host", "host to device"} & set(+device.counters)
    np.testing.assert_allclose(got.get(), host, rtol=1e-5, atol=1e-5)


def test_products_run_on_the_device_of_their_arrays(cp, device):
    host = random(np.float32, 4, 4)
    with cp.cuda.Device(1):
        x = cp.asarray(host)
    z = nm.numpy.matmul(x, x)
    assert z.device.id == 1
    close(z, host, host)


def test_products_go_to_the_current_stream(cp, device):
    x = cp.asarray(random(np.float32, 4, 4))
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        nm.numpy.matmul(x, x)
    assert libraries.products()["stream"] == stream.ptr
    nm.numpy.matmul(x, x)
    assert libraries.products()["stream"] == cp.cuda.get_current_stream().ptr


# ------------------------------------------------------------------------------ determinants
@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_of_determinants_use_our_products(cp, monkeypatch, order):
    singular = np.array([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.5, 1.0, 3.0]])
    a = np.array([singular, np.eye(3) + 0.3])
    ts = np.random.default_rng(order).standard_normal((order, 2, 3, 3))

    def along(g, t):
        return lambda a: nm.jvp(g, (a,), (t,))[1]

    def f(a, *ts):
        g = lambda a: nm.numpy.sum(nm.numpy.linalg.det(a))  # noqa: E731
        for t in ts:
            g = along(g, t)
        return g(a)

    monkeypatch.setattr(cp, "einsum", None)
    y = f(to_device(a, "cuda:0"), *to_device(list(ts), "cuda:0"))
    np.testing.assert_allclose(to_device(y, "cpu"), f(a, *ts), rtol=1e-12, atol=1e-13)
