"""Our kernels, family by family: values in every order, on every grid, of every size, of numbers that hurt.

``mutate.py`` breaks each kernel in single places and asks whether these tests notice.
"""

import numpy as np
import pytest
from kernel_runs import SIZES, grid, runs

from nnmath_core.device import backend_for

REAL = [np.float32, np.float64]
HOST = backend_for("cpu")

# ------------------------------------------------------------------------------------------------ optim

STEPS = {
    "adam_step": ("wmvg", {"lr": 0.02, "beta1": 0.9, "beta2": 0.98, "eps": 1e-3, "c1": 0.19, "c2": 0.04}),
    "adamw_step": (
        "wmvg", {"lr": 0.02, "beta1": 0.9, "beta2": 0.98, "eps": 1e-3, "c1": 0.19, "c2": 0.04, "decay": 0.1}
    ),
    "gradient_descent_step": ("wg", {"lr": 0.02}),
    "heavy_ball_step": ("wvg", {"lr": 0.02, "momentum": 0.9}),
    "nesterov_step": ("wvg", {"lr": 0.02, "momentum": 0.9}),
}  # fmt: skip
HURTFUL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-30]


def states(letters, dtype, n, *, hurt=False):
    """Arrays of a step; v of Adam is not negative."""
    rng = np.random.default_rng(n)
    found = [rng.standard_normal(n).astype(dtype) for _ in letters]
    if letters == "wmvg":
        found[2] = np.abs(found[2])
    if hurt:
        found[-1][: len(HURTFUL)] = HURTFUL
        found[0][: len(HURTFUL)] = HURTFUL[::-1]
    return found


def stepped(be, name, start, parameters):
    far = [be.from_host(x.copy()) for x in start]
    getattr(be, name)(*far, **parameters)
    return [be.to_host(x) for x in far]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("name", STEPS)
def test_optimizer_steps(device, name, dtype, n):
    letters, parameters = STEPS[name]
    start = states(letters, dtype, n)
    want = stepped(HOST, name, start, parameters)
    eps = np.finfo(dtype).eps
    for order, _ in runs(device, n):
        for most in (1, 3, 1000):
            with grid("optim", most) as be:
                for a, b in zip(stepped(be, name, start, parameters), want, strict=True):
                    np.testing.assert_allclose(
                        a, b, rtol=8 * eps, atol=8 * eps, err_msg=f"{order} {most}"
                    )


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("name", STEPS)
def test_optimizer_steps_on_hurtful_numbers(device, name, dtype):
    letters, parameters = STEPS[name]
    start = states(letters, dtype, 40, hurt=True)
    with np.errstate(all="ignore"):
        want = stepped(HOST, name, start, parameters)
    eps = np.finfo(dtype).eps
    for a, b in zip(stepped(backend_for("cuda:1"), name, start, parameters), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=8 * eps, atol=8 * eps)


# ------------------------------------------------------------------------------------------------ random

WORDS = [0, 1, 2**31, 2**32 - 1]


def keys_of(rows):
    rng = np.random.default_rng(rows)
    keys = rng.integers(0, 2**32, (rows, 2), dtype=np.uint32)
    keys[: len(WORDS), 0] = WORDS[:rows]
    return keys


def same_bits(device, wanted, ask):
    """Whether the device gives the host's bits in every order and on every grid."""
    for _ in runs(device, 1):
        for most in (1, 3, 1000):
            with grid("random", most) as be:
                np.testing.assert_array_equal(be.to_host(ask(be)), wanted)


@pytest.mark.parametrize("n", SIZES)
def test_blocks_of_random_words(device, n):
    rng = np.random.default_rng(n)
    counters = rng.integers(0, 2**32, (n, 4), dtype=np.uint32)
    keys = keys_of(n)
    wanted = HOST.random_blocks(counters, keys)
    same_bits(device, wanted, lambda be: be.random_blocks(*map(be.from_host, (counters, keys))))


@pytest.mark.parametrize(
    ("rows", "count"), [(0, 5), (3, 0), *((3, n) for n in SIZES[1:6]), (1, 4099), (31, 6)]
)
@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("kernel", ["random_words", "random_uniform", "random_normal"])
def test_rows_of_random_numbers(device, rows, count, kernel, dtype):
    """On a GPU the functions are the same products and sums too: every one is rounded by itself."""
    keys, more = keys_of(rows), {"purpose": 7} if kernel == "random_words" else {"dtype": dtype}

    def ask(be):
        return getattr(be, kernel)(be.from_host(keys), count=count, **more)

    same_bits(device, ask(HOST), ask)


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("kernel", ["random_uniform", "random_normal"])
def test_rows_of_random_numbers_so_many_that_the_last_terms_show(device, kernel, dtype):
    keys, be = keys_of(1), backend_for("cuda:0")
    wanted = getattr(HOST, kernel)(keys, count=40_001, dtype=dtype)
    got = getattr(be, kernel)(be.from_host(keys), count=40_001, dtype=dtype)
    np.testing.assert_array_equal(be.to_host(got), wanted)


# ------------------------------------------------------------------------------------------------ linalg


def normal_rows(be, a, x, columns, pieces):
    """The products A x and A^T (A x) by the kernels, of the first columns of the rows of a."""
    m, dtype = a.shape[0], a.dtype
    with be.scope():
        u, y = be.cupy.empty(m, dtype), be.cupy.empty(columns, dtype)
        parts = be.cupy.empty((pieces, columns), dtype)
        be.launch(
            "linalg",
            "normal_rows",
            pieces,
            m,
            columns,
            be.from_host(a),
            a.shape[1],
            be.from_host(x),
            u,
            parts,
        )
        be.launch("linalg", "sum_parts", columns, y, parts, pieces)
    return be.to_host(u), be.to_host(y)


@pytest.mark.parametrize(
    ("m", "n", "more", "pieces"),
    [(0, 5, 0, 2), (5, 0, 0, 2), (1, 1, 0, 1), (4, 33, 1, 1), (7, 31, 0, 3), (9, 32, 5, 11), (33, 300, 0, 4),
     (3, 1023, 0, 2), (101, 3, 2, 5), (2, 4099, 0, 1)],
)  # fmt: skip
@pytest.mark.parametrize("dtype", REAL)
def test_products_with_a_matrix_and_its_transpose(device, m, n, more, pieces, dtype):
    """Small integers: every sum is exact, and one that is missing or made twice shows."""
    rng = np.random.default_rng(m + n)
    a = rng.integers(-3, 4, (m, n + more)).astype(dtype)
    x = rng.integers(-3, 4, n).astype(dtype)
    u = a[:, :n] @ x
    y = a[:, :n].T @ u
    for _ in runs(device, m):
        for most in (2, 1000):
            with grid("linalg", most) as be:
                got = normal_rows(be, a, x, n, pieces)
                np.testing.assert_array_equal(got[0], u)
                np.testing.assert_array_equal(got[1], y)


@pytest.mark.parametrize("dtype", REAL)
def test_products_with_a_matrix_are_accurate_and_the_same_on_every_grid(device, dtype):
    rng = np.random.default_rng(0)
    a, x = rng.standard_normal((70, 130)).astype(dtype), rng.standard_normal(130).astype(dtype)
    wide = a.astype(np.longdouble)
    seen = set()
    for _ in runs(device, 5):
        for most in (1, 4, 1000):
            with grid("linalg", most, "cuda:1") as be:
                u, y = normal_rows(be, a, x, 130, 6)
            seen.add(u.tobytes() + y.tobytes())
    assert len(seen) == 1
    for got, exact, size in (
        (u, wide @ x, np.abs(wide) @ np.abs(x)),
        (y, wide.T @ (wide @ x), np.abs(wide).T @ (np.abs(wide) @ np.abs(x))),
    ):
        assert np.all(np.abs(got - exact) <= 16 * np.finfo(dtype).eps * size)


@pytest.mark.parametrize("dtype", REAL)
def test_products_with_a_matrix_pass_nan_and_infinity(device, dtype):
    a = np.ones((70, 130), dtype)
    a[3, 5], a[64, 7] = np.nan, np.inf
    u, y = normal_rows(backend_for("cuda:0"), a, np.ones(130, dtype), 130, 6)
    assert np.isnan(u[3])
    assert u[64] == np.inf
    assert np.all(np.delete(u, [3, 64]) == 130)
    assert np.isnan(y).all()  # row 3 meets every column


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (90, 33)])
@pytest.mark.parametrize("dtype", REAL)
def test_products_with_a_matrix_by_the_backend(device, shape, dtype):
    rng = np.random.default_rng(1)
    a, x = rng.integers(-3, 4, shape).astype(dtype), rng.integers(-3, 4, shape[1]).astype(dtype)
    wanted = HOST.normal_rows(a, x)
    be = backend_for("cuda:1")
    far, v = be.from_host(a), be.from_host(x)
    turned = be.from_host(np.ascontiguousarray(a.T)).T  # by columns: two products
    for matrix in (far, turned):
        for got, want in zip(be.normal_rows(matrix, v), wanted, strict=True):
            np.testing.assert_array_equal(be.to_host(got), want)
    out = be.xp.empty(shape[0], dtype), be.xp.empty(shape[1], dtype)
    device.counters.clear()
    assert be.normal_rows(far, v, out=out) is out or device.counters["launch"] == 2
    for got, want in zip(out, wanted, strict=True):
        np.testing.assert_array_equal(be.to_host(got), want)


def test_a_step_of_spectral_norm_reads_its_matrix_once(device):
    import nnmath_core as nm

    a = np.random.default_rng(0).standard_normal((60, 40))
    device.launched.clear()
    found = nm.solvers.spectral_norm(nm.to_device(a, "cuda:0"), rng=0, steps=60)
    launched = {name.rpartition("__")[0]: n for name, n in device.launched.items()}
    assert launched["normal_rows"] == launched["sum_parts"] == 60
    np.testing.assert_allclose(found.value, np.linalg.norm(a, 2), rtol=1e-2)


def test_shares_of_a_matrix_are_added_in_double(device):
    parts = np.full((4, 2), 2.0**24, np.float32)
    parts[1:] = 1  # alone each is lost beside 2**24
    be = backend_for("cuda:0")
    with be.scope():
        y = be.cupy.empty(2, np.float32)
        be.launch("linalg", "sum_parts", 2, y, be.from_host(parts), 4)
    np.testing.assert_array_equal(be.to_host(y), np.float32(2**24 + 3))


# ------------------------------------------------------------------------------------------------ rows


ROW_KERNELS = ["softmax_rows", "logsumexp_rows", "standardize_rows", "rms_rows"]


def definitions(x, eps, kernels=tuple(ROW_KERNELS)):
    """What the kernels over rows mean, in long double: by name and numbers."""
    with np.errstate(all="ignore"):
        w = x.astype(np.longdouble)
        top = w.max(axis=1, keepdims=True)
        e = np.exp(w - np.where(np.isfinite(top), top, 0))
        total = e.sum(axis=1, keepdims=True)
        softmax = np.exp(w - top) / np.exp(w - top).sum(axis=1, keepdims=True)
        zeros = np.where(total == 0, 0, e / np.where(total == 0, 1, total))
        lse = np.log(total) + np.where(np.isfinite(top), top, 0)
        c = w - w.mean(axis=1, keepdims=True)
        var, square = (np.mean(v * v, axis=1, keepdims=True) for v in (c, w))
        r, s = (np.where(v + eps > 0, 1 / np.sqrt(v + eps), v + eps) for v in (var, square))
        found = {
            ("softmax_rows", 0): (softmax,),
            ("softmax_rows", 1): (zeros,),
            ("logsumexp_rows",): (lse,),
            ("standardize_rows", eps): (c * r, r, w.mean(axis=1, keepdims=True), var),
            ("rms_rows", eps): (w * s, s),
        }
    return {key: values for key, values in found.items() if key[0] in kernels}


def row_results(be, kernel, x, *numbers):
    found = be.by_rows(kernel, be.from_host(x), (1,), *numbers)
    return [be.to_host(y) for y in found]


@pytest.mark.parametrize(
    ("m", "n"), [(1, 1), (5, 3), (3, 31), (2, 32), (4, 33), (3, 1023), (2, 4099)]
)
@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("kernel", ROW_KERNELS)
def test_row_kernels(device, kernel, dtype, m, n):
    rng = np.random.default_rng(n)
    eps = np.finfo(dtype).eps
    for shift, scale in ((0, 1), (-1000, 4), (0, 400)):
        x = (rng.standard_normal((m, n)) * scale + shift).astype(dtype)
        x[0, n // 2] = x[0].max()  # two of the largest
        # the largest where a stride that is one too long, or a loop that ends too soon, does not come
        x[-1, min(256, n - 1)] = x[-1].max() + scale
        for (name, *numbers), wanted in definitions(x, 1e-3).items():
            if name != kernel:
                continue
            seen = set()
            for (order, _), most in zip(runs(device, n), (1, 2, 1000, 1, 2, 1000), strict=True):
                if scale == 1 or order == 1:
                    with grid("rows", most) as be:
                        found = row_results(be, kernel, x, *numbers)
                    seen.add(b"".join(y.tobytes() for y in found))
            assert len(seen) == 1
            # entries are rounded at the size of the largest; exp makes a relative error of it
            large = np.abs(x).max() + np.abs(shift)
            for got, exact in zip(found, wanted, strict=True):
                size = (
                    np.abs(exact) * (1 + large)
                    if kernel == "softmax_rows"
                    else np.abs(exact) + large
                )
                assert np.all(np.abs(got - exact) <= 8 * eps * size + np.finfo(dtype).tiny)


@pytest.mark.parametrize("dtype", REAL)
def test_row_kernels_keep_what_is_beside_one_in_logsumexp_rows(device, dtype):
    x = np.array([[0, -40, -50], [-1e-3, 0, -80]], dtype)
    wanted = [np.log1p(np.exp(-40.0) + np.exp(-50.0)), np.log1p(np.exp(-1e-3))]
    (got,) = row_results(backend_for("cuda:0"), "logsumexp_rows", x)
    np.testing.assert_allclose(got[:, 0], wanted, rtol=8 * np.finfo(dtype).eps)


def rows_that_hurt(dtype):
    inf, nan, huge = np.inf, np.nan, float(np.finfo(dtype).max) / 8
    tiny = 1e-20 if dtype is np.float32 else 1e-200  # its square is 0
    return np.array([[-inf, -inf, -inf], [-inf, 0, 1], [inf, 0, 1], [nan, 0, 1], [0, nan, -inf], [2, 2, 2], [0, 0, 0],
                     [huge, -huge, huge], [-inf, -inf, 3], [tiny, -tiny, tiny]], dtype)  # fmt: skip


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("kernel", ["softmax_rows", "logsumexp_rows"])
def test_row_kernels_of_exponentials_on_rows_that_hurt(device, kernel, dtype):
    x = rows_that_hurt(dtype)
    for (name, *numbers), (want,) in definitions(x, 0.0, (kernel,)).items():
        (got,) = row_results(backend_for("cuda:1"), name, x, *numbers)
        if kernel == "softmax_rows":  # an infinite entry, like NaN, takes the row with it
            infinite = np.any(np.isnan(x) | (x == np.inf), axis=1, keepdims=True)
            want = np.where(infinite, np.nan, want)
        np.testing.assert_allclose(got, want.astype(dtype), rtol=1e-5)


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("kernel", ["standardize_rows", "rms_rows"])
def test_row_kernels_of_squares_on_rows_that_hurt(device, kernel, dtype):
    x = rows_that_hurt(dtype)
    be, huge, tiny = backend_for("cuda:1"), x[7, 0], x[9, 0]
    y, r, *more = row_results(be, kernel, x[[5, 6, 7, 9]], 0.0)
    if kernel == "rms_rows":
        np.testing.assert_allclose(y, [[1, 1, 1], [0, 0, 0], [1, -1, 1], [1, -1, 1]], rtol=1e-5)
        np.testing.assert_allclose(r[:, 0], [0.5, 0, 1 / huge, 1 / tiny], rtol=1e-5)
    else:  # entries that are all alike have no direction
        np.testing.assert_array_equal(y[:2], 0)
        np.testing.assert_array_equal(r[:2], 0)
        np.testing.assert_array_equal(more[0][:2, 0], [2, 0])
        np.testing.assert_array_equal(more[1][:2], 0)
        np.testing.assert_allclose(y[2:], np.tile([1, -2, 1] / np.sqrt(2), (2, 1)), rtol=1e-5)
    assert np.isnan(row_results(be, kernel, x[3:5], 1e-3)[0]).all()


def test_a_row_operation_is_one_launch_and_derivatives_are_as_they_were(device):
    import nnmath_core as nm

    x = np.random.default_rng(0).standard_normal((6, 40)).astype(np.float32)
    for f in (
        lambda x: nm.special.softmax(x, axis=-1),
        lambda x: nm.special.logsumexp(x, axis=-1),
        nm.nn.layer_norm,
        nm.nn.rms_norm,
    ):
        far = nm.to_device(x, "cuda:0")
        f(far)
        device.counters.clear()
        y = f(far)
        assert device.counters["launch"] == 1, f
        assert not any("ynchronize" in name for name in device.counters)
        np.testing.assert_allclose(nm.to_device(y, "cpu"), f(x), rtol=1e-5, atol=1e-6)
        loss = nm.grad(lambda x, f=f: np.sum(np.square(f(x))))
        np.testing.assert_allclose(nm.to_device(loss(far), "cpu"), loss(x), rtol=1e-4, atol=1e-5)


def test_rows_that_a_kernel_does_not_take_go_by_their_definition(device):
    be = backend_for("cuda:0")
    x = be.from_host(np.ones((4, 5)))
    assert be.by_rows("rms_rows", x, (0,), 0.0) is None
    assert be.by_rows("rms_rows", be.from_host(np.ones((0, 5))), (1,), 0.0) is None
    assert be.by_rows("rms_rows", be.from_host(np.ones((4, 5), complex)), (1,), 0.0) is None
    assert (
        be.by_rows("rms_rows", be.from_host(np.ones((2, (1 << 14) + 1), np.float32)), (1,), 0.0)
        is None
    )
    (turned,) = be.by_rows("softmax_rows", be.xp.reshape(x, (5, 4)).T, (1,), 0)
    np.testing.assert_allclose(be.to_host(turned), 0.2)
    (whole,) = be.by_rows("logsumexp_rows", x, (1, 0))
    assert whole.shape == (1, 1)
    assert HOST.by_rows("rms_rows", np.ones((4, 5)), (1,), 0.0) is None
