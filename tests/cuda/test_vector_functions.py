"""The functions of vector.cuh, which generated kernels call: errors in ULP against more digits, and special values."""

import functools
import math
import re

import numpy as np
import pytest
import vector_math_measure as measured

from nnmath_core._ext import _vector
from nnmath_core.device import backend_for, launch

REAL = [np.float32, np.float64]
ROWS = {
    name: (ins, outs)
    for name, (ins, outs) in _vector.names().items()
    if outs in ("r", "b") and set(ins) <= {"r", "b"} and name in {
        found for found in re.findall(r" nnm_(\w+)\(", launch.read_text("vector.cuh"))
    }
}  # fmt: skip

# One source each, whose name is in the tests' names: what a broken function costs is the time of its group.
GROUPS = {
    "group_exp": "exp exp2 expm1 log log2 log10 log1p expit sinh cosh tanh",
    "group_trig": "sin cos tan arctan",
    "group_pow": "power hypot sqrt rsqrt",
    "group_erf": "erf erfc gelu gelu_slope gelu_tanh gelu_tanh_slope",
    "group_gamma": "gammaln digamma",
}
GROUPS["group_plain"] = " ".join(sorted(ROWS.keys() - set(" ".join(GROUPS.values()).split())))
GROUP_OF = {name: group for group, names in GROUPS.items() for name in names.split()}


def named(names):
    """Parametrize over functions."""
    return pytest.mark.parametrize("name", names, ids=lambda name: f"{name}-{GROUP_OF[name]}")


def kernel(name, ins, outs):
    """The source of a kernel that works one function on arrays."""
    types = {"r": "real_t", "b": "bool"}
    operands = ", ".join(f"const {types[letter]} *x{k}" for k, letter in enumerate(ins))
    values = ", ".join(f"x{k}[i]" for k in range(len(ins)))
    return f"""
template <typename real_t> __global__ void {name}(long long n, {types[outs]} *o, {operands})
{{
    for (long long i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        o[i] = nnm_{name}({values});
}}
"""


@functools.cache
def family(group):
    be = backend_for("cuda:0")
    names = sorted(GROUPS[group].split())
    source = '#include "vector.cuh"\n' + "".join(kernel(name, *ROWS[name]) for name in names)
    with be.scope():
        return be, launch.Family(be.cupy, 0, f"vector, {group}", launch.expanded(source))


def apply(name, *xs):
    """Work a function on the device, by its own kernel."""
    be, kernels = family(GROUP_OF[name])
    xs = [np.ascontiguousarray(x) for x in xs]
    with be.scope():
        out = be.cupy.empty(xs[0].shape, bool if ROWS[name][1] == "b" else xs[-1].dtype)
        kernels.launch(name, out.size, (out, *map(be.from_host, xs)))
    return be.to_host(out)


def comment_of(name):
    """The comment before a function."""
    lines = launch.read_text("vector.cuh").splitlines()
    at = next(i for i, line in enumerate(lines) if re.search(rf" nnm_{name}\(", line))
    while not lines[at].startswith("//"):
        at -= 1
    first = at
    while lines[first - 1].startswith("//"):
        first -= 1
    return " ".join(line.removeprefix("// ") for line in lines[first : at + 1])


def bounds(name):
    """The error in ULP that the comment before a function states, for both dtypes; 0.5 for what is exact."""
    text = comment_of(name)
    if re.search(r"; exact", text):
        return 0.5, 0.5
    return tuple(float(x) for x in re.search(r"; ([\d.]+) / ([\d.]+) ULP", text).groups())


GLIBC = {"log10": 2.5}  # on the emulated device, where it is farther off than CUDA's


def bound(name, dtype):
    return max(bounds(name)[REAL.index(dtype)], GLIBC.get(name, 0))


def least_of(dtype):
    """The smallest size that is looked at: single precision flushes what is below the normal numbers to 0."""
    return float(np.finfo(dtype).tiny) if dtype is np.float32 else 0.0


@pytest.mark.parametrize("dtype", REAL)
@named(measured.UNARY)
def test_a_function_is_within_the_error_that_its_comment_states(name, dtype):
    error = measured.unary_error(name, dtype, 20_000, apply=apply, least=least_of(dtype))
    assert error <= bound(name, dtype)


def normal_near_zero(x):
    """P(Z <= x) of a standard normal Z, by its series, and its density; |x| < 0.5."""
    root = np.sqrt(8 * np.arctan(np.longdouble(1)))
    odd = sum((-x * x / 2) ** k / (math.factorial(k) * (2 * k + 1)) for k in range(16))
    return 0.5 + x * odd / root, np.exp(-x * x / 2) / root


@pytest.mark.parametrize("dtype", REAL)
@named(["gelu", "gelu_slope"])
def test_near_zero_where_no_exponential_is_called_the_error_is_smaller(name, dtype):
    x = np.random.default_rng(6).uniform(-0.5, 0.5, 4000).astype(dtype)
    wide = x.astype(np.longdouble)
    below, density = normal_near_zero(wide)
    exact = below + wide * density if name == "gelu_slope" else wide * below
    stated = re.search(r"ULP, .*?([\d.]+) / ([\d.]+) for \|x\| < 0\.5", comment_of(name)).groups()
    error = measured.ulps(apply(name, x), exact, measured.floor_of(name, x))
    assert error <= float(stated[REAL.index(dtype)])


def test_digamma_of_group_gamma_where_its_series_begins():
    """The last terms count from 8 to 9 alone; from 32 on, where the meaning has its series, they are below 1e-19."""
    x = np.random.default_rng(8).uniform(8, 9, 2000)
    y, bernoulli = x.astype(np.longdouble) + 24, (6, -30, 42, -30, 13.2)
    series = (
        np.log(y)
        - 1 / (2 * y)
        - sum(1 / (b * 2 * k * y ** (2 * k)) for k, b in enumerate(bernoulli, 1))
    )
    exact = series - sum(1 / (x.astype(np.longdouble) + k) for k in range(24))
    # log of CUDA is 1 off, and half a unit each for the difference, what is subtracted and the coefficients
    assert measured.ulps(apply("digamma", x), exact) <= 2.5


@named(["gelu", "gelu_slope", "gelu_tanh", "gelu_tanh_slope"])
def test_tails_of_single_precision_down_to_the_smallest_normal_number(name):
    """Some exponentials that are made there are smaller than the result."""
    x = -np.random.default_rng(7).uniform(8, 15, 4000).astype(np.float32)
    exact = measured.UNARY[name][0](x.astype(np.float64))
    x, exact = (y[np.abs(exact) >= least_of(np.float32)] for y in (x, exact))
    assert measured.ulps(apply(name, x), exact) <= bounds(name)[0]


@pytest.mark.parametrize("dtype", REAL)
def test_powers_and_hypotenuses_of_group_pow_are_within_theirs(dtype):
    at = REAL.index(dtype)
    assert (
        measured.power_error(dtype, 10_000, apply=apply, least=least_of(dtype))
        <= bounds("power")[at]
    )
    rng = np.random.default_rng(0)
    top = np.log(float(np.finfo(dtype).max)) - 4
    a, b = np.exp(rng.uniform(-top, top, (2, 10_000))).astype(dtype)
    b[::2] = (a[::2] * rng.uniform(0.1, 10, a[::2].size)).astype(dtype)
    wide = np.float64 if dtype is np.float32 else np.longdouble
    assert (
        measured.ulps(apply("hypot", a, b), np.hypot(a.astype(wide), b.astype(wide)))
        <= bounds("hypot")[at]
    )


@pytest.mark.parametrize("dtype", REAL)
@named(["sin", "cos", "tan"])
def test_huge_angles_too(name, dtype):
    x = np.array([1e6, 1000000.1, 1e15, 1e22, 3e38, -1e22, 0.5], dtype)
    exact = getattr(np, name)(x.astype(np.float64 if dtype is np.float32 else np.longdouble))
    assert measured.ulps(apply(name, x), exact) <= bounds(name)[REAL.index(dtype)]


@pytest.mark.parametrize("group", GROUPS)
def test_special_values_are_those_of_numpy_and_scipy(device, group):
    """On a GPU subnormal numbers are flushed; the next test is for both."""
    assert measured.wrong_specials(apply, GROUPS[group].split()) == []


_NAN, _INF = np.nan, np.inf
SPECIAL = {  # at 0, -0, inf, -inf, NaN, -1
    "sign": [0, 0, 1, -1, _NAN, -1],
    "relu": [0, 0, _INF, 0, _NAN, 0],
    "rint": [0, -0.0, _INF, -_INF, _NAN, -1],
    "reciprocal": [_INF, -_INF, 0, -0.0, _NAN, -1],
    "rsqrt": [_INF, -_INF, 0, _NAN, _NAN, _NAN],
    "expit": [0.5, 0.5, 1, 0, _NAN, 0.26894142136999512],
    "log": [-_INF, -_INF, _INF, _NAN, _NAN, _NAN],
    "gelu": [0, -0.0, _INF, _NAN, _NAN, -0.15865525393145707],
    "gelu_tanh": [0, -0.0, _INF, _NAN, _NAN, -0.15880800939172326],
    "gammaln": [_INF, _INF, _INF, -_INF, _NAN, _INF],
    "digamma": [-_INF, _INF, _INF, _NAN, _NAN, _NAN],
    "isnan": [0, 0, 0, 0, 1, 0],
    "isinf": [0, 0, 1, 1, 0, 0],
    "isfinite": [1, 1, 0, 0, 0, 1],
}


@pytest.mark.parametrize("dtype", REAL)
@named(SPECIAL)
def test_zeros_infinities_and_nan(name, dtype):
    x = np.array([0.0, -0.0, _INF, -_INF, _NAN, -1.0], dtype)
    got, want = apply(name, x).astype(dtype), np.array(SPECIAL[name], dtype)
    np.testing.assert_allclose(got, want, rtol=8 * np.finfo(dtype).eps)
    zero = want == 0
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(want[zero]))


@pytest.mark.parametrize("dtype", REAL)
def test_nan_passes_the_choices_of_group_plain(dtype):
    a = np.array([1, _NAN, _NAN, -0.0, 0], dtype)
    b = np.array([_NAN, 1, _NAN, 0, -0.0], dtype)
    for name in ("maximum", "minimum"):
        got = apply(name, a, b)
        np.testing.assert_array_equal(got, [_NAN, _NAN, _NAN, 0, 0])
        np.testing.assert_array_equal(
            np.signbit(got[3:]), np.signbit(b[3:])
        )  # the second of two that are equal
    low, high = np.full(5, -1, dtype), np.array([2, 2, _NAN, 2, -3], dtype)
    x = np.array([_NAN, 5, 0, -5, 0], dtype)
    np.testing.assert_array_equal(apply("clip", x, low, high), [_NAN, 2, _NAN, -1, -3])
    np.testing.assert_array_equal(
        apply("clip", x, np.full_like(x, _NAN), high), np.full_like(x, _NAN)
    )
    zeros = np.array([0, -0.0, _NAN], dtype)
    np.testing.assert_array_equal(apply("relu_pull", np.full_like(zeros, 3), zeros), [0, 0, 3])
    x, low, high = np.array([[-0.0, 0, -0.0, 0], [0, -0.0, -1, -1], [1, 1, 0, -0.0]], dtype)
    np.testing.assert_array_equal(np.signbit(apply("clip", x, low, high)), np.signbit(x))


PLAIN = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide, "quotient": np.divide,
    "equal": np.equal, "not_equal": np.not_equal, "less": np.less, "less_equal": np.less_equal,
    "greater": np.greater, "greater_equal": np.greater_equal, "negative": np.negative, "square": np.square,
    "absolute": np.absolute, "where": np.where, "clip": np.clip, "maximum": np.maximum, "minimum": np.minimum,
    "reciprocal": np.reciprocal, "sign": np.sign, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc,
    "rint": np.rint, "sqrt": np.sqrt, "relu": lambda x: np.where(x <= 0, x.dtype.type(0), x),
    "relu_pull": lambda g, x: np.where(x <= 0, x.dtype.type(0), g), "isnan": np.isnan, "isinf": np.isinf,
    "isfinite": np.isfinite,
}  # fmt: skip


@pytest.mark.parametrize("dtype", REAL)
@named(PLAIN)
def test_what_is_exact_has_the_bits_of_numpy(name, dtype):
    rng = np.random.default_rng(3)
    a, b, c = rng.standard_normal((3, 500)).astype(dtype) * dtype(3)
    b[::5] = a[::5]
    xs = {"where": (a > b, b, c), "clip": (a, -np.abs(b), np.abs(b)), "sqrt": (np.abs(a),)}
    a[:3] = 0.5, 1.5, -2.5
    operands = xs.get(name, (a, b, c)[: len(ROWS[name][0])])
    assert bounds(name) == (0.5, 0.5)
    np.testing.assert_array_equal(apply(name, *operands), PLAIN[name](*operands))


# name: (operands of a, b, c and y in [0, 1), the meaning, the size of which the error is a part)
FUSED = {
    "muladd": ("abc", lambda a, b, c: a * b + c, lambda a, b, c: np.maximum(abs(a * b), abs(c))),
    "mulsub": ("abc", lambda a, b, c: a * b - c, lambda a, b, c: np.maximum(abs(a * b), abs(c))),
    "nmuladd": ("abc", lambda a, b, c: c - a * b, lambda a, b, c: np.maximum(abs(a * b), abs(c))),
    "tanh_pull": ("ay", lambda a, y: a * (1 - y * y), lambda a, y: abs(a)),
    "expit_pull": ("ay", lambda a, y: a * (y * (1 - y)), lambda a, y: 0 * a),
}


@pytest.mark.parametrize("dtype", REAL)
@named(FUSED)
def test_fused_forms_lose_no_more_than_they_state(name, dtype):
    rng = np.random.default_rng(4)
    drawn = dict(zip("abc", rng.standard_normal((3, 2000)).astype(dtype), strict=True))
    drawn["y"] = rng.random(2000).astype(dtype)
    letters, meaning, size = FUSED[name]
    xs = [drawn[letter] for letter in letters]
    exact = meaning(*(x.astype(np.longdouble) for x in xs))
    assert measured.ulps(apply(name, *xs), exact, size(*xs)) <= bounds(name)[REAL.index(dtype)]


def test_every_function_is_looked_at():
    assert set(ROWS) == set(measured.UNARY) | set(PLAIN) | set(FUSED) | {"power", "hypot"}
