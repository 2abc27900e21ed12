"""The loops of the elementwise machine: accuracy, special values, operands, reductions, casts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import vector_math_measure as measured

from nnmath_core._ext import _cpu, _vector
from nnmath_core.errors import DtypeError, ShapeError

REAL = [np.float32, np.float64]
ISAS = [isa for isa in ("baseline", "v3", "v4") if _cpu.runs_here(isa)]
_results: dict[str, dict] = {}


def results(isa):
    """What vector_math_measure.py prints under an instruction set, in a process of its own."""
    if isa not in _results:
        done = subprocess.run(
            [sys.executable, measured.__file__],
            env={
                **os.environ,
                "NNMATH_ISA": isa,
                "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if "was not compiled" in done.stderr:
            pytest.skip(f"{isa} was not compiled")
        assert done.returncode == 0, done.stderr
        _results[isa] = json.loads(done.stdout)
        assert _results[isa]["isa"] == isa
    return _results[isa]


# ------------------------------------------------------------------------------------------------ accuracy


@pytest.mark.parametrize("isa", ISAS)
def test_every_function_is_within_its_bound(isa):
    """Bounds are half a unit for the last rounding, and as much for each of those before that the function keeps."""
    worst = results(isa)["worst"]
    bounds = {name: row[3] for name, row in measured.UNARY.items()} | {
        "power": measured.POWER_BOUND
    }
    assert set(worst) == set(bounds)
    beyond = {
        (name, dtype): (error, bound)
        for name in bounds
        for (dtype, error), bound in zip(worst[name].items(), bounds[name], strict=True)
        if not error <= bound
    }
    assert not beyond


def test_every_loop_of_mathematics_is_measured():
    unary = {name for name, (ins, outs) in _vector.names().items() if ins == outs == "r"}
    assert unary == set(measured.UNARY) | set(measured.PLAIN) - {"isnan", "isinf", "isfinite"}


def test_the_measure_sees_an_error_of_one_unit():
    x = np.linspace(1, 2, 100)
    exact = np.exp(x.astype(np.longdouble))
    assert measured.ulps(np.exp(x), exact) < 1
    assert 1.4 < measured.ulps(np.nextafter(np.nextafter(np.exp(x), 0), 0), exact) < 3
    assert measured.ulps(np.where(x > 1.9, np.nan, np.exp(x)), exact) == np.inf


def test_the_table_has_the_values_at_some_points():
    """The reference file belongs to its arguments: the closed values are those of SciPy."""
    table = json.loads(measured.REFERENCE.read_text())["values"]
    for name in measured.TABULATED:
        x = measured.table_points(name)
        assert len(table[name]) == x.size > 600
        want = measured.UNARY[name][0](x)
        got = np.array([float(v) for v in table[name]])
        near = np.isfinite(want) & (np.abs(x) < 5) & (x > -2)
        np.testing.assert_allclose(got[near], want[near], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("isa", ISAS)
def test_special_values_are_those_of_numpy_and_scipy_and_blocks_do_not_matter(isa):
    assert results(isa)["wrong"] == []


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_huge_angles_are_exact_too(name, dtype):
    x = np.array([1e6, 999999.9, 1000000.1, 1e15, 1e22, 3e38, -1e22, 0.5], dtype)
    wide = np.float64 if dtype is np.float32 else np.longdouble
    exact = getattr(np, name)(x.astype(wide))
    assert measured.ulps(_vector.apply(name, x), exact) <= 3  # tan: a quotient of two functions


@pytest.mark.parametrize("dtype", REAL)
def test_angles_beside_multiples_of_a_right_angle_keep_their_digits(dtype):
    """There all leading digits cancel: the worst case of the reduction of angles."""
    k = np.concatenate(
        [np.arange(1, 2000), np.random.default_rng(0).integers(2000, 636_000, 20_000)]
    )
    x = (k * (np.longdouble(np.pi) + np.longdouble(1.2246467991473532e-16)) / 2).astype(dtype)
    wide = np.float64 if dtype is np.float32 else np.longdouble
    for name in ("sin", "cos", "tan"):
        bound = max(measured.UNARY[name][3])
        assert measured.ulps(_vector.apply(name, x), getattr(np, name)(x.astype(wide))) <= bound
        assert measured.ulps(_vector.apply(name, -x), getattr(np, name)(-x.astype(wide))) <= bound


@pytest.mark.parametrize("dtype", REAL)
def test_powers_of_negative_numbers_follow_c(dtype):
    x = np.array(
        [-2, -2, -2, -0.0, -0.0, -0.0, -0.0, -1, 0, 0, -2, -3, np.nan, 1, -np.inf, -np.inf, 0.5],
        dtype,
    )
    y = np.array([3, 2, 0.5, 3, 2, -3, 0.5, 1e30, -1, 0, -3, 5, 0, np.nan, 3, -3, np.inf], dtype)
    want = [-8, 4, np.nan, -0.0, 0, -np.inf, 0, 1, np.inf, 1, -0.125, -243, 1, 1, -np.inf, -0.0, 0]
    got = _vector.apply("power", x, y)
    np.testing.assert_array_equal(got, np.array(want, dtype))
    np.testing.assert_array_equal(np.signbit(got), np.signbit(np.array(want, dtype)))
    # every exponent from 2^21 to 2^25 (2^50 to 2^54) in which numbers are integers and may be odd
    for power in (21, 22, 23, 24, 25) if dtype is np.float32 else (50, 51, 52, 53, 54):
        y = (
            2.0**power
            + np.arange(0, 64) * 2.0 ** (max(0, power - (23 if dtype is np.float32 else 52)))
        ).astype(dtype)
        np.testing.assert_array_equal(
            _vector.apply("power", np.full(y.size, -1, dtype), y), np.where(y % 2 == 1, -1, 1)
        )


# ------------------------------------------------------------------------------------------------ fused forms

FUSED = {
    "tanh_pull": lambda g, y: g * (1 - y * y),
    "expit_pull": lambda g, y: g * (y * (1 - y)),
    "relu_pull": lambda g, x: np.where(x <= 0, x.dtype.type(0), g),
    "muladd": lambda a, b, c: a * b + c,
    "mulsub": lambda a, b, c: a * b - c,
    "nmuladd": lambda a, b, c: c - a * b,
    "quotient": lambda a, b: a / b,
    "clip": np.clip,
    "where": np.where,
    "rsqrt": lambda x: 1 / np.sqrt(x),
}


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("name", FUSED)
def test_a_fused_form_has_the_bits_of_its_definition(name, dtype):
    xs = measured.operands(_vector.names()[name][0], dtype, 1003)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(_vector.apply(name, *xs), FUSED[name](*xs))


@pytest.mark.parametrize("dtype", REAL)
def test_quotients_by_one_divisor_are_those_of_a_division(dtype):
    rng = np.random.default_rng(5)
    info = np.finfo(dtype)
    size = np.exp2(rng.uniform(-60, 60, 4001))
    x = (rng.choice([-1, 1], size.size) * size).astype(dtype)
    special = [np.inf, -np.inf, np.nan, 0.0, -0.0, info.max, -info.max, 6.0, 49.0]
    x[: len(special)] = special
    divisors = [
        3,
        7,
        -0.1,
        1e-3,
        49,
        1e10,
        np.inf,
        -np.inf,
        np.nan,
        0,
        -0.0,
        info.tiny / 4,
        info.max,
        1,
    ]
    for b in [dtype(v) for v in divisors] + list(rng.standard_normal(50).astype(dtype)):
        with np.errstate(all="ignore"):
            want = x / b
        got = _vector.apply("divide", x, np.array(b))
        normal = (np.abs(want) >= info.tiny) | (want == 0) | ~np.isfinite(want)
        np.testing.assert_array_equal(got[normal], want[normal])
        np.testing.assert_array_equal(np.signbit(got[normal]), np.signbit(want[normal]))
        assert np.all(np.abs(got[~normal] - want[~normal]) <= info.smallest_subnormal)


@pytest.mark.parametrize("dtype", REAL)
def test_gelu_slope_is_the_derivative_of_gelu(dtype):
    x = np.linspace(-6, 6, 97)
    h = 1e-5
    for name in ("gelu", "gelu_tanh"):
        central = (_vector.apply(name, x + h) - _vector.apply(name, x - h)) / (2 * h)
        got = _vector.apply(f"{name}_slope", x.astype(dtype))
        # h^2 f''' / 6 <= 1e-10; the difference loses eps / h = 2e-11; float32 its own eps
        np.testing.assert_allclose(got, central, rtol=0, atol=2e-10 + 4 * np.finfo(dtype).eps)


# ------------------------------------------------------------------------------------------------ reductions


def total(name, dtype, *xs, block=1000):
    """The sum by blocks, finished in the dtype."""
    acc = np.zeros(2)
    for begin in range(0, max(np.size(x) for x in xs), block):
        _vector.apply(name, *(x[begin : begin + block] if np.ndim(x) else x for x in xs), out=acc)
    return _vector.apply("finish_sum", acc[None], out=np.zeros(1, dtype))[0]


@pytest.mark.parametrize("n", [0, 1, 3, 7, 63, 64, 511, 513, 4097, 100_003])
@pytest.mark.parametrize("dtype", REAL)
def test_sums_are_exact_to_the_rounding_of_a_block(dtype, n):
    rng = np.random.default_rng(n)
    x, y = rng.standard_normal((2, n)).astype(dtype)
    terms = {
        "sum": x,
        "sum_squares": x.astype(np.longdouble) ** 2,
        "sum_products": x.astype(np.longdouble) * y,
        "sum_wide_squares": x.astype(np.longdouble) ** 2,
        "sum_others": x.astype(np.longdouble),
    }
    for name, exact in terms.items():
        args = (x, y) if name == "sum_products" else (x,)
        # a stream of registers adds at most 512 / 16 (1000 / 8) terms; between blocks nothing is lost
        steps = 32 if dtype is np.float32 else 125
        bound = steps * np.finfo(dtype).eps / 2 * np.abs(exact).sum() + np.finfo(dtype).eps * abs(
            exact.sum()
        )
        assert abs(total(name, dtype, *args) - exact.sum()) <= bound


def test_nothing_is_lost_between_blocks():
    acc = np.zeros(2)
    for x in (1e16, 1.0, 1.0, -1e16):
        _vector.apply("sum", np.array([x]), out=acc)
    assert acc.sum() == 2.0
    x = np.full(1_000_000, 0.1, np.float32)
    assert abs(total("sum", np.float32, x) - 1e6 * float(np.float32(0.1))) <= np.spacing(
        np.float32(1e5)
    )


@pytest.mark.parametrize("dtype", REAL)
def test_sums_take_infinity_nan_and_scalars(dtype):
    for x, want in (
        ([1, np.inf, 2], np.inf),
        ([np.inf, -np.inf], np.nan),
        ([np.nan, 1], np.nan),
        ([-np.inf], -np.inf),
    ):
        np.testing.assert_equal(total("sum", dtype, np.array(x, dtype)), dtype(want))
    one = np.array([1.0, 2.0, 3.0], dtype)
    assert total("sum_products", dtype, one, np.array(2, dtype)) == 12
    assert total("sum_products", dtype, np.array(2, dtype), one) == 12


@pytest.mark.parametrize("dtype", REAL)
def test_what_lies_beside_one_is_summed_apart(dtype):
    tiny = dtype(1e-12)
    x = np.array([1, tiny, 1, tiny, 0.5, np.nextafter(dtype(1), dtype(0))] * 100, dtype)
    assert total("sum_ones", dtype, x) == 200
    exact = x[x != 1].astype(np.longdouble).sum()
    assert abs(total("sum_others", dtype, x) - exact) <= 64 * np.finfo(dtype).eps * exact
    alone = np.array([1, tiny], dtype)
    assert total("sum_others", dtype, alone) == tiny
    assert np.isnan(total("sum_others", dtype, np.array([1, np.nan], dtype)))


def test_squares_of_floats_do_not_overflow_in_double():
    x = np.full(1000, 1e30, np.float32)
    acc = np.zeros(2)
    _vector.apply("sum_wide_squares", x, out=acc)
    np.testing.assert_allclose(acc.sum(), 1000 * float(x[0]) ** 2, rtol=1e-14)


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("name", ["max", "min"])
def test_extremes_pass_nan_from_every_place(name, dtype):
    start = np.full(1, -np.inf if name == "max" else np.inf, dtype)
    f = getattr(np, name)
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 64, 67):
        x = rng.standard_normal(n).astype(dtype)
        acc = _vector.apply(name, x, out=start.copy())
        assert acc[0] == f(x)
        assert (
            _vector.apply(name, -np.abs(x) if name == "max" else np.abs(x), out=np.zeros(1, dtype))[
                0
            ]
            == 0
        )
        for place in range(n):
            y = x.copy()
            y[place] = np.nan
            assert np.isnan(_vector.apply(name, y, out=start.copy())[0])
    assert np.isnan(_vector.apply(name, x, out=np.full(1, np.nan, dtype))[0])
    assert _vector.apply(name, x[:0], out=start.copy())[0] == start[0]


@pytest.mark.parametrize("n", [0, 1, 5, 64, 67])
def test_any_and_all_join_what_was_known(n):
    for x in (np.zeros(n, bool), np.ones(n, bool), np.arange(n) == n - 1, np.arange(n) != n - 1):
        for before in (False, True):
            assert _vector.apply("any", x, out=np.array([before]))[0] == (before or x.any())
            assert _vector.apply("all", x, out=np.array([before]))[0] == (before and x.all())


# ------------------------------------------------------------------------------------------------ plain loops

KINDS = ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"]


@pytest.mark.parametrize("to", KINDS)
@pytest.mark.parametrize("start", KINDS)
def test_a_cast_is_that_of_numpy(start, to):
    rng = np.random.default_rng(0)
    dtype, target = (np.dtype(k.replace("b1", "?")) for k in (start, to))
    if dtype.kind in "iu":  # all bits; C wraps them as NumPy does
        x = rng.integers(0, 256, 67 * dtype.itemsize, dtype=np.uint8).view(dtype)
    else:  # what fits every integer type that is not unsigned
        x = rng.integers(0 if target.kind in "ub" else -100, 100, 67).astype(dtype)
        x = x if dtype.kind == "b" else x * dtype.type(1.25)
    got = _vector.apply(f"to_{to}", x)
    assert got.dtype == target
    np.testing.assert_array_equal(got, x.astype(target))
    np.testing.assert_array_equal(
        _vector.apply(f"to_{to}", x[5], out=np.empty(9, target)), x[5].astype(target)
    )


@pytest.mark.parametrize("dtype", ["?", "i2", "f4", "f8", "c8", "c16", "u1"])
def test_a_copy_takes_every_stride(dtype):
    x = np.random.default_rng(0).integers(0, 2 if dtype == "?" else 100, 300).astype(dtype)
    for view in (x[:67], x[:201:3], x[200:66:-2], x[::-1][:67], x[5:5]):
        np.testing.assert_array_equal(_vector.apply("copy", view), view)
        wide = np.zeros(2 * view.size, dtype)
        _vector.apply("copy", view, out=wide[::2])
        np.testing.assert_array_equal(wide[::2], view)
        assert not wide[1::2].any()
    np.testing.assert_array_equal(
        _vector.apply("copy", x[7], out=np.empty(11, dtype)), np.full(11, x[7])
    )


def test_logic_is_that_of_numpy():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 67)) < 0.5
    for name in ("logical_and", "logical_or", "logical_xor"):
        f = getattr(np, name)
        np.testing.assert_array_equal(_vector.apply(name, a, b), f(a, b))
        np.testing.assert_array_equal(_vector.apply(name, a[0], b), f(a[0], b))
        np.testing.assert_array_equal(_vector.apply(name, a, b[1]), f(a, b[1]))
        np.testing.assert_array_equal(_vector.apply(name, a.copy(), b, out=(c := a.copy())), c)
    np.testing.assert_array_equal(_vector.apply("logical_not", a), ~a)


# ------------------------------------------------------------------------------------------------ the door


def test_addresses_are_those_of_loops_that_exist():
    f8, f4, i8 = (np.dtype(t).num for t in ("f8", "f4", "i8"))
    seen = [_vector.loop_address(name, num) for name in _vector.names() for num in (f4, f8)]
    seen = [address for address in seen if address]
    assert _vector.loop_address("any", np.dtype(bool).num) in seen
    assert len(set(seen)) == len(seen)
    assert _vector.loop_address("exp", i8) == 0
    assert _vector.loop_address("no_such_loop", f8) == 0
    assert _vector.loop_address("copy", i8) == _vector.loop_address("copy", f8)
    assert _vector.loop_address("to_f4", i8) != _vector.loop_address("to_f4", f8)
    assert _vector.isa() == _cpu.selected()


def test_the_test_entry_refuses_what_has_no_loop():
    x = np.ones(3)
    with pytest.raises(DtypeError, match=r"`exp` has no loop for int64"):
        _vector.apply("exp", np.arange(3))
    with pytest.raises(DtypeError, match=r"`add` has no loop for float64, float32"):
        _vector.apply("add", x, x.astype(np.float32))
    with pytest.raises(ShapeError, match=r"`add` takes 2 operands, got 1"):
        _vector.apply("add", x)
    with pytest.raises(ShapeError, match=r"operands of 3 and 4 entries"):
        _vector.apply("add", x, np.ones(4))
    with pytest.raises(ShapeError, match="not contiguous"):
        _vector.apply("exp", np.ones(6)[::2])


def test_the_list_of_bounds_is_in_the_documentation():
    page = (Path(__file__).parents[1] / "docs" / "vector-math.md").read_text()
    for name, row in measured.UNARY.items():
        line = next(line for line in page.splitlines() if line.startswith(f"| `{name}` "))
        assert f"{row[3][0]:g} / {row[3][1]:g}" in line, name
    line = next(line for line in page.splitlines() if line.startswith("| `power` "))
    assert f"{measured.POWER_BOUND[0]:g} / {measured.POWER_BOUND[1]:g}" in line
