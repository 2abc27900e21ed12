"""How far the loops of the family `vector` are from exact results, in units in the last place.

    python tests/vector_math_measure.py

prints a JSON object of the instruction set in use (NNMATH_ISA chooses another): the worst error of each function and
dtype, and sentences about special values and short blocks that are wrong. float32 is compared with NumPy and SciPy in
float64. float64 is compared with NumPy's long double (64 bits of mantissa), and where NumPy has none, with the numbers
of tests/reference/vector_math.json, which has 21 digits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import numpy as np
import scipy.special as sp

from nnmath_core._ext import _vector

Array = np.ndarray[Any, Any]
Apply = Callable[..., Array]
"""Works a loop: (name, *operands). By default the family's on the host; tests/cuda has another."""
REFERENCE = Path(__file__).parent / "reference" / "vector_math.json"
REAL = (np.float32, np.float64)
ALL, POSITIVE, ABOVE_MINUS_ONE = "all", "positive", "above -1"


def expit(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x > 0, 1, e) / (1 + e)


def tail(x: Array) -> Array:
    """P(Z <= x) of a standard normal Z, accurate for negative x."""
    return 0.5 * sp.erfc(-x / np.sqrt(2))


def gelu_slope(x: Array) -> Array:
    return tail(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def gate(x: Array) -> Array:
    return expit(np.sqrt(8 / np.pi) * (x + 0.044715 * x**3))


def gelu_tanh_slope(x: Array) -> Array:
    return gate(x) * (1 + x * gate(-x) * np.sqrt(8 / np.pi) * (1 + 3 * 0.044715 * x * x))


# name: (meaning, domain, where most points lie, bound in ULP of float32 and float64)
UNARY: dict[str, tuple[Callable[[Array], Array], str, float, tuple[float, float]]] = {
    "sqrt": (np.sqrt, POSITIVE, 10.0, (0.5, 0.5)),
    "rsqrt": (lambda x: 1 / np.sqrt(x), POSITIVE, 10.0, (1.5, 1.5)),
    "exp": (np.exp, ALL, 20.0, (1.1, 1.1)),
    "exp2": (np.exp2, ALL, 20.0, (1.0, 1.0)),
    "expm1": (np.expm1, ALL, 4.0, (1.2, 1.2)),
    "log": (np.log, POSITIVE, 4.0, (1.0, 1.0)),
    "log2": (np.log2, POSITIVE, 4.0, (1.0, 1.0)),
    "log10": (np.log10, POSITIVE, 4.0, (1.0, 1.0)),
    "log1p": (np.log1p, ABOVE_MINUS_ONE, 2.0, (1.0, 1.0)),
    "sin": (np.sin, ALL, 20.0, (1.5, 1.0)),
    "cos": (np.cos, ALL, 20.0, (1.5, 1.0)),
    "tan": (np.tan, ALL, 20.0, (3.0, 2.5)),
    "arctan": (np.arctan, ALL, 4.0, (2.0, 2.0)),
    "sinh": (np.sinh, ALL, 4.0, (2.2, 2.2)),
    "cosh": (np.cosh, ALL, 4.0, (1.5, 1.5)),
    "tanh": (np.tanh, ALL, 2.0, (1.6, 1.6)),
    "expit": (expit, ALL, 20.0, (1.6, 1.6)),
    "erf": (sp.erf, ALL, 3.0, (1.5, 1.0)),
    "erfc": (sp.erfc, ALL, 10.0, (6.0, 4.0)),
    "gelu": (lambda x: x * tail(x), ALL, 8.0, (6.0, 4.0)),
    "gelu_slope": (gelu_slope, ALL, 8.0, (6.0, 5.0)),
    "gelu_tanh": (lambda x: x * gate(x), ALL, 8.0, (3.5, 2.5)),
    "gelu_tanh_slope": (gelu_tanh_slope, ALL, 8.0, (6.0, 5.0)),
    "gammaln": (sp.gammaln, ALL, 10.0, (1.0, 8.0)),
    "digamma": (sp.digamma, ALL, 10.0, (1.0, 5.0)),
}
TABULATED = [
    "erf",
    "erfc",
    "gelu",
    "gelu_slope",
    "gelu_tanh",
    "gelu_tanh_slope",
    "gammaln",
    "digamma",
]
POWER_BOUND = (0.6, 1.0)


def points(domain: str, scale: float, dtype: Any, count: int, seed: int = 0) -> Array:
    """Every binade evenly, the interval [-scale, scale] densely, and the ends of the domain."""
    rng = np.random.default_rng(seed)
    info, word = np.finfo(dtype), f"u{np.dtype(dtype).itemsize}"
    top = int(np.array(info.max, dtype).view(word))
    bits = np.linspace(1, top, count // 4, dtype=np.float64).astype(word)
    binades = np.minimum(bits, np.array(top, word)).view(dtype)
    dense = rng.uniform(0, scale, count // 2).astype(dtype)
    small = (scale * 10.0 ** rng.uniform(-6, 0, count // 4)).astype(dtype)
    edges = np.array(
        [info.max, info.tiny, info.smallest_subnormal, 1, 1 + info.eps, 1 - info.epsneg], dtype
    )
    x = np.concatenate([binades, dense, small, edges])
    if domain == POSITIVE:
        return x
    below = x if domain == ALL else x[x < 1]
    return np.concatenate([x, -below])


def table_points(name: str, count: int = 640) -> Array:
    """The arguments of the table: as `points`, less those where the function is 0, 1, x or out of range."""
    reach = {
        "erf": 6,
        "erfc": 27.2,
        "gelu": 38.4,
        "gelu_slope": 38.6,
        "gelu_tanh": 22,
        "gelu_tanh_slope": 22,
    }
    most = reach.get(name, 60.0)
    rng = np.random.default_rng(sum(name.encode()))

    def powers(low: int, high: int, n: int) -> Array:
        """Numbers of many sizes, the same on every processor: the last bit of NumPy's power is not."""
        return np.ldexp(rng.uniform(1, 2, n), rng.integers(low, high, n))

    x = np.concatenate([
        rng.uniform(-most, most, count // 4), rng.uniform(-3, 3, count // 2), rng.normal(0, 1e-3, count // 8),
        powers(-40, int(np.log2(most)), count // 8),
    ])  # fmt: skip
    if name in ("gammaln", "digamma"):
        x = np.concatenate(
            [np.abs(x[: count // 2]), x[count // 2 : -count // 16], powers(4, 996, 40)]
        )
    return x[np.abs(x) > 1e-300]


def ulps(got: Array, exact: Array, floor: Array | float = 0.0) -> float:
    """The largest error in units in the last place of the exact value, or of `floor` where that is more."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(got.dtype)
        info = np.finfo(got.dtype)
        unit = np.spacing(np.maximum(np.abs(rounded), np.asarray(floor, got.dtype)))
        unit = np.where(np.isfinite(unit), unit, np.spacing(info.max)).astype(exact.dtype)
        over = 2 * exact.dtype.type(2) ** (info.maxexp - 1)
        finite = np.where(np.isinf(got), np.copysign(over, got), got.astype(exact.dtype))
        error = np.abs(finite - exact) / unit
        error = np.where((got == rounded) & np.isinf(got), 0, error)
    return float(np.max(np.where(np.isnan(error), np.inf, error)))


def floor_of(name: str, x: Array) -> Array | float:
    """The size below which only the absolute error is bounded: near the zeros of functions that have no closed ones."""
    if name in (
        "gelu_slope",
        "gelu_tanh_slope",
    ):  # the zero at -0.75; the function is within 0.13 there
        return np.where((x > -1.6) & (x < -0.35), 0.125, 0.0)
    if name in (
        "gammaln",
        "digamma",
    ):  # negative: reflection adds log Gamma (digamma) of -x (1 - x)
        scale = np.abs(sp.gammaln(np.abs(x))) if name == "gammaln" else np.log(np.abs(x) + 3)
        return np.where(x < 0, np.maximum(scale, 1.0), 0.0)
    return 0.0


def unary_error(
    name: str, dtype: Any, count: int = 100_000, *, apply: Apply = _vector.apply, least: float = 0.0
) -> float:
    """The largest error of a function of one argument, where it and the result are not smaller than `least`."""
    f, domain, scale, _ = UNARY[name]
    if dtype is np.float64 and name in TABULATED:
        table = json.loads(REFERENCE.read_text())["values"][name]
        x, exact = table_points(name), np.array([np.longdouble(v) for v in table])
    else:
        x = points(domain, scale, dtype, count)
        with np.errstate(all="ignore"):
            exact = f(x.astype(np.float64 if dtype is np.float32 else np.longdouble))
        if name in TABULATED:  # where SciPy in float64 is known to float32
            keep = np.isfinite(exact) & (np.abs(x) < 1e30)
            x, exact = x[keep], exact[keep]
    keep = (np.abs(x) >= least) & ~(np.abs(exact) < least)
    x, exact = x[keep], exact[keep]
    return ulps(apply(name, x), exact, floor_of(name, x.astype(np.float64)))


def power_error(
    dtype: Any, count: int = 50_000, *, apply: Apply = _vector.apply, least: float = 0.0
) -> float:
    """The largest error of x^y: bases of all sizes and near 1, results that fill the range down to `least`."""
    rng = np.random.default_rng(1)
    top = np.log(float(np.finfo(dtype).max))
    wide = np.exp(rng.uniform(-top, top, count))
    near = 1 + rng.normal(0, 1, count) * 10.0 ** rng.uniform(
        -7 if dtype is np.float32 else -15, -1, count
    )
    x = np.concatenate([wide, near]).astype(dtype)
    x = x[(x > 0) & (x != 1)]
    with np.errstate(all="ignore"):
        y = (rng.uniform(-1.02, 1.02, x.size) * top / np.log(x.astype(np.float64))).astype(dtype)
    keep = np.isfinite(y)
    x, y = x[keep], y[keep]
    wider = np.float64 if dtype is np.float32 else np.longdouble
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(wider), y.astype(wider))
        keep = (x >= least) & ~(np.abs(exact) < least)
        return ulps(apply("power", x[keep], y[keep]), exact[keep])


def measure() -> dict[str, dict[str, float]]:
    """The largest errors of all functions."""
    worst = {n: {np.dtype(d).name: unary_error(n, d) for d in REAL} for n in UNARY}
    worst["power"] = {np.dtype(d).name: power_error(d) for d in REAL}
    return worst


# ------------------------------------------------------------------------------------------------ special values

PLAIN = {
    "negative": np.negative, "square": np.square, "reciprocal": np.reciprocal, "absolute": np.absolute,
    "sign": np.sign, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "rint": np.rint,
    "relu": lambda x: np.maximum(x, 0), "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite,
}  # fmt: skip
BINARY = (
    "add subtract multiply divide maximum minimum equal not_equal less less_equal greater greater_equal"
).split()


def edges(dtype: Any) -> Array:
    """Zeros, infinities, NaN, the ends of the range, and where functions overflow, underflow or have poles."""
    info = np.finfo(dtype)
    half = [0.0, np.inf, 1, 0.5, 1.5, 2.5, 3, 2, 0.49999997, info.max, info.tiny, info.smallest_subnormal, 1e5, 1e10,
            2**22, 2**23 + 1, 2**24, 2**51 + 1.0, 2**52 + 1.0, 2**53, 88.7228, 88.73, 87.4, 103.9, 103.97, 104.5,
            709.78, 709.79, 745.1, 745.2, 710.4, 710.5, 127.99, 128, 149.4, 150.1, 1023.99,
            1024, 1074.4, 1075.1]  # fmt: skip
    return np.array([*half, *(-h for h in half), np.nan], dtype)


def same(got: Array, want: Array, within: float) -> Array:
    """Whether numbers are the same, zeros with their signs, or differ by some ULP."""
    if got.dtype == bool:
        return got == want
    exact = (np.isnan(got) & np.isnan(want)) | (
        (got == want) & (np.signbit(got) == np.signbit(want))
    )
    near = np.abs(got - want) <= within * np.spacing(np.abs(want))
    return exact | (np.isfinite(got) & np.isfinite(want) & near & ((got != 0) | (want != 0)))


def wrong_specials(apply: Apply = _vector.apply, names: Container[str] | None = None) -> list[str]:
    """Sentences about special values, of all functions or those named, that are not those of NumPy and SciPy."""
    found = []
    with np.errstate(all="ignore"), sp.errstate(all="ignore"):
        for dtype in REAL:
            x = edges(dtype)
            for name, f in [(n, row[0]) for n, row in UNARY.items()] + list(PLAIN.items()):
                if name.startswith("gelu") or not (names is None or name in names):
                    continue
                at = x
                if name in (
                    "gammaln",
                    "digamma",
                ):  # SciPy's are farther from the exact value than ours at the rest
                    at = x[
                        np.isinf(x) | np.isnan(x) | (x == 0) | (x == np.rint(x)) & (np.abs(x) < 4)
                    ]
                if name == "expit":  # SciPy's is 0 where exp(-x) overflows
                    at, f = x, lambda x: expit(x.astype(np.longdouble)).astype(x.dtype)
                want, got = f(at), apply(name, at)
                found += [
                    f"{name}({at[i]!r}) is {got[i]!r}, not {want[i]!r}"
                    for i in np.flatnonzero(~same(got, want, 4))
                ]
            a, b = (m.ravel() for m in np.meshgrid(x, x))
            for name in [*BINARY, "power", "hypot"]:
                if not (names is None or name in names):
                    continue
                want, got = getattr(np, name)(a, b), apply(name, a, b)
                within = 2 if name in ("power", "hypot") else 0
                found += [
                    f"{name}({a[i]!r}, {b[i]!r}) is {got[i]!r}, not {want[i]!r}"
                    for i in np.flatnonzero(~same(got, want, within))
                    if not (
                        name in ("maximum", "minimum") and a[i] == b[i]
                    )  # the sign of 0 is NumPy's loop's choice
                ]
            for name in ("gelu", "gelu_slope", "gelu_tanh", "gelu_tanh_slope"):
                if not (names is None or name in names):
                    continue
                at = np.array([0, -0.0, np.inf, np.nan, 50, -50, -np.inf], dtype)
                want = (
                    [0.5, 0.5, 1, np.nan, 1, 0, 0]
                    if "slope" in name
                    else [0, -0.0, np.inf, np.nan, 50, -0.0, np.nan]
                )
                got = apply(name, at)
                found += [
                    f"{name}({at[i]!r}) is {got[i]!r}, not {want[i]!r}"
                    for i in range(at.size)
                    if not same(got, np.array(want, dtype), 0)[i] and (got[i] != 0 or want[i] != 0)
                ]
    return found


def operands(ins: str, dtype: Any, n: int, seed: int = 0) -> list[Array]:
    """Operands that a loop takes: positive numbers and, in every seventh place, one of the edges."""
    rng = np.random.default_rng(seed)
    arrays = []
    for letter in ins:
        x = rng.gamma(1.0, 2.0, n).astype(dtype)
        x[::7] = rng.choice(edges(dtype), x[::7].size)
        arrays.append(rng.random(n) < 0.5 if letter == "b" else x)
    return arrays


def wrong_blocks() -> list[str]:
    """Sentences about loops whose results depend on the length of the block, on its place or on who the output is."""
    found = []
    for name, (ins, outs) in _vector.names().items():
        if outs not in ("r", "b") or "r" not in ins:
            continue
        for dtype in REAL:
            xs = operands(ins, dtype, 67)
            whole = _vector.apply(name, *xs)
            for n in range(68):
                part = _vector.apply(name, *(x[67 - n :].copy() for x in xs))
                if part.tobytes() != whole[67 - n :].tobytes():
                    found.append(
                        f"{name} of the last {n} of 67 {np.dtype(dtype)} is not the end of {name} of all"
                    )
            for scalars in range(1, 2 ** len(ins)):
                mixed = [x[(3 * k + 1) % 67] if scalars >> k & 1 else x for k, x in enumerate(xs)]
                if scalars == 2 ** len(ins) - 1:
                    mixed = [np.array(m) for m in mixed]
                full = [np.full(67, m) if np.ndim(m) == 0 else m for m in mixed]
                broadcast = _vector.apply(name, *mixed, out=np.zeros(67, whole.dtype))
                if broadcast.tobytes() != _vector.apply(name, *full).tobytes():
                    found.append(
                        f"{name} of {np.dtype(dtype)} with scalars {scalars:b} is not that of full arrays"
                    )
            for k, letter in enumerate(ins):
                if letter == outs:
                    copies = [x.copy() for x in xs]
                    if _vector.apply(name, *copies, out=copies[k]).tobytes() != whole.tobytes():
                        found.append(
                            f"{name} of {np.dtype(dtype)} in the place of operand {k} is another"
                        )
    return found


if __name__ == "__main__":
    wrong = [*wrong_specials(), *wrong_blocks()]
    print(json.dumps({"isa": _vector.isa(), "worst": measure(), "wrong": wrong}))
