"""Factorisations, systems, transforms, functions of SciPy in a Plan: equal to eager, without Python, refused alike."""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from plans import IN_PYTHON, assert_same, lowered, rounding, run_all
from registry_checks import registry_cases
from test_compile_registry import value
from test_embed import NO_VALUE, OK, Face, address, pointers

import nnmath_core as nm
from nnmath_core.autodiff.ops.banded import banded_p
from nnmath_core.autodiff.ops.convolve import convolve_p
from nnmath_core.autodiff.ops.linalg import solve_triangular_p
from nnmath_core.autodiff.ops.matrix_functions import root_slope_p
from nnmath_core.autodiff.ops.norms import norm_p
from nnmath_core.autodiff.ops.riccati import care_p
from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.errors import GradientError

DTYPES = ["f4", "f8", "c8", "c16", "i4"]


# ------------------------------------------------------------------------------------ what is left in Python
@pytest.mark.parametrize("name", sorted(IN_PYTHON))
def test_what_is_done_in_python_is_what_the_documentation_names(name):
    """That nothing else is: `test_compile_registry` looks at every plan that it makes."""
    case = next(
        p.values[0] for p in registry_cases((np.float64,)) if p.values[0].primitive.name == name
    )
    f, args = value(case)
    assert [s.note for s in lowered(f, *args).steps if s.kind == "host"] == [name]
    assert f"`{name}`" in (Path(__file__).parents[1] / "docs/compile.md").read_text()


# ------------------------------------------------------------------------------------ equal to eager
def draw(seed, shape, dtype):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    x = rng.standard_normal(shape)
    if dtype.kind == "i":
        return rng.integers(-5, 6, shape).astype(dtype)
    return (x + 1j * rng.standard_normal(shape) if dtype.kind == "c" else x).astype(dtype)


def square(seed, n, dtype, *lead):
    """Diagonally dominant matrices, so that nothing is ill-conditioned."""
    a = draw(seed, (*lead, n, n), dtype)
    return a + np.asarray(4 * n * np.eye(n), a.dtype)


def positive(seed, n, dtype, *lead):
    """Hermitian and diagonally dominant."""
    a = square(seed, n, dtype, *lead)
    return a + np.conj(np.swapaxes(a, -1, -2))


def check(f, *args, scale=1.0):
    """Compiled equals eager, with shares of threads to the bit, and nothing is done in Python.

    Both call the same LAPACK; between them may lie the rounding of an intermediate value. BLAS's complex products have
    the same bits for parts of the rows that depend on the shape alone.
    """
    with np.errstate(all="ignore"):
        want = f(*args)
        plan = lowered(f, *args)
        first, *others = run_all(plan, *args, deterministic=any(map(np.iscomplexobj, args)))
    assert_same(first, want, rounding(64 * scale, terms=max(1, *(np.size(x) for x in args))))
    for other in others:
        assert_same(other, first, lambda want: 0.0)
    assert plan.cost.host == 0


LINALG = {
    "inv": np.linalg.inv,
    "det": np.linalg.det,
    "slogdet": lambda a: tuple(np.linalg.slogdet(a)),
    "svd": lambda a: tuple(np.linalg.svd(a, full_matrices=False)),
    "qr": lambda a: tuple(np.linalg.qr(a)),
    "solve": lambda a: np.linalg.solve(a, a[..., :2] + 1),
    "solve one": lambda a: np.linalg.solve(a, a[..., 0]) if a.ndim == 2 else np.linalg.inv(a),
    "eig": lambda a: (
        REGISTRY["eig"](a + 1j) if a.dtype.kind == "c" else REGISTRY["eig"](a * (1 + 0j))
    ),
    "pinv": np.linalg.pinv,
    "polar": lambda a: nm.linalg.polar(a)[0] if a.ndim == 2 else np.linalg.inv(a),
    "lu": lambda a: nm.linalg.lu_factor(a) if a.ndim == 2 else np.linalg.det(a),
    "expm": lambda a: nm.linalg.expm(a * 0.01),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LINALG)
def test_functions_of_matrices(name, dtype):
    if dtype == "i4" and name in ("eig", "pinv", "polar", "lu", "expm"):
        dtype = "f8"
    for k, (n, lead) in enumerate([(3, ()), (1, ()), (5, (4,)), (2, (2, 3)), (20, ())]):
        a = square(k, n, dtype, *lead)
        check(LINALG[name], (a, np.swapaxes(a, -1, -2), a[..., ::-1, ::-1])[k % 3], scale=16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["cholesky", "eigh", "eigvalsh"])
def test_functions_of_hermitian_matrices(name, dtype):
    f = getattr(np.linalg, name)
    for k, (n, lead) in enumerate([(3, ()), (1, ()), (5, (4,)), (2, (2, 3))]):
        check(lambda a: nm.tree_leaves(f(a)), positive(k, n, dtype, *lead), scale=16)
    check(lambda a: np.linalg.eigh(a, "U")[0], positive(9, 4, dtype), scale=16)


@pytest.mark.parametrize("full", [False, True])
def test_rectangular_matrices(full):
    for m, n, lead in [(5, 2, ()), (2, 5, (3,)), (4, 1, (2,)), (1, 3, ())]:
        for dtype in DTYPES[:4]:
            a = draw(m, (*lead, m, n), dtype)
            check(lambda a: tuple(np.linalg.svd(a, full_matrices=full)), a, scale=16)
            if m >= n:
                check(lambda a: tuple(np.linalg.qr(a)), a, scale=16)
            check(lambda a: nm.linalg.lu(a) if a.ndim == 2 else a, a, scale=16)


@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 0, 0), (0, 0)])
def test_empty_stacks_and_matrices(shape):
    a = np.zeros(shape)
    for f in (np.linalg.inv, np.linalg.det, lambda a: tuple(np.linalg.slogdet(a)), np.linalg.cholesky,
              lambda a: tuple(np.linalg.eigh(a)), lambda a: tuple(np.linalg.svd(a)),
              lambda a: tuple(np.linalg.qr(a)), lambda a: np.linalg.solve(a, a)):  # fmt: skip
        check(f, a)
    check(lambda a: tuple(np.linalg.svd(a, full_matrices=True)), np.zeros((3, 0)))


def test_a_matrix_that_repeats_is_not_copied():
    """A stack of one matrix has stride 0; the right-hand sides are their own."""
    a, y = square(0, 4, "f8"), draw(1, (6, 4, 2), "f8")
    check(np.linalg.solve, a, y, scale=16)
    kinds = [s.kind for s in lowered(np.linalg.solve, a, y).steps]
    assert kinds == ["gufunc"]


@pytest.mark.parametrize("dtype", DTYPES[:4])
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("unit", [False, True])
def test_triangular_systems(lower, unit, dtype):
    def f(a, y):
        return solve_triangular_p(a, y, lower=lower, unit=unit)

    for n, k, lead in [(4, 3, ()), (1, 1, ()), (6, 1, (3,)), (5, 17, ()), (3, 2, (2, 2))]:
        a, y = square(n, n, dtype, *lead), draw(k, (*lead, n, k), dtype)
        if unit:
            a = a / (8 * n)
        for x in (a, np.swapaxes(a, -1, -2), a[..., ::-1]):
            if unit or x is not a[..., ::-1]:
                check(f, x, y)
        check(lambda a, y: f(a, np.swapaxes(y, -1, -2)), a, np.swapaxes(y, -1, -2).copy())
    check(
        lambda a, y: f(a[::2, ::2], y),
        square(7, 8, dtype) / (32 if unit else 1),
        draw(8, (4, 2), dtype),
    )
    check(f, np.zeros((0, 0), dtype), np.zeros((0, 2), dtype))


@pytest.mark.parametrize("dtype", DTYPES[:4])
def test_banded_systems(dtype):
    for lower, upper, n, k, lead in [
        (1, 1, 6, 2, ()),
        (2, 0, 5, 1, (3,)),
        (0, 2, 4, 3, ()),
        (1, 1, 1, 1, ()),
    ]:
        ab = draw(n, (*lead, lower + upper + 1, n), dtype)
        ab[..., upper, :] += 8
        y = draw(k, (*lead, n, k), dtype)

        def f(ab, y, lower=lower, upper=upper):
            return banded_p(ab, y, lower=lower, upper=upper)

        if n > 1:
            check(f, ab, y)
        else:
            assert_same(nm.compile(f)(ab, y), f(ab, y), rounding())


@pytest.mark.parametrize("dtype", DTYPES[:4])
def test_sylvester_equations(dtype):
    for m, n, lead in [(3, 2, ()), (1, 1, ()), (4, 4, (2,))]:
        a, b, q = (
            square(m, m, dtype, *lead),
            square(n, n, dtype, *lead),
            draw(5, (*lead, m, n), dtype),
        )
        check(lambda a, b, q: REGISTRY["sylvester"](a, b, q), a, b, q, scale=16)
        check(root_slope_p, positive(m, m, dtype, *lead), square(2, m, dtype, *lead), scale=64)


# ------------------------------------------------------------------------------------ the exponential
@pytest.mark.parametrize("dtype", DTYPES[:4])
@pytest.mark.parametrize("size", [1e-9, 1e-2, 0.2, 0.9, 2.0, 5.0, 30.0])
def test_exponentials_of_every_size(size, dtype):
    """Each radius of the approximants; the error is eps times the condition, which grows with the norm."""
    for n in (1, 2, 7):
        a = draw(n, (3, n, n), dtype)
        a = (a / np.abs(a).sum(-2).max() * size).astype(dtype)
        got, want = (
            nm.compile(nm.linalg.expm)(a),
            scipy.linalg.expm(a.astype(np.result_type(a, "f8"))),
        )
        eps = np.finfo(a.dtype).eps
        assert got.dtype == a.dtype
        assert np.abs(got - want).max() <= 32 * n * (1 + size) * eps * np.exp(size)
        check(nm.linalg.expm, a, scale=32 * n * (1 + size))


def test_exponentials_of_special_matrices():
    assert np.array_equal(nm.compile(nm.linalg.expm)(np.zeros((3, 3))), np.eye(3))
    a = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    assert np.allclose(
        nm.compile(nm.linalg.expm)(a), [[1, 1, 0.5], [0, 1, 1], [0, 0, 1]], rtol=0, atol=1e-15
    )
    for bad in (np.nan, np.inf):
        for place in ((1, 2), (2, 0), (1, 1)):
            a = np.eye(3)
            a[place] = bad
            check(nm.linalg.expm, a)
            check(nm.linalg.expm, a.astype("c8"))
        a[0, 2] = a[2, 0] = 1.0
        check(nm.linalg.expm, a)
    for a in (
        np.triu(draw(1, (5, 5), "f8")),
        np.tril(draw(2, (5, 5), "c16")),
        np.diag(np.arange(4.0)),
        [[710.0]],
    ):
        check(
            nm.linalg.expm, np.asarray(a), scale=1000
        )  # of triangles SciPy takes part of the squares in closed form
        check(nm.linalg.expm, np.asarray(a) * 9 + np.triu(np.ones(np.shape(a)), 1), scale=1e5)


# ------------------------------------------------------------------------------------ transforms
@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", "i4"])
@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
def test_transforms(norm, dtype):
    for k, shape in enumerate([(7,), (1,), (4, 6), (3, 5, 8)]):
        x = draw(k, shape, dtype)
        for axis in range(-1, len(shape) - 1):
            y = (x, x[::-1], np.asfortranarray(x))[axis]
            check(lambda y, a=axis: [f(y, axis=a, norm=norm) for f in (np.fft.fft, np.fft.ifft)], y)
            if y.dtype.kind != "c":
                check(lambda y, a=axis: np.fft.rfft(y, axis=a, norm=norm), y)
            check(lambda y, a=axis: [np.fft.irfft(y, n, axis=a, norm=norm) for n in (4, 5)], y)
    check(lambda x: np.fft.fftn(x, norm=norm), draw(1, (3, 4, 5), dtype))
    check(lambda x: np.fft.ifft2(x, norm=norm), draw(1, (3, 4, 5), dtype))
    check(lambda x: np.fft.fft(x, 9, norm=norm), draw(1, (3, 4), dtype))
    check(lambda x: np.fft.fft(x, axis=1, norm=norm), np.zeros((0, 4), dtype))


def test_a_gradient_through_transforms():
    x = draw(0, (5, 12), "f8")

    def f(x):
        return np.sum(np.abs(np.fft.rfft(x)) ** 2 * np.arange(7.0)) + np.sum(
            np.fft.irfft(np.fft.rfft(x) ** 2) ** 2
        )

    check(nm.value_and_grad(f), x)


# ------------------------------------------------------------------------------------ convolutions
@pytest.mark.parametrize("dtype", [*DTYPES, "?"])
@pytest.mark.parametrize("full", [False, True])
def test_convolutions(full, dtype):
    cases = [
        (("", "", ""), (9,), (4,)), (("", "", ""), (4,), (4,)), (("b", "", "b"), (3, 9), (2,)),
        (("b", "b", "b"), (3, 9), (3, 5)), (("bc", "cd", "bd"), (2, 3, 6), (3, 4, 5)),
        (("", "", ""), (6, 7), (2, 3)), (("a", "b", "ba"), (2, 5, 5), (3, 2, 4)), (("", "a", ""), (6,), (2, 3)),
    ]  # fmt: skip
    for k, (spec, x, y) in enumerate(cases):
        a, c = (
            draw(k + i, s, "i4").astype(bool) if dtype == "?" else draw(k + i, s, dtype)
            for i, s in enumerate((x, y))
        )
        check(lambda a, c, spec=spec: convolve_p(a, c, spec=spec, full=full), a, c)
        check(lambda a, c, spec=spec: convolve_p(a[..., ::-1], c, spec=spec, full=full), a, c)
    if full:
        check(lambda a, c: convolve_p(a, c, spec=("", "", ""), full=True), a, np.ones(11, a.dtype))


# ------------------------------------------------------------------------------------ norms
@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", "i4"])
def test_norms_of_long_rows_and_extreme_entries(dtype):
    for shape, axis in [
        ((5,), (0,)),
        ((3, 40_000), (1,)),
        ((40_000,), (0,)),
        ((2, 3, 4), (0, 2)),
        ((0, 3), (0,)),
    ]:
        x = draw(1, shape, dtype)
        check(lambda x, a=axis: norm_p(x, axis=a, keepdims=False), x)
        if x.dtype.kind == "i" or not x.size:
            continue
        info = np.finfo(x.dtype)
        for size in (np.sqrt(info.tiny) / 4, np.sqrt(info.max) / 2):
            check(
                lambda x, a=axis, size=size: norm_p(x, axis=a, keepdims=True) / size,
                (x * size).astype(x.dtype),
            )
        for special in (np.nan, np.inf, -np.inf):
            y = x.copy()
            y.flat[0] = special
            check(lambda x, a=axis: norm_p(x, axis=a, keepdims=False), y)
    assert (
        norm_p(np.zeros(3), axis=(0,), keepdims=False)
        == nm.compile(np.linalg.norm)(np.zeros(3))
        == 0
    )


# ------------------------------------------------------------------------------------ what has no value
SINGULAR = np.array([[1.0, 2.0], [2.0, 4.0]])
NAN = np.array([[1.0, np.nan], [2.0, 4.0]])
REFUSED = {
    "inv": (np.linalg.inv, SINGULAR),
    "solve": (lambda a: np.linalg.solve(a, a), SINGULAR),
    "one of a stack": (np.linalg.inv, np.stack([np.eye(2), SINGULAR, np.eye(2)])),
    "cholesky": (np.linalg.cholesky, -np.eye(3)),
    "eig": (nm.numpy.linalg.eig, NAN),
    "eigvals": (nm.numpy.linalg.eigvals, np.full((2, 2), np.inf)),
    "eigvalsh": (np.linalg.eigvalsh, np.full((3, 3), np.inf)),
    "svd": (np.linalg.svd, np.full((3, 2), np.nan)),
    "pinv": (np.linalg.pinv, np.full((3, 2), np.nan)),
    "triangular": (
        lambda a: solve_triangular_p(a, a, lower=True, unit=False),
        np.tril(np.ones((3, 3)), -1),
    ),
    "banded": (lambda a: banded_p(a, a.T, lower=1, upper=1), np.zeros((3, 3))),
    "banded, NaN": (lambda a: banded_p(a, a.T, lower=1, upper=1), np.full((3, 3), np.nan)),
    "sylvester, NaN": (lambda a: REGISTRY["sylvester"](a, a, a), np.full((3, 3), np.nan)),
    "gradient of vectors": (nm.grad(lambda a: np.linalg.eigh(a)[1][0, 1]), np.eye(2)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_eager_refuses_a_run_refuses_with_the_same_words(name):
    f, bad = REFUSED[name]
    with np.errstate(all="ignore"):
        with pytest.raises((np.linalg.LinAlgError, ValueError, GradientError)) as eager:
            f(bad)
        compiled = nm.compile(f)
        assert compiled.plan(bad).cost.host == 0
        for _ in range(2):
            with pytest.raises(type(eager.value)) as ours:
                compiled(bad)
            assert str(ours.value) == str(eager.value)
        good = square(0, bad.shape[-1], "f8")[: bad.shape[-2]]
        good = np.diag([1.0, 3.0]) if name.startswith("gradient") else good
        if bad.ndim == 2:  # the next run is not disturbed
            good = np.tril(good) if name == "triangular" else good
            good = good + good.T if name in ("cholesky", "eigvalsh") else good
            assert_same(compiled(good), f(good), rounding(1024))


@pytest.mark.parametrize("name", ["det", "slogdet"])
def test_singular_matrices_that_have_a_value(name):
    f = lambda a: nm.tree_leaves(getattr(np.linalg, name)(a))  # noqa: E731
    for a in (SINGULAR, NAN, np.zeros((3, 3)), np.full((2, 2), np.inf)):
        check(f, a)
        with np.errstate(all="ignore"):
            want = nm.grad(lambda a: np.sum(f(a)[-1]))(a)
            assert_same(nm.compile(nm.grad(lambda a: np.sum(f(a)[-1])))(a), want, rounding())


def test_solutions_where_the_matrix_is_not_finite_are_those_of_eager():
    a = np.stack([np.eye(3), np.full((3, 3), np.nan)])
    check(np.linalg.inv, a)
    check(lambda a: np.linalg.solve(a, a), a)


def test_a_refusal_ends_loops_and_a_branch_that_is_not_taken_refuses_nothing():
    def f(flag, a):
        return nm.cond(flag, np.linalg.inv, lambda a: a + 1.0, a)

    g = nm.compile(f)
    assert np.array_equal(g(False, SINGULAR), SINGULAR + 1.0)
    with pytest.raises(np.linalg.LinAlgError, match="Singular matrix"):
        g(True, SINGULAR)

    def steps(a):
        return nm.scan(lambda c, _: (np.linalg.inv(c - np.eye(2)), None), a, None, 4)[0]

    a = np.diag([3.0, 4.0])
    with pytest.raises(np.linalg.LinAlgError) as eager:
        steps(np.diag([2.0, 4.0]))  # the inverse of 1 is 1: the second difference is 0
    with pytest.raises(np.linalg.LinAlgError, match=str(eager.value)):
        nm.compile(steps)(np.diag([2.0, 4.0]))
    assert_same(nm.compile(steps)(a), steps(a), rounding())


def test_threads_that_run_a_plan_are_refused_each_for_itself():
    plan = nm.compile(np.linalg.inv).plan(np.eye(8))
    seen = []

    def work(bad):
        for _ in range(200):
            try:
                plan(np.zeros((8, 8)) if bad else np.eye(8))
                seen.append(not bad)
            except np.linalg.LinAlgError:
                seen.append(bad)

    threads = [threading.Thread(target=work, args=(k % 2,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(seen) == 800
    assert all(seen)


def test_the_root_of_a_singular_matrix_has_an_infinite_slope():
    t = np.array([[1.0, 2.0], [0.5, 3.0]])
    for y in (np.diag([1.0, 0.0]), np.zeros((2, 2)), np.array([[0.0, 1.0], [0.0, 0.0]]), NAN):
        check(root_slope_p, y, t)
        check(root_slope_p, np.stack([y, np.eye(2)]), np.stack([t, t]))


# ------------------------------------------------------------------------------------ no Python in a run
def everything(a, x):
    """Each kind of instruction of this page, in one number."""
    w, v = np.linalg.eigh(a + a.T)
    u, s, vh = np.linalg.svd(a)
    q, r = np.linalg.qr(a)
    parts = [
        w, v, u, s, vh, q, r, np.linalg.inv(a), np.linalg.det(a), np.linalg.cholesky(a @ a.T), np.linalg.pinv(a),
        nm.linalg.expm(a * 0.1), nm.linalg.solve_triangular(a, x), np.real(nm.numpy.linalg.eig(a)[0]),
        banded_p(a[:3], a[:, :2], lower=1, upper=1), REGISTRY["sylvester"](a, a, a), nm.linalg.lu(a)[2],
        np.abs(np.fft.fft(x)), np.fft.irfft(np.fft.rfft(x)), np.convolve(x, x), nm.special.jv(0.5, x * x),
        nm.special.spherical_jn(2, x), nm.special.betainc(2.0, x * x, 0.25), np.linalg.norm(x),
    ]  # fmt: skip
    return sum(np.sum(p * p) for p in parts)


def test_a_run_of_everything_needs_no_gil():
    """The thread that waits holds the GIL until the result is there: a run that wanted it would never end."""
    n = 6
    a, x = square(0, n, "f8"), draw(1, (n,), "f8")
    plan = nm.compile(everything).plan(a, x)
    assert plan.cost.host == 0
    assert np.isclose(plan(a, x), everything(a, x), rtol=1e-10)
    y = np.full((), -1.0)
    at = address(plan)
    face, inputs, outputs = Face.from_address(at), pointers([a, x]), pointers([y])
    started = threading.Event()

    def work():
        started.set()
        face.run(at, inputs, outputs, None)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(100.0)
    thread = threading.Thread(target=work)
    try:
        thread.start()
        started.wait()
        spins = 0
        # the other thread lets go of the GIL when it calls C, and this one never does again
        while y[()] == -1.0 and spins < 50_000_000:
            spins += 1
        assert y[()] == plan(a, x)
    finally:
        sys.setswitchinterval(interval)
        thread.join()


def test_a_refusal_is_a_code_in_c():
    plan = nm.compile(np.linalg.inv).plan(np.eye(2))
    at, y = address(plan), np.empty((2, 2))
    run = Face.from_address(at).run
    assert run(at, pointers([SINGULAR]), pointers([y]), None) == NO_VALUE
    assert run(at, pointers([np.eye(2) * 4]), pointers([y]), None) == OK
    assert np.array_equal(y, np.eye(2) / 4)


# ------------------------------------------------------------------------------------ cost
def test_operations_are_counted_as_in_the_books():
    n = 30
    a = np.eye(n)

    def flops(f, *args):
        return lowered(f, *args).cost.flops

    assert flops(np.linalg.cholesky, a) == pytest.approx(n**3 / 3)
    assert flops(np.linalg.det, a) == pytest.approx(2 * n**3 / 3)
    assert flops(np.linalg.inv, a) == pytest.approx(2 * n**3)
    assert flops(np.linalg.solve, a, a[:, :4]) == pytest.approx(2 * n**3 / 3 + 8 * n * n)
    assert flops(np.linalg.cholesky, a.astype(complex)) == pytest.approx(4 * n**3 / 3)
    assert flops(np.linalg.cholesky, np.broadcast_to(a, (7, n, n))) == pytest.approx(7 * n**3 / 3)
    x = np.ones((5, 64), complex)
    assert flops(np.fft.fft, x) == pytest.approx(5 * 5 * 64 * 6)


def test_functions_with_rules_of_their_own_are_recorded():
    f = nm.custom_rule(
        lambda x: (np.sin(x), x.sum()), jvp=lambda xs, ts: (np.cos(xs[0]) * ts[0], ts[0].sum())
    )
    g = nm.custom_rule(lambda x: f(x)[0] * 2, jvp=lambda xs, ts: np.cos(xs[0]) * 2 * ts[0])
    x = draw(0, (5,), "f8")
    check(lambda x: (f(x), g(x), nm.grad(lambda x: np.sum(g(x)))(x)), x)
    check(nm.vmap(g), x)


def test_a_function_that_python_decides_stays_in_python():
    a, b, q, r = -np.eye(2), np.ones((2, 1)), np.eye(2), np.eye(1)
    plan = lowered(care_p, a, b, q, r)
    assert plan.cost.host == 1
    assert_same(nm.compile(care_p)(a, b, q, r), care_p(a, b, q, r), rounding())
