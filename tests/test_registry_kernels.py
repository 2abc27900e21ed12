"""The C kernels for small arrays are invisible: NumPy's values, dtypes and floating-point warnings."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from registry_checks import assert_close, pullback, registry_cases, smooth

import nnmath_core as nm
from nnmath_core._ext import _autodiff
from nnmath_core.autodiff.primitive import REGISTRY

DTYPES = (np.float32, np.float64)
SIZES = (0, 1, 2, 7, 8, 9, 127, 128, 129, 512, 513)
UNARY = [p for p in REGISTRY.values() if p.unary]
BINARY = [p for p in REGISTRY.values() if p.binary]

LIBM = {"exp", "expm1", "log", "log1p", "tanh", "sin", "cos"}
"""libm's are off by less than 1 unit in the last place (our tanh by 3), NumPy's vector versions by up to 4."""

VECTOR = 3 + 4

by_name = {"ids": lambda p: p.name}


@pytest.fixture(autouse=True)
def restored_switch():
    before = _autodiff.set_small_kernels(True)
    yield
    _autodiff.set_small_kernels(before)


def with_and_without(f):
    """Return f() with kernels and with NumPy alone."""
    results = []
    for on in (True, False):
        _autodiff.set_small_kernels(on)
        results.append(f())
    return results


def assert_same(got, want, ulps, what=""):
    """Assert equal type, dtype and shape, and values to some units in the last place (0: bits)."""
    assert type(got) is type(want), f"{what}: {type(got)} and {type(want)}"
    assert got.dtype == want.dtype, what
    assert got.shape == want.shape, what
    if ulps == 0:
        assert np.array_equal(got, want, equal_nan=True), f"{what}: {got!r} and {want!r}"
        number = ~np.isnan(want)
        assert np.array_equal(np.signbit(got)[number], np.signbit(want)[number]), what
    else:
        close = {"rtol": ulps * np.finfo(want.dtype).eps, "err_msg": what}
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(got, want, **close)


def operand(p, rng, n, dtype):
    x = rng.uniform(0.1, 3.0, n)
    return (x if p.name in ("log", "log1p", "sqrt") else x - 1.5).astype(dtype)


def test_the_switch_switches():
    assert UNARY
    assert BINARY
    assert _autodiff.set_small_kernels(False) is True
    assert _autodiff.set_small_kernels(True) is False
    x = np.linspace(0.1, 5.0, 200)
    a, b = with_and_without(lambda: REGISTRY["tanh"](x))
    # if these are ever the same bits, the test of the switch needs another function
    assert not np.array_equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", UNARY, **by_name)
def test_unary_kernel_has_numpys_values(p, dtype):
    rng = np.random.default_rng(1)
    for n in SIZES:
        x, t = operand(p, rng, n, dtype), rng.standard_normal(n).astype(dtype)
        a, b = with_and_without(lambda: p(x))  # noqa: B023
        assert_same(a, b, VECTOR if p.name in LIBM else 0, f"size {n}")
        a, b = with_and_without(lambda: nm.jvp(p, (x,), (t,)))  # noqa: B023
        assert_same(a[0], b[0], VECTOR if p.name in LIBM else 0, f"size {n}, traced")
        assert_tangent(p, a[1], b[1], t, f"size {n}, jvp")
        a, b = with_and_without(lambda: nm.vjp(p, x)[1](t)[0])  # noqa: B023
        assert_tangent(p, a, b, t, f"size {n}, vjp")


def assert_tangent(p, got, want, t, what):
    if p.name not in LIBM:
        assert_same(got, want, 0, what)
        return
    assert got.dtype == want.dtype
    # 1 - tanh(x)**2 and its like lose the relative error of the value: absolute, in units of t
    bound = 16 * np.finfo(want.dtype).eps * np.abs(t) * np.maximum(1, np.abs(want / t))
    assert np.all(np.abs(got - want) <= bound), what


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", BINARY, **by_name)
def test_binary_kernel_has_numpys_bits(p, dtype):
    rng = np.random.default_rng(2)
    for n in SIZES:
        x, y = (rng.standard_normal(n).astype(dtype) for _ in range(2))
        s, t = (rng.standard_normal(n).astype(dtype) for _ in range(2))
        for a, b in ((x, y), (x, 0.3), (0.3, y), (x, 2), (3, y), (x, dtype(0.3)), (dtype(7), y)):
            got, want = with_and_without(lambda: p(a, b))  # noqa: B023
            assert_same(got, want, 0, f"size {n}, {type(a)} and {type(b)}")
        got, want = with_and_without(lambda: nm.jvp(p, (x, y), (s, t)))  # noqa: B023
        assert_same(got[1], want[1], 0, f"size {n}, jvp")
        got, want = with_and_without(lambda: nm.vjp(p, x, y)[1](t))  # noqa: B023
        for g, w in zip(got, want, strict=True):
            assert_same(g, w, 0, f"size {n}, vjp")


@pytest.mark.parametrize("case", registry_cases(keep=smooth))
def test_no_derivative_depends_on_the_kernels(case):
    ts, gs = (case.randoms(v, case.rng) for v in (case.point, case.value))
    on, off = with_and_without(
        lambda: (*nm.jvp(case.f, case.point, ts), pullback(case)(gs, *case.point))
    )
    for got, want in zip(on, off, strict=True):
        for a, b in zip(got, want, strict=True):
            assert a.dtype == b.dtype
            assert_close(a, b, case.bound(b), "kernels on and off")


@pytest.mark.parametrize("dtype", DTYPES)
def test_sum_kernel_has_numpys_bits(dtype):
    rng = np.random.default_rng(3)
    for n in SIZES:
        x = rng.standard_normal(n).astype(dtype)
        got, want = with_and_without(lambda: nm.value_and_grad(np.sum)(x))  # noqa: B023
        assert_same(got[0], want[0], 0, f"size {n}")
        assert_same(got[0], np.sum(x), 0, f"size {n}")
        assert_same(got[1], want[1], 0, f"size {n}, gradient")
        square = x[: n // 2 * 2].reshape(2, -1)
        got, want = with_and_without(lambda: nm.value_and_grad(np.sum)(square))  # noqa: B023
        assert_same(got[0], np.sum(square), 0, f"size {n}, two rows")


SCALARS = (2, -1, True, 1 << 24, 1 << 25, 0.1, 1e300, -0.0, np.inf, np.nan,
           np.float64(0.1), np.float32(0.1), np.int64(3), np.bool_(True))  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scalar", SCALARS, ids=lambda s: f"{type(s).__name__}-{s}")
@pytest.mark.parametrize("p", BINARY, **by_name)
def test_scalar_beside_an_array_means_what_it_means_in_numpy(p, scalar, dtype):
    x = np.array([1.5, -0.25, 3.0], dtype)
    if p.name == "subtract" and isinstance(scalar, (bool, np.bool_)):
        scalar = int(scalar)
    for a, b in ((x, scalar), (scalar, x), (dtype(1.5), scalar), (scalar, dtype(1.5))):
        got, want = (outcome(lambda f=f: f(a, b)) for f in (p, p.host))  # noqa: B023
        assert_same_outcome(got, want)


def outcome(f):
    """Return what f returns or raises, and the floating-point warnings it gives."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            value = f()
        except FloatingPointError as e:
            return "raises", str(e)
    return value, sorted(str(w.message) for w in seen)


def assert_same_outcome(got, want, ulps=0):
    assert got[1] == want[1], f"{got} and {want}"
    if isinstance(want[0], str):
        assert got[0] == want[0]
    else:
        assert_same(got[0], want[0], ulps)


@pytest.mark.parametrize("p", [*UNARY, *BINARY], **by_name)
def test_arrays_that_kernels_do_not_take_go_to_numpy(p):
    rng = np.random.default_rng(4)
    k = len(p.vjp)
    plain = [operand(p, rng, 24, np.float64).reshape(4, 6) + 2.0 for _ in range(k)]
    for spoil in (
        lambda x: x[:, ::2],
        lambda x: x.T,
        lambda x: x[::-1],
        lambda x: x.astype(">f8"),
        lambda x: x.astype(np.float16),
        lambda x: x.astype(np.longdouble),
        lambda x: x[0, 0],
        lambda x: np.asarray(x[0, 0]),
        lambda x: x[:0],
        lambda x: read_only(x),
        lambda x: unaligned(x),
    ):
        xs = [spoil(x) for x in plain]
        assert_same(p(*xs), p.host(*xs), VECTOR if p.name in LIBM else 0)
        assert all(np.array_equal(spoil(x), y) for x, y in zip(plain, xs, strict=True))


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def unaligned(x):
    raw = np.zeros(x.nbytes + 1, np.uint8)
    y = raw[1:].view(x.dtype).reshape(x.shape)
    y[...] = x
    return y


def edge_values(dtype, p):
    f = np.finfo(dtype)
    values = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, f.max, -f.max, f.tiny,
              float(f.smallest_subnormal), 90.0, -90.0, 720.0, -720.0, -750.0, 1e5, 0.5]  # fmt: skip
    with np.errstate(over="ignore", under="ignore"):
        values = np.array(values).astype(dtype)
    if p.name in ("maximum", "minimum", "relu"):
        values = values[~((values == 0) & np.signbit(values))]  # which zero wins, nobody promises
    return values


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", UNARY, **by_name)
def test_unary_kernel_has_numpys_edges_and_warnings(p, dtype):
    """Underflow, which NumPy ignores by default, is raised by libm and by NumPy as each likes."""
    for v in edge_values(dtype, p):
        for n in (1, 8, 129):
            x = np.full(n, operand(p, np.random.default_rng(5), 1, dtype)[0])
            x[-1] = v
            for state in ("ignore", "warn", "raise"):
                with np.errstate(all=state, under="ignore" if p.name in LIBM else state):
                    got, want = outcome(lambda: p(x)), outcome(lambda: p.host(x))  # noqa: B023
                    assert_same_outcome(got, want, VECTOR if p.name in LIBM else 0)
                    if state == "ignore":
                        assert got[1] == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", BINARY, **by_name)
def test_binary_kernel_has_numpys_edges_and_warnings(p, dtype):
    for a in edge_values(dtype, p):
        for b in edge_values(dtype, p):
            x, y = np.full(3, 1.0, dtype), np.full(3, 2.0, dtype)
            x[-1], y[-1] = a, b
            for state in ("warn", "raise"):
                with np.errstate(all=state):
                    assert_same_outcome(outcome(lambda: p(x, y)), outcome(lambda: p.host(x, y)))  # noqa: B023
                    got, want = (outcome(lambda f=f: f(x, float(b))) for f in (p, p.host))  # noqa: B023
                    assert_same_outcome(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", UNARY, **by_name)
def test_derivatives_warn_with_kernels_as_without(p, dtype):
    """Divide, invalid and overflow; a rule that NumPy runs in three steps may underflow in more."""
    for v in edge_values(dtype, p):
        x = np.array([0.5, v], dtype)
        one = np.ones(2, dtype)
        with np.errstate(divide="raise", invalid="raise", over="raise", under="ignore"):
            for f in (lambda: nm.vjp(p, x)[1](one)[0], lambda: nm.jvp(p, (x,), (one,))[1]):  # noqa: B023
                got, want = with_and_without(lambda: outcome(f))  # noqa: B023
                assert_same_outcome(got, want, 64 if p.name in LIBM else 0)


def test_a_warning_is_given_once_and_says_what_numpy_says():
    x = np.array([0.0, 1.0])
    with pytest.warns(RuntimeWarning, match="divide by zero encountered in log") as seen:
        REGISTRY["log"](x)
    assert len(seen) == 1
    with np.errstate(all="raise"), pytest.raises(FloatingPointError, match="divide by zero"):
        nm.grad(lambda x: np.sum(np.log(x)))(x)
    with np.errstate(divide="ignore"):
        assert np.isinf(nm.grad(lambda x: np.sum(np.log(x)))(x)[0])


def test_floating_point_flags_left_by_others_change_nothing():
    x = np.array([0.5, 1.0])
    with np.errstate(all="ignore"):
        np.log(np.array([-1.0, 0.0]))
        np.array([1e300]) * 1e300
    with np.errstate(all="raise"):
        assert_same(REGISTRY["multiply"](x, x), x * x, 0)
        assert_same(REGISTRY["sqrt"](x), np.sqrt(x), 0)


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="no wider type to compare with")
@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_is_off_by_less_than_three_units_in_the_last_place(dtype):
    rng = np.random.default_rng(0)
    tanh = REGISTRY["tanh"]
    tiny = float(np.finfo(dtype).tiny)
    for scale in (tiny, 1e-8, 1e-3, 0.1, 0.3, 0.5, 1.0, 3.0, 10.0, 25.0):
        x = (scale * rng.uniform(-1, 1, (200, 500))).astype(dtype)
        for row in x:
            got, want = tanh(row), np.tanh(row.astype(np.longdouble))
            ulp = np.spacing(np.abs(want).astype(dtype)).astype(np.longdouble)
            assert np.abs((got - want) / ulp).max() < 3
            assert np.array_equal(tanh(-row), -got)


def test_tanh_gives_the_same_bits_on_every_instruction_set():
    code = (
        "import numpy as np, nnmath_core as nm\n"
        "x = np.random.default_rng(0).normal(size=500)\n"
        "print(nm.numpy.tanh(x).tobytes().hex(), nm.numpy.tanh(x.astype(np.float32)).tobytes().hex())"
    )
    printed = set()
    for isa in ("baseline", _autodiff.kernel_isa()):
        run = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "NNMATH_ISA": isa},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        printed.add(run.stdout)
    assert len(printed) == 1
