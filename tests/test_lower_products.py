"""Products in a Plan: every labelled contraction equals the eager one, whatever the layout and whoever multiplies."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from plans import lowered, run_all
from threadpoolctl import threadpool_limits

import nnmath_core as nm
from nnmath_core._ext._tree import flatten
from nnmath_core.autodiff.ops.contract import contract as contract_p
from nnmath_core.program.lower import layouts

FLOATS = ["f4", "f8", "c8", "c16"]
OTHERS = ["?", "i1", "u2", "i4", "u8"]


def draw(rng, shape, dtype):
    """Entries of size about 1; integers over their whole range, so that sums wrap around."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.3
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if dtype.kind == "c" else x).astype(dtype)


def einsum(spec, x, y):
    """A loop over all labels in the widest type: no code of the package, no BLAS."""
    a, b, o = spec
    sizes = dict(zip(a, x.shape, strict=True)) | dict(zip(b, y.shape, strict=True))
    wide = x.dtype if x.dtype.kind in "iub" else np.result_type(x, np.longdouble)
    order = o + "".join(c for c in sizes if c not in o)

    def spread(v, labels):
        v = v.astype(wide).transpose([labels.index(c) for c in order if c in labels])
        return v.reshape([sizes[c] if c in labels else 1 for c in order])

    product = spread(x, a) * spread(y, b)
    product = np.broadcast_to(product, [sizes[c] for c in order])
    axes = tuple(range(len(o), len(order)))
    return product.any(axes) if wide.kind == "b" else product.sum(axes, dtype=wide)


def check(spec, x, y, f=None):
    """Compiled equals the loop over all labels, in shares too."""
    f = f or (lambda x, y: contract(x, y, spec))
    want, bound = einsum(spec, x, y), None
    if x.dtype.kind in "fc":
        # a sum of k terms in any order is off by at most k eps of the sum of their magnitudes
        k = math.prod(
            n for c, n in zip(spec[0] + spec[1], x.shape + y.shape, strict=True) if c not in spec[2]
        )
        bound = (k + 8) * np.finfo(x.dtype).eps * einsum(spec, abs(x), abs(y))
    plan = lowered(f, x, y)
    for got in run_all(plan, x, y):
        assert got.dtype == x.dtype
        assert got.shape == want.shape
        assert np.array_equal(got, want) if bound is None else np.all(abs(got - want) <= bound)
    assert "contract" not in [s.note for s in plan.steps if s.kind == "host"]


def contract(x, y, spec):
    return contract_p(x, y, spec=spec)


SPECS = [
    ("ij", "jk", "ik"), ("ij", "kj", "ik"), ("ji", "jk", "ik"), ("ji", "kj", "ik"), ("ij", "jk", "ki"),
    ("ij", "kj", "ki"), ("ji", "jk", "ki"), ("ji", "kj", "ki"), ("ij", "j", "i"), ("ji", "j", "i"),
    ("j", "ij", "i"), ("j", "ji", "i"), ("i", "i", ""), ("ij", "ji", ""), ("i", "j", "ij"), ("i", "j", "ji"),
    ("ij", "ij", "i"), ("ij", "ij", "j"), ("ij", "ij", "ij"), ("", "ij", "ij"), ("ij", "", "i"), ("ij", "jk", "k"),
    ("ij", "jk", ""), ("ij", "kl", "ki"), ("bij", "bjk", "bik"), ("bij", "bjk", "kib"), ("bij", "bjk", "ibk"),
    ("ijb", "bkj", "kbi"), ("bqhd", "bkhd", "bhqk"), ("bhqk", "bkhd", "bqhd"), ("abij", "jk", "abik"),
    ("abij", "jk", "kabi"), ("iabj", "jk", "aibk"), ("abcd", "dcbe", "ea"), ("abcd", "cdbe", "ae"),
    ("abcd", "bdc", "a"), ("bij", "bj", "bi"), ("bij", "bi", "bj"), ("ijb", "jb", "ib"), ("bi", "bj", "bij"),
    ("bij", "bjk", "ik"), ("bij", "bik", "jk"), ("aibj", "jbk", "kia"),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [*FLOATS, *OTHERS])
@pytest.mark.parametrize("spec", SPECS, ids=",".join)
def test_every_labelled_product_equals_the_loop_over_all_labels(spec, dtype):
    rng = np.random.default_rng(7)
    for sizes in ([1, 3, 1, 2, 4], [19, 6, 33, 3, 2]):
        labels = sorted(set(spec[0] + spec[1]))
        n = dict(zip(labels, itertools.cycle(sizes)))
        check(
            spec,
            draw(rng, [n[c] for c in spec[0]], dtype),
            draw(rng, [n[c] for c in spec[1]], dtype),
        )


@pytest.mark.parametrize("seed", range(30))
def test_random_labels_lengths_and_strides(seed):
    rng = np.random.default_rng(seed)
    for _ in range(5):
        labels = "abcdef"[: rng.integers(1, 7)]
        a = "".join(rng.permutation([c for c in labels if rng.random() < 0.7]))
        y = "".join(rng.permutation([c for c in labels if c not in a or rng.random() < 0.6]))
        o = "".join(rng.permutation([c for c in sorted(set(a + y)) if rng.random() < 0.5]))
        n = {c: int(rng.integers(1, 6)) for c in labels}
        dtype = rng.choice([*FLOATS, "i4"])
        x, y_ = draw(rng, [n[c] for c in a], dtype), draw(rng, [n[c] for c in y], dtype)
        check((a, y, o), x, y_)


@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_lie_as_in_the_operand_where_that_makes_one_product(dtype):
    rng = np.random.default_rng(7)
    x, y = draw(rng, (64, 16), dtype), draw(rng, (64, 4, 4, 16), dtype)
    check(("ab", "acde", "edbc"), x, y)
    f = lowered(lambda x, y: contract(x, y, ("ab", "acde", "edbc")), x, y)
    assert next(s.note for s in f.steps if s.kind == "gemm").startswith("256x64 @ 64x16")


def test_empty_operands_give_zeros_or_nothing():
    check(("ij", "jk", "ik"), np.ones((3, 0)), np.ones((0, 2)))
    check(("ij", "jk", "ik"), np.ones((0, 3)), np.ones((3, 2)))
    check(("i", "i", ""), np.ones(0, "f4"), np.ones(0, "f4"))
    check(("bi", "bi", "b"), np.ones((2, 0), "i4"), np.ones((2, 0), "i4"))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_operands_that_repeat_themselves_are_not_multiplied_again(dtype):
    rng = np.random.default_rng(3)
    x, w, v = draw(rng, (6, 5), dtype), draw(rng, (5, 7), dtype), draw(rng, 5, dtype)
    cases = [
        (lambda x, w: np.broadcast_to(x, (4, 6, 5)) @ w, x, w),
        (lambda x, w: x @ np.broadcast_to(w, (3, 5, 7)), x, w),
        (lambda v, w: np.broadcast_to(v, (6, 5)) @ w, v, w),
        (lambda v, w: np.broadcast_to(v[:, None], (5, 6)).T @ w, v, w),
        (lambda s, w: np.broadcast_to(s, (6, 5)) @ w, x[0, 0], w),
        (lambda x, w: np.broadcast_to(x[:1], (6, 5)) @ np.broadcast_to(w[:, :1], (5, 7)), x, w),
        (
            lambda x, w: np.broadcast_to(x[:, None, :], (6, 3, 5)) @ np.broadcast_to(w, (6, 5, 7)),
            x,
            w,
        ),
    ]
    eps = np.finfo(dtype).eps
    for f, *args in cases:
        want = f(*args)
        for got in run_all(f, *args):
            assert got.shape == want.shape
            np.testing.assert_allclose(
                got, want, rtol=0, atol=60 * eps * np.max(abs(want), initial=1)
            )
    flops = sum(s.flops for s in lowered(cases[1][0], x, w).steps if s.kind == "gemm")
    assert flops == 2 * 6 * 5 * 7  # not three times


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_flipped_and_strided_operands(dtype):
    rng = np.random.default_rng(4)
    x, w = draw(rng, (12, 10), dtype), draw(rng, (10, 22), dtype)
    for f in (
        lambda x, w: x[::-1] @ w,
        lambda x, w: x[:, ::-1] @ w,
        lambda x, w: x @ w[::-1],
        lambda x, w: x @ w[:, ::-1],
        lambda x, w: x[::2, ::2] @ w[::2, ::3],
        lambda x, w: x[:, ::-2] @ w[::-2, ::-1],
        lambda x, w: w[:, :12].T @ x[:10],
        lambda x, w: w[:, 3] @ x.T[:, 5],
    ):
        want = f(x, w)
        for got in run_all(f, x, w):
            np.testing.assert_allclose(
                got, want, rtol=0, atol=40 * np.finfo(dtype).eps * np.max(abs(want))
            )


def test_mixed_and_weak_operands_take_the_result_s_dtype():
    rng = np.random.default_rng(5)
    x, w = draw(rng, (3, 4), "f4"), draw(rng, (4, 5), "f8")
    for args in ((x, w), (x.astype("i4"), w), (x, w > 0), (x > 0, w.astype("i8"))):
        want = args[0] @ args[1]
        for got in run_all(lambda x, w: x @ w, *args):
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=1e-6)
    want = np.outer(x[0], 2.0)
    for got in run_all(lambda x, s: np.outer(x, s), x[0], 2.0):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


def test_nan_and_infinity_pass_as_in_eager():
    x, w = np.ones((4, 20)), np.ones((20, 5))
    x[1, 2], x[2, 3], w[4, 4] = np.nan, np.inf, -np.inf
    for f in (lambda x, w: x @ w, lambda x, w: w.T @ x.T, lambda x, w: x @ w[:, 4]):
        with np.errstate(invalid="ignore"):
            want = f(x, w)
        for got in run_all(f, x, w):
            np.testing.assert_array_equal(got, want)


# ------------------------------------------------------------------------------------------- each multiplier by itself
@pytest.fixture(params=["BLAS", "BLOCKS", "DOTS", "PACKED"])
def who(request, monkeypatch):
    """Lets one of them multiply wherever it can."""
    for name in ("BLAS", "BLOCKS", "DOTS", "PACKED"):
        if name != request.param:
            monkeypatch.setattr(layouts, f"_{name.lower()}_seconds", lambda *a, **k: 1e9)
    return request.param


LENGTHS = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 24, 31, 33, 48, 49, 65, 100]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("spec", SPECS[:4], ids=",".join)
def test_all_lengths_around_the_blocks(spec, dtype, who):
    rng = np.random.default_rng(11)
    used = set()
    for m, n, k in [
        *zip(LENGTHS, LENGTHS[3:] + LENGTHS[:3], itertools.cycle((5, 1)), strict=False),
        *((m, n, 5) for m in (1, 3, 8) for n in LENGTHS[::3]),
        *((m, 11, k) for m in (1, 2, 9) for k in LENGTHS[::2]),
        (3, 50, 257), (9, 17, 513), (2, 3, 1000),
    ]:  # fmt: skip
        size = dict(zip("ikj", (m, n, k), strict=True))
        x, y = (
            draw(rng, [size[c] for c in spec[0]], dtype),
            draw(rng, [size[c] for c in spec[1]], dtype),
        )
        check(spec, x, y)
        used |= {
            s.note.split()[-1]
            for s in lowered(lambda x, y: contract(x, y, spec), x, y).steps
            if s.kind == "gemm"
        }
    if who == "BLAS":
        assert used == {"BLAS"}
    elif who == "PACKED":
        assert ("packed" in used) == layouts.PACKS
    elif spec == ("ij", "kj", "ik") or who == "BLOCKS":
        assert who.lower() in used


def test_nothing_beside_the_result_is_written_and_nothing_beside_an_operand_is_used(who):
    rng = np.random.default_rng(12)
    for m, n, k in itertools.product((1, 3, 8), (1, 5, 17, 33), (1, 4, 19)):
        x, w = draw(rng, (m, k), "f4"), draw(rng, (k, n), "f4")
        rooms = [np.full(v.size + 64, np.nan, "f4") for v in (x, w)]
        for room, v in zip(rooms, (x, w), strict=True):
            room[32:-32] = v.ravel()
        out = np.full(m * n + 64, 7, "f4")
        plan = lowered(np.matmul, x, w)
        plan(
            *(room[32:-32].reshape(v.shape) for room, v in zip(rooms, (x, w), strict=True)),
            out=out[32:-32].reshape(m, n),
        )
        np.testing.assert_allclose(out[32:-32].reshape(m, n), x @ w, rtol=0, atol=1e-4)
        assert np.all(out[:32] == 7)
        assert np.all(out[-32:] == 7)


AT_THE_END_OF_A_PAGE = """
import ctypes, itertools, mmap, sys
import numpy as np
from nnmath_core.program.compiled import compile
from nnmath_core.program.lower import layouts

for name in {"BLAS", "BLOCKS", "DOTS", "PACKED"} - {sys.argv[1]}:
    setattr(layouts, f"_{name.lower()}_seconds", lambda *a: 1e9)
libc = ctypes.CDLL(None, use_errno=True)
page = mmap.PAGESIZE
room = mmap.mmap(-1, 12 * page)
start = ctypes.addressof(ctypes.c_char.from_buffer(room))
for k in (3, 7, 11):
    assert libc.mprotect(ctypes.c_void_p(start + k * page), ctypes.c_size_t(page), 0) == 0
rng = np.random.default_rng(0)
for m, n, k, turned in itertools.product((1, 3, 8), (1, 5, 17, 33), (2, 4, 19), (False, True)):
    arrays = []
    for place, shape in zip((3, 7, 11), ((m, k), (n, k) if turned else (k, n), (m, n)), strict=True):
        size = shape[0] * shape[1]
        a = np.frombuffer(room, np.float32, size, place * page - 4 * size).reshape(shape)
        a[...] = rng.standard_normal(shape)
        arrays.append(a)
    x, w, out = arrays
    want = x.astype(float) @ (w.T if turned else w)
    f = (lambda x, w: np.einsum("ij,kj->ik", x, w)) if turned else np.matmul
    compile(f).plan(x, w)(x, w, out=out)
    assert np.allclose(out, want, rtol=0, atol=1e-4)
print("done")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect")
def test_nothing_behind_an_operand_is_read(who):
    """Operands and the result end where a page begins that nobody may touch."""
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_END_OF_A_PAGE, who],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stdout == "done\n", (done.returncode, done.stderr[-2000:])


def test_own_kernels_give_the_same_bits_on_any_number_of_threads(monkeypatch):
    rng = np.random.default_rng(13)
    monkeypatch.setattr(layouts, "_blas_seconds", lambda *a: 1e9)
    for m, n, k, b in [
        (50, 33, 70, 1),
        (3, 300, 40, 1),
        (5, 6, 7, 3),
        (64, 64, 300, 2),
        (1, 500, 20, 1),
    ]:
        for spec in (("bij", "bjk", "bik"), ("bij", "bkj", "bik"), ("bji", "bjk", "bik")):
            size = {"b": b, "i": m, "j": k, "k": n}
            x, y = (draw(rng, [size[c] for c in labels], "f4") for labels in spec[:2])
            results = run_all(lambda x, y, spec=spec: contract(x, y, spec), x, y)
            assert all(r.tobytes() == results[0].tobytes() for r in results)


def test_deterministic_plans_split_by_shape_alone(monkeypatch):
    for name in ("_blocks_seconds", "_packed_seconds"):
        monkeypatch.setattr(layouts, name, lambda *a: 1e9)
    rng = np.random.default_rng(14)
    for shape in ((700, 40), (3, 300, 40)):
        x, w = draw(rng, shape, "f4"), draw(rng, (*shape[:-2], 40, 30), "f4")
        results = run_all(np.matmul, x, w, deterministic=True)
        assert all(r.tobytes() == results[0].tobytes() for r in results)
        np.testing.assert_allclose(results[0], x @ w, rtol=0, atol=1e-4)


def test_one_thread_with_blas_gives_the_bits_of_one_call(monkeypatch):
    for name in ("_blocks_seconds", "_packed_seconds"):
        monkeypatch.setattr(layouts, name, lambda *a: 1e9)
    from scipy.linalg.blas import dgemm

    rng = np.random.default_rng(15)
    x, w = draw(rng, (300, 200), "f8"), draw(rng, (200, 100), "f8")
    with threadpool_limits(1):
        want = dgemm(1.0, w.T, x.T).T
        got = run_all(np.matmul, x, w, threads=1)[0]
    assert got.tobytes() == np.ascontiguousarray(want).tobytes()


# ------------------------------------------------------------------------------------------- packed
def packed(a, b, threads=1, guard=64):
    """The product by the packed kernel; around its scratch, which begins as NaN, nothing is written."""
    from nnmath_core._ext._plan import Executable

    (m, k), n, item = a.shape, b.shape[1], a.itemsize
    each = layouts.packed_scratch(item, m, n, k)
    room = np.full(each * threads // item + 2 * guard, np.nan, a.dtype)
    c = np.full((m, n + 3), 7, a.dtype)  # rows with something between them
    strides = [s // item for s in (*a.strides, *b.strides)]
    ints = [0 if item == 4 else 1, layouts.PACKED, each, m, n, k, *strides, n + 3, 0]
    bases = [
        whole(v) for v in (a, b)
    ]  # inputs are contiguous: memory, and where in it the first entry is
    refs = [
        (slot, v.__array_interface__["data"][0] - base.__array_interface__["data"][0])
        for slot, v, base in zip((1, 2), (a, b), bases, strict=True)
    ]
    arrays = [*bases, c, room]
    inputs = tuple((1 + i, v.shape, a.dtype.num, False) for i, v in enumerate(arrays))
    instruction = ("gemm", 0, [*refs, (3, 0), (4, guard * item)], ints, (), None, 0)
    outputs = ((5, (1,), a.dtype.num, -1),)
    Executable([instruction], 6, 0, {}, inputs, outputs, threads).run_split(arrays, threads)
    assert np.all(np.isnan(room[:guard]))
    assert np.all(np.isnan(room[-guard:]))
    assert np.all(c[:, n:] == 7)
    return c[:, :n]


def whole(v):
    """The array whose memory it is."""
    while v.base is not None:
        v = v.base
    return v


def laid(rng, shape, how, dtype):
    """A matrix in one of the ways it may lie."""
    m, n = shape
    if how == "rows":
        return draw(rng, (m, n), dtype)
    if how == "columns":
        return draw(rng, (n, m), dtype).T
    if how == "wide rows":
        return draw(rng, (m, n + 5), dtype)[:, 2 : n + 2]
    if how == "backwards":
        return draw(rng, (m, n), dtype)[::-1, ::-1]
    return draw(rng, (2 * m, 3 * n), dtype)[::2, ::3]


WAYS = ["rows", "columns", "wide rows", "backwards", "apart"]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_packed_products_equal_sums_at_all_edges_and_strides(dtype):
    rng = np.random.default_rng(21)
    deep = layouts.DEPTH * 4 // np.dtype(dtype).itemsize
    shapes = [
        *((m, 33, 20) for m in (*range(1, 16), 27, 28, 29)),
        *((15, n, 20) for n in (*range(1, 36), 63, 64, 65, 95)),
        *((15, 33, k) for k in (*range(1, 19), 31, 33, deep - 1, deep, deep + 1, 2 * deep + 5)),
        (5, layouts.COLUMNS - 1, 9), (5, layouts.COLUMNS + 1, deep + 3), (30, 2 * layouts.COLUMNS + 40, 30),
        (layouts.FEW + 1, 70, 17), (layouts.MOST_ROWS - 1, 33, 18), (layouts.MOST_ROWS + 1, 40, deep + 1),
        (2 * layouts.MOST_ROWS + 9, layouts.COLUMNS + 7, 5),
    ]  # fmt: skip
    ways = itertools.cycle(itertools.product(WAYS, WAYS))
    for (m, n, k), extra in itertools.product(shapes, range(3)):
        one, two = next(ways)
        a, b = laid(rng, (m, k), one, dtype), laid(rng, (k, n), two, dtype)
        wide = np.longdouble if dtype == "f8" else np.float64
        want, sizes = a.astype(wide) @ b.astype(wide), abs(a).astype("f8") @ abs(b).astype("f8")
        # a sum of k terms in any order is off by at most k eps of the sum of their magnitudes
        bound = (k + 8) * np.finfo(dtype).eps * sizes
        assert np.all(abs(packed(a, b) - want) <= bound), (m, n, k, one, two, extra)


def test_packed_products_of_nothing_are_zero():
    for m, n, k in itertools.product((0, 1, 3), (0, 1, 40), (0, 1)):
        got = packed(np.ones((m, k), "f4"), np.ones((k, n), "f4"))
        assert got.shape == (m, n)
        assert np.all(got == k)


def test_packed_products_keep_nan_and_infinity_in_their_rows_and_columns():
    rng = np.random.default_rng(22)
    a, b = draw(rng, (31, 50), "f4"), draw(rng, (50, 45), "f4")
    a[3, 7], a[17, 2], b[4, 40] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        want = a.astype("f8") @ b.astype("f8")
    for x, y in ((a, b), (np.ascontiguousarray(a.T).T, b), (a, np.ascontiguousarray(b.T).T)):
        # fifty products of at most 4 x 4, each rounded twice
        np.testing.assert_allclose(
            packed(x, y), want, rtol=0, atol=2 * 50 * 16 * np.finfo(np.float32).eps
        )


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_packed_products_have_the_same_bits_whatever_the_share(dtype):
    rng = np.random.default_rng(23)
    for m, n, k in [(70, 50, 900), (50, 470, 40), (3, 300, 400), (1100, 30, 20), (2, 2, 3)]:
        for one, two in itertools.product(("rows", "columns"), repeat=2):
            a, b = laid(rng, (m, k), one, dtype), laid(rng, (k, n), two, dtype)
            want = packed(a, b)
            for threads in (2, 3, 5):
                assert packed(a, b, threads).tobytes() == want.tobytes()
            # nor on what else is multiplied: rows and columns by themselves
            assert packed(a[1:2], b).tobytes() == want[1:2].tobytes()
            assert packed(a, b[:, :1]).tobytes() == want[:, :1].tobytes()


# ------------------------------------------------------------------------------------------- with derivatives
def test_layers_with_their_derivatives_need_no_python():
    rng = np.random.default_rng(16)
    x, w, c = draw(rng, (9, 6), "f4"), draw(rng, (6, 5), "f4"), draw(rng, 5, "f4")

    def loss(w, c, x):
        return np.sum(np.tanh(x @ w + c) ** 2)

    for f, args in [
        (nm.grad(loss, (0, 1, 2)), (w, c, x)),
        (lambda w, v, x: nm.jvp(lambda w: np.tanh(x @ w), (w,), (v,)), (w, w + 1, x)),
        (nm.vmap(nm.grad(lambda w, x: loss(w, c, x[None])), (None, 0)), (w, x)),
        (lambda w, v, x: nm.hvp(lambda w: loss(w, c, x), (w,), (v,)), (w, w * 2, x)),
    ]:
        plan = lowered(f, *args)
        assert "contract" not in [s.note for s in plan.steps if s.kind == "host"]
        want, _ = flatten(f(*args))
        for got in run_all(plan, *args):
            for a, b in zip(flatten(got)[0], want, strict=True):
                assert a.dtype == b.dtype
                np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * np.max(abs(b)))


def test_sizes_beyond_blas_go_to_the_own_kernel():
    huge = 2**31
    found = layouts.best_layout(
        np.dtype("f4"),
        {"i": huge * 4, "j": 4},
        {"j": 40, "k": 4},
        "ik",
        {"i": 3, "j": huge, "k": 10},
    )
    assert found.how in (layouts.BLOCKS, layouts.PACKED)
    assert not layouts._blas_can(3, 10, huge, huge, 1, 10, 1, 10)
