"""Oracles of elementwise primitives: functions of numbers."""

from __future__ import annotations

import math

from oracles.register import ORACLES, entrywise


def remainder(a, b):
    r = math.fmod(a, b)
    return r + b if r and (r < 0) != (b < 0) else r


NUMBERS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "divided_times": lambda a, b, c: a / b * c,
    "negative": lambda a: -a,
    "square": lambda a: a * a,
    "reciprocal": lambda a: 1 / a,
    "conj": lambda a: a,
    "absolute": lambda a: a if a >= 0 else -a,
    "sign": lambda a: (a > 0) - (a < 0),
    "floor": math.floor,
    "ceil": math.ceil,
    "trunc": math.trunc,
    "rint": round,  # half to even, as IEEE
    "floor_divide": lambda a, b: math.floor(a / b),
    "remainder": remainder,
    "power": math.pow,
    "sqrt": math.sqrt,
    "cbrt": lambda a: math.copysign(math.exp(math.log(abs(a)) / 3), a),
    "hypot": lambda a, b: math.sqrt(a * a + b * b),
    "exp": math.exp,
    "exp2": lambda a: math.pow(2, a),
    "expm1": math.expm1,
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "log1p": math.log1p,
    "logaddexp": lambda a, b: math.log(math.exp(a) + math.exp(b)),
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "arcsin": math.asin,
    "arccos": math.acos,
    "arctan": math.atan,
    "arctan2": math.atan2,
    "sinh": math.sinh,
    "cosh": math.cosh,
    "tanh": math.tanh,
    "arcsinh": math.asinh,
    "arccosh": math.acosh,
    "arctanh": math.atanh,
    "erf": math.erf,
    "expit": lambda a: 1 / (1 + math.exp(-a)),
    "relu": lambda a: a if a > 0 else 0,
    "maximum": lambda a, b: a if a > b else b,
    "minimum": lambda a, b: a if a < b else b,
    "clip": lambda a, low, high: high if a > high else low if a < low else a,
    "where": lambda c, a, b: a if c else b,
    "share": lambda g, mine, *others: g / (1 + others.count(True)) if mine else 0,
    "stop_gradient": lambda a: a,
}
TRUTHS = {
    "equal": lambda a, b: a == b,
    "not_equal": lambda a, b: a != b,
    "same": lambda a, b: a == b or (math.isnan(a) and math.isnan(b)),
    "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b,
    "greater": lambda a, b: a > b,
    "greater_equal": lambda a, b: a >= b,
    "logical_and": lambda a, b: bool(a) and bool(b),
    "logical_or": lambda a, b: bool(a) or bool(b),
    "logical_xor": lambda a, b: bool(a) != bool(b),
    "logical_not": lambda a: not a,
    "isnan": lambda a: a != a,
    "isinf": lambda a: abs(a) == math.inf,
    "isfinite": lambda a: abs(a) < math.inf,
    "signbit": lambda a: math.copysign(1, a) < 0,
}
ORACLES.update({name: entrywise(f) for name, f in NUMBERS.items()})
ORACLES.update({name: entrywise(f, bool) for name, f in TRUTHS.items()})
