"""Iterations on the device: the host's results, and how seldom they wait for the device."""

import numpy as np
import pytest
from kernel_runs import grid

import nnmath_core as nm
from nnmath_core.curvature import HessianOperator
from nnmath_core.device import backend_for, device_of, to_device
from nnmath_core.solvers import (
    LinearOperator,
    cg,
    device_product as products,
    lanczos,
    power_iteration,
    slq,
    spectral_norm,
)

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
SIZES = (1, 31, 32, 33, 1023, 4099)
ORDERS = [(order, poison) for order in (0, 1, 2) for poison in (0xFF, 0x7F)]


@pytest.fixture(params=[1024, 64], ids=["one piece", "pieces"])
def piece(request, monkeypatch):
    """Rows cut as long ones are, in one case."""
    monkeypatch.setattr(products, "LEAST", request.param)
    return request.param


def there(x, place="cuda:0"):
    return to_device(x, place)


def here(x):
    return to_device(x, "cpu")


def spd(n, dtype, rng, lowest=0.1):
    """A symmetric positive definite matrix with eigenvalues between ``lowest`` and 1 and a few apart."""
    q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    values = np.concatenate([np.linspace(lowest, 1.0, max(n - 3, 0)), [2.0, 3.0, 5.0]])[-n:]
    a = (q * values) @ q.T
    return ((a + a.T) / 2).astype(dtype)


# ------------------------------------------------------------------------------------------ kernels


def every_order(device, make):
    """Run it in all orders of threads, with both poisons and on grids of few blocks; the results are the same bits."""
    first = None
    for (order, poison), most in zip(ORDERS, (1000, 3, 1, 2, 1000, 5), strict=True):
        device.order.update(order=order, poison=poison, seed=order)
        with grid("iterations", most):
            got = [here(x) for x in make()]
        if first is None:
            first = got
        for a, b in zip(got, first, strict=True):
            np.testing.assert_array_equal(a, b)
    return first


def launch(kernel, n, *args):
    backend_for("cuda:0").launch("iterations", kernel, n, *args)


def adversarial(rows, cols, dtype):
    """Vectors that are usual, huge, all negative, and of very different sizes."""
    rng = np.random.default_rng(cols)
    x = rng.standard_normal((rows, cols))
    scale = [1.0, 1e15, -1.0, 1e-12]
    for i in range(rows):
        x[i] = -np.abs(x[i]) if i % 4 == 2 else x[i] * scale[i % 4]
    return x.astype(dtype)


def sums_close(got, terms):
    """Sums of terms along the last axis, to the rounding of so many terms in double."""
    bound = 4 * np.finfo(float).eps * np.abs(terms).sum(axis=-1)
    assert (np.abs(got - terms.sum(axis=-1)) <= bound + 1e-300).all()


@DTYPES
@pytest.mark.parametrize("cols", SIZES)
def test_products_of_rows(cp, device, cols, dtype):
    a, b = adversarial(4, cols, dtype), adversarial(4, cols, dtype)[::-1].copy()
    piece = 64 if 64 < cols < 2000 else 1024
    pieces = -(-cols // piece)

    def make():
        sums = cp.empty((2, 4, pieces))
        launch("row_products", a.size, cp.asarray(a), cp.asarray(b), sums, cols, piece)
        return [sums]

    (got,) = every_order(device, make)
    wide = a.astype(float)
    sums_close(got[0].sum(axis=1), wide * b)
    sums_close(got[1].sum(axis=1), wide * wide)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so(cp, device, bad):
    a = np.ones((2, 100), np.float32)
    a[1, 77] = bad
    sums = cp.empty((2, 2, 1))
    launch("row_products", a.size, cp.asarray(a), cp.asarray(a), sums, 100, 1024)
    assert np.isfinite(here(sums)[:, 0]).all()
    assert not np.isfinite(here(sums)[:, 1]).any()


@DTYPES
@pytest.mark.parametrize(("height", "threads"), [(1, 256), (3, 32), (4, 256), (5, 64), (300, 256)])
@pytest.mark.parametrize("cols", [1, 33, 1023])
def test_a_pass_of_gram_schmidt(cp, device, cols, height, threads, dtype, monkeypatch):
    monkeypatch.setattr("nnmath_core.device.launch._THREADS", threads)
    rng, rows, capacity = np.random.default_rng(cols), 2, height + height % 2
    basis = (rng.standard_normal((rows, capacity, cols)) / np.sqrt(cols)).astype(dtype)
    w = rng.standard_normal((rows, cols)).astype(dtype)
    piece, width = (64, 256) if height < 300 else (512, 1024)
    pieces, widths = -(-cols // piece), -(-cols // width)
    step, known = (0, {1: 0.25, 4: 1e3}[height]) if height in (1, 4) else (1, 0.25)
    others = [0.5, 0.75, 2.0, 1e3 if height == 3 else 1e-3]

    def make():
        far, x = cp.asarray(basis), cp.asarray(w)
        sums, squares = cp.empty(rows * (height + 1) * pieces), cp.empty((rows, widths))
        record = cp.full((3, rows, 4), 1e5)[1:]  # what is before the first step must not be read
        record[step] = 0
        record[1 - step] = cp.asarray(others)
        n = rows * (height + 1) * cols
        launch("basis_products", n, far, x, sums, capacity, height, cols, piece)
        args = (sums, squares, record, capacity, height, cols, piece, width)
        launch("take_away", w.size, far, x, *args, step, known)
        first, second = (x.copy(), squares.copy(), record.copy()), cp.asarray(w)
        launch("take_away", w.size, far, second, *args, -1, known)
        assert (
            second == first[0]
        ).all()  # a second pass of the same does the same, but for the record
        assert (squares == first[1]).all()
        assert (record == first[2]).all()
        return [sums.reshape(rows, height + 1, pieces), x, squares, record]

    sums, left, squares, record = every_order(device, make)
    assert (record[1 - step] == others).all()
    wide, used = w.astype(float), basis[:, :height].astype(float)
    sums_close(sums[:, :height].sum(axis=2), used * wide[:, None])
    sums_close(sums[:, height].sum(axis=1), wide * wide)
    c = np.einsum("irk,ik->ir", used, wide)
    want = wide - np.einsum("ir,irk->ik", c, used)
    bound = 4 * np.finfo(dtype).eps * np.einsum("ir,irk->ik", np.abs(c), np.abs(used))
    bound *= np.sqrt(height) + 1
    assert (np.abs(left - want) <= bound + 2 * np.finfo(dtype).eps * np.abs(wide)).all()
    sums_close(squares.sum(axis=1), left.astype(float) ** 2)
    off = np.abs(c)
    if step:
        off[:, height - 2] = np.abs(c[:, height - 2] - 0.75)
    norms = np.maximum(np.linalg.norm(wide, axis=1), 2.0 if step else known)
    leak = np.maximum(off[:, : height - 1].max(axis=1, initial=0.0), others[3] if step else 0.0)
    want = np.stack([c[:, -1], np.zeros(rows), norms, leak], axis=1)
    np.testing.assert_allclose(record[step], want, rtol=1e-12, atol=1e-12)


@DTYPES
@pytest.mark.parametrize(("cols", "width"), [(100, 1024), (600, 1024), (100, 32), (96, 32)])
def test_a_run_that_closes_goes_on_with_zeros(cp, device, dtype, cols, width):
    height, closed = 2, 2.0**-27  # breakdown times the top of the record
    squares = [  # after the first pass, after the second, which goes on
        (100.0, 100.0, True),
        (1e-26, 1e-26, False),
        (100.0, 40.0, False),  # the second pass took most of it away: rounding
        (100.0, 49.0, True),
        (100.0, np.nan, False),
        (closed**2, closed**2, False),
        (4 * closed**2, 4 * closed**2, True),
    ]
    rows, widths = len(squares), -(-cols // width)
    parts = {1: [1.0], 3: [0.5, 0.25, 0.25], 4: [0.5, 0.25, 0.125, 0.125]}[widths]
    first, second = (np.array([row[k] for row in squares])[:, None] * parts for k in (0, 1))
    w = np.random.default_rng(3).uniform(1, 2, (rows, cols)).astype(dtype)

    def make():
        v, basis = cp.full((rows, cols), 7, dtype), cp.zeros((rows, height + 1, cols), dtype)
        record = cp.asarray(np.tile([0.0, 0.0, 8.0, 0.0], (2, rows, 1)))
        far = (cp.asarray(first), cp.asarray(second), record)
        numbers = (height + 1, height, cols, width, 1, 2.0**-30)
        launch("next_vectors", w.size, cp.asarray(w), v, basis, *far, *numbers)
        return [v, basis, record]

    v, basis, record = every_order(device, make)
    beta = np.sqrt([row[1] for row in squares])
    beta[2] = 0
    goes = np.array([row[2] for row in squares])
    np.testing.assert_array_equal(v, basis[:, height])
    np.testing.assert_array_equal(basis[:, :height], 0)
    np.testing.assert_allclose(v[goes], w[goes] / beta[goes, None], rtol=2 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(v[~goes], 0)
    np.testing.assert_allclose(record[1, :, 1], beta, rtol=1e-15)
    assert (record[0] == [0, 0, 8, 0]).all()
    assert (record[1][:, [0, 2, 3]] == [0, 8, 0]).all()


@DTYPES
@pytest.mark.parametrize("cols", SIZES)
def test_a_step_of_conjugate_gradients(cp, device, cols, dtype):
    """Systems that run, have ended, bend, break, bend with p'q = 0, are solved by it, have a bad M or overflow."""
    rng, k, eps = np.random.default_rng(cols), 10, np.finfo(dtype).eps
    x, r, p = (rng.standard_normal((k, cols)).astype(dtype) for _ in range(3))
    p[5] = r[5]
    q = (p * rng.uniform(0.5, 2.0, cols)).astype(dtype)
    q[2], q[3, 0], q[4], q[5], r[7, -1] = -q[2], np.inf, 0, r[5], np.inf
    rr = np.einsum("ij,ij->i", r.astype(float), r)
    p5q5 = p[5].astype(float) @ q[5]
    first = rr.copy()
    first[5], first[7] = p5q5, 1.0  # so that the step of 5 is 1, and r becomes 0
    codes = [0, 1, *[0] * 8]
    goals = np.array(
        [0, 0, 1e9, 1e9, 1e9, 0, 0, np.inf, 0, 0]
    )  # those that have ended for something else are not solved
    numbers = np.stack([first, np.full(k, 9.0), np.full(k, 7.0), codes, np.full(k, 3.0)], 1)
    piece = 64 if 64 < cols < 2000 else 1024
    pieces = -(-cols // piece)

    def make():
        far = [cp.asarray(a) for a in (x, r, p, q)]
        sums, squares = cp.empty((2, k, pieces)), cp.empty((k, pieces))
        now, then = cp.asarray(numbers), cp.empty((k, 5))
        launch("row_products", x.size, far[2], far[3], sums, cols, piece)
        launch("cg_move", x.size, *far, sums, squares, now, then, cols, piece)
        products = squares.copy()
        products[6:] = -squares[6:]
        products[7], products[8], products[9] = 1.0, np.nan, 0.0
        turn = (squares, products, cp.asarray(goals), then, now, cols, piece)
        launch("cg_turn", x.size, far[2], far[1], *turn)
        return [*far[:3], now]

    gx, gr, gp, got = every_order(device, make)
    # the sum of 5 may be cut otherwise than here, and its step then be 1 to rounding
    solved = got[5, 2] == 0
    assert solved or got[5, 2] <= 1e-13 * np.sqrt(rr[5])
    assert got[:, 3].tolist() == [0, 1, 2, 3, 2, 1 if solved else 0, 4, 3, 3, 4]
    assert got[:, 4].tolist() == [4, 3, 3, 3, 3, *[4] * 5]
    for i in (1, 2, 3, 4):  # what has ended stays
        np.testing.assert_array_equal(gx[i], x[i])
        np.testing.assert_array_equal(gr[i], r[i])
        np.testing.assert_array_equal(gp[i], p[i])
        assert got[i, [0, 2]].tolist() == [rr[i], 7.0]
    np.testing.assert_array_equal(gp[6:], p[6:])
    wide = [a.astype(float) for a in (x, r, p, q)]
    scale = rr[0] / (wide[2][0] @ wide[3][0])
    want_x, want_r = wide[0][0] + scale * wide[2][0], wide[1][0] - scale * wide[3][0]
    size = 8 * eps * (1 + abs(scale)) * 8
    np.testing.assert_allclose(gx[0], want_x, rtol=0, atol=size)
    np.testing.assert_allclose(gr[0], want_r, rtol=0, atol=size)
    turn = (want_r @ want_r) / rr[0]
    np.testing.assert_allclose(
        gp[0], want_r + turn * wide[2][0], rtol=0, atol=size * (4 + 4 * turn)
    )
    np.testing.assert_allclose(got[0, 2], np.linalg.norm(gr[0].astype(float)), rtol=1e-13)
    with np.errstate(invalid="ignore"):
        curvature = np.einsum("ij,ij->i", wide[2], wide[3]) / np.einsum(
            "ij,ij->i", wide[2], wide[2]
        )
    curvature[[1, 3]] = 9.0  # those that had ended, or do now for what is not finite
    np.testing.assert_allclose(got[:, 1], np.minimum(curvature, 9.0), rtol=1e-12)
    assert got[2, 1] < 0
    assert got[4, 1] == 0


@DTYPES
@pytest.mark.parametrize("cols", SIZES)
def test_a_step_of_powers(cp, device, cols, dtype):
    rng, eps = np.random.default_rng(cols), np.finfo(dtype).eps
    v = rng.standard_normal(cols)
    v = (v / np.linalg.norm(v)).astype(dtype)
    w = (3 * v + 0.01 * rng.standard_normal(cols)).astype(dtype)
    piece = 64 if 64 < cols < 2000 else 1024
    pieces = -(-cols // piece)
    theta = v.astype(float) @ w
    rest = np.linalg.norm(w - theta * v.astype(float))
    size = np.linalg.norm(w.astype(float))

    def make(tol, ended=0.0, w=w):
        far, x = cp.asarray(v), cp.asarray(w)
        sums, squares, after = cp.empty((2, pieces)), cp.empty(pieces), cp.empty(2)
        launch("row_products", cols, x, far, sums, cols, piece)
        launch("power_rest", cols, x, far, sums, squares, piece)
        before = cp.asarray([5.0, ended])
        launch("power_step", cols, far, x, sums, squares, before, after, piece, tol)
        return [far, after, squares]

    got, after, squares = every_order(device, lambda: make(0.0))
    np.testing.assert_allclose(got, w / size, rtol=2 * eps)
    assert after.tolist() == [6.0, 0.0]
    np.testing.assert_allclose(np.sqrt(squares.sum()), rest, rtol=1e-6, atol=1e-15)
    for options in (
        {"tol": 1.01 * rest / size + 1e-14},
        {"tol": 0.0, "ended": 1.0},
        {"tol": 0.0, "w": 0 * w},
        {"tol": 0.5, "w": w * dtype(np.nan)},
    ):
        got, after, _ = every_order(device, lambda options=options: make(**options))
        np.testing.assert_array_equal(got, v)
        assert after.tolist() == [5.0, 1.0]


def test_a_step_of_powers_adds_more_pieces_than_a_block_has_threads(cp, device):
    w = np.random.default_rng(0).standard_normal(600)
    sums, before, after = cp.asarray([w * 0, w * w]), cp.zeros(2), cp.empty(2)
    far = cp.zeros(600)
    launch("power_step", 600, far, cp.asarray(w), sums, sums, before, after, 1, 0.0)
    np.testing.assert_allclose(here(far), w / np.linalg.norm(w), rtol=1e-14)


def test_a_step_of_powers_ends_where_the_rest_is_just_small_enough(cp, device):
    before, after, far = cp.zeros(2), cp.empty(2), cp.zeros(3)
    sums, squares = cp.asarray([[1.0], [16.0]]), cp.asarray([4.0])  # a rest of 2 of a length of 4
    launch("power_step", 3, far, cp.ones(3), sums, squares, before, after, 1024, 0.5)
    assert here(after).tolist() == [0.0, 1.0]
    np.testing.assert_array_equal(here(far), 0)


@DTYPES
def test_kernels_do_what_they_mean(monkeypatch, piece, dtype):
    """Each launch of an iteration beside `device_steps`, on the arrays as they stand."""
    used = set()

    def both(backend, kernel, n, *args):
        used.add(kernel)
        host = [here(x) if hasattr(x, "shape") else x for x in args]
        products.MEANINGS[kernel](n, *host)
        backend.launch("iterations", kernel, n, *args)
        for got, want in zip(args, host, strict=True):
            if hasattr(got, "shape") and got.size:  # what was never written is NaN in both
                eps = np.finfo(dtype).eps if got.dtype == dtype else 1e-12
                top = np.abs(want[np.isfinite(want)]).max(initial=0.0)
                np.testing.assert_allclose(
                    here(got), want, rtol=0, atol=64 * eps * top, err_msg=kernel
                )

    monkeypatch.setattr(products, "launch", both)
    monkeypatch.setattr("nnmath_core.solvers.device_powers.launch", both)
    rng = np.random.default_rng(0)
    a = spd(90, dtype, rng)
    b, rtol = rng.standard_normal((90, 2)).astype(dtype), 1e-4
    lanczos(there(a), k=1, rng=0)
    slq(there(a), probes=3, steps=8, rng=0)
    cg(there(a), there(b), rtol=rtol)
    cg(there(a), there(b), rtol=rtol, M=there(np.diag(1 / np.diag(a)).astype(dtype)))
    power_iteration(there(a), rng=0, tol=1e-3)
    assert used == set(products.MEANINGS)


# ------------------------------------------------------------------------------------------ counters

WAITS = ("synchronize", "device to host", "host to device")


class Counted:
    """What the device does in a call, after one that compiles."""

    def __init__(self, device, call):
        call()
        device.counters.clear()
        call()
        self.all = dict(device.counters)
        self.waits = sum(self.all.get(name, 0) for name in WAITS)
        self.launches, self.arrays = self.all.get("launch", 0), self.all.get("malloc", 0)


def grows(device, call, short, long):
    """Waits, launches and arrays in the steps by which two calls differ."""
    a, b = Counted(device, lambda: call(short)), Counted(device, lambda: call(long))
    return b.waits - a.waits, b.launches - a.launches, b.arrays - a.arrays


# ------------------------------------------------------------------------------------------ Lanczos


class Product(LinearOperator):
    """An operator on a device that knows how often it was asked, and may be interrupted."""

    def __init__(self, matrix, *, last=10**9):
        self.matrix, self.calls, self.last = matrix, 0, last
        self.shape, self.dtype, self.symmetric = matrix.shape, matrix.dtype, True
        self.device = device_of(matrix)

    def _matmat(self, X):
        self.calls += 1
        if self.calls > self.last:
            raise KeyboardInterrupt
        return self.matrix @ X


@DTYPES
@pytest.mark.parametrize(
    "options",
    [{"k": 3}, {"k": (2, 1), "which": "BE"}, {"k": 2, "which": "SA"}, {"k": 2, "which": "LM"}],
)
def test_lanczos_finds_what_it_finds_on_the_host(options, dtype, piece):
    n = 100
    a = spd(n, dtype, np.random.default_rng(0))
    eps = float(np.finfo(dtype).eps)
    want = lanczos(a, rng=1, **options)
    got = lanczos(there(a), rng=1, **options)
    assert device_of(got.vectors) == device_of(there(a))
    assert got.converged.all()
    assert got.complete == want.complete
    assert got.runs == want.runs
    # an eigenvalue apart from the others: the square of the residual, and rounding in n products of n terms
    np.testing.assert_allclose(got.value, want.value, rtol=0, atol=4 * np.sqrt(n) * eps * want.norm)
    v, exact = here(got.vectors).astype(float), a.astype(float)
    np.testing.assert_allclose(v.T @ v, np.eye(v.shape[1]), atol=64 * eps)
    residual = np.linalg.norm(exact @ v - v * got.value.astype(float), axis=0)
    assert (residual <= got.residual + 8 * np.sqrt(n) * eps * got.norm).all()
    assert (got.residual <= got.tol * got.norm).all()
    for a_, b_ in zip(got.others, want.others, strict=True):
        assert abs(a_ - b_) <= 0.05 * want.norm


@DTYPES
def test_multiple_eigenvalues_and_small_spaces(dtype, cp):
    """Breakdowns: the identity, a matrix of rank one, zero, and one of a single row."""
    eps = float(np.finfo(dtype).eps)
    rng = np.random.default_rng(3)
    u = rng.standard_normal(12)
    for a in (
        np.eye(6),
        np.outer(u, u),
        np.zeros((5, 5)),
        np.array([[2.0]]),
        np.diag([1.0, 1.0, 2.0, 2.0, 3.0]),
    ):
        a = a.astype(dtype)
        k = min(3, len(a))
        got = lanczos(there(a), k=k, rng=0)
        want = np.linalg.eigvalsh(a.astype(float))[-k:]
        np.testing.assert_allclose(
            got.value, want, rtol=0, atol=64 * eps * max(np.abs(want).max(), 1.0)
        )
        assert got.complete


def test_lanczos_waits_where_it_looks(device, cp):
    """Every five steps or a twelfth: the entries of T, in one copy. No array is made in a step."""
    n = 96
    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    a = cp.asarray((q * np.cos(np.pi * (np.arange(n) + 0.5) / n)) @ q.T)
    op = nm.solvers.as_operator((a + a.T) / 2)

    def call(steps):
        try:
            lanczos(op, k=1, max_steps=steps, tol=1e-14, rng=0, confirm=False)
        except nm.ConvergenceError:
            pass

    waits, launches, arrays = grows(device, call, 20, 30)
    assert waits == 2 * 2  # two looks, each a copy and the wait for it
    assert launches == 10 * 5  # beside the products, which are cuBLAS's
    assert arrays == 0


@pytest.mark.parametrize("last", [3, 7, 20])
def test_an_interrupted_lanczos_has_what_it_found(last, cp):
    a = spd(60, np.float64, np.random.default_rng(5))
    got = lanczos(Product(there(a), last=last), k=2, rng=0)
    assert got.interrupted
    assert got.iterations == last
    want = lanczos(a, k=2, rng=0)
    if last == 20:
        np.testing.assert_allclose(got.value, want.value, rtol=1e-3)


@DTYPES
def test_products_that_are_not_finite_are_said(dtype, cp):
    a = there(np.eye(40, dtype=dtype))
    a[3, 3] = np.nan
    for f in (lambda a: lanczos(a, k=1), lambda a: slq(a, probes=2, steps=5)):
        with pytest.raises(nm.DomainError, match="must be finite, got infinity or NaN"):
            f(Product(a))


def test_an_operator_that_loses_its_device_is_refused(cp):
    class Lost(Product):
        def _matmat(self, X):
            return np.ones(X.shape)

    a = Lost(there(np.eye(40)))
    for f in (
        lambda a: lanczos(a, k=1),
        lambda a: cg(a, cp.ones(40)),
        lambda a: power_iteration(a),
    ):
        with pytest.raises(nm.DeviceError, match="on cuda:0, got cpu"):
            f(a)


def test_an_operator_that_draws_is_refused(cp):
    class Drawing(Product):
        def _matmat(self, X):
            self.calls += 1
            return self.matrix @ X + 0.1 * self.calls * X[::-1]

    a = there(spd(40, np.float64, np.random.default_rng(0)))
    with pytest.raises(nm.DomainError, match="give the same product each time"):
        lanczos(Drawing(a), k=1)


# ------------------------------------------------------------------------------------------ quadrature


@DTYPES
def test_quadrature_is_that_of_the_host(dtype, piece, monkeypatch):
    n, eps = 120, float(np.finfo(dtype).eps)
    a = spd(n, dtype, np.random.default_rng(1))
    options = {"probes": 5, "steps": 24, "rng": 0}
    want = slq(a, **options)
    for each in (1 << 30, 2 * 25 * n * a.itemsize):  # all vectors at once, two at a time
        monkeypatch.setattr("nnmath_core.solvers.quadrature.BYTES", each)
        got = slq(there(a), **options)
        assert not got.interrupted
        bound = 64 * np.sqrt(n) * eps
        for f in (np.log, lambda t: t**2):
            x, y = got.trace(f), want.trace(f)
            np.testing.assert_allclose(x.samples, y.samples, rtol=bound, atol=n * bound)
    exact = slq(there(np.eye(30, dtype=dtype) * 2), probes=2, steps=6, rng=0)
    np.testing.assert_allclose(exact.logdet().value, 30 * np.log(2), rtol=16 * eps)
    assert "exact" in exact.verdict


def test_quadrature_waits_at_the_end_alone(device, cp):
    a = nm.solvers.as_operator(cp.asarray(spd(64, np.float64, np.random.default_rng(0))))
    waits, launches, arrays = grows(device, lambda m: slq(a, probes=4, steps=m, rng=0), 8, 16)
    assert (waits, launches, arrays) == (0, 8 * 5, 0)


def test_an_interrupted_quadrature_has_the_vectors_of_finished_blocks(monkeypatch, cp):
    a = there(spd(30, np.float64, np.random.default_rng(0)))
    monkeypatch.setattr("nnmath_core.solvers.quadrature.BYTES", 2 * 11 * 30 * 8)
    got = slq(Product(a, last=15), probes=6, steps=10, rng=0)
    assert got.interrupted
    assert len(got.nodes) == 2


# ------------------------------------------------------------------------------------------ cg


@DTYPES
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_solutions_are_those_of_the_host(dtype, several, preconditioned, piece):
    n, eps = 100, float(np.finfo(dtype).eps)
    rng = np.random.default_rng(2)
    a = spd(n, dtype, rng)
    b = rng.standard_normal((n, 3) if several else n).astype(dtype)
    x0 = rng.standard_normal(b.shape).astype(dtype)
    rtol = 100 * eps
    m = np.diag(1 / np.diag(a)).astype(dtype) if preconditioned else None
    want = cg(a, b, x0, rtol=rtol, M=m)
    got = cg(there(a), there(b), there(x0), rtol=rtol, M=None if m is None else there(m))
    assert device_of(got.value) == device_of(there(b))
    exact = np.linalg.solve(a.astype(float), b.astype(float))
    size = np.linalg.norm(b.astype(float), axis=0) / 0.1  # |A^-1| |b|
    assert (np.linalg.norm(here(got.value) - exact, axis=0) <= 2 * rtol * size).all()
    assert np.abs(got.iterations - want.iterations).max() <= 2
    assert np.all(got.converged)
    if dtype == np.float64:  # the last directions are rounding in float32
        assert (np.abs(got.curvature - want.curvature) <= 1e-2 * want.curvature).all()
    else:
        assert np.all((got.curvature > 0.09) & (got.curvature < 1.0))


def test_systems_end_each_in_its_own_way(cp):
    n = 20
    a = np.diag(np.linspace(1.0, 2.0, n))
    a[-1, -1] = -1.0
    b = np.zeros((n, 3))
    b[:5, 0], b[-1, 1] = 1.0, 1.0
    with pytest.raises(nm.ConvergenceError) as caught:
        cg(there(a), there(b), rtol=1e-10)
    found = caught.value.partial
    assert found.converged.tolist() == [True, False, True]
    assert found.curvature[1] == -1.0
    assert found.iterations[2] == 0
    direction = here(found.direction)
    np.testing.assert_array_equal(direction[:, [0, 2]], 0)
    assert direction[:, 1] @ a @ direction[:, 1] < 0


def test_cg_waits_every_sixteen_steps(device, cp):
    n = 64
    a = nm.solvers.as_operator(cp.asarray(spd(n, np.float64, np.random.default_rng(0), 1e-6)))
    b = cp.asarray(np.random.default_rng(1).standard_normal(n))
    jacobi = nm.solvers.as_operator(cp.eye(n))

    for inverse, kernels in ((None, 3), (jacobi, 4)):

        def call(steps, inverse=inverse):
            with pytest.raises(nm.ConvergenceError):
                cg(a, b, rtol=1e-14, maxiter=steps, M=inverse)

        waits, launches, arrays = grows(device, call, 16, 48)
        assert (waits, launches, arrays) == (2 * 2, 32 * kernels, 0)


def test_an_interrupted_solution_is_what_was_reached(cp):
    a = spd(60, np.float64, np.random.default_rng(0), 0.01)
    b = np.random.default_rng(1).standard_normal(60)
    calls = []

    def callback(x):
        calls.append(here(x))
        if len(calls) == 9:
            raise KeyboardInterrupt

    got = cg(there(a), there(b), rtol=1e-12, callback=callback)
    assert got.interrupted
    assert got.iterations == 9
    np.testing.assert_array_equal(here(got.value), calls[-1])
    assert not np.array_equal(calls[0], calls[1])
    assert got.residual == pytest.approx(np.linalg.norm(b - a @ here(got.value)), rel=1e-9)


# ------------------------------------------------------------------------------------------ powers


@DTYPES
def test_powers_are_those_of_the_host(dtype, piece):
    n, eps = 90, float(np.finfo(dtype).eps)
    rng = np.random.default_rng(4)
    a = spd(n, dtype, rng)
    start = rng.standard_normal(n).astype(dtype)
    want, got = (
        power_iteration(a, start=start, steps=30),
        power_iteration(there(a), start=there(start), steps=30),
    )
    np.testing.assert_allclose(here(got.vector), want.vector, rtol=0, atol=64 * np.sqrt(n) * eps)
    assert (got.iterations, got.products) == (want.iterations, want.products)
    tol = 1e3 * eps
    want, got = (
        power_iteration(a, start=start, tol=tol),
        power_iteration(there(a), start=there(start), tol=tol),
    )
    assert abs(got.iterations - want.iterations) <= 1
    assert got.converged
    assert abs(got.value - want.value) <= 64 * np.sqrt(n) * eps * want.norm
    wide = rng.standard_normal((n, 40)).astype(dtype)
    want, got = spectral_norm(wide, rng=0, tol=1e-3), spectral_norm(there(wide), rng=0, tol=1e-3)
    assert abs(got.iterations - want.iterations) <= 1
    assert abs(got.value - want.value) <= 64 * np.sqrt(n) * eps * want.value
    np.testing.assert_allclose(here(got.right), want.right, rtol=0, atol=1e3 * np.sqrt(n) * eps)
    zero = power_iteration(there(np.zeros((5, 5), dtype)), rng=0)
    assert (zero.value, zero.iterations) == (0.0, 0)


def test_powers_wait_at_the_end_alone(device, cp):
    a = nm.solvers.as_operator(cp.asarray(spd(64, np.float64, np.random.default_rng(0))))
    start = cp.ones(64)
    waits, launches, arrays = grows(
        device, lambda m: power_iteration(a, start=start, steps=m), 40, 80
    )
    assert (waits, launches, arrays) == (0, 40 * 2, 0)

    def call(steps):
        with pytest.raises(nm.ConvergenceError):
            power_iteration(a, start=start, steps=steps, tol=1e-14)

    waits, launches, arrays = grows(device, call, 20, 60)
    assert (waits, launches, arrays) == (2 * 2, 40 * 3, 0)


def test_interrupted_powers_have_the_vector_that_was_reached(cp):
    a = spd(30, np.float64, np.random.default_rng(0))
    start = np.ones(30)

    class Once(Product):
        def _matmat(self, X):
            self.calls += 1
            if self.calls == 8:
                raise KeyboardInterrupt
            return self.matrix @ X

    got = power_iteration(Once(there(a)), start=there(start))
    assert got.interrupted
    assert got.iterations == 7
    want = power_iteration(a, start=start, steps=7)
    np.testing.assert_allclose(here(got.vector), want.vector, atol=1e-13)


# ------------------------------------------------------------------------------------------ everywhere


def test_iterations_on_the_second_device_and_on_a_stream(cp):
    if cp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("two devices are needed")
    a = spd(50, np.float64, np.random.default_rng(0))
    b = np.random.default_rng(1).standard_normal(50)
    want = [lanczos(a, k=2, rng=0).value, cg(a, b, rtol=1e-11).value]
    want += [power_iteration(a, rng=0).value, slq(a, rng=0).logdet().value]
    far, right = there(a, "cuda:1"), there(b, "cuda:1")
    with cp.cuda.Device(1):
        stream = cp.cuda.Stream(non_blocking=True)
    for index, context in ((0, cp.cuda.Device(0)), (1, stream)):
        with cp.cuda.Device(index), context:
            pairs, solved = lanczos(far, k=2, rng=0), cg(far, right, rtol=1e-11)
            top, rules = power_iteration(far, rng=0), slq(far, rng=0)
            triplet = spectral_norm(far[:, :20], start=right[:20], steps=5)
            assert nm.gradient_report(lambda w: (np.sin(w) * w).sum(), (right[:6],), points=2).ok
        vectors = (pairs.vectors, solved.value, top.vector, triplet.left, triplet.right)
        assert {str(device_of(x)) for x in vectors} == {"cuda:1"}
        got = pairs.value, here(solved.value), top.value, rules.logdet().value
        for x, y in zip(got, want, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-8)


def problem(dtype):
    rng = np.random.default_rng(0)
    model = nm.nn.MLP.init((4, 6, 3), activation=nm.nn.tanh, rng=0, dtype=dtype)
    x, y = (rng.standard_normal((8, k)).astype(dtype) for k in (4, 3))
    return model, x, y


def loss(model, x, y):
    return ((model(x) - y) ** 2).mean()


@DTYPES
def test_curvature_of_a_network(dtype):
    args = problem(dtype)
    here_op, there_op = HessianOperator(loss, *args), HessianOperator(loss, *there(args))
    want, got = (lanczos(H, k=(2, 1), which="BE", rng=0) for H in (here_op, there_op))
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(got.value, want.value, rtol=0, atol=256 * eps * want.norm)


# ------------------------------------------------------------------------------------------ gradient check


@DTYPES
def test_gradients_are_checked_on_the_device(dtype):
    args = there(problem(dtype))
    report = nm.gradient_report(loss, args, points=2)
    assert report.ok, str(report)
    assert report.checked == report.total
    with pytest.raises(nm.GradientError):
        nm.check_grads(lambda w: (w * w).sum(), (there(np.ones(5, dtype)),), grad=lambda w: 1.9 * w)


def smooth(args):
    w, b = args
    return w @ b, (np.sin(w) * b).sum()


def controlled(args):
    """The same, by Python control flow on a value: it cannot go through in a batch."""
    if float(args[0][0, 0]) < -10:
        return args[0] @ args[1], args[1].sum()
    return smooth(args)


@pytest.mark.parametrize("f", [smooth, controlled])
def test_differences_of_a_device_are_those_of_the_host(f, cp):
    rng = np.random.default_rng(0)
    args = rng.standard_normal((3, 4)), rng.standard_normal(4)
    want, got = nm.jacobian(smooth)(args), nm.numerical_gradient(f, there(args))
    for a, b in zip(nm.tree_leaves(got), nm.tree_leaves(want), strict=True):
        assert type(a) is cp.ndarray
        np.testing.assert_allclose(here(a), b, rtol=0, atol=1e-9)


def test_kinks_and_missing_values_are_found_on_the_device(cp):
    assert nm.gradient_report(lambda w: abs(w).sum(), (there(np.array([0.0, 1.0])),), points=1).ok
    report = nm.gradient_report(lambda w: np.sqrt(w).sum(), (there(np.array([1e-3, 1.0])),))
    assert report.ok, str(report)

    def partial(w):
        if w[0] > 1.01:
            raise ValueError("outside")
        return (w * w).sum()

    report = nm.gradient_report(partial, (there(np.array([1.0, 2.0])),), points=1)
    assert report.ok, str(report)


def test_differences_are_copied_once_for_a_block(device, cp):
    """Eight times as many entries: no more copies to the host, and not twice as many launches."""

    def call(n):
        nm.check_grads(
            lambda w: (np.sin(w) * w).sum(), (cp.linspace(0.1, 2.0, n),), points=1, order=1
        )

    few, many = Counted(device, lambda: call(8)), Counted(device, lambda: call(64))
    assert many.all["device to host"] == few.all["device to host"]
    assert many.waits == few.waits
    assert many.launches < 2 * few.launches


def test_second_derivatives_come_back_as_one_vector(device, cp):
    """Five variables instead of one: each product is still one copy, and its direction goes there once."""

    def copies(order, leaves):
        args = [cp.linspace(0.1, 2.0, 4) for _ in range(leaves)]
        f = lambda ws: sum((np.sin(w) * w).sum() for w in ws)  # noqa: E731
        counted = Counted(device, lambda: nm.check_grads(f, (args,), points=1, order=order, rng=0))
        return np.array([counted.all["device to host"], counted.all["host to device"]])

    few, many = (copies(2, k) - copies(1, k) for k in (1, 5))
    # two runs of our own function, by the way: a copy a variable
    assert np.all(many - few <= [4, 16]), (few, many)


# ------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("name", ["adamw", "heavy_ball"])
def test_training_under_a_schedule_waits_for_nothing(device, cp, name):
    def rate(count):
        return 1e-2 * 0.5 ** (count / 3)

    opt = {
        "adamw": nm.optim.adamw(rate, weight_decay=0.1),
        "heavy_ball": nm.optim.heavy_ball(rate, 0.9),
    }[name]
    args = problem(np.float32)
    model, x, y = args
    far, fx, fy = there(args)
    state, far_state = opt.init(model), opt.init(far)
    slope = nm.grad(loss)
    for step in range(4):
        if step == 2:
            device.counters.clear()
        model, state = opt.step(model, slope(model, x, y), state)
        far, far_state = opt.step(far, slope(far, fx, fy), far_state)
    assert sum(device.counters[name] for name in WAITS) == 0
    for a, b in zip(nm.tree_leaves(far), nm.tree_leaves(model), strict=True):
        np.testing.assert_allclose(here(a), b, rtol=0, atol=64 * np.finfo(np.float32).eps)


@pytest.mark.parametrize("f", [nm.optim.fista, nm.optim.proximal_gradient])
def test_proximal_steps_copy_two_rows_of_numbers(device, cp, f):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 8)), rng.standard_normal(30)
    options = {"step": 0.25, "gtol": 1e-9}

    def fit(x, y, w, **options):
        def squares(w):
            return ((x @ w - y) ** 2).sum() / 60

        return f(squares, w, nm.nn.l1(0.1), **options)

    want = fit(x, y, np.zeros(8), **options)
    for place in ("cuda:0", "cuda:1")[: cp.cuda.runtime.getDeviceCount()]:
        got = fit(there(x, place), there(y, place), there(np.zeros(8), place), **options)
        assert str(device_of(got.params)) == place
        np.testing.assert_allclose(here(got.params), want.params, rtol=0, atol=1e-7)
        assert abs(got.iterations - want.iterations) <= 1
    far = there((x, y, np.zeros(8)))

    def call(steps):
        with pytest.raises(nm.ConvergenceError):
            fit(*far, step=0.25, gtol=1e-14, max_steps=steps)

    few, many = (Counted(device, lambda steps=steps: call(steps)) for steps in (2, 5))
    # those of a step: the bound, and the residual; their halvings are over after the first
    assert many.all["device to host"] - few.all["device to host"] <= 2 * 3
