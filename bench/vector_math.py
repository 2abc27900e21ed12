"""Loops of the elementwise machine over a block in the first cache, beside NumPy's and SciPy's ufuncs.

Thirty-two blocks of 2048 numbers a call, one after the other in the same place, as a plan runs them. A ufunc costs
half a microsecond a call, our loop as much through ctypes: 0.2 ns an element, the same on both sides.
``python bench/run.py vector_math`` prints the table; ``python bench/vector_math.py`` alone prints ns an element, as in
docs/vector-math.md.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import OURS, Calls, Group, Variant, given

TITLE = "mathematics of a block of 2048 numbers, ns an element"

N, CALLS = 2048, 32
UFUNCS = {
    "exp": "numpy", "expm1": "numpy", "log": "numpy", "log1p": "numpy", "sin": "numpy", "cos": "numpy", "tan": "numpy",
    "tanh": "numpy", "sinh": "numpy", "cosh": "numpy", "arctan": "numpy", "exp2": "numpy", "log2": "numpy",
    "log10": "numpy", "sqrt": "numpy", "power": "numpy", "hypot": "numpy", "add": "numpy", "maximum": "numpy",
    "less": "numpy", "expit": "scipy.special", "erf": "scipy.special", "erfc": "scipy.special",
    "gammaln": "scipy.special", "digamma": "scipy.special",
}  # fmt: skip
OWN = ("gelu", "gelu_slope", "gelu_tanh", "gelu_tanh_slope", "rsqrt")

LOOP = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)


def operands(name: str, dtype: type) -> list[np.ndarray]:
    """Return positive numbers: every function has a value there."""
    rng = np.random.default_rng(0)
    count = 2 if name in ("power", "hypot", "add", "maximum", "less") else 1
    return [rng.uniform(0.1, 4.0, N).astype(dtype) for _ in range(count)]


def ours(name: str, xs: list[np.ndarray], out: np.ndarray) -> Callable[[], np.ndarray]:
    """Return a call of our loop over all blocks."""
    from nnmath_core._ext import _vector

    loop = LOOP(_vector.loop_address(name, xs[0].dtype.num))
    arrays = [*xs, out]
    args = (ctypes.c_void_p * 4)(*[a.ctypes.data for a in arrays])
    strides = (ctypes.c_ssize_t * 4)(*[a.itemsize for a in arrays])
    dims = (ctypes.c_ssize_t * 1)(N)
    words = [ctypes.addressof(w) for w in (args, dims, strides)]

    def call() -> np.ndarray:
        for _ in range(CALLS):
            loop(*words, None)
        return out

    call.alive = (args, dims, strides, arrays)  # type: ignore[attr-defined]
    return call


def theirs(name: str, xs: list[np.ndarray], out: np.ndarray) -> Callable[[], np.ndarray]:
    """Return a call of the ufunc over all blocks."""
    import scipy.special

    ufunc = getattr(scipy.special if UFUNCS[name] != "numpy" else np, name)

    def call() -> np.ndarray:
        for _ in range(CALLS):
            ufunc(*xs, out=out)
        return out

    return call


def result(name: str, dtype: type) -> np.ndarray:
    """Return the array that receives the result."""
    return np.zeros(N, bool if name == "less" else dtype)


def groups(*, quick: bool) -> list[Group]:
    """Return one group a function and dtype; a quick run has two functions."""
    names = ("exp", "tanh") if quick else tuple(UFUNCS)
    return [compared(name, dtype) for name in names for dtype in (np.float32, np.float64)]


def compared(name: str, dtype: type) -> Group:
    """Compare our loop with the ufunc."""
    xs = operands(name, dtype)

    def our_calls(_: Any) -> Calls:
        return [ours(name, xs, result(name, dtype))]

    return Group(
        f"{name}, {np.dtype(dtype).name}",
        [
            Variant(f"{UFUNCS[name]}.{name}", theirs(name, xs, result(name, dtype))),
            *given(OURS, ["our loop"], our_calls),
        ],
        tolerance=16 * float(np.finfo(dtype).eps),  # each within a few ULP
    )


def best(call: Callable[[], Any]) -> float:
    """Return the least time of a call, in ns an element."""
    times = []
    for _ in range(9):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times) / (N * CALLS) * 1e9


if __name__ == "__main__":
    from nnmath_core._ext import _vector

    print(f"{_vector.isa()}: ns an element, ours and the ufunc's, float32 and float64")
    for name in (*UFUNCS, *OWN):
        row = []
        for dtype in (np.float32, np.float64):
            xs = operands(name, dtype)
            row.append(f"{best(ours(name, xs, result(name, dtype))):6.2f}")
            peer = name in UFUNCS
            row.append(f"{best(theirs(name, xs, result(name, dtype))):6.2f}" if peer else "     -")
        print(f"{name:16s}", *row)
