"""CUDA C++ for the loops of the elementwise machine: types, literals, and an expression for each name and dtype.

A loop that has no expression here has no place in a generated kernel; its equation runs by definition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnmath_core.program.nodes import Loop, Reduction

__all__ = [
    "PRELUDE",
    "c_type",
    "combined",
    "computes",
    "expression",
    "folded",
    "folds",
    "literal",
    "start_of",
    "sum_type",
]

PRELUDE = """\
struct nnm_16 { unsigned long long low, high; };    // moved, not computed with
template <typename T> __device__ __forceinline__ T nnm_floor_quotient(T a, T b)
{
    if (b == 0) return 0;                           // as NumPy's
    if (b == T(-1)) return T(0) - a;                // the smallest integer has no opposite
    const T q = a / b;
    return (a % b != 0 && (a < 0) != (b < 0)) ? q - 1 : q;
}
template <typename T> __device__ __forceinline__ T nnm_floor_remainder(T a, T b)
{
    if (b == 0 || b == T(-1)) return 0;
    const T r = a % b;
    return (r != 0 && (r < 0) != (b < 0)) ? r + b : r;
}
template <typename real_t> __device__ __forceinline__ real_t nnm_remainder(real_t a, real_t b)
{
    real_t r = fmod(a, b);
    if (b != 0 && r != 0 && (r < 0) != (b < 0)) r += b;
    return r == 0 ? copysign(real_t(0), b) : r;
}
"""
"""What generated kernels stand behind, after the functions of ``vector.cuh``."""

_TYPES = {
    "f4": "float", "f8": "double", "b1": "bool", "i1": "signed char", "u1": "unsigned char", "i2": "short",
    "u2": "unsigned short", "i4": "int", "u4": "unsigned int", "i8": "long long", "u8": "unsigned long long",
}  # fmt: skip
_MOVED = {"f2": "unsigned short", "c8": "unsigned long long", "c16": "nnm_16"}
"""Types that are only moved."""


def c_type(dtype: Any) -> str | None:
    """The type of an element, None where a kernel cannot hold it."""
    name = np.dtype(dtype).str[1:]
    return _TYPES.get(name) or _MOVED.get(name)


def computes(dtype: Any) -> bool:
    """Whether kernels compute with elements of a dtype."""
    return np.dtype(dtype).str[1:] in _TYPES


def literal(x: Any) -> str:
    """A NumPy number as C++ writes it, to the bit."""
    dtype = x.dtype
    if dtype.kind == "b":
        return "true" if x else "false"
    if dtype.kind in "iu":
        kind = c_type(dtype)
        if dtype == np.int64 and int(x) == np.iinfo(np.int64).min:
            return "(-9223372036854775807LL - 1)"
        return f"(({kind}){int(x)}{'ULL' if dtype.kind == 'u' else 'LL'})"
    if dtype == np.float32:
        if math.isfinite(x):
            return f"({float(x).hex()}f)"
        return f"__int_as_float({x.view(np.int32)})"
    if math.isfinite(x):
        return f"({float(x).hex()})"
    return f"__longlong_as_double({x.view(np.int64)}LL)"


# ------------------------------------------------------------------------------------------------ elementwise
_FUNCTIONS = frozenset(
    "sign floor ceil trunc rint sqrt rsqrt relu exp exp2 expm1 log log2 log10 log1p sin cos tan arctan sinh cosh tanh "
    "expit erf erfc gelu gelu_slope gelu_tanh gelu_tanh_slope gammaln digamma maximum minimum power hypot isnan isinf "
    "isfinite absolute clip".split()
)
"""Loops that ``vector.cuh`` has a function for, nnm_<name>."""

_BUILT_IN = {
    "arcsin": "asin", "arccos": "acos", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "cbrt": "cbrt",
    "arctan2": "atan2", "fmod": "fmod", "copysign": "copysign", "fmax": "fmax", "fmin": "fmin", "fabs": "fabs",
    "nextafter": "nextafter", "erfinv": "erfinv", "erfcinv": "erfcinv", "erfcx": "erfcx", "remainder": "nnm_remainder",
}  # fmt: skip
"""Functions of CUDA's library by the names of NumPy's and SciPy's."""

_OPERATORS = {
    "add": "{0} + {1}", "subtract": "{0} - {1}", "multiply": "{0} * {1}", "square": "{0} * {0}", "negative": "-{0}",
    "positive": "{0}", "equal": "{0} == {1}", "not_equal": "{0} != {1}", "less": "{0} < {1}",
    "less_equal": "{0} <= {1}", "greater": "{0} > {1}", "greater_equal": "{0} >= {1}", "copy": "{0}",
}  # fmt: skip
_REAL_OPERATORS = {
    "divide": "{0} / {1}", "quotient": "{0} / {1}", "reciprocal": "1 / {0}", "muladd": "{0} * {1} + {2}",
    "mulsub": "{0} * {1} - {2}", "nmuladd": "{2} - {0} * {1}", "tanh_pull": "{0} * (1 - {1} * {1})",
    "expit_pull": "{0} * ({1} * (1 - {1}))", "relu_pull": "({1} <= 0 ? 0 : {0})", "signbit": "signbit({0})",
    "conjugate": "{0}",
}  # fmt: skip
_INTEGER_OPERATORS = {
    "bitwise_and": "{0} & {1}", "bitwise_or": "{0} | {1}", "bitwise_xor": "{0} ^ {1}", "invert": "~{0}",
    "maximum": "{0} > {1} ? {0} : {1}", "minimum": "{0} < {1} ? {0} : {1}", "sign": "({0} > 0) - ({0} < 0)",
    "absolute": "({0} < 0 ? -{0} : {0})", "floor_divide": "nnm_floor_quotient({0}, {1})",
    "remainder": "nnm_floor_remainder({0}, {1})", "isnan": "false", "isinf": "false", "isfinite": "true",
    "conjugate": "{0}",
}  # fmt: skip
_TRUTH_OPERATORS = {
    "logical_and": "{0} && {1}", "logical_or": "{0} || {1}", "logical_not": "!{0}", "logical_xor": "(!{0}) != (!{1})",
}  # fmt: skip
_BOOL_OPERATORS = {
    "add": "{0} || {1}", "multiply": "{0} && {1}", "bitwise_and": "{0} && {1}", "bitwise_or": "{0} || {1}",
    "bitwise_xor": "{0} != {1}", "invert": "!{0}", "maximum": "{0} || {1}", "minimum": "{0} && {1}",
    "equal": "{0} == {1}", "not_equal": "{0} != {1}", "copy": "{0}", "less": "!{0} && {1}", "greater": "{0} && !{1}",
    "less_equal": "!{0} || {1}", "greater_equal": "{0} || !{1}", "absolute": "{0}",
}  # fmt: skip


def expression(loop: Loop, reads: Sequence[Any], out: Any, args: Sequence[str]) -> str | None:
    """What a loop makes of operands of these dtypes, of the result's type; None where there is no expression."""
    found = _template(loop.name, [np.dtype(d) for d in reads], np.dtype(out))
    if found is None:
        return None
    return f"({c_type(out)})({found.format(*args)})" if computes(out) else found.format(*args)


def _template(name: str, reads: list[np.dtype[Any]], out: np.dtype[Any]) -> str | None:
    if name == "copy":
        return "{0}" if c_type(out) and reads[0].itemsize == out.itemsize else None
    if name == "where" and len(reads) == 3:
        alike = reads[0].kind == "b" and c_type(reads[1]) == c_type(reads[2]) == c_type(out)
        return "{0} ? {1} : {2}" if alike and c_type(out) else None
    if not all(map(computes, (*reads, out))) or any(d != reads[0] for d in reads):
        return None
    kind = reads[0].kind
    if name.startswith("to_"):
        return "{0} != 0" if out.kind == "b" else "{0}"
    if name in _TRUTH_OPERATORS:
        return _TRUTH_OPERATORS[name]
    if kind == "b":
        return _BOOL_OPERATORS.get(name)
    if name in _OPERATORS:
        return _OPERATORS[name]
    if kind in "iu":
        return _INTEGER_OPERATORS.get(name)
    if name in _REAL_OPERATORS:
        return _REAL_OPERATORS[name]
    function = f"nnm_{name}" if name in _FUNCTIONS else _BUILT_IN.get(name)
    if function is None:
        return None
    places = ", ".join(f"{{{k}}}" for k in range(len(reads)))
    return f"{function}({places})"


# ------------------------------------------------------------------------------------------------ reductions
_SUMS = ("sum", "sum_ones", "sum_others", "sum_wide_squares")


def folds(what: Reduction, reads: Sequence[Any]) -> bool:
    """Whether kernels make a reduction of operands of these dtypes."""
    names = (*_SUMS, "prod", "max", "min", "any", "all")
    return what.name in names and all(map(computes, reads))


def sum_type(what: Reduction, reads: Sequence[Any]) -> str:
    """The type in which entries are accumulated: double for sums of real numbers."""
    dtype = np.dtype(reads[0])
    if dtype.kind == "f" and what.name in _SUMS:
        return "double"
    return str(c_type(dtype))


def start_of(what: Reduction, reads: Sequence[Any]) -> str:
    """The accumulator of nothing."""
    if what.name in _SUMS:
        return "0"
    if what.name == "prod":
        return "1"
    dtype = np.dtype(reads[0])
    return literal(np.frombuffer(what.column.start, dtype)[0])


def folded(what: Reduction, acc: str, args: Sequence[str]) -> str:
    """The accumulator after an entry, or a pair of entries whose product is summed."""
    if what.name == "sum" and len(args) == 2:
        kind = "(double)" if what.row.finish else ""
        return f"{acc} + {kind}{args[0]} * {args[1]}"
    if what.name == "sum_ones":
        return f"{acc} + ({args[0]} == 1)"
    if what.name == "sum_others":
        return f"{acc} + ({args[0]} == 1 ? 0 : {args[0]})"
    if what.name == "sum_wide_squares":
        return f"{acc} + (double){args[0]} * {args[0]}"
    return combined(what, acc, args[0])


def combined(what: Reduction, a: str, b: str) -> str:
    """Two accumulators as one."""
    if what.name in _SUMS:
        return f"{a} + {b}"
    if what.name == "prod":
        return f"{a} * {b}"
    if what.name in ("any", "all"):
        return f"{a} {'||' if what.name == 'any' else '&&'} {b}"
    name = "nnm_maximum" if what.name == "max" else "nnm_minimum"
    sign = ">" if what.name == "max" else "<"
    integer = np.dtype(what.row.step.dtype or "d").kind in "iub"
    return f"({a} {sign} {b} ? {a} : {b})" if integer else f"{name}({a}, {b})"
